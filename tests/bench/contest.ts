// SPDX-License-Identifier: BSD-2-Clause
// Interleaved repetitions of several contenders, and what their medians say about the goals.

import { othersSeconds } from "./machine.ts";

/** What one run of a contender measured, by name with the unit in it. */
export type Figures = Record<string, number>;

/** CPUs that other programs may keep busy during a run before it is repeated. */
export const QUIET_CPUS = 0.1;

export interface Contender {
  name: string;
  run(): Promise<Figures>;
}

export interface Goal {
  /** What is compared: a key of Figures. */
  figure: string;
  ours: string;
  /** Whom with; a goal without one is about the figure itself. */
  theirs?: string;
  /** The ratio ours / theirs, or the figure; no goal, only the ratio, where it is missing. */
  atMost?: number;
  atLeast?: number;
}

export interface Contest {
  /** "ping veth blocking": service, place, variant */
  name: string;
  contenders: Contender[];
  goals: Goal[];
}

export interface Spread {
  median: number;
  min: number;
  max: number;
}

export interface Verdict extends Goal {
  ours_is: Spread;
  theirs_is?: Spread;
  /** Of the medians. */
  ratio?: number;
  /** Lowest and highest ratio of two runs of one repetition. */
  ratio_min?: number;
  ratio_max?: number;
  /** null: there is no goal */
  met: boolean | null;
}

export interface Outcome {
  name: string;
  /** Of each contender, the figures of every repetition in the order of running. */
  runs: Record<string, Figures[]>;
  verdicts: Verdict[];
}

export function spread(values: number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

export function judge(goal: Goal, runs: Record<string, Figures[]>): Verdict {
  const valuesOf = (name: string) =>
    runs[name]!.map((figures) => {
      const value = figures[goal.figure];
      if (value === undefined) throw new Error(`${name} did not measure ${goal.figure}`);
      return value;
    });
  const ours = valuesOf(goal.ours);
  const ours_is = spread(ours);
  const reached = (value: number) =>
    goal.atMost === undefined && goal.atLeast === undefined
      ? null
      : value <= (goal.atMost ?? Infinity) && value >= (goal.atLeast ?? -Infinity);
  if (goal.theirs === undefined) return { ...goal, ours_is, met: reached(ours_is.median) };
  const theirs = valuesOf(goal.theirs);
  const theirs_is = spread(theirs);
  const ratio = ours_is.median / theirs_is.median;
  const ratios = spread(ours.map((value, i) => value / theirs[i]!));
  return {
    ...goal,
    ours_is,
    theirs_is,
    ratio,
    ratio_min: ratios.min,
    ratio_max: ratios.max,
    met: reached(ratio),
  };
}

/**
 * Runs a contender, and again, as often as `patience` says, where other programs disturbed it; the run
 * with the least disturbance counts.
 */
async function quietly(contender: Contender, patience: number): Promise<Figures> {
  let best: Figures | undefined;
  for (let attempt = 0; attempt <= patience; attempt++) {
    const [others, began] = [othersSeconds(), performance.now()];
    const figures = await contender.run();
    const others_cpus = (othersSeconds() - others) / ((performance.now() - began) / 1000);
    if (best === undefined || others_cpus < best.others_cpus!) best = { ...figures, others_cpus };
    if (others_cpus <= QUIET_CPUS) break;
  }
  return best!;
}

/**
 * Runs every contender once in each repetition, in turns of opposite order, so that a machine that slows
 * down or is disturbed does so for all.
 */
export async function hold(
  contest: Contest,
  repeat: number,
  patience: number,
  progress: (text: string) => void,
): Promise<Outcome> {
  const runs: Record<string, Figures[]> = Object.fromEntries(
    contest.contenders.map(({ name }) => [name, []]),
  );
  for (let repetition = 0; repetition < repeat; repetition++) {
    const order = repetition % 2 === 0 ? contest.contenders : contest.contenders.toReversed();
    for (const contender of order) {
      const { name } = contender;
      progress(`${contest.name}: ${name} (${repetition + 1} of ${repeat})`);
      runs[name]!.push(await quietly(contender, patience));
    }
  }
  return { name: contest.name, runs, verdicts: contest.goals.map((goal) => judge(goal, runs)) };
}
