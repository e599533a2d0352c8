// SPDX-License-Identifier: BSD-2-Clause
// Network targets and ports as people type them.

import { InvalidArgumentError } from "@commander-js/extra-typings";
import type { Address } from "../../lib/host/resolve.ts";

export interface Endpoint {
  /** A name or an address, IPv6 without brackets. */
  host: string;
  port: number;
}

function portOf(text: string, lowest: number): number {
  const port = /^\d{1,6}$/.test(text) ? Number(text) : NaN;
  if (!(port >= lowest && port <= 65535)) {
    throw new InvalidArgumentError(`Port ${text || "(none)"} is not a whole number from ${lowest} to 65535.`);
  }
  return port;
}

/** A port to connect to: 1 to 65535. */
export function parsePort(text: string): number {
  return portOf(text, 1);
}

/** A port to listen on: 0, for any free one, to 65535. */
export function parseListenPort(text: string): number {
  return portOf(text, 0);
}

const LABEL = /^[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?$/;

function isIpv4(text: string): boolean {
  const parts = text.split(".");
  return parts.length === 4 && parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) <= 255);
}

function isIpv6(text: string): boolean {
  const [address = "", zone, ...more] = text.split("%");
  if (more.length > 0 || zone === "" || !/^[0-9a-fA-F:.]+$/.test(address)) return false;
  return URL.canParse(`http://[${address}]/`);
}

function isName(text: string): boolean {
  const labels = text.replace(/\.$/, "").split(".");
  // All digits and dots, but not an IPv4 address: a mistyped address rather than a name.
  if (/^[\d.]+$/.test(text)) return false;
  return text.length <= 253 && labels.every((label) => label.length <= 63 && LABEL.test(label));
}

/** A host without a port: a name, an IPv4 address, or an IPv6 address with or without brackets. */
export function parseHost(text: string): string {
  const bare = /^\[(.*)\]$/.exec(text)?.[1];
  if (bare !== undefined ? isIpv6(bare) : isIpv4(text) || isIpv6(text) || isName(text)) return bare ?? text;
  throw new InvalidArgumentError("Expected a host name or an address such as 10.0.0.2 or fe80::1%eth0.");
}

/** A target: host:port, with an IPv6 address in brackets. */
export function parseEndpoint(text: string): Endpoint {
  const match = /^(\[[^\]]*\]|[^:]*):([^:]*)$/.exec(text);
  if (match === null) {
    throw new InvalidArgumentError(
      "Expected HOST:PORT, such as 10.0.0.2:4000, server:4000 or [fe80::1%eth0]:4000.",
    );
  }
  return { host: parseHost(match[1]!), port: parsePort(match[2]!) };
}

/** Writes an endpoint so that parseEndpoint reads it again. */
export function formatEndpoint({ host, port }: Endpoint): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** "127.0.0.1:4000", or "server:4000 (10.0.0.2)" where a name was given. */
export function targetText(target: Endpoint, peer: Address): string {
  const text = formatEndpoint(target);
  return target.host.split("%")[0] === peer.address ? text : `${text} (${peer.address})`;
}
