// SPDX-License-Identifier: BSD-2-Clause
// Fuzzes both ends of the block device: what NBD clients, exporters and NBD servers may say.

import assert from "node:assert/strict";
import { needs } from "../helpers/needs.ts";

const seconds = Deno.env.get("RACKWIRE_TEST_LONG") === "1" ? 600 : 10;

async function fuzz(name: string, longest: number): Promise<void> {
  const program = `build/fuzz/${name}`;
  const found = `${program}-corpus`;
  await Deno.mkdir(found, { recursive: true });
  const { code, stderr } = await new Deno.Command(program, {
    args: [
      `-artifact_prefix=${program}-`,
      "-timeout=10",
      "-len_control=0",
      `-max_len=${longest}`,
      "-print_final_stats=1",
      `-max_total_time=${seconds}`,
      found,
    ],
  }).output();
  const log = new TextDecoder().decode(stderr);
  const artifact = /Test unit written to (\S+)/.exec(log)?.[1];
  const again = artifact === undefined ? "" : `\nto run it again: ${program} ${artifact}`;
  assert.equal(code, 0, log.split("\n").slice(-60).join("\n") + again);
  const inputs = Number(/stat::number_of_executed_units:\s*(\d+)/.exec(log)?.[1]);
  console.log(`# ${inputs} inputs in ${seconds} s, seed ${/Seed: (\d+)/.exec(log)?.[1]}`);
  assert.ok(inputs > 50, log);
}

needs(["clang"]).test(
  "no messages make an exporter fault, answer twice or touch what it must not",
  () => fuzz("krping_block_export", 600),
);

needs(["clang"]).test(
  "no NBD client or exporter makes the NBD server fault or lose a reply",
  () => fuzz("krping_block_nbd", 800),
);
