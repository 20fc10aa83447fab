// WebSocket clients that others wrote, over ws and wss: npm's ws, Chromium, Python's websockets.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import WebSocket from 'ws'
import { startChromium } from '../lib/chromium.mjs'
import { within } from '../lib/wait.mjs'
import { close, event } from './program.mjs'
import { certificate, certificateFile, shared } from './setup.mjs'
import { freePort } from './nginx.mjs'

const securePort = await freePort()
const s = await shared({
	listen: port => `listen 127.0.0.1:${port}; listen 127.0.0.1:${securePort} ssl; ${certificate()}`,
	server: 'location = /page { default_type text/html; return 200 "<title>page</title>"; }',
})
s.program.on = request => {
	const [{ name, data }] = request.events
	const [word, code, ...reason] = data.subarray(0, 100).toString().split(' ')
	request.answer({ events: [word === 'close' ? close(Number(code), reason.join(' ')) : event(name, data)] })
}
const ends = [
	['ws', `ws://127.0.0.1:${s.nginx.port}/`, `http://127.0.0.1:${s.nginx.port}/page`],
	['wss', `wss://localhost:${securePort}/`, `https://localhost:${securePort}/page`],
]

class Npm {
	constructor(uri) {
		this.socket = new WebSocket(uri, { perMessageDeflate: true, rejectUnauthorized: false })
		this.closed = new Promise(done => this.socket.on('close', (code, reason) => done({ code, reason: reason.toString() })))
	}
	async open() { await within(new Promise((done, fail) => { this.socket.on('open', done); this.socket.on('error', fail) }), 'open'); return this }
	next(what) { return within(new Promise(done => this.socket.once('message', (data, binary) => done(binary ? data : data.toString()))), what) }
	pong() { return within(new Promise(done => this.socket.once('pong', data => done(data.toString()))), 'a pong') }
	async echoes(data) {
		const answer = this.next('the echo')
		this.socket.send(data)
		assert.deepEqual(await answer, data)
	}
}

for (const [scheme, uri] of ends) {
	test(`npm ws over ${scheme}: text, binary, large, in fragments, ping, no extension`, async () => {
		const c = await new Npm(uri).open()
		assert.equal(c.socket.extensions, '')
		for (const n of [0, 1, 125, 126, 65535, 65536, 1000000]) {
			await c.echoes('a'.repeat(n))
			await c.echoes(Buffer.alloc(n, 0xfe))
		}
		const whole = c.next('the echo of fragments')
		c.socket.send('frag', { fin: false, compress: false })
		c.socket.send('', { fin: false })
		const pong = c.pong()
		c.socket.ping('between')
		c.socket.send('ments 👋', { fin: true })
		assert.equal(await pong, 'between')
		assert.equal(await whole, 'fragments 👋')
		c.socket.close(4321, 'by the client')
		assert.equal((await within(c.closed, 'the close')).code, 4321)
	})
	test(`npm ws over ${scheme}: the server closes`, async () => {
		const c = await new Npm(uri).open()
		c.socket.send('close 4001 by the server')
		assert.deepEqual(await within(c.closed, 'the close'), { code: 4001, reason: 'by the server' })
	})
}

let browser
after(() => browser?.end())
for (const [scheme, uri, address] of ends) {
	test(`Chromium over ${scheme}: text, binary, large, close codes both ways`, async () => {
		browser ??= await startChromium({ args: ['--ignore-certificate-errors'], ignoreHTTPSErrors: true })
		const page = await browser.newPage()
		await page.goto(address)
		const got = await within(page.evaluate(async uri => {
			const open = () => new Promise((done, fail) => {
				const ws = new WebSocket(uri)
				ws.binaryType = 'arraybuffer'
				ws.onopen = () => done(ws)
				ws.onerror = () => fail(new Error('no connection'))
			})
			const closed = ws => new Promise(done => { ws.onclose = e => done([e.code, e.reason, e.wasClean]) })
			const echo = (ws, data) => new Promise(done => { ws.onmessage = e => done(e.data); ws.send(data) })
			const a = await open(), failed = []
			for (const n of [0, 1, 125, 126, 65535, 65536, 1000000]) {
				if (await echo(a, 'é'.repeat(n / 2)) !== 'é'.repeat(n / 2)) failed.push(`text ${n}`)
				const bytes = new Uint8Array(n).fill(254)
				const back = new Uint8Array(await echo(a, bytes))
				if (back.length !== n || back.some(b => b !== 254)) failed.push(`binary ${n}`)
			}
			const mine = closed(a)
			a.close(4321, 'by the client')
			const b = await open(), theirs = closed(b)
			b.send('close 4001 by the server')
			return { failed, extensions: b.extensions, mine: await mine, theirs: await theirs }
		}, uri), 'the page', 30000)
		assert.deepEqual(got, { failed: [], extensions: '', mine: [4321, '', true], theirs: [4001, 'by the server', true] })
		await page.close()
	})
}

for (const [scheme, uri] of ends) {
	test(`Python websockets over ${scheme}: text, binary, large, in fragments, pings, close codes both ways`, async () => {
		const script = fileURLToPath(new URL('clients.py', import.meta.url))
		const child = spawn('/usr/bin/python3', [script, uri, scheme === 'wss' ? certificateFile() : ''], { stdio: ['ignore', 'pipe', 'pipe'] })
		let output = ''
		child.stdout.on('data', d => { output += d })
		child.stderr.on('data', d => { output += d })
		const timer = setTimeout(() => child.kill('SIGKILL'), 30000)
		const status = await new Promise(done => child.on('close', done))
		clearTimeout(timer)
		assert.equal(status, 0, output)
		assert.equal(output.trim(), 'ok')
	})
}
