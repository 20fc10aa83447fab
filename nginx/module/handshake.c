#include "handshake.h"
#include "head.h"
#include "message.h"
#include "socket.h"

#include <ngx_sha1.h>

#define KEY_LEN 24
#define GUID    "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

static ngx_table_elt_t *
find_header(ngx_http_request_t *r, const char *name, ngx_uint_t *count)
{
	ngx_table_elt_t *found = NULL;
	size_t len = ngx_strlen(name);

	*count = 0;
	for (ngx_list_part_t *part = &r->headers_in.headers.part; part != NULL; part = part->next) {
		ngx_table_elt_t *h = part->elts;

		for (ngx_uint_t i = 0; i < part->nelts; i++) {
			if (h[i].key.len == len && ngx_strncmp(h[i].lowcase_key, name, len) == 0) {
				found = &h[i];
				(*count)++;
			}
		}
	}
	return found;
}

static ngx_uint_t
has_token(const ngx_str_t *value, const char *token)
{
	size_t len = ngx_strlen(token);
	u_char *p = value->data, *end = p + value->len;

	while (p < end) {
		u_char *from, *to;

		while (p < end && (*p == ' ' || *p == '\t' || *p == ','))
			p++;
		from = p;
		while (p < end && *p != ',')
			p++;
		to = p;
		while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
			to--;
		if ((size_t)(to - from) == len && ngx_strncasecmp(from, (u_char *)token, len) == 0)
			return 1;
	}
	return 0;
}

/* Whether any header of that name has the token. */
static ngx_uint_t
header_has(ngx_http_request_t *r, const char *name, const char *token)
{
	size_t len = ngx_strlen(name);

	for (ngx_list_part_t *part = &r->headers_in.headers.part; part != NULL; part = part->next) {
		ngx_table_elt_t *h = part->elts;

		for (ngx_uint_t i = 0; i < part->nelts; i++)
			if (h[i].key.len == len && ngx_strncmp(h[i].lowcase_key, name, len) == 0 &&
			    has_token(&h[i].value, token))
				return 1;
	}
	return 0;
}

/* 16 bytes in base64: 22 digits, the last of them with two bits only, and "==" */
static ngx_uint_t
key_valid(const ngx_str_t *key)
{
	if (key->len != KEY_LEN || key->data[22] != '=' || key->data[23] != '=')
		return 0;
	for (ngx_uint_t i = 0; i < 22; i++) {
		u_char c = key->data[i];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
		      c == '/'))
			return 0;
	}
	return 1;
}

static ngx_int_t
refuse_version(ngx_http_request_t *r)
{
	static const u_char version[] = "13", protocol[] = "websocket";
	ngx_int_t rc;

	seance_head_clear(r);
	r->headers_out.status = 426;
	ngx_str_set(&r->headers_out.status_line, "426 Upgrade Required");
	r->headers_out.content_length_n = 0;
	if (seance_head_push(r, "Sec-WebSocket-Version", version, 2) == NULL ||
	    seance_head_push(r, "Upgrade", protocol, 9) == NULL)
		return NGX_ERROR;
	rc = ngx_http_send_header(r);
	if (rc == NGX_ERROR || rc > NGX_OK || r->header_only)
		return rc;
	return ngx_http_send_special(r, NGX_HTTP_LAST);
}

/* NGX_OK with the client's key, or what the handler is to return. */
static ngx_int_t
check_handshake(ngx_http_request_t *r, ngx_str_t *key)
{
	ngx_table_elt_t *h;
	ngx_uint_t count;

	/* X-Accel-Redirect has made the method GET: the request line tells what it was */
	if (r->method != NGX_HTTP_GET || r->request_line.len < 4 ||
	    ngx_strncmp(r->request_line.data, "GET ", 4) != 0)
		return NGX_HTTP_BAD_REQUEST;
	if (r->http_version != NGX_HTTP_VERSION_11 || r->headers_in.content_length_n > 0 ||
	    r->headers_in.chunked)
		return NGX_HTTP_BAD_REQUEST;
	if (!header_has(r, "upgrade", "websocket") || !header_has(r, "connection", "upgrade"))
		return NGX_HTTP_BAD_REQUEST;
	h = find_header(r, "sec-websocket-version", &count);
	if (count != 1 || h->value.len != 2 || ngx_strncmp(h->value.data, "13", 2) != 0) {
		ngx_int_t rc = refuse_version(r);

		return rc == NGX_OK ? NGX_DONE : rc;
	}
	h = find_header(r, "sec-websocket-key", &count);
	if (count != 1 || !key_valid(&h->value))
		return NGX_HTTP_BAD_REQUEST;
	*key = h->value;
	return NGX_OK;
}

