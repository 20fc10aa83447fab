#!/usr/bin/env node
// module.mjs - the module's figures: echo beside a proxied peer, fan-out beside a bare loop of send, memory
//
//   BENCH_SECONDS 1   of each measurement of echo, after a warm-up of a quarter
//   BENCH_ROUNDS  5   medians of so many
//   BENCH_SOCKETS 10000   for memory; fan-out goes to a tenth and to a half of them
//
// Echo: bench_load against the echo program behind the module, and against an echo by npm's ws in Node behind the
// same nginx by proxy_pass, turn about.  Fan-out: bench_fanout.  Memory: private memory of the nginx worker, and
// the kernel's slab, which also holds the other end of each connection, for idle sockets opened 100 at a time.
// Everything runs on this machine at once: compare ratios.  The limit of open files is raised as far as is needed;
// where that is not allowed nothing is measured.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import tls from 'node:tls'
import { Client } from '../module/client.mjs'
import { freePort, privateMemory, sleep, startNginx, temporary, until } from '../module/nginx.mjs'
import { certificate, start } from '../module/setup.mjs'

const tree = new URL('../..', import.meta.url).pathname
const seconds = Number(process.env.BENCH_SECONDS ?? 1), rounds = Number(process.env.BENCH_ROUNDS ?? 5)
const sockets = Number(process.env.BENCH_SOCKETS ?? 10000)
const tool = name => {
	const path = join(tree, 'build/normal', name)
	if (!existsSync(path)) throw new Error(`${name} is not built (make test-programs)`)
	return path
}
const median = list => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]
const started = []
const begin = (command, ...args) => {
	const child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], { stdio: ['ignore', 'inherit', 'inherit'] })
	started.push(child)
	return child
}

// A process has one for each socket, the proxying nginx two for each of 1,000; the peer is on such an end, too.
const files = Math.max(sockets, 2000) + 1000
function raiseFiles() {
	const hard = readFileSync('/proc/self/limits', 'utf8').match(/Max open files\s+\d+\s+(\w+)/)[1]
	if (hard === 'unlimited' || Number(hard) >= files) return // node has raised the soft one
	try {
		execFileSync('prlimit', [`--pid=${process.pid}`, `--nofile=${files}:${files}`], { stdio: 'pipe' })
	} catch {
		throw new Error(`${files} open files are needed, the limit is ${hard} (ulimit -Hn), and it may not be raised here`)
	}
}

const dir = temporary()
process.on('exit', () => {
	for (const child of started) child.kill('SIGKILL')
	rmSync(dir, { recursive: true, force: true })
})

// nginx with the echo program behind the module, and the peer behind proxy_pass
const peerPort = await freePort(), proxyPort = await freePort()
writeFileSync(join(dir, 'peer.mjs'), `
	import { WebSocketServer } from ${JSON.stringify(join(tree, 'tests/node_modules/ws/wrapper.mjs'))}
	new WebSocketServer({ host: '127.0.0.1', port: ${peerPort}, backlog: 4096, perMessageDeflate: false })
		.on('connection', ws => ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary })))`)
const http = `
	map $http_upgrade $connection_upgrade { default upgrade; '' close; }
	upstream peer { server 127.0.0.1:${peerPort}; keepalive 64; }
	server { listen 127.0.0.1:${proxyPort} backlog=4096; location / {
		proxy_pass http://peer; proxy_http_version 1.1; proxy_read_timeout 60s;
		proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; } }`
const behind = more => startNginx({ dir, connections: 32768, files, http, listen: port => `listen 127.0.0.1:${port} backlog=4096;`, ...more })

function load(port, count) {
	const said = execFileSync(tool('bench_load'), [`--port=${port}`, '--what=echo', `--sockets=${count}`, `--seconds=${seconds}`, `--warm=${seconds / 4}`], { encoding: 'utf8', stdio: 'pipe' })
	return JSON.parse(said)
}

