// Cases of RFC 6455 in the spirit of the Autobahn suite, whose numbers they carry where it has them.
// The other end echoes messages.  Each is { name, send, pieces, want }:
//
//   send     frames that the client sends, one write
//   pieces   how: 'whole' (default), 'bytes' (each byte by itself) or a number of bytes
//   want     what comes back, in order: [opcode, data] for a frame, a number for a CLOSE of that code (1005: none),
//            after which the connection ends
import { closeFrame, frame, OP } from './client.mjs'

const { CONT, TEXT, BINARY, CLOSE, PING, PONG } = OP
const more = { fin: false }
export const cases = []
const add = (name, send, want, pieces = 'whole') => cases.push({ name, send: [send].flat(), want, pieces })
const echo = (data, opcode = TEXT) => [opcode, data]
const bytes = (...list) => Buffer.from(list)
// a head in a form of choice: the length takes `size` bytes (0: in the second byte)
const head = (opcode, length, size, rsv = 0, fin = true) => {
	const b = Buffer.alloc(2 + size + 4)
	b[0] = (fin ? 0x80 : 0) | rsv << 4 | opcode
	b[1] = 0x80 | (size === 0 ? length : size === 2 ? 126 : 127)
	if (size === 2) b.writeUInt16BE(length, 2)
	if (size === 8) b.writeBigUInt64BE(BigInt(length), 2)
	return b
}
const each = (data, opcode, size) => {
	const parts = []
	for (let at = 0; at < data.length || at === 0; at += size)
		parts.push(frame(at === 0 ? opcode : CONT, data.subarray(at, at + size), { fin: at + size >= data.length }))
	return parts
}

// 1, 9: lengths
export const LIMIT = 200 * 1024     // seance_message_size of the location
const lengths = [0, 1, 2, 125, 126, 127, 128, 256, 65535, 65536, 65537, LIMIT]
for (const [kind, opcode] of [['text', TEXT], ['binary', BINARY]]) {
	for (const n of lengths) {
		const data = opcode === TEXT ? Buffer.alloc(n, 'a') : Buffer.alloc(n, 0xfe)
		add(`1: ${kind} of ${n} bytes`, frame(opcode, data), [[opcode, data]])
	}
	for (const size of [1, 13, 997]) add(`1: ${kind} of 65536 bytes in fragments of ${size}`, each(Buffer.alloc(size === 1 ? 2000 : 65536, 'b'), opcode, size), [[opcode, Buffer.alloc(size === 1 ? 2000 : 65536, 'b')]])
	for (const size of [1, 997, 4096]) add(`1: ${kind} of 5000 bytes, written ${size} bytes at a time`, frame(opcode, Buffer.alloc(5000, 'c')), [[opcode, Buffer.alloc(5000, 'c')]], size)
}
add('1: many lengths, one behind the other', [1, 125, 126, 127, 65535, 65536, 3].map(n => frame(BINARY, Buffer.alloc(n, n))), [1, 125, 126, 127, 65535, 65536, 3].map(n => [BINARY, Buffer.alloc(n, n)]))
add('1: all mask values that have one byte set', Array.from({ length: 4 }, (_, i) => { const f = frame(TEXT, 'mask'); const at = f.length - 8; const key = Buffer.alloc(4); key[i] = 0xff; for (let k = 0; k < 4; k++) f[at + 4 + k] ^= f[at + k] ^ key[k]; key.copy(f, at); return f }), Array(4).fill(echo('mask')))
add('1: a mask of zeros', (() => { const f = frame(TEXT, 'zero'); const at = f.length - 8; for (let k = 0; k < 4; k++) { f[at + 4 + k] ^= f[at + k]; f[at + k] = 0 } return f })(), [echo('zero')])
for (const [n, size] of [[0, 2], [125, 2], [0, 8], [125, 8], [126, 8], [65535, 8]])
	add(`length ${n} in ${size} bytes, not its shortest form`, [head(BINARY, n, size), Buffer.alloc(n)], [1002])
