// SPDX-License-Identifier: BSD-2-Clause
import assert from "node:assert/strict";
import { InvalidArgumentError } from "@commander-js/extra-typings";
import fc from "fast-check";
import { formatCpuList, parseCpuList } from "../../cli/options/cpu_list.ts";
import {
  formatEndpoint,
  parseEndpoint,
  parseHost,
  parseListenPort,
  parsePort,
} from "../../cli/options/endpoint.ts";
import {
  formatBytes,
  formatDuration,
  formatRate,
  parseBytes,
  parseCount,
  parseDuration,
  parsePositiveDuration,
  parseRate,
} from "../../cli/options/quantities.ts";

function accepts<T>(parse: (text: string) => T, cases: [text: string, value: T][]): void {
  for (const [text, value] of cases) assert.deepEqual(parse(text), value, text);
}

function refuses(parse: (text: string) => unknown, texts: string[]): void {
  for (const text of texts) {
    assert.throws(() => parse(text), (error) => {
      assert.ok(error instanceof InvalidArgumentError, text);
      assert.match(error.message, /\bExpected\b|\bis not\b/, "the message says what was expected");
      return true;
    }, JSON.stringify(text));
  }
}

Deno.test("endpoints: names, IPv4 and bracketed IPv6 with a port from 1 to 65535", () => {
  accepts(parseEndpoint, [
    ["localhost:4000", { host: "localhost", port: 4000 }],
    ["10.0.0.2:1", { host: "10.0.0.2", port: 1 }],
    ["node-7.rack_3.example.com:65535", { host: "node-7.rack_3.example.com", port: 65535 }],
    ["[::1]:4000", { host: "::1", port: 4000 }],
    ["[fe80::1%eth0]:4000", { host: "fe80::1%eth0", port: 4000 }],
    ["[::ffff:10.0.0.1]:9", { host: "::ffff:10.0.0.1", port: 9 }],
  ]);
  refuses(parseEndpoint, [
    ...[
      "",
      ":",
      "host",
      "host:",
      ":4000",
      "host:0",
      "host:70000",
      "host:65536",
      "host:-1",
      "host:4e3",
      "host:0x50",
    ],
    ...[
      "host:4000x",
      "host: 4000",
      "host:4000 ",
      "::1:4000",
      "[::1]",
      "[::1]:",
      "[::1]:0",
      "[::g]:1",
      "[host]:1",
    ],
    ...[
      "[10.0.0.1]:1",
      "256.0.0.1:1",
      "10.0.0:1",
      "1.2.3.4.5:1",
      "-host:1",
      "host-:1",
      "a..b:1",
      "ho st:1",
      "[]:1",
    ],
    ...["[fe80::1%]:1", "[fe80::1%a%b]:1", "user@host:1", "http://host:1", `${"a".repeat(64)}:1`, "höst/:1"],
  ]);
});

Deno.test("hosts and ports stand alone too; 0 is a port only to listen on", () => {
  accepts(parseHost, [["::1", "::1"], ["[::1]", "::1"], ["0.0.0.0", "0.0.0.0"], ["example", "example"]]);
  refuses(parseHost, ["", "10.0.0", "a b", "[a]", "::g"]);
  accepts(parseListenPort, [["0", 0], ["4000", 4000]]);
  refuses(parseListenPort, ["-1", "65536", "", "x", "1.5"]);
  refuses(parsePort, ["0", "70000"]);
});

Deno.test("endpoints: what is written is read again", () => {
  const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
  fc.assert(fc.property(host, fc.integer({ min: 1, max: 65535 }), (host, port) => {
    assert.deepEqual(parseEndpoint(formatEndpoint({ host, port })), { host, port });
  }));
});

Deno.test("sizes: bytes, powers of 1000 and of 1024", () => {
  accepts(parseBytes, [
    ["0", 0],
    ["64", 64],
    ["64B", 64],
    ["4KiB", 4096],
    ["4kib", 4096],
    ["4K", 4096],
    ["1MB", 1_000_000],
    ["1 MB", 1_000_000],
    ["1.5MiB", 1_572_864],
    ["0.5KiB", 512],
    ["2G", 2 ** 31],
    ["1TB", 1e12],
  ]);
  refuses(parseBytes, [
    "",
    "-1",
    "1.5",
    "1.0001KiB",
    "KiB",
    "4KiBs",
    "4Kbit",
    "1e3",
    "0x10",
    "99999999TB",
    "4 Ki B",
    ".",
  ]);
});

