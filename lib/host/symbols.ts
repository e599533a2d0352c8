// SPDX-License-Identifier: BSD-2-Clause
// librackwire_host.so as TypeScript sees it; csrc/include/rackwire_host.h documents it.

import { defineLibrary } from "../ffi/library.ts";
import { defineStruct } from "../ffi/struct.ts";

export const hostFactsStruct = defineStruct("rackwire_host_facts", {
  kernel_release: "char[65]",
  kernel_version: "char[65]",
  machine: "char[65]",
  hostname: "char[65]",
  cpus_online: "u32",
  euid: "u32",
  cpus_allowed: "u8[128]",
  capabilities: "u64",
  memory_bytes: "u64",
  page_bytes: "u64",
  memlock_bytes: "u64",
  files_limit: "u64",
  raw_ipv4_errno: "i32",
  raw_ipv6_errno: "i32",
  packet_errno: "i32",
  ipv6_errno: "i32",
  udp_gso_errno: "i32",
  udp_gro_errno: "i32",
  busy_poll_errno: "i32",
  rcvbuf_force_errno: "i32",
});

export const hostLibrary = defineLibrary({
  name: "host",
  abiVersion: 2,
  symbols: {
    rackwire_host_abi_version: {
      parameters: [],
      result: "u32", // uint32_t
    },
    rackwire_host_facts: {
      parameters: [
        "buffer", // struct rackwire_host_facts *facts
        "usize", // size_t size
      ],
      result: "i32", // int
    },
    rackwire_host_read: {
      parameters: [
        "buffer", // const char *path
        "buffer", // void *buffer
        "usize", // size_t length
      ],
      result: "isize", // ssize_t
    },
    rackwire_host_list: {
      parameters: [
        "buffer", // const char *path
        "buffer", // char *buffer
        "usize", // size_t length
      ],
      result: "isize", // ssize_t
    },
    rackwire_host_wake_open: {
      parameters: [],
      result: "i32", // int
    },
    rackwire_host_wake: {
      parameters: ["i32"], // int fd
      result: "i32", // int
    },
    rackwire_host_wake_clear: {
      parameters: ["i32"], // int fd
      result: "i32", // int
    },
    rackwire_host_wake_close: {
      parameters: ["i32"], // int fd
      result: "i32", // int
    },
  },
  structs: [hostFactsStruct],
});
