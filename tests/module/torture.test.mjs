import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
for (const [name, command, ...args] of [
	['2,000 connections break', process.execPath, join(here, 'torture.mjs'), '2000'],
	['800 connections break, under AddressSanitizer', join(here, 'asan.sh'), process.execPath, join(here, 'torture.mjs'), '800'],
	['400 connections to a program without a link, under AddressSanitizer', join(here, 'asan.sh'), process.execPath, join(here, 'torture.mjs'), '400', 'alone'],
]) {
	test(name, () => {
		const ran = spawnSync(command, args, { encoding: 'utf8', timeout: 120000 })
		console.log(ran.stdout.split('\n').filter(line => line.startsWith('#')).join('\n'))
		assert.equal(ran.status, 0, ran.stdout + ran.stderr)
	})
}
