// SPDX-License-Identifier: BSD-2-Clause
// How the dcPIM commands show figures.

import type { Transport, TransportFigures, WorkSnapshot } from "../../../lib/dcpim/workload.ts";
import { TRANSPORTS } from "../../../lib/dcpim/workload.ts";
import type { Output } from "../../context.ts";
import { formatBytes } from "../../options/quantities.ts";
import { whole } from "../../output/numbers.ts";
import { facts } from "../../output/table.ts";

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
