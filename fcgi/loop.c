#include "loop.h"

#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define EVENTS_MAX       64             /* taken from epoll at once: a turn */
#define IO_SECONDS       5              /* one read or write of libfcgi; one request's body */
#define ANSWER_NOW_MAX   (64u * 1024)   /* fits into the socket's buffer: nothing else is in it then */
#define BODY_KEEP_MAX    (64u * 1024)   /* a larger buffer is not kept for the next request */
#define RELIEVE_NS       1000000        /* in one blocking part: another thread becomes the loop */
#define TICK_NS          500000
#define QUIET_TICKS      20             /* then the monitor sleeps until it is woken */
#define SLOW_TICK_NS     100000000      /* while a slow callback runs and nothing else happens */
#define LISTEN_RETRY_MS  1000
#define DRAIN_TICK_MS    10

/* What an epoll event's pointer leads to; the first member of all of them. */
enum source { SOURCE_LISTEN, SOURCE_WAKE, SOURCE_CONNECTION, SOURCE_WATCH };

/*
 * Edge-triggered events and several threads: whoever turns FREE into BUSY serves the connection; an
 * event that comes meanwhile is remembered as AGAIN.
 */
enum claim { CLAIM_CLOSED, CLAIM_FREE, CLAIM_BUSY, CLAIM_AGAIN };

/* A connection, and the request on it.  All but claim belongs to who has claimed it. */
struct loop_request {
	enum source source;
	struct loop *loop;
	atomic_int claim;
	int fd;
	uint64_t read_in;            /* the fetch during which it was last read from */
	FCGX_Request fcgi;
	char *body;
	size_t body_len;
	size_t body_size;
	char *answer;                /* owned: waits to be written by the loop */
	size_t answer_len;
	struct loop_request *next;   /* among the closed ones, or those with an answer */
};

struct watch {
	enum source source;
	int fd;                      /* -1: may be used again */
	loop_ready_fn *ready;
	void *context;
	struct watch *next;
};

/*
 * A thread's state, one word, so that the monitor can take the loop away from a blocked thread by one
 * compare-and-swap.  While no part bit is set the thread alone changes it.
 */
enum { LEADS = 1, PART_IO = 2, PART_CALLBACK = 4, PART = PART_IO | PART_CALLBACK, PART_NEXT = 8 };

struct member {
	struct loop *loop;
	pthread_t thread;
	atomic_uint_fast64_t state;
	unsigned depth;              /* of blocking parts */
	uint64_t seen;               /* the monitor's: the part it saw last, and since when */
	int64_t seen_ns;
};

struct loop {
	struct loop_handler handler;
	size_t body_max;
	int limit_s;
	int epoll_fd;
	int listen_fd;
	int wake_fd;
	enum source listen_source;
	enum source wake_source;
	atomic_bool stop;
	atomic_bool draining;
	atomic_bool wake_pending;
	atomic_int taken;            /* requests that belong to the handler, or wait to be written */

	/* The loop's own: who leads.  Handed on under lock. */
	struct epoll_event events[EVENTS_MAX];
	int event_next;
	int event_count;
	bool listening;
	int64_t listen_again_ms;
	int64_t drain_until_ms;
	atomic_uint_fast64_t fetch;  /* number of the present epoll_wait */

	pthread_mutex_t lock;        /* of what follows */
	pthread_cond_t changed;
	bool vacant;                 /* the loop waits for a leader */
	bool finished;
	bool clean;                  /* how loop_run ends */
	int idle;                    /* members that wait */
	int member_count;
	int member_max;
	struct member *members;
	struct loop_request *connections[LOOP_CONNECTIONS_MAX];
	int connection_made;
	atomic_int connection_open;
	struct loop_request *closed;
	struct watch *watches;

	pthread_mutex_t answers_lock;
	struct loop_request *answers;
	atomic_bool answers_wait;

