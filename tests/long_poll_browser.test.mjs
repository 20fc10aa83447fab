/*
 * Phoenix's long-poll transport in Chromium, three versions of phoenix.js side by side; and phoenix.js that falls back
 * to it by itself where no WebSocket gets through, in Chromium and in Node.
 */
import "./lib/xml_http_request.mjs";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import * as phoenix17 from "phoenix17";
import * as phoenix18 from "phoenix18";
import WebSocket from "ws";
import { Blocker } from "./lib/blocker.mjs";
import { startChromium } from "./lib/chromium.mjs";
import { patched } from "./lib/recording.mjs";
import { until } from "./lib/wait.mjs";
import { startSystem } from "./system.mjs";

let system, browser;
before(async () => {
  system = await startSystem({ app: "tests/conformance" });
  browser = await startChromium({ bypassCSP: true }); // the pages here may only connect to their own origin
});
after(async () => {
  await browser?.end();
  await system?.stop();
});

const state = async (topic) => (await (await fetch(`${system.url}/channels/${topic}`)).json()).state;
const script = (version) => readFileSync(new URL(`node_modules/${version}/priv/static/phoenix.js`, import.meta.url), "utf8");

/* The state and versions that frames lead to. */
function seen(frames) {
  const result = { state: undefined, versions: [] };
  for (const [event, payload] of frames) {
    if (event.endsWith(":change")) Object.assign(result, { state: payload.state, versions: [payload.version] });
    if (!event.endsWith(":patch")) continue;
    result.state = patched(result.state, payload.operations ?? payload.patch);
    result.versions.push(payload.version);
  }
  return result;
}
const upTo = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

/* A page with a phoenix.js that has joined a topic; what comes is kept in `frames`. */
async function openPage(version, topic, { from = system.url, url = "/socket", longPoll = true, ...options } = {}) {
  const page = await browser.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  await page.goto(`${from}/openapi.json`);
  await page.evaluate(`${script(version)}; globalThis.Phoenix = Phoenix`);
  await page.evaluate(([url, topic, longPoll, options]) => {
    const { Socket, LongPoll } = globalThis.Phoenix;
    const socket = new Socket(url, longPoll ? { transport: LongPoll, ...options } : options);
    const channel = socket.channel(topic, {});
    Object.assign(globalThis, { socket, channel, frames: [], joins: 0, closes: 0 });
    for (const event of ["seance:change", "seance:patch", "state:change", "state:patch"]) channel.on(event, (payload) => globalThis.frames.push([event, payload]));
    socket.onClose(() => globalThis.closes++);
    socket.connect();
    channel.join().receive("ok", () => globalThis.joins++);
  }, [url, topic, longPoll, options]);
  const client = {
    page,
    wrong,
    push: (id) => page.evaluate(([event, id]) => void globalThis.channel.push(event, { id }), [url.includes("live_state") ? "lvs_evt:add" : "seance:event:add", id]),
    get: (name) => page.evaluate((name) => globalThis[name], name),
    seen: async () => seen(await client.get("frames")),
    has: (version) => until(async () => (await client.seen()).versions.at(-1) === version, `version ${version}`, 20000),
    transport: () => page.evaluate(() => (globalThis.socket.transport === globalThis.Phoenix.LongPoll || globalThis.socket.transport.name === "LongPoll" ? "long-poll" : globalThis.socket.transport.name)),
  };
  await until(() => client.get("joins"), "the join", 20000);
  return client;
}

