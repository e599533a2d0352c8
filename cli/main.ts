// SPDX-License-Identifier: BSD-2-Clause
// The rackwire command.

import { processContext } from "./context.ts";
import { run } from "./program.ts";

Deno.exit(await run(Deno.args, processContext(Deno.args)));
