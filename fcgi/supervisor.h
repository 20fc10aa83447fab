/*
 * supervisor - owns the listening sockets and keeps a worker process serving on them
 *
 * A worker that dies is started again: at once, then with back-off when it goes on dying within a second.
 * SIGHUP replaces it: the new one opens everything, the old one finishes what it has and ends, and only
 * then the new one serves; if the new one does not come up the old one goes on.  SIGTERM and SIGINT end
 * both.  When the supervisor itself is killed the worker is told SIGTERM by the kernel.
 */
#ifndef SEANCE_SUPERVISOR_H
#define SEANCE_SUPERVISOR_H

#include "options.h"

/*
 * supervisor_run - the command `serve`
 *
 * argv      PROGRAM serve OPTIONS...; ends with NULL.
 * Returns   the exit status: 0 after SIGTERM or SIGINT; 1 when it did not start, after a line in the log.
 */
int supervisor_run(const struct options *options, char **argv);

#endif
