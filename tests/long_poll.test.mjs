/*
 * Phoenix's long-poll transport, request by request: the recordings of the reference server, bad input, limits.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { Exchanges, parseExchanges, parseSteps } from "./lib/exchanges.mjs";
import { LongPoll } from "./lib/long_poll.mjs";
import { until } from "./lib/wait.mjs";
import { differences, headers } from "./recordings/long_poll_differences.mjs";
import { startSystem } from "./system.mjs";

/* How many wait in nginx, once it is so many. */
const parked = (system, count) => until(async () => ((await system.counts()).parked ?? 0) === count, `${count} to wait`, 15000);

const cases = parseExchanges(readFileSync(new URL("recordings/long_poll.txt", import.meta.url), "utf8"));
const bySlow = process.env.SEANCE_TEST_SLOW === "1";
const isSkipped = ({ name }) => differences.some((other) => other.name === name && other.slow) && !bySlow;

/* The replay begins first, and what came of it is looked at last: meanwhile it waits for 10 s. */
let replayed;
const results = new Map();

async function replayAll() {
  const system = await startSystem({ app: "tests/conformance" });
  const exchanges = new Exchanges(`${system.url}/socket/longpoll`, { headers, waiting: (count) => parked(system, count) });
  try {
    for (const recorded of cases) {
      const other = differences.find(({ name }) => name === recorded.name);
      if (!isSkipped(recorded)) await exchanges.replay(other ? { ...recorded, steps: parseSteps(recorded.name, other.ours) } : recorded).catch((error) => results.set(recorded.name, error));
    }
  } finally {
    await system.stop();
  }
}

let system;
before(async () => {
  replayed = replayAll();
  replayed.catch(() => {}); // said by the last test
  system = await startSystem({ app: "tests/conformance" });
});
after(async () => {
  await replayed.catch(() => {});
  const log = system?.read("program.log");
  await system?.stop();
  assert.doesNotMatch(log ?? "", /died: signal/); // nginx would ask again, so that nobody notices
});

const url = (query = "vsn=2.0.0") => `${system.url}/socket/longpoll?${query}`;

it("many questions with one token at once: each is told", async () => {
  const session = await LongPoll.open(url());
  await session.join("board:at once");
  for (let version = 1; version <= 2; version++) {
    const asked = Array.from({ length: 20 }, async () => {
      const one = new LongPoll(session.url, session.token);
      return [await one.frame(), one.token]; // one that another overtakes is answered at once, with nothing
    });
    await parked(system, 20);
    await session.send(["1", "2", "board:at once", "seance:event:inc", {}]);
    const told = await Promise.all(asked);
    for (const [frame] of told) assert.deepEqual(frame.slice(3), ["seance:patch", { operations: [{ op: "replace", path: "/n", value: version }], version }]);
    session.token = told[0][1];
  }
});

describe("the recordings", () => {
  before(() => replayed);

  it("every entry of the table of differences names a case", () => {
    const names = new Set(cases.map(({ name }) => name));
    assert.equal(names.size, cases.length, "names are unique");
    for (const { name } of differences) assert.ok(names.has(name), name);
  });

  for (const recorded of cases) {
    const other = differences.find(({ name }) => name === recorded.name);
    const skip = isSkipped(recorded) && `takes ${other.slow}; SEANCE_TEST_SLOW=1 runs it`;
    it(recorded.name + (other ? ` — otherwise: ${other.why}` : ""), { skip }, () => {
      if (results.has(recorded.name)) throw results.get(recorded.name);
    });
  }
});
