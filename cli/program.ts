// SPDX-License-Identifier: BSD-2-Clause
// The command tree, and how a run ends.

import { Command, CommanderError } from "@commander-js/extra-typings";
import { RackwireError } from "../lib/ffi/errors.ts";
import { registerCompletions } from "./commands/completions.ts";
import { fromPrototypeOrder, registerDcpim } from "./commands/dcpim/index.ts";
import { registerDoctor } from "./commands/doctor.ts";
import { fromCommaString, registerKrping } from "./commands/krping/index.ts";
import type { Context } from "./context.ts";
import { withExamples } from "./options/groups.ts";

export const VERSION = "0.1.0";

/** Adds a command, or a service with its verbs, to the tree. */
export type Register = (program: Command, context: Context) => void;

/** Every command; a new one is a line here. */
const COMMANDS: Register[] = [
  registerDcpim,
  registerKrping,
  registerDoctor,
];

export function buildProgram(context: Context): Command {
  const { out, err } = context;
  const program = new Command("rackwire")
    .description("One command line for the data-centre host network.")
    .version(VERSION, "-V, --version", "print the version")
    .helpOption("-h, --help", "show this help")
    .helpCommand("help [command]", "show the help of a command")
    .configureHelp({
      styleTitle: out.style.bold,
      styleCommandText: out.style.cyan,
      styleSubcommandText: out.style.cyan,
      styleOptionText: out.style.cyan,
    })
    .configureOutput({
      writeOut: (text) => out.write(text),
      writeErr: (text) => err.write(text),
      getOutHelpWidth: () => out.columns,
      getErrHelpWidth: () => err.columns,
      getOutHasColors: () => out.isTerminal,
      getErrHasColors: () => err.isTerminal,
      outputError: (text, write) => write(text.replace(/^error: /, "rackwire: ")),
    })
    .showSuggestionAfterError()
    .exitOverride();
  withExamples(program, [
    ["rackwire dcpim server", "serve pings, streams and messages over dcPIM"],
    ["rackwire dcpim ping 127.0.0.1:4000", "measure round trips to it"],
    ["rackwire krping client 10.0.0.2:9999 --validate", "ping by RDMA, also where there is no RDMA hardware"],
    ["rackwire doctor", "what this machine can run, and why the rest cannot"],
  ]);
  for (const register of COMMANDS) register(program, context);
  // Last, for it walks the tree.
  registerCompletions(program, context);
  return program;
}

/** Prints what ended the run and returns the exit status. */
export function reportError(error: unknown, context: Context): number {
  const { err } = context;
  if (error instanceof CommanderError) {
    // Commander has printed it. Help that was asked for is no error; help for want of a command is.
    return error.code === "commander.helpDisplayed" || error.code === "commander.version" ||
        (error.code === "commander.help" && error.exitCode === 0)
      ? 0
      : 2;
  }
  // Whoever read our output has stopped reading.
  if (error instanceof Deno.errors.BrokenPipe) return 0;
  const debug = Boolean(Deno.env.get("RACKWIRE_DEBUG"));
  if (error instanceof RackwireError) {
    if (error.exitStatus !== 130) {
      err.write(`${err.style.red("rackwire:")} ${error.message.replaceAll("\n", " ")}\n`);
      if (error.hint) err.write(`${err.style.yellow("hint:")} ${error.hint}\n`);
    }
  } else {
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    err.write(`${err.style.red("rackwire:")} unexpected ${message.replaceAll("\n", " ")}\n`);
    if (!debug) {
      err.write(`${err.style.yellow("hint:")} set RACKWIRE_DEBUG=1 for the stack trace, and report it\n`);
    }
  }
  if (debug && error instanceof Error) {
    err.write(`${error.stack}\n`);
    if (error.cause !== undefined) err.write(`caused by ${(error.cause as Error)?.stack ?? error.cause}\n`);
  }
  return error instanceof RackwireError ? error.exitStatus : 1;
}

/** Runs one command line and returns its exit status: 0, 1, 2, 3 or 130. */
export async function run(args: readonly string[], context: Context): Promise<number> {
  try {
    await buildProgram(context).parseAsync(fromCommaString(fromPrototypeOrder(args)), { from: "user" });
    return 0;
  } catch (error) {
    return reportError(error, context);
  }
}
