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
import { until, within } from "./lib/wait.mjs";
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

describe("at the same time", () => {
  const parked = (count) => until(async () => ((await system.counts()).parked ?? 0) === count, `${count} to wait`, 15000);

  it("who waits is told at once when it ends: by DELETE, or since another has come with its token", async () => {
    const { token, position } = await joined("brief:waits");
    const waits = [1, 2].map(() => call("GET", "brief:waits", { token, query: `?since=${position}&wait=50` }));
    await parked(2);
    assert.equal((await call("DELETE", "brief:waits", { token })).status, 204);
    for (const { status } of await within(Promise.all(waits), "the answers", 10000)) assert.equal(status, 401);

    const raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
    raw.send(["1", "1", "draft:waits", "phx_join", { resume: {} }]);
    const [, , , , { response: { resume } }] = await raw.frame();
    const first = await joined("draft:waits", { resume: { at: resume } });
    const wait = call("GET", "draft:waits", { token: first.token, query: `?since=${first.position}&wait=50` });
    await parked(1);
    const second = await joined("draft:waits", { resume: { at: resume } });
    assert.equal((await within(wait, "the answer", 10000)).status, 401);
    assert.equal((await inc("draft:waits", second.token)).body.version, 1);
    await raw.close();
  });

  it("who waits is there: it does not end meanwhile; its time begins with the answer", async () => {
    const { token, position } = await joined("brief:stays");
    assert.equal((await call("GET", "brief:stays", { token, query: `?since=${position}&wait=4` })).status, 204);
    assert.equal((await inc("brief:stays", token)).body.version, 1);
  });

  it("a slow event is not its end", async () => {
    const { token } = await joined("brief:slow");
    assert.equal((await call("POST", "brief:slow/events/slow", { body: { ms: 3500 }, token })).body.version, 1);
    assert.equal((await inc("brief:slow", token)).body.version, 2);
  });

  it("events with one token, and ends: each is done, one is the end", async () => {
    const { token } = await joined("draft:many");
    const versions = (await Promise.all(Array.from({ length: 20 }, () => inc("draft:many", token)))).map(({ body }) => body.version);
    assert.deepEqual(versions.sort((a, b) => a - b), Array.from({ length: 20 }, (_, i) => i + 1));
    const worker = system.workerPid();
    const all = await Promise.all(Array.from({ length: 30 }, (_, i) => (i % 3 ? inc("draft:many", token) : call("DELETE", "draft:many", { token }))));
    assert.equal(all.filter(({ status }) => status === 204).length, 1);
    for (const { status } of all) assert.ok([200, 204, 401].includes(status), String(status));
    assert.equal(system.workerPid(), worker, "nothing has killed the program");
  });

  it("DELETE while an event runs: after it", async () => {
    const { token } = await joined("brief:busy");
    const slow = call("POST", "brief:busy/events/slow", { body: { ms: 800 }, token });
    const left = call("DELETE", "brief:busy", { token });
    const statuses = (await Promise.all([slow, left])).map(({ status }) => status);
    assert.ok(["200,204", "401,204"].includes(String(statuses)), String(statuses)); // the requests may have overtaken each other
    assert.equal((await inc("brief:busy", token)).status, 401);
  });
});

describe("joins that go wrong", () => {
  it("init kills the program: the third time it is not run", async () => {
    const { token } = await joined("draft:bystander");
    const died = () => system.read("program.log").match(/died: signal 11/g)?.length ?? 0;
    const before = died();
    const { status, body } = await call("POST", "draft:killer", { body: { segv: true } });
    assert.deepEqual([status, body.status], [500, 500]);
    assert.equal(died() - before, 2);
    assert.equal((await inc("draft:bystander", token)).body.version, 1);
  });

  it("killed while init runs: joined all the same", async () => {
    const slow = call("POST", "draft:interrupted", { body: { ms: 600 } });
    await call("GET", "board:x"); // the join was sent before
    await system.killWorker();
    const { status, body } = await slow;
    assert.equal(status, 201);
    assert.equal((await inc("draft:interrupted", body.token)).body.version, 1);
  });
});

it("joins while the program is killed: each request has one state, and no more are there", async () => {
  const database = (sql) => execFileSync("sqlite3", ["-readonly", join(system.dir, "seance.db"), sql], { encoding: "utf8" }).trim();
  const tokens = new Set();
  let left = 300;
  const joining = Array.from({ length: 12 }, async () => {
    while (left-- > 0) tokens.add((await joined("draft:killed")).token);
  });
  for (const some of [60, 120, 180, 240]) {
    await until(() => tokens.size >= some, "some joins", 20000, 1);
    await system.killWorker();
  }
  await within(Promise.all(joining), "all joins", 30000);
  assert.equal(tokens.size, 300);
  assert.equal(database("select count(*) from joins where topic = 'draft:killed' and ended is null"), "300");
});

