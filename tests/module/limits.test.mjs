// What the module counts, and the bounds on what one client or many can make it hold.
import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import { Client, closeFrame, frame, OP } from './client.mjs'
import { using } from './setup.mjs'
import { privateMemory, until } from './nginx.mjs'

// The last COUNTS that says so.
const counted = (s, condition, name, ms) => until(() => { const c = s.link.stream?.counts; return c && condition(c) && c }, name, ms)
const pick = (counts, ...names) => Object.fromEntries(names.map(name => [name, counts[name]]))

test('counts: what is held, what went both ways, how sockets ended', using({}, async s => {
	const [a, b, c] = [await s.open('a'), await s.open('b'), await s.open('c')]
	const refused = s.track(await Client.open(s.nginx.port, '/?id=x', { headers: { 'Sec-WebSocket-Key': 'no' } }))
	assert.equal(refused.status, 400)
	const sizes = { in: 0, out: 0 }
	for (let i = 0; i < 5; i++) {
		const bytes = frame(OP.TEXT, 'hello')
		sizes.in += bytes.length
		sizes.out += 2 + 'hello'.length
		a.send(bytes)
		assert.equal(await a.nextText(), 'hello')
	}
	const ping = frame(OP.PING, 'p')
	sizes.in += ping.length
	b.send(ping)
	await b.next()
	s.link.stream.deliver([['a', 0, 3], ['b', 0, 3]], 'news')
	s.link.stream.deliver([['a', 0, 3]], 'past')
	sizes.out += 2 * (2 + 'news'.length)
	assert.equal(await a.nextText(), 'news')
	assert.equal(await b.nextText(), 'news')
	const counts = await counted(s, x => x.units === 3, 'three units')
	assert.deepEqual(pick(counts, 'websockets', 'streams', 'parked', 'behind', 'in_flight', 'waiting', 'waiting_bytes', 'held_back', 'buffered_bytes'),
		{ websockets: 3, streams: 0, parked: 0, behind: 0, in_flight: 0, waiting: 0, waiting_bytes: 0, held_back: 0, buffered_bytes: 0 })
	assert.deepEqual(pick(counts, 'opened', 'refused', 'closed', 'messages_in', 'bytes_in', 'messages_out', 'bytes_out', 'controls_in', 'answers', 'resends', 'units_dropped', 'links'),
		{ opened: 3, refused: 1, closed: 0, messages_in: 5, bytes_in: sizes.in, messages_out: 7, bytes_out: sizes.out, controls_in: 1, answers: 5, resends: 0, units_dropped: 1, links: 1 })
	assert.ok(counts.connections >= 1)

	a.send(frame(OP.TEXT, 'x', { rsv: 1 }))
	b.send(closeFrame(1000))
	c.reset()
	const end = await counted(s, x => x.closed === 3, 'three closed')
	assert.deepEqual(pick(end, 'websockets', 'closed_protocol', 'closed_abnormal', 'closed_server', 'controls_in'),
		{ websockets: 0, closed_protocol: 1, closed_abnormal: 1, closed_server: 0, controls_in: 2 })
}))

test('counts: messages in flight and behind it, units held back, a reader that is behind, resends', using({ hold: 'seance_buffer 200k; seance_buffer_limit 64m;' }, async s => {
	const [a, slow] = [await s.open('a'), await s.open('slow')]
	s.program.on = () => {}
	for (let i = 0; i < 4; i++) a.text('m')
	s.link.stream.unit('a', 5, 6)
	s.link.stream.unit('a', 6, 7)
	slow.socket.pause()
	for (let i = 0; !s.link.stream.of('BEHIND').length && i < 400; i++) {
		s.link.stream.unit('slow', i, i + 1, 'b'.repeat(50000))
		const { batch } = s.link.stream
		await until(() => s.link.stream.of('ACK').some(m => m.batch === batch), 'ack')
	}
	const counts = await counted(s, x => x.behind === 1 && x.waiting === 3, 'what waits')
	assert.deepEqual(pick(counts, 'websockets', 'in_flight', 'held_back', 'connections_busy'), { websockets: 2, in_flight: 1, held_back: 2, connections_busy: 1 })
	assert.ok(counts.waiting_bytes > 0 && counts.buffered_bytes > 200 * 1024)

	s.program.on = request => request.echo()
	await s.program.kill()
	await s.program.start()
	await a.count(4)
	slow.socket.resume()
	s.link.stream.unit('a', 0, 5)
	await a.count(7)
	const calm = await counted(s, x => x.behind === 0 && x.held_back === 0 && x.in_flight === 0, 'calm again')
	assert.deepEqual(pick(calm, 'waiting', 'waiting_bytes', 'buffered_bytes', 'connections_busy', 'answers'), { waiting: 0, waiting_bytes: 0, buffered_bytes: 0, connections_busy: 0, answers: 4 })
	assert.ok(calm.resends >= 1)

	s.link.stream.break()
	await counted(s, x => x.links === 2, 'the new stream to tell them, too')
}))

