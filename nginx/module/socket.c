#include "socket.h"
#include "answer.h"
#include "link.h"
#include "message.h"
#include "order.h"
#include "stream.h"
#include "table.h"
#include "wait.h"

#define READ_SIZE 65536
#define READS     16 /* of one socket before others have their turn */

static u_char read_buffer[READ_SIZE];
static ngx_queue_t todo_list;
static ngx_event_t todo_event;
static ngx_connection_t dummy;

static void on_read(ngx_event_t *ev);
static void on_write(ngx_event_t *ev);

/* The request is let go, and sockets are freed, by a posted event only. */
void
seance_socket_look_soon(struct seance_socket *s)
{
	if (!s->listed) {
		s->listed = 1;
		ngx_queue_insert_tail(&todo_list, &s->todo);
	}
	todo_event.log = ngx_cycle->log;
	ngx_post_event(&todo_event, &ngx_posted_events);
}

/* The end */

static void
drop_messages(struct seance_socket *s)
{
	while (s->waiting != NULL) {
		struct seance_message *message = s->waiting;

		s->waiting = message->next;
		free(message);
	}
	s->waiting_bytes = 0;
	if (s->message != NULL && seance_pool_withdraw(&s->message->job) == NGX_OK) {
		free(s->message);
		s->message = NULL;
	}
}

static void
no_event(ngx_event_t *ev)
{
}

static void
log_end(struct seance_socket *s)
{
	ngx_msec_t ms = ngx_current_msec - s->since;

	if (s->kind == LINK_WAIT)
		return;
	ngx_log_error(NGX_LOG_INFO, s->c != NULL ? s->c->log : ngx_cycle->log, 0,
	              "seance: %s %*s ended: code %ud, %M.%03M s, in %uL messages %uL bytes,"
	              " out %uD messages %uL bytes",
	              s->kind == LINK_STREAM ? "stream" : "websocket", (size_t)s->id_len, s->id,
	              (ngx_uint_t)s->code, ms / 1000, ms % 1000, s->number, s->bytes_in, s->messages_out,
	              s->bytes_out);
}

/* The connection is given up; what hangs on it goes, the socket itself later. */
void
seance_socket_gone(struct seance_socket *s)
{
	ngx_connection_t *c = s->c;

	if (s->state == SEANCE_GONE)
		return;
	s->state = SEANCE_GONE;
	log_end(s);
	if (c != NULL && s->r == NULL) {
		if (c->read->timer_set)
			ngx_del_timer(c->read);
		if (c->write->timer_set)
			ngx_del_timer(c->write);
		c->read->handler = no_event;
		c->write->handler = no_event;
	}
	seance_order_clear(s);
	seance_out_clear(&s->out);
	websocket_release(&s->parser);
	free(s->rest);
	s->rest = NULL;
	s->rest_len = 0;
	if (!s->finishing)
		drop_messages(s);
	seance_socket_look_soon(s);
}

void
seance_socket_lost(struct seance_socket *s)
{
	if (s->state == SEANCE_OPEN)
		s->code = WEBSOCKET_ABNORMAL;
	seance_socket_gone(s);
}

/* No frame can follow: the client reads to the end, we wait for its own end. */
static void
shut_writing(struct seance_socket *s)
{
#if (NGX_HTTP_SSL)
	if (s->c->ssl != NULL) {
		s->c->ssl->shutdown_without_free = 1;
		if (ngx_ssl_shutdown(s->c) != NGX_OK) {
			seance_socket_gone(s);
			return;
		}
	}
#endif
	ngx_shutdown_socket(s->c->fd, NGX_WRITE_SHUTDOWN);
}

/* What is to be done once our CLOSE is out. */
static void
check_closed(struct seance_socket *s)
{
	if (s->state != SEANCE_CLOSING || s->r != NULL || s->out.first != NULL)
		return;
	if (s->peer_closed)
		seance_socket_gone(s);
	else if (s->deaf)
		shut_writing(s);
}

static void
begin_closing(struct seance_socket *s, uint16_t code)
{
	s->state = SEANCE_CLOSING;
	s->code = code;
	seance_order_clear(s);
	if (!s->finishing)
		drop_messages(s);
	free(s->rest);
	s->rest = NULL;
	s->rest_len = 0;
	if (s->r != NULL)
		return;
	ngx_add_timer(s->c->read, s->conf->close_timeout);
	if (s->c->read->ready) {
		ngx_post_event(s->c->read, &ngx_posted_events);
	}
}

