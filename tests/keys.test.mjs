/*
 * Keys: the same event is done once, whatever it comes by, at the same time too; what was not done may come again.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { Raw } from "./lib/raw.mjs";
import { RawLongPoll } from "./lib/raw_long_poll.mjs";
import { until, within } from "./lib/wait.mjs";
import { startSystem, tree } from "./system.mjs";

const PROGRAM = join(tree, process.env.SANITIZE ? `build/${process.env.SANITIZE.replaceAll(",", "-")}/app/tests/conformance/conformance` : "tests/conformance/conformance");

let system;
const open = [];

before(async () => {
  system = await startSystem({ app: "tests/conformance" });
});
after(() => system?.stop());
afterEach(async () => {
  for (const client of open.splice(0)) await client.close();
});

/* Frames of either version, as {event, payload, ref}. */
class Client {
  static async join(Transport, topic, { vsn = "2.0.0", ...payload } = {}) {
    const client = new Client();
    Object.assign(client, { topic, vsn, raw: await Transport.open(`${system.ws}/socket/websocket?vsn=${vsn}`) });
    open.push(client.raw);
    client.send("phx_join", payload, "1");
    const { payload: { status, response } } = await client.frame();
    assert.equal(status, "ok");
    client.resume = response.resume;
    if (!payload.resume?.at) await client.frame();
    return client;
  }

  send(event, payload, ref) {
    this.raw.send(this.vsn === "1.0.0" ? { topic: this.topic, event, payload, ref } : ["1", ref, this.topic, event, payload]);
  }

  async frame() {
    const frame = await this.raw.frame("a frame", 15000);
    return Array.isArray(frame) ? { ref: frame[1], event: frame[3], payload: frame[4] } : frame;
  }

  /* event - what it is answered: {status, reason}; ref is any */
  async event(type, key, payload = {}, ref = "9") {
    this.send("seance:event", { type, payload, key }, ref);
    for (;;) {
      const { event, payload: { status, response } } = await this.frame();
      if (event === "phx_error") return "phx_error";
      if (event === "phx_reply") return status === "ok" ? "ok" : response.reason;
    }
  }
}

async function count(topic) {
  const response = await fetch(`${system.url}/channels/${topic}`);
  return (await response.json()).state.n;
}

async function post(topic, key, { event = "inc", body = "{}" } = {}) {
  const response = await fetch(`${system.url}/channels/${topic}/events/${event}`, { method: "POST", body, headers: { "content-type": "application/json", ...(key === undefined ? {} : { "idempotency-key": key }) } });
  return { status: response.status, body: await response.json() };
}

const transports = [
  ["WebSocket, version 2", Raw, "2.0.0"],
  ["WebSocket, version 1", Raw, "1.0.0"],
  ["long-poll, version 2", RawLongPoll, "2.0.0"],
  ["long-poll, version 1", RawLongPoll, "1.0.0"],
];

for (const [name, Transport, vsn] of transports) {
  describe(name, () => {
    const joined = (topic, more) => Client.join(Transport, `${topic}:${vsn}:${Transport.name}`, { vsn, replies: true, ...more });

    it("done once; another event with the key is refused; others' topics have keys of their own", async () => {
      const client = await joined("board:once");
      assert.equal(await client.event("inc", "k"), "ok");
      assert.equal(await client.event("inc", "k"), "ok");
      assert.equal(await client.event("add", "k"), "the key was another event's");
      assert.equal(await client.event("inc", "k", { other: 1 }), "the key was another event's");
      await system.killWorker();
      assert.equal(await client.event("inc", "k"), "ok");
      assert.equal(await count(client.topic), 1);
      const other = await joined("board:others");
      assert.equal(await other.event("inc", "k"), "ok");
      assert.equal(await count(other.topic), 1);
    });

    it("what may be a key", async () => {
      const client = await joined("board:which");
      const good = ["x", "ä€😀", " ", "\n\t\"\\", "k".repeat(255), "€".repeat(85)];
      for (const key of good) for (let i = 0; i < 2; i++) assert.equal(await client.event("inc", key), "ok", JSON.stringify(key));
      assert.equal(await count(client.topic), good.length);
      for (const key of ["", "k".repeat(256), "€".repeat(86), "a\0b", "\0", 7, true, false, {}, ["k"], 1.5])
        assert.equal(await client.event("inc", key), "the key is empty, too long, or no text", JSON.stringify(key));
      assert.equal(await count(client.topic), good.length);
      for (const key of [null, undefined]) for (let i = 0; i < 2; i++) assert.equal(await client.event("inc", key), "ok"); // none
      assert.equal(await count(client.topic), good.length + 4);
    });

    it("refused: it may be tried again; crashed: the same", async () => {
      let client = await joined("draft:refused", { resume: {} });
      assert.equal(await client.event("refuse", "r"), "not yet");
      assert.equal(await client.event("refuse", "r"), "not yet");
      assert.equal(await client.event("inc", "r"), "ok", "nothing was kept under it");
      assert.equal(await client.event("crash", "c"), "phx_error");
      client = await joined("board:crashed");
      assert.equal(await client.event("crash", "c"), "phx_error");
      client = await joined("board:crashed");
      assert.equal(await client.event("crash", "c"), "phx_error", "it is tried, and not taken for done");
      client = await joined("board:crashed");
      assert.equal(await client.event("inc", "c"), "ok");
    });

    it("one that kills the program twice is not done, and not kept", async () => {
      let client = await joined("board:killer");
      assert.equal(await client.event("segv", "s"), "phx_error");
      client = await joined("board:killer");
      assert.equal(await client.event("inc", "s"), "ok");
    });
  });
}

