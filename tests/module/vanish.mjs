#!/usr/bin/env node
// vanish.mjs [N] [wild] [alone] - N sockets (5000) that vanish, closed or reset, with a frame in flight
//
// Checks that the worker's pid stays, and that descriptors and memory come back.  wild: the
// program is killed, the link breaks and nginx reloads meanwhile; then no worker may die of a
// signal, and the old ones must leave.  alone: the sockets are held without a link, and each end must
// be told by a request.  Under AddressSanitizer by asan.sh; memory is then only printed.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { frame, OP } from './client.mjs'
import { start } from './setup.mjs'
import { descriptors, privateMemory, sleep, until } from './nginx.mjs'
import { answer, fcgiAnswer, text } from './program.mjs'

const total = Number(process.argv[2] ?? 5000)
const wild = process.argv.includes('wild'), alone = process.argv.includes('alone')
const sanitized = /asan/.test(process.env.NGINX_PRELOAD ?? '')
const s = await start({ held: alone ? '' : 'main', hold: 'seance_buffer 64k; seance_buffer_limit 1m; seance_deadline 5s;' })
let failed = 0
const check = (good, what) => { console.log(`${good ? 'ok' : 'not ok'} - ${what}`); if (!good) failed++ }
try {
	const [worker] = s.nginx.workers()
	const pick = n => Math.floor(Math.random() * n)
	const closed = new Set()
	s.link.on = m => { if (m.type === 'CLOSED') closed.add(m.id) }
	s.program.on = request => {
		if (/^(CLOSE|DISCONNECT)/.test(request.body)) closed.add(request.id)
		const what = pick(20)
		if (what === 0) request.cut()
		else if (what === 1) request.connection.end(fcgiAnswer(answer({ events: [text('half')] })).subarray(0, 30))
		else if (what === 2) request.answer({ events: [text('b'.repeat(200000))] })
		else if (what === 3) request.connection.write(fcgiAnswer(Buffer.alloc(0), 2))
		else if (what < 8) request.echo()
		else setTimeout(() => request.echo(), pick(30))
	}
	let made = 0, opened = 0
	const open = (id, more) => s.open(wild || alone ? null : id, `/?id=${id}`, more)
	const one = async () => {
		const id = `v${made++}`
		const early = pick(3) ? '' : frame(OP.TEXT, 'early')
		const c = await open(id, { early })
		if (c.status !== 101 && !wild) throw new Error(`handshake: ${c.status}`)
		if (c.status === 101) opened++
		const deliver = (...unit) => { if (s.link.stream?.handles[id] !== undefined) s.link.stream.unit(id, ...unit) }
		c.text('x'.repeat(pick(4) ? pick(200) : pick(150000)))
		if (pick(2)) deliver(0, 1, 'd'.repeat(pick(100000)))
		if (pick(3) === 0) deliver(pick(4), 4 + pick(3))
		if (pick(20) === 0 && s.link.stream?.handles[id] !== undefined) s.link.stream.close(id, 1013)
		if (pick(3) === 0) c.send(frame(OP.TEXT, 'y'.repeat(1000)).subarray(0, pick(1000)))
		if (pick(4) === 0) for (let i = pick(20); i > 0; i--) c.text('more')
		if (pick(8) === 0) c.send(frame(OP.CLOSE, Buffer.from([3, 232])))
		if (pick(2)) await sleep(pick(20))
		if (pick(2)) c.reset(); else c.cut()
	}
	const wave = async n => { for (let i = 0; i < n; i += 50) await Promise.all(Array.from({ length: Math.min(50, n - i) }, one)) }
	const quiet = async () => {
		if (!wild) await until(() => closed.size === made, 'all to be told as closed', 30000)
		else await until(() => s.nginx.workers().length === 1 && (s.nginx.log().match(/websocket v\d+ ended/g) ?? []).length === opened, 'all to have ended', 30000)
		await sleep(200)
	}
	const warm = Math.min(500, total)
	await wave(warm)
	await quiet()
	const before = { descriptors: descriptors(worker), memory: privateMemory(worker) }
	const t = Date.now()
	let stop = !wild
	const breaking = (async () => {
		while (!stop) {
			await sleep(pick(150))
			if (pick(2)) { await s.program.kill(); await sleep(pick(100)); await s.program.start() }
			else if (pick(2)) s.link.stream?.break()
			else if (pick(2)) { await s.link.kill(); await sleep(pick(100)); await s.link.start() }
			else await s.nginx.reload()
		}
	})()
	await wave(total)
	stop = true
	await breaking
	await quiet()
	const [last] = s.nginx.workers()
	const after = { descriptors: descriptors(last), memory: privateMemory(last) }
	console.log(`# ${total} sockets in ${Date.now() - t} ms; descriptors ${before.descriptors} -> ${after.descriptors}, memory ${before.memory} -> ${after.memory} KB`)
	if (!wild) check(s.nginx.workers().length === 1 && last === worker, 'the worker\'s pid stays')
	check(after.descriptors <= before.descriptors + 64, 'no descriptor stays behind')
	if (!sanitized) check(after.memory <= before.memory + 2048, 'no memory stays behind')
	await until(() => s.link.stream?.ready, 'the link')
	const c = await open('last')
	s.program.on = request => request.echo()
	c.text('alive')
	check(await c.nextText() === 'alive', 'it goes on serving')
	s.nginx.signal('SIGQUIT')
	c.cut()
	await until(() => s.nginx.workers().length === 0, 'nginx to end')
	const log = s.nginx.log()
	check(!/exited on signal|exited with code [^0]|\[alert\]|\[emerg\]/.test(log), 'no alert in the log, no worker dead')
	const reports = readdirSync(s.dir).filter(f => f.startsWith('asan')).map(f => readFileSync(join(s.dir, f), 'utf8'))
	const complaint = [s.nginx.output(), log, ...reports].join('\n').match(/ERROR: (Address|Leak)Sanitizer[\s\S]{0,3000}/)
	check(!complaint, `no complaint of a sanitizer ${complaint ? complaint[0] : ''}`)
} catch (error) {
	check(false, error.stack)
	console.log(s.nginx.log().split('\n').filter(l => /alert|on signal|emerg/.test(l)).slice(0, 20).join('\n'), s.nginx.output().slice(0, 5000))
} finally {
	await s.stop()
}
process.exit(failed ? 1 : 0)
