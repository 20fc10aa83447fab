#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine_internal.h"
#include "json.h"
#include "memory.h"

/* --- the result --- */

struct delivery *
deliver(struct commit_result *result, struct record *record, struct socket *socket, int wants,
        int64_t after)
{
	result->deliveries = memory_grow(result->deliveries, result->delivery_count, &result->delivery_room,
	                                 sizeof(*result->deliveries));
	struct delivery *delivery = &result->deliveries[result->delivery_count++];
	*delivery = (struct delivery){
		.record = record_use(record),
		.socket = socket,
		.wants = wants,
		.after = after,
	};
	socket_use(socket);
	return delivery;
}

void
commit_result_release(struct commit_result *result)
{
	for (size_t i = 0; i < result->delivery_count; i++) {
		record_free(result->deliveries[i].record);
		socket_unuse(result->deliveries[i].socket);
	}
	free(result->deliveries);
	for (size_t i = 0; i < result->catch_up_count; i++)
		catch_up_free(result->catch_ups[i]);
	free(result->catch_ups);
	free(result->woken);
	while (result->answered) {
		struct message *message = result->answered;
		result->answered = message->next;
		message_free(message);
	}
	*result = (struct commit_result){0};
}

/* A unit for one socket, if it is known what it follows; else a fill brings it. */
static void
deliver_next(struct engine *engine, struct commit_result *result, struct record *record,
             struct socket *socket, int wants)
{
	if (socket->polled && !socket->ended)
		poll_news(engine, socket, record->row.number);
	if (!socket->known || socket->ended || socket->polled)
		return;
	deliver(result, record, socket, wants, socket->last);
	socket->last = record->row.number;
}

static void
deliver_to_joined(struct engine *engine, struct commit_result *result, struct record *record,
                  struct instance *instance)
{
	watch_fire(engine, instance, record->row.revision);
	for (struct join *join = instance->joins; join; join = join->next_of_instance)
		if (!join->ended && join->number < record->row.number)
			deliver_next(engine, result, record, join->socket, join->wants);
}

/* --- writing what is staged --- */

/* The state stands in an earlier row: say in which. */
static void
refer_to_state(struct record *record)
{
	json_object *detail = json_read(record->row.detail);
	if (!detail)
		detail = json_object_new_object();
	json_object_object_add(detail, "state_of", json_object_new_int64(record->state_of->row.number));
	record_set(&record->row.detail, json_text(detail, NULL));
	json_object_put(detail);
}

static enum store_status
write_birth(struct engine *engine, struct instance *instance, const struct staged *staged)
{
	const struct record *record = staged->record;
	instance->next.revision = instance->next.state_revision = record ? record->row.revision : 0;
	instance->next.version = instance->next.state_version = record ? record->row.version : 0;
	enum store_status status = store_instance_add(engine->store, &instance->next, staged->birth);
	return status == STORE_OK ? hooks_write_birth(engine, instance) : status;
}

static enum store_status
write_row(struct engine *engine, struct staged *staged)
{
	struct record *record = staged->record;
	struct instance *instance = staged->instance;
	enum store_status status = STORE_OK;
	if (instance && !instance->next.id)
		status = write_birth(engine, instance, staged);
	if (status != STORE_OK)
		return status;
	if (record->state_of)
		refer_to_state(record);
	if (instance) {
		record->row.instance = instance->next.id;
		record->row.previous = instance->next.last_commit;
	}
	status = store_append(engine->store, &record->row);
	if (status != STORE_OK || !instance)
		return status;
	instance->next.revision = record->row.revision;
	instance->next.version = record->row.version;
	instance->next.last_commit = record->row.number;
	instance_changed(engine, instance, record->row.number,
	                 record->row.operations ? strlen(record->row.operations) : 0);
	return STORE_OK;
}

