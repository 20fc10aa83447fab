#include "api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "cors.h"
#include "header.h"
#include "json.h"
#include "memory.h"
#include "origin.h"
#include "url.h"

#define PREFIX "/channels/"
#define EVENTS "/events/"

#define WAIT_MAX 60 /* seconds */

#define TOKEN_KIND  "join"
#define TOKEN_PARAM "seance_token"
#define TOKEN_S     (30 * 86400) /* the join itself lives shorter */

/* --- headers --- */

static const char *
param(const struct api_request *request, const char *name)
{
	return request->param(request->context, name);
}

static void
add_cors(const struct api_request *request, struct buffer *out)
{
	cors_add(out, param(request, "HTTP_ORIGIN"), param(request, "HTTP_HOST"), request->origins);
	buffer_add_text(out, "Access-Control-Expose-Headers: ETag\r\n");
}

static void
add_status(const struct api_request *request, struct buffer *out, const char *status, const char *type)
{
	buffer_add_text(out, "Status: ");
	buffer_add_text(out, status);
	buffer_add_text(out, "\r\nContent-Type: ");
	buffer_add_text(out, type);
	buffer_add_text(out, "\r\n");
	add_cors(request, out);
}

/* --- problems --- */

/* status: "404 Not Found"; detail is plain text or NULL; reason is borrowed JSON or NULL; more: headers. */
static void
add_problem(const struct api_request *request, struct buffer *out, const char *status,
            const char *detail, json_object *reason, const char *more)
{
	add_status(request, out, status, "application/problem+json");
	buffer_add_text(out, "Cache-Control: no-store\r\n");
	buffer_add_text(out, more);
	buffer_add_text(out, "\r\n{\"type\":\"about:blank\",\"title\":");
	buffer_add_json_string(out, status + 4, strlen(status + 4));
	buffer_add_text(out, ",\"status\":");
	buffer_add(out, status, 3);
	if (detail) {
		buffer_add_text(out, ",\"detail\":");
		buffer_add_json_string(out, detail, strlen(detail));
	}
	if (reason) {
		buffer_add_text(out, ",\"reason\":");
		buffer_add_text(out, json_text(reason, NULL));
	}
	buffer_add_text(out, "}");
}

static struct visit *
refuse(const struct api_request *request, struct buffer *out, const char *status, const char *detail)
{
	add_problem(request, out, status, detail, NULL, "");
	return NULL;
}

/* --- the path --- */

struct path {
	char *topic; /* owned */
	char *event; /* owned; NULL: none */
	bool found, sound;
};

static struct path
read_path(const char *uri)
{
	struct path path = {0};
	size_t len = strlen(PREFIX);
	if (!uri || strncmp(uri, PREFIX, len) != 0)
		return path;
	uri += len;
	len = strcspn(uri, "/?");
	path.topic = url_decode_segment(uri, len);
	path.sound = path.topic && *path.topic;
	uri += len;
	path.found = *uri == '\0' || *uri == '?';
	if (strncmp(uri, EVENTS, strlen(EVENTS)) != 0)
		return path;
	uri += strlen(EVENTS);
	len = strcspn(uri, "/?");
	path.event = url_decode_segment(uri, len);
	path.sound = path.sound && path.event && *path.event;
	path.found = uri[len] != '/';
	return path;
}

/* --- what the answer is kept under --- */

/* Another client's key is another key: so what identifies a client is part of it. */
static char *
client_key(const struct api_request *request, const char *key, const char *topic)
{
	static const char *const names[] = {"HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_SEANCE_TOKEN",
	                                    "QUERY_STRING"};
	uint64_t hash = visit_hash(VISIT_HASH_BEGIN, topic, strlen(topic) + 1);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value = param(request, names[i]);
		hash = visit_hash(hash, value ? value : "", value ? strlen(value) + 1 : 1);
	}
	return visit_key("key", hash, key);
}

/* What nginx sends again is not done again. */
static void
set_mark(struct visit *visit)
{
	if (*visit->name)
		visit->keys[0] = (struct visit_key){visit_key("request", 0, visit->name), VISIT_MARK_MS};
}

