/*
 * The WebSocket parser: bytes in pieces mean what they mean in one.
 *
 * Input: a byte for the message limit, four for the cuts, then the stream.
 */
#include "../../channel/json.h"
#include "../../nginx/module/websocket.h"
#include "buffer.h"
#include "fuzz.h"

enum { GROW_MIN = 512 };

/* Reads all of a piece; what came of it is written to log.  Returns false when nothing more may be read. */
static bool
read_piece(struct websocket *ws, uint8_t *piece, size_t len, struct buffer *log)
{
	struct websocket_event event;
	size_t at = 0;

	do {
		size_t used = websocket_read(ws, piece + at, len - at, &event);

		must(used <= len - at);
		at += used;
		if (event.type == WEBSOCKET_NOTHING)
			break;
		must(event.len <= ws->max || event.len <= WEBSOCKET_CONTROL_MAX);
		must(event.type != WEBSOCKET_GOT_TEXT || json_is_utf8((const char *)event.data, event.len));
		size_t head[3] = {event.type, event.code, event.len};
		buffer_add(log, head, sizeof(head));
		buffer_add(log, event.data, event.len);
	} while (event.type != WEBSOCKET_FAILED && event.type != WEBSOCKET_GOT_CLOSE);
	must(event.type != WEBSOCKET_NOTHING || at == len);
	return event.type == WEBSOCKET_NOTHING;
}

/* The whole stream; cuts: where it is cut, NULL for not at all. */
static struct buffer
read_stream(const uint8_t *data, size_t size, size_t max, uint32_t *cuts)
{
	struct buffer log = {0};
	struct websocket ws;
	bool more = true;
	websocket_init(&ws, max);
	for (size_t at = 0; at < size && more;) {
		size_t len = cuts != NULL ? fuzz_piece(cuts, size - at) : size;
		uint8_t *piece = fuzz_copy(data + at, len);

		at += len;
		more = read_piece(&ws, piece, len, &log);
		must(ws.message_size <= 2 * at + GROW_MIN);
		free(piece);
	}
	if (more)
		buffer_add_char(&log, websocket_in_message(&ws) ? '+' : '.');
	websocket_release(&ws);
	return log;
}

FUZZ_TARGET(websocket)
{
	struct fuzz_bytes in = {data, size};
	size_t max = (size_t)fuzz_byte(&in) * 16;
	uint32_t cuts = (uint32_t)fuzz_number(&in, 4);

	must(websocket_utf8_valid(in.at, in.left) == json_is_utf8((const char *)in.at, in.left));
	struct buffer whole = read_stream(in.at, in.left, max, NULL);
	struct buffer pieces = read_stream(in.at, in.left, max, &cuts);
	must(whole.len == pieces.len);
	must(whole.len == 0 || memcmp(whole.at, pieces.at, whole.len) == 0);
	buffer_release(&whole);
	buffer_release(&pieces);
}
