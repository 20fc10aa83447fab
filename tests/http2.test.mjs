/*
 * The HTTP API and long-poll over HTTP/2: all on one connection, by the includes that a site uses.
 */
import assert from "node:assert/strict";
import http2 from "node:http2";
import { after, before, it } from "node:test";
import { patched } from "./lib/recording.mjs";
import { siteOf } from "./lib/site.mjs";
import { until, within } from "./lib/wait.mjs";
import { startNginx } from "./module/nginx.mjs";
import { startSystem } from "./system.mjs";

let system, nginx, session;
before(async () => {
  system = await startSystem({ app: "tests/conformance" });
  nginx = await startNginx({ conf: siteOf(system, { listen: (port) => `listen 127.0.0.1:${port} http2;` }) });
  session = http2.connect(`http://127.0.0.1:${nginx.port}`).on("error", () => {}); // that nginx ends it is no failure
});
after(async () => {
  session?.close();
  await nginx?.stop();
  await system?.stop();
});

/* start - a request on its way: status, headers and what has come of the body so far */
function start(method, path, { body, headers = {} } = {}) {
  const sent = { ":method": method, ":path": path, ...headers };
  if (body !== undefined) sent["content-type"] ??= "application/json";
  const request = session.request(sent);
  const answer = { request, text: "", ended: false };
  request.on("response", (head) => Object.assign(answer, { status: head[":status"], headers: head }));
  request.setEncoding("utf8").on("data", (part) => (answer.text += part));
  request.on("end", () => (answer.ended = true)).on("error", (error) => (answer.error = error));
  request.end(body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body));
  return answer;
}

async function ask(...request) {
  const answer = start(...request);
  await until(() => answer.ended || answer.error, () => `the answer to ${request.slice(0, 2).join(" ")}`, 20000);
  if (answer.error) throw answer.error;
  return { ...answer, body: answer.text && JSON.parse(answer.text) };
}

const inc = (topic, more) => ask("POST", `/channels/${topic}/events/inc`, { body: {}, ...more });

it("state, ETag, 304, HEAD, events, keys, 412, problems", async () => {
  const { status, body } = await inc("board:h2");
  assert.deepEqual([status, body.version], [200, 1]);
  const seen = await ask("GET", "/channels/board:h2");
  assert.deepEqual(seen.body.state, { n: 1, items: [] });
  const etag = seen.headers.etag;
  assert.equal((await ask("GET", "/channels/board:h2", { headers: { "if-none-match": etag } })).status, 304);
  const head = await ask("HEAD", "/channels/board:h2");
  assert.deepEqual([head.status, head.headers.etag, head.text], [200, etag, ""]);
  for (const version of [2, 2]) assert.equal((await inc("board:h2", { headers: { "idempotency-key": "k" } })).body.version, version);
  assert.equal((await inc("board:h2", { headers: { "if-match": etag } })).status, 412);
  const problem = await ask("GET", "/channels/nobody:h2");
  assert.deepEqual([problem.status, problem.headers["content-type"]], [404, "application/problem+json"]);
  assert.equal((await ask("POST", "/channels/board:h2/events/add", { body: { a: "x".repeat(2 << 20) } })).status, 413);
});

it("100 requests that wait on one connection, through a kill: each has the next change; one that is cancelled has none", async () => {
  const { body: { position } } = await inc("board:wait");
  const cancelled = start("GET", `/channels/board:wait?since=${position}&wait=60`);
  const waiting = Array.from({ length: 100 }, () => start("GET", `/channels/board:wait?since=${position}&wait=60`));
  await until(async () => (await system.counts(2)).parked === 101, "all to wait");
  cancelled.request.close(http2.constants.NGHTTP2_CANCEL);
  await until(async () => (await system.counts(2)).parked === 100, "one to go");
  await system.killWorker();
  await inc("board:wait");
  await until(() => waiting.every(({ ended }) => ended), "all answers", 20000);
  for (const { status, text } of waiting) assert.deepEqual([status, JSON.parse(text).patches.map(({ version }) => version)], [200, [2]]);
  assert.equal(cancelled.text, "");
});

it("streams: the state, then each change, through a kill; they end with the connection", async () => {
  const streams = Array.from({ length: 20 }, () => start("GET", "/channels/board:stream", { headers: { accept: "text/event-stream" } }));
  await until(() => streams.every(({ text }) => text.includes("seance:change")), "the states");
  for (let i = 1; i <= 5; i++) {
    await inc("board:stream");
    if (i === 3) await system.killWorker();
  }
  const patches = (text) => [...text.matchAll(/event: seance:patch\n(?:id: .*\n)?data: (.*)\n/g)].map(([, data]) => JSON.parse(data));
  await until(() => streams.every(({ text }) => patches(text).length === 5), "the patches");
  for (const { text } of streams) {
    let state = JSON.parse(text.match(/data: (.*)\n/)[1]).state;
    for (const { operations } of patches(text)) state = patched(state, operations);
    assert.equal(state.n, 5);
  }
  for (const { request } of streams) request.close(http2.constants.NGHTTP2_CANCEL);
  await until(async () => !(await system.counts(2)).streams, "their end");
});

it("private state: joined, changed, waited for, left", async () => {
  const { status, body: { token } } = await ask("POST", "/channels/draft:h2", { body: { who: "me" } });
  assert.equal(status, 201);
  const headers = { "seance-token": token };
  const { body: { position } } = await inc("draft:h2", { headers });
  const waiting = start("GET", `/channels/draft:h2?since=${position}&wait=60`, { headers });
  await until(async () => (await system.counts(2)).parked === 1, "it to wait");
  await inc("draft:h2", { headers });
  await until(() => waiting.ended, "its answer");
  assert.equal(JSON.parse(waiting.text).patches[0].version, 2);
  assert.equal((await ask("DELETE", "/channels/draft:h2", { headers })).status, 204);
});

it("long-poll: 50 sessions on one connection", async () => {
  const mount = "/socket/longpoll?vsn=2.0.0";
  await Promise.all(Array.from({ length: 50 }, async (_, i) => {
    let { body: { status, token } } = await ask("GET", mount);
    assert.equal(status, 410);
    const send = async (frame) => assert.deepEqual((await ask("POST", `${mount}&token=${token}`, { body: JSON.stringify(frame) })).body, { status: 200 });
    const next = async () => {
      const { body } = await ask("GET", mount, { headers: { "x-phoenix-longpoll-token": token } });
      token = body.token;
      return body.messages.map((message) => JSON.parse(message));
    };
    await send(["1", "1", `counter:${i}`, "phx_join", {}]);
    assert.deepEqual((await next()).map(([, , , event]) => event), ["phx_reply", "seance:change"]);
    const waiting = next();
    await send(["1", "2", `counter:${i}`, "seance:event:inc", {}]);
    assert.equal((await within(waiting, "a patch"))[0][4].version, 1);
  }));
});
