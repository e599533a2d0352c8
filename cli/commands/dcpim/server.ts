// SPDX-License-Identifier: BSD-2-Clause
// rackwire dcpim server: serves pings, streams and messages on one port.

import type { Command } from "@commander-js/extra-typings";
import { checkCpus, checkEngineOptions, chooseEngine } from "../../../lib/dcpim/config.ts";
import type {
  Transport,
  TransportFigures,
  WorkConnection,
  WorkSnapshot,
} from "../../../lib/dcpim/workload.ts";
import type { HostFacts } from "../../../lib/host/facts.ts";
import { resolveHost } from "../../../lib/host/resolve.ts";
import { type Context, interruptible } from "../../context.ts";
import { formatEndpoint, parseHost, parseListenPort } from "../../options/endpoint.ts";
import { withExamples, withOutputOptions } from "../../options/groups.ts";
import { formatBytes, formatRate, parsePositiveDuration } from "../../options/quantities.ts";
import { jsonLine } from "../../output/json.ts";
import type { Style } from "../../output/style.ts";
import { machineFacts } from "../../output/machine.ts";
import { bitsPerSecond, counted, cpuPerGb, cpuText, seconds, whole } from "../../output/numbers.ts";
import { fittingTable } from "../../output/table.ts";
import { type Outcome, type Run, serviceOf, watch } from "./client.ts";
import { engineOptions, withEngineOptions } from "./options.ts";
import { figuresOf, protocolText, TRANSPORT_NAMES } from "./present.ts";
import { checkedText } from "./stream.ts";

const DEFAULT_PORT = 4000;
const DEFAULT_INTERVAL_NS = 1e9;
/** Lines for single connections in one interval; the rest is in the sum. */
const MAX_LINES = 12;
/** What a server lists at most. */
const MAX_LISTED = 64;

/** What a connection moved in an interval. */
interface Line {
  id: number;
  transport: Transport;
  peer: string;
  service: string;
  state: string;
  error?: string;
  rx_bytes: number;
  tx_bytes: number;
  requests: number;
  rx_gbps: number;
  tx_gbps: number;
}

interface Interval {
  at_s: number;
  seconds: number;
  connections_open: number;
  rx_bytes: number;
  tx_bytes: number;
  rx_gbps: number;
  tx_gbps: number;
  connections: Line[];
}

/** Turns readings of the totals into what happened between them. */
class Intervals {
  readonly #seen = new Map<number, WorkConnection>();
  #began: number | undefined;