describe("at the same time", () => {
  it("by WebSocket, long-poll and HTTP: once", async () => {
    const clients = await Promise.all(transports.map(([, Transport, vsn]) => Client.join(Transport, "board:same", { vsn, replies: true })));
    assert.equal(await clients[0].event("inc", "first"), "ok"); // so that HTTP sees it as a socket's
    for (let round = 0; round < 10; round++) {
      const answers = await Promise.all([...clients, ...clients].slice(0, 4).map((client) => client.event("inc", `k${round}`, {}, `r${round}`)));
      assert.deepEqual(new Set(answers), new Set(["ok"]));
      const { status, body } = await post("board:same", `k${round}`);
      assert.deepEqual([status, body.version], [200, round + 2]);
    }
    assert.equal(await count("board:same"), 11);
  });

  it("by HTTP, and by CGI beside the program: once, and answered the same", async () => {
    /* a request as a CGI server makes it */
    function cgi(topic, key) {
      const child = spawn(PROGRAM, [], {
        stdio: ["pipe", "pipe", "ignore"],
        env: { ...process.env, GATEWAY_INTERFACE: "CGI/1.1", REQUEST_METHOD: "POST", REQUEST_URI: `/channels/${topic}/events/inc`, CONTENT_TYPE: "application/json", CONTENT_LENGTH: "2", HTTP_IDEMPOTENCY_KEY: key, SEANCE_DIR: system.dir },
      });
      let text = "";
      child.stdout.on("data", (part) => (text += part));
      child.stdin.end("{}");
      const answer = new Promise((resolve) => child.stdout.on("end", () => resolve(JSON.parse(text.split("\r\n\r\n")[1]))));
      return within(answer, "the answer by CGI", 15000);
    }
    const watcher = await Client.join(Raw, "board:cgi", {});
    for (let round = 0; round < 8; round++) {
      const key = `c${round}`;
      const answers = await Promise.all([cgi("board:cgi", key), post("board:cgi", key).then(({ body }) => body), cgi("board:cgi", key), post("board:cgi", key).then(({ body }) => body)]);
      for (const answer of answers) assert.equal(answer.version, round + 1, JSON.stringify(answers));
      assert.equal((await watcher.frame()).payload.version, round + 1);
    }
    assert.equal(await count("board:cgi"), 8);
  });
});

describe("what is kept", () => {
  const database = (sql) => execFileSync("sqlite3", [join(system.dir, "seance.db"), `.timeout 5000`, sql], { encoding: "utf8" }).trim();

  it("a socket's as long as its row in the log", async () => {
    const client = await Client.join(Raw, "board:old", { replies: true });
    assert.equal(await client.event("inc", "old"), "ok");
    assert.equal(database("select count(*) from log where key like '% old'"), "1");
    database("update log set key = null where key like '% old'");
    assert.equal(await client.event("inc", "old"), "ok");
    assert.equal(await count("board:old"), 1, "what is known is in memory");
    await system.killWorker();
    assert.equal(await client.event("inc", "old"), "ok");
    assert.equal(await count("board:old"), 2);
  });

  it("HTTP's for 24 hours; then it goes, and the event is done", async () => {
    assert.equal((await post("board:day", "day")).body.version, 1);
    const left = Number(database("select max(until_ms) from answers where key like 'key % day'")) - Date.now();
    assert.ok(left > 23.9 * 3600e3 && left < 24.1 * 3600e3, String(left));
    assert.equal((await post("board:day", "day")).body.version, 1);
    database("update answers set until_ms = 1 where key like 'key % day'");
    await system.killWorker(); // the next process cleans up with its first commit
    await until(async () => (await post("board:other")).status === 200 && database("select count(*) from answers where until_ms = 1") === "0", "it to go", 20000);
    assert.equal((await post("board:day", "day")).body.version, 2);
  });
});
