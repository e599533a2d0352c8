// SPDX-License-Identifier: BSD-2-Clause
// The namespaces and bad wires that other tests rely on.

import assert from "node:assert/strict";
import { type End, type Link, lose, loseBothWays, Network, removeStale } from "../helpers/netns.ts";
import { needs } from "../helpers/needs.ts";

// An echo, and a probe that sends it numbered datagrams and prints how they came back. Neither buffers nor
// time may lose any, however busy the machine is: they go in bursts, each followed by a mark that is sent until
// it comes back. What went before it has then passed, or is lost.
const ECHO = `
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)  # SO_RCVBUFFORCE
s.bind((sys.argv[1], 7))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(65536)
    s.sendto(data, peer)
`;
const PROBE = `
import socket, sys, time
host, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
BURST, MARK = 20, 1 << 31
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)  # SO_RCVBUFFORCE
s.connect((host, 7))
s.settimeout(0.005)
pad = bytes(i & 255 for i in range(size - 4))
got, intact, marks = [], 0, 0
def pass_mark():
    global intact, marks
    marks += 1
    mark = MARK + marks
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up:
        try: s.send(mark.to_bytes(4, "big"))
        except OSError: pass  # an ICMP error, or all wait for the neighbour's address
        while True:
            try: data = s.recv(65536)
            except OSError: break  # nothing there, or an ICMP error
            number = int.from_bytes(data[:4], "big")
            if number == mark: return
            if number < MARK:
                got.append(number)
                intact += data[4:] == pad
    sys.exit("no mark came back")
pass_mark()  # the neighbour's address is known from here on
for i in range(count):
    s.send(i.to_bytes(4, "big") + pad)
    if i % BURST == BURST - 1: pass_mark()
for i in range(3):  # a reordered datagram may be a little later than the mark, on either way
    time.sleep(0.005)
    pass_mark()
print(len(got), len(set(got)), sum(a > b for a, b in zip(got, got[1:])), intact)
`;

/** Round trips over a link: how many came back, how many different ones, inversions, and intact ones. */
async function probe({ ends: [from, to] }: Link, address: "v4" | "v6", count: number, size = 64) {
  const echo = to!.host.start(["python3", "-c", ECHO, to![address]]);
  await echo.until(/ready/);
  const { status, out, err } = await from!.host.run(
    ["python3", "-c", PROBE, to![address], `${count}`, `${size}`],
  );
  await echo.stop("SIGKILL");
  assert.equal(status, 0, err);
  const [came, distinct, inversions, intact] = out.trim().split(" ").map(Number);
  return { came, distinct, inversions, intact } as Record<
    "came" | "distinct" | "inversions" | "intact",
    number
  >;
}

function pair(net: Network, options = {}): Link {
  return net.link(net.host("a"), net.host("b"), options);
}

needs(["root", "netns", "ip"]).test("two namespaces reach each other by IPv4 and IPv6 at once", async () => {
  using net = new Network();
  const link = pair(net);
  for (const address of ["v4", "v6"] as const) {
    assert.deepEqual(await probe(link, address, 20), { came: 20, distinct: 20, inversions: 0, intact: 20 });
  }
});

needs(["root", "netns", "ip"]).test("namespaces and the processes in them go with the network", async () => {
  const listed = () =>
    new TextDecoder().decode(new Deno.Command("ip", { args: ["netns"] }).outputSync().stdout);
  const net = new Network();
  const host = net.host("a");
  assert.ok(listed().includes(host.name));
  const child = host.start(["sleep", "100"]);
  net[Symbol.dispose]();
  assert.equal((await child.finished).status, 137);
  assert.ok(!listed().includes(host.name));
});

needs(["root", "netns", "ip"]).test("what a killed process left is removed by the next one", async () => {
  const leave = `
    import { Network } from ${JSON.stringify(new URL("../helpers/netns.ts", import.meta.url).href)};
    console.log(new Network().host("a").name);
    await new Promise((resolve) => setTimeout(resolve, 60_000));`;
  const list = () =>
    new TextDecoder().decode(new Deno.Command("ip", { args: ["netns"] }).outputSync().stdout);
  for (const signal of ["SIGKILL", "SIGINT", "SIGTERM"] as const) {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["eval", "--cached-only", leave],
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const name = (await reader.read()).value!.trim();
    child.kill(signal);
    const { signal: endedBy } = await child.status;
    await reader.cancel();
    assert.equal(endedBy, signal);
    assert.equal(list().includes(name), signal === "SIGKILL");
    if (signal === "SIGKILL") assert.ok(removeStale().includes(name));
    assert.ok(!list().includes(name));
  }
});

needs(["root", "netns", "ip", "tc"]).test("loss is what was asked for, and counted", async () => {
  using net = new Network();
  const link = pair(net);
  const lost = lose(link.ends[1]!, 0.1);
  const { came, intact } = await probe(link, "v4", 3000);
  // 300 expected, standard deviation 16.4; the bounds are 8 of them away.
  assert.ok(came > 2570 && came < 2830, `${came} of 3000 came back`);
  assert.equal(intact, came);
  assert.ok(lost() >= 3000 - came);
});

