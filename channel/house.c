/* What a transaction takes along besides: rows that have had their time go, states are written out. */
#include "engine_internal.h"

bool
house_is_due(const struct engine *engine, int64_t now)
{
	if (engine->guest || now < engine->retry_ms)
		return false;
	return engine->ended_sockets.count || engine->lost_joins.count || engine->dead_instances.count ||
	       blanks_are_due(engine, now) || engine->prune_until >= engine->oldest ||
	       (engine->due_first && engine->due_first->due_ms <= now);
}

typedef enum store_status delete_fn(struct store *store, int64_t id);

/* One that has gone already is as good as deleted. */
static enum store_status
delete_row(struct store *store, delete_fn *delete, int64_t id)
{
	enum store_status status = delete (store, id);
	return status == STORE_NONE ? STORE_OK : status;
}

static enum store_status
delete_rows(struct store *store, delete_fn *delete, const struct numbers *ids)
{
	enum store_status status = STORE_OK;
	for (size_t i = 0; i < ids->count && status == STORE_OK; i++)
		status = delete_row(store, delete, ids->at[i]);
	return status;
}

static enum store_status
end_join(struct store *store, int64_t number)
{
	return store_join_end(store, number, number);
}

static enum store_status
delete_ended(struct engine *engine)
{
	enum store_status status = hooks_write_departures(engine);
	if (status == STORE_OK)
		status = delete_rows(engine->store, end_join, &engine->lost_joins);
	if (status == STORE_OK)
		status = delete_rows(engine->store, store_socket_delete, &engine->ended_sockets);
	if (status == STORE_OK)
		status = delete_rows(engine->store, store_instance_delete, &engine->dead_instances);
	return status;
}

static bool
is_blank(const struct instance *instance)
{
	return instance->row.revision == 0 && !instance->joins && !instance->staged && !instance->busy &&
	       !instance->waiting && !instance->posts && !instance->put;
}

/* Its first state may have subscribed to something, or wait for a timer. */
static enum store_status
awaits_posts(struct engine *engine, struct instance *instance, bool *waits)
{
	int64_t count;
	enum store_status status = store_subscriptions(engine->store, instance->row.id, &count);
	*waits = status == STORE_OK && count > 0;
	if (*waits)
		instance_unblank(engine, instance);
	if (*waits && !instance->loaded && !instance->due_ms)
		instance_free(engine, instance);
	return status;
}

/* Has its time run out?  If not, it may be the next whose time does; or it is none any more. */
static bool
blank_is_over(struct engine *engine, struct instance *instance, int64_t now, int64_t grace_ms)
{
	if (!is_blank(instance)) {
		instance_unblank(engine, instance);
		return false;
	}
	if (grace_ms && watch_waits(engine, instance))
		instance->blank_ms = now;
	int64_t due_ms = instance->blank_ms + grace_ms;
	if (due_ms > now)
		engine->blanks_due_ms = lower(engine->blanks_due_ms, due_ms);
	return due_ms <= now;
}

static enum store_status
delete_blank(struct engine *engine, struct instance *instance)
{
	bool waits = false;
	enum store_status status = awaits_posts(engine, instance, &waits);
	if (status != STORE_OK || waits)
		return status;
	instance->deleted = true;
	return delete_row(engine->store, store_instance_delete, instance->row.id);
}

static enum store_status
delete_blanks(struct engine *engine, int64_t now)
{
	enum store_status status = STORE_OK;
	int64_t grace_ms = engine->blank_count > BLANKS_MAX ? 0 : engine->limits.grace_ms;
	if (!blanks_are_due(engine, now))
		return status;
	engine->blanks_due_ms = NOTHING_NEEDED;
	for (size_t i = engine->blank_count; i-- > 0 && status == STORE_OK;)
		if (blank_is_over(engine, engine->blanks[i], now, grace_ms))
			status = delete_blank(engine, engine->blanks[i]);
	return status;
}

/*
 * Writing a large state out as text takes long, and all wait for it: after each there is a pause, in which
 * the others that are due wait.  It is short enough to keep up with the log.
 */
static enum store_status
write_due(struct engine *engine, int64_t now)
{
	enum store_status status = STORE_OK;
	struct instance *next;
	for (struct instance *i = engine->due_first; i && i->due_ms <= now && status == STORE_OK; i = next) {
		next = i->due_next;
		if (now < engine->large_ms && instance_large_due(i, now)) {
			instance_schedule(engine, i, engine->large_ms);
			continue;
		}
		status = instance_write(engine, i, false);
		if (i->state_put && i->state_bytes > STATE_SMALL)
			engine->large_ms = now + 1 + (int64_t)(i->state_bytes / LARGE_BYTES_A_MS);
	}
	return status;
}

static enum store_status
put_mark(struct engine *engine, int64_t last, int64_t now, struct house *house)
{
	if (now - engine->marked_ms < MARK_EVERY_MS)
		return STORE_OK;
	int64_t written = instances_written(engine, last);
	if (written == engine->written)
		return STORE_OK;
	house->written = written;
	return store_mark_put(engine->store, STORE_MARK_WRITTEN, written);
}

static enum store_status
prune(struct engine *engine, size_t staged, int *deleted)
{
	*deleted = 0;
	if (engine->prune_until < engine->oldest)
		return STORE_OK;
	return store_prune(engine->store, engine->prune_until, (int)(PRUNE_BATCH + 4 * staged), deleted);
}

enum store_status
house_keep(struct engine *engine, size_t staged, int64_t last, int64_t now, struct house *house)
{
	enum store_status status = delete_ended(engine);
	house->kept = true;
	if (status == STORE_OK)
		status = delete_blanks(engine, now);
	if (status == STORE_OK)
		status = write_due(engine, now);
	if (status == STORE_OK && now >= engine->answers_ms) {
		status = store_answers_prune(engine->store, clock_unix_ms());
		engine->answers_ms = now + ANSWERS_EVERY_MS;
	}
	if (status == STORE_OK && engine->posts_stale)
		status = store_broadcasts_prune(engine->store, NULL);
	if (status == STORE_OK)
		status = put_mark(engine, last, now, house);
	if (status == STORE_OK)
		status = prune(engine, staged, &house->pruned);
	return status;
}

void
house_kept(struct engine *engine, const struct house *house)
{
	int pruned = house->pruned;
	if (!house->kept)
		return;
	if (house->written != engine->written) {
		engine->written = house->written;
		engine->marked_ms = clock_ms();
	}
	engine->posts_stale = false;
	departures_forget(engine);
	engine->ended_sockets.count = 0;
	engine->lost_joins.count = 0;
	engine->dead_instances.count = 0;
	for (size_t i = engine->blank_count; i-- > 0;) {
		if (!engine->blanks[i]->deleted)
			continue;
		watch_fire(engine, engine->blanks[i], NOTHING_NEEDED);
		instance_free(engine, engine->blanks[i]);
	}
	if (engine->prune_until < engine->oldest)
		return;
	engine->oldest += pruned;
	if (pruned == 0) /* numbers may have gaps */
		engine->oldest = engine->prune_until + 1;
	joins_forget(engine, engine->oldest - 1);
	keys_forget(engine, engine->oldest - 1);
}
