// SPDX-License-Identifier: BSD-2-Clause
// rackwire krping server: answers any number of krping, rping and rackwire clients.

import type { Command } from "@commander-js/extra-typings";
import type { HostFacts } from "../../../lib/host/facts.ts";
import { resolveHost } from "../../../lib/host/resolve.ts";
import { chooseKrpingEngine } from "../../../lib/krping/config.ts";
import type { KrpingConnection, KrpingResult, KrpingServerOptions } from "../../../lib/krping/work.ts";
import { type Context, interruptible } from "../../context.ts";
import { formatEndpoint, parseHost, parseListenPort } from "../../options/endpoint.ts";
import { withExamples, withOutputOptions } from "../../options/groups.ts";
import { formatBytes, formatRate, parseBytes, parsePositiveDuration } from "../../options/quantities.ts";
import { jsonLine } from "../../output/json.ts";
import { machineFacts } from "../../output/machine.ts";
import { bitsPerSecond, seconds, whole } from "../../output/numbers.ts";
import { facts } from "../../output/table.ts";
import { krpingOptions, parseSize, withEngineGroup, withKrpingGroup } from "./options.ts";
import { explained, type Run, serviceOf, watch } from "./run.ts";

export const DEFAULT_PORT = 9999;
const DEFAULT_INTERVAL_NS = 1e9;
/** Connections listed in one interval. */
const MAX_LINES = 12;

/** What of a connection changed since it was last shown. */
class Changes {
  readonly #seen = new Map<number, KrpingConnection>();

