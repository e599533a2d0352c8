// SPDX-License-Identifier: BSD-2-Clause
// The dcPIM wire format against its document, and on a machine of the other byte order.

import assert from "node:assert/strict";
import { needs } from "../helpers/needs.ts";
import { parseTap } from "../helpers/results.ts";

const DIR = "tests/csrc/dcpim_wire";

async function run(command: string, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(command, { args }).output();
  const text = new TextDecoder();
  return { code, out: text.decode(stdout), all: text.decode(stdout) + text.decode(stderr) };
}

Deno.test("an encoder made from the document's tables gives the golden packets and the document's examples", async () => {
  const { code, all } = await run("python3", `${DIR}/wire_document.py`, "check");
  assert.equal(code, 0, all);
});

needs(["bigendian"]).test("the wire format's tests pass on a big-endian machine", async () => {
  const program = await Deno.makeTempFile();
  try {
    const sources = [`${DIR}/wire.c`, `${DIR}/vectors.c`, "csrc/dcpim/core/dcpim_wire.c"];
    const flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-static", "-Icsrc", "-Itests/helpers"];
    const built = await run("s390x-linux-gnu-gcc", ...flags, ...sources, "-o", program);
    assert.equal(built.code, 0, built.all);
    const ran = await run("qemu-s390x", program);
    assert.equal(ran.code, 0, ran.all);
    const tests = parseTap(ran.out);
    assert.ok(tests.length > 50);
    assert.deepEqual(tests.filter((test) => test.result !== "passed"), []);
  } finally {
    await Deno.remove(program);
  }
});
