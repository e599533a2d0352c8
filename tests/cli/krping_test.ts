// SPDX-License-Identifier: BSD-2-Clause
// What the krping commands make of their arguments and of a run's figures, without a run.

import assert from "node:assert/strict";
import type { KrpingService, Run } from "../../cli/commands/krping/run.ts";
import { run as runProgram } from "../../cli/program.ts";
import { RackwireError } from "../../lib/ffi/errors.ts";
import type { HostFacts } from "../../lib/host/facts.ts";
import type {
  KrpingClientOptions,
  KrpingConnection,
  KrpingCounters,
  KrpingResult,
  KrpingServerOptions,
} from "../../lib/krping/work.ts";
import { Histogram } from "../../lib/measure/histogram.ts";
import { fakeContext, runInside } from "../helpers/cli.ts";
import { machine as dcpimMachine } from "./dcpim_fake.ts";

const TARGET = "127.0.0.1:9999";

function machine(changes: Partial<HostFacts> = {}): HostFacts {
  return dcpimMachine({
    libraries: [{ name: "krping", path: "/x/librackwire_krping.so", present: true }],
    ...changes,
  });
}

const COUNTERS = {
  opened: 1,
  completed: 1000,
  measured_bytes: 128_000,
  measured_ns: 50e6,
  cpu_ns: 40e6,
  verified_bytes: 64_000,
} as Partial<KrpingCounters>;

interface FakeRun {
  counters?: Partial<KrpingCounters>;
  corrupt?: boolean;
  error?: Error;
  endless?: boolean;
  connections?: KrpingConnection[];
  lines?: string[];
}

function fakeService(run: FakeRun = {}) {
  const started: { what: string; options: Record<string, unknown> }[] = [];
  const count = { closed: 0, stops: 0 };
  const start =
    (what: "server" | "client") => (given: KrpingServerOptions | KrpingClientOptions): Promise<Run> => {
      started.push({ what, options: given as unknown as Record<string, unknown> });
      if (run.error !== undefined) return Promise.reject(run.error);
      const latency = new Histogram();
      for (let i = 0; i < 1000; i++) latency.record(20_000 + 30 * i);
      const counters = new Proxy({ ...COUNTERS, ...run.counters } as Record<string, number>, {
        get: (values, name) => name === "toJSON" ? undefined : values[name as string] ?? 0,
      }) as unknown as KrpingCounters;
      const ended = Promise.withResolvers<KrpingResult>();
      const snapshot = () => ({ at_ms: performance.now(), counters, latency });
      const finish = (stopped: boolean) =>
        ended.resolve({ ...snapshot(), corrupt: run.corrupt ?? false, stopped });
      if (!run.endless) queueMicrotask(() => finish(false));
      const lines = [...run.lines ?? []];
      return Promise.resolve({
        kind: what === "server" ? "server" : (given as KrpingClientOptions).test ?? "ping",
        engine: "soft",
        port: 9999,
        device: "soft",
        mtu: 4096,
        done: ended.promise,
        stop() {
          count.stops++;
          finish(true);
        },
        snapshot,
        connections: () => run.connections ?? [],
        lines: () => ({ lines: lines.splice(0), lost: 0 }),
        close: () => void count.closed++,
      });
    };
  const service: KrpingService = { startKrpingServer: start("server"), startKrping: start("client") };
  return { service, started, count };
}

async function krping(args: string[], run: FakeRun = {}, facts = machine) {
  const fake = fakeService(run);
  const finished = await runInside(["krping", ...args], { facts, krping: fake.service });
  return { ...finished, ...fake };
}

Deno.test("client: what is not given has its default", async () => {
  const { status, err, started, count } = await krping(["client", TARGET]);
  assert.deepEqual([status, err], [0, ""]);
  const given = Object.entries(started[0]!.options).filter(([, value]) => value !== undefined);
  assert.deepEqual(Object.fromEntries(given), {
    engine: "soft",
    offload: true,
    test: "ping",
    peer: { address: "127.0.0.1", family: 4 },
    port: 9999,
    warmupCount: 100,
    durationNs: 3e9,
  });
  assert.equal(count.closed, 1);
});

