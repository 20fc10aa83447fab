/*
 * seance.js - a client for state that lives on the server
 *
 *     import { connect } from "./seance.js";
 *     const list = connect("/socket").channel("todos:home");
 *     list.onchange = (state) => render(state);
 *     await list.push("add", { title: "Buy candles" });
 *
 * An ES module without dependencies, for browsers and for Node.  seance.d.ts says what all of it does.
 *
 * Phoenix's frames are spoken, [joinRef, ref, topic, event, payload]; a transport carries them.  What is pushed
 * waits in its channel, in order, until the server has answered it.
 */
const HEARTBEAT_MS = 30000;
const ANSWER_MS = 10000; // until the first answer on a connection
const JOIN_MS = 10000;
const STEADY_MS = 5000; // a connection that lived so long starts the back-off anew
const CONNECT_MS = [10, 50, 100, 150, 200, 250, 500, 1000, 2000, 5000];
const REJOIN_MS = [1000, 2000, 5000, 10000];
const EVENTS_MAX = 1000; // waiting in a channel

export class Refused extends Error {
  constructor(reason) {
    super(typeof reason === "string" ? reason : reason?.reason ?? reason?.message ?? JSON.stringify(reason));
    this.name = "Refused";
    this.reason = reason;
  }
}

export const connect = (url, options) => new Socket(url, options);

/* The nth delay of a back-off, counted from 1; the last one for ever. */
const delay = (delays, tries) => delays[Math.min(tries, delays.length) - 1];
const valueOf = (given) => (typeof given === "function" ? given() : given) ?? {};

/*
 * A transport: gives { send(frame), close() } and calls on.open(), on.frame(frame), on.closed(); what it calls
 * after close() is ignored.  address(path) is a URL below the mount.
 */
function webSocketTransport(address, on, { WebSocket = globalThis.WebSocket }) {
  const socket = new WebSocket(address("/websocket").href.replace("http", "ws"));
  socket.onopen = on.open;
  socket.onmessage = ({ data }) => on.frame(JSON.parse(data));
  socket.onerror = () => {};
  socket.onclose = on.closed;
  return { send: (frame) => socket.send(JSON.stringify(frame)), close: () => socket.close() };
}

class Socket {
  status = "closed";
  onstatus = null;

  #url;
  #options;
  #link; // the transport in use
  #channels = new Set();
  #replies = new Map(); // ref -> function(payload)
  #ref = 0;
  #tries = 0;
  #openedAt;
  #heard; // the last heartbeat was answered
  #heartbeatTimer;
  #retryTimer;
  #ended = false;

