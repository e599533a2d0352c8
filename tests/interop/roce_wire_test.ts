// SPDX-License-Identifier: BSD-2-Clause
// RoCEv2 packets of our encoder, read by others: by tshark, by the tables of the document, by zlib's CRC.

import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import { needs } from "../helpers/needs.ts";
import { parseTap } from "../helpers/results.ts";
import { pcap, udp } from "./pcap.ts";

const DIR = "tests/csrc/roce_wire";
const SAMPLES = "build/tests/fixtures/roce_wire_samples";

type Fields = Record<string, string>;

interface Sample {
  ip: 4 | 6;
  opcode: number;
  opcode_name: string;
  payload_len: number;
  packet: Fields;
  bytes: string;
  message?: string;
  type: number;
  status: number;
  tid: string;
  fields: Fields;
  ari?: string;
  priv: string;
  ip_version?: number;
  cma?: Fields;
}

async function run(command: string, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(command, { args }).output();
  const text = new TextDecoder();
  return { code, out: text.decode(stdout), all: text.decode(stdout) + text.decode(stderr) };
}

async function samples(): Promise<Sample[]> {
  const { code, out, all } = await run(SAMPLES);
  assert.equal(code, 0, all);
  return out.trim().split("\n").map((line) => JSON.parse(line) as Sample);
}

async function withCapture(list: Sample[], use: (path: string) => Promise<void>) {
  const path = await Deno.makeTempFile({ suffix: ".pcap" });
  try {
    await Deno.writeFile(
      path,
      pcap(list.map(({ ip, bytes }) => udp(ip, 49152, 4791, Uint8Array.fromHex(bytes)))),
    );
    await use(path);
  } finally {
    await Deno.remove(path);
  }
}

// ---- tshark ----

const BTH: Fields = {
  se: "bth.se",
  migreq: "bth.m",
  pad: "bth.padcnt",
  pkey: "bth.p_key",
  dest_qpn: "bth.destqp",
  ackreq: "bth.a",
  psn: "bth.psn",
  qkey: "deth.q_key",
  src_qpn: "deth.srcqp",
  va: "reth.va",
  rkey: "reth.r_key",
  dma_len: "reth.dmalen",
  swap_add: "atomiceth.swapdt",
  compare: "atomiceth.cmpdt",
  syndrome: "aeth.syndrome",
  msn: "aeth.msn",
  orig: "atomicacketh.origremdt",
  imm: "immdt",
  inv_rkey: "ieth",
  // fecn, becn: tshark 4.0 has no fields for them.
};

/** tshark 4.0 reads a path's rate from a byte of the flow label, and of the flow label the top 12 bits. */
const path = (ours: string, theirs: string): Fields => ({
  [`${ours}.local_lid`]: `cm.req.${theirs}_locallid`,
  [`${ours}.remote_lid`]: `cm.req.${theirs}_remotelid`,
  [`${ours}.local_gid`]: `cm.req.${theirs}_localgid`,
  [`${ours}.remote_gid`]: `cm.req.${theirs}_remotegid`,
  [`${ours}.flow_label`]: `cm.req.${theirs}_flowlabel`,
  [`${ours}.traffic_class`]: `cm.req.${theirs}_tfcclass`,
  [`${ours}.hop_limit`]: `cm.req.${theirs}_hoplim`,
  [`${ours}.sl`]: `cm.req.${theirs}_sl`,
  [`${ours}.subnet_local`]: `cm.req.${theirs}_subnetlocal`,
  [`${ours}.ack_timeout`]: `cm.req.${theirs}_localacktout`,
});

