// SPDX-License-Identifier: BSD-2-Clause
// librackwire_roce.so as TypeScript sees it; csrc/include/rackwire_roce.h and rackwire_roce_types.h document it.

import { defineLibrary } from "../ffi/library.ts";
import { defineStruct } from "../ffi/struct.ts";

/** A union: an immediate or a key is the lower half of `mr`. */
const roceWrExStruct = defineStruct("rackwire_roce_wr_ex", {
  mr: "u64",
  key: "u32",
  access: "u32",
});

export const roceSgeStruct = defineStruct("rackwire_roce_sge", {
  addr: "u64",
  length: "u32",
  lkey: "u32",
});

export const roceSendWrStruct = defineStruct("rackwire_roce_send_wr", {
  wr_id: "u64",
  sg_list: "u64",
  num_sge: "u32",
  opcode: "u32",
  flags: "u32",
  ex: roceWrExStruct,
  remote_addr: "u64",
  rkey: "u32",
  compare_add: "u64",
  swap: "u64",
});

export const roceRecvWrStruct = defineStruct("rackwire_roce_recv_wr", {
  wr_id: "u64",
  sg_list: "u64",
  num_sge: "u32",
});

export const roceWcStruct = defineStruct("rackwire_roce_wc", {
  wr_id: "u64",
  status: "u32",
  opcode: "u32",
  byte_len: "u32",
  flags: "u32",
  ex: "u32",
  qp_num: "u32",
  qp_context: "u64",
});

export const roceQpAttrStruct = defineStruct("rackwire_roce_qp_attr", {
  max_send_wr: "u32",
  max_recv_wr: "u32",
  max_sge: "u32",
  signal_all: "u32",
  access: "u32",
});

export const roceConnParamStruct = defineStruct("rackwire_roce_conn_param", {
  private_data: "u64",
  private_data_len: "u32",
  responder_resources: "u8",
  initiator_depth: "u8",
  retry_count: "u8",
  rnr_retry_count: "u8",
  min_rnr_timer: "u8",
  ack_timeout: "u8",
  tos: "u8",
});

export const roceQpStatsStruct = defineStruct("rackwire_roce_qp_stats", {
  tx_packets: "u64",
  tx_bytes: "u64",
  rx_packets: "u64",
  rx_bytes: "u64",
  rtx_packets: "u64",
  timeouts: "u64",
  seq_nak_tx: "u64",
  seq_nak_rx: "u64",
  rnr_nak_tx: "u64",
  rnr_nak_rx: "u64",
  error_nak_tx: "u64",
  error_nak_rx: "u64",
  duplicates_rx: "u64",
  acks_tx: "u64",
  acks_rx: "u64",
  cnp_tx: "u64",
  cnp_rx: "u64",
  ecn_rx: "u64",
});

export const roceDevStatsStruct = defineStruct("rackwire_roce_dev_stats", {
  rx_packets: "u64",
  rx_bytes: "u64",
  tx_packets: "u64",
  tx_bytes: "u64",
  rx_bad_icrc: "u64",
  rx_malformed: "u64",
  rx_unknown_qp: "u64",
  rx_refused: "u64",
  rx_dropped: "u64",
  mads_rx: "u64",
  mads_tx: "u64",
  mads_bad: "u64",
  mads_rtx: "u64",
  mads_duplicate: "u64",
  cm_refused: "u64",
  connections_opened: "u64",
  connections_accepted: "u64",
  connections_closed: "u64",
  connections_lost: "u64",
  tx_blocked: "u64",
  forwarded: "u64",
});

export const roceConfigStruct = defineStruct("rackwire_roce_config", {
  size: "u32",
  flags: "u32",
  local: "char[64]",
  towards: "char[64]",
  udp_port: "u16",
  reserved: "u16",
  mtu: "u32",
  window: "u32",
  rcvbuf: "u32",
  rate_bps: "u64",
  spin_ns: "u64",
  max_qps: "u32",
  max_mrs: "u32",
  seed: "u64",
  cpu: "i32",
  reserved2: "u32",
});

export const roceDevInfoStruct = defineStruct("rackwire_roce_dev_info", {
  size: "u32",
  mtu: "u32",
  local: "char[64]",
  gso: "u32",
  gro: "u32",
  thread: "u32",
  processes: "u32",
  rcvbuf: "u32",
  crc: "u32",
  id_probe: "u32",
  qps: "u32",
  mrs: "u32",
  cm_ids: "u32",
  listeners: "u32",
  half_open: "u32",
  timewait: "u32",
});

export const roceCmEventStruct = defineStruct("rackwire_roce_cm_event", {
  kind: "u32",
  error: "i32",
  status: "u32",
  private_data_len: "u32",
  id: "u64",
  listener: "u64",
  context: "u64",
  responder_resources: "u8",
  initiator_depth: "u8",
  reserved: "u8[6]",
  private_data: "u8[224]",
  peer: "u8[128]", // struct sockaddr_storage
});

