import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
for (const [name, command, ...args] of [
	['5,000 sockets vanish with a frame in flight', 'vanish.mjs', '5000'],
	['1,500 sockets vanish while the program is killed, the link breaks and nginx reloads', 'vanish.mjs', '1500', 'wild'],
	['1,500 sockets without a link vanish, each end is told', 'vanish.mjs', '1500', 'alone'],
	['5,000 sockets vanish, under AddressSanitizer', 'asan.sh', '5000'],
	['1,500 sockets vanish while all else breaks, under AddressSanitizer', 'asan.sh', '1500', 'wild'],
	['1,500 sockets without a link vanish while all else breaks, under AddressSanitizer', 'asan.sh', '1500', 'wild', 'alone'],
]) {
	test(name, () => {
		const ran = spawnSync(join(here, command), args, { encoding: 'utf8', timeout: 120000 })
		console.log(ran.stdout.split('\n').filter(line => line.startsWith('#')).join('\n'))
		assert.equal(ran.status, 0, ran.stdout + ran.stderr)
	})
}
