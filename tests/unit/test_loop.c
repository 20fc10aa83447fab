/*
 * The request loop, through libfcgi and a unix socket, with a FastCGI client made by hand.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"
#include "memory.h"
#include "tap.h"
#include "wait_time.h"

#define WAIT_MS  8000 /* no wait is longer */
#define BODY_MAX 300000

static char path[108];

/* --- the client --- */

static int
client_connect(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static size_t
put_record(uint8_t *out, int type, const void *bytes, size_t len)
{
	const uint8_t head[8] = {1, (uint8_t)type, 0, 1, (uint8_t)(len >> 8), (uint8_t)len, 0, 0};

	memcpy(out, head, 8);
	if (len > 0)
		memcpy(out + 8, bytes, len);
	return len + 8;
}

/* A whole request: one parameter, WHAT, and a body. */
static size_t
put_request(uint8_t *out, const char *what, const char *body, size_t len)
{
	static const uint8_t begin[8] = {0, 1, 1};
	uint8_t params[256] = {4, (uint8_t)strlen(what), 'W', 'H', 'A', 'T'};
	size_t size = 0;

	memcpy(params + 6, what, strlen(what));
	size += put_record(out + size, 1, begin, 8);
	size += put_record(out + size, 4, params, 6 + strlen(what));
	size += put_record(out + size, 4, NULL, 0);
	for (size_t at = 0; at < len; at += 65535)
		size += put_record(out + size, 5, body + at, len - at < 65535 ? len - at : 65535);
	size += put_record(out + size, 5, NULL, 0);
	return size;
}

static void
client_send(int fd, const char *what, const char *body, size_t len)
{
	uint8_t *out = malloc(len + len / 65535 * 8 + 1024);
	size_t size = put_request(out, what, body, len);
	size_t sent = 0;

	while (sent < size) {
		ssize_t n = send(fd, out + sent, size - sent, MSG_NOSIGNAL);

		if (n <= 0)
			break;
		sent += (size_t)n;
	}
	free(out);
}

static bool
read_all(int fd, void *to, size_t len, long until_ms)
{
	uint8_t *at = to;

	while (len > 0) {
		struct pollfd in = {.fd = fd, .events = POLLIN};
		long left = until_ms - now_ms();
		ssize_t got;

		if (left <= 0 || poll(&in, 1, (int)left) <= 0)
			return false;
		got = recv(fd, at, len, 0);
		if (got <= 0)
			return false;
		at += got;
		len -= (size_t)got;
	}
	return true;
}

/* Reads an answer to its end; returns its STDOUT, to be freed, or NULL. */
static char *
client_answer_in(int fd, size_t *len, long ms)
{
	long until = now_ms() + ms;
	size_t size = 4096;
	char *answer = calloc(1, size);
	uint8_t head[8];
	uint8_t bytes[65535 + 255];

	*len = 0;
	while (read_all(fd, head, 8, until)) {
		size_t content = (size_t)head[4] << 8 | head[5];

		if (!read_all(fd, bytes, content + head[6], until))
			break;
		if (head[1] == 3)
			return answer;
		if (head[1] != 6)
			continue;
		while (size < *len + content + 1)
			answer = memory_realloc(answer, size *= 2);
		memcpy(answer + *len, bytes, content);
		*len += content;
		answer[*len] = '\0';
	}
	free(answer);
	return NULL;
}

static bool
answered(int fd, const char *expected, long ms)
{
	size_t len;
	char *answer = client_answer_in(fd, &len, ms);
	bool same = answer != NULL && strcmp(answer, expected) == 0;

	free(answer);
	return same;
}

/* Is the connection closed by the other side? */
static bool
closed(int fd, long ms)
{
	struct pollfd in = {.fd = fd, .events = POLLIN};
	char byte;

	return poll(&in, 1, (int)ms) == 1 && recv(fd, &byte, 1, 0) <= 0;
}

/* --- the program under test --- */

#define HELD_MAX 64

struct program {
	struct loop *loop;
	pthread_t thread;
	int listen_fd;
	bool clean;
	bool in_turn; /* answers are given in the turn, not at once */
	pthread_mutex_t lock;
	struct loop_request *staged[2048];
	int staged_count;
	struct loop_request *held;
	bool held_alive;
	atomic_int turns;
	atomic_int served;
	int timeout_ms;
	int watched; /* eventfd of the watch test */
	atomic_int watch_calls;
};

static void
answer(struct loop_request *request)
{
	const char *what = loop_param(request, "WHAT");
	size_t len;
	const char *body = loop_body(request, &len);
	char *text;

	if (strcmp(what, "big") == 0) {
		size_t size = (size_t)atol(body);

		text = malloc(size);
		memset(text, 'b', size);
		loop_finish(request, text, size);
		free(text);
		return;
	}
	text = malloc(len + 3);
	memcpy(text, "\r\n", 2);
	memcpy(text + 2, body, len);
	loop_finish(request, text, len + 2);
	free(text);
}

static void
on_request(void *context, struct loop_request *request)
{
	struct program *program = context;
	const char *what = loop_param(request, "WHAT");
	size_t len;

	if (strcmp(what, "slow") == 0) {
		loop_block_begin(program->loop);
		sleep_ms(atol(loop_body(request, &len)));
		loop_block_end(program->loop);
	}
	atomic_fetch_add(&program->served, 1);
	if (strcmp(what, "drop") == 0) {
		loop_drop(request);
	} else if (strcmp(what, "hold") == 0) {
		pthread_mutex_lock(&program->lock);
		program->held = request;
		pthread_mutex_unlock(&program->lock);
	} else if (program->in_turn) {
		pthread_mutex_lock(&program->lock);
		program->staged[program->staged_count++] = request;
		pthread_mutex_unlock(&program->lock);
	} else {
		answer(request);
	}
}

static int
on_turn(void *context)
{
	struct program *program = context;
	struct loop_request *staged[2048];
	int count;

	atomic_fetch_add(&program->turns, 1);
	pthread_mutex_lock(&program->lock);
	count = program->staged_count;
	memcpy(staged, program->staged, (size_t)count * sizeof *staged);
	program->staged_count = 0;
	pthread_mutex_unlock(&program->lock);
	for (int i = 0; i < count; i++)
		answer(staged[i]);
	return program->timeout_ms;
}

static void *
program_main(void *context)
{
	struct program *program = context;

	program->clean = loop_run(program->loop);
	return NULL;
}

static void
program_start(struct program *program, bool in_turn, int spares)
{
	const struct loop_handler handler = {.context = program, .request = on_request, .turn = on_turn};
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memset(program, 0, sizeof *program);
	pthread_mutex_init(&program->lock, NULL);
	program->in_turn = in_turn;
	program->timeout_ms = -1;
	snprintf(path, sizeof path, "/tmp/test_loop.%d.sock", (int)getpid());
	unlink(path);
	strcpy(address.sun_path, path);
	program->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(program->listen_fd, (struct sockaddr *)&address, sizeof address) != 0 ||
	    listen(program->listen_fd, 2048) != 0)
		abort();
	program->loop = loop_new(program->listen_fd, &handler, BODY_MAX, spares);
}

