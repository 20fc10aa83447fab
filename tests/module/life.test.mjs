import assert from 'node:assert/strict'
import { test } from 'node:test'
import tls from 'node:tls'
import { Client, closeFrame, frame, OP } from './client.mjs'
import { text } from './program.mjs'
import { certificate, start, using } from './setup.mjs'
import { alive, descriptors, freePort, listens, privateMemory, sleep, startNginx, until } from './nginx.mjs'

const many = async (s, n, name) => {
	const clients = []
	for (let i = 0; i < n; i += 50) clients.push(...await Promise.all(Array.from({ length: Math.min(50, n - i) }, (_, k) => s.open(`${name}${i + k}`))))
	return clients
}
const alerts = s => s.nginx.log().split('\n').filter(line => /\[(alert|emerg|crit)\]/.test(line))

test('reload: sockets go on in the old worker, over its own link; it leaves after the last close', using({}, async s => {
	const clients = await many(s, 20, 'r')
	const [old] = s.nginx.workers()
	const stream = s.link.stream
	await s.nginx.reload()
	await until(() => s.link.streams.length === 2 && s.link.streams[1].ready, 'the new worker\'s link')
	assert.equal(s.link.streams[1].of('HELD').length, 0)
	for (const c of clients) c.text('still here')
	for (const c of clients) assert.equal(await c.nextText(), 'still here')
	stream.deliver(clients.map(c => [c.id, 0, 1]), 'news')
	for (const c of clients) assert.equal(await c.nextText(), 'news')
	await until(() => !listens(old, s.nginx.port), 'the old worker to take no more')
	const d = await s.open('new')
	d.text('x')
	assert.equal(await d.nextText(), 'x')
	assert.ok(alive(old))
	for (const c of clients) c.send(closeFrame(1000))
	await Promise.all(clients.map(c => c.end()))
	await until(() => stream.of('CLOSED').length === 20, 'all told as closed')
	await until(() => !alive(old), 'the old worker to leave')
	assert.equal(s.nginx.workers().length, 1)
	assert.deepEqual(alerts(s), [])
}))

test('an old worker stays until the last request in flight has ended and was told', using({}, async s => {
	const c = await s.open('a')
	let request
	s.program.on = r => { request = r }
	c.text('long')
	await until(() => request, 'the request')
	const [old] = s.nginx.workers()
	const stream = s.link.stream
	await s.nginx.reload()
	c.cut()
	await until(() => /websocket a ended/.test(s.nginx.log()), 'its end')
	await sleep(100)
	assert.ok(alive(old))
	assert.equal(stream.of('CLOSED').length, 0)
	request.echo()
	await until(() => stream.of('CLOSED').length === 1, 'closed')
	await until(() => !alive(old), 'the old worker to leave')
}))

test('an old worker without sockets does not wait for a program that is gone', using({}, async s => {
	const c = await s.open('a')
	await s.link.kill()
	const [old] = s.nginx.workers()
	await s.nginx.reload()
	c.cut()
	await until(() => !alive(old), 'the old worker to leave')
}))

test('20 reloads in 10 s under 256 busy sockets: none closed, none stalled, newcomers held', using({}, async s => {
	const clients = await many(s, 256, 'b')
	const echoes = new Map(), failures = []
	let stop = false
	const busy = async c => {
		for (let i = 0; !stop; i++) { c.text(`${i}`); assert.equal(await c.nextText(), `${i}`); echoes.set(c, i); await sleep(5) }
	}
	const start = c => busy(c).catch(error => { failures.push(error); stop = true })
	const loops = clients.map(start)
	for (let i = 0; i < 20 && !stop; i++) {
		const next = Date.now() + 500
		await s.nginx.reload()
		const fresh = await Promise.all(Array.from({ length: 4 }, () => s.open(null, '/')))
		clients.push(...fresh)
		loops.push(...fresh.map(start))
		const before = new Map(echoes)
		await until(() => stop || clients.every(c => echoes.get(c) > (before.get(c) ?? -1)), 'each to go on')
		await sleep(Math.max(0, next - Date.now()))
	}
	stop = true
	await Promise.all(loops)
	assert.deepEqual(failures, [])
	for (const c of clients) c.cut()
	await until(() => s.nginx.workers().length === 1, 'old workers to leave', 15000)
	assert.deepEqual(alerts(s), [])
}))

