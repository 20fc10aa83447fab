/*
 * seance.js - state that lives on the server: see seance.d.ts
 *
 * Frames are Phoenix's, [joinRef, ref, topic, event, payload].  What was not answered is sent again under its key.
 */
export class Refused extends Error {
	name = "Refused";
	constructor(reason) {
		super(reason?.reason ?? reason?.detail ?? JSON.stringify(reason));
		this.reason = reason;
	}
}

const page = Math.random().toString(36).slice(2);
let refs = 0;
const valueOf = (given) => (typeof given === "function" ? given() : given);
const become = (self, status, reason) => {
	if (self.status === status) return;
	self.status = status;
	self.onstatus?.(status, reason);
};

/* Transports tell on.frame(frame) or hear[event](payload, ref), and on.closed(); true: another one has to do. */

function webSocket(at, on, { WebSocket = globalThis.WebSocket }) {
	const socket = new WebSocket(at("websocket").href.replace("http", "ws"));
	const opened = new Promise((done) => (socket.onopen = done));
	socket.onmessage = ({ data }) => on.frame(JSON.parse(data));
	socket.onclose = on.closed;
	socket.onerror = () => {};
	return { send: (frame) => opened.then(() => socket.send(JSON.stringify(frame))), close: () => socket.close() };
}

/* For shared state: EventSource and POST. */
function eventStreams(at, on, { EventSource = globalThis.EventSource, api = "../channels" }) {
	const { CLOSED } = EventSource;
	const streams = new Map();
	const giveUp = () => setTimeout(on.closed, 1000, true);

	const open = ([, joinRef, topic, , { resume, replies, ...query }], hear) => {
		const url = (more = "") => at(`${api}/${encodeURIComponent(topic)}${more}`, query);
		const source = new EventSource(url());
		const tell = (event, ...given) => queueMicrotask(() => hear[event](...given));
		let posted = Promise.resolve();
		let position, moved, told;
		const take = ({ type, data, lastEventId }) => {
			const payload = JSON.parse(data);
			if (!position) tell("phx_reply", { status: "ok" }, joinRef);
			tell(type, payload);
			told?.push(JSON.stringify([payload.name, payload.detail]));
			position = lastEventId || "0-0";
			moved?.();
		};
		for (const type in hear) source.addEventListener(type, take);
		source.onerror = () => source.readyState === CLOSED && (position ? on.closed() : giveUp());

		const post = async ([, ref, , , event]) => {
			if (source.readyState === CLOSED) return;
			told = [];
			event.url ??= url(`/events/${encodeURIComponent(event.type)}`); // its key is for this
			const response = await fetch(event.url, {
				method: "POST",
				headers: { "Content-Type": "application/json", "Idempotency-Key": event.key },
				body: JSON.stringify(event.payload),
			});
			if (response.status === 429 || response.status > 500) throw response;
			const answer = await response.json();
			if (!response.ok) return tell("phx_reply", { response: answer.reason ?? answer }, ref);
			while (position.split("-")[1] - answer.position.split("-")[1] < 0) await new Promise((done) => (moved = done));
			for (const { name, detail } of answer.events)
				if (!told.includes(JSON.stringify([name, detail]))) tell("seance:event", { name, detail });
			tell("phx_reply", { status: "ok" }, ref);
		};
		streams.set(topic, { source, push: (frame) => (posted = posted.then(() => post(frame))).catch(on.closed) });
	};
	return {
		send(frame, hear) {
			const [, , topic, event] = frame;
			const { source, push } = streams.get(topic) ?? {};
			if (event === "heartbeat")
				fetch(at(`${api}/-`), { method: "OPTIONS" }).then(({ ok }) => (ok ? on.frame([]) : giveUp()), on.closed);
			else if (event === "seance:event") push(frame);
			else if (event === "phx_leave") source?.close(streams.delete(topic));
			else if (source || streams.size === 3) giveUp(); // a host has 6 in all
			else open(frame, hear);
		},
		close: () => streams.forEach(({ source }) => source.close()),
	};
}

