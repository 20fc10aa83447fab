#include "../../nginx/module/fcgi_record.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

/* Joins the content of all records of a type; stops at the stream's end mark.  Returns its length or -1. */
static long
join(const uint8_t *p, size_t len, int type, uint8_t *out)
{
	size_t at = 0, n = 0;

	while (at + 8 <= len) {
		size_t content = (size_t)(p[at + 4] << 8 | p[at + 5]), padding = p[at + 6];

		if (p[at] != 1 || p[at + 3] != 1)
			return -1;
		if (p[at + 1] == type) {
			if (content == 0)
				return (long)n;
			memcpy(out + n, p + at + 8, content);
			n += content;
		}
		at += 8 + content + padding;
	}
	return -1;
}

static void
test_stream(size_t len)
{
	uint8_t *data = malloc(len + 1), *out = malloc(fcgi_stream_size(len)), *got = malloc(len + 1);
	struct fcgi_stream stream;
	size_t half = len / 3, n;

	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 31);
	fcgi_stream_begin(&stream, FCGI_STDIN, out);
	fcgi_stream_put(&stream, data, half);
	fcgi_stream_put(&stream, data + half, len - half);
	n = (size_t)(fcgi_stream_end(&stream) - out);
	ok(n == fcgi_stream_size(len), "a stream of %zu bytes has the size that was said", len);
	ok(join(out, n, FCGI_STDIN, got) == (long)len && memcmp(got, data, len) == 0,
	   "and its bytes in order");
	free(data);
	free(out);
	free(got);
}

static void
test_params(void)
{
	uint8_t out[1024], got[1024];
	char value[200];
	struct fcgi_stream stream;
	uint8_t *end;

	memset(value, 'v', sizeof value);
	fcgi_stream_begin(&stream, FCGI_PARAMS, out);
	fcgi_stream_pair(&stream, "A", 1, "bc", 2);
	fcgi_stream_pair(&stream, "LONG", 4, value, 200);
	end = fcgi_stream_break(&stream);
	ok((size_t)(end - out) == 8 + fcgi_pair_size(1, 2) + fcgi_pair_size(4, 200),
	   "pairs have their size");
	stream.out = fcgi_number(end, "POSITION", 8, 1234);
	ok(stream.out - end == (long)FCGI_NUMBER_SIZE(8), "a number has a fixed size");
	end = fcgi_stream_end(&stream);
	ok(join(out, (size_t)(end - out), FCGI_PARAMS, got) == 5 + 4 + 205 + 10 + 4 &&
	       memcmp(got, "\1\2Abc\4\x80\0\0\xc8LONGv", 15) == 0 &&
	       memcmp(got + 214, "\10\4POSITION1234", 14) == 0,
	   "what a program reads");
	fcgi_number(out, "N", 1, UINT64_MAX);
	ok(memcmp(out + 8, "\1\24N18446744073709551615", 23) == 0 && out[6] == 0, "the largest number");
	fcgi_number(out, "N", 1, 0);
	ok(memcmp(out + 8, "\1\1N0", 4) == 0 && out[6] == 19, "zero");
	end = fcgi_begin(out, true);
	ok(end - out == 16 && memcmp(out, "\1\1\0\1\0\10\0\0\0\1\1\0\0\0\0\0", 16) == 0, "BEGIN_REQUEST");
	fcgi_begin(out, false);
	ok(memcmp(out, "\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0", 16) == 0,
	   "... on a connection that is to be closed");
}

static size_t
record(uint8_t *out, int type, const void *data, size_t len, size_t padding)
{
	fcgi_head(out, (enum fcgi_type)type, len, padding);
	if (len > 0)
		memcpy(out + 8, data, len);
	memset(out + 8 + len, 'p', padding);
	return 8 + len + padding;
}

static size_t
sample(uint8_t *out, uint8_t status)
{
	uint8_t end[8] = {0, 0, 0, 0, status, 0, 0, 0};
	size_t n = record(out, FCGI_STDOUT, "Status: 200 OK\r\n", 16, 0);

	n += record(out + n, FCGI_STDERR, "oops", 4, 4);
	n += record(out + n, FCGI_STDOUT, "Seance-Order:  1-2/3 \r\n\r\nbody", 29, 3);
	n += record(out + n, FCGI_STDOUT, "", 0, 0);
	n += record(out + n, FCGI_STDERR, "", 0, 0);
	return n + record(out + n, FCGI_END_REQUEST, end, 8, 0);
}

static enum fcgi_progress
feed(struct fcgi_answer *a, const uint8_t *data, size_t len, size_t piece, uint8_t **last)
{
	enum fcgi_progress progress = FCGI_MORE;
	size_t at = 0;

	*last = NULL;
	while (at < len && progress == FCGI_MORE) {
		size_t n = len - at < piece ? len - at : piece;

		free(*last);
		*last = malloc(n);
		memcpy(*last, data + at, n);
		progress = fcgi_answer_read(a, *last, n);
		at += n;
	}
	return progress;
}