	pthread_t monitor;
	pthread_mutex_t monitor_lock;
	pthread_cond_t monitor_wake;
	atomic_bool monitor_asleep;
	atomic_bool monitor_end;
	atomic_uint_fast64_t rounds; /* odd: the loop waits in epoll_wait */
};

static _Thread_local struct member *self;

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t now_ms(void)
{
	return now_ns() / 1000000;
}

/* --- blocking parts --- */

static void part_begin(unsigned kind)
{
	uint64_t state;

	if (self == NULL || self->depth++ > 0)
		return;
	state = atomic_load_explicit(&self->state, memory_order_relaxed);
	atomic_store(&self->state, (state + PART_NEXT) | kind);
}

static void part_end(void)
{
	if (self == NULL || --self->depth > 0)
		return;
	atomic_fetch_and(&self->state, ~(uint64_t) PART);
}

static bool leads(struct member *member)
{
	return (atomic_load(&member->state) & LEADS) != 0;
}

void loop_block_begin(struct loop *loop)
{
	(void) loop;
	part_begin(PART_CALLBACK);
}

void loop_block_end(struct loop *loop)
{
	(void) loop;
	part_end();
}

/* --- connections --- */

static void epoll_set(struct loop *loop, int operation, int fd, unsigned events, void *source)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (epoll_ctl(loop->epoll_fd, operation, fd, &event) != 0 && operation != EPOLL_CTL_DEL)
		log_die("epoll_ctl: %s", strerror(errno));
}

#define CONNECTION_EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLET)

static struct loop_request *connection_make(struct loop *loop)
{
	struct loop_request *connection = must(calloc(1, sizeof *connection));

	connection->source = SOURCE_CONNECTION;
	connection->loop = loop;
	FCGX_InitRequest(&connection->fcgi, -1, 0);
	loop->connections[loop->connection_made++] = connection;
	return connection;
}

