// SPDX-License-Identifier: BSD-2-Clause
// krping's engines against the kernel's soft RoCE: our verbs engine in a guest and our soft engine on this
// machine, each as client and as server, with each other and with rping.

import assert from "node:assert/strict";
import { type Finished, Network } from "../helpers/netns.ts";
import { needs } from "../helpers/needs.ts";
import { type Guest, step } from "./guest.ts";
import { debianKernel, testedSuites } from "./kernel.ts";
import { addressOf, Lan } from "./lan.ts";
import { bootRxe, pings, rpingClient, rpingServer } from "./rxe.ts";

const TRY = decodeURIComponent(new URL("../../build/tests/fixtures/krping_try", import.meta.url).pathname);
const PORT = 9999;

const VALIDATE = 0x1, SERVER_INV = 0x4, READ_INV = 0x8, LOCAL_DMA_LKEY = 0x10, REG = 0x20;
const POLL = 0x40, DUPLEX = 0x80, CLASSIC = 0x100;
const WRITE = 0, READ = 1, SEND = 2, FADD = 3, CSWAP = 4;

type Options = Record<string, string | number>;
type Figures = { result: number; error: string } & Record<string, number>;

/** Where krping_try runs: this machine's namespace with the soft engine, or a guest with verbs. */
interface Side {
  engine: "soft" | "verbs";
  address: string;
  run(args: string[]): Promise<Finished>;
  serve(args: string[]): Promise<{ stop(): Promise<Finished> }>;
}

const words = (options: Options) => Object.entries(options).map(([name, value]) => `${name}=${value}`);

