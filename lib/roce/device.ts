// SPDX-License-Identifier: BSD-2-Clause
// RDMA over Converged Ethernet in this process, without hardware or privilege, in the terms of the verbs.
//
//   await using device = RoceDevice.open({ local: "10.0.0.1" });
//   using domain = device.protectionDomain();
//   using memory = domain.register(new Uint8Array(65536), ["local_write", "remote_read"]);
//   using completions = device.completionQueue(64);
//   using queue = domain.queuePair(completions, completions);
//   await using connection = await connect(device, queue, { host: "10.0.0.2", port: 7471 });
//   queue.send({ op: "send", local: memory.slice(0, 5), signaled: true });
//   const [completion] = await completions.wait();
//
// Calls into C never block the event loop: what waits does so on a thread of Deno's.

import { check, errnoName, MessageBuffer, RackwireError } from "../ffi/errors.ts";
import { loadLibrary } from "../ffi/library.ts";
import {
  roceConfigStruct,
  roceDevInfoStruct,
  roceDevStatsStruct,
  roceLibrary,
  roceQpAttrStruct,
  roceQpStatsStruct,
  roceRecvWrStruct,
  roceSendWrStruct,
  roceSgeStruct,
  roceWcStruct,
} from "./symbols.ts";

const ECANCELED = -125;
const NS_PER_MS = 1_000_000n;
/** One call into C waits no longer than this, so that what is closed meanwhile is noticed. */
const WAIT_SLICE_MS = 200;

const FLAGS = { noThread: 0x1, noOffload: 0x2, ecn: 0x4, strictId: 0x8, busyPoll: 0x10 } as const;
const ACCESS = { local_write: 1, remote_write: 2, remote_read: 4, remote_atomic: 8 } as const;
const SEND_FLAGS = { fence: 1, signaled: 2, solicited: 4, inline: 8 } as const;

/** What may be done to a region or over a queue pair; the owner may always read. */
export type RoceAccess = keyof typeof ACCESS;

const OPS = {
  send: 0,
  send_with_imm: 1,
  send_with_inv: 2,
  write: 3,
  write_with_imm: 4,
  read: 5,
  read_with_inv: 6,
  compare_and_swap: 7,
  fetch_and_add: 8,
  local_inv: 9,
  reg_mr: 10,
} as const;
export type RoceOp = keyof typeof OPS;

const STATUS: Record<number, string> = {
  0: "success",
  1: "local length error",
  2: "local QP operation error",
  4: "local protection error",
  5: "flushed",
  6: "memory window bind error",
  7: "bad response",
  8: "local access error",
  9: "remote invalid request",
  10: "remote access error",
  11: "remote operation error",
  12: "retries exhausted",
  13: "receiver not ready, retries exhausted",
  16: "remote abort",
  19: "fatal error",
  21: "general error",
};

const COMPLETED: Record<number, CompletedOp> = {
  0: "send",
  1: "write",
  2: "read",
  3: "compare_and_swap",
  4: "fetch_and_add",
  5: "local_inv",
  6: "reg_mr",
  128: "receive",
  129: "receive_write_with_imm",
};
export type CompletedOp =
  | "send"
  | "write"
  | "read"
  | "compare_and_swap"
  | "fetch_and_add"
  | "local_inv"
  | "reg_mr"
  | "receive"
  | "receive_write_with_imm";

const STATES = ["reset", "init", "rtr", "rts", "sqe", "err"] as const;

export interface RoceDeviceOptions {
  /** A numeric address of this machine, with its zone if it is link-local; every address unless given. */
  local?: string;
  /** Without `local`: be at the address from which the route goes to this one. */
  towards?: string;
  /** Default: 4791. Peers that are not rackwire know no other. */
  udp_port?: number;
  /** Payload of a packet: 256, 512, 1024, 2048 or 4096. Default: the largest that fits the interface. */
  mtu?: number;
  /** Bytes of one queue pair under way. Default: 512 KiB, less where the receive buffer is small. */
  window?: number;
  /** Bytes of the socket's receive buffer. Default: 8 MiB, or what the system allows. */
  receive_buffer?: number;
  /** Segmentation offloads of the kernel. Default: true. */
  offload?: boolean;
  /** Mark packets as capable of congestion notification, and slow down when notified. */
  ecn?: boolean;
  /** With `ecn`: the link's rate in bits per second. Default: 10 Gbit/s. */
  rate_bps?: number;
  /** Accept only packets whose IPv4 identification is known for sure. */
  strict_id?: boolean;
  /** Waits spin instead of sleeping. */
  busy_poll?: boolean;
  /** A thread in C that serves peers while nobody waits. Default: true. */
  thread?: boolean;
  /** Queue pairs; default 4096. */
  max_qps?: number;
  /** Memory regions; default 16384. */
  max_mrs?: number;
}

