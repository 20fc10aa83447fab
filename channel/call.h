/*
 * call - one run of a callback: what it may look at, and what it has asked for
 *
 * The functions that authors call (include/seance.h) are in call.c; they only collect.
 */
#ifndef SEANCE_CALL_H
#define SEANCE_CALL_H

#include <stdbool.h>

#include "effects.h"
#include "patch.h"
#include "seance.h"

/* What clients see of a state, and are told of its change, where that is not the change itself (show.c). */
struct shown {
	bool known;        /* face and built are */
	json_object *face; /* what encode made */
	char *built;       /* {"event", "payload"}: the author's own message with the state */
	char *told;        /* operations */
	char *full;        /* a state, instead of operations */
	char *update;      /* {"event", "payload"}, instead of operations */
};

void shown_release(struct shown *shown);

struct seance_call {
	const char *topic;        /* borrowed; "" during connect */
	const char *socket_token; /* borrowed; "" during connect */

	/* connect only: the handshake's headers */
	const char *(*header)(void *context, const char *name);
	void *header_context;

	struct patch_edit *edit; /* borrowed: handle_event's state; NULL elsewhere */
	bool init;               /* seance_set_state gives the first state */
	bool has_state;
	json_object *first_state; /* owned: from init */

	const struct seance_channel *channel; /* borrowed; NULL during connect */
	int64_t version;                      /* of the state that edit changes */
	json_object *assigns;                 /* owned, and nobody else's; NULL: none yet */
	bool assigned;                        /* assigns were changed */
	json_object *events;                  /* owned: array of [to, name, detail]; NULL: none */
	struct effects effects;               /* owned: subscriptions, broadcasts, timers */
	struct shown shown;                   /* owned */
	bool posted;                          /* handle_message: there is no sender */
	const char *message_topic;            /* borrowed: of the broadcast given; NULL: none */
	int64_t hops;                         /* that a broadcast of this call has behind it */
	json_object *reason;                  /* owned: why refused */
	bool reason_is_text;                  /* reason was given by seance_refuse */
	char *crash;                          /* owned: why crashed; NULL: not said */
	bool failed;                          /* a call failed: the callback can't succeed any more */
};

/* Who an event of a commit is for: the first element of its entry in the log's `events`. */
#define CALL_TO_SENDER "sender"
#define CALL_TO_ALL    "all"
#define CALL_TO_OTHERS "others" /* all but the sender */

/* call_tells - is an entry of a row's events for a client?  own: it is the sender */
bool call_tells(json_object *entry, bool own);

/* call_take_assigns - its assigns, without the members that show the state; owned; NULL: none */
json_object *call_take_assigns(struct seance_call *call);

/* call_outcome - what a callback's result amounts to, given how its calls went */
enum seance_status call_outcome(const struct seance_call *call, enum seance_status returned);

/* call_why - the reason of a crash, for the log; borrowed */
const char *call_why(const struct seance_call *call);

void call_release(struct seance_call *call);

#endif
