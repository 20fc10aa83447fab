/*
 * The HTTP API: states, patches since, events; by fetch and by raw requests, through the real nginx; while the
 * program is killed; beside WebSockets on the same topic.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { Raw } from "./lib/raw.mjs";
import { patched } from "./lib/recording.mjs";
import { until, within } from "./lib/wait.mjs";
import { startSystem, tree } from "./system.mjs";

let system;
before(async () => {
  system = await startSystem({ app: "tests/conformance" });
});
after(() => system?.stop());

const at = (topic) => `${system.url}/channels/${encodeURIComponent(topic)}`;
const get = async (topic, { query = "", ...options } = {}) => {
  const response = await fetch(at(topic) + query, options);
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text && JSON.parse(text), etag: response.headers.get("etag") };
};
const post = async (topic, event, payload, headers = {}) => {
  const response = await fetch(`${at(topic)}/events/${encodeURIComponent(event)}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof payload === "string" ? payload : JSON.stringify(payload),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text && JSON.parse(text) };
};

/* raw - status line and body of a request as it stands */
const raw = (text) =>
  within(
    new Promise((resolve, reject) => {
      const socket = connect(system.port, "127.0.0.1", () => socket.write(text));
      let answer = "";
      socket.setEncoding("utf8").on("data", (part) => (answer += part));
      socket.on("error", reject).on("close", () => resolve({ status: Number(answer.split(" ")[1]), answer }));
    }),
    "an answer",
  );

describe("GET", () => {
  it("gives the state; ETag is its position; If-None-Match, also weak, gives 304", async () => {
    const topic = "board:get/ä %";
    await post(topic, "add", { a: 1 });
    const { status, body, etag, headers } = await get(topic);
    assert.equal(status, 200);
    assert.equal(headers.get("content-type"), "application/json; charset=utf-8");
    assert.equal(headers.get("cache-control"), "private, no-cache");
    assert.deepEqual({ ...body, position: undefined }, { topic, version: 1, revision: 1, position: undefined, state: { n: 0, items: [{ a: 1 }] } });
    assert.match(body.position, /^\d+-1$/);
    assert.equal(etag, `"${body.position}"`);
    for (const known of [etag, `W/${etag}`, `"x", W/${etag}`, "*"]) {
      const again = await get(topic, { headers: { "if-none-match": known } });
      assert.deepEqual([again.status, again.body], [304, ""], known);
    }
    assert.equal((await get(topic, { headers: { "if-none-match": '"1-1"' } })).status, 200);
  });

  it("HEAD gives the same without the body", async () => {
    const response = await fetch(at("board:head"), { method: "HEAD" });
    assert.deepEqual([response.status, await response.text()], [200, ""]);
    assert.match(response.headers.get("etag"), /^"\d+-0"$/);
    assert.deepEqual((await get("board:head")).body.state, { n: 0, items: [] });
  });

  it("the position of a first state counts: 304, If-Match, since, wait; through a kill of the program", async () => {
    const { body: { position }, etag } = await get("board:first");
    assert.equal((await get("board:first", { headers: { "if-none-match": etag } })).status, 304);
    await system.killWorker();
    assert.equal((await get("board:first", { query: `?since=${position}&wait=0` })).status, 204);
    const waiting = get("board:first", { query: `?since=${position}&wait=30` });
    assert.equal((await post("board:first", "inc", {}, { "if-match": etag })).status, 200);
    assert.deepEqual((await waiting).body.patches.map(({ version }) => version), [1]);
    assert.equal((await post("board:first", "inc", {}, { "if-match": etag })).status, 412);
  });

  it("since: the patches after a position; a reset where the log does not reach", async () => {
    const topic = "board:since";
    const positions = [];
    let state = { n: 0, items: [] };
    for (let i = 0; i < 5; i++) positions.push((await post(topic, "add", { i })).body.position);
    for (const [from, position] of positions.entries()) {
      const { body } = await get(topic, { query: `?since=${position}` });
      assert.equal(body.position, positions.at(-1));
      assert.deepEqual(body.patches.map(({ revision, version }) => [revision, version]), positions.slice(from + 1).map((_, at) => [from + at + 2, from + at + 2]));
      state = { n: 0, items: Array.from({ length: from + 1 }, (_, i) => ({ i })) };
      for (const { operations } of body.patches) state = patched(state, operations);
      assert.deepEqual(state, (await get(topic)).body.state);
    }
    const [epoch] = positions[0].split("-");
    for (const position of [`${epoch}-6`, `${Number(epoch) + 1}-1`, "1-0"]) {
      const { body } = await get(topic, { query: `?since=${position}` });
      assert.deepEqual([body.reset, body.state, body.patches], [true, state, undefined], position);
    }
    for (const bad of ["", "x", "1", "1-", "-1", "1-1x", "1--1", "99999999999999999999-1"])
      assert.equal((await get(topic, { query: `?since=${bad}` })).status, 400, bad);
  });

  it("what clients are not to see is not there", async () => {
    const topic = "face:http";
    const first = (await post(topic, "both", {})).body;
    assert.deepEqual(first.operations, [{ op: "replace", path: "/public", value: 1 }]);
    const { body } = await post(topic, "hidden", {});
    assert.deepEqual(body.operations, []);
    assert.deepEqual((await get(topic)).body.state, { public: 1 });
    assert.deepEqual((await get(topic, { query: `?since=${first.position}` })).body.patches.map(({ operations }) => operations), [[]]);
  });
});

