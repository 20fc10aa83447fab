/*
 * phx-live-state 0.12.3, from npm, against /live_state: the other vocabulary.
 */
import "./lib/xml_http_request.mjs";
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import * as phoenix from "phoenix";
import WebSocket from "ws";
import { LiveState } from "./lib/live_state.mjs";
import { Raw } from "./lib/raw.mjs";
import { until } from "./lib/wait.mjs";
import { startSystem } from "./system.mjs";

let system;
let lives = [];

before(async () => {
  system = await startSystem({ app: "tests/conformance" });
});
after(() => system?.stop());
afterEach(() => {
  for (const live of lives) live.disconnect();
  lives = [];
});

/* start - a LiveState that has been connected; its events are kept in `seen` */
function start(topic, params = {}, transport = WebSocket) {
  const live = new LiveState({
    url: `${system.ws}/live_state`,
    topic,
    params,
    socketOptions: { transport, logger() {} },
  });
  live.seen = [];
  for (const name of ["change", "patch", "error"]) live.addEventListener(`livestate-${name}`, ({ detail }) => live.seen.push([name, detail]));
  live.connect();
  lives.push(live);
  return live;
}

const send = (live, name, detail = {}) => live.dispatchEvent(new CustomEvent(name, { detail }));

async function joined(topic, params, transport) {
  const live = start(topic, params, transport);
  await until(() => live.state !== undefined, `the state of ${topic}`);
  return live;
}

describe("phx-live-state", () => {
  it("gets the state", async () => {
    const live = await joined("todos:a", { token: "t" });
    assert.deepEqual(live.state, { todos: [], token: "t" });
    assert.equal(live.stateVersion, 0);
  });

  it("patches", async () => {
    const live = await joined("big:a", { n: 3 });
    send(live, "toggle", { i: 1 });
    send(live, "remove", { i: 0 });
    send(live, "prepend", { id: "new" });
    await until(() => live.stateVersion === 3, "three patches");
    assert.deepEqual(live.state, { items: [{ id: "new" }, { id: 2, title: "item 2", done: true }, { id: 3, title: "item 3", done: false }] });
    assert.deepEqual(live.seen.map(([name]) => name), ["change", "patch", "change", "patch", "change", "patch", "change"]);
  });

  it("versions roll over", async () => {
    const live = await joined("foo:a");
    for (let i = 0; i < 12; i++) send(live, "change_foo", { foo: i });
    await until(() => live.state.foo === 11, "twelve patches");
    assert.equal(live.stateVersion, 1);
    assert.equal(live.seen.filter(([name]) => name === "change").length, 13);
  });

  it("events: their name is the frame's, their detail the payload", async () => {
    const live = await joined("todos:a", { token: "t" });
    const got = [];
    live.addEventListener("reply_event", ({ detail }) => got.push(detail));
    send(live, "add_todo_with_one_reply", { description: "x" });
    await until(() => live.stateVersion === 1, "the patch");
    assert.deepEqual(got, [{ foo: "bar" }]);
  });

  it("an error", async () => {
    const live = start("bad_init:a");
    await until(() => live.seen.some(([name]) => name === "error"), "the error");
    const [, detail] = live.seen.find(([name]) => name === "error");
    assert.equal(detail.message, "you stink");
    assert.equal(typeof detail.type, "string", "it reads .type, too");
  });

  it("a refused join", async () => {
    const live = start("authmap:a");
    await until(() => live.seen.some(([name]) => name === "error"), "the error");
    assert.deepEqual(live.seen[0], ["error", { type: "channel join error", message: "nope" }]);
  });

  it("a refresh after a made-up gap", async () => {
    const live = await joined("counter:a");
    send(live, "inc");
    await until(() => live.stateVersion === 1, "the first patch");
    live.stateVersion = 77;
    live.state = { count: "lost" };
    send(live, "inc");
    await until(() => live.stateVersion === 2, "the state anew");
    assert.deepEqual(live.state, { count: 2 });
    send(live, "inc");
    await until(() => live.stateVersion === 3, "the next patch");
    assert.deepEqual(live.state, { count: 3 });
  });

  it("a shared topic: what one does the other sees, in its own vocabulary", async () => {
    const live = await joined("board:both");
    const raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
    try {
      await raw.join("board:both");
      const said = [];
      live.addEventListener("said", ({ detail }) => said.push(detail));
      send(live, "inc");
      assert.deepEqual((await raw.frame()).slice(3), ["seance:patch", { operations: [{ op: "replace", path: "/n", value: 1 }], version: 1 }]);
      raw.send(["1", "2", "board:both", "seance:event:say", { x: 1 }]);
      await until(() => live.stateVersion === 2, "the patch");
      assert.deepEqual(said, [{ x: 1 }]);
    } finally {
      await raw.close();
    }
  });
});

