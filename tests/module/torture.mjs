#!/usr/bin/env node
// torture.mjs [N] [SEED] [alone] - N connections (2000) that break at random moments while all else breaks, too
//
// Half of them with the worker staying: its pid, its descriptors, its memory and its own counts must come
// back.  The other half with nginx reloading as well: no worker may die, and the old ones must leave.
// Meanwhile the program is killed, its link and its FastCGI connections break, and its answers are
// late, large, cut off or wrong.  alone: the program has no link.  Plain, or under AddressSanitizer by asan.sh; memory is then only printed.
import net from 'node:net'
import tls from 'node:tls'
import { Client, frame, OP, request } from './client.mjs'
import { answer, close, fcgiAnswer, text } from './program.mjs'
import { certificate, start } from './setup.mjs'
import { descriptors, freePort, privateMemory, sleep, until } from './nginx.mjs'

const total = Number(process.argv[2] ?? 2000)
const alone = process.argv.includes('alone')
const seed = Number(process.argv[3]) || Date.now() % 1e9
const sanitized = /asan/.test(process.env.NGINX_PRELOAD ?? '') || Boolean(process.env.NGINX_BINARY)
const ABREAST = 200
let state = seed >>> 0
const pick = n => {              // mulberry32
	state = state + 0x6d2b79f5 >>> 0
	let t = Math.imul(state ^ state >>> 15, 1 | state)
	t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t
	return Math.floor(((t ^ t >>> 14) >>> 0) / 4294967296 * n)
}
const oneOf = list => list[pick(list.length)]
console.log(`# seed ${seed}`)

const securePort = await freePort()
const s = await start({
	connections: 8192,
	listen: port => `listen 127.0.0.1:${port} backlog=4096; listen 127.0.0.1:${securePort} ssl backlog=4096; ${certificate()}`,
	http: 'client_header_timeout 1s; send_timeout 2s; ssl_protocols TLSv1.2 TLSv1.3;',
	held: alone ? '' : 'main',
	hold: 'seance_buffer 64k; seance_buffer_limit 1m; seance_deadline 1s; seance_idle_timeout 1s; seance_close_timeout 500ms; seance_held_back 2;',
})
let failed = 0
const check = (good, what) => { console.log(`${good ? 'ok' : 'not ok'} - ${what}`); if (!good) failed++ }

// The program: answers that are late, none, cut off, wrong, large, closing.
const ways = [
	request => request.echo(), request => request.echo(), request => request.echo(),
	request => setTimeout(() => request.echo(), pick(50)),
	request => setTimeout(() => request.echo(), pick(50)),
	request => request.answer({ order: `${pick(3)}-${3 + pick(3)}/1`, events: [text('ordered'), text('not ordered')] }),
	request => request.answer({ events: [text('b'.repeat(pick(300000)))] }),
	request => request.answer({ events: [close(4000 + pick(100), 'enough')] }),
	request => request.answer({ events: Array.from({ length: pick(100) }, () => text('one of many')) }),
	request => request.cut(),
	request => request.connection.end(fcgiAnswer(answer({ events: [text('half')] })).subarray(0, 10 + pick(60))),
	request => request.connection.write(fcgiAnswer(Buffer.alloc(0), 2)),     // FCGI_OVERLOADED
	request => request.connection.write(Buffer.alloc(pick(100), 7)),         // not FastCGI
	() => {},                                                                // never
]
s.program.on = request => { if (!request.connection.destroyed) oneOf(ways)(request) }

// A connection's end.
const reset = socket => socket.encrypted ? socket.destroy() : socket.resetAndDestroy()
const endings = [
	socket => socket.destroy(),
	socket => socket.destroy(),
	reset,
	reset,
	socket => { socket.resume(); socket.end() },            // half-close; the rest is nginx's
	socket => pick(3) ? socket.destroy() : socket.resume(), // plain silence; likewise
]
const connect = () => {
	const socket = pick(4) ? net.connect({ port: s.nginx.port, host: '127.0.0.1' })
		: tls.connect({ port: securePort, host: '127.0.0.1', rejectUnauthorized: false })
	socket.on('error', () => {})
	return socket
}
const over = socket => new Promise(done => socket.destroyed || socket.closed ? done() : socket.once('close', done))
let made = 0
async function early(id) {
	const socket = connect()
	const bytes = Buffer.from(request(`/?id=${id}`, { Cookie: 'c'.repeat(pick(3000)) }))
	if (pick(3)) socket.write(pick(2) ? bytes.subarray(0, pick(bytes.length)) : bytes)
	else if (pick(2)) socket.write(Buffer.alloc(pick(500), 255))
	if (pick(2)) await sleep(pick(20))
	return socket
}