static void
set_keys(const struct api_request *request, struct visit *visit, const char *topic)
{
	const char *key = param(request, "HTTP_IDEMPOTENCY_KEY");
	set_mark(visit);
	if (key && *key) {
		visit->key = memory_strdup(key);
		visit->keys[1] = (struct visit_key){client_key(request, key, topic), VISIT_KEY_MS};
	}
	visit->digest = visit_key("event", visit_digest(visit->event, visit->body), "");
}

/* --- reading --- */

static bool
read_since(const struct api_request *request, struct visit *visit, struct buffer *out)
{
	json_object *since = NULL;
	const char *last = visit->streams ? param(request, "HTTP_LAST_EVENT_ID") : NULL;
	/* an EventSource that comes back; what is no position of ours is another's */
	if (last && position_read(last, &visit->since_epoch, &visit->since_revision)) {
		visit->has_since = true;
		return true;
	}
	if (!json_object_object_get_ex(visit->params, "since", &since))
		return true;
	visit->has_since = true;
	if (position_read(json_object_get_string(since), &visit->since_epoch, &visit->since_revision))
		return true;
	refuse(request, out, "400 Bad Request", "since is no position");
	return false;
}

/* Where a range is to end; in a history that is not since's it is nowhere. */
static bool
read_until(const struct api_request *request, struct visit *visit, struct buffer *out)
{
	json_object *until = NULL;
	const char *fault = NULL;
	if (!json_object_object_get_ex(visit->params, "until", &until))
		return true;
	visit->has_until = true;
	if (!visit->has_since || visit->streams)
		fault = "until is only for since, and a stream has no end";
	else if (!position_read(json_object_get_string(until), &visit->until_epoch, &visit->until_revision))
		fault = "until is no position";
	else if (visit->until_epoch == visit->since_epoch && visit->until_revision < visit->since_revision)
		fault = "until is before since";
	if (fault)
		refuse(request, out, "400 Bad Request", fault);
	return !fault;
}

/* Seconds that it wants to wait when there is nothing new; -1: it does not; -2: it says no number. */
static int
wait_of(const struct visit *visit)
{
	json_object *wait = NULL;
	char *end;
	if (!json_object_object_get_ex(visit->params, "wait", &wait))
		return -1;
	const char *text = json_object_get_string(wait);
	long seconds = strtol(text, &end, 10);
	if (end == text || *end || *text == '-' || *text == '+' || *text == ' ')
		return -2;
	return seconds < WAIT_MAX ? (int)seconds : WAIT_MAX;
}

static bool
read_wait(const struct api_request *request, const struct visit *visit, struct buffer *out)
{
	if (wait_of(visit) == -2)
		return refuse(request, out, "400 Bad Request", "wait is no number of seconds"), false;
	return true;
}

static bool
is_json(const char *type)
{
	size_t len = type ? strcspn(type, "; ") : 0;
	return !type || !*type || (len == 16 && strncasecmp(type, "application/json", len) == 0);
}

/* Of a request that changes something. */
static bool
read_origin(const struct api_request *request, struct buffer *out)
{
	const char *origin = param(request, "HTTP_ORIGIN");
	if (!origin || origin_is_allowed(origin, param(request, "HTTP_HOST"), request->origins))
		return true;
	refuse(request, out, "403 Forbidden", "the Origin is not allowed");
	return false;
}

static bool
read_body(const struct api_request *request, struct visit *visit, struct buffer *out)
{
	struct json_error error = {.message = "it is no object"};
	if (!is_json(param(request, "CONTENT_TYPE")))
		return refuse(request, out, "415 Unsupported Media Type", "the body must be application/json"),
		       false;
	if (!json_parse(request->body, request->len, &visit->body, &error) ||
	    !json_object_is_type(visit->body, json_type_object))
		return refuse(request, out, "400 Bad Request", error.message), false;
	return true;
}

