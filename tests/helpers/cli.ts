// SPDX-License-Identifier: BSD-2-Clause
// Runs command lines: inside this process with a made-up terminal, or as the real program.

import type { DcpimService } from "../../cli/commands/dcpim/client.ts";
import type { KrpingService } from "../../cli/commands/krping/run.ts";
import type { Context, Output } from "../../cli/context.ts";
import { COLOURED, PLAIN } from "../../cli/output/style.ts";
import { run } from "../../cli/program.ts";
import { type HostFacts, hostFacts } from "../../lib/host/facts.ts";

export interface Finished {
  status: number;
  out: string;
  err: string;
}

export interface FakeWorld {
  terminal?: boolean;
  columns?: number;
  facts?: () => HostFacts;
  dcpim?: DcpimService;
  krping?: KrpingService;
}

/** A context that keeps what is written, and whose Ctrl-C is a function. */
export function fakeContext(world: FakeWorld = {}) {
  const written = { out: "", err: "" };
  const listeners = new Set<() => void>();
  const output = (name: "out" | "err"): Output => ({
    write: (text) => void (written[name] += text),
    isTerminal: world.terminal ?? false,
    columns: world.columns ?? 80,
    style: world.terminal ? COLOURED : PLAIN,
  });
  const context: Context = {
    out: output("out"),
    err: output("err"),
    onInterrupt(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    hostFacts: world.facts ?? hostFacts,
    dcpim: world.dcpim,
    krping: world.krping,
  };
  const interrupt = () => [...listeners].forEach((listener) => listener());
  return { context, written, interrupt, listening: () => listeners.size };
}

/** Runs a command line in this process. */
export async function runInside(args: string[], world: FakeWorld = {}): Promise<Finished> {
  const { context, written } = fakeContext(world);
  const status = await run(args, context);
  return { status, ...written };
}

/** build/bin/rackwire, from any directory. */
export const RACKWIRE = decodeURIComponent(new URL("../../build/bin/rackwire", import.meta.url).pathname);

export interface RunOptions {
  env?: Record<string, string>;
  cwd?: string;
  /** Uses the sanitized libraries. */
  sanitized?: boolean;
  /** Seconds until it is killed; 60 unless given. */
  seconds?: number;
}

/** The environment in which Deno can load libraries built with AddressSanitizer. */
export function sanitizedEnvironment(): Record<string, string> {
  const found = new Deno.Command("gcc", { args: ["-print-file-name=libasan.so"] }).outputSync();
  return {
    RACKWIRE_LIBDIR: decodeURIComponent(new URL("../../build/asan/lib", import.meta.url).pathname),
    LD_PRELOAD: new TextDecoder().decode(found.stdout).trim(),
    // Deno keeps memory until it exits.
    ASAN_OPTIONS: "detect_leaks=0",
    UBSAN_OPTIONS: "print_stacktrace=1",
  };
}

/** Starts the real program; the caller ends it. */
export function startRackwire(args: string[], options: RunOptions = {}): Deno.ChildProcess {
  return new Deno.Command(RACKWIRE, {
    args,
    cwd: options.cwd,
    env: { ...(options.sanitized ? sanitizedEnvironment() : {}), ...options.env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs the real program to its end. */
export async function runRackwire(args: string[], options: RunOptions = {}): Promise<Finished> {
  const child = startRackwire(args, options);
  const timer = setTimeout(() => child.kill("SIGKILL"), (options.seconds ?? 60) * 1000);
  const { code, stdout, stderr } = await child.output();
  clearTimeout(timer);
  const decoder = new TextDecoder();
  return { status: code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}
