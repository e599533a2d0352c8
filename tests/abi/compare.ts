// SPDX-License-Identifier: BSD-2-Clause
// What a TypeScript declaration of a library gets wrong, one line each.

import type { LibrarySpec } from "../../lib/ffi/library.ts";
import type { AnyStruct, FieldType } from "../../lib/ffi/struct.ts";
import type { CType, DebugInfo } from "./dwarf.ts";

export function describe(type: CType): string {
  switch (type.kind) {
    case "base":
      return type.name;
    case "struct":
      return `struct ${type.tag}`;
    case "array":
      return `${describe(type.element)}[${type.count}]`;
    case "enum":
      return `enum of ${type.size} bytes`;
    default:
      return type.kind;
  }
}

/** Deno's name of an integer or float type: "u32" for uint32_t. */
function scalarName(type: CType): string | undefined {
  if (type.kind === "enum") return `u${type.size * 8}`;
  if (type.kind !== "base") return undefined;
  if (type.encoding === "float") return `f${type.size * 8}`;
  if (type.encoding === "boolean") return "bool";
  // char is signed on x86-64 and unsigned on arm64; a schema that means bytes says uint8_t.
  if (type.encoding === "char") {
    return /unsigned/.test(type.name) ? "u8" : /signed/.test(type.name) ? "i8" : "char";
  }
  return `${type.encoding === "signed" ? "i" : "u"}${type.size * 8}`;
}

const POINTERS = new Set(["buffer", "pointer", "function"]);
const SAME_AS: Record<string, string> = { usize: "u64", isize: "i64" };

function nativeMatches(
  native: Deno.NativeType | Deno.NativeResultType,
  type: CType,
  handles: readonly string[],
): boolean {
  if (typeof native !== "string") return false;
  if (native === "void") return type.kind === "void";
  if (type.kind === "pointer") {
    return POINTERS.has(native) || (native === "u64" && type.to !== undefined && handles.includes(type.to));
  }
  return scalarName(type) === (SAME_AS[native] ?? native);
}

function fieldMatches(field: FieldType, type: CType): boolean {
  if (typeof field !== "string") {
    return type.kind === "struct" && type.tag === field.name && type.size === field.size;
  }
  const array = /^(\w+)\[(\d+)\]$/.exec(field);
  if (array) {
    // A struct of the system's, such as sockaddr_storage, is declared as the bytes it occupies.
    if (type.kind === "struct") return array[1] === "u8" && Number(array[2]) === type.size;
    return type.kind === "array" && type.count === Number(array[2]) && scalarName(type.element) === array[1];
  }
  // A pointer inside a struct is declared as the u64 it occupies.
  return scalarName(type) === field || (type.kind === "pointer" && field === "u64");
}

export function compareStruct(schema: AnyStruct, info: DebugInfo): string[] {
  const actual = info.structs.get(schema.name);
  if (actual === undefined) return [`struct ${schema.name} is not in the library`];
  const problems: string[] = [];
  if (actual.size !== schema.size) {
    problems.push(`struct ${schema.name} is ${actual.size} bytes in C, ${schema.size} here`);
  }
  const names = actual.members.map((member) => member.name).join(" ");
  const here = schema.fields.map((field) => field.name).join(" ");
  if (names !== here) problems.push(`struct ${schema.name} has the fields ${names} in C, ${here} here`);
  for (const field of schema.fields) {
    const member = actual.members.find((each) => each.name === field.name);
    if (member === undefined) continue;
    if (member.offset !== field.offset) {
      problems.push(`${schema.name}.${field.name} is at ${member.offset} in C, ${field.offset} here`);
    }
    if (!fieldMatches(field.type, member.type)) {
      const type = typeof field.type === "string" ? field.type : field.type.name;
      problems.push(`${schema.name}.${field.name} is ${describe(member.type)} in C, ${type} here`);
    }
  }
  return problems;
}

export function compareLibrary(spec: LibrarySpec, info: DebugInfo, exported: Set<string>): string[] {
  const problems: string[] = [];
  if (!(`rackwire_${spec.name}_abi_version` in spec.symbols)) {
    problems.push(`rackwire_${spec.name}_abi_version is not among the symbols`);
  }
  const handles = spec.handles ?? [];
  for (const [name, symbol] of Object.entries(spec.symbols)) {
    if (!("parameters" in symbol)) {
      problems.push(`${name} is not a function`);
      continue;
    }
    const cName = symbol.name ?? name;
    if (!exported.has(cName)) problems.push(`${cName} is not exported by the library`);
    const actual = info.functions.get(cName);
    if (actual === undefined) {
      problems.push(`${cName} has no debug information`);
      continue;
    }
    if (!nativeMatches(symbol.result, actual.result, handles)) {
      problems.push(`${cName} returns ${describe(actual.result)} in C, ${symbol.result} here`);
    }
    if (actual.parameters.length !== symbol.parameters.length) {
      problems.push(
        `${cName} takes ${actual.parameters.length} parameters in C, ${symbol.parameters.length} here`,
      );
    }
    symbol.parameters.forEach((native, i) => {
      const type = actual.parameters[i];
      if (type !== undefined && !nativeMatches(native, type, handles)) {
        problems.push(`parameter ${i + 1} of ${cName} is ${describe(type)} in C, ${native} here`);
      }
    });
  }
  for (const schema of spec.structs) problems.push(...compareStruct(schema, info));
  return problems;
}
