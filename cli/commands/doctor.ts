// SPDX-License-Identifier: BSD-2-Clause
// rackwire doctor: what this machine can run, and why the rest cannot.

import type { Command } from "@commander-js/extra-typings";
import { type EngineFact, engineFacts } from "../../lib/host/engines.ts";
import type { HostFacts, Probe } from "../../lib/host/facts.ts";
import type { Context } from "../context.ts";
import { formatCpuList } from "../options/cpu_list.ts";
import { withExamples, withOutputOptions } from "../options/groups.ts";
import { formatBytes } from "../options/quantities.ts";
import { jsonDocument } from "../output/json.ts";
import type { Style } from "../output/style.ts";
import { facts as factsTable, table } from "../output/table.ts";

function machineText(facts: HostFacts, style: Style): string {
  const probe = (result: Probe) => result === "ok" ? style.green("yes") : style.yellow(`no (${result})`);
  const bytes = (value: number | null | undefined) => value == null ? "unknown" : formatBytes(value);
  const limit = (value: number | null, text: (value: number) => string) =>
    value === null ? "unlimited" : text(value);
  const { probes, sysctl } = facts;
  return factsTable([
    ["kernel", `${facts.kernel.release} ${facts.kernel.machine}`],
    ["CPUs", `${facts.cpus.online} online, this process may use ${formatCpuList(facts.cpus.allowed)}`],
    ["memory", `${formatBytes(facts.memory_bytes)}, pages of ${formatBytes(facts.page_bytes)}`],
    ["user", facts.euid === 0 ? "root" : `uid ${facts.euid}`],
    ["capabilities", facts.capabilities.join(" ") || "none that matter here"],
    [
      "limits",
      [
        `locked memory ${limit(facts.limits.memlock_bytes, formatBytes)}`,
        `open files ${limit(facts.limits.open_files, String)}`,
      ].join(", "),
    ],
    [
      "raw socket, IP protocol 254",
      `IPv4 ${probe(probes.raw_ipv4_protocol_254)}, IPv6 ${probe(probes.raw_ipv6_protocol_254)}`,
    ],
    ["packet socket", probe(probes.packet_socket)],
    ["IPv6", probe(probes.ipv6)],
    ["UDP segmentation offload", `GSO ${probe(probes.udp_gso)}, GRO ${probe(probes.udp_gro)}`],
    ["busy polling", probe(probes.busy_poll)],
    [
      "receive buffer",
      `up to ${bytes(sysctl["net.core.rmem_max"])}, beyond it ${probe(probes.receive_buffer_beyond_limit)}`,
    ],
    ["send buffer", `up to ${bytes(sysctl["net.core.wmem_max"])}`],
    [
      "interfaces",
      facts.interfaces.map(({ name, mtu, up }) => `${name} mtu ${mtu ?? "?"}${up ? "" : " down"}`).join(
        ", ",
      ) ||
      "none",
    ],
    ["RDMA devices", facts.rdma.devices.join(", ") || "none"],
    ["Deno", facts.deno],
    [
      "libraries",
      facts.libraries.map(({ name, present }) => present ? name : style.yellow(`${name} (not built)`)).join(
        ", ",
      ),
    ],
  ], style);
}

function engineText(engines: EngineFact[], style: Style): string {
  return table(
    [{ title: "service" }, { title: "engine" }, { title: "works" }, { title: "why not" }, {
      title: "what to do",
    }],
    engines.map(({ service, engine, works, why, hint }) => [
      service,
      engine,
      works ? style.green("yes") : style.yellow("no"),
      why,
      hint,
    ]),
    style,
  );
}

export function registerDoctor(program: Command, context: Context): void {
  const command = withOutputOptions(
    program.command("doctor").description("say what this machine can run, and why the rest cannot"),
  );
  withExamples(command, [
    ["rackwire doctor", "the machine and every engine"],
    ["rackwire doctor --quiet", "the engines alone"],
    ["rackwire doctor --json | jq '.engines[] | select(.works)'", "the engines that work, for a program"],
  ]);
  command.action((options) => {
    const facts = context.hostFacts();
    const engines = engineFacts(facts);
    const { out } = context;
    if (options.json) out.write(jsonDocument("rackwire.doctor/1", { machine: facts, engines }));
    else if (options.quiet) out.write(engineText(engines, out.style));
    else out.write(`${machineText(facts, out.style)}\n${engineText(engines, out.style)}`);
  });
}