Deno.test("durations: nanoseconds out of a number with its unit", () => {
  accepts(parseDuration, [
    ["0", 0],
    ["10ns", 10],
    ["10us", 10_000],
    ["10µs", 10_000],
    ["10μs", 10_000],
    ["1.5ms", 1_500_000],
    ["5s", 5e9],
    ["0.1s", 1e8],
    ["2min", 120e9],
    ["1h", 3600e9],
  ]);
  refuses(parseDuration, [
    "",
    "5",
    "5 sec",
    "-1s",
    "1.5ns",
    "s",
    "5S",
    "5Ms",
    "1e3s",
    "5m",
    "999999999h",
    "1,5s",
  ]);
  refuses(parsePositiveDuration, ["0", "0s", "0ms", "5"]);
});

Deno.test("rates: bits per second, never bytes and never bare", () => {
  accepts(parseRate, [
    ["10gbit", 10e9],
    ["10Gbit", 10e9],
    ["2.5Gbit/s", 2.5e9],
    ["100mbit", 1e8],
    ["64kbit", 64_000],
    ["9bit", 9],
  ]);
  refuses(parseRate, ["", "10", "10G", "10gbps", "10GB", "0gbit", "-1gbit", "1.5bit", "gbit"]);
});

Deno.test("counts: whole numbers within their limits", () => {
  accepts(parseCount(1, 100), [["1", 1], ["100", 100], ["007", 7]]);
  refuses(parseCount(1, 100), ["0", "101", "", "1.5", "-1", "1e1", "ten", " 5"]);
  accepts(parseCount(), [["0", 0], ["9007199254740991", 9007199254740991]]);
  refuses(parseCount(), ["9007199254740992", "99999999999999999999"]);
});

Deno.test("CPU lists: as the kernel writes them", () => {
  accepts(parseCpuList, [
    ["0", [0]],
    ["0-3,6", [0, 1, 2, 3, 6]],
    ["6,0-3", [0, 1, 2, 3, 6]],
    ["2,2,1-2", [1, 2]],
    ["1023", [1023]],
  ]);
  refuses(parseCpuList, ["", ",", "0,", "3-1", "1024", "0-99999", "-1", "a", "0x1", "1-2-3", "0 1"]);
  fc.assert(fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 1023 }), { minLength: 1 }), (cpus) => {
    assert.deepEqual(parseCpuList(formatCpuList(cpus)), [...cpus].sort((a, b) => a - b));
  }));
});

Deno.test("no text makes a parser fail otherwise than by refusing it", () => {
  const parsers = [parseEndpoint, parseHost, parsePort, parseBytes, parseDuration, parseRate, parseCpuList];
  fc.assert(
    fc.property(
      fc.string({ unit: "grapheme" }),
      fc.constantFrom<(text: string) => unknown>(...parsers),
      (text, parse) => {
        try {
          parse(text);
        } catch (error) {
          assert.ok(error instanceof InvalidArgumentError);
        }
      },
    ),
    { numRuns: 2000 },
  );
});

Deno.test("quantities are written short, with the unit that fits", () => {
  assert.deepEqual([0, 999, 12_345, 1_500_000, 5e9].map(formatDuration), [
    "0 ns",
    "999 ns",
    "12.3 us",
    "1.5 ms",
    "5 s",
  ]);
  assert.deepEqual([0, 64, 4096, 1_572_864, 2 ** 40].map(formatBytes), [
    "0 B",
    "64 B",
    "4 KiB",
    "1.5 MiB",
    "1 TiB",
  ]);
  assert.deepEqual([0, 9.41e9, 100e6].map(formatRate), ["0 bit/s", "9.41 Gbit/s", "100 Mbit/s"]);
});
