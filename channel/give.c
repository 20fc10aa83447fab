/* A broadcast, a timer or a hook, taken for an instance, is given to its callback. */
#include <string.h>

#include "engine_internal.h"
#include "memory.h"
#include "random.h"

static json_object *
member_of(const struct message *message, const char *name)
{
	return json_object_object_get(message->payload, name);
}

/* --- its callback --- */

typedef enum seance_status give_fn(struct run *run);

static enum seance_status
give_message(struct run *run)
{
	return run->instance->channel->handle_message(&run->call, run->message->payload,
	                                              run->instance->edit.document);
}

static enum seance_status
give_joined(struct run *run)
{
	return run->instance->channel->join(&run->call, member_of(run->message, "payload"),
	                                    run->instance->edit.document);
}

static enum seance_status
give_left(struct run *run)
{
	const char *reason = json_object_get_string(member_of(run->message, "reason"));
	return run->instance->channel->terminate(&run->call, reason, run->instance->edit.document);
}

static enum seance_status
give_expired(struct run *run)
{
	return run->instance->channel->terminate(&run->call, "expired", run->instance->edit.document);
}

static enum seance_status
give_migrate(struct run *run)
{
	return run->instance->channel->migrate(&run->call, (unsigned)run->instance->schema,
	                                       run->instance->edit.document);
}

/* NULL: the channel does without. */
static give_fn *
callback_of(const struct post *post)
{
	const struct seance_channel *channel = post->instance ? post->instance->channel : NULL;
	if (!channel)
		return NULL;
	switch (post->kind) {
	case POST_BROADCAST:
	case POST_TIMER:
		return channel->handle_message ? give_message : NULL;
	case POST_JOINED:
		return channel->join ? give_joined : NULL;
	case POST_LEFT:
		return channel->terminate ? give_left : NULL;
	case POST_IDLE:
		return channel->terminate ? give_expired : NULL;
	case POST_MIGRATE:
	case POST_ENCODE:
	case POST_PRESENT:
	case POST_ABSENT:
		break;
	}
	return NULL;
}

const char *
post_name(const struct post *post)
{
	static const char *const names[] = {
		[POST_TIMER] = "timer",     [POST_JOINED] = "join",         [POST_LEFT] = "terminate",
		[POST_PRESENT] = "present", [POST_ABSENT] = "absent",       [POST_IDLE] = "terminate",
		[POST_MIGRATE] = "migrate", [POST_BROADCAST] = "broadcast", [POST_ENCODE] = "encode",
	};
	return names[post->kind];
}

/* --- what it did --- */

/* Its instance goes with it: a private one's join has ended, nobody has wanted a shared one. */
static bool
is_last(const struct post *post)
{
	return post->kind == POST_IDLE ||
	       (post->kind == POST_LEFT && post->instance && !post->instance->row.shared);
}

static struct staged *
stage_end(struct engine *engine, struct message *message)
{
	struct instance *instance = message->post->instance;
	struct staged *staged = stage_rowless(engine, message, instance);
	if (is_last(message->post)) {
		staged->buries = true;
		instance->settling = true;
	}
	return staged;
}

static json_object *
post_detail(const struct post *post)
{
	json_object *detail = json_object_new_object();
	json_object_object_add(detail, post_name(post), json_object_new_int64(post->id));
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
	stage_end(engine, message)->refused = memory_strdup(call_why(&run->call));
	if (engine->refused != post->id)
		engine_log(engine, "%s: the %s is set aside (table refused)", message->topic, post_name(post));
	engine->refused = post->id;
}

/* A hook that tells and changes nothing is no event; what ends with it need not be told of either. */
static bool
needs_row(const struct run *run)
{
	const struct post *post = run->message->post;
	if (post->kind == POST_BROADCAST || post->kind == POST_TIMER)
		return true;
	return !is_last(post) &&
	       (run->instance->edit.operations.len > 0 || run->call.events || run->call.assigned);
}

