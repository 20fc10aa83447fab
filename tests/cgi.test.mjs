/*
 * Plain CGI, by the README's configuration of the real lighttpd: alone on its database, and beside the program with
 * its WebSocket clients; processes that are killed.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, readlinkSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { patched } from "./lib/recording.mjs";
import { Raw } from "./lib/raw.mjs";
import { until, within } from "./lib/wait.mjs";
import { freePort, startSystem, temporaryDir, tree } from "./system.mjs";

const PROGRAM = join(tree, process.env.SANITIZE ? `build/${process.env.SANITIZE.replaceAll(",", "-")}/app/tests/conformance/conformance` : "tests/conformance/conformance");

/* The README's lines, for this program and folder. */
const snippet = (data) =>
  readFileSync(join(tree, "README.md"), "utf8").match(/```lighttpd\n(.*?)```/s)[1].replace("/srv/todos/todos", PROGRAM).replace("/srv/todos/data", data).replace('"/todos" => ""', '"/conformance" => ""');

class Cgi {
  /* start - a lighttpd whose CGI program has its database in data */
  static async start(data) {
    const cgi = new Cgi();
    cgi.dir = temporaryDir();
    cgi.port = await freePort();
    const file = join(cgi.dir, "lighttpd.conf");
    mkdirSync(join(cgi.dir, "www"));
    writeFileSync(file, `server.port = ${cgi.port}\nserver.bind = "127.0.0.1"\nserver.document-root = "${cgi.dir}/www"\nserver.breakagelog = "${cgi.dir}/stderr.log"\nserver.errorlog = "${cgi.dir}/error.log"\n${snippet(data)}`);
    cgi.child = spawn("setpriv", ["--pdeathsig", "TERM", "lighttpd", "-D", "-f", file], { stdio: "ignore", env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` } });
    cgi.ended = new Promise((resolve) => cgi.child.on("close", resolve));
    cgi.url = `http://127.0.0.1:${cgi.port}/todos/channels`;
    await until(async () => (await fetch(`http://127.0.0.1:${cgi.port}/`)).status, "lighttpd");
    return cgi;
  }

  at = (topic, query = "") => `${this.url}/${encodeURIComponent(topic)}${query}`;

  async ask(url, options) {
    const response = await fetch(url, options);
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text && JSON.parse(text) };
  }

  get = (topic, query, options) => this.ask(this.at(topic, query), options);

  post = (topic, event, payload = {}, headers = {}) =>
    this.ask(`${this.at(topic)}/events/${event}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: typeof payload === "string" ? payload : JSON.stringify(payload),
    });

  /* programs - pids of the CGI processes of this lighttpd that run now */
  programs() {
    return readdirSync("/proc").filter((pid) => {
      try {
        return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/exe`) === PROGRAM && readFileSync(`/proc/${pid}/environ`, "utf8").includes(`SERVER_PORT=${this.port}\0`);
      } catch {
        return false;
      }
    }).map(Number);
  }

  async stop() {
    this.child.kill("SIGTERM");
    await within(this.ended, "lighttpd's end");
    rmSync(this.dir, { recursive: true, force: true });
  }
}

