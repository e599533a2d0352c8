// SPDX-License-Identifier: BSD-2-Clause
// CPU lists as the kernel writes them: 0-3,6.

import { InvalidArgumentError } from "@commander-js/extra-typings";

const MAX_CPU = 1023;

/** CPU numbers, ascending, each once. */
export function parseCpuList(text: string): number[] {
  const cpus = new Set<number>();
  for (const part of text.split(",")) {
    const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim());
    const first = Number(match?.[1]);
    const last = Number(match?.[2] ?? match?.[1]);
    if (!(first <= last && last <= MAX_CPU)) {
      throw new InvalidArgumentError(`Expected a list of CPUs such as 0-3,6 with numbers up to ${MAX_CPU}.`);
    }
    for (let cpu = first; cpu <= last; cpu++) cpus.add(cpu);
  }
  return [...cpus].sort((a, b) => a - b);
}

/** Writes CPUs the same way, ranges joined. */
export function formatCpuList(cpus: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const cpu of [...new Set(cpus)].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === cpu - 1) last[1] = cpu;
    else ranges.push([cpu, cpu]);
  }
  return ranges.map(([first, last]) => first === last ? `${first}` : `${first}-${last}`).join(",");
}