static void
test_answer(void)
{
	static const char want[] = "Status: 200 OK\r\nSeance-Order:  1-2/3 \r\n\r\nbody";
	uint8_t data[256], *last;
	size_t n = sample(data, 0);
	int good = 1;

	for (size_t piece = 1; piece <= n; piece++) {
		struct fcgi_answer a;

		fcgi_answer_init(&a, 1000);
		good = good && feed(&a, data, n, piece, &last) == FCGI_DONE && a.len == sizeof want - 1 &&
		       memcmp(a.data, want, a.len) == 0 && a.protocol_status == 0 && a.errors_len == 4 &&
		       memcmp(a.errors, "oops", 4) == 0;
		if (piece == n)
			ok(a.memory == NULL, "an answer in one piece needs no memory");
		free(last);
		fcgi_answer_release(&a);
	}
	ok(good, "an answer is read in pieces of any size");
}

static enum fcgi_progress
answer_of(const uint8_t *data, size_t len, size_t limit)
{
	struct fcgi_answer a;
	uint8_t *last;
	enum fcgi_progress progress;

	fcgi_answer_init(&a, limit);
	progress = feed(&a, data, len, 5, &last);
	free(last);
	fcgi_answer_release(&a);
	return progress;
}

static void
test_bad_answers(void)
{
	uint8_t data[256], *last;
	size_t n = sample(data, FCGI_OVERLOADED);
	struct fcgi_answer a;

	fcgi_answer_init(&a, 1000);
	ok(feed(&a, data, n, n, &last) == FCGI_DONE && a.protocol_status == FCGI_OVERLOADED, "overloaded");
	free(last);
	fcgi_answer_release(&a);
	ok(answer_of(data, n - 1, 1000) == FCGI_MORE, "cut off by one byte");
	ok(answer_of(data, n, 44) == FCGI_TOO_BIG && answer_of(data, n, 45) == FCGI_DONE, "its limit");
	data[n] = 1;
	fcgi_answer_init(&a, 1000);
	ok(fcgi_answer_read(&a, data, n + 1) == FCGI_BROKEN, "bytes behind the end");
	fcgi_answer_release(&a);
	sample(data, 0);
	data[0] = 2;
	ok(answer_of(data, n, 1000) == FCGI_BROKEN, "another version");
	sample(data, 0);
	data[3] = 2;
	ok(answer_of(data, n, 1000) == FCGI_BROKEN, "another request");
	sample(data, 0);
	data[1] = FCGI_STDIN;
	ok(answer_of(data, n, 1000) == FCGI_BROKEN, "a type that no program sends");
}

static void
test_cgi(void)
{
	static const uint8_t head[] = "A: 1\r\nseance-ORDER:\t x y \nB:\r\n\r\nC: 3\n\n";
	const uint8_t *value;
	size_t len, n = fcgi_cgi_head(head, sizeof head - 1);

	ok(n == 32, "a head ends at its empty line (%zu)", n);
	ok(fcgi_cgi_find(head, n, "Seance-Order", &value, &len) && len == 3 && memcmp(value, "x y", 3) == 0,
	   "a header is found in any case, without spaces around");
	ok(fcgi_cgi_find(head, n, "B", &value, &len) && len == 0, "an empty one");
	ok(!fcgi_cgi_find(head, n, "C", &value, &len) && !fcgi_cgi_find(head, n, "Seance", &value, &len),
	   "none behind the head, none by half its name");
	ok(fcgi_cgi_head((const uint8_t *)"\r\n", 2) == 2 && fcgi_cgi_head((const uint8_t *)"\nX", 2) == 1 &&
	       fcgi_cgi_head((const uint8_t *)"A: 1\r\n", 6) == 0 && fcgi_cgi_head(NULL, 0) == 0,
	   "empty heads, and none");
}

static void
test_random(void)
{
	int calm = 1;

	srand(1);
	for (int i = 0; i < 100000; i++) {
		uint8_t data[256];
		size_t n = sample(data, 0);

		for (int k = rand() % 4; k > 0; k--)
			data[(size_t)rand() % n] = (uint8_t)rand();
		calm = calm && answer_of(data, n, 60) <= FCGI_NO_MEMORY;
	}
	ok(calm, "damaged answers are read within bounds");
}

int
main(void)
{
	static const size_t sizes[] = {0,
	                               1,
	                               100,
	                               FCGI_CONTENT_MAX - 1,
	                               FCGI_CONTENT_MAX,
	                               FCGI_CONTENT_MAX + 1,
	                               3 * FCGI_CONTENT_MAX,
	                               1u << 20};

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		test_stream(sizes[i]);
	test_params();
	test_answer();
	test_bad_answers();
	test_cgi();
	test_random();
	return done();
}
