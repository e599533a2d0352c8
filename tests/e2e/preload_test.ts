// SPDX-License-Identifier: BSD-2-Clause
// Programs that know nothing of rackwire, on dcPIM by LD_PRELOAD: what single calls do, two processes in
// every way of waiting, the server of `rackwire dcpim`, and programs that have nothing to do with dcPIM.

import assert from "node:assert/strict";
import { startRackwire } from "../helpers/cli.ts";
import { lacking, needs } from "../helpers/needs.ts";
import { parseTap } from "../helpers/results.ts";

const ROOT = decodeURIComponent(new URL("../../", import.meta.url).pathname);
const FIXTURES = `${ROOT}build/fixtures`;
const PEER = `${FIXTURES}/dcpim_preload_peer`;
const MODES = ["block", "poll", "epoll", "edge", "select"] as const;
/** Long enough to fill every buffer, and no multiple of anything. */
const BYTES = 20_000_003;
const MESSAGES = 400;

type Environment = Record<string, string>;

const PLAIN: Environment = { LD_PRELOAD: `${ROOT}build/lib/librackwire_dcpim_preload.so` };

function runtime(name: string): string {
  const found = new Deno.Command("gcc", { args: [`-print-file-name=${name}`] }).outputSync();
  return new TextDecoder().decode(found.stdout).trim();
}

function sanitized(): Environment {
  return {
    LD_PRELOAD: `${runtime("libasan.so")} ${runtime("libubsan.so")} ` +
      `${ROOT}build/asan/lib/librackwire_dcpim_preload.so`,
    ASAN_OPTIONS: "detect_leaks=1:strict_string_checks=1",
    UBSAN_OPTIONS: "print_stacktrace=1",
  };
}

const RAW: Environment = { RACKWIRE_DCPIM_ENGINE: "raw" };

interface Finished {
  code: number;
  out: string;
  err: string;
}

