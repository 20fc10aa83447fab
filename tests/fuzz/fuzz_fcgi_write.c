/*
 * A FastCGI request as it is written: records to a strict reader's liking, and in them what was put.
 *
 * Input: pairs (a byte of length and the name, likewise the value; a name of length 0 ends them), then a body.
 */
#include "../../channel/buffer.h"
#include "../../nginx/module/fcgi_record.h"
#include "fuzz.h"

/* Adds a record's content; returns what is behind it. */
static const uint8_t *
take_record(const uint8_t *at, enum fcgi_type type, struct buffer *content)
{
	must(at[0] == 1 && at[1] == type && at[2] == 0 && at[3] == 1 && at[7] == 0);
	buffer_add(content, at + FCGI_HEAD_SIZE, (size_t)at[4] << 8 | at[5]);
	return at + FCGI_HEAD_SIZE + ((size_t)at[4] << 8 | at[5]) + at[6];
}

/* Releases both. */
static void
must_be(struct buffer *content, struct buffer *expected)
{
	must(content->len == expected->len);
	must(content->len == 0 || memcmp(content->at, expected->at, content->len) == 0);
	buffer_release(content);
	buffer_release(expected);
}

/* All records up to the empty one; returns what is behind it. */
static const uint8_t *
check_stream(const uint8_t *at, enum fcgi_type type, struct buffer *expected)
{
	struct buffer content = {0};
	size_t before;
	do {
		before = content.len;
		at = take_record(at, type, &content);
	} while (content.len > before);
	must_be(&content, expected);
	return at;
}

/* A pair as the specification has it (3.4); lengths up to 255. */
static void
add_pair(struct buffer *out, struct fuzz_bytes name, struct fuzz_bytes value)
{
	const size_t lengths[] = {name.left, value.left};
	for (int i = 0; i < 2; i++) {
		if (lengths[i] > 127)
			buffer_add(out, "\x80\0\0", 3);
		buffer_add_char(out, (char)lengths[i]);
	}
	buffer_add(out, name.at, name.left);
	buffer_add(out, value.at, value.left);
}

static void
check_number(struct fuzz_bytes name, uint64_t number)
{
	struct buffer content = {0}, expected = {0};
	uint8_t *out = malloc(FCGI_NUMBER_SIZE(name.left)), *end = out + FCGI_NUMBER_SIZE(name.left);
	char digits[24];
	snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number);
	add_pair(&expected, name, (struct fuzz_bytes){(uint8_t *)digits, strlen(digits)});
	must(fcgi_number(out, (const char *)name.at, name.left, number) == end &&
	     take_record(out, FCGI_PARAMS, &content) == end);
	must_be(&content, &expected);
	free(out);
}

FUZZ_TARGET(fcgi_write)
{
	struct fuzz_bytes in = {data, size}, name;
	struct buffer params = {0}, body = {0};
	uint8_t *request = malloc(FCGI_BEGIN_SIZE + 2 * fcgi_stream_size(64 * size)),
			*at = fcgi_begin(request, size % 2 == 0);
	struct fcgi_stream stream;
	fcgi_stream_begin(&stream, FCGI_PARAMS, at);
	while ((name = fuzz_text(&in)).left > 0) {
		struct fuzz_bytes value = fuzz_text(&in);
		uint8_t pair[2 * 255 + 8], *stop;
		stop = fcgi_pair(pair, (const char *)name.at, name.left, value.at, value.left);
		must(stop == pair + fcgi_pair_size(name.left, value.left));
		add_pair(&params, name, value);
		if (name.left % 2 == 0)
			fcgi_stream_put(&stream, pair, (size_t)(stop - pair));
		else
			fcgi_stream_pair(&stream, (const char *)name.at, name.left, value.at, value.left);
		if (name.left < 128)
			check_number(name, fuzz_number(&value, 8));
	}
	at = fcgi_stream_end(&stream);
	must(at == request + FCGI_BEGIN_SIZE + fcgi_stream_size(params.len));
	fcgi_stream_begin(&stream, FCGI_STDIN, at);
	for (size_t times = size % 8 == 0 ? 64 : 1; times > 0; times--) {
		fcgi_stream_put(&stream, in.at, in.left);
		buffer_add(&body, in.at, in.left);
	}
	const uint8_t *end = fcgi_stream_end(&stream);
	must(check_stream(request + FCGI_BEGIN_SIZE, FCGI_PARAMS, &params) == at);
	must(check_stream(at, FCGI_STDIN, &body) == end);
	free(request);
}
