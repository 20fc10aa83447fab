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
	json_object_put(message->payload);
	json_object_put(message->reason);
	json_object_put(message->assigns);
	effects_release(&message->effects);
	post_free(message->post);
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
	message->reason = reason;
	message_answer(engine, message, OUTCOME_REFUSED);
}

static json_object *
reason_object(const char *member, json_object *reason)
{
	json_object *object = json_object_new_object();
	json_object_object_add(object, member, reason);
	return object;
}

/* --- staging --- */

struct staged *
staged_add(struct engine *engine)
{
	engine->staged =
		memory_grow(engine->staged, engine->staged_count, &engine->staged_room, sizeof(*engine->staged));
	struct staged *staged = &engine->staged[engine->staged_count++];
	*staged = (struct staged){0};
	return staged;
}

void
staged_release(struct staged *staged)
{
	record_free(staged->record);
	if (staged->join && staged->join->number == 0)
		join_free(staged->join);
	json_object_put(staged->assigns);
	effects_release(&staged->effects);
	free(staged->refused);
}

/*
 * A row for what a message did, with the message as its cause.  Frames of a join carry the join's own
 * reference, whatever the message's was.
 */
static struct staged *
stage(struct engine *engine, struct message *message, enum store_kind kind, struct instance *instance,
      const char *join_ref)
{
	struct staged *staged = staged_add(engine);
	struct record *record = record_new(kind);
	staged->message = message;
	staged->record = record;
	staged->instance = instance;
	record->topic = memory_strdup(message->topic);
	record->row.socket = message->socket ? message->socket->row.id : 0;
	record->row.message = message->number;
	record->row.time_ms = clock_unix_ms();
	record_set(&record->row.ref, message->ref);
	record_set(&record->row.join_ref, join_ref);
	if (kind == STORE_EVENT)
		record_set(&record->row.event, message->event);
	if (instance) {
		instance->staged++;
		record->row.instance = instance->row.id;
		record->row.revision = instance->revision;
		record->row.version = instance->version;
	}
	return staged;
}

static void
stage_assigns(struct staged *staged, struct join *join, struct seance_call *call)
{
	if (!call->assigned)
		return;
	staged->assigner = join;
	staged->assigns = call_take_assigns(call);
	join_stage_assigns(join, json_object_get(staged->assigns));
}

void
stage_effects(struct staged *staged, struct seance_call *call)
{
	staged->effects = call->effects;
	call->effects = (struct effects){0};
}

static void
stage_events(struct staged *staged, struct seance_call *call)
{
	if (call->events)
		record_set(&staged->record->row.events, json_text(call->events, NULL));
}

/* Rows that are kept before those that somebody may need: their states may stand there. */
int64_t
state_rows(const struct engine *engine)
{
	return engine->limits.log_rows / 2 < STATE_ROWS ? engine->limits.log_rows / 2 : STATE_ROWS;
}

/* Half of that, because rows that are staged before this one have no number yet. */
static bool
is_near(const struct engine *engine, const struct record *known)
{
	return !known->row.number || engine->last - known->row.number <= state_rows(engine) / 2;
}

/*
 * The full state goes into the row, as text; a large one only if no earlier row of the same revision,
 * a near one, has it already.
 */
static void
stage_state(struct engine *engine, struct staged *staged, struct instance *instance)
{
	struct record *known = instance->state_record;
	if (known && known->row.revision == instance->revision && is_near(engine, known)) {
		if (strlen(known->row.state) <= STATE_SMALL)
			record_set(&staged->record->row.state, known->row.state);
		else
			staged->record->state_of = record_use(known);
		return;
	}
	size_t len;
	const char *text = json_text(instance->edit.document, &len);
	record_set(&staged->record->row.state, text);
	instance_reckon(engine, instance, len);
	record_free(known);
	instance->state_record = record_use(staged->record);
}

static int64_t
next_version(const struct instance *instance)
{
	unsigned max = instance->channel->max_version;
	if (max == 0)
		max = SEANCE_MAX_VERSION;
	return instance->version >= (int64_t)max ? 0 : instance->version + 1;
}

static char *
operations_text(const struct patch_edit *edit)
{
	char *text = memory_alloc(edit->operations_len + 3);
	text[0] = '[';
	memcpy(text + 1, edit->operations, edit->operations_len);
	memcpy(text + 1 + edit->operations_len, "]", 2);
	return text;
}

/* join is the one that it came from, or that the private instance belongs to; or NULL. */
static struct staged *
stage_event(struct engine *engine, struct message *message, struct instance *instance, struct join *join,
            struct seance_call *call)
{
	instance->revision++;
	instance->version = next_version(instance);
	struct staged *staged = stage(engine, message, STORE_EVENT, instance, join ? join->join_ref : NULL);
	record_take(&staged->record->row.operations, operations_text(&instance->edit));
	patch_edit_accept(&instance->edit);
	stage_events(staged, call);
	stage_effects(staged, call);
	if (join)
		stage_assigns(staged, join, call);
	return staged;
}

