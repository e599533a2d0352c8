// SPDX-License-Identifier: BSD-2-Clause
// The part of librackwire_krping.so that csrc/include/rackwire_krping_block.h documents.

import { defineStruct } from "../ffi/struct.ts";

export const exportStruct = defineStruct("rackwire_krping_export", {
  name: "char[32]",
  file: "char[256]",
  length: "u64",
  flags: "u32",
  reserved: "u32",
});

export const exportConfigStruct = defineStruct("rackwire_krping_export_config", {
  size: "u32",
  engine: "u32",
  address: "char[64]",
  port: "u16",
  exports_count: "u16",
  threads: "u32",
  depth: "u32",
  flags: "u32",
  memory: "u64",
  mtu: "u32",
  reserved: "u32",
});

export const nbdConfigStruct = defineStruct("rackwire_krping_nbd_config", {
  size: "u32",
  engine: "u32",
  peer: "char[64]",
  local: "char[64]",
  port: "u16",
  tcp_port: "u16",
  on_loss: "u32",
  unix_path: "char[108]",
  tcp_address: "char[64]",
  depth: "u32",
  flags: "u32",
  timeout_ns: "u64",
  reconnect_ns: "u64",
  max_clients: "u32",
  mtu: "u32",
  memory: "u64",
});

export const exportInfoStruct = defineStruct("rackwire_krping_export_info", {
  name: "char[32]",
  length: "u64",
  read_only: "u32",
  persistent: "u32",
});

export const blockStructs = [exportStruct, exportConfigStruct, nbdConfigStruct, exportInfoStruct] as const;

export const blockSymbols = {
  rackwire_krping_block_stats_length: {
    parameters: [],
    result: "usize", // size_t
  },
  rackwire_krping_export_open: {
    parameters: [
      "buffer", // const struct rackwire_krping_export_config *config
      "buffer", // const struct rackwire_krping_export *exports
      "buffer", // void *stats
      "usize", // size_t stats_length
      "buffer", // struct rackwire_krping_exporter **out
      "buffer", // char *error
      "usize", // size_t error_length
    ],
    result: "i32", // int
  },
  rackwire_krping_export_run: {
    parameters: [
      "u64", // struct rackwire_krping_exporter *exporter
      "buffer", // char *error
      "usize", // size_t error_length
    ],
    result: "i32", // int
    nonblocking: true,
  },
  rackwire_krping_export_stop: {
    parameters: ["u64"], // struct rackwire_krping_exporter *exporter
    result: "void", // void
  },
  rackwire_krping_export_close: {
    parameters: ["u64"], // struct rackwire_krping_exporter *exporter
    result: "void", // void
  },
  rackwire_krping_export_port: {
    parameters: ["u64"], // const struct rackwire_krping_exporter *exporter
    result: "u16", // uint16_t
  },
  rackwire_krping_export_length: {
    parameters: [
      "u64", // const struct rackwire_krping_exporter *exporter
      "u32", // uint32_t index
    ],
    result: "u64", // uint64_t
  },
  rackwire_krping_nbd_open: {
    parameters: [
      "buffer", // const struct rackwire_krping_nbd_config *config
      "buffer", // void *stats
      "usize", // size_t stats_length
      "buffer", // struct rackwire_krping_nbd **out
      "buffer", // char *error
      "usize", // size_t error_length
    ],
    result: "i32", // int
    nonblocking: true,
  },
  rackwire_krping_nbd_run: {
    parameters: [
      "u64", // struct rackwire_krping_nbd *nbd
      "buffer", // char *error
      "usize", // size_t error_length
    ],
    result: "i32", // int
    nonblocking: true,
  },
  rackwire_krping_nbd_stop: {
    parameters: ["u64"], // struct rackwire_krping_nbd *nbd
    result: "void", // void
  },
  rackwire_krping_nbd_close: {
    parameters: ["u64"], // struct rackwire_krping_nbd *nbd
    result: "void", // void
  },
  rackwire_krping_nbd_port: {
    parameters: ["u64"], // const struct rackwire_krping_nbd *nbd
    result: "u16", // uint16_t
  },
  rackwire_krping_nbd_exports: {
    parameters: [
      "u64", // struct rackwire_krping_nbd *nbd
      "buffer", // struct rackwire_krping_export_info *rows
      "u32", // uint32_t max
    ],
    result: "u32", // uint32_t
  },
} as const;
