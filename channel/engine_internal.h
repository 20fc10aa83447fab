/*
 * engine_internal - what the engine's files share
 *
 *   engine.c     life, lock, clocks, connect, what is due by time
 *   socket.c     sockets and joins
 *   instance.c   living states: finding, loading, writing, forgetting
 *   message.c    a message's way to its callback
 *   poll.c       sockets that ask for what they lack
 *   run.c        one run of a callback
 *   stage.c      what it did, for the next transaction
 *   post.c       broadcasts, timers and hooks: taken from the store for an instance
 *   give.c       ... and given to its callback
 *   hook.c       what joins and ends lead to besides
 *   show.c       what clients see of a state, and are told of a change
 *   presence.c   who is there
 *   visit.c      requests without a socket
 *   keys.c       events that are not to be done again
 *   since.c      what has changed after a position
 *   watch.c      requests that wait for something newer
 *   commit.c     staged things into one transaction, then into deliveries
 *   house.c      ... and what goes along: deletions, states written out
 *   fill.c       what a socket lacks, from the log
 *   catch_up.c   ... in few words, when it lags far behind
 *   restore.c    the start
 */
#ifndef SEANCE_ENGINE_INTERNAL_H
#define SEANCE_ENGINE_INTERNAL_H

#include <json-c/linkhash.h>
#include <pthread.h>

#include "buffer.h"
#include "call.h"
#include "clock.h"
#include "engine.h"
#include "patch.h"

#define STATE_SMALL    (16 * 1024) /* bytes of a state that is stored at each occasion */
#define WRITE_AFTER_MS 90          /* an instance's row lags behind its log at most so long ... */
#define QUIET_MS       1000        /* ... and a large state until it is quiet for so long */
/* Of large states are written at most; the log of a busy program grows by less. */
#define LARGE_BYTES_A_MS 10000
#define MARK_EVERY_MS    1000
#define HOUSE_AFTER_MS   20   /* rows of what has ended go so soon, unless a commit takes them along */
#define PRUNE_BATCH      200  /* log rows deleted by one transaction, at least */
#define BLANKS_MAX       1000 /* states that nobody changed are kept for a while, unless there are more */
#define INSTANCE_BYTES   512  /* reckoned for an instance beside its state */
#define TAIL_SAMPLES     128  /* of (time, newest number), one a second */
#define BUSY_MS          10000 /* what is staged waits for another process's lock at most so long */
#define RETRY_MS         1000
#define CONFLICTS_MAX    100 /* in a row, then a message has failed */
#define NOTHING_NEEDED   INT64_MAX
#define ANSWERS_EVERY_MS 10000
#define POST_CRASHES     3   /* a broadcast or timer that crashes its callback so often is set aside */
#define POST_RETRY_MS    100 /* after the first crash it waits twice as long, and so on */
#define IDLE_MS          600000       /* a client that comes by requests has gone then; see resume_ttl */
#define POLL_BYTES       (256 * 1024) /* about so much a polled socket is given at once */
#define STATE_ROWS       1000 /* a row's full state may stand in one at most so many rows before it */

/* Ended, but the log may still name it: ended is not 0. */
struct join {
	int64_t number; /* of its commit; 0: staged */
	int64_t ended;
	struct socket *socket;
	struct instance *instance; /* NULL: it failed, or its private instance has gone */
	int64_t instance_id;       /* of its row, also when that has gone; 0: it failed */
	char *topic;
	char *join_ref;
	int wants;                 /* enum join_wants */
	json_object *assigns;      /* owned: as committed; NULL: none */
	json_object *next_assigns; /* owned: with what is staged */
	struct join *next_of_socket;
	struct join *previous_of_instance, *next_of_instance;
	struct join *next_ended;
};

struct instance {
	struct store_instance row;  /* as committed; topic owned */
	struct store_instance next; /* as in the transaction being made */
	int64_t revision, version;  /* with what is staged */
	const struct seance_channel *channel;

