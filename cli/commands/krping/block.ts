// SPDX-License-Identifier: BSD-2-Clause
// rackwire krping block: a block device over RDMA, offered there and served to NBD clients here.

import { type Command, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import { resolveHost } from "../../../lib/host/resolve.ts";
import type { BlockExport, BlockExportInfo, BlockRun, BlockSnapshot } from "../../../lib/krping/block.ts";
import { BLOCK_LIMITS, startBlockExport, startBlockServe } from "../../../lib/krping/block.ts";
import { refuse } from "../../../lib/krping/config.ts";
import { type Context, interruptible, sleep } from "../../context.ts";
import {
  type Endpoint,
  formatEndpoint,
  parseEndpoint,
  parseHost,
  parseListenPort,
  targetText,
} from "../../options/endpoint.ts";
import { withExamples, withOutputOptions } from "../../options/groups.ts";
import {
  formatBytes,
  formatRate,
  parseBytes,
  parseCount,
  parsePositiveDuration,
} from "../../options/quantities.ts";
import { jsonLine } from "../../output/json.ts";
import { machineFacts } from "../../output/machine.ts";
import { bitsPerSecond, counted, microseconds, seconds, whole } from "../../output/numbers.ts";
import { facts, fittingTable, table } from "../../output/table.ts";
import { engineOptions, withEngineGroup } from "./options.ts";
import { explained } from "./run.ts";

const DEFAULT_PORT = 9998;
const DEFAULT_INTERVAL_NS = 1e9;

/** FILE or NAME=FILE; a size alone, or NAME=SIZE, where memory is meant. */
function collect(parse: (text: string) => Partial<BlockExport>) {
  return (text: string, before: BlockExport[] = []): BlockExport[] => {
    const [, name, rest] = /^(?:([A-Za-z0-9_.-]{1,31})=)?(.+)$/.exec(text) ?? [];
    if (rest === undefined) throw new InvalidArgumentError("Expected a value, or NAME=value.");
    return [...before, { ...(name === undefined ? {} : { name }), ...parse(rest) }];
  };
}

function exportsText(exports: readonly BlockExportInfo[]): string {
  return table(
    [{ title: "export" }, { title: "size", align: "right" }, { title: "" }],
    exports.map(({ name, size, read_only, persistent }) => [
      name === "" ? "(default)" : name,
      formatBytes(size),
      [read_only ? "read-only" : "", persistent ? "" : "memory, gone when it ends"].filter((each) =>
        each !== ""
      )
        .join(", "),
    ]),
  );
}

function intervalText(now: BlockSnapshot, before: BlockSnapshot, atS: number, context: Context): string {
  const ns = (now.at_ms - before.at_ms) * 1e6;
  const more = (name: keyof BlockSnapshot["counters"]) => now.counters[name] - before.counters[name];
  const losses = more("link_losses");
  const requests = more("reads") + more("writes") + more("flushes") + more("trims") + more("zeroes");
  if (requests === 0 && losses === 0 && more("errors") === 0) return "";
  const rate = (bytes: number) => formatRate(bitsPerSecond(bytes, ns)).padStart(12);
  const perS = whole(requests * 1e9 / ns).padStart(9);
  const trouble = [
    losses > 0 ? "exporter lost" : "",
    more("errors") > 0 ? counted(more("errors"), "error") : "",
    more("replayed") > 0 ? `${whole(more("replayed"))} replayed` : "",
  ].filter((each) => each !== "").join(", ");
  return `${atS.toFixed(1).padStart(7)} s  ${perS} requests/s ${rate(more("read_bytes"))} read ${
    rate(more("write_bytes"))
  } written${trouble === "" ? "" : `  ${context.out.style.red(trouble)}`}\n`;
}

function summaryText({ counters, latency }: BlockSnapshot, ranNs: number, context: Context): string {
  const { out } = context;
  const { style } = out;
  const right = (title: string) => ({ title, align: "right" as const });
  const rows = (["read", "write", "other"] as const).flatMap((name) => {
    const histogram = latency[name];
    if (histogram.count === 0) return [];
    const at = (percent: number) => microseconds(histogram.percentile(percent));
    return [[name, whole(histogram.count), at(50), at(90), at(99), at(99.9), at(100)]];
  });
  const latencies = rows.length === 0 ? "" : `\n${
    fittingTable(
      [{ title: "us" }, ...["requests", "p50", "p90", "p99", "p99.9", "max"].map(right)],
      rows,
      out,
    )
  }`;
  const bad = (value: number) => value === 0 ? "0" : style.red(whole(value));
  return `\nserved for ${seconds(ranNs)} s\n${
    facts([
      ["read", `${whole(counters.reads)} requests, ${formatBytes(counters.read_bytes)}`],
      ["written", `${whole(counters.writes)} requests, ${formatBytes(counters.write_bytes)}`],
      [
        "others",
        `${whole(counters.flushes)} flushes, ${whole(counters.trims)} trims, ${
          whole(counters.zeroes)
        } zeroings`,
      ],
      ["errors", `${bad(counters.errors)}, refused ${bad(counters.refused)}`],
      [
        "link",
        `lost ${bad(counters.link_losses)} times, ${whole(counters.replayed)} requests replayed, ${
          bad(counters.failed_by_loss)
        } failed by it`,
      ],
    ], style)
  }${latencies}`;
}

interface Flags {
  json?: true;
  quiet?: true;
  interval?: number;
}

/** Prints figures while it runs, stops it at the signal. */
async function watchBlock(
  context: Context,
  signal: AbortSignal,
  run: BlockRun,
  heading: string,
  flags: Flags,
) {
  const { out } = context;
  const kind = run.role === "export" ? "export" : "serve";
  const stop = () => run.stop();
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  const ended = new AbortController();
  const over = run.done.then(() => ended.abort(), () => ended.abort());
  const began = performance.now();
  try {
    out.write(
      flags.json
        ? jsonLine(`rackwire.krping.block.${kind}.ready/1`, {
          engine: run.engine,
          port: run.port,
          exports: run.exports,
        })
        : heading,
    );
    let before = run.snapshot();
    while (await sleep((flags.interval ?? DEFAULT_INTERVAL_NS) / 1e6, ended.signal)) {
      const now = run.snapshot();
      const atS = (now.at_ms - began) / 1000;
      if (flags.json) {
        out.write(
          jsonLine(`rackwire.krping.block.${kind}.interval/1`, { at_s: atS, counters: now.counters }),
        );
      } else if (!flags.quiet) out.write(intervalText(now, before, atS, context));
      before = now;
    }
    const result = await run.done;
    const ranNs = (performance.now() - began) * 1e6;
    out.write(
      flags.json
        ? jsonLine(`rackwire.krping.block.${kind}/1`, {
          engine: run.engine,
          port: run.port,
          seconds: ranNs / 1e9,
          exports: run.exports,
          counters: result.counters,
          latency_us: Object.fromEntries(
            Object.entries(result.latency).map(([name, histogram]) => [name, histogram.summary(1000)]),
          ),
          machine: machineFacts(context.hostFacts()),
        })
        : summaryText(result, ranNs, context),
    );
  } catch (error) {
    run.stop();
    throw error;
  } finally {
    signal.removeEventListener("abort", stop);
    await over;
    run.close();
  }
}

function registerExport(block: Command, context: Context): void {
  const bare = block.command("export").description(
    "offer files, block devices or memory to `rackwire krping block serve`",
  )
    .option(
      "--file <[name=]path>",
      "a file or block device, as it is now; again for more of them",
      collect((file) => ({ file })),
    )
    .option(
      "--size <[name=]bytes>",
      "that much memory, gone when this ends; again for more",
      collect((text) => ({ size: parseBytes(text) })),
    )
    .option("--addr <address>", "listen on this address of the machine (default: all)", parseHost)
    .option("--port <port>", `rdma_cm port; 0: any free one (default: ${DEFAULT_PORT})`, parseListenPort)
    .option("--read-only", "refuse writes")
    .option("--direct", "read and write files past the page cache")
    .option("--threads <n>", "for the I/O of files (default: 4)", parseCount(1, BLOCK_LIMITS.threads))
    .option(
      "--depth <n>",
      "requests of a connection under way (default: 64)",
      parseCount(1, BLOCK_LIMITS.depth),
    )
    .option(
      "--interval <duration>",
      "a line of figures so often while busy (default: 1s)",
      parsePositiveDuration,
    );
  const command = withOutputOptions(withEngineGroup(bare));
  withExamples(command, [
    ["rackwire krping block export --file disk.img", `one image, on port ${DEFAULT_PORT} of every address`],
    [
      "rackwire krping block export --file root=/dev/vg0/root --file home=home.img --read-only",
      "two, by name",
    ],
    ["rackwire krping block export --size 1GiB --addr 10.0.0.2", "a gibibyte of memory"],
  ]);
  command.action((options) =>
    interruptible(context, async (signal) => {
      const { file = [], size = [], addr, port = DEFAULT_PORT } = options;
      const exports = [...file, ...size].map((each) => ({
        ...each,
        readOnly: options.readOnly,
        direct: options.direct && each.file !== undefined,
      }));
      if (exports.length === 0) throw refuse("there is nothing to export", "--file disk.img, or --size 1GiB");
      const address = addr === undefined ? undefined : await resolveHost(addr);
      const run = startOrExplain({ host: addr ?? "", port }, () =>
        startBlockExport({
          ...engineOptions(options),
          address,
          port,
          exports,
          threads: options.threads,
          depth: options.depth,
        }));
      const place = addr === undefined ? `port ${run.port}` : formatEndpoint({ host: addr, port: run.port });
      await watchBlock(
        context,
        signal,
        run,
        `exporting on ${place}, engine ${run.engine}\n${options.quiet ? "" : exportsText(run.exports)}`,
        options,
      );
    })
  );
}

function startOrExplain(target: Endpoint, start: () => BlockRun): BlockRun {
  try {
    return start();
  } catch (error) {
    throw explained(error, target, "rackwire krping block export");
  }
}

function registerServe(block: Command, context: Context): void {
  const bare = block.command("serve").description(
    "serve an exporter's devices to NBD clients of this machine",
  )
    .argument("<host:port>", "a rackwire krping block export", parseEndpoint)
    .option("--unix <path>", "NBD on a Unix socket, which only this user can open")
    .option("--tcp <address:port>", "NBD on a TCP port", parseTcp)
    .addOption(
      new Option(
        "--on-loss <what>",
        "requests under way when the exporter is lost: fail, or replay when it is back",
      )
        .choices(["fail", "replay"] as const).default("fail" as const),
    )
    .option(
      "--reconnect <duration>",
      "try to get the exporter back for so long (default: 30s)",
      parsePositiveDuration,
    )
    .option("--timeout <duration>", "try to connect for so long (default: 5s)", parsePositiveDuration)
    .option("--read-only", "refuse writes")
    .option(
      "--depth <n>",
      "requests to the exporter under way (default: 64)",
      parseCount(1, BLOCK_LIMITS.depth),
    )
    .option("--clients <n>", "NBD connections at a time (default: 64)", parseCount(1, BLOCK_LIMITS.clients))
    .option(
      "--interval <duration>",
      "a line of figures so often while busy (default: 1s)",
      parsePositiveDuration,
    );
  const command = withOutputOptions(withEngineGroup(bare));
  withExamples(command, [
    [
      "rackwire krping block serve 10.0.0.2:9998 --unix /run/disk.sock",
      "then: nbdinfo nbd+unix:///?socket=/run/disk.sock",
    ],
    [
      "rackwire krping block serve 10.0.0.2:9998 --tcp 127.0.0.1:10809",
      "then: nbdcopy disk.img nbd://localhost",
    ],
    [
      "rackwire krping block serve 10.0.0.2:9998 --unix d.sock --on-loss replay --reconnect 5min",
      "wait the exporter's restart out",
    ],
  ]);
  command.action((target, options) =>
    interruptible(context, async (signal) => {
      const { unix, tcp } = options;
      if (unix === undefined && tcp === undefined) {
        throw refuse("NBD clients need somewhere to connect", "--unix PATH, or --tcp 127.0.0.1:10809");
      }
      const peer = await resolveHost(target.host);
      const run = await startBlockServe({
        ...engineOptions(options),
        peer,
        port: target.port,
        unix,
        tcp: tcp === undefined ? undefined : { address: await resolveHost(tcp.host), port: tcp.port },
        onLoss: options.onLoss,
        readOnly: options.readOnly,
        depth: options.depth,
        clients: options.clients,
        timeoutNs: options.timeout,
        reconnectNs: options.reconnect,
      }).catch((error) => {
        throw explained(error, target, "rackwire krping block export");
      });
      const at = [
        ...(unix === undefined ? [] : [unix]),
        ...(tcp === undefined ? [] : [formatEndpoint({ host: tcp.host, port: run.port })]),
      ].join(" and ");
      await watchBlock(
        context,
        signal,
        run,
        `serving ${
          targetText(target, peer)
        } as NBD on ${at}, engine ${run.engine}, on loss ${options.onLoss}\n${
          options.quiet ? "" : exportsText(run.exports)
        }`,
        options,
      );
    })
  );
}

function parseTcp(text: string): Endpoint {
  return text.endsWith(":0") ? { ...parseEndpoint(`${text.slice(0, -1)}1`), port: 0 } : parseEndpoint(text);
}

export function registerBlock(krping: Command, context: Context): void {
  const block = krping.command("block").description("a block device over RDMA, for NBD clients");
  withExamples(block as Command, [
    ["rackwire krping block export --file disk.img", "on the machine that has the disk"],
    ["rackwire krping block serve 10.0.0.2:9998 --unix disk.sock", "on the one that wants it"],
  ]);
  registerExport(block as Command, context);
  registerServe(block as Command, context);
}
