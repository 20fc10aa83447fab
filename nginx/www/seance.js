/*
 * seance.js - state that lives on the server; seance.d.ts tells what is here
 *
 * A transport carries Phoenix's frames, [joinRef, ref, topic, event, payload].  What is pushed waits for its answer:
 * after a loss it is sent again under its key, and done once.
 */
const HEARTBEAT_MS = 30000;
const ANSWER_MS = 10000;
const PROBE_BEATS = 6; // without a WebSocket, until one is tried again
const EVENTS_MAX = 1000; // that wait in a channel
const STREAMS_MAX = 4; // of a browser's 6 connections to a host

export class Refused extends Error {
	constructor(reason) {
		super(reason?.reason ?? reason?.message ?? (typeof reason === "string" ? reason : JSON.stringify(reason)));
		Object.assign(this, { name: "Refused", reason });
	}
}

const page = Date.now().toString(36) + Math.random().toString(36).slice(2);
let refs = 0;
const backOff = (first, tries, most) => Math.min(first * 2 ** tries, most);
const valueOf = (given) => (typeof given === "function" ? given() : given);
const become = (self, status, reason) => {
	if (self.status === status) return;
	self.status = status;
	self.onstatus?.(status, reason);
};

/* --- transports: give { send(frame), close() }; call, later, on.frame(frame), on.closed() --- */

function webSocket(at, on, { WebSocket = globalThis.WebSocket }) {
	const socket = new WebSocket(at("websocket").href.replace("http", "ws"));
	const opened = new Promise((done) => (socket.onopen = done));
	socket.onmessage = ({ data }) => on.frame(JSON.parse(data));
	socket.onclose = on.closed;
	socket.onerror = () => {};
	return { send: (frame) => opened.then(() => socket.send(JSON.stringify(frame))), close: () => socket.close() };
}

/* EventSource and POST; on.closed(true) where that cannot be, as with private state. */
function eventStreams(at, on, { EventSource = globalThis.EventSource, api = "../channels" }) {
	if (!EventSource) throw new Error("no EventSource");
	const streams = new Map();
	let posted = Promise.resolve();
	let closed = false;
	const inTurn = (act) => (posted = posted.then(act)).catch(on.closed);
	const giveUp = () => inTurn(() => on.closed(true));
	const reply = ([joinRef, ref, topic], status, response) => on.frame([joinRef, ref, topic, "phx_reply", { status, response }]);
	const tell = (topic, event, payload) => on.frame([null, null, topic, event, payload]);

	const follow = (frame) => {
		const [, , topic, , { resume, replies, ...query }] = frame;
		const url = (path, more) => at(`${api}/${encodeURIComponent(topic)}${path}`, { ...query, ...more });
		const source = new EventSource(url("", resume.at && { since: resume.at }));
		const stream = { source, url, position: resume.at, told: new Set() };
		let joined = false;
		const join = () => (joined ||= !reply(frame, "ok"));
		const hear = ({ type, data, lastEventId }) => {
			const payload = JSON.parse(data);
			join();
			tell(topic, type, payload);
			stream.told.add(JSON.stringify([payload.name, payload.detail]));
			stream.position = lastEventId;
			stream.moved?.();
		};
		for (const type of ["seance:change", "seance:patch", "seance:event", "presence_state", "presence_diff"]) source.addEventListener(type, hear);
		source.onopen = () => resume.at && join();
		source.onerror = () => source.readyState === 2 && inTurn(() => on.closed(!joined));
		streams.set(topic, stream);
	};
	/* Answered when the stream has brought its effect; events that it does not bring are in the answer. */
	const post = async (frame, stream) => {
		const [, , topic, , event] = frame;
		if (closed) return;
		stream.told.clear();
		event.url ??= stream.url(`/events/${encodeURIComponent(event.type)}`); // its key is for this alone
		const headers = { "Content-Type": "application/json", "Idempotency-Key": event.key };
		const response = await fetch(event.url, { method: "POST", headers, body: JSON.stringify(event.payload) });
		if (response.status === 429 || response.status > 500) throw new Error("try again");
		const { position, events, title, detail = title, reason = { reason: detail } } = await response.json();
		if (!response.ok) return reply(frame, "error", reason);
		await new Promise((done) => (stream.moved = () => revision(stream.position) >= revision(position) && done())());
		for (const { name, detail } of events) stream.told.has(JSON.stringify([name, detail])) || tell(topic, "seance:event", { name, detail });
		reply(frame, "ok");
	};

	const send = {
		heartbeat: (frame) => fetch(at(`${api}/-`), { method: "OPTIONS" }).then(({ ok }) => (ok ? reply(frame) : giveUp()), on.closed),
		phx_join: (frame, stream) => (stream || streams.size === STREAMS_MAX ? giveUp() : follow(frame)),
		phx_leave: ([, , topic], stream) => stream.source.close(streams.delete(topic)),
		"seance:refresh": () => on.closed(),
		"seance:event": (frame, stream) => inTurn(() => post(frame, stream)),
	};
	return {
		send: (frame) => send[frame[3]](frame, streams.get(frame[2])),
		close() {
			closed = true;
			for (const { source } of streams.values()) source.close();
		},
	};
}
const revision = (position) => Number(position.split("-")[1]);

