// SPDX-License-Identifier: BSD-2-Clause
// Checks every file of the project for a licence line and for its length.

const MAX_LINES = 800;
/** Files that cannot hold a comment, or hold the licences themselves. */
const NO_LICENCE_LINE =
  /(^LICENSE|\.json$|\.lock$|\.svg$|\.pcap(ng)?$|\.bin$|\.png$|^tests\/.*\/(corpus|data)\/)/;
const NO_LENGTH_LIMIT =
  /(^LICENSE|\.lock$|\.snap$|\.svg$|\.pcap(ng)?$|\.bin$|\.png$|^tests\/.*\/(corpus|data)\/)/;

const listed = await new Deno.Command("git", {
  args: ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
}).output();
if (!listed.success) {
  console.error(new TextDecoder().decode(listed.stderr).trim());
  Deno.exit(1);
}

const problems: string[] = [];
for (const path of new TextDecoder().decode(listed.stdout).split("\0")) {
  if (path === "") continue;
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) continue;
    throw error;
  }
  const lines = text.split("\n");
  const head = lines.slice(0, 5).join("\n");
  if (!NO_LICENCE_LINE.test(path) && !path.endsWith(".snap") && !head.includes("SPDX-License-Identifier: ")) {
    problems.push(`${path}: no SPDX-License-Identifier in the first five lines`);
  }
  if (!NO_LENGTH_LIMIT.test(path) && lines.length - 1 > MAX_LINES) {
    problems.push(`${path}: ${lines.length - 1} lines, more than ${MAX_LINES}`);
  }
}

for (const problem of problems) console.error(problem);
Deno.exit(problems.length === 0 ? 0 : 1);