void
seance_socket_close_written(struct seance_socket *s, uint16_t code)
{
	begin_closing(s, code);
	if (code == WEBSOCKET_ABNORMAL)
		seance_socket_gone(s);
	else
		check_closed(s);
}

/* A stream ends when all that waits is written; who waits asks again, and is told. */
static void
close_request(struct seance_socket *s)
{
	if (s->kind == LINK_WAIT)
		seance_wait_wake(s);
	else
		seance_socket_look_soon(s);
}

void
seance_socket_close(struct seance_socket *s, uint16_t code, const u_char *reason, size_t len)
{
	struct seance_frame *frame;
	ngx_int_t rc = NGX_ERROR;

	if (s->state != SEANCE_OPEN)
		return;
	begin_closing(s, code);
	if (s->kind != LINK_WEBSOCKET) {
		close_request(s);
		return;
	}
	frame = code != WEBSOCKET_ABNORMAL ? seance_frame_new(WEBSOCKET_CLOSE_MAX) : NULL;
	if (frame != NULL) {
		if (s->out.bytes > s->conf->buffer_limit)
			seance_out_cut(&s->out);
		frame->len = websocket_close_frame(frame->data, code, reason, len);
		rc = seance_out_write(&s->out, s->r == NULL ? s->c : NULL, frame, 0, frame->len);
		seance_frame_unref(frame);
	}
	if (rc == NGX_OK)
		check_closed(s);
	else
		seance_socket_gone(s);
}

static void
close_text(struct seance_socket *s, uint16_t code, const char *reason)
{
	seance_socket_close(s, code, (const u_char *)reason, ngx_strlen(reason));
}

static void
count_end(struct seance_socket *s)
{
	struct seance_link *link = s->conf->link;

	if (s->kind == LINK_WAIT)
		return;
	seance_count(link, CLOSED, 1);
	if (s->code == WEBSOCKET_ABNORMAL)
		seance_count(link, CLOSED_ABNORMAL, 1);
	else if (s->code >= WEBSOCKET_INTERNAL_ERROR && s->code < 3000)
		seance_count(link, CLOSED_SERVER, 1);
	else if (s->code > WEBSOCKET_GOING_AWAY && s->code < 3000 && s->code != WEBSOCKET_NO_CODE)
		seance_count(link, CLOSED_PROTOCOL, 1);
}

/* All is over: a program with a link is told, and the memory goes. */
static void
end(struct seance_socket *s)
{
	count_end(s);
	seance_link_closed(s->conf->link, s);
	seance_table_remove(s->handle);
	seance_unkeep();
	free(s->params);
	free(s);
}

/* Messages to the program */

static ngx_uint_t
is_busy(const struct seance_socket *s)
{
	return s->message != NULL || s->answer != NULL;
}

static ngx_uint_t
is_paused(const struct seance_socket *s)
{
	return is_busy(s) && s->waiting_bytes >= s->conf->queue;
}

static ngx_uint_t
is_late(const struct seance_socket *s)
{
	return ngx_current_msec - s->started >= s->conf->deadline;
}

/* A message is sent (again) only for a socket that is open, or when it is the rest of one. */
static ngx_int_t
message_prepare(struct seance_job *job)
{
	struct seance_socket *s = job->owner;

	if (s->state != SEANCE_OPEN && (!s->finishing || is_late(s)))
		return NGX_DECLINED;
	seance_message_place(s->message, s->position);
	return NGX_OK;
}

static void message_done(struct seance_job *job, enum seance_outcome outcome, const u_char *data,
                         size_t len);

static void
send_message(struct seance_socket *s, struct seance_message *message)
{
	s->message = message;
	s->started = ngx_current_msec;
	message->job.patience = 2 * s->conf->deadline; /* the socket itself has ended by then */
	message->job.prepare = message_prepare;
	message->job.done = message_done;
	if (s->c != NULL && s->state == SEANCE_OPEN && !s->c->write->timer_set)
		ngx_add_timer(s->c->write, s->conf->deadline);
	seance_pool_submit(s->conf->pool, &message->job);
}

void
seance_socket_next(struct seance_socket *s)
{
	struct seance_message *message = s->waiting;

	if (message != NULL) {
		s->waiting = message->next;
		s->waiting_bytes -= message->job.len;
		message->next = NULL;
		send_message(s, message);
	}
	if (s->state == SEANCE_OPEN && s->r == NULL && !is_paused(s) &&
	    (s->rest != NULL || s->c->read->ready)) {
		ngx_post_event(s->c->read, &ngx_posted_events);
	}
}

