/* faulty - a decorator that lets one write fail, so that tests can see what follows from it */
#include "store.h"
#include "store_backend.h"

#include <stdio.h>
#include <stdlib.h>

struct faulty {
	struct store store;
	struct store *inner;      /* owned */
	int writes_left;          /* the write that brings it to 0 fails; 0: none will */
	enum store_status status; /* what it fails with */
};

static struct faulty *
faulty_of(struct store *store)
{
	return (struct faulty *)store;
}

static struct store *
inner_of(struct store *store)
{
	return faulty_of(store)->inner;
}

/* What the inner store answered; with its message when that was a failure. */
static enum store_status
answered(struct store *store, enum store_status status)
{
	if (store_failure(status))
		snprintf(store->message, STORE_MESSAGE_BYTES, "%s", store_message(inner_of(store)));
	return status;
}

/* Counts a write: is it the one that is to fail? */
static bool
struck(struct store *store)
{
	struct faulty *faulty = faulty_of(store);

	if (faulty->writes_left == 0 || --faulty->writes_left > 0)
		return false;
	snprintf(store->message, STORE_MESSAGE_BYTES, "a fault was asked for");
	return true;
}

#define READ(store, verb, ...) answered(store, store_##verb(inner_of(store), __VA_ARGS__))
#define WRITE(store, verb, ...) \
	(struck(store) ? faulty_of(store)->status : READ(store, verb, __VA_ARGS__))

static void
faulty_close(struct store *store)
{
	store_close(inner_of(store));
	free(faulty_of(store));
}

static bool
faulty_changed(struct store *store)
{
	return store_changed(inner_of(store));
}

/* --- transactions --- */

static enum store_status
faulty_begin(struct store *store, bool *foreign)
{
	return WRITE(store, begin, foreign);
}

static enum store_status
faulty_commit(struct store *store)
{
	return struck(store) ? faulty_of(store)->status : answered(store, store_commit(inner_of(store)));
}

static void
faulty_rollback(struct store *store)
{
	store_rollback(inner_of(store));
}

/* --- the log --- */

static enum store_status
faulty_append(struct store *store, struct store_record *record)
{
	return WRITE(store, append, record);
}

static enum store_status
faulty_last(struct store *store, int64_t *number)
{
	return READ(store, last, number);
}

static enum store_status
faulty_scan(struct store *store, int64_t after, int64_t until, store_record_fn *row, void *context)
{
	return READ(store, scan, after, until, row, context);
}

static enum store_status
faulty_scan_back(struct store *store, store_record_fn *row, void *context)
{
	return READ(store, scan_back, row, context);
}

static enum store_status
faulty_scan_keys(struct store *store, store_key_fn *row, void *context)
{
	return READ(store, scan_keys, row, context);
}

static enum store_status
faulty_history(struct store *store, int64_t number, store_record_fn *row, void *context)
{
	return READ(store, history, number, row, context);
}

static enum store_status
faulty_prune(struct store *store, int64_t until, int limit, int *deleted)
{
	return WRITE(store, prune, until, limit, deleted);
}

/* --- instances --- */

static enum store_status
faulty_instance_add(struct store *store, struct store_instance *instance, const char *state)
{
	return WRITE(store, instance_add, instance, state);
}

static enum store_status
faulty_instance_put(struct store *store, const struct store_instance *instance, const char *state)
{
	return WRITE(store, instance_put, instance, state);
}

static enum store_status
faulty_instance_delete(struct store *store, int64_t id)
{
	return WRITE(store, instance_delete, id);
}

static enum store_status
faulty_instance_find(struct store *store, const char *topic, store_instance_fn *row, void *context)
{
	return READ(store, instance_find, topic, row, context);
}

static enum store_status
faulty_instance_get(struct store *store, int64_t id, store_instance_fn *row, void *context)
{
	return READ(store, instance_get, id, row, context);
}

static enum store_status
faulty_instance_state(struct store *store, int64_t id, char **state)
{
	return READ(store, instance_state, id, state);
}

