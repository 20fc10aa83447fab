/*
 * long_poll - Phoenix's long-poll transport without a client: requests, and what they are answered
 *
 *     const session = await LongPoll.open(`${system.url}/socket/longpoll?vsn=2.0.0`);
 *     await session.join("counter:a");
 *     await session.send(["1", "2", "counter:a", "seance:event:inc", {}]);
 *     const frames = await session.ask();          // of the next answer; none: it waited 10 s in vain
 *
 * Nothing is repeated and nothing is forgiven: what is not as it should be is thrown.
 */
import { request as httpRequest } from "node:http";
import { patience, within } from "./wait.mjs";

/*
 * request - one request on a connection of its own: {status, headers, text, body, ms}; body is the JSON, if it is some
 *
 * options: method, headers, body (text or bytes), signal
 */
export function request(url, { method = "GET", headers = {}, body, signal } = {}, ms = 20000) {
  const began = performance.now();
  const answer = new Promise((resolve, reject) => {
    const asked = httpRequest(url, { method, headers, signal, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part) => (text += part));
      response.on("error", reject);
      response.on("end", () => {
        const { statusCode: status, headers } = response;
        let json;
        try {
          json = JSON.parse(text);
        } catch {
          // it is none
        }
        resolve({ status, headers, text, body: json, ms: performance.now() - began });
      });
    });
    asked.on("error", reject);
    asked.end(body);
  });
  return within(answer, `the answer to ${method} ${url.slice(0, 200)}`, ms);
}

/* ndjson - options of a POST with these frames; what is text is a line as it stands */
export const ndjson = (...frames) => ({
  method: "POST",
  headers: { "content-type": "application/x-ndjson" },
  body: frames.map((frame) => (typeof frame === "string" ? frame : JSON.stringify(frame))).join("\n"),
});

export class LongPoll {
  frames = []; // told, and not taken yet

  constructor(url, token) {
    Object.assign(this, { url, token });
  }

  /* open - a new session */
  static async open(url) {
    const { status, text, body } = await request(url);
    if (status !== 200 || body?.status !== 410 || !body.token || body.messages.length) throw new Error(`a new session: ${status} ${text}`);
    return new LongPoll(url, body.token);
  }

  at(token = this.token) {
    return `${this.url}&token=${encodeURIComponent(token)}`;
  }

  /* get - a question with the present token, or another; the answer as it is */
  get(token = this.token, options = {}) {
    return request(this.at(token), options);
  }

  post(...frames) {
    return request(this.at(), ndjson(...frames));
  }

  /* send - frames by one POST, which is to be answered {"status":200} */
  async send(...frames) {
    const { status, text } = await this.post(...frames);
    if (status !== 200 || text !== '{"status":200}') throw new Error(`a POST: ${status} ${text}`);
  }

  /* ask - the frames of the next answer, whose token counts from now on */
  async ask(options) {
    const { status, text, body } = await this.get(this.token, options);
    if (status !== 200 || ![200, 204].includes(body?.status) || (body.status === 200) !== body.messages.length > 0) throw new Error(`a question: ${status} ${text.slice(0, 1000)}`);
    this.token = body.token;
    return body.messages.map((message) => JSON.parse(message));
  }

  /* frame - the next one, whatever answer it is in; options: of the questions */
  async frame(what = "the next frame", ms = 15000, options = {}) {
    const end = performance.now() + ms * patience;
    while (this.frames.length === 0) {
      if (performance.now() > end) throw new Error(`waited ${ms * patience} ms in vain for ${what}`);
      this.frames = await this.ask(options);
    }
    return this.frames.shift();
  }

  /* join - joins and gives the full state's payload, {state, version} */
  async join(topic, payload = {}, ref = "1") {
    await this.send([ref, ref, topic, "phx_join", payload]);
    const reply = await this.frame(`the reply to the join of ${topic}`);
    if (reply[3] !== "phx_reply" || reply[4].status !== "ok") throw new Error(`join of ${topic}: got ${JSON.stringify(reply)}`);
    const state = await this.frame(`the state of ${topic}`);
    if (!/:change$/.test(state[3])) throw new Error(`state of ${topic}: got ${JSON.stringify(state)}`);
    return state[4];
  }
}
