/*
 * seance.h - server-side state channels: all that the author of a channel needs
 *
 * A channel is a set of callbacks for the topics that match a pattern.  A client sends an
 * event; handle_event changes the topic's state; the clients get RFC 6902 patches with version
 * numbers.  A whole program:
 *
 *     static enum seance_status
 *     counter_init(struct seance_call *call, const char *topic, json_object *payload)
 *     {
 *         return seance_set_state(call, seance_json("{\"count\":0}"));
 *     }
 *
 *     static enum seance_status
 *     counter_event(struct seance_call *call, const char *event, json_object *payload,
 *                   json_object *state)
 *     {
 *         int64_t count = json_object_get_int64(json_object_object_get(state, "count"));
 *         return seance_replace(call, json_object_new_int64(count + 1), "/count");
 *     }
 *
 *     static const struct seance_channel counter = {
 *         .topic = "counter:*", .init = counter_init, .handle_event = counter_event,
 *     };
 *     SEANCE_MAIN(&counter)
 *
 * Ownership, one law: what a callback is handed is borrowed until it returns; what it hands to
 * the library is taken, also when that fails.
 *
 * Effects (edits, replies, pushes, assigns, broadcasts, timers) are collected and happen only if the callback
 * returns SEANCE_OK and the commit succeeds; any other outcome leaves no trace.
 *
 * Callbacks of one topic run one at a time, in order; those of different topics may run at the
 * same time in different threads.  A callback may block; it then delays its own topic only.
 * After a crash of the program or a conflict the same event may run again: a callback should
 * have no effect beside the calls of this header.
 */
#ifndef SEANCE_H
#define SEANCE_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SEANCE_API                 __attribute__((visibility("default")))
#define SEANCE_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* What a callback says of itself.  The calls below return one too, so that `return call(...)` works. */
enum seance_status {
	SEANCE_OK,      /* the effects happen */
	SEANCE_REFUSED, /* no effect; the client is told the reason; it stays joined */
	SEANCE_CRASHED, /* no effect; the join ends with phx_error, as an exception in Elixir */
};

enum seance_scope {
	SEANCE_PRIVATE, /* each join has a state of its own, gone when the join ends */
	SEANCE_SHARED,  /* one state per topic, kept in the database */
};

/* How clients are told of a state and its changes. */
enum seance_message_builder {
	SEANCE_PATCHES,      /* the full state at a join, then patches */
	SEANCE_FULL_STATE,   /* the full state at a join and at every change */
	SEANCE_OWN_MESSAGES, /* what new_state_message and update_state_message make */
};

/* One run of a callback; valid until it returns. */
struct seance_call;

#define SEANCE_MAX_VERSION 1000u

/* A channel.  Only topic and init are needed. */
struct seance_channel {
	/* Topics served: a name, or a prefix followed by '*'.  The first channel that matches wins. */
	const char *topic;

	enum seance_scope scope;

	/* The version after this one is 0.  0 stands for SEANCE_MAX_VERSION. */
	unsigned max_version;

	/*
	 * Names of the members under which seance_assigns, and the view `joined` of the database, show the
	 * state and its version in a join.  NULL: "state", "version".
	 */
	const char *state_key;
	const char *state_version_key;

	/*
	 * Names of members of objects, at every depth, that clients do not see, neither in states nor in patches; an
	 * edit that only they would show is an empty patch.  Ends with NULL.  NULL: "__meta__"; for none an array
	 * that begins with NULL.
	 */
	const char *const *ignore_keys;

	enum seance_message_builder message_builder;

	/*
	 * Shared scope: what HTTP gives of it may be kept by caches that many use; these ask neither connect nor
	 * authorize.
	 */
	bool is_public;

	/*
	 * Shared scope: seconds without anybody joined, and without a change, after which the instance and its
	 * state go; the next one who joins gets a new one from init.  0: never.
	 */
	int idle_ttl;

	/*
	 * Private scope: seconds that an instance outlives a connection that was lost (not left), so that its client
	 * can come back to it: one that asks in its join where it stands ("resume").  authorize is asked anew, init
	 * and join are not; assigns go on, under those that connect and authorize set now.  0: it ends at once.
	 * A join by the HTTP API has no connection: it lasts so long after each of its requests; 0: for ten minutes.
	 */
	int resume_ttl;

	/*
	 * The form of the state, as a number that rises with each build that changes it; see migrate.
	 */
	unsigned state_schema;

