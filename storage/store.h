/*
 * store - where everything lives: the contract, and the backends that keep it
 *
 * A store holds instances (living states), the log of commits, sockets and joins, and what is on its
 * way to instances: broadcasts and timers.  It knows neither callbacks nor frames.  All texts are JSON
 * unless said otherwise, NUL-terminated UTF-8, and borrowed by the call; NULL means absent.
 *
 * One thread at a time uses a store, and none takes it over a fork.  All writes stand between
 * store_begin and store_commit or store_rollback; nothing is seen by others, and nothing is
 * durable, before store_commit has returned STORE_OK.  Reads are possible at any time and see what
 * the open transaction has written.
 *
 * STORE_BUSY, STORE_FULL and STORE_ERROR are failures.  After one the transaction can only be
 * rolled back: until then each further write, and store_commit, returns that failure again.
 * STORE_NONE is an answer.  Out of memory: the process aborts.
 *
 * Several processes, and several stores of one process, may write to one database: store_begin
 * tells when another has committed.  (A store in memory has no other.)
 *
 * A new backend implements struct store_backend (store_backend.h) and passes
 * tests/unit/test_store.c.
 */
#ifndef SEANCE_STORE_H
#define SEANCE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum store_status {
	STORE_OK,
	STORE_NONE,  /* there is no such row */
	STORE_BUSY,  /* another process holds the lock longer than the busy time: may be tried again */
	STORE_FULL,  /* no room */
	STORE_ERROR, /* I/O, read-only, corrupt: said in store_message */
};

/* What a commit did. */
enum store_kind {
	STORE_EVENT = 1, /* an event was handled: revision + 1 */
	STORE_JOIN,      /* a join; with the state it was told, or what it missed, or why it failed */
	STORE_LEAVE,
	STORE_REFRESH,        /* the full state was asked for */
	STORE_CRASH,          /* a callback crashed: its join has ended */
	STORE_PRESENCE,       /* somebody has come or gone; told to all that are joined */
	STORE_PRESENCE_STATE, /* who is there; told to the cause alone */
	STORE_ANSWER, /* an answer that nothing was done for, kept for a socket that will ask for it */
};

/* A row of the log: one commit. */
struct store_record {
	int64_t number;   /* rises over the whole database, is never used again; given by store_append */
	int64_t previous; /* number of the instance's previous row; 0: none */
	int64_t instance;
	int64_t revision; /* of the instance after this commit */
	int64_t version;  /* what the clients were told */
	enum store_kind kind;
	int64_t socket;         /* the cause; 0: none */
	int64_t message;        /* number of the socket's message that is done by this row; 0: none */
	int64_t time_ms;        /* Unix time */
	const char *ref;        /* of the message */
	const char *join_ref;   /* of the join that sent it */
	const char *event;      /* its name; plain text */
	const char *operations; /* array of RFC 6902 operations; NULL when the state did not change */
	const char *events;     /* array of events sent; NULL: none */
	const char *state;      /* the full state as told (JOIN, REFRESH; an EVENT instead of operations) */
	const char *detail;     /* what else the outcome needs */
	const char *told;       /* what was told instead of operations; NULL: operations */
	const char *key; /* under which it is known, so that it is not done again; plain text; NULL: none */
	const char *built; /* {"event", "payload"} that was told instead of operations or state; or NULL */
};

/* An instance without its state. */
struct store_instance {
	int64_t id;        /* given by store_instance_add */
	const char *topic; /* plain text */
	bool shared;       /* shared: found by topic; private: one per join */
	int64_t revision;
	int64_t version;
	int64_t last_commit;    /* number of its newest log row */
	int64_t state_revision; /* the revision that the stored state belongs to */
	int64_t state_version;
	int64_t epoch;  /* random, drawn at birth, > 0; another after store_open_sqlite missed commits */
	int64_t schema; /* of its state, as of last_commit; a number of the caller's */
};

struct store_socket {
	int64_t id;          /* given by store_socket_add; never used again */
	const char *token;   /* the random public id; plain text */
	const char *address; /* of the client; plain text */
	int64_t format;      /* what is spoken on it; a number of the caller's */
	const char *assigns;
	int64_t connected_ms; /* Unix time */
};

/* A join.  It has ended when ended is not 0; it is then kept while the log may name it. */
struct store_join {
	int64_t number; /* of the commit that made it: its identity */
	int64_t ended;  /* number of the commit that ended it; 0: still joined */
	int64_t socket;
	int64_t instance;
	const char *topic; /* plain text */
	const char *join_ref;
	int64_t wants;                 /* a number of the caller's */
	const char *assigns;           /* an object; NULL: an empty one */
	const char *state_key;         /* plain text: where assigns show the state; NULL: "state" */
	const char *state_version_key; /* ... and its version; NULL: "version" */
};

