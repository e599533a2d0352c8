// SPDX-License-Identifier: BSD-2-Clause
import assert from "node:assert/strict";
import fc from "fast-check";
import { RackwireError } from "../../lib/ffi/errors.ts";
import { defineStruct, type FieldType, type Scalar } from "../../lib/ffi/struct.ts";

Deno.test("a struct is laid out with C's padding", () => {
  const inner = defineStruct("inner", { a: "u8", b: "u32" });
  const outer = defineStruct("outer", { a: "u8", b: "u64", c: "u16", d: inner, e: "char[3]", f: "u16[2]" });
  assert.equal(inner.size, 8);
  assert.deepEqual(outer.fields.map(({ name, offset, size }) => [name, offset, size]), [
    ["a", 0, 1],
    ["b", 8, 8],
    ["c", 16, 2],
    ["d", 20, 8],
    ["e", 28, 3],
    ["f", 32, 4],
  ]);
  assert.equal(outer.size, 40);
  assert.equal(outer.alignment, 8);
});

Deno.test("what is encoded is decoded again, nested and in arrays", () => {
  const inner = defineStruct("inner", { port: "u16", weight: "f64" });
  const outer = defineStruct("outer", {
    name: "char[8]",
    key: "u8[4]",
    list: "i32[3]",
    wide: "u64[2]",
    inner,
  });
  const bytes = outer.encode({
    name: "lö",
    key: [1, 2, 255],
    list: [-1, 2],
    wide: [2n ** 63n, 5],
    inner: { port: 65535, weight: 1.5 },
  });
  assert.deepEqual(outer.decode(bytes), {
    name: "lö",
    key: new Uint8Array([1, 2, 255, 0]),
    list: [-1, 2, 0],
    wide: [2n ** 63n, 5n],
    inner: { port: 65535, weight: 1.5 },
  });
});

Deno.test("values no field can hold are refused, with the field's name", () => {
  const s = defineStruct("s", { small: "u8", signed: "i16", name: "char[4]", list: "u16[2]", wide: "u64" });
  for (
    const [values, field] of [
      [{ small: 256 }, "small"],
      [{ small: -1 }, "small"],
      [{ small: 1.5 }, "small"],
      [{ small: NaN }, "small"],
      [{ signed: 32768 }, "signed"],
      [{ name: "four" }, "name"],
      [{ name: "a\0b" }, "name"],
      [{ list: [1, 2, 3] }, "list"],
      [{ list: [65536] }, "list"],
      [{ wide: 2n ** 64n }, "wide"],
      [{ wide: -1 }, "wide"],
    ] as const
  ) {
    assert.throws(
      () => s.encode(values),
      (error) =>
        error instanceof RackwireError && error.code === "EINVAL" && error.message.includes(`s.${field}`),
    );
  }
  assert.throws(() => s.decode(new Uint8Array(3)), RackwireError);
});

Deno.test("every integer within its range survives, whatever its neighbours", () => {
  const ranges: [Scalar, bigint, bigint][] = [
    ["u8", 0n, 255n],
    ["i8", -128n, 127n],
    ["u16", 0n, 65535n],
    ["i16", -32768n, 32767n],
    ["u32", 0n, 2n ** 32n - 1n],
    ["i32", -(2n ** 31n), 2n ** 31n - 1n],
    ["u64", 0n, 2n ** 64n - 1n],
    ["i64", -(2n ** 63n), 2n ** 63n - 1n],
  ];
  const field = fc.constantFrom(...ranges).chain(([type, min, max]) =>
    fc.bigInt({ min, max }).map((value) => ({ type, value }))
  );
  fc.assert(fc.property(fc.array(field, { minLength: 1, maxLength: 12 }), (list) => {
    const types = Object.fromEntries(list.map(({ type }, i) => [`f${i}`, type as FieldType]));
    const struct = defineStruct("random", types);
    const decoded = struct.decode(
      struct.encode(Object.fromEntries(list.map(({ value }, i) => [`f${i}`, value]))),
    );
    list.forEach(({ value }, i) => assert.equal(BigInt(decoded[`f${i}`] as number), value));
  }));
});
