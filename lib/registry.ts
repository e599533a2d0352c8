// SPDX-License-Identifier: BSD-2-Clause
// Every C library of rackwire. tests/abi checks each against its DWARF; doctor says which are there.

import { dcpimLibrary } from "./dcpim/symbols.ts";
import type { LibrarySpec } from "./ffi/library.ts";
import { hostLibrary } from "./host/symbols.ts";
import { krpingLibrary } from "./krping/symbols.ts";
import { roceLibrary } from "./roce/symbols.ts";

export const libraries: readonly LibrarySpec[] = [
  hostLibrary,
  dcpimLibrary,
  krpingLibrary,
  roceLibrary,
];
