#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "header.h"
#include "json.h"
#include "log.h"
#include "memory.h"
#include "origin.h"
#include "phoenix.h"
#include "server.h"
#include "url.h"

/* --- the handshake --- */

static bool
origin_allowed(const struct server *server, const struct loop_request *request)
{
	const char *origin = loop_param(request, "HTTP_ORIGIN");
	return !origin ||
	       origin_is_allowed(origin, loop_param(request, "HTTP_HOST"), server->options->origins);
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

static void
wait_for_row(struct server *server, struct loop_request *request, struct socket *socket)
{
	struct handshake *handshake = memory_alloc(sizeof(*handshake));
	*handshake = (struct handshake){
		.request = request,
		.socket = socket,
		.phoenix = offers_phoenix(request),
		.next = server->handshakes,
	};
	server->handshakes = handshake;
}

/* Returns the status of a refusal, or NULL when the request waits for its socket's row. */
static const char *
connect_client(struct server *server, struct loop_request *request, json_object *params, int format)
{
	const char *address = loop_param(request, "REMOTE_ADDR");
	struct socket *socket = NULL;
	struct engine_client client = {
		.params = params,
		.address = address ? address : "",
		.format = format,
		.header = header_of,
		.header_context = request,
	};
	switch (engine_connect(server->engine, &client, &socket)) {
	case CONNECT_OK:
		wait_for_row(server, request, socket);
		return NULL;
	case CONNECT_LIMIT:
		return "503 Service Unavailable";
	case CONNECT_REFUSED:
		break;
	}
	return "403 Forbidden";
}

static const char *
refusal(struct server *server, struct loop_request *request)
{
	const char *upgrade = loop_param(request, "HTTP_UPGRADE");
	const char *query = loop_param(request, "QUERY_STRING");
	const char *status = "403 Forbidden";
	if (!upgrade || strcasecmp(upgrade, "websocket") != 0)
		return "426 Upgrade Required\r\nUpgrade: websocket";
	if (!origin_allowed(server, request)) {
		log_line("connect refused: Origin %s is not allowed", loop_param(request, "HTTP_ORIGIN"));
		return status;
	}
	json_object *params = url_params(query ? query : "");
	int format = format_of(request, params);
	if (format < 0)
		log_line("connect refused: unknown vsn \"%s\"",
		         json_object_get_string(json_object_object_get(params, "vsn")));
	else
		status = connect_client(server, request, params, format);
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

static void
answer_handshake(const struct handshake *handshake, struct buffer *out)
{
	if (!engine_stored(handshake->socket)) {
		buffer_add_text(out, "Status: 503 Service Unavailable\r\n\r\n");
		return;
	}
	buffer_add_text(out, "X-Accel-Redirect: /_hold/websocket/");
	buffer_add_text(out, handshake->socket->row.token);
	if (handshake->phoenix)
		buffer_add_text(out, "?protocol=phoenix");
	buffer_add_text(out, "\r\n\r\n");
}

void
connect_done(struct server *server, struct answer **answers)
{
	struct handshake **at = &server->handshakes;
	while (*at) {
		struct handshake *handshake = *at;
		if (!engine_stored(handshake->socket) && !handshake->socket->ended) {
			at = &handshake->next;
			continue;
		}
		struct answer *answer = answer_new(answers, handshake->request);
		answer_handshake(handshake, &answer->body);
		answer->plain = true;
		*at = handshake->next;
		engine_release(handshake->socket);
		free(handshake);
	}
}