static void
program_go(struct program *program)
{
	pthread_create(&program->thread, NULL, program_main, program);
}

/* Returns the milliseconds that stopping took. */
static long
program_end(struct program *program)
{
	long start = now_ms();

	loop_stop(program->loop);
	pthread_join(program->thread, NULL);
	start = now_ms() - start;
	if (program->clean)
		loop_free(program->loop);
	close(program->listen_fd);
	unlink(path);
	return start;
}

/* --- tests --- */

static void
test_sequence(bool in_turn)
{
	struct program program;
	int good = 0;
	int fd;

	program_start(&program, in_turn, 4);
	program_go(&program);
	fd = client_connect();
	for (int i = 0; i < 1000; i++) {
		char body[32];
		char expected[40];

		snprintf(body, sizeof body, "message %d", i);
		snprintf(expected, sizeof expected, "\r\nmessage %d", i);
		client_send(fd, "echo", body, strlen(body));
		good += answered(fd, expected, WAIT_MS);
	}
	ok(good == 1000, "1000 requests one after the other on one connection, answers %s",
	   in_turn ? "in the turn" : "at once");
	client_send(fd, "echo", "", 0);
	ok(answered(fd, "\r\n", WAIT_MS), "an empty body");
	close(fd);
	ok(program_end(&program) < 500 && program.clean, "an idle loop stops at once");
}

