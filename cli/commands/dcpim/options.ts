// SPDX-License-Identifier: BSD-2-Clause
// Options that the dcPIM commands share: the engine and the protocol's parameters.

import { type Command, InvalidArgumentError, Option, type OptionValues } from "@commander-js/extra-typings";
import {
  DCPIM_ENGINES,
  DCPIM_LIMITS,
  type DcpimEngineName,
  type DcpimEngineOptions,
  ENGINE_LIMITS,
  FIRST_PARTS,
  type FirstPart,
  type Limit,
} from "../../../lib/dcpim/config.ts";
import type { Transport } from "../../../lib/dcpim/workload.ts";
import { withEngineOption, withPinOption } from "../../options/groups.ts";
import {
  formatBytes,
  formatDuration,
  formatRate,
  parseBytes,
  parseCount,
  parsePositiveDuration,
  parseRate,
} from "../../options/quantities.ts";

/** A parser that also refuses what the protocol cannot take. */
function within(
  parse: (text: string) => number,
  { lowest, highest }: Limit,
  format: (value: number) => string = String,
): (text: string) => number {
  return (text) => {
    const value = parse(text);
    if (value >= lowest && value <= highest) return value;
    throw new InvalidArgumentError(`Expected ${format(lowest)} to ${format(highest)}.`);
  };
}

