/*
 * exchanges - recorded requests and answers: reading them, replaying them
 */
import assert from "node:assert/strict";
import { request } from "./long_poll.mjs";
import { Tracker } from "./recording.mjs";

/*
 * parseExchanges - the cases of a file: [{name, steps}]
 *
 * A step is {ask, waits, method, path, headers, body}, {answer, waited, status, seconds, headers, body}, {names}: the
 * name of the token that was answered last, or {pause}: so many seconds.
 */
export function parseExchanges(text) {
  return text.split(/^### /m).slice(1).map((part) => {
    const end = part.indexOf("\n");
    const name = part.slice(0, end);
    return { name, steps: parseSteps(name, part.slice(end + 1)) };
  });
}

/* parseSteps - one case's body */
export function parseSteps(name, text) {
  const steps = [];
  for (const line of text.split("\n")) {
    const [, begins, method, path] = /^(C&?) ([A-Z]+) (\S+)$/.exec(line) ?? [];
    const [, ends, status, seconds] = /^(S&?) HTTP (\d+) \((.*) s\)$/.exec(line) ?? [];
    const [, , header, value] = /^([CS]) {3}([a-z-]+): (.*)$/.exec(line) ?? [];
    const [, long, longText] = /^C {3}body of (\d+) bytes: (.*)$/.exec(line) ?? [];
    const [, token] = /^# that token is (<TOKEN\d+>) below$/.exec(line) ?? [];
    const [, pause] = /^# \((\d+) s later\)$/.exec(line) ?? [];
    const step = steps.at(-1);
    if (begins) steps.push({ ask: true, waits: begins === "C&", method, path, headers: {} });
    else if (ends) steps.push({ answer: true, waited: ends === "S&", status: Number(status), seconds: Number(seconds) || 0, headers: {} });
    else if (long) step.body = filled(JSON.parse(longText), Number(long));
    else if (header === "body") step.body = step.ask ? JSON.parse(value) : value;
    else if (header) step.headers[header] = value;
    else if (token) steps.push({ names: token });
    else if (pause) steps.push({ pause: Number(pause) });
    else assert.ok(line === "" || line.startsWith("#"), `a line of case "${name}" is not understood: ${line}`);
  }
  return steps;
}

/* The text with as many a's in place of its ellipsis as make it that long. */
const filled = (text, bytes) => text.replace("…", "a".repeat(bytes - text.length + 1));

const byTime = 0.5; // seconds that a clock may be wrong

/*
 * Exchanges - replays cases one after the other: sessions go on from case to case
 *
 * headers     {name: {ours}}: headers that are otherwise here; undefined: not there
 * waiting     called until it gives true: the requests that were begun wait
 */
export class Exchanges {
  #tokens = new Map();
  #tracker = new Tracker();
  #begun = [];
  #last; // the token answered last

  constructor(url, { headers, waiting }) {
    Object.assign(this, { url, headers, waiting });
  }

  async replay({ name, steps }) {
    let answer;
    for (const step of steps) {
      const what = `${name}: ${step.ask ? `${step.method} ${step.path}` : `HTTP ${step.status} ${step.body}`}`;
      if (step.names) this.#tokens.set(step.names, this.#last);
      else if (step.pause) await new Promise((done) => setTimeout(done, step.pause * 1000));
      else if (step.answer) this.#check(step, await (step.waited ? this.#begun.shift() : answer), what);
      else if (step.waits) await this.#begin(step);
      else answer = this.#ask(step);
    }
    assert.equal(this.#begun.length, 0, `${name}: all were answered`);
  }

  #ask({ method, path, headers, body }) {
    const query = path.slice(path.indexOf("?")).replace(/<TOKEN\d+>/g, (token) => encodeURIComponent(this.#tokens.get(token) ?? token));
    return request(this.url + query, { method, headers, body }, 30000);
  }

  async #begin(step) {
    this.#begun.push(this.#ask(step));
    await this.waiting(this.#begun.length);
  }

  #check(want, got, what) {
    assert.equal(got.status, want.status, `${what}: status`);
    if (!want.waited) assert.ok(got.ms / 1000 >= want.seconds - byTime, `${what}: answered after ${Math.round(got.ms)} ms`);
    for (const [name, value] of got.status === 200 ? Object.entries(want.headers) : []) {
      const ours = this.headers[name] ? this.headers[name].ours : value;
      assert.equal(got.headers[name], ours, `${what}: ${name}`);
    }
    if (want.body === undefined || want.body === "") {
      assert.equal(got.text, "", what);
      return;
    }
    assert.ok(got.body, `${what}: got ${got.text}`);
    const { token: wantToken, messages: wantMessages, ...wantRest } = JSON.parse(want.body);
    const { token, messages, ...rest } = got.body;
    assert.deepEqual(rest, wantRest, `${what}: got ${got.text}`);
    assert.equal(token === undefined, wantToken === undefined, `${what}: a token`);
    assert.equal(messages?.length, wantMessages?.length, `${what}: got ${got.text}`);
    for (const [i, message] of (wantMessages ?? []).entries()) this.#tracker.check(JSON.parse(message), { frame: JSON.parse(messages[i]), text: messages[i] }, what);
    if (token === undefined) return;
    this.#last = token;
    if (rest.status !== 410 || !this.#tokens.has(wantToken)) this.#tokens.set(wantToken, token);
  }
}
