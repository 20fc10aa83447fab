/*
 * Server-sent events: a topic's state and all that follows, to raw readers and to Chromium's EventSource, through
 * restarts of the program and of nginx, beside WebSockets, waiting requests and POSTs.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { startChromium } from "./lib/chromium.mjs";
import { Raw } from "./lib/raw.mjs";
import { patched } from "./lib/recording.mjs";
import { until, within } from "./lib/wait.mjs";
import { startSystem } from "./system.mjs";

let system;
before(async () => {
  system = await startSystem({ app: "tests/conformance" });
});
after(() => system?.stop());

const at = (topic) => `${system.url}/channels/${encodeURIComponent(topic)}`;
const post = async (topic, event, payload = {}) => {
  const response = await fetch(`${at(topic)}/events/${event}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(payload) });
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text);
};

/* A reader that keeps all, follows the state, and checks that no version is missing or twice. */
class Reader {
  events = [];
  comments = 0;
  versions = [];
  /* open - state: what it knows already, to be patched */
  static async open(topic, query = "", headers = {}, state = undefined) {
    const reader = new Reader();
    reader.state = state;
    reader.abort = new AbortController();
    reader.response = await within(fetch(at(topic) + query, { headers: { accept: "text/event-stream", ...headers }, signal: reader.abort.signal }), "a stream");
    reader.status = reader.response.status;
    if (reader.status === 200) reader.done = reader.#read().catch((error) => (reader.failure = error)).finally(() => (reader.ended = true));
    return reader;
  }
  async #read() {
    let text = "";
    for await (const part of this.response.body.pipeThrough(new TextDecoderStream())) {
      text += part;
      for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) this.#take(text.slice(0, end));
    }
  }
  #take(block) {
    if (block.startsWith(":")) return void this.comments++;
    const { event, id, data } = Object.fromEntries(block.split("\n").map((line) => line.match(/^(\w+): ([^]*)$/).slice(1)));
    const value = JSON.parse(data);
    this.events.push({ event, id, data: value });
    if (event === "seance:change") this.state = value.state;
    else if (event === "seance:patch") this.state = patched(this.state, value.operations);
    else return;
    if (event === "seance:patch" || this.versions.length === 0) this.versions.push(value.version);
    else this.versions = [value.version];
    assert.equal(id, value.position);
  }
  has(version) {
    return until(() => this.versions.at(-1) === version, () => `version ${version}: ${this.versions.slice(-3)} ${this.failure ?? ""}`, 15000);
  }
  async close() {
    this.abort.abort();
    await this.done;
  }
}

const upTo = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

describe("a stream", () => {
  it("begins with the state, goes on with events and patches; ids are positions", async () => {
    const topic = "board:stream/é";
    const { position } = await post(topic, "inc");
    const reader = await Reader.open(topic);
    assert.equal(reader.response.headers.get("content-type"), "text/event-stream");
    assert.equal(reader.response.headers.get("cache-control"), "no-store");
    await reader.has(1);
    await post(topic, "add", { title: "a\nb\u2028" });
    await post(topic, "say", { hello: 1 });
    await reader.has(3);
    const epoch = position.split("-")[0];
    assert.deepEqual(reader.events, [
      { event: "seance:change", id: `${epoch}-1`, data: { state: { n: 1, items: [] }, version: 1, revision: 1, position: `${epoch}-1` } },
      { event: "seance:patch", id: `${epoch}-2`, data: { operations: [{ op: "add", path: "/items/-", value: { title: "a\nb\u2028" } }], version: 2, revision: 2, position: `${epoch}-2` } },
      { event: "seance:event", id: undefined, data: { name: "said", detail: { hello: 1 }, type: "said", payload: { hello: 1 } } },
      { event: "seance:patch", id: `${epoch}-3`, data: { operations: [], version: 3, revision: 3, position: `${epoch}-3` } },
    ]);
    await reader.close();
    await until(async () => !(await system.counts()).streams, "it to be let go");
  });

  it("what clients are not to see is not there", async () => {
    const reader = await Reader.open("face:stream");
    await reader.has(0);
    await post("face:stream", "both");
    await post("face:stream", "hidden");
    await reader.has(2);
    assert.deepEqual(reader.state, { public: 1 });
    assert.doesNotMatch(JSON.stringify(reader.events), /secret|hidden/);
    await reader.close();
  });

  it("refused: by authorize 403, by connect 401, nobody's and private topics 404, bad since 400", async () => {
    for (const [status, topic, query] of [[403, "guarded:s", ""], [200, "guarded:s", "?token=good"], [401, "board:s", "?deny=1"], [404, "nobody:s", ""], [404, "counter:s", ""], [400, "board:s", "?since=x"]]) {
      const reader = await Reader.open(topic, query);
      assert.equal(reader.status, status, topic + query);
      if (status !== 200) assert.equal((await reader.response.json()).status, status);
      else await reader.close();
    }
    await until(async () => !(await system.counts()).streams, "none to be left");
  });

  it("an allowed origin may read it, another not", async () => {
    for (const [origin, allowed] of [[system.url, system.url], ["http://evil.example", null]]) {
      const reader = await Reader.open("board:origin", "", { origin });
      assert.equal(reader.response.headers.get("access-control-allow-origin"), allowed);
      await reader.close();
    }
  });

  it("kills of the program are not noticed: each version once, in order", async () => {
    const topic = "board:kills";
    const readers = await Promise.all(Array.from({ length: 10 }, () => Reader.open(topic)));
    await Promise.all(readers.map((reader) => reader.has(0)));
    for (let i = 1; i <= 120; i++) {
      await post(topic, "add", { i });
      if (i % 30 === 0) await system.killWorker();
    }
    for (const reader of readers) {
      await reader.has(120);
      assert.deepEqual(reader.versions, upTo(0, 120));
      assert.equal(reader.events.filter(({ event }) => event === "seance:change").length, 1);
      assert.equal(reader.ended, undefined);
      await reader.close();
    }
  });
});

