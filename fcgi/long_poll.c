/*
 * Phoenix's long-poll transport: a session is a polled socket of the engine.  Its token names it, and says up to
 * where the client has been told: so an answer that was lost is given again, whoever has died meanwhile.
 */
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "cors.h"
#include "json.h"
#include "log.h"
#include "memory.h"
#include "phoenix.h"
#include "resume.h"
#include "server.h"
#include "url.h"
#include "websocket_events.h"

#define WINDOW_S    10 /* a question waits so long for something to tell, as in the reference */
#define TOKEN_S     86400
#define BATCHES_MAX 64 /* of a session at once */
#define KIND        "poll"

/* --- answers: the HTTP status is 200, the one that clients look at is in the body --- */

static void
add_head(const struct server *server, const struct loop_request *request, struct buffer *out)
{
	buffer_add_text(out,
	                "Status: 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n");
	cors_add(out, loop_param(request, "HTTP_ORIGIN"), loop_param(request, "HTTP_HOST"),
	         server->options->origins);
}

static void
add_status(const struct server *server, const struct loop_request *request, struct buffer *out,
           int status)
{
	add_head(server, request, out);
	buffer_add_text(out, "\r\n{\"status\":");
	buffer_add_number(out, status);
}

static void
finish(const struct server *server, struct loop_request *request, int status)
{
	struct buffer out = {0};
	add_status(server, request, &out, status);
	buffer_add_char(&out, '}');
	loop_finish(request, out.at, out.len);
	buffer_release(&out);
}

/* The frames of an answer's events, each as a string. */
static void
add_frames(struct buffer *out, const struct buffer *events)
{
	struct events_event event;
	size_t at = 0;
	long used;
	while ((used = events_decode((const uint8_t *)events->at + at, events->len - at, &event)) > 0) {
		if (at > 0)
			buffer_add_char(out, ',');
		buffer_add_json_string(out, (const char *)event.data, event.len);
		at += (size_t)used;
	}
}

static void
add_told(const struct server *server, struct buffer *out, const char *socket, int64_t position,
         const struct buffer *events)
{
	char text[WATCH_NAME_BYTES + 24];
	snprintf(text, sizeof(text), "%s~%" PRId64, socket, position);
	char *token = token_sign(&server->key, KIND, text, time(NULL) + TOKEN_S);
	buffer_add_text(out, ",\"token\":\"");
	buffer_add_text(out, token);
	buffer_add_text(out, "\",\"messages\":[");
	add_frames(out, events);
	buffer_add_text(out, "]}");
	free(token);
}

/* --- sessions --- */

enum session { SESSION_NONE, SESSION_GONE, SESSION_FOUND };

/* The parameter may come twice, the application's first; newer clients send a header. */
static const char *
token_of(const struct loop_request *request, json_object *params)
{
	const char *header = loop_param(request, "HTTP_X_PHOENIX_LONGPOLL_TOKEN");
	if (header)
		return header;
	return json_object_get_string(json_object_object_get(params, "token"));
}

static enum session
find_session(struct server *server, const char *token, struct socket **socket, int64_t *position)
{
	bool expired = false;
	char *text = token_read(&server->key, KIND, token, &expired);
	if (!text)
		return expired ? SESSION_GONE : SESSION_NONE;
	char *mark = strchr(text, '~');
	*mark = '\0';
	*position = strtoll(mark + 1, NULL, 10);
	*socket = engine_find(server->engine, text);
	free(text);
	if (!*socket)
		return SESSION_GONE;
	if (!engine_is_ahead(server->engine, *position))
		return SESSION_FOUND;
	engine_closed(server->engine, *socket);
	return SESSION_GONE;
}

struct opening {
	struct arrival arrival;
	struct loop_request *request;
};

static void
opened(struct server *server, struct arrival *arrival, struct answer **answers)
{
	struct opening *opening = (struct opening *)arrival;
	struct answer *answer = answer_new(answers, opening->request);
	const struct buffer nothing = {0};
	bool stored = engine_stored(arrival->socket);
	answer->plain = true;
	add_status(server, opening->request, &answer->body, stored ? 410 : 500);
	if (stored)
		add_told(server, &answer->body, arrival->socket->row.token, engine_newest(server->engine),
		         &nothing);
	else
		buffer_add_char(&answer->body, '}');
	free(opening);
}

static void
open_session(struct server *server, struct loop_request *request, json_object *params)
{
	struct opening *opening = memory_alloc(sizeof(*opening));
	struct engine_client client = {.params = params};
	*opening = (struct opening){{.stored = opened}, request};
	enum engine_connect outcome = CONNECT_REFUSED;
	if (connect_read(request, &client))
		outcome = arrival_begin(server, &opening->arrival, &client);
	if (outcome == CONNECT_OK)
		return;
	free(opening);
	finish(server, request, outcome == CONNECT_LIMIT ? 500 : 403);
}

/* --- what it lacks --- */