/* What is asked again is answered the same. */
function longPoll(at, on) {
	const stop = new AbortController();
	let token = "";
	const ask = async (body) => {
		const url = at("longpoll");
		if (token) url.searchParams.append("token", token); // behind the application's
		try {
			return await (await fetch(url, { method: body ? "POST" : "GET", body, signal: stop.signal })).json();
		} catch (error) {
			if (stop.signal.aborted) throw error;
			await new Promise((done) => setTimeout(done, 500));
			return ask(body);
		}
	};
	const take = ({ status, token: next = token, messages = [] }) => {
		if (status > 204 && (token || status !== 410)) throw status;
		token = next;
		for (const message of messages) queueMicrotask(() => on.frame(JSON.parse(message)));
	};
	let sent = ask().then(take);
	sent.then(async () => {
		for (;;) take(await ask());
	}).catch(on.closed);
	return {
		send: (frame) => (sent = sent.then(() => ask(JSON.stringify(frame))).then(take)).catch(on.closed),
		close: () => stop.abort(),
	};
}

export function connect(mount, options = {}) {
	const channels = new Set();
	let turn = 0;
	let tries = 0; // after the 2nd, 11th ... in vain: the next one's turn
	let link, pulse, timer;

	const at = (path, more) => {
		const url = new URL(`${mount}/${path}`.replace(/^ws/, "http"), globalThis.location);
		url.search = new URLSearchParams({ ...valueOf(options.params), ...more, vsn: "2.0.0" });
		return url;
	};
	const start = () => {
		const ifMine = (act) => (given) => link === mine && act(given);
		let mine;
		become(self, "connecting");
		try {
			const on = { frame: ifMine(receive), closed: ifMine(lost) };
			link = mine = [webSocket, eventStreams, longPoll][turn % 3](at, on, options);
		} catch {
			return lost(true);
		}
		pulse = setInterval(() => beat((tries = 2)), 30000);
		beat();
		for (const channel of channels) channel._join(link);
	};
	const beat = () => {
		timer = setTimeout(lost, 10000, tries < 2);
		link.send([null, null, "phoenix", "heartbeat", {}]);
	};
	const receive = (frame) => {
		clearTimeout(timer);
		tries ||= 2;
		become(self, "open");
		for (const channel of channels) channel._take(frame);
	};
	/* First what was posted must be answered: its key is for POST alone. */
	const mayChange = () => ![...channels].some(({ _events }) => [..._events.values()].some(({ body }) => body.url));
	const lost = (giveUp) => {
		link?.close();
		link = undefined;
		clearInterval(pulse);
		const inVain = giveUp === true || (self.status === "connecting" && tries % 9 === 1);
		if (inVain && mayChange()) turn++;
		clearTimeout(timer);
		timer = setTimeout(start, Math.min(10 * 2 ** tries++, 5000));
		become(self, "closed");
		for (const channel of channels) channel._end("joining");
	};
	const online = () => {
		if (self.status === "open" && turn % 3 !== 1) return;
		if (mayChange()) turn = 0;
		tries = 0;
		lost();
	};
	const self = {
		status: "closed",
		channel(topic, payload) {
			const channel = newChannel(topic, payload, channels);
			if (link) channel._join(link);
			return channel;
		},
		disconnect() {
			globalThis.removeEventListener?.("online", online);
			lost();
			clearTimeout(timer);
			for (const channel of channels) channel.leave();
		},
	};
	globalThis.addEventListener?.("online", online);
	start();
	return self;
}

