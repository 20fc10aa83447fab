import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import net from 'node:net'
import { test } from 'node:test'
import tls from 'node:tls'
import { Client, accept, frame, request, OP } from './client.mjs'
import { fcgiAnswer } from './program.mjs'
import { certificate, shared } from './setup.mjs'
import { freePort, testConfiguration, until } from './nginx.mjs'

const securePort = await freePort()
const s = await shared({
	listen: port => `listen 127.0.0.1:${port}; listen 127.0.0.1:${securePort} ssl; ${certificate()}`,
	server: 'location /open/ { seance_hold main; seance_pass unix:/nowhere; }',
	hold: 'seance_param SEANCE_CLIENT $remote_addr; seance_param QUERY "$args"; seance_param LONG "' + 'v'.repeat(300) + '";',
	connect: 'fastcgi_param SEANCE_VOCABULARY seance;',
})

test('a good handshake gets 101 with the accept value and the program\'s protocol alone', async () => {
	const key = 'AAECAwQFBgcICQoLDA0ODw=='
	const c = await s.open('hs1', '/?id=hs1&protocol=phoenix', {
		headers: { 'Sec-WebSocket-Key': key, 'Sec-WebSocket-Protocol': 'phoenix, base64url.bearer.phx.c2VjcmV0', Connection: 'keep-alive, Upgrade', Upgrade: 'WebSocket' },
	})
	assert.equal(c.status, 101)
	assert.equal(c.headers['sec-websocket-accept'], accept(key))
	assert.equal(c.headers['sec-websocket-protocol'], 'phoenix')
	assert.equal(c.headers.upgrade, 'websocket')
	assert.equal(c.headers.connection, 'upgrade')
	assert.equal(c.headers['sec-websocket-extensions'], undefined)
	assert.equal(c.headers['content-length'], undefined)
	assert.equal(c.headers['transfer-encoding'], undefined)
	const held = s.link.stream.of('HELD').find(m => m.id === 'hs1')
	assert.equal(held.kind, 1)
	assert.equal(held.position, 0)
	assert.equal(held.answered, 0)
})

test('no protocol is sent unless the program names one', async () => {
	const c = await s.open('hs2', '/?id=hs2', { headers: { 'Sec-WebSocket-Protocol': 'phoenix' } })
	assert.equal(c.status, 101)
	assert.equal(c.headers['sec-websocket-protocol'], undefined)
})

