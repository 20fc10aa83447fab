// Out of memory: the nth allocation of the module fails, n rising until a whole session gets by with fewer.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { Client, closeFrame, frame, OP } from './client.mjs'
import { text } from './program.mjs'
import { start } from './setup.mjs'
import { sleep, temporary, until } from './nginx.mjs'

const MOST = 200, ABREAST = 5
const dir = temporary()
after(() => rmSync(dir, { recursive: true, force: true }))

// What a client and a program may do; any of it may fail, and none of it may wait for ever.
async function session(s, id) {
	const c = s.track(await Client.open(s.nginx.port, `/?id=${id}`, { early: frame(OP.TEXT, 'early') }))
	if (c.status !== 101) return
	const soon = what => c.until(() => c.ended || c.frames.some(f => f.opcode === OP.CLOSE) || what(), 'an answer, or the end')
	c.text('one').text('two')
	c.send(frame(OP.TEXT, 'frag', { fin: false })).send(frame(OP.PING, 'p').subarray(0, 3))
	await soon(() => c.frames.length >= 3)
	c.send(Buffer.concat([frame(OP.PING, 'p').subarray(3), frame(OP.CONT, 'ment')]))
	await soon(() => c.texts().includes('fragment'))
	await until(() => c.ended || s.link.stream?.handles[id] !== undefined, 'the link to hear of it')
	const deliver = (after, cursor, body, opcode) => { if (s.link.stream?.handles[id] !== undefined) s.link.stream.deliver([[id, after, cursor]], body, opcode) }
	deliver(5, 6, 'held back')
	deliver(0, 5, Buffer.concat([text('a'), text('b')]), 3)
	await sleep(10)
	c.socket.pause()
	for (let i = 6; i < 30; i++) deliver(i, i + 1, 'd'.repeat(20000))
	c.text('x'.repeat(100000))
	await sleep(10)
	c.socket.resume()
	c.send(closeFrame(1000))
	await c.end()
}

test('the nth allocation fails, n rising: no worker dies, and the next client is served', { skip: Boolean(process.env.NGINX_PRELOAD || process.env.NGINX_BINARY) }, async () => {
	const library = join(dir, 'failing_malloc.so')
	execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-w', '-o', library, new URL('failing_malloc.c', import.meta.url).pathname, '-ldl'])
	// whether allocation n took place, and so failed
	const survives = async n => {
		const failed = join(dir, `failed-${n}`)
		const s = await start({ main: 'env FAIL_AT; env FAIL_LOG;', hold: 'seance_param A $uri; seance_deadline 2s; seance_close_timeout 300ms;', env: { LD_PRELOAD: library, FAIL_AT: String(n), FAIL_LOG: failed } })
		try {
			const [worker] = s.nginx.workers()
			for (const id of ['first', 'second']) await session(s, id).catch(error => { if (!/no answer to the handshake/.test(error.message)) throw error })
			await until(async () => {
				const c = await Client.open(s.nginx.port, `/?id=after${Math.random().toString(36).slice(2)}`).catch(() => null)
				if (c === null || s.track(c).status !== 101) return false
				c.text('served')
				return await c.nextText(2000).catch(() => '') === 'served'
			}, `a client to be served after allocation ${n} has failed`)
			assert.deepEqual(s.nginx.workers(), [worker], `the worker after allocation ${n} has failed`)
			assert.doesNotMatch(s.nginx.log(), /exited on signal|\[alert\]/)
		} finally {
			await s.stop()
		}
		return existsSync(failed)
	}
	let n = 1, more = true
	for (; more && n <= MOST; n += ABREAST)
		more = (await Promise.all(Array.from({ length: ABREAST }, (_, i) => survives(n + i)))).every(Boolean)
	console.log(`# some ${n - 1} allocations failed in turn`)
	assert.ok(n > 15, 'allocations did fail')
	assert.ok(!more, 'a session needs no more')
})
