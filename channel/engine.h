/*
 * engine - sockets, joins and instances; messages in, commits out
 *
 * A message is run on its instance's state in memory; what it did is staged.  engine_commit makes
 * one transaction of all that is staged, and says what every socket is to be sent (deliveries).  The
 * rules of order and of exactly-once are those of docs/delivery.md.
 *
 * One lock guards all of it (engine_lock).  It is let go only while a callback runs; the instance
 * is marked busy then, and messages for it wait in its queue.  So several threads may be in here, each
 * for another instance.
 */
#ifndef SEANCE_ENGINE_H
#define SEANCE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "effects.h"
#include "record.h"
#include "seance.h"
#include "store.h"
#include "visit.h"

struct engine;
struct instance;

struct engine_limits {
	int sockets;
	int sockets_per_address;
	int joins_per_socket;
	size_t state_bytes;    /* of one state as text */
	size_t cache_bytes;    /* of all states kept in memory, as text */
	size_t catch_up_bytes; /* of patches: fewer are sent one by one to a slow reader, too */
	int64_t log_rows;
	int64_t grace_ms; /* a socket that no worker lists is ended after this */
	int64_t marks_ms; /* how far back a message may be sent again */
};

/* What the engine asks of its surroundings. */
struct engine_hooks {
	void *context;

	/*
	 * A callback begins for message `number` of the socket that name is the token of, for a visit of that name,
	 * or for "KIND@INSTANCE": what an instance is given, such as a broadcast of that id; the lock is not held.
	 * false: it has killed the program before and is not to run.  Both NULL: nobody keeps a note of what runs.
	 */
	bool (*run_begin)(void *context, const char *name, int64_t number, int *slot);
	void (*run_end)(void *context, int slot);

	/* A line for the log. */
	void (*log)(void *context, const char *line);

	/* What was broadcast, JSON text, once it is committed; to nobody, too.  NULL: never mind. */
	void (*broadcast)(void *context, const char *topic, const char *message);
};

/* A client, whatever the transport. */
struct socket {
	struct store_socket row; /* token, address and assigns owned */
	json_object *assigns;    /* owned: from connect, not changed afterwards; NULL: none */
	struct join *joins;      /* those that have ended too, while the log may name them */
	int join_count;          /* that have not ended */

	/* Order: what it has been sent (docs/delivery.md) */
	int64_t last;              /* the last commit that had bytes for it, if known */
	bool known;                /* last is right, so units can follow it */
	bool fill;                 /* units after position are to be sent at the next commit */
	int64_t position;          /* the highest that it was reported at */
	int64_t floor;             /* commits from here on may be needed to fill it; INT64_MAX: none */
	bool behind;               /* its worker asked for a pause */
	bool lagged;               /* it was behind: its fill may be a catch-up */
	struct catch_up *catch_up; /* being made by the present fill; or NULL */

	/* A polled one: no link lists it, it asks for what it lacks (engine_poll).  last is what it may ask for. */
	bool polled;
	struct message *poll; /* its newest question, until it is answered */
	int64_t first;        /* if known: the lowest commit that it may lack; 0: it lacks none */
	int64_t from;         /* nothing that the present fill is for stands up to here */
	size_t room;          /* bytes that the present fill may still give it */
	int64_t told;         /* it was given all up to here */
	void *queue;          /* the caller's: what is to be its next messages */

	/* Messages: one at a time */
	int64_t seen;            /* the highest number taken */
	int64_t done;            /* the highest number with a row in the log */
	struct message *running; /* not answered yet */

	/* The link that lists it; the caller's */
	void *link;
	void *answer; /* the caller's: collects what its present request is answered */
	uint64_t handle;
	int64_t unlinked_ms; /* monotonic: when a link last listed it or a request came */
	int64_t until_ms;    /* of one without a connection, which is sent nothing: it ends then; else 0 */

	bool ended;
	int users; /* messages that refer to it after its end */
	struct socket *previous, *next;
	struct socket *next_fill;
};

/* What a join asks for, beside what all are told: bits. */
enum join_wants {
	JOIN_RESUMES = 1, /* to be told where it stands, so that it can come back there */
	JOIN_REPLIES = 2, /* an answer to each of its events that succeeds */
	JOIN_PRIVATE = 4, /* not asked for: its instance is private */
	/* Its client has no connection: it comes with single requests, to private state. */
	JOIN_REQUESTS = 8,
};

