// SPDX-License-Identifier: BSD-2-Clause
// Fuzzes two whole RoCEv2 devices: with scripts of calls, packets and accidents (roce_script.c), and with packets
// alone (roce_rx.c).

import assert from "node:assert/strict";
import { needs } from "../helpers/needs.ts";
import { rxSeeds, scriptSeeds, type Seed } from "./roce_script_seeds.ts";

const seconds = Deno.env.get("RACKWIRE_TEST_LONG") === "1" ? 900 : 15;

async function fuzz(program: string, ...args: string[]) {
  const { code, stderr } = await new Deno.Command(program, {
    args: [`-artifact_prefix=${program}-`, "-timeout=30", "-max_len=2000", "-print_final_stats=1", ...args],
  }).output();
  return { code, log: new TextDecoder().decode(stderr) };
}

function check(program: string, code: number, log: string) {
  const artifact = /Test unit written to (\S+)/.exec(log)?.[1];
  const again = artifact === undefined ? "" : `\nto see it again: RACKWIRE_TRACE=1 ${program} ${artifact}`;
  assert.equal(code, 0, log.split("\n").slice(-60).join("\n") + again);
}

async function writeSeeds(program: string, seeds: Seed[]): Promise<string[]> {
  await Deno.mkdir(`${program}-seeds`, { recursive: true });
  const paths: string[] = [];
  for (const { name, bytes } of seeds) {
    paths.push(`${program}-seeds/${name}`);
    await Deno.writeFile(paths.at(-1)!, bytes);
  }
  return paths;
}

const targets: [string, string, () => Seed[]][] = [
  ["build/fuzz/roce_script", "script", scriptSeeds],
  ["build/fuzz/roce_rx", "sequence of packets", rxSeeds],
];

for (const [program, what, seeds] of targets) {
  needs(["clang"]).test(`every ${what} among the seeds ends with nothing left behind`, async () => {
    const paths = await writeSeeds(program, seeds());
    const { code, log } = await fuzz(program, "-runs=1", ...paths);
    check(program, code, log);
    console.log(`# ${paths.length} inputs`);
  });

  needs(["clang"]).test(`no ${what} makes RoCE devices fault, leak, or break their bounds`, async () => {
    const paths = await writeSeeds(program, seeds());
    await Deno.mkdir(`${program}-corpus`, { recursive: true });
    const { code, log } = await fuzz(
      program,
      `-max_total_time=${seconds}`,
      `${program}-corpus`,
      `${program}-seeds`,
    );
    check(program, code, log);
    const inputs = Number(/stat::number_of_executed_units:\s*(\d+)/.exec(log)?.[1]);
    console.log(`# ${inputs} inputs in ${seconds} s, seed ${/Seed: (\d+)/.exec(log)?.[1]}`);
    assert.ok(inputs > paths.length, log);
  });
}
