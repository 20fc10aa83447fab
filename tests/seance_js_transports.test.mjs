/*
 * nginx/www/seance.js by each of its transports, against the real nginx and program, on networks that block and break.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import WebSocket from "ws";
import { Cutter } from "./lib/cutter.mjs";
import { EventSource } from "./lib/event_source.mjs";
import { until, within } from "./lib/wait.mjs";
import { startSystem } from "./system.mjs";

const source = readFileSync(new URL("../nginx/www/seance.js", import.meta.url));
const { connect, Refused } = await import(`data:text/javascript;base64,${source.toString("base64")}`);

/* As a network does that lets no WebSocket through: nginx answers the handshake with 404. */
class Blocked extends WebSocket {
  constructor(url) {
    super(String(url).replace("/socket/", "/nowhere/"));
  }
}

const transports = [
  // [name, what nginx counts of it, options]
  ["WebSocket", "websockets", { WebSocket }],
  ["event streams and POST", "streams", { WebSocket: Blocked, EventSource }],
  ["long-poll", "parked", { WebSocket: Blocked }],
];

let system;
let ends = []; // of what a test has opened
before(async () => {
  system = await startSystem({ app: "tests/conformance" });
});
afterEach(() => {
  for (const end of ends.splice(0)) end();
});
after(() => system?.stop());

function open(options, url = system.url) {
  const socket = connect(`${url}/socket`, options);
  ends.push(() => socket.disconnect());
  return socket;
}
async function cutterOpen() {
  const cutter = await Cutter.open(system.port);
  ends.push(() => cutter.close());
  return cutter;
}
/* holds - waits until nginx holds just that: websockets, streams or parked requests */
const holds = (kind, many = 1) =>
  until(async () => {
    const counts = await system.counts();
    return transports.every(([, one]) => (counts[one] ?? 0) === (one === kind ? many : 0));
  }, `${many} ${kind}`, 15000);
const get = async (topic) => (await fetch(`${system.url}/channels/${encodeURIComponent(topic)}`)).json();
const upTo = (n) => Array.from({ length: n }, (_, i) => i);
let topics = 0;
const newTopic = (kind = "board") => `${kind}:transports/é ${topics++}`;

