/*
 * Phoenix's long-poll transport, request by request: the recordings of the reference server, bad input, limits.
 */
import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Exchanges, parseExchanges, parseSteps } from "./lib/exchanges.mjs";
import { LongPoll, request } from "./lib/long_poll.mjs";
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
  assert.doesNotMatch(log ?? "", /died: (?!signal 9 )/); // nginx would ask again, so that nobody notices
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

/* The key's own tokens, as fcgi/token.h says. */
function signed(key, kind, text, expires) {
  const token = `${kind}.${text}.${expires}`;
  return `${token}.${createHmac("sha256", key).update(token).digest("hex")}`;
}

const heartbeat = (ref) => [null, ref, "phoenix", "heartbeat", {}];
const heartbeatReply = (ref) => [null, ref, "phoenix", "phx_reply", { status: "ok", response: {} }];
const inc = (topic, ref = "i") => ["1", ref, topic, "seance:event:inc", {}];
const state = async (topic) => (await request(`${system.url}/channels/${encodeURIComponent(topic)}`)).body.state;

describe("tokens", () => {
  const future = Math.floor(Date.now() / 1000) + 1000;
  let key, session, name, position;
  before(async () => {
    key = readFileSync(join(system.dir, "token.key"));
    session = await LongPoll.open(url());
    await session.join("board:tokens");
    [, name, position] = session.token.match(/^poll\.([^~]+)~(\d+)\./);
  });

  /* answers - {status} of a question and of a POST with a token */
  const answers = async (token) => {
    const other = new LongPoll(session.url, token);
    return [(await other.get()).body.status, (await other.post(inc("board:tokens"))).body.status];
  };

  it("what is not ours is no token: a question begins a new session, a POST is answered 410", async () => {
    const { token } = session;
    const bad = [
      token.replace(/~\d+/, "~1"), token.replace(name, name.replace(/^./, (c) => (c === "A" ? "B" : "A"))), token.slice(0, -1), `${token}0`, token.toUpperCase(),
      signed(randomBytes(32), "poll", `${name}~${position}`, future), signed(key, "resume", `${name}~${position}`, future),
      "", ".", "poll.~.1.", `poll.${name}~${position}.${future}.`, "x".repeat(5000), "\u0000", "é",
    ];
    for (let cut = 1; cut < token.length; cut += 9) bad.push(token.slice(0, cut));
    for (const one of bad) assert.deepEqual(await answers(one), [410, 410], one.slice(0, 100));
    assert.equal((await state("board:tokens")).n, 0);
  });

  it("one that is over: 500, so that all versions of phoenix.js begin anew", async () => {
    const past = Math.floor(Date.now() / 1000) - 1;
    assert.deepEqual(await answers(signed(key, "poll", `${name}~${position}`, past)), [500, 500]);
    assert.deepEqual(await answers(signed(key, "poll", `AAAAAAAAAAAAAAAAAAAAAA~${position}`, future)), [500, 500], "there is no such session");
    assert.equal((await state("board:tokens")).n, 0);
  });

  it("an older one, in whatever way it is shown, still serves; a header counts more than the URL, there the last", async () => {
    await session.send(heartbeat("1"));
    const { token } = session;
    assert.deepEqual(await session.ask(), [heartbeatReply("1")]);
    const ask = async (query, headers = {}) => (await request(session.url + query, { headers })).body;
    const ours = encodeURIComponent(token);
    await session.send(heartbeat("2"));
    for (const body of [await ask(`&token=${ours}`), await ask(`&token=application&token=${ours}`), await ask("&token=application", { "x-phoenix-longpoll-token": token })]) {
      assert.deepEqual(body.messages.map(JSON.parse), [heartbeatReply("1"), heartbeatReply("2")]);
    }
    assert.equal((await ask(`&token=${ours}`, { "x-phoenix-longpoll-token": "application" })).status, 410);
  });

  it("one of the future, as after a power cut: the session ends", async () => {
    assert.deepEqual(await answers(signed(key, "poll", `${name}~999999999`, future)), [500, 500]);
    assert.equal((await session.get()).body.status, 500);
  });
});

