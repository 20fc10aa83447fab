import assert from 'node:assert/strict'
import { test } from 'node:test'
import { closeFrame, OP } from './client.mjs'
import { binary, close, text } from './program.mjs'
import { shared, using } from './setup.mjs'
import { sleep, until } from './nginx.mjs'

const s = await shared({})
let n = 0
const open = () => s.open(`l${++n}`)
const told = (link, type, id) => until(() => link.stream?.messages.find(m => m.type === type && (m.id === id)), `${type} ${id}`)

test('hello: version, tag, deadline, then the end mark', async () => {
	const [hello, end] = s.link.stream.messages
	assert.equal(hello.type, 'HELLO')
	assert.equal(hello.version, 3)
	assert.equal(hello.deadline, 30000)
	assert.equal(end.type, 'HELLO_END')
})

test('deliver: to several sockets, text and binary, acknowledged', async () => {
	const [a, b, c] = [await open(), await open(), await open()]
	s.link.stream.deliver([[a.id, 0, 5], [b.id, 0, 5]], 'news', 1, 101)
	assert.equal(await a.nextText(), 'news')
	assert.equal(await b.nextText(), 'news')
	await until(() => s.link.stream.of('ACK').some(m => m.batch === 101), 'ack 101')
	s.link.stream.deliver([[a.id, 5, 6], [c.id, 0, 6]], Buffer.from([0, 255]), 2, 102)
	const f = await a.next()
	assert.equal(f.opcode, OP.BINARY)
	assert.ok(f.data.equals(Buffer.from([0, 255])))
	await c.next()
	await until(() => s.link.stream.of('ACK').some(m => m.batch === 102), 'ack 102')
	assert.equal(b.frames.length, 0)
	s.link.stream.batch = 102
})

test('a unit of several frames', async () => {
	const c = await open()
	s.link.stream.deliver([[c.id, 0, 1]], Buffer.concat([text('one'), binary('two'), text('three')]), 3)
	await c.count(3)
	assert.deepEqual(c.frames.map(f => f.data.toString()), ['one', 'two', 'three'])
	s.link.stream.deliver([[c.id, 1, 2]], Buffer.concat([text('bye'), close(4000, 'r')]), 3)
	await c.count(4)
	assert.deepEqual(await c.closing(), { code: 4000, reason: 'r' })
})

for (const [name, body, opcode] of [
	['text that is not UTF-8', Buffer.from([0x61, 0xff]), 1],
	['an event of text that is not UTF-8', text(Buffer.from([0xc0, 0x80])), 3],
	['broken events', Buffer.from('TEXT 5\r\nabc\r\n'), 3],
]) {
	test(`a delivery of ${name}: its sockets are closed with 1011, the others and the link go on`, async () => {
		const [a, b, c] = [await open(), await open(), await open()]
		const { stream } = s.link
		stream.deliver([[a.id, 0, 1], [b.id, 0, 1]], body, opcode)
		stream.deliver([[c.id, 0, 1]], 'well')
		assert.equal((await a.closing()).code, 1011)
		assert.equal((await b.closing()).code, 1011)
		assert.equal(await c.nextText(), 'well')
		assert.equal(s.link.stream, stream)
		assert.match(s.nginx.log(), /seance: delivery not possible: /)
	})
}

test('targets that are unknown are passed over, and the batch acknowledged', async () => {
	const c = await open()
	const h = s.link.stream.handles[c.id]
	const other = [h + 1n, h ^ (1n << 63n), h ^ (1n << 21n), 0n, (1n << 64n) - 1n]
	s.link.stream.deliver([...other.map(x => [x, 0, 9]), [c.id, 0, 9]], 'x')
	assert.equal(await c.nextText(), 'x')
	const { batch } = s.link.stream
	await until(() => s.link.stream.of('ACK').some(m => m.batch === batch), 'its ack')
})

test('a handle is never mistaken for a later socket in the same slot', async () => {
	const c = await open()
	const old = s.link.stream.handles[c.id]
	c.cut()
	await told(s.link, 'CLOSED', c.id)
	const d = await open()
	assert.equal(s.link.stream.handles[d.id] & 0xfffffn, old & 0xfffffn, 'the same slot')
	s.link.stream.deliver([[old, 0, 3]], 'for the old one')
	s.link.stream.deliver([[d.id, 0, 3]], 'for the new one')
	assert.equal(await d.nextText(), 'for the new one')
})

