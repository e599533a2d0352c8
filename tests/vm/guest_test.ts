// SPDX-License-Identifier: BSD-2-Clause
// Guests themselves: what others rely on when they test modules and RDMA peers in them.

import assert from "node:assert/strict";
import { Network } from "../helpers/netns.ts";
import { lacking, needs } from "../helpers/needs.ts";
import { Guest, step } from "./guest.ts";
import { debianKernel, loadOrder, testedSuites } from "./kernel.ts";
import { addressOf, Lan } from "./lan.ts";

const GUEST_URL = new URL("guest.ts", import.meta.url).href;

/** Answers each datagram on the port that RoCEv2 uses with itself. */
const ECHO = `
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 4791))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(65536)
    s.sendto(data, peer)
`;
/** Sends one datagram after another; prints how many were answered within a second each. */
const ASK = `
import socket, sys
host, count, wait = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(wait)
answered = 0
for i in range(count):
    data = i.to_bytes(4, "big") * 100
    s.sendto(data, (host, 4791))
    try:
        while s.recv(65536) != data: pass
        answered += 1
    except TimeoutError: pass
print(answered)
`;

function processLives(pid: number): boolean {
  try {
    // The state follows the name; a zombie has ended.
    return !/\) [ZX] /.test(Deno.readTextFileSync(`/proc/${pid}/stat`));
  } catch {
    return false;
  }
}

needs(["guest"]).test("modules are loaded after all they depend on", () => {
  const kernel = debianKernel("bookworm");
  const order = loadOrder(kernel, ["9pnet_virtio", "virtio-pci", "overlay"]).map((file) =>
    file.replace(/.*\//, "").replace(/\.ko.*/, "")
  );
  const before = (first: string, then: string) => {
    assert.ok(order.includes(first), `${first} is missing`);
    assert.ok(order.indexOf(first) < order.indexOf(then), `${first} before ${then} in ${order}`);
  };
  before("virtio_ring", "virtio");
  before("virtio", "virtio_pci");
  before("virtio_pci_modern_dev", "virtio_pci");
  before("9pnet", "9pnet_virtio");
  assert.equal(new Set(order).size, order.length);
  assert.deepEqual(loadOrder(kernel, ["ext4", "unix"]).filter((file) => file.includes("unix")), []);
  assert.throws(() => loadOrder(kernel, ["no_such_module"]), /no module no_such_module/);
});

needs(["root", "guest"]).test("a guest that cannot come up says why and leaves nothing", async () => {
  await assert.rejects(
    Guest.boot({ label: "refused", qemu: ["-device", "no-such-device"] }),
    /'no-such-device' is not a valid device model name/,
  );
  await assert.rejects(
    Guest.boot({ label: "no-module", modules: ["no_such_module"] }),
    /setting it up failed: modprobe: FATAL: Module no_such_module not found/,
  );
  const left = [...Deno.readDirSync(new URL("../../build/vm/run", import.meta.url))]
    .filter(({ name }) => name.startsWith(`${Deno.pid}-`));
  assert.deepEqual(left, []);
});

needs(["root", "guest"]).test("a guest ends with the process that booted it", async () => {
  const script = `import { Guest } from ${JSON.stringify(GUEST_URL)};
    const guest = await Guest.boot({ label: "orphan" });
    console.log(guest.qemu.pid);
    await guest.run(["sleep", "1000"], { seconds: 1000 });`;
  const parent = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-check", "--cached-only", script],
    stdout: "piped",
  }).spawn();
  const { value } = await parent.stdout.pipeThrough(new TextDecoderStream()).values().next();
  const pid = Number(value);
  assert.ok(pid > 0 && processLives(pid));
  parent.kill("SIGKILL");
  await parent.status;
  while (processLives(pid)) await new Promise((resolve) => setTimeout(resolve, 20));
});

for (const suite of testedSuites()) {
  needs(["root", "netns", "tun", "ip", "guest"]).test(`a guest with the kernel of ${suite}`, async (t) => {
    const kernel = debianKernel(suite);
    using net = new Network();
    const lan = new Lan(net);
    const nics = [lan.nic()];
    const guest = await Guest.boot({ label: `guest-${suite}`, kernel, nics, modules: ["dummy"] });
    try {
      await check(t, lan, guest);
    } finally {
      // The last step has broken it.
      await assert.rejects(guest.close(), /its kernel complains/);
    }
  });
}

