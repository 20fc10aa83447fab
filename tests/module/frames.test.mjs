// What becomes of messages: to the program and back, one at a time, to the end.  The frames themselves: conformance.test.mjs.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { closeFrame, frame, OP } from './client.mjs'
import { answer, binary, close, event, text } from './program.mjs'
import { shared } from './setup.mjs'
import { sleep, until } from './nginx.mjs'

const s = await shared({ hold: 'seance_message_size 200k; seance_idle_timeout 700ms; seance_close_timeout 500ms;' })
let n = 0
const open = () => s.open(`f${++n}`)
const closed = id => until(() => s.link.stream.of('CLOSED').find(m => m.id === id), `closed ${id}`)

test('a pong that nobody asked for is ignored; a ping is answered while a message is in flight', async () => {
	const c = await open()
	let held
	const on = s.program.on
	s.program.on = request => { held = request }
	try {
		c.send(frame(OP.PONG, 'x')).text('slow')
		await until(() => held, 'the message')
		c.send(frame(OP.PING, 'alive'))
		assert.equal((await c.next()).opcode, OP.PONG)
		held.echo()
		assert.equal(await c.nextText(), 'slow')
	} finally {
		s.program.on = on
	}
})

test('the close frame arrives although the client goes on sending a large frame', async () => {
	const c = await open()
	c.send(frame(OP.BINARY, Buffer.alloc(4 * 1024 * 1024)))
	assert.equal((await c.closing()).code, 1009)
	await c.end()
	assert.equal(c.error, null)
})

test('what a client sent before its close is still run, then it is told as closed', async () => {
	const c = await open()
	const held = []
	const on = s.program.on
	s.program.on = request => { held.push(request) }
	try {
		c.send(Buffer.concat([frame(OP.TEXT, 'one'), frame(OP.TEXT, 'two'), closeFrame(1000)]))
		await c.end()
		await until(() => held.length === 1, 'the first')
		held[0].echo()
		await until(() => held.length === 2, 'the second')
		assert.deepEqual(s.link.stream.of('CLOSED').filter(m => m.id === c.id), [])
		held[1].echo()
		await closed(c.id)
	} finally {
		s.program.on = on
	}
})

test('likewise when an answer still waited for what precedes it', async () => {
	const c = await open()
	const on = s.program.on
	const texts = []
	s.program.on = request => { texts.push(request.text); request.answer({ order: '5-6/1', events: [text('early')] }) }
	try {
		c.text('one').text('two').text('three')
		await until(() => texts.length === 1, 'the first')
		c.send(frame(OP.PING))
		await c.next()
		c.send(closeFrame(1000))
		await c.end()
		await until(() => texts.length === 3, 'the others')
		assert.deepEqual(texts, ['one', 'two', 'three'])
		assert.equal((await closed(c.id)).code, 1000)
	} finally {
		s.program.on = on
	}
})

test('the program closes by its answer: frames before, then the code and reason', async () => {
	const c = await open()
	const on = s.program.on
	s.program.on = request => request.answer({ events: [text('last'), close(4001, 'over'), text('too late')] })
	try {
		c.text('x')
		assert.equal(await c.nextText(), 'last')
		assert.deepEqual(await c.closing(), { code: 4001, reason: 'over' })
		c.send(frame(OP.TEXT, 'ignored')).send(closeFrame(4001))
		await c.end()
		assert.equal((await closed(c.id)).code, 4001)
	} finally {
		s.program.on = on
	}
})

test('a client that does not answer a close is cut after seance_close_timeout', async () => {
	const c = await open()
	const on = s.program.on
	s.program.on = request => request.answer({ events: [close(1000)] })
	try {
		c.text('x')
		assert.equal((await c.closing()).code, 1000)
		const t = Date.now()
		await c.end(3000)
		assert.ok(Date.now() - t > 200)
		await closed(c.id)
	} finally {
		s.program.on = on
	}
})

test('DISCONNECT cuts; PING, PONG, OPEN and an empty answer are taken', async () => {
	const c = await open()
	const on = s.program.on
	const answers = [[], [event('PING', 'x'), event('PONG'), event('OPEN'), text('a'), binary('b')], [event('DISCONNECT')]]
	s.program.on = request => request.answer({ events: answers.shift() })
	try {
		c.text('1').text('2')
		await c.count(4)
		assert.deepEqual(c.frames.map(f => f.opcode), [OP.PING, OP.PONG, OP.TEXT, OP.BINARY])
		c.text('3')
		await c.end()
		assert.equal((await c.closing()).code, 1006)
	} finally {
		s.program.on = on
	}
})

