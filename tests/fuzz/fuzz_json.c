/*
 * JSON: what our parser takes json-c's takes, too, and as the same value; what is written is read as it was.
 *
 * Input: a text.
 */
#include "../../channel/json.h"
#include "fuzz.h"

/* json-c's value; owned. */
static json_object *
parse_with_json_c(const uint8_t *data, size_t size)
{
	struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH_MAX + 1);
	char *text = malloc(size + 1);

	memcpy(text, data, size);
	text[size] = '\0'; /* a number's end */
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	json_object *value = json_tokener_parse_ex(tokener, text, (int)size + 1);
	must(json_tokener_get_error(tokener) == json_tokener_success);
	json_tokener_free(tokener);
	free(text);
	return value;
}

static void
check_copy(json_object *value, const char *text)
{
	json_object *copy = json_copy(value);

	must(copy != value || value == NULL);
	must(json_equal(copy, value) && json_hash(copy) == json_hash(value));
	must(strcmp(json_text(copy, NULL), text) == 0);
	json_object_put(copy);
}

static void
check_written(json_object *value)
{
	json_object *again = NULL;
	size_t len;
	const char *text = json_text(value, &len);

	must(strlen(text) == len && json_is_utf8(text, len));
	must(json_parse(text, len, &again, NULL));
	must(json_equal(again, value) && json_hash(again) == json_hash(value));
	must(strcmp(json_text(again, NULL), text) == 0);
	check_copy(value, text);
	json_object_put(again);
}

static void
check_fitness(json_object *value)
{
	int depth = json_depth(value, JSON_DEPTH_MAX);

	must(depth <= JSON_DEPTH_MAX);
	must((json_unfit(value, depth) == NULL) == !json_has_proto(value));
	must(depth == 0 || json_unfit(value, depth - 1) != NULL);
}

FUZZ_TARGET(json)
{
	struct json_error error = {NULL, 0};
	json_object *value = NULL, *other;

	if (!json_parse((const char *)data, size, &value, &error)) {
		must(error.message != NULL && error.position <= size && value == NULL);
		return;
	}
	must(error.message == NULL && json_is_utf8((const char *)data, size));
	other = parse_with_json_c(data, size);
	must(json_equal(value, other) && json_hash(value) == json_hash(other));
	check_written(value);
	check_fitness(value);
	json_object_put(value);
	json_object_put(other);
}
