#include "loop_internal.h"

#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "memory.h"

void
loop_epoll(struct loop *loop, int operation, int fd, unsigned events, void *source)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (epoll_ctl(loop->epoll_fd, operation, fd, &event) != 0 && operation != EPOLL_CTL_DEL)
		log_die("epoll_ctl: %s", strerror(errno));
}

/* --- accepting --- */

static void
listen_set(struct loop *loop, bool on)
{
	if (loop->listening == on)
		return;
	loop->listening = on;
	loop_epoll(loop, EPOLL_CTL_MOD, loop->listen_fd, on ? EPOLLIN : 0, &loop->listen_source);
}

static void
accept_all(struct loop *loop)
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
			loop->listen_again_ms = clock_ms() + LISTEN_RETRY_MS;
		}
		return;
	}
}

static void
listen_again(struct loop *loop)
{
	if (loop->listening || atomic_load(&loop->draining))
		return;
	if (atomic_load(&loop->connection_open) >= LOOP_CONNECTIONS_MAX ||
	    clock_ms() < loop->listen_again_ms)
		return;
	listen_set(loop, true);
}

/* --- waking and stopping --- */

static void
wake_write(struct loop *loop)
{
	uint64_t one = 1;
	int error = errno;

	/* It can only fail when the counter is full, and then the loop is being woken. */
	while (write(loop->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
	errno = error;
}

static void
wake_read(struct loop *loop)
{
	uint64_t count;

	while (read(loop->wake_fd, &count, sizeof count) < 0 && errno == EINTR)
		;
	atomic_exchange(&loop->wake_pending, false);
}

void
loop_wake(struct loop *loop)
{
	if (!atomic_exchange(&loop->wake_pending, true))
		wake_write(loop);
}

void
loop_stop(struct loop *loop)
{
	atomic_store(&loop->stop, true);
	wake_write(loop);
}

/* --- the loop --- */

static void
event_serve(struct loop *loop, const struct epoll_event *event)
{
	void *source = event->data.ptr;

	switch (*(enum source *)source) {
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

static int
shorter(int timeout_ms, int other_ms)
{
	return timeout_ms < 0 || timeout_ms > other_ms ? other_ms : timeout_ms;
}

static void
events_fetch(struct loop *loop, int timeout_ms)
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
static bool
events_serve(struct member *member)
{
	struct loop *loop = member->loop;

	while (loop->event_next < loop->event_count) {
		struct epoll_event event = loop->events[loop->event_next++];

		event_serve(loop, &event);
		if (!member_leads(member))
			return false;
	}
	return true;
}

/* --- ending --- */

/* Takes no new connection, closes the idle ones; false as above.  What has arrived is still served. */
static bool
drain_begin(struct member *member)
{
	struct loop *loop = member->loop;
	int made;

	listen_set(loop, false);
	if (!atomic_exchange(&loop->draining, true))
		loop->drain_until_ms = clock_ms() + LOOP_STOP_MS;
	pthread_mutex_lock(&loop->lock);
	made = loop->connection_made;
	pthread_mutex_unlock(&loop->lock);
	/* If this thread loses the loop, the next one begins here again. */
	for (int i = 0; i < made; i++) {
		connection_drain(loop->connections[i]);
		if (!member_leads(member))
			return false;
	}
	return true;
}

static bool
drain_done(struct loop *loop, bool *clean)
{
	bool all_idle;

	pthread_mutex_lock(&loop->lock);
	all_idle = loop->idle == loop->member_count - 1;
	pthread_mutex_unlock(&loop->lock);
	*clean = all_idle && atomic_load(&loop->taken) == 0;
	return *clean || clock_ms() >= loop->drain_until_ms;
}

static void
finish(struct loop *loop, bool clean)
{
	pthread_mutex_lock(&loop->lock);
	loop->finished = true;
	loop->clean = clean;
	pthread_cond_broadcast(&loop->changed);
	pthread_mutex_unlock(&loop->lock);
}

int
loop_turn(struct loop *loop)
{
	return loop->handler.turn(loop->handler.context);
}

/* Until the loop is finished, or was handed to another thread. */
void
loop_lead(struct member *member)
{
	struct loop *loop = member->loop;
	bool drain_begun = false;
	bool clean;
	int timeout_ms;

	/* First of all what the slow thread had staged is committed. */
	loop_turn(loop);
	while (member_leads(member)) {
		if (!events_serve(member))
			return;
		timeout_ms = loop_turn(loop);
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

/* --- life --- */

/* FCGX_Init puts handlers of its own on SIGTERM, SIGUSR1 and SIGPIPE. */
static void
libfcgi_init(void)
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

static void
locks_init(struct loop *loop)
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

struct loop *
loop_new(int listen_fd, const struct loop_handler *handler, size_t body_max, int spares)
{
	struct loop *loop = memory_zeroed(1, sizeof *loop);

	libfcgi_init();
	locks_init(loop);
	loop->handler = *handler;
	loop->body_max = body_max;
	loop->listen_fd = listen_fd;
	loop->member_max = spares + 1;
	loop->members = memory_zeroed((size_t)loop->member_max, sizeof *loop->members);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->epoll_fd < 0 || loop->wake_fd < 0)
		log_die("no event loop: %s", strerror(errno));
	loop->listen_source = SOURCE_LISTEN;
	loop->wake_source = SOURCE_WAKE;
	loop->listening = true;
	fcntl(listen_fd, F_SETFL, fcntl(listen_fd, F_GETFL) | O_NONBLOCK);
	loop_epoll(loop, EPOLL_CTL_ADD, listen_fd, EPOLLIN, &loop->listen_source);
	loop_epoll(loop, EPOLL_CTL_ADD, loop->wake_fd, EPOLLIN, &loop->wake_source);
	return loop;
}

void
loop_set_limit(struct loop *loop, int seconds)
{
	loop->limit_s = seconds;
}

bool
loop_run(struct loop *loop)
{
	bool clean;

	loop->member_count = 1;
	loop->members[0].loop = loop;
	loop->vacant = true;
	if (!loop_thread(&loop->monitor, monitor_main, loop))
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

void
loop_free(struct loop *loop)
{
	connections_free(loop);
	watches_free(loop);
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
