/*
 * seance_test.h - tests of channels: the real engine on a store in memory, without nginx, with a clock of its own
 *
 *     #include "seance_test.h"
 *     #include "counter.c"            // the program; its SEANCE_MAIN makes no main here
 *
 *     int
 *     main(void)
 *     {
 *         struct seance_test *test = SEANCE_TEST_PROGRAM();
 *         struct seance_test_client *ann = seance_test_connect(test, NULL);
 *         SEANCE_EXPECT_JOINED(ann, "counter:a", "{}");
 *         SEANCE_EXPECT_STATE(ann, "counter:a", "{\"count\":0}");
 *         seance_test_push(ann, "counter:a", "increment", "{}");
 *         SEANCE_EXPECT_PATCH(ann, "counter:a", "[{\"op\":\"replace\",\"path\":\"/count\",\"value\":1}]");
 *         return seance_test_end(test);
 *     }
 *
 * Everything that a client sends goes the way that it goes in the program, and everything that it is told comes
 * as the frames that a browser would get; the client applies patches as a browser does.  A call comes back
 * when all that it led to is done: callbacks, commits, broadcasts, hooks, timers that are due.
 *
 * What a client is told waits, for each topic, until an expectation takes it.  Each expectation prints a line of
 * TAP, "ok N - ..." or "not ok N - ...", and after a failure where it stands, what was expected, what there is,
 * and the difference as RFC 6902 operations.  Texts of JSON are compared by value: 1 and 1.0 are the same,
 * the order of members does not count.
 *
 * One test at a time; one thread.  What is not JSON where JSON is asked for ends the program with a message.
 */
#ifndef SEANCE_TEST_H
#define SEANCE_TEST_H

#include "seance.h"

