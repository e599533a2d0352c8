// SPDX-License-Identifier: BSD-2-Clause
// Writes capture files of raw IP packets (link type 101), as tshark reads them.

type Bytes = Uint8Array<ArrayBuffer>;

function concat(...parts: Uint8Array[]): Bytes {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function u16(...values: number[]): Bytes {
  return new Uint8Array(values.flatMap((value) => [value >> 8 & 0xff, value & 0xff]));
}

/** RFC 1071. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes[i]! << 8 | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

const V4 = [new Uint8Array([192, 0, 2, 1]), new Uint8Array([192, 0, 2, 2])] as const;
const V6 = [1, 2].map((host) => {
  const address = new Uint8Array(16);
  address.set([0x20, 0x01, 0x0d, 0xb8]);
  address[15] = host;
  return address;
});

/** An IPv4 or IPv6 packet between two documentation addresses (RFC 5737, RFC 3849). */
export function ip(version: 4 | 6, protocol: number, payload: Uint8Array): Bytes {
  if (version === 6) {
    const start = new Uint8Array([0x60, 0, 0, 0, ...u16(payload.length), protocol, 64]);
    return concat(start, V6[0]!, V6[1]!, payload);
  }
  const header = concat(
    new Uint8Array([0x45, 0, ...u16(20 + payload.length), 0, 1, 0x40, 0, 64, protocol, 0, 0]),
    ...V4,
  );
  header.set(u16(checksum(header)), 10);
  return concat(header, payload);
}

/** A UDP datagram in IP, with its checksum. */
export function udp(version: 4 | 6, sport: number, dport: number, payload: Uint8Array): Bytes {
  const datagram = concat(u16(sport, dport, 8 + payload.length, 0), payload);
  const [from, to] = version === 4 ? V4 : V6;
  const sum = checksum(concat(from!, to!, u16(0, datagram.length, 0, 17), datagram));
  datagram.set(u16(sum === 0 ? 0xffff : sum), 6);
  return ip(version, 17, datagram);
}

/**
 * A capture file's bytes.
 * @param packets IP packets
 * @param keep bytes of each that the capture kept
 */
export function pcap(packets: Uint8Array[], keep = 262144): Bytes {
  const LINKTYPE_RAW = 101;
  const words = (...values: number[]) => new Uint8Array(new Uint32Array(values).buffer);
  const parts: Uint8Array[] = [words(0xa1b2c3d4, 0x00040002, 0, 0, keep, LINKTYPE_RAW)];
  packets.forEach((packet, i) => {
    const kept = packet.subarray(0, keep);
    parts.push(words(i, 0, kept.length, packet.length), kept);
  });
  return concat(...parts);
}