	struct patch_edit edit; /* the state, when loaded */
	bool loaded;
	bool busy;            /* a callback runs on it, without the lock */
	bool stale;           /* what the busy callback sees is not what is stored */
	bool dead;            /* private and its join has ended: to be freed when nobody uses it */
	bool deleted;         /* its row is deleted by the transaction being made */
	bool settling;        /* its end, or another join for it, is staged: whatever comes waits for that */
	bool presence_staged; /* a change of its presences */
	int64_t schema;       /* with what is staged */
	bool blank;           /* in the list of those to be deleted unless somebody joins ... */
	int64_t blank_ms;     /* ... since then */
	bool put, state_put;  /* its row, its state are written by the transaction being made */
	int staged;
	struct message *waiting, *waiting_last;

	int posts;             /* broadcasts and timers for it that were taken and are not done */
	unsigned post_turn;    /* when they were taken */
	int64_t post_retry_ms; /* it is given none before */
	int64_t post_crashed;  /* id of the one that crashed its callback last ... */
	int post_crashes;      /* ... and how often */

	struct join *joins; /* ended ones too */

	json_object *face; /* owned: what clients see, when the channel encodes; NULL: not known */
	char *built;       /* owned: the message that shows the state, when the channel builds it */
	bool shown;        /* both are known */
	struct record *state_record; /* the newest that carries its full state; NULL: none */
	size_t state_bytes;          /* of the state as text, when last written or read */
	size_t log_bytes;            /* of operations since the stored state */
	int64_t written_ms;          /* when its row was last written */
	int64_t changed_ms;
	int64_t unwritten; /* its first commit that its row or stored state does not show; 0: none */
	int64_t due_ms;    /* when it is to be written; 0: not in the list */
	struct instance *due_previous, *due_next;
	struct instance *used_previous, *used_next; /* loaded ones, by last use */
};

/* Where clients come from. */
struct address {
	char *text;
	int sockets;
	int idle; /* of these: without a connection */
};

/* What an instance is given; up to POST_IDLE it is the kind of a stored timer. */
enum post_kind {
	POST_TIMER,
	POST_JOINED,  /* {"join", "payload", "socket", "assigns"}: the join hook */
	POST_LEFT,    /* {"join", "reason", "socket", "assigns"}: terminate */
	POST_PRESENT, /* {"join"}: it is to be shown as present, or anew */
	POST_ABSENT,  /* {"join"}: it has ended, and for a while nobody has taken its place */
	POST_IDLE,    /* nobody has been joined for idle_ttl */
	POST_BROADCAST,
	POST_MIGRATE, /* not stored: its state is one of an older build */
	POST_ENCODE,  /* not stored: what clients see of its state is not known */
};

struct post {
	enum post_kind kind;
	struct instance *instance; /* counts it; NULL: no channel serves it any more */
	int64_t instance_id;
	int64_t id;    /* of the broadcast or timer */
	char name[40]; /* for the supervisor: of what kind, and for whom */
	char *topic;   /* owned; of PubSub; NULL: no broadcast */
	char *text;    /* owned; the payload as text */
	int64_t hops;
};

/* A change to the presences: a row put or deleted. */
struct presence_change {
	bool deletes;
	struct store_presence row; /* key and meta owned; number 0: a new one */
};

/* A join that ended with its socket, on a channel that has hooks. */
struct departure {
	const struct seance_channel *channel;
	int64_t instance, join;
	char *token;
	json_object *assigns;
};

/* Something for the next transaction: a new socket, or what a message did. */
struct staged {
	struct socket *socket; /* new; or NULL.  Held in use, until stored or given up */
	int64_t socket_id;     /* of its row, in the transaction being made */
	struct message *message;
	struct record *record;            /* NULL: a socket; or a post that led to nothing */
	enum message_outcome outcome;     /* of the message, once it is committed; NONE: OUTCOME_COMMITTED */
	char *refused;                    /* owned; why a post is set aside; NULL: it is not */
	struct presence_change *presence; /* owned; or NULL */
	bool buries;                      /* the instance is deleted */
	char *birth;                      /* owned; the first state, of an instance that is born */
	bool migrates;                    /* the instance's state has the channel's state_schema now */
	struct instance *instance;
	struct join *join;      /* begins */
	struct join *ends;      /* ends */
	int64_t takes;          /* number of the join whose place in the instance it takes; 0: none */
	struct join *assigner;  /* has new assigns; not to be looked at when its socket has ended */
	json_object *assigns;   /* owned: the assigner's */
	struct effects effects; /* owned */
};