static enum store_status
write_join(struct engine *engine, struct staged *staged)
{
	struct join *join = staged->join;
	int64_t number = staged->record->row.number;
	struct store_join row = {
		.number = number,
		.ended = join->instance ? 0 : number,
		.socket = join->socket->row.id,
		.instance = join->instance ? join->instance->next.id : 0,
		.topic = join->topic,
		.join_ref = join->join_ref,
		.wants = join->wants,
		.assigns = join->assigns ? json_text(join->assigns, NULL) : NULL,
		.state_key = join->instance ? join->instance->channel->state_key : NULL,
		.state_version_key = join->instance ? join->instance->channel->state_version_key : NULL,
	};
	enum store_status status = store_join_add(engine->store, &row);
	return status == STORE_OK ? hooks_write_join(engine, staged) : status;
}

static enum store_status
delete_instance(struct engine *engine, struct instance *instance)
{
	instance->deleted = true;
	return store_instance_delete(engine->store, instance->next.id);
}

/* A private instance goes with its join, or with the hook that follows. */
static enum store_status
write_end(struct engine *engine, struct staged *staged)
{
	struct join *join = staged->ends;
	struct instance *instance = join->instance;
	enum store_status status = store_join_end(engine->store, join->number, staged->record->row.number);
	if (status == STORE_OK)
		status = hooks_write_end(engine, staged);
	if (status != STORE_OK || !instance || instance->row.shared || instance->channel->terminate)
		return status;
	return delete_instance(engine, instance);
}

/* The socket has ended meanwhile: there is no join, and no private instance of its own. */
static enum store_status
write_no_join(struct engine *engine, const struct staged *staged)
{
	struct instance *instance = staged->join->instance;
	bool own = instance && !instance->row.shared && !staged->takes;
	return own ? delete_instance(engine, instance) : STORE_OK;
}

static struct join *
taken(const struct staged *staged)
{
	struct join *join = join_resumable(staged->instance);
	return join && join->number == staged->takes ? join : NULL;
}

/* STORE_NONE: its place cannot be taken any more; it runs again, and finds that. */
static enum store_status
write_taken(struct engine *engine, const struct staged *staged)
{
	if (!taken(staged))
		return STORE_NONE;
	return store_join_end(engine->store, staged->takes, staged->record->row.number);
}

static enum store_status
write_socket(struct engine *engine, struct staged *staged)
{
	struct socket *socket = staged->socket;
	if (socket->ended)
		return STORE_OK;
	struct store_socket row = socket->row;
	row.assigns = socket->assigns ? json_text(socket->assigns, NULL) : NULL;
	enum store_status status = store_socket_add(engine->store, &row);
	staged->socket_id = row.id;
	return status;
}

static bool
socket_ended(const struct staged *staged)
{
	const struct socket *socket = staged->message->socket;
	return socket && socket->ended;
}

static enum store_status
write_assigns(struct engine *engine, const struct staged *staged)
{
	enum store_status status =
		store_join_assigns(engine->store, staged->assigner->number, json_text(staged->assigns, NULL));
	return status == STORE_OK ? hooks_write_assigns(engine, staged) : status;
}

/* What the row means for joins, unless the socket has ended, which is their end too. */
static enum store_status
write_joins(struct engine *engine, struct staged *staged)
{
	enum store_status status = STORE_OK;
	bool ended = socket_ended(staged);
	if (staged->ends && !ended)
		status = write_end(engine, staged);
	if (status == STORE_OK && staged->join && ended)
		status = write_no_join(engine, staged);
	else if (status == STORE_OK && staged->join)
		status = write_join(engine, staged);
	if (status == STORE_OK && staged->takes && !ended)
		status = write_taken(engine, staged);
	if (status == STORE_OK && staged->assigns && !ended)
		status = write_assigns(engine, staged);
	return status;
}

