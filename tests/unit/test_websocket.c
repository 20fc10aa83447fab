#include "../../nginx/module/websocket.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

#define MAX 70000u

/* A client's frame: first byte as given, masked. */
static size_t
frame(uint8_t *out, uint8_t first, const void *data, size_t len)
{
	static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	const uint8_t *from = data;
	size_t n = websocket_head(out, WEBSOCKET_TEXT, len);

	out[0] = first;
	out[1] |= 0x80;
	memcpy(out + n, mask, 4);
	n += 4;
	for (size_t i = 0; i < len; i++)
		out[n + i] = from[i] ^ mask[i & 3];
	return n + len;
}

/* What a stream gives, as text: "T5 P0 C1000" or "!1002". */
static const char *
run(const uint8_t *stream, size_t len, size_t piece)
{
	static char out[4096];
	struct websocket ws;
	size_t at = 0, n = 0;

	out[0] = 0;
	websocket_init(&ws, MAX);
	while (at < len) {
		size_t size = len - at < piece ? len - at : piece, used = 0;
		uint8_t *buf = malloc(size); /* its own block: a byte too far is seen */

		memcpy(buf, stream + at, size);
		at += size;
		for (;;) {
			struct websocket_event e;

			used += websocket_read(&ws, buf + used, size - used, &e);
			if (e.type == WEBSOCKET_NOTHING)
				break;
			if (e.type == WEBSOCKET_FAILED || e.type == WEBSOCKET_GOT_CLOSE) {
				snprintf(out + n, sizeof out - n, "%c%u", e.type == WEBSOCKET_FAILED ? '!' : 'C',
				         e.code);
				at = len;
				break;
			}
			n += (size_t)snprintf(out + n, sizeof out - n, "%c%zu ", " TBpq"[e.type], e.len);
		}
		free(buf);
	}
	websocket_release(&ws);
	return out;
}

static void
is(const uint8_t *stream, size_t len, const char *want, const char *name)
{
	static const size_t pieces[] = {1, 2, 3, 7, 64, 4096, 1u << 20};
	int good = 1;

	for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
		good = good && strcmp(run(stream, len, pieces[i]), want) == 0;
	ok(good, "%s: %s (%s)", name, want, run(stream, len, SIZE_MAX));
}

static void
one(uint8_t first, const void *data, size_t len, const char *want, const char *name)
{
	uint8_t *buf = malloc(len + 14);

	is(buf, frame(buf, first, data, len), want, name);
	free(buf);
}

static void
test_messages(void)
{
	static uint8_t big[MAX + 1];
	uint8_t buf[512];
	size_t n;

	one(0x81, "hello", 5, "T5 ", "text");
	one(0x82, "\xff\xfe", 2, "B2 ", "binary");
	one(0x81, "", 0, "T0 ", "empty text");
	one(0x82, big, 125, "B125 ", "125 bytes");
	one(0x82, big, 126, "B126 ", "126 bytes");
	one(0x82, big, 65535, "B65535 ", "65535 bytes");
	one(0x82, big, 65536, "B65536 ", "65536 bytes");
	one(0x82, big, MAX, "B70000 ", "as big as allowed");
	one(0x82, big, MAX + 1, "!1009", "one byte too big");
	n = frame(buf, 0x01, "he", 2);
	n += frame(buf + n, 0x89, "ping", 4);
	n += frame(buf + n, 0x00, "", 0);
	n += frame(buf + n, 0x80, "llo", 3);
	n += frame(buf + n, 0x8a, "", 0);
	n += frame(buf + n, 0x81, "next", 4);
	is(buf, n, "p4 T5 q0 T4 ", "fragments with a ping between, pong, the next message");
	n = frame(buf, 0x01, "", 0);
	n += frame(buf + n, 0x80, "", 0);
	is(buf, n, "T0 ", "empty fragments");
}

