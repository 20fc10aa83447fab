/*
 * Coming back: joins with the last position (or a private state's token), answers to events, keys.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { Socket as Phoenix } from "phoenix18";
import WebSocket from "ws";
import { LiveState } from "./lib/live_state.mjs";
import { patched } from "./lib/recording.mjs";
import { Raw } from "./lib/raw.mjs";
import { until } from "./lib/wait.mjs";
import { startSystem } from "./system.mjs";

let system;
const open = [];

before(async () => {
  system = await startSystem({ app: "tests/conformance" });
});
after(() => system?.stop());
afterEach(async () => {
  for (const raw of open.splice(0)) await raw.close();
});

async function connected(path = "/socket", query = "vsn=2.0.0") {
  const raw = await Raw.open(`${system.ws}${path}/websocket?${query}`);
  open.push(raw);
  return raw;
}

const request = (raw, ref, topic, event, payload = {}) => raw.send(["1", ref, topic, event, payload]);

/* join - the reply's response, and the frame behind it */
async function join(raw, topic, payload) {
  request(raw, "1", topic, "phx_join", payload);
  const [, , , event, { status, response }] = await raw.frame("the reply");
  assert.deepEqual([event, status], ["phx_reply", "ok"]);
  return response;
}

const payloadOf = async (raw, event) => {
  const frame = await raw.frame(event);
  assert.equal(frame[3], event, JSON.stringify(frame));
  return frame[4];
};

/* quiet - nothing has come up to now: the answer to a heartbeat is next */
async function quiet(raw) {
  raw.send([null, "quiet", "phoenix", "heartbeat", {}]);
  assert.equal((await raw.frame("the heartbeat's answer"))[1], "quiet");
}

async function inc(topic, times) {
  const raw = await connected();
  await raw.join(topic);
  for (let i = 0; i < times; i++) {
    request(raw, "e", topic, "seance:event:inc");
    await payloadOf(raw, "seance:patch");
  }
  await raw.close();
}

