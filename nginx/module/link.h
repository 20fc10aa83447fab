/*
 * link - the stream between this worker and the program: what is held goes up, deliveries come down
 *
 * Beside the acknowledgements go the worker's counts, once a second if they have changed.
 *
 * The module connects, and connects again with back-off when the stream breaks; sockets are
 * kept meanwhile, and the hello of the next stream tells where each stands.  Messages:
 * link_message.h.  What comes in is worked off in slices, so that the event loop turns.
 */
#ifndef SEANCE_LINK_H
#define SEANCE_LINK_H

#include "module.h" /* nginx's headers want to be the first */

#include "link_message.h"
#include "out.h"

struct seance_socket;

enum seance_link_state {
	SEANCE_LINK_DOWN,    /* not connected */
	SEANCE_LINK_HELLO,   /* telling what is held */
	SEANCE_LINK_RESTATE, /* telling who is behind */
	SEANCE_LINK_READY
};

/*
 * One for each seance_link, and one without a name for locations that hold without a link.  Made
 * with the configuration, filled by each worker.
 */
struct seance_link {
	ngx_str_t name;
	ngx_str_t path; /* for the log; data is NULL until seance_link names it */
	struct sockaddr_un address;
	ngx_msec_t deadline; /* the longest of the locations that hold for it */

	ngx_connection_t *c;
	enum seance_link_state state;
	uint32_t at; /* the next slot to tell of, in the first two states */
	struct seance_bytes in, out;
	struct seance_bytes closed; /* CLOSED messages that wait for a stream */
	size_t in_at;               /* where the next message begins */
	struct seance_frame *frame; /* of the DELIVER that is being worked off */
	uint32_t target;            /* its next target */
	uint64_t ack;               /* the last batch that is done ... */
	ngx_event_t retry, work, tick;
	ngx_connection_t dummy; /* what an event's data must be */
	ngx_msec_t delay, since;
	uint64_t counts[LINK_COUNT_ENDS];               /* those that are counted: seance_count */
	u_char told[LINK_COUNT_ENDS * LINK_COUNT_SIZE]; /* as in the last COUNTS */
	unsigned acked : 1;                             /* ... and was acknowledged */
	unsigned eof : 1;                               /* no more will come: what has come is worked off */
	unsigned broken : 1;                            /* nothing can be sent any more */
	unsigned kept : 1;                              /* an exiting worker must not go yet */
	unsigned shut : 1;                              /* no stream any more, or ever: nothing is told */
	unsigned lost : 1;                              /* its loss was logged */
};

/* seance_count - adds to a count of a link */
#define seance_count(link, what, n) ((link)->counts[LINK_COUNT_##what] += (n))

/* seance_link_init - an unconnected link of memory that is all zero but for its name */
void seance_link_init(struct seance_link *link);

/* seance_link_none - whether it stands for having none: the program hears of a socket by its requests alone */
ngx_uint_t seance_link_none(const struct seance_link *link);

/* seance_link_start - connects, unless that is so or is going to be */
void seance_link_start(struct seance_link *link);

/* seance_link_held - tells of a new socket */
void seance_link_held(struct seance_link *link, struct seance_socket *socket);

/* seance_link_behind, seance_link_drained - tell that a socket is behind, or has drained; both for "fill it again" */
void seance_link_behind(struct seance_link *link, struct seance_socket *socket);
void seance_link_drained(struct seance_link *link, struct seance_socket *socket);

/* seance_link_closed - tells that a socket has ended; kept, up to a bound, until there is a stream */
void seance_link_closed(struct seance_link *link, struct seance_socket *socket);

/* seance_link_exit - closes the stream and frees all */
void seance_link_exit(struct seance_link *link);

#endif
