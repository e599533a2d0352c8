// SPDX-License-Identifier: BSD-2-Clause
// rackwire dcpim message: rate and goodput of whole messages.

import { type Command, Option } from "@commander-js/extra-typings";
import { DCPIM_MAX_MESSAGE } from "../../../lib/dcpim/config.ts";
import {
  type Transport,
  type TransportFigures,
  WORK_LIMITS,
  WORK_MIN_DATAGRAM,
} from "../../../lib/dcpim/workload.ts";
import { RackwireError } from "../../../lib/ffi/errors.ts";
import { type Context, interruptible } from "../../context.ts";
import { type Endpoint, parseEndpoint, parsePort, targetText } from "../../options/endpoint.ts";
import { withExamples, withOutputOptions } from "../../options/groups.ts";
import {
  formatBytes,
  formatRate,
  parseBytes,
  parseCount,
  parseDuration,
  parsePositiveDuration,
} from "../../options/quantities.ts";
import { histogramChart } from "../../output/chart.ts";
import { jsonDocument } from "../../output/json.ts";
import { machineFacts } from "../../output/machine.ts";
import { bitsPerSecond, counted, cpuPerGb, cpuText, microseconds, whole } from "../../output/numbers.ts";
import { fittingTable } from "../../output/table.ts";
import { failIfCorrupt, type Outcome, prepare, type Prepared, serviceOf, shareOf, watch } from "./client.ts";
import { engineOptions, withEngineOptions } from "./options.ts";
import { figuresOf, protocolText, TRANSPORT_NAMES } from "./present.ts";
import { checkedText } from "./stream.ts";

const DEFAULT_DURATION_NS = 5e9;
const DEFAULT_WARMUP_NS = 100e6;
const DEFAULT_SIZE = 64;
const DEFAULT_IODEPTH = 64;

interface Plan {
  size: number;
  iodepth: number;
  parallel: number;
  validate: boolean;
  transports: Transport[];
}

function perSecond({ counters }: TransportFigures): number {
  return counters.measured_ns > 0 ? counters.measured_requests * 1e9 / counters.measured_ns : 0;
}

function resultText(outcome: Outcome, plan: Plan, context: Context, quiet: boolean): string {
  const { out } = context;
  const right = (title: string) => ({ title, align: "right" as const });
  const figures = figuresOf(outcome);
  const rates = fittingTable(
    [
      { title: "" },
      ...["messages/s", "goodput", "lost", "CPU s/GB here", "there", "resent", "checked"].map(right),
    ],
    figures.map(([name, each]) => {
      const { counters } = each;
      return [
        TRANSPORT_NAMES[name],
        whole(perSecond(each)),
        formatRate(bitsPerSecond(counters.measured_bytes, counters.measured_ns)),
        counters.lost === 0 ? "0" : out.style.red(whole(counters.lost)),
        cpuText(cpuPerGb(counters.cpu_ns, counters.measured_bytes)),
        cpuText(cpuPerGb(counters.peer_cpu_ns, counters.peer_bytes)),
        name === "udp" ? "" : formatBytes(counters.rtx_bytes),
        checkedText(counters.peer_verified_bytes, counters.peer_corrupt_bytes, plan.validate, context),
      ];
    }),
    out,
  );
  if (quiet) return rates;
  const timed = figures.filter(([, { latency }]) => latency.count > 0);
  const charts = timed.map(([name, { latency }]) =>
    `${out.style.bold(`${TRANSPORT_NAMES[name]}: until the server had all of it`)}\n${
      histogramChart(latency, { unit: 1000, unitName: "us", columns: out.columns, style: out.style })
    }`
  );
  const times = timed.length === 0 ? [] : [fittingTable(
    [{ title: "us" }, ...["messages", "p50", "p90", "p99", "p99.9", "max"].map(right)],
    timed.map(([name, { latency }]) => [
      TRANSPORT_NAMES[name],
      whole(latency.count),
      ...[50, 90, 99, 99.9, 100].map((percent) => microseconds(latency.percentile(percent))),
    ]),
    out,
  )];
  return `\n${[...charts, ...times, rates, protocolText(outcome.stats, out)].join("\n")}`;
}

function resultJson(outcome: Outcome, plan: Plan, target: Endpoint, ready: Prepared): string {
  const figures = figuresOf(outcome);
  const latency = (each: TransportFigures) => {
    const { count: _, ...us } = each.latency.summary(1000);
    return us;
  };
  return jsonDocument("rackwire.dcpim.message/1", {
    target: { ...target, address: ready.peer.address },
    engine: ready.engine.engine,
    size_bytes: plan.size,
    iodepth: plan.iodepth,
    parallel: plan.parallel,
    validated: plan.validate,
    stopped: outcome.stopped,
    // Of the first transport: dcPIM.
    messages_per_s: perSecond(figures[0]![1]),
    transports: Object.fromEntries(figures.map(([name, each]) => {
      const { counters } = each;
      return [name, {
        messages_per_s: perSecond(each),
        goodput_gbps: bitsPerSecond(counters.measured_bytes, counters.measured_ns) / 1e9,
        delivery_us: latency(each),
        messages: counters.measured_requests,
        lost: counters.lost,
        cpu_ns_per_byte: cpuPerGb(counters.cpu_ns, counters.measured_bytes) ?? null,
        peer_cpu_ns_per_byte: cpuPerGb(counters.peer_cpu_ns, counters.peer_bytes) ?? null,
        verified_bytes: counters.peer_verified_bytes,
        corrupt_bytes: counters.peer_corrupt_bytes,
        retransmitted_bytes: counters.rtx_bytes,
        counters,
        histogram_ns: each.latency.buckets(),
      }];
    })),
    stats: outcome.stats,
    machine: machineFacts(ready.host),
  });
}

