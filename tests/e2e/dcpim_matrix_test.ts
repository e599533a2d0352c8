// SPDX-License-Identifier: BSD-2-Clause
// dcPIM between namespaces over links of every kind. Every byte of every transfer is checked at its
// receiver, by the commands' own validation.

import assert from "node:assert/strict";
import { sanitizedEnvironment } from "../helpers/cli.ts";
import { type Host, type Link, loseBothWays, Network, setOffloads } from "../helpers/netns.ts";
import { type Need, needs } from "../helpers/needs.ts";
import {
  type Engine,
  ENGINES,
  failsCleanly,
  messagesWhole,
  pingsWhole,
  reverseWhole,
  startClient,
  startServer,
  stopServer,
  streamWhole,
} from "./netns_dcpim.ts";

const NEEDS: Need[] = ["root", "netns", "rawsocket", "ip", "tc", "ethtool"];
const MIB = 1024 * 1024;
/** More than fits a packet of any MTU here, and no multiple of any. */
const LONG_MESSAGE = 100_003;

function seed(): number {
  const value = Number(Deno.env.get("RACKWIRE_SEED") ?? Math.floor(Math.random() * 2 ** 32));
  console.log(`# RACKWIRE_SEED=${value}`);
  return value;
}

/** Moves every kind of traffic over a link, one after the other; returns the first stream's statistics. */
async function exercise(
  { ends: [from, to] }: Link,
  engine: Engine,
  {
    address = "v4" as "v4" | "v6",
    streamBytes = 16 * MIB,
    messages = 40,
    smallMessages = 400,
    pings = 100,
    options = [] as string[],
    env = {} as Record<string, string>,
  } = {},
): Promise<Record<string, number>> {
  const where = to![address];
  const server = await startServer(to!.host, where, engine, options, env);
  const client = (verb: "stream" | "message" | "ping", own: string[]) =>
    startClient(from!.host, verb, where, engine, [...own, ...options], env);
  const { stats } = await streamWhole(client("stream", ["--bytes", `${streamBytes}`]), streamBytes);
  await reverseWhole(client("stream", ["--bytes", `${streamBytes}`, "--reverse"]), streamBytes);
  await messagesWhole(
    client("message", ["--count", `${messages}`, "--size", `${LONG_MESSAGE}`, "--iodepth", "8"]),
    messages,
    LONG_MESSAGE,
  );
  await messagesWhole(
    client("message", ["--count", `${smallMessages}`, "--size", "64"]),
    smallMessages,
    64,
  );
  await pingsWhole(client("ping", ["--count", `${pings}`, "--long"]), pings, 64);
  await pingsWhole(
    client("ping", ["--count", `${pings}`, "--short", "--length", "5000", "--iodepth", "4"]),
    pings,
    5000,
  );
  await stopServer(server);
  return stats;
}

