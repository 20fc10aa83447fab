/*
 * loop_internal - what the files of the request loop share
 *
 *   loop.c           the loop: events are fetched and served; its start and end
 *   loop_request.c   connections, and the requests on them, by libfcgi
 *   loop_member.c    the threads: one is the loop, the others wait to become it
 *   loop_monitor.c   takes the loop from a thread that sits in a blocking part
 *   loop_watch.c     other descriptors
 */
#ifndef SEANCE_LOOP_INTERNAL_H
#define SEANCE_LOOP_INTERNAL_H

#include <fcgiapp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "clock.h"
#include "loop.h"

#define EVENTS_MAX      64           /* taken from epoll at once: a turn */
#define IO_SECONDS      5            /* one read or write of libfcgi; one request's body */
#define ANSWER_NOW_MAX  (64u * 1024) /* fits into the socket's buffer: nothing else is in it then */
#define BODY_KEEP_MAX   (64u * 1024) /* a larger buffer is not kept for the next request */
#define RELIEVE_NS      1000000      /* in one blocking part: another thread becomes the loop */
#define TICK_NS         500000
#define QUIET_TICKS     20        /* then the monitor sleeps until it is woken */
#define SLOW_TICK_NS    100000000 /* while a slow callback runs and nothing else happens */
#define LISTEN_RETRY_MS 1000
#define DRAIN_TICK_MS   10

/* What an epoll event's pointer leads to; the first member of all of them. */
enum source { SOURCE_LISTEN, SOURCE_WAKE, SOURCE_CONNECTION, SOURCE_WATCH };

/*
 * Edge-triggered events and several threads: whoever turns FREE into BUSY serves the connection; an
 * event that comes meanwhile is remembered as AGAIN.
 */
enum claim { CLAIM_CLOSED, CLAIM_FREE, CLAIM_BUSY, CLAIM_AGAIN };

/* A connection, and the request on it.  All but claim belongs to who has claimed it. */
struct loop_request {
	enum source source;
	struct loop *loop;
	atomic_int claim;
	int fd;
	uint64_t read_in; /* the fetch during which it was last read from */
	FCGX_Request fcgi;
	char *body;
	size_t body_len;
	size_t body_size;
	char *answer; /* owned: waits to be written by the loop */
	size_t answer_len;
	struct loop_request *next; /* among the closed ones, or those with an answer */
};

struct watch {
	enum source source;
	int fd; /* -1: may be used again */
	loop_ready_fn *ready;
	void *context;
	struct watch *next;
};

/*
 * A thread's state, one word, so that the monitor can take the loop away from a blocked thread by one
 * compare-and-swap.  While no part bit is set the thread alone changes it.
 */
enum { LEADS = 1, PART_IO = 2, PART_CALLBACK = 4, PART = PART_IO | PART_CALLBACK, PART_NEXT = 8 };

struct member {
	struct loop *loop;
	pthread_t thread;
	atomic_uint_fast64_t state;
	unsigned depth; /* of blocking parts */
	uint64_t seen;  /* the monitor's: the part it saw last, and since when */
	int64_t seen_ns;
};

struct loop {
	struct loop_handler handler;
	size_t body_max;
	int limit_s;
	int epoll_fd;
	int listen_fd;
	int wake_fd;
	enum source listen_source;
	enum source wake_source;
	atomic_bool stop;
	atomic_bool draining;
	atomic_bool wake_pending;
	atomic_int taken; /* requests that belong to the handler, or wait to be written */

	/* The loop's own: who leads.  Handed on under lock. */
	struct epoll_event events[EVENTS_MAX];
	int event_next;
	int event_count;
	bool listening;
	int64_t listen_again_ms;
	int64_t drain_until_ms;
	atomic_uint_fast64_t fetch; /* number of the present epoll_wait */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	bool vacant; /* the loop waits for a leader */
	bool finished;
	bool clean; /* how loop_run ends */
	int idle;   /* members that wait */
	int member_count;
	int member_max;
	struct member *members;
	struct loop_request *connections[LOOP_CONNECTIONS_MAX];
	int connection_made;
	atomic_int connection_open;
	struct loop_request *closed;
	struct watch *watches;

	pthread_mutex_t answers_lock;
	struct loop_request *answers;
	atomic_bool answers_wait;

	pthread_t monitor;
	pthread_mutex_t monitor_lock;
	pthread_cond_t monitor_wake;
	atomic_bool monitor_asleep;
	atomic_bool monitor_end;
	atomic_uint_fast64_t rounds; /* odd: the loop waits in epoll_wait */
};

/* The member that this thread is; NULL in threads that are not the loop's. */
extern _Thread_local struct member *loop_self;

/* --- loop.c --- */
/* loop_epoll - epoll_ctl; dies loudly when it fails */
void loop_epoll(struct loop *loop, int operation, int fd, unsigned events, void *source);

/* loop_lead - serves until the loop is finished, or was handed to another thread */
void loop_lead(struct member *member);
int loop_turn(struct loop *loop);

/* --- loop_request.c --- */
void connection_add(struct loop *loop, int fd);

/* connection_ready - serves it; fetch: the epoll_wait that its event came from */
void connection_ready(struct loop_request *connection, unsigned events, uint64_t fetch);

/* connection_drain - closes an idle connection; serves it when a request has arrived */
void connection_drain(struct loop_request *connection);
void connections_free(struct loop *loop);

/* answers_write - writes large answers; false when the loop was handed to another thread meanwhile */
bool answers_write(struct member *member);

/* --- loop_watch.c --- */
void watch_ready(struct loop *loop, struct watch *watch, unsigned events);
void watches_free(struct loop *loop);

/* --- loop_member.c --- */

/* loop_part_begin, loop_part_end - a blocking part of this thread: PART_IO or PART_CALLBACK; they nest */
void loop_part_begin(unsigned kind);
void loop_part_end(void);

/* member_leads - is it the loop?  Asked by the member itself, outside of blocking parts */
bool member_leads(struct member *member);

/* member_run - waits to lead, leads, and so on, until the loop is finished */
void member_run(struct member *member);

/* member_start - one more thread, if there may be; under the lock */
bool member_start(struct loop *loop);

/* loop_thread - starts a thread that gets no signals; false after one line in the log */
bool loop_thread(pthread_t *thread, void *(*run)(void *), void *argument);

/* --- loop_monitor.c --- */
void *monitor_main(void *loop);

/* monitor_rouse - by the loop, when epoll_wait has returned */
void monitor_rouse(struct loop *loop);

/* monitor_stop - ends its thread */
void monitor_stop(struct loop *loop);

#endif
