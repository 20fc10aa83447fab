/*
 * raw_long_poll - a long-poll session that is used as a Raw is, so that what is recorded of WebSockets can be replayed
 *
 * What is sent goes one POST after the other; a session that has ended is {close: 1011}.
 */
import { LongPoll, request } from "./long_poll.mjs";
import { HandshakeRefused } from "./raw.mjs";
import { within } from "./wait.mjs";

export class RawLongPoll {
  closed = false;
  #session;
  #sent = Promise.resolve();
  #texts = [];
  #stop = new AbortController();

  /* open - at the address of a WebSocket: .../websocket?QUERY */
  static async open(address) {
    const raw = new RawLongPoll();
    const url = address.replace(/^ws/, "http").replace("/websocket", "/longpoll").replace(/longpoll$/, "longpoll?");
    const { status, body } = await request(url);
    if (body.status === 403) throw new HandshakeRefused(403, {}, "");
    if (status !== 200 || body.status !== 410) throw new Error(`a new session: ${status} ${JSON.stringify(body)}`);
    raw.#session = new LongPoll(url, body.token);
    raw.socket = { send: (bytes, { binary }) => raw.#post(binary ? "application/x-ndjson" : "application/json", binary ? bytes.toString("base64") : bytes) };
    return raw;
  }

  #post(type, body) {
    this.#sent = this.#sent.then(async () => {
      const { text } = await request(this.#session.at(), { method: "POST", headers: { "content-type": type }, body });
      if (text === '{"status":500}') this.closed = true;
      else if (text !== '{"status":200}') throw new Error(`a POST: ${text}`);
    });
    this.#sent.catch(() => {}); // said by whoever waits for what comes of it
  }

  text(text) {
    this.#post("application/json", text);
  }

  send(frame) {
    this.text(JSON.stringify(frame));
  }

  async #next() {
    while (this.#texts.length === 0) {
      const { text, body } = await this.#session.get(this.#session.token, { signal: this.#stop.signal });
      if (text === '{"status":500}') {
        await this.#sent;
        return { close: 1011 };
      }
      this.#session.token = body.token;
      this.#texts = body.messages;
    }
    const text = this.#texts.shift();
    return { text, frame: JSON.parse(text) };
  }

  /* item - the next thing that comes */
  item(what = "the next frame", ms = 5000) {
    return within(this.#next(), what, ms);
  }

  async frame(what, ms) {
    const item = await this.item(what, ms);
    if (!item.frame) throw new Error(`${what}: got ${JSON.stringify(item)}`);
    return item.frame;
  }

  async close() {
    this.#stop.abort();
    await this.#sent;
  }
}
