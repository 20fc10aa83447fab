#include "link.h"
#include "answer.h"
#include "message.h"
#include "socket.h"
#include "table.h"
#include "wait.h"
#include "websocket.h"

#include <ngx_event.h>

#define READ_SIZE  65536
#define SLICE      512 /* sockets that are served before the event loop turns */
#define READS      4   /* likewise of the stream */
#define DELAY_MIN  10
#define DELAY_MAX  500
#define STEADY     1000               /* ms that a stream must last to count as one */
#define OUT_MAX    (32 * 1024 * 1024) /* past it the stream is given up: hello tells all anew */
#define CLOSED_MAX (4 * 1024 * 1024)
#define COUNTS_MS  1000

static void work(ngx_event_t *ev);
static void retry(ngx_event_t *ev);
static void tick(ngx_event_t *ev);

void
seance_link_init(struct seance_link *link)
{
	link->dummy.fd = (ngx_socket_t)-1;
	link->dummy.data = link;
	link->retry.handler = retry;
	link->retry.data = &link->dummy;
	link->retry.cancelable = 1;
	link->work.handler = work;
	link->work.data = &link->dummy;
	link->tick.handler = tick;
	link->tick.data = &link->dummy;
	link->tick.cancelable = 1;
	link->shut = seance_link_none(link);
}

ngx_uint_t
seance_link_none(const struct seance_link *link)
{
	return link->name.len == 0;
}

/* work goes on after the events at hand: what they add goes out in one write */
static void
work_soon(struct seance_link *link)
{
	link->work.log = ngx_cycle->log;
	ngx_post_event(&link->work, &ngx_posted_events);
}

/* ... or after the event loop has turned */
static void
work_next_turn(struct seance_link *link)
{
	link->work.log = ngx_cycle->log;
	ngx_post_event(&link->work, &ngx_posted_next_events);
}

/* Telling */

static void
keep(struct seance_link *link, ngx_uint_t on)
{
	if (link->kept == on)
		return;
	link->kept = on;
	if (on)
		seance_keep();
	else
		seance_unkeep();
}

static void
tell(struct seance_link *link, const struct link_message *message)
{
	size_t size = link_size(message);
	u_char *room = seance_bytes_room(&link->out, size, OUT_MAX);

	if (room == NULL) {
		link->broken = 1;
	} else {
		link_encode(room, message);
		link->out.len += size;
	}
	work_soon(link);
}

static void
tell_held(struct seance_link *link, struct seance_socket *s)
{
	struct link_message message = {.type = LINK_HELD,
	                               .handle = s->handle,
	                               .kind = s->kind,
	                               .position = s->position,
	                               .answered = s->answered,
	                               .id = s->id,
	                               .id_len = s->id_len};

	s->restate = s->behind;
	tell(link, &message);
}

static void
tell_position(struct seance_link *link, struct seance_socket *s, enum link_type type)
{
	struct link_message message = {.type = type, .handle = s->handle, .position = s->position};

	if (link->state >= SEANCE_LINK_RESTATE)
		tell(link, &message);
	else
		s->restate = 1; /* said when all that is held has been told */
}

void
seance_link_held(struct seance_link *link, struct seance_socket *s)
{
	seance_link_start(link);
	if (link->state > SEANCE_LINK_HELLO ||
	    (link->state == SEANCE_LINK_HELLO && seance_table_slot(s->handle) < link->at))
		tell_held(link, s);
}

void
seance_link_behind(struct seance_link *link, struct seance_socket *s)
{
	tell_position(link, s, LINK_BEHIND);
}

void
seance_link_drained(struct seance_link *link, struct seance_socket *s)
{
	tell_position(link, s, LINK_DRAINED);
}

void
seance_link_closed(struct seance_link *link, struct seance_socket *s)
{
	struct link_message message = {
		.type = LINK_CLOSED, .handle = s->handle, .code = s->code, .id = s->id, .id_len = s->id_len};
	u_char *room;

	if (link->shut)
		return;
	if (link->state == SEANCE_LINK_READY) {
		tell(link, &message);
		keep(link, 1);
		return;
	}
	room = seance_bytes_room(&link->closed, link_size(&message), CLOSED_MAX);
	if (room == NULL)
		return; /* the program's grace time ends that socket */
	link->closed.len += link_encode(room, &message);
	keep(link, 1);
}

