// SPDX-License-Identifier: BSD-2-Clause
// What `rackwire dcpim server|ping|stream|message` run: the C loops of csrc/dcpim/workload, started, read and
// stopped from here. The loops never call back; figures are read from shared memory while they run.
//
//   const server = startServer({ port: 4000 });
//   const ping = startPing({ peer: await resolveHost("localhost"), port: 4000, count: 1000 });
//   const { transports } = await ping.done;
//   console.log(transports.dcpim!.latency.summary(1000).p50, "us");
//   ping.close();
//   server.stop();
//   await server.done;
//   server.close();

import { check, errnoName, errnoText, MessageBuffer, RackwireError } from "../ffi/errors.ts";
import { loadLibrary } from "../ffi/library.ts";
import { SharedStats } from "../ffi/shared_stats.ts";
import { hostFacts } from "../host/facts.ts";
import type { Address } from "../host/resolve.ts";
import { Histogram } from "../measure/histogram.ts";
import {
  checkEngineOptions,
  chooseEngine,
  configFields,
  type DcpimEngineName,
  type DcpimEngineOptions,
} from "./config.ts";
import { dcpimConfigStruct, dcpimLibrary, dcpimStatsStruct } from "./symbols.ts";
import { workConfigStruct, workConnectionStruct } from "./work_symbols.ts";

export type WorkKind = "server" | "ping" | "stream" | "message";
const KINDS = { server: 1, ping: 2, stream: 3, message: 4 } as const satisfies Record<WorkKind, number>;

/** dcPIM, and the kernel transports it is compared with. */
export type Transport = "dcpim" | "tcp" | "udp";
export const TRANSPORTS = ["dcpim", "tcp", "udp"] as const satisfies readonly Transport[];

const NO_VALIDATE = 0x1;
const VALIDATE = 0x2;
const SHORT = 0x4;
const REVERSE = 0x8;
const MESSAGES_ONLY = 0x10;
const STREAMS_ONLY = 0x20;

/** Limits of the C side, both ends included. */
export const WORK_LIMITS = {
  connections: 1024,
  iodepth: 4096,
  length: 64 * 2 ** 20,
  /** Over the UDP baseline. */
  datagram: 65507,
} as const;
/** A UDP baseline datagram is at least so long: it carries its own number and session. */
export const WORK_MIN_DATAGRAM = 24;
const ROWS = 64;
const ERROR_LENGTH = 256;

export interface ServerOptions {
  /** Where to listen; everywhere unless given. */
  address?: Address;
  /** 0 lets one be chosen; see `Workload.ports`. */
  port: number;
  /** What dcPIM connections to accept: both unless given. */
  accept?: "both" | "streams" | "messages";
  /** Checks the contents of every connection, also where the client asked for no validation. */
  validate?: boolean;
  /** Kernel transports to serve beside dcPIM: TCP at the same port number, UDP one higher (`udp` engine). */
  baselines?: readonly ("tcp" | "udp")[];
  engine?: DcpimEngineOptions;
}

export interface ClientOptions {
  peer: Address;
  port: number;
  /** Source address; by the route unless given. */
  local?: Address;
  /** Local port of the first connection, the next one's is one higher; 0: any. */
  sourcePort?: number;
  /** Transports to measure, in turns of `sliceNs` each; dcPIM alone unless given. */
  transports?: readonly Transport[];
  /** Connections in parallel for each transport. Default: 1. */
  connections?: number;
  /** Measured nanoseconds for each transport; no limit unless given. */
  durationNs?: number;
  /** Nanoseconds before that which are not recorded. */
  warmupNs?: number;
  /** Length of a turn with several transports. Default: 200 ms. */
  sliceNs?: number;
  /** Check every byte, at the receiving side. Default: true. */
  validate?: boolean;
  /** Of the contents; random unless given. */
  seed?: bigint;
  engine?: DcpimEngineOptions;
}

export interface PingOptions extends ClientOptions {
  /** Over message connections; over streams unless given. */
  short?: boolean;
  /** Bytes of a request and of its answer. Default: 64. */
  length?: number;
  /** Requests of each connection after the warm-up; no limit unless given. */
  count?: number;
  /** Requests of each connection that are not recorded. */
  warmupCount?: number;
  /** Requests outstanding on each connection. Default: 1. */
  iodepth?: number;
  /** Nanoseconds between the starts of two requests of a connection; at once unless given. */
  intervalNs?: number;
  /** Nanoseconds after which an unanswered request counts as lost. Default: 1 s. */
  timeoutNs?: number;
}

