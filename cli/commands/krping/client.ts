// SPDX-License-Identifier: BSD-2-Clause
// rackwire krping client: krping's ping, and latency and bandwidth of each operation.

import { type Command, Option } from "@commander-js/extra-typings";
import { RackwireError } from "../../../lib/ffi/errors.ts";
import type { HostFacts } from "../../../lib/host/facts.ts";
import { resolveHost } from "../../../lib/host/resolve.ts";
import { chooseKrpingEngine, KRPING_LIMITS, refuse } from "../../../lib/krping/config.ts";
import {
  KRPING_OPS,
  type KrpingClientOptions,
  type KrpingOp,
  type KrpingResult,
  type KrpingSnapshot,
  type KrpingTest,
} from "../../../lib/krping/work.ts";
import { type Context, interruptible } from "../../context.ts";
import { type Endpoint, parseEndpoint, targetText } from "../../options/endpoint.ts";
import { withExamples, withOutputOptions, withPlotOption } from "../../options/groups.ts";
import {
  formatBytes,
  formatDuration,
  formatRate,
  parseCount,
  parseDuration,
  parsePositiveDuration,
} from "../../options/quantities.ts";
import { histogramChart, lineChart } from "../../output/chart.ts";
import { jsonDocument } from "../../output/json.ts";
import { machineFacts } from "../../output/machine.ts";
import {
  bitsPerSecond,
  counted,
  cpuPerGb,
  cpuText,
  microseconds,
  seconds,
  whole,
} from "../../output/numbers.ts";
import { OutputFile } from "../../output/output_file.ts";
import { svgPercentiles, svgPlot } from "../../output/svg.ts";
import { facts, fittingTable } from "../../output/table.ts";
import { krpingOptions, parseSize, withEngineGroup, withKrpingGroup } from "./options.ts";
import { explained, type Run, serviceOf, watch } from "./run.ts";

const DEFAULT_DURATION_NS = 3e9;
const DEFAULT_WARMUP = 100;
const LOOK_NS = 250e6;

/** What a test is called, and what its histogram holds. */
const TESTS: Record<KrpingTest, { name: string; of: string }> = {
  ping: { name: "ping", of: "a ping" },
  wlat: { name: "WRITE latency", of: "half a round trip" },
  rlat: { name: "READ latency", of: "a READ" },
  slat: { name: "SEND latency", of: "half a round trip" },
  alat: { name: "atomic latency", of: "an atomic" },
  bw: { name: "bandwidth", of: "a request" },
};

export interface ClientFlags {
  json?: true;
  quiet?: true;
  verbose?: true;
  plot?: string;
}

interface Point {
  at_s: number;
  gbps: number;
  messages_per_s: number;
}

function isBandwidth(test: KrpingTest): boolean {
  return test === "bw";
}

function goodput({ counters }: KrpingSnapshot): number {
  return bitsPerSecond(counters.measured_bytes, counters.measured_ns);
}

function perSecond({ counters }: KrpingSnapshot): number {
  return counters.measured_ns > 0 ? counters.completed * 1e9 / counters.measured_ns : 0;
}

