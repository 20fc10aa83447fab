/*
 * What must not be noticed, and what must: the program's worker process killed under load, messages that
 * kill it, callbacks that never return, bad input.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Driver } from "./lib/driver.mjs";
import { HandshakeRefused, Raw } from "./lib/raw.mjs";
import { until, within } from "./lib/wait.mjs";
import { alive, startSystem } from "./system.mjs";

const SOCKETS = 64;
const KILLS = 10;

/* database - rows of a query of the view `channels` */
function database(system, sql) {
  const text = execFileSync("sqlite3", ["-readonly", "-json", join(system.dir, "seance.db"), sql], { encoding: "utf8" });
  return text.trim() ? JSON.parse(text) : [];
}

describe(`${KILLS} times SIGKILL of the worker process, ${SOCKETS} sockets, each event answered before its next`, () => {
  let system;
  before(async () => {
    system = await startSystem({ app: "tests/conformance" });
  });
  after(() => system?.stop());

  /* underFire - all drivers at work while the worker is killed again and again; between two kills all go on */
  async function underFire(drivers) {
    const nginx = system.nginxPid();
    for (const driver of drivers) driver.go();
    for (let kill = 1; kill <= KILLS; kill++) {
      const before = drivers.map((driver) => driver.done);
      const late = () => drivers.filter((driver, i) => driver.done <= before[i]);
      await until(
        () => drivers.some((driver) => driver.failure) || late().length === 0,
        () => `progress of ${late().length} sockets (${late().slice(0, 3).map((driver) => driver.topic)}) before kill ${kill}`,
        30000,
      );
      const failed = drivers.find((driver) => driver.failure);
      if (failed) throw failed.failure;
      await system.killWorker();
    }
    await Promise.all(drivers.map((driver) => driver.finish()));
    assert.equal(system.nginxPid(), nginx);
    assert.ok(alive(nginx), "nginx is the same one");
  }

  async function started(topics, options) {
    const drivers = [];
    for (const topic of topics) drivers.push(await Driver.start(`${system.ws}/socket/websocket?vsn=2.0.0`, topic, options));
    return drivers;
  }

  /* stored - the stored instance, once it has come to `revision` (a row is written some 100 ms late) */
  async function stored(topic, revision) {
    const query = `select version, revision, state_revision, state from channels where topic = '${topic}'`;
    await until(() => database(system, query).some((row) => row.state_revision >= revision), () => `revision ${revision} in ${JSON.stringify(database(system, query))}`);
    const rows = database(system, query);
    assert.equal(rows.length, 1, `one instance of ${topic}`);
    assert.equal(rows[0].revision, revision, `${topic}: stored revision`);
    return { ...rows[0], state: JSON.parse(rows[0].state) };
  }

  async function privateCounters(options, prefix) {
    const drivers = await started(Array.from({ length: SOCKETS }, (_, i) => `counter:${prefix}${i}`), options);
    try {
      await underFire(drivers);
      for (const driver of drivers) {
        assert.equal(driver.state.count, driver.done, `${driver.topic}: acknowledged events and the client's state`);
        assert.equal(driver.patches, driver.done, `${driver.topic}: patches`);
        const row = await stored(driver.topic, driver.done);
        assert.equal(row.state.count, driver.done, `${driver.topic}: acknowledged events and the stored counter`);
        assert.equal(row.version, driver.version, `${driver.topic}: stored version`);
      }
    } finally {
      await Promise.all(drivers.map((driver) => driver.raw.close()));
    }
  }

  it("private state, the patch as answer", () => privateCounters({ heartbeat: false }, "p"));

  it("private state, a heartbeat behind each event", () => privateCounters({ heartbeat: true }, "h"));

  it("shared state: 4 topics, 16 sockets each", async () => {
    const drivers = await started(Array.from({ length: SOCKETS }, (_, i) => `board:${i % 4}`));
    try {
      await underFire(drivers);
      for (let i = 0; i < 4; i++) {
        const together = drivers.filter((driver) => driver.topic === `board:${i}`);
        const events = together.reduce((sum, driver) => sum + driver.done, 0);
        // all were joined before the first event, so each sees all of them
        await Promise.all(together.map((driver) => driver.caughtUp(events)));
        for (const driver of together) assert.equal(driver.state.n, events, `${driver.topic}: acknowledged events and the client's state`);
        const row = await stored(`board:${i}`, events);
        assert.equal(row.state.n, events, `board:${i}: acknowledged events and the stored number`);
        assert.equal(row.version, together[0].version);
      }
    } finally {
      await Promise.all(drivers.map((driver) => driver.raw.close()));
    }
  });
});