add('a length with its highest bit set', bytes(0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0), [1002])
add('9: a head that announces one byte too much', frame(BINARY, '', { length: LIMIT + 1 }), [1009])
add('9: a head that announces 2^62 bytes', bytes(0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), [1009])
add('9: fragments that are too much together, by the last head', [frame(BINARY, Buffer.alloc(LIMIT - 10), more), frame(CONT, '', { length: 11 })], [1009])
add('9: fragments that are just enough', [frame(BINARY, Buffer.alloc(LIMIT - 10, 1), more), frame(CONT, Buffer.alloc(10, 1))], [echo(Buffer.alloc(LIMIT, 1), BINARY)])
add('9: a message too big behind good ones', [frame(TEXT, 'a'), frame(TEXT, 'b'), frame(TEXT, '', { length: LIMIT + 1 })], [1009])

// masks
for (const [name, opcode, data] of [['text', TEXT, 'a'], ['text of 0 bytes', TEXT, ''], ['ping', PING, 'a'], ['close', CLOSE, bytes(3, 232)]])
	add(`unmasked ${name}`, frame(opcode, data, { mask: false }), [1002])
add('unmasked, behind a good message', [frame(TEXT, 'a'), frame(TEXT, 'b', { mask: false })], [1002])
add('an unmasked fragment', [frame(TEXT, 'a', more), frame(CONT, 'b', { mask: false })], [1002])

// 2: pings and pongs
add('2.1: ping of 0 bytes', frame(PING), [[PONG, '']])
add('2.2: ping of text', frame(PING, 'Hello'), [[PONG, 'Hello']])
add('2.3: ping of bytes', frame(PING, bytes(0, 255, 254, 253, 0xff)), [[PONG, bytes(0, 255, 254, 253, 255)]])
add('2.4: ping of 125 bytes', frame(PING, Buffer.alloc(125, 0xfe)), [[PONG, Buffer.alloc(125, 0xfe)]])
add('2.5: ping of 126 bytes', frame(PING, Buffer.alloc(126, 0xfe)), [1002])
add('2.6: ping of 125 bytes, byte by byte', frame(PING, Buffer.alloc(125, 0xfe)), [[PONG, Buffer.alloc(125, 0xfe)]], 'bytes')
add('2.7: pong of 0 bytes that nobody asked for', [frame(PONG), frame(PING, 'x')], [[PONG, 'x']])
add('2.8: pong of text that nobody asked for', [frame(PONG, 'unsolicited'), frame(PING, 'x')], [[PONG, 'x']])
add('2.9: pong, then ping', [frame(PONG, 'unsolicited pong'), frame(PING, 'ping')], [[PONG, 'ping']])
add('2.10: 10 pings', Array.from({ length: 10 }, (_, i) => frame(PING, `payload-${i}`)), Array.from({ length: 10 }, (_, i) => [PONG, `payload-${i}`]))
add('2.11: 10 pings, byte by byte', Array.from({ length: 10 }, (_, i) => frame(PING, `payload-${i}`)), Array.from({ length: 10 }, (_, i) => [PONG, `payload-${i}`]), 'bytes')
add('pong of 126 bytes', frame(PONG, Buffer.alloc(126)), [1002])
add('ping whose length takes 2 bytes', head(PING, 5, 2), [1002])
add('ping whose length takes 8 bytes', head(PING, 5, 8), [1002])

// 3: reserved bits
for (let rsv = 1; rsv < 8; rsv++) {
	add(`3.${rsv}: text with reserved bits ${rsv}`, frame(TEXT, 'small', { rsv }), [1002])
	add(`3.${rsv}: ping with reserved bits ${rsv}`, frame(PING, 'small', { rsv }), [1002])
}
add('3: a reserved bit behind a good message, in one write', [frame(PING, 'good'), frame(TEXT, 'x', { rsv: 4 }), frame(PING)], [[PONG, 'good'], 1002])
add('3: a reserved bit, byte by byte', [frame(PING, 'good'), frame(BINARY, 'x', { rsv: 2 })], [[PONG, 'good'], 1002], 'bytes')
add('3: close with a reserved bit', frame(CLOSE, bytes(3, 232), { rsv: 4 }), [1002])
add('3: a continuation with a reserved bit', [frame(TEXT, 'a', more), frame(CONT, 'b', { rsv: 4 })], [1002])

