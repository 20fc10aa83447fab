/*
 * memory - the store in memory, for tests: the same contract, gone with the process
 *
 * Finding by anything but a row's number looks at all rows.
 */
#include "memory_table.h"
#include "store.h"
#include "store_backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct state_row {
	struct store_instance instance;
	const char *state;
};

struct mark_row {
	const char *name;
	int64_t value;
};

struct subscription {
	int64_t number;
	int64_t instance;
	const char *topic;
	int64_t position;
};

enum memory_table {
	LOG,
	INSTANCES,
	SOCKETS,
	JOINS,
	SUBSCRIPTIONS,
	BROADCASTS,
	TIMERS,
	REFUSED,
	PRESENCES,
	ANSWERS,
	MARKS,
	TABLES
};

struct memory {
	struct store store;
	struct table tables[TABLES];
	int64_t newest[TABLES];       /* number given last, also to what is gone */
	int64_t newest_begun[TABLES]; /* as it was when the transaction began */
	struct journal journal;
};

static struct memory *
memory_of(struct store *store)
{
	return (struct memory *)store;
}

/* --- rows: a struct and behind it the texts that it points to, in one block --- */

struct shape {
	size_t size;
	size_t texts;          /* how many members are texts */
	const size_t *offsets; /* where they are */
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SHAPE(type, offsets)                  \
	{                                         \
		sizeof(type), COUNT(offsets), offsets \
	}

static const size_t record_texts[] = {
	offsetof(struct store_record, ref),    offsetof(struct store_record, join_ref),
	offsetof(struct store_record, event),  offsetof(struct store_record, operations),
	offsetof(struct store_record, events), offsetof(struct store_record, state),
	offsetof(struct store_record, detail), offsetof(struct store_record, told),
	offsetof(struct store_record, built),  offsetof(struct store_record, key),
};
static const size_t instance_texts[] = {
	offsetof(struct state_row, instance.topic),
	offsetof(struct state_row, state),
};
static const size_t socket_texts[] = {
	offsetof(struct store_socket, token),
	offsetof(struct store_socket, address),
	offsetof(struct store_socket, assigns),
};
static const size_t join_texts[] = {
	offsetof(struct store_join, topic),
	offsetof(struct store_join, join_ref),
	offsetof(struct store_join, assigns),
	offsetof(struct store_join, state_key),
	offsetof(struct store_join, state_version_key),
};
static const size_t subscription_texts[] = {offsetof(struct subscription, topic)};
static const size_t broadcast_texts[] = {
	offsetof(struct store_broadcast, topic),
	offsetof(struct store_broadcast, payload),
};
static const size_t timer_texts[] = {offsetof(struct store_timer, payload)};
static const size_t refused_texts[] = {
	offsetof(struct store_refused, instance_topic),
	offsetof(struct store_refused, topic),
	offsetof(struct store_refused, payload),
	offsetof(struct store_refused, reason),
};
static const size_t presence_texts[] = {
	offsetof(struct store_presence, key),
	offsetof(struct store_presence, meta),
};
static const size_t answer_texts[] = {
	offsetof(struct store_answer, key),
	offsetof(struct store_answer, digest),
	offsetof(struct store_answer, answer),
};
static const size_t mark_texts[] = {offsetof(struct mark_row, name)};

static const struct shape shapes[TABLES] = {
	[LOG] = SHAPE(struct store_record, record_texts),
	[INSTANCES] = SHAPE(struct state_row, instance_texts),
	[SOCKETS] = SHAPE(struct store_socket, socket_texts),
	[JOINS] = SHAPE(struct store_join, join_texts),
	[SUBSCRIPTIONS] = SHAPE(struct subscription, subscription_texts),
	[BROADCASTS] = SHAPE(struct store_broadcast, broadcast_texts),
	[TIMERS] = SHAPE(struct store_timer, timer_texts),
	[REFUSED] = SHAPE(struct store_refused, refused_texts),
	[PRESENCES] = SHAPE(struct store_presence, presence_texts),
	[ANSWERS] = SHAPE(struct store_answer, answer_texts),
	[MARKS] = SHAPE(struct mark_row, mark_texts),
};

static const char *
text_at(const void *row, size_t offset)
{
	const char *text;

	memcpy(&text, (const char *)row + offset, sizeof(text));
	return text;
}

static size_t
bytes_of(const struct shape *shape, const void *row)
{
	size_t bytes = shape->size;

	for (size_t i = 0; i < shape->texts; i++) {
		const char *text = text_at(row, shape->offsets[i]);

		bytes += text == NULL ? 0 : strlen(text) + 1;
	}
	return bytes;
}

/* A copy of a row and of its texts, owned by the caller. */
static void *
copy_row(const struct shape *shape, const void *row)
{
	char *copy = store_check_memory(malloc(bytes_of(shape, row)));
	char *end = copy + shape->size;

	memcpy(copy, row, shape->size);
	for (size_t i = 0; i < shape->texts; i++) {
		const char *text = text_at(row, shape->offsets[i]);

		if (text == NULL)
			continue;
		memcpy(copy + shape->offsets[i], &end, sizeof(end));
		end = stpcpy(end, text) + 1;
	}
	return copy;
}

/* --- tables --- */

static void *
get(struct memory *memory, enum memory_table table, int64_t number)
{
	return table_get(&memory->tables[table], number);
}

static void
set(struct memory *memory, enum memory_table table, int64_t number, const void *row)
{
	table_set(&memory->tables[table], &memory->journal, number, copy_row(&shapes[table], row));
}

static enum store_status
delete_row(struct memory *memory, enum memory_table table, int64_t number)
{
	if (get(memory, table, number) == NULL)
		return STORE_NONE;
	table_set(&memory->tables[table], &memory->journal, number, NULL);
	return STORE_OK;
}

static enum store_status
failed(struct memory *memory, const char *message)
{
	snprintf(memory->store.message, STORE_MESSAGE_BYTES, "%s", message);
	return STORE_ERROR;
}

/* --- transactions --- */

static enum store_status
memory_begin(struct store *store, bool *foreign)
{
	struct memory *memory = memory_of(store);

	*foreign = false;
	memcpy(memory->newest_begun, memory->newest, sizeof(memory->newest));
	return STORE_OK;
}

static enum store_status
memory_commit(struct store *store)
{
	journal_forget(&memory_of(store)->journal);
	return STORE_OK;
}

static void
memory_rollback(struct store *store)
{
	struct memory *memory = memory_of(store);

	journal_undo(&memory->journal);
	memcpy(memory->newest, memory->newest_begun, sizeof(memory->newest));
}

static bool
memory_changed(struct store *store)
{
	(void)store;
	return false;
}

/* --- the log --- */

static enum store_status
memory_append(struct store *store, struct store_record *record)
{
	struct memory *memory = memory_of(store);

	record->number = ++memory->newest[LOG];
	set(memory, LOG, record->number, record);
	return STORE_OK;
}

static enum store_status
memory_last(struct store *store, int64_t *number)
{
	*number = memory_of(store)->newest[LOG];
	return STORE_OK;
}

static enum store_status
memory_scan(struct store *store, int64_t after, int64_t until, store_record_fn *row, void *context)
{
	const struct table *log = &memory_of(store)->tables[LOG];

	for (size_t i = table_after(log, after); i < log->count && log->slots[i].number <= until; i++)
		if (!row(context, log->slots[i].row))
			break;
	return STORE_OK;
}

static enum store_status
memory_scan_back(struct store *store, store_record_fn *row, void *context)
{
	const struct table *log = &memory_of(store)->tables[LOG];

	for (size_t i = log->count; i-- > 0;)
		if (!row(context, log->slots[i].row))
			break;
	return STORE_OK;
}

static enum store_status
memory_scan_keys(struct store *store, store_key_fn *row, void *context)
{
	const struct table *log = &memory_of(store)->tables[LOG];

	for (size_t i = 0; i < log->count; i++) {
		const struct store_record *record = log->slots[i].row;

		if (record->key != NULL && !row(context, record->number, record->key))
			break;
	}
	return STORE_OK;
}

static enum store_status
memory_history(struct store *store, int64_t number, store_record_fn *row, void *context)
{
	const struct store_record *record = get(memory_of(store), LOG, number);

	while (record != NULL && row(context, record))
		record = get(memory_of(store), LOG, record->previous);
	return STORE_OK;
}

static void
prune_joins(struct memory *memory, int64_t until)
{
	struct table *joins = &memory->tables[JOINS];

	for (size_t i = joins->count; i-- > 0;) {
		const struct store_join *join = joins->slots[i].row;

		if (join->ended != 0 && join->ended <= until)
			table_set(joins, &memory->journal, join->number, NULL);
	}
}

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static enum store_status
memory_prune(struct store *store, int64_t until, int limit, int *deleted)
{
	struct memory *memory = memory_of(store);
	struct table *log = &memory->tables[LOG];

	if (log->count == 0)
		return STORE_OK;
	until = least(until, least(memory->newest[LOG] - 1, log->slots[0].number + limit - 1));
	*deleted = (int)table_after(log, until);
	table_remove_until(log, &memory->journal, until);
	prune_joins(memory, until);
	return STORE_OK;
}

/* --- instances --- */

static const struct store_instance *
find_shared(struct memory *memory, const char *topic)
{
	const struct table *instances = &memory->tables[INSTANCES];

	for (size_t i = 0; i < instances->count; i++) {
		const struct store_instance *instance =
			&((const struct state_row *)instances->slots[i].row)->instance;

		if (instance->shared && strcmp(instance->topic, topic) == 0)
			return instance;
	}
	return NULL;
}

static enum store_status
memory_instance_add(struct store *store, struct store_instance *instance, const char *state)
{
	struct memory *memory = memory_of(store);

	if (instance->shared && find_shared(memory, instance->topic) != NULL)
		return failed(memory, "the topic has a shared instance already");
	instance->id = ++memory->newest[INSTANCES];
	set(memory, INSTANCES, instance->id, &(struct state_row){*instance, state});
	return STORE_OK;
}

static enum store_status
memory_instance_put(struct store *store, const struct store_instance *instance, const char *state)
{
	struct memory *memory = memory_of(store);
	const struct state_row *old = get(memory, INSTANCES, instance->id);
	struct state_row row;

	if (old == NULL)
		return STORE_NONE;
	row = *old;
	row.instance.revision = instance->revision;
	row.instance.version = instance->version;
	row.instance.last_commit = instance->last_commit;
	if (state != NULL) {
		row.instance.state_revision = instance->state_revision;
		row.instance.state_version = instance->state_version;
		row.state = state;
	}
	set(memory, INSTANCES, instance->id, &row);
	return STORE_OK;
}

static void
delete_belongings(struct memory *memory, int64_t instance)
{
	struct table *subscriptions = &memory->tables[SUBSCRIPTIONS], *timers = &memory->tables[TIMERS];
	struct table *presences = &memory->tables[PRESENCES];

	for (size_t i = subscriptions->count; i-- > 0;)
		if (((const struct subscription *)subscriptions->slots[i].row)->instance == instance)
			delete_row(memory, SUBSCRIPTIONS, subscriptions->slots[i].number);
	for (size_t i = timers->count; i-- > 0;)
		if (((const struct store_timer *)timers->slots[i].row)->instance == instance)
			delete_row(memory, TIMERS, timers->slots[i].number);
	for (size_t i = presences->count; i-- > 0;)
		if (((const struct store_presence *)presences->slots[i].row)->instance == instance)
			delete_row(memory, PRESENCES, presences->slots[i].number);
}

static enum store_status
memory_instance_schema(struct store *store, int64_t id, int64_t schema)
{
	struct memory *memory = memory_of(store);
	const struct state_row *old = get(memory, INSTANCES, id);
	struct state_row row;

	if (old == NULL)
		return STORE_NONE;
	row = *old;
	row.instance.schema = schema;
	set(memory, INSTANCES, id, &row);
	return STORE_OK;
}

static enum store_status
memory_instance_delete(struct store *store, int64_t id)
{
	enum store_status status = delete_row(memory_of(store), INSTANCES, id);

	if (status == STORE_OK)
		delete_belongings(memory_of(store), id);
	return status;
}

static enum store_status
memory_instance_find(struct store *store, const char *topic, store_instance_fn *row, void *context)
{
	const struct store_instance *instance = find_shared(memory_of(store), topic);

	if (instance == NULL)
		return STORE_NONE;
	row(context, instance);
	return STORE_OK;
}

static enum store_status
memory_instance_get(struct store *store, int64_t id, store_instance_fn *row, void *context)
{
	const struct state_row *found = get(memory_of(store), INSTANCES, id);

	if (found == NULL)
		return STORE_NONE;
	row(context, &found->instance);
	return STORE_OK;
}

static enum store_status
memory_instance_state(struct store *store, int64_t id, char **state)
{
	const struct state_row *found = get(memory_of(store), INSTANCES, id);

	if (found == NULL)
		return STORE_NONE;
	if (found->state != NULL)
		*state = store_check_memory(strdup(found->state));
	return STORE_OK;
}

static enum store_status
memory_scan_instances(struct store *store, store_instance_fn *row, void *context)
{
	const struct table *instances = &memory_of(store)->tables[INSTANCES];

	for (size_t i = 0; i < instances->count; i++)
		if (!row(context, &((const struct state_row *)instances->slots[i].row)->instance))
			break;
	return STORE_OK;
}

/* --- sockets and joins --- */

static enum store_status
memory_socket_add(struct store *store, struct store_socket *socket)
{
	struct memory *memory = memory_of(store);

	socket->id = ++memory->newest[SOCKETS];
	set(memory, SOCKETS, socket->id, socket);
	return STORE_OK;
}

static enum store_status
memory_socket_delete(struct store *store, int64_t id)
{
	struct memory *memory = memory_of(store);
	struct table *joins = &memory->tables[JOINS];

	if (delete_row(memory, SOCKETS, id) != STORE_OK)
		return STORE_NONE;
	for (size_t i = joins->count; i-- > 0;)
		if (((const struct store_join *)joins->slots[i].row)->socket == id)
			table_set(joins, &memory->journal, joins->slots[i].number, NULL);
	return STORE_OK;
}

static enum store_status
memory_scan_sockets(struct store *store, store_socket_fn *row, void *context)
{
	const struct table *sockets = &memory_of(store)->tables[SOCKETS];

	for (size_t i = 0; i < sockets->count; i++)
		if (!row(context, sockets->slots[i].row))
			break;
	return STORE_OK;
}

static enum store_status
memory_join_add(struct store *store, const struct store_join *join)
{
	struct memory *memory = memory_of(store);

	if (get(memory, JOINS, join->number) != NULL)
		return failed(memory, "there is a join of that number already");
	set(memory, JOINS, join->number, join);
	return STORE_OK;
}

static enum store_status
memory_join_assigns(struct store *store, int64_t number, const char *assigns)
{
	const struct store_join *old = get(memory_of(store), JOINS, number);
	struct store_join row;

	if (old == NULL)
		return STORE_NONE;
	row = *old;
	row.assigns = assigns;
	set(memory_of(store), JOINS, number, &row);
	return STORE_OK;
}

static enum store_status
memory_join_end(struct store *store, int64_t number, int64_t ended)
{
	const struct store_join *old = get(memory_of(store), JOINS, number);
	struct store_join row;

	if (old == NULL || old->ended != 0)
		return STORE_NONE;
	row = *old;
	row.ended = ended;
	set(memory_of(store), JOINS, number, &row);
	return STORE_OK;
}

static enum store_status
memory_scan_joins(struct store *store, store_join_fn *row, void *context)
{
	const struct table *joins = &memory_of(store)->tables[JOINS];

	for (size_t i = 0; i < joins->count; i++)
		if (!row(context, joins->slots[i].row))
			break;
	return STORE_OK;
}

/* --- PubSub --- */

static const struct subscription *
find_subscription(struct memory *memory, int64_t instance, const char *topic)
{
	const struct table *all = &memory->tables[SUBSCRIPTIONS];

	for (size_t i = 0; i < all->count; i++) {
		const struct subscription *subscription = all->slots[i].row;

		if (subscription->instance == instance && strcmp(subscription->topic, topic) == 0)
			return subscription;
	}
	return NULL;
}

static enum store_status
memory_subscribe(struct store *store, int64_t instance, const char *topic)
{
	struct memory *memory = memory_of(store);
	struct subscription row = {0, instance, topic, memory->newest[BROADCASTS]};

	if (find_subscription(memory, instance, topic) != NULL)
		return STORE_OK;
	row.number = ++memory->newest[SUBSCRIPTIONS];
	set(memory, SUBSCRIPTIONS, row.number, &row);
	return STORE_OK;
}

static enum store_status
memory_unsubscribe(struct store *store, int64_t instance, const char *topic)
{
	struct memory *memory = memory_of(store);
	const struct subscription *found = find_subscription(memory, instance, topic);

	return found == NULL ? STORE_NONE : delete_row(memory, SUBSCRIPTIONS, found->number);
}

static enum store_status
memory_subscription(struct store *store, int64_t instance, const char *topic, int64_t *position)
{
	const struct subscription *found = find_subscription(memory_of(store), instance, topic);

	if (found == NULL)
		return STORE_NONE;
	*position = found->position;
	return STORE_OK;
}

static enum store_status
memory_subscriptions(struct store *store, int64_t instance, int64_t *count)
{
	const struct table *all = &memory_of(store)->tables[SUBSCRIPTIONS];
	const struct table *timers = &memory_of(store)->tables[TIMERS];

	for (size_t i = 0; i < all->count; i++)
		*count += ((const struct subscription *)all->slots[i].row)->instance == instance;
	for (size_t i = 0; i < timers->count; i++)
		*count += ((const struct store_timer *)timers->slots[i].row)->instance == instance &&
		          ((const struct store_timer *)timers->slots[i].row)->kind == 0;
	return STORE_OK;
}

/* The subscription of a topic that was given least; NULL: nobody is subscribed. */
static const struct subscription *
furthest_behind(struct memory *memory, const char *topic)
{
	const struct table *all = &memory->tables[SUBSCRIPTIONS];
	const struct subscription *found = NULL;

	for (size_t i = 0; i < all->count; i++) {
		const struct subscription *subscription = all->slots[i].row;

		if (strcmp(subscription->topic, topic) == 0 &&
		    (found == NULL || subscription->position < found->position))
			found = subscription;
	}
	return found;
}

static enum store_status
memory_broadcast_add(struct store *store, struct store_broadcast *broadcast)
{
	struct memory *memory = memory_of(store);

	if (furthest_behind(memory, broadcast->topic) == NULL)
		return STORE_NONE;
	broadcast->id = ++memory->newest[BROADCASTS];
	set(memory, BROADCASTS, broadcast->id, broadcast);
	return STORE_OK;
}

static const struct store_broadcast *
next_broadcast(struct memory *memory, const char *topic, int64_t after)
{
	const struct table *all = &memory->tables[BROADCASTS];

	for (size_t i = table_after(all, after); i < all->count; i++) {
		const struct store_broadcast *broadcast = all->slots[i].row;

		if (strcmp(broadcast->topic, topic) == 0)
			return broadcast;
	}
	return NULL;
}

static int
compare_subscriptions(const void *a, const void *b)
{
	const struct subscription *one = *(const struct subscription *const *)a;
	const struct subscription *other = *(const struct subscription *const *)b;
	int order = strcmp(one->topic, other->topic);

	if (order != 0)
		return order;
	if (one->position != other->position)
		return one->position < other->position ? -1 : 1;
	return one->instance < other->instance ? -1 : 1;
}

static enum store_status
memory_scan_pending(struct store *store, const char *after, store_broadcast_fn *row, void *context)
{
	struct memory *memory = memory_of(store);
	const struct table *all = &memory->tables[SUBSCRIPTIONS];
	const struct subscription **order =
		store_check_memory(malloc((all->count + 1) * sizeof(struct subscription *)));
	size_t count = 0;
	bool going = true;

	for (size_t i = 0; i < all->count; i++) {
		order[count] = all->slots[i].row;
		count += strcmp(order[count]->topic, after) > 0;
	}
	qsort(order, count, sizeof(struct subscription *), compare_subscriptions);
	for (size_t i = 0; i < count && going; i++) {
		const struct store_broadcast *next = next_broadcast(memory, order[i]->topic, order[i]->position);

		if (next != NULL)
			going = row(context, order[i]->instance, next);
	}
	free(order);
	return STORE_OK;
}

static enum store_status
memory_scan_broadcasts(struct store *store, const char *topic, int64_t after, store_broadcast_fn *row,
                       void *context)
{
	struct memory *memory = memory_of(store);
	const struct store_broadcast *next = next_broadcast(memory, topic, after);

	while (next != NULL && row(context, 0, next))
		next = next_broadcast(memory, topic, next->id);
	return STORE_OK;
}

static enum store_status
memory_broadcast_done(struct store *store, int64_t instance, const char *topic, int64_t id)
{
	struct memory *memory = memory_of(store);
	const struct subscription *found = find_subscription(memory, instance, topic);
	struct subscription row;

	if (found == NULL || found->position >= id)
		return STORE_NONE;
	row = *found;
	row.position = id;
	set(memory, SUBSCRIPTIONS, row.number, &row);
	return STORE_OK;
}

static enum store_status
memory_broadcasts_prune(struct store *store, const char *topic)
{
	struct memory *memory = memory_of(store);
	const struct table *all = &memory->tables[BROADCASTS];

	for (size_t i = all->count; i-- > 0;) {
		const struct store_broadcast *broadcast = all->slots[i].row;
		const struct subscription *last = furthest_behind(memory, broadcast->topic);

		if ((topic == NULL || strcmp(broadcast->topic, topic) == 0) &&
		    (last == NULL || last->position >= broadcast->id))
			delete_row(memory, BROADCASTS, broadcast->id);
	}
	return STORE_OK;
}

static enum store_status
memory_backlog(struct store *store, int64_t *count)
{
	const struct memory *memory = memory_of(store);
	const struct table *all = &memory->tables[BROADCASTS];

	if (all->count > 0)
		*count = memory->newest[BROADCASTS] - all->slots[0].number + 1;
	return STORE_OK;
}

/* --- timers --- */

static const struct store_timer *
find_timer(struct memory *memory, int64_t id)
{
	const struct table *timers = &memory->tables[TIMERS];

	for (size_t i = 0; i < timers->count; i++)
		if (((const struct store_timer *)timers->slots[i].row)->id == id)
			return timers->slots[i].row;
	return NULL;
}

static enum store_status
memory_timer_add(struct store *store, struct store_timer *timer)
{
	struct memory *memory = memory_of(store);

	if (find_timer(memory, timer->id) != NULL)
		return failed(memory, "there is a timer of that id already");
	timer->number = ++memory->newest[TIMERS];
	set(memory, TIMERS, timer->number, timer);
	return STORE_OK;
}

static enum store_status
memory_timer_delete(struct store *store, int64_t instance, int64_t id)
{
	struct memory *memory = memory_of(store);
	const struct store_timer *timer = find_timer(memory, id);

	if (timer == NULL || timer->instance != instance)
		return STORE_NONE;
	return delete_row(memory, TIMERS, timer->number);
}

static enum store_status
memory_timer_get(struct store *store, int64_t id, store_timer_fn *row, void *context)
{
	const struct store_timer *timer = find_timer(memory_of(store), id);

	if (timer == NULL)
		return STORE_NONE;
	row(context, timer);
	return STORE_OK;
}

static int
compare_timers(const void *a, const void *b)
{
	const struct store_timer *one = *(const struct store_timer *const *)a;
	const struct store_timer *other = *(const struct store_timer *const *)b;

	if (one->due_ms != other->due_ms)
		return one->due_ms < other->due_ms ? -1 : 1;
	return one->number < other->number ? -1 : 1;
}

static enum store_status
memory_scan_timers(struct store *store, store_timer_fn *row, void *context)
{
	const struct table *timers = &memory_of(store)->tables[TIMERS];
	const struct store_timer **order =
		store_check_memory(malloc((timers->count + 1) * sizeof(struct store_timer *)));
	size_t count = timers->count;

	for (size_t i = 0; i < count; i++)
		order[i] = timers->slots[i].row;
	qsort(order, count, sizeof(struct store_timer *), compare_timers);
	for (size_t i = 0; i < count; i++)
		if (!row(context, order[i]))
			break;
	free(order);
	return STORE_OK;
}

static enum store_status
memory_timer_delete_kind(struct store *store, int64_t instance, int64_t kind)
{
	struct memory *memory = memory_of(store);
	const struct table *timers = &memory->tables[TIMERS];

	for (size_t i = timers->count; i-- > 0;) {
		const struct store_timer *timer = timers->slots[i].row;

		if (timer->instance == instance && timer->kind == kind)
			delete_row(memory, TIMERS, timer->number);
	}
	return STORE_OK;
}

static enum store_status
memory_set_aside(struct store *store, const struct store_refused *refused)
{
	struct memory *memory = memory_of(store);
	int64_t number = ++memory->newest[REFUSED];

	set(memory, REFUSED, number, refused);
	if (number > STORE_REFUSED_MAX)
		table_remove_until(&memory->tables[REFUSED], &memory->journal, number - STORE_REFUSED_MAX);
	return STORE_OK;
}

/* --- presence --- */

static enum store_status
memory_presence_put(struct store *store, struct store_presence *presence)
{
	struct memory *memory = memory_of(store);

	if (presence->number == 0)
		presence->number = ++memory->newest[PRESENCES];
	else if (get(memory, PRESENCES, presence->number) == NULL)
		return STORE_NONE;
	set(memory, PRESENCES, presence->number, presence);
	return STORE_OK;
}

static enum store_status
memory_presence_delete(struct store *store, int64_t number)
{
	return delete_row(memory_of(store), PRESENCES, number);
}

static enum store_status
memory_scan_presences(struct store *store, int64_t instance, store_presence_fn *row, void *context)
{
	const struct table *presences = &memory_of(store)->tables[PRESENCES];

	for (size_t i = 0; i < presences->count; i++) {
		const struct store_presence *presence = presences->slots[i].row;

		if (presence->instance == instance && !row(context, presence))
			break;
	}
	return STORE_OK;
}

/* --- answers --- */

static const struct store_answer *
find_answer(struct memory *memory, const char *key)
{
	const struct table *answers = &memory->tables[ANSWERS];

	for (size_t i = 0; i < answers->count; i++)
		if (strcmp(((const struct store_answer *)answers->slots[i].row)->key, key) == 0)
			return answers->slots[i].row;
	return NULL;
}

static enum store_status
memory_answer_add(struct store *store, const struct store_answer *answer)
{
	struct memory *memory = memory_of(store);

	if (find_answer(memory, answer->key) != NULL)
		return STORE_NONE;
	set(memory, ANSWERS, ++memory->newest[ANSWERS], answer);
	return STORE_OK;
}

static enum store_status
memory_answer_get(struct store *store, const char *key, store_answer_fn *row, void *context)
{
	const struct store_answer *found = find_answer(memory_of(store), key);

	if (found == NULL)
		return STORE_NONE;
	row(context, found);
	return STORE_OK;
}

static enum store_status
memory_answers_prune(struct store *store, int64_t now_ms)
{
	struct memory *memory = memory_of(store);
	const struct table *answers = &memory->tables[ANSWERS];

	for (size_t i = answers->count; i-- > 0;)
		if (((const struct store_answer *)answers->slots[i].row)->until_ms < now_ms)
			delete_row(memory, ANSWERS, answers->slots[i].number);
	return STORE_OK;
}

/* --- marks --- */

/* The number of a mark's row; 0 if there is none. */
static int64_t
find_mark(struct memory *memory, const char *name)
{
	const struct table *marks = &memory->tables[MARKS];

	for (size_t i = 0; i < marks->count; i++)
		if (strcmp(((const struct mark_row *)marks->slots[i].row)->name, name) == 0)
			return marks->slots[i].number;
	return 0;
}

static enum store_status
memory_mark_put(struct store *store, const char *name, int64_t value)
{
	struct memory *memory = memory_of(store);
	int64_t number = find_mark(memory, name);

	if (number == 0)
		number = ++memory->newest[MARKS];
	set(memory, MARKS, number, &(struct mark_row){name, value});
	return STORE_OK;
}

static enum store_status
memory_mark_get(struct store *store, const char *name, int64_t *value)
{
	struct memory *memory = memory_of(store);
	int64_t number = find_mark(memory, name);

	if (number != 0)
		*value = ((const struct mark_row *)get(memory, MARKS, number))->value;
	return STORE_OK;
}

/* --- opening and closing --- */

static void
memory_close(struct store *store)
{
	struct memory *memory = memory_of(store);

	journal_release(&memory->journal);
	for (int i = 0; i < TABLES; i++)
		table_release(&memory->tables[i]);
	free(memory);
}

static const struct store_backend memory_backend = {
	.close = memory_close,
	.changed = memory_changed,
	.begin = memory_begin,
	.commit = memory_commit,
	.rollback = memory_rollback,
	.append = memory_append,
	.last = memory_last,
	.scan = memory_scan,
	.scan_back = memory_scan_back,
	.scan_keys = memory_scan_keys,
	.history = memory_history,
	.prune = memory_prune,
	.instance_add = memory_instance_add,
	.instance_put = memory_instance_put,
	.instance_delete = memory_instance_delete,
	.instance_find = memory_instance_find,
	.instance_get = memory_instance_get,
	.instance_state = memory_instance_state,
	.scan_instances = memory_scan_instances,
	.socket_add = memory_socket_add,
	.socket_delete = memory_socket_delete,
	.scan_sockets = memory_scan_sockets,
	.join_add = memory_join_add,
	.join_assigns = memory_join_assigns,
	.join_end = memory_join_end,
	.scan_joins = memory_scan_joins,
	.subscribe = memory_subscribe,
	.unsubscribe = memory_unsubscribe,
	.subscription = memory_subscription,
	.subscriptions = memory_subscriptions,
	.broadcast_add = memory_broadcast_add,
	.scan_pending = memory_scan_pending,
	.scan_broadcasts = memory_scan_broadcasts,
	.broadcast_done = memory_broadcast_done,
	.broadcasts_prune = memory_broadcasts_prune,
	.backlog = memory_backlog,
	.timer_add = memory_timer_add,
	.timer_delete = memory_timer_delete,
	.timer_get = memory_timer_get,
	.scan_timers = memory_scan_timers,
	.set_aside = memory_set_aside,
	.instance_schema = memory_instance_schema,
	.timer_delete_kind = memory_timer_delete_kind,
	.presence_put = memory_presence_put,
	.presence_delete = memory_presence_delete,
	.scan_presences = memory_scan_presences,
	.answer_add = memory_answer_add,
	.answer_get = memory_answer_get,
	.answers_prune = memory_answers_prune,
	.mark_put = memory_mark_put,
	.mark_get = memory_mark_get,
};

struct store *
store_open_memory(void)
{
	struct memory *memory = store_check_memory(calloc(1, sizeof(*memory)));

	memory->store.backend = &memory_backend;
	return &memory->store;
}
