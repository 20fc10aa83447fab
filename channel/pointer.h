/*
 * pointer - JSON Pointer (RFC 6901): reading, escaping, formatting
 */
#ifndef SEANCE_POINTER_H
#define SEANCE_POINTER_H

#include <json-c/json.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#define POINTER_MAX 4096 /* bytes of a pointer that is made from a format */

/*
 * pointer_format - a pointer from a printf format whose inserted text is escaped (~0, ~1)
 *
 * Knows %s %c, %d %i %u with l, ll and z, and %%; no flags, widths or precisions.
 *
 * Returns   A new string, owned by the caller (free); NULL when the format has another conversion,
 *           a string is NULL, or the result exceeds POINTER_MAX or does not begin with '/' (unless
 *           it is empty).
 */
char *pointer_format(const char *format, va_list args) __attribute__((format(printf, 1, 0)));

/* pointer_child - the pointer of a member of what pointer leads to; owned by the caller (free) */
char *pointer_child(const char *pointer, const char *token);

/* What a pointer leads to: the container and the last token in it. */
struct pointer_place {
	json_object *parent; /* borrowed; NULL when the pointer is "" (the whole document) */
	char *token;         /* owned: unescaped; NULL when the pointer is "" */
	size_t index;        /* in an array; its length for "-" */
	bool exists;         /* is there something already? */
};

/*
 * pointer_find - follows a pointer
 *
 * Array indexes: digits without leading zeros, or "-" for the place behind the end.
 *
 * Returns   true and fills place when the container exists and the token fits it (an array's index
 *           at most its length); false otherwise.  Release with pointer_release (in any case).
 * Cost      O(pointer's bytes).
 */
bool pointer_find(json_object *document, const char *pointer, struct pointer_place *place);
void pointer_release(struct pointer_place *place);

/* pointer_get - the value at a pointer, borrowed; false when there is none (a null is there: true) */
bool pointer_get(json_object *document, const char *pointer, json_object **value);

/*
 * pointer_passes - does a pointer lead to, or through, a member of an object that has one of these names?
 *
 * names     Ends with NULL.  Tokens in arrays have no names.
 * Cost      O(pointer's bytes + names times tokens).
 */
bool pointer_passes(json_object *document, const char *pointer, const char *const *names);

#endif
