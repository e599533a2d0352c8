// SPDX-License-Identifier: BSD-2-Clause
// rackwire dcpim ping: round trips. Also under the prototype's names dcpimping, dcpimpingmsg and tcpping.

import { type Command, Option } from "@commander-js/extra-typings";
import { DCPIM_MAX_MESSAGE } from "../../../lib/dcpim/config.ts";
import {
  type PingOptions,
  type Transport,
  type TransportFigures,
  WORK_LIMITS,
  WORK_MIN_DATAGRAM,
} from "../../../lib/dcpim/workload.ts";
import { RackwireError } from "../../../lib/ffi/errors.ts";
import { type Context, interruptible } from "../../context.ts";
import { type Endpoint, parseEndpoint, parsePort, targetText } from "../../options/endpoint.ts";
import { withExamples, withOutputOptions, withPlotOption } from "../../options/groups.ts";
import {
  formatBytes,
  formatDuration,
  parseBytes,
  parseCount,
  parseDuration,
  parsePositiveDuration,
} from "../../options/quantities.ts";
import { histogramChart } from "../../output/chart.ts";
import { jsonDocument } from "../../output/json.ts";
import { svgPercentiles } from "../../output/svg.ts";
import { machineFacts } from "../../output/machine.ts";
import { microseconds, whole } from "../../output/numbers.ts";
import { OutputFile } from "../../output/output_file.ts";
import { fittingTable } from "../../output/table.ts";
import { failIfCorrupt, type Outcome, prepare, type Prepared, serviceOf, shareOf, watch } from "./client.ts";
import { engineOptions, withBaselineOption, withEngineOptions } from "./options.ts";
import { figuresOf, protocolText, TRANSPORT_NAMES } from "./present.ts";

const DEFAULT_DURATION_NS = 3e9;
const DEFAULT_WARMUP_NS = 100e6;
const DEFAULT_LENGTH = 64;

interface Plan {
  length: number;
  short: boolean;
  count?: number;
  durationNs?: number;
  warmupNs: number;
  intervalNs: number;
  iodepth: number;
  transports: Transport[];
}

function lost({ counters }: TransportFigures): number {
  const sent = counters.completed + counters.lost;
  return sent === 0 ? 0 : counters.lost / sent;
}

function resultText(outcome: Outcome, plan: Plan, context: Context, quiet: boolean): string {
  const { out } = context;
  const figures = figuresOf(outcome);
  const right = (title: string) => ({ title, align: "right" as const });
  const summary = fittingTable(
    [
      { title: "us" },
      ...["pings", "lost", "resent", "p50", "p90", "p99", "p99.9", "max"].map(right),
    ],
    figures.map(([name, each]) => {
      const { latency, counters } = each;
      const at = (percent: number) => latency.count === 0 ? "-" : microseconds(latency.percentile(percent));
      return [
        TRANSPORT_NAMES[name],
        whole(counters.completed),
        counters.lost === 0
          ? "0"
          : out.style.red(`${whole(counters.lost)} (${(lost(each) * 100).toFixed(2)} %)`),
        name === "udp" ? "" : formatBytes(counters.rtx_bytes),
        at(50),
        at(90),
        at(99),
        at(99.9),
        at(100),
      ];
    }),
    out,
  );
  if (quiet) return summary;
  const charts = figures.filter(([, { latency }]) => latency.count > 0).map(([name, { latency }]) => {
    const alone = figures.length === 1;
    const chart = histogramChart(latency, {
      unit: 1000,
      unitName: "us",
      columns: out.columns,
      rows: alone ? 16 : 8,
      style: out.style,
    });
    return alone ? chart : `${out.style.bold(TRANSPORT_NAMES[name])}\n${chart}`;
  });
  const parts = [...charts, summary];
  if (plan.transports.includes("dcpim")) parts.push(protocolText(outcome.stats, out));
  return `\n${parts.join("\n")}`;
}

function resultJson(outcome: Outcome, plan: Plan, target: Endpoint, ready: Prepared): string {
  const rtt = ({ latency }: TransportFigures) => {
    const { count: _, ...us } = latency.summary(1000);
    return us;
  };
  const figures = figuresOf(outcome);
  return jsonDocument("rackwire.dcpim.ping/1", {
    target: { ...target, address: ready.peer.address },
    engine: ready.engine.engine,
    kind: plan.short ? "short" : "long",
    length_bytes: plan.length,
    iodepth: plan.iodepth,
    interval_ns: plan.intervalNs,
    warmup_ns: plan.warmupNs,
    stopped: outcome.stopped,
    // Of the first transport: dcPIM, where it was asked for.
    rtt_us: rtt(figures[0]![1]),
    transports: Object.fromEntries(figures.map(([name, each]) => [name, {
      rtt_us: rtt(each),
      pings: each.counters.completed,
      lost: each.counters.lost,
      loss_ratio: lost(each),
      retransmitted_bytes: each.counters.rtx_bytes,
      pings_per_s: each.counters.measured_ns > 0
        ? each.counters.completed / (each.counters.measured_ns / 1e9)
        : 0,
      counters: each.counters,
      histogram_ns: each.latency.buckets(),
    }])),
    stats: outcome.stats,
    machine: machineFacts(ready.host),
  });
}

