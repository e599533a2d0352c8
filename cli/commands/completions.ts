// SPDX-License-Identifier: BSD-2-Clause
// rackwire completions bash|zsh|fish

import tab from "@bomb.sh/tab/commander";
import type { Command } from "@commander-js/extra-typings";
import { Command as PlainCommand } from "commander";
import type { Context } from "../context.ts";
import { withExamples } from "../options/groups.ts";

/** Adds `completions`, and the hidden `complete` that the shell's script calls. */
export function registerCompletions(program: Command, _context: Context): void {
  tab(program as unknown as PlainCommand, { completionCommandName: "completions" });
  const command = program.commands.find((each) => each.name() === "completions")!;
  command.description("print the script that completes rackwire's commands and options in a shell");
  withExamples(command as unknown as Command, [
    ["source <(rackwire completions bash)", "in this bash"],
    ["rackwire completions zsh > ~/.zsh/completions/_rackwire", "in every zsh"],
    ["rackwire completions fish > ~/.config/fish/completions/rackwire.fish", "in every fish"],
  ]);
}
