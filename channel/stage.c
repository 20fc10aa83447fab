/* What callbacks did, as rows for the next transaction. */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"
#include "json.h"
#include "memory.h"
#include "since.h"

struct staged *
staged_add(struct engine *engine)
{
	engine->staged =
		memory_grow(engine->staged, engine->staged_count, &engine->staged_room, sizeof(*engine->staged));
	struct staged *staged = &engine->staged[engine->staged_count++];
	*staged = (struct staged){0};
	return staged;
}

void
staged_release(struct staged *staged)
{
	record_free(staged->record);
	if (staged->join && staged->join->number == 0)
		join_free(staged->join);
	json_object_put(staged->assigns);
	effects_release(&staged->effects);
	free(staged->refused);
	presence_change_free(staged->presence);
	free(staged->birth);
}

struct staged *
stage(struct engine *engine, struct message *message, enum store_kind kind, struct instance *instance,
      const char *join_ref)
{
	struct staged *staged = staged_add(engine);
	struct record *record = record_new(kind);
	staged->message = message;
	staged->record = record;
	staged->instance = instance;
	record->topic = memory_strdup(message->topic ? message->topic : "");
	record->row.socket = message->socket ? message->socket->row.id : 0;
	record->row.message = message->number;
	record->row.time_ms = clock_unix_ms();
	record_set(&record->row.ref, message->ref);
	record_set(&record->row.join_ref, join_ref);
	if (kind == STORE_EVENT)
		record_set(&record->row.event, message->event);
	if (instance) {
		instance->staged++;
		record->epoch = instance->row.epoch;
		record->row.instance = instance->row.id;
		record->row.revision = instance->revision;
		record->row.version = instance->version;
	}
	return staged;
}

static void
stage_assigns(struct staged *staged, struct join *join, struct seance_call *call)
{
	if (!call->assigned)
		return;
	staged->assigner = join;
	staged->assigns = call_take_assigns(call);
	join_stage_assigns(join, json_object_get(staged->assigns));
}

void
stage_effects(struct staged *staged, struct seance_call *call)
{
	staged->effects = call->effects;
	call->effects = (struct effects){0};
}

static void
stage_events(struct staged *staged, struct seance_call *call)
{
	if (call->events)
		record_set(&staged->record->row.events, json_text(call->events, NULL));
}

int64_t
state_rows(const struct engine *engine)
{
	return engine->limits.log_rows / 2 < STATE_ROWS ? engine->limits.log_rows / 2 : STATE_ROWS;
}

/* Half of that, because rows that are staged before this one have no number yet. */
static bool
is_near(const struct engine *engine, const struct record *known)
{
	return !known->row.number || engine->last - known->row.number <= state_rows(engine) / 2;
}

static void
set_state(struct engine *engine, struct record *record, struct instance *instance)
{
	record_take(&record->row.state, show_text(instance));
	if (!instance->channel->encode)
		instance_reckon(engine, instance, strlen(record->row.state));
}

/*
 * The full state goes into the row, as text; a large one only if no earlier row of the same revision,
 * a near one, has it already.
 */
void
stage_state(struct engine *engine, struct staged *staged, struct instance *instance)
{
	struct record *known = instance->state_record;
	if (known && known->row.revision == instance->revision && is_near(engine, known)) {
		const char *shown = known->row.built ? known->row.built : known->row.state;
		if (strlen(shown) <= STATE_SMALL)
			record_set(known->row.built ? &staged->record->row.built : &staged->record->row.state,
			           shown);
		else
			staged->record->state_of = record_use(known);
		return;
	}
	if (instance->built)
		record_set(&staged->record->row.built, instance->built);
	else
		set_state(engine, staged->record, instance);
	record_free(known);
	instance->state_record = record_use(staged->record);
}

int64_t
instance_next_version(const struct instance *instance)
{
	unsigned max = instance->channel->max_version;
	if (max == 0)
		max = SEANCE_MAX_VERSION;
	return instance->version >= (int64_t)max ? 0 : instance->version + 1;
}

static char *
operations_text(const struct buffer *operations)
{
	char *text = memory_alloc(operations->len + 3);
	text[0] = '[';
	if (operations->len > 0)
		memcpy(text + 1, operations->at, operations->len);
	memcpy(text + 1 + operations->len, "]", 2);
	return text;
}

/* What clients are told of the change, where that is not the operations as they are. */
static void
stage_told(struct record *record, const struct patch_edit *edit, const struct shown *shown)
{
	if (shown->update)
		record_set(&record->row.built, shown->update);
	else if (shown->full)
		record_set(&record->row.state, shown->full);
	else if (shown->told)
		record_set(&record->row.told, shown->told);
	else if (edit->otherwise)
		record_take(&record->row.told, operations_text(&edit->told));
}

struct staged *
stage_event(struct engine *engine, struct message *message, struct instance *instance, struct join *join,
            struct seance_call *call)
{
	instance->revision++;
	instance->version = instance_next_version(instance);
	struct staged *staged = stage(engine, message, STORE_EVENT, instance, join ? join->join_ref : NULL);
	record_take(&staged->record->row.operations, operations_text(&instance->edit.operations));
	record_set(&staged->record->row.key, message->row_key);
	if (message->row_key)
		keys_stage(engine, message->row_key);
	if (!instance->row.id) /* nobody is joined: its first row */
		staged->birth = memory_strdup(json_text(instance->edit.document, NULL));
	stage_told(staged->record, &instance->edit, &call->shown);
	patch_edit_accept(&instance->edit);
	show_take(instance, &call->shown);
	stage_events(staged, call);
	stage_effects(staged, call);
	if (join)
		stage_assigns(staged, join, call);
	return staged;
}

