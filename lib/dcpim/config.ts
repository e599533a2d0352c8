// SPDX-License-Identifier: BSD-2-Clause
// What a dcPIM engine can be told, with the limits the C side has (csrc/dcpim/core/dcpim_cfg.c), so that
// a value out of range is refused before anything is opened.

import { RackwireError } from "../ffi/errors.ts";
import { type EngineFact, engineFacts } from "../host/engines.ts";
import type { HostFacts } from "../host/facts.ts";
import type { Address } from "../host/resolve.ts";
import { sockaddr } from "../host/sockaddr.ts";

/** `raw`: IP protocol 254, needs CAP_NET_RAW. `udp`: inside UDP, needs nothing. */
export type DcpimEngineName = "raw" | "udp";
export const DCPIM_ENGINES = ["udp", "raw"] as const satisfies readonly DcpimEngineName[];

export type FirstPart = "off" | "unscheduled" | "spare";
export const FIRST_PARTS = ["off", "unscheduled", "spare"] as const satisfies readonly FirstPart[];

/** The parameters of the paper and of what it leaves open; each has a default. */
export interface DcpimProtocol {
  /** Bits per second, of all threads together. Default: the interface's speed, else 100 Gbit/s. */
  rate_bps?: number;
  /** A control packet's way there and back. */
  ctrl_rtt_ns?: number;
  data_rtt_ns?: number;
  /** Data phase over matching phase. */
  alpha?: number;
  /** Round over control round trip. */
  beta?: number;
  rounds?: number;
  channels?: number;
  /** Largest IP packet in bytes. Default: the route's. */
  mtu?: number;
  /** Bytes sent without matching. Default: one bandwidth-delay product. */
  short_threshold?: number;
  /** Bytes of tokens outstanding per peer. Default: one bandwidth-delay product. */
  window?: number;
  /** Bytes per token packet. */
  token_batch?: number;
  /** What a long flow may send before it is matched. */
  first_part?: FirstPart;
  first_part_bytes?: number;
}

export interface DcpimEngineOptions {
  /** Default: `auto`, the first that works here. */
  engine?: DcpimEngineName | "auto";
  /** Engine threads, each a protocol instance with its share of the rate. Default: 1. */
  threads?: number;
  /** CPUs the threads run on; thread i on cpus[i % cpus.length]. */
  cpus?: readonly number[];
  /** Looks for packets without ever sleeping. */
  busy_poll?: boolean;
  /** Segmentation offloads of the kernel where it has them. Default: true. */
  offload?: boolean;
  /** A CRC32C on UDP packets too; both ends must agree. */
  crc?: boolean;
  /** A control socket for `rackwire dcpim stat`. Default: true. */
  control?: boolean;
  /** Where sockets without an address of their own are. */
  local?: Address;
  /** A peer to come, whose route gives the default rate. */
  towards?: Address;
  /** Nanoseconds until a silent peer counts as dead. Default: 15 s. */
  dead_after_ns?: number;
  /** Nanoseconds a connection attempt may take. Default: 5 s. */
  connect_timeout_ns?: number;
  protocol?: DcpimProtocol;
}

const US = 1e3;
const MS = 1e6;
const SECOND = 1e9;
const GIB = 2 ** 30;

export interface Limit {
  lowest: number;
  highest: number;
  /** Fractions are allowed, down to this step. */
  step?: number;
  /** 0 is allowed too: the default. */
  zero?: boolean;
  unit: string;
}

