// SPDX-License-Identifier: BSD-2-Clause
// Progress of anything that takes over two seconds.

import type { Output } from "../context.ts";

const QUIET_MS = 2000;
const REDRAW_MS = 100;
/** Where the output is no terminal, a line now and then shows a log's reader that the work goes on. */
const LINE_MS = 10_000;
const BAR = 24;

export interface ProgressOptions {
  label: string;
  /** What counts as done; without it there is no bar. */
  total?: number;
  quiet?: boolean;
  /** Milliseconds; for tests. */
  now?: () => number;
}

/** Shows itself only after two seconds, redraws in place on a terminal, and leaves nothing behind. */
export class Progress {
  readonly #output: Output;
  readonly #options: ProgressOptions;
  readonly #now: () => number;
  readonly #began: number;
  #shown: number | undefined;

  constructor(output: Output, options: ProgressOptions) {
    this.#output = output;
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#began = this.#now();
  }

  /** Call as often as is handy; most calls do nothing. */
  update(done: number, note = ""): void {
    const now = this.#now();
    if (this.#options.quiet || now - this.#began < QUIET_MS) return;
    const pause = this.#output.isTerminal ? REDRAW_MS : LINE_MS;
    if (this.#shown !== undefined && now - this.#shown < pause) return;
    this.#shown = now;
    const { label, total } = this.#options;
    const share = total === undefined ? undefined : Math.min(1, done / total);
    const percent = share === undefined ? `${done}` : `${Math.floor(share * 100)} %`;
    const text = note === "" ? `${label} ${percent}` : `${label} ${percent} ${note}`;
    if (!this.#output.isTerminal) {
      this.#output.write(`${text}\n`);
      return;
    }
    const filled = share === undefined ? 0 : Math.round(share * BAR);
    const bar = share === undefined ? "" : `${"█".repeat(filled)}${"░".repeat(BAR - filled)} `;
    this.#output.write(`\r\x1b[K${`${bar}${text}`.slice(0, this.#output.columns - 1)}`);
  }

  /** Clears the line; also at the end of a `using` block. */
  finish(): void {
    if (this.#shown !== undefined && this.#output.isTerminal) this.#output.write("\r\x1b[K");
    this.#shown = undefined;
  }

  [Symbol.dispose](): void {
    this.finish();
  }
}