static bool
read_event(const struct api_request *request, struct visit *visit, const struct path *path,
           struct buffer *out)
{
	const char *key = param(request, "HTTP_IDEMPOTENCY_KEY"), *match = param(request, "HTTP_IF_MATCH");
	if (!read_origin(request, out))
		return false;
	if (key && (strlen(key) > VISIT_KEY_MAX || !json_is_utf8(key, strlen(key))))
		return refuse(request, out, "400 Bad Request", "the Idempotency-Key is too long, or no text"),
		       false;
	if (!read_body(request, visit, out))
		return false;
	visit->event = memory_strdup(path->event);
	visit->if_match = match ? memory_strdup(match) : NULL;
	set_keys(request, visit, path->topic);
	return true;
}

/* Private state: to join it, or to end that. */
static bool
read_join(const struct api_request *request, struct visit *visit, struct buffer *out)
{
	if (!read_origin(request, out))
		return false;
	visit->joins = visit->socket == NULL;
	if (!visit->joins)
		return refuse(request, out, "409 Conflict", "it is joined already, as the token says"), false;
	set_mark(visit);
	if (request->len > 0)
		return read_body(request, visit, out);
	visit->body = json_object_new_object();
	return true;
}

static bool
read_leave(const struct api_request *request, struct visit *visit, struct buffer *out)
{
	visit->leaves = true;
	return read_origin(request, out);
}

/* Connect, authorize and init do not see it. */
static bool
read_token(const struct api_request *request, struct visit *visit, struct buffer *out)
{
	const char *token = param(request, "HTTP_SEANCE_TOKEN");
	bool expired;
	if (!token)
		token = json_object_get_string(json_object_object_get(visit->params, TOKEN_PARAM));
	if (!token)
		return true;
	visit->socket = request->key ? token_read(request->key, TOKEN_KIND, token, &expired) : NULL;
	json_object_object_del(visit->params, TOKEN_PARAM);
	if (!visit->socket)
		api_problem(request, out, "401 Unauthorized", NULL);
	return visit->socket != NULL;
}

/* A header by its name, as connect asks for it. */
static const char *
header_of(void *context, const char *name)
{
	char text[HEADER_PARAM_BYTES];
	header_param(text, name);
	return param(context, text);
}

static void
answer_options(const struct api_request *request, struct buffer *out, const char *allow)
{
	buffer_add_text(out, "Status: 204 No Content\r\n");
	add_cors(request, out);
	buffer_add_text(out, "Allow: ");
	buffer_add_text(out, allow);
	buffer_add_text(out, "\r\nAccess-Control-Allow-Methods: ");
	buffer_add_text(out, allow);
	buffer_add_text(out,
	                "\r\nAccess-Control-Allow-Headers: Authorization, Content-Type, Idempotency-Key, "
	                "If-Match, If-None-Match, Seance-Token\r\nAccess-Control-Max-Age: 86400\r\n\r\n");
}

static bool
wants_stream(const struct api_request *request, const struct path *path)
{
	const char *accept = param(request, "HTTP_ACCEPT"), *method = param(request, "REQUEST_METHOD");
	return !path->event && accept && strstr(accept, "text/event-stream") && strcmp(method, "GET") == 0;
}

static bool
read_what(const struct api_request *request, struct visit *visit, const struct path *path,
          struct buffer *out)
{
	const char *method = param(request, "REQUEST_METHOD");
	if (path->event)
		return read_event(request, visit, path, out);
	if (strcmp(method, "POST") == 0)
		return read_join(request, visit, out);
	if (strcmp(method, "DELETE") == 0)
		return read_leave(request, visit, out);
	visit->streams = wants_stream(request, path);
	if (visit->streams && visit->socket)
		return refuse(request, out, "406 Not Acceptable", "private state is followed by wait"), false;
	return read_since(request, visit, out) && read_until(request, visit, out) &&
	       read_wait(request, visit, out);
}