describe("shared state", () => {
  it("the missing patches, each with where it leads to, and no state", async () => {
    await inc("board:a", 1);
    const raw = await connected();
    const { resume } = await join(raw, "board:a", { resume: {} });
    const first = await payloadOf(raw, "seance:change");
    assert.equal(first.resume, resume);
    await raw.close();
    await inc("board:a", 3);

    const back = await connected();
    const response = await join(back, "board:a", { resume: { at: resume } });
    for (const version of [2, 3, 4]) {
      const patch = await payloadOf(back, "seance:patch");
      assert.deepEqual([patch.version, patch.operations], [version, [{ op: "replace", path: "/n", value: version }]]);
      if (version === 4) assert.equal(patch.resume, response.resume);
    }
    await quiet(back);
    request(back, "9", "board:a", "seance:refresh");
    const { resume: newest, ...refreshed } = await payloadOf(back, "seance:change");
    assert.deepEqual(refreshed, { state: { n: 4, items: [] }, version: 4 });
    assert.equal(newest, response.resume);
    const third = await connected();
    await join(third, "board:a", { resume: { at: newest } });
    await quiet(third);
  });

  it("a state that nobody had changed is there still", async () => {
    const raw = await connected();
    const { resume } = await join(raw, "board:unchanged", { resume: {} });
    await payloadOf(raw, "seance:change");
    await raw.close();
    await system.killWorker();
    await inc("board:unchanged", 1);
    const back = await connected();
    await join(back, "board:unchanged", { resume: { at: resume } });
    assert.equal((await payloadOf(back, "seance:patch")).version, 1);
  });

  it("events that were pushed meanwhile come with them, before their patches", async () => {
    const raw = await connected();
    const other = await connected();
    const { resume } = await join(raw, "board:said", { resume: {} });
    await other.join("board:said");
    await raw.close();
    request(other, "2", "board:said", "seance:event:say", { a: 1 });
    await payloadOf(other, "seance:event");
    const back = await connected();
    await join(back, "board:said", { resume: { at: resume } });
    assert.deepEqual((await payloadOf(back, "seance:event")).detail, { a: 1 });
    assert.equal((await payloadOf(back, "seance:patch")).version, 1);
  });

  it("in the other vocabulary, and in version 1", async () => {
    await inc("board:old", 1);
    const old = await connected("/live_state", "vsn=1.0.0");
    const send = (event, payload) => old.send({ topic: "board:old", event, payload, ref: "1" });
    send("phx_join", { resume: {} });
    const { payload: { response } } = await old.frame();
    assert.equal((await old.frame()).payload.resume, response.resume);
    await old.close();
    await inc("board:old", 1);
    const back = await connected("/live_state");
    await join(back, "board:old", { resume: { at: response.resume } });
    const { resume, ...patch } = await payloadOf(back, "state:patch");
    assert.deepEqual(patch, { patch: [{ op: "replace", path: "/n", value: 2 }], version: 2 });
    assert.match(resume, /-2$/);
  });

  it("the full state where the log does not reach back, or another history is meant", async () => {
    await inc("board:far", 1002);
    const raw = await connected();
    const { resume } = await join(raw, "board:far", { resume: {} });
    await payloadOf(raw, "seance:change");
    const [epoch] = resume.split("-");
    for (const at of [`${epoch}-1`, `${Number(epoch) + 1}-1000`, `${epoch}-2000`, "nonsense", "", "1-", 7, null, [], { at: "x" }]) {
      const back = await connected();
      await join(back, "board:far", { resume: { at } });
      assert.equal((await payloadOf(back, "seance:change")).state.n, 1002, JSON.stringify(at));
      await back.close();
    }
  });

  it("who does not ask sees nothing of it; authorize and init do not see what is asked", async () => {
    const raw = await connected();
    assert.deepEqual(await join(raw, "board:plain", {}), {});
    assert.deepEqual(Object.keys(await payloadOf(raw, "seance:change")), ["state", "version"]);
    const other = await connected();
    await join(other, "any:a", { resume: { at: "1-1" }, replies: true, x: 1 });
    assert.deepEqual((await payloadOf(other, "seance:change")).state, { x: 1 });
    const odd = await connected();
    await join(odd, "any:odd", { resume: "yes", replies: "yes" });
    assert.deepEqual((await payloadOf(odd, "seance:change")).state, { resume: "yes", replies: "yes" });
  });

  it("presence: who comes back within the grace time was never away, and is told who is there", async () => {
    const watcher = await connected();
    await watcher.join("room:resumed", { name: "watcher" });
    await payloadOf(watcher, "presence_state");
    const raw = await connected();
    const { resume } = await join(raw, "room:resumed", { name: "me", resume: {} });
    await payloadOf(raw, "seance:change");
    assert.deepEqual(Object.keys(await payloadOf(raw, "presence_state")).sort(), ["me", "watcher"]);
    assert.deepEqual(Object.keys((await payloadOf(watcher, "presence_diff")).joins), ["me"]);
    raw.socket.terminate();
    request(watcher, "2", "room:resumed", "seance:event:say", { text: "meanwhile" });
    let frame;
    do frame = await watcher.frame();
    while (frame[3] !== "seance:patch");
    const back = await connected();
    await join(back, "room:resumed", { name: "me", resume: { at: resume } });
    assert.equal((await payloadOf(back, "seance:patch")).version, frame[4].version);
    assert.deepEqual(Object.keys(await payloadOf(back, "presence_state")).sort(), ["me", "watcher"]);
    await quiet(watcher);
  });

  it("what it asked for is kept over a restart of the program", async () => {
    const raw = await connected();
    await join(raw, "board:kept", { resume: {}, replies: true });
    await payloadOf(raw, "seance:change");
    await system.killWorker();
    request(raw, "2", "board:kept", "seance:event:inc");
    assert.match((await payloadOf(raw, "seance:patch")).resume, /^\d+-1$/);
    assert.equal((await raw.frame())[1], "2");
  });
});

