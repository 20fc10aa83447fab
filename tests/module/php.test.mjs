// Any FastCGI program can serve WebSockets with the module: examples/php, by the real PHP-FPM.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { Client } from './client.mjs'
import { alive, children, environment, freePort, modulePath, nginxBinary, root, temporary, until } from './nginx.mjs'
import { HandshakeRefused, Raw } from '../lib/raw.mjs'

const example = join(root, 'examples/php')
const fpm = readdirSync('/usr/sbin').find(name => /^php-fpm\d/.test(name)) ?? 'php-fpm'

// A copy of the example on a port of its own; files: {name: text => other text}
async function copy(files = {}) {
	const dir = temporary(), port = await freePort()
	const edit = (name, change) => {
		const file = join(dir, name)
		writeFileSync(file, change(existsSync(file) ? readFileSync(file, 'utf8') : ''))
	}
	cpSync(example, dir, { recursive: true, filter: name => name !== join(example, 'run') })
	mkdirSync(join(dir, 'run'))
	edit('nginx.conf', text => text.replace('../../build/module/ngx_http_seance_module.so', modulePath).replace('127.0.0.1:8081', `127.0.0.1:${port}`))
	for (const [name, change] of Object.entries(files)) edit(name, change)
	return { dir, port, log: () => readFileSync(join(dir, 'run/error.log'), 'utf8'), ws: `ws://127.0.0.1:${port}`, remove: () => rmSync(dir, { recursive: true, force: true }) }
}

const pidOf = (dir, name) => existsSync(join(dir, `run/${name}.pid`)) && Number(readFileSync(join(dir, `run/${name}.pid`), 'utf8'))
const reachable = where => new Promise(done => {
	const socket = net.connect(where, () => { socket.destroy(); done(true) })
	socket.on('error', () => done(false))
})

// The copy with nginx and PHP-FPM in the foreground, so that they end with the test.
async function startExample(files) {
	const self = await copy(files)
	const { dir } = self
	const run = (command, ...args) => {
		const child = spawn('setpriv', ['--pdeathsig', 'TERM', command, ...args], { cwd: dir, env: environment, stdio: ['ignore', 'ignore', 'pipe'] })
		child.stderr.on('data', data => { self.output = (self.output ?? '') + data })
		child.ended = new Promise(done => child.on('close', done))
		return child
	}
	const end = async child => { child.kill('SIGTERM'); await child.ended }
	const startFpm = async () => {
		self.fpm = run(fpm, '-F', '-R', '-p', '.', '-y', 'php-fpm.conf')
		await until(() => reachable({ path: join(dir, 'run/php.sock') }), 'PHP-FPM to listen')
	}
	await startFpm()
	const nginx = run(nginxBinary, '-p', '.', '-c', 'nginx.conf', '-e', 'run/error.log', '-g', 'daemon off;')
	await until(() => reachable({ port: self.port, host: '127.0.0.1' }), () => `nginx to listen: ${self.output}`)
	return Object.assign(self, {
		workers: () => children(self.fpm.pid).filter(alive),
		restartFpm: async () => { await end(self.fpm); await startFpm() },
		open: (script, options) => Raw.open(`${self.ws}/${script}`, options),
		sql: query => execFileSync('sqlite3', ['-cmd', '.timeout 5000', join(dir, 'run/counter.db'), query], { encoding: 'utf8' }).trim(),
		async stop() { await end(nginx); await end(self.fpm); self.remove() },
	})
}

const using = (files, run) => async () => {
	const self = await startExample(files)
	try { await run(self) } finally { await self.stop() }
}
const put = text => () => text
const next = async raw => { const { text, ...rest } = await raw.item(); assert.ok(text !== undefined, JSON.stringify(rest)); return text }

const s = await startExample()
after(() => s.stop())

test('at most 30 lines each', () => {
	for (const name of ['echo.php', 'counter.php']) assert.ok(readFileSync(join(example, name), 'utf8').trimEnd().split('\n').length <= 30, name)
})

test('echo: text, bytes, nothing, much; PING is the module\'s', async () => {
	const c = await s.open('echo')
	const bytes = Buffer.from([0, 13, 10, 255])
	for (const what of ['hello', 'żółw \u{1F422}', 'two\r\nlines', '', 'x'.repeat(300000)]) {
		c.text(what)
		assert.equal(await next(c), what)
	}
	c.socket.send(bytes)
	assert.deepEqual((await c.item()).binary, bytes)
	c.socket.ping('p')
	assert.equal((await c.item()).pong, 'p')
	await c.close()
})

test('several events in an answer, the last a CLOSE with code and reason', async () => {
	const c = await s.open('echo')
	c.text('bye')
	assert.equal(await next(c), 'good')
	assert.deepEqual(await c.closing(), { close: 1000, reason: 'bye' })
})

