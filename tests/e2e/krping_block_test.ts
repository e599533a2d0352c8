// SPDX-License-Identifier: BSD-2-Clause
// rackwire krping block with the NBD clients that people use.

import assert from "node:assert/strict";
import { failed, ok, ServerProcess } from "../helpers/server_process.ts";
import { runRackwire } from "../helpers/cli.ts";
import { needs } from "../helpers/needs.ts";
import { attempt, does, Exporter, inDirectory, lastJson, makeImage, NbdServer } from "./krping_block.ts";

const MIB = 1 << 20;
const LONG = Deno.env.get("RACKWIRE_TEST_LONG") === "1";
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** fio with checksums on all it writes. */
function verifying(uri: string, ...more: string[]): string[] {
  // deno-fmt-ignore
  return ["--name=verify", "--ioengine=nbd", `--uri=${uri}`, "--rw=randrw", "--verify=crc32c", "--verify_fatal=1",
    "--bsrange=4k-256k", "--iodepth=16", "--size=32m", "--fsync=64", ...more];
}

function fileOf(socket: string): Promise<Deno.FileInfo | undefined> {
  return Deno.stat(socket).catch(() => undefined);
}

needs(["nbd"]).test(
  "qemu-img converts an image there and back, with holes",
  () =>
    inDirectory(async (directory) => {
      const [image, back] = [`${directory}/a.img`, `${directory}/b.img`];
      await makeImage(image, 64);
      await using exporter = await Exporter.start(["--size", "64MiB"]);
      await using server = await NbdServer.start(exporter, `${directory}/s`);
      const uri = server.uri();
      await does("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", image, uri]);
      await does("qemu-img", ["compare", "-f", "raw", "-F", "raw", image, uri]);
      await does("qemu-img", ["convert", "-f", "raw", "-O", "raw", uri, back]);
      await does("cmp", [image, back]);
      const { status, out } = await server.end();
      assert.equal(status, 130);
      const { counters, latency_us } = lastJson(out);
      assert.ok(counters.zeroes > 0 && counters.flushes > 0 && counters.errors === 0, out);
      assert.ok(latency_us.read.count > 0 && latency_us.write.count > 0);
      assert.equal(await fileOf(server.socket), undefined);
      const ended = lastJson((await exporter.end()).out);
      assert.equal(ended.counters.write_bytes, counters.write_bytes);
      assert.equal(ended.counters.under_way, 0);
    }),
);

for (const mode of ["page cache", "direct"] as const) {
  needs(["nbd"]).test(
    `nbdcopy fills a file by several connections: ${mode}`,
    () =>
      inDirectory(async (directory) => {
        const [image, disk, back] = ["a.img", "disk", "b.img"].map((name) => `${directory}/${name}`) as [
          string,
          string,
          string,
        ];
        await makeImage(image, 64);
        await does("truncate", ["-s", "64M", disk]);
        const direct = mode === "direct" ? ["--direct"] : [];
        await using exporter = await Exporter.start(["--file", disk, ...direct]);
        await using server = await NbdServer.start(exporter, `${directory}/s`);
        await does("nbdcopy", ["--flush", image, server.uri()]);
        await does("cmp", [image, disk]);
        await does("nbdcopy", [server.uri(), back]);
        await does("cmp", [image, back]);
        // Neither at sector borders, nor of their length.
        // deno-fmt-ignore
        await does("qemu-io", ["-f", "raw", server.uri(), "-c", "write -P 0x5a 1000 777", "-c", "read -P 0x5a 1000 777",
        "-c", "write -f -P 0xa5 7 20000", "-c", "read -P 0xa5 7 20000", "-c", "flush",
        "-c", "write -z -u 3M 1M", "-c", "read -P 0 3M 1M", "-c", "discard 5M 1M",
        "-c", "write -P 7 8M 3M", "-c", "read -P 7 8M 3M"]);
      }),
  );
}