	/*
	 * Shared scope: whoever joins is told who is there (event presence_state), and the others are told of him
	 * (presence_diff), in the form that Presence of the npm package phoenix reads.
	 *
	 * presence_key   Name of the assign, a string or an integer, that a join is shown under; one without sees the
	 *                others and is not shown.  NULL: "user_id".
	 * presence_meta  Name of the assign, an object, that is shown of it; when it changes all are told.  NULL: "presence".
	 * presence_grace_ms  After the end of a join; who is back within it, with the same key and meta, has never been
	 *                gone.  0: 5,000; negative: none.
	 */
	bool presence;
	const char *presence_key;
	const char *presence_meta;
	int presence_grace_ms;

	/*
	 * authorize - may this client join?  NULL: yes.
	 *
	 * By the HTTP API it is asked at each request for shared state, which joins nothing.
	 *
	 * payload   Borrowed: the payload of the join; of a request without one, and of a stream, the query's.
	 * Returns   SEANCE_OK; or the result of seance_refuse: the join is answered with an error.
	 */
	enum seance_status (*authorize)(struct seance_call *call, const char *topic, json_object *payload);

	/*
	 * init - the first state: at each join (private scope), or when the topic has none (shared)
	 *
	 * Hands it over by seance_set_state.  Refused: the client gets an error event, no join is left.
	 */
	enum seance_status (*init)(struct seance_call *call, const char *topic, json_object *payload);

	/*
	 * handle_event - an event from a client
	 *
	 * event     Borrowed: its name, without the vocabulary's prefix.
	 * state     Borrowed, to read: the present state; change it by the calls below only.
	 * NULL      every event changes nothing.
	 */
	enum seance_status (*handle_event)(struct seance_call *call, const char *event, json_object *payload,
	                                   json_object *state);

	/*
	 * handle_message - what was broadcast on a topic that the instance subscribed to, or its timer
	 *
	 * It is given once: in the transaction of what it does here.  One at a time, in the order of the
	 * broadcasts of its PubSub topic.  There is no sender: seance_reply is to everybody joined.  In
	 * private scope assigns and socket are those of the join, which may be between two connections of a
	 * link; in shared scope there are none.
	 *
	 * message   Borrowed: as it was sent.
	 * state     Borrowed, to read, as in handle_event.
	 * Returns   SEANCE_OK, as in handle_event.  SEANCE_REFUSED: it is done with, without effect.
	 *           SEANCE_CRASHED: it is given again, after the third time set aside (table `refused` of the
	 *           database) with a line in the log; nobody's join ends.
	 * NULL      what comes is done with.
	 */
	enum seance_status (*handle_message)(struct seance_call *call, json_object *message,
	                                     json_object *state);

	/*
	 * encode - the public face of a state: all that clients see
	 *
	 * Has no other effect.  Called after each callback that changed the state, and when a stored state is first
	 * shown: the old and the new face are compared, so an event costs O(both faces).  ignore_keys holds for
	 * the face, too.
	 *
	 * state     Borrowed, to read.
	 * Returns   Taken.  May share parts with the state by reference.  seance_crash: the callback has crashed.
	 * NULL      clients see the state itself.
	 */
	json_object *(*encode)(struct seance_call *call, json_object *state);

	/*
	 * new_state_message, update_state_message - messages of your own, with SEANCE_OWN_MESSAGES: at a join or
	 * refresh, and at every change
	 *
	 * event       Set to the name of the message's event, plain text, borrowed at once.
	 * state       Borrowed: its face.
	 * operations  Borrowed: the patch that would be told.
	 * Returns     Taken: the payload.
	 */
	json_object *(*new_state_message)(struct seance_call *call, const char **event, json_object *state,
	                                  int64_t version);
	json_object *(*update_state_message)(struct seance_call *call, const char **event,
	                                     json_object *state, json_object *operations, int64_t version);

	/*
	 * join - a client has joined; after it has been told the state
	 *
	 * Run once for each join, like handle_message; assigns, socket and seance_reply are those of the join.  When
	 * it changes or tells nothing, there is no new version.
	 *
	 * payload   Borrowed: of the join.
	 */
	enum seance_status (*join)(struct seance_call *call, json_object *payload, json_object *state);

	/*
	 * terminate - a join has ended, or a shared instance is about to
	 *
	 * Run once for each end, like handle_message; assigns are as they were.  In private scope and for "expired"
	 * the instance goes with it: only broadcasts are of use then.
	 *
	 * reason    Borrowed: "left", "closed" (its socket), "crashed", "replaced" (by another join of its
	 *           socket), "expired" (idle_ttl; there is no join).
	 */
	enum seance_status (*terminate)(struct seance_call *call, const char *reason, json_object *state);