export interface RoceDeviceInfo {
  mtu: number;
  /** Empty: every address. */
  local: string;
  gso: boolean;
  gro: boolean;
  thread: boolean;
  /** Processes that share the address and port, this one included. */
  processes: number;
  rcvbuf: number;
  /** The ICRC is computed by PCLMULQDQ. */
  pclmul: boolean;
  /** IPv4 identification was seen to be as foreseen; false where it could not be looked at. */
  id_probed: boolean;
  qps: number;
  mrs: number;
  cm_ids: number;
  listeners: number;
  half_open: number;
  timewait: number;
}

/** Where bytes are in this process: part of a region. */
export interface RoceSge {
  addr: bigint;
  length: number;
  lkey: number;
}

export interface SendRequest {
  op: RoceOp;
  /** Comes back in the completion. Default: 0. */
  id?: bigint;
  local?: RoceSge | readonly RoceSge[];
  /** Of RDMA and atomic operations: where at the peer. */
  remote?: { addr: bigint; rkey: number };
  /** Of *_with_imm. */
  imm?: number;
  /** Of *_inv: the key to invalidate. */
  invalidate?: number;
  /** Of reg_mr: the region, its new key out of `nextKey()`, and what it allows from then on. */
  register?: { region: MemoryRegion; key: number; access: readonly RoceAccess[] };
  /** Of atomics: what is compared with, or added. */
  compare_add?: bigint;
  /** Of compare_and_swap. */
  swap?: bigint;
  /** Starts after the READs and atomics before it have completed. */
  fence?: boolean;
  /** Completes to the queue; errors always do. Default: true. */
  signaled?: boolean;
  /** Wakes a peer that waits for solicited completions only. */
  solicited?: boolean;
  /** The bytes are copied at once; at most 256. */
  inline?: boolean;
}

export interface ReceiveRequest {
  id?: bigint;
  local?: RoceSge | readonly RoceSge[];
}

export interface Completion {
  id: bigint;
  /** "success", or what went wrong. */
  status: string;
  ok: boolean;
  op: CompletedOp | undefined;
  /** Bytes received or read. */
  bytes: number;
  imm: number | undefined;
  /** A key of ours that the peer invalidated. */
  invalidated: number | undefined;
  qp_num: number;
}

export interface QueuePairOptions {
  /** 1 to 16384; default 64. */
  max_send?: number;
  max_receive?: number;
  /** 1 to 8; default 1. */
  max_sge?: number;
  /** What the peer may do at all. Default: nothing but send. */
  access?: readonly RoceAccess[];
}

export function rocelib() {
  return loadLibrary(roceLibrary);
}

function accessBits(access: readonly RoceAccess[]): number {
  return access.reduce((bits, each) => bits | ACCESS[each], 0);
}

/** Where bytes are, for C to read during a call; keep() them until it has returned. */
export function addressOf(bytes: Uint8Array<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
}

const kept: unknown[] = [];
/** Called after C, so that what it looked at is not collected as garbage before. */
export function keep(what: unknown): void {
  kept[0] = what;
}

function sgeList(
  local: RoceSge | readonly RoceSge[] | undefined,
): { bytes: Uint8Array<ArrayBuffer>; count: number } {
  const list = local === undefined
    ? []
    : Array.isArray(local)
    ? local as readonly RoceSge[]
    : [local as RoceSge];
  const bytes = new Uint8Array(Math.max(1, list.length) * roceSgeStruct.size);
  list.forEach((sge, i) => {
    bytes.set(
      roceSgeStruct.encode({ addr: sge.addr, length: sge.length, lkey: sge.lkey }),
      i * roceSgeStruct.size,
    );
  });
  return { bytes, count: list.length };
}

function out(): { bytes: Uint8Array<ArrayBuffer>; value(): bigint } {
  const words = new BigUint64Array(1);
  return { bytes: new Uint8Array(words.buffer), value: () => words[0]! };
}

/** Things of a device, which it takes with it when it is closed. */
abstract class Owned implements Disposable {
  readonly device: RoceDevice;
  #handle: bigint;
  readonly #what: string;

