// SPDX-License-Identifier: BSD-2-Clause
// Plots as SVG files that read well on light and on dark pages.

import type { Histogram } from "../../lib/measure/histogram.ts";

export interface Series {
  name: string;
  points: readonly (readonly [x: number, y: number])[];
  /** A line through the points, or bars from each x to the next. */
  kind?: "line" | "bars";
}

export interface Axis {
  /** With the unit: "round trip (us)". */
  label: string;
  log?: boolean;
  /** Marks to use in place of the chosen ones. */
  ticks?: readonly (readonly [at: number, label: string])[];
}

export interface Plot {
  title: string;
  subtitle?: string;
  x: Axis;
  y: Axis;
  series: readonly Series[];
}

const WIDTH = 800;
const HEIGHT = 450;
const MARGIN = { top: 64, right: 24, bottom: 56, left: 76 };
/** Okabe and Ito's colours, told apart by colour-blind readers and against both backgrounds. */
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"];

const STYLE = `text{font:13px system-ui,sans-serif;fill:#222}
.title{font-size:17px;font-weight:600}.note{fill:#666}
.axis{stroke:#666}.grid{stroke:#ddd}.line{fill:none;stroke-width:2}.bar{opacity:.85}
.page{fill:#fff}
@media(prefers-color-scheme:dark){text{fill:#eee}.note{fill:#aaa}.axis{stroke:#999}.grid{stroke:#444}.page{fill:#181818}}`;

function escape(text: string): string {
  return text.replace(
    /[&<>"]/g,
    (char) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[char]!,
  );
}

function short(value: number): string {
  return String(Number(value.toPrecision(4)));
}

/** Round numbers across a range: 1, 2 or 5 times a power of ten apart, or powers of ten when log. */
export function chooseTicks(low: number, high: number, log: boolean): number[] {
  if (log) {
    const ticks: number[] = [];
    const steps = Math.log10(high / low) < 2.5 ? [1, 2, 5] : [1];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const step of steps) {
        const tick = Number(`${step}e${power}`);
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
      }
    }
    if (ticks.length >= 2) return ticks;
  }
  const rough = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough)!;
  const ticks: number[] = [];
  const last = Math.floor(high / step + 1e-9);
  for (let i = Math.ceil(low / step - 1e-9); i <= last && ticks.length < 20; i++) {
    ticks.push(Number((i * step).toPrecision(12)));
  }
  return ticks;
}

interface Scale {
  (value: number): number;
  ticks: readonly (readonly [at: number, label: string])[];
}

function makeScale(axis: Axis, values: number[], from: number, to: number, zero: boolean): Scale {
  const usable = values.filter((value) => Number.isFinite(value) && (!axis.log || value > 0));
  let low = usable.reduce((a, b) => Math.min(a, b), Infinity);
  let high = usable.reduce((a, b) => Math.max(a, b), -Infinity);
  if (usable.length === 0) [low, high] = axis.log ? [1, 10] : [0, 1];
  if (zero && !axis.log) [low, high] = [Math.min(0, low), Math.max(0, high)];
  // A range too narrow for floating point to cut up is as good as a single value.
  if (high - low <= Math.abs(high) * 1e-9) {
    [low, high] = axis.log ? [low / 2, high * 2] : [low, low + (Math.abs(low) || 1)];
  }
  const place = axis.log ? Math.log : (value: number) => value;
  const scale = (value: number) =>
    from +
    (to - from) * (place(axis.log ? Math.max(value, low) : value) - place(low)) / (place(high) - place(low));
  const ticks = axis.ticks?.filter(([at]) => at >= low && at <= high) ??
    chooseTicks(low, high, axis.log ?? false).map((at) => [at, short(at)] as const);
  return Object.assign(scale, { ticks });
}

