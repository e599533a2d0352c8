// SPDX-License-Identifier: BSD-2-Clause
// Fuzzes the RoCEv2 connection manager with scripts of messages, calls, failures and time (roce_cm.c).

import assert from "node:assert/strict";
import { needs } from "../helpers/needs.ts";

const PROGRAM = "build/fuzz/roce_cm";
const SEEDS = "build/fuzz/roce_cm-seeds";
const FOUND = "build/fuzz/roce_cm-corpus";
const seconds = Deno.env.get("RACKWIRE_TEST_LONG") === "1" ? 900 : 15;

// Calls and messages of roce_cm.c, by the numbers it gives them.
const listen = [0, 1, 0, 1];
const connect = (peer: number) => [1, peer, 0, 5, 0];
const accept = (id: number) => [2, id, 0, 5, 0];
const reject = (id: number) => [3, id, 28, 4];
const mra = (id: number) => [4, id];
const disconnect = (id: number) => [5, id];
const destroy = (id: number) => [6, id];
const active = (id: number) => [7, id];
const fail = (id: number) => [8, id];
const freeQp = (id: number) => [9, id];
const refuse = (id: number) => [10, id];
const req = (peer: number, name: number, qpn: number) => [12, peer, 1, name, qpn, 0];
const gotMra = (id: number, name: number, of: number) => [13, 0, id, name, of, 20, 0];
const gotRej = (id: number, name: number, reason: number) => [13, 1, id, name, reason, 0];
const gotRep = (id: number, name: number, qpn: number) => [13, 2, id, name, qpn, 0];
const gotRtu = (id: number, name: number) => [13, 3, id, name, 0];
const gotDreq = (id: number, name: number) => [13, 4, id, name, 0];
const gotDrep = (id: number, name: number) => [13, 5, id, name, 0];
const replay = (which: number) => [14, 0, which];
const time = (log2: number) => [15, log2];
const unreachable = (peer: number) => [16, peer];
const noMemory = [17, 1];
const events = [18];
const tx = [19];

const served = [...listen, ...req(1, 9, 7), ...events, ...accept(1), ...tx];
const called = [...connect(1), ...tx, ...gotRep(0, 9, 7), ...events, ...tx];

const scripts: Record<string, number[]> = {
  server: [...served, ...gotRtu(1, 9), ...events, ...gotDreq(1, 9), ...tx, ...events, ...time(35), ...events],
  client: [...called, ...disconnect(0), ...tx, ...gotDrep(0, 9), ...events, ...time(35), ...events],
  repeated: [
    ...served,
    ...req(1, 9, 7),
    ...tx,
    ...gotRtu(1, 9),
    ...req(1, 9, 7),
    ...tx,
    ...gotRtu(1, 9),
    ...events,
  ],
  refused: [
    ...listen,
    ...req(1, 9, 7),
    ...events,
    ...mra(1),
    ...tx,
    ...reject(1),
    ...tx,
    ...req(1, 9, 7),
    ...tx,
  ],
  rejected: [...connect(1), ...tx, ...gotMra(0, 9, 0), ...gotRej(0, 9, 28), ...events],
  narrow: [...connect(1), ...tx, ...[13, 1, 0, 9, 26, 2, 33, 2, 36, 2], ...tx, ...events],
  silence: [...connect(1), ...tx, ...time(36), ...tx, ...events],
  lostRtu: [...served, ...active(1), ...events, ...fail(1), ...tx, ...events, ...time(37)],
  stale: [...served, ...gotRtu(1, 9), ...req(1, 10, 7), ...tx, ...time(35), ...events, ...tx],
  flood: [
    ...listen,
    ...Array.from({ length: 20 }, (_, i) => req(i % 4, i + 1, i + 2)).flat(),
    ...events,
    ...time(37),
  ],
  oneself: [
    ...[listen, connect(0), tx, replay(0), events, accept(2), tx, replay(1), events, tx, replay(2)].flat(),
    ...[events, disconnect(1), tx, replay(3), events, tx, replay(4), events, time(35), events].flat(),
  ],
  hurried: [...served, ...disconnect(1), ...tx, ...freeQp(1), ...destroy(1), ...called, ...destroy(0)],
  unlucky: [
    ...connect(1),
    ...refuse(0),
    ...tx,
    ...gotRep(0, 9, 7),
    ...events,
    ...connect(2),
    ...unreachable(2),
  ],
  poor: [...listen, ...noMemory, ...req(1, 9, 7), ...tx, ...noMemory, ...connect(1), ...events],
};

async function fuzz(...args: string[]) {
  const { code, stderr, stdout } = await new Deno.Command(PROGRAM, {
    args: [`-artifact_prefix=${PROGRAM}-`, "-timeout=20", "-max_len=1000", "-print_final_stats=1", ...args],
  }).output();
  const decoder = new TextDecoder();
  return { code, log: decoder.decode(stdout) + decoder.decode(stderr) };
}

async function writeSeeds(): Promise<string[]> {
  await Deno.mkdir(SEEDS, { recursive: true });
  const paths: string[] = [];
  for (const [name, script] of Object.entries(scripts)) {
    paths.push(`${SEEDS}/${name}`);
    await Deno.writeFile(paths.at(-1)!, new Uint8Array([31, 7, ...script]));
  }
  return paths;
}

needs(["clang"]).test(
  "every seed script of the connection manager ends with nothing left behind",
  async () => {
    const paths = await writeSeeds();
    const { code, log } = await fuzz("-runs=1", ...paths);
    assert.equal(code, 0, log.split("\n").slice(-60).join("\n"));
    console.log(`# ${paths.length} scripts`);
  },
);

needs(["clang"]).test("no script makes the connection manager fault, leak, or break its bounds", async () => {
  const paths = await writeSeeds();
  await Deno.mkdir(FOUND, { recursive: true });
  const { code, log } = await fuzz(`-max_total_time=${seconds}`, FOUND, SEEDS);
  assert.equal(code, 0, log.split("\n").slice(-60).join("\n"));
  const inputs = Number(/stat::number_of_executed_units:\s*(\d+)/.exec(log)?.[1]);
  console.log(`# ${inputs} scripts in ${seconds} s, seed ${/Seed: (\d+)/.exec(log)?.[1]}`);
  assert.ok(inputs > paths.length, log);
});
