/*
 * Server-sent events: a topic's state and all that follows, to raw readers and to Chromium's EventSource, through
 * restarts of the program and of nginx; and all transports on one topic.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { startChromium } from "./lib/chromium.mjs";
import { LongPoll } from "./lib/long_poll.mjs";
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

  it("refused: by authorize 403, by connect 401, by init 422, nobody's and private topics 404, bad since 400; a crash 500", async () => {
    for (const [status, topic, query] of [[403, "guarded:s", ""], [200, "guarded:s", "?token=good"], [401, "board:s", "?deny=1"], [404, "nobody:s", ""], [404, "counter:s", ""], [400, "board:s", "?since=x"], [422, "full:refused", ""], [500, "full:crash", ""], [500, "board:s", "?deny=crash"]]) {
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

describe("every transport on one topic", () => {
  const topic = "board:all";
  const events = 500;

  /* Whoever follows: the state and the versions that it was told. */
  class Follower {
    versions = [];
    told(state, version) {
      Object.assign(this, { state, versions: [version] });
    }
    patch(operations, version) {
      this.state = patched(this.state, operations);
      this.versions.push(version);
    }
  }

  /* A client of the Phoenix protocol; by: Raw or LongPoll, an open one. */
  class Framed extends Follower {
    #ref = 0;
    constructor(name, by, mount, vsn) {
      super();
      Object.assign(this, { name, by, vsn, event: mount === "/socket" ? "seance:event:add" : "lvs_evt:add" });
    }
    async #send(event, payload) {
      const ref = `${++this.#ref}`;
      await this.by.send(this.vsn === "1.0.0" ? { topic, event, payload, ref } : ["1", ref, topic, event, payload]);
    }
    async #take() {
      const frame = await this.by.frame(`a frame for ${this.name}`, 20000);
      const { event, payload } = Array.isArray(frame) ? { event: frame[3], payload: frame[4] } : frame;
      if (/:change$/.test(event)) this.told(payload.state, payload.version);
      if (/:patch$/.test(event)) this.patch(payload.operations ?? payload.patch, payload.version);
    }
    async begin() {
      await this.#send("phx_join", {});
      while (!this.state) await this.#take();
    }
    async follow() {
      while (this.versions.at(-1) !== events) await this.#take();
    }
    send = (id) => this.#send(this.event, { id });
    end = () => this.by.close?.();
  }

  class Stream extends Follower {
    name = "server-sent events";
    async begin() {
      this.reader = await Reader.open(topic);
      await this.reader.has(0);
    }
    async follow() {
      await this.reader.has(events);
      const { state, versions } = this.reader;
      Object.assign(this, { state, versions });
    }
    end = () => this.reader.close();
  }

  /* fetch or curl: waits for patches; sends by POST. */
  class Asking extends Follower {
    constructor(name, ask) {
      super();
      Object.assign(this, { name, ask });
    }
    async begin() {
      const { state, version, position } = await this.ask("");
      this.told(state, version);
      this.position = position;
    }
    async follow() {
      while (this.versions.at(-1) !== events) {
        const body = await this.ask(`?since=${this.position}&wait=30`);
        if (!body) continue;
        assert.equal(body.reset, undefined);
        for (const { operations, version } of body.patches) this.patch(operations, version);
        this.position = body.position;
      }
    }
    send = (id) => this.ask("/events/add", JSON.stringify({ id }));
    end() {}
  }
  const byFetch = async (rest, body) => {
    const response = await fetch(at(topic) + rest, body && { method: "POST", headers: { "content-type": "application/json" }, body });
    assert.ok(response.ok, `${response.status}`);
    return response.status === 204 ? undefined : response.json();
  };
  const byCurl = async (rest, body) => {
    const { stdout } = await promisify(execFile)("curl", ["-sf", ...(body ? ["-H", "Content-Type: application/json", "-d", body] : []), at(topic) + rest]);
    return stdout && JSON.parse(stdout);
  };

  it("each sees each version once and in order, and all end with one state, the program being killed on the way", async () => {
    const clients = [new Stream(), new Stream(), new Asking("fetch", byFetch), new Asking("curl", byCurl)];
    for (const mount of ["/socket", "/live_state"]) {
      for (const vsn of ["2.0.0", "1.0.0"]) {
        clients.push(new Framed(`WebSocket ${mount} ${vsn}`, await Raw.open(`${system.ws}${mount}/websocket?vsn=${vsn}`), mount, vsn));
        clients.push(new Framed(`long-poll ${mount} ${vsn}`, await LongPoll.open(`${system.url}${mount}/longpoll?vsn=${vsn}`), mount, vsn));
      }
    }
    for (const client of clients) await client.begin();
    let last = 0;
    const sent = {};
    const sending = async ({ name, send }) => {
      for (let id; (id = ++last) <= events; sent[name] = (sent[name] ?? 0) + 1) {
        await send(id);
        await new Promise((done) => setTimeout(done, Math.random() * 10));
      }
    };
    const killing = async () => {
      await until(() => last > events / 2, "half of them", 30000);
      await system.killWorker();
    };
    await within(Promise.all([killing(), ...clients.map((client) => client.follow()), ...clients.filter(({ send }) => send).map(sending)]), "all of it", 60000);
    console.log(`# sent by ${JSON.stringify(sent)}`);
    const { state } = await (await fetch(at(topic))).json();
    assert.deepEqual(state.items.map(({ id }) => id).sort((a, b) => a - b), upTo(1, events));
    for (const client of clients) {
      assert.deepEqual(client.versions, upTo(0, events), client.name);
      assert.deepEqual(client.state, state, client.name);
      await client.end();
    }
  });
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