static void
bad_answer(struct seance_socket *s, uint64_t number, const char *why)
{
	ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "seance: %V answered message %uL of %*s wrongly: %s",
	              &s->conf->pool->name, number, (size_t)s->id_len, s->id, why);
	seance_count(s->conf->link, BAD_ANSWERS, 1);
	close_text(s, WEBSOCKET_INTERNAL_ERROR, "");
}

static void
take_answer(struct seance_socket *s, uint64_t number, const u_char *data, size_t len)
{
	const char *why;

	s->answer = seance_answer_new(data, len, &why);
	if (s->answer == NULL) {
		bad_answer(s, number, why);
		return;
	}
	s->answer->number = number;
	seance_order_settle(s);
}

static void
message_done(struct seance_job *job, enum seance_outcome outcome, const u_char *data, size_t len)
{
	struct seance_socket *s = job->owner;
	uint64_t number = s->message->number;

	if (s->message->job.attempts > 1)
		seance_count(s->conf->link, RESENDS, s->message->job.attempts - 1);
	if (outcome == SEANCE_ANSWERED)
		seance_count(s->conf->link, ANSWERS, 1);
	free(s->message);
	s->message = NULL;
	if (s->state == SEANCE_OPEN) {
		if (outcome == SEANCE_ANSWERED)
			take_answer(s, number, data, len);
		else if (outcome == SEANCE_MALFORMED)
			bad_answer(s, number, (const char *)data);
		else
			seance_socket_lost(s); /* the worker exits */
		return;
	}
	if (outcome == SEANCE_LOST)
		drop_messages(s);
	if (s->waiting != NULL)
		seance_socket_next(s);
	else if (s->state == SEANCE_GONE)
		seance_socket_look_soon(s);
}

/* A program without a link is told by messages, too, that a socket is there, and that it has ended. */

static void
tell_open(struct seance_socket *s)
{
	struct seance_message *message;

	if (!seance_link_none(s->conf->link))
		return;
	message = seance_message_new(s, EVENTS_OPEN, NULL, 0);
	if (message == NULL) {
		close_text(s, WEBSOCKET_INTERNAL_ERROR, "");
		return;
	}
	s->told_open = 1;
	send_message(s, message);
}

/* Returns whether a message was sent; the socket ends when that has ended. */
static ngx_uint_t
tell_end(struct seance_socket *s)
{
	const u_char code[2] = {s->code >> 8, s->code & 255};
	struct seance_message *message;

	if (!s->told_open)
		return 0;
	s->told_open = 0;
	if (s->peer_closed)
		message =
			seance_message_new(s, EVENTS_CLOSE, code, s->code != WEBSOCKET_NO_CODE ? sizeof code : 0);
	else
		message = seance_message_new(s, EVENTS_DISCONNECT, NULL, 0);
	if (message == NULL)
		return 0;
	s->finishing = 1;
	send_message(s, message);
	return 1;
}

/* Frames from the client */

static void
got_message(struct seance_socket *s, const struct websocket_event *event)
{
	struct seance_message *message;

	seance_count(s->conf->link, MESSAGES_IN, 1);
	message = seance_message_new(s, event->type == WEBSOCKET_GOT_BINARY ? EVENTS_BINARY : EVENTS_TEXT,
	                             event->data, event->len);
	websocket_drop(&s->parser);
	if (message == NULL) {
		close_text(s, WEBSOCKET_INTERNAL_ERROR, "");
		return;
	}
	if (!is_busy(s)) {
		send_message(s, message);
		return;
	}
	if (s->waiting != NULL)
		s->waiting_last->next = message;
	else
		s->waiting = message;
	s->waiting_last = message;
	s->waiting_bytes += message->job.len;
}

static void
got_ping(struct seance_socket *s, const struct websocket_event *event)
{
	struct seance_frame *frame;
	ngx_int_t rc = NGX_ABORT;

	/* who does not read its pongs gets no more of them */
	if (s->out.bytes > s->conf->buffer)
		return;
	frame = seance_frame_message(WEBSOCKET_PONG, event->data, event->len);
	if (frame != NULL) {
		rc = seance_out_write(&s->out, s->c, frame, 0, frame->len);
		seance_frame_unref(frame);
	}
	if (rc == NGX_ABORT)
		close_text(s, WEBSOCKET_INTERNAL_ERROR, "");
	else if (rc != NGX_OK)
		seance_socket_lost(s);
}

