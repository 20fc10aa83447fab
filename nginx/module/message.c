#include "message.h"
#include "fcgi_record.h"
#include "socket.h"

#define POSITION     "SEANCE_POSITION"
#define POSITION_LEN (sizeof POSITION - 1)
#define PAIRS_MAX    8

struct pair {
	const char *name;
	size_t name_len;
	const u_char *value;
	size_t value_len;
};

/* The parameters of a request, but the socket's own and the position. */
struct pairs {
	struct pair list[PAIRS_MAX];
	ngx_uint_t count;
	u_char worker[16], number[NGX_INT64_LEN], length[NGX_INT64_LEN];
};

static void
add(struct pairs *pairs, const char *name, const u_char *value, size_t len)
{
	pairs->list[pairs->count++] = (struct pair){name, ngx_strlen(name), value, len};
}

static void
add_text(struct pairs *pairs, const char *name, const char *value)
{
	add(pairs, name, (const u_char *)value, ngx_strlen(value));
}

static void
collect(struct pairs *pairs, struct seance_socket *s, uint64_t number, size_t content)
{
	u_char *end;

	pairs->count = 0;
	add_text(pairs, "REQUEST_METHOD", "POST");
	add_text(pairs, "CONTENT_TYPE", "application/websocket-events");
	end = ngx_sprintf(pairs->length, "%uz", content);
	add(pairs, "CONTENT_LENGTH", pairs->length, end - pairs->length);
	add(pairs, "HTTP_CONNECTION_ID", s->id, s->id_len);
	add(pairs, "SEANCE_SOCKET", s->id, s->id_len);
	end = ngx_sprintf(pairs->number, "%uL", number);
	add(pairs, "SEANCE_MESSAGE", pairs->number, end - pairs->number);
	end = ngx_sprintf(pairs->worker, "%016xL", seance_worker_tag());
	add(pairs, "SEANCE_WORKER", pairs->worker, end - pairs->worker);
}

static size_t
pairs_size(const struct pairs *pairs)
{
	size_t size = 0;

	for (ngx_uint_t i = 0; i < pairs->count; i++)
		size += fcgi_pair_size(pairs->list[i].name_len, pairs->list[i].value_len);
	return size;
}

static u_char *
write_params(u_char *p, struct seance_message *message, const struct pairs *pairs,
             struct seance_socket *s)
{
	struct fcgi_stream stream;

	fcgi_stream_begin(&stream, FCGI_PARAMS, p);
	fcgi_stream_put(&stream, s->params, s->params_len);
	for (ngx_uint_t i = 0; i < pairs->count; i++)
		fcgi_stream_pair(&stream, pairs->list[i].name, pairs->list[i].name_len, pairs->list[i].value,
		                 pairs->list[i].value_len);
	message->position = fcgi_stream_break(&stream);
	stream.out = fcgi_number(message->position, POSITION, POSITION_LEN, 0);
	return fcgi_stream_end(&stream);
}

/* An event in its parts: a line, and unless that is all, bytes and CRLF. */
struct event {
	u_char line[EVENTS_HEAD_MAX];
	size_t line_len;
	const u_char *data;
	size_t len;
	size_t end_len;
};

static void
event_init(struct event *event, enum events_type type, const u_char *data, size_t len)
{
	ngx_uint_t bare = len == 0 && type != EVENTS_TEXT && type != EVENTS_BINARY;

	event->line_len = bare ? events_bare(event->line, type) : events_head(event->line, type, len);
	event->data = data;
	event->len = len;
	event->end_len = bare ? 0 : 2;
}

static u_char *
write_event(u_char *p, const struct event *event)
{
	struct fcgi_stream stream;

	fcgi_stream_begin(&stream, FCGI_STDIN, p);
	fcgi_stream_put(&stream, event->line, event->line_len);
	fcgi_stream_put(&stream, event->data, event->len);
	fcgi_stream_put(&stream, CRLF, event->end_len);
	return fcgi_stream_end(&stream);
}

struct seance_message *
seance_message_new(struct seance_socket *s, enum events_type type, const u_char *data, size_t len)
{
	uint64_t number = type == EVENTS_OPEN ? 0 : s->number + 1;
	struct seance_message *message;
	struct event event;
	struct pairs pairs;
	size_t content;
	u_char *p;

	event_init(&event, type, data, len);
	content = event.line_len + event.len + event.end_len;
	collect(&pairs, s, number, content);
	message =
		malloc(sizeof *message + FCGI_BEGIN_SIZE + fcgi_stream_size(s->params_len + pairs_size(&pairs)) +
	           FCGI_NUMBER_SIZE(POSITION_LEN) + fcgi_stream_size(content));
	if (message == NULL)
		return NULL;
	message->next = NULL;
	message->number = s->number = number;
	p = fcgi_begin(message->data, s->conf->pool->keep);
	p = write_params(p, message, &pairs, s);
	p = write_event(p, &event);
	message->job.data = message->data;
	message->job.len = p - message->data;
	message->job.owner = s;
	message->job.peer = NULL;
	message->job.waiting = 0;
	return message;
}

void
seance_message_place(struct seance_message *message, uint64_t position)
{
	fcgi_number(message->position, POSITION, POSITION_LEN, position);
}

ngx_int_t
seance_params_encode(ngx_http_request_t *r, struct seance_conf *conf, u_char **out, size_t *len)
{
	struct seance_param *params;
	ngx_uint_t i, count;
	ngx_str_t *values;
	u_char *p;

	*out = NULL;
	*len = 0;
	if (conf->params == NULL || conf->params->nelts == 0)
		return NGX_OK;
	params = conf->params->elts;
	count = conf->params->nelts;
	values = ngx_palloc(r->pool, count * sizeof *values);
	if (values == NULL)
		return NGX_ERROR;
	for (i = 0; i < count; i++) {
		if (ngx_http_complex_value(r, &params[i].value, &values[i]) != NGX_OK)
			return NGX_ERROR;
		*len += fcgi_pair_size(params[i].name.len, values[i].len);
	}
	*out = p = malloc(*len);
	if (p == NULL)
		return NGX_ERROR;
	for (i = 0; i < count; i++)
		p = fcgi_pair(p, (const char *)params[i].name.data, params[i].name.len, values[i].data,
		              values[i].len);
	return NGX_OK;
}
