/*
 * What is on its way to instances lies in the store: a broadcast until each subscription's position is past
 * it, a timer until it is deleted.  The transaction of what the callback did moves the position or deletes the
 * timer, and counts only if it was there to be moved or deleted: so each is given once.  Here is only kept
 * which of them were taken and are not committed yet.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"
#include "json.h"
#include "memory.h"

#define POSTS_A_TURN      64 /* then clients' messages have their turn */
#define POSTS_AN_INSTANCE 16

/* --- one of them --- */

void
post_free(struct post *post)
{
	if (!post)
		return;
	free(post->topic);
	free(post->text);
	free(post);
}

struct message *
post_new(enum post_kind kind, struct instance *instance, int64_t instance_id, int64_t id,
         const char *payload)
{
	struct message *message = memory_zeroed(1, sizeof(*message));
	struct post *post = message->post = memory_zeroed(1, sizeof(*post));
	message->kind = MESSAGE_POST;
	message->topic = memory_strdup(instance ? instance->row.topic : "");
	message->payload = json_read(payload);
	post->kind = kind;
	post->instance = instance;
	post->instance_id = instance_id;
	post->id = id;
	post->text = memory_strdup(payload);
	snprintf(post->name, sizeof(post->name), "%s@%lld", post_name(post), (long long)instance_id);
	if (instance)
		instance->posts++;
	return message;
}

static int64_t
number_of(json_object *payload, const char *member)
{
	return json_object_get_int64(json_object_object_get(payload, member));
}

struct join *
post_join(const struct message *message)
{
	const struct post *post = message->post;
	bool shared = !post->instance || post->instance->row.shared;
	bool of_join = post->kind == POST_PRESENT || (post->kind == POST_JOINED && shared);
	int64_t number = of_join ? number_of(message->payload, "join") : 0;
	struct join *join = post->instance ? post->instance->joins : NULL;
	if (!of_join && shared)
		return NULL;
	while (join && (join->ended || (of_join && join->number != number)))
		join = join->next_of_instance;
	return join;
}

static void
give_socket(struct message *message)
{
	const struct join *join = post_join(message);
	if (!join)
		return;
	message->socket = join->socket;
	socket_use(join->socket);
}

void
post_done(struct engine *engine, struct message *message, enum message_outcome outcome)
{
	struct instance *instance = message->post->instance;
	int64_t now = clock_ms();
	message_free(message);
	engine->posts_look = true;
	if (!instance)
		return;
	if (outcome == OUTCOME_FAILED && instance->post_retry_ms <= now)
		instance->post_retry_ms = now + RETRY_MS;
	instance->posts--;
	if (instance->dead)
		instance_die(engine, instance);
	else
		instance_forget(engine, instance);
}

static bool
any_timer(void *context, const struct store_timer *timer)
{
	(void)context;
	(void)timer;
	return false;
}

static bool
is_stored(struct engine *engine, const struct post *post)
{
	int64_t position;
	if (post->kind > POST_BROADCAST)
		return true;
	if (post->kind != POST_BROADCAST)
		return store_timer_get(engine->store, post->id, any_timer, NULL) == STORE_OK;
	return store_subscription(engine->store, post->instance_id, post->topic, &position) == STORE_OK &&
	       position < post->id;
}

/* Is it still to be given, and now?  One that follows another which has to wait waits too. */
bool
post_is_due(struct engine *engine, const struct message *message)
{
	const struct post *post = message->post;
	const struct instance *instance = post->instance;
	if (instance && (instance->dead || instance->settling || instance->row.id != post->instance_id ||
	                 instance->post_retry_ms > clock_ms()))
		return false;
	return is_stored(engine, post);
}

/* --- in the transaction --- */

static enum store_status
set_aside(struct engine *engine, const struct staged *staged)
{
	const struct post *post = staged->message->post;
	struct store_refused row = {
		.instance = post->instance_id,
		.instance_topic = staged->message->topic,
		.topic = post->topic,
		.payload = post->text,
		.reason = staged->refused,
		.time_ms = clock_unix_ms(),
	};
	return store_set_aside(engine->store, &row);
}

