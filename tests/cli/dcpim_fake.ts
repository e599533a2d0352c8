// SPDX-License-Identifier: BSD-2-Clause
// A dcPIM service whose figures are made up, for testing what the commands do with them.

import type { DcpimService, Run } from "../../cli/commands/dcpim/client.ts";
import type {
  DcpimStats,
  Transport,
  WorkConnection,
  WorkCounters,
  WorkResult,
  WorkSnapshot,
} from "../../lib/dcpim/workload.ts";
import type { HostFacts } from "../../lib/host/facts.ts";
import { Histogram } from "../../lib/measure/histogram.ts";

/** A machine on which both engines run, with CPUs 0 to 3. */
export function machine(changes: Partial<HostFacts> = {}): HostFacts {
  return {
    kernel: { release: "6.1.0-50-amd64", version: "#1 SMP", machine: "x86_64" },
    hostname: "node7",
    cpus: { online: 4, allowed: [0, 1, 2, 3] },
    memory_bytes: 16 * 2 ** 30,
    page_bytes: 4096,
    euid: 0,
    capabilities: ["CAP_NET_RAW"],
    limits: { memlock_bytes: null, open_files: 1024 },
    probes: {
      raw_ipv4_protocol_254: "ok",
      raw_ipv6_protocol_254: "ok",
      packet_socket: "ok",
      ipv6: "ok",
      udp_gso: "ok",
      udp_gro: "ok",
      busy_poll: "ok",
      receive_buffer_beyond_limit: "ok",
    },
    sysctl: { "net.core.rmem_max": 212_992 },
    interfaces: [],
    rdma: { devices: [] },
    libraries: [{ name: "dcpim", path: "/x/librackwire_dcpim.so", present: true }],
    deno: "2.9.6",
    ...changes,
  };
}

/** The same without the right to raw sockets. */
export function unprivileged(): HostFacts {
  const facts = machine({ euid: 1000, capabilities: [] });
  return { ...facts, probes: { ...facts.probes, raw_ipv4_protocol_254: "EPERM" } };
}

const NO_COUNTERS: WorkCounters = {
  opened: 1,
  open: 0,
  failed: 0,
  requests: 0,
  completed: 0,
  warmup: 0,
  lost: 0,
  late: 0,
  tx_bytes: 0,
  rx_bytes: 0,
  verified_bytes: 0,
  corrupt_bytes: 0,
  measured_bytes: 0,
  measured_requests: 0,
  measured_ns: 0,
  cpu_ns: 0,
  rtx_bytes: 0,
  peer_reports: 0,
  peer_bytes: 0,
  peer_requests: 0,
  peer_verified_bytes: 0,
  peer_corrupt_bytes: 0,
  peer_cpu_ns: 0,
};

export interface Figures {
  counters?: Partial<WorkCounters>;
  /** Nanoseconds. */
  latencies?: number[];
}

function snapshotOf(figures: Partial<Record<Transport, Figures>>, atMs: number): WorkSnapshot {
  return {
    at_ms: atMs,
    transports: Object.fromEntries(
      Object.entries(figures).map(([name, { counters, latencies = [] }]) => {
        const latency = new Histogram();
        for (const value of latencies) latency.record(value);
        return [name, { counters: { ...NO_COUNTERS, ...counters }, latency }];
      }),
    ),
  };
}

export interface FakeRun {
  figures: Partial<Record<Transport, Figures>>;
  stats?: Partial<DcpimStats>;
  corrupt?: boolean;
  /** How the run fails. */
  error?: Error;
  /** Goes on until it is stopped. */
  endless?: boolean;
  /** Of a server: what it lists at the first reading, the second and so on; the last stays. */
  connections?: WorkConnection[][];
  /** Figures at the same readings. */
  readings?: Partial<Record<Transport, Figures>>[];
}

export interface Fake {
  service: DcpimService;
  /** What the runs were started with. */
  started: { what: string; options: Record<string, unknown> }[];
  /** Whether each run was freed. */
  closed: number;
  stops: number;
}

export function fakeService(run: FakeRun): Fake {
  const fake: Fake = { service: undefined as unknown as DcpimService, started: [], closed: 0, stops: 0 };
  const start = (what: Run["kind"]) => (options: unknown): Run => {
    const given = options as { transports?: Transport[]; engine: { engine: "udp" | "raw" } };
    fake.started.push({ what, options: given as unknown as Record<string, unknown> });
    const ended = Promise.withResolvers<WorkResult>();
    ended.promise.catch(() => {});
    let stopped = false;
    let reading = 0;
    const finish = () => {
      if (run.error !== undefined) ended.reject(run.error);
      else {
        ended.resolve({
          ...snapshotOf(run.figures, performance.now()),
          corrupt: run.corrupt ?? false,
          stopped,
        });
      }
    };
    if (!run.endless) queueMicrotask(finish);
    return {
      kind: what,
      engine: given.engine.engine,
      transports: given.transports ?? ["dcpim"],
      ports: what === "server" ? { dcpim: 4000, tcp: 4000, udp: 4001 } : {},
      done: ended.promise,
      stop() {
        fake.stops++;
        stopped = true;
        finish();
      },
      snapshot() {
        const figures = run.readings?.[Math.min(reading, run.readings.length - 1)] ?? run.figures;
        return snapshotOf(figures, 1000 * reading++);
      },
      connections: () => run.connections?.[Math.min(reading - 1, run.connections.length) - 1] ?? [],
      engineStats: () => ({ epochs: 12, rts_tx: 34, ...run.stats }) as DcpimStats,
      close: () => void fake.closed++,
    };
  };
  fake.service = {
    startServer: start("server"),
    startPing: start("ping"),
    startStream: start("stream"),
    startMessages: start("message"),
  };
  return fake;
}