enum message_kind {
	MESSAGE_EVENT,
	MESSAGE_JOIN,
	MESSAGE_LEAVE,
	MESSAGE_REFRESH,
	MESSAGE_UNKNOWN, /* an event with a name that means nothing */
	MESSAGE_PLAIN,   /* asks nothing of a channel: a heartbeat */
	MESSAGE_POLL,    /* a polled socket asks for what it lacks */
	MESSAGE_ANSWER,  /* no client's: an answer for a polled socket, in payload, which is to have a row */
	MESSAGE_POST,    /* no client's: a broadcast or timer for an instance */
	MESSAGE_BROADCAST, /* no client's: from outside, to a PubSub topic */
	MESSAGE_VISIT,     /* of a client without a socket */
};

enum message_outcome {
	OUTCOME_NONE,      /* not run yet */
	OUTCOME_COMMITTED, /* its frames are in the deliveries */
	OUTCOME_REFUSED,   /* reason says why */
	OUTCOME_UNMATCHED, /* the topic is not joined, or nobody serves it, or one of another scope: see channel */
	OUTCOME_UNKNOWN,   /* the topic is joined, but the event means nothing */
	OUTCOME_NOTHING,   /* no answer is due */
	OUTCOME_LEFT,      /* leave of a topic that was not joined */
	OUTCOME_FAILED,    /* the store could not commit it */
	OUTCOME_GONE,      /* its socket has ended */
	OUTCOME_CRASHED,   /* by the HTTP API: a callback crashed */
	OUTCOME_DENIED,    /* of a visit: connect has refused it */
	OUTCOME_FORBIDDEN, /* of a visit: authorize has refused it */
	OUTCOME_CHANGED,   /* of a visit: the state is another than it wants to change */
	OUTCOME_MISUSED,   /* its key was another event's */
	OUTCOME_REPEATED,  /* an event with its key was done before */
};

/* A client's message, or a post.  Its texts and payload are owned. */
struct message {
	enum message_kind kind;
	struct socket *socket; /* in use; of a post: the one joined to its private instance; or NULL */
	struct post *post;     /* owned; NULL: a client's */
	/* Owned.  A request to the HTTP API; or of a frame by long-poll: its mark, so that it is done once. */
	struct visit *visit;
	/*
	 * Of the HTTP API: it has a visit, and is not answered by frames.  A join is a stream's, of a shared topic; or
	 * with JOIN_REQUESTS of a private one, whose state the visit gets.
	 */
	bool by_api;
	int wants;      /* of a join, then of all that is about it: enum join_wants */
	char *resume;   /* of a join: where it says that it left; the caller makes since_ of it */
	bool has_since; /* of a join: it knows the state as of this position, and wants what it missed */
	int64_t since_epoch, since_revision;
	int64_t since_instance; /* of this private instance, and wants it back; 0: none */
	int64_t number;
	int64_t cursor;       /* of a poll: what it is answered leads up to this commit */
	char *topic;          /* plain text */
	char *ref, *join_ref; /* JSON */
	char *event;          /* plain text, without prefix */
	char *key;            /* of an event: with the same one it is done once; plain text; NULL: none */
	json_object *payload;

	/* the engine's */
	char *row_key; /* owned: key as it stands in a row */
	const struct seance_channel *channel;
	bool authorized;
	json_object *assigns;   /* owned: set by authorize */
	struct effects effects; /* owned: asked for by authorize, or from outside */

	enum message_outcome outcome;
	json_object *reason; /* owned */
	void *request;       /* the caller's */
	struct buffer reply; /* what it is answered besides, whatever the outcome; owned */

	struct message *next;
};

/*
 * A commit that is to be sent to a socket: the unit (after, record's number).
 *
 * It goes into the answer if its socket is being answered, else by the link.  A fill goes by the link in
 * any case, if there is one that the worker listens to: a worker that has asked for it drops, until its
 * beginning has come, what else comes by the link.  In the answer it is needed too, so that the request
 * does not end before what it led to has been written.
 */
struct delivery {
	struct record *record;
	struct socket *socket;
	int wants; /* enum join_wants, of the join that it is about */
	int64_t after;
	bool by_link; /* even if it goes into an answer */
};

/* A row for one join. */
struct told {
	struct record *record;
	int wants; /* as in a delivery */
};

/*
 * In place of all units of a slow reader between after and cursor: their events, in order, and then the
 * states as of cursor.  It repeats what the socket may have got of them by another way, so it fits it just
 * at `after` (LINK_CATCH_UP); else its worker asks for another fill.
 */
struct catch_up {
	struct socket *socket; /* in use */
	int64_t after, cursor;
	struct records {
		struct told *at;
		size_t count, room;
	} events, states; /* rows that sent events; what a refresh would tell */
	size_t bytes;     /* of the patches that it stands for */
};

/* Somebody who waited: there may be something newer now. */
struct woken {
	void *link;
	uint64_t handle;
};

