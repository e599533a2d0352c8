// SPDX-License-Identifier: BSD-2-Clause
// Fuzzes two whole dcPIM hosts with scripts of calls, packets and accidents (dcpim_script.c).

import assert from "node:assert/strict";
import { readVectors } from "../csrc/dcpim_wire/vectors.ts";
import { needs } from "../helpers/needs.ts";
import { seeds } from "./dcpim_script_seeds.ts";

const PROGRAM = "build/fuzz/dcpim_script";
const SEEDS = "build/fuzz/dcpim_script-seeds";
const FOUND = "build/fuzz/dcpim_script-corpus";
const seconds = Deno.env.get("RACKWIRE_TEST_LONG") === "1" ? 900 : 20;

async function fuzz(...args: string[]) {
  const { code, stderr } = await new Deno.Command(PROGRAM, {
    args: [`-artifact_prefix=${PROGRAM}-`, "-timeout=20", "-max_len=1000", "-print_final_stats=1", ...args],
  }).output();
  return { code, log: new TextDecoder().decode(stderr) };
}

function check(code: number, log: string) {
  const artifact = /Test unit written to (\S+)/.exec(log)?.[1];
  const again = artifact === undefined ? "" : `\nto see it again: RACKWIRE_TRACE=1 ${PROGRAM} ${artifact}`;
  assert.equal(code, 0, log.split("\n").slice(-60).join("\n") + again);
}

async function writeSeeds(): Promise<string[]> {
  await Deno.mkdir(SEEDS, { recursive: true });
  const paths: string[] = [];
  for (const { name, bytes } of seeds(await readVectors())) {
    paths.push(`${SEEDS}/${name}`);
    await Deno.writeFile(paths.at(-1)!, bytes);
  }
  return paths;
}

needs(["clang"]).test("every seed script ends with nothing left behind", async () => {
  const paths = await writeSeeds();
  const { code, log } = await fuzz("-runs=1", ...paths);
  check(code, log);
  console.log(`# ${paths.length} scripts`);
});

needs(["clang"]).test("no script makes dcPIM hosts fault, leak, or break their bounds", async () => {
  const paths = await writeSeeds();
  await Deno.mkdir(FOUND, { recursive: true });
  const { code, log } = await fuzz(`-max_total_time=${seconds}`, FOUND, SEEDS);
  check(code, log);
  const inputs = Number(/stat::number_of_executed_units:\s*(\d+)/.exec(log)?.[1]);
  console.log(`# ${inputs} scripts in ${seconds} s, seed ${/Seed: (\d+)/.exec(log)?.[1]}`);
  assert.ok(inputs > paths.length, log);
});