static struct visit *
read_visit(const struct api_request *request, const struct path *path, struct buffer *out)
{
	const char *id = param(request, "REQUEST_ID"), *query = param(request, "QUERY_STRING");
	struct visit *visit = memory_zeroed(1, sizeof(*visit));
	visit->params = url_params(query ? query : "");
	visit->header = header_of;
	visit->header_context = (void *)(uintptr_t)request;
	visit->name = memory_strdup(id ? id : "");
	if (read_token(request, visit, out) && read_what(request, visit, path, out))
		return visit;
	visit_free(visit);
	return NULL;
}

void
api_not_allowed(const struct api_request *request, const char *allow, struct buffer *out)
{
	char header[64];
	snprintf(header, sizeof(header), "Allow: %s\r\n", allow);
	add_problem(request, out, "405 Method Not Allowed", NULL, NULL, header);
}

static bool
is_among(const char *method, const char *const *methods)
{
	while (*methods && strcmp(method, *methods) != 0)
		methods++;
	return *methods != NULL;
}

static struct visit *
read_method(const struct api_request *request, const struct path *path, struct buffer *out)
{
	static const char *const events[] = {"POST", NULL};
	static const char *const topics[] = {"GET", "HEAD", "POST", "DELETE", NULL};
	const char *given = param(request, "REQUEST_METHOD"), *method = given ? given : "";
	const char *allow = path->event ? "POST, OPTIONS" : "GET, HEAD, POST, DELETE, OPTIONS";
	if (strcmp(method, "OPTIONS") == 0) {
		answer_options(request, out, allow);
		return NULL;
	}
	if (is_among(method, path->event ? events : topics))
		return read_visit(request, path, out);
	api_not_allowed(request, allow, out);
	return NULL;
}

struct visit *
api_read(const struct api_request *request, char **topic, struct buffer *out)
{
	struct path path = read_path(param(request, "REQUEST_URI"));
	struct visit *visit = NULL;
	if (!path.found)
		refuse(request, out, "404 Not Found", "there is no such path");
	else if (!path.sound)
		refuse(request, out, "400 Bad Request", "the path is not well encoded");
	else
		visit = read_method(request, &path, out);
	free(path.event);
	*topic = path.topic;
	return visit;
}

/* --- answering --- */

void
api_problem(const struct api_request *request, struct buffer *out, const char *status,
            json_object *reason)
{
	bool unknown = strncmp(status, "401", 3) == 0; /* RFC 9110, 15.5.2: which credentials would do */
	add_problem(request, out, status, NULL, reason, unknown ? "WWW-Authenticate: Bearer\r\n" : "");
}

void
api_stream(const struct api_request *request, const char *token, struct buffer *out)
{
	add_status(request, out, "200 OK", "text/event-stream");
	buffer_add_text(out, "Cache-Control: no-store\r\nX-Accel-Redirect: /_hold/events/");
	buffer_add_text(out, token);
	buffer_add_text(out, "\r\n\r\n");
}

bool
api_joined(const struct api_request *request, const struct visit *visit, struct buffer *out)
{
	const size_t head = strlen(VISIT_JOINED);
	if (strncmp(visit->answer, VISIT_JOINED, head) != 0)
		return false;
	size_t len = strcspn(visit->answer + head, "\"");
	char *socket = memory_need(strndup(visit->answer + head, len));
	char *token = token_sign(request->key, TOKEN_KIND, socket, time(NULL) + TOKEN_S);
	add_status(request, out, "201 Created", "application/json");
	buffer_add_text(out, "Cache-Control: no-store\r\n\r\n{\"token\":\"");
	buffer_add_text(out, token);
	buffer_add_text(out, visit->answer + head + len);
	free(token);
	free(socket);
	return true;
}

static bool
is_known(const struct api_request *request, const struct visit *visit)
{
	const char *known = param(request, "HTTP_IF_NONE_MATCH");
	char quoted[POSITION_BYTES + 2];
	snprintf(quoted, sizeof(quoted), "\"%s\"", visit->position);
	return known && (strcmp(known, "*") == 0 || strstr(known, quoted));
}