static void
post_succeeded(struct engine *engine, struct run *run)
{
	struct message *message = run->message;
	if (needs_row(run)) {
		struct staged *staged =
			stage_event(engine, message, run->instance, post_join(message), &run->call);
		stage_detail(staged, post_detail(message->post));
		return;
	}
	patch_edit_undo(&run->instance->edit);
	stage_effects(stage_end(engine, message), &run->call);
}

static void
finish_post(struct engine *engine, struct run *run, enum seance_status status)
{
	status = settle(engine, run, status);
	if (status == SEANCE_OK)
		post_succeeded(engine, run);
	else if (status == SEANCE_REFUSED)
		stage_end(engine, run->message);
	else
		post_crashed(engine, run);
}

/* The assigns of the join that it is about, as they are or, when that has ended, as they were; borrowed. */
static json_object *
assigns_of(const struct message *message)
{
	const struct join *join = post_join(message);
	bool told = message->post->kind == POST_JOINED || message->post->kind == POST_LEFT;
	if (join)
		return join->next_assigns;
	return told ? member_of(message, "assigns") : NULL;
}

static const char *
token_of(const struct message *message)
{
	const char *token = message->post->kind == POST_JOINED || message->post->kind == POST_LEFT
	                        ? json_object_get_string(member_of(message, "socket"))
	                        : NULL;
	return token ? token : message->socket ? message->socket->row.token : "";
}

static void
give_init(struct run *run, struct message *message)
{
	struct instance *instance = message->post->instance;
	run_init(run, message, instance, assigns_of(message));
	run->call.edit = &instance->edit;
	run->call.version = instance->version;
	run->call.socket_token = token_of(message);
	run->call.posted = message->post->kind != POST_JOINED;
	run->call.message_topic = message->post->topic;
	run->call.hops = message->post->kind == POST_BROADCAST ? message->post->hops + 1 : 0;
}

static void
give(struct engine *engine, struct message *message, give_fn *callback)
{
	struct run run;
	give_init(&run, message);
	enum seance_status status = run_callback(engine, &run, callback);
	if (run_counts(engine, &run))
		finish_post(engine, &run, status);
	call_release(&run.call);
}

/* --- before a state can be used --- */

/* Those that wait for it are told when it is not possible. */
static void
not_ready(struct engine *engine, struct instance *instance)
{
	while (instance->waiting) {
		struct message *message = instance->waiting;
		instance->waiting = message->next;
		message_answer(engine, message, OUTCOME_FAILED);
	}
	instance->waiting_last = NULL;
}

static void
finish_migrate(struct engine *engine, struct run *run, enum seance_status status)
{
	struct instance *instance = run->instance;
	struct staged *staged;
	if (status == SEANCE_REFUSED)
		say_crash(engine, run->message, "it was refused");
	status = settle(engine, run, status);
	if (status != SEANCE_OK) {
		not_ready(engine, instance);
		message_answer(engine, run->message, OUTCOME_NOTHING);
		return;
	}
	if (instance->edit.operations.len > 0)
		staged = stage_event(engine, run->message, instance, NULL, &run->call);
	else
		staged = stage_rowless(engine, run->message, instance);
	staged->migrates = true;
	instance->schema = instance->channel->state_schema;
}

static enum seance_status
give_encode(struct run *run)
{
	return show_state(&run->call, run->instance) ? SEANCE_OK : SEANCE_CRASHED;
}

static void
finish_encode(struct engine *engine, struct run *run, enum seance_status status)
{
	if (status == SEANCE_OK)
		show_take(run->instance, &run->call.shown);
	else
		not_ready(engine, run->instance);
	message_answer(engine, run->message, OUTCOME_NOTHING);
}

typedef void finish_fn(struct engine *engine, struct run *run, enum seance_status status);

