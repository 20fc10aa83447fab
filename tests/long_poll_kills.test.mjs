/*
 * Phoenix's long-poll transport under load: many that wait at once; clients that lose answers, while the program is
 * killed and replaced and nginx reloads.
 *
 * SEANCE_TEST_SECONDS=600 makes the last of them that long; SEANCE_TEST_SEED=N does as a run that said so.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { setMaxListeners } from "node:events";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { LongPoll, ndjson, request } from "./lib/long_poll.mjs";
import { pause, random } from "./lib/random.mjs";
import { patched } from "./lib/recording.mjs";
import { patience, until, within } from "./lib/wait.mjs";
import { startSystem } from "./system.mjs";

let system;
before(async () => {
  system = await startSystem({ app: "tests/conformance", flags: ["--grace=1"] });
});
after(() => system?.stop());
const noneDied = () => assert.doesNotMatch(system.read("program.log"), /died: (?!signal 9 )/); // but the killed ones

const url = () => `${system.url}/socket/longpoll?vsn=2.0.0`;
const stored = () => Number(execFileSync("sqlite3", ["-readonly", join(system.dir, "seance.db"), "select count(*) from sockets"], { encoding: "utf8" }));
const at = (topic) => `${system.url}/channels/${encodeURIComponent(topic)}`;
const post = async (topic, event) => {
  const { status, body } = await request(`${at(topic)}/events/${event}`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
  assert.equal(status, 200);
  return body;
};

/* What may be done with so many at once: some at a time. */
async function each(list, some, work) {
  const left = [...list];
  await Promise.all(Array.from({ length: some }, async () => {
    while (left.length) await work(left.pop());
  }));
}

const MANY = patience > 1 ? 200 : 1000; // with sanitizers it is slow

describe(`${MANY} that wait`, () => {
  const topic = "board:waiters";
  const sessions = [];
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  let waits;
  const parked = async () => (await system.counts()).parked ?? 0;
  // one whose time is over asks again: it is told then, and need not wait for that
  const most = () => until(async () => (await parked()) >= 0.95 * MANY, "most of them to wait", 30000);
  const told = (session) => {
    const frame = session.frame("what is told", 60000, { signal: stop.signal });
    frame.catch(() => {}); // said where it is waited for
    return frame;
  };
  const wait = () => (waits = sessions.map(told));

  before(async () => {
    waits = [];
    await each(Array.from({ length: MANY }), 50, async () => {
      const session = await LongPoll.open(url());
      await session.join(topic);
      sessions.push(session);
      waits.push(told(session));
    });
    await most();
  });

  /* answered - all of them, by one event each, with the version */
  async function answered(version) {
    const began = performance.now();
    assert.equal((await post(topic, "inc")).version, version);
    const answers = await within(Promise.all(waits), "all answers", 30000);
    console.log(`# ${MANY} waiting clients told in ${Math.round(performance.now() - began)} ms`);
    for (const frame of answers) assert.deepEqual(frame, [null, null, topic, "seance:patch", { operations: [{ op: "replace", path: "/n", value: version }], version }]);
    for (const { frames } of sessions) assert.deepEqual(frames, []);
  }

  it("are all told by one event, none twice", async () => {
    await answered(1);
    wait();
    await most();
  });

  it("wait on through a kill of the program, and are told then", async () => {
    await system.killWorker();
    await most();
    await answered(2);
  });

  it("leave nothing behind when they have gone", async () => {
    wait();
    await most();
    stop.abort();
    await Promise.allSettled(waits);
    await until(async () => (await parked()) === 0, "none to wait");
    await until(() => stored() === 0, () => `${stored()} sessions to end`, 20000);
    assert.equal((await request(at(topic))).body.version, 2);
    noneDied();
  });
});

it("sessions that are opened while the program is killed: each works; those that nobody heard of end", async () => {
  let opened = 0;
  const open = async () => {
    const session = await LongPoll.open(url());
    opened++;
    await session.join(`counter:opened ${opened}`);
  };
  const opening = each(Array.from({ length: 400 }), 20, open);
  for (const some of [100, 200, 300]) {
    await until(() => opened >= some, "some sessions", 15000, 1);
    await system.killWorker();
  }
  await within(opening, "all sessions", 30000);
  await until(() => stored() === 0, () => `${stored()} sessions to end`, 20000);
  noneDied();
});

