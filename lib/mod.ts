// SPDX-License-Identifier: BSD-2-Clause
// rackwire as a library.

export * from "./dcpim/mod.ts";
export * as roce from "./roce/mod.ts";
export { RackwireError } from "./ffi/errors.ts";
export type { ExitStatus, RackwireErrorOptions } from "./ffi/errors.ts";
export { type EngineFact, engineFacts } from "./host/engines.ts";
export { type HostFacts, hostFacts, type Probe } from "./host/facts.ts";
export { type Address, resolveHost } from "./host/resolve.ts";
export * from "./krping/mod.ts";
export { type Bucket, Histogram, type Summary } from "./measure/histogram.ts";
