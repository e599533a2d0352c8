// SPDX-License-Identifier: BSD-2-Clause
// Connections of queue pairs, as rdma_cm makes them: a listener's port, requests, answers, ends.
//
//   using listener = RoceListener.listen(device, { port: 7471 });
//   const request = await listener.next();
//   await using connection = await request.accept(queue);

import { check, errnoName, errnoText, RackwireError } from "../ffi/errors.ts";
import { resolveHost } from "../host/resolve.ts";
import { addressText, readSockaddr, sockaddr, type SocketAddress } from "../host/sockaddr.ts";
import { addressOf, keep, type QueuePair, type RoceDevice, rocelib } from "./device.ts";
import { roceCmEventStruct, roceConnParamStruct } from "./symbols.ts";

const KIND = {
  request: 1,
  established: 2,
  rejected: 3,
  unreachable: 4,
  disconnected: 5,
} as const;

const REJECT_CONSUMER = 28;
const REASONS: Record<number, string> = {
  1: "it has no queue pair left",
  3: "it has no resources left",
  4: "it did not get our answer in time",
  8: "nothing listens on that port",
  10: "it still has the connection before this one",
  28: "the application refused",
};

/** How a connection retries, and what its first message carries. */
export interface ConnectionOptions {
  /** For the peer's application: at most 56 bytes with a request, 196 with an answer. */
  privateData?: Uint8Array;
  /** READs and atomics the peer may have under way here, 0 to 16. Default: 16. */
  responder_resources?: number;
  /** Ours under way at the peer. Default: 16. */
  initiator_depth?: number;
  /** Retries after silence, 0 to 7. Default: 7. */
  retry_count?: number;
  /** Retries of a receiver that is not ready, 0 to 6; 7: without end. Default: 7. */
  rnr_retry_count?: number;
  /** 4.096 us times two to this power, 1 to 31. Default: 18, about a second. */
  ack_timeout?: number;
  /** Traffic class of the packets. Default: 0. */
  tos?: number;
}

export interface RoceConnectOptions extends ConnectionOptions {
  host: string;
  /** Of rdma_cm, 1 to 65535. */
  port: number;
  /** How long to wait for the peer. Default: as long as the protocol tries. */
  timeout_ms?: number;
}

interface Event {
  kind: number;
  error: number;
  status: number;
  id: bigint;
  listener: bigint;
  privateData: Uint8Array;
  peer: SocketAddress | undefined;
}

function paramBytes(options: ConnectionOptions, data: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return roceConnParamStruct.encode({
    private_data: data.length === 0 ? 0n : addressOf(data),
    private_data_len: data.length,
    responder_resources: options.responder_resources ?? 16,
    initiator_depth: options.initiator_depth ?? 16,
    retry_count: options.retry_count ?? 7,
    rnr_retry_count: options.rnr_retry_count ?? 7,
    ack_timeout: options.ack_timeout ?? 0,
    tos: options.tos ?? 0,
  });
}

function copyOf(data: Uint8Array | undefined): Uint8Array<ArrayBuffer> {
  return new Uint8Array(data ?? []);
}

/** Hands a device's connection events to whom they concern, while somebody waits for one. */
class Dispatcher {
  readonly #device: RoceDevice;
  readonly #handlers = new Map<bigint, (event: Event) => void>();
  #waiting = 0;
  #running = false;

  constructor(device: RoceDevice) {
    this.#device = device;
  }

  watch(id: bigint, handler: (event: Event) => void): void {
    this.#handlers.set(id, handler);
  }

  unwatch(id: bigint): void {
    this.#handlers.delete(id);
  }