static enum store_status
faulty_scan_instances(struct store *store, store_instance_fn *row, void *context)
{
	return READ(store, scan_instances, row, context);
}

/* --- sockets and joins --- */

static enum store_status
faulty_socket_add(struct store *store, struct store_socket *socket)
{
	return WRITE(store, socket_add, socket);
}

static enum store_status
faulty_socket_delete(struct store *store, int64_t id)
{
	return WRITE(store, socket_delete, id);
}

static enum store_status
faulty_scan_sockets(struct store *store, store_socket_fn *row, void *context)
{
	return READ(store, scan_sockets, row, context);
}

static enum store_status
faulty_join_add(struct store *store, const struct store_join *join)
{
	return WRITE(store, join_add, join);
}

static enum store_status
faulty_join_assigns(struct store *store, int64_t number, const char *assigns)
{
	return WRITE(store, join_assigns, number, assigns);
}

static enum store_status
faulty_join_end(struct store *store, int64_t number, int64_t ended)
{
	return WRITE(store, join_end, number, ended);
}

static enum store_status
faulty_scan_joins(struct store *store, store_join_fn *row, void *context)
{
	return READ(store, scan_joins, row, context);
}

/* --- PubSub and timers --- */

static enum store_status
faulty_subscribe(struct store *store, int64_t instance, const char *topic)
{
	return WRITE(store, subscribe, instance, topic);
}

static enum store_status
faulty_unsubscribe(struct store *store, int64_t instance, const char *topic)
{
	return WRITE(store, unsubscribe, instance, topic);
}

static enum store_status
faulty_subscription(struct store *store, int64_t instance, const char *topic, int64_t *position)
{
	return READ(store, subscription, instance, topic, position);
}

static enum store_status
faulty_subscriptions(struct store *store, int64_t instance, int64_t *count)
{
	return READ(store, subscriptions, instance, count);
}

static enum store_status
faulty_broadcast_add(struct store *store, struct store_broadcast *broadcast)
{
	return WRITE(store, broadcast_add, broadcast);
}

static enum store_status
faulty_scan_pending(struct store *store, const char *after, store_broadcast_fn *row, void *context)
{
	return READ(store, scan_pending, after, row, context);
}

static enum store_status
faulty_scan_broadcasts(struct store *store, const char *topic, int64_t after, store_broadcast_fn *row,
                       void *context)
{
	return READ(store, scan_broadcasts, topic, after, row, context);
}

static enum store_status
faulty_broadcast_done(struct store *store, int64_t instance, const char *topic, int64_t id)
{
	return WRITE(store, broadcast_done, instance, topic, id);
}

static enum store_status
faulty_broadcasts_prune(struct store *store, const char *topic)
{
	return WRITE(store, broadcasts_prune, topic);
}

static enum store_status
faulty_backlog(struct store *store, int64_t *count)
{
	return READ(store, backlog, count);
}

static enum store_status
faulty_timer_add(struct store *store, struct store_timer *timer)
{
	return WRITE(store, timer_add, timer);
}

static enum store_status
faulty_timer_delete(struct store *store, int64_t instance, int64_t id)
{
	return WRITE(store, timer_delete, instance, id);
}

static enum store_status
faulty_timer_get(struct store *store, int64_t id, store_timer_fn *row, void *context)
{
	return READ(store, timer_get, id, row, context);
}

static enum store_status
faulty_scan_timers(struct store *store, store_timer_fn *row, void *context)
{
	return READ(store, scan_timers, row, context);
}

static enum store_status
faulty_set_aside(struct store *store, const struct store_refused *refused)
{
	return WRITE(store, set_aside, refused);
}

static enum store_status
faulty_instance_schema(struct store *store, int64_t id, int64_t schema)
{
	return WRITE(store, instance_schema, id, schema);
}

static enum store_status
faulty_timer_delete_kind(struct store *store, int64_t instance, int64_t kind)
{
	return WRITE(store, timer_delete_kind, instance, kind);
}

