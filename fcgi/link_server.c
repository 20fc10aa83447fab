#include "link_server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "memory.h"

#define INPUT_SIZE   65536u   /* what workers send is small: a longer message is malformed */
#define SEND_EARLY   262144u  /* bytes queued within a turn that are sent before its end */
#define OUT_KEEP_MAX 1048576u /* a larger buffer is not kept once it is empty */
#define UNACKED_MAX  1024u

/* A batch that is not acknowledged, and the lowest commit number in it. */
struct unacked {
	uint64_t batch;
	int64_t floor;
};

struct link {
	struct link_server *server;
	int fd;
	bool greeted;   /* HELLO has come */
	bool cut;       /* to be freed by the loop; nothing is read or queued any more */
	bool blocked;   /* waits for EPOLLOUT */
	uint64_t batch; /* the last one queued */
	uint64_t counts[LINK_COUNT_ENDS];

	uint8_t in[INPUT_SIZE];
	size_t in_len;

	uint8_t *out;
	size_t out_start; /* sent up to here */
	size_t out_end;
	size_t out_size;

	struct unacked unacked[UNACKED_MAX]; /* a ring */
	unsigned unacked_first;
	unsigned unacked_count;
};

struct link_server {
	struct loop *loop;
	int listen_fd;
	size_t out_max;
	struct link_handler handler;
	struct link *links[LINK_SERVER_LINKS];
	int count;
};

/* --- the end of a link --- */

/*
 * The struct stays until the loop comes by, since this may be called from within the handler or by another
 * thread: shutting the stream down makes its descriptor ready.
 */
static void
cut(struct link *link, const char *why)
{
	if (link->cut)
		return;
	link->cut = true;
	log_line("link of an nginx worker cut: %s", why);
	shutdown(link->fd, SHUT_RDWR);
	loop_rewatch(link->server->loop, link->fd, EPOLLIN);
}

static void
link_free(struct link *link)
{
	struct link_server *server = link->server;
	int i = 0;

	if (link->greeted)
		server->handler.gone(server->handler.context, link);
	while (server->links[i] != link)
		i++;
	server->links[i] = server->links[--server->count];
	loop_unwatch(server->loop, link->fd);
	close(link->fd);
	free(link->out);
	free(link);
}

/* --- acknowledgements --- */

static struct unacked *
unacked_at(const struct link *link, unsigned i)
{
	return (struct unacked *)&link->unacked[(link->unacked_first + i) % UNACKED_MAX];
}

static void
unacked_add(struct link *link, int64_t floor)
{
	struct unacked *last;

	if (link->unacked_count < UNACKED_MAX) {
		last = unacked_at(link, link->unacked_count++);
		last->floor = floor;
	} else {
		/* No room: two batches become one, which is acknowledged when the later one is. */
		last = unacked_at(link, UNACKED_MAX - 1);
		if (floor < last->floor)
			last->floor = floor;
	}
	last->batch = link->batch;
}

static void
acknowledge(struct link *link, uint64_t batch)
{
	while (link->unacked_count > 0 && unacked_at(link, 0)->batch <= batch) {
		link->unacked_first = (link->unacked_first + 1) % UNACKED_MAX;
		link->unacked_count--;
	}
}

int64_t
link_floor(const struct link *link)
{
	int64_t floor = INT64_MAX;

	for (unsigned i = 0; i < link->unacked_count; i++)
		if (unacked_at(link, i)->floor < floor)
			floor = unacked_at(link, i)->floor;
	return floor;
}

/* --- counts --- */

static void
take_counts(struct link *link, const struct link_message *message)
{
	for (unsigned i = 0; i < LINK_COUNT_ENDS; i++)
		link->counts[i] = link_count_at(message, (enum link_count)i);
}

uint64_t
link_count(const struct link *link, enum link_count which)
{
	return link->counts[which];
}

/* --- out --- */

