#include "buffer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

void
buffer_reserve(struct buffer *buffer, size_t more)
{
	if (buffer->room - buffer->len >= more)
		return;
	size_t room = buffer->room ? buffer->room : 128;
	while (room - buffer->len < more)
		room *= 2;
	buffer->at = memory_realloc(buffer->at, room);
	buffer->room = room;
}

void
buffer_add(struct buffer *buffer, const void *bytes, size_t len)
{
	if (len == 0)
		return;
	buffer_reserve(buffer, len);
	memcpy(buffer->at + buffer->len, bytes, len);
	buffer->len += len;
}

void
buffer_add_text(struct buffer *buffer, const char *text)
{
	buffer_add(buffer, text, strlen(text));
}

void
buffer_add_char(struct buffer *buffer, char byte)
{
	buffer_add(buffer, &byte, 1);
}

void
buffer_add_number(struct buffer *buffer, int64_t number)
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%" PRId64, number);
	buffer_add(buffer, digits, (size_t)len);
}

static void
add_escaped(struct buffer *buffer, unsigned char byte)
{
	static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	for (const char *s = shorts; *s; s += 2) {
		if ((unsigned char)*s == byte) {
			buffer_add_char(buffer, '\\');
			buffer_add_char(buffer, s[1]);
			return;
		}
	}
	char code[8];
	int len = snprintf(code, sizeof(code), "\\u%04x", byte);
	buffer_add(buffer, code, (size_t)len);
}

void
buffer_add_json_string(struct buffer *buffer, const char *text, size_t len)
{
	buffer_add_char(buffer, '"');
	size_t plain = 0; /* start of what needs no escape */
	for (size_t i = 0; i < len; i++) {
		unsigned char byte = (unsigned char)text[i];
		if (byte >= 0x20 && byte != '"' && byte != '\\')
			continue;
		buffer_add(buffer, text + plain, i - plain);
		add_escaped(buffer, byte);
		plain = i + 1;
	}
	buffer_add(buffer, text + plain, len - plain);
	buffer_add_char(buffer, '"');
}

char *
buffer_text(struct buffer *buffer)
{
	buffer_reserve(buffer, 1);
	buffer->at[buffer->len] = '\0';
	return buffer->at;
}

void
buffer_clear(struct buffer *buffer)
{
	buffer->len = 0;
}

void
buffer_release(struct buffer *buffer)
{
	free(buffer->at);
	*buffer = (struct buffer){0};
}