test('close: code and reason go to the client, closed comes back', async () => {
	const c = await open()
	s.link.stream.close(c.id, 4010, 'go')
	assert.deepEqual(await c.closing(), { code: 4010, reason: 'go' })
	c.send(closeFrame(4010))
	await c.end()
	assert.equal((await told(s.link, 'CLOSED', c.id)).code, 4010)
	const { batch } = s.link.stream
	await until(() => s.link.stream.of('ACK').some(m => m.batch === batch), 'its ack')
})

for (const [name, code, reason] of [
	['a code that is none', 999, ''], ['the code 0', 0, ''], ['a code that must not be sent', 1015, ''],
	['a reason that is not UTF-8', 4000, Buffer.from([0xff])],
]) {
	test(`close with ${name}: 1011, a line in the log, and the link goes on`, async () => {
		const [c, other] = [await open(), await open()]
		const { stream } = s.link
		stream.close(c.id, code, reason)
		assert.deepEqual(await c.closing(), { code: 1011, reason: '' })
		stream.deliver([[other.id, 0, 1]], 'well')
		assert.equal(await other.nextText(), 'well')
		assert.equal(s.link.stream, stream)
		assert.match(s.nginx.log(), /seance: delivery not possible: CLOSE with /)
	})
}

test('close of a handle that is not there is acknowledged', async () => {
	s.link.stream.close(1n, 1000)
	const { batch } = s.link.stream
	await until(() => s.link.stream.of('ACK').some(m => m.batch === batch), 'its ack')
})

test('after a break the new stream tells all that is held, with positions and answered numbers', using({}, async s => {
	const clients = []
	for (let i = 0; i < 20; i++) clients.push(await s.open(`h${i}`))
	for (const [i, c] of clients.entries()) {
		s.link.stream.unit(c.id, 0, 100 + i)
		for (let k = 0; k <= i % 3; k++) c.text('x')
	}
	for (const [i, c] of clients.entries()) await c.count(2 + i % 3)
	const old = s.link.stream
	old.break()
	await until(() => s.link.stream && s.link.stream !== old && s.link.stream.ready, 'a new hello')
	const { messages } = s.link.stream
	assert.equal(messages[0].type, 'HELLO')
	assert.equal(messages[0].tag, old.of('HELLO')[0].tag)
	const held = messages.slice(1, messages.findIndex(m => m.type === 'HELLO_END'))
	assert.deepEqual(held.map(m => [m.id, m.position, m.answered]).sort(), clients.map((c, i) => [c.id, 100 + i, 1 + i % 3]).sort())
	assert.deepEqual(held.map(m => m.handle).sort(), Object.values(old.handles).sort())
	s.link.stream.unit('h3', 103, 200)
	await clients[3].until(() => clients[3].texts().includes('u200'), 'a delivery over the new stream')
}))

test('a hello of 3000 sockets comes in slices and is whole', using({}, async s => {
	const clients = []
	for (let i = 0; i < 30; i++) clients.push(...await Promise.all(Array.from({ length: 100 }, (_, k) => s.open(`s${i}-${k}`))))
	s.link.stream.break()
	await until(() => s.link.stream?.ready, 'a new hello')
	assert.equal(new Set(s.link.stream.of('HELD').map(m => m.id)).size, 3000)
	const targets = clients.map(c => [c.id, 0, 1])
	s.link.stream.deliver(targets, 'all')
	await Promise.all(clients.map(c => c.next()))
	await until(() => s.link.stream.of('ACK').length === 1, 'one ack')
}))

test('no link: sockets are kept, closes are told by the next stream', using({}, async s => {
	const [a, b, c] = [await s.open('a'), await s.open('b'), await s.open('c')]
	await s.link.kill()
	a.cut()
	await until(() => /websocket a ended/.test(s.nginx.log()), 'its end')
	const d = await s.open(null, '/')   // a newcomer meanwhile
	assert.equal(d.status, 101)
	b.text('still served')
	assert.equal(await b.nextText(), 'still served')
	await sleep(700)                  // several attempts
	await s.link.start()
	await until(() => s.link.stream?.of('CLOSED').length, 'closed')
	const { messages } = s.link.stream
	assert.ok(messages.findIndex(m => m.type === 'CLOSED') > messages.findIndex(m => m.type === 'HELLO_END'))
	assert.equal(messages.find(m => m.type === 'CLOSED').id, 'a')
	assert.deepEqual(messages.filter(m => m.type === 'HELD').map(m => m.id).sort(), ['b', 'c', 'id1'])
	assert.equal((s.nginx.log().match(/link main to .* is down/g) ?? []).length, 1)
	assert.equal((s.nginx.log().match(/link main to .* is up again/g) ?? []).length, 1)
}))

