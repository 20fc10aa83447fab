/*
 * WebSocket frames: what is written can be read, also a CLOSE whose reason was too long.
 *
 * Input: four bytes for the mask, two for a close code, then a message.
 */
#include "../../nginx/module/websocket.h"
#include "fuzz.h"

/* A server's frame made a client's (masked) and read; it must be one thing of this type. */
static void
read_back(const uint8_t *frame, size_t head, size_t len, const uint8_t *mask, enum websocket_type type,
          struct websocket *ws, struct websocket_event *event, uint8_t *room)
{
	memcpy(room, frame, head);
	room[1] |= 0x80;
	memcpy(room + head, mask, 4);
	for (size_t i = 0; i < len; i++)
		room[head + 4 + i] = frame[head + i] ^ mask[i & 3];
	websocket_init(ws, len);
	must(websocket_read(ws, room, head + 4 + len, event) == head + 4 + len);
	must(event->type == type);
}

static void
check_message(const uint8_t *data, size_t size, enum websocket_opcode opcode, const uint8_t *mask)
{
	uint8_t *frame = malloc(WEBSOCKET_HEAD_MAX + size), *room = malloc(WEBSOCKET_HEAD_MAX + 4 + size);
	size_t head = websocket_head(frame, opcode, size);
	struct websocket_event event;
	struct websocket ws;

	memcpy(frame + head, data, size);
	read_back(frame, head, size, mask,
	          opcode == WEBSOCKET_PING ? WEBSOCKET_GOT_PING : WEBSOCKET_GOT_BINARY, &ws, &event, room);
	must(event.len == size && memcmp(event.data, data, size) == 0);
	websocket_release(&ws);
	free(frame);
	free(room);
}

/* Only a code that may be sent, and a text: else it could not be read. */
static void
check_close(const uint8_t *reason, size_t len, uint16_t code, const uint8_t *mask)
{
	uint8_t frame[WEBSOCKET_CLOSE_MAX], room[WEBSOCKET_CLOSE_MAX + 4];
	size_t size = websocket_close_frame(frame, code, reason, len);
	bool is_bare = code == WEBSOCKET_NO_CODE || code == WEBSOCKET_ABNORMAL;
	struct websocket_event event;
	struct websocket ws;

	must(size >= 2 && size <= sizeof(frame));
	if (!(is_bare || websocket_code_valid(code)) || !websocket_utf8_valid(reason, len))
		return;
	read_back(frame, 2, size - 2, mask, WEBSOCKET_GOT_CLOSE, &ws, &event, room);
	must(event.code == (is_bare ? WEBSOCKET_NO_CODE : code));
	if (!is_bare && len <= WEBSOCKET_REASON_MAX)
		must(event.len == len);
	else
		must(is_bare ? event.len == 0 : event.len > WEBSOCKET_REASON_MAX - 4);
	must(event.len == 0 || memcmp(event.data, reason, event.len) == 0);
	websocket_release(&ws);
}

FUZZ_TARGET(websocket_write)
{
	struct fuzz_bytes in = {data, size};
	uint8_t mask[4];

	for (int i = 0; i < 4; i++)
		mask[i] = fuzz_byte(&in);
	uint16_t code = (uint16_t)fuzz_number(&in, 2);
	uint8_t *text = fuzz_copy(in.at, in.left);
	check_message(text, in.left, WEBSOCKET_BINARY, mask);
	check_message(text, in.left < 125 ? in.left : 125, WEBSOCKET_PING, mask);
	check_close(text, in.left, code, mask);
	free(text);
	if (code % 16 == 0) { /* around 65536 */
		text = calloc(1, 65530 + in.left);
		must(text != NULL);
		check_message(text, 65530 + in.left, WEBSOCKET_BINARY, mask);
		free(text);
	}
}