static void
test_too_big_by_head(void)
{
	static const uint8_t head[] = {0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x71, 1, 2, 3, 4};
	uint8_t buf[300];
	uint8_t *all = malloc(MAX + 100);
	size_t n;

	is(head, sizeof head, "!1009", "a head alone announces too much");
	memset(buf, 'a', sizeof buf);
	n = frame(all, 0x01, all, 0);
	memset(all, 'a', MAX);
	n = frame(all, 0x01, buf, 300);
	memcpy(all + n, "\x80\xff\0\0\0\0\0\1\x10\xff\1\2\3\4", 14); /* 69887, 300 come before */
	is(all, n + 14, "!1009", "fragments together are too big");
	free(all);
}

static void
test_protocol(void)
{
	static const uint8_t unmasked[] = {0x81, 0x01, 'a'}, long16[] = {0x82, 0xfe, 0, 5, 0, 0, 0, 0},
						 long64[] = {0x82, 0xff, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0},
						 negative[] = {0x82, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0};
	uint8_t buf[512], data[126] = {0};
	size_t n;

	is(unmasked, sizeof unmasked, "!1002", "not masked");
	is(long16, sizeof long16, "!1002", "5 written in 16 bits");
	is(long64, sizeof long64, "!1002", "256 written in 64 bits");
	is(negative, sizeof negative, "!1002", "length with its top bit set");
	for (uint8_t bit = 0x10; bit < 0x80; bit = (uint8_t)(bit << 1))
		one((uint8_t)(0x81 | bit), "a", 1, "!1002", "reserved bit");
	for (uint8_t opcode = 3; opcode < 16; opcode++)
		if (opcode < 8 || opcode > 10)
			one((uint8_t)(0x80 | opcode), "", 0, "!1002", "unknown opcode");
	one(0x80, "a", 1, "!1002", "continuation of nothing");
	one(0x09, "a", 1, "!1002", "ping in fragments");
	one(0x89, data, 126, "!1002", "ping of 126 bytes");
	one(0x89, data, 125, "p125 ", "ping of 125 bytes");
	n = frame(buf, 0x01, "a", 1);
	n += frame(buf + n, 0x81, "b", 1);
	is(buf, n, "!1002", "new message within another");
}

static void
test_close(void)
{
	static const unsigned good[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010,
	                                1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999},
						  bad[] = {0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535};
	char want[16];
	uint8_t data[126];

	memset(data, 'r', sizeof data);
	one(0x88, "", 0, "C1005", "close without a code");
	one(0x88, "\x03", 1, "!1002", "half a code");
	one(0x88, "\x03\xe8\xff", 3, "!1007", "reason that is not UTF-8");
	one(0x88, "\x03\xe8\xe2\x82", 4, "!1007", "reason that is cut off");
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		data[0] = (uint8_t)(good[i] >> 8);
		data[1] = (uint8_t)good[i];
		snprintf(want, sizeof want, "C%u", good[i]);
		one(0x88, data, 125, want, "allowed code");
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		data[0] = (uint8_t)(bad[i] >> 8);
		data[1] = (uint8_t)bad[i];
		one(0x88, data, 2, "!1002", "code that is not allowed");
	}
}

