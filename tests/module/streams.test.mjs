// Streams: what the link delivers, through nginx's own filters, to clients that read, read slowly, or leave.
import assert from 'node:assert/strict'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import { test } from 'node:test'
import { createGunzip } from 'node:zlib'
import { fcgiAnswer } from './program.mjs'
import { certificate, shared, using } from './setup.mjs'
import { children, until } from './nginx.mjs'

const BYTES = 5, CATCH_UP = 6

// The program leads every request that names an id to a stream.
const lead = ({ program }) => {
	program.connect = request => {
		const params = new URLSearchParams(request.params.QUERY_STRING)
		request.connection.end(fcgiAnswer(Buffer.from(`Content-Type: text/event-stream\r\nCache-Control: no-store\r\nVary: Origin\r\nX-Other: 1\r\nAccess-Control-Allow-Origin: http://a.example\r\nX-Accel-Redirect: /_hold/events/${params.get('id')}?after=${params.get('after') ?? 0}\r\n\r\n`)))
	}
}

class Stream {
	constructor(id, response, destroy) {
		Object.assign(this, { id, response, destroy, text: '', ended: false, closed: false })
		const text = response.headers?.['content-encoding'] === 'gzip' ? response.pipe(createGunzip()) : response
		text.setEncoding('utf8')
		text.on('data', part => { this.text += part })
		text.on('error', () => {})
		response.on('end', () => { this.ended = true })
		response.on('error', () => {})
		response.on('close', () => { this.closed = true })
	}
	async reads(text) { await until(() => this.text.includes(text), () => `"${text.slice(0, 40)}" in ${this.id}: "${this.text.slice(-80)}"`) }
}

const held = (s, id) => until(() => s.link.stream?.messages.findLast(m => m.type === 'HELD' && m.id === id), `held ${id}`)
const told = (s, type, id) => until(() => s.link.stream?.messages.find(m => m.type === type && (m.id === id || m.handle === s.link.stream.handles[id])), `${type} ${id}`)

async function open(s, id, { module = http, query = '', ...options } = {}) {
	const stream = await new Promise((done, fail) => {
		const request = module.get({ host: '127.0.0.1', port: s.nginx.port, path: `/?id=${id}${query}`, agent: false, ...options }, response => done(new Stream(id, response, () => request.destroy())))
		request.on('error', fail)
	})
	if (stream.response.statusCode === 200) await held(s, id)
	return stream
}

async function open2(s, id, session) {
	const request = session.request({ ':path': `/?id=${id}` })
	const headers = await new Promise((done, fail) => { request.on('response', done); request.on('error', fail) })
	const stream = new Stream(id, request, () => request.close(http2.constants.NGHTTP2_CANCEL))
	stream.response.headers = headers
	await held(s, id)
	return stream
}

const s = await shared({ server: 'location = /bad { fastcgi_pass unix:/nowhere; }' })
lead(s)
const deliver = (id, after, cursor, body = `u${cursor}\n`, opcode = BYTES) => s.link.stream.deliver([[id, after, cursor]], body, opcode)

test('the head is the program\'s, as far as nginx and we keep it; what is delivered is written as it is', async () => {
	const a = await open(s, 'head')
	assert.equal(a.response.headers['content-type'], 'text/event-stream')
	assert.equal(a.response.headers['cache-control'], 'no-store')
	assert.equal(a.response.headers['access-control-allow-origin'], 'http://a.example')
	assert.equal(a.response.headers.vary, 'Origin')
	assert.equal(a.response.headers['x-other'], undefined)
	assert.equal((await held(s, 'head')).kind, 2)
	deliver('head', 0, 1, 'data: é\n\n')
	await a.reads('data: é\n\n')
	a.destroy()
	assert.equal((await told(s, 'CLOSED', 'head')).code, 1006)
})

test('units in their order: past ones dropped, early ones held back; the position is where it begins', async () => {
	const a = await open(s, 'order', { query: '&after=5' })
	assert.equal((await held(s, 'order')).position, 5)
	deliver('order', 3, 5)
	deliver('order', 8, 9)
	deliver('order', 6, 8)
	deliver('order', 5, 6)
	deliver('order', 4, 6)
	await a.reads('u9')
	assert.equal(a.text, 'u6\nu8\nu9\n')
	deliver('order', 9, 20, 'caught up\n', CATCH_UP)
	await a.reads('caught up')
	a.destroy()
})

test('a close of the program ends the response, after all that was delivered', async () => {
	const a = await open(s, 'close')
	for (let i = 0; i < 100; i++) deliver('close', i, i + 1, `${i},`.padEnd(1000, '.'))
	s.link.stream.close('close', 1013, 'too far behind')
	await until(() => a.ended, 'the end')
	assert.equal(a.text.match(/\d+,/g).join(''), Array.from({ length: 100 }, (_, i) => `${i},`).join(''))
	await told(s, 'CLOSED', 'close')
})

test('what is for a WebSocket ends a stream, and the other way round', async () => {
	const a = await open(s, 'kinds')
	s.link.stream.deliver([['kinds', 0, 1]], 'text', 1)
	await until(() => a.ended, 'the end')
})