describe("a session", () => {
  it("is of whoever opens it: connect sees the headers and the parameters of that request", async () => {
    const guarded = async (query, headers) => {
      const { body } = await request(url(`vsn=2.0.0${query}`), { headers });
      const session = new LongPoll(url(), body.token);
      await session.send(["1", "1", "guarded:a", "phx_join", {}]);
      return (await session.ask())[0][4].status;
    };
    assert.equal(await guarded("", { authorization: "Bearer good" }), "ok");
    assert.equal(await guarded("", { authorization: "Bearer bad" }), "error");
    assert.equal((await request(url("vsn=2.0.0&deny=0&deny=1"))).text, '{"status":403}', "of a repeated parameter the last counts");
    assert.equal((await request(url("vsn=2.0.0&deny=1&deny=0"))).body.status, 410);
  });

  it("speaks the vocabulary and the version that it was opened with", async () => {
    const session = await LongPoll.open(`${system.url}/live_state/longpoll?vsn=1.0.0`);
    const send = (event, ref) => session.send({ topic: "counter:words", event, payload: {}, ref });
    await send("phx_join", "1");
    await send("lvs_evt:inc", "2");
    await send("seance:event:inc", "3");
    const frame = (event, payload, ref = null) => ({ topic: "counter:words", event, payload, ref });
    assert.deepEqual(await session.ask(), [
      frame("phx_reply", { status: "ok", response: {} }, "1"),
      frame("state:change", { state: { count: 0 }, version: 0 }),
      frame("state:patch", { patch: [{ op: "replace", path: "/count", value: 1 }], version: 1 }),
      frame("phx_reply", { status: "error", response: { reason: "unmatched event" } }, "3"),
    ]);
  });
});

describe("bad input", () => {
  it("malformed frames end the session, after what was before them; a POST is answered 500", async () => {
    const push = (text) => Buffer.from(text, "latin1").toString("base64");
    const topic = "board:malformed";
    const bad = [
      "hello", "{", "[", "[]", '["1","2"]', '["1","1","a","b"', "[1,2,3,4,5]x", `${JSON.stringify(heartbeat("1"))}\u0000`, `${JSON.stringify(heartbeat("1"))},`, '[null,"1","phoenix","heartbeat",NaN]',
      "AAEC", "====", "A", "AAE=x", "\u0000", push("\u0000"), push("\u0001\u0000\u0000\u0000\u0000{}"), push("\u0000\u0001\u0001\u00ff\u000011a{}"), push("\u0000\u0000\u0000\u0001\u0001\u00ffa{}"), push("\u0000\u0000\u0000\u0001\u0001aa{"),
    ];
    for (const [i, one] of bad.entries()) {
      const session = await LongPoll.open(url());
      await session.join(topic);
      const { status, text } = await session.post(inc(topic), one, inc(topic));
      assert.equal(`${status} ${text}`, '200 {"status":500}', JSON.stringify(one));
      assert.equal((await state(topic)).n, i + 1, `once, before ${JSON.stringify(one)}`);
      assert.deepEqual([(await session.get()).body.status, (await session.post(heartbeat("1"))).body.status], [500, 500], JSON.stringify(one));
    }
  });

  it("what waits is told of its session's end at once", async () => {
    const session = await LongPoll.open(url());
    const waits = session.get();
    await parked(system, 1);
    await session.post("hello");
    assert.equal((await waits).body.status, 500);
  });

  it("other methods: 400; an Origin that is not allowed: 403, and no headers of CORS", async () => {
    for (const method of ["PUT", "DELETE", "PATCH", "HEAD"]) assert.equal((await request(url(), { method })).status, 400, method);
    const session = await LongPoll.open(url());
    for (const origin of ["http://evil.example", "null", "http://127.0.0.1.evil.example"]) {
      for (const answer of [await request(url(), { headers: { origin } }), await session.get(session.token, { headers: { origin } }), await request(session.at(), { method: "POST", headers: { origin }, body: JSON.stringify(heartbeat("1")) })]) {
        assert.deepEqual([answer.status, answer.text, answer.headers["access-control-allow-origin"]], [200, '{"status":403}', undefined]);
      }
      assert.equal((await request(url(), { method: "OPTIONS", headers: { origin } })).headers["access-control-allow-origin"], undefined);
    }
    for (const method of ["GET", "OPTIONS"]) {
      const own = await request(url(), { method, headers: { origin: system.url } });
      assert.deepEqual([own.headers["access-control-allow-origin"], own.headers.vary, own.headers["cache-control"]], [system.url, "Origin", "no-store"]);
    }
  });

  it("a topic of 10 KB, an event of 1 MB; a batch of a thousand frames", async () => {
    const session = await LongPoll.open(url());
    const topic = `board:${"x".repeat(10240)}`;
    assert.deepEqual((await session.join(topic)).state, { n: 0, items: [] });
    const text = "é".repeat(500000);
    await session.send(["1", "2", topic, "seance:event:say", { text }]);
    const [said, patch] = await session.ask();
    assert.deepEqual([said[4].detail, patch[4]], [{ text }, { operations: [], version: 1 }]);
    await session.send(...Array.from({ length: 1000 }, (_, i) => heartbeat(`${i}`)));
    const replies = [];
    while (replies.length < 1000) replies.push(...(await session.ask()));
    assert.deepEqual(replies, Array.from({ length: 1000 }, (_, i) => heartbeatReply(`${i}`)));
  });

  it("64 POSTs of a session at once, one after the other; what is more is refused", async () => {
    const session = await LongPoll.open(url());
    const topic = "board:posts";
    for (const one of [topic, "board:before"]) await session.join(one);
    const slow = session.post(inc("board:before"), ["1", "0", topic, "seance:event:slow", { ms: 1500 }]);
    await until(async () => (await state("board:before")).n === 1, "the first of them");
    const all = Array.from({ length: 80 }, (_, i) => session.post(inc(topic, `${i}`)));
    const statuses = (await Promise.all([slow, ...all])).map(({ body }) => body.status);
    assert.deepEqual([statuses.filter((status) => status === 200).length, statuses.filter((status) => status === 500).length], [64, 17]);
    const versions = [];
    while (versions.at(-1) !== 64) versions.push(...(await session.ask()).filter((frame) => frame[2] === topic).map((frame) => frame[4].version));
    assert.deepEqual(versions, Array.from({ length: 64 }, (_, i) => i + 1));
    assert.equal((await state(topic)).n, 64);
  });

  it("much to tell at once: several answers, all of it in order", async () => {
    const [reader, writer] = [await LongPoll.open(url()), await LongPoll.open(url())];
    const topic = "board:much";
    await reader.join(topic);
    await writer.join(topic);
    const text = "x".repeat(60000);
    for (let i = 0; i < 20; i++) await writer.send(["1", "2", topic, "seance:event:say", { i, text: i === 10 ? text.repeat(10) : text }]);
    const frames = [];
    let answers = 0;
    for (; frames.length < 40; answers++) frames.push(...(await reader.ask()));
    assert.ok(answers >= 4, `${answers} answers`);
    assert.deepEqual(frames.map(([, , , , { version, detail }]) => version ?? detail.i), Array.from({ length: 40 }, (_, i) => (i % 2 ? (i + 1) / 2 : i / 2)));
  });

  it("without the program: 500 with HTTP status 200, for whoever asks, posts and waits; then it goes on", async () => {
    const session = await LongPoll.open(url());
    await session.join("board:gone");
    const waits = session.get();
    await parked(system, 1);
    await system.withoutProgram(async () => {
      for (const answer of [await waits, await session.get(), await request(url()), await session.post(inc("board:gone"))]) {
        assert.deepEqual([answer.status, answer.text, answer.headers["cache-control"], answer.headers["content-type"]], [200, '{"status":500}', "no-store", "application/json; charset=utf-8"]);
      }
    });
    await session.send(inc("board:gone"));
    assert.equal((await session.ask()).length, 1, "whoever keeps its token may go on");
  });
});

