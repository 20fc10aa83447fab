import assert from 'node:assert/strict'
import { test } from 'node:test'
import { closeFrame, frame, OP } from './client.mjs'
import { answer, fcgiAnswer, record, text } from './program.mjs'
import { shared, using } from './setup.mjs'
import { sleep, until } from './nginx.mjs'

const s = await shared({ hold: 'seance_deadline 10s; seance_connections 4;' })
let n = 0
const open = () => s.open(`r${++n}`)
const of = id => s.program.requests.filter(r => r.id === id)

// Runs with another behaviour of the program, and the usual one afterwards.
async function behaving(on, run) {
	const usual = s.program.on
	s.program.on = on
	try { return await run() } finally { s.program.on = usual }
}

const whole = request => fcgiAnswer(answer({ events: [text(request.text)] }))
const stages = {
	'closed without an answer': request => request.cut(),
	'closed in the answer\'s head': request => request.connection.end(whole(request).subarray(0, 5)),
	'closed in the answer\'s body': request => request.connection.end(whole(request).subarray(0, 40)),
	'closed one byte before the end': request => request.connection.end(whole(request).subarray(0, -1)),
	'closed between records': request => request.connection.end(whole(request).subarray(0, -16)),
	'overloaded': request => request.connection.write(fcgiAnswer(Buffer.alloc(0), 2)),
	'overloaded, with some output': request => request.connection.write(fcgiAnswer(answer({ events: [text('no')] }), 2)),
}
for (const [name, once] of Object.entries(stages)) {
	test(`a request is sent again after: ${name}`, async () => {
		const c = await open()
		let tries = 0
		await behaving(request => request.id === c.id && ++tries < 4 ? once(request) : request.echo(), async () => {
			c.text('again')
			assert.equal(await c.nextText(), 'again')
			assert.equal(tries, 4)
			assert.deepEqual(of(c.id).map(r => r.number), [1, 1, 1, 1])
			assert.deepEqual([...new Set(of(c.id).map(r => r.body.toString()))], ['TEXT 5\r\nagain\r\n'])
			assert.equal(new Set(of(c.id).map(r => r.connection)).size, 4, 'each on a connection of its own')
			c.text('next')
			assert.equal(await c.nextText(), 'next')
			assert.equal(of(c.id).at(-1).number, 2)
		})
	})
}

test('a request that is never answered: its socket ends at the deadline, and is told as closed in a bounded time', using({ hold: 'seance_deadline 300ms; seance_close_timeout 200ms; seance_connections 1;' }, async s => {
	const c = await s.open('hung')
	let hung
	s.program.on = request => { hung = request }
	c.text('x')
	assert.equal((await c.closing()).code, 1013)
	assert.deepEqual(s.link.stream.of('CLOSED'), [], 'not while the program may still run it')
	await until(() => s.link.stream.of('CLOSED').length === 1, 'told as closed')
	assert.ok(hung.connection.destroyed || hung.connection.readableEnded)
	s.program.on = request => request.echo()
	const d = await s.open('next')
	d.text('the connection is free again')
	assert.equal(await d.nextText(), 'the connection is free again')
}))

test('an exiting worker does not wait for a program that never answers', using({ hold: 'seance_deadline 300ms; seance_close_timeout 200ms;' }, async s => {
	const [worker] = s.nginx.workers()
	const c = await s.open('hung')
	s.program.on = () => {}
	c.text('x')
	await until(() => s.program.requests.length === 1, 'the request')
	await s.nginx.reload()
	c.cut()
	await until(() => !s.nginx.workers().includes(worker), 'the old worker to leave')
}))

test('the old connection is closed before the request is sent again', async () => {
	const c = await open()
	let first, gone = null
	await behaving(request => {
		if (first) { gone = first.destroyed || first.readableEnded; request.echo(); return }
		first = request.connection
		request.connection.write(fcgiAnswer(Buffer.alloc(0), 2))   // overloaded, but left open
	}, async () => {
		c.text('x')
		assert.equal(await c.nextText(), 'x')
		assert.equal(gone, true)
	})
})