function resultText(
  result: KrpingResult,
  test: KrpingTest,
  options: KrpingClientOptions,
  points: readonly Point[],
  flags: ClientFlags,
  context: Context,
): string {
  const { out } = context;
  const { counters, latency } = result;
  const right = (title: string) => ({ title, align: "right" as const });
  const at = (percent: number) => latency.count === 0 ? "-" : microseconds(latency.percentile(percent));
  const checked = counters.corrupt_bytes > 0
    ? out.style.red(`${formatBytes(counters.corrupt_bytes)} WRONG`)
    : options.validate
    ? formatBytes(counters.verified_bytes)
    : out.style.dim("no");
  const summary = fittingTable(
    [
      { title: "us" },
      ...["count", "p50", "p90", "p99", "p99.9", "max", "per s", "goodput", "CPU s/GB", "compared"].map(
        right,
      ),
    ],
    [[
      TESTS[test].of,
      whole(counters.completed),
      at(50),
      at(90),
      at(99),
      at(99.9),
      at(100),
      whole(perSecond(result)),
      formatRate(goodput(result)),
      cpuText(cpuPerGb(counters.cpu_ns, counters.measured_bytes)),
      checked,
    ]],
    out,
  );
  if (flags.quiet) return summary;
  const chart = isBandwidth(test) && points.length > 2
    ? `Gbit/s over ${seconds(counters.measured_ns)} s\n${lineChart(points.map(({ gbps }) => gbps), out)}`
    : latency.count > 0
    ? histogramChart(latency, { unit: 1000, unitName: "us", columns: out.columns, style: out.style })
    : "";
  const both = options.duplex ? [["the server moved", formatBytes(counters.peer_bytes)] as const] : [];
  return `\n${chart}${chart === "" ? "" : "\n"}${summary}\n${
    facts([
      ...both,
      [
        "repairs",
        `${whole(counters.rtx_packets)} packets sent again, ${whole(counters.timeouts)} timeouts, ${
          whole(counters.seq_naks)
        } sequence NAKs, ${whole(counters.rnr_naks)} RNR NAKs`,
      ],
    ], out.style)
  }`;
}

function resultJson(
  result: KrpingResult,
  test: KrpingTest,
  options: KrpingClientOptions,
  target: Endpoint,
  run: Pick<Run, "engine" | "device" | "mtu">,
  points: readonly Point[],
  host: HostFacts,
): string {
  const { counters, latency } = result;
  const { count: _, ...us } = latency.summary(1000);
  return jsonDocument("rackwire.krping.client/1", {
    target: { ...target, address: options.peer.address },
    engine: run.engine,
    device: run.device,
    packet_bytes: run.mtu,
    test,
    op: options.op,
    size_bytes: options.size ?? null,
    connections: options.connections ?? 1,
    txdepth: test === "bw" ? options.txdepth ?? 64 : 1,
    stopped: result.stopped,
    latency_of: TESTS[test].of,
    latency_us: us,
    completed: counters.completed,
    per_s: perSecond(result),
    goodput_gbps: goodput(result) / 1e9,
    cpu_ns_per_byte: cpuPerGb(counters.cpu_ns, counters.measured_bytes) ?? null,
    verified_bytes: counters.verified_bytes,
    corrupt_bytes: counters.corrupt_bytes,
    counters,
    histogram_ns: latency.buckets(),
    over_time: points,
    machine: machineFacts(host),
  });
}

function plot(
  result: KrpingResult,
  test: KrpingTest,
  size: number,
  where: string,
  engine: string,
  points: readonly Point[],
): string {
  const subtitle = `${formatBytes(size)}, engine ${engine}`;
  if (isBandwidth(test)) {
    return svgPlot({
      title: `Bandwidth to ${where}`,
      subtitle,
      x: { label: "time (s)" },
      y: { label: "Gbit/s" },
      series: [{ name: "RDMA", points: points.map(({ at_s, gbps }) => [at_s, gbps]) }],
    });
  }
  return svgPercentiles(result.latency.count > 0 ? { [TESTS[test].name]: result.latency } : {}, {
    title: `${TESTS[test].name} to ${where}`,
    subtitle,
    label: `${TESTS[test].of} (us)`,
    unit: 1000,
  });
}

function headingText(
  test: KrpingTest,
  size: number,
  options: KrpingClientOptions,
  where: string,
  run: Run,
): string {
  const what = isBandwidth(test)
    ? `bandwidth of ${(options.op ?? "write").toUpperCase()}s, ${options.txdepth ?? 64} under way${
      options.duplex ? ", both ways" : ""
    }`
    : TESTS[test].name;
  const pace = options.intervalNs ? `, every ${formatDuration(options.intervalNs)}` : "";
  const many = (options.connections ?? 1) > 1 ? `, ${counted(options.connections!, "connection")}` : "";
  const device = run.device === run.engine ? "" : ` (${run.device})`;
  return `${what} to ${where}: ${
    formatBytes(size)
  }${pace}${many}, engine ${run.engine}${device}, packets of ${formatBytes(run.mtu)}\n`;
}