/* STORE_NONE: it was given or cancelled meanwhile. */
enum store_status
post_write(struct engine *engine, const struct staged *staged)
{
	const struct post *post = staged->message->post;
	enum store_status status;
	if (post->kind > POST_BROADCAST)
		return STORE_OK;
	if (post->kind == POST_BROADCAST)
		status = store_broadcast_done(engine->store, post->instance_id, post->topic, post->id);
	else
		status = store_timer_delete(engine->store, post->instance_id, post->id);
	return status == STORE_OK && staged->refused ? set_aside(engine, staged) : status;
}

static const char *
topic_of(const struct staged *staged)
{
	return staged->message && staged->message->post ? staged->message->post->topic : NULL;
}

enum store_status
posts_prune(struct engine *engine, const struct staged *list, size_t count)
{
	enum store_status status = STORE_OK;
	const char *topic = NULL;
	for (size_t i = 0; i < count && status == STORE_OK; i++) {
		const char *next = topic_of(&list[i]);
		if (!next || (topic && strcmp(topic, next) == 0))
			continue;
		topic = next;
		status = store_broadcasts_prune(engine->store, topic);
	}
	return status;
}

void
effects_applied(struct engine *engine, const struct effects *effects)
{
	for (size_t i = 0; i < effects->count && engine->hooks.broadcast; i++)
		if (effects->at[i].kind == EFFECT_BROADCAST)
			engine->hooks.broadcast(engine->hooks.context, effects->at[i].topic, effects->at[i].payload);
	if (effects->count > 0)
		engine->posts_look = true;
	if (effects_count(effects, EFFECT_UNSUBSCRIBE) > 0)
		engine->posts_stale = true;
}

const char *
effects_too_many(struct engine *engine, const struct instance *instance, const struct effects *effects)
{
	int64_t stored = 0, standing = (int64_t)(effects_count(effects, EFFECT_SUBSCRIBE) +
	                                         effects_count(effects, EFFECT_TIMER));
	int64_t broadcasts = (int64_t)effects_count(effects, EFFECT_BROADCAST);
	if (broadcasts > 0 && store_backlog(engine->store, &stored) == STORE_OK &&
	    stored + broadcasts > BACKLOG_MAX)
		return "too many broadcasts wait to be delivered";
	if (standing > 0 && instance && instance->row.id &&
	    store_subscriptions(engine->store, instance->row.id, &stored) == STORE_OK &&
	    stored + standing > EFFECTS_AN_INSTANCE)
		return "it would have too many subscriptions and timers";
	return NULL;
}

/* --- from outside --- */

const char *
engine_broadcast(struct engine *engine, const char *topic, json_object *payload, const char *mark,
                 void *request)
{
	size_t len;
	struct message *message = memory_zeroed(1, sizeof(*message));
	const char *text = json_text(payload, &len);
	effects_add(&message->effects, &(struct effect){
									   .kind = EFFECT_BROADCAST,
									   .topic = memory_strdup(topic),
									   .payload = memory_strdup(text),
								   });
	json_object_put(payload);
	const char *why = len > EFFECT_BYTES ? "the message is too large"
	                                     : effects_too_many(engine, NULL, &message->effects);
	if (why) {
		message_free(message);
		return why;
	}
	message->kind = MESSAGE_BROADCAST;
	message->visit = visit_marked(mark);
	message->request = request;
	message_ready(engine, message);
	messages_run(engine);
	return NULL;
}

/* --- taking them --- */

struct taking {
	struct engine *engine;
	struct message *first, *last;
	int count;
	struct instance *instance; /* that is given the broadcasts of one topic */
	int left;                  /* of these */
	int64_t now_ms;            /* Unix time */
};

/* Is this instance given something this turn? */
static bool
may_take(struct engine *engine, struct instance *instance)
{
	int64_t now = clock_ms();
	if (instance->post_retry_ms > now) {
		if (!engine->post_retry_ms || instance->post_retry_ms < engine->post_retry_ms)
			engine->post_retry_ms = instance->post_retry_ms;
		return false;
	}
	if (instance->dead || instance->settling ||
	    (instance->posts && instance->post_turn != engine->post_turn))
		return false;
	instance->post_turn = engine->post_turn;
	return true;
}

static void
take(struct taking *taking, struct message *message)
{
	if (taking->last)
		taking->last->next = message;
	else
		taking->first = message;
	taking->last = message;
	taking->count++;
	give_socket(message);
}

