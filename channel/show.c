/*
 * What clients see of a state is its face: what encode makes of it, without the members that ignore_keys names.
 * What they are told of a change is worked out here, in the run of the callback that made it, without the lock;
 * but for a channel that only ignores keys, where the edits themselves tell (patch.c).
 */
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "engine_internal.h"
#include "face.h"
#include "json.h"
#include "memory.h"

void
shown_release(struct shown *shown)
{
	json_object_put(shown->face);
	free(shown->built);
	free(shown->told);
	free(shown->full);
	free(shown->update);
	*shown = (struct shown){0};
}

/* --- the face of a state --- */

static char *
text_of(json_object *value)
{
	return memory_strdup(json_text(value, NULL));
}

/* Owned by the caller, and shares nothing with the state. */
static json_object *
face_for(struct seance_call *call, const struct seance_channel *channel, json_object *state)
{
	const char *const *names = channel_ignored(channel);
	if (!channel->encode)
		return face_of(state, names);
	json_object *encoded = channel->encode(call, state);
	const char *why = json_unfit(encoded, JSON_DEPTH_STATE);
	json_object *face = why ? NULL : face_of(encoded, names);
	json_object_put(encoded);
	if (why)
		seance_crash(call, "encode: %s", why);
	return face;
}

/* The operations from one face to another, as text; owned by the caller.  from is taken. */
static char *
difference(json_object *from, json_object *to)
{
	struct patch_edit edit;
	struct buffer text = {0};
	patch_edit_init(&edit, from);
	patch_become(&edit, json_object_get(to));
	buffer_add_char(&text, '[');
	buffer_add(&text, edit.operations.at, edit.operations.len);
	buffer_add(&text, "]", sizeof("]"));
	patch_edit_release(&edit);
	return text.at;
}

/* --- messages of the author's own --- */

/* event is borrowed, payload taken; owned by the caller. */
static char *
built_text(struct seance_call *call, const char *event, json_object *payload)
{
	json_object *built = json_object_new_object();
	char *text = NULL;
	json_object_object_add(built, "event", event ? json_object_new_string(event) : NULL);
	json_object_object_add(built, "payload", payload);
	const char *why = event ? json_unfit(built, JSON_DEPTH_STATE + 1) : "it has no event";
	if (why)
		seance_crash(call, "message builder: %s", why);
	else
		text = text_of(built);
	json_object_put(built);
	return text;
}

static json_object *
told_operations(const struct shown *shown, const struct patch_edit *edit)
{
	struct buffer text = {0};
	const struct buffer *told = edit->otherwise ? &edit->told : &edit->operations;
	if (shown->told)
		return json_read(shown->told);
	buffer_add_char(&text, '[');
	buffer_add(&text, told->at, told->len);
	buffer_add(&text, "]", sizeof("]"));
	json_object *operations = json_read(text.at);
	buffer_release(&text);
	return operations;
}

static void
build(struct seance_call *call, const struct seance_channel *channel, const struct patch_edit *edit,
      json_object *face, int64_t version)
{
	const char *event = NULL;
	struct shown *shown = &call->shown;
	json_object *payload = channel->new_state_message(call, &event, face, version);
	shown->built = built_text(call, event, payload);
	if (!edit)
		return;
	json_object *operations = told_operations(shown, edit);
	event = NULL;
	payload = channel->update_state_message(call, &event, face, operations, version);
	shown->update = built_text(call, event, payload);
	json_object_put(operations);
}

/* --- in a run --- */

/* edit: what changed; NULL: only what is shown of a state is asked for. */
static void
work_out(struct seance_call *call, const struct instance *instance, const struct patch_edit *edit,
         json_object *state, int64_t version)
{
	const struct seance_channel *channel = instance->channel;
	struct shown *shown = &call->shown;
	json_object *face = face_for(call, channel, state);
	shown->known = true;
	if (edit && channel->encode && instance->shown)
		shown->told = difference(json_copy(instance->face), face);
	if (edit && (channel->message_builder == SEANCE_FULL_STATE || (channel->encode && !instance->shown)))
		shown->full = text_of(face);
	if (channel->message_builder == SEANCE_OWN_MESSAGES)
		build(call, channel, edit, face, version);
	if (channel->encode)
		shown->face = face;
	else
		json_object_put(face);
}

static bool
is_plain(const struct seance_channel *channel)
{
	return !channel->encode && channel->message_builder == SEANCE_PATCHES;
}

bool
show_change(struct seance_call *call, const struct instance *instance)
{
	if (is_plain(instance->channel) || (!call->init && !call->edit))
		return true;
	shown_release(&call->shown);
	if (call->init)
		work_out(call, instance, NULL, call->first_state, 0);
	else
		work_out(call, instance, &instance->edit, instance->edit.document,
		         instance_next_version(instance));
	return !call->failed;
}

bool
show_state(struct seance_call *call, const struct instance *instance)
{
	work_out(call, instance, NULL, instance->edit.document, instance->version);
	return !call->failed;
}

/* --- in an instance --- */

bool
show_is_known(const struct instance *instance)
{
	return instance->shown || is_plain(instance->channel) ||
	       (!instance->channel->encode && instance->channel->message_builder != SEANCE_OWN_MESSAGES);
}

void
show_forget(struct instance *instance)
{
	json_object_put(instance->face);
	free(instance->built);
	instance->face = NULL;
	instance->built = NULL;
	instance->shown = false;
}

void
show_take(struct instance *instance, struct shown *shown)
{
	if (!shown->known)
		return;
	show_forget(instance);
	instance->face = shown->face;
	instance->built = shown->built;
	instance->shown = true;
	shown->face = NULL;
	shown->built = NULL;
}

bool
show_is_other(const struct instance *instance)
{
	return instance->channel->encode ||
	       face_hides(instance->edit.document, channel_ignored(instance->channel));
}

char *
show_text(const struct instance *instance)
{
	if (instance->channel->encode)
		return text_of(instance->face);
	if (!show_is_other(instance))
		return text_of(instance->edit.document);
	json_object *face = face_of(instance->edit.document, channel_ignored(instance->channel));
	char *text = text_of(face);
	json_object_put(face);
	return text;
}
