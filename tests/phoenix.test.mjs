/*
 * Phoenix's own JavaScript client, three versions of it, from npm, against the real system, by both transports.
 */
import "./lib/xml_http_request.mjs";
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, describe, it } from "node:test";
import { isDeepStrictEqual } from "node:util";
import * as phoenix16 from "phoenix";
import * as phoenix17 from "phoenix17";
import * as phoenix18 from "phoenix18";
import WebSocket from "ws";
import { until, within } from "./lib/wait.mjs";
import { patched } from "./lib/recording.mjs";
import { startSystem } from "./system.mjs";

const clients = [
  ["phoenix 1.6", phoenix16, {}],
  ["phoenix 1.7", phoenix17, {}],
  ["phoenix 1.8", phoenix18, {}],
  ["phoenix 1.8 with authToken", phoenix18, { authToken: "a secret/token" }],
  ["phoenix 1.6 by long-poll", phoenix16, { transport: phoenix16.LongPoll }],
  ["phoenix 1.7 by long-poll", phoenix17, { transport: phoenix17.LongPoll }],
  ["phoenix 1.8 by long-poll", phoenix18, { transport: phoenix18.LongPoll }],
  ["phoenix 1.8 by long-poll with authToken and fetch", phoenix18, { transport: phoenix18.LongPoll, authToken: "a secret/token", fetches: true }],
];