describe("keys of private state", () => {
  const keyed = (topic, token, key, event = "inc", body = {}) => call("POST", `${topic}/events/${event}`, { body, token, headers: { "idempotency-key": key, "content-type": "application/json" } });

  it("hold whatever the event comes by", async () => {
    const raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
    raw.send(["1", "1", "draft:keys", "phx_join", { resume: {} }]);
    const [, , , , { response: { resume } }] = await raw.frame();
    await raw.frame();
    raw.send(["1", "2", "draft:keys", "seance:event", { type: "inc", payload: {}, key: "socket's" }]);
    await raw.frame();
    raw.socket.terminate();
    const { token } = await joined("draft:keys", { resume: { at: resume } });
    assert.equal((await keyed("draft:keys", token, "socket's")).body.version, 1, "the answer of then");
    assert.equal((await keyed("draft:keys", token, "http's")).body.version, 2);
    assert.equal((await keyed("draft:keys", token, "http's")).body.version, 2);
    assert.equal((await keyed("draft:keys", token, "http's", "inc", { other: 1 })).status, 422);
    const again = await joined("draft:keys", { resume: { at: resume } });
    assert.equal((await keyed("draft:keys", again.token, "http's")).body.version, 2, "under another token, too");
    const back = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
    back.send(["1", "1", "draft:keys", "phx_join", { resume: { at: resume }, replies: true }]);
    await back.frame();
    assert.deepEqual([(await back.frame())[4].version, (await back.frame())[4].version], [1, 2]);
    back.send(["1", "2", "draft:keys", "seance:event", { type: "inc", payload: {}, key: "http's" }]);
    assert.deepEqual(await back.frame(), ["1", "2", "draft:keys", "phx_reply", { status: "ok", response: {} }]);
    await back.close();
    const other = await joined("draft:keys");
    assert.equal((await keyed("draft:keys", other.token, "http's")).body.version, 1, "another's state has its own");
  });

  it("at the same time: done once, both answered the same", async () => {
    const { token } = await joined("draft:twice");
    const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => keyed("draft:twice", token, `k${i % 3}`)));
    for (const i of [0, 1, 2]) assert.equal(new Set(answers.filter((_, j) => j % 3 === i).map(({ body }) => body.version)).size, 1);
    assert.equal((await call("GET", "draft:twice", { token })).body.state.n, 3);
  });

  it("one that was refused may be tried again, as may one that has crashed", async () => {
    const { token } = await joined("draft:refused");
    assert.equal((await keyed("draft:refused", token, "r", "refuse")).status, 422);
    assert.equal((await keyed("draft:refused", token, "c", "crash")).status, 500);
    assert.equal((await keyed("draft:refused", token, "c", "inc")).body.version, 1);
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

  it("whatever is no token is told so, in the header and in the query", async () => {
    const { token } = await joined("draft:odd");
    const [kind, socket, expires, signature] = token.split(".");
    const head = (text) => createHmac("sha256", readFileSync(`${system.dir}/token.key`)).update(text).digest("hex");
    const odd = [" ", ".", "...", "join", "join.", "join...", `join..${expires}.${signature}`, `${token}.`, `.${token}`, `${token}${token}`, `${token}\t`.trim() + "x", "x".repeat(6000), `join.${"x".repeat(950)}.1.${signature}`, "%00", "a%0d%0aX-Accel-Redirect: /x", "€", `${kind}.${socket}.${expires}.${signature.toUpperCase()}`];
    for (const bad of odd) {
      if (/^[\x21-\x7e]+$/.test(bad)) assert.equal((await call("GET", "draft:odd", { token: bad })).status, 401, bad);
      assert.equal((await call("GET", "draft:odd", { query: `?seance_token=${encodeURIComponent(bad)}` })).status, 401, bad);
    }
    for (const text of ["", "0", "-1", "~", "~~", "99999999999999999999~1-1", `${socket}~1`, "9".repeat(900)]) {
      for (const expiry of ["4102444800", "999999999999999999", "9999999999999999999", "-1", "0", "x", ""]) {
        const body = `join.${text}.${expiry}`;
        assert.equal((await call("GET", "draft:odd", { token: `${body}.${head(body)}` })).status, 401, body);
        const resumes = `resume.${text}.${expiry}`;
        assert.equal((await joined("draft:odd", { resume: { at: `${resumes}.${head(resumes)}` } })).version, 0, resumes);
      }
    }
    for (const at of [null, 7, true, [], {}, "", "1-1", "-1-1", `${"9".repeat(40)}-${"9".repeat(40)}`, "a\0b", "x".repeat(20000)]) assert.equal((await joined("draft:odd", { resume: { at } })).version, 0);
    assert.equal((await call("GET", "draft:odd", { query: `?seance_token=${[...token].map((c) => `%${c.charCodeAt(0).toString(16)}`).join("")}` })).status, 200, "every byte percent-encoded");
    assert.equal((await call("GET", "draft:odd", { query: `?seance_token=x&seance_token=${token}` })).status, 200, "the last of a name counts");
    assert.equal((await call("GET", "draft:odd", { token, query: "?seance_token=x" })).status, 200, "the header goes before the query");
    const log = system.read("program.log");
    assert.doesNotMatch(log, /\.[0-9a-f]{64}/, "no token is in the log");
    assert.doesNotMatch(log.split("bystander")[0], /died: (?!signal (9|11) )/);
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
