// SPDX-License-Identifier: BSD-2-Clause
// Reads single test results out of TAP and of Deno's JUnit report.

export interface TestResult {
  name: string;
  result: "passed" | "failed" | "skipped";
  /** Why it failed or was skipped, where known. */
  reason: string;
}

/** Parses TAP ("ok 1 - name", "not ok 2 - name # why", "ok 3 - name # SKIP why"); a plan must match. */
export function parseTap(text: string): TestResult[] {
  const tests: TestResult[] = [];
  let planned: number | undefined;
  for (const line of text.split("\n")) {
    const plan = /^1\.\.(\d+)/.exec(line);
    if (plan) planned = Number(plan[1]);
    const match = /^(not )?ok\b\s*\d*\s*(?:- )?(.*?)(?:\s+#\s*(.*))?$/.exec(line);
    if (!match) continue;
    const [, not, name = "", comment = ""] = match;
    const skip = /^skip\b\s*(.*)$/i.exec(comment);
    if (skip && !not) tests.push({ name, result: "skipped", reason: skip[1]! });
    else tests.push({ name, result: not ? "failed" : "passed", reason: comment });
  }
  if (planned === undefined) {
    tests.push({ name: "the plan is printed", result: "failed", reason: "no line 1..N" });
  } else if (planned !== tests.length) {
    tests.push({
      name: "the plan is kept",
      result: "failed",
      reason: `${planned} tests planned, ${tests.length} reported`,
    });
  }
  return tests;
}

const ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

function unescape(text: string): string {
  return text.replace(/&(?:#(\d+)|#x([0-9a-f]+)|(\w+));/gi, (all, decimal, hex, name) => {
    if (decimal) return String.fromCodePoint(Number(decimal));
    if (hex) return String.fromCodePoint(parseInt(hex, 16));
    return ENTITIES[name] ?? all;
  });
}

/** Parses the report that `deno test --junit-path` writes. */
export function parseJunit(xml: string): TestResult[] {
  const tests: TestResult[] = [];
  for (const match of xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
    const name = unescape(/\bname="([^"]*)"/.exec(match[1]!)?.[1] ?? "");
    const body = match[2] ?? "";
    const failure = /<(?:failure|error)\b[^>]*?(?:message="([^"]*)")?[^>]*>/.exec(body);
    if (failure) {
      const reason = unescape(failure[1] ?? "").split("\n")[0]!;
      tests.push({ name, result: "failed", reason });
    } else if (/<skipped\b/.test(body)) tests.push({ name, result: "skipped", reason: "" });
    else tests.push({ name, result: "passed", reason: "" });
  }
  return tests;
}
