// SPDX-License-Identifier: BSD-2-Clause
// rackwire dcpim stream: goodput of byte streams.

import type { Command } from "@commander-js/extra-typings";
import { type Transport, type TransportFigures, WORK_LIMITS } from "../../../lib/dcpim/workload.ts";
import { RackwireError } from "../../../lib/ffi/errors.ts";
import { type Context, interruptible } from "../../context.ts";
import { type Endpoint, parseEndpoint, parsePort, targetText } from "../../options/endpoint.ts";
import { withExamples, withOutputOptions, withPlotOption } from "../../options/groups.ts";
import {
  formatBytes,
  formatRate,
  parseBytes,
  parseCount,
  parseDuration,
  parsePositiveDuration,
} from "../../options/quantities.ts";
import { jsonDocument, jsonLine } from "../../output/json.ts";
import { svgPlot } from "../../output/svg.ts";
import { machineFacts } from "../../output/machine.ts";
import { bitsPerSecond, counted, cpuPerGb, cpuText, seconds } from "../../output/numbers.ts";
import { OutputFile } from "../../output/output_file.ts";
import { fittingTable } from "../../output/table.ts";
import { failIfCorrupt, type Outcome, prepare, type Prepared, serviceOf, shareOf, watch } from "./client.ts";
import { GoodputLines, type Interval } from "./goodput_lines.ts";
import { engineOptions, withBaselineOption, withEngineOptions } from "./options.ts";
import { figuresOf, protocolText, TRANSPORT_NAMES } from "./present.ts";

const DEFAULT_DURATION_NS = 5e9;
const DEFAULT_WARMUP_NS = 100e6;
const DEFAULT_SIZE = 64 * 1024;

/** What the receiving side found, as one cell. */
export function checkedText(verified: number, corrupt: number, validate: boolean, context: Context): string {
  const { style } = context.out;
  if (corrupt > 0) return style.red(`${formatBytes(corrupt)} WRONG`);
  return validate ? formatBytes(verified) : style.dim("no");
}

interface Plan {
  reverse: boolean;
  validate: boolean;
  parallel: number;
  transports: Transport[];
}

function receiver({ counters }: TransportFigures, reverse: boolean) {
  return reverse
    ? { verified: counters.verified_bytes, corrupt: counters.corrupt_bytes }
    : { verified: counters.peer_verified_bytes, corrupt: counters.peer_corrupt_bytes };
}

function resultText(outcome: Outcome, plan: Plan, context: Context, quiet: boolean): string {
  const right = (title: string) => ({ title, align: "right" as const });
  const summary = fittingTable(
    [
      { title: "" },
      ...["goodput", "bytes", "time", "CPU s/GB here", "there", "resent", "checked"].map(right),
    ],
    figuresOf(outcome).map(([name, each]) => {
      const { counters } = each;
      const { verified, corrupt } = receiver(each, plan.reverse);
      return [
        TRANSPORT_NAMES[name],
        formatRate(bitsPerSecond(counters.measured_bytes, counters.measured_ns)),
        formatBytes(counters.measured_bytes),
        `${seconds(counters.measured_ns)} s`,
        cpuText(cpuPerGb(counters.cpu_ns, counters.measured_bytes)),
        cpuText(cpuPerGb(counters.peer_cpu_ns, counters.peer_bytes)),
        name === "udp" ? "" : formatBytes(counters.rtx_bytes),
        checkedText(verified, corrupt, plan.validate, context),
      ];
    }),
    context.out,
  );
  if (quiet) return summary;
  return plan.transports.includes("dcpim")
    ? `\n${summary}\n${protocolText(outcome.stats, context.out)}`
    : `\n${summary}`;
}

function resultJson(
  outcome: Outcome,
  plan: Plan,
  target: Endpoint,
  ready: Prepared,
  intervals: Interval[] | undefined,
): string {
  const figures = figuresOf(outcome);
  const gbps = ({ counters }: TransportFigures) =>
    bitsPerSecond(counters.measured_bytes, counters.measured_ns) / 1e9;
  // Behind a line for each interval comes one more line.
  const write = intervals === undefined ? jsonDocument : jsonLine;
  return write("rackwire.dcpim.stream/1", {
    target: { ...target, address: ready.peer.address },
    engine: ready.engine.engine,
    reverse: plan.reverse,
    parallel: plan.parallel,
    validated: plan.validate,
    stopped: outcome.stopped,
    // Of the first transport: dcPIM.
    goodput_gbps: gbps(figures[0]![1]),
    transports: Object.fromEntries(figures.map(([name, each]) => {
      const { counters } = each;
      const { verified, corrupt } = receiver(each, plan.reverse);
      return [name, {
        goodput_gbps: gbps(each),
        bytes: counters.measured_bytes,
        measured_ns: counters.measured_ns,
        cpu_ns_per_byte: cpuPerGb(counters.cpu_ns, counters.measured_bytes) ?? null,
        peer_cpu_ns_per_byte: cpuPerGb(counters.peer_cpu_ns, counters.peer_bytes) ?? null,
        verified_bytes: verified,
        corrupt_bytes: corrupt,
        retransmitted_bytes: counters.rtx_bytes,
        counters,
      }];
    })),
    ...(intervals === undefined ? {} : { intervals }),
    stats: outcome.stats,
    machine: machineFacts(ready.host),
  });
}

