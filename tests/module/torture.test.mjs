import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
for (const [name, command, ...args] of [
	['5,000 connections break', process.execPath, join(here, 'torture.mjs'), '5000'],
	['3,000 connections break, under AddressSanitizer', join(here, 'asan.sh'), process.execPath, join(here, 'torture.mjs'), '3000'],
	['1,500 connections to a program without a link, under AddressSanitizer', join(here, 'asan.sh'), process.execPath, join(here, 'torture.mjs'), '1500', 'alone'],
]) {
	test(name, () => {
		const ran = spawnSync(command, args, { encoding: 'utf8', timeout: 120000 })
		console.log(ran.stdout.split('\n').filter(line => line.startsWith('#')).join('\n'))
		assert.equal(ran.status, 0, ran.stdout + ran.stderr)
	})
}
