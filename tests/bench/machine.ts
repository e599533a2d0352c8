// SPDX-License-Identifier: BSD-2-Clause
// CPU time, as /proc tells it: of one process, of the machine, and of whatever else runs on it.

/** Seconds in a clock tick; USER_HZ is 100 on every architecture Linux has. */
const TICK = 1 / 100;
const KTHREADD = 2;

interface ProcessTimes {
  parent: number;
  /** Seconds of the process itself. */
  own: number;
  /** Seconds of its children that have ended. */
  children: number;
}

/** proc_pid_stat(5): fields 4 and 14 to 17, after the name in brackets. */
function processTimes(pid: number): ProcessTimes | undefined {
  let stat: string;
  try {
    stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  } catch {
    return undefined; // it has ended
  }
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ").map(Number);
  return {
    parent: fields[1]!,
    own: (fields[11]! + fields[12]!) * TICK,
    children: (fields[13]! + fields[14]!) * TICK,
  };
}

/** CPU time of a running process so far, in seconds. */
export function cpuSeconds(pid: number): number {
  const times = processTimes(pid);
  if (times === undefined) throw new Error(`process ${pid} has ended`);
  return times.own;
}

/** CPU time the machine was not idle, in seconds of all its CPUs together; proc_stat(5). */
export function busySeconds(): number {
  const cpu = Deno.readTextFileSync("/proc/stat").split("\n")[0]!.trim().split(/\s+/).slice(1).map(Number);
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = cpu;
  return (user + nice + system + irq + softirq) * TICK;
}

/** CPU time of all processes that are neither the kernel's nor descend from this one, in seconds. */
export function othersSeconds(): number {
  const all = new Map<number, ProcessTimes>();
  for (const { name } of Deno.readDirSync("/proc")) {
    const pid = Number(name);
    const times = Number.isInteger(pid) ? processTimes(pid) : undefined;
    if (times !== undefined) all.set(pid, times);
  }
  const descends = (pid: number, from: number): boolean => {
    for (let at: number | undefined = pid; at !== undefined && at > 0; at = all.get(at)?.parent) {
      if (at === from) return true;
    }
    return false;
  };
  let seconds = 0;
  for (const [pid, { own, children }] of all) {
    // What a process that ended has used goes on to count with its parent.
    if (!descends(pid, Deno.pid) && !descends(pid, KTHREADD)) seconds += own + children;
  }
  return seconds;
}