struct sample {
	int64_t time_ms, number;
};

struct numbers {
	int64_t *at;
	size_t count, room;
};

struct engine {
	pthread_mutex_t lock;
	struct store *store;
	struct engine_limits limits;
	struct engine_hooks hooks;
	seance_connect_fn *on_connect;
	const struct seance_channel *const *channels;

	struct lh_table *sockets_by_token;
	struct lh_table *sockets_by_id;
	struct lh_table *sockets_by_handle; /* those that a link lists */
	struct lh_table *addresses;         /* address -> count */
	struct socket *sockets;
	int socket_count;
	int idle_count;
	struct lh_table *shared_by_topic;
	struct lh_table *instances_by_id;

	struct staged *staged;
	size_t staged_count, staged_room;
	struct message *answered, *answered_last;
	struct message *ready, *ready_last; /* to be run, by whoever comes next */
	struct lh_table *keys;              /* by what is the same for two events with one key */
	struct key *keys_first, *keys_last; /* of committed ones, by number */
	struct watch *watches;
	struct lh_table *watches_by_name; /* the first of each name */
	struct lh_table *watches_by_handle;
	struct woken *woken;
	size_t woken_count, woken_room;
	struct socket *fills;
	int64_t fill_retry_ms; /* the log could not be read: not before */

	struct numbers ended_sockets; /* rows to be deleted */
	struct numbers lost_joins;    /* rows to be ended: their sockets live on for others */
	struct departure *departures; /* of these */
	size_t departure_count, departure_room;
	struct numbers dead_instances; /* private ones, rows to be deleted */
	struct instance **blanks;      /* shared ones that nobody changed or is joined to */
	size_t blank_count, blank_room;
	int64_t blanks_due_ms;  /* when the first of them is to be deleted */
	struct instance **puts; /* written by the transaction being made */
	size_t put_count, put_room;
	struct join *ended_first, *ended_last; /* by the number of their end */

	struct instance *due_first, *due_last;
	int64_t large_ms;                        /* no large state is written before */
	struct instance *used_first, *used_last; /* the least recently used one is last */
	size_t cache_bytes;

	bool posts_look;       /* there may be broadcasts or timers to be given */
	bool posts_stale;      /* there may be broadcasts that nobody needs */
	unsigned post_turn;    /* counts engine_post */
	char *post_after;      /* owned; PubSub topic whose turn was last */
	int64_t post_retry_ms; /* an instance is to be given one again; 0: none */
	int64_t timer_due_ms;  /* Unix time of the next timer; 0: none */
	int64_t refused;       /* id of the broadcast or timer that was set aside last */

	int64_t last;    /* number of the newest row */
	int64_t oldest;  /* number of the oldest row, or lower */
	int64_t written; /* the mark as stored */
	int64_t marked_ms;
	int64_t prune_until; /* rows up to here are to be deleted */
	struct sample tail[TAIL_SAMPLES];
	int tail_next;
	bool failing;       /* the last transaction failed: said in the log once */
	int64_t answers_ms; /* when old answers are to be deleted next */
	int64_t retry_ms;   /* no transaction for house-keeping before */
	bool guest;         /* keeps no house: see engine_restore_guest */
	int conflicts;      /* in a row: of what is run again at once */
	int64_t busy_ms;    /* since when another process holds the lock; 0: it does not */
};

