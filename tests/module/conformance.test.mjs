// Every case of cases.mjs, over ws and over wss.
import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import tls from 'node:tls'
import { cases, LIMIT } from './cases.mjs'
import { Client, closeFrame, frame, OP, request } from './client.mjs'
import { close, text } from './program.mjs'
import { certificate, shared } from './setup.mjs'
import { freePort, until } from './nginx.mjs'

const securePort = await freePort()
const s = await shared({
	connections: 16384,
	listen: port => `listen 127.0.0.1:${port}; listen 127.0.0.1:${securePort} ssl; ${certificate()}`,
	hold: `seance_message_size ${LIMIT}; seance_close_timeout 10s;`,
})
const secure = () => tls.connect({ port: securePort, host: '127.0.0.1', rejectUnauthorized: false })

// pieces: as in cases.mjs, or a function that gives the next size
function slices(bytes, pieces) {
	if (pieces === 'whole') return [bytes]
	const size = { bytes: () => 1, number: () => pieces, function: pieces }[pieces === 'bytes' ? pieces : typeof pieces]
	const list = []
	for (let at = 0; at < bytes.length;) list.push(bytes.subarray(at, at += size()))
	return list
}

async function write(c, bytes, pieces = 'bytes') {
	for (const piece of slices(bytes, pieces)) {
		c.send(piece)
		if (pieces === 'whole') continue
		do await new Promise(setImmediate)
		while (c.socket.writableNeedDrain && !c.closed)
	}
}

const codeOf = ({ want }) => typeof want.at(-1) === 'number' ? want.at(-1) : undefined
const connect = async (id, socket) => s.track(await Client.open(s.nginx.port, `/?id=${id}`, { socket }))

async function run({ send, pieces, want }, id, socket) {
	const c = await connect(id, socket)
	assert.equal(c.status, 101)
	await write(c, Buffer.concat(send), pieces)
	const code = codeOf({ want })
	const frames = code === undefined ? want : want.slice(0, -1)
	await c.until(() => c.ended || c.frames.length >= want.length, `${want.length} frames`, 20000)
	for (const [i, [opcode, data]] of frames.entries()) {
		const f = c.frames[i]
		assert.ok(f, `frame ${i}`)
		assert.equal(f.opcode, opcode)
		assert.ok(f.data.equals(Buffer.from(data)), `frame ${i}: ${f.data.subarray(0, 80)}`)
		assert.ok(f.fin && !f.masked && f.rsv === 0)
	}
	if (code !== undefined) await ended(c, frames.length, code, id)
	else c.cut()
}

async function ended(c, before, code, id) {
	assert.equal((await c.closing()).code, code)
	assert.equal(c.frames.length, before + 1, 'nothing comes behind the close')
	await c.end()
	c.socket.end()
	assert.equal((await until(() => s.link.stream.of('CLOSED').find(m => m.id === id), `closed ${id}`)).code, code)
}

// Sizes from 1 byte to 16 KB, small ones as likely as large ones; the same for the same seed.
function randomSizes(seed) {
	let state = seed
	const below = limit => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) % 65536 * limit >>> 16
	return () => 1 + below(1 << below(15))
}

const on = {}               // what the program does, where it is not an echo: by socket
s.program.on = request => (on[request.id] ?? (r => r.echo()))(request)
const good = cases.filter(c => codeOf(c) === undefined)
const failing = cases.filter(c => [1002, 1007, 1009].includes(codeOf(c)))
const SEEDS = [1, 2, 3]

