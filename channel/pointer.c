#include "pointer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "face.h"
#include "memory.h"

/* ---- Writing ---- */

/* How a character is written within a token: itself, ~0 or ~1. */
static size_t
escape_char(char c, char *out)
{
	if (c != '~' && c != '/') {
		out[0] = c;
		return 1;
	}
	out[0] = '~';
	out[1] = c == '~' ? '0' : '1';
	return 2;
}

char *
pointer_child(const char *pointer, const char *token)
{
	size_t len = strlen(pointer);
	char *child = memory_alloc(len + 2 * strlen(token) + 2);

	memcpy(child, pointer, len);
	child[len++] = '/';
	for (; *token != '\0'; token++)
		len += escape_char(*token, child + len);
	child[len] = '\0';
	return child;
}

struct text {
	char bytes[POINTER_MAX + 2]; /* one character may be two bytes */
	size_t len;
};

static bool
append_escaped(struct text *text, char c)
{
	if (text->len >= POINTER_MAX)
		return false;
	text->len += escape_char(c, text->bytes + text->len);
	return true;
}

static bool
append_string(struct text *text, const char *string)
{
	if (string == NULL)
		return false;
	for (; *string != '\0'; string++)
		if (!append_escaped(text, *string))
			return false;
	return true;
}

static bool
append_signed(struct text *text, long long number)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%lld", number);
	return append_string(text, digits);
}

static bool
append_unsigned(struct text *text, unsigned long long number)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%llu", number);
	return append_string(text, digits);
}

enum length { LENGTH_INT, LENGTH_LONG, LENGTH_LONG_LONG, LENGTH_SIZE };

static enum length
read_length(const char **format)
{
	if (**format == 'z') {
		++*format;
		return LENGTH_SIZE;
	}
	if (**format != 'l')
		return LENGTH_INT;
	if (*++*format != 'l')
		return LENGTH_LONG;
	++*format;
	return LENGTH_LONG_LONG;
}

/* A va_list as an argument may be an array, so it travels in a struct. */
struct arguments {
	va_list list;
};

static long long
take_signed(enum length length, struct arguments *args)
{
	if (length == LENGTH_INT)
		return va_arg(args->list, int);
	if (length == LENGTH_LONG)
		return va_arg(args->list, long);
	if (length == LENGTH_SIZE)
		return va_arg(args->list, ssize_t);
	return va_arg(args->list, long long);
}

static unsigned long long
take_unsigned(enum length length, struct arguments *args)
{
	if (length == LENGTH_INT)
		return va_arg(args->list, unsigned);
	if (length == LENGTH_LONG)
		return va_arg(args->list, unsigned long);
	if (length == LENGTH_SIZE)
		return va_arg(args->list, size_t);
	return va_arg(args->list, unsigned long long);
}

/* What follows a '%'. */
static bool
append_conversion(struct text *text, const char **format, struct arguments *args)
{
	enum length length = read_length(format);
	char conversion = **format;

	if (conversion == '\0')
		return false;
	++*format;
	if (conversion == 'd' || conversion == 'i')
		return append_signed(text, take_signed(length, args));
	if (conversion == 'u')
		return append_unsigned(text, take_unsigned(length, args));
	if (length != LENGTH_INT)
		return false;
	if (conversion == 's')
		return append_string(text, va_arg(args->list, const char *));
	if (conversion == 'c') {
		char c = (char)va_arg(args->list, int);
		return c != '\0' && append_escaped(text, c);
	}
	return conversion == '%' && append_escaped(text, '%');
}

static bool
append_format(struct text *text, const char *format, struct arguments *args)
{
	while (*format != '\0') {
		char c = *format++;

		if (c == '%') {
			if (!append_conversion(text, &format, args))
				return false;
		} else {
			if (text->len >= POINTER_MAX)
				return false;
			text->bytes[text->len++] = c; /* the format's own '/' and '~' */
		}
	}
	return text->len <= POINTER_MAX;
}