needs(["nbd"]).test(
  "several exports have names, sizes and rights of their own",
  () =>
    inDirectory(async (directory) => {
      const disk = `${directory}/disk`;
      await does("truncate", ["-s", "3M", disk]);
      await using exporter = await Exporter.start(["--file", `disk=${disk}`, "--size", "scratch=1MiB"]);
      assert.deepEqual(exporter.exports.map(({ name, size, persistent }) => [name, size, persistent]), [
        ["disk", 3 * MIB, true],
        ["scratch", MIB, false],
      ]);
      await using server = await NbdServer.start(exporter, `${directory}/s`);
      assert.deepEqual(server.exports, exporter.exports);
      const listed = JSON.parse(await does("nbdinfo", ["--json", "--list", server.uri()]));
      assert.deepEqual(
        listed.exports.map((each: Record<string, unknown>) => [each["export-name"], each["export-size"]]),
        [["disk", 3 * MIB], ["scratch", MIB]],
      );
      const info = JSON.parse(await does("nbdinfo", ["--json", server.uri("scratch")])).exports[0];
      for (const can of ["can_multi_conn", "can_flush", "can_fua", "can_trim", "can_zero", "can_df"]) {
        assert.equal(info[can], true, can);
      }
      assert.notEqual((await attempt("nbdinfo", [server.uri("nothing")])).status, 0);
      assert.notEqual((await attempt("nbdinfo", [server.uri()])).status, 0);

      await using second = await Exporter.start(["--size", "1MiB"]);
      await using reader = await NbdServer.start(second, `${directory}/r`, ["--read-only"]);
      assert.equal(JSON.parse(await does("nbdinfo", ["--json", reader.uri()])).exports[0].is_read_only, true);
      assert.notEqual((await attempt("qemu-io", ["-f", "raw", reader.uri(), "-c", "write 0 512"])).status, 0);
    }),
);

needs(["nbd"]).test(
  "fio's checksums hold over random requests of many sizes",
  () =>
    inDirectory(async (directory) => {
      const disk = `${directory}/disk`;
      await does("truncate", ["-s", "32M", disk]);
      await using exporter = await Exporter.start(["--file", `disk=${disk}`, "--size", "memory=32MiB"]);
      await using server = await NbdServer.start(exporter, `${directory}/s`);
      const more = LONG ? ["--time_based", "--runtime=90"] : [];
      for (const name of ["memory", "disk"]) {
        await does("fio", verifying(server.uri(name), ...more), directory);
      }
      assert.equal(lastJson((await server.end()).out).counters.errors, 0);
    }),
);

needs(["nbd", "mount", "root"]).test(
  "ext4 on a loop device on nbdfuse survives being mounted again",
  () =>
    inDirectory(async (directory) => {
      const disk = `${directory}/disk`;
      await does("truncate", ["-s", "64M", disk]);
      await using exporter = await Exporter.start(["--file", disk]);
      await using server = await NbdServer.start(exporter, `${directory}/s`);
      const [fuse, mounted] = [`${directory}/fuse`, `${directory}/mnt`];
      await Deno.mkdir(fuse);
      await Deno.mkdir(mounted);
      // With several threads nbdfuse 1.14 fails an assertion of its own when replies come quickly.
      const nbdfuse = new Deno.Command("nbdfuse", { args: ["-s", `${fuse}/nbd`, server.uri()] }).spawn();
      const undo: (() => Promise<unknown>)[] = [async () => {
        await does("fusermount3", ["-u", fuse]);
        await nbdfuse.status;
      }];
      try {
        for (let i = 0; !await fileOf(`${fuse}/nbd`); i++) {
          assert.ok(i < 500, "nbdfuse does not come up");
          await sleep(20);
        }
        const loop = (await does("losetup", ["-f", "--show", `${fuse}/nbd`])).trim();
        undo.unshift(() => does("losetup", ["-d", loop]));
        await does("mkfs.ext4", ["-q", loop]);
        const sums = async (work: () => Promise<unknown>) => {
          await does("mount", ["-t", "ext4", loop, mounted]);
          undo.unshift(() => does("umount", [mounted]));
          await work();
          const text = await does("sh", ["-c", "find . -type f | sort | xargs sha256sum"], mounted);
          await undo.shift()!();
          return text;
        };
        const before = await sums(() =>
          does("sh", [
            "-c",
            "for i in $(seq 40); do head -c $((i * 9999)) /dev/urandom > f$i; done; rm f3 f7; sync",
          ], mounted)
        );
        assert.equal(before.trim().split("\n").length, 38);
        assert.equal(await sums(() => Promise.resolve()), before);
        await does("fsck.ext4", ["-f", "-n", loop]);
      } finally {
        const outcomes = [];
        for (const each of undo) outcomes.push(...await Promise.allSettled([each()]));
        for (const each of outcomes) if (each.status === "rejected") console.error(each.reason);
      }
      await server.end();
      // What the file holds is a good file system, without any of us.
      await does("fsck.ext4", ["-f", "-n", disk]);
      assert.ok(!(await Deno.readTextFile("/proc/self/mounts")).includes(directory));
    }),
);

