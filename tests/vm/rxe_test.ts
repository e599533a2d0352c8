// SPDX-License-Identifier: BSD-2-Clause
// Two guests with the kernel's soft RoCE on one switch: that the peers our own RoCE is tested against work
// among themselves, by the same helpers and on the same wire.

import assert from "node:assert/strict";
import { Network } from "../helpers/netns.ts";
import { needs } from "../helpers/needs.ts";
import { type Guest, step } from "./guest.ts";
import { debianKernel, testedSuites } from "./kernel.ts";
import { addressOf, type Family, Lan } from "./lan.ts";
import { bootRxe, perftest, perftestRows, pings } from "./rxe.ts";
import { rpingClient, type RpingOptions, rpingServer, rxeCounters } from "./rxe.ts";

const SEND_LAT = `
 #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    99% percentile[usec]
 2       100          599.75         4182.51      1215.57  \t       1389.52     \t783.15
 4       100          1.5            2.5          3.5  \t       4.5     \t5.5
`;

Deno.test("the table of a perftest program is read by its head", () => {
  assert.deepEqual(perftestRows(SEND_LAT).map((row) => [row["#bytes"], row["t_typical[usec]"]]), [
    [2, 1215.57],
    [4, 3.5],
  ]);
  assert.deepEqual(perftestRows("Couldn't connect"), []);
});

for (const suite of testedSuites()) {
  const title = `two guests with soft RoCE and the kernel of ${suite}`;
  needs(["root", "netns", "tun", "ip", "guest", "rdma", "clang", "tc"]).test(title, async (t) => {
    const kernel = debianKernel(suite);
    using net = new Network();
    const lan = new Lan(net);
    const boot = (label: string) => bootRxe({ label: `rxe-${label}-${suite}`, kernel, nics: [lan.nic()] });
    const [one, two] = await Promise.all([boot("one"), boot("two")]);
    await using _one = one;
    await using _two = two;
    await check(t, lan, one, two);
  });
}

async function check(t: Deno.TestContext, lan: Lan, one: Guest, two: Guest): Promise<void> {
  const rping = async (family: Family, rest: Omit<RpingOptions, "address"> & { count: number }) => {
    const options = { address: addressOf(two.nics[0]!, family), ...rest };
    const server = await rpingServer(two, options);
    const client = await rpingClient(one, options);
    assert.equal(client.status, 0, client.out + client.err);
    const served = await server.finished;
    assert.equal(served.status, 0, served.out + served.err);
    return { client, served };
  };

  await step(t, "ibv_devinfo finds the port active in both", async () => {
    for (const guest of [one, two]) {
      assert.match(await guest.sh("ibv_devinfo"), /hca_id:\s+rxe0[^]*state:\s+PORT_ACTIVE[^]*Ethernet/);
    }
  });

  for (const family of ["v4", "v6"] as const) {
    await step(t, `rping from one to the other by IP${family}`, async () => {
      const { client, served } = await rping(family, { count: 20, verbose: true });
      const all = Array.from({ length: 20 }, (_, i) => i);
      assert.deepEqual(pings(client.out), all);
      assert.deepEqual(pings(served.out), all);
    });
  }

  await step(t, "rping of the largest size it has", async () => {
    await rping("v4", { count: 10, size: 65535 });
  });

  await step(t, "rping with packets lost", async () => {
    using loss = lan.lossy(0.01);
    // Its recovery takes about a second for each, with a Debian 6.1 kernel.
    for (let run = 0; loss.lost() < 3 && run < 20; run++) {
      await rping("v6", { count: 10, size: 8192, seconds: 240 });
    }
    assert.ok(loss.lost() >= 3, `${loss.lost()} packets lost`);
  });

  await step(t, "a client whom nobody listens for is told so", async () => {
    const address = addressOf(two.nics[0]!, "v4");
    const { status, out, err } = await rpingClient(one, { address, port: 9999, count: 1 });
    assert.notEqual(status, 0);
    assert.match(out + err, /RDMA_CM_EVENT_REJECTED/);
  });

  for (
    const [tool, column] of [
      ["ib_send_bw", "BW average[MB/sec]"],
      ["ib_read_bw", "BW average[MB/sec]"],
      ["ib_write_bw", "BW average[MB/sec]"],
      ["ib_send_lat", "t_typical[usec]"],
      ["ib_read_lat", "t_typical[usec]"],
      ["ib_write_lat", "t_typical[usec]"],
      ["ib_atomic_lat", "t_typical[usec]"],
    ] as const
  ) {
    await step(t, `${tool} from one to the other by the connection manager`, async () => {
      const size = tool === "ib_atomic_lat" ? 8 : 4096;
      const args = ["-R", "-F", "-n", "100", ...(size === 8 ? [] : ["-s", `${size}`])];
      const before = await rxeCounters(one);
      const to = { guest: two, address: addressOf(two.nics[0]!, "v4") };
      const { client, server } = await perftest(tool, one, to, args);
      assert.equal(client.status, 0, client.out + client.err);
      assert.equal(server.status, 0, server.out + server.err);
      assert.deepEqual(client.rows.map((row) => [row["#bytes"], row["#iterations"]]), [[size, 100]]);
      assert.ok(client.rows[0]![column]! > 0, client.out);
      const after = await rxeCounters(one);
      assert.ok(after.sent_pkts! - before.sent_pkts! >= 100, "it went by rxe");
    });
  }
}
