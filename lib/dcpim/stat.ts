// SPDX-License-Identifier: BSD-2-Clause
// The engines that run on this machine, asked over their control sockets.

import { RackwireError } from "../ffi/errors.ts";
import { askAll } from "../host/control.ts";

export interface DcpimPeerStat {
  address: string;
  connections: number;
  srtt_us: number;
  tx_queued: number;
  bytes_tx: number;
  bytes_rx: number;
  rtx_bytes: number;
}

export interface DcpimConnectionStat {
  thread: number;
  kind: "stream" | "message";
  state: string;
  local_port: number;
  peer: string;
  error: number;
  srtt_us: number;
  tx_queued: number;
  rx_queued: number;
  bytes_tx: number;
  bytes_rx: number;
  rtx_bytes: number;
}

/** What an engine says of itself: rackwire_dcpim_engine_json() of csrc/include/rackwire_dcpim.h. */
export interface DcpimEngineStat {
  schema: string;
  pid: number;
  engine: "raw" | "udp";
  threads: number;
  uptime_s: number;
  parameters: Record<string, number>;
  kernel_sockets: { thread: number; address: string; gso: boolean; gro: boolean; users: number }[];
  connections: DcpimConnectionStat[];
  /** Connections that are not listed, because there are too many. */
  connections_omitted: number;
  peers: DcpimPeerStat[];
  counters: Record<string, number>;
  gauges: Record<string, number>;
}

export interface DcpimStatAnswers {
  engines: DcpimEngineStat[];
  /** Processes whose socket is there but that did not answer, with the reason. */
  silent: { pid: number; why: string }[];
}

/**
 * Asks the engines of one process, or of all.
 * @param directory where the control sockets are; that of the runtime unless given
 * @throws RackwireError NO_SUCH_ENGINE when a process is named that has none
 */
export async function dcpimStat(pid?: number, directory?: string): Promise<DcpimStatAnswers> {
  const { answers, silent } = await askAll<DcpimEngineStat>("dcpim", pid, directory);
  if (pid !== undefined && answers.length === 0) {
    throw new RackwireError("NO_SUCH_ENGINE", `process ${pid} runs no dcPIM engine that answers`, {
      hint:
        "rackwire dcpim stat lists those that do; of other users only root sees any, with their RACKWIRE_RUNTIME_DIR",
    });
  }
  return { engines: answers, silent };
}