needs(["nbd"]).test(
  "replay: a killed exporter of a file is waited for, and nothing is lost",
  () =>
    inDirectory(async (directory) => {
      const disk = `${directory}/disk`;
      await does("truncate", ["-s", "32M", disk]);
      let exporter = await Exporter.start(["--file", disk]);
      try {
        await using server = await NbdServer.start(exporter, `${directory}/s`, ["--on-loss", "replay"]);
        const fio = does(
          "fio",
          verifying(server.uri(), "--time_based", `--runtime=${LONG ? 60 : 8}`),
          directory,
        );
        let running = true;
        fio.finally(() => running = false).catch(() => {});
        const { port } = exporter;
        let kills = 0;
        for (let i = 0; i < (LONG ? 20 : 2); i++) {
          await server.until(/"writes":[1-9]/);
          await sleep(500);
          if (!running) break;
          kills++;
          await exporter.end("SIGKILL");
          await sleep(300);
          exporter = await Exporter.start(["--file", disk], port);
        }
        await fio;
        const { counters } = lastJson((await server.end()).out);
        assert.ok(
          counters.link_losses > 0 && counters.link_losses <= kills,
          `${kills} ${counters.link_losses}`,
        );
        assert.ok(counters.replayed > 0);
        assert.equal(counters.failed_by_loss, 0);
        assert.equal(counters.errors, 0);
      } finally {
        await exporter.end();
      }
    }),
);

needs(["nbd"]).test(
  "fail: requests under way fail with the exporter, later ones work with the next",
  () =>
    inDirectory(async (directory) => {
      const [disk, image] = [`${directory}/disk`, `${directory}/a.img`];
      await does("truncate", ["-s", "64M", disk]);
      await makeImage(image, 64);
      let exporter = await Exporter.start(["--file", disk]);
      try {
        await using server = await NbdServer.start(exporter, `${directory}/s`, ["--reconnect", "3s"]);
        const fio = attempt("fio", verifying(server.uri(), "--time_based", "--runtime=10"), directory);
        await server.until(/"writes":[1-9]/);
        await exporter.end("SIGKILL");
        const ended = await fio;
        assert.notEqual(ended.status, 0, ended.out);
        exporter = await Exporter.start(["--file", disk], exporter.port);
        // fio may have gone on until everything failed, which ends with the next link.
        await server.until(/"links":1,"link_losses":1/);
        await does("nbdcopy", ["--flush", image, server.uri()]);
        await does("cmp", [image, disk]);
        const { counters } = lastJson((await server.end()).out);
        assert.equal(counters.link_losses, 1);
        assert.ok(counters.failed_by_loss > 0);
      } finally {
        await exporter.end();
      }
    }),
);

for (const mode of ["replay", "fail"] as const) {
  needs(["nbd"]).test(
    `${mode}: memory that has come back empty is not served`,
    () =>
      inDirectory(async (directory) => {
        let exporter = await Exporter.start(["--size", "4MiB"]);
        try {
          await using server = await NbdServer.start(exporter, `${directory}/s`, ["--on-loss", mode]);
          await does("qemu-io", ["-f", "raw", server.uri(), "-c", "write -P 1 0 1M"]);
          await exporter.end("SIGKILL");
          exporter = await Exporter.start(["--size", "4MiB"], exporter.port);
          const read = await attempt("qemu-io", ["-f", "raw", server.uri(), "-c", "read 0 1M"]);
          assert.notEqual(read.status + (/error|fail/i.test(read.out + read.err) ? 1 : 0), 0);
          assert.doesNotMatch(read.out, /read 1048576\/1048576/);
          for (let i = 0;; i++) {
            const { status, err } = await attempt("nbdinfo", [server.uri()]);
            if (status !== 0) {
              assert.match(err, /server replied with error to opt_go/);
              break;
            }
            assert.ok(i < 200, "it is served still");
            await sleep(50);
          }
        } finally {
          await exporter.end();
        }
      }),
  );
}

needs(["nbd"]).test(
  "requests fail once an exporter has been away for too long, and work when it is back",
  () =>
    inDirectory(async (directory) => {
      const disk = `${directory}/disk`;
      await does("truncate", ["-s", "1M", disk]);
      let exporter = await Exporter.start(["--file", disk]);
      try {
        // deno-fmt-ignore
        await using server = await NbdServer.start(exporter, `${directory}/s`, ["--on-loss", "replay", "--reconnect", "300ms"]);
        await exporter.end();
        const io = (...commands: string[]) =>
          attempt("qemu-io", ["-f", "raw", server.uri(), ...commands.flatMap((each) => ["-c", each])]);
        assert.match(JSON.stringify(await io("write -P 3 0 64k")), /Input\/output error/);
        exporter = await Exporter.start(["--file", disk], exporter.port);
        await server.until(/"links":1,"link_losses":1/);
        assert.match(
          (await io("write -P 3 0 64k", "read -P 3 0 64k")).out,
          /wrote 65536\/65536[^]*read 65536\/65536/,
        );
      } finally {
        await exporter.end();
      }
    }),
);

const OPTION = (kind: number, data: number[] = [], length = data.length) => [
  ...new TextEncoder().encode("IHAVEOPT"),
  ...[24, 16, 8, 0].map((shift) => kind >>> shift & 255),
  ...[24, 16, 8, 0].map((shift) => length >>> shift & 255),
  ...data,
];

