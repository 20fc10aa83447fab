/*
 * seance.js - a client for state that lives on the server
 *
 * One WebSocket carries any number of channels.  Each channel has a state, which the server keeps and
 * changes; here it is a plain value that is replaced by a new one at each change.  The protocol is
 * Phoenix's, version 2, with the events seance:change, seance:patch (RFC 6902), seance:event and
 * seance:error.  An ES module without dependencies, for browsers and for Node.
 *
 *     import { connect } from "./seance.js";
 *
 *     const socket = connect("/socket", { params: { token: "..." } });
 *     socket.onstatus = (status) => console.log(status);       // "connecting", "open", "closed"
 *
 *     const list = socket.channel("todos:home", { any: "payload of the join" });
 *     list.onchange = (state, version) => render(state);
 *     list.on("said", (detail) => console.log(detail));        // an event from the server
 *     await list.push("add", { title: "Buy candles" });        // an event to the server
 *
 * connect(url, options)         A socket, connecting.  url is the mount: a path of this site, or
 *                               http(s):// or ws(s)://.  options: params (an object, or a function
 *                               that is asked at each attempt), WebSocket (another constructor).
 *   socket.status               "connecting", "open" or "closed"; onstatus(status) at each change.
 *                               It connects again by itself until disconnect() is called.
 *   socket.channel(topic, payload)   A channel, joining.  payload: as params.
 *   socket.disconnect()         Ends it for good.
 *
 * channel.state, .version       The present state; undefined before the first.  Not to be changed in
 *                               place.  What a patch does not touch stays the same object.
 *   .onchange(state, version)   after each change of state or version
 *   .status                     "joining", "joined", "refused", "lost" or "left";
 *                               onstatus(status, reason) at each change.  After "refused" and
 *                               "lost" it joins again by itself.
 *   .on(name, function)         listens to an event from the server; returns a function that stops it
 *   .present                    who is there, {key: [meta, ...]}, on topics with presence; else {}.
 *                               onpresent(present) after each change
 *   .onerror(payload)           an error that the server tells (seance:error)
 *   .push(name, payload)        sends an event; returns a promise: fulfilled when the server has
 *                               done it (its events and its change have been handed over then), rejected
 *                               with a Refused, whose `reason` is what the server says, or with an
 *                               Error when there is no connection (nothing was sent) or it broke
 *                               (it may have been done or not).
 *   .leave()                    ends the channel
 *
 * applyPatch(state, operations) RFC 6902, all operations; returns the new state, leaves the old one as
 *                               it is; throws when an operation cannot be applied.
 *
 * Versions are checked: a patch is applied when its version is the next one, or 0 (the server's
 * versions roll over).  After a gap the whole state is asked for, once, and patches are left until it
 * comes.
 */

const HEARTBEAT_MS = 30000;
const JOIN_TIMEOUT_MS = 10000;
const STEADY_MS = 5000; // a connection that lived so long starts the back-off anew
const RECONNECT_MS = [10, 50, 100, 150, 200, 250, 500, 1000, 2000, 5000];
const REJOIN_MS = [1000, 2000, 5000, 10000];

export class Refused extends Error {
  constructor(reason) {
    super(typeof reason === "string" ? reason : reason?.reason ?? reason?.message ?? JSON.stringify(reason));
    this.name = "Refused";
    this.reason = reason;
  }
}

export function connect(url, options) {
  return new Socket(url, options);
}

/* The nth delay of a back-off, counted from 1; the last one for ever. */
const delay = (delays, tries) => delays[Math.min(tries, delays.length) - 1];

const valueOf = (given) => (typeof given === "function" ? given() : given) ?? {};

class Socket {
  status = "closed";
  onstatus = null;

  #url;
  #options;
  #webSocket = null;
  #channels = new Set();
  #replies = new Map(); // ref -> function(payload), for what waits for a reply
  #ref = 0;
  #tries = 0;
  #retryTimer;
  #heartbeatTimer;
  #heartbeatOut = false;
  #openedAt = 0;
  #ended = false;
  #fence = null; // what the next heartbeat's answer will confirm
  #fenceOut = false; // one is on its way