async function echo() {
	begin(tool('echo'), join(dir, 'program.sock'), join(dir, 'link.sock'))
	begin(process.execPath, join(dir, 'peer.mjs'))
	await until(() => existsSync(join(dir, 'link.sock')), 'the echo program')
	const nginx = await behind()
	console.log(`echo, events/s (p50/p99 ms); medians of ${rounds} rounds of ${seconds} s, one event in flight per socket`)
	console.log('  sockets   module                  ws behind proxy_pass    ratio')
	let bad = 0
	await until(() => { try { return load(proxyPort, 1) } catch { return false } }, 'the peer')
	for (const count of [1, 16, 64, 256, 1000]) {
		const ours = [], theirs = []
		for (let i = 0; i < rounds; i++) {
			ours.push(load(nginx.port, count))
			theirs.push(load(proxyPort, count))
		}
		for (const figure of [...ours, ...theirs]) bad += figure.closed + figure.stalled + figure.wrong
		const shown = list => `${String(Math.round(median(list.map(f => f.rate)))).padStart(7)}  ${median(list.map(f => f.p50)).toFixed(2)}/${median(list.map(f => f.p99)).toFixed(2)}`
		console.log(`  ${String(count).padEnd(8)}${shown(ours).padEnd(24)}${shown(theirs).padEnd(24)}${median(ours.map((f, i) => f.rate / theirs[i].rate)).toFixed(2)}`)
	}
	console.log(`  sockets closed, stalled or with a wrong frame: ${bad}\n`)
	await nginx.stop()
	for (const child of started.splice(0)) child.kill('SIGKILL')
	return bad
}

async function fanOut() {
	console.log(`fan-out of 100 bytes, ms until the last socket has it; medians of ${rounds * 10} rounds`)
	console.log('  sockets   by the link   bare send loop   ratio')
	for (const count of [sockets / 10, sockets / 2]) {
		const program = begin(tool('echo'), join(dir, 'program.sock'))
		const link = join(dir, `fan${count}.sock`)
		const nginx = await behind({ link })
		const child = spawn(tool('bench_fanout'), [nginx.port, link, count, rounds * 10], { stdio: ['ignore', 'pipe', 'inherit'] })
		let said = ''
		child.stdout.on('data', data => { said += data })
		const status = await new Promise(done => child.on('exit', done))
		if (status !== 0) throw new Error('bench_fanout failed')
		const figure = JSON.parse(said)
		console.log(`  ${String(count).padEnd(10)}${figure.module_ms.toFixed(1).padStart(11)}${figure.bare_ms.toFixed(1).padStart(17)}   ${figure.ratio.toFixed(2).padStart(5)}`)
		await nginx.stop()
		program.kill('SIGKILL')
	}
	console.log('')
}

const slab = () => Number(readFileSync('/proc/meminfo', 'utf8').match(/Slab:\s+(\d+)/)[1])

async function memory() {
	console.log(`memory of an idle held WebSocket, bytes, of ${sockets}`)
	console.log('                               nginx worker   kernel, both ends')
	for (const secure of [false, true]) for (const cookie of [0, 1000]) {
		const s = await start({ connections: 32768, files, hold: 'seance_idle_timeout 10m;',
			listen: port => `listen 127.0.0.1:${port} backlog=4096 ${secure ? `ssl; ${certificate()} ssl_session_cache off` : ''};` })
		const [worker] = s.nginx.workers()
		const open = async (n, name) => {
			for (let i = 0; i < n; i += 100)
				await Promise.all(Array.from({ length: 100 }, async (_, k) => {
					const socket = secure ? tls.connect({ port: s.nginx.port, host: '127.0.0.1', rejectUnauthorized: false }) : undefined
					const c = s.track(await Client.open(s.nginx.port, `/?id=${name}${i + k}`, { socket, headers: cookie ? { Cookie: 'c'.repeat(cookie) } : {} }))
					if (c.status !== 101) throw new Error(`status ${c.status}`)
				}))
		}
		await open(500, 'warm')
		await sleep(500)
		const before = [privateMemory(worker), slab()]
		await open(sockets, 's')
		await sleep(500)
		const after = [privateMemory(worker), slab()]
		const [worn, kernel] = after.map((x, i) => (x - before[i]) * 1024 / sockets)
		console.log(`  ${`${secure ? 'wss' : 'ws'}, ${cookie ? 'a cookie of 1 KB' : 'no cookie'}`.padEnd(29)}${worn.toFixed(0).padStart(12)}${kernel.toFixed(0).padStart(20)}`)
		await s.stop()
	}
}

try {
	raiseFiles()
	const bad = await echo()
	await fanOut()
	await memory()
	process.exit(bad ? 1 : 0)
} catch (error) {
	console.error(`bench: ${error.message}`)
	process.exit(1)
}