	/*
	 * migrate - brings a state that an older build has stored into the form of state_schema
	 *
	 * Run before anything else, when a stored instance is first needed; changes state like handle_event, as a
	 * version that is told to all that are joined.  Not SEANCE_OK: nothing is changed, and whatever needed the
	 * state fails, until a build comes that can.  A state of a newer build is not touched either.
	 *
	 * from      The state_schema of the build that stored it, lower than the channel's; 0 when it had none.
	 */
	enum seance_status (*migrate)(struct seance_call *call, unsigned from, json_object *state);
};

/*
 * A connect callback: may this client have a socket at all?  Refused or crashed: HTTP 403.  The HTTP API asks it at
 * each request for shared state, too, and answers 401; crashed: 500.
 *
 * params    Borrowed: an object of the URL's query parameters (strings; the last of a name wins).
 */
typedef enum seance_status seance_connect_fn(struct seance_call *call, json_object *params);

/* --- what the call is about (borrowed until the callback returns) --- */

/* seance_topic - the full topic; "" during connect */
SEANCE_API const char *seance_topic(const struct seance_call *call);

/* seance_socket_id - the random id of the client's socket; "" without one: in connect, for a request by HTTP */
SEANCE_API const char *seance_socket_id(const struct seance_call *call);

/*
 * seance_header - a header of the client's handshake, or of its request by HTTP; during connect only
 *
 * name      as in HTTP, in any case: "User-Agent".
 * Returns   its value, or NULL when absent or outside connect.
 */
SEANCE_API const char *seance_header(const struct seance_call *call, const char *name);

/*
 * seance_assign - sets one of the assigns: what is known of a client besides the state
 *
 * In connect they are the socket's.  Each of its joins begins with a copy, which authorize, init and
 * handle_event of that join see and change: no other join sees it.  They are stored with the commit.
 *
 * key       Not the channel's state_key or state_version_key, which are taken by the state.
 * value     Taken; NULL is JSON null.
 * Returns   SEANCE_OK; SEANCE_CRASHED when the key is one of these or not UTF-8, or the value is not fit
 *           for a state.
 */
SEANCE_API enum seance_status seance_assign(struct seance_call *call, const char *key,
                                            json_object *value);

/*
 * seance_assigns - the assigns, an object; what seance_assign set in this call shows
 *
 * In handle_event it also has the present state and its version, under the channel's state_key and
 * state_version_key: the state as it is, not as clients are shown it.
 *
 * Returns   Borrowed until the callback returns, to read.
 */
SEANCE_API json_object *seance_assigns(struct seance_call *call);

/* --- changing the state ---
 *
 * The verbs of RFC 6902 are applied at once, so that `state` shows them, and are the patch as
 * they stand; the cost of an event is the cost of its change.  A pointer (RFC 6901) is given as
 * a printf format (%s %c %d %i %u with l, ll, z; %%); what is put in is escaped: "/users/%s" with
 * "a/b" means /users/a~1b.  They return SEANCE_OK, or SEANCE_CRASHED when the pointer leads
 * nowhere, a key is "__proto__", or the value is not within bounds; handle_event may go on after that,
 * but can only crash or refuse.
 */

/* seance_add - adds or replaces an object's member, or inserts into an array ("/-" appends) */
SEANCE_API enum seance_status seance_add(struct seance_call *call, json_object *value,
                                         const char *pointer, ...) SEANCE_PRINTF(3, 4);

/* seance_replace - replaces what is there */
SEANCE_API enum seance_status seance_replace(struct seance_call *call, json_object *value,
                                             const char *pointer, ...) SEANCE_PRINTF(3, 4);

/* seance_remove - removes what is there */
SEANCE_API enum seance_status seance_remove(struct seance_call *call, const char *pointer, ...)
	SEANCE_PRINTF(2, 3);

/* seance_move, seance_copy - from one place to another; both are pointers as they stand */
SEANCE_API enum seance_status seance_move(struct seance_call *call, const char *from, const char *to);
SEANCE_API enum seance_status seance_copy(struct seance_call *call, const char *from, const char *to);

/*
 * seance_set_state - a whole new state; the patch is what differs from the old one
 *
 * state     Taken.  Any JSON value; NULL is JSON null.  It may share parts with the old state only
 *           by reference count.  The old state must not have been changed in place.
 * Cost      O(old and new state); parts that both share by reference are skipped.
 */
SEANCE_API enum seance_status seance_set_state(struct seance_call *call, json_object *state);

/* --- telling the clients --- */

/* seance_reply - an event to the sender alone, before the patch; detail is taken, NULL is null */
SEANCE_API enum seance_status seance_reply(struct seance_call *call, const char *name,
                                           json_object *detail);

