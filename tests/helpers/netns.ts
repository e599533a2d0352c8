// SPDX-License-Identifier: BSD-2-Clause
// Network namespaces joined by veth pairs, for tests and benchmarks.
//
//   using net = new Network();
//   const [a, b] = [net.host("a"), net.host("b")];
//   const link = net.link(a, b, { mtu: 1500, offloads: false });
//   lose(link, 0.01);
//   const server = b.start(["iperf3", "-s", "-1"]);
//
// Nothing is ever added to the namespace this process runs in. The namespaces and every process in them
// are removed when the network is disposed, on Ctrl-C, when the process exits, and, after a crash, when
// the next process makes a network.

import { lacking } from "./needs.ts";

const NAME = /^rw-(\d+)-t\d+-/;
const ROOT = new URL("../../", import.meta.url);
export const IMPAIR = decodeURIComponent(new URL("build/tests/helpers/impair", ROOT).pathname);
const LOSS_SOURCE = decodeURIComponent(new URL("tests/helpers/impair_loss.bpf.c", ROOT).pathname);
const decoder = new TextDecoder();

/** Runs a command to its end and returns what it printed. */
function sh(command: string, ...args: string[]): string {
  const { success, stdout, stderr } = new Deno.Command(command, { args }).outputSync();
  if (!success) throw new Error(`${command} ${args.join(" ")}: ${decoder.decode(stderr).trim()}`);
  return decoder.decode(stdout);
}

export interface Finished {
  /** Exit status; 128 + the signal's number where a signal ended it. */
  status: number;
  out: string;
  err: string;
}

export interface StartOptions {
  env?: Record<string, string>;
  /** Seconds until it is killed; 60 unless given. */
  seconds?: number;
  /** Keeps its standard input open until closeInput(); it is empty unless given. */
  input?: boolean;
}

/** A program under way; what it prints is kept. */
export class Program {
  readonly #child: Deno.ChildProcess;
  readonly #timer: ReturnType<typeof setTimeout>;
  #input: boolean;
  #out = "";
  #err = "";
  #ended = false;
  #heard: () => void = () => {};
  readonly finished: Promise<Finished>;