static void
ask(struct server *server, struct loop_request *request, json_object *params)
{
	struct socket *socket = NULL;
	int64_t position = 0;
	switch (find_session(server, token_of(request, params), &socket, &position)) {
	case SESSION_NONE:
		open_session(server, request, params);
		break;
	case SESSION_GONE:
		finish(server, request, 500);
		break;
	case SESSION_FOUND:
		engine_poll(server->engine, socket, position, request);
		break;
	}
}

static bool
has_waited(const struct loop_request *request)
{
	const char *elapsed = loop_param(request, "SEANCE_ELAPSED");
	return elapsed && strtod(elapsed, NULL) >= WINDOW_S;
}

/* nginx lets the request wait, and asks again when there is something, or its time is over. */
static void
park(const struct message *message, struct buffer *out)
{
	char name[WATCH_NAME_BYTES];
	watch_name_socket(name, message->socket->row.token);
	buffer_add_text(out, "X-Accel-Redirect: /_hold/wait/");
	buffer_add_text(out, name);
	buffer_add_text(out, "?after=");
	buffer_add_number(out, message->cursor);
	buffer_add_text(out, "&seconds=");
	buffer_add_number(out, WINDOW_S);
	buffer_add_text(out, "&end=again&again=");
	buffer_add_text(out, loop_param(message->request, "SEANCE_LONG_POLL"));
	buffer_add_text(out, "\r\n\r\n");
}

void
long_poll_asked(struct server *server, struct answer *answer, const struct message *message)
{
	struct buffer events = answer->body, *out = &answer->body;
	bool told = message->outcome == OUTCOME_COMMITTED;
	bool ends = message->outcome == OUTCOME_NOTHING || has_waited(message->request);
	answer->plain = true;
	*out = (struct buffer){0};
	if (told && events.len == 0 && !ends) {
		park(message, out);
	} else if (told || message->outcome == OUTCOME_NOTHING) {
		add_status(server, message->request, out, events.len > 0 ? 200 : 204);
		add_told(server, out, message->socket->row.token, message->cursor, &events);
	} else {
		add_status(server, message->request, out, 500);
		buffer_add_char(out, '}');
	}
	buffer_release(&events);
}

/* --- what it sends: each frame of a request is a message, one after the other --- */

struct batch {
	struct loop_request *request;
	struct socket *socket; /* kept */
	const char *at, *end;  /* what is left of the body */
	bool lines;            /* a frame a line; else it is one */
	int number;            /* of the frame, counted from 1 */
	struct buffer answer;  /* frames that answer the last one and have no row yet */
	struct batch *next;    /* of its socket */
	struct batch *next_ready;
};

static bool
is_lines(const struct loop_request *request)
{
	static const char type[] = "application/x-ndjson";
	const char *given = loop_param(request, "CONTENT_TYPE");
	return given && strncasecmp(given, type, sizeof(type) - 1) == 0;
}

static void
batch_ready(struct server *server, struct batch *batch)
{
	batch->next_ready = server->batches;
	server->batches = batch;
}

/* It has been answered: its socket's next has its turn. */
static void
batch_end(struct server *server, struct batch *batch, int status)
{
	struct socket *socket = batch->socket;
	finish(server, batch->request, status);
	socket->queue = batch->next;
	if (batch->next)
		batch_ready(server, batch->next);
	engine_release(socket);
	buffer_release(&batch->answer);
	free(batch);
}

