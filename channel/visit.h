/*
 * visit - a request by a client without a connection: to see a state, or with an event
 *
 * For shared state it asks connect and authorize each time, and joins nothing; for private state it names the socket
 * that was made for it when it joined.  What it is answered is JSON, made here, since an event's answer is stored in
 * the transaction of its commit: the same request again is given the same.
 *
 * A frame of long-poll has a visit for its mark alone, and a join by HTTP for its name and answer (visit_marked).
 */
#ifndef SEANCE_VISIT_H
#define SEANCE_VISIT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "position.h"
#include "seance.h"

#define VISIT_MARK_MS    300000 /* nginx sends a request again for its deadline of 30 s at most */
#define VISIT_KEY_MAX    255    /* bytes of a key that a client chooses */
#define VISIT_KEY_MS     (24L * 3600000L)
#define VISIT_KEYS       2 /* that an answer is kept under: what nginx sends again, the client's */
#define VISIT_JOINED     "{\"socket\":\"" /* begins the answer of a join */
#define WATCH_NAME_BYTES 48               /* of what engine_wait takes, with its NUL */

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
	char *key;         /* an event's, as the client said it; plain text; NULL: none */
	struct visit_key keys[VISIT_KEYS];
	char *if_match; /* as in HTTP; NULL: whatever the state is */
	bool streams;   /* it wants to be told of all that follows, too */
	bool joins;     /* it wants private state, with body for the join's payload; not for engine_visit */
	char *socket;   /* token of the socket that has joined private state; NULL: shared state is meant */
	bool leaves;    /* it wants to end that join */
	bool has_since; /* it knows the state as of ... */
	int64_t since_epoch, since_revision;
	bool has_until; /* ... and wants to be told no more than what led to ... */
	int64_t until_epoch, until_revision;

	/* answered */
	char *
		answer; /* owned: JSON text; of a join: VISIT_JOINED, the socket's token, what is seen; null: it failed */
	char position[POSITION_BYTES];
	bool is_public;               /* everybody may see the topic */
	bool is_fixed;                /* the same will be answered as long as the log reaches back */
	bool is_newest;               /* there is nothing after since: engine_wait tells when there is ... */
	char watch[WATCH_NAME_BYTES]; /* ... under this name, after the revision */

	/* the engine's */
	bool connected;             /* connect has let it in: when it runs again that is not asked again */
	seance_connect_fn *connect; /* borrowed */
};

/* visit_hash - of one text after another (FNV-1a), to tell requests apart, against no adversary */
#define VISIT_HASH_BEGIN 0xcbf29ce484222325u
uint64_t visit_hash(uint64_t hash, const char *text, size_t len);

/* visit_key - "KIND HASH TEXT", owned by the caller */
char *visit_key(const char *kind, uint64_t hash, const char *text);

/* visit_digest - of all that an event is: the same for the same */
uint64_t visit_digest(const char *event, json_object *payload);

/* visit_marked - of a request that is only to be done once; owned by the caller */
struct visit *visit_marked(const char *mark);

void visit_free(struct visit *visit);

#endif