/* What was broadcast on a PubSub topic, while some subscribed instance has not been given it. */
struct store_broadcast {
	int64_t id; /* rises over the whole database, is never used again; given by store_broadcast_add */
	const char *topic; /* of PubSub; plain text */
	const char *payload;
	int64_t hops;    /* broadcasts that led to it, each sent in answer to the one before */
	int64_t time_ms; /* Unix time */
};

struct store_timer {
	int64_t number; /* rises; given by store_timer_add */
	int64_t id;     /* drawn by the caller; no two timers have the same */
	int64_t instance;
	int64_t kind;   /* a number of the caller's; those of kind 0 are counted by store_subscriptions */
	int64_t due_ms; /* Unix time */
	const char *payload;
};

/* Somebody who is shown as present in an instance. */
struct store_presence {
	int64_t number; /* rises; given by store_presence_put */
	int64_t instance;
	int64_t join;
	const char *key; /* plain text */
	const char *meta;
};

/* A broadcast or timer that an instance could not be given. */
struct store_refused {
	int64_t instance;
	const char *instance_topic; /* plain text */
	const char *topic;          /* of PubSub; plain text; NULL: a timer */
	const char *payload;
	const char *reason; /* plain text */
	int64_t time_ms;
};

/* What a request was answered that may come again. */
struct store_answer {
	const char *key;    /* plain text */
	const char *digest; /* of what was asked; plain text */
	const char *answer;
	int64_t until_ms; /* Unix time: it is kept so long */
};

#define STORE_REFUSED_MAX 10000 /* the oldest go when there are more */

struct store;

/*
 * Called for each row; what it is handed is borrowed until it returns.  false ends the scan, which
 * returns STORE_OK then too.  It may read from the store by any function but the one that called
 * it, and must not write.
 */
typedef bool store_record_fn(void *context, const struct store_record *record);
typedef bool store_instance_fn(void *context, const struct store_instance *instance);
typedef bool store_socket_fn(void *context, const struct store_socket *socket);
typedef bool store_join_fn(void *context, const struct store_join *join);
typedef bool store_key_fn(void *context, int64_t number, const char *key);
typedef bool store_answer_fn(void *context, const struct store_answer *answer);
typedef bool store_timer_fn(void *context, const struct store_timer *timer);
typedef bool store_presence_fn(void *context, const struct store_presence *presence);

/* instance: that has to be given the broadcast; 0 when none is meant */
typedef bool store_broadcast_fn(void *context, int64_t instance,
                                const struct store_broadcast *broadcast);

/* How much of what was committed survives a power cut. */
enum store_durability { STORE_FULLY, STORE_NORMALLY };

/*
 * store_open_sqlite - a database file, made when it is not there
 *
 * A database that was put back from a backup, or that has lost commits in a power cut, lacks what was handed out of
 * it: then each instance gets another epoch, and each socket another token.
 *
 * path      Plain text.  The mode of the file is 0600 when made; its folder must be there.
 * error     Set on failure to a new message of one line, owned by the caller (free): the database
 *           is of a newer schema, not ours (and not touched), not writable, ...
 *
 * Returns   A store, owned by the caller (store_close), or NULL.
 */
struct store *store_open_sqlite(const char *path, enum store_durability durability, char **error);

/* store_open_memory - a store that lives as long as the process; for tests */
struct store *store_open_memory(void);

/* store_close - frees it; an open transaction is rolled back; NULL is accepted */
void store_close(struct store *store);

/* store_message - what failed last: one line of plain text, borrowed until the next call; "" at first */
const char *store_message(const struct store *store);

/*
 * store_begin - begins a write transaction; nobody else can write until it ends
 *
 * foreign   Set to whether another process or store has committed since the last transaction that
 *           this store committed or, before the first, since it was opened.  So it is told again
 *           after a rollback; committing, be it nothing, acknowledges it.  Pruning counts too.
 * Errors    STORE_BUSY, STORE_FULL, STORE_ERROR: no transaction is open then.
 */
enum store_status store_begin(struct store *store, bool *foreign);

/* store_commit - all of the transaction at once, or a failure: then nothing of it */
enum store_status store_commit(struct store *store);

/* store_rollback - as if the transaction had never been; without one nothing happens */
void store_rollback(struct store *store);

/* store_changed - what store_begin would say in `foreign`; true if in doubt; a cheap look */
bool store_changed(struct store *store);

/* --- the log --- */