static void
test_connections(void)
{
	enum { COUNT = 100, ROUNDS = 20 };
	struct program program;
	int fds[COUNT];
	int good = 0;

	program_start(&program, true, 4);
	program_go(&program);
	for (int i = 0; i < COUNT; i++)
		fds[i] = client_connect();
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < COUNT; i++)
			client_send(fds[i], "echo", "x", 1);
		for (int i = 0; i < COUNT; i++)
			good += answered(fds[i], "\r\nx", WAIT_MS);
	}
	ok(good == COUNT * ROUNDS, "%d connections at once, %d requests each", COUNT, ROUNDS);
	ok(atomic_load(&program.turns) <= COUNT * ROUNDS + COUNT + 10, "turns are shared or one each");
	for (int i = 0; i < COUNT; i++)
		close(fds[i]);
	program_end(&program);
}

static void
test_sizes(void)
{
	struct program program;
	char *body = malloc(BODY_MAX + 1);
	char *result;
	size_t len;
	int fd;

	memset(body, 'a', BODY_MAX + 1);
	program_start(&program, true, 4);
	program_go(&program);
	fd = client_connect();
	client_send(fd, "echo", body, BODY_MAX);
	result = client_answer_in(fd, &len, WAIT_MS);
	ok(result != NULL && len == BODY_MAX + 2 && memcmp(result + 2, body, BODY_MAX) == 0,
	   "the largest body comes and goes");
	free(result);
	client_send(fd, "echo", body, BODY_MAX + 1);
	result = client_answer_in(fd, &len, WAIT_MS);
	ok(result != NULL && strstr(result, "Status: 413") == result, "one byte more is answered with 413");
	free(result);
	client_send(fd, "echo", "after", 5);
	ok(answered(fd, "\r\nafter", WAIT_MS), "the connection can be used after that");
	client_send(fd, "big", "5000000", 7);
	sleep_ms(50);
	ok(atomic_load(&program.served) == 3, "a large answer is being written");
	{
		int other = client_connect();

		client_send(other, "echo", "small", 5);
		ok(answered(other, "\r\nsmall", 1000), "another client does not wait for who does not read");
		close(other);
	}
	result = client_answer_in(fd, &len, WAIT_MS);
	ok(result != NULL && len == 5000000, "a large answer arrives whole");
	free(result);
	client_send(fd, "echo", "after", 5);
	ok(answered(fd, "\r\nafter", WAIT_MS), "the connection can be used after that, too");
	close(fd);
	free(body);
	program_end(&program);
}

static void
test_slow(bool in_turn)
{
	enum { SLOW = 3, FAST = 200 };
	struct program program;
	int slow[SLOW];
	long start;
	int good = 0;
	int fast;

	program_start(&program, in_turn, 4);
	program_go(&program);
	for (int i = 0; i < SLOW; i++) {
		slow[i] = client_connect();
		client_send(slow[i], "slow", "1000", 4);
	}
	fast = client_connect();
	start = now_ms();
	for (int i = 0; i < FAST; i++) {
		client_send(fast, "echo", "fast", 4);
		good += answered(fast, "\r\nfast", WAIT_MS);
	}
	ok(good == FAST && now_ms() - start < 900, "%d fast requests while %d callbacks block, answers %s",
	   FAST, SLOW, in_turn ? "in the turn" : "at once");
	good = 0;
	for (int i = 0; i < SLOW; i++)
		good += answered(slow[i], "\r\n1000", WAIT_MS);
	ok(good == SLOW && now_ms() - start < 2500, "the slow ones are answered, too, side by side");
	for (int i = 0; i < SLOW; i++)
		close(slow[i]);
	close(fast);
	program_end(&program);
}

