#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"
#include "json.h"
#include "memory.h"

/* The newest commit that can have had bytes for a socket; never too low. */
static int64_t
newest_for(const struct socket *socket)
{
	int64_t newest = 0;
	for (const struct join *join = socket->joins; join; join = join->next_of_socket) {
		int64_t number = join->ended ? join->ended : join->number;
		if (!join->ended && join->instance && join->instance->row.last_commit > number)
			number = join->instance->row.last_commit;
		if (number > newest)
			newest = number;
	}
	return newest;
}

struct fill {
	struct engine *engine;
	struct commit_result *result;
	struct record *record; /* the present row's copy, once it is needed */
};

static bool
lacks(const struct socket *socket, int64_t number)
{
	return socket->fill && number > socket->position;
}

/* The topic of a row that the socket is to be told of. */
static const char *
topic_of(const struct store_record *row, const struct socket *socket)
{
	for (const struct join *join = socket->joins; join; join = join->next_of_socket)
		if (join->number == row->number || (row->instance && join->instance_id == row->instance))
			return join->topic;
	return NULL;
}

static void
fill_one(struct fill *fill, const struct store_record *row, struct socket *socket)
{
	const char *topic = topic_of(row, socket);
	if (!topic)
		return; /* a join that was forgotten: pruned, so it was delivered */
	if (!fill->record) {
		fill->record = record_copy(row);
		fill->record->topic = memory_strdup(topic);
		record_find_state(fill->engine, fill->record);
	}
	deliver(fill->result, fill->record, socket, socket->last)->by_link = socket->link && !socket->behind;
	socket->last = row->number;
}

static bool
was_joined(const struct join *join, int64_t number)
{
	return join->socket && join->number < number && (!join->ended || join->ended > number);
}

/* The addressees of a row as of its commit: its cause, and for an event all that were joined then. */
static bool
fill_row(void *context, const struct store_record *row)
{
	struct fill *fill = context;
	struct socket *cause = table_find_number(fill->engine->sockets_by_id, row->socket);
	struct instance *instance = NULL;
	fill->record = NULL;
	if (cause && lacks(cause, row->number))
		fill_one(fill, row, cause);
	if (row->kind == STORE_EVENT)
		instance = table_find_number(fill->engine->instances_by_id, row->instance);
	for (struct join *j = instance ? instance->joins : NULL; j; j = j->next_of_instance)
		if (was_joined(j, row->number) && j->socket != cause && lacks(j->socket, row->number))
			fill_one(fill, row, j->socket);
	record_free(fill->record);
	return true;
}

static void
filled(struct socket *socket)
{
	socket->fill = false;
	socket->known = !socket->behind;
	if (!socket->behind)
		socket->floor = NOTHING_NEEDED;
}

static int64_t
begin_fill(struct socket *list)
{
	int64_t from = INT64_MAX;
	for (struct socket *s = list; s; s = s->next_fill) {
		s->last = s->position;
		if (newest_for(s) > s->position && s->position < from)
			from = s->position;
	}
	return from;
}

/* One reading of the log serves all sockets that lack something. */
void
fill_sockets(struct engine *engine, struct commit_result *result)
{
	struct fill fill = {.engine = engine, .result = result};
	struct socket *list = engine->fills;
	if (!list || clock_ms() < engine->fill_retry_ms)
		return;
	engine->fills = NULL;
	int64_t from = begin_fill(list);
	enum store_status status = STORE_OK;
	if (from < engine->last)
		status = store_scan(engine->store, from, engine->last, fill_row, &fill);
	if (status != STORE_OK) {
		engine_log(engine, "the log cannot be read: %s", store_message(engine->store));
		engine->fill_retry_ms = clock_ms() + RETRY_MS;
		engine->fills = list;
		return;
	}
	for (struct socket *s = list, *next; s; s = next) {
		next = s->next_fill;
		filled(s);
	}
}

static bool
state_row(void *context, const struct store_record *row)
{
	struct record *record = context;
	if (row->state)
		record->state_of = record_copy(row);
	return false;
}

/* A row whose state stands in an earlier one. */
void
record_find_state(struct engine *engine, struct record *record)
{
	json_object *detail = record->row.state ? NULL : json_read(record->row.detail);
	json_object *number = NULL;
	if (json_object_object_get_ex(detail, "state_of", &number)) {
		int64_t at = json_object_get_int64(number);
		store_history(engine->store, at, state_row, record); /* not store_scan, which may be running */
	}
	json_object_put(detail);
}
