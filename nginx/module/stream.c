#include "stream.h"
#include "head.h"
#include "order.h"
#include "socket.h"

/* Of the request's memory: nginx may still write from it when the socket has gone. */
struct seance_stream {
	ngx_buf_t buf;
	ngx_chain_t chain;
	struct seance_frame *frame; /* owned: a reference; what buf is of */
	unsigned finished : 1;      /* all was written: the response ends well */
};

static void
release_frame(void *data)
{
	struct seance_stream *stream = data;

	seance_frame_unref(stream->frame);
	stream->frame = NULL;
}

static ngx_uint_t
is_taken(const struct seance_stream *stream)
{
	return stream->buf.pos == stream->buf.last;
}

/* What waits first, for the filters. */
static ngx_chain_t *
next_piece(struct seance_socket *s)
{
	struct seance_stream *stream = s->stream;
	size_t from, to;

	release_frame(stream);
	stream->frame = seance_out_take(&s->out, &from, &to);
	ngx_memzero(&stream->buf, sizeof stream->buf);
	stream->buf.start = stream->buf.pos = stream->frame->data + from;
	stream->buf.end = stream->buf.last = stream->frame->data + to;
	stream->buf.memory = 1;
	stream->buf.flush = 1;
	stream->chain.buf = &stream->buf;
	stream->chain.next = NULL;
	return &stream->chain;
}

static ngx_uint_t
is_stuck(const struct seance_socket *s)
{
	return !is_taken(s->stream) || s->r->buffered || s->c->buffered;
}

static ngx_int_t
wait_writable(struct seance_socket *s)
{
	ngx_http_core_loc_conf_t *clcf = ngx_http_get_module_loc_conf(s->r, ngx_http_core_module);

	if (!s->c->write->timer_set)
		ngx_add_timer(s->c->write, clcf->send_timeout);
	return ngx_handle_write_event(s->c->write, clcf->send_lowat);
}

void
seance_stream_pump(struct seance_socket *s)
{
	ngx_int_t rc = is_stuck(s) ? ngx_http_output_filter(s->r, NULL) : NGX_OK;

	while (rc != NGX_ERROR && !is_stuck(s) && s->out.first != NULL)
		rc = ngx_http_output_filter(s->r, next_piece(s));
	if (rc != NGX_ERROR && is_stuck(s))
		rc = wait_writable(s);
	if (rc == NGX_ERROR || s->c->error) {
		seance_socket_lost(s);
	} else if (s->state == SEANCE_OPEN) {
		seance_order_drained(s);
	} else if (!is_stuck(s)) {
		s->stream->finished = 1;
		seance_socket_gone(s);
	}
}

/* Proxies, and we, notice by it that somebody is there still. */
static void
ping(struct seance_socket *s)
{
	struct seance_frame *frame;

	if (s->out.first == NULL && !is_stuck(s)) {
		frame = seance_frame_bytes((const u_char *)":\n\n", 3);
		if (frame == NULL || seance_out_write(&s->out, NULL, frame, 0, frame->len) != NGX_OK)
			seance_socket_lost(s);
		seance_frame_unref(frame);
	}
	ngx_add_timer(s->c->read, s->conf->ping);
	if (s->state != SEANCE_GONE)
		seance_stream_pump(s);
}

static void
on_read(ngx_http_request_t *r)
{
	struct seance_socket *s = seance_socket_of(r);
	ngx_event_t *rev = r->connection->read;

	if (s == NULL || s->state == SEANCE_GONE)
		return;
	if (rev->timedout) {
		rev->timedout = 0;
		ping(s);
	} else {
		ngx_http_test_reading(r);
	}
}

static void
on_write(ngx_http_request_t *r)
{
	struct seance_socket *s = seance_socket_of(r);
	ngx_event_t *wev = r->connection->write;

	if (s == NULL || s->state == SEANCE_GONE)
		return;
	if (wev->timedout || r->connection->error) {
		seance_socket_lost(s);
		return;
	}
	if (wev->timer_set)
		ngx_del_timer(wev);
	seance_stream_pump(s);
}

static ngx_int_t
send_head(ngx_http_request_t *r)
{
	ngx_int_t rc;

	ngx_http_clear_content_length(r);
	ngx_http_clear_accept_ranges(r);
	ngx_http_clear_last_modified(r);
	ngx_http_clear_etag(r);
	r->headers_out.status = NGX_HTTP_OK;
	if (seance_head_copy(r) != NGX_OK)
		return NGX_HTTP_INTERNAL_SERVER_ERROR;
	rc = ngx_http_send_header(r);
	if (rc == NGX_ERROR || rc > NGX_OK)
		return rc;
	if (r->header_only)
		return NGX_DONE;
	return ngx_http_send_special(r, NGX_HTTP_FLUSH) == NGX_ERROR ? NGX_ERROR : NGX_OK;
}

static struct seance_stream *
stream_new(ngx_http_request_t *r)
{
	ngx_pool_cleanup_t *cleanup = ngx_pool_cleanup_add(r->pool, sizeof(struct seance_stream));

	if (cleanup == NULL)
		return NULL;
	ngx_memzero(cleanup->data, sizeof(struct seance_stream));
	cleanup->handler = release_frame;
	return cleanup->data;
}

ngx_int_t
seance_stream_start(ngx_http_request_t *r, struct seance_conf *conf, ngx_str_t *id)
{
	struct seance_stream *stream = stream_new(r);
	struct seance_socket *s;
	ngx_int_t rc;

	if (stream == NULL)
		return NGX_HTTP_INTERNAL_SERVER_ERROR;
	rc = send_head(r);
	if (rc != NGX_OK)
		return rc;
	s = seance_socket_add(r, conf, id, LINK_STREAM);
	if (s == NULL)
		return NGX_ERROR;
	s->stream = stream;
	s->position = seance_number_arg(r, "after");
	r->read_event_handler = on_read;
	r->write_event_handler = on_write;
	ngx_add_timer(r->connection->read, conf->ping);
	seance_socket_held(s);
	return NGX_OK;
}

void
seance_stream_leave(struct seance_socket *s, ngx_http_request_t *r)
{
	ngx_http_finalize_request(r, s->stream->finished ? ngx_http_send_special(r, NGX_HTTP_LAST)
	                                                 : NGX_HTTP_CLOSE);
}
