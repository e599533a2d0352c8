// SPDX-License-Identifier: BSD-2-Clause
// What krping over the soft engine is compared with, and the goals.

import { kernelPing, type Timing, type Wakeup } from "./contenders.ts";
import type { Contest } from "./contest.ts";
import {
  type Disk,
  fio,
  iperf3Udp,
  krpingBandwidth,
  krpingConnections,
  krpingLatency,
  libfabricPing,
  nbdkitDisk,
  rackwireDisk,
  ucx,
  udpDatagrams,
} from "./krping_contenders.ts";
import type { Place } from "./place.ts";

const WAKEUPS: Wakeup[] = ["blocking", "busy-poll"];
const MANY = 1000;

/** Half a round trip of 64 B. */
function latency(place: Place, wakeup: Wakeup, timing: Timing): Contest {
  const iterations = Math.ceil(timing.seconds * 30_000);
  const figure = "us_p50";
  const spinning = wakeup === "busy-poll";
  const half = async () => {
    const { rtt_us_p50, rtt_us_p99 } = await kernelPing(place, "udp", wakeup, timing);
    return { us_p50: rtt_us_p50! / 2, us_p99: rtt_us_p99! / 2 };
  };
  return {
    name: `krping latency ${place.name} ${wakeup}`,
    contenders: [
      { name: "SEND", run: () => krpingLatency(place, "slat", 64, wakeup, timing) },
      { name: "udp", run: half },
      // These always spin; they are no measure for a run that sleeps, nor is one for them.
      ...(spinning
        ? [
          { name: "WRITE", run: () => krpingLatency(place, "wlat", 64, wakeup, timing) },
          { name: "libfabric udp", run: () => libfabricPing(place, "udp", 64, iterations) },
          { name: "ucx tcp", run: () => ucx(place, "ucp_put_lat", 64, iterations) },
        ]
        : []),
    ],
    goals: [
      { figure, ours: "SEND", theirs: "udp" },
      { figure: "us_p99", ours: "SEND", theirs: "udp" },
      ...(spinning
        ? [
          { figure, ours: "WRITE", theirs: "udp", atMost: 1.6 },
          { figure, ours: "WRITE", theirs: "libfabric udp", atMost: 1 },
          { figure, ours: "WRITE", theirs: "ucx tcp", atMost: 1 },
        ]
        : []),
    ],
  };
}

/** 64 KiB at a time, one way. */
function bandwidth(place: Place, timing: Timing): Contest {
  const figure = "goodput_gbps";
  const length = 64 * 1024;
  const iterations = Math.ceil(timing.seconds * 10_000);
  return {
    name: `krping bandwidth ${place.name}`,
    contenders: [
      { name: "WRITE", run: () => krpingBandwidth(place, "write", length, 64, timing) },
      { name: "ucx tcp", run: () => ucx(place, "ucp_put_bw", length, iterations) },
      { name: "READ", run: () => krpingBandwidth(place, "read", length, 64, timing) },
      { name: "udp GSO", run: () => udpDatagrams(place, 4096, timing) },
      { name: "iperf3 udp", run: () => iperf3Udp(place, 4096, timing) },
      { name: "libfabric tcp ping-pong", run: () => libfabricPing(place, "tcp", length, iterations) },
    ],
    goals: [
      { figure, ours: "WRITE", theirs: "ucx tcp", atLeast: 1 },
      { figure, ours: "WRITE", theirs: "udp GSO" },
      { figure, ours: "WRITE", theirs: "iperf3 udp" },
      { figure, ours: "WRITE", theirs: "libfabric tcp ping-pong" },
      { figure, ours: "READ", theirs: "ucx tcp" },
    ],
  };
}

/** 8 B, 64 at a time. */
function rate(place: Place, timing: Timing): Contest {
  const figure = "messages_per_s";
  return {
    name: `krping rate ${place.name}`,
    contenders: [
      { name: "WRITE", run: () => krpingBandwidth(place, "write", 8, 64, timing) },
      { name: "ucx tcp", run: () => ucx(place, "ucp_put_bw", 8, Math.ceil(timing.seconds * 300_000)) },
      { name: "udp GSO", run: () => udpDatagrams(place, 64, timing) },
    ],
    goals: [
      { figure, ours: "WRITE", theirs: "ucx tcp" },
      { figure, ours: "WRITE", theirs: "udp GSO" },
    ],
  };
}

function disk(place: Place, timing: Timing): Contest[] {
  const contest = (
    name: string,
    figure: string,
    run: (disk: Disk) => ReturnType<typeof fio>,
  ): Contest => ({
    name: `krping block ${name} ${place.name}`,
    contenders: [rackwireDisk, nbdkitDisk].map((each) => ({ name: each.name, run: () => run(each) })),
    goals: [{ figure, ours: rackwireDisk.name, theirs: nbdkitDisk.name, atLeast: 1 }],
  });
  return [
    contest("4 KiB randread, 1 at a time", "iops", (each) => fio(place, each, "randread", "4k", 1, timing)),
    contest("4 KiB randwrite, 1 at a time", "iops", (each) => fio(place, each, "randwrite", "4k", 1, timing)),
    contest("4 KiB randread, 32 at a time", "iops", (each) => fio(place, each, "randread", "4k", 32, timing)),
    contest("1 MiB read", "megabytes_per_s", (each) => fio(place, each, "read", "1m", 4, timing)),
    contest("1 MiB write", "megabytes_per_s", (each) => fio(place, each, "write", "1m", 4, timing)),
  ];
}

export function krpingContests(loopback: Place, timing: Timing): Contest[] {
  return [
    ...WAKEUPS.map((wakeup) => latency(loopback, wakeup, timing)),
    bandwidth(loopback, timing),
    rate(loopback, timing),
    {
      name: `krping connections ${loopback.name}`,
      contenders: [{ name: `${MANY} at once`, run: () => krpingConnections(loopback, MANY, timing) }],
      goals: [
        { figure: "failed", ours: `${MANY} at once`, atMost: 0 },
        { figure: "connections", ours: `${MANY} at once`, atLeast: MANY },
        { figure: "pings_per_s", ours: `${MANY} at once` },
      ],
    },
    ...disk(loopback, timing),
  ];
}
