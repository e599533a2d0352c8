// SPDX-License-Identifier: BSD-2-Clause
// The Wireshark dissector against the golden and the forged packets, run by tshark.

import assert from "node:assert/strict";
import { readVectors, type Vector } from "../csrc/dcpim_wire/vectors.ts";
import { needs } from "../helpers/needs.ts";
import { ip, pcap, udp } from "./pcap.ts";

const DISSECTOR = new URL("../../tools/wireshark/rackwire_dcpim.lua", import.meta.url).pathname;
const vectors = await readVectors();
const golden = vectors.filter((vector) => !vector.forged);
const forged = vectors.filter((vector) => vector.forged);

const PORT = 5151;
const ON_PORT = ["-o", `dcpim.udp_ports:${PORT}`];

async function tshark(capture: Uint8Array<ArrayBuffer>, ...args: string[]): Promise<string> {
  const file = await Deno.makeTempFile({ suffix: ".pcap" });
  try {
    await Deno.writeFile(file, capture);
    const { code, stdout, stderr } = await new Deno.Command("tshark", {
      args: ["-n", "-X", `lua_script:${DISSECTOR}`, "-r", file, ...args],
      env: { LC_ALL: "C.UTF-8" },
    }).output();
    const errors = new TextDecoder().decode(stderr);
    assert.equal(code, 0, errors);
    assert.doesNotMatch(errors, /lua/i);
    return new TextDecoder().decode(stdout);
  } finally {
    await Deno.remove(file);
  }
}

/** Values of the fields in each frame; a field that occurs more than once has several. */
async function fieldsOf(capture: Uint8Array<ArrayBuffer>, names: string[], ...args: string[]) {
  const text = await tshark(
    capture,
    ...["-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=;"],
    ...names.flatMap((name) => ["-e", name]),
    ...args,
  );
  return text.split("\n").slice(0, -1).map((line) => {
    const cells = line.split("\t");
    return new Map(names.map((name, i) => [name, cells[i] === "" ? [] : cells[i]!.split(";")]));
  });
}

/** What the dissector should show of a golden packet, by filter name without "dcpim.". */
function expected(vector: Vector): Map<string, (bigint | string)[]> {
  const number = (name: string) => vector.fields.get(name) ?? 0n;
  const flags = number("flags") | (vector.crc ? 4n : 0n);
  const payloadLength = vector.payload.length / 2;
  const headerLength = vector.bytes.length - payloadLength;
  const isData = vector.type.startsWith("DATA");
  const offset = number("offset");
  const shown = new Map<string, (bigint | string)[]>([
    ["type", [BigInt(vector.bytes[14]!)]],
    ["type_name", [vector.type]],
    ["version", [1n]],
    ["doff", [BigInt((headerLength - 8 * vector.blocks.length) * 4)]],
    ["tcp_flags", [0x10n]],
    ["seq", [isData ? offset % 2n ** 32n : 0n]],
    ["check", [BigInt(vector.bytes[16]! << 8 | vector.bytes[17]!)]],
    ["check.status", ["good"]],
    ["crc", [BigInt(`0x${vector.bytes.slice(20, 24).toHex()}`)]],
    ["crc.status", [vector.crc ? "good" : "absent"]],
    ["len", [BigInt(vector.bytes.length)]],
    ["hdr_len", [BigInt(headerLength)]],
    ["nblocks", [BigInt(vector.blocks.length)]],
    ["reserved", [0n]],
    ["flags", [flags]],
    ["port", [number("sport"), number("dport")]],
    ["block.start", vector.blocks.map(([start]) => start)],
    ["block.end", vector.blocks.map(([, end]) => end)],
    ["payload", payloadLength > 0 ? [vector.payload] : []],
    ["payload_len", isData ? [BigInt(payloadLength)] : []],
    ["malformed", []],
    ["checksum_bad", []],
  ]);
  ["reflected", "prompt", "crc", "host", "probe", "more"].forEach((name, bit) => {
    shown.set(`flags.${name}`, [flags >> BigInt(bit) & 1n]);
  });
  for (const name of new Set(golden.flatMap((other) => [...other.fields.keys()]))) {
    const has = vector.fields.has(name);
    if (name !== "flags") shown.set(name, has ? [number(name)] : []);
  }
  shown.set("offset_hi", vector.type === "DATA" ? [offset >> 32n] : []);
  shown.set("zero", ["RTS", "GRANT", "ACCEPT", "REVOKE"].includes(vector.type) ? [0n] : []);
  return shown;
}