static enum store_status
write_effects(struct engine *engine, const struct staged *staged)
{
	const struct instance *its = staged->instance;
	int64_t instance = its && !its->deleted ? its->next.id : 0;
	enum store_status status = STORE_OK;
	const struct message *message = staged->message;
	if ((staged->join && staged->join->instance) ||
	    (message &&
	     (message->kind == MESSAGE_VISIT ? staged->record || staged->birth : !staged->record)))
		status = effects_write(&staged->message->effects, engine->store, instance);
	return status == STORE_OK ? effects_write(&staged->effects, engine->store, instance) : status;
}

static enum store_status
write_schema(struct engine *engine, struct instance *instance)
{
	instance->next.schema = instance->channel->state_schema;
	return store_instance_schema(engine->store, instance->next.id, instance->next.schema);
}

static enum store_status
write_staged(struct engine *engine, struct staged *staged)
{
	enum store_status status = STORE_OK;
	if (staged->socket)
		status = write_socket(engine, staged);
	else if (staged->message->post)
		status = post_write(engine, staged);
	if (status == STORE_OK && staged->birth && !staged->record)
		status = write_birth(engine, staged->instance, staged);
	if (status == STORE_OK && staged->record)
		status = write_row(engine, staged);
	if (status == STORE_OK && staged->record)
		status = write_joins(engine, staged);
	if (status == STORE_OK)
		status = presence_write(engine, staged);
	if (status == STORE_OK)
		status = visit_write(engine, staged);
	if (status == STORE_OK && staged->migrates)
		status = write_schema(engine, staged->instance);
	if (status == STORE_OK && staged->buries)
		status = delete_instance(engine, staged->instance);
	return status == STORE_OK ? write_effects(engine, staged) : status;
}

/* --- what another process has committed --- */

struct foreign {
	struct engine *engine;
	struct commit_result *result;
	bool conflict;
};

static void
foreign_event(struct foreign *foreign, const struct store_record *row, struct instance *instance)
{
	struct record *record = record_copy(row);
	record->topic = memory_strdup(instance->row.topic);
	record->epoch = instance->row.epoch;
	deliver_to_joined(foreign->engine, foreign->result, record, instance);
	record_free(record);
}

/* The other process may go before it has written the instance's row: so it is written here too. */
static bool
foreign_row(void *context, const struct store_record *row)
{
	struct foreign *foreign = context;
	struct engine *engine = foreign->engine;
	struct instance *instance = instance_by_id(engine, row->instance);
	engine->last = row->number;
	if (row->key)
		keys_commit(engine, row->key, row->number);
	if (!instance)
		return true;
	instance_follow(engine, instance, row);
	if (record_is_public(row->kind))
		foreign_event(foreign, row, instance);
	if (instance->staged)
		foreign->conflict = true;
	else
		instance_discard(engine, instance);
	return true;
}

/* Another process deletes those that nobody is joined to or has changed. */
static void
foreign_deletions(struct foreign *foreign)
{
	struct engine *engine = foreign->engine;
	struct lh_entry *entry, *next;
	lh_foreach_safe(engine->shared_by_topic, entry, next)
	{
		struct instance *instance = (struct instance *)lh_entry_v(entry);
		if (!instance->row.id || instance->joins || instance_look(engine, instance) != STORE_NONE)
			continue;
		if (instance->staged)
			foreign->conflict = true;
		instance_unborn(engine, instance);
	}
}

/* Put back while this process runs: nothing in memory is true any more.  The next process sees what is missing. */
static void
die_if_put_back(struct engine *engine)
{
	int64_t last;
	if (store_last(engine->store, &last) != STORE_OK || last >= engine->last)
		return;
	engine_log(engine,
	           "commits are gone from the database: if a backup was put back, clients begin anew");
	_exit(1);
}

/* Read and delivered before any unit of our own is made.  A conflict: what is staged must run again. */
static enum store_status
foreign_rows(struct engine *engine, struct commit_result *result, bool *conflict)
{
	struct foreign foreign = {.engine = engine, .result = result};
	die_if_put_back(engine);
	enum store_status status = store_scan(engine->store, engine->last, INT64_MAX, foreign_row, &foreign);
	engine->posts_look = true;
	if (status == STORE_OK)
		foreign_deletions(&foreign);
	*conflict = foreign.conflict;
	return status;
}

