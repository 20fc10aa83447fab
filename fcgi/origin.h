/*
 * origin - whose pages may talk to the program
 */
#ifndef SEANCE_ORIGIN_H
#define SEANCE_ORIGIN_H

#include <stdbool.h>

/*
 * origin_is_allowed - is an Origin header the host's own, or in the list?
 *
 * host      The Host header; NULL: none.
 * list      see --origins; NULL: empty.
 */
bool origin_is_allowed(const char *origin, const char *host, const char *list);

#endif
