/*
 * The recorded frames of the reference server, replayed against tests/conformance through nginx, by WebSocket and by
 * long-poll.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { RawLongPoll } from "./lib/raw_long_poll.mjs";
import { parseCase, parseCases, replay } from "./lib/recording.mjs";
import { additions, differences } from "./recordings/differences.mjs";
import { startSystem } from "./system.mjs";

const cases = parseCases(readFileSync(new URL("recordings/websocket.txt", import.meta.url), "utf8"));
const bySlow = process.env.SEANCE_TEST_SLOW === "1";

let system;
const url = () => `${system.ws}/socket/websocket`;

before(async () => {
  system = await startSystem({ app: "tests/conformance" });
});

after(async () => {
  await system?.stop();
});

it("every entry of the table of differences names a case", () => {
  const names = new Set(cases.map((recorded) => recorded.name));
  assert.equal(names.size, cases.length, "names are unique");
  for (const { name } of differences) assert.ok(names.has(name), name);
});

describe("as recorded", () => {
  for (const recorded of cases) {
    if (differences.some(({ name }) => name === recorded.name)) continue;
    it(recorded.name, () => replay(recorded, url()));
  }
});

describe("otherwise than recorded, on purpose", () => {
  for (const { name, why, ours, slow } of differences) {
    const skip = slow && !bySlow ? `takes ${slow}; SEANCE_TEST_SLOW=1 runs it` : false;
    it(`${name}${why && ` — ${why}`}`, { skip }, () => replay(parseCase(name, ours), url(), { patienceMs: slow ? 90000 : 5000, broadcast: system.broadcast }));
  }
});

describe("what the reference has not", () => {
  for (const { name, ours } of additions) it(name, () => replay(parseCase(name, ours), url()));
});

describe("by long-poll, the same frames", () => {
  // what only WebSockets have; and an empty body is no frame
  const isOfWebSockets = ({ who, text }) => who === "C" && (/^\[(ping|close|text frame)/.test(text) || text === "");
  const recorded = cases.filter(({ name }) => differences.every((other) => other.name !== name));
  const ours = [...differences, ...additions].filter(({ slow }) => !slow).map(({ name, ours }) => parseCase(name, ours));
  let other; // shared topics begin anew
  before(async () => {
    other = await startSystem({ app: "tests/conformance" });
  });
  after(() => other?.stop());

  for (const one of [...recorded, ...ours].filter(({ lines }) => !lines.some(isOfWebSockets)))
    it(one.name, () => replay(one, `${other.ws}/socket/websocket`, { broadcast: other.broadcast, by: RawLongPoll }));
});
