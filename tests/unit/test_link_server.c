/*
 * The program's end of the links, with a worker made by hand at the other end.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "link_server.h"
#include "tap.h"
#include "wait_time.h"

#define WAIT_MS 5000
#define OUT_MAX (8u << 20)

static char path[108];

/* --- the program --- */

static struct {
	struct loop *loop;
	struct link_server *server;
	int program_fd;
	int link_fd;
	pthread_t thread;
	pthread_mutex_t lock;
	atomic_bool started;
	struct link *last;           /* that has said hello */
	int types[256];              /* messages seen, by type */
	struct link_message message; /* the last one */
	char id[LINK_ID_MAX + 1];
	int gone;
	bool flush; /* in each turn */
	struct link *deliver_in_message;
} program;

static void
take_lock(void *context)
{
	(void)context;
	pthread_mutex_lock(&program.lock);
}

static void
give_lock(void *context)
{
	(void)context;
	pthread_mutex_unlock(&program.lock);
}

static void
on_message(void *context, struct link *link, const struct link_message *message)
{
	(void)context;
	program.types[message->type]++;
	program.message = *message;
	if (message->id_len > 0)
		memcpy(program.id, message->id, message->id_len);
	program.id[message->id_len] = '\0';
	if (message->type == LINK_HELLO)
		program.last = link;
	if (message->type == LINK_BEHIND) {
		/* More than it takes: cut while it is being handled. */
		char *body = calloc(1, OUT_MAX);

		link_deliver(link, LINK_TEXT, NULL, 0, body, OUT_MAX, 1);
		link_deliver(link, LINK_TEXT, NULL, 0, body, 10, 1);
		link_close(link, 1, 1000, "bye");
		free(body);
	}
}

static void
on_gone(void *context, struct link *link)
{
	(void)context;
	program.gone++;
	if (program.last == link)
		program.last = NULL;
}

static void
on_request(void *context, struct loop_request *request)
{
	(void)context;
	loop_drop(request);
}

static int
on_turn(void *context)
{
	(void)context;
	pthread_mutex_lock(&program.lock);
	if (program.flush)
		link_server_flush(program.server);
	pthread_mutex_unlock(&program.lock);
	return -1;
}

static int
listen_at(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, name);
	unlink(name);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 64) != 0)
		abort();
	return fd;
}

static void *
program_main(void *unused)
{
	(void)unused;
	loop_run(program.loop);
	return NULL;
}

static void
program_start(void)
{
	const struct loop_handler handler = {.request = on_request, .turn = on_turn};
	const struct link_handler links = {
		.lock = take_lock,
		.unlock = give_lock,
		.message = on_message,
		.gone = on_gone,
	};
	char unused[120];

	memset(&program, 0, sizeof program);
	pthread_mutex_init(&program.lock, NULL);
	program.flush = true;
	snprintf(path, sizeof path, "/tmp/test_link.%d.sock", (int)getpid());
	snprintf(unused, sizeof unused, "/tmp/test_l2.%d.sock", (int)getpid());
	program.program_fd = listen_at(unused);
	unlink(unused);
	program.link_fd = listen_at(path);
	program.loop = loop_new(program.program_fd, &handler, 1000, 2);
	program.server = link_server_new(program.loop, program.link_fd, OUT_MAX, &links);
	pthread_create(&program.thread, NULL, program_main, NULL);
}

static void
program_end(int timeout_ms)
{
	loop_stop(program.loop);
	pthread_join(program.thread, NULL);
	link_server_free(program.server, timeout_ms);
	loop_free(program.loop);
	close(program.program_fd);
	close(program.link_fd);
	unlink(path);
}

/* Waits until *value is at least `least`. */
static bool
reaches(const int *value, int least)
{
	bool reached = false;

	for (long until = now_ms() + WAIT_MS; !reached && now_ms() < until; sleep_ms(1)) {
		pthread_mutex_lock(&program.lock);
		reached = *value >= least;
		pthread_mutex_unlock(&program.lock);
	}
	return reached;
}

/* --- the worker --- */

static int
worker_connect(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval wait = {.tv_sec = WAIT_MS / 1000};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
		abort();
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	return fd;
}

static void
worker_send(int fd, const struct link_message *message)
{
	uint8_t out[512];
	size_t len = link_encode(out, message);

	if (send(fd, out, len, MSG_NOSIGNAL) != (ssize_t)len)
		printf("# not sent\n");
}

static void
say_hello(int fd)
{
	const struct link_message hello = {
		.type = LINK_HELLO,
		.version = LINK_VERSION,
		.tag = 42,
		.deadline_ms = 30000,
	};

	worker_send(fd, &hello);
}

/* The next message of the stream; buf holds it. */
static bool
worker_receive(int fd, uint8_t *buf, size_t size, struct link_message *message)
{
	size_t len;

	if (recv(fd, buf, 4, MSG_WAITALL) != 4 || (len = link_wanted(buf, 4)) > size)
		return false;
	return recv(fd, buf + 4, len - 4, MSG_WAITALL) == (ssize_t)len - 4 &&
	       link_decode(buf, len, message) == (long)len;
}