static void
send(struct server *server, struct loop_request *request, json_object *params)
{
	struct socket *socket = NULL;
	int64_t position;
	int waiting = 0;
	enum session session = find_session(server, token_of(request, params), &socket, &position);
	if (session != SESSION_FOUND) {
		finish(server, request, session == SESSION_NONE ? 410 : 500);
		return;
	}
	struct batch *batch = memory_zeroed(1, sizeof(*batch)), *last = NULL;
	size_t len;
	batch->request = request;
	batch->socket = socket;
	batch->at = loop_body(request, &len);
	batch->end = batch->at + len;
	batch->lines = is_lines(request);
	engine_keep(socket);
	for (struct batch *at = socket->queue; at; at = at->next, waiting++)
		last = at;
	if (waiting == BATCHES_MAX) {
		engine_release(socket);
		free(batch);
		finish(server, request, 500);
	} else if (last) {
		last->next = batch;
	} else {
		socket->queue = batch;
		batch_ready(server, batch);
	}
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The next frame; false when there is none. */
static bool
next_frame(struct batch *batch, const char **frame, size_t *len)
{
	while (batch->at < batch->end && is_space(*batch->at))
		batch->at++;
	*frame = batch->at;
	const char *end = batch->lines ? memchr(batch->at, '\n', (size_t)(batch->end - batch->at)) : NULL;
	batch->at = end ? end : batch->end;
	*len = (size_t)(batch->at - *frame);
	while (*len > 0 && is_space((*frame)[*len - 1]))
		--*len;
	batch->number++;
	return *len > 0;
}

static bool
decode_base64(struct buffer *out, const char *text, size_t len)
{
	buffer_reserve(out, len + 1);
	int size = EVP_DecodeBlock((unsigned char *)out->at, (const unsigned char *)text, (int)len);
	if (size < 0)
		return false;
	out->len = (size_t)size;
	for (size_t i = len; i > 0 && text[i - 1] == '=' && out->len > 0; i--)
		out->len--;
	return true;
}

static bool
parse(const struct batch *batch, const char *frame, size_t len, struct message *message)
{
	int format = (int)batch->socket->row.format;
	const char *why = "neither JSON nor base64";
	struct buffer bytes = {0};
	bool binary = *frame != '[' && *frame != '{';
	bool done = (!binary || decode_base64(&bytes, frame, len)) &&
	            phoenix_parse(format, binary, binary ? bytes.at : frame, binary ? bytes.len : len,
	                          message, &message->reply, &why);
	buffer_release(&bytes);
	if (!done)
		log_line("socket %s: malformed frame: %s", batch->socket->row.token, why);
	return done;
}

/* Under it a frame is known when nginx sends the request again. */
static struct visit *
mark_of(const struct batch *batch)
{
	const char *id = loop_param(batch->request, "REQUEST_ID");
	char mark[128];
	if (!id || !*id)
		return NULL;
	snprintf(mark, sizeof(mark), "frame %d of %s", batch->number, id);
	return visit_marked(mark);
}

static void
take(struct server *server, struct batch *batch, struct message *message)
{
	message->request = batch;
	message->visit = mark_of(batch);
	engine_take(server->engine, message);
}

/* What answers a frame and has no row gets one, so that it is told once, and in order. */
static void
take_answer(struct server *server, struct batch *batch)
{
	struct message *message = message_new(batch->socket);
	struct buffer frames = {0};
	buffer_add_char(&frames, '[');
	add_frames(&frames, &batch->answer);
	buffer_add_text(&frames, "]");
	message->kind = MESSAGE_ANSWER;
	message->payload = json_read(buffer_text(&frames));
	buffer_release(&frames);
	buffer_clear(&batch->answer);
	take(server, batch, message);
}

static void
go_on(struct server *server, struct batch *batch)
{
	const char *frame;
	size_t len;
	if (batch->socket->ended) {
		batch_end(server, batch, 500);
	} else if (batch->answer.len > 0) {
		take_answer(server, batch);
	} else if (!next_frame(batch, &frame, &len)) {
		batch_end(server, batch, 200);
	} else {
		struct message *message = message_new(batch->socket);
		if (parse(batch, frame, len, message)) {
			resume_read(&server->key, message);
			take(server, batch, message);
			return;
		}
		message_free(message);
		engine_closed(server->engine, batch->socket);
		batch_end(server, batch, 500);
	}
}

void
long_poll_taken(struct server *server, const struct message *message)
{
	struct batch *batch = message->request;
	if (message->outcome == OUTCOME_FAILED) {
		batch_end(server, batch, 500);
		return;
	}
	buffer_add(&batch->answer, message->reply.at, message->reply.len);
	phoenix_outcome(&batch->answer, (int)message->socket->row.format, message);
	batch_ready(server, batch);
}

void
long_poll_go_on(struct server *server)
{
	struct batch *list = server->batches, *next;
	server->batches = NULL; /* others may come while a callback runs */
	for (struct batch *batch = list; batch; batch = next) {
		next = batch->next_ready;
		go_on(server, batch);
	}
}

/* --- requests --- */

static void
answer_options(const struct server *server, struct loop_request *request)
{
	struct buffer out = {0};
	add_head(server, request, &out);
	buffer_add_text(&out, "Access-Control-Allow-Methods: GET, POST, OPTIONS\r\n"
	                      "Access-Control-Allow-Headers: Content-Type, X-Phoenix-AuthToken, "
	                      "X-Phoenix-Longpoll-Token\r\nAccess-Control-Max-Age: 3600\r\n\r\n");
	loop_finish(request, out.at, out.len);
	buffer_release(&out);
}

static void
answer_method(struct loop_request *request)
{
	static const char answer[] =
		"Status: 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n";
	loop_finish(request, answer, sizeof(answer) - 1);
}

void
long_poll_request(struct server *server, struct loop_request *request)
{
	const char *method = loop_param(request, "REQUEST_METHOD");
	const char *query = loop_param(request, "QUERY_STRING");
	json_object *params = url_params(query ? query : "");
	if (strcmp(method, "OPTIONS") == 0)
		answer_options(server, request);
	else if (strcmp(method, "GET") != 0 && strcmp(method, "POST") != 0)
		answer_method(request);
	else if (!connect_origin_is_allowed(server, request))
		finish(server, request, 403);
	else if (strcmp(method, "GET") == 0)
		ask(server, request, params);
	else
		send(server, request, params);
	json_object_put(params);
}
