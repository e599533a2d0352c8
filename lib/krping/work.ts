// SPDX-License-Identifier: BSD-2-Clause
// What `rackwire krping server|client` run: the C loops of csrc/krping, started, read and stopped from here.
// The loops never call back; figures are read from shared memory while they run.
//
//   const server = await startKrpingServer({ port: 9999 });
//   const ping = await startKrping({ kind: "ping", peer: await resolveHost("localhost"), port: 9999, count: 1000 });
//   console.log((await ping.done).latency.summary(1000).p50, "us");
//   ping.close();

import { check, errnoName, errnoText, MessageBuffer, RackwireError } from "../ffi/errors.ts";
import { cString, loadLibrary } from "../ffi/library.ts";
import { SharedStats } from "../ffi/shared_stats.ts";
import { hostFacts } from "../host/facts.ts";
import type { Address } from "../host/resolve.ts";
import { runtimeDirectory } from "../host/runtime_dir.ts";
import type { Histogram } from "../measure/histogram.ts";
import {
  addressText,
  checkWhole,
  chooseKrpingEngine,
  ENGINE_NUMBERS,
  KRPING_LIMITS,
  type KrpingEngineName,
  type KrpingEngineOptions,
  refuse,
} from "./config.ts";
import { krpingConfigStruct, krpingConnectionStruct, krpingLibrary } from "./symbols.ts";

const KINDS = { server: 1, ping: 2, wlat: 3, rlat: 4, slat: 5, alat: 6, bw: 7 } as const;
export type KrpingKind = keyof typeof KINDS;
/** What a client can run: krping's ping, latencies of WRITE, READ, SEND and atomics, and bandwidth. */
export type KrpingTest = Exclude<KrpingKind, "server">;

const OPS = { write: 0, read: 1, send: 2, fadd: 3, cswap: 4 } as const;
export type KrpingOp = keyof typeof OPS;
export const KRPING_OPS = Object.keys(OPS) as KrpingOp[];

const FLAGS = {
  validate: 0x1,
  verbose: 0x2,
  serverInv: 0x4,
  readInv: 0x8,
  localDmaLkey: 0x10,
  reg: 0x20,
  poll: 0x40,
  duplex: 0x80,
  classic: 0x100,
  ecn: 0x200,
  noOffload: 0x400,
  once: 0x800,
} as const;

const ROWS = 64;
const ERROR_LENGTH = 256;
const LINES_BYTES = 64 * 1024;

/** krping's options that both roles take. */
export interface KrpingOptions extends KrpingEngineOptions {
  /** Keep a line for each ping; see `KrpingRun.lines()`. */
  verbose?: boolean;
  /** The server's go-ahead invalidates the client's key. */
  serverInv?: boolean;
  /** The server's READ invalidates its own key. */
  readInv?: boolean;
  /** The server WRITEs from memory without a region. */
  localDmaLkey?: boolean;
  /** dma: one registration for the whole run; reg: a new key for every advertisement. Default: dma. */
  memMode?: "dma" | "reg";
  /** Of contents and keys; random unless given. */
  seed?: bigint;
  /** The run's thread stays on this CPU. */
  cpu?: number;
}

export interface KrpingServerOptions extends KrpingOptions {
  /** Where to listen; everywhere unless given. */
  address?: Address;
  /** 0 lets one be chosen; see `KrpingRun.port`. */
  port: number;
  /** Most bytes of one ping or operation that a client may ask for. Default: 1 GiB. */
  maxSize?: number;
  /** Most bytes registered for all clients together. Default: 4 GiB. */
  memory?: number;
  /** End when the first client has gone. */
  once?: boolean;
}

export interface KrpingClientOptions extends KrpingOptions {
  test?: KrpingTest;
  /** Compare what comes back, byte for byte. For pings and alat. */
  validate?: boolean;
  peer: Address;
  port: number;
  /** Source address; by the route unless given. */
  local?: Address;
  /** Bytes of a ping or operation. Default: 64; 8 for atomics. */
  size?: number;
  /** Of a bandwidth run (default: write), or which atomic (default: fadd). */
  op?: KrpingOp;
  /** Pings or operations of each connection after the warm-up; no limit unless given. */
  count?: number;
  warmupCount?: number;
  durationNs?: number;
  /** Between the starts of two pings; at once unless given. */
  intervalNs?: number;
  /** Of connecting. Default: 5 s. */
  timeoutNs?: number;
  /** Requests under way in a bandwidth run. Default: 64. */
  txdepth?: number;
  /** The server moves as much the other way at the same time. */
  duplex?: boolean;
  connections?: number;
  tos?: number;
  /** 0 to 7. Default: 7 of both. */
  retries?: number;
  rnrRetries?: number;
  /** Code t of a timeout of 4.096 us * 2^t. Default: 14, 67 ms. */
  ackTimeout?: number;
  /** Say nothing of ourselves in the connection request, as rping does not. Only for a ping. */
  classic?: boolean;
}