  /** Events are taken while the promise is pending. */
  async during<T>(promise: Promise<T>): Promise<T> {
    this.#waiting++;
    if (!this.#running) void this.#run();
    try {
      return await promise;
    } finally {
      this.#waiting--;
    }
  }

  async #run(): Promise<void> {
    this.#running = true;
    const bytes = roceCmEventStruct.allocate();
    while (this.#waiting > 0 && !this.#device.closed) {
      const handle = this.#device.handle;
      const found = await this.#device.whileOpen(
        50,
        (slice) => rocelib().rackwire_roce_cm_wait(handle, bytes, slice),
      );
      if (found === 0) continue;
      const raw = roceCmEventStruct.decode(bytes);
      const event = {
        ...raw,
        privateData: raw.private_data.slice(0, raw.private_data_len),
        peer: readSockaddr(raw.peer),
      };
      const to = event.kind === KIND.request ? event.listener : event.id;
      this.#handlers.get(to)?.(event);
    }
    this.#running = false;
    if (this.#device.closed) {
      const gone = {
        kind: 0,
        error: 0,
        status: 0,
        id: 0n,
        listener: 0n,
        privateData: new Uint8Array(),
        peer: undefined,
      };
      for (const handler of [...this.#handlers.values()]) handler(gone);
    }
  }
}

const dispatchers = new WeakMap<RoceDevice, Dispatcher>();

function dispatcherOf(device: RoceDevice): Dispatcher {
  let dispatcher = dispatchers.get(device);
  if (dispatcher === undefined) dispatchers.set(device, dispatcher = new Dispatcher(device));
  return dispatcher;
}

function failure(event: Event, peer: string): RackwireError {
  if (event.kind === KIND.rejected) {
    const reason = REASONS[event.status] ?? `reason ${event.status}`;
    return new RackwireError("ECONNREFUSED", `${peer} refused the connection: ${reason}`, {
      hint: event.status === 8 ? "start the server first and check the port" : undefined,
    });
  }
  if (event.kind === 0) return new RackwireError("ECANCELED", "the RoCE device was closed");
  const { error } = event;
  return new RackwireError(errnoName(error), `cannot reach ${peer}: ${errnoText(error)}`, {
    hint: "check that the peer runs and that UDP port 4791 is not filtered between",
  });
}

/** A queue pair connected to a peer's. */
export class RoceConnection implements AsyncDisposable {
  readonly queuePair: QueuePair;
  /** What the peer's application sent with its answer, or its request; zeros fill it up. */
  readonly privateData: Uint8Array;
  readonly peer: SocketAddress | undefined;
  readonly #device: RoceDevice;
  #id: bigint;
  readonly #ended = Promise.withResolvers<RackwireError | undefined>();

  /** Use connect() or a request. */
  constructor(device: RoceDevice, id: bigint, queuePair: QueuePair, event: Event) {
    this.#device = device;
    this.#id = id;
    this.queuePair = queuePair;
    this.privateData = event.privateData;
    this.peer = event.peer;
    dispatcherOf(device).watch(id, (later) => {
      if (later.kind === KIND.disconnected && later.error < 0) {
        this.#ended.resolve(
          new RackwireError(
            errnoName(later.error),
            `lost the connection to ${this.#name}: ${errnoText(later.error)}`,
          ),
        );
      } else if (later.kind === KIND.disconnected || later.kind === 0) this.#ended.resolve(undefined);
    });
    device.members.add(this);
  }

