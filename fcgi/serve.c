#include "serve.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "open.h"
#include "phoenix.h"
#include "resume.h"
#include "server.h"
#include "websocket_events.h"

#define LINK_OUT_MAX (64 * 1024 * 1024) /* bytes that may wait for a link */
#define HOUSE_MS     1000
#define FLUSH_MS     2000

/* --- a client's message --- */

/* Answers with the end of the socket: nothing that was committed waits for it. */
static void
close_socket(struct loop_request *request, int code, const char *reason)
{
	struct answer *answers = NULL;
	phoenix_close(&answer_new(&answers, request)->body, code, reason);
	answers_send(answers);
}

static int64_t
number_param(const struct loop_request *request, const char *name)
{
	const char *text = loop_param(request, name);
	char *end;
	if (!text || !*text)
		return -1;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	return errno || *end || number < 0 ? -1 : number;
}

/* The one event of a request's body; false when it is none that a client can have sent. */
static bool
body_event(const struct loop_request *request, struct events_event *event)
{
	size_t len;
	const char *body = loop_body(request, &len);
	long used = events_decode((const uint8_t *)body, len, event);
	return used > 0 && (size_t)used == len &&
	       (event->type == EVENTS_TEXT || event->type == EVENTS_BINARY);
}

static bool
alive(void *request)
{
	return loop_alive(request);
}

static void
submit(struct server *server, struct message *message, int64_t position)
{
	struct loop_request *request = message->request;
	void *old = NULL;
	switch (engine_submit(server->engine, message, position, alive, &old)) {
	case SUBMIT_TAKEN:
		break;
	case SUBMIT_REPEATED:
		loop_drop(old);
		break;
	case SUBMIT_STALE:
		loop_drop(request);
		message_free(message);
		break;
	}
}

/* Returns NULL after the socket was told that it can't go on. */
static struct message *
read_message(const struct server *server, struct loop_request *request, struct socket *socket)
{
	struct events_event event;
	struct message *message = message_new(socket);
	const char *why = "no event";
	if (body_event(request, &event) &&
	    phoenix_parse((int)socket->row.format, event.type == EVENTS_BINARY, (const char *)event.data,
	                  event.len, message, &message->reply, &why)) {
		resume_read(&server->key, message);
		message->request = request;
		return message;
	}
	log_line("socket %s: malformed frame: %s", socket->row.token, why);
	close_socket(request, 1011, "");
	message_free(message);
	return NULL;
}

static void
message_request(struct server *server, struct loop_request *request, const char *token)
{
	struct socket *socket = engine_find(server->engine, token);
	int64_t number = number_param(request, "SEANCE_MESSAGE");
	int64_t position = number_param(request, "SEANCE_POSITION");
	if (!socket || number <= 0 || position < 0 || engine_is_ahead(server->engine, position)) {
		close_socket(request, 1013, "unknown socket");
		return;
	}
	struct message *message = read_message(server, request, socket);
	if (!message)
		return;
	message->number = number;
	submit(server, message, position);
}

static void
take_request(void *context, struct loop_request *request)
{
	struct server *server = context;
	const char *token = loop_param(request, "SEANCE_SOCKET");
	engine_lock(server->engine);
	if (token)
		message_request(server, request, token);
	else if (loop_param(request, "SEANCE_LONG_POLL"))
		long_poll_request(server, request);
	else if (loop_param(request, "SEANCE_API"))
		visit_request(server, request);
	else if (loop_param(request, "SEANCE_INTERNAL"))
		broadcast_request(server, request);
	else
		connect_request(server, request);
	engine_unlock(server->engine);
}

/* --- a turn --- */

static void
close_laggard(void *context, struct socket *socket)
{
	(void)context;
	if (socket->link)
		link_close(socket->link, socket->handle, 1013, "too far behind");
}

static int
keep_house(struct server *server)
{
	int64_t now = clock_ms();
	if (now - server->housed_ms >= HOUSE_MS) {
		server->housed_ms = now;
		engine_house(server->engine, links_floor(server), close_laggard, server);
	}
	int due = server->batches ? 0 : engine_due(server->engine);
	return due < 0 || due > HOUSE_MS ? HOUSE_MS : due;
}

