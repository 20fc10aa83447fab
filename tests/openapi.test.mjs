/*
 * nginx/www/openapi.json is what the HTTP API does: each operation is called until it has given all that is documented,
 * statuses, media types and headers, and nothing that is not.
 */
import { Validator } from "@seriousme/openapi-schema-validator";
import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { until, within } from "./lib/wait.mjs";
import { startSystem, tree } from "./system.mjs";

const STREAMS = 2;
const METHODS = ["get", "head", "post", "put", "patch", "delete", "options"];
let system, document, operations, valid;
const seen = new Set();

const entry = (...parts) => parts.join(" ");
const resolved = (value) => (value?.$ref ? value.$ref.slice(2).split("/").reduce((at, name) => at[name], document) : value);

/* A member that no schema tells of is not documented. */
function tighten(schema) {
  if (typeof schema !== "object" || schema === null) return schema;
  const copy = Array.isArray(schema) ? schema.map(tighten) : Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, tighten(value)]));
  return copy.type === "object" && copy.properties ? { additionalProperties: false, ...copy } : copy;
}

before(async () => {
  system = await startSystem({ app: "tests/conformance", flags: [`--max-sockets-per-address=${STREAMS}`, "--grace=1"] });
  const response = await fetch(`${system.url}/openapi.json`);
  assert.deepEqual([response.status, response.headers.get("content-type")], [200, "application/json; charset=utf-8"]);
  document = await response.json();
  operations = Object.entries(document.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ ...item[method], path, method, parameters: [...item.parameters, ...(item[method].parameters ?? [])].map(resolved) })));
  const ajv = addFormats(new Ajv({ strict: false, allErrors: true }));
  ajv.addSchema({ $id: "openapi", components: tighten(document.components) });
  const compiled = new Map();
  valid = (schema, value, what) => {
    if (!compiled.has(schema)) compiled.set(schema, ajv.compile(JSON.parse(JSON.stringify(tighten(schema)).replaceAll('"#/', '"openapi#/'))));
    const validate = compiled.get(schema);
    assert.ok(validate(value), `${what}: ${ajv.errorsText(validate.errors)}: ${JSON.stringify(value)}`);
  };
});
after(() => system?.stop());

/* What a request says, by the parameters of its operation; other names of the query are those of the free one. */
function noteParameters(operation, query, headers) {
  const names = [...new URLSearchParams(query).keys(), ...Object.keys(headers)].map((name) => name.toLowerCase());
  for (const { name, in: where, schema } of operation.parameters) {
    if (where === "path" || names.includes(name.toLowerCase())) seen.add(entry(operation.operationId, "parameter", name));
    else if (schema.additionalProperties && names.some((one) => operation.parameters.every((other) => other.name.toLowerCase() !== one))) seen.add(entry(operation.operationId, "parameter", name));
  }
}

function checkHeaders(name, documented, headers) {
  const told = Object.fromEntries(Object.entries(documented.headers ?? {}).map(([header, value]) => [header.toLowerCase(), resolved(value)]));
  for (const [header, { required, schema }] of Object.entries(told)) {
    const value = headers.get(header);
    assert.ok(value !== null || !required, `${name}: ${header} is not there`);
    if (value === null) continue;
    valid(schema, value, `${name}: ${header}`);
    seen.add(entry(name, header));
  }
  for (const header of headers.keys())
    if (/^(vary|etag|allow|retry-after|www-authenticate|cache-control|access-control-.*)$/.test(header)) assert.ok(told[header], `${name}: ${header} is not documented`);
}

/* The first events of a stream that has no end, by its names; during is what makes them. */
async function checkStream(name, events, body, during) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const left = new Set(Object.keys(events));
  let text = "";
  await during();
  while (left.size > 0) {
    const { value, done } = await within(reader.read(), () => `${[...left]} of a stream`);
    assert.ok(!done, "it has ended");
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const block = text.slice(0, end);
      if (block.startsWith(":")) continue;
      const { event, id, data } = Object.fromEntries(block.split("\n").map((line) => line.match(/^(\w+): ([^]*)$/).slice(1)));
      assert.ok(events[event], `${event} is not documented`);
      valid(events[event], JSON.parse(data), `${name}: ${event}`);
      assert.equal(id, JSON.parse(data).position);
      left.delete(event);
    }
  }
}

