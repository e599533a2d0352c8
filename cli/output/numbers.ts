// SPDX-License-Identifier: BSD-2-Clause
// Numbers as all commands write them.

/** Microseconds with the digits that matter: 7.42, 85.1, 1234. */
export function microseconds(ns: number): string {
  const us = ns / 1000;
  return us.toFixed(us < 10 ? 2 : us < 1000 ? 1 : 0);
}

/** "12,345" is hard to align and to parse; thin groups are not: "12 345". */
export function whole(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, " ");
}

export function seconds(ns: number): string {
  return (ns / 1e9).toFixed(2);
}

/** Bits per second of bytes in nanoseconds. */
export function bitsPerSecond(bytes: number, ns: number): number {
  return ns > 0 ? bytes * 8e9 / ns : 0;
}

/** Nanoseconds of CPU for a byte, or seconds for a gigabyte; undefined where nothing was moved. */
export function cpuPerGb(cpuNs: number, bytes: number): number | undefined {
  return cpuNs > 0 && bytes > 0 ? cpuNs / bytes : undefined;
}

export function cpuText(value: number | undefined): string {
  return value === undefined ? "-" : value.toFixed(2);
}

/** "1 connection", "3 connections" */
export function counted(n: number, singular: string, plural = `${singular}s`): string {
  return `${whole(n)} ${n === 1 ? singular : plural}`;
}
