// SPDX-License-Identifier: BSD-2-Clause
// Captures what the engines really send and reads it with the Wireshark dissector: every packet has a
// known type, and none breaks a rule of docs/dcpim-wire.md.

import assert from "node:assert/strict";
import { type Host, lose, Network } from "../helpers/netns.ts";
import { type Need, needs } from "../helpers/needs.ts";
import {
  type Engine,
  ENGINES,
  messagesWhole,
  pingsWhole,
  PORT,
  startClient,
  startServer,
  stopServer,
  streamWhole,
} from "./netns_dcpim.ts";

const NEEDS: Need[] = ["root", "netns", "rawsocket", "ip", "tc", "ethtool", "tcpdump", "tshark"];
const ROOT = new URL("../../", import.meta.url).pathname;
const DISSECTOR = `${ROOT}tools/wireshark/rackwire_dcpim.lua`;
const IDLE = `${ROOT}build/bench/idle`;

/** Types that every one of these runs must show. REVOKE needs an ACCEPT that comes too late; the golden test has it. */
const EXPECTED = [
  "DATA",
  "DATA_MSG",
  "TOKEN",
  "TOKEN_MSG",
  "ACK",
  "NOTIFICATION_LONG",
  "NOTIFICATION_SHORT",
  "SYN_ACK",
  "RTS",
  "GRANT",
  "ACCEPT",
  "DEMAND",
  "NOTIFICATION_MSG",
  "FIN_MSG",
  "FIN",
  "FIN_ACK",
  "RESET",
  "KEEPALIVE",
  "KEEPALIVE_ACK",
];

/** Captures at a host until stopped; returns the file once tcpdump has written all. */
async function capture(host: Host, file: string) {
  const filter = "udp or proto 254";
  const tcpdump = host.start(
    [
      "tcpdump",
      "-i",
      "eth0",
      "-Z",
      "root",
      "--immediate-mode",
      "-B",
      "65536",
      "-s",
      "0",
      "-U",
      "-w",
      file,
      filter,
    ],
    { seconds: 120 },
  );
  await tcpdump.until(/listening on/);
  return async () => {
    // What was sent last has to reach tcpdump first.
    await new Promise((resolve) => setTimeout(resolve, 500));
    const { err } = await tcpdump.stop("SIGINT");
    assert.match(err, /\b0 packets dropped by kernel/);
  };
}

/** Types in a capture and how many packets had each; fails at the first packet that is not right. */
async function typesIn(file: string): Promise<Map<string, number>> {
  const fields = [
    "frame.number",
    "dcpim.type_name",
    "dcpim.check.status",
    "dcpim.crc.status",
    "dcpim.malformed",
    "dcpim.checksum_bad",
    "_ws.expert.message",
    "_ws.col.Info",
  ];
  const { code, stdout, stderr } = await new Deno.Command("tshark", {
    args: [
      ...["-n", "-X", `lua_script:${DISSECTOR}`, "-r", file, "-o", `dcpim.udp_ports:${PORT}`],
      ...["-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=;"],
      ...fields.flatMap((field) => ["-e", field]),
    ],
    env: { LC_ALL: "C.UTF-8" },
  }).output();
  const complaints = new TextDecoder().decode(stderr);
  assert.equal(code, 0, complaints);
  assert.doesNotMatch(complaints, /lua/i);
  const types = new Map<string, number>();
  for (const line of new TextDecoder().decode(stdout).split("\n").slice(0, -1)) {
    const [, names = "", checks = "", crcs = "", malformed, checksumBad, expert, info] = line.split("\t");
    assert.notEqual(names, "", line);
    for (const name of names.split(";")) {
      assert.match(name, /^[A-Z_]+$/, line);
      types.set(name, (types.get(name) ?? 0) + 1);
    }
    assert.ok(checks.split(";").every((status) => status === "good"), line);
    assert.ok(crcs.split(";").every((status) => status === "good" || status === "absent"), line);
    assert.deepEqual([malformed, checksumBad, expert], ["", "", ""], line);
    assert.doesNotMatch(info!, /malformed|wrong checksum|Lua Error/i);
  }
  return types;
}

