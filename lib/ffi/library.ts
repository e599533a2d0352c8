// SPDX-License-Identifier: BSD-2-Clause
// Loading our C libraries: the only place that calls Deno.dlopen.

import { RackwireError } from "./errors.ts";
import type { AnyStruct } from "./struct.ts";

/** One C library as TypeScript sees it; lib/<service>/symbols.ts declares it, lib/registry.ts lists it. */
export interface LibrarySpec<S extends Deno.ForeignLibraryInterface = Deno.ForeignLibraryInterface> {
  /** librackwire_<name>.so */
  readonly name: string;
  /** What `rackwire_<name>_abi_version()` must return. */
  readonly abiVersion: number;
  /** The functions, with their C types as comments; includes `rackwire_<name>_abi_version`. */
  readonly symbols: S;
  /** The structs that cross the seam. */
  readonly structs: readonly AnyStruct[];
  /**
   * Structs that only C looks into, whose pointers are declared as "u64": a pointer that C wrote into a
   * buffer can be passed on so, where Deno would want every permission to make a pointer of it.
   */
  readonly handles?: readonly string[];
}

/** Declares a library, keeping the symbols' exact types. */
export function defineLibrary<const S extends Deno.ForeignLibraryInterface>(
  spec: LibrarySpec<S>,
): LibrarySpec<S> {
  return spec;
}

/**
 * The directory the libraries are in: RACKWIRE_LIBDIR where set, else beside the program when it is a
 * bundle, else the checkout's build/lib.
 */
export function libraryDirectory(): string {
  const given = Deno.env.get("RACKWIRE_LIBDIR");
  if (given) return given;
  const inCheckout = import.meta.url.endsWith("/lib/ffi/library.ts");
  const url = new URL(inCheckout ? "../../build/lib" : ".", import.meta.url);
  return decodeURIComponent(url.pathname).replace(/\/$/, "");
}

export function libraryPath(name: string): string {
  return `${libraryDirectory()}/librackwire_${name}.so`;
}

/** Whether the library's file is there; it may still fail to load. */
export function libraryExists(name: string): boolean {
  try {
    return Deno.statSync(libraryPath(name)).isFile;
  } catch {
    return false;
  }
}

const loaded = new Map<string, Deno.DynamicLibrary<Deno.ForeignLibraryInterface>>();

/**
 * Loads a library once and returns its functions. Nothing is loaded before its engine is asked for.
 * @throws RackwireError LIBRARY_MISSING, LIBRARY_UNLOADABLE or ABI_MISMATCH, with exit status 3
 */
export function loadLibrary<S extends Deno.ForeignLibraryInterface>(
  spec: LibrarySpec<S>,
): Deno.StaticForeignLibraryInterface<S> {
  const path = libraryPath(spec.name);
  let library = loaded.get(path);
  if (library === undefined) {
    if (!libraryExists(spec.name)) {
      throw new RackwireError("LIBRARY_MISSING", `${path} is not there`, {
        hint: "build it with: make build",
        exitStatus: 3,
      });
    }
    try {
      library = Deno.dlopen(path, spec.symbols) as Deno.DynamicLibrary<Deno.ForeignLibraryInterface>;
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new RackwireError("LIBRARY_UNLOADABLE", `cannot load ${path}: ${why}`, {
        hint: "build it again with: make build",
        exitStatus: 3,
        cause,
      });
    }
    const version = (library.symbols as Record<string, () => number>)[`rackwire_${spec.name}_abi_version`]!();
    if (version !== spec.abiVersion) {
      library.close();
      throw new RackwireError(
        "ABI_MISMATCH",
        `${path} has ABI version ${version}, this program needs ${spec.abiVersion}`,
        { hint: "build both from the same sources: make build", exitStatus: 3 },
      );
    }
    loaded.set(path, library);
  }
  return library.symbols as unknown as Deno.StaticForeignLibraryInterface<S>;
}

/** A string as C wants it: UTF-8 with a zero at the end. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new RackwireError("EINVAL", "text with a zero byte cannot be passed to C");
  return new TextEncoder().encode(`${text}\0`);
}