/* seance_push - an event to everybody joined to the instance, before the patch; detail is taken */
SEANCE_API enum seance_status seance_push(struct seance_call *call, const char *name,
                                          json_object *detail);

/* --- PubSub and timers ---
 *
 * PubSub topics are names of their own, UTF-8 of 1 to 1,024 bytes; nobody has to match them.  What is asked for
 * here happens with the callback's commit; it survives a crash of the program and of the machine.
 */

/*
 * seance_subscribe - the instance is given what is broadcast on a PubSub topic from now on
 *
 * In any callback but connect; for as long as the instance lives.  Twice is as good as once.
 *
 * Returns   SEANCE_OK; SEANCE_CRASHED when the topic is no such name.  An instance has 10,000 subscriptions
 *           and timers at most: a callback that asks for more crashes.
 */
SEANCE_API enum seance_status seance_subscribe(struct seance_call *call, const char *topic);

/* seance_unsubscribe - what was broadcast before and not given yet is not given either */
SEANCE_API enum seance_status seance_unsubscribe(struct seance_call *call, const char *topic);

/*
 * seance_broadcast - a message to all instances that are subscribed when this commits, this one too
 *
 * In any callback.  Nobody is waited for.
 *
 * message   Taken.  Any JSON value up to 1 MB; NULL is JSON null.
 * Returns   SEANCE_OK; SEANCE_CRASHED when it is no such topic or message, or ends a chain of 64 broadcasts
 *           each sent in answer to the one before.  With 100,000 undelivered ones the callback crashes.
 * Cost      O(message); each subscribed instance then has a commit of its own.
 */
SEANCE_API enum seance_status seance_broadcast(struct seance_call *call, const char *topic,
                                               json_object *message);

/* seance_message_topic - in handle_message: the PubSub topic it came by; NULL: a timer.  Borrowed */
SEANCE_API const char *seance_message_topic(const struct seance_call *call);

#define SEANCE_MAX_DELAY_MS (366LL * 24 * 3600 * 1000)

/*
 * seance_send_after - handle_message of this instance is given a message after a delay
 *
 * One that falls due while the program is down comes when it is up again; one of an instance that is gone, never.
 * In any callback but connect.
 *
 * delay_ms  from the commit on, 0 to SEANCE_MAX_DELAY_MS.
 * message   Taken, as in seance_broadcast.
 * Returns   Its id, > 0 and exact as a number of JavaScript, by which it can be cancelled; 0: the delay or
 *           the message is out of bounds, the callback can only crash or refuse.
 */
SEANCE_API int64_t seance_send_after(struct seance_call *call, int64_t delay_ms, json_object *message);

/* seance_cancel_timer - of this instance; when it has come already or is not known, nothing happens */
SEANCE_API enum seance_status seance_cancel_timer(struct seance_call *call, int64_t timer);

/* --- not succeeding --- */

/* seance_refuse - the reason is {"reason": text} (from init: {"message": text}); returns SEANCE_REFUSED */
SEANCE_API enum seance_status seance_refuse(struct seance_call *call, const char *format, ...)
	SEANCE_PRINTF(2, 3);

/* seance_refuse_json - the reason as it stands; reason is taken; returns SEANCE_REFUSED */
SEANCE_API enum seance_status seance_refuse_json(struct seance_call *call, json_object *reason);

/* seance_crash - says why in the log; returns SEANCE_CRASHED */
SEANCE_API enum seance_status seance_crash(struct seance_call *call, const char *format, ...)
	SEANCE_PRINTF(2, 3);

/* --- helpers --- */

/*
 * seance_json - JSON text as a value, by the rules that input from clients is held to
 *
 * Returns   A new value, owned by the caller; NULL for `null` and for what is not JSON (which is
 *           also said in the log).
 */
SEANCE_API json_object *seance_json(const char *text);

/* --- the program --- */

/* seance_main - what SEANCE_MAIN calls: the command line; channels ends with NULL */
SEANCE_API int seance_main(int argc, char **argv, seance_connect_fn *on_connect,
                           const struct seance_channel *const *channels);

/* SEANCE_MAIN(&channel, ...) - a main function that serves these channels */
#define SEANCE_MAIN(...) SEANCE_MAIN_CONNECT(NULL, __VA_ARGS__)

/* SEANCE_MAIN_CONNECT(on_connect, &channel, ...) - the same, with a connect callback */
#define SEANCE_MAIN_CONNECT(on_connect, ...)                                        \
	int main(int argc, char **argv)                                                 \
	{                                                                               \
		static const struct seance_channel *const channels[] = {__VA_ARGS__, NULL}; \
		return seance_main(argc, argv, on_connect, channels);                       \
	}

#ifdef __cplusplus
}
#endif
#endif
