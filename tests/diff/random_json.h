/*
 * random_json - JSON values at random, and values that are like another, for property tests
 *
 * The same seed gives the same values everywhere.
 */
#ifndef SEANCE_RANDOM_JSON_H
#define SEANCE_RANDOM_JSON_H

#include <json-c/json.h>
#include <stdint.h>
#include <stdio.h>

#define UNUSED __attribute__((unused))

static uint64_t random_state;

/* splitmix64 (Vigna) */
UNUSED static uint64_t
random_next(void)
{
	uint64_t z = (random_state += 0x9E3779B97F4A7C15u);

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

UNUSED static unsigned
random_below(unsigned limit)
{
	return (unsigned)(random_next() % limit);
}

static json_object *random_value(int depth);

UNUSED static const char *
random_key(void)
{
	static const char *keys[] = {"a", "b",   "id",  "name",     "",   "a/b", "m~n", "~1", "0",
	                             "-", "x y", "\"q", "\xC3\xA9", "\\", "/",   "~",   "\t", "list"};

	return keys[random_below(sizeof(keys) / sizeof(keys[0]))];
}

UNUSED static json_object *
random_string(void)
{
	static const char *words[] = {"",
	                              "x",
	                              "todo",
	                              "\"",
	                              "\\",
	                              "a\nb",
	                              "\xF0\x9F\x98\x80",
	                              "null",
	                              "a somewhat longer text, so that size matters"};

	return json_object_new_string(words[random_below(sizeof(words) / sizeof(words[0]))]);
}

UNUSED static json_object *
random_scalar(void)
{
	static const double doubles[] = {0.5, 1.0, -2.0, 1e300, 1.5e-7};

	switch (random_below(8)) {
	case 0:
		return NULL;
	case 1:
		return json_object_new_boolean((json_bool)random_below(2));
	case 2:
		return json_object_new_double(doubles[random_below(5)]);
	case 3:
	case 4:
		return random_string();
	default:
		return json_object_new_int64((int64_t)random_below(7) - 2);
	}
}

UNUSED static json_object *
random_array(int depth)
{
	json_object *array = json_object_new_array();
	unsigned len = random_below(8) == 0 ? random_below(60) : random_below(6);

	for (unsigned i = 0; i < len; i++)
		json_object_array_add(array, random_value(len > 6 ? 0 : depth - 1));
	return array;
}

UNUSED static json_object *
random_object(int depth)
{
	json_object *object = json_object_new_object();
	unsigned len = random_below(6);

	for (unsigned i = 0; i < len; i++)
		json_object_object_add(object, random_key(), random_value(depth - 1));
	return object;
}

UNUSED static json_object *
random_value(int depth)
{
	unsigned kind = depth > 0 ? random_below(5) : 0;

	if (kind == 0)
		return random_scalar();
	return kind < 3 ? random_array(depth) : random_object(depth);
}

static json_object *random_like(json_object *value, int depth, unsigned percent);

/* Elements kept, changed, dropped, added, and sometimes one that wanders to the end. */
UNUSED static json_object *
random_array_like(json_object *from, int depth, unsigned percent)
{
	json_object *to = json_object_new_array(), *wanders = NULL;
	size_t len = json_object_array_length(from);

	for (size_t i = 0; i < len; i++) {
		json_object *value = json_object_array_get_idx(from, i);
		unsigned what = random_below(100) < percent ? random_below(5) : 5;

		if (what == 0)
			continue;
		if (what == 1)
			json_object_array_add(to, random_value(depth - 1));
		if (what == 2 && wanders == NULL)
			wanders = json_object_get(value);
		else
			json_object_array_add(to, random_like(value, depth - 1, what == 3 ? 100 : percent / 2));
	}
	if (wanders != NULL)
		json_object_array_add(to, wanders);
	return to;
}

UNUSED static json_object *
random_object_like(json_object *from, int depth, unsigned percent)
{
	json_object *to = json_object_new_object();
	struct lh_entry *entry;

	lh_foreach(json_object_get_object(from), entry)
	{
		if (random_below(100) >= percent || random_below(3) > 0)
			json_object_object_add(to, lh_entry_k(entry),
			                       random_like(lh_entry_v(entry), depth - 1, percent));
	}
	if (random_below(100) < percent)
		json_object_object_add(to, random_key(), random_value(depth - 1));
	return to;
}

/* A value that differs in about so many of a hundred places; shares unchanged parts. */
UNUSED static json_object *
random_like(json_object *value, int depth, unsigned percent)
{
	if (depth < 0)
		depth = 0;
	if (json_object_is_type(value, json_type_array) && random_below(400) >= percent)
		return random_array_like(value, depth, percent);
	if (json_object_is_type(value, json_type_object) && random_below(400) >= percent)
		return random_object_like(value, depth, percent);
	return random_below(100) < percent ? random_value(depth) : json_object_get(value);
}

#endif
