// SPDX-License-Identifier: BSD-2-Clause
import assert from "node:assert/strict";
import { RackwireError } from "../../lib/ffi/errors.ts";
import { hostFacts, listSystemDirectory, readSystemFile, trySystemFile } from "../../lib/host/facts.ts";
import { resolveHost } from "../../lib/host/resolve.ts";
import { runtimeDirectory, runtimeDirectoryPath } from "../../lib/host/runtime_dir.ts";

function output(command: string, ...args: string[]): string {
  const { stdout } = new Deno.Command(command, { args, stderr: "null" }).outputSync();
  return new TextDecoder().decode(stdout).trim();
}

Deno.test("the facts are those that other programs see", () => {
  const facts = hostFacts();
  assert.equal(facts.kernel.release, output("uname", "-r"));
  assert.equal(facts.kernel.machine, output("uname", "-m"));
  assert.equal(facts.hostname, output("uname", "-n"));
  assert.equal(facts.euid, Number(output("id", "-u")));
  assert.equal(facts.cpus.allowed.length, Number(output("nproc")));
  assert.equal(facts.page_bytes, Number(output("getconf", "PAGESIZE")));
  assert.equal(facts.sysctl["net.core.rmem_max"], Number(output("cat", "/proc/sys/net/core/rmem_max")));
  assert.deepEqual(
    facts.interfaces.find(({ name }) => name === "lo"),
    { name: "lo", mtu: Number(output("cat", "/sys/class/net/lo/mtu")), up: true },
  );
  assert.equal(facts.deno, Deno.version.deno);
  const socket = (family: number, protocol: number) =>
    output("python3", "-c", `import socket; socket.socket(${family}, 3, ${protocol}); print('ok')`) === "ok";
  assert.equal(facts.probes.raw_ipv4_protocol_254 === "ok", socket(2, 254));
  assert.equal(facts.probes.raw_ipv6_protocol_254 === "ok", socket(10, 254));
});

Deno.test("the CPUs are those this process may use", () => {
  const script = `import { hostFacts } from "./lib/host/facts.ts";
    console.log(hostFacts().cpus.allowed.join());`;
  const pinned = output("taskset", "-c", "0", Deno.execPath(), "eval", "--ext=ts", script);
  assert.equal(pinned, "0");
});

Deno.test("only /proc and /sys are read, and failures say why", () => {
  assert.match(readSystemFile("/proc/version"), /^Linux version/);
  assert.throws(
    () => readSystemFile("/etc/passwd"),
    (e) => e instanceof RackwireError && e.code === "EACCES",
  );
  assert.throws(
    () => readSystemFile("/proc/../etc/passwd"),
    (e) => e instanceof RackwireError && e.code === "EACCES",
  );
  assert.throws(
    () => readSystemFile("/proc/nothing"),
    (e) => e instanceof RackwireError && e.code === "ENOENT",
  );
  assert.equal(trySystemFile("/proc/nothing"), undefined);
  assert.deepEqual(listSystemDirectory("/proc/nothing"), []);
  assert.ok(listSystemDirectory("/sys/class/net").includes("lo"));
});

Deno.test("names and addresses are resolved, and an unknown name is an error with a hint", async () => {
  assert.deepEqual(await resolveHost("127.0.0.1"), { address: "127.0.0.1", family: 4 });
  assert.deepEqual(await resolveHost("fe80::1%lo"), { address: "fe80::1", family: 6, zone: "lo" });
  assert.match((await resolveHost("localhost")).address, /^(127\.0\.0\.1|::1)$/);
  await assert.rejects(
    resolveHost("no-such-host.invalid"),
    (error) => error instanceof RackwireError && error.code === "ENOTFOUND" && !!error.hint,
  );
});

Deno.test("the runtime directory is made private, and one that is not is refused", async () => {
  const dir = await Deno.makeTempDir();
  const before = Deno.env.get("RACKWIRE_RUNTIME_DIR");
  const refused = (e: unknown) => e instanceof RackwireError && e.code === "UNSAFE_DIRECTORY";
  try {
    Deno.env.set("RACKWIRE_RUNTIME_DIR", `${dir}/run`);
    assert.equal(runtimeDirectoryPath(), `${dir}/run`);
    assert.equal(runtimeDirectory(), `${dir}/run`);
    assert.equal(Deno.lstatSync(`${dir}/run`).mode! & 0o777, 0o700);
    assert.equal(runtimeDirectory(), `${dir}/run`);
    await Deno.chmod(`${dir}/run`, 0o770);
    assert.throws(runtimeDirectory, refused);
    await Deno.chmod(`${dir}/run`, 0o700);
    await Deno.symlink(`${dir}/run`, `${dir}/link`);
    Deno.env.set("RACKWIRE_RUNTIME_DIR", `${dir}/link`);
    assert.throws(runtimeDirectory, refused);
    Deno.env.set("RACKWIRE_RUNTIME_DIR", `${dir}/none/run`);
    assert.throws(runtimeDirectory, refused);
  } finally {
    if (before === undefined) Deno.env.delete("RACKWIRE_RUNTIME_DIR");
    else Deno.env.set("RACKWIRE_RUNTIME_DIR", before);
    await Deno.remove(dir, { recursive: true });
  }
});
