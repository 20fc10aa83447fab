#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "engine_internal.h"
#include "json.h"
#include "memory.h"
#include "random.h"

/* --- channels --- */

static bool
matches(const char *pattern, const char *topic)
{
	size_t len = strlen(pattern);
	if (len > 0 && pattern[len - 1] == '*')
		return strncmp(pattern, topic, len - 1) == 0;
	return strcmp(pattern, topic) == 0;
}

const struct seance_channel *
channel_for(const struct engine *engine, const char *topic)
{
	for (const struct seance_channel *const *c = engine->channels; *c; c++)
		if (matches((*c)->topic, topic))
			return *c;
	return NULL;
}

/* --- two lists: by when they are to be written, and by when they were used --- */

void
instance_unschedule(struct engine *engine, struct instance *instance)
{
	if (!instance->due_ms)
		return;
	if (instance->due_previous)
		instance->due_previous->due_next = instance->due_next;
	else
		engine->due_first = instance->due_next;
	if (instance->due_next)
		instance->due_next->due_previous = instance->due_previous;
	else
		engine->due_last = instance->due_previous;
	instance->due_ms = 0;
	instance->due_previous = instance->due_next = NULL;
}

/* Nearly always the latest of all: the search from the end is short. */
void
instance_schedule(struct engine *engine, struct instance *instance, int64_t due_ms)
{
	instance_unschedule(engine, instance);
	struct instance *before = engine->due_last;
	/* what is freed has left the list */
	while (before && before->due_ms > due_ms) /* NOLINT(clang-analyzer-unix.Malloc) */
		before = before->due_previous;
	instance->due_ms = due_ms;
	instance->due_previous = before;
	instance->due_next = before ? before->due_next : engine->due_first;
	if (before)
		before->due_next = instance;
	else
		engine->due_first = instance;
	if (instance->due_next)
		instance->due_next->due_previous = instance; /* NOLINT(clang-analyzer-unix.Malloc) */
	else
		engine->due_last = instance;
}

static void
used_remove(struct engine *engine, struct instance *instance)
{
	if (instance->used_previous)
		instance->used_previous->used_next = instance->used_next;
	else
		engine->used_first = instance->used_next;
	if (instance->used_next)
		instance->used_next->used_previous = instance->used_previous;
	else
		engine->used_last = instance->used_previous;
	instance->used_previous = instance->used_next = NULL;
}

static void
used_add(struct engine *engine, struct instance *instance)
{
	instance->used_next = engine->used_first;
	if (instance->used_next)
		instance->used_next->used_previous = instance;
	else
		engine->used_last = instance;
	engine->used_first = instance;
}

void
instance_used(struct engine *engine, struct instance *instance)
{
	if (!instance->loaded || engine->used_first == instance)
		return;
	used_remove(engine, instance);
	used_add(engine, instance);
}

/* --- being there --- */

struct instance *
instance_new(const struct seance_channel *channel, const char *topic)
{
	struct instance *instance = memory_zeroed(1, sizeof(*instance));
	instance->channel = channel;
	instance->row.topic = memory_strdup(topic);
	instance->row.shared = channel->scope == SEANCE_SHARED;
	instance->row.epoch = random_number();
	instance->row.schema = instance->schema = channel->state_schema;
	instance->next = instance->row;
	return instance;
}

void
instance_register(struct engine *engine, struct instance *instance)
{
	table_add_number(engine->instances_by_id, instance->row.id, instance);
}

struct instance *
instance_from_row(struct engine *engine, const struct store_instance *row)
{
	const struct seance_channel *channel = channel_for(engine, row->topic);
	if (!channel)
		return NULL; /* an older build served it */
	struct instance *instance = memory_zeroed(1, sizeof(*instance));
	instance->channel = channel;
	instance->row = *row;
	instance->row.topic = memory_strdup(row->topic);
	instance->next = instance->row;
	instance->revision = row->revision;
	instance->version = row->version;
	instance->schema = row->schema;
	instance_register(engine, instance);
	if (row->shared && lh_table_insert(engine->shared_by_topic, instance->row.topic, instance) != 0)
		abort();
	return instance;
}

struct found {
	struct engine *engine;
	struct instance *instance;
};

/* One that was to be born here has been born by another process. */
static struct instance *
adopt_row(struct engine *engine, struct instance *unborn, const struct store_instance *row)
{
	const char *topic = unborn->row.topic;
	if (unborn->row.id)
		return NULL;
	unborn->row = *row;
	unborn->row.topic = topic;
	instance_register(engine, unborn);
	return unborn;
}