function pathText(plan: Plan, engine: string): string {
  return plan.transports.includes("dcpim")
    ? `${plan.short ? "short messages" : "a long flow"}, engine ${engine}`
    : "kernel TCP";
}

function headingText(plan: Plan, where: string, engine: string): string {
  const pace = plan.intervalNs === 0 ? "" : `, every ${formatDuration(plan.intervalNs)}`;
  const others = plan.transports.slice(1).map((name) => TRANSPORT_NAMES[name]).join(" and ");
  const turns = others === "" ? "" : `, in turns with ${others}`;
  return `ping ${where}: ${formatBytes(plan.length)}, ${plan.iodepth} at a time${pace}, over ${
    pathText(plan, engine)
  }${turns}\n`;
}

function plot(outcome: Outcome, plan: Plan, target: string, engine: string): string {
  const figures = figuresOf(outcome).filter(([, { latency }]) => latency.count > 0);
  const what = {
    title: `Round trips to ${target}`,
    subtitle: `${formatBytes(plan.length)}, ${plan.iodepth} at a time, over ${pathText(plan, engine)}`,
    label: "round trip (us)",
    unit: 1000,
  };
  return svgPercentiles(
    Object.fromEntries(figures.map(([name, { latency }]) => [TRANSPORT_NAMES[name], latency])),
    what,
  );
}

function refuse(message: string, hint: string): RackwireError {
  return new RackwireError("EINVAL", message, { hint, exitStatus: 2 });
}

function checkLength({ length, short, transports }: Plan): void {
  if (short && transports.includes("dcpim") && length > DCPIM_MAX_MESSAGE) {
    throw refuse(
      `--length ${formatBytes(length)} is over the limit of a message, ${formatBytes(DCPIM_MAX_MESSAGE)}`,
      "send less, or use --long",
    );
  }
  if (length > WORK_LIMITS.length) {
    throw refuse(
      `--length ${formatBytes(length)} is over the limit, ${formatBytes(WORK_LIMITS.length)}`,
      "send less",
    );
  }
  if (transports.includes("udp") && (length > WORK_LIMITS.datagram || length < WORK_MIN_DATAGRAM)) {
    throw refuse(
      `--length ${length} does not fit UDP, which takes ${WORK_MIN_DATAGRAM} to ${WORK_LIMITS.datagram} bytes`,
      "change the length, or leave udp out of --baseline",
    );
  }
}

interface Flavour {
  name: string;
  description: string;
  /** Fixed by the prototype's names. */
  short?: boolean;
  transports?: Transport[];
  examples: [string, string][];
}

const FLAVOURS: Flavour[] = [
  {
    name: "ping",
    description: "measure round trips to a dcPIM server",
    examples: [
      ["rackwire dcpim ping 10.0.0.2:4000", "three seconds, one ping after the other"],
      ["rackwire dcpim ping 10.0.0.2:4000 --count 1000 --short --length 4KiB", "a thousand short messages"],
      [
        "rackwire dcpim ping 10.0.0.2:4000 --baseline tcp,udp --plot rtt.svg",
        "beside the kernel's own, with a plot",
      ],
      ["rackwire dcpim ping 10.0.0.2:4000 --json | jq .rtt_us.p99", "one figure, for a program"],
    ],
  },
  {
    name: "dcpimping",
    description: "ping over a long flow (ping --long)",
    short: false,
    examples: [
      ["rackwire dcpim dcpimping 10.0.0.2:4000 --count 5", "five round trips over a stream"],
      [
        "rackwire dcpim 10.0.0.2:4000 --count 5 dcpimping",
        "the same, as the prototype's dcpim_test takes it",
      ],
    ],
  },
  {
    name: "dcpimpingmsg",
    description: "ping with short messages (ping --short)",
    short: true,
    examples: [
      ["rackwire dcpim dcpimpingmsg 10.0.0.2:4000 --count 5", "five round trips of a message"],
      [
        "rackwire dcpim 10.0.0.2:4000 --count 5 dcpimpingmsg",
        "the same, as the prototype's dcpim_test takes it",
      ],
    ],
  },
  {
    name: "tcpping",
    description: "the same ping over kernel TCP",
    short: false,
    transports: ["tcp"],
    examples: [
      ["rackwire dcpim tcpping 10.0.0.2:4000 --count 5", "five round trips over kernel TCP"],
      ["rackwire dcpim 10.0.0.2:4000 --count 5 tcpping", "the same, as the prototype's dcpim_test takes it"],
    ],
  },
];