/* --- after the commit --- */

static void
apply_join(struct engine *engine, struct staged *staged)
{
	struct join *join = staged->join;
	struct instance *instance = join->instance;
	join->number = staged->record->row.number;
	join->instance_id = staged->record->row.instance;
	if (join->socket->ended) {
		join_free(join);
		if (instance && !instance->row.shared && !staged->takes)
			instance_die(engine, instance);
		return;
	}
	if (staged->takes)
		join_taken(engine, taken(staged), join->number);
	join_attach(join);
	if (!instance) /* it failed: ended as it began */
		join_ended(engine, join, join->number);
}

static void
apply_instance(struct engine *engine, struct instance *instance)
{
	if (!instance->row.id) {
		instance->row.id = instance->next.id;
		instance_register(engine, instance);
	}
	if (!instance->put)
		instance->row = instance->next;
}

/* The last look at an instance: it may be freed. */
static void
unstage(struct engine *engine, struct instance *instance)
{
	instance->staged--;
	if (instance->dead)
		instance_die(engine, instance);
	else
		instance_forget(engine, instance);
}

static void
apply_message(struct engine *engine, struct staged *staged)
{
	struct message *message = staged->message;
	struct socket *socket = message->socket;
	if (staged->assigns && !socket_ended(staged))
		join_give_assigns(staged->assigner, json_object_get(staged->assigns));
	effects_applied(engine, &staged->effects);
	effects_applied(engine, &message->effects);
	if (!message->post && socket) {
		socket->done = message->number;
		/* a link broke while it ran: its answer is to have all the same */
		if (!socket->known && !socket->polled && !socket->ended)
			socket_want_fill(engine, socket, socket->position);
	}
	message_answer(engine, message, staged->outcome ? staged->outcome : OUTCOME_COMMITTED);
}

static void
apply_row(struct engine *engine, struct staged *staged, struct commit_result *result)
{
	struct record *record = staged->record;
	struct instance *instance = staged->instance;
	engine->last = record->row.number;
	if (record->row.key)
		keys_commit(engine, record->row.key, record->row.number);
	if (instance)
		apply_instance(engine, instance);
	if (record_is_public(record->row.kind))
		deliver_to_joined(engine, result, record, instance);
	else
		deliver_next(engine, result, record, staged->message->socket,
		             staged->join ? staged->join->wants : staged->message->wants);
	if (staged->ends && !socket_ended(staged))
		join_ended(engine, staged->ends, record->row.number);
	if (staged->join)
		apply_join(engine, staged);
	staged->join = NULL;
}

static void
apply_socket(struct engine *engine, const struct staged *staged)
{
	if (!staged->socket->ended)
		socket_stored(engine, staged->socket, staged->socket_id);
	effects_applied(engine, &staged->effects);
	socket_unuse(staged->socket);
}

/* It was committed, or put back. */
static void
stage_settled(struct engine *engine, struct staged *staged)
{
	struct instance *instance = staged->instance;
	if (staged->presence)
		instance->presence_staged = false;
	if (!staged->buries && !staged->takes)
		return;
	instance->settling = false;
	engine->posts_look = true;
	ready_waiting(engine, instance);
}

static void
bury(struct engine *engine, struct instance *instance)
{
	instance->staged--;
	instance->deleted = false;
	if (instance->row.shared)
		instance_unborn(engine, instance);
	else
		instance_die(engine, instance);
}

