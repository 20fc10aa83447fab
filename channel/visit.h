/*
 * visit - a request to a shared topic by a client that has no socket: to see its state, or with an event
 *
 * It asks connect and authorize each time, and joins nothing.  What it is answered is JSON, made here, since an
 * event's answer is stored in the transaction of its commit: the same request again is given the same.
 */
#ifndef SEANCE_VISIT_H
#define SEANCE_VISIT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "position.h"
#include "seance.h"

#define VISIT_MARK_MS    300000 /* nginx sends a request again for its deadline of 30 s at most */
#define VISIT_KEYS       2      /* that an answer is stored under */
#define WATCH_NAME_BYTES 32     /* of what engine_wait takes, with its NUL */

/* A key under which the answer is kept, so that the request is not done twice. */
struct visit_key {
	char *text; /* owned; NULL: none */
	int64_t keep_ms;
};

struct visit {
	/* asked; owned */
	json_object *params; /* of the query: for connect, and payload of authorize and init */
	const char *(*header)(void *context, const char *name);
	void *header_context;
	char *name;        /* of this request, for the supervisor: the same when it comes again */
	char *event;       /* NULL: to see the state */
	json_object *body; /* of the event */
	char *digest;      /* of all that the event is */
	struct visit_key keys[VISIT_KEYS];
	char *if_match; /* as in HTTP; NULL: whatever the state is */
	bool streams;   /* it wants to be told of all that follows, too */
	bool has_since; /* it knows the state as of ... */
	int64_t since_epoch, since_revision;

	/* answered */
	char *answer; /* owned: JSON text */
	char position[POSITION_BYTES];
	bool is_public;               /* everybody may see the topic */
	bool is_newest;               /* there is nothing after since: engine_wait tells when there is ... */
	char watch[WATCH_NAME_BYTES]; /* ... under this name, after the revision */
	bool connected;
	seance_connect_fn *connect; /* borrowed */
};

/* visit_marked - of a request that is only to be done once; owned by the caller */
struct visit *visit_marked(const char *mark);

void visit_free(struct visit *visit);

#endif
