/*
 * Broadcasts and timers through the whole system: from callbacks, from the command line, by HTTP on the internal
 * socket; to many private instances, through kills of the program; each is given once.
 */
import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, describe, it } from "node:test";
import { Raw } from "./lib/raw.mjs";
import { until } from "./lib/wait.mjs";
import { startSystem, temporaryDir } from "./system.mjs";

const SOCKETS = 100;
const TOPICS = 100; // of each socket
const INSTANCES = SOCKETS * TOPICS;

/* post - {status, body} of a request to the internal socket */
function post(system, path, body, { method = "POST", headers = {} } = {}) {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: `${system.dir}/internal.sock`, path, method, headers, timeout: 5000 }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => resolve({ status: response.statusCode, body: Buffer.concat(parts).toString() }));
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/* Crowd - sockets that have joined todos:0, todos:1, ...: each join has a private instance subscribed to `todos` */
class Crowd {
  given = new Map(); // "socket topic" -> descriptions, in the order in which they came
  patches = 0;

  async open(system) {
    this.raws = await Promise.all(Array.from({ length: SOCKETS }, () => Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`)));
    let joined = 0;
    for (const [at, raw] of this.raws.entries()) {
      const versions = new Map();
      raw.socket.removeAllListeners("message");
      raw.socket.on("message", (data) => {
        const [, , topic, event, payload] = JSON.parse(data);
        if (event === "seance:change") {
          joined++;
          versions.set(topic, payload.version);
          this.given.set(`${at} ${topic}`, []);
        } else if (event === "seance:patch") {
          assert.equal(payload.version, versions.get(topic) + 1, `the version after ${versions.get(topic)} of ${topic}`);
          versions.set(topic, payload.version);
          const added = payload.operations.flatMap(({ path, value }) =>
            path === "/todos" ? value : path === "/todos/0" ? [value] : path === "/todos/0/description" ? [{ description: value }] : []);
          this.given.get(`${at} ${topic}`).push(added[0].description);
          this.patches++;
        }
      });
      for (let topic = 0; topic < TOPICS; topic++) raw.send([`${topic}`, `${topic}`, `todos:${topic}`, "phx_join", { token: "t" }]);
    }
    await until(() => joined === INSTANCES, () => `${joined} of ${INSTANCES} joins`, 60000);
  }

  /* each - what every instance was given must be these, in order */
  each(wanted) {
    for (const [name, given] of this.given) assert.deepEqual(given, wanted, name);
    assert.equal(this.given.size, INSTANCES);
  }

  close() {
    return Promise.all(this.raws?.map((raw) => raw.close()) ?? []);
  }
}

/* One client of a counter: presses until stop(presses), one at a time; how long each took, in ms, sorted. */
async function press(system, stop) {
  const raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
  const times = [];
  await raw.join("counter:beside");
  while (!stop(times.length)) {
    const begun = performance.now();
    raw.send(["1", "2", "counter:beside", "seance:event:inc", {}]);
    await raw.frame("the counter's patch", 20000);
    times.push(performance.now() - begun);
  }
  await raw.close();
  return times.sort((a, b) => a - b);
}

const p = (times, share) => times[Math.min(times.length - 1, Math.floor(times.length * share))]?.toFixed(2);

describe("broadcasts from outside", () => {
  let system, raw;
  before(async () => {
    system = await startSystem({ app: "tests/conformance" });
    raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
    await raw.join("shared:out side");
  });
  after(async () => {
    await raw?.close();
    await system?.stop();
  });

  const said = async (what, ms) => (await raw.frame(what, ms))[4].operations[0].value;

  it("by the command line", async () => {
    await system.broadcast("app:shared:out side", '{"a":1}');
    assert.deepEqual(await said("the message"), { a: 1 });
    await system.broadcast("nobody is subscribed", "null");
  });

  it("by POST on the internal socket", async () => {
    assert.deepEqual(await post(system, "/broadcasts/app%3Ashared:out%20side", '{"b":"é/"}'), { status: 204, body: "" });
    assert.deepEqual(await said("the message"), { b: "é/" });
    assert.equal((await post(system, "/broadcasts/nobody", "1")).status, 204);
  });

  it("refuses what is none, and says why", async () => {
    for (const [topic, message] of [["t", "{"], ["t", ""], ["t", "[1] 2"], ["", "1"], ["x".repeat(1025), "1"]])
      await assert.rejects(system.broadcast(topic, message), (error) => error.code === 1 && /^seance: .+\n$/.test(error.stderr), `${topic} ${message}`);
    for (const [path, body, status] of [
      ["/broadcasts/t", "{", 400],
      ["/broadcasts/t", "", 400],
      ["/broadcasts/", "1", 400],
      ["/broadcasts/%zz", "1", 400],
      ["/broadcasts/a%00b", "1", 400],
      ["/broadcasts/%ff", "1", 400],
      [`/broadcasts/${"x".repeat(1025)}`, "1", 400],
      ["/broadcasts/t", `"${"x".repeat(2 << 20)}"`, 413],
      ["/elsewhere", "1", 404],
    ]) {
      const answer = await post(system, path, body);
      assert.equal(answer.status, status, `${path} ${body.slice(0, 20)}: ${answer.body}`);
    }
    assert.equal((await post(system, "/broadcasts/t", "", { method: "GET" })).status, 405);
    await system.broadcast("app:shared:out side", '"still there"');
    assert.equal(await said("the next message"), "still there");
  });

  it("one that kills the program each time is set aside, with a line in the log; what follows comes, nobody is disconnected", async () => {
    await system.broadcast("app:shared:out side", '{"segv":1}');
    await system.broadcast("app:shared:out side", '"after it"');
    assert.equal(await said("what follows", 20000), "after it");
    assert.match(system.read("program.log"), /shared:out side: the broadcast is set aside/);
    assert.equal(system.read("program.log").match(/died: signal 11/g).length, 2);
  });

  it("only there: the public listener has no such path, and no header makes one", async () => {
    for (const path of ["/broadcasts/app", "/socket/websocket"]) {
      const headers = { SEANCE_INTERNAL: "broadcast", "Seance-Internal": "broadcast" };
      const answer = await fetch(system.url + path, { method: "POST", body: "1", headers });
      assert.ok([404, 405, 426].includes(answer.status), `${path}: ${answer.status}`);
    }
  });
});

describe(`${INSTANCES} private instances subscribed to one topic`, () => {
  let system;
  const crowd = new Crowd();
  before(async () => {
    system = await startSystem({ app: "tests/conformance" });
    await crowd.open(system);
  });
  after(async () => {
    await crowd.close();
    await system?.stop();
  });

  it("a broadcast reaches all, and other events come between", async (t) => {
    const alone = await press(system, (presses) => presses === 200);
    let done = false;
    const beside = press(system, () => done);
    const begun = performance.now();
    await system.broadcast("todos", '{"description":"one"}');
    await until(() => crowd.patches === INSTANCES, () => `${crowd.patches} of ${INSTANCES}`, 60000);
    const took = performance.now() - begun;
    done = true;
    const times = await beside;
    crowd.each(["one"]);
    assert.ok(times.length > 20, `${times.length} presses of the counter while it was delivered`);
    t.diagnostic(`${INSTANCES} instances in ${took.toFixed(0)} ms; counter beside it p50 ${p(times, 0.5)}, p99 ${p(times, 0.99)} ms ` +
      `(${times.length} presses), alone p50 ${p(alone, 0.5)}, p99 ${p(alone, 0.99)} ms`);
  });

  it("the program is killed again and again in the middle: each is given each message once, in order", async () => {
    const wanted = ["one", "two", "three", "four"];
    let kills = 0;
    for (const description of wanted.slice(1)) {
      const from = crowd.patches;
      await system.broadcast("todos", JSON.stringify({ description }));
      for (const share of [0.2, 0.4, 0.6]) {
        await until(() => crowd.patches > from + INSTANCES * share, () => `${crowd.patches - from} of ${description}`, 60000, 1);
        kills += crowd.patches < from + INSTANCES;
        await system.killWorker();
      }
      await until(() => crowd.patches === from + INSTANCES, () => `${crowd.patches - from} of ${description}`, 60000);
    }
    assert.ok(kills > 4, `${kills} kills in the middle`);
    await until(() => crowd.patches === INSTANCES * wanted.length, () => `${crowd.patches} of ${INSTANCES * wanted.length}`, 120000);
    crowd.each(wanted);
  });
});

describe("timers", () => {
  it("fire, are cancelled, and fire at the start when they fell due while nothing ran", async () => {
    const dir = temporaryDir();
    let system = await startSystem({ app: "tests/conformance", dir });
    try {
      const topic = "timer:a";
      let raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
      await raw.join(topic);
      const event = async (name, payload) => {
        raw.send(["1", "9", topic, `seance:event:${name}`, payload]);
        return raw.frame(`the patch of ${name}`);
      };
      await event("after", { id: "never", ms: 400 });
      await event("after", { id: "soon", ms: 300 });
      await event("after", { id: "late", ms: 1500 });
      const due = Date.now() + 1500;
      await event("cancel", { id: "never" });
      const [, , , , fired] = await raw.frame("the timer");
      assert.deepEqual(fired.operations.at(-1), { op: "add", path: "/fired/-", value: "soon" });
      await raw.close();
      await system.stop();
      await until(() => Date.now() > due, "the time of the late timer");
      system = await startSystem({ app: "tests/conformance", dir });
      raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
      const seen = await until(async () => {
        const { state } = await raw.join(topic);
        return state.fired.length > 1 && state;
      }, "the late timer");
      assert.deepEqual(seen, { fired: ["soon", "late"], timers: {} });
      await raw.close();
    } finally {
      await system.stop();
    }
  });
});