/** 1, 1.3, 2.125: no finer than a thousandth, as the engine takes it. */
function parseFactor(text: string): number {
  if (/^\d{1,3}(\.\d{1,3})?$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Expected a number such as 1 or 1.3, with up to three decimals.");
}

/**
 * How the engine runs. What the options parse to is written down in EngineFlags rather than inferred: for
 * so many options the compiler would need minutes.
 */
function addEngineOptions(command: Command): void {
  withPinOption(withEngineOption(command.optionsGroup("Engine:"), DCPIM_ENGINES) as unknown as Command)
    .option(
      "--threads <n>",
      "engine threads, each with its share of the rate (default: 1)",
      within(parseCount(), ENGINE_LIMITS.threads),
    )
    .option("--busy-poll", "look for packets without ever sleeping: quicker answers for a whole CPU")
    .option("--no-offload", "do without the kernel's segmentation offloads")
    .option("--crc", "a CRC32C on the udp engine's packets; both ends must agree");
}

/** The parameters of the paper. */
function addProtocolOptions(command: Command): void {
  const limits = DCPIM_LIMITS;
  command
    .optionsGroup("Protocol:")
    .option(
      "--rate <rate>",
      "what this host sends and receives at most (default: the interface's speed, else 100gbit)",
      within(parseRate, limits.rate_bps, formatRate),
    )
    .option(
      "--ctrl-rtt <duration>",
      "a control packet's way there and back (default: 100us)",
      within(parsePositiveDuration, limits.ctrl_rtt_ns, formatDuration),
    )
    .option(
      "--data-rtt <duration>",
      "a data packet's, under load (default: 200us)",
      within(parsePositiveDuration, limits.data_rtt_ns, formatDuration),
    )
    .option(
      "--alpha <factor>",
      "data phase over matching phase (default: 1)",
      within(parseFactor, limits.alpha),
    )
    .option(
      "--beta <factor>",
      "round over control round trip (default: 1.3)",
      within(parseFactor, limits.beta),
    )
    .option("--rounds <n>", "matching rounds in an epoch (default: 4)", within(parseCount(), limits.rounds))
    .option(
      "--channels <n>",
      "channels a host is matched on at a time (default: 4)",
      within(parseCount(), limits.channels),
    )
    .option(
      "--mtu <bytes>",
      "largest IP packet (default: the route's)",
      within(parseBytes, limits.mtu, formatBytes),
    )
    .option(
      "--short-threshold <bytes>",
      "flows up to this start unmatched (default: rate x data-rtt)",
      within(parseBytes, limits.short_threshold, formatBytes),
    )
    .option(
      "--window <bytes>",
      "tokens outstanding per peer (default: rate x data-rtt)",
      within(parseBytes, limits.window, formatBytes),
    )
    .option(
      "--token-batch <bytes>",
      "what one token packet allows (default: by the window)",
      within(parseBytes, limits.token_batch, formatBytes),
    )
    .addOption(
      new Option("--first-part <how>", "what longer flows send before they are matched").choices(FIRST_PARTS)
        .default("off" as const),
    )
    .option(
      "--first-part-bytes <bytes>",
      "how much of it",
      within(parseBytes, limits.first_part_bytes, formatBytes),
    )
    .option(
      "--dead-after <duration>",
      "give a silent peer up after so long (default: 15s)",
      within(parsePositiveDuration, ENGINE_LIMITS.dead_after_ns, formatDuration),
    )
    .option(
      "--connect-timeout <duration>",
      "try to connect for so long (default: 5s)",
      within(parsePositiveDuration, ENGINE_LIMITS.connect_timeout_ns, formatDuration),
    );
}

/** What the two groups parse to; a type and not an interface, for commander wants an index signature. */
export type EngineFlags = {
  engine: DcpimEngineName | "auto";
  pin?: number[];
  threads?: number;
  busyPoll?: true;
  offload: boolean;
  crc?: true;
  rate?: number;
  ctrlRtt?: number;
  dataRtt?: number;
  alpha?: number;
  beta?: number;
  rounds?: number;
  channels?: number;
  mtu?: number;
  shortThreshold?: number;
  window?: number;
  tokenBatch?: number;
  firstPart: FirstPart;
  firstPartBytes?: number;
  deadAfter?: number;
  connectTimeout?: number;
};

/** Both groups: how the engine runs, and the protocol's parameters. */
export function withEngineOptions<
  Args extends unknown[],
  Opts extends OptionValues,
  Global extends OptionValues,
>(command: Command<Args, Opts, Global>): Command<Args, Opts & EngineFlags, Global> {
  addEngineOptions(command as unknown as Command);
  addProtocolOptions(command as unknown as Command);
  return command as unknown as Command<Args, Opts & EngineFlags, Global>;
}

/** What the two groups above were given, for lib/dcpim. */
export function engineOptions(options: EngineFlags): DcpimEngineOptions {
  return {
    engine: options.engine,
    threads: options.threads,
    cpus: options.pin,
    busy_poll: options.busyPoll,
    offload: options.offload,
    crc: options.crc,
    dead_after_ns: options.deadAfter,
    connect_timeout_ns: options.connectTimeout,
    protocol: {
      rate_bps: options.rate,
      ctrl_rtt_ns: options.ctrlRtt,
      data_rtt_ns: options.dataRtt,
      alpha: options.alpha,
      beta: options.beta,
      rounds: options.rounds,
      channels: options.channels,
      mtu: options.mtu,
      short_threshold: options.shortThreshold,
      window: options.window,
      token_batch: options.tokenBatch,
      first_part: options.firstPart,
      first_part_bytes: options.firstPartBytes,
    },
  };
}

export type Baseline = Exclude<Transport, "dcpim">;

/** tcp, udp, or both with a comma between. */
export function parseBaselines(text: string): Baseline[] {
  const names = text.split(",").map((name) => name.trim());
  if (names.every((name): name is Baseline => name === "tcp" || name === "udp")) return [...new Set(names)];
  throw new InvalidArgumentError("Expected tcp, udp or tcp,udp.");
}

/** --baseline: the same work over the kernel's own transports. */
export function withBaselineOption<
  Args extends unknown[],
  Opts extends OptionValues,
  Global extends OptionValues,
>(command: Command<Args, Opts, Global>) {
  return command.option(
    "--baseline <tcp,udp>",
    "do the same over kernel sockets too, in turns with dcPIM",
    parseBaselines,
  );
}