/** Limits of the protocol's numbers, both included. */
export const DCPIM_LIMITS = {
  rate_bps: { lowest: 1e6, highest: 1e12, unit: "bit/s" },
  ctrl_rtt_ns: { lowest: US, highest: 10 * SECOND, unit: "ns" },
  data_rtt_ns: { lowest: US, highest: 10 * SECOND, unit: "ns" },
  alpha: { lowest: 1, highest: 10, step: 0.001, unit: "" },
  beta: { lowest: 1, highest: 20, step: 0.001, unit: "" },
  rounds: { lowest: 1, highest: 16, unit: "" },
  channels: { lowest: 1, highest: 16, unit: "" },
  mtu: { lowest: 576, highest: 65536, unit: "B" },
  short_threshold: { lowest: 1, highest: GIB, unit: "B" },
  window: { lowest: 256, highest: GIB, unit: "B" },
  token_batch: { lowest: 1, highest: GIB, unit: "B" },
  first_part_bytes: { lowest: 1, highest: 2 * GIB, unit: "B" },
} as const satisfies Record<Exclude<keyof DcpimProtocol, "first_part">, Limit>;

export const ENGINE_LIMITS = {
  threads: { lowest: 1, highest: 64, unit: "" },
  dead_after_ns: { lowest: MS, highest: 86400 * SECOND, unit: "ns" },
  connect_timeout_ns: { lowest: MS, highest: 3600 * SECOND, unit: "ns" },
} as const satisfies Record<string, Limit>;

/** Most bytes in one message (the engine's default for `max_msg`). */
export const DCPIM_MAX_MESSAGE = 16 * 2 ** 20;
const MAX_CPUS = 64;

const DEFAULTS = {
  ctrl_rtt_ns: 100 * US,
  data_rtt_ns: 200 * US,
  alpha: 1,
  beta: 1.3,
  rounds: 4,
} as const;

function refuse(message: string, hint?: string): RackwireError {
  return new RackwireError("EINVAL", message, { exitStatus: 2, hint });
}

function inLimits(value: number, limit: Limit): boolean {
  const { lowest, highest, step = 1 } = limit;
  const steps = value / step;
  return value >= lowest && value <= highest && Math.abs(steps - Math.round(steps)) < 1e-6;
}

function checkNumbers(values: object, limits: Record<string, Limit>): void {
  for (const [name, limit] of Object.entries(limits)) {
    const value = (values as Record<string, unknown>)[name];
    if (value === undefined) continue;
    if (typeof value !== "number" || !inLimits(value, limit)) {
      const unit = limit.unit === "" ? "" : ` ${limit.unit}`;
      throw refuse(`${name} ${value} is not from ${limit.lowest} to ${limit.highest}${unit}`);
    }
  }
}

/** Nanoseconds of an epoch: its matching phase, stretched by alpha (section 3.2 of the paper). */
export function epochNs(protocol: DcpimProtocol): number {
  const {
    ctrl_rtt_ns = DEFAULTS.ctrl_rtt_ns,
    alpha = DEFAULTS.alpha,
    beta = DEFAULTS.beta,
    rounds = DEFAULTS.rounds,
  } = protocol;
  return Math.floor(
    Math.floor(ctrl_rtt_ns * Math.round(beta * 1000) / 1000) * rounds * Math.round(alpha * 1000) / 1000,
  );
}

/**
 * Refuses what the engine would refuse.
 * @throws RackwireError EINVAL with exit status 2
 */
export function checkEngineOptions(options: DcpimEngineOptions): void {
  const { protocol = {}, cpus = [] } = options;
  checkNumbers(protocol, DCPIM_LIMITS);
  checkNumbers(options, ENGINE_LIMITS);
  if (cpus.length > MAX_CPUS) throw refuse(`${cpus.length} CPUs are more than ${MAX_CPUS}`);
  if (protocol.first_part !== undefined && !FIRST_PARTS.includes(protocol.first_part)) {
    throw refuse(`first_part ${protocol.first_part} is not one of ${FIRST_PARTS.join(", ")}`);
  }
  const epoch = epochNs(protocol);
  if (epoch > 4 * SECOND) {
    throw refuse(
      `an epoch would last ${epoch / SECOND} s, more than 4 s`,
      "an epoch is ctrl-rtt x beta x rounds x alpha; lower one of them",
    );
  }
  const { rate_bps, data_rtt_ns, first_part_bytes } = protocol;
  // The rate's default is only known to the engine; it checks again.
  if (rate_bps !== undefined) {
    const bdp = rate_bps / (options.threads ?? 1) / 8 * (data_rtt_ns ?? DEFAULTS.data_rtt_ns) / SECOND;
    if (bdp < 1 || bdp > GIB) {
      throw refuse(
        `rate x data-rtt would be ${Math.round(bdp)} bytes in flight, not 1 byte to 1 GiB`,
        "change the rate or the data round trip",
      );
    }
    if (first_part_bytes !== undefined && first_part_bytes > 2 * bdp) {
      throw refuse(
        `first_part_bytes ${first_part_bytes} is over 2 x rate x data-rtt = ${Math.floor(2 * bdp)}`,
      );
    }
  }
}

