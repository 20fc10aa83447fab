/*
 * link_server - the program's end of the links: one stream from each nginx worker
 *
 * Runs in the request loop (loop_watch).  Every call, and every call of the handler, is made
 * under the caller's one lock: the server takes it by the handler's functions where it is called from
 * the loop (see `lock`, `unlock`), and else the caller holds it.
 */
#ifndef SEANCE_LINK_SERVER_H
#define SEANCE_LINK_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "link_message.h"
#include "loop.h"

#define LINK_SERVER_LINKS 1024 /* at once; more are refused */

struct link_server;
struct link; /* one connected nginx worker */

struct link_handler {
	void *context;
	void (*lock)(void *context);
	void (*unlock)(void *context);

	/* A message has come (HELLO ... DRAINED; acknowledgements are kept here).  Under the lock. */
	void (*message)(void *context, struct link *link, const struct link_message *message);

	/*
	 * The stream has ended; link is valid until this returns.  Under the lock, always from the loop
	 * or from link_server_free, never from within a call of this header.  Only for links whose HELLO
	 * was handed to `message`.
	 */
	void (*gone)(void *context, struct link *link);
};

/*
 * link_server_new - listen_fd: borrowed; out_max: bytes that may wait for a link, past which it is cut
 * (the worker connects anew and is filled from the log)
 */
struct link_server *link_server_new(struct loop *loop, int listen_fd, size_t out_max,
                                    const struct link_handler *handler);

/*
 * link_server_free - sends what is queued (for timeout_ms at most), closes all links
 *
 * After loop_run has returned, without the lock.
 */
void link_server_free(struct link_server *server, int timeout_ms);

/*
 * link_deliver - one message for any number of sockets of the link's worker
 *
 * Queued; sent by link_server_flush.  A link that has been cut takes it and drops it.
 *
 * targets   Borrowed.
 * body      Borrowed.
 * floor     The lowest commit number in it; see link_floor.
 */
void link_deliver(struct link *link, enum link_opcode opcode, const struct link_target *targets,
                  uint32_t count, const void *body, size_t len, int64_t floor);

/* link_close - closes one socket; reason is cut at LINK_REASON_MAX bytes */
void link_close(struct link *link, uint64_t handle, uint16_t code, const char *reason);

/* link_wake - a request that waits is to be asked again */
void link_wake(struct link *link, uint64_t handle);

/* link_server_flush - sends what was queued since; called once at the end of a turn */
void link_server_flush(struct link_server *server);

/* link_count - a number of what the worker told last of itself; 0 before */
uint64_t link_count(const struct link *link, enum link_count which);

/* link_floor - the lowest floor of what is not acknowledged; INT64_MAX: all is */
int64_t link_floor(const struct link *link);

#endif