test('binary upgrade: sockets go on in the old worker, newcomers come to the new one; both masters leave in order', async () => {
	const s = await start({ daemon: true })
	try {
		const old = s.nginx.pid, clients = await many(s, 20, 'u'), stream = s.link.stream
		const [worker] = s.nginx.workers()
		process.kill(old, 'SIGUSR2')
		await until(() => s.nginx.pid && s.nginx.pid !== old && s.nginx.workers().length === 1, 'the new master and its worker')
		process.kill(old, 'SIGWINCH')
		await until(() => s.link.streams.length === 2 && s.link.streams[1].ready, 'the new worker\'s link')
		await until(() => !listens(worker, s.nginx.port), 'the old worker to take no more')
		const d = await s.open('fresh')
		d.text('new')
		assert.equal(await d.nextText(), 'new')
		for (const c of clients) { c.text('old'); assert.equal(await c.nextText(), 'old') }
		stream.deliver(clients.map(c => [c.id, 0, 1]), 'news')
		for (const c of clients) assert.equal(await c.nextText(), 'news')
		assert.ok(alive(worker) && alive(old))
		process.kill(old, 'SIGQUIT')
		for (const c of clients) c.cut()
		await until(() => !alive(worker) && !alive(old), 'the old worker and its master to leave')
		d.text('still')
		assert.equal(await d.nextText(), 'still')
		assert.deepEqual(alerts(s), [])
	} finally {
		await s.stop()
	}
})

test('binary upgrade taken back: the old master\'s workers serve again, the new worker keeps its sockets until they close', async () => {
	const s = await start({ daemon: true })
	try {
		const old = s.nginx.pid, [c] = await many(s, 1, 'u'), [worker] = s.nginx.workers()
		process.kill(old, 'SIGUSR2')
		await until(() => s.nginx.pid && s.nginx.pid !== old && s.nginx.workers().length === 1, 'the new master and its worker')
		const fresh = s.nginx.pid
		process.kill(old, 'SIGWINCH')
		await until(() => s.link.streams.length === 2 && s.link.streams[1].ready, 'the new worker\'s link')
		await until(() => !listens(worker, s.nginx.port), 'the old worker to take no more')
		const d = await s.open('d')
		process.kill(old, 'SIGHUP')                      // its workers anew
		process.kill(fresh, 'SIGQUIT')
		await until(() => s.link.streams.length === 3 && s.link.streams[2].ready, 'a link of the old master\'s new worker')
		for (const x of [c, d]) { x.text('held'); assert.equal(await x.nextText(), 'held') }
		d.cut()
		c.cut()
		await until(() => !alive(fresh) && s.nginx.pid === old, 'the new master to leave')
		await until(() => s.nginx.workers().length === 1, 'one worker')
		const e = await s.open('e')
		e.text('back')
		assert.equal(await e.nextText(), 'back')
		assert.deepEqual(alerts(s), [])
	} finally {
		await s.stop()
	}
})

test('worker_shutdown_timeout closes what is held with 1001', using({ main: 'worker_shutdown_timeout 300ms;' }, async s => {
	const clients = await many(s, 10, 't')
	s.program.on = () => {}
	clients[0].text('in flight')
	await until(() => s.program.requests.length === 1, 'a request')
	const [old] = s.nginx.workers()
	await s.nginx.reload()
	for (const c of clients) { assert.equal((await c.closing()).code, 1001); await c.end() }
	await until(() => !alive(old), 'the old worker to leave')
	assert.deepEqual(alerts(s), [])
}))

