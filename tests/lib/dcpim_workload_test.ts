// SPDX-License-Identifier: BSD-2-Clause
// Workloads through the FFI: server and client in this process, over loopback.

import assert from "node:assert/strict";
import { RackwireError } from "../../lib/ffi/errors.ts";
import { resolveHost } from "../../lib/host/resolve.ts";
import {
  type ServerOptions,
  startMessages,
  startPing,
  startServer,
  startStream,
  TRANSPORTS,
  type Workload,
} from "../../lib/dcpim/workload.ts";

const peer = await resolveHost("127.0.0.1");
const engine = { engine: "udp", control: false } as const;

function server(options: Partial<ServerOptions> = {}): { server: Workload; port: number } {
  const started = startServer({ address: peer, port: 0, baselines: ["tcp", "udp"], engine, ...options });
  return { server: started, port: started.ports.dcpim! };
}

function rejects(promise: Promise<unknown>, code: string, words: RegExp): Promise<void> {
  return assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof RackwireError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, words);
    return true;
  });
}

Deno.test("a ping over dcPIM, TCP and UDP in turns fills three histograms", async () => {
  const { server: serving, port } = server();
  await using _ = serving;
  assert.equal(serving.ports.tcp, port);
  assert.equal(serving.ports.udp, port + 1);
  await using ping = startPing({
    peer,
    port,
    transports: TRANSPORTS,
    count: 500,
    warmupCount: 10,
    sliceNs: 2e6,
    engine,
  });
  const result = await ping.done;
  assert.equal(result.corrupt, false);
  assert.equal(result.stopped, false);
  for (const name of TRANSPORTS) {
    const { counters, latency } = result.transports[name]!;
    assert.equal(latency.count, 500);
    assert.equal(counters.completed, 500);
    assert.equal(counters.warmup, 10);
    assert.equal(counters.requests, 510);
    assert.equal(counters.lost, 0);
    assert.equal(counters.verified_bytes, 510 * 64);
    assert.equal(counters.peer_requests, 510);
    const { min, p50, p99, max } = latency.summary();
    assert.ok(0 < min && min <= p50 && p50 <= p99 && p99 <= max);
  }
  const rows = serving.connections();
  assert.deepEqual(rows.map(({ transport }) => transport).sort(), ["dcpim", "tcp", "udp"]);
  assert.ok(rows.every(({ service, peer }) => service === "echo" && peer.startsWith("127.0.0.1:")));
  const stats = ping.engineStats();
  assert.equal(stats.flows_opened, 1);
  assert.equal(stats.data_bytes_tx, 510 * 64 + 32);
});

Deno.test("a stream's bytes are all verified by the server, whose account the client has", async () => {
  const { server: serving, port } = server();
  await using _ = serving;
  await using stream = startStream({ peer, port, bytes: 5_000_000, connections: 2, engine });
  const { transports } = await stream.done;
  const { counters } = transports.dcpim!;
  assert.equal(counters.tx_bytes, 10_000_000);
  assert.equal(counters.measured_bytes, 10_000_000);
  assert.equal(counters.peer_reports, 2);
  assert.equal(counters.peer_verified_bytes, 10_000_000);
  assert.ok(counters.cpu_ns > 0 && counters.peer_cpu_ns > 0 && counters.measured_ns > 0);
  assert.equal(serving.snapshot().transports.dcpim!.counters.verified_bytes, 10_000_000);
});

Deno.test("a reversed stream is verified by the client", async () => {
  const { server: serving, port } = server();
  await using _ = serving;
  await using stream = startStream({
    peer,
    port,
    bytes: 3_000_000,
    reverse: true,
    transports: ["dcpim", "tcp"],
    engine,
  });
  const { transports } = await stream.done;
  assert.equal(transports.dcpim!.counters.verified_bytes, 3_000_000);
  assert.equal(transports.tcp!.counters.verified_bytes, 3_000_000);
});

