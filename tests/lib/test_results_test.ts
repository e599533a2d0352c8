// SPDX-License-Identifier: BSD-2-Clause
import assert from "node:assert/strict";
import { parseJunit, parseTap } from "../helpers/results.ts";

Deno.test("TAP: passes, failures, skips and their reasons are told apart", () => {
  const text =
    "# seed 7\nok 1 - rx__short_packet\nnot ok 2 - rx__bad_sum # got 3\nok 3 - rx__v6 # SKIP no IPv6\n1..3\n";
  assert.deepEqual(parseTap(text), [
    { name: "rx__short_packet", result: "passed", reason: "" },
    { name: "rx__bad_sum", result: "failed", reason: "got 3" },
    { name: "rx__v6", result: "skipped", reason: "no IPv6" },
  ]);
});

Deno.test("TAP: a run that ends early or prints no plan fails", () => {
  assert.equal(parseTap("1..2\nok 1 - a\n").at(-1)?.result, "failed");
  assert.equal(parseTap("ok 1 - a\n").at(-1)?.result, "failed");
  assert.equal(parseTap("").at(-1)?.result, "failed");
});

Deno.test("Deno's own report of a passing, a failing and an ignored test is read", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(
      `${dir}/x_test.ts`,
      `Deno.test("a <b> & 'c'", async (t) => { await t.step("inner", () => {}); });
       Deno.test("breaks", () => { throw new Error("x > y"); });
       Deno.test({ name: "left out", ignore: true, fn() {} });`,
    );
    await new Deno.Command(Deno.execPath(), {
      args: ["test", "--no-config", "--no-check", "--quiet", `--junit-path=${dir}/x.xml`, `${dir}/x_test.ts`],
      stdout: "null",
      stderr: "null",
    }).output();
    const tests = parseJunit(await Deno.readTextFile(`${dir}/x.xml`));
    const summary = Object.fromEntries(tests.map((test) => [test.name, test.result]));
    assert.equal(summary["a <b> & 'c'"], "passed");
    assert.equal(summary["breaks"], "failed");
    assert.equal(summary["left out"], "skipped");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
