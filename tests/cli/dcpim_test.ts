// SPDX-License-Identifier: BSD-2-Clause
// What the dcPIM commands make of their arguments and of a run's figures, without a run.

import assert from "node:assert/strict";
import { fromPrototypeOrder } from "../../cli/commands/dcpim/index.ts";
import { run as runProgram } from "../../cli/program.ts";
import type { WorkConnection } from "../../lib/dcpim/workload.ts";
import { RackwireError } from "../../lib/ffi/errors.ts";
import { fakeContext, type Finished, runInside } from "../helpers/cli.ts";
import { type Fake, type FakeRun, fakeService, machine, unprivileged } from "./dcpim_fake.ts";

const TARGET = "127.0.0.1:4000";

interface Told extends Finished {
  fake: Fake;
}

async function dcpim(
  args: string[],
  run: FakeRun = { figures: { dcpim: {} } },
  world: { columns?: number; terminal?: boolean; facts?: typeof machine } = {},
): Promise<Told> {
  const fake = fakeService(run);
  const { facts = machine, ...terminal } = world;
  const finished = await runInside(["dcpim", ...args], { ...terminal, facts, dcpim: fake.service });
  return { ...finished, fake };
}

const PINGS: FakeRun = {
  figures: {
    dcpim: {
      counters: { completed: 1000, lost: 10, rtx_bytes: 640, measured_ns: 1e9 },
      latencies: Array.from({ length: 1000 }, (_, i) => 10_000 + 25 * i * (i > 990 ? 40 : 1)),
    },
  },
  stats: { tx_packets: 1012, rx_packets: 1011, rtx_packets: 10, unsched_bytes: 64_000 },
};

Deno.test("ping: what is not given has its default", async () => {
  const { status, err, fake } = await dcpim(["ping", TARGET], PINGS);
  assert.deepEqual([status, err], [0, ""]);
  assert.equal(fake.started[0]!.what, "ping");
  const { engine, peer, ...rest } = fake.started[0]!.options;
  assert.deepEqual(peer, { address: "127.0.0.1", family: 4 });
  assert.equal((engine as { engine: string }).engine, "udp");
  assert.deepEqual(rest, {
    port: 4000,
    sourcePort: undefined,
    transports: ["dcpim"],
    length: 64,
    count: undefined,
    short: false,
    durationNs: 3e9,
    warmupNs: 100e6,
    intervalNs: 0,
    iodepth: 1,
  });
  assert.equal(fake.closed, 1);
});

Deno.test("ping: every option arrives where it belongs", async () => {
  const { status, err, fake } = await dcpim([
    ...["ping", TARGET, "--count", "500", "--interval", "1ms", "--length", "4KiB", "--sp", "5000"],
    ...["--duration", "2s", "--warmup", "10ms", "--short", "--iodepth", "8", "--baseline", "tcp,udp"],
    ...["--engine", "udp", "--pin", "1,3", "--threads", "2", "--busy-poll", "--no-offload", "--crc"],
    ...["--rate", "10gbit", "--ctrl-rtt", "20us", "--data-rtt", "60us", "--alpha", "1.5", "--beta", "2"],
    ...["--rounds", "3", "--channels", "2", "--mtu", "9000", "--short-threshold", "1MiB"],
    ...["--window", "2MiB", "--token-batch", "64KiB", "--first-part", "spare", "--first-part-bytes", "10000"],
    ...["--dead-after", "3s", "--connect-timeout", "1s"],
  ], PINGS);
  assert.deepEqual([status, err], [0, ""]);
  const { peer: _, ...options } = fake.started[0]!.options;
  assert.deepEqual(options, {
    port: 4000,
    sourcePort: 5000,
    transports: ["dcpim", "tcp", "udp"],
    length: 4096,
    count: 500,
    short: true,
    durationNs: 2e9,
    warmupNs: 10e6,
    intervalNs: 1e6,
    iodepth: 8,
    engine: {
      engine: "udp",
      threads: 2,
      cpus: [1, 3],
      busy_poll: true,
      offload: false,
      crc: true,
      dead_after_ns: 3e9,
      connect_timeout_ns: 1e9,
      protocol: {
        rate_bps: 10e9,
        ctrl_rtt_ns: 20e3,
        data_rtt_ns: 60e3,
        alpha: 1.5,
        beta: 2,
        rounds: 3,
        channels: 2,
        mtu: 9000,
        short_threshold: 2 ** 20,
        window: 2 ** 21,
        token_batch: 65536,
        first_part: "spare",
        first_part_bytes: 10_000,
      },
    },
  });
});

