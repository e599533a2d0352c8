// SPDX-License-Identifier: BSD-2-Clause
// What is compared with what, and the goals.

import {
  type Batching,
  dcpimMessages,
  dcpimPing,
  dcpimStream,
  idleMemory,
  idlePackets,
  iperf3Stream,
  kernelPing,
  type Timing,
  udpMessages,
  type Wakeup,
} from "./contenders.ts";
import type { Contest } from "./contest.ts";
import type { Place } from "./place.ts";

const EACH_OF = "each of 10000";
const WAKEUPS: Wakeup[] = ["blocking", "busy-poll"];
const BATCHINGS: Batching[] = ["send/recv", "sendmmsg", "GSO"];

export interface Places {
  loopback: Place;
  /** The others need root. */
  veth?: Place;
  vethPlain?: Place;
}

/** Round trips of 64 B. */
function ping(place: Place, wakeup: Wakeup, timing: Timing): Contest {
  const goals = (["dcpim long", "dcpim short"] as const).flatMap((ours) => [
    { figure: "rtt_us_p50", ours, theirs: "udp", atMost: 1.15 },
    { figure: "rtt_us_p50", ours, theirs: "tcp", atMost: 1 },
    { figure: "rtt_us_p99", ours, theirs: "udp" },
    { figure: "rtt_us_p99", ours, theirs: "tcp" },
  ]);
  return {
    name: `ping ${place.name} ${wakeup}`,
    contenders: [
      { name: "dcpim long", run: () => dcpimPing(place, "long", "udp", wakeup, timing) },
      { name: "udp", run: () => kernelPing(place, "udp", wakeup, timing) },
      { name: "dcpim short", run: () => dcpimPing(place, "short", "udp", wakeup, timing) },
      { name: "tcp", run: () => kernelPing(place, "tcp", wakeup, timing) },
    ],
    goals,
  };
}

/** One stream in one direction; blocking wake-up. */
function stream(place: Place, timing: Timing, atLeast?: number): Contest {
  const theirs = "iperf3 tcp";
  return {
    name: `stream ${place.name}`,
    contenders: [
      { name: "dcpim", run: () => dcpimStream(place, "udp", false, timing) },
      { name: theirs, run: () => iperf3Stream(place, timing) },
      { name: "dcpim checked", run: () => dcpimStream(place, "udp", true, timing) },
    ],
    goals: [
      { figure: "goodput_gbps", ours: "dcpim", theirs, atLeast },
      { figure: "goodput_gbps", ours: "dcpim checked", theirs },
      { figure: "cpu_s_per_gb", ours: "dcpim", theirs },
      { figure: "cpu_client_s_per_gb", ours: "dcpim", theirs },
      { figure: "cpu_server_s_per_gb", ours: "dcpim", theirs },
    ],
  };
}

/** Messages of 64 B in one direction. */
function messages(place: Place, wakeup: Wakeup, timing: Timing): Contest {
  const figure = "messages_per_s";
  return {
    name: `messages ${place.name} ${wakeup}`,
    contenders: [
      { name: "dcpim", run: () => dcpimMessages(place, "udp", wakeup, timing) },
      ...BATCHINGS.map((batching) => ({
        name: `udp ${batching}`,
        run: () => udpMessages(place, batching, wakeup, timing),
      })),
    ],
    goals: [
      { figure, ours: "dcpim", theirs: "udp send/recv", atLeast: 0.8 },
      { figure, ours: "dcpim", theirs: "udp sendmmsg", atLeast: 0.8 },
      // A bound for anything that moves datagrams by these sockets, and no goal.
      { figure, ours: "dcpim", theirs: "udp GSO" },
    ],
  };
}

/** Every comparison, of which some need root. */
export function contests(places: Places, timing: Timing, idleSeconds: number): Contest[] {
  const { loopback, veth, vethPlain } = places;
  const both = [loopback, ...(veth === undefined ? [] : [veth])];
  return [
    ...both.flatMap((place) => WAKEUPS.map((wakeup) => ping(place, wakeup, timing))),
    stream(loopback, timing),
    ...(veth === undefined ? [] : [stream(veth, timing, 0.9)]),
    ...(vethPlain === undefined ? [] : [stream(vethPlain, timing, 1)]),
    ...both.flatMap((place) => WAKEUPS.map((wakeup) => messages(place, wakeup, timing))),
    ...(veth === undefined ? [] : [{
      name: `idle ${veth.name}`,
      contenders: [{
        name: "100 connections",
        run: () => idlePackets(veth, "udp", 100, idleSeconds),
      }],
      goals: [
        { figure: "packets_on_wire", ours: "100 connections", atMost: 0 },
        { figure: "packets_of_client", ours: "100 connections", atMost: 0 },
      ],
    }]),
    {
      name: `memory ${loopback.name}`,
      contenders: [{ name: EACH_OF, run: () => idleMemory(loopback, "udp", 10_000) }],
      goals: [
        { figure: "engine_bytes", ours: EACH_OF, atMost: 1023 },
        { figure: "client_resident_bytes", ours: EACH_OF },
        { figure: "server_resident_bytes", ours: EACH_OF },
      ],
    },
  ];
}
