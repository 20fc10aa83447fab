/*
 * todos - lists of things to do, each shared by everybody who looks at it
 *
 * A list is a topic: todos:home, or any other name.  Its state:
 *
 *     {"next":3,"todos":[{"id":1,"title":"Buy candles","done":true}, ...]}
 *
 * Events: add {title}, toggle {id}, rename {id,title}, remove {id}, clear {} (what is done).  Each
 * edits the state; its edits are the patch that every browser gets.
 */
#include <string.h>

#include "seance.h"

#define ITEMS_MAX 500
#define TITLE_MAX 400 /* bytes of UTF-8 */

/* --- what is in a state or a payload, borrowed --- */

static json_object *
get(json_object *object, const char *key)
{
	return json_object_object_get(object, key);
}

/* Is its title a string with something to read in it? */
static int
has_title(json_object *payload)
{
	json_object *title = get(payload, "title");
	const char *text = json_object_get_string(title);

	return json_object_is_type(title, json_type_string) &&
	       json_object_get_string_len(title) <= TITLE_MAX && text[strspn(text, " \t\r\n")] != '\0';
}

/* The place in the list of the item whose id the payload names; -1: there is none. */
static int
index_of(json_object *payload, json_object *list)
{
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (json_object_equal(get(json_object_array_get_idx(list, i), "id"), get(payload, "id")))
			return (int)i;
	return -1;
}

static int
is_done(json_object *list, int i)
{
	return json_object_get_boolean(get(json_object_array_get_idx(list, (size_t)i), "done"));
}

/* --- the events --- */

static enum seance_status
add(struct seance_call *call, json_object *payload, json_object *state)
{
	int64_t id = json_object_get_int64(get(state, "next"));
	json_object *item;

	if (json_object_array_length(get(state, "todos")) >= ITEMS_MAX)
		return seance_refuse(call, "a list has at most %d items", ITEMS_MAX);

	item = json_object_new_object();
	json_object_object_add(item, "id", json_object_new_int64(id));
	json_object_object_add(item, "title", json_object_get(get(payload, "title")));
	json_object_object_add(item, "done", json_object_new_boolean(0));
	seance_add(call, item, "/todos/-");
	return seance_replace(call, json_object_new_int64(id + 1), "/next");
}

static enum seance_status
clear(struct seance_call *call, json_object *list)
{
	for (int i = (int)json_object_array_length(list) - 1; i >= 0; i--)
		if (is_done(list, i))
			seance_remove(call, "/todos/%d", i);
	return SEANCE_OK;
}

static enum seance_status
todos_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	json_object *list = get(state, "todos");
	int i = index_of(payload, list);

	if (strcmp(event, "clear") == 0)
		return clear(call, list);
	if ((strcmp(event, "add") == 0 || strcmp(event, "rename") == 0) && !has_title(payload))
		return seance_refuse(call, "a title has 1 to %d bytes", TITLE_MAX);
	if (strcmp(event, "add") == 0)
		return add(call, payload, state);
	if (i >= 0 && strcmp(event, "toggle") == 0)
		return seance_replace(call, json_object_new_boolean(!is_done(list, i)), "/todos/%d/done", i);
	if (i >= 0 && strcmp(event, "rename") == 0)
		return seance_replace(call, json_object_get(get(payload, "title")), "/todos/%d/title", i);
	if (i >= 0 && strcmp(event, "remove") == 0)
		return seance_remove(call, "/todos/%d", i);
	return seance_refuse(call, "%s: no such event, or no such item", event);
}

static enum seance_status
todos_init(struct seance_call *call, const char *topic, json_object *payload)
{
	(void)topic;
	(void)payload;
	return seance_set_state(call, seance_json("{\"next\":1,\"todos\":[]}"));
}

static const struct seance_channel todos = {
	.topic = "todos:*",
	.scope = SEANCE_SHARED,
	.init = todos_init,
	.handle_event = todos_event,
};

SEANCE_MAIN(&todos)