/* Tells of one slot; what is told depends on the state. */
static void
tell_slot(struct seance_link *link, struct seance_socket *s)
{
	struct link_message message = {.handle = s->handle, .position = s->position};

	if (link->state == SEANCE_LINK_HELLO) {
		tell_held(link, s);
	} else if (s->restate) {
		s->restate = 0;
		message.type = LINK_BEHIND;
		tell(link, &message);
		message.type = LINK_DRAINED;
		if (!s->behind)
			tell(link, &message);
	}
}

/* The next slice of the hello. */
static void
tell_slots(struct seance_link *link)
{
	struct link_message end = {.type = LINK_HELLO_END};
	uint32_t last = ngx_min(link->at + SLICE, seance_table_slots());
	u_char *room;

	for (; link->at < last; link->at++) {
		struct seance_socket *s = seance_table_at(link->at);

		if (s != NULL && s->conf->link == link)
			tell_slot(link, s);
	}
	if (link->at < seance_table_slots())
		return;
	link->at = 0;
	if (link->state == SEANCE_LINK_HELLO) {
		tell(link, &end);
		link->state = SEANCE_LINK_RESTATE;
		return;
	}
	link->state = SEANCE_LINK_READY;
	if (link->closed.len == 0)
		return;
	room = seance_bytes_room(&link->out, link->closed.len, OUT_MAX);
	if (room == NULL) {
		link->broken = 1;
		return;
	}
	ngx_memcpy(room, link->closed.data, link->closed.len);
	link->out.len += link->closed.len;
	seance_bytes_free(&link->closed);
}

static void
tell_ack(struct seance_link *link)
{
	struct link_message message = {.type = LINK_ACK, .batch = link->ack};

	if (link->acked || link->state != SEANCE_LINK_READY)
		return;
	link->acked = 1;
	tell(link, &message);
}

/* What is so now is looked for: it cannot drift. */
static void
count_socket(uint64_t *counts, const struct seance_socket *s)
{
	counts[s->kind == LINK_WEBSOCKET ? LINK_COUNT_WEBSOCKETS
	       : s->kind == LINK_STREAM  ? LINK_COUNT_STREAMS
	                                 : LINK_COUNT_PARKED]++;
	counts[LINK_COUNT_BEHIND] += s->behind;
	counts[LINK_COUNT_IN_FLIGHT] += s->message != NULL;
	for (const struct seance_message *m = s->waiting; m != NULL; m = m->next)
		counts[LINK_COUNT_WAITING]++;
	counts[LINK_COUNT_WAITING_BYTES] += s->waiting_bytes;
	counts[LINK_COUNT_HELD_BACK] += s->held_count;
	counts[LINK_COUNT_BUFFERED_BYTES] += s->out.bytes;
}

static void
count_now(struct seance_link *link)
{
	ngx_memzero(link->counts, LINK_COUNT_OPENED * sizeof link->counts[0]);
	for (uint32_t i = 0; i < seance_table_slots(); i++) {
		struct seance_socket *s = seance_table_at(i);

		if (s != NULL && s->conf->link == link)
			count_socket(link->counts, s);
	}
	seance_count_connections(link, &link->counts[LINK_COUNT_CONNECTIONS],
	                         &link->counts[LINK_COUNT_CONNECTIONS_BUSY]);
}

static void
tell_counts(struct seance_link *link)
{
	u_char counts[sizeof link->told];
	struct link_message message = {.type = LINK_COUNTS, .counts = counts, .counts_len = sizeof counts};

	count_now(link);
	for (ngx_uint_t i = 0; i < LINK_COUNT_ENDS; i++)
		link_count_write(counts + i * LINK_COUNT_SIZE, link->counts[i]);
	if (ngx_memcmp(counts, link->told, sizeof counts) == 0)
		return;
	ngx_memcpy(link->told, counts, sizeof counts);
	tell(link, &message);
}

