import assert from 'node:assert/strict'
import { test } from 'node:test'
import { text } from './program.mjs'
import { shared, start, using } from './setup.mjs'
import { sleep, until } from './nginx.mjs'

const s = await shared({})
let n = 0
const open = () => s.open(`o${++n}`)

// Answers the next message of a socket as told; the request is returned.
function next(s, id, what) {
	return new Promise(done => {
		const usual = s.program.on
		s.program.on = request => {
			if (request.id !== id) { usual(request); return }
			s.program.on = usual
			if (what) request.answer(what)
			done(request)
		}
	})
}

// All that was delivered so far has been served once this is acknowledged.
async function settled(s) {
	const stream = s.link.stream
	stream.close(1n, 1000)
	const { batch } = stream
	await until(() => stream.of('ACK').some(m => m.batch >= batch), `ack ${batch}`)
}

test('a unit is written when after <= position < cursor, dropped when it is past', async () => {
	const c = await open()
	s.link.stream.unit(c.id, 0, 2)
	s.link.stream.unit(c.id, 0, 2, 'again')
	s.link.stream.unit(c.id, 1, 2, 'past')
	s.link.stream.unit(c.id, 1, 4)     // follows something before the position
	s.link.stream.unit(c.id, 4, 5)
	await c.count(3)
	assert.deepEqual(c.texts(), ['u2', 'u4', 'u5'])
	await settled(s)
	assert.equal(c.frames.length, 3)
})

test('a unit that comes too early is held back, in whatever order', async () => {
	const c = await open()
	for (const [a, b] of [[3, 4], [1, 2], [4, 9], [2, 3]]) s.link.stream.unit(c.id, a, b)
	await settled(s)
	assert.deepEqual(c.texts(), [])
	s.link.stream.unit(c.id, 0, 1)
	await c.count(5)
	assert.deepEqual(c.texts(), ['u1', 'u2', 'u3', 'u4', 'u9'])
})

test('what is held back and then past is dropped', async () => {
	const c = await open()
	s.link.stream.unit(c.id, 5, 6)
	s.link.stream.unit(c.id, 6, 7)
	s.link.stream.unit(c.id, 0, 7, 'full')
	s.link.stream.unit(c.id, 7, 8)
	await c.count(2)
	assert.deepEqual(c.texts(), ['full', 'u8'])
})

test('an answer\'s units: in order with the link\'s, unordered frames behind them', async () => {
	const c = await open()
	const asked = next(s, c.id)
	c.text('go').text('after')
	const request = await asked
	const second = next(s, c.id)
	request.answer({ order: '1-2/2, 3-4/1', events: [text('a2'), text('a2b'), text('a4'), text('free')] })
	await sleep(50)
	assert.deepEqual(c.texts(), [], 'it waits for c1')
	s.link.stream.unit(c.id, 0, 1)
	await c.count(3)
	await sleep(30)
	assert.deepEqual(c.texts(), ['u1', 'a2', 'a2b'], 'it waits for c3')
	assert.equal(s.program.requests.filter(r => r.id === c.id).length, 1, 'and so does the next message')
	s.link.stream.unit(c.id, 2, 3)
	await c.count(6)
	assert.deepEqual(c.texts(), ['u1', 'a2', 'a2b', 'u3', 'a4', 'free'])
	const r = await second
	assert.equal(r.position, '4')
	r.answer({})
})

test('an answer with COUNT 0 moves the position only', async () => {
	const c = await open()
	next(s, c.id, { order: '0-7/0', events: [text('free')] })
	c.text('x')
	assert.equal(await c.nextText(), 'free')
	s.link.stream.unit(c.id, 7, 8)
	assert.equal(await c.nextText(), 'u8')
})

test('trace 1: fill (0,2) and answer (0,1) cross: what the fill has brought is not written again', async () => {
	const c = await open()
	const asked = next(s, c.id)
	c.text('join')
	const request = await asked
	s.link.stream.unit(c.id, 0, 1, 'join reply')
	s.link.stream.unit(c.id, 1, 2, 'timer')
	await c.count(2)
	request.answer({ order: '0-1/1', events: [text('join reply'), text('free')] })
	await c.count(3)
	assert.deepEqual(c.texts(), ['join reply', 'timer', 'free'])
})