static bool
found_row(void *context, const struct store_instance *row)
{
	struct found *found = context;
	struct instance *unborn = NULL;
	if (row->shared)
		unborn = table_find_text(found->engine->shared_by_topic, row->topic);
	found->instance =
		unborn ? adopt_row(found->engine, unborn, row) : instance_from_row(found->engine, row);
	return false;
}

struct instance *
instance_by_id(struct engine *engine, int64_t id)
{
	struct found found = {engine, table_find_number(engine->instances_by_id, id)};
	if (!found.instance && id)
		store_instance_get(engine->store, id, found_row, &found);
	return found.instance;
}

enum store_status
instance_find_shared(struct engine *engine, const struct seance_channel *channel, const char *topic,
                     struct instance **instance)
{
	struct found found = {engine, table_find_text(engine->shared_by_topic, topic)};
	enum store_status status = STORE_OK;
	if (!found.instance)
		status = store_instance_find(engine->store, topic, found_row, &found);
	if (status == STORE_NONE)
		status = STORE_OK;
	if (status == STORE_OK && !found.instance) {
		found.instance = instance_new(channel, topic);
		if (lh_table_insert(engine->shared_by_topic, found.instance->row.topic, found.instance) != 0)
			abort();
	}
	*instance = found.instance;
	return status;
}

/* A row of the log that its own row may not show: an earlier process, or another one, wrote it. */
void
instance_follow(struct engine *engine, struct instance *instance, const struct store_record *row)
{
	if (row->number > instance->row.last_commit) {
		instance->row.last_commit = row->number;
		instance->row.revision = row->revision;
		instance->row.version = row->version;
	} else if (row->revision <= instance->row.state_revision) {
		return;
	}
	if (!instance->unwritten)
		instance->unwritten = row->number;
	instance_schedule(engine, instance, clock_ms());
}

/* --- its state --- */

void
instance_reckon(struct engine *engine, struct instance *instance, size_t bytes)
{
	engine->cache_bytes += bytes - instance->state_bytes;
	instance->state_bytes = bytes;
}

void
instance_give_state(struct engine *engine, struct instance *instance, json_object *state)
{
	patch_edit_init(&instance->edit, state);
	if (!instance->channel->encode)
		instance->edit.hidden = channel_ignored(instance->channel);
	instance->loaded = true;
	engine->cache_bytes += INSTANCE_BYTES + instance->state_bytes;
	used_add(engine, instance);
}

static void
unload(struct engine *engine, struct instance *instance)
{
	if (!instance->loaded)
		return;
	patch_edit_release(&instance->edit);
	show_forget(instance);
	instance->loaded = false;
	engine->cache_bytes -= INSTANCE_BYTES + instance->state_bytes;
	used_remove(engine, instance);
	record_free(instance->state_record);
	instance->state_record = NULL;
}

/* The rows that a stored state lacks, newest first. */
struct history {
	int64_t after;
	struct record **records;
	size_t count, room;
};

static bool
history_row(void *context, const struct store_record *row)
{
	struct history *history = context;
	if (row->revision <= history->after)
		return false;
	if (row->kind != STORE_EVENT)
		return true;
	history->records =
		memory_grow(history->records, history->count, &history->room, sizeof(struct record *));
	history->records[history->count++] = record_copy(row);
	return true;
}

static bool
replay_one(json_object **state, const struct record *record)
{
	json_object *operations;
	const char *text = record->row.operations;
	if (!text || !json_parse(text, strlen(text), &operations, NULL))
		return text == NULL;
	bool done = patch_apply(state, operations);
	json_object_put(operations);
	return done;
}

static bool
replay(struct engine *engine, struct instance *instance, json_object **state)
{
	struct history history = {.after = instance->row.state_revision};
	int64_t lacking = instance->row.revision - history.after;
	bool done = true;
	if (lacking > 0) /* less than none: another process has written it, its rows are still to be read */
		done =
			store_history(engine->store, instance->row.last_commit, history_row, &history) == STORE_OK &&
			(int64_t)history.count == lacking;
	instance->log_bytes = 0;
	for (size_t i = history.count; i-- > 0;) {
		if (history.records[i]->row.operations)
			instance->log_bytes += strlen(history.records[i]->row.operations);
		done = done && replay_one(state, history.records[i]);
		record_free(history.records[i]);
	}
	free(history.records);
	return done;
}

static bool
look_row(void *context, const struct store_instance *row)
{
	struct instance *instance = context;
	instance->row.state_revision = row->state_revision;
	instance->row.state_version = row->state_version;
	instance->row.schema = row->schema;
	return false;
}