describe("answers to events, and keys", () => {
  it("replies: the answer comes behind the patch", async () => {
    const raw = await connected();
    await join(raw, "todos:a", { token: "t", replies: true });
    await payloadOf(raw, "seance:change");
    request(raw, "2", "todos:a", "seance:event:add_todo_with_one_reply", { description: "x" });
    await payloadOf(raw, "seance:event");
    await payloadOf(raw, "seance:patch");
    assert.deepEqual(await raw.frame(), ["1", "2", "todos:a", "phx_reply", { status: "ok", response: {} }]);
    await quiet(raw);
  });

  it("a key is done once, by whatever socket; another event with it is refused", async () => {
    const raw = await connected();
    const event = (ref, key, type = "inc", payload = {}) => request(raw, ref, "board:key", "seance:event", { type, payload, key });
    await join(raw, "board:key", { replies: true });
    await payloadOf(raw, "seance:change");
    event("2", "k");
    await payloadOf(raw, "seance:patch");
    await raw.frame();
    event("3", "k");
    assert.deepEqual(await raw.frame(), ["1", "3", "board:key", "phx_reply", { status: "ok", response: {} }]);
    event("4", "k", "add");
    assert.deepEqual(await raw.frame(), ["1", "4", "board:key", "phx_reply", { status: "error", response: { reason: "the key was another event's" } }]);
    event("5", "other");
    assert.equal((await payloadOf(raw, "seance:patch")).version, 2);
    await raw.frame();
    await system.killWorker();
    const second = await connected();
    await second.join("board:key");
    request(second, "2", "board:key", "seance:event", { type: "inc", payload: {}, key: "other" });
    await quiet(second); // it asked for no answer
    const elsewhere = await connected();
    await elsewhere.join("board:key2");
    request(elsewhere, "2", "board:key2", "seance:event", { type: "inc", payload: {}, key: "k" });
    assert.equal((await payloadOf(elsewhere, "seance:patch")).version, 1);
  });

  it("in private state it is the join's own", async () => {
    for (const _ of [1, 2]) {
      const raw = await connected();
      await raw.join("counter:key");
      for (const ref of ["2", "3"]) request(raw, ref, "counter:key", "seance:event", { type: "inc", payload: {}, key: "k" });
      assert.equal((await payloadOf(raw, "seance:patch")).version, 1);
      await quiet(raw);
    }
  });

  it("an event that came by a socket is not done again by HTTP", async () => {
    const raw = await connected();
    await raw.join("board:http");
    request(raw, "2", "board:http", "seance:event", { type: "inc", payload: { a: 1 }, key: "k" });
    await payloadOf(raw, "seance:patch");
    const post = async (body) => {
      const response = await fetch(`${system.url}/channels/board:http/events/inc`, { method: "POST", body, headers: { "content-type": "application/json", "idempotency-key": "k" } });
      return [response.status, await response.json()];
    };
    const [status, answer] = await post('{ "a": 1 }');
    assert.deepEqual([status, answer.version, answer.operations], [200, 1, [{ op: "replace", path: "/n", value: 1 }]]);
    assert.equal((await post('{"a":2}'))[0], 422);
    await quiet(raw);
  });
});

