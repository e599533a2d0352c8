// SPDX-License-Identifier: BSD-2-Clause
// Runs of dcPIM and of what it is compared with; each starts its own server and ends it.

import { IMPAIR } from "../helpers/netns.ts";
import type { Finished, Program } from "../helpers/netns.ts";
import { RACKWIRE } from "../helpers/cli.ts";
import type { Figures } from "./contest.ts";
import { busySeconds, cpuSeconds } from "./machine.ts";
import { CLIENT_CPU, type Place, SERVER_CPU } from "./place.ts";

export const BUILT = IMPAIR.replace(/tests\/helpers\/impair$/, "bench");

export interface Timing {
  /** Measured seconds of a run. */
  seconds: number;
  /** Seconds before that. */
  warmup: number;
}

export type Wakeup = "blocking" | "busy-poll";

/** Ends with a program's own words when it failed. */
export async function finish(program: Program, what: string): Promise<Finished> {
  const finished = await program.finished;
  if (finished.status !== 0) {
    throw new Error(`${what} ended with ${finished.status}: ${finished.err || finished.out}`);
  }
  return finished;
}

/** Runs a client against a server that says when it is ready and stops at a signal. */
export async function exchange(
  place: Place,
  server: string[],
  client: string[],
  during: (client: Program, server: Program) => Promise<void> = async () => {},
): Promise<{ client: string; server: string }> {
  const serving = place.server.start(server, { seconds: 120 });
  try {
    await serving.until(/listening/i);
    const running = place.client.start(client, { seconds: 120 });
    const [{ out }] = await Promise.all([finish(running, client.join(" ")), during(running, serving)]);
    const { out: served } = await serving.stop("SIGTERM");
    return { client: out, server: served };
  } finally {
    await serving.stop("SIGKILL");
  }
}

interface CpuUse {
  client: number;
  server: number;
  machine: number;
  seconds: number;
}

/** CPU use in the middle of a run: starting, stopping and warming up are left out alike for every contender. */
async function cpuInTheMiddle(
  client: Program,
  server: Program,
  { seconds, warmup }: Timing,
): Promise<CpuUse> {
  const sleep = (s: number) => new Promise((resolve) => setTimeout(resolve, s * 1000));
  const read = () =>
    [
      cpuSeconds(client.pid),
      cpuSeconds(server.pid),
      busySeconds(),
      performance.now() / 1000,
    ] as const;
  // Deno takes about 0.3 s to start.
  await sleep(warmup + 0.5);
  const from = read();
  await sleep(seconds - 0.7);
  const to = read();
  const [client_s, server_s, machine_s, passed] = to.map((value, i) => value - from[i]!) as [
    number,
    number,
    number,
    number,
  ];
  return { client: client_s, server: server_s, machine: machine_s, seconds: passed };
}

/** Seconds of CPU for each 10^9 bytes of payload. */
function perGigabyte(cpu: CpuUse, bitsPerSecond: number): Figures {
  const gigabytes = bitsPerSecond / 8e9 * cpu.seconds;
  return {
    cpu_client_s_per_gb: cpu.client / gigabytes,
    cpu_server_s_per_gb: cpu.server / gigabytes,
    cpu_s_per_gb: (cpu.client + cpu.server) / gigabytes,
    cpu_machine_s_per_gb: cpu.machine / gigabytes,
  };
}

export type Engine = "udp" | "raw";

function rackwireServer(place: Place, port: number, engine: Engine, wakeup: Wakeup): string[] {
  return [
    ...[RACKWIRE, "dcpim", "server", "--ip", place.address, "--port", `${port}`, "--engine", engine],
    ...["--pin", `${SERVER_CPU}`, "--quiet", "--json"],
    ...(wakeup === "busy-poll" ? ["--busy-poll"] : []),
  ];
}

function rackwireClient(
  verb: string,
  place: Place,
  port: number,
  engine: Engine,
  wakeup: Wakeup,
  { seconds, warmup }: Timing,
): string[] {
  return [
    ...[RACKWIRE, "dcpim", verb, `${place.address}:${port}`, "--engine", engine, "--pin", `${CLIENT_CPU}`],
    ...["--duration", `${seconds * 1000}ms`, "--warmup", `${warmup * 1000}ms`, "--json"],
    ...(wakeup === "busy-poll" ? ["--busy-poll"] : []),
  ];
}