test('a stop ends the worker at once, without a complaint', async () => {
	const s = await start({})
	await many(s, 20, 'q')
	s.program.on = () => {}
	;(await s.open('z')).text('in flight')
	await until(() => s.program.requests.length === 1, 'a request')
	s.nginx.signal('SIGTERM')
	await until(() => !alive(s.nginx.pid), 'nginx to end')
	assert.deepEqual(alerts(s), [])
	assert.ok(!/signal (11|6)|exited on signal/.test(s.nginx.log()))
	assert.doesNotMatch(s.nginx.log(), /wrongly/, 'what was in flight was not answered wrongly')
	await s.stop()
})

test('a worker that is killed: its sockets close, its link breaks, a new one is there', using({}, async s => {
	const clients = await many(s, 10, 'k')
	const [old] = s.nginx.workers()
	const stream = s.link.stream
	process.kill(old, 'SIGKILL')
	await Promise.all(clients.map(c => c.end()))
	await until(() => !stream.open, 'the link to break')
	await until(() => s.link.stream?.ready, 'the new worker\'s link')
	assert.notEqual(s.link.stream.of('HELLO')[0].tag, stream.of('HELLO')[0].tag)
	const c = await s.open('again')
	c.text('x')
	assert.equal(await c.nextText(), 'x')
}))

test('two workers: each has its link, all sockets are held', async () => {
	const s = await start({ processes: 2 })
	try {
		await until(() => s.link.streams.length === 2 && s.link.streams.every(x => x.ready), 'two links')
		const clients = await Promise.all(Array.from({ length: 60 }, (_, i) => s.open(null, `/?id=w${i}`)))
		const all = () => s.link.streams.flatMap(x => Object.keys(x.handles))
		await until(() => new Set(all()).size === 60, 'all held')
		for (const [i, c] of clients.entries()) s.link.streams.find(x => x.handles[`w${i}`]).unit(`w${i}`, 0, 1)
		for (const c of clients) assert.equal(await c.nextText(), 'u1')
		for (const c of clients) { c.text('x'); assert.equal(await c.nextText(), 'x') }
	} finally {
		await s.stop()
	}
})

test('master_process off', async () => {
	const s = await start({ main: 'master_process off;', processes: 0 })
	try {
		const c = await s.open('a')
		c.text('x')
		assert.equal(await c.nextText(), 'x')
		s.link.stream.unit('a', 0, 1)
		assert.equal(await c.nextText(), 'u1')
	} finally {
		await s.stop()
	}
})

test('worker_connections used up: newcomers are refused, the held ones stay', using({ connections: 60, hold: 'seance_connections 2;' }, async s => {
	const clients = []
	for (let i = 0; i < 45; i++) clients.push(await s.open(`c${i}`))
	const burst = await Promise.allSettled(Array.from({ length: 40 }, (_, i) => Client.open(s.nginx.port, `/?id=n${i}`).then(c => s.track(c))))
	for (const c of clients) { c.text('x'); assert.equal(await c.nextText(), 'x') }
	assert.ok(burst.some(b => b.status === 'rejected' || b.value.status !== 101))
}))

