// SPDX-License-Identifier: BSD-2-Clause
// RoCEv2 for programs, over loopback, with both ends in this process.

import assert from "node:assert/strict";
import { RackwireError } from "../../lib/ffi/errors.ts";
import {
  type Completion,
  type CompletionQueue,
  connect,
  type MemoryRegion,
  type ProtectionDomain,
  type QueuePair,
  type RoceConnection,
  RoceDevice,
  RoceListener,
} from "../../lib/roce/mod.ts";

/** A port that other tests on this machine do not use. */
const UDP_PORT = 30000 + Deno.pid % 2000;
const ALL = ["local_write", "remote_write", "remote_read", "remote_atomic"] as const;

interface End {
  device: RoceDevice;
  domain: ProtectionDomain;
  completions: CompletionQueue;
  queue: QueuePair;
  memory: MemoryRegion;
}

function openEnd(local: string): End {
  const device = RoceDevice.open({ local, udp_port: UDP_PORT });
  const domain = device.protectionDomain();
  const completions = device.completionQueue();
  const queue = domain.queuePair(completions, completions, { access: ALL });
  const memory = domain.register(new Uint8Array(1 << 20), ALL);
  return { device, domain, completions, queue, memory };
}

interface Pair {
  client: End;
  server: End;
  near: RoceConnection;
  far: RoceConnection;
}

async function withPair(work: (pair: Pair) => Promise<void>, addresses = ["127.0.0.1", "127.0.0.2"]) {
  const client = openEnd(addresses[0]!);
  const server = openEnd(addresses[1]!);
  try {
    using listener = RoceListener.listen(server.device, { port: 0 });
    const connecting = connect(client.device, client.queue, {
      host: addresses[1]!,
      port: listener.port,
      privateData: new TextEncoder().encode("hello"),
    });
    const request = (await listener.next())!;
    assert.equal(new TextDecoder().decode(request.privateData.subarray(0, 5)), "hello");
    const accepting = request.accept(server.queue, { privateData: new TextEncoder().encode("welcome") });
    const [near, far] = await Promise.all([connecting, accepting]);
    assert.equal(new TextDecoder().decode(near.privateData.subarray(0, 7)), "welcome");
    await work({ client, server, near, far });
  } finally {
    await client.device.close();
    await server.device.close();
  }
}

async function one({ completions }: End): Promise<Completion> {
  const [completion] = await completions.wait(1, 10_000);
  assert.ok(completion !== undefined, "nothing completed within ten seconds");
  return completion;
}

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => error instanceof RackwireError && error.code === code;
}

async function exchange({ client, server }: Pair): Promise<void> {
  crypto.getRandomValues(client.memory.bytes.subarray(0, 60_000));
  server.queue.receive({ id: 7n, local: server.memory.slice(0, 60_000) });
  client.queue.send({ op: "send_with_imm", id: 8n, imm: 0xdeadbeef, local: client.memory.slice(0, 60_000) });
  const received = await one(server);
  assert.deepEqual(
    [received.status, received.id, received.op, received.bytes, received.imm],
    ["success", 7n, "receive", 60_000, 0xdeadbeef],
  );
  assert.equal((await one(client)).id, 8n);
  assert.deepEqual(server.memory.bytes.subarray(0, 60_000), client.memory.bytes.subarray(0, 60_000));

  const there = { addr: server.memory.addr + 100_000n, rkey: server.memory.key };
  client.queue.send(
    { op: "write", local: client.memory.slice(0, 50_000), remote: there, signaled: false },
    { op: "read", id: 9n, local: client.memory.slice(200_000, 50_000), remote: there, fence: true },
  );
  const read = await one(client);
  assert.deepEqual([read.status, read.id, read.op], ["success", 9n, "read"]);
  assert.deepEqual(client.memory.bytes.subarray(200_000, 250_000), client.memory.bytes.subarray(0, 50_000));

  const counter = new BigUint64Array(server.memory.bytes.buffer, 0, 1);
  counter[0] = 40n;
  const remote = { addr: server.memory.addr, rkey: server.memory.key };
  client.queue.send({ op: "fetch_and_add", compare_add: 2n, local: client.memory.slice(0, 8), remote });
  assert.equal((await one(client)).status, "success");
  client.queue.send({
    op: "compare_and_swap",
    compare_add: 42n,
    swap: 1n,
    local: client.memory.slice(8, 8),
    remote,
  });
  assert.equal((await one(client)).status, "success");
  assert.deepEqual([...new BigUint64Array(client.memory.bytes.buffer, 0, 2)], [40n, 42n]);
  assert.equal(counter[0], 1n);
}

Deno.test("messages, writes, reads and atomics cross between two IPv4 devices", () => withPair(exchange));

Deno.test("two devices share one IPv4 address", () => withPair(exchange, ["127.0.0.1", "127.0.0.1"]));