/** Runs a test and prints its figures. */
export async function runClient(
  context: Context,
  signal: AbortSignal,
  target: Endpoint,
  asked: KrpingClientOptions,
  flags: ClientFlags,
): Promise<void> {
  using file = OutputFile.prepare(flags.plot);
  const host = context.hostFacts();
  const options = { ...asked, engine: chooseKrpingEngine(asked.engine ?? "auto", host) };
  const test = options.test ?? "ping";
  const size = options.size ?? (test === "alat" || options.op === "fadd" || options.op === "cswap" ? 8 : 64);
  const { out } = context;
  const run = await serviceOf(context).startKrping(options).catch((error) => {
    throw explained(error, target);
  });
  const where = targetText(target, options.peer);
  const points: Point[] = [];
  const began = performance.now();
  const quiet = flags.quiet || flags.json;
  const result = await watch(context, signal, run, target, {
    heading: quiet ? "" : headingText(test, size, options, where, run),
    label: `krping ${where}`,
    share: flags.quiet ? undefined : (now) => {
      const byTime = options.durationNs ? (now.at_ms - began) * 1e6 / options.durationNs : 0;
      const byCount = options.count
        ? now.counters.completed / (options.count * (options.connections ?? 1))
        : 0;
      return Math.max(byTime, byCount);
    },
    intervalNs: LOOK_NS,
    onInterval(now, before) {
      if (flags.verbose && !flags.json) { for (const line of run.lines().lines) out.write(`${line}\n`); }
      const ns = (now.at_ms - before.at_ms) * 1e6;
      const bytes = now.counters.measured_bytes - before.counters.measured_bytes;
      const completed = now.counters.completed - before.counters.completed;
      // The last look comes at the end of the run and may be too short to mean much.
      if (ns < LOOK_NS / 2) return;
      points.push({
        at_s: (now.at_ms - began) / 1000,
        gbps: bitsPerSecond(bytes, ns) / 1e9,
        messages_per_s: completed * 1e9 / ns,
      });
    },
  });
  if (file !== undefined) file.write(plot(result, test, size, where, run.engine, points));
  out.write(
    flags.json
      ? resultJson(result, test, { ...options, size }, target, run, points, host)
      : resultText(result, test, options, points, flags, context),
  );
  if (!result.corrupt) return;
  throw new RackwireError("EBADMSG", "bytes came back that were not sent", {
    hint: "check memory and network hardware; if they are sound, please report it with the output of --json",
  });
}

const TEST_FLAGS = ["wlat", "rlat", "slat", "alat", "bw"] as const;

