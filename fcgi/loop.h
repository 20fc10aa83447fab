/*
 * loop - the request loop: one thread on one epoll set serves all that is ready
 *
 * It takes FastCGI requests by libfcgi on kept-alive connections, gives each to the handler, and
 * at the end of each turn (all that was ready has been served) lets the handler commit and answer.
 * A monitor watches it: when the loop sits in one blocking part for longer than a millisecond, a spare
 * thread becomes the loop; the slow one, when it is through, runs a turn of its own and joins the spares.
 *
 * loop_new makes SIGPIPE ignored and calls FCGX_Init; the handlers of other signals stay as they are.
 */
#ifndef SEANCE_LOOP_H
#define SEANCE_LOOP_H

#include <stdbool.h>
#include <stddef.h>

#define LOOP_CONNECTIONS_MAX 1024 /* open at once; more wait in the listening socket's queue */
#define LOOP_STOP_MS         4500 /* for finishing what was taken; the supervisor kills after 5 s */

struct loop;
struct loop_request;

struct loop_handler {
	void *context;

	/* A request is complete.  It belongs to the handler until loop_finish or loop_drop. */
	void (*request)(void *context, struct loop_request *request);

	/*
	 * Commit, answer, keep house.  Returns the milliseconds until it wants to be called again at the
	 * latest; -1: only after the next request.  May be called by several threads at once.
	 */
	int (*turn)(void *context);
};

/*
 * loop_new - listen_fd: the FastCGI socket, listening, borrowed; body_max: bytes of a request's body at most
 * (more: answered with status 413); spares: threads that may stand in at most
 */
struct loop *loop_new(int listen_fd, const struct loop_handler *handler, size_t body_max, int spares);

/* loop_set_limit - a callback (loop_block_begin) that runs longer ends the process; before loop_run; 0: never */
void loop_set_limit(struct loop *loop, int seconds);

/*
 * loop_run - serves until loop_stop; then finishes what was taken, for LOOP_STOP_MS at most, and returns
 *
 * Returns   true when all of it was finished and all threads have ended; false when a callback still runs
 *           or a request was not answered: threads may be about, so loop_free must not be called.
 */
bool loop_run(struct loop *loop);

/* loop_stop - async-signal-safe: take no new requests, finish those at hand */
void loop_stop(struct loop *loop);

/* loop_wake - from any thread: let the loop run a turn soon */
void loop_wake(struct loop *loop);

void loop_free(struct loop *loop);

/*
 * loop_watch - calls ready(context, fd, events) in the loop when fd has epoll events (level-triggered)
 *
 * From any thread.  ready may come once more after loop_unwatch, for an fd that is closed or used
 * again: context must outlive the loop, and ready must bear finding nothing to read.
 */
typedef void loop_ready_fn(void *context, int fd, unsigned events);
void loop_watch(struct loop *loop, int fd, unsigned events, loop_ready_fn *ready, void *context);
void loop_rewatch(struct loop *loop, int fd, unsigned events);

/* loop_unwatch - before fd is closed */
void loop_unwatch(struct loop *loop, int fd);

/*
 * loop_block_begin, loop_block_end - marks a part that may take long (a callback); no lock may be held
 * that the loop needs.  block_end returns at once, also when another thread has become the loop.
 * They nest; in threads that are not the loop's own they do nothing.
 */
void loop_block_begin(struct loop *loop);
void loop_block_end(struct loop *loop);

/* --- a request --- */

/* loop_param - a FastCGI parameter, borrowed until the request is finished; NULL when absent */
const char *loop_param(const struct loop_request *request, const char *name);

/* loop_body - the whole body, borrowed until the request is finished; a NUL stands behind it */
const char *loop_body(const struct loop_request *request, size_t *len);

/* loop_alive - is the request's connection still open?  One system call */
bool loop_alive(const struct loop_request *request);

/*
 * loop_finish - answers: headers, an empty line and the body as they stand; then the request is gone
 *
 * From any thread, with any lock held: an answer that might not fit into the socket's buffer at once is
 * copied and written later by the loop.  bytes is borrowed.
 */
void loop_finish(struct loop_request *request, const char *bytes, size_t len);

/* loop_drop - ends a request without an answer, by closing its connection */
void loop_drop(struct loop_request *request);

#endif