/* message waits until it is through. */
static enum ready
make_ready(struct engine *engine, struct instance *instance, struct message *message,
           enum post_kind kind)
{
	struct run run;
	finish_fn *finish = kind == POST_MIGRATE ? finish_migrate : finish_encode;
	wait_in(instance, message);
	give_init(&run, post_new(kind, instance, instance->row.id, instance->row.id, "null"));
	if (kind == POST_ENCODE)
		run.call.edit = NULL; /* only looked at */
	enum seance_status status =
		run_callback(engine, &run, kind == POST_MIGRATE ? give_migrate : give_encode);
	if (run_counts(engine, &run))
		finish(engine, &run, status);
	call_release(&run.call);
	ready_waiting(engine, instance);
	return INSTANCE_WAITING;
}

enum ready
instance_ready(struct engine *engine, struct instance *instance, struct message *message)
{
	const unsigned schema = instance->channel->state_schema;
	if (!instance_load(engine, instance))
		return INSTANCE_UNREADABLE;
	if (instance->schema > schema || (instance->schema < schema && !instance->channel->migrate)) {
		engine_log(engine, "%s: its state has state_schema %d, this program knows %u",
		           instance->row.topic, (int)instance->schema, schema);
		return INSTANCE_UNREADABLE;
	}
	if (instance->schema < schema)
		return make_ready(engine, instance, message, POST_MIGRATE);
	if (!show_is_known(instance))
		return make_ready(engine, instance, message, POST_ENCODE);
	return INSTANCE_READY;
}

/* --- nobody has wanted it for a while --- */

static bool
is_joined(const struct instance *instance)
{
	for (const struct join *join = instance->joins; join; join = join->next_of_instance)
		if (!join->ended)
			return true;
	return false;
}

/* Milliseconds until it has been idle for as long as it may; 0: it has. */
static int64_t
idle_left(const struct instance *instance)
{
	int64_t ttl_ms = (int64_t)instance->channel->idle_ttl * 1000;
	int64_t left = instance->changed_ms ? instance->changed_ms + ttl_ms - clock_ms() : 0;
	return left > 0 ? left : 0;
}

/* Nobody is told: nobody is joined. */
static bool
may_expire(struct engine *engine, struct message *message)
{
	struct instance *instance = message->post->instance;
	int64_t left = idle_left(instance);
	if (instance->staged) { /* it is not known yet what comes of that */
		message_answer(engine, message, OUTCOME_NOTHING);
		return false;
	}
	if (left == 0 && !is_joined(instance) && instance->channel->idle_ttl > 0)
		return true;
	struct staged *staged = stage_rowless(engine, message, instance);
	if (left > 0 && !is_joined(instance))
		effects_add(&staged->effects, &(struct effect){
										  .kind = EFFECT_TIMER,
										  .payload = memory_strdup("null"),
										  .timer = random_number(),
										  .timer_kind = POST_IDLE,
										  .delay_ms = left,
									  });
	return false;
}

/* --- any of them --- */

static void
give_ready(struct engine *engine, struct message *message)
{
	struct instance *instance = message->post->instance;
	give_fn *callback = callback_of(message->post);
	if (message->post->kind == POST_IDLE && !may_expire(engine, message))
		return;
	if (!callback) {
		stage_end(engine, message);
		return;
	}
	switch (instance_ready(engine, instance, message)) {
	case INSTANCE_READY:
		give(engine, message, callback);
		ready_waiting(engine, instance);
		break;
	case INSTANCE_UNREADABLE:
		message_answer(engine, message, OUTCOME_FAILED);
		break;
	case INSTANCE_WAITING:
		break;
	}
}

void
post_run(struct engine *engine, struct message *message)
{
	struct instance *instance = message->post->instance;
	enum post_kind kind = message->post->kind;
	if (instance && wait_for(instance, message))
		return;
	if (!post_is_due(engine, message))
		message_answer(engine, message, OUTCOME_NOTHING);
	else if (kind == POST_MIGRATE || kind == POST_ENCODE) /* again: whoever needs it begins anew */
		message_answer(engine, message, OUTCOME_NOTHING);
	else if (kind == POST_PRESENT || kind == POST_ABSENT)
		presence_run(engine, message);
	else
		give_ready(engine, message);
}