  constructor(command: string[], { env, seconds = 60, input = false }: StartOptions = {}) {
    const [program, ...args] = command;
    this.#child = new Deno.Command(program!, {
      args,
      env: { NO_COLOR: "1", ...env },
      stdin: input ? "piped" : "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#input = input;
    this.#timer = setTimeout(() => this.signal("SIGKILL"), seconds * 1000);
    const keep = async (stream: ReadableStream<Uint8Array>, add: (text: string) => void) => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) {
        add(text);
        this.#heard();
      }
    };
    this.finished = Promise.all([
      this.#child.status,
      keep(this.#child.stdout, (text) => this.#out += text),
      keep(this.#child.stderr, (text) => this.#err += text),
    ]).then(([{ code }]) => {
      clearTimeout(this.#timer);
      this.closeInput();
      this.#ended = true;
      this.#heard();
      return { status: code, out: this.#out, err: this.#err };
    });
  }

  get pid(): number {
    return this.#child.pid;
  }

  get out(): string {
    return this.#out;
  }

  get err(): string {
    return this.#err;
  }

  get ended(): boolean {
    return this.#ended;
  }

  signal(signal: Deno.Signal): void {
    try {
      this.#child.kill(signal);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended
    }
  }

  /** Lets it read the end of its standard input. */
  closeInput(): void {
    if (this.#input) this.#child.stdin.close().catch(() => {});
    this.#input = false;
  }

  /** Waits for text in what it prints on either stream. @throws when it ends without it */
  async until(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.#out) && !pattern.test(this.#err)) {
      if (this.#ended) throw new Error(`it ended without printing ${pattern}: ${this.#out}${this.#err}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#heard = resolve;
      await promise;
    }
  }

  /** Sends a signal and waits for the end. */
  stop(signal: Deno.Signal = "SIGINT"): Promise<Finished> {
    this.signal(signal);
    return this.finished;
  }
}

/** A namespace with the hosts' side of its links: eth0, eth1, ... in the order they were made. */
export class Host {
  readonly interfaces: string[] = [];

  constructor(readonly label: string, readonly name: string) {}

  /** A command line that runs inside. */
  inside(command: string[]): string[] {
    return ["ip", "netns", "exec", this.name, ...command];
  }

  /** Runs a short command inside, to its end. @throws with what it printed when it fails */
  sh(...command: string[]): string {
    const [program, ...args] = this.inside(command);
    return sh(program!, ...args);
  }

  ip(...args: string[]): string {
    return sh("ip", "-n", this.name, ...args);
  }

  start(command: string[], options?: StartOptions): Program {
    return new Program(this.inside(command), options);
  }

  run(command: string[], options?: StartOptions): Promise<Finished> {
    return this.start(command, options).finished;
  }

  /** Writes settings under /proc/sys/net of this namespace. */
  sysctl(settings: Record<string, number | string>): void {
    const lines = Object.entries(settings).map(([name, value]) =>
      `echo '${value}' > /proc/sys/net/${name.replaceAll(".", "/")}`
    );
    this.sh("sh", "-c", lines.join(" && "));
  }

  /** Packets and bytes of an interface so far. */
  counters(iface = "eth0"): { rxPackets: number; txPackets: number; rxBytes: number; txBytes: number } {
    const [{ stats64 }] = JSON.parse(this.ip("-s", "-j", "link", "show", "dev", iface));
    return {
      rxPackets: stats64.rx.packets,
      txPackets: stats64.tx.packets,
      rxBytes: stats64.rx.bytes,
      txBytes: stats64.tx.bytes,
    };
  }
}

export interface LinkOptions {
  /** Largest IP packet; 1500 unless given. Below 1280 there is no IPv6. */
  mtu?: number;
  /** false switches checksum and segmentation offload and GRO off at both ends; unset leaves the kernel's choice. */
  offloads?: boolean;
}

/** One end of a link: an interface with its addresses. */
export interface End {
  host: Host;
  iface: string;
  v4: string;
  /** Empty where the MTU is too small for IPv6. */
  v6: string;
}

export interface Link {
  ends: End[];
}

const OFFLOADS = ["rx", "tx", "sg", "tso", "gso", "gro"];

/** Switches the offloads of an interface on or off. */
export function setOffloads({ host, iface }: Pick<End, "host" | "iface">, on: boolean): void {
  const state = on ? "on" : "off";
  host.sh("ethtool", "-K", iface, ...OFFLOADS.flatMap((name) => [name, state]));
  // Not part of any of those names.
  host.sh("ethtool", "-K", iface, "tx-udp-segmentation", state);
}

let made = 0;
const open = new Set<Network>();

function disposeAll(): void {
  for (const network of open) network[Symbol.dispose]();
}

const onSignal = (["SIGINT", "SIGTERM", "SIGHUP"] as const).map((signal) => ({
  signal,
  listener: () => {
    disposeAll(); // which takes these listeners away
    removeCompiled();
    Deno.kill(Deno.pid, signal);
  },
}));

function removeNamespace(name: string): void {
  const pids = new Deno.Command("ip", { args: ["netns", "pids", name], stderr: "null" }).outputSync();
  for (const pid of decoder.decode(pids.stdout).split("\n").filter((line) => line !== "")) {
    try {
      Deno.kill(Number(pid), "SIGKILL");
    } catch { /* it has just ended */ }
  }
  new Deno.Command("ip", { args: ["netns", "del", name], stdout: "null", stderr: "null" }).outputSync();
}

function processLives(pid: string): boolean {
  try {
    Deno.statSync(`/proc/${pid}`);
    return true;
  } catch {
    return false;
  }
}

/** Removes what processes that no longer live have left; returns the names. */
export function removeStale(): string[] {
  const listed = sh("ip", "netns", "list").split("\n").map((line) => line.split(" ")[0]!);
  const stale = listed.filter((name) => {
    const pid = NAME.exec(name)?.[1];
    return pid !== undefined && !processLives(pid);
  });
  stale.forEach(removeNamespace);
  return stale;
}

export class Network {
  readonly #hosts: Host[] = [];
  readonly #prefix: string;
  #links = 0;

  constructor() {
    if (open.size === 0) {
      removeStale();
      for (const { signal, listener } of onSignal) Deno.addSignalListener(signal, listener);
      addEventListener("unload", disposeAll);
    }
    this.#prefix = `rw-${Deno.pid}-t${++made}-`;
    open.add(this);
  }

  [Symbol.dispose](): void {
    if (!open.delete(this)) return;
    for (const host of this.#hosts) removeNamespace(host.name);
    if (open.size > 0) return;
    for (const { signal, listener } of onSignal) Deno.removeSignalListener(signal, listener);
    removeEventListener("unload", disposeAll);
  }

  /** A new namespace with its own loopback. */
  host(label: string): Host {
    const host = new Host(label, this.#prefix + label);
    sh("ip", "netns", "add", host.name);
    this.#hosts.push(host);
    host.ip("link", "set", "lo", "up");
    host.sysctl({
      "ipv6.conf.all.accept_dad": 0,
      "ipv6.conf.default.accept_dad": 0,
      "ipv6.conf.default.router_solicitations": 0,
      "ipv6.conf.default.keep_addr_on_down": 1,
      "ipv4.icmp_ratelimit": 0,
    });
    return host;
  }

  /** A veth pair without addresses. */
  #pair(a: Host, b: Host, { mtu = 1500, offloads }: LinkOptions): [string, string] {
    const [left, right] = [`eth${a.interfaces.length}`, `eth${b.interfaces.length}`];
    a.interfaces.push(left);
    b.interfaces.push(right);
    sh(
      ...["ip", "link", "add", left, "netns", a.name, "mtu", `${mtu}`, "type", "veth"] as const,
      ...["peer", "name", right, "netns", b.name, "mtu", `${mtu}`],
    );
    for (const [host, iface] of [[a, left], [b, right]] as const) {
      if (offloads !== undefined) setOffloads({ host, iface }, offloads);
      host.ip("link", "set", iface, "up");
    }
    return [left, right];
  }

  /** Gives interfaces of one subnet their addresses. */
  #subnet(members: [Host, string][], mtu = 1500): Link {
    const subnet = ++this.#links;
    const ends = members.map(([host, iface], i): End => {
      const v4 = `10.254.${subnet}.${i + 1}`;
      const v6 = mtu < 1280 ? "" : `fd00:254:${subnet}::${i + 1}`;
      host.ip("addr", "add", `${v4}/24`, "dev", iface);
      if (v6 !== "") host.ip("addr", "add", `${v6}/64`, "dev", iface, "nodad");
      return { host, iface, v4, v6 };
    });
    return { ends };
  }

  /** Joins two hosts directly. */
  link(a: Host, b: Host, options: LinkOptions = {}): Link {
    const [left, right] = this.#pair(a, b, options);
    return this.#subnet([[a, left], [b, right]], options.mtu);
  }

  /**
   * Joins hosts by a switch.
   * @param options.rate of each port of the switch towards its host, as tc writes it ("200mbit"); unlimited unless given
   * @param options.queue bytes that such a port holds before it drops
   */
  star(
    hosts: Host[],
    options: LinkOptions & { rate?: string; queue?: number } = {},
  ): Link & { middle: Host } {
    const middle = this.host("switch");
    middle.ip("link", "add", "br0", "type", "bridge");
    middle.ip("link", "set", "br0", "up");
    const members = hosts.map((host): [Host, string] => {
      const [own, port] = this.#pair(host, middle, options);
      middle.ip("link", "set", port, "master", "br0");
      if (options.rate !== undefined) {
        const limit = `${options.queue ?? 256 * 1024}`;
        middle.sh(
          ...["tc", "qdisc", "add", "dev", port, "root", "tbf", "rate", options.rate],
          ...["burst", "64k", "limit", limit],
        );
      }
      return [host, own];
    });
    return { ...this.#subnet(members, options.mtu), middle };
  }

  /**
   * Joins two hosts by a router whose two links may have different MTUs; what is too long for the second
   * is answered by ICMP. Returns the hosts' ends.
   */
  routed(a: Host, b: Host, mtus: [number, number], offloads?: boolean): Link & { middle: Host } {
    const middle = this.host("router");
    const first = this.link(a, middle, { mtu: mtus[0], offloads });
    const second = this.link(b, middle, { mtu: mtus[1], offloads });
    middle.sysctl({ "ipv4.ip_forward": 1, "ipv6.conf.all.forwarding": 1 });
    for (const { ends: [end, gateway] } of [first, second]) {
      end!.host.ip("route", "add", "default", "via", gateway!.v4);
      if (gateway!.v6 !== "") end!.host.ip("-6", "route", "add", "default", "via", gateway!.v6);
    }
    return { ends: [first.ends[0]!, second.ends[0]!], middle };
  }

  /**
   * Joins two hosts, offloads off, by a wire that is up to no good; `wire.stop()` gives what it did as JSON.
   * @param options of tests/helpers/impair.c, without the dashes
   */
  async impaired(a: Host, b: Host, options: Record<string, number>, { mtu }: Pick<LinkOptions, "mtu"> = {}) {
    const middle = this.host("wire");
    middle.sysctl({ "ipv6.conf.default.disable_ipv6": 1 });
    const [left, first] = this.#pair(a, middle, { mtu, offloads: false });
    const [right, second] = this.#pair(b, middle, { mtu, offloads: false });
    const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]);
    const wire = middle.start([IMPAIR, ...flags, first, second], { seconds: 600 });
    await wire.until(/^ready$/m);
    return { ...this.#subnet([[a, left], [b, right]], mtu), middle, wire };
  }
}

const compiledLoss = new Map<number, string>();

function removeCompiled(): void {
  for (const file of compiledLoss.values()) Deno.removeSync(file);
  compiledLoss.clear();
}

function lossProgram(ppm: number): string {
  let path = compiledLoss.get(ppm);
  if (path === undefined) {
    path = Deno.makeTempFileSync({ suffix: ".bpf.o" });
    const multiarch = sh("gcc", "-print-multiarch").trim();
    sh(
      ...["clang", "-O2", "-g", "-Wall", "-Werror", "-target", "bpf", `-DLOSS_PPM=${ppm}`] as const,
      ...[`-I/usr/include/${multiarch}`, "-c", LOSS_SOURCE, "-o", path],
    );
    if (compiledLoss.size === 0) addEventListener("unload", removeCompiled);
    compiledLoss.set(ppm, path);
  }
  return path;
}

/**
 * Loses packets that arrive at an end, at random and independently. The sender does not notice. With
 * segmentation offload many packets pass, or are lost, as one. By BPF, or by nft where clang is missing
 * or the kernel refuses the program.
 * @param fraction 0 to 1
 * @returns how many were lost so far
 */
export function lose({ host, iface }: End, fraction: number): () => number {
  const ppm = Math.round(fraction * 1e6);
  if (lacking(["clang", "tc"]) === undefined) {
    host.sh("tc", "qdisc", "replace", "dev", iface, "clsact");
    try {
      host.sh(
        "tc",
        "filter",
        "add",
        "dev",
        iface,
        "ingress",
        "bpf",
        "da",
        "obj",
        lossProgram(ppm),
        "sec",
        "tc",
      );
      return () => {
        const qdiscs = JSON.parse(host.sh("tc", "-s", "-j", "qdisc", "show", "dev", iface));
        return qdiscs.find(({ kind }: { kind: string }) => kind === "clsact").drops;
      };
    } catch (error) {
      if (!/bpf/i.test(String(error))) throw error;
    }
  }
  const table = `loss_${iface}`;
  host.sh(
    "nft",
    `add table inet ${table};` +
      `add chain inet ${table} in { type filter hook prerouting priority -400; };` +
      `add rule inet ${table} in iifname ${iface} numgen random mod 1000000 < ${ppm} counter drop;`,
  );
  return () => {
    const { nftables } = JSON.parse(host.sh("nft", "-j", "list", "table", "inet", table));
    const rule = nftables.find((entry: Record<string, unknown>) => "rule" in entry).rule;
    return rule.expr.find((entry: Record<string, unknown>) => "counter" in entry).counter.packets;
  };
}

/** Loses packets in every direction of a link; returns how many were lost so far. */
export function loseBothWays({ ends }: Link, fraction: number): () => number {
  const counts = ends.map((end) => lose(end, fraction));
  return () => counts.reduce((sum, count) => sum + count(), 0);
}
