// SPDX-License-Identifier: BSD-2-Clause
// Socket addresses as C has them: struct sockaddr_in and struct sockaddr_in6.

import { RackwireError } from "../ffi/errors.ts";
import { trySystemFile } from "./facts.ts";
import type { Address } from "./resolve.ts";

const AF_INET = 2;
const AF_INET6 = 10;
/** sizeof(struct sockaddr_storage) */
export const SOCKADDR_SIZE = 128;
const IN_SIZE = 16;
const IN6_SIZE = 28;

export interface SocketAddress {
  /** As people write it, with its zone: "fe80::1%2". */
  address: string;
  port: number;
  family: 4 | 6;
}

function ipv4Bytes(text: string): number[] {
  return text.split(".").map(Number);
}

function ipv6Bytes(text: string): number[] {
  // The last 32 bits may be written as an IPv4 address.
  const embedded = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (embedded !== null) {
    const [a, b, c, d] = ipv4Bytes(embedded[2]!) as [number, number, number, number];
    text = `${embedded[1]}${(a << 8 | b).toString(16)}:${(c << 8 | d).toString(16)}`;
  }
  const [head = "", tail] = text.split("::");
  const groups = (part: string) => part === "" ? [] : part.split(":").map((group) => parseInt(group, 16));
  const left = groups(head);
  const right = tail === undefined ? [] : groups(tail);
  const middle = new Array<number>(tail === undefined ? 0 : 8 - left.length - right.length).fill(0);
  return [...left, ...middle, ...right].flatMap((group) => [group >> 8, group & 0xff]);
}

/** The interface number of a zone: "2", or "eth0". */
function scopeOf(zone: string | undefined): number {
  if (zone === undefined) return 0;
  if (/^\d+$/.test(zone)) return Number(zone);
  const index = /^[^/]+$/.test(zone) ? trySystemFile(`/sys/class/net/${zone}/ifindex`)?.trim() : undefined;
  if (index === undefined) {
    throw new RackwireError("ENODEV", `there is no network interface ${zone}`, {
      hint: "`ip link` lists them",
    });
  }
  return Number(index);
}

/**
 * An address for C.
 * @throws RackwireError ENODEV for a zone that names no interface
 */
export function sockaddr({ address, family, zone }: Address, port: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(family === 4 ? IN_SIZE : IN6_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, family === 4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  if (family === 4) {
    bytes.set(ipv4Bytes(address), 4);
  } else {
    bytes.set(ipv6Bytes(address), 8);
    view.setUint32(24, scopeOf(zone), true);
  }
  return bytes;
}

function ipv6Text(bytes: Uint8Array): string {
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((bytes[i]! << 8 | bytes[i + 1]!).toString(16));
  // URL knows how to shorten the longest run of zeroes (RFC 5952).
  return new URL(`http://[${groups.join(":")}]/`).hostname.slice(1, -1);
}

/** What C wrote into a struct sockaddr_storage; undefined for an unset one. IPv4 in IPv6 reads as IPv4. */
export function readSockaddr(bytes: Uint8Array): SocketAddress | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const family = view.getUint16(0, true);
  const port = view.getUint16(2);
  if (family === AF_INET) return { address: bytes.subarray(4, 8).join("."), port, family: 4 };
  if (family !== AF_INET6) return undefined;
  const address = bytes.subarray(8, 24);
  if (address.subarray(0, 12).join() === "0,0,0,0,0,0,0,0,0,0,255,255") {
    return { address: address.subarray(12).join("."), port, family: 4 };
  }
  const scope = view.getUint32(24, true);
  return { address: ipv6Text(address) + (scope === 0 ? "" : `%${scope}`), port, family: 6 };
}

/** "10.0.0.2:4000", "[fe80::1%2]:4000". */
export function addressText({ address, port }: SocketAddress): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}
