/*
 * load - WebSocket clients under load, in one thread: events per second and how long each took
 *
 *     bench_load --port=8080 --what=counter --sockets=64 --flight=1 --warm=0.5 --seconds=2
 *
 * --what      echo: frames as a counter's event, to a program that sends each message back;
 *             counter: private counters, the event inc; keyed: the same, each event with a key of its own;
 *             biglist: the event toggle in a shared list.
 * --sockets   Clients, each on a socket and in one topic of its own, or of --topics.
 * --flight    Events of a socket that may wait for their answer; by default each is answered before its next.
 * --items     Of a list (biglist).
 * --topics    How many there are (biglist); sockets of one topic toggle items of their own.
 * --nginx     A process, for nginx_us: its processor time in microseconds, divided by the events; --program too.
 *
 * It connects to 127.0.0.1 only, joins with all sockets, one after the other, then lets all send at once.  What is
 * answered in the warm-up is not counted.  At the end what is in flight may still be answered.
 *
 * Every frame is looked at: a patch must have the version that follows the last one (1000 is followed by 0), and
 * there must be nothing but patches.  A socket that breaks such a rule, or whose connection ends, takes no
 * further part; one whose event has no answer at the end is stalled.
 *
 * Prints one line of JSON; exit status 0 when every socket did well, 1 when one did not or nothing was
 * answered, 2 for a wrong argument.  Ends by itself soon after the seconds asked for.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_VERSION  1000
#define FLIGHT_MAX   64 /* so few and small frames always fit into a connection's buffer */
#define SOCKETS_MAX  20000
#define FRAME_MAX    (64u << 20)
#define OPEN_SECONDS 30.0 /* for one socket's handshake and join */
#define LEFT_SECONDS 3.0  /* for the last answers */
#define TEXT_MAX     256  /* of a frame to send */

enum what { ECHO, COUNTER, BIGLIST, KEYED };

static const char *const what_names[] = {"echo", "counter", "biglist", "keyed"};

struct client {
	int fd;
	int number;
	bool gone;
	char topic[48];
	char own_path[32];   /* of the item that this client toggles */
	char topic_text[64]; /* the topic as it stands in a frame */
	char *in;            /* owned: bytes received, from in_start to in_end */
	size_t in_start, in_end, in_size;
	int64_t version; /* the last seen; -1 before the first */
	unsigned ref;
	double sent_at[FLIGHT_MAX]; /* a ring: event n at n % FLIGHT_MAX */
	uint64_t sent, answered;
};

static struct {
	enum what what;
	int port, sockets, flight, items, topics;
	int nginx, program; /* pids whose processor time is told, or 0 */
	double warm, seconds;
} options = {.port = 8080, .sockets = 64, .flight = 1, .items = 10, .warm = 0.5, .seconds = 2};

static struct {
	bool counting, sending;
	float *latencies; /* owned: ms of each event counted */
	size_t events, latencies_size;
	uint64_t patches;            /* while counting; those of others' events too */
	double nginx_us, program_us; /* processor time while counting */
	int closed, wrong, stalled;
} result;

static int epoll_fd;

static double
now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void *
must(void *memory)
{
	if (memory == NULL) {
		fprintf(stderr, "load: no memory\n");
		exit(1);
	}
	return memory;
}

/* gone - this client takes no further part; the first reasons are said */
__attribute__((format(printf, 3, 4))) static void
gone(struct client *client, int *count, const char *format, ...)
{
	va_list arguments;

	if (++*count <= 3) {
		fprintf(stderr, "load: socket %d: ", client->number);
		va_start(arguments, format);
		vfprintf(stderr, format, arguments);
		va_end(arguments);
		fputc('\n', stderr);
	}
	client->gone = true;
	close(client->fd);
}

/* --- frames: the client's side of RFC 6455 ------------------------------------------------------- */

