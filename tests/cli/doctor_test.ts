// SPDX-License-Identifier: BSD-2-Clause
import assert from "node:assert/strict";
import type { HostFacts } from "../../lib/host/facts.ts";
import { needs } from "../helpers/needs.ts";
import { runInside, runRackwire } from "../helpers/cli.ts";

const ESCAPE = "\x1b[";

/** A machine on which everything works. */
function machine(): HostFacts {
  return {
    kernel: { release: "6.1.0-50-amd64", version: "#1 SMP", machine: "x86_64" },
    hostname: "node7",
    cpus: { online: 8, allowed: [0, 1, 2, 3, 6] },
    memory_bytes: 16 * 2 ** 30,
    page_bytes: 4096,
    euid: 0,
    capabilities: ["CAP_NET_ADMIN", "CAP_NET_RAW"],
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
    sysctl: { "net.core.rmem_max": 212_992, "net.core.wmem_max": null },
    interfaces: [{ name: "eth0", mtu: 1500, up: true }, { name: "eth1", mtu: null, up: false }],
    rdma: { devices: ["rxe0"] },
    libraries: [
      { name: "host", path: "/x/librackwire_host.so", present: true },
      { name: "dcpim", path: "/x/librackwire_dcpim.so", present: true },
      { name: "krping", path: "/x/librackwire_krping.so", present: true },
    ],
    deno: "2.9.6",
  };
}

/** The same for a user without privileges, on an older kernel, without IPv6. */
function poorMachine(): HostFacts {
  const facts = machine();
  return {
    ...facts,
    euid: 1000,
    capabilities: [],
    limits: { memlock_bytes: 8 * 2 ** 20, open_files: 1024 },
    probes: {
      ...facts.probes,
      raw_ipv4_protocol_254: "EPERM",
      raw_ipv6_protocol_254: "EAFNOSUPPORT",
      packet_socket: "EPERM",
      ipv6: "EADDRNOTAVAIL",
      udp_gro: "ENOPROTOOPT",
      busy_poll: "EPERM",
      receive_buffer_beyond_limit: "EPERM",
    },
    interfaces: [],
    rdma: { devices: [] },
  };
}

Deno.test("doctor describes a machine that can do everything", async (t) => {
  const { status, out, err } = await runInside(["doctor"], { facts: machine });
  assert.deepEqual([status, err], [0, ""]);
  await t.assertSnapshot(out);
});

Deno.test("doctor says why an engine does not work and what to do", async (t) => {
  const { status, out } = await runInside(["doctor"], { facts: poorMachine });
  assert.equal(status, 0);
  await t.assertSnapshot(out);
});

Deno.test("doctor names the library that is not built", async () => {
  const facts = () => ({ ...machine(), libraries: [{ name: "dcpim", path: "/x", present: false }] });
  const { out } = await runInside(["doctor", "--quiet"], { facts });
  assert.match(out, /udp +no +librackwire_dcpim\.so is not there +build it with: make build/);
});

Deno.test("doctor --json is one document with a schema", async () => {
  const { status, out } = await runInside(["doctor", "--json"], { facts: poorMachine, terminal: true });
  assert.equal(status, 0);
  const document = JSON.parse(out);
  assert.equal(document.schema, "rackwire.doctor/1");
  assert.deepEqual(document.machine, JSON.parse(JSON.stringify(poorMachine())));
  assert.deepEqual(document.engines.map((e: { engine: string; works: boolean }) => [e.engine, e.works]), [
    ["udp", true],
    ["raw", false],
    ["verbs", false],
    ["soft", true],
  ]);
  assert.match(document.engines[1].why, /CAP_NET_RAW/);
});

Deno.test("colours are for terminals", async () => {
  assert.ok((await runInside(["doctor"], { facts: machine, terminal: true })).out.includes(ESCAPE));
  assert.ok(!(await runInside(["doctor"], { facts: machine })).out.includes(ESCAPE));
});

/** Runs a command line on a pseudo-terminal and returns what it shows. */
async function onTerminal(commandLine: string, env: Record<string, string>): Promise<string> {
  const { stdout } = await new Deno.Command("python3", {
    args: ["-c", "import pty, sys; pty.spawn(['/bin/sh', '-c', sys.argv[1]])", commandLine],
    env: { TERM: "xterm", ...env },
    stdin: "null",
  }).output();
  return new TextDecoder().decode(stdout);
}

Deno.test("NO_COLOR and --no-color switch colours off on a real terminal", async () => {
  const doctor = "build/bin/rackwire doctor";
  const clear = { NO_COLOR: "" };
  assert.ok((await onTerminal(doctor, clear)).includes(ESCAPE));
  for (const [commandLine, env] of [[doctor, { NO_COLOR: "1" }], [`${doctor} --no-color`, clear]] as const) {
    const shown = await onTerminal(commandLine, env);
    assert.match(shown, /kernel/);
    assert.ok(!shown.includes(ESCAPE));
  }
  assert.ok(!(await onTerminal("build/bin/rackwire --help", { NO_COLOR: "1" })).includes(ESCAPE));
});

Deno.test("doctor runs with the sanitized library", async () => {
  const { status, out, err } = await runRackwire(["doctor", "--json"], { sanitized: true });
  assert.equal(err, "");
  assert.equal(status, 0);
  assert.equal(JSON.parse(out).schema, "rackwire.doctor/1");
});

needs(["root"]).test("without the capability doctor runs and says what raw sockets need", async () => {
  const { code, stdout, stderr } = await new Deno.Command("setpriv", {
    args: ["--bounding-set=-net_raw,-net_admin", "build/bin/rackwire", "doctor", "--json"],
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  const { engines, machine } = JSON.parse(new TextDecoder().decode(stdout));
  assert.ok(!machine.capabilities.includes("CAP_NET_RAW"));
  assert.equal(machine.probes.raw_ipv4_protocol_254, "EPERM");
  assert.equal(engines.find((each: { engine: string }) => each.engine === "raw").works, false);
});
