#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"
#include "json.h"
#include "memory.h"

/* --- a message's own life --- */

struct message *
message_new(struct socket *socket)
{
	struct message *message = memory_zeroed(1, sizeof(*message));
	message->socket = socket;
	socket_use(socket);
	return message;
}

void
message_free(struct message *message)
{
	if (!message)
		return;
	free(message->topic);
	free(message->ref);
	free(message->join_ref);
	free(message->event);
	free(message->key);
	free(message->row_key);
	free(message->resume);
	json_object_put(message->payload);
	json_object_put(message->reason);
	json_object_put(message->assigns);
	effects_release(&message->effects);
	post_free(message->post);
	visit_free(message->visit);
	buffer_release(&message->reply);
	if (message->socket)
		socket_unuse(message->socket);
	free(message);
}

static void
append(struct message **first, struct message **last, struct message *message)
{
	message->next = NULL;
	if (*last)
		(*last)->next = message;
	else
		*first = message;
	*last = message;
}

bool
message_gone(const struct message *message)
{
	if (message->post)
		return message->post->instance && message->post->instance->dead;
	return message->socket && message->socket->ended;
}

void
message_answer(struct engine *engine, struct message *message, enum message_outcome outcome)
{
	if (message->post) {
		post_done(engine, message, outcome);
		return;
	}
	message->outcome = message_gone(message) ? OUTCOME_GONE : outcome;
	if (message->socket && message->socket->running == message)
		message->socket->running = NULL;
	append(&engine->answered, &engine->answered_last, message);
}

static void
refuse(struct engine *engine, struct message *message, json_object *reason)
{
	json_object_put(message->reason); /* of a run that did not count */
	message->reason = reason;
	message_answer(engine, message, OUTCOME_REFUSED);
}

json_object *
reason_object(const char *member, json_object *reason)
{
	json_object *object = json_object_new_object();
	json_object_object_add(object, member, reason);
	return object;
}

/* --- in order: whoever is in here takes the next message; one for a busy instance waits there --- */

void
message_ready(struct engine *engine, struct message *message)
{
	append(&engine->ready, &engine->ready_last, message);
}

static void
message_ready_first(struct engine *engine, struct message *message)
{
	message->next = engine->ready;
	engine->ready = message;
	if (!engine->ready_last)
		engine->ready_last = message;
}

bool
run_counts(struct engine *engine, struct run *run)
{
	struct instance *instance = run->instance;
	struct message *message = run->message;
	if (!message_gone(message) && !instance->stale)
		return true;
	if (instance->loaded && !instance->stale)
		patch_edit_undo(&instance->edit);
	if (instance->stale || instance->dead)
		instance_discard(engine, instance);
	else
		instance_forget(engine, instance);
	message_ready_first(engine, message);
	return false;
}

/* --- waiting for a busy instance --- */

void
wait_in(struct instance *instance, struct message *message)
{
	append(&instance->waiting, &instance->waiting_last, message);
}

bool
wait_for(struct instance *instance, struct message *message)
{
	if (!instance->busy && !instance->settling)
		return false;
	wait_in(instance, message);
	return true;
}

/*
 * What has waited is ready now.  The first may make the instance busy again, or be its end: each finds its
 * way by topic again.
 */
void
ready_waiting(struct engine *engine, struct instance *instance)
{
	while (instance->waiting) {
		struct message *message = instance->waiting;
		instance->waiting = message->next;
		message_ready(engine, message);
	}
	instance->waiting_last = NULL;
}

/* --- the kinds of messages --- */

static void
finish_event(struct engine *engine, struct run *run, struct join *join, enum seance_status status)
{
	status = settle(engine, run, status);
	if (status == SEANCE_OK)
		stage_event(engine, run->message, run->instance, join, &run->call);
	else if (status == SEANCE_REFUSED)
		refuse(engine, run->message, refusal_of(&run->call, "reason"));
	else
		stage_crash(engine, run->message, join);
}

