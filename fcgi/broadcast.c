#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "server.h"
#include "url.h"

#define PATH "/broadcasts/"

static void
answer_text(struct loop_request *request, const char *status, const char *why)
{
	struct buffer out = {0};
	buffer_add_text(&out, "Status: ");
	buffer_add_text(&out, status);
	buffer_add_text(&out, "\r\nContent-Type: text/plain\r\n\r\n");
	buffer_add_text(&out, why);
	buffer_add_text(&out, "\n");
	loop_finish(request, out.at, out.len);
	buffer_release(&out);
}

/* The topic in the request's path; owned by the caller; NULL when there is none. */
static char *
topic_of(const struct loop_request *request)
{
	const char *uri = loop_param(request, "REQUEST_URI");
	if (!uri || strncmp(uri, PATH, sizeof(PATH) - 1) != 0)
		return NULL;
	uri += sizeof(PATH) - 1;
	return url_decode_segment(uri, strcspn(uri, "?/"));
}

static void
take(struct server *server, struct loop_request *request, const char *topic)
{
	size_t len;
	struct json_error error;
	json_object *message = NULL;
	const char *body = loop_body(request, &len);
	if (!json_parse(body, len, &message, &error)) {
		answer_text(request, "400 Bad Request", error.message);
		return;
	}
	const char *why =
		engine_broadcast(server->engine, topic, message, loop_param(request, "REQUEST_ID"), request);
	if (why)
		answer_text(request, "503 Service Unavailable", why);
}

void
broadcast_request(struct server *server, struct loop_request *request)
{
	const char *method = loop_param(request, "REQUEST_METHOD");
	char *topic = topic_of(request);
	const char *fault = topic ? effects_topic_fault(topic) : "the path is not /broadcasts/TOPIC";
	if (!method || strcmp(method, "POST") != 0)
		answer_text(request, "405 Method Not Allowed\r\nAllow: POST", "POST only");
	else if (fault)
		answer_text(request, "400 Bad Request", fault);
	else
		take(server, request, topic);
	free(topic);
}

void
broadcast_outcome(struct answer *answer, enum message_outcome outcome)
{
	answer->plain = true;
	buffer_add_text(&answer->body, outcome == OUTCOME_COMMITTED
	                                   ? "Status: 204 No Content\r\n\r\n"
	                                   : "Status: 503 Service Unavailable\r\n\r\n");
}
