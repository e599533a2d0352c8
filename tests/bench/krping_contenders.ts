// SPDX-License-Identifier: BSD-2-Clause
// Runs of krping over the soft engine and of what it is compared with; each starts its own server and ends it.

import type { Program } from "../helpers/netns.ts";
import { RACKWIRE } from "../helpers/cli.ts";
import { BUILT, exchange, finish, type Timing, type Wakeup } from "./contenders.ts";
import type { Figures } from "./contest.ts";
import { CLIENT_CPU, type Place, SERVER_CPU } from "./place.ts";

const SOFT = ["--engine", "soft"];

function polling(wakeup: Wakeup): string[] {
  return wakeup === "busy-poll" ? ["--poll"] : [];
}

/** A krping client of these options against a server of its own; gives the client's document. */
async function krping(
  place: Place,
  wakeup: Wakeup,
  { seconds }: Timing,
  options: string[],
  // deno-lint-ignore no-explicit-any
): Promise<any> {
  const port = `${place.port()}`;
  const { client } = await exchange(
    place,
    [
      RACKWIRE,
      "krping",
      "server",
      ...SOFT,
      "--addr",
      place.address,
      "--port",
      port,
      "--quiet",
      "--pin",
      `${SERVER_CPU}`,
      ...polling(wakeup),
    ],
    [
      RACKWIRE,
      "krping",
      "client",
      `${place.address}:${port}`,
      ...SOFT,
      "--json",
      "--pin",
      `${CLIENT_CPU}`,
      "--duration",
      `${seconds * 1000}ms`,
      "--warmup",
      "1000",
      ...polling(wakeup),
      ...options,
    ],
  );
  return JSON.parse(client);
}

/** Half a round trip of WRITEs or SENDs, or a whole READ or ping. */
export async function krpingLatency(
  place: Place,
  test: "wlat" | "slat" | "rlat" | "ping",
  length: number,
  wakeup: Wakeup,
  timing: Timing,
): Promise<Figures> {
  const { latency_us, completed } = await krping(place, wakeup, timing, [
    ...(test === "ping" ? [] : [`--${test}`]),
    ...["--size", `${length}`],
  ]);
  return {
    us_p50: latency_us.p50,
    us_p90: latency_us.p90,
    us_p99: latency_us.p99,
    us_p99_9: latency_us.p99_9,
    completed,
  };
}

/** Requests of a length as fast as they go. */
export async function krpingBandwidth(
  place: Place,
  op: "write" | "read" | "send",
  length: number,
  depth: number,
  timing: Timing,
  options: string[] = [],
): Promise<Figures> {
  const result = await krping(place, "busy-poll", timing, [
    ...["--bw", "--op", op, "--size", `${length}`, "--txdepth", `${depth}`, ...options],
  ]);
  return {
    goodput_gbps: result.goodput_gbps,
    messages_per_s: result.per_s,
    cpu_client_s_per_gb: result.cpu_ns_per_byte,
    packets_again: result.counters.rtx_packets,
  };
}

/** Many connections in one server, pings on all of them. */
export async function krpingConnections(place: Place, connections: number, timing: Timing): Promise<Figures> {
  const result = await krping(place, "blocking", timing, ["--parallel", `${connections}`, "--size", "64"]);
  return { connections: result.counters.opened, failed: result.counters.failed, pings_per_s: result.per_s };
}

/** libfabric's own ping-pong; its udp provider sends datagrams, its tcp provider messages. */
export async function libfabricPing(
  place: Place,
  provider: "udp" | "tcp",
  length: number,
  iterations: number,
): Promise<Figures> {
  const port = `${place.port()}`;
  const options = [
    ...["-p", provider, "-e", provider === "udp" ? "dgram" : "msg", "-S", `${length}`, "-I", `${iterations}`],
  ];
  const text = await quietExchange(
    place,
    ["taskset", "-c", `${SERVER_CPU}`, "fi_pingpong", "-B", port, ...options],
    ["taskset", "-c", `${CLIENT_CPU}`, "fi_pingpong", "-P", port, ...options, place.address],
  );
  const fields = text.trim().split("\n").at(-1)!.trim().split(/\s+/);
  const us = Number(fields.at(-2));
  if (!(us > 0)) throw new Error(`fi_pingpong printed ${JSON.stringify(text)}`);
  return { us_mean: us, us_p50: us, goodput_gbps: length * 8 / us / 1000 };
}

/** UCX over its tcp transport. */
export async function ucx(
  place: Place,
  test: "ucp_put_lat" | "ucp_put_bw" | "tag_bw",
  length: number,
  iterations: number,
): Promise<Figures> {
  const port = `${place.port()}`;
  const env = ["env", "UCX_TLS=tcp", `UCX_NET_DEVICES=${place.iface}`, "UCX_WARN_UNUSED_ENV_VARS=n"];
  const text = await quietExchange(
    place,
    [...env, "ucx_perftest", "-p", port, "-c", `${SERVER_CPU}`],
    [
      ...env,
      "ucx_perftest",
      place.address,
      "-p",
      port,
      "-c",
      `${CLIENT_CPU}`,
      "-f",
      "-v",
      "-t",
      test,
      "-s",
      `${length}`,
      "-n",
      `${iterations}`,
      "-w",
      `${Math.ceil(iterations / 20)}`,
    ],
  );
  // iterations, latency 50th, average, overall; bandwidth average, overall; message rate average, overall
  const fields = text.trim().split("\n").at(-1)!.split(",").map(Number);
  const [, p50, , mean, , megabytes, , rate] = fields;
  if (fields.some(Number.isNaN) || !(rate! > 0)) {
    throw new Error(`ucx_perftest printed ${JSON.stringify(text)}`);
  }
  return {
    us_p50: p50!,
    us_mean: mean!,
    goodput_gbps: megabytes! * 2 ** 20 * 8 / 1e9,
    messages_per_s: rate!,
  };
}

