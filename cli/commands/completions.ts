// SPDX-License-Identifier: BSD-2-Clause
// rackwire completions bash|zsh|fish

import tab from "@bomb.sh/tab";
import addCompletions from "@bomb.sh/tab/commander";
import type { Command } from "@commander-js/extra-typings";
import type { Command as PlainCommand } from "commander";
import type { Context } from "../context.ts";
import { withExamples } from "../options/groups.ts";

/** The script for a shell; tab only knows how to print it. */
function script(name: string, shell: string): string {
  const lines: string[] = [];
  const print = console.log;
  console.log = (text: string) => void lines.push(text);
  try {
    tab.setup(name, name, shell);
  } finally {
    console.log = print;
  }
  // Constants that are read-only make bash complain when the script is sourced again.
  return `${lines.join("\n")}\n`.replaceAll(/^readonly (?=ShellComp)/gm, "");
}

/** Adds `completions`, and the hidden `complete` that the shell's script calls. Call it last: it walks the tree. */
export function registerCompletions(program: Command, context: Context): void {
  addCompletions(program as unknown as PlainCommand, { completionCommandName: "completions" });
  const command = program.commands.find((each) => each.name() === "completions") as unknown as PlainCommand;
  command.description("print the script that completes rackwire's commands and options in a shell");
  command.action((shell: string) => context.out.write(script(program.name(), shell)));
  withExamples(command as unknown as Command, [
    ["source <(rackwire completions bash)", "in this bash"],
    ["rackwire completions zsh > ~/.zsh/completions/_rackwire", "in every zsh"],
    ["rackwire completions fish > ~/.config/fish/completions/rackwire.fish", "in every fish"],
  ]);
}