// 4: reserved opcodes
for (const opcode of [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]) {
	add(`4: opcode ${opcode}`, frame(opcode), [1002])
	add(`4: opcode ${opcode} with payload, behind a ping`, [frame(PING), frame(opcode, 'data'), frame(PING)], [[PONG, ''], 1002])
}
add('4: opcode 3 within a message', [frame(TEXT, 'a', more), frame(3, 'b')], [1002])

// 5: fragments
add('5.1: ping in fragments', [frame(PING, 'a', more), frame(CONT, 'b')], [1002])
add('5.2: pong in fragments', [frame(PONG, 'a', more), frame(CONT, 'b')], [1002])
add('close in fragments', [frame(CLOSE, bytes(3), more), frame(CONT, bytes(232))], [1002])
for (const pieces of ['whole', 'bytes', 7]) {
	add(`5.3-5: text in 2 fragments, ${pieces}`, [frame(TEXT, 'frag', more), frame(CONT, 'ment')], [echo('fragment')], pieces)
	add(`5.6-8: a ping between, ${pieces}`, [frame(TEXT, 'frag', more), frame(PING, 'ping'), frame(CONT, 'ment')], [[PONG, 'ping'], echo('fragment')], pieces)
	add(`5.19-20: many fragments and pings, ${pieces}`, [frame(TEXT, '1', more), frame(CONT, '2', more), frame(PING, 'p1'), frame(CONT, '3', more), frame(CONT, '4', more), frame(PING, 'p2'), frame(CONT, '5')], [[PONG, 'p1'], [PONG, 'p2'], echo('12345')], pieces)
}
for (const fin of [true, false]) {
	add(`5.9-14: continuation of nothing, fin ${fin}`, [frame(CONT, 'x', { fin }), frame(TEXT, 'y')], [1002])
	add(`5.15: continuation of nothing behind a message, fin ${fin}`, [frame(TEXT, 'frag', more), frame(CONT, 'ment'), frame(CONT, 'x', { fin }), frame(TEXT, 'y')], [1002])
	add(`5.16-17: continuation first, again and again, fin ${fin}`, [frame(CONT, 'a', { fin }), frame(TEXT, 'b', more), frame(CONT, 'c')], [1002])
	add(`5.18: a new text within a text, fin ${fin}`, [frame(TEXT, 'a', more), frame(TEXT, 'b', { fin })], [1002])
	add(`a new binary within a text, fin ${fin}`, [frame(TEXT, 'a', more), frame(BINARY, 'b', { fin })], [1002])
}
add('fragments of 0 bytes', [frame(TEXT, '', more), frame(CONT, '', more), frame(CONT, '')], [echo('')])
add('a fragment of 0 bytes at each end', [frame(TEXT, '', more), frame(CONT, 'middle', more), frame(CONT, '')], [echo('middle')])
add('fragments, then a message that is whole, then fragments', [frame(TEXT, 'a', more), frame(CONT, 'b'), frame(BINARY, 'c'), frame(TEXT, 'd', more), frame(CONT, 'e')], [echo('ab'), echo('c', BINARY), echo('de')])
add('a pong within a message', [frame(TEXT, 'a', more), frame(PONG, 'x'), frame(CONT, 'b')], [echo('ab')])
add('a close within a message', [frame(TEXT, 'a', more), closeFrame(1000)], [1000])