it("a frame that kills the program: its join ends, what is before and behind it in the request is done once", async () => {
  const own = await startSystem({ app: "tests/conformance" });
  try {
    const topic = "board:killed";
    const session = await LongPoll.open(`${own.url}/socket/longpoll?vsn=2.0.0`);
    for (const one of [topic, "board:other"]) await session.join(one);
    const event = (ref, name, to = topic) => ["1", ref, to, `seance:event:${name}`, {}];
    await session.send(event("2", "inc"), event("3", "refuse"), [null, "4", "phoenix", "heartbeat", {}], event("5", "segv"), event("6", "inc"), event("7", "inc", "board:other"));
    const frames = [];
    while (frames.length < 6) frames.push(...(await session.ask()));
    const patch = { operations: [{ op: "replace", path: "/n", value: 1 }], version: 1 };
    assert.deepEqual(frames, [
      ["1", null, topic, "seance:patch", patch],
      ["1", "3", topic, "phx_reply", { status: "error", response: { reason: "no" } }],
      [null, "4", "phoenix", "phx_reply", { status: "ok", response: {} }],
      ["1", "1", topic, "phx_error", {}],
      [null, "6", topic, "phx_reply", { status: "error", response: { reason: "unmatched topic" } }],
      ["1", null, "board:other", "seance:patch", patch],
    ]);
    const deaths = own.read("program.log").match(/died: signal 11/g).length;
    assert.ok(deaths <= 3, `${deaths} deaths`);
  } finally {
    await own.stop();
  }
});

/* binary - a binary push, as a line of ndjson */
function binary(...parts) {
  const payload = JSON.stringify(parts.pop());
  return Buffer.concat([Buffer.from([0, ...parts.map((part) => Buffer.byteLength(part))]), Buffer.from(parts.join("") + payload)]).toString("base64");
}

/* A client that loses answers and gives requests up; what it is told must be right all the same. */
class Rough {
  refs = new Map(); // of what is answered in any case: how often it was
  due = new Set(); // of these, those that were sent for certain
  maybe = new Set(); // ... those whose request was given up
  added = new Set(); // ids of events that were taken for certain
  addedMaybe = new Set();
  left = []; // frames that leave what was joined
  keys = []; // of events that are sent again by others
  lost = 0;
  given = 0;

  /* outage: on: nginx may be down; killed: when the program was, last */
  constructor(name, topic, below, outage) {
    Object.assign(this, { name, topic, below, outage });
  }

  async start() {
    this.session = await LongPoll.open(url());
    Object.assign(this, await this.session.join(this.topic));
    this.first = this.version;
  }