/* What a commit led to.  Deliveries rise by record for each socket; catch-ups come after them. */
struct commit_result {
	struct delivery *deliveries;
	size_t delivery_count;
	size_t delivery_room;
	struct catch_up **catch_ups;
	size_t catch_up_count, catch_up_room;
	struct message *answered; /* a list, in the order in which they were taken */
	struct message *answered_last;
	struct woken *woken; /* of engine_wait */
	size_t woken_count;
};

/*
 * engine_open - an engine on a store
 *
 * store     Taken.
 * channels  Borrowed for the engine's life; ends with NULL.
 * Returns   never NULL.  Call engine_restore before anything else.
 */
struct engine *engine_open(struct store *store, const struct engine_limits *limits,
                           const struct engine_hooks *hooks, seance_connect_fn *on_connect,
                           const struct seance_channel *const *channels);

/* engine_restore - reads sockets, joins and the log's tail; false and a log line when it can't */
bool engine_restore(struct engine *engine);

/*
 * engine_restore_guest - the same for a process that only takes requests of clients without a socket, and soon goes
 *
 * No socket and no join is read, so nobody is sent anything, nothing is deleted and no state is written before
 * engine_close: all that is for the process that serves.  If there is one, it is to be engine_detach.
 *
 * Cost      O(rows of the log since states were written).
 */
bool engine_restore_guest(struct engine *engine);

/* engine_detach - as if the process was killed: nothing is written; returns the store, owned by the caller */
struct store *engine_detach(struct engine *engine);

/* engine_close - writes what is only in memory, closes the store */
void engine_close(struct engine *engine);

void engine_lock(struct engine *engine);
void engine_unlock(struct engine *engine);

/* --- all of the following under the lock --- */

/* What is known of a client that wants a socket. */
struct engine_client {
	json_object *params; /* borrowed */
	const char *address; /* borrowed */
	const char *name;    /* borrowed; of its request: the same when that comes again; NULL: not known */
	int64_t format;
	const char *(*header)(void *context, const char *name);
	void *header_context;
};

enum engine_connect { CONNECT_OK, CONNECT_REFUSED, CONNECT_CRASHED, CONNECT_LIMIT };

/*
 * engine_connect - runs the connect callback and stages a new socket
 *
 * socket    Set when CONNECT_OK; it can be used once the next commit has succeeded: engine_stored.
 *           Owned by the caller: engine_release.
 * Returns   CONNECT_REFUSED, CONNECT_CRASHED: what the callback did; CONNECT_LIMIT: there are too many.
 */
enum engine_connect engine_connect(struct engine *engine, const struct engine_client *client,
                                   struct socket **socket);

/* engine_stored - has a connected socket got its row? */
bool engine_stored(const struct socket *socket);

/* engine_keep - a socket is looked at even after its end, until engine_release */
void engine_keep(struct socket *socket);

/* engine_release - a socket that was kept, or got from engine_connect, is not looked at any more */
void engine_release(struct socket *socket);

/* engine_find - a socket by its token, NULL when there is none */
struct socket *engine_find(struct engine *engine, const char *token);

/* engine_find_handle - the socket that a link lists under a handle, NULL when there is none */
struct socket *engine_find_handle(struct engine *engine, const void *link, uint64_t handle);

enum submit {
	SUBMIT_TAKEN, /* message is taken: it comes back in a commit's answered list */
	SUBMIT_STALE, /* an old copy of a message: drop the request */
	SUBMIT_REPEATED, /* it is being run already: its request was exchanged for the new one; *old is the old */
};

/*
 * engine_submit - a message; runs it, or lets it wait for its instance
 *
 * One that is done already is answered by what its socket lacks (OUTCOME_COMMITTED).  May let go of
 * the lock.
 *
 * message   Taken when SUBMIT_TAKEN or SUBMIT_REPEATED (freed then).
 * alive     Asked when the message was taken before: is its request's connection still open?
 * position  Where the socket stands, as its worker says.
 */
enum submit engine_submit(struct engine *engine, struct message *message, int64_t position,
                          bool (*alive)(void *request), void **old);

/*
 * engine_take - the next message of a polled socket; it has none under way
 *
 * Comes back in a commit's answered list, also when its socket has ended.  What it leads to is had by
 * engine_poll.  May let go of the lock.
 *
 * message   Taken.  With a visit (visit_marked) it is done once: OUTCOME_COMMITTED if it was done before.
 */
void engine_take(struct engine *engine, struct message *message);

/*
 * engine_poll - a polled socket asks for what it lacks after a position, up to which it has had all
 *
 * request   Comes back in the next commit's answered list in a MESSAGE_POLL: OUTCOME_COMMITTED: the deliveries
 *           to the socket, none or some, are its answer, and lead up to cursor; OUTCOME_NOTHING: a newer one has
 *           come; OUTCOME_FAILED: the log cannot be read; OUTCOME_GONE.  When there is nothing, engine_wait tells
 *           under the socket's watch name when there is something after cursor.
 * Cost      O(rows of the log after position), if there is anything for it.
 */
