#define _GNU_SOURCE /* vasprintf */
#include "call.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "json.h"
#include "memory.h"
#include "pointer.h"
#include "random.h"

/* The first failure is the one to tell. */
static enum seance_status fail(struct seance_call *call, const char *format, ...) SEANCE_PRINTF(2, 3);

static enum seance_status
fail(struct seance_call *call, const char *format, ...)
{
	va_list args;
	call->failed = true;
	if (call->crash)
		return SEANCE_CRASHED;
	va_start(args, format);
	if (vasprintf(&call->crash, format, args) < 0)
		call->crash = NULL;
	va_end(args);
	return SEANCE_CRASHED;
}

enum seance_status
call_outcome(const struct seance_call *call, enum seance_status returned)
{
	if (call->failed && returned == SEANCE_OK)
		return SEANCE_CRASHED;
	if (returned == SEANCE_REFUSED || returned == SEANCE_OK)
		return returned;
	return SEANCE_CRASHED;
}

const char *
call_why(const struct seance_call *call)
{
	return call->crash ? call->crash : "the callback gave no reason";
}

void
call_release(struct seance_call *call)
{
	json_object_put(call->first_state);
	json_object_put(call->assigns);
	json_object_put(call->events);
	json_object_put(call->reason);
	effects_release(&call->effects);
	shown_release(&call->shown);
	free(call->crash);
}

/* --- what the call is about --- */

const char *
seance_topic(const struct seance_call *call)
{
	return call->topic;
}

const char *
seance_socket_id(const struct seance_call *call)
{
	return call->socket_token;
}

const char *
seance_header(const struct seance_call *call, const char *name)
{
	return call->header ? call->header(call->header_context, name) : NULL;
}

/* --- assigns --- */

static bool
is_taken(const struct seance_call *call, const char *key)
{
	return call->channel && (strcmp(key, channel_state_key(call->channel)) == 0 ||
	                         strcmp(key, channel_state_version_key(call->channel)) == 0);
}

static const char *
unfit_assign(const struct seance_call *call, const char *key, json_object *value)
{
	if (is_taken(call, key))
		return "the state is shown there";
	if (!json_is_utf8(key, strlen(key)))
		return "the key is not UTF-8";
	return json_unfit(value, JSON_DEPTH_STATE);
}

/* The value may share parts with the state, which is edited in place: so it is copied. */
enum seance_status
seance_assign(struct seance_call *call, const char *key, json_object *value)
{
	const char *why = unfit_assign(call, key, value);
	if (!why)
		json_object_object_add(seance_assigns(call), key, json_copy(value));
	call->assigned = true;
	json_object_put(value);
	return why ? fail(call, "seance_assign: \"%s\": %s", key, why) : SEANCE_OK;
}

json_object *
seance_assigns(struct seance_call *call)
{
	if (!call->assigns)
		call->assigns = json_object_new_object();
	if (call->edit) {
		json_object_object_add(call->assigns, channel_state_key(call->channel),
		                       json_object_get(call->edit->document));
		json_object_object_add(call->assigns, channel_state_version_key(call->channel),
		                       json_object_new_int64(call->version));
	}
	return call->assigns;
}

json_object *
call_take_assigns(struct seance_call *call)
{
	json_object *assigns = call->assigns;
	call->assigns = NULL;
	if (assigns && call->channel) {
		json_object_object_del(assigns, channel_state_key(call->channel));
		json_object_object_del(assigns, channel_state_version_key(call->channel));
	}
	return assigns;
}

/* --- the state --- */

static enum seance_status
wrong_place(struct seance_call *call)
{
	return fail(call, "there is no state to edit in this callback");
}

static enum seance_status
edited(struct seance_call *call, bool done, const char *verb, const char *pointer)
{
	if (done)
		return SEANCE_OK;
	return fail(call, "seance_%s: cannot be done at \"%s\"", verb, pointer);
}

enum verb { ADD, REPLACE, REMOVE };

static enum seance_status
edit(struct seance_call *call, enum verb verb, json_object *value, const char *format, va_list args)
{
	static const char *const names[] = {"add", "replace", "remove"};
	if (!call->edit) {
		json_object_put(value);
		return wrong_place(call);
	}
	char *pointer = pointer_format(format, args);
	if (!pointer) {
		json_object_put(value);
		return fail(call, "seance_%s: not a pointer: \"%s\"", names[verb], format);
	}
	bool done = verb == ADD       ? patch_add(call->edit, pointer, value)
	            : verb == REPLACE ? patch_replace(call->edit, pointer, value)
	                              : patch_remove(call->edit, pointer);
	enum seance_status status = edited(call, done, names[verb], pointer);
	free(pointer);
	return status;
}

