// SPDX-License-Identifier: BSD-2-Clause
// What ping, stream and message have in common: starting a run, watching it, ending it.

import {
  checkCpus,
  checkEngineOptions,
  chooseEngine,
  type DcpimEngineOptions,
} from "../../../lib/dcpim/config.ts";
import type {
  DcpimStats,
  Transport,
  Workload,
  WorkResult,
  WorkSnapshot,
} from "../../../lib/dcpim/workload.ts";
import * as workload from "../../../lib/dcpim/workload.ts";
import { RackwireError } from "../../../lib/ffi/errors.ts";
import type { HostFacts } from "../../../lib/host/facts.ts";
import { type Address, resolveHost } from "../../../lib/host/resolve.ts";
import { type Context, sleep } from "../../context.ts";
import type { Endpoint } from "../../options/endpoint.ts";
import { Progress } from "../../output/progress.ts";
import { figuresOf } from "./present.ts";

/** The part of a workload that commands use. */
export type Run = Pick<
  Workload,
  | "kind"
  | "engine"
  | "transports"
  | "ports"
  | "done"
  | "stop"
  | "snapshot"
  | "connections"
  | "engineStats"
  | "close"
>;

/** What runs; tests put something else in its place. */
export interface DcpimService {
  startServer(options: workload.ServerOptions): Run;
  startPing(options: workload.PingOptions): Run;
  startStream(options: workload.StreamOptions): Run;
  startMessages(options: workload.MessageOptions): Run;
}

export function serviceOf(context: Context): DcpimService {
  return context.dcpim ?? workload;
}

export interface Prepared {
  host: HostFacts;
  peer: Address;
  /** With the engine's name in place of `auto`. */
  engine: DcpimEngineOptions;
}

/** Checks all that can be checked before anything is opened. */
export async function prepare(
  context: Context,
  target: Endpoint,
  engine: DcpimEngineOptions,
): Promise<Prepared> {
  checkEngineOptions(engine);
  const host = context.hostFacts();
  checkCpus(engine.cpus, host);
  const name = chooseEngine(engine.engine ?? "auto", host);
  return { host, peer: await resolveHost(target.host), engine: { ...engine, engine: name } };
}

export interface Watching {
  /** Printed first. */
  heading: string;
  /** Of the progress. */
  label: string;
  /** How much of the run is done, from 0 to 1; without it no progress is shown. */
  share?(snapshot: WorkSnapshot): number;
  /** Called after each `intervalNs`, with the figures before and after it. */
  intervalNs?: number;
  onInterval?(now: WorkSnapshot, before: WorkSnapshot): void;
}

export interface Outcome extends WorkResult {
  stats: DcpimStats;
}

const LOOK_MS = 100;

/** Watches a run to its end, or stops it when the signal comes, and gives its figures. */
export async function watch(
  context: Context,
  signal: AbortSignal,
  run: Run,
  target: Endpoint,
  watching: Watching,
): Promise<Outcome> {
  const stop = () => run.stop();
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  const ended = new AbortController();
  const over = run.done.then(() => ended.abort(), () => ended.abort());
  try {
    context.out.write(watching.heading);
    using progress = new Progress(context.err, { label: watching.label, total: 1 });
    const lookMs = watching.onInterval === undefined ? LOOK_MS : (watching.intervalNs ?? 1e9) / 1e6;
    const began = performance.now();
    let before = run.snapshot();
    for (let tick = 1; !ended.signal.aborted; tick++) {
      // Counted from the start, so that intervals do not drift.
      await sleep(Math.max(1, began + tick * lookMs - performance.now()), ended.signal);
      if (ended.signal.aborted || signal.aborted) break;
      const now = run.snapshot();
      watching.onInterval?.(now, before);
      if (watching.share !== undefined) progress.update(watching.share(now));
      before = now;
    }
    await over;
    const result = await run.done;
    return { ...result, stats: run.engineStats() };
  } catch (error) {
    // It goes on where it was not the run that failed, but whoever read our output has gone.
    run.stop();
    throw explained(error, run, target);
  } finally {
    signal.removeEventListener("abort", stop);
    await over;
    run.close();
  }
}

/** The same error with a hint that knows what was tried. */
function explained(error: unknown, run: Run, { port }: Endpoint): unknown {
  if (!(error instanceof RackwireError)) return error;
  const hints: Record<string, string> = {
    ECONNREFUSED:
      `start one there: rackwire dcpim server --port ${port} --engine ${run.engine}; both ends need the same engine`,
    ETIMEDOUT:
      `check that the server runs, with --engine ${run.engine} as well, and that no firewall is between`,
    ECONNRESET: "the server ended, or its machine did; start it again",
    EMSGSIZE: "send smaller messages, or use a stream: rackwire dcpim ping --long, rackwire dcpim stream",
    EPROTO: "something else listens at that port, or a server that is older or newer than this program",
  };
  const hint = hints[error.code];
  if (hint === undefined) return error;
  const exitStatus = error.code === "EMSGSIZE" ? 2 : error.exitStatus;
  return new RackwireError(error.code, error.message, { hint, exitStatus, cause: error });
}

export interface Goal {
  durationNs?: number;
  warmupNs?: number;
  /** How much of `done` each transport is to do. */
  perTransport?: number;
  done?: "completed" | "tx_bytes" | "rx_bytes";
}

/** How far a run is: by time, or by how much of what was asked for is done. */
export function shareOf(
  transports: readonly Transport[],
  { durationNs, warmupNs = 0, perTransport, done = "completed" }: Goal,
): ((snapshot: WorkSnapshot) => number) | undefined {
  if (durationNs === undefined && perTransport === undefined) return undefined;
  const began = performance.now();
  return (snapshot) => {
    const byTime = durationNs === undefined
      ? 0
      : (snapshot.at_ms - began) * 1e6 / ((warmupNs + durationNs) * transports.length);
    const byWork = perTransport === undefined
      ? 0
      : figuresOf(snapshot).reduce((sum, [, { counters }]) => sum + counters[done], 0) /
        (perTransport * transports.length);
    return Math.max(byTime, byWork);
  };
}

/** The run is a failure where bytes arrived wrong, once its figures are printed. */
export function failIfCorrupt({ corrupt }: WorkResult): void {
  if (!corrupt) return;
  throw new RackwireError("EBADMSG", "bytes arrived that were not sent", {
    hint: "check memory and network hardware; if they are sound, please report it with the output of --json",
  });
}