const NAMES = [...expected(golden[0]!).keys()];

function compare(vector: Vector, frame: Map<string, string[]>) {
  for (const [name, values] of expected(vector)) {
    const shown = frame.get(`dcpim.${name}`)!;
    const read = shown.map((text, i) => typeof values[i] === "bigint" ? BigInt(text) : text);
    assert.deepEqual(read, values, `${vector.name}: dcpim.${name}`);
  }
}

const layers: Record<string, (bytes: Uint8Array) => Uint8Array> = {
  "UDP over IPv4": (bytes) => udp(4, 33333, PORT, bytes),
  "UDP over IPv6": (bytes) => udp(6, PORT, 33333, bytes),
  "protocol 254 over IPv4": (bytes) => ip(4, 254, bytes),
  "protocol 254 over IPv6": (bytes) => ip(6, 254, bytes),
};

for (const [layer, wrap] of Object.entries(layers)) {
  needs(["tshark"]).test(`every packet type is named and every field shown in ${layer}`, async () => {
    const capture = pcap(golden.map((vector) => wrap(vector.bytes)));
    const names = NAMES.map((name) => `dcpim.${name}`);
    const frames = await fieldsOf(capture, [...names, "_ws.col.Protocol", "_ws.col.Info"], ...ON_PORT);
    assert.equal(frames.length, golden.length);
    golden.forEach((vector, i) => {
      compare(vector, frames[i]!);
      assert.deepEqual(frames[i]!.get("_ws.col.Protocol"), ["dcPIM"]);
      const ports = `${vector.fields.get("sport")} → ${vector.fields.get("dport")}`;
      assert.equal(frames[i]!.get("_ws.col.Info")![0]!.indexOf(`${vector.type} ${ports}`), 0, vector.name);
    });
  });
}

needs(["tshark"]).test("packets in UDP are recognised on ports nobody named", async () => {
  const capture = pcap(golden.map((vector, i) => udp(4, 20000 + i, 30000 + i, vector.bytes)));
  const frames = await fieldsOf(capture, NAMES.map((name) => `dcpim.${name}`), "-o", "dcpim.udp_ports:");
  golden.forEach((vector, i) => compare(vector, frames[i]!));
});

needs(["tshark"]).test("datagrams of other protocols are left alone", async () => {
  const others = [
    new Uint8Array(0),
    new Uint8Array(27),
    new Uint8Array(64),
    new TextEncoder().encode("a line of text that is longer than any header could ever hope to be"),
    ...golden.map((vector) => vector.bytes.toReversed()),
    ...golden.map((vector) => vector.bytes.subarray(0, 27)),
    ...golden.map((vector) => vector.bytes.with(16, vector.bytes[16]! ^ 1)),
  ];
  const capture = pcap(others.map((bytes, i) => udp(4, 20000 + i, 30000 + i, bytes)));
  const frames = await fieldsOf(capture, ["frame.number", "dcpim"], "-Y", "dcpim");
  assert.deepEqual(frames, []);
});

needs(["tshark"]).test("each packet of a datagram that was not segmented yet is shown", async () => {
  const all = new Uint8Array(golden.flatMap((vector) => [...vector.bytes]));
  for (const args of [ON_PORT, ["-o", "dcpim.udp_ports:"]]) {
    const [frame] = await fieldsOf(
      pcap([udp(4, 1, PORT, all)]),
      ["dcpim.type_name", "dcpim.len", "dcpim.check.status", "dcpim.malformed", "_ws.col.Info"],
      ...args,
    );
    assert.deepEqual(frame!.get("dcpim.type_name"), golden.map((vector) => vector.type));
    assert.deepEqual(frame!.get("dcpim.len"), golden.map((vector) => `${vector.bytes.length}`));
    assert.ok(frame!.get("dcpim.check.status")!.every((status) => status === "good"));
    assert.deepEqual(frame!.get("dcpim.malformed"), []);
    assert.match(frame!.get("_ws.col.Info")!.join(), new RegExp(`… ${golden.length} packets$`));
  }
});