enum seance_status
seance_add(struct seance_call *call, json_object *value, const char *pointer, ...)
{
	va_list args;
	va_start(args, pointer);
	enum seance_status status = edit(call, ADD, value, pointer, args);
	va_end(args);
	return status;
}

enum seance_status
seance_replace(struct seance_call *call, json_object *value, const char *pointer, ...)
{
	va_list args;
	va_start(args, pointer);
	enum seance_status status = edit(call, REPLACE, value, pointer, args);
	va_end(args);
	return status;
}

enum seance_status
seance_remove(struct seance_call *call, const char *pointer, ...)
{
	va_list args;
	va_start(args, pointer);
	enum seance_status status = edit(call, REMOVE, NULL, pointer, args);
	va_end(args);
	return status;
}

enum seance_status
seance_move(struct seance_call *call, const char *from, const char *to)
{
	if (!call->edit)
		return wrong_place(call);
	return edited(call, patch_move(call->edit, from, to), "move", from);
}

enum seance_status
seance_copy(struct seance_call *call, const char *from, const char *to)
{
	if (!call->edit)
		return wrong_place(call);
	return edited(call, patch_copy(call->edit, from, to), "copy", from);
}

static enum seance_status
unfit(struct seance_call *call, json_object *value)
{
	const char *why = json_unfit(value, JSON_DEPTH_STATE);
	return fail(call, "seance_set_state: %s", why ? why : "not possible");
}

/* Edits that came before are undone: the patch is what differs from the state as it was. */
static enum seance_status
whole_state(struct seance_call *call, json_object *state)
{
	enum seance_status status = SEANCE_OK;
	patch_edit_undo(call->edit);
	if (!patch_become(call->edit, json_object_get(state)))
		status = unfit(call, state);
	json_object_put(state);
	return status;
}

static enum seance_status
first_state(struct seance_call *call, json_object *state)
{
	json_object_put(call->first_state);
	call->first_state = json_copy(state); /* nobody else's, whatever the author still holds */
	call->has_state = true;
	json_object_put(state);
	if (json_unfit(call->first_state, JSON_DEPTH_STATE))
		return unfit(call, call->first_state);
	return SEANCE_OK;
}

enum seance_status
seance_set_state(struct seance_call *call, json_object *state)
{
	if (call->init)
		return first_state(call, state);
	if (call->edit && (!state || state != call->edit->document))
		return whole_state(call, state);
	bool same = call->edit != NULL;
	json_object_put(state);
	return same ? fail(call, "seance_set_state: the old state itself was handed over as the new one")
	            : wrong_place(call);
}

/* --- telling --- */

static enum seance_status
tell(struct seance_call *call, const char *to, const char *name, json_object *detail)
{
	json_object *entry = json_object_new_array_ext(3);
	json_object_array_add(entry, json_object_new_string(to));
	json_object_array_add(entry, json_object_new_string(name));
	json_object_array_add(entry, detail);
	if (!call->events)
		call->events = json_object_new_array();
	json_object_array_add(call->events, entry);
	const char *why = json_unfit(detail, JSON_DEPTH_STATE);
	return why ? fail(call, "event \"%s\": %s", name, why) : SEANCE_OK;
}

bool
call_tells(json_object *entry, bool own)
{
	const char *to = json_object_get_string(json_object_array_get_idx(entry, 0));
	return strcmp(to, CALL_TO_ALL) == 0 || strcmp(to, own ? CALL_TO_SENDER : CALL_TO_OTHERS) == 0;
}

enum seance_status
seance_reply(struct seance_call *call, const char *name, json_object *detail)
{
	return tell(call, call->posted ? CALL_TO_ALL : CALL_TO_SENDER, name, detail);
}

enum seance_status
seance_push(struct seance_call *call, const char *name, json_object *detail)
{
	return tell(call, CALL_TO_ALL, name, detail);
}

/* --- PubSub and timers --- */

static enum seance_status
effect(struct seance_call *call, const char *what, const struct effect *effect)
{
	if (call->effects.count == EFFECTS_MAX) {
		free(effect->topic);
		free(effect->payload);
		return fail(call, "%s: more than %d in one callback", what, EFFECTS_MAX);
	}
	effects_add(&call->effects, effect);
	return SEANCE_OK;
}

