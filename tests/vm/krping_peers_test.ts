// SPDX-License-Identifier: BSD-2-Clause
// Our krping in a namespace of this machine, by RoCEv2 in user space, against rping on the kernel's soft
// RoCE in a guest: both roles, IPv4 and IPv6, with and without loss, several at once, and peers that die.

import assert from "node:assert/strict";
import { RACKWIRE, sanitizedEnvironment } from "../helpers/cli.ts";
import { needs } from "../helpers/needs.ts";
import { Network, type Program } from "../helpers/netns.ts";
import { type Guest, step } from "./guest.ts";
import { debianKernel, testedSuites } from "./kernel.ts";
import { addressOf, type Family, Lan } from "./lan.ts";
import { bootRxe, pings, rpingClient, rpingServer } from "./rxe.ts";

const FAMILIES: Family[] = ["v4", "v6"];
const PORT = 9999;
const LONG = Deno.env.get("RACKWIRE_TEST_LONG") === "1";
/** rping takes 23 to 65535. Around the size of a packet, and no multiple of anything. */
const SIZES = LONG ? [23, 64, 255, 1000, 1024, 1025, 4096, 16384, 40001, 65535] : [64, 1025, 65535];
const COUNT = LONG ? 100 : 10;
const SECONDS = 240;

/** What `rackwire krping client --json` prints of itself. */
interface Result {
  completed: number;
  verified_bytes: number;
  corrupt_bytes: number;
}

/** What `rackwire krping server --json` prints at its end. */
interface Served {
  counters: Record<string, number>;
}

class Ours {
  readonly #started: Program[] = [];

  constructor(readonly lan: Lan, readonly env: Record<string, string> = {}) {}

  start(...args: string[]): Program {
    // Not in the environment of `ip`, which need not be sanitized.
    const env = Object.entries(this.env).map(([name, value]) => `${name}=${value}`);
    const command = ["env", ...env, RACKWIRE, "krping", ...args, "--engine", "soft"];
    const program = this.lan.host.start(command, { seconds: SECONDS });
    this.#started.push(program);
    return program;
  }