describe("coming back", () => {
  it("with the last position: what was missed, events before their patches, and no state; nothing, when nothing was", async () => {
    const topic = "board:back";
    for (const how of ["since", "last-event-id"]) {
      const { position, version: first } = await post(topic, "inc");
      await post(topic, "say", { n: 1 });
      await post(topic, "add", { n: 2 });
      const reader = await Reader.open(topic, how === "since" ? `?since=${position}` : "", how === "since" ? {} : { [how]: position }, { n: 0, items: [] });
      await reader.has(first + 2);
      assert.deepEqual(reader.events.map(({ event, data }) => [event, data.version ?? data.name]), [["seance:event", "said"], ["seance:patch", first + 1], ["seance:patch", first + 2]]);
      const last = reader.events.at(-1).id;
      await reader.close();
      const again = await Reader.open(topic, "", { "last-event-id": last }, { n: 0, items: [] });
      const { version } = await post(topic, "inc");
      await again.has(version);
      assert.deepEqual(again.versions, [version]);
      await again.close();
    }
  });

  it("with a position of another history, of the future, or none: the state", async () => {
    const topic = "board:other";
    const [epoch] = (await post(topic, "inc")).position.split("-");
    for (const id of ["1-1", `${epoch}-9`, "nonsense", `${epoch}-`, `${epoch}-1x`]) {
      const reader = await Reader.open(topic, "", { "last-event-id": id });
      await reader.has(1);
      assert.equal(reader.events[0].event, "seance:change", id);
      await reader.close();
    }
  });

  it("cut at random again and again, while the program and nginx are killed: each version once, and no state a second time", async () => {
    const topic = "board:cut";
    const last = 150;
    await post(topic, "inc");
    let states = 0, cuts = 0;
    const client = async () => {
      const versions = [];
      let state, id;
      while (versions.at(-1) !== last) {
        const reader = await Reader.open(topic, "", id ? { "last-event-id": id } : {}, state).catch(() => undefined);
        if (reader?.status !== 200) {
          await new Promise((done) => setTimeout(done, 20)); // nginx is starting
          continue;
        }
        const enough = 1 + Math.floor(Math.random() * 12);
        await until(() => reader.versions.length >= enough || reader.ended || reader.versions.at(-1) === last, "some events, or the end", 15000, 2);
        await reader.close();
        cuts++;
        versions.push(...reader.versions);
        states += reader.events.filter(({ event }) => event === "seance:change").length;
        state = reader.state;
        id = reader.events.findLast((one) => one.id)?.id ?? id;
      }
      assert.deepEqual(versions, upTo(versions[0], last));
      return state;
    };
    const feed = async () => {
      for (let i = 2; i <= last; i++) {
        for (;;) {
          const key = `cut ${i}`;
          const response = await fetch(`${at(topic)}/events/add`, { method: "POST", headers: { "content-type": "application/json", "idempotency-key": key }, body: JSON.stringify({ i }) }).catch(() => undefined);
          if (response?.status === 200) break;
          await new Promise((done) => setTimeout(done, 20)); // nginx is starting
        }
        if (i % 40 === 0) await system.killWorker();
        if (i === 75) await system.restartNginx("SIGKILL");
      }
    };
    const clients = Array.from({ length: 8 }, client);
    await feed();
    const ends = await within(Promise.all(clients), "all to have it", 60000);
    const { state } = await (await fetch(at(topic))).json();
    for (const end of ends) assert.deepEqual(end, state);
    console.log(`# ${cuts} cuts, ${states} full states to ${clients.length} clients`);
    assert.equal(states, clients.length);
  });
});

