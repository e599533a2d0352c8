// SPDX-License-Identifier: BSD-2-Clause
// One switch that joins a namespace of this machine, where our programs run, with guests.
//
//   using net = new Network();
//   const lan = new Lan(net);
//   await using guest = await Guest.boot({ label: "peer", nics: [lan.nic()] });
//   const client = lan.host.start(["ping", "-c1", addressOf(guest.nics[0]!, "v4")]);
//
// Nothing leaves it: the switch is in a namespace of its own and has no other ports.

import { type End, type Host, lose, type Network } from "../helpers/netns.ts";
import type { Nic } from "./guest.ts";

export type Family = "v4" | "v6";

/** An address of a guest's interface, without its prefix length. */
export function addressOf(nic: Nic, family: Family): string {
  const found = nic.addresses.find((address) => address.includes(":") === (family === "v6"));
  if (found === undefined) throw new Error(`${nic.tap} has no address of IP${family}`);
  return found.split("/")[0]!;
}

export interface LanOptions {
  /** 1500 unless given. */
  mtu?: number;
  /** false switches the offloads of the host's end off; unset leaves the kernel's choice. */
  offloads?: boolean;
}

export class Lan {
  /** This machine's end. */
  readonly end: End;
  readonly #switch: Host;
  readonly #mtu: number;
  readonly #taps: string[] = [];

  constructor(net: Network, { mtu = 1500, offloads }: LanOptions = {}) {
    const star = net.star([net.host("host")], { mtu, offloads });
    this.end = star.ends[0]!;
    this.#switch = star.middle;
    this.#mtu = mtu;
    this.#switch.ip("link", "set", "br0", "mtu", `${mtu}`);
  }

  /** The namespace for what is to talk to the guests. */
  get host(): Host {
    return this.end.host;
  }

  /** This machine's address. */
  address(family: Family): string {
    return this.end[family];
  }

  /** A new port of the switch, for one guest. */
  nic(): Nic {
    const number = this.#taps.length + 1;
    const tap = `tap${number}`;
    this.#switch.ip("tuntap", "add", "dev", tap, "mode", "tap");
    this.#switch.ip("link", "set", tap, "mtu", `${this.#mtu}`, "master", "br0", "up");
    this.#taps.push(tap);
    const like = (address: string) => address.replace(/\d+$/, `${100 + number}`);
    const addresses = [`${like(this.end.v4)}/24`];
    if (this.end.v6 !== "") addresses.push(`${like(this.end.v6)}/64`);
    return {
      netns: this.#switch.name,
      tap,
      mac: `52:54:00:00:00:${number.toString(16).padStart(2, "0")}`,
      mtu: this.#mtu,
      addresses,
    };
  }

  /**
   * Loses packets between any two of those attached so far, at random, until the result is disposed of.
   * Needs clang and tc.
   * @param fraction 0 to 1
   */
  lossy(fraction: number): { lost(): number } & Disposable {
    // Every packet comes in by one port of the switch: eth0 is that of the host.
    const ports = ["eth0", ...this.#taps];
    const counts = ports.map((iface) => lose({ ...this.end, host: this.#switch, iface }, fraction));
    return {
      lost: () => counts.reduce((sum, count) => sum + count(), 0),
      [Symbol.dispose]: () => {
        for (const port of ports) this.#switch.sh("tc", "qdisc", "del", "dev", port, "clsact");
      },
    };
  }
}
