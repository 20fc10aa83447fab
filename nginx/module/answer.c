#include "answer.h"
#include "fcgi_record.h"
#include "websocket.h"
#include "websocket_events.h"

/* Events being turned into frames. */
struct encoder {
	const u_char *at, *end;
	struct seance_frame *frame; /* NULL: only measure */
	size_t len;                 /* bytes of frames so far */
	uint32_t messages;
	uint16_t close_code;
};

static void
put_frame(struct encoder *e, enum websocket_opcode opcode, const struct events_event *event)
{
	u_char head[WEBSOCKET_HEAD_MAX];
	size_t n = websocket_head(head, opcode, event->len);

	if (e->frame != NULL) {
		ngx_memcpy(e->frame->data + e->len, head, n);
		if (event->len > 0)
			ngx_memcpy(e->frame->data + e->len + n, event->data, event->len);
	}
	e->len += n + event->len;
	if (opcode == WEBSOCKET_TEXT || opcode == WEBSOCKET_BINARY)
		e->messages++;
}

static const char *
put_close(struct encoder *e, const struct events_event *event)
{
	e->close_code = WEBSOCKET_NO_CODE;
	if (event->len > WEBSOCKET_CONTROL_MAX || event->len == 1)
		return "CLOSE of a wrong length";
	if (event->len >= 2) {
		e->close_code = event->data[0] << 8 | event->data[1];
		if (!websocket_code_valid(e->close_code))
			return "CLOSE with a code that is not allowed";
		if (!websocket_utf8_valid(event->data + 2, event->len - 2))
			return "CLOSE with a reason that is not UTF-8";
	}
	put_frame(e, WEBSOCKET_CLOSE, event);
	return NULL;
}

static const char *
put_control(struct encoder *e, enum websocket_opcode opcode, const struct events_event *event)
{
	if (event->len > WEBSOCKET_CONTROL_MAX)
		return "PING or PONG too long";
	put_frame(e, opcode, event);
	return NULL;
}

/* Text is checked once, when it is measured: a client that gets bytes that are no text must close. */
static const char *
put_text(struct encoder *e, const struct events_event *event)
{
	if (e->frame == NULL && !websocket_utf8_valid(event->data, event->len))
		return "TEXT that is not UTF-8";
	put_frame(e, WEBSOCKET_TEXT, event);
	return NULL;
}

/* Takes one event.  Returns why not, or NULL. */
static const char *
put_event(struct encoder *e)
{
	struct events_event event;
	long n = events_decode(e->at, e->end - e->at, &event);

	if (n <= 0)
		return "malformed events";
	e->at += n;
	switch (event.type) {
	case EVENTS_TEXT:
		return put_text(e, &event);
	case EVENTS_BINARY:
		put_frame(e, WEBSOCKET_BINARY, &event);
		break;
	case EVENTS_PING:
		return put_control(e, WEBSOCKET_PING, &event);
	case EVENTS_PONG:
		return put_control(e, WEBSOCKET_PONG, &event);
	case EVENTS_CLOSE:
		return put_close(e, &event);
	case EVENTS_DISCONNECT:
		e->close_code = WEBSOCKET_ABNORMAL;
		break;
	case EVENTS_OPEN:
		break;
	}
	return NULL;
}

static const char *
put_all(struct encoder *e)
{
	const char *why = NULL;

	while (why == NULL && e->at < e->end && e->close_code == 0)
		why = put_event(e);
	return why;
}

/* Measures all events and begins a frame that holds them. */
static struct seance_frame *
begin_frame(struct encoder *e, const u_char *body, size_t len, const char **why)
{
	ngx_memzero(e, sizeof *e);
	e->at = body;
	e->end = body + len;
	*why = put_all(e);
	if (*why != NULL)
		return NULL;
	e->frame = seance_frame_new(e->len);
	if (e->frame == NULL) {
		*why = "out of memory";
		return NULL;
	}
	e->frame->messages = e->messages;
	e->frame->close_code = e->close_code;
	e->at = body;
	e->len = 0;
	e->messages = 0;
	e->close_code = 0;
	return e->frame;
}

struct seance_frame *
seance_events_frame(const u_char *body, size_t len, const char **why)
{
	struct encoder e;
	struct seance_frame *frame = begin_frame(&e, body, len, why);

	if (frame != NULL)
		put_all(&e);
	return frame;
}

static const char *
check_status(const u_char *head, size_t len)
{
	const u_char *value;
	size_t n;

	if (!fcgi_cgi_find(head, len, "Status", &value, &n))
		return NULL;
	if (n < 3 || ngx_memcmp(value, "200", 3) != 0 || (n > 3 && value[3] != ' '))
		return "its status is not 200";
	return NULL;
}

/* The entries of Seance-Order; units may be NULL to count them only.  Returns -1 when malformed. */
static ngx_int_t
read_order(const u_char *value, size_t len, struct seance_answer_unit *units)
{
	ngx_int_t count = 0;

	for (;;) {
		struct events_order order;
		long n = events_order_decode(value, len, &order);

		if (n <= 0)
			return n < 0 ? -1 : count;
		if (units != NULL)
			units[count] = (struct seance_answer_unit){order.after, order.cursor, 0, order.count};
		count++;
		value += n;
		len -= n;
	}
}

/* Encodes the events of each unit, and then the rest. */
static const char *
encode(struct seance_answer *answer, struct encoder *e)
{
	const char *why = NULL;

	for (uint32_t i = 0; i < answer->count; i++) {
		struct seance_answer_unit *unit = &answer->units[i];
		uint32_t left = unit->messages, before = e->messages;

		while (left > 0 && why == NULL && e->close_code == 0) {
			why = e->at < e->end ? put_event(e) : "Seance-Order counts more events than there are";
			left--;
		}
		if (why != NULL)
			return why;
		unit->end = e->len;
		unit->messages = e->messages - before;
	}
	answer->messages = e->messages;
	return put_all(e);
}

struct seance_answer *
seance_answer_new(const u_char *data, size_t len, const char **why)
{
	size_t head = fcgi_cgi_head(data, len), order_len = 0;
	const u_char *order = data;
	struct seance_answer *answer;
	struct encoder e;
	ngx_int_t count;

	*why = head == 0 ? "it has no head" : check_status(data, head);
	if (*why != NULL)
		return NULL;
	fcgi_cgi_find(data, head, "Seance-Order", &order, &order_len);
	count = read_order(order, order_len, NULL);
	if (count < 0) {
		*why = "malformed Seance-Order";
		return NULL;
	}
	answer = calloc(1, sizeof *answer + count * sizeof answer->units[0]);
	if (answer == NULL) {
		*why = "out of memory";
		return NULL;
	}
	answer->count = count;
	read_order(order, order_len, answer->units);
	answer->frame = begin_frame(&e, data + head, len - head, why);
	if (answer->frame != NULL)
		*why = encode(answer, &e);
	if (*why != NULL) {
		seance_answer_free(answer);
		return NULL;
	}
	return answer;
}

void
seance_answer_free(struct seance_answer *answer)
{
	if (answer == NULL)
		return;
	seance_frame_unref(answer->frame);
	free(answer);
}