/* A token of RFC 7230, 3.2.6 */
static ngx_uint_t
token_valid(const ngx_str_t *token)
{
	for (size_t i = 0; i < token->len; i++) {
		u_char c = token->data[i];

		if (c <= ' ' || c >= 127 || ngx_strchr("()<>@,;:\\\"/[]?={}", c) != NULL)
			return 0;
	}
	return token->len > 0;
}

static ngx_int_t
accept_value(ngx_http_request_t *r, const ngx_str_t *key, ngx_str_t *value)
{
	u_char digest[20];
	ngx_str_t src = {sizeof digest, digest};
	ngx_sha1_t sha1;

	value->data = ngx_pnalloc(r->pool, ngx_base64_encoded_length(sizeof digest));
	if (value->data == NULL)
		return NGX_ERROR;
	ngx_sha1_init(&sha1);
	ngx_sha1_update(&sha1, key->data, key->len);
	ngx_sha1_update(&sha1, GUID, sizeof GUID - 1);
	ngx_sha1_final(digest, &sha1);
	ngx_encode_base64(value, &src);
	return NGX_OK;
}

static ngx_int_t
send_handshake(ngx_http_request_t *r, const ngx_str_t *key, const ngx_str_t *protocol)
{
	static const u_char websocket[] = "websocket";
	ngx_str_t value;
	ngx_int_t rc;

	if (accept_value(r, key, &value) != NGX_OK)
		return NGX_ERROR;
	seance_head_clear(r);
	r->headers_out.status = NGX_HTTP_SWITCHING_PROTOCOLS;
	ngx_str_set(&r->headers_out.status_line, "101 Switching Protocols");
	r->keepalive = 0;
	if (seance_head_push(r, "Upgrade", websocket, 9) == NULL ||
	    seance_head_push(r, "Sec-WebSocket-Accept", value.data, value.len) == NULL)
		return NGX_ERROR;
	if (protocol->len > 0 &&
	    seance_head_push(r, "Sec-WebSocket-Protocol", protocol->data, protocol->len) == NULL)
		return NGX_ERROR;
	rc = ngx_http_send_header(r);
	if (rc == NGX_ERROR || rc > NGX_OK)
		return rc;
	if (ngx_http_send_special(r, NGX_HTTP_FLUSH) == NGX_ERROR || r->connection->error)
		return NGX_ERROR;
	return ngx_tcp_nodelay(r->connection);
}

/* The subprotocol that the program has chosen; empty: none. */
static ngx_int_t
read_protocol(ngx_http_request_t *r, ngx_str_t *protocol)
{
	ngx_str_null(protocol);
	if (ngx_http_arg(r, (u_char *)"protocol", 8, protocol) == NGX_OK && !token_valid(protocol)) {
		ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "seance: no valid protocol in \"%V\"",
		              &r->args);
		return NGX_HTTP_INTERNAL_SERVER_ERROR;
	}
	return NGX_OK;
}

ngx_int_t
seance_handshake(ngx_http_request_t *r, struct seance_conf *conf, ngx_str_t *id)
{
	ngx_str_t key, protocol;
	size_t params_len;
	u_char *params;
	ngx_int_t rc = check_handshake(r, &key);

	if (rc == NGX_OK)
		rc = read_protocol(r, &protocol);
	if (rc != NGX_OK)
		return rc;
	if (seance_params_encode(r, conf, &params, &params_len) != NGX_OK)
		return NGX_HTTP_INTERNAL_SERVER_ERROR;
	rc = send_handshake(r, &key, &protocol);
	if (rc != NGX_OK) {
		free(params);
		return rc;
	}
	return seance_socket_start(r, conf, id, params, params_len);
}
