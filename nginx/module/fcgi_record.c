#include "fcgi_record.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define VERSION   1u
#define REQUEST   1u
#define RESPONDER 1u
#define KEEP_CONN 1u

/* Writing a request */

uint8_t *
fcgi_head(uint8_t *out, enum fcgi_type type, size_t content, size_t padding)
{
	*out++ = VERSION;
	*out++ = (uint8_t)type;
	*out++ = 0;
	*out++ = REQUEST;
	*out++ = (uint8_t)(content >> 8);
	*out++ = (uint8_t)content;
	*out++ = (uint8_t)padding;
	*out++ = 0;
	return out;
}

uint8_t *
fcgi_begin(uint8_t *out, bool keep)
{
	const uint8_t body[8] = {0, RESPONDER, keep ? KEEP_CONN : 0, 0, 0, 0, 0, 0};

	out = fcgi_head(out, FCGI_BEGIN_REQUEST, sizeof body, 0);
	memcpy(out, body, sizeof body);
	return out + sizeof body;
}

static size_t
length_size(size_t len)
{
	return len < 128 ? 1 : 4;
}

size_t
fcgi_pair_size(size_t name_len, size_t value_len)
{
	return length_size(name_len) + length_size(value_len) + name_len + value_len;
}

size_t
fcgi_stream_size(size_t content)
{
	size_t records = (content + FCGI_CONTENT_MAX - 1) / FCGI_CONTENT_MAX;

	return content + (records + 1) * FCGI_HEAD_SIZE;
}

void
fcgi_stream_begin(struct fcgi_stream *stream, enum fcgi_type type, uint8_t *out)
{
	stream->out = out;
	stream->head = NULL;
	stream->type = type;
}

uint8_t *
fcgi_stream_break(struct fcgi_stream *stream)
{
	if (stream->head != NULL)
		fcgi_head(stream->head, stream->type, (size_t)(stream->out - stream->head) - FCGI_HEAD_SIZE, 0);
	stream->head = NULL;
	return stream->out;
}

void
fcgi_stream_put(struct fcgi_stream *stream, const void *bytes, size_t len)
{
	const uint8_t *from = bytes;

	while (len > 0) {
		size_t room, n;

		if (stream->head == NULL) {
			stream->head = stream->out;
			stream->out += FCGI_HEAD_SIZE;
		}
		room = FCGI_CONTENT_MAX + FCGI_HEAD_SIZE - (size_t)(stream->out - stream->head);
		n = len < room ? len : room;
		memcpy(stream->out, from, n);
		stream->out += n;
		from += n;
		len -= n;
		if (n == room)
			fcgi_stream_break(stream);
	}
}

static size_t
write_length(uint8_t *out, size_t len)
{
	if (len < 128) {
		out[0] = (uint8_t)len;
		return 1;
	}
	out[0] = (uint8_t)(len >> 24 | 0x80);
	out[1] = (uint8_t)(len >> 16);
	out[2] = (uint8_t)(len >> 8);
	out[3] = (uint8_t)len;
	return 4;
}

uint8_t *
fcgi_pair(uint8_t *out, const char *name, size_t name_len, const void *value, size_t value_len)
{
	out += write_length(out, name_len);
	out += write_length(out, value_len);
	memcpy(out, name, name_len);
	if (value_len > 0)
		memcpy(out + name_len, value, value_len);
	return out + name_len + value_len;
}

void
fcgi_stream_pair(struct fcgi_stream *stream, const char *name, size_t name_len, const void *value,
                 size_t value_len)
{
	uint8_t lengths[8];
	size_t n = write_length(lengths, name_len);

	n += write_length(lengths + n, value_len);
	fcgi_stream_put(stream, lengths, n);
	fcgi_stream_put(stream, name, name_len);
	fcgi_stream_put(stream, value, value_len);
}

uint8_t *
fcgi_stream_end(struct fcgi_stream *stream)
{
	fcgi_stream_break(stream);
	return fcgi_head(stream->out, stream->type, 0, 0);
}