/** The plot as the text of an SVG file. */
export function svgPlot(plot: Plot): string {
  const right = WIDTH - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const xs = plot.series.flatMap((series) => series.points.map(([x]) => x));
  const ys = plot.series.flatMap((series) => series.points.map(([, y]) => y));
  const x = makeScale(plot.x, xs, MARGIN.left, right, false);
  const y = makeScale(plot.y, ys, bottom, MARGIN.top, true);
  const at = (value: number) => value.toFixed(1);
  const parts: string[] = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${
      escape(plot.title)
    }">`,
    `<style>${STYLE}</style>`,
    `<rect class="page" width="${WIDTH}" height="${HEIGHT}"/>`,
    `<text class="title" x="${MARGIN.left}" y="26">${escape(plot.title)}</text>`,
  ];
  if (plot.subtitle) {
    parts.push(`<text class="note" x="${MARGIN.left}" y="46">${escape(plot.subtitle)}</text>`);
  }
  for (const [tick, label] of y.ticks) {
    parts.push(
      `<path class="grid" d="M${MARGIN.left} ${at(y(tick))}H${right}"/>`,
      `<text x="${MARGIN.left - 8}" y="${at(y(tick) + 4)}" text-anchor="end">${escape(label)}</text>`,
    );
  }
  for (const [tick, label] of x.ticks) {
    parts.push(
      `<path class="grid" d="M${at(x(tick))} ${MARGIN.top}V${bottom}"/>`,
      `<text x="${at(x(tick))}" y="${bottom + 18}" text-anchor="middle">${escape(label)}</text>`,
    );
  }
  parts.push(
    `<path class="axis" fill="none" d="M${MARGIN.left} ${MARGIN.top}V${bottom}H${right}"/>`,
    `<text x="${(MARGIN.left + right) / 2}" y="${HEIGHT - 14}" text-anchor="middle">${
      escape(plot.x.label)
    }</text>`,
    `<text transform="translate(20 ${(MARGIN.top + bottom) / 2}) rotate(-90)" text-anchor="middle">${
      escape(plot.y.label)
    }</text>`,
  );
  plot.series.forEach((series, i) => {
    const colour = COLOURS[i % COLOURS.length]!;
    const points = series.points.filter(([px, py]) => Number.isFinite(px) && Number.isFinite(py));
    if (series.kind === "bars") {
      // The last point only ends the bar before it.
      const boxes = points.slice(0, -1).map(([px, py], n) => {
        const left = x(px);
        const next = x(points[n + 1]![0]);
        return `M${at(left)} ${bottom}V${at(y(py))}H${at(Math.max(next, left + 1))}V${bottom}Z`;
      });
      parts.push(`<path class="bar" fill="${colour}" d="${boxes.join("")}"/>`);
    } else if (points.length === 1) {
      parts.push(
        `<circle fill="${colour}" cx="${at(x(points[0]![0]))}" cy="${at(y(points[0]![1]))}" r="4"/>`,
      );
    } else if (points.length > 1) {
      const path = points.map(([px, py]) => `${at(x(px))} ${at(y(py))}`).join("L");
      parts.push(`<path class="line" stroke="${colour}" d="M${path}"/>`);
    }
    if (plot.series.length > 1) {
      const top = MARGIN.top + 8 + 20 * i;
      parts.push(
        `<rect fill="${colour}" x="${MARGIN.left + 14}" y="${top}" width="14" height="10"/>`,
        `<text x="${MARGIN.left + 34}" y="${top + 10}">${escape(series.name)}</text>`,
      );
    }
  });
  parts.push("</svg>");
  return `${parts.join("\n")}\n`;
}

export interface DistributionPlotOptions {
  title: string;
  subtitle?: string;
  /** Of the values, with the unit they are shown in. */
  label: string;
  /** Divides the values. */
  unit: number;
}

/** How often each value came, over a logarithmic axis. */
export function svgHistogram(histogram: Histogram, options: DistributionPlotOptions): string {
  const points: [number, number][] = [];
  let end: number | undefined;
  for (const { lower, upper, count } of histogram.buckets()) {
    if (end !== undefined && end < lower) points.push([end / options.unit, 0]);
    // Per nanosecond, or wide buckets would look fuller than narrow ones.
    points.push([Math.max(lower, 1) / options.unit, count / (upper - lower) * options.unit]);
    end = upper;
  }
  if (end !== undefined) points.push([end / options.unit, 0]);
  return svgPlot({
    title: options.title,
    subtitle: options.subtitle,
    x: { label: options.label, log: true },
    y: { label: "values per unit of the axis below" },
    series: [{ name: "values", points, kind: "bars" }],
  });
}

const PERCENTILES = [
  0,
  10,
  20,
  30,
  40,
  50,
  60,
  70,
  80,
  90,
  95,
  98,
  99,
  99.5,
  99.8,
  99.9,
  99.95,
  99.99,
  99.999,
];

/** Values over percentiles, the tail stretched: each further nine is as wide as the last. */
export function svgPercentiles(
  histograms: Readonly<Record<string, Histogram>>,
  options: DistributionPlotOptions,
): string {
  const nines = (percentile: number) => 1 / (1 - percentile / 100);
  const marks = [0, 50, 90, 99, 99.9, 99.99, 99.999];
  return svgPlot({
    title: options.title,
    subtitle: options.subtitle,
    x: { label: "percentile", log: true, ticks: marks.map((mark) => [nines(mark), `${mark}`] as const) },
    y: { label: options.label, log: true },
    series: Object.entries(histograms).map(([name, histogram]) => ({
      name,
      // A percentile beyond the last value would only repeat the maximum.
      points: PERCENTILES.filter((each) => nines(each) <= Math.max(histogram.count, 1))
        .map((each) => [nines(each), histogram.percentile(each) / options.unit] as const),
    })),
  });
}
