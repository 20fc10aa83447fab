// Requests that wait: parked under a name and a position, woken, asked again; answered when their time is over.
import assert from 'node:assert/strict'
import http from 'node:http'
import http2 from 'node:http2'
import { test } from 'node:test'
import { fcgiAnswer } from './program.mjs'
import { shared, using } from './setup.mjs'
import { sleep, until } from './nginx.mjs'

const again = program => `location = /again { internal; fastcgi_pass unix:${program}; fastcgi_param REQUEST_URI $request_uri; fastcgi_param QUERY_STRING $query_string; fastcgi_param REQUEST_METHOD $request_method; fastcgi_param SEANCE_ELAPSED $request_time; fastcgi_param AGAIN 1; }`

// The program lets all wait until a test says that there is news: then it answers with them.
const park = (s, { seconds = 20, end = '' } = {}) => {
	s.asked = []
	s.news = undefined
	s.program.connect = request => {
		s.asked.push(request.params)
		const params = new URLSearchParams(request.params.QUERY_STRING)
		const name = params.get('name')
		const text = s.news === undefined && !(end && Number(request.params.SEANCE_ELAPSED) >= seconds)
			? `Access-Control-Allow-Origin: http://a.example\r\nCache-Control: private\r\nContent-Type: application/json\r\nX-Accel-Redirect: /_hold/wait/${name}?after=${params.get('after') ?? 0}&seconds=${params.get('seconds') ?? seconds}&again=/again${end}\r\n\r\n`
			: `Content-Type: application/json\r\nCache-Control: private\r\n\r\n{"news":"${s.news ?? 'none'}"}`
		request.connection.end(fcgiAnswer(Buffer.from(text)))
	}
}

const waiting = (options, run) => using({ server: again, ...options }, async s => {
	park(s)
	await run(s)
})

const get = (s, path, options = {}) => {
	const answer = { status: 0, body: '', ended: false, closed: false }
	answer.request = http.get({ host: '127.0.0.1', port: s.nginx.port, path, agent: false, ...options }, response => {
		answer.status = response.statusCode
		answer.headers = response.headers
		response.setEncoding('utf8').on('data', part => { answer.body += part })
		response.on('end', () => { answer.ended = true })
	})
	answer.request.on('error', () => {})
	answer.request.on('close', () => { answer.closed = true })
	answer.end = () => until(() => answer.ended, 'an answer').then(() => answer)
	return answer
}
const held = (s, id) => until(() => s.link.stream?.messages.findLast(m => m.type === 'HELD' && m.id === id && !m.seen), `held ${id}`)
const closed = (s, id) => until(() => s.link.stream?.messages.find(m => m.type === 'CLOSED' && m.id === id), `closed ${id}`)

const s = await shared({ server: again })

test('waits under a name and a position, is woken, and asked again as it came', async () => {
	park(s)
	const a = get(s, '/some%2Fpath?name=one&after=7')
	const { kind, position } = await held(s, 'one')
	assert.deepEqual([kind, position], [3, 7])
	assert.equal(a.status, 0)
	s.news = 'x'
	s.link.stream.wake('one')
	const { status, body, headers } = await a.end()
	assert.deepEqual([status, body, headers['content-type'], headers['cache-control'], headers['access-control-allow-origin']], [200, '{"news":"x"}', 'application/json', 'private', undefined])
	const { REQUEST_URI, QUERY_STRING, REQUEST_METHOD, AGAIN } = s.asked.at(-1)
	assert.deepEqual([REQUEST_URI, QUERY_STRING, REQUEST_METHOD, AGAIN], ['/some%2Fpath?name=one&after=7', 'name=one&after=7', 'GET', '1'])
	assert.equal(s.asked.length, 2)
	await closed(s, 'one')
})

test('woken in vain, fifty times: it waits on, each time told anew', async () => {
	park(s)
	const a = get(s, '/?name=vain')
	for (let i = 0; i < 50; i++) {
		const m = await held(s, 'vain')
		m.seen = true
		s.link.stream.wake('vain')
	}
	await held(s, 'vain')
	assert.equal(a.status, 0)
	assert.equal(s.asked.length, 51)
	s.news = 'y'
	s.link.stream.wake('vain')
	assert.equal((await a.end()).body, '{"news":"y"}')
})

test('its time is over: 204, with what the program said of CORS; counted from the request\'s beginning', async () => {
	park(s)
	const a = get(s, '/?name=late&seconds=1')
	;(await held(s, 'late')).seen = true
	await sleep(300)
	s.link.stream.wake('late')
	await held(s, 'late')
	const { status, body, headers } = await a.end()
	assert.deepEqual([status, body, headers['access-control-allow-origin'], headers['cache-control'], headers['content-type']], [204, '', 'http://a.example', 'private', undefined])
	assert.equal(s.asked.length, 2)
	await closed(s, 'late')
})

test('or asked again at the end, when the program wants that', async () => {
	park(s, { seconds: 1, end: '&end=again' })
	const a = get(s, '/?name=end')
	await held(s, 'end')
	assert.deepEqual((await a.end()).body, '{"news":"none"}')
	assert.ok(Number(s.asked.at(-1).SEANCE_ELAPSED) >= 1)
})

test('a client that goes is noticed; a wake for it is passed over', async () => {
	park(s)
	const a = get(s, '/?name=gone')
	const { handle } = await held(s, 'gone')
	a.request.destroy()
	await closed(s, 'gone')
	s.link.stream.wake(handle)
	const { batch } = s.link.stream
	await until(() => s.link.stream.of('ACK').some(m => m.batch === batch), 'its ack')
	assert.equal(s.asked.length, 1)
})

