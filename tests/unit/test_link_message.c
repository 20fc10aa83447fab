#include "../../nginx/module/link_message.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

#define ID     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define REASON "bye"

static const struct link_message samples[] = {
	{.type = LINK_HELLO, .version = LINK_VERSION, .tag = 0x0102030405060708, .deadline_ms = 30000},
	{.type = LINK_HELD,
     .handle = UINT64_MAX,
     .kind = LINK_WEBSOCKET,
     .position = 7,
     .answered = 9,
     .id = (const uint8_t *)ID,
     .id_len = LINK_ID_MAX},
	{.type = LINK_HELD, .handle = 1, .kind = LINK_WEBSOCKET, .id = (const uint8_t *)"", .id_len = 0},
	{.type = LINK_HELLO_END},
	{.type = LINK_CLOSED,
     .handle = 3,
     .code = 1006,
     .reason = (const uint8_t *)REASON,
     .reason_len = 3,
     .id = (const uint8_t *)ID,
     .id_len = 22},
	{.type = LINK_BEHIND, .handle = 4, .position = 1ull << 40},
	{.type = LINK_DRAINED, .handle = 4, .position = (1ull << 40) + 1},
	{.type = LINK_ACK, .batch = 77},
	{.type = LINK_COUNTS, .counts = (const uint8_t *)ID, .counts_len = 2 * LINK_COUNT_SIZE},
	{.type = LINK_COUNTS},
	{.type = LINK_CLOSE,
     .batch = 5,
     .handle = 6,
     .code = 1013,
     .reason = (const uint8_t *)REASON,
     .reason_len = 3},
	{.type = LINK_WAKE, .batch = 8, .handle = UINT64_MAX - 1},
};
#define SAMPLES (sizeof samples / sizeof samples[0])

static int
same(const struct link_message *a, const struct link_message *b)
{
	return a->type == b->type && a->version == b->version && a->tag == b->tag &&
	       a->deadline_ms == b->deadline_ms && a->handle == b->handle && a->kind == b->kind &&
	       a->position == b->position && a->answered == b->answered && a->batch == b->batch &&
	       a->code == b->code && a->id_len == b->id_len && a->reason_len == b->reason_len &&
	       a->counts_len == b->counts_len &&
	       (a->counts_len == 0 || memcmp(a->counts, b->counts, a->counts_len) == 0) &&
	       (a->id_len == 0 || memcmp(a->id, b->id, a->id_len) == 0) &&
	       (a->reason_len == 0 || memcmp(a->reason, b->reason, a->reason_len) == 0);
}

static void
test_round_trip(size_t i)
{
	uint8_t buf[256];
	struct link_message got;
	size_t size = link_encode(buf, &samples[i]);
	int early = 0;

	ok(size == link_size(&samples[i]) && link_wanted(buf, size) == size, "sample %zu: sizes agree", i);
	for (size_t n = 0; n < size; n++)
		early += link_decode(buf, n, &got) != 0;
	ok(early == 0, "sample %zu: every shorter piece asks for more", i);
	ok(link_decode(buf, size, &got) == (long)size && same(&got, &samples[i]),
	   "sample %zu: comes back as it went", i);
	if (size > 5) {
		buf[3]--;
		ok(link_decode(buf, size - 1, &got) == -1, "sample %zu: a byte too few within is malformed", i);
		buf[3] = (uint8_t)(buf[3] + 2);
		buf[size] = 0;
		ok(link_decode(buf, size + 1, &got) == -1, "sample %zu: a byte too many within is malformed", i);
	}
}