test('an answer in small pieces, with padding and STDERR between', async () => {
	const c = await open()
	await behaving(async request => {
		const bytes = answer({ events: [text('pieces')] })
		const all = Buffer.concat([record(6, bytes.subarray(0, 10), 3), record(7, Buffer.from('a complaint\n2038/01/19 not a line\n')), record(6, bytes.subarray(10), 1),
			record(6, Buffer.alloc(0)), record(3, Buffer.alloc(8))])
		for (const b of all) { request.connection.write(Buffer.from([b])); await new Promise(setImmediate) }
	}, async () => {
		c.text('x')
		assert.equal(await c.nextText(), 'pieces')
		assert.match(s.nginx.log(), /wrote: a complaint 2038\/01\/19 not a line$/m)
	})
})

test('what is not FastCGI: 1011', async () => {
	const c = await open()
	await behaving(request => request.connection.write('HTTP/1.1 200 OK\r\n\r\n'), async () => {
		c.text('x')
		assert.equal((await c.closing()).code, 1011)
	})
})

test('an answer of 5 MB', async () => {
	const c = await open()
	const big = 'b'.repeat(5 * 1024 * 1024)
	await behaving(request => request.answer({ events: [text(big)] }), async () => {
		c.text('x')
		const f = await c.next()
		assert.equal(f.data.length, big.length)
	})
})

test('connections are kept and shared: no more than seance_connections', async () => {
	const clients = await Promise.all(Array.from({ length: 20 }, open))
	let most = 0, now = 0
	await behaving(request => { most = Math.max(most, ++now); setTimeout(() => { now--; request.echo() }, 5) }, async () => {
		for (const c of clients) c.text('x')
		await Promise.all(clients.map(c => c.nextText()))
		assert.equal(most, 4)
	})
	const made = s.program.made
	for (let i = 0; i < 20; i++) { clients[i].text('y'); await clients[i].nextText() }
	assert.equal(s.program.made, made, 'no new connection')
})

test('seance_keep_conn off: a request a connection, which is closed behind the answer', using({ hold: 'seance_keep_conn off; seance_connections 2;' }, async s => {
	s.program.onConnection = connection => { connection.once('data', data => { connection.keep = data[10] }) }
	const clients = await Promise.all(['a', 'b', 'c'].map(id => s.open(id)))
	for (const c of clients) for (let i = 0; i < 3; i++) c.text(`${c.id}${i}`)
	for (const c of clients) assert.deepEqual(await c.count(3), [0, 1, 2].map(i => `${c.id}${i}`))
	const connections = s.program.requests.map(r => r.connection)
	assert.equal(new Set(connections).size, 9)
	assert.deepEqual(new Set(connections.map(c => c.keep)), new Set([0]))
	await until(() => s.program.connections.size === 0, 'all to be closed')
}))

test('a program that hangs: what sockets left behind is given up at their deadline', using({ hold: 'seance_connections 1; seance_deadline 200ms;' }, async s => {
	s.program.on = () => {}
	const clients = await Promise.all(['a', 'b', 'c', 'd'].map(id => s.open(id)))
	for (const c of clients) c.text('x').send(closeFrame(1000))
	await until(() => s.link.stream.of('CLOSED').length === 4, 'all to be told as closed')
	assert.equal(s.program.requests.length, 1, 'those that waited were not sent any more')
}))

test('the program is killed and starts again: nothing closed, all answered', async () => {
	const clients = await Promise.all(Array.from({ length: 30 }, open))
	await behaving(() => {}, async () => {
		for (const c of clients) c.text('kill')
		await until(() => clients.some(c => of(c.id).length), 'some requests')
		await s.program.kill()
	})
	await sleep(120)
	await s.program.start()
	assert.deepEqual(await Promise.all(clients.map(c => c.nextText())), clients.map(() => 'kill'))
	assert.match(s.nginx.log(), /does not take connections/)
	assert.match(s.nginx.log(), /takes connections again/)
})

test('a backlog that is full is waited for', async () => {
	// the program accepts nothing while its event loop is blocked: connects pile up
	const clients = await Promise.all(Array.from({ length: 30 }, open))
	for (const c of clients) c.text('burst')
	const end = Date.now() + 200
	while (Date.now() < end) { /* blocked on purpose */ }
	await Promise.all(clients.map(c => c.nextText()))
})

