/*
 * buffer - bytes that grow
 */
#ifndef SEANCE_BUFFER_H
#define SEANCE_BUFFER_H

#include <stddef.h>
#include <stdint.h>

/* An empty buffer is all zero.  at is not NUL-terminated unless buffer_text says so. */
struct buffer {
	char *at; /* owned */
	size_t len;
	size_t room;
};

/* buffer_reserve - room for more bytes behind at + len; dies loudly without memory */
void buffer_reserve(struct buffer *buffer, size_t more);

void buffer_add(struct buffer *buffer, const void *bytes, size_t len);
void buffer_add_text(struct buffer *buffer, const char *text);
void buffer_add_char(struct buffer *buffer, char byte);
void buffer_add_number(struct buffer *buffer, int64_t number);

/* buffer_add_json_string - text in quotes, escaped as RFC 8259, section 7 asks; len bytes of UTF-8 */
void buffer_add_json_string(struct buffer *buffer, const char *text, size_t len);

/* buffer_text - the content as a string, borrowed until the buffer changes */
char *buffer_text(struct buffer *buffer);

/* buffer_clear - empty again, memory kept;  buffer_release - memory freed, empty */
void buffer_clear(struct buffer *buffer);
void buffer_release(struct buffer *buffer);

#endif