export const roceLibrary = defineLibrary({
  name: "roce",
  abiVersion: 1,
  symbols: {
    rackwire_roce_abi_version: {
      parameters: [],
      result: "u32", // uint32_t
    },
    rackwire_roce_open: {
      parameters: [
        "buffer", // const struct rackwire_roce_config *config
        "buffer", // struct rackwire_roce_dev **out
        "buffer", // char *error
        "usize", // size_t error_length
      ],
      result: "i32", // int
    },
    rackwire_roce_close: {
      parameters: [
        "u64", // struct rackwire_roce_dev *dev
      ],
      result: "void", // void
      nonblocking: true,
    },
    rackwire_roce_dev_info: {
      parameters: [
        "u64", // struct rackwire_roce_dev *dev
        "buffer", // struct rackwire_roce_dev_info *info
      ],
      result: "i32", // int
    },
    rackwire_roce_dev_stats: {
      parameters: [
        "u64", // struct rackwire_roce_dev *dev
        "buffer", // struct rackwire_roce_dev_stats *stats
      ],
      result: "i32", // int
    },
    rackwire_roce_pd_create: {
      parameters: [
        "u64", // struct rackwire_roce_dev *dev
        "buffer", // struct rackwire_roce_pd **out
      ],
      result: "i32", // int
    },
    rackwire_roce_pd_destroy: {
      parameters: [
        "u64", // struct rackwire_roce_pd *pd
      ],
      result: "i32", // int
    },
    rackwire_roce_mr_register: {
      parameters: [
        "u64", // struct rackwire_roce_pd *pd
        "pointer", // void *addr
        "usize", // size_t length
        "u32", // uint32_t access
        "buffer", // struct rackwire_roce_mr **out
      ],
      result: "i32", // int
    },
    rackwire_roce_mr_deregister: {
      parameters: [
        "u64", // struct rackwire_roce_mr *mr
      ],
      result: "void", // void
    },
    rackwire_roce_mr_key: {
      parameters: [
        "u64", // struct rackwire_roce_mr *mr
      ],
      result: "u32", // uint32_t
    },
    rackwire_roce_mr_next_key: {
      parameters: [
        "u64", // struct rackwire_roce_mr *mr
        "buffer", // uint32_t *key
      ],
      result: "i32", // int
    },
    rackwire_roce_cq_create: {
      parameters: [
        "u64", // struct rackwire_roce_dev *dev
        "u32", // uint32_t entries
        "pointer", // void *context
        "buffer", // struct rackwire_roce_cq **out
      ],
      result: "i32", // int
    },
    rackwire_roce_cq_destroy: {
      parameters: [
        "u64", // struct rackwire_roce_cq *cq
      ],
      result: "i32", // int
    },
    rackwire_roce_poll_cq: {
      parameters: [
        "u64", // struct rackwire_roce_cq *cq
        "buffer", // struct rackwire_roce_wc *wc
        "u32", // uint32_t max
      ],
      result: "i32", // int
    },
    rackwire_roce_cq_arm: {
      parameters: [
        "u64", // struct rackwire_roce_cq *cq
        "u32", // uint32_t solicited_only
      ],
      result: "i32", // int
    },
    rackwire_roce_cq_fd: {
      parameters: [
        "u64", // struct rackwire_roce_cq *cq
      ],
      result: "i32", // int
    },
    rackwire_roce_cq_clear: {
      parameters: [
        "u64", // struct rackwire_roce_cq *cq
      ],
      result: "void", // void
    },
    rackwire_roce_cq_wait: {
      parameters: [
        "u64", // struct rackwire_roce_cq *cq
        "u64", // uint64_t timeout_ns
      ],
      result: "i32", // int
      nonblocking: true,
    },
    rackwire_roce_wait: {
      parameters: [
        "u64", // struct rackwire_roce_dev *dev
        "u64", // struct rackwire_roce_cq *cq
        "u64", // uint64_t timeout_ns
      ],
      result: "i32", // int
      nonblocking: true,
    },
    rackwire_roce_wait_fd: {
      parameters: [
        "u64", // struct rackwire_roce_dev *dev
        "u64", // struct rackwire_roce_cq *cq
        "i32", // int fd
        "u64", // uint64_t timeout_ns
      ],
      result: "i32", // int
      nonblocking: true,
    },
    rackwire_roce_wake: {
      parameters: [
        "u64", // struct rackwire_roce_dev *dev
      ],
      result: "void", // void
    },
    rackwire_roce_qp_create: {
      parameters: [
        "u64", // struct rackwire_roce_pd *pd
        "u64", // struct rackwire_roce_cq *send_cq
        "u64", // struct rackwire_roce_cq *recv_cq
        "buffer", // const struct rackwire_roce_qp_attr *attr
        "pointer", // void *context
        "buffer", // struct rackwire_roce_qp **out
      ],
      result: "i32", // int
    },
    rackwire_roce_qp_destroy: {
      parameters: [
        "u64", // struct rackwire_roce_qp *qp
      ],
      result: "void", // void
    },
    rackwire_roce_qp_num: {
      parameters: [
        "u64", // struct rackwire_roce_qp *qp
      ],
      result: "u32", // uint32_t
    },
    rackwire_roce_qp_state: {
      parameters: [
        "u64", // struct rackwire_roce_qp *qp
      ],
      result: "u32", // uint32_t
    },
    rackwire_roce_qp_error: {
      parameters: [
        "u64", // struct rackwire_roce_qp *qp
      ],
      result: "void", // void
    },
    rackwire_roce_qp_stats: {
      parameters: [
        "u64", // struct rackwire_roce_qp *qp
        "buffer", // struct rackwire_roce_qp_stats *stats
      ],
      result: "void", // void
    },
    rackwire_roce_post_send: {
      parameters: [
        "u64", // struct rackwire_roce_qp *qp
        "buffer", // const struct rackwire_roce_send_wr *wr
        "u32", // uint32_t n
        "buffer", // uint32_t *done
      ],
      result: "i32", // int
    },
    rackwire_roce_post_recv: {
      parameters: [
        "u64", // struct rackwire_roce_qp *qp
        "buffer", // const struct rackwire_roce_recv_wr *wr
        "u32", // uint32_t n
        "buffer", // uint32_t *done
      ],
      result: "i32", // int
    },
    rackwire_roce_cm_next: {
      parameters: [
        "u64", // struct rackwire_roce_dev *dev
        "buffer", // struct rackwire_roce_cm_event *event
      ],
      result: "i32", // int
    },
    rackwire_roce_cm_fd: {
      parameters: [
        "u64", // struct rackwire_roce_dev *dev
      ],
      result: "i32", // int
    },
    rackwire_roce_cm_wait: {
      parameters: [
        "u64", // struct rackwire_roce_dev *dev
        "buffer", // struct rackwire_roce_cm_event *event
        "u64", // uint64_t timeout_ns
      ],
      result: "i32", // int
      nonblocking: true,
    },
    rackwire_roce_listen: {
      parameters: [
        "u64", // struct rackwire_roce_dev *dev
        "u16", // uint16_t port
        "u32", // uint32_t backlog
        "pointer", // void *context
        "buffer", // struct rackwire_roce_cm_id **out
      ],
      result: "i32", // int
    },
    rackwire_roce_connect: {
      parameters: [
        "u64", // struct rackwire_roce_dev *dev
        "u64", // struct rackwire_roce_qp *qp
        "buffer", // const struct sockaddr *target
        "buffer", // const struct rackwire_roce_conn_param *param
        "pointer", // void *context
        "buffer", // struct rackwire_roce_cm_id **out
      ],
      result: "i32", // int
    },
    rackwire_roce_accept: {
      parameters: [
        "u64", // struct rackwire_roce_cm_id *id
        "u64", // struct rackwire_roce_qp *qp
        "buffer", // const struct rackwire_roce_conn_param *param
        "pointer", // void *context
      ],
      result: "i32", // int
    },
    rackwire_roce_reject: {
      parameters: [
        "u64", // struct rackwire_roce_cm_id *id
        "u32", // uint32_t reason
        "buffer", // const void *private_data
        "u32", // uint32_t length
      ],
      result: "i32", // int
    },
    rackwire_roce_disconnect: {
      parameters: [
        "u64", // struct rackwire_roce_cm_id *id
      ],
      result: "i32", // int
    },
    rackwire_roce_cm_destroy: {
      parameters: [
        "u64", // struct rackwire_roce_cm_id *id
      ],
      result: "void", // void
    },
    rackwire_roce_cm_port: {
      parameters: [
        "u64", // struct rackwire_roce_cm_id *id
      ],
      result: "u16", // uint16_t
    },
    rackwire_roce_cm_addresses: {
      parameters: [
        "u64", // struct rackwire_roce_cm_id *id
        "buffer", // struct sockaddr_storage *local
        "buffer", // struct sockaddr_storage *peer
      ],
      result: "i32", // int
    },
  },
  structs: [
    roceSgeStruct,
    roceSendWrStruct,
    roceRecvWrStruct,
    roceWcStruct,
    roceQpAttrStruct,
    roceConnParamStruct,
    roceQpStatsStruct,
    roceDevStatsStruct,
    roceConfigStruct,
    roceDevInfoStruct,
    roceCmEventStruct,
  ],
  handles: [
    "rackwire_roce_dev",
    "rackwire_roce_pd",
    "rackwire_roce_mr",
    "rackwire_roce_cq",
    "rackwire_roce_qp",
    "rackwire_roce_cm_id",
  ],
});