static void
apply(struct engine *engine, struct staged *staged, struct commit_result *result)
{
	struct instance *instance = staged->instance;
	bool buries = staged->buries;
	if (instance)
		stage_settled(engine, staged);
	if (staged->socket)
		apply_socket(engine, staged);
	if (staged->record)
		apply_row(engine, staged, result);
	else if (instance && staged->birth)
		apply_instance(engine, instance);
	if (staged->message)
		apply_message(engine, staged);
	if (instance && buries)
		bury(engine, instance);
	else if (instance)
		unstage(engine, instance);
	staged_release(staged);
}

/* --- the transaction --- */

static enum store_status
write_all(struct engine *engine, struct staged *list, size_t count, struct house *house)
{
	enum store_status status = STORE_OK;
	int64_t now = clock_ms();
	int64_t last = engine->last;
	for (size_t i = 0; i < count && status == STORE_OK; i++) {
		status = write_staged(engine, &list[i]);
		if (list[i].record)
			last = list[i].record->row.number;
	}
	if (status == STORE_OK)
		status = posts_prune(engine, list, count);
	if (status == STORE_OK && !engine->guest && now >= engine->retry_ms)
		status = house_keep(engine, count, last, now, house);
	return status;
}

enum transaction { DONE, FAILED, CONFLICT, BUSY };

static enum transaction
transaction(struct engine *engine, struct staged *list, size_t count, struct commit_result *result)
{
	bool foreign = false, conflict = false;
	struct house house = {.written = engine->written};
	enum store_status status = store_begin(engine->store, &foreign);
	if (status != STORE_OK)
		return status == STORE_BUSY ? BUSY : FAILED;
	if (foreign)
		status = foreign_rows(engine, result, &conflict);
	if (conflict) {
		store_rollback(engine->store);
		return CONFLICT;
	}
	if (status == STORE_OK)
		status = write_all(engine, list, count, &house);
	if (status == STORE_OK)
		status = store_commit(engine->store);
	if (status != STORE_OK) {
		store_rollback(engine->store);
		instances_put(engine, false);
		/* STORE_NONE: something was done meanwhile, such as a post given, a timer cancelled, a place taken */
		return status == STORE_NONE ? CONFLICT : FAILED;
	}
	for (size_t i = 0; i < count; i++)
		apply(engine, &list[i], result);
	instances_put(engine, true);
	house_kept(engine, &house);
	return DONE;
}

static void
say(struct engine *engine, bool failing)
{
	if (failing && !engine->failing)
		engine_log(engine, "commits fail: %s", store_message(engine->store));
	if (!failing && engine->failing)
		engine_log(engine, "commits succeed again");
	engine->failing = failing;
}

/* --- when it failed --- */

/* Every instance is put back once, when nothing of it is staged any more. */
static void
put_back(struct engine *engine, struct staged *list, size_t count)
{
	for (size_t i = 0; i < engine->blank_count; i++)
		engine->blanks[i]->deleted = false;
	engine->blanks_due_ms = 0;
	for (size_t i = 0; i < count; i++) {
		if (list[i].ends && !socket_ended(&list[i]) && list[i].ends->instance)
			list[i].ends->instance->deleted = false;
		if (list[i].buries)
			list[i].instance->deleted = false;
		if (list[i].record && list[i].record->row.key)
			keys_unstage(engine, list[i].record->row.key);
		if (list[i].instance)
			stage_settled(engine, &list[i]);
		if (list[i].assigns && !socket_ended(&list[i]))
			join_stage_assigns(list[i].assigner, json_object_get(list[i].assigner->assigns));
		if (list[i].instance && --list[i].instance->staged > 0)
			list[i].instance = NULL;
	}
	for (size_t i = 0; i < count; i++) {
		if (list[i].instance)
			instance_discard(engine, list[i].instance);
		if (!list[i].socket) /* its effects are those of connect, which does not run again */
			staged_release(&list[i]);
	}
}

static void
give_up(struct engine *engine, struct staged *staged)
{
	if (staged->socket) {
		effects_release(&staged->effects);
		socket_end(engine, staged->socket);
		socket_unuse(staged->socket);
	} else {
		message_answer(engine, staged->message, OUTCOME_FAILED);
	}
}

