// SPDX-License-Identifier: BSD-2-Clause
// The machine's part of a JSON result.

import type { HostFacts } from "../../lib/host/facts.ts";

/** What of this machine bears on the figures, for JSON. */
export function machineFacts(host: HostFacts): object {
  return {
    hostname: host.hostname,
    kernel: host.kernel.release,
    architecture: host.kernel.machine,
    cpus_online: host.cpus.online,
    cpus_allowed: host.cpus.allowed,
    memory_bytes: host.memory_bytes,
    receive_buffer_max_bytes: host.sysctl["net.core.rmem_max"] ?? null,
    udp_gso: host.probes.udp_gso,
    udp_gro: host.probes.udp_gro,
    deno: host.deno,
  };
}