describe("callbacks that kill or never return", () => {
  let system;
  before(async () => {
    system = await startSystem({ app: "tests/conformance", flags: ["--callback-seconds=3"] });
  });
  after(() => system?.stop());

  const open = () => Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
  const patch = (n, version) => ["seance:patch", { operations: [{ op: "replace", path: "/n", value: n }], version }];

  /* served - how many worker processes there have been */
  const served = () => system.read("program.log").match(/worker \d+ serves/g).length;

  /* bad - `event` ends the join of its sender alone */
  async function bad(event, deaths) {
    const [sender, neighbour, stranger] = await Promise.all([open(), open(), open()]);
    const topic = `board:${event}`;
    try {
      for (const raw of [sender, neighbour]) await raw.join(topic);
      await stranger.join("counter:stranger");
      sender.send(["1", "2", topic, "seance:event:inc", {}]);
      for (const raw of [sender, neighbour]) assert.deepEqual((await raw.frame()).slice(3), patch(1, 1));

      const workers = served();
      sender.send(["1", "3", topic, `seance:event:${event}`, {}]);
      sender.send(["1", "4", topic, "seance:event:inc", {}]);
      if (event === "loop") {
        stranger.send(["1", "2", "counter:stranger", "seance:event:inc", {}]);
        await stranger.frame("an answer on another topic while the callback runs", 1500);
      }
      const ended = await sender.frame("phx_error", 30000);
      assert.deepEqual(ended, ["1", "1", topic, "phx_error", {}]);
      assert.deepEqual(await sender.frame(), [null, "4", topic, "phx_reply", { status: "error", response: { reason: "unmatched topic" } }]);
      assert.equal(served() - workers, deaths, `worker processes that the message was tried in: ${system.read("program.log")}`);

      // the others go on where they were
      neighbour.send(["1", "2", topic, "seance:event:inc", {}]);
      assert.deepEqual((await neighbour.frame("the neighbour's patch")).slice(3), patch(2, 2));
      stranger.send(["1", "3", "counter:stranger", "seance:event:inc", {}]);
      const count = event === "loop" ? 2 : 1;
      assert.deepEqual((await stranger.frame("the stranger's patch"))[4], { operations: [{ op: "replace", path: "/count", value: count }], version: count });

      // and so does the sender, after a join
      assert.deepEqual(await sender.join(topic, {}, "9"), { state: { n: 2, items: [] }, version: 2 });
      const [row] = await until(() => {
        const rows = database(system, `select state, version from channels where topic = '${topic}'`);
        return rows[0]?.version === 2 && rows;
      }, "the stored state");
      assert.deepEqual(JSON.parse(row.state), { n: 2, items: [] });
    } finally {
      await Promise.all([sender, neighbour, stranger].map((raw) => raw.close()));
    }
  }

  it("segv: after two dead workers the join ends, everything else goes on", () => bad("segv", 2));

  it("connect: whatever a client comes by, it is refused the third time", async () => {
    const died = () => system.read("program.log").match(/died: signal 11/g)?.length ?? 0;
    const bystander = await open();
    await bystander.join("counter:bystander");
    const ways = {
      WebSocket: () => Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0&deny=segv`, { ms: 20000 }).then(() => assert.fail("connected"), ({ status }) => status),
      "long-poll": async () => (await (await fetch(`${system.url}/socket/longpoll?vsn=2.0.0&deny=segv`)).json()).status,
      stream: async () => (await fetch(`${system.url}/channels/board:stream?deny=segv`, { headers: { accept: "text/event-stream" } })).status,
      POST: async () => (await fetch(`${system.url}/channels/draft:post?deny=segv`, { method: "POST" })).status,
      event: async () => (await fetch(`${system.url}/channels/board:event/events/inc?deny=segv`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" })).status,
    };
    const refused = { WebSocket: 403, "long-poll": 403, stream: 500, POST: 500, event: 500 };
    for (const [way, come] of Object.entries(ways)) {
      const before = died();
      assert.equal(await within(come(), way, 30000), refused[way], way);
      assert.equal(died() - before, 2, `${way}: worker processes that it was tried in: ${system.read("program.log")}`);
    }
    bystander.send(["1", "2", "counter:bystander", "seance:event:inc", {}]);
    assert.equal((await bystander.frame())[4].version, 1);
    await bystander.close();
  });

  it("loop: the watchdog ends the process; then as with segv", () => bad("loop", 2));

  it("a slow callback delays neither other topics nor heartbeats of other sockets", async () => {
    const [slow, quick] = await Promise.all([open(), open()]);
    try {
      await slow.join("board:slow");
      await quick.join("counter:quick");
      slow.send(["1", "2", "board:slow", "seance:event:slow", { ms: 1500 }]);
      const started = Date.now();
      for (let i = 1; i <= 20; i++) {
        quick.send(["1", `${i}`, "counter:quick", "seance:event:inc", {}]);
        assert.equal((await quick.frame("a quick answer", 1000))[4].version, i);
      }
      assert.ok(Date.now() - started < 1400, "all of them came while the slow one ran");
      assert.deepEqual((await slow.frame("the slow answer")).slice(3), patch(1, 1));
    } finally {
      await Promise.all([slow, quick].map((raw) => raw.close()));
    }
  });
});

describe("an nginx worker is killed", () => {
  let system;
  before(async () => {
    system = await startSystem({ app: "tests/conformance", flags: ["--grace=1"], env: { NGINX_WORKERS: "2" } });
  });
  after(() => system?.stop());

  const open = () => Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
  const nginxWorkers = () => readFileSync(`/proc/${system.nginxPid()}/task/${system.nginxPid()}/children`, "utf8").trim().split(" ").map(Number);
  const rows = (sql) => execFileSync("sqlite3", ["-readonly", join(system.dir, "seance.db"), sql], { encoding: "utf8" }).trim();

  for (const signal of ["SIGKILL", "SIGSEGV"])
    it(`${signal}: its sockets close, joins and private state end, shared state stays, the rest goes on`, async () => {
      const raws = await Promise.all(Array.from({ length: 20 }, open));
      try {
        for (const [i, raw] of raws.entries()) await raw.join(`counter:${i}`);
        await raws[0].join(`board:${signal}`);
        raws[0].send(["1", "2", `board:${signal}`, "seance:event:inc", {}]);
        assert.equal((await raws[0].frame())[4].version, 1);
        const [victim, survivor] = nginxWorkers();
        process.kill(victim, signal);
        await until(() => nginxWorkers().length === 2 && !nginxWorkers().includes(victim), "a worker in its place");
        assert.ok(nginxWorkers().includes(survivor));
        const sockets = () => Number(rows("select count(*) from sockets"));
        const open = () => raws.filter((raw) => !raw.closed).length;
        await until(() => open() === sockets(), () => `the sockets of the killed worker to end: ${open()} open, ${sockets()} stored`);
        assert.equal(Number(rows("select count(*) from joins where ended is null and topic like 'counter:%'")), open());
        await until(() => Number(rows("select count(*) from instances where shared = 0")) === open(), "their private states to end");
        await until(() => rows(`select revision from instances where topic = 'board:${signal}'`) === "1", "the shared state's row, which is written some 100 ms late");
        assert.match(system.read("program.log"), /link of nginx worker [0-9a-f]{16} ended/);
        for (const [i, raw] of raws.entries()) {
          if (raw.closed) continue;
          raw.send(["1", "2", `counter:${i}`, "seance:event:inc", {}]);
          assert.deepEqual((await raw.frame())[4].version, 1);
        }
      } finally {
        await Promise.all(raws.map((raw) => raw.close()));
      }
    });
});

describe("bad input", () => {
  let system;
  before(async () => {
    system = await startSystem({ app: "tests/conformance" });
  });
  after(() => system?.stop());

  const open = (options, query = "vsn=2.0.0") => Raw.open(`${system.ws}/socket/websocket?${query}`, options);

  /* ends - what is sent makes the server close with the code; another socket notices nothing */
  async function ends(code, send) {
    const [raw, other] = await Promise.all([open(), open()]);
    try {
      await raw.join("any:a", { a: 1 });
      await other.join("counter:a");
      await send(raw);
      assert.equal((await raw.closing()).close, code);
      other.send(["1", "2", "counter:a", "seance:event:inc", {}]);
      assert.equal((await other.frame())[4].version, 1);
    } finally {
      await Promise.all([raw.close(), other.close()]);
    }
  }

  const refused = async (options, query) => {
    await assert.rejects(open(options, query).then((raw) => raw.close()), (error) => {
      assert.ok(error instanceof HandshakeRefused, error.message);
      assert.equal(error.status, 403);
      return true;
    });
  };
  const accepted = async (options, query) => {
    const raw = await open(options, query);
    try {
      await raw.join("counter:a");
    } finally {
      await raw.close();
    }
  };
  const frame = (payload) => `["1","2","any:a","seance:event:set",${payload}]`;
  const nested = (depth) => frame("[".repeat(depth) + "]".repeat(depth));
  const MiB = 1 << 20;

  it("a message over 1 MiB: 1009", () => ends(1009, (raw) => raw.text(frame(`"${"x".repeat(MiB)}"`))));

  it("fragments that are over 1 MiB together: 1009", () =>
    ends(1009, async (raw) => {
      for (let i = 0; i < 5; i++) raw.socket.send("x".repeat(MiB / 4), { binary: false, fin: false });
    }));

  it("a message of just 1 MiB is taken", async () => {
    const raw = await open();
    try {
      await raw.join("any:a", { a: 1 });
      const text = frame(`"${"x".repeat(MiB - frame('""').length)}"`);
      assert.equal(text.length, MiB);
      raw.text(text);
      assert.equal((await raw.frame("the patch", 15000))[4].version, 1);
    } finally {
      await raw.close();
    }
  });

  it("JSON deeper than 64: 1011", () => ends(1011, (raw) => raw.text(nested(100))));

  it("100,000 brackets: 1011", () => ends(1011, (raw) => raw.text(nested(100000))));

  it("JSON of depth 50 is taken", async () => {
    const raw = await open();
    try {
      await raw.join("any:a", { a: 1 });
      raw.text(nested(50));
      assert.equal((await raw.frame("the patch"))[4].version, 1);
    } finally {
      await raw.close();
    }
  });

  for (const [what, text] of [
    ["not JSON", "hello"],
    ["JSON that breaks off", '["1","2","any:a","seance:event:set",{'],
    ["something behind the JSON", `${frame("{}")}x`],
    ["NaN", frame("[NaN]")],
    ["Infinity", frame("[-Infinity]")],
    ["single quotes", frame("{'a':1}")],
    ["a comment", frame("/* x */ 1")],
    ["a comma too many", frame("[1,]")],
    ["a key with U+0000", frame('{"a\\u0000b":1}')],
    ["an integer of 30 digits", frame("123456789012345678901234567890")],
    ["half of a surrogate pair", frame('"\\ud800"')],
  ])
    it(`malformed, ${what}: 1011`, () => ends(1011, (raw) => raw.text(text)));

  it("text that is not UTF-8: 1007", () => ends(1007, (raw) => raw.socket.send(Buffer.from([0x5b, 0x22, 0xff, 0x22, 0x5d]), { binary: false })));

  it("unknown vsn: 403", () => refused({}, "vsn=3.0.0"));
  it("no vsn is version 1", async () => (await open({}, "")).close());
  it("a foreign Origin: 403", () => refused({ origin: "http://evil.example" }));
  it("the Origin `null`: 403", () => refused({ origin: "null" }));
  it("an Origin that only begins like the own host: 403", () => refused({ origin: "http://127.0.0.1.evil.example" }));
  it("the Origin of the own host", () => accepted({ origin: system.url }));
  it("no Origin", () => accepted({}));
  it("deny=1: 403; of a repeated parameter the last counts", async () => {
    await refused({}, "vsn=2.0.0&deny=0&deny=1");
    await accepted({}, "vsn=2.0.0&deny=1&deny=0");
  });

  it("each gets a line in the log", async () => {
    const logs = () => `${system.read("program.log")}\n${system.read("error.log")}`;
    await refused({ origin: "http://a-foreign.example" });
    await until(() => logs().split("\n").filter((line) => line.includes("a-foreign.example")).length >= 1, "a line that names the Origin");
    await refused({}, "vsn=9.9.9");
    await until(() => logs().split("\n").some((line) => line.includes("9.9.9")), "a line that names the vsn");
    await ends(1011, (raw) => raw.text("hello"));
    await until(() => /malformed frame/.test(logs()), "a line on the malformed frame");
    await ends(1009, (raw) => raw.text("x".repeat(2 * MiB)));
    await until(() => /too big/.test(logs()), "a line on the message that was too big");
  });

  it("the access log names the socket at its handshake, the error log at its end", async () => {
    const raw = await open({}, "vsn=2.0.0&named=1");
    await raw.close();
    const [, id] = await until(() => system.read("access.log").match(/named=1 HTTP\/1\.1" 101 .* \/_hold\/websocket\/(\S+)$/m), "the handshake in access.log");
    await until(() => system.read("error.log").includes(`websocket ${id} ended: code 1000`), "its end in error.log");
  });

  it("a request that only pretends to be a socket's message is not one", async () => {
    const response = await within(fetch(`${system.url}/socket/websocket?vsn=2.0.0`, {
      headers: { SEANCE_SOCKET: "x", "SEANCE-SOCKET": "x", "SEANCE-MESSAGE": "1", "content-type": "application/websocket-events", connection: "close" },
    }), "an answer");
    assert.ok(response.status >= 400 && response.status < 500, `status ${response.status}`);
    assert.equal((await fetch(`${system.url}/_hold/websocket/x`, { headers: { connection: "close" } })).status, 404);
  });
});
