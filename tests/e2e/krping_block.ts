// SPDX-License-Identifier: BSD-2-Clause
// An exporter and an NBD server as processes, and programs that use them.

import assert from "node:assert/strict";
import type { RunOptions } from "../helpers/cli.ts";
import { ServerProcess } from "../helpers/server_process.ts";

const HOST = "127.0.0.1";

interface Ready {
  port: number;
  exports: { name: string; size: number; read_only: boolean; persistent: boolean }[];
}

async function ready(process: ServerProcess): Promise<Ready> {
  return JSON.parse((await process.until(/^\{.*\.ready\/1".*$/m))[0]);
}

/** The last line of --json. */
export function lastJson(out: string) {
  return JSON.parse(out.trim().split("\n").at(-1)!);
}

export class Exporter extends ServerProcess {
  port = 0;
  exports: Ready["exports"] = [];

  static async start(args: string[], port = 0, options?: RunOptions): Promise<Exporter> {
    const process = new Exporter(
      // deno-fmt-ignore
      ["krping", "block", "export", "--addr", HOST, "--port", `${port}`, "--engine", "soft", "--json", ...args],
      options,
    );
    ({ port: process.port, exports: process.exports } = await ready(process));
    return process;
  }

  get target(): string {
    return `${HOST}:${this.port}`;
  }
}

export class NbdServer extends ServerProcess {
  exports: Ready["exports"] = [];
  socket = "";

  static async start(
    exporter: Exporter,
    socket: string,
    args: string[] = [],
    options?: RunOptions,
  ): Promise<NbdServer> {
    const process = new NbdServer(
      // deno-fmt-ignore
      ["krping", "block", "serve", exporter.target, "--unix", socket, "--engine", "soft", "--json", "--interval", "100ms", ...args],
      options,
    );
    process.socket = socket;
    ({ exports: process.exports } = await ready(process));
    return process;
  }

  uri(name = ""): string {
    return `nbd+unix:///${name}?socket=${this.socket}`;
  }
}

export interface Outcome {
  status: number;
  out: string;
  err: string;
}

/** Runs a program to its end, however that may be. */
export async function attempt(command: string, args: string[], cwd?: string): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command(command, { args, cwd, stdin: "null" }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { status: code, out: text(stdout), err: text(stderr) };
}

/** Runs a program that must work. */
export async function does(command: string, args: string[], cwd?: string): Promise<string> {
  const { status, out, err } = await attempt(command, args, cwd);
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${out}${err}`);
  return out;
}

/** Random bytes of a file, with a hole in the middle. */
export async function makeImage(path: string, mib: number): Promise<void> {
  await does("dd", ["if=/dev/urandom", `of=${path}`, "bs=1M", `count=${mib / 4}`, "status=none"]);
  await does("truncate", ["-s", `${mib - 1}M`, path]);
  await does("dd", [
    "if=/dev/urandom",
    `of=${path}`,
    "bs=1M",
    "count=1",
    `seek=${mib - 1}`,
    "conv=notrunc",
    "status=none",
  ]);
}

/** A directory that is gone afterwards. */
export async function inDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "rw-block-" });
  try {
    await work(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
