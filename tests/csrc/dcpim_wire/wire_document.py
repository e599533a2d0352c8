#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Keeps docs/dcpim-wire.md, vectors.txt and the codec in agreement.

wire_document.py check   re-derives every packet of vectors.txt from its fields with the tables of the
                         document, and the document's examples; says what differs, status 1 if anything does
wire_document.py write   renews the hex lines of vectors.txt and the document's examples

An encoder of its own: it knows of the format what the document says, and nothing of the C code.
"""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
DOCUMENT = HERE.parents[2] / "docs" / "dcpim-wire.md"
VECTORS = HERE / "data" / "vectors.txt"
BEGIN, END = "<!-- examples:", "<!-- end of examples -->"
FLAG_CRC = 0x04


def table_rows(text):
    """(at, bytes, name) of each row of the first table in text."""
    table = re.search(r"^\| at .*\n(?:\|.*\n)+", text, re.M)
    if not table:
        return []
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]
    return [(int(row[0]), int(row[1]), row[2]) for row in rows]


def read_document():
    """The common header's rows, and by type name: code, header length, rows."""
    text = DOCUMENT.read_text()
    sections = re.split(r"^#{2,3} ", text, flags=re.M)
    common = next(table_rows(s) for s in sections if s.startswith("Common header"))
    types = {}
    for section in sections:
        heading, _, body = section.partition("\n")
        names = re.findall(r"([A-Z_]+) (0x[0-9a-f]{2})", heading)
        if not names:
            continue
        length = int(re.search(r"^Header (\d+) bytes", body, re.M)[1])
        rows = table_rows(body)
        end = 28
        for at, size, name in rows:
            if at != end:
                sys.exit(f"{heading}: {name} is at {at}, after a field that ends at {end}")
            end += size
        if end != length:
            sys.exit(f"{heading}: the table ends at {end}, the header is {length} bytes")
        for name, code in names:
            types[name] = (int(code, 16), length, rows)
    return common, types


def read_vectors():
    """[(kind, name, [(key, [values])...])...] in the file's order."""
    entries = []
    for line in VECTORS.read_text().splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if line[0] != " ":
            entries.append((words[0], words[1], []))
        else:
            entries[-1][2].append((words[0], words[1:]))
    return entries


