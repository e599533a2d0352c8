// SPDX-License-Identifier: BSD-2-Clause
import assert from "node:assert/strict";
import fc from "fast-check";
import { groupBuckets, histogramChart, lineChart } from "../../cli/output/chart.ts";
import { jsonDocument, jsonLine } from "../../cli/output/json.ts";
import { Progress } from "../../cli/output/progress.ts";
import { COLOURED, textWidth } from "../../cli/output/style.ts";
import { chooseTicks, svgHistogram, svgPercentiles, svgPlot } from "../../cli/output/svg.ts";
import { facts, table } from "../../cli/output/table.ts";
import { Histogram } from "../../lib/measure/histogram.ts";
import { fakeContext } from "../helpers/cli.ts";

/** Values between 10 and 400 us with a tail, the same each time. */
function latencies(count = 5000): Histogram {
  const histogram = new Histogram();
  let state = 12345;
  for (let i = 0; i < count; i++) {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    const part = state / 2 ** 31;
    histogram.record(Math.floor(10_000 * (1 + part * part) / Math.max(0.025, 1 - part ** 40)));
  }
  return histogram;
}

Deno.test("a table is aligned", async (t) => {
  const text = table(
    [{ title: "peer" }, { title: "p50 (us)", align: "right" }, { title: "note" }],
    [["10.0.0.2:4000", "12.3", ""], ["[::1]:4000", "123456.7", "slow"], ["日本", "1", "wide"]],
  );
  await t.assertSnapshot(text);
});

Deno.test("a table's columns begin at the same place whatever is in them", () => {
  const cell = fc.string({ unit: fc.constantFrom("a", "ß", "日", "e\u0301", "\x1b[31mx\x1b[39m", " ") });
  fc.assert(fc.property(fc.array(fc.tuple(cell, cell), { minLength: 1 }), (rows) => {
    const lines = table([{ title: "a" }, { title: "b" }], rows.map(([a]) => [a, "|"]), COLOURED).trimEnd()
      .split("\n");
    const places = new Set(lines.slice(1).map((line) => textWidth(line)));
    assert.equal(places.size, 1);
  }));
});

Deno.test("facts stand under each other", () => {
  assert.equal(facts([["kernel", "6.1"], ["CPUs", "2"]]), "kernel  6.1\nCPUs    2\n");
});

Deno.test("JSON names its schema and writes large counters in full", () => {
  const text = jsonDocument("rackwire.test/1", { bytes: 2n ** 64n - 1n, rate: 1.5, list: [1n] });
  assert.match(text, /"bytes": 18446744073709551615,/);
  assert.deepEqual(Object.keys(JSON.parse(text)), ["schema", "bytes", "rate", "list"]);
  assert.equal(jsonLine("rackwire.test/1", { a: 1n }), '{"schema":"rackwire.test/1","a":1}\n');
});

Deno.test("progress is silent for two seconds and leaves a terminal's line empty", () => {
  const { context, written } = fakeContext({ terminal: true, columns: 60 });
  let now = 0;
  const progress = new Progress(context.err, { label: "pinging", total: 100, now: () => now });
  now = 1999;
  progress.update(10);
  assert.equal(written.err, "");
  now = 2000;
  progress.update(50, "p50 12 us");
  assert.match(written.err, /pinging 50 % p50 12 us$/);
  const shown = written.err;
  now = 2050;
  progress.update(51);
  assert.equal(written.err, shown);
  progress.finish();
  assert.ok(written.err.endsWith("\r\x1b[K"));
});

Deno.test("progress in a log is a line now and then, and none when quiet", () => {
  const { context, written } = fakeContext();
  let now = 0;
  const progress = new Progress(context.err, { label: "pinging", total: 100, now: () => now });
  const silent = new Progress(context.err, { label: "silent", quiet: true, now: () => now });
  for (now = 0; now <= 30_000; now += 500) {
    progress.update(now / 300);
    silent.update(1);
  }
  progress.finish();
  assert.equal(written.err, "pinging 6 %\npinging 40 %\npinging 73 %\n");
});

Deno.test("a histogram in the terminal", async (t) => {
  await t.assertSnapshot(histogramChart(latencies(), { unit: 1000, unitName: "us", columns: 80 }));
});

