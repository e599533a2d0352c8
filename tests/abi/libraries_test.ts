// SPDX-License-Identifier: BSD-2-Clause
// Every declaration in lib/registry.ts against the library it describes.

import assert from "node:assert/strict";
import { defineLibrary, libraryPath, type LibrarySpec } from "../../lib/ffi/library.ts";
import { defineStruct, type Fields } from "../../lib/ffi/struct.ts";
import { hostFactsStruct, hostLibrary } from "../../lib/host/symbols.ts";
import { libraries } from "../../lib/registry.ts";
import { compareLibrary } from "./compare.ts";
import { exportedFunctions, readDebugInfo } from "./dwarf.ts";

async function problems(spec: LibrarySpec, path = libraryPath(spec.name)): Promise<string[]> {
  return compareLibrary(spec, await readDebugInfo(path), await exportedFunctions(path));
}

for (const spec of libraries) {
  Deno.test(`librackwire_${spec.name}: symbols and structs match the library`, async () => {
    assert.deepEqual(await problems(spec), []);
  });

  Deno.test(`librackwire_${spec.name}: its sanitized build has the same symbols and structs`, async () => {
    assert.deepEqual(await problems(spec, `build/asan/lib/librackwire_${spec.name}.so`), []);
  });

  Deno.test(`librackwire_${spec.name}: every function it exports is its own`, async () => {
    const foreign = [...await exportedFunctions(libraryPath(spec.name))]
      .filter((name) => !name.startsWith(`rackwire_${spec.name}_`));
    assert.deepEqual(foreign, []);
  });
}

const { symbols } = hostLibrary;

function hostWith(changed: Partial<LibrarySpec>): LibrarySpec {
  return { ...hostLibrary, ...changed } as LibrarySpec;
}

/** The facts struct with one field's type changed, or left out. */
function factsWith(field: string, type: string | undefined) {
  const fields = Object.fromEntries(
    hostFactsStruct.fields.filter((each) => each.name !== field || type !== undefined)
      .map((each) => [each.name, each.name === field ? type! : each.type]),
  ) as Fields;
  return hostWith({ structs: [defineStruct(hostFactsStruct.name, fields)] });
}

const WRONG: [what: string, spec: LibrarySpec, complaint: RegExp][] = [
  [
    "a parameter of another width",
    hostWith({
      symbols: { ...symbols, rackwire_host_facts: { parameters: ["buffer", "u32"], result: "i32" } },
    }),
    /parameter 2 of rackwire_host_facts/,
  ],
  [
    "a number for a pointer",
    hostWith({
      symbols: { ...symbols, rackwire_host_facts: { parameters: ["u64", "usize"], result: "i32" } },
    }),
    /parameter 1 of rackwire_host_facts is pointer/,
  ],
  [
    "a number for a pointer that is no handle",
    hostWith({
      symbols: { ...symbols, rackwire_host_facts: { parameters: ["u64", "usize"], result: "i32" } },
      handles: ["rackwire_event"],
    }),
    /parameter 1 of rackwire_host_facts is pointer/,
  ],
  [
    "a missing parameter",
    hostWith({
      symbols: { ...symbols, rackwire_host_facts: { parameters: ["buffer"], result: "i32" } },
    }),
    /takes 2 parameters in C, 1 here/,
  ],
  [
    "a result of another sign",
    hostWith({
      symbols: { ...symbols, rackwire_host_facts: { parameters: ["buffer", "usize"], result: "u32" } },
    }),
    /returns int in C, u32 here/,
  ],
  [
    "a function that is not there",
    hostWith({
      symbols: { ...symbols, rackwire_host_nothing: { parameters: [], result: "void" } },
    }),
    /rackwire_host_nothing is not exported/,
  ],
  ["no version function", defineLibrary({ ...hostLibrary, symbols: {} }), /abi_version is not among/],
  ["a field of another width", factsWith("euid", "u64"), /euid is .* in C, u64 here/],
  ["a field of another sign", factsWith("packet_errno", "u32"), /packet_errno is .* in C, u32 here/],
  ["an array of another length", factsWith("machine", "char[64]"), /machine is char\[65\] in C/],
  ["a field left out", factsWith("page_bytes", undefined), /has the fields/],
  [
    "a struct that is not there",
    hostWith({ structs: [defineStruct("rackwire_nothing", { a: "u8" })] }),
    /struct rackwire_nothing is not in the library/,
  ],
];

Deno.test("the check takes a number for a handle", async () => {
  const spec = hostWith({
    symbols: { ...symbols, rackwire_host_facts: { parameters: ["u64", "usize"], result: "i32" } },
    handles: ["rackwire_host_facts"],
  });
  assert.deepEqual(await problems(spec), []);
});

for (const [what, spec, complaint] of WRONG) {
  Deno.test(`the check refuses ${what}`, async () => {
    assert.match((await problems(spec)).join("\n"), complaint);
  });
}
