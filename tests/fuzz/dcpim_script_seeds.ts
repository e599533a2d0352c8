// SPDX-License-Identifier: BSD-2-Clause
// Scripts for the fuzzer of whole dcPIM hosts, by name: honest exchanges, accidents, and each packet that an
// attacker who knows a connection's tag could forge. The opcodes are those of dcpim_script.c.

export interface Seed {
  name: string;
  bytes: Uint8Array;
}

const OP = {
  connect: 0,
  run: 1,
  write: 2,
  shutdown: 3,
  close: 4,
  raw: 5,
  replay: 6,
  mutate: 7,
  craft: 8,
  link: 9,
  down: 10,
  kill: 11,
  boot: 12,
  mtu: 13,
  unreachable: 14,
  nomem: 15,
  listen: 16,
  buffers: 17,
  stall: 18,
};

const STREAM = 0, MESSAGES = 1;
const TYPE = {
  data: 0x20,
  token: 0x21,
  tokenMsg: 0x22,
  syn: 0x23,
  ack: 0x25,
  rts: 0x26,
  grant: 0x27,
  accept: 0x28,
  fin: 0x29,
  synAck: 0x2a,
  notificationMsg: 0x2c,
  dataMsg: 0x2d,
  finMsg: 0x2e,
  reset: 0x32,
  revoke: 0x33,
  demand: 0x36,
};

const word = (n: number) => [n >> 8 & 0xff, n & 0xff];

/** number() of dcpim_script.c: eight bytes. */
function number(n: bigint | number): number[] {
  const bytes = [255];
  for (let shift = 56n; shift >= 0n; shift -= 8n) bytes.push(Number(BigInt(n) >> shift & 0xffn));
  return bytes;
}

const connect = (from: number, kind: number, bytes: number) => [OP.connect, from, kind, 0, ...word(bytes)];
/** Runs for 2^log2 ns; 13 is 8 us, a little more than one way. */
const run = (log2: number) => [OP.run, log2];

/** A packet to host `to`, with ports and tag of the last one of type `like` that it was sent. */
function craft(to: number, type: number, like: number, fields: (bigint | number)[], blocks: number[] = []) {
  const all = [...fields, 0, 0, 0, 0, 0, 0, 0].slice(0, 7);
  return [
    OP.craft,
    to,
    type - 0x20,
    like - 0x20,
    blocks.length / 2,
    0,
    ...all.flatMap(number),
    ...blocks.flatMap(number),
  ];
}

/** Ten configurations: first-part modes, tiny buffers, CRC, keep-alive, a token budget, late timers. */
const CONFIGS: [number, number][] = [
  [0x31, 0x01],
  [0x35, 0x01],
  [0x39, 0x01],
  [0xf2, 0x09],
  [0x71, 0x03],
  [0x30, 0x15],
  [0xb1, 0x21],
  [0x73, 0x81],
  [0x33, 0x40],
  [0x3b, 0xff],
];