static enum store_status
faulty_presence_put(struct store *store, struct store_presence *presence)
{
	return WRITE(store, presence_put, presence);
}

static enum store_status
faulty_presence_delete(struct store *store, int64_t number)
{
	return WRITE(store, presence_delete, number);
}

static enum store_status
faulty_scan_presences(struct store *store, int64_t instance, store_presence_fn *row, void *context)
{
	return READ(store, scan_presences, instance, row, context);
}

static enum store_status
faulty_answer_add(struct store *store, const struct store_answer *answer)
{
	return WRITE(store, answer_add, answer);
}

static enum store_status
faulty_answer_get(struct store *store, const char *key, store_answer_fn *row, void *context)
{
	return READ(store, answer_get, key, row, context);
}

static enum store_status
faulty_answers_prune(struct store *store, int64_t now_ms)
{
	return WRITE(store, answers_prune, now_ms);
}

/* --- marks --- */

static enum store_status
faulty_mark_put(struct store *store, const char *name, int64_t value)
{
	return WRITE(store, mark_put, name, value);
}

static enum store_status
faulty_mark_get(struct store *store, const char *name, int64_t *value)
{
	return READ(store, mark_get, name, value);
}

static const struct store_backend faulty_backend = {
	.close = faulty_close,
	.changed = faulty_changed,
	.begin = faulty_begin,
	.commit = faulty_commit,
	.rollback = faulty_rollback,
	.append = faulty_append,
	.last = faulty_last,
	.scan = faulty_scan,
	.scan_back = faulty_scan_back,
	.scan_keys = faulty_scan_keys,
	.history = faulty_history,
	.prune = faulty_prune,
	.instance_add = faulty_instance_add,
	.instance_put = faulty_instance_put,
	.instance_delete = faulty_instance_delete,
	.instance_find = faulty_instance_find,
	.instance_get = faulty_instance_get,
	.instance_state = faulty_instance_state,
	.scan_instances = faulty_scan_instances,
	.socket_add = faulty_socket_add,
	.socket_delete = faulty_socket_delete,
	.scan_sockets = faulty_scan_sockets,
	.join_add = faulty_join_add,
	.join_assigns = faulty_join_assigns,
	.join_end = faulty_join_end,
	.scan_joins = faulty_scan_joins,
	.subscribe = faulty_subscribe,
	.unsubscribe = faulty_unsubscribe,
	.subscription = faulty_subscription,
	.subscriptions = faulty_subscriptions,
	.broadcast_add = faulty_broadcast_add,
	.scan_pending = faulty_scan_pending,
	.scan_broadcasts = faulty_scan_broadcasts,
	.broadcast_done = faulty_broadcast_done,
	.broadcasts_prune = faulty_broadcasts_prune,
	.backlog = faulty_backlog,
	.timer_add = faulty_timer_add,
	.timer_delete = faulty_timer_delete,
	.timer_get = faulty_timer_get,
	.scan_timers = faulty_scan_timers,
	.set_aside = faulty_set_aside,
	.instance_schema = faulty_instance_schema,
	.timer_delete_kind = faulty_timer_delete_kind,
	.presence_put = faulty_presence_put,
	.presence_delete = faulty_presence_delete,
	.scan_presences = faulty_scan_presences,
	.answer_add = faulty_answer_add,
	.answer_get = faulty_answer_get,
	.answers_prune = faulty_answers_prune,
	.mark_put = faulty_mark_put,
	.mark_get = faulty_mark_get,
};

struct store *
store_open_faulty(struct store *inner)
{
	struct faulty *faulty = store_check_memory(calloc(1, sizeof(*faulty)));

	faulty->store.backend = &faulty_backend;
	faulty->inner = inner;
	return &faulty->store;
}

void
store_fail_at(struct store *faulty, int nth_write, enum store_status status)
{
	faulty_of(faulty)->writes_left = nth_write;
	faulty_of(faulty)->status = status;
}
