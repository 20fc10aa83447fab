/*
 * pool - FastCGI connections of one worker to one program, and the requests that go over them
 *
 * A request is a job: it is its owner's to send again until an answer is complete.  Connections
 * are kept alive, unless the program is not to be held by one; the last one used is the next one used.
 */
#ifndef SEANCE_POOL_H
#define SEANCE_POOL_H

#include "module.h"

struct seance_peer;

/* What became of a job. */
enum seance_outcome {
	SEANCE_ANSWERED,  /* data is the whole answer: head and body */
	SEANCE_MALFORMED, /* what came is no answer, or too big; data is why, a text */
	SEANCE_LOST       /* not answered: in time, or its owner does not want it sent again */
};

/*
 * A request on its way.  Made by its owner with malloc, as one block; the pool never frees it.
 */
struct seance_job {
	ngx_queue_t queue;        /* in pool->waiting while it waits */
	struct seance_peer *peer; /* the connection that it is on, or NULL */
	struct seance_pool *pool;
	void *owner;
	/* just before each attempt: NGX_DECLINED when it is not to be sent any more */
	ngx_int_t (*prepare)(struct seance_job *job);
	/* the end of it: the owner frees the job; data is borrowed until it returns */
	void (*done)(struct seance_job *job, enum seance_outcome outcome, const u_char *data, size_t len);
	ngx_msec_t patience; /* how long an attempt may last */
	uint32_t attempts;
	size_t len;
	u_char *data; /* the encoded request, part of the job's block */
	unsigned waiting : 1;
};

/* One for each seance_pass.  Made with the configuration, filled by each worker. */
struct seance_pool {
	struct sockaddr_un address;
	ngx_str_t name;
	const struct seance_link *link; /* that its connections are counted with */
	ngx_uint_t max;                 /* connections */
	ngx_flag_t keep;                /* they are used again */
	ngx_uint_t count;
	ngx_queue_t idle, busy; /* of peers */
	ngx_queue_t waiting;    /* of jobs */
	ngx_event_t retry;
	ngx_event_t weed;       /* while jobs wait: looks for those that are not wanted any more */
	ngx_connection_t dummy; /* what an event's data must be */
	ngx_msec_t delay;       /* until the next attempt; 0 while all goes well */
	unsigned pumping : 1;
	unsigned down : 1; /* the last attempt to connect failed, and it was said */
};

/* seance_pool_init - makes an empty pool of memory that is all zero but for address and name */
void seance_pool_init(struct seance_pool *pool);

/*
 * seance_pool_submit - sends a job, now or as soon as a connection is free
 *
 * Never calls job->done itself: that comes from an event.
 */
void seance_pool_submit(struct seance_pool *pool, struct seance_job *job);

/* seance_pool_withdraw - takes a job back that waits; NGX_DECLINED when it is on a connection */
ngx_int_t seance_pool_withdraw(struct seance_job *job);

/* seance_pool_busy - how many of its connections have a request.  Cost: O(these) */
ngx_uint_t seance_pool_busy(const struct seance_pool *pool);

/* seance_pool_exit - closes all connections; their jobs end as SEANCE_LOST */
void seance_pool_exit(struct seance_pool *pool);

#endif
