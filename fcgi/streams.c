#include <stdlib.h>

#include "event_stream.h"
#include "memory.h"
#include "server.h"

/* A stream before its socket is stored. */
struct stream {
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
stream_free(struct stream *stream)
{
	visit_free(stream->visit);
	free(stream->topic);
	free(stream);
}

static bool
alive(void *request)
{
	const struct visiting *visiting = request;
	return loop_alive(visiting->request);
}

/* Its answer is given when the join is committed, or refused. */
static void
join(struct server *server, const struct stream *stream)
{
	struct message *message = message_new(stream->arrival.socket);
	void *old = NULL;
	message->kind = MESSAGE_JOIN;
	message->of_stream = true;
	message->number = 1;
	message->topic = memory_strdup(stream->topic);
	message->ref = memory_strdup("null");
	message->join_ref = memory_strdup("null");
	message->payload = json_object_get(stream->visit->params);
	message->request = stream->visiting;
	message->has_since = stream->visit->has_since;
	message->since_epoch = stream->visit->since_epoch;
	message->since_revision = stream->visit->since_revision;
	(void)engine_submit(server->engine, message, 0, alive, &old); /* a socket's first is always taken */
}

static void
stream_stored(struct server *server, struct arrival *arrival, struct answer **answers)
{
	struct stream *stream = (struct stream *)arrival;
	if (engine_stored(arrival->socket)) {
		join(server, stream);
	} else {
		refuse(stream->visiting, "503 Service Unavailable",
		       &answer_new(answers, stream->visiting->request)->body);
		(*answers)->plain = true;
		free(stream->visiting);
	}
	stream_free(stream);
}

void
stream_begin(struct server *server, struct visiting *visiting, struct visit *visit, const char *topic)
{
	const char *address = loop_param(visiting->request, "REMOTE_ADDR");
	struct stream *stream = memory_alloc(sizeof(*stream));
	struct engine_client client = {
		.params = visit->params,
		.address = address ? address : "",
		.format = EVENT_STREAM_FORMAT,
		.header = visit->header,
		.header_context = visit->header_context,
	};
	*stream = (struct stream){{.stored = stream_stored}, visiting, visit, memory_strdup(topic)};
	enum engine_connect outcome = arrival_begin(server, &stream->arrival, &client);
	if (outcome == CONNECT_OK)
		return;
	refuse_now(visiting, outcome == CONNECT_LIMIT ? "429 Too Many Requests" : "401 Unauthorized");
	stream_free(stream);
}

static const char *
status_of(const struct message *message)
{
	switch (message->outcome) {
	case OUTCOME_COMMITTED: /* its init has failed */
		return "422 Unprocessable Content";
	case OUTCOME_REFUSED:
		return "403 Forbidden";
	case OUTCOME_UNMATCHED:
		return "404 Not Found";
	default:
		return "503 Service Unavailable";
	}
}

void
stream_outcome(struct server *server, struct answer *answer, const struct message *message)
{
	struct visiting *visiting = message->request;
	answer->request = visiting->request;
	answer->plain = true;
	if (message->outcome == OUTCOME_COMMITTED && message->socket->join_count > 0) {
		api_stream(&visiting->api, message->socket->row.token, &answer->body);
	} else {
		api_problem(&visiting->api, &answer->body, status_of(message), message->reason);
		if (!message->socket->ended)
			engine_closed(server->engine, message->socket);
	}
	free(visiting);
}