/**
 * Refuses CPUs that this process cannot use.
 * @throws RackwireError NO_SUCH_CPU with exit status 2
 */
export function checkCpus(cpus: readonly number[] | undefined, facts: HostFacts): void {
  const missing = cpus?.filter((cpu) => !facts.cpus.allowed.includes(cpu)) ?? [];
  if (missing.length === 0) return;
  throw new RackwireError("NO_SUCH_CPU", `CPU ${missing.join(", ")} is not among those of this process`, {
    hint: `it may use ${facts.cpus.allowed.join(", ")}`,
    exitStatus: 2,
  });
}

/**
 * Which engine to run: the one asked for, or the first that works.
 * @throws RackwireError with exit status 3 and what would change it
 */
export function chooseEngine(asked: DcpimEngineName | "auto", facts: HostFacts): DcpimEngineName {
  const engines = engineFacts(facts).filter(({ service }) => service === "dcpim");
  const refuseEngine = ({ engine, why, hint }: EngineFact) =>
    new RackwireError("ENGINE_UNAVAILABLE", `the engine ${engine} cannot run here: ${why}`, {
      hint: hint || "rackwire doctor says which engines work",
      exitStatus: 3,
    });
  const wanted = engines.filter(({ engine }) => asked === "auto" || engine === asked);
  const working = wanted.find(({ works }) => works);
  if (working === undefined) throw refuseEngine(wanted.at(-1)!);
  return working.engine as DcpimEngineName;
}

const NO_OFFLOAD = 0x1;
const CRC = 0x2;
const NO_CONTROL = 0x4;

/** The fields of `struct rackwire_dcpim_config` that these options set, without `size`. */
export function configFields(options: DcpimEngineOptions, engine: DcpimEngineName) {
  const { protocol = {}, cpus = [], local, towards } = options;
  return {
    kind: engine === "raw" ? 2 : 1,
    threads: options.threads ?? 1,
    wakeup: options.busy_poll ? 1 : 0,
    flags: (options.offload === false ? NO_OFFLOAD : 0) | (options.crc ? CRC : 0) |
      (options.control === false ? NO_CONTROL : 0),
    cpu_count: cpus.length,
    cpus: [...cpus],
    local: local === undefined ? [] : sockaddr(local, 0),
    towards: towards === undefined ? [] : sockaddr(towards, 0),
    mtu: protocol.mtu ?? 0,
    rate_bps: protocol.rate_bps ?? 0,
    ctrl_rtt_ns: protocol.ctrl_rtt_ns ?? 0,
    data_rtt_ns: protocol.data_rtt_ns ?? 0,
    alpha_milli: Math.round((protocol.alpha ?? 0) * 1000),
    beta_milli: Math.round((protocol.beta ?? 0) * 1000),
    rounds: protocol.rounds ?? 0,
    channels: protocol.channels ?? 0,
    short_threshold: protocol.short_threshold ?? 0,
    window: protocol.window ?? 0,
    token_batch: protocol.token_batch ?? 0,
    first_part: FIRST_PARTS.indexOf(protocol.first_part ?? "off"),
    first_part_bytes: protocol.first_part_bytes ?? 0,
    connect_timeout_ns: options.connect_timeout_ns ?? 0,
    dead_after_ns: options.dead_after_ns ?? 0,
  };
}