static inline int64_t
lower(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* --- engine.c --- */
void engine_log(struct engine *engine, const char *format, ...) SEANCE_PRINTF(2, 3);
void numbers_add(struct numbers *numbers, int64_t number);
struct lh_table *table_of_numbers(void);
void *table_find_number(struct lh_table *table, int64_t number);
void table_add_number(struct lh_table *table, int64_t number, void *value);
void table_remove_number(struct lh_table *table, int64_t number);
void *table_find_text(struct lh_table *table, const char *text);

/* --- socket.c --- */
struct socket *socket_new(struct engine *engine, const struct store_socket *row);
void socket_stored(struct engine *engine, struct socket *socket, int64_t id);
void socket_end(struct engine *engine, struct socket *socket);
/* socket_lose - its connection has ended, and so do its joins, but for those that may be resumed for a while */
void socket_lose(struct engine *engine, struct socket *socket);
/* socket_lose_joins - ... once the message that it runs, if any, is done: what that led to is one of its joins, too */
void socket_lose_joins(struct engine *engine, struct socket *socket);
/* socket_idle - it has no connection; the time in which it must come back begins */
void socket_idle(struct engine *engine, struct socket *socket, const struct seance_channel *channel);
void socket_unlink(struct engine *engine, struct socket *socket);
void socket_use(struct socket *socket);
void socket_unuse(struct socket *socket);
void socket_want_fill(struct engine *engine, struct socket *socket, int64_t position);
struct join *socket_join(struct socket *socket, const char *topic); /* that has not ended */
struct join *join_new(struct socket *socket, const char *topic, const char *join_ref, int wants,
                      struct instance *instance);
void join_attach(struct join *join); /* to its socket and instance */
void join_ended(struct engine *engine, struct join *join, int64_t number);
/* join_taken - another has taken its place in its private instance, by the commit of that number */
void join_taken(struct engine *engine, struct join *join, int64_t number);
/* join_resumable - the living join of a private instance that a client may come back to; NULL: none */
struct join *join_resumable(const struct instance *instance);
/* join_give_assigns, _stage_assigns - it has these, committed or as yet only staged; taken */
void join_give_assigns(struct join *join, json_object *assigns);
void join_stage_assigns(struct join *join, json_object *assigns);
void join_free(struct join *join);                       /* not attached */
void joins_forget(struct engine *engine, int64_t until); /* those that ended by then */

/* --- instance.c --- */
struct instance *instance_new(const struct seance_channel *channel, const char *topic);
struct instance *instance_from_row(struct engine *engine, const struct store_instance *row);
enum store_status instance_find_shared(struct engine *engine, const struct seance_channel *channel,
                                       const char *topic, struct instance **instance);
struct instance *instance_by_id(struct engine *engine, int64_t id); /* in memory or stored; or NULL */
void instance_register(struct engine *engine, struct instance *instance); /* after its birth */
bool instance_load(struct engine *engine, struct instance *instance);
void instance_give_state(struct engine *engine, struct instance *instance, json_object *state);
/* instance_reckon - its state is of so many bytes now */
void instance_reckon(struct engine *engine, struct instance *instance, size_t bytes);
void instance_used(struct engine *engine, struct instance *instance);
void instance_discard(struct engine *engine, struct instance *instance); /* back to what is stored */
void instance_free(struct engine *engine, struct instance *instance);
void instance_forget(struct engine *engine, struct instance *instance); /* free it, if nobody needs it */
void instance_die(struct engine *engine, struct instance *instance);    /* private: its join has ended */
void instance_changed(struct engine *engine, struct instance *instance, int64_t number, size_t bytes);
void instance_unblank(struct engine *engine, struct instance *instance); /* deleted, or wanted again */
bool blanks_are_due(const struct engine *engine, int64_t now);
/* instance_unborn - its row was deleted elsewhere */
void instance_unborn(struct engine *engine, struct instance *instance);
enum store_status instance_look(struct engine *engine, struct instance *instance);
void instance_follow(struct engine *engine, struct instance *instance, const struct store_record *row);
int64_t instances_written(const struct engine *engine, int64_t last);
/* instance_large_due - is a state to be written that may be large? */
bool instance_large_due(const struct instance *instance, int64_t now);
enum store_status instance_write(struct engine *engine, struct instance *instance, bool all);
void instances_put(struct engine *engine, bool committed); /* what instance_write wrote */
void instance_schedule(struct engine *engine, struct instance *instance, int64_t due_ms);
void instance_unschedule(struct engine *engine, struct instance *instance);
void instances_trim(struct engine *engine);
const struct seance_channel *channel_for(const struct engine *engine, const char *topic);

/* --- stage.c --- */
struct staged *staged_add(struct engine *engine);
void staged_release(struct staged *staged);
/*
 * stage - a row for what a message did, with the message as its cause.  Frames of a join carry the join's own
 * reference, whatever the message's was.
 */
struct staged *stage(struct engine *engine, struct message *message, enum store_kind kind,
                     struct instance *instance, const char *join_ref);
/* stage_birth - its instance is to be stored, with its first state */
void stage_birth(struct staged *staged);
/* stage_rowless - without a row of the log: what is left of a post is that it was given, or set aside */
struct staged *stage_rowless(struct engine *engine, struct message *message, struct instance *instance);
/* stage_event - join is the one that it came from, or that the private instance belongs to; or NULL */
struct staged *stage_event(struct engine *engine, struct message *message, struct instance *instance,
                           struct join *join, struct seance_call *call);
/* stage_join - taken: the join of the private instance whose place it takes; NULL: none */
void stage_join(struct engine *engine, struct message *message, struct instance *instance,
                const struct join *taken, struct seance_call *call);
/* stage_failed_join - a join that failed in init: it is answered ok, told why, and has ended; why is taken */
void stage_failed_join(struct engine *engine, struct message *message, const char *member,
                       json_object *why);
int64_t instance_next_version(const struct instance *instance);
void stage_crash(struct engine *engine, struct message *message, struct join *join);
void stage_state(struct engine *engine, struct staged *staged, struct instance *instance);
void stage_effects(struct staged *staged, struct seance_call *call);
void stage_detail(struct staged *staged, json_object *detail); /* detail is taken */
/* state_rows - so many rows are kept before those that somebody may need: their states may stand there */
int64_t state_rows(const struct engine *engine);

/* --- run.c --- */
struct run {
	struct message *message;
	struct instance *instance; /* NULL: none is touched */
	struct seance_call call;
	bool killer; /* it was not run, since it has killed the program before */
};
typedef enum seance_status run_fn(struct run *run);
/* run_init - assigns is borrowed */
void run_init(struct run *run, struct message *message, struct instance *instance, json_object *assigns);
/* first_assigns - what a join begins with: the socket's, and what authorize has set; borrowed */
json_object *first_assigns(const struct message *message);
run_fn run_authorize, run_init_callback, run_event;
/* run_begin, run_end - around a callback, without the lock: somebody may keep a note of what runs; false: it must not */
bool run_begin(const struct engine *engine, const char *name, int64_t number, int *slot);
void run_end(const struct engine *engine, int slot);
/* run_callback - the lock is let go while it runs; its instance is nobody else's then */
enum seance_status run_callback(struct engine *engine, struct run *run, run_fn *callback);
/* settle - its outcome, once the bounds of what it did were looked at; what failed is undone */
enum seance_status settle(struct engine *engine, struct run *run, enum seance_status status);
/* settle_init - the same of init, whose state is still the call's */
enum seance_status settle_init(struct engine *engine, struct run *run, enum seance_status status);
void say_crash(struct engine *engine, const struct message *message, const char *why);
json_object *refusal_of(struct seance_call *call, const char *member); /* owned by the caller */

/* --- message.c --- */
void message_ready(struct engine *engine, struct message *message); /* to be run next but others */
/* message_take - its socket's next; runs what is ready */
void message_take(struct engine *engine, struct message *message);
void messages_run(struct engine *engine); /* those that are ready */
void message_answer(struct engine *engine, struct message *message, enum message_outcome outcome);
bool message_gone(const struct message *message); /* nobody is there any more that it matters to */
/* run_counts - an instance's callback is done: may what it did count?  If not, the message was dealt with */
bool run_counts(struct engine *engine, struct run *run);
json_object *reason_object(const char *member, json_object *reason); /* reason is taken */
bool wait_for(struct instance *instance, struct message *message);   /* false: it need not wait */
void wait_in(struct instance *instance, struct message *message);    /* for ready_waiting */
void ready_waiting(struct engine *engine, struct instance *instance);

/* --- post.c --- */
struct message *post_new(enum post_kind kind, struct instance *instance, int64_t instance_id, int64_t id,
                         const char *payload);
/* post_join - the join that it is about, or that the private instance belongs to; NULL: it has ended, or none */
struct join *post_join(const struct message *message);
bool post_is_due(struct engine *engine, const struct message *message);
/* post_done - it was given, dropped, or given up; message is taken; the instance may be freed */
void post_done(struct engine *engine, struct message *message, enum message_outcome outcome);
void post_free(struct post *post);
enum store_status post_write(struct engine *engine, const struct staged *staged);
/* posts_prune - after those of a transaction were written: broadcasts that all were given go */
enum store_status posts_prune(struct engine *engine, const struct staged *list, size_t count);
/* effects_applied - they were committed: somebody may have to be given something */
void effects_applied(struct engine *engine, const struct effects *effects);
/* effects_too_many - why the store has no room for them; NULL: it has */
const char *effects_too_many(struct engine *engine, const struct instance *instance,
                             const struct effects *effects);
int64_t posts_due(const struct engine *engine, int64_t now);

/* --- give.c --- */
void post_run(struct engine *engine, struct message *message);
const char *post_name(const struct post *post);
enum ready { INSTANCE_READY, INSTANCE_WAITING, INSTANCE_UNREADABLE };
/* instance_ready - has it got its state, in the form that the channel knows?  WAITING: message is run again */
enum ready instance_ready(struct engine *engine, struct instance *instance, struct message *message);

/* --- hook.c --- */
/* hooks_write_* - into the transaction: what is to follow, as timers */
enum store_status hooks_write_birth(struct engine *engine, const struct instance *instance);
enum store_status hooks_write_join(struct engine *engine, const struct staged *staged);
enum store_status hooks_write_end(struct engine *engine, const struct staged *staged);
enum store_status hooks_write_assigns(struct engine *engine, const struct staged *staged);
enum store_status hooks_write_departures(struct engine *engine);
void departure_add(struct engine *engine, const struct join *join); /* its socket has ended */
void departures_forget(struct engine *engine);

/* --- show.c --- */
/* show_change - after a callback: what clients see and are told; without the lock; false: it has crashed */
bool show_change(struct seance_call *call, const struct instance *instance);
/* show_state - only what they see */
bool show_state(struct seance_call *call, const struct instance *instance);
bool show_is_known(const struct instance *instance);
void show_take(struct instance *instance, struct shown *shown); /* what they see from now on */
void show_forget(struct instance *instance);
bool show_is_other(const struct instance *instance); /* is it another than the state? */
char *show_text(const struct instance *instance);    /* owned by the caller */

/* --- visit.c --- */
void visit_run(struct engine *engine, struct message *message);
/* visit_answer_state - what it is answered: the state as it is now, with what is staged */
void visit_answer_state(struct message *message, const struct instance *instance, bool reset);
/* visit_answer_join - the same of a join; visit_answer_nothing - it failed */
void visit_answer_join(struct message *message, const struct instance *instance);
void visit_answer_nothing(struct visit *visit);
/* visit_was_answered - it is done already: then the message is dealt with */
bool visit_was_answered(struct engine *engine, struct message *message);
enum store_status visit_write(struct engine *engine, const struct staged *staged);

/* --- keys.c --- */
enum key_state { KEY_NEW, KEY_DONE, KEY_OTHERS };
/* key_text - as it stands in the row of an event; owned by the caller */
char *key_text(const struct instance *instance, const char *key, const char *event,
               json_object *payload);
/* keys_find - was the event done, or another with its key?  number: of its row; 0: it is staged */
enum key_state keys_find(struct engine *engine, const char *text, int64_t *number);
/* keys_stage - a new one;  keys_unstage - it was not committed;  keys_commit - it was, be it staged here or not */
void keys_stage(struct engine *engine, const char *text);
void keys_unstage(struct engine *engine, const char *text);
void keys_commit(struct engine *engine, const char *text, int64_t number);
enum store_status keys_read(struct engine *engine);
void keys_forget(struct engine *engine, int64_t until); /* those of rows up to there */

/* --- watch.c --- */
void watch_name(char name[WATCH_NAME_BYTES], const struct instance *instance);
/* watch_fire - an instance has come to a revision, a polled socket to a commit */
void watch_fire(struct engine *engine, const struct instance *instance, int64_t revision);
void watch_fire_socket(struct engine *engine, const struct socket *socket, int64_t number);
/*
 * watch_waits - does anybody wait for a change of an instance?
 * watch_waits_for_socket - for what comes for a polled socket, or for private state that it has by requests?
 */
bool watch_waits(struct engine *engine, const struct instance *instance);
bool watch_waits_for_socket(struct engine *engine, const struct socket *socket);
/* watches_unlink - nobody waits at a link any more; NULL: at any */
void watches_unlink(struct engine *engine, const void *link);

/* --- poll.c --- */
/* poll_news - there is a commit with bytes for a polled socket */
void poll_news(struct engine *engine, struct socket *socket, int64_t number);
/* poll_begin_fill - a fill reaches it;  poll_takes - has it room for a row? (then it is taken);  poll_filled - done */
void poll_begin_fill(struct engine *engine, struct socket *socket);
bool poll_takes(struct socket *socket, const struct record *record);
void poll_filled(struct socket *socket);
/* polls_answered - a turn ends: their questions, those of fills that failed too */
void polls_answered(struct engine *engine);

/* --- presence.c --- */
void presence_run(struct engine *engine, struct message *message);
enum store_status presence_write(struct engine *engine, struct staged *staged);
void presence_change_free(struct presence_change *change);

/* --- catch_up.c --- */
/* catch_up_begin - a socket that is to be filled after position may get it in few words */
void catch_up_begin(struct socket *socket, int64_t position);
/* catch_up_measure - a row that the socket lacks */
void catch_up_measure(const struct store_record *row, struct socket *socket);
/* catch_up_decide - all rows were measured: is it worth it?  Else it is dropped. */
void catch_up_decide(struct engine *engine, struct socket *socket);
/* catch_up_covers - is a row part of the socket's catch-up? */
bool catch_up_covers(const struct socket *socket, int64_t number);
/* catch_up_add - a row that is */
void catch_up_add(struct socket *socket, struct record *record, int wants);
/* catch_up_end - into the result; the socket has none afterwards */
void catch_up_end(struct socket *socket, struct commit_result *result);
/* catch_up_drop - the socket is to get all one by one after all */
void catch_up_drop(struct socket *socket);
void catch_up_free(struct catch_up *catch_up); /* NULL is accepted */

/* --- fill.c --- */
void record_find_state(struct engine *engine, struct record *record);
void fill_sockets(struct engine *engine, struct commit_result *result);

/* --- house.c --- */
/* What of house-keeping went into the transaction. */
struct house {
	bool kept;
	int pruned;
	int64_t written; /* the mark; as it was: not put */
};
/* house_is_due - is there enough for a transaction of its own? */
bool house_is_due(const struct engine *engine, int64_t now);
/* house_keep - into the transaction, behind so many staged things; last: its newest row */
enum store_status house_keep(struct engine *engine, size_t staged, int64_t last, int64_t now,
                             struct house *house);
/* house_kept - it was committed */
void house_kept(struct engine *engine, const struct house *house);

/* --- commit.c --- */
void staged_drop(struct engine *engine);
/* deliver - adds a delivery; borrowed until the next is added */
struct delivery *deliver(struct commit_result *result, struct record *record, struct socket *socket,
                         int wants, int64_t after);

#endif
