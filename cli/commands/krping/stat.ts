// SPDX-License-Identifier: BSD-2-Clause
// rackwire krping stat: the connections of this machine's krping servers, in the original's line format.

import type { Command } from "@commander-js/extra-typings";
import { errnoName } from "../../../lib/ffi/errors.ts";
import { classicLine, krpingStat, type KrpingStatAnswers } from "../../../lib/krping/stat.ts";
import { type Context, interruptible, type Output, sleep } from "../../context.ts";
import { withExamples, withOutputOptions } from "../../options/groups.ts";
import { parseCount, parsePositiveDuration } from "../../options/quantities.ts";
import { jsonDocument, jsonLine } from "../../output/json.ts";

const DEFAULT_WATCH_NS = 1e9;

function answersText({ servers, silent }: KrpingStatAnswers, quiet: boolean, out: Output): string {
  const parts = servers.map((server) => {
    const head = `process ${server.pid}: port ${server.port}, engine ${server.engine}, up ${
      server.uptime_s.toFixed(0)
    } s\n`;
    const lines = server.connections.map((each) => {
      const state = each.error !== 0
        ? out.style.red(errnoName(each.error))
        : `${each.state}${each.test === "" ? "" : ` ${each.test}`}`;
      return quiet
        ? `${classicLine(each, server.device)}\n`
        : `${classicLine(each, server.device)}  ${out.style.dim(`${each.peer} ${state}`)}\n`;
    });
    // Before its first client the original says so.
    if (lines.length === 0) lines.push("0 listen\n");
    return quiet ? lines.join("") : `${head}${lines.join("")}`;
  });
  parts.push(...silent.map(({ pid, why }) => `process ${pid} did not answer: ${why}\n`));
  return parts.length === 0
    ? "no krping server of yours runs on this machine\n"
    : parts.join(quiet ? "" : "\n");
}

export function registerStat(krping: Command, context: Context): void {
  const bare = krping.command("stat")
    .description(
      "show what each connection of the krping servers here has moved: bytes and messages of " +
        "SEND, RECV, WRITE and READ, in the line format of /proc/krping",
    )
    .argument("[pid]", "one process; all of yours unless given", parseCount(1, 2 ** 22))
    .option("--watch [duration]", "again and again, until Ctrl-C (default: each 1s)", (text) => {
      return parsePositiveDuration(text);
    });
  const command = withOutputOptions(bare);
  withExamples(command, [
    ["rackwire krping stat", "every server of yours"],
    ["rackwire krping stat --quiet", "the lines alone, as from /proc/krping"],
    ["rackwire krping stat --json | jq '.servers[].connections[].counters'", "for a program"],
  ]);
  command.action((pid, options) =>
    interruptible(context, async (signal) => {
      const { out } = context;
      const show = async () => {
        const answers = await krpingStat(pid);
        const write = options.watch === undefined ? jsonDocument : jsonLine;
        if (options.json) out.write(write("rackwire.krping.stat/1", answers));
        else {
          const clear = options.watch !== undefined && out.isTerminal ? "\x1b[H\x1b[2J" : "";
          out.write(`${clear}${answersText(answers, options.quiet ?? false, out)}`);
        }
      };
      await show();
      if (options.watch === undefined) return;
      const pauseMs = (options.watch === true ? DEFAULT_WATCH_NS : options.watch) / 1e6;
      while (await sleep(pauseMs, signal)) {
        if (!options.json && !out.isTerminal) out.write("\n");
        await show();
      }
    })
  );
}