static void
add_cache_control(const struct visit *visit, struct buffer *out)
{
	const char *how = !visit->is_public ? "private, no-cache"
	                  : visit->is_fixed ? "public, max-age=31536000, immutable"
	                                    : "public, no-cache";
	buffer_add_text(out, "Cache-Control: ");
	buffer_add_text(out, how);
	buffer_add_text(out, "\r\n");
}

/* There is nothing newer: nginx lets the request wait under the topic's name, and asks again when there is. */
static void
answer_nothing(const struct api_request *request, const struct visit *visit, int seconds,
               struct buffer *out)
{
	const char *again = param(request, "SEANCE_API");
	buffer_add_text(out, "Status: 204 No Content\r\n");
	add_cors(request, out);
	add_cache_control(visit, out);
	if (seconds > 0 && again && *again == '/') {
		buffer_add_text(out, "X-Accel-Redirect: /_hold/wait/");
		buffer_add_text(out, visit->watch);
		buffer_add_text(out, "?after=");
		buffer_add_number(out, visit->since_revision);
		buffer_add_text(out, "&seconds=");
		buffer_add_number(out, seconds);
		buffer_add_text(out, "&again=");
		buffer_add_text(out, again);
		buffer_add_text(out, "\r\n");
	}
	buffer_add_text(out, "\r\n");
}

static void
answer_state(const struct api_request *request, const struct visit *visit, struct buffer *out)
{
	bool known = is_known(request, visit);
	add_status(request, out, known ? "304 Not Modified" : "200 OK", "application/json");
	buffer_add_text(out, "ETag: \"");
	buffer_add_text(out, visit->position);
	buffer_add_text(out, "\"\r\n");
	add_cache_control(visit, out);
	buffer_add_text(out, "\r\n");
	if (!known)
		buffer_add_text(out, visit->answer);
}

static void
answer_seen(const struct api_request *request, const struct visit *visit, struct buffer *out)
{
	int seconds = wait_of(visit);
	if (visit->is_newest && seconds >= 0)
		answer_nothing(request, visit, seconds, out);
	else
		answer_state(request, visit, out);
}

static void
answer_done(const struct api_request *request, const struct visit *visit, struct buffer *out)
{
	add_status(request, out, "200 OK", "application/json");
	buffer_add_text(out, "Cache-Control: no-store\r\n\r\n");
	buffer_add_text(out, visit->answer);
}

static void
answer_left(const struct api_request *request, struct buffer *out)
{
	buffer_add_text(out, "Status: 204 No Content\r\n");
	add_cors(request, out);
	buffer_add_text(out, "\r\n");
}

void
api_answer(const struct api_request *request, const struct message *message, struct buffer *out)
{
	const struct visit *visit = message->visit;
	switch (message->outcome) {
	case OUTCOME_COMMITTED:
		if (visit->leaves)
			answer_left(request, out);
		else
			(visit->event ? answer_done : answer_seen)(request, visit, out);
		break;
	case OUTCOME_REFUSED:
		add_problem(request, out, "422 Unprocessable Content", "the channel has refused it",
		            message->reason, "");
		break;
	case OUTCOME_DENIED:
	case OUTCOME_GONE:
		api_problem(request, out, "401 Unauthorized", message->reason);
		break;
	case OUTCOME_FORBIDDEN:
		api_problem(request, out, "403 Forbidden", message->reason);
		break;
	case OUTCOME_UNMATCHED:
		if (visit->leaves && message->channel)
			api_not_allowed(request, API_SHARED_METHODS, out);
		else
			refuse(request, out, "404 Not Found", "there is no such topic with shared state");
		break;
	case OUTCOME_CHANGED:
		refuse(request, out, "412 Precondition Failed", "the state has moved on");
		break;
	case OUTCOME_MISUSED:
		refuse(request, out, "422 Unprocessable Content",
		       "the Idempotency-Key was used for another request");
		break;
	case OUTCOME_CRASHED:
		refuse(request, out, "500 Internal Server Error", "the channel has crashed");
		break;
	default:
		add_problem(request, out, "503 Service Unavailable", "the server could not store it", NULL,
		            "Retry-After: 1\r\n");
		break;
	}
}