/* Phoenix's long-poll: what is asked again, since its answer was lost, is answered the same. */
function longPoll(at, on) {
	const stop = new AbortController();
	let token = "";
	const ask = async (body, tries = 0) => {
		const url = at("longpoll");
		url.searchParams.append("token", token); // behind one of the application's
		const init = body && { method: "POST", body, headers: { "Content-Type": "application/x-ndjson" } };
		try {
			return await (await fetch(url, { ...init, signal: stop.signal })).json();
		} catch (error) {
			if (stop.signal.aborted || tries > 8) throw error;
			await new Promise((done) => setTimeout(done, backOff(10, tries, 5000)));
			return ask(body, tries + 1);
		}
	};
	const take = ({ status, token: next = token, messages = [] }) => {
		if (status > 204 && (token || status !== 410)) throw new Error(status);
		token = next;
		for (const message of messages) on.frame(JSON.parse(message));
	};
	const listen = async () => {
		for (;;) take(await ask());
	};
	let sent = ask().then(take); // a new session
	sent.then(listen).catch(on.closed);
	return {
		send: (frame) => (sent = sent.then(() => ask(JSON.stringify(frame))).then(take)).catch(on.closed),
		close: () => stop.abort(),
	};
}

const TRANSPORTS = [webSocket, eventStreams, longPoll];
const HEARTBEAT = [null, null, "phoenix", "heartbeat", {}];

export function connect(mount, options = {}) {
	const base = String(mount).replace(/^ws/, "http").replace(/\/?$/, "/");
	const channels = new Set();
	let transport = 0;
	let patience = 2; // how often it may fail before the next one's turn
	let link; // by it
	let tries = 0;
	let timer; // until the next link, or the end of one that is mute
	let heartbeats;

	const at = (path, more) => {
		const url = new URL(path, new URL(base, globalThis.location?.href));
		const params = { ...valueOf(options.params), ...more, vsn: "2.0.0" };
		for (const name in params) url.searchParams.set(name, params[name]);
		return url;
	};
	const dial = (transport, frame, closed) => {
		try {
			return transport(at, { frame: (given) => queueMicrotask(() => frame(given)), closed }, options);
		} catch {
			setTimeout(closed, 0, true);
			return { send() {}, close() {} };
		}
	};
	const start = () => {
		become(self, "connecting");
		const mine = (act) => (given) => link === dialled && act(given);
		const dialled = (link = dial(TRANSPORTS[transport], mine(receive), mine(lost)));
		let beats = 0;
		const beat = () => {
			timer = setTimeout(lost, ANSWER_MS);
			link.send(HEARTBEAT);
			if (beats++) tries = 0;
			if (beats % PROBE_BEATS === 0) probe();
		};
		heartbeats = setInterval(beat, HEARTBEAT_MS);
		beat(); // first, so that no slow join delays the first answer
		for (const channel of channels) channel.join();
	};
	const receive = (frame) => {
		clearTimeout(timer);
		patience = 10;
		become(self, "open");
		for (const channel of channels) channel.receive(frame);
	};
	/* A key of POST is for POST alone: what has one is answered before another transport's turn. */
	const mayChange = () => ![...channels].some((channel) => channel.posted());
	const lost = (giveUp) => {
		const given = link;
		if (giveUp === true && !mayChange()) return setTimeout(() => link === given && lost(), 1000);
		link?.close();
		link = undefined;
		clearInterval(heartbeats);
		if (giveUp === true || (self.status === "connecting" && --patience < 1 && mayChange())) {
			transport = (transport + 1) % TRANSPORTS.length;
			patience = 2;
		}
		clearTimeout(timer);
		timer = setTimeout(start, backOff(10, tries++, 5000));
		become(self, "closed");
		for (const channel of channels) channel.end("joining");
	};
	/* Is there a WebSocket by now? */
	const probe = () => {
		if (!transport) return;
		const found = dial(webSocket, () => {
			found.close();
			if (self.status !== "open" || !mayChange()) return;
			transport = 0;
			lost();
		}, () => {});
		found.send(HEARTBEAT);
	};
	const online = () => {
		if (link) return probe();
		clearTimeout(timer);
		start();
	};

	const self = {
		status: "closed",
		onstatus: null,
		channel(topic, payload) {
			const channel = newChannel(topic, payload, (frame) => link.send(frame), () => channels.delete(channel));
			channels.add(channel);
			if (link) channel.join();
			return channel.self;
		},
		disconnect() {
			globalThis.removeEventListener?.("online", online);
			lost();
			clearTimeout(timer);
			for (const channel of channels) channel.left("disconnected");
		},
	};
	globalThis.addEventListener?.("online", online);
	start();
	return self;
}