const COUNTERS = [
  "send_bytes",
  "send_msgs",
  "recv_bytes",
  "recv_msgs",
  "write_bytes",
  "write_msgs",
  "read_bytes",
  "read_msgs",
  "atomic_msgs",
  "opened",
  "open",
  "failed",
  "refused",
  "completed",
  "warmup",
  "verified_bytes",
  "corrupt_bytes",
  "measured_bytes",
  "measured_ns",
  "cpu_ns",
  "peer_bytes",
  "rtx_packets",
  "timeouts",
  "seq_naks",
  "rnr_naks",
] as const;

/** `enum rackwire_krping_counter` documents each. */
export type KrpingCounters = Record<(typeof COUNTERS)[number], number>;

/** The eight that the original shows in /proc/krping, in its order. */
export const CLASSIC_COUNTERS = COUNTERS.slice(0, 8) as readonly (typeof COUNTERS)[number][];

export interface KrpingSnapshot {
  /** `performance.now()` of the reading, in milliseconds. */
  at_ms: number;
  counters: KrpingCounters;
  /** Nanoseconds of whole pings, of half a round trip (wlat, slat) or of one operation. */
  latency: Histogram;
}

export interface KrpingResult extends KrpingSnapshot {
  /** Set where bytes arrived wrong; everything else that goes wrong rejects `done`. */
  corrupt: boolean;
  /** stop() ended the run before its count or duration did. */
  stopped: boolean;
}

export const KRPING_STATES = ["connecting", "open", "ended", "broken"] as const;

export interface KrpingConnection {
  /** Counts up from 1 within a run. */
  id: number;
  /** undefined: the client has not said yet. */
  test?: KrpingTest;
  state: (typeof KRPING_STATES)[number];
  error?: { code: string; text: string };
  /** An rping or krping, which says nothing of itself. */
  classic: boolean;
  peer: string;
  age_s: number;
  counters: KrpingCounters8;
  pings: number;
  verified_bytes: number;
  corrupt_bytes: number;
  size: number;
  qp_num: number;
}

/** send, recv, write, read: bytes and messages of each. */
export interface KrpingCounters8 {
  send_bytes: number;
  send_msgs: number;
  recv_bytes: number;
  recv_msgs: number;
  write_bytes: number;
  write_msgs: number;
  read_bytes: number;
  read_msgs: number;
}

type Stats = SharedStats<(typeof COUNTERS)[number], "latency">;

const library = () => loadLibrary(krpingLibrary);

/** A run under way. Whoever started it calls `close()` when `done` has settled. */
export class KrpingRun {
  readonly kind: KrpingKind;
  readonly engine: KrpingEngineName;
  /** Of a server. */
  readonly port: number;
  /** The RDMA device: "soft", "rxe0". */
  readonly device: string;
  /** Payload of a packet. */
  readonly mtu: number;
  /**
   * The figures at the end. Rejects with a RackwireError where the run failed: ECONNREFUSED, ECONNRESET,
   * ETIMEDOUT, EHOSTUNREACH, EREMOTEIO (the peer refused a request), EPROTO (the peer does not speak krping).
   */
  readonly done: Promise<KrpingResult>;
  readonly #stats: Stats;
  readonly #rows = new Uint8Array(krpingConnectionStruct.size * ROWS);
  #work: bigint | undefined;
  #running = true;
  #stopped = false;

  /** For the functions below. */
  constructor(kind: KrpingKind, engine: KrpingEngineName, what: string, work: bigint, stats: Stats) {
    this.kind = kind;
    this.engine = engine;
    this.#work = work;
    this.#stats = stats;
    const name = new MessageBuffer(64);
    library().rackwire_krping_device(work, name.bytes, BigInt(name.bytes.length));
    this.device = name.text();
    this.port = library().rackwire_krping_port(work);
    this.mtu = library().rackwire_krping_mtu(work);
    this.done = this.#run(what);
    // Whoever only wants figures may never look at `done`.
    this.done.catch(() => {});
  }

