// SPDX-License-Identifier: BSD-2-Clause
// Inputs by name for the fuzzers of whole RoCEv2 devices: scripts of calls and accidents (roce_script.c), and
// packets of every opcode into two connected queue pairs (roce_rx.c). The opcodes are those of the two programs.

export interface Seed {
  name: string;
  bytes: Uint8Array;
}

const word = (n: number) => [n >> 8 & 0xff, n & 0xff];
const times = (n: number, make: (i: number) => number[]) =>
  Array.from({ length: n }, (_, i) => make(i)).flat();

// ---- roce_script.c ----

const OP = {
  connect: 0,
  run: 1,
  post: 2,
  replay: 3,
  mutate: 4,
  craft: 5,
  link: 6,
  down: 7,
  kill: 8,
  boot: 9,
  nomem: 10,
  cut: 11,
  unreachable: 12,
  late: 13,
};

/** How a connection is made: bits of op_connect(). */
const HOW = {
  direct: 1,
  other: 2,
  slowly: 4,
  mra: 8,
  large: 16,
  shallow: 32,
  reject: 0x40,
  destroy: 0x80,
  nobody: 0xc0,
};
const ANY = 0x80; // requests of every opcode
const WRITE = 3, READ = 5, ATOMIC = 8, REG_MR = 10;

/** Runs for 2^log2 ns; 14 is one round trip and a little. */
const run = (log2: number) => [OP.run, log2];
const connect = (how = 0, psn = 0, from = 0) => [OP.connect, from, how, psn, ...run(17)];
const post = (side: number, opcode: number, n: number) => [OP.post, side, opcode, n];
const both = (opcode: number, n: number) => [...post(0, opcode, n), ...post(1, opcode, n)];

function scripts(): [string, number[]][] {
  const busy = [...connect(HOW.direct), ...both(ANY, 15)];
  const crafted = [
    0x00,
    0x01,
    0x02,
    0x04,
    0x06,
    0x07,
    0x08,
    0x0a,
    0x0b,
    0x0c,
    0x0d,
    0x0e,
    0x0f,
    0x10,
    0x11,
    0x12,
    0x13,
    0x14,
    0x17,
    0x81,
  ];
  return [
    ["requests", [...connect(), ...both(ANY, 15), ...run(20), ...both(ANY, 15), ...run(22)]],
    ["direct", [...busy, ...run(22)]],
    ["psn_wraps", [...connect(HOW.direct, 13), ...both(ANY, 15), ...run(22), ...both(ANY, 15), ...run(22)]],
    ["large", [...connect(HOW.large), ...both(ANY, 15), ...run(24)]],
    ["shallow", [...connect(HOW.shallow | HOW.direct), ...both(ANY, 15), ...run(24)]],
    ["keys", [
      ...connect(),
      ...times(6, () => [...both(REG_MR, 2), ...run(16), ...both(ANY, 9), ...run(18)]),
    ]],
    ["writes_then_reads", [...connect(), ...both(WRITE, 9), ...both(READ, 9), ...run(20)]],
    ["atomics", [...connect(), ...both(ATOMIC, 15), ...run(20)]],
    ["accepted_slowly", [...connect(HOW.slowly | HOW.mra), ...run(20), ...both(ANY, 5), ...run(20)]],
    ["rejected", [...connect(HOW.other | HOW.reject), ...run(22)]],
    ["dropped", [...connect(HOW.other | HOW.destroy), ...run(22)]],
    ["nobody", [...connect(HOW.other | HOW.nobody), ...run(22)]],
    ["loss", [
      OP.link,
      0,
      20,
      20,
      20,
      OP.link,
      1,
      20,
      20,
      20,
      ...connect(),
      ...run(24),
      ...both(ANY, 15),
      ...run(26),
    ]],
    ["outage", [...busy, OP.down, 1, 1, ...run(21), OP.down, 1, 0, ...run(24)]],
    ["death", [...busy, OP.kill, 1, ...run(26)]],
    ["restart", [...busy, OP.kill, 1, OP.boot, 1, ...connect(), ...both(ANY, 5), ...run(26)]],
    ["no_memory", [OP.nomem, 1, 2, 9, ...connect(), ...both(ANY, 9), ...run(24)]],
    ["late_receives", [OP.late, 1, 20, ...busy, OP.late, 1, 18, OP.late, 0, 18, ...run(25)]],
    ["unreachable", [...busy, OP.unreachable, 0, 1, ...run(20)]],
    ["hinted", [...busy, OP.unreachable, 0, 0, ...run(22)]],
    ...[0, 1, 2, 3, 4].map((what): [string, number[]] => [
      `cut_${what}`,
      [...connect(), ...both(ANY, 15), ...run(14), OP.cut, 1, what, ...run(22)],
    ]),
    ["again", [...busy, ...run(18), ...times(16, (i) => [OP.replay, i]), ...run(22)]],
    ["connection_messages_again", [...connect(), ...times(16, (i) => [OP.replay, i]), ...run(24)]],
    ["damaged", [
      ...busy,
      ...times(6, (i) => [OP.mutate, i, 2, ...word(9 + i), 255, ...word(30 + i), i]),
      ...run(22),
    ]],
    ...crafted.map((opcode): [string, number[]] => [
      `crafted_${opcode.toString(16)}`,
      [
        ...busy,
        ...run(13),
        ...[0, 1, 255, 5].flatMap((delta) => [OP.craft, 1, opcode, 0x1f, delta, 16]),
        ...[0x60, 0x62, 0x20].flatMap((syndrome) => [OP.craft, 0, opcode, syndrome, 0, 4]),
        ...run(22),
      ],
    ]),
  ];
}