test('a broken link is read to its end: what was sent before is delivered', using({}, async s => {
	const c = await s.open('a')
	const all = Array.from({ length: 300 }, (_, i) => s.link.stream.encodeDeliver([['a', i, i + 1]], `u${i + 1}`))
	const stream = s.link.stream
	stream.connection.end(Buffer.concat(all))
	stream.connection.destroySoon()
	await c.count(300)
	assert.deepEqual(c.texts(), Array.from({ length: 300 }, (_, i) => `u${i + 1}`))
	await until(() => s.link.stream && s.link.stream !== stream && s.link.stream.ready, 'a new stream')
	assert.equal(s.link.stream.of('HELD')[0].position, 300)
}))

test('a malformed message ends the stream, not the sockets', using({}, async s => {
	const c = await s.open('a')
	const stream = s.link.stream
	for (const bad of [Buffer.from([0, 0, 0, 1, 99]), Buffer.from([255, 255, 255, 255]), Buffer.from([0, 0, 0, 2, 64, 0]), Buffer.from([0, 0, 0, 1, 3])]) {
		const before = s.link.stream
		before.connection.write(bad)
		await until(() => s.link.stream && s.link.stream !== before && s.link.stream.ready, 'a new stream')
	}
	s.link.stream.unit('a', 0, 1)
	assert.equal(await c.nextText(), 'u1')
}))

test('a message that comes byte by byte, and one of 3 MB', using({}, async s => {
	const c = await s.open('a')
	for (const b of s.link.stream.encodeDeliver([['a', 0, 1]], 'drip')) { s.link.stream.connection.write(Buffer.from([b])); await new Promise(setImmediate) }
	assert.equal(await c.nextText(), 'drip')
	s.link.stream.deliver([['a', 1, 2]], 'b'.repeat(3 * 1024 * 1024))
	assert.equal((await c.next()).data.length, 3 * 1024 * 1024)
}))

test('trace 13: a socket held while hello is composed is told, too', using({}, async s => {
	const clients = []
	for (let i = 0; i < 8; i++) clients.push(...await Promise.all(Array.from({ length: 100 }, (_, k) => s.open(`x${i}-${k}`))))
	s.link.stream.break()
	const late = Promise.all(Array.from({ length: 60 }, (_, i) => s.open(null, `/?id=late${i}`)))
	await until(() => s.link.stream?.ready, 'a new hello')
	await late
	await until(() => new Set(s.link.stream.of('HELD').map(m => m.id)).size === clients.length + 60, 'all of them')
}))

test('two names: each link hears of its own sockets', async () => {
	const { Link } = await import('./program.mjs')
	const { temporary } = await import('./nginx.mjs')
	const { join } = await import('node:path')
	const dir = temporary()
	const second = await new Link(join(dir, 'second.sock')).start()
	await using({
		http: `seance_link second unix:${second.path};`,
		server: `location /_hold/second/ { internal; seance_hold second; seance_pass unix:/nowhere; }`,
	}, async s => {
		const connect = s.program.connect
		const { fcgiAnswer } = await import('./program.mjs')
		s.program.connect = request => request.connection.end(fcgiAnswer(Buffer.from('X-Accel-Redirect: /_hold/second/websocket/two\r\n\r\n')))
		const c = await s.open(null, '/')
		assert.equal(c.status, 101)
		await until(() => second.stream?.handles.two, 'held on the second')
		s.program.connect = connect
		await s.open('one')
		assert.deepEqual(Object.keys(s.link.stream.handles), ['one'])
		assert.deepEqual(Object.keys(second.stream.handles), ['two'])
		second.stream.unit('two', 0, 1)
		assert.equal(await c.nextText(), 'u1')
	})()
	await second.stop()
})