/* Which revision is the stored state of?  Another process may have written it. */
enum store_status
instance_look(struct engine *engine, struct instance *instance)
{
	return store_instance_get(engine->store, instance->row.id, look_row, instance);
}

/* The stored state as text, owned by the caller, and which revision it is of; NULL: it can't be read. */
static char *
read_state(struct engine *engine, struct instance *instance)
{
	char *text = NULL;
	int64_t revision = -1;
	bool done = instance_look(engine, instance) == STORE_OK;
	while (done && revision != instance->row.state_revision) { /* it was written meanwhile */
		revision = instance->row.state_revision;
		free(text);
		done = store_instance_state(engine->store, instance->row.id, &text) == STORE_OK && text &&
		       instance_look(engine, instance) == STORE_OK;
	}
	if (done)
		return text;
	free(text);
	return NULL;
}

bool
instance_load(struct engine *engine, struct instance *instance)
{
	json_object *state = NULL;
	instance_used(engine, instance);
	if (instance->loaded)
		return true;
	char *text = read_state(engine, instance);
	bool done = text && json_parse(text, strlen(text), &state, NULL);
	instance->state_bytes = done ? strlen(text) : 0;
	free(text);
	done = done && replay(engine, instance, &state);
	if (done) {
		instance->schema = instance->row.schema;
		instance_give_state(engine, instance, state);
	} else {
		json_object_put(state);
		engine_log(engine, "the stored state of %s cannot be read: %s", instance->row.topic,
		           store_message(engine->store));
	}
	return done;
}

/* --- going --- */

void
instance_free(struct engine *engine, struct instance *instance)
{
	unload(engine, instance);
	instance_unschedule(engine, instance);
	if (instance->blank)
		instance_unblank(engine, instance);
	if (instance->row.id)
		table_remove_number(engine->instances_by_id, instance->row.id);
	if (instance->row.shared)
		lh_table_delete(engine->shared_by_topic, instance->row.topic);
	free((char *)instance->row.topic);
	free(instance);
}

static bool
is_needed(const struct instance *instance)
{
	return instance->busy || instance->staged || instance->joins || instance->waiting || instance->put ||
	       instance->posts;
}

static void
blank_add(struct engine *engine, struct instance *instance)
{
	if (instance->blank)
		return;
	engine->blanks =
		memory_grow(engine->blanks, engine->blank_count, &engine->blank_room, sizeof(struct instance *));
	if (engine->blank_count == 0)
		engine->blanks_due_ms = clock_ms() + engine->limits.grace_ms;
	engine->blanks[engine->blank_count++] = instance;
	instance->blank = true;
	instance->blank_ms = clock_ms();
}

bool
blanks_are_due(const struct engine *engine, int64_t now)
{
	return engine->blank_count > BLANKS_MAX || (engine->blank_count && now >= engine->blanks_due_ms);
}

void
instance_unblank(struct engine *engine, struct instance *instance)
{
	size_t i = engine->blank_count - 1; /* when many go at once, they go from the end */
	while (engine->blanks[i] != instance)
		i--;
	engine->blanks[i] = engine->blanks[--engine->blank_count];
	instance->blank = false;
}

/* A shared one that nobody ever changed is not worth its row once nobody has been joined to it for a while: who comes
 * back by then finds its history. */
void
instance_forget(struct engine *engine, struct instance *instance)
{
	if (is_needed(instance) || instance->dead)
		return;
	if (!instance->row.id)
		instance_free(engine, instance);
	else if (instance->row.shared && instance->row.revision == 0)
		blank_add(engine, instance);
	else if (!instance->loaded && !instance->due_ms)
		instance_free(engine, instance);
}

void
instance_die(struct engine *engine, struct instance *instance)
{
	if (!instance->dead && !instance->deleted && instance->row.id)
		numbers_add(&engine->dead_instances, instance->row.id);
	instance->dead = true;
	if (!is_needed(instance))
		instance_free(engine, instance);
}

void
instance_discard(struct engine *engine, struct instance *instance)
{
	if (instance->busy) {
		instance->stale = true;
		return;
	}
	instance->stale = false;
	instance->deleted = false;
	unload(engine, instance);
	instance->next = instance->row;
	instance->revision = instance->row.revision;
	instance->version = instance->row.version;
	instance->schema = instance->row.schema;
	if (instance->dead)
		instance_die(engine, instance);
	else
		instance_forget(engine, instance);
}