static int
end_turn(void *context)
{
	struct server *server = context;
	struct commit_result result;
	struct answer *answers = NULL;
	engine_lock(server->engine);
	engine_commit(server->engine, &result);
	deliver_result(server, &result, &answers);
	arrivals_stored(server, &answers);
	link_server_flush(server->links);
	commit_result_release(&result);
	engine_unlock(server->engine);
	answers_send(answers);
	engine_lock(server->engine);
	long_poll_go_on(server);
	engine_post(server->engine);
	int due = keep_house(server);
	engine_unlock(server->engine);
	return due;
}

/* --- hooks --- */

static bool
run_begin(void *context, const char *name, int64_t number, int *slot)
{
	struct server *server = context;
	*slot = -1;
	if (*name && poison_kills(server->poison, name, number)) {
		loop_block_begin(server->loop);
		return false;
	}
	*slot = poison_enter(server->poison, name, number);
	loop_block_begin(server->loop);
	return true;
}

static void
run_end(void *context, int slot)
{
	struct server *server = context;
	loop_block_end(server->loop);
	poison_leave(server->poison, slot);
}

static void
say(void *context, const char *line)
{
	(void)context;
	log_line("%s", line);
}

/* --- start and end --- */

static struct loop *stopped_loop; /* for the signal handler */

static void
on_stop(int signal)
{
	(void)signal;
	loop_stop(stopped_loop);
}

static void
catch_stop(struct loop *loop)
{
	struct sigaction action = {.sa_handler = on_stop};
	stopped_loop = loop;
	sigaction(SIGTERM, &action, NULL);
}

/* SIGUSR1 has come. */
static void
report(void *context, int fd, unsigned events)
{
	struct server *server = context;
	struct signalfd_siginfo info;
	(void)events;
	if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	engine_lock(server->engine);
	links_log(server);
	engine_unlock(server->engine);
}

/* Returns a descriptor that is to be closed.  The signal is blocked since the process began: see worker.c. */
static int
watch_report(struct server *server)
{
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	int fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		log_die("no signals: %s", strerror(errno));
	loop_watch(server->loop, fd, EPOLLIN, report, server);
	return fd;
}

/* Tells that all is opened, and waits until the process before this one has gone. */
static bool
wait_for_go(const struct serve_setup *setup)
{
	char byte = 0;
	if (write(setup->ready_fd, "r", 1) != 1)
		return false;
	close(setup->ready_fd);
	ssize_t n;
	do
		n = read(setup->go_fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

static void
serve(struct server *server, const struct serve_setup *setup)
{
	struct loop_handler handler = {server, take_request, end_turn};
	struct link_handler links = links_handler(server);
	server->loop = loop_new(setup->program_fd, &handler, server->options->message_bytes + 64,
	                        server->options->spares);
	loop_set_limit(server->loop, server->options->callback_s);
	server->links = link_server_new(server->loop, setup->link_fd, LINK_OUT_MAX, &links);
	int signals = watch_report(server);
	catch_stop(server->loop);
	if (!loop_run(server->loop)) {
		log_line("a callback did not end in time");
		_exit(0); /* what was committed is stored; threads may still be about */
	}
	link_server_free(server->links, FLUSH_MS);
	loop_unwatch(server->loop, signals);
	close(signals);
	loop_free(server->loop);
}

int
serve_run(const struct serve_setup *setup)
{
	struct server server = {.options = setup->options, .poison = setup->poison};
	struct engine_hooks hooks = {
		.context = &server, .run_begin = run_begin, .run_end = run_end, .log = say};
	struct store *store = NULL;
	if (!token_open(&server.key, setup->options->dir))
		return 1;
	server.engine = open_engine(setup->options, &hooks, setup->on_connect, setup->channels, &store);
	if (!server.engine)
		return 1;
	bool ready = wait_for_go(setup) && engine_restore(server.engine);
	if (ready)
		serve(&server, setup);
	engine_close(server.engine);
	free(server.linked.at);
	return ready ? 0 : 1;
}
