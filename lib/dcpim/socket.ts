// SPDX-License-Identifier: BSD-2-Clause
// dcPIM connections for programs: byte streams and whole messages.
//
//   await using listener = await listen({ port: 4000 });
//   for await (const connection of listener) serve(connection);
//
//   await using connection = await connect({ host: "10.0.0.2", port: 4000 });
//   await request.pipeTo(connection.writable);
//
// Calls into C never wait: what would block waits in the engine's poller.

import { check, errnoName, errorFromErrno, RackwireError } from "../ffi/errors.ts";
import { loadLibrary } from "../ffi/library.ts";
import { resolveHost } from "../host/resolve.ts";
import { addressText, readSockaddr, sockaddr, SOCKADDR_SIZE, type SocketAddress } from "../host/sockaddr.ts";
import type { DcpimEngineName, DcpimEngineOptions } from "./config.ts";
import { DcpimEngine, POLLIN, POLLOUT, POLLRDHUP } from "./engine.ts";
import { socketInfoStruct } from "./socket_symbols.ts";
import { dcpimLibrary } from "./symbols.ts";

/** A byte stream in both directions, or whole messages in both directions. */
export type DcpimKind = "stream" | "message";

export interface ConnectOptions {
  host: string;
  /** 1 to 65535. */
  port: number;
  /** Default: stream. */
  kind?: DcpimKind;
  /** The local port; one is chosen unless given. */
  localPort?: number;
  /** An engine to share, which stays the caller's; or what to start one with, for this connection alone. */
  engine?: DcpimEngine | DcpimEngineOptions;
  /** Ends the attempt, and later the connection at once, without waiting for what was sent. */
  signal?: AbortSignal;
}

export interface ListenOptions {
  /** An address of this machine; everywhere unless given. */
  host?: string;
  /** 0 lets one be chosen. */
  port: number;
  /** What to accept. Default: both. */
  kinds?: readonly DcpimKind[];
  /** Connections not yet taken. Default: 128. */
  backlog?: number;
  engine?: DcpimEngine | DcpimEngineOptions;
  /** Stops listening. */
  signal?: AbortSignal;
}

export interface ConnectionInfo {
  kind: DcpimKind;
  engine: DcpimEngineName;
  state: "new" | "bound" | "listening" | "connecting" | "connected" | "failed";
  local: SocketAddress | undefined;
  remote: SocketAddress | undefined;
  /** Microseconds; 0 before the first measurement. */
  srtt_us: number;
  /** Bytes of a packet: dcPIM header and payload. */
  max_packet: number;
  /** Bytes of the largest message. */
  max_message: number;
  /** Bytes that wait to be sent, and to be read. */
  tx_queued: bigint;
  rx_queued: bigint;
  /** Payload the peer acknowledged, and payload received in order. */
  bytes_tx: bigint;
  bytes_rx: bigint;
  /** Payload sent again. */
  rtx_bytes: bigint;
}

const STATES = ["new", "bound", "listening", "connecting", "connected", "failed"] as const;
const KINDS = ["stream", "message"] as const satisfies readonly DcpimKind[];

const EAGAIN = 11;
const EINPROGRESS = 115;
const MSG_PEEK = 0x2;
const MSG_DONTWAIT = 0x40;
const MSG_EOR = 0x80;
const SHUT_WR = 1;
const OPTION = {
  NONBLOCK: 6,
  LINGER: 8,
  ACCEPT_KINDS: 10,
  ERROR: 11,
  KIND: 12,
  READABLE_BYTES: 15,
  UNACKED_BYTES: 16,
} as const;

/** Bytes handed to C in one call; it copies them, and JavaScript waits meanwhile. */
const SEND_BYTES = 256 * 1024;
const RECEIVE_BYTES = 64 * 1024;
const EMPTY = new Uint8Array(1);
/** A struct iovec of no bytes. */
const EMPTY_IOVEC = new Uint8Array(16);

function c() {
  return loadLibrary(dcpimLibrary);
}

function checkPort(port: number, lowest: number): void {
  if (Number.isInteger(port) && port >= lowest && port <= 65535) return;
  throw new RackwireError("EINVAL", `port ${port} is not a whole number from ${lowest} to 65535`, {
    exitStatus: 2,
  });
}

function setOption(socket: bigint, option: number, value: bigint): void {
  check(c().rackwire_dcpim_setopt(socket, option, value), "cannot set a socket's option");
}

function getOption(socket: bigint, option: number): number {
  const value = new BigInt64Array(1);
  check(
    c().rackwire_dcpim_getopt(socket, option, new Uint8Array(value.buffer)),
    "cannot read a socket's option",
  );
  return Number(value[0]);
}

