/* One run of a callback, without the lock. */
#include <string.h>

#include "engine_internal.h"
#include "json.h"

/* assigns is borrowed. */
void
run_init(struct run *run, struct message *message, struct instance *instance, json_object *assigns)
{
	*run = (struct run){.message = message, .instance = instance};
	run->call.topic = message->topic;
	run->call.socket_token = message->socket ? message->socket->row.token : "";
	run->call.channel = instance ? instance->channel : message->channel;
	run->call.assigns = json_copy(assigns); /* the lock is let go */
}

/* What a join begins with: the socket's assigns, and what authorize has set; borrowed. */
json_object *
first_assigns(const struct message *message)
{
	return message->assigns ? message->assigns : message->socket->assigns;
}

enum seance_status
run_authorize(struct run *run)
{
	const struct seance_channel *channel = run->message->channel;
	return channel->authorize(&run->call, run->message->topic, run->message->payload);
}

enum seance_status
run_init_callback(struct run *run)
{
	enum seance_status status =
		run->instance->channel->init(&run->call, run->message->topic, run->message->payload);
	if (status == SEANCE_OK && !run->call.has_state)
		return seance_crash(&run->call, "init returned OK without seance_set_state");
	return status;
}

enum seance_status
run_event(struct run *run)
{
	const struct seance_channel *channel = run->instance->channel;
	if (!channel->handle_event)
		return SEANCE_OK;
	return channel->handle_event(&run->call, run->message->event, run->message->payload,
	                             run->instance->edit.document);
}

/* What the supervisor is told of a callback that runs. */
static const char *
name_of(const struct message *message)
{
	if (message->post)
		return message->post->name;
	return message->by_api ? message->visit->name : message->socket->row.token;
}

static int64_t
number_of(const struct message *message)
{
	return message->post ? message->post->id : message->number;
}

void
say_crash(struct engine *engine, const struct message *message, const char *why)
{
	const char *what = message->event ? message->event : "join";
	if (message->post)
		what = message->post->kind == POST_BROADCAST || message->post->kind == POST_TIMER
		           ? "handle_message"
		           : post_name(message->post);
	engine_log(engine, "%s: %s crashed: %s", message->topic, what, why);
}

/* The lock is let go while the callback runs; its instance is nobody else's then. */
bool
run_begin(const struct engine *engine, const char *name, int64_t number, int *slot)
{
	const struct engine_hooks *hooks = &engine->hooks;
	*slot = -1;
	return !hooks->run_begin || hooks->run_begin(hooks->context, name, number, slot);
}

void
run_end(const struct engine *engine, int slot)
{
	if (engine->hooks.run_end)
		engine->hooks.run_end(engine->hooks.context, slot);
}

enum seance_status
run_callback(struct engine *engine, struct run *run, run_fn *callback)
{
	struct message *message = run->message;
	enum seance_status status = SEANCE_CRASHED;
	int slot = -1;
	if (run->instance)
		run->instance->busy = true;
	engine_unlock(engine);
	run->killer = !run_begin(engine, name_of(message), number_of(message), &slot);
	if (run->killer)
		seance_crash(&run->call, "it has killed the program before");
	else
		status = call_outcome(&run->call, callback(run));
	if (status == SEANCE_OK && run->instance && !show_change(&run->call, run->instance))
		status = SEANCE_CRASHED;
	run_end(engine, slot);
	engine_lock(engine);
	if (run->instance)
		run->instance->busy = false;
	if (status == SEANCE_CRASHED && !message_gone(message))
		say_crash(engine, message, call_why(&run->call));
	return status;
}

json_object *
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
	if (instance->state_bytes + instance->log_bytes + instance->edit.operations.len <= limit)
		return true;
	json_text(instance->edit.document, &len);
	return len <= limit;
}

static const char *
first_state_fault(struct engine *engine, struct run *run)
{
	size_t len;
	json_text(run->call.first_state, &len);
	if (len > engine->limits.state_bytes)
		return "the state would be too large";
	return effects_too_many(engine, run->instance, &run->call.effects);
}

enum seance_status
settle_init(struct engine *engine, struct run *run, enum seance_status status)
{
	const char *why = status == SEANCE_OK ? first_state_fault(engine, run) : NULL;
	if (!why)
		return status;
	say_crash(engine, run->message, why);
	return SEANCE_CRASHED;
}

/* A callback that has edited is through: its outcome, once its bounds were looked at; what failed is undone. */
enum seance_status
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
