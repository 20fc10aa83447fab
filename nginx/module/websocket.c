#include "websocket.h"

#include <stdlib.h>
#include <string.h>

#define FIN      0x80u
#define RESERVED 0x70u
#define MASKED   0x80u
#define GROW_MIN 512u

/* UTF-8 */

/* The first byte of a character: how many follow, and the bounds of the next. */
static bool
utf8_begin(struct websocket_utf8 *state, uint8_t c)
{
	state->low = 0x80;
	state->high = 0xbf;
	if (c >= 0xc2 && c <= 0xdf) {
		state->need = 1;
	} else if (c >= 0xe0 && c <= 0xef) {
		state->need = 2;
		if (c == 0xe0)
			state->low = 0xa0; /* no overlong form */
		else if (c == 0xed)
			state->high = 0x9f; /* no surrogate */
	} else if (c >= 0xf0 && c <= 0xf4) {
		state->need = 3;
		if (c == 0xf0)
			state->low = 0x90;
		else if (c == 0xf4)
			state->high = 0x8f; /* nothing above U+10FFFF */
	} else {
		return false;
	}
	return true;
}

static size_t
ascii_run(const uint8_t *buf, size_t len)
{
	size_t n = 0;

	while (len - n >= 8) {
		uint64_t word;

		memcpy(&word, buf + n, 8);
		if ((word & UINT64_C(0x8080808080808080)) != 0)
			break;
		n += 8;
	}
	while (n < len && buf[n] < 0x80)
		n++;
	return n;
}

bool
websocket_utf8_feed(struct websocket_utf8 *state, const uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (state->need == 0) {
			i += ascii_run(buf + i, len - i);
			if (i == len)
				break;
			if (!utf8_begin(state, buf[i]))
				return false;
			continue;
		}
		if (buf[i] < state->low || buf[i] > state->high)
			return false;
		state->need--;
		state->low = 0x80;
		state->high = 0xbf;
	}
	return true;
}

bool
websocket_utf8_valid(const uint8_t *buf, size_t len)
{
	struct websocket_utf8 state = {0, 0, 0};

	return websocket_utf8_feed(&state, buf, len) && state.need == 0;
}

/* Writing */

size_t
websocket_head(uint8_t *out, enum websocket_opcode opcode, uint64_t len)
{
	out[0] = (uint8_t)(FIN | opcode);
	if (len < 126) {
		out[1] = (uint8_t)len;
		return 2;
	}
	if (len < 65536) {
		out[1] = 126;
		out[2] = (uint8_t)(len >> 8);
		out[3] = (uint8_t)len;
		return 4;
	}
	out[1] = 127;
	for (unsigned i = 0; i < 8; i++)
		out[2 + i] = (uint8_t)(len >> (56 - 8 * i));
	return 10;
}

size_t
websocket_close_frame(uint8_t *out, uint16_t code, const uint8_t *reason, size_t len)
{
	size_t n;

	if (code == WEBSOCKET_NO_CODE || code == WEBSOCKET_ABNORMAL)
		return websocket_head(out, WEBSOCKET_CLOSE, 0);
	if (len > WEBSOCKET_REASON_MAX) {
		len = WEBSOCKET_REASON_MAX;
		while (len > 0 && (reason[len] & 0xc0) == 0x80)
			len--;
	}
	n = websocket_head(out, WEBSOCKET_CLOSE, 2 + len);
	out[n++] = (uint8_t)(code >> 8);
	out[n++] = (uint8_t)code;
	if (len > 0)
		memcpy(out + n, reason, len);
	return n + len;
}

