/*
 * What a join or its end leads to besides is written in the same transaction, as timers that are due at once
 * (or after a grace time): so it happens once, whatever is killed.
 */
#include <stdlib.h>

#include "clock.h"
#include "engine_internal.h"
#include "json.h"
#include "memory.h"
#include "random.h"

#define PRESENCE_GRACE_MS 5000

/* detail is taken. */
static enum store_status
write_hook(struct engine *engine, int64_t instance, enum post_kind kind, json_object *detail,
           int64_t delay_ms)
{
	struct store_timer row = {
		.id = random_number(),
		.instance = instance,
		.kind = kind,
		.due_ms = clock_unix_ms() + delay_ms,
		.payload = json_text(detail, NULL),
	};
	enum store_status status = store_timer_add(engine->store, &row);
	json_object_put(detail);
	engine->posts_look = true;
	return status;
}

static json_object *
join_detail(int64_t join)
{
	json_object *detail = json_object_new_object();
	json_object_object_add(detail, "join", json_object_new_int64(join));
	return detail;
}

/* What a callback is to know of a join that may have ended. */
static void
add_client(json_object *detail, const char *token, json_object *assigns)
{
	json_object_object_add(detail, "socket", json_object_new_string(token));
	json_object_object_add(detail, "assigns", json_object_get(assigns));
}

/* --- idle --- */

/* One for an instance: the time begins anew. */
static enum store_status
write_idle(struct engine *engine, const struct seance_channel *channel, int64_t instance)
{
	if (channel->idle_ttl <= 0 || channel->scope != SEANCE_SHARED)
		return STORE_OK;
	enum store_status status = store_timer_delete_kind(engine->store, instance, POST_IDLE);
	if (status != STORE_OK)
		return status;
	return write_hook(engine, instance, POST_IDLE, NULL, (int64_t)channel->idle_ttl * 1000);
}

enum store_status
hooks_write_birth(struct engine *engine, const struct instance *instance)
{
	return write_idle(engine, instance->channel, instance->next.id);
}

/* --- joins --- */

enum store_status
hooks_write_join(struct engine *engine, const struct staged *staged)
{
	const struct join *join = staged->join;
	const struct instance *instance = join->instance;
	int64_t number = staged->record->row.number;
	enum store_status status = STORE_OK;
	if (!instance || staged->takes)
		return status;
	if (instance->channel->join) {
		json_object *detail = join_detail(number);
		json_object_object_add(detail, "payload", json_object_get(staged->message->payload));
		add_client(detail, join->socket->row.token, join->assigns);
		status = write_hook(engine, instance->next.id, POST_JOINED, detail, 0);
	}
	if (status == STORE_OK && instance->channel->presence)
		status = write_hook(engine, instance->next.id, POST_PRESENT, join_detail(number), 0);
	return status;
}

enum store_status
hooks_write_assigns(struct engine *engine, const struct staged *staged)
{
	if (!staged->instance->channel->presence)
		return STORE_OK;
	return write_hook(engine, staged->instance->next.id, POST_PRESENT,
	                  join_detail(staged->assigner->number), 0);
}

/* --- their ends --- */

static int64_t
grace_ms(const struct seance_channel *channel)
{
	if (channel->presence_grace_ms < 0)
		return 0;
	return channel->presence_grace_ms ? channel->presence_grace_ms : PRESENCE_GRACE_MS;
}

static enum store_status
write_end(struct engine *engine, const struct departure *departure, const char *reason)
{
	const struct seance_channel *channel = departure->channel;
	enum store_status status = write_idle(engine, channel, departure->instance);
	if (status == STORE_OK && channel->terminate) {
		json_object *detail = join_detail(departure->join);
		json_object_object_add(detail, "reason", json_object_new_string(reason));
		add_client(detail, departure->token, departure->assigns);
		status = write_hook(engine, departure->instance, POST_LEFT, detail, 0);
	}
	if (status == STORE_OK && channel->presence)
		status = write_hook(engine, departure->instance, POST_ABSENT, join_detail(departure->join),
		                    grace_ms(channel));
	return status;
}

static const char *
reason_of(const struct staged *staged)
{
	switch (staged->record->row.kind) {
	case STORE_LEAVE:
		return "left";
	case STORE_CRASH:
		return "crashed";
	default:
		return "replaced"; /* by another join of its socket */
	}
}

enum store_status
hooks_write_end(struct engine *engine, const struct staged *staged)
{
	const struct join *join = staged->ends;
	if (!join->instance)
		return STORE_OK;
	const struct departure departure = {
		.channel = join->instance->channel,
		.instance = join->instance_id,
		.join = join->number,
		.token = (char *)join->socket->row.token,
		.assigns = join->assigns,
	};
	return write_end(engine, &departure, reason_of(staged));
}

void
departure_add(struct engine *engine, const struct join *join)
{
	const struct seance_channel *channel = join->instance->channel;
	if (!channel->terminate && !channel->presence && channel->idle_ttl <= 0)
		return;
	engine->departures = memory_grow(engine->departures, engine->departure_count,
	                                 &engine->departure_room, sizeof(*engine->departures));
	engine->departures[engine->departure_count++] = (struct departure){
		.channel = channel,
		.instance = join->instance_id,
		.join = join->number,
		.token = memory_strdup(join->socket->row.token),
		.assigns = json_object_get(join->assigns),
	};
}

enum store_status
hooks_write_departures(struct engine *engine)
{
	enum store_status status = STORE_OK;
	for (size_t i = 0; i < engine->departure_count && status == STORE_OK; i++)
		status = write_end(engine, &engine->departures[i], "closed");
	return status;
}

void
departures_forget(struct engine *engine)
{
	for (size_t i = 0; i < engine->departure_count; i++) {
		free(engine->departures[i].token);
		json_object_put(engine->departures[i].assigns);
	}
	engine->departure_count = 0;
}