describe("wait", () => {
  const parked = (topic, position, query = "") => get(topic, { query: `?since=${position}&wait=30${query}` });
  const counted = (count) => until(async () => ((await system.counts()).parked ?? 0) === count, `${count} to wait`, 15000);

  it("what is there is given at once; nothing in all the time: 204", async () => {
    const topic = "board:wait";
    const first = (await post(topic, "inc", {})).body.position;
    const second = (await post(topic, "inc", {})).body.position;
    assert.equal((await parked(topic, first)).body.patches.length, 1);
    assert.equal((await parked(topic, "1-1")).body.reset, true);
    assert.equal((await get(topic, { query: "?wait=30" })).body.version, 2, "without since there is the state");
    for (const wait of [0, 1]) {
      const { status, body, headers } = await get(topic, { query: `?since=${second}&wait=${wait}` });
      assert.deepEqual([status, body, headers.get("cache-control")], [204, "", "private, no-cache"]);
    }
    for (const bad of ["", "x", "-1", "1x", "+1"]) assert.equal((await get(topic, { query: `?since=${second}&wait=${bad}` })).status, 400, bad);
  });

  it("1,000 that wait are all answered by one event, in however many milliseconds", async () => {
    const topic = "board:waiters";
    const { position } = (await post(topic, "inc", {})).body;
    const all = Array.from({ length: 1000 }, () => parked(topic, position));
    await counted(1000);
    const began = performance.now();
    await post(topic, "inc", {});
    const answers = await Promise.all(all);
    console.log(`# 1000 waiting requests answered in ${Math.round(performance.now() - began)} ms`);
    for (const { status, body } of answers) assert.deepEqual([status, body.patches.map(({ version }) => version)], [200, [2]]);
    await counted(0);
  });

  it("goes on through restarts of the program, with what came meanwhile", async () => {
    const topic = "board:restart";
    const { position } = (await post(topic, "inc", {})).body;
    const waits = Array.from({ length: 20 }, () => parked(topic, position));
    await counted(20);
    await system.killWorker();
    await counted(20);
    await system.killWorker();
    await post(topic, "inc", {});
    for (const { status, body } of await Promise.all(waits)) assert.deepEqual([status, body.patches.length], [200, 1]);
  });

  it("a chain of waits sees each version once and in order, while the program is killed", async () => {
    const topic = "board:chain";
    let { position, version } = (await post(topic, "inc", {})).body;
    const seen = [version];
    const reader = async () => {
      while (seen.at(-1) < 200) {
        const { status, body } = await parked(topic, position);
        if (status === 204) continue;
        assert.equal(status, 200, JSON.stringify(body));
        assert.equal(body.reset, undefined);
        seen.push(...body.patches.map((patch) => patch.version));
        position = body.position;
      }
    };
    const writer = async () => {
      for (let i = 2; i <= 200; i++) {
        assert.equal((await post(topic, "inc", {})).status, 200);
        if (i % 60 === 0) await system.killWorker();
      }
    };
    await within(Promise.all([reader(), writer()]), "the end of the chain", 60000);
    assert.deepEqual(seen, Array.from({ length: 200 }, (_, i) => i + 1));
  });
});