const wrong = [
	['status 500', Buffer.from('Status: 500 Internal Server Error\r\n\r\n')],
	['no head', Buffer.from('nothing')],
	['nothing at all', Buffer.alloc(0)],
	['broken events', answer({ events: [Buffer.from('TEXT 5\r\nabc\r\n')] })],
	['an unknown event', answer({ events: [Buffer.from('HELLO 1\r\na\r\n')] })],
	['a broken order', answer({ order: '5-4/1', events: [text('a')] })],
	['an order for more events than there are', answer({ order: '0-1/2', events: [text('a')] })],
	['a close code that is not allowed', answer({ events: [close(1005)] })],
	['a close reason that is not UTF-8', answer({ events: [close(1000, Buffer.from([0xff]))] })],
	['text that is not UTF-8', answer({ events: [text('a'), text(Buffer.from([0x61, 0xff]))] })],
	['text that is cut within a character', answer({ events: [text(Buffer.from([0xe2, 0x82]))] })],
]
for (const [name, bytes] of wrong) {
	test(`an answer with ${name}: 1011 and a line in the log`, async () => {
		const c = await open()
		const on = s.program.on
		s.program.on = request => request.answer(bytes)
		try {
			c.text('x')
			assert.equal((await c.closing()).code, 1011)
			c.send(closeFrame(1011))
			await closed(c.id)
			assert.match(s.nginx.log(), new RegExp(`answered message 1 of ${c.id} wrongly`))
		} finally {
			s.program.on = on
		}
	})
}

test('no frame for seance_idle_timeout: 1001', async () => {
	const c = await open()
	const t = Date.now()
	for (let i = 0; i < 4; i++) { await sleep(300); c.send(frame(OP.PING)) }
	assert.equal(c.frames.filter(f => f.opcode === OP.CLOSE).length, 0)
	c.frames.length = 0
	assert.equal((await c.closing(3000)).code, 1001)
	assert.ok(Date.now() - t >= 1600)
	c.send(closeFrame(1001))
	await c.end()
	assert.equal((await closed(c.id)).code, 1001)
})

test('a frame that has begun and not ended does not count as one', async () => {
	const c = await open()
	const t = setInterval(() => c.send(Buffer.from('a')), 100)
	c.send(frame(OP.BINARY, '', { length: 1000 }))
	try {
		assert.equal((await c.closing(3000)).code, 1001)
	} finally {
		clearInterval(t)
	}
})

test('1000 frames at once: one in flight, all answered in order', async () => {
	const c = await open()
	const on = s.program.on
	let inFlight = 0, most = 0
	s.program.on = request => {
		most = Math.max(most, ++inFlight)
		setImmediate(() => { inFlight--; request.echo() })
	}
	try {
		c.send(Buffer.concat(Array.from({ length: 1000 }, (_, i) => frame(OP.TEXT, `m${i}`))))
		const got = await c.count(1000, 20000)
		assert.deepEqual(got, Array.from({ length: 1000 }, (_, i) => `m${i}`))
		assert.equal(most, 1)
		assert.deepEqual(s.program.requests.filter(r => r.id === c.id).map(r => r.number), Array.from({ length: 1000 }, (_, i) => i + 1))
	} finally {
		s.program.on = on
	}
})

test('what waits inwards is bounded: reading pauses, and goes on', async () => {
	const c = await open()
	const on = s.program.on
	const held = []
	s.program.on = request => held.push(request)
	try {
		const big = frame(OP.BINARY, Buffer.alloc(100 * 1024))
		let taken = 0
		const more = () => new Promise(done => {
			const ok = c.socket.write(big, () => { taken++ })
			done(ok)
		})
		for (let i = 0; i < 400; i++) await more()
		await until(() => held.length === 1, 'the first')
		await sleep(300)
		assert.ok(taken < 200, `${taken} of 400 frames of 100 KB were taken from the client`)
		assert.equal(held.length, 1)
		s.program.on = request => request.answer({ events: [binary('k')] })
		s.program.on(held[0])
		await c.count(400, 30000)
	} finally {
		s.program.on = on
	}
})
