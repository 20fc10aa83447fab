/*
 * Ranges, ?since=A&until=B: what they answer; and that an nginx in front of the program keeps those of public channels,
 * and nothing else, by what the program says of caching alone.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { patched } from "./lib/recording.mjs";
import { siteOf } from "./lib/site.mjs";
import { startNginx } from "./module/nginx.mjs";
import { startSystem } from "./system.mjs";

const FOR_EVER = "public, max-age=31536000, immutable";
let system;
before(async () => {
  system = await startSystem({ app: "tests/conformance" });
});
after(() => system?.stop());

async function ask(base, topic, { token = "good", headers, method, ...query } = {}) {
  const parameters = new URLSearchParams({ ...query, ...(token && { token }) });
  const response = await fetch(`${base}/channels/${topic}?${parameters}`, { method, headers });
  const text = await response.text();
  const header = (name) => response.headers.get(name);
  return { status: response.status, caching: header("cache-control"), etag: header("etag"), allowed: header("access-control-allow-origin"), body: text && JSON.parse(text) };
}
const get = (topic, query) => ask(system.url, topic, query);

/* add - an event; the position that it led to */
async function add(topic, item) {
  const response = await fetch(`${system.url}/channels/${topic}/events/add?token=good`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(item) });
  assert.equal(response.status, 200);
  return (await response.json()).position;
}

/* begun - the positions of a topic's first revisions, from its first state on */
async function begun(topic, count) {
  const positions = [];
  for (let i = 1; i <= count; i++) positions.push(await add(topic, { i }));
  return [positions[0].replace(/-1$/, "-0"), ...positions];
}

const revisions = ({ patches }) => patches.map(({ revision }) => revision);
const upTo = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

describe("a range", () => {
  for (const [topic, caching] of [["wall:any", FOR_EVER], ["board:any", "private, no-cache"]])
    it(`each from one position to another, also of what comes later: ${caching}`, async () => {
      const at = await begun(topic, 6);
      const read = async (since, until) => {
        const { body, etag, ...answer } = await get(topic, { since: at[since], until: at[until] });
        assert.deepEqual([answer.status, answer.caching, etag, body.position], [200, caching, `"${at[until]}"`, at[until]]);
        assert.deepEqual([body.revision, body.version, body.reset], [until, until, undefined]);
        assert.deepEqual(revisions(body), upTo(since + 1, until));
        return body;
      };
      const before = [];
      for (let since = 0; since <= 6; since++) for (let until = since; until <= 6; until++) before.push(await read(since, until));
      at.push(await add(topic, { i: 7 }));
      for (let since = 0; since <= 6; since++) for (let until = since; until <= 6; until++) assert.deepEqual(await read(since, until), before.shift());
      let state = { n: 0, items: [] };
      for (const [since, until] of [[0, 3], [3, 4], [4, 7]]) for (const { operations } of (await read(since, until)).patches) state = patched(state, operations);
      assert.deepEqual(state, (await get(topic)).body.state);
    });

  it("HEAD and If-None-Match; wait has nothing to wait for", async () => {
    const at = await begun("wall:head", 2);
    const range = { since: at[0], until: at[2] };
    const head = await get("wall:head", { ...range, method: "HEAD" });
    assert.deepEqual([head.status, head.caching, head.etag, head.body], [200, FOR_EVER, `"${at[2]}"`, ""]);
    const known = await get("wall:head", { ...range, headers: { "if-none-match": head.etag } });
    assert.deepEqual([known.status, known.caching, known.body], [304, FOR_EVER, ""]);
    for (const since of at) assert.equal((await get("wall:head", { ...range, since, wait: 60 })).status, 200);
  });

  it("an end that is yet to come is none", async () => {
    const at = await begun("wall:future", 2);
    const until = at[0].replace(/-0$/, "-3");
    const some = await get("wall:future", { since: at[0], until });
    assert.deepEqual([some.caching, some.body.position, revisions(some.body)], ["public, no-cache", at[2], [1, 2]]);
    assert.equal((await get("wall:future", { since: at[2], until, wait: 0 })).status, 204);
    const waited = get("wall:future", { since: at[2], until, wait: 60 });
    assert.equal(await add("wall:future", { i: 3 }), until);
    assert.deepEqual(revisions((await waited).body), [3]);
    assert.equal((await get("wall:future", { since: at[0], until })).caching, FOR_EVER);
  });

  it("of another history, or further back than the log: the state, for now", async () => {
    const [zero, one, two] = await begun("wall:other", 2);
    const other = one.replace(/^\d+/, "12");
    for (const [since, until] of [[one, other], [other, one], [other, other], [zero.replace(/-0$/, "-8"), zero.replace(/-0$/, "-9")]]) {
      const { status, caching, body } = await get("wall:other", { since, until });
      assert.deepEqual([status, caching, body.reset, body.patches, body.position], [200, "public, no-cache", true, undefined, two], `${since} ${until}`);
    }
  });

  it("what is no range: 400", async () => {
    const [zero, one] = await begun("wall:bad", 1);
    const cases = [{ since: one, until: zero }, { until: one }, { since: zero, until: one, headers: { accept: "text/event-stream" } }, ...["", "x", "1", "1-1x"].map((until) => ({ since: zero, until }))];
    for (const query of cases) {
      const { status, caching } = await get("wall:bad", query);
      assert.deepEqual([status, caching], [400, "no-store"], JSON.stringify(query));
    }
  });
});