needs(["tshark"]).test(
  "every forged packet is marked as malformed or as having a wrong checksum",
  async () => {
    const checksumOnly = ["decode__wrong_checksum_is_refused", "decode__checksum_ffff_is_refused"];
    for (const [layer, wrap] of Object.entries(layers)) {
      // An empty packet is not handed to any dissector.
      const shown = forged.filter((vector) => vector.bytes.length > 0);
      const capture = pcap(shown.map((vector) => wrap(vector.bytes)));
      const frames = await fieldsOf(capture, ["dcpim.malformed", "dcpim.checksum_bad"], ...ON_PORT);
      assert.equal(frames.length, shown.length);
      shown.forEach((vector, i) => {
        const mark = checksumOnly.includes(vector.name) ? "dcpim.checksum_bad" : "dcpim.malformed";
        assert.notDeepEqual(frames[i]!.get(mark), [], `${vector.name} in ${layer}`);
        if (mark === "dcpim.checksum_bad") assert.deepEqual(frames[i]!.get("dcpim.malformed"), []);
      });
    }
  },
);

needs(["tshark"]).test("a malformed packet's reason stands in the info column", async () => {
  const bytes = forged.find((vector) => vector.name === "decode__rts_for_17_channels_is_refused")!.bytes;
  const [frame] = await fieldsOf(
    pcap([udp(4, 1, 2, bytes)]),
    ["_ws.col.Info", "_ws.expert.message", "_ws.expert.severity"],
  );
  assert.match(frame!.get("_ws.col.Info")!.join(), /^RTS .*\[malformed: more than 16 channels\]$/);
  assert.deepEqual(frame!.get("_ws.expert.message"), ["more than 16 channels"]);
});

needs(["tshark"]).test("damage that the CRC alone can see is shown", async () => {
  const sealed = golden.filter((vector) => vector.crc && vector.payload !== "");
  assert.ok(sealed.length >= 2);
  const capture = pcap(sealed.map(({ bytes }) => udp(4, 1, PORT, bytes.with(-1, bytes.at(-1)! ^ 0x10))));
  const frames = await fieldsOf(
    capture,
    ["dcpim.check.status", "dcpim.crc.status", "dcpim.checksum_bad", "_ws.col.Info"],
    ...ON_PORT,
  );
  for (const frame of frames) {
    assert.deepEqual(frame.get("dcpim.check.status"), ["good"]);
    assert.deepEqual(frame.get("dcpim.crc.status"), ["bad"]);
    assert.equal(frame.get("dcpim.checksum_bad")!.length, 1);
    assert.match(frame.get("_ws.col.Info")!.join(), / \[wrong checksum\]$/);
  }
});

needs(["tshark"]).test("a capture that kept only the start of packets gives no error", async () => {
  const packets = [...golden, ...forged].map((vector) => udp(4, 1, PORT, vector.bytes));
  for (const keep of [28, 29, 40, 55, 56, 60, 68, 70, 84, 100]) {
    const text = await tshark(pcap(packets, keep), ...ON_PORT, "-V");
    assert.doesNotMatch(text, /Lua Error|Malformed Packet/);
  }
  const data = golden.find((vector) => vector.name === "data__with_crc")!;
  const [frame] = await fieldsOf(
    pcap([udp(4, 1, 2, data.bytes)], 20 + 8 + 40 + 2),
    ["dcpim.check.status", "dcpim.crc.status", "dcpim.payload", "dcpim.payload_len", "dcpim.malformed"],
  );
  assert.deepEqual([...frame!.values()], [["good"], ["unverified"], ["3132"], ["9"], []]);
});

needs(["tshark"]).test("random bytes on a dcPIM port give no Lua error", async () => {
  const seed = Number(Deno.env.get("RACKWIRE_SEED") ?? Date.now()) >>> 0;
  console.log(`# RACKWIRE_SEED=${seed}`);
  let state = seed;
  const random = (n: number) => {
    state = Math.imul(state, 1664525) + 1013904223 >>> 0;
    return Math.floor(state / 2 ** 32 * n);
  };
  const packets = Array.from({ length: 1500 }, () => {
    const from = vectors[random(vectors.length)]!.bytes;
    const bytes = random(4) === 0
      ? Uint8Array.from({ length: random(700) }, () => random(256))
      : Uint8Array.from({ length: random(from.length + 20) }, (_, i) => from[i] ?? random(256));
    for (let n = random(6); n > 0 && bytes.length > 0; n--) bytes[random(bytes.length)] = random(256);
    return random(2) === 0 ? udp(4, 1, PORT, bytes) : ip(6, 254, bytes);
  });
  const text = await tshark(pcap(packets), ...ON_PORT, "-V");
  assert.doesNotMatch(text, /Lua Error|Malformed Packet/);
});
