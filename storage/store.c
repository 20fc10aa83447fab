/* store - hands each call to the backend, and keeps the law of transactions for all of them */
#include "store.h"

#include "store_backend.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void
store_no_memory(void)
{
	fputs("store: out of memory\n", stderr);
	abort();
}

/* A transaction in which anything failed is lost: a backend may have undone it already. */
static enum store_status
note(struct store *store, enum store_status status)
{
	if (store->writing && store->failed == STORE_OK && store_failure(status))
		store->failed = status;
	return status;
}

static bool
may_write(const struct store *store)
{
	assert(store->writing);
	return store->failed == STORE_OK;
}

#define READ(store, verb, ...)  note(store, (store)->backend->verb(store, __VA_ARGS__))
#define WRITE(store, verb, ...) (may_write(store) ? READ(store, verb, __VA_ARGS__) : (store)->failed)

void
store_close(struct store *store)
{
	if (store == NULL)
		return;
	store_rollback(store);
	store->backend->close(store);
}

const char *
store_message(const struct store *store)
{
	return store->message;
}

/* --- transactions --- */

enum store_status
store_begin(struct store *store, bool *foreign)
{
	enum store_status status;

	assert(!store->writing);
	*foreign = false;
	status = store->backend->begin(store, foreign);
	store->writing = status == STORE_OK;
	store->failed = STORE_OK;
	return status;
}

enum store_status
store_commit(struct store *store)
{
	enum store_status status;

	if (!may_write(store))
		return store->failed;
	status = note(store, store->backend->commit(store));
	if (status == STORE_OK)
		store->writing = false;
	return status;
}

void
store_rollback(struct store *store)
{
	if (!store->writing)
		return;
	store->backend->rollback(store);
	store->writing = false;
}

bool
store_changed(struct store *store)
{
	return store->backend->changed(store);
}

/* --- the log --- */

enum store_status
store_append(struct store *store, struct store_record *record)
{
	assert(record->kind >= STORE_EVENT && record->kind <= STORE_ANSWER);
	return WRITE(store, append, record);
}

enum store_status
store_last(struct store *store, int64_t *number)
{
	*number = 0;
	return READ(store, last, number);
}

enum store_status
store_scan(struct store *store, int64_t after, int64_t until, store_record_fn *row, void *context)
{
	return READ(store, scan, after, until, row, context);
}

enum store_status
store_scan_back(struct store *store, store_record_fn *row, void *context)
{
	return READ(store, scan_back, row, context);
}

enum store_status
store_scan_keys(struct store *store, store_key_fn *row, void *context)
{
	return READ(store, scan_keys, row, context);
}

enum store_status
store_history(struct store *store, int64_t number, store_record_fn *row, void *context)
{
	return READ(store, history, number, row, context);
}

enum store_status
store_prune(struct store *store, int64_t until, int limit, int *deleted)
{
	assert(limit > 0);
	*deleted = 0;
	return WRITE(store, prune, until, limit, deleted);
}

/* --- instances --- */

enum store_status
store_instance_add(struct store *store, struct store_instance *instance, const char *state)
{
	assert(instance->topic != NULL && instance->epoch > 0);
	return WRITE(store, instance_add, instance, state);
}

enum store_status
store_instance_put(struct store *store, const struct store_instance *instance, const char *state)
{
	assert(state == NULL || instance->state_revision <= instance->revision);
	return WRITE(store, instance_put, instance, state);
}

enum store_status
store_instance_delete(struct store *store, int64_t id)
{
	return WRITE(store, instance_delete, id);
}

enum store_status
store_instance_find(struct store *store, const char *topic, store_instance_fn *row, void *context)
{
	return READ(store, instance_find, topic, row, context);
}

enum store_status
store_instance_get(struct store *store, int64_t id, store_instance_fn *row, void *context)
{
	return READ(store, instance_get, id, row, context);
}

enum store_status
store_instance_state(struct store *store, int64_t id, char **state)
{
	*state = NULL;
	return READ(store, instance_state, id, state);
}

enum store_status
store_scan_instances(struct store *store, store_instance_fn *row, void *context)
{
	return READ(store, scan_instances, row, context);
}

/* --- sockets and joins --- */

enum store_status
store_socket_add(struct store *store, struct store_socket *socket)
{
	assert(socket->token != NULL);
	return WRITE(store, socket_add, socket);
}

enum store_status
store_socket_delete(struct store *store, int64_t id)
{
	return WRITE(store, socket_delete, id);
}

enum store_status
store_scan_sockets(struct store *store, store_socket_fn *row, void *context)
{
	return READ(store, scan_sockets, row, context);
}