async function dial(server: NbdServer): Promise<Deno.UnixConn> {
  const conn = await Deno.connect({ transport: "unix", path: server.socket });
  await conn.write(new Uint8Array([0, 0, 0, 3]));
  return conn;
}

/** Writes until the peer stops taking it, for a while, or hangs up. */
async function flood(conn: Deno.Conn, bytes: Uint8Array, ms: number): Promise<void> {
  const until = performance.now() + ms;
  try {
    while (performance.now() < until) {
      if (await Promise.race([conn.write(bytes), sleep(ms)]) === undefined) return;
    }
  } catch {
    // It hung up.
  }
}

needs(["nbd"]).test(
  "hostile clients are dropped or wait, and others go on",
  () =>
    inDirectory(async (directory) => {
      await using exporter = await Exporter.start(["--size", "8MiB"]);
      await using server = await NbdServer.start(exporter, `${directory}/s`);
      const go = new Uint8Array([0, 0, 0, 3, ...OPTION(7, [0, 0, 0, 0, 0, 0])]);
      const request = (type: number, length: number) => {
        const bytes = new Uint8Array(28);
        const view = new DataView(bytes.buffer);
        view.setUint32(0, 0x25609513);
        view.setUint16(6, type);
        view.setUint32(24, length);
        return bytes;
      };
      const open: Deno.Conn[] = [];
      for (
        const bytes of [
          new Uint8Array(1 << 16).fill(0x41),
          new Uint8Array(OPTION(3)), // LIST without end, whose answers nobody reads
          new Uint8Array(OPTION(99, [], 0xffffffff)),
          new Uint8Array(OPTION(1, [], 0x7fffffff)),
          new Uint8Array(OPTION(7, [0, 0, 255, 255, 0, 0])),
          new Uint8Array(OPTION(10, [0, 0, 0, 0, 255, 255, 255, 255])),
        ]
      ) {
        const conn = await dial(server);
        open.push(conn);
        await flood(conn, bytes, 200);
      }
      // Reads without end, never taken; writes that stop in the middle; nonsense after the handshake.
      for (
        const [bytes, ms] of [[request(0, 8 * MIB), 300], [request(1, 32 * MIB), 100], [
          request(77, 5),
          300,
        ]] as const
      ) {
        const conn = await Deno.connect({ transport: "unix", path: server.socket });
        open.push(conn);
        await conn.write(go);
        await flood(conn, bytes, ms);
      }
      const torn = await Deno.connect({ transport: "unix", path: server.socket });
      await torn.write(go);
      await torn.write(new Uint8Array([...request(1, MIB), ...new Uint8Array(70_000)]));
      torn.close();

      await does("nbdinfo", [server.uri()]);
      await does("fio", verifying(server.uri(), "--size=4m"), directory);
      for (const conn of open) conn.close();
      const { counters } = lastJson((await server.end()).out);
      assert.ok(counters.refused > 3);
    }),
);

Deno.test("mistakes are told in one line", () =>
  inDirectory(async (directory) => {
    const block = (...args: string[]) => runRackwire(["krping", "block", ...args, "--engine", "soft"]);
    const socket = `${directory}/s`;
    failed(await block("export", "--file", `${directory}/nothing`), 1, /No such file/);
    failed(await block("export", "--file", directory), 1, /neither a regular file|Is a directory/);
    failed(await block("export"), 2, /nothing to export/);
    failed(await block("serve", "127.0.0.1:9"), 2, /--unix/);
    failed(
      await block("serve", "127.0.0.1:9", "--unix", socket, "--timeout", "3s"),
      1,
      /nothing listens|refused/i,
    );
    assert.equal(await fileOf(socket), undefined);

    const disk = `${directory}/disk`;
    await Deno.writeFile(disk, new Uint8Array(5000));
    await using exporter = await Exporter.start(["--file", disk]);
    failed(await block("export", "--file", disk, "--port", "0"), 1, /in use by another exporter/);
    await Deno.writeTextFile(socket, "mine");
    failed(await block("serve", exporter.target, "--unix", socket), 1, /exists/);
    assert.equal(await Deno.readTextFile(socket), "mine");

    // A krping server takes any client, and is no exporter.
    await using krping = new ServerProcess(
      ["krping", "server", "--addr", "127.0.0.1", "--port", "0", "--engine", "soft", "--json"],
    );
    const [, port] = await krping.until(/"port":(\d+)/);
    failed(await block("serve", `127.0.0.1:${port}`, "--unix", `${directory}/t`), 1, /no exporter/);
    ok(
      await runRackwire(["krping", "client", exporter.target, "--count", "1", "--engine", "soft"]).then((
        finished,
      ) => ({
        ...finished,
        status: finished.status === 1 ? 0 : 1,
      })),
    );
  }));