/* send_text - one masked text frame; len is at most TEXT_MAX, so it is taken whole or the connection is broken */
static bool
send_text(const struct client *client, const char *text, size_t len)
{
	static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	uint8_t frame[8 + TEXT_MAX];
	size_t at = 0;

	frame[at++] = 0x81;
	if (len < 126) {
		frame[at++] = (uint8_t)(0x80 | len);
	} else {
		frame[at++] = 0x80 | 126;
		frame[at++] = (uint8_t)(len >> 8);
		frame[at++] = (uint8_t)len;
	}
	memcpy(frame + at, mask, sizeof mask);
	at += sizeof mask;
	for (size_t i = 0; i < len; i++)
		frame[at + i] = (uint8_t)text[i] ^ mask[i % 4];
	return send(client->fd, frame, at + len, MSG_NOSIGNAL) == (ssize_t)(at + len);
}

/*
 * next_frame - the next whole frame of what was received
 *
 * text, len  out: its payload, borrowed until more is received.
 * Returns    Its opcode, with the FIN bit; 0 when there is none yet.
 */
static int
next_frame(struct client *client, const char **text, size_t *len)
{
	const uint8_t *in = (const uint8_t *)client->in + client->in_start;
	size_t have = client->in_end - client->in_start;
	size_t head = 2, size;

	if (have < 2)
		return 0;
	size = in[1];
	if (size >= 126) {
		size_t bytes = size == 126 ? 2 : 8;

		head += bytes;
		if (have < head)
			return 0;
		size = 0;
		for (size_t i = 0; i < bytes; i++)
			size = size << 8 | in[2 + i];
	}
	if (size > FRAME_MAX || have - head < size)
		return 0;
	*text = (const char *)in + head;
	*len = size;
	client->in_start += head + size;
	return in[0];
}

