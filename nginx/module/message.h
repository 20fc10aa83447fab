/*
 * message - one message of a client, or another event, as the FastCGI request that carries it
 */
#ifndef SEANCE_MESSAGE_H
#define SEANCE_MESSAGE_H

#include "pool.h"
#include "websocket_events.h"

struct seance_socket;

struct seance_message {
	struct seance_job job;
	struct seance_message *next; /* behind it in its socket's queue */
	uint64_t number;             /* from 1, without gaps; OPEN is 0 */
	u_char *position;            /* the record that is written anew for each attempt */
	u_char data[];
};

/*
 * seance_message_new - encodes an event; its number is the socket's next, but 0 for OPEN
 *
 * data      Borrowed.
 * Returns   A new message, to be freed with free; NULL without memory.
 */
struct seance_message *seance_message_new(struct seance_socket *socket, enum events_type type,
                                          const u_char *data, size_t len);

/* seance_message_place - writes the socket's present position into the request */
void seance_message_place(struct seance_message *message, uint64_t position);

/*
 * seance_params_encode - the location's seance_param's, evaluated for a request
 *
 * out       out: owned by the caller (malloc); NULL when there are none.
 * Returns   NGX_OK or NGX_ERROR.
 */
ngx_int_t seance_params_encode(ngx_http_request_t *r, struct seance_conf *conf, u_char **out,
                               size_t *len);

#endif