/* What the client sent before its CLOSE is still run; the CLOSE is answered with its own code. */
static void
got_close(struct seance_socket *s, const struct websocket_event *event)
{
	s->peer_closed = 1;
	s->deaf = 1;
	if (s->state == SEANCE_OPEN) {
		s->finishing = 1;
		seance_socket_close(s, event->code, NULL, 0);
		if (s->message == NULL)
			seance_socket_next(s); /* it waited for an answer that is written no more */
	} else {
		check_closed(s);
	}
}

static void
got_failure(struct seance_socket *s, const struct websocket_event *event)
{
	s->deaf = 1;
	if (s->state != SEANCE_OPEN) {
		check_closed(s);
		return;
	}
	ngx_log_error(NGX_LOG_INFO, s->c->log, 0, "seance: websocket %*s: %*s", (size_t)s->id_len, s->id,
	              event->len, event->data);
	seance_socket_close(s, event->code, event->data, event->len);
}

static void
got_event(struct seance_socket *s, const struct websocket_event *event)
{
	s->heard = ngx_current_msec;
	switch (event->type) {
	case WEBSOCKET_GOT_TEXT:
	case WEBSOCKET_GOT_BINARY:
		if (s->state == SEANCE_OPEN)
			got_message(s, event);
		break;
	case WEBSOCKET_GOT_PING:
		seance_count(s->conf->link, CONTROLS_IN, 1);
		if (s->state == SEANCE_OPEN)
			got_ping(s, event);
		break;
	case WEBSOCKET_GOT_CLOSE:
		seance_count(s->conf->link, CONTROLS_IN, 1);
		got_close(s, event);
		break;
	case WEBSOCKET_FAILED:
		got_failure(s, event);
		break;
	case WEBSOCKET_GOT_PONG:
		seance_count(s->conf->link, CONTROLS_IN, 1);
		break;
	case WEBSOCKET_NOTHING:
		break;
	}
}

static ngx_uint_t
may_read(const struct seance_socket *s)
{
	return s->state == SEANCE_CLOSING || (s->state == SEANCE_OPEN && !is_paused(s));
}

/* Parses bytes until they are used or reading is paused.  Returns how many were used. */
static size_t
parse(struct seance_socket *s, u_char *buf, size_t len)
{
	size_t used = 0;

	while (may_read(s) && !s->deaf) {
		struct websocket_event event;

		used += websocket_read(&s->parser, buf + used, len - used, &event);
		if (event.type == WEBSOCKET_NOTHING)
			break;
		got_event(s, &event);
	}
	return s->state == SEANCE_OPEN ? used : len;
}

static void
parse_rest(struct seance_socket *s)
{
	u_char *rest = s->rest;
	size_t len = s->rest_len;

	s->rest = NULL; /* ours for now: a close would free it */
	s->rest_at += parse(s, rest + s->rest_at, len - s->rest_at);
	if (s->state == SEANCE_OPEN && s->rest_at < len) {
		s->rest = rest;
		return;
	}
	free(rest);
	s->rest_at = s->rest_len = 0;
}

static void
keep_rest(struct seance_socket *s, const u_char *buf, size_t len)
{
	s->rest = malloc(len);
	if (s->rest == NULL) {
		close_text(s, WEBSOCKET_INTERNAL_ERROR, "");
		return;
	}
	ngx_memcpy(s->rest, buf, len);
	s->rest_at = 0;
	s->rest_len = len;
}

/* Returns NGX_OK when there may be more. */
static ngx_int_t
read_once(struct seance_socket *s)
{
	size_t used;
	ssize_t n;

	if (s->rest != NULL) {
		parse_rest(s);
		return NGX_OK;
	}
	if (!s->c->read->ready)
		return NGX_AGAIN;
	n = s->c->recv(s->c, read_buffer, sizeof read_buffer);
	if (n == NGX_AGAIN)
		return NGX_AGAIN;
	if (n <= 0) {
		seance_socket_lost(s);
		return NGX_ERROR;
	}
	s->bytes_in += n;
	seance_count(s->conf->link, BYTES_IN, n);
	used = parse(s, read_buffer, n);
	if (used < (size_t)n)
		keep_rest(s, read_buffer + used, n - used);
	return NGX_OK;
}