export function scriptSeeds(): Seed[] {
  return [0, 3, 12, 24, 32, 64, 128, 255].flatMap((how) =>
    scripts().map(([name, bytes]) => ({ name: `${name}-${how}`, bytes: Uint8Array.from([how, ...bytes]) }))
  );
}

// ---- roce_rx.c ----

const RX = { raw: 0, aimed: 1, run: 2, down: 3, post: 4, recv: 5, killKey: 6 };
const FIX = { qpn: 1, psn: 2, key: 4, answer: 8 };

/** Bytes of the extended headers of each opcode, and whether payload may follow. */
const OPCODES: [number, number, boolean][] = [
  [0x00, 0, true],
  [0x01, 0, true],
  [0x02, 0, true],
  [0x03, 4, true],
  [0x04, 0, true],
  [0x05, 4, true],
  [0x06, 16, true],
  [0x07, 0, true],
  [0x08, 0, true],
  [0x09, 4, true],
  [0x0a, 16, true],
  [0x0b, 20, true],
  [0x0c, 16, false],
  [0x0d, 4, true],
  [0x0e, 0, true],
  [0x0f, 4, true],
  [0x10, 4, true],
  [0x11, 4, false],
  [0x12, 12, false],
  [0x13, 28, false],
  [0x14, 28, false],
  [0x16, 4, true],
  [0x17, 4, true],
  [0x81, 16, false],
];

function packet(opcode: number, extended: number, payload: number, syndrome = 0x1f): number[] {
  const bytes = [opcode, 0, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0, ...new Array(extended + payload).fill(0)];
  if (extended === 16 || extended === 20) bytes[26] = payload >> 8, bytes[27] = payload & 0xff;
  if (extended === 4 || extended === 12) bytes[12] = syndrome;
  return bytes;
}

function aimed(to: number, fix: number, delta: number, bytes: number[]): number[] {
  return [RX.aimed, to, fix, delta & 0xff, ...word(8), ...word(bytes.length), ...bytes];
}

export function rxSeeds(): Seed[] {
  const made: Seed[] = [];
  const all = FIX.qpn | FIX.psn | FIX.key;
  for (const how of [0, 1, 6, 255]) {
    for (const [opcode, extended, carries] of OPCODES) {
      for (const delta of [0, 1, -1]) {
        const answer = opcode >= 0x0d && opcode <= 0x12 ? FIX.answer : 0;
        const lengths = carries ? [0, 256 << (how & 3), 64] : [0];
        const script = [
          RX.down,
          1,
          1,
          ...times(8, (i) => [RX.post, 0, i, ...word(600)]),
          RX.run,
          14,
          ...lengths.flatMap((n) => aimed(answer ? 0 : 1, all | answer, delta, packet(opcode, extended, n))),
          ...[0x60, 0x61, 0x62, 0x63, 0x20].flatMap((syndrome) =>
            extended === 4 ? aimed(0, all | FIX.answer, delta, packet(opcode, extended, 0, syndrome)) : []
          ),
          RX.run,
          20,
          RX.down,
          1,
          0,
          RX.run,
          22,
        ];
        made.push({
          name: `${opcode.toString(16)}_${delta + 1}-${how}`,
          bytes: Uint8Array.from([how, ...script]),
        });
      }
    }
    const write = packet(0x06, 16, 256 << (how & 3)), middle = packet(0x07, 0, 256 << (how & 3));
    const last = packet(0x08, 0, 60);
    write[26] = 2;
    made.push({
      name: `key_dies_in_a_write-${how}`,
      bytes: Uint8Array.from([
        how,
        ...aimed(1, all, 0, write),
        RX.killKey,
        1,
        ...aimed(1, all, 1, middle),
        ...aimed(1, all, 2, last),
        RX.run,
        20,
      ]),
    });
  }
  return made;
}
