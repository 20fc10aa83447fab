/*
 * recording - recorded cases: reading them, replaying them, comparing frames
 */
import assert from "node:assert/strict";
import jsonpatch from "fast-json-patch";
import { HandshakeRefused, Raw } from "./raw.mjs";

/* canonical - JSON text with sorted members: equal texts, equal values; 1 and 1.0, 0 and -0 are one */
export function canonical(value) {
  return JSON.stringify(value, (key, inner) =>
    inner && typeof inner === "object" && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner);
}

/* parseCases - the cases of a file: [{name, query, lines: [{who: "C" | "S", text}]}] */
export function parseCases(text) {
  return text.split(/^### /m).slice(1).map((part) => {
    const end = part.indexOf("\n");
    return parseCase(part.slice(0, end), part.slice(end + 1));
  });
}

/* parseCase - one case's body */
export function parseCase(name, body) {
  const result = { name, query: "vsn=2.0.0", lines: [] };
  for (const line of body.split("\n")) {
    const [, who, text] = /^(GET|BROADCAST|C|S|#) ?(.*)$/s.exec(line) ?? [];
    if (who === "GET") result.query = text;
    else if (["C", "S", "BROADCAST"].includes(who)) result.lines.push({ who, text });
    else assert.ok(who === "#" || line.trim() === "", `a line of case "${name}" is not understood: ${line}`);
  }
  return result;
}

/* patched - the value after RFC 6902 operations */
export function patched(state, operations) {
  return jsonpatch.applyPatch(state, operations, true, false).newDocument;
}

/* Both forms of a frame, [join_ref, ref, topic, event, payload] and version 1's object. */
function parts(frame) {
  if (Array.isArray(frame)) {
    const [join_ref, ref, topic, event, payload, ...more] = frame;
    return { join_ref, ref, topic, event, payload, more };
  }
  const { ref, topic, event, payload, ...more } = frame;
  return { ref, topic, event, payload, more };
}

function sendLine(raw, text) {
  const binary = /^\[binary \d+\] ([0-9a-f]+)/.exec(text);
  const bytes = /^\[text frame, bytes ([0-9a-f ]+)\]/.exec(text);
  const ping = /^\[ping "(.*)"\]/.exec(text);
  const close = /^\[close (\d+)\]/.exec(text);
  if (binary) raw.socket.send(Buffer.from(binary[1], "hex"), { binary: true });
  else if (bytes) raw.socket.send(Buffer.from(bytes[1].replaceAll(" ", ""), "hex"), { binary: false });
  else if (ping) raw.socket.ping(ping[1]);
  else if (close) raw.socket.close(Number(close[1]));
  else raw.text(text);
}

/* Tracker - what a client would hold: two states a topic, one by the expected frames, one by those that came. */
export class Tracker {
  states = new Map();

  check(expected, item, what) {
    assert.ok(item.frame !== undefined, `${what}: got ${JSON.stringify(item)}`);
    const got = parts(item.frame);
    const want = parts(expected);
    const { payload: gotPayload, ...gotHead } = got;
    const { payload: wantPayload, ...wantHead } = want;

    assert.equal(canonical(gotHead), canonical(wantHead), `${what}: got ${item.text}`);
    assertCompact(item.text, what);
    if (want.event === "seance:patch") this.#patch(want, got, what, item.text);
    else if (want.event === "seance:event" || want.event === "seance:error") this.#members(wantPayload, gotPayload, what, item.text);
    else assert.equal(canonical(gotPayload), canonical(wantPayload), `${what}: got ${item.text}`);
    if (want.event === "seance:change") this.states.set(canonical(want.topic), { want: wantPayload.state, got: gotPayload.state });
  }

  #members(want, got, what, text) {
    for (const [name, value] of Object.entries(want)) assert.equal(canonical(got?.[name]), canonical(value), `${what}: member ${name} of ${text}`);
  }

  #patch(want, got, what, text) {
    const state = this.states.get(canonical(want.topic));
    assert.deepEqual(Object.keys(got.payload).sort(), ["operations", "version"], `${what}: got ${text}`);
    assert.equal(got.payload.version, want.payload.version, `${what}: version of ${text}`);
    state.want = patched(state.want, want.payload.operations);
    state.got = patched(state.got, got.payload.operations);
    assert.equal(canonical(state.got), canonical(state.want), `${what}: the state after ${text}`);
  }
}

/* No spaces between tokens, "/" not escaped. */
function assertCompact(text, what) {
  assert.ok(!/\s/.test(text.replace(/"(?:[^"\\]|\\.)*"/g, '""')), `${what}: has spaces: ${text}`);
  assert.ok(!/(?<!\\)(?:\\\\)*\\\//.test(text), `${what}: escapes a slash: ${text}`);
}

function checkSpecial(text, item, what) {
  const close = /^\[close code=(\d+)/.exec(text);
  const pong = /^\[pong "(.*)"\]/.exec(text);
  if (close) assert.equal(item.close, Number(close[1]), `${what}: got ${JSON.stringify(item)}`);
  else if (pong) assert.equal(item.pong, pong[1], `${what}: got ${JSON.stringify(item)}`);
  else return false;
  return true;
}

/*
 * replay - plays one case at url (".../websocket"); throws at the first frame that is another;
 * broadcast(topic, text) sends a message from outside; by opens the connection
 *
 * After the case nothing more may come: the next frame must be the answer to a heartbeat.
 */
export async function replay(recorded, url, { patienceMs = 5000, broadcast, by = Raw } = {}) {
  const address = recorded.query === "" ? url : `${url}?${recorded.query}`;
  if (recorded.lines[0]?.text.startsWith("HTTP ")) return replayRefused(recorded, address, by);

  const raw = await by.open(address);
  const tracker = new Tracker();
  try {
    for (const [at, { who, text }] of recorded.lines.entries()) {
      if (who === "C") {
        sendLine(raw, text);
        continue;
      }
      if (who === "BROADCAST") {
        const [, topic, message] = /^(\S+) (.*)$/.exec(text);
        await broadcast(topic, message);
        continue;
      }
      const what = `line ${at + 1}, expected ${text}`;
      const item = await raw.item(what, patienceMs);
      if (!checkSpecial(text, item, what)) tracker.check(JSON.parse(text), item, what);
    }
    if (!raw.closed && !/^\[close/.test(recorded.lines.at(-1).text)) await nothingMore(raw, recorded);
  } finally {
    await raw.close();
  }
}

async function nothingMore(raw, recorded) {
  const old = !/vsn=2/.test(recorded.query);
  const ask = old ? { topic: "phoenix", event: "heartbeat", payload: {}, ref: "end" } : [null, "end", "phoenix", "heartbeat", {}];
  raw.send(ask);
  const { ref, topic } = parts(await raw.frame("the answer to the last heartbeat"));
  assert.deepEqual([ref, topic], ["end", "phoenix"], "nothing more comes");
}

async function replayRefused(recorded, address, by) {
  const [, status] = /^HTTP (\d+)/.exec(recorded.lines[0].text);
  await assert.rejects(
    by.open(address).then((raw) => raw.close()),
    (error) => {
      assert.ok(error instanceof HandshakeRefused, error.message);
      assert.equal(error.status, Number(status));
      assert.equal(error.body, "", "empty body");
      return true;
    });
}