for (const [name, kind, options] of transports) {
  describe(`by ${name}`, () => {
    it("joins, has the state; a push is fulfilled when its effect and its events are there", async () => {
      const board = open(options).channel(newTopic());
      const said = [];
      board.on("said", (detail) => said.push(detail));
      await within(board.push("inc"), "the first push");
      assert.deepEqual([board.state, board.version, board.status], [{ n: 1, items: [] }, 1, "joined"]);
      await within(board.push("say", { x: 1 }), "the second");
      assert.deepEqual(said, [{ x: 1 }], "once");
      await Promise.all(upTo(50).map(async (i) => {
        await within(board.push("add", { i }), "one of 50");
        assert.ok(board.state.items.some((item) => item.i === i), "its effect is there");
      }));
      assert.deepEqual(board.state.items, upTo(50).map((i) => ({ i })));
      await holds(kind);
    });

    it("refused: a push, with the reason; a join, with the reason, until it may", async () => {
      const board = open(options).channel(newTopic());
      await assert.rejects(within(board.push("refuse"), "the push"), (error) => error instanceof Refused && error.message === "no" && error.reason.reason === "no");
      await within(board.push("inc"), "another");
      const credentials = { token: "bad" };
      const guarded = open(options).channel("guarded:a", () => credentials);
      let why;
      guarded.onstatus = (status, reason) => status === "refused" && (why = reason);
      await until(() => why, "the refusal");
      assert.equal(why.message, "a good token, please");
      credentials.token = "good";
      await until(() => guarded.state, "the state");
    });

    it("a crash is rejected, and what comes behind it done", async () => {
      const board = open(options).channel(newTopic());
      const [first, crash, last] = await within(Promise.allSettled(["inc", "raise", "inc"].map((event) => board.push(event))), "all");
      assert.deepEqual([first.status, crash.status, last.status], ["fulfilled", "rejected", "fulfilled"]);
      assert.match(crash.reason.message, /crashed/);
      assert.equal(board.state.n, 2);
    });

    it("private state, beside shared", async () => {
      const socket = open(options);
      const [board, counter] = [socket.channel(newTopic()), socket.channel("counter:a")];
      await within(Promise.all([counter.push("inc"), board.push("inc"), counter.push("inc")]), "three pushes");
      assert.deepEqual([board.state.n, counter.state], [1, { count: 2 }]);
    });

    it("who comes and goes is shown", async () => {
      const topic = newTopic("room");
      const ann = open(options).channel(topic, { name: "ann" });
      await until(() => ann.present.ann?.length === 1, "ann");
      const bob = open({ WebSocket }).channel(topic, { name: "bob" });
      await until(() => ann.present.bob?.length === 1 && bob.present.ann?.length === 1, "both");
      bob.leave();
      await until(() => !ann.present.bob, "ann alone");
    });

    it("the program is killed while events are on their way: each done once, and answered; nothing else is noticed", async () => {
      const board = open(options).channel(newTopic());
      await within(board.push("inc"), "the first push");
      const statuses = [];
      board.onstatus = (status) => statuses.push(status);
      for (let i = 0; i < 3; i++) {
        const pushes = [board.push("slow", { ms: 50 }), board.push("add", { i }), board.push("slow", { ms: 50 })];
        await system.killWorker();
        await within(Promise.all(pushes), "all", 15000);
      }
      assert.deepEqual([board.state, board.version], [{ n: 7, items: upTo(3).map((i) => ({ i })) }, 10]);
      assert.deepEqual(statuses, []);
    });

    it("cut off, it comes back to just the patches that it missed", async () => {
      const topic = newTopic();
      const cutter = await cutterOpen();
      const [board, other] = [open(options, cutter.url).channel(topic), open({ WebSocket }).channel(topic)];
      await within(board.push("inc"), "the first push");
      cutter.watch();
      const versions = [];
      board.onchange = (state, version) => versions.push(version);
      for (let round = 0; round < 4; round++) {
        cutter.cut();
        await within(Promise.all(upTo(5).map((i) => other.push("add", { i }))), "the other's pushes");
        await until(() => board.version === other.version, "the missed patches", 15000);
      }
      assert.deepEqual(versions, upTo(20).map((i) => i + 2));
      assert.deepEqual(board.state, other.state);
      assert.ok(cutter.count("seance:patch") >= 20);
      assert.equal(cutter.count("seance:change"), 0, "no full state");
    });

    it("cut at random, answers swallowed, the program killed, nginx started anew: each event once, in order", async () => {
      const topic = newTopic();
      const cutter = await cutterOpen();
      const board = open(options, cutter.url).channel(topic);
      const wrong = [];
      board.onchange = (state) => {
        if (state.items.some((item, at) => item.i !== at)) wrong.push(state.items.map((item) => item.i));
      };
      let next = 0;
      let settled = 0;
      let harmed = false;
      const writer = async () => {
        while (!harmed) {
          const i = next++;
          await board.push("add", { i });
          if (board.state.items[i]?.i !== i) wrong.push(`${i} is not there`);
          settled++;
        }
      };
      const writing = Promise.all(upTo(5).map(writer));
      for (const one of [() => cutter.cut(), () => cutter.swallow(), () => system.killWorker(), () => cutter.swallow(), () => system.restartNginx("SIGKILL"), () => cutter.swallow(), () => cutter.cut()]) {
        const when = settled + 1 + Math.floor(Math.random() * 15);
        await until(() => settled >= when, `${when} events`, 20000, 1);
        await one();
      }
      harmed = true;
      await within(writing, () => `the end: ${settled} of ${next} are settled`, 30000);
      assert.deepEqual(wrong, []);
      const { state } = await get(topic);
      assert.deepEqual(state.items.map((item) => item.i), upTo(next));
      assert.deepEqual(board.state, state);
      await holds(kind);
    });
  });
}

/* As a browser does that is online again. */
const browser = new EventTarget();
before(() => {
  globalThis.addEventListener = (...args) => browser.addEventListener(...args);
  globalThis.removeEventListener = (...args) => browser.removeEventListener(...args);
});

it("by long-poll private state outlives cuts, lost answers and a restart of nginx", async () => {
  const cutter = await cutterOpen();
  const socket = open({ WebSocket: Blocked }, cutter.url);
  const counter = socket.channel("counter:a");
  await within(counter.push("inc"), "the first push");
  socket.onstatus = counter.onstatus = assert.fail;
  let count = 1;
  for (const harm of [() => cutter.cut(), () => cutter.swallow(), () => system.restartNginx("SIGKILL"), () => cutter.cut()]) {
    const [harmed, push] = [harm(), counter.push("inc")];
    await harmed;
    await within(push, "a push", 15000);
    assert.deepEqual(counter.state, { count: ++count });
  }
  socket.onstatus = counter.onstatus = null;
});

