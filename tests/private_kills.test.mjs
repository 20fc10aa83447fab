/*
 * Private state that is come back to: clients are cut at random moments and come back by WebSocket, long-poll or HTTP,
 * while the program is killed and replaced and nginx reloads and restarts.  Each has a counter of its own, in which
 * each of its events is once.
 *
 * SEANCE_TEST_SECONDS=600 makes it that long; SEANCE_TEST_SEED=N does as a run that said so.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, before, it } from "node:test";
import { LongPoll, request } from "./lib/long_poll.mjs";
import { pause, random } from "./lib/random.mjs";
import { Raw } from "./lib/raw.mjs";
import { patched } from "./lib/recording.mjs";
import { until, within } from "./lib/wait.mjs";
import { startSystem } from "./system.mjs";

let system;
before(async () => {
  system = await startSystem({ app: "tests/conformance", env: { NGINX_WORKERS: "2" } });
});
after(() => system?.stop());

const VERSIONS = 1001; // 0 to max_version

class Cut extends Error {} // the connection has gone, by whose hand it may be: the client comes back

/* What each transport does: send a frame, give the next one, be cut. */
class ByWebSocket {
  static async open() {
    const way = new ByWebSocket();
    way.raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`, { ms: 15000 });
    return way;
  }

  async send(frame) {
    this.raw.send(frame);
  }

  async next() {
    const { frame, close } = await this.raw.item("a frame", 20000);
    if (close !== undefined) throw new Cut(`closed: ${close}`);
    return frame;
  }

  cut() {
    this.raw.socket.terminate();
  }
}

class ByLongPoll {
  stop = new AbortController();

  static async open() {
    const way = new ByLongPoll();
    way.session = await LongPoll.open(`${system.url}/socket/longpoll?vsn=2.0.0`);
    return way;
  }

  async send(frame) {
    const { text } = await request(this.session.at(), { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(frame), signal: this.stop.signal });
    if (text !== '{"status":200}') throw new Cut(`a POST: ${text}`);
  }

  next = () => this.session.frame("a frame", 20000, { signal: this.stop.signal });

  cut() {
    this.stop.abort();
  }
}

/* A client: what it knows is what it was told; what it was not answered it sends again, with the same key. */
class Client {
  done = 0; // events that were answered
  pending = null; // the key of the one that was not
  known = null; // {resume, version, n}: where to come back to
  visits = { ByWebSocket: 0, ByLongPoll: 0, ByHttp: 0 };
  cuts = 0;
  again = 0;
  lostBirths = 0; // states that nobody was told of

  constructor(name, below) {
    Object.assign(this, { name, below, topic: `draft:${name}` });
  }

  /* What the counter must be: one more if the answer to the last event was lost. */
  #check(n, who) {
    if (who) assert.equal(who, this.name, "another's state");
    const most = this.done + (this.pending ? 1 : 0);
    assert.ok(n === this.done || n === most, `${this.name}: ${n}, after ${this.done} events${this.pending ? " and perhaps one" : ""}`);
  }

  #take([, , topic, event, payload]) {
    if (topic !== this.topic) return;
    if (payload.resume) this.known.resume = payload.resume;
    if (event === "seance:change") Object.assign(this.known, { version: payload.version, state: payload.state });
    if (event !== "seance:patch") return;
    assert.equal(payload.version, (this.known.version + 1) % VERSIONS, `${this.name}: the version after ${this.known.version}`);
    Object.assign(this.known, { version: payload.version, state: patched(this.known.state, payload.operations) });
  }

  async #reply(way, ref) {
    for (;;) {
      const frame = await way.next();
      if (frame[3] === "phx_reply" && frame[1] === ref) return frame[4];
      this.#take(frame);
    }
  }

  async #joinBySocket(Way) {
    const way = await Way.open();
    this.way = way;
    const fresh = !this.known;
    if (fresh) this.lostBirths++;
    await way.send(["1", "join", this.topic, "phx_join", { who: this.name, replies: true, resume: fresh ? {} : { at: this.known.resume } }]);
    const { status, response } = await this.#reply(way, "join");
    assert.equal(status, "ok", `${this.name}: ${JSON.stringify(response)}`);
    if (fresh) this.known = { version: -1 };
    const last = Number(response.resume.match(/-(\d+)\./)[1]) % VERSIONS;
    while (this.known.version !== last) this.#take(await way.next());
    if (fresh) this.lostBirths--;
    this.#check(this.known.state.n, this.known.state.began.who);
    return async (key, ref) => {
      await way.send(["1", ref, this.topic, "seance:event", { type: "inc", payload: {}, key }]);
      const { status, response } = await this.#reply(way, ref);
      if (response.reason === "unmatched topic") throw new Cut("a join of before has taken the state");
      assert.equal(status, "ok", `${this.name}: ${JSON.stringify(response)}`);
    };
  }

  async #ask(signal, path, { body = {}, ...headers }) {
    const { status, body: answer, text } = await request(`${system.url}/channels/${this.topic}${path}`, { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body), signal });
    if (status === 503 || status === 401) throw new Cut(`${status}`); // the latter: a join of before has taken the state
    assert.ok(status === 200 || status === 201, `${this.name}: ${status} ${text}`);
    return answer;
  }

  async #joinByHttp() {
    const stop = new AbortController();
    this.way = { cut: () => stop.abort() };
    const { token, state } = await this.#ask(stop.signal, "", { body: { who: this.name, resume: { at: this.known.resume } } });
    this.#check(state.n, state.began.who);
    return async (key) => {
      const { version } = await this.#ask(stop.signal, "/events/inc", { "seance-token": token, "idempotency-key": key });
      assert.equal(version, (this.done + 1) % VERSIONS);
    };
  }

  /* An event, or what it was cut off from. */
  async #event(push) {
    if (this.pending) this.again++;
    this.pending ??= `${this.name}-${this.done}`;
    await push(this.pending, `e${this.done}`);
    this.pending = null;
    this.done++;
  }

  /* One visit: some events, and a cut at any moment of it. */
  async visit(outage, gently = false) {
    const Way = [ByWebSocket, ByLongPoll, null][this.known ? this.below(3) : this.below(2)];
    this.visits[Way?.name ?? "ByHttp"]++;
    this.way = null;
    let wasCut = false;
    const timer = setTimeout(() => {
      wasCut = true;
      this.way?.cut();
    }, gently ? 2 ** 31 - 1 : this.below(150));
    try {
      const push = await (Way ? this.#joinBySocket(Way) : this.#joinByHttp());
      for (let i = this.below(12); i >= 0 && !wasCut; i--) await this.#event(push);
    } catch (error) {
      const broken = error instanceof Cut || wasCut || outage.on || /aborted|hang up|ECONNRESET/.test(`${error.code} ${error.message}`);
      if (!broken || error.code === "ERR_ASSERTION") throw error;
      this.cuts++;
      await pause(5);
    } finally {
      clearTimeout(timer);
      if (this.below(2)) this.way?.cut(); // or it is left open, and found dead later
      else this.open = [...(this.open ?? []), this.way].filter(Boolean);
      while (this.open?.length > 3) this.open.shift().cut();
    }
  }
}

it("each event is once in the counter of its client, whatever is cut, killed, replaced, reloaded", { timeout: 2 ** 31 - 1 }, async () => {
  const seconds = Number(process.env.SEANCE_TEST_SECONDS ?? 6);
  const seed = Number(process.env.SEANCE_TEST_SEED ?? Date.now() % 1000000);
  const below = random(seed);
  const clients = Array.from({ length: 16 }, (_, i) => new Client(`c${i}`, below));
  const end = Date.now() + seconds * 1000;
  const counts = { kills: 0, replacements: 0, reloads: 0, restarts: 0 };
  const outage = { on: false };
  let failed = false;
  let nextRestart = Date.now() + seconds * 400; // scripts/run starts nginx five times in 30 s
  const going = () => Date.now() < end && !failed;

  async function breaking() {
    while (going()) {
      await pause(200 + below(500));
      const how = below(3);
      if (how === 0) counts.kills += (await system.killWorker()) > 0;
      if (how === 1) counts.replacements += process.kill(system.supervisorPid(), "SIGHUP");
      if (how === 2) counts.reloads += process.kill(system.nginxPid(), "SIGHUP");
      if (Date.now() < nextRestart) continue;
      outage.on = true;
      await system.restartNginx(["SIGTERM", "SIGKILL"][below(2)]);
      await pause(300);
      outage.on = false;
      counts.restarts++;
      nextRestart = Date.now() + 15000;
    }
  }

  async function coming(client) {
    while (going()) await client.visit(outage);
  }

  const working = [breaking(), ...clients.map(coming)].map((work) => work.catch((error) => {
    failed = true;
    throw new Error(`seed ${seed}: ${error.message}`, { cause: error });
  }));
  const ends = await within(Promise.allSettled(working), "the end", seconds * 1000 + 60000);
  const wrong = ends.find(({ status }) => status === "rejected");
  if (wrong) throw wrong.reason;

  for (const client of clients) {
    const before = client.done;
    await until(async () => {
      await client.visit({ on: false }, true);
      return client.done > before && !client.pending;
    }, `${client.name} to come back`, 60000);
  }
  const database = (sql) => Number(execFileSync("sqlite3", ["-readonly", join(system.dir, "seance.db"), sql], { encoding: "utf8" }));
  const lost = clients.reduce((all, { lostBirths }) => all + lostBirths, 0);
  await until(() => database("select count(*) from joins where ended is null") <= clients.length + lost, () => `${database("select count(*) from joins where ended is null")} joins for ${clients.length} clients`, 15000);
  for (const client of clients) for (const way of client.open ?? []) way.cut();
  assert.doesNotMatch(system.read("program.log"), /died: (?!signal 9 )/);
  assert.doesNotMatch(system.read("program.log"), /\.[0-9a-f]{64}/, "no token is in the log");
  const sum = (of) => clients.reduce((all, client) => all + of(client), 0);
  console.log(`# seed ${seed}, ${seconds} s: ${sum(({ done }) => done)} events, ${sum(({ again }) => again)} of them sent again, ${sum(({ cuts }) => cuts)} cuts; by WebSocket, long-poll, HTTP: ${["ByWebSocket", "ByLongPoll", "ByHttp"].map((way) => sum(({ visits }) => visits[way])).join(", ")}; ${JSON.stringify(counts)}`);
});