async function checkBody(name, documented, operation, response, during) {
  const type = response.headers.get("content-type")?.split(";")[0];
  const head = operation.method === "head";
  if (!documented.content) return assert.equal(await response.text(), "", name);
  const content = documented.content[type];
  assert.ok(content, `${name}: ${type} is not documented`);
  seen.add(entry(operation.operationId, response.status, type));
  if (content["x-events"]) return checkStream(name, content["x-events"], response.body, during);
  const text = await response.text();
  if (head) return assert.equal(text, "", name);
  const body = type.endsWith("json") ? JSON.parse(text) : text;
  valid(content.schema, body, name);
  if (type === "application/problem+json") assert.equal(body.status, response.status);
  return body;
}

/* call - what comes of a request, all of which the document has told of: its body, and ETag as etag */
async function call(operationId, status, topic, { name = "inc", query = "", headers = {}, payload = {}, during } = {}) {
  const operation = operations.find((one) => one.operationId === operationId);
  const abort = new AbortController();
  const path = operation.path.replace("{topic}", topic).replace("{name}", name);
  const sent = { origin: system.url, ...(operation.requestBody ? { "content-type": "application/json" } : {}), ...headers };
  const body = operation.requestBody && (typeof payload === "string" ? payload : JSON.stringify(payload));
  const response = await fetch(system.url + path + query, { method: operation.method.toUpperCase(), headers: sent, body, signal: abort.signal });
  const what = `${operationId} ${response.status}`;
  try {
    const told = operation.responses[response.status];
    assert.ok(told, `${what} is not documented: ${path.slice(0, 80)}${query}`);
    assert.equal(response.status, status, what);
    noteParameters(operation, query, sent);
    checkHeaders(told.$ref ?? what, resolved(told), response.headers);
    const answer = await checkBody(what, resolved(told), operation, response, during);
    seen.add(entry(operationId, status));
    return Object.assign(answer ?? {}, { etag: response.headers.get("etag") });
  } finally {
    abort.abort();
  }
}

const noStreams = () => until(async () => !(await system.counts()).streams, "streams to be let go", 15000);

/* While as many streams are held as may be. */
async function whileFull(run) {
  const abort = new AbortController();
  const open = () => fetch(`${system.url}/channels/board:many`, { headers: { accept: "text/event-stream" }, signal: abort.signal });
  await until(async () => (await open()).status === 429, "no more to be let in", 15000);
  await run();
  abort.abort();
  await noStreams();
}

it("the document is valid OpenAPI 3.1, of this version, and has each path's methods right", async () => {
  const { valid: sound, errors } = await new Validator().validate(structuredClone(document));
  assert.ok(sound, JSON.stringify(errors));
  assert.equal(document.openapi, "3.1.0");
  assert.equal(document.info.version, readFileSync(join(tree, "fcgi/main.c"), "utf8").match(/SEANCE_VERSION "(.*)"/)[1]);
  for (const [path, item] of Object.entries(document.paths)) {
    const methods = METHODS.filter((method) => item[method]).map((method) => method.toUpperCase());
    for (const method of METHODS.map((one) => one.toUpperCase()).filter((one) => !methods.includes(one))) {
      const response = await fetch(system.url + path.replace("{topic}", "board:a").replace("{name}", "inc"), { method });
      assert.deepEqual([response.status, response.headers.get("allow")], [405, methods.join(", ")], `${method} ${path}`);
    }
  }
});

const LONG = `board:${"x".repeat(10240)}`;

