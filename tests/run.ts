// SPDX-License-Identifier: BSD-2-Clause
// Runs the tests of a tier: tests/run.ts fast|full|all [pattern...]
//
// C tests are programs in build/tests that print TAP; the rest are Deno test files. With patterns, only
// suites whose name contains one of them run. Ends with "N passed, N failed" and status 0 only when
// nothing failed.

import { parseJunit, parseTap, type TestResult } from "./helpers/results.ts";
import { SKIP_MARK } from "./helpers/needs.ts";

interface Suite {
  name: string;
  command: string[];
  env?: Record<string, string>;
  /** Runs alone: it sets up namespaces, or needs both cores. */
  serial: boolean;
  /** How its output tells single tests apart; "status" makes the whole suite one test. */
  format: "tap" | "junit" | "status";
}

interface Outcome {
  suite: Suite;
  tests: TestResult[];
  notes: string[];
  output: string;
  seconds: number;
}

const TIERS: Record<string, { areas: string[]; suiteSeconds: number }> = {
  fast: { areas: ["lib", "cli", "abi"], suiteSeconds: 300 },
  full: { areas: ["lib", "cli", "abi", "e2e", "interop", "fuzz", "vm"], suiteSeconds: 1200 },
  all: { areas: ["lib", "cli", "abi", "e2e", "interop", "fuzz", "vm"], suiteSeconds: 6 * 3600 },
};
const SERIAL_AREAS = ["e2e", "interop", "fuzz", "vm"];
const PARALLEL = 2;
const LOG_DIR = "build/test-logs";
const MAX_SHOWN_LINES = 300;

const deno = Deno.execPath();
const denoFlags = ["--cached-only", "--frozen"];