test('wss: the same over TLS, large and small, slow readers included', async () => {
	const s = await start({ listen: port => `listen 127.0.0.1:${port} ssl; ${certificate()}`, hold: 'seance_buffer_limit 64m; seance_idle_timeout 900ms;' })
	try {
		const open = async (id, options) => {
			const socket = tls.connect({ port: s.nginx.port, host: '127.0.0.1', rejectUnauthorized: false, allowHalfOpen: true })
			return s.track(await Client.open(0, `/?id=${id}`, { socket, ...options }))
		}
		const c = await open('a', { early: frame(OP.TEXT, 'early') })
		assert.equal(await c.nextText(), 'early')
		for (const n of [1, 1000, 16384, 100000, 1000000]) {
			c.text('b'.repeat(n))
			assert.equal((await c.next()).data.length, n)
		}
		await until(() => s.link.stream.handles.a, 'held')
		c.socket.pause()
		let sent = 0
		while (!s.link.stream.of('BEHIND').length && sent < 300) { s.link.stream.unit('a', sent, sent + 1, 'b'.repeat(50000 + sent)); sent++; await sleep(2) }
		assert.equal(s.link.stream.of('BEHIND').length, 1)
		const { position } = s.link.stream.of('BEHIND')[0]
		c.socket.resume()
		await c.count(position)
		assert.deepEqual(c.texts().map(t => t.length), Array.from({ length: position }, (_, i) => 50000 + i))
		c.frames.length = 0
		c.send(frame(OP.TEXT, 'x', { rsv: 1 }))
		assert.equal((await c.closing()).code, 1002)
		await c.end(2000)
		c.socket.end()
		const d = await open('d')
		d.send(closeFrame(1000))
		assert.equal((await d.closing()).code, 1000)
		await d.end()
		const e = await open('e')
		assert.equal((await e.closing(4000)).code, 1001)
		await until(() => s.link.stream.of('CLOSED').length >= 2, 'closed')
		assert.deepEqual(alerts(s), [])
	} finally {
		await s.stop()
	}
})

test('HTTP/2: refused', async () => {
	const { connect } = await import('node:http2')
	const s = await start({ listen: port => `listen 127.0.0.1:${port} http2;` })
	try {
		const session = connect(`http://127.0.0.1:${s.nginx.port}`)
		session.on('error', () => {})
		const request = session.request({ ':path': '/?id=h2', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==', 'sec-websocket-version': '13' })
		const status = await new Promise((done, fail) => { request.on('response', h => done(h[':status'])); request.on('error', fail) })
		assert.equal(status, 400)
		session.destroy()
	} finally {
		await s.stop()
	}
})

test('400 sockets vanish with a frame in flight: the worker stays, descriptors come back', using({}, async s => {
	const [worker] = s.nginx.workers()
	s.program.on = request => setTimeout(() => request.echo(), Math.random() * 20)
	await many(s, 20, 'warm').then(clients => clients.map(c => c.cut()))
	await until(() => s.link.stream.of('CLOSED').length === 20, 'the first to be told')
	await sleep(100)
	const before = descriptors(worker)
	for (let round = 0; round < 8; round++) {
		const clients = await many(s, 50, `v${round}-`)
		for (const [i, c] of clients.entries()) {
			c.text('x'.repeat(i * 100))
			if (i % 3 === 0) c.send(frame(OP.TEXT, 'y'.repeat(100)).subarray(0, 20))
			if (i % 2) c.reset(); else c.cut()
		}
	}
	await until(() => s.link.stream.of('CLOSED').length === 420, 'all told as closed')
	assert.deepEqual(s.nginx.workers(), [worker])
	await until(() => descriptors(worker) <= before + 64, 'descriptors back')   // 64: connections to the program
	assert.equal(new Set(s.link.stream.of('CLOSED').map(m => m.handle)).size, 420)
	assert.deepEqual(alerts(s), [])
}))

test('an idle held socket costs at most 1 KB in the worker', { skip: Boolean(process.env.NGINX_PRELOAD || process.env.NGINX_BINARY) }, using({ connections: 10000 }, async s => {
	const [worker] = s.nginx.workers()
	const padding = { Cookie: 'c'.repeat(1000) }
	const wave = async (n, name) => { for (let i = 0; i < n / 20; i++) await Promise.all(Array.from({ length: 20 }, (_, k) => s.open(`${name}${i}-${k}`, undefined, { headers: padding }))) }
	// handshakes that are under way together leave holes in the heap: few at once, and many sockets
	await wave(1000, 'a')
	const before = privateMemory(worker)
	await wave(5000, 'b')
	const each = (privateMemory(worker) - before) * 1024 / 5000
	console.log(`# ${each.toFixed(0)} bytes a socket`)
	assert.ok(each <= 1024, `${each} bytes a socket`)
}))
