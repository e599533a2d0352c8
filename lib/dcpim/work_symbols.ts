// SPDX-License-Identifier: BSD-2-Clause
// The part of librackwire_dcpim.so that csrc/include/rackwire_dcpim_work.h documents.

import { defineStruct } from "../ffi/struct.ts";

export const workConfigStruct = defineStruct("rackwire_dcpim_work_config", {
  size: "u32",
  kind: "u32",
  transports: "u32",
  flags: "u32",
  address: "char[64]",
  local: "char[64]",
  port: "u16",
  sport: "u16",
  connections: "u32",
  iodepth: "u32",
  length: "u32",
  count: "u64",
  duration_ns: "u64",
  warmup_ns: "u64",
  warmup_count: "u64",
  interval_ns: "u64",
  timeout_ns: "u64",
  slice_ns: "u64",
  seed: "u64",
});

export const workConnectionStruct = defineStruct("rackwire_dcpim_work_connection", {
  id: "u64",
  transport: "u32",
  message: "u32",
  service: "u32",
  state: "u32",
  error: "i32",
  thread: "u32",
  cpu: "u32",
  srtt_us: "u32",
  peer: "char[80]",
  age_ns: "u64",
  tx_bytes: "u64",
  rx_bytes: "u64",
  requests: "u64",
  verified_bytes: "u64",
  corrupt_bytes: "u64",
  corrupt_at: "u64",
  rtx_bytes: "u64",
});

export const workStructs = [workConfigStruct, workConnectionStruct] as const;

export const workSymbols = {
  rackwire_dcpim_work_open: {
    parameters: [
      "buffer", // const struct rackwire_dcpim_config *engine
      "buffer", // const struct rackwire_dcpim_work_config *config
      "buffer", // void *stats
      "usize", // size_t stats_length
      "buffer", // struct rackwire_dcpim_work **out
      "buffer", // char *error
      "usize", // size_t error_length
    ],
    result: "i32", // int
  },
  rackwire_dcpim_work_stats_length: {
    parameters: ["u32"], // uint32_t threads
    result: "usize", // size_t
  },
  rackwire_dcpim_work_run: {
    parameters: [
      "u64", // struct rackwire_dcpim_work *work
      "buffer", // char *error
      "usize", // size_t error_length
    ],
    result: "i32", // int
    nonblocking: true,
  },
  rackwire_dcpim_work_stop: {
    parameters: ["u64"], // struct rackwire_dcpim_work *work
    result: "void", // void
  },
  rackwire_dcpim_work_close: {
    parameters: ["u64"], // struct rackwire_dcpim_work *work
    result: "void", // void
  },
  rackwire_dcpim_work_port: {
    parameters: [
      "u64", // const struct rackwire_dcpim_work *work
      "u32", // uint32_t transport
    ],
    result: "u16", // uint16_t
  },
  rackwire_dcpim_work_connections: {
    parameters: [
      "u64", // struct rackwire_dcpim_work *work
      "buffer", // struct rackwire_dcpim_work_connection *rows
      "u32", // uint32_t max
    ],
    result: "u32", // uint32_t
  },
  rackwire_dcpim_work_engine: {
    parameters: ["u64"], // struct rackwire_dcpim_work *work
    result: "u64", // struct rackwire_dcpim_engine *
  },
} as const satisfies Deno.ForeignLibraryInterface;
