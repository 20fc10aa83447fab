/*
 * Phoenix's long-poll transport, request by request: the recordings of the reference server, bad input, limits.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { Exchanges, parseExchanges, parseSteps } from "./lib/exchanges.mjs";
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
  await system?.stop();
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