function start(program: string, args: string[], env: Environment): Deno.ChildProcess {
  return new Deno.Command("timeout", {
    args: ["--kill-after=5", "120", program, ...args],
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function finish(child: Deno.ChildProcess): Promise<Finished> {
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

function run(program: string, args: string[], env: Environment): Promise<Finished> {
  return finish(start(program, args, env));
}

/** What a program prints until @pattern matches, its first group, and the rest when it has ended. */
async function startAndRead(program: string, args: string[], env: Environment, pattern: RegExp) {
  const child = start(program, args, env);
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const errors = new Response(child.stderr).text();
  let out = "";
  let match: RegExpExecArray | null = null;
  while (match === null) {
    const { value, done } = await reader.read();
    if (done) assert.fail(`${program} ${args.join(" ")}: ${out}${await errors}`);
    out += value;
    match = pattern.exec(out);
  }
  const rest = async () => {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      out += value;
    }
    return { code: (await child.status).code, out, err: await errors };
  };
  return { found: match[1]!, rest, stop: () => child.kill("SIGINT") };
}

function startPeerServer(args: string[], env: Environment, program = PEER) {
  return startAndRead(program, args, env, /listening (\d+)/);
}

function succeeded(what: string, { code, out, err }: Finished): void {
  assert.equal(code, 0, `${what}: ${out}${err}`);
  assert.equal(err, "", what);
}

// ---- single calls ----

for (const what of ["socket", "data", "wait", "epoll", "process"]) {
  const check = async (env: Environment) => {
    const { code, out, err } = await run(`${FIXTURES}/dcpim_preload_${what}`, [], env);
    const failed = parseTap(out).filter((test) => test.result === "failed");
    assert.deepEqual(failed.map((test) => `${test.name} ${test.reason}`), [], err);
    assert.equal(code, 0, out + err);
    assert.ok(parseTap(out).length > 0);
  };
  Deno.test(`${what} calls do on dcPIM sockets what Linux does`, () => check(PLAIN));
  Deno.test(`${what} calls are clean under the sanitizers`, () => check(sanitized()));
  Deno.test(`${what} calls do the same on an engine of two threads`, () =>
    check({ ...PLAIN, RACKWIRE_DCPIM_THREADS: "2" }));
  needs(["rawsocket"]).test(`${what} calls do the same on the raw engine`, () => check({ ...PLAIN, ...RAW }));
}

// ---- two processes ----

async function exchange(mode: string, env: Environment, program = PEER): Promise<void> {
  const server = await startPeerServer(["serve", mode, "3"], env, program);
  const [stream, messages, second] = await Promise.all([
    run(program, ["ask", "127.0.0.1", server.found, mode, `${BYTES}`], env),
    run(program, ["tell", "127.0.0.1", server.found, mode, `${MESSAGES}`], env),
    run(program, ["ask", "127.0.0.1", server.found, mode, "1"], env),
  ]);
  succeeded("stream", stream);
  succeeded("messages", messages);
  succeeded("one byte", second);
  succeeded("server", await server.rest());
}

for (const mode of MODES) {
  Deno.test(`two processes exchange streams and messages with ${mode}`, () => exchange(mode, PLAIN));
  needs(["rawsocket"]).test(
    `two processes exchange streams and messages with ${mode} on the raw engine`,
    () => exchange(mode, { ...PLAIN, ...RAW }),
  );
}

Deno.test("fortified programs, and ones with 64-bit file offsets, go through", async () => {
  for (const mode of ["block", "poll", "edge"]) await exchange(mode, PLAIN, `${PEER}_fortified`);
});

Deno.test("two processes exchange streams and messages under the sanitizers", async () => {
  await exchange("edge", sanitized());
  await exchange("block", sanitized());
});

Deno.test("two processes exchange streams and messages with a spinning engine", async () => {
  await exchange("epoll", { ...PLAIN, RACKWIRE_DCPIM_BUSY_POLL: "50us", RACKWIRE_DCPIM_CRC: "1" });
});

Deno.test("what was sent before exit() arrives", async () => {
  for (const bytes of ["1", "100000", "10000000"]) {
    const server = await startPeerServer(["sink"], PLAIN);
    succeeded("client", await run(PEER, ["leave", "127.0.0.1", server.found, bytes], PLAIN));
    const { code, out } = await server.rest();
    assert.equal(code, 0);
    assert.match(out, new RegExp(`received ${bytes}\n`));
  }
});

// ---- the server of rackwire ----

async function askService(engine: "udp" | "raw"): Promise<void> {
  const env = { ...PLAIN, RACKWIRE_DCPIM_ENGINE: engine };
  const server = startRackwire(["dcpim", "server", "--engine", engine, "--ip", "127.0.0.1", "--port", "0"]);
  const reader = server.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let out = "";
  try {
    while (!out.includes("\n")) {
      const { value, done } = await reader.read();
      if (done) assert.fail(`the server ended: ${out}${await new Response(server.stderr).text()}`);
      out += value;
    }
    const port = /listening on 127\.0\.0\.1:(\d+)/.exec(out)?.[1];
    assert.ok(port, out);
    for (const mode of MODES) {
      succeeded(mode, await run(PEER, ["ask", "127.0.0.1", port, `${mode}+service`, "5000011"], env));
      succeeded(mode, await run(PEER, ["tell", "127.0.0.1", port, `${mode}+service`, "100"], env));
    }
  } finally {
    server.kill("SIGINT");
    while (!(await reader.read()).done);
    await server.stderr.cancel();
    await server.status;
  }
}

Deno.test("an ordinary program is served by `rackwire dcpim server` in UDP", () => askService("udp"));
needs(["rawsocket"]).test(
  "an ordinary program is served by `rackwire dcpim server` on protocol 254",
  () => askService("raw"),
);

// ---- other programs ----

const SELECTORS = `
import selectors, socket, threading
DCPIM = 254
def listener():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, DCPIM)
    s.bind(("127.0.0.1", 0)); s.listen(16); s.setblocking(False)
    return s
def serve(s, n):
    sel = selectors.DefaultSelector()
    sel.register(s, selectors.EVENT_READ, None)
    while n:
        for key, events in sel.select():
            if key.fileobj is s:
                c, _ = s.accept(); c.setblocking(False)
                sel.register(c, selectors.EVENT_READ)
            else:
                data = key.fileobj.recv(65536)
                if data: key.fileobj.sendall(data)
                else: sel.unregister(key.fileobj); key.fileobj.close(); n -= 1
s = listener()
t = threading.Thread(target=serve, args=(s, 4)); t.start()
for i in range(4):
    c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, DCPIM); c.settimeout(20)
    c.connect(s.getsockname())
    c.sendall(b"x" * 10000); c.shutdown(socket.SHUT_WR)
    got = b""
    while True:
        d = c.recv(65536)
        if not d: break
        got += d
    assert got == b"x" * 10000, len(got)
    c.close()
t.join(); print("done")
`;

Deno.test("Python's sockets and selectors work on protocol 254", async () => {
  const result = await run("python3", ["-c", SELECTORS], PLAIN);
  succeeded("python3", result);
  assert.equal(result.out, "done\n");
});

const ORDINARY = `
import asyncio, http.server, os, socket, subprocess, threading, urllib.request
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *a): pass
web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
threading.Thread(target=web.serve_forever, daemon=True).start()
name = os.path.basename(__import__("sys").argv[1])
body = urllib.request.urlopen("http://127.0.0.1:%d/%s" % (web.server_port, name)).read()
print(len(body))
print(subprocess.run(["echo", "child"], capture_output=True, text=True).stdout.strip())
async def main():
    async def echo(r, w):
        w.write(await r.read(100)); await w.drain(); w.close()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    r, w = await asyncio.open_connection(*server.sockets[0].getsockname())
    w.write(b"through epoll"); w.write_eof()
    print((await r.read()).decode()); w.close(); server.close()
asyncio.run(main())
a, b = socket.socketpair(); a.send(b"pair"); print(b.recv(9).decode())
print(os.listdir("/proc/self/fd") != [])
`;

Deno.test("programs without dcPIM behave the same with the library in front", async () => {
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, "0123456789".repeat(100_000));
    const directory = file.slice(0, file.lastIndexOf("/"));
    const commands: [string, string[]][] = [
      ["sh", ["-c", `cd ${directory} && exec python3 -c "$0" ${file}`, ORDINARY]],
      ["ls", ["-l", `${ROOT}docs`]],
      ["sh", ["-c", "seq 1 100000 | sort -rn | head -1; exec 7</dev/null; exec 7<&-; echo end >&2"]],
      ["dd", ["if=/dev/zero", "of=/dev/null", "bs=1M", "count=10", "status=none"]],
    ];
    for (const [program, args] of commands) {
      const [without, withIt] = [await run(program, args, {}), await run(program, args, PLAIN)];
      assert.equal(without.code, 0, without.err);
      assert.deepEqual(withIt, without, program);
    }
  } finally {
    await Deno.remove(file);
  }
});

// ---- options ----

const TRY = `
import socket, sys
for i in range(2):
    try: socket.socket(2, 2, 254); print("open")
    except OSError as e: print(e.errno)
`;

Deno.test("a bad option is told once, and socket() gives EINVAL", async () => {
  const bad: [name: string, value: string][] = [
    ["RACKWIRE_DCPIM_ENGINE", "tcp"],
    ["RACKWIRE_DCPIM_BUSY_POLL", "soon"],
    ["RACKWIRE_DCPIM_THREADS", "0"],
    ["RACKWIRE_DCPIM_THREADS", "65"],
    ["RACKWIRE_DCPIM_PIN", "3-1"],
    ["RACKWIRE_DCPIM_PIN", "0,"],
    ["RACKWIRE_DCPIM_LOCAL", "localhost"],
    ["RACKWIRE_DCPIM_ENCAP_PORT", "70000"],
    ["RACKWIRE_DCPIM_MTU", "-1"],
    ["RACKWIRE_DCPIM_RATE", "10"],
    ["RACKWIRE_DCPIM_CRC", "yes"],
    ["RACKWIRE_DCPIM_LINGER", "5"],
    ["RACKWIRE_DCPIM_LINGER", "99999999999999999999s"],
  ];
  for (const [name, value] of bad) {
    const { code, out, err } = await run("python3", ["-c", TRY], { ...PLAIN, [name]: value });
    assert.equal(code, 0, err);
    assert.equal(out, "22\n22\n", `${name}=${value}`);
    const lines = err.trimEnd().split("\n");
    assert.equal(lines.length, 1, err);
    assert.ok(lines[0]!.includes(`${name}=${value}: must be `), err);
  }
});

Deno.test("good options are taken", async () => {
  const env = {
    ...PLAIN,
    RACKWIRE_DCPIM_ENGINE: "udp",
    RACKWIRE_DCPIM_BUSY_POLL: "0",
    RACKWIRE_DCPIM_THREADS: "2",
    RACKWIRE_DCPIM_PIN: "0,0-0",
    RACKWIRE_DCPIM_LOCAL: "127.0.0.1",
    RACKWIRE_DCPIM_MTU: "1500",
    RACKWIRE_DCPIM_RATE: "10gbit",
    RACKWIRE_DCPIM_CRC: "0",
    RACKWIRE_DCPIM_OFFLOAD: "0",
    RACKWIRE_DCPIM_CONTROL: "0",
    RACKWIRE_DCPIM_LINGER: "500ms",
  };
  const result = await run("python3", ["-c", TRY], env);
  succeeded("python3", result);
  assert.equal(result.out, "open\nopen\n");
  await exchange("epoll", env);
});

if (lacking(["root"]) === undefined) {
  Deno.test("the raw engine without its privilege says so, and socket() gives EPERM", async () => {
    const { out, err } = await run("setpriv", [
      "--bounding-set=-net_raw",
      "--inh-caps=-net_raw",
      "python3",
      "-c",
      TRY,
    ], { ...PLAIN, ...RAW });
    assert.equal(out, "1\n1\n", err);
    assert.equal(err.trimEnd().split("\n").length, 1, err);
  });
}
