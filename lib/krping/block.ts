// SPDX-License-Identifier: BSD-2-Clause
// A block device over RDMA: the exporter that has files or memory, and the NBD server that brings it to NBD
// clients here. csrc/include/rackwire_krping_block.h documents both.

import { check, MessageBuffer, RackwireError } from "../ffi/errors.ts";
import { loadLibrary } from "../ffi/library.ts";
import { SharedStats } from "../ffi/shared_stats.ts";
import { hostFacts } from "../host/facts.ts";
import type { Address } from "../host/resolve.ts";
import type { Histogram } from "../measure/histogram.ts";
import { exportConfigStruct, exportInfoStruct, exportStruct, nbdConfigStruct } from "./block_symbols.ts";
import {
  addressText,
  checkWhole,
  chooseKrpingEngine,
  ENGINE_NUMBERS,
  type KrpingEngineName,
  type KrpingEngineOptions,
  refuse,
} from "./config.ts";
import { krpingLibrary } from "./symbols.ts";

export const BLOCK_LIMITS = {
  exports: 16,
  name: 31,
  file: 255,
  depth: 1024,
  threads: 64,
  clients: 1024,
} as const;

const READ_ONLY = 0x1;
const DIRECT = 0x2;
const POLL = 0x40;
const ECN = 0x200;
const NO_OFFLOAD = 0x400;
const NBD_READ_ONLY = 0x10000;
const ERROR_LENGTH = 256;
const ROWS = 16;

export interface BlockExport {
  /** What NBD clients call it; empty, NBD's default export, unless given. */
  name?: string;
  /** A regular file or a block device; without it memory of `size` bytes. */
  file?: string;
  size?: number;
  readOnly?: boolean;
  /** Past the page cache. */
  direct?: boolean;
}

export interface BlockExportOptions extends KrpingEngineOptions {
  address?: Address;
  port: number;
  exports: readonly BlockExport[];
  /** Threads for the I/O of files. Default: 4. */
  threads?: number;
  /** Requests of one connection under way. Default: 64. */
  depth?: number;
}

export interface BlockServeOptions extends KrpingEngineOptions {
  /** The exporter. */
  peer: Address;
  port: number;
  local?: Address;
  /** Where NBD clients connect: a Unix socket that must not exist yet, a TCP address, or both. */
  unix?: string;
  tcp?: { address: Address; port: number };
  /** What becomes of requests under way when the exporter is lost. Default: fail. */
  onLoss?: "fail" | "replay";
  depth?: number;
  readOnly?: boolean;
  /** Of connecting. Default: 5 s. */
  timeoutNs?: number;
  /** How long to try to get the exporter back. Default: 30 s. */
  reconnectNs?: number;
  clients?: number;
}

const COUNTERS = [
  "reads",
  "read_bytes",
  "writes",
  "write_bytes",
  "flushes",
  "trims",
  "zeroes",
  "errors",
  "under_way",
  "clients",
  "links",
  "link_losses",
  "replayed",
  "failed_by_loss",
  "refused",
  "cpu_ns",
] as const;
const HISTOGRAMS = ["read", "write", "other"] as const;

/** `enum rackwire_krping_block_counter` documents each. */
export type BlockCounters = Record<(typeof COUNTERS)[number], number>;

export interface BlockSnapshot {
  /** `performance.now()` of the reading, in milliseconds. */
  at_ms: number;
  counters: BlockCounters;
  /** Nanoseconds from an NBD request to its reply; empty at the exporter. */
  latency: Record<(typeof HISTOGRAMS)[number], Histogram>;
}

export interface BlockExportInfo {
  name: string;
  size: number;
  read_only: boolean;
  /** A file rather than memory. */
  persistent: boolean;
}

type Stats = SharedStats<(typeof COUNTERS)[number], (typeof HISTOGRAMS)[number]>;
type Role = "export" | "nbd";

const library = () => loadLibrary(krpingLibrary);

/** An exporter or an NBD server under way. Whoever started it calls `close()` when `done` has settled. */
export class BlockRun {
  readonly role: Role;
  readonly engine: KrpingEngineName;
  /** Of the exporter; of NBD over TCP, 0 without. */
  readonly port: number;
  readonly exports: readonly BlockExportInfo[];
  /** The figures at the end; rejects where it failed. */
  readonly done: Promise<BlockSnapshot>;
  readonly #stats: Stats;
  #handle: bigint | undefined;
  #running = true;