  constructor(url, options = {}) {
    this.#url = url;
    this.#options = options;
    this.#connect();
    globalThis.addEventListener?.("online", this.#online);
  }

  channel(topic, payload) {
    const channel = new Channel(topic, payload, {
      send: (...frame) => this.#send(...frame),
      gone: () => this.#channels.delete(channel),
    });
    this.#channels.add(channel);
    if (this.status === "open") channel._opened();
    return channel;
  }

  disconnect() {
    this.#ended = true;
    globalThis.removeEventListener?.("online", this.#online);
    clearTimeout(this.#retryTimer);
    this.#link.end();
    for (const channel of this.#channels) channel._ended("disconnected");
  }

  #online = () => this.status === "closed" && !this.#ended && this.#connect();

  #address(path, params) {
    const url = new URL(this.#url, globalThis.location?.href);
    url.protocol = url.protocol.replace("ws", "http");
    url.pathname = url.pathname.replace(/\/?$/, path);
    for (const [name, value] of Object.entries(params)) url.searchParams.set(name, value);
    url.searchParams.set("vsn", "2.0.0");
    return url;
  }

  #connect() {
    clearTimeout(this.#retryTimer);
    this.#setStatus("connecting");
    this.#link = this.#dial(webSocketTransport, {
      opened: () => this.#opened(),
      frame: (frame) => this.#receive(frame),
      lost: () => this.#dropped(),
    });
  }

  /* A transport in its time: on.opened(), soon the first on.frame(frame), on.lost() at its end. */
  #dial(transport, on) {
    const params = valueOf(this.#options.params);
    let over = false;
    let carrier;
    const end = () => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      carrier?.close();
      on.lost();
    };
    const timer = setTimeout(end, ANSWER_MS);
    const frame = (frame) => {
      if (over) return;
      clearTimeout(timer);
      on.frame(frame);
    };
    try {
      const address = (path) => this.#address(path, params);
      carrier = transport(address, { open: () => over || on.opened(), frame, closed: end }, this.#options);
    } catch {
      setTimeout(end); // later, as every other end
    }
    return { end, send: (frame) => over || carrier.send(frame) };
  }

  #opened() {
    this.#openedAt = Date.now();
    this.#heard = true;
    this.#heartbeatTimer = setInterval(() => this.#heartbeat(), HEARTBEAT_MS);
    this.#setStatus("open");
    this.#heartbeat(); // first, so that no slow join delays the first answer
    for (const channel of this.#channels) channel._opened();
  }

  #dropped() {
    clearInterval(this.#heartbeatTimer);
    this.#replies.clear();
    if (this.status === "open" && Date.now() - this.#openedAt > STEADY_MS) this.#tries = 0;
    if (!this.#ended) this.#retryTimer = setTimeout(() => this.#connect(), delay(CONNECT_MS, ++this.#tries));
    this.#setStatus("closed");
    for (const channel of this.#channels) channel._closed();
  }

  #setStatus(status) {
    if (this.status === status) return;
    this.status = status;
    this.onstatus?.(status);
  }

  /* Sends a frame; onReply, if given, gets the reply's payload.  Returns its ref, which is a join's joinRef. */
  #send(joinRef, topic, event, payload, onReply) {
    const ref = String(++this.#ref);
    if (onReply) this.#replies.set(ref, onReply);
    this.#link.send([joinRef === undefined ? ref : joinRef, ref, topic, event, payload]);
    return ref;
  }

  /* Asks whether the other side is still there; without an answer until the next time, it is not. */
  #heartbeat() {
    if (!this.#heard) return this.#link.end();
    this.#heard = false;
    this.#send(null, "phoenix", "heartbeat", {}, () => (this.#heard = true));
  }

  #receive([joinRef, ref, topic, event, payload]) {
    const onReply = event === "phx_reply" && this.#replies.get(ref);
    if (onReply) {
      this.#replies.delete(ref);
      onReply(payload);
    } else for (const channel of this.#channels) if (channel.topic === topic) channel._receive(joinRef, event, payload);
  }
}

class Channel {
  state = undefined;
  version = undefined;
  status = "joining";
  present = {};
  onstatus = null;
  onchange = null;
  onerror = null;
  onpresent = null;

  #socket;
  #payload;
  #joinRef = null;
  #joinTimer;
  #rejoinTimer;
  #tries = 0;
  #stale = false; // the whole state has been asked for
  #events = new Set(); // pushed and not answered, in order
  #listeners = new Map(); // name -> Set of functions

  constructor(topic, payload, socket) {
    this.topic = topic;
    this.#payload = payload;
    this.#socket = socket;
  }

  on(name, listener) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(listener);
    return () => this.#listeners.get(name).delete(listener);
  }

  push(name, payload = {}) {
    return new Promise((resolve, reject) => {
      if (this.status === "left") throw new Error(`${this.topic} was left`);
      if (this.#events.size === EVENTS_MAX) throw new Error(`too many events wait for ${this.topic}`);
      const waiting = { name, payload: JSON.parse(JSON.stringify(payload)), resolve, reject, sent: false };
      this.#events.add(waiting);
      if (this.status === "joined") this.#sendEvent(waiting);
    });
  }

  leave() {
    if (this.status === "left") return;
    if (this.#joinRef !== null) this.#socket.send(this.#joinRef, this.topic, "phx_leave", {});
    this.#socket.gone();
    this._ended("left");
  }

  /* --- called by the socket --- */

  _opened() {
    this.#join();
  }

  _closed() {
    this.#end("joining");
  }

  _ended(why) {
    this.#end("left");
    for (const { reject } of this.#events) reject(new Error(`${this.topic} was ${why}`));
    this.#events.clear();
  }

  _receive(joinRef, event, payload) {
    if (this.#joinRef === null || (joinRef !== null && joinRef !== this.#joinRef)) return;
    if (event === "seance:patch") this.#patch(payload);
    else if (event === "seance:change") this.#change(payload);
    else if (event === "seance:event") this.#event(payload);
    else if (event === "seance:error") this.onerror?.(payload);
    else if (event === "presence_state") this.#show({ joins: payload, leaves: this.present });
    else if (event === "presence_diff") this.#show(payload);
    else if (event === "phx_error" || event === "phx_close") this.#lost("lost");
  }

  /* Who comes and goes: metas are told apart by their phx_ref. */
  #show({ joins, leaves }) {
    const present = { ...this.present };
    const without = (key, metas) => (present[key] ?? []).filter((meta) => !metas.some(({ phx_ref }) => phx_ref === meta.phx_ref));
    for (const [key, entry] of Object.entries(leaves)) {
      present[key] = without(key, entry.metas ?? entry);
      if (!present[key].length) delete present[key];
    }
    for (const [key, { metas }] of Object.entries(joins)) present[key] = [...without(key, metas), ...metas];
    this.present = present;
    this.onpresent?.(present);
  }

  /* --- joining --- */

  #join() {
    clearTimeout(this.#rejoinTimer);
    this.#stale = false;
    this.#setStatus("joining");
    this.#joinTimer = setTimeout(() => this.#lost("lost", new Error("the join was not answered")), JOIN_MS);
    const ref = this.#socket.send(undefined, this.topic, "phx_join", valueOf(this.#payload), ({ status, response }) => {
      if (this.#joinRef !== ref) return;
      clearTimeout(this.#joinTimer);
      if (status !== "ok") return this.#lost("refused", new Refused(response));
      this.#tries = 0;
      for (const waiting of this.#events) this.#sendEvent(waiting);
      this.#setStatus("joined");
    });
    this.#joinRef = ref;
  }

  #lost(status, reason) {
    this.#end(status, reason);
    if (this.status === status) this.#rejoinTimer = setTimeout(() => this.#join(), delay(REJOIN_MS, ++this.#tries));
  }

  #end(status, reason) {
    clearTimeout(this.#joinTimer);
    clearTimeout(this.#rejoinTimer);
    this.#joinRef = null;
    for (const waiting of this.#events) if (waiting.sent) this.#settle(waiting, "reject", new Error(`${this.topic} was lost before the answer`));
    this.#setStatus(status, reason);
  }

  #setStatus(status, reason) {
    if (this.status === status) return;
    this.status = status;
    this.onstatus?.(status, reason);
  }

  /* --- events --- */

  /* The server answers one after the other, but not what succeeded: a heartbeat behind it tells. */
  #sendEvent(waiting) {
    waiting.sent = true;
    const answered = ({ status, response }) => {
      if (status === "ok") this.#settle(waiting, "resolve");
      else this.#settle(waiting, "reject", new Refused(response));
    };
    this.#socket.send(this.#joinRef, this.topic, `seance:event:${waiting.name}`, waiting.payload, answered);
    this.#socket.send(null, "phoenix", "heartbeat", {}, answered);
  }

  #settle(waiting, how, value) {
    if (this.#events.delete(waiting)) waiting[how](value);
  }

  /* --- what the server says --- */

  #change({ state, version }) {
    this.#stale = false;
    this.state = state;
    this.version = version;
    this.onchange?.(state, version);
  }

  #patch({ operations, version }) {
    if (this.#stale) return;
    let state;
    try {
      if (version !== this.version + 1 && version !== 0) throw new Error("a gap");
      state = applyPatch(this.state, operations);
    } catch {
      this.#stale = true;
      this.#socket.send(this.#joinRef, this.topic, "seance:refresh", {});
      return;
    }
    this.#change({ state, version });
  }

  #event({ name, detail }) {
    for (const listener of this.#listeners.get(name) ?? []) listener(detail);
  }
}

/* RFC 6902, all operations.  What they touch is copied once, the rest is shared with the old state. */
export function applyPatch(state, operations) {
  const top = { "": state }; // so that every path has a container
  const owned = new Set([top]); // copies, which may be changed

  const own = (value) => {
    if (value === null || typeof value !== "object") throw new Error("a path leads through what is no container");
    if (owned.has(value)) return value;
    const copy = Array.isArray(value) ? [...value] : { ...value };
    owned.add(copy);
    return copy;
  };
  /* The container that a pointer's last token is in, and the token (RFC 6901). */
  const place = (path) => {
    const keys = path.split("/").map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
    if (keys[0] || keys.includes("__proto__")) throw new Error(`no good pointer: ${path}`);
    const last = keys.pop();
    let container = top;
    for (const key of keys) container = container[key] = own(member(container, key));
    return [container, last];
  };
  const get = (path) => member(...place(path));
  const add = (path, value) => {
    const [container, key] = place(path);
    if (!Array.isArray(container)) return (container[key] = value);
    const end = String(container.length);
    if (key !== "-" && key !== end) member(container, key);
    container.splice(key === "-" ? end : key, 0, value);
  };
  const remove = (path) => {
    const [container, key] = place(path);
    const value = member(container, key);
    if (Array.isArray(container)) container.splice(key, 1);
    else delete container[key];
    return value;
  };

  for (const { op, path, from, value } of operations) {
    if (op === "add") add(path, value);
    else if (op === "remove") remove(path);
    else if (op === "replace") {
      const [container, key] = place(path);
      member(container, key);
      container[key] = value;
    } else if (op === "move") add(path, remove(from));
    else if (op === "copy") add(path, structuredClone(get(from)));
    else if (op !== "test") throw new Error(`unknown operation: ${op}`);
    else if (!equal(get(path), value)) throw new Error(`test failed at ${path}`);
  }
  return top[""] ?? null;
}

function member(container, key) {
  if (!Object.hasOwn(container, key) || (Array.isArray(container) && key === "length")) throw new Error(`nothing there: ${key}`);
  return container[key];
}

function equal(a, b) {
  if (a === b) return true;
  if (!a || !b || typeof a !== "object" || typeof b !== "object" || Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && equal(a[key], b[key]));
}
