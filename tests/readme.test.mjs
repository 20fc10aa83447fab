/*
 * The program in README.md is built and does what is said of it.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { Raw } from "./lib/raw.mjs";
import { startSystem, temporaryDir, tree } from "./system.mjs";

it("the README's program counts", async () => {
  const source = readFileSync(join(tree, "README.md"), "utf8").match(/```c\n([^]*?)```/)[1];
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