function registerFlavour(dcpim: Command, context: Context, flavour: Flavour): void {
  const fixed = flavour.name !== "ping";
  const bare = dcpim.command(flavour.name, { hidden: fixed }).description(flavour.description)
    .argument("<host:port>", "a rackwire dcpim server", parseEndpoint)
    .option("--count <n>", "pings to measure (default: as many as the duration allows)", parseCount(1))
    .option("--interval <duration>", "from one ping to the next (default: none)", parseDuration)
    .option("--length <bytes>", `bytes of a ping and of its answer (default: ${DEFAULT_LENGTH})`, parseBytes)
    .option("--sp <port>", "the local port (default: any)", parsePort)
    .option(
      "--duration <duration>",
      "how long to measure (default: 3s without --count)",
      parsePositiveDuration,
    )
    .option(
      "--warmup <duration>",
      "pings before that do not count (default: 100ms without --count)",
      parseDuration,
    )
    .addOption(new Option("--short", "over short messages").conflicts("long").hideHelp(fixed))
    .addOption(new Option("--long", "over a long flow, the default").hideHelp(fixed))
    .option("--iodepth <n>", "pings under way at a time (default: 1)", parseCount(1, WORK_LIMITS.iodepth));
  const command = withPlotOption(
    withOutputOptions(withEngineOptions(withBaselineOption(bare))),
  );
  withExamples(command, flavour.examples);
  command.action((target, options) =>
    interruptible(context, async (signal) => {
      const { count, iodepth = 1, length = DEFAULT_LENGTH, interval = 0, sp } = options;
      const timed = count === undefined || options.duration !== undefined;
      const durationNs = timed ? options.duration ?? DEFAULT_DURATION_NS : undefined;
      const plan: Plan = {
        length,
        short: flavour.short ?? options.short ?? false,
        count,
        durationNs,
        warmupNs: options.warmup ?? (count === undefined ? DEFAULT_WARMUP_NS : 0),
        intervalNs: interval,
        iodepth,
        transports: [...new Set([...flavour.transports ?? ["dcpim" as const], ...options.baseline ?? []])],
      };
      if (fixed && (options.short || options.long)) {
        throw refuse(
          `${flavour.name} is always ${plan.short ? "short" : "long"}`,
          "use rackwire dcpim ping to choose",
        );
      }
      checkLength(plan);
      using file = OutputFile.prepare(options.plot);
      const ready = await prepare(context, target, engineOptions(options));
      const run = serviceOf(context).startPing(
        {
          peer: ready.peer,
          port: target.port,
          sourcePort: sp,
          engine: ready.engine,
          transports: plan.transports,
          length,
          count,
          short: plan.short,
          durationNs,
          warmupNs: plan.warmupNs,
          intervalNs: interval,
          iodepth,
        } satisfies PingOptions,
      );
      const where = targetText(target, ready.peer);
      const outcome = await watch(context, signal, run, target, {
        heading: options.json || options.quiet ? "" : headingText(plan, where, run.engine),
        label: `ping ${where}`,
        share: options.quiet
          ? undefined
          : shareOf(plan.transports, { durationNs, warmupNs: plan.warmupNs, perTransport: count }),
      });
      if (file !== undefined) file.write(plot(outcome, plan, where, run.engine));
      context.out.write(
        options.json
          ? resultJson(outcome, plan, target, ready)
          : resultText(outcome, plan, context, options.quiet ?? false),
      );
      failIfCorrupt(outcome);
      failIfNothingCame(outcome, plan);
    })
  );
}

function failIfNothingCame(outcome: Outcome, plan: Plan): void {
  if (outcome.stopped) return;
  for (const [name, { counters }] of figuresOf(outcome)) {
    if (counters.completed > 0 || counters.lost === 0) continue;
    throw new RackwireError("ETIMEDOUT", `no ping over ${TRANSPORT_NAMES[name]} was answered in time`, {
      hint: plan.transports.length > 1
        ? "a firewall may let only some of them through"
        : "check the network between",
    });
  }
}

export function registerPing(dcpim: Command, context: Context): void {
  for (const flavour of FLAVOURS) registerFlavour(dcpim, context, flavour);
}
