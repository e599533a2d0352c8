// SPDX-License-Identifier: BSD-2-Clause
// Engines and sockets: the part of librackwire_dcpim.so that the socket interface uses.

import { defineStruct } from "../ffi/struct.ts";

export const pollfdStruct = defineStruct("rackwire_dcpim_pollfd", {
  socket: "u64",
  fd: "i32",
  events: "i16",
  revents: "i16",
});

export const socketInfoStruct = defineStruct("rackwire_dcpim_socket_info", {
  size: "u32",
  state: "u32",
  kind: "u32",
  error: "i32",
  srtt_us: "u32",
  max_packet: "u32",
  thread: "u32",
  max_msg: "u32",
  tx_queued: "u64",
  rx_queued: "u64",
  bytes_tx: "u64",
  bytes_rx: "u64",
  rtx_bytes: "u64",
});

export const socketStructs = [pollfdStruct, socketInfoStruct] as const;

export const socketSymbols = {
  rackwire_dcpim_engine_open: {
    parameters: [
      "buffer", // const struct rackwire_dcpim_config *config
      "buffer", // struct rackwire_dcpim_engine **out
      "buffer", // char *error
      "usize", // size_t error_length
    ],
    result: "i32", // int
  },
  rackwire_dcpim_engine_close: {
    parameters: [
      "u64", // struct rackwire_dcpim_engine *engine
      "u64", // uint64_t linger_ns
    ],
    result: "i32", // int
    nonblocking: true,
  },
  rackwire_dcpim_socket: {
    parameters: [
      "u64", // struct rackwire_dcpim_engine *engine
      "u32", // uint32_t kind
      "buffer", // struct rackwire_dcpim_socket **out
    ],
    result: "i32", // int
  },
  rackwire_dcpim_bind: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "buffer", // const struct sockaddr *addr
      "u32", // socklen_t length
    ],
    result: "i32", // int
  },
  rackwire_dcpim_listen: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "i32", // int backlog
    ],
    result: "i32", // int
  },
  rackwire_dcpim_connect: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "buffer", // const struct sockaddr *addr
      "u32", // socklen_t length
    ],
    result: "i32", // int
  },
  rackwire_dcpim_accept: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "buffer", // struct rackwire_dcpim_socket **out
      "buffer", // struct sockaddr *addr
      "buffer", // socklen_t *length
      "i32", // int flags
    ],
    result: "i32", // int
  },
  rackwire_dcpim_send: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "buffer", // const void *data
      "usize", // size_t length
      "i32", // int flags
    ],
    result: "isize", // ssize_t
  },
  rackwire_dcpim_recv: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "buffer", // void *data
      "usize", // size_t length
      "i32", // int flags
    ],
    result: "isize", // ssize_t
  },
  rackwire_dcpim_recvv: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "buffer", // const struct iovec *iov
      "i32", // int count
      "i32", // int flags
      "buffer", // int *out_flags
    ],
    result: "isize", // ssize_t
  },
  rackwire_dcpim_shutdown: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "i32", // int how
    ],
    result: "i32", // int
  },
  rackwire_dcpim_close: {
    parameters: ["u64"], // struct rackwire_dcpim_socket *socket
    result: "i32", // int
    nonblocking: true,
  },
  rackwire_dcpim_getsockname: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "buffer", // struct sockaddr *addr
      "buffer", // socklen_t *length
    ],
    result: "i32", // int
  },
  rackwire_dcpim_getpeername: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "buffer", // struct sockaddr *addr
      "buffer", // socklen_t *length
    ],
    result: "i32", // int
  },
  rackwire_dcpim_setopt: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "i32", // int option
      "i64", // int64_t value
    ],
    result: "i32", // int
  },
  rackwire_dcpim_getopt: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "i32", // int option
      "buffer", // int64_t *value
    ],
    result: "i32", // int
  },
  rackwire_dcpim_poll: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "i32", // int events
    ],
    result: "i32", // int
  },
  rackwire_dcpim_poll_many: {
    parameters: [
      "buffer", // struct rackwire_dcpim_pollfd *fds
      "u32", // uint32_t count
      "i64", // int64_t timeout_ns
    ],
    result: "i32", // int
    nonblocking: true,
  },
  rackwire_dcpim_socket_info: {
    parameters: [
      "u64", // struct rackwire_dcpim_socket *socket
      "buffer", // struct rackwire_dcpim_socket_info *info
    ],
    result: "i32", // int
  },
} as const satisfies Deno.ForeignLibraryInterface;
