// SPDX-License-Identifier: BSD-2-Clause
// Guests: QEMU machines that boot a Debian kernel and see this machine's root, read-only by 9p under a
// memory-backed overlay. What is installed here is installed there, at the same paths.
//
//   await using guest = await Guest.boot({ label: "one", modules: ["rdma_rxe"] });
//   const { status, out, err } = await guest.run(["uname", "-r"]);
//   const server = await guest.start(["rping", "-s"]);
//   await server.until(/listening/);
//   await server.stop("SIGINT");
//
// A guest powers off when it is disposed of, and dies with this process however that ends. An oops, a
// warning or a lockdep report on its console is an error of whatever runs in it, and of disposing of it.

import type { Finished } from "../helpers/netns.ts";
import { debianKernel, initramfs, type Kernel } from "./kernel.ts";

const ROOT = decodeURIComponent(new URL("../../", import.meta.url).pathname);
const VM = `${ROOT}build/vm`;
const BOOT_SECONDS = 240;
const STOP_SECONDS = 60;
const POLL_MS = 50;
const TAIL_LINES = 60;

/** An interface of a guest: a tap in a namespace, and what the guest calls its own at the other end. */
export interface Nic {
  /** The namespace in which QEMU runs to find the tap; one for all interfaces of a guest. */
  netns: string;
  tap: string;
  mac: string;
  mtu: number;
  /** With prefix lengths. */
  addresses: string[];
}

export interface BootOptions {
  /** Names its console log, build/vm/consoles/LABEL.log. */
  label: string;
  /** Debian bookworm's unless given. */
  kernel?: Kernel;
  /** 512 unless given; half of it is room for what is written. */
  memoryMiB?: number;
  /** 2 unless given. */
  cpus?: number;
  /** eth0, eth1, ... inside. */
  nics?: Nic[];
  /** Loaded in this order before boot() returns, with all they depend on. */
  modules?: string[];
  /** Lines on the console that look like trouble and are expected. */
  expected?: RegExp[];
  /** More words for the kernel's command line. */
  append?: string;
  /** More arguments for QEMU. */
  qemu?: string[];
}

export interface RunOptions {
  env?: Record<string, string>;
  /** Seconds until it is killed; 120 unless given. */
  seconds?: number;
  /** Directory in which it starts; that of the checkout unless given. */
  cwd?: string;
}

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** What a kernel prints when something is wrong with it. */
const TROUBLE = new RegExp(
  [
    ...["\\bBUG: ", "\\bOops\\b", "\\bWARNING: (?!Unprivileged eBPF)", "Kernel panic", "Call Trace:"],
    // With an address, that is a program's.
    ...["general protection fault(?! ip:)", "[Uu]nable to handle", "refcount_t:"],
    ...["KASAN:", "KCSAN:", "UBSAN:"],
    ...["INFO: task .* blocked", "INFO: rcu_", "detected stalls", "lockup", "kmemleak:.*suspected"],
    ...["unregister_netdevice: waiting", "DMA-API:", "INFO: (?:possible|inconsistent)"],
  ].join("|"),
);

/** As a value among QEMU's options. */
const escape = (text: string) => text.replaceAll(",", ",,");
const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