static void
test_utf8(void)
{
	static const char *good[] = {"",
	                             "a",
	                             "\xc2\x80",
	                             "\xdf\xbf",
	                             "\xe0\xa0\x80",
	                             "\xed\x9f\xbf",
	                             "\xee\x80\x80",
	                             "\xef\xbf\xbf",
	                             "\xf0\x90\x80\x80",
	                             "\xf4\x8f\xbf\xbf",
	                             "01234567\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
	                             "89"};
	static const char *bad[] = {"\x80",
	                            "\xbf",
	                            "\xc0\xaf",
	                            "\xc1\xbf",
	                            "\xe0\x80\xaf",
	                            "\xe0\x9f\xbf",
	                            "\xed\xa0\x80",
	                            "\xed\xbf\xbf",
	                            "\xf0\x80\x80\xaf",
	                            "\xf0\x8f\xbf\xbf",
	                            "\xf4\x90\x80\x80",
	                            "\xf5\x80\x80\x80",
	                            "\xfe",
	                            "\xff",
	                            "\xc2",
	                            "\xe2\x82",
	                            "\xf0\x9f\x98",
	                            "\xc2"
	                            "a",
	                            "\xe2\x82"
	                            "a",
	                            "01234567\xff"
	                            "1234567"};
	struct websocket ws;
	struct websocket_event e;
	uint8_t buf[64];
	size_t n;

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		ok(websocket_utf8_valid((const uint8_t *)good[i], strlen(good[i])), "valid text %zu", i);
		n = frame(buf, 0x81, good[i], strlen(good[i]));
		ok(run(buf, n, 1)[0] == 'T', "valid text %zu in a frame", i);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		ok(!websocket_utf8_valid((const uint8_t *)bad[i], strlen(bad[i])), "invalid text %zu", i);
		one(0x81, bad[i], strlen(bad[i]), "!1007", "invalid text in a frame");
	}
	n = frame(buf, 0x01, "\xe2\x82", 2);
	n += frame(buf + n, 0x89, "\xff", 1);
	n += frame(buf + n, 0x80, "\xac", 1);
	is(buf, n, "p1 T3 ", "a character over two fragments, another byte in a ping between");
	websocket_init(&ws, MAX);
	n = frame(buf, 0x81,
	          "abc\xff"
	          "defghijklmnop",
	          17);
	websocket_read(&ws, buf, 10, &e);
	ok(e.type == WEBSOCKET_FAILED && e.code == 1007,
	   "fails at the first wrong byte, before the frame ends");
	websocket_release(&ws);
	n = frame(buf, 0x02, "\xff", 1);
	n += frame(buf + n, 0x80, "\xff", 1);
	is(buf, n, "B2 ", "binary is not validated");
}

static void
test_content(void)
{
	static uint8_t data[4000], buf[4100];
	struct websocket ws;
	struct websocket_event e;
	size_t n, used;

	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7);
	for (size_t cut = 0; cut < 60; cut++) {
		n = frame(buf, 0x82, data, sizeof data);
		websocket_init(&ws, MAX);
		used = websocket_read(&ws, buf, cut, &e);
		if (used == cut)
			used += websocket_read(&ws, buf + cut, n - cut, &e);
		if (used != n || e.type != WEBSOCKET_GOT_BINARY || memcmp(e.data, data, sizeof data) != 0)
			ok(0, "content survives a cut at %zu", cut);
		ok(!websocket_in_message(&ws) || cut, "no message is open");
		websocket_release(&ws);
	}
}

static void
test_write(void)
{
	uint8_t out[WEBSOCKET_CLOSE_MAX], reason[200];
	size_t n;

	ok(websocket_head(out, WEBSOCKET_TEXT, 125) == 2 && websocket_head(out, WEBSOCKET_TEXT, 126) == 4 &&
	       websocket_head(out, WEBSOCKET_TEXT, 65536) == 10 && out[1] == 127 && out[7] == 1,
	   "heads");
	ok(websocket_close_frame(out, 1005, NULL, 0) == 2 && out[0] == 0x88 && out[1] == 0,
	   "close, no code");
	n = websocket_close_frame(out, 1013, (const uint8_t *)"late", 4);
	ok(n == 8 && memcmp(out, "\x88\x06\x03\xf5late", 8) == 0, "close with code and reason");
	memset(reason, 'x', sizeof reason);
	memcpy(reason + 122, "\xc3\xa9", 2);
	n = websocket_close_frame(out, 1000, reason, sizeof reason);
	ok(n == 2 + 2 + 122, "a long reason is cut between characters");
}

static void
test_random(void)
{
	int calm = 1;

	srand(1);
	for (int i = 0; i < 100000; i++) {
		size_t len = (size_t)rand() % 80;
		uint8_t buf[80];

		for (size_t k = 0; k < len; k++)
			buf[k] = (uint8_t)rand();
		if (len > 1 && rand() % 4) {
			buf[0] &= 0x8b;
			buf[1] |= 0x80;
			if (rand() % 2)
				buf[1] &= 0x8f;
		}
		calm = calm && run(buf, len, (size_t)rand() % 8 + 1) != NULL;
	}
	ok(calm, "random bytes are read within bounds");
}

int
main(void)
{
	test_messages();
	test_too_big_by_head();
	test_protocol();
	test_close();
	test_utf8();
	test_content();
	test_write();
	test_random();
	return done();
}