static struct loop_request *connection_new(struct loop *loop)
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
static void connection_close(struct loop_request *connection)
{
	struct loop *loop = connection->loop;

	if (connection->fd >= 0) {
		epoll_set(loop, EPOLL_CTL_DEL, connection->fd, 0, NULL);
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

static bool connection_claim(struct loop_request *connection)
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

static void connection_release(struct loop_request *connection)
{
	struct loop *loop = connection->loop;
	int claim = CLAIM_BUSY;

	while (!atomic_compare_exchange_strong(&connection->claim, &claim, CLAIM_FREE)) {
		/* Setting the events anew makes epoll look again whether there is something to read. */
		connection->read_in = atomic_load(&loop->fetch);
		atomic_store(&connection->claim, CLAIM_BUSY);
		epoll_set(loop, EPOLL_CTL_MOD, connection->fd, CONNECTION_EVENTS, connection);
		claim = CLAIM_BUSY;
	}
}

static void request_end(struct loop_request *request, bool keep)
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

static void request_write(struct loop_request *request, const char *bytes, size_t len)
{
	FCGX_Request *fcgi = &request->fcgi;
	bool keep = fcgi->keepConnection != 0;

	/* Not FCGX_Finish_r: it might close the descriptor itself, and lingers for 2 s when it does. */
	while (len > 0) {
		int some = len < (1u << 20) ? (int) len : 1 << 20;

		if (FCGX_PutStr(bytes, some, fcgi->out) != some)
			break;
		bytes += some;
		len -= (size_t) some;
	}
	if (FCGX_FClose(fcgi->err) != 0 || FCGX_FClose(fcgi->out) != 0)
		keep = false;
	request_end(request, keep);
}

static void answer_later(struct loop_request *request, const char *bytes, size_t len)
{
	struct loop *loop = request->loop;

	request->answer = must(malloc(len));
	request->answer_len = len;
	memcpy(request->answer, bytes, len);
	pthread_mutex_lock(&loop->answers_lock);
	request->next = loop->answers;
	loop->answers = request;
	atomic_store(&loop->answers_wait, true);
	pthread_mutex_unlock(&loop->answers_lock);
	if (self == NULL || self->loop != loop || !leads(self))
		loop_wake(loop);
}

void loop_finish(struct loop_request *request, const char *bytes, size_t len)
{
	struct loop *loop = request->loop;

	if (len > ANSWER_NOW_MAX) {
		answer_later(request, bytes, len);
		return;
	}
	request_write(request, bytes, len);
	atomic_fetch_sub(&loop->taken, 1);
}

void loop_drop(struct loop_request *request)
{
	struct loop *loop = request->loop;

	request_end(request, false);
	atomic_fetch_sub(&loop->taken, 1);
}

const char *loop_param(const struct loop_request *request, const char *name)
{
	return FCGX_GetParam(name, request->fcgi.envp);
}

const char *loop_body(const struct loop_request *request, size_t *len)
{
	*len = request->body_len;
	return request->body;
}

bool loop_alive(const struct loop_request *request)
{
	struct pollfd look = {.fd = request->fd, .events = POLLRDHUP};

	return poll(&look, 1, 0) <= 0;
}

/* --- reading requests --- */

static void body_reserve(struct loop_request *request, size_t more)
{
	size_t size = request->body_size > 0 ? request->body_size : 1024;

	while (size < request->body_len + more + 1)
		size *= 2;
	if (size != request->body_size)
		request->body = must(realloc(request->body, size));
	request->body_size = size;
}

/* Reads STDIN to its end: what was left of it would be a protocol error at the next request. */
static bool body_read(struct loop_request *request)
{
	FCGX_Stream *in = request->fcgi.in;
	int64_t until_ms = 0;
	int c;

	request->body_len = 0;
	body_reserve(request, 0);
	while ((c = FCGX_GetChar(in)) != EOF) {
		/* What libfcgi has in its buffer by now is got without waiting. */
		size_t ready = (size_t) (in->stop - in->rdNext);

		if (until_ms == 0)
			until_ms = now_ms() + IO_SECONDS * 1000;
		else if (now_ms() > until_ms)
			return false;
		if (request->body_len > request->loop->body_max)
			request->body_len = request->loop->body_max + 1;   /* too long: only read away */
		body_reserve(request, ready + 1);
		request->body[request->body_len++] = (char) c;
		if (ready > 0)
			request->body_len += (size_t) FCGX_GetStr(request->body + request->body_len,
			                                          (int) ready, in);
	}
	request->body[request->body_len] = '\0';
	return FCGX_GetError(in) == 0;
}

/* Reads a whole request by libfcgi, blocking.  When it returns false the connection is of no more use. */
static bool request_read(struct loop_request *request)
{
	FCGX_Request *fcgi = &request->fcgi;

	/*
	 * ipcFd and keepConnection are marked as internal in fcgiapp.h, but there is no other way to
	 * give libfcgi a connection: it begins with closing what is not kept.
	 */
	fcgi->ipcFd = request->fd;
	fcgi->keepConnection = 1;
	FCGX_Detach(fcgi);     /* if it closes the connection, then without lingering for 2 s */
	if (FCGX_Accept_r(fcgi) != 0) {
		request->fd = -1;  /* libfcgi has closed it */
		return false;
	}
	if (body_read(request))
		return true;
	FCGX_Free(fcgi, 0);
	return false;
}

/* Is there something to read?  Closes or releases the connection otherwise. */
static bool connection_look(struct loop_request *connection)
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

static void request_serve(struct loop_request *request)
{
	static const char too_long[] = "Status: 413 Content Too Large\r\n\r\n";
	struct loop *loop = request->loop;
	bool complete;

	part_begin(PART_IO);
	complete = request_read(request);
	part_end();
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
static void connection_ready(struct loop_request *connection, unsigned events, uint64_t fetch)
{
	bool stale;

	if (!connection_claim(connection))
		return;
	stale = connection->read_in >= fetch;
	if ((stale || (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) && !connection_look(connection))
		return;
	request_serve(connection);
}

/* --- accepting --- */

static void listen_set(struct loop *loop, bool on)
{
	if (loop->listening == on)
		return;
	loop->listening = on;
	epoll_set(loop, EPOLL_CTL_MOD, loop->listen_fd, on ? EPOLLIN : 0, &loop->listen_source);
}

static void connection_add(struct loop *loop, int fd)
{
	struct loop_request *connection = connection_new(loop);
	struct timeval io = {.tv_sec = IO_SECONDS};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &io, sizeof io);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &io, sizeof io);
	atomic_fetch_add(&loop->connection_open, 1);
	connection->fd = fd;
	connection->read_in = atomic_load(&loop->fetch);
	atomic_store(&connection->claim, CLAIM_FREE);
	epoll_set(loop, EPOLL_CTL_ADD, fd, CONNECTION_EVENTS, connection);
}

static void accept_all(struct loop *loop)
{
	for (;;) {
		int fd;

		if (atomic_load(&loop->connection_open) >= LOOP_CONNECTIONS_MAX) {
			listen_set(loop, false);
			loop->listen_again_ms = 0;
			return;
		}
		fd = accept4(loop->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0) {
			connection_add(loop, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK) {
			log_line("accepting a FastCGI connection: %s", strerror(errno));
			listen_set(loop, false);
			loop->listen_again_ms = now_ms() + LISTEN_RETRY_MS;
		}
		return;
	}
}

static void listen_again(struct loop *loop)
{
	if (loop->listening || atomic_load(&loop->draining))
		return;
	if (atomic_load(&loop->connection_open) >= LOOP_CONNECTIONS_MAX || now_ms() < loop->listen_again_ms)
		return;
	listen_set(loop, true);
}

/* --- watches --- */

/* Under the lock. */
static struct watch *watch_find(struct loop *loop, int fd)
{
	struct watch *watch = loop->watches;

	while (watch != NULL && watch->fd != fd)
		watch = watch->next;
	return watch;
}

void loop_watch(struct loop *loop, int fd, unsigned events, loop_ready_fn *ready, void *context)
{
	struct watch *watch;

	pthread_mutex_lock(&loop->lock);
	watch = watch_find(loop, -1);
	if (watch == NULL) {
		watch = must(calloc(1, sizeof *watch));
		watch->source = SOURCE_WATCH;
		watch->next = loop->watches;
		loop->watches = watch;
	}
	watch->fd = fd;
	watch->ready = ready;
	watch->context = context;
	epoll_set(loop, EPOLL_CTL_ADD, fd, events, watch);
	pthread_mutex_unlock(&loop->lock);
}

void loop_rewatch(struct loop *loop, int fd, unsigned events)
{
	struct watch *watch;

	pthread_mutex_lock(&loop->lock);
	watch = watch_find(loop, fd);
	if (watch != NULL)
		epoll_set(loop, EPOLL_CTL_MOD, fd, events, watch);
	pthread_mutex_unlock(&loop->lock);
}

void loop_unwatch(struct loop *loop, int fd)
{
	struct watch *watch;

	pthread_mutex_lock(&loop->lock);
	watch = watch_find(loop, fd);
	if (watch != NULL) {
		epoll_set(loop, EPOLL_CTL_DEL, fd, 0, NULL);
		watch->fd = -1;
	}
	pthread_mutex_unlock(&loop->lock);
}

static void watch_ready(struct loop *loop, struct watch *watch, unsigned events)
{
	loop_ready_fn *ready;
	void *context;
	int fd;

	pthread_mutex_lock(&loop->lock);
	fd = watch->fd;
	ready = watch->ready;
	context = watch->context;
	pthread_mutex_unlock(&loop->lock);
	if (fd >= 0)
		ready(context, fd, events);
}

/* --- waking and stopping --- */

static void wake_write(struct loop *loop)
{
	uint64_t one = 1;
	int error = errno;

	/* It can only fail when the counter is full, and then the loop is being woken. */
	while (write(loop->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
	errno = error;
}

static void wake_read(struct loop *loop)
{
	uint64_t count;

	while (read(loop->wake_fd, &count, sizeof count) < 0 && errno == EINTR)
		;
	atomic_exchange(&loop->wake_pending, false);
}

void loop_wake(struct loop *loop)
{
	if (!atomic_exchange(&loop->wake_pending, true))
		wake_write(loop);
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stop, true);
	wake_write(loop);
}

/* --- the loop --- */

static void event_serve(struct loop *loop, const struct epoll_event *event)
{
	void *source = event->data.ptr;

	switch (*(enum source *) source) {
	case SOURCE_LISTEN:
		accept_all(loop);
		break;
	case SOURCE_WAKE:
		wake_read(loop);
		break;
	case SOURCE_CONNECTION:
		connection_ready(source, event->events, atomic_load(&loop->fetch));
		break;
	case SOURCE_WATCH:
		watch_ready(loop, source, event->events);
		break;
	}
}

static struct loop_request *answer_take(struct loop *loop)
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
static bool answers_write(struct member *member)
{
	struct loop *loop = member->loop;
	struct loop_request *request;

	while (leads(member) && (request = answer_take(loop)) != NULL) {
		char *answer = request->answer;

		request->answer = NULL;
		part_begin(PART_IO);
		request_write(request, answer, request->answer_len);
		part_end();
		free(answer);
		atomic_fetch_sub(&loop->taken, 1);
	}
	return leads(member);
}

static void monitor_rouse(struct loop *loop)
{
	atomic_fetch_add(&loop->rounds, 1);
	if (!atomic_load(&loop->monitor_asleep))
		return;
	pthread_mutex_lock(&loop->monitor_lock);
	atomic_store(&loop->monitor_asleep, false);
	pthread_cond_signal(&loop->monitor_wake);
	pthread_mutex_unlock(&loop->monitor_lock);
}

static int shorter(int timeout_ms, int other_ms)
{
	return timeout_ms < 0 || timeout_ms > other_ms ? other_ms : timeout_ms;
}

static void events_fetch(struct loop *loop, int timeout_ms)
{
	int count;

	listen_again(loop);
	if (atomic_load(&loop->draining))
		timeout_ms = shorter(timeout_ms, DRAIN_TICK_MS);
	else if (!loop->listening)
		timeout_ms = shorter(timeout_ms, LISTEN_RETRY_MS);
	atomic_fetch_add(&loop->fetch, 1);
	atomic_fetch_add(&loop->rounds, 1);
	count = epoll_wait(loop->epoll_fd, loop->events, EVENTS_MAX, timeout_ms);
	loop->event_next = 0;
	loop->event_count = count > 0 ? count : 0;
	monitor_rouse(loop);
}

/* Serves what was fetched; false when the loop was handed to another thread meanwhile. */
static bool events_serve(struct member *member)
{
	struct loop *loop = member->loop;

	while (loop->event_next < loop->event_count) {
		struct epoll_event event = loop->events[loop->event_next++];

		event_serve(loop, &event);
		if (!leads(member))
			return false;
	}
	return true;
}

/* --- ending --- */

/* Takes no new connection, closes the idle ones; false as above.  What has arrived is still served. */
static bool drain_begin(struct member *member)
{
	struct loop *loop = member->loop;
	int made;

	listen_set(loop, false);
	if (!atomic_exchange(&loop->draining, true))
		loop->drain_until_ms = now_ms() + LOOP_STOP_MS;
	pthread_mutex_lock(&loop->lock);
	made = loop->connection_made;
	pthread_mutex_unlock(&loop->lock);
	/* If this thread loses the loop, the next one begins here again. */
	for (int i = 0; i < made; i++) {
		struct loop_request *connection = loop->connections[i];
		int claim = CLAIM_FREE;
		struct pollfd look = {.events = POLLIN};

		if (!atomic_compare_exchange_strong(&connection->claim, &claim, CLAIM_BUSY))
			continue;
		look.fd = connection->fd;
		if (poll(&look, 1, 0) != 1 || look.revents != POLLIN) {
			connection_close(connection);
			continue;
		}
		request_serve(connection);
		if (!leads(member))
			return false;
	}
	return true;
}

static bool drain_done(struct loop *loop, bool *clean)
{
	bool all_idle;

	pthread_mutex_lock(&loop->lock);
	all_idle = loop->idle == loop->member_count - 1;
	pthread_mutex_unlock(&loop->lock);
	*clean = all_idle && atomic_load(&loop->taken) == 0;
	return *clean || now_ms() >= loop->drain_until_ms;
}

static void finish(struct loop *loop, bool clean)
{
	pthread_mutex_lock(&loop->lock);
	loop->finished = true;
	loop->clean = clean;
	pthread_cond_broadcast(&loop->changed);
	pthread_mutex_unlock(&loop->lock);
}

static int turn(struct loop *loop)
{
	return loop->handler.turn(loop->handler.context);
}

/* --- members: the threads that are the loop, or may become it --- */

/* Until the loop is finished, or was handed to another thread. */
static void lead(struct member *member)
{
	struct loop *loop = member->loop;
	bool drain_begun = false;
	bool clean;
	int timeout_ms;

	/* First of all what the slow thread had staged is committed. */
	turn(loop);
	while (leads(member)) {
		if (!events_serve(member))
			return;
		timeout_ms = turn(loop);
		if (!answers_write(member))
			return;
		if (atomic_load(&loop->stop) && !drain_begun) {
			drain_begun = true;
			if (!drain_begin(member))
				return;
			continue;
		}
		if (drain_begun && drain_done(loop, &clean)) {
			finish(loop, clean);
			return;
		}
		events_fetch(loop, timeout_ms);
	}
}

/* A thread that was slow and is through: what it did is committed and answered. */
static void catch_up(struct member *member)
{
	struct loop *loop = member->loop;

	turn(loop);
	/* The loop may wait longer than this turn has asked for: let it ask again. */
	loop_wake(loop);
}

/* Waits until the loop needs a leader; false when it is finished. */
static bool baton_take(struct member *member)
{
	struct loop *loop = member->loop;
	bool taken = false;

	pthread_mutex_lock(&loop->lock);
	loop->idle++;
	while (!loop->vacant && !loop->finished)
		pthread_cond_wait(&loop->changed, &loop->lock);
	loop->idle--;
	if (!loop->finished) {
		loop->vacant = false;
		atomic_fetch_or(&member->state, LEADS);
		taken = true;
	}
	pthread_mutex_unlock(&loop->lock);
	return taken;
}

static void member_run(struct member *member)
{
	self = member;
	while (baton_take(member)) {
		lead(member);
		if (!leads(member))
			catch_up(member);
		else
			atomic_fetch_and(&member->state, ~(uint64_t) LEADS);
	}
	self = NULL;
}

static void *member_main(void *member)
{
	member_run(member);
	return NULL;
}

static void block_signals(sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, before);
}

static bool thread_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
	sigset_t before;
	int error;

	/* Signals are for the threads of who uses the loop. */
	block_signals(&before);
	error = pthread_create(thread, NULL, run, argument);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0)
		log_line("no new thread: %s", strerror(error));
	return error == 0;
}

/* Under the lock. */
static bool member_start(struct loop *loop)
{
	struct member *member;

	if (loop->member_count == loop->member_max)
		return false;
	member = &loop->members[loop->member_count];
	member->loop = loop;
	if (!thread_start(&member->thread, member_main, member)) {
		loop->member_max = loop->member_count;   /* say it once */
		return false;
	}
	loop->member_count++;
	return true;
}

/* --- the monitor --- */

/* Takes the loop from a member that is still in the part `state`, if there is somebody to take over. */
static void relieve(struct loop *loop, struct member *member, uint64_t state)
{
	uint_fast64_t expected = state;

	pthread_mutex_lock(&loop->lock);
	if ((loop->idle > 0 || member_start(loop)) &&
	    atomic_compare_exchange_strong(&member->state, &expected, state & ~(uint64_t) LEADS)) {
		loop->vacant = true;
		member->seen = state & ~(uint64_t) LEADS;
		pthread_cond_signal(&loop->changed);
	}
	pthread_mutex_unlock(&loop->lock);
}

static void part_check(struct loop *loop, struct member *member, uint64_t state, int64_t now)
{
	int64_t spent;

	if (member->seen != state) {
		member->seen = state;
		member->seen_ns = now;
		return;
	}
	spent = now - member->seen_ns;
	if ((state & LEADS) != 0 && spent >= RELIEVE_NS)
		relieve(loop, member, state);
	if ((state & PART_CALLBACK) != 0 && loop->limit_s > 0 &&
	    spent >= (int64_t) loop->limit_s * 1000000000)
		log_die("a callback has run for %d s: the process ends", loop->limit_s);
}

enum { SEES_NOTHING, SEES_SLOW, SEES_LOOP };

/* What is going on: nothing, parts of members that do not lead, or the leader in a part. */
static int monitor_look(struct loop *loop)
{
	int64_t now = now_ns();
	int sees = SEES_NOTHING;
	int count;

	pthread_mutex_lock(&loop->lock);
	count = loop->member_count;
	pthread_mutex_unlock(&loop->lock);
	for (int i = 0; i < count; i++) {
		struct member *member = &loop->members[i];
		uint64_t state = atomic_load(&member->state);

		if ((state & PART) == 0)
			continue;
		if ((state & LEADS) != 0)
			sees = SEES_LOOP;
		else if (sees == SEES_NOTHING)
			sees = SEES_SLOW;
		part_check(loop, member, state, now);
	}
	return sees;
}

static void sleep_ns(long ns)
{
	struct timespec time = {.tv_nsec = ns};

	nanosleep(&time, NULL);
}

static void deadline_in(struct timespec *deadline, int64_t ns)
{
	clock_gettime(CLOCK_MONOTONIC, deadline);
	ns += deadline->tv_nsec;
	deadline->tv_sec += ns / 1000000000;
	deadline->tv_nsec = ns % 1000000000;
}

/* Sleeps until the loop has waited; while a slow callback runs, for SLOW_TICK_NS at most. */
static void monitor_sleep(struct loop *loop, uint64_t rounds, bool slow)
{
	struct timespec deadline;
	int error = 0;

	deadline_in(&deadline, SLOW_TICK_NS);
	pthread_mutex_lock(&loop->monitor_lock);
	atomic_store(&loop->monitor_asleep, true);
	while (atomic_load(&loop->monitor_asleep) && atomic_load(&loop->rounds) == rounds &&
	       !atomic_load(&loop->monitor_end) && error == 0) {
		if (slow)
			error = pthread_cond_timedwait(&loop->monitor_wake, &loop->monitor_lock, &deadline);
		else
			pthread_cond_wait(&loop->monitor_wake, &loop->monitor_lock);
	}
	atomic_store(&loop->monitor_asleep, false);
	pthread_mutex_unlock(&loop->monitor_lock);
}

static void *monitor_main(void *argument)
{
	struct loop *loop = argument;
	uint64_t rounds = 0;
	int quiet = 0;

	while (!atomic_load(&loop->monitor_end)) {
		uint64_t present = atomic_load(&loop->rounds);
		int sees = monitor_look(loop);

		quiet = sees == SEES_LOOP || present != rounds ? 0 : quiet + 1;
		rounds = present;
		if (quiet > QUIET_TICKS && (rounds & 1) != 0)
			monitor_sleep(loop, rounds, sees == SEES_SLOW);
		else
			sleep_ns(TICK_NS);
	}
	return NULL;
}

static void monitor_stop(struct loop *loop)
{
	pthread_mutex_lock(&loop->monitor_lock);
	atomic_store(&loop->monitor_end, true);
	pthread_cond_signal(&loop->monitor_wake);
	pthread_mutex_unlock(&loop->monitor_lock);
	pthread_join(loop->monitor, NULL);
}

/* --- life --- */

/* FCGX_Init puts handlers of its own on SIGTERM, SIGUSR1 and SIGPIPE. */
static void libfcgi_init(void)
{
	struct sigaction terminate;
	struct sigaction user;

	sigaction(SIGTERM, NULL, &terminate);
	sigaction(SIGUSR1, NULL, &user);
	if (FCGX_Init() != 0)
		log_die("libfcgi does not start");
	sigaction(SIGTERM, &terminate, NULL);
	sigaction(SIGUSR1, &user, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void locks_init(struct loop *loop)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->changed, NULL);
	pthread_mutex_init(&loop->answers_lock, NULL);
	pthread_mutex_init(&loop->monitor_lock, NULL);
	pthread_cond_init(&loop->monitor_wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

struct loop *loop_new(int listen_fd, const struct loop_handler *handler, size_t body_max, int spares)
{
	struct loop *loop = must(calloc(1, sizeof *loop));

	libfcgi_init();
	locks_init(loop);
	loop->handler = *handler;
	loop->body_max = body_max;
	loop->listen_fd = listen_fd;
	loop->member_max = spares + 1;
	loop->members = must(calloc((size_t) loop->member_max, sizeof *loop->members));
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->epoll_fd < 0 || loop->wake_fd < 0)
		log_die("no event loop: %s", strerror(errno));
	loop->listen_source = SOURCE_LISTEN;
	loop->wake_source = SOURCE_WAKE;
	loop->listening = true;
	fcntl(listen_fd, F_SETFL, fcntl(listen_fd, F_GETFL) | O_NONBLOCK);
	epoll_set(loop, EPOLL_CTL_ADD, listen_fd, EPOLLIN, &loop->listen_source);
	epoll_set(loop, EPOLL_CTL_ADD, loop->wake_fd, EPOLLIN, &loop->wake_source);
	return loop;
}

void loop_set_limit(struct loop *loop, int seconds)
{
	loop->limit_s = seconds;
}

bool loop_run(struct loop *loop)
{
	bool clean;

	loop->member_count = 1;
	loop->members[0].loop = loop;
	loop->vacant = true;
	if (!thread_start(&loop->monitor, monitor_main, loop))
		log_die("the request loop does not start");
	member_run(&loop->members[0]);
	monitor_stop(loop);
	pthread_mutex_lock(&loop->lock);
	clean = loop->clean;
	pthread_mutex_unlock(&loop->lock);
	for (int i = 1; clean && i < loop->member_count; i++)
		pthread_join(loop->members[i].thread, NULL);
	return clean;
}

static void connections_free(struct loop *loop)
{
	for (int i = 0; i < loop->connection_made; i++) {
		struct loop_request *connection = loop->connections[i];

		if (atomic_load(&connection->claim) != CLAIM_CLOSED)
			connection_close(connection);
		free(connection);
	}
}

void loop_free(struct loop *loop)
{
	connections_free(loop);
	while (loop->watches != NULL) {
		struct watch *watch = loop->watches;

		loop->watches = watch->next;
		free(watch);
	}
	close(loop->epoll_fd);
	close(loop->wake_fd);
	free(loop->members);
	pthread_mutex_destroy(&loop->lock);
	pthread_cond_destroy(&loop->changed);
	pthread_mutex_destroy(&loop->answers_lock);
	pthread_mutex_destroy(&loop->monitor_lock);
	pthread_cond_destroy(&loop->monitor_wake);
	free(loop);
}