export function registerClient(krping: Command, context: Context): void {
  const other = (name: string) => TEST_FLAGS.filter((each) => each !== name);
  const bare = krping.command("client").description("ping a krping or rping server by RDMA, or measure it")
    .argument("<host:port>", "a rackwire krping server, krping or rping", parseEndpoint)
    .option("--count <n>", "pings or operations (default: as many as the duration allows)", parseCount(1))
    .option("--size <bytes>", "bytes of each, up to 1GiB (default: 64)", parseSize)
    .option(
      "--duration <duration>",
      "how long to measure (default: 3s without --count)",
      parsePositiveDuration,
    )
    .option(
      "--warmup <n>",
      "operations before that do not count (default: 100 without --count)",
      parseCount(0),
    )
    .option("--interval <duration>", "from one ping to the next (default: none)", parseDuration)
    .option(
      "--parallel <n>",
      "connections at a time (default: 1)",
      parseCount(1, KRPING_LIMITS.connections.highest),
    )
    .option("--tos <n>", "traffic class of the packets, 0 to 255", parseCount(0, 255))
    .option("--timeout <duration>", "try to connect for so long (default: 5s)", parsePositiveDuration)
    .option(
      "--retries <n>",
      "repeat what is not acknowledged so often, 0 to 7 (default: 7)",
      parseCount(0, 7),
    )
    .option("--validate", "compare what comes back, byte for byte; for pings and --alat")
    .option("--classic", "say nothing of ourselves to the server, as rping does; only for pings")
    .optionsGroup("Benchmark:")
    .addOption(new Option("--wlat", "WRITE latency: both ends watch their memory").conflicts(other("wlat")))
    .addOption(new Option("--rlat", "READ latency").conflicts(other("rlat")))
    .addOption(new Option("--slat", "SEND latency").conflicts(other("slat")))
    .addOption(new Option("--alat", "latency of atomics").conflicts(other("alat")))
    .addOption(new Option("--bw", "bandwidth, or message rate with a small size").conflicts(other("bw")))
    .addOption(
      new Option("--op <name>", "what --bw (default: write) or --alat (default: fadd) does").choices(
        KRPING_OPS,
      ),
    )
    .option("--duplex", "with --bw: the server does the same at the same time")
    .option(
      "--txdepth <n>",
      "with --bw: requests under way (default: 64)",
      parseCount(1, KRPING_LIMITS.txdepth.highest),
    );
  const command = withPlotOption(
    withOutputOptions(withEngineGroup(withKrpingGroup(bare as unknown as Command<[Endpoint]>))),
  );
  withExamples(command, [
    ["rackwire krping client 10.0.0.2:9999 --count 1000 --validate", "a thousand pings, every byte compared"],
    ["rackwire krping client 10.0.0.2:9999 --wlat --poll", "half a round trip of a WRITE, spinning"],
    ["rackwire krping client 10.0.0.2:9999 --bw --size 64KiB --duplex", "bandwidth both ways"],
    [
      "rackwire krping client 10.0.0.2:7174 --classic --count 10 --json",
      "ten pings to an rping -s, for a program",
    ],
  ]);
  command.action((target, flags) =>
    interruptible(context, async (signal) => {
      const options = flags as typeof flags & BenchmarkFlags;
      const test = TEST_FLAGS.find((name) => options[name]) ?? "ping";
      if (options.duplex && test !== "bw") throw refuse("--duplex is for --bw alone", "add --bw");
      if (options.txdepth !== undefined && test !== "bw") {
        throw refuse("--txdepth is for --bw alone", "add --bw");
      }
      if (options.op !== undefined && test !== "bw" && test !== "alat") {
        throw refuse("--op is for --bw and --alat", "add one of them");
      }
      if (options.interval && test !== "ping") {
        throw refuse("--interval is for pings", "leave it out");
      }
      if (options.validate && test !== "ping" && test !== "alat") {
        throw refuse("--validate is for pings and --alat", "leave it out");
      }
      const timed = options.count === undefined || options.duration !== undefined;
      await runClient(context, signal, target, {
        ...krpingOptions(options),
        validate: options.validate,
        test,
        peer: await resolveHost(target.host),
        port: target.port,
        size: options.size,
        op: options.op,
        count: options.count,
        warmupCount: options.warmup ?? (options.count === undefined ? DEFAULT_WARMUP : 0),
        durationNs: timed ? options.duration ?? DEFAULT_DURATION_NS : undefined,
        intervalNs: options.interval,
        timeoutNs: options.timeout,
        txdepth: options.txdepth,
        duplex: options.duplex,
        connections: options.parallel,
        tos: options.tos,
        retries: options.retries,
        classic: options.classic,
      }, options);
    })
  );
}

/** What the options above parse to; written down, for the compiler would need long to infer so many. */
type BenchmarkFlags = {
  count?: number;
  size?: number;
  duration?: number;
  warmup?: number;
  interval?: number;
  parallel?: number;
  tos?: number;
  timeout?: number;
  retries?: number;
  validate?: true;
  classic?: true;
  wlat?: true;
  rlat?: true;
  slat?: true;
  alat?: true;
  bw?: true;
  op?: KrpingOp;
  duplex?: true;
  txdepth?: number;
};
