#include "cgi.h"

#include <errno.h>
#include <fcgiapp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api.h"
#include "clock.h"
#include "command.h"
#include "log.h"
#include "memory.h"
#include "open.h"
#include "options.h"

#define TRIES       100 /* while another process commits */
#define TEND_ROUNDS 100
#define TEND_MS     1000

struct cgi {
	struct options options;
	seance_connect_fn *on_connect;
	const struct seance_channel *const *channels;
	char *uri; /* owned: without the script's name */
	struct buffer body;
	struct api_request api;
	struct store *store; /* the engine's */
	struct engine *engine;
	bool committed;
};

bool
cgi_asked(void)
{
	return getenv("GATEWAY_INTERFACE") && FCGX_IsCGI();
}

/* --- the request --- */

static void
add_encoded(struct buffer *out, const char *path)
{
	static const char hex[] = "0123456789ABCDEF";
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
	for (; *path; path++) {
		unsigned char byte = (unsigned char)*path;
		if (strchr(plain, *path)) {
			buffer_add_char(out, *path);
			continue;
		}
		buffer_add_char(out, '%');
		buffer_add_char(out, hex[byte >> 4]);
		buffer_add_char(out, hex[byte & 15]);
	}
}

/* PATH_INFO comes decoded: a slash in a topic can't be told from one between segments, so it is second choice. */
static char *
read_uri(void)
{
	const char *uri = getenv("REQUEST_URI"), *script = getenv("SCRIPT_NAME"),
			   *path = getenv("PATH_INFO");
	size_t len = script ? strlen(script) : 0;
	struct buffer out = {0};
	if (uri && *uri) {
		bool below = len > 0 && strncmp(uri, script, len) == 0 && strchr("/?", uri[len]);
		return memory_strdup(below ? uri + len : uri);
	}
	add_encoded(&out, path ? path : "");
	buffer_text(&out);
	return out.at;
}

/* An empty one is as good as none.  No CGI server sends a request again, so there is no REQUEST_ID. */
static const char *
param(void *context, const char *name)
{
	const struct cgi *cgi = context;
	if (strcmp(name, "REQUEST_URI") == 0)
		return cgi->uri;
	if (strcmp(name, "REQUEST_ID") == 0)
		return NULL;
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

static void
put(const char *at, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDOUT_FILENO, at, len);
		if (n < 0 && errno != EINTR)
			return; /* the client has gone */
		at += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
}

#define PROBLEM(code, title)                                                                            \
	"Status: " code " " title "\r\nContent-Type: application/problem+json\r\n"                          \
	"Cache-Control: no-store\r\n\r\n{\"type\":\"about:blank\",\"title\":\"" title "\",\"status\":" code \
	"}"

static void
put_text(const char *text)
{
	put(text, strlen(text));
}

static bool
refuse(const char *problem)
{
	put_text(problem);
	return false;
}

static bool
read_body(struct cgi *cgi)
{
	const char *text = param(cgi, "CONTENT_LENGTH");
	char *end = NULL;
	errno = 0;
	unsigned long long size = text ? strtoull(text, &end, 10) : 0;
	if (text && (errno || *text < '0' || *text > '9' || *end))
		return refuse(PROBLEM("400", "Bad Request"));
	if (size > cgi->options.message_bytes)
		return refuse(PROBLEM("413", "Content Too Large"));
	buffer_reserve(&cgi->body, (size_t)size + 1);
	while (cgi->body.len < size) {
		ssize_t n = read(STDIN_FILENO, cgi->body.at + cgi->body.len, (size_t)size - cgi->body.len);
		if (n == 0 || (n < 0 && errno != EINTR))
			return refuse(PROBLEM("400", "Bad Request"));
		cgi->body.len += n > 0 ? (size_t)n : 0;
	}
	return true;
}

/* Nothing waits here. */
static bool
wants_stream(const struct cgi *cgi)
{
	const char *accept = cgi->api.param(cgi->api.context, "HTTP_ACCEPT");
	return accept && strstr(accept, "text/event-stream");
}

/* --- the engine --- */

static void
say(void *context, const char *line)
{
	(void)context;
	log_line("%s", line);
}

static bool
begin(struct cgi *cgi, bool guest)
{
	struct engine_hooks hooks = {.log = say};
	cgi->engine = open_engine(&cgi->options, &hooks, cgi->on_connect, cgi->channels, &cgi->store);
	if (!cgi->engine)
		return false;
	if (guest ? engine_restore_guest(cgi->engine) : engine_restore(cgi->engine))
		return true;
	store_close(engine_detach(cgi->engine));
	return false;
}