static void
watch_out(struct link *link, bool blocked)
{
	if (link->blocked == blocked || link->cut)
		return;
	link->blocked = blocked;
	loop_rewatch(link->server->loop, link->fd, blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void
out_emptied(struct link *link)
{
	link->out_start = 0;
	link->out_end = 0;
	if (link->out_size > OUT_KEEP_MAX) {
		free(link->out);
		link->out = NULL;
		link->out_size = 0;
	}
}

static void
send_queued(struct link *link)
{
	while (!link->cut && link->out_start < link->out_end) {
		ssize_t sent = send(link->fd, link->out + link->out_start, link->out_end - link->out_start,
		                    MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent >= 0) {
			link->out_start += (size_t)sent;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			watch_out(link, true);
		else
			cut(link, strerror(errno));
		return;
	}
	out_emptied(link);
	watch_out(link, false);
}

static void
out_grow(struct link *link, size_t more)
{
	size_t used = link->out_end - link->out_start;
	size_t size = link->out_size > 0 ? link->out_size : 4096;

	if (link->out_start > 0 && used > 0)
		memmove(link->out, link->out + link->out_start, used);
	link->out_start = 0;
	link->out_end = used;
	while (size < used + more)
		size *= 2;
	if (size != link->out_size)
		link->out = memory_realloc(link->out, size);
	link->out_size = size;
}

/* Room for a message of `size` bytes in the queue, NULL when the link is, or has to be, cut. */
static uint8_t *
out_reserve(struct link *link, size_t size)
{
	if (!link->cut && !link->blocked && link->out_end - link->out_start >= SEND_EARLY)
		send_queued(link);
	if (link->cut)
		return NULL;
	if (size > LINK_MESSAGE_MAX) {
		cut(link, "a delivery is too large");
		return NULL;
	}
	if (link->out_end - link->out_start + size > link->server->out_max) {
		cut(link, "it does not keep up with what it is sent");
		return NULL;
	}
	if (link->out_size - link->out_end < size)
		out_grow(link, size);
	return link->out + link->out_end;
}

void
link_deliver(struct link *link, enum link_opcode opcode, const struct link_target *targets,
             uint32_t count, const void *body, size_t len, int64_t floor)
{
	struct link_message message = {
		.type = LINK_DELIVER,
		.batch = link->batch + 1,
		.opcode = (uint8_t)opcode,
		.target_count = count,
		.body = body,
		.body_len = len,
	};
	size_t size = link_size(&message) + (size_t)count * LINK_TARGET_SIZE + len;
	uint8_t *out = out_reserve(link, size);

	if (out == NULL)
		return;
	out += link_encode(out, &message);
	for (uint32_t i = 0; i < count; i++, out += LINK_TARGET_SIZE)
		link_target_write(out, targets[i]);
	if (len > 0)
		memcpy(out, body, len);
	link->out_end += size;
	link->batch++;
	unacked_add(link, floor);
}

/* A message without a body; its batch is set here. */
static void
queue(struct link *link, struct link_message *message)
{
	size_t size = link_size(message);
	uint8_t *out = out_reserve(link, size);

	if (out == NULL)
		return;
	message->batch = link->batch + 1;
	link_encode(out, message);
	link->out_end += size;
	link->batch++;
	unacked_add(link, INT64_MAX);
}

void
link_close(struct link *link, uint64_t handle, uint16_t code, const char *reason)
{
	struct link_message message = {
		.type = LINK_CLOSE,
		.handle = handle,
		.code = code,
		.reason = (const uint8_t *)reason,
		.reason_len = strnlen(reason, LINK_REASON_MAX),
	};
	queue(link, &message);
}

void
link_wake(struct link *link, uint64_t handle)
{
	struct link_message message = {.type = LINK_WAKE, .handle = handle};
	queue(link, &message);
}

void
link_server_flush(struct link_server *server)
{
	for (int i = 0; i < server->count; i++)
		if (!server->links[i]->blocked)
			send_queued(server->links[i]);
}

/* --- in --- */

static void
hello(struct link *link, const struct link_message *message)
{
	if (link->greeted)
		cut(link, "a second HELLO");
	else if (message->version != LINK_VERSION)
		cut(link, "it speaks another version: nginx module and program do not fit together");
	else
		link->greeted = true;
}

static void
handle(struct link *link, const struct link_message *message)
{
	struct link_handler *handler = &link->server->handler;

	if (message->type == LINK_HELLO)
		hello(link, message);
	else if (!link->greeted)
		cut(link, "it does not begin with HELLO");
	else if (message->type >= LINK_DELIVER)
		cut(link, "a message of the wrong direction");
	else if (message->type == LINK_ACK && message->batch > link->batch)
		cut(link, "it acknowledges what was not sent");
	if (link->cut)
		return;
	if (message->type == LINK_ACK)
		acknowledge(link, message->batch);
	else if (message->type == LINK_COUNTS)
		take_counts(link, message);
	else
		handler->message(handler->context, link, message);
}

static void
handle_all(struct link *link)
{
	size_t at = 0;

	while (!link->cut) {
		struct link_message message;
		long used = link_decode(link->in + at, link->in_len - at, &message);

		if (used < 0 || link_wanted(link->in + at, link->in_len - at) > INPUT_SIZE)
			cut(link, "a malformed message");
		if (used <= 0)
			break;
		handle(link, &message);
		at += (size_t)used;
	}
	link->in_len -= at;
	memmove(link->in, link->in + at, link->in_len);
}

/* Reads once: what is left makes the descriptor ready again. */
static void
receive(struct link *link)
{
	ssize_t got = recv(link->fd, link->in + link->in_len, INPUT_SIZE - link->in_len, MSG_DONTWAIT);

	if (got > 0) {
		link->in_len += (size_t)got;
		handle_all(link);
		return;
	}
	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	link->cut = true; /* gone by itself: a reload, the end of a worker */
}

static struct link *
link_find(struct link_server *server, int fd)
{
	for (int i = 0; i < server->count; i++)
		if (server->links[i]->fd == fd)
			return server->links[i];
	return NULL;
}

static void
link_ready(void *context, int fd, unsigned events)
{
	struct link_server *server = context;
	struct link *link;

	server->handler.lock(server->handler.context);
	link = link_find(server, fd);
	if (link != NULL) {
		if ((events & EPOLLOUT) != 0)
			send_queued(link);
		if (!link->cut && (events & ~(unsigned)EPOLLOUT) != 0)
			receive(link);
		if (link->cut)
			link_free(link);
	}
	server->handler.unlock(server->handler.context);
}

static void
link_add(struct link_server *server, int fd)
{
	struct link *link;

	if (server->count == LINK_SERVER_LINKS) {
		log_line("more than %d links: one is refused", LINK_SERVER_LINKS);
		close(fd);
		return;
	}
	link = memory_zeroed(1, sizeof *link);
	link->server = server;
	link->fd = fd;
	server->links[server->count++] = link;
	loop_watch(server->loop, fd, EPOLLIN, link_ready, server);
}

static void
listen_ready(void *context, int fd, unsigned events)
{
	struct link_server *server = context;
	int link_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (link_fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			log_line("accepting a link: %s", strerror(errno));
			loop_rewatch(server->loop, fd, EPOLLIN | EPOLLET); /* not again and again */
		}
		return;
	}
	server->handler.lock(server->handler.context);
	link_add(server, link_fd);
	server->handler.unlock(server->handler.context);
}

/* --- life --- */

struct link_server *
link_server_new(struct loop *loop, int listen_fd, size_t out_max, const struct link_handler *handler)
{
	struct link_server *server = memory_zeroed(1, sizeof *server);

	server->loop = loop;
	server->listen_fd = listen_fd;
	server->out_max = out_max;
	server->handler = *handler;
	fcntl(listen_fd, F_SETFL, fcntl(listen_fd, F_GETFL) | O_NONBLOCK);
	loop_watch(loop, listen_fd, EPOLLIN, listen_ready, server);
	return server;
}

static void
send_until(struct link *link, int64_t until_ms)
{
	for (;;) {
		struct pollfd out = {.fd = link->fd, .events = POLLOUT};
		int64_t left;

		send_queued(link);
		left = until_ms - clock_ms();
		if (link->cut || link->out_start == link->out_end || left <= 0)
			return;
		poll(&out, 1, (int)left);
	}
}

void
link_server_free(struct link_server *server, int timeout_ms)
{
	int64_t until_ms = clock_ms() + timeout_ms;

	for (int i = 0; i < server->count; i++)
		send_until(server->links[i], until_ms);
	server->handler.lock(server->handler.context);
	for (int i = server->count; i-- > 0;)
		link_free(server->links[i]);
	server->handler.unlock(server->handler.context);
	loop_unwatch(server->loop, server->listen_fd);
	free(server);
}
