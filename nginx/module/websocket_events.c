#include "websocket_events.h"

#include <string.h>

static const struct {
	const char *name;
	size_t len;
	int bare; /* may stand without a length */
} names[] = {
	[EVENTS_OPEN] = {"OPEN", 4, 1},
	[EVENTS_TEXT] = {"TEXT", 4, 0},
	[EVENTS_BINARY] = {"BINARY", 6, 0},
	[EVENTS_PING] = {"PING", 4, 1},
	[EVENTS_PONG] = {"PONG", 4, 1},
	[EVENTS_CLOSE] = {"CLOSE", 5, 1},
	[EVENTS_DISCONNECT] = {"DISCONNECT", 10, 1},
};

static int
hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static int
find_name(const uint8_t *buf, size_t len)
{
	for (int i = EVENTS_OPEN; i <= EVENTS_DISCONNECT; i++)
		if (names[i].len == len && memcmp(names[i].name, buf, len) == 0)
			return i;
	return -1;
}

static int
parse_hex(const uint8_t *buf, size_t len, size_t *value)
{
	*value = 0;
	if (len == 0 || len > 8)
		return -1;
	for (size_t i = 0; i < len; i++) {
		int digit = hex_digit(buf[i]);

		if (digit < 0)
			return -1;
		*value = *value << 4 | (size_t)digit;
	}
	return 0;
}

/* The line NAME [SP length]; *bare when there is no length. */
static int
parse_line(const uint8_t *buf, size_t len, struct events_event *event, int *bare)
{
	const uint8_t *space = memchr(buf, ' ', len);
	size_t name_len = space != NULL ? (size_t)(space - buf) : len;
	int type = find_name(buf, name_len);

	if (type < 0)
		return -1;
	event->type = (enum events_type)type;
	event->data = NULL;
	event->len = 0;
	*bare = space == NULL;
	if (space == NULL)
		return names[type].bare ? 0 : -1;
	return parse_hex(space + 1, len - name_len - 1, &event->len);
}

long
events_decode(const uint8_t *buf, size_t len, struct events_event *event)
{
	size_t look = len < EVENTS_HEAD_MAX ? len : EVENTS_HEAD_MAX, head;
	const uint8_t *cr = look > 0 ? memchr(buf, '\r', look) : NULL;
	int bare;

	if (cr == NULL)
		return len < EVENTS_HEAD_MAX ? 0 : -1;
	head = (size_t)(cr - buf) + 2;
	if (parse_line(buf, head - 2, event, &bare) != 0)
		return -1;
	if (len < head)
		return 0;
	if (buf[head - 1] != '\n')
		return -1;
	if (bare)
		return (long)head;
	if (len - head < event->len + 2)
		return 0;
	event->data = buf + head;
	if (memcmp(event->data + event->len, "\r\n", 2) != 0)
		return -1;
	return (long)(head + event->len + 2);
}

static size_t
write_name(uint8_t *out, enum events_type type)
{
	memcpy(out, names[type].name, names[type].len);
	return names[type].len;
}

static size_t
write_line_end(uint8_t *out)
{
	memcpy(out, "\r\n", 2);
	return 2;
}

size_t
events_bare(uint8_t *out, enum events_type type)
{
	size_t at = write_name(out, type);

	return at + write_line_end(out + at);
}

size_t
events_head(uint8_t *out, enum events_type type, size_t len)
{
	size_t at = write_name(out, type);
	int shift = 60;

	out[at++] = ' ';
	while (shift > 0 && ((uint64_t)len >> shift & 15) == 0)
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		out[at++] = (uint8_t) "0123456789abcdef"[(uint64_t)len >> shift & 15];
	return at + write_line_end(out + at);
}

/* A decimal number up to max; moves *at behind it.  Returns -1 when there is none or it is too big. */
static int
take_decimal(const uint8_t **at, const uint8_t *end, uint64_t max, uint64_t *value)
{
	const uint8_t *p = *at;
	uint64_t n = 0;

	for (; p < end && *p >= '0' && *p <= '9'; p++) {
		unsigned digit = (unsigned)(*p - '0');

		if (n > (max - digit) / 10)
			return -1;
		n = n * 10 + digit;
	}
	if (p == *at)
		return -1;
	*at = p;
	*value = n;
	return 0;
}

static int
take_mark(const uint8_t **at, const uint8_t *end, uint8_t mark)
{
	if (*at == end || **at != mark)
		return -1;
	(*at)++;
	return 0;
}

long
events_order_decode(const uint8_t *buf, size_t len, struct events_order *order)
{
	const uint8_t *at = buf, *end = buf + len;
	uint64_t count;

	while (at < end && (*at == ' ' || *at == '\t' || *at == ','))
		at++;
	if (at == end)
		return 0;
	if (take_decimal(&at, end, UINT64_MAX, &order->after) != 0 || take_mark(&at, end, '-') != 0 ||
	    take_decimal(&at, end, UINT64_MAX, &order->cursor) != 0 || take_mark(&at, end, '/') != 0 ||
	    take_decimal(&at, end, UINT32_MAX, &count) != 0)
		return -1;
	if (order->cursor <= order->after || (at < end && *at != ',' && *at != ' '))
		return -1;
	order->count = (uint32_t)count;
	return (long)(at - buf);
}

static size_t
write_decimal(char *out, uint64_t value)
{
	char digits[20];
	size_t n = 0;

	do {
		digits[n++] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	for (size_t i = 0; i < n; i++)
		out[i] = digits[n - 1 - i];
	return n;
}

size_t
events_order_write(char *out, const struct events_order *order)
{
	size_t n = write_decimal(out, order->after);

	out[n++] = '-';
	n += write_decimal(out + n, order->cursor);
	out[n++] = '/';
	return n + write_decimal(out + n, order->count);
}
