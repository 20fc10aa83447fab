/*
 * chat - rooms: the last 50 lines, who is there, and who is typing
 *
 * A room is a topic, chat:lobby or any other; who joins says his name, {"name":"Ann"}.  State:
 *
 *     {"lines":[{"who":"Ann","text":"Hello"}, ...],"typing":{"Bob":TIMER, ...}}
 *
 * Events: say {"text"}, typing {}.  The sign that somebody types goes when he says something, or by a timer.
 * Who is there comes by Presence of the npm package phoenix (events presence_state and presence_diff).
 */
#include <string.h>

#include "seance.h"

#define LINES_MAX 50
#define NAME_MAX  40 /* bytes of UTF-8 */
#define TEXT_MAX  1000
#define TYPING_MS 3000

/* The string at key, if it has something to read and at most so many bytes; borrowed; or NULL. */
static const char *
text_of(json_object *object, const char *key, int max)
{
	json_object *value = json_object_object_get(object, key);
	const char *text = json_object_get_string(value);
	int fits = json_object_is_type(value, json_type_string) && json_object_get_string_len(value) <= max;

	return fits && text[strspn(text, " \t\r\n")] != '\0' ? text : NULL;
}

static const char *
name_of(struct seance_call *call)
{
	return text_of(seance_assigns(call), "name", NAME_MAX);
}

static enum seance_status
chat_authorize(struct seance_call *call, const char *topic, json_object *payload)
{
	if (text_of(payload, "name", NAME_MAX) == NULL)
		return seance_refuse(call, "a name, please, of at most %d bytes", NAME_MAX);
	return seance_assign(call, "name", json_object_get(json_object_object_get(payload, "name")));
}

static enum seance_status
chat_init(struct seance_call *call, const char *topic, json_object *payload)
{
	return seance_set_state(call, seance_json("{\"lines\":[],\"typing\":{}}"));
}

static void
typing_ends(struct seance_call *call, const char *name, json_object *state)
{
	json_object *timer;

	if (!json_object_object_get_ex(json_object_object_get(state, "typing"), name, &timer))
		return;
	seance_cancel_timer(call, json_object_get_int64(timer));
	seance_remove(call, "/typing/%s", name);
}

static enum seance_status
typing(struct seance_call *call, json_object *state)
{
	int64_t timer;

	typing_ends(call, name_of(call), state);
	timer = seance_send_after(call, TYPING_MS, json_object_new_string(name_of(call)));
	return seance_add(call, json_object_new_int64(timer), "/typing/%s", name_of(call));
}

static enum seance_status
say(struct seance_call *call, json_object *payload, json_object *state)
{
	const char *text = text_of(payload, "text", TEXT_MAX);
	json_object *line = json_object_new_object();

	if (text == NULL) {
		json_object_put(line);
		return seance_refuse(call, "say something, in at most %d bytes", TEXT_MAX);
	}
	json_object_object_add(line, "who", json_object_new_string(name_of(call)));
	json_object_object_add(line, "text", json_object_new_string(text));
	typing_ends(call, name_of(call), state);
	if (json_object_array_length(json_object_object_get(state, "lines")) == LINES_MAX)
		seance_remove(call, "/lines/0");
	return seance_add(call, line, "/lines/-");
}

static enum seance_status
chat_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	if (strcmp(event, "say") == 0)
		return say(call, payload, state);
	if (strcmp(event, "typing") == 0)
		return typing(call, state);
	return seance_refuse(call, "unknown event: %s", event);
}

/* The timer of somebody who has stopped typing. */
static enum seance_status
chat_message(struct seance_call *call, json_object *message, json_object *state)
{
	typing_ends(call, json_object_get_string(message), state);
	return SEANCE_OK;
}

static const struct seance_channel chat = {
	.topic = "chat:*",
	.scope = SEANCE_SHARED,
	.presence = true,
	.presence_key = "name",
	.authorize = chat_authorize,
	.init = chat_init,
	.handle_event = chat_event,
	.handle_message = chat_message,
};

SEANCE_MAIN(&chat)
