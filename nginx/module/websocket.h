/*
 * websocket - frames and messages of RFC 6455, the server's side
 *
 * Plain C, no nginx header.  The parser takes bytes as they come, in pieces of any size, and
 * gives one thing at a time: a whole message, a control frame, or the reason to fail.  What
 * lies whole in the caller's buffer is unmasked there and not copied; only what is cut off by
 * the buffer's end, or fragmented, gets memory (malloc), which grows as bytes arrive and not
 * as a header announces.
 */
#ifndef SEANCE_WEBSOCKET_H
#define SEANCE_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEBSOCKET_HEAD_MAX    10u  /* bytes of the longest head that the server writes */
#define WEBSOCKET_CONTROL_MAX 125u /* bytes of a control frame's payload (RFC 6455, 5.5) */
#define WEBSOCKET_REASON_MAX  123u
#define WEBSOCKET_CLOSE_MAX   (2u + WEBSOCKET_CONTROL_MAX) /* bytes of the longest CLOSE frame */

enum websocket_opcode {
	WEBSOCKET_CONTINUATION = 0,
	WEBSOCKET_TEXT = 1,
	WEBSOCKET_BINARY = 2,
	WEBSOCKET_CLOSE = 8,
	WEBSOCKET_PING = 9,
	WEBSOCKET_PONG = 10
};

/* Close codes (RFC 6455, 7.4.1, and the IANA registry). */
enum websocket_code {
	WEBSOCKET_NORMAL = 1000,
	WEBSOCKET_GOING_AWAY = 1001,
	WEBSOCKET_PROTOCOL_ERROR = 1002,
	WEBSOCKET_NO_CODE = 1005,
	WEBSOCKET_ABNORMAL = 1006,
	WEBSOCKET_NOT_UTF8 = 1007,
	WEBSOCKET_TOO_BIG = 1009,
	WEBSOCKET_INTERNAL_ERROR = 1011,
	WEBSOCKET_TRY_AGAIN = 1013
};

enum websocket_type {
	WEBSOCKET_NOTHING, /* all bytes are used, more are needed */
	WEBSOCKET_GOT_TEXT,
	WEBSOCKET_GOT_BINARY,
	WEBSOCKET_GOT_PING,
	WEBSOCKET_GOT_PONG,
	WEBSOCKET_GOT_CLOSE, /* code (1005 when the frame has none); data is the reason */
	WEBSOCKET_FAILED     /* code to close with; data is why, a constant text */
};

struct websocket_event {
	enum websocket_type type;
	uint16_t code;
	const uint8_t *data; /* borrowed: until the next call with this parser */
	size_t len;
};

/* Where a UTF-8 validation stands between two pieces; all zero at the beginning. */
struct websocket_utf8 {
	uint8_t need;      /* bytes that the present character still lacks */
	uint8_t low, high; /* bounds of the next of them */
};

/* The parser's fields are its own. */
struct websocket {
	uint64_t frame_left; /* payload of the present frame still to come */
	size_t max;          /* bytes of a message, over all fragments */
	uint8_t *message;    /* owned: the message so far, when it could not stay in place */
	size_t message_len, message_size;
	uint8_t *control; /* owned: a control frame's payload so far, likewise */
	uint8_t control_len;
	uint8_t head[14];
	uint8_t head_len;
	uint8_t mask[4];
	uint8_t mask_at;
	uint8_t opcode;         /* of the present frame */
	uint8_t message_opcode; /* of the message in fragments; 0 when none */
	bool fin, in_frame, given, failed;
	struct websocket_utf8 utf8;
};

/* websocket_init - a parser at a connection's beginning; max: bytes of a message */
void websocket_init(struct websocket *ws, size_t max);

/* websocket_release - frees what the parser owns; it may be used again only after websocket_init */
void websocket_release(struct websocket *ws);

/*
 * websocket_drop - frees the memory of the message that was given last
 *
 * The next websocket_read does it as well; this is for a caller that will not read for long.
 */
void websocket_drop(struct websocket *ws);

/*
 * websocket_read - takes bytes up to the end of one thing
 *
 * Fails at once when that is known: a message that gets too big by its frame's head, a text that
 * is not UTF-8 by its first wrong byte.  After WEBSOCKET_FAILED and WEBSOCKET_GOT_CLOSE nothing
 * more may be read.
 *
 * buf       Borrowed; payload is unmasked in place.
 * event     out: what there is; WEBSOCKET_NOTHING when all of buf was used without an end.
 * Returns   bytes used, at most len.
 * Errors    as event: 1002 against the protocol, 1007 not UTF-8, 1009 too big, 1011 no memory.
 * Cost      O(bytes used).
 * Source    RFC 6455, 5.2 to 5.6, 7.4, 8.1.
 */
size_t websocket_read(struct websocket *ws, uint8_t *buf, size_t len, struct websocket_event *event);

/* websocket_in_message - whether a message or a frame has begun that has not ended */
bool websocket_in_message(const struct websocket *ws);

/*
 * websocket_head - writes the head of a whole, unmasked frame
 *
 * out       Room for WEBSOCKET_HEAD_MAX bytes.
 * Returns   bytes written: 2, 4 or 10.
 */
size_t websocket_head(uint8_t *out, enum websocket_opcode opcode, uint64_t len);

/*
 * websocket_close_frame - writes a whole CLOSE frame
 *
 * out       Room for WEBSOCKET_CLOSE_MAX bytes.
 * code      WEBSOCKET_NO_CODE or WEBSOCKET_ABNORMAL: a frame without code and reason.
 * reason    Borrowed; cut at a character's beginning when longer than WEBSOCKET_REASON_MAX.
 * Returns   bytes written.
 */
size_t websocket_close_frame(uint8_t *out, uint16_t code, const uint8_t *reason, size_t len);

/* websocket_code_valid - whether a peer may put this code into a CLOSE frame */
bool websocket_code_valid(uint16_t code);

/*
 * websocket_utf8_feed - validates a piece of text
 *
 * Returns   false at the first byte that no valid text can have there (RFC 3629: no overlong
 *           forms, no surrogates, nothing above U+10FFFF).  The text may end where need is 0.
 */
bool websocket_utf8_feed(struct websocket_utf8 *state, const uint8_t *buf, size_t len);

/* websocket_utf8_valid - whether a whole text is UTF-8 */
bool websocket_utf8_valid(const uint8_t *buf, size_t len);

#endif