function newSocket(engine: DcpimEngine, kind: DcpimKind): bigint {
  const out = new BigUint64Array(1);
  check(
    c().rackwire_dcpim_socket(engine.handle, KINDS.indexOf(kind), new Uint8Array(out.buffer)),
    "cannot make a socket",
  );
  return out[0]!;
}

function addressOf(socket: bigint, which: "getsockname" | "getpeername"): SocketAddress | undefined {
  const bytes = new Uint8Array(SOCKADDR_SIZE);
  const length = new Uint8Array(new Uint32Array([SOCKADDR_SIZE]).buffer);
  return c()[`rackwire_dcpim_${which}`](socket, bytes, length) < 0 ? undefined : readSockaddr(bytes);
}

/** An engine, and whether it is to be closed with what was made on it. */
function engineFor(
  given: DcpimEngine | DcpimEngineOptions | undefined,
): { engine: DcpimEngine; own: boolean } {
  return given instanceof DcpimEngine
    ? { engine: given, own: false }
    : { engine: DcpimEngine.open(given), own: true };
}

/** Nanoseconds that closing waits for the peer to acknowledge what was sent. */
const LINGER_NS = 5_000_000_000n;
/** The same where only the end of the stream is to be acknowledged: the peer may be gone before it can. */
const LINGER_END_NS = 500_000_000n;
/** Closing goes on in the background. */
const NO_LINGER = -1n;

/** Gives a socket up that C may be looking at; its peer sees a reset. */
async function resetSocket(engine: DcpimEngine, socket: bigint): Promise<void> {
  await engine.poller.forget(socket);
  setOption(socket, OPTION.LINGER, 0n);
  await c().rackwire_dcpim_close(socket);
}

/** Closes a connection that C may be looking at, once all that was sent has arrived. */
async function closeConnected(engine: DcpimEngine, socket: bigint): Promise<void> {
  await engine.poller.forget(socket);
  const unacknowledged = getOption(socket, OPTION.UNACKED_BYTES) > 0;
  const peerEnded = (c().rackwire_dcpim_poll(socket, POLLRDHUP) & POLLRDHUP) !== 0;
  setOption(
    socket,
    OPTION.LINGER,
    unacknowledged ? LINGER_NS : peerEnded ? NO_LINGER : LINGER_END_NS,
  );
  if (await c().rackwire_dcpim_close(socket) === -EAGAIN && unacknowledged) {
    throw new RackwireError("ETIMEDOUT", "the peer has not acknowledged all that was sent", {
      hint: "some of it may be lost; check that the peer runs and reads",
    });
  }
}

/** Runs the making of a socket; takes everything down again when it fails. */
async function onNewSocket<T>(
  { engine, own }: { engine: DcpimEngine; own: boolean },
  kind: DcpimKind,
  work: (socket: bigint) => T | Promise<T>,
): Promise<T> {
  let socket: bigint | undefined;
  try {
    socket = newSocket(engine, kind);
    return await work(socket);
  } catch (error) {
    if (socket !== undefined) await resetSocket(engine, socket);
    if (own) await engine.close();
    throw error;
  }
}

export class DcpimConnection implements AsyncDisposable {
  readonly kind: DcpimKind;
  readonly #engine: DcpimEngine;
  readonly #own: boolean;
  readonly #socket: bigint;
  readonly #name: string;
  readonly #signal: AbortSignal | undefined;
  readonly #abort = () => void this.#end(true).catch(() => {});
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;
  #closed: PromiseWithResolvers<void> | undefined;
  #failure: RackwireError | undefined;
  #giving: Promise<void> | undefined;
  #ending: Promise<void> | undefined;
  #freed: ConnectionInfo | undefined;
  /** The last send on a message connection: they go out in the order they were asked for. */
  #sends: Promise<void> = Promise.resolve();
  #receiving = false;