describe("limits", { concurrency: 2 }, () => {
  const MOST = 5;
  for (const limit of ["--max-sockets", "--max-sockets-per-address"]) {
    it(`${limit}=${MOST}: one more gets 500, until one has ended`, async () => {
      const small = await startSystem({ app: "tests/conformance", flags: [`${limit}=${MOST}`, "--grace=1", "--origins=//other.example"] });
      try {
        const listed = await request(`${small.url}/socket/longpoll`, { method: "OPTIONS", headers: { origin: "https://other.example" } });
        assert.equal(listed.headers["access-control-allow-origin"], "https://other.example");
        const at = `${small.url}/socket/longpoll?vsn=2.0.0`;
        const sessions = [];
        for (let i = 0; i < MOST; i++) sessions.push(await LongPoll.open(at));
        const more = await request(at);
        assert.deepEqual([more.status, more.text], [200, '{"status":500}']);
        // they wait, or post, for longer than the grace time, and are there; then they go
        const stop = new AbortController();
        const asking = sessions.slice(1).map((session) => session.get(session.token, { signal: stop.signal }));
        for (const until = Date.now() + 3000; Date.now() < until; ) await sessions[0].send(heartbeat("1"));
        assert.equal((await request(at)).text, '{"status":500}');
        stop.abort();
        await Promise.allSettled(asking);
        assert.equal((await sessions[1].post(heartbeat("1"))).body.status, 200);
        await until(async () => (await request(at)).body.status === 410, "room");
        await until(async () => (await sessions[0].get()).body.status === 500, "the end of those that have gone");
      } finally {
        await small.stop();
      }
    });
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