/* receive - what there is, once; false when the connection has ended */
static bool
receive(struct client *client)
{
	ssize_t got;

	if (client->in_start > 0) {
		memmove(client->in, client->in + client->in_start, client->in_end - client->in_start);
		client->in_end -= client->in_start;
		client->in_start = 0;
	}
	if (client->in_end == client->in_size) {
		client->in_size = client->in_size == 0 ? 4096 : client->in_size * 2;
		client->in = must(realloc(client->in, client->in_size));
	}
	got = recv(client->fd, client->in + client->in_end, client->in_size - client->in_end, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (got <= 0)
		return false;
	client->in_end += (size_t)got;
	return true;
}

/* --- what is sent, what comes ---------------------------------------------------------------------- */

static void
send_event(struct client *client, double at)
{
	char text[TEXT_MAX];
	int len;

	if (options.what == BIGLIST)
		len = snprintf(text, sizeof text, "[\"1\",\"%u\",\"%s\",\"seance:event:toggle\",{\"i\":%d}]",
		               ++client->ref, client->topic, client->number / options.topics % options.items);
	else if (options.what == KEYED) {
		++client->ref;
		len = snprintf(
			text, sizeof text,
			"[\"1\",\"%u\",\"%s\",\"seance:event\",{\"type\":\"inc\",\"payload\":{},\"key\":\"%d-%u\"}]",
			client->ref, client->topic, client->number, client->ref);
	} else
		len = snprintf(text, sizeof text, "[\"1\",\"%u\",\"%s\",\"seance:event:inc\",{}]", ++client->ref,
		               client->topic);
	client->sent_at[client->sent++ % FLIGHT_MAX] = at;
	if (!send_text(client, text, (size_t)len))
		gone(client, &result.closed, "cannot send: %s", strerror(errno));
}

static void
answered(struct client *client, double at)
{
	if (client->answered == client->sent) {
		gone(client, &result.wrong, "an answer to nothing");
		return;
	}
	if (result.counting) {
		if (result.events == result.latencies_size) {
			result.latencies_size = result.latencies_size == 0 ? 1 << 16 : result.latencies_size * 2;
			result.latencies = must(realloc(result.latencies, result.latencies_size * sizeof(float)));
		}
		result.latencies[result.events++] =
			(float)((at - client->sent_at[client->answered % FLIGHT_MAX]) * 1000);
	}
	client->answered++;
	if (result.sending)
		send_event(client, at);
}

/* version_of - the number at the end of a frame that ends with "version":N}]; -1 when it does not */
static int64_t
version_of(const char *text, size_t len)
{
	static const char name[] = "\"version\":";
	size_t at = len, name_len = sizeof name - 1;

	if (len < 2 || memcmp(text + len - 2, "}]", 2) != 0)
		return -1;
	at -= 2;
	while (at > 0 && text[at - 1] >= '0' && text[at - 1] <= '9')
		at--;
	if (at == len - 2 || at < name_len || memcmp(text + at - name_len, name, name_len) != 0)
		return -1;
	return strtoll(text + at, NULL, 10);
}

/* event_is - whether a frame has this event, and is for the client's join or for all of its topic */
static bool
event_is(const struct client *client, const char *text, size_t len, const char *event)
{
	const char *refs = len > 1 && text[1] == 'n' ? "[null,null," : "[\"1\",null,";
	const char *const parts[] = {refs, client->topic_text, event};

	for (size_t i = 0; i < 3; i++) {
		size_t part_len = strlen(parts[i]);

		if (len < part_len || memcmp(text, parts[i], part_len) != 0)
			return false;
		text += part_len;
		len -= part_len;
	}
	return true;
}

static void
got_text(struct client *client, const char *text, size_t len, double at)
{
	int64_t version;

	if (options.what == ECHO) {
		answered(client, at);
		return;
	}
	version = version_of(text, len);
	if (!event_is(client, text, len, "\"seance:patch\",") || version < 0) {
		gone(client, &result.wrong, "not a patch: %.*s", (int)(len < 200 ? len : 200), text);
		return;
	}
	if (version != (client->version == MAX_VERSION ? 0 : client->version + 1)) {
		gone(client, &result.wrong, "version %" PRId64 " after %" PRId64, version, client->version);
		return;
	}
	client->version = version;
	result.patches += result.counting;
	if (options.topics == options.sockets ||
	    memmem(text, len, client->own_path, strlen(client->own_path)) != NULL)
		answered(client, at);
}

static void
readable(struct client *client)
{
	const char *text;
	size_t len;
	int opcode;
	double at;

	if (!receive(client)) {
		gone(client, &result.closed, "closed");
		return;
	}
	at = now();
	while (!client->gone && (opcode = next_frame(client, &text, &len)) != 0)
		if (opcode == 0x81)
			got_text(client, text, len, at);
		else
			gone(client, opcode == 0x88 ? &result.closed : &result.wrong, "a frame %#x",
			     (unsigned)opcode);
}

/* --- begin: one socket after the other, waiting for each answer --------------------------------- */

static bool
connected(struct client *client)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
	struct timeval limit = {.tv_sec = (time_t)OPEN_SECONDS};
	int on = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return client->fd >= 0 && setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
	       setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
	       connect(client->fd, (struct sockaddr *)&address, sizeof address) == 0;
}

static bool
shook_hands(struct client *client)
{
	static const char request[] =
		"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
		"Connection: Upgrade\r\nUpgrade: websocket\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
	double limit = now() + OPEN_SECONDS;
	const char *end;

	if (send(client->fd, request, sizeof request - 1, MSG_NOSIGNAL) != (ssize_t)sizeof request - 1)
		return false;
	do {
		if (now() > limit || !receive(client))
			return false;
		end = memmem(client->in, client->in_end, "\r\n\r\n", 4);
	} while (end == NULL);
	client->in_start = (size_t)(end + 4 - client->in);
	return memcmp(client->in, "HTTP/1.1 101 ", 13) == 0;
}