  /** Use connect() or a listener. */
  constructor(engine: DcpimEngine, own: boolean, socket: bigint, signal?: AbortSignal) {
    this.#engine = engine;
    this.#own = own;
    this.#socket = socket;
    this.kind = KINDS[getOption(socket, OPTION.KIND)]!;
    const remote = addressOf(socket, "getpeername");
    this.#name = remote === undefined ? "the peer" : addressText(remote);
    this.#signal = signal;
    engine.members.add(this.#giveUp);
    if (signal?.aborted) this.#abort();
    else signal?.addEventListener("abort", this.#abort);
  }

  #fail(errno: number, what: string): RackwireError {
    const error = errorFromErrno(errno, `${what} ${this.#name}`);
    // A full buffer or a message too long leave the connection as it was.
    if (["ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH"].includes(error.code)) {
      this.#failure ??= error;
      this.#closed?.reject(error);
    }
    return this.#failure ?? error;
  }

  /** Waits until something can be done; throws when the connection ended instead. */
  async #wait(events: number): Promise<void> {
    if (this.#giving === undefined) await this.#engine.poller.wait(this.#socket, events);
    this.#checkOpen();
  }

  #checkOpen(): void {
    if (this.#giving === undefined) return;
    this.#signal?.throwIfAborted();
    throw new RackwireError("EBADF", `the connection to ${this.#name} was closed here`);
  }

  #need(kind: DcpimKind, what: string): void {
    if (this.kind === kind) return;
    throw new RackwireError("WRONG_KIND", `${what} needs a ${kind} connection, this is a ${this.kind} one`, {
      hint: `connect with kind: "${kind}"`,
    });
  }

