/*
 * stream - a response without an end, that the link's units are written to
 *
 * It stays an nginx request, and all of it goes through nginx's output filters, so that TLS, HTTP/2 and gzip
 * work.  Its units, its position and what waits for it are those of any socket (order.h).
 */
#ifndef SEANCE_STREAM_H
#define SEANCE_STREAM_H

#include "module.h"

struct seance_socket;

/*
 * seance_stream_start - sends the head, and holds the request under an id
 *
 * The argument `after` is the position that the client begins at.  Content-Type, Cache-Control and CORS are
 * the program's.
 *
 * Returns   NGX_OK: it is held; NGX_DONE: it was answered; or a status.
 */
ngx_int_t seance_stream_start(ngx_http_request_t *r, struct seance_conf *conf, ngx_str_t *id);

/* seance_stream_pump - hands what waits to the filters, as far as the client takes it */
void seance_stream_pump(struct seance_socket *socket);

/* seance_stream_leave - ends the request of a stream that is gone */
void seance_stream_leave(struct seance_socket *socket, ngx_http_request_t *r);

#endif
