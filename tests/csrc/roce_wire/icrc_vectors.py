#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Invariant CRCs made with Python's zlib from whole IP packets, by the rules of docs/krping-wire.md.

icrc_vectors.py check   compares data/icrc.txt with what they come to; says what differs, status 1 if anything does
icrc_vectors.py write   renews data/icrc.txt
icrc_vectors.py pcap FILE...   checks the ICRC of every packet in captures of raw IP or Ethernet, says how many

It knows nothing of the C code.
"""

import hashlib
import ipaddress
import pathlib
import struct
import sys
import zlib

VECTORS = pathlib.Path(__file__).resolve().parent / "data" / "icrc.txt"
HEAD = """\
# Invariant CRCs as icrc_vectors.py computes them. Each line: source and destination address, source and
# destination port, IPv4 identification, IPv4 flags and fragment offset, packet from BTH to pad, ICRC.
"""

# (source, destination, source port, identification, flags, bytes from BTH to pad)
PACKETS = [
    ("192.0.2.1", "192.0.2.2", 49152, 0, 0x4000, 12),
    ("192.0.2.1", "192.0.2.2", 49152, 0x1234, 0x4000, 16),
    ("192.0.2.1", "192.0.2.2", 4791, 0xFFFF, 0x0000, 28),
    ("10.255.0.255", "203.0.113.77", 65535, 0x00FF, 0x4000, 40),
    ("127.0.0.1", "127.0.0.2", 1, 0xFF00, 0x4000, 276),
    ("198.51.100.9", "198.51.100.8", 50001, 7, 0x4000, 1040),
    ("198.51.100.9", "198.51.100.8", 50002, 40000, 0x4000, 4128),
    ("2001:db8::1", "2001:db8::2", 49152, 0, 0, 12),
    ("2001:db8::1", "2001:db8::2", 4791, 0, 0, 16),
    ("fe80::1:2:3:4", "fe80::ffff:c000:201", 65535, 0, 0, 28),
    ("::1", "::1", 12345, 0, 0, 276),
    ("2001:db8:ffff::9", "2001:db8:0:8000::", 50001, 0, 0, 1052),
    ("2001:db8:ffff::9", "2001:db8:0:8000::", 50002, 0, 0, 4128),
]


def some_bytes(name, count):
    out = b""
    while len(out) < count:
        out += hashlib.sha256(f"{name} {len(out)}".encode()).digest()
    return out[:count]


def udp_and_packet(sport, packet):
    """UDP header with some checksum, packet; the ICRC is still to come."""
    return struct.pack("!HHHH", sport, 4791, 8 + len(packet) + 4, 0xABCD) + packet


def ip_packet(source, destination, sport, ident, flags, packet):
    data = udp_and_packet(sport, packet)
    if source.version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0x6A, 20 + len(data) + 4, ident, flags, 64, 17, 0x5555)
    else:
        head = struct.pack("!IHBB", 6 << 28 | 0x6A << 20 | 0xBEEF5, len(data) + 4, 17, 63)
    return bytearray(head + source.packed + destination.packed + data)


def icrc(whole):
    """Over an IP packet that ends before its ICRC."""
    masked = bytearray(whole)
    if masked[0] >> 4 == 4:
        udp = 20
        masked[1] = 0xFF  # type of service
        masked[8] = 0xFF  # time to live
        masked[10:12] = b"\xff\xff"  # header checksum
    else:
        udp = 40
        masked[0] |= 0x0F  # traffic class and flow label
        masked[1:4] = b"\xff\xff\xff"
        masked[7] = 0xFF  # hop limit
    masked[udp + 6:udp + 8] = b"\xff\xff"  # UDP checksum
    masked[udp + 8 + 4] = 0xFF  # BTH: FECN, BECN and reserved
    return struct.pack("<I", zlib.crc32(b"\xff" * 8 + masked))


def lines():
    for source, destination, sport, ident, flags, length in PACKETS:
        packet = some_bytes(f"{source} {length}", length)
        whole = ip_packet(ipaddress.ip_address(source), ipaddress.ip_address(destination), sport, ident, flags, packet)
        yield f"{source} {destination} {sport} 4791 {ident} {flags} {packet.hex()} {icrc(whole).hex()}\n"


def captured(path):
    """IP packets of a little-endian capture file."""
    data = pathlib.Path(path).read_bytes()
    magic, link = struct.unpack_from("<I16xI", data)
    skip = {101: 0, 1: 14}[link]
    if magic != 0xA1B2C3D4:
        sys.exit(f"{path}: not a capture file")
    at = 24
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 8)
        yield data[at + 16 + skip:at + 16 + length]
        at += 16 + length


def check_captures(paths):
    right = wrong = 0
    for path in paths:
        for number, whole in enumerate(captured(path), 1):
            if icrc(whole[:-4]) == whole[-4:]:
                right += 1
                continue
            wrong += 1
            print(f"{path}: packet {number}: ICRC {whole[-4:].hex()}, should be {icrc(whole[:-4]).hex()}")
    print(f"{right} right, {wrong} wrong")
    return wrong != 0


def main():
    if sys.argv[1:2] == ["pcap"]:
        return check_captures(sys.argv[2:])
    wanted = HEAD + "".join(lines())
    if sys.argv[1:] == ["write"]:
        VECTORS.write_text(wanted)
        return 0
    if sys.argv[1:] != ["check"]:
        print("usage: icrc_vectors.py check|write|pcap FILE...", file=sys.stderr)
        return 2
    for number, (have, want) in enumerate(zip(VECTORS.read_text().splitlines() + [""], wanted.splitlines() + [""]), 1):
        if have != want:
            print(f"{VECTORS.name}:{number}: {have[:80]!r} should be {want[:80]!r}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
