#include <stdlib.h>

#include "api.h"
#include "memory.h"
#include "server.h"

static const char *
param(void *context, const char *name)
{
	return loop_param(context, name);
}

/* Its body lives as long as the request. */
static struct api_request
api_request_of(const struct server *server, struct loop_request *request)
{
	struct api_request api = {.param = param, .context = request, .origins = server->options->origins};
	api.body = loop_body(request, &api.len);
	api.key = &server->key;
	return api;
}

void
visit_request(struct server *server, struct loop_request *request)
{
	struct visiting *visiting = memory_alloc(sizeof(*visiting));
	struct buffer out = {0};
	char *topic = NULL;
	*visiting = (struct visiting){api_request_of(server, request), request};
	struct visit *visit = api_read(&visiting->api, &topic, &out);
	if (visit && (visit->streams || visit->joins)) {
		join_begin(server, visiting, visit, topic);
	} else if (visit) {
		engine_visit(server->engine, visit, topic, visiting);
	} else {
		loop_finish(request, out.at, out.len);
		free(visiting);
	}
	buffer_release(&out);
	free(topic);
}

void
visit_outcome(struct answer *answer, const struct message *message)
{
	struct visiting *visiting = message->request;
	answer->request = visiting->request;
	answer->plain = true;
	api_answer(&visiting->api, message, &answer->body);
	free(visiting);
}
