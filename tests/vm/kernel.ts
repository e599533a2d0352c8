// SPDX-License-Identifier: BSD-2-Clause
// Kernels for guests, and the initramfs that brings one up to where it sees the host's root.

const ROOT = decodeURIComponent(new URL("../../", import.meta.url).pathname);
const decoder = new TextDecoder();

/** A kernel to boot. Anything with modules in the usual places will do, not only what kernel.sh fetches. */
export interface Kernel {
  release: string;
  /** A bzImage, or an ELF vmlinux with a PVH entry. */
  image: string;
  /** The directory that holds modules.dep; absolute. */
  modules: string;
}

/**
 * The stock kernel of a Debian suite, fetched when it is not there yet.
 * @throws with the reason when it cannot be had
 */
export function debianKernel(suite: string): Kernel {
  const { success, stderr } = new Deno.Command(`${ROOT}tests/vm/kernel.sh`, { args: [suite] }).outputSync();
  if (!success) throw new Error(decoder.decode(stderr).trim().split("\n").at(-1));
  const there = `${ROOT}build/vm/kernels/${suite}`;
  const release = Deno.readTextFileSync(`${there}/release`).trim();
  return { release, image: `${there}/image`, modules: `${there}/lib/modules/${release}` };
}

/** Kernels that tests of guests run on: bookworm's, and with RACKWIRE_TEST_LONG also that of its backports. */
export function testedSuites(): string[] {
  return Deno.env.get("RACKWIRE_TEST_LONG") === "1" ? ["bookworm", "bookworm-backports"] : ["bookworm"];
}

/** What a guest must load to reach the host; everything else it takes from there by modprobe. */
const MODULES = ["virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay"];

/** Files of modules, relative to the kernel's directory, in the order of loading; none for built-in ones. */
export function loadOrder({ modules }: Pick<Kernel, "modules">, wanted: string[]): string[] {
  const needs = new Map<string, string[]>();
  const fileOf = new Map<string, string>();
  const nameOf = (file: string) => file.replace(/.*\//, "").replace(/\.ko.*/, "").replaceAll("-", "_");
  for (const line of Deno.readTextFileSync(`${modules}/modules.dep`).split("\n")) {
    const [file, rest] = line.split(":");
    if (file === undefined || rest === undefined) continue;
    needs.set(file, rest.split(" ").filter((word) => word !== ""));
    fileOf.set(nameOf(file), file);
  }
  const builtin = new Set(Deno.readTextFileSync(`${modules}/modules.builtin`).split("\n").map(nameOf));
  const order = new Set<string>();
  const add = (file: string) => {
    // modules.dep lists all that a module needs, the deepest last.
    for (const need of needs.get(file)!.toReversed()) order.add(need);
    order.add(file);
  };
  for (const module of wanted.map((name) => name.replaceAll("-", "_"))) {
    const file = fileOf.get(module);
    if (file !== undefined) add(file);
    else if (!builtin.has(module)) throw new Error(`the kernel has no module ${module}: ${modules}`);
  }
  return [...order];
}

function readModule(path: string): Uint8Array {
  const unpack = path.endsWith(".xz") ? "xz" : path.endsWith(".zst") ? "zstd" : undefined;
  if (unpack === undefined) return Deno.readFileSync(path);
  const { success, stdout, stderr } = new Deno.Command(unpack, { args: ["-dc", path] }).outputSync();
  if (!success) throw new Error(`${path}: ${decoder.decode(stderr).trim()}`);
  return stdout;
}

/** An archive as Linux's Documentation/driver-api/early-userspace/buffer-format.rst describes it ("newc"). */
class Archive {
  readonly #parts: Uint8Array[] = [];
  #inode = 0;

  #entry(name: string, mode: number, data: Uint8Array): void {
    const fields = [++this.#inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length + 1, 0];
    const header = "070701" + fields.map((field) => field.toString(16).padStart(8, "0")).join("");
    const aligned = (length: number) => new Uint8Array(-length & 3);
    const head = new TextEncoder().encode(`${header}${name}\0`);
    this.#parts.push(head, aligned(head.length), data, aligned(data.length));
  }

  directory(name: string): void {
    this.#entry(name, 0o40755, new Uint8Array());
  }

  file(name: string, data: Uint8Array | string, mode = 0o644): void {
    this.#entry(name, 0o100000 | mode, typeof data === "string" ? new TextEncoder().encode(data) : data);
  }

  link(name: string, target: string): void {
    this.#entry(name, 0o120777, new TextEncoder().encode(target));
  }

  async bytes(): Promise<Uint8Array<ArrayBuffer>> {
    this.#entry("TRAILER!!!", 0, new Uint8Array());
    return new Uint8Array(await new Blob(this.#parts as BlobPart[]).arrayBuffer());
  }
}

const APPLETS = [
  ...["sh", "mount", "mkdir", "insmod", "cat", "basename", "dirname", "poweroff", "ip", "setsid", "chroot"],
];

/** @param exchange the directory that host and guest share */
export function initramfs(kernel: Kernel, exchange: string): Promise<Uint8Array<ArrayBuffer>> {
  const archive = new Archive();
  for (const name of ["bin", "dev", "lower", "modules", "proc", "root", "sys", "upper"]) {
    archive.directory(name);
  }
  archive.file("bin/busybox", Deno.readFileSync("/bin/busybox"), 0o755);
  for (const applet of APPLETS) archive.link(`bin/${applet}`, "busybox");
  archive.file("init", Deno.readFileSync(`${ROOT}tests/vm/init.sh`), 0o755);
  const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  archive.file(
    "config",
    `release=${quote(kernel.release)}\nmodules=${quote(kernel.modules)}\nexchange=${quote(exchange)}\n`,
  );
  const names = loadOrder(kernel, MODULES).map((file) => {
    const name = file.replace(/.*\//, "").replace(/\.ko.*/, ".ko");
    archive.file(`modules/${name}`, readModule(`${kernel.modules}/${file}`));
    return name;
  });
  archive.file("modules/order", names.map((name) => `${name}\n`).join(""));
  return archive.bytes();
}