/** Fields of each message by the names tshark gives them; MRA it does not take apart. */
const MESSAGES: Record<string, Fields> = {
  REQ: {
    local_comm_id: "cm.req",
    local_ca_guid: "cm.req.localcaguid",
    local_qkey: "cm.req.localqkey",
    local_qpn: "cm.req.localqpn",
    responder_resources: "cm.req.responderres",
    local_eecn: "cm.req.localeecn",
    initiator_depth: "cm.req.initdepth",
    remote_eecn: "cm.req.remoteeecn",
    remote_response_timeout: "cm.req.remoteresptout",
    transport_type: "cm.req.transpsvctype",
    flow_control: "cm.req.e2eflowctrl",
    starting_psn: "cm.req.startpsn",
    local_response_timeout: "cm.req.localresptout",
    retry_count: "cm.req.retrcount",
    pkey: "cm.req.pkey",
    mtu: "cm.req.pppmtu",
    rdc_exists: "cm.req.rdcexist",
    rnr_retry: "cm.req.rnrretrcount",
    max_cm_retries: "cm.req.maxcmretr",
    srq: "cm.req.srq",
    extended_transport: "cm.req.ext_transport",
    ...path("primary", "prim"),
    ...path("alternate", "alt"),
  },
  REP: {
    local_comm_id: "cm.rep",
    remote_comm_id: "cm.rep.remotecommid",
    local_qkey: "cm.rep.localqkey",
    local_qpn: "cm.rep.localqpn",
    local_eecn: "cm.rep.localeecn",
    starting_psn: "cm.rep.startpsn",
    responder_resources: "cm.rep.respres",
    initiator_depth: "cm.rep.initdepth",
    target_ack_delay: "cm.rep.tgtackdelay",
    failover: "cm.rep.failoveracc",
    flow_control: "cm.rep.e2eflowctrl",
    rnr_retry: "cm.rep.rnrretrcount",
    srq: "cm.rep.srq",
    local_ca_guid: "cm.rep.localcaguid",
  },
  REJ: {
    local_comm_id: "cm.rej.localcommid",
    remote_comm_id: "cm.rej.remotecommid",
    message: "cm.rej.msgrej",
    ari_len: "cm.rej.rejinfolen",
    reason: "cm.rej.reason",
  },
  RTU: { local_comm_id: "cm.rtu.localcommid", remote_comm_id: "cm.rtu.remotecommid" },
  DREQ: {
    local_comm_id: "cm.dreq.localcommid",
    remote_comm_id: "cm.dreq.remotecommid",
    remote_qpn: "cm.req.remoteqpneecn",
  },
  DREP: { local_comm_id: "cm.drsp.localcommid", remote_comm_id: "cm.drsp.remotecommid" },
};

const PRIVATE: Fields = {
  REQ: "cm.req.private",
  REP: "cm.rep.private",
  REJ: "cm.rej.private",
  RTU: "cm.rtu.private",
  DREQ: "cm.dreq.private",
  DREP: "cm.drsp.private",
};

const OTHERS = [
  "bth.opcode",
  "bth.tver",
  "invariant.crc",
  "mad.baseversion",
  "mad.mgmtclass",
  "mad.classversion",
  "mad.method",
  "mad.status",
  "mad.transactionid",
  "mad.attributeid",
  "cm.req.serviceid",
  "cm.req.serviceid.dport",
  "cm.req.prim_localgid_ipv4",
  "cm.req.prim_remotegid_ipv4",
  "cm.rej.ari",
  "cm.req.ip_cm.ipv",
  "cm.req.ip_cm.sport",
  "cm.req.ip_cm.sip4",
  "cm.req.ip_cm.dip4",
  "cm.req.ip_cm.sip6",
  "cm.req.ip_cm.dip6",
  "cm.req.ip_cm.private",
];

async function dissect(capture: string): Promise<Fields[]> {
  const names = [
    ...new Set([
      ...Object.values(BTH),
      ...Object.values(MESSAGES).flatMap((fields) => Object.values(fields)),
      ...Object.values(PRIVATE),
      ...OTHERS,
    ]),
  ];
  const asked = names.flatMap((name) => ["-e", `infiniband.${name}`]);
  // Which stumbles over payloads of a byte or two.
  const options = [
    "--disable-protocol",
    "rpcordma",
    "-T",
    "fields",
    "-E",
    "separator=|",
    "-E",
    "occurrence=f",
  ];
  const { code, out, all } = await run("tshark", "-r", capture, ...options, ...asked);
  assert.equal(code, 0, all);
  return out.trimEnd().split("\n").map((line) =>
    Object.fromEntries(line.split("|").map((value, i) => [names[i]!, value]))
  );
}

/** An address of tshark's as hexadecimal digits. */
function addressDigits(text: string): string {
  if (!text.includes(":")) return text;
  const [head = "", tail] = text.split("::");
  const words = (part: string) => part === "" ? [] : part.split(":").map((word) => word.padStart(4, "0"));
  if (tail === undefined) return words(head).join("");
  return (words(head).join("") + words(tail).join("").padStart(32 - 4 * words(head).length, "0"));
}