test('a socket that is gone: its request in flight runs out, and only then is it told as closed', async () => {
	const c = await open()
	let request
	await behaving(r => { request = r }, async () => {
		c.text('long').text('never sent')
		await until(() => request, 'the request')
		c.reset()
		await until(() => new RegExp(`websocket ${c.id} ended`).test(s.nginx.log()), 'its end')
		await sleep(100)
		assert.equal(request.connection.destroyed, false)
		assert.equal(s.link.stream.of('CLOSED').filter(m => m.id === c.id).length, 0)
		request.echo()
		await until(() => s.link.stream.of('CLOSED').find(m => m.id === c.id && m.code === 1006), 'closed')
		assert.equal(of(c.id).length, 1)
	})
})

test('a socket that is gone: its request is not sent again', async () => {
	const c = await open()
	let request
	await behaving(r => { request = r }, async () => {
		c.text('long')
		await until(() => request, 'the request')
		c.cut()
		await until(() => new RegExp(`websocket ${c.id} ended`).test(s.nginx.log()), 'its end')
		request.cut()
		await until(() => s.link.stream.of('CLOSED').find(m => m.id === c.id), 'closed')
		assert.equal(of(c.id).length, 1)
	})
})

test('each attempt carries the position at that time', async () => {
	const c = await open()
	let tries = 0
	await behaving(request => {
		if (++tries > 1) { request.echo(); return }
		s.link.stream.unit(c.id, 0, 41, 'between')
		c.until(() => c.texts().includes('between'), 'the unit').then(() => request.cut())
	}, async () => {
		c.text('x')
		await c.count(2)
		assert.deepEqual(of(c.id).map(r => r.position), ['0', '41'])
	})
})

test('the deadline: 1013, while the program hangs', using({ hold: 'seance_deadline 400ms;' }, async s => {
	let request
	s.program.on = r => { request ??= r }
	const c = await s.open('late')
	const t = Date.now()
	c.text('x')
	assert.equal((await c.closing()).code, 1013)
	assert.ok(Date.now() - t >= 350 && Date.now() - t < 3000)
	c.send(closeFrame(1013))
	await c.end()
	await sleep(50)
	assert.equal(s.link.stream.of('CLOSED').length, 0, 'its request is still being run')
	request.echo()
	await until(() => s.link.stream.of('CLOSED').find(m => m.code === 1013), 'closed')
	assert.equal(s.link.stream.of('HELLO')[0].deadline, 400)
}))

test('the deadline: 1013, while there is no program; a newcomer in time is served', using({ hold: 'seance_deadline 600ms;' }, async s => {
	const c = await s.open('a'), d = await s.open('b')
	await s.program.kill()
	c.text('x')
	assert.equal((await c.closing()).code, 1013)
	d.text('y')
	await sleep(100)
	await s.program.start()
	assert.equal(await d.nextText(), 'y')
	assert.equal((s.nginx.log().match(/does not take connections/g) ?? []).length, 1, 'one line, not one for each attempt')
	assert.equal(s.program.requests.filter(r => r.id === 'a').length, 0)
}))

test('the deadline is for each message, not for the connection', using({ hold: 'seance_deadline 300ms;' }, async s => {
	s.program.on = request => setTimeout(() => request.echo(), 150)
	const c = await s.open('a')
	for (let i = 0; i < 6; i++) { c.text(`${i}`); assert.equal(await c.nextText(), `${i}`) }
	for (let i = 0; i < 6; i++) c.text(`${i}`)
	await c.count(6)
}))

test('trace 3: the same message twice has the same number, and is the same', using({}, async s => {
	const c = await s.open('a')
	let tries = 0
	s.program.on = request => ++tries === 1 ? request.cut() : request.echo()
	c.send(frame(OP.BINARY, Buffer.from([0, 255])))
	await c.next()
	const [one, two] = s.program.requests
	assert.equal(one.number, two.number)
	assert.ok(one.body.equals(two.body))
	assert.equal(one.params.SEANCE_WORKER, two.params.SEANCE_WORKER)
}))

test('trace 12: one message a request, the next only after the answer', using({}, async s => {
	const c = await s.open('a')
	const held = []
	s.program.on = request => held.push(request)
	c.text('one').text('two')
	await until(() => held.length === 1, 'the first')
	await sleep(50)
	assert.equal(held.length, 1)
	held[0].cut()
	await until(() => held.length === 2, 'the first again')
	assert.equal(held[1].number, 1)
	assert.equal(held[1].events.length, 1)
	held[1].echo()
	await until(() => held.length === 3, 'the second')
	assert.equal(held[2].number, 2)
	held[2].echo()
	await c.count(2)
}))