/** Resolves to undefined when it takes longer. */
async function within<T>(seconds: number, promise: Promise<T>): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), seconds * 1000);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function readText(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

/** A program under way in a guest; what it prints is kept. */
export class GuestProgram {
  #ended = false;

  constructor(
    readonly guest: Guest,
    readonly directory: string,
    readonly finished: Promise<Finished>,
  ) {
    const end = () => {
      this.#ended = true;
    };
    finished.then(end, end);
  }

  get out(): string {
    return readText(`${this.directory}/out`);
  }

  get err(): string {
    return readText(`${this.directory}/err`);
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Waits for text in what it prints on either stream. @throws when it ends without it */
  async until(pattern: RegExp): Promise<void> {
    for (;;) {
      const ended = this.#ended;
      if (pattern.test(this.out) || pattern.test(this.err)) return;
      if (ended) {
        await this.finished; // which may know better
        throw new Error(`it ended without printing ${pattern}: ${this.out}${this.err}`);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** Sends a signal to it and to all it has started. */
  async signal(signal: Deno.Signal): Promise<void> {
    if (this.#ended) return;
    const pid = quote(`${this.directory}/pid`);
    const script = `until [ -s ${pid} ]; do sleep 0.1; done; kill -s ${signal.slice(3)} -- -$(cat ${pid})`;
    await this.guest.run(["sh", "-c", script]); // which fails when it has just ended
  }

  /** Sends a signal and waits for the end. */
  async stop(signal: Deno.Signal = "SIGINT"): Promise<Finished> {
    await this.signal(signal);
    return await this.finished;
  }
}

function processLives(pid: string): boolean {
  try {
    Deno.statSync(`/proc/${pid}`);
    return true;
  } catch {
    return false;
  }
}

let booted = 0;
const live = new Set<Guest>();

/** Runs a step of a test; when it fails, shows the ends of the consoles of all guests. */
export async function step(t: Deno.TestContext, name: string, fn: () => void | Promise<void>): Promise<void> {
  await t.step(name, async () => {
    try {
      await fn();
    } catch (error) {
      for (const guest of live) console.log(`console of guest ${guest.label}:\n${guest.consoleEnd()}`);
      throw error;
    }
  });
}

/** A directory of this process for one guest; those of processes that no longer live go. */
async function ownDirectory(label: string): Promise<string> {
  const base = `${VM}/run`;
  await Deno.mkdir(base, { recursive: true });
  for await (const { name } of Deno.readDir(base)) {
    if (processLives(name.split("-")[0]!)) continue;
    await Deno.remove(`${base}/${name}`, { recursive: true }).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // another boot was quicker
    });
  }
  const own = `${base}/${Deno.pid}-${++booted}-${label}`;
  await Deno.mkdir(`${own}/exchange`, { recursive: true });
  return own;
}

export class Guest {
  readonly #jobs = new Map<string, PromiseWithResolvers<number>>();
  readonly #running = new Set<GuestProgram>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #exited: Promise<unknown>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #qemuSays = "";
  #started = 0;
  #gone = false;
  #closed = false;
  #checked = 0;

  private constructor(
    readonly label: string,
    readonly kernel: Kernel,
    readonly nics: Nic[],
    readonly directory: string,
    readonly expected: RegExp[],
    readonly qemu: Deno.ChildProcess,
  ) {
    this.#writer = qemu.stdin.getWriter();
    this.#ready.promise.catch(() => {});
    const listen = async () => {
      let rest = "";
      for await (const text of qemu.stdout.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + text).split("\n");
        rest = lines.pop()!;
        for (const line of lines) this.#heard(line);
      }
    };
    const keep = async () => {
      for await (const text of qemu.stderr.pipeThrough(new TextDecoderStream())) this.#qemuSays += text;
    };
    this.#exited = Promise.all([qemu.status, listen(), keep()]).then(() => {
      this.#gone = true;
      const error = this.#error("it has stopped");
      this.#ready.reject(error);
      for (const job of this.#jobs.values()) job.reject(error);
    });
  }

  /**
   * Starts a guest and waits until it can run programs.
   * @throws when its kernel cannot be had or it does not come up, with the end of its console
   */
  static async boot(options: BootOptions): Promise<Guest> {
    const { label, memoryMiB = 512, cpus = 2, nics = [], modules = [], append = "", qemu = [] } = options;
    const kernel = options.kernel ?? debianKernel("bookworm");
    const own = await ownDirectory(label);
    await Deno.writeFile(`${own}/initramfs`, await initramfs(kernel, `${own}/exchange`));
    const share = (tag: string, path: string, more = "") => [
      ...["-fsdev", `local,id=${tag},path=${escape(path)},security_model=none,multidevs=remap${more}`],
      ...["-device", `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`],
    ];
    const words = "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off apparmor=0 audit=0 " +
      // A slow host is no fault of the guest's kernel.
      "watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=300 " + append;
    const command = [
      // It must not outlive this process, whatever ends that.
      ...["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"],
      ...["-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
      ...["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", `${cpus}`, "-m", `${memoryMiB}`],
      ...["-kernel", kernel.image, "-initrd", `${own}/initramfs`, "-append", words],
      ...["-chardev", `file,id=console,path=${escape(own)}/console`, "-serial", "chardev:console"],
      ...["-chardev", "stdio,id=agent,signal=off", "-device", "virtio-serial-pci"],
      ...["-device", "virtserialport,chardev=agent,name=rackwire.agent"],
      ...share("root", "/", ",readonly=on"),
      ...share("exchange", `${own}/exchange`),
      ...(nics.length === 0 ? ["-nic", "none"] : []),
      ...nics.flatMap(({ tap, mac }, i) => [
        ...["-netdev", `tap,id=net${i},ifname=${tap},script=no,downscript=no`],
        ...["-device", `virtio-net-pci,netdev=net${i},mac=${mac},romfile=`],
      ]),
      ...qemu,
    ];
    if (nics.length > 0) command.unshift("ip", "netns", "exec", nics[0]!.netns);
    const child = new Deno.Command(command[0]!, {
      args: command.slice(1),
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const guest = new Guest(label, kernel, nics, own, options.expected ?? [], child);
    try {
      if (await within(BOOT_SECONDS, guest.#ready.promise.then(() => true)) === undefined) {
        throw guest.#error("it does not come up");
      }
      await guest.#setUp(modules);
    } catch (error) {
      await guest.close().catch(() => {});
      throw error;
    }
    live.add(guest);
    return guest;
  }

  async #setUp(modules: string[]): Promise<void> {
    const script = ["set -e"];
    const wanted = this.nics.length > 0 ? ["virtio_net", ...modules] : modules;
    for (const module of wanted) script.push(`modprobe ${quote(module)}`);
    if (this.nics.length > 0) {
      script.push(
        "for scope in all default eth0; do echo 0 > /proc/sys/net/ipv6/conf/$scope/accept_dad; done",
        ...this.nics.map(({ mtu }, i) => `ip link set eth${i} mtu ${mtu} up`),
        ...this.nics.flatMap(({ addresses }, i) =>
          addresses.map((address) => `ip addr add ${address} dev eth${i}${/:/.test(address) ? " nodad" : ""}`)
        ),
      );
    }
    if (script.length === 1) return;
    const { status, err } = await this.run(["sh", "-c", script.join("\n")]);
    if (status !== 0) throw this.#error(`setting it up failed: ${err.trim()}`);
  }

  #heard(line: string): void {
    const [verb, directory = "", status] = line.split(" ");
    if (verb === "ready") this.#ready.resolve();
    if (verb === "ended") this.#jobs.get(directory)?.resolve(Number(status));
  }

  /** A directory that this machine and the guest share, under the same path; it goes with the guest. */
  get exchange(): string {
    return `${this.directory}/exchange`;
  }

  /** What the kernel and init have printed. */
  get console(): string {
    return readText(`${this.directory}/console`);
  }

  consoleEnd(): string {
    return this.console.replaceAll("\r", "").trimEnd().split("\n").slice(-TAIL_LINES).join("\n");
  }

  #error(what: string): Error {
    return new Error(
      `guest ${this.label}: ${what}\n${this.#qemuSays}---- end of its console\n${this.consoleEnd()}\n----`,
    );
  }

  /** @throws when the console shows trouble that it did not show at the last check */
  check(): void {
    const console = this.console;
    const seen = this.#checked;
    this.#checked = console.lastIndexOf("\n") + 1;
    const trouble = console.slice(seen).split("\n").find((line) =>
      TROUBLE.test(line) && !this.expected.some((pattern) => pattern.test(line))
    );
    if (trouble !== undefined) throw this.#error(`its kernel complains: ${trouble.trim()}`);
  }

  /** Starts a program; its standard input is empty. */
  async start(
    command: string[],
    { env = {}, seconds = 120, cwd = ROOT }: RunOptions = {},
  ): Promise<GuestProgram> {
    if (this.#gone) throw this.#error("it has stopped");
    const directory = `${this.exchange}/${++this.#started}`;
    await Deno.mkdir(directory);
    const exports = Object.entries({ PATH, HOME: "/root", NO_COLOR: "1", ...env })
      .map(([name, value]) => `export ${name}=${quote(value)}\n`);
    await Deno.writeTextFile(
      `${directory}/command`,
      `echo $$ >${quote(`${directory}/pid`)}\n` +
        `${exports.join("")}cd ${quote(cwd)} && exec ${command.map(quote).join(" ")}\n`,
    );
    const job = Promise.withResolvers<number>();
    this.#jobs.set(directory, job);
    const finished = this.#finish(directory, job.promise, seconds);
    finished.catch(() => {}); // told by whoever waits for it
    await this.#writer.write(new TextEncoder().encode(`start ${directory}\n`));
    const program = new GuestProgram(this, directory, finished);
    this.#running.add(program);
    const end = () => void this.#running.delete(program);
    finished.then(end, end);
    return program;
  }

  async #finish(directory: string, job: Promise<number>, seconds: number): Promise<Finished> {
    let status = await within(seconds, job);
    if (status === undefined) {
      const pid = readText(`${directory}/pid`).trim();
      const kill = pid === "" ? undefined : await within(
        STOP_SECONDS,
        this.start(["kill", "-s", "KILL", "--", `-${pid}`], { seconds: STOP_SECONDS * 2 }),
      );
      status = kill && await within(STOP_SECONDS, job);
      if (status === undefined) {
        this.qemu.kill("SIGKILL");
        throw this.#error("it no longer answers");
      }
    }
    this.#jobs.delete(directory);
    this.check();
    return { status, out: readText(`${directory}/out`), err: readText(`${directory}/err`) };
  }

  /** Runs a program to its end. @throws when the guest stops or its kernel complains */
  async run(command: string[], options?: RunOptions): Promise<Finished> {
    return await (await this.start(command, options)).finished;
  }

  /** Ends the programs that still run. */
  async clear(): Promise<void> {
    if (this.#gone) return;
    await Promise.all([...this.#running].map((program) => program.stop("SIGKILL").catch(() => {})));
  }

  /** Runs a short command and returns what it printed. @throws with what it printed when it fails */
  async sh(...command: string[]): Promise<string> {
    const { status, out, err } = await this.run(command);
    if (status !== 0) throw new Error(`guest ${this.label}: ${command.join(" ")}: ${out}${err}`);
    return out;
  }

  /** Powers off. @throws when the kernel has complained or does not power off */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    live.delete(this);
    let lingers = false;
    if (!this.#gone) {
      await this.#writer.write(new TextEncoder().encode("stop\n")).catch(() => {});
      lingers = await within(STOP_SECONDS, this.#exited.then(() => true)) === undefined;
      if (lingers) this.qemu.kill("SIGKILL");
    }
    await this.#exited;
    await this.#writer.close().catch(() => {});
    try {
      if (lingers) throw this.#error("it does not power off");
      this.check();
    } finally {
      await Deno.mkdir(`${VM}/consoles`, { recursive: true });
      await Deno.copyFile(`${this.directory}/console`, `${VM}/consoles/${this.label}.log`).catch(() => {});
      await Deno.remove(this.directory, { recursive: true });
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