def ones_complement_sum(data):
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at:at + 2], "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def header_check(packet, header_len):
    header = bytearray(packet[:header_len])
    header[16:18] = bytes(2)
    header[20:24] = bytes(4)
    return 0xFFFF - ones_complement_sum(header)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def encode(common, types, lines):
    fields, blocks, payload, crc = {}, [], b"", False
    for key, words in lines:
        if key == "block":
            blocks.append((int(words[0], 0), int(words[1], 0)))
        elif key == "blocks":  # as many as fit, far apart
            blocks = [(1000 * i + 1, 1000 * i + 500) for i in range(int(words[0]))]
        elif key == "payload":
            payload = bytes.fromhex(words[0])
        elif key == "crc":
            crc = True
        elif key == "type":
            name = words[0]
        elif key != "hex":
            fields[key] = int(words[0], 0)
    code, length, rows = types[name]
    header_len = length + 8 * len(blocks)
    values = {name: 0 for _, _, name in common + rows}
    values.update(fields)
    if name == "DATA":
        values["seq"] = fields["offset"] % 2**32
        values["offset_hi"] = fields["offset"] // 2**32
    elif name == "DATA_MSG":
        values["seq"] = fields["offset"]
    values.pop("offset", None)
    values.update(type=code, version=1, doff=length // 4 * 16, tcp_flags=0x10, nblocks=len(blocks))
    values["len"] = header_len + len(payload)
    values["flags"] |= FLAG_CRC if crc else 0

    packet = bytearray(length)
    for at, size, field in common + rows:
        packet[at:at + size] = values.pop(field).to_bytes(size, "big")
    if values:
        sys.exit(f"the document has no field {', '.join(values)} in {name}")
    for start, end in blocks:
        packet += start.to_bytes(4, "big") + end.to_bytes(4, "big")
    packet += payload
    packet[16:18] = header_check(packet, header_len).to_bytes(2, "big")
    if crc:
        packet[20:24] = crc32c(packet).to_bytes(4, "big")
    return bytes(packet)


def forge(types, packets, lines):
    packet, raw_check = b"", False
    for key, words in lines:
        if key == "from":
            packet = bytearray(packets[words[0]])
        elif key == "set":
            at, value = int(words[0]), bytes.fromhex(words[1])
            packet[at:at + len(value)] = value
        elif key == "cut":
            del packet[int(words[0]):]
        elif key == "append":
            packet += bytes.fromhex(words[0])
        elif key == "fix_len":
            packet[18:20] = len(packet).to_bytes(2, "big")
        elif key == "raw_check":
            raw_check = True
    if not raw_check:
        length = next((length for code, length, _ in types.values() if code == packet[14]), 28)
        length = min(length + 8 * packet[25], len(packet))
        packet[16:18] = header_check(packet, length).to_bytes(2, "big")
        if packet[24] & FLAG_CRC:
            packet[20:24] = bytes(4)
            packet[20:24] = crc32c(packet).to_bytes(4, "big")
    return bytes(packet)


def derive():
    """Bytes of every entry of vectors.txt, by name."""
    common, types = read_document()
    packets = {}
    for kind, name, lines in read_vectors():
        packets[name] = encode(common, types, lines) if kind == "packet" else forge(types, packets, lines)
    return packets


def hex_lines(packet):
    return [packet[at:at + 48].hex() for at in range(0, len(packet), 48)]


def new_vectors(packets):
    """vectors.txt with its hex lines renewed."""
    out, name = [], None

    def finish():
        nonlocal name
        if name is not None:
            while out[-1] == "":
                out.pop()
            out.extend(f"  hex {line}" for line in hex_lines(packets[name]))
            out.append("")
        name = None

    for line in VECTORS.read_text().splitlines():
        if line and line[0] not in " #":
            finish()
            name = line.split()[1]
        if not line.startswith("  hex "):
            out.append(line)
    finish()
    return "\n".join(out).rstrip() + "\n"


def new_document(packets):
    """The document with one example of each type: the packet named as the type in lower case."""
    out = []
    for kind, name, lines in read_vectors():
        fields = {key: words for key, words in lines}
        if kind != "packet" or fields["type"][0].lower() != name:
            continue
        said = [
            f"{key} {' to '.join(words)}" for key, words in lines if key not in ("hex", "type", "payload")
        ]
        packet = packets[name]
        out += ["", f"{fields['type'][0]}: {', '.join(said)}", "", "```"]
        out += [f"{at:4}  {packet[at:at + 16].hex(' ', 2)}" for at in range(0, len(packet), 16)]
        out += ["```"]
    text = DOCUMENT.read_text()
    begin = text.index("\n", text.index(BEGIN))
    return text[:begin] + "\n" + "\n".join(out) + "\n\n" + text[text.index(END):]


def main():
    packets = derive()
    renewed = {VECTORS: new_vectors(packets), DOCUMENT: new_document(packets)}
    if sys.argv[1:] == ["write"]:
        for path, text in renewed.items():
            path.write_text(text)
        return 0
    if sys.argv[1:] != ["check"]:
        print("usage: wire_document.py check|write", file=sys.stderr)
        return 2
    status = 0
    for path, text in renewed.items():
        old = path.read_text().splitlines()
        for number, (have, want) in enumerate(zip(old + [""], text.splitlines() + [""]), 1):
            if have != want:
                print(f"{path.name}:{number}: {have!r} should be {want!r}")
                status = 1
                break
    shown = {fields["type"][0] for fields in
             ({k: w for k, w in lines} for kind, _, lines in read_vectors() if kind == "packet")}
    for name in read_document()[1].keys() - shown:
        print(f"vectors.txt has no packet of type {name}")
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