/** 64 B there and back over dcPIM. */
export async function dcpimPing(
  place: Place,
  kind: "long" | "short",
  engine: Engine,
  wakeup: Wakeup,
  timing: Timing,
): Promise<Figures> {
  const port = place.port();
  const { client } = await exchange(place, rackwireServer(place, port, engine, wakeup), [
    ...rackwireClient("ping", place, port, engine, wakeup, timing),
    ...[`--${kind}`, "--length", "64"],
  ]);
  const { rtt_us, transports: { dcpim } } = JSON.parse(client);
  return {
    rtt_us_p50: rtt_us.p50,
    rtt_us_p90: rtt_us.p90,
    rtt_us_p99: rtt_us.p99,
    rtt_us_p99_9: rtt_us.p99_9,
    rtt_us_max: rtt_us.max,
    round_trips: dcpim.pings,
    lost: dcpim.lost,
  };
}

/** 64 B there and back over the kernel's UDP or TCP. */
export async function kernelPing(
  place: Place,
  transport: "udp" | "tcp",
  wakeup: Wakeup,
  { seconds, warmup }: Timing,
): Promise<Figures> {
  const port = `${place.port()}`;
  const command = (side: string, cpu: number) => [
    ...[`${BUILT}/pingpong`, transport, side, place.address, port, "--cpu", `${cpu}`, "--length", "64"],
    ...["--milliseconds", `${seconds * 1000}`, "--warmup", `${warmup * 1000}`],
    ...(wakeup === "busy-poll" ? ["--busy"] : []),
  ];
  const { client } = await exchange(place, command("server", SERVER_CPU), command("client", CLIENT_CPU));
  const { p50_us, p90_us, p99_us, p99_9_us, max_us, count, lost } = JSON.parse(client);
  return {
    rtt_us_p50: p50_us,
    rtt_us_p90: p90_us,
    rtt_us_p99: p99_us,
    rtt_us_p99_9: p99_9_us,
    rtt_us_max: max_us,
    round_trips: count,
    lost,
  };
}

const WRITE = 128 * 1024;

/** A stream over dcPIM as fast as it goes. */
export async function dcpimStream(
  place: Place,
  engine: Engine,
  validate: boolean,
  timing: Timing,
): Promise<Figures> {
  const port = place.port();
  let cpu: CpuUse | undefined;
  const { client } = await exchange(
    place,
    rackwireServer(place, port, engine, "blocking"),
    [
      ...rackwireClient("stream", place, port, engine, "blocking", timing),
      ...["--size", `${WRITE}`, ...(validate ? [] : ["--no-validate"])],
    ],
    async (running, serving) => {
      cpu = await cpuInTheMiddle(running, serving, timing);
    },
  );
  const { goodput_gbps } = JSON.parse(client);
  return { goodput_gbps, ...perGigabyte(cpu!, goodput_gbps * 1e9) };
}

/** A TCP stream of iperf3. */
export async function iperf3Stream(place: Place, timing: Timing): Promise<Figures> {
  const port = `${place.port()}`;
  let cpu: CpuUse | undefined;
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
      ...["iperf3", "--client", place.address, "--port", port, "--affinity", `${CLIENT_CPU}`, "--json"],
      ...[
        "--time",
        `${Math.ceil(timing.seconds)}`,
        "--omit",
        `${Math.ceil(timing.warmup)}`,
        "--length",
        `${WRITE}`,
      ],
    ],
    async (running, serving) => {
      cpu = await cpuInTheMiddle(running, serving, { ...timing, warmup: Math.ceil(timing.warmup) });
    },
  );
  const bitsPerSecond: number = JSON.parse(client).end.sum_received.bits_per_second;
  return { goodput_gbps: bitsPerSecond / 1e9, ...perGigabyte(cpu!, bitsPerSecond) };
}

/** 64 B messages over dcPIM, each complete only when the receiver has it. */
export async function dcpimMessages(
  place: Place,
  engine: Engine,
  wakeup: Wakeup,
  timing: Timing,
): Promise<Figures> {
  const port = place.port();
  const { client } = await exchange(place, rackwireServer(place, port, engine, wakeup), [
    ...rackwireClient("message", place, port, engine, wakeup, timing),
    ...["--size", "64", "--iodepth", "1024", "--no-validate"],
  ]);
  const { messages_per_s } = JSON.parse(client);
  return { messages_per_s };
}

/** How datagrams go through the system calls; see tests/bench/messages.c. */
export type Batching = "send/recv" | "sendmmsg" | "GSO";
const BATCH = 64;

