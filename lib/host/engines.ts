// SPDX-License-Identifier: BSD-2-Clause
// Which engines of which service this machine can run, and what would change that.

import type { HostFacts } from "./facts.ts";

export interface EngineFact {
  service: string;
  engine: string;
  works: boolean;
  /** Why not; empty where it works. */
  why: string;
  /** The command that would change it; empty where there is none or none is needed. */
  hint: string;
}

interface EngineRule {
  engine: string;
  /** A library without which it cannot run. */
  library: string;
  check(facts: HostFacts): { why: string; hint: string } | undefined;
}

/** The engines of each service, best first. */
const SERVICES: Record<string, EngineRule[]> = {
  dcpim: [
    // Before raw: it has the kernel's segmentation offloads and reaches peers of users without privileges.
    { engine: "udp", library: "dcpim", check: () => undefined },
    {
      engine: "raw",
      library: "dcpim",
      check({ probes }) {
        const refused = probes.raw_ipv4_protocol_254;
        if (refused === "ok") return undefined;
        return refused === "EPERM" || refused === "EACCES"
          ? {
            why: "a socket on IP protocol 254 needs CAP_NET_RAW",
            hint: "run it as root: sudo rackwire ...; or, once and for every user of this checkout: " +
              "sudo setcap cap_net_raw+ep .deno/node_modules/@deno/*/deno",
          }
          : { why: `the kernel refuses a socket on IP protocol 254 (${refused})`, hint: "" };
      },
    },
  ],
  krping: [
    {
      engine: "verbs",
      library: "krping",
      check({ rdma }) {
        if (rdma.devices.length === 0) {
          return {
            why: "the kernel has no RDMA device",
            hint: "over an Ethernet port, as root, where the kernel has the module: " +
              "modprobe rdma_rxe && rdma link add rxe0 type rxe netdev <port>",
          };
        }
        return rdma.why === undefined ? undefined : {
          why: rdma.why,
          hint: "sudo apt-get install librdmacm1 ibverbs-providers && sudo modprobe rdma_ucm",
        };
      },
    },
    { engine: "soft", library: "krping", check: () => undefined },
  ],
};

/** Every engine of every service, each service's best first. */
export function engineFacts(facts: HostFacts): EngineFact[] {
  return Object.entries(SERVICES).flatMap(([service, rules]) =>
    rules.map(({ engine, library, check }) => {
      const present = facts.libraries.some(({ name, present }) => name === library && present);
      const problem = present
        ? check(facts)
        : { why: `librackwire_${library}.so is not there`, hint: "build it with: make build" };
      return {
        service,
        engine,
        works: problem === undefined,
        why: problem?.why ?? "",
        hint: problem?.hint ?? "",
      };
    })
  );
}
