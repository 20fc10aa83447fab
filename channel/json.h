/*
 * json - JSON in and out: one parser for all input, one way to write, one notion of equality
 *
 * Values are json-c's.  The parser is our own: json-c's takes NaN, Infinity, 'a', cuts keys at U+0000
 * and turns integers that are too large into others.
 */
#ifndef SEANCE_JSON_H
#define SEANCE_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH_MAX   64 /* arrays and objects within each other, in a text */
#define JSON_DEPTH_STATE 60 /* in a state: inside a frame its patch is four levels deeper */

/* Why a text was refused. */
struct json_error {
	const char *message; /* a constant: "too deep", "number out of range", ... */
	size_t position;     /* bytes from the start */
};

/*
 * json_parse - a text as a value (RFC 8259, strict)
 *
 * Refused besides what RFC 8259 forbids: invalid UTF-8; more than JSON_DEPTH_MAX levels; integers
 * outside -2^63 .. 2^64-1 and numbers beyond a double's range; keys with U+0000; lone surrogates.
 * Of members with the same key the last one counts.  A number with fraction or exponent is a double
 * that is written again as it was read ("1.50", "1e5").
 *
 * text, len   Borrowed; need not end in NUL.
 * value       Set to the value, owned by the caller (NULL is JSON null), only on success.
 * error       Filled on failure; may be NULL.
 * Returns     true on success.
 * Cost        O(len).
 */
bool json_parse(const char *text, size_t len, json_object **value, struct json_error *error)
	__attribute__((warn_unused_result));

/* json_read - a text of our own, as stored; a new value, or NULL when it is NULL or not JSON */
json_object *json_read(const char *text);

/*
 * json_text - compact JSON, "/" not escaped
 *
 * value     Borrowed; NULL gives "null".
 * len       Set to its length in bytes unless NULL.
 * Returns   Borrowed from the value, which keeps the text's memory for as long as it lives; valid
 *           until the value is written again or released.
 */
const char *json_text(json_object *value, size_t *len);

/* json_equal - by value, numbers by amount (1 equals 1.0), members in any order; O(both) */
bool json_equal(json_object *a, json_object *b);

/* json_hash - equal values have equal hashes; differs from run to run; O(value) */
uint64_t json_hash(json_object *value);

/* json_has_proto - is there a key "__proto__" at any depth?  (Clients lose it.)  O(value) */
bool json_has_proto(json_object *value);

/* json_depth - levels of arrays and objects; 0 for a scalar; stops counting at limit + 1 */
int json_depth(json_object *value, int limit);

/*
 * json_unfit - why a value that an author made must not get into a state or a frame
 *
 * What can be built by hand but would break clients: NaN and infinities, text that is not UTF-8, a
 * key "__proto__", more than depth_max levels.
 *
 * Returns   A constant; NULL when the value is fit.
 * Cost      O(value).
 */
const char *json_unfit(json_object *value, int depth_max);

/* json_copy - a deep copy, owned by the caller; NULL for NULL; O(value) */
json_object *json_copy(json_object *value);

/* json_is_utf8 - is it valid UTF-8 (RFC 3629: no surrogates, nothing overlong)? */
bool json_is_utf8(const char *text, size_t len);

#endif
