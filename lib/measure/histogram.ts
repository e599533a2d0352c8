// SPDX-License-Identifier: BSD-2-Clause
// Log-linear histograms, bucket for bucket those of csrc/common/shared_stats.h.

const SUB_BITS = 6;
const SUB_BUCKETS = 1 << SUB_BITS;
export const HISTOGRAM_BUCKETS = 3776;
/** Words before the buckets in C's struct: sum, min, max and five reserved. */
const HEAD_WORDS = 8;
const EMPTY_MIN = 0xffff_ffff_ffff_ffffn;

/** The bucket of a whole number from 0 to 2^53. */
export function bucketIndex(value: number): number {
  if (value < 2 * SUB_BUCKETS) return value;
  const high = Math.floor(value / 2 ** 32);
  const log2 = high > 0 ? 63 - Math.clz32(high) : 31 - Math.clz32(value);
  const shift = log2 - SUB_BITS;
  return SUB_BUCKETS * shift + Math.floor(value / 2 ** shift);
}

/** The smallest value of a bucket. */
export function bucketLower(index: number): number {
  if (index < 2 * SUB_BUCKETS) return index;
  const shift = Math.floor(index / SUB_BUCKETS) - 1;
  return (index - shift * SUB_BUCKETS) * 2 ** shift;
}

/** How many whole numbers share a bucket. */
export function bucketWidth(index: number): number {
  return index < 2 * SUB_BUCKETS ? 1 : 2 ** (Math.floor(index / SUB_BUCKETS) - 1);
}

export interface Summary {
  count: number;
  mean: number;
  min: number;
  p50: number;
  p90: number;
  p99: number;
  p99_9: number;
  max: number;
}

/** A bucket that holds something. */
export interface Bucket {
  /** Values from `lower` up to, but not including, `upper`. */
  lower: number;
  upper: number;
  count: number;
}

/**
 * Counts of whole numbers, usually nanoseconds. A percentile is exact below 128 and at the ends, and
 * within 0.8 % of the true value elsewhere.
 */
export class Histogram {
  readonly #counts = new Float64Array(HISTOGRAM_BUCKETS);
  #count = 0;
  #sum = 0;
  #min = Infinity;
  #max = -Infinity;

  /** Decodes a `struct rackwire_histogram`. */
  static fromWords(words: BigUint64Array): Histogram {
    const histogram = new Histogram();
    let lowest = -1;
    let highest = -1;
    for (let i = 0; i < HISTOGRAM_BUCKETS; i++) {
      const count = Number(words[HEAD_WORDS + i]!);
      if (count === 0) continue;
      histogram.#counts[i] = count;
      histogram.#count += count;
      if (lowest < 0) lowest = i;
      highest = i;
    }
    if (histogram.#count === 0) return histogram;
    histogram.#sum = Number(words[0]!);
    // Under a running writer min and max may be a value ahead of the buckets or behind them.
    const within = (value: number, index: number) =>
      Math.min(Math.max(value, bucketLower(index)), bucketLower(index) + bucketWidth(index) - 1);
    const min = words[1]!;
    histogram.#min = within(min === EMPTY_MIN ? 0 : Number(min), lowest);
    histogram.#max = within(Number(words[2]!), highest);
    return histogram;
  }

  /** Counts one value. */
  record(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new RangeError(`a histogram holds whole numbers from 0 to 2^53, not ${value}`);
    }
    this.#counts[bucketIndex(value)]!++;
    this.#count++;
    this.#sum += value;
    this.#min = Math.min(this.#min, value);
    this.#max = Math.max(this.#max, value);
  }

  /** Adds another histogram's values to this one. */
  merge(other: Histogram): this {
    for (let i = 0; i < HISTOGRAM_BUCKETS; i++) this.#counts[i]! += other.#counts[i]!;
    this.#count += other.#count;
    this.#sum += other.#sum;
    this.#min = Math.min(this.#min, other.#min);
    this.#max = Math.max(this.#max, other.#max);
    return this;
  }

  /** What was recorded after `earlier`, an older reading of the same histogram. */
  since(earlier: Histogram): Histogram {
    const difference = new Histogram();
    for (let i = 0; i < HISTOGRAM_BUCKETS; i++) {
      const count = this.#counts[i]! - earlier.#counts[i]!;
      if (count <= 0) continue;
      difference.#counts[i] = count;
      difference.#count += count;
      // The exact ends of an interval are not kept; its outermost buckets bound them.
      difference.#min = Math.min(difference.#min, Math.max(bucketLower(i), this.#min));
      difference.#max = Math.max(
        difference.#max,
        Math.min(bucketLower(i) + bucketWidth(i) - 1, this.#max),
      );
    }
    difference.#sum = Math.max(0, this.#sum - earlier.#sum);
    return difference;
  }

  get count(): number {
    return this.#count;
  }

  /** 0 while empty, as are the others. */
  get mean(): number {
    return this.#count === 0 ? 0 : this.#sum / this.#count;
  }

  get min(): number {
    return this.#count === 0 ? 0 : this.#min;
  }

  get max(): number {
    return this.#count === 0 ? 0 : this.#max;
  }

  /** The smallest value that at least `percent` of the values do not exceed (nearest rank). */
  percentile(percent: number): number {
    if (this.#count === 0) return 0;
    if (percent <= 0) return this.#min;
    const rank = Math.ceil(percent / 100 * this.#count);
    if (rank >= this.#count) return this.#max;
    let seen = 0;
    for (let i = 0; i < HISTOGRAM_BUCKETS; i++) {
      seen += this.#counts[i]!;
      if (seen < rank) continue;
      const middle = bucketLower(i) + (bucketWidth(i) - 1) / 2;
      return Math.min(Math.max(middle, this.#min), this.#max);
    }
    return this.#max;
  }

  /** The usual figures, each divided by `unit`: 1000 turns nanoseconds into microseconds. */
  summary(unit = 1): Summary {
    return {
      count: this.#count,
      mean: this.mean / unit,
      min: this.min / unit,
      p50: this.percentile(50) / unit,
      p90: this.percentile(90) / unit,
      p99: this.percentile(99) / unit,
      p99_9: this.percentile(99.9) / unit,
      max: this.max / unit,
    };
  }

  /** The buckets that hold something, lowest first. */
  buckets(): Bucket[] {
    const buckets: Bucket[] = [];
    for (let i = 0; i < HISTOGRAM_BUCKETS; i++) {
      const count = this.#counts[i]!;
      if (count > 0) buckets.push({ lower: bucketLower(i), upper: bucketLower(i) + bucketWidth(i), count });
    }
    return buckets;
  }
}
