// SPDX-License-Identifier: BSD-2-Clause
// How runs end: statuses, messages, colours, Ctrl-C.

import assert from "node:assert/strict";
import { Command } from "@commander-js/extra-typings";
import { Interrupted, interruptible, sleep } from "../../cli/context.ts";
import { buildProgram, reportError, VERSION } from "../../cli/program.ts";
import { withEngineOption, withPinOption } from "../../cli/options/groups.ts";
import { RackwireError } from "../../lib/ffi/errors.ts";
import { fakeContext, RACKWIRE, runInside, runRackwire, startRackwire } from "../helpers/cli.ts";

Deno.test("help and version are no failure, on every level", async () => {
  const walk = async (command: Command, path: string[]) => {
    const { status, out, err } = await runInside([...path, "--help"]);
    assert.equal(status, 0, path.join(" "));
    assert.match(out, /Usage: rackwire/);
    assert.equal(err, "");
    const examples = out.split("\n").filter((line) => line.startsWith("  $ ")).length;
    assert.ok(examples >= 2 && examples <= 4, `${path.join(" ")} has ${examples} examples`);
    for (const sub of command.commands) await walk(sub as Command, [...path, sub.name()]);
  };
  const program = buildProgram(fakeContext().context);
  assert.equal((await runInside(["--help"])).status, 0);
  for (const command of program.commands) {
    // The hidden half of the completions speaks to shells alone.
    if (command.name() !== "complete") await walk(command as Command, [command.name()]);
  }
  assert.deepEqual(await runInside(["--version"]), { status: 0, out: `${VERSION}\n`, err: "" });
});

Deno.test("wrong usage ends with 2, one line, and a suggestion where there is one", async () => {
  for (
    const [args, message] of [
      [["docter"], /unknown command 'docter'\n\(Did you mean doctor\?\)\n$/],
      [["doctor", "--jsn"], /unknown option '--jsn'\n\(Did you mean --json\?\)\n$/],
      [["doctor", "now"], /too many arguments/],
      [["completions", "tcsh"], /Allowed choices are/],
      [["completions"], /missing required argument 'shell'/],
    ] as const
  ) {
    const { status, out, err } = await runInside([...args]);
    assert.equal(status, 2, args.join(" "));
    assert.match(err, message);
    assert.match(err, /^rackwire: /);
    assert.equal(out, "");
  }
  const bare = await runInside([]);
  assert.equal(bare.status, 2);
  assert.match(bare.err, /Usage: rackwire/);
});

Deno.test("each kind of error has its status, one line and a hint, and no stack trace", () => {
  for (
    const [error, status, text] of [
      [new RackwireError("E1", "it broke", { hint: "mend it" }), 1, "rackwire: it broke\nhint: mend it\n"],
      [new RackwireError("E2", "bad\nlength", { exitStatus: 2 }), 2, "rackwire: bad length\n"],
      [
        new RackwireError("E3", "cannot", { exitStatus: 3, hint: "sudo" }),
        3,
        "rackwire: cannot\nhint: sudo\n",
      ],
      [new Interrupted(), 130, ""],
      [new Deno.errors.BrokenPipe("gone"), 0, ""],
    ] as const
  ) {
    const { context, written } = fakeContext();
    assert.equal(reportError(error, context), status);
    assert.equal(written.err, text);
  }
  const { context, written } = fakeContext();
  assert.equal(reportError(new TypeError("x is undefined"), context), 1);
  assert.match(written.err, /^rackwire: unexpected TypeError: x is undefined\nhint: .*RACKWIRE_DEBUG=1/);
  assert.doesNotMatch(written.err, /\n\s+at /);
});

Deno.test("Ctrl-C lets the work end cleanly, then the run ends with 130", async () => {
  const { context, interrupt, listening } = fakeContext();
  let summary = false;
  const running = interruptible(context, async (signal) => {
    assert.equal(await sleep(60_000, signal), false);
    summary = true;
  });
  assert.equal(listening(), 1);
  interrupt();
  await assert.rejects(running, Interrupted);
  assert.ok(summary);
  assert.equal(listening(), 0);
});

Deno.test("a second Ctrl-C does not wait for work that is stuck", async () => {
  const { context, interrupt } = fakeContext();
  const running = interruptible(context, () => new Promise(() => {}));
  interrupt();
  interrupt();
  await assert.rejects(running, Interrupted);
});

Deno.test("work that ends by itself gives its result, and its failure stays a failure", async () => {
  const { context, interrupt } = fakeContext();
  assert.equal(await interruptible(context, () => Promise.resolve(7)), 7);
  await assert.rejects(
    interruptible(context, () => Promise.reject(new RackwireError("E", "broke"))),
    /broke/,
  );
  const aborted = interruptible(context, (signal) =>
    new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
    }));
  interrupt();
  await assert.rejects(aborted, Interrupted);
});

Deno.test("the real program runs from any directory, through a link, and reports its status", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.symlink(RACKWIRE, `${dir}/rw`);
    const { code, stdout } = await new Deno.Command(`${dir}/rw`, { args: ["--version"], cwd: dir }).output();
    assert.equal(code, 0);
    assert.equal(new TextDecoder().decode(stdout), `${VERSION}\n`);
    const wrong = await runRackwire(["docter"], { cwd: dir });
    assert.equal(wrong.status, 2);
    const missing = await runRackwire(["doctor"], { env: { RACKWIRE_LIBDIR: dir } });
    assert.equal(missing.status, 3);
    assert.match(missing.err, /^rackwire: .*librackwire_host\.so is not there\nhint: .*make build\n$/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("shared options: an engine is one of those named, CPUs are a list", async () => {
  const parse = async (...args: string[]) => {
    const command = withPinOption(withEngineOption(new Command("x"), ["raw", "udp"])).exitOverride()
      .configureOutput({ writeErr: () => {} });
    await command.parseAsync(args, { from: "user" });
    return command.opts();
  };
  assert.deepEqual(await parse(), { engine: "auto" });
  assert.deepEqual(await parse("--engine", "udp", "--pin", "0-1"), { engine: "udp", pin: [0, 1] });
  await assert.rejects(parse("--engine", "tcp"), /auto, raw, udp/);
  await assert.rejects(parse("--pin", "x"), /Expected a list of CPUs/);
});

Deno.test("a reader that stops reading is no error", async () => {
  const child = startRackwire(["doctor", "--json"]);
  await child.stdout.cancel();
  const { code } = await child.status;
  assert.equal(code, 0);
  await child.stderr.cancel();
});

Deno.test("the completion script loads into bash twice, and complete commands and options", async () => {
  const { out } = await runRackwire(["completions", "bash"]);
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${dir}/rackwire.bash`, out);
    // Twice, as a person does after an update.
    const { success, stderr } = await new Deno.Command("bash", {
      args: ["-c", `. "$1" && . "$1" && complete -p rackwire`, "bash", `${dir}/rackwire.bash`],
    }).output();
    assert.equal(new TextDecoder().decode(stderr), "");
    assert.ok(success);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
  assert.match((await runRackwire(["complete", "--", "doc"])).out, /^doctor\t/m);
  assert.match((await runRackwire(["complete", "--", "doctor", "--"])).out, /^--json\t/m);
  for (const shell of ["zsh", "fish"]) {
    assert.match((await runRackwire(["completions", shell])).out, /rackwire/);
  }
});