needs(["root", "netns", "ip", "nft"]).test("loss by nft is the same", async () => {
  const path = Deno.env.get("PATH")!;
  using net = new Network();
  const link = pair(net);
  const script = `
    import { lose } from ${JSON.stringify(new URL("../helpers/netns.ts", import.meta.url).href)};
    import { Host } from ${JSON.stringify(new URL("../helpers/netns.ts", import.meta.url).href)};
    lose({ host: new Host("b", Deno.args[0]), iface: "eth0" }, 0.1);`;
  // A directory of programs without clang.
  const bin = await Deno.makeTempDir();
  try {
    for (const name of ["ip", "nft", "tc", "sh"]) {
      const found = new TextDecoder().decode(
        new Deno.Command("sh", { args: ["-c", `command -v ${name}`], env: { PATH: path } }).outputSync()
          .stdout,
      );
      await Deno.symlink(found.trim(), `${bin}/${name}`);
    }
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["eval", "--cached-only", script, "--", link.ends[1]!.host.name],
      env: { PATH: bin },
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
  } finally {
    await Deno.remove(bin, { recursive: true });
  }
  assert.match(link.ends[1]!.host.sh("nft", "list", "ruleset"), /numgen random mod 1000000 < 100000/);
  const { came, intact } = await probe(link, "v4", 3000);
  assert.ok(came > 2570 && came < 2830, `${came} of 3000 came back`);
  assert.equal(intact, came);
});

needs(["root", "netns", "ip", "gcc"]).test(
  "the bad wire reorders, duplicates, drops and corrupts",
  async () => {
    using net = new Network();
    const link = await net.impaired(net.host("a"), net.host("b"), {
      "seed": 7,
      "delay-us": 200,
      "reorder-ppm": 50_000,
      "reorder-us": 1000,
      "duplicate-ppm": 50_000,
      "drop-ppm": 50_000,
      "corrupt-ppm": 20_000,
    });
    for (const address of ["v4", "v6"] as const) {
      const { came, distinct, inversions, intact } = await probe(link, address, 2000, 1000);
      assert.ok(came > distinct, "none was duplicated");
      assert.ok(distinct > 1500 && distinct < 2000, `${distinct} of 2000 came back`);
      assert.ok(inversions > 20, `${inversions} overtook`);
      assert.equal(intact, came, "UDP's checksum let damage through");
    }
    const counts = JSON.parse((await link.wire.stop("SIGTERM")).out.split("\n")[1]!);
    for (const name of ["forwarded", "dropped", "duplicated", "reordered", "corrupted"]) {
      assert.ok(counts[name] > 100, `${name}: ${counts[name]}`);
    }
  },
);

needs(["root", "netns", "ip", "ethtool"]).test(
  "a router with a short second link answers by ICMP",
  async () => {
    using net = new Network();
    const link = net.routed(net.host("a"), net.host("b"), [1500, 1300]);
    const from: End = link.ends[0]!;
    for (const address of ["v4", "v6"] as const) {
      assert.equal((await probe(link, address, 10, 1200)).came, 10);
      // The first longest packet is lost to the router's answer; then the kernel knows the path.
      await probe(link, address, 1, 1400);
      const route = from.host.ip("route", "get", link.ends[1]![address]);
      assert.match(route, /mtu 1300/);
      assert.equal((await probe(link, address, 10, 1400)).came, 10);
    }
  },
);

needs(["root", "netns", "ip", "tc"]).test(
  "a switch joins several hosts and its ports have a rate",
  async () => {
    using net = new Network();
    const hosts = ["a", "b", "c"].map((label) => net.host(label));
    const star = net.star(hosts, { rate: "100mbit" });
    for (const [i, j] of [[0, 1], [2, 1]] as const) {
      const { came } = await probe({ ends: [star.ends[i]!, star.ends[j]!] }, "v4", 20);
      assert.equal(came, 20);
    }
    assert.match(star.middle.sh("tc", "qdisc", "show", "dev", "eth0"), /tbf .*rate 100Mbit/);
  },
);

needs(["root", "netns", "ip", "ethtool"]).test("offloads and MTU are as asked for", () => {
  using net = new Network();
  for (const offloads of [true, false]) {
    const { ends } = net.link(net.host(`a${offloads}`), net.host(`b${offloads}`), { mtu: 9000, offloads });
    for (const { host, iface } of ends) {
      const features = host.sh("ethtool", "-k", iface);
      const state = offloads ? "on" : "off";
      for (
        const name of [
          "tcp-segmentation-offload",
          "generic-segmentation-offload",
          "generic-receive-offload",
          "tx-udp-segmentation",
          "tx-checksumming",
        ]
      ) assert.match(features, new RegExp(`^\\s*${name}: ${state}`, "m"));
      assert.match(host.ip("link", "show", iface), /mtu 9000/);
    }
  }
});

needs(["root", "netns", "ip", "tc"]).test("loss both ways is counted in sum", async () => {
  using net = new Network();
  const link = pair(net, { offloads: false });
  const lost = loseBothWays(link, 0.05);
  const { came } = await probe(link, "v6", 1000);
  assert.ok(lost() >= 1000 - came && came < 1000);
});