test('seance_sockets: more are refused with 503, said once; those that are held stay', using({ hold: 'seance_sockets 3;' }, async s => {
	const clients = [await s.open('a'), await s.open('b'), await s.open('c')]
	for (let i = 0; i < 5; i++) assert.equal(s.track(await Client.open(s.nginx.port, '/?id=more')).status, 503)
	for (const c of clients) { c.text('x'); assert.equal(await c.nextText(), 'x') }
	clients[0].cut()
	await until(() => s.link.stream.of('CLOSED').length === 1, 'one told as closed')
	const d = await s.open('d')
	d.text('y')
	assert.equal(await d.nextText(), 'y')
	assert.equal(s.track(await Client.open(s.nginx.port, '/?id=more')).status, 503)
	assert.equal(s.nginx.log().split('the worker holds 3 sockets: more are refused').length - 1, 2)
}))

// The worker may have so many bytes more of its own than now.  Not reckoned under AddressSanitizer, which keeps what is freed.
function memory(s) {
	if (process.env.NGINX_PRELOAD || process.env.NGINX_BINARY) return () => {}
	const [worker] = s.nginx.workers()
	const before = privateMemory(worker)
	return (most, what) => {
		const bytes = (privateMemory(worker) - before) * 1024
		console.log(`# ${bytes} bytes more, ${what}`)
		assert.ok(bytes < most, `${bytes} bytes`)
	}
}
const names = n => Array.from({ length: n }, (_, i) => `c${i}`)
const openAll = async (s, n) => { const all = []; for (const name of names(n)) all.push(await s.open(name)); return all }

test('inwards: what clients send unanswered stays with them; nothing of it is lost', using({ hold: 'seance_queue 64k;' }, async s => {
	const [CLIENTS, MESSAGES, SIZE] = [10, 400, 16 * 1024]
	const clients = await openAll(s, CLIENTS)
	const other = await s.open('other')
	const held = [], got = Object.fromEntries(names(CLIENTS).map(name => [name, []]))
	const mayGrow = memory(s)
	s.program.on = request => { if (request.id === 'other') request.echo(); else held.push(request) }
	for (const c of clients)
		for (let i = 0; i < MESSAGES; i++) c.text(String(i).padEnd(SIZE, '.'))
	await counted(s, x => x.in_flight === CLIENTS && x.waiting_bytes >= CLIENTS * 64 * 1024, 'all to be paused')
	const { answers } = s.link.stream.counts
	for (let i = 0; i < 200; i++) { other.text('turn'); await other.next() }
	const counts = await counted(s, x => x.answers >= answers + 200, 'the next counts')
	assert.ok(counts.waiting_bytes <= CLIENTS * (64 * 1024 + SIZE + 1024), `${counts.waiting_bytes} bytes wait`)
	mayGrow(CLIENTS * 256 * 1024, `of ${CLIENTS * MESSAGES * SIZE} that clients send`)   // the queue, one read, what malloc rounds up

	const take = request => { got[request.id].push(parseInt(request.text, 10)); request.answer() }
	s.program.on = take
	held.forEach(take)
	await counted(s, x => x.in_flight === 0 && x.messages_in === CLIENTS * MESSAGES + 200, 'all of it', 30000)
	for (const name of names(CLIENTS)) assert.deepEqual(got[name], Array.from({ length: MESSAGES }, (_, i) => i), name)
}))