function newChannel(topic, payload, send, gone) {
	const events = new Map(); // ref -> { body, resolve, reject }: pushed, not answered
	const listeners = new Set();
	let joinRef, timer, position;
	let tries = 0;
	let stale = false; // the state has been asked for anew

	const self = {
		topic, state: undefined, version: undefined, status: "joining", present: {},
		onstatus: null, onchange: null, onpresent: null, onerror: null,
		on(name, listener) {
			const entry = { name, listener };
			listeners.add(entry);
			return () => listeners.delete(entry);
		},
		push: (type, payload = {}) => new Promise((resolve, reject) => {
			if (self.status === "left") throw new Error(`${topic} was left`);
			if (events.size === EVENTS_MAX) throw new Error(`too many events wait for ${topic}`);
			const ref = String(++refs);
			const body = { type, payload: JSON.parse(JSON.stringify(payload)), key: `${page}-${ref}` };
			events.set(ref, { body, resolve, reject });
			if (self.status === "joined") tell("seance:event", body, ref);
		}),
		leave() {
			if (joinRef) tell("phx_leave", {});
			gone();
			left("left");
		},
	};

	const tell = (event, payload, ref = String(++refs)) => send([joinRef, ref, topic, event, payload]);
	const settle = (ref, error) => {
		const { resolve, reject } = events.get(ref) ?? {};
		events.delete(ref);
		if (error) reject?.(error);
		else resolve?.();
	};
	const end = (status, reason) => {
		clearTimeout(timer);
		joinRef = undefined;
		become(self, status, reason);
	};
	const left = (how) => {
		end("left");
		for (const ref of events.keys()) settle(ref, new Error(`${topic} was ${how}`));
	};
	const lost = (status, reason) => {
		end(status, reason);
		if (self.status === status) timer = setTimeout(join, backOff(1000, tries++, 10000));
	};
	const join = () => {
		joinRef = String(++refs);
		timer = setTimeout(lost, ANSWER_MS, "lost", new Error("the join was not answered"));
		tell("phx_join", { ...valueOf(payload), replies: true, resume: { at: position } }, joinRef);
		become(self, "joining");
	};
	const joined = ({ status, response }) => {
		if (status !== "ok") return lost("refused", new Refused(response));
		clearTimeout(timer);
		tries = 0;
		for (const [ref, { body }] of events) tell("seance:event", body, ref);
		become(self, "joined");
	};
	const change = ({ state, version, resume, position: at = resume }) => {
		stale = false;
		position = at;
		Object.assign(self, { state, version });
		self.onchange?.(state, version);
	};
	const patched = (operations, version) => {
		try {
			if (version && version !== self.version + 1) throw new Error("a gap");
			return { state: applyPatch(self.state, operations) };
		} catch {
			stale = true;
			position = undefined;
			tell("seance:refresh", {});
		}
	};
	/* Metas are told apart by their phx_ref. */
	const show = (present, { joins, leaves = {} }) => {
		for (const key in { ...leaves, ...joins }) {
			const [came, went] = [joins, leaves].map((all) => all[key]?.metas ?? []);
			const refs = [...came, ...went].map((meta) => meta.phx_ref);
			present[key] = [...(present[key] ?? []).filter((meta) => !refs.includes(meta.phx_ref)), ...came];
			if (!present[key].length) delete present[key];
		}
		self.present = present;
		self.onpresent?.(present);
	};

	const hear = {
		phx_reply: ({ status, response }, ref) => settle(ref, status !== "ok" && new Refused(response)),
		phx_close: () => lost("lost"),
		phx_error() {
			const [ref] = events.keys(); // by the first that is not answered, if by any
			if (self.status === "joined") settle(ref, new Error(`${topic} has crashed`));
			lost("lost");
		},
		"seance:change": change,
		"seance:patch"({ operations, version, ...where }) {
			const state = !stale && patched(operations, version);
			if (state) change({ ...where, ...state, version });
		},
		"seance:event": ({ name, detail }) => listeners.forEach((one) => one.name === name && one.listener(detail)),
		"seance:error": (payload) => self.onerror?.(payload),
		presence_state: (joins) => show({}, { joins }),
		presence_diff: (diff) => show({ ...self.present }, diff),
	};
	const receive = ([of, ref, to, event, payload]) => {
		if (to !== topic || !joinRef) return;
		if (ref === joinRef && event === "phx_reply") joined(payload);
		else if (of === joinRef || (of === null && ref === null)) hear[event]?.(payload, ref);
	};
	return { self, join, end, left, receive, posted: () => [...events.values()].some(({ body }) => body.url) };
}

