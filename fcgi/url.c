#include "url.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "memory.h"

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that text begins with as "%xx"; -1: it does not. */
static int
escape_at(const char *text, size_t len)
{
	if (len < 3 || text[0] != '%' || hex_digit(text[1]) < 0 || hex_digit(text[2]) < 0)
		return -1;
	return hex_digit(text[1]) * 16 + hex_digit(text[2]);
}

char *
url_decode_form(const char *text, size_t len)
{
	char *out = memory_alloc(len + 1);
	size_t n = 0;
	for (size_t i = 0; i < len; i++) {
		int byte = escape_at(text + i, len - i);
		out[n++] = byte >= 0 ? (char)byte : text[i] == '+' ? ' ' : text[i];
		i += byte >= 0 ? 2 : 0;
	}
	out[n] = '\0';
	return out;
}

char *
url_decode_segment(const char *text, size_t len)
{
	char *out = memory_alloc(len + 1);
	size_t n = 0;
	bool good = true;
	for (size_t i = 0; i < len && good; i++) {
		int byte = escape_at(text + i, len - i);
		good = text[i] != '%' || byte > 0;
		out[n++] = byte >= 0 ? (char)byte : text[i];
		i += byte >= 0 ? 2 : 0;
	}
	out[n] = '\0';
	if (good && json_is_utf8(out, n))
		return out;
	free(out);
	return NULL;
}
