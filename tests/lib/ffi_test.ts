// SPDX-License-Identifier: BSD-2-Clause
// lib/ffi against a library of threads that write without pause (fixture.c).

import assert from "node:assert/strict";
import { check, errnoName, errorFromErrno, MessageBuffer, RackwireError } from "../../lib/ffi/errors.ts";
import { eventStruct, readEvents } from "../../lib/ffi/events.ts";
import { cString, defineLibrary, libraryPath, loadLibrary } from "../../lib/ffi/library.ts";
import { histogramStruct, SharedStats, statsHeaderStruct } from "../../lib/ffi/shared_stats.ts";
import { compareLibrary } from "../abi/compare.ts";
import { exportedFunctions, readDebugInfo } from "../abi/dwarf.ts";

const fixture = defineLibrary({
  name: "fixture",
  abiVersion: 7,
  symbols: {
    rackwire_fixture_abi_version: { parameters: [], result: "u32" },
    rackwire_fixture_start: {
      parameters: [
        "buffer", // void *memory
        "usize", // size_t length
      ],
      result: "i32", // int
    },
    rackwire_fixture_stop: {
      parameters: ["buffer"], // uint64_t *totals
      result: "i32", // int
    },
    rackwire_fixture_events: {
      parameters: ["u32"], // uint32_t count
      result: "i32", // int
    },
    rackwire_fixture_fail: {
      parameters: [
        "buffer", // char *message
        "usize", // size_t length
      ],
      result: "i32", // int
    },
  },
  structs: [statsHeaderStruct, histogramStruct, eventStruct],
});

const directory = `${Deno.cwd()}/build/tests/lib`;

function withLibdir<T>(path: string, work: () => T): T {
  const before = Deno.env.get("RACKWIRE_LIBDIR");
  Deno.env.set("RACKWIRE_LIBDIR", path);
  try {
    return work();
  } finally {
    if (before === undefined) Deno.env.delete("RACKWIRE_LIBDIR");
    else Deno.env.set("RACKWIRE_LIBDIR", before);
  }
}

const lib = withLibdir(directory, () => loadLibrary(fixture));

Deno.test("the fixture, the statistics' layout and the events' layout match C", async () => {
  const path = `${directory}/librackwire_fixture.so`;
  assert.deepEqual(compareLibrary(fixture, await readDebugInfo(path), await exportedFunctions(path)), []);
});

Deno.test("counters that must agree do, and only grow, while two threads write", async () => {
  const stats = new SharedStats({ counters: ["packets", "replies"], histograms: ["rtt"], blocks: 2 });
  assert.deepEqual(stats.counters(), { packets: 0n, replies: 0n });
  assert.equal(stats.histogram("rtt").count, 0);
  check(lib.rackwire_fixture_start(stats.memory, BigInt(stats.memory.length)), "cannot start the fixture");
  const totals = new BigUint64Array(4);
  try {
    let last = 0n;
    let lastCount = 0;
    for (let i = 0; i < 200; i++) {
      const { packets, replies } = stats.counters();
      assert.equal(packets, replies);
      assert.ok(packets >= last);
      last = packets;
      if (i % 20 !== 0) continue;
      const { count, min, p50, max } = stats.histogram("rtt").summary();
      assert.ok(count >= lastCount && min <= p50 && p50 <= max);
      lastCount = count;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    assert.ok(last > 0n);
  } finally {
    lib.rackwire_fixture_stop(totals);
  }
  const { counters, histograms } = stats.snapshot();
  assert.equal(counters.packets, totals[0]);
  assert.equal(BigInt(histograms.rtt.count), totals[0]);
  assert.equal(histograms.rtt.mean, Number(totals[1]) / Number(totals[0]));
  assert.equal(BigInt(histograms.rtt.min), totals[2]);
  assert.equal(BigInt(histograms.rtt.max), totals[3]);
});

Deno.test("memory that is too small is refused by C and reported with its errno", () => {
  const small = new SharedStats({ counters: ["packets", "replies"], histograms: [], blocks: 2 });
  assert.throws(
    () =>
      check(
        lib.rackwire_fixture_start(small.memory, BigInt(small.memory.length)),
        "cannot start the fixture",
      ),
    (error) => error instanceof RackwireError && error.code === "ENOSPC",
  );
});

Deno.test("every event arrives once, in order, and closing the pipe ends the loop", async () => {
  const count = 20_000;
  const fd = check(lib.rackwire_fixture_events(count), "cannot send events");
  let next = 0;
  for await (const { kind, detail, value } of readEvents(fd)) {
    assert.deepEqual([kind, detail, value], [5, next, 10n * BigInt(next)]);
    next++;
  }
  assert.equal(next, count);
});

Deno.test("an error carries C's message, its code, a hint and the exit status", () => {
  const message = new MessageBuffer();
  const result = lib.rackwire_fixture_fail(message.bytes, BigInt(message.bytes.length));
  assert.throws(() => check(result, "cannot listen", message), (error) => {
    assert.ok(error instanceof RackwireError);
    assert.equal(error.message, "cannot listen: port 4000 is taken");
    assert.equal(error.code, "EADDRINUSE");
    assert.match(error.hint ?? "", /another port/);
    assert.equal(error.exitStatus, 1);
    return true;
  });
});

Deno.test("a missing privilege or protocol means that the machine cannot do this", () => {
  for (const errno of [1, 13, 38, 93, 94, 95, 97]) {
    assert.equal(errorFromErrno(-errno, "cannot").exitStatus, 3, errnoName(errno));
  }
  assert.equal(errorFromErrno(-111, "cannot connect").message, "cannot connect: Connection refused");
  assert.equal(errnoName(-9999), "E9999");
});

Deno.test("results that are not negative pass the check", () => {
  assert.equal(check(0, "x"), 0);
  assert.equal(check(12n, "x"), 12n);
});

Deno.test("a library that is missing, foreign or of another version is refused with status 3", async () => {
  const refused = (spec: Parameters<typeof loadLibrary>[0], path: string, code: string) =>
    assert.throws(
      () => withLibdir(path, () => loadLibrary(spec)),
      (error) =>
        error instanceof RackwireError && error.code === code && error.exitStatus === 3 && !!error.hint,
    );
  const dir = await Deno.makeTempDir();
  try {
    refused(fixture, dir, "LIBRARY_MISSING");
    await Deno.writeTextFile(`${dir}/librackwire_fixture.so`, "not a library");
    refused(fixture, dir, "LIBRARY_UNLOADABLE");
    await Deno.copyFile(`${directory}/librackwire_fixture.so`, `${dir}/librackwire_fixture2.so`);
    await Deno.remove(`${dir}/librackwire_fixture.so`);
    await Deno.rename(`${dir}/librackwire_fixture2.so`, `${dir}/librackwire_fixture.so`);
    refused({ ...fixture, abiVersion: 8 }, dir, "ABI_MISMATCH");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("libraries come from RACKWIRE_LIBDIR, or else from the checkout's build", () => {
  assert.equal(withLibdir("/opt/x", () => libraryPath("host")), "/opt/x/librackwire_host.so");
  assert.equal(withLibdir("", () => libraryPath("host")), `${Deno.cwd()}/build/lib/librackwire_host.so`);
});

Deno.test("text for C ends with a zero and holds no other", () => {
  assert.deepEqual(cString("ä"), new Uint8Array([0xc3, 0xa4, 0]));
  assert.throws(() => cString("a\0b"), RackwireError);
});
