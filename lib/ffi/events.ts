// SPDX-License-Identifier: BSD-2-Clause
// Events from C threads, read from the pipe of csrc/common/event_pipe.h.

import { defineStruct } from "./struct.ts";

/** Mirrors `struct rackwire_event`; each library gives `kind` and `detail` their meaning. */
export const eventStruct = defineStruct("rackwire_event", {
  kind: "u32",
  detail: "u32",
  value: "u64",
});

export interface PipeEvent {
  kind: number;
  detail: number;
  value: bigint;
}

/**
 * The events that C sends, in order, until C closes the pipe.
 * @param fd the pipe's read end, which stays C's; this opens its own
 *
 * A read waits on a thread of Deno's, so the loop ends only when C closes the pipe: stop the engine
 * to leave it.
 */
export async function* readEvents(fd: number): AsyncGenerator<PipeEvent, void, void> {
  using file = await Deno.open(`/dev/fd/${fd}`, { read: true });
  const buffer = new Uint8Array(eventStruct.size * 256);
  let filled = 0;
  for (;;) {
    const n = await file.read(buffer.subarray(filled));
    if (n === null) return;
    filled += n;
    let used = 0;
    for (; used + eventStruct.size <= filled; used += eventStruct.size) {
      yield eventStruct.decode(buffer, used);
    }
    buffer.copyWithin(0, used, filled);
    filled -= used;
  }
}
