/*
 * fanout - how long one delivery takes to reach many sockets, beside a bare loop of send
 *
 *     bench_fanout PORT LINK.SOCK SOCKETS ROUNDS
 *
 * It is the program's end of the link (LINK.SOCK) and all the clients of the nginx at 127.0.0.1:PORT, which must
 * answer connects by an echo program.  In each round one DELIVER of 100 bytes goes to all sockets, and then a
 * process of its own sends as many bytes to as many plain TCP connections, one after the other.  Timed from
 * before the first write until the clients have read all; the same code reads both.
 *
 * Prints one line of JSON: medians in ms, and the median of the ratios within a round.  Exit status 0, or 1 after
 * a line that says what went wrong.  A round that takes longer than 10 s is given up.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "link_message.h"

#define TEXT        100
#define FRAME       (2 + TEXT) /* bytes of a text frame of so many */
#define PATIENCE_MS 10000

static _Noreturn void
die(const char *what)
{
	fprintf(stderr, "fanout: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double
now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void
write_all(int fd, const void *bytes, size_t len)
{
	const char *at = bytes;
	while (len > 0) {
		ssize_t n = write(fd, at, len);
		if (n < 0 && errno != EINTR)
			die("write");
		if (n > 0) {
			at += n;
			len -= (size_t)n;
		}
	}
}

static int
connect_to(int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		die("connect");
	return fd;
}

/* --- readers: both kinds alike --- */

struct readers {
	int epoll;
	int count;
};

static void
readers_add(struct readers *readers, int fd)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = fd};
	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (epoll_ctl(readers->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
	readers->count++;
}

/* Until each has got a frame. */
static void
read_frames(const struct readers *readers)
{
	static char scratch[65536];
	struct epoll_event events[512];
	size_t left = (size_t)readers->count * FRAME;
	while (left > 0) {
		int n = epoll_wait(readers->epoll, events, 512, PATIENCE_MS);
		if (n <= 0)
			die("not all has come");
		for (int i = 0; i < n; i++) {
			ssize_t got = read(events[i].data.fd, scratch, sizeof scratch);
			if (got <= 0 || (size_t)got > left)
				die("a connection ended, or too much came");
			left -= (size_t)got;
		}
	}
}

/* --- nginx's sockets --- */

static void
shake_hands(int fd)
{
	static const char request[] =
		"GET /socket/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
	char answer[1024];
	size_t len = 0;
	write_all(fd, request, sizeof request - 1);
	do {
		ssize_t n = read(fd, answer + len, sizeof answer - 1 - len);
		if (n <= 0)
			die("no answer to the handshake");
		len += (size_t)n;
		answer[len] = '\0';
	} while (!strstr(answer, "\r\n\r\n"));
	if (strncmp(answer, "HTTP/1.1 101", 12) != 0) {
		errno = 0;
		die(answer);
	}
}

struct worker {
	int fd;
	uint8_t in[1 << 20];
	size_t len;
	uint64_t *handles;
	int held;
	uint64_t acked;
};

static void
hear(struct worker *worker, const struct link_message *message)
{
	if (message->type == LINK_HELD)
		worker->handles[worker->held++] = message->handle;
	else if (message->type == LINK_ACK)
		worker->acked = message->batch;
	else if (message->type == LINK_CLOSED)
		die("a socket was closed");
}

static void
hear_once(struct worker *worker)
{
	struct link_message message;
	size_t at = 0;
	long used;
	ssize_t n = read(worker->fd, worker->in + worker->len, sizeof worker->in - worker->len);
	if (n <= 0)
		die("the link ended");
	worker->len += (size_t)n;
	while ((used = link_decode(worker->in + at, worker->len - at, &message)) > 0) {
		hear(worker, &message);
		at += (size_t)used;
	}
	worker->len -= at;
	memmove(worker->in, worker->in + at, worker->len);
}

static int
accept_link(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	unlink(path);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 8) < 0)
		die(path);
	int fd = accept(listener, NULL, NULL);
	if (fd < 0)
		die("accept");
	close(listener);
	return fd;
}

