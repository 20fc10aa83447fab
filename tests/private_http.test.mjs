/*
 * Private state by HTTP: POST joins, a token goes with what follows, DELETE leaves; who does not come any more has gone.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Raw } from "./lib/raw.mjs";
import { until } from "./lib/wait.mjs";
import { startSystem, tree } from "./system.mjs";

let system;
before(async () => {
  system = await startSystem({ app: "tests/conformance" });
});
after(() => system?.stop());

/* call - status, headers and body; the body of what is given is JSON */
async function call(method, path, { body, token, headers = {}, query = "" } = {}) {
  const sent = { ...headers };
  if (token) sent["seance-token"] = token;
  if (body !== undefined) sent["content-type"] ??= "application/json";
  const response = await fetch(`${system.url}/channels/${path}${query}`, { method, headers: sent, body: typeof body === "object" ? JSON.stringify(body) : body });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text && JSON.parse(text) };
}

async function joined(topic, body = {}) {
  const { status, body: answer } = await call("POST", topic, { body });
  assert.equal(status, 201);
  return answer;
}

const inc = (topic, token, more = {}) => call("POST", `${topic}/events/inc`, { body: {}, token, ...more });

describe("a life", () => {
  it("POST joins: 201, the state, a token; each join has a state of its own", async () => {
    const first = await joined("draft:a", { who: "me" });
    const second = await joined("draft:a", { who: "you" });
    const { token, position, ...rest } = first;
    assert.deepEqual(rest, { topic: "draft:a", version: 0, revision: 0, state: { n: 0, began: { who: "me" } } });
    assert.match(position, /^\d+-0$/);
    assert.notEqual(token, second.token);
    assert.equal((await inc("draft:a", token)).body.version, 1);
    assert.deepEqual((await call("GET", "draft:a", { token })).body.state, { n: 1, began: { who: "me" } });
    assert.deepEqual((await call("GET", "draft:a", { token: second.token })).body.state, { n: 0, began: { who: "you" } });
  });

  it("events, ETag, If-Match, If-None-Match, since, keys, assigns: as for shared state", async () => {
    const { token, position } = await joined("draft:b");
    const event = await inc("draft:b", token, { headers: { "idempotency-key": "k", "content-type": "application/json", "if-match": `"${position}"` } });
    assert.deepEqual([event.status, event.body.operations], [200, [{ op: "replace", path: "/n", value: 1 }]]);
    assert.equal((await inc("draft:b", token, { headers: { "idempotency-key": "k", "content-type": "application/json" } })).body.version, 1);
    assert.equal((await inc("draft:b", token, { headers: { "content-type": "application/json", "if-match": `"${position}"` } })).status, 412);
    const seen = await call("GET", "draft:b", { token });
    assert.equal((await call("GET", "draft:b", { token, headers: { "if-none-match": seen.headers.get("etag") } })).status, 304);
    const since = await call("GET", "draft:b", { token, query: `?since=${position}` });
    assert.deepEqual(since.body.patches.map(({ version }) => version), [1]);
    await call("POST", "draft:b/events/note", { body: { note: "kept" }, token });
    assert.deepEqual((await call("POST", "draft:b/events/assigns", { body: {}, token })).body.events, [{ name: "assigns", detail: { note: "kept" } }]);
    assert.equal((await call("GET", "draft:b", { query: `?seance_token=${token}` })).body.state.n, 1);
  });

  it("wait: as soon as a timer has changed it", async () => {
    const { token, position } = await joined("draft:c");
    const { body: later } = await call("POST", "draft:c/events/later", { body: { ms: 200 }, token });
    assert.equal(later.version, 1);
    const { body } = await call("GET", "draft:c", { token, query: `?since=${later.position}&wait=20` });
    assert.deepEqual(body.patches.map(({ operations }) => operations), [[{ op: "replace", path: "/n", value: 1 }]]);
    assert.ok(position);
  });

  it("through restarts of the program and of nginx", async () => {
    const { token } = await joined("draft:d");
    await inc("draft:d", token);
    await system.killWorker();
    assert.equal((await inc("draft:d", token)).body.version, 2);
    await system.restartNginx();
    await until(async () => (await inc("draft:d", token)).status === 200, "the program");
  });

  it("DELETE leaves: 204, then 401; the rows go", async () => {
    const watcher = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
    await watcher.join("drafts");
    const { token } = await joined("brief:left");
    assert.equal((await call("DELETE", "brief:left", { token })).status, 204);
    for (const method of ["GET", "DELETE"]) assert.equal((await call(method, "brief:left", { token })).status, 401);
    assert.equal((await inc("brief:left", token)).status, 401);
    assert.equal((await watcher.frame())[4].operations[0].value, "left");
    await watcher.close();
  });

  it("who does not come any more has gone after resume_ttl", async () => {
    const watcher = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
    await watcher.join("drafts");
    const { token } = await joined("brief:idle");
    assert.equal((await inc("brief:idle", token)).status, 200);
    assert.equal((await watcher.frame("its end", 10000))[4].operations[0].value, "closed");
    assert.equal((await inc("brief:idle", token)).status, 401);
    await watcher.close();
  });

  it("it takes a private state over from a lost connection, and gives it back", async () => {
    const raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
    raw.send(["1", "1", "draft:e", "phx_join", { resume: {} }]);
    const [, , , , { response }] = await raw.frame();
    await raw.frame();
    raw.socket.terminate();
    const { token, state } = await joined("draft:e", { resume: { at: response.resume } });
    assert.deepEqual(state, { n: 0, began: {} });
    assert.equal((await inc("draft:e", token)).body.version, 1);
    const back = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
    back.send(["1", "1", "draft:e", "phx_join", { resume: { at: response.resume } }]);
    await back.frame();
    assert.equal((await back.frame())[4].version, 1);
    assert.equal((await inc("draft:e", token)).status, 401);
    await back.close();
  });
});