function newChannel(topic, payload, channels) {
	const _events = new Map(); // ref -> pushed, not answered
	const listeners = new Set();
	const here = new Map(); // phx_ref -> [key, meta]
	let tries = 0;
	let link, joinRef, timer, position;

	const tell = (event, body, ref = ++refs) => link.send([joinRef, ref, topic, event, body], hear);
	const settle = (ref, error) => {
		_events.get(ref)?.done(error);
		_events.delete(ref);
	};
	const _join = (given) => {
		link = given;
		joinRef = ++refs;
		timer = setTimeout(_end, 10000, "lost");
		tell("phx_join", { ...valueOf(payload), replies: true, resume: { at: position } }, joinRef);
		become(self, "joining");
	};
	const _end = (status, reason) => {
		clearTimeout(timer);
		if (/lost|refused/.test(status)) timer = setTimeout(_join, Math.min(1000 * 2 ** tries++, 10000), link);
		joinRef = undefined;
		become(self, status, reason);
	};
	const change = ({ state, version, resume, position: at }) => {
		position = at ?? resume;
		Object.assign(self, { state, version });
		self.onchange?.(state, version);
	};
	const show = ({ joins, leaves }) => {
		for (const key in leaves) for (const meta of leaves[key].metas) here.delete(meta.phx_ref);
		for (const key in joins) for (const meta of joins[key].metas) here.set(meta.phx_ref, [key, meta]);
		self.present = {};
		for (const [key, meta] of here.values()) (self.present[key] ??= []).push(meta);
		self.onpresent?.(self.present);
	};
	const hear = {
		phx_reply({ status, response }, ref) {
			const error = status !== "ok" && new Refused(response);
			if (ref !== joinRef) return settle(ref, error);
			if (error) return _end("refused", error);
			clearTimeout(timer);
			tries = 0;
			for (const [ref, { body }] of _events) tell("seance:event", body, ref);
			become(self, "joined");
		},
		phx_close: () => _end("lost"),
		phx_error() {
			const [ref] = _events.keys();
			if (self.status === "joined") settle(ref, new Error(`${topic} has crashed`));
			_end("lost");
		},
		"seance:change": change,
		"seance:patch"({ operations, version, ...more }) {
			try {
				if (version && version !== self.version + 1) throw new Error("a gap");
				more.state = applyPatch(self.state, operations);
			} catch (error) {
				position = undefined;
				return _end("lost", error);
			}
			change({ ...more, version });
		},
		"seance:event": ({ name, detail }) => listeners.forEach((one) => one[0] === name && one[1](detail)),
		"seance:error": (payload) => self.onerror?.(payload),
		presence_state(joins) {
			here.clear();
			show({ joins });
		},
		presence_diff: show,
	};
	const _take = ([of, ref, to, event, payload]) => {
		if (to === topic && joinRef && (of ?? ref ?? joinRef) === joinRef) hear[event]?.(payload, ref);
	};
	const self = {
		topic,
		status: "joining",
		present: {},
		on(...entry) {
			listeners.add(entry);
			return () => listeners.delete(entry);
		},
		push: (type, payload = {}) => new Promise((resolve, reject) => {
			if (self.status === "left" || _events.size === 1000) throw new Error(`${topic} takes no more`);
			const ref = ++refs;
			const body = { type, payload: JSON.parse(JSON.stringify(payload)), key: `${page}-${ref}` };
			_events.set(ref, { body, done: (error) => (error ? reject(error) : resolve()) });
			if (self.status === "joined") tell("seance:event", body, ref);
		}),
		leave() {
			if (joinRef) tell("phx_leave", {});
			channels.delete(self);
			_end("left");
			for (const ref of _events.keys()) settle(ref, new Error(`${topic} was left`));
		},
		_join, _end, _take, _events,
	};
	channels.add(self);
	return self;
}

/* RFC 6902.  What is led through is copied, the rest shared with the old state. */
export function applyPatch(state, operations) {
	let top = { "": state };
	for (const { op, path, from, value } of operations) {
		const moves = op === "move" || op === "copy";
		const given = moves ? keysOf(from).reduce(member, top) : value;
		if (op === "move") top = edited(top, keysOf(from), "remove");
		top = edited(top, keysOf(path), moves ? "add" : op, given);
	}
	return top[""];
}

function keysOf(pointer) {
	const keys = pointer.split("/").map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
	if (keys[0] || keys.includes("__proto__")) throw new Error(pointer);
	return keys;
}

function member(container, key) {
	if ({}.propertyIsEnumerable.call(container, key)) return container[key];
	throw new Error(key);
}

function edited(container, [key, ...keys], op, value) {
	if (Object(container) !== container) throw new Error(key);
	const isList = Array.isArray(container);
	const copy = isList ? [...container] : { ...container };
	const adds = op === "add" && !keys.length;
	if (!adds || (isList && key !== "-" && key !== String(copy.length))) member(copy, key);
	if (keys.length) copy[key] = edited(copy[key], keys, op, value);
	else if (!/^(add|remove|replace)$/.test(op)) throw new Error(op);
	else if (isList) copy.splice(key === "-" ? copy.length : key, adds ? 0 : 1, ...(op === "remove" ? [] : [value]));
	else if (op === "remove") delete copy[key];
	else copy[key] = value;
	return copy;
}
