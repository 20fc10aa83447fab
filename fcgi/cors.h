/*
 * cors - what tells a browser that a page of another site may read an answer (Fetch standard, section 3.2)
 */
#ifndef SEANCE_CORS_H
#define SEANCE_CORS_H

#include "buffer.h"

/*
 * cors_add - appends the headers for a request with this Origin: none but Vary when it is not allowed
 *
 * origin, host   Headers of the request; NULL: absent.
 * list           See --origins.
 */
void cors_add(struct buffer *out, const char *origin, const char *host, const char *list);

#endif