static void
test_no_spare(void)
{
	struct program program;
	int fds[3];
	int good = 0;

	program_start(&program, true, 1);
	program_go(&program);
	for (int i = 0; i < 3; i++) {
		fds[i] = client_connect();
		client_send(fds[i], "slow", "100", 3);
	}
	for (int i = 0; i < 3; i++) {
		good += answered(fds[i], "\r\n100", WAIT_MS);
		close(fds[i]);
	}
	ok(good == 3, "more slow callbacks than threads: the loop waits, nothing is lost");
	program_end(&program);
}

static void
test_half(void)
{
	struct program program;
	uint8_t whole[512];
	size_t size = put_request(whole, "echo", "half", 4);
	int half = 0;
	int other = 0;
	int good = 0;
	long start;

	program_start(&program, true, 4);
	program_go(&program);
	half = client_connect();
	other = client_connect();
	send(half, whole, size / 2, MSG_NOSIGNAL);
	start = now_ms();
	for (int i = 0; i < 50; i++) {
		client_send(other, "echo", "whole", 5);
		good += answered(other, "\r\nwhole", WAIT_MS);
	}
	ok(good == 50 && now_ms() - start < 1000, "half a request does not stop the others");
	send(half, whole + size / 2, size - size / 2, MSG_NOSIGNAL);
	ok(answered(half, "\r\nhalf", WAIT_MS), "its other half completes it");
	for (size_t i = 0; i < size; i++) {
		send(half, whole + i, 1, MSG_NOSIGNAL);
		if (i % 16 == 0)
			sleep_ms(1);
	}
	ok(answered(half, "\r\nhalf", WAIT_MS), "a request byte by byte");
	client_send(half, "echo", "edge", 4);
	ok(answered(half, "\r\nedge", WAIT_MS), "and no edge is missed after it");
	send(half, whole, size / 2, MSG_NOSIGNAL);
	ok(closed(half, WAIT_MS), "a request that is never completed ends by its connection being closed");
	client_send(other, "echo", "whole", 5);
	ok(answered(other, "\r\nwhole", WAIT_MS), "the others go on");
	close(half);
	half = client_connect();
	send(half, "no FastCGI at all, but long enough", 34, MSG_NOSIGNAL);
	ok(closed(half, WAIT_MS), "what is no FastCGI is closed");
	close(half);
	close(other);
	program_end(&program);
}

static void
test_gone(void)
{
	struct program program;
	struct loop_request *held = NULL;
	int fd;

	program_start(&program, true, 4);
	program_go(&program);
	fd = client_connect();
	client_send(fd, "hold", "x", 1);
	for (long until = now_ms() + WAIT_MS; held == NULL && now_ms() < until; sleep_ms(1)) {
		pthread_mutex_lock(&program.lock);
		held = program.held;
		pthread_mutex_unlock(&program.lock);
	}
	ok(held != NULL && loop_alive(held), "a request at hand is alive");
	close(fd);
	ok(held != NULL && !loop_alive(held), "and is not when its client has gone");
	loop_finish(held, "\r\ntoo late", 10);
	for (int i = 0; i < 200; i++) {
		fd = client_connect();
		client_send(fd, i % 2 ? "slow" : "echo", i % 4 == 1 ? "5" : "1", 1);
		close(fd);
	}
	fd = client_connect();
	client_send(fd, "drop", "", 0);
	ok(closed(fd, WAIT_MS), "a dropped request's connection is closed");
	close(fd);
	fd = client_connect();
	client_send(fd, "echo", "still here", 10);
	ok(answered(fd, "\r\nstill here", WAIT_MS), "200 clients that go in flight do no harm");
	close(fd);
	ok(program_end(&program) < 1000 && program.clean, "and nothing is left of them");
}

static void
test_no_keep(void)
{
	struct program program;
	uint8_t whole[512];
	size_t size = put_request(whole, "echo", "once", 4);
	int fd;

	program_start(&program, true, 4);
	program_go(&program);
	fd = client_connect();
	whole[8 + 2] = 0; /* without FCGI_KEEP_CONN */
	send(fd, whole, size, MSG_NOSIGNAL);
	ok(answered(fd, "\r\nonce", WAIT_MS) && closed(fd, 500),
	   "a connection that is not to be kept is closed after the answer, at once");
	close(fd);
	program_end(&program);
}

