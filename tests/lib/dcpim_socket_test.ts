// SPDX-License-Identifier: BSD-2-Clause
// dcPIM connections for programs, over loopback, with both ends in this process.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { checkEngineOptions, configFields, DCPIM_LIMITS, DcpimEngine, epochNs } from "../../lib/dcpim/mod.ts";
import { addressText, readSockaddr, sockaddr } from "../../lib/host/sockaddr.ts";
import { connect, type DcpimConnection, type DcpimListener, listen } from "../../lib/dcpim/mod.ts";
import { dcpimConfigStruct, dcpimLibrary } from "../../lib/dcpim/symbols.ts";
import { loadLibrary } from "../../lib/ffi/library.ts";
import { RackwireError } from "../../lib/ffi/errors.ts";
import { sanitizedEnvironment } from "../helpers/cli.ts";
import { needs } from "../helpers/needs.ts";

const HOST = "127.0.0.1";
const UDP = { engine: "udp" } as const;

/** Bytes that differ from place to place, the same for the same seed. */
function pattern(length: number, seed: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let state = seed * 2654435761 >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

async function digest(parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<string> {
  const all: Uint8Array[] = [];
  for await (const part of parts) all.push(part.slice());
  const hash = await crypto.subtle.digest("SHA-256", await new Blob(all as BlobPart[]).arrayBuffer());
  return new Uint8Array(hash).toHex();
}

async function collect(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  return new Uint8Array(await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer());
}

async function send(connection: DcpimConnection, bytes: Uint8Array): Promise<void> {
  const writer = connection.writable.getWriter();
  await writer.write(bytes);
  await writer.close();
}

interface Pair {
  listener: DcpimListener;
  client: DcpimConnection;
  server: DcpimConnection;
}

async function withPair(
  kind: "stream" | "message",
  work: (pair: Pair) => Promise<void>,
  engine: "udp" | "raw" = "udp",
  host = HOST,
): Promise<void> {
  await using listener = await listen({ host, port: 0, engine: { engine } });
  const accepting = listener.accept();
  await using client = await connect({ host, port: listener.address.port, kind, engine: { engine } });
  await using server = (await accepting)!;
  await work({ listener, client, server });
}

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => error instanceof RackwireError && error.code === code;
}

async function streamBothWays({ client, server, listener }: Pair): Promise<void> {
  const there = pattern(5_000_001, 1);
  const back = pattern(3_000_017, 2);
  const [gotThere, gotBack] = await Promise.all([
    collect(server.readable),
    collect(client.readable),
    send(client, there),
    send(server, back),
  ]);
  assert.equal(await digest([gotThere]), await digest([there]));
  assert.equal(await digest([gotBack]), await digest([back]));
  const info = client.info();
  assert.equal(info.kind, "stream");
  assert.equal(info.remote?.port, listener.address.port);
  assert.equal(info.local?.port, server.info().remote?.port);
  assert.equal(info.bytes_rx, BigInt(back.length));
}

Deno.test("a stream carries different bytes both ways, and each end sees the other's end", async () => {
  await withPair("stream", streamBothWays);
});

needs(["rawsocket"]).test("the same directly on IP", async () => {
  await withPair("stream", streamBothWays, "raw");
});

needs(["ipv6"]).test("the same over IPv6", async () => {
  await withPair("stream", streamBothWays, "udp", "::1");
});

Deno.test("a half-closed stream still answers", async () => {
  await withPair("stream", async ({ client, server }) => {
    await send(client, new TextEncoder().encode("question"));
    assert.equal(new TextDecoder().decode(await collect(server.readable)), "question");
    await send(server, new TextEncoder().encode("answer"));
    assert.equal(new TextDecoder().decode(await collect(client.readable)), "answer");
  });
});

Deno.test("messages come whole and in order, empty ones and the largest among them", async () => {
  await withPair("message", async ({ client, server }) => {
    const largest = client.info().max_message;
    const sizes = [1, 0, 64, 1_000, 65_536, 0, 300_000, largest, 7];
    const sent = sizes.map((size, i) => pattern(size, i));
    const sending = (async () => {
      await Promise.all(sent.map((message) => client.sendMessage(message)));
      await client.shutdown();
    })();
    const got: Uint8Array[] = [];
    for await (const message of server.messages()) got.push(message);
    await sending;
    assert.deepEqual(got.map((message) => message.length), sizes);
    for (const [i, message] of got.entries()) {
      assert.equal(await digest([message]), await digest([sent[i]!]), `message ${i}`);
    }
  });
});

Deno.test("a message over the limit is refused, and the connection goes on", async () => {
  await withPair("message", async ({ client, server }) => {
    const tooLong = new Uint8Array(client.info().max_message + 1);
    await assert.rejects(client.sendMessage(tooLong), hasCode("EMSGSIZE"));
    await client.sendMessage(pattern(10, 3));
    const { value } = await server.messages().next();
    assert.deepEqual(value, pattern(10, 3));
  });
});

Deno.test("what belongs to the other kind of connection says so", async () => {
  await withPair("message", async ({ client }) => {
    await Promise.resolve();
    assert.throws(() => client.readable, hasCode("WRONG_KIND"));
    assert.throws(() => client.writable, hasCode("WRONG_KIND"));
  });
  await withPair("stream", async ({ client }) => {
    assert.throws(() => client.sendMessage(new Uint8Array(1)), hasCode("WRONG_KIND"));
    await assert.rejects(client.messages().next(), hasCode("WRONG_KIND"));
  });
});

Deno.test("a writer waits for a reader that does not read", async () => {
  await withPair("stream", async ({ client, server }) => {
    const chunk = pattern(1 << 20, 4);
    const total = 64;
    let written = 0;
    const writing = (async () => {
      const writer = client.writable.getWriter();
      for (; written < total; written++) await writer.write(chunk);
      await writer.close();
    })();
    // Until nothing has moved for a while; a transport without backpressure would take all of it.
    for (let before = -1; before !== written;) {
      before = written;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    assert.ok(written < total, `${written} MiB were taken without a reader`);
    let bytes = 0;
    for await (const part of server.readable) bytes += part.length;
    await writing;
    assert.equal(bytes, total << 20);
  });
});

Deno.test("thirty connections of both kinds on one engine, all at once", async () => {
  await using engine = DcpimEngine.open(UDP);
  await using listener = await listen({ host: HOST, port: 0, engine: UDP });
  const echo = async (connection: DcpimConnection) => {
    await using it = connection;
    if (it.kind === "stream") await it.readable.pipeTo(it.writable);
    else {
      for await (const message of it.messages()) await it.sendMessage(message);
      await it.shutdown();
    }
  };
  const serving: Promise<void>[] = [];
  const accepting = (async () => {
    for await (const connection of listener) serving.push(echo(connection));
  })();
  await Promise.all(Array.from({ length: 30 }, async (_, i) => {
    const kind = i % 2 === 0 ? "stream" : "message";
    await using client = await connect({ host: HOST, port: listener.address.port, kind, engine });
    const bytes = pattern(10_000 + i, i);
    if (kind === "stream") {
      const [got] = await Promise.all([collect(client.readable), send(client, bytes)]);
      assert.deepEqual(got, bytes);
    } else {
      await client.sendMessage(bytes);
      const { value } = await client.messages().next();
      assert.deepEqual(value, bytes);
      await client.shutdown();
    }
  }));
  await Promise.all(serving);
  assert.equal(serving.length, 30);
  await listener.close();
  await accepting;
  const stat = engine.stat() as { engine: string; gauges: { sockets: number } };
  assert.equal(stat.engine, "udp");
  assert.equal(stat.gauges.sockets, 0);
});

Deno.test("a listener takes only the kinds it is for", async () => {
  await using listener = await listen({ host: HOST, port: 0, kinds: ["message"], engine: UDP });
  const { port } = listener.address;
  await assert.rejects(connect({ host: HOST, port, engine: UDP }), hasCode("ECONNREFUSED"));
  await using client = await connect({ host: HOST, port, kind: "message", engine: UDP });
  assert.equal(client.kind, "message");
});

Deno.test("what cannot work is refused with a code", async () => {
  await using listener = await listen({ host: HOST, port: 0, engine: UDP });
  const { port } = listener.address;
  for (
    const [attempt, code] of [
      [() => listen({ host: HOST, port, engine: UDP }), "EADDRINUSE"],
      [() => listen({ host: "192.0.2.1", port: 0, engine: UDP }), "EADDRNOTAVAIL"],
      [() => listen({ host: HOST, port: 70_000 }), "EINVAL"],
      [() => listen({ host: HOST, port: 0, kinds: [] }), "EINVAL"],
      [() => connect({ host: HOST, port: 0 }), "EINVAL"],
      [() => connect({ host: HOST, port: 1.5 }), "EINVAL"],
      [() => connect({ host: "no.such.host.invalid", port }), "ENOTFOUND"],
      [() => connect({ host: "fe80::1%nosuchif0", port, engine: UDP }), "ENODEV"],
      [() => connect({ host: HOST, port, engine: { cpus: [1000] } }), "NO_SUCH_CPU"],
      [() => connect({ host: HOST, port, engine: { threads: 0 } }), "EINVAL"],
    ] as const
  ) {
    await assert.rejects(attempt(), hasCode(code), code);
  }
  await listener.close();
  await assert.rejects(connect({ host: HOST, port, engine: UDP }), hasCode("ECONNREFUSED"));
});

Deno.test("a signal ends an attempt that nobody answers, a connection and a listener", async () => {
  // A port that is taken and silent.
  const silent = createSocket("udp4");
  silent.bind(0, HOST);
  await once(silent, "listening");
  try {
    const attempt = new AbortController();
    const connecting = connect({
      host: HOST,
      port: silent.address().port,
      engine: UDP,
      signal: attempt.signal,
    });
    setTimeout(() => attempt.abort(), 50);
    await assert.rejects(connecting, { name: "AbortError" });
    await assert.rejects(
      connect({ host: HOST, port: silent.address().port, signal: AbortSignal.abort() }),
      { name: "AbortError" },
    );
  } finally {
    silent.close();
  }

  const stop = new AbortController();
  const listener = await listen({ host: HOST, port: 0, engine: UDP, signal: stop.signal });
  const hangUp = new AbortController();
  const { port } = listener.address;
  const client = await connect({ host: HOST, port, engine: UDP, signal: hangUp.signal });
  const server = (await listener.accept())!;
  const reading = client.readable.getReader().read();
  hangUp.abort();
  await assert.rejects(reading, { name: "AbortError" });
  // The other side is told.
  await assert.rejects(collect(server.readable), hasCode("ECONNRESET"));
  await assert.rejects(server.closed, hasCode("ECONNRESET"));
  const iterating = (async () => {
    for await (const _ of listener) assert.fail("nobody connects");
  })();
  stop.abort();
  await iterating;
  await listener.close();
  await client.close();
});

Deno.test("closed settles when the peer resets, and when both sides have ended", async () => {
  await withPair("stream", async ({ client, server }) => {
    const closed = client.closed;
    await server.reset();
    await assert.rejects(closed, hasCode("ECONNRESET"));
  });
  await withPair("stream", async ({ client, server }) => {
    const closed = client.closed;
    await Promise.all([send(client, pattern(10, 1)), send(server, pattern(10, 2))]);
    await Promise.all([collect(client.readable), collect(server.readable)]);
    await closed;
  });
});

Deno.test("after closing, calls say so and the figures stay", async () => {
  await withPair("stream", async ({ client, server }) => {
    const reading = collect(server.readable);
    await send(client, pattern(1000, 1));
    assert.equal((await reading).length, 1000);
    await client.close();
    await client.close();
    await client.closed;
    assert.equal(client.info().bytes_tx, 1000n);
    await assert.rejects(client.readable.getReader().read(), hasCode("EBADF"));
  });
});

Deno.test("an engine that is closed first closes what is on it", async () => {
  const engine = DcpimEngine.open(UDP);
  const listener = await listen({ host: HOST, port: 0, engine });
  const client = await connect({ host: HOST, port: listener.address.port, engine });
  const server = (await listener.accept())!;
  const accepting = listener.accept();
  await engine.close();
  assert.equal(await accepting, undefined);
  await assert.rejects(server.readable.getReader().read(), hasCode("EBADF"));
  await client.close();
  await listener.close();
});

Deno.test("addresses are written for C as C reads them", () => {
  for (
    const [address, family, text] of [
      ["127.0.0.1", 4, "127.0.0.1:4000"],
      ["::1", 6, "[::1]:4000"],
      ["2001:db8::5:0:1", 6, "[2001:db8::5:0:1]:4000"],
      ["::", 6, "[::]:4000"],
      ["::ffff:10.0.0.1", 6, "10.0.0.1:4000"],
    ] as const
  ) {
    assert.equal(addressText(readSockaddr(sockaddr({ address, family }, 4000))!), text);
  }
  const scoped = readSockaddr(sockaddr({ address: "fe80::1", family: 6, zone: "lo" }, 1))!;
  assert.equal(scoped.address, "fe80::1%1");
  assert.equal(readSockaddr(new Uint8Array(128)), undefined);
});

/** Whether the C side takes this configuration, with nothing checked here. */
async function takenByC(fields: Record<string, number>): Promise<boolean> {
  const symbols = loadLibrary(dcpimLibrary);
  const out = new BigUint64Array(1);
  const config = dcpimConfigStruct.encode({
    ...configFields({ control: false }, "udp"),
    ...fields,
    size: dcpimConfigStruct.size,
  });
  const message = new Uint8Array(160);
  const result = symbols.rackwire_dcpim_engine_open(config, new Uint8Array(out.buffer), message, 160n);
  if (result < 0) return false;
  await symbols.rackwire_dcpim_engine_close(out[0]!, 0n);
  return true;
}

function taken(protocol: object): boolean {
  try {
    checkEngineOptions({ protocol });
    return true;
  } catch (error) {
    assert.ok(hasCode("EINVAL")(error));
    return false;
  }
}

Deno.test("the limits of the protocol's numbers are those of the C side", async () => {
  const inC: Partial<Record<keyof typeof DCPIM_LIMITS, string>> = {
    alpha: "alpha_milli",
    beta: "beta_milli",
  };
  // Where a limit only holds together with another number, that is chosen to allow both ends of the range.
  const beside: Record<string, Record<string, number>> = {
    rate_bps: { data_rtt_ns: 1_000_000 },
    ctrl_rtt_ns: { rounds: 1, beta: 1 },
    data_rtt_ns: { rate_bps: 100_000_000 },
    first_part_bytes: { rate_bps: 1_000_000_000, data_rtt_ns: 8_589_934_592 },
  };
  for (const [name, limit] of Object.entries(DCPIM_LIMITS)) {
    const { lowest, highest, step = 1 } = limit as { lowest: number; highest: number; step?: number };
    const milli = step < 1;
    for (const value of [lowest, lowest - step, highest, highest + step]) {
      // Where 0 is the default it is no value.
      if (value === 0) continue;
      const others = beside[name] ?? {};
      const fields = Object.fromEntries(
        Object.entries({ ...others, [name]: value }).map(([key, each]) => {
          const scaled = key in inC;
          return [inC[key as keyof typeof inC] ?? key, scaled ? Math.round(each * 1000) : each];
        }),
      );
      const here = taken({ ...others, [name]: milli ? Number(value.toFixed(3)) : value });
      assert.equal(here, await takenByC(fields), `${name} ${value}`);
    }
  }
});

Deno.test("parameters that are only wrong together are refused", () => {
  assert.equal(epochNs({}), 520_000);
  assert.equal(epochNs({ ctrl_rtt_ns: undefined, rounds: 2 }), 260_000);
  assert.ok(!taken({ ctrl_rtt_ns: 1e9, alpha: 10, beta: 20 }));
  assert.ok(!taken({ rate_bps: 1e12, data_rtt_ns: 1e9 }));
  assert.ok(!taken({ rate_bps: 1e9, data_rtt_ns: 1e6, first_part_bytes: 250_001 }));
  assert.ok(taken({ rate_bps: 1e9, data_rtt_ns: 1e6, first_part_bytes: 250_000 }));
  assert.ok(!taken({ first_part: "all" }));
  assert.ok(!taken({ beta: 1.0001 }));
});

const EXAMPLE = `
import { connect, listen } from "${new URL("../../lib/mod.ts", import.meta.url)}";
await using listener = await listen({ host: "127.0.0.1", port: 0, engine: { engine: "udp" } });
const { port } = listener.address;
await using client = await connect({ host: "127.0.0.1", port, kind: "message", engine: { engine: "udp" } });
await using server = (await listener.accept())!;
for (let i = 0; i < 50; i++) await client.sendMessage(new Uint8Array(i * 997).fill(i));
await client.shutdown();
let n = 0;
for await (const message of server.messages()) n += message.length;
console.log(n);
`;

async function runExample(env: Record<string, string>, libdir: string): Promise<void> {
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(file, EXAMPLE);
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-prompt",
        "--cached-only",
        "--no-check",
        `--config=${decodeURIComponent(new URL("../../deno.json", import.meta.url).pathname)}`,
        `--allow-ffi=${libdir}`,
        "--allow-env",
        "--allow-read",
        "--allow-net",
        "--allow-sys",
        file,
      ],
      env,
    }).output();
    assert.equal(new TextDecoder().decode(stderr), "");
    assert.equal(code, 0);
    assert.equal(Number(new TextDecoder().decode(stdout)), 997 * 49 * 50 / 2);
  } finally {
    await Deno.remove(file);
  }
}

Deno.test("a program needs permission for the libraries' directory alone", async () => {
  await runExample({}, decodeURIComponent(new URL("../../build/lib", import.meta.url).pathname));
});

Deno.test("a program runs cleanly with the sanitized library", async () => {
  const env = sanitizedEnvironment();
  await runExample(env, env.RACKWIRE_LIBDIR!);
});