static bool
joined(struct client *client)
{
	double limit = now() + OPEN_SECONDS;
	char join[TEXT_MAX];
	const char *text;
	size_t len;
	int join_len = snprintf(join, sizeof join, "[\"1\",\"1\",\"%s\",\"phx_join\",{\"n\":%d}]",
	                        client->topic, options.items);

	client->ref = 1;
	if (!send_text(client, join, (size_t)join_len))
		return false;
	while (client->version < 0) {
		while (client->version < 0 && next_frame(client, &text, &len) == 0x81)
			if (event_is(client, text, len, "\"seance:change\","))
				client->version = version_of(text, len);
		if (client->version < 0 && (now() > limit || !receive(client)))
			return false;
	}
	return true;
}

static bool
opened(struct client *client, int number)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};

	client->number = number;
	client->version = -1;
	if (options.what == BIGLIST)
		snprintf(client->topic, sizeof client->topic, "biglist:%d-%d-%d", options.items, options.topics,
		         number % options.topics);
	else
		snprintf(client->topic, sizeof client->topic, "counter:%d", number);
	snprintf(client->own_path, sizeof client->own_path, "\"/items/%d/done\"",
	         number / options.topics % options.items);
	snprintf(client->topic_text, sizeof client->topic_text, "\"%s\",", client->topic);
	if (!connected(client) || !shook_hands(client) || (options.what != ECHO && !joined(client)))
		return false;
	return fcntl(client->fd, F_SETFL, O_NONBLOCK) == 0 &&
	       epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->fd, &event) == 0;
}

/* --- the run ------------------------------------------------------------------------------------ */

/* cpu_us - the processor time of a process so far, in microseconds; 0 for no process */
static double
cpu_us(int pid)
{
	struct timespec at = {0};
	clockid_t clock;

	if (pid == 0 || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &at) != 0)
		return 0;
	return (double)at.tv_sec * 1e6 + (double)at.tv_nsec / 1e3;
}

/* serve - whatever comes, until then */
static void
serve(double until, const struct client *clients)
{
	struct epoll_event events[256];

	for (double left; (left = until - now()) > 0;) {
		int count = epoll_wait(epoll_fd, events, 256, (int)(left * 1000) + 1);

		for (int i = 0; i < count; i++)
			if (!((struct client *)events[i].data.ptr)->gone)
				readable(events[i].data.ptr);
		if (clients != NULL) {
			int waiting = 0;

			for (int i = 0; i < options.sockets; i++)
				waiting += !clients[i].gone && clients[i].answered < clients[i].sent;
			if (waiting == 0)
				return;
		}
	}
}

static int
by_size(const void *a, const void *b)
{
	float left = *(const float *)a, right = *(const float *)b;

	return (left > right) - (left < right);
}

static double
percentile(double part)
{
	if (result.events == 0)
		return 0;
	return (double)result.latencies[(size_t)(part * (double)(result.events - 1))];
}

static int
report(const struct client *clients, double seconds)
{
	double events = result.events > 0 ? (double)result.events : 1;

	for (int i = 0; i < options.sockets; i++)
		result.stalled += !clients[i].gone && clients[i].answered < clients[i].sent;
	if (result.events > 0)
		qsort(result.latencies, result.events, sizeof(float), by_size);
	printf("{\"what\":\"%s\",\"sockets\":%d,\"flight\":%d,\"seconds\":%.3f,\"events\":%zu,\"rate\":%.1f,"
	       "\"p50\":%.3f,\"p99\":%.3f,\"nginx_us\":%.2f,\"program_us\":%.2f,\"patches\":%" PRIu64
	       ",\"closed\":%d,\"stalled\":%d,\"wrong\":%d}\n",
	       what_names[options.what], options.sockets, options.flight, seconds, result.events,
	       (double)result.events / seconds, percentile(0.5), percentile(0.99), result.nginx_us / events,
	       result.program_us / events, result.patches, result.closed, result.stalled, result.wrong);
	return result.events > 0 && result.closed + result.stalled + result.wrong == 0 ? 0 : 1;
}

