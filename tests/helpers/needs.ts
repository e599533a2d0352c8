// SPDX-License-Identifier: BSD-2-Clause
// Tests that need something of the machine say so here and are skipped, with the reason, where it lacks.
//
//   needs(["root", "netns"]).test("a ping crosses two namespaces", async () => { ... });
//   needs(["long"]).test("an hour of churn leaks nothing", ...);

/** Starts a line of a test's output that tells tests/run.ts why a test is skipped. */
export const SKIP_MARK = "# SKIP ";

function runs(command: string, ...args: string[]): boolean {
  try {
    return new Deno.Command(command, { args, stdout: "null", stderr: "null" }).outputSync().success;
  } catch {
    return false;
  }
}

function program(name: string): string | undefined {
  return runs("sh", "-c", `command -v ${name}`) ? undefined : `${name} is not installed`;
}

/** Why no guest can be booted, as tests/vm/guest.ts does; fetches the kernel when it is not there yet. */
function guest(): string | undefined {
  if (Deno.build.arch !== "x86_64") return "guests run programs of this machine on an x86-64 kernel";
  for (const name of ["qemu-system-x86_64", "setpriv"]) {
    const reason = program(name);
    if (reason !== undefined) return reason;
  }
  if (!runs("test", "-x", "/bin/busybox")) return "busybox-static is not installed";
  const script = new URL("../vm/kernel.sh", import.meta.url).pathname;
  const { success, stderr } = new Deno.Command(decodeURIComponent(script), { args: ["bookworm"] })
    .outputSync();
  return success ? undefined : new TextDecoder().decode(stderr).trim().split("\n").at(-1);
}

/** What can be needed; each answers why this machine lacks it, or undefined. */
const CHECKS = {
  root: () => Deno.uid() === 0 ? undefined : "needs root",
  netns: () => runs("unshare", "--net", "true") ? undefined : "cannot create network namespaces",
  rawsocket: () =>
    runs("python3", "-c", "import socket; socket.socket(2, 3, 254)") ? undefined : "needs CAP_NET_RAW",
  tun: () => runs("test", "-c", "/dev/net/tun") ? undefined : "there is no /dev/net/tun",
  ipv6: () =>
    runs("python3", "-c", "import socket; s = socket.socket(10, 2); s.bind(('::1', 0))")
      ? undefined
      : "no IPv6",
  long: () => Deno.env.get("RACKWIRE_TEST_LONG") === "1" ? undefined : "a long test: make test-all runs it",
  ip: () => program("ip"),
  tc: () => program("tc"),
  nft: () => program("nft"),
  tcpdump: () => program("tcpdump"),
  tshark: () => program("tshark"),
  iperf3: () => program("iperf3"),
  ethtool: () => program("ethtool"),
  clang: () => program("clang"),
  gcc: () => program("gcc"),
  guest,
  rdma: () => program("rdma") ?? program("rping") ?? program("ib_send_bw") ?? program("ibv_devinfo"),
  nbd: () => program("nbdinfo") ?? program("nbdcopy") ?? program("fio") ?? program("qemu-img"),
  mount: () =>
    program("nbdfuse") ?? program("mkfs.ext4") ?? program("losetup") ??
      (runs("test", "-c", "/dev/fuse") && runs("test", "-c", "/dev/loop-control")
        ? undefined
        : "there is no /dev/fuse or no /dev/loop-control"),
  bigendian: () => program("s390x-linux-gnu-gcc") ?? program("qemu-s390x"),
} satisfies Record<string, () => string | undefined>;

export type Need = keyof typeof CHECKS;

const known = new Map<Need, string | undefined>();

/** Why the machine lacks one of these, or undefined when it has all. */
export function lacking(wanted: Need[]): string | undefined {
  for (const need of wanted) {
    if (!known.has(need)) known.set(need, CHECKS[need]());
    const reason = known.get(need);
    if (reason !== undefined) return reason;
  }
  return undefined;
}

/** Registers tests that run only where the machine has everything named. */
export function needs(wanted: Need[]) {
  return {
    test(name: string, fn: (t: Deno.TestContext) => void | Promise<void>): void {
      const reason = lacking(wanted);
      if (reason !== undefined) console.log(`${SKIP_MARK}${name}\t${reason}`);
      Deno.test({ name, ignore: reason !== undefined, fn });
    },
  };
}
