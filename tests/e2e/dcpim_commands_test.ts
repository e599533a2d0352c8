// SPDX-License-Identifier: BSD-2-Clause
// rackwire dcpim over loopback: real processes, as a person runs them.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type Finished, type RunOptions, runRackwire, startRackwire } from "../helpers/cli.ts";
import { needs } from "../helpers/needs.ts";
import { failed, ok, ServerProcess } from "../helpers/server_process.ts";

const ROOT = decodeURIComponent(new URL("../..", import.meta.url).pathname);

const HOST = "127.0.0.1";

class Server extends ServerProcess {
  port = 0;

  static async start(args: string[] = [], options?: RunOptions): Promise<Server> {
    const server = new Server(["dcpim", "server", "--ip", HOST, "--port", "0", ...args], options);
    const listening = await server.until(/listening on 127\.0\.0\.1:(\d+)|"ports":\{"dcpim":(\d+)/);
    server.port = Number(listening[1] ?? listening[2]);
    return server;
  }

  get target(): string {
    return `${HOST}:${this.port}`;
  }
}

for (const engine of ["udp", "raw"] as const) {
  needs(engine === "raw" ? ["rawsocket"] : []).test(
    `${engine}: pings, streams and messages on one port, with a summary at Ctrl-C`,
    async () => {
      await using server = await Server.start(["--engine", engine, "--interval", "100ms"]);
      const { target } = server;
      const client = async (...args: string[]) =>
        JSON.parse(ok(await runRackwire(["dcpim", ...args, "--engine", engine, "--json"])));

      for (const [flag, kind] of [["--long", "long"], ["--short", "short"]] as const) {
        const ping = await client("ping", target, "--count", "200", "--length", "100", flag);
        assert.equal(ping.schema, "rackwire.dcpim.ping/1");
        assert.equal(ping.engine, engine);
        assert.equal(ping.kind, kind);
        assert.equal(ping.transports.dcpim.pings, 200);
        assert.equal(ping.transports.dcpim.lost, 0);
        assert.equal(ping.transports.dcpim.counters.verified_bytes, 200 * 100);
        const { min, p50, p90, p99, p99_9, max } = ping.rtt_us;
        const ordered = [0, min, p50, p90, p99, p99_9, max];
        assert.deepEqual(ordered.toSorted((a, b) => a - b), ordered);
        assert.ok(min > 0);
        assert.ok(ping.stats.tx_packets >= 200);
        assert.equal(ping.machine.kernel, Deno.osRelease());
      }
      const deep = await client("ping", target, "--count", "400", "--iodepth", "16", "--length", "10KiB");
      assert.equal(deep.transports.dcpim.pings, 400);

      const bytes = 20_000_000;
      const stream = await client("stream", target, "--bytes", `${bytes / 2}`, "--parallel", "2");
      assert.equal(stream.transports.dcpim.counters.peer_bytes, bytes);
      assert.equal(stream.transports.dcpim.verified_bytes, bytes);
      assert.equal(stream.transports.dcpim.corrupt_bytes, 0);
      assert.ok(stream.goodput_gbps > 0);
      assert.ok(stream.transports.dcpim.cpu_ns_per_byte > 0);
      assert.ok(stream.transports.dcpim.peer_cpu_ns_per_byte > 0);
      // At a low rate the unscheduled allowance is small, so that a stream has to take part in the matching;
      // how far that comes before a starved machine's epochs end is not for this test to say.
      const matching = ({ stats }: { stats: Record<string, number> }) =>
        ["demand_tx", "demand_rx", "rts_tx", "rts_rx", "grant_tx", "grant_rx", "token_tx", "token_rx"]
          .some((counter) => stats[counter]! > 0);
      const slow = await client("stream", target, "--bytes", "5MB", "--rate", "500mbit");
      assert.ok(matching(slow), JSON.stringify(slow.stats));

      const reverse = await client("stream", target, "--bytes", `${bytes}`, "--reverse");
      assert.equal(reverse.transports.dcpim.verified_bytes, bytes);

      const unchecked = await client("stream", target, "--bytes", "1000000", "--no-validate");
      assert.equal(unchecked.transports.dcpim.verified_bytes, 0);
      assert.equal(unchecked.transports.dcpim.counters.peer_bytes, 1_000_000);

      const messages = await client("message", target, "--count", "300", "--size", "3000", "--iodepth", "8");
      assert.equal(messages.transports.dcpim.messages, 300);
      assert.equal(messages.transports.dcpim.verified_bytes, 300 * 3000);
      assert.equal(messages.transports.dcpim.lost, 0);

      const { status, out, err } = await server.end();
      assert.deepEqual([status, err], [130, ""]);
      assert.match(out, new RegExp(`^listening on ${HOST}:\\d+, engine ${engine}; to compare with: TCP`));
      assert.match(out, /dcPIM 127\.0\.0\.1:\d+ +to here +[\d.]+ [MG]bit\/s in/);
      assert.match(out, /served for [\d.]+ s\n/);
      // Two pings, a deep one, two streams at once, a slow one, one back, one unchecked, and messages.
      assert.match(out, /^dcPIM +9 +0 /m);
    },
  );
}

Deno.test("baselines run in the same call and stand in the same table", async () => {
  await using server = await Server.start();
  const ping = ok(
    await runRackwire(["dcpim", "ping", server.target, "--count", "50", "--baseline", "tcp,udp"]),
  );
  const rows = ping.split("\n").filter((line) => /^(us|dcPIM|TCP|UDP) +(pings|50) /.test(line));
  assert.deepEqual(rows.map((row) => row.split(/ +/)[0]), ["us", "dcPIM", "TCP", "UDP"]);
  const stream = JSON.parse(ok(
    await runRackwire([
      ...["dcpim", "stream", server.target, "--bytes", "3MB", "--baseline", "tcp,udp", "--json"],
    ]),
  ));
  assert.deepEqual(Object.keys(stream.transports), ["dcpim", "tcp", "udp"]);
  assert.equal(stream.transports.tcp.verified_bytes, 3_000_000);
  const messages = JSON.parse(ok(
    await runRackwire([
      ...[
        "dcpim",
        "message",
        server.target,
        "--count",
        "100",
        "--baseline",
        "udp",
        "--json",
        "--iodepth",
        "4",
      ],
    ]),
  ));
  assert.deepEqual(Object.keys(messages.transports), ["dcpim", "udp"]);
});

Deno.test("the prototype's operations, in its own order of arguments", async () => {
  await using server = await Server.start();
  for (const operation of ["dcpimping", "dcpimpingmsg", "tcpping"]) {
    const args = ["dcpim", server.target, "--count", "5", operation, "--json"];
    const document = JSON.parse(ok(await runRackwire(args)));
    const transport = operation === "tcpping" ? "tcp" : "dcpim";
    assert.deepEqual(Object.keys(document.transports), [transport]);
    assert.equal(document.transports[transport].pings, 5);
    assert.equal(document.kind, operation === "dcpimpingmsg" ? "short" : "long");
  }
});

Deno.test("--sp is the port the server sees, --pin and --threads and the protocol's parameters are taken", async () => {
  await using server = await Server.start(["--threads", "2", "--pin", "0", "--interval", "50ms"]);
  const silent = createSocket("udp4");
  silent.bind(0, HOST);
  await once(silent, "listening");
  const free = silent.address().port;
  silent.close();
  const client = startRackwire([
    ...["dcpim", "stream", server.target, "--sp", `${free}`, "--duration", "2s", "--pin", "0", "--json"],
    ...["--rounds", "2", "--channels", "2", "--beta", "1.5", "--rate", "1gbit", "--mtu", "1500", "-q"],
  ]);
  await server.until(new RegExp(`dcPIM ${HOST}:${free} `));
  const stat = JSON.parse(ok(await runRackwire(["dcpim", "stat", `${client.pid}`, "--json"])));
  assert.equal(stat.schema, "rackwire.dcpim.stat/1");
  const { parameters, connections } = stat.engines[0];
  assert.deepEqual(
    [parameters.rounds, parameters.channels, parameters.beta_milli, parameters.rate_bps],
    [2, 2, 1500, 1e9],
  );
  assert.equal(connections[0].local_port, free);
  const { code, stdout } = await client.output();
  assert.equal(code, 0);
  assert.equal(JSON.parse(new TextDecoder().decode(stdout)).transports.dcpim.corrupt_bytes, 0);
});

Deno.test("stat shows a running server, also again and again, and knows who does not run", async () => {
  await using server = await Server.start();
  const { pid } = server.child;
  const table = ok(await runRackwire(["dcpim", "stat", `${pid}`]));
  assert.match(table, new RegExp(`^process ${pid}, engine udp, 1 thread`));
  assert.match(table, new RegExp(`${HOST}:${server.port} +0 +`));
  const all = JSON.parse(ok(await runRackwire(["dcpim", "stat", "all", "--json"])));
  assert.ok(all.engines.some((engine: { pid: number }) => engine.pid === pid));
  const watching = startRackwire(["dcpim", "stat", `${pid}`, "--watch", "20ms", "--json"]);
  const lines: string[] = [];
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of watching.stdout) {
    text += decoder.decode(chunk, { stream: true });
    lines.splice(0, lines.length, ...text.split("\n").slice(0, -1));
    if (lines.length >= 3) break;
  }
  watching.kill("SIGINT");
  assert.equal((await watching.status).code, 130);
  await watching.stderr.cancel();
  for (const line of lines) assert.equal(JSON.parse(line).engines[0].pid, pid);
  await server.end();
  failed(await runRackwire(["dcpim", "stat", `${pid}`]), 1, /runs no dcPIM engine that answers\nhint: /);
});