/** 64 B datagrams over the kernel's UDP that arrived. */
export async function udpMessages(
  place: Place,
  batching: Batching,
  wakeup: Wakeup,
  { seconds, warmup }: Timing,
): Promise<Figures> {
  const port = `${place.port()}`;
  const command = (side: string, cpu: number) => [
    ...[`${BUILT}/messages`, side, place.address, port, "--cpu", `${cpu}`, "--length", "64"],
    ...["--batch", `${batching === "send/recv" ? 1 : BATCH}`, ...(batching === "GSO" ? ["--gso"] : [])],
    ...["--milliseconds", `${seconds * 1000}`, "--warmup", `${warmup * 1000}`],
    ...(wakeup === "busy-poll" ? ["--busy"] : []),
  ];
  const { client, server } = await exchange(
    place,
    command("receive", SERVER_CPU),
    command("send", CLIENT_CPU),
  );
  const received = JSON.parse(server.split("\n")[1]!);
  return { messages_per_s: received.per_second, sent_per_s: JSON.parse(client).per_second };
}

interface IdleFigures {
  memory_core: number;
  memory_sockets: number;
  memory_buffers: number;
  memory_pools: number;
  flows: number;
  tx_packets: number;
  rx_packets: number;
  resident: number;
  open_files: number;
}

function idleLines(text: string): IdleFigures[] {
  return text.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}

function waitingFor(program: Program, line: number): Promise<void> {
  return program.until(new RegExp(`(?:^\\{.*\\}\\n[^]*){${line}}`, "m"));
}

/**
 * Opens connections between two processes and leaves them alone for a time.
 * @param whileIdle is called once they are; its result is passed on
 */
export async function idleConnections<T>(
  place: Place,
  engine: Engine,
  connections: number,
  whileIdle: () => Promise<T>,
): Promise<{ client: IdleFigures[]; server: IdleFigures[]; idle: T }> {
  const port = `${place.port()}`;
  const command = (side: string) => [
    ...[`${BUILT}/idle`, side, place.address, port, `${connections}`],
    ...(engine === "raw" ? ["--raw"] : []),
  ];
  const server = place.server.start(command("server"), { seconds: 120, input: true });
  await server.until(/listening/);
  const client = place.client.start(command("client"), { seconds: 120, input: true });
  try {
    await Promise.all([waitingFor(server, 2), waitingFor(client, 2)]);
    const idle = await whileIdle();
    // The client first: what it then closes must find its peer alive.
    client.closeInput();
    await finish(client, "idle client");
    server.closeInput();
    await finish(server, "idle server");
    return { client: idleLines(client.out), server: idleLines(server.out), idle };
  } finally {
    await Promise.all([client.stop("SIGKILL"), server.stop("SIGKILL")]);
  }
}

/** Engine and process memory that each of many idle connections takes, at the side that takes more. */
export async function idleMemory(place: Place, engine: Engine, connections: number): Promise<Figures> {
  const { client, server } = await idleConnections(place, engine, connections, async () => {});
  const engineBytes = (figures: IdleFigures) =>
    figures.memory_core + figures.memory_sockets + figures.memory_buffers + figures.memory_pools;
  const perConnection = ([before, open]: IdleFigures[], bytes: (figures: IdleFigures) => number) =>
    (bytes(open!) - bytes(before!)) / connections;
  return {
    engine_bytes: Math.max(
      perConnection(client, engineBytes),
      perConnection(server, engineBytes),
    ),
    client_engine_bytes: perConnection(client, engineBytes),
    server_engine_bytes: perConnection(server, engineBytes),
    client_resident_bytes: perConnection(client, ({ resident }) => resident),
    server_resident_bytes: perConnection(server, ({ resident }) => resident),
    client_open_files: client[1]!.open_files,
    server_open_files: server[1]!.open_files,
  };
}

/** Packets on the wire in a time in which no connection has anything to send. */
export async function idlePackets(
  place: Place,
  engine: Engine,
  connections: number,
  seconds: number,
): Promise<Figures> {
  const { client, idle } = await idleConnections(place, engine, connections, async () => {
    const filter = engine === "raw" ? "ip proto 254" : "udp";
    const capture = place.server.start(
      ["tcpdump", "--immediate-mode", "-i", place.iface, "-n", "-q", filter],
      { seconds: 120 },
    );
    await capture.until(/listening on/);
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    const { out } = await capture.stop("SIGINT");
    return out.split("\n").filter((line) => line !== "").length;
  });
  const [, before, after] = client;
  return {
    packets_on_wire: idle,
    packets_of_client: after!.tx_packets - before!.tx_packets + after!.rx_packets - before!.rx_packets,
    idle_seconds: seconds,
    connections,
  };
}