static bool
closed(int fd)
{
	struct pollfd in = {.fd = fd, .events = POLLIN};
	char bytes[65536];

	while (poll(&in, 1, WAIT_MS) == 1)
		if (recv(fd, bytes, sizeof bytes, 0) <= 0)
			return true;
	return false;
}

/* --- tests --- */

static void
test_messages(void)
{
	const struct link_message held = {
		.type = LINK_HELD,
		.handle = 7,
		.kind = LINK_WEBSOCKET,
		.position = 5,
		.answered = 3,
		.id = (const uint8_t *)"abc",
		.id_len = 3,
	};
	const struct link_message end = {.type = LINK_HELLO_END};
	uint8_t bytes[256];
	size_t len;
	int fd;

	program_start();
	fd = worker_connect();
	say_hello(fd);
	ok(reaches(&program.types[LINK_HELLO], 1) && program.message.tag == 42, "HELLO is handed on");
	worker_send(fd, &held);
	worker_send(fd, &end);
	ok(reaches(&program.types[LINK_HELLO_END], 1) && program.types[LINK_HELD] == 1 &&
	       strcmp(program.id, "") == 0,
	   "HELD and HELLO_END");
	len = link_encode(bytes, &held);
	for (size_t i = 0; i < len; i++) {
		send(fd, bytes + i, 1, MSG_NOSIGNAL);
		sleep_ms(1);
	}
	ok(reaches(&program.types[LINK_HELD], 2) && strcmp(program.id, "abc") == 0 &&
	       program.message.position == 5,
	   "a message byte by byte");
	for (int i = 0; i < 20000; i++)
		send(fd, bytes, len, MSG_NOSIGNAL);
	ok(reaches(&program.types[LINK_HELD], 20002), "20,000 messages");
	close(fd);
	ok(reaches(&program.gone, 1), "the end is told");
	program_end(0);
}

static void
test_deliver(void)
{
	static uint8_t buf[4 << 20];
	const struct link_target targets[2] = {{1, 10, 11}, {2, 8, 11}};
	struct link_message ack = {.type = LINK_ACK, .batch = 2};
	struct link_message got;
	char *big = malloc(3 << 20);
	int fd;

	memset(big, 'z', 3 << 20);
	program_start();
	fd = worker_connect();
	say_hello(fd);
	reaches(&program.types[LINK_HELLO], 1);
	pthread_mutex_lock(&program.lock);
	ok(link_floor(program.last) == INT64_MAX, "nothing is unacknowledged at first");
	link_deliver(program.last, LINK_TEXT, targets, 2, "hello", 5, 10);
	link_deliver(program.last, LINK_EVENTS, targets, 1, big, 3 << 20, 4);
	link_close(program.last, 9, 1013, "too slow");
	link_deliver(program.last, LINK_TEXT, targets, 1, "", 0, 12);
	ok(link_floor(program.last) == 4, "the floor is the lowest of all");
	pthread_mutex_unlock(&program.lock);
	loop_wake(program.loop);
	ok(worker_receive(fd, buf, sizeof buf, &got) && got.type == LINK_DELIVER && got.batch == 1 &&
	       got.opcode == LINK_TEXT && got.target_count == 2 && link_target_at(&got, 1).after == 8 &&
	       got.body_len == 5 && memcmp(got.body, "hello", 5) == 0,
	   "a delivery");
	sleep_ms(50);
	ok(worker_receive(fd, buf, sizeof buf, &got) && got.batch == 2 && got.opcode == LINK_EVENTS &&
	       got.body_len == 3 << 20 && memcmp(got.body, big, 3 << 20) == 0,
	   "one larger than the socket's buffer");
	ok(worker_receive(fd, buf, sizeof buf, &got) && got.type == LINK_CLOSE && got.batch == 3 &&
	       got.handle == 9 && got.code == 1013 && got.reason_len == 8,
	   "a close");
	ok(worker_receive(fd, buf, sizeof buf, &got) && got.batch == 4 && got.body_len == 0,
	   "an empty body");
	worker_send(fd, &ack);
	say_hello(fd); /* to see that the acknowledgement has been read: the link is cut by it */
	ok(reaches(&program.gone, 1), "a second HELLO cuts the link");
	close(fd);

	fd = worker_connect();
	say_hello(fd);
	reaches(&program.types[LINK_HELLO], 2);
	pthread_mutex_lock(&program.lock);
	for (int i = 0; i < 5000; i++)
		link_deliver(program.last, LINK_TEXT, targets, 1, "x", 1, 100 + i);
	pthread_mutex_unlock(&program.lock);
	ack.batch = 1000;
	worker_send(fd, &ack);
	worker_send(fd, &(struct link_message){.type = LINK_DRAINED, .handle = 1});
	reaches(&program.types[LINK_DRAINED], 1);
	pthread_mutex_lock(&program.lock);
	ok(link_floor(program.last) == 1100, "acknowledged up to a batch");
	pthread_mutex_unlock(&program.lock);
	ack.batch = 4999;
	worker_send(fd, &ack);
	worker_send(fd, &(struct link_message){.type = LINK_DRAINED, .handle = 1});
	reaches(&program.types[LINK_DRAINED], 2);
	pthread_mutex_lock(&program.lock);
	ok(link_floor(program.last) > 1100 && link_floor(program.last) <= 5099,
	   "past the ring's size the floor is never too high");
	pthread_mutex_unlock(&program.lock);
	ack.batch = 5000;
	worker_send(fd, &ack);
	worker_send(fd, &(struct link_message){.type = LINK_DRAINED, .handle = 1});
	reaches(&program.types[LINK_DRAINED], 3);
	pthread_mutex_lock(&program.lock);
	ok(link_floor(program.last) == INT64_MAX, "all acknowledged");
	pthread_mutex_unlock(&program.lock);
	close(fd);
	free(big);
	program_end(0);
}