Deno.test("a ping that is interrupted prints its figures and ends with 130", async () => {
  await using server = await Server.start(["--interval", "50ms"]);
  const child = startRackwire(["dcpim", "ping", server.target, "--duration", "1h"]);
  await server.until(/ ping +[\d.]+ /);
  child.kill("SIGINT");
  const { code, stdout } = await child.output();
  assert.equal(code, 130);
  assert.match(new TextDecoder().decode(stdout), /^dcPIM +\d/m);
});

for (const [operation, args] of [["ping", []], ["stream", []], ["message", []], ["tcpping", []]] as const) {
  Deno.test(`${operation}: a server that is killed in the middle is one line and status 1`, async () => {
    await using server = await Server.start(["--interval", "50ms"]);
    const running = runRackwire(
      ["dcpim", operation, server.target, ...args, "--duration", "1h", "--dead-after", "300ms", "-q"],
    );
    await server.until(operation === "tcpping" ? /TCP 127/ : /dcPIM 127/);
    await server.end("SIGKILL");
    failed(await running, 1, /^rackwire: dcpim \w+ to 127\.0\.0\.1 .*\nhint: /m);
  });
}

Deno.test("a server whose output nobody reads any more ends by itself", async () => {
  const child = startRackwire([
    "dcpim",
    "server",
    "--ip",
    HOST,
    "--port",
    "0",
    "--interval",
    "20ms",
    "--json",
  ]);
  const reader = child.stdout.getReader();
  await reader.read();
  await reader.cancel();
  assert.equal((await child.status).code, 0);
  await child.stderr.cancel();
});

