// SPDX-License-Identifier: BSD-2-Clause
// Histograms and lines drawn with characters.

// @ts-types="./asciichart.d.ts"
import asciichart from "asciichart";
import type { Histogram } from "../../lib/measure/histogram.ts";
import { PLAIN, type Style } from "./style.ts";

const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

function bar(share: number, width: number): string {
  const eighths = Math.round(share * width * 8);
  return "█".repeat(Math.floor(eighths / 8)) + EIGHTHS[eighths % 8];
}

export interface Row {
  lower: number;
  upper: number;
  count: number;
}

/**
 * The values of a histogram in at most `rows` groups, whose bounds grow by the same factor, so that a
 * long tail stays visible. No group is finer than the histogram's own buckets.
 */
export function groupBuckets(histogram: Histogram, rows: number): Row[] {
  const buckets = histogram.buckets();
  if (buckets.length === 0) return [];
  const low = Math.max(1, histogram.min);
  const factor = Math.max((Math.max(histogram.max, low) / low) ** (1 / rows), 1.02);
  const groups: Row[] = [];
  for (const { lower, upper, count } of buckets) {
    let last = groups.at(-1);
    while (last === undefined || lower >= last.upper) {
      const from = last?.upper ?? Math.min(low, lower);
      // Bounds are put where a bucket begins, or they would cut one in two.
      last = { lower: from, upper: Math.max(from * factor, from === lower ? upper : from + 1), count: 0 };
      groups.push(last);
    }
    last.upper = Math.max(last.upper, upper);
    last.count += count;
  }
  return groups;
}

export interface HistogramChartOptions {
  /** Divides the values: 1000 shows nanoseconds as microseconds. */
  unit: number;
  unitName: string;
  columns: number;
  rows?: number;
  style?: Style;
}

/** Bars, one group of values a line, with counts and the share up to there. */
export function histogramChart(histogram: Histogram, options: HistogramChartOptions): string {
  const { unit, unitName, columns, rows = 16, style = PLAIN } = options;
  const groups = groupBuckets(histogram, rows);
  if (groups.length === 0) return "no values\n";
  const most = Math.max(...groups.map((group) => group.count));
  const digits = Math.max(...groups.map((group) => group.upper)) / unit < 100 ? 2 : 1;
  const bound = (value: number) => (value / unit).toFixed(digits);
  const boundWidth = Math.max(...groups.map((group) => bound(group.upper).length));
  const countWidth = String(most).length;
  const barWidth = Math.max(8, Math.min(60, columns - 2 * boundWidth - countWidth - unitName.length - 20));
  let seen = 0;
  const lines = groups.map(({ lower, upper, count }) => {
    seen += count;
    const share = (100 * seen / histogram.count).toFixed(seen === histogram.count ? 0 : 2);
    const range = `${bound(lower).padStart(boundWidth)} - ${bound(upper).padStart(boundWidth)} ${unitName}`;
    const drawn = count > 0 ? bar(count / most, barWidth) || "▏" : "";
    return `${range} ${String(count).padStart(countWidth)} ${`${share}%`.padStart(7)} ${style.cyan(drawn)}`
      .trimEnd();
  });
  return lines.map((line) => `${line}\n`).join("");
}

/** A line over time; more points than columns are averaged. */
export function lineChart(values: readonly number[], options: { columns: number; height?: number }): string {
  if (values.length === 0) return "no values\n";
  const width = Math.max(2, Math.min(values.length, options.columns - 14));
  const points = Array.from({ length: width }, (_, i) => {
    const slice = values.slice(
      Math.floor(i * values.length / width),
      Math.max(Math.floor(i * values.length / width) + 1, Math.floor((i + 1) * values.length / width)),
    );
    return slice.reduce((sum, value) => sum + value, 0) / slice.length;
  });
  const height = points.every((point) => point === points[0]) ? 1 : options.height ?? 8;
  return asciichart.plot(points, { height }).split("\n").map((line) => `${line.trimEnd()}\n`).join("");
}