function figures({ out, err }: Finished): Figures {
  const line = out.trim().split("\n").at(-1) ?? "";
  assert.match(line, /^{/, out + err);
  return JSON.parse(line);
}

function guestSide(guest: Guest): Side {
  return {
    engine: "verbs",
    address: addressOf(guest.nics[0]!, "v4"),
    run: (args) => guest.run([TRY, "verbs", ...args]),
    async serve(args) {
      const program = await guest.start([TRY, "verbs", "server", ...args], { seconds: 600 });
      await program.until(/ready/);
      return { stop: () => program.stop("SIGINT") };
    },
  };
}

function hostSide(lan: Lan): Side {
  return {
    engine: "soft",
    address: lan.address("v4"),
    run: (args) => lan.host.start([TRY, "soft", ...args], { seconds: 120 }).finished,
    async serve(args) {
      const program = lan.host.start([TRY, "soft", "server", ...args], { seconds: 600 });
      await program.until(/ready/);
      return { stop: () => program.stop("SIGINT") };
    },
  };
}

/** One client against a server that is there; both must end well. */
async function client(from: Side, to: Side, kind: string, options: Options, good = true): Promise<Figures> {
  // The kernel repeats a lost request after more than four seconds.
  const all = { address: to.address, port: PORT, ack_timeout: 19, timeout_ms: 30_000, ...options };
  const got = figures(await from.run([kind, ...words(all)]));
  if (good) assert.equal(got.result, 0, `${kind} ${JSON.stringify(options)}: ${got.error}`);
  return got;
}

async function pair(t: Deno.TestContext, from: Side, to: Side, suite: string): Promise<void> {
  const title = `${from.engine} client, ${to.engine} server, kernel of ${suite}`;
  const server = await to.serve(words({ address: to.address, port: PORT, ack_timeout: 19 }));

  await step(t, `pings of every size: ${title}`, async () => {
    for (const length of [1, 64, 100, 1024, 4096, 16384, 65536, 1048576]) {
      const got = await client(from, to, "ping", { length, count: 10, flags: VALIDATE });
      assert.deepEqual([got.completed, got.verified_bytes], [10, 10 * length]);
    }
  });

  await step(t, `pings with options: ${title}`, async () => {
    for (const flags of [CLASSIC, POLL, REG, SERVER_INV, SERVER_INV | REG]) {
      const got = await client(from, to, "ping", { length: 5000, count: 20, flags: flags | VALIDATE });
      assert.deepEqual([got.completed, got.verified_bytes], [20, 100_000], `flags ${flags}`);
    }
    for (const flags of [READ_INV, LOCAL_DMA_LKEY]) {
      const got = await client(from, to, "ping", { length: 5000, count: 20, flags }, to.engine === "soft");
      if (to.engine === "verbs") assert.match(got.error, /cannot do (read_inv|local_dma_lkey)/);
    }
  });

  await step(t, `latencies: ${title}`, async () => {
    for (const kind of ["wlat", "rlat", "slat"]) {
      for (const [length, flags] of [[1, 0], [64, POLL], [4096, 0], [65536, POLL]] as const) {
        const got = await client(from, to, kind, { length, flags, count: 50 });
        assert.equal(got.completed, 50);
      }
    }
    for (const op of [FADD, CSWAP]) {
      const got = await client(from, to, "alat", { op, count: 50, flags: VALIDATE });
      assert.deepEqual([got.completed, got.verified_bytes], [50, 400]);
    }
  });

  await step(t, `bandwidth: ${title}`, async () => {
    for (const op of [WRITE, READ, SEND, FADD]) {
      for (const flags of [0, DUPLEX]) {
        const length = op === FADD ? 8 : 65536;
        const got = await client(from, to, "bw", { op, flags, length, count: 100, txdepth: 16 });
        assert.equal(got.completed, 100);
        if (flags === DUPLEX && length > 8) assert.ok(got.peer_bytes! > 0);
      }
    }
  });

  await step(t, `sixteen connections at once: ${title}`, async () => {
    const got = await client(from, to, "ping", { length: 3000, count: 5, connections: 16, flags: VALIDATE });
    assert.deepEqual([got.completed, got.verified_bytes], [80, 240_000]);
  });

  await step(t, `the server has taken leave of all: ${title}`, async () => {
    const { status, out, err } = await server.stop();
    assert.equal(status, 0, out + err);
    const got = figures({ status, out, err } as Finished);
    assert.equal(got.open, 0);
    assert.ok(got.opened! > 40);
    // A kernel says goodbye once and goes; where that gets lost, the connection counts as broken.
    assert.ok(got.failed! <= got.opened! / 10, `${got.failed} of ${got.opened} failed`);
  });

  await step(t, `nobody listens any more: ${title}`, async () => {
    const got = await client(from, to, "ping", { count: 1, timeout_ms: 3000 }, false);
    // With the soft server all of RoCE has gone, which a kernel learns from nobody.
    const [error, words] = from.engine === "verbs" && to.engine === "soft"
      ? [-110, /did not answer within 3/]
      : [-111, /nothing listens at/];
    assert.equal(got.result, error, got.error);
    assert.match(got.error, words);
  });
}

/** Ours against rping, whose ends must be told the size. */
async function withRping(t: Deno.TestContext, ours: Side, theirs: Guest, suite: string): Promise<void> {
  const sizes = [64, 100, 1024, 4096, 65535];
  const address = addressOf(theirs.nics[0]!, "v4");

  await step(t, `${ours.engine} client, rping server, kernel of ${suite}`, async () => {
    for (const size of sizes) {
      const server = await rpingServer(theirs, { address, size, count: 10, verbose: true });
      const options = { address, port: 7174, length: size, count: 10, flags: VALIDATE, ack_timeout: 19 };
      const got = figures(await ours.run(["ping", ...words(options)]));
      assert.equal(got.result, 0, got.error);
      assert.deepEqual([got.completed, got.verified_bytes], [10, 10 * size]);
      const { out } = await server.finished;
      assert.equal(pings(out).length, 10, out);
    }
  });

  await step(t, `rping client, ${ours.engine} server, kernel of ${suite}`, async () => {
    const server = await ours.serve(words({ address: ours.address, port: 7174, ack_timeout: 19 }));
    for (const size of sizes) {
      const got = await rpingClient(theirs, { address: ours.address, size, count: 10, verbose: true });
      assert.equal(got.status, 0, got.out + got.err);
      assert.deepEqual(pings(got.out), Array.from({ length: 10 }, (_, i) => i));
    }
    const served = figures(await server.stop());
    assert.deepEqual([served.result, served.opened, served.failed], [0, sizes.length, 0]);
  });
}

for (const suite of testedSuites()) {
  const title = `krping with the soft RoCE of the kernel of ${suite}`;
  needs(["root", "netns", "tun", "ip", "guest", "rdma", "clang", "tc"]).test(title, async (t) => {
    using net = new Network();
    const lan = new Lan(net);
    await using guest = await bootRxe({
      label: `krping-${suite}`,
      kernel: debianKernel(suite),
      nics: [lan.nic()],
      memoryMiB: 1024,
    });
    const host = hostSide(lan), verbs = guestSide(guest);
    await pair(t, verbs, verbs, suite);
    await pair(t, host, verbs, suite);
    await pair(t, verbs, host, suite);
    await withRping(t, verbs, guest, suite);
    await withRping(t, host, guest, suite);
  });
}