#ifdef __cplusplus
extern "C" {
#endif

struct seance_test;
struct seance_test_client;

/*
 * seance_test_start - a program with these channels, and an empty database
 *
 * on_connect  NULL: none.
 * channels    Copied; the channels are borrowed until seance_test_end; ends with NULL.
 * Returns     Owned by the caller: seance_test_end.  A channel that cannot be served ends the program.
 */
SEANCE_API struct seance_test *seance_test_start(seance_connect_fn *on_connect,
                                                 const struct seance_channel *const *channels);

/* SEANCE_TEST_PROGRAM() - the same, with what SEANCE_MAIN or SEANCE_MAIN_CONNECT was given in a file included after
 * this header */
#define SEANCE_TEST_PROGRAM() seance_test_start(seance_test_on_connect, seance_test_channels)

#undef SEANCE_MAIN_CONNECT
#define SEANCE_MAIN_CONNECT(on_connect, ...)                                                \
	static const struct seance_channel *const seance_test_channels[] = {__VA_ARGS__, NULL}; \
	static seance_connect_fn *const seance_test_on_connect __attribute__((unused)) = on_connect;

/*
 * seance_test_end - ends it, and with it all clients
 *
 * Returns   What main returns: 0 when all expectations of the process so far were met, else 1.  After the
 *           last one the plan of TAP, "1..N", is printed at exit.
 */
SEANCE_API int seance_test_end(struct seance_test *test);

/*
 * seance_test_advance - time goes on by ms; what falls due happens at its time
 *
 * Otherwise the clock stands still.
 */
SEANCE_API void seance_test_advance(struct seance_test *test, int64_t ms);

/* seance_test_restart - the program is killed and started again on the same database: nobody notices */
SEANCE_API void seance_test_restart(struct seance_test *test);

/* seance_test_broadcast - a message from outside, JSON text, to a PubSub topic */
SEANCE_API void seance_test_broadcast(struct seance_test *test, const char *topic, const char *message);

/* --- clients --- */

/*
 * seance_test_connect - a client with a socket
 *
 * params    JSON text, an object of strings: the URL's query; NULL: none.
 * Returns   Owned by the test.  NULL: the connect callback has refused it.
 */
SEANCE_API struct seance_test_client *seance_test_connect(struct seance_test *test, const char *params);

/* seance_test_header - a header that the next connect callbacks see; value NULL: no more.  Both are borrowed */
SEANCE_API void seance_test_header(struct seance_test *test, const char *name, const char *value);

/* seance_test_close - its connection ends; what it was told can still be looked at */
SEANCE_API void seance_test_close(struct seance_test_client *client);

/* seance_test_join, _leave, _push, _refresh - what a client sends; payload is JSON text */
SEANCE_API void seance_test_join(struct seance_test_client *client, const char *topic,
                                 const char *payload);
SEANCE_API void seance_test_leave(struct seance_test_client *client, const char *topic);
SEANCE_API void seance_test_push(struct seance_test_client *client, const char *topic, const char *event,
                                 const char *payload);
SEANCE_API void seance_test_refresh(struct seance_test_client *client, const char *topic);

/*
 * seance_test_state - the state as the client has it: as it was told, with the patches applied
 *
 * Returns   Borrowed until the next call; NULL: null, or none.
 */
SEANCE_API json_object *seance_test_state(const struct seance_test_client *client, const char *topic);

/*
 * seance_test_event - the next event of a name that it was told, which an expectation would take
 *
 * Returns   Its detail, borrowed until the next call; NULL: null, or there is none.
 */
SEANCE_API json_object *seance_test_event(struct seance_test_client *client, const char *topic,
                                          const char *name);

/* seance_test_version - and its version; -1: it has none */
SEANCE_API int64_t seance_test_version(const struct seance_test_client *client, const char *topic);

/* --- expectations: each returns whether it was met, too --- */

/* SEANCE_EXPECT(condition, "what") - anything */
#define SEANCE_EXPECT(condition, what) seance_test_expect(__FILE__, __LINE__, (condition), what)

/* SEANCE_EXPECT_JOINED(client, topic, "payload") - joins, and is let in */
#define SEANCE_EXPECT_JOINED(client, topic, payload) \
	(seance_test_join(client, topic, payload),       \
	 seance_test_expect_joined(__FILE__, __LINE__, client, topic))

/* SEANCE_EXPECT_STATE(client, topic, "state") - the client has this state */
#define SEANCE_EXPECT_STATE(client, topic, state) \
	seance_test_expect_state(__FILE__, __LINE__, client, topic, state)

/* SEANCE_EXPECT_VERSION(client, topic, version) - of this version */
#define SEANCE_EXPECT_VERSION(client, topic, version) \
	seance_test_expect_version(__FILE__, __LINE__, client, topic, version)

/* SEANCE_EXPECT_FULL_STATE(client, topic, "state") - the next full state that it was told (join, refresh, ...) */
#define SEANCE_EXPECT_FULL_STATE(client, topic, state) \
	seance_test_expect_told(__FILE__, __LINE__, client, topic, "seance:change", state)

/* SEANCE_EXPECT_PATCH(client, topic, "operations") - the next patch that it was told */
#define SEANCE_EXPECT_PATCH(client, topic, operations) \
	seance_test_expect_told(__FILE__, __LINE__, client, topic, "seance:patch", operations)

/* SEANCE_EXPECT_EVENT(client, topic, "name", "detail") - the next event that it was told: a reply, a push, presence */
#define SEANCE_EXPECT_EVENT(client, topic, name, detail) \
	seance_test_expect_event(__FILE__, __LINE__, client, topic, name, detail)

/* SEANCE_EXPECT_REFUSED(client, topic, "reason") - the next refusal: of authorize, of init, of an event */
#define SEANCE_EXPECT_REFUSED(client, topic, reason) \
	seance_test_expect_told(__FILE__, __LINE__, client, topic, "refused", reason)

/* SEANCE_EXPECT_CRASHED(client, topic) - a callback has crashed: its join has ended with phx_error */
#define SEANCE_EXPECT_CRASHED(client, topic) \
	seance_test_expect_told(__FILE__, __LINE__, client, topic, "phx_error", NULL)

/* SEANCE_EXPECT_NOTHING(client, topic) - all that it was told was taken by expectations */
#define SEANCE_EXPECT_NOTHING(client, topic) \
	seance_test_expect_nothing(__FILE__, __LINE__, client, topic)

/* SEANCE_EXPECT_BROADCAST(test, "topic", "message") - the next broadcast on a PubSub topic, to whomever */
#define SEANCE_EXPECT_BROADCAST(test, topic, message) \
	seance_test_expect_broadcast(__FILE__, __LINE__, test, topic, message)

/* SEANCE_EXPECT_TIMER(test, "topic", delay_ms, "message") - an instance of the topic waits for this timer */
#define SEANCE_EXPECT_TIMER(test, topic, delay_ms, message) \
	seance_test_expect_timer(__FILE__, __LINE__, test, topic, delay_ms, message)

/* --- what the macros call --- */

SEANCE_API bool seance_test_expect(const char *file, int line, bool condition, const char *what);
SEANCE_API bool seance_test_expect_joined(const char *file, int line, struct seance_test_client *client,
                                          const char *topic);
SEANCE_API bool seance_test_expect_state(const char *file, int line, struct seance_test_client *client,
                                         const char *topic, const char *state);
SEANCE_API bool seance_test_expect_version(const char *file, int line, struct seance_test_client *client,
                                           const char *topic, int64_t version);
SEANCE_API bool seance_test_expect_told(const char *file, int line, struct seance_test_client *client,
                                        const char *topic, const char *kind, const char *wanted);
SEANCE_API bool seance_test_expect_event(const char *file, int line, struct seance_test_client *client,
                                         const char *topic, const char *name, const char *detail);
SEANCE_API bool seance_test_expect_nothing(const char *file, int line, struct seance_test_client *client,
                                           const char *topic);
SEANCE_API bool seance_test_expect_broadcast(const char *file, int line, struct seance_test *test,
                                             const char *topic, const char *message);
SEANCE_API bool seance_test_expect_timer(const char *file, int line, struct seance_test *test,
                                         const char *topic, int64_t delay_ms, const char *message);

#ifdef __cplusplus
}
#endif
#endif