for (const operationId of ["readTopic", "headTopic"])
  describe(operationId, () => {
    const read = (...rest) => call(operationId, ...rest);

    it("200, 204, 304", async () => {
      const topic = `board:${operationId}`;
      const first = await call("sendEvent", 200, topic, { name: "add", payload: { a: 1 } });
      await call("sendEvent", 200, topic);
      const { etag } = await read(200, topic);
      const position = etag.slice(1, -1);
      await read(200, topic, { query: `?since=${first.position}` });
      await read(200, topic, { query: "?since=1-1" });
      for (const name of [`board:range ${operationId}`, `wall:${operationId}`].map(encodeURIComponent)) {
        const { position: since } = await call("sendEvent", 200, name, { query: "?token=good" });
        const { position: until } = await call("sendEvent", 200, name, { query: "?token=good" });
        await read(200, name, { query: `?token=good&since=${since}&until=${until}` });
        await read(304, name, { query: `?token=good&since=${since}&until=${until}`, headers: { "if-none-match": `"${until}"` } });
        await read(400, name, { query: `?token=good&since=${until}&until=${since}` });
      }
      await read(200, topic, { headers: { origin: "http://other.example" } });
      await read(200, "guarded:a", { query: "?token=good" });
      await read(204, topic, { query: `?since=${position}&wait=0` });
      await read(204, topic, { query: `?since=${position}&wait=1` });
      await read(304, topic, { headers: { "if-none-match": etag } });
    });

    it("400, 401, 403, 404, 414, 422, 500", async () => {
      for (const query of ["?since=x", "?wait=x", "?since=", "?until=1-1", "?since=1-1&until=x"]) await read(400, "board:a", { query });
      for (const topic of ["%ff", "%zz", "%00"]) await read(400, topic);
      for (const deny of ["1", "reason"]) await read(401, "board:a", { query: `?deny=${deny}` });
      await read(403, "guarded:a");
      for (const topic of ["nobody:a", "counter:private"]) await read(404, topic);
      await read(414, LONG);
      await read(422, "full:refused");
      await read(500, "full:crash");
      await read(500, "board:a", { query: "?deny=crash" });
    });

    it("503", () => system.withoutProgram(() => read(503, "board:a")));
  });

describe("readTopic as a stream", () => {
  const stream = (status, topic, { headers = {}, ...rest } = {}) => call("readTopic", status, topic, { headers: { accept: "text/event-stream", ...headers }, ...rest });
  const during = (topic) => async () => {
    await call("sendEvent", 200, topic, { name: "say", payload: { hello: 1 } });
  };

  it("200: a state, patches and events", async () => {
    await stream(200, "board:stream", { during: during("board:stream") });
    const { position } = await call("sendEvent", 200, "board:stream");
    await stream(200, "board:stream", { headers: { "last-event-id": "1-1" }, during: during("board:stream") });
    const [epoch] = position.split("-");
    await stream(200, "board:stream", { query: `?since=${epoch}-99`, during: during("board:stream") });
    await noStreams();
  });

  it("400, 401, 403, 404", async () => {
    await stream(400, "board:stream", { query: "?since=x" });
    await stream(400, "board:stream", { query: "?since=1-1&until=1-2" });
    await stream(401, "board:stream", { query: "?deny=1" });
    await stream(403, "guarded:stream");
    await stream(404, "nobody:stream");
    await noStreams();
  });

  it("429, and 503", async () => {
    await whileFull(() => stream(429, "board:many"));
    await system.withoutProgram(() => stream(503, "board:many"));
  });
});

describe("sendEvent", () => {
  const send = (...rest) => call("sendEvent", ...rest);

  it("200: operations and events, or the state; by If-Match, once by Idempotency-Key", async () => {
    const { position } = await send(200, "board:send");
    await send(200, "board:send", { name: "say", payload: { hello: 1 }, headers: { "if-match": `"${position}"` } });
    const keyed = () => send(200, "board:send", { name: "add", headers: { "idempotency-key": "a" } });
    assert.deepEqual(await keyed(), await keyed());
    assert.ok((await send(200, "full:a")).state);
    assert.ok((await send(200, "guarded:a", { query: "?token=good" })).operations);
    await send(200, "board:send", { name: "set", payload: { other: 1 } });
  });

  it("400, 401, 403, 404", async () => {
    for (const payload of ["{", "[1]", "", "x"]) await send(400, "board:a", { payload });
    await send(400, "board:a", { headers: { "idempotency-key": "x".repeat(256) } });
    for (const topic of ["%ff", "%zz"]) await send(400, topic);
    await send(401, "board:a", { query: "?deny=reason" });
    await send(403, "guarded:a");
    await send(403, "board:a", { headers: { origin: "http://other.example" } });
    for (const topic of ["nobody:a", "counter:private"]) await send(404, topic);
  });

  it("412, 413, 414, 415, 422, 500", async () => {
    await send(412, "board:send", { headers: { "if-match": '"1-1"' } });
    await send(413, "board:a", { payload: { a: "x".repeat(2 << 20) } });
    await send(414, LONG);
    await send(415, "board:a", { headers: { "content-type": "text/plain" } });
    await send(422, "board:a", { name: "refuse" });
    await send(422, "full:refused");
    await send(422, "board:send", { name: "add", payload: { another: 1 }, headers: { "idempotency-key": "a" } });
    await send(500, "board:a", { name: "raise" });
    await send(500, "full:crash");
  });

  it("503: no program, and a database that another holds locked", async () => {
    await system.withoutProgram(() => send(503, "board:a"));
    await send(200, "board:locked");
    const sqlite = spawn("sqlite3", [join(system.dir, "seance.db")], { stdio: ["pipe", "pipe", "inherit"] });
    const closed = new Promise((resolve) => sqlite.on("close", resolve));
    try {
      sqlite.stdin.write(".timeout 5000\nbegin immediate;\nselect 'locked';\n");
      await within(new Promise((resolve) => sqlite.stdout.once("data", resolve)), "the lock", 10000);
      await send(503, "board:locked");
    } finally {
      sqlite.stdin.end("rollback;\n");
      await within(closed, "sqlite3's end");
    }
    await send(200, "board:locked");
  });
});