it("clients by all transports on one topic, all cut at random: each event once, each client's in order, one state", async () => {
  const topic = newTopic();
  const clients = await Promise.all(transports.map(async ([name, , options]) => {
    const cutter = await cutterOpen();
    return { name, cutter, board: open(options, cutter.url).channel(topic), pushed: 0, settled: 0 };
  }));
  const wrong = [];
  let harmed = false;
  const writer = async (client) => {
    while (!harmed) {
      const item = { who: client.name, i: client.pushed++ };
      await client.board.push("add", item);
      client.settled++;
      if (!client.board.state.items.some(({ who, i }) => who === item.who && i === item.i)) wrong.push(item);
    }
  };
  const writing = Promise.all(clients.flatMap((client) => [writer(client), writer(client)]));
  for (let round = 0; round < 12; round++) {
    const { name, cutter } = clients[round % 3];
    const client = clients[Math.floor(Math.random() * 3)];
    const when = client.settled + 1 + Math.floor(Math.random() * 6);
    await until(() => client.settled >= when, () => `${when} events of ${client.name}, which has ${client.settled}, in round ${round} with ${name}`, 20000, 1);
    if (round === 5) await system.killWorker();
    else if (Math.random() < 0.5) cutter.cut();
    else await cutter.swallow();
  }
  harmed = true;
  await within(writing, () => `the end: ${clients.map(({ name, settled, pushed }) => `${name} ${settled}/${pushed}`)}`, 30000);
  assert.deepEqual(wrong, [], "a push is fulfilled when its effect is there");
  const { state, version } = await get(topic);
  for (const { name, board, pushed } of clients) {
    assert.deepEqual(state.items.filter(({ who }) => who === name).map(({ i }) => i), upTo(pushed), name);
    await until(() => board.version === version, `${name}'s last version`);
    assert.deepEqual(board.state, state);
  }
});

describe("from one to the other", () => {
  class Door extends WebSocket {
    static blocked = true;
    constructor(url) {
      super(Door.blocked ? String(url).replace("/socket/", "/nowhere/") : url);
    }
  }

  it("from event streams to WebSocket, when the browser is online again and there is one, amid pushes: each event once, in order", async () => {
    Door.blocked = true;
    const topic = newTopic();
    const board = open({ WebSocket: Door, EventSource }).channel(topic);
    await within(board.push("add", { i: 0 }), "the first push");
    await holds("streams");
    let pushed = 1;
    const pushes = [];
    const push = () => pushes.push(board.push("add", { i: pushed++ }));
    for (let i = 0; i < 20; i++) {
      push();
      push();
      browser.dispatchEvent(new Event("online")); // in the midst of a POST, and there is no WebSocket
      await within(pushes.at(-1), "a push");
    }
    Door.blocked = false;
    await until(async () => {
      push();
      browser.dispatchEvent(new Event("online"));
      await pushes.at(-1);
      browser.dispatchEvent(new Event("online"));
      push();
      await pushes.at(-1);
      return (await system.counts()).websockets === 1;
    }, "a WebSocket");
    await within(Promise.all(pushes), "all pushes");
    await holds("websockets");
    const { state } = await get(topic);
    assert.deepEqual(state.items.map((item) => item.i), upTo(pushed));
    assert.deepEqual(board.state, state);
  });

  it("a connection that may carry private state is left alone when the browser is online again", async () => {
    for (const [, kind, options] of [transports[0], transports[2]]) {
      const socket = open(options);
      const counter = socket.channel("counter:a");
      await within(counter.push("inc"), "a push");
      socket.onstatus = counter.onstatus = assert.fail;
      browser.dispatchEvent(new Event("online"));
      await within(counter.push("inc"), "another");
      assert.deepEqual(counter.state, { count: 2 });
      await holds(kind);
      socket.onstatus = counter.onstatus = null;
      socket.disconnect();
    }
  });

  it("an event that went by WebSocket, its answer lost, is repeated by POST, and done once", async () => {
    const topic = newTopic();
    const cutter = await cutterOpen();
    Door.blocked = false;
    const board = open({ WebSocket: Door, EventSource }, cutter.url).channel(topic);
    await within(board.push("add", { i: 0 }), "the first push");
    const swallowed = cutter.swallow();
    const pushes = [board.push("add", { i: 1 }), board.push("add", { i: 2 })];
    Door.blocked = true;
    await swallowed;
    await within(Promise.all(pushes), "their answers", 30000);
    assert.deepEqual((await get(topic)).state.items, upTo(3).map((i) => ({ i })));
    await holds("streams");
  });

  it("more channels than a browser has connections for, or private ones: by long-poll", async () => {
    const socket = open({ WebSocket: Blocked, EventSource });
    const boards = upTo(3).map(() => socket.channel(newTopic()));
    await within(Promise.all(boards.map((board) => board.push("inc"))), "pushes to three");
    await holds("streams", 3);
    boards.push(...upTo(3).map(() => socket.channel(newTopic())));
    await within(Promise.all(boards.map((board) => board.push("inc"))), "pushes to six");
    assert.deepEqual(boards.map((board) => board.state.n), [2, 2, 2, 1, 1, 1]);
    await holds("parked");
  });

  class Mute extends EventTarget {
    static CLOSED = 2;
    close() {}
  }

  it("a WebSocket of which nothing is heard: by event streams, at the second attempt", async () => {
    const board = open({ WebSocket: Mute, EventSource }).channel(newTopic());
    await within(board.push("inc"), "the push", 15000);
    await holds("streams");
  });

  it("a stream that something holds back: by long-poll", async () => {
    const board = open({ WebSocket: Blocked, EventSource: Mute }).channel(newTopic());
    await within(board.push("inc"), "the push", 20000);
    await holds("parked");
  });
});
