/*
 * handshake - from a request to a WebSocket (RFC 6455, 4.2)
 */
#ifndef SEANCE_HANDSHAKE_H
#define SEANCE_HANDSHAKE_H

#include "module.h"

/*
 * seance_handshake - checks the client's part, answers it, and holds the connection
 *
 * id        Borrowed.
 * Returns   NGX_OK: it is held; NGX_DONE: it was answered; or the status of a refusal.
 */
ngx_int_t seance_handshake(ngx_http_request_t *r, struct seance_conf *conf, ngx_str_t *id);

#endif
