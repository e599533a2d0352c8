// SPDX-License-Identifier: BSD-2-Clause
// Functions and structs of a shared library, out of `readelf --debug-dump=info`.

/** A C type with typedefs and qualifiers resolved. */
export type CType =
  | { kind: "void" }
  | {
    kind: "base";
    size: number;
    encoding: "signed" | "unsigned" | "boolean" | "float" | "char";
    name: string;
  }
  | { kind: "pointer"; to?: string }
  | { kind: "enum"; size: number }
  | { kind: "struct"; tag: string; size: number }
  | { kind: "array"; element: CType; count: number }
  | { kind: "function" };

export interface CFunction {
  name: string;
  result: CType;
  parameters: CType[];
}

export interface CStruct {
  tag: string;
  size: number;
  members: { name: string; offset: number; type: CType }[];
}

export interface DebugInfo {
  functions: Map<string, CFunction>;
  structs: Map<string, CStruct>;
}

interface Entry {
  tag: string;
  attributes: Map<string, string>;
  children: Entry[];
}

/** Reads the tree of entries, by offset; entries of every compilation unit share the offsets. */
function parseEntries(text: string): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  let open: Entry[] = [];
  let current: Entry | undefined;
  for (const line of text.split("\n")) {
    const head = /^\s*<([0-9a-f]+)><([0-9a-f]+)>: Abbrev Number: (\d+)(?: \((\w+)\))?/.exec(line);
    if (head) {
      const [, depthText, offset, abbrev, tag] = head;
      current = undefined;
      if (abbrev === "0") continue;
      const depth = parseInt(depthText!, 16);
      current = { tag: tag!, attributes: new Map(), children: [] };
      entries.set(offset!, current);
      open = open.slice(0, depth);
      open[depth - 1]?.children.push(current);
      open[depth] = current;
      continue;
    }
    const attribute = /^\s*<[0-9a-f]+>\s+(DW_AT_\w+)\s*:\s?(.*?)\s*$/.exec(line);
    if (attribute && current) current.attributes.set(attribute[1]!, attribute[2]!);
  }
  return entries;
}

/** Names come as "rackwire_x", "(indirect string, offset: 0x0): rackwire_x" or "(strp) (offset: 0): rackwire_x". */
function nameOf(entry: Entry): string {
  const text = entry.attributes.get("DW_AT_name") ?? "";
  return /^(?:\(\w+\)\s*)?(?:\([^)]*\):\s*)?(.*)$/.exec(text)![1]!;
}

function numberOf(entry: Entry, attribute: string): number | undefined {
  const text = entry.attributes.get(attribute);
  return text === undefined ? undefined : Number(/^(?:\(\w+\) )?(0x[0-9a-f]+|\d+)/.exec(text)?.[1]);
}

/** Parses readelf's text. */
export function parseDwarf(text: string): DebugInfo {
  const entries = parseEntries(text);
  const follow = (entry: Entry, attribute = "DW_AT_type"): Entry | undefined => {
    const offset = /<0x([0-9a-f]+)>/.exec(entry.attributes.get(attribute) ?? "")?.[1];
    return offset === undefined ? undefined : entries.get(offset);
  };

  const resolve = (entry: Entry | undefined): CType => {
    if (entry === undefined) return { kind: "void" };
    const size = numberOf(entry, "DW_AT_byte_size") ?? 0;
    switch (entry.tag) {
      case "DW_TAG_typedef":
      case "DW_TAG_const_type":
      case "DW_TAG_volatile_type":
      case "DW_TAG_restrict_type":
      case "DW_TAG_atomic_type":
        return resolve(follow(entry));
      case "DW_TAG_pointer_type": {
        let target = follow(entry);
        while (target?.tag === "DW_TAG_const_type") target = follow(target);
        return target?.tag === "DW_TAG_structure_type"
          ? { kind: "pointer", to: nameOf(target) }
          : { kind: "pointer" };
      }
      case "DW_TAG_enumeration_type":
        return { kind: "enum", size };
      case "DW_TAG_structure_type":
      case "DW_TAG_union_type":
        return { kind: "struct", tag: nameOf(entry), size };
      case "DW_TAG_subroutine_type":
        return { kind: "function" };
      case "DW_TAG_base_type": {
        const encoding = entry.attributes.get("DW_AT_encoding") ?? "";
        const kind = /char/.test(encoding)
          ? "char"
          : /boolean/.test(encoding)
          ? "boolean"
          : /float/.test(encoding)
          ? "float"
          : /unsigned/.test(encoding)
          ? "unsigned"
          : "signed";
        return { kind: "base", size, encoding: kind, name: nameOf(entry) };
      }
      case "DW_TAG_array_type": {
        const dimensions = entry.children.filter((child) => child.tag === "DW_TAG_subrange_type");
        return dimensions.reduceRight<CType>((element, dimension) => {
          const upper = numberOf(dimension, "DW_AT_upper_bound");
          const count = numberOf(dimension, "DW_AT_count") ?? (upper === undefined ? 0 : upper + 1);
          return { kind: "array", element, count };
        }, resolve(follow(entry)));
      }
      default:
        throw new Error(`${entry.tag} is not handled`);
    }
  };

  const functions = new Map<string, CFunction>();
  const structs = new Map<string, CStruct>();
  for (const entry of entries.values()) {
    const declared = entry.attributes.has("DW_AT_declaration");
    if (entry.tag === "DW_TAG_subprogram" && entry.attributes.has("DW_AT_external") && !declared) {
      // An inlined function's body refers to the entry that has its name and parameters.
      const source = follow(entry, "DW_AT_abstract_origin") ?? follow(entry, "DW_AT_specification") ?? entry;
      const name = nameOf(source);
      if (name === "" || functions.has(name)) continue;
      functions.set(name, {
        name,
        result: resolve(follow(source)),
        parameters: source.children
          .filter((child) => child.tag === "DW_TAG_formal_parameter")
          .map((child) => resolve(follow(child))),
      });
    }
    if (entry.tag === "DW_TAG_structure_type" && !declared && nameOf(entry) !== "") {
      structs.set(nameOf(entry), {
        tag: nameOf(entry),
        size: numberOf(entry, "DW_AT_byte_size") ?? 0,
        members: entry.children
          .filter((child) => child.tag === "DW_TAG_member")
          .map((child) => ({
            name: nameOf(child),
            offset: numberOf(child, "DW_AT_data_member_location") ?? 0,
            type: resolve(follow(child)),
          })),
      });
    }
  }
  return { functions, structs };
}

/** Reads a library's debug information. */
export async function readDebugInfo(path: string): Promise<DebugInfo> {
  const { success, stdout, stderr } = await new Deno.Command("readelf", {
    args: ["--debug-dump=info", "--wide", path],
    env: { LC_ALL: "C" },
  }).output();
  if (!success) throw new Error(`readelf ${path}: ${new TextDecoder().decode(stderr)}`);
  return parseDwarf(new TextDecoder().decode(stdout));
}

/** The functions a library exports to those who load it. */
export async function exportedFunctions(path: string): Promise<Set<string>> {
  const { success, stdout, stderr } = await new Deno.Command("readelf", {
    args: ["--dyn-syms", "--wide", path],
    env: { LC_ALL: "C" },
  }).output();
  if (!success) throw new Error(`readelf ${path}: ${new TextDecoder().decode(stderr)}`);
  const names = new Set<string>();
  for (const line of new TextDecoder().decode(stdout).split("\n")) {
    const match = /\bFUNC\s+GLOBAL\s+\w+\s+\d+\s+([\w.]+)/.exec(line);
    if (match) names.add(match[1]!);
  }
  return names;
}
