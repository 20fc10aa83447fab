// A real nginx in a folder of its own, on a free loopback port, with the module loaded.
import { spawn, execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..')

// The module's file: SEANCE_MODULE names another one (one with sanitizers).
export const modulePath = process.env.SEANCE_MODULE ?? join(root, 'build/module/ngx_http_seance_module.so')

export const nginxBinary = process.env.NGINX_BINARY ?? ['/usr/sbin/nginx', '/usr/bin/nginx'].find(existsSync) ?? 'nginx'

// A module with AddressSanitizer in it needs its library first (asan.sh).
const preload = process.env.NGINX_PRELOAD
export const environment = { ...process.env, ...(preload && { LD_PRELOAD: preload }) }

export const sleep = ms => new Promise(done => setTimeout(done, ms))

// Waits until `what` returns something true; every wait has a limit.
export async function until(what, name = 'condition', ms = 10000) {
	const end = Date.now() + ms
	for (;;) {
		const value = await what()
		if (value) return value
		if (Date.now() > end) throw new Error(`waited ${ms} ms in vain: ${typeof name === 'function' ? name() : name}`)
		await sleep(5)
	}
}

export const alive = pid => {
	try { return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ') } catch { return false }
}

export function children(pid) {
	try {
		return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
	} catch { return [] }
}

// Descriptors that a process has open.
export const descriptors = pid => readdirSync(`/proc/${pid}/fd`).length

// Whether a process takes connections to a port.
export function listens(pid, port) {
	const address = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
	const sockets = readFileSync('/proc/net/tcp', 'utf8').split('\n').map(line => line.trim().split(/\s+/))
		.filter(([, local, , state]) => local?.endsWith(address) && state === '0A').map(fields => `socket:[${fields[9]}]`)
	return alive(pid) && openFiles(pid).some(file => sockets.includes(file))
}

// Kilobytes of memory of its own that a process has (not shared with files).
export const privateMemory = pid =>
	Number(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8').match(/Private_Dirty:\s+(\d+)/)[1])

export async function freePort() {
	const server = net.createServer()
	await new Promise(done => server.listen(0, '127.0.0.1', done))
	const { port } = server.address()
	await new Promise(done => server.close(done))
	return port
}

// A folder for a test; short, since a unix socket's path is.
export const temporary = () => mkdtempSync(join(tmpdir(), 'seance-'))

const defaults = {
	main: '',        // in the main context
	events: '',
	http: '',        // in http {}
	server: '',      // in server {}; or a function of the program's socket
	hold: '',        // in the module's location
	held: 'main',    // the link that it holds for; '' for none
	connect: '',     // in the location that leads to the program
	daemon: false,   // the only way in which nginx takes a new binary
	processes: 1,
	connections: 4096,
	files: 20000,
	listen: port => `listen 127.0.0.1:${port};`,
}

// startNginx({dir, program, link, ...}): program and link are unix sockets' paths (without
// "unix:").  With conf(port, dir) a whole configuration can be given instead.
export async function startNginx(options = {}) {
	const o = { ...defaults, ...options }
	const dir = o.dir ?? temporary()
	const port = o.port ?? await freePort()
	const program = o.program ?? join(dir, 'program.sock')
	const link = o.link ?? join(dir, 'link.sock')
	const pidFile = join(dir, 'nginx.pid')
	const errorLog = join(dir, 'error.log')
	const compose = extra => {
		const p = { ...o, ...extra }
		return p.conf ? p.conf(port, dir) : `
load_module ${modulePath};
daemon ${p.daemon ? 'on' : 'off'}; pid ${pidFile}; error_log ${errorLog} info;
user root; worker_processes ${p.processes || 1}; worker_rlimit_nofile ${p.files}; ${p.main}
env LD_PRELOAD; env ASAN_OPTIONS; env LSAN_OPTIONS;   # for the new binary of an upgrade, too
events { worker_connections ${p.connections}; ${p.events} }
http {
	access_log ${join(dir, 'access.log')};
	client_body_temp_path ${dir}/t1; proxy_temp_path ${dir}/t2; fastcgi_temp_path ${dir}/t3;
	uwsgi_temp_path ${dir}/t4; scgi_temp_path ${dir}/t5;
	seance_link main unix:${link};
	${p.http}
	server {
		${p.listen(port)}
		${typeof p.server === 'function' ? p.server(program) : p.server}
		location / {
			fastcgi_pass unix:${program};
			fastcgi_param REQUEST_METHOD $request_method; fastcgi_param REQUEST_URI $request_uri;
			fastcgi_param QUERY_STRING $query_string; fastcgi_param CONTENT_LENGTH $content_length;
			fastcgi_param REMOTE_ADDR $remote_addr;
			${p.connect}
		}
		location /_hold/ { internal; seance_hold ${p.held}; seance_pass unix:${program}; ${p.hold} }
	}
}`
	}
	const file = join(dir, 'nginx.conf')
	writeFileSync(file, compose({}))
	const env = { ...environment, ...o.env }
	const child = spawn(nginxBinary, ['-c', file, '-p', dir, '-e', errorLog], { stdio: ['ignore', 'pipe', 'pipe'], env })
	let output = ''
	child.stdout.on('data', d => { output += d })
	child.stderr.on('data', d => { output += d })
	let exited = null
	const masters = new Set()      // that have been seen: a binary upgrade makes one more
	const exit = new Promise(done => child.on('exit', (code, signal) => { if (!o.daemon || code) exited = code ?? signal; done() }))
	const log = () => existsSync(errorLog) ? readFileSync(errorLog, 'utf8') : ''
	const self = {
		dir, port, program, link, log,
		// undefined for the moment in which a binary upgrade renames its file
		get pid() {
			if (!o.daemon) return child.pid
			try {
				const pid = Number(readFileSync(pidFile, 'utf8')) || undefined
				masters.add(pid)
				return pid
			} catch { return undefined }
		},
		output: () => output,
		access: () => readFileSync(join(dir, 'access.log'), 'utf8'),
		// pids of the worker processes, old ones that still hold something included
		workers: () => children(self.pid).filter(alive),
		signal: name => process.kill(self.pid, name),
		// reload(extra): with another configuration, if given; returns when a new worker is there
		async reload(extra) {
			if (extra) writeFileSync(file, compose(extra))
			const before = new Set(self.workers())
			self.signal('SIGHUP')
			await until(() => self.workers().some(pid => !before.has(pid)), 'a new worker')
		},
		async stop() {
			masters.add(self.pid)
			const left = [...masters].filter(alive), all = [...left, ...left.flatMap(children)]
			const end = (pids, signal) => { for (const pid of pids) try { process.kill(pid, signal) } catch { /* gone */ } }
			end(left, 'SIGTERM')
			const timer = setTimeout(end, 5000, all, 'SIGKILL')
			await (o.daemon ? until(() => !left.some(alive), 'nginx to end') : exit)
			clearTimeout(timer)
			const complaint = `${output}\n${log()}`.match(/ERROR: \w+Sanitizer[\s\S]{0,3000}/)
			if (!o.dir) rmSync(dir, { recursive: true, force: true })
			if (complaint) throw new Error(complaint[0])
		},
	}
	try {
		await until(() => {
			if (exited !== null) throw new Error(`nginx has ended (${exited}): ${output}\n${log()}`)
			if (o.daemon && child.exitCode === null) return false      // it takes no new binary before its parent has gone
			return existsSync(pidFile) && self.workers().length >= o.processes && reachable(port)
		}, 'nginx to listen')
	} catch (error) {
		await self.stop()
		throw error
	}
	return self
}

function reachable(port) {
	return new Promise(done => {
		const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); done(true) })
		socket.on('error', () => done(false))
	})
}

// nginx -t with a configuration: { ok, output }
export function testConfiguration(text) {
	const dir = temporary()
	try {
		const file = join(dir, 'nginx.conf')
		writeFileSync(file, `load_module ${modulePath}; pid ${dir}/pid; error_log stderr; events {}\n${text.replace('http {', 'http { access_log off;')}`)
		try {
			execFileSync(nginxBinary, ['-t', '-c', file, '-p', dir, '-e', 'stderr'], { stdio: 'pipe', env: environment })
			return { ok: true, output: '' }
		} catch (error) {
			return { ok: false, output: String(error.stderr) }
		}
	} finally {
		rmSync(dir, { recursive: true, force: true })
	}
}

export const openFiles = pid => readdirSync(`/proc/${pid}/fd`).map(fd => {
	try { return readlinkSync(`/proc/${pid}/fd/${fd}`) } catch { return '' }
})