/** Idle connections that keep each other alive. */
async function keepAlive(client: Host, server: Host, address: string, engine: Engine): Promise<void> {
  const command = (side: string) => [
    ...[IDLE, side, address, `${PORT}`, "2", "--keepalive-ms", "300"],
    ...(engine === "raw" ? ["--raw"] : []),
  ];
  const serving = server.start(command("server"), { input: true });
  await serving.until(/listening/);
  const running = client.start(command("client"), { input: true });
  await running.until(/(?:^\{.*\}\n[^]*){2}/m);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  running.closeInput();
  assert.equal((await running.finished).status, 0, running.err);
  serving.closeInput();
  assert.equal((await serving.finished).status, 0, serving.err);
}

for (const engine of ENGINES) {
  needs(NEEDS).test(
    `${engine}: the dissector names every packet of a real run and finds none wrong`,
    async () => {
      using net = new Network();
      const [a, b] = [net.host("client"), net.host("server")];
      const link = net.link(a, b, { offloads: false });
      const [from, to] = link.ends;
      const address = to!.v4;
      const file = await Deno.makeTempFile({ suffix: ".pcap" });
      try {
        // At the server's side: what it sends, and what reaches its link before any is lost there.
        const stop = await capture(b, file);
        const client = (verb: "stream" | "message" | "ping", options: string[]) =>
          startClient(a, verb, address, engine, options);
        const losses = [0, 0.05];
        for (const loss of losses) {
          if (loss > 0) [from!, to!].forEach((end) => lose(end, loss));
          const server = await startServer(b, address, engine);
          await streamWhole(client("stream", ["--bytes", "3000000"]), 3_000_000);
          await messagesWhole(client("message", ["--count", "20", "--size", "30000"]), 20, 30_000);
          // Beyond what may be sent without matching.
          const matched = ["--short-threshold", "20000"];
          await messagesWhole(
            client("message", ["--count", "4", "--size", "200000", ...matched]),
            4,
            200_000,
          );
          await pingsWhole(client("ping", ["--count", "50", "--short"]), 50, 64);
          if (loss === losses.at(-1)) {
            // A peer that has forgotten the connection resets it.
            const lonely = client("ping", ["--duration", "60s"]);
            const before = b.counters().rxPackets;
            while (b.counters().rxPackets < before + 50) {
              await new Promise((resolve) => setTimeout(resolve, 20));
            }
            await server.stop("SIGKILL");
            const other = await startServer(b, address, engine);
            assert.equal((await lonely.finished).status, 1);
            await stopServer(other);
          } else {
            await stopServer(server);
          }
        }
        await keepAlive(a, b, address, engine);
        await stop();
        const types = await typesIn(file);
        console.log(`# ${[...types].map(([name, count]) => `${name} ${count}`).join(", ")}`);
        const missing = EXPECTED.filter((name) => !types.has(name));
        assert.deepEqual(missing, []);
      } finally {
        await Deno.remove(file);
      }
    },
  );

  needs(NEEDS).test(`${engine}: the dissector reads packets that offloads have not cut up yet`, async () => {
    using net = new Network();
    const [a, b] = [net.host("client"), net.host("server")];
    const { ends: [, to] } = net.link(a, b, { offloads: true });
    const file = await Deno.makeTempFile({ suffix: ".pcap" });
    try {
      const stop = await capture(a, file);
      const server = await startServer(b, to!.v4, engine);
      await streamWhole(
        startClient(a, "stream", to!.v4, engine, ["--bytes", "3000000"]),
        3_000_000,
      );
      await stopServer(server);
      await stop();
      const types = await typesIn(file);
      // 1500 less the headers of IP, UDP and dcPIM; retransmissions may come on top.
      assert.ok(types.get("DATA")! >= 3_000_000 / 1452, `${types.get("DATA")} DATA packets`);
    } finally {
      await Deno.remove(file);
    }
  });
}
