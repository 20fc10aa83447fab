/*
 * wait - a request that waits for something newer than a position, without a thread of the program
 *
 * The program is told by the link what is waited for (HELD, with the name as id, and the position), and wakes
 * it (WAKE): then the request is asked again, as if it had just come.
 */
#ifndef SEANCE_WAIT_H
#define SEANCE_WAIT_H

#include "module.h"

struct seance_socket;

/*
 * seance_wait_start - parks a request under a name
 *
 * Arguments of the redirect: `after`, a position; `seconds`, counted from the request's beginning, not from
 * now; `again`, the path of the location that leads to the program; `end`: "again" when it is to be asked again at
 * the end of its time, too; else that is answered 204.
 *
 * Returns   NGX_OK: it is held; or a status.
 */
ngx_int_t seance_wait_start(ngx_http_request_t *r, struct seance_conf *conf, ngx_str_t *name);

/* seance_wait_wake - there may be something newer */
void seance_wait_wake(struct seance_socket *socket);

/* seance_wait_leave - the request of a wait that is gone goes on, or ends */
void seance_wait_leave(struct seance_socket *socket, ngx_http_request_t *r);

#endif
