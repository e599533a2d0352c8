// SPDX-License-Identifier: BSD-2-Clause
// C structs that cross the seam: declared once, laid out by C's rules, encoded and decoded.
//
//   const config = defineStruct("rackwire_dcpim_config", {
//     mtu: "u32",
//     rate_bps: "u64",
//     device: "char[16]",
//   });
//   const bytes = config.encode({ mtu: 1500, rate_bps: 10_000_000_000, device: "eth0" });
//
// Fields are in C's order and under C's names; tests/abi compares the result with the library's DWARF.

import { RackwireError } from "./errors.ts";

const SCALARS = {
  u8: { size: 1, min: 0n, max: 0xffn },
  i8: { size: 1, min: -0x80n, max: 0x7fn },
  u16: { size: 2, min: 0n, max: 0xffffn },
  i16: { size: 2, min: -0x8000n, max: 0x7fffn },
  u32: { size: 4, min: 0n, max: 0xffff_ffffn },
  i32: { size: 4, min: -0x8000_0000n, max: 0x7fff_ffffn },
  u64: { size: 8, min: 0n, max: 0xffff_ffff_ffff_ffffn },
  i64: { size: 8, min: -0x8000_0000_0000_0000n, max: 0x7fff_ffff_ffff_ffffn },
  f64: { size: 8, min: 0n, max: 0n },
} as const;

export type Scalar = keyof typeof SCALARS;
/** `char[n]` is a zero-terminated string, `u8[n]` bytes, any other array a list. */
export type FieldType = Scalar | `char[${number}]` | `${Scalar}[${number}]` | AnyStruct;
export type Fields = Record<string, FieldType>;

type Decoded<T> = T extends "u64" | "i64" ? bigint
  : T extends Scalar ? number
  : T extends `char[${number}]` ? string
  : T extends `u8[${number}]` ? Uint8Array
  : T extends `u64[${number}]` | `i64[${number}]` ? bigint[]
  : T extends `${Scalar}[${number}]` ? number[]
  : T extends StructType<infer F> ? DecodedFields<F>
  : never;

type Encodable<T> = T extends Scalar ? number | bigint
  : T extends `char[${number}]` ? string
  : T extends `u8[${number}]` ? ArrayLike<number>
  : T extends `${Scalar}[${number}]` ? ArrayLike<number | bigint>
  : T extends StructType<infer F> ? EncodableFields<F>
  : never;

export type DecodedFields<F extends Fields> = { [K in keyof F]: Decoded<F[K]> };
/** Fields that are left out are zero. */
export type EncodableFields<F extends Fields> = { [K in keyof F]?: Encodable<F[K]> };

export interface FieldLayout {
  name: string;
  type: FieldType;
  /** Bytes from the start of the struct. */
  offset: number;
  size: number;
}

/** A struct of any fields, for code that only looks at layouts. */
// deno-lint-ignore no-explicit-any
export type AnyStruct = StructType<any>;

export interface StructType<F extends Fields> {
  /** The C tag, without `struct`. */
  readonly name: string;
  readonly size: number;
  readonly alignment: number;
  readonly fields: readonly FieldLayout[];
  /** Memory for C to fill in. */
  allocate(): Uint8Array<ArrayBuffer>;
  /** @throws RackwireError EINVAL for a value its field cannot hold. */
  encode(values: EncodableFields<F>): Uint8Array<ArrayBuffer>;
  decode(bytes: Uint8Array, offset?: number): DecodedFields<F>;
}

interface Shape {
  /** "char", a scalar, or a nested struct. */
  element: Scalar | "char" | AnyStruct;
  /** Elements of an array; undefined for a single value. */
  count: number | undefined;
  elementSize: number;
  alignment: number;
}

function shapeOf(type: FieldType): Shape {
  if (typeof type !== "string") {
    return { element: type, count: undefined, elementSize: type.size, alignment: type.alignment };
  }
  const match = /^(\w+)(?:\[(\d+)\])?$/.exec(type);
  const element = match?.[1] as Scalar | "char";
  const size = element === "char" ? 1 : SCALARS[element]?.size;
  if (match === null || size === undefined) throw new TypeError(`no C type ${type}`);
  const count = match[2] === undefined ? undefined : Number(match[2]);
  return { element, count, elementSize: size, alignment: size };
}

function outOfRange(struct: string, field: string, value: unknown, type: FieldType): RackwireError {
  const name = typeof type === "string" ? type : type.name;
  return new RackwireError("EINVAL", `${struct}.${field} cannot hold ${value} (it is a ${name})`);
}