it("WebSockets, streams, waiting requests and POSTs on one topic: each version once and in order, one state in the end", async () => {
  const topic = "board:all";
  const events = 500;
  const streams = await Promise.all(Array.from({ length: 5 }, () => Reader.open(topic)));
  await Promise.all(streams.map((stream) => stream.has(0)));
  const sockets = await Promise.all(["/socket/websocket?vsn=2.0.0", "/socket/websocket?vsn=2.0.0", "/live_state/websocket?vsn=2.0.0"].map((path) => Raw.open(system.ws + path)));
  for (const socket of sockets) await socket.join(topic);
  const { position } = await post(topic, "inc");
  const waiting = async () => {
    const versions = [1];
    for (let since = position; versions.at(-1) < events; ) {
      const response = await fetch(`${at(topic)}?since=${since}&wait=30`);
      if (response.status === 204) continue;
      const body = await response.json();
      assert.equal(body.reset, undefined);
      versions.push(...body.patches.map(({ version }) => version));
      since = body.position;
    }
    assert.deepEqual(versions, upTo(1, events));
  };
  const listening = async (socket) => {
    const versions = [];
    while (versions.at(-1) !== events) {
      const [, , , event, payload] = await socket.frame(20000);
      if (/:patch$/.test(event)) versions.push(payload.version);
    }
    assert.deepEqual(versions, upTo(1, events));
  };
  let left = events - 1;
  const posting = async (who) => {
    while (left-- > 0) await post(topic, "add", { who });
  };
  const sending = async (socket, ref, event) => {
    for (let i = 0; left > 0 && i < 100; i++) {
      left--;
      socket.send(["1", `${ref}${i}`, topic, event, { who: ref }]);
      await new Promise((done) => setImmediate(done));
    }
  };
  await within(Promise.all([
    waiting(), waiting(), ...sockets.map(listening), posting("a"), posting("b"),
    sending(sockets[0], "s", "seance:event:add"), sending(sockets[2], "l", "lvs_evt:add"),
    ...streams.map((stream) => stream.has(events)),
  ]), "all of it", 60000);
  const { state } = await (await fetch(at(topic))).json();
  assert.equal(state.items.length, events - 1);
  for (const stream of streams) {
    assert.deepEqual(stream.versions, upTo(0, events));
    assert.deepEqual(stream.state, state);
    await stream.close();
  }
  for (const socket of sockets) await socket.close();
});

it("Chromium's EventSource: follows, and comes back by itself when nginx is started anew", async () => {
  const topic = "board:browser";
  await post(topic, "inc");
  const browser = await startChromium();
  try {
    const page = await browser.newPage();
    await page.goto(`${system.url}/channels/${topic}`);
    await page.evaluate((url) => {
      globalThis.seen = [];
      const source = new EventSource(url);
      for (const name of ["seance:change", "seance:patch", "seance:event"]) source.addEventListener(name, (event) => globalThis.seen.push([name, JSON.parse(event.data).version, event.lastEventId]));
    }, `/channels/${topic}`);
    const saw = (name, version) => page.waitForFunction(([name, version]) => globalThis.seen.some((one) => one[0] === name && one[1] === version), [name, version], { timeout: 20000 });
    await saw("seance:change", 1);
    await post(topic, "inc");
    await saw("seance:patch", 2);
    await system.restartNginx();
    await post(topic, "inc");
    await saw("seance:patch", 3);
    await post(topic, "inc");
    await saw("seance:patch", 4);
  } finally {
    await browser.end();
  }
});
