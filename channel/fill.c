#include <string.h>

#include "engine_internal.h"
#include "json.h"
#include "memory.h"

/* The newest commit that can have had bytes for a socket; never too low. */
static int64_t
newest_for(const struct engine *engine, const struct socket *socket)
{
	int64_t newest = 0;
	if (socket->polled)
		return engine->last;
	for (const struct join *join = socket->joins; join; join = join->next_of_socket) {
		int64_t number = join->ended ? join->ended : join->number;
		if (!join->ended && join->instance && join->instance->row.last_commit > number)
			number = join->instance->row.last_commit;
		if (number > newest)
			newest = number;
	}
	return newest;
}

struct fill;
typedef void fill_fn(struct fill *fill, const struct store_record *row, struct socket *socket);

struct fill {
	struct engine *engine;
	struct commit_result *result;
	fill_fn *each;         /* for a row and a socket that lacks it */
	struct record *record; /* the present row's copy, once it is needed */
};

static bool
lacks(const struct socket *socket, int64_t number)
{
	return socket->fill && number > socket->position;
}

static bool
is_about(const struct store_record *row, const struct join *join)
{
	return join->number == row->number ||
	       (row->instance && join->instance_id == row->instance && join->number < row->number &&
	        (!join->ended || join->ended >= row->number));
}

/* The join of a row that the socket is to be told of. */
static const struct join *
join_of(const struct store_record *row, const struct socket *socket)
{
	for (const struct join *join = socket->joins; join; join = join->next_of_socket)
		if (is_about(row, join))
			return join;
	return NULL;
}

static void
measure(struct fill *fill, const struct store_record *row, struct socket *socket)
{
	(void)fill;
	if (socket->catch_up)
		catch_up_measure(row, socket);
}

static void
fill_one(struct fill *fill, const struct store_record *row, struct socket *socket)
{
	const struct join *join = join_of(row, socket);
	if (!join && row->kind != STORE_ANSWER)
		return; /* a join that was forgotten: pruned, so it was delivered */
	if (!fill->record) {
		fill->record = record_copy(row);
		fill->record->topic = memory_strdup(join ? join->topic : "");
		fill->record->epoch = join && join->instance ? join->instance->row.epoch : 0;
		record_find_state(fill->engine, fill->record);
	}
	if (join && catch_up_covers(socket, row->number)) {
		catch_up_add(socket, fill->record, join->wants);
		return;
	}
	if (socket->polled && !poll_takes(socket, fill->record))
		return;
	deliver(fill->result, fill->record, socket, join ? join->wants : 0, socket->last)->by_link =
		socket->link && !socket->behind;
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
		fill->each(fill, row, cause);
	if (record_is_public(row->kind))
		instance = table_find_number(fill->engine->instances_by_id, row->instance);
	for (struct join *j = instance ? instance->joins : NULL; j; j = j->next_of_instance)
		if (was_joined(j, row->number) && j->socket != cause && lacks(j->socket, row->number))
			fill->each(fill, row, j->socket);
	record_free(fill->record);
	return true;
}

static void
filled(struct socket *socket, struct commit_result *result)
{
	if (socket->catch_up)
		catch_up_end(socket, result);
	socket->fill = false;
	socket->known = !socket->behind;
	if (socket->polled) {
		poll_filled(socket);
	} else if (!socket->behind) {
		socket->floor = NOTHING_NEEDED;
		socket->lagged = false;
	}
}

static int64_t
begin_fill(struct engine *engine, struct socket *list)
{
	int64_t from = INT64_MAX;
	for (struct socket *s = list; s; s = s->next_fill) {
		int64_t lowest = s->polled ? s->from : s->position;
		if (newest_for(engine, s) > lowest && lowest < from)
			from = lowest;
		s->last = s->position;
		if (s->polled)
			poll_begin_fill(engine, s);
	}
	return from;
}

/* Only over the link: an answer must hold the units that its message led to. */
static bool
may_catch_up(const struct engine *engine, const struct socket *socket)
{
	if (!socket->lagged || !socket->link || socket->behind)
		return false;
	for (const struct message *m = engine->answered; m; m = m->next)
		if (m->socket == socket)
			return false;
	return true;
}

static enum store_status
scan(struct engine *engine, int64_t from, struct fill *fill, fill_fn *each)
{
	fill->each = each;
	return store_scan(engine->store, from, engine->last, fill_row, fill);
}

/* A reading of the log beforehand, for those that may be told in few words. */
static enum store_status
plan_catch_ups(struct engine *engine, struct socket *list, int64_t from, struct fill *fill)
{
	enum store_status status = STORE_OK;
	bool any = false;
	for (struct socket *s = list; s; s = s->next_fill) {
		if (may_catch_up(engine, s)) {
			catch_up_begin(s, s->position);
			any = true;
		}
	}
	if (any)
		status = scan(engine, from, fill, measure);
	for (struct socket *s = list; s && any; s = s->next_fill)
		if (s->catch_up)
			catch_up_decide(engine, s);
	return status;
}

static void
try_again(struct engine *engine, struct socket *list)
{
	engine_log(engine, "the log cannot be read: %s", store_message(engine->store));
	engine->fill_retry_ms = clock_ms() + RETRY_MS;
	engine->fills = list;
	for (struct socket *s = list; s; s = s->next_fill)
		catch_up_drop(s);
}

static enum store_status
read_log(struct engine *engine, struct socket *list, int64_t from, struct fill *fill)
{
	enum store_status status = plan_catch_ups(engine, list, from, fill);
	return status == STORE_OK ? scan(engine, from, fill, fill_one) : status;
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
	int64_t from = begin_fill(engine, list);
	enum store_status status = STORE_OK;
	if (from < engine->last)
		status = read_log(engine, list, from, &fill);
	if (status != STORE_OK) {
		try_again(engine, list);
		return;
	}
	for (struct socket *s = list, *next; s; s = next) {
		next = s->next_fill;
		filled(s, result);
	}
}

static bool
state_row(void *context, const struct store_record *row)
{
	struct record *record = context;
	if (row->state || row->built)
		record->state_of = record_copy(row);
	return false;
}

/* A row whose state stands in an earlier one. */
void
record_find_state(struct engine *engine, struct record *record)
{
	bool carries = record->row.state || record->row.built;
	json_object *detail = carries ? NULL : json_read(record->row.detail);
	json_object *number = NULL;
	if (json_object_object_get_ex(detail, "state_of", &number)) {
		int64_t at = json_object_get_int64(number);
		store_history(engine->store, at, state_row, record); /* not store_scan, which may be running */
	}
	json_object_put(detail);
}