export interface StreamOptions extends ClientOptions {
  /** From the server to the client. */
  reverse?: boolean;
  /** Bytes of a write; of a datagram over UDP at most. Default: 64 KiB. */
  length?: number;
  /** Bytes of each connection in all; no limit unless given. */
  bytes?: number;
}

/** As for a ping, but one way: a message is complete when the server holds it whole. Over dcPIM and UDP. */
export type MessageOptions = Omit<PingOptions, "short">;

const COUNTERS = [
  "opened",
  "open",
  "failed",
  "requests",
  "completed",
  "warmup",
  "lost",
  "late",
  "tx_bytes",
  "rx_bytes",
  "verified_bytes",
  "corrupt_bytes",
  "measured_bytes",
  "measured_requests",
  "measured_ns",
  "cpu_ns",
  "rtx_bytes",
  "peer_reports",
  "peer_bytes",
  "peer_requests",
  "peer_verified_bytes",
  "peer_corrupt_bytes",
  "peer_cpu_ns",
] as const;

/** Counters of one transport; `enum rackwire_dcpim_work_counter` documents each. */
export type WorkCounters = Record<(typeof COUNTERS)[number], number>;

export interface TransportFigures {
  counters: WorkCounters;
  /** Nanoseconds: round-trip times of a ping, times to acknowledgement of a message; empty for others. */
  latency: Histogram;
}

/** Figures of the transports in use, at one moment. */
export interface WorkSnapshot {
  /** `performance.now()` of the reading, in milliseconds. */
  at_ms: number;
  transports: Partial<Record<Transport, TransportFigures>>;
}

export interface WorkResult extends WorkSnapshot {
  /** Set where bytes arrived wrong at either side; everything else that goes wrong rejects `done`. */
  corrupt: boolean;
  /** stop() ended the run before its count or duration did. */
  stopped: boolean;
}

export const SERVICES = ["none", "echo", "sink", "source"] as const;
export const CONNECTION_STATES = ["connecting", "open", "ended", "broken"] as const;

/** One connection; of the UDP baseline one client session. */
export interface WorkConnection {
  /** Counts up from 1 within a run. */
  id: number;
  transport: Transport;
  kind: "stream" | "message";
  service: (typeof SERVICES)[number];
  state: (typeof CONNECTION_STATES)[number];
  /** What broke it: "ECONNRESET" and its text. */
  error?: { code: string; text: string };
  thread: number;
  cpu: number;
  /** The transport's own estimate in microseconds; 0 before the first. */
  srtt_us: number;
  /** "192.0.2.1:4000" */
  peer: string;
  /** Seconds since it was opened, up to its end. */
  age_s: number;
  tx_bytes: number;
  rx_bytes: number;
  requests: number;
  verified_bytes: number;
  corrupt_bytes: number;
  /** Offset in the stream, or number of the message, of the first wrong byte; only with corrupt_bytes. */
  corrupt_at: number;
  rtx_bytes: number;
}

/** Counters and gauges of a dcPIM engine; `struct rackwire_dcpim_stats` documents each. */
export type DcpimStats = Record<keyof ReturnType<typeof dcpimStatsStruct.decode>, number>;

type Stats = SharedStats<string, Transport>;

/** A run under way. Whoever started it calls `close()` when `done` has settled. */
export class Workload {
  readonly kind: WorkKind;
  readonly engine: DcpimEngineName;
  readonly transports: readonly Transport[];
  /** Of a server: the port of each transport it serves. */
  readonly ports: Partial<Record<Transport, number>>;
  /**
   * The figures at the end. Rejects with a RackwireError where the run failed: ECONNREFUSED (no
   * listener), ECONNRESET or ETIMEDOUT (the peer died), EPROTO (the peer is no rackwire server).
   */
  readonly done: Promise<WorkResult>;
  readonly #stats: Stats;
  readonly #rows = new Uint8Array(workConnectionStruct.size * ROWS);
  #work: bigint | undefined;
  #running = true;
  #stopped = false;

  /** For the functions below. */
  constructor(
    kind: WorkKind,
    engine: DcpimEngineName,
    transports: readonly Transport[],
    what: string,
    work: bigint,
    stats: Stats,
  ) {
    this.kind = kind;
    this.engine = engine;
    this.transports = transports;
    this.#work = work;
    this.#stats = stats;
    const symbols = library();
    this.ports = kind !== "server" ? {} : Object.fromEntries(
      transports.map((name) => [name, symbols.rackwire_dcpim_work_port(work, TRANSPORTS.indexOf(name))]),
    );
    this.done = this.#run(what);
    // Whoever only wants figures may never look at `done`.
    this.done.catch(() => {});
  }