Deno.test("client: every option arrives where it belongs", async () => {
  const args = [
    ...["client", TARGET, "--count", "7", "--size", "4KiB", "--duration", "2s", "--warmup", "3"],
    ...["--parallel", "2", "--tos", "8", "--timeout", "1s", "--retries", "5", "--verbose"],
    ...["--server-inv", "--read-inv", "--local-dma-lkey", "--mem-mode", "reg", "--bw", "--op", "read"],
    ...[
      "--duplex",
      "--txdepth",
      "9",
      "--engine",
      "soft",
      "--mtu",
      "1024",
      "--poll",
      "--ecn",
      "--no-offload",
      "--pin",
      "1",
    ],
  ];
  const { status, started } = await krping(args);
  assert.equal(status, 0);
  const given = Object.entries(started[0]!.options).filter(([, value]) => value !== undefined);
  assert.deepEqual(Object.fromEntries(given), {
    engine: "soft",
    mtu: 1024,
    poll: true,
    ecn: true,
    offload: false,
    verbose: true,
    serverInv: true,
    readInv: true,
    localDmaLkey: true,
    memMode: "reg",
    cpu: 1,
    test: "bw",
    peer: { address: "127.0.0.1", family: 4 },
    port: 9999,
    size: 4096,
    op: "read",
    count: 7,
    warmupCount: 3,
    durationNs: 2e9,
    timeoutNs: 1e9,
    txdepth: 9,
    duplex: true,
    connections: 2,
    tos: 8,
    retries: 5,
  });
});

Deno.test("client: the result for people and for programs", async (t) => {
  const { out } = await krping(["client", TARGET, "--validate", "--count", "1000"]);
  await t.assertSnapshot(out);
  const quiet = await krping(["client", TARGET, "--quiet"]);
  assert.equal(quiet.out.trimEnd().split("\n").length, 2);
  const json = JSON.parse((await krping(["client", TARGET, "--wlat", "--json"])).out);
  assert.equal(json.schema, "rackwire.krping.client/1");
  assert.equal(json.latency_of, "half a round trip");
  assert.deepEqual([json.engine, json.test, json.size_bytes], ["soft", "wlat", 64]);
  assert.equal(json.completed, 1000);
  assert.equal(json.per_s, 20_000);
  assert.ok(Math.abs(json.goodput_gbps - 0.02048) < 1e-9);
  assert.ok(json.latency_us.p50 > 30 && json.latency_us.p50 < 40);
  assert.equal(json.machine.hostname, "node7");
});

Deno.test("client: verbose prints what each ping brought", async () => {
  const { out } = await krping(["client", TARGET, "--verbose", "--count", "1"], {
    lines: ["ping data: rdma-ping-0: ABC"],
  });
  assert.match(out, /^ping data: rdma-ping-0: ABC$/m);
});

Deno.test("client: wrong bytes fail after the figures; errors carry a hint", async () => {
  const wrong = await krping(["client", TARGET], { corrupt: true, counters: { corrupt_bytes: 3 } });
  assert.equal(wrong.status, 1);
  assert.match(wrong.out, /3 B WRONG/);
  assert.match(wrong.err, /bytes came back that were not sent/);
  const refused = await krping(["client", TARGET], { error: new RackwireError("ECONNREFUSED", "no") });
  assert.equal(refused.status, 1);
  assert.match(refused.err, /hint: start one there: rackwire krping server --port 9999/);
});

Deno.test("client: Ctrl-C prints what there is and ends with 130", async () => {
  const fake = fakeService({ endless: true });
  const { context, written, interrupt, listening } = fakeContext({ facts: machine, krping: fake.service });
  const pinging = runProgram(["krping", "client", TARGET], context);
  while (!written.out.includes("ping to 127.0.0.1")) await new Promise((resolve) => setTimeout(resolve, 1));
  interrupt();
  assert.equal(await pinging, 130);
  assert.match(written.out, /a ping +1 000/);
  assert.deepEqual([fake.count.stops, fake.count.closed, listening()], [1, 1, 0]);
});