Deno.test("a key dies when its region is registered anew, or the peer invalidates it", () =>
  withPair(async ({ client, server }) => {
    const key = server.memory.key;
    server.queue.receive({ local: server.memory.slice(0, 8) });
    client.queue.send({ op: "send_with_inv", invalidate: key, local: client.memory.slice(0, 8) });
    const received = await one(server);
    assert.equal(received.invalidated, key);
    assert.equal((await one(client)).ok, true);
    const next = server.memory.nextKey();
    server.queue.send({ op: "reg_mr", register: { region: server.memory, key: next, access: ALL } });
    assert.equal((await one(server)).op, "reg_mr");
    assert.equal(server.memory.key, next);
    const write = (rkey: number) =>
      client.queue.send({
        op: "write",
        local: client.memory.slice(0, 8),
        remote: { addr: server.memory.addr, rkey },
      });
    write(next);
    assert.equal((await one(client)).status, "success");
    write(key);
    assert.equal((await one(client)).status, "remote access error");
    assert.equal(client.queue.state, "err");
  }));

Deno.test("a disconnection is told, and what was posted is flushed", () =>
  withPair(async ({ server, near, far }) => {
    server.queue.receive({ id: 1n, local: server.memory.slice(0, 8) });
    near.disconnect();
    await far.ended();
    assert.deepEqual([(await one(server)).status], ["flushed"]);
    await near.ended();
  }));

Deno.test("closing a device ends its waits and tells its peers", () =>
  withPair(async ({ client, server, near, far }) => {
    const waiting = server.completions.wait();
    const ending = far.ended();
    await server.device.close();
    assert.deepEqual(await waiting, []);
    await ending;
    await near.ended();
    assert.throws(() => server.queue.send({ op: "send" }), hasCode("EBADF"));
    assert.throws(() => server.device.info(), hasCode("EBADF"));
    assert.notEqual(client.queue.state, "rts");
  }));

Deno.test("connecting where nobody listens, or is wanted, is refused with the reason", async () => {
  const client = openEnd("127.0.0.1");
  const server = openEnd("127.0.0.2");
  const host = "127.0.0.2";
  try {
    await assert.rejects(
      connect(client.device, client.queue, { host, port: 7471 }),
      (error) => hasCode("ECONNREFUSED")(error) && /nothing listens/.test((error as Error).message),
    );
    using listener = RoceListener.listen(server.device, { port: 7471 });
    const connecting = connect(client.device, client.queue, { host, port: listener.port });
    const refused = assert.rejects(
      connecting,
      (error) => hasCode("ECONNREFUSED")(error) && /application refused/.test((error as Error).message),
    );
    (await listener.next())!.reject();
    await refused;
    await assert.rejects(connect(client.device, client.queue, { host, port: 0 }), hasCode("EINVAL"));
  } finally {
    await client.device.close();
    await server.device.close();
  }
});

Deno.test("a device says what it is and counts what it does", () =>
  withPair(async (pair) => {
    await exchange(pair);
    const info = pair.client.device.info();
    assert.deepEqual([info.local, info.mtu, info.qps, info.thread], ["127.0.0.1", 4096, 1, true]);
    assert.ok(info.processes >= 1);
    const stats = pair.client.device.stats();
    assert.ok(stats.tx_packets > 15n && stats.rx_bad_icrc === 0n);
    assert.ok(pair.client.queue.stats().tx_bytes >= 110_000n);
  }));

Deno.test("what cannot be is refused before or at opening", async () => {
  assert.throws(() => RoceDevice.open({ mtu: 1500, udp_port: UDP_PORT }), hasCode("EINVAL"));
  assert.throws(() => RoceDevice.open({ local: "here", udp_port: UDP_PORT }), hasCode("EINVAL"));
  assert.throws(
    () => RoceDevice.open({ local: "203.0.113.1", udp_port: UDP_PORT }),
    hasCode("EADDRNOTAVAIL"),
  );
  assert.throws(() => RoceDevice.open({ local: "x".repeat(64) }), hasCode("EINVAL"));
  await using device = RoceDevice.open({ local: "127.0.0.1", udp_port: UDP_PORT });
  using domain = device.protectionDomain();
  assert.throws(() => domain.register(new Uint8Array(8), ["remote_write"]), hasCode("EINVAL"));
  using memory = domain.register(new Uint8Array(8), []);
  assert.throws(() => memory.slice(4, 8), hasCode("EINVAL"));
  assert.throws(() => domain.close(), hasCode("EBUSY"));
});

Deno.test("a port that another device of the address listens on is taken", async () => {
  await using first = RoceDevice.open({ local: "127.0.0.1", udp_port: UDP_PORT });
  await using second = RoceDevice.open({ local: "127.0.0.1", udp_port: UDP_PORT });
  using _listener = RoceListener.listen(first, { port: 7471 });
  assert.throws(() => RoceListener.listen(second, { port: 7471 }), hasCode("EADDRINUSE"));
});
