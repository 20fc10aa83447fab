/*
 * head - the head of an answer that follows an X-Accel-Redirect
 */
#ifndef SEANCE_HEAD_H
#define SEANCE_HEAD_H

#include "module.h"

/* seance_head_push - adds a header; name and value live as long as the request; NULL without memory */
ngx_table_elt_t *seance_head_push(ngx_http_request_t *r, const char *name, const u_char *value,
                                  size_t len);

/* seance_head_clear - drops what an answer of the program left behind before it led here */
void seance_head_clear(ngx_http_request_t *r);

/*
 * seance_head_copy - the program's Vary and Access-Control-*
 *
 * nginx keeps only some headers over an X-Accel-Redirect: Content-Type, Cache-Control, Set-Cookie and others.
 *
 * Returns   NGX_OK or NGX_ERROR.
 */
ngx_int_t seance_head_copy(ngx_http_request_t *r);

#endif