Deno.test("server: defaults, options, lines and the summary", async (t) => {
  const plain = await krping(["server"]);
  assert.equal(plain.status, 0);
  assert.equal(plain.started[0]!.options.port, 9999);
  assert.equal(plain.started[0]!.options.address, undefined);
  const { out, started } = await krping(
    ["server", "--addr", "127.0.0.1", "--port", "0", "--size", "1MiB", "--memory", "1GiB", "--once"],
    {
      counters: { opened: 2, failed: 1, recv_msgs: 4, recv_bytes: 64, rtx_packets: 5 },
      connections: [{
        id: 1,
        test: "ping",
        state: "open",
        classic: true,
        peer: "10.0.0.9:40000",
        age_s: 1,
        counters: {
          send_bytes: 16,
          send_msgs: 1,
          recv_bytes: 16,
          recv_msgs: 1,
          write_bytes: 0,
          write_msgs: 0,
          read_bytes: 0,
          read_msgs: 0,
        },
        pings: 12,
        verified_bytes: 0,
        corrupt_bytes: 0,
        size: 64,
        qp_num: 17,
      }],
    },
  );
  assert.deepEqual(
    [
      started[0]!.options.port,
      started[0]!.options.maxSize,
      started[0]!.options.memory,
      started[0]!.options.once,
    ],
    [0, 2 ** 20, 2 ** 30, true],
  );
  assert.match(out, /10\.0\.0\.9:40000 +ping \(rping or krping\) +12 pings/);
  await t.assertSnapshot(out.replaceAll(/\d+\.\d+ s/g, "# s").replaceAll(/pings +\S+ \S*bit\/s/g, "pings"));
  const documents = (await krping(["server", "--json"])).out.trimEnd().split("\n").map((line) =>
    JSON.parse(line)
  );
  assert.equal(documents[0].schema, "rackwire.krping.server.listening/1");
  assert.equal(documents.at(-1).schema, "rackwire.krping.server/1");
});

Deno.test("auto takes verbs where there is an RDMA device; what is missing ends with 3", async () => {
  const rdma = await krping(["client", TARGET], {}, () => machine({ rdma: { devices: ["rxe0"] } }));
  assert.equal(rdma.started[0]!.options.engine, "verbs");
  const broken = await krping(
    ["client", TARGET, "--engine", "verbs"],
    {},
    () => machine({ rdma: { devices: ["rxe0"], why: "librdmacm.so.1 is not installed" } }),
  );
  assert.equal(broken.status, 3);
  assert.match(broken.err, /librdmacm\.so\.1 is not installed\nhint: sudo apt-get install librdmacm1/);
  const none = await krping(["client", TARGET, "--engine", "verbs"]);
  assert.equal(none.status, 3);
  assert.match(none.err, /no RDMA device\nhint: .*rdma_rxe/);
});

Deno.test("bad input: one line that says what is wrong, and status 2", async () => {
  for (
    const [args, message] of [
      [["client"], /missing required argument/],
      [["client", "127.0.0.1"], /HOST:PORT/],
      [["client", TARGET, "--size", "0"], /1 B to 1 GiB/],
      [["client", TARGET, "--size", "1.5"], /size such as/],
      [["client", TARGET, "--mtu", "1500"], /256, 512, 1024, 2048, 4096/],
      [["client", TARGET, "--wlat", "--bw"], /cannot be used with/],
      [["client", TARGET, "--txdepth", "0", "--bw"], /from 1 to 8192/],
      [["client", TARGET, "--txdepth", "4"], /--bw alone/],
      [["client", TARGET, "--op", "read"], /--bw and --alat/],
      [["client", TARGET, "--bw", "--validate"], /--validate is for pings/],
      [["client", TARGET, "--tos", "256"], /0 to 255/],
      [["client", TARGET, "--mem-mode", "mw"], /Allowed choices are dma, reg/],
      [["server", "--port", "65536"], /0 to 65535/],
      [["client,addr=1.2.3.4,port=9,bogus"], /column 28/],
      [["block", "export"], /nothing to export/],
      [["block", "export", "--size", "0"], /size/],
      [["block", "serve", "127.0.0.1:9998"], /somewhere to connect/],
    ] as const
  ) {
    const { status, err, out } = await krping([...args]);
    assert.equal(status, 2, `${args.join(" ")}: ${err}`);
    assert.match(err, message);
    assert.match(err, /^rackwire: /);
    assert.equal(out, "");
  }
});