// 6: UTF-8 (RFC 3629)
const valid = {
	'6.2: letters of two and three bytes': Buffer.from('Hello-µ@ßöäüàá-UTF-8!!'),
	'6.5: κόσμε': Buffer.from('κόσμε'),
	'6.7: the first character of each length': bytes(0x00, 0xc2, 0x80, 0xe0, 0xa0, 0x80, 0xf0, 0x90, 0x80, 0x80),
	'6.9: the last of each length': bytes(0x7f, 0xdf, 0xbf, 0xef, 0xbf, 0xbf, 0xf4, 0x8f, 0xbf, 0xbf),
	'6.11: around the surrogates': bytes(0xed, 0x9f, 0xbf, 0xee, 0x80, 0x80, 0xef, 0xbf, 0xbd),
	'6.22: noncharacters': bytes(0xef, 0xbf, 0xbe, 0xef, 0xbf, 0xbf, 0xf0, 0x9f, 0xbf, 0xbe, 0xf4, 0x8f, 0xbf, 0xbf),
	'6.23: U+FFFD': bytes(0xef, 0xbf, 0xbd),
	'a long run of ASCII with one letter behind it': Buffer.concat([Buffer.alloc(1000, 'a'), bytes(0xc3, 0xa9)]),
	'emoji and joiners': Buffer.from('👩‍👩‍👧‍👦'),
}
for (const [name, data] of Object.entries(valid)) {
	add(`${name}`, frame(TEXT, data), [echo(data)])
	add(`${name}, a fragment a byte`, each(data, TEXT, 1), [echo(data)])
	add(`${name}, written byte by byte`, frame(TEXT, data), [echo(data)], 'bytes')
}
const invalid = {
	'6.6: κόσμ, cut within the last character': bytes(0xce, 0xba, 0xe1, 0xbd, 0xb9, 0xcf, 0x83, 0xce, 0xbc, 0xce),
	'6.3: a surrogate among letters': Buffer.concat([Buffer.from('κόσμε'), bytes(0xed, 0xa0, 0x80), Buffer.from('edited')]),
	'6.8: a sequence of 5 bytes': bytes(0xf8, 0x88, 0x80, 0x80, 0x80),
	'6.8: a sequence of 6 bytes': bytes(0xfc, 0x84, 0x80, 0x80, 0x80, 0x80),
	'6.10: U+110000': bytes(0xf4, 0x90, 0x80, 0x80),
	'6.10: F7 BF BF BF': bytes(0xf7, 0xbf, 0xbf, 0xbf),
	'6.12: 80': bytes(0x80),
	'6.12: BF': bytes(0xbf),
	'6.12: 80 BF 80': bytes(0x80, 0xbf, 0x80),
	'6.13: C0 alone': bytes(0xc0, 0x20),
	'6.13: E0 alone': bytes(0xe0, 0x20),
	'6.13: F0 alone': bytes(0xf0, 0x20),
	'6.14: C2 at the end': bytes(0xc2),
	'6.14: E0 A0 at the end': bytes(0xe0, 0xa0),
	'6.14: F0 90 80 at the end': bytes(0xf0, 0x90, 0x80),
	'6.15: several cut one behind the other': bytes(0xc0, 0xe0, 0x80, 0xf0, 0x80, 0x80),
	'6.16: FE': bytes(0xfe),
	'6.16: FF': bytes(0xff),
	'6.17: / in 2 bytes': bytes(0xc0, 0xaf),
	'6.17: / in 3 bytes': bytes(0xe0, 0x80, 0xaf),
	'6.17: / in 4 bytes': bytes(0xf0, 0x80, 0x80, 0xaf),
	'6.18: the last overlong of 2 bytes': bytes(0xc1, 0xbf),
	'6.18: the last overlong of 3 bytes': bytes(0xe0, 0x9f, 0xbf),
	'6.18: the last overlong of 4 bytes': bytes(0xf0, 0x8f, 0xbf, 0xbf),
	'6.19: NUL in 2 bytes': bytes(0xc0, 0x80),
	'6.20: U+D800': bytes(0xed, 0xa0, 0x80),
	'6.20: U+DFFF': bytes(0xed, 0xbf, 0xbf),
	'6.21: a pair of surrogates': bytes(0xed, 0xa0, 0x80, 0xed, 0xb0, 0x80),
}
for (const [name, data] of Object.entries(invalid)) {
	add(`${name}`, frame(TEXT, data), [1007])
	add(`${name}, a fragment a byte`, each(data, TEXT, 1), [1007])
	add(`${name}, behind 1000 letters, written in pieces`, frame(TEXT, Buffer.concat([Buffer.alloc(1000, 'a'), data])), [1007], 333)
}
add('6: the same bytes as binary', frame(BINARY, bytes(0xff, 0xfe, 0x80)), [echo(bytes(0xff, 0xfe, 0x80), BINARY)])
add('6.4.1: wrong in the middle of a frame whose rest never comes', frame(TEXT, Buffer.concat([Buffer.from('κόσμε'), bytes(0xf4, 0x90), Buffer.alloc(1000, 'a')])).subarray(0, 40), [1007])
add('6.4.2: wrong by the second byte of a character', frame(TEXT, Buffer.concat([bytes(0xe0, 0x80), Buffer.alloc(100)])).subarray(0, 8 + 2), [1007])
add('6.4.3: wrong in a fragment, with the message unended', [frame(TEXT, 'κόσμε', more), frame(CONT, bytes(0xf4, 0x90, 0x80, 0x80), more)], [1007])
add('6: a character across fragments, a ping between', [frame(TEXT, bytes(0xe2), more), frame(PING, 'p'), frame(CONT, bytes(0x82), more), frame(CONT, bytes(0xac))], [[PONG, 'p'], echo('€')])
add('6: a character cut at the end of a fragmented message', [frame(TEXT, 'a', more), frame(CONT, bytes(0xe2, 0x82))], [1007])
add('6: a cut character does not reach into the next message', [frame(TEXT, bytes(0xe2, 0x82)), frame(TEXT, bytes(0xac))], [1007])