for (const [name, { Socket }, { transport = WebSocket, fetches = false, ...options }] of clients) {
  describe(name, () => {
    const tag = name.replaceAll(/[^0-9a-z]/g, "");
    const { XMLHttpRequest } = globalThis;
    let system;
    let socket;
    const counts = { open: 0, close: 0 };

    before(async () => {
      system = await startSystem({ app: "tests/conformance" });
      if (fetches) delete globalThis.XMLHttpRequest;
      socket = new Socket(`${system.ws}/socket`, { transport, ...options });
      socket.onOpen(() => counts.open++);
      socket.onClose(() => counts.close++);
      socket.connect();
      await until(() => socket.isConnected(), "the connection");
    });
    after(async () => {
      await new Promise((done) => (socket ? socket.disconnect(done) : done()));
      Object.assign(globalThis, { XMLHttpRequest });
      await system?.stop();
    });

    /* follow - a channel whose frames are kept: state and version as a client holds them */
    function follow(topic, payload = {}) {
      const channel = socket.channel(topic, payload);
      const seen = { channel, joins: 0, frames: [], state: undefined, version: undefined, errors: 0 };
      channel.on("seance:change", ({ state, version }) => {
        seen.frames.push(["change", version]);
        Object.assign(seen, { state, version });
      });
      channel.on("seance:patch", ({ operations, version }) => {
        seen.frames.push(["patch", version]);
        Object.assign(seen, { state: patched(seen.state, operations), version });
      });
      channel.on("seance:event", (payload) => seen.frames.push(["event", payload.name, payload.detail]));
      channel.onError(() => seen.errors++);
      channel.join().receive("ok", () => seen.joins++).receive("error", (reason) => (seen.refused = reason));
      return seen;
    }

    const joined = async (topic, payload) => {
      const seen = follow(topic, payload);
      await until(() => seen.state !== undefined, `the state of ${topic}`);
      return seen;
    };

    const answer = (push) =>
      within(new Promise((resolve) => {
        for (const status of ["ok", "error", "timeout"]) push.receive(status, (response) => resolve([status, response]));
      }), "the answer to a push", 12000);

    it("joins and gets the state", async () => {
      const seen = await joined("counter:a");
      assert.deepEqual([seen.state, seen.version, seen.joins], [{ count: 0 }, 0, 1]);
    });

    it("a refused join: receive(\"error\") with the reason", async () => {
      const channel = socket.channel("authmap:a");
      assert.deepEqual(await answer(channel.join()), ["error", { reason: "nope" }]);
      channel.leave();
    });

    it("an unknown topic: receive(\"error\")", async () => {
      const channel = socket.channel("nowhere:a");
      assert.deepEqual(await answer(channel.join()), ["error", { reason: "unmatched topic" }]);
      channel.leave();
    });

    it("events: replied ones first, then the patch", async () => {
      const seen = await joined("todos:a", { token: "t" });
      seen.channel.push("seance:event:add_todo_with_two_replies", { description: "x" });
      await until(() => seen.version === 1, "the patch");
      assert.deepEqual(seen.frames, [["change", 0], ["event", "reply_event1", { foo: "bar" }], ["event", "reply_event2", { bing: "baz" }], ["patch", 1]]);
      assert.deepEqual(seen.state, { todos: [{ description: "x" }] });
    });

    it("a refused event: receive(\"error\") with the reason; still joined", async () => {
      const seen = await joined(`board:refuse-${tag}`);
      assert.deepEqual(await answer(seen.channel.push("seance:event:refuse", {})), ["error", { reason: "no" }]);
      seen.channel.push("seance:event:inc", {});
      await until(() => seen.version === 1, "the patch");
      assert.equal(seen.errors, 0);
    });

    it("a crash: onError, then it joins again by itself", async () => {
      const seen = await joined("crash:a");
      seen.channel.push("seance:event:raise", {});
      await until(() => seen.joins === 2, "the rejoin");
      assert.equal(seen.errors, 1);
      assert.deepEqual(seen.state, { n: 0 });
    });

    it("leave: receive(\"ok\"), and no more events", async () => {
      const seen = await joined(`board:left-${tag}`);
      let closed = 0;
      seen.channel.onClose(() => closed++);
      assert.equal((await answer(seen.channel.leave()))[0], "ok");
      assert.equal(closed, 1);
    });

    // before 1.7 the transport sends it as it is, as JSON that it is not
    it("a binary push", { skip: transport === phoenix16.LongPoll }, async () => {
      const seen = await joined("counter:binary");
      seen.channel.push("seance:event:inc", new TextEncoder().encode("{}").buffer);
      await until(() => seen.version === 1, "the patch");
      assert.deepEqual(seen.state, { count: 1 });
    });

    it("only `phoenix` is chosen as subprotocol, and only when offered", { skip: transport !== WebSocket }, () => {
      assert.equal(socket.conn.protocol, options.authToken ? "phoenix" : "");
    });

    it("SIGKILL of the worker process goes unnoticed: no close, no rejoin, versions go on", async () => {
      const own = await joined("counter:kill");
      const shared = await joined(`board:kill-${tag}`);
      const before = { ...counts };

      for (const seen of [own, shared]) seen.channel.push("seance:event:inc", {});
      await until(() => own.version === 1 && shared.version === 1, "the patches before");
      await system.killWorker();
      for (const seen of [own, shared]) seen.channel.push("seance:event:inc", {});
      await until(() => own.version === 2 && shared.version === 2, "the patches after", 15000);
      const frames = [["change", 0], ["patch", 1], ["patch", 2]];
      assert.deepEqual([own.frames, shared.frames], [frames, frames]);
      assert.deepEqual([own.state, shared.state], [{ count: 2 }, { n: 2, items: [] }]);
      assert.deepEqual([own.joins, shared.joins, counts], [1, 1, before]);
    });

    it("60 pushes while it is killed twice: each applied once, each patch seen once", async () => {
      const seen = await joined(`board:pushes-${tag}`);
      const { joins } = seen;
      for (let i = 1; i <= 60; i++) {
        seen.channel.push("seance:event:add", { id: i });
        await new Promise((done) => setTimeout(done, 5)); // else 1.6 asks by all at once, in any order
        if (i % 20 === 0 && i < 60) await system.killWorker();
      }
      await until(() => seen.version === 60, () => `version 60: ${seen.version}`, 20000);
      assert.deepEqual(seen.frames.map(([, version]) => version), Array.from({ length: 61 }, (_, i) => i));
      assert.deepEqual(seen.state.items.map(({ id }) => id).sort((a, b) => a - b), Array.from({ length: 60 }, (_, i) => i + 1));
      assert.equal(seen.joins, joins);
    });

    it("pushes around a restart of nginx: none twice, and all agree in the end", async () => {
      const seen = await joined(`board:around-${tag}`);
      const restarted = system.restartNginx();
      let over = false;
      restarted.finally(() => (over = true)).catch(() => {});
      for (let i = 1; !over || i < 20; i++) {
        seen.channel.push("seance:event:add", { id: i });
        await new Promise((done) => setTimeout(done, 20));
      }
      await restarted;
      await until(() => seen.joins > 1, "the rejoin", 20000);
      seen.channel.push("seance:event:add", { id: "last" });
      await until(() => seen.state.items.some(({ id }) => id === "last"), "the last one", 10000);
      const server = async () => (await (await fetch(`${system.url}/channels/board:around-${tag}`)).json()).state;
      await until(async () => isDeepStrictEqual(seen.state, await server()), "the same state", 10000);
      const ids = seen.state.items.map(({ id }) => id);
      assert.equal(new Set(ids).size, ids.length);
    });

    it("a restart of nginx: it connects and joins again, shared state goes on", async () => {
      const own = await joined("counter:nginx");
      const shared = await joined(`board:nginx-${tag}`);
      const before = { ...counts };

      for (const seen of [own, shared]) seen.channel.push("seance:event:inc", {});
      await until(() => own.version === 1 && shared.version === 1, "the patches before");
      await system.restartNginx();
      await until(() => own.joins === 2 && shared.joins === 2 && shared.frames.length === 3 && own.frames.length === 3, "the rejoin", 20000);
      assert.ok(counts.close > before.close && counts.open > before.open, "it was noticed");
      assert.deepEqual(own.frames.at(-1), ["change", 0], "private state begins anew");
      assert.deepEqual(shared.frames.at(-1), ["change", 1], "shared state is kept");
      shared.channel.push("seance:event:inc", {});
      await until(() => shared.version === 2, "a patch after it");
      assert.equal(shared.state.n, 2);
    });
  });
}

