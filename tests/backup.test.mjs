/*
 * A backup that is put back, and a power cut: the database goes on to revisions that clients know already, by another
 * way.  No position of the time before counts then.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { openSync, closeSync, readSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Raw } from "./lib/raw.mjs";
import { until, within } from "./lib/wait.mjs";
import { alive, startSystem, temporaryDir } from "./system.mjs";

const sqlite = (system, command) => execFileSync("sqlite3", [join(system.dir, "seance.db"), command]);

/* api - the HTTP API of one topic */
const api = (system, topic) => {
  const url = `${system.url}/channels/${topic}`;
  return {
    get: async (query = "", headers = {}) => {
      const response = await fetch(url + query, { headers });
      const text = await response.text();
      return { status: response.status, body: text && JSON.parse(text) };
    },
    add: async (value, headers = {}) => {
      const response = await fetch(`${url}/events/add`, { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(value) });
      return { status: response.status, body: await response.json() };
    },
    /* stream - the first event that it brings */
    stream: async (headers) => {
      const abort = new AbortController();
      const response = await fetch(url, { headers: { accept: "text/event-stream", ...headers }, signal: abort.signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      while (!text.includes("\n\n")) text += (await within(reader.read(), "an event")).value;
      abort.abort();
      return text.split("\n\n")[0];
    },
  };
};

/* Whoever comes with what it knew before is given the state as it is now, and changes nothing. */
async function isForgotten({ get, add, stream }, position, state) {
  const since = (await get(`?since=${position}`)).body;
  assert.deepEqual([since.reset, since.state, since.patches], [true, state, undefined]);
  const known = await get("", { "if-none-match": `"${position}"` });
  assert.deepEqual([known.status, known.body.state], [200, state]);
  assert.equal((await add({ no: 1 }, { "if-match": `"${position}"` })).status, 412);
  const first = await stream({ "last-event-id": position });
  assert.match(first, /^event: seance:change\n/);
  assert.deepEqual(JSON.parse(first.match(/^data: (.*)$/m)[1]).state, state);
  assert.deepEqual((await get()).body.state, state, "nothing was changed");
}

/* What is known now stays known. */
async function isKnown({ get, add }, position) {
  assert.deepEqual((await get(`?since=${position}`)).body.patches, []);
  assert.equal((await get("", { "if-none-match": `"${position}"` })).status, 304);
  assert.equal((await add({ yes: 1 }, { "if-match": `"${position}"` })).status, 200);
}

describe("a backup is put back", () => {
  it("while nginx holds sockets, streams and waiting requests of the time before", async () => {
    const system = await startSystem({ app: "tests/conformance" });
    try {
      const board = api(system, "board:back");
      await board.add({ first: 1 });
      const early = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`); // the backup knows it
      await early.join("board:back");
      sqlite(system, `.backup ${system.dir}/copy.db`);
      await board.add({ lost: 2 });
      const { position } = (await board.add({ lost: 3 })).body;
      assert.match(position, /-3$/);
      const aborted = new AbortController();
      const held = await fetch(`${system.url}/channels/board:back`, { headers: { accept: "text/event-stream" }, signal: aborted.signal });
      const waiting = board.get(`?since=${position}&wait=60`);
      await until(async () => (await system.counts()).parked === 1, "the waiting request");

      const worker = system.workerPid();
      process.kill(system.supervisorPid(), "SIGSTOP"); // it starts no other one
      process.kill(worker, "SIGKILL");
      await until(() => !alive(worker), "the worker's end");
      sqlite(system, `.restore ${system.dir}/copy.db`);
      process.kill(system.supervisorPid(), "SIGCONT");

      await board.add({ other: 2 });
      assert.match((await board.add({ other: 3 })).body.position, /-3$/);
      const state = { n: 0, items: [{ first: 1 }, { other: 2 }, { other: 3 }] };
      await isForgotten(board, position, state);
      const woken = await within(waiting, "the waiting request's answer");
      assert.deepEqual([woken.body.reset, woken.body.patches], [true, undefined]);
      for (let item; item?.close === undefined; ) item = await early.item("the socket's end");
      await within(held.text(), "the stream's end");
      const again = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
      assert.deepEqual((await again.join("board:back")).state, state);
      await again.close();
      await isKnown(board, (await board.get()).body.position);
    } finally {
      await system.stop();
    }
  });

  it("while the program runs: it begins anew", async () => {
    const system = await startSystem({ app: "tests/conformance" });
    try {
      const board = api(system, "board:back");
      await board.add({ first: 1 });
      sqlite(system, `.backup ${system.dir}/copy.db`);
      await board.add({ lost: 2 });
      const { position } = (await board.add({ lost: 3 })).body;
      sqlite(system, `.restore ${system.dir}/copy.db`);
      assert.deepEqual((await board.get()).body.state.items, [{ first: 1 }]);
      await board.add({ other: 2 });
      await board.add({ other: 3 });
      await isForgotten(board, position, { n: 0, items: [{ first: 1 }, { other: 2 }, { other: 3 }] });
      assert.equal(system.read("program.log").match(/commits are gone/g).length, 1);
    } finally {
      await system.stop();
    }
  });

  it("a private state's token is not taken for another's, whose number is the same now", async () => {
    const dir = temporaryDir();
    let system = await startSystem({ app: "tests/conformance", dir });
    /* join - the state that a client is told, and its token; it counts up n times, and its connection is lost */
    const join = async (token, n = 0) => {
      const raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
      raw.send(["1", "1", "draft:a", "phx_join", { resume: token ? { at: token } : {} }]);
      const { resume } = (await raw.frame())[4].response;
      const { state } = (await raw.frame())[4];
      for (let i = 0; i < n; i++) {
        raw.send(["1", "2", "draft:a", "seance:event:inc", {}]);
        await raw.frame();
      }
      await raw.close();
      return { token: resume, state };
    };
    const number = () => sqlite(system, "select max(id) from instances").toString();
    try {
      sqlite(system, `.backup ${dir}/copy.db`);
      const ann = await join(undefined, 1);
      const numbers = [number()];
      await system.stop();
      sqlite(system, `.restore ${dir}/copy.db`);
      system = await startSystem({ app: "tests/conformance", dir });
      await join(undefined, 2); // somebody else
      numbers.push(number());
      assert.equal(numbers[0], numbers[1]);
      assert.equal((await join(ann.token)).state.n, 0);
    } finally {
      await system.stop();
      rmSync(dir, { recursive: true, force: true });
    }
  });

  it("while all is stopped; and when nothing came after the backup, positions stay", async () => {
    const dir = temporaryDir();
    let system = await startSystem({ app: "tests/conformance", dir });
    const restart = async (meanwhile) => {
      await system.stop();
      meanwhile();
      system = await startSystem({ app: "tests/conformance", dir });
      return api(system, "board:back");
    };
    try {
      const before = (await api(system, "board:back").add({ first: 1 })).body.position;
      sqlite(system, `.backup ${dir}/copy.db`);
      let board = await restart(() => sqlite(system, `.restore ${dir}/copy.db`));
      await isKnown(board, before);
      const { position } = (await board.get()).body;
      board = await restart(() => sqlite(system, `.restore ${dir}/copy.db`));
      await board.add({ other: 2 });
      await isForgotten(board, position, { n: 0, items: [{ first: 1 }, { other: 2 }] });
      await isForgotten(board, before, { n: 0, items: [{ first: 1 }, { other: 2 }] });
      await isKnown(board, (await board.get()).body.position);
    } finally {
      await system.stop();
      rmSync(dir, { recursive: true, force: true });
    }
  });
});

describe("a power cut", () => {
  /* What the disk keeps of this boot of the machine looks afterwards as if it were of another; see storage/witness.h. */
  const cut = (dir) => {
    const file = openSync(join(dir, "seance.db-witness"), "r+");
    const boot = Buffer.alloc(8);
    readSync(file, boot, 0, 8, 24);
    if (boot.some((byte) => byte !== 0)) boot[0] ^= 1;
    writeSync(file, boot, 0, 8, 24);
    closeSync(file);
  };

  for (const [durability, counts] of [["normal", false], ["full", true]]) {
    it(`with --durability=${durability}: positions ${counts ? "stay" : "do not count any more"}`, async () => {
      const dir = temporaryDir();
      const options = { app: "tests/conformance", dir, flags: [`--durability=${durability}`] };
      let system = await startSystem(options);
      try {
        const { position } = (await api(system, "board:cut").add({ first: 1 })).body;
        await system.stop();
        cut(dir);
        system = await startSystem(options);
        const board = api(system, "board:cut");
        if (counts) await isKnown(board, position);
        else await isForgotten(board, position, { n: 0, items: [{ first: 1 }] });
      } finally {
        await system.stop();
        rmSync(dir, { recursive: true, force: true });
      }
    });
  }
});
