/* Requests of the HTTP API that open a socket and join with it: streams, and clients that want private state. */
#include <stdlib.h>

#include "event_stream.h"
#include "memory.h"
#include "resume.h"
#include "server.h"

#define CRASHED "500 Internal Server Error"

/* Such a request before its socket is stored. */
struct joining {
	struct arrival arrival;
	struct visiting *visiting;
	struct visit *visit;
	char *topic;
};

static void
refuse(const struct visiting *visiting, const char *status, struct buffer *out)
{
	api_problem(&visiting->api, out, status, NULL);
}

static void
refuse_now(struct visiting *visiting, const char *status)
{
	struct buffer out = {0};
	refuse(visiting, status, &out);
	loop_finish(visiting->request, out.at, out.len);
	buffer_release(&out);
	free(visiting);
}

static void
joining_free(struct joining *joining)
{
	visit_free(joining->visit);
	free(joining->topic);
	free(joining);
}

static bool
alive(void *request)
{
	const struct visiting *visiting = request;
	return loop_alive(visiting->request);
}

/* Its answer is given when the join is committed, or refused. */
static void
join(struct server *server, const struct joining *joining)
{
	struct message *message = message_new(joining->arrival.socket);
	void *old = NULL;
	message->kind = MESSAGE_JOIN;
	message->by_api = true;
	message->number = 1;
	message->topic = memory_strdup(joining->topic);
	message->ref = memory_strdup("null");
	message->join_ref = memory_strdup("null");
	message->payload =
		json_object_get(joining->visit->joins ? joining->visit->body : joining->visit->params);
	message->request = joining->visiting;
	message->visit = visit_marked(joining->visit->keys[0].text);
	message->visit->name = memory_strdup(joining->visit->name);
	message->has_since = joining->visit->has_since;
	message->since_epoch = joining->visit->since_epoch;
	message->since_revision = joining->visit->since_revision;
	if (joining->visit->joins) {
		message->wants = JOIN_REQUESTS;
		resume_ask(message);
		resume_read(&server->key, message);
	}
	(void)engine_submit(server->engine, message, 0, alive, &old); /* a socket's first is always taken */
}

static void
joining_stored(struct server *server, struct arrival *arrival, struct answer **answers)
{
	struct joining *joining = (struct joining *)arrival;
	if (engine_stored(arrival->socket)) {
		join(server, joining);
	} else {
		struct answer *answer = answer_new(answers, joining->visiting->request);
		answer->plain = true;
		refuse(joining->visiting, "503 Service Unavailable", &answer->body);
		free(joining->visiting);
	}
	joining_free(joining);
}

static const char *
status_of_connect(enum engine_connect outcome)
{
	if (outcome == CONNECT_LIMIT)
		return "429 Too Many Requests";
	return outcome == CONNECT_CRASHED ? CRASHED : "401 Unauthorized";
}

void
join_begin(struct server *server, struct visiting *visiting, struct visit *visit, const char *topic)
{
	const char *address = loop_param(visiting->request, "REMOTE_ADDR");
	struct joining *joining = memory_alloc(sizeof(*joining));
	struct engine_client client = {
		.params = visit->params,
		.address = address ? address : "",
		.name = visit->name,
		.format = EVENT_STREAM_FORMAT,
		.header = visit->header,
		.header_context = visit->header_context,
	};
	*joining = (struct joining){{.stored = joining_stored}, visiting, visit, memory_strdup(topic)};
	enum engine_connect outcome = arrival_begin(server, &joining->arrival, &client);
	if (outcome == CONNECT_OK)
		return;
	refuse_now(visiting, status_of_connect(outcome));
	joining_free(joining);
}

static const char *
status_of(const struct message *message)
{
	switch (message->outcome) {
	case OUTCOME_COMMITTED: /* its init has refused it, or crashed */
		return message->reason ? "422 Unprocessable Content" : CRASHED;
	case OUTCOME_CRASHED:
		return CRASHED;
	case OUTCOME_REFUSED:
		return "403 Forbidden";
	case OUTCOME_UNMATCHED:
		return "404 Not Found";
	default:
		return "503 Service Unavailable";
	}
}

void
join_outcome(struct server *server, struct answer *answer, const struct message *message)
{
	struct visiting *visiting = message->request;
	answer->request = visiting->request;
	answer->plain = true;
	bool done = message->outcome == OUTCOME_COMMITTED;
	bool joined = done && message->socket->join_count > 0;
	if (done && message->wants & JOIN_REQUESTS &&
	    api_joined(&visiting->api, message->visit, &answer->body)) {
		if (!joined) /* the same request had been done before, with another socket */
			engine_closed(server->engine, message->socket);
	} else if (joined) {
		api_stream(&visiting->api, message->socket->row.token, &answer->body);
	} else {
		if (message->outcome == OUTCOME_UNMATCHED && message->wants & JOIN_REQUESTS && message->channel)
			api_not_allowed(&visiting->api, API_SHARED_METHODS, &answer->body);
		else
			api_problem(&visiting->api, &answer->body, status_of(message), message->reason);
		if (!message->socket->ended)
			engine_closed(server->engine, message->socket);
	}
	free(visiting);
}
