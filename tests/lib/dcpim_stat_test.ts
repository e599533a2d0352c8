// SPDX-License-Identifier: BSD-2-Clause
// Asking engines over their control sockets, with stand-ins that answer well, badly and not at all.

import assert from "node:assert/strict";
import { dcpimStat } from "../../lib/dcpim/stat.ts";
import { RackwireError } from "../../lib/ffi/errors.ts";

/** Answers each request on a control socket with this text, in pieces. */
function answering(path: string, text: string): { asked: string[]; close(): void } {
  const listener = Deno.listen({ transport: "unix", path });
  const asked: string[] = [];
  (async () => {
    for await (const connection of listener) {
      const buffer = new Uint8Array(64);
      const n = await connection.read(buffer);
      asked.push(new TextDecoder().decode(buffer.subarray(0, n ?? 0)));
      const bytes = new TextEncoder().encode(text);
      for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at, at + 1000));
      connection.close();
    }
  })();
  return { asked, close: () => listener.close() };
}

async function withDirectory(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("every engine is asked, in order of process and number, however long its answer", async () => {
  await withDirectory(async (dir) => {
    const peers = Array.from({ length: 2000 }, (_, i) => ({ address: `10.0.${i >> 8}.${i & 255}:4000` }));
    const sockets = [["dcpim-77-1.sock", 77, []], ["dcpim-77.sock", 77, peers], ["dcpim-5.sock", 5, []]]
      .map(([name, pid, peers]) => answering(`${dir}/${name}`, JSON.stringify({ pid, peers, name })));
    await Deno.writeTextFile(`${dir}/other.sock`, "");
    const { engines, silent } = await dcpimStat(undefined, dir);
    assert.deepEqual(
      (engines as unknown as { name: string }[]).map(({ name }) => name),
      ["dcpim-5.sock", "dcpim-77.sock", "dcpim-77-1.sock"],
    );
    assert.equal(engines[1]!.peers.length, 2000);
    assert.deepEqual(silent, []);
    assert.deepEqual(sockets.flatMap(({ asked }) => asked), ["stat\n", "stat\n", "stat\n"]);
    const one = await dcpimStat(5, dir);
    assert.equal(one.engines.length, 1);
    for (const socket of sockets) socket.close();
  });
});

Deno.test("an answer that makes no sense is told apart from none, and neither hides the others", async () => {
  await withDirectory(async (dir) => {
    const good = answering(`${dir}/dcpim-1.sock`, JSON.stringify({ pid: 1 }));
    const bad = answering(`${dir}/dcpim-2.sock`, '{"pid": 2, "cut');
    // A process that was killed leaves its socket behind.
    answering(`${dir}/gone`, "").close();
    const listener = Deno.listen({ transport: "unix", path: `${dir}/x` });
    await Deno.rename(`${dir}/x`, `${dir}/dcpim-3.sock`);
    listener.close();
    const { engines, silent } = await dcpimStat(undefined, dir);
    assert.deepEqual(engines.map(({ pid }) => pid), [1]);
    assert.deepEqual(silent.map(({ pid }) => pid), [2]);
    good.close();
    bad.close();
  });
});

Deno.test("an engine that hangs is not waited for for ever", async () => {
  await withDirectory(async (dir) => {
    const listener = Deno.listen({ transport: "unix", path: `${dir}/dcpim-4.sock` });
    const accepting = listener.accept();
    const { engines, silent } = await dcpimStat(undefined, dir);
    assert.deepEqual(engines, []);
    assert.match(silent[0]!.why, /^no answer within/);
    (await accepting).close();
    listener.close();
  });
});

Deno.test("a process without an engine, and a directory that is not there", async () => {
  await withDirectory(async (dir) => {
    assert.deepEqual(await dcpimStat(undefined, `${dir}/none`), { engines: [], silent: [] });
    await assert.rejects(
      dcpimStat(1, dir),
      (error) => error instanceof RackwireError && error.code === "NO_SUCH_ENGINE" && Boolean(error.hint),
    );
  });
});
