// SPDX-License-Identifier: BSD-2-Clause
// The original krping's comma string, right and wrong.

import assert from "node:assert/strict";
import { fromCommaString } from "../../cli/commands/krping/index.ts";
import { RackwireError } from "../../lib/ffi/errors.ts";
import { isCommaCommand, parseCommaCommand } from "../../lib/krping/comma.ts";

Deno.test("the strings of krping's own README are read", () => {
  assert.deepEqual(parseCommaCommand("server,addr=192.168.69.127,port=9999"), {
    role: "server",
    host: "192.168.69.127",
    port: 9999,
    flags: new Set(),
  });
  assert.deepEqual(parseCommaCommand("client,addr=192.168.69.127,port=9999,count=100,verbose,validate"), {
    role: "client",
    host: "192.168.69.127",
    port: 9999,
    count: 100,
    flags: new Set(["verbose", "validate"]),
  });
  assert.deepEqual(
    parseCommaCommand(" client , addr6=fe80::1%eth0 , port=1 , tx-depth=8 , bw , mem_mode=reg "),
    {
      role: "client",
      host: "fe80::1",
      zone: "eth0",
      port: 1,
      txdepth: 8,
      mem_mode: "reg",
      flags: new Set(["bw"]),
    },
  );
});

Deno.test("every mistake is pointed at with its column", () => {
  const cases: [text: string, column: number, message: RegExp][] = [
    ["client,addr=1.2.3.4,port=99999", 26, /port is a whole number from 0 to 65535/],
    ["client,addr=1.2.3.4,prt=9", 21, /no option "prt"/],
    ["client,addr=1.2.3,port=9", 13, /IPv4 address/],
    ["client,addr6=10.0.0.1,port=9", 14, /IPv6 address/],
    ["client,,addr=1.2.3.4", 8, /missing between commas/],
    ["client,server,addr=1.2.3.4", 8, /cannot be both/],
    ["client,addr=1.2.3.4,port=9,port=10", 28, /twice/],
    ["client,addr=1.2.3.4,port=9,size=0", 33, /size is a whole number from 1/],
    ["client,addr=1.2.3.4,port=9,size=1099511627776", 33, /size is a whole number/],
    ["client,addr=1.2.3.4,port=9,count", 33, /count needs a value/],
    ["client,addr=1.2.3.4,port=9,verbose=1", 35, /verbose takes no value/],
    ["client,addr=1.2.3.4,port=9,wlat,bw", 33, /only one of/],
    ["client,addr=1.2.3.4,port=9,mem_mode=mw", 37, /dma or reg/],
    ["client,addr=1.2.3.4,port=9,fr", 28, /not supported/],
    ["addr=1.2.3.4,port=9", 1, /neither client nor server/],
    ["client,port=9", 14, /needs addr/],
    ["client,addr=1.2.3.4", 20, /needs port/],
    ["client,addr=1.2.3.4,port=9,", 28, /missing/],
  ];
  for (const [text, column, message] of cases) {
    assert.throws(() => parseCommaCommand(text), (error) => {
      assert.ok(error instanceof RackwireError, text);
      assert.equal(error.exitStatus, 2);
      assert.match(error.message, new RegExp(`^column ${column} of `), `${text}: ${error.message}`);
      assert.match(error.message, message);
      // The hint's second line has its mark under that column.
      assert.equal(error.hint!.split("\n")[1]!.indexOf("^") - "hint: ".length, column - 1);
      return true;
    });
  }
});

Deno.test("the string becomes the arguments of the command", () => {
  const args = (text: string) => fromCommaString(["krping", text, "--json"]);
  assert.deepEqual(args("client,addr=10.0.0.2,port=9999,count=10,size=128,validate,server_inv"), [
    "krping",
    "client",
    "10.0.0.2:9999",
    "--size",
    "128",
    "--count",
    "10",
    "--validate",
    "--server-inv",
    "--json",
  ]);
  assert.deepEqual(args("server,addr=0.0.0.0,port=9999,validate,wlat"), [
    "krping",
    "server",
    "--port",
    "9999",
    "--once",
    "--json",
  ]);
  assert.deepEqual(args("client,addr6=fe80::1%eth0,port=9,bw,txdepth=8").slice(0, 3), [
    "krping",
    "client",
    "[fe80::1%eth0]:9",
  ]);
  assert.deepEqual(fromCommaString(["krping", "client", "a:1"]), ["krping", "client", "a:1"]);
  assert.ok(!isCommaCommand("server") && !isCommaCommand("stat") && isCommaCommand("addr=1.2.3.4,client"));
});