// 7: closing
add('7.1.1: text, then close', [frame(PING, 'Hello'), closeFrame(1000)], [[PONG, 'Hello'], 1000])
add('7.1.2: two closes', [closeFrame(1000), closeFrame(1001)], [1000])
add('7.1.3: a ping after the close is not answered', [closeFrame(1000), frame(PING, 'late')], [1000])
add('7.1.4: text after the close is not answered', [closeFrame(1000), frame(TEXT, 'late')], [1000])
add('7.1.5: a close, then the rest of a message', [frame(TEXT, 'frag', more), closeFrame(1000), frame(CONT, 'ment')], [1000])
add('what is wrong after the close is not looked at', [closeFrame(1000), frame(3, 'x', { rsv: 7, mask: false })], [1000])
add('7.3.1: close without a body', closeFrame(), [1005])
add('7.3.2: close with one byte', frame(CLOSE, 'a'), [1002])
add('7.3.3: close with a code', closeFrame(1000), [1000])
add('7.3.4: close with code and reason', closeFrame(1000, 'Hello World!'), [1000])
add('7.3.5: close with a reason of 123 bytes', closeFrame(1000, '*'.repeat(123)), [1000])
add('7.3.6: close with a reason of 124 bytes', closeFrame(1000, '*'.repeat(124)), [1002])
add('7.5.1: a reason that is not UTF-8', frame(CLOSE, Buffer.concat([bytes(3, 232), Buffer.from('κόσμε'), bytes(0xed, 0xa0, 0x80)])), [1007])
add('7.5: a reason that is cut within a character', frame(CLOSE, bytes(3, 232, 0xe2, 0x82)), [1007])
for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999])
	add(`7.7: close with ${code}`, closeFrame(code, 'reason'), [code])
for (const code of [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
	add(`7.9: close with ${code}, which is not allowed`, closeFrame(code), [1002])
add('7: close, byte by byte', closeFrame(4321, 'byte by byte'), [4321], 'bytes')

// 10: pipelining
const thousand = Array.from({ length: 1000 }, (_, i) => `message ${i}`)
add('10: 1,000 frames in one write', thousand.map(t => frame(TEXT, t)), thousand.map(t => echo(t)))
add('10: 1,000 frames, 13 bytes at a time', thousand.slice(0, 300).map(t => frame(TEXT, t)), thousand.slice(0, 300).map(t => echo(t)), 13)
add('10: 1,000 messages of 2 fragments and a ping each', thousand.flatMap(t => [frame(TEXT, t, more), frame(CONT, '!')]), thousand.map(t => echo(`${t}!`)))
