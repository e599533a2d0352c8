// SPDX-License-Identifier: BSD-2-Clause
// Host names to addresses, as every other program on the machine resolves them.

import { lookup } from "node:dns/promises";
import { RackwireError } from "../ffi/errors.ts";

export interface Address {
  /** Without a zone: "fe80::1". */
  address: string;
  family: 4 | 6;
  /** Of a link-local address: "eth0". */
  zone?: string;
}

/**
 * The first address of a name, or the address itself.
 * @throws RackwireError ENOTFOUND for a name nobody knows
 */
export async function resolveHost(host: string): Promise<Address> {
  const [bare = "", zone] = host.split("%");
  try {
    const { address, family } = await lookup(bare);
    return { address, family: family === 6 ? 6 : 4, ...(zone === undefined ? {} : { zone }) };
  } catch (cause) {
    throw new RackwireError("ENOTFOUND", `cannot find the host ${host}`, {
      hint: "check the spelling, /etc/hosts and the name server, or give an address",
      cause,
    });
  }
}