async function listFiles(dir: string, accept: (name: string) => boolean): Promise<string[]> {
  const found: string[] = [];
  try {
    for await (const entry of Deno.readDir(dir)) {
      const path = `${dir}/${entry.name}`;
      if (entry.isDirectory) found.push(...await listFiles(path, accept));
      else if (accept(entry.name)) found.push(path);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return found.sort();
}

function cTestPrograms(): Promise<string[]> {
  // make passes the list, so that a program left from an older build is not run.
  const listed = Deno.env.get("RACKWIRE_C_TESTS");
  if (listed !== undefined) return Promise.resolve(listed.split(" ").filter((path) => path !== ""));
  return listFiles("build/tests", (name) => !name.includes("."));
}

async function collect(tier: string): Promise<Suite[]> {
  const suites: Suite[] = [
    {
      name: "types",
      command: [deno, "check", ...denoFlags, "--quiet", "cli", "lib", "tests", "tools"],
      serial: false,
      format: "status",
    },
  ];
  for (const program of await cTestPrograms()) {
    suites.push({
      name: program.replace("build/tests/", "c/"),
      command: [program],
      env: {
        ASAN_OPTIONS: "detect_leaks=1:strict_string_checks=1",
        UBSAN_OPTIONS: "print_stacktrace=1",
      },
      serial: false,
      format: "tap",
    });
  }
  for (const area of TIERS[tier]!.areas) {
    for (const file of await listFiles(`tests/${area}`, (name) => name.endsWith("_test.ts"))) {
      suites.push({
        name: file,
        // Not --quiet: that hides what tests print, the seeds and the reasons of skipping.
        command: [deno, "test", "-A", "--no-check", ...denoFlags],
        serial: SERIAL_AREAS.includes(area),
        format: "junit",
      });
    }
  }
  if (tier !== "fast") {
    suites.push(
      { name: "lint", command: [deno, "lint", "--quiet"], serial: false, format: "status" },
      { name: "format", command: [deno, "fmt", "--check", "--quiet"], serial: false, format: "status" },
      {
        name: "files",
        command: [deno, "run", ...denoFlags, "--allow-read", "--allow-run=git", "tools/check_files.ts"],
        serial: false,
        format: "status",
      },
    );
  }
  return suites;
}

const running = new Set<Deno.ChildProcess>();

async function run(suite: Suite, tier: string, limitSeconds: number): Promise<Outcome> {
  const log = `${LOG_DIR}/${suite.name.replaceAll("/", "-")}`;
  const junit = `${log}.xml`;
  const args = suite.format === "junit" ? [`--junit-path=${junit}`, suite.name] : [];
  await Deno.remove(junit).catch(() => {});
  const began = performance.now();
  // timeout(1) gives the suite a process group of its own, so that whatever it started ends with it.
  const child = new Deno.Command("timeout", {
    args: ["--kill-after=10", `${limitSeconds}`, ...suite.command, ...args],
    env: {
      NO_COLOR: "1",
      RACKWIRE_TEST_TIER: tier,
      ...(tier === "all" ? { RACKWIRE_TEST_LONG: "1" } : {}),
      ...suite.env,
    },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  running.add(child);
  const { code, signal, stdout, stderr } = await child.output();
  running.delete(child);
  const decoder = new TextDecoder();
  const out = decoder.decode(stdout);
  const output = out + decoder.decode(stderr);
  await Deno.writeTextFile(`${log}.log`, output);

  let tests: TestResult[] = [];
  if (suite.format === "tap") tests = parseTap(out);
  if (suite.format === "junit") tests = parseJunit(await Deno.readTextFile(junit).catch(() => ""));
  const ended = code === 124 ? `still running after ${limitSeconds} s` : `exit status ${signal ?? code}`;
  if (suite.format === "status") {
    tests = [{ name: suite.name, result: code === 0 ? "passed" : "failed", reason: code === 0 ? "" : ended }];
  } else if (code !== 0 && !tests.some((test) => test.result === "failed")) {
    tests.push({ name: "the suite runs to its end", result: "failed", reason: ended });
  } else if (code === 0 && tests.length === 0) {
    tests.push({ name: "the suite has tests", result: "failed", reason: "it reported none" });
  }
  const reasons = new Map<string, string>();
  for (const line of out.split("\n")) {
    if (!line.startsWith(SKIP_MARK)) continue;
    const [name = "", reason = ""] = line.slice(SKIP_MARK.length).split("\t");
    reasons.set(name, reason);
  }
  for (const test of tests) {
    if (test.result === "skipped" && test.reason === "") {
      test.reason = reasons.get(test.name) ?? "no reason given";
    }
  }
  const notes = out.split("\n").filter((line) => line.startsWith("# ") && !line.startsWith(SKIP_MARK));
  return { suite, tests, notes, output, seconds: (performance.now() - began) / 1000 };
}

function count(tests: TestResult[], result: TestResult["result"]): number {
  return tests.filter((test) => test.result === result).length;
}

function tail(output: string): string {
  const lines = output.trimEnd().split("\n");
  if (lines.length <= MAX_SHOWN_LINES) return lines.join("\n");
  return `(${lines.length - MAX_SHOWN_LINES} earlier lines are in ${LOG_DIR})\n${
    lines.slice(-MAX_SHOWN_LINES).join("\n")
  }`;
}

async function main(): Promise<number> {
  const [tier = "", ...patterns] = Deno.args;
  if (TIERS[tier] === undefined) {
    console.error("usage: tests/run.ts fast|full|all [pattern...]");
    return 2;
  }
  await Deno.mkdir(LOG_DIR, { recursive: true });
  const suites = (await collect(tier)).filter((suite) =>
    patterns.length === 0 || patterns.some((pattern) => suite.name.includes(pattern))
  );
  if (suites.length === 0) {
    console.error(`no suite's name contains ${patterns.join(" or ")}`);
    return 2;
  }

  const outcomes: Outcome[] = [];
  let interrupted = false;
  const stop = () => {
    interrupted = true;
    for (const child of running) child.kill("SIGTERM");
  };
  Deno.addSignalListener("SIGINT", stop);
  Deno.addSignalListener("SIGTERM", stop);

  const worker = async (queue: Suite[]) => {
    for (let suite = queue.shift(); suite !== undefined && !interrupted; suite = queue.shift()) {
      const outcome = await run(suite, tier, TIERS[tier]!.suiteSeconds);
      outcomes.push(outcome);
      const failed = count(outcome.tests, "failed");
      const skipped = count(outcome.tests, "skipped");
      console.log(
        `[${outcomes.length}/${suites.length}] ${failed > 0 ? "FAILED" : "ok    "} ${suite.name}: ` +
          `${count(outcome.tests, "passed")} passed` + (failed > 0 ? `, ${failed} failed` : "") +
          (skipped > 0 ? `, ${skipped} skipped` : "") + ` (${outcome.seconds.toFixed(1)} s)`,
      );
      for (const note of outcome.notes) console.log(`    ${note}`);
    }
  };
  const parallel = suites.filter((suite) => !suite.serial);
  await Promise.all(Array.from({ length: PARALLEL }, () => worker(parallel)));
  await worker(suites.filter((suite) => suite.serial));

  for (const { suite, tests, output } of outcomes) {
    const failed = tests.filter((test) => test.result === "failed");
    if (failed.length === 0) continue;
    console.log(`\n==== ${suite.name}`);
    console.log(tail(output));
    for (const test of failed) {
      console.log(`FAILED ${suite.name}: ${test.name}${test.reason ? ` (${test.reason})` : ""}`);
    }
  }
  const skips = outcomes.flatMap(({ suite, tests }) =>
    tests.filter((test) => test.result === "skipped").map((test) =>
      `${suite.name}: ${test.name}: ${test.reason}`
    )
  );
  if (skips.length > 0) console.log(`\nskipped:\n${skips.map((line) => `  ${line}`).join("\n")}`);
  if (interrupted) console.log("\ninterrupted: not every suite ran");

  const all = outcomes.flatMap((outcome) => outcome.tests);
  const failed = count(all, "failed");
  const skipped = count(all, "skipped");
  console.log(
    `\n${count(all, "passed")} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`,
  );
  if (interrupted) return 130;
  return failed === 0 ? 0 : 1;
}

Deno.exit(await main());