function ipv4(digits: string): string {
  return Uint8Array.fromHex(digits.slice(-8)).join(".");
}

/** What tshark says of a number, "True", 0x1f, 31, or some bytes' digits. */
function number(said: string, digits: boolean): bigint {
  if (said === "True" || said === "False") return BigInt(said === "True");
  return BigInt(digits && !said.startsWith("0x") ? `0x${said}` : said);
}

function checkFields(name: string, made: Fields, theirs: Fields, seen: Fields) {
  for (const [field, value] of Object.entries(made)) {
    const key = theirs[field];
    if (key === undefined) continue;
    const v4 = seen[`${key}_ipv4`] ?? "";
    const said = seen[key] || v4;
    const what = `${name}: ${field} (infiniband.${key})`;
    assert.notEqual(said, "", what);
    if (v4 !== "") assert.equal(v4, ipv4(value), what);
    else if (key.endsWith("gid")) assert.equal(addressDigits(said), value, what);
    else if (key.endsWith("flowlabel")) assert.equal(number(said, false), BigInt(value) >> 8n, what);
    else assert.equal(number(said, key === "immdt" || key === "ieth"), BigInt(value), what);
  }
}

function checkMessage(sample: Sample, seen: Fields) {
  const name = sample.message!;
  assert.deepEqual(
    ["mad.baseversion", "mad.mgmtclass", "mad.classversion", "mad.method"].map((key) => Number(seen[key])),
    [1, 7, 2, 3],
  );
  assert.equal(Number(seen["mad.status"]), sample.status, name);
  assert.equal(BigInt(seen["mad.transactionid"]!), BigInt(sample.tid), name);
  assert.equal(Number(seen["mad.attributeid"]), sample.type, name);
  if (name === "MRA") return;

  checkFields(name, sample.fields, MESSAGES[name]!, seen);
  if (name === "REJ" && sample.ari !== "") assert.ok(seen["cm.rej.ari"]!.startsWith(sample.ari!));
  if (sample.cma === undefined) {
    assert.equal(seen[PRIVATE[name]!], sample.priv, name);
    if (name === "REQ") {
      assert.equal(BigInt(seen["cm.req.serviceid"]!), BigInt(sample.fields.service_id!), name);
    }
    return;
  }
  const service = BigInt(sample.fields.service_id!);
  assert.equal(Number(seen["cm.req.serviceid.dport"]), Number(service & 0xffffn));
  assert.equal(Number(seen["cm.req.ip_cm.ipv"]), sample.ip_version);
  assert.equal(Number(seen["cm.req.ip_cm.sport"]), Number(sample.cma.port));
  for (const [ours, theirs] of [["src", "sip"], ["dst", "dip"]] as const) {
    const said = seen[`cm.req.ip_cm.${theirs}${sample.ip_version}`]!;
    const wanted: string = sample.cma[ours]!;
    if (sample.ip_version === 4) assert.equal(said, ipv4(wanted));
    else assert.equal(addressDigits(said), wanted);
  }
  assert.equal(seen["cm.req.ip_cm.private"], sample.priv.slice(72));
}

needs(["tshark"]).test(
  "tshark finds in our packets and messages the fields they were made from",
  async () => {
    const made = await samples();
    await withCapture(made, async (capture) => {
      const seen = await dissect(capture);
      assert.equal(seen.length, made.length);
      made.forEach((sample, i) => {
        const name = `${i + 1}: ${sample.message ?? sample.opcode_name}`;
        assert.equal(Number(seen[i]!["bth.opcode"]), sample.opcode, name);
        assert.equal(Number(seen[i]!["bth.tver"]), 0, name);
        checkFields(name, sample.packet, BTH, seen[i]!);
        if (sample.opcode_name !== "CNP") { // of which tshark 4.0 knows the BTH only
          assert.equal(BigInt(seen[i]!["invariant.crc"]!), BigInt(`0x${sample.bytes.slice(-8)}`), name);
        }
        if (sample.message !== undefined) checkMessage(sample, seen[i]!);
      });
    });
  },
);

// ---- the document ----

