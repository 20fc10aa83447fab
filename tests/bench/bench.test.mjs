/*
 * The bench itself, in short: it runs through, no socket is closed or stalled, and every figure is there; or it says
 * why it cannot.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { tree } from "../system.mjs";

const built = existsSync(join(tree, "build/normal/bench_load"));

it("a short bench of the module", { skip: process.env.SANITIZE ? "figures are for the normal build" : !built && "not built" }, () => {
  const table = execFileSync(join(tree, "tests/bench/module.mjs"), {
    env: { ...process.env, BENCH_SECONDS: "0.1", BENCH_ROUNDS: "1", BENCH_SOCKETS: "500" },
    encoding: "utf8",
    timeout: 120000,
  });
  assert.equal(table.match(/^ {2}\d+ .*\d\.\d\d$/gm)?.length, 5 + 2, table);
  assert.equal(table.match(/^ {2}wss?, .* \d+ +\d+$/gm)?.length, 4, table);
  assert.match(table, /wrong frame: 0\n/);
});

it("a bench of the module that may not open files enough says so", { skip: !built && "not built" }, () => {
  const may_not = process.getuid() === 0 ? ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"] : [];
  const said = spawnSync("prlimit", ["--nofile=1024:1024", ...may_not, join(tree, "tests/bench/module.mjs")], { encoding: "utf8", timeout: 60000 });
  assert.equal(said.stderr, "bench: 11000 open files are needed, the limit is 1024 (ulimit -Hn), and it may not be raised here\n");
  assert.equal(said.stdout, "");
  assert.equal(said.status, 1);
});

it("a short bench", { skip: process.env.SANITIZE ? "figures are for the normal build" : !built && "not built" }, () => {
  const table = execFileSync(join(tree, "tests/bench/run"), {
    env: { ...process.env, BENCH_SECONDS: "0.1", BENCH_ROUNDS: "1" },
    encoding: "utf8",
    timeout: 120000,
  });
  for (const sockets of [1, 16, 64, 256]) {
    const line = table.split("\n").find((row) => row.startsWith(`  ${sockets} `));
    const rates = line.match(/\d+(?=  \d)/g).map(Number);
    assert.equal(rates.length, 3, line);
    assert.ok(rates.every((rate) => rate > 0), line);
  }
  assert.match(table, /\nsockets closed 0, stalled 0, with a wrong frame or version 0\n$/);
});