describe("an nginx that keeps them", () => {
  /* The lines that seance-*.conf has for it; and, as a CDN would, in front of all. */
  const change = (text, dir) => text.replaceAll(/^(\s*)#(fastcgi_cache|map )/gm, "$1$2").replace("/var/cache/nginx/seance", `${dir}/cache`);
  const http = (port, dir) => `
    proxy_cache_path ${dir}/cdn keys_zone=cdn:1m;
    server { listen 127.0.0.2:${port}; location / { proxy_pass ${system.url}; proxy_cache cdn; } }`;
  let nginx;
  before(async () => {
    nginx = await startNginx({ conf: siteOf(system, { http, change }) });
  });
  after(() => nginx?.stop());

  for (const [what, host] of [["by seance-http.conf and seance-server.conf", "127.0.0.1"], ["as a proxy that knows nothing of it", "127.0.0.2"]])
    it(what, async () => {
      const topic = `wall:${host}`, board = `board:${host}`;
      const base = `http://${host}:${nginx.port}`;
      const read = (name, query) => ask(base, name, query);
      const at = await begun(topic, 3), of = await begun(board, 3);
      const future = at[0].replace(/-0$/, "-99");
      const kept = [{ since: at[0], until: at[3] }, { since: at[1], until: at[2] }, { since: at[3], until: at[3] }];
      const asked = [
        [topic, {}], [topic, { since: at[0] }], [topic, { since: at[3] }], [topic, { since: at[0], until: future }], // may change
        [topic, { since: "1-1", until: "1-2" }], // the state
        [board, { since: of[0], until: of[3] }], // not public
        [topic, { since: at[0], until: at[3], token: "" }], // not let in
        [topic, { since: at[3], until: at[0] }], // wrong
      ];
      assert.deepEqual((await read(topic, { ...kept[0], method: "HEAD" })).body, "");
      const answers = await Promise.all(kept.map((query) => read(topic, query)));
      for (const { status, caching, body } of answers) assert.deepEqual([status, caching, Array.isArray(body.patches)], [200, FOR_EVER, true]);
      const statuses = [];
      for (const [name, query] of asked) statuses.push((await read(name, query)).status);
      assert.deepEqual(statuses, [200, 200, 200, 200, 200, 200, 403, 400]);
      const origin = `http://${host}:${nginx.port}`;
      const shared = await read(topic, { ...kept[0], headers: { origin } });
      await system.withoutProgram(async () => {
        assert.deepEqual(await Promise.all(kept.map((query) => read(topic, query))), answers, "the program is not there, and not asked");
        assert.deepEqual(await read(topic, { ...kept[0], headers: { origin } }), shared);
        const known = await read(topic, { ...kept[0], headers: { "if-none-match": answers[0].etag } });
        assert.deepEqual([known.status, known.body], [304, ""]);
        for (const [name, query] of asked) assert.equal((await read(name, query)).status, 503, `${name} ${JSON.stringify(query)}`);
        assert.equal((await read(topic, { ...kept[0], headers: { origin: "http://other.example" } })).status, 503, "another origin's page is told otherwise");
      });
      if (host === "127.0.0.1") assert.equal((await read(topic, { headers: { "if-none-match": answers[0].etag } })).status, 304, "the state itself is as without it");
      const waited = read(topic, { since: at[3], until: future, wait: 60 });
      const next = await add(topic, { i: 4 });
      assert.deepEqual((await waited).body.position, next, "waits through it");
    });
});