/** A server that says nothing when it is ready: the client is started again until it is. */
async function quietExchange(place: Place, server: string[], client: string[]): Promise<string> {
  const serving = place.server.start(server, { seconds: 120 });
  try {
    let running: Program | undefined;
    for (let attempt = 1;; attempt++) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      running = place.client.start(client, { seconds: 120 });
      const { status } = await running.finished;
      if (status === 0) return running.out;
      if (attempt === 3) return (await finish(running, client.join(" "))).out;
    }
  } finally {
    await serving.stop("SIGKILL");
  }
}

/** Datagrams of a length with segmentation offload, and nothing on top. */
export async function udpDatagrams(
  place: Place,
  length: number,
  { seconds, warmup }: Timing,
): Promise<Figures> {
  const port = `${place.port()}`;
  const command = (side: string, cpu: number) => [
    ...[`${BUILT}/messages`, side, place.address, port, "--cpu", `${cpu}`, "--length", `${length}`],
    ...["--batch", `${Math.min(64, Math.floor(65507 / length))}`, "--gso", "--busy"],
    ...["--milliseconds", `${seconds * 1000}`, "--warmup", `${warmup * 1000}`],
  ];
  const { server } = await exchange(place, command("receive", SERVER_CPU), command("send", CLIENT_CPU));
  const received = JSON.parse(server.split("\n")[1]!).per_second;
  return { messages_per_s: received, goodput_gbps: received * length * 8 / 1e9 };
}

/** iperf3's UDP as fast as it goes, in datagrams of a length; its segmentation offload where it has one. */
export async function iperf3Udp(place: Place, length: number, timing: Timing): Promise<Figures> {
  const port = `${place.port()}`;
  const { client } = await exchange(
    place,
    [
      "iperf3",
      "--server",
      "--port",
      port,
      "--bind",
      place.address,
      "--affinity",
      `${SERVER_CPU}`,
      "--forceflush",
    ],
    [
      ...[
        "iperf3",
        "--client",
        place.address,
        "--port",
        port,
        "--affinity",
        `${CLIENT_CPU}`,
        "--json",
        "--udp",
      ],
      ...["--bitrate", "0", "--length", `${length}`, "--time", `${Math.ceil(timing.seconds)}`],
    ],
  );
  const { end } = JSON.parse(client);
  const sum = end.sum_received ?? end.sum;
  return { goodput_gbps: sum.bits_per_second / 1e9 };
}

export interface Disk {
  name: string;
  /** Starts it and gives its NBD URI. */
  start(place: Place, directory: string): Promise<{ uri: string; stop(): Promise<void> }>;
}

const DISK = "256MiB";

/** Ours: memory exported by RDMA, served as NBD on a Unix socket. */
export const rackwireDisk: Disk = {
  name: "krping block",
  async start(place, directory) {
    const port = `${place.port()}`;
    const exporter = place.server.start(
      [
        RACKWIRE,
        "krping",
        "block",
        "export",
        ...SOFT,
        "--size",
        DISK,
        "--addr",
        place.address,
        "--port",
        port,
      ],
      { seconds: 600 },
    );
    await exporter.until(/exporting/);
    const socket = `${directory}/ours.sock`;
    const server = place.client.start(
      [RACKWIRE, "krping", "block", "serve", `${place.address}:${port}`, ...SOFT, "--unix", socket],
      { seconds: 600 },
    );
    await server.until(/serving/);
    return {
      uri: `nbd+unix:///?socket=${socket}`,
      async stop() {
        await server.stop("SIGTERM");
        await exporter.stop("SIGTERM");
      },
    };
  },
};

/** nbdkit's memory plugin over TCP. */
export const nbdkitDisk: Disk = {
  name: "nbdkit memory, TCP",
  async start(place) {
    const port = place.port();
    const server = place.server.start(
      [
        "nbdkit",
        "--foreground",
        "--ipaddr",
        place.address,
        "--port",
        `${port}`,
        "memory",
        DISK.replace("iB", ""),
      ],
      { seconds: 600 },
    );
    await new Promise((resolve) => setTimeout(resolve, 500));
    return {
      uri: `nbd://${place.address}:${port}`,
      async stop() {
        await server.stop("SIGTERM");
      },
    };
  },
};

/** fio through its nbd engine. */
export async function fio(
  place: Place,
  disk: Disk,
  what: "randread" | "randwrite" | "read" | "write",
  blockSize: string,
  depth: number,
  { seconds, warmup }: Timing,
): Promise<Figures> {
  const directory = await Deno.makeTempDir({ prefix: "rackwire-bench-" });
  try {
    const { uri, stop } = await disk.start(place, directory);
    try {
      const run = place.client.start([
        ...["fio", "--name=bench", "--ioengine=nbd", `--uri=${uri}`, `--rw=${what}`, `--bs=${blockSize}`],
        ...[
          `--iodepth=${depth}`,
          "--size=256m",
          "--time_based",
          `--runtime=${seconds}`,
          `--ramp_time=${warmup}`,
        ],
        ...["--output-format=json"],
      ], { seconds: 120 });
      const { out } = await finish(run, "fio");
      const [job] = JSON.parse(out.slice(out.indexOf("{"))).jobs;
      const { iops, bw_bytes, clat_ns } = what.endsWith("read") ? job.read : job.write;
      return {
        iops,
        megabytes_per_s: bw_bytes / 1e6,
        us_p50: (clat_ns.percentile?.["50.000000"] ?? 0) / 1000,
      };
    } finally {
      await stop();
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
