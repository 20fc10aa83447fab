/*
 * The supervisor, with a worker that does what a file tells it.
 *
 * This program is test, supervisor (`serve`) and worker (`worker`) in one; serve_run here stands in
 * for the real one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "serve.h"
#include "supervisor.h"
#include "tap.h"
#include "wait_time.h"
#include "worker.h"

#define WAIT_MS 12000

static char dir[64];

static const char *
in_dir(const char *name)
{
	static char path[4][200];
	static int next;

	next = (next + 1) % 4;
	snprintf(path[next], sizeof path[next], "%s/%s", dir, name);
	return path[next];
}

static void
file_write(const char *name, const char *text)
{
	int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		abort();
	close(fd);
}

static const char *
file_read(const char *name)
{
	static char text[65536];
	int fd = open(in_dir(name), O_RDONLY);
	ssize_t len = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;

	text[len > 0 ? len : 0] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

/* --- the worker --- */

static void
trace(const char *what)
{
	char line[64];
	int len = snprintf(line, sizeof line, "%s %d\n", what, (int)getpid());
	int fd = open(in_dir("trace"), O_WRONLY | O_CREAT | O_APPEND, 0644);

	if (fd < 0 || write(fd, line, (size_t)len) != len)
		abort();
	close(fd);
}

static volatile sig_atomic_t told;

static void
on_term(int signal_number)
{
	(void)signal_number;
	told = 1;
}

static void
serve_until_told(bool stubborn)
{
	sigset_t term;
	sigset_t before;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &before);
	while (!told || stubborn)
		sigsuspend(&before);
}

int
serve_run(const struct serve_setup *setup)
{
	char does[64];
	char byte;

	snprintf(dir, sizeof dir, "%s", setup->options->dir);
	snprintf(does, sizeof does, "%s", file_read("does"));
	if (strcmp(does, "fail") == 0)
		return 3;
	signal(SIGTERM, on_term);
	trace("opened");
	if (strcmp(does, "stuck") == 0)
		pause();
	if (write(setup->ready_fd, "r", 1) != 1)
		return 4;
	close(setup->ready_fd);
	if (read(setup->go_fd, &byte, 1) != 1)
		return 5;
	trace("serves");
	if (strcmp(does, "poison") == 0 && poison_deaths(setup->poison, "bad", 1) < POISON_DEATHS) {
		poison_enter(setup->poison, "bad", 1);
		abort();
	}
	if (strcmp(does, "crash") == 0)
		raise(SIGSEGV);
	serve_until_told(strcmp(does, "stubborn") == 0);
	if (strcmp(does, "slow") == 0)
		sleep_ms(700);
	trace("ends");
	return 0;
}

/* --- the test --- */

static pid_t
start(const char *mode)
{
	char option[100];
	pid_t pid;

	snprintf(option, sizeof option, "--dir=%s", dir);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "/proc/self/exe", "serve", option, mode, NULL);
		_exit(126);
	}
	return pid;
}

/* The exit status of pid, -1: not within the time. */
static int
ends(pid_t pid)
{
	int status;

	for (long until = now_ms() + WAIT_MS; now_ms() < until; sleep_ms(5))
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return -1;
}

static int
count_of(const char *what)
{
	const char *at = file_read("trace");
	int count = 0;

	while ((at = strstr(at, what)) != NULL) {
		count++;
		at++;
	}
	return count;
}

/* Waits until that many lines of the trace say so. */
static bool
traced(const char *what, int count)
{
	for (long until = now_ms() + WAIT_MS; now_ms() < until; sleep_ms(5))
		if (count_of(what) >= count)
			return true;
	return false;
}

static pid_t
pid_in(const char *name)
{
	return (pid_t)atoi(file_read(name));
}

/* The pid in worker.pid once it is another than `before`; 0: not within the time. */
static pid_t
worker_after(pid_t before)
{
	for (long until = now_ms() + WAIT_MS; now_ms() < until; sleep_ms(5)) {
		pid_t pid = pid_in("worker.pid");

		if (pid > 0 && pid != before)
			return pid;
	}
	return 0;
}