Deno.test("grouping loses no value and keeps its groups in order", () => {
  const value = fc.integer({ min: 0, max: 2 ** 31 - 1 });
  fc.assert(fc.property(fc.array(value, { minLength: 1, maxLength: 300 }), (values) => {
    const histogram = new Histogram();
    values.forEach((each) => histogram.record(each));
    const groups = groupBuckets(histogram, 16);
    assert.equal(groups.reduce((sum, group) => sum + group.count, 0), values.length);
    assert.ok(groups.length <= 40, `${groups.length} groups`);
    groups.forEach((group, i) => {
      assert.ok(group.lower < group.upper);
      if (i > 0) assert.ok(group.lower >= groups[i - 1]!.upper);
    });
    assert.ok(groups.at(-1)!.upper > histogram.max && groups[0]!.lower <= histogram.min);
  }));
});

Deno.test("charts of nothing, of one value and of equal values are drawn", () => {
  assert.equal(histogramChart(new Histogram(), { unit: 1, unitName: "ns", columns: 80 }), "no values\n");
  const one = new Histogram();
  one.record(0);
  assert.match(histogramChart(one, { unit: 1, unitName: "ns", columns: 80 }), /1 +100% /);
  assert.equal(lineChart([], { columns: 80 }), "no values\n");
  assert.match(lineChart([5, 5, 5], { columns: 80 }), /5\.00/);
});

Deno.test("a line in the terminal fits its width", async (t) => {
  const values = Array.from({ length: 500 }, (_, i) => 10 + 5 * Math.sin(i / 40));
  const text = lineChart(values, { columns: 60, height: 6 });
  for (const line of text.split("\n")) assert.ok(textWidth(line) <= 60);
  await t.assertSnapshot(text);
});

const distribution = {
  title: "ping <10.0.0.2>",
  subtitle: "64 B & raw",
  label: "round trip (us)",
  unit: 1000,
};

Deno.test("SVG: a histogram", async (t) => {
  await t.assertSnapshot(svgHistogram(latencies(200), distribution));
});

Deno.test("SVG: percentiles of two runs", async (t) => {
  await t.assertSnapshot(svgPercentiles({ dcpim: latencies(2000), tcp: latencies(500) }, distribution));
});

Deno.test("SVG: lines", async (t) => {
  await t.assertSnapshot(svgPlot({
    title: "goodput",
    x: { label: "time (s)" },
    y: { label: "Gbit/s" },
    series: [{ name: "a", points: [[0, 1], [1, 4], [2, 3]] }, {
      name: "b",
      points: [[0, 2], [2, NaN], [3, 1]],
    }],
  }));
});

Deno.test("SVG is well-formed and has finite coordinates, whatever the values", () => {
  const number = fc.oneof(
    fc.double({ min: -1e15, max: 1e15 }).filter((each) => !(Math.abs(each) < 1e-15)),
    fc.integer(),
    fc.constantFrom(0, NaN, Infinity),
  );
  const points = fc.array(fc.tuple(number, number), { maxLength: 20 });
  fc.assert(
    fc.property(points, fc.string(), fc.boolean(), fc.boolean(), (list, title, xLog, yLog) => {
      const svg = svgPlot({
        title,
        x: { label: "x", log: xLog },
        y: { label: title, log: yLog },
        series: [{ name: title, points: list }, { name: "bars", points: list, kind: "bars" }],
      });
      assert.doesNotMatch(svg.replace(/<text.*|aria-label="[^"]*"/g, ""), /NaN|Infinity|undefined/);
      const open = [...svg.matchAll(/<(\w+)[^>]*[^/]>/g)].map((m) => m[1]);
      const closed = [...svg.matchAll(/<\/(\w+)>/g)].map((m) => m[1]);
      assert.equal(open.length, closed.length);
    }),
    { numRuns: 300 },
  );
});

Deno.test("ticks are round numbers within the range", () => {
  assert.deepEqual(chooseTicks(0, 10, false), [0, 2, 4, 6, 8, 10]);
  assert.deepEqual(chooseTicks(10, 400, true), [10, 20, 50, 100, 200]);
  assert.deepEqual(chooseTicks(1, 1e5, true), [1, 10, 100, 1000, 10_000, 100_000]);
});