describe("phx-live-state by long-poll", () => {
  it("gets the state, patches, and what others do", async () => {
    const live = await joined("board:asks", {}, phoenix.LongPoll);
    const other = await joined("board:asks");
    assert.deepEqual(live.state, { n: 0, items: [] });
    send(live, "inc");
    await until(() => live.stateVersion === 1 && other.stateVersion === 1, "its patch");
    send(other, "add", { id: 1 });
    await until(() => live.stateVersion === 2, "the other's");
    for (const one of [live, other]) assert.deepEqual(one.state, { n: 1, items: [{ id: 1 }] });
  });

  it("an error; a refused join; a refresh after a made-up gap", async () => {
    const bad = start("bad_init:a", {}, phoenix.LongPoll);
    const refused = start("authmap:a", {}, phoenix.LongPoll);
    for (const [live, message] of [[bad, "you stink"], [refused, "nope"]]) {
      await until(() => live.seen.some(([name]) => name === "error"), "the error");
      assert.equal(live.seen[0][1].message, message);
    }
    const live = await joined("counter:asks", {}, phoenix.LongPoll);
    live.stateVersion = 77;
    send(live, "inc");
    await until(() => live.stateVersion === 1, "the state anew");
    assert.deepEqual(live.state, { count: 1 });
  });

  it("through SIGKILL of the worker process unnoticed, and a restart of nginx", async () => {
    const live = await joined("board:killed", {}, phoenix.LongPoll);
    for (let i = 1; i <= 4; i++) {
      if (i > 1) await system.killWorker();
      send(live, "add", { i });
      await until(() => live.stateVersion === i, `version ${i}`, 15000);
    }
    assert.deepEqual(live.seen.map(([name]) => name), ["change", ...Array.from({ length: 4 }, () => ["patch", "change"]).flat()]);
    await system.restartNginx();
    const errors = () => live.seen.filter(([name]) => name === "error").length;
    await until(() => errors() > 0, "the end of the connection");
    // it begins with the state anew, whose version it has already
    const other = await joined("board:killed");
    await until(() => live.channel.state === "joined", "the rejoin", 20000);
    send(other, "add", { i: 5 });
    await until(() => live.stateVersion === 5, "what the other does", 15000);
    assert.deepEqual(live.state, { n: 0, items: [1, 2, 3, 4, 5].map((i) => ({ i })) });
  });
});

describe("the frames of /live_state", () => {
  let raw;
  before(async () => {
    raw = await Raw.open(`${system.ws}/live_state/websocket?vsn=2.0.0`);
  });
  after(() => raw.close());

  it("state:change, state:patch with `patch`, lvs_refresh, error", async () => {
    raw.send(["1", "1", "counter:a", "phx_join", {}]);
    assert.deepEqual(await raw.frame(), ["1", "1", "counter:a", "phx_reply", { status: "ok", response: {} }]);
    assert.deepEqual(await raw.frame(), ["1", null, "counter:a", "state:change", { state: { count: 0 }, version: 0 }]);
    raw.send(["1", "2", "counter:a", "lvs_evt:inc", {}]);
    assert.deepEqual(await raw.frame(), ["1", null, "counter:a", "state:patch", { patch: [{ op: "replace", path: "/count", value: 1 }], version: 1 }]);
    raw.send(["1", "3", "counter:a", "lvs_refresh", {}]);
    assert.deepEqual(await raw.frame(), ["1", null, "counter:a", "state:change", { state: { count: 1 }, version: 1 }]);
  });

  it("the other vocabulary's events are unmatched", async () => {
    raw.send(["1", "4", "counter:a", "seance:event:inc", {}]);
    assert.deepEqual(await raw.frame(), ["1", "4", "counter:a", "phx_reply", { status: "error", response: { reason: "unmatched event" } }]);
  });
});
