#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "log.h"
#include "memory.h"
#include "poison.h"
#include "serve.h"

#define ENVIRONMENT "SEANCE_WORKER" /* "PROGRAM,LINK,READY,GO,POISON": numbers of descriptors */

enum { PROGRAM, LINK, READY, GO, POISON, DESCRIPTORS };

static void
signals_reset(void)
{
	sigset_t later;

	/* All of it survives exec.  A terminal sends SIGINT to all its processes; it is the supervisor's. */
	signal(SIGTERM, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&later);
	sigaddset(&later, SIGUSR1); /* until it is read: by serve.c */
	sigprocmask(SIG_SETMASK, &later, NULL);
}

static void
hand_over(const int fds[DESCRIPTORS])
{
	char text[DESCRIPTORS * 12];

	for (int i = 0; i < DESCRIPTORS; i++)
		fcntl(fds[i], F_SETFD, 0);
	snprintf(text, sizeof text, "%d,%d,%d,%d,%d", fds[PROGRAM], fds[LINK], fds[READY], fds[GO],
	         fds[POISON]);
	setenv(ENVIRONMENT, text, 1);
}

/*
 * Dozens of requests are read before the first is answered, each with some small allocations and
 * libfcgi's two buffers of 8 KB.  glibc keeps only seven pieces of a size at hand, and gathers its
 * fast bins before each buffer: as measured, a tenth of an event's processor time.
 */
static void
tune_malloc(void)
{
	setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=127:glibc.malloc.mxfast=0", 0);
}

static char **
worker_argv(char **argv)
{
	int count = 0;
	char **copy;

	while (argv[count] != NULL)
		count++;
	copy = memory_zeroed((size_t)count + 1, sizeof *copy);
	memcpy(copy, argv, (size_t)count * sizeof *copy);
	copy[1] = (char *)WORKER_COMMAND;
	return copy;
}

/* In the child. */
static _Noreturn void
become(const struct worker_setup *setup, const int fds[DESCRIPTORS], pid_t supervisor)
{
	char **argv = worker_argv(setup->argv);

	/* If the supervisor was gone before the signal was asked for, it will not come. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != supervisor)
		_exit(1);
	signals_reset();
	hand_over(fds);
	tune_malloc();
	execvp(argv[0], argv);
	log_line("%s cannot be executed (%s): what runs is started again", argv[0], strerror(errno));
	execv("/proc/self/exe", argv);
	log_line("no worker process: %s", strerror(errno));
	_exit(127);
}

bool
worker_start(struct worker *worker, const struct worker_setup *setup)
{
	pid_t supervisor = getpid();
	int ready[2] = {-1, -1};
	int go[2] = {-1, -1};

	if (pipe2(ready, O_CLOEXEC) == 0 && pipe2(go, O_CLOEXEC) == 0) {
		const int fds[DESCRIPTORS] = {setup->program_fd, setup->link_fd, ready[1], go[0],
		                              setup->poison_fd};

		worker->pid = fork();
		if (worker->pid == 0)
			become(setup, fds, supervisor);
		if (worker->pid > 0) {
			close(ready[1]);
			close(go[0]);
			worker->ready_fd = ready[0];
			worker->go_fd = go[1];
			return true;
		}
	}
	log_line("no worker process: %s", strerror(errno));
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(go[i]);
	}
	worker->pid = 0;
	return false;
}

/* Reads what hand_over wrote; false when this process was not started by a supervisor. */
static bool
take_over(int fds[DESCRIPTORS])
{
	const char *text = getenv(ENVIRONMENT);

	for (int i = 0; i < DESCRIPTORS; i++) {
		char *end;

		if (text == NULL)
			return false;
		fds[i] = (int)strtol(text, &end, 10);
		if (end == text || *end != (i + 1 < DESCRIPTORS ? ',' : '\0') ||
		    fcntl(fds[i], F_SETFD, FD_CLOEXEC) != 0)
			return false;
		text = end + 1;
	}
	unsetenv(ENVIRONMENT);
	return true;
}

int
worker_run(const struct options *options, seance_connect_fn *on_connect,
           const struct seance_channel *const *channels)
{
	struct serve_setup setup = {.options = options, .on_connect = on_connect, .channels = channels};
	int fds[DESCRIPTORS];
	int status;

	if (!take_over(fds) || (setup.poison = poison_map(fds[POISON])) == NULL) {
		log_line("`" WORKER_COMMAND "` is started by `serve` only");
		return 2;
	}
	setup.program_fd = fds[PROGRAM];
	setup.link_fd = fds[LINK];
	setup.ready_fd = fds[READY];
	setup.go_fd = fds[GO];
	status = serve_run(&setup);
	poison_free(setup.poison);
	return status;
}