  constructor(url, options = {}) {
    this.#url = url;
    this.#options = options;
    this.#open();
    globalThis.addEventListener?.("online", this.#online);
  }

  channel(topic, payload) {
    const channel = new Channel(topic, payload, {
      open: () => this.status === "open",
      send: (...frame) => this.#send(...frame),
      forget: (ref) => this.#replies.delete(ref),
      confirmed: () => this.#confirmed(),
      gone: () => this.#channels.delete(channel),
    });
    this.#channels.add(channel);
    if (this.status === "open") channel._opened();
    return channel;
  }

  disconnect() {
    this.#ended = true;
    clearTimeout(this.#retryTimer);
    globalThis.removeEventListener?.("online", this.#online);
    this.#drop();
  }

  #online = () => {
    if (this.status !== "closed" || this.#ended) return;
    clearTimeout(this.#retryTimer);
    this.#open();
  };

  #address() {
    const url = new URL(this.#url, globalThis.location?.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.pathname = url.pathname.replace(/\/?$/, "/websocket");
    for (const [name, value] of Object.entries(valueOf(this.#options.params))) url.searchParams.set(name, value);
    url.searchParams.set("vsn", "2.0.0");
    return url.href;
  }

  #open() {
    const WebSocket = this.#options.WebSocket ?? globalThis.WebSocket;
    const webSocket = new WebSocket(this.#address());
    const ours = (handler) => (event) => this.#webSocket === webSocket && handler(event);

    this.#webSocket = webSocket;
    webSocket.onopen = ours(() => this.#opened());
    webSocket.onmessage = ours(({ data }) => this.#receive(data));
    webSocket.onerror = () => {};
    webSocket.onclose = ours(() => this.#drop());
    this.#setStatus("connecting");
  }

  #opened() {
    this.#openedAt = Date.now();
    this.#heartbeatOut = false;
    this.#heartbeatTimer = setInterval(() => this.#heartbeat(), HEARTBEAT_MS);
    this.#setStatus("open");
    for (const channel of this.#channels) channel._opened();
  }

  /* The connection is over, from whichever side. */
  #drop() {
    const webSocket = this.#webSocket;

    if (!webSocket) return;
    this.#webSocket = null;
    clearInterval(this.#heartbeatTimer);
    webSocket.close();
    this.#replies.clear();
    this.#fence?.reject(new Error("the connection was lost before the answer"));
    this.#fence = null;
    this.#fenceOut = false;
    if (this.status === "open" && Date.now() - this.#openedAt > STEADY_MS) this.#tries = 0;
    if (!this.#ended) this.#retryTimer = setTimeout(() => this.#open(), delay(RECONNECT_MS, ++this.#tries));
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
    this.#webSocket.send(JSON.stringify([joinRef === undefined ? ref : joinRef, ref, topic, event, payload]));
    return ref;
  }

  /* Asks whether the other side is still there; without an answer until the next time, it is not. */
  #heartbeat() {
    if (this.#heartbeatOut) return this.#drop();
    this.#heartbeatOut = true;
    this.#sendHeartbeat(() => (this.#heartbeatOut = false));
  }

  #sendHeartbeat(onReply) {
    this.#send(null, "phoenix", "heartbeat", {}, onReply);
  }

  /*
   * A promise for: all that was sent before is done.  The server answers a socket's messages one after
   * the other and says nothing of an event that succeeded; so a heartbeat behind it tells.  One is on
   * its way at a time, and confirms all events before it.
   */
  #confirmed() {
    if (!this.#fence) {
      this.#fence = {};
      this.#fence.promise = new Promise((resolve, reject) => Object.assign(this.#fence, { resolve, reject }));
      this.#fence.promise.catch(() => {});
      if (!this.#fenceOut) queueMicrotask(() => this.#sendFence());
    }
    return this.#fence.promise;
  }

  #sendFence() {
    const fence = this.#fence;

    if (!fence || !this.#webSocket) return;
    this.#fence = null;
    this.#fenceOut = true;
    this.#sendHeartbeat(() => {
      this.#fenceOut = false;
      fence.resolve();
      if (this.#fence) this.#sendFence();
    });
  }

  #receive(data) {
    const [joinRef, ref, topic, event, payload] = JSON.parse(data);
    const onReply = event === "phx_reply" ? this.#replies.get(ref) : undefined;

    if (onReply) {
      this.#replies.delete(ref);
      onReply(payload);
      return;
    }
    for (const channel of this.#channels) if (channel.topic === topic) channel._receive(joinRef, event, payload);
  }
}

class Channel {
  state = undefined;
  version = undefined;
  status = "joining";
  onstatus = null;
  onchange = null;
  onerror = null;
  present = {};
  onpresent = null;

  #socket;
  #payload;
  #joinRef = null;
  #joinTimer;
  #rejoinTimer;
  #tries = 0;
  #stale = false; // the whole state has been asked for
  #pushes = new Set(); // functions that reject what waits for an answer
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
    if (this.status !== "joined") return Promise.reject(new Error(`not connected to ${this.topic}`));
    return new Promise((resolve, reject) => {
      const settle = (how, value) => {
        this.#socket.forget(ref);
        this.#pushes.delete(broken);
        how(value);
      };
      const broken = (error) => settle(reject, error);
      const ref = this.#socket.send(this.#joinRef, this.topic, `seance:event:${name}`, payload, ({ status, response }) =>
        status === "ok" ? settle(resolve) : settle(reject, new Refused(response)));

      this.#pushes.add(broken);
      this.#socket.confirmed().then(() => settle(resolve), broken);
    });
  }

  leave() {
    if (this.status === "left") return;
    clearTimeout(this.#joinTimer);
    clearTimeout(this.#rejoinTimer);
    if (this.#socket.open() && this.#joinRef !== null) this.#socket.send(this.#joinRef, this.topic, "phx_leave", {});
    this.#socket.gone();
    this.#end("left");
  }

  /* --- called by the socket --- */

  _opened() {
    this.#join();
  }

  _closed() {
    clearTimeout(this.#joinTimer);
    clearTimeout(this.#rejoinTimer);
    this.#end("joining");
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
    const refs = (metas) => new Set(metas.map(({ phx_ref }) => phx_ref));
    const metasOf = (entry) => entry.metas ?? entry;
    const present = { ...this.present };
    for (const [key, entry] of Object.entries(leaves)) {
      const gone = refs(metasOf(entry));
      present[key] = (present[key] ?? []).filter(({ phx_ref }) => !gone.has(phx_ref));
      if (!present[key].length) delete present[key];
    }
    for (const [key, { metas }] of Object.entries(joins)) {
      const come = refs(metas);
      present[key] = [...(present[key] ?? []).filter(({ phx_ref }) => !come.has(phx_ref)), ...metas];
    }
    this.present = present;
    this.onpresent?.(present);
  }

  /* --- joining --- */

  #join() {
    clearTimeout(this.#rejoinTimer);
    this.#stale = false;
    this.#setStatus("joining");
    this.#joinTimer = setTimeout(() => this.#lost("lost", new Error("the join was not answered")), JOIN_TIMEOUT_MS);
    const ref = this.#socket.send(undefined, this.topic, "phx_join", valueOf(this.#payload), ({ status, response }) => {
      if (this.#joinRef !== ref) return;
      clearTimeout(this.#joinTimer);
      if (status !== "ok") return this.#lost("refused", new Refused(response));
      this.#tries = 0;
      this.#setStatus("joined");
    });
    this.#joinRef = ref;
  }

  #lost(status, reason) {
    clearTimeout(this.#joinTimer);
    this.#end(status, reason);
    if (this.status === status) this.#rejoinTimer = setTimeout(() => this.#join(), delay(REJOIN_MS, ++this.#tries));
  }

  #end(status, reason) {
    this.#joinRef = null;
    for (const broken of this.#pushes) broken(new Error(`${this.topic} was ${status === "left" ? "left" : "lost"} before the answer`));
    this.#setStatus(status, reason);
  }

  #setStatus(status, reason) {
    if (this.status === status) return;
    this.status = status;
    this.onstatus?.(status, reason);
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
    if (version !== this.version + 1 && version !== 0) return this.#refresh();
    let state;
    try {
      state = applyPatch(this.state, operations);
    } catch {
      return this.#refresh();
    }
    this.#change({ state, version });
  }

  #refresh() {
    this.#stale = true;
    this.#socket.send(this.#joinRef, this.topic, "seance:refresh", {});
  }

  #event({ name, detail }) {
    for (const listener of this.#listeners.get(name) ?? []) listener(detail);
  }
}

/* --- RFC 6902 --- */

export function applyPatch(state, operations) {
  const draft = new Draft(state);

  for (const operation of operations) draft.apply(operation);
  return draft.root;
}

/* A value in change: what an operation touches is copied once, the rest is shared with the old one. */
class Draft {
  #copies = new Set(); // containers that belong to this draft alone

  constructor(root) {
    this.root = root;
  }

  apply({ op, path, from, value }) {
    if (op === "add") this.#add(path, value);
    else if (op === "remove") this.#remove(path);
    else if (op === "replace") this.#replace(path, value);
    else if (op === "move") this.#move(from, path);
    else if (op === "copy") this.#add(path, structuredCopy(this.#get(from)));
    else if (op === "test") this.#test(path, value);
    else throw new Error(`unknown operation: ${op}`);
  }

  #add(path, value) {
    const [parent, key] = this.#place(path);

    if (!parent) this.root = value;
    else if (Array.isArray(parent)) parent.splice(key === "-" ? parent.length : index(key, parent.length), 0, value);
    else parent[key] = value;
  }

  #remove(path) {
    const value = this.#get(path);
    const [parent, key] = this.#place(path);

    if (!parent) this.root = null;
    else if (Array.isArray(parent)) parent.splice(Number(key), 1);
    else delete parent[key];
    return value;
  }

  #replace(path, value) {
    this.#get(path);
    const [parent, key] = this.#place(path);

    if (!parent) this.root = value;
    else parent[key] = value;
  }

  #move(from, path) {
    if (path !== from && path.startsWith(`${from}/`)) throw new Error(`${from} cannot move into itself`);
    this.#add(path, this.#remove(from));
  }

  #test(path, value) {
    if (!equal(this.#get(path), value)) throw new Error(`test failed at ${path}`);
  }

  #get(path) {
    return tokens(path).reduce(member, this.root);
  }

  /* The container that a path's last token is in, made this draft's own, and the token. */
  #place(path) {
    const keys = tokens(path);
    const last = keys.pop();

    if (last === undefined) return [];
    this.root = this.#own(this.root);
    let container = this.root;
    for (const key of keys) container = container[key] = this.#own(member(container, key));
    return [container, last];
  }

  #own(value) {
    if (value === null || typeof value !== "object") throw new Error("a path leads through what is no container");
    if (this.#copies.has(value)) return value;
    const copy = Array.isArray(value) ? value.slice() : { ...value };
    this.#copies.add(copy);
    return copy;
  }
}

/* The tokens of a JSON pointer (RFC 6901). */
function tokens(path) {
  if (path === "") return [];
  if (typeof path !== "string" || path[0] !== "/") throw new Error(`not a pointer: ${path}`);
  return path.slice(1).split("/").map((token) => {
    const key = token.replaceAll("~1", "/").replaceAll("~0", "~");
    if (key === "__proto__") throw new Error("__proto__ is refused");
    return key;
  });
}

function member(container, key) {
  if (Array.isArray(container)) return container[index(key, container.length - 1)];
  if (container === null || typeof container !== "object" || !Object.prototype.hasOwnProperty.call(container, key))
    throw new Error(`nothing there: ${key}`);
  return container[key];
}

function index(key, most) {
  const i = /^(?:0|[1-9][0-9]*)$/.test(key) ? Number(key) : NaN;
  if (!(i <= most)) throw new Error(`not an index here: ${key}`);
  return i;
}

function structuredCopy(value) {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(structuredCopy);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, structuredCopy(inner)]));
}

function equal(a, b) {
  if (a === b) return true;
  if (a === null || b === null || typeof a !== "object" || typeof b !== "object") return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length &&
    keys.every((key) => Object.prototype.hasOwnProperty.call(b, key) && equal(a[key], b[key]));
}
