// A raw WebSocket client over net.Socket, which can also do what no client should.
import { createHash, randomBytes } from 'node:crypto'
import net from 'node:net'

export const OP = { CONT: 0, TEXT: 1, BINARY: 2, CLOSE: 8, PING: 9, PONG: 10 }

// A frame as a client sends it.  fin, rsv, mask: to send wrong ones.
export function frame(opcode, data = '', { fin = true, rsv = 0, mask = true, length } = {}) {
	const payload = Buffer.from(data)
	const n = length ?? payload.length
	let head
	if (n < 126) head = Buffer.from([0, n])
	else if (n < 65536) { head = Buffer.alloc(4); head[1] = 126; head.writeUInt16BE(n, 2) }
	else { head = Buffer.alloc(10); head[1] = 127; head.writeBigUInt64BE(BigInt(n), 2) }
	head[0] = (fin ? 0x80 : 0) | rsv << 4 | opcode
	if (!mask) return Buffer.concat([head, payload])
	head[1] |= 0x80
	const key = randomBytes(4)
	const masked = Buffer.from(payload)
	for (let i = 0; i < masked.length; i++) masked[i] ^= key[i & 3]
	return Buffer.concat([head, key, masked])
}

export function closeFrame(code, reason = '') {
	const body = code === undefined ? Buffer.alloc(0) : Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)])
	return frame(OP.CLOSE, body)
}

export const request = (path, headers = {}, method = 'GET', version = '1.1') => {
	const all = {
		Host: 'localhost', Upgrade: 'websocket', Connection: 'Upgrade',
		'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', ...headers,
	}
	const lines = Object.entries(all).filter(([, v]) => v !== undefined).flatMap(([k, v]) => [v].flat().map(x => `${k}: ${x}`))
	return `${method} ${path} HTTP/${version}\r\n${lines.join('\r\n')}\r\n\r\n`
}

export const accept = key => createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')

export class Client {
	constructor(socket) {
		this.socket = socket
		this.buffer = Buffer.alloc(0)
		this.frames = []        // {opcode, data, fin}, in order
		this.status = null
		this.headers = {}
		this.ended = false      // the server has closed its side
		this.closed = false
		this.error = null
		this.waiting = []
		socket.setNoDelay(true)
		socket.on('data', data => { this.buffer = Buffer.concat([this.buffer, data]); this.#parse() })
		socket.on('end', () => { this.ended = true; this.#wake() })
		socket.on('close', () => { this.ended = this.closed = true; this.#wake() })
		socket.on('error', error => { this.error = error; this.#wake() })
	}

	// Connects and sends the handshake, with `early` bytes behind it in the same write.
	static async open(port, path = '/', { headers, early = '', method, version, raw, socket } = {}) {
		const s = socket ?? net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
		const client = new Client(s)
		s.write(Buffer.concat([Buffer.from(raw ?? request(path, headers, method, version)), Buffer.from(early)]))
		await client.until(() => client.status !== null || client.ended, 'an answer to the handshake')
		if (client.status === null) throw new Error(`no answer to the handshake: ${client.error?.message ?? 'closed'}`)
		return client
	}

	#parse() {
		if (this.status === null) {
			const end = this.buffer.indexOf('\r\n\r\n')
			if (end < 0) return
			const [first, ...lines] = this.buffer.subarray(0, end).toString('latin1').split('\r\n')
			this.status = Number(first.split(' ')[1])
			for (const line of lines) {
				const [name, ...value] = line.split(':')
				this.headers[name.toLowerCase()] = value.join(':').trim()
			}
			this.buffer = this.buffer.subarray(end + 4)
		}
		if (this.status === 101) {
			let at = 0
			for (;;) {
				const b = this.buffer.subarray(at)
				if (b.length < 2) break
				let n = b[1] & 127, head = 2
				if (n === 126) { if (b.length < 4) break; n = b.readUInt16BE(2); head = 4 }
				else if (n === 127) { if (b.length < 10) break; n = Number(b.readBigUInt64BE(2)); head = 10 }
				if (b.length < head + n) break
				this.frames.push({ opcode: b[0] & 15, fin: b[0] >> 7 === 1, rsv: b[0] >> 4 & 7, masked: b[1] >> 7 === 1, data: Buffer.from(b.subarray(head, head + n)) })
				at += head + n
			}
			this.buffer = this.buffer.subarray(at)
		}
		this.#wake()
	}

	#wake() { for (const check of [...this.waiting]) check() }

	until(condition, name, ms = 10000) {
		return new Promise((done, fail) => {
			let timer
			const check = () => {
				if (!condition()) return
				clearTimeout(timer)
				this.waiting = this.waiting.filter(c => c !== check)
				done()
			}
			timer = setTimeout(() => {
				this.waiting = this.waiting.filter(c => c !== check)
				fail(new Error(`waited ${ms} ms in vain: ${name}; frames: ${this.texts().slice(-5)}, status ${this.status}, ended ${this.ended}`))
			}, ms)
			this.waiting.push(check)
			check()
		})
	}

	send(bytes) { this.socket.write(bytes); return this }
	text(data) { return this.send(frame(OP.TEXT, data)) }
	texts() { return this.frames.filter(f => f.opcode === OP.TEXT).map(f => f.data.toString()) }
	async next(ms) { await this.until(() => this.frames.length > 0, 'a frame', ms); return this.frames.shift() }
	async nextText(ms) { return (await this.next(ms)).data.toString() }
	async count(n, ms) { await this.until(() => this.frames.length >= n, `${n} frames`, ms); return this.texts() }

	// The CLOSE frame that comes next but for others: {code, reason}
	async closing(ms) {
		await this.until(() => this.ended || this.frames.some(f => f.opcode === OP.CLOSE), 'a close frame', ms)
		const f = this.frames.find(x => x.opcode === OP.CLOSE)
		if (!f) return { code: 1006, reason: '' }
		return f.data.length ? { code: f.data.readUInt16BE(0), reason: f.data.subarray(2).toString() } : { code: 1005, reason: '' }
	}

	async end(ms) { await this.until(() => this.ended, 'the end of the connection', ms) }
	cut() { this.socket.destroy() }
	reset() { this.socket.resetAndDestroy ? this.socket.resetAndDestroy() : this.socket.destroy() }
}