// What a client does between handshake and end.
const deeds = [
	c => c.text('x'.repeat(pick(4) ? pick(200) : pick(150000))),
	c => c.text('x'.repeat(pick(200))),
	c => { for (let i = pick(20); i > 0; i--) c.text('more') },
	c => { for (let i = pick(100); i > 0; i--) c.send(frame(OP.PING, 'flood')) },
	c => c.send(frame(OP.TEXT, 'y'.repeat(1000)).subarray(0, 1 + pick(1000))),
	c => c.send(frame(OP.TEXT, 'part', { fin: false })),
	c => c.send(Buffer.alloc(1 + pick(300), pick(256))),
	c => c.send(frame(OP.BINARY, '', { length: 2 * 1024 * 1024 })),
	c => c.send(frame(OP.CLOSE, Buffer.from([3, 232]))),
	c => c.socket.pause(),
	c => { for (const byte of frame(OP.TEXT, 'drip')) c.send(Buffer.from([byte])) },
	(c, id) => { for (let i = 0, n = pick(8); i < n; i++) deliver(id, i, i + 1, 'd'.repeat(pick(60000))) },
	(c, id) => deliver(id, pick(4), 4 + pick(3), 'out of order'),
	(c, id) => { if (handle(id) !== undefined && pick(3) === 0) s.link.stream.close(id, 1013) },
	() => sleep(pick(30)),
	() => sleep(pick(30)),
]
const handle = id => s.link.stream?.handles[id]
const deliver = (id, ...unit) => { if (handle(id) !== undefined) s.link.stream.unit(id, ...unit) }

async function one() {
	const id = `t${made++}`
	let socket
	if (pick(5) === 0) {
		socket = await early(id)
	} else {
		socket = connect()
		const c = await Client.open(0, `/?id=${id}`, { socket, early: pick(3) ? '' : frame(OP.TEXT, 'early') }).catch(() => null)
		for (let i = pick(6); i > 0 && c?.status === 101 && !c.ended; i--) await oneOf(deeds)(c, id)
	}
	oneOf(endings)(socket)
	const timer = setTimeout(() => socket.destroy(), 15000)
	await over(socket)
	clearTimeout(timer)
}
async function many(n) {
	let left = n
	await Promise.all(Array.from({ length: ABREAST }, async () => { while (left-- > 0) await one() }))
}

// What breaks meanwhile.
async function breaking(run, reloads) {
	while (!run.over) {
		await sleep(20 + pick(200))
		const what = pick(reloads ? 5 : 4)
		if (what === 0) { await s.program.kill(); await sleep(pick(100)); await s.program.start() }
		else if (what === 1) s.link.stream?.break()
		else if (what === 2) { await s.link.kill(); await sleep(pick(100)); await s.link.start() }
		else if (what === 3) for (const c of s.program.connections) { if (pick(2)) c.destroy() }
		else await s.nginx.reload()
	}
}
async function phase(n, reloads) {
	const run = { over: false }
	const broken = breaking(run, reloads)
	await many(n)
	run.over = true
	await broken
}

const lines = (text, pattern) => (text.match(pattern) ?? []).length
const allEnded = () => lines(s.nginx.access(), / HTTP\/1\.1" 101 /g) === lines(s.nginx.log(), /websocket t\d+ ended/g)

// Nothing is held, in flight or queued any more, as the worker itself says; or, without a link, as its log does.
const gauges = ['websockets', 'behind', 'in_flight', 'waiting', 'waiting_bytes', 'held_back', 'buffered_bytes']
async function quiet() {
	await until(() => s.nginx.workers().length === 1, 'old workers to leave', 30000)
	await until(allEnded, 'a line on each end', 30000)
	if (alone) return null
	const counts = await until(() => {
		const last = s.link.stream?.ready && s.link.stream.counts
		return last && gauges.every(name => last[name] === 0) && last.opened === last.closed && last
	}, () => `the worker's counts to come back: ${JSON.stringify(s.link.stream?.counts)}`, 30000)
	for (const stream of s.link.streams) stream.messages.length = 0      // they would fill this process
	s.program.requests.length = 0
	return counts
}
const seen = () => { const [worker] = s.nginx.workers(); return { worker, descriptors: descriptors(worker), memory: privateMemory(worker) } }
const said = (name, n, ms, before, now) => console.log(`# ${name}: ${n} connections in ${ms} ms; descriptors ${before.descriptors} -> ${now.descriptors}, memory ${before.memory} -> ${now.memory} KB`)

try {
	await many(Math.min(1500, Math.ceil(total / 2)))          // the heap takes its shape
	await quiet()
	const before = seen(), t = Date.now()
	await phase(Math.ceil(total / 2), false)
	const counts = await quiet(), now = seen()
	said('the worker stays', Math.ceil(total / 2), Date.now() - t, before, now)
	console.log(`# counts: ${JSON.stringify(counts)}`)
	check(now.worker === before.worker, 'the worker\'s pid stays')
	check(now.descriptors <= before.descriptors + 64, 'no descriptor stays behind')   // 64: connections to the program
	if (!sanitized) check(now.memory <= before.memory * 1.3 + 2048, 'no memory stays behind')
	const t2 = Date.now()
	await phase(Math.floor(total / 2), true)
	await quiet()
	said('with reloads', Math.floor(total / 2), Date.now() - t2, now, seen())
	s.program.on = request => request.echo()
	const c = await s.open(alone ? null : 'last', '/?id=last')
	c.text('alive')
	check(await c.nextText() === 'alive', 'it goes on serving')
	s.nginx.signal('SIGQUIT')
	c.cut()
	await until(() => s.nginx.workers().length === 0, 'nginx to end', 30000)
	check(!/exited on signal|exited with code [^0]|\[alert\]|\[emerg\]/.test(s.nginx.log()), 'no alert in the log, no worker dead')
} catch (error) {
	check(false, error.stack)
	console.log(s.nginx.log().split('\n').filter(l => /alert|on signal|emerg|Sanitizer/.test(l)).slice(0, 20).join('\n'), s.nginx.output().slice(0, 5000))
} finally {
	await s.stop().catch(error => check(false, error.message))        // says what a sanitizer found
}
process.exit(failed ? 1 : 0)
