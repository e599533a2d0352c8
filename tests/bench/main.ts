// SPDX-License-Identifier: BSD-2-Clause
// make bench: dcPIM beside the kernel's own transports, and krping beside other ways to the same, on loopback
// and between two namespaces.
//
// Prints a table of ratios and goals, and writes build/bench/results.json with every repetition. A missed
// goal is a result, not a failure: the status is 1 only where something could not be measured.

import { parseArgs } from "node:util";
import { COLOURED, PLAIN, type Style } from "../../cli/output/style.ts";
import { table } from "../../cli/output/table.ts";
import { jsonDocument } from "../../cli/output/json.ts";
import { hostFacts } from "../../lib/host/facts.ts";
import { lacking } from "../helpers/needs.ts";
import { hold, type Outcome, QUIET_CPUS, type Verdict } from "./contest.ts";
import { contests, type Places } from "./contests.ts";
import { krpingContests } from "./krping_contests.ts";
import { guestContests, KrpingGuest, withoutGuest } from "./krping_guest.ts";
import { loopback, veth } from "./place.ts";

const OUT = "build/bench/results.json";
const USAGE = `usage: tests/bench/main.ts [--quick] [--only NAME] [--repeat N] [--patience N]

  --quick       about a minute, one repetition; for a first look
  --only NAME   only comparisons whose name contains NAME, such as "ping veth"; may be repeated
  --repeat N    repetitions; 5, or 1 with --quick
  --patience N  how often a run that other programs disturbed is made again; 3, or 0 with --quick
`;

const interactive = Deno.stderr.isTerminal();
const style: Style = Deno.stdout.isTerminal() && !Deno.env.get("NO_COLOR") ? COLOURED : PLAIN;

function progress(text: string): void {
  const line = interactive ? `\r\x1b[K${text}` : `${text}\n`;
  Deno.stderr.writeSync(new TextEncoder().encode(line));
}

function figure(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 1000 || Number.isInteger(value) ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3);
}

function spreadText({ median, min, max }: Verdict["ours_is"]): string {
  return min === max ? figure(median) : `${figure(median)} (${figure(min)}–${figure(max)})`;
}

function row(verdict: Verdict): string[] {
  const { ours_is, theirs_is, ratio, ratio_min, ratio_max, atMost, atLeast, met } = verdict;
  const goal = atMost !== undefined ? `≤ ${atMost}` : atLeast !== undefined ? `≥ ${atLeast}` : "";
  const pairs = ratio_min === ratio_max ? "" : ` (${ratio_min!.toFixed(2)}–${ratio_max!.toFixed(2)})`;
  return [
    `  ${verdict.figure}`,
    verdict.ours,
    spreadText(ours_is),
    verdict.theirs ?? "",
    theirs_is === undefined ? "" : spreadText(theirs_is),
    ratio === undefined ? "" : ratio.toFixed(2) + pairs,
    goal,
    met === null ? "" : met ? style.green("met") : style.red("missed"),
  ];
}

function printTable(outcomes: Outcome[]): void {
  const rows = outcomes.flatMap(({ name, verdicts }) => [[style.bold(name)], ...verdicts.map(row)]);
  const right = "right" as const;
  console.log(table(
    [
      { title: "median (min–max)" },
      { title: "ours" },
      { title: "", align: right },
      { title: "theirs" },
      { title: "", align: right },
      { title: "ratio (of pairs)" },
      { title: "goal", align: right },
      { title: "" },
    ],
    rows,
    style,
  ));
}

function parse() {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      quick: { type: "boolean", default: false },
      only: { type: "string", multiple: true, default: [] },
      repeat: { type: "string" },
      patience: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const whole = (name: string, text: string, lowest: number) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= lowest) return value;
    throw new TypeError(`--${name} takes a whole number of at least ${lowest}`);
  };
  const repeat = whole("repeat", values.repeat ?? (values.quick ? "1" : "5"), 1);
  const patience = whole("patience", values.patience ?? (values.quick ? "0" : "3"), 0);
  return { ...values, repeat, patience };
}

async function main(): Promise<number> {
  let options: ReturnType<typeof parse>;
  try {
    options = parse();
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    return 2;
  }
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  const withoutNamespaces = lacking(["root", "netns", "ip", "ethtool", "tcpdump"]);
  if (withoutNamespaces !== undefined) {
    console.error(`only loopback is measured, for a veth pair: ${withoutNamespaces}`);
  }
  const noGuest = withoutGuest();
  if (noGuest !== undefined) console.error(`nothing is measured in a guest: ${noGuest}`);
  await using guest = new KrpingGuest();
  const here = loopback();
  using between = withoutNamespaces === undefined ? veth("veth", { offloads: true }) : undefined;
  using plain = withoutNamespaces === undefined ? veth("veth, offloads off", { offloads: false }) : undefined;
  const places: Places = { loopback: here, veth: between, vethPlain: plain };

  const timing = options.quick ? { seconds: 1, warmup: 0.2 } : { seconds: 2, warmup: 0.5 };
  const every = [
    ...contests(places, timing, options.quick ? 4 : 20),
    ...krpingContests(here, timing),
    ...(noGuest === undefined ? guestContests(guest, timing) : []),
  ];
  const wanted = every.filter(({ name }) =>
    options.only.length === 0 || options.only.some((part) => name.includes(part))
  );
  if (wanted.length === 0) {
    console.error(`no comparison's name contains ${options.only.join(" or ")}`);
    return 2;
  }
  const machine = hostFacts();
  const outcomes: Outcome[] = [];
  const failures: { name: string; error: string }[] = [];
  for (const contest of wanted) {
    // Memory and silence hardly vary.
    const repeat = contest.contenders.length === 1 ? Math.min(options.repeat, 3) : options.repeat;
    try {
      outcomes.push(await hold(contest, repeat, options.patience, progress));
    } catch (error) {
      failures.push({ name: contest.name, error: (error as Error).message });
      progress(`${contest.name} failed: ${(error as Error).message}\n`);
    }
  }
  if (interactive) progress("");

  printTable(outcomes);
  const all = outcomes.flatMap(({ runs }) => Object.values(runs).flat());
  const disturbed = all.filter(({ others_cpus }) => others_cpus! > QUIET_CPUS);
  if (disturbed.length > 0) {
    const most = Math.max(...disturbed.map(({ others_cpus }) => others_cpus!)).toFixed(1);
    console.log(
      `other programs disturbed ${disturbed.length} of ${all.length} runs, with up to ${most} CPUs\n`,
    );
  }
  for (const { name, error } of failures) console.log(`${style.red("failed")} ${name}: ${error}`);
  await Deno.mkdir("build/bench", { recursive: true });
  await Deno.writeTextFile(
    OUT,
    jsonDocument("rackwire.bench/2", {
      when: new Date().toISOString(),
      options: { ...options, ...timing },
      machine,
      outcomes,
      failures,
    }),
  );
  console.log(`every repetition: ${OUT}`);
  return failures.length === 0 ? 0 : 1;
}

Deno.exit(await main());