Deno.test("a client that is killed in the middle leaves the server serving", async () => {
  await using server = await Server.start(["--interval", "50ms", "--dead-after", "300ms"]);
  const client = startRackwire(["dcpim", "stream", server.target, "--duration", "1h"]);
  await server.until(/dcPIM 127.*to here/);
  client.kill("SIGKILL");
  await client.output();
  ok(await runRackwire(["dcpim", "ping", server.target, "--count", "10"]));
  const { out, status } = await server.end();
  assert.equal(status, 130);
  assert.match(out, /^dcPIM +2 /m);
});

Deno.test("bad input: unknown host, no listener, a taken port, a port out of range, a CPU, a file", async () => {
  await using server = await Server.start();
  const { port, target } = server;
  const rackwire = (...args: string[]) => runRackwire(["dcpim", ...args]);
  failed(await rackwire("ping", "no.such.host.invalid:4000"), 1, /cannot find the host/);
  failed(await rackwire("ping", `${HOST}:0`), 2, /Port 0 is not/);
  failed(await rackwire("ping", `${HOST}:70000`), 2, /Port 70000 is not/);
  failed(await rackwire("server", "--ip", HOST, "--port", `${port}`), 1, /Address already in use\nhint: /);
  failed(await rackwire("server", "--ip", "192.0.2.1"), 1, /Cannot assign requested address\nhint: /);
  failed(await rackwire("ping", target, "--pin", "1000"), 2, /CPU 1000 is not among those/);
  failed(
    await rackwire("ping", target, "--plot", "/nonexistent/p.svg"),
    2,
    /cannot write \/nonexistent\/p\.svg/,
  );
  failed(await rackwire("ping", target, "--length", "1GiB"), 2, /over the limit/);
  failed(await rackwire("message", target, "--size", "16MiB"), 2, /hold at most \d+ bytes\nhint: /);
  await server.end();
  for (const operation of ["ping", "stream", "message", "tcpping"]) {
    failed(await rackwire(operation, target, "-q"), 1, /nothing listens at .*\nhint: start one there: /);
  }
});

