/*
 * Who is there, as phoenix's Presence (npm package phoenix, presence.js) reads it: presence_state to the one who
 * joins, {key: {metas: [{phx_ref, ...}]}}, and presence_diff to the others, {joins, leaves}.  What was told is
 * in the store, so that what is told next fits to it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "engine_internal.h"
#include "json.h"
#include "memory.h"
#include "random.h"

#define KEY_BYTES  256 /* of a key at most */
#define META_BYTES 4096

void
presence_change_free(struct presence_change *change)
{
	if (!change)
		return;
	free((char *)change->row.key);
	free((char *)change->row.meta);
	free(change);
}

/* --- keys and metas --- */

/* A name that every object of JavaScript has, and its Presence would stumble over. */
static bool
is_of_every_object(const char *key)
{
	static const char *const names[] = {
		"__proto__",        "__defineGetter__",     "__defineSetter__", "__lookupGetter__",
		"__lookupSetter__", "constructor",          "hasOwnProperty",   "isPrototypeOf",
		"toLocaleString",   "propertyIsEnumerable", "toString",         "valueOf",
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(key, names[i]) == 0)
			return true;
	return false;
}

static const char *
key_fault(json_object *value)
{
	const char *key = json_object_get_string(value);
	size_t len = key ? strlen(key) : 0;
	if (!json_object_is_type(value, json_type_string) && !json_object_is_type(value, json_type_int))
		return "it is neither a string nor an integer";
	if (len == 0 || len > KEY_BYTES)
		return "it is empty or too long";
	if (json_object_is_type(value, json_type_string) && (size_t)json_object_get_string_len(value) != len)
		return "it has a NUL";
	return is_of_every_object(key) ? "every object of JavaScript has a member of that name" : NULL;
}

/* The key under which a join is shown; borrowed; NULL: it is not. */
static const char *
key_of(struct engine *engine, const struct join *join)
{
	json_object *value = NULL;
	const char *fault;
	if (!json_object_object_get_ex(join->assigns, channel_presence_key(join->instance->channel), &value))
		return NULL;
	fault = key_fault(value);
	if (fault)
		engine_log(engine, "%s: socket %s is not shown as present: its key is refused: %s", join->topic,
		           join->socket->row.token, fault);
	return fault ? NULL : json_object_get_string(value);
}

/* What is shown of a join besides; owned by the caller. */
static json_object *
meta_of(struct engine *engine, const struct join *join)
{
	json_object *value =
		json_object_object_get(join->assigns, channel_presence_meta(join->instance->channel));
	size_t len;
	if (!json_object_is_type(value, json_type_object))
		return json_object_new_object();
	json_text(value, &len);
	if (len <= META_BYTES)
		return json_copy(value);
	engine_log(engine, "%s: what is to be shown of socket %s is too large", join->topic,
	           join->socket->row.token);
	return json_object_new_object();
}

static bool
same_meta(json_object *shown, json_object *meta)
{
	json_object *bare = json_copy(shown);
	json_object_object_del(bare, "phx_ref");
	json_object_object_del(bare, "phx_ref_prev");
	bool same = json_equal(bare, meta);
	json_object_put(bare);
	return same;
}

static void
add_ref(json_object *meta, const char *previous)
{
	char ref[24];
	snprintf(ref, sizeof(ref), "%" PRIx64, random_number());
	json_object_object_add(meta, "phx_ref", json_object_new_string(ref));
	if (previous)
		json_object_object_add(meta, "phx_ref_prev", json_object_new_string(previous));
}

/* --- what is shown now --- */

struct view {
	struct instance *instance;
	int64_t join;    /* whose row is looked for */
	const char *key; /* whose row may be taken over; or NULL */
	json_object *state;
	struct presence_change *own; /* as shown; or NULL */
	json_object *own_meta;
};

