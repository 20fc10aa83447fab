#include "effects.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "json.h"
#include "memory.h"

void
effects_add(struct effects *effects, const struct effect *effect)
{
	effects->at = memory_grow(effects->at, effects->count, &effects->room, sizeof(*effects->at));
	effects->at[effects->count++] = *effect;
}

void
effects_append(struct effects *effects, struct effects *more)
{
	for (size_t i = 0; i < more->count; i++)
		effects_add(effects, &more->at[i]);
	free(more->at);
	*more = (struct effects){0};
}

size_t
effects_count(const struct effects *effects, enum effect_kind kind)
{
	size_t count = 0;
	for (size_t i = 0; i < effects->count; i++)
		count += effects->at[i].kind == kind;
	return count;
}

const char *
effects_topic_fault(const char *topic)
{
	size_t len = strlen(topic);
	if (len == 0)
		return "no topic";
	if (len > EFFECT_TOPIC_BYTES)
		return "the topic is too long";
	return json_is_utf8(topic, len) ? NULL : "the topic is not UTF-8";
}

static enum store_status
write_timer(const struct effect *effect, struct store *store, int64_t instance)
{
	struct store_timer row = {
		.id = effect->timer,
		.instance = instance,
		.kind = effect->timer_kind,
		.due_ms = clock_unix_ms() + effect->delay_ms,
		.payload = effect->payload,
	};
	return store_timer_add(store, &row);
}

static enum store_status
write_broadcast(const struct effect *effect, struct store *store)
{
	struct store_broadcast row = {
		.topic = effect->topic,
		.payload = effect->payload,
		.hops = effect->hops,
		.time_ms = clock_unix_ms(),
	};
	return store_broadcast_add(store, &row);
}

static enum store_status
write_effect(const struct effect *effect, struct store *store, int64_t instance)
{
	switch (effect->kind) {
	case EFFECT_SUBSCRIBE:
		return store_subscribe(store, instance, effect->topic);
	case EFFECT_UNSUBSCRIBE:
		return store_unsubscribe(store, instance, effect->topic);
	case EFFECT_BROADCAST:
		return write_broadcast(effect, store);
	case EFFECT_TIMER:
		return write_timer(effect, store, instance);
	case EFFECT_CANCEL:
		return store_timer_delete(store, instance, effect->timer);
	}
	return STORE_OK;
}

/* Nobody subscribed, not subscribed, too late to cancel: all the same to the one who asked. */
enum store_status
effects_write(const struct effects *effects, struct store *store, int64_t instance)
{
	enum store_status status = STORE_OK;
	for (size_t i = 0; i < effects->count && status == STORE_OK; i++) {
		if (!instance && effects->at[i].kind != EFFECT_BROADCAST)
			continue;
		status = write_effect(&effects->at[i], store, instance);
		if (status == STORE_NONE)
			status = STORE_OK;
	}
	return status;
}

void
effects_release(struct effects *effects)
{
	for (size_t i = 0; i < effects->count; i++) {
		free(effects->at[i].topic);
		free(effects->at[i].payload);
	}
	free(effects->at);
	*effects = (struct effects){0};
}