static void
event_run(struct engine *engine, struct message *message, struct join *join)
{
	struct instance *instance = join->instance;
	struct run run;
	run_init(&run, message, instance, join->next_assigns);
	run.call.edit = &instance->edit;
	run.call.version = instance->version;
	enum seance_status status = run_callback(engine, &run, run_event);
	ready_waiting(engine, instance);
	if (run_counts(engine, &run))
		finish_event(engine, &run, join, status);
	call_release(&run.call);
}

static void
refresh(struct engine *engine, struct message *message, struct join *join)
{
	struct staged *staged = stage(engine, message, STORE_REFRESH, join->instance, join->join_ref);
	stage_state(engine, staged, join->instance);
}

static void
leave(struct engine *engine, struct message *message, struct join *join)
{
	stage(engine, message, STORE_LEAVE, join->instance, message->join_ref)->ends = join;
}

static void
run_on_state(struct engine *engine, struct message *message, struct join *join)
{
	switch (instance_ready(engine, join->instance, message)) {
	case INSTANCE_READY:
		if (message->kind == MESSAGE_REFRESH)
			refresh(engine, message, join);
		else
			event_run(engine, message, join);
		break;
	case INSTANCE_UNREADABLE:
		message_answer(engine, message, OUTCOME_FAILED);
		break;
	case INSTANCE_WAITING:
		break;
	}
}

/* An event with its key was. */
static bool
was_done(struct engine *engine, struct message *message, const struct join *join)
{
	int64_t number;
	if (!message->key)
		return false;
	if (!message->row_key)
		message->row_key = key_text(join->instance, message->key, message->event, message->payload);
	enum key_state state = keys_find(engine, message->row_key, &number);
	enum message_outcome outcome = state == KEY_DONE ? OUTCOME_REPEATED : OUTCOME_MISUSED;
	if (state == KEY_NEW)
		return false;
	if (number == 0)
		stage_rowless(engine, message, join->instance)->outcome = outcome;
	else
		message_answer(engine, message, outcome);
	return true;
}

/* For a message of a topic that is joined: leave, event, refresh. */
static void
run_joined(struct engine *engine, struct message *message)
{
	struct join *join = socket_join(message->socket, message->topic);
	bool leaves = message->kind == MESSAGE_LEAVE;
	message->wants = join ? join->wants : 0;
	if (!join)
		message_answer(engine, message, leaves ? OUTCOME_LEFT : OUTCOME_UNMATCHED);
	else if (message->kind == MESSAGE_UNKNOWN)
		message_answer(engine, message, OUTCOME_UNKNOWN);
	else if (leaves && strcmp(join->join_ref, message->join_ref) != 0)
		message_answer(engine, message, OUTCOME_NOTHING);
	else if (wait_for(join->instance, message) || was_done(engine, message, join))
		return;
	else if (leaves)
		leave(engine, message, join);
	else
		run_on_state(engine, message, join);
}

/* A refusal ends the join that this one was to replace, as in the reference; that is a commit. */
static void
join_refused(struct engine *engine, struct message *message, json_object *response)
{
	struct join *replaced = socket_join(message->socket, message->topic);
	if (!replaced) {
		refuse(engine, message, response);
		return;
	}
	stage_failed_join(engine, message, "refused", response);
}

/* Returns whether the join may go on. */
static bool
authorize(struct engine *engine, struct message *message)
{
	struct run run;
	if (message->authorized || !message->channel->authorize)
		return true;
	run_init(&run, message, NULL, message->socket->assigns);
	enum seance_status status = run_callback(engine, &run, run_authorize);
	if (run.call.assigned) { /* init sees them; they are stored with the join */
		json_object_put(message->assigns);
		message->assigns = call_take_assigns(&run.call);
	}
	message->effects = run.call.effects;
	run.call.effects = (struct effects){0};
	if (message->socket->ended)
		message_answer(engine, message, OUTCOME_GONE);
	else if (status == SEANCE_REFUSED)
		join_refused(engine, message, refusal_of(&run.call, "reason"));
	else if (status == SEANCE_CRASHED && message->by_api)
		message_answer(engine, message, OUTCOME_CRASHED);
	else if (status == SEANCE_CRASHED)
		join_refused(engine, message, reason_object("reason", json_object_new_string("join crashed")));
	call_release(&run.call);
	message->authorized = status == SEANCE_OK && !message->outcome;
	return message->authorized;
}

