// SPDX-License-Identifier: BSD-2-Clause
// The original krping's command, one string: "client,addr=10.0.0.2,port=9999,count=100,validate".

import { RackwireError } from "../ffi/errors.ts";

/** What the string says, in the original's names; nothing that it does not say. */
export interface CommaCommand {
  role: "client" | "server";
  /** Of `addr` or `addr6`, without its zone. */
  host?: string;
  /** Of `addr6=fe80::1%eth0`. */
  zone?: string;
  port?: number;
  count?: number;
  size?: number;
  txdepth?: number;
  tos?: number;
  mem_mode?: "dma" | "reg";
  /** The options that are only named. */
  flags: ReadonlySet<CommaFlag>;
}

const FLAGS = [
  "verbose",
  "validate",
  "server_inv",
  "read_inv",
  "local_dma_lkey",
  "wlat",
  "rlat",
  "bw",
  "duplex",
  "poll",
] as const;
export type CommaFlag = (typeof FLAGS)[number];

const NUMBERS: Record<string, [lowest: number, highest: number]> = {
  port: [0, 65535],
  count: [0, Number.MAX_SAFE_INTEGER],
  size: [1, 2 ** 30],
  txdepth: [1, 8192],
  tos: [0, 255],
};

/** The original's benchmarks: at most one of them. */
const TESTS: readonly CommaFlag[] = ["wlat", "rlat", "bw"];

/** An error that shows the string and points at the column. */
function refuse(text: string, column: number, message: string): RackwireError {
  return new RackwireError("EINVAL", `column ${column + 1} of "${text}": ${message}`, {
    exitStatus: 2,
    hint: `${text}\n      ${" ".repeat(column)}^ here`,
  });
}

/** Whether these are the arguments of `rackwire krping "client,addr=..."`. */
export function isCommaCommand(text: string): boolean {
  return /^\s*(client|server)\s*,|,\s*(client|server)\s*(,|$)|^[a-z_0-9]+=[^,]*,/.test(text);
}

/**
 * Reads the string; blanks around commas do not matter.
 * @throws RackwireError EINVAL with exit status 2, its hint pointing at the column
 */
export function parseCommaCommand(text: string): CommaCommand {
  const shown = text.replaceAll(/[^\x20-\x7e]/g, "?");
  let role: CommaCommand["role"] | undefined;
  const values: Omit<CommaCommand, "role" | "flags"> = {};
  const flags = new Set<CommaFlag>();
  const seen = new Set<string>();
  let start = 0;
  for (const part of text.split(",")) {
    const at = start + (part.length - part.trimStart().length);
    const word = part.trim();
    start += part.length + 1;
    if (word === "") throw refuse(shown, Math.min(at, shown.length), "an option is missing between commas");
    const equals = word.indexOf("=");
    const name = equals < 0 ? word : word.slice(0, equals);
    const value = equals < 0 ? undefined : word.slice(equals + 1);
    const valueAt = at + equals + 1;
    const plain = name === "tx-depth" ? "txdepth" : name;
    if (seen.has(plain)) throw refuse(shown, at, `${name} is given twice`);
    seen.add(plain);
    const range = NUMBERS[plain];
    if (name === "client" || name === "server") {
      if (value !== undefined) throw refuse(shown, at + equals, `${name} takes no value`);
      if (role !== undefined) throw refuse(shown, at, "it cannot be both client and server");
      role = name;
    } else if (name === "fr") {
      throw refuse(shown, at, "fr, the fast-registration stress, is not supported; try mem_mode=reg");
    } else if ((FLAGS as readonly string[]).includes(name)) {
      if (value !== undefined) throw refuse(shown, at + equals, `${name} takes no value`);
      flags.add(name as CommaFlag);
      if (TESTS.filter((test) => flags.has(test)).length > 1) {
        throw refuse(shown, at, "only one of wlat, rlat and bw can be asked for");
      }
    } else if (value === undefined && (range !== undefined || ["addr", "addr6", "mem_mode"].includes(name))) {
      throw refuse(shown, at + name.length, `${name} needs a value: ${name}=...`);
    } else if (range !== undefined) {
      const number = /^\d{1,16}$/.test(value!) ? Number(value) : NaN;
      if (!(number >= range[0] && number <= range[1])) {
        throw refuse(shown, valueAt, `${name} is a whole number from ${range[0]} to ${range[1]}`);
      }
      (values as Record<string, number>)[plain] = number;
    } else if (name === "mem_mode") {
      if (value !== "dma" && value !== "reg") throw refuse(shown, valueAt, "mem_mode is dma or reg");
      values.mem_mode = value;
    } else if (name === "addr" || name === "addr6") {
      if (values.host !== undefined) throw refuse(shown, at, "there is more than one address");
      const [host = "", zone] = value!.split("%");
      const right = name === "addr" ? isIpv4(host) && zone === undefined : isIpv6(host) && zone !== "";
      if (!right) {
        throw refuse(
          shown,
          valueAt,
          name === "addr"
            ? "addr is an IPv4 address such as 10.0.0.2"
            : "addr6 is an IPv6 address such as fe80::1%eth0",
        );
      }
      values.host = host;
      if (zone !== undefined) values.zone = zone;
    } else {
      throw refuse(shown, at, `there is no option ${JSON.stringify(name.slice(0, 32))}`);
    }
  }
  if (role === undefined) throw refuse(shown, 0, "it says neither client nor server");
  if (role === "client" && values.host === undefined) {
    throw refuse(shown, shown.length, "a client needs addr=... or addr6=...");
  }
  if (role === "client" && !(values.port! > 0)) {
    throw refuse(shown, shown.length, "a client needs port=... from 1 to 65535");
  }
  return { role, ...values, flags };
}

function isIpv4(text: string): boolean {
  const parts = text.split(".");
  return parts.length === 4 && parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) <= 255);
}

function isIpv6(text: string): boolean {
  return /^[0-9a-fA-F:.]+$/.test(text) && text.includes(":") && URL.canParse(`http://[${text}]/`);
}