describe("a long-poll session that has gone, since the client did not ask for longer than the grace time", () => {
  let system;
  before(async () => {
    system = await startSystem({ app: "tests/conformance", flags: ["--grace=1"] });
  });
  after(() => system?.stop());
  const none = () => until(() => execFileSync("sqlite3", ["-readonly", `${system.dir}/seance.db`, "select count(*) from sockets"], { encoding: "utf8" }) === "0\n", "the end of the sessions", 15000);
  const inc = (topic) => fetch(`${system.url}/channels/${topic}/events/inc`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });

  it("all three versions of phoenix.js begin anew, whether they ask or post first", async () => {
    let pausing = false;
    let held = [];
    const clients = [phoenix16, phoenix17, phoenix18].map(({ Socket, LongPoll }, i) => {
      class Pausing extends LongPoll {
        poll() {
          if (pausing) held.push(() => super.poll());
          else super.poll();
        }
      }
      const socket = new Socket(`${system.ws}/socket`, { transport: Pausing });
      const channel = socket.channel(`board:gone${i}`, {});
      const client = { socket, channel, topic: channel.topic, joins: 0, versions: [] };
      for (const event of ["seance:change", "seance:patch"]) channel.on(event, ({ version }) => client.versions.push(version));
      socket.connect();
      channel.join().receive("ok", () => client.joins++);
      return client;
    });
    const all = (what, check) => until(() => clients.every(check), () => `${what}: ${JSON.stringify(clients.map(({ joins, versions }) => [joins, versions]))}`, 20000);
    try {
      await all("the state", ({ versions }) => versions.at(-1) === 0);
      for (const [round, begin] of [[1, () => held.splice(0).forEach((ask) => ask())], [2, () => clients.forEach(({ channel }) => channel.push("seance:event:inc", {}))]]) {
        pausing = true;
        for (const { topic } of clients) await inc(topic); // the questions that wait are answered, and no other comes
        await none();
        for (const { topic } of clients) await inc(topic);
        pausing = false;
        begin();
        held = [];
        await all("the rejoin", ({ joins, versions }) => joins === round + 1 && versions.at(-1) === 2 * round);
      }
      for (const { versions } of clients) assert.deepEqual(versions, [0, 1, 2, 3, 4], "what was pushed into the void is lost, as ever");
    } finally {
      pausing = false;
      await Promise.all(clients.map(({ socket }) => new Promise((done) => socket.disconnect(done))));
    }
  });
});