test('trace 1, the other way: the answer first', async () => {
	const c = await open()
	next(s, c.id, { order: '0-1/1', events: [text('join reply')] })
	c.text('join')
	await c.count(1)
	s.link.stream.unit(c.id, 0, 1, 'join reply')
	s.link.stream.unit(c.id, 1, 2, 'timer')
	await c.count(2)
	assert.deepEqual(c.texts(), ['join reply', 'timer'])
})

test('trace 2: a commit without bytes for S is in nobody\'s `after`', async () => {
	const c = await open()
	s.link.stream.unit(c.id, 0, 1)
	s.link.stream.unit(c.id, 1, 3)       // c2 was quiet
	await c.count(2)
	assert.deepEqual(c.texts(), ['u1', 'u3'])
})

test('trace 5: an event before hello\'s fill is held back, not written on the wrong state', async () => {
	const c = await open()
	s.link.stream.unit(c.id, 2, 3)
	await settled(s)
	assert.equal(c.frames.length, 0)
	s.link.stream.unit(c.id, 0, 2)
	await c.count(2)
	assert.deepEqual(c.texts(), ['u2', 'u3'])
})

for (const bound of [0, 1, 2]) {
	test(`trace 18: past ${bound} held-back units all is dropped and the program fills again`, using({ hold: `seance_held_back ${bound};` }, async s => {
		const c = await s.open('a')
		for (let i = 1; i <= bound; i++) s.link.stream.unit('a', i, i + 1)
		await settled(s)
		assert.deepEqual(s.link.stream.of('BEHIND'), [])
		s.link.stream.unit('a', bound + 1, bound + 2)
		await until(() => s.link.stream.of('DRAINED').length === 1, 'drained')
		const told = s.link.stream.messages.filter(m => m.type === 'BEHIND' || m.type === 'DRAINED')
		assert.deepEqual(told.map(m => [m.type, m.position]), [['BEHIND', 0], ['DRAINED', 0]])
		s.link.stream.unit('a', bound + 2, bound + 3)       // still in the pipe: asks for nothing more
		await settled(s)
		assert.equal(s.link.stream.of('BEHIND').length, 1)
		for (let i = 0; i < bound + 3; i++) s.link.stream.unit('a', i, i + 1)
		await c.count(bound + 3)
		assert.deepEqual(c.texts(), Array.from({ length: bound + 3 }, (_, i) => `u${i + 1}`))
		// in order again: what comes too early is held back as before
		s.link.stream.unit('a', bound + 3, bound + 4)
		await c.count(bound + 4)
	}))
}

test('trace 18: overflow with an answer that waits: the fill brings its units, the request ends', using({ hold: 'seance_held_back 0;' }, async s => {
	const c = await s.open('a')
	const asked = next(s, 'a')
	c.text('one').text('two')
	const request = await asked
	const second = next(s, 'a')
	request.answer({ order: '1-2/1', events: [text('a2'), text('free')] })
	s.link.stream.unit('a', 2, 3)
	await until(() => s.link.stream.of('DRAINED').length === 1, 'drained')
	for (const [i, body] of ['u1', 'a2', 'u3'].entries()) s.link.stream.unit('a', i, i + 1, body)
	await c.count(4)
	assert.deepEqual(c.texts().filter(t => t !== 'free'), ['u1', 'a2', 'u3'])
	const r = await second
	assert.ok(Number(r.position) >= 2)
	r.answer({})
}))

