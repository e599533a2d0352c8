// SPDX-License-Identifier: BSD-2-Clause
// Where control sockets live: a directory that only its user can enter.

import { RackwireError } from "../ffi/errors.ts";

/** The directory's path, without touching it. RACKWIRE_RUNTIME_DIR, which build/bin/rackwire sets, decides. */
export function runtimeDirectoryPath(): string {
  const given = Deno.env.get("RACKWIRE_RUNTIME_DIR");
  if (given) return given;
  if (Deno.uid() === 0) return "/run/rackwire";
  const session = Deno.env.get("XDG_RUNTIME_DIR");
  return session ? `${session}/rackwire` : `/tmp/rackwire-${Deno.uid()}`;
}

/**
 * Makes the directory where it is missing and returns its path.
 * @throws RackwireError UNSAFE_DIRECTORY when somebody else made it or can write to it
 */
export function runtimeDirectory(): string {
  const path = runtimeDirectoryPath();
  try {
    Deno.mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) {
      throw new RackwireError("UNSAFE_DIRECTORY", `cannot make the directory ${path}`, {
        hint: "set RACKWIRE_RUNTIME_DIR to a new directory below one that is yours",
        cause: error,
      });
    }
  }
  // lstat, so that a link somebody planted in /tmp is not followed.
  const found = Deno.lstatSync(path);
  if (!found.isDirectory || found.uid !== Deno.uid() || ((found.mode ?? 0) & 0o077) !== 0) {
    throw new RackwireError("UNSAFE_DIRECTORY", `${path} is not a directory of yours alone`, {
      hint: `look who made it, then remove it, or set RACKWIRE_RUNTIME_DIR to another`,
    });
  }
  return path;
}