describe("POST", () => {
  it("is an event: its change and its events, for those joined, too", async () => {
    const topic = "board:post";
    const client = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
    await client.join(topic);
    const { status, body, headers } = await post(topic, "say", { hello: "é" });
    assert.deepEqual([status, headers.get("cache-control")], [200, "no-store"]);
    assert.deepEqual({ ...body, position: undefined }, { version: 1, revision: 1, position: undefined, operations: [], events: [{ name: "said", detail: { hello: "é" } }] });
    assert.deepEqual((await client.frame())[4].detail, { hello: "é" });
    assert.equal((await client.frame())[4].version, 1);
    await client.close();
  });

  it("If-Match, also weak: 412 when the state has moved on, and nothing is done", async () => {
    const topic = "board:match";
    const { position } = (await post(topic, "inc", {})).body;
    assert.equal((await post(topic, "inc", {}, { "if-match": `W/"${position}"` })).status, 200);
    const { status, body, headers } = await post(topic, "inc", {}, { "if-match": `"${position}"` });
    assert.deepEqual([status, body.status, headers.get("content-type")], [412, 412, "application/problem+json"]);
    assert.equal((await post(topic, "inc", {}, { "if-match": "*" })).body.version, 3);
  });

  it("Idempotency-Key: the same answer, done once; another body: 422; another client's key is another", async () => {
    const topic = "board:key";
    const key = { "idempotency-key": "k/1 é".replace("é", "e") };
    const first = await post(topic, "inc", {}, key);
    await post(topic, "inc", {});
    for (let i = 0; i < 3; i++) assert.deepEqual((await post(topic, "inc", {}, key)).body, first.body);
    assert.equal((await post(topic, "inc", { other: 1 }, key)).status, 422);
    assert.equal((await post(topic, "same", {}, key)).status, 422);
    assert.equal((await post(topic, "inc", {}, { ...key, authorization: "Bearer other" })).body.version, 3);
    assert.equal((await post("board:key2", "inc", {}, key)).body.version, 1);
    const at_once = await Promise.all(Array.from({ length: 20 }, () => post(topic, "inc", {}, { "idempotency-key": "at once" })));
    assert.deepEqual(new Set(at_once.map(({ status, body }) => `${status} ${body.version}`)).size, 1);
    assert.equal((await get(topic)).body.version, 4);
    await system.killWorker();
    assert.deepEqual((await post(topic, "inc", {}, key)).body, first.body, "after a kill, too");
  });

  it("500 events from 10 clients while the program is killed again and again: each answered 200, each done once", async () => {
    const topic = "board:kills";
    let done = 0;
    const client = async (who) => {
      for (let i = 0; i < 50; i++) {
        const { status, body } = await post(topic, "add", { id: `${who} ${i}` });
        assert.equal(status, 200, JSON.stringify(body));
        done++;
      }
    };
    const clients = Promise.all(Array.from({ length: 10 }, (_, who) => client(who)));
    for (const when of [50, 150, 250, 350]) {
      await until(() => done >= when, "events", 30000, 1);
      await system.killWorker();
    }
    await clients;
    const { body } = await get(topic);
    assert.equal(body.revision, 500);
    assert.equal(new Set(body.state.items.map(({ id }) => id)).size, 500);
  });
});

