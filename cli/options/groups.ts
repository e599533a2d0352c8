// SPDX-License-Identifier: BSD-2-Clause
// Options that many commands share, so that they are spelt and explained alike.
// The output options come under their own heading, as does any option added after them.

import { Command, Option } from "@commander-js/extra-typings";
import type { OptionValues } from "@commander-js/extra-typings";
import { parseCpuList } from "./cpu_list.ts";

/** --json, --quiet, --no-color: on every command that prints results, after its own options. */
export function withOutputOptions<
  Args extends unknown[],
  Opts extends OptionValues,
  Global extends OptionValues,
>(
  command: Command<Args, Opts, Global>,
) {
  return command
    .optionsGroup("Output:")
    .option("--json", "print the result as one JSON document")
    .option("-q, --quiet", "print nothing but the result")
    .option("--no-color", "no colours (NO_COLOR does the same)");
}

/** --plot FILE.svg; build/bin/rackwire lets the program write files only where this is given. */
export function withPlotOption<
  Args extends unknown[],
  Opts extends OptionValues,
  Global extends OptionValues,
>(
  command: Command<Args, Opts, Global>,
) {
  return command.optionsGroup("Output:").option("--plot <file.svg>", "also draw the result into an SVG file");
}

/** --engine, with the engines of the service, best first. */
export function withEngineOption<
  const E extends readonly string[],
  Args extends unknown[],
  Opts extends OptionValues,
  Global extends OptionValues,
>(command: Command<Args, Opts, Global>, engines: E) {
  return command.addOption(
    new Option("--engine <name>", "what carries the traffic; auto takes the first that works here")
      .choices(["auto", ...engines] as const)
      .default("auto" as const)
      .env("RACKWIRE_ENGINE"),
  );
}

/** --pin: which CPUs the engine's threads may use. */
export function withPinOption<Args extends unknown[], Opts extends OptionValues, Global extends OptionValues>(
  command: Command<Args, Opts, Global>,
) {
  return command.option("--pin <cpus>", "run the engine on these CPUs, such as 0-3,6", parseCpuList);
}

/** Worked examples under a command's help. */
export function withExamples<Args extends unknown[], Opts extends OptionValues, Global extends OptionValues>(
  command: Command<Args, Opts, Global>,
  examples: [commandLine: string, what: string][],
): Command<Args, Opts, Global> {
  const lines = examples.map(([commandLine, what]) => `  # ${what}\n  $ ${commandLine}`);
  return command.addHelpText("after", `\nExamples:\n${lines.join("\n")}`);
}
