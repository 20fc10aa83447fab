#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"
#include "json.h"
#include "memory.h"

/* --- sockets per address --- */

static void
address_add(struct engine *engine, const char *text)
{
	struct address *address = table_find_text(engine->addresses, text);
	if (!address) {
		address = memory_zeroed(1, sizeof(*address));
		address->text = memory_strdup(text);
		if (lh_table_insert(engine->addresses, address->text, address) != 0)
			abort();
	}
	address->sockets++;
}

static void
address_remove(struct engine *engine, const char *text, bool idle)
{
	struct address *address = table_find_text(engine->addresses, text);
	if (!address)
		return;
	address->idle -= idle;
	if (--address->sockets > 0)
		return;
	lh_table_delete(engine->addresses, address->text);
	free(address->text);
	free(address);
}

/* --- sockets --- */

static void
socket_link_in(struct engine *engine, struct socket *socket)
{
	socket->next = engine->sockets;
	if (socket->next)
		socket->next->previous = socket;
	engine->sockets = socket;
	engine->socket_count++;
}

static void
socket_link_out(struct engine *engine, struct socket *socket)
{
	if (socket->previous)
		socket->previous->next = socket->next;
	else
		engine->sockets = socket->next;
	if (socket->next)
		socket->next->previous = socket->previous;
	engine->socket_count--;
}

struct socket *
socket_new(struct engine *engine, const struct store_socket *row)
{
	struct socket *socket = memory_zeroed(1, sizeof(*socket));
	socket->row = *row;
	socket->row.token = memory_strdup(row->token);
	socket->row.address = memory_strdup(row->address);
	socket->row.assigns = NULL;
	socket->assigns = json_read(row->assigns);
	socket->unlinked_ms = clock_ms();
	socket->users = 1; /* the engine's own use, until it ends */
	socket_link_in(engine, socket);
	address_add(engine, socket->row.address);
	if (lh_table_insert(engine->sockets_by_token, socket->row.token, socket) != 0)
		abort();
	if (row->id)
		table_add_number(engine->sockets_by_id, row->id, socket);
	return socket;
}

void
socket_stored(struct engine *engine, struct socket *socket, int64_t id)
{
	socket->row.id = id;
	table_add_number(engine->sockets_by_id, id, socket);
}

void
socket_use(struct socket *socket)
{
	socket->users++;
}

void
socket_unuse(struct socket *socket)
{
	if (--socket->users > 0)
		return;
	json_object_put(socket->assigns);
	free((char *)socket->row.token);
	free((char *)socket->row.address);
	free(socket);
}

static void
fills_remove(struct engine *engine, struct socket *socket)
{
	struct socket **at = &engine->fills;
	while (*at && *at != socket)
		at = &(*at)->next_fill;
	if (*at)
		*at = socket->next_fill;
	socket->fill = false;
}

static void join_detach(struct engine *engine, struct join *join);

void
socket_unlink(struct engine *engine, struct socket *socket)
{
	int64_t handle = (int64_t)socket->handle;
	if (socket->link && table_find_number(engine->sockets_by_handle, handle) == socket)
		table_remove_number(engine->sockets_by_handle, handle);
	socket->link = NULL;
}

/* The rest of its life is over at once in memory; its rows go with the next transaction. */
void
socket_end(struct engine *engine, struct socket *socket)
{
	if (socket->ended)
		return;
	socket->ended = true;
	if (socket->polled)
		watch_fire_socket(engine, socket, NOTHING_NEEDED);
	if (socket->fill)
		fills_remove(engine, socket);
	while (socket->joins) {
		struct join *join = socket->joins;
		socket->joins = join->next_of_socket;
		join_detach(engine, join);
	}
	lh_table_delete(engine->sockets_by_token, socket->row.token);
	if (socket->row.id) {
		table_remove_number(engine->sockets_by_id, socket->row.id);
		numbers_add(&engine->ended_sockets, socket->row.id);
	}
	socket_unlink(engine, socket);
	engine->idle_count -= socket->until_ms != 0;
	address_remove(engine, socket->row.address, socket->until_ms != 0);
	socket_link_out(engine, socket);
	socket_unuse(socket);
}

/* --- lost, not left --- */

static bool
is_resumable(const struct join *join)
{
	return !join->ended && join->instance && !join->instance->row.shared &&
	       join->instance->channel->resume_ttl > 0 && join->wants & JOIN_RESUMES;
}

struct join *
join_resumable(const struct instance *instance)
{
	for (struct join *join = instance->joins; join; join = join->next_of_instance)
		if (is_resumable(join))
			return join;
	return NULL;
}

/* In seconds; 0: there is nothing to come back to. */
static int
resume_ttl(const struct socket *socket)
{
	int ttl = 0;
	for (const struct join *join = socket->joins; join; join = join->next_of_socket)
		if (is_resumable(join) && join->instance->channel->resume_ttl > ttl)
			ttl = join->instance->channel->resume_ttl;
	return ttl;
}

static void
stay(struct engine *engine, struct socket *socket, int64_t ms)
{
	struct address *address = table_find_text(engine->addresses, socket->row.address);
	if (!socket->until_ms && address) {
		engine->idle_count++;
		address->idle++;
	}
	socket->known = false;
	socket->polled = false;
	socket->floor = NOTHING_NEEDED;
	socket->until_ms = clock_ms() + ms;
}

static bool
needs_connection(const struct join *join)
{
	return !join->ended && !is_resumable(join) && !(join->wants & JOIN_REQUESTS);
}