void engine_poll(struct engine *engine, struct socket *socket, int64_t position, void *request);

/* engine_newest - the newest commit; nothing up to it is news to a socket that connects now */
int64_t engine_newest(const struct engine *engine);

/* message_new - an empty message of a socket, owned by the caller until it is submitted */
struct message *message_new(struct socket *socket);
void message_free(struct message *message);

/*
 * engine_is_ahead - is a position above the newest commit?
 *
 * So after a power cut with --durability=normal: the client saw what the database has lost.  Its socket
 * is to be closed, so that it joins anew.
 */
bool engine_is_ahead(const struct engine *engine, int64_t position);

/* engine_held - a link lists a socket: at hello or when it was held; false: it is to be closed, since
 * there is no such socket or it is ahead */
bool engine_held(struct engine *engine, const char *token, void *link, uint64_t handle,
                 int64_t position);

/* engine_unlinked - a link has gone; floor: its lowest commit that was not acknowledged */
void engine_unlinked(struct engine *engine, void *link, int64_t floor);

/* engine_closed - a socket's connection has ended, as its link says */
void engine_closed(struct engine *engine, struct socket *socket);

/*
 * engine_wait - a link tells of somebody who waits for what is newer than a position
 *
 * Comes back once in a commit's woken list: as soon as there is something, or when it is not known.
 *
 * name      Borrowed; of a visit's answer (struct visit), or of a polled socket (watch_name_socket).
 */
void engine_wait(struct engine *engine, const char *name, int64_t position, void *link, uint64_t handle);

/* watch_name_socket - the name under which a request waits for what comes for a polled socket */
void watch_name_socket(char name[WATCH_NAME_BYTES], const char *token);

/* engine_unwait - waits no longer; false: nobody did under that handle */
bool engine_unwait(struct engine *engine, const void *link, uint64_t handle);

/* engine_behind - the worker wants nothing for it for now;  engine_drained - all after position, please */
void engine_behind(struct engine *engine, struct socket *socket, int64_t position);
void engine_drained(struct engine *engine, struct socket *socket, int64_t position);

/*
 * engine_commit - commits what is staged and finds out what everybody is to be sent
 *
 * May let go of the lock, when callbacks must run again.
 *
 * result    Filled; release by commit_result_release after the deliveries were sent.
 */
void engine_commit(struct engine *engine, struct commit_result *result);
void commit_result_release(struct commit_result *result);

/*
 * engine_visit - a request by a client without a socket
 *
 * visit     Taken.  With a socket, it is for what that has joined with JOIN_REQUESTS: OUTCOME_DENIED if it has not.
 * request   Comes back in the answered list of a commit, in a message with the visit: OUTCOME_COMMITTED: answer
 *           and position say what; REFUSED, FORBIDDEN, DENIED: reason says why; UNMATCHED, CHANGED, MISUSED,
 *           CRASHED, FAILED.
 */
void engine_visit(struct engine *engine, struct visit *visit, const char *topic, void *request);

/*
 * engine_broadcast - a message from outside to a PubSub topic
 *
 * topic     Borrowed; effects_topic_fault has found no fault.
 * message   Taken.
 * mark      Borrowed: the same when the same request comes again, so that it is done once; NULL: none.
 * request   Comes back in the answered list of a commit, in a message without a socket.
 * Returns   NULL; or why it cannot be: then nothing comes back.
 */
const char *engine_broadcast(struct engine *engine, const char *topic, json_object *message,
                             const char *mark, void *request);

/*
 * engine_post - gives instances what was broadcast to them, and what timers have fallen due
 *
 * Stages what the callbacks did; to be called after the result of engine_commit was sent, since it lets go
 * of the lock.  Takes a bounded number, so that clients' messages come between.
 */
void engine_post(struct engine *engine);

/* engine_undelivered - a delivery could not be sent (no link): its socket is filled from the log later */
void engine_undelivered(struct engine *engine, const struct delivery *delivery);

/* engine_due - milliseconds until engine_commit has something to do by itself; -1: nothing */
int engine_due(struct engine *engine);

/*
 * engine_house - what is due by time: unlisted sockets end, the log is pruned
 *
 * floor     The lowest commit that a link has not acknowledged.
 * close     Called for each socket that must be closed because the log can't wait for it.
 */
void engine_house(struct engine *engine, int64_t floor,
                  void (*close)(void *context, struct socket *socket), void *context);

#endif