static void
stage_crash(struct engine *engine, struct message *message, struct join *join)
{
	stage(engine, message, STORE_CRASH, join->instance, join->join_ref)->ends = join;
}

static void
stage_detail(struct staged *staged, json_object *detail)
{
	if (json_object_object_length(detail) > 0)
		record_set(&staged->record->row.detail, json_text(detail, NULL));
	json_object_put(detail);
}

/* What a join's row says besides: {"close": join_ref of the join it replaces, ...}; owned. */
static json_object *
join_detail(const struct join *replaced)
{
	json_object *detail = json_object_new_object();
	if (replaced)
		json_object_object_add(detail, "close", json_read(replaced->join_ref));
	return detail;
}

static void
stage_join(struct engine *engine, struct message *message, struct instance *instance,
           struct seance_call *call)
{
	struct join *replaced = socket_join(message->socket, message->topic);
	struct staged *staged = stage(engine, message, STORE_JOIN, instance, message->join_ref);
	staged->ends = replaced;
	staged->join = join_new(message->socket, message->topic, message->join_ref, instance);
	stage_state(engine, staged, instance);
	stage_detail(staged, join_detail(replaced));
	stage_events(staged, call);
	stage_effects(staged, call);
	join_give_assigns(staged->join, call_take_assigns(call));
}

/* A join that failed in init: it is answered ok, told why, and has ended. */
static void
stage_failed_join(struct engine *engine, struct message *message, const char *member, json_object *why)
{
	struct join *replaced = socket_join(message->socket, message->topic);
	struct staged *staged = stage(engine, message, STORE_JOIN, NULL, message->join_ref);
	json_object *detail = join_detail(replaced);
	json_object_object_add(detail, member, why);
	staged->ends = replaced;
	staged->join = join_new(message->socket, message->topic, message->join_ref, NULL);
	stage_detail(staged, detail);
}

/* --- running callbacks --- */

struct run {
	struct message *message;
	struct instance *instance; /* NULL: none is touched */
	struct seance_call call;
	bool killer; /* it was not run, since it has killed the program before */
};

/* assigns is borrowed. */
static void
run_init(struct run *run, struct message *message, struct instance *instance, json_object *assigns)
{
	*run = (struct run){.message = message, .instance = instance};
	run->call.topic = message->topic;
	run->call.socket_token = message->socket ? message->socket->row.token : "";
	run->call.channel = instance ? instance->channel : message->channel;
	run->call.assigns = json_copy(assigns); /* the lock is let go */
}

/* What a join begins with: the socket's assigns, and what authorize has set; borrowed. */
static json_object *
first_assigns(const struct message *message)
{
	return message->assigns ? message->assigns : message->socket->assigns;
}

typedef enum seance_status run_fn(struct run *run);

static enum seance_status
run_authorize(struct run *run)
{
	const struct seance_channel *channel = run->message->channel;
	return channel->authorize(&run->call, run->message->topic, run->message->payload);
}

static enum seance_status
run_init_callback(struct run *run)
{
	enum seance_status status =
		run->instance->channel->init(&run->call, run->message->topic, run->message->payload);
	if (status == SEANCE_OK && !run->call.has_state)
		return seance_crash(&run->call, "init returned OK without seance_set_state");
	return status;
}

static enum seance_status
run_event(struct run *run)
{
	const struct seance_channel *channel = run->instance->channel;
	if (!channel->handle_event)
		return SEANCE_OK;
	return channel->handle_event(&run->call, run->message->event, run->message->payload,
	                             run->instance->edit.document);
}

static enum seance_status
run_post(struct run *run)
{
	const struct seance_channel *channel = run->instance->channel;
	return channel->handle_message(&run->call, run->message->payload, run->instance->edit.document);
}

/* What the supervisor is told of a callback that runs. */
static const char *
name_of(const struct message *message)
{
	if (!message->post)
		return message->socket->row.token;
	return message->post->topic ? "broadcast" : "timer";
}

static int64_t
number_of(const struct message *message)
{
	return message->post ? message->post->id : message->number;
}

static void
say_crash(struct engine *engine, const struct message *message, const char *why)
{
	const char *what = message->post ? "handle_message" : message->event ? message->event : "join";
	engine_log(engine, "%s: %s crashed: %s", message->topic, what, why);
}