test('a subprotocol that PHP chooses', async () => {
	const c = await s.open('echo', { protocols: ['other', 'echo'] })
	assert.equal(c.socket.protocol, 'echo')
	await c.close()
})

test('a handshake that PHP refuses: 403', async () => {
	await assert.rejects(s.open('echo', { origin: 'http://elsewhere.example' }), error => error instanceof HandshakeRefused && error.status === 403)
	await (await s.open('echo', { origin: `http://127.0.0.1:${s.port}` })).close()
})

test('no client can speak as a socket', async () => {
	const headers = { 'Connection-Id': 'abc', 'Seance-Socket': 'abc', 'Seance-Message': '1', 'Content-Type': 'application/websocket-events' }
	const answer = await fetch(`http://127.0.0.1:${s.port}/echo`, { method: 'POST', headers, body: 'TEXT 2\r\nhi\r\n' })
	assert.equal(answer.status, 400)
	assert.ok(!(await answer.text()).includes('hi\r\n'))
	assert.equal((await fetch(`http://127.0.0.1:${s.port}/_hold/echo/websocket/abc`)).status, 404)
})

test('counter: greets with the number, knows when clients have gone', async () => {
	const c = await s.open('counter'), d = await Client.open(s.port, '/counter')
	assert.equal(await next(c), '0')
	assert.equal(await d.nextText(), '0')
	c.text('+')
	assert.equal(await next(c), '1')
	d.text('+')
	assert.equal(await d.nextText(), '2')
	c.text('?')
	assert.equal(await next(c), '2')
	assert.equal(s.sql('SELECT count(*) FROM answers'), '2')
	d.reset()                              // DISCONNECT
	await until(() => s.sql('SELECT count(*) FROM answers') === '1', 'one to be left')
	await c.close()                        // CLOSE
	await until(() => s.sql('SELECT count(*) FROM answers') === '0', 'none to be left')
})

test('more sockets than processes: none is held up by another', async () => {
	const before = Number(s.sql('SELECT n FROM counter'))
	const clients = await Promise.all(Array.from({ length: 30 }, () => s.open('counter')))
	for (const c of clients) await next(c)
	for (const c of clients) c.text('+')
	const numbers = await Promise.all(clients.map(next))
	assert.deepEqual(numbers.map(Number).sort((a, b) => a - b), Array.from({ length: 30 }, (_, i) => before + i + 1))
	await Promise.all(clients.map(c => c.close()))
})

// A process of the pool tells that it is at this place, and waits to be killed there, once.
const trap = `<?php
if (($_SERVER['SEANCE_MESSAGE'] ?? '') === '1' && @rename(__DIR__ . '/armed', __DIR__ . '/sprung')) {
	file_put_contents(__DIR__ . '/sprung', getmypid());
	sleep(30);
}`
for (const [place, setting] of [['before it has begun', 'auto_prepend_file'], ['when it is done, but has not answered', 'auto_append_file']]) {
	test(`a process killed ${place}: the message counts once`, using({
		'trap.php': put(trap),
		armed: put('yes'),
		'php-fpm.conf': text => `${text}php_admin_value[include_path] = .\nphp_admin_value[${setting}] = trap.php\n`,
	}, async s => {
		const c = await s.open('counter')
		assert.equal(await next(c), '0')
		c.text('+')
		const victim = await until(() => existsSync(join(s.dir, 'sprung')) && Number(readFileSync(join(s.dir, 'sprung'), 'utf8')), 'the trap')
		process.kill(victim, 'SIGKILL')
		assert.equal(await next(c), '1')
		c.text('+')
		assert.equal(await next(c), '2')
		assert.equal(s.sql('SELECT n FROM counter'), '2')
	}))
}

test('all processes killed again and again while 8 clients count, then PHP-FPM restarted: each message once', using({}, async s => {
	const clients = await Promise.all(Array.from({ length: 8 }, () => s.open('counter')))
	for (const c of clients) await next(c)
	const each = 40
	let done = false
	const counting = Promise.all(clients.map(async c => {
		let last = 0
		for (let i = 0; i < each; i++) {
			c.text('+')
			const n = Number((await c.item('an answer', 30000)).text)
			assert.ok(n > last, `${n} after ${last}`)
			last = n
		}
	})).finally(() => { done = true })
	for (let round = 0; !done && round < 8; round++) {
		for (const pid of s.workers()) try { process.kill(pid, 'SIGKILL') } catch { /* gone */ }
		if (round === 4) await s.restartFpm()
		else await until(() => done || s.workers().length === 4, 'new processes')
	}
	await counting
	assert.equal(Number(s.sql('SELECT n FROM counter')), 8 * each)
}))