/* A message as text, owned by the caller; NULL, and why, when it is none. */
static char *
message_text(json_object *message, const char **why)
{
	size_t len;
	*why = json_unfit(message, JSON_DEPTH_STATE);
	if (*why)
		return NULL;
	const char *text = json_text(message, &len);
	if (len > EFFECT_BYTES)
		*why = "the message is too large";
	return *why ? NULL : memory_strdup(text);
}

static enum seance_status
subscription(struct seance_call *call, const char *what, enum effect_kind kind, const char *topic)
{
	const char *why = call->channel ? effects_topic_fault(topic) : "there is no instance in connect";
	if (why)
		return fail(call, "%s: %s", what, why);
	return effect(call, what, &(struct effect){.kind = kind, .topic = memory_strdup(topic)});
}

enum seance_status
seance_subscribe(struct seance_call *call, const char *topic)
{
	return subscription(call, "seance_subscribe", EFFECT_SUBSCRIBE, topic);
}

enum seance_status
seance_unsubscribe(struct seance_call *call, const char *topic)
{
	return subscription(call, "seance_unsubscribe", EFFECT_UNSUBSCRIBE, topic);
}

enum seance_status
seance_broadcast(struct seance_call *call, const char *topic, json_object *message)
{
	const char *why = effects_topic_fault(topic);
	if (!why && call->hops > HOPS_MAX)
		why = "a chain of broadcasts, each sent in answer to the one before, is too long";
	char *payload = why ? NULL : message_text(message, &why);
	json_object_put(message);
	if (why)
		return fail(call, "seance_broadcast: %s", why);
	return effect(call, "seance_broadcast",
	              &(struct effect){.kind = EFFECT_BROADCAST,
	                               .topic = memory_strdup(topic),
	                               .payload = payload,
	                               .hops = call->hops});
}

const char *
seance_message_topic(const struct seance_call *call)
{
	return call->message_topic;
}

int64_t
seance_send_after(struct seance_call *call, int64_t delay_ms, json_object *message)
{
	const char *why = NULL;
	if (!call->channel)
		why = "there is no instance in connect";
	else if (delay_ms < 0 || delay_ms > SEANCE_MAX_DELAY_MS)
		why = "the delay is out of bounds";
	char *payload = why ? NULL : message_text(message, &why);
	json_object_put(message);
	if (why) {
		fail(call, "seance_send_after: %s", why);
		return 0;
	}
	struct effect timer = {
		.kind = EFFECT_TIMER,
		.payload = payload,
		.timer = random_number(),
		.delay_ms = delay_ms,
	};
	return effect(call, "seance_send_after", &timer) == SEANCE_OK ? timer.timer : 0;
}

enum seance_status
seance_cancel_timer(struct seance_call *call, int64_t timer)
{
	if (!call->channel)
		return fail(call, "seance_cancel_timer: there is no instance in connect");
	return effect(call, "seance_cancel_timer", &(struct effect){.kind = EFFECT_CANCEL, .timer = timer});
}

/* --- not succeeding --- */

enum seance_status
seance_refuse_json(struct seance_call *call, json_object *reason)
{
	json_object_put(call->reason);
	call->reason = reason;
	call->reason_is_text = false;
	return SEANCE_REFUSED;
}

enum seance_status
seance_refuse(struct seance_call *call, const char *format, ...)
{
	va_list args;
	char *text = NULL;
	va_start(args, format);
	int len = vasprintf(&text, format, args);
	va_end(args);
	seance_refuse_json(call, len < 0 ? NULL : json_object_new_string_len(text, len));
	call->reason_is_text = true;
	free(text);
	return SEANCE_REFUSED;
}

enum seance_status
seance_crash(struct seance_call *call, const char *format, ...)
{
	va_list args;
	free(call->crash);
	call->crash = NULL;
	va_start(args, format);
	if (vasprintf(&call->crash, format, args) < 0)
		call->crash = NULL;
	va_end(args);
	call->failed = true;
	return SEANCE_CRASHED;
}

json_object *
seance_json(const char *text)
{
	json_object *value = NULL;
	struct json_error error;
	if (!json_parse(text, strlen(text), &value, &error))
		fprintf(stderr, "seance: seance_json: %s at byte %zu\n", error.message, error.position);
	return value;
}