/* The lock is let go while the callback runs; its instance is nobody else's then. */
static enum seance_status
run_callback(struct engine *engine, struct run *run, run_fn *callback)
{
	struct message *message = run->message;
	enum seance_status status = SEANCE_CRASHED;
	int slot = -1;
	if (run->instance)
		run->instance->busy = true;
	engine_unlock(engine);
	run->killer =
		!engine->hooks.run_begin(engine->hooks.context, name_of(message), number_of(message), &slot);
	if (run->killer)
		seance_crash(&run->call, "it has killed the program before");
	else
		status = call_outcome(&run->call, callback(run));
	engine->hooks.run_end(engine->hooks.context, slot);
	engine_lock(engine);
	if (run->instance)
		run->instance->busy = false;
	if (status == SEANCE_CRASHED && !message_gone(message))
		say_crash(engine, message, call_why(&run->call));
	return status;
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

/* Done with an instance's callback: may what it did count?  If not, the message was dealt with. */
static bool
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

static bool
wait_for(struct instance *instance, struct message *message)
{
	if (!instance->busy)
		return false;
	append(&instance->waiting, &instance->waiting_last, message);
	return true;
}

/*
 * What has waited is ready now.  The first may make the instance busy again, or be its end: each finds its
 * way by topic again.
 */
static void
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

static json_object *
refusal_of(struct seance_call *call, const char *member)
{
	json_object *reason = json_object_get(call->reason);
	return call->reason_is_text ? reason_object(member, reason) : reason;
}

static bool
state_fits(struct engine *engine, struct instance *instance)
{
	size_t limit = engine->limits.state_bytes;
	size_t len;
	if (instance->state_bytes + instance->log_bytes + instance->edit.operations_len <= limit)
		return true;
	json_text(instance->edit.document, &len);
	return len <= limit;
}

/* A callback that has edited is through: its outcome, once its bounds were looked at; what failed is undone. */
static enum seance_status
settle(struct engine *engine, struct run *run, enum seance_status status)
{
	struct instance *instance = run->instance;
	const char *why = NULL;
	if (status == SEANCE_OK && !state_fits(engine, instance))
		why = "the state would be too large";
	else if (status == SEANCE_OK)
		why = effects_too_many(engine, instance, &run->call.effects);
	if (why) {
		say_crash(engine, run->message, why);
		status = seance_crash(&run->call, "%s", why);
	}
	if (status != SEANCE_OK)
		patch_edit_undo(&instance->edit);
	return status;
}

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

/* --- posts --- */

/* Something without a row of the log: what is left of a post is that it was given; or it is set aside. */
static struct staged *
stage_rowless(struct engine *engine, struct message *message, struct instance *instance)
{
	struct staged *staged = staged_add(engine);
	staged->message = message;
	staged->instance = instance;
	if (instance)
		instance->staged++;
	return staged;
}

static json_object *
post_detail(const struct post *post)
{
	json_object *detail = json_object_new_object();
	json_object_object_add(detail, post->topic ? "broadcast" : "timer", json_object_new_int64(post->id));
	if (post->topic)
		json_object_object_add(detail, "topic", json_object_new_string(post->topic));
	return detail;
}

/* Again soon; but what crashes again and again is set aside, so that others can follow. */
static void
post_crashed(struct engine *engine, struct run *run)
{
	struct instance *instance = run->instance;
	struct message *message = run->message;
	const struct post *post = message->post;
	if (instance->post_crashed != post->id)
		instance->post_crashes = 0;
	instance->post_crashed = post->id;
	instance->post_crashes++;
	if (instance->post_crashes < POST_CRASHES && !run->killer && run->call.hops <= HOPS_MAX) {
		instance->post_retry_ms = clock_ms() + ((int64_t)POST_RETRY_MS << instance->post_crashes);
		message_answer(engine, message, OUTCOME_FAILED);
		return;
	}
	stage_rowless(engine, message, instance)->refused = memory_strdup(call_why(&run->call));
	if (engine->refused != post->id)
		engine_log(engine, "%s: the %s is set aside (table refused)", message->topic, name_of(message));
	engine->refused = post->id;
}

static void
finish_post(struct engine *engine, struct run *run, struct join *join, enum seance_status status)
{
	status = settle(engine, run, status);
	if (status == SEANCE_OK)
		stage_detail(stage_event(engine, run->message, run->instance, join, &run->call),
		             post_detail(run->message->post));
	else if (status == SEANCE_REFUSED)
		stage_rowless(engine, run->message, run->instance);
	else
		post_crashed(engine, run);
}

static struct join *
private_join(const struct instance *instance)
{
	struct join *join = instance->row.shared ? NULL : instance->joins;
	while (join && join->ended)
		join = join->next_of_instance;
	return join;
}

/* The caller has seen to it that it is still to be given. */
static void
post_run_callback(struct engine *engine, struct message *message)
{
	struct instance *instance = message->post->instance;
	struct join *join = private_join(instance);
	struct run run;
	run_init(&run, message, instance, join ? join->next_assigns : NULL);
	run.call.edit = &instance->edit;
	run.call.version = instance->version;
	run.call.posted = true;
	run.call.message_topic = message->post->topic;
	run.call.hops = message->post->hops + 1;
	enum seance_status status = run_callback(engine, &run, run_post);
	ready_waiting(engine, instance);
	if (run_counts(engine, &run))
		finish_post(engine, &run, private_join(instance), status);
	call_release(&run.call);
}

static void
post_run(struct engine *engine, struct message *message)
{
	struct instance *instance = message->post->instance;
	if (instance && wait_for(instance, message))
		return;
	if (!post_is_due(engine, message))
		message_answer(engine, message, OUTCOME_NOTHING);
	else if (!instance || !instance->channel->handle_message)
		stage_rowless(engine, message, instance);
	else if (!instance_load(engine, instance))
		message_answer(engine, message, OUTCOME_FAILED);
	else
		post_run_callback(engine, message);
}

/* --- back to clients --- */

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

/* For a message of a topic that is joined: leave, event, refresh. */
static void
run_joined(struct engine *engine, struct message *message)
{
	struct join *join = socket_join(message->socket, message->topic);
	bool leaves = message->kind == MESSAGE_LEAVE;
	if (!join)
		message_answer(engine, message, leaves ? OUTCOME_LEFT : OUTCOME_UNMATCHED);
	else if (message->kind == MESSAGE_UNKNOWN)
		message_answer(engine, message, OUTCOME_UNKNOWN);
	else if (leaves && strcmp(join->join_ref, message->join_ref) != 0)
		message_answer(engine, message, OUTCOME_NOTHING);
	else if (wait_for(join->instance, message))
		return;
	else if (leaves)
		leave(engine, message, join);
	else if (!instance_load(engine, join->instance))
		message_answer(engine, message, OUTCOME_FAILED);
	else if (message->kind == MESSAGE_REFRESH)
		refresh(engine, message, join);
	else
		event_run(engine, message, join);
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
	else if (status == SEANCE_CRASHED)
		join_refused(engine, message, reason_object("reason", json_object_new_string("join crashed")));
	call_release(&run.call);
	message->authorized = status == SEANCE_OK && !message->outcome;
	return message->authorized;
}

static void
init_failed(struct engine *engine, struct run *run, enum seance_status status)
{
	struct seance_call *call = &run->call;
	json_object *why = NULL;
	if (status == SEANCE_CRASHED) {
		stage_failed_join(engine, run->message, "crash", json_object_new_boolean(1));
		return;
	}
	why = json_object_get(call->reason);
	if (!json_object_is_type(why, json_type_object))
		why = reason_object("message", why);
	stage_failed_join(engine, run->message, "error", why);
}

static void
finish_init(struct engine *engine, struct run *run, enum seance_status status)
{
	struct instance *instance = run->instance;
	size_t len = 0;
	if (status == SEANCE_OK)
		json_text(run->call.first_state, &len);
	const char *why =
		status == SEANCE_OK ? effects_too_many(engine, instance, &run->call.effects) : NULL;
	if (len > engine->limits.state_bytes)
		why = "the state would be too large";
	if (why) {
		say_crash(engine, run->message, why);
		status = SEANCE_CRASHED;
	}
	if (status == SEANCE_OK) {
		json_object *state = run->call.first_state;
		run->call.first_state = NULL;
		instance_give_state(engine, instance, state);
		stage_join(engine, run->message, instance, &run->call);
		return;
	}
	init_failed(engine, run, status);
	instance_forget(engine, instance);
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

static void
join_living(struct engine *engine, struct message *message, struct instance *instance)
{
	struct seance_call call = {
		.channel = instance->channel,
		.assigns = json_copy(first_assigns(message)),
	};
	if (instance_load(engine, instance))
		stage_join(engine, message, instance, &call);
	else
		message_answer(engine, message, OUTCOME_FAILED);
	call_release(&call);
}

static void
run_join(struct engine *engine, struct message *message)
{
	struct instance *instance = NULL;
	message->channel = channel_for(engine, message->topic);
	if (!message->channel) {
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
		instance = instance_new(message->channel, message->topic);
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
message_run(struct engine *engine, struct message *message)
{
	if (message->post)
		post_run(engine, message);
	else if (message->kind == MESSAGE_BROADCAST)
		stage_rowless(engine, message, NULL);
	else if (message->socket->ended)
		message_answer(engine, message, OUTCOME_GONE);
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

static void
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