describe("private state", () => {
  const token = (value) => ({ headers: { "seance-token": value } });
  const join = (...rest) => call("joinTopic", ...rest);

  it("is joined, read, changed and left", async () => {
    const joined = await join(201, "draft:a", { payload: { a: 1 } });
    const private_ = token(joined.token);
    await call("readTopic", 200, "draft:a", private_);
    await call("headTopic", 200, "draft:a", private_);
    await call("readTopic", 406, "draft:a", { headers: { accept: "text/event-stream", ...private_.headers } });
    await call("sendEvent", 200, "draft:a", private_);
    await join(409, "draft:a", private_);
    await call("leaveTopic", 204, "draft:a", { ...private_, query: "?a=1" });
    for (const operationId of ["readTopic", "headTopic", "sendEvent", "leaveTopic"]) await call(operationId, 401, "draft:a", private_);
  });

  it("400, 401, 403, 404, 405, 413, 414, 415, 422, 429, 500, 503", async () => {
    await join(400, "draft:a", { payload: "[]" });
    await join(400, "%zz");
    await join(401, "draft:a", { query: "?deny=1" });
    await join(401, "draft:a", token("forged"));
    await join(403, "authmap:a");
    await join(404, "nobody:a");
    await join(405, "board:a");
    await call("leaveTopic", 404, "nobody:a");
    await call("leaveTopic", 405, "board:a");
    await join(413, "draft:a", { payload: { a: "x".repeat(2 << 20) } });
    await join(414, LONG);
    await join(415, "draft:a", { headers: { "content-type": "text/plain" } });
    await join(422, "bad_init_map:a");
    for (const topic of ["crash:join", "crash:init"]) await join(500, topic);
    await join(500, "draft:a", { query: "?deny=crash" });
    await whileFull(() => join(429, "draft:many"));
    await system.withoutProgram(() => join(503, "draft:a"));
    for (const topic of ["%ff", "%zz"]) await call("leaveTopic", 400, topic);
    await call("leaveTopic", 403, "draft:a", { headers: { origin: "http://other.example" } });
    await call("leaveTopic", 414, LONG);
    await system.withoutProgram(() => call("leaveTopic", 503, "draft:a"));
  });
});

for (const operationId of ["topicOptions", "eventOptions"])
  it(operationId, async () => {
    await call(operationId, 204, "board:a");
    await call(operationId, 204, "board:a", { headers: { origin: "http://other.example" } });
    for (const topic of ["%ff", "%zz"]) await call(operationId, 400, topic);
    await call(operationId, 414, LONG);
    await system.withoutProgram(() => call(operationId, 503, "board:a"));
  });

it("all that is documented has been seen", () => {
  const told = new Set();
  for (const { operationId, parameters, responses } of operations) {
    for (const { name } of parameters) told.add(entry(operationId, "parameter", name));
    for (const [status, response] of Object.entries(responses)) {
      const { content = {}, headers = {} } = resolved(response);
      told.add(entry(operationId, status));
      for (const type of Object.keys(content)) told.add(entry(operationId, status, type));
      for (const header of Object.keys(headers)) told.add(entry(response.$ref ?? entry(operationId, status), header.toLowerCase()));
    }
  }
  assert.ok(told.size > 100, `${told.size} are documented`);
  assert.deepEqual([...told].filter((one) => !seen.has(one)), []);
});