async function check(t: Deno.TestContext, lan: Lan, guest: Guest): Promise<void> {
  await step(t, "it runs that kernel on two processors", async () => {
    assert.equal(await guest.sh("uname", "-r"), `${guest.kernel.release}\n`);
    assert.equal(await guest.sh("nproc"), "2\n");
    assert.match(await guest.sh("lsmod"), /^dummy /m);
  });

  await step(t, "a program's status, both streams, environment and directory come through", async () => {
    const script = 'echo "$WORD $PWD"; echo "it\'s $0" >&2; exit 7';
    const env = { WORD: "a 'quoted' $word\nof two lines" };
    assert.deepEqual(await guest.run(["sh", "-c", script, "me"], { env, cwd: "/usr" }), {
      status: 7,
      out: "a 'quoted' $word\nof two lines /usr\n",
      err: "it's me\n",
    });
    const { status, out } = await guest.run(["head", "-c", "3000000", "/dev/zero"]);
    assert.deepEqual([status, out.length], [0, 3_000_000]);
    assert.equal((await guest.run(["/no/such/program"])).status, 127);
    await assert.rejects(guest.sh("cat", "/no/such/file"), /No such file/);
  });

  await step(t, "programs run side by side, and end by a signal or when their time is over", async () => {
    const one = await guest.start(["sh", "-c", "echo one; sleep 1000 & wait"]);
    const two = await guest.start([
      "sh",
      "-c",
      'trap "echo caught; exit 3" TERM; echo two; sleep 1000 & wait',
    ]);
    await Promise.all([one.until(/one/), two.until(/two/)]);
    assert.deepEqual([one.ended, two.ended], [false, false]);
    assert.equal((await one.stop("SIGKILL")).status, 137);
    assert.deepEqual(await two.stop("SIGTERM"), { status: 3, out: "two\ncaught\n", err: "" });
    const late = await guest.run(["sleep", "1000"], { seconds: 1 });
    assert.deepEqual(late, { status: 137, out: "", err: "" });
    await assert.rejects((await guest.start(["echo", "no"])).until(/yes/), /without printing/);
    // The signals went to what the programs had started, too.
    assert.equal((await guest.run(["pgrep", "-x", "sleep"])).status, 1);
  });

  await step(t, "it sees the files of this machine, and what it writes stays inside", async () => {
    const here = decodeURIComponent(new URL(import.meta.url).pathname);
    assert.equal(await guest.sh("cat", here), Deno.readTextFileSync(here));
    const written = `/etc/rackwire-guest-${Deno.pid}`;
    await guest.sh("sh", "-c", `echo inside > ${written} && rm /etc/hostname && mkdir /usr/new`);
    assert.equal(await guest.sh("cat", written), "inside\n");
    assert.throws(() => Deno.statSync(written), Deno.errors.NotFound);
    Deno.statSync("/etc/hostname");
    await guest.sh("sh", "-c", `echo shared > ${guest.exchange}/file`);
    assert.equal(Deno.readTextFileSync(`${guest.exchange}/file`), "shared\n");
  });

  for (const family of ["v4", "v6"] as const) {
    await step(t, `it and the host's namespace talk by UDP and IP${family}, both ways`, async () => {
      const theirs = addressOf(guest.nics[0]!, family);
      const inside = await guest.start(["python3", "-u", "-c", ECHO, theirs]);
      await inside.until(/ready/);
      const asked = await lan.host.run(["python3", "-c", ASK, theirs, "20", "10"]);
      assert.deepEqual(asked, { status: 0, out: "20\n", err: "" });
      await inside.stop("SIGKILL");

      const outside = lan.host.start(["python3", "-u", "-c", ECHO, lan.address(family)]);
      await outside.until(/ready/);
      assert.equal(await guest.sh("python3", "-c", ASK, lan.address(family), "20", "10"), "20\n");
      await outside.stop("SIGKILL");
    });
  }

  const lossless = lacking(["clang", "tc"]);
  await t.step({
    name: `packets are lost on the way when that is asked for, and only then${
      lossless ? `: ${lossless}` : ""
    }`,
    ignore: lossless !== undefined,
    fn: async () => {
      const theirs = addressOf(guest.nics[0]!, "v4");
      const inside = await guest.start(["python3", "-u", "-c", ECHO, theirs], { seconds: 300 });
      await inside.until(/ready/);
      const ask = async (count: number, wait: number) =>
        Number((await lan.host.run(["python3", "-c", ASK, theirs, `${count}`, `${wait}`])).out);
      {
        using loss = lan.lossy(0.5);
        // None of 60 round trips answered, or all: less likely than one in ten million.
        const answered = await ask(60, 0.3);
        assert.ok(answered > 0 && answered < 60, `${answered} of 60 answered`);
        assert.ok(loss.lost() >= 60 - answered, `${loss.lost()} lost, ${60 - answered} not answered`);
      }
      assert.equal(await ask(20, 10), 20);
      await inside.stop("SIGKILL");
    },
  });

  await step(t, "a complaint of the kernel fails what runs, once", async () => {
    const complain = ["sh", "-c", "echo '<1>BUG: made up by a test' > /dev/kmsg"];
    await assert.rejects(guest.run(complain), /its kernel complains: .*BUG: made up by a test/);
    assert.equal(await guest.sh("echo", "on"), "on\n");
  });

  await step(t, "an oops stops it, and what runs fails with the end of its console", async () => {
    const bystander = await guest.start(["sleep", "1000"]);
    await guest.run(["sh", "-c", "echo 1 > /proc/sys/kernel/sysrq"]);
    await assert.rejects(
      guest.run(["sh", "-c", "echo c > /proc/sysrq-trigger"]),
      /it has stopped[^]*Kernel panic - not syncing/,
    );
    await assert.rejects(bystander.finished, /it has stopped/);
    await assert.rejects(guest.run(["true"]), /it has stopped/);
  });
}