/* RFC 6902, all operations.  What they lead through is copied, the rest is shared with the old state. */
export function applyPatch(state, operations) {
	let top = { "": state };
	const get = (path) => keysOf(path).reduce(member, top);
	const edit = (path, act) => (top = edited(top, keysOf(path), act));
	const apply = {
		__proto__: null,
		add: (path, value) => edit(path, (at, key) => {
			if (!Array.isArray(at)) return (at[key] = value);
			if (key !== "-") member([...at, 0], key);
			at.splice(key === "-" ? at.length : key, 0, value);
		}),
		remove: (path) => edit(path, (at, key) => {
			member(at, key);
			if (Array.isArray(at)) at.splice(key, 1);
			else delete at[key];
		}),
		replace: (path, value) => edit(path, (at, key) => {
			member(at, key);
			at[key] = value;
		}),
		move(path, _, from) {
			const value = get(from);
			apply.remove(from);
			apply.add(path, value);
		},
		copy: (path, _, from) => apply.add(path, get(from)),
		test(path, value) {
			if (canonical(get(path)) !== canonical(value)) throw new Error(`${path} is something else`);
		},
	};
	for (const { op, path, value, from } of operations) apply[op](path, value, from);
	return top[""] ?? null;
}

/* RFC 6901 */
function keysOf(pointer) {
	const keys = pointer.split("/").map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
	if (keys[0] || keys.includes("__proto__")) throw new Error(`no good pointer: ${pointer}`);
	return keys;
}

function member(container, key) {
	if (!Object.hasOwn(container, key) || (Array.isArray(container) && key === "length")) throw new Error(`nothing there: ${key}`);
	return container[key];
}

/* A copy of what keys lead through, whose last container act(container, key) has changed. */
function edited(value, [key, ...keys], act) {
	if (Object(value) !== value) throw new Error("no container");
	const copy = Array.isArray(value) ? [...value] : { ...value };
	if (keys.length) copy[key] = edited(member(copy, key), keys, act);
	else act(copy, key);
	return copy;
}

const isObject = (value) => Object(value) === value && !Array.isArray(value);
const canonical = (value) => JSON.stringify(value, (_, one) => (isObject(one) ? Object.fromEntries(Object.entries(one).sort()) : one));
