#include "loop_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "memory.h"

/* --- connections --- */

#define CONNECTION_EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLET)

static struct loop_request *
connection_make(struct loop *loop)
{
	struct loop_request *connection = memory_zeroed(1, sizeof *connection);

	connection->source = SOURCE_CONNECTION;
	connection->loop = loop;
	FCGX_InitRequest(&connection->fcgi, -1, 0);
	loop->connections[loop->connection_made++] = connection;
	return connection;
}

static struct loop_request *
connection_new(struct loop *loop)
{
	struct loop_request *connection;

	pthread_mutex_lock(&loop->lock);
	connection = loop->closed;
	if (connection != NULL)
		loop->closed = connection->next;
	else
		connection = connection_make(loop);
	pthread_mutex_unlock(&loop->lock);
	return connection;
}

/* Connections are never freed before the loop: a stale event may still lead to one. */
static void
connection_close(struct loop_request *connection)
{
	struct loop *loop = connection->loop;

	if (connection->fd >= 0) {
		loop_epoll(loop, EPOLL_CTL_DEL, connection->fd, 0, NULL);
		close(connection->fd);
	}
	connection->fd = -1;
	free(connection->body);
	connection->body = NULL;
	connection->body_size = 0;
	pthread_mutex_lock(&loop->lock);
	atomic_store(&connection->claim, CLAIM_CLOSED);
	connection->next = loop->closed;
	loop->closed = connection;
	pthread_mutex_unlock(&loop->lock);
	atomic_fetch_sub(&loop->connection_open, 1);
}

static bool
connection_claim(struct loop_request *connection)
{
	int claim = CLAIM_FREE;

	while (!atomic_compare_exchange_strong(&connection->claim, &claim, CLAIM_BUSY)) {
		if (claim == CLAIM_BUSY &&
		    atomic_compare_exchange_strong(&connection->claim, &claim, CLAIM_AGAIN))
			return false;
		if (claim == CLAIM_AGAIN || claim == CLAIM_CLOSED)
			return false;
		claim = CLAIM_FREE;
	}
	return true;
}

static void
connection_release(struct loop_request *connection)
{
	struct loop *loop = connection->loop;
	int claim = CLAIM_BUSY;

	while (!atomic_compare_exchange_strong(&connection->claim, &claim, CLAIM_FREE)) {
		/* Setting the events anew makes epoll look again whether there is something to read. */
		connection->read_in = atomic_load(&loop->fetch);
		atomic_store(&connection->claim, CLAIM_BUSY);
		loop_epoll(loop, EPOLL_CTL_MOD, connection->fd, CONNECTION_EVENTS, connection);
		claim = CLAIM_BUSY;
	}
}

static void
request_end(struct loop_request *request, bool keep)
{
	struct loop *loop = request->loop;

	FCGX_Free(&request->fcgi, 0);
	if (request->body_size > BODY_KEEP_MAX) {
		free(request->body);
		request->body = NULL;
		request->body_size = 0;
	}
	if (keep && !atomic_load(&loop->draining))
		connection_release(request);
	else
		connection_close(request);
}

static void
request_write(struct loop_request *request, const char *bytes, size_t len)
{
	FCGX_Request *fcgi = &request->fcgi;
	bool keep = fcgi->keepConnection != 0;

	/* Not FCGX_Finish_r: it might close the descriptor itself, and lingers for 2 s when it does. */
	while (len > 0) {
		int some = len < (1u << 20) ? (int)len : 1 << 20;

		if (FCGX_PutStr(bytes, some, fcgi->out) != some)
			break;
		bytes += some;
		len -= (size_t)some;
	}
	if (FCGX_FClose(fcgi->err) != 0 || FCGX_FClose(fcgi->out) != 0)
		keep = false;
	request_end(request, keep);
}

static void
answer_later(struct loop_request *request, const char *bytes, size_t len)
{
	struct loop *loop = request->loop;

	request->answer = memory_alloc(len);
	request->answer_len = len;
	memcpy(request->answer, bytes, len);
	pthread_mutex_lock(&loop->answers_lock);
	request->next = loop->answers;
	loop->answers = request;
	atomic_store(&loop->answers_wait, true);
	pthread_mutex_unlock(&loop->answers_lock);
	if (loop_self == NULL || loop_self->loop != loop || !member_leads(loop_self))
		loop_wake(loop);
}

void
loop_finish(struct loop_request *request, const char *bytes, size_t len)
{
	struct loop *loop = request->loop;

	if (len > ANSWER_NOW_MAX) {
		answer_later(request, bytes, len);
		return;
	}
	request_write(request, bytes, len);
	atomic_fetch_sub(&loop->taken, 1);
}

void
loop_drop(struct loop_request *request)
{
	struct loop *loop = request->loop;

	request_end(request, false);
	atomic_fetch_sub(&loop->taken, 1);
}

const char *
loop_param(const struct loop_request *request, const char *name)
{
	return FCGX_GetParam(name, request->fcgi.envp);
}

const char *
loop_body(const struct loop_request *request, size_t *len)
{
	*len = request->body_len;
	return request->body;
}

bool
loop_alive(const struct loop_request *request)
{
	struct pollfd look = {.fd = request->fd, .events = POLLRDHUP};

	return poll(&look, 1, 0) <= 0;
}

/* --- reading requests --- */

static void
body_reserve(struct loop_request *request, size_t more)
{
	size_t size = request->body_size > 0 ? request->body_size : 1024;

	while (size < request->body_len + more + 1)
		size *= 2;
	if (size != request->body_size)
		request->body = memory_realloc(request->body, size);
	request->body_size = size;
}