test('a path that is none, or leads nowhere: 500, and nothing is held', async () => {
	for (const args of ['seconds=1', 'seconds=1&again=', 'seconds=1&again=again', 'seconds=9&again=/_hold/wait/nowhere']) {
		s.program.connect = request => request.connection.end(fcgiAnswer(Buffer.from(`X-Accel-Redirect: /_hold/wait/bad?${args}\r\n\r\n`)))
		const a = get(s, '/')
		if (args.includes('nowhere')) { await held(s, 'bad'); s.link.stream.wake('bad') }
		assert.equal((await a.end()).status, 500, args)
	}
})

test('the program is gone when it is woken: 502, and the client is not held', waiting({}, async s => {
	const a = get(s, '/?name=dead')
	await held(s, 'dead')
	await s.program.kill()
	s.link.stream.wake('dead')
	assert.equal((await a.end()).status, 502)
	await closed(s, 'dead')
}))

test('a link that breaks: it waits on, and the next hello tells of it', waiting({}, async s => {
	const a = get(s, '/?name=link&after=3')
	await held(s, 'link')
	const old = s.link.stream
	old.break()
	await until(() => s.link.stream && s.link.stream !== old && s.link.stream.ready, 'another hello')
	assert.deepEqual(s.link.stream.of('HELD').map(({ id, kind, position }) => [id, kind, position]), [['link', 3, 3]])
	s.news = 'z'
	s.link.stream.wake('link')
	assert.equal((await a.end()).body, '{"news":"z"}')
}))

test('a reload: the old worker leaves when its waits have ended', waiting({}, async s => {
	const before = s.nginx.workers()
	const a = get(s, '/?name=old')
	await held(s, 'old')
	const { stream } = s.link
	await s.nginx.reload()
	s.news = 'w'
	stream.wake('old')
	assert.equal((await a.end()).body, '{"news":"w"}')
	await until(() => !s.nginx.workers().some(pid => before.includes(pid)), 'the old workers to leave')
}))

test('keep-alive: one connection waits again and again', async () => {
	park(s)
	const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
	for (let i = 0; i < 20; i++) {
		s.news = undefined
		const a = get(s, `/?name=keep${i}`, { agent })
		await held(s, `keep${i}`)
		s.news = i
		s.link.stream.wake(`keep${i}`)
		assert.equal((await a.end()).body, `{"news":"${i}"}`)
	}
	agent.destroy()
})

test('a thousand at once: counted, woken by one turn, all answered', async () => {
	park(s)
	const all = Array.from({ length: 1000 }, (_, i) => get(s, `/?name=t${i}`))
	const names = new Set(all.map((_, i) => `t${i}`))
	await until(() => s.link.stream.of('HELD').filter(({ id }) => names.has(id)).length >= 1000, 'all to be held')
	await until(() => s.link.stream.counts?.parked === 1000, 'the count')
	s.news = 'all'
	for (const name of names) s.link.stream.wake(name)
	for (const a of all) assert.equal((await a.end()).body, '{"news":"all"}')
	await until(() => s.link.stream.counts?.parked === 0, 'the count')
})

test('HTTP/2: woken, over, cancelled, and the connection\'s end', waiting({ listen: port => `listen 127.0.0.1:${port} http2;` }, async s => {
	const session = http2.connect(`http://127.0.0.1:${s.nginx.port}`)
	session.on('error', () => {})
	const ask = path => {
		const request = session.request({ ':path': path })
		const answer = { request, body: '', ended: false }
		request.on('response', headers => { answer.status = headers[':status'] })
		request.on('error', () => {})
		request.setEncoding('utf8').on('data', part => { answer.body += part })
		request.on('end', () => { answer.ended = true })
		answer.end = () => until(() => answer.ended, 'an answer').then(() => answer)
		return answer
	}
	const [woken, over, cancelled, cut] = [ask('/?name=woken'), ask('/?name=over&seconds=1'), ask('/?name=cancelled'), ask('/?name=cut')]
	await Promise.all(['woken', 'over', 'cancelled', 'cut'].map(id => held(s, id)))
	cancelled.request.close(http2.constants.NGHTTP2_CANCEL)
	await closed(s, 'cancelled')
	assert.equal((await over.end()).status, 204)
	s.news = 'h2'
	s.link.stream.wake('woken')
	assert.deepEqual([(await woken.end()).status, woken.body], [200, '{"news":"h2"}'])
	session.destroy()
	await closed(s, 'cut')
	assert.ok(cut.request.destroyed)
}))

test('six hundred that leave at random while they are woken at random, through reloads', waiting({ processes: 2 }, async s => {
	let going = true, n = 0, answered = 0
	s.link.on = (m, stream) => { if (m.type === 'HELD' && Math.random() < 0.5) setTimeout(() => { if (stream.open) stream.wake(m.handle) }, Math.random() * 30) }
	const client = async () => {
		for (let i = 0; i < 15; i++) {
			const a = get(s, `/?name=w${++n}&seconds=1`)
			setTimeout(() => { if (Math.random() < 0.7) a.request.destroy() }, Math.random() * 60)
			await until(() => a.ended || a.closed, 'its end')
			answered += a.ended
		}
	}
	const reloads = (async () => {
		for (let i = 0; i < 3 && going; i++) {
			await sleep(300)
			await s.nginx.reload()
			if (i === 1) s.link.stream?.break()
		}
	})()
	await Promise.all(Array.from({ length: 40 }, client))
	going = false
	await reloads
	assert.ok(answered > 0)
	assert.doesNotMatch(s.nginx.log(), /exited on signal|\[alert\]|\[emerg\]/)
	await until(() => s.link.streams.filter(({ open }) => open).every(({ counts }) => !counts?.parked), 'none to be parked')
}))
