#include "supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "poison.h"
#include "run_dir.h"
#include "worker.h"

#define DRAIN_MS     5000  /* after SIGTERM, then SIGKILL */
#define OPEN_MS      60000 /* a replacement has opened everything by then */
#define STABLE_MS    1000  /* a worker that served that long is started again at once */
#define BACK_OFF_MS  50    /* doubled each time ... */
#define BACK_OFF_MAX 1000  /* ... up to this */
#define NEVER        INT64_MAX

enum stage { NONE, STARTING, READY, SERVING, LEAVING };

struct process {
	struct worker worker;
	enum stage stage;
	int64_t serving_ms; /* since when; 0: not yet */
	int64_t kill_at_ms;
};

struct supervisor {
	struct run_dir run;
	struct poison *poison;
	struct worker_setup setup;
	int signal_fd;
	struct process current;
	struct process next; /* a replacement */
	bool replace_again;  /* SIGHUP came during a replacement */
	bool stopping;
	bool served; /* a worker has been serving: starting is no longer the test of all */
	int64_t restart_at_ms;
	int back_off_ms;
	int status;
};

/* --- one process --- */

static void
go_close(struct process *process)
{
	if (process->worker.go_fd >= 0)
		close(process->worker.go_fd);
	process->worker.go_fd = -1;
}

static void
process_clear(struct process *process)
{
	if (process->worker.ready_fd >= 0)
		close(process->worker.ready_fd);
	go_close(process);
	*process = (struct process){.worker = {.ready_fd = -1, .go_fd = -1}, .kill_at_ms = NEVER};
}

static bool
process_start(struct supervisor *supervisor, struct process *process)
{
	process_clear(process);
	if (!worker_start(&process->worker, &supervisor->setup))
		return false;
	process->stage = STARTING;
	return true;
}

static void
process_leave(struct process *process)
{
	/* It may be waiting for the word to serve. */
	go_close(process);
	kill(process->worker.pid, SIGTERM);
	process->stage = LEAVING;
	process->kill_at_ms = clock_ms() + DRAIN_MS;
}

static void
process_kill_late(struct process *process)
{
	if (process->stage == NONE || clock_ms() < process->kill_at_ms)
		return;
	log_line("worker %d killed: it %s", (int)process->worker.pid,
	         process->stage == LEAVING ? "did not end in time" : "did not start in time");
	kill(process->worker.pid, SIGKILL);
	process->kill_at_ms = NEVER;
}

/* A byte: it has opened everything.  The end: it goes; its exit will be told by SIGCHLD. */
static void
process_ready(struct process *process)
{
	char byte;
	ssize_t got = read(process->worker.ready_fd, &byte, 1);

	if (got < 0 && errno == EINTR)
		return;
	close(process->worker.ready_fd);
	process->worker.ready_fd = -1;
	if (got == 1 && process->stage == STARTING)
		process->stage = READY;
}

static void
process_go(struct supervisor *supervisor, struct process *process)
{
	/* If it has just died, its exit will be told. */
	if (write(process->worker.go_fd, "g", 1) < 0)
		log_line("worker %d: %s", (int)process->worker.pid, strerror(errno));
	go_close(process);
	process->stage = SERVING;
	process->kill_at_ms = NEVER;
	process->serving_ms = clock_ms();
	supervisor->served = true;
	run_dir_serves(&supervisor->run, process->worker.pid);
	log_line("worker %d serves", (int)process->worker.pid);
}

/* --- replacing --- */

static void
replace(struct supervisor *supervisor)
{
	if (supervisor->stopping)
		return;
	if (supervisor->next.stage != NONE || supervisor->current.stage == STARTING ||
	    supervisor->current.stage == READY) {
		supervisor->replace_again = true;
		return;
	}
	supervisor->replace_again = false;
	if (supervisor->current.stage == NONE) {
		supervisor->restart_at_ms = clock_ms();
		return;
	}
	if (process_start(supervisor, &supervisor->next))
		supervisor->next.kill_at_ms = clock_ms() + OPEN_MS;
}

/* Does what the stages of both processes allow. */
static void
advance(struct supervisor *supervisor)
{
	struct process *current = &supervisor->current;
	struct process *next = &supervisor->next;

	if (supervisor->stopping)
		return;
	if (next->stage == READY && current->stage == SERVING) {
		next->kill_at_ms = NEVER;
		process_leave(current);
	}
	if (current->stage == NONE && next->stage != NONE) {
		*current = *next;
		current->kill_at_ms = NEVER;
		next->worker.ready_fd = -1;
		next->worker.go_fd = -1;
		process_clear(next);
		supervisor->restart_at_ms = NEVER;
	}
	if (current->stage == READY)
		process_go(supervisor, current);
	if (supervisor->replace_again)
		replace(supervisor);
}

/* --- deaths --- */

