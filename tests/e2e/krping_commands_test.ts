// SPDX-License-Identifier: BSD-2-Clause
// rackwire krping over loopback: real processes, as a person runs them.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type RunOptions, runRackwire, startRackwire } from "../helpers/cli.ts";
import { needs } from "../helpers/needs.ts";
import { failed, ok, ServerProcess } from "../helpers/server_process.ts";

const HOST = "127.0.0.1";
const SOFT = ["--engine", "soft"];

class Server extends ServerProcess {
  port = 0;

  static async start(args: string[] = [], options?: RunOptions, host = HOST): Promise<Server> {
    const server = new Server(["krping", "server", ...SOFT, "--addr", host, "--port", "0", ...args], options);
    server.port = Number((await server.until(/listening on \S+:(\d+),|"port":(\d+)/)).slice(1).find(Boolean));
    return server;
  }

  get target(): string {
    return `${HOST}:${this.port}`;
  }
}

const client = (...args: string[]) => runRackwire(["krping", "client", ...args, ...SOFT]);
const figures = async (...args: string[]) => JSON.parse(ok(await client(...args, "--json")));

Deno.test("pings of many sizes and in every way, compared byte for byte", async () => {
  await using server = await Server.start(["--interval", "100ms"]);
  for (
    const [size, options] of [
      [1, []],
      [15, []],
      [64, ["--server-inv"]],
      [100, ["--read-inv"]],
      [4096, ["--local-dma-lkey"]],
      [65536, ["--mem-mode", "reg"]],
      [70_001, ["--mem-mode", "reg", "--server-inv", "--read-inv"]],
      [5_000_000, ["--poll"]],
      [64, ["--classic"]],
    ] as const
  ) {
    const count = size > 1e6 ? 5 : 50;
    const result = await figures(
      server.target,
      "--count",
      `${count}`,
      "--size",
      `${size}`,
      "--validate",
      ...options,
    );
    assert.equal(result.schema, "rackwire.krping.client/1");
    assert.deepEqual([result.engine, result.device], ["soft", "soft"]);
    assert.equal(result.completed, count, `${size} ${options}`);
    assert.equal(result.corrupt_bytes, 0);
    assert.ok(result.verified_bytes > 0);
    const { min, p50, p90, p99, p99_9, max } = result.latency_us;
    const ordered = [0, min, p50, p90, p99, p99_9, max];
    assert.deepEqual(ordered.toSorted((a, b) => a - b), ordered);
  }
  const { status, out } = await server.end();
  assert.equal(status, 130);
  assert.match(out, /connections +9, failed 0, refused 0/);
});

Deno.test("every benchmark measures what it is called, also over IPv6", async () => {
  await using server = await Server.start();
  for (
    const [options, kind] of [
      [["--wlat"], "wlat"],
      [["--rlat", "--poll"], "rlat"],
      [["--slat"], "slat"],
      [["--alat"], "alat"],
      [["--alat", "--op", "cswap"], "alat"],
      [["--bw", "--size", "64KiB"], "bw"],
      [["--bw", "--op", "read", "--size", "10000", "--txdepth", "8"], "bw"],
      [["--bw", "--op", "send", "--size", "8"], "bw"],
      [["--bw", "--op", "fadd"], "bw"],
      [["--bw", "--duplex", "--size", "4KiB"], "bw"],
    ] as const
  ) {
    const result = await figures(server.target, "--count", "500", ...options);
    assert.equal(result.test, kind);
    assert.equal(result.completed, 500, options.join(" "));
    assert.ok(result.per_s > 0);
  }
});

needs(["ipv6"]).test("krping over IPv6", async () => {
  await using server = await Server.start([], {}, "::1");
  const result = await figures(`[::1]:${server.port}`, "--count", "50", "--size", "9000", "--validate");
  assert.equal(result.completed, 50);
});

