/*
 * nginx/www/seance.js by itself: its patches against RFC 6902, its conversation against a scripted server.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import jsonpatch from "fast-json-patch";
import WebSocket, { WebSocketServer } from "ws";
import { EventSource } from "./lib/event_source.mjs";
import { until, within } from "./lib/wait.mjs";
import { startSystem, temporaryDir, tree } from "./system.mjs";

// a .js file outside of any package with "type": "module": Node 18 needs to be told that it is one
const source = readFileSync(new URL("../nginx/www/seance.js", import.meta.url));
const file = (name) => new URL(`../nginx/www/${name}`, import.meta.url).pathname;
const { applyPatch, connect, Refused } = await import(`data:text/javascript;base64,${source.toString("base64")}`);

it("is under 12 KB, as it is served", () => {
  assert.ok(source.length < 12 * 1024, `${source.length} bytes`);
});

it("seance.d.ts: what it promises can be used as it says, and what it does not cannot", () => {
  const dir = mkdtempSync(join(tree, "build/types-"));
  try {
    writeFileSync(join(dir, "use.ts"), `
      import { applyPatch, connect, Refused } from ${JSON.stringify(file("seance.js"))};
      interface List { todos: { id: number; title: string }[] }
      const socket = connect("/socket", { params: () => ({ token: "x" }) });
      const list = socket.channel<List>("todos:home", { any: 1 });
      socket.onstatus = (status) => status === "open";
      list.onchange = ({ todos }, version) => { const n: number = todos.length + version; };
      socket.channel("todos:away", () => ({ any: 1 })).onchange = null;
      connect(new URL("ws://example.com/socket"), { EventSource: class {}, api: "/channels" }).disconnect();
      list.onstatus = (status, reason) => { if (status === "refused" && reason instanceof Refused) reason.reason; };
      const stop: () => void = list.on("said", (detail) => detail.x);
      const done: Promise<void> = list.push("add", { title: "a" });
      const state: List = applyPatch(list.state, [{ op: "remove", path: "/todos/0" }]);
      // @ts-expect-error
      list.state = state;
      // @ts-expect-error
      socket.status === "lost";
      // @ts-expect-error
      list.push();
      list.leave(); socket.disconnect();
    `);
    const tsc = join(tree, "tests/node_modules/typescript/bin/tsc");
    execFileSync(process.execPath, [tsc, "--noEmit", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "use.ts"], { cwd: dir, stdio: "pipe", encoding: "utf8" });
  } catch (error) {
    assert.fail(error.stdout || error.message);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

describe("applyPatch", () => {
  const examples = [
    // [state, operations, result]: RFC 6902, appendix A, without "test", which no server sends
    [{ foo: "bar" }, [{ op: "add", path: "/baz", value: "qux" }], { baz: "qux", foo: "bar" }],
    [{ foo: ["bar", "baz"] }, [{ op: "add", path: "/foo/1", value: "qux" }], { foo: ["bar", "qux", "baz"] }],
    [{ baz: "qux", foo: "bar" }, [{ op: "remove", path: "/baz" }], { foo: "bar" }],
    [{ foo: ["bar", "qux", "baz"] }, [{ op: "remove", path: "/foo/1" }], { foo: ["bar", "baz"] }],
    [{ baz: "qux", foo: "bar" }, [{ op: "replace", path: "/baz", value: "boo" }], { baz: "boo", foo: "bar" }],
    [{ foo: { bar: "baz", waldo: "fred" }, qux: { corge: "grault" } }, [{ op: "move", from: "/foo/waldo", path: "/qux/thud" }], { foo: { bar: "baz" }, qux: { corge: "grault", thud: "fred" } }],
    [{ foo: ["all", "grass", "cows", "eat"] }, [{ op: "move", from: "/foo/1", path: "/foo/3" }], { foo: ["all", "cows", "eat", "grass"] }],
    [{ foo: "bar" }, [{ op: "add", path: "/child", value: { grandchild: {} } }], { foo: "bar", child: { grandchild: {} } }],
    [{ "/": 9, "~1": 10 }, [{ op: "replace", path: "/~01", value: 11 }, { op: "replace", path: "/~1", value: 1 }], { "/": 1, "~1": 11 }],
    [{ foo: ["bar"] }, [{ op: "add", path: "/foo/-", value: ["abc", "def"] }], { foo: ["bar", ["abc", "def"]] }],
    // the root, empty keys, copies that stay apart
    [{ a: 1 }, [{ op: "replace", path: "", value: [1] }, { op: "add", path: "/-", value: 2 }], [1, 2]],
    ["x", [{ op: "add", path: "", value: null }], null],
    [{ "": { "": 1 } }, [{ op: "replace", path: "//", value: 2 }], { "": { "": 2 } }],
    [{ a: { b: [1] } }, [{ op: "copy", from: "/a", path: "/c" }, { op: "add", path: "/c/b/-", value: 2 }, { op: "remove", path: "/a/b/0" }], { a: { b: [] }, c: { b: [1, 2] } }],
    [{ a: null }, [{ op: "copy", from: "/a", path: "/b" }, { op: "remove", path: "/a" }], { b: null }],
  ];
  for (const [state, operations, result] of examples) {
    it(`${JSON.stringify(operations)} on ${JSON.stringify(state)}`, () => {
      const before = structuredClone(state);
      assert.deepEqual(applyPatch(state, operations), result);
      assert.deepEqual(state, before, "the old state is as it was");
    });
  }

  const failing = [
    [{ baz: "qux" }, [{ op: "test", path: "/baz", value: "bar" }]],
    [{ foo: "bar" }, [{ op: "add", path: "/baz/bat", value: "qux" }]],
    [{}, [{ op: "remove", path: "/a" }]],
    [{}, [{ op: "replace", path: "/a", value: 1 }]],
    [{ a: [1] }, [{ op: "add", path: "/a/2", value: 1 }]],
    [{ a: [1] }, [{ op: "replace", path: "/a/1", value: 1 }]],
    [{ a: [1] }, [{ op: "replace", path: "/a/-", value: 1 }]],
    [{ a: [1] }, [{ op: "replace", path: "/a/00", value: 1 }]],
    [{ a: [1] }, [{ op: "remove", path: "/a/length" }]],
    [{ a: {} }, [{ op: "move", from: "/a", path: "/a/b" }]],
    [{ a: 1 }, [{ op: "replace", path: "/toString", value: 1 }]],
    [{ a: 1 }, [{ op: "replace", path: "a", value: 1 }]],
    [{ a: 1 }, [{ op: "frobnicate", path: "/a" }]],
    [{ a: {} }, [{ op: "add", path: "/__proto__", value: 1 }]],
    [{ a: {} }, [{ op: "add", path: "/a/__proto__/x", value: 1 }]],
    [{ a: {} }, [{ op: "copy", from: "/__proto__", path: "/b" }]],
    [{ a: {} }, [{ op: "add", path: "/constructor/prototype/x", value: 1 }]],
  ];
  for (const [state, operations] of failing) {
    it(`fails: ${JSON.stringify(operations)} on ${JSON.stringify(state)}`, () => {
      const before = structuredClone(state);
      assert.throws(() => applyPatch(state, operations));
      assert.deepEqual(state, before, "the old state is as it was");
      assert.equal({}.x, undefined);
    });
  }

  it("what is not touched stays the same object", () => {
    const state = { a: { deep: [1] }, b: [{ id: 1 }, { id: 2 }] };
    const next = applyPatch(state, [{ op: "replace", path: "/b/1/id", value: 3 }]);
    assert.equal(next.a, state.a);
    assert.equal(next.b[0], state.b[0]);
    assert.notEqual(next.b[1], state.b[1]);
  });

  it("1,000 random patches by fast-json-patch's compare", () => {
    const seed = Number(process.env.SEED ?? Date.now() % 1e9);
    let x = seed || 1;
    const random = (n) => (x = (x * 48271) % 2147483647) % n;
    const value = (depth) => {
      const kind = random(depth > 3 ? 5 : 8);
      if (kind < 2) return random(5);
      if (kind < 5) return [null, true, "a/b~c"][kind - 2];
      if (kind < 6) return Array.from({ length: random(5) }, () => value(depth + 1));
      return Object.fromEntries(Array.from({ length: random(5) }, () => [["a", "b/c", "~d", "", "e"][random(5)], value(depth + 1)]));
    };
    for (let i = 0; i < 1000; i++) {
      const [a, b] = [{ root: value(0) }, { root: value(0) }];
      assert.deepEqual(applyPatch(a, jsonpatch.compare(a, b)), b, `seed ${seed}, round ${i}`);
    }
  });
});

describe("the conversation", () => {
  let server;
  let sockets; // the server's sides, in the order they came
  let frames; // what came from the client
  let clients = [];

  before(async () => {
    server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    await new Promise((done) => server.on("listening", done));
    server.on("connection", (socket, request) => {
      socket.path = request.url;
      sockets.push(socket);
      socket.on("message", (data) => {
        const frame = JSON.parse(data.toString());
        frames.push(frame);
        const [joinRef, ref, topic, name, { type } = {}] = frame;
        const event = name === "seance:event" ? type : name;
        const reply = (status, response = {}) => say(joinRef, ref, topic, "phx_reply", { status, response });
        if (topic === "phoenix") reply("ok");
        else if (event === "phx_join" && topic === "refused:a") reply("error", { reason: "no" });
        else if (event === "phx_join") {
          reply("ok");
          say(joinRef, null, topic, "seance:change", { state: { n: 0 }, version: 0, resume: "1-0" });
        } else if (event === "bad") reply("error", { reason: "not so" });
        else if (event === "inc") {
          say(joinRef, null, topic, "seance:patch", { operations: [{ op: "replace", path: "/n", value: 1 }], version: 1 });
          reply("ok");
        } else if (event === "nothing") reply("ok");
      });
    });
  });
  after(() => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  afterEach(() => {
    for (const client of clients) client.disconnect();
    clients = [];
  });

  const say = (...frame) => sockets.at(-1).send(JSON.stringify(frame));
  const joinRef = () => frames.findLast((frame) => frame[3] === "phx_join")[1];

  async function open(topic = "t:a", payload) {
    sockets = [];
    frames = [];
    const client = connect(`http://127.0.0.1:${server.address().port}/socket`, { WebSocket, params: { token: "x y" } });
    clients.push(client);
    const channel = client.channel(topic, payload);
    return { client, channel };
  }

  async function joined(...args) {
    const both = await open(...args);
    await until(() => both.channel.state, "the state");
    return both;
  }

  it("connects, joins, has the state", async () => {
    const { client, channel } = await joined("t:a", { hello: 1 });
    assert.equal(sockets[0].path, "/socket/websocket?token=x+y&vsn=2.0.0");
    assert.deepEqual(frames.map((frame) => frame[3]), ["heartbeat", "phx_join"]);
    assert.deepEqual(frames[1], [joinRef(), joinRef(), "t:a", "phx_join", { hello: 1, replies: true, resume: {} }]);
    assert.equal(client.status, "open");
    assert.equal(channel.status, "joined");
    assert.deepEqual([channel.state, channel.version], [{ n: 0 }, 0]);
  });

  it("a push is fulfilled after its patch", async () => {
    const { channel } = await joined();
    await within(channel.push("inc"), "the push");
    assert.deepEqual([channel.state, channel.version], [{ n: 1 }, 1]);
  });

  it("what is pushed before it is joined waits, as it was, and is sent in order", async () => {
    const { channel } = await open();
    const payload = { i: 0 };
    const pushes = Array.from({ length: 50 }, (_, i) => ((payload.i = i), channel.push("nothing", payload)));
    await within(Promise.all(pushes), "50 pushes");
    assert.deepEqual(frames.filter((frame) => frame[4].type === "nothing").map((frame) => frame[4].payload.i), Array.from({ length: 50 }, (_, i) => i));
  });

  it("what is pushed by who hears of the join comes after what waited", async () => {
    const { channel } = await open();
    const first = channel.push("nothing", { i: 0 });
    const second = new Promise((resolve) => (channel.onstatus = (status) => status === "joined" && resolve(channel.push("nothing", { i: 1 }))));
    await within(Promise.all([first, second]), "both");
    assert.deepEqual(frames.filter((frame) => frame[4].type === "nothing").map((frame) => frame[4].payload.i), [0, 1]);
  });

  it("1,000 events may wait; who leaves rejects them", async () => {
    const { channel } = await open("refused:a");
    const pushes = Promise.allSettled(Array.from({ length: 1000 }, () => channel.push("nothing")));
    await assert.rejects(within(channel.push("nothing"), "one more"), /takes no more/);
    channel.leave();
    assert.ok((await within(pushes, "their end")).every(({ reason }) => /was left/.test(reason.message)));
    await assert.rejects(channel.push("nothing"), /takes no more/);
  });

  it("a refused push is rejected with the reason", async () => {
    const { channel } = await joined();
    await assert.rejects(within(channel.push("bad", { a: 1 }), "the push"), (error) => {
      assert.ok(error instanceof Refused);
      assert.equal(error.message, "not so");
      assert.deepEqual(error.reason, { reason: "not so" });
      return true;
    });
    assert.equal(channel.status, "joined");
  });

  it("events and errors reach their listeners", async () => {
    const { channel } = await joined();
    const got = [];
    const stop = channel.on("said", (detail) => got.push(detail));
    channel.onerror = (payload) => got.push(payload);
    say(joinRef(), null, "t:a", "seance:event", { name: "said", detail: { x: 1 } });
    say(null, null, "t:a", "seance:event", { name: "said", detail: null });
    say(joinRef(), null, "t:a", "seance:error", { message: "oh" });
    await until(() => got.length === 3, "three of them");
    assert.deepEqual(got, [{ x: 1 }, null, { message: "oh" }]);
    stop();
    say(joinRef(), null, "t:a", "seance:event", { name: "said", detail: 2 });
    await channel.push("inc");
    assert.equal(got.length, 3);
  });

  for (const [what, patch] of [
    ["a gap", { operations: [], version: 3, resume: "1-3" }],
    ["a patch that does not fit", { operations: [{ op: "add", path: "/__proto__", value: {} }], version: 1, resume: "1-1" }],
  ]) {
    it(`${what}: the join is lost, the next one wants the whole state; what was pushed meanwhile is done`, async () => {
      const { channel } = await joined();
      const statuses = [];
      const seen = [];
      channel.onstatus = (status, reason) => statuses.push([status, reason?.message]);
      channel.onchange = (state, version) => seen.push([state.n, version]);
      say(joinRef(), null, "t:a", "seance:patch", patch);
      say(joinRef(), null, "t:a", "seance:patch", { operations: [], version: 1 });
      await until(() => statuses.length === 1, "the loss");
      await within(channel.push("inc"), "a push");
      assert.deepEqual(statuses.map(([status]) => status), ["lost", "joining", "joined"]);
      assert.ok(statuses[0][1], "it is said why");
      assert.deepEqual(frames.findLast((frame) => frame[3] === "phx_join")[4].resume, {});
      assert.deepEqual(seen, [[0, 0], [1, 1]]);
    });
  }

  it("version 0 comes after any other", async () => {
    const { channel } = await joined();
    const seen = [];
    channel.onchange = (state, version) => seen.push([state.n, version]);
    say(joinRef(), null, "t:a", "seance:change", { state: { n: 7 }, version: 5 });
    say(joinRef(), null, "t:a", "seance:patch", { operations: [{ op: "replace", path: "/n", value: 8 }], version: 6 });
    say(joinRef(), null, "t:a", "seance:patch", { operations: [], version: 0 });
    await until(() => seen.length === 3, "state and patches");
    assert.deepEqual(seen, [[7, 5], [8, 6], [8, 0]]);
  });

  it("frames for an old join are ignored", async () => {
    const { channel } = await joined();
    say("99", null, "t:a", "seance:patch", { operations: [], version: 1 });
    say("99", "99", "t:a", "phx_close", {});
    await channel.push("nothing");
    assert.deepEqual([channel.status, channel.version], ["joined", 0]);
  });

  it("a broken connection: closed, then open and joined again; what was on its way is sent again under its key, once", async () => {
    const { client, channel } = await joined();
    const statuses = [];
    client.onstatus = (status) => statuses.push(status);
    sockets[0].removeAllListeners("message");
    const heard = new Promise((resolve) => sockets[0].on("message", (data) => resolve(JSON.parse(data))));
    const push = channel.push("inc");
    const lost = await within(heard, "the first sending");
    sockets[0].terminate();
    const later = channel.push("nothing");
    await within(Promise.all([push, later]), "both pushes");
    assert.deepEqual(statuses, ["closed", "connecting", "open"]);
    assert.deepEqual(frames.at(-3)[4], { replies: true, resume: { at: "1-0" } });
    assert.deepEqual(frames.at(-2).slice(2), lost.slice(2));
    assert.match(lost[4].key, /^\w{8,}-\d+$/);
    assert.deepEqual(frames.at(-1)[4].type, "nothing");
    assert.notEqual(frames.at(-1)[4].key, lost[4].key);
  });

  it("phx_error: the first that waits for an answer is rejected; joined again, the others are sent", async () => {
    const { channel } = await joined();
    sockets[0].pause();
    const [crashes, waits] = [channel.push("inc"), channel.push("inc")];
    const statuses = [];
    channel.onstatus = (status) => statuses.push(status);
    say(joinRef(), joinRef(), "t:a", "phx_error", {});
    await assert.rejects(within(crashes, "the crash"), /has crashed/);
    sockets[0].resume();
    await until(() => channel.status === "joined" && statuses.length === 3, "the rejoin");
    assert.deepEqual(statuses, ["lost", "joining", "joined"]);
    await within(waits, "the other");
  });

  it("a refused join says why and is tried again", async () => {
    const { channel } = await open("refused:a");
    let why;
    channel.onstatus = (status, reason) => status === "refused" && (why = reason);
    await until(() => why, "the refusal");
    assert.deepEqual(why.reason, { reason: "no" });
    await until(() => frames.filter((frame) => frame[3] === "phx_join").length === 2, "another try");
  });

  it("leave ends the channel, disconnect all", async () => {
    const { client, channel } = await joined();
    channel.leave();
    await until(() => frames.some((frame) => frame[3] === "phx_leave"), "the leave");
    assert.equal(channel.status, "left");
    client.disconnect();
    await until(() => sockets[0].readyState === WebSocket.CLOSED, "the end");
    assert.equal(client.status, "closed");
  });
});

it("long-poll: the transport's token comes behind the application's; a frame a POST, in order", async () => {
  const urls = [];
  const frames = [];
  const messages = [];
  let waiting = () => {};
  const server = createServer(async (request, response) => {
    const answer = (object) => response.end(JSON.stringify(object));
    let body = "";
    for await (const part of request) body += part;
    if (!request.url.startsWith("/socket/longpoll?")) return response.writeHead(404).end();
    urls.push(`${request.method} ${request.url.split("?")[1]}`);
    if (body) {
      const [joinRef, ref, topic] = JSON.parse(body);
      frames.push(JSON.parse(body));
      messages.push(JSON.stringify([joinRef, ref, topic, "phx_reply", { status: "ok", response: {} }]));
      answer({ status: 200 });
      waiting();
    } else if (urls.length === 1) answer({ status: 410, token: "T0", messages: [] });
    else {
      waiting = () => messages.length && answer({ status: 200, token: `T${frames.length}`, messages: messages.splice(0) }) && (waiting = () => {});
      waiting();
    }
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const client = connect(`http://127.0.0.1:${server.address().port}/socket`, { WebSocket: null, params: { token: "mine" } });
  try {
    await within(client.channel("t:a").push("x", { n: 1 }), "the push");
    assert.deepEqual(frames.map((frame) => frame[3]), ["heartbeat", "phx_join", "seance:event"]);
    const [first, ...others] = urls;
    assert.equal(first, "GET token=mine&vsn=2.0.0");
    for (const url of others) assert.match(url, /^(GET|POST) token=mine&vsn=2\.0\.0&token=T\d$/);
    assert.ok(others.some((url) => /^GET.*T[1-3]$/.test(url)), "the newest token");
  } finally {
    client.disconnect();
    server.closeAllConnections();
    server.close();
  }
});

describe("event streams and POST", () => {
  let server;
  let client;
  let streams; // their responses
  let posts; // {url, key, body, answer(status, object)}

  before(async () => {
    server = createServer(async (request, response) => {
      if (request.method === "OPTIONS") response.writeHead(204).end();
      else if (request.headers.accept === "text/event-stream") {
        response.writeHead(200, { "content-type": "text/event-stream" });
        streams.push(Object.assign(response, { url: request.url }));
        tell("seance:event", { name: "hello", detail: 1 }); // of the join, ahead of the state
        tell("seance:change", { state: { n: 0 }, version: 0 }, "7-0");
      } else {
        let body = "";
        for await (const part of request) body += part;
        const answer = (status, object) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(object));
        posts.push({ url: request.url, key: request.headers["idempotency-key"], body: JSON.parse(body), answer });
      }
    });
    await new Promise((done) => server.listen(0, "127.0.0.1", done));
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  afterEach(() => client.disconnect());

  const tell = (event, data, id) => streams.at(-1).write(`event: ${event}\n${id ? `id: ${id}\n` : ""}data: ${JSON.stringify({ ...data, position: id })}\n\n`);
  const patched = (n) => tell("seance:patch", { operations: [{ op: "replace", path: "/n", value: n }], version: n }, `7-${n}`);
  const posted = (n) => until(() => posts[n - 1], `POST ${n}`);

  async function open(options) {
    streams = [];
    posts = [];
    client = connect(`http://127.0.0.1:${server.address().port}/socket`, { WebSocket: null, EventSource, ...options });
    const channel = client.channel("t:a/b", { name: "ann" });
    const heard = [];
    for (const name of ["hello", "said", "replied"]) channel.on(name, (detail) => heard.push([name, detail]));
    channel.onchange = ({ n }) => heard.push(["n", n]);
    await until(() => channel.state && channel.status === "joined", "the state");
    return { channel, heard };
  }

  it("a push is fulfilled behind its effect and the events of the stream and of the answer, each told once", async () => {
    const { channel, heard } = await open({ params: { token: "x" } });
    assert.equal(streams[0].url, "/channels/t%3Aa%2Fb?token=x&name=ann&vsn=2.0.0");
    const push = channel.push("in/c", { by: 1 }).then(() => heard.push(["fulfilled"]));
    const { url, body, answer } = await posted(1);
    assert.deepEqual([url, body], ["/channels/t%3Aa%2Fb/events/in%2Fc?token=x&name=ann&vsn=2.0.0", { by: 1 }]);
    answer(200, { version: 2, position: "7-2", events: [{ name: "said", detail: { x: 1 } }, { name: "replied", detail: null }] });
    patched(1); // another's
    await until(() => heard.length === 3, "the first patch");
    tell("seance:event", { name: "said", detail: { x: 1 } });
    patched(2);
    await within(push, "the push");
    assert.deepEqual(heard, [["hello", 1], ["n", 0], ["n", 1], ["said", { x: 1 }], ["n", 2], ["replied", null], ["fulfilled"]]);
  });

  it("one after the other; what is to be tried again is sent with the same key to the same address", async () => {
    let token = 0;
    const { channel } = await open({ params: () => ({ token: token++ }) });
    const pushes = [channel.push("a"), channel.push("b")];
    for (const [n, status] of [[1, 503], [2, 429], [3, 502]]) {
      (await posted(n)).answer(status, {});
      await until(() => streams.length === n + 1, "another stream");
    }
    (await posted(4)).answer(200, { version: 0, position: "7-0", events: [] });
    (await posted(5)).answer(422, { title: "Unprocessable Content", detail: "the channel has refused it", reason: { reason: "no" } });
    await within(pushes[0], "the first push");
    await assert.rejects(within(pushes[1], "the second"), (error) => error instanceof Refused && error.message === "no");
    assert.equal(new Set(posts.slice(0, 4).map(({ url, key }) => `${url} ${key}`)).size, 1);
    assert.match(posts[4].url, /events.b/);
    assert.notEqual(posts[4].key, posts[3].key);
  });

  it("who leaves is not followed any more, and what waits is not sent", async () => {
    const { channel } = await open();
    const pushes = Promise.allSettled([channel.push("a"), channel.push("b")]);
    const { answer } = await posted(1);
    const closed = new Promise((done) => streams[0].on("close", done));
    channel.leave();
    await within(closed, "the end of the stream");
    assert.ok((await within(pushes, "their end")).every(({ reason }) => /was left/.test(reason.message)));
    const other = client.channel("t:c");
    const push = other.push("c");
    answer(200, { version: 1, position: "7-1", events: [] });
    await posted(2);
    assert.match(posts[1].url, /t%3Ac.events.c/, "b is not sent, and c does not wait");
    posts[1].answer(200, { version: 0, position: "7-0", events: [] });
    await within(push, "the other's push");
    assert.equal(posts.length, 2);
  });
});

describe("against the example todos", () => {
  let system;
  let client;
  let list;

  before(async () => {
    system = await startSystem({ app: "examples/todos" });
    client = connect(`${system.url}/socket`, { WebSocket });
    list = client.channel("todos:home");
    await until(() => list.state, "the state");
  });
  after(async () => {
    client?.disconnect();
    await system?.stop();
  });

  const push = (name, payload) => within(list.push(name, payload), `the answer to ${name}`);
  const refused = (name, payload, why) => assert.rejects(push(name, payload), (error) => error instanceof Refused && why.test(error.message));

  it("add, toggle, rename, remove, clear", async () => {
    await push("add", { title: "a" });
    await push("add", { title: "b \u2028 \u{1f56f}" });
    await push("add", { title: "c" });
    await push("toggle", { id: 2 });
    await push("rename", { id: 3, title: "d" });
    assert.deepEqual(list.state.todos, [
      { id: 1, title: "a", done: false },
      { id: 2, title: "b \u2028 \u{1f56f}", done: true },
      { id: 3, title: "d", done: false },
    ]);
    await push("remove", { id: 1 });
    await push("toggle", { id: 3 });
    await push("toggle", { id: 3 });
    await push("clear");
    assert.deepEqual(list.state, { next: 4, todos: [{ id: 3, title: "d", done: false }] });
  });

  it("refuses, with a reason, and changes nothing", async () => {
    const before = list.version;
    for (const title of [undefined, null, 5, {}, "", " \t\n ", "x".repeat(401)]) await refused("add", { title }, /a title has 1 to 400 bytes/);
    await refused("rename", { id: 3, title: "" }, /a title has/);
    for (const id of [undefined, null, 99, "3", []]) await refused("toggle", { id }, /no such item/);
    await refused("remove", { id: 1 }, /no such item/);
    await refused("frobnicate", { id: 3 }, /no such event/);
    await refused("add", [], /a title has/);
    await refused("toggle", "x", /no such item/);
    assert.equal(list.version, before);
    assert.equal(list.status, "joined");
  });

  it("a list has at most 500 items", async () => {
    await Promise.all(Array.from({ length: 499 }, (_, i) => push("add", { title: `item ${i}` })));
    assert.equal(list.state.todos.length, 500);
    await refused("add", { title: "one more" }, /at most 500 items/);
  });

  it("a kill of the worker process is not noticed", async () => {
    const seen = [];
    client.onstatus = list.onstatus = (status) => seen.push(status);
    await system.killWorker();
    await push("remove", { id: 3 });
    assert.equal(list.state.todos.length, 499);
    assert.deepEqual(seen, []);
  });

  it("20 pushes while nginx is stopped: each done once, in order", async () => {
    const dir = temporaryDir();
    let other = await startSystem({ app: "examples/todos", dir });
    const offline = connect(`${other.url}/socket`, { WebSocket });
    try {
      const shopping = offline.channel("todos:shopping");
      await until(() => shopping.state, "the state");
      await other.stop();
      await until(() => shopping.status === "joining", "the loss");
      const pushes = Promise.all(Array.from({ length: 20 }, (_, i) => shopping.push("add", { title: `item ${i}` })));
      other = await startSystem({ app: "examples/todos", dir, port: other.port });
      await within(pushes, "the 20", 15000);
      assert.deepEqual(shopping.state.todos.map(({ title }) => title), Array.from({ length: 20 }, (_, i) => `item ${i}`));
    } finally {
      offline.disconnect();
      await other.stop();
      rmSync(dir, { recursive: true, force: true });
    }
  });

  it("after a restart of nginx it goes on", async () => {
    const lost = within(new Promise((resolve) => (list.onstatus = resolve)), "the loss", 15000);
    await system.restartNginx();
    await lost;
    await until(() => list.status === "joined", "the rejoin", 15000);
    await push("add", { title: "after" });
    assert.equal(list.state.todos.at(-1).title, "after");
  });
});
