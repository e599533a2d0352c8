// SPDX-License-Identifier: BSD-2-Clause
// Options that the krping commands share.

import { type Command, InvalidArgumentError, Option, type OptionValues } from "@commander-js/extra-typings";
import {
  KRPING_ENGINES,
  KRPING_LIMITS,
  type KrpingEngineName,
  type KrpingEngineOptions,
  PATH_MTUS,
} from "../../../lib/krping/config.ts";
import type { KrpingOptions } from "../../../lib/krping/work.ts";
import { withEngineOption } from "../../options/groups.ts";
import { formatBytes, parseBytes, parseCount } from "../../options/quantities.ts";

type PathMtu = (typeof PATH_MTUS)[number];

function parseMtu(text: string): PathMtu {
  const mtu = PATH_MTUS.find((each) => String(each) === text);
  if (mtu === undefined) throw new InvalidArgumentError(`Expected ${PATH_MTUS.join(", ")}.`);
  return mtu;
}

/** Bytes of a ping or an operation. */
export function parseSize(text: string): number {
  const { lowest, highest } = KRPING_LIMITS.size;
  const size = parseBytes(text);
  if (size >= lowest && size <= highest) return size;
  throw new InvalidArgumentError(`Expected ${formatBytes(lowest)} to ${formatBytes(highest)}.`);
}

/** What withEngineGroup() parses to; a type, for commander wants an index signature. */
export type EngineFlags = {
  engine: KrpingEngineName | "auto";
  mtu?: PathMtu;
  poll?: true;
  ecn?: true;
  offload: boolean;
};

/** --engine and how it moves packets. */
export function withEngineGroup<
  Args extends unknown[],
  Opts extends OptionValues,
  Global extends OptionValues,
>(command: Command<Args, Opts, Global>): Command<Args, Opts & EngineFlags, Global> {
  withEngineOption((command as unknown as Command).optionsGroup("Engine:"), KRPING_ENGINES)
    .option("--mtu <bytes>", `payload of a packet: ${PATH_MTUS.join(", ")} (default: what fits)`, parseMtu)
    .option("--poll", "look for completions without ever sleeping: quicker answers for a whole CPU")
    .option("--ecn", "slow down where switches mark packets (engine soft)")
    .option("--no-offload", "do without the kernel's segmentation offloads (engine soft)");
  return command as unknown as Command<Args, Opts & EngineFlags, Global>;
}

export function engineOptions({ engine, mtu, poll, ecn, offload }: EngineFlags): KrpingEngineOptions {
  return { engine, mtu, poll, ecn, offload };
}

/** What withKrpingGroup() parses to. */
export type KrpingFlags = {
  verbose?: true;
  serverInv?: true;
  readInv?: true;
  localDmaLkey?: true;
  memMode?: "dma" | "reg";
  pin?: number;
};

/** The original's options that both roles know. */
export function withKrpingGroup<
  Args extends unknown[],
  Opts extends OptionValues,
  Global extends OptionValues,
>(command: Command<Args, Opts, Global>): Command<Args, Opts & KrpingFlags, Global> {
  (command as unknown as Command)
    .option("--pin <cpu>", "run on this CPU", parseCount(0, 1023))
    .optionsGroup("Ping:")
    .option("--verbose", "print the data of every ping")
    .option("--server-inv", "the server's go-ahead invalidates the client's key")
    .option("--read-inv", "the server's READ invalidates its own key")
    .option("--local-dma-lkey", "the server WRITEs from memory without a region")
    .addOption(
      new Option("--mem-mode <mode>", "dma: one registration; reg: a new key for each advertisement")
        .choices(["dma", "reg"] as const),
    );
  return command as unknown as Command<Args, Opts & KrpingFlags, Global>;
}

export function krpingOptions(options: EngineFlags & KrpingFlags): KrpingOptions {
  const { verbose, serverInv, readInv, localDmaLkey, memMode, pin } = options;
  return {
    ...engineOptions(options),
    verbose,
    serverInv,
    readInv,
    localDmaLkey,
    memMode,
    cpu: pin,
  };
}