static void
test_stop(void)
{
	struct program program;
	long took;
	int slow;
	int late;

	program_start(&program, true, 4);
	program_go(&program);
	slow = client_connect();
	client_send(slow, "slow", "600", 3);
	late = client_connect();
	sleep_ms(100);
	took = program_end(&program);
	ok(program.clean && took >= 300 && took < 2000, "stopping waits for a slow callback (%ld ms)", took);
	ok(answered(slow, "\r\n600", 100), "which has been answered");
	ok(closed(slow, 100) && closed(late, 100), "all connections are closed then");
	close(slow);
	close(late);

	program_start(&program, true, 4);
	program_go(&program);
	slow = client_connect();
	client_send(slow, "echo", "arrived", 7);
	program_end(&program);
	late = client_connect();
	ok(late < 0, "nobody listens after the end");
	close(slow);

	program_start(&program, true, 4);
	program_go(&program);
	slow = client_connect();
	client_send(slow, "hold", "", 0);
	sleep_ms(100);
	took = program_end(&program);
	ok(!program.clean && took >= LOOP_STOP_MS - 200 && took < 7000, "it gives up after a while (%ld ms)",
	   took);
	loop_drop(program.held);
	loop_free(program.loop); /* in truth nothing runs any more */
	close(slow);
}

static void
on_watch(void *context, int fd, unsigned events)
{
	struct program *program = context;
	uint64_t value;

	if ((events & EPOLLIN) != 0 && read(fd, &value, sizeof value) == sizeof value)
		atomic_fetch_add(&program->watch_calls, 1);
}

static bool
reaches(atomic_int *counter, int least)
{
	for (long until = now_ms() + WAIT_MS; now_ms() < until; sleep_ms(1))
		if (atomic_load(counter) >= least)
			return true;
	return false;
}

static void
test_watch(void)
{
	struct program program;
	uint64_t one = 1;
	int turns;

	program_start(&program, true, 4);
	program.watched = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop_watch(program.loop, program.watched, EPOLLIN, on_watch, &program);
	program_go(&program);
	ok(write(program.watched, &one, sizeof one) > 0 && reaches(&program.watch_calls, 1),
	   "a watch is called");
	loop_rewatch(program.loop, program.watched, 0);
	turns = atomic_load(&program.turns);
	ok(write(program.watched, &one, sizeof one) > 0, "without events asked for");
	loop_wake(program.loop);
	ok(reaches(&program.turns, turns + 1) && atomic_load(&program.watch_calls) == 1,
	   "it is not; loop_wake makes a turn");
	loop_rewatch(program.loop, program.watched, EPOLLIN);
	ok(reaches(&program.watch_calls, 2), "until they are asked for again");
	loop_unwatch(program.loop, program.watched);
	close(program.watched);
	turns = atomic_load(&program.turns);
	for (int i = 0; i < 1000; i++)
		loop_wake(program.loop);
	ok(reaches(&program.turns, turns + 1), "many wakes make at least one turn");
	program_end(&program);
}

