/*
 * worker - starts worker processes, and what a worker process does first
 *
 * A worker is the program executed anew (the file that stands at its path now), with the hidden
 * command `worker` and the descriptors it needs, named in the environment.
 */
#ifndef SEANCE_WORKER_H
#define SEANCE_WORKER_H

#include <stdbool.h>
#include <sys/types.h>

#include "options.h"
#include "seance.h"

#define WORKER_COMMAND "worker"

/* What all workers share; borrowed. */
struct worker_setup {
	int program_fd;
	int link_fd;
	int poison_fd;
	char **argv; /* of the supervisor: PROGRAM COMMAND OPTIONS...; ends with NULL */
};

struct worker {
	pid_t pid;
	int ready_fd; /* a byte can be read when it has opened everything; its end when it is gone */
	int go_fd;    /* a byte is to be written when it may serve */
};

/* worker_start - false after one line in the log; the descriptors of worker are owned by the caller */
bool worker_start(struct worker *worker, const struct worker_setup *setup);

/* worker_run - the command `worker`; returns the exit status */
int worker_run(const struct options *options, seance_connect_fn *on_connect,
               const struct seance_channel *const *channels);

#endif