/* store_append - adds a row; its number, the greatest there ever was, is set in record; Cost O(row) */
enum store_status store_append(struct store *store, struct store_record *record);

/* store_last - number of the newest row; 0: none */
enum store_status store_last(struct store *store, int64_t *number);

/* store_scan - rows with after < number <= until, rising; Cost O(rows) of these */
enum store_status store_scan(struct store *store, int64_t after, int64_t until, store_record_fn *row,
                             void *context);

/* store_scan_back - rows from the newest down, until row returns false */
enum store_status store_scan_back(struct store *store, store_record_fn *row, void *context);

/* store_scan_keys - the rows that have a key, rising; Cost O(these), not of the log */
enum store_status store_scan_keys(struct store *store, store_key_fn *row, void *context);

/* store_history - an instance's rows from `number` backwards by `previous`, until row returns false
 * or there is no such row (any more: pruned) */
enum store_status store_history(struct store *store, int64_t number, store_record_fn *row,
                                void *context);

/*
 * store_prune - deletes the oldest log rows, and the joins that ended by the commits deleted
 *
 * until     Rows with number <= until go, but never the newest of the log.
 * limit     Rows of the log deleted at most, > 0.
 * deleted   Set to how many were; less than limit: there are no more to delete.
 * Cost      O(rows deleted).  Small batches from a store of its own keep others from waiting long.
 */
enum store_status store_prune(struct store *store, int64_t until, int limit, int *deleted);

/* --- instances --- */

/* store_instance_add - adds one with its first state; its id, which is never used again, is set.
 * STORE_ERROR if it is shared and its topic has a shared instance already */
enum store_status store_instance_add(struct store *store, struct store_instance *instance,
                                     const char *state);

/* store_instance_put - writes revision, version, last_commit; and the state with state_revision and
 * state_version when state is not NULL; topic, shared and epoch stay.  STORE_NONE if there is none */
enum store_status store_instance_put(struct store *store, const struct store_instance *instance,
                                     const char *state);

/* store_instance_schema - writes schema alone; STORE_NONE if there is none */
enum store_status store_instance_schema(struct store *store, int64_t id, int64_t schema);

/* store_instance_delete - with its subscriptions, timers and presences; STORE_NONE if there is none; its log rows stay
 * until they are pruned */
enum store_status store_instance_delete(struct store *store, int64_t id);

/* store_instance_find, _get - the shared instance of a topic, the one of an id; row is called once,
 * or STORE_NONE; Cost O(log instances), not of the state */
enum store_status store_instance_find(struct store *store, const char *topic, store_instance_fn *row,
                                      void *context);
enum store_status store_instance_get(struct store *store, int64_t id, store_instance_fn *row,
                                     void *context);

/* store_instance_state - the stored state: a new string, owned by the caller (free), NULL if it was
 * added without; or STORE_NONE */
enum store_status store_instance_state(struct store *store, int64_t id, char **state);

/* store_scan_instances - all instances, in order of id */
enum store_status store_scan_instances(struct store *store, store_instance_fn *row, void *context);

/* --- sockets and joins --- */

/* store_socket_add - its id is set */
enum store_status store_socket_add(struct store *store, struct store_socket *socket);

/* store_socket_delete - deletes the socket and its joins, ended or not; STORE_NONE if there is none;
 * Cost O(its joins) */
enum store_status store_socket_delete(struct store *store, int64_t id);

/* store_scan_sockets - all sockets, in order of id */
enum store_status store_scan_sockets(struct store *store, store_socket_fn *row, void *context);

/* store_join_add - as it is; STORE_ERROR if there is one of that number */
enum store_status store_join_add(struct store *store, const struct store_join *join);

/* store_join_assigns - writes assigns anew; STORE_NONE if there is no such join */
enum store_status store_join_assigns(struct store *store, int64_t number, const char *assigns);

/* store_join_end - STORE_NONE when there is no such join or it has ended already */
enum store_status store_join_end(struct store *store, int64_t number, int64_t ended);

/* store_scan_joins - all joins, ended or not, in order of number */
enum store_status store_scan_joins(struct store *store, store_join_fn *row, void *context);

/* --- PubSub ---
 *
 * A subscription has a position: the broadcast of its topic up to which its instance was given all.  An
 * instance is given a broadcast in the transaction that moves the position, so once.
 */

/* store_subscribe - to what is broadcast from now on; when subscribed already, nothing changes */
enum store_status store_subscribe(struct store *store, int64_t instance, const char *topic);

/* store_unsubscribe - STORE_NONE if it is not subscribed */
enum store_status store_unsubscribe(struct store *store, int64_t instance, const char *topic);

