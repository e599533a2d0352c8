// SPDX-License-Identifier: BSD-2-Clause
// The engines that run on this machine, asked over their control sockets.

import { RackwireError } from "../ffi/errors.ts";

import { runtimeDirectoryPath } from "../host/runtime_dir.ts";

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

const SOCKET_NAME = /^dcpim-(\d+)(?:-(\d+))?\.sock$/;
const TIMEOUT_MS = 2000;
/** A thousand connections take a quarter of a megabyte. */
const MAX_ANSWER = 64 * 2 ** 20;

async function ask(path: string): Promise<DcpimEngineStat> {
  using connection = await Deno.connect({ transport: "unix", path });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    connection.close();
  }, TIMEOUT_MS);
  try {
    await connection.write(new TextEncoder().encode("stat\n"));
    const decoder = new TextDecoder();
    let text = "";
    for await (const chunk of connection.readable) {
      text += decoder.decode(chunk, { stream: true });
      if (text.length > MAX_ANSWER) throw new Error("the answer is too long");
    }
    return JSON.parse(text);
  } catch (error) {
    throw late ? new Error(`no answer within ${TIMEOUT_MS / 1000} s`) : error;
  } finally {
    clearTimeout(timer);
  }
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
export async function dcpimStat(
  pid?: number,
  directory: string = runtimeDirectoryPath(),
): Promise<DcpimStatAnswers> {
  const found: { pid: number; path: string; order: number }[] = [];
  try {
    for (const { name } of Deno.readDirSync(directory)) {
      const match = SOCKET_NAME.exec(name);
      if (match === null) continue;
      const owner = Number(match[1]);
      if (pid !== undefined && owner !== pid) continue;
      found.push({ pid: owner, path: `${directory}/${name}`, order: Number(match[2] ?? 0) });
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) {
      throw new RackwireError("UNREADABLE", `cannot read ${directory}`, {
        hint: "set RACKWIRE_RUNTIME_DIR as it was when the engine was started",
        cause: error,
      });
    }
  }
  found.sort((a, b) => a.pid - b.pid || a.order - b.order);
  const answers: DcpimStatAnswers = { engines: [], silent: [] };
  await Promise.all(found.map(async (each, i) => {
    try {
      answers.engines[i] = await ask(each.path);
    } catch (error) {
      // Gone meanwhile, or left behind by a process that was killed.
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused) return;
      answers.silent.push({ pid: each.pid, why: error instanceof Error ? error.message : String(error) });
    }
  }));
  // Places of those that gave no answer are empty.
  answers.engines = answers.engines.filter((each) => each !== undefined);
  if (pid !== undefined && answers.engines.length === 0) {
    throw new RackwireError("NO_SUCH_ENGINE", `process ${pid} runs no dcPIM engine that answers`, {
      hint:
        "rackwire dcpim stat lists those that do; of other users only root sees any, with their RACKWIRE_RUNTIME_DIR",
    });
  }
  return answers;
}
