#include "order.h"
#include "answer.h"
#include "link.h"
#include "socket.h"

/* A unit of the link that waits for what precedes it. */
struct seance_unit {
	struct seance_unit *next;
	uint64_t after, cursor;
	struct seance_frame *frame; /* owned: a reference */
};

static void
drop_held(struct seance_socket *s)
{
	while (s->held != NULL) {
		struct seance_unit *unit = s->held;

		s->held = unit->next;
		seance_frame_unref(unit->frame);
		free(unit);
	}
	s->held_count = 0;
}

void
seance_order_clear(struct seance_socket *s)
{
	drop_held(s);
	seance_answer_free(s->answer);
	s->answer = NULL;
}

/* Looks at what waits outwards after something was written. */
static void
check_buffer(struct seance_socket *s, size_t before)
{
	if (s->out.bytes <= s->conf->buffer)
		return;
	if (before > 0 && s->out.bytes > s->conf->buffer_limit) {
		seance_socket_close(s, WEBSOCKET_TRY_AGAIN, (const u_char *)"too slow", 8);
		return;
	}
	if (s->behind)
		return;
	s->behind = 1;
	drop_held(s);
	seance_link_behind(s->conf->link, s);
}

/* Afterwards the socket may not be open any more: then its answer and what it held back are gone. */
static void
write_bytes(struct seance_socket *s, struct seance_frame *frame, size_t from, size_t to,
            uint32_t messages)
{
	size_t before = s->out.bytes;

	s->messages_out += messages;
	s->bytes_out += to - from;
	seance_count(s->conf->link, MESSAGES_OUT, messages);
	seance_count(s->conf->link, BYTES_OUT, to - from);
	switch (seance_out_write(&s->out, s->r == NULL ? s->c : NULL, frame, from, to)) {
	case NGX_OK:
		if (s->kind == LINK_STREAM)
			seance_socket_look_soon(s);
		check_buffer(s, before);
		break;
	case NGX_ABORT:
		seance_socket_close(s, WEBSOCKET_INTERNAL_ERROR, NULL, 0);
		break;
	default:
		seance_socket_lost(s);
	}
}

/*
 * What is held back is dropped, and the program fills again.  Until something is written, what
 * cannot be written is dropped without asking again: it is part of that fill.
 */
static void
overflow(struct seance_socket *s)
{
	drop_held(s);
	s->refilling = 1;
	seance_link_behind(s->conf->link, s);
	seance_link_drained(s->conf->link, s);
}

/*
 * A unit whose time has come, and which is not past.  One that stands for several would repeat what the
 * socket has got of them by another way: the program is to fill again from where it is now.
 */
static void
write_unit(struct seance_socket *s, uint64_t after, uint64_t cursor, struct seance_frame *frame)
{
	if (frame->catch_up && after != s->position) {
		overflow(s);
		return;
	}
	s->position = cursor;
	s->refilling = 0;
	write_bytes(s, frame, 0, frame->len, frame->messages);
	if (s->state == SEANCE_OPEN && frame->close_code != 0)
		seance_socket_close_written(s, frame->close_code);
}

static void
hold_back(struct seance_socket *s, uint64_t after, uint64_t cursor, struct seance_frame *frame)
{
	struct seance_unit *unit, **place = &s->held;

	if (s->refilling)
		return;
	unit = s->held_count < s->conf->held_back ? malloc(sizeof *unit) : NULL;
	if (unit == NULL) {
		overflow(s);
		return;
	}
	while (*place != NULL && (*place)->after <= after)
		place = &(*place)->next;
	unit->next = *place;
	unit->after = after;
	unit->cursor = cursor;
	unit->frame = frame;
	frame->refs++;
	*place = unit;
	s->held_count++;
}

/* Takes the first unit that is held back, if its time has come.  Returns whether it was taken. */
static ngx_uint_t
settle_held(struct seance_socket *s)
{
	struct seance_unit *unit = s->held;

	if (unit == NULL || unit->after > s->position)
		return 0;
	s->held = unit->next;
	s->held_count--;
	if (unit->cursor > s->position)
		write_unit(s, unit->after, unit->cursor, unit->frame);
	seance_frame_unref(unit->frame);
	free(unit);
	return 1;
}

/* All of it is written: the request has ended. */
static void
end_answer(struct seance_socket *s)
{
	uint16_t close_code = s->answer->frame->close_code;

	s->answered = s->answer->number;
	seance_answer_free(s->answer);
	s->answer = NULL;
	if (close_code != 0)
		seance_socket_close_written(s, close_code);
	else
		seance_socket_next(s);
}

/*
 * Writes units of the answer as far as they follow each other, in one piece, and behind the
 * last of them what has no order.  Returns whether it came further.
 */
static ngx_uint_t
settle_answer(struct seance_socket *s)
{
	struct seance_answer *a = s->answer;
	size_t from, to;
	uint32_t messages = 0, at;

	if (a == NULL)
		return 0;
	from = to = a->written;
	at = a->at;
	while (a->at < a->count) {
		const struct seance_answer_unit *unit = &a->units[a->at];

		if (unit->cursor <= s->position) { /* it came by the link */
			if (to > from)
				break;
			from = to = unit->end;
		} else if (unit->after <= s->position) {
			s->position = unit->cursor;
			s->refilling = 0;
			to = unit->end;
			messages += unit->messages;
		} else {
			break;
		}
		a->at++;
	}
	if (a->at == a->count) {
		to = a->frame->len;
		messages += a->frame->messages - a->messages;
	}
	a->written = to;
	if (a->at == at && a->at < a->count)
		return 0;
	if (to > from)
		write_bytes(s, a->frame, from, to, messages);
	if (s->state == SEANCE_OPEN && a->at == a->count)
		end_answer(s);
	return 1;
}

void
seance_order_settle(struct seance_socket *s)
{
	while (s->state == SEANCE_OPEN && (settle_held(s) || settle_answer(s)))
		continue;
}

void
seance_order_drained(struct seance_socket *s)
{
	if (!s->behind || s->out.bytes > s->conf->buffer / 2)
		return;
	s->behind = 0;
	seance_link_drained(s->conf->link, s);
}

void
seance_socket_deliver(struct seance_socket *s, uint64_t after, uint64_t cursor,
                      struct seance_frame *frame)
{
	if (s->state != SEANCE_OPEN || s->behind || cursor <= s->position) {
		seance_count(s->conf->link, UNITS_DROPPED, 1);
		return;
	}
	if (after > s->position) {
		hold_back(s, after, cursor, frame);
		return;
	}
	write_unit(s, after, cursor, frame);
	seance_order_settle(s);
}
