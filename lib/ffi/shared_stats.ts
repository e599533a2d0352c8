// SPDX-License-Identifier: BSD-2-Clause
// Statistics that C threads write and TypeScript reads without a call: csrc/common/shared_stats.h.

import { Histogram, HISTOGRAM_BUCKETS } from "../measure/histogram.ts";
import { RackwireError } from "./errors.ts";
import { defineStruct } from "./struct.ts";

export const statsHeaderStruct = defineStruct("rackwire_stats_header", {
  magic: "u64",
  sequence: "u64",
  counters: "u32",
  histograms: "u32",
  buckets: "u32",
  reserved: "u32[9]",
});

export const histogramStruct = defineStruct("rackwire_histogram", {
  sum: "u64",
  min: "u64",
  max: "u64",
  reserved: "u64[5]",
  buckets: `u64[${HISTOGRAM_BUCKETS}]`,
});

const MAGIC = 0x3153_5441_5453_5752n;
const ALIGN = 64;
const WORD = 8;
const ATTEMPTS = 1_000_000;

/** What to expect in the memory: names in the order of C's indexes. */
export interface StatsShape<C extends string, H extends string> {
  counters: readonly C[];
  histograms: readonly H[];
  /** Writing threads; their numbers are added up. One unless given. */
  blocks?: number;
}

export interface StatsSnapshot<C extends string, H extends string> {
  counters: Record<C, bigint>;
  histograms: Record<H, Histogram>;
}

/**
 * Memory shared with the threads of one engine. Pass `memory` and `memory.length` to C once, and keep
 * this object until C has joined its threads.
 */
export class SharedStats<C extends string, H extends string> {
  /** For a parameter of type "buffer". */
  readonly memory: Uint8Array<ArrayBuffer>;
  readonly #shape: StatsShape<C, H>;
  readonly #words: BigUint64Array<SharedArrayBuffer>;
  readonly #counterWords: number;
  readonly #blockWords: number;

  constructor(shape: StatsShape<C, H>) {
    this.#shape = shape;
    this.#counterWords = Math.ceil(shape.counters.length * WORD / ALIGN) * ALIGN / WORD;
    this.#blockWords = statsHeaderStruct.size / WORD + this.#counterWords +
      shape.histograms.length * histogramStruct.size / WORD;
    const buffer = new SharedArrayBuffer((shape.blocks ?? 1) * this.#blockWords * WORD + ALIGN);
    this.#words = new BigUint64Array(buffer);
    // Deno's FFI takes shared memory, but its declarations do not say so.
    this.memory = new Uint8Array(buffer) as unknown as Uint8Array<ArrayBuffer>;
  }

  /** The word the first block starts at, or -1 before C has set it up: C aligns it within a cache line. */
  #start(): number {
    for (let word = 0; word < ALIGN / WORD; word++) {
      if (Atomics.load(this.#words, word) === MAGIC) return word;
    }
    return -1;
  }

  #counters(block: number, into: BigUint64Array<ArrayBuffer>): void {
    const first = block + statsHeaderStruct.size / WORD;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const before = Atomics.load(this.#words, block + 1);
      if ((before & 1n) === 1n) continue;
      // Atomic loads keep this order on every machine; a bulk copy would not be bound to the sequence.
      for (let i = 0; i < into.length; i++) into[i] = Atomics.load(this.#words, first + i);
      if (Atomics.load(this.#words, block + 1) === before) return;
    }
    throw new RackwireError("STATS_BUSY", "the statistics never stood still long enough to be read");
  }

  /** The counters alone; all 0 before the engine has started. */
  counters(): Record<C, bigint> {
    const sums = new BigUint64Array(this.#shape.counters.length);
    const one = new BigUint64Array(sums.length);
    const start = this.#start();
    if (start >= 0) {
      for (let block = 0; block < (this.#shape.blocks ?? 1); block++) {
        const at = start + block * this.#blockWords;
        if (Atomics.load(this.#words, at) !== MAGIC) continue;
        this.#counters(at, one);
        for (let i = 0; i < sums.length; i++) sums[i]! += one[i]!;
      }
    }
    return Object.fromEntries(this.#shape.counters.map((name, i) => [name, sums[i]!])) as Record<C, bigint>;
  }

  /** One histogram, over all blocks. */
  histogram(name: H): Histogram {
    const index = this.#shape.histograms.indexOf(name);
    const total = new Histogram();
    const start = this.#start();
    if (start < 0) return total;
    const words = histogramStruct.size / WORD;
    for (let block = 0; block < (this.#shape.blocks ?? 1); block++) {
      const at = start + block * this.#blockWords;
      if (Atomics.load(this.#words, at) !== MAGIC) continue;
      const first = at + statsHeaderStruct.size / WORD + this.#counterWords + index * words;
      total.merge(Histogram.fromWords(this.#words.slice(first, first + words)));
    }
    return total;
  }

  /** Everything, now. */
  snapshot(): StatsSnapshot<C, H> {
    return {
      counters: this.counters(),
      histograms: Object.fromEntries(
        this.#shape.histograms.map((name) => [name, this.histogram(name)]),
      ) as Record<H, Histogram>,
    };
  }
}