function putScalar(view: DataView, offset: number, type: Scalar, value: number | bigint): boolean {
  if (type === "f64") {
    view.setFloat64(offset, Number(value), true);
    return true;
  }
  if (typeof value === "number" && !Number.isInteger(value)) return false;
  const integer = BigInt(value);
  const { size, min, max } = SCALARS[type];
  if (integer < min || integer > max) return false;
  if (size === 8) view.setBigUint64(offset, BigInt.asUintN(64, integer), true);
  else if (size === 4) view.setUint32(offset, Number(BigInt.asUintN(32, integer)), true);
  else if (size === 2) view.setUint16(offset, Number(BigInt.asUintN(16, integer)), true);
  else view.setUint8(offset, Number(BigInt.asUintN(8, integer)));
  return true;
}

function getScalar(view: DataView, offset: number, type: Scalar): number | bigint {
  switch (type) {
    case "u8":
      return view.getUint8(offset);
    case "i8":
      return view.getInt8(offset);
    case "u16":
      return view.getUint16(offset, true);
    case "i16":
      return view.getInt16(offset, true);
    case "u32":
      return view.getUint32(offset, true);
    case "i32":
      return view.getInt32(offset, true);
    case "u64":
      return view.getBigUint64(offset, true);
    case "i64":
      return view.getBigInt64(offset, true);
    case "f64":
      return view.getFloat64(offset, true);
  }
}

function encodeField(
  struct: string,
  bytes: Uint8Array<ArrayBuffer>,
  layout: FieldLayout,
  value: unknown,
): void {
  const { name, type, offset } = layout;
  const { element, count, elementSize } = shapeOf(type);
  const view = new DataView(bytes.buffer);
  if (typeof element !== "string") {
    bytes.set(element.encode(value as EncodableFields<Fields>), offset);
  } else if (element === "char") {
    const text = new TextEncoder().encode(value as string);
    // The last byte stays zero; a zero inside would silently cut the text short.
    if (text.length >= (count ?? 1) || text.includes(0)) throw outOfRange(struct, name, value, type);
    bytes.set(text, offset);
  } else if (count === undefined) {
    if (!putScalar(view, offset, element, value as number)) throw outOfRange(struct, name, value, type);
  } else {
    const list = value as ArrayLike<number | bigint>;
    if (list.length > count) throw outOfRange(struct, name, `${list.length} elements`, type);
    for (let i = 0; i < list.length; i++) {
      if (!putScalar(view, offset + i * elementSize, element, list[i]!)) {
        throw outOfRange(struct, name, list[i], type);
      }
    }
  }
}

function decodeField(bytes: Uint8Array, base: number, layout: FieldLayout): unknown {
  const { element, count, elementSize } = shapeOf(layout.type);
  const offset = base + layout.offset;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (typeof element !== "string") return element.decode(bytes, offset);
  if (element === "char") {
    const text = bytes.subarray(offset, offset + layout.size);
    const end = text.indexOf(0);
    return new TextDecoder().decode(end < 0 ? text : text.subarray(0, end));
  }
  if (count === undefined) return getScalar(view, offset, element);
  if (element === "u8") return bytes.slice(offset, offset + count);
  return Array.from({ length: count }, (_, i) => getScalar(view, offset + i * elementSize, element));
}

/** Lays out a struct as gcc does on Linux's 64-bit little-endian machines. */
export function defineStruct<const F extends Fields>(name: string, types: F): StructType<F> {
  const fields: FieldLayout[] = [];
  let end = 0;
  let alignment = 1;
  for (const [field, type] of Object.entries(types)) {
    const shape = shapeOf(type);
    const size = shape.elementSize * (shape.count ?? 1);
    const offset = Math.ceil(end / shape.alignment) * shape.alignment;
    fields.push({ name: field, type, offset, size });
    end = offset + size;
    alignment = Math.max(alignment, shape.alignment);
  }
  const size = Math.ceil(end / alignment) * alignment;

  return {
    name,
    size,
    alignment,
    fields,
    allocate: () => new Uint8Array(size),
    encode(values) {
      const bytes = new Uint8Array(size);
      for (const layout of fields) {
        const value = values[layout.name];
        if (value !== undefined) encodeField(name, bytes, layout, value);
      }
      return bytes;
    },
    decode(bytes, offset = 0) {
      if (bytes.length < offset + size) {
        throw new RackwireError(
          "EINVAL",
          `${name} is ${size} bytes, only ${bytes.length - offset} are there`,
        );
      }
      return Object.fromEntries(
        fields.map((layout) => [layout.name, decodeField(bytes, offset, layout)]),
      ) as DecodedFields<F>;
    },
  };
}
