// SPDX-License-Identifier: BSD-2-Clause
// librackwire_dcpim.so as TypeScript sees it; csrc/include/rackwire_dcpim.h documents it.

import { defineLibrary } from "../ffi/library.ts";
import { defineStruct } from "../ffi/struct.ts";
import { socketStructs, socketSymbols } from "./socket_symbols.ts";
import { workStructs, workSymbols } from "./work_symbols.ts";

export const dcpimConfigStruct = defineStruct("rackwire_dcpim_config", {
  size: "u32",
  kind: "u32",
  threads: "u32",
  wakeup: "u32",
  spin_ns: "u64",
  flags: "u32",
  cpu_count: "u32",
  cpus: "u16[64]",
  local: "u8[128]", // struct sockaddr_storage
  towards: "u8[128]", // struct sockaddr_storage
  encap_port: "u16",
  reserved: "u16",
  mtu: "u32",
  rate_bps: "u64",
  ctrl_rtt_ns: "u64",
  data_rtt_ns: "u64",
  alpha_milli: "u32",
  beta_milli: "u32",
  rounds: "u32",
  channels: "u32",
  short_threshold: "u32",
  window: "u32",
  token_batch: "u32",
  first_part: "u32",
  first_part_bytes: "u32",
  unsched_refill_milli: "u32",
  unsched_accept: "u32",
  rx_budget: "u64",
  rcvbuf: "u32",
  sndbuf: "u32",
  max_msg: "u32",
  socket_rcvbuf: "u32",
  socket_sndbuf: "u32",
  max_flows: "u32",
  max_peers: "u32",
  max_msgs: "u32",
  max_segs: "u32",
  rto_min_ns: "u64",
  rto_max_ns: "u64",
  ack_delay_ns: "u64",
  connect_timeout_ns: "u64",
  dead_after_ns: "u64",
  keepalive_ns: "u64",
  timewait_ns: "u64",
  timer_gran_ns: "u64",
});

export const dcpimStatsStruct = defineStruct("rackwire_dcpim_stats", {
  size: "u32",
  threads: "u32",
  rx_packets: "u64",
  rx_bytes: "u64",
  tx_packets: "u64",
  tx_bytes: "u64",
  rx_bad: "u64",
  rx_bad_tag: "u64",
  rx_duplicate: "u64",
  rx_dropped: "u64",
  data_bytes_tx: "u64",
  data_bytes_rx: "u64",
  rtx_bytes: "u64",
  rtx_packets: "u64",
  unsched_bytes: "u64",
  epochs: "u64",
  rts_tx: "u64",
  rts_rx: "u64",
  grant_tx: "u64",
  grant_rx: "u64",
  accept_tx: "u64",
  accept_rx: "u64",
  revoke_tx: "u64",
  revoke_rx: "u64",
  channels_matched_rx: "u64",
  channels_matched_tx: "u64",
  prompt_matched: "u64",
  token_tx: "u64",
  token_rx: "u64",
  token_bytes_tx: "u64",
  ack_tx: "u64",
  ack_rx: "u64",
  demand_tx: "u64",
  demand_rx: "u64",
  probe_timeouts: "u64",
  msgs_tx: "u64",
  msgs_rx: "u64",
  msgs_acked: "u64",
  flows_opened: "u64",
  flows_accepted: "u64",
  flows_refused: "u64",
  flows_reset: "u64",
  flows_dead: "u64",
  flows_closed: "u64",
  keepalive_tx: "u64",
  reset_tx: "u64",
  phase_jumps: "u64",
  rx_calls: "u64",
  tx_calls: "u64",
  rx_datagrams: "u64",
  tx_datagrams: "u64",
  rx_truncated: "u64",
  rx_foreign: "u64",
  rx_socket_drops: "u64",
  tx_errors: "u64",
  tx_blocked: "u64",
  icmp_errors: "u64",
  hold_ref_bytes: "u64",
  hold_copy_bytes: "u64",
  sleeps: "u64",
  wakeups: "u64",
  epoch: "u64",
  sockets: "u64",
  flows: "u64",
  listeners: "u64",
  peers: "u64",
  msgs: "u64",
  segs: "u64",
  rx_matched: "u64",
  tx_matched: "u64",
  tokens_outstanding: "u64",
  window: "u64",
  memory_core: "u64",
  memory_sockets: "u64",
  memory_buffers: "u64",
  memory_pools: "u64",
});

export const dcpimLibrary = defineLibrary({
  name: "dcpim",
  abiVersion: 1,
  symbols: {
    rackwire_dcpim_abi_version: {
      parameters: [],
      result: "u32", // uint32_t
    },
    rackwire_dcpim_engine_stats: {
      parameters: [
        "u64", // struct rackwire_dcpim_engine *engine
        "buffer", // struct rackwire_dcpim_stats *stats
      ],
      result: "i32", // int
    },
    rackwire_dcpim_engine_json: {
      parameters: [
        "u64", // struct rackwire_dcpim_engine *engine
        "buffer", // char *text
        "usize", // size_t length
      ],
      result: "isize", // ssize_t
    },
    rackwire_dcpim_control_path: {
      parameters: [
        "u64", // struct rackwire_dcpim_engine *engine
        "buffer", // char *path
        "usize", // size_t length
      ],
      result: "isize", // ssize_t
    },
    ...socketSymbols,
    ...workSymbols,
  },
  structs: [dcpimConfigStruct, dcpimStatsStruct, ...socketStructs, ...workStructs],
  handles: ["rackwire_dcpim_engine", "rackwire_dcpim_socket", "rackwire_dcpim_work"],
});