Deno.test("ping: a count alone sets no time and no warm-up", async () => {
  const { options } = (await dcpim(["ping", TARGET, "--count", "5"], PINGS)).fake.started[0]!;
  assert.equal(options.durationNs, undefined);
  assert.equal(options.warmupNs, 0);
});

Deno.test("ping: the result for people, wide, narrow and quiet", async (t) => {
  for (const columns of [80, 44]) {
    const { out } = await dcpim(["ping", TARGET], PINGS, { columns, terminal: true });
    // deno-lint-ignore no-control-regex -- escape sequences begin with a control character
    await t.assertSnapshot(out.replace(/\x1b\[\d+m/g, ""));
  }
  await t.assertSnapshot((await dcpim(["ping", TARGET, "--quiet"], PINGS)).out);
});

const COMPARED: FakeRun = {
  figures: {
    dcpim: { counters: { completed: 3 }, latencies: [10_000, 11_000, 12_000] },
    tcp: { counters: { completed: 3, rtx_bytes: 64 }, latencies: [20_000, 21_000, 22_000] },
    udp: { counters: { completed: 2, lost: 1 }, latencies: [9_000, 9_500] },
  },
};

Deno.test("ping: baselines stand in the same table", async () => {
  const { out } = await dcpim(["ping", TARGET, "--baseline", "tcp,udp", "-q"], COMPARED);
  const rows = out.trimEnd().split("\n");
  assert.deepEqual(rows.map((row) => row.split(/ {2,}/)[0]), ["us", "dcPIM", "TCP", "UDP"]);
  assert.match(rows[3]!, /1 \(33\.33 %\)/);
});

Deno.test("ping --json has the figures, their units, the engine, the machine and every counter", async () => {
  const { status, out } = await dcpim(["ping", TARGET, "--baseline", "tcp,udp", "--json"], COMPARED);
  assert.equal(status, 0);
  const document = JSON.parse(out);
  assert.equal(document.schema, "rackwire.dcpim.ping/1");
  assert.deepEqual(Object.keys(document.rtt_us), ["mean", "min", "p50", "p90", "p99", "p99_9", "max"]);
  assert.deepEqual([document.rtt_us.min, document.rtt_us.max], [10, 12]);
  assert.equal(document.engine, "udp");
  assert.deepEqual(document.target, { host: "127.0.0.1", port: 4000, address: "127.0.0.1" });
  assert.equal(document.machine.kernel, "6.1.0-50-amd64");
  assert.equal(document.stats.epochs, 12);
  assert.deepEqual(Object.keys(document.transports), ["dcpim", "tcp", "udp"]);
  assert.equal(document.transports.tcp.retransmitted_bytes, 64);
  assert.equal(document.transports.udp.loss_ratio, 1 / 3);
  assert.equal(document.transports.udp.counters.lost, 1);
});

Deno.test("ping: wrong bytes and a run without answers fail, after their figures", async () => {
  const wrong = await dcpim(["ping", TARGET], { ...PINGS, corrupt: true });
  assert.equal(wrong.status, 1);
  assert.match(wrong.out, /dcPIM/);
  assert.match(wrong.err, /^rackwire: bytes arrived that were not sent\nhint: /);
  const silent = await dcpim(["ping", TARGET], { figures: { dcpim: { counters: { lost: 9 } } } });
  assert.equal(silent.status, 1);
  assert.match(silent.err, /^rackwire: no ping over dcPIM was answered in time\nhint: /);
});

Deno.test("the prototype's names and its order of arguments mean what they say", async () => {
  const order = ["dcpim", TARGET, "--count", "5", "dcpimping", "--json"];
  assert.deepEqual(fromPrototypeOrder(order), ["dcpim", "dcpimping", TARGET, "--count", "5", "--json"]);
  for (const args of [["dcpim", "ping", TARGET], ["doctor"], ["dcpim"], ["dcpim", "--help"]]) {
    assert.deepEqual(fromPrototypeOrder(args), args);
  }
  for (
    const [name, short, transports] of [
      ["dcpimping", false, ["dcpim"]],
      ["dcpimpingmsg", true, ["dcpim"]],
      ["tcpping", false, ["tcp"]],
    ] as const
  ) {
    for (const args of [[name, TARGET, "--count", "5"], [TARGET, "--count", "5", name]]) {
      const { status, fake } = await dcpim(args, { figures: { dcpim: { counters: { completed: 5 } } } });
      assert.equal(status, 0);
      const { options } = fake.started[0]!;
      assert.deepEqual([options.short, options.transports, options.count], [short, transports, 5]);
    }
  }
  const none = await dcpim([TARGET, "--count", "5"]);
  assert.equal(none.status, 2);
  assert.match(none.err, /^rackwire: what to do with 127.0.0.1:4000 is missing\nhint: /);
  assert.equal((await dcpim(["dcpimpingmsg", TARGET, "--long"])).status, 2);
});

const STREAM: FakeRun = {
  figures: {
    dcpim: {
      counters: {
        measured_bytes: 1_250_000_000,
        measured_ns: 1e9,
        cpu_ns: 5e8,
        peer_bytes: 1_250_000_000,
        peer_cpu_ns: 25e7,
        peer_verified_bytes: 1_300_000_000,
        rtx_bytes: 2048,
      },
    },
    tcp: { counters: { measured_bytes: 625_000_000, measured_ns: 1e9, peer_verified_bytes: 625_000_000 } },
  },
  stats: { grant_rx: 7, accept_tx: 6, channels_matched_tx: 5, token_rx: 300, prompt_matched: 2 },
};

Deno.test("stream: options, the table and the counters", async (t) => {
  const { status, out, fake } = await dcpim([
    ...["stream", TARGET, "--parallel", "3", "--size", "1MiB", "--reverse", "--bytes", "1GB", "--sp", "700"],
    ...["--no-validate", "--baseline", "tcp"],
  ], STREAM);
  assert.equal(status, 0);
  const { engine: _, peer: __, ...options } = fake.started[0]!.options;
  assert.deepEqual(options, {
    port: 4000,
    sourcePort: 700,
    transports: ["dcpim", "tcp"],
    connections: 3,
    durationNs: undefined,
    warmupNs: 0,
    bytes: 1e9,
    length: 2 ** 20,
    reverse: true,
    validate: false,
  });
  assert.match(out, /^3 streams from 127\.0\.0\.1:4000, .* bytes not checked$/m);
  await t.assertSnapshot((await dcpim(["stream", TARGET, "--baseline", "tcp"], STREAM)).out);
});

Deno.test("stream: bytes are checked unless told otherwise, and wrong ones are shown", async () => {
  assert.equal((await dcpim(["stream", TARGET], STREAM)).fake.started[0]!.options.validate, true);
  const { status, out } = await dcpim(["stream", TARGET], {
    figures: { dcpim: { counters: { peer_corrupt_bytes: 1024 } } },
    corrupt: true,
  });
  assert.equal(status, 1);
  assert.match(out, /1 KiB WRONG/);
});

Deno.test("stream --json: one document, or one a line with --interval", async () => {
  const { out } = await dcpim(["stream", TARGET, "--json"], STREAM);
  const document = JSON.parse(out);
  assert.equal(document.schema, "rackwire.dcpim.stream/1");
  assert.equal(document.goodput_gbps, 10);
  assert.equal(document.transports.dcpim.cpu_ns_per_byte, 0.4);
  assert.equal(document.transports.dcpim.peer_cpu_ns_per_byte, 0.2);
  assert.equal(document.transports.tcp.cpu_ns_per_byte, null);
  assert.equal(document.stats.token_rx, 300);
  assert.equal(document.validated, true);
});

Deno.test("message: options, the tables and --json", async (t) => {
  const run: FakeRun = {
    figures: {
      dcpim: {
        counters: {
          completed: 4,
          measured_requests: 2000,
          measured_bytes: 128_000,
          measured_ns: 1e9,
          peer_verified_bytes: 128_000,
        },
        latencies: [30_000, 31_000, 32_000, 64_000],
      },
    },
  };
  const { fake } = await dcpim([
    ...["message", TARGET, "--size", "128KiB", "--count", "50", "--iodepth", "4", "--parallel", "2"],
    ...["--interval", "1ms", "--baseline", "udp", "--size", "1000"],
  ], run);
  const { engine: _, peer: __, ...options } = fake.started[0]!.options;
  assert.deepEqual(options, {
    port: 4000,
    sourcePort: undefined,
    transports: ["dcpim", "udp"],
    connections: 2,
    length: 1000,
    count: 50,
    iodepth: 4,
    intervalNs: 1e6,
    durationNs: undefined,
    warmupNs: 0,
    validate: true,
  });
  await t.assertSnapshot((await dcpim(["message", TARGET], run)).out);
  const document = JSON.parse((await dcpim(["message", TARGET, "--json"], run)).out);
  assert.equal(document.schema, "rackwire.dcpim.message/1");
  assert.equal(document.messages_per_s, 2000);
  assert.equal(document.transports.dcpim.delivery_us.max, 64);
});

function connection(changes: Partial<WorkConnection>): WorkConnection {
  return {
    id: 1,
    transport: "dcpim",
    kind: "stream",
    service: "sink",
    state: "open",
    thread: 0,
    cpu: 0,
    srtt_us: 50,
    peer: "10.0.0.9:40000",
    age_s: 1,
    tx_bytes: 0,
    rx_bytes: 0,
    requests: 0,
    verified_bytes: 0,
    corrupt_bytes: 0,
    corrupt_at: 0,
    rtx_bytes: 0,
    ...changes,
  };
}

Deno.test("server: what is not given has its default, and every option arrives", async () => {
  const plain = await dcpim(["server"], { figures: { dcpim: { counters: { opened: 0 } } } });
  assert.equal(plain.status, 0);
  const { engine: _, ...defaults } = plain.fake.started[0]!.options;
  assert.deepEqual(defaults, {
    address: undefined,
    port: 4000,
    accept: "both",
    validate: false,
    baselines: ["tcp", "udp"],
  });
  assert.match(plain.out, /^listening on port 4000, engine udp; to compare with: TCP on 4000, UDP on 4001$/m);
  assert.match(plain.out, /served for [\d.]+ s; nobody connected/);
  const { fake } = await dcpim(
    ["server", "--ip", "::1", "--port", "0", "--validate", "--message", "--no-baseline", "--pin", "2"],
  );
  const { engine, ...options } = fake.started[0]!.options;
  assert.deepEqual((engine as { cpus: number[] }).cpus, [2]);
  assert.deepEqual(options, {
    address: { address: "::1", family: 6 },
    port: 0,
    accept: "messages",
    validate: true,
    baselines: [],
  });
});

/** A server with two connections of which one breaks, read twice. */
const SERVED: FakeRun = {
  endless: true,
  figures: {
    dcpim: {
      counters: { opened: 2, failed: 1, rx_bytes: 375_000_000, verified_bytes: 250_000_000, requests: 9 },
    },
  },
  readings: [
    { dcpim: { counters: { open: 0 } } },
    { dcpim: { counters: { open: 2, rx_bytes: 125_000_000 } } },
    { dcpim: { counters: { open: 1, rx_bytes: 375_000_000, tx_bytes: 1000 } } },
  ],
  connections: [
    [connection({ rx_bytes: 125_000_000 }), connection({ id: 2, peer: "10.0.0.8:1", service: "echo" })],
    [
      connection({ rx_bytes: 375_000_000 }),
      connection({ id: 2, peer: "10.0.0.8:1", service: "echo", state: "broken", tx_bytes: 1000 }),
    ],
  ],
};

async function serveAndInterrupt(args: string[], columns = 80): Promise<Finished> {
  const fake = fakeService({ ...SERVED });
  const { context, written, interrupt } = fakeContext({ facts: machine, dcpim: fake.service, columns });
  const serving = runProgram(["dcpim", "server", "--interval", "20ms", ...args], context);
  const lines = () => written.out.split("\n").filter((line) => /10\.0\.0\.8|"at_s"/.test(line)).length;
  while (lines() < (args.includes("--json") ? 2 : 1)) await new Promise((resolve) => setTimeout(resolve, 5));
  interrupt();
  const status = await serving;
  assert.deepEqual([fake.stops, fake.closed], [1, 1]);
  return { status, ...written };
}

Deno.test("server: lines for each busy connection and their sum, a summary at Ctrl-C, status 130", async () => {
  const { status, out, err } = await serveAndInterrupt([]);
  assert.deepEqual([status, err], [130, ""]);
  const lines = out.split("\n").filter((line) => / s /.test(line)).map((line) => line.replace(/ +/g, " "));
  assert.equal(lines[0], " 1.0 s dcPIM 10.0.0.9:40000 to here 1 Gbit/s in - out");
  assert.ok(lines.includes(" 2.0 s dcPIM 10.0.0.9:40000 to here 2 Gbit/s in - out"));
  assert.ok(lines.includes(" 2.0 s dcPIM 10.0.0.8:1 ping - in 8 kbit/s out"));
  assert.ok(lines.includes(" 2.0 s sum of 2 connections 2 Gbit/s in 8 kbit/s out"));
  assert.match(out, /served for [\d.]+ s\n +conns +failed +in/);
  assert.match(out, /dcPIM +2 +1 +358 MiB/);
  for (const line of out.split("\n").filter((each) => / in .* out/.test(each))) assert.ok(line.length <= 80);
});

Deno.test("server --json: a document a line, the last with every counter", async () => {
  const { status, out } = await serveAndInterrupt(["--json"]);
  assert.equal(status, 130);
  const documents = out.trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.equal(documents[0].schema, "rackwire.dcpim.server.listening/1");
  assert.deepEqual(documents[0].ports, { dcpim: 4000, tcp: 4000, udp: 4001 });
  const intervals = documents.filter(({ schema }) => schema === "rackwire.dcpim.server.interval/1");
  assert.equal(intervals[0].rx_gbps, 1);
  assert.equal(intervals[0].connections[0].peer, "10.0.0.9:40000");
  assert.equal(documents.at(-1).schema, "rackwire.dcpim.server/1");
  assert.equal(documents.at(-1).transports.dcpim.counters.opened, 2);
  assert.equal(documents.at(-1).machine.hostname, "node7");
});

Deno.test("ping: Ctrl-C prints what there is and ends with 130", async () => {
  const fake = fakeService({ ...PINGS, endless: true });
  const { context, written, interrupt, listening } = fakeContext({ facts: machine, dcpim: fake.service });
  const pinging = runProgram(["dcpim", "ping", TARGET], context);
  while (!written.out.includes("ping 127.0.0.1")) await new Promise((resolve) => setTimeout(resolve, 1));
  interrupt();
  assert.equal(await pinging, 130);
  assert.match(written.out, /dcPIM +1 000/);
  assert.deepEqual([fake.stops, fake.closed, listening()], [1, 1, 0]);
});

Deno.test("bad input: one line that says what is wrong, a hint where there is a way out, and a status", async () => {
  const failing = (code: string): FakeRun => ({
    figures: { dcpim: {} },
    error: new RackwireError(code, "it failed"),
  });
  const cases: [args: string[], status: number, text: RegExp, run?: FakeRun, facts?: typeof machine][] = [
    [["ping", "no.such.host.invalid:1"], 1, /cannot find the host no\.such\.host\.invalid\nhint: /],
    [["ping", "127.0.0.1:0"], 2, /Port 0 is not a whole number from 1 to 65535\.\n$/],
    [["ping", "127.0.0.1:70000"], 2, /Port 70000 is not a whole number from 1 to 65535\.\n$/],
    [["server", "--port", "70000"], 2, /Port 70000 is not/],
    [
      ["ping", TARGET, "--length", "17MiB", "--short"],
      2,
      /--length 17 MiB is over the limit.*16 MiB\nhint: /,
    ],
    [["ping", TARGET, "--length", "65MiB"], 2, /--length 65 MiB is over the limit, 64 MiB\nhint: /],
    [["ping", TARGET, "--length", "70000", "--baseline", "udp"], 2, /does not fit UDP.*65507 bytes\nhint: /],
    [["ping", TARGET, "--short", "--long"], 2, /cannot be used with/],
    [["ping", TARGET, "--baseline", "sctp"], 2, /Expected tcp, udp or tcp,udp\.\n$/],
    [["message", TARGET, "--size", "17MiB"], 2, /--size 17 MiB is not from 1 B.*16 MiB\nhint: /],
    [["message", TARGET, "--size", "0"], 2, /--size 0 B is not from 1 B/],
    [
      ["stream", TARGET, "--reverse", "--baseline", "udp"],
      2,
      /--reverse cannot be compared with udp.*\nhint: /,
    ],
    [["message", TARGET], 2, /it failed\nhint: send smaller messages/, failing("EMSGSIZE")],
    [["stream", TARGET, "--bytes", "0"], 2, /Expected a whole number of at least 1\.\n$/],
    [
      ["ping", TARGET, "--pin", "9"],
      2,
      /CPU 9 is not among those of this process\nhint: it may use 0, 1, 2, 3/,
    ],
    [["ping", TARGET, "--plot", "/nonexistent/x.svg"], 2, /cannot write \/nonexistent\/x\.svg: .*\nhint: /],
    [["ping", TARGET, "--rounds", "17"], 2, /Expected 1 to 16\.\n$/],
    [["ping", TARGET, "--alpha", "0.5"], 2, /Expected 1 to 10\.\n$/],
    [["ping", TARGET, "--alpha", "1.2345"], 2, /up to three decimals\.\n$/],
    [["ping", TARGET, "--rate", "2tbit"], 2, /Expected 1 Mbit\/s to 1 Tbit\/s\.\n$/],
    [["server", "--channels", "0"], 2, /Expected 1 to 16\.\n$/],
    [["server", "--ctrl-rtt", "1s", "--beta", "20"], 2, /an epoch would last 80 s, more than 4 s\nhint: /],
    [
      ["ping", TARGET, "--engine", "raw"],
      3,
      /needs CAP_NET_RAW\nhint: .*sudo.*setcap/,
      undefined,
      unprivileged,
    ],
    [["server", "--engine", "raw"], 3, /needs CAP_NET_RAW\nhint: /, undefined, unprivileged],
    [
      ["ping", TARGET],
      1,
      /it failed\nhint: start one there: .*--port 4000 --engine udp/,
      failing("ECONNREFUSED"),
    ],
    [["stream", TARGET], 1, /it failed\nhint: the server ended/, failing("ECONNRESET")],
    [["message", TARGET], 1, /it failed\nhint: check that the server runs/, failing("ETIMEDOUT")],
    [["stream", TARGET], 1, /it failed\nhint: something else listens/, failing("EPROTO")],
    [["stat", "none"], 2, /Expected the number of a process, or all\.\n$/],
  ];
  for (const [args, status, text, run, facts] of cases) {
    const told = await dcpim(args, run, { facts });
    assert.equal(told.status, status, args.join(" "));
    assert.match(told.err, text);
    assert.match(told.err, /^rackwire: .*\n(hint: .*\n)?$/, args.join(" "));
  }
});

Deno.test("a run that fails leaves no empty plot, and one that works replaces an old one", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const plot = `${dir}/p.svg`;
    const failed = await dcpim(["ping", TARGET, "--plot", plot], {
      figures: { dcpim: {} },
      error: new RackwireError("ECONNREFUSED", "refused"),
    });
    assert.equal(failed.status, 1);
    assert.deepEqual([...Deno.readDirSync(dir)], []);
    await Deno.writeTextFile(plot, "old ".repeat(100_000));
    assert.equal((await dcpim(["ping", TARGET, "--plot", plot], PINGS)).status, 0);
    assert.match(await Deno.readTextFile(plot), /^<svg[^]*<\/svg>\n$/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("auto takes the first engine that works, and says which; another has to be asked for", async () => {
  for (const [args, engine] of [[[], "udp"], [["--engine", "raw"], "raw"]] as const) {
    const { out, fake } = await dcpim(["ping", TARGET, ...args], PINGS);
    assert.equal((fake.started[0]!.options.engine as { engine: string }).engine, engine);
    assert.ok(out.includes(`engine ${engine}`));
  }
});
