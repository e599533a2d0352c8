// SPDX-License-Identifier: BSD-2-Clause
// krping over the kernel's rdma_rxe and over the soft engine inside one guest: the same two CPUs, the same
// packet size, loopback both times. Under emulation only the ratio means something.

import { Network } from "../helpers/netns.ts";
import { lacking } from "../helpers/needs.ts";
import { type Guest } from "../vm/guest.ts";
import { addressOf, Lan } from "../vm/lan.ts";
import { bootRxe } from "../vm/rxe.ts";
import type { Timing } from "./contenders.ts";
import type { Contest, Figures } from "./contest.ts";

const TRY = decodeURIComponent(new URL("../../build/tests/fixtures/krping_try", import.meta.url).pathname);
const PORT = "9999";
const MTU = 1024;
const POLL = 0x40;
/** rxe holds UDP port 4791 in the first namespace. */
const NAMESPACE = "soft";

/** A guest with both; booted when a run first needs it. */
export class KrpingGuest implements AsyncDisposable {
  #net?: Network;
  #guest?: Promise<Guest>;

  #boot(): Promise<Guest> {
    return this.#guest ??= (async () => {
      this.#net = new Network();
      const guest = await bootRxe({ label: "bench", nics: [new Lan(this.#net).nic()] });
      await guest.sh("ip", "netns", "add", NAMESPACE);
      await guest.sh("ip", "-n", NAMESPACE, "link", "set", "lo", "up");
      return guest;
    })();
  }

  /** One client against a server of its own. */
  async run(engine: "verbs" | "soft", client: string[]): Promise<Figures> {
    const guest = await this.#boot();
    const address = engine === "soft" ? "127.0.0.1" : addressOf(guest.nics[0]!, "v4");
    const inside = engine === "soft" ? ["ip", "netns", "exec", NAMESPACE] : [];
    const words = [`address=${address}`, `port=${PORT}`, ...(engine === "soft" ? [`mtu=${MTU}`] : [])];
    const server = await guest.start([...inside, TRY, engine, "server", ...words], { seconds: 600 });
    try {
      await server.until(/ready/);
      const { out, err } = await guest.run([...inside, TRY, engine, ...client, ...words], { seconds: 300 });
      const line = out.trim().split("\n").at(-1) ?? "";
      if (!line.startsWith("{")) throw new Error(`krping_try in the guest: ${out}${err}`);
      const got = JSON.parse(line);
      if (got.result !== 0) throw new Error(`krping_try in the guest: ${got.error}`);
      return {
        us_p50: got.p50_ns / 1000,
        goodput_gbps: got.measured_ns > 0 ? got.measured_bytes * 8 / got.measured_ns : 0,
      };
    } finally {
      await server.stop("SIGINT");
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const guest = await this.#guest?.catch(() => undefined);
    await guest?.[Symbol.asyncDispose]();
    this.#net?.[Symbol.dispose]();
  }
}

/** Why no guest can be had, or undefined. */
export function withoutGuest(): string | undefined {
  return lacking(["root", "netns", "ip", "guest", "rdma"]);
}

export function guestContests(guest: KrpingGuest, { seconds }: Timing): Contest[] {
  const duration = `duration_ms=${seconds * 1000}`;
  const contest = (name: string, figure: string, client: string[]): Contest => ({
    name: `krping guest ${name}`,
    contenders: (["soft", "verbs"] as const).map((engine) => ({
      name: engine === "soft" ? "soft" : "verbs on rxe",
      run: () => guest.run(engine, [...client, duration]),
    })),
    goals: [{ figure, ours: "soft", theirs: "verbs on rxe" }],
  });
  return [
    contest("WRITE latency", "us_p50", ["wlat", "length=64", `flags=${POLL}`, "warmup=100"]),
    contest("READ latency", "us_p50", ["rlat", "length=64", `flags=${POLL}`, "warmup=100"]),
    contest("ping", "us_p50", ["ping", "length=64", "warmup=20"]),
    contest("bandwidth", "goodput_gbps", ["bw", "length=65536", "txdepth=16", `flags=${POLL}`]),
  ];
}
