// docs/gateway.md against the code: directives, defaults, parameters, codes, link messages, counts, bytes.
import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fcgiAnswer } from './program.mjs'
import { using } from './setup.mjs'
import { root, testConfiguration, until } from './nginx.mjs'

const read = name => readFileSync(join(root, name), 'utf8')
const doc = read('docs/gateway.md'), code = read('nginx/module/ngx_http_seance_module.c'), link = read('nginx/module/link_message.h')
const section = title => doc.split(/^(?=##+ )/m).find(part => part.startsWith(`${title}\n`)) ?? assert.fail(`no section ${title}`)
const rows = text => [...text.matchAll(/^\|(.*)\|$/gm)].map(m => m[1].split(/(?<!\\)\|/).map(cell => cell.trim()))

// A size, a time in ms, a flag or a number, as nginx reads it.
const units = { k: 1024, m: 1024 * 1024, s: 1000, ms: 1 }
const value = text => text === 'on' ? 1 : text === 'off' ? 0 : Number(text.match(/^\d+/)[0]) * (units[text.replace(/^\d+/, '')] ?? 1)

// {name: {context, field, default}} of the command table and the merging of settings
function commands() {
	const contexts = { ANYWHERE: 'http, server, location', NGX_HTTP_MAIN_CONF: 'http', NGX_HTTP_LOC_CONF: 'location' }
	const table = code.slice(code.indexOf('ngx_command_t commands[]'), code.indexOf('ngx_null_command'))
	const all = [...table.matchAll(/(SETTING|ngx_string)\("(\w+)"([^]*?)(?=\n\t(?:SETTING|\{)|$)/g)].map(([, how, name, rest]) => {
		const field = how === 'SETTING' ? rest.match(/, (\w+)\)/)[1] : rest.match(/offsetof\(struct seance_conf, (\w+)\)/)?.[1]
		const merged = field && code.match(new RegExp(`ngx_conf_merge_\\w+\\(location->${field}, outer->${field}, ([^)]*)\\)`))
		return [name, {
			context: contexts[how === 'SETTING' ? 'ANYWHERE' : rest.match(/ANYWHERE|NGX_HTTP_\w+_CONF/)[0]],
			default: merged && merged[1].split('*').reduce((product, n) => product * Number(n), 1),
		}]
	})
	return Object.fromEntries(all)
}

test('every directive is documented, in order, with its context and default; no other is', () => {
	const want = commands()
	assert.ok(Object.keys(want).length >= 15)
	const titles = [...doc.matchAll(/^### (seance_\w+)$/gm)].map(m => m[1])
	assert.deepEqual(titles, Object.keys(want).sort())
	for (const name of titles) {
		const text = section(`### ${name}`)
		assert.match(text, new RegExp(`Syntax: \\| \`${name} ?[^\`]*;\``), name)
		assert.equal(text.match(/Context: \| (.*) \|/)[1], want[name].context, name)
		const set = text.match(/Default: \| (.*) \|/)[1]
		if (want[name].default === undefined) assert.equal(set, '—', name)
		else assert.equal(value(set.match(new RegExp(`^\`${name} (\\w+);\`$`))[1]), want[name].default, name)
	}
	for (const [, name] of doc.matchAll(/\b(seance_[a-z_]+)\b/g)) assert.ok(name in want, `${name} is no directive`)
	for (const [, name, set] of section('## Limits').matchAll(/`(seance_\w+)`, (\w+) \|/g))
		assert.equal(set === 'none' ? 0 : value(set), want[name].default, name)
})

test('nginx accepts the example configurations', () => {
	const examples = [...doc.matchAll(/```nginx\n([^]*?)```/g)].map(m => m[1])
	assert.equal(examples.length, 2)
	for (const example of examples) {
		const { ok, output } = testConfiguration(example.replace(/^load_module.*$/m, '').replace(' 443 ssl;', ' 8443;').replace('...', '').replaceAll(' fastcgi_params;', ' /etc/nginx/fastcgi_params;'))
		assert.ok(ok, output)
	}
})

test('every request parameter is documented, and no other', () => {
	const message = read('nginx/module/message.c')
	const sent = [...message.matchAll(/add\w*\(pairs, "(\w+)"/g)].map(m => m[1]).concat(message.match(/#define POSITION +"(\w+)"/)[1])
	assert.deepEqual(rows(section('## Messages')).map(row => row[0].match(/^`([A-Z_]+)`$/)?.[1]).filter(name => name?.includes('_')), sent)
	const own = code.match(/own\[\] = \{([^}]*)\}/)[1]
	assert.deepEqual([...own.matchAll(/"(\w+)"/g)].map(m => m[1]).sort(), [...sent].sort())
})

test('every close code of the module is documented', () => {
	const described = rows(section('## Close codes')).map(row => row[0])
	const names = Object.fromEntries([...read('nginx/module/websocket.h').matchAll(/WEBSOCKET_(\w+) = (\d{4})/g)].map(m => [m[1], m[2]]))
	const used = ['socket', 'order', 'websocket'].flatMap(file => [...read(`nginx/module/${file}.c`).matchAll(/WEBSOCKET_([A-Z_0-9]+)/g)]).map(m => names[m[1]]).filter(Boolean)
	for (const number of new Set(used)) if (number !== '1000') assert.ok(described.includes(number), number)
})

test('every message of the link is documented, with its number and fields; version, opcodes, kinds', () => {
	const types = []
	let number = 0
	for (const [, name, set, comment] of link.slice(link.indexOf('enum link_type')).split('};')[0].matchAll(/LINK_(\w+)(?: = (\d+))?,\s*\/\* (.*?) \*\//g)) {
		number = set ? Number(set) : number + 1
		types.push([String(number), name, /^u\d+ /.test(comment) ? comment.split(':')[0] : ''])
	}
	assert.ok(types.length >= 11)
	const described = [...rows(section('### From the worker')), ...rows(section('### From the program'))].filter(row => /^\d+$/.test(row[0]))
	assert.deepEqual(described.map(row => row.slice(0, 3).map(cell => cell.trim())), types)
	assert.match(section('## The link'), new RegExp(`this is version ${link.match(/LINK_VERSION +(\d+)u/)[1]}\\.`))
	assert.equal(link.match(/enum link_opcode \{(.*?)\}/s)[1].replace(/\s+/g, ' ').trim(), 'LINK_TEXT = 1, LINK_BINARY, LINK_EVENTS, LINK_CATCH_UP, LINK_BYTES, LINK_CATCH_UP_BYTES')
	assert.equal(link.match(/enum link_kind \{(.*?)\}/s)[1].trim(), 'LINK_WEBSOCKET = 1, LINK_STREAM, LINK_WAIT')
})

test('every count is documented, in its order', () => {
	assert.deepEqual(rows(section('### Counts')).map(row => row[0]).filter(cell => cell.startsWith('`')),
		[...link.matchAll(/^\s*X\(\w+, "(\w+)"\)/gm)].map(m => `\`${m[1]}\``))
})

test('every line of the log is documented', () => {
	const known = [...section('## Logs').matchAll(/`([^`]*)`/g)].map(m => m[1])
	const formats = readdirSync(join(root, 'nginx/module')).filter(file => file.endsWith('.c'))
		.flatMap(file => [...read(`nginx/module/${file}`).matchAll(/"seance: ((?:[^"\\]|\\.|"\s+")*)"/g)]).map(m => m[1].replace(/"\s+"/g, '').replaceAll('\\"', '"'))
	assert.ok(formats.length >= 15)
	for (const format of formats) {
		const line = new RegExp(`^${format.replace(/%(?:\*s|0?3?\w{1,2})/g, '\\S+')}$`)
		assert.ok(known.some(text => line.test(text)), `${line}`)
	}
})

// A block of the document: hex digits and quoted text; what follows a # is said to the reader.
const bytes = name => Buffer.concat([...doc.match(new RegExp(`\`\`\`${name}\n([^]*?)\`\`\``))[1].replace(/#.*$/gm, '').matchAll(/"([^"]*)"|([0-9a-f]{2})\b/g)]
	.map(([, text, hex]) => hex ? Buffer.from(hex, 'hex') : Buffer.from(text.replaceAll('\\r', '\r').replaceAll('\\n', '\n'))))

test('the request and the answer, byte by byte', using({}, async s => {
	const want = bytes('request')
	let got = Buffer.alloc(0), connection
	const c = await s.open('a1b2c3')
	const tag = s.link.stream.of('HELLO')[0].tag.toString(16).padStart(16, '0')
	want.write(tag, want.indexOf('0123456789abcdef'))
	s.program.onConnection = it => { connection = it; it.on('data', data => { got = Buffer.concat([got, data]) }) }
	s.program.on = () => {}
	c.text('hi')
	await until(() => got.length >= want.length, 'the request')
	assert.equal(got.toString('latin1'), want.toString('latin1'))
	connection.write(bytes('answer'))
	assert.deepEqual(await c.count(2), ['one', 'two'])
	s.link.stream.unit('a1b2c3', 7, 8, 'behind it')
	await c.count(3)
}))

test('a delivery and its acknowledgement, byte by byte', using({}, async s => {
	const deliver = bytes('deliver')
	let got = Buffer.alloc(0)
	const c = await s.open('a')
	s.link.stream.connection.on('data', data => { got = Buffer.concat([got, data]) })
	deliver.writeBigUInt64BE(s.link.stream.handles.a, deliver.indexOf(Buffer.from('0102030405060708', 'hex')))
	s.link.stream.connection.write(deliver)
	assert.equal(await c.nextText(), 'hi')
	await until(() => got.includes(bytes('ack')), 'the acknowledgement')
}))

test('$uri in the access log names the socket; arguments of the redirect are parameters', using({
	http: 'log_format named "$status $uri"; access_log named.log named;',
	hold: 'seance_param META_USER $arg_user;',
}, async s => {
	s.program.connect = request => request.connection.end(fcgiAnswer(Buffer.from('X-Accel-Redirect: /_hold/websocket/abc-1?protocol=p&user=alice\r\n\r\n')))
	const c = await s.open('abc-1', '/?user=mallory')
	assert.equal(c.headers['sec-websocket-protocol'], 'p')
	c.text('x')
	await c.next()
	assert.equal(s.program.requests[0].params.META_USER, 'alice')
	assert.equal(readFileSync(join(s.dir, 'named.log'), 'utf8'), '101 /_hold/websocket/abc-1\n')
}))