Deno.test("a server for messages alone refuses streams", async () => {
  await using server = await Server.start(["--message", "--no-baseline"]);
  ok(await runRackwire(["dcpim", "ping", server.target, "--short", "--count", "3"]));
  failed(
    await runRackwire(["dcpim", "ping", server.target, "--long", "--count", "3", "-q"]),
    1,
    /^rackwire: /,
  );
  failed(await runRackwire(["dcpim", "tcpping", server.target, "--count", "3", "-q"]), 1, /nothing listens/);
});

needs(["root"]).test(
  "without the privilege: raw says what would change that with status 3, auto works",
  async () => {
    await using server = await Server.start(["--engine", "udp"]);
    const dir = await Deno.makeTempDir();
    await Deno.chown(dir, 65534, 65534);
    const checkout = `${dir}/checkout`;
    await Deno.mkdir(checkout);
    const unprivileged = async (...args: string[]): Promise<Finished> => {
      // The checkout may lie where only root gets to: bring it here, for this process alone.
      const { code, stdout, stderr } = await new Deno.Command("unshare", {
        args: [
          ...[
            "--mount",
            "--propagation",
            "unchanged",
            "sh",
            "-c",
            'mount --make-rprivate / 2>/dev/null; mount --bind "$1" "$2" && shift 2 && exec "$@"',
          ],
          ...["sh", ROOT, checkout, "setpriv"],
          ...["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"],
          ...[`${checkout}/build/bin/rackwire`, "dcpim", ...args],
        ],
        env: { RACKWIRE_RUNTIME_DIR: `${dir}/run` },
      }).output();
      const decoder = new TextDecoder();
      return { status: code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
    };
    try {
      const refused = await unprivileged("ping", server.target, "--engine", "raw", "--count", "3");
      failed(refused, 3, /needs CAP_NET_RAW\nhint: .*sudo .*setcap/);
      const document = JSON.parse(ok(await unprivileged("ping", server.target, "--count", "3", "--json")));
      assert.equal(document.engine, "udp");
      // Nobody but root and the user may ask a user's engine.
      assert.equal(JSON.parse(ok(await unprivileged("stat", "--json"))).engines.length, 0);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
);

Deno.test("plots are SVG files", async () => {
  await using server = await Server.start();
  const dir = await Deno.makeTempDir();
  try {
    for (const args of [["ping", "--count", "100"], ["stream", "--duration", "600ms", "--baseline", "tcp"]]) {
      const [operation, ...options] = args as [string, ...string[]];
      const plot = `${dir}/${operation}.svg`;
      ok(await runRackwire(["dcpim", operation, server.target, ...options, "--plot", plot]));
      const svg = await Deno.readTextFile(plot);
      assert.match(svg, /^<svg [^]*(Round trips|Goodput) to [^]*<\/svg>\n$/);
      assert.match(svg, /<path class="line"/);
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("the commands run cleanly with the sanitized library", async () => {
  await using server = await Server.start(["--duration", "1h", "--validate"], { sanitized: true });
  for (
    const args of [
      ["ping", "--count", "100", "--baseline", "tcp,udp"],
      ["ping", "--count", "100", "--short"],
      ["stream", "--bytes", "2MB"],
      ["message", "--count", "200"],
    ]
  ) {
    const [operation, ...options] = args as [string, ...string[]];
    const finished = await runRackwire(["dcpim", operation, server.target, ...options], { sanitized: true });
    assert.equal(finished.err.replace(/^.* \d+ %\n/gm, ""), "");
    assert.equal(finished.status, 0);
  }
  const { status, err } = await server.end();
  assert.deepEqual([status, err], [130, ""]);
});