test('trace 19: the next request waits while the answer is held back, and answers are not piled up', using({ hold: 'seance_held_back 2;' }, async s => {
	const c = await s.open('a')
	s.program.on = request => request.answer({ order: `${request.number * 2 - 1}-${request.number * 2}/1`, events: [text(`a${request.number * 2}`)] })
	for (let i = 0; i < 20; i++) c.text(`m${i}`)
	await until(() => s.program.requests.length === 1, 'the first')
	await sleep(100)
	assert.equal(s.program.requests.length, 1)
	for (let i = 0; i < 20; i++) {
		s.link.stream.unit('a', i * 2, i * 2 + 1)
		await c.count(i * 2 + 2)
	}
	assert.deepEqual(c.texts(), Array.from({ length: 40 }, (_, i) => `${i % 2 ? 'a' : 'u'}${i + 1}`))
}))

test('trace 21: a commit number that was used is past', async () => {
	const c = await open()
	s.link.stream.unit(c.id, 0, 5)
	s.link.stream.unit(c.id, 4, 5, 'another commit 5')
	s.link.stream.unit(c.id, 5, 6)
	await c.count(2)
	assert.deepEqual(c.texts(), ['u5', 'u6'])
})

test('an answer that must wait past the deadline closes with 1013', using({ hold: 'seance_deadline 300ms;' }, async s => {
	const c = await s.open('a')
	next(s, 'a', { order: '3-4/1', events: [text('a4')] })
	c.text('x')
	assert.equal((await c.closing()).code, 1013)
}))

// A client that reads nothing until it is told to.
async function slow(s, id) {
	const c = await s.open(id)
	c.socket.pause()
	return c
}
const big = 'b'.repeat(100 * 1024)

test('a slow reader: behind past the bound, its units dropped; drained when it has read', using({ hold: 'seance_buffer 200k; seance_buffer_limit 64m;' }, async s => {
	const c = await slow(s, 'a')
	let sent = 0
	while (!s.link.stream.of('BEHIND').length && sent < 200) { s.link.stream.unit('a', sent, sent + 1, big); sent++; await settled(s) }
	const behind = s.link.stream.of('BEHIND')[0]
	assert.ok(behind, 'behind')
	assert.equal(behind.handle, s.link.stream.handles.a)
	assert.ok(behind.position <= sent && behind.position >= sent - 1)
	const { position } = behind
	s.link.stream.unit('a', position, position + 1, 'dropped')
	await settled(s)
	assert.equal(s.link.stream.of('DRAINED').length, 0)
	c.socket.resume()
	await until(() => s.link.stream.of('DRAINED').length, 'drained')
	assert.equal(s.link.stream.of('DRAINED')[0].position, position)
	await c.count(position)
	s.link.stream.unit('a', position, position + 1, 'filled')
	await c.until(() => c.texts().at(-1) === 'filled', 'the fill')
	assert.ok(!c.texts().includes('dropped'))
	assert.equal(s.link.stream.of('BEHIND').length, 1)
}))

test('a slow reader: a new stream hears that it is behind, after hello', using({ hold: 'seance_buffer 200k; seance_buffer_limit 64m;' }, async s => {
	const c = await slow(s, 'a')
	let sent = 0
	while (!s.link.stream.of('BEHIND').length && sent < 200) { s.link.stream.unit('a', sent, sent + 1, big); sent++; await settled(s) }
	s.link.stream.break()
	await until(() => s.link.stream?.of('BEHIND').length, 'behind on the new stream')
	const types = s.link.stream.messages.map(m => m.type)
	assert.deepEqual(types, ['HELLO', 'HELD', 'HELLO_END', 'BEHIND'])
	c.socket.resume()
	await until(() => s.link.stream.of('DRAINED').length, 'drained')
}))

test('a reader that is too slow for answers: 1013', using({ hold: 'seance_buffer 100k; seance_buffer_limit 1m; seance_close_timeout 1s;' }, async s => {
	const c = await slow(s, 'a')
	s.program.on = request => request.answer({ events: [text(big)] })
	for (let i = 0; i < 300; i++) c.text('x')
	await until(() => s.link.stream.of('CLOSED').find(m => m.code === 1013), 'closed')
	assert.match(s.nginx.log(), /websocket a ended: code 1013/)
}))

