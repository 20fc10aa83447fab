#include "../../nginx/module/websocket_events.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

static long
decode(const char *text, struct events_event *event)
{
	return events_decode((const uint8_t *)text, strlen(text), event);
}

static void
test_decode(void)
{
	static const char *bad[] = {
		"TEXT\r\n",         "TEXT \r\n",          "TEXT g\r\n",
		"TEXTS 1\r\na\r\n", "text 1\r\na\r\n",    "TEXT 1\r\nab\r\n",
		"TEXT 1\rxa\r\n",   "TEXT 100000000\r\n", "\r\n",
		" 1\r\na\r\n",      "TEXT  1\r\na\r\n",   "TEXT 1\n0123456789012345678901234567890"};
	struct events_event e;

	ok(decode("TEXT 5\r\nhello\r\nOPEN\r\n", &e) == 15 && e.type == EVENTS_TEXT && e.len == 5 &&
	       memcmp(e.data, "hello", 5) == 0,
	   "TEXT with five bytes");
	ok(decode("BINARY A\r\n\r\n34567890\r\n", &e) == 22 && e.type == EVENTS_BINARY && e.len == 10,
	   "BINARY, capital hex digit, CRLF within");
	ok(decode("TEXT 0\r\n\r\n", &e) == 10 && e.len == 0 && e.data != NULL, "empty TEXT");
	ok(decode("OPEN\r\n", &e) == 6 && e.type == EVENTS_OPEN && e.data == NULL, "OPEN without length");
	ok(decode("DISCONNECT\r\n", &e) == 12 && e.type == EVENTS_DISCONNECT, "DISCONNECT");
	ok(decode("CLOSE 4\r\n\x03\xe8hi\r\n", &e) == 15 && e.type == EVENTS_CLOSE && e.len == 4, "CLOSE");
	for (size_t n = 0; n < 15; n++)
		if (events_decode((const uint8_t *)"TEXT 5\r\nhello\r\n", n, &e) != 0)
			ok(0, "cut after %zu bytes asks for more", n);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		ok(decode(bad[i], &e) == -1, "malformed %zu is refused", i);
}

static void
test_head(void)
{
	static const size_t lens[] = {0, 1, 15, 16, 255, 4096, 0xfffff, 0xffffffff};
	uint8_t out[EVENTS_HEAD_MAX + 1];
	char want[64];

	for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
		size_t n = events_head(out, EVENTS_BINARY, lens[i]);

		snprintf(want, sizeof want, "BINARY %zx\r\n", lens[i]);
		ok(n == strlen(want) && memcmp(out, want, n) == 0, "head of %zu bytes", lens[i]);
	}
	ok(events_head(out, EVENTS_DISCONNECT, SIZE_MAX) <= EVENTS_HEAD_MAX, "the longest head fits");
	ok(events_bare(out, EVENTS_OPEN) == 6 && memcmp(out, "OPEN\r\n", 6) == 0,
	   "an event without content");
}

static long
order(const char *text, struct events_order *o)
{
	return events_order_decode((const uint8_t *)text, strlen(text), o);
}

static void
test_order(void)
{
	static const char *bad[] = {
		"1-2",           "1-2/",  "-2/1",   "1-/1",   "2-2/1",
		"3-2/1",         "1-2/x", "1-2/1x", "1 -2/1", "18446744073709551616-18446744073709551617/1",
		"1-2/4294967296"};
	struct events_order o;
	char out[EVENTS_ORDER_MAX];
	size_t n;

	ok(order("0-1/2, 1-5/0", &o) == 5 && o.after == 0 && o.cursor == 1 && o.count == 2, "first entry");
	ok(order(", 1-5/0", &o) == 7 && o.after == 1 && o.cursor == 5 && o.count == 0, "the next");
	ok(order("", &o) == 0 && order(" ,", &o) == 0, "no entry is left");
	ok(order("0-18446744073709551615/4294967295", &o) > 0 && o.cursor == UINT64_MAX, "largest numbers");
	n = events_order_write(out, &o);
	ok(n == 33 && memcmp(out, "0-18446744073709551615/4294967295", n) == 0, "written as read");
	o = (struct events_order){UINT64_MAX, UINT64_MAX, UINT32_MAX};
	ok(events_order_write(out, &o) <= EVENTS_ORDER_MAX, "the longest entry fits");
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		ok(order(bad[i], &o) == -1, "malformed order %zu is refused", i);
}

static void
test_random(void)
{
	static const char letters[] = "TEXBINARYCLOS 0123af\r\n";
	int calm = 1;

	srand(1);
	for (int i = 0; i < 200000; i++) {
		size_t n = (size_t)rand() % 40;
		uint8_t *buf = malloc(n + 1);
		struct events_event e;
		struct events_order o;

		for (size_t k = 0; k < n; k++)
			buf[k] = (uint8_t)letters[(size_t)rand() % (sizeof letters - 1)];
		if (n > 8 && rand() % 2)
			memcpy(buf, "TEXT 1\r\n", 8);
		calm =
			calm && events_decode(buf, n, &e) <= (long)n && events_order_decode(buf, n, &o) <= (long)n;
		free(buf);
	}
	ok(calm, "random bytes are read within bounds");
}

int
main(void)
{
	test_decode();
	test_head();
	test_order();
	test_random();
	return done();
}
