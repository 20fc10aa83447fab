#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "header.h"
#include "log.h"
#include "memory.h"
#include "origin.h"
#include "phoenix.h"
#include "server.h"
#include "url.h"

/* --- who comes --- */

bool
connect_origin_is_allowed(const struct server *server, const struct loop_request *request)
{
	const char *origin = loop_param(request, "HTTP_ORIGIN");
	if (!origin || origin_is_allowed(origin, loop_param(request, "HTTP_HOST"), server->options->origins))
		return true;
	log_line("connect refused: Origin %s is not allowed", origin);
	return false;
}

static void
answer_status(struct loop_request *request, const char *status)
{
	struct buffer head = {0};
	buffer_add_text(&head, "Status: ");
	buffer_add_text(&head, status);
	buffer_add_text(&head, "\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n");
	loop_finish(request, head.at, head.len);
	buffer_release(&head);
}

/* Returns -1 for a version that nobody speaks. */
static int
format_of(const struct loop_request *request, json_object *params)
{
	const char *vocabulary = loop_param(request, "SEANCE_VOCABULARY");
	json_object *value = NULL;
	const char *vsn = "1.0.0";
	int format = vocabulary && strcmp(vocabulary, "live_state") == 0 ? PHOENIX_LIVE_STATE : 0;
	if (json_object_object_get_ex(params, "vsn", &value))
		vsn = json_object_get_string(value);
	if (strcmp(vsn, "1.0.0") == 0)
		return format | PHOENIX_V1;
	return strcmp(vsn, "2.0.0") == 0 ? format : -1;
}

static const char *
header_of(void *context, const char *name)
{
	char text[HEADER_PARAM_BYTES];
	header_param(text, name);
	return loop_param(context, text);
}

bool
connect_read(struct loop_request *request, struct engine_client *client)
{
	const char *address = loop_param(request, "REMOTE_ADDR");
	client->address = address ? address : "";
	client->name = loop_param(request, "REQUEST_ID");
	client->format = format_of(request, client->params);
	client->header = header_of;
	client->header_context = request;
	if (client->format < 0)
		log_line("connect refused: unknown vsn \"%s\"",
		         json_object_get_string(json_object_object_get(client->params, "vsn")));
	return client->format >= 0;
}

/* --- the handshake --- */

static bool
offers_phoenix(const struct loop_request *request)
{
	const char *offered = loop_param(request, "HTTP_SEC_WEBSOCKET_PROTOCOL");
	while (offered && *offered) {
		size_t len = strcspn(offered, ", ");
		if (len == 7 && strncmp(offered, "phoenix", 7) == 0)
			return true;
		offered += len;
		offered += strspn(offered, ", ");
	}
	return false;
}

/* A handshake that waits for its socket to be stored. */
struct handshake {
	struct arrival arrival;
	struct loop_request *request;
	bool phoenix; /* the client offers the subprotocol "phoenix" */
};

static void
handshake_stored(struct server *server, struct arrival *arrival, struct answer **answers)
{
	struct handshake *handshake = (struct handshake *)arrival;
	struct answer *answer = answer_new(answers, handshake->request);
	(void)server;
	answer->plain = true;
	if (engine_stored(arrival->socket)) {
		buffer_add_text(&answer->body, "X-Accel-Redirect: /_hold/websocket/");
		buffer_add_text(&answer->body, arrival->socket->row.token);
		if (handshake->phoenix)
			buffer_add_text(&answer->body, "?protocol=phoenix");
	} else {
		buffer_add_text(&answer->body, "Status: 503 Service Unavailable");
	}
	buffer_add_text(&answer->body, "\r\n\r\n");
	free(handshake);
}

/* Returns the status of a refusal, or NULL when the request waits for its socket's row. */
static const char *
connect_client(struct server *server, struct loop_request *request, json_object *params)
{
	struct engine_client client = {.params = params};
	if (!connect_read(request, &client))
		return "403 Forbidden";
	struct handshake *handshake = memory_alloc(sizeof(*handshake));
	*handshake = (struct handshake){{.stored = handshake_stored}, request, offers_phoenix(request)};
	enum engine_connect outcome = arrival_begin(server, &handshake->arrival, &client);
	if (outcome == CONNECT_OK)
		return NULL;
	free(handshake);
	return outcome == CONNECT_LIMIT ? "503 Service Unavailable" : "403 Forbidden";
}

static const char *
refusal(struct server *server, struct loop_request *request)
{
	const char *upgrade = loop_param(request, "HTTP_UPGRADE");
	const char *query = loop_param(request, "QUERY_STRING");
	if (!upgrade || strcasecmp(upgrade, "websocket") != 0)
		return "426 Upgrade Required\r\nUpgrade: websocket";
	if (!connect_origin_is_allowed(server, request))
		return "403 Forbidden";
	json_object *params = url_params(query ? query : "");
	const char *status = connect_client(server, request, params);
	json_object_put(params);
	return status;
}

void
connect_request(struct server *server, struct loop_request *request)
{
	const char *status = refusal(server, request);
	if (status)
		answer_status(request, status);
}