static void
init_failed(struct engine *engine, struct run *run, enum seance_status status)
{
	struct message *message = run->message;
	json_object_put(message->reason); /* of a run that did not count */
	message->reason = NULL;
	if (status == SEANCE_CRASHED) {
		stage_failed_join(engine, message, "crash", json_object_new_boolean(1));
		return;
	}
	json_object *why = json_object_get(run->call.reason);
	if (!json_object_is_type(why, json_type_object))
		why = reason_object("message", why);
	message->reason = json_object_get(why);
	stage_failed_join(engine, message, "error", why);
}

static void
finish_init(struct engine *engine, struct run *run, enum seance_status status)
{
	struct instance *instance = run->instance;
	status = settle_init(engine, run, status);
	if (status != SEANCE_OK) {
		init_failed(engine, run, status);
		instance_forget(engine, instance);
		return;
	}
	json_object *state = run->call.first_state;
	run->call.first_state = NULL;
	instance_give_state(engine, instance, state);
	show_take(instance, &run->call.shown);
	stage_join(engine, run->message, instance, NULL, &run->call);
}

static void
init_run(struct engine *engine, struct message *message, struct instance *instance)
{
	struct run run;
	run_init(&run, message, instance, first_assigns(message));
	run.call.init = true;
	enum seance_status status = run_callback(engine, &run, run_init_callback);
	ready_waiting(engine, instance);
	if (run_counts(engine, &run))
		finish_init(engine, &run, status);
	call_release(&run.call);
}

/* What it begins with; where it goes on with another's place, over what that had.  Owned by the caller. */
static json_object *
joined_assigns(const struct message *message, const struct join *taken)
{
	json_object *assigns = json_copy(taken ? taken->next_assigns : first_assigns(message));
	json_object *over = taken ? first_assigns(message) : NULL;
	if (!assigns)
		return json_copy(over);
	if (over) {
		json_object_object_foreach(over, key, value)
			json_object_object_add(assigns, key, json_copy(value));
	}
	return assigns;
}

/* Without init: the instance is there; a private one since its client comes back to it. */
static void
join_living(struct engine *engine, struct message *message, struct instance *instance)
{
	const struct join *taken = instance->row.shared ? NULL : join_resumable(instance);
	enum ready ready = instance_ready(engine, instance, message);
	if (ready == INSTANCE_UNREADABLE)
		message_answer(engine, message, OUTCOME_FAILED);
	if (ready != INSTANCE_READY)
		return;
	struct seance_call call = {
		.channel = instance->channel,
		.assigns = joined_assigns(message, taken),
	};
	stage_join(engine, message, instance, taken, &call);
	call_release(&call);
}

/*
 * The private instance that it comes back to; NULL: it has gone, or is none that one may come back to.  In another
 * history, after a backup was put back, its number may be somebody else's.
 */
static struct instance *
resumed_instance(struct engine *engine, const struct message *message)
{
	struct instance *instance =
		message->since_instance ? instance_by_id(engine, message->since_instance) : NULL;
	if (!instance)
		return NULL;
	if (!instance->dead && !instance->row.shared && instance->channel == message->channel &&
	    message->has_since && message->since_epoch == instance->row.epoch &&
	    strcmp(instance->row.topic, message->topic) == 0 && join_resumable(instance))
		return instance;
	instance_forget(engine, instance); /* it may be in memory since it was looked for */
	return NULL;
}

static struct instance *
private_instance(struct engine *engine, const struct message *message)
{
	struct instance *resumed = resumed_instance(engine, message);
	return resumed ? resumed : instance_new(message->channel, message->topic);
}

