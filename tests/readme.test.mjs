/*
 * The program in README.md is built and does what is said of it; the documents name what is there.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { Raw } from "./lib/raw.mjs";
import { startSystem, temporaryDir, tree } from "./system.mjs";

const read = (name) => readFileSync(join(tree, name), "utf8");

it("the targets and files that the documents name are there, and the Makefile's targets are in them", () => {
  const documents = ["README.md", "tests/README.md", "examples/php/README.md", "docs/gateway.md", "docs/bench.md"];
  const makefile = read("Makefile");
  const phony = new Set(makefile.match(/^\.PHONY: ((?:.*\\\n)*.*)/m)[1].split(/[\s\\]+/));
  const told = makefile.split("\n\n")[0];
  for (const name of documents) {
    const text = read(name);
    for (const [, target] of text.matchAll(/`make ([a-z][a-z-]*)/g)) assert.ok(phony.has(target), `${name}: make ${target}`);
    for (const [, file] of text.matchAll(/\]\(([^)#:]+)\)/g)) assert.ok(existsSync(join(tree, name, "..", file)), `${name}: ${file}`);
  }
  const named = read("README.md") + read("tests/README.md");
  for (const [, target] of told.matchAll(/make ([a-z][a-z-]*)/g)) assert.ok(new RegExp(`\\bmake ${target}\\b`).test(named), `make ${target} is told of nowhere`);
});

it("each row of the table beside Seance.Channel names a test that is there", () => {
  const rows = [...read("README.md").matchAll(/^\| .* \| `(tests\/[^`]+)`: (.*) \|$/gm)];
  assert.ok(rows.length > 40, `${rows.length} rows`);
  for (const [, file, name] of rows) assert.ok(read(file).replaceAll('\\"', '"').includes(name), `${file}: ${name}`);
});

it("the README's program counts", async () => {
  const source = read("README.md").match(/```c\n([^]*?)```/)[1];
  const base = temporaryDir();
  const app = join(base, "counter");
  let system;
  try {
    mkdirSync(app);
    writeFileSync(join(app, "counter.c"), source);
    execFileSync("make", ["-s", "program", `APP=${app}`, `SANITIZE=${process.env.SANITIZE ?? ""}`], { cwd: tree });
    system = await startSystem({ app });
    const raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
    raw.send(["1", "1", "counter:readme", "phx_join", {}]);
    const frames = [];
    const until = async (event) => {
      do frames.push(await raw.frame());
      while (frames.at(-1)[3] !== event);
      return frames.at(-1)[4];
    };
    assert.deepEqual((await until("seance:change")).state, { count: 0 });
    raw.send(["1", "2", "counter:readme", "seance:event:increment", {}]);
    const { operations, version } = await until("seance:patch");
    assert.deepEqual(operations, [{ op: "replace", path: "/count", value: 1 }]);
    assert.equal(version, 1);
    await raw.close();
  } finally {
    await system?.stop();
    rmSync(base, { recursive: true, force: true });
  }
});
