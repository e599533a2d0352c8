// SPDX-License-Identifier: BSD-2-Clause
// How the dcPIM commands show figures.

import type { Transport, TransportFigures, WorkSnapshot } from "../../../lib/dcpim/workload.ts";
import { TRANSPORTS } from "../../../lib/dcpim/workload.ts";
import type { HostFacts } from "../../../lib/host/facts.ts";
import type { Output } from "../../context.ts";
import { formatBytes } from "../../options/quantities.ts";
import { type Column, facts, table } from "../../output/table.ts";
import { textWidth } from "../../output/style.ts";

/** A table, or, where the terminal is too narrow for one, each row as names and values. */
export function fittingTable(columns: readonly Column[], rows: readonly string[][], out: Output): string {
  const text = table(columns, rows, out.style);
  const width = Math.max(...text.split("\n").map(textWidth));
  if (!out.isTerminal || width <= out.columns) return text;
  return rows.map((row) =>
    facts(
      columns.map(({ title }, i) => [title, row[i] ?? ""] as const).filter(([, value]) => value !== ""),
      out.style,
    )
  ).join("\n");
}

/** Microseconds with the digits that matter: 7.42, 85.1, 1234. */
export function microseconds(ns: number): string {
  const us = ns / 1000;
  return us.toFixed(us < 10 ? 2 : us < 1000 ? 1 : 0);
}

/** "12,345" is hard to align and to parse; thin groups are not: "12 345". */
export function whole(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, " ");
}

export function seconds(ns: number): string {
  return (ns / 1e9).toFixed(2);
}

/** Bits per second of bytes in nanoseconds. */
export function bitsPerSecond(bytes: number, ns: number): number {
  return ns > 0 ? bytes * 8e9 / ns : 0;
}

/** The transports of a run that there are figures of, in their fixed order. */
export function figuresOf({ transports }: WorkSnapshot): [Transport, TransportFigures][] {
  return TRANSPORTS.flatMap((name) => {
    const figures = transports[name];
    return figures === undefined ? [] : [[name, figures] as [Transport, TransportFigures]];
  });
}

export const TRANSPORT_NAMES = { dcpim: "dcPIM", tcp: "TCP", udp: "UDP" } as const satisfies Record<
  Transport,
  string
>;

/** What of this machine bears on the figures, for JSON. */
export function machineFacts(host: HostFacts): object {
  return {
    hostname: host.hostname,
    kernel: host.kernel.release,
    architecture: host.kernel.machine,
    cpus_online: host.cpus.online,
    cpus_allowed: host.cpus.allowed,
    memory_bytes: host.memory_bytes,
    receive_buffer_max_bytes: host.sysctl["net.core.rmem_max"] ?? null,
    udp_gso: host.probes.udp_gso,
    udp_gro: host.probes.udp_gro,
    deno: host.deno,
  };
}

/** The matching's and the tokens' counters, for people. */
export function protocolText(stats: Readonly<Record<string, number>>, out: Output): string {
  const of = (name: string) => stats[name] ?? 0;
  return facts([
    [
      "matching",
      `${whole(of("epochs"))} epochs, ${whole(of("rts_tx") + of("rts_rx"))} requests, ${
        whole(of("grant_tx") + of("grant_rx"))
      } grants, ${whole(of("accept_tx") + of("accept_rx"))} accepts`,
    ],
    [
      "channels",
      `${whole(of("channels_matched_tx") + of("channels_matched_rx"))} matched, ${
        whole(of("prompt_matched"))
      } of them promptly`,
    ],
    [
      "tokens",
      `${whole(of("token_tx"))} sent for ${formatBytes(of("token_bytes_tx"))}, ${
        whole(of("token_rx"))
      } received`,
    ],
    ["unmatched", `${formatBytes(of("unsched_bytes"))} sent at once`],
    [
      "packets",
      `${whole(of("tx_packets"))} sent, ${whole(of("rx_packets"))} received, ${
        whole(of("rtx_packets"))
      } sent again`,
    ],
  ], out.style);
}

/** "1 connection", "3 connections" */
export function counted(n: number, singular: string, plural = `${singular}s`): string {
  return `${whole(n)} ${n === 1 ? singular : plural}`;
}