  get #name(): string {
    return this.peer === undefined ? "the peer" : addressText(this.peer);
  }

  /** Resolves when either side has disconnected; rejects when the peer is lost. */
  async ended(): Promise<void> {
    const error = await dispatcherOf(this.#device).during(this.#ended.promise);
    if (error !== undefined) throw error;
  }

  /** Tells the peer; everything posted completes as flushed. */
  disconnect(): void {
    if (this.#id !== 0n) rocelib().rackwire_roce_disconnect(this.#id);
  }

  /** The device is gone, and this with it. */
  forget(): void {
    if (this.#id !== 0n) dispatcherOf(this.#device).unwatch(this.#id);
    this.#id = 0n;
    this.#device.members.delete(this);
    this.#ended.resolve(undefined);
  }

  /** Disconnects and gives the connection up; the queue pair stays the caller's. */
  close(): void {
    const id = this.#id;
    this.forget();
    if (id !== 0n) rocelib().rackwire_roce_cm_destroy(id);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }
}

async function establish(
  device: RoceDevice,
  id: bigint,
  queuePair: QueuePair,
  peer: string,
  timeout_ms: number | undefined,
): Promise<RoceConnection> {
  const answer = Promise.withResolvers<Event>();
  const dispatcher = dispatcherOf(device);
  dispatcher.watch(id, answer.resolve);
  let timer: ReturnType<typeof setTimeout> | undefined;
  if (timeout_ms !== undefined) {
    timer = setTimeout(() => {
      answer.resolve({
        kind: KIND.unreachable,
        error: -110,
        status: 0,
        id,
        listener: 0n,
        privateData: new Uint8Array(),
        peer: undefined,
      });
    }, timeout_ms);
  }
  const event = await dispatcher.during(answer.promise);
  clearTimeout(timer);
  if (event.kind === KIND.established) return new RoceConnection(device, id, queuePair, event);
  dispatcher.unwatch(id);
  if (event.kind !== 0) rocelib().rackwire_roce_cm_destroy(id);
  throw failure(event, peer);
}

/**
 * Connects a fresh queue pair to a listening peer.
 * @throws RackwireError ECONNREFUSED with the reason; ETIMEDOUT, EHOSTUNREACH; ENOTFOUND for an unknown host
 */
export async function connect(
  device: RoceDevice,
  queuePair: QueuePair,
  options: RoceConnectOptions,
): Promise<RoceConnection> {
  const { host, port, timeout_ms } = options;
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new RackwireError("EINVAL", `port ${port} is not a whole number from 1 to 65535`, {
      exitStatus: 2,
    });
  }
  const address = await resolveHost(host);
  const data = copyOf(options.privateData);
  const id = new BigUint64Array(1);
  const result = rocelib().rackwire_roce_connect(
    device.handle,
    queuePair.handle,
    sockaddr(address, port),
    paramBytes(options, data),
    null,
    new Uint8Array(id.buffer),
  );
  keep(data);
  check(result, `cannot connect to ${host}, port ${port}`);
  return await establish(device, id[0]!, queuePair, `${host}, port ${port}`, timeout_ms);
}

/** Somebody who wants to connect. */
export class RoceRequest {
  /** What the peer's application sent with it; zeros fill it up. */
  readonly privateData: Uint8Array;
  readonly peer: SocketAddress | undefined;
  readonly #device: RoceDevice;
  #id: bigint;

  /** Use a listener. */
  constructor(device: RoceDevice, event: Event) {
    this.#device = device;
    this.#id = event.id;
    this.privateData = event.privateData;
    this.peer = event.peer;
  }

  #take(): bigint {
    const id = this.#id;
    if (id === 0n) throw new RackwireError("EALREADY", "the request has been answered");
    this.#id = 0n;
    return id;
  }

  /**
   * Takes it, with a fresh queue pair whose receives are posted.
   * @throws RackwireError ENOTCONN when the peer has given up meanwhile
   */
  async accept(queuePair: QueuePair, options: ConnectionOptions = {}): Promise<RoceConnection> {
    const id = this.#take();
    const data = copyOf(options.privateData);
    const result = rocelib().rackwire_roce_accept(id, queuePair.handle, paramBytes(options, data), null);
    keep(data);
    if (result < 0) rocelib().rackwire_roce_cm_destroy(id);
    check(result, "cannot accept the connection");
    const peer = this.peer === undefined ? "the peer" : addressText(this.peer);
    return await establish(this.#device, id, queuePair, peer, undefined);
  }

  /** @param privateData for the peer's application, at most 148 bytes */
  reject(privateData?: Uint8Array): void {
    const id = this.#take();
    const data = copyOf(privateData);
    const length = data.length;
    const bytes = length === 0 ? null : data;
    const result = rocelib().rackwire_roce_reject(id, REJECT_CONSUMER, bytes, length);
    if (result < 0) rocelib().rackwire_roce_cm_destroy(id);
    check(result, "cannot refuse the connection");
  }
}

/** A port of rdma_cm on which connections are asked for. */
export class RoceListener implements Disposable {
  readonly port: number;
  readonly #device: RoceDevice;
  #id: bigint;
  #requests: RoceRequest[] = [];
  #waiters: ((request: RoceRequest | undefined) => void)[] = [];

  private constructor(device: RoceDevice, id: bigint) {
    this.#device = device;
    this.#id = id;
    this.port = rocelib().rackwire_roce_cm_port(id);
    device.members.add(this);
    dispatcherOf(device).watch(id, (event) => {
      if (event.kind === 0) return this.forget();
      const request = new RoceRequest(device, event);
      const waiter = this.#waiters.shift();
      if (waiter === undefined) this.#requests.push(request);
      else waiter(request);
    });
  }

  /**
   * @param options.port 0: one is chosen
   * @param options.backlog requests not yet answered
   * @throws RackwireError EADDRINUSE when another device of this address listens there
   */
  static listen(device: RoceDevice, options: { port: number; backlog?: number }): RoceListener {
    const id = new BigUint64Array(1);
    const result = rocelib().rackwire_roce_listen(
      device.handle,
      options.port,
      options.backlog ?? 0,
      null,
      new Uint8Array(id.buffer),
    );
    check(result, `cannot listen on port ${options.port}`);
    return new RoceListener(device, id[0]!);
  }

  /** The next request; undefined when the listener is closed. */
  async next(): Promise<RoceRequest | undefined> {
    const request = this.#requests.shift();
    if (request !== undefined || this.#id === 0n) return request;
    const next = new Promise<RoceRequest | undefined>((resolve) => this.#waiters.push(resolve));
    return await dispatcherOf(this.#device).during(next);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<RoceRequest, void, void> {
    for (let request = await this.next(); request !== undefined; request = await this.next()) yield request;
  }

  /** The device is gone, and this with it. */
  forget(): void {
    if (this.#id !== 0n) dispatcherOf(this.#device).unwatch(this.#id);
    this.#id = 0n;
    this.#device.members.delete(this);
    for (const waiter of this.#waiters.splice(0)) waiter(undefined);
  }

  /** Stops listening; requests that were not answered are refused. */
  close(): void {
    const id = this.#id;
    for (const request of this.#requests.splice(0)) request.reject();
    this.forget();
    if (id !== 0n) rocelib().rackwire_roce_cm_destroy(id);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
