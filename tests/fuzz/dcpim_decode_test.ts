// SPDX-License-Identifier: BSD-2-Clause
// Fuzzes the dcPIM decoder, starting from the golden and the forged packets.

import assert from "node:assert/strict";
import { readVectors } from "../csrc/dcpim_wire/vectors.ts";
import { needs } from "../helpers/needs.ts";

const PROGRAM = "build/fuzz/dcpim_decode";
const SEEDS = "build/fuzz/dcpim_decode-seeds";
const FOUND = "build/fuzz/dcpim_decode-corpus";
const seconds = Deno.env.get("RACKWIRE_TEST_LONG") === "1" ? 600 : 15;

async function fuzz(...args: string[]) {
  const { code, stderr } = await new Deno.Command(PROGRAM, {
    args: [`-artifact_prefix=${PROGRAM}-`, "-timeout=5", "-max_len=1024", "-print_final_stats=1", ...args],
  }).output();
  return { code, log: new TextDecoder().decode(stderr) };
}

needs(["clang"]).test("no bytes make the dcPIM decoder fault or break its promises", async () => {
  await Deno.mkdir(SEEDS, { recursive: true });
  await Deno.mkdir(FOUND, { recursive: true });
  const vectors = await readVectors();
  for (const { name, bytes } of vectors) await Deno.writeFile(`${SEEDS}/${name}`, bytes);

  const { code, log } = await fuzz(`-max_total_time=${seconds}`, FOUND, SEEDS);
  const artifact = /Test unit written to (\S+)/.exec(log)?.[1];
  const again = artifact === undefined ? "" : `\nto run it again: ${PROGRAM} ${artifact}`;
  assert.equal(code, 0, log.split("\n").slice(-60).join("\n") + again);

  const inputs = Number(/stat::number_of_executed_units:\s*(\d+)/.exec(log)?.[1]);
  console.log(`# ${inputs} inputs in ${seconds} s, seed ${/Seed: (\d+)/.exec(log)?.[1]}`);
  assert.ok(inputs > vectors.length, log);
});
