// SPDX-License-Identifier: BSD-2-Clause
// rackwire dcpim stat: what runs on this machine, and how it fares.

import { type Command, InvalidArgumentError } from "@commander-js/extra-typings";
import { type DcpimEngineStat, dcpimStat, type DcpimStatAnswers } from "../../../lib/dcpim/stat.ts";
import { errnoName } from "../../../lib/ffi/errors.ts";
import { type Context, interruptible, type Output, sleep } from "../../context.ts";
import { withExamples, withOutputOptions } from "../../options/groups.ts";
import { formatBytes, formatDuration, formatRate, parsePositiveDuration } from "../../options/quantities.ts";
import { jsonDocument, jsonLine } from "../../output/json.ts";
import { facts, fittingTable } from "../../output/table.ts";
import { counted, whole } from "../../output/numbers.ts";
import { protocolText } from "./present.ts";

const MAX_PID = 4_194_304;
const DEFAULT_WATCH_NS = 1e9;
/** Rows of each table; --json has all. */
const MAX_ROWS = 20;

function parsePid(text: string): number | undefined {
  if (text === "all") return undefined;
  const pid = /^\d{1,7}$/.test(text) ? Number(text) : NaN;
  if (pid >= 1 && pid <= MAX_PID) return pid;
  throw new InvalidArgumentError("Expected the number of a process, or all.");
}

function count(stat: DcpimEngineStat, name: string): number {
  return stat.counters[name] ?? 0;
}

function gauge(stat: DcpimEngineStat, name: string): number {
  return stat.gauges[name] ?? 0;
}

function delay(us: number): string {
  return us === 0 ? "-" : formatDuration(us * 1000);
}

function rows(all: readonly string[][], out: Output): { shown: string[][]; rest: string } {
  const more = all.length - MAX_ROWS;
  return {
    shown: all.slice(0, MAX_ROWS),
    rest: more > 0 ? out.style.dim(`and ${whole(more)} more; --json lists all\n`) : "",
  };
}

function engineText(stat: DcpimEngineStat, out: Output): string {
  const { parameters: p } = stat;
  const right = (title: string) => ({ title, align: "right" as const });
  const parts = [
    out.style.bold(
      `process ${stat.pid}, engine ${stat.engine}, ${counted(stat.threads, "thread")}, up ${
        formatDuration(stat.uptime_s * 1e9)
      }`,
    ) + "\n",
    facts([
      [
        "parameters",
        `${formatRate(p.rate_bps ?? 0)}, epoch ${
          formatDuration(p.epoch_ns ?? 0)
        } of ${p.rounds} rounds, ${p.channels} channels, ${formatBytes(p.bdp_bytes ?? 0)} in flight`,
      ],
      [
        "now",
        `epoch ${gauge(stat, "epoch")}, channels matched ${gauge(stat, "tx_matched")} to send and ${
          gauge(stat, "rx_matched")
        } to receive, tokens out ${formatBytes(gauge(stat, "tokens_outstanding"))} of ${
          formatBytes(gauge(stat, "window"))
        }`,
      ],
      [
        "memory",
        `${formatBytes(gauge(stat, "memory_core") + gauge(stat, "memory_sockets"))} of state, ${
          formatBytes(gauge(stat, "memory_buffers"))
        } of packets, ${formatBytes(gauge(stat, "memory_pools"))} kept`,
      ],
      [
        "trouble",
        `${whole(count(stat, "rx_bad") + count(stat, "rx_bad_tag"))} bad packets, ${
          formatBytes(count(stat, "rx_duplicate"))
        } received twice, ${whole(count(stat, "rx_socket_drops"))} dropped by the kernel, ${
          whole(count(stat, "flows_dead"))
        } dead peers, ${whole(count(stat, "flows_reset"))} resets`,
      ],
    ], out.style),
    protocolText(stat.counters, out),
  ];
  const sockets = rows(
    stat.kernel_sockets.map((each) => [
      each.address,
      String(each.thread),
      String(each.users),
      [each.gso ? "GSO" : "", each.gro ? "GRO" : ""].filter((name) => name !== "").join(" ") || "none",
    ]),
    out,
  );
  if (sockets.shown.length > 0) {
    parts.push(
      fittingTable(
        [{ title: "socket" }, right("thread"), right("users"), { title: "offloads" }],
        sockets.shown,
        out,
      ) + sockets.rest,
    );
  }
  const peers = rows(
    stat.peers.map((each) => [
      each.address,
      whole(each.connections),
      delay(each.srtt_us),
      formatBytes(each.bytes_tx),
      formatBytes(each.bytes_rx),
      formatBytes(each.tx_queued),
      formatBytes(each.rtx_bytes),
    ]),
    out,
  );
  if (peers.shown.length > 0) {
    parts.push(
      fittingTable(
        [
          { title: "peer" },
          ...["conns", "round trip", "sent", "received", "queued", "resent"].map(right),
        ],
        peers.shown,
        out,
      ) + peers.rest,
    );
  }
  const connections = rows(
    stat.connections.map((each) => [
      `${each.local_port} - ${each.peer}`,
      each.kind,
      each.error === 0 ? each.state : out.style.red(`${each.state} ${errnoName(each.error)}`),
      formatBytes(each.bytes_tx),
      formatBytes(each.bytes_rx),
      `${formatBytes(each.tx_queued)} / ${formatBytes(each.rx_queued)}`,
    ]),
    out,
  );
  if (connections.shown.length > 0) {
    parts.push(
      fittingTable(
        [
          { title: "connection" },
          { title: "kind" },
          { title: "state" },
          ...["sent", "received", "out / in queue"].map(right),
        ],
        connections.shown,
        out,
      ) + connections.rest,
    );
  }
  return parts.join("\n");
}

function answersText({ engines, silent }: DcpimStatAnswers, out: Output): string {
  const parts = engines.map((stat) => engineText(stat, out));
  if (silent.length > 0) {
    parts.push(silent.map(({ pid, why }) => `process ${pid} did not answer: ${why}\n`).join(""));
  }
  return parts.length === 0 ? "no dcPIM engine of yours runs on this machine\n" : parts.join("\n");
}

export function registerStat(dcpim: Command, context: Context): void {
  const bare = dcpim.command("stat").description("show the dcPIM servers and clients of this machine")
    .argument("[pid]", "one process; all of yours unless given", parsePid)
    .option("--watch [duration]", "again and again, until Ctrl-C (default: each 1s)", (text) => {
      return parsePositiveDuration(text);
    });
  const command = withOutputOptions(bare);
  withExamples(command, [
    ["rackwire dcpim stat", "every server and client of yours"],
    ["rackwire dcpim stat 4711 --watch 500ms", "one process, twice a second"],
    ["rackwire dcpim stat --json | jq '.engines[].gauges.tokens_outstanding'", "one figure, for a program"],
  ]);
  command.action((pid, options) =>
    interruptible(context, async (signal) => {
      const { out } = context;
      const show = async () => {
        const answers = await dcpimStat(pid);
        const write = options.watch === undefined ? jsonDocument : jsonLine;
        if (options.json) out.write(write("rackwire.dcpim.stat/1", answers));
        // A terminal is overwritten in place; a log gets one picture after the other.
        else {
          const clear = options.watch !== undefined && out.isTerminal ? "\x1b[H\x1b[2J" : "";
          out.write(`${clear}${answersText(answers, out)}`);
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
