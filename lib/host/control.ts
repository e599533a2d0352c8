// SPDX-License-Identifier: BSD-2-Clause
// Asking this user's running engines about themselves, over their control sockets.

import { RackwireError } from "../ffi/errors.ts";
import { runtimeDirectoryPath } from "./runtime_dir.ts";

const TIMEOUT_MS = 2000;
/** A thousand connections take a quarter of a megabyte. */
const MAX_ANSWER = 64 * 2 ** 20;

async function ask(path: string): Promise<unknown> {
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

export interface ControlAnswers<T> {
  answers: T[];
  /** Processes whose socket is there but that did not answer, with the reason. */
  silent: { pid: number; why: string }[];
}

/**
 * Asks everything of a service that runs, or what one process runs of it, for its `stat`.
 * @param service the first part of the sockets' names: "dcpim" of "dcpim-1234.sock" and "dcpim-1234-1.sock"
 * @param directory where the control sockets are; that of the runtime unless given
 * @throws RackwireError UNREADABLE
 */
export async function askAll<T>(
  service: string,
  pid?: number,
  directory: string = runtimeDirectoryPath(),
): Promise<ControlAnswers<T>> {
  const socketName = new RegExp(`^${service}-(\\d+)(?:-(\\d+))?\\.sock$`);
  const found: { pid: number; path: string; order: number }[] = [];
  try {
    for (const { name } of Deno.readDirSync(directory)) {
      const match = socketName.exec(name);
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
  const places: (T | undefined)[] = [];
  const silent: ControlAnswers<T>["silent"] = [];
  await Promise.all(found.map(async (each, i) => {
    try {
      places[i] = await ask(each.path) as T;
    } catch (error) {
      // Gone meanwhile, or left behind by a process that was killed.
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused) return;
      silent.push({ pid: each.pid, why: error instanceof Error ? error.message : String(error) });
    }
  }));
  // Places of those that gave no answer are empty.
  return { answers: places.filter((each) => each !== undefined), silent };
}
