// SPDX-License-Identifier: BSD-2-Clause
// What this machine is and allows. Nothing here changes it.

import { check, errnoName, MessageBuffer } from "../ffi/errors.ts";
import { cString, libraryExists, libraryPath, loadLibrary } from "../ffi/library.ts";
import { krpingLibrary } from "../krping/symbols.ts";
import { libraries } from "../registry.ts";
import { hostFactsStruct, hostLibrary } from "./symbols.ts";

/** Capabilities that matter here, by their number in linux/capability.h. */
const CAPABILITIES: Record<number, string> = {
  12: "CAP_NET_ADMIN",
  13: "CAP_NET_RAW",
  14: "CAP_IPC_LOCK",
  16: "CAP_SYS_MODULE",
  21: "CAP_SYS_ADMIN",
  23: "CAP_SYS_NICE",
};

/** Something tried: "ok", or the errno name of what refused it. */
export type Probe = "ok" | `E${string}`;

export interface HostFacts {
  kernel: { release: string; version: string; machine: string };
  hostname: string;
  cpus: { online: number; allowed: number[] };
  memory_bytes: number;
  page_bytes: number;
  euid: number;
  capabilities: string[];
  /** null: unlimited */
  limits: { memlock_bytes: number | null; open_files: number | null };
  probes: {
    raw_ipv4_protocol_254: Probe;
    raw_ipv6_protocol_254: Probe;
    packet_socket: Probe;
    ipv6: Probe;
    udp_gso: Probe;
    udp_gro: Probe;
    busy_poll: Probe;
    receive_buffer_beyond_limit: Probe;
  };
  /** Settings under /proc/sys; null where this kernel or namespace does not have one. */
  sysctl: Record<string, number | null>;
  interfaces: { name: string; mtu: number | null; up: boolean }[];
  libraries: { name: string; path: string; present: boolean }[];
  /** RDMA devices of the kernel, and why user space cannot use them; undefined where it can. */
  rdma: { devices: string[]; why?: string };
  deno: string;
}

const SYSCTLS = [
  "net.core.rmem_default",
  "net.core.rmem_max",
  "net.core.wmem_default",
  "net.core.wmem_max",
  "net.core.netdev_max_backlog",
  "net.core.busy_poll",
];

const FILE_BYTES = 64 * 1024;

/**
 * A file under /proc or /sys as text.
 * @throws RackwireError with the errno's name as code
 */
export function readSystemFile(path: string): string {
  const buffer = new Uint8Array(FILE_BYTES);
  const n = loadLibrary(hostLibrary).rackwire_host_read(cString(path), buffer, BigInt(buffer.length));
  return new TextDecoder().decode(buffer.subarray(0, Number(check(n, `cannot read ${path}`))));
}

/** As readSystemFile, but undefined where the file is missing or closed to us. */
export function trySystemFile(path: string): string | undefined {
  const buffer = new Uint8Array(FILE_BYTES);
  const n = loadLibrary(hostLibrary).rackwire_host_read(cString(path), buffer, BigInt(buffer.length));
  return n < 0 ? undefined : new TextDecoder().decode(buffer.subarray(0, Number(n)));
}

/** The names in a directory under /proc or /sys, sorted; none where it is missing. */
export function listSystemDirectory(path: string): string[] {
  const buffer = new Uint8Array(FILE_BYTES);
  const n = loadLibrary(hostLibrary).rackwire_host_list(cString(path), buffer, BigInt(buffer.length));
  if (n < 0) return [];
  return new TextDecoder().decode(buffer.subarray(0, Number(n))).split("\n").filter((name) => name !== "")
    .sort();
}

function systemNumber(path: string): number | null {
  const text = trySystemFile(path)?.trim();
  return text !== undefined && /^-?\d+$/.test(text) ? Number(text) : null;
}

function probe(errno: number): Probe {
  return errno === 0 ? "ok" : errnoName(errno) as Probe;
}

function limit(value: bigint): number | null {
  return value === 0xffff_ffff_ffff_ffffn ? null : Number(value);
}

const VERBS = 2;

function rdmaFacts(): HostFacts["rdma"] {
  const devices = listSystemDirectory("/sys/class/infiniband");
  if (devices.length === 0 || !libraryExists(krpingLibrary.name)) return { devices };
  const message = new MessageBuffer();
  const result = loadLibrary(krpingLibrary)
    .rackwire_krping_probe(VERBS, message.bytes, BigInt(message.bytes.length));
  return result < 0 ? { devices, why: message.text() || errnoName(result) } : { devices };
}

/**
 * Gathers the facts, in about a millisecond.
 * @throws RackwireError LIBRARY_MISSING before the first build
 */
export function hostFacts(): HostFacts {
  const bytes = hostFactsStruct.allocate();
  const result = loadLibrary(hostLibrary).rackwire_host_facts(bytes, BigInt(bytes.length));
  check(result, "cannot ask the kernel about this machine");
  const facts = hostFactsStruct.decode(bytes);
  const allowed: number[] = [];
  facts.cpus_allowed.forEach((byte, i) => {
    for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) allowed.push(8 * i + bit);
  });
  return {
    kernel: { release: facts.kernel_release, version: facts.kernel_version, machine: facts.machine },
    hostname: facts.hostname,
    cpus: { online: facts.cpus_online, allowed },
    memory_bytes: Number(facts.memory_bytes),
    page_bytes: Number(facts.page_bytes),
    euid: facts.euid,
    capabilities: Object.entries(CAPABILITIES)
      .filter(([bit]) => (facts.capabilities >> BigInt(bit)) & 1n)
      .map(([, name]) => name),
    limits: { memlock_bytes: limit(facts.memlock_bytes), open_files: limit(facts.files_limit) },
    probes: {
      raw_ipv4_protocol_254: probe(facts.raw_ipv4_errno),
      raw_ipv6_protocol_254: probe(facts.raw_ipv6_errno),
      packet_socket: probe(facts.packet_errno),
      ipv6: probe(facts.ipv6_errno),
      udp_gso: probe(facts.udp_gso_errno),
      udp_gro: probe(facts.udp_gro_errno),
      busy_poll: probe(facts.busy_poll_errno),
      receive_buffer_beyond_limit: probe(facts.rcvbuf_force_errno),
    },
    sysctl: Object.fromEntries(
      SYSCTLS.map((name) => [name, systemNumber(`/proc/sys/${name.replaceAll(".", "/")}`)]),
    ),
    interfaces: listSystemDirectory("/sys/class/net")
      .filter((name) => trySystemFile(`/sys/class/net/${name}/flags`) !== undefined)
      .map((name) => ({
        name,
        mtu: systemNumber(`/sys/class/net/${name}/mtu`),
        up: (Number(trySystemFile(`/sys/class/net/${name}/flags`)) & 1) === 1,
      })),
    rdma: rdmaFacts(),
    libraries: libraries.map(({ name }) => ({ name, path: libraryPath(name), present: libraryExists(name) })),
    deno: Deno.version.deno,
  };
}