test('one delivery for a thousand streams', async () => {
	const all = await Promise.all(Array.from({ length: 1000 }, (_, i) => open(s, `many${i}`)))
	s.link.stream.deliver(all.map(({ id }) => [id, 0, 1]), 'news\n', BYTES)
	await Promise.all(all.map(a => a.reads('news')))
	for (const a of all) a.destroy()
	await until(() => s.link.stream.messages.filter(m => m.type === 'CLOSED' && m.id.startsWith('many')).length === 1000, 'all to be told closed')
})

test('bad targets: no id, unknown kind: 500, and nothing is held', async () => {
	const before = s.link.stream.of('HELD').length
	for (const target of ['/_hold/events/', '/_hold/events/a.b', '/_hold/other/x', `/_hold/events/${'x'.repeat(65)}`]) {
		s.program.connect = request => request.connection.end(fcgiAnswer(Buffer.from(`X-Accel-Redirect: ${target}\r\n\r\n`)))
		const status = await new Promise(done => http.get({ port: s.nginx.port, host: '127.0.0.1', path: '/' }, response => { response.resume(); done(response.statusCode) }))
		assert.equal(status, 500, target)
	}
	lead(s)
	assert.equal(s.link.stream.of('HELD').length, before)
})

test('a silent stream gets comments', using({ hold: 'seance_ping 50ms;' }, async s => {
	lead(s)
	const a = await open(s, 'ping')
	await a.reads(':\n\n:\n\n:\n\n')
	s.link.stream.deliver([['ping', 0, 1]], 'x\n', BYTES)
	await a.reads('x\n:\n\n')
	a.destroy()
}))

test('a link that breaks: the stream stays, hello tells where it stands, and it goes on', using({}, async s => {
	lead(s)
	const a = await open(s, 'link')
	s.link.stream.deliver([['link', 0, 4]], 'one\n', BYTES)
	await a.reads('one')
	const old = s.link.stream
	old.break()
	await until(() => s.link.stream && s.link.stream !== old && s.link.stream.ready, 'another hello')
	const hello = s.link.stream.messages.find(m => m.type === 'HELD' && m.id === 'link')
	assert.deepEqual([hello.kind, hello.position], [2, 4])
	s.link.stream.deliver([['link', 4, 5]], 'two\n', BYTES)
	await a.reads('two')
	a.destroy()
	await told(s, 'CLOSED', 'link')
}))

test('a reader that does not read is behind, is sent nothing more, and drains', using({ hold: 'seance_buffer 64k; seance_buffer_limit 32m;', server: 'send_timeout 60s;' }, async s => {
	lead(s)
	const a = await open(s, 'slow')
	a.response.pause()
	let cursor = 0
	const behind = () => s.link.stream.of('BEHIND').length > 0
	while (!behind() && cursor < 400) {
		s.link.stream.deliver([['slow', cursor, cursor + 1]], `<${++cursor}>`.padEnd(60000, '.'), BYTES)
		await until(() => s.link.stream.of('ACK').some(m => m.batch === s.link.stream.batch), 'its ack')
	}
	assert.ok(behind(), `behind after ${cursor} units`)
	const { position } = s.link.stream.of('BEHIND')[0]
	s.link.stream.deliver([['slow', position, position + 1]], '<lost>', BYTES)
	a.response.resume()
	await told(s, 'DRAINED', 'slow')
	assert.equal(s.link.stream.of('DRAINED')[0].position, position)
	s.link.stream.deliver([['slow', position, position + 1]], '<filled>', BYTES)
	await a.reads('<filled>')
	assert.ok(!a.text.includes('<lost>'))
	assert.deepEqual(a.text.match(/<\d+>/g).map(t => Number(t.slice(1, -1))), Array.from({ length: position }, (_, i) => i + 1))
	a.destroy()
}))

test('who does not read for send_timeout is cut', using({ hold: 'send_timeout 300ms; seance_buffer 1m;' }, async s => {
	lead(s)
	const socket = net.connect(s.nginx.port, '127.0.0.1')
	socket.on('error', () => {})
	socket.write('GET /?id=cut HTTP/1.1\r\nHost: x\r\n\r\n')
	socket.pause()
	await held(s, 'cut')
	for (let i = 0; i < 200 && !s.link.stream.of('CLOSED').length; i++) {
		s.link.stream.deliver([['cut', i, i + 1]], '.'.repeat(60000), BYTES)
		await until(() => s.link.stream.of('ACK').some(m => m.batch === s.link.stream.batch), 'its ack')
	}
	await told(s, 'CLOSED', 'cut')
	socket.destroy()
}))

test('a reload: the old worker keeps its streams, and leaves after the last', using({}, async s => {
	lead(s)
	const [old] = s.nginx.workers()
	const a = await open(s, 'reload')
	const { stream } = s.link
	await s.nginx.reload()
	await until(() => s.link.stream !== stream && s.link.stream.ready, 'the new worker\'s hello')
	stream.deliver([['reload', 0, 1]], 'still\n', BYTES)
	await a.reads('still')
	a.destroy()
	await until(() => !s.nginx.workers().includes(old), 'the old worker to leave')
}))