static void
read_frames(struct seance_socket *s)
{
	ngx_uint_t reads = 0;

	while (may_read(s)) {
		if (read_once(s) != NGX_OK)
			break;
		if (++reads == READS && may_read(s)) {
			ngx_post_event(s->c->read, &ngx_posted_next_events);
			return;
		}
	}
	if (s->state != SEANCE_GONE && ngx_handle_read_event(s->c->read, 0) != NGX_OK)
		seance_socket_lost(s);
}

/* Timers: each is set once and looks, when it goes off, whether it was right to. */

static void
check_idle(struct seance_socket *s)
{
	ngx_msec_t idle = ngx_current_msec - s->heard;

	if (s->state == SEANCE_CLOSING)
		seance_socket_gone(s);
	else if (is_busy(s))
		ngx_add_timer(s->c->read, s->conf->idle_timeout);
	else if (idle < s->conf->idle_timeout)
		ngx_add_timer(s->c->read, s->conf->idle_timeout - idle);
	else
		close_text(s, WEBSOCKET_GOING_AWAY, "idle");
}

static void
check_deadline(struct seance_socket *s)
{
	if (s->state != SEANCE_OPEN || !is_busy(s))
		return;
	if (is_late(s))
		close_text(s, WEBSOCKET_TRY_AGAIN, "no answer in time");
	else
		ngx_add_timer(s->c->write, s->conf->deadline - (ngx_current_msec - s->started));
}

static void
on_read(ngx_event_t *ev)
{
	ngx_connection_t *c = ev->data;
	struct seance_socket *s = c->data;

	if (c->close) { /* worker_shutdown_timeout */
		close_text(s, WEBSOCKET_GOING_AWAY, "");
		seance_socket_gone(s);
	} else if (ev->timedout) {
		ev->timedout = 0;
		check_idle(s);
	} else {
		read_frames(s);
	}
}

static void
on_write(ngx_event_t *ev)
{
	ngx_connection_t *c = ev->data;
	struct seance_socket *s = c->data;

	if (ev->timedout) {
		ev->timedout = 0;
		check_deadline(s);
		return;
	}
	if (s->out.first == NULL)
		return;
	if (seance_out_flush(&s->out, c) != NGX_OK) {
		seance_socket_lost(s);
		return;
	}
	if (s->state == SEANCE_OPEN)
		seance_order_drained(s);
	else
		check_closed(s);
}

/* From a request to a connection of our own */

struct seance_socket *
seance_socket_of(ngx_http_request_t *r)
{
	return ngx_http_get_module_ctx(r, ngx_http_seance_module);
}

/* nginx has ended the request before it was let go. */
static void
request_ended(void *data)
{
	struct seance_socket *s = seance_socket_of(data);

	if (s == NULL)
		return;
	s->r = NULL;
	s->c = NULL;
	seance_socket_lost(s);
}

/* The 101 could not be written at once. */
static void
request_write(ngx_http_request_t *r)
{
	struct seance_socket *s = seance_socket_of(r);

	if (r->connection->write->timedout || ngx_http_output_filter(r, NULL) == NGX_ERROR)
		seance_socket_gone(s);
	else
		seance_socket_look_soon(s);
}

static void
wait_for_request(struct seance_socket *s)
{
	ngx_http_core_loc_conf_t *clcf = ngx_http_get_module_loc_conf(s->r, ngx_http_core_module);

	s->r->write_event_handler = request_write;
	if (!s->c->write->timer_set)
		ngx_add_timer(s->c->write, clcf->send_timeout);
	if (ngx_handle_write_event(s->c->write, clcf->send_lowat) != NGX_OK)
		seance_socket_gone(s);
}

/* The buffers that a request's head was read into (as ngx_http_set_keepalive does it). */
static void
free_buffers(ngx_connection_t *c, ngx_http_connection_t *hc)
{
	ngx_chain_t *chain, *next;

	if (c->buffer != NULL && ngx_pfree(c->pool, c->buffer->start) == NGX_OK)
		c->buffer->start = c->buffer->end = NULL;
	if (c->buffer != NULL)
		c->buffer->pos = c->buffer->last = c->buffer->start;
	for (chain = hc->free; chain != NULL; chain = next) {
		next = chain->next;
		ngx_pfree(c->pool, chain->buf->start);
		ngx_free_chain(c->pool, chain);
	}
	for (chain = hc->busy; chain != NULL; chain = next) {
		next = chain->next;
		ngx_pfree(c->pool, chain->buf->start);
		ngx_free_chain(c->pool, chain);
	}
	hc->free = hc->busy = NULL;
	hc->nbusy = 0;
#if (NGX_HTTP_SSL)
	if (c->ssl != NULL)
		ngx_ssl_free_buffer(c);
#endif
}

