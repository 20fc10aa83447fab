/* Who waits for what is newer than a position: requests that nginx has parked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"
#include "memory.h"

struct watch {
	char *name; /* owned */
	int64_t position;
	void *link;
	uint64_t handle;
	struct watch *previous, *next; /* of the same name */
	struct watch *previous_of_all, *next_of_all;
};

void
watch_name(char name[WATCH_NAME_BYTES], const struct instance *instance)
{
	snprintf(name, WATCH_NAME_BYTES, "I%lld-%lld", (long long)instance->row.id,
	         (long long)instance->row.epoch);
}

void
watch_name_socket(char name[WATCH_NAME_BYTES], const char *token)
{
	snprintf(name, WATCH_NAME_BYTES, "S%s", token);
}

static struct socket *
socket_of(struct engine *engine, const char *name)
{
	return *name == 'S' ? engine_find(engine, name + 1) : NULL;
}

static void
insert(struct engine *engine, struct watch *watch)
{
	struct lh_entry *entry = lh_table_lookup_entry(engine->watches_by_name, watch->name);
	if (entry) { /* behind the first, whose name is the table's key */
		struct watch *first = (struct watch *)lh_entry_v(entry);
		watch->previous = first;
		watch->next = first->next;
		if (watch->next)
			watch->next->previous = watch;
		first->next = watch;
	} else if (lh_table_insert(engine->watches_by_name, watch->name, watch) != 0) {
		abort();
	}
	table_add_number(engine->watches_by_handle, (int64_t)watch->handle, watch);
	watch->next_of_all = engine->watches;
	if (watch->next_of_all)
		watch->next_of_all->previous_of_all = watch;
	engine->watches = watch;
}

static void
remove_from_name(struct engine *engine, struct watch *watch)
{
	if (watch->next)
		watch->next->previous = watch->previous;
	if (watch->previous) {
		watch->previous->next = watch->next;
		return;
	}
	lh_table_delete(engine->watches_by_name, watch->name);
	if (watch->next && lh_table_insert(engine->watches_by_name, watch->next->name, watch->next) != 0)
		abort();
}

/* Nobody waits at the link any more: the time in which the client may come back begins. */
static void
watch_ended(struct engine *engine, const char *name)
{
	struct socket *socket = socket_of(engine, name);
	const struct instance *instance =
		*name == 'I' ? table_find_number(engine->instances_by_id, strtoll(name + 1, NULL, 10)) : NULL;
	if (socket)
		socket->unlinked_ms = clock_ms();
	for (struct join *join = instance ? instance->joins : NULL; join; join = join->next_of_instance)
		if (!join->ended && join->wants & JOIN_REQUESTS)
			socket_idle(engine, join->socket, instance->channel);
}

static void
watch_free(struct engine *engine, struct watch *watch)
{
	watch_ended(engine, watch->name);
	remove_from_name(engine, watch);
	table_remove_number(engine->watches_by_handle, (int64_t)watch->handle);
	if (watch->next_of_all)
		watch->next_of_all->previous_of_all = watch->previous_of_all;
	if (watch->previous_of_all)
		watch->previous_of_all->next_of_all = watch->next_of_all;
	else
		engine->watches = watch->next_of_all;
	free(watch->name);
	free(watch);
}

static void
wake(struct engine *engine, struct watch *watch)
{
	engine->woken =
		memory_grow(engine->woken, engine->woken_count, &engine->woken_room, sizeof(*engine->woken));
	engine->woken[engine->woken_count++] = (struct woken){watch->link, watch->handle};
	watch_free(engine, watch);
}

static void
fire(struct engine *engine, const char *name, int64_t position)
{
	struct watch *next = table_find_text(engine->watches_by_name, name);
	while (next) {
		struct watch *watch = next;
		next = watch->next;
		if (watch->position < position)
			wake(engine, watch);
	}
}

void
watch_fire(struct engine *engine, const struct instance *instance, int64_t revision)
{
	char name[WATCH_NAME_BYTES];
	if (!engine->watches)
		return;
	watch_name(name, instance);
	fire(engine, name, revision);
}

void
watch_fire_socket(struct engine *engine, const struct socket *socket, int64_t number)
{
	char name[WATCH_NAME_BYTES];
	if (!engine->watches)
		return;
	watch_name_socket(name, socket->row.token);
	fire(engine, name, number);
}

static bool
anybody_waits(const struct engine *engine, const char *name)
{
	return engine->watches && table_find_text(engine->watches_by_name, name);
}

bool
watch_waits(struct engine *engine, const struct instance *instance)
{
	char name[WATCH_NAME_BYTES];
	watch_name(name, instance);
	return anybody_waits(engine, name);
}

bool
watch_waits_for_socket(struct engine *engine, const struct socket *socket)
{
	char name[WATCH_NAME_BYTES];
	watch_name_socket(name, socket->row.token);
	bool waits = anybody_waits(engine, name);
	for (const struct join *join = socket->joins; join && !waits; join = join->next_of_socket)
		waits = !join->ended && join->wants & JOIN_REQUESTS && watch_waits(engine, join->instance);
	return waits;
}

/* The instance of a name, in the history that was meant; or NULL. */
static const struct instance *
instance_of(struct engine *engine, const char *name)
{
	char own[WATCH_NAME_BYTES] = "";
	const struct instance *instance =
		*name == 'I' ? instance_by_id(engine, strtoll(name + 1, NULL, 10)) : NULL;
	if (instance)
		watch_name(own, instance);
	return strcmp(name, own) == 0 ? instance : NULL;
}

/* Where it stands; what is not there (any more), or not known, is to be asked for again. */
static int64_t
present_position(struct engine *engine, const char *name)
{
	const struct instance *instance = instance_of(engine, name);
	const struct socket *socket = socket_of(engine, name);
	if (instance)
		return instance->row.revision;
	return socket && socket->polled && socket->known ? socket->last : INT64_MAX;
}

void
engine_wait(struct engine *engine, const char *name, int64_t position, void *link, uint64_t handle)
{
	struct watch *watch = memory_zeroed(1, sizeof(*watch));
	engine_unwait(engine, link, handle);
	*watch = (struct watch){
		.name = memory_strdup(name), .position = position, .link = link, .handle = handle};
	insert(engine, watch);
	if (present_position(engine, name) > position)
		wake(engine, watch);
}

bool
engine_unwait(struct engine *engine, const void *link, uint64_t handle)
{
	struct watch *watch = table_find_number(engine->watches_by_handle, (int64_t)handle);
	if (!watch || watch->link != link)
		return false;
	watch_free(engine, watch);
	return true;
}

void
watches_unlink(struct engine *engine, const void *link)
{
	size_t kept = 0;
	for (struct watch *watch = engine->watches, *next; watch; watch = next) {
		next = watch->next_of_all;
		if (!link || watch->link == link)
			watch_free(engine, watch);
	}
	for (size_t i = 0; i < engine->woken_count; i++)
		if (link && engine->woken[i].link != link)
			engine->woken[kept++] = engine->woken[i];
	engine->woken_count = kept;
}