static void
run_join(struct engine *engine, struct message *message)
{
	struct instance *instance = NULL;
	message->channel = channel_for(engine, message->topic);
	enum seance_scope scope = message->wants & JOIN_REQUESTS ? SEANCE_PRIVATE : SEANCE_SHARED;
	if (!message->channel || (message->by_api && message->channel->scope != scope)) {
		message_answer(engine, message, OUTCOME_UNMATCHED);
		return;
	}
	if (message->socket->join_count >= engine->limits.joins_per_socket &&
	    !socket_join(message->socket, message->topic)) {
		refuse(engine, message, reason_object("reason", json_object_new_string("too many joins")));
		return;
	}
	if (!authorize(engine, message))
		return;
	if (message->channel->scope == SEANCE_PRIVATE)
		instance = private_instance(engine, message);
	else if (instance_find_shared(engine, message->channel, message->topic, &instance) != STORE_OK)
		message_answer(engine, message, OUTCOME_FAILED);
	if (!instance || wait_for(instance, message))
		return;
	if (instance->row.id || instance->loaded)
		join_living(engine, message, instance);
	else
		init_run(engine, message, instance);
}

static void
answer_run(struct engine *engine, struct message *message)
{
	record_set(&stage(engine, message, STORE_ANSWER, NULL, NULL)->record->row.detail,
	           json_text(message->payload, NULL));
}

static void
message_run(struct engine *engine, struct message *message)
{
	if (message->post)
		post_run(engine, message);
	else if (message->kind == MESSAGE_VISIT)
		visit_run(engine, message);
	else if (message->visit && visit_was_answered(engine, message))
		return;
	else if (message->kind == MESSAGE_BROADCAST)
		stage_rowless(engine, message, NULL);
	else if (message->socket->ended)
		message_answer(engine, message, OUTCOME_GONE);
	else if (message->kind == MESSAGE_ANSWER)
		answer_run(engine, message);
	else if (message->kind == MESSAGE_PLAIN)
		message_answer(engine, message, OUTCOME_NOTHING);
	else if (message->kind == MESSAGE_JOIN)
		run_join(engine, message);
	else
		run_joined(engine, message);
}

void
messages_run(struct engine *engine)
{
	while (engine->ready) {
		struct message *message = engine->ready;
		engine->ready = message->next;
		if (!engine->ready)
			engine->ready_last = NULL;
		message->next = NULL;
		message_run(engine, message);
	}
}

void
message_take(struct engine *engine, struct message *message)
{
	message->socket->running = message;
	message_ready(engine, message);
	messages_run(engine);
}

/* --- once, and in order --- */

static enum submit
submit_again(struct engine *engine, struct message *message, int64_t position,
             bool (*alive)(void *request), void **old)
{
	struct socket *socket = message->socket;
	if (socket->running) {
		*old = socket->running->request;
		socket->running->request = message->request;
		message_free(message);
		return SUBMIT_REPEATED;
	}
	if (!alive(message->request)) /* the copy that counts has come, or is to come */
		return SUBMIT_STALE;
	socket_want_fill(engine, socket, position); /* its answer was lost, and others' units in it */
	if (socket->done == message->number) {
		message_answer(engine, message, OUTCOME_COMMITTED);
		return SUBMIT_TAKEN;
	}
	message_take(engine, message);
	return SUBMIT_TAKEN;
}

enum submit
engine_submit(struct engine *engine, struct message *message, int64_t position,
              bool (*alive)(void *request), void **old)
{
	struct socket *socket = message->socket;
	if (message->number < socket->seen || (message->number > socket->seen && socket->running))
		return SUBMIT_STALE;
	socket->unlinked_ms = clock_ms();
	if (!socket->known)
		socket_want_fill(engine, socket, position);
	if (message->number == socket->seen)
		return submit_again(engine, message, position, alive, old);
	socket->seen = message->number;
	message_take(engine, message);
	return SUBMIT_TAKEN;
}