bool
websocket_code_valid(uint16_t code)
{
	if (code >= 3000 && code <= 4999)
		return true;
	return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

/* Reading */

void
websocket_init(struct websocket *ws, size_t max)
{
	memset(ws, 0, sizeof *ws);
	ws->max = max;
}

void
websocket_drop(struct websocket *ws)
{
	if (!ws->given)
		return;
	free(ws->message);
	ws->message = NULL;
	ws->message_len = ws->message_size = 0;
	ws->given = false;
}

void
websocket_release(struct websocket *ws)
{
	free(ws->message);
	free(ws->control);
	ws->message = ws->control = NULL;
}

bool
websocket_in_message(const struct websocket *ws)
{
	return ws->head_len > 0 || ws->in_frame || ws->message_opcode != 0;
}

static void
fail(struct websocket *ws, struct websocket_event *event, uint16_t code, const char *why)
{
	ws->failed = true;
	event->type = WEBSOCKET_FAILED;
	event->code = code;
	event->data = (const uint8_t *)why;
	event->len = strlen(why);
}

static bool
is_control(uint8_t opcode)
{
	return (opcode & 8) != 0;
}

static const char *
wrong_opcode(const struct websocket *ws, uint8_t opcode)
{
	switch (opcode) {
	case WEBSOCKET_CONTINUATION:
		return ws->message_opcode == 0 ? "continuation of nothing" : NULL;
	case WEBSOCKET_TEXT:
	case WEBSOCKET_BINARY:
		return ws->message_opcode != 0 ? "new message within another" : NULL;
	case WEBSOCKET_CLOSE:
	case WEBSOCKET_PING:
	case WEBSOCKET_PONG:
		return NULL;
	default:
		return "unknown opcode";
	}
}

/* The first two bytes, judged before the rest of the head has come. */
static const char *
wrong_start(const struct websocket *ws)
{
	uint8_t opcode = ws->head[0] & 15;

	if ((ws->head[0] & RESERVED) != 0)
		return "reserved bit set";
	if ((ws->head[1] & MASKED) == 0)
		return "frame not masked";
	if (is_control(opcode) && (ws->head[0] & FIN) == 0)
		return "control frame in fragments";
	if (is_control(opcode) && (ws->head[1] & 127) > WEBSOCKET_CONTROL_MAX)
		return "control frame too long";
	return wrong_opcode(ws, opcode);
}

static size_t
head_size(const struct websocket *ws)
{
	if (ws->head_len < 2)
		return 2;
	switch (ws->head[1] & 127) {
	case 126:
		return 8;
	case 127:
		return 14;
	default:
		return 6;
	}
}

/* Returns UINT64_MAX when the length is not written in the shortest form, or negative. */
static uint64_t
payload_length(const struct websocket *ws)
{
	uint64_t len = 0;

	switch (ws->head[1] & 127) {
	case 126:
		len = (uint64_t)ws->head[2] << 8 | ws->head[3];
		return len < 126 ? UINT64_MAX : len;
	case 127:
		for (unsigned i = 0; i < 8; i++)
			len = len << 8 | ws->head[2 + i];
		return len < 65536 || len >> 63 != 0 ? UINT64_MAX : len;
	default:
		return ws->head[1] & 127;
	}
}

static void
begin_frame(struct websocket *ws, struct websocket_event *event)
{
	uint64_t len = payload_length(ws);

	memcpy(ws->mask, ws->head + ws->head_len - 4, 4);
	ws->mask_at = 0;
	ws->head_len = 0;
	ws->opcode = ws->head[0] & 15;
	ws->fin = (ws->head[0] & FIN) != 0;
	ws->in_frame = true;
	ws->frame_left = len;
	if (len == UINT64_MAX) {
		fail(ws, event, WEBSOCKET_PROTOCOL_ERROR, "length not in its shortest form");
	} else if (!is_control(ws->opcode)) {
		if (len > ws->max - ws->message_len)
			fail(ws, event, WEBSOCKET_TOO_BIG, "message too big");
		if (ws->opcode != WEBSOCKET_CONTINUATION) {
			ws->message_opcode = ws->opcode;
			ws->utf8 = (struct websocket_utf8){0, 0, 0};
		}
	}
}

/* Takes bytes of a head; begins the frame when it is whole. */
static size_t
read_head(struct websocket *ws, const uint8_t *buf, size_t len, struct websocket_event *event)
{
	size_t used = 0;

	while (used < len) {
		const char *why;

		ws->head[ws->head_len++] = buf[used++];
		if (ws->head_len == 2 && (why = wrong_start(ws)) != NULL) {
			fail(ws, event, WEBSOCKET_PROTOCOL_ERROR, why);
			break;
		}
		if (ws->head_len >= 2 && ws->head_len == head_size(ws)) {
			begin_frame(ws, event);
			break;
		}
	}
	return used;
}

static void
unmask(struct websocket *ws, uint8_t *buf, size_t len)
{
	uint8_t key[8];
	uint64_t word, mask;
	size_t i = 0;

	for (unsigned k = 0; k < 8; k++)
		key[k] = ws->mask[(ws->mask_at + k) & 3];
	memcpy(&mask, key, 8);
	for (; len - i >= 8; i += 8) {
		memcpy(&word, buf + i, 8);
		word ^= mask;
		memcpy(buf + i, &word, 8);
	}
	for (; i < len; i++)
		buf[i] ^= key[i & 7];
	ws->mask_at = (uint8_t)((ws->mask_at + len) & 3);
}

/* Puts payload behind what the message has so far; memory at most doubles. */
static bool
append(struct websocket *ws, const uint8_t *buf, size_t len)
{
	size_t need = ws->message_len + len, size = ws->message_size;
	uint8_t *grown;

	if (need > size) {
		size = size * 2 > need ? size * 2 : need;
		if (size < GROW_MIN)
			size = GROW_MIN;
		if (size > ws->max)
			size = ws->max;
		grown = realloc(ws->message, size);
		if (grown == NULL)
			return false;
		ws->message = grown;
		ws->message_size = size;
	}
	if (len > 0)
		memcpy(ws->message + ws->message_len, buf, len);
	ws->message_len = need;
	return true;
}

static void
give_message(struct websocket *ws, struct websocket_event *event, const uint8_t *data, size_t len)
{
	if (ws->message_opcode == WEBSOCKET_TEXT && ws->utf8.need > 0) {
		fail(ws, event, WEBSOCKET_NOT_UTF8, "text is not UTF-8");
		return;
	}
	event->type = ws->message_opcode == WEBSOCKET_TEXT ? WEBSOCKET_GOT_TEXT : WEBSOCKET_GOT_BINARY;
	event->data = data;
	event->len = len;
	ws->message_opcode = 0;
	ws->given = true;
}

static void
read_data(struct websocket *ws, const uint8_t *buf, size_t len, struct websocket_event *event)
{
	bool ends = ws->frame_left == 0;

	if (ws->message_opcode == WEBSOCKET_TEXT && !websocket_utf8_feed(&ws->utf8, buf, len)) {
		fail(ws, event, WEBSOCKET_NOT_UTF8, "text is not UTF-8");
	} else if (ends && ws->fin && ws->message_len == 0) {
		give_message(ws, event, buf, len); /* all of it lies in the caller's buffer */
	} else if (!append(ws, buf, len)) {
		fail(ws, event, WEBSOCKET_INTERNAL_ERROR, "out of memory");
	} else if (ends && ws->fin) {
		give_message(ws, event, ws->message, ws->message_len);
	}
	if (ends)
		ws->in_frame = false;
}

static void
give_close(struct websocket *ws, struct websocket_event *event, const uint8_t *data, size_t len)
{
	uint16_t code = WEBSOCKET_NO_CODE;

	if (len == 1) {
		fail(ws, event, WEBSOCKET_PROTOCOL_ERROR, "close code cut off");
		return;
	}
	if (len >= 2) {
		code = (uint16_t)(data[0] << 8 | data[1]);
		if (!websocket_code_valid(code)) {
			fail(ws, event, WEBSOCKET_PROTOCOL_ERROR, "close code not allowed");
			return;
		}
		if (!websocket_utf8_valid(data + 2, len - 2)) {
			fail(ws, event, WEBSOCKET_NOT_UTF8, "close reason is not UTF-8");
			return;
		}
	}
	event->type = WEBSOCKET_GOT_CLOSE;
	event->code = code;
	event->data = len > 2 ? data + 2 : NULL;
	event->len = len > 2 ? len - 2 : 0;
}

static void
read_control(struct websocket *ws, const uint8_t *buf, size_t len, struct websocket_event *event)
{
	bool ends = ws->frame_left == 0;

	if (!ends || ws->control_len > 0) {
		if (ws->control == NULL && (ws->control = calloc(1, WEBSOCKET_CONTROL_MAX)) == NULL) {
			fail(ws, event, WEBSOCKET_INTERNAL_ERROR, "out of memory");
			return;
		}
		memcpy(ws->control + ws->control_len, buf, len);
		ws->control_len = (uint8_t)(ws->control_len + len);
		buf = ws->control;
		len = ws->control_len;
	}
	if (!ends)
		return;
	ws->in_frame = false;
	ws->control_len = 0;
	if (ws->opcode == WEBSOCKET_CLOSE) {
		give_close(ws, event, buf, len);
		return;
	}
	event->type = ws->opcode == WEBSOCKET_PING ? WEBSOCKET_GOT_PING : WEBSOCKET_GOT_PONG;
	event->data = buf;
	event->len = len;
}

static size_t
read_payload(struct websocket *ws, uint8_t *buf, size_t len, struct websocket_event *event)
{
	if (len > ws->frame_left)
		len = (size_t)ws->frame_left;
	unmask(ws, buf, len);
	ws->frame_left -= len;
	if (is_control(ws->opcode))
		read_control(ws, buf, len, event);
	else
		read_data(ws, buf, len, event);
	return len;
}

size_t
websocket_read(struct websocket *ws, uint8_t *buf, size_t len, struct websocket_event *event)
{
	size_t used = 0;

	*event = (struct websocket_event){WEBSOCKET_NOTHING, 0, NULL, 0};
	websocket_drop(ws);
	if (ws->control != NULL && ws->control_len == 0) {
		free(ws->control);
		ws->control = NULL;
	}
	while (!ws->failed && event->type == WEBSOCKET_NOTHING) {
		if (!ws->in_frame) {
			if (used == len)
				break;
			used += read_head(ws, buf + used, len - used, event);
		} else {
			if (used == len && ws->frame_left > 0)
				break;
			used += read_payload(ws, buf + used, len - used, event);
		}
	}
	return used;
}
