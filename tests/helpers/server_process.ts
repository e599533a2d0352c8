// SPDX-License-Identifier: BSD-2-Clause
// A server of rackwire as a process of its own, and how commands end.

import assert from "node:assert/strict";
import { type Finished, type RunOptions, startRackwire } from "./cli.ts";

/** Reads what the process writes; ends it when it goes out of scope. */
export class ServerProcess implements AsyncDisposable {
  readonly child: Deno.ChildProcess;
  #out = "";
  #err = "";
  readonly #reading: Promise<unknown>;
  #ended = false;

  constructor(args: string[], options?: RunOptions) {
    this.child = startRackwire(args, options);
    const read = async (stream: ReadableStream<Uint8Array>, keep: (text: string) => void) => {
      for await (const text of stream.pipeThrough(new TextDecoderStream() as never)) keep(text as never);
    };
    this.#reading = Promise.all([
      read(this.child.stdout, (text) => this.#out += text),
      read(this.child.stderr, (text) => this.#err += text),
    ]);
  }

  /** What it has written so far. */
  get out(): string {
    return this.#out;
  }

  /** Waits until its output matches. */
  async until(what: RegExp): Promise<RegExpExecArray> {
    let ended = false;
    this.child.status.then(() => ended = true);
    for (;;) {
      const match = what.exec(this.#out);
      if (match) return match;
      assert.ok(!ended, `the server ended: ${this.#out}${this.#err}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async end(signal: Deno.Signal = "SIGINT"): Promise<Finished> {
    if (!this.#ended) {
      try {
        this.child.kill(signal);
      } catch {
        // It has ended by itself.
      }
    }
    this.#ended = true;
    const { code } = await this.child.status;
    await this.#reading;
    return { status: code, out: this.#out, err: this.#err };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}

/** The output of a command that has worked. */
export function ok({ status, out, err }: Finished): string {
  assert.equal(status, 0, `${out}${err}`);
  return out;
}

/** A command that fails with one line, perhaps a hint, and no more. */
export function failed(finished: Finished, status: number, text: RegExp): void {
  assert.equal(finished.status, status, `${finished.out}${finished.err}`);
  assert.match(finished.err, text);
  const lines = finished.err.split("\n").filter((line) => !/ \d+ %/.test(line));
  assert.match(lines.join("\n"), /^rackwire: .*\n(hint: .*\n( .*\n)?)?$/);
}