static bool
gone(pid_t pid)
{
	for (long until = now_ms() + WAIT_MS; now_ms() < until; sleep_ms(5))
		if (kill(pid, 0) != 0 && errno == ESRCH)
			return true;
	return false;
}

static void
fresh(const char *does)
{
	unlink(in_dir("trace"));
	file_write("does", does);
}

static bool
nothing_left(void)
{
	return access(in_dir("program.sock"), F_OK) != 0 && access(in_dir("link.sock"), F_OK) != 0 &&
	       access(in_dir("supervisor.pid"), F_OK) != 0 && access(in_dir("worker.pid"), F_OK) != 0;
}

static void
test_life(void)
{
	struct stat info = {0};
	pid_t supervisor;
	pid_t worker;

	fresh("good");
	supervisor = start("--socket-mode=0600");
	worker = worker_after(0);
	ok(worker > 0 && traced("serves", 1), "a worker serves");
	ok(pid_in("supervisor.pid") == supervisor, "the supervisor's pid is written");
	ok(stat(in_dir("program.sock"), &info) == 0 && (info.st_mode & 07777) == 0600,
	   "mode of program.sock");
	ok(stat(in_dir("link.sock"), &info) == 0 && (info.st_mode & 07777) == 0600, "mode of link.sock");
	ok(ends(start("--spares=1")) == 1, "a second supervisor does not start");
	ok(kill(worker, 0) == 0 && access(in_dir("program.sock"), F_OK) == 0, "and does no harm");
	kill(supervisor, SIGTERM);
	ok(ends(supervisor) == 0 && count_of("ends") == 1 && gone(worker), "SIGTERM ends both");
	ok(nothing_left(), "sockets and pid files are removed");
}

static void
test_restart(void)
{
	pid_t supervisor;
	pid_t worker;
	pid_t next;
	long start_ms;
	int served;

	fresh("good");
	supervisor = start("--spares=1");
	worker = worker_after(0);
	start_ms = now_ms();
	kill(worker, SIGKILL);
	next = worker_after(worker);
	ok(next > 0 && now_ms() - start_ms < 1000, "a killed worker is started again at once (%ld ms)",
	   now_ms() - start_ms);
	file_write("does", "crash");
	kill(next, SIGKILL);
	sleep_ms(2500);
	ok(count_of("serves") >= 4 && count_of("serves") <= 12,
	   "one that goes on crashing, with back-off (%d)", count_of("serves"));
	file_write("does", "good");
	sleep_ms(1500); /* longer than it waits for the next */
	served = count_of("serves");
	sleep_ms(1500);
	ok(count_of("serves") == served, "until it does not");
	kill(supervisor, SIGINT);
	ok(ends(supervisor) == 0 && nothing_left(), "SIGINT ends it, too");

	fresh("fail");
	ok(ends(start("--spares=1")) == 1 && nothing_left(), "a first worker that does not start ends all");
	fresh("good");
	ok(ends(start("--no-such=1")) == 2 && nothing_left(), "a wrong option, too");
}

static void
test_poison(void)
{
	pid_t supervisor;

	fresh("poison");
	supervisor = start("--spares=1");
	ok(traced("serves", POISON_DEATHS + 1), "a message may kill two workers");
	sleep_ms(500);
	ok(count_of("serves") == POISON_DEATHS + 1, "and no third one, though each is another program");
	kill(supervisor, SIGTERM);
	ends(supervisor);
}

