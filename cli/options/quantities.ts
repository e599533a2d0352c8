// SPDX-License-Identifier: BSD-2-Clause
// Numbers with units: sizes, durations, rates; plain counts; and how to write them again.

import { InvalidArgumentError } from "@commander-js/extra-typings";

/** Splits "1.5ms" into its digits and its unit, or returns undefined. */
function split(text: string): { digits: string; unit: string } | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-zµμ/]*)$/.exec(text.trim());
  return match === null ? undefined : { digits: match[1]!, unit: match[2]! };
}

/** digits * factor without rounding errors, or undefined where that is no whole number below 2^53. */
function scale(digits: string, factor: number): number | undefined {
  const [whole = "", fraction = ""] = digits.split(".");
  if (whole.length > 16 || fraction.length > 16) return undefined;
  const denominator = 10n ** BigInt(fraction.length);
  const product = BigInt(whole + fraction) * BigInt(factor);
  if (product % denominator !== 0n) return undefined;
  const value = Number(product / denominator);
  return Number.isSafeInteger(value) ? value : undefined;
}

function parse(text: string, units: Record<string, number>, expected: string, caseMatters: boolean): number {
  const parts = split(text);
  if (parts !== undefined) {
    const unit = caseMatters ? parts.unit : parts.unit.toLowerCase();
    const factor = Object.hasOwn(units, unit) ? units[unit] : undefined;
    const value = factor === undefined ? undefined : scale(parts.digits, factor);
    if (value !== undefined) return value;
  }
  throw new InvalidArgumentError(`Expected ${expected}.`);
}

const BYTE_UNITS: Record<string, number> = { "": 1, b: 1 };
["k", "m", "g", "t"].forEach((prefix, i) => {
  BYTE_UNITS[`${prefix}b`] = 1000 ** (i + 1);
  BYTE_UNITS[`${prefix}ib`] = 1024 ** (i + 1);
  BYTE_UNITS[prefix] = 1024 ** (i + 1);
});

/** Bytes: 64, 4KiB (4096), 1MB (1,000,000); K, M and G alone are powers of 1024, as in dd. */
export function parseBytes(text: string): number {
  return parse(text, BYTE_UNITS, "a size such as 64, 4KiB or 1MB", false);
}

const DURATION_UNITS: Record<string, number> = {
  ns: 1,
  us: 1e3,
  µs: 1e3, // micro sign
  μs: 1e3, // Greek mu
  ms: 1e6,
  s: 1e9,
  min: 60e9,
  h: 3600e9,
};

/** Nanoseconds: 10us, 1.5ms, 5s, 2min. A bare number is refused but for 0. */
export function parseDuration(text: string): number {
  if (text.trim() === "0") return 0;
  return parse(text, DURATION_UNITS, "a duration with a unit, such as 10us, 1.5ms, 5s or 2min", true);
}

/** As parseDuration, but longer than nothing. */
export function parsePositiveDuration(text: string): number {
  const duration = parseDuration(text);
  if (duration === 0) throw new InvalidArgumentError("Expected a duration longer than 0.");
  return duration;
}

const RATE_UNITS: Record<string, number> = { bit: 1, kbit: 1e3, mbit: 1e6, gbit: 1e9, tbit: 1e12 };

/** Bits per second: 10gbit, 2.5Gbit/s, 100mbit. */
export function parseRate(text: string): number {
  const rate = parse(text.replace(/\/s$/, ""), RATE_UNITS, "a rate such as 10gbit or 100mbit", false);
  if (rate === 0) throw new InvalidArgumentError("Expected a rate above 0.");
  return rate;
}

/** A parser of whole numbers within limits, both included. */
export function parseCount(lowest = 0, highest = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
    if (value >= lowest && value <= highest) return value;
    const range = highest === Number.MAX_SAFE_INTEGER
      ? `of at least ${lowest}`
      : `from ${lowest} to ${highest}`;
    throw new InvalidArgumentError(`Expected a whole number ${range}.`);
  };
}

function trim(value: number): string {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toFixed(digits).replace(/\.0+$|(\.\d*?)0+$/, "$1");
}

function format(value: number, units: [factor: number, unit: string][]): string {
  const [factor, unit] = units.find(([factor]) => value >= factor) ?? units.at(-1)!;
  return `${trim(value / factor)} ${unit}`;
}

/** Nanoseconds for people: "12.5 us". */
export function formatDuration(ns: number): string {
  return format(ns, [[1e9, "s"], [1e6, "ms"], [1e3, "us"], [1, "ns"]]);
}

/** Bytes for people, in powers of 1024: "4 KiB". */
export function formatBytes(bytes: number): string {
  return format(bytes, [[1024 ** 4, "TiB"], [1024 ** 3, "GiB"], [1024 ** 2, "MiB"], [1024, "KiB"], [1, "B"]]);
}

/** Bits per second for people: "9.41 Gbit/s". */
export function formatRate(bitsPerSecond: number): string {
  return format(bitsPerSecond, [[1e12, "Tbit/s"], [1e9, "Gbit/s"], [1e6, "Mbit/s"], [1e3, "kbit/s"], [
    1,
    "bit/s",
  ]]);
}