static const char *
how(int status, char *text, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(text, size, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		snprintf(text, size, "exit status %d", WEXITSTATUS(status));
	return text;
}

static void
restart_later(struct supervisor *supervisor)
{
	const struct process *current = &supervisor->current;
	int64_t now = clock_ms();

	if (current->serving_ms != 0 && now - current->serving_ms >= STABLE_MS)
		supervisor->back_off_ms = 0;
	supervisor->restart_at_ms = now + supervisor->back_off_ms;
	supervisor->back_off_ms = supervisor->back_off_ms == 0 ? BACK_OFF_MS : 2 * supervisor->back_off_ms;
	if (supervisor->back_off_ms > BACK_OFF_MAX)
		supervisor->back_off_ms = BACK_OFF_MAX;
}

static void
current_died(struct supervisor *supervisor, int status)
{
	struct process *current = &supervisor->current;
	char text[80];

	if (current->stage == LEAVING) {
		poison_forget(supervisor->poison);
	} else {
		log_line("worker %d died: %s", (int)current->worker.pid, how(status, text, sizeof text));
		poison_bury(supervisor->poison);
		if (supervisor->served)
			restart_later(supervisor);
		else
			supervisor->status = 1;
	}
	process_clear(current);
}

static void
next_died(struct supervisor *supervisor, int status)
{
	char text[80];

	if (!supervisor->stopping)
		log_line("the replacement %d did not start (%s)%s", (int)supervisor->next.worker.pid,
		         how(status, text, sizeof text),
		         supervisor->current.stage == SERVING ? ": the old one goes on" : "");
	process_clear(&supervisor->next);
	/* The old one was already told to go: another is needed. */
	if (supervisor->current.stage == LEAVING && !supervisor->stopping)
		supervisor->restart_at_ms = clock_ms();
}

static void
reap(struct supervisor *supervisor)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == supervisor->current.worker.pid)
			current_died(supervisor, status);
		else if (pid == supervisor->next.worker.pid)
			next_died(supervisor, status);
	}
}

/* --- the supervisor --- */

static void
stop(struct supervisor *supervisor)
{
	if (supervisor->stopping)
		return;
	supervisor->stopping = true;
	supervisor->restart_at_ms = NEVER;
	if (supervisor->next.stage != NONE)
		kill(supervisor->next.worker.pid, SIGKILL);
	if (supervisor->current.stage != NONE && supervisor->current.stage != LEAVING)
		process_leave(&supervisor->current);
}

static void
take_signals(struct supervisor *supervisor)
{
	struct signalfd_siginfo info;

	while (read(supervisor->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
		switch (info.ssi_signo) {
		case SIGCHLD:
			reap(supervisor);
			break;
		case SIGHUP:
			replace(supervisor);
			break;
		case SIGUSR1:
			if (supervisor->current.stage == SERVING)
				kill(supervisor->current.worker.pid, SIGUSR1);
			break;
		default:
			stop(supervisor);
			break;
		}
	}
}

static void
restart_if_due(struct supervisor *supervisor)
{
	if (supervisor->stopping || supervisor->current.stage != NONE || supervisor->next.stage != NONE ||
	    clock_ms() < supervisor->restart_at_ms)
		return;
	supervisor->restart_at_ms = NEVER;
	if (!process_start(supervisor, &supervisor->current))
		restart_later(supervisor);
}

static int
poll_timeout(const struct supervisor *supervisor)
{
	int64_t until = supervisor->current.stage == NONE ? supervisor->restart_at_ms : NEVER;
	int64_t left;

	if (supervisor->current.kill_at_ms < until)
		until = supervisor->current.kill_at_ms;
	if (supervisor->next.kill_at_ms < until)
		until = supervisor->next.kill_at_ms;
	if (until == NEVER)
		return -1;
	left = until - clock_ms();
	return left > 0 ? (int)left : 0;
}

static void
wait_for_something(struct supervisor *supervisor)
{
	struct pollfd fds[3] = {
		{.fd = supervisor->signal_fd, .events = POLLIN},
		{.fd = supervisor->current.worker.ready_fd, .events = POLLIN},
		{.fd = supervisor->next.worker.ready_fd, .events = POLLIN},
	};

	if (poll(fds, 3, poll_timeout(supervisor)) > 0) {
		if (fds[1].revents != 0)
			process_ready(&supervisor->current);
		if (fds[2].revents != 0)
			process_ready(&supervisor->next);
		if (fds[0].revents != 0)
			take_signals(supervisor);
	}
	process_kill_late(&supervisor->current);
	process_kill_late(&supervisor->next);
	advance(supervisor);
	restart_if_due(supervisor);
}

static bool
ended(const struct supervisor *supervisor)
{
	return (supervisor->stopping || supervisor->status != 0) && supervisor->current.stage == NONE &&
	       supervisor->next.stage == NONE;
}

static int
signals_open(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

int
supervisor_run(const struct options *options, char **argv)
{
	struct supervisor supervisor = {.restart_at_ms = 0};

	supervisor.current.worker = (struct worker){.ready_fd = -1, .go_fd = -1};
	supervisor.next.worker = (struct worker){.ready_fd = -1, .go_fd = -1};
	process_clear(&supervisor.current);
	process_clear(&supervisor.next);
	supervisor.signal_fd = signals_open(); /* before anybody can read whom to send them to */
	if (supervisor.signal_fd < 0)
		log_die("no signals: %s", strerror(errno));
	if (!run_dir_open(&supervisor.run, options->dir, options->socket_mode)) {
		close(supervisor.signal_fd);
		return 1;
	}
	supervisor.poison = poison_new();
	supervisor.setup = (struct worker_setup){
		.program_fd = supervisor.run.program_fd,
		.link_fd = supervisor.run.link_fd,
		.poison_fd = poison_fd(supervisor.poison),
		.argv = argv,
	};
	if (!process_start(&supervisor, &supervisor.current))
		supervisor.status = 1;
	supervisor.restart_at_ms = NEVER;
	while (!ended(&supervisor))
		wait_for_something(&supervisor);
	run_dir_close(&supervisor.run);
	poison_free(supervisor.poison);
	close(supervisor.signal_fd);
	return supervisor.stopping ? 0 : supervisor.status;
}