void
socket_lose_joins(struct engine *engine, struct socket *socket)
{
	if (!socket->until_ms || socket->running || socket->ended)
		return;
	for (struct join *join = socket->joins; join; join = join->next_of_socket) {
		if (!needs_connection(join))
			continue;
		departure_add(engine, join);
		numbers_add(&engine->lost_joins, join->number);
		join_ended(engine, join, engine->last);
	}
}

void
socket_lose(struct engine *engine, struct socket *socket)
{
	int ttl = resume_ttl(socket);
	if (ttl == 0) {
		socket_end(engine, socket);
		return;
	}
	if (socket->fill)
		fills_remove(engine, socket);
	socket_unlink(engine, socket);
	stay(engine, socket, (int64_t)ttl * 1000);
	socket_lose_joins(engine, socket);
}

void
socket_idle(struct engine *engine, struct socket *socket, const struct seance_channel *channel)
{
	stay(engine, socket, channel->resume_ttl > 0 ? (int64_t)channel->resume_ttl * 1000 : IDLE_MS);
}

void
socket_want_fill(struct engine *engine, struct socket *socket, int64_t position)
{
	if (socket->until_ms)
		return;
	if (position > socket->position)
		socket->position = position;
	socket->known = false;
	if (socket->fill)
		return;
	socket->fill = true;
	socket->next_fill = engine->fills;
	engine->fills = socket;
}

struct join *
socket_join(struct socket *socket, const char *topic)
{
	for (struct join *join = socket->joins; join; join = join->next_of_socket)
		if (!join->ended && strcmp(join->topic, topic) == 0)
			return join;
	return NULL;
}

/* --- joins --- */

struct join *
join_new(struct socket *socket, const char *topic, const char *join_ref, int wants,
         struct instance *instance)
{
	struct join *join = memory_zeroed(1, sizeof(*join));
	join->socket = socket;
	join->instance = instance;
	join->topic = memory_strdup(topic);
	join->join_ref = memory_strdup(join_ref);
	join->wants = wants;
	return join;
}

void
join_free(struct join *join)
{
	if (!join)
		return;
	free(join->topic);
	free(join->join_ref);
	json_object_put(join->assigns);
	json_object_put(join->next_assigns);
	free(join);
}

void
join_give_assigns(struct join *join, json_object *assigns)
{
	json_object_put(join->assigns);
	join->assigns = assigns;
	join_stage_assigns(join, json_object_get(assigns));
}

void
join_stage_assigns(struct join *join, json_object *assigns)
{
	json_object_put(join->next_assigns);
	join->next_assigns = assigns;
}

static void
instance_attach(struct instance *instance, struct join *join)
{
	join->next_of_instance = instance->joins;
	join->previous_of_instance = NULL;
	if (join->next_of_instance)
		join->next_of_instance->previous_of_instance = join;
	instance->joins = join;
}

/* Whoever waits for a private state, which this was the join of, is to ask again. */
static void
instance_detach(struct engine *engine, struct join *join)
{
	struct instance *instance = join->instance;
	if (!instance->row.shared)
		watch_fire(engine, instance, NOTHING_NEEDED);
	if (join->previous_of_instance)
		join->previous_of_instance->next_of_instance = join->next_of_instance;
	else
		instance->joins = join->next_of_instance;
	if (join->next_of_instance)
		join->next_of_instance->previous_of_instance = join->previous_of_instance;
	join->instance = NULL;
}

void
join_attach(struct join *join)
{
	join->next_of_socket = join->socket->joins;
	join->socket->joins = join;
	if (!join->ended)
		join->socket->join_count++;
	if (join->instance)
		instance_attach(join->instance, join);
}

static void
ended_add(struct engine *engine, struct join *join)
{
	if (engine->ended_last)
		engine->ended_last->next_ended = join;
	else
		engine->ended_first = join;
	engine->ended_last = join;
}

/* A private one goes with its join; one that has a terminate hook, with that. */
static void
unjoined(struct engine *engine, struct instance *instance)
{
	if (instance->row.shared || instance->channel->terminate)
		instance_forget(engine, instance);
	else
		instance_die(engine, instance);
}

/* Its socket has ended: nobody will ever be told of it again. */
static void
join_detach(struct engine *engine, struct join *join)
{
	struct instance *instance = join->instance;
	if (instance) {
		if (!join->ended)
			departure_add(engine, join);
		instance_detach(engine, join);
		unjoined(engine, instance);
	}
	if (join->ended)
		join->socket = NULL; /* freed by joins_forget: it is in that list */
	else
		join_free(join);
}

void
join_ended(struct engine *engine, struct join *join, int64_t number)
{
	struct instance *instance = join->instance;
	join->socket->join_count--;
	if (instance && !instance->row.shared) {
		instance_detach(engine, join);
		unjoined(engine, instance);
	}
	join->ended = number;
	ended_add(engine, join);
}

void
join_taken(struct engine *engine, struct join *join, int64_t number)
{
	join->socket->join_count--;
	instance_detach(engine, join);
	join->ended = number;
	ended_add(engine, join);
}

static void
join_forget(struct engine *engine, struct join *join)
{
	struct instance *instance = join->instance;
	if (instance) {
		instance_detach(engine, join);
		instance_forget(engine, instance);
	}
	if (join->socket) {
		struct join **at = &join->socket->joins;
		while (*at != join)
			at = &(*at)->next_of_socket;
		*at = join->next_of_socket;
	}
	join_free(join);
}

void
joins_forget(struct engine *engine, int64_t until)
{
	while (engine->ended_first && engine->ended_first->ended <= until) {
		struct join *join = engine->ended_first;
		engine->ended_first = join->next_ended;
		if (!engine->ended_first)
			engine->ended_last = NULL;
		join_forget(engine, join);
	}
}
