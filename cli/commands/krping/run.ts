// SPDX-License-Identifier: BSD-2-Clause
// Starting, watching and ending a run of krping.

import { RackwireError } from "../../../lib/ffi/errors.ts";
import type { KrpingResult, KrpingRun, KrpingSnapshot } from "../../../lib/krping/work.ts";
import * as work from "../../../lib/krping/work.ts";
import { type Context, sleep } from "../../context.ts";
import type { Endpoint } from "../../options/endpoint.ts";
import { Progress } from "../../output/progress.ts";

/** The part of a run that commands use. */
export type Run = Pick<
  KrpingRun,
  | "kind"
  | "engine"
  | "port"
  | "device"
  | "mtu"
  | "done"
  | "stop"
  | "snapshot"
  | "connections"
  | "lines"
  | "close"
>;

/** What runs; tests put something else in its place. */
export interface KrpingService {
  startKrpingServer(options: work.KrpingServerOptions): Promise<Run>;
  startKrping(options: work.KrpingClientOptions): Promise<Run>;
}

export function serviceOf(context: Context): KrpingService {
  return context.krping ?? work;
}

export interface Watching {
  /** Printed first. */
  heading: string;
  /** Of the progress. */
  label: string;
  /** How much of the run is done, from 0 to 1; without it no progress is shown. */
  share?(snapshot: KrpingSnapshot): number;
  /** Called after each `intervalNs`, and once at the end, with the figures before and after it. */
  intervalNs?: number;
  onInterval?(now: KrpingSnapshot, before: KrpingSnapshot): void;
}

const LOOK_MS = 100;

/** Watches a run to its end, or stops it when the signal comes, and gives its figures. */
export async function watch(
  context: Context,
  signal: AbortSignal,
  run: Run,
  target: Endpoint,
  watching: Watching,
): Promise<KrpingResult> {
  const stop = () => run.stop();
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  const ended = new AbortController();
  const over = run.done.then(() => ended.abort(), () => ended.abort());
  let before = run.snapshot();
  const interval = () => {
    const now = run.snapshot();
    watching.onInterval?.(now, before);
    before = now;
    return now;
  };
  try {
    context.out.write(watching.heading);
    using progress = new Progress(context.err, { label: watching.label, total: 1 });
    const lookMs = watching.onInterval === undefined ? LOOK_MS : (watching.intervalNs ?? 1e9) / 1e6;
    const began = performance.now();
    for (let tick = 1; !ended.signal.aborted; tick++) {
      // Counted from the start, so that intervals do not drift.
      await sleep(Math.max(1, began + tick * lookMs - performance.now()), ended.signal);
      if (ended.signal.aborted || signal.aborted) break;
      const now = interval();
      if (watching.share !== undefined) progress.update(watching.share(now));
    }
    await over;
    progress.finish();
    interval();
    return await run.done;
  } catch (error) {
    // It goes on where it was not the run that failed, but whoever read our output has gone.
    run.stop();
    throw explained(error, target);
  } finally {
    signal.removeEventListener("abort", stop);
    await over;
    run.close();
  }
}

/** The same error with a hint that knows what was tried. @param server what should run at the target */
export function explained(error: unknown, { port }: Endpoint, server = "rackwire krping server"): unknown {
  if (!(error instanceof RackwireError)) return error;
  const hints: Record<string, string> = {
    ECONNREFUSED: `start one there: ${server} --port ${port}`,
    ETIMEDOUT: "check that the server runs and that UDP port 4791 is let through",
    ECONNRESET: "the server ended, or its machine did; start it again",
    EPROTO: `something else than ${server} listens at that port`,
    EREMOTEIO: "the peer refused a request; its size or its options may not be ours",
    EADDRINUSE:
      "the port is taken, or UDP port 4791 belongs to another user or to the kernel's rdma_rxe (then try --engine verbs)",
  };
  const hint = hints[error.code];
  if (hint === undefined) return error;
  return new RackwireError(error.code, error.message, { hint, exitStatus: error.exitStatus, cause: error });
}