  /** Ends what a failed step has left. */
  async clear(): Promise<void> {
    for (const program of this.#started.splice(0)) if (!program.ended) await program.stop("SIGKILL");
  }

  /** A ping to an rping that must succeed, every byte compared. */
  async ping(address: string, size: number, count: number, port = PORT): Promise<Result> {
    const target = address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
    const numbers = ["--count", `${count}`, "--size", `${size}`];
    const client = this.start("client", target, "--classic", "--validate", "--json", ...numbers);
    const { status, out, err } = await client.finished;
    assert.equal(status, 0, out + err);
    const result: Result = JSON.parse(out);
    assert.equal(result.corrupt_bytes, 0);
    assert.equal(result.verified_bytes, result.completed * size);
    return result;
  }

  async serve(family: Family): Promise<Program> {
    const server = this.start("server", "--addr", this.lan.address(family), "--port", `${PORT}`, "--json");
    await server.until(/rackwire\.krping\.server\.listening/);
    return server;
  }
}

/** Ends a server of ours as Ctrl-C does. */
async function served(server: Program): Promise<Served> {
  const { status, out, err } = await server.stop("SIGINT");
  assert.equal(status, 130, err);
  return JSON.parse(out.trimEnd().split("\n").at(-1)!);
}

for (const suite of testedSuites()) {
  for (const mtu of LONG ? [1500, 9000] : [1500]) {
    const title = `our krping and rping in a guest with the kernel of ${suite}, MTU ${mtu}`;
    needs(["root", "netns", "tun", "ip", "guest", "rdma", "clang", "tc"]).test(title, async (t) => {
      using net = new Network();
      const lan = new Lan(net, { mtu });
      const label = `krping-${suite}-${mtu}`;
      await using guest = await bootRxe({ label, kernel: debianKernel(suite), nics: [lan.nic()] });
      await check(t, lan, guest);
    });
  }
}

async function check(t: Deno.TestContext, lan: Lan, guest: Guest): Promise<void> {
  // A sanitized server, and clients of the library as it is shipped.
  const ours = new Ours(lan);
  const sanitized = new Ours(lan, sanitizedEnvironment());
  const theirs = (family: Family) => addressOf(guest.nics[0]!, family);
  /** A step that leaves nothing running for the next. */
  const tidy = async (name: string, fn: () => Promise<void>) => {
    await step(t, name, fn);
    await Promise.all([ours.clear(), sanitized.clear(), guest.clear()]);
  };

  /** One run of our client against an rping that expects just that. */
  const pingThem = async (family: Family, size: number, count: number, verbose = false) => {
    const expected = { address: theirs(family), port: PORT, size, count, verbose, seconds: SECONDS };
    const server = await rpingServer(guest, expected);
    const result = await ours.ping(theirs(family), size, count);
    assert.equal(result.completed, count);
    const { status, out, err } = await server.finished;
    assert.equal(status, 0, out + err);
    return out;
  };
  const pingUs = (family: Family, size: number, count: number, verbose = false) =>
    rpingClient(guest, { address: lan.address(family), port: PORT, size, count, verbose, seconds: SECONDS });

  for (const family of FAMILIES) {
    await tidy(`our client pings rping -s by IP${family}`, async () => {
      for (const size of SIZES) await pingThem(family, size, COUNT);
    });

    await tidy(`rping -c pings our server by IP${family}`, async () => {
      const server = await sanitized.serve(family);
      for (const size of SIZES) {
        const { status, out, err } = await pingUs(family, size, COUNT);
        assert.equal(status, 0, `size ${size}: ${out}${err}`);
      }
      const { counters } = await served(server);
      const bytes = SIZES.reduce((sum, size) => sum + size * COUNT, 0);
      assert.equal(counters.opened, SIZES.length);
      assert.equal(counters.open, 0);
      assert.equal(counters.failed, 0);
      assert.equal(counters.read_bytes, bytes);
      assert.equal(counters.write_bytes, bytes);
    });
  }

  await tidy("rping prints the data it expects, as server and as client", async () => {
    const all = Array.from({ length: COUNT }, (_, i) => i);
    assert.deepEqual(pings(await pingThem("v4", 64, COUNT, true)), all);
    const server = await sanitized.serve("v4");
    const { status, out, err } = await pingUs("v4", 64, COUNT, true);
    assert.equal(status, 0, err);
    assert.deepEqual(pings(out), all);
    assert.match(out, /rdma-ping-0: ABCDEFGHIJKLMNOPQRSTUVWXYZ\[\\\]\^_`abcdefghijklmnopqr$/m);
    await served(server);
  });

  for (const family of FAMILIES) {
    await tidy(`packets are lost both ways by IP${family}, and every ping succeeds`, async () => {
      using loss = lan.lossy(0.01);
      const server = await sanitized.serve(family);
      const wanted = LONG ? 100 : 10;
      let runs = 0, bytes = 0;
      for (; loss.lost() < wanted && runs < 50; runs++) {
        const size = SIZES[runs % SIZES.length]!;
        await pingThem(family, size, 10);
        const { status, out, err } = await pingUs(family, size, 10);
        assert.equal(status, 0, `size ${size}: ${out}${err}`);
        bytes += size * 10;
      }
      assert.ok(loss.lost() >= wanted, `${loss.lost()} packets lost`);
      const { counters } = await served(server);
      // Some may count as failed: an rping that leaves does not repeat a farewell that was lost.
      assert.deepEqual([counters.opened, counters.read_bytes, counters.write_bytes], [runs, bytes, bytes]);
    });
  }

  await tidy("several of them at once, of one server", async () => {
    const server = await sanitized.serve("v6");
    const finished = await Promise.all([64, 1000, 20000].map((size) => pingUs("v6", size, 30)));
    assert.deepEqual(finished.map(({ status }) => status), [0, 0, 0]);
    assert.equal((await served(server)).counters.opened, 3);
  });

  await tidy("several processes of ours at once, which share the address and its UDP port", async () => {
    const ports = [PORT + 1, PORT + 2, PORT + 3];
    const servers = await Promise.all(
      ports.map((port) =>
        rpingServer(guest, { address: theirs("v4"), port, size: 1000, count: 30, seconds: SECONDS })
      ),
    );
    const results = await Promise.all(ports.map((port) => ours.ping(theirs("v4"), 1000, 30, port)));
    assert.deepEqual(results.map(({ completed }) => completed), [30, 30, 30]);
    for (const server of servers) assert.equal((await server.finished).status, 0);
  });

  await tidy("one rping serves our clients one after another", async () => {
    const many = { address: theirs("v4"), port: PORT, size: 1000, persistent: true, seconds: SECONDS };
    const server = await rpingServer(guest, many);
    for (let i = 0; i < 3; i++) assert.equal((await ours.ping(theirs("v4"), 1000, 20)).completed, 20);
    await server.stop("SIGKILL");
  });

  await tidy("an rping that is killed is a client gone, and others are served on", async () => {
    const server = await sanitized.serve("v4");
    const command = ["rping", "-c", "-V", "-a", lan.address("v4"), "-p", `${PORT}`, "-C", "1000000"];
    const client = await guest.start(command, { seconds: SECONDS });
    await server.until(/"state":"open"/);
    await client.stop("SIGKILL");
    assert.equal((await pingUs("v4", 1000, COUNT)).status, 0);
    const { counters } = await served(server);
    assert.deepEqual([counters.opened, counters.open], [2, 0]);
  });

  await tidy("our client says so when nobody listens, and when its server is killed", async () => {
    const nobody = await ours.start("client", `${theirs("v4")}:${PORT}`, "--classic").finished;
    assert.equal(nobody.status, 1);
    assert.match(nobody.err, /^rackwire: .*nothing listens/);

    const killed = await rpingServer(guest, { address: theirs("v4"), port: PORT, seconds: SECONDS });
    const args = ["--classic", "--count", "100000000", "--verbose"];
    const client = ours.start("client", `${theirs("v4")}:${PORT}`, ...args);
    await client.until(/rdma-ping-/);
    await killed.stop("SIGKILL");
    const { status, err } = await client.finished;
    assert.equal(status, 1);
    assert.match(err, /^rackwire: .*closed the connection/m);
    assert.doesNotMatch(err, /^\s+at /m);
  });

  await tidy("nothing of all that is left in the guest", async () => {
    // The queue pair of the connection manager itself stays.
    assert.match(await guest.sh("rdma", "resource", "show"), /rxe0: pd 1 cq 1 qp 1 cm_id 0 mr 0/);
  });
}
