/*
 * How large a state may be; how many sockets an address may have, through all the ways in which sockets end; and what the program says, when
 * it is asked, of what each nginx worker counts.
 */
import assert from "node:assert/strict";
import { get } from "node:http";
import { after, before, describe, it } from "node:test";
import { HandshakeRefused, Raw } from "./lib/raw.mjs";
import { until } from "./lib/wait.mjs";
import { startSystem } from "./system.mjs";

describe("--state-bytes=1000", () => {
  let system;
  before(async () => {
    system = await startSystem({ app: "tests/conformance", flags: ["--state-bytes=1000"] });
  });
  after(() => system?.stop());

  it("a first state that is larger crashes its init, whatever asks for it", async () => {
    const get = (n) => fetch(`${system.url}/channels/biglist:${n}?n=${n}`);
    assert.deepEqual([(await get(5)).status, (await get(500)).status, (await get(500)).status], [200, 500, 500]);
    const raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
    raw.send(["1", "1", "biglist:500", "phx_join", { n: 500 }]);
    assert.equal((await raw.frame("the reply"))[3], "phx_reply");
    assert.equal((await raw.frame("the end"))[3], "phx_error");
    await raw.close();
  });
});

const MOST = 5;

describe(`--max-sockets-per-address=${MOST}`, () => {
  let system;
  let raws = [];
  before(async () => {
    system = await startSystem({ app: "tests/conformance", flags: [`--max-sockets-per-address=${MOST}`, "--grace=1"] });
  });
  after(() => system?.stop());

  const open = () => Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
  const opened = async () => raws.push(await open());
  const refused = () => assert.rejects(open(), (error) => error instanceof HandshakeRefused && error.status === 503);
  /* Just as many as have gone may come. */
  const full = async (count) => {
    for (let i = 0; i < count; i++) await until(() => opened().catch(() => false), `room for ${count - i} more`);
    assert.equal(raws.length, MOST);
    await refused();
  };
  const drop = async (count, end) => {
    const gone = raws.splice(0, count);
    await Promise.all(gone.map(end));
  };

  it("one more is refused with 503", () => full(MOST));

  it("a close makes room", async () => {
    await drop(2, (raw) => raw.close());
    await full(2);
  });

  it("a client that vanishes makes room", async () => {
    await drop(2, (raw) => raw.socket.terminate());
    await full(2);
  });

  it("handshakes that nginx refuses make room", async () => {
    await drop(2, (raw) => raw.close());
    const headers = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13" }; // no key
    const bad = () => new Promise((done, fail) => get(`${system.url}/socket/websocket?vsn=2.0.0`, { headers, agent: false }, (response) => done(response.resume().statusCode)).on("error", fail));
    await until(async () => (await bad()) === 400, "one that the program lets in and nginx does not");
    await full(2);
  });

  it("a killed program counts those that are still held, and those that went meanwhile", async () => {
    await system.killWorker();
    await refused();
    const killed = system.killWorker();
    await drop(2, (raw) => raw.close());
    await killed;
    await full(2);
  });

  it("a replaced program, too", async () => {
    const old = system.workerPid();
    process.kill(system.supervisorPid(), "SIGHUP");
    const replaced = () => {
      process.kill(system.supervisorPid(), "SIGUSR1"); // no harm to one that is not ready for it
      return system.workerPid() && system.workerPid() !== old;
    };
    await until(replaced, "the next program");
    assert.doesNotMatch(system.read("program.log"), /User defined signal/);
    await refused();
    await drop(1, (raw) => raw.close());
    await full(1);
  });

  it("nginx anew: all have gone", async () => {
    await system.restartNginx();
    raws = [];
    await full(MOST);
  });

  it("those that are held work all the while", async () => {
    for (const [i, raw] of raws.entries()) await raw.join(`counter:${i}`);
  });

  it("SIGUSR1: a line for each nginx worker says what it counts, until nothing is held any more", async () => {
    const held = await until(async () => { const now = await system.counts(); return now.messages_in >= MOST && now; }, "the counts");
    assert.equal(held.websockets, MOST);
    assert.equal(held.opened, MOST);
    assert.equal(held.answers, MOST);
    assert.equal(held.closed, undefined);
    await drop(MOST, (raw) => raw.close());
    const end = await until(async () => { const now = await system.counts(); return now.closed === MOST && now; }, "the end of all");
    for (const name of ["websockets", "behind", "in_flight", "waiting", "waiting_bytes", "held_back", "buffered_bytes", "connections_busy"]) assert.equal(end[name], undefined, name);
  });
});