static size_t
encode_delivery(uint8_t *out, const struct worker *worker, uint64_t batch)
{
	uint8_t text[TEXT];
	struct link_message message = {.type = LINK_DELIVER,
	                               .batch = batch,
	                               .opcode = LINK_TEXT,
	                               .target_count = (uint32_t)worker->held,
	                               .body_len = TEXT};
	memset(text, 'x', sizeof text);
	uint8_t *at = out + link_encode(out, &message);
	for (int i = 0; i < worker->held; i++, at += LINK_TARGET_SIZE)
		link_target_write(at, (struct link_target){worker->handles[i], batch - 1, batch});
	memcpy(at, text, TEXT);
	return (size_t)(at - out) + TEXT;
}

/* --- the bare loop --- */

struct bare {
	pid_t pid;
	int go; /* a byte: send to all */
};

static void
send_rounds(int listener, int sockets, int go)
{
	static const char frame[FRAME];
	int *fds = calloc((size_t)sockets, sizeof *fds), on = 1;
	char byte;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < sockets; i++) {
		fds[i] = accept(listener, NULL, NULL);
		setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	}
	while (read(go, &byte, 1) == 1)
		for (int i = 0; i < sockets; i++)
			if (send(fds[i], frame, sizeof frame, MSG_NOSIGNAL) != sizeof frame)
				exit(1);
	exit(0);
}

static struct bare
start_bare(struct readers *readers, int sockets)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM, 0), go[2];
	struct bare bare;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&address, len) < 0 || listen(listener, 4096) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &len) < 0 || pipe(go) < 0)
		die("bare");
	bare.pid = fork();
	if (bare.pid == 0) {
		close(go[1]);
		send_rounds(listener, sockets, go[0]);
	}
	close(go[0]);
	bare.go = go[1];
	for (int i = 0; i < sockets; i++)
		readers_add(readers, connect_to(ntohs(address.sin_port)));
	close(listener);
	return bare;
}

/* --- */

static int
by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double
median(double *list, int n)
{
	qsort(list, (size_t)n, sizeof *list, by_size);
	return n % 2 ? list[n / 2] : (list[n / 2 - 1] + list[n / 2]) / 2;
}

int
main(int argc, char **argv)
{
	static struct worker worker;
	struct rlimit limit;
	if (argc != 5)
		return 2;
	int port = atoi(argv[1]), sockets = atoi(argv[3]), rounds = atoi(argv[4]);
	if (sockets < 1 || sockets > 10000 || rounds < 1 || rounds > 1000)
		return 2;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	struct readers held = {.epoll = epoll_create1(0)}, plain = {.epoll = epoll_create1(0)};
	double *module = calloc((size_t)rounds, sizeof *module),
		   *bare = calloc((size_t)rounds, sizeof *bare), *ratio = calloc((size_t)rounds, sizeof *ratio);
	uint8_t *delivery = malloc((size_t)sockets * LINK_TARGET_SIZE + 1024);
	worker.handles = calloc((size_t)sockets, sizeof *worker.handles);
	worker.fd = accept_link(argv[2]);
	for (int i = 0; i < sockets; i++) {
		int fd = connect_to(port);
		shake_hands(fd);
		readers_add(&held, fd);
	}
	while (worker.held < sockets)
		hear_once(&worker);
	struct bare process = start_bare(&plain, sockets);
	for (int i = -2; i < rounds; i++) { /* two to warm up */
		uint64_t batch = (uint64_t)i + 3;
		size_t len = encode_delivery(delivery, &worker, batch);
		double t0 = now_ms();
		write_all(worker.fd, delivery, len);
		read_frames(&held);
		double t1 = now_ms();
		while (worker.acked < batch)
			hear_once(&worker);
		double t2 = now_ms();
		write_all(process.go, "", 1);
		read_frames(&plain);
		double t3 = now_ms();
		if (i < 0)
			continue;
		module[i] = t1 - t0;
		bare[i] = t3 - t2;
		ratio[i] = module[i] / bare[i];
	}
	close(process.go);
	waitpid(process.pid, NULL, 0);
	printf("{\"sockets\":%d,\"module_ms\":%.2f,\"bare_ms\":%.2f,\"ratio\":%.2f}\n", sockets,
	       median(module, rounds), median(bare, rounds), median(ratio, rounds));
	return 0;
}
