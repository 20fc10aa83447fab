/*
 * socket - what is held: WebSockets, streams (stream.h), requests that wait (wait.h)
 *
 * All kinds have a handle, a position, and an end.  Here are that, and the WebSockets: frames in, requests to the
 * program, units and frames out.
 *
 * Life of a WebSocket: the request's handler shakes hands (seance_socket_start); a posted event lets the request
 * go and keeps the connection, as keep-alive does; OPEN; CLOSING once a CLOSE frame was sent;
 * GONE once the connection is given up.  A socket that is gone lives on until its request in
 * flight has ended, and only then is told as closed.  It is freed by a posted event and nowhere
 * else, so whoever calls in here may look at it afterwards.
 */
#ifndef SEANCE_SOCKET_H
#define SEANCE_SOCKET_H

#include "link_message.h"
#include "module.h"
#include "out.h"
#include "websocket.h"

struct seance_answer;
struct seance_stream;
struct seance_wait;
struct seance_message;
struct seance_unit;

enum seance_socket_state { SEANCE_OPEN, SEANCE_CLOSING, SEANCE_GONE };

struct seance_socket {
	ngx_connection_t *c;   /* NULL when it was given back, and when nginx ended the request */
	ngx_http_request_t *r; /* a WebSocket's until it is let go */
	struct seance_conf *conf;
	uint64_t handle;
	uint64_t position; /* the last commit that the client was brought to */
	uint64_t number;   /* of the last message that came */
	uint64_t answered; /* of the last one whose answer was written */
	struct websocket parser;
	u_char *rest; /* owned: bytes read but not parsed, while reading is paused */
	uint32_t rest_at, rest_len;
	struct seance_out out;
	struct seance_unit *held; /* owned: units of the link that must wait, in their order of coming */
	struct seance_message *message; /* the one in flight, or NULL */
	struct seance_message *waiting, *waiting_last;
	size_t waiting_bytes;
	struct seance_answer *answer; /* owned: being written */
	u_char *params;               /* owned: encoded seance_param's; NULL when none */
	uint32_t params_len;
	uint32_t held_count;
	ngx_queue_t todo;   /* in the list of those that the posted event looks at */
	ngx_msec_t since;   /* when it began */
	ngx_msec_t heard;   /* when the last frame came */
	ngx_msec_t started; /* when the message in flight was first sent */
	uint64_t bytes_in, bytes_out;
	uint32_t messages_out;
	uint16_t code; /* close code; 1006 when there was none */
	union {        /* of the request's memory */
		struct seance_stream *stream;
		struct seance_wait *wait;
	};
	unsigned state : 2;
	unsigned kind : 2;        /* enum link_kind */
	unsigned behind : 1;      /* too much waits outwards: units of the link are dropped */
	unsigned refilling : 1;   /* held-back units were dropped: the program sends them anew */
	unsigned restate : 1;     /* the link has yet to tell behind and drained */
	unsigned finishing : 1;   /* not open, but what was to be sent before is sent still */
	unsigned told_open : 1;   /* OPEN was sent, and CLOSE or DISCONNECT is to follow */
	unsigned peer_closed : 1; /* its CLOSE has come */
	unsigned deaf : 1;        /* what comes is not parsed any more */
	unsigned listed : 1;      /* todo is in the list */
	uint8_t id_len;
	u_char id[];
};

/*
 * seance_socket_start - a request whose 101 was sent becomes a held WebSocket
 *
 * The request is let go by a posted event; the caller raised its count and returns NGX_DONE.
 *
 * id        Borrowed.
 * params    Taken, also on failure; may be NULL.
 * Returns   NGX_OK; NGX_ERROR without memory or when the table is full.
 */
ngx_int_t seance_socket_start(ngx_http_request_t *r, struct seance_conf *conf, ngx_str_t *id,
                              u_char *params, size_t params_len);

/*
 * seance_socket_deliver - a unit (after, cursor) that came over the link
 *
 * Written when after <= position < cursor, dropped when it is past or the socket is behind, else
 * held back (delivery.md).
 *
 * frame     Borrowed; references are taken.
 */
void seance_socket_deliver(struct seance_socket *socket, uint64_t after, uint64_t cursor,
                           struct seance_frame *frame);

/*
 * seance_socket_close - sends CLOSE and ends the socket when the client has answered, or in time
 *
 * code      1006: cut, without a frame; 1005: a CLOSE without code.
 * reason    Borrowed.
 */
void seance_socket_close(struct seance_socket *socket, uint16_t code, const u_char *reason, size_t len);

/* What the files of a socket use among themselves. */

/*
 * seance_socket_add - a socket for a request: it has a handle, and ends with the request
 *
 * id        Borrowed.
 * Returns   NULL without memory or when the table is full.  The caller calls seance_socket_held at last.
 */
struct seance_socket *seance_socket_add(ngx_http_request_t *r, struct seance_conf *conf, ngx_str_t *id,
                                        enum link_kind kind);

/* seance_socket_held - it is complete: the program is told */
void seance_socket_held(struct seance_socket *socket);

/* seance_socket_of - the socket that a request is held by, or NULL */
struct seance_socket *seance_socket_of(ngx_http_request_t *r);

/* seance_socket_look_soon - a posted event goes on with it: lets its request go, pumps it, frees it */
void seance_socket_look_soon(struct seance_socket *socket);

/* seance_socket_gone - it is over; it is freed by the posted event */
void seance_socket_gone(struct seance_socket *socket);

/* seance_number_arg - an argument of the redirect; 0 when there is none */
uint64_t seance_number_arg(ngx_http_request_t *r, const char *name);

/* seance_socket_close_written - the last bytes handed to the socket were a CLOSE (1006: cut it) */
void seance_socket_close_written(struct seance_socket *socket, uint16_t code);

/* seance_socket_lost - the connection is broken */
void seance_socket_lost(struct seance_socket *socket);

/* seance_socket_next - sends the next message that waits; reading goes on if it was paused */
void seance_socket_next(struct seance_socket *socket);

/* seance_sockets_init - before the worker's first socket */
void seance_sockets_init(void);

/* seance_sockets_exit - closes and frees all, telling nobody */
void seance_sockets_exit(void);

#endif