static void
take_connection(struct seance_socket *s)
{
	ngx_connection_t *c = s->c;

	c->destroyed = 0;
	c->data = s;
	c->log->action = "holding a websocket";
	c->read->handler = on_read;
	c->write->handler = on_write;
	c->read->cancelable = c->write->cancelable = 1;
	if (s->state == SEANCE_CLOSING)
		ngx_add_timer(c->read, s->conf->close_timeout);
	else
		ngx_add_timer(c->read, s->conf->idle_timeout);
}

static void
let_request_go(struct seance_socket *s)
{
	ngx_http_request_t *r = s->r;
	ngx_connection_t *c = s->c;
	ngx_http_connection_t *hc = r->http_connection;

	if (r->out != NULL || c->buffered) {
		wait_for_request(s);
		return;
	}
	if (r->count != 1 || r->blocked) {
		ngx_log_error(NGX_LOG_ERR, c->log, 0, "seance: the request is still used by another module");
		seance_socket_gone(s);
		return;
	}
	if (c->read->timer_set)
		ngx_del_timer(c->read);
	if (c->write->timer_set)
		ngx_del_timer(c->write);
	ngx_http_set_ctx(r, NULL, ngx_http_seance_module);
	s->r = NULL;
	r->keepalive = 0;
	ngx_http_free_request(r, 0); /* logs, runs its cleanups, destroys its pool */
	free_buffers(c, hc);
	take_connection(s);
	if (seance_out_flush(&s->out, c) != NGX_OK) {
		seance_socket_lost(s);
		return;
	}
	check_closed(s);
	if (s->state == SEANCE_OPEN)
		tell_open(s);
	if (s->state != SEANCE_GONE)
		read_frames(s);
}

static void
leave_request(struct seance_socket *s, ngx_http_request_t *r)
{
	ngx_http_set_ctx(r, NULL, ngx_http_seance_module);
	if (r->connection->read->timer_set)
		ngx_del_timer(r->connection->read);
	if (r->connection->write->timer_set)
		ngx_del_timer(r->connection->write);
	r->read_event_handler = ngx_http_block_reading;
	r->write_event_handler = ngx_http_request_empty_handler;
	switch (s->kind) {
	case LINK_STREAM:
		seance_stream_leave(s, r);
		break;
	case LINK_WAIT:
		seance_wait_leave(s, r);
		break;
	default:
		ngx_http_finalize_request(r, NGX_HTTP_CLOSE);
	}
}

static void
give_connection_back(struct seance_socket *s)
{
	ngx_connection_t *c = s->c;
	ngx_http_request_t *r = s->r;

	s->c = NULL;
	s->r = NULL;
	if (c == NULL)
		return;
	if (r != NULL) {
		leave_request(s, r);
		ngx_http_run_posted_requests(c);
		return;
	}
	c->read->cancelable = c->write->cancelable = 0;
	ngx_http_close_connection(c);
}