describe("private state", () => {
  /* away - joins, does what is given, loses the connection; the last `resume` */
  async function away(topic, payload = {}, more = async () => {}) {
    const raw = await connected();
    await join(raw, topic, { ...payload, resume: {} });
    await payloadOf(raw, "seance:change");
    await more(raw);
    request(raw, "9", topic, "seance:event:inc");
    const { resume } = await payloadOf(raw, "seance:patch");
    raw.socket.terminate();
    return resume;
  }

  it("outlives a lost connection, and goes on where it was", async () => {
    const at = await away("draft:a", { who: "me" });
    const raw = await connected();
    await join(raw, "draft:a", { who: "another", resume: { at } });
    await quiet(raw);
    request(raw, "2", "draft:a", "seance:event:inc");
    assert.equal((await payloadOf(raw, "seance:patch")).version, 2);
    request(raw, "3", "draft:a", "seance:refresh");
    assert.deepEqual((await payloadOf(raw, "seance:change")).state, { n: 2, began: { who: "me" } });
  });

  it("what happened meanwhile is told; assigns go on; the program and nginx may be restarted", async () => {
    const at = await away("draft:b", {}, async (raw) => {
      request(raw, "2", "draft:b", "seance:event:note", { note: "kept" });
      await payloadOf(raw, "seance:patch");
      request(raw, "3", "draft:b", "seance:event:later", { ms: 300 });
      await payloadOf(raw, "seance:patch");
    });
    await system.killWorker();
    await system.restartNginx();
    const raw = await connected();
    await join(raw, "draft:b", { resume: { at } });
    const patch = await payloadOf(raw, "seance:patch"); // it has come already, or comes now
    assert.deepEqual([patch.version, patch.operations], [4, [{ op: "replace", path: "/n", value: 2 }]]);
    request(raw, "4", "draft:b", "seance:event:assigns");
    assert.deepEqual((await payloadOf(raw, "seance:event")).detail, { note: "kept" });
  });

  it("it is taken from a connection that has not been noticed to be dead", async () => {
    const raw = await connected();
    const { resume } = await join(raw, "draft:c", { resume: {} });
    await payloadOf(raw, "seance:change");
    const back = await connected();
    await join(back, "draft:c", { resume: { at: resume } });
    request(back, "2", "draft:c", "seance:event:inc");
    assert.equal((await payloadOf(back, "seance:patch")).version, 1);
    request(raw, "2", "draft:c", "seance:event:inc");
    assert.deepEqual((await raw.frame())[4].response, { reason: "unmatched topic" });
    // and by the same socket
    request(back, "3", "draft:c", "phx_join", { resume: { at: resume } });
    await payloadOf(back, "phx_reply");
    await payloadOf(back, "phx_close");
    assert.equal((await payloadOf(back, "seance:patch")).version, 1);
  });

  it("who left, was too late, or has another's topic or a forged token, begins anew", async () => {
    const left = await connected();
    const { resume } = await join(left, "draft:d", { resume: {} });
    await payloadOf(left, "seance:change");
    request(left, "2", "draft:d", "phx_leave");
    await payloadOf(left, "phx_reply");
    const elsewhere = await away("draft:e");
    const forged = `${elsewhere.slice(0, -1)}${elsewhere.endsWith("0") ? "1" : "0"}`;
    for (const [topic, at] of [["draft:d", resume], ["draft:x", elsewhere], ["draft:e", forged], ["board:e", elsewhere], ["counter:e", elsewhere]]) {
      const raw = await connected();
      await join(raw, topic, { resume: { at } });
      assert.equal((await payloadOf(raw, "seance:change")).version, 0, topic);
      await raw.close();
    }
    const raw = await connected();
    await join(raw, "draft:e", { resume: { at: elsewhere } });
    await quiet(raw); // it was still there
  });

  it("after its time it ends, as closed; what is joined beside it ends at once", async () => {
    const watcher = await connected();
    await watcher.join("drafts");
    const presence = await connected();
    await presence.join("room:lost", { name: "watcher" });
    await payloadOf(presence, "presence_state");
    let before;
    const at = await away("brief:a", {}, async (raw) => {
      await join(raw, "room:lost", { name: "me" });
      await payloadOf(raw, "seance:change");
      await payloadOf(raw, "presence_state");
    });
    let diff;
    do diff = await payloadOf(presence, "presence_diff");
    while (!diff.leaves.me);
    before = await payloadOf(watcher, "seance:patch");
    assert.deepEqual(before.operations.at(-1).value, "closed");
    const raw = await connected();
    await join(raw, "brief:a", { resume: { at } });
    assert.equal((await payloadOf(raw, "seance:change")).state.n, 0);
  });

  it("joins that resume one token at the same time: one has it in the end", async () => {
    const at = await away("draft:race");
    const raws = await Promise.all(Array.from({ length: 8 }, () => connected()));
    await Promise.all(raws.map((raw) => join(raw, "draft:race", { resume: { at } })));
    for (const raw of raws) request(raw, "2", "draft:race", "seance:event:inc");
    const answers = await Promise.all(raws.map((raw) => raw.frame()));
    assert.equal(answers.filter(([, , , event]) => event === "seance:patch").length, 1);
    assert.equal(answers.filter(([, , , , { response }]) => response?.reason === "unmatched topic").length, 7);
  });
});

/* What a page does: state and version as told, and the last `resume`. */
class Follower {
  versions = [];
  states = 0; // full states
  constructor(topic) {
    this.topic = topic;
  }

  params = () => ({ resume: this.at === undefined ? {} : { at: this.at } });

  change({ state, version, resume }) {
    Object.assign(this, { state, version, at: resume });
    this.first = version;
    this.states++;
  }

  patch(operations, { version, resume }) {
    assert.equal(version, (this.version + 1) % 1001, `${this.topic}: after ${this.version}`);
    this.state = patched(this.state, operations);
    Object.assign(this, { version, at: resume });
    this.versions.push(version);
  }
}