/* Reads STDIN to its end: what was left of it would be a protocol error at the next request. */
static bool
body_read(struct loop_request *request)
{
	FCGX_Stream *in = request->fcgi.in;
	int64_t until_ms = 0;
	int c;

	request->body_len = 0;
	body_reserve(request, 0);
	while ((c = FCGX_GetChar(in)) != EOF) {
		/* What libfcgi has in its buffer by now is got without waiting. */
		size_t ready = (size_t)(in->stop - in->rdNext);

		if (until_ms == 0)
			until_ms = clock_ms() + IO_SECONDS * 1000;
		else if (clock_ms() > until_ms)
			return false;
		if (request->body_len > request->loop->body_max)
			request->body_len = request->loop->body_max + 1; /* too long: only read away */
		body_reserve(request, ready + 1);
		request->body[request->body_len++] = (char)c;
		if (ready > 0)
			request->body_len += (size_t)FCGX_GetStr(request->body + request->body_len, (int)ready, in);
	}
	request->body[request->body_len] = '\0';
	return FCGX_GetError(in) == 0;
}

/* Reads a whole request by libfcgi, blocking.  When it returns false the connection is of no more use. */
static bool
request_read(struct loop_request *request)
{
	FCGX_Request *fcgi = &request->fcgi;

	/*
	 * ipcFd and keepConnection are marked as internal in fcgiapp.h, but there is no other way to
	 * give libfcgi a connection: it begins with closing what is not kept.
	 */
	fcgi->ipcFd = request->fd;
	fcgi->keepConnection = 1;
	FCGX_Detach(fcgi); /* if it closes the connection, then without lingering for 2 s */
	if (FCGX_Accept_r(fcgi) != 0) {
		request->fd = -1; /* libfcgi has closed it */
		return false;
	}
	if (body_read(request))
		return true;
	FCGX_Free(fcgi, 0);
	return false;
}

/* Is there something to read?  Closes or releases the connection otherwise. */
static bool
connection_look(struct loop_request *connection)
{
	ssize_t got;
	char byte;

	do
		got = recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got > 0)
		return true;
	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		connection_release(connection);
	else
		connection_close(connection);
	return false;
}

static void
request_serve(struct loop_request *request)
{
	static const char too_long[] = "Status: 413 Content Too Large\r\n\r\n";
	struct loop *loop = request->loop;
	bool complete;

	loop_part_begin(PART_IO);
	complete = request_read(request);
	loop_part_end();
	request->read_in = atomic_load(&loop->fetch);
	if (!complete) {
		connection_close(request);
		return;
	}
	atomic_fetch_add(&loop->taken, 1);
	if (request->body_len > loop->body_max)
		loop_finish(request, too_long, sizeof too_long - 1);
	else
		loop->handler.request(loop->handler.context, request);
}

/*
 * `fetch`: the epoll_wait that the event came from.  If the connection has been read from since, or is not
 * the one it was, the event may be stale, and reading would wait.
 */
void
connection_ready(struct loop_request *connection, unsigned events, uint64_t fetch)
{
	bool stale;

	if (!connection_claim(connection))
		return;
	stale = connection->read_in >= fetch;
	if ((stale || (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) && !connection_look(connection))
		return;
	request_serve(connection);
}

/* --- accepting, draining --- */

void
connection_add(struct loop *loop, int fd)
{
	struct loop_request *connection = connection_new(loop);
	struct timeval io = {.tv_sec = IO_SECONDS};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &io, sizeof io);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &io, sizeof io);
	atomic_fetch_add(&loop->connection_open, 1);
	connection->fd = fd;
	connection->read_in = atomic_load(&loop->fetch);
	atomic_store(&connection->claim, CLAIM_FREE);
	loop_epoll(loop, EPOLL_CTL_ADD, fd, CONNECTION_EVENTS, connection);
}

void
connection_drain(struct loop_request *connection)
{
	struct pollfd look = {.events = POLLIN};
	int claim = CLAIM_FREE;

	if (!atomic_compare_exchange_strong(&connection->claim, &claim, CLAIM_BUSY))
		return;
	look.fd = connection->fd;
	if (poll(&look, 1, 0) == 1 && look.revents == POLLIN)
		request_serve(connection);
	else
		connection_close(connection);
}

void
connections_free(struct loop *loop)
{
	for (int i = 0; i < loop->connection_made; i++) {
		struct loop_request *connection = loop->connections[i];

		if (atomic_load(&connection->claim) != CLAIM_CLOSED)
			connection_close(connection);
		free(connection);
	}
}

/* --- large answers --- */

/* The next answer that waits; NULL: none. */
static struct loop_request *
answer_take(struct loop *loop)
{
	struct loop_request *request;

	if (!atomic_load(&loop->answers_wait))
		return NULL;
	pthread_mutex_lock(&loop->answers_lock);
	request = loop->answers;
	if (request != NULL)
		loop->answers = request->next;
	atomic_store(&loop->answers_wait, loop->answers != NULL);
	pthread_mutex_unlock(&loop->answers_lock);
	return request;
}

/* Writes the large answers; false when the loop was handed to another thread meanwhile. */
bool
answers_write(struct member *member)
{
	struct loop *loop = member->loop;
	struct loop_request *request;

	while (member_leads(member) && (request = answer_take(loop)) != NULL) {
		char *answer = request->answer;

		request->answer = NULL;
		loop_part_begin(PART_IO);
		request_write(request, answer, request->answer_len);
		loop_part_end();
		free(answer);
		atomic_fetch_sub(&loop->taken, 1);
	}
	return member_leads(member);
}
