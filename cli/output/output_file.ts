// SPDX-License-Identifier: BSD-2-Clause
// A file of the user's choosing that is written at the end of a run, but found unwritable at its start.

import { RackwireError } from "../../lib/ffi/errors.ts";

export class OutputFile implements Disposable {
  readonly #path: string;
  readonly #created: boolean;
  #written = false;

  private constructor(path: string, created: boolean) {
    this.#path = path;
    this.#created = created;
  }

  /**
   * Makes sure that the file can be written; what it holds stays until then.
   * @throws RackwireError UNWRITABLE with exit status 2
   */
  static prepare(path: string | undefined): OutputFile | undefined {
    if (path === undefined) return undefined;
    try {
      try {
        Deno.openSync(path, { write: true, createNew: true }).close();
        return new OutputFile(path, true);
      } catch (error) {
        if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
        Deno.openSync(path, { write: true }).close();
        return new OutputFile(path, false);
      }
    } catch (cause) {
      const why = cause instanceof Deno.errors.NotCapable
        ? "this program may not write there"
        : cause instanceof Error
        ? cause.message.replace(/ \(os error .*$/, "")
        : String(cause);
      throw new RackwireError("UNWRITABLE", `cannot write ${path}: ${why}`, {
        hint: "name a file in a directory that exists and is yours",
        exitStatus: 2,
        cause,
      });
    }
  }

  write(text: string): void {
    try {
      Deno.writeTextFileSync(this.#path, text);
    } catch (cause) {
      throw new RackwireError("UNWRITABLE", `cannot write ${this.#path}`, { cause });
    }
    this.#written = true;
  }

  /** Leaves no empty file behind a run that failed. */
  [Symbol.dispose](): void {
    if (this.#written || !this.#created) return;
    try {
      Deno.removeSync(this.#path);
    } catch {
      // Somebody else removed it.
    }
  }
}