static void
run_again(struct engine *engine, const struct staged *staged)
{
	if (staged->socket)
		*staged_add(engine) = *staged;
	else
		message_ready(engine, staged->message);
	messages_run(engine);
}

static struct staged *
take_staged(struct engine *engine, size_t *count)
{
	struct staged *list = engine->staged;
	*count = engine->staged_count;
	engine->staged = NULL;
	engine->staged_count = engine->staged_room = 0;
	return list;
}

static void commit_staged(struct engine *engine, struct commit_result *result);

/* Each by itself now: so that what can't be committed does not keep the others from it. */
static void
commit_singly(struct engine *engine, struct staged *list, size_t count, bool conflict,
              struct commit_result *result)
{
	for (size_t i = 0; i < count; i++) {
		if (count == 1 && !conflict) {
			give_up(engine, &list[i]);
			continue;
		}
		run_again(engine, &list[i]);
		commit_staged(engine, result);
	}
}

static void
keep_staged(struct engine *engine, struct staged *list, size_t count)
{
	free(engine->staged);
	engine->staged = list;
	engine->staged_count = engine->staged_room = count;
}

/* Another process holds the lock: what is staged waits for a while. */
static bool
wait_for_lock(struct engine *engine, struct staged *list, size_t count)
{
	int64_t now = clock_ms();
	if (!engine->busy_ms)
		engine->busy_ms = now;
	if (now - engine->busy_ms > BUSY_MS)
		return false;
	keep_staged(engine, list, count);
	engine->retry_ms = now + 1;
	return true;
}

static void
give_all_up(struct engine *engine, struct staged *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		give_up(engine, &list[i]);
}

/* At the end: nobody waits for what is staged any more. */
void
staged_drop(struct engine *engine)
{
	size_t count;
	struct staged *list = take_staged(engine, &count);
	struct message *message = NULL;
	put_back(engine, list, count);
	give_all_up(engine, list, count);
	free(list);
	while ((message = engine->answered)) {
		engine->answered = message->next;
		message_free(message);
	}
	engine->answered_last = NULL;
}

static void
commit_staged(struct engine *engine, struct commit_result *result)
{
	size_t count;
	struct staged *list = take_staged(engine, &count);
	enum transaction outcome = transaction(engine, list, count, result);
	if (outcome == BUSY && wait_for_lock(engine, list, count))
		return;
	if (outcome != BUSY)
		engine->busy_ms = 0;
	engine->conflicts = outcome == CONFLICT ? engine->conflicts + 1 : 0;
	if (outcome != CONFLICT)
		say(engine, outcome != DONE);
	if (outcome != DONE) {
		engine->retry_ms = clock_ms() + RETRY_MS;
		put_back(engine, list, count);
		if (outcome == BUSY)
			give_all_up(engine, list, count);
		else
			commit_singly(engine, list, count, outcome == CONFLICT && engine->conflicts < CONFLICTS_MAX,
			              result);
	}
	free(list);
}

/* --- the turn --- */

static void
take_answered(struct engine *engine, struct commit_result *result)
{
	result->answered = engine->answered;
	engine->answered = engine->answered_last = NULL;
	result->woken = engine->woken;
	result->woken_count = engine->woken_count;
	engine->woken = NULL;
	engine->woken_count = engine->woken_room = 0;
}

void
engine_commit(struct engine *engine, struct commit_result *result)
{
	*result = (struct commit_result){0};
	if (engine->staged_count || house_is_due(engine, clock_ms()) || store_changed(engine->store))
		commit_staged(engine, result);
	for (struct message *m = engine->answered; m; m = m->next)
		if (m->socket)
			socket_lose_joins(engine, m->socket);
	fill_sockets(engine, result);
	polls_answered(engine);
	take_answered(engine, result);
	instances_trim(engine);
}