static void
test_deliver(void)
{
	struct link_message m = {
		.type = LINK_DELIVER, .batch = 12, .opcode = LINK_EVENTS, .target_count = 3, .body_len = 5};
	struct link_target t, targets[3] = {{1, 0, 5}, {UINT64_MAX, 4, 5}, {3, 2, 1ull << 60}};
	uint8_t buf[256];
	size_t n = link_encode(buf, &m);
	int equal = 1;

	for (int i = 0; i < 3; i++, n += LINK_TARGET_SIZE)
		link_target_write(buf + n, targets[i]);
	memcpy(buf + n, "hello", 5);
	n += 5;
	ok(link_wanted(buf, n) == n && link_decode(buf, n, &m) == (long)n, "a delivery is decoded");
	ok(m.batch == 12 && m.opcode == LINK_EVENTS && m.target_count == 3 && m.body_len == 5 &&
	       memcmp(m.body, "hello", 5) == 0,
	   "its fields are there");
	for (uint32_t i = 0; i < 3; i++) {
		t = link_target_at(&m, i);
		equal = equal && memcmp(&t, &targets[i], sizeof t) == 0;
	}
	ok(equal, "its targets are there");
	buf[14] = 0xff; /* target_count far above what follows */
	ok(link_decode(buf, n, &m) == -1, "more targets than bytes is malformed");
	buf[14] = 0;
	buf[13] = 9;
	ok(link_decode(buf, n, &m) == -1, "an unknown opcode is malformed");
}

static void
test_bad(void)
{
	static const uint8_t zero[] = {0, 0, 0, 0}, huge[] = {0xff, 0xff, 0xff, 0xff},
						 unknown[] = {0, 0, 0, 1, 200}, wake[] = {0, 0, 0, 1, LINK_WAKE};
	struct link_message m, held = samples[1];
	uint8_t buf[256];
	size_t n;

	ok(link_decode(zero, 4, &m) == -1, "no type is malformed");
	ok(link_decode(huge, 4, &m) == -1, "a message over LINK_MESSAGE_MAX is malformed at once");
	ok(link_decode(unknown, 5, &m) == -1, "an unknown type is malformed");
	ok(link_decode(wake, 5, &m) == -1, "a wake without its fields is malformed");
	ok(link_wanted(zero, 3) == 0, "the length is unknown before four bytes");
	n = link_encode(buf, &held);
	buf[n - LINK_ID_MAX - 1] = LINK_ID_MAX + 1;
	buf[3]++;
	ok(link_decode(buf, n + 1, &m) == -1, "an id over LINK_ID_MAX is malformed");
}

static void
test_counts(void)
{
	uint8_t counts[2 * LINK_COUNT_SIZE], buf[64];
	struct link_message m = {.type = LINK_COUNTS, .counts = counts, .counts_len = sizeof counts};

	link_count_write(counts, 5);
	link_count_write(counts + LINK_COUNT_SIZE, UINT64_MAX);
	link_decode(buf, link_encode(buf, &m), &m);
	ok(link_count_at(&m, 0) == 5 && link_count_at(&m, 1) == UINT64_MAX, "counts are read as written");
	ok(link_count_at(&m, 2) == 0, "one that the other side does not tell is 0");
	ok(strcmp(link_count_name(LINK_COUNT_RESENDS), "resends") == 0, "a count has a name");
}

static void
test_random(void)
{
	int calm = 1;

	srand(1);
	for (int i = 0; i < 200000; i++) {
		size_t n = (size_t)rand() % 64;
		uint8_t *buf = malloc(n + 1);
		struct link_message m;

		for (size_t k = 0; k < n; k++)
			buf[k] = (uint8_t)rand();
		if (n > 5) {
			buf[0] = buf[1] = buf[2] = 0;
			buf[3] = (uint8_t)(n - 4);
			buf[4] = (uint8_t)(rand() % 2 ? rand() % 9 : 64 + rand() % 3);
		}
		calm = calm && link_decode(buf, n, &m) <= (long)n;
		free(buf);
	}
	ok(calm, "random bytes are read within bounds");
}

int
main(void)
{
	for (size_t i = 0; i < SAMPLES; i++)
		test_round_trip(i);
	test_deliver();
	test_bad();
	test_counts();
	test_random();
	return done();
}