  next(connections: readonly KrpingConnection[]): { now: KrpingConnection; pings: number; bytes: number }[] {
    const changed = connections.flatMap((now) => {
      const before = this.#seen.get(now.id);
      this.#seen.set(now.id, now);
      const bytes = moved(now) - (before === undefined ? 0 : moved(before));
      const same = before !== undefined && before.state === now.state && bytes === 0 &&
        before.pings === now.pings;
      return same ? [] : [{ now, pings: now.pings - (before?.pings ?? 0), bytes }];
    });
    // Those that the server has forgotten do not come back.
    const listed = new Set(connections.map(({ id }) => id));
    for (const id of this.#seen.keys()) if (!listed.has(id)) this.#seen.delete(id);
    return changed;
  }
}

function moved({ counters }: KrpingConnection): number {
  return counters.send_bytes + counters.recv_bytes + counters.write_bytes + counters.read_bytes;
}

function changeText(atS: number, ns: number, changes: ReturnType<Changes["next"]>, context: Context): string {
  const { style } = context.out;
  const shown = changes.slice(0, MAX_LINES).map(({ now, pings, bytes }) => {
    const what = now.state === "broken"
      ? style.red(now.error?.code ?? "broken")
      : now.state === "ended"
      ? "ended"
      : `${now.test ?? "connected"}${now.classic ? " (rping or krping)" : ""}`;
    const rate = bytes > 0 ? formatRate(bitsPerSecond(bytes, ns)).padStart(12) : "";
    return `${atS.toFixed(1).padStart(7)} s  ${now.peer.padEnd(24)} ${what.padEnd(18)} ${
      pings > 0 ? whole(pings).padStart(10) : "".padStart(10)
    } pings ${rate}`.trimEnd() + "\n";
  });
  const more = changes.length - shown.length;
  return shown.join("") + (more > 0 ? style.dim(`          and ${more} more connections\n`) : "");
}

function summaryText({ counters }: KrpingResult, ranNs: number, context: Context): string {
  const { style } = context.out;
  const head = `\nserved for ${seconds(ranNs)} s`;
  if (counters.opened === 0 && counters.refused === 0) return `${head}; nobody connected\n`;
  const failed = counters.failed === 0 ? "0" : style.red(whole(counters.failed));
  const each = (name: "send" | "recv" | "write" | "read") =>
    `${whole(counters[`${name}_msgs`])} of ${formatBytes(counters[`${name}_bytes`])}`;
  return `${head}\n${
    facts([
      ["connections", `${whole(counters.opened)}, failed ${failed}, refused ${whole(counters.refused)}`],
      ["SENDs", each("send")],
      ["RECVs", each("recv")],
      ["WRITEs", each("write")],
      ["READs", each("read")],
      ...(counters.atomic_msgs > 0 ? [["atomics", whole(counters.atomic_msgs)] as const] : []),
      ["packets sent again", whole(counters.rtx_packets)],
    ], style)
  }`;
}

function resultJson(result: KrpingResult, run: Run, ranNs: number, host: HostFacts): string {
  return jsonLine("rackwire.krping.server/1", {
    engine: run.engine,
    device: run.device,
    port: run.port,
    seconds: ranNs / 1e9,
    counters: result.counters,
    machine: machineFacts(host),
  });
}

export interface ServerFlags {
  json?: true;
  quiet?: true;
  verbose?: true;
  interval?: number;
  duration?: number;
}

/** Serves until stopped, and prints what happens. */
export async function serve(
  context: Context,
  signal: AbortSignal,
  ip: string | undefined,
  options: KrpingServerOptions,
  flags: ServerFlags,
): Promise<void> {
  const host = context.hostFacts();
  const engine = chooseKrpingEngine(options.engine ?? "auto", host);
  const where = { host: ip ?? "", port: options.port };
  const run = await serviceOf(context).startKrpingServer({ ...options, engine }).catch((error) => {
    throw explained(error, where);
  });
  const { out } = context;
  const began = performance.now();
  const timer = flags.duration === undefined ? undefined : setTimeout(() => run.stop(), flags.duration / 1e6);
  const changes = new Changes();
  const place = ip === undefined ? `port ${run.port}` : formatEndpoint({ host: ip, port: run.port });
  try {
    const result = await watch(context, signal, run, where, {
      heading: flags.json
        ? jsonLine("rackwire.krping.server.listening/1", {
          engine: run.engine,
          device: run.device,
          port: run.port,
          ...(ip === undefined ? {} : { ip }),
        })
        : `listening on ${place}, engine ${run.engine}${
          run.device === run.engine ? "" : ` (${run.device})`
        }, packets of ${formatBytes(run.mtu)}\n`,
      label: "server",
      intervalNs: flags.interval ?? DEFAULT_INTERVAL_NS,
      onInterval(now, before) {
        if (flags.verbose && !flags.json) { for (const line of run.lines().lines) out.write(`${line}\n`); }
        const changed = changes.next(run.connections());
        const atS = (now.at_ms - began) / 1000;
        if (flags.json) {
          out.write(jsonLine("rackwire.krping.server.interval/1", {
            at_s: atS,
            connections_open: now.counters.open,
            connections: changed.map(({ now: { id, peer, state, test, error, counters, pings } }) => ({
              id,
              peer,
              state,
              test,
              error: error?.code,
              pings,
              counters,
            })),
          }));
        } else if (!flags.quiet) {
          out.write(changeText(atS, (now.at_ms - before.at_ms) * 1e6, changed, context));
        }
      },
    });
    const ranNs = (performance.now() - began) * 1e6;
    out.write(flags.json ? resultJson(result, run, ranNs, host) : summaryText(result, ranNs, context));
  } finally {
    clearTimeout(timer);
  }
}

export function registerServer(krping: Command, context: Context): void {
  const bare = krping.command("server").description(
    "answer krping, rping and rackwire clients, any number at a time",
  )
    .option("--addr <address>", "listen on this address of the machine (default: all)", parseHost)
    .option("--port <port>", `rdma_cm port; 0: any free one (default: ${DEFAULT_PORT})`, parseListenPort)
    .option("--size <bytes>", "most that a client may ask for at a time (default: 1GiB)", parseSize)
    .option("--memory <bytes>", "most memory for all clients together (default: 4GiB)", parseBytes)
    .option("--once", "end when the first client has gone, as the original does")
    .option("--duration <duration>", "end by itself after so long", parsePositiveDuration)
    .option(
      "--interval <duration>",
      "a line for each busy client so often (default: 1s)",
      parsePositiveDuration,
    );
  const command = withOutputOptions(withEngineGroup(withKrpingGroup(bare)));
  withExamples(command, [
    ["rackwire krping server", `any client, on port ${DEFAULT_PORT} of every address`],
    ["rackwire krping server --addr 10.0.0.2 --port 7174 --poll", "one address, without sleeping"],
    ["rackwire krping server --json | jq .counters", "figures for a program, line by line"],
  ]);
  command.action((options) =>
    interruptible(context, async (signal) => {
      const { addr, port = DEFAULT_PORT } = options;
      await serve(context, signal, addr, {
        ...krpingOptions(options),
        address: addr === undefined ? undefined : await resolveHost(addr),
        port,
        maxSize: options.size,
        memory: options.memory,
        once: options.once,
      }, options);
    })
  );
}