describe("Chromium", () => {
  const topic = "board:chromium";
  const clients = [];
  let version = 0;
  before(async () => {
    for (const [version, url] of [["phoenix", "/live_state"], ["phoenix17", "/socket"], ["phoenix18", "/socket"]]) clients.push(await openPage(version, topic, { url }));
  });
  after(async () => {
    for (const { page } of clients) await page.close();
  });

  const pushFromEach = async () => {
    for (const client of clients) await client.push(++version);
    for (const client of clients) await client.has(version);
  };

  it("phoenix.js 1.6 at /live_state, 1.7 and 1.8 at /socket see what each of them does", async () => {
    await pushFromEach();
    assert.equal((await system.counts()).websockets, undefined);
  });

  it("SIGKILL of the worker process goes unnoticed", async () => {
    for (let i = 0; i < 3; i++) {
      await system.killWorker();
      await pushFromEach();
    }
    for (const client of clients) {
      assert.deepEqual((await client.seen()).versions, upTo(0, version));
      assert.deepEqual([await client.get("joins"), await client.get("closes")], [1, 0]);
    }
  });

  it("a restart of nginx: they connect and join again by themselves", async () => {
    await system.restartNginx();
    for (const client of clients) await until(async () => (await client.get("joins")) === 2, "the rejoin", 20000);
    await pushFromEach();
    for (const client of clients) {
      const { state: own, versions } = await client.seen();
      assert.deepEqual(own, await state(topic));
      assert.deepEqual(versions, upTo(version - 3, version), "the state anew, then each patch");
      assert.deepEqual(client.wrong, []);
    }
    assert.deepEqual((await state(topic)).items.map(({ id }) => id).sort((a, b) => a - b), upTo(1, version), "each event once");
  });

  it("from a page of another origin, with a preflight for 1.8's authToken", async () => {
    const other = await Blocker.open(system.port, "refuse");
    try {
      for (const [version, options] of [["phoenix", {}], ["phoenix18", { authToken: "secret/token" }]]) {
        const client = await openPage(version, `board:cors-${version}`, { from: other.url, url: `${system.ws}/socket`, ...options });
        await client.push(1);
        await client.has(1);
        assert.deepEqual(client.wrong, []);
        await client.page.close();
      }
      assert.match(system.read("access.log"), /"OPTIONS \/socket\/longpoll/);
    } finally {
      other.close();
    }
  });
});

describe("longPollFallbackMs", () => {
  for (const how of ["refuse", "swallow"]) {
    describe(`WebSockets are blocked: handshakes are ${how === "refuse" ? "refused" : "not answered"}`, () => {
      let blocker;
      before(async () => {
        blocker = await Blocker.open(system.port, how);
      });
      after(() => blocker.close());

      for (const version of ["phoenix17", "phoenix18"]) {
        it(`${version} in Chromium falls back, and goes on through a kill`, async () => {
          const topic = `board:${how}-${version}`;
          const client = await openPage(version, topic, { from: blocker.url, longPoll: false, longPollFallbackMs: 300 });
          assert.ok(blocker.handshakes > 0, "it has tried");
          assert.equal(await client.transport(), "long-poll");
          await client.push(1);
          await client.has(1);
          await system.killWorker();
          await client.push(2);
          await client.has(2);
          assert.deepEqual((await state(topic)).items, [{ id: 1 }, { id: 2 }]);
          await client.page.close();
        });
      }

      for (const [name, { Socket, LongPoll }] of [["phoenix17", phoenix17], ["phoenix18", phoenix18]]) {
        it(`${name} in Node, too`, async () => {
          const socket = new Socket(`${blocker.ws}/socket`, { transport: WebSocket, longPollFallbackMs: 300 });
          const channel = socket.channel(`board:node-${how}-${name}`, {});
          const frames = [];
          for (const event of ["seance:change", "seance:patch"]) channel.on(event, (payload) => frames.push([event, payload]));
          try {
            socket.connect();
            channel.join();
            await until(() => frames.length === 1, "the state", 10000);
            assert.equal(socket.transport, LongPoll);
            channel.push("seance:event:add", { id: 1 });
            await until(() => frames.length === 2, "the patch");
            assert.deepEqual(seen(frames), { state: { n: 0, items: [{ id: 1 }] }, versions: [0, 1] });
          } finally {
            await new Promise((done) => socket.disconnect(done));
          }
        });
      }
    });
  }

  it("WebSockets get through: it stays with them", async () => {
    const client = await openPage("phoenix18", "board:through", { longPoll: false, longPollFallbackMs: 300 });
    await client.push(1);
    await client.has(1);
    assert.equal(await client.transport(), "WebSocket");
    await client.page.close();
  });
});