  #take([, ref, topic, event, payload]) {
    if (event === "phx_reply" && this.refs.has(ref)) this.refs.set(ref, this.refs.get(ref) + 1);
    if (topic !== this.topic) return;
    if (event === "seance:change") assert.fail(`${this.name}: a state`);
    if (event !== "seance:patch") return;
    assert.equal(payload.version, (this.version + 1) % 1001, `${this.name}: the version after ${this.version}`);
    Object.assign(this, { state: patched(this.state, payload.operations), version: payload.version });
  }

  /*
   * A request that broke: it was given up, or nginx was killed, or the program, when nginx had passed on a part of its
   * answer; anything else is thrown.
   */
  async #broken(error, { aborted }) {
    if (aborted || (error.message === "aborted" && Date.now() - this.outage.killed < 2000 * patience)) return;
    if (!this.outage.on || !/ECONN|EPIPE|socket hang up/.test(`${error.code} ${error.message}`)) throw error;
    await pause(20);
  }

  /* One question; its answer may be lost on the way, or it is given up. */
  async #ask() {
    const stop = new AbortController();
    const timer = this.below(4) === 0 && setTimeout(() => stop.abort(), this.below(60));
    const { token } = this.session;
    try {
      const frames = await this.session.ask({ signal: stop.signal });
      if (this.below(4) === 0) {
        this.session.token = token;
        this.lost++;
      } else {
        frames.forEach((frame) => this.#take(frame));
      }
    } catch (error) {
      await this.#broken(error, stop.signal);
      this.lost++;
    } finally {
      clearTimeout(timer);
    }
  }

  async reading(going) {
    while (going()) await this.#ask();
  }

  /* A frame, and where to note what is to come of it. */
  #frame(number) {
    const id = `${this.name}${number}`;
    const answered = (frame) => ({ frame, ref: id });
    switch (this.below(8)) {
      case 0:
        return answered([null, id, "phoenix", "heartbeat", {}]);
      case 1:
        return answered(["1", id, this.topic, "seance:event:refuse", {}]);
      case 2:
        return answered(["1", id, "board:none", "seance:event:inc", {}]);
      case 3:
        return answered([id, id, `counter:${id}`, "phx_join", {}]);
      case 4:
        return { frame: binary("1", id, this.topic, "seance:event:add", { id }), id };
      case 5:
        return { frame: ["1", id, this.topic, "seance:event", { type: "add", payload: { id }, key: id }], id, keyed: true };
      default:
        return { frame: ["1", id, this.topic, "seance:event:add", { id }], id };
    }
  }

  async sending(going) {
    for (let number = 0; going(); ) {
      const frames = Array.from({ length: 1 + this.below(5) }, () => this.#frame(number++));
      frames.push(...this.left.splice(0).map((frame) => ({ frame }))); // 100 joins are the most
      if (this.keys.length && this.below(3) === 0) frames.push(this.keys.at(-1)); // again, with its key
      for (const { ref } of frames) if (ref) this.refs.set(ref, 0);
      const stop = new AbortController();
      const timer = this.below(8) === 0 && setTimeout(() => stop.abort(), this.below(8));
      let certain = true;
      try {
        const { status, text } = await request(this.session.at(), { ...ndjson(...frames.map(({ frame }) => frame)), signal: stop.signal });
        assert.equal(`${status} ${text}`, '200 {"status":200}', this.name);
      } catch (error) {
        await this.#broken(error, stop.signal);
        certain = false;
        this.given++;
      } finally {
        clearTimeout(timer);
      }
      for (const one of frames) {
        if (one.ref) (certain ? this.due : this.maybe).add(one.ref);
        if (one.id) (certain ? this.added : this.addedMaybe).add(one.id);
        if (one.keyed) this.keys.push(one);
      }
      for (const { frame, ref } of frames) if (frame[3] === "phx_join") this.left.push([ref, "left", frame[2], "phx_leave", {}]);
      await pause(this.below(20));
    }
  }

  /* All that is for it, up to the answer to a last heartbeat. */
  async end() {
    this.refs.set("end", 0);
    await this.session.send([null, "end", "phoenix", "heartbeat", {}]);
    while (!this.refs.get("end")) (await this.session.ask()).forEach((frame) => this.#take(frame));
  }
}

it("clients that lose answers and give requests up, the program killed and replaced, nginx reloaded and killed: all of it once, in order", { timeout: 2 ** 31 - 1 }, async () => {
  const seconds = Number(process.env.SEANCE_TEST_SECONDS ?? 8);
  const seed = Number(process.env.SEANCE_TEST_SEED ?? Date.now() % 1000000);
  const below = random(seed);
  const topic = "board:rough";
  await system.stop();
  system = await startSystem({ app: "tests/conformance", env: { NGINX_WORKERS: "2" } });
  const outage = { on: false, killed: 0 };
  const clients = Array.from({ length: 12 }, (_, i) => new Rough(`c${String.fromCharCode(97 + i)}`, topic, below, outage));
  for (const client of clients) await client.start();
  const end = Date.now() + seconds * 1000;
  let failed = false;
  let nextRestart = Date.now() + seconds * 400; // scripts/run starts nginx five times in 30 s
  const going = () => Date.now() < end && !failed;
  const counts = { kills: 0, replacements: 0, reloads: 0, restarts: 0 };
  const restartNginx = async () => {
    outage.on = true;
    await system.restartNginx(["SIGTERM", "SIGKILL"][below(2)]);
    await pause(300);
    outage.on = false;
    counts.restarts++;
  };
  const breaking = async () => {
    while (going()) {
      await pause(200 + below(500));
      const how = below(3);
      if (how === 0) {
        outage.killed = Date.now();
        await system.killWorker();
        counts.kills++;
      }
      if (how === 1) counts.replacements += process.kill(system.supervisorPid(), "SIGHUP");
      if (how === 2) counts.reloads += process.kill(system.nginxPid(), "SIGHUP");
      if (Date.now() > nextRestart) await restartNginx().then(() => (nextRestart = Date.now() + 15000));
    }
  };
  const working = [breaking(), ...clients.flatMap((client) => [client.reading(going), client.sending(going)])].map((work) => work.catch((error) => {
    failed = true;
    throw new Error(`seed ${seed}: ${error.message}`, { cause: error });
  }));
  const ends = await within(Promise.allSettled(working), "the end", seconds * 1000 + 30000);
  const wrong = ends.find(({ status }) => status === "rejected");
  if (wrong) throw wrong.reason;
  for (const client of clients) await client.end();
  for (const client of clients) await client.end(); // what the others' last requests still led to

  const { state } = (await request(at(topic))).body;
  const items = state.items.map(({ id }) => id);
  assert.equal(new Set(items).size, items.length, "no event twice");
  const certain = new Set(clients.flatMap(({ added }) => [...added]));
  const maybe = new Set(clients.flatMap(({ addedMaybe }) => [...addedMaybe]));
  for (const id of certain) assert.ok(items.includes(id), `${id} was lost`);
  for (const id of items) assert.ok(certain.has(id) || maybe.has(id), `${id} was sent by nobody`);
  for (const client of clients) {
    assert.deepEqual(client.state, state, client.name);
    for (const ref of client.due) assert.equal(client.refs.get(ref), 1, `replies to ${ref}`);
    for (const ref of client.maybe) assert.ok(client.refs.get(ref) <= 1, `replies to ${ref}`);
  }
  noneDied();
  const sum = (of) => clients.reduce((all, client) => all + of(client), 0);
  console.log(`# seed ${seed}, ${seconds} s: ${items.length} events, ${sum(({ due }) => due.size)} replies, ${sum(({ lost }) => lost)} answers lost, ${sum(({ given }) => given)} POSTs given up; ${JSON.stringify(counts)}`);
});
