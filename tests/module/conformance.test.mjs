// Every case of cases.mjs, over ws and over wss.
import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import tls from 'node:tls'
import { cases, LIMIT } from './cases.mjs'
import { Client, closeFrame, frame, OP, request } from './client.mjs'
import { certificate, shared } from './setup.mjs'
import { freePort, until } from './nginx.mjs'

const securePort = await freePort()
const s = await shared({
	connections: 16384,
	listen: port => `listen 127.0.0.1:${port}; listen 127.0.0.1:${securePort} ssl; ${certificate()}`,
	hold: `seance_message_size ${LIMIT}; seance_close_timeout 10s;`,
})
const secure = () => tls.connect({ port: securePort, host: '127.0.0.1', rejectUnauthorized: false })

function slices(bytes, pieces) {
	if (pieces === 'whole') return [bytes]
	const size = pieces === 'bytes' ? 1 : pieces
	return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size))
}

async function run({ send, pieces, want }, id, socket) {
	const c = s.track(await Client.open(s.nginx.port, `/?id=${id}`, { socket }))
	assert.equal(c.status, 101)
	for (const piece of slices(Buffer.concat(send), pieces)) {
		c.send(piece)
		if (pieces !== 'whole') await new Promise(setImmediate)
	}
	const code = want.at(-1)
	const frames = typeof code === 'number' ? want.slice(0, -1) : want
	await c.until(() => c.ended || c.frames.length >= want.length, `${want.length} frames`, 20000)
	for (const [i, [opcode, data]] of frames.entries()) {
		const f = c.frames[i]
		assert.ok(f, `frame ${i}`)
		assert.equal(f.opcode, opcode)
		assert.ok(f.data.equals(Buffer.from(data)), `frame ${i}: ${f.data.subarray(0, 80)}`)
		assert.ok(f.fin && !f.masked && f.rsv === 0)
	}
	if (typeof code === 'number') await ended(c, frames.length, code, id)
	else c.cut()
}

async function ended(c, before, code, id) {
	assert.equal((await c.closing()).code, code)
	assert.equal(c.frames.length, before + 1, 'nothing comes behind the close')
	await c.end()
	c.socket.end()
	assert.equal((await until(() => s.link.stream.of('CLOSED').find(m => m.id === id), `closed ${id}`)).code, code)
}

let n = 0
for (const [scheme, socket] of [['ws', () => undefined], ['wss', secure]])
	test(scheme, { concurrency: 8 }, async t => {
		await Promise.all(cases.map(c => t.test(`${scheme}: ${c.name}`, () => run(c, `case${++n}`, socket()))))
	})

for (const [scheme, socket] of [['ws', () => undefined], ['wss', secure]])
	test(`${scheme}: a whole session byte by byte, the handshake too`, async () => {
		const id = `drip-${scheme}`
		const c = s.track(new Client(socket() ?? net.connect(s.nginx.port, '127.0.0.1')))
		const bytes = Buffer.concat([Buffer.from(request(`/?id=${id}`)), frame(OP.TEXT, 'é', { fin: false }), frame(OP.PING, 'p'), frame(OP.CONT, '€')])
		for (const piece of slices(bytes, 'bytes')) {
			c.send(piece)
			await new Promise(setImmediate)
		}
		await c.count(2)
		assert.deepEqual(c.frames.map(f => [f.opcode, f.data.toString()]), [[OP.PONG, 'p'], [OP.TEXT, 'é€']])
		for (const piece of slices(closeFrame(1000), 'bytes')) c.send(piece)
		await ended(c, 2, 1000, id)
	})

test('no case has cost nginx a worker or an alert', () => {
	assert.equal(s.nginx.workers().length, 1)
	assert.deepEqual(s.nginx.log().split('\n').filter(line => /\[(alert|emerg|crit)\]|exited on signal/.test(line)), [])
})
