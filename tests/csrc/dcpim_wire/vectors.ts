// SPDX-License-Identifier: BSD-2-Clause
// Reads data/vectors.txt, which describes its own format.

export interface Vector {
  name: string;
  forged: boolean;
  /** Fields of a valid packet by their names in docs/dcpim-wire.md; absent ones are zero. */
  fields: Map<string, bigint>;
  type: string;
  crc: boolean;
  blocks: [bigint, bigint][];
  payload: string;
  bytes: Uint8Array<ArrayBuffer>;
}

const FILE = new URL("data/vectors.txt", import.meta.url);

/** The golden and the forged packets, in the file's order. */
export async function readVectors(): Promise<Vector[]> {
  const vectors: Vector[] = [];
  const hex = new Map<Vector, string>();
  for (const line of (await Deno.readTextFile(FILE)).split("\n")) {
    if (line.startsWith("#") || line.trim() === "") continue;
    const [key = "", value = "", second = ""] = line.trim().split(" ");
    if (!line.startsWith(" ")) {
      vectors.push({
        name: value,
        forged: key === "forged",
        fields: new Map(),
        type: "",
        crc: false,
        blocks: [],
        payload: "",
        bytes: new Uint8Array(),
      });
      continue;
    }
    const vector = vectors.at(-1)!;
    if (key === "hex") hex.set(vector, (hex.get(vector) ?? "") + value);
    else if (vector.forged) continue;
    else if (key === "type") vector.type = value;
    else if (key === "crc") vector.crc = true;
    else if (key === "payload") vector.payload = value;
    else if (key === "block") vector.blocks.push([BigInt(value), BigInt(second)]);
    else if (key === "blocks") {
      for (let i = 0n; i < BigInt(value); i++) vector.blocks.push([1000n * i + 1n, 1000n * i + 500n]);
    } else vector.fields.set(key, BigInt(value));
  }
  for (const vector of vectors) vector.bytes = Uint8Array.fromHex(hex.get(vector) ?? "");
  return vectors;
}