interface Row {
  at: number;
  bits: number;
  field: string;
}

interface Section {
  heading: string;
  rows: string[][];
}

/** The sections of the document, each with the cells of its first table, heading included. */
async function readDocument(): Promise<Section[]> {
  const text = await Deno.readTextFile("docs/krping-wire.md");
  return text.split(/^#{2,3} /m).slice(1).map((section) => {
    const table = /^\|.*\n(?:\|.*\n)+/m.exec(section)?.[0] ?? "";
    const rows = table.trim().split("\n").map((line) =>
      line.split("|").slice(1, -1).map((cell) => cell.trim())
    );
    return { heading: section.slice(0, section.indexOf("\n")), rows };
  });
}

function layout(document: Section[], heading: string): Row[] {
  const section = document.find((section) =>
    section.heading === heading || section.heading.startsWith(`${heading} 0x`)
  );
  assert.ok(
    section !== undefined && section.rows[0]![0] === "at",
    `the document has no table for ${heading}`,
  );
  let end = 0;
  return section.rows.slice(2).map(([at, bits, field]) => {
    assert.equal(
      Number(at),
      Math.floor(end / 8),
      `${heading}: ${field} is not where the field before it ends`,
    );
    end += Number(bits);
    return { at: Number(at), bits: Number(bits), field: field! };
  });
}

/** The header's bits as hexadecimal digits. @param value of a field: a number, or the digits of its bytes */
function encode(rows: Row[], value: (field: string) => string | bigint): string {
  const bits = rows.map(({ bits, field }) => {
    const of = field === "-" ? 0n : value(field);
    const text = typeof of === "bigint" ? of.toString(2) : BigInt(`0x0${of}`).toString(2);
    assert.ok(text.length <= bits, `${field} has more than ${bits} bits`);
    return text.padStart(bits, "0");
  }).join("");
  assert.equal(bits.length % 8, 0);
  return BigInt(`0b1${bits}`).toString(16).slice(1);
}

/** Numbers stay; the digits of bytes fill their field from its front. */
function valueOf(fields: Fields, name: string, bits: number): string | bigint {
  const value = fields[name];
  assert.notEqual(value, undefined, `${name} is not a field of the packet`);
  return bits > 64 ? value!.padEnd(bits / 4, "0") : BigInt(value!);
}

function encodeFrom(rows: Row[], fields: Fields): string {
  return encode(rows, (name) => valueOf(fields, name, rows.find(({ field }) => field === name)!.bits));
}

function encodeHeaders(document: Section[], sample: Sample): string {
  const table = document.find(({ heading }) => heading === "Opcodes")!;
  const row = table.rows.find((cells) => Number(cells[0]) === sample.opcode);
  assert.ok(row !== undefined, `the document has no opcode ${sample.opcode}`);
  const [, name, headers, bytes, payload] = row;
  assert.equal(name, sample.opcode_name);
  const fields = { ...sample.packet, opcode: String(sample.opcode), version: "0" };
  const parts = ["Base transport header", ...headers!.split(", ").filter((header) => header !== "")];
  const digits = parts.map((part) => encodeFrom(layout(document, part), fields)).join("");
  assert.equal(digits.length / 2, Number(bytes), name);
  assert.ok(payload === "yes" || sample.payload_len === 0, name);
  return digits;
}

function encodePath(document: Section[], fields: Fields, which: string): string {
  return encode(layout(document, "Path"), (name) => {
    if (name === "sap_supported") return which === "alternate" ? BigInt(fields.sap_supported!) : 0n;
    return name.endsWith("gid") ? fields[`${which}.${name}`]! : BigInt(fields[`${which}.${name}`]!);
  });
}

function encodeMessage(document: Section[], sample: Sample): string {
  const fields: Fields = {
    ...sample.fields,
    base_version: "1",
    mgmt_class: "7",
    class_version: "2",
    method: "3",
    status: String(sample.status),
    tid: sample.tid,
    attribute: String(sample.type),
    private_data: sample.priv,
    ...sample.ari === undefined ? {} : { ari: sample.ari },
  };
  if (sample.message === "REQ") {
    for (const which of ["primary", "alternate"]) fields[which] = encodePath(document, fields, which);
  }
  return encodeFrom(layout(document, "MAD header"), fields) +
    encodeFrom(layout(document, sample.message!), fields);
}

