/*
 * url - percent-encoding (RFC 3986, section 2.1)
 */
#ifndef SEANCE_URL_H
#define SEANCE_URL_H

#include <json-c/json.h>
#include <stddef.h>

/*
 * url_decode_form - a part of a query (application/x-www-form-urlencoded): '+' is a space, and a '%' without two
 * digits stands for itself; owned by the caller
 */
char *url_decode_form(const char *text, size_t len);

/*
 * url_decode_segment - a segment of a path
 *
 * Returns   The text, owned by the caller; NULL when it has a '%' without two digits, a NUL, or is not UTF-8.
 */
char *url_decode_segment(const char *text, size_t len);

/* url_params - a query as an object of strings, owned by the caller; the last of a name wins, as in the reference */
json_object *url_params(const char *query);

#endif