static int
run(struct client *clients)
{
	double begin, end;

	for (int i = 0; i < options.sockets; i++)
		if (!opened(&clients[i], i)) {
			fprintf(stderr, "load: socket %d cannot %s: %s\n", i,
			        options.what == ECHO ? "connect" : "connect and join", strerror(errno));
			return 1;
		}
	result.sending = true;
	for (int n = 0; n < options.flight; n++)
		for (int i = 0; i < options.sockets; i++)
			if (!clients[i].gone)
				send_event(&clients[i], now());
	serve(now() + options.warm, NULL);
	result.counting = true;
	result.nginx_us = -cpu_us(options.nginx);
	result.program_us = -cpu_us(options.program);
	begin = now();
	serve(begin + options.seconds, NULL);
	end = now();
	result.nginx_us += cpu_us(options.nginx);
	result.program_us += cpu_us(options.program);
	result.counting = result.sending = false;
	serve(end + LEFT_SECONDS, clients);
	return report(clients, end - begin);
}

/* --- arguments ---------------------------------------------------------------------------------- */

static bool
read_int(const char *text, int least, int most, int *value)
{
	char *end;
	long number = strtol(text, &end, 10);

	*value = (int)number;
	return end != text && *end == '\0' && number >= least && number <= most;
}

static bool
read_seconds(const char *text, double *value)
{
	char *end;

	*value = strtod(text, &end);
	return end != text && *end == '\0' && *value > 0 && *value <= 600;
}

static bool
read_what(const char *text)
{
	for (int i = ECHO; i <= KEYED; i++)
		if (strcmp(text, what_names[i]) == 0) {
			options.what = (enum what)i;
			return true;
		}
	return false;
}

static bool
read_option(int option, const char *text)
{
	switch (option) {
	case 'p':
		return read_int(text, 1, 65535, &options.port);
	case 'k':
		return read_what(text);
	case 'n':
		return read_int(text, 1, SOCKETS_MAX, &options.sockets);
	case 'f':
		return read_int(text, 1, FLIGHT_MAX, &options.flight);
	case 'i':
		return read_int(text, 1, 1000000, &options.items);
	case 't':
		return read_int(text, 1, SOCKETS_MAX, &options.topics);
	case 'N':
		return read_int(text, 0, INT32_MAX, &options.nginx);
	case 'P':
		return read_int(text, 0, INT32_MAX, &options.program);
	case 'w':
		return read_seconds(text, &options.warm);
	case 's':
		return read_seconds(text, &options.seconds);
	default:
		return false;
	}
}

static bool
read_options(int argc, char **argv)
{
	static const struct option names[] = {
		{"port", required_argument, NULL, 'p'},
		{"what", required_argument, NULL, 'k'},
		{"sockets", required_argument, NULL, 'n'},
		{"flight", required_argument, NULL, 'f'},
		{"items", required_argument, NULL, 'i'},
		{"topics", required_argument, NULL, 't'},
		{"nginx", required_argument, NULL, 'N'},
		{"program", required_argument, NULL, 'P'},
		{"warm", required_argument, NULL, 'w'},
		{"seconds", required_argument, NULL, 's'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1)
		if (!read_option(option, optarg))
			return false;
	if (options.what != BIGLIST || options.topics == 0 || options.topics > options.sockets)
		options.topics = options.sockets;
	return optind == argc;
}

int
main(int argc, char **argv)
{
	struct client *clients;
	int status;

	if (!read_options(argc, argv)) {
		fprintf(
			stderr,
			"usage: bench_load --port=N --what=echo|counter|keyed|biglist --sockets=N --flight=N --items=N "
			"--topics=N --nginx=PID --program=PID --warm=SECONDS --seconds=SECONDS\n");
		return 2;
	}
	alarm((unsigned)(options.warm + options.seconds + LEFT_SECONDS + 2 * OPEN_SECONDS));
	clients = must(calloc((size_t)options.sockets, sizeof *clients));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	status = epoll_fd < 0 ? 1 : run(clients);
	for (int i = 0; i < options.sockets; i++)
		free(clients[i].in);
	free(clients);
	free(result.latencies);
	return status;
}
