// SPDX-License-Identifier: BSD-2-Clause
// Guests with the kernel's soft RoCE (rdma_rxe) on eth0, and the RDMA programs that run in them.
//
//   await using peer = await bootRxe({ label: "peer", nics: [lan.nic()] });
//   const server = await rpingServer(peer, { address: addressOf(peer.nics[0]!, "v4") });
//   ... a client of ours runs in lan.host ...
//   const { status, out } = await server.finished;

import type { Finished } from "../helpers/netns.ts";
import { type BootOptions, Guest, type GuestProgram, type RunOptions } from "./guest.ts";

export const RPING_PORT = 7174;
const PERFTEST_PORT = 18515;
const MAX_TRIES = 5;
const POLL_MS = 100;

/** Boots a guest that has rxe0, with everything user space needs to use it. */
export async function bootRxe(options: BootOptions): Promise<Guest> {
  const guest = await Guest.boot({
    ...options,
    // Up to 6.11 rxe asks the crypto layer for crc32, which modprobe does not know of.
    modules: ["crc32_generic", "rdma_rxe", "rdma_ucm", ...options.modules ?? []],
  });
  try {
    await guest.sh("rdma", "link", "add", "rxe0", "type", "rxe", "netdev", "eth0");
  } catch (error) {
    await guest.close();
    throw error;
  }
  return guest;
}

/** rxe's own counters (sent_pkts, rcvd_pkts, duplicate_request, retry_exceeded_err, ...) since it was made. */
export async function rxeCounters(guest: Guest): Promise<Record<string, number>> {
  const files = "/sys/class/infiniband/rxe0/ports/1/hw_counters";
  const lines = await guest.sh("sh", "-c", `cd ${files} && grep -H . *`);
  return Object.fromEntries(
    lines.trim().split("\n").map((line) => line.split(":")).map(([name, value]) => [name!, Number(value)]),
  );
}

/** Waits until a program listens on a port of the connection manager, or by TCP. */
async function listening(program: GuestProgram, port: number, by: "rdma" | "tcp"): Promise<void> {
  const list = by === "rdma" ? "rdma resource show cm_id" : "ss -Hltn";
  const listens = by === "rdma" ? new RegExp(`state LISTEN .*:${port} `) : new RegExp(`:${port} `);
  for (;;) {
    const ended = program.ended;
    if (listens.test(await program.guest.sh("sh", "-c", list))) return;
    if (ended) {
      const { status, out, err } = await program.finished;
      throw new Error(`it ended with status ${status} and never listened: ${out}${err}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

export interface RpingOptions {
  /** Of the server: to listen on, or to call. */
  address: string;
  /** 7174 unless given. */
  port?: number;
  /** Pings; both sides must agree. A server without it serves until its client leaves. */
  count?: number;
  /** Bytes of each, 64 unless given; both sides must agree. */
  size?: number;
  /** Prints each ping. */
  verbose?: boolean;
  /** A server that takes one client after another until it is stopped. */
  persistent?: boolean;
  seconds?: number;
}

function rpingArguments(options: RpingOptions): string[] {
  const { address, port = RPING_PORT, count, size = 64, verbose, persistent } = options;
  return [
    ...["-V", "-a", address, "-p", `${port}`, "-S", `${size}`],
    ...(count === undefined ? [] : ["-C", `${count}`]),
    ...(verbose ? ["-v"] : []),
    ...(persistent ? ["-P"] : []),
  ];
}

/** Starts `rping -s` with validation; it listens when this returns. */
export async function rpingServer(guest: Guest, options: RpingOptions): Promise<GuestProgram> {
  const program = await guest.start(["rping", "-s", ...rpingArguments(options)], {
    seconds: options.seconds,
  });
  await listening(program, options.port ?? RPING_PORT, "rdma");
  return program;
}

/** Runs `rping -c` with validation to its end. */
export function rpingClient(guest: Guest, options: RpingOptions & { count: number }): Promise<Finished> {
  return guest.run(["rping", "-c", ...rpingArguments(options)], { seconds: options.seconds });
}

/** The numbers of the pings that a verbose rping printed, in order. */
export function pings(out: string): number[] {
  return [...out.matchAll(/ping data: rdma-ping-(\d+): /g)].map(([, number]) => Number(number));
}

export type Perftest = `ib_${"send" | "write" | "read" | "atomic"}_${"bw" | "lat"}`;

/** Starts the server of a perftest program; it listens when this returns. Both sides need the same arguments. */
export async function perftestServer(
  guest: Guest,
  tool: Perftest,
  args: string[],
  options?: RunOptions,
): Promise<GuestProgram> {
  const program = await guest.start([tool, ...args], options);
  await listening(program, PERFTEST_PORT, args.includes("-R") ? "rdma" : "tcp");
  return program;
}

export interface PerftestResult extends Finished {
  /** A row for each size, by the words of the table's head: "#bytes", "BW average[MB/sec]", "t_typical[usec]". */
  rows: Record<string, number>[];
}

/** The table in what a perftest program printed. */
export function perftestRows(out: string): Record<string, number>[] {
  const cells = (line: string) => line.trim().split(/\s{2,}|\t/).map((cell) => cell.trim());
  const lines = out.split("\n");
  const head = lines.findIndex((line) => line.trimStart().startsWith("#bytes"));
  if (head < 0) return [];
  const names = lines[head]!.replace("#bytes #", "#bytes  #").replaceAll("] ", "]  ");
  return lines.slice(head + 1).filter((line) => /^\s*\d/.test(line)).map((line) =>
    Object.fromEntries(cells(names).map((name, i) => [name, Number(cells(line)[i])]))
  );
}

/** Runs the client of a perftest program against a server that was started with the same arguments. */
export async function perftestClient(
  guest: Guest,
  tool: Perftest,
  address: string,
  args: string[],
  options?: RunOptions,
): Promise<PerftestResult> {
  const finished = await guest.run([tool, ...args, address], options);
  return { ...finished, rows: perftestRows(finished.out) };
}

/**
 * Runs a perftest program between two guests, to the end of both sides.
 * @param to the guest that serves, and the address of it to call
 */
export async function perftest(
  tool: Perftest,
  from: Guest,
  to: { guest: Guest; address: string },
  args: string[],
): Promise<{ client: PerftestResult; server: Finished }> {
  for (let tries = 1;; tries++) {
    const server = await perftestServer(to.guest, tool, args);
    const client = await perftestClient(from, tool, to.address, args);
    if (client.status === 0) return { client, server: await server.finished };
    const stopped = await server.stop("SIGKILL");
    // With -R it calls twice. A server that does not listen again in time rejects the second call, as one of
    // an unknown service (8), and the client then crashes.
    const early = /RDMA_CM_EVENT_REJECTED; error: 8/.test(client.out + client.err);
    if (!early || tries === MAX_TRIES) return { client, server: stopped };
  }
}
