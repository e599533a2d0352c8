// SPDX-License-Identifier: BSD-2-Clause
// Goodput interval by interval, while a stream or messages run.

import type { Transport, WorkSnapshot } from "../../../lib/dcpim/workload.ts";
import { formatRate } from "../../options/quantities.ts";
import type { Style } from "../../output/style.ts";
import { figuresOf, TRANSPORT_NAMES } from "./present.ts";

export interface Interval {
  /** Seconds since the first reading, at the interval's end. */
  at_s: number;
  /** Of each transport, while it had its turn. */
  transports: Partial<
    Record<Transport, { goodput_gbps: number; bytes: number; retransmitted_bytes: number }>
  >;
}

export class GoodputLines {
  readonly intervals: Interval[] = [];
  readonly #transports: readonly Transport[];
  readonly #bytes: "tx_bytes" | "rx_bytes";
  #began: number | undefined;

  constructor(transports: readonly Transport[], reverse: boolean) {
    this.#transports = transports;
    this.#bytes = reverse ? "rx_bytes" : "tx_bytes";
  }

  add(now: WorkSnapshot, before: WorkSnapshot): Interval {
    this.#began ??= before.at_ms;
    const interval: Interval = {
      at_s: (now.at_ms - this.#began) / 1000,
      transports: Object.fromEntries(
        figuresOf(now).map(([name, { counters }]) => {
          const earlier = before.transports[name]!.counters;
          // What is delivered is counted when a turn ends, and a transport alone has but one; for the
          // moment what the transport has taken will do.
          const alone = this.#transports.length === 1;
          const bytes = alone
            ? counters[this.#bytes] - earlier[this.#bytes]
            : counters.measured_bytes - earlier.measured_bytes;
          const ns = alone ? (now.at_ms - before.at_ms) * 1e6 : counters.measured_ns - earlier.measured_ns;
          return [name, {
            // Bits in a nanosecond are gigabits in a second.
            goodput_gbps: ns > 0 ? bytes * 8 / ns : 0,
            bytes,
            retransmitted_bytes: counters.rtx_bytes - earlier.rtx_bytes,
          }];
        }),
      ),
    };
    this.intervals.push(interval);
    return interval;
  }

  text(interval: Interval, style: Style): string {
    const cells = this.#transports.map((name) => {
      const rate = formatRate((interval.transports[name]?.goodput_gbps ?? 0) * 1e9).padStart(12);
      return this.#transports.length === 1 ? rate : `${style.dim(TRANSPORT_NAMES[name].padStart(7))}${rate}`;
    });
    return `${interval.at_s.toFixed(2).padStart(7)} s ${cells.join("")}\n`;
  }

  /** Points of a plot: seconds and gigabits per second. */
  series(): [Transport, [number, number][]][] {
    return this.#transports.map((name) => [
      name,
      this.intervals.map(({ at_s, transports }) => [at_s, transports[name]?.goodput_gbps ?? 0]),
    ]);
  }
}