Deno.test("an encoder made from the document's tables makes the same packets and messages", async () => {
  const document = await readDocument();
  const made = await samples();
  for (const sample of made) {
    const name = sample.message ?? sample.opcode_name;
    const headers = encodeHeaders(document, sample);
    assert.equal(sample.bytes.slice(0, headers.length), headers, name);
    if (sample.message === undefined) continue;
    const mad = encodeMessage(document, sample);
    assert.equal(mad.length, 512, name);
    assert.equal(sample.bytes.slice(headers.length, -8), mad, name);
    if (sample.cma === undefined) continue;
    const plain = (digits: string) => sample.ip_version === 4 ? digits.slice(-8).padStart(32, "0") : digits;
    const cma = encodeFrom(layout(document, "rdma_cm"), {
      ...sample.cma,
      major: "0",
      ip_version: String(sample.ip_version),
      src: plain(sample.cma.src!),
      dst: plain(sample.cma.dst!),
    });
    assert.equal(sample.priv.slice(0, 72), cma);
  }
  const opcodes = document.find(({ heading }) => heading === "Opcodes")!.rows.slice(2);
  assert.deepEqual(
    new Set(made.map(({ opcode }) => opcode)),
    new Set(opcodes.map((cells) => Number(cells[0]))),
  );
  assert.equal(encodeFrom(layout(document, "Advertisement"), { buf: "1", rkey: "2", size: "3" }).length, 32);
});

Deno.test("the document's example is a captured packet, and the CRC of what it masks is its ICRC", async () => {
  const text = await Deno.readTextFile("docs/krping-wire.md");
  const blocks = text.slice(text.indexOf("### An example")).matchAll(/^```\n(.*?)^```/gms);
  const [packet, masked] = [...blocks].map((block) =>
    Uint8Array.fromHex((block[1]!.match(/\b[0-9a-f]{2}\b/g) ?? []).join(""))
  );
  const captured = (await Deno.readFile(`${DIR}/data/rping-2vm.pcap`)).toHex();
  assert.ok(captured.includes(packet!.toHex()));
  const icrc = new DataView(packet!.buffer).getUint32(packet!.length - 4, true);
  assert.equal(crc32(masked!), icrc);
});

// ---- zlib ----

Deno.test("the vectors of the ICRC are those zlib gives by the document's rules", async () => {
  const { code, all } = await run("python3", `${DIR}/icrc_vectors.py`, "check");
  assert.equal(code, 0, all);
});

Deno.test("zlib gives the ICRCs of our packets and of the captured ones", async () => {
  const made = await samples();
  await withCapture(made, async (capture) => {
    const captures = ["host-userspace.pcap", "rping-2vm.pcap"].map((name) => `${DIR}/data/${name}`);
    const { code, all } = await run("python3", `${DIR}/icrc_vectors.py`, "pcap", capture, ...captures);
    assert.equal(code, 0, all);
    assert.equal(all, `${made.length + 4800} right, 0 wrong\n`);
  });
});

// ---- another machine ----

needs(["bigendian"]).test("the wire formats' tests pass on a big-endian machine", async () => {
  const program = await Deno.makeTempFile();
  const core = ["wire", "mad", "icrc"].map((part) => `csrc/roce/core/roce_${part}.c`);
  const fast = ["fast", "pclmul"].map((part) => `csrc/roce/user/crc32_${part}.c`);
  const parts = { packet: "fields.c", mad: "fields.c", icrc: undefined, captures: "captures.c" };
  try {
    for (const [part, helper] of Object.entries(parts)) {
      const sources = [`${DIR}/${part}_test.c`, ...core, ...fast, ...helper ? [`${DIR}/${helper}`] : []];
      const flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-static", "-Icsrc", "-Itests/helpers"];
      const built = await run("s390x-linux-gnu-gcc", ...flags, ...sources, "-o", program);
      assert.equal(built.code, 0, built.all);
      const ran = await run("qemu-s390x", program);
      assert.equal(ran.code, 0, ran.all);
      const tests = parseTap(ran.out);
      assert.ok(tests.length > 5, part);
      assert.deepEqual(tests.filter(({ result }) => result === "failed"), []);
    }
  } finally {
    await Deno.remove(program);
  }
});
