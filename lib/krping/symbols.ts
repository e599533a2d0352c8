// SPDX-License-Identifier: BSD-2-Clause
// librackwire_krping.so as csrc/include/rackwire_krping.h documents it.

import { defineLibrary } from "../ffi/library.ts";
import { defineStruct } from "../ffi/struct.ts";
import { blockStructs, blockSymbols } from "./block_symbols.ts";

export const krpingConfigStruct = defineStruct("rackwire_krping_config", {
  size: "u32",
  engine: "u32",
  kind: "u32",
  flags: "u32",
  address: "char[64]",
  local: "char[64]",
  port: "u16",
  tos: "u8",
  op: "u8",
  length: "u32",
  count: "u64",
  warmup_count: "u64",
  duration_ns: "u64",
  interval_ns: "u64",
  timeout_ns: "u64",
  txdepth: "u32",
  connections: "u32",
  mtu: "u32",
  cpu: "i32",
  memory: "u64",
  seed: "u64",
  spin_ns: "u64",
  retry_count: "u32",
  rnr_retry_count: "u32",
  ack_timeout: "u32",
  reserved: "u32",
});

export const krpingConnectionStruct = defineStruct("rackwire_krping_connection", {
  id: "u64",
  kind: "u32",
  state: "u32",
  error: "i32",
  classic: "u32",
  peer: "char[80]",
  age_ns: "u64",
  counters: "u64[8]",
  pings: "u64",
  verified_bytes: "u64",
  corrupt_bytes: "u64",
  length: "u32",
  qp_num: "u32",
});

export const krpingLibrary = defineLibrary({
  name: "krping",
  abiVersion: 1,
  symbols: {
    rackwire_krping_abi_version: {
      parameters: [],
      result: "u32", // uint32_t
    },
    rackwire_krping_stats_length: {
      parameters: [],
      result: "usize", // size_t
    },
    rackwire_krping_open: {
      parameters: [
        "buffer", // const struct rackwire_krping_config *config
        "buffer", // void *stats
        "usize", // size_t stats_length
        "buffer", // struct rackwire_krping_work **out
        "buffer", // char *error
        "usize", // size_t error_length
      ],
      result: "i32", // int
      nonblocking: true,
    },
    rackwire_krping_run: {
      parameters: [
        "u64", // struct rackwire_krping_work *work
        "buffer", // char *error
        "usize", // size_t error_length
      ],
      result: "i32", // int
      nonblocking: true,
    },
    rackwire_krping_stop: {
      parameters: ["u64"], // struct rackwire_krping_work *work
      result: "void", // void
    },
    rackwire_krping_close: {
      parameters: ["u64"], // struct rackwire_krping_work *work
      result: "void", // void
    },
    rackwire_krping_port: {
      parameters: ["u64"], // const struct rackwire_krping_work *work
      result: "u16", // uint16_t
    },
    rackwire_krping_device: {
      parameters: [
        "u64", // const struct rackwire_krping_work *work
        "buffer", // char *name
        "usize", // size_t length
      ],
      result: "void", // void
    },
    rackwire_krping_mtu: {
      parameters: ["u64"], // const struct rackwire_krping_work *work
      result: "u32", // uint32_t
    },
    rackwire_krping_connections: {
      parameters: [
        "u64", // struct rackwire_krping_work *work
        "buffer", // struct rackwire_krping_connection *rows
        "u32", // uint32_t max
      ],
      result: "u32", // uint32_t
    },
    rackwire_krping_lines: {
      parameters: [
        "u64", // struct rackwire_krping_work *work
        "buffer", // char *buffer
        "u32", // uint32_t length
        "buffer", // uint64_t *lost
      ],
      result: "u32", // uint32_t
    },
    rackwire_krping_control: {
      parameters: [
        "u64", // struct rackwire_krping_work *work
        "buffer", // const char *directory
        "buffer", // char *path
        "usize", // size_t length
      ],
      result: "i32", // int
    },
    rackwire_krping_probe: {
      parameters: [
        "u32", // uint32_t engine
        "buffer", // char *error
        "usize", // size_t error_length
      ],
      result: "i32", // int
    },
    ...blockSymbols,
  },
  structs: [krpingConfigStruct, krpingConnectionStruct, ...blockStructs],
  handles: ["rackwire_krping_work", "rackwire_krping_exporter", "rackwire_krping_nbd"],
});
