// SPDX-License-Identifier: BSD-2-Clause
// dcPIM's commands inside namespaces, and what must be true of their figures.

import assert from "node:assert/strict";
import { RACKWIRE } from "../helpers/cli.ts";
import type { Finished, Host, Program } from "../helpers/netns.ts";

export type Engine = "udp" | "raw";
export const ENGINES: Engine[] = ["udp", "raw"];
export const PORT = 4000;

/** The parts of a client's JSON that tests look at. */
interface Report {
  stopped: boolean;
  transports: { dcpim: { counters: Record<string, number> } };
  stats: Record<string, number>;
}

/** Starts a server and waits until it listens. */
export async function startServer(
  host: Host,
  address: string,
  engine: Engine,
  options: string[] = [],
  env: Record<string, string> = {},
): Promise<Program> {
  const server = host.start([
    ...[RACKWIRE, "dcpim", "server", "--ip", address, "--port", `${PORT}`, "--engine", engine, ...options],
  ], { seconds: 300, env });
  await server.until(/listening/i);
  return server;
}

/** Ends a server by Ctrl-C: it says goodbye with its own status and no complaint. */
export async function stopServer(server: Program): Promise<void> {
  assert.ok(!server.ended, `the server had ended: ${server.out}${server.err}`);
  const { status, err } = await server.stop("SIGINT");
  assert.equal(status, 130, err);
  assert.doesNotMatch(err, /rackwire:/);
}

export function startClient(
  host: Host,
  verb: "stream" | "message" | "ping",
  address: string,
  engine: Engine,
  options: string[],
  env: Record<string, string> = {},
): Program {
  const target = `${address.includes(":") ? `[${address}]` : address}:${PORT}`;
  return host.start([RACKWIRE, "dcpim", verb, target, "--engine", engine, "--json", "--quiet", ...options], {
    seconds: 120,
    env,
  });
}

function reportOf({ status, out, err }: Finished): Report {
  assert.equal(status, 0, err || out);
  return JSON.parse(out);
}

/** A transfer of a given number of bytes on each of `parallel` streams, checked at the receiver. */
export async function streamWhole(client: Program, bytes: number, parallel = 1): Promise<Report> {
  const report = reportOf(await client.finished);
  const { counters } = report.transports.dcpim;
  const what = JSON.stringify(counters);
  assert.equal(counters.tx_bytes, bytes * parallel, what);
  assert.equal(counters.peer_reports, parallel, what);
  assert.equal(counters.peer_bytes, bytes * parallel, what);
  assert.equal(counters.peer_verified_bytes, bytes * parallel, what);
  assert.equal(counters.peer_corrupt_bytes, 0, what);
  assert.equal(counters.failed, 0, what);
  assert.equal(report.stopped, false);
  return report;
}

/** The same in the other direction. */
export async function reverseWhole(client: Program, bytes: number): Promise<Report> {
  const report = reportOf(await client.finished);
  const { counters } = report.transports.dcpim;
  const what = JSON.stringify(counters);
  assert.equal(counters.rx_bytes, bytes, what);
  assert.equal(counters.verified_bytes, bytes, what);
  assert.equal(counters.corrupt_bytes, 0, what);
  assert.equal(counters.failed, 0, what);
  return report;
}

/** `count` messages of one size, each arrived once and right. */
export async function messagesWhole(client: Program, count: number, size: number): Promise<Report> {
  const report = reportOf(await client.finished);
  const { counters } = report.transports.dcpim;
  const what = JSON.stringify(counters);
  assert.equal(counters.requests, count, what);
  assert.equal(counters.peer_requests, count, what);
  assert.equal(counters.peer_bytes, count * size, what);
  assert.equal(counters.peer_verified_bytes, count * size, what);
  assert.equal(counters.peer_corrupt_bytes, 0, what);
  // An acknowledgement may come after the time a message is given, but it comes.
  assert.equal(counters.completed! + counters.late!, count, what);
  assert.equal(counters.failed, 0, what);
  return report;
}

/** `count` pings, each answered with the bytes that were sent. */
export async function pingsWhole(client: Program, count: number, length: number): Promise<Report> {
  const report = reportOf(await client.finished);
  const { counters } = report.transports.dcpim;
  const what = JSON.stringify(counters);
  assert.equal(counters.requests, count, what);
  assert.equal(counters.completed! + counters.late!, count, what);
  assert.equal(counters.verified_bytes, count * length, what);
  assert.equal(counters.corrupt_bytes, 0, what);
  assert.equal(counters.failed, 0, what);
  return report;
}

/** A run that must fail with one line and status 1. */
export async function failsCleanly(client: Program): Promise<Finished> {
  const finished = await client.finished;
  assert.equal(finished.status, 1, finished.out + finished.err);
  assert.match(finished.err, /^rackwire: .+\n(?:hint: .+\n)?$/);
  return finished;
}
