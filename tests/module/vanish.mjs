#!/usr/bin/env node
// vanish.mjs [N] - N sockets (5000) that vanish, closed or reset, with a frame in flight
//
// Checks that the worker's pid stays, and that descriptors and memory come back.  With
// SEANCE_MODULE naming a module that was built with -fsanitize=address and LD_PRELOAD naming
// libasan, nginx runs under AddressSanitizer (see asan.sh); memory is then only printed.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { frame, OP } from './client.mjs'
import { start } from './setup.mjs'
import { descriptors, privateMemory, sleep, until } from './nginx.mjs'
import { answer, fcgiAnswer, text } from './program.mjs'

const total = Number(process.argv[2] ?? 5000)
const sanitized = /asan/.test(process.env.NGINX_PRELOAD ?? '')
const env = sanitized ? { LD_PRELOAD: process.env.NGINX_PRELOAD } : {}
const s = await start({ env, hold: 'seance_buffer 64k; seance_buffer_limit 1m; seance_deadline 5s;' })
let failed = 0
const check = (good, what) => { console.log(`${good ? 'ok' : 'not ok'} - ${what}`); if (!good) failed++ }
try {
	const [worker] = s.nginx.workers()
	const pick = n => Math.floor(Math.random() * n)
	let closed = 0
	s.link.on = m => { if (m.type === 'CLOSED') closed++ }
	s.program.on = request => {
		const what = pick(20)
		if (what === 0) request.cut()
		else if (what === 1) request.connection.end(fcgiAnswer(answer({ events: [text('half')] })).subarray(0, 30))
		else if (what === 2) request.answer({ events: [text('b'.repeat(200000))] })
		else if (what === 3) request.connection.write(fcgiAnswer(Buffer.alloc(0), 2))
		else if (what < 8) request.echo()
		else setTimeout(() => request.echo(), pick(30))
	}
	let made = 0
	const one = async () => {
		const id = `v${made++}`
		const early = pick(3) ? '' : frame(OP.TEXT, 'early')
		const c = await s.open(id, undefined, { early })
		if (c.status !== 101) throw new Error(`handshake: ${c.status}`)
		c.text('x'.repeat(pick(4) ? pick(200) : pick(150000)))
		if (pick(2)) s.link.stream.unit(id, 0, 1, 'd'.repeat(pick(100000)))
		if (pick(3) === 0) s.link.stream.unit(id, pick(4), 4 + pick(3))
		if (pick(3) === 0) c.send(frame(OP.TEXT, 'y'.repeat(1000)).subarray(0, pick(1000)))
		if (pick(4) === 0) for (let i = pick(20); i > 0; i--) c.text('more')
		if (pick(8) === 0) c.send(frame(OP.CLOSE, Buffer.from([3, 232])))
		if (pick(2)) await sleep(pick(20))
		if (pick(2)) c.reset(); else c.cut()
	}
	const wave = async n => { for (let i = 0; i < n; i += 50) await Promise.all(Array.from({ length: Math.min(50, n - i) }, one)) }
	const quiet = async () => {
		await until(() => closed === made, 'all to be told as closed', 30000)
		await sleep(200)
	}
	const warm = Math.min(500, total)
	await wave(warm)
	await quiet()
	const before = { descriptors: descriptors(worker), memory: privateMemory(worker) }
	const t = Date.now()
	await wave(total)
	await quiet()
	const after = { descriptors: descriptors(worker), memory: privateMemory(worker) }
	console.log(`# ${total} sockets in ${Date.now() - t} ms; descriptors ${before.descriptors} -> ${after.descriptors}, memory ${before.memory} -> ${after.memory} KB`)
	check(s.nginx.workers().length === 1 && s.nginx.workers()[0] === worker, 'the worker\'s pid stays')
	check(after.descriptors <= before.descriptors + 64, 'no descriptor stays behind')
	if (!sanitized) check(after.memory <= before.memory + 2048, 'no memory stays behind')
	const c = await s.open('last')
	s.program.on = request => request.echo()
	c.text('alive')
	check(await c.nextText() === 'alive', 'it goes on serving')
	s.nginx.signal('SIGQUIT')
	c.cut()
	await until(() => s.nginx.workers().length === 0, 'nginx to end')
	const log = s.nginx.log()
	check(!/exited on signal|\[alert\]|\[emerg\]/.test(log), 'no alert in the log')
	const reports = readdirSync(s.dir).filter(f => f.startsWith('asan')).map(f => readFileSync(join(s.dir, f), 'utf8'))
	const complaint = [s.nginx.output(), log, ...reports].join('\n').match(/ERROR: (Address|Leak)Sanitizer[\s\S]{0,3000}/)
	check(!complaint, `no complaint of a sanitizer ${complaint ? complaint[0] : ''}`)
} catch (error) {
	check(false, error.stack)
	console.log(s.nginx.log().split('\n').filter(l => /alert|signal|emerg/.test(l)).slice(0, 20).join('\n'), s.nginx.output().slice(0, 5000))
} finally {
	await s.stop()
}
process.exit(failed ? 1 : 0)
