/*
 * run_dir - the directory of a running program: its sockets and pid files, and that it is the only one
 *
 *     supervisor.pid   locked (flock) while a supervisor runs
 *     worker.pid       of the worker that serves
 *     program.sock     FastCGI
 *     link.sock        links of nginx workers
 */
#ifndef SEANCE_RUN_DIR_H
#define SEANCE_RUN_DIR_H

#include <stdbool.h>
#include <sys/types.h>

struct run_dir {
	const char *dir; /* borrowed */
	int lock_fd;
	int program_fd; /* listening */
	int link_fd;    /* listening */
};

/*
 * run_dir_open - makes the directory if need be, locks it, listens
 *
 * Waits a few seconds for the last worker of a supervisor that was killed.  mode: of the sockets.
 * Returns   true; false after one line in the log.
 */
bool run_dir_open(struct run_dir *run, const char *dir, int mode);

/* run_dir_serves - writes worker.pid, in one step */
void run_dir_serves(const struct run_dir *run, pid_t worker);

/* run_dir_close - removes sockets and pid files */
void run_dir_close(struct run_dir *run);

#endif