/* store_subscription - the position of one; STORE_NONE if it is not subscribed */
enum store_status store_subscription(struct store *store, int64_t instance, const char *topic,
                                     int64_t *position);

/* store_subscriptions - how many an instance has, timers of kind 0 counted too; Cost O(that many) */
enum store_status store_subscriptions(struct store *store, int64_t instance, int64_t *count);

/* store_broadcast_add - its id is set; STORE_NONE, and nothing is stored, if nobody is subscribed to its topic */
enum store_status store_broadcast_add(struct store *store, struct store_broadcast *broadcast);

/*
 * store_scan_pending - the next broadcast of each subscription that was not given all of its topic
 *
 * after     Plain text: only topics after this one, in order of their bytes; "" for all.
 * Cost      O(rows handed over, and topics with broadcasts).
 */
enum store_status store_scan_pending(struct store *store, const char *after, store_broadcast_fn *row,
                                     void *context);

/* store_scan_broadcasts - of a topic, with an id above `after`, rising */
enum store_status store_scan_broadcasts(struct store *store, const char *topic, int64_t after,
                                        store_broadcast_fn *row, void *context);

/* store_broadcast_done - moves a position up to id; STORE_NONE if it is not below, or there is none */
enum store_status store_broadcast_done(struct store *store, int64_t instance, const char *topic,
                                       int64_t id);

/* store_broadcasts_prune - deletes those that every subscription has been given; of one topic, or NULL: of
 * all; Cost O(rows deleted) with a topic, O(broadcasts) without */
enum store_status store_broadcasts_prune(struct store *store, const char *topic);

/* store_backlog - newest id of all there ever were less the oldest that is stored: how many there are at most */
enum store_status store_backlog(struct store *store, int64_t *count);

/* --- timers --- */

/* store_timer_add - its number is set; STORE_ERROR if there is one of that id */
enum store_status store_timer_add(struct store *store, struct store_timer *timer);

/* store_timer_delete - the instance's timer of that id; STORE_NONE if there is none (any more) */
enum store_status store_timer_delete(struct store *store, int64_t instance, int64_t id);

/* store_timer_get - row is called once, or STORE_NONE */
enum store_status store_timer_get(struct store *store, int64_t id, store_timer_fn *row, void *context);

/* store_scan_timers - all, by due_ms and then number */
enum store_status store_scan_timers(struct store *store, store_timer_fn *row, void *context);

/* store_timer_delete_kind - all of an instance's of a kind, be there any or none */
enum store_status store_timer_delete_kind(struct store *store, int64_t instance, int64_t kind);

/* store_set_aside - keeps what could not be delivered, for somebody to look at */
enum store_status store_set_aside(struct store *store, const struct store_refused *refused);

/* --- presence --- */

/* store_presence_put - number 0: a new one, its number is set; else in place of the one of that number, or
 * STORE_NONE */
enum store_status store_presence_put(struct store *store, struct store_presence *presence);

/* store_presence_delete - STORE_NONE if there is none */
enum store_status store_presence_delete(struct store *store, int64_t number);

/* store_scan_presences - of an instance, by number */
enum store_status store_scan_presences(struct store *store, int64_t instance, store_presence_fn *row,
                                       void *context);

/* --- answers to requests that may come again --- */

/* store_answer_add - STORE_NONE, and nothing is changed, if there is one of that key */
enum store_status store_answer_add(struct store *store, const struct store_answer *answer);

/* store_answer_get - row is called once, or STORE_NONE */
enum store_status store_answer_get(struct store *store, const char *key, store_answer_fn *row,
                                   void *context);

/* store_answers_prune - those that were to be kept until before now_ms go; Cost O(rows deleted) */
enum store_status store_answers_prune(struct store *store, int64_t now_ms);

/* --- marks: named numbers --- */

/* Up to this log row, every instance's own row is written: a start reads only the log after it. */
#define STORE_MARK_WRITTEN "written"

/* store_mark_put - name is plain text; "generation" is the SQLite backend's */
enum store_status store_mark_put(struct store *store, const char *name, int64_t value);

/* store_mark_get - value is 0 when the mark was never put */
enum store_status store_mark_get(struct store *store, const char *name, int64_t *value);

/*
 * store_open_faulty - a decorator for tests, through which a write can be made to fail
 *
 * inner     Taken.
 */
struct store *store_open_faulty(struct store *inner);

/* store_fail_at - the nth write call from now (1: the next; append, prune, add, put, delete, end,
 * begin, commit) fails with status, once, and does nothing; 0: none will */
void store_fail_at(struct store *faulty, int nth_write, enum store_status status);

#endif