describe("refused, clearly", () => {
  const problem = (answer, status, detail) => {
    assert.equal(answer.status, status, JSON.stringify(answer.body));
    assert.equal(answer.headers.get("content-type").split(";")[0], "application/problem+json");
    assert.equal(answer.body.status, status);
    if (detail) assert.match(JSON.stringify(answer.body), detail);
  };

  it("by the channel: 422, 403, 404, 500", async () => {
    problem(await post("board:no", "refuse", {}), 422, /"reason":\{"reason":"no"\}/);
    problem(await post("board:no", "raise", {}), 500);
    problem(await get("nobody:x"), 404);
    problem(await get("counter:private"), 404);
    problem(await get("guarded:x"), 403);
    assert.equal((await get("guarded:x", { query: "?token=good" })).status, 200, "authorize has the query as payload");
    assert.equal((await get("guarded:x", { headers: { authorization: "Bearer good" } })).status, 200, "connect sees the headers");
    problem(await get("board:x", { query: "?deny=1" }), 401);
  });

  it("bad input: 400, 405, 413, 414, 415", async () => {
    problem(await post("board:bad", "inc", "{"), 400);
    problem(await post("board:bad", "inc", "[1]"), 400, /no object/);
    problem(await post("board:bad", "inc", ""), 400);
    problem(await post("board:bad", "inc", { a: 1 }, { "content-type": "text/plain" }), 415);
    problem(await post("board:bad", "inc", {}, { "idempotency-key": "x".repeat(300) }), 400);
    problem(await post("board:bad", "inc", JSON.stringify({ a: "x".repeat(2 << 20) })), 413);
    for (const [method, path, status] of [["PUT", "board:bad", 405], ["DELETE", "board:bad", 405], ["POST", "board:bad", 405], ["GET", "board:bad/events/inc", 405], ["GET", "board:bad/other", 404]]) {
      const response = await fetch(`${system.url}/channels/${path}`, { method });
      assert.equal(response.status, status, `${method} ${path}`);
      if (status === 405) assert.match(response.headers.get("allow"), /OPTIONS/);
    }
    const line = (path) => raw(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    for (const path of ["/channels/%zz", "/channels/%", "/channels/%00", "/channels/a%00b", "/channels/%ff", "/channels/"]) assert.ok([400, 404].includes((await line(path)).status), path);
    assert.equal((await line(`/channels/${"x".repeat(10240)}`)).status, 414);
    assert.equal((await get("board:bad")).body.version, 0, "nothing was done");
  });

  it("internal parameters are no client's: headers named like them are only headers", async () => {
    const response = await fetch(at("board:x"), { headers: { SEANCE_SOCKET: "x", "Seance-Socket": "x", "SEANCE-INTERNAL": "broadcast" } });
    assert.equal(response.status, 200);
  });
});

describe("CORS", () => {
  it("the host's own and listed origins may read and send, others may not", async () => {
    const own = await fetch(at("board:cors"), { headers: { origin: system.url } });
    assert.equal(own.headers.get("access-control-allow-origin"), system.url);
    const other = await fetch(at("board:cors"), { headers: { origin: "http://evil.example" } });
    assert.equal(other.headers.get("access-control-allow-origin"), null);
    assert.equal((await post("board:cors", "inc", {}, { origin: "http://evil.example" })).status, 403);
    const asked = await fetch(`${at("board:cors")}/events/inc`, { method: "OPTIONS", headers: { origin: system.url } });
    assert.equal(asked.status, 204);
    assert.match(asked.headers.get("access-control-allow-headers"), /Idempotency-Key/);
  });
});

it("the README's lines do what they say", async () => {
  const lines = readFileSync(join(tree, "README.md"), "utf8").match(/## By HTTP\n[^]*?```sh\n([^]*?)```/)[1].trim().split("\n");
  const todos = await startSystem({ app: "examples/todos" });
  try {
    const run = async (line, position = "", later = "") => {
      const command = line.replaceAll("http://127.0.0.1:8080", todos.url).replace("POSITION", position).replace("LATER", later);
      return (await promisify(execFile)("bash", ["-c", command])).stdout;
    };
    const [look, since, wait, range, add] = lines;
    assert.match(await run(look), /^ETag: "\d+-0"/m);
    const { position } = JSON.parse(await run(add));
    assert.match(await run(look), /"title":"Buy candles"/);
    assert.deepEqual(JSON.parse(await run(since, position)).patches, []);
    const waiting = run(wait, position);
    const { position: later } = JSON.parse(await run(add));
    assert.equal(JSON.parse(await waiting).patches.length, 1);
    assert.deepEqual([JSON.parse(await run(range, position, later)).position, JSON.parse(await run(range, position, position)).patches], [later, []]);
    assert.equal(JSON.parse(await run(since, position)).patches.length, 1);
  } finally {
    await todos.stop();
  }
});

it("100 clients with curl at once see the same", async () => {
  await post("board:curl", "inc", {});
  const seen = await Promise.all(Array.from({ length: 100 }, () =>
    new Promise((resolve, reject) => execFile("curl", ["-sf", at("board:curl")], (error, out) => (error ? reject(error) : resolve(out))))));
  assert.equal(new Set(seen).size, 1);
});
