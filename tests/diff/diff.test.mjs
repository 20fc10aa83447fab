/*
 * diff - what clients make of our patches: random pairs, applied by three libraries for JSON Patch
 *
 * SEED=number repeats a run; PAIRS=number is how many.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { createRequire } from "node:module";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
const fast = require("fast-json-patch");
const rfc6902 = require("rfc6902");
const joy = require("json-joy/lib/json-patch");   // phx-live-state's

const seed = process.env.SEED ?? String(randomInt(2 ** 31));
const count = Number(process.env.PAIRS ?? 10000);
const program = fileURLToPath(new URL(`../../build/${process.env.VARIANT ?? "normal"}/diff_pairs`, import.meta.url));

const output = spawnSync(program, [seed, String(count)], { encoding: "utf8", maxBuffer: 1 << 30 });
const lines = output.stdout?.split("\n").filter(Boolean) ?? [];

const appliers = {
  "fast-json-patch": (document, patch) => fast.applyPatch(document, patch, true).newDocument,
  // it changes members of what it is given: the root is one, too
  "rfc6902": (document, patch) => {
    const holder = { document };
    const inside = patch.map((operation) => ({ ...operation, path: "/document" + operation.path }));
    for (const error of rfc6902.applyPatch(holder, inside)) assert.equal(error, null);
    return holder.document;
  },
  "json-joy": (document, patch) => joy.applyPatch(document, patch, { mutate: true }).doc,
};

test(`${count} pairs from seed ${seed}`, () => {
  assert.equal(output.status, 0, output.error ?? output.stderr);
  assert.equal(lines.length, count);
});

for (const [name, apply] of Object.entries(appliers)) {
  test(`${name} makes b of a (seed ${seed})`, () => {
    for (const [number, line] of lines.entries()) {
      const { a, b, patch } = JSON.parse(line);
      const result = apply(a, patch);
      assert.deepEqual(result, b, `pair ${number} of seed ${seed}: ${line}`);
    }
  });
}

test("equal values give no operations", () => {
  for (const line of lines) {
    const { a, b, patch } = JSON.parse(line);
    let same = true;
    try { assert.deepEqual(a, b); } catch { same = false; }
    assert.equal(patch.length === 0, same, line);
  }
});
