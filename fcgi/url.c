#include "url.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
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

/* --- queries --- */

static void
add_param(json_object *params, const char *pair, size_t len)
{
	const char *equals = memchr(pair, '=', len);
	size_t name_len = equals ? (size_t)(equals - pair) : len;
	if (len == 0)
		return;
	char *name = url_decode_form(pair, name_len);
	char *value = equals ? url_decode_form(equals + 1, len - name_len - 1) : memory_strdup("");
	struct buffer text = {0};
	json_object *string = NULL;
	buffer_add_json_string(&text, value, strlen(value));
	if (json_parse(text.at, text.len, &string, NULL)) /* refuses what is not UTF-8 */
		json_object_object_add(params, name, string);
	buffer_release(&text);
	free(name);
	free(value);
}

/* The last of a name wins, as in the reference. */
json_object *
url_params(const char *query)
{
	json_object *params = json_object_new_object();
	while (*query) {
		size_t len = strcspn(query, "&");
		add_param(params, query, len);
		query += len;
		query += *query == '&';
	}
	return params;
}