it("the README's lines do what they say", async () => {
  const lines = readFileSync(join(tree, "README.md"), "utf8").match(/Private state is joined first[^]*?```sh\n([^]*?)```/)[1].trim().split("\n");
  const wizard = await startSystem({ app: "examples/wizard" });
  const out = [];
  let token;
  try {
    for (const line of lines) {
      const command = line.replace("TOKEN", token).replaceAll("http://127.0.0.1:8080", wizard.url);
      out.push(execFileSync("sh", ["-c", command], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
      token ??= JSON.parse(out[0]).token;
    }
  } finally {
    await wizard.stop();
  }
  assert.deepEqual(out.slice(0, 3).map((text) => JSON.parse(text).state?.step), ["name", undefined, "seats"]);
  assert.deepEqual([JSON.parse(out[1]).version, JSON.parse(out[2]).state.answers, out[3]], [1, { name: "Ann" }, ""]);
});

describe("what is refused", () => {
  const signed = (text, kind = "join", expires = 4102444800) => {
    const head = `${kind}.${text}.${expires}`;
    return `${head}.${createHmac("sha256", readFileSync(`${system.dir}/token.key`)).update(head).digest("hex")}`;
  };

  it("tokens: forged, cut, expired, of another kind, another topic's", async () => {
    const { token } = await joined("draft:f");
    const socket = token.split(".")[1];
    const other = token.slice(0, -1) + (token.endsWith("0") ? "1" : "0");
    assert.equal((await call("GET", "draft:f", { token: signed(socket) })).status, 200, "the test's own signature is good");
    for (const bad of [other, token.slice(0, -1), "x", signed(socket, "join", 1), signed(socket, "poll"), signed("nobody")]) {
      for (const method of ["GET", "DELETE"]) {
        const { status, headers, body } = await call(method, "draft:f", { token: bad });
        assert.deepEqual([status, body.status, headers.get("content-type")], [401, 401, "application/problem+json"], bad);
      }
      assert.equal((await inc("draft:f", bad)).status, 401);
    }
    for (const topic of ["draft:g", "board:f"]) assert.equal((await call("GET", topic, { token })).status, 401);
    assert.equal((await inc("draft:f", token)).status, 200, "nothing was lost");
    assert.equal((await call("DELETE", "draft:f")).status, 401, "without one");
    assert.equal((await call("DELETE", "board:f")).status, 405, "shared state has no end");
  });

  it("joins: shared state, nobody's topic, authorize, connect, init, bodies, an origin, a second time", async () => {
    const status = async (topic, options) => (await call("POST", topic, options)).status;
    assert.equal(await status("board:x", { body: {} }), 405);
    assert.equal(await status("nobody:x", { body: {} }), 404);
    assert.equal(await status("authmap:x", { body: {} }), 403);
    assert.equal(await status("draft:x", { body: {}, query: "?deny=1" }), 401);
    assert.equal(await status("bad_init_map:x", { body: {} }), 422);
    for (const body of ["[]", "7", "{", ""]) assert.equal(await status("draft:x", { body }), body ? 400 : 201, body);
    assert.equal(await status("draft:x", { body: "{}", headers: { "content-type": "text/plain" } }), 415);
    assert.equal(await status("draft:x", { body: {}, headers: { origin: "https://elsewhere.example" } }), 403);
    const { token } = await joined("draft:x");
    assert.equal(await status("draft:x", { body: {}, token }), 409);
    const stream = await call("GET", "draft:x", { token, headers: { accept: "text/event-stream" } });
    assert.equal(stream.status, 406);
    assert.equal((await call("GET", "draft:x")).status, 404, "without a token only shared state is seen");
    assert.equal((await call("PUT", "draft:x", { body: {} })).headers.get("allow"), "GET, HEAD, POST, DELETE, OPTIONS");
  });
});
