// SPDX-License-Identifier: BSD-2-Clause
// A dcPIM engine in this process, and one thread in C that waits for all of its sockets.

import { check, MessageBuffer } from "../ffi/errors.ts";
import { loadLibrary } from "../ffi/library.ts";
import { hostFacts } from "../host/facts.ts";
import { hostLibrary } from "../host/symbols.ts";
import {
  checkCpus,
  checkEngineOptions,
  chooseEngine,
  configFields,
  type DcpimEngineName,
  type DcpimEngineOptions,
} from "./config.ts";
import { pollfdStruct } from "./socket_symbols.ts";
import { dcpimConfigStruct, dcpimLibrary } from "./symbols.ts";

export const POLLIN = 0x1;
export const POLLOUT = 0x4;
export const POLLRDHUP = 0x2000;
const POLLNVAL = 0x20;

interface Wait {
  socket: bigint;
  events: number;
  resolve(revents: number): void;
}

/** Waits for many sockets with one blocking call at a time, which a descriptor interrupts. */
class Poller {
  readonly #dcpim = loadLibrary(dcpimLibrary);
  readonly #host = loadLibrary(hostLibrary);
  readonly #wake: number;
  #waits: Wait[] = [];
  /** The call under way; what is in it must not be freed. */
  #running: Promise<void> | undefined;

  constructor() {
    this.#wake = check(this.#host.rackwire_host_wake_open(), "cannot make a descriptor to wait on");
  }

  /** Resolves with what poll(2) would say, or 0 when the signal or forget() ended the wait. */
  wait(socket: bigint, events: number, signal?: AbortSignal): Promise<number> {
    if (signal?.aborted) return Promise.resolve(0);
    return new Promise((resolve) => {
      const end = () => {
        this.#waits = this.#waits.filter((each) => each !== wait);
        wait.resolve(0);
      };
      const wait: Wait = {
        socket,
        events,
        resolve(revents) {
          signal?.removeEventListener("abort", end);
          resolve(revents);
        },
      };
      signal?.addEventListener("abort", end);
      this.#waits.push(wait);
      this.#interrupt();
      this.#running ??= this.#run();
    });
  }

  /** Ends all waits for a socket and returns when C does not look at it any more. */
  async forget(socket: bigint): Promise<void> {
    for (const wait of this.#waits.filter((each) => each.socket === socket)) wait.resolve(0);
    this.#waits = this.#waits.filter((each) => each.socket !== socket);
    const calls = this.#calls;
    this.#interrupt();
    while (this.#running !== undefined && this.#calls === calls) await this.#call;
  }

  async close(): Promise<void> {
    for (const wait of this.#waits) wait.resolve(0);
    this.#waits = [];
    this.#interrupt();
    await this.#running;
    this.#host.rackwire_host_wake_close(this.#wake);
  }

  #calls = 0;
  #call: Promise<unknown> | undefined;

  #interrupt(): void {
    if (this.#running !== undefined) this.#host.rackwire_host_wake(this.#wake);
  }

  async #run(): Promise<void> {
    // Whoever begins to wait in this turn of the event loop is in the first call already.
    await Promise.resolve();
    while (this.#waits.length > 0) {
      const waits = [...this.#waits];
      const { size } = pollfdStruct;
      const fds = new Uint8Array(size * (waits.length + 1));
      fds.set(pollfdStruct.encode({ fd: this.#wake, events: POLLIN }));
      waits.forEach(({ socket, events }, i) => {
        fds.set(pollfdStruct.encode({ socket, fd: -1, events }), size * (i + 1));
      });
      this.#call = this.#dcpim.rackwire_dcpim_poll_many(fds, waits.length + 1, -1n);
      await this.#call;
      this.#calls++;
      this.#host.rackwire_host_wake_clear(this.#wake);
      const ready = waits.map((wait, i) => ({
        wait,
        revents: pollfdStruct.decode(fds, size * (i + 1)).revents,
      })).filter(({ revents }) => revents !== 0);
      // Those that ended meanwhile are gone from the list.
      const live = new Set(this.#waits);
      const done = new Set(ready.map(({ wait }) => wait));
      this.#waits = this.#waits.filter((wait) => !done.has(wait));
      for (const { wait, revents } of ready) if (live.has(wait)) wait.resolve(revents & ~POLLNVAL);
    }
    this.#running = undefined;
  }
}

/** One engine: its threads, its sockets. Several connections may share it. */
export class DcpimEngine implements AsyncDisposable {
  readonly name: DcpimEngineName;
  /** For this folder's own use. */
  readonly handle: bigint;
  readonly poller: Poller;
  /** Give up each socket that is still open; their handles end with the engine. */
  readonly members = new Set<() => Promise<void>>();
  #closing: Promise<void> | undefined;

  private constructor(name: DcpimEngineName, handle: bigint) {
    this.name = name;
    this.handle = handle;
    this.poller = new Poller();
  }

  /**
   * Starts an engine.
   * @throws RackwireError EINVAL for an option out of range; EPERM or ENGINE_UNAVAILABLE, with exit status
   * 3, where this machine cannot run it
   */
  static open(options: DcpimEngineOptions = {}): DcpimEngine {
    checkEngineOptions(options);
    const facts = hostFacts();
    checkCpus(options.cpus, facts);
    const name = chooseEngine(options.engine ?? "auto", facts);
    const config = dcpimConfigStruct.encode({
      ...configFields(options, name),
      size: dcpimConfigStruct.size,
    });
    const out = new BigUint64Array(1);
    const message = new MessageBuffer();
    const result = loadLibrary(dcpimLibrary).rackwire_dcpim_engine_open(
      config,
      new Uint8Array(out.buffer),
      message.bytes,
      BigInt(message.bytes.length),
    );
    check(result, `cannot start the engine ${name}`, message);
    return new DcpimEngine(name, out[0]!);
  }

  /** What `rackwire dcpim stat` shows of an engine. */
  stat(): unknown {
    const { rackwire_dcpim_engine_json } = loadLibrary(dcpimLibrary);
    let bytes = new Uint8Array(64 * 1024);
    for (;;) {
      const n = Number(check(
        rackwire_dcpim_engine_json(this.handle, bytes, BigInt(bytes.length)),
        "cannot read the engine's figures",
      ));
      if (n < bytes.length) return JSON.parse(new TextDecoder().decode(bytes.subarray(0, n)));
      bytes = new Uint8Array(2 * n);
    }
  }

  /**
   * Stops the engine, after closing what is still open on it.
   * @throws RackwireError ETIMEDOUT when a peer did not acknowledge what was sent to it; the engine is gone
   */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      const closed = await Promise.allSettled([...this.members].map((giveUp) => giveUp()));
      await this.poller.close();
      // Every socket has waited for its own peer.
      await loadLibrary(dcpimLibrary).rackwire_dcpim_engine_close(this.handle, 0n);
      const failed = closed.find((each) => each.status === "rejected");
      if (failed !== undefined) throw failed.reason;
    })();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