Deno.test("messages are counted, verified, and timed to their acknowledgement", async () => {
  const { server: serving, port } = server();
  await using _ = serving;
  await using messages = startMessages({ peer, port, count: 2000, length: 100, iodepth: 32, engine });
  const { counters, latency } = (await messages.done).transports.dcpim!;
  assert.equal(counters.completed, 2000);
  assert.equal(latency.count, 2000);
  assert.equal(counters.peer_verified_bytes, 200_000);
});

Deno.test("figures grow while a ping runs, and stop() ends it in good order", async () => {
  const { server: serving, port } = server();
  await using _ = serving;
  await using ping = startPing({ peer, port, short: true, engine });
  let last = 0;
  for (let seen = 0; seen < 3;) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    const { completed } = ping.snapshot().transports.dcpim!.counters;
    assert.ok(completed >= last);
    if (completed > last) seen++;
    last = completed;
  }
  assert.throws(() => ping.close(), (error) => error instanceof RackwireError && error.code === "EBUSY");
  ping.stop();
  const result = await ping.done;
  assert.equal(result.stopped, true);
  assert.ok(result.transports.dcpim!.counters.completed >= last);
  assert.equal(result.transports.dcpim!.counters.peer_reports, 1);
  const [row] = ping.connections();
  assert.equal(row!.kind, "message");
  assert.equal(row!.state, "ended");
  ping.close();
  assert.throws(
    () => ping.connections(),
    (error) => error instanceof RackwireError && error.code === "EBADF",
  );
  assert.equal(
    ping.snapshot().transports.dcpim!.counters.completed,
    result.transports.dcpim!.counters.completed,
  );
});

Deno.test("without a listener a ping is refused", async () => {
  const { server: gone, port } = server();
  gone.stop();
  await gone.done;
  gone.close();
  for (const name of TRANSPORTS) {
    await using ping = startPing({ peer, port, transports: [name], engine });
    await rejects(ping.done, "ECONNREFUSED", /nothing listens at 127\.0\.0\.1 port \d+/);
  }
});

Deno.test("a second server on one port is refused", async () => {
  const { server: serving, port } = server();
  await using _ = serving;
  assert.throws(
    () => server({ port, baselines: [] }),
    (error) =>
      error instanceof RackwireError && error.code === "EADDRINUSE" && error.message.includes(`${port}`),
  );
});

Deno.test("a server that goes away in the middle ends the client", async () => {
  const { server: serving, port } = server();
  await using _ = serving;
  await using stream = startStream({ peer, port, engine });
  while (stream.snapshot().transports.dcpim!.counters.tx_bytes === 0) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  serving.stop();
  await rejects(stream.done, "ECONNRESET", /broke the connection off|closed the connection/);
});

Deno.test("bad values are refused before anything is opened", () => {
  const refuses = (start: () => Workload, words: RegExp) =>
    assert.throws(
      start,
      (error) => error instanceof RackwireError && error.exitStatus === 2 && words.test(error.message),
    );
  refuses(() => startPing({ peer, port: 0, engine }), /port 0/);
  refuses(() => startPing({ peer, port: 70000, engine }), /port 70000/);
  refuses(() => startPing({ peer, port: 1, length: 0, engine }), /length 0/);
  refuses(() => startPing({ peer, port: 1, length: 2 ** 30, engine }), /length 1073741824/);
  refuses(() => startPing({ peer, port: 1, iodepth: 5000, engine }), /iodepth 5000/);
  refuses(() => startPing({ peer, port: 1, connections: 2000, engine }), /connections 2000/);
  refuses(() => startPing({ peer, port: 1, sourcePort: 65535, connections: 2, engine }), /65535/);
  refuses(() => startPing({ peer, port: 1, transports: [], engine }), /no transport/);
  refuses(() => startStream({ peer, port: 1, bytes: 0.5, engine }), /bytes 0\.5/);
  refuses(() => startServer({ port: -1, engine }), /port -1/);
  refuses(() => startServer({ port: 1, engine: { ...engine, protocol: { rounds: 99 } } }), /rounds 99/);
});
