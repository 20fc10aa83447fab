#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "json.h"
#include "log.h"
#include "memory.h"
#include "phoenix.h"
#include "server.h"
#include "url.h"

/* --- the query --- */

static void
add_param(json_object *params, const char *pair, size_t len)
{
	const char *equals = memchr(pair, '=', len);
	size_t name_len = equals ? (size_t)(equals - pair) : len;
	if (len == 0)
		return;
	char *name = url_decode_form(pair, name_len);
	char *value = equals ? url_decode_form(equals + 1, len - name_len - 1) : memory_strdup("");
	struct buffer text = {0};
	json_object *string = NULL;
	buffer_add_json_string(&text, value, strlen(value));
	if (json_parse(text.at, text.len, &string, NULL)) /* refuses what is not UTF-8 */
		json_object_object_add(params, name, string);
	buffer_release(&text);
	free(name);
	free(value);
}

/* The last of a name wins, as in the reference. */
static json_object *
params_of(const char *query)
{
	json_object *params = json_object_new_object();
	while (*query) {
		size_t len = strcspn(query, "&");
		add_param(params, query, len);
		query += len;
		query += *query == '&';
	}
	return params;
}

/* --- Origin --- */

/* The host of "scheme://host:port", as it stands in the header; len is 0 when there is none. */
static const char *
host_of(const char *origin, size_t *len)
{
	const char *host = strstr(origin, "//");
	*len = 0;
	if (!host)
		return "";
	host += 2;
	*len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/");
	return host;
}

static bool
same_host(const char *host, size_t len, const char *header)
{
	size_t header_len = *header == '[' ? strcspn(header, "]") + 1 : strcspn(header, ":");
	return len == header_len && strncasecmp(host, header, len) == 0;
}

/* One entry of the list: "//example.com" or "//" "*.example.com", which stands for all below it. */
static bool
entry_allows(const char *entry, size_t entry_len, const char *host, size_t len)
{
	if (entry_len < 2 || strncmp(entry, "//", 2) != 0)
		return false;
	entry += 2;
	entry_len -= 2;
	if (entry_len > 1 && entry[0] == '*') {
		entry++;
		entry_len--;
		return len > entry_len && strncasecmp(host + len - entry_len, entry, entry_len) == 0;
	}
	return len == entry_len && strncasecmp(host, entry, len) == 0;
}

static bool
list_allows(const char *list, const char *host, size_t len)
{
	while (list && *list) {
		size_t entry_len = strcspn(list, " ,");
		if (entry_allows(list, entry_len, host, len))
			return true;
		list += entry_len;
		list += strspn(list, " ,");
	}
	return false;
}

static bool
origin_allowed(const struct server *server, const struct loop_request *request)
{
	const char *origin = loop_param(request, "HTTP_ORIGIN");
	const char *header = loop_param(request, "HTTP_HOST");
	size_t len;
	if (!origin)
		return true;
	const char *host = host_of(origin, &len);
	if (len && header && same_host(host, len, header))
		return true;
	return len && list_allows(server->options->origins, host, len);
}

/* --- the handshake --- */

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
	char param[128] = "HTTP_";
	size_t len = strlen(name);
	if (len + 6 > sizeof(param))
		return NULL;
	for (size_t i = 0; i < len; i++)
		param[5 + i] = name[i] == '-' ? '_' : (char)toupper((unsigned char)name[i]);
	param[5 + len] = '\0';
	return loop_param(context, param);
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
	json_object *params = params_of(query ? query : "");
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