static void
tick(ngx_event_t *ev)
{
	ngx_connection_t *dummy = ev->data;
	struct seance_link *link = dummy->data;

	if (link->state == SEANCE_LINK_READY && !link->broken)
		tell_counts(link);
	ngx_add_timer(ev, COUNTS_MS);
}

static void
flush(struct seance_link *link)
{
	ngx_connection_t *c = link->c;
	size_t sent = 0;
	ngx_int_t rc;

	while (sent < link->out.len && !link->broken) {
		ssize_t n = c->send(c, link->out.data + sent, link->out.len - sent);

		if (n == NGX_AGAIN)
			break;
		if (n <= 0)
			link->broken = 1;
		else
			sent += n;
	}
	seance_bytes_skip(&link->out, sent);
	if (link->broken)
		return;
	if (link->out.len > 0) {
		rc = ngx_handle_write_event(c->write, 0);
	} else {
		rc = seance_quiet_write(c);
		if (link->state == SEANCE_LINK_READY)
			keep(link, 0);
	}
	if (rc != NGX_OK)
		link->broken = 1;
}

/* Hearing */

static void
log_impossible(const char *why)
{
	ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "seance: delivery not possible: %s", why);
}

static struct seance_frame *
deliver_frame(const struct link_message *m)
{
	const char *why = "out of memory";
	struct seance_frame *frame = NULL;

	if (m->opcode == LINK_BYTES || m->opcode == LINK_CATCH_UP_BYTES)
		frame = seance_frame_bytes(m->body, m->body_len);
	else if (m->opcode == LINK_EVENTS || m->opcode == LINK_CATCH_UP)
		frame = seance_events_frame(m->body, m->body_len, &why);
	else if (m->opcode == LINK_TEXT && !websocket_utf8_valid(m->body, m->body_len))
		why = "text that is not UTF-8";
	else
		frame = seance_frame_message(m->opcode == LINK_TEXT ? WEBSOCKET_TEXT : WEBSOCKET_BINARY, m->body,
		                             m->body_len);
	if (frame == NULL) {
		log_impossible(why);
		return NULL;
	}
	frame->catch_up = m->opcode == LINK_CATCH_UP || m->opcode == LINK_CATCH_UP_BYTES;
	return frame;
}

/* What cannot be delivered is lost to its sockets: they end, so that their clients come anew. */
static void
close_targets(const struct link_message *m)
{
	for (uint32_t i = 0; i < m->target_count; i++) {
		struct seance_socket *s = seance_table_find(link_target_at(m, i).handle);

		if (s != NULL)
			seance_socket_close(s, WEBSOCKET_INTERNAL_ERROR, NULL, 0);
	}
}

static void
deliver_to(struct seance_socket *s, const struct link_target *target, struct seance_frame *frame)
{
	if (s->kind == (frame->bytes ? LINK_STREAM : LINK_WEBSOCKET)) {
		seance_socket_deliver(s, target->after, target->cursor, frame);
		return;
	}
	log_impossible("not for this kind of socket");
	seance_socket_close(s, WEBSOCKET_INTERNAL_ERROR, NULL, 0);
}

/* Serves targets of a delivery while `budget` lasts.  NGX_AGAIN: not all. */
static ngx_int_t
deliver(struct seance_link *link, const struct link_message *m, ngx_uint_t *budget)
{
	if (link->frame == NULL) {
		link->frame = deliver_frame(m);
		link->target = 0;
		if (link->frame == NULL) {
			close_targets(m);
			return NGX_OK;
		}
	}
	for (; link->target < m->target_count; link->target++) {
		struct link_target target;
		struct seance_socket *s;

		if (*budget == 0)
			return NGX_AGAIN;
		(*budget)--;
		target = link_target_at(m, link->target);
		s = seance_table_find(target.handle);
		seance_count(link, UNITS, 1);
		if (s != NULL)
			deliver_to(s, &target, link->frame);
	}
	seance_frame_unref(link->frame);
	link->frame = NULL;
	return NGX_OK;
}