  constructor(device: RoceDevice, handle: bigint, what: string) {
    this.device = device;
    this.#handle = handle;
    this.#what = what;
    device.members.add(this);
  }

  /** For this folder's own use. */
  get handle(): bigint {
    if (this.#handle === 0n) throw new RackwireError("EBADF", `the ${this.#what} was closed`);
    return this.#handle;
  }

  get open(): boolean {
    return this.#handle !== 0n;
  }

  /** The device is gone, and this with it. */
  forget(): void {
    this.#handle = 0n;
    this.device.members.delete(this);
  }

  protected abstract release(handle: bigint): number | void;

  /**
   * Gives it up; harmless when it is closed already.
   * @throws RackwireError EBUSY while something else uses it
   */
  close(): void {
    if (this.#handle === 0n) return;
    check(this.release(this.#handle) ?? 0, `cannot close the ${this.#what}`);
    this.forget();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Memory of this process that peers may reach, as far as its access goes. */
export class MemoryRegion extends Owned {
  /** Stays where it is, and is kept, while the region lives. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Where it begins, as the peer is told. */
  readonly addr: bigint;

  constructor(device: RoceDevice, handle: bigint, bytes: Uint8Array<ArrayBuffer>) {
    super(device, handle, "memory region");
    this.bytes = bytes;
    this.addr = addressOf(bytes);
  }

  protected release(handle: bigint): void {
    rocelib().rackwire_roce_mr_deregister(handle);
  }

  /** The current key, for here and for peers. */
  get key(): number {
    return rocelib().rackwire_roce_mr_key(this.handle);
  }

  /** A key for a request with the operation reg_mr. */
  nextKey(): number {
    const key = new Uint32Array(1);
    check(
      rocelib().rackwire_roce_mr_next_key(this.handle, new Uint8Array(key.buffer)),
      "cannot make a key",
    );
    return key[0]!;
  }

  /** Part of it, for a request; all of it unless told. */
  slice(offset = 0, length: number = this.bytes.length - offset): RoceSge {
    if (offset < 0 || length < 0 || offset + length > this.bytes.length) {
      throw new RackwireError(
        "EINVAL",
        `${length} bytes at ${offset} are not within the region's ${this.bytes.length}`,
      );
    }
    return { addr: this.addr + BigInt(offset), length, lkey: this.key };
  }
}

/** Where completions of requests are found. */
export class CompletionQueue extends Owned {
  protected release(handle: bigint): number {
    return rocelib().rackwire_roce_cq_destroy(handle);
  }

  /**
   * What has completed, oldest first, at most so many; moves the device's packets when there is nothing.
   * @throws RackwireError EOVERFLOW when completions were lost for want of room
   */
  poll(max = 64): Completion[] {
    const bytes = new Uint8Array(max * roceWcStruct.size);
    const n = check(rocelib().rackwire_roce_poll_cq(this.handle, bytes, max), "cannot read completions");
    return Array.from({ length: n }, (_, i) => {
      const wc = roceWcStruct.decode(bytes, i * roceWcStruct.size);
      return {
        id: wc.wr_id,
        status: STATUS[wc.status] ?? `status ${wc.status}`,
        ok: wc.status === 0,
        op: COMPLETED[wc.opcode],
        bytes: wc.byte_len,
        imm: wc.flags & 1 ? wc.ex : undefined,
        invalidated: wc.flags & 2 ? wc.ex : undefined,
        qp_num: wc.qp_num,
      };
    });
  }

  /**
   * Waits for completions; an empty list when none came in time or the device was closed.
   * @param timeout_ms for ever unless given
   */
  async wait(max = 64, timeout_ms = Infinity): Promise<Completion[]> {
    const found = await this.device.whileOpen(
      timeout_ms,
      (slice) => rocelib().rackwire_roce_cq_wait(this.handle, slice),
    );
    return found > 0 && this.open ? this.poll(max) : [];
  }
}

/** One end of a reliable connection. */
export class QueuePair extends Owned {
  readonly number: number;

  constructor(device: RoceDevice, handle: bigint) {
    super(device, handle, "queue pair");
    this.number = rocelib().rackwire_roce_qp_num(handle);
  }

  protected release(handle: bigint): void {
    rocelib().rackwire_roce_qp_destroy(handle);
  }

  get state(): typeof STATES[number] {
    return STATES[rocelib().rackwire_roce_qp_state(this.handle)]!;
  }

  /**
   * Posts requests, which are carried out in order.
   * @throws RackwireError ENOMEM for a full queue, EINVAL, EMSGSIZE; those before the offender are posted
   */
  send(...requests: readonly SendRequest[]): void {
    const bytes = new Uint8Array(requests.length * roceSendWrStruct.size);
    const lists = requests.map(({ local }) => sgeList(local));
    requests.forEach((request, i) => {
      const { register, imm = 0, invalidate = 0 } = request;
      const flags = (request.fence ? SEND_FLAGS.fence : 0) |
        (request.signaled === false ? 0 : SEND_FLAGS.signaled) |
        (request.solicited ? SEND_FLAGS.solicited : 0) | (request.inline ? SEND_FLAGS.inline : 0);
      const wr = roceSendWrStruct.encode({
        wr_id: request.id ?? 0n,
        sg_list: addressOf(lists[i]!.bytes),
        num_sge: lists[i]!.count,
        opcode: OPS[request.op],
        flags,
        ex: register === undefined
          ? { mr: request.op.endsWith("_inv") ? invalidate : imm }
          : { mr: register.region.handle, key: register.key, access: accessBits(register.access) },
        remote_addr: request.remote?.addr ?? 0n,
        rkey: request.remote?.rkey ?? 0,
        compare_add: request.compare_add ?? 0n,
        swap: request.swap ?? 0n,
      });
      bytes.set(wr, i * roceSendWrStruct.size);
    });
    const result = rocelib().rackwire_roce_post_send(this.handle, bytes, requests.length, null);
    keep(lists);
    check(result, `cannot post ${requests.map(({ op }) => op).join(", ")}`);
  }

  /**
   * Posts room for messages, which fill it in order.
   * @throws RackwireError ENOMEM for a full queue, EINVAL
   */
  receive(...requests: readonly ReceiveRequest[]): void {
    const bytes = new Uint8Array(requests.length * roceRecvWrStruct.size);
    const lists = requests.map(({ local }) => sgeList(local));
    requests.forEach(({ id = 0n }, i) => {
      const wr = roceRecvWrStruct.encode({
        wr_id: id,
        sg_list: addressOf(lists[i]!.bytes),
        num_sge: lists[i]!.count,
      });
      bytes.set(wr, i * roceRecvWrStruct.size);
    });
    const result = rocelib().rackwire_roce_post_recv(this.handle, bytes, requests.length, null);
    keep(lists);
    check(result, "cannot post a receive");
  }

  /** Ends it here: everything posted completes as flushed. */
  fail(): void {
    rocelib().rackwire_roce_qp_error(this.handle);
  }

  stats() {
    const bytes = roceQpStatsStruct.allocate();
    rocelib().rackwire_roce_qp_stats(this.handle, bytes);
    return roceQpStatsStruct.decode(bytes);
  }
}

/** Regions and queue pairs that may be used together. */
export class ProtectionDomain extends Owned {
  protected release(handle: bigint): number {
    return rocelib().rackwire_roce_pd_destroy(handle);
  }

  /**
   * Makes memory reachable. The bytes must not be transferred to a worker while the region lives.
   * @throws RackwireError EINVAL for no bytes, or access from afar without local_write where it writes
   */
  register(bytes: Uint8Array<ArrayBuffer>, access: readonly RoceAccess[]): MemoryRegion {
    const handle = out();
    const result = rocelib().rackwire_roce_mr_register(
      this.handle,
      Deno.UnsafePointer.of(bytes),
      BigInt(bytes.length),
      accessBits(access),
      handle.bytes,
    );
    check(result, `cannot register ${bytes.length} bytes`);
    return new MemoryRegion(this.device, handle.value(), bytes);
  }

  queuePair(
    sends: CompletionQueue,
    receives: CompletionQueue,
    options: QueuePairOptions = {},
  ): QueuePair {
    const { max_send = 0, max_receive = 0, max_sge = 0, access = [] } = options;
    const attr = roceQpAttrStruct.encode({
      max_send_wr: max_send,
      max_recv_wr: max_receive,
      max_sge,
      access: accessBits(access),
    });
    const handle = out();
    const result = rocelib().rackwire_roce_qp_create(
      this.handle,
      sends.handle,
      receives.handle,
      attr,
      null,
      handle.bytes,
    );
    check(result, "cannot make a queue pair");
    return new QueuePair(this.device, handle.value());
  }
}

/** One UDP socket and the protocol around it. Devices of one user share an address and port. */
export class RoceDevice implements AsyncDisposable {
  /** For this folder's own use, as the rest up to info(). */
  readonly handle: bigint;
  readonly members = new Set<{ forget(): void }>();
  #waits = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  private constructor(handle: bigint) {
    this.handle = handle;
  }

  /**
   * Opens a device.
   * @throws RackwireError EINVAL for an option out of range; EADDRINUSE when the kernel's rdma_rxe or another
   * user has the port; EADDRNOTAVAIL, ENETUNREACH
   */
  static open(options: RoceDeviceOptions = {}): RoceDevice {
    const config = roceConfigStruct.encode({
      size: roceConfigStruct.size,
      flags: (options.thread === false ? FLAGS.noThread : 0) |
        (options.offload === false ? FLAGS.noOffload : 0) | (options.ecn ? FLAGS.ecn : 0) |
        (options.strict_id ? FLAGS.strictId : 0) | (options.busy_poll ? FLAGS.busyPoll : 0),
      local: options.local ?? "",
      towards: options.towards ?? "",
      udp_port: options.udp_port ?? 0,
      mtu: options.mtu ?? 0,
      window: options.window ?? 0,
      rcvbuf: options.receive_buffer ?? 0,
      rate_bps: options.rate_bps ?? 0,
      max_qps: options.max_qps ?? 0,
      max_mrs: options.max_mrs ?? 0,
    });
    const handle = out();
    const message = new MessageBuffer();
    const length = BigInt(message.bytes.length);
    const result = rocelib().rackwire_roce_open(config, handle.bytes, message.bytes, length);
    check(result, `cannot open a RoCE device${options.local ? ` on ${options.local}` : ""}`, message);
    return new RoceDevice(handle.value());
  }

  /** Repeats a call into C that waits for so many nanoseconds, until it finds something or time is up. */
  async whileOpen(timeout_ms: number, call: (slice_ns: bigint) => Promise<number>): Promise<number> {
    const until = performance.now() + timeout_ms;
    while (this.#closing === undefined) {
      const left = Math.max(0, Math.min(until - performance.now(), WAIT_SLICE_MS));
      const waiting = call(BigInt(Math.ceil(left)) * NS_PER_MS);
      this.#waits.add(waiting);
      const found = await waiting;
      this.#waits.delete(waiting);
      if (found < 0 && found !== ECANCELED) {
        throw new RackwireError(errnoName(found), "cannot wait on the RoCE device");
      }
      if (found > 0) return found;
      if (performance.now() >= until) break;
    }
    return 0;
  }

  get closed(): boolean {
    return this.#closing !== undefined;
  }

  info(): RoceDeviceInfo {
    this.#checkOpen();
    const bytes = roceDevInfoStruct.encode({ size: roceDevInfoStruct.size });
    check(rocelib().rackwire_roce_dev_info(this.handle, bytes), "cannot read the device's facts");
    const { size: _, crc, gso, gro, thread, id_probe, ...rest } = roceDevInfoStruct.decode(bytes);
    return {
      ...rest,
      gso: gso !== 0,
      gro: gro !== 0,
      thread: thread !== 0,
      pclmul: crc !== 0,
      id_probed: id_probe !== 0,
    };
  }

  stats() {
    this.#checkOpen();
    const bytes = roceDevStatsStruct.allocate();
    check(rocelib().rackwire_roce_dev_stats(this.handle, bytes), "cannot read the device's counters");
    return roceDevStatsStruct.decode(bytes);
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw new RackwireError("EBADF", "the RoCE device was closed");
  }

  protectionDomain(): ProtectionDomain {
    this.#checkOpen();
    const handle = out();
    check(rocelib().rackwire_roce_pd_create(this.handle, handle.bytes), "cannot make a protection domain");
    return new ProtectionDomain(this, handle.value(), "protection domain");
  }

  /** @param entries completions it has room for; more are lost */
  completionQueue(entries = 256): CompletionQueue {
    this.#checkOpen();
    const handle = out();
    check(
      rocelib().rackwire_roce_cq_create(this.handle, entries, null, handle.bytes),
      "cannot make a completion queue",
    );
    return new CompletionQueue(this, handle.value(), "completion queue");
  }

  /** Closes the device and all that is on it; peers are told. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      // From here on no wait begins; those under way end by themselves within a slice.
      await Promise.resolve();
      while (this.#waits.size > 0) {
        rocelib().rackwire_roce_wake(this.handle);
        await Promise.race([...this.#waits]);
        await Promise.resolve();
      }
      for (const member of [...this.members]) member.forget();
      await rocelib().rackwire_roce_close(this.handle);
    })();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