  /** For the functions below. */
  constructor(
    role: Role,
    engine: KrpingEngineName,
    what: string,
    handle: bigint,
    stats: Stats,
    offered: readonly BlockExport[],
  ) {
    this.role = role;
    this.engine = engine;
    this.#handle = handle;
    this.#stats = stats;
    const symbols = library();
    if (role === "export") {
      this.port = symbols.rackwire_krping_export_port(handle);
      this.exports = offered.map(({ name = "", readOnly = false, file }, i) => ({
        name,
        size: Number(symbols.rackwire_krping_export_length(handle, i)),
        read_only: readOnly,
        persistent: file !== undefined,
      }));
    } else {
      this.port = symbols.rackwire_krping_nbd_port(handle);
      this.exports = this.#listed();
    }
    this.done = this.#run(what);
    this.done.catch(() => {});
  }

  #listed(): BlockExportInfo[] {
    const rows = new Uint8Array(exportInfoStruct.size * ROWS);
    const count = library().rackwire_krping_nbd_exports(this.#open(), rows, ROWS);
    return Array.from({ length: count }, (_, i) => {
      const row = exportInfoStruct.decode(rows, i * exportInfoStruct.size);
      return {
        name: row.name,
        size: Number(row.length),
        read_only: row.read_only !== 0,
        persistent: row.persistent !== 0,
      };
    });
  }