enum store_status
store_join_add(struct store *store, const struct store_join *join)
{
	assert(join->number > 0 && join->topic != NULL);
	return WRITE(store, join_add, join);
}

enum store_status
store_join_assigns(struct store *store, int64_t number, const char *assigns)
{
	return WRITE(store, join_assigns, number, assigns);
}

enum store_status
store_join_end(struct store *store, int64_t number, int64_t ended)
{
	assert(ended > 0);
	return WRITE(store, join_end, number, ended);
}

enum store_status
store_scan_joins(struct store *store, store_join_fn *row, void *context)
{
	return READ(store, scan_joins, row, context);
}

/* --- PubSub --- */

enum store_status
store_subscribe(struct store *store, int64_t instance, const char *topic)
{
	return WRITE(store, subscribe, instance, topic);
}

enum store_status
store_unsubscribe(struct store *store, int64_t instance, const char *topic)
{
	return WRITE(store, unsubscribe, instance, topic);
}

enum store_status
store_subscription(struct store *store, int64_t instance, const char *topic, int64_t *position)
{
	*position = 0;
	return READ(store, subscription, instance, topic, position);
}

enum store_status
store_subscriptions(struct store *store, int64_t instance, int64_t *count)
{
	*count = 0;
	return READ(store, subscriptions, instance, count);
}

enum store_status
store_broadcast_add(struct store *store, struct store_broadcast *broadcast)
{
	assert(broadcast->topic != NULL && broadcast->payload != NULL);
	return WRITE(store, broadcast_add, broadcast);
}

enum store_status
store_scan_pending(struct store *store, const char *after, store_broadcast_fn *row, void *context)
{
	return READ(store, scan_pending, after, row, context);
}

enum store_status
store_scan_broadcasts(struct store *store, const char *topic, int64_t after, store_broadcast_fn *row,
                      void *context)
{
	return READ(store, scan_broadcasts, topic, after, row, context);
}

enum store_status
store_broadcast_done(struct store *store, int64_t instance, const char *topic, int64_t id)
{
	return WRITE(store, broadcast_done, instance, topic, id);
}

enum store_status
store_broadcasts_prune(struct store *store, const char *topic)
{
	return WRITE(store, broadcasts_prune, topic);
}

enum store_status
store_backlog(struct store *store, int64_t *count)
{
	*count = 0;
	return READ(store, backlog, count);
}

/* --- timers --- */

enum store_status
store_timer_add(struct store *store, struct store_timer *timer)
{
	assert(timer->id > 0 && timer->payload != NULL);
	return WRITE(store, timer_add, timer);
}

enum store_status
store_timer_delete(struct store *store, int64_t instance, int64_t id)
{
	return WRITE(store, timer_delete, instance, id);
}

enum store_status
store_timer_get(struct store *store, int64_t id, store_timer_fn *row, void *context)
{
	return READ(store, timer_get, id, row, context);
}

enum store_status
store_scan_timers(struct store *store, store_timer_fn *row, void *context)
{
	return READ(store, scan_timers, row, context);
}

enum store_status
store_set_aside(struct store *store, const struct store_refused *refused)
{
	return WRITE(store, set_aside, refused);
}

/* --- presence --- */

enum store_status
store_instance_schema(struct store *store, int64_t id, int64_t schema)
{
	return WRITE(store, instance_schema, id, schema);
}

enum store_status
store_timer_delete_kind(struct store *store, int64_t instance, int64_t kind)
{
	return WRITE(store, timer_delete_kind, instance, kind);
}

enum store_status
store_presence_put(struct store *store, struct store_presence *presence)
{
	return WRITE(store, presence_put, presence);
}

enum store_status
store_presence_delete(struct store *store, int64_t number)
{
	return WRITE(store, presence_delete, number);
}

enum store_status
store_scan_presences(struct store *store, int64_t instance, store_presence_fn *row, void *context)
{
	return READ(store, scan_presences, instance, row, context);
}

/* --- answers --- */

enum store_status
store_answer_add(struct store *store, const struct store_answer *answer)
{
	return WRITE(store, answer_add, answer);
}

enum store_status
store_answer_get(struct store *store, const char *key, store_answer_fn *row, void *context)
{
	return READ(store, answer_get, key, row, context);
}

enum store_status
store_answers_prune(struct store *store, int64_t now_ms)
{
	return WRITE(store, answers_prune, now_ms);
}

/* --- marks --- */

enum store_status
store_mark_put(struct store *store, const char *name, int64_t value)
{
	return WRITE(store, mark_put, name, value);
}

enum store_status
store_mark_get(struct store *store, const char *name, int64_t *value)
{
	*value = 0;
	return READ(store, mark_get, name, value);
}
