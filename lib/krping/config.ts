// SPDX-License-Identifier: BSD-2-Clause
// Which RDMA engine krping runs on, and what all its runs let one choose.

import { RackwireError } from "../ffi/errors.ts";
import { type EngineFact, engineFacts } from "../host/engines.ts";
import type { HostFacts } from "../host/facts.ts";
import type { Address } from "../host/resolve.ts";

/** Best first. */
export const KRPING_ENGINES = ["verbs", "soft"] as const;
export type KrpingEngineName = (typeof KRPING_ENGINES)[number];

/** Numbers of `enum rackwire_krping_engine`. */
export const ENGINE_NUMBERS: Record<KrpingEngineName, number> = { verbs: 2, soft: 3 };

/** Limits of the C side, both ends included. */
export const KRPING_LIMITS = {
  size: { lowest: 1, highest: 2 ** 30 },
  txdepth: { lowest: 1, highest: 8192 },
  connections: { lowest: 1, highest: 4096 },
  tos: { lowest: 0, highest: 255 },
  retries: { lowest: 0, highest: 7 },
  ack_timeout: { lowest: 1, highest: 31 },
} as const;

export const PATH_MTUS = [256, 512, 1024, 2048, 4096] as const;

/** What every run over RDMA can be told. */
export interface KrpingEngineOptions {
  /** Default: auto, the first that works here. */
  engine?: KrpingEngineName | "auto";
  /** Payload of a packet; the engine's choice unless given. */
  mtu?: (typeof PATH_MTUS)[number];
  /** Spin instead of sleeping. */
  poll?: boolean;
  /** Slow down on congestion notifications, and mark packets so that switches can give them. Engine soft. */
  ecn?: boolean;
  /** false: without the kernel's segmentation offloads. Engine soft. */
  offload?: boolean;
}

/** An error of usage. */
export function refuse(message: string, hint?: string): RackwireError {
  return new RackwireError("EINVAL", message, { exitStatus: 2, hint });
}

/** @throws RackwireError EINVAL with exit status 2 */
export function checkWhole(name: string, value: number | undefined, lowest: number, highest: number): void {
  if (value === undefined) return;
  if (!Number.isSafeInteger(value) || value < lowest || value > highest) {
    throw refuse(`${name} ${value} is not a whole number from ${lowest} to ${highest}`);
  }
}

/**
 * Which engine to run: the one asked for, or the first that works.
 * @throws RackwireError ENGINE_UNAVAILABLE with exit status 3 and what would change it
 */
export function chooseKrpingEngine(asked: KrpingEngineName | "auto", facts: HostFacts): KrpingEngineName {
  const engines = engineFacts(facts).filter(({ service }) => service === "krping");
  const refuseEngine = ({ engine, why, hint }: EngineFact) =>
    new RackwireError("ENGINE_UNAVAILABLE", `the engine ${engine} cannot run here: ${why}`, {
      hint: hint || "rackwire doctor says which engines work",
      exitStatus: 3,
    });
  const wanted = engines.filter(({ engine }) => asked === "auto" || engine === asked);
  const working = wanted.find(({ works }) => works);
  if (working === undefined) throw refuseEngine(wanted.at(-1)!);
  return working.engine as KrpingEngineName;
}

/** An address as C reads it: "fe80::1%eth0". */
export function addressText({ address, zone }: Address): string {
  return zone === undefined ? address : `${address}%${zone}`;
}
