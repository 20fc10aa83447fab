// A location that holds without a link: the program hears of sockets by requests alone (WebSocket-over-HTTP).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Client, closeFrame, frame, OP } from './client.mjs'
import { close, text } from './program.mjs'
import { using } from './setup.mjs'
import { alive, until } from './nginx.mjs'

const opening = s => async (id, more) => s.track(await Client.open(s.nginx.port, `/?id=${id}`, more))
const of = (s, id) => s.program.requests.filter(r => r.id === id)
const bodies = (s, id) => of(s, id).map(r => r.body.toString('latin1'))
const numbers = (s, id) => of(s, id).map(r => r.number)
const told = (s, id) => until(() => /^(CLOSE|DISCONNECT)/.test(bodies(s, id).at(-1)), `the end of ${id}`)

test('OPEN, messages, CLOSE: in this order, one after the other', using({ held: '' }, async s => {
	const c = await opening(s)('a')
	c.text('hi').send(frame(OP.BINARY, Buffer.from([0, 255]))).text('')
	await c.count(3)
	c.send(closeFrame(4001, 'bye'))
	assert.deepEqual(await c.closing(), { code: 4001, reason: '' })
	await told(s, 'a')
	assert.deepEqual(bodies(s, 'a'), ['OPEN\r\n', 'TEXT 2\r\nhi\r\n', 'BINARY 2\r\n\x00\xff\r\n', 'TEXT 0\r\n\r\n', 'CLOSE 2\r\n\x0f\xa1\r\n'])
	assert.deepEqual(numbers(s, 'a'), [0, 1, 2, 3, 4])
	for (const r of of(s, 'a')) {
		assert.equal(r.params.REQUEST_METHOD, 'POST')
		assert.equal(r.params.CONTENT_TYPE, 'application/websocket-events')
		assert.equal(r.params.CONTENT_LENGTH, String(r.body.length))
		assert.equal(r.params.HTTP_CONNECTION_ID, 'a')
		assert.equal(r.params.SEANCE_SOCKET, 'a')
	}
	assert.equal(s.link.stream.of('HELD').length, 0)
	assert.match(s.nginx.log(), /websocket a ended: code 4001, [\d.]+ s, in 3 messages/)
}))

test('the answer to OPEN greets; what came with the handshake waits for it', using({ held: '' }, async s => {
	s.program.on = r => r.number === 0 ? setTimeout(() => r.answer({ events: [text('welcome'), text('friend')] }), 50) : r.echo()
	const c = await opening(s)('a', { early: frame(OP.TEXT, 'early') })
	assert.deepEqual(await c.count(3), ['welcome', 'friend', 'early'])
	assert.deepEqual(numbers(s, 'a'), [0, 1])
}))

test('OPEN refused by a CLOSE', using({ held: '' }, async s => {
	s.program.on = r => r.number === 0 ? r.answer({ events: [close(4003, 'not you')] }) : r.echo()
	const c = await opening(s)('a', { early: frame(OP.TEXT, 'never seen') })
	assert.deepEqual(await c.closing(), { code: 4003, reason: 'not you' })
	c.send(closeFrame(4003))
	await told(s, 'a')
	assert.deepEqual(bodies(s, 'a'), ['OPEN\r\n', 'CLOSE 2\r\n\x0f\xa3\r\n'])
}))

test('a CLOSE without a code', using({ held: '' }, async s => {
	const c = await opening(s)('a')
	c.send(closeFrame())
	await told(s, 'a')
	assert.deepEqual(bodies(s, 'a'), ['OPEN\r\n', 'CLOSE\r\n'])
}))

for (const [name, hold, end] of [
	['the connection is broken', '', c => c.reset()],
	['the client ends it without CLOSE', '', c => c.socket.end()],
	['the program cuts it', '', (c, s) => { s.program.on = r => r.answer({ events: [Buffer.from('DISCONNECT\r\n')] }); c.text('x') }],
	['nothing came for too long, and no CLOSE in answer to ours', 'seance_idle_timeout 50ms; seance_close_timeout 50ms;', () => {}],
	['what came is no WebSocket frame', 'seance_close_timeout 50ms;', c => c.send(frame(OP.TEXT, 'x', { rsv: 1 }))],
]) {
	test(`DISCONNECT: ${name}`, using({ held: '', hold }, async s => {
		const c = await opening(s)('a')
		await until(() => of(s, 'a').length === 1, 'OPEN')
		await end(c, s)
		await told(s, 'a')
		assert.equal(bodies(s, 'a').at(-1), 'DISCONNECT\r\n')
		assert.equal(numbers(s, 'a').at(-1), of(s, 'a').length - 1)
	}))
}

test('the end is told after the message in flight, and once', using({ held: '' }, async s => {
	let request
	s.program.on = r => { if (r.id === 'a' && r.number === 1) request = r; else r.echo() }
	const c = await opening(s)('a')
	c.text('long').text('given up')
	await until(() => request, 'the message')
	c.reset()
	await until(() => /websocket a ended/.test(s.nginx.log()), 'its end')
	const d = await opening(s)('b')
	d.text('x')
	await d.next()
	assert.equal(bodies(s, 'a').length, 2, 'nothing before its answer')
	request.echo()
	await told(s, 'a')
	d.text('y')
	await d.next()
	assert.deepEqual(bodies(s, 'a'), ['OPEN\r\n', 'TEXT 4\r\nlong\r\n', 'DISCONNECT\r\n'])
}))

test('the end is told again until it is answered', using({ held: '' }, async s => {
	let cuts = 0
	s.program.on = r => r.body.toString() === 'DISCONNECT\r\n' && ++cuts < 3 ? r.cut() : r.echo()
	const c = await opening(s)('a')
	await until(() => of(s, 'a').length === 1, 'OPEN')
	c.reset()
	await until(() => of(s, 'a').length === 4, 'the third attempt')
	assert.deepEqual(numbers(s, 'a'), [0, 1, 1, 1])
}))

test('a reload: the old worker tells the end of its sockets, and goes', using({ held: '' }, async s => {
	const c = await opening(s)('a')
	await until(() => of(s, 'a').length === 1, 'OPEN')
	const [old] = s.nginx.workers()
	await s.nginx.reload()
	c.text('still here')
	await c.next()
	assert.ok(alive(old))
	c.reset()
	await told(s, 'a')
	assert.equal(new Set(of(s, 'a').map(r => r.params.SEANCE_WORKER)).size, 1)
	await until(() => !alive(old), 'the old worker to go')
}))

test('worker_shutdown_timeout: the end of what it closes is told', using({ held: '', main: 'worker_shutdown_timeout 100ms;' }, async s => {
	const c = await opening(s)('a')
	await until(() => of(s, 'a').length === 1, 'OPEN')
	const [old] = s.nginx.workers()
	await s.nginx.reload()
	assert.equal((await c.closing()).code, 1001)
	await told(s, 'a')
	await until(() => !alive(old), 'the old worker to go')
	assert.deepEqual(bodies(s, 'a'), ['OPEN\r\n', 'DISCONNECT\r\n'])
}))

test('the end is told until the deadline: nothing stays for a program that is no more', using({ held: '', hold: 'seance_deadline 300ms;' }, async s => {
	const c = await opening(s)('a')
	await until(() => of(s, 'a').length === 1, 'OPEN')
	await s.program.kill()
	const [old] = s.nginx.workers()
	await s.nginx.reload()
	c.reset()
	await until(() => !alive(old), 'the old worker to go')
}))
