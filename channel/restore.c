#include <string.h>

#include "engine_internal.h"
#include "json.h"

static bool
restore_socket(void *context, const struct store_socket *row)
{
	struct engine *engine = context;
	struct socket *socket = socket_new(engine, row);
	socket->floor = 0; /* see need_all */
	return true;
}

static bool
restore_join(void *context, const struct store_join *row)
{
	struct engine *engine = context;
	struct socket *socket = table_find_number(engine->sockets_by_id, row->socket);
	if (!socket)
		return true;
	struct instance *instance = instance_by_id(engine, row->instance);
	if (!instance && !row->ended)
		return true; /* its channel is not served any more */
	if (row->ended && instance && !instance->row.shared)
		instance = NULL; /* another join has taken its place, or it is to be ended */
	struct join *join = join_new(socket, row->topic, row->join_ref, (int)row->wants, instance);
	join_give_assigns(join, json_read(row->assigns));
	join->number = row->number;
	join->instance_id = row->instance;
	join_attach(join);
	if (row->ended)
		join_ended(engine, join, row->ended);
	else if (join->wants & JOIN_REQUESTS)
		socket_idle(engine, socket, instance->channel);
	return true;
}

/* Instances whose rows or states lag behind the log. */
static bool
restore_instance(void *context, const struct store_record *row)
{
	struct engine *engine = context;
	struct instance *instance = instance_by_id(engine, row->instance);
	if (!instance)
		return true;
	instance_follow(engine, instance, row);
	instance_discard(engine, instance);
	return true;
}

struct marks {
	struct engine *engine;
	int64_t since_ms;
};

/* Which messages are done, as far back as one may come again. */
static bool
restore_mark(void *context, const struct store_record *row)
{
	struct marks *marks = context;
	struct socket *socket = table_find_number(marks->engine->sockets_by_id, row->socket);
	if (socket && row->message > socket->done)
		socket->done = socket->seen = row->message;
	return row->time_ms >= marks->since_ms;
}

static bool
oldest_row(void *context, const struct store_record *row)
{
	struct engine *engine = context;
	engine->oldest = row->number;
	return false;
}

/* Nothing is pruned until each socket was reported or has ended. */
static void
need_all(struct engine *engine)
{
	for (struct socket *s = engine->sockets; s; s = s->next)
		if (!s->until_ms)
			s->floor = engine->oldest;
}

static enum store_status
read_log(struct engine *engine)
{
	struct marks marks = {engine, clock_unix_ms() - engine->limits.marks_ms};
	enum store_status status =
		store_scan(engine->store, engine->written, engine->last, restore_instance, engine);
	if (status == STORE_OK)
		status = store_scan_back(engine->store, restore_mark, &marks);
	if (status == STORE_OK)
		status = keys_read(engine);
	engine->oldest = engine->last + 1;
	if (status == STORE_OK)
		status = store_scan(engine->store, 0, engine->last, oldest_row, engine);
	need_all(engine);
	return status;
}

bool
engine_restore_guest(struct engine *engine)
{
	engine->guest = true;
	enum store_status status = store_last(engine->store, &engine->last);
	if (status == STORE_OK)
		status = store_mark_get(engine->store, STORE_MARK_WRITTEN, &engine->written);
	if (status == STORE_OK)
		status = store_scan(engine->store, engine->written, engine->last, restore_instance, engine);
	engine->oldest = engine->last + 1;
	if (status != STORE_OK)
		engine_log(engine, "the database cannot be read: %s", store_message(engine->store));
	return status == STORE_OK;
}

bool
engine_restore(struct engine *engine)
{
	enum store_status status = store_last(engine->store, &engine->last);
	if (status == STORE_OK)
		status = store_mark_get(engine->store, STORE_MARK_WRITTEN, &engine->written);
	if (status == STORE_OK)
		status = store_scan_sockets(engine->store, restore_socket, engine);
	if (status == STORE_OK)
		status = store_scan_joins(engine->store, restore_join, engine);
	if (status == STORE_OK)
		status = read_log(engine);
	if (status != STORE_OK)
		engine_log(engine, "the database cannot be read: %s", store_message(engine->store));
	return status == STORE_OK;
}