const bad = [
	['no Upgrade', { Upgrade: undefined }, 400],
	['another upgrade', { Upgrade: 'h2c' }, 400],
	['no Connection', { Connection: undefined }, 400],
	['Connection without upgrade', { Connection: 'keep-alive' }, 400],
	['no key', { 'Sec-WebSocket-Key': undefined }, 400],
	['a short key', { 'Sec-WebSocket-Key': 'dGhl' }, 400],
	['a key of 24 other letters', { 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZ!==' }, 400],
	['two keys', { 'Sec-WebSocket-Key': ['dGhlIHNhbXBsZSBub25jZQ==', 'dGhlIHNhbXBsZSBub25jZQ=='] }, 400],
	['no version', { 'Sec-WebSocket-Version': undefined }, 426],
	['version 8', { 'Sec-WebSocket-Version': '8' }, 426],
	['version 130', { 'Sec-WebSocket-Version': '130' }, 426],
	['two versions', { 'Sec-WebSocket-Version': ['13', '13'] }, 426],
	['versions in a list', { 'Sec-WebSocket-Version': '13, 8' }, 426],
	['an empty version', { 'Sec-WebSocket-Version': '' }, 426],
	['an empty Upgrade', { Upgrade: '' }, 400],
	['an Upgrade that only begins so', { Upgrade: 'websockets' }, 400],
	['an Upgrade with a version', { Upgrade: 'websocket/13' }, 400],
	['a Connection that only contains it', { Connection: 'upgraded, not-upgrade' }, 400],
	['an empty key', { 'Sec-WebSocket-Key': '' }, 400],
	['a key of 15 bytes', { 'Sec-WebSocket-Key': 'AAECAwQFBgcICQoLDA0O' }, 400],
	['a key of 17 bytes', { 'Sec-WebSocket-Key': 'AAECAwQFBgcICQoLDA0ODxA=' }, 400],
	['a key without its padding', { 'Sec-WebSocket-Key': 'AAECAwQFBgcICQoLDA0ODw' }, 400],
	['no Host', { Host: undefined }, 400],
	['a body', { 'Content-Length': '3' }, 400],
	['a chunked body', { 'Transfer-Encoding': 'chunked' }, 400],
]
const good = [
	['names of headers in small letters', { Upgrade: undefined, Connection: undefined, upgrade: 'websocket', connection: 'upgrade' }],
	['values in capitals', { Upgrade: 'WEBSOCKET', Connection: 'UPGRADE' }],
	['Connection as a list', { Connection: 'keep-alive ,\tUpgrade, x' }],
	['Connection twice', { Connection: ['keep-alive', 'Upgrade'] }],
	['Upgrade as a list', { Upgrade: 'h2c, websocket' }],
	['Upgrade twice', { Upgrade: ['h2c', 'websocket'] }],
	['extensions, which are not taken', { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits, x-webkit-deflate-frame' }],
	['subprotocols, none of which is taken', { 'Sec-WebSocket-Protocol': 'chat, superchat' }],
	['an Origin', { Origin: 'http://example.com' }],
	['a cookie of 4 KB', { Cookie: 'c'.repeat(4096) }],
	['a body of 0 bytes', { 'Content-Length': '0' }],
]
const ends = [['ws', () => undefined], ['wss', () => tls.connect({ port: securePort, host: '127.0.0.1', rejectUnauthorized: false })]]
for (const [scheme, socket] of ends) {
	for (const [name, headers, status] of bad) {
		test(`${scheme}: handshake with ${name}: ${status}`, async () => {
			const early = headers['Content-Length'] ? 'abc' : headers['Transfer-Encoding'] ? '3\r\nabc\r\n0\r\n\r\n' : ''
			const c = s.track(await Client.open(s.nginx.port, '/?id=bad', { headers, early, socket: socket() }))
			assert.equal(c.status, status)
			if (status === 426) assert.equal(c.headers['sec-websocket-version'], '13')
		})
	}
	for (const [i, [name, headers]] of good.entries()) {
		test(`${scheme}: handshake with ${name}: 101`, async () => {
			const c = await s.open(`good-${scheme}-${i}`, `/?id=good-${scheme}-${i}`, { headers, early: frame(OP.TEXT, 'at once'), socket: socket() })
			assert.equal(c.status, 101)
			assert.equal(c.headers['sec-websocket-accept'], accept('dGhlIHNhbXBsZSBub25jZQ=='))
			assert.equal(c.headers['sec-websocket-extensions'], undefined)
			assert.equal(c.headers['sec-websocket-protocol'], undefined)
			assert.equal(await c.nextText(), 'at once')
		})
	}
}

// The worker's own end of a client's connection, as the kernel has it: a descriptor borrowed by pidfd_getfd.
const NODELAY = `
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
pid, port = int(sys.argv[1]), int(sys.argv[2])
pidfd = os.pidfd_open(pid)
for fd in map(int, os.listdir(f"/proc/{pid}/fd")):
    if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:"):
        borrowed = libc.syscall(438, pidfd, fd, 0)
        if borrowed < 0:
            sys.exit(os.strerror(ctypes.get_errno()))
        with socket.socket(fileno=borrowed) as s:
            if s.family == socket.AF_INET and s.type == socket.SOCK_STREAM:
                try:
                    if s.getpeername()[1] == port:
                        print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                except OSError:   # the one that listens
                    pass
`
for (const [scheme, socket] of ends) {
	test(`${scheme}: TCP_NODELAY is on`, async t => {
		const c = await s.open(`nodelay-${scheme}`, undefined, { socket: socket() })
		c.text('held')
		assert.equal(await c.nextText(), 'held')
		const [worker] = s.nginx.workers()
		const said = spawnSync('/usr/bin/python3', ['-c', NODELAY, worker, c.socket.localPort], { encoding: 'utf8', timeout: 20000 })
		if (/^Operation not permitted|^Function not implemented/.test(said.stderr)) return t.skip('no descriptor may be borrowed here')
		assert.deepEqual([said.stdout, said.stderr], ['1\n', ''])
	})
}

for (const method of ['POST', 'HEAD', 'PUT']) {
	test(`handshake by ${method}: refused`, async () => {
		const c = s.track(await Client.open(s.nginx.port, '/?id=bad', { method }))
		assert.equal(c.status, 400)
	})
}

test('handshake by HTTP/1.0: refused', async () => {
	const c = s.track(await Client.open(s.nginx.port, '/?id=bad', { version: '1.0' }))
	assert.equal(c.status, 400)
})

for (const [name, path] of [['a dot', '/?id=a.b'], ['65 letters', `/?id=${'x'.repeat(65)}`], ['nothing', '/?id='], ['a slash at its end', '/?id=a/']]) {
	test(`an id with ${name} that the program gives: 500`, async () => {
		const c = s.track(await Client.open(s.nginx.port, path))
		assert.equal(c.status, 500)
	})
}

test('an id of 64 letters is held', async () => {
	const id = 'x_-'.padEnd(64, 'y')
	const c = await s.open(id)
	assert.equal(c.status, 101)
})

test('a protocol that is no token: 500', async () => {
	for (const p of ['a,b', 'a;b', 'a"b', 'a%0d%0aX:1']) {
		const c = s.track(await Client.open(s.nginx.port, `/?id=p1&protocol=${encodeURIComponent(p)}`))
		assert.equal(c.status, 500, p)
	}
})

test('the holding location cannot be reached from outside', async () => {
	for (const path of ['/_hold/websocket/abc', '/_hold/websocket/abc?protocol=phoenix', '/open/websocket/abc']) {
		const c = s.track(await Client.open(s.nginx.port, path))
		assert.equal(c.status, 404, path)
	}
})

test('a client cannot speak as another socket by headers', async () => {
	let seen
	const connect = s.program.connect
	s.program.connect = request => { seen = request.params; request.connection.end(fcgiAnswer(Buffer.from('Status: 403 Forbidden\r\n\r\nno'))) }
	try {
		const c = s.track(await Client.open(s.nginx.port, '/', { headers: { 'SEANCE-SOCKET': 'victim', SEANCE_SOCKET: 'victim', 'Seance-Message': '1', 'Seance-Position': '9' } }))
		assert.equal(c.status, 403)
		assert.deepEqual(Object.keys(seen).filter(k => k.startsWith('SEANCE_')), ['SEANCE_VOCABULARY'])
		assert.equal(seen.HTTP_SEANCE_SOCKET, 'victim')
	} finally {
		s.program.connect = connect
	}
})

test('a message carries its parameters, and those of the location as they were at connect', async () => {
	const c = await s.open('par', '/?id=par&a=1', { headers: { 'Seance-Socket': 'victim', SEANCE_POSITION: '77' } })
	for (const n of [1, 2]) {
		c.text(`m${n}`)
		assert.equal(await c.nextText(), `m${n}`)
	}
	const [one, two] = s.program.requests.filter(r => r.id === 'par')
	assert.deepEqual(one.params, {
		SEANCE_CLIENT: '127.0.0.1', QUERY: '', LONG: 'v'.repeat(300), REQUEST_METHOD: 'POST',
		CONTENT_TYPE: 'application/websocket-events', CONTENT_LENGTH: String(one.body.length),
		HTTP_CONNECTION_ID: 'par', SEANCE_SOCKET: 'par', SEANCE_MESSAGE: '1',
		SEANCE_WORKER: s.link.stream.of('HELLO')[0].tag.toString(16).padStart(16, '0'), SEANCE_POSITION: '0',
	})
	assert.equal(two.number, 2)
	assert.equal(one.body.toString(), 'TEXT 2\r\nm1\r\n')
})

test('bytes that came with the handshake are frames', async () => {
	const early = Buffer.concat([frame(OP.TEXT, 'one'), frame(OP.PING, 'p'), frame(OP.TEXT, 'two'), frame(OP.TEXT, 'three').subarray(0, 4)])
	const c = await s.open('early', '/?id=early', { early })
	await c.count(3)
	assert.deepEqual(c.texts(), ['one', 'two'])
})

test('bytes that came with the handshake in byte by byte pieces', async () => {
	const socket = net.connect(s.nginx.port, '127.0.0.1')
	const c = s.track(new Client(socket))
	for (const byte of Buffer.concat([Buffer.from(request('/?id=drip')), frame(OP.TEXT, 'dripped')])) {
		if (!socket.write(Buffer.from([byte]))) await new Promise(done => socket.once('drain', done))
		await new Promise(setImmediate)
	}
	assert.equal(await c.nextText(), 'dripped')
})

test('a 403 of the program is passed on, and so are its cookies at a 101', async () => {
	const connect = s.program.connect
	s.program.connect = request => request.connection.end(fcgiAnswer(Buffer.from('Set-Cookie: a=b\r\nX-Accel-Redirect: /_hold/websocket/cook\r\nContent-Type: text/x\r\n\r\nignored')))
	try {
		const c = await s.open('cook', '/')
		assert.equal(c.status, 101)
		assert.equal(c.headers['set-cookie'], 'a=b')
		assert.equal(c.headers['content-type'], undefined)
	} finally {
		s.program.connect = connect
	}
})

test('the access log has the handshake, the error log the end', async () => {
	const c = await s.open('logged')
	c.text('abc')
	await c.next()
	c.cut()
	await until(() => /websocket logged ended: code 1006, [\d.]+ s, in 1 messages 9 bytes, out 1 messages 5 bytes/.test(s.nginx.log()), 'a line')
	assert.match(s.nginx.access(), /GET \/\?id=logged HTTP\/1.1" 101/)
})

const conf = (location, http = 'seance_link a unix:/x;') => `http { ${http} server { location /h/ { internal; ${location} } } }`
for (const [name, text, want] of [
	['all directives', conf('seance_hold a; seance_pass unix:/p; seance_connections 8; seance_keep_conn off; seance_message_size 1k; seance_idle_timeout 5s; seance_deadline 1s; seance_queue 0; seance_buffer 1k; seance_buffer_limit 2k; seance_held_back 0; seance_close_timeout 1s; seance_param A $uri;'), true],
	['seance_link after its use', `http { server { location /h/ { internal; seance_hold b; seance_pass unix:/p; } } seance_link b unix:/x; }`, true],
	['no link', conf('seance_hold; seance_pass unix:/p;', ''), true],
	['a link without a name', conf('seance_hold; seance_pass unix:/p;', 'seance_link "" unix:/x;'), /needs a name/],
	['inherited settings', `http { seance_link a unix:/x; seance_pass unix:/p; seance_param A b; server { location /h/ { internal; seance_hold a; } } }`, true],
	['an unknown link', conf('seance_hold b; seance_pass unix:/p;'), /no "seance_link" is named "b"/],
	['no seance_pass', conf('seance_hold a;'), /needs "seance_pass"/],
	['a path without unix:', conf('seance_hold a; seance_pass /p;'), /must name a unix socket/],
	['a long path', conf(`seance_hold a; seance_pass unix:/${'x'.repeat(108)};`), /too long/],
	['a parameter of the module\'s own', conf('seance_hold a; seance_pass unix:/p; seance_param SEANCE_SOCKET x;'), /sends itself/],
	['no connections', conf('seance_hold a; seance_pass unix:/p; seance_connections 0;'), /must not be 0/],
	['a limit below its buffer', conf('seance_hold a; seance_pass unix:/p; seance_buffer 2k; seance_buffer_limit 1k;'), /must not be below/],
	['a link twice', conf('seance_hold a; seance_pass unix:/p;', 'seance_link a unix:/x; seance_link a unix:/y;'), /duplicate/],
]) {
	test(`configuration: ${name}`, () => {
		const { ok, output } = testConfiguration(text)
		if (want === true) assert.ok(ok, output)
		else { assert.ok(!ok); assert.match(output, want) }
	})
}