test('a catch-up, in place of several units: written just at `after`, waited for, past, or asked for anew', using({}, async s => {
	const c = await s.open('a')
	const catchUp = (after, cursor, body) => s.link.stream.deliver([['a', after, cursor]], text(body), 4)
	const told = () => s.link.stream.messages.filter(m => m.type === 'BEHIND' || m.type === 'DRAINED').map(m => [m.type, m.position])
	catchUp(0, 5, 'all to 5')
	assert.equal(await c.nextText(), 'all to 5')
	catchUp(2, 5, 'past')
	catchUp(6, 9, 'early')                    // waits for what leads to 6
	await settled(s)
	assert.equal(c.frames.length, 0)
	s.link.stream.unit('a', 5, 6)
	await c.count(2)
	assert.deepEqual(c.texts(), ['u6', 'early'])
	c.frames.length = 0
	assert.deepEqual(told(), [])
	s.link.stream.unit('a', 9, 10)
	catchUp(9, 12, 'would repeat 10')         // at once
	await settled(s)
	assert.deepEqual(c.texts(), ['u10'])
	assert.deepEqual(told(), [['BEHIND', 10], ['DRAINED', 10]])
	catchUp(10, 12, 'all to 12')
	catchUp(13, 16, 'would repeat 14')        // once it had waited
	s.link.stream.unit('a', 16, 17, 'dropped with it')
	s.link.stream.unit('a', 12, 14)
	await until(() => told().length === 4, 'asked anew')
	assert.deepEqual(told().slice(2), [['BEHIND', 14], ['DRAINED', 14]])
	catchUp(14, 16, 'all to 16')
	s.link.stream.unit('a', 16, 17)
	await c.count(5)
	assert.deepEqual(c.texts(), ['u10', 'all to 12', 'u14', 'all to 16', 'u17'])
}))

// Order as a property: random commits, each of which reaches the socket by answer or by link,
// with delays, twice now and then, and through breaks of the link and of requests.
for (const bound of [0, 1, 2, 64]) {
	test(`property: commits arrive in order, once, without a gap (held back: ${bound})`, async () => {
		const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
		let state = seed
		const random = max => { state = (Math.imul(state, 1103515245) + 12345) >>> 0; return Math.floor(state / 65536) % max }
		const s = await start({ hold: `seance_held_back ${bound};` })
		try {
			const c = await s.open('a')
			const commits = []                  // commit i + 1: its text
			const marks = new Map()             // message number: its commit
			const unit = at => { if (s.link.stream?.handles.a !== undefined) s.link.stream.unit('a', at - 1, at, commits[at - 1]) }
			const fill = p => { for (let at = p + 1; at <= commits.length; at++) unit(at) }
			let sent = 0
			s.link.on = m => {
				if (m.type === 'HELD' || m.type === 'DRAINED') setTimeout(() => fill(m.position), random(4))
			}
			s.program.on = request => {
				let mark = marks.get(request.number)
				if (mark === undefined) {
					commits.push(`c${commits.length + 1}`)
					mark = commits.length
					marks.set(request.number, mark)
				}
				setTimeout(() => {
					if (random(10) === 0) request.cut()
					else request.answer({ order: `${mark - 1}-${mark}/1`, events: [text(commits[mark - 1])] })
				}, random(4))
			}
			for (let i = 0; i < 400; i++) {
				const what = random(40)
				if (what < 15) c.text(`m${++sent}`)
				else if (what < 37) {
					commits.push(`c${commits.length + 1}`)
					const at = commits.length
					for (let k = random(5) === 0 ? 2 : 1; k > 0; k--)
						setTimeout(() => unit(at), random(6))
				} else if (what === 37) s.link.stream?.break()
				if (random(3) === 0) await sleep(1)
			}
			await sleep(50)
			s.link.stream?.break()     // the last hello fills whatever a break has lost
			await until(() => marks.size === sent, 'all messages')
			await c.until(() => c.frames.length >= commits.length && s.link.stream?.ready, `all commits (seed ${seed})`, 15000)
			await sleep(30)
			assert.deepEqual(c.texts(), commits.map((_, i) => `c${i + 1}`), `seed ${seed}`)
		} finally {
			await s.stop()
		}
	})
}
