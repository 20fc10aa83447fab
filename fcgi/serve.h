/*
 * serve - the worker process: engine, request loop and links tied together
 */
#ifndef SEANCE_SERVE_H
#define SEANCE_SERVE_H

#include "options.h"
#include "poison.h"
#include "seance.h"

/* What the supervisor hands to a worker process. */
struct serve_setup {
	const struct options *options;
	int program_fd; /* listening: FastCGI */
	int link_fd;    /* listening: links */
	int ready_fd;   /* a byte is written when all is opened; closed then */
	int go_fd;      /* a byte is read before the log is read and requests are served; at its end: exit */
	struct poison *poison;
	seance_connect_fn *on_connect;
	const struct seance_channel *const *channels; /* ends with NULL */
};

/*
 * serve_run - runs until SIGTERM; returns the exit status
 *
 * SIGTERM has its default action before, SIGINT and SIGHUP are ignored: they are the supervisor's.
 */
int serve_run(const struct serve_setup *setup);

#endif