test('a worker that is killed: the client is cut; nothing is left in the next', using({}, async s => {
	lead(s)
	const a = await open(s, 'kill')
	const [worker] = children(s.nginx.pid)
	process.kill(worker, 'SIGKILL')
	await until(() => a.closed, 'the cut')
	await until(() => s.link.stream?.ready, 'a new hello')
	assert.equal(s.link.stream.of('HELD').length, 0)
}))

test('gzip: each unit comes at once, and all of it unpacks', using({ server: 'gzip on; gzip_types text/event-stream; gzip_min_length 0;' }, async s => {
	lead(s)
	const a = await open(s, 'gzip', { headers: { 'accept-encoding': 'gzip' } })
	assert.equal(a.response.headers['content-encoding'], 'gzip')
	for (let i = 0; i < 50; i++) {
		s.link.stream.deliver([['gzip', i, i + 1]], `unit ${i}.\n`, BYTES)
		await a.reads(`unit ${i}.`)
	}
	a.destroy()
}))

test('TLS', using({ listen: port => `listen 127.0.0.1:${port} ssl; ${certificate()}` }, async s => {
	lead(s)
	const a = await open(s, 'tls', { module: https, rejectUnauthorized: false })
	for (let i = 0; i < 20; i++) s.link.stream.deliver([['tls', i, i + 1]], `<${i}>`.padEnd(50000, '.'), BYTES)
	await a.reads('<19>')
	a.destroy()
	await told(s, 'CLOSED', 'tls')
}))

test('HTTP/2: many streams on one connection; one that is cancelled, one that is slow, and the connection\'s end', using({ listen: port => `listen 127.0.0.1:${port} http2;`, hold: 'seance_buffer 64k;' }, async s => {
	lead(s)
	const session = http2.connect(`http://127.0.0.1:${s.nginx.port}`)
	session.on('error', () => {})
	const all = await Promise.all(Array.from({ length: 50 }, (_, i) => open2(s, `h${i}`, session)))
	s.link.stream.deliver(all.map(({ id }) => [id, 0, 1]), 'one\n', BYTES)
	await Promise.all(all.map(a => a.reads('one')))
	all[0].destroy()
	await told(s, 'CLOSED', 'h0')
	all[1].response.pause()
	for (let i = 1; i < 30; i++) s.link.stream.deliver([['h1', i, i + 1]], `<${i}>`.padEnd(60000, '.'), BYTES)
	await told(s, 'BEHIND', 'h1')
	s.link.stream.deliver([['h2', 1, 2]], 'two\n', BYTES)
	await all[2].reads('two')
	all[1].response.resume()
	await told(s, 'DRAINED', 'h1')
	s.link.stream.close('h3', 1001, '')
	await until(() => all[3].ended, 'the end of one')
	all[4].response.pause()
	for (let i = 1; i < 30; i++) s.link.stream.deliver([['h4', i, i + 1]], '.'.repeat(60000), BYTES)
	await told(s, 'BEHIND', 'h4')
	session.destroy()
	await until(() => s.link.stream.of('CLOSED').length === 50, 'all to be told closed')
}))

test('a thousand clients that break off at random while units come', using({ processes: 2 }, async s => {
	lead(s)
	let going = true, cursor = 0
	const feed = (async () => {
		while (going) {
			for (const stream of s.link.streams.filter(({ open }) => open)) {
				const ids = Object.keys(stream.handles).slice(-60)
				if (ids.length) stream.deliver(ids.map(id => [id, 0, ++cursor]), 'x'.repeat(cursor % 7000), BYTES)
			}
			await new Promise(done => setTimeout(done, 1))
		}
	})()
	let n = 0
	const client = async () => {
		for (let i = 0; i < 25; i++) {
			await new Promise(done => {
				const socket = net.connect(s.nginx.port, '127.0.0.1', () => socket.write(`GET /?id=r${++n} HTTP/1.1\r\nHost: x\r\n\r\n`))
				let bytes = 0
				const enough = Math.random() * 20000
				const timer = setTimeout(() => socket.destroy(), Math.random() * 60)
				socket.on('data', part => { bytes += part.length; if (bytes > enough) socket[Math.random() < 0.5 ? 'destroy' : 'resetAndDestroy']() })
				socket.on('error', () => {})
				socket.on('close', () => { clearTimeout(timer); done() })
			})
		}
	}
	await Promise.all(Array.from({ length: 40 }, client))
	going = false
	await feed
	const count = name => s.link.streams.filter(({ open }) => open).reduce((sum, { counts }) => sum + (counts?.[name] ?? 0), 0)
	await until(() => count('streams') === 0 && count('opened') > 0 && count('opened') === count('closed'), () => `all to end: ${count('streams')}, ${count('opened')}, ${count('closed')}`)
	assert.doesNotMatch(s.nginx.log(), /exited on signal|\[alert\]|\[emerg\]/)
}))