describe("the clients as they are, by their own join parameters", () => {
  it("phoenix.js", async () => {
    const follower = new Follower("board:phoenix");
    await inc(follower.topic, 1);
    const socket = new Phoenix(`${system.ws}/socket`, { transport: WebSocket });
    const channel = socket.channel(follower.topic, follower.params);
    channel.on("seance:change", (payload) => follower.change(payload));
    channel.on("seance:patch", (payload) => follower.patch(payload.operations, payload));
    let joins = 0;
    channel.join().receive("ok", () => joins++);
    socket.connect();
    await until(() => follower.state, "the state");
    for (let round = 1; round <= 3; round++) {
      socket.conn.close();
      await inc(follower.topic, 2);
      await until(() => joins === round + 1 && follower.version === 1 + 2 * round, "the patches", 15000);
    }
    assert.deepEqual([follower.states, follower.versions, follower.state.n], [1, [2, 3, 4, 5, 6, 7], 7]);
    await new Promise((done) => socket.disconnect(done));
  });

  it("phx-live-state", async () => {
    const follower = new Follower("board:live");
    await inc(follower.topic, 1);
    const live = new LiveState({ url: `${system.ws}/live_state`, topic: follower.topic, params: follower.params, socketOptions: { transport: WebSocket, logger() {} } });
    live.channel.on("state:change", (payload) => follower.change(payload));
    live.channel.on("state:patch", (payload) => follower.patch(payload.patch, payload));
    live.connect();
    await until(() => live.state, "the state");
    live.socket.conn.close();
    await inc(follower.topic, 3);
    await until(() => live.stateVersion === 4, "the patches", 15000);
    assert.deepEqual([live.state, follower.states, follower.versions], [{ n: 4, items: [] }, 1, [2, 3, 4]]);
    live.disconnect();
  });
});

describe("a property", () => {
  it("clients cut at random, while the program is killed: each change once, no full state twice", async (t) => {
    const seconds = Number(process.env.SEANCE_TEST_RESUME_SECONDS ?? 6);
    const until_ = Date.now() + seconds * 1000;
    const random = (n) => Math.floor(Math.random() * n);
    const topics = ["board:p1", "board:p2"];
    const followers = Array.from({ length: 12 }, (_, i) => new Follower(topics[i % topics.length]));
    const pushed = { "board:p1": 0, "board:p2": 0 };
    let cuts = 0, kills = 0;

    for (const topic of topics) await inc(topic, 1);
    for (const topic of topics) pushed[topic] = 1;
    async function life(follower, mayEnd) {
      for (;;) {
        const raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
        const end = mayEnd() ? Infinity : 1 + random(12);
        raw.send(["1", "1", follower.topic, "phx_join", follower.params()]);
        for (let i = 0; i < end; i++) {
          if (mayEnd() && follower.state?.n === pushed[follower.topic]) return raw.close();
          const item = await raw.item("a frame", 20000);
          if (!item.frame) break;
          const [, , , event, payload] = item.frame;
          if (event === "seance:change") follower.change(payload);
          if (event === "seance:patch") follower.patch(payload.operations, payload);
        }
        raw.socket.terminate();
        cuts++;
      }
    }
    async function push(topic) {
      const raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
      await raw.join(topic);
      while (Date.now() < until_) {
        request(raw, "e", topic, "seance:event:inc");
        while ((await raw.frame("a patch", 20000))[4].version !== (pushed[topic] + 1) % 1001);
        pushed[topic]++;
      }
      await raw.close();
    }
    async function kill() {
      while (Date.now() < until_) {
        await system.killWorker();
        kills++;
        await new Promise((resolve) => setTimeout(resolve, 100 + random(900)));
      }
    }
    const pushing = Promise.all([...topics.map(push), kill()]);
    let over = false;
    const lives = Promise.all(followers.map((follower) => life(follower, () => over)));
    await pushing;
    for (const topic of topics) pushed[topic]++;
    over = true;
    for (const topic of topics) await inc(topic, 1); // the last, which each waits for
    await lives;
    for (const follower of followers) {
      assert.deepEqual([follower.state.n, follower.states], [pushed[follower.topic], 1], follower.topic);
      assert.equal(follower.versions.length + follower.first, pushed[follower.topic]);
    }
    t.diagnostic(`${pushed["board:p1"] + pushed["board:p2"]} events, ${cuts} cuts, ${kills} kills`);
    assert.ok(cuts > followers.length && kills > 1);
  });
});
