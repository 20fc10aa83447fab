#include "out.h"
#include "websocket.h"

#include <ngx_event.h>

#define KEEP_SIZE 65536 /* bytes of memory that an empty array may keep */

struct seance_out_item {
	struct seance_out_item *next;
	struct seance_frame *frame;
	size_t at, end;
};

struct seance_frame *
seance_frame_new(size_t size)
{
	struct seance_frame *frame = malloc(sizeof *frame + size);

	if (frame == NULL)
		return NULL;
	frame->refs = 1;
	frame->len = size;
	frame->messages = 0;
	frame->close_code = 0;
	frame->catch_up = 0;
	frame->bytes = 0;
	return frame;
}

void
seance_frame_unref(struct seance_frame *frame)
{
	if (frame != NULL && --frame->refs == 0)
		free(frame);
}

struct seance_frame *
seance_frame_message(ngx_uint_t opcode, const u_char *data, size_t len)
{
	struct seance_frame *frame = seance_frame_new(WEBSOCKET_HEAD_MAX + len);
	size_t head;

	if (frame == NULL)
		return NULL;
	head = websocket_head(frame->data, opcode, len);
	ngx_memcpy(frame->data + head, data, len);
	frame->len = head + len;
	frame->messages = opcode < WEBSOCKET_CLOSE;
	return frame;
}

struct seance_frame *
seance_frame_bytes(const u_char *data, size_t len)
{
	struct seance_frame *frame = seance_frame_new(len);

	if (frame == NULL)
		return NULL;
	ngx_memcpy(frame->data, data, len);
	frame->messages = 1;
	frame->bytes = 1;
	return frame;
}

static ngx_int_t
queue(struct seance_out *out, struct seance_frame *frame, size_t from, size_t to)
{
	struct seance_out_item *item = malloc(sizeof *item);

	if (item == NULL)
		return NGX_ABORT;
	item->next = NULL;
	item->frame = frame;
	item->at = from;
	item->end = to;
	frame->refs++;
	if (out->first != NULL)
		out->last->next = item;
	else
		out->first = item;
	out->last = item;
	out->bytes += to - from;
	return NGX_OK;
}

struct seance_frame *
seance_out_take(struct seance_out *out, size_t *from, size_t *to)
{
	struct seance_out_item *item = out->first;
	struct seance_frame *frame = item->frame; /* its reference is the caller's now */

	*from = item->at;
	*to = item->end;
	out->first = item->next;
	out->bytes -= item->end - item->at;
	free(item);
	return frame;
}

static void
drop_first(struct seance_out *out)
{
	size_t from, to;

	seance_frame_unref(seance_out_take(out, &from, &to));
}

ngx_int_t
seance_out_write(struct seance_out *out, ngx_connection_t *c, struct seance_frame *frame, size_t from,
                 size_t to)
{
	ngx_int_t rc;
	ssize_t n;

	if (from == to)
		return NGX_OK;
	if (c != NULL && out->first == NULL && c->write->ready) {
		n = c->send(c, frame->data + from, to - from);
		if (n > 0)
			from += n;
		else if (n != NGX_AGAIN)
			return NGX_ERROR;
		if (from == to)
			return NGX_OK;
	}
	rc = queue(out, frame, from, to);
	if (rc == NGX_OK && c != NULL)
		rc = ngx_handle_write_event(c->write, 0);
	return rc;
}

ngx_int_t
seance_out_flush(struct seance_out *out, ngx_connection_t *c)
{
	while (out->first != NULL && c->write->ready) {
		struct seance_out_item *item = out->first;
		ssize_t n = c->send(c, item->frame->data + item->at, item->end - item->at);

		if (n == NGX_AGAIN)
			break;
		if (n <= 0)
			return NGX_ERROR;
		item->at += n;
		out->bytes -= n;
		if (item->at == item->end)
			drop_first(out);
	}
	return out->first == NULL ? NGX_OK : ngx_handle_write_event(c->write, 0);
}

void
seance_out_cut(struct seance_out *out)
{
	struct seance_out_item *first = out->first;

	if (first == NULL)
		return;
	while (first->next != NULL) {
		struct seance_out_item *item = first->next;

		first->next = item->next;
		out->bytes -= item->end - item->at;
		seance_frame_unref(item->frame);
		free(item);
	}
	out->last = first;
}

void
seance_out_clear(struct seance_out *out)
{
	while (out->first != NULL)
		drop_first(out);
}

u_char *
seance_bytes_room(struct seance_bytes *bytes, size_t more, size_t max)
{
	size_t need = bytes->len + more, size;
	u_char *grown;

	if (need > max)
		return NULL;
	if (need > bytes->size) {
		size = ngx_min(ngx_max(bytes->size * 2, ngx_max(need, 1024)), max);
		grown = realloc(bytes->data, size);
		if (grown == NULL)
			return NULL;
		bytes->data = grown;
		bytes->size = size;
	}
	return bytes->data + bytes->len;
}

void
seance_bytes_skip(struct seance_bytes *bytes, size_t n)
{
	bytes->len -= n;
	if (bytes->len > 0)
		ngx_memmove(bytes->data, bytes->data + n, bytes->len);
	else if (bytes->size > KEEP_SIZE)
		seance_bytes_free(bytes);
}

void
seance_bytes_free(struct seance_bytes *bytes)
{
	free(bytes->data);
	ngx_memzero(bytes, sizeof *bytes);
}

ngx_int_t
seance_quiet_write(ngx_connection_t *c)
{
	if (!c->write->active)
		return NGX_OK;
	/* NGX_CLEAR_EVENT: with flags 0 reading would become level-triggered */
	return ngx_del_event(c->write, NGX_WRITE_EVENT, NGX_CLEAR_EVENT);
}