export function registerStream(dcpim: Command, context: Context): void {
  const bare = dcpim.command("stream").description("measure the goodput of streams to a dcPIM server")
    .argument("<host:port>", "a rackwire dcpim server", parseEndpoint)
    .option(
      "--duration <duration>",
      "how long to measure (default: 5s without --bytes)",
      parsePositiveDuration,
    )
    .option(
      "--bytes <bytes>",
      "how much each stream carries (default: as much as the time allows)",
      (text) => {
        const bytes = parseBytes(text);
        return bytes > 0 ? bytes : parseCount(1)(text);
      },
    )
    .option(
      "--warmup <duration>",
      "sending before that does not count (default: 100ms without --bytes)",
      parseDuration,
    )
    .option("--parallel <n>", "streams at a time (default: 1)", parseCount(1, WORK_LIMITS.connections))
    .option("--reverse", "from the server to here")
    .option("--size <bytes>", "bytes of a write (default: 64KiB)", parseSize)
    .option("--interval <duration>", "a line of figures each so often", parsePositiveDuration)
    .option("--sp <port>", "the local port of the first stream (default: any)", parsePort)
    .option("--no-validate", "do not check the bytes that arrive");
  const command = withPlotOption(
    withOutputOptions(withEngineOptions(withBaselineOption(bare))),
  );
  withExamples(command, [
    ["rackwire dcpim stream 10.0.0.2:4000", "five seconds, every byte checked"],
    ["rackwire dcpim stream 10.0.0.2:4000 --parallel 4 --interval 1s", "four streams, a line each second"],
    ["rackwire dcpim stream 10.0.0.2:4000 --baseline tcp", "beside kernel TCP"],
    ["rackwire dcpim stream 10.0.0.2:4000 --reverse --bytes 1GiB --json", "a gibibyte the other way"],
  ]);
  command.action((target, options) =>
    interruptible(context, async (signal) => {
      const { bytes, parallel = 1, reverse = false, validate, size = DEFAULT_SIZE } = options;
      const timed = bytes === undefined || options.duration !== undefined;
      const durationNs = timed ? options.duration ?? DEFAULT_DURATION_NS : undefined;
      const warmupNs = options.warmup ?? (bytes === undefined ? DEFAULT_WARMUP_NS : 0);
      const plan: Plan = {
        reverse,
        validate,
        parallel,
        transports: ["dcpim", ...options.baseline ?? []],
      };
      if (reverse && plan.transports.includes("udp")) {
        throw new RackwireError(
          "EINVAL",
          "--reverse cannot be compared with udp, which has nobody to pace it",
          {
            hint: "--baseline tcp can be reversed",
            exitStatus: 2,
          },
        );
      }
      using file = OutputFile.prepare(options.plot);
      const ready = await prepare(context, target, engineOptions(options));
      const run = serviceOf(context).startStream({
        peer: ready.peer,
        port: target.port,
        sourcePort: options.sp,
        engine: ready.engine,
        transports: plan.transports,
        connections: parallel,
        durationNs,
        warmupNs,
        bytes,
        length: size,
        reverse,
        validate,
      });
      const where = targetText(target, ready.peer);
      const lines = options.interval !== undefined || options.plot !== undefined
        ? new GoodputLines(plan.transports, reverse)
        : undefined;
      const shown = options.interval !== undefined && !options.quiet;
      const outcome = await watch(context, signal, run, target, {
        heading: options.json || options.quiet
          ? ""
          : `${counted(parallel, "stream")} ${
            reverse ? "from" : "to"
          } ${where}, engine ${run.engine}, writes of ${formatBytes(size)}, ${
            validate ? "every byte checked" : "bytes not checked"
          }\n`,
        label: `stream ${where}`,
        // With a line for each interval there is nothing more to show.
        share: options.quiet || shown ? undefined : shareOf(plan.transports, {
          durationNs,
          warmupNs,
          perTransport: bytes === undefined ? undefined : bytes * parallel,
          done: reverse ? "rx_bytes" : "tx_bytes",
        }),
        intervalNs: options.interval ?? PLOT_INTERVAL_NS,
        onInterval: lines === undefined ? undefined : (now, before) => {
          const interval = lines.add(now, before);
          if (!shown) return;
          if (options.json) context.out.write(jsonLine("rackwire.dcpim.stream.interval/1", interval));
          else context.out.write(lines.text(interval, context.out.style));
        },
      });
      if (file !== undefined) {
        file.write(svgPlot({
          title: `Goodput ${reverse ? "from" : "to"} ${where}`,
          subtitle: `${counted(parallel, "stream")}, engine ${run.engine}`,
          x: { label: "time (s)" },
          y: { label: "goodput (Gbit/s)" },
          series: lines!.series().map(([name, points]) => ({ name: TRANSPORT_NAMES[name], points })),
        }));
      }
      context.out.write(
        options.json
          ? resultJson(outcome, plan, target, ready, shown ? lines?.intervals : undefined)
          : resultText(outcome, plan, context, options.quiet ?? false),
      );
      failIfCorrupt(outcome);
    })
  );
}

const PLOT_INTERVAL_NS = 250e6;

function parseSize(text: string): number {
  const size = parseBytes(text);
  return size >= 1 && size <= WORK_LIMITS.length ? size : parseCount(1, WORK_LIMITS.length)(String(size));
}