/* Why a CLOSE cannot be sent as it is asked for, or NULL. */
static const char *
close_fault(const struct link_message *m)
{
	if (m->code != WEBSOCKET_NO_CODE && m->code != WEBSOCKET_ABNORMAL && !websocket_code_valid(m->code))
		return "CLOSE with a code that is not allowed";
	if (!websocket_utf8_valid(m->reason, m->reason_len))
		return "CLOSE with a reason that is not UTF-8";
	return NULL;
}

static void
close_socket(const struct link_message *m)
{
	struct seance_socket *s = seance_table_find(m->handle);
	const char *why = close_fault(m);

	if (s == NULL)
		return;
	if (why == NULL) {
		seance_socket_close(s, m->code, m->reason, m->reason_len);
		return;
	}
	log_impossible(why);
	seance_socket_close(s, WEBSOCKET_INTERNAL_ERROR, NULL, 0);
}

static void
wake(const struct link_message *m)
{
	struct seance_socket *s = seance_table_find(m->handle);

	if (s != NULL && s->kind == LINK_WAIT)
		seance_wait_wake(s);
}

static ngx_int_t
hear(struct seance_link *link, const struct link_message *m, ngx_uint_t *budget)
{
	ngx_int_t rc = NGX_OK;

	switch (m->type) {
	case LINK_DELIVER:
		rc = deliver(link, m, budget);
		break;
	case LINK_CLOSE:
		close_socket(m);
		if (*budget > 0)
			(*budget)--;
		break;
	case LINK_WAKE:
		wake(m);
		if (*budget > 0)
			(*budget)--;
		break;
	default:
		ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "seance: link %V: message of type %d not expected",
		              &link->name, (int)m->type);
		return NGX_ERROR;
	}
	if (rc == NGX_OK) {
		link->ack = m->batch;
		link->acked = 0;
	}
	return rc;
}

/* Works off what has come.  Returns NGX_AGAIN when there is more to do in the next turn. */
static ngx_int_t
hear_all(struct seance_link *link)
{
	ngx_uint_t budget = SLICE;
	ngx_int_t rc = NGX_OK;

	while (rc == NGX_OK) {
		struct link_message m;
		long n = link_decode(link->in.data + link->in_at, link->in.len - link->in_at, &m);

		if (n == 0)
			break;
		if (n < 0) {
			ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "seance: link %V: malformed message",
			              &link->name);
			rc = NGX_ERROR;
			break;
		}
		if (budget == 0)
			return NGX_AGAIN;
		rc = hear(link, &m, &budget);
		if (rc == NGX_OK)
			link->in_at += n;
	}
	if (rc == NGX_OK) {
		seance_bytes_skip(&link->in, link->in_at);
		link->in_at = 0;
	}
	return rc;
}

/* Reads once.  NGX_OK: something came; NGX_AGAIN: nothing now, or never again (link->eof). */
static ngx_int_t
read_once(struct seance_link *link)
{
	ngx_connection_t *c = link->c;
	u_char *room;
	ssize_t n;

	if (link->eof || !c->read->ready)
		return NGX_AGAIN;
	room = seance_bytes_room(&link->in, READ_SIZE, LINK_MESSAGE_MAX + READ_SIZE);
	n = room != NULL ? c->recv(c, room, link->in.size - link->in.len) : NGX_ERROR;
	if (n <= 0) {
		link->eof = n != NGX_AGAIN;
		return NGX_AGAIN;
	}
	link->in.len += n;
	return NGX_OK;
}

/* The stream's life */

static void
down(struct seance_link *link)
{
	if (link->c != NULL)
		ngx_close_connection(link->c);
	link->c = NULL;
	link->state = SEANCE_LINK_DOWN;
	if (link->work.posted) {
		ngx_delete_posted_event(&link->work);
	}
	if (link->tick.timer_set)
		ngx_del_timer(&link->tick);
	seance_frame_unref(link->frame);
	link->frame = NULL;
	seance_bytes_free(&link->in);
	seance_bytes_free(&link->out);
	link->in_at = 0;
	link->acked = 1;
	link->eof = link->broken = 0;
	keep(link, link->closed.len > 0);
}