static void
add_meta(json_object *state, const char *key, json_object *meta)
{
	json_object *entry = json_object_object_get(state, key);
	if (!entry) {
		entry = json_object_new_object();
		json_object_object_add(entry, "metas", json_object_new_array());
		json_object_object_add(state, key, entry);
	}
	json_object_array_add(json_object_object_get(entry, "metas"), json_object_get(meta));
}

static bool
is_live(const struct instance *instance, int64_t join)
{
	for (const struct join *j = instance->joins; j; j = j->next_of_instance)
		if (j->number == join && !j->ended)
			return true;
	return false;
}

static struct presence_change *
change_new(const struct store_presence *row)
{
	struct presence_change *change = memory_zeroed(1, sizeof(*change));
	change->row = *row;
	change->row.key = row->key ? memory_strdup(row->key) : NULL;
	change->row.meta = row->meta ? memory_strdup(row->meta) : NULL;
	return change;
}

/* The join's own; or that of one with the same key that has ended, whose place it takes. */
static bool
is_own(const struct view *view, const struct store_presence *row)
{
	if (row->join == view->join)
		return true;
	return !view->own && view->key && strcmp(row->key, view->key) == 0 &&
	       !is_live(view->instance, row->join);
}

static bool
view_row(void *context, const struct store_presence *row)
{
	struct view *view = context;
	json_object *meta = json_read(row->meta);
	if (is_own(view, row)) {
		presence_change_free(view->own);
		json_object_put(view->own_meta);
		view->own = change_new(row);
		view->own_meta = json_object_get(meta);
	}
	add_meta(view->state, row->key, meta);
	json_object_put(meta);
	return true;
}

static void
view_release(struct view *view)
{
	json_object_put(view->state);
	json_object_put(view->own_meta);
	presence_change_free(view->own);
}

/* --- what is told --- */

static json_object *
one(const char *key, json_object *meta)
{
	json_object *state = json_object_new_object();
	if (meta)
		add_meta(state, key, meta);
	return state;
}

/* joins and leaves are taken. */
static json_object *
diff_of(json_object *joins, json_object *leaves)
{
	json_object *diff = json_object_new_object();
	json_object_object_add(diff, "joins", joins);
	json_object_object_add(diff, "leaves", leaves);
	return diff;
}

static void
tell(struct staged *staged, const char *to, const char *name, json_object *detail)
{
	json_object *events = json_read(staged->record->row.events);
	json_object *entry = json_object_new_array();
	if (!events)
		events = json_object_new_array();
	json_object_array_add(entry, json_object_new_string(to));
	json_object_array_add(entry, json_object_new_string(name));
	json_object_array_add(entry, detail);
	json_object_array_add(events, entry);
	record_set(&staged->record->row.events, json_text(events, NULL));
	json_object_put(events);
}

static struct staged *
stage_presence(struct engine *engine, struct message *message, enum store_kind kind,
               struct presence_change *change)
{
	const struct join *join = post_join(message);
	struct instance *instance = message->post->instance;
	struct staged *staged = stage(engine, message, kind, instance, join ? join->join_ref : NULL);
	staged->presence = change;
	instance->presence_staged = true;
	return staged;
}

/* --- somebody goes --- */

static void
absent(struct engine *engine, struct message *message, struct view *view)
{
	struct presence_change *own = view->own;
	if (!own) { /* somebody has taken its place, or it was never shown */
		stage_rowless(engine, message, message->post->instance);
		return;
	}
	view->own = NULL;
	own->deletes = true;
	struct staged *staged = stage_presence(engine, message, STORE_PRESENCE, own);
	tell(staged, CALL_TO_ALL, "presence_diff",
	     diff_of(json_object_new_object(), one(own->row.key, view->own_meta)));
}

/* --- somebody comes, or is to be shown otherwise --- */

static struct presence_change *
change_to(const struct view *view, const struct join *join, json_object *meta)
{
	struct store_presence row = {
		.number = view->own ? view->own->row.number : 0,
		.instance = join->instance->row.id,
		.join = join->number,
		.key = view->key,
		.meta = json_text(meta, NULL),
	};
	return change_new(&row);
}