  async #run(what: string): Promise<WorkResult> {
    const message = new MessageBuffer(ERROR_LENGTH);
    const error = await library().rackwire_dcpim_work_run(
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
    if (this.#running) library().rackwire_dcpim_work_stop(this.#handle());
  }

  /** The figures so far, read without disturbing the run. */
  snapshot(): WorkSnapshot {
    const { counters, histograms } = this.#stats.snapshot();
    const transports = Object.fromEntries(this.transports.map((name) => [name, {
      counters: Object.fromEntries(
        COUNTERS.map((counter) => [counter, Number(counters[`${name}_${counter}`])]),
      ) as WorkCounters,
      latency: histograms[name],
    }]));
    return { at_ms: performance.now(), transports };
  }

  /** The open connections and the latest ended ones, oldest first; at most 64. */
  connections(): WorkConnection[] {
    const count = library().rackwire_dcpim_work_connections(this.#handle(), this.#rows, ROWS);
    return Array.from({ length: count }, (_, i) => connection(this.#rows, i * workConnectionStruct.size));
  }

  /** Protocol and engine counters, summed over the engine's threads. */
  engineStats(): DcpimStats {
    const symbols = library();
    const bytes = dcpimStatsStruct.encode({ size: dcpimStatsStruct.size });
    const engine = symbols.rackwire_dcpim_work_engine(this.#handle());
    check(symbols.rackwire_dcpim_engine_stats(engine, bytes), "cannot read the engine's statistics");
    return Object.fromEntries(
      Object.entries(dcpimStatsStruct.decode(bytes)).map(([name, value]) => [name, Number(value)]),
    ) as DcpimStats;
  }

  /** Frees everything; `done` must have settled. Figures already taken stay valid. */
  close(): void {
    if (this.#running) throw new RackwireError("EBUSY", "the run is still under way; stop it first");
    if (this.#work !== undefined) library().rackwire_dcpim_work_close(this.#work);
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

const library = () => loadLibrary(dcpimLibrary);

function connection(bytes: Uint8Array, offset: number): WorkConnection {
  const row = workConnectionStruct.decode(bytes, offset);
  return {
    id: Number(row.id),
    transport: TRANSPORTS[row.transport]!,
    kind: row.message === 1 ? "message" : "stream",
    service: SERVICES[row.service]!,
    state: CONNECTION_STATES[row.state]!,
    ...(row.error === 0 ? {} : { error: { code: errnoName(row.error), text: errnoText(row.error) } }),
    thread: row.thread,
    cpu: row.cpu,
    srtt_us: row.srtt_us,
    peer: row.peer,
    age_s: Number(row.age_ns) / 1e9,
    tx_bytes: Number(row.tx_bytes),
    rx_bytes: Number(row.rx_bytes),
    requests: Number(row.requests),
    verified_bytes: Number(row.verified_bytes),
    corrupt_bytes: Number(row.corrupt_bytes),
    corrupt_at: Number(row.corrupt_at),
    rtx_bytes: Number(row.rtx_bytes),
  };
}

/** An address as C reads it: "fe80::1%eth0". */
function addressText({ address, zone }: Address): string {
  return zone === undefined ? address : `${address}%${zone}`;
}

function refuse(message: string, hint?: string): RackwireError {
  return new RackwireError("EINVAL", message, { exitStatus: 2, hint });
}

function checkWhole(name: string, value: number | undefined, lowest: number, highest: number): void {
  if (value === undefined) return;
  if (!Number.isSafeInteger(value) || value < lowest || value > highest) {
    throw refuse(`${name} ${value} is not a whole number from ${lowest} to ${highest}`);
  }
}

type ConfigFields = Parameters<typeof workConfigStruct.encode>[0];

function start(
  kind: WorkKind,
  what: string,
  transports: readonly Transport[],
  engineOptions: DcpimEngineOptions,
  fields: ConfigFields,
): Workload {
  checkEngineOptions(engineOptions);
  const engine = chooseEngine(engineOptions.engine ?? "auto", hostFacts());
  const symbols = loadLibrary(dcpimLibrary);
  const stats: Stats = new SharedStats({
    counters: TRANSPORTS.flatMap((name) => COUNTERS.map((counter) => `${name}_${counter}`)),
    histograms: TRANSPORTS,
    blocks: (engineOptions.threads ?? 1) + 1,
  });
  const config = workConfigStruct.encode({
    size: workConfigStruct.size,
    kind: KINDS[kind],
    transports: transports.reduce((mask, name) => mask | 1 << TRANSPORTS.indexOf(name), 0),
    ...fields,
  });
  const out = new BigUint64Array(1);
  const message = new MessageBuffer(ERROR_LENGTH);
  check(
    symbols.rackwire_dcpim_work_open(
      dcpimConfigStruct.encode({ size: dcpimConfigStruct.size, ...configFields(engineOptions, engine) }),
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
  return new Workload(kind, engine, transports, what, out[0]!, stats);
}

/**
 * Listens and serves until stopped.
 * @throws RackwireError EADDRINUSE, EADDRNOTAVAIL, EACCES, ...; EINVAL with exit status 2
 */
export function startServer(options: ServerOptions): Workload {
  const { address, port, accept = "both", validate = false, baselines = [], engine = {} } = options;
  checkWhole("port", port, 0, 65535);
  const where = address === undefined ? `port ${port}` : `${addressText(address)} port ${port}`;
  return start("server", `cannot serve on ${where}`, ["dcpim", ...new Set(baselines)], engine, {
    address: address === undefined ? "" : addressText(address),
    port,
    flags: (validate ? VALIDATE : 0) | (accept === "messages" ? MESSAGES_ONLY : 0) |
      (accept === "streams" ? STREAMS_ONLY : 0),
  });
}

function startClient(
  kind: "ping" | "stream" | "message",
  options: ClientOptions,
  flags: number,
  fields: ConfigFields,
): Workload {
  const { peer, port, local, sourcePort = 0, connections = 1, engine = {}, validate = true, seed } = options;
  const transports = [...new Set(options.transports ?? ["dcpim" as const])];
  checkWhole("port", port, 1, 65535);
  checkWhole("source port", sourcePort, 0, 65535);
  checkWhole("connections", connections, 1, WORK_LIMITS.connections);
  for (const name of ["durationNs", "warmupNs", "sliceNs"] as const) {
    checkWhole(name, options[name], 0, Number.MAX_SAFE_INTEGER);
  }
  if (transports.length === 0) throw refuse("there is no transport to measure");
  if (sourcePort > 0 && sourcePort + connections > 65536) {
    throw refuse(`${connections} source ports from ${sourcePort} go beyond 65535`);
  }
  const what = `dcpim ${kind} to ${addressText(peer)} port ${port}`;
  return start(kind, what, transports, { towards: peer, ...engine }, {
    address: addressText(peer),
    port,
    local: local === undefined ? "" : addressText(local),
    sport: sourcePort,
    connections,
    flags: flags | (validate ? 0 : NO_VALIDATE),
    duration_ns: options.durationNs ?? 0,
    warmup_ns: options.warmupNs ?? 0,
    slice_ns: options.sliceNs ?? 0,
    seed: seed ?? 0,
    ...fields,
  });
}

function requestFields(options: MessageOptions): ConfigFields {
  const { length = 64, count = 0, warmupCount = 0, iodepth = 1, intervalNs = 0, timeoutNs = 0 } = options;
  checkWhole("length", length, 1, WORK_LIMITS.length);
  checkWhole("count", count, 0, Number.MAX_SAFE_INTEGER);
  checkWhole("warmupCount", warmupCount, 0, Number.MAX_SAFE_INTEGER);
  checkWhole("iodepth", iodepth, 1, WORK_LIMITS.iodepth);
  checkWhole("intervalNs", intervalNs, 0, Number.MAX_SAFE_INTEGER);
  checkWhole("timeoutNs", timeoutNs, 0, Number.MAX_SAFE_INTEGER);
  return {
    length,
    count,
    warmup_count: warmupCount,
    iodepth,
    interval_ns: intervalNs,
    timeout_ns: timeoutNs,
  };
}

/** Measures round trips; see PingOptions. @throws RackwireError as startServer() */
export function startPing(options: PingOptions): Workload {
  return startClient("ping", options, options.short ? SHORT : 0, requestFields(options));
}

/** Measures goodput; see StreamOptions. @throws RackwireError as startServer() */
export function startStream(options: StreamOptions): Workload {
  const { length = 64 * 1024, bytes = 0, reverse = false } = options;
  checkWhole("length", length, 1, WORK_LIMITS.length);
  checkWhole("bytes", bytes, 0, Number.MAX_SAFE_INTEGER);
  return startClient("stream", options, reverse ? REVERSE : 0, { length, count: bytes });
}

/** Sends messages and measures their rate; see MessageOptions. @throws RackwireError as startServer() */
export function startMessages(options: MessageOptions): Workload {
  return startClient("message", options, 0, requestFields(options));
}
