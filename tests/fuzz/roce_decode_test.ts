// SPDX-License-Identifier: BSD-2-Clause
// Fuzzes the decoders of RoCEv2 packets and CM messages, starting from some of every kind.

import assert from "node:assert/strict";
import { needs } from "../helpers/needs.ts";

const seconds = Deno.env.get("RACKWIRE_TEST_LONG") === "1" ? 600 : 10;
const ICRC = 4;
const UD_HEADERS = 20;
const MAD = 256;

/** Packets from BTH to ICRC. */
async function samples(): Promise<Uint8Array[]> {
  const { code, stdout } = await new Deno.Command("build/tests/fixtures/roce_wire_samples").output();
  assert.equal(code, 0);
  const lines = new TextDecoder().decode(stdout).trim().split("\n");
  return lines.map((line) => Uint8Array.fromHex((JSON.parse(line) as { bytes: string }).bytes));
}

async function fuzz(name: string, longest: number, seeds: Uint8Array[]) {
  const program = `build/fuzz/${name}`;
  const [from, found] = [`${program}-seeds`, `${program}-corpus`];
  await Deno.mkdir(from, { recursive: true });
  await Deno.mkdir(found, { recursive: true });
  for (const [i, bytes] of seeds.entries()) await Deno.writeFile(`${from}/${i}`, bytes);

  const { code, stderr } = await new Deno.Command(program, {
    args: [
      `-artifact_prefix=${program}-`,
      "-timeout=5",
      `-max_len=${longest}`,
      "-print_final_stats=1",
      `-max_total_time=${seconds}`,
      found,
      from,
    ],
  }).output();
  const log = new TextDecoder().decode(stderr);
  const artifact = /Test unit written to (\S+)/.exec(log)?.[1];
  const again = artifact === undefined ? "" : `\nto run it again: ${program} ${artifact}`;
  assert.equal(code, 0, log.split("\n").slice(-60).join("\n") + again);
  const inputs = Number(/stat::number_of_executed_units:\s*(\d+)/.exec(log)?.[1]);
  console.log(`# ${inputs} inputs in ${seconds} s, seed ${/Seed: (\d+)/.exec(log)?.[1]}`);
  assert.ok(inputs > seeds.length, log);
}

needs(["clang"]).test("no bytes make the RoCEv2 decoder fault or break its promises", async () => {
  await fuzz("roce_decode", 1024, (await samples()).flatMap((bytes) => [bytes, bytes.slice(0, -ICRC)]));
});

needs(["clang"]).test("no bytes make the decoder of CM messages fault or break its promises", async () => {
  const datagrams = (await samples()).filter((bytes) => bytes.length === UD_HEADERS + MAD + ICRC);
  await fuzz("roce_mad", 2 * MAD, datagrams.map((bytes) => bytes.slice(-ICRC - MAD, -ICRC)));
});