test('outwards: what clients do not read is dropped past the bound, and comes when they read again', using({ hold: 'seance_buffer 256k;' }, async s => {
	const [CLIENTS, SIZE, MORE] = [8, 64 * 1024, 100]
	const clients = await openAll(s, CLIENTS)
	for (const c of clients) c.socket.pause()
	const mayGrow = memory(s)
	const isBehind = name => s.link.stream.of('BEHIND').some(m => m.handle === s.link.stream.handles[name])
	const unit = (name, n) => s.link.stream.unit(name, n, n + 1, `${n + 1} `.padEnd(SIZE, '.'))
	const acknowledged = () => until(() => s.link.stream.of('ACK').some(m => m.batch === s.link.stream.batch), 'the acknowledgement')
	let units = 0
	for (let more = MORE; more > 0 && units < 1000; units++) {
		for (const name of names(CLIENTS)) unit(name, units)
		await acknowledged()
		if (names(CLIENTS).every(isBehind)) more--
	}
	assert.ok(names(CLIENTS).every(isBehind))
	mayGrow(CLIENTS * (256 + 2 * 64) * 1024 + 1024 * 1024, `of ${CLIENTS * units * SIZE} that came for them`)   // and the link's own buffer

	const nameOf = handle => names(CLIENTS).find(name => s.link.stream.handles[name] === handle)
	s.link.on = m => { if (m.type === 'DRAINED') for (let n = m.position; n < units; n++) unit(nameOf(m.handle), n) }
	for (const c of clients) c.socket.resume()
	for (const c of clients) {
		await c.count(units, 30000)
		assert.deepEqual(c.texts().map(t => parseInt(t, 10)), Array.from({ length: units }, (_, i) => i + 1), c.id)
	}
	await counted(s, x => x.behind === 0 && x.buffered_bytes === 0, 'nothing left')
}))

test('outwards: PONGs that a client does not read are not kept for it', using({ hold: 'seance_buffer 64k;' }, async s => {
	const c = await s.open('a')
	c.socket.pause()
	const mayGrow = memory(s)
	const pings = Buffer.concat(Array.from({ length: 1000 }, () => frame(OP.PING, 'p'.repeat(125))))
	for (let i = 1; i <= 200; i++) c.send(pings)
	await counted(s, x => x.controls_in === 200000, 'all of them', 30000)
	mayGrow(512 * 1024, `of ${200000 * 127} to answer`)
	c.socket.resume()
	c.text('still here')
	await c.until(() => c.texts().includes('still here'), 'an answer')
}))

test('a client that reads nothing and says nothing is gone in time, whatever waits for it', using({ hold: 'seance_idle_timeout 300ms; seance_close_timeout 300ms;' }, async s => {
	const c = await s.open('deaf')
	c.socket.pause()
	for (let i = 0; !s.link.stream.of('BEHIND').length && !s.link.stream.of('CLOSED').length; i++) {
		s.link.stream.unit('deaf', i, i + 1, 'b'.repeat(50000))
		await until(() => s.link.stream.of('ACK').some(m => m.batch === s.link.stream.batch), 'ack')
	}
	const [closed] = await until(() => s.link.stream.of('CLOSED').length && s.link.stream.of('CLOSED'), 'told as closed')
	assert.equal(closed.code, 1001)
	await counted(s, x => x.websockets === 0 && x.buffered_bytes === 0, 'nothing left')
}))

test('nothing grows with a connection\'s age', using({}, async s => {
	const c = await s.open('old')
	const burst = async n => {
		for (let i = 0; i < n; i++) {
			c.text('x'.repeat(i % 300))
			c.send(frame(OP.PING, 'p'))
			s.link.stream.unit('old', c.units = c.units ?? 0, ++c.units)
			if (i % 100 === 99) { await c.count(300); c.frames.length = 0 }
		}
	}
	await burst(2000)
	const mayGrow = memory(s)
	await burst(10000)
	mayGrow(10000 * 16, 'after 10,000 messages, pings and units')   // the smallest piece that malloc hands out, once each
}))

test('a client that sends nothing, half a handshake, half a frame, no close: each has its time', using({
	http: 'client_header_timeout 300ms;', hold: 'seance_idle_timeout 400ms; seance_close_timeout 300ms;',
}, async s => {
	const silent = net.connect({ port: s.nginx.port, host: '127.0.0.1' })
	const half = net.connect({ port: s.nginx.port, host: '127.0.0.1' })
	const ended = socket => new Promise(done => { socket.on('error', () => {}); socket.on('close', done); socket.resume() })
	const ends = [ended(silent), ended(half)]
	half.write('GET /?id=half HTTP/1.1\r\nHost: localhost\r\nUpgrade: webs')
	const slow = await s.open('slow')
	const bytes = frame(OP.TEXT, 'never finished')
	let at = 0
	const drip = setInterval(() => slow.send(bytes.subarray(at, ++at)), 60)   // no whole frame ever
	const rude = await s.open('rude')
	rude.send(frame(OP.TEXT, 'x', { rsv: 1 }))                               // and then keeps its side open
	try {
		await Promise.all(ends)
		assert.equal((await slow.closing()).code, 1001)
		assert.ok(at < bytes.length)
	} finally { clearInterval(drip) }
	assert.equal((await rude.closing()).code, 1002)
	await until(() => s.link.stream.of('CLOSED').length === 2, 'both told as closed')
}))