static void
bad_link(const char *name, const void *bytes, size_t len, bool greet)
{
	int gone = program.gone;
	int fd = worker_connect();

	if (greet)
		say_hello(fd);
	send(fd, bytes, len, MSG_NOSIGNAL);
	ok(closed(fd), "cut: %s", name);
	if (greet)
		ok(reaches(&program.gone, gone + 1), "and told");
	close(fd);
}

static void
test_bad(void)
{
	uint8_t bytes[512];
	size_t len;
	int fd;

	program_start();
	len = link_encode(bytes, &(struct link_message){.type = LINK_HELLO_END});
	bad_link("no HELLO first", bytes, len, false);
	len = link_encode(bytes, &(struct link_message){.type = LINK_HELLO, .version = LINK_VERSION + 1});
	bad_link("another version", bytes, len, false);
	len = link_encode(bytes, &(struct link_message){.type = LINK_CLOSE, .batch = 1});
	bad_link("the wrong direction", bytes, len, true);
	len = link_encode(bytes, &(struct link_message){.type = LINK_ACK, .batch = 1});
	bad_link("an acknowledgement of what was not sent", bytes, len, true);
	bad_link("no link message", "GET / HTTP/1.1\r\n\r\n", 18, true);
	bad_link("too long", "\0\1\0\0\1", 5, true);
	bad_link("of unknown type", "\0\0\0\1\77", 5, true);
	ok(program.types[LINK_HELLO] == 5 && program.types[LINK_ACK] == 0, "nothing of that is handed on");

	fd = worker_connect();
	say_hello(fd);
	worker_send(fd, &(struct link_message){.type = LINK_BEHIND, .handle = 1});
	ok(closed(fd), "cut while a message of it is handled, by what that sends");
	ok(reaches(&program.gone, 6), "and told");
	close(fd);

	fd = worker_connect();
	say_hello(fd);
	ok(reaches(&program.types[LINK_HELLO], 7), "the next link is welcome");
	close(fd);
	program_end(0);
}

static void
test_full(void)
{
	static char body[1 << 20];
	struct link *link;
	int fd;

	program_start();
	fd = worker_connect();
	say_hello(fd);
	reaches(&program.types[LINK_HELLO], 1);
	pthread_mutex_lock(&program.lock);
	link = program.last;
	for (int i = 0; i < 20;
	     i++) /* by a thread that is not the loop's; link stays valid under the lock */
		link_deliver(link, LINK_TEXT, NULL, 0, body, sizeof body, i);
	ok(link_floor(link) == 0, "a link that has been cut may still be asked");
	pthread_mutex_unlock(&program.lock);
	ok(reaches(&program.gone, 1), "who does not read is cut when too much waits");
	close(fd);
	program_end(0);
}

static void
test_end(void)
{
	static uint8_t buf[2 << 20];
	static char body[1 << 20];
	struct link_message got;
	int gone;
	int fd;

	program_start();
	pthread_mutex_lock(&program.lock);
	program.flush = false;
	pthread_mutex_unlock(&program.lock);
	fd = worker_connect();
	say_hello(fd);
	reaches(&program.types[LINK_HELLO], 1);
	pthread_mutex_lock(&program.lock);
	link_deliver(program.last, LINK_TEXT, NULL, 0, "last", 4, 1);
	pthread_mutex_unlock(&program.lock);
	program_end(1000);
	gone = program.gone;
	ok(worker_receive(fd, buf, sizeof buf, &got) && got.body_len == 4 && closed(fd) && gone == 1,
	   "what is queued at the end is sent");
	close(fd);

	program_start();
	fd = worker_connect();
	say_hello(fd);
	reaches(&program.types[LINK_HELLO], 1);
	pthread_mutex_lock(&program.lock);
	for (int i = 0; i < 3; i++)
		link_deliver(program.last, LINK_TEXT, NULL, 0, body, sizeof body, 1);
	pthread_mutex_unlock(&program.lock);
	{
		long start = now_ms();

		program_end(200);
		ok(now_ms() - start < 2000, "but not for ever");
	}
	close(fd);
}

int
main(void)
{
	alarm(120);
	test_messages();
	test_deliver();
	test_bad();
	test_full();
	test_end();
	return done();
}