  async #receive(into: Uint8Array<ArrayBuffer>): Promise<number> {
    for (;;) {
      this.#checkOpen();
      const length = BigInt(into.length);
      const n = Number(c().rackwire_dcpim_recv(this.#socket, into, length, MSG_DONTWAIT));
      if (n >= 0) return n;
      if (n !== -EAGAIN) throw this.#fail(n, "cannot receive from");
      await this.#wait(POLLIN);
    }
  }

  /** What the peer sends, up to its end. Nothing is read ahead of the reader. */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    this.#need("stream", "readable");
    this.#readable ??= new ReadableStream({
      type: "bytes",
      autoAllocateChunkSize: RECEIVE_BYTES,
      pull: async (controller) => {
        const request = controller.byobRequest!;
        const view = request.view as Uint8Array<ArrayBuffer>;
        const n = await this.#receive(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
        if (n === 0) controller.close();
        request.respond(n);
      },
    }, { highWaterMark: 0 });
    return this.#readable;
  }

  /** Bytes to the peer. A write ends when the engine has taken all of it; closing sends the stream's end. */
  get writable(): WritableStream<Uint8Array> {
    this.#need("stream", "writable");
    this.#writable ??= new WritableStream({
      write: async (chunk) => {
        for (let done = 0; done < chunk.length;) {
          this.#checkOpen();
          const piece = chunk.subarray(done, done + SEND_BYTES) as Uint8Array<ArrayBuffer>;
          const length = BigInt(piece.length);
          const n = Number(c().rackwire_dcpim_send(this.#socket, piece, length, MSG_DONTWAIT));
          if (n >= 0) done += n;
          else if (n !== -EAGAIN) throw this.#fail(n, "cannot send to");
          else await this.#wait(POLLOUT);
        }
      },
      close: () => {
        this.#checkOpen();
        const result = c().rackwire_dcpim_shutdown(this.#socket, SHUT_WR);
        if (result < 0) throw this.#fail(result, "cannot end the stream to");
      },
      abort: () => this.#end(true),
    });
    return this.#writable;
  }

  /**
   * Sends one message; resolves when the engine has taken it.
   * @throws RackwireError EMSGSIZE for one over `info().max_message`, ECONNRESET and others for a lost peer
   */
  sendMessage(message: Uint8Array): Promise<void> {
    this.#need("message", "sendMessage()");
    const send = async () => {
      const bytes = (message.length === 0 ? EMPTY : message) as Uint8Array<ArrayBuffer>;
      for (;;) {
        this.#checkOpen();
        const n = c().rackwire_dcpim_send(this.#socket, bytes, BigInt(message.length), MSG_DONTWAIT);
        if (n >= 0) return;
        if (Number(n) !== -EAGAIN) throw this.#fail(Number(n), `cannot send ${message.length} bytes to`);
        await this.#wait(POLLOUT);
      }
    };
    const sent = this.#sends.then(send);
    this.#sends = sent.catch(() => {});
    return sent;
  }

  /** Whether a message is there; false at the end. The next message may be empty. */
  async #messageThere(): Promise<boolean> {
    const flags = new Int32Array(1);
    for (;;) {
      this.#checkOpen();
      const n = Number(
        c().rackwire_dcpim_recvv(
          this.#socket,
          EMPTY_IOVEC,
          1,
          MSG_DONTWAIT | MSG_PEEK,
          new Uint8Array(flags.buffer),
        ),
      );
      if (n >= 0) return (flags[0]! & MSG_EOR) !== 0;
      if (n !== -EAGAIN) throw this.#fail(n, "cannot receive from");
      await this.#wait(POLLIN);
    }
  }

  /** The peer's messages, in the order they came, until it shuts down. One loop at a time. */
  async *messages(): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
    this.#need("message", "messages()");
    if (this.#receiving) throw new RackwireError("EBUSY", "another loop over messages() is under way");
    this.#receiving = true;
    try {
      while (await this.#messageThere()) {
        const size = getOption(this.#socket, OPTION.READABLE_BYTES);
        const message = new Uint8Array(Math.max(size, 1));
        yield message.subarray(0, await this.#receive(message));
      }
    } finally {
      this.#receiving = false;
    }
  }

  /** Ends the sending direction; the peer's messages() or readable end after what was sent. */
  async shutdown(): Promise<void> {
    await this.#sends;
    this.#checkOpen();
    const result = c().rackwire_dcpim_shutdown(this.#socket, SHUT_WR);
    if (result < 0) throw this.#fail(result, "cannot end the messages to");
  }

  /** Resolves when the connection has ended at both sides or was closed here; rejects when it broke. */
  get closed(): Promise<void> {
    if (this.#closed !== undefined) return this.#closed.promise;
    const closed = this.#closed = Promise.withResolvers<void>();
    // Whoever does not look is told by the reads and writes.
    closed.promise.catch(() => {});
    if (this.#failure !== undefined) closed.reject(this.#failure);
    else if (this.#giving !== undefined) closed.resolve();
    else {
      this.#engine.poller.wait(this.#socket, 0).then(() => {
        if (this.#giving === undefined) {
          const { error } = this.#rawInfo();
          if (error < 0) this.#fail(error, "lost the connection to");
        }
        closed.resolve();
      });
    }
    return closed.promise;
  }

  #rawInfo() {
    const bytes = socketInfoStruct.encode({ size: socketInfoStruct.size });
    check(c().rackwire_dcpim_socket_info(this.#socket, bytes), "cannot read a socket's figures");
    return socketInfoStruct.decode(bytes);
  }

  /** How the connection fares; after its end, how it fared. */
  info(): ConnectionInfo {
    if (this.#freed !== undefined) return this.#freed;
    const raw = this.#rawInfo();
    return {
      kind: this.kind,
      engine: this.#engine.name,
      state: STATES[raw.state]!,
      local: addressOf(this.#socket, "getsockname"),
      remote: addressOf(this.#socket, "getpeername"),
      srtt_us: raw.srtt_us,
      max_packet: raw.max_packet,
      max_message: raw.max_msg,
      tx_queued: raw.tx_queued,
      rx_queued: raw.rx_queued,
      bytes_tx: raw.bytes_tx,
      bytes_rx: raw.bytes_rx,
      rtx_bytes: raw.rtx_bytes,
    };
  }

  /** Gives the socket up, once. */
  readonly #giveUp = (reset = false): Promise<void> => {
    this.#giving ??= (async () => {
      this.#signal?.removeEventListener("abort", this.#abort);
      const info = this.#freed = this.info();
      try {
        await (reset ? resetSocket : closeConnected)(this.#engine, this.#socket);
        if (!reset) this.#freed = { ...info, bytes_tx: info.bytes_tx + info.tx_queued, tx_queued: 0n };
      } finally {
        this.#engine.members.delete(this.#giveUp);
        this.#closed?.resolve();
      }
    })();
    return this.#giving;
  };

  #end(reset: boolean): Promise<void> {
    this.#ending ??= (async () => {
      try {
        await this.#giveUp(reset);
      } finally {
        if (this.#own) await this.#engine.close();
      }
    })();
    return this.#ending;
  }

  /**
   * Closes both directions, once what was sent has arrived.
   * @throws RackwireError ETIMEDOUT when the peer did not acknowledge all of it within 5 s; it is closed
   * all the same
   */
  close(): Promise<void> {
    return this.#end(false);
  }

  /** Closes at once; the peer sees a reset. */
  reset(): Promise<void> {
    return this.#end(true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Connects to a listener.
 * @throws RackwireError ECONNREFUSED (no listener), ETIMEDOUT, EHOSTUNREACH, ENOTFOUND and others; what
 * the signal was aborted with
 */
export async function connect(options: ConnectOptions): Promise<DcpimConnection> {
  const { host, port, kind = "stream", localPort = 0, signal } = options;
  checkPort(port, 1);
  checkPort(localPort, 0);
  signal?.throwIfAborted();
  const address = await resolveHost(host);
  const what = `cannot connect to ${addressText({ ...address, port })}`;
  const made = engineFor(
    options.engine instanceof DcpimEngine ? options.engine : { towards: address, ...options.engine },
  );
  const { engine, own } = made;
  return await onNewSocket(made, kind, async (socket) => {
    setOption(socket, OPTION.NONBLOCK, 1n);
    if (localPort !== 0) {
      const any = { address: address.family === 4 ? "0.0.0.0" : "::", family: address.family };
      const local = sockaddr(any, localPort);
      check(c().rackwire_dcpim_bind(socket, local, local.length), `cannot bind port ${localPort}`);
    }
    const to = sockaddr(address, port);
    const result = c().rackwire_dcpim_connect(socket, to, to.length);
    if (result !== -EINPROGRESS) check(result, what);
    else {
      await engine.poller.wait(socket, POLLOUT, signal);
      signal?.throwIfAborted();
      const error = getOption(socket, OPTION.ERROR);
      if (error !== 0) throw errorFromErrno(error, what);
    }
    return new DcpimConnection(engine, own, socket, signal);
  });
}

/** Connections as they come: `for await (const connection of listener)`. */
export class DcpimListener implements AsyncDisposable, AsyncIterable<DcpimConnection> {
  readonly engine: DcpimEngine;
  /** Where it listens. */
  readonly address: SocketAddress;
  readonly #own: boolean;
  readonly #socket: bigint;
  readonly #signal: AbortSignal | undefined;
  readonly #abort = () => void this.close().catch(() => {});
  #giving: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  /** Use listen(). */
  constructor(engine: DcpimEngine, own: boolean, socket: bigint, signal?: AbortSignal) {
    this.engine = engine;
    this.#own = own;
    this.#socket = socket;
    this.address = addressOf(socket, "getsockname")!;
    this.#signal = signal;
    engine.members.add(this.#giveUp);
    signal?.addEventListener("abort", this.#abort);
  }

  /** The next connection, or undefined once closed. Accepted connections do not inherit the signal. */
  async accept(): Promise<DcpimConnection | undefined> {
    const out = new BigUint64Array(1);
    for (;;) {
      if (this.#giving !== undefined) return undefined;
      const result = c().rackwire_dcpim_accept(
        this.#socket,
        new Uint8Array(out.buffer),
        null,
        null,
        MSG_DONTWAIT,
      );
      if (result >= 0) return new DcpimConnection(this.engine, false, out[0]!);
      if (result !== -EAGAIN) check(result, "cannot accept a connection");
      await this.engine.poller.wait(this.#socket, POLLIN);
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<DcpimConnection, void, void> {
    for (let next = await this.accept(); next !== undefined; next = await this.accept()) yield next;
  }

  readonly #giveUp = (): Promise<void> => {
    this.#giving ??= (async () => {
      this.#signal?.removeEventListener("abort", this.#abort);
      await resetSocket(this.engine, this.#socket);
      this.engine.members.delete(this.#giveUp);
    })();
    return this.#giving;
  };

  /**
   * Stops listening. Accepted connections live on, unless the engine is the listener's own: then they are
   * closed, and this waits until what they sent has arrived.
   */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#giveUp();
      if (this.#own) await this.engine.close();
    })();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Listens for connections.
 * @throws RackwireError EADDRINUSE, EADDRNOTAVAIL, EACCES, ENOTFOUND and others
 */
export async function listen(options: ListenOptions): Promise<DcpimListener> {
  const { host, port, kinds = KINDS, backlog = 128, signal } = options;
  checkPort(port, 0);
  if (kinds.length === 0) {
    throw new RackwireError("EINVAL", "a listener accepts streams, messages or both", { exitStatus: 2 });
  }
  signal?.throwIfAborted();
  const address = host === undefined ? undefined : await resolveHost(host);
  const made = engineFor(
    options.engine instanceof DcpimEngine ? options.engine : { local: address, ...options.engine },
  );
  return await onNewSocket(made, kinds[0]!, (socket) => {
    const bits = kinds.reduce((sum, kind) => sum | 1 << KINDS.indexOf(kind), 0);
    setOption(socket, OPTION.ACCEPT_KINDS, BigInt(bits));
    // Everywhere means IPv6 too, where the machine has it.
    const places = address !== undefined
      ? [address]
      : [{ address: "::", family: 6 as const }, { address: "0.0.0.0", family: 4 as const }];
    for (const place of places) {
      const at = sockaddr(place, port);
      const result = c().rackwire_dcpim_bind(socket, at, at.length);
      const retry = place.family === 6 && address === undefined &&
        ["EAFNOSUPPORT", "EADDRNOTAVAIL"].includes(errnoName(result));
      if (retry) continue;
      check(result, `cannot listen on ${addressText({ ...place, port })}`);
      break;
    }
    check(c().rackwire_dcpim_listen(socket, backlog), `cannot listen on port ${port}`);
    return new DcpimListener(made.engine, made.own, socket, signal);
  });
}
