// SPDX-License-Identifier: BSD-2-Clause
// What a command may touch of the world around it, so that tests can hand it another.

import { RackwireError } from "../lib/ffi/errors.ts";
import { type HostFacts, hostFacts } from "../lib/host/facts.ts";
import type { DcpimService } from "./commands/dcpim/client.ts";
import type { KrpingService } from "./commands/krping/run.ts";
import { COLOURED, PLAIN, type Style } from "./output/style.ts";

export interface Output {
  write(text: string): void;
  readonly isTerminal: boolean;
  readonly columns: number;
  readonly style: Style;
}

export interface Context {
  out: Output;
  err: Output;
  /** Calls back at each Ctrl-C or SIGTERM, until the returned function is called. */
  onInterrupt(listener: () => void): () => void;
  hostFacts(): HostFacts;
  /** What the dcPIM commands run; the C library unless given. */
  dcpim?: DcpimService;
  /** Likewise of the krping commands. */
  krping?: KrpingService;
}

/** Ends a command with status 130; its summary has been printed by then. */
export class Interrupted extends RackwireError {
  constructor() {
    super("INTERRUPTED", "interrupted", { exitStatus: 130 });
  }
}

/**
 * Runs work that Ctrl-C or SIGTERM stops cleanly. The work watches the signal, stops, prints its summary
 * and returns; the command then ends with status 130. A second Ctrl-C does not wait for that.
 */
export async function interruptible<T>(
  context: Context,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const impatient = Promise.withResolvers<never>();
  const stop = context.onInterrupt(() => {
    if (controller.signal.aborted) impatient.reject(new Interrupted());
    controller.abort();
  });
  try {
    const result = await Promise.race([work(controller.signal), impatient.promise]);
    if (controller.signal.aborted) throw new Interrupted();
    return result;
  } catch (error) {
    // What was under way when the signal came may have thrown because of it.
    if (controller.signal.aborted && error instanceof Error && error.name === "AbortError") {
      throw new Interrupted();
    }
    throw error;
  } finally {
    stop();
  }
}

/** Waits, but no longer than until the signal; tells whether the whole time passed. */
export function sleep(ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const done = (whole: boolean) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", aborted);
      resolve(whole);
    };
    const aborted = () => done(false);
    const timer = setTimeout(() => done(true), ms);
    signal.addEventListener("abort", aborted);
  });
}

function writeAll(stream: typeof Deno.stdout, text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let done = 0; done < bytes.length;) done += stream.writeSync(bytes.subarray(done));
}

function columns(): number {
  try {
    return Deno.consoleSize().columns;
  } catch {
    return 80;
  }
}

/** The real terminal, signals and machine. */
export function processContext(args: readonly string[]): Context {
  const plain = Boolean(Deno.env.get("NO_COLOR")) || Deno.env.get("TERM") === "dumb" ||
    args.includes("--no-color");
  const output = (stream: typeof Deno.stdout): Output => ({
    write: (text) => writeAll(stream, text),
    isTerminal: stream.isTerminal(),
    get columns() {
      return columns();
    },
    style: stream.isTerminal() && !plain ? COLOURED : PLAIN,
  });
  return {
    out: output(Deno.stdout),
    err: output(Deno.stderr),
    onInterrupt(listener) {
      Deno.addSignalListener("SIGINT", listener);
      Deno.addSignalListener("SIGTERM", listener);
      return () => {
        Deno.removeSignalListener("SIGINT", listener);
        Deno.removeSignalListener("SIGTERM", listener);
      };
    },
    hostFacts,
  };
}
