// SPDX-License-Identifier: BSD-2-Clause
// rackwire dcpim: the commands of the service.

import type { Command } from "@commander-js/extra-typings";
import { RackwireError } from "../../../lib/ffi/errors.ts";
import type { Context } from "../../context.ts";
import { withExamples } from "../../options/groups.ts";
import { registerMessage } from "./message.ts";
import { registerPing } from "./ping.ts";
import { registerServer } from "./server.ts";
import { registerStat } from "./stat.ts";
import { registerStream } from "./stream.ts";

export function registerDcpim(program: Command, context: Context): void {
  const dcpim = program.command("dcpim").description(
    "dcPIM: ping, streams and messages, and a server for them",
  );
  withExamples(dcpim as Command, [
    ["rackwire dcpim server --port 4000", "serve pings, streams and messages"],
    ["rackwire dcpim ping 10.0.0.2:4000", "round trips to it"],
    ["rackwire dcpim stream 10.0.0.2:4000 --baseline tcp", "goodput, beside kernel TCP's"],
    ["rackwire dcpim stat", "what runs on this machine, and how it fares"],
  ]);
  const parent = dcpim as Command;
  registerServer(parent, context);
  registerPing(parent, context);
  registerStream(parent, context);
  registerMessage(parent, context);
  registerStat(parent, context);
}

const OPERATIONS = ["dcpimping", "dcpimpingmsg", "tcpping"];

/**
 * The prototype's order of arguments, `dcpim HOST:PORT [options] OPERATION`, in ours: the operation first.
 * Anything else stays as it is.
 * @throws RackwireError NO_OPERATION with exit status 2 for a target alone
 */
export function fromPrototypeOrder(args: readonly string[]): string[] {
  const [service, target, ...rest] = args;
  if (service !== "dcpim" || target === undefined || target.startsWith("-") || !target.includes(":")) {
    return [...args];
  }
  const at = rest.findLastIndex((argument) => OPERATIONS.includes(argument));
  if (at < 0) {
    throw new RackwireError("NO_OPERATION", `what to do with ${target} is missing`, {
      hint: `rackwire dcpim ping ${target}, or stream, or message`,
      exitStatus: 2,
    });
  }
  return [service, rest[at]!, target, ...rest.toSpliced(at, 1)];
}
