// SPDX-License-Identifier: BSD-2-Clause
// The krping servers that run on this machine, asked over their control sockets.

import { RackwireError } from "../ffi/errors.ts";
import { askAll } from "../host/control.ts";
import type { KrpingCounters8 } from "./work.ts";

export interface KrpingConnectionStat {
  id: number;
  /** "ping", "bw", ...; empty until the client has said. */
  test: string;
  state: string;
  /** errno, 0 for none */
  error: number;
  classic: boolean;
  peer: string;
  age_s: number;
  size: number;
  pings: number;
  counters: KrpingCounters8;
}

/** What a server says of itself; csrc/krping/control.c writes it. */
export interface KrpingServerStat {
  schema: string;
  pid: number;
  engine: string;
  device: string;
  port: number;
  uptime_s: number;
  connections: KrpingConnectionStat[];
  counters: Record<string, number>;
}

export interface KrpingStatAnswers {
  servers: KrpingServerStat[];
  /** Processes whose socket is there but that did not answer, with the reason. */
  silent: { pid: number; why: string }[];
}

/**
 * Asks the server of one process, or all.
 * @param directory where the control sockets are; that of the runtime unless given
 * @throws RackwireError NO_SUCH_SERVER when a process is named that has none
 */
export async function krpingStat(pid?: number, directory?: string): Promise<KrpingStatAnswers> {
  const { answers, silent } = await askAll<KrpingServerStat>("krping", pid, directory);
  if (pid !== undefined && answers.length === 0) {
    throw new RackwireError("NO_SUCH_SERVER", `process ${pid} runs no krping server that answers`, {
      hint: "rackwire krping stat lists those that do",
    });
  }
  return { servers: answers, silent };
}

/** The line of the original's /proc/krping: "1-rxe0 sendB sendMsgs recvB recvMsgs writeB writeMsgs readB readMsgs". */
export function classicLine({ id, counters }: KrpingConnectionStat, device: string): string {
  const { send_bytes, send_msgs, recv_bytes, recv_msgs, write_bytes, write_msgs, read_bytes, read_msgs } =
    counters;
  return [
    `${id}-${device}`,
    send_bytes,
    send_msgs,
    recv_bytes,
    recv_msgs,
    write_bytes,
    write_msgs,
    read_bytes,
    read_msgs,
  ].join(" ");
}