void
stage_crash(struct engine *engine, struct message *message, struct join *join)
{
	stage(engine, message, STORE_CRASH, join->instance, join->join_ref)->ends = join;
}

void
stage_detail(struct staged *staged, json_object *detail)
{
	if (json_object_object_length(detail) > 0)
		record_set(&staged->record->row.detail, json_text(detail, NULL));
	json_object_put(detail);
}

/* What a join's row says besides: {"close": join_ref of its socket's join before, "missed": ..., ...}; owned. */
static json_object *
join_detail(const struct join *replaced)
{
	json_object *detail = json_object_new_object();
	if (replaced)
		json_object_object_add(detail, "close", json_read(replaced->join_ref));
	return detail;
}

/* What is stored at first is the state itself, whatever clients are shown. */
void
stage_birth(struct staged *staged)
{
	const struct instance *instance = staged->instance;
	const char *told = staged->record ? staged->record->row.state : NULL;
	bool other = !told || show_is_other(instance);
	staged->birth = memory_strdup(other ? json_text(instance->edit.document, NULL) : told);
}

/* {"version", "revision", "operations", "events"} */
static void
add_missed_row(json_object *rows, const struct store_record *row)
{
	json_object *missed = json_object_new_object();
	json_object_object_add(missed, "version", json_object_new_int64(row->version));
	json_object_object_add(missed, "revision", json_object_new_int64(row->revision));
	json_object_object_add(missed, "operations", json_read(since_told(row)));
	if (row->events)
		json_object_object_add(missed, "events", json_read(row->events));
	json_object_array_add(rows, missed);
}

/*
 * Those of the log, and those that stand before the join in the same transaction; oldest first; owned.  NULL: one is
 * not told by a patch.
 */
static json_object *
missed_rows(const struct engine *engine, const struct instance *instance, const struct since *since)
{
	bool are_patches = true;
	json_object *rows = json_object_new_array();
	for (size_t i = since->count; i-- > 0;)
		add_missed_row(rows, &since->records[i]->row);
	for (size_t i = 0; i < engine->staged_count; i++) {
		const struct staged *staged = &engine->staged[i];
		if (staged->instance != instance || !staged->record || staged->record->row.kind != STORE_EVENT)
			continue;
		are_patches = are_patches && since_is_patch(&staged->record->row);
		add_missed_row(rows, &staged->record->row);
	}
	if (are_patches)
		return rows;
	json_object_put(rows);
	return NULL;
}

/* What a join that knows an earlier state is told in place of the state; false: it cannot be. */
static bool
add_missed(struct engine *engine, const struct message *message, const struct instance *instance,
           json_object *detail)
{
	struct since since = {0};
	json_object *rows = NULL;
	if (message->has_since && instance->channel->message_builder == SEANCE_PATCHES &&
	    since_read(engine, instance, message->since_epoch, message->since_revision,
	               instance->row.revision, &since))
		rows = missed_rows(engine, instance, &since);
	if (rows)
		json_object_object_add(detail, "missed", rows);
	since_release(&since);
	return rows != NULL;
}

void
stage_join(struct engine *engine, struct message *message, struct instance *instance,
           const struct join *taken, struct seance_call *call)
{
	struct join *replaced = socket_join(message->socket, message->topic);
	json_object *detail = join_detail(replaced);
	bool resumes = add_missed(engine, message, instance, detail);
	struct staged *staged = stage(engine, message, STORE_JOIN, instance, message->join_ref);
	staged->ends = replaced == taken ? NULL : replaced;
	staged->takes = taken ? taken->number : 0;
	instance->settling = taken != NULL;
	staged->join = join_new(message->socket, message->topic, message->join_ref,
	                        message->wants | (instance->row.shared ? 0 : JOIN_PRIVATE), instance);
	if (!resumes)
		stage_state(engine, staged, instance);
	if (!instance->row.id)
		stage_birth(staged);
	stage_detail(staged, detail);
	stage_events(staged, call);
	stage_effects(staged, call);
	join_give_assigns(staged->join, call_take_assigns(call));
	if (message->wants & JOIN_REQUESTS) {
		socket_idle(engine, message->socket, instance->channel);
		visit_answer_join(message, instance);
	}
}

void
stage_failed_join(struct engine *engine, struct message *message, const char *member, json_object *why)
{
	struct join *replaced = socket_join(message->socket, message->topic);
	struct staged *staged = stage(engine, message, STORE_JOIN, NULL, message->join_ref);
	json_object *detail = join_detail(replaced);
	json_object_object_add(detail, member, why);
	if (message->visit)
		visit_answer_nothing(message->visit);
	staged->ends = replaced;
	staged->join = join_new(message->socket, message->topic, message->join_ref, 0, NULL);
	stage_detail(staged, detail);
}

struct staged *
stage_rowless(struct engine *engine, struct message *message, struct instance *instance)
{
	struct staged *staged = staged_add(engine);
	staged->message = message;
	staged->instance = instance;
	if (instance)
		instance->staged++;
	return staged;
}