for (const engine of ENGINES) {
  for (const loss of [0, 0.01, 0.05]) {
    for (const mtu of [576, 1500, 9000]) {
      const name = `${engine}: everything arrives whole with ${loss * 100} % loss and an MTU of ${mtu}`;
      needs(NEEDS).test(name, async () => {
        using net = new Network();
        // Without loss the packets may be as large as offloads make them; each packet on the wire may be lost.
        const link = net.link(net.host("client"), net.host("server"), { mtu, offloads: loss === 0 });
        const lost = loss > 0 ? loseBothWays(link, loss) : () => 0;
        await exercise(link, engine, loss === 0 ? { streamBytes: 32 * MIB } : {});
        if (loss > 0) assert.ok(lost() > 10, `only ${lost()} packets were lost`);
      });
    }
  }

  // At the default rate, a fast network's, most of a small transfer needs no match.
  for (const loss of [0, 0.01, 0.05]) {
    needs(NEEDS).test(
      `${engine}: everything arrives whole where hosts are matched, with ${loss * 100} % loss`,
      async () => {
        using net = new Network();
        const link = net.link(net.host("client"), net.host("server"), { offloads: loss === 0 });
        if (loss > 0) loseBothWays(link, loss);
        const stats = await exercise(link, engine, { options: ["--rate", "500mbit"] });
        assert.ok(stats.channels_matched_tx! > 0 && stats.token_rx! > 0, JSON.stringify(stats));
      },
    );
  }

  for (const loss of [0, 0.01, 0.05]) {
    needs([...NEEDS, "ipv6"]).test(
      `${engine}: everything arrives whole over IPv6 with ${loss * 100} % loss`,
      async () => {
        using net = new Network();
        const link = net.link(net.host("client"), net.host("server"), { offloads: loss === 0 });
        if (loss > 0) loseBothWays(link, loss);
        await exercise(link, engine, { address: "v6" });
      },
    );
  }

  needs([...NEEDS, "ipv6"]).test(`${engine}: everything arrives whole over IPv6's smallest MTU`, async () => {
    using net = new Network();
    const link = net.link(net.host("client"), net.host("server"), { mtu: 1280 });
    await exercise(link, engine, { address: "v6" });
  });

  needs(NEEDS).test(
    `${engine}: everything arrives whole where whole super-packets of segmentation offload are lost`,
    async () => {
      using net = new Network();
      const link = net.link(net.host("client"), net.host("server"), { offloads: true });
      const lost = loseBothWays(link, 0.05);
      await exercise(link, engine, { streamBytes: 32 * MIB });
      assert.ok(lost() > 5, `only ${lost()} packets were lost`);
    },
  );

  needs(NEEDS).test(
    `${engine}: everything arrives whole where only one side's device has offloads`,
    async () => {
      using net = new Network();
      const link = net.link(net.host("client"), net.host("server"), { offloads: true });
      setOffloads(link.ends[0]!, false);
      await exercise(link, engine);
    },
  );

  const WIRES: [string, Record<string, number>][] = [
    ["a wire that reorders", { "reorder-ppm": 100_000, "reorder-us": 2000 }],
    ["a wire that duplicates", { "duplicate-ppm": 200_000, "reorder-us": 1000 }],
    ["a wire that takes 2 ms", { "delay-us": 2000 }],
    ["a wire that corrupts", { "corrupt-ppm": 20_000 }],
    ["a wire that reorders, duplicates, drops and corrupts", {
      "delay-us": 300,
      "reorder-ppm": 50_000,
      "reorder-us": 3000,
      "duplicate-ppm": 50_000,
      "drop-ppm": 30_000,
      "corrupt-ppm": 10_000,
    }],
  ];
  for (const [what, options] of WIRES) {
    needs([...NEEDS, "gcc"]).test(`${engine}: everything arrives whole over ${what}`, async () => {
      using net = new Network();
      const link = await net.impaired(net.host("client"), net.host("server"), { seed: seed(), ...options });
      await exercise(link, engine);
      const { out } = await link.wire.stop("SIGTERM");
      const counts = JSON.parse(out.split("\n")[1]!);
      const done = { reorder: "reordered", duplicate: "duplicated", drop: "dropped", corrupt: "corrupted" };
      for (const [option, counter] of Object.entries(done)) {
        if (`${option}-ppm` in options) assert.ok(counts[counter] > 20, `${counter}: ${counts[counter]}`);
      }
    });
  }

  needs([...NEEDS, "gcc"]).test(
    `${engine}: the sanitizers find nothing on a wire that does it all`,
    async () => {
      using net = new Network();
      const link = await net.impaired(net.host("client"), net.host("server"), {
        seed: seed(),
        ...WIRES.at(-1)![1],
      });
      await exercise(link, engine, { streamBytes: 4 * MIB, env: sanitizedEnvironment() });
    },
  );

  for (const address of ["v4", "v6"] as const) {
    needs(NEEDS).test(
      `${engine}: everything arrives whole where the path is narrower than the link, IP${address}`,
      async () => {
        using net = new Network();
        // What is too long for the second link is answered by ICMP.
        const link = net.routed(net.host("client"), net.host("server"), [9000, 1400]);
        await exercise(link, engine, { address });
      },
    );
  }

  for (const [what, options] of [["", []], [", matched to its rate", ["--rate", "400mbit"]]] as const) {
    needs(NEEDS).test(
      `${engine}: four clients send to one server at once, over a switch that drops${what}`,
      async () => {
        using net = new Network();
        const server = net.host("server");
        const clients = [1, 2, 3, 4].map((n) => net.host(`client${n}`));
        const star = net.star([server, ...clients], { rate: "400mbit", queue: 100_000, offloads: false });
        const address = star.ends[0]!.v4;
        const serving = await startServer(server, address, engine, [...options]);
        // Of a switch that drops half of all, a slow machine's request to connect may be dropped often.
        const start = (verb: "stream" | "message", from: Host, own: string[]) =>
          startClient(from, verb, address, engine, [...own, ...options, "--connect-timeout", "30s"]);
        const bytes = 8 * MIB;
        const reports = await Promise.all(
          clients.map((client) => streamWhole(start("stream", client, ["--bytes", `${bytes}`]), bytes)),
        );
        if (options.length > 0) {
          for (const { stats } of reports) assert.ok(stats.channels_matched_tx! > 0, JSON.stringify(stats));
        }
        const message = ["--count", "20", "--size", `${LONG_MESSAGE}`];
        await Promise.all(
          clients.map((client) => messagesWhole(start("message", client, message), 20, LONG_MESSAGE)),
        );
        await stopServer(serving);
      },
    );
  }

  needs(NEEDS).test(`${engine}: 32 streams of one client arrive whole with 1 % loss`, async () => {
    using net = new Network();
    const link = net.link(net.host("client"), net.host("server"), { offloads: false });
    loseBothWays(link, 0.01);
    const [from, to] = link.ends;
    const serving = await startServer(to!.host, to!.v4, engine);
    const client = startClient(from!.host, "stream", to!.v4, engine, [
      ...["--bytes", "300000", "--parallel", "32"],
    ]);
    await streamWhole(client, 300_000, 32);
    await stopServer(serving);
  });

  for (const side of ["client", "server"] as const) {
    needs(NEEDS).test(
      `${engine}: a transfer outlives two seconds in which the ${side}'s link is down`,
      async () => {
        using net = new Network();
        const [a, b] = [net.host("client"), net.host("server")];
        // Slow enough that the link goes down in the middle.
        const star = net.star([a, b], { rate: "200mbit" });
        const [from, to] = star.ends;
        const serving = await startServer(b, to!.v4, engine);
        const bytes = 40 * MIB;
        const client = startClient(a, "stream", to!.v4, engine, ["--bytes", `${bytes}`]);
        const { host } = side === "client" ? from! : to!;
        const before = b.counters().rxBytes;
        while (b.counters().rxBytes - before < bytes / 10 && !client.ended) {
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        host.ip("link", "set", "eth0", "down");
        assert.ok(!client.ended, "the transfer was over before the link went down");
        await new Promise((resolve) => setTimeout(resolve, 2000));
        assert.ok(!client.ended, client.err);
        host.ip("link", "set", "eth0", "up");
        await streamWhole(client, bytes);
        await stopServer(serving);
      },
    );
  }

  needs(NEEDS).test(
    `${engine}: a client whose server is killed fails in one line, and a new server serves`,
    async () => {
      using net = new Network();
      const { ends: [from, to] } = net.link(net.host("client"), net.host("server"));
      const first = await startServer(to!.host, to!.v4, engine);
      const client = startClient(from!.host, "stream", to!.v4, engine, ["--duration", "60s"]);
      while (to!.host.counters().rxBytes < MIB) await new Promise((resolve) => setTimeout(resolve, 20));
      await first.stop("SIGKILL");
      await failsCleanly(client);
      const second = await startServer(to!.host, to!.v4, engine);
      await pingsWhole(startClient(from!.host, "ping", to!.v4, engine, ["--count", "10"]), 10, 64);
      await stopServer(second);
    },
  );

  needs(NEEDS).test(`${engine}: a server whose client is killed serves the next one`, async () => {
    using net = new Network();
    const { ends: [from, to] } = net.link(net.host("client"), net.host("server"));
    const serving = await startServer(to!.host, to!.v4, engine);
    const client = startClient(from!.host, "stream", to!.v4, engine, ["--duration", "60s"]);
    while (to!.host.counters().rxBytes < MIB) await new Promise((resolve) => setTimeout(resolve, 20));
    await client.stop("SIGKILL");
    await streamWhole(startClient(from!.host, "stream", to!.v4, engine, ["--bytes", `${MIB}`]), MIB);
    await stopServer(serving);
  });

  needs(NEEDS).test(
    `${engine}: a server killed and started again at once takes the same client back`,
    async () => {
      using net = new Network();
      const { ends: [from, to] } = net.link(net.host("client"), net.host("server"));
      const first = await startServer(to!.host, to!.v4, engine);
      const client = startClient(from!.host, "ping", to!.v4, engine, ["--duration", "60s"]);
      while (to!.host.counters().rxPackets < 100) await new Promise((resolve) => setTimeout(resolve, 20));
      await first.stop("SIGKILL");
      const second = await startServer(to!.host, to!.v4, engine);
      // The new server knows nothing of the old connection and says so.
      await failsCleanly(client);
      await pingsWhole(startClient(from!.host, "ping", to!.v4, engine, ["--count", "10"]), 10, 64);
      await stopServer(second);
    },
  );
}
