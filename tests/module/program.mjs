// A scripted program: a FastCGI server and the link's other end, which do what a test says.
import { existsSync, readFileSync, rmSync } from 'node:fs'
import net from 'node:net'

// websocket-events

export const event = (name, data) => {
	if (data === undefined) return Buffer.from(`${name}\r\n`)
	const bytes = Buffer.from(data)
	return Buffer.concat([Buffer.from(`${name} ${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')])
}
export const text = data => event('TEXT', data)
export const binary = data => event('BINARY', data)
export const close = (code, reason = '') => event('CLOSE', code === undefined ? undefined : Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]))

export function parseEvents(body) {
	const events = []
	for (let at = 0; at < body.length;) {
		const end = body.indexOf('\r\n', at)
		const [name, hex] = body.subarray(at, end).toString().split(' ')
		at = end + 2
		if (hex === undefined) { events.push({ name }); continue }
		const n = parseInt(hex, 16)
		events.push({ name, data: body.subarray(at, at + n) })
		at += n + 2
	}
	return events
}

// answer({order, events, head}): a whole CGI answer
export const answer = ({ order, events = [], head = '' } = {}) =>
	Buffer.concat([Buffer.from(`Content-Type: application/websocket-events\r\n${order ? `Seance-Order: ${order}\r\n` : ''}${head}\r\n`), ...events])

// FastCGI

export function record(type, content, padding = 0) {
	const head = Buffer.from([1, type, 0, 1, content.length >> 8, content.length & 255, padding, 0])
	return Buffer.concat([head, content, Buffer.alloc(padding)])
}

export function fcgiAnswer(bytes, status = 0) {
	const parts = []
	for (let at = 0; at < bytes.length; at += 65000) parts.push(record(6, bytes.subarray(at, at + 65000)))
	parts.push(record(6, Buffer.alloc(0)), record(3, Buffer.from([0, 0, 0, 0, status, 0, 0, 0])))
	return Buffer.concat(parts)
}

function parseParams(bytes) {
	const params = {}
	let at = 0
	const length = () => {
		const n = bytes[at]
		if (n < 128) { at++; return n }
		at += 4
		return bytes.readUInt32BE(at - 4) & 0x7fffffff
	}
	while (at < bytes.length) {
		const a = length(), b = length()
		params[bytes.toString('latin1', at, at + a)] = bytes.toString('latin1', at + a, at + a + b)
		at += a + b
	}
	return params
}

// One request.  answer(bytes | options) ends it; the connection is at hand to do worse.
class Request {
	constructor(connection, params, body) {
		this.connection = connection
		this.params = params
		this.body = body
		this.id = params.SEANCE_SOCKET
		this.number = params.SEANCE_MESSAGE === undefined ? undefined : Number(params.SEANCE_MESSAGE)
		this.position = params.SEANCE_POSITION
		this.isMessage = this.id !== undefined && !Object.keys(params).some(k => k.startsWith('HTTP_') && k !== 'HTTP_CONNECTION_ID')
	}
	get events() { return parseEvents(this.body) }
	get text() { return this.events[0].data.toString() }
	answer(what = {}) { this.connection.write(fcgiAnswer(Buffer.isBuffer(what) ? what : answer(what))) }
	echo() { this.answer({ events: [event(this.events[0].name, this.events[0].data)] }) }
	cut() { this.connection.destroy() }
}

// The program's FastCGI side.  on(request) is called for each whole request; connects are
// answered by themselves unless connect(request) is given.
export class Program {
	constructor(path) {
		this.path = path
		this.requests = []       // messages, in the order of their coming
		this.inFlight = 0
		this.most = 0            // in flight at once
		this.connections = new Set()
		this.made = 0
		this.ids = 0
		this.on = request => request.echo()
		this.connect = request => {
			const params = new URLSearchParams(request.params.QUERY_STRING)
			const id = params.get('id') ?? `id${++this.ids}`
			const protocol = params.get('protocol')
			request.connection.end(fcgiAnswer(Buffer.from(
				`X-Accel-Redirect: /_hold/websocket/${id}${protocol ? `?protocol=${protocol}` : ''}\r\n\r\n`)))
		}
		this.onConnection = null
	}

	async start() {
		if (existsSync(this.path)) rmSync(this.path)
		this.server = net.createServer({ allowHalfOpen: true }, connection => this.#accept(connection))
		await new Promise((done, fail) => { this.server.on('error', fail); this.server.listen({ path: this.path, backlog: 4000 }, done) })
		return this
	}

	// As if it were killed: everything it has open is closed.
	async kill() {
		const closed = new Promise(done => this.server.close(done))
		for (const c of this.connections) c.destroy()
		await closed
	}

	async stop() { if (this.server?.listening) await this.kill() }

	#accept(connection) {
		this.connections.add(connection)
		this.made++
		connection.on('error', () => {})
		connection.on('close', () => this.connections.delete(connection))
		connection.on('end', () => connection.end())
		if (this.onConnection && this.onConnection(connection) === false) return
		let buffer = Buffer.alloc(0), params = [], body = []
		connection.on('data', data => {
			buffer = buffer.length ? Buffer.concat([buffer, data]) : data
			for (;;) {
				if (buffer.length < 8) break
				const n = buffer.readUInt16BE(4), whole = 8 + n + buffer[6]
				if (buffer.length < whole) break
				const content = buffer.subarray(8, 8 + n)
				if (buffer[1] === 1) { params = []; body = [] }
				else if (buffer[1] === 4) params.push(content)
				else if (buffer[1] === 5 && n > 0) body.push(content)
				else if (buffer[1] === 5) this.#request(new Request(connection, parseParams(Buffer.concat(params)), Buffer.concat(body)))
				buffer = buffer.subarray(whole)
			}
		})
	}

	#request(request) {
		if (!request.isMessage) { this.connect(request); return }
		this.requests.push(request)
		this.on(request)
	}
}

// The link

export const LINK = { HELLO: 1, HELD: 2, HELLO_END: 3, CLOSED: 4, BEHIND: 5, DRAINED: 6, ACK: 7, COUNTS: 8, DELIVER: 64, CLOSE: 65, WAKE: 66 }
const names = Object.fromEntries(Object.entries(LINK).map(([k, v]) => [v, k]))

// The numbers of COUNTS, from the header that both sides compile.
const header = readFileSync(new URL('../../nginx/module/link_message.h', import.meta.url), 'utf8')
const countNames = [...header.matchAll(/^\s*X\([A-Z_]+, "(\w+)"\)/gm)].map(m => m[1])

function parseMessage(b) {
	const type = names[b[4]]
	const m = { type }
	const short = (at, key) => { m[key] = b.toString('utf8', at + 1, at + 1 + b[at]); return at + 1 + b[at] }
	if (type === 'HELLO') Object.assign(m, { version: b.readUInt32BE(5), tag: b.readBigUInt64BE(9), deadline: b.readUInt32BE(17) })
	if (type === 'HELD') { Object.assign(m, { handle: b.readBigUInt64BE(5), kind: b[13], position: Number(b.readBigUInt64BE(14)), answered: Number(b.readBigUInt64BE(22)) }); short(30, 'id') }
	if (type === 'CLOSED') { Object.assign(m, { handle: b.readBigUInt64BE(5), code: b.readUInt16BE(13) }); short(short(15, 'reason'), 'id') }
	if (type === 'BEHIND' || type === 'DRAINED') Object.assign(m, { handle: b.readBigUInt64BE(5), position: Number(b.readBigUInt64BE(13)) })
	if (type === 'ACK') m.batch = Number(b.readBigUInt64BE(5))
	if (type === 'COUNTS') m.counts = Object.fromEntries(countNames.map((name, i) => [name, Number(b.readBigUInt64BE(6 + 8 * i))]))
	return m
}

const u64 = n => { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(n)); return b }
const u32 = n => { const b = Buffer.alloc(4); b.writeUInt32BE(n); return b }
const message = (type, ...parts) => {
	const body = Buffer.concat([Buffer.from([type]), ...parts])
	return Buffer.concat([u32(body.length), body])
}

// One stream of a worker.
class Stream {
	constructor(connection, peer) {
		this.connection = connection
		this.messages = []
		this.handles = {}        // id: handle
		this.open = true
		this.batch = 0
		let buffer = Buffer.alloc(0)
		connection.on('error', () => {})
		connection.on('close', () => { this.open = false })
		connection.on('data', data => {
			buffer = Buffer.concat([buffer, data])
			while (buffer.length >= 4 && buffer.length >= 4 + buffer.readUInt32BE(0)) {
				const n = 4 + buffer.readUInt32BE(0)
				const m = parseMessage(buffer.subarray(0, n))
				buffer = buffer.subarray(n)
				this.messages.push(m)
				if (m.type === 'HELD') this.handles[m.id] = m.handle
				peer.on(m, this)
			}
		})
	}
	break() { this.open = false; this.connection.destroy() }
	of(type) { return this.messages.filter(m => m.type === type) }
	get counts() { return this.of('COUNTS').at(-1)?.counts }
	get ready() { return this.of('HELLO_END').length > 0 }

	// targets: [[id or handle, after, cursor], ...]; opcode: 1 text, 2 binary, 3 events, 5 bytes, 6 instead of several
	encodeDeliver(targets, body, opcode = 1, batch = ++this.batch) {
		const encoded = targets.map(([who, after, cursor]) => Buffer.concat([u64(this.handles[who] ?? who), u64(after), u64(cursor)]))
		return message(LINK.DELIVER, u64(batch), Buffer.from([opcode]), u32(targets.length), ...encoded, Buffer.from(body))
	}
	deliver(targets, body, opcode, batch) { this.connection.write(this.encodeDeliver(targets, body, opcode, batch)) }
	unit(id, after, cursor, body = `u${cursor}`) { this.deliver([[id, after, cursor]], body) }
	encodeClose(who, code, reason = '') {
		const r = Buffer.from(reason)
		return message(LINK.CLOSE, u64(++this.batch), u64(this.handles[who] ?? who), Buffer.from([code >> 8, code & 255, r.length]), r)
	}
	wake(who) { this.connection.write(message(LINK.WAKE, u64(++this.batch), u64(this.handles[who] ?? who))) }
	close(who, code, reason) { this.connection.write(this.encodeClose(who, code, reason)) }
}

export class Link {
	constructor(path) {
		this.path = path
		this.streams = []
		this.on = () => {}
	}
	async start() {
		if (existsSync(this.path)) rmSync(this.path)
		this.server = net.createServer(connection => this.streams.push(new Stream(connection, this)))
		await new Promise((done, fail) => { this.server.on('error', fail); this.server.listen({ path: this.path, backlog: 4000 }, done) })
		return this
	}
	get stream() { return this.streams.filter(s => s.open).at(-1) }
	async kill() {
		const closed = new Promise(done => this.server.close(done))
		for (const s of this.streams) s.break()
		await closed
	}
	async stop() { if (this.server?.listening) await this.kill() }
}