/** What happens on an open connection with tags known, both kinds of it. */
function scripts(): [string, number[]][] {
  const opened = (kind: number) => [...connect(0, kind, 9000), ...run(15)];
  const far = 1n << 40n, top = (1n << 62n) - 1n;
  const stream: [string, number[]][] = [
    ["token beyond written data", craft(0, TYPE.token, TYPE.ack, [0, far, far, 0xffffffff])],
    ["acknowledges what was never sent", craft(0, TYPE.token, TYPE.ack, [far, far, far])],
    [
      "sack blocks of nonsense",
      craft(0, TYPE.token, TYPE.ack, [0, 1000, 1000, 0xffffffff], [1, 1, 0xffffff, 5, 9, 9]),
    ],
    ["56 sack blocks", craft(0, TYPE.token, TYPE.ack, [0, 0, 0, 0xffffffff], Array(112).fill(7))],
    ["window that shrinks", craft(0, TYPE.ack, TYPE.ack, [0, 0, 0])],
    ["giant demand", craft(1, TYPE.demand, TYPE.data, [top, 0])],
    ["fin below received data", craft(1, TYPE.fin, TYPE.data, [3])],
    ["fin far ahead", craft(1, TYPE.fin, TYPE.data, [top])],
    ["data far ahead", craft(1, TYPE.data, TYPE.data, [top - 70000n, 5000, 0, 1000])],
    ["data over the window", craft(1, TYPE.data, TYPE.data, [59000, 5000, 0, 2999])],
    ["data acknowledging the future", craft(1, TYPE.data, TYPE.data, [9000, 5000, 0x7fffffff, 10])],
    ["reset with the tag", craft(1, TYPE.reset, TYPE.data, [])],
    ["grant nobody asked for", craft(1, TYPE.grant, TYPE.accept, [5, 0, 16, 9, 0, 0, 50000])],
    ["accept of nothing granted", craft(0, TYPE.accept, TYPE.rts, [5, 0, 16, 9, 0, 0, 50000])],
    ["request with a lying phase", craft(0, TYPE.rts, TYPE.rts, [top, 3, 16, 1, 90000, 90000, 50000])],
    ["revoke of everything", craft(1, TYPE.revoke, TYPE.grant, [5, 0, 0, 0, 0, 0, 50000])],
    ["message packet on a stream", craft(1, TYPE.dataMsg, TYPE.data, [1, 0, 50, 50])],
  ];
  const messages: [string, number[]][] = [
    ["message over the limit", craft(1, TYPE.notificationMsg, TYPE.dataMsg, [3, 0xffffffff, 0])],
    ["message id far ahead", craft(1, TYPE.dataMsg, TYPE.dataMsg, [top, 0, 100, 100])],
    ["message of another size", craft(1, TYPE.dataMsg, TYPE.dataMsg, [1, 0, 5000, 100])],
    ["message piece beyond its end", craft(1, TYPE.dataMsg, TYPE.dataMsg, [9, 99, 100, 100])],
    ["token beyond the message", craft(0, TYPE.tokenMsg, TYPE.finMsg, [1, 0, 0xffffffff, 0xffffffff])],
    ["completes what was never sent", craft(0, TYPE.finMsg, TYPE.finMsg, [top, top])],
    [
      "completion ranges far ahead",
      craft(0, TYPE.finMsg, TYPE.finMsg, [1, 0], [1, 0xffffff, 0xffffff, 0xffffff]),
    ],
    ["fin below completed messages", craft(1, TYPE.fin, TYPE.dataMsg, [0])],
    ["stream packet on messages", craft(1, TYPE.data, TYPE.dataMsg, [0, 500, 0, 50])],
  ];
  const flood: number[] = [];
  for (let i = 0; i < 40; i++) {
    flood.push(
      ...craft(1, TYPE.fin, 0x36, [i]),
      ...craft(1, TYPE.syn, 0x36, [i + 1, i + 1, 0, 1472, 9, 9, 9]),
    );
  }
  const forgedMessages = (to: number, like: number) =>
    [1, 2, 3, 4, 5, 6, 7, 8].flatMap((id) => craft(to, TYPE.dataMsg, like, [id, 0, 50, 50]));
  return [
    ["stream", [
      ...opened(STREAM),
      OP.write,
      1,
      ...word(30000),
      ...run(18),
      OP.shutdown,
      0,
      OP.shutdown,
      1,
      ...run(20),
    ]],
    ["messages", [...opened(MESSAGES), ...run(18), OP.shutdown, 0, OP.shutdown, 1, ...run(20)]],
    ["both ways at once", [...connect(0, STREAM, 20000), ...connect(1, MESSAGES, 20000), ...run(19)]],
    ["loss", [
      OP.link,
      0,
      50,
      50,
      50,
      OP.link,
      1,
      50,
      50,
      50,
      ...connect(0, STREAM, 40000),
      ...connect(0, MESSAGES, 9000),
      ...run(24),
    ]],
    ["partition", [
      ...opened(STREAM),
      OP.down,
      1,
      1,
      OP.write,
      0,
      ...word(30000),
      ...run(23),
      OP.down,
      1,
      0,
      ...run(24),
    ]],
    ["restart", [
      ...opened(STREAM),
      OP.write,
      0,
      ...word(30000),
      OP.kill,
      1,
      OP.boot,
      1,
      ...connect(0, STREAM, 99),
      ...run(24),
    ]],
    ["dead peer", [...opened(MESSAGES), OP.write, 0, ...word(30000), OP.kill, 0, ...run(27)]],
    ["smaller path", [...opened(STREAM), OP.mtu, 1, 40, OP.write, 0, ...word(30000), ...run(22)]],
    ["out of memory", [
      OP.nomem,
      0,
      3,
      2,
      OP.nomem,
      1,
      5,
      9,
      ...opened(STREAM),
      OP.write,
      0,
      ...word(9000),
      ...run(22),
    ]],
    ["listener gone", [
      OP.listen,
      1,
      1,
      2,
      OP.connect,
      0,
      0,
      1,
      ...word(9000),
      OP.listen,
      1,
      1,
      2,
      ...run(20),
    ]],
    ["stalled reader", [
      ...opened(STREAM),
      OP.stall,
      1,
      27,
      OP.write,
      0,
      ...word(65000),
      OP.write,
      0,
      ...word(65000),
      ...run(27),
    ]],
    ["closed with unread bytes", [
      ...opened(STREAM),
      OP.stall,
      1,
      27,
      OP.write,
      0,
      ...word(30000),
      ...run(18),
      OP.close,
      1,
      0,
      ...run(20),
    ]],
    ["old packets again", [
      ...opened(STREAM),
      ...Array.from({ length: 16 }, (_, i) => [OP.replay, i]).flat(),
      ...run(22),
    ]],
    ["damaged packets", [
      ...opened(STREAM),
      ...[0, 1, 2, 3, 4, 5].flatMap((i) => [OP.mutate, i, 1, 2, 0, 25, 255, 0, 60, i]),
      ...run(22),
    ]],
    ["data past the end both ways", [
      ...opened(STREAM),
      ...run(18),
      ...craft(1, TYPE.data, TYPE.data, [9000, 2000, 0, 1999]),
      ...craft(0, TYPE.data, TYPE.data, [562, 2000, 0, 1999]),
      OP.write,
      0,
      ...word(500),
      OP.write,
      1,
      ...word(500),
      ...run(22),
    ]],
    ["more messages than were sent both ways", [
      ...connect(0, MESSAGES, 9000),
      ...run(13),
      OP.down,
      1,
      1,
      ...run(16),
      ...forgedMessages(1, TYPE.finMsg),
      OP.down,
      0,
      1,
      ...run(16),
      ...forgedMessages(0, TYPE.synAck),
      ...run(16),
      OP.down,
      0,
      0,
      OP.down,
      1,
      0,
      ...run(22),
    ]],
    ["floods to unknown ports", [...opened(STREAM), ...flood, ...run(20)]],
    ...stream.map((
      [name, packet],
    ): [string, number[]] => [name, [...opened(STREAM), ...packet, ...run(16), ...packet, ...run(22)]]),
    ...messages.map((
      [name, packet],
    ): [string, number[]] => [name, [...opened(MESSAGES), ...packet, ...run(16), ...packet, ...run(22)]]),
  ];
}

/** Every script under every configuration, and each of `packets` thrown at an open connection as it is. */
export function seeds(packets: Seed[]): Seed[] {
  const made: Seed[] = [];
  for (const [index, config] of CONFIGS.entries()) {
    for (const [name, script] of scripts()) {
      made.push({
        name: `${name.replaceAll(" ", "_")}-${index}`,
        bytes: Uint8Array.from([...config, ...script]),
      });
    }
  }
  for (const { name, bytes } of packets) {
    const script = [
      ...CONFIGS[0]!,
      ...connect(0, STREAM, 9000),
      ...run(15),
      OP.raw,
      1,
      ...word(bytes.length),
      ...bytes,
      ...run(20),
    ];
    made.push({ name: `packet_${name}`, bytes: Uint8Array.from(script) });
  }
  return made;
}
