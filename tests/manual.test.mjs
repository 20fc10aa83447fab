/*
 * The manual: its pages are sound, name all that the headers have, and their examples are built and run.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { temporaryDir, tree } from "./system.mjs";

const read = (name) => readFileSync(join(tree, name), "utf8");
const page = (name) => read(`docs/man/${name}.3`);

/* example - the first literal display of a page, as it is read */
const example = (name) => page(name).match(/^\.Sh EXAMPLE\n[^]*?^\.Bd -literal[^\n]*\n([^]*?)^\.Ed$/m)[1].replaceAll("\\e", "\\");

const flags = (names) => execFileSync("pkg-config", ["--cflags", "--libs", ...names], { encoding: "utf8" }).trim().split(/\s+/);

describe("the manual", () => {
  let dir;
  before(() => (dir = temporaryDir()));
  after(() => rmSync(dir, { recursive: true, force: true }));

  /* compile - a program of these files, against the library that was built */
  function compile(name, sources) {
    const variant = process.env.SANITIZE ? process.env.SANITIZE.replaceAll(",", "-") : "normal";
    const sanitize = process.env.SANITIZE ? [`-fsanitize=${process.env.SANITIZE}`] : [];
    for (const [file, text] of Object.entries(sources)) writeFileSync(join(dir, file), text);
    execFileSync("cc", ["-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", ...sanitize, `-I${tree}/include`, "-o", join(dir, name), join(dir, `${name}.c`),
      `${tree}/build/${variant}/libseance.a`, ...flags(["json-c", "sqlite3"]), "-lfcgi", "-lcrypto", "-pthread"], { stdio: "pipe", encoding: "utf8" });
    return (...args) => spawnSync(join(dir, name), args, { encoding: "utf8", timeout: 20000 });
  }

  for (const name of ["seance", "seance_test"]) {
    it(`${name}(3) is sound`, () => {
      const { status, stdout } = spawnSync("mandoc", ["-Tlint", "-W", "warning", join(tree, `docs/man/${name}.3`)], { encoding: "utf8" });
      assert.equal(status, 0, stdout);
    });

    it(`${name}(3) tells of all that ${name}.h has`, () => {
      const header = read(`include/${name}.h`);
      const text = page(name).replaceAll(/^\./gm, "");
      const names = [...header.matchAll(/^SEANCE_API [^;]*?\b(seance_\w+)\(/gm), ...header.matchAll(/^#define (SEANCE_(?:EXPECT|TEST|MAIN)\w*)\(/gm)].map(([, found]) => found);
      const members = name === "seance" ? header.match(/^struct seance_channel \{\n([^]*?)^\};/m)[1].replaceAll(/\/\*[^]*?\*\//g, "") : "";
      for (const [, pointer, plain] of members.matchAll(/\(\*(\w+)\)\(|(\w+);/g)) names.push(pointer ?? plain);
      assert.ok(names.length > 15, `${names.length} names`);
      for (const found of names.filter((found) => !found.startsWith("seance_test_expect"))) assert.ok(new RegExp(`\\b${found}\\b`).test(text), `${found} is missing`);
    });
  }

  it("the example of seance(3) is a program", () => {
    const run = compile("counter", { "counter.c": example("seance") });
    assert.match(run("help").stdout, /usage: .*counter COMMAND/);
  });

  it("the example of seance_test(3) tests it", () => {
    const run = compile("test", { "counter.c": example("seance"), "test.c": example("seance_test") });
    const { status, stdout } = run();
    assert.equal(status, 0, stdout);
    assert.match(stdout, /^1\.\.6$/m);
  });

  it("the README's test tests the README's program", () => {
    const [program, test] = [...read("README.md").matchAll(/```c\n([^]*?)```/g)].map(([, text]) => text);
    const { status, stdout } = compile("readme", { "counter.c": program, "readme.c": test })();
    assert.equal(status, 0, stdout);
  });

  it("an expectation that is not met says where, what there is, and the difference", () => {
    const broken = example("seance_test").replace('\\"value\\":1}]"', '\\"value\\":2}]"').replace('"{\\"count\\":1}"', '"{\\"count\\":3}"');
    const run = compile("failing", { "counter.c": example("seance"), "failing.c": broken });
    const { status, stdout } = run();
    assert.equal(status, 1, stdout);
    assert.match(stdout, /^not ok 3 - counter:a: seance:patch .*\n# at .*failing\.c:\d+\n# expected .*"value":2.*\n# got .*"value":1.*\n# difference \[\{"op":"replace","path":"\/0\/value","value":1\}\]$/m);
    assert.match(stdout, /^not ok 6 - .*\n.*\n# expected   \{"count":3\}\n# got        \{"count":1\}\n# difference \[\{"op":"replace","path":"\/count","value":1\}\]$/m);
  });

  it("each expectation fails when it should", () => {
    const checks = [
      'SEANCE_EXPECT(0, "no")',
      'SEANCE_EXPECT_STATE(c, "t:a", "{}")',
      'SEANCE_EXPECT_VERSION(c, "t:a", 7)',
      'SEANCE_EXPECT_FULL_STATE(c, "t:a", "{}")',
      'SEANCE_EXPECT_PATCH(c, "t:a", "[]")',
      'SEANCE_EXPECT_EVENT(c, "t:a", "e", "1")',
      'SEANCE_EXPECT_REFUSED(c, "t:a", "1")',
      'SEANCE_EXPECT_CRASHED(c, "t:a")',
      'SEANCE_EXPECT_BROADCAST(test, "p", "1")',
      'SEANCE_EXPECT_TIMER(test, "t:a", 5, "1")',
      'SEANCE_EXPECT_JOINED(c, "nobody:serves", "{}")',
    ];
    const run = compile("each", {
      "each.c": `#include "seance_test.h"
static enum seance_status init(struct seance_call *call, const char *topic, json_object *payload) {
  return seance_set_state(call, seance_json("{\\"n\\":1}"));
}
static enum seance_status event(struct seance_call *call, const char *event, json_object *payload, json_object *state) {
  seance_broadcast(call, "q", json_object_new_int(1));
  seance_send_after(call, 5, json_object_new_int(2));
  return seance_reply(call, "f", NULL);
}
static const struct seance_channel channel = {.topic = "t:*", .scope = SEANCE_SHARED, .init = init, .handle_event = event};
SEANCE_MAIN(&channel)
int main(void) {
  struct seance_test *test = SEANCE_TEST_PROGRAM();
  struct seance_test_client *c = seance_test_connect(test, NULL);
  SEANCE_EXPECT_JOINED(c, "t:a", "{}");
  SEANCE_EXPECT_FULL_STATE(c, "t:a", "{\\"n\\":1}");
  SEANCE_EXPECT_NOTHING(c, "t:a");
  seance_test_push(c, "t:a", "x", "{}");
  SEANCE_EXPECT_BROADCAST(test, "q", "1");
  SEANCE_EXPECT_TIMER(test, "t:a", 5, "2");
  SEANCE_EXPECT_EVENT(c, "t:a", "f", "null");
  SEANCE_EXPECT_PATCH(c, "t:a", "[]");
  SEANCE_EXPECT_NOTHING(c, "t:a");
  ${checks.join(";\n  ")};
  seance_test_push(c, "t:a", "x", "{}");
  SEANCE_EXPECT_NOTHING(c, "t:a");
  return seance_test_end(test);
}
`,
    });
    const { status, stdout } = run();
    assert.equal(status, 1, stdout);
    assert.equal(stdout.match(/^ok /gm).length, 8, stdout);
    assert.equal(stdout.match(/^not ok /gm).length, checks.length + 1, stdout);
  });
});