uint8_t *
fcgi_number(uint8_t *out, const char *name, size_t name_len, uint64_t value)
{
	uint8_t digits[20];
	size_t n = 0;

	do {
		digits[20 - ++n] = (uint8_t)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	out = fcgi_head(out, FCGI_PARAMS, 2 + name_len + n, 20 - n);
	*out++ = (uint8_t)name_len;
	*out++ = (uint8_t)n;
	memcpy(out, name, name_len);
	out += name_len;
	memcpy(out, digits + 20 - n, n);
	memset(out + n, 0, 20 - n);
	return out + 20;
}

/* Reading an answer */

void
fcgi_answer_init(struct fcgi_answer *answer, size_t limit)
{
	memset(answer, 0, sizeof *answer);
	answer->limit = limit;
}

void
fcgi_answer_release(struct fcgi_answer *answer)
{
	free(answer->memory);
	answer->memory = NULL;
	answer->memory_size = 0;
}

static bool
reserve(struct fcgi_answer *a, size_t need)
{
	size_t size = a->memory_size * 2 > need ? a->memory_size * 2 : need;
	uint8_t *grown;

	if (need <= a->memory_size)
		return true;
	grown = realloc(a->memory, size);
	if (grown == NULL)
		return false;
	a->memory = grown;
	a->memory_size = size;
	return true;
}

/* Takes what lies in the caller's buffer into memory of our own. */
static bool
move_to_memory(struct fcgi_answer *a)
{
	if (!reserve(a, a->len))
		return false;
	memcpy(a->memory, a->place, a->len);
	a->place = NULL;
	a->data = a->memory;
	return true;
}

static enum fcgi_progress
add_output(struct fcgi_answer *a, uint8_t *buf, size_t len)
{
	if (len > a->limit - a->len)
		return FCGI_TOO_BIG;
	if (a->len == 0) {
		a->place = buf;
		a->data = buf;
	} else if (a->place != NULL) {
		memmove(a->place + a->len, buf, len); /* over the head in between */
	} else {
		if (!reserve(a, a->len + len))
			return FCGI_NO_MEMORY;
		a->data = a->memory;
		memcpy(a->memory + a->len, buf, len);
	}
	a->len += len;
	return FCGI_MORE;
}

static enum fcgi_progress
add_content(struct fcgi_answer *a, uint8_t *buf, size_t len)
{
	size_t n;

	switch (a->head[1]) {
	case FCGI_STDOUT:
		return add_output(a, buf, len);
	case FCGI_STDERR:
		n = FCGI_ERRORS_MAX - a->errors_len;
		n = len < n ? len : n;
		memcpy(a->errors + a->errors_len, buf, n);
		a->errors_len += n;
		return FCGI_MORE;
	default:
		for (size_t i = 0; i < len && a->end_len < sizeof a->end; i++)
			a->end[a->end_len++] = buf[i];
		return FCGI_MORE;
	}
}

static bool
begin_record(struct fcgi_answer *a)
{
	const uint8_t *head = a->head;

	if (head[0] != VERSION || head[2] != 0 || head[3] != REQUEST)
		return false;
	if (head[1] != FCGI_STDOUT && head[1] != FCGI_STDERR && head[1] != FCGI_END_REQUEST)
		return false;
	a->content_left = (uint16_t)(head[4] << 8 | head[5]);
	a->padding_left = head[6];
	return head[1] != FCGI_END_REQUEST || a->content_left == sizeof a->end;
}

/* A record is over; the answer, too, if it was END_REQUEST. */
static void
end_record(struct fcgi_answer *a)
{
	a->head_len = 0;
	if (a->head[1] != FCGI_END_REQUEST)
		return;
	a->ended = true;
	a->protocol_status = a->end[4];
}

static enum fcgi_progress
read_some(struct fcgi_answer *a, uint8_t *buf, size_t len, size_t *used)
{
	size_t n;

	if (a->head_len < FCGI_HEAD_SIZE) {
		a->head[a->head_len++] = buf[0];
		*used = 1;
		if (a->head_len == FCGI_HEAD_SIZE) {
			if (!begin_record(a))
				return FCGI_BROKEN;
			if (a->content_left == 0 && a->padding_left == 0)
				end_record(a);
		}
		return FCGI_MORE;
	}
	if (a->content_left > 0) {
		enum fcgi_progress progress;

		n = len < a->content_left ? len : a->content_left;
		progress = add_content(a, buf, n);
		if (progress != FCGI_MORE)
			return progress;
		a->content_left = (uint16_t)(a->content_left - n);
	} else {
		n = len < a->padding_left ? len : a->padding_left;
		a->padding_left = (uint8_t)(a->padding_left - n);
	}
	*used = n;
	if (a->content_left == 0 && a->padding_left == 0)
		end_record(a);
	return FCGI_MORE;
}

enum fcgi_progress
fcgi_answer_read(struct fcgi_answer *answer, uint8_t *buf, size_t len)
{
	enum fcgi_progress progress = FCGI_MORE;
	size_t at = 0, used = 0;

	while (at < len && progress == FCGI_MORE && !answer->ended) {
		progress = read_some(answer, buf + at, len - at, &used);
		at += used;
	}
	if (progress != FCGI_MORE)
		return progress;
	if (answer->ended)
		return at == len ? FCGI_DONE : FCGI_BROKEN;
	if (answer->place != NULL && !move_to_memory(answer))
		return FCGI_NO_MEMORY;
	return FCGI_MORE;
}

/* The CGI head */

size_t
fcgi_cgi_head(const uint8_t *data, size_t len)
{
	size_t start = 0; /* of the present line */

	while (start < len) {
		const uint8_t *lf = memchr(data + start, '\n', len - start);
		size_t line;

		if (lf == NULL)
			return 0;
		line = (size_t)(lf - data) - start;
		if (line == 0 || (line == 1 && data[start] == '\r'))
			return start + line + 1;
		start += line + 1;
	}
	return 0;
}

static bool
is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

bool
fcgi_cgi_find(const uint8_t *head, size_t len, const char *name, const uint8_t **value,
              size_t *value_len)
{
	size_t name_len = strlen(name), start = 0;

	while (start < len) {
		const uint8_t *lf = memchr(head + start, '\n', len - start);
		size_t end = lf != NULL ? (size_t)(lf - head) : len, next = end + 1;

		if (end - start > name_len && head[start + name_len] == ':' &&
		    strncasecmp((const char *)head + start, name, name_len) == 0) {
			start += name_len + 1;
			while (start < end && is_space(head[start]))
				start++;
			while (end > start && is_space(head[end - 1]))
				end--;
			*value = head + start;
			*value_len = end - start;
			return true;
		}
		start = next;
	}
	return false;
}