static void
down_and_again(struct seance_link *link)
{
	if (!link->lost)
		ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0, "seance: link %V to %V is down", &link->name,
		              &link->path);
	link->lost = 1;
	down(link);
	if (ngx_exiting && seance_table_count() == 0) {
		/* nobody to tell it to, and nothing else to stay for */
		seance_bytes_free(&link->closed);
		keep(link, 0);
		return;
	}
	if (ngx_current_msec - link->since > STEADY)
		link->delay = 0;
	link->delay = seance_back_off(link->delay, DELAY_MIN, DELAY_MAX);
	link->retry.log = ngx_cycle->log;
	ngx_add_timer(&link->retry, link->delay);
}

/*
 * Reads and serves.  NGX_AGAIN: there is more to do in the next turn; NGX_DONE: all that had come
 * is served; NGX_ERROR: give the stream up.
 */
static ngx_int_t
read_and_hear(struct seance_link *link)
{
	for (ngx_uint_t reads = 0; reads < READS; reads++) {
		ngx_int_t rc = hear_all(link);

		if (rc != NGX_OK)
			return rc;
		if (read_once(link) != NGX_OK)
			return NGX_DONE;
	}
	return NGX_AGAIN;
}

/* All of the link's work in one place: reads, serves, tells, writes; or ends the stream. */
static void
work(ngx_event_t *ev)
{
	ngx_connection_t *dummy = ev->data;
	struct seance_link *link = dummy->data;
	ngx_int_t rc;

	if (link->c == NULL)
		return;
	if (link->state != SEANCE_LINK_READY && !link->broken)
		tell_slots(link);
	rc = read_and_hear(link);
	/* a broken stream is read to its end before it is given up */
	if (rc == NGX_ERROR || (rc == NGX_DONE && (link->eof || link->broken))) {
		down_and_again(link);
		return;
	}
	tell_ack(link);
	flush(link);
	if (rc == NGX_AGAIN || link->broken || link->state != SEANCE_LINK_READY)
		work_next_turn(link);
	else if (ngx_handle_read_event(link->c->read, 0) != NGX_OK)
		down_and_again(link);
}

static void
on_read(ngx_event_t *ev)
{
	ngx_connection_t *c = ev->data;
	struct seance_link *link = c->data;

	if (c->close) { /* worker_shutdown_timeout */
		link->shut = 1;
		seance_bytes_free(&link->closed);
		down(link);
		return;
	}
	work(&link->work);
}

static void
on_write(ngx_event_t *ev)
{
	ngx_connection_t *c = ev->data;
	struct seance_link *link = c->data;

	flush(link);
	if (link->broken)
		work_soon(link);
}

static void
connect_now(struct seance_link *link)
{
	struct link_message hello = {.type = LINK_HELLO,
	                             .version = LINK_VERSION,
	                             .tag = seance_worker_tag(),
	                             .deadline_ms = link->deadline};

	link->c = seance_connect(&link->address, &link->path);
	if (link->c == NULL) {
		down_and_again(link);
		return;
	}
	if (link->lost)
		ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0, "seance: link %V to %V is up again", &link->name,
		              &link->path);
	link->lost = 0;
	link->since = ngx_current_msec;
	link->c->data = link;
	link->c->read->handler = on_read;
	link->c->write->handler = on_write;
	link->state = SEANCE_LINK_HELLO;
	link->at = 0;
	seance_count(link, LINKS, 1);
	ngx_memzero(link->told, sizeof link->told);
	link->tick.log = ngx_cycle->log;
	ngx_add_timer(&link->tick, COUNTS_MS);
	link->acked = 1;
	tell(link, &hello);
}

static void
retry(ngx_event_t *ev)
{
	ngx_connection_t *dummy = ev->data;

	connect_now(dummy->data);
}

void
seance_link_start(struct seance_link *link)
{
	if (link->c == NULL && !link->retry.timer_set && !link->shut)
		connect_now(link);
}

void
seance_link_exit(struct seance_link *link)
{
	seance_bytes_free(&link->closed);
	down(link);
	if (link->retry.timer_set)
		ngx_del_timer(&link->retry);
}