static void
test_replace(void)
{
	pid_t supervisor;
	pid_t first;
	pid_t second;
	const char *text;

	fresh("slow");
	supervisor = start("--spares=1");
	first = worker_after(0);
	file_write("does", "good");
	kill(supervisor, SIGHUP);
	second = worker_after(first);
	ok(second > 0 && kill(first, 0) != 0, "SIGHUP: another one serves, the first one is gone");
	ok(traced("serves", 2) && count_of("opened") == 2, "both have opened and served");
	text = file_read("trace");
	ok(strstr(strstr(text, "ends"), "serves") != NULL && strstr(strstr(text, "ends"), "opened") == NULL,
	   "the second opened before the first ended, and served after");

	file_write("does", "fail");
	kill(supervisor, SIGHUP);
	sleep_ms(500);
	ok(pid_in("worker.pid") == second && kill(second, 0) == 0,
	   "one that does not start: the old one goes on");

	file_write("does", "stuck");
	kill(supervisor, SIGHUP);
	traced("opened", 3);
	kill(second, SIGKILL);
	sleep_ms(200);
	ok(count_of("serves") == 2, "one that is stuck never serves");
	ok(count_of("opened") == 3, "it is the one that is waited for when the old one dies");
	{
		long start_ms = now_ms();

		kill(supervisor, SIGTERM);
		ok(ends(supervisor) == 0 && nothing_left() && now_ms() - start_ms < 2000,
		   "and does not keep the supervisor from ending");
	}

	fresh("stubborn");
	supervisor = start("--spares=1");
	first = worker_after(0);
	file_write("does", "good");
	{
		long start_ms = now_ms();

		kill(supervisor, SIGHUP);
		second = worker_after(first);
		ok(second > 0 && now_ms() - start_ms > 4000 && now_ms() - start_ms < 8000 && gone(first),
		   "who does not go is killed after 5 s");
	}
	kill(supervisor, SIGHUP);
	kill(supervisor, SIGHUP);
	kill(supervisor, SIGHUP);
	first = worker_after(second);
	ok(first > 0, "many SIGHUPs");
	sleep_ms(500);
	kill(supervisor, SIGTERM);
	ok(ends(supervisor) == 0 && nothing_left(), "end well");
}

static void
test_orphan(void)
{
	pid_t supervisor;
	pid_t worker;

	fresh("slow");
	supervisor = start("--spares=1");
	worker = worker_after(0);
	traced("serves", 1);
	kill(supervisor, SIGKILL);
	ends(supervisor);
	file_write("does", "good");
	supervisor = start("--spares=1");
	ok(worker_after(worker) > 0 && traced("ends", 1) && gone(worker),
	   "a killed supervisor's worker goes; the next supervisor waits for it and takes its place");
	kill(supervisor, SIGTERM);
	ok(ends(supervisor) == 0 && nothing_left(), "and ends well");
}

static void
test_sockets(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char long_dir[200];
	pid_t pid;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	fresh("good");
	snprintf(address.sun_path, sizeof address.sun_path, "%s", in_dir("program.sock"));
	if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1) != 0)
		abort();
	close(fd);
	pid = start("--spares=1");
	ok(worker_after(0) > 0, "a socket that was left behind is replaced");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ok(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "and can be connected to");
	close(fd);
	kill(pid, SIGTERM);
	ends(pid);

	memset(long_dir, 'd', sizeof long_dir - 1);
	memcpy(long_dir, "--dir=/tmp/", 11);
	long_dir[sizeof long_dir - 1] = '\0';
	pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "/proc/self/exe", "serve", long_dir, NULL);
		_exit(126);
	}
	ok(ends(pid) == 1, "a path too long for a socket");
}

static int
tests(void)
{
	char command[100];

	snprintf(dir, sizeof dir, "/tmp/test_supervisor.%d", (int)getpid());
	mkdir(dir, 0755);
	alarm(150);
	test_life();
	test_restart();
	test_poison();
	test_replace();
	test_orphan();
	test_sockets();
	snprintf(command, sizeof command, "rm -r %s", dir);
	if (system(command) != 0)
		printf("# %s is left\n", dir);
	return done();
}

int
main(int argc, char **argv)
{
	struct options options;

	if (argc < 2)
		return tests();
	if (!options_read(&options, argc, argv, 2))
		return 2;
	return strcmp(argv[1], "serve") == 0 ? supervisor_run(&options, argv)
	                                     : worker_run(&options, NULL, NULL);
}