static void
look(ngx_event_t *ev)
{
	while (!ngx_queue_empty(&todo_list)) {
		ngx_queue_t *q = ngx_queue_head(&todo_list);
		struct seance_socket *s = ngx_queue_data(q, struct seance_socket, todo);

		/* q was the head: NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
		ngx_queue_remove(q);
		s->listed = 0;
		if (s->state != SEANCE_GONE) {
			if (s->kind == LINK_STREAM)
				seance_stream_pump(s);
			else if (s->kind == LINK_WEBSOCKET && s->r != NULL)
				let_request_go(s);
			continue;
		}
		give_connection_back(s);
		if (s->message == NULL && s->waiting == NULL && !tell_end(s))
			end(s);
	}
}

static struct seance_socket *
socket_new(ngx_http_request_t *r, struct seance_conf *conf, ngx_str_t *id, enum link_kind kind)
{
	struct seance_socket *s = calloc(1, sizeof *s + id->len);

	if (s == NULL)
		return NULL;
	s->handle = seance_table_add(s);
	if (s->handle == 0) {
		free(s);
		return NULL;
	}
	s->c = r->connection;
	s->r = r;
	s->conf = conf;
	s->kind = kind;
	s->since = s->heard = ngx_current_msec;
	s->code = WEBSOCKET_ABNORMAL;
	s->id_len = id->len;
	ngx_memcpy(s->id, id->data, id->len);
	websocket_init(&s->parser, conf->message_size);
	return s;
}

/* Takes the bytes that came with the handshake. */
static ngx_int_t
take_early_bytes(struct seance_socket *s, ngx_buf_t *header_in)
{
	size_t len = header_in->last - header_in->pos;

	if (len == 0)
		return NGX_OK;
	s->rest = malloc(len);
	if (s->rest == NULL)
		return NGX_ERROR;
	ngx_memcpy(s->rest, header_in->pos, len);
	header_in->pos = header_in->last;
	s->rest_len = len;
	s->bytes_in = len;
	return NGX_OK;
}

struct seance_socket *
seance_socket_add(ngx_http_request_t *r, struct seance_conf *conf, ngx_str_t *id, enum link_kind kind)
{
	ngx_http_cleanup_t *cleanup = ngx_http_cleanup_add(r, 0);
	struct seance_socket *s = cleanup != NULL ? socket_new(r, conf, id, kind) : NULL;

	if (s == NULL)
		return NULL;
	cleanup->handler = request_ended;
	cleanup->data = r;
	ngx_http_set_ctx(r, s, ngx_http_seance_module);
	r->read_event_handler = ngx_http_block_reading;
	r->write_event_handler = ngx_http_request_empty_handler;
	seance_keep();
	if (kind != LINK_WAIT)
		seance_count(conf->link, OPENED, 1);
	return s;
}

/* The posted event looks whether the client has gone meanwhile, too. */
void
seance_socket_held(struct seance_socket *s)
{
	seance_link_held(s->conf->link, s);
	if (s->kind != LINK_WEBSOCKET) {
		ngx_post_event(s->c->read, &ngx_posted_events);
	}
	seance_socket_look_soon(s);
}

uint64_t
seance_number_arg(ngx_http_request_t *r, const char *name)
{
	uint64_t number = 0;
	ngx_str_t text;

	if (ngx_http_arg(r, (u_char *)name, ngx_strlen(name), &text) != NGX_OK || text.len > 19)
		return 0;
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return 0;
		number = number * 10 + (text.data[i] - '0');
	}
	return number;
}

/* What a socket that could not be completed has taken: its request ends by itself. */
static void
socket_abandon(struct seance_socket *s)
{
	ngx_http_set_ctx(s->r, NULL, ngx_http_seance_module);
	seance_table_remove(s->handle);
	seance_unkeep();
	free(s);
}

ngx_int_t
seance_socket_start(ngx_http_request_t *r, struct seance_conf *conf, ngx_str_t *id, u_char *params,
                    size_t params_len)
{
	struct seance_socket *s = seance_socket_add(r, conf, id, LINK_WEBSOCKET);

	if (s == NULL || take_early_bytes(s, r->header_in) != NGX_OK) {
		if (s != NULL)
			socket_abandon(s);
		free(params);
		return NGX_ERROR;
	}
	s->params = params;
	s->params_len = params_len;
	seance_count(conf->link, BYTES_IN, s->bytes_in);
	seance_socket_held(s);
	return NGX_OK;
}

void
seance_sockets_init(void)
{
	ngx_queue_init(&todo_list);
	dummy.fd = (ngx_socket_t)-1;
	todo_event.handler = look;
	todo_event.data = &dummy;
}

/* The pools have ended already: no message is in flight. */
void
seance_sockets_exit(void)
{
	for (uint32_t i = 0; i < seance_table_slots(); i++) {
		struct seance_socket *s = seance_table_at(i);

		if (s == NULL)
			continue;
		s->finishing = 0;
		seance_socket_gone(s);
		if (s->listed) {
			ngx_queue_remove(&s->todo);
		}
		if (s->c != NULL && s->r == NULL)
			give_connection_back(s);
		if (s->r != NULL)
			ngx_http_set_ctx(s->r, NULL, ngx_http_seance_module);
		seance_table_remove(s->handle);
		free(s->params);
		free(s);
	}
	if (todo_event.posted) {
		ngx_delete_posted_event(&todo_event);
	}
	seance_table_free();
}
