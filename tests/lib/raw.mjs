/*
 * raw - a WebSocket client that hides nothing: what comes queues up and is taken one by one
 *
 *     const raw = await Raw.open(`${system.ws}/socket/websocket?vsn=2.0.0`);
 *     raw.send(["1", "1", "counter:a", "phx_join", {}]);
 *     const frame = await raw.frame();
 *     await raw.close();
 *
 * An item is {frame} (a text frame, parsed), {text} (one that is no JSON), {binary}, {pong} or
 * {close, reason}.
 */
import WebSocket from "ws";
import { within } from "./wait.mjs";

/* Handshake - what Raw.open throws when the answer is not 101 */
export class HandshakeRefused extends Error {
  constructor(status, headers, body) {
    super(`handshake answered with ${status} ${JSON.stringify(body)}`);
    Object.assign(this, { status, headers, body });
  }
}

export class Raw {
  #items = [];
  #waiting = [];

  /* open - options: protocols, and what ws takes: headers, origin, ... */
  static open(url, { protocols = [], ms = 5000, ...options } = {}) {
    const raw = new Raw();
    const socket = new WebSocket(url, protocols, { perMessageDeflate: false, ...options });
    raw.socket = socket;
    raw.closed = false;
    const opened = new Promise((resolve, reject) => {
      socket.on("open", () => resolve(raw));
      socket.on("error", (error) => reject(error));
      socket.on("unexpected-response", (request, response) => {
        const parts = [];
        response.on("data", (part) => parts.push(part));
        response.on("end", () => reject(new HandshakeRefused(response.statusCode, response.headers, Buffer.concat(parts).toString())));
      });
    });
    socket.on("message", (data, isBinary) => {
      if (isBinary) return raw.#put({ binary: data });
      const text = data.toString();
      try {
        raw.#put({ frame: JSON.parse(text), text });
      } catch {
        raw.#put({ text });
      }
    });
    socket.on("pong", (data) => raw.#put({ pong: data.toString() }));
    socket.on("close", (code, reason) => {
      raw.closed = true;
      raw.#put({ close: code, reason: reason.toString() });
    });
    return within(opened, `the handshake of ${url}`, ms).catch((error) => {
      socket.terminate();
      throw error;
    });
  }

  #put(item) {
    const taker = this.#waiting.shift();
    if (taker) taker(item);
    else this.#items.push(item);
  }

  /* item - the next thing that comes */
  item(what = "the next frame", ms = 5000) {
    if (this.#items.length) return Promise.resolve(this.#items.shift());
    let taker;
    const next = new Promise((resolve) => this.#waiting.push((taker = resolve)));
    return within(next, what, ms).catch((error) => {
      const at = this.#waiting.indexOf(taker);
      if (at >= 0) this.#waiting.splice(at, 1);
      throw error;
    });
  }

  /* frame - the next thing, which must be a JSON text frame */
  async frame(what, ms) {
    const item = await this.item(what, ms);
    if (item.frame === undefined) throw new Error(`${what ?? "a frame"}: got ${JSON.stringify(item)}`);
    return item.frame;
  }

  /* closing - the next thing, which must be the end: {close, reason} */
  async closing(what = "the close", ms) {
    const item = await this.item(what, ms);
    if (item.close === undefined) throw new Error(`${what}: got ${JSON.stringify(item)}`);
    return item;
  }

  send(frame) {
    this.socket.send(JSON.stringify(frame));
  }

  text(text) {
    this.socket.send(text, { binary: false });
  }

  /* join - joins and gives the full state's payload, {state, version} */
  async join(topic, payload = {}, ref = "1") {
    this.send([ref, ref, topic, "phx_join", payload]);
    const reply = await this.frame(`the reply to the join of ${topic}`);
    if (reply[3] !== "phx_reply" || reply[4].status !== "ok") throw new Error(`join of ${topic}: got ${JSON.stringify(reply)}`);
    const state = await this.frame(`the state of ${topic}`);
    if (!/:change$/.test(state[3])) throw new Error(`state of ${topic}: got ${JSON.stringify(state)}`);
    return state[4];
  }

  /* close - closes and waits for the end, whatever comes before it */
  async close() {
    if (this.closed) return;
    const ended = new Promise((resolve) => this.socket.on("close", resolve));
    this.socket.close(1000);
    try {
      await within(ended, "the end of the connection", 2000);
    } catch {
      this.socket.terminate();
    }
  }
}
