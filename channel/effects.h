/*
 * effects - what a callback has asked for besides a new state and events: subscriptions, broadcasts, timers
 *
 * They are collected in the order of the calls, and are written in the transaction of the callback's commit.
 */
#ifndef SEANCE_EFFECTS_H
#define SEANCE_EFFECTS_H

#include <stdbool.h>
#include <stddef.h>

#include "store.h"

#define EFFECTS_MAX         1000      /* of one callback */
#define EFFECT_TOPIC_BYTES  1024      /* of a PubSub topic */
#define EFFECT_BYTES        (1 << 20) /* of a broadcast or a timer's message, as text */
#define EFFECTS_AN_INSTANCE 10000     /* subscriptions and timers of one instance */
#define BACKLOG_MAX         100000    /* broadcasts that are stored at once */
#define HOPS_MAX            64        /* broadcasts each sent in answer to the one before */

enum effect_kind {
	EFFECT_SUBSCRIBE,
	EFFECT_UNSUBSCRIBE,
	EFFECT_BROADCAST,
	EFFECT_TIMER,
	EFFECT_CANCEL,
};

struct effect {
	enum effect_kind kind;
	char *topic;   /* owned; of PubSub */
	char *payload; /* owned; JSON */
	int64_t hops;  /* of a broadcast */
	int64_t timer; /* id */
	int64_t timer_kind;
	int64_t delay_ms; /* of a timer, from the commit on */
};

struct effects {
	struct effect *at;
	size_t count, room;
};

/* effects_topic_fault - why it is no name of a PubSub topic; NULL: it is one */
const char *effects_topic_fault(const char *topic);

/* effects_add - appends one; its texts are taken */
void effects_add(struct effects *effects, const struct effect *effect);

/* effects_append - moves all of more to the end of effects */
void effects_append(struct effects *effects, struct effects *more);

/* effects_count - how many there are of a kind */
size_t effects_count(const struct effects *effects, enum effect_kind kind);

/* effects_write - into the open transaction, for an instance; 0: it is none, or gone, and only broadcasts
 * are left */
enum store_status effects_write(const struct effects *effects, struct store *store, int64_t instance);

void effects_release(struct effects *effects);

#endif