Deno.test("the original's strings work, and stat prints its lines", async () => {
  await using server = new ServerProcess(["krping", `server,addr=${HOST},port=0,verbose`, ...SOFT]);
  const port = (await server.until(/listening on \S+:(\d+),/))[1];
  const said = ok(
    await runRackwire([
      "krping",
      `client,addr=${HOST},port=${port},count=3,size=64,verbose,validate`,
      ...SOFT,
    ]),
  );
  assert.match(said, /^ping data: rdma-ping-0: ABCDEFGHIJKLMNOPQRSTUVWXYZ\[\\]\^_`abcdefghijklmnopqr/m);
  // The server's one client has gone.
  await server.child.status;
  const { status, out } = await server.end();
  assert.equal(status, 0);
  assert.match(out, /server ping data: rdma-ping-2: CDEFGH/);
});

Deno.test("stat shows the eight counters of each connection as a line and as JSON", async () => {
  await using server = await Server.start();
  const { pid } = server.child;
  const none = ok(await runRackwire(["krping", "stat", `${pid}`, "--quiet"]));
  assert.equal(none, "0 listen\n");
  await figures(server.target, "--count", "10", "--size", "100");
  // Each ping: two SENDs each way, one READ and one WRITE by the server.
  const line = ok(await runRackwire(["krping", "stat", `${pid}`, "--quiet"])).trim();
  assert.equal(line, "1-soft 320 20 320 20 1000 10 1000 10");
  const { servers } = JSON.parse(ok(await runRackwire(["krping", "stat", `${pid}`, "--json"])));
  assert.equal(servers[0].connections[0].counters.read_bytes, 1000);
  failed(await runRackwire(["krping", "stat", "4194303"]), 1, /runs no krping server/);
});

Deno.test("many clients at once and one after another do not disturb each other", async () => {
  await using server = await Server.start();
  const results = await Promise.all(
    Array.from(
      { length: 6 },
      (_, i) =>
        figures(
          server.target,
          "--count",
          "200",
          "--size",
          `${1000 * (i + 1)}`,
          "--validate",
          "--parallel",
          "3",
        ),
    ),
  );
  for (const result of results) {
    assert.equal(result.completed, 600);
    assert.equal(result.corrupt_bytes, 0);
  }
});

Deno.test("bad input gets one line and its status", async () => {
  failed(await client(`${HOST}:9`, "--size", "0"), 2, /--size.*1 B to 1 GiB/);
  failed(await client(`${HOST}:9`, "--size", "1TiB"), 2, /--size.*1 B to 1 GiB/);
  failed(await client(`${HOST}:9`, "--duplex"), 2, /--bw alone/);
  failed(await client(`${HOST}:9`, "--bw", "--op", "fadd", "--size", "16"), 2, /atomic is of 8 bytes/);
  failed(await client(`${HOST}:9`, "--bw", "--classic"), 2, /needs a rackwire server/);
  failed(
    await runRackwire(["krping", "client,addr=10.0.0.300,port=9"]),
    2,
    /column 13 of "client,addr=10\.0\.0\.300,port=9"/,
  );
  failed(await runRackwire(["krping", "client,addr=10.0.0.3,port=9,size=1099511627776"]), 2, /column 34/);
  failed(await runRackwire(["krping", "server", "--addr", "192.0.2.1", ...SOFT]), 1, /192\.0\.2\.1/);
});

needs(["root"]).test(
  "an engine that this machine does not have ends with 3 and says what to do",
  async () => {
    const verbs = await runRackwire(["krping", "server", "--engine", "verbs"]);
    assert.equal(verbs.status, 3);
    assert.match(verbs.err, /^rackwire: the engine verbs cannot run here: .*\nhint: .*\n$/);
  },
);

Deno.test("nobody listening, a port in use, and a port that is another program's", async () => {
  failed(await client(`${HOST}:1`, "--count", "1"), 1, /nothing listens/);
  // Nobody answers at all: the address is this machine's, but no RoCE is there.
  failed(
    await client("127.9.9.9:9999", "--count", "1", "--timeout", "1s"),
    1,
    /127\.9\.9\.9/,
  );
  await using server = await Server.start();
  failed(
    await runRackwire(["krping", "server", ...SOFT, "--addr", HOST, "--port", `${server.port}`]),
    1,
    /in use/,
  );
});

Deno.test("where another program has the UDP port, the message says which", async () => {
  const other = createSocket("udp4");
  other.bind(4791, "127.0.0.55");
  await once(other, "listening");
  try {
    failed(await runRackwire(["krping", "server", ...SOFT, "--addr", "127.0.0.55"]), 1, /4791/);
  } finally {
    other.close();
  }
});

Deno.test("a server that is killed ends its clients with an error, and they end soon", async () => {
  const server = await Server.start();
  const running = startRackwire([
    "krping",
    "client",
    server.target,
    "--bw",
    "--size",
    "1MiB",
    "--duration",
    "1h",
    ...SOFT,
  ]);
  const waiting = startRackwire([
    "krping",
    "client",
    server.target,
    "--interval",
    "10ms",
    "--duration",
    "1h",
    ...SOFT,
  ]);
  await server.until(/bw[^]*ping|ping[^]*bw/);
  await server.end("SIGKILL");
  for (const child of [running, waiting]) {
    const { code, stderr } = await child.output();
    const err = new TextDecoder().decode(stderr);
    assert.equal(code, 1, err);
    assert.match(err, /^(.*\r)?rackwire: .*\n(hint: .*\n)?$/m);
  }
});

Deno.test("a client that is killed leaves the server serving", async () => {
  await using server = await Server.start(["--interval", "50ms"]);
  const victim = startRackwire([
    "krping",
    "client",
    server.target,
    "--bw",
    "--size",
    "1MiB",
    "--duration",
    "1h",
    ...SOFT,
  ]);
  await server.until(/ bw /);
  victim.kill("SIGKILL");
  await victim.output();
  const result = await figures(server.target, "--count", "100", "--validate");
  assert.equal(result.completed, 100);
  await server.until(/ECONNRESET|ETIMEDOUT|broken/);
});

Deno.test("Ctrl-C ends a client with its figures and 130", async () => {
  await using server = await Server.start();
  const child = startRackwire(["krping", "client", server.target, "--duration", "1h", "--json", ...SOFT]);
  await server.until(/ping/);
  await new Promise((resolve) => setTimeout(resolve, 300));
  child.kill("SIGINT");
  const { code, stdout } = await child.output();
  assert.equal(code, 130);
  const result = JSON.parse(new TextDecoder().decode(stdout));
  assert.equal(result.stopped, true);
  assert.ok(result.completed > 0);
});

Deno.test("a server refuses what goes beyond its limits, and serves the rest", async () => {
  await using server = await Server.start(["--size", "1MiB", "--memory", "8MiB"]);
  failed(await client(server.target, "--count", "1", "--size", "2MiB"), 1, /serves at most 1048576 bytes/);
  failed(
    await client(server.target, "--count", "1", "--size", "1MiB", "--parallel", "64"),
    1,
    /refused|memory/i,
  );
  assert.equal((await figures(server.target, "--count", "5", "--size", "1MiB")).completed, 5);
  const { out } = await server.end();
  assert.match(out, /refused [1-9]/);
});

Deno.test("garbage at the UDP port is counted and changes nothing", async () => {
  await using server = await Server.start();
  const socket = createSocket("udp4");
  for (let i = 0; i < 2000; i++) {
    const bytes = crypto.getRandomValues(new Uint8Array(20 + (i * 7) % 300));
    bytes[0] = [100, 4, 6, 10, 12, 17, 129][i % 7]!;
    bytes.set([0, 0xff, 0xff], 1);
    await new Promise((resolve) => socket.send(bytes, 4791, HOST, resolve));
  }
  socket.close();
  assert.equal((await figures(server.target, "--count", "100", "--validate")).completed, 100);
});

Deno.test("bandwidth and pings work with the sanitized libraries", async () => {
  await using server = await Server.start([], { sanitized: true });
  const result = await runRackwire(
    ["krping", "client", server.target, "--bw", "--size", "64KiB", "--count", "300", "--json", ...SOFT],
    { sanitized: true },
  );
  assert.equal(JSON.parse(ok(result)).completed, 300);
  ok(
    await runRackwire(["krping", "client", server.target, "--count", "50", "--validate", ...SOFT], {
      sanitized: true,
    }),
  );
  assert.equal((await server.end()).status, 130);
});