static double
cpu_s(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void
test_idle(void)
{
	struct program program;
	double before;
	int turns;

	program_start(&program, true, 4);
	program_go(&program);
	sleep_ms(100);
	before = cpu_s();
	turns = atomic_load(&program.turns);
	sleep_ms(1000);
	ok(cpu_s() - before < 0.01, "an idle loop uses no processor time (%.4f s)", cpu_s() - before);
	ok(atomic_load(&program.turns) - turns <= 1, "and makes no turns");
	program_end(&program);

	program_start(&program, true, 4);
	program.timeout_ms = 20;
	program_go(&program);
	ok(reaches(&program.turns, 10), "turns come as often as the last one asked for");
	program_end(&program);
}

static void
test_many(void)
{
	enum { COUNT = LOOP_CONNECTIONS_MAX + 50 };
	struct program program;
	int *fds = calloc(COUNT, sizeof *fds);
	int opened = 0;
	int good = 0;

	program_start(&program, true, 4);
	program_go(&program);
	for (int i = 0; i < COUNT; i++) {
		fds[i] = client_connect();
		if (fds[i] >= 0) {
			opened++;
			client_send(fds[i], "echo", "x", 1);
		}
	}
	for (int i = 0; i < LOOP_CONNECTIONS_MAX; i++) {
		good += answered(fds[i], "\r\nx", WAIT_MS);
		close(fds[i]);
	}
	for (int i = LOOP_CONNECTIONS_MAX; i < COUNT; i++) {
		good += answered(fds[i], "\r\nx", WAIT_MS);
		close(fds[i]);
	}
	ok(opened == COUNT && good == COUNT,
	   "more connections than may be open: the rest wait for their turn");
	free(fds);
	program_end(&program);
}

/* Everything at once, to let the sanitizers look. */
static void *
storm_client(void *argument)
{
	unsigned seed = (unsigned)(uintptr_t)argument;
	long good = 0;

	for (int round = 0; round < 30; round++) {
		int fd = client_connect();

		for (int i = 0; fd >= 0 && i < 20; i++) {
			int kind = rand_r(&seed) % 20;

			if (kind == 0) {
				client_send(fd, "slow", "7", 1);
				good += answered(fd, "\r\n7", WAIT_MS);
			} else if (kind == 1) {
				client_send(fd, "slow", "3", 1);
				break;
			} else {
				client_send(fd, "echo", "storm", 5);
				good += answered(fd, "\r\nstorm", WAIT_MS);
			}
			if (kind > 1)
				continue;
		}
		close(fd);
	}
	return (void *)(intptr_t)good;
}

static void
test_storm(void)
{
	enum { CLIENTS = 16 };
	struct program program;
	pthread_t threads[CLIENTS];
	long good = 0;

	program_start(&program, true, 8);
	program_go(&program);
	for (uintptr_t i = 0; i < CLIENTS; i++)
		pthread_create(&threads[i], NULL, storm_client, (void *)(i + 1));
	for (int i = 0; i < CLIENTS; i++) {
		void *result;

		pthread_join(threads[i], &result);
		good += (long)(intptr_t)result;
	}
	ok(good <= atomic_load(&program.served) && good > 1000,
	   "%d clients, slow, fast and vanishing: %ld answers", CLIENTS, good);
	ok(program_end(&program) < 2000 && program.clean, "and the loop stops");
}

/* In a process of its own, which is meant to die. */
static void
test_limit(void)
{
	struct program program;
	long start;
	int status = 0;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		int fd;

		program_start(&program, true, 4);
		loop_set_limit(program.loop, 1);
		program_go(&program);
		fd = client_connect();
		send(fd, "\1\1", 2, MSG_NOSIGNAL); /* libfcgi waits for the rest, which is no callback */
		sleep_ms(2000);
		fd = client_connect();
		client_send(fd, "slow", "600", 3);
		if (!answered(fd, "\r\n600", WAIT_MS))
			_exit(1);
		client_send(fd, "slow", "60000", 5);
		sleep_ms(5000);
		_exit(2);
	}
	start = now_ms();
	while (waitpid(child, &status, WNOHANG) == 0 && now_ms() - start < WAIT_MS)
		sleep_ms(10);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && now_ms() - start < 4900,
	   "a callback that runs too long ends the process, a client that sends too slowly does not");
	kill(child, SIGKILL);
	snprintf(path, sizeof path, "/tmp/test_loop.%d.sock", (int)child);
	unlink(path);
}

int
main(void)
{
	struct rlimit files = {8192, 8192};

	setrlimit(RLIMIT_NOFILE, &files);
	alarm(170);
	test_limit();
	test_sequence(false);
	test_sequence(true);
	test_connections();
	test_sizes();
	test_slow(false);
	test_slow(true);
	test_no_spare();
	test_half();
	test_gone();
	test_no_keep();
	test_watch();
	test_idle();
	test_many();
	test_storm();
	test_stop();
	return done();
}
