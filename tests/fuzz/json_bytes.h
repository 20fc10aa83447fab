/*
 * json_bytes - values, pointers and edits that bytes decide
 */
#ifndef SEANCE_JSON_BYTES_H
#define SEANCE_JSON_BYTES_H

#include <math.h>

#include "../../channel/json.h"
#include "../../channel/patch.h"
#include "../../channel/pointer.h"
#include "fuzz.h"

/* Names and strings; the last are unfit. */
static inline const char *
fuzz_name(uint8_t which)
{
	static const char *const names[] = {
		"a",        "b", "c",  "id", "",   "0", "1",  "-",   "/",      "~",         "~1",
		"\xC3\xA9", "d", "\"", "e",  "\\", "f", "\n", "a/b", "m~n",    "g",         "h",
		"i",        "j", "k",  "l",  "m",  "n", "o",  "01",  "__prot", "__proto__", "\xFF",
	};

	return names[which % (sizeof(names) / sizeof(names[0]))];
}

static inline json_object *
fuzz_number_value(uint8_t which)
{
	if (which == 255)
		return json_object_new_double(NAN);
	if (which >= 240)
		return json_object_new_uint64(UINT64_MAX - (255u - which));
	return which % 2 == 0 ? json_object_new_int(which / 2) : json_object_new_double(which / 4.0);
}

/* A new value (NULL is null). */
static inline json_object *
fuzz_value(struct fuzz_bytes *in, int depth)
{
	uint8_t first = fuzz_byte(in);
	size_t count = first / 8;
	json_object *value;

	if (first % 8 <= 2)
		return fuzz_number_value(fuzz_byte(in));
	if (first % 8 == 3)
		return first < 64 ? NULL : json_object_new_boolean(first & 64);
	if (first % 8 == 4 || depth == 0)
		return json_object_new_string(fuzz_name(fuzz_byte(in)));
	if (count == 31)
		count = fuzz_byte(in) * (size_t)16;
	value = first % 8 == 5 ? json_object_new_array() : json_object_new_object();
	for (size_t i = 0; i < count && in->left > 0; i++) {
		if (first % 8 == 5) {
			json_object_array_add(value, fuzz_value(in, depth - 1));
		} else {
			const char *name = fuzz_name(fuzz_byte(in));
			json_object_object_add(value, name, fuzz_value(in, depth - 1));
		}
	}
	return value;
}

/* A pointer into a document, or just past what is there; owned by the caller (free). */
static inline char *
fuzz_pointer(struct fuzz_bytes *in, json_object *document)
{
	char *pointer = strdup(""), *next;
	char token[16];

	for (int tokens = fuzz_byte(in) % 5; tokens > 0; tokens--) {
		uint8_t which = fuzz_byte(in);
		json_object *found = NULL;

		if (pointer_get(document, pointer, &found) && json_object_is_type(found, json_type_array))
			snprintf(token, sizeof(token), "%zu", which % (json_object_array_length(found) + 2));
		else
			snprintf(token, sizeof(token), "%s", fuzz_name(which));
		next = which == 255 ? strdup("/~2") : pointer_child(pointer, which == 254 ? "-" : token);
		free(pointer);
		pointer = next;
	}
	return pointer;
}

/* One verb; whether it was taken. */
static inline bool
fuzz_verb(struct fuzz_bytes *in, struct patch_edit *edit)
{
	uint8_t verb = fuzz_byte(in) % 5;
	char *pointer = fuzz_pointer(in, edit->document), *to = NULL;
	bool done;

	if (verb >= 3)
		to = fuzz_pointer(in, edit->document);
	switch (verb) {
	case 0:
		done = patch_add(edit, pointer, fuzz_value(in, 4));
		break;
	case 1:
		done = patch_replace(edit, pointer, fuzz_value(in, 4));
		break;
	case 2:
		done = patch_remove(edit, pointer);
		break;
	case 3:
		done = patch_move(edit, pointer, to);
		break;
	default:
		done = patch_copy(edit, pointer, to);
	}
	free(pointer);
	free(to);
	return done;
}

/* Too large to go on with? (Copies into copies double.) */
static inline bool
fuzz_is_large(json_object *value)
{
	size_t len;

	json_text(value, &len);
	return len > 20000;
}

#endif
