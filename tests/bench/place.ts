// SPDX-License-Identifier: BSD-2-Clause
// Where a comparison runs: on loopback, or between two namespaces.

import { type LinkOptions, Network, Program, type StartOptions } from "../helpers/netns.ts";

/** CPUs of the two sides; the same one where the machine has no second. */
export const CLIENT_CPU = 0;
export const SERVER_CPU = navigator.hardwareConcurrency > 1 ? 1 : 0;

export interface Side {
  start(command: string[], options?: StartOptions): Program;
}

export interface Place extends Disposable {
  name: string;
  /** The server's address. */
  address: string;
  client: Side;
  server: Side;
  /** Interface of the server's side, seen from inside. */
  iface: string;
  /** A port that nothing at the server's side holds. */
  port(): number;
}

/** The loopback of the namespace this process runs in; needs no privilege. */
export function loopback(): Place {
  const here: Side = { start: (command, options) => new Program(command, options) };
  return {
    name: "loopback",
    address: "127.0.0.1",
    client: here,
    server: here,
    iface: "lo",
    port() {
      using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      return listener.addr.port;
    },
    [Symbol.dispose]() {},
  };
}

/** A veth pair between two namespaces; needs root. */
export function veth(name: string, options: LinkOptions): Place {
  const net = new Network();
  const [client, server] = [net.host("client"), net.host("server")];
  const { ends: [, end] } = net.link(client, server, options);
  let port = 5000;
  return {
    name,
    address: end!.v4,
    client,
    server,
    iface: end!.iface,
    // The last port may still be in TIME_WAIT.
    port: () => port++,
    [Symbol.dispose]: () => net[Symbol.dispose](),
  };
}