function checkSize({ size, transports }: Plan): void {
  const refuse = (message: string, hint: string) =>
    new RackwireError("EINVAL", message, { hint, exitStatus: 2 });
  if (size < 1 || size > DCPIM_MAX_MESSAGE) {
    throw refuse(
      `--size ${formatBytes(size)} is not from 1 B to a message's limit, ${formatBytes(DCPIM_MAX_MESSAGE)}`,
      "send smaller messages, or a stream: rackwire dcpim stream",
    );
  }
  if (transports.includes("udp") && (size > WORK_LIMITS.datagram || size < WORK_MIN_DATAGRAM)) {
    throw refuse(
      `--size ${size} does not fit UDP, which takes ${WORK_MIN_DATAGRAM} to ${WORK_LIMITS.datagram} bytes`,
      "change the size, or leave --baseline out",
    );
  }
}

export function registerMessage(dcpim: Command, context: Context): void {
  const bare = dcpim.command("message").description("measure the rate of whole messages to a dcPIM server")
    .argument("<host:port>", "a rackwire dcpim server", parseEndpoint)
    .option("--size <bytes>", `bytes of a message (default: ${DEFAULT_SIZE})`, parseBytes)
    .option("--count <n>", "messages of each connection (default: as the time allows)", parseCount(1))
    .option(
      "--duration <duration>",
      "how long to measure (default: 5s without --count)",
      parsePositiveDuration,
    )
    .option(
      "--warmup <duration>",
      "messages before that do not count (default: 100ms without --count)",
      parseDuration,
    )
    .option(
      "--iodepth <n>",
      `messages of a connection under way (default: ${DEFAULT_IODEPTH})`,
      parseCount(1, WORK_LIMITS.iodepth),
    )
    .option("--interval <duration>", "from one message to the next (default: none)", parseDuration)
    .option("--parallel <n>", "connections at a time (default: 1)", parseCount(1, WORK_LIMITS.connections))
    .option("--sp <port>", "the local port of the first connection (default: any)", parsePort)
    .option("--no-validate", "do not check the bytes that arrive")
    .addOption(
      new Option("--baseline <transport>", "do the same over kernel UDP too, in turns with dcPIM")
        .choices(["udp"] as const),
    );
  const command = withOutputOptions(withEngineOptions(bare));
  withExamples(command, [
    ["rackwire dcpim message 10.0.0.2:4000", "five seconds of 64-byte messages"],
    ["rackwire dcpim message 10.0.0.2:4000 --size 128KiB --iodepth 4", "larger ones, four under way"],
    ["rackwire dcpim message 10.0.0.2:4000 --baseline udp --json", "beside UDP datagrams, for a program"],
  ]);
  command.action((target, options) =>
    interruptible(context, async (signal) => {
      const { count, size = DEFAULT_SIZE, iodepth = DEFAULT_IODEPTH, parallel = 1, validate } = options;
      const timed = count === undefined || options.duration !== undefined;
      const durationNs = timed ? options.duration ?? DEFAULT_DURATION_NS : undefined;
      const warmupNs = options.warmup ?? (count === undefined ? DEFAULT_WARMUP_NS : 0);
      const plan: Plan = {
        size,
        iodepth,
        parallel,
        validate,
        transports: options.baseline === undefined ? ["dcpim"] : ["dcpim", options.baseline],
      };
      checkSize(plan);
      const ready = await prepare(context, target, engineOptions(options));
      const run = serviceOf(context).startMessages({
        peer: ready.peer,
        port: target.port,
        sourcePort: options.sp,
        engine: ready.engine,
        transports: plan.transports,
        connections: parallel,
        length: size,
        count,
        iodepth,
        intervalNs: options.interval,
        durationNs,
        warmupNs,
        validate,
      });
      const where = targetText(target, ready.peer);
      const outcome = await watch(context, signal, run, target, {
        heading: options.json || options.quiet
          ? ""
          : `messages of ${formatBytes(size)} to ${where}, engine ${run.engine}, ${
            counted(parallel, "connection")
          }, ${iodepth} under way on each, ${validate ? "every byte checked" : "bytes not checked"}\n`,
        label: `messages ${where}`,
        share: options.quiet ? undefined : shareOf(plan.transports, {
          durationNs,
          warmupNs,
          perTransport: count === undefined ? undefined : count * parallel,
        }),
      });
      context.out.write(
        options.json
          ? resultJson(outcome, plan, target, ready)
          : resultText(outcome, plan, context, options.quiet ?? false),
      );
      failIfCorrupt(outcome);
    })
  );
}