/* It was shown as another before: itself, or the one whose place it takes. */
static json_object *
leaves_of(const struct view *view)
{
	return view->own ? one(view->own->row.key, view->own_meta) : json_object_new_object();
}

static const char *
ref_of(json_object *meta)
{
	return json_object_get_string(json_object_object_get(meta, "phx_ref"));
}

/* Told to all but the one who comes, who is told of all. */
static void
show(struct engine *engine, struct message *message, struct view *view, const struct join *join,
     json_object *meta)
{
	bool comes = !view->own || view->own->row.join != join->number;
	add_ref(meta, view->own_meta ? ref_of(view->own_meta) : NULL);
	struct staged *staged = stage_presence(engine, message, STORE_PRESENCE, change_to(view, join, meta));
	if (comes && !view->own) {
		add_meta(view->state, view->key, meta);
		tell(staged, CALL_TO_SENDER, "presence_state", json_object_get(view->state));
		tell(staged, CALL_TO_OTHERS, "presence_diff",
		     diff_of(one(view->key, meta), json_object_new_object()));
		return;
	}
	if (comes)
		tell(staged, CALL_TO_SENDER, "presence_state", json_object_get(view->state));
	tell(staged, CALL_TO_ALL, "presence_diff", diff_of(one(view->key, meta), leaves_of(view)));
}

/* It takes the place of one like itself: nobody else sees a difference. */
static void
take_place(struct engine *engine, struct message *message, struct view *view, const struct join *join)
{
	struct staged *staged =
		stage_presence(engine, message, STORE_PRESENCE_STATE, change_to(view, join, view->own_meta));
	tell(staged, CALL_TO_SENDER, "presence_state", json_object_get(view->state));
}

static void
see(struct engine *engine, struct message *message, const struct view *view)
{
	struct staged *staged = stage(engine, message, STORE_PRESENCE_STATE, message->post->instance,
	                              post_join(message)->join_ref);
	tell(staged, CALL_TO_SENDER, "presence_state", json_object_get(view->state));
}

static void
present(struct engine *engine, struct message *message, struct view *view, const struct join *join)
{
	json_object *meta = meta_of(engine, join);
	bool same = view->own && view->key && strcmp(view->own->row.key, view->key) == 0 &&
	            same_meta(view->own_meta, meta);
	bool shown_already = view->own && view->own->row.join == join->number;
	if (!view->key && !view->own)
		see(engine, message, view);
	else if (!view->key) /* it has lost its key */
		absent(engine, message, view);
	else if (same && shown_already)
		stage_rowless(engine, message, message->post->instance);
	else if (same)
		take_place(engine, message, view, join);
	else
		show(engine, message, view, join, meta);
	json_object_put(meta);
}

/* --- */

/* What is staged is not in the store yet: one change at a time. */
void
presence_run(struct engine *engine, struct message *message)
{
	struct instance *instance = message->post->instance;
	const struct join *join = post_join(message);
	bool comes = message->post->kind == POST_PRESENT;
	struct view view = {
		.instance = instance,
		.join = json_object_get_int64(json_object_object_get(message->payload, "join")),
		.state = json_object_new_object(),
	};
	if (instance->presence_staged) {
		message_answer(engine, message, OUTCOME_NOTHING);
	} else if (comes && !join) { /* it has ended before it was shown */
		stage_rowless(engine, message, instance);
	} else {
		view.key = comes ? key_of(engine, join) : NULL;
		if (store_scan_presences(engine->store, instance->row.id, view_row, &view) != STORE_OK)
			message_answer(engine, message, OUTCOME_FAILED);
		else if (comes)
			present(engine, message, &view, join);
		else
			absent(engine, message, &view);
	}
	view_release(&view);
}

enum store_status
presence_write(struct engine *engine, struct staged *staged)
{
	struct presence_change *change = staged->presence;
	if (!change)
		return STORE_OK;
	if (change->deletes)
		return store_presence_delete(engine->store, change->row.number);
	return store_presence_put(engine->store, &change->row);
}