  async #run(what: string): Promise<BlockSnapshot> {
    const message = new MessageBuffer(ERROR_LENGTH);
    const symbols = library();
    const run = this.role === "export" ? symbols.rackwire_krping_export_run : symbols.rackwire_krping_nbd_run;
    const error = await run(this.#open(), message.bytes, BigInt(message.bytes.length))
      .finally(() => this.#running = false);
    check(error, what, message);
    return this.snapshot();
  }

  stop(): void {
    if (!this.#running) return;
    const symbols = library();
    if (this.role === "export") symbols.rackwire_krping_export_stop(this.#open());
    else symbols.rackwire_krping_nbd_stop(this.#open());
  }

  snapshot(): BlockSnapshot {
    const { counters, histograms } = this.#stats.snapshot();
    return {
      at_ms: performance.now(),
      counters: Object.fromEntries(COUNTERS.map((name) => [name, Number(counters[name])])) as BlockCounters,
      latency: histograms,
    };
  }

  /** Frees everything; `done` must have settled. */
  close(): void {
    if (this.#running) throw new RackwireError("EBUSY", "it is still running; stop it first");
    if (this.#handle === undefined) return;
    const symbols = library();
    if (this.role === "export") symbols.rackwire_krping_export_close(this.#handle);
    else symbols.rackwire_krping_nbd_close(this.#handle);
    this.#handle = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    await this.done.catch(() => {});
    this.close();
  }

  #open(): bigint {
    if (this.#handle === undefined) throw new RackwireError("EBADF", "it has been closed");
    return this.#handle;
  }
}

function flagsOf({ poll, ecn, offload }: KrpingEngineOptions): number {
  return (poll ? POLL : 0) | (ecn ? ECN : 0) | (offload === false ? NO_OFFLOAD : 0);
}

function statistics(): Stats {
  return new SharedStats({ counters: COUNTERS, histograms: HISTOGRAMS });
}

function encodeExport(each: BlockExport): Uint8Array {
  const { name = "", file, size, readOnly = false, direct = false } = each;
  const bytes = (text: string) => new TextEncoder().encode(text).length;
  if (bytes(name) > BLOCK_LIMITS.name) {
    throw refuse(`the export's name "${name}" is over ${BLOCK_LIMITS.name} bytes`);
  }
  if (file !== undefined && bytes(file) > BLOCK_LIMITS.file) {
    throw refuse(`the path ${file} is over ${BLOCK_LIMITS.file} bytes`);
  }
  if (file === undefined && size === undefined) {
    throw refuse("an export needs a file, or a size of memory");
  }
  checkWhole("size", size, 1, 2 ** 50);
  return exportStruct.encode({
    name,
    file: file ?? "",
    length: size ?? 0,
    flags: (readOnly ? READ_ONLY : 0) | (direct ? DIRECT : 0),
  });
}

/**
 * Offers files or memory to NBD servers of rackwire.
 * @throws RackwireError ENOENT, EACCES, EADDRINUSE, ...; EINVAL with exit status 2
 */
export function startBlockExport(options: BlockExportOptions): BlockRun {
  const { address, port, exports, threads, depth } = options;
  checkWhole("port", port, 0, 65535);
  checkWhole("threads", threads, 1, BLOCK_LIMITS.threads);
  checkWhole("depth", depth, 1, BLOCK_LIMITS.depth);
  checkWhole("number of exports", exports.length, 1, BLOCK_LIMITS.exports);
  if (new Set(exports.map(({ name = "" }) => name)).size < exports.length) {
    throw refuse("two exports have the same name", "give each its own");
  }
  const rows = new Uint8Array(exportStruct.size * exports.length);
  exports.forEach((each, i) => rows.set(encodeExport(each), i * exportStruct.size));
  const engine = chooseKrpingEngine(options.engine ?? "auto", hostFacts());
  const stats = statistics();
  const out = new BigUint64Array(1);
  const message = new MessageBuffer(ERROR_LENGTH);
  const what = `cannot export on ${address === undefined ? "" : `${addressText(address)} `}port ${port}`;
  check(
    library().rackwire_krping_export_open(
      exportConfigStruct.encode({
        size: exportConfigStruct.size,
        engine: ENGINE_NUMBERS[engine],
        address: address === undefined ? "" : addressText(address),
        port,
        exports_count: exports.length,
        threads: threads ?? 0,
        depth: depth ?? 0,
        flags: flagsOf(options),
        mtu: options.mtu ?? 0,
      }),
      rows,
      stats.memory,
      BigInt(stats.memory.length),
      new Uint8Array(out.buffer),
      message.bytes,
      BigInt(message.bytes.length),
    ),
    what,
    message,
  );
  return new BlockRun("export", engine, what, out[0]!, stats, exports);
}

/**
 * Connects to an exporter and serves what it has to NBD clients.
 * @throws RackwireError ECONNREFUSED, ETIMEDOUT, EPROTO, EADDRINUSE, EEXIST, ...; EINVAL with exit status 2
 */
export async function startBlockServe(options: BlockServeOptions): Promise<BlockRun> {
  const { peer, port, local, unix, tcp, onLoss = "fail", depth, clients, timeoutNs, reconnectNs } = options;
  checkWhole("port", port, 1, 65535);
  checkWhole("depth", depth, 1, BLOCK_LIMITS.depth);
  checkWhole("clients", clients, 1, BLOCK_LIMITS.clients);
  checkWhole("timeoutNs", timeoutNs, 1, Number.MAX_SAFE_INTEGER);
  checkWhole("reconnectNs", reconnectNs, 1, Number.MAX_SAFE_INTEGER);
  if (unix === undefined && tcp === undefined) {
    throw refuse("NBD clients need a Unix socket or a TCP address");
  }
  if (unix !== undefined && new TextEncoder().encode(unix).length > 107) {
    throw refuse(`the path ${unix} is over 107 bytes, which no Unix socket takes`);
  }
  const engine = chooseKrpingEngine(options.engine ?? "auto", hostFacts());
  const stats = statistics();
  const out = new BigUint64Array(1);
  const message = new MessageBuffer(ERROR_LENGTH);
  const what = `cannot serve the exports of ${addressText(peer)} port ${port}`;
  check(
    await library().rackwire_krping_nbd_open(
      nbdConfigStruct.encode({
        size: nbdConfigStruct.size,
        engine: ENGINE_NUMBERS[engine],
        peer: addressText(peer),
        local: local === undefined ? "" : addressText(local),
        port,
        unix_path: unix ?? "",
        tcp_address: tcp === undefined ? "" : addressText(tcp.address),
        tcp_port: tcp?.port ?? 0,
        on_loss: onLoss === "replay" ? 1 : 0,
        depth: depth ?? 0,
        flags: flagsOf(options) | (options.readOnly ? NBD_READ_ONLY : 0),
        timeout_ns: timeoutNs ?? 0,
        reconnect_ns: reconnectNs ?? 0,
        max_clients: clients ?? 0,
        mtu: options.mtu ?? 0,
      }),
      stats.memory,
      BigInt(stats.memory.length),
      new Uint8Array(out.buffer),
      message.bytes,
      BigInt(message.bytes.length),
    ),
    what,
    message,
  );
  return new BlockRun("nbd", engine, what, out[0]!, stats, []);
}