char *
pointer_format(const char *format, va_list args)
{
	struct arguments arguments;
	struct text text;
	bool done;

	text.len = 0;
	va_copy(arguments.list, args);
	done = append_format(&text, format, &arguments);
	va_end(arguments.list);
	text.bytes[text.len] = '\0';
	if (!done || (text.len > 0 && text.bytes[0] != '/'))
		return NULL;
	return memory_strdup(text.bytes);
}

/* ---- Reading ---- */

/* Decodes the token behind the '/' at `at`; returns where it ends, NULL at a wrong '~'. */
static const char *
read_token(const char *at, char *token)
{
	for (at++; *at != '/' && *at != '\0'; at++) {
		char c = *at;

		if (c == '~') {
			at++;
			if (*at != '0' && *at != '1')
				return NULL;
			c = *at == '0' ? '~' : '/';
		}
		*token++ = c;
	}
	*token = '\0';
	return at;
}

static bool
read_index(const char *token, size_t *index)
{
	size_t number = 0;

	if (token[0] == '\0' || (token[0] == '0' && token[1] != '\0'))
		return false;
	for (; *token != '\0'; token++) {
		if (*token < '0' || *token > '9' || number > (SIZE_MAX - 9) / 10)
			return false;
		number = number * 10 + (size_t)(*token - '0');
	}
	*index = number;
	return true;
}

static bool
find_in_array(const char *token, struct pointer_place *place, json_object **child)
{
	size_t len = json_object_array_length(place->parent);

	if (strcmp(token, "-") == 0)
		place->index = len;
	else if (!read_index(token, &place->index))
		return false;
	place->exists = place->index < len;
	*child = place->exists ? json_object_array_get_idx(place->parent, place->index) : NULL;
	return place->index <= len;
}

static bool
find_in(json_object *container, const char *token, struct pointer_place *place, json_object **child)
{
	place->parent = container;
	if (json_object_is_type(container, json_type_array))
		return find_in_array(token, place, child);
	if (!json_object_is_type(container, json_type_object))
		return false;
	place->exists = json_object_object_get_ex(container, token, child);
	return true;
}

/* As pointer_find, for a pointer that is not ""; token has room for any of its tokens. */
static bool
follow(json_object *document, const char *pointer, char *token, struct pointer_place *place,
       json_object **value)
{
	*value = document;
	place->exists = true;
	while (*pointer == '/' && place->exists) {
		pointer = read_token(pointer, token);
		if (pointer == NULL || !find_in(*value, token, place, value))
			return false;
	}
	return *pointer == '\0';
}

bool
pointer_find(json_object *document, const char *pointer, struct pointer_place *place)
{
	json_object *value;

	*place = (struct pointer_place){.exists = true};
	if (*pointer == '\0')
		return true;
	place->token = memory_alloc(strlen(pointer) + 1);
	if (follow(document, pointer, place->token, place, &value))
		return true;
	pointer_release(place);
	return false;
}

bool
pointer_passes(json_object *document, const char *pointer, const char *const *names)
{
	struct pointer_place place = {.exists = true};
	json_object *value = document;
	bool passes = false;
	char *token;

	if (*names == NULL || *pointer == '\0')
		return false;
	token = memory_alloc(strlen(pointer) + 1);
	while (*pointer == '/' && place.exists && !passes) {
		pointer = read_token(pointer, token);
		if (pointer == NULL || !find_in(value, token, &place, &value))
			break;
		passes = !json_object_is_type(place.parent, json_type_array) && face_hides_name(token, names);
	}
	free(token);
	return passes;
}

void
pointer_release(struct pointer_place *place)
{
	free(place->token);
	*place = (struct pointer_place){0};
}

bool
pointer_get(json_object *document, const char *pointer, json_object **value)
{
	struct pointer_place place;
	bool exists;

	if (!pointer_find(document, pointer, &place))
		return false;
	exists = place.exists;
	if (place.parent == NULL)
		*value = document;
	else if (exists && json_object_is_type(place.parent, json_type_array))
		*value = json_object_array_get_idx(place.parent, place.index);
	else if (exists)
		json_object_object_get_ex(place.parent, place.token, value);
	pointer_release(&place);
	return exists;
}