  async #run(what: string): Promise<KrpingResult> {
    const message = new MessageBuffer(ERROR_LENGTH);
    const error = await library().rackwire_krping_run(
      this.#handle(),
      message.bytes,
      BigInt(message.bytes.length),
    ).finally(() => this.#running = false);
    const corrupt = errnoName(error) === "EBADMSG";
    if (!corrupt) check(error, what, message);
    return { ...this.snapshot(), corrupt, stopped: this.#stopped };
  }

  /** Ends the run soon, in good order; `done` then settles. */
  stop(): void {
    this.#stopped = true;
    if (this.#running) library().rackwire_krping_stop(this.#handle());
  }

  /** The figures so far, read without disturbing the run. */
  snapshot(): KrpingSnapshot {
    const { counters, histograms } = this.#stats.snapshot();
    return {
      at_ms: performance.now(),
      counters: Object.fromEntries(COUNTERS.map((name) => [name, Number(counters[name])])) as KrpingCounters,
      latency: histograms.latency,
    };
  }

  /** The open connections and the latest ended ones, oldest first; at most 64. */
  connections(): KrpingConnection[] {
    const count = library().rackwire_krping_connections(this.#handle(), this.#rows, ROWS);
    return Array.from({ length: count }, (_, i) => connection(this.#rows, i * krpingConnectionStruct.size));
  }

  /** With `verbose`: the lines since the last call, and how many there was no room for in all. */
  lines(): { lines: string[]; lost: number } {
    const bytes = new Uint8Array(LINES_BYTES);
    const lost = new BigUint64Array(1);
    const lines: string[] = [];
    for (;;) {
      const n = library().rackwire_krping_lines(
        this.#handle(),
        bytes,
        bytes.length,
        new Uint8Array(lost.buffer),
      );
      if (n === 0) break;
      lines.push(...new TextDecoder().decode(bytes.subarray(0, n)).split("\n").filter((line) => line !== ""));
    }
    return { lines, lost: Number(lost[0]) };
  }

  /** Frees everything; `done` must have settled. Figures already taken stay valid. */
  close(): void {
    if (this.#running) throw new RackwireError("EBUSY", "the run is still under way; stop it first");
    if (this.#work !== undefined) library().rackwire_krping_close(this.#work);
    this.#work = undefined;
  }

  /** Stops, waits for the end whatever it is, and frees. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#running) this.stop();
    await this.done.catch(() => {});
    this.close();
  }

  #handle(): bigint {
    if (this.#work === undefined) throw new RackwireError("EBADF", "the run has been closed");
    return this.#work;
  }
}

function connection(bytes: Uint8Array, offset: number): KrpingConnection {
  const row = krpingConnectionStruct.decode(bytes, offset);
  const test = (Object.keys(KINDS) as KrpingKind[]).find((name) => KINDS[name] === row.kind);
  return {
    id: Number(row.id),
    ...(test === undefined || test === "server" ? {} : { test }),
    state: KRPING_STATES[row.state] ?? "broken",
    ...(row.error === 0 ? {} : { error: { code: errnoName(row.error), text: errnoText(row.error) } }),
    classic: row.classic !== 0,
    peer: row.peer,
    age_s: Number(row.age_ns) / 1e9,
    counters: Object.fromEntries(
      CLASSIC_COUNTERS.map((name, i) => [name, Number(row.counters[i])]),
    ) as unknown as KrpingCounters8,
    pings: Number(row.pings),
    verified_bytes: Number(row.verified_bytes),
    corrupt_bytes: Number(row.corrupt_bytes),
    size: row.length,
    qp_num: row.qp_num,
  };
}

type ConfigFields = Parameters<typeof krpingConfigStruct.encode>[0];

function flagsOf(options: KrpingOptions): number {
  let flags = 0;
  for (
    const name of ["verbose", "serverInv", "readInv", "localDmaLkey", "poll", "ecn"] as const
  ) {
    if (options[name]) flags |= FLAGS[name];
  }
  if (options.memMode === "reg") flags |= FLAGS.reg;
  if (options.offload === false) flags |= FLAGS.noOffload;
  return flags;
}

async function start(
  kind: KrpingKind,
  what: string,
  options: KrpingOptions,
  fields: ConfigFields,
): Promise<KrpingRun> {
  const host = hostFacts();
  if (options.cpu !== undefined && !host.cpus.allowed.includes(options.cpu)) {
    throw refuse(
      `CPU ${options.cpu} is not among those of this process`,
      `it may use ${host.cpus.allowed.join(", ")}`,
    );
  }
  const engine = chooseKrpingEngine(options.engine ?? "auto", host);
  const symbols = library();
  const stats: Stats = new SharedStats({ counters: COUNTERS, histograms: ["latency"] });
  const config = krpingConfigStruct.encode({
    size: krpingConfigStruct.size,
    engine: ENGINE_NUMBERS[engine],
    kind: KINDS[kind],
    mtu: options.mtu ?? 0,
    seed: options.seed ?? 0,
    cpu: options.cpu === undefined ? 0 : options.cpu + 1,
    ...fields,
  });
  const out = new BigUint64Array(1);
  const message = new MessageBuffer(ERROR_LENGTH);
  check(
    await symbols.rackwire_krping_open(
      config,
      stats.memory,
      BigInt(stats.memory.length),
      new Uint8Array(out.buffer),
      message.bytes,
      BigInt(message.bytes.length),
    ),
    what,
    message,
  );
  const work = out[0]!;
  if (kind === "server") {
    // Only `krping stat` needs it; a server without one serves all the same.
    try {
      symbols.rackwire_krping_control(work, cString(runtimeDirectory()), new Uint8Array(0), 0n);
    } catch (error) {
      if (!(error instanceof RackwireError)) throw error;
    }
  }
  return new KrpingRun(kind, engine, what, work, stats);
}

/**
 * Listens and serves any number of clients until stopped.
 * @throws RackwireError EADDRINUSE, EADDRNOTAVAIL, ...; EINVAL with exit status 2; ENGINE_UNAVAILABLE with 3
 */
export function startKrpingServer(options: KrpingServerOptions): Promise<KrpingRun> {
  const { address, port, maxSize, memory = 0, once = false } = options;
  checkWhole("port", port, 0, 65535);
  checkWhole("size", maxSize, KRPING_LIMITS.size.lowest, KRPING_LIMITS.size.highest);
  checkWhole("memory", memory, 0, Number.MAX_SAFE_INTEGER);
  const where = address === undefined ? `port ${port}` : `${addressText(address)} port ${port}`;
  return start("server", `cannot serve on ${where}`, options, {
    address: address === undefined ? "" : addressText(address),
    port,
    flags: flagsOf(options) | (once ? FLAGS.once : 0),
    length: maxSize ?? 0,
    memory,
  });
}

/** Runs a test against a server; see KrpingClientOptions. @throws RackwireError as startKrpingServer() */
export function startKrping(options: KrpingClientOptions): Promise<KrpingRun> {
  const { test = "ping", peer, port, local, connections = 1, classic = false } = options;
  const atomic = test === "alat" || options.op === "fadd" || options.op === "cswap";
  const size = options.size ?? (atomic ? 8 : 64);
  const op = options.op ?? (test === "alat" ? "fadd" : "write");
  checkWhole("port", port, 1, 65535);
  checkWhole("size", size, KRPING_LIMITS.size.lowest, KRPING_LIMITS.size.highest);
  checkWhole("txdepth", options.txdepth, KRPING_LIMITS.txdepth.lowest, KRPING_LIMITS.txdepth.highest);
  checkWhole("connections", connections, KRPING_LIMITS.connections.lowest, KRPING_LIMITS.connections.highest);
  checkWhole("tos", options.tos, KRPING_LIMITS.tos.lowest, KRPING_LIMITS.tos.highest);
  checkWhole("retries", options.retries, KRPING_LIMITS.retries.lowest, KRPING_LIMITS.retries.highest);
  checkWhole("rnrRetries", options.rnrRetries, KRPING_LIMITS.retries.lowest, KRPING_LIMITS.retries.highest);
  checkWhole(
    "ackTimeout",
    options.ackTimeout,
    KRPING_LIMITS.ack_timeout.lowest,
    KRPING_LIMITS.ack_timeout.highest,
  );
  for (const name of ["count", "warmupCount", "durationNs", "intervalNs", "timeoutNs"] as const) {
    checkWhole(name, options[name], 0, Number.MAX_SAFE_INTEGER);
  }
  if (atomic && size !== 8) throw refuse(`an atomic is of 8 bytes, not ${size}`, "leave the size out");
  if (test === "alat" && op !== "fadd" && op !== "cswap") {
    throw refuse(`${op} is no atomic`, "fadd and cswap are");
  }
  if (options.validate && test !== "ping" && test !== "alat") {
    throw refuse(`${test} brings nothing back to compare`, "leave validate out");
  }
  if (classic && test !== "ping") {
    throw refuse(`${test} needs a rackwire server that is told so`, "leave classic out, or run a ping");
  }
  const duration = options.durationNs ?? 0;
  return start(test, `krping to ${addressText(peer)} port ${port}`, options, {
    address: addressText(peer),
    port,
    local: local === undefined ? "" : addressText(local),
    flags: flagsOf(options) | (options.validate ? FLAGS.validate : 0) | (options.duplex ? FLAGS.duplex : 0) |
      (classic ? FLAGS.classic : 0),
    length: size,
    op: OPS[op],
    tos: options.tos ?? 0,
    count: options.count ?? 0,
    warmup_count: options.warmupCount ?? 0,
    duration_ns: duration,
    interval_ns: options.intervalNs ?? 0,
    timeout_ns: options.timeoutNs ?? 0,
    txdepth: options.txdepth ?? 0,
    connections,
    retry_count: options.retries === undefined ? 0 : options.retries + 1,
    rnr_retry_count: options.rnrRetries === undefined ? 0 : options.rnrRetries + 1,
    ack_timeout: options.ackTimeout ?? 0,
  });
}
