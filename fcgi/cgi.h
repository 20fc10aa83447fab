/*
 * cgi - one request of the HTTP API by plain CGI (RFC 3875), for hosts without FastCGI
 *
 * Its database is in the directory SEANCE_DIR of the CGI server's environment, else as without --dir.  It may run
 * beside the program: that one is woken after the commit, and tells its clients.  If none runs, what broadcasts
 * and timers have fallen due is given after the answer.
 */
#ifndef SEANCE_CGI_H
#define SEANCE_CGI_H

#include <stdbool.h>

#include "seance.h"

/* cgi_asked - has a CGI server started this process?  Then its arguments are the client's: they mean nothing. */
bool cgi_asked(void);

/* cgi_run - answers on standard output; returns the exit status */
int cgi_run(seance_connect_fn *on_connect, const struct seance_channel *const *channels);

#endif
