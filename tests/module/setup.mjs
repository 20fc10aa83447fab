// What most tests need: nginx with the module, a scripted program and the link's other end.
import { execFileSync } from 'node:child_process'
import { after } from 'node:test'
import { join } from 'node:path'
import { rmSync } from 'node:fs'
import { startNginx, temporary, until } from './nginx.mjs'
import { Client } from './client.mjs'
import { Link, Program } from './program.mjs'

let certificateDir

// The directives that name a certificate for localhost, made once a test file.
export function certificate() {
	if (!certificateDir) {
		certificateDir = temporary()
		process.on('exit', () => rmSync(certificateDir, { recursive: true, force: true }))
		execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', join(certificateDir, 'k'), '-out', join(certificateDir, 'c'), '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'], { stdio: 'pipe' })
	}
	return `ssl_certificate ${join(certificateDir, 'c')}; ssl_certificate_key ${join(certificateDir, 'k')};`
}

export const certificateFile = () => join(certificateDir, 'c')

// start(options of startNginx) → {nginx, program, link, open(), stop()}
export async function start(options = {}) {
	const dir = temporary()
	const program = await new Program(join(dir, 'program.sock')).start()
	const link = await new Link(join(dir, 'link.sock')).start()
	let nginx
	const clients = new Set()
	const stop = async () => {
		for (const c of clients) c.cut()
		try {
			await nginx?.stop()
		} finally {
			await program.stop()
			await link.stop()
			rmSync(dir, { recursive: true, force: true })
		}
	}
	try {
		nginx = await startNginx({ dir, ...options })
		await until(() => link.stream?.ready, 'hello of the link')
	} catch (error) {
		await stop()
		throw error
	}
	const self = {
		dir, nginx, program, link, stop,
		// a client whose socket the link has heard of
		async open(id, path = `/?id=${id}`, more) {
			const client = await Client.open(nginx.port, path, more)
			clients.add(client)
			client.id = id
			if (client.status === 101 && id) await until(() => link.stream?.handles[id] !== undefined, `held ${id}`)
			return client
		},
		track(client) { clients.add(client); return client },
	}
	return self
}

// The same, stopped when the test file has ended.
export async function shared(options) {
	const self = await start(options)
	after(() => self.stop())
	return self
}

// For one test: starts, runs, and stops whatever happens.
export const using = (options, run) => async () => {
	const self = await start(options)
	try { await run(self) } finally { await self.stop() }
}
