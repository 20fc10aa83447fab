#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"
#include "memory.h"

static void
records_add(struct records *records, struct record *record, int wants)
{
	records->at = memory_grow(records->at, records->count, &records->room, sizeof(*records->at));
	records->at[records->count++] = (struct told){record, wants};
}

static void
records_release(struct records *records)
{
	for (size_t i = 0; i < records->count; i++)
		record_free(records->at[i].record);
	free(records->at);
}

void
catch_up_free(struct catch_up *catch_up)
{
	if (!catch_up)
		return;
	records_release(&catch_up->events);
	records_release(&catch_up->states);
	socket_unuse(catch_up->socket);
	free(catch_up);
}

void
catch_up_drop(struct socket *socket)
{
	catch_up_free(socket->catch_up);
	socket->catch_up = NULL;
}

void
catch_up_begin(struct socket *socket, int64_t position)
{
	struct catch_up *catch_up = memory_zeroed(1, sizeof(*catch_up));
	socket_use(socket);
	catch_up->socket = socket;
	catch_up->after = catch_up->cursor = position;
	socket->catch_up = catch_up;
}

static size_t
told_bytes(const struct store_record *row)
{
	const char *told = row->state ? row->state : row->told ? row->told : row->operations;
	return told ? strlen(told) : 0;
}

/* Joins, leaves and the like stay what they are: what is caught up with comes after the last of them. */
void
catch_up_measure(const struct store_record *row, struct socket *socket)
{
	struct catch_up *catch_up = socket->catch_up;
	catch_up->cursor = row->number;
	if (!record_is_public(row->kind)) {
		catch_up->after = row->number;
		catch_up->bytes = 0;
	} else {
		catch_up->bytes += told_bytes(row);
	}
}

/* Its state, as the newest row says; false when it cannot be told now. */
static bool
add_state(struct engine *engine, struct catch_up *catch_up, const struct join *join)
{
	struct instance *instance = join->instance;
	size_t len;
	if (instance->busy || instance->stale || instance->staged || !instance_load(engine, instance))
		return false;
	if (instance->channel->message_builder == SEANCE_OWN_MESSAGES || !show_is_known(instance))
		return false; /* what would be told is not at hand */
	struct record *record = record_new(STORE_REFRESH);
	record->topic = memory_strdup(join->topic);
	record->epoch = instance->row.epoch;
	record->row.revision = instance->row.revision;
	record->row.version = instance->row.version;
	record_take(&record->row.state, show_text(instance));
	len = strlen(record->row.state);
	records_add(&catch_up->states, record, join->wants);
	if (len > catch_up->bytes)
		return false;
	catch_up->bytes -= len;
	return true;
}

void
catch_up_decide(struct engine *engine, struct socket *socket)
{
	struct catch_up *catch_up = socket->catch_up;
	bool worth = catch_up->bytes >= engine->limits.catch_up_bytes;
	for (struct join *join = socket->joins; join && worth; join = join->next_of_socket)
		if (!join->ended && join->instance && join->instance->row.last_commit > catch_up->after)
			worth = add_state(engine, catch_up, join);
	if (!worth)
		catch_up_drop(socket);
}

bool
catch_up_covers(const struct socket *socket, int64_t number)
{
	return socket->catch_up && number > socket->catch_up->after;
}

void
catch_up_add(struct socket *socket, struct record *record, int wants)
{
	if (record->row.events || wants & JOIN_REPLIES)
		records_add(&socket->catch_up->events, record_use(record), wants);
}

void
catch_up_end(struct socket *socket, struct commit_result *result)
{
	result->catch_ups = memory_grow(result->catch_ups, result->catch_up_count, &result->catch_up_room,
	                                sizeof(struct catch_up *));
	result->catch_ups[result->catch_up_count++] = socket->catch_up;
	socket->last = socket->catch_up->cursor;
	socket->catch_up = NULL;
}