describe("alone", () => {
  let cgi, data;
  before(async () => {
    data = temporaryDir();
    cgi = await Cgi.start(data);
  });
  after(async () => {
    await cgi?.stop();
    rmSync(data, { recursive: true, force: true });
  });

  it("GET, HEAD, If-None-Match, since, wait", async () => {
    const topic = "board:ä/b %";
    const first = await cgi.post(topic, "add", { a: 1 });
    assert.deepEqual([first.status, first.body.version], [200, 1]);
    const { status, body, headers } = await cgi.get(topic);
    assert.deepEqual([status, body.topic, body.state, body.position], [200, topic, { n: 0, items: [{ a: 1 }] }, first.body.position]);
    assert.equal(headers.get("etag"), `"${body.position}"`);
    const head = await fetch(cgi.at(topic), { method: "HEAD" });
    assert.deepEqual([head.status, head.headers.get("etag"), await head.text()], [200, `"${body.position}"`, ""]);
    assert.equal((await cgi.get(topic, "", { headers: { "if-none-match": `W/"${body.position}"` } })).status, 304);
    const since = `?since=${body.position}`;
    assert.deepEqual((await cgi.get(topic, since)).body.patches, []);
    assert.equal((await cgi.get(topic, `${since}&wait=60`)).status, 204);
    await cgi.post(topic, "inc");
    const later = await cgi.get(topic, `${since}&wait=60`);
    assert.deepEqual((await cgi.get(topic, `${since}&until=${body.position}`)).body.patches, []);
    assert.deepEqual([later.status, later.body.patches.length, patched(body.state, later.body.patches[0].operations).n], [200, 1, 1]);
  });

  it("If-Match with the position of a first state, which is not stored here", async () => {
    const { body: { position } } = await cgi.get("board:first");
    assert.equal((await cgi.post("board:first", "inc", {}, { "if-match": position.replace(/-0$/, "-1") })).status, 412);
    assert.equal((await cgi.post("board:first", "inc", {}, { "if-match": `"${position}"` })).status, 200);
    assert.equal((await cgi.post("board:first", "inc", {}, { "if-match": `"${position}"` })).status, 412);
  });

  it("If-Match; Idempotency-Key twice", async () => {
    const { position } = (await cgi.post("board:match", "inc")).body;
    assert.equal((await cgi.post("board:match", "inc", {}, { "if-match": `"${position}"` })).status, 200);
    assert.equal((await cgi.post("board:match", "inc", {}, { "if-match": `"${position}"` })).status, 412);
    const key = { "idempotency-key": "k" };
    const first = await cgi.post("board:match", "inc", {}, key);
    assert.deepEqual([first.status, first.body.version], [200, 3]);
    assert.deepEqual((await cgi.post("board:match", "inc", {}, key)).body, first.body);
    assert.equal((await cgi.post("board:match", "inc", { b: 1 }, key)).status, 422);
  });

  it("problems", async () => {
    const large = JSON.stringify({ text: "x".repeat(1048577) });
    const cases = [
      [400, cgi.get("board:p", "?since=x")],
      [400, cgi.post("board:p", "inc", "[")],
      [404, cgi.get("nobody:p")],
      [404, cgi.ask(`${cgi.url}/a/b/c`)],
      [405, cgi.get("board:p", "", { method: "DELETE" })],
      [406, cgi.get("board:p", "", { headers: { accept: "text/event-stream" } })],
      [413, cgi.post("board:p", "add", large)],
      [415, cgi.post("board:p", "inc", {}, { "content-type": "text/plain" })],
    ];
    for (const [status, asked] of cases) {
      const answer = await asked;
      assert.deepEqual([answer.status, answer.body.status, answer.headers.get("content-type")], [status, status, "application/problem+json"]);
    }
  });

  it("what a client asks is no argument of the command line", async () => {
    const { status, body } = await cgi.get("board:arguments", "?show+board:p");
    assert.deepEqual([status, body.topic], [200, "board:arguments"]);
  });

  it("without REQUEST_URI, PATH_INFO is the path; without a database that opens, 503", async () => {
    const { body } = await cgi.post("board:ä b", "inc");
    const ask = (env) => execFileSync(PROGRAM, [], { env: { GATEWAY_INTERFACE: "CGI/1.1", REQUEST_METHOD: "GET", SCRIPT_NAME: "/todos", SEANCE_DIR: data, ...env }, stdio: ["pipe", "pipe", "ignore"] }).toString();
    const found = ask({ PATH_INFO: "/channels/board:ä b" });
    assert.match(found, /^Status: 200 OK\r\n/);
    assert.equal(JSON.parse(found.split("\r\n\r\n")[1]).position, body.position);
    assert.match(ask({ REQUEST_URI: "/todosx/channels/board:a" }), /^Status: 404 /);
    assert.match(ask({ REQUEST_URI: "/channels/board:a", SEANCE_DIR: join(data, "none") }), /^Status: 503 /);
    for (const length of ["-1", "1x", "99999999999999999999", " 1"])
      assert.match(ask({ REQUEST_URI: "/channels/board:a/events/inc", REQUEST_METHOD: "POST", CONTENT_LENGTH: length }), /^Status: 400 /, length);
  });

  it("timers that are due are fired by a request, once", async () => {
    assert.equal((await cgi.post("timer:cgi", "after", { id: "a", ms: 1 })).status, 200);
    await until(async () => (await cgi.get("timer:cgi")).body.state.fired.length > 0, "the timer");
    for (let i = 0; i < 3; i++) await cgi.get("timer:cgi");
    assert.deepEqual((await cgi.get("timer:cgi")).body.state, { fired: ["a"], timers: {} });
  });

  it("a backup is put back: what the client knew does not count any more", async () => {
    const topic = "board:backup", database = join(data, "seance.db");
    await cgi.post(topic, "add", { first: 1 });
    execFileSync("sqlite3", ["-cmd", ".timeout 5000", database, `.backup ${data}/copy.db`]);
    const { position } = (await cgi.post(topic, "add", { lost: 2 })).body;
    await until(() => cgi.programs().length === 0, "the end of those that answered");
    for (const suffix of ["-wal", "-shm"]) rmSync(database + suffix, { force: true });
    renameSync(join(data, "copy.db"), database);
    assert.equal((await cgi.post(topic, "add", { other: 2 }, { "if-match": `"${position}"` })).status, 412);
    const again = await cgi.post(topic, "add", { other: 2 });
    assert.equal(again.body.revision, 2);
    const { body } = await cgi.get(topic, `?since=${position}`);
    assert.deepEqual([body.reset, body.state.items], [true, [{ first: 1 }, { other: 2 }]]);
    assert.deepEqual((await cgi.get(topic, `?since=${again.body.position}`)).body.patches, []);
  });

  it("the log is pruned, the states stay", async () => {
    const sql = (text) => execFileSync("sqlite3", ["-cmd", ".timeout 5000", join(data, "seance.db"), text]).toString().trim();
    const topic = "board:prune";
    for (let i = 0; i < 5; i++) await cgi.post(topic, "inc");
    sql("insert into log (number, instance, revision, version, kind, time_ms) values (1000000, 0, 1, 1, 1, 1)");
    assert.notEqual(sql("select count(*) from log where number < 1000000"), "0");
    assert.equal((await cgi.post(topic, "inc")).body.revision, 6);
    await until(() => sql("select min(number) from log") === "1000000", "the log to be pruned");
    assert.deepEqual((await cgi.get(topic)).body.state, { n: 6, items: [] });
  });

  it("many at once: each is answered, each is done once", async () => {
    const answers = await Promise.all(Array.from({ length: 60 }, () => cgi.post("board:many", "inc")));
    assert.deepEqual(answers.map(({ body }) => body.revision).sort((a, b) => a - b), Array.from({ length: 60 }, (_, i) => i + 1));
  });

  it("processes killed at any moment: an event is done once or not at all", async () => {
    const topic = "board:kills";
    const begun = performance.now();
    await cgi.get(topic);
    const took = performance.now() - begun; // so that kills fall anywhere in a process's life, however slow the build
    const seen = new Set();
    let answered = 0, killed = 0, going = true;
    const kill = async (pid) => {
      await new Promise((done) => setTimeout(done, Math.random() * took));
      try {
        process.kill(pid, "SIGKILL");
        killed++;
      } catch {} // it has ended
    };
    const killer = (async () => {
      while (going) {
        for (const pid of cgi.programs().filter((pid) => !seen.has(pid))) {
          seen.add(pid);
          if (Math.random() < 0.7) void kill(pid);
        }
        await new Promise(setImmediate);
      }
    })();
    const client = async (name) => {
      for (let i = 0; i < 15; i++) {
        const id = `${name} ${i}`;
        await until(async () => (await cgi.post(topic, "add", { id }, { "idempotency-key": id })).status === 200, id, 20000, 1);
        answered++;
      }
    };
    await Promise.all(["a", "b", "c"].map(client));
    going = false;
    await killer;
    const { body } = await cgi.get(topic);
    assert.equal(answered, 45);
    assert.ok(killed > 0);
    assert.equal(body.revision, 45);
    assert.equal(new Set(body.state.items.map(({ id }) => id)).size, 45);
    assert.equal(execFileSync("sqlite3", ["-readonly", join(data, "seance.db"), "pragma integrity_check"]).toString(), "ok\n");
  });
});

