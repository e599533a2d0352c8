// SPDX-License-Identifier: BSD-2-Clause
import assert from "node:assert/strict";
import fc from "fast-check";
import * as hdr from "hdr-histogram-js";
import {
  bucketIndex,
  bucketLower,
  bucketWidth,
  Histogram,
  HISTOGRAM_BUCKETS,
} from "../../lib/measure/histogram.ts";

/** Latency-like values: spread over many powers of two. */
const value = fc.tuple(fc.integer({ min: 0, max: 45 }), fc.double({ min: 0, max: 1, noNaN: true }))
  .map(([power, part]) => Math.floor(2 ** power * (1 + part)));
const values = fc.array(value, { minLength: 1, maxLength: 500 });

function filled(list: number[]): Histogram {
  const histogram = new Histogram();
  for (const each of list) histogram.record(each);
  return histogram;
}

Deno.test("buckets follow each other without gaps, and the last ends at 2^64", () => {
  for (let i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
    assert.equal(bucketLower(i) + bucketWidth(i), bucketLower(i + 1));
  }
  const last = HISTOGRAM_BUCKETS - 1;
  assert.equal(bucketLower(last) + bucketWidth(last), 2 ** 64);
});

Deno.test("a value lies in its bucket, which is at most 1.6 % wide", () => {
  fc.assert(fc.property(fc.maxSafeNat(), (n) => {
    const index = bucketIndex(n);
    assert.ok(bucketLower(index) <= n && n < bucketLower(index) + bucketWidth(index));
    assert.ok(bucketWidth(index) === 1 || bucketWidth(index) <= n / 64);
  }));
});

Deno.test("percentiles are within 0.8 % of the exact ones, the ends exact", () => {
  fc.assert(fc.property(values, fc.double({ min: 0, max: 100, noNaN: true }), (list, percent) => {
    const sorted = [...list].sort((a, b) => a - b);
    const exact = sorted[Math.max(0, Math.ceil(percent / 100 * sorted.length) - 1)]!;
    const histogram = filled(list);
    assert.ok(Math.abs(histogram.percentile(percent) - exact) <= exact / 128 + 1e-9);
    assert.equal(histogram.min, sorted[0]);
    assert.equal(histogram.max, sorted.at(-1));
    assert.equal(histogram.count, sorted.length);
  }));
});

Deno.test("percentiles agree with HdrHistogram's", () => {
  fc.assert(
    fc.property(values, (list) => {
      const ours = filled(list);
      const theirs = hdr.build({
        bitBucketSize: 64,
        numberOfSignificantValueDigits: 3,
        highestTrackableValue: 2 ** 47,
      });
      for (const each of list) theirs.recordValue(each);
      for (const percent of [50, 90, 99, 99.9, 100]) {
        const expected = theirs.getValueAtPercentile(percent);
        const got = ours.percentile(percent);
        assert.ok(
          Math.abs(got - expected) <= 0.01 * expected + 1,
          `p${percent}: ${got}, HdrHistogram ${expected}`,
        );
      }
    }),
    { numRuns: 50 },
  );
});

Deno.test("merging two histograms is recording everything in one", () => {
  fc.assert(fc.property(values, values, (a, b) => {
    const merged = filled(a).merge(filled(b));
    const whole = filled([...a, ...b]);
    assert.deepEqual(merged.buckets(), whole.buckets());
    assert.deepEqual({ ...merged.summary(), mean: 0 }, { ...whole.summary(), mean: 0 });
  }));
});

Deno.test("the part since an earlier reading holds what came after", () => {
  fc.assert(fc.property(values, values, (a, b) => {
    const part = filled([...a, ...b]).since(filled(a));
    assert.deepEqual(part.buckets(), filled(b).buckets());
    assert.ok(part.min <= Math.min(...b) && part.max >= Math.max(...b));
  }));
});

Deno.test("an empty histogram gives zeros, and nothing but whole numbers goes in", () => {
  assert.deepEqual(new Histogram().summary(), {
    count: 0,
    mean: 0,
    min: 0,
    p50: 0,
    p90: 0,
    p99: 0,
    p99_9: 0,
    max: 0,
  });
  for (const bad of [-1, 0.5, NaN, Infinity, 2 ** 60]) {
    assert.throws(() => new Histogram().record(bad), RangeError);
  }
});

Deno.test("a summary is in the unit asked for", () => {
  const { p50, max, mean } = filled([1000, 2000, 4000]).summary(1000);
  assert.ok(Math.abs(p50 - 2) < 0.02);
  assert.equal(max, 4);
  assert.ok(Math.abs(mean - 7 / 3) < 1e-9);
});