  next(now: WorkSnapshot, before: WorkSnapshot, connections: readonly WorkConnection[]): Interval {
    this.#began ??= before.at_ms;
    const ns = (now.at_ms - before.at_ms) * 1e6;
    const lines: Line[] = [];
    for (const each of connections) {
      const earlier = this.#seen.get(each.id);
      this.#seen.set(each.id, each);
      const rx = each.rx_bytes - (earlier?.rx_bytes ?? 0);
      const tx = each.tx_bytes - (earlier?.tx_bytes ?? 0);
      const broke = each.state === "broken" && earlier?.state !== "broken";
      if (rx === 0 && tx === 0 && !broke) continue;
      lines.push({
        id: each.id,
        transport: each.transport,
        peer: each.peer,
        service: each.service,
        state: each.state,
        ...(each.error === undefined ? {} : { error: each.error.code }),
        rx_bytes: rx,
        tx_bytes: tx,
        requests: each.requests - (earlier?.requests ?? 0),
        rx_gbps: bitsPerSecond(rx, ns) / 1e9,
        tx_gbps: bitsPerSecond(tx, ns) / 1e9,
      });
    }
    // Those that the server has forgotten do not come back.
    const listed = new Set(connections.map(({ id }) => id));
    for (const id of this.#seen.keys()) if (!listed.has(id)) this.#seen.delete(id);
    const total = (snapshot: WorkSnapshot, name: "rx_bytes" | "tx_bytes" | "open") =>
      figuresOf(snapshot).reduce((sum, [, { counters }]) => sum + counters[name], 0);
    // The list holds so many connections; with fewer, the sum is that of the lines.
    const sum = (name: "rx_bytes" | "tx_bytes") =>
      connections.length < MAX_LISTED
        ? lines.reduce((bytes, line) => bytes + line[name], 0)
        : total(now, name) - total(before, name);
    const rx = sum("rx_bytes");
    const tx = sum("tx_bytes");
    return {
      at_s: (now.at_ms - this.#began) / 1000,
      seconds: ns / 1e9,
      connections_open: total(now, "open"),
      rx_bytes: rx,
      tx_bytes: tx,
      rx_gbps: bitsPerSecond(rx, ns) / 1e9,
      tx_gbps: bitsPerSecond(tx, ns) / 1e9,
      connections: lines,
    };
  }
}

const SERVICE_NAMES: Record<string, string> = {
  none: "",
  echo: "ping",
  sink: "to here",
  source: "from here",
};

function intervalText(interval: Interval, style: Style, columns: number): string {
  const line = (at: string, who: string, what: string, rx: number, tx: number, note = "") => {
    const rate = (gbps: number) => (gbps > 0 ? formatRate(gbps * 1e9) : "-").padStart(12);
    const name = who.padEnd(Math.max(16, Math.min(36, columns - 52)));
    return `${at} ${name} ${what.padEnd(9)}${rate(rx)} in${rate(tx)} out${note}`.trimEnd() + "\n";
  };
  const at = `${interval.at_s.toFixed(1).padStart(7)} s`;
  const shown = interval.connections.slice(0, MAX_LINES);
  const lines = shown.map((each) =>
    line(
      at,
      `${TRANSPORT_NAMES[each.transport]} ${each.peer}`,
      SERVICE_NAMES[each.service] ?? each.service,
      each.rx_gbps,
      each.tx_gbps,
      each.error === undefined ? "" : style.red(`  ${each.error}`),
    )
  );
  const more = interval.connections.length - shown.length;
  if (interval.connections.length > 1) {
    const who = `sum of ${counted(interval.connections.length, "connection")}`;
    const hidden = more > 0 ? style.dim(`  ${more} not listed`) : "";
    lines.push(style.bold(line(at, who, "", interval.rx_gbps, interval.tx_gbps).trimEnd()) + hidden + "\n");
  }
  return lines.join("");
}

function served([, { counters }]: [Transport, TransportFigures]): boolean {
  return counters.opened > 0 || counters.failed > 0;
}

function summaryText(outcome: Outcome, ranNs: number, context: Context): string {
  const { out } = context;
  const right = (title: string) => ({ title, align: "right" as const });
  const figures = figuresOf(outcome).filter(served);
  const head = `\nserved for ${seconds(ranNs)} s`;
  if (figures.length === 0) return `${head}; nobody connected\n`;
  const rows = figures.map(([name, { counters }]) => {
    const bytes = counters.rx_bytes + counters.tx_bytes;
    return [
      TRANSPORT_NAMES[name],
      whole(counters.opened),
      counters.failed === 0 ? "0" : out.style.red(whole(counters.failed)),
      formatBytes(counters.rx_bytes),
      formatBytes(counters.tx_bytes),
      whole(counters.requests),
      name === "udp" ? "" : formatBytes(counters.rtx_bytes),
      cpuText(cpuPerGb(counters.cpu_ns, bytes)),
      checkedText(counters.verified_bytes, counters.corrupt_bytes, true, context),
    ];
  });
  return `${head}\n${
    fittingTable(
      [
        { title: "" },
        ...["conns", "failed", "in", "out", "requests", "resent", "CPU s/GB", "checked"].map(right),
      ],
      rows,
      out,
    )
  }\n${protocolText(outcome.stats, out)}`;
}

function listeningText(run: Run, ip: string | undefined): string {
  const { dcpim, tcp, udp } = run.ports;
  const others = [
    ...(tcp ? [`TCP on ${tcp}`] : []),
    ...(udp ? [`UDP on ${udp}`] : []),
  ];
  const also = others.length > 0 ? `; to compare with: ${others.join(", ")}` : "";
  const where = ip === undefined ? `port ${dcpim}` : formatEndpoint({ host: ip, port: dcpim ?? 0 });
  return `listening on ${where}, engine ${run.engine}${also}\n`;
}

function resultJson(outcome: Outcome, run: Run, ranNs: number, host: HostFacts): string {
  return jsonLine("rackwire.dcpim.server/1", {
    engine: run.engine,
    ports: run.ports,
    seconds: ranNs / 1e9,
    transports: Object.fromEntries(
      figuresOf(outcome).map(([name, { counters }]) => [name, {
        rx_bytes: counters.rx_bytes,
        tx_bytes: counters.tx_bytes,
        rx_gbps: bitsPerSecond(counters.rx_bytes, ranNs) / 1e9,
        tx_gbps: bitsPerSecond(counters.tx_bytes, ranNs) / 1e9,
        counters,
      }]),
    ),
    stats: outcome.stats,
    machine: machineFacts(host),
  });
}

export function registerServer(dcpim: Command, context: Context): void {
  const bare = dcpim.command("server").description("serve pings, streams and messages on one port")
    .option("--ip <address>", "listen on this address of the machine (default: all)", parseHost)
    .option(
      "--port <port>",
      `listen on this port; 0: any free one (default: ${DEFAULT_PORT})`,
      parseListenPort,
    )
    .option("--validate", "check the bytes of every connection, also where the client did not ask")
    .option("--message", "take messages only, no streams")
    .option(
      "--interval <duration>",
      "a line for each busy connection, and their sum, so often (default: 1s)",
      parsePositiveDuration,
    )
    .option("--duration <duration>", "end by itself after so long", parsePositiveDuration)
    .option("--no-baseline", "dcPIM alone, without the TCP and UDP it is compared with");
  const command = withOutputOptions(withEngineOptions(bare));
  withExamples(command, [
    ["rackwire dcpim server", `everything, on port ${DEFAULT_PORT} of every address`],
    ["rackwire dcpim server --ip 10.0.0.2 --port 5000 --pin 2 --busy-poll", "one address, one busy CPU"],
    ["rackwire dcpim server --json --interval 500ms | jq .rx_gbps", "figures for a program, line by line"],
  ]);
  command.action((options) =>
    interruptible(context, async (signal) => {
      const { port = DEFAULT_PORT, interval = DEFAULT_INTERVAL_NS, ip } = options;
      const asked = engineOptions(options);
      checkEngineOptions(asked);
      const host = context.hostFacts();
      checkCpus(asked.cpus, host);
      const engine = { ...asked, engine: chooseEngine(asked.engine ?? "auto", host) };
      const run = serviceOf(context).startServer({
        address: ip === undefined ? undefined : await resolveHost(ip),
        port,
        accept: options.message ? "messages" : "both",
        validate: options.validate ?? false,
        baselines: options.baseline ? ["tcp", "udp"] : [],
        engine,
      });
      const { out } = context;
      const began = performance.now();
      const timer = options.duration === undefined
        ? undefined
        : setTimeout(() => run.stop(), options.duration / 1e6);
      const intervals = new Intervals();
      try {
        const outcome = await watch(context, signal, run, { host: ip ?? "", port }, {
          heading: options.json
            ? jsonLine("rackwire.dcpim.server.listening/1", { engine: run.engine, ports: run.ports, ip })
            : listeningText(run, ip),
          label: "server",
          intervalNs: interval,
          onInterval(now, before) {
            const figures = intervals.next(now, before, run.connections());
            if (options.json) out.write(jsonLine("rackwire.dcpim.server.interval/1", figures));
            else if (!options.quiet && figures.connections.length > 0) {
              out.write(intervalText(figures, out.style, out.columns));
            }
          },
        });
        const ranNs = (performance.now() - began) * 1e6;
        out.write(
          options.json ? resultJson(outcome, run, ranNs, host) : summaryText(outcome, ranNs, context),
        );
      } finally {
        clearTimeout(timer);
      }
    })
  );
}