/* While another process holds the lock it comes back without an answer; the engine gives up in time. */
static void
commit(struct cgi *cgi, struct commit_result *result)
{
	engine_commit(cgi->engine, result);
	while (!result->answered) {
		commit_result_release(result);
		poll(NULL, 0, 1);
		engine_commit(cgi->engine, result);
	}
}

/* --- the answer --- */

static void
answer(struct cgi *cgi, const struct message *message)
{
	struct buffer out = {0};
	cgi->committed = message->visit->event && message->outcome == OUTCOME_COMMITTED;
	if (cgi->committed)
		(void)command_wake(&cgi->options); /* first, so that others see it at once */
	api_answer(&cgi->api, message, &out);
	put(out.at, out.len);
	buffer_release(&out);
}

/*
 * Row, state and log are read one after the other: if another process has committed meanwhile, what was found
 * without a commit of our own may be of different moments, and is found anew.
 */
static bool
try(struct cgi *cgi, bool last)
{
	struct buffer out = {0};
	struct commit_result result;
	char *topic = NULL;
	struct visit *visit = api_read(&cgi->api, &topic, &out);
	bool done = true;
	if (visit && visit->joins) { /* private state wants a process that lives */
		api_not_allowed(&cgi->api, API_SHARED_METHODS, &out);
		visit_free(visit);
		visit = NULL;
	}
	if (!visit)
		put(out.at, out.len);
	if (visit) {
		engine_visit(cgi->engine, visit, topic, cgi);
		bool changed = store_changed(cgi->store);
		commit(cgi, &result);
		const struct message *message = result.answered;
		done = last || !changed || (message->visit->event && message->outcome == OUTCOME_COMMITTED);
		if (done)
			answer(cgi, message);
		commit_result_release(&result);
	}
	buffer_release(&out);
	free(topic);
	return done;
}

/* --- what nobody else does --- */

static bool
first_timer(void *context, const struct store_timer *row)
{
	*(bool *)context = row->due_ms <= clock_unix_ms();
	return false;
}

static bool
first_broadcast(void *context, int64_t instance, const struct store_broadcast *row)
{
	(void)instance, (void)row;
	*(bool *)context = true;
	return false;
}

static bool
posts_wait(struct store *store)
{
	bool timer = false, broadcast = false;
	return store_scan_timers(store, first_timer, &timer) == STORE_OK &&
	       store_scan_pending(store, "", first_broadcast, &broadcast) == STORE_OK &&
	       (timer || broadcast);
}

/* Instances that sockets have joined are given theirs with their joins: so all of them are read here. */
static void
give_posts(struct cgi *cgi)
{
	int64_t until = clock_ms() + TEND_MS;
	struct commit_result result;
	if (!begin(cgi, false))
		return;
	engine_lock(cgi->engine);
	for (int i = 0; i < TEND_ROUNDS && clock_ms() < until && engine_due(cgi->engine) == 0; i++) {
		engine_post(cgi->engine);
		engine_commit(cgi->engine, &result);
		commit_result_release(&result);
	}
	engine_unlock(cgi->engine);
	engine_close(cgi->engine);
}

/* The client has its answer.  What the program does, if one runs, is left to it. */
static void
tend(struct cgi *cgi)
{
	bool posts = posts_wait(cgi->store);
	bool alone = (posts || cgi->committed) && !command_wake(&cgi->options);
	close(STDOUT_FILENO);
	if (alone)
		engine_close(cgi->engine);
	else
		store_close(engine_detach(cgi->engine));
	if (alone && posts)
		give_posts(cgi);
}

/* --- all of it --- */

static void
serve(struct cgi *cgi)
{
	if (wants_stream(cgi)) {
		put_text(PROBLEM("406", "Not Acceptable"));
		return;
	}
	if (!read_body(cgi))
		return;
	cgi->api.body = cgi->body.at;
	cgi->api.len = cgi->body.len;
	alarm((unsigned)cgi->options.callback_s); /* ends the process */
	if (!begin(cgi, true)) {
		put_text(PROBLEM("503", "Service Unavailable"));
		return;
	}
	engine_lock(cgi->engine);
	for (int i = 1; !try(cgi, i == TRIES); i++)
		;
	engine_unlock(cgi->engine);
	tend(cgi);
}

int
cgi_run(seance_connect_fn *on_connect, const struct seance_channel *const *channels)
{
	const char *dir = getenv("SEANCE_DIR");
	struct cgi cgi = {.on_connect = on_connect, .channels = channels, .uri = read_uri()};
	options_default(&cgi.options);
	if (dir && *dir)
		cgi.options.dir = dir;
	cgi.api = (struct api_request){.param = param, .context = &cgi, .origins = cgi.options.origins};
	signal(SIGPIPE, SIG_IGN);
	serve(&cgi);
	buffer_release(&cgi.body);
	free(cgi.uri);
	return 0;
}
