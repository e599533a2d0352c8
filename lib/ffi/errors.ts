// SPDX-License-Identifier: BSD-2-Clause
// The one error class: what happened, why, and what to do next.

import { ERRNO_NAMES } from "./errno.ts";

/** 1 the run failed, 2 wrong usage, 3 this machine cannot do it, 130 interrupted. */
export type ExitStatus = 1 | 2 | 3 | 130;

export interface RackwireErrorOptions {
  /** What a person can do about it: one sentence, or a command to type. */
  hint?: string;
  /** The status a command ends with; 1 unless given. */
  exitStatus?: ExitStatus;
  cause?: unknown;
}

/** Every failure that lib/ reports on purpose. */
export class RackwireError extends Error {
  override readonly name = "RackwireError";
  /** A stable identifier for programs: an errno name such as "EADDRINUSE", or an upper-case word. */
  readonly code: string;
  readonly hint: string | undefined;
  readonly exitStatus: ExitStatus;

  constructor(code: string, message: string, options: RackwireErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.exitStatus = options.exitStatus ?? 1;
  }
}

const HINTS: Record<string, string> = {
  EACCES: "run it as root, or give the process the capability it needs",
  EPERM: "run it as root, or give the process the capability it needs",
  EADDRINUSE: "another program holds this address and port; choose another port or stop it",
  EADDRNOTAVAIL: "the address is not one of this machine's; `ip address` lists them",
  ECONNREFUSED: "nothing listens there; start the server first and check the port",
  ETIMEDOUT: "check that the peer runs and that no firewall is between",
  EHOSTUNREACH: "there is no route to the host; check the address and `ip route`",
  ENETUNREACH: "there is no route to the host; check the address and `ip route`",
  EMFILE: "raise the limit on open files: ulimit -n",
  ENOMEM: "use fewer or smaller buffers, or free memory",
};

const CANNOT_DO_THIS = new Set([
  "EACCES",
  "EAFNOSUPPORT",
  "ENOSYS",
  "EOPNOTSUPP",
  "EPERM",
  "EPROTONOSUPPORT",
  "ESOCKTNOSUPPORT",
]);

/** "EADDRINUSE" for 98 or -98; "E12345" for a number Linux does not define. */
export function errnoName(errno: number): string {
  return ERRNO_NAMES[Math.abs(errno)]?.[0] ?? `E${Math.abs(errno)}`;
}

/** "Address already in use" for 98 or -98. */
export function errnoText(errno: number): string {
  return ERRNO_NAMES[Math.abs(errno)]?.[1] ?? `error ${Math.abs(errno)}`;
}

/**
 * The error for a negative errno that C returned.
 * @param what what was being done, as the start of a sentence: "cannot bind 127.0.0.1:4000"
 * @param why C's own message, which is preferred to the errno's text
 */
export function errorFromErrno(
  errno: number,
  what: string,
  why = "",
  options: RackwireErrorOptions = {},
): RackwireError {
  const code = errnoName(errno);
  return new RackwireError(code, `${what}: ${why === "" ? errnoText(errno) : why}`, {
    hint: HINTS[code],
    exitStatus: CANNOT_DO_THIS.has(code) ? 3 : 1,
    ...options,
  });
}

/** Memory for the message C gives with an error: pass `bytes` and `bytes.length`. */
export class MessageBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;

  constructor(length = 256) {
    this.bytes = new Uint8Array(length);
  }

  /** What C wrote, up to the terminating zero. */
  text(): string {
    const end = this.bytes.indexOf(0);
    return new TextDecoder().decode(end < 0 ? this.bytes : this.bytes.subarray(0, end));
  }
}

/** Returns a result that is not negative, and throws the error of one that is. */
export function check<T extends number | bigint>(
  result: T,
  what: string,
  message?: MessageBuffer,
  options?: RackwireErrorOptions,
): T {
  if (result >= 0) return result;
  throw errorFromErrno(Number(result), what, message?.text(), options);
}