/* Its row has gone: it is to be born again, if at all. */
void
instance_unborn(struct engine *engine, struct instance *instance)
{
	watch_fire(engine, instance, NOTHING_NEEDED);
	table_remove_number(engine->instances_by_id, instance->row.id);
	if (instance->blank)
		instance_unblank(engine, instance);
	instance_unschedule(engine, instance);
	instance->unwritten = 0;
	instance->row = (struct store_instance){
		.topic = instance->row.topic,
		.shared = true,
		.epoch = random_number(),
		.schema = instance->channel->state_schema,
	};
	instance->schema = instance->row.schema;
	if (!instance->staged)
		instance_discard(engine, instance);
}

void
instances_trim(struct engine *engine)
{
	struct instance *instance = engine->used_last;
	while (instance && engine->cache_bytes > engine->limits.cache_bytes) {
		struct instance *next = instance->used_previous;
		if (!instance->busy && !instance->staged && instance->row.id && !instance->put) {
			unload(engine, instance);
			instance_forget(engine, instance);
		}
		instance = next;
	}
}

/* --- being written --- */

/* Called in the transaction that appends row `number`. */
void
instance_changed(struct engine *engine, struct instance *instance, int64_t number, size_t bytes)
{
	int64_t now = clock_ms();
	instance->changed_ms = now;
	instance->log_bytes += bytes;
	if (!instance->unwritten)
		instance->unwritten = number;
	int64_t due = instance->written_ms + WRITE_AFTER_MS;
	if (!instance->due_ms || due < instance->due_ms)
		instance_schedule(engine, instance, due > now ? due : now);
}

static bool
state_is_due(const struct instance *instance, int64_t now, bool all)
{
	if (!instance->loaded || instance->busy || instance->stale ||
	    instance->next.state_revision == instance->next.revision)
		return false;
	return all || instance->state_bytes <= STATE_SMALL || instance->log_bytes >= instance->state_bytes ||
	       now - instance->changed_ms >= QUIET_MS;
}

bool
instance_large_due(const struct instance *instance, int64_t now)
{
	if (!instance->loaded) /* after a kill: nobody knows yet */
		return instance->next.state_revision != instance->next.revision;
	return instance->state_bytes > STATE_SMALL && state_is_due(instance, now, false);
}

static void
put_add(struct engine *engine, struct instance *instance)
{
	engine->puts =
		memory_grow(engine->puts, engine->put_count, &engine->put_room, sizeof(struct instance *));
	engine->puts[engine->put_count++] = instance;
	instance->put = true;
}

/* Up to which row is every instance's own row and state written, by the transaction being made? */
int64_t
instances_written(const struct engine *engine, int64_t last)
{
	int64_t written = last;
	for (const struct instance *i = engine->due_first; i; i = i->due_next) {
		bool done = i->put && i->next.state_revision == i->next.revision;
		if (i->unwritten && !done && i->unwritten <= written)
			written = i->unwritten - 1;
	}
	return written;
}

/* Writes what is due of an instance.  A busy one's state is the callback's: it is written later. */
enum store_status
instance_write(struct engine *engine, struct instance *instance, bool all)
{
	const char *state = NULL;
	size_t len = 0;
	if (instance->put || instance->deleted || instance->dead || instance->stale)
		return STORE_OK;
	if (instance->next.state_revision != instance->next.revision && !instance->busy)
		instance_load(engine, instance); /* after a kill: the stored state lags behind the log */
	if (state_is_due(instance, clock_ms(), all)) {
		state = json_text(instance->edit.document, &len);
		instance_reckon(engine, instance, len);
		instance->next.state_revision = instance->next.revision;
		instance->next.state_version = instance->next.version;
	}
	put_add(engine, instance);
	instance->state_put = state != NULL;
	return store_instance_put(engine->store, &instance->next, state);
}

static void
put_done(struct engine *engine, struct instance *instance, int64_t now)
{
	instance->row = instance->next;
	instance->written_ms = now;
	if (instance->row.state_revision == instance->row.revision)
		instance->unwritten = 0;
	if (instance->state_put)
		instance->log_bytes = 0;
	instance_unschedule(engine, instance);
	if (instance->row.state_revision != instance->row.revision && !instance->dead)
		instance_schedule(engine, instance, now + QUIET_MS);
}

static void
put_undone(struct engine *engine, struct instance *instance, int64_t now)
{
	instance->next = instance->row;
	instance_schedule(engine, instance, now + QUIET_MS);
}

void
instances_put(struct engine *engine, bool committed)
{
	int64_t now = clock_ms();
	for (size_t i = 0; i < engine->put_count; i++) {
		struct instance *instance = engine->puts[i];
		instance->put = false;
		if (committed)
			put_done(engine, instance, now);
		else
			put_undone(engine, instance, now);
		if (instance->dead)
			instance_die(engine, instance);
		else
			instance_forget(engine, instance);
	}
	engine->put_count = 0;
}
