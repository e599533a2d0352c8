// SPDX-License-Identifier: BSD-2-Clause
// rackwire krping: the commands of the service.

import type { Command } from "@commander-js/extra-typings";
import { isCommaCommand, parseCommaCommand } from "../../../lib/krping/comma.ts";
import type { Context } from "../../context.ts";
import { formatEndpoint } from "../../options/endpoint.ts";
import { withExamples } from "../../options/groups.ts";
import { registerBlock } from "./block.ts";
import { registerClient } from "./client.ts";
import { registerServer } from "./server.ts";
import { registerStat } from "./stat.ts";

export function registerKrping(program: Command, context: Context): void {
  const krping = program.command("krping").description(
    "RDMA: ping-pong, benchmarks and a block device, with or without RDMA hardware",
  );
  withExamples(krping as Command, [
    ["rackwire krping server", "answer krping, rping and rackwire clients"],
    ["rackwire krping client 10.0.0.2:9999 --count 1000 --validate", "ping it"],
    [
      'rackwire krping "client,addr=10.0.0.2,port=9999,count=1000,validate"',
      "the same, as the original takes it",
    ],
    ["rackwire krping block export --file disk.img", "offer a disk over RDMA"],
  ]);
  const parent = krping as Command;
  registerServer(parent, context);
  registerClient(parent, context);
  registerStat(parent, context);
  registerBlock(parent, context);
}

/** A hundred days, as long as a duration can be. */
const FOR_EVER = "2400h";

/** Options of the string that are options of ours under another spelling. */
const SPELLINGS: Record<string, string> = {
  server_inv: "--server-inv",
  read_inv: "--read-inv",
  local_dma_lkey: "--local-dma-lkey",
};

/**
 * The original's one string, `krping "client,addr=10.0.0.2,port=9999"`, as arguments of ours; anything else stays as it is.
 * @throws RackwireError EINVAL with exit status 2, pointing at the column
 */
export function fromCommaString(args: readonly string[]): string[] {
  const [service, text, ...rest] = args;
  if (service !== "krping" || text === undefined || !isCommaCommand(text)) return [...args];
  const { role, host, zone, flags, ...values } = parseCommaCommand(text);
  const address = host === undefined ? undefined : zone === undefined ? host : `${host}%${zone}`;
  const options: string[] = [];
  const add = (name: string, value: number | string | undefined) => {
    if (value !== undefined) options.push(name, String(value));
  };
  add("--mem-mode", values.mem_mode);
  add("--size", values.size);
  if (role === "client") {
    // 0, the original's default, means pings without end.
    const { count = 0 } = values;
    if (count === 0) add("--duration", FOR_EVER);
    else add("--count", count);
    add("--txdepth", flags.has("bw") ? values.txdepth : undefined);
    add("--tos", values.tos);
  } else {
    add("--port", values.port);
    if (address !== undefined && host !== "0.0.0.0" && host !== "::") add("--addr", address);
    options.push("--once");
  }
  const clientOnly = ["validate", "wlat", "rlat", "bw", "duplex"];
  for (const flag of flags) {
    // The original's server takes them all and compares nothing; ours learns from each client what it wants.
    if (role === "server" && clientOnly.includes(flag)) continue;
    options.push(SPELLINGS[flag] ?? `--${flag}`);
  }
  const target = role === "client" ? [formatEndpoint({ host: address!, port: values.port! })] : [];
  return [service, role, ...target, ...options, ...rest];
}