static void
take_broadcast(struct taking *taking, int64_t instance_id, const struct store_broadcast *row)
{
	struct message *message =
		post_new(POST_BROADCAST, taking->instance, instance_id, row->id, row->payload);
	message->post->topic = memory_strdup(row->topic);
	message->post->hops = row->hops;
	take(taking, message);
}

static bool
next_broadcast(void *context, int64_t none, const struct store_broadcast *row)
{
	struct taking *taking = context;
	(void)none;
	take_broadcast(taking, taking->instance->row.id, row);
	return --taking->left > 0;
}

/* A subscription and the next broadcast for it; those after that follow at once. */
static bool
pending_broadcast(void *context, int64_t instance_id, const struct store_broadcast *row)
{
	struct taking *taking = context;
	struct engine *engine = taking->engine;
	taking->instance = instance_by_id(engine, instance_id);
	if (taking->instance && !may_take(engine, taking->instance))
		return true;
	free(engine->post_after);
	engine->post_after = memory_strdup(row->topic);
	take_broadcast(taking, instance_id, row);
	taking->left = POSTS_AN_INSTANCE - 1;
	if (taking->instance)
		store_scan_broadcasts(engine->store, row->topic, row->id, next_broadcast, taking);
	return taking->count < POSTS_A_TURN;
}

/* Topics have their turns one after the other. */
static enum store_status
take_broadcasts(struct taking *taking)
{
	struct engine *engine = taking->engine;
	char *after = engine->post_after;
	engine->post_after = memory_strdup("");
	enum store_status status = store_scan_pending(engine->store, after, pending_broadcast, taking);
	if (status == STORE_OK && *after && taking->count < POSTS_A_TURN)
		status = store_scan_pending(engine->store, "", pending_broadcast, taking);
	free(after);
	return status;
}

static bool
due_timer(void *context, const struct store_timer *row)
{
	struct taking *taking = context;
	struct engine *engine = taking->engine;
	if (row->due_ms > taking->now_ms) {
		engine->timer_due_ms = row->due_ms;
		return false;
	}
	struct instance *instance = instance_by_id(engine, row->instance);
	if (instance &&
	    may_take(engine, instance)) /* one that this build does not serve waits for one that does */
		take(taking,
		     post_new((enum post_kind)row->kind, instance, row->instance, row->id, row->payload));
	return taking->count < 2 * POSTS_A_TURN;
}

static enum store_status
take_timers(struct taking *taking)
{
	taking->engine->timer_due_ms = 0;
	return store_scan_timers(taking->engine->store, due_timer, taking);
}

static bool
is_time(const struct engine *engine)
{
	return engine->posts_look || (engine->timer_due_ms && engine->timer_due_ms <= clock_unix_ms()) ||
	       (engine->post_retry_ms && engine->post_retry_ms <= clock_ms());
}

static void
cannot_read(struct engine *engine)
{
	engine_log(engine, "broadcasts and timers cannot be read: %s", store_message(engine->store));
	engine->posts_look = false;
	engine->post_retry_ms = clock_ms() + RETRY_MS;
}

/* What does not fit into this turn is found by the next, since each that is done has it look again. */
void
engine_post(struct engine *engine)
{
	struct taking taking = {.engine = engine, .now_ms = clock_unix_ms()};
	messages_run(engine);
	if (!is_time(engine))
		return;
	engine->posts_look = false;
	engine->post_retry_ms = 0;
	engine->post_turn++;
	enum store_status status = take_broadcasts(&taking);
	if (status == STORE_OK)
		status = take_timers(&taking);
	while (taking.first) {
		struct message *message = taking.first;
		taking.first = message->next;
		message_ready(engine, message);
	}
	messages_run(engine);
	if (status != STORE_OK)
		cannot_read(engine);
}

int64_t
posts_due(const struct engine *engine, int64_t now)
{
	int64_t due = NOTHING_NEEDED;
	if (engine->posts_look || engine->ready)
		return now;
	if (engine->timer_due_ms)
		due = now + engine->timer_due_ms - clock_unix_ms();
	if (engine->post_retry_ms && engine->post_retry_ms < due)
		due = engine->post_retry_ms;
	return due;
}