let n = 0
for (const [scheme, socket] of [['ws', () => undefined], ['wss', secure]]) {
	test(scheme, { concurrency: 8 }, async t => {
		await Promise.all(cases.map(c => t.test(`${scheme}: ${c.name}`, () => run(c, `case${++n}`, socket()))))
	})

	test(`${scheme}: a whole session byte by byte, the handshake too`, async () => {
		const id = `drip-${scheme}`
		const c = s.track(new Client(socket() ?? net.connect(s.nginx.port, '127.0.0.1')))
		await write(c, Buffer.concat([Buffer.from(request(`/?id=${id}`)), frame(OP.TEXT, 'é', { fin: false }), frame(OP.PING, 'p'), frame(OP.CONT, '€')]))
		await c.count(2)
		assert.deepEqual(c.frames.map(f => [f.opcode, f.data.toString()]), [[OP.PONG, 'p'], [OP.TEXT, 'é€']])
		await write(c, closeFrame(1000))
		await ended(c, 2, 1000, id)
	})

	for (const seed of SEEDS) {
		test(`${scheme}: all good cases in one session, in random pieces of seed ${seed}`, async () => {
			const c = await connect(`all-${scheme}-${seed}`, socket())
			await write(c, Buffer.concat(good.flatMap(x => x.send)), randomSizes(seed))
			const want = good.flatMap(x => x.want)
			await c.count(want.length, 20000)
			for (const kind of [x => x === OP.PONG, x => x !== OP.PONG]) {          // a pong need not wait for the echo before it
				const got = c.frames.filter(f => kind(f.opcode)), due = want.filter(([opcode]) => kind(opcode))
				assert.deepEqual(got.map(f => f.opcode), due.map(([opcode]) => opcode))
				assert.equal(got.findIndex((f, i) => !f.data.equals(Buffer.from(due[i][1]))), -1)
			}
			c.cut()
		})
		test(`${scheme}: all failing cases in random pieces of seed ${seed}`, async () => {
			const sizes = randomSizes(seed)
			for (const [i, x] of failing.entries()) {
				const id = `fail-${scheme}-${seed}-${i}`, c = await connect(id, socket())
				await write(c, Buffer.concat(x.send), sizes)
				await c.closing()
				await ended(c, c.frames.findIndex(f => f.opcode === OP.CLOSE), codeOf(x), id)
			}
		})
	}

	test(`${scheme}: a client that closes and ends its side in one is still answered`, async () => {
		const id = `fin-${scheme}`, c = await connect(id, socket())
		c.socket.end(closeFrame(1000))
		await ended(c, 0, 1000, id)
	})

	test(`${scheme}: a client that ends its side without a close is cut, and told as 1006`, async () => {
		const id = `half-${scheme}`, c = await connect(id, socket())
		let seen = false
		on[id] = () => { seen = true }
		c.text('in flight')
		await until(() => seen, 'the message')
		c.socket.end()
		await c.end()
		assert.deepEqual(c.frames, [])
		s.program.requests.find(r => r.id === id).echo()
		assert.equal((await until(() => s.link.stream.of('CLOSED').find(m => m.id === id), 'closed')).code, 1006)
	})

	test(`${scheme}: a client closes, and then the program, too: one close, the client's code`, async () => {
		const id = `cross-${scheme}`, c = await connect(id, socket())
		let held
		on[id] = request => { held = request }
		c.text('x')
		await until(() => held, 'the message')
		c.send(closeFrame(4000))
		await c.closing()
		held.answer({ events: [text('late'), close(4001)] })
		await ended(c, 0, 4000, id)
	})

	test(`${scheme}: the program closes, and the client with a code of its own: one close, the program's code`, async () => {
		const id = `crossed-${scheme}`, c = await connect(id, socket())
		on[id] = request => request.answer({ events: [close(4001)] })
		c.text('x')
		assert.equal((await c.closing()).code, 4001)
		c.send(Buffer.concat([frame(OP.PING, 'late'), frame(OP.TEXT, 'late'), closeFrame(4000)]))
		await ended(c, 0, 4001, id)
		assert.equal(s.program.requests.filter(r => r.id === id).length, 1)
	})

	test(`${scheme}: 20,000 pings of 125 bytes, read only afterwards: pongs in order, and the socket goes on`, async () => {
		const id = `flood-${scheme}`, c = await connect(id, socket())
		c.socket.pause()
		await write(c, Buffer.concat(Array.from({ length: 20000 }, (_, i) => frame(OP.PING, String(i).padEnd(125)))), 'whole')
		c.socket.resume()
		await write(c, frame(OP.TEXT, 'behind them'))
		await c.until(() => c.texts().length === 1, 'the text', 20000)
		const pongs = c.frames.filter(f => f.opcode === OP.PONG).map(f => Number(f.data.toString()))
		assert.ok(pongs.length > 0 && pongs.every((p, i) => i === 0 || p > pongs[i - 1]))
		c.send(frame(OP.PING, 'still answered'))
		await c.until(() => c.frames.at(-1).data.toString() === 'still answered', 'its pong')
		c.cut()
	})
}

test('no case has cost nginx a worker or an alert', () => {
	assert.equal(s.nginx.workers().length, 1)
	assert.deepEqual(s.nginx.log().split('\n').filter(line => /\[(alert|emerg|crit)\]|exited on signal/.test(line)), [])
})