// The echo with another script before it, for messages only.
const instead = script => ({
	'real.php': put(readFileSync(join(example, 'echo.php'), 'utf8')),
	'echo.php': put(`<?php\nif (($_SERVER['SEANCE_MESSAGE'] ?? '0') !== '0') {\n${script}\n}\nrequire __DIR__ . '/real.php';`),
})
const hanging = (times, deadline) => ({
	...instead(`$tries = 1 + (int) @file_get_contents(__DIR__ . '/tries'); file_put_contents(__DIR__ . '/tries', $tries); if ($tries <= ${times}) sleep(30);`),
	'nginx.conf': text => text.replace('seance_hold;', `seance_hold; seance_deadline ${deadline};`),
	'php-fpm.conf': text => text.replace('request_terminate_timeout = 10s', 'request_terminate_timeout = 1s'),
})

test('a process that hangs is ended by PHP-FPM; the message is sent again', using(hanging(1, '30s'), async s => {
	const c = await s.open('echo')
	c.text('at last')
	assert.equal((await c.item('an answer', 15000)).text, 'at last')
	assert.equal(readFileSync(join(s.dir, 'tries'), 'utf8'), '2')
}))

test('one that always hangs: 1013 at the deadline', using(hanging(1000, '500ms'), async s => {
	const c = await s.open('echo')
	c.text('never')
	assert.deepEqual(await c.closing('the deadline'), { close: 1013, reason: 'no answer in time' })
}))

const wrong = {
	'no events': 'echo "hello";',
	'a page': 'echo "<html><body>Welcome</body></html>";',
	'a warning before the events': 'ini_set("display_errors", "1"); echo $undefined, "TEXT 1\\r\\na\\r\\n";',
	'a length that is too long': 'echo "TEXT 9\\r\\nhello\\r\\n";',
	'a length that is too short': 'echo "TEXT 2\\r\\nhello\\r\\n";',
	'an event that is none': 'echo "SING 1\\r\\na\\r\\n";',
	'a close code that may not be sent': 'echo "CLOSE 2\\r\\n\\x03\\xed\\r\\n";',
	'status 500': 'http_response_code(500);',
	'status 404': 'http_response_code(404); echo "TEXT 1\\r\\na\\r\\n";',
	'an exception': 'throw new Exception("on\\npurpose");',
	'another redirect': 'header("X-Accel-Redirect: /elsewhere"); echo "TEXT";',
}
const w = await startExample(instead(`switch (explode("\\r\\n", file_get_contents('php://input'))[1]) {
${Object.entries(wrong).map(([name, code]) => `case '${name}': ${code} exit;`).join('\n')}
}`))
after(() => w.stop())
for (const name of Object.keys(wrong)) {
	test(`a wrong answer: ${name}: 1011, and one line in the log`, async () => {
		const seen = w.log().length
		const c = await w.open('echo')
		c.text(name)
		assert.equal((await c.closing()).close, 1011)
		const lines = w.log().slice(seen).split('\n').filter(line => line && !line.includes('[info]') && !line.includes('wrote: PHP message'))
		assert.equal(lines.length, 1, lines.join('\n'))
		assert.match(lines[0], /\[error\].* unix:run\/php\.sock answered message 1 of [0-9a-f]{32} wrongly: /)
	})
}

test('the script of docs/gateway.md', using({
	'echo.php': () => readFileSync(join(root, 'docs/gateway.md'), 'utf8').match(/```php\n([^]*?)```/)[1].replace('/_hold/', '/_hold/echo/'),
}, async s => {
	const c = await s.open('echo')
	c.text('two\r\nlines')
	assert.equal(await next(c), 'You said: two\r\nlines')
	c.socket.send(Buffer.from('bytes'))
	c.text('')
	assert.equal(await next(c), 'You said: ')
}))

test('the commands of its README start and stop it', async () => {
	const self = await copy()
	const [start, stop] = [...readFileSync(join(example, 'README.md'), 'utf8').matchAll(/```sh\n([^]*?)```/g)].map(m => m[1])
	const sh = text => execFileSync('sh', ['-ec', text.replace(/^make .* && cd \S+ && /, '').replace(/php-fpm\d\.\d/, fpm)], { cwd: self.dir, stdio: 'pipe', env: { ...environment, PATH: `${process.env.PATH}:/usr/sbin` } })
	const pids = () => [pidOf(self.dir, 'nginx'), pidOf(self.dir, 'php-fpm')].filter(Boolean)
	try {
		sh(start)
		await until(() => reachable({ port: self.port, host: '127.0.0.1' }), 'nginx to listen')
		const running = pids()
		assert.equal(running.length, 2)
		const c = await Raw.open(`${self.ws}/echo`)
		c.text('hello')
		assert.equal(await next(c), 'hello')
		await c.close()
		assert.equal((await fetch(`http://127.0.0.1:${self.port}/`)).status, 200)
		sh(stop)
		await until(() => !running.some(alive), 'both to end')
	} finally {
		for (const pid of pids()) try { process.kill(pid, 'SIGTERM') } catch { /* gone */ }
		self.remove()
	}
})