describe("beside the program", () => {
  let cgi, system;
  before(async () => {
    system = await startSystem({ app: "tests/conformance" });
    cgi = await Cgi.start(system.dir);
  });
  after(async () => {
    await cgi?.stop();
    await system?.stop();
  });

  it("200 events by CGI and by WebSocket: every client sees each version once and in order", async () => {
    const topic = "board:both";
    const clients = await Promise.all(Array.from({ length: 4 }, () => Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`)));
    const seen = await Promise.all(clients.map(async (client) => {
      const versions = [];
      let state;
      client.socket.removeAllListeners("message");
      client.socket.on("message", (data) => {
        const [, , , event, payload] = JSON.parse(data);
        if (event === "seance:change") state = payload.state;
        if (event !== "seance:patch") return;
        versions.push(payload.version);
        state = patched(state, payload.operations);
      });
      client.send(["1", "1", topic, "phx_join", {}]);
      await until(() => state, "the state");
      return { versions, state: () => state };
    }));
    const byCgi = async (name) => {
      for (let i = 0; i < 25; i++) assert.equal((await cgi.post(topic, "add", { id: `${name} ${i}` })).status, 200);
    };
    const bySocket = async (client, name) => {
      for (let i = 0; i < 25; i++) {
        const before = seen[0].versions.length;
        client.send(["1", `${i + 2}`, topic, "seance:event:add", { id: `${name} ${i}` }]);
        await until(() => seen[0].versions.length > before, "a version", 5000, 5);
      }
    };
    await Promise.all([...["a", "b", "c", "d"].map(byCgi), ...clients.map((client, i) => bySocket(client, `socket ${i}`))]);
    await until(() => seen.every(({ versions }) => versions.length >= 200), () => `200 versions: ${seen.map(({ versions }) => versions.length)}`, 10000);
    const { body } = await cgi.get(topic);
    assert.equal(body.revision, 200);
    for (const { versions, state } of seen) {
      assert.deepEqual(versions, Array.from({ length: 200 }, (_, i) => i + 1));
      assert.deepEqual(state(), body.state);
    }
    await Promise.all(clients.map((client) => client.close()));
  });

  it("a GET that waits at nginx is answered by an event of CGI", async () => {
    const topic = "board:waits";
    const { position } = (await cgi.post(topic, "inc")).body;
    for (let i = 0; i < 10; i++) {
      const { position: since } = (await cgi.get(topic)).body;
      const waiting = fetch(`${system.url}/channels/${topic}?since=${since}&wait=30`).then((response) => response.json());
      await cgi.post(topic, "inc");
      assert.equal((await within(waiting, "the waiting one")).patches.length, 1);
    }
    assert.equal((await cgi.get(topic, `?since=${position}`)).body.patches.length, 10);
  });

  it("GETs while the program commits: state and revision belong together", async () => {
    const topic = "board:reads";
    let going = true;
    const posting = (async () => {
      while (going) await fetch(`${system.url}/channels/${topic}/events/inc`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
    })();
    for (let i = 0; i < 100; i++) {
      const { status, body } = await cgi.get(topic);
      assert.deepEqual([status, body.state?.n], [200, body.revision]);
    }
    going = false;
    await posting;
  });
});
