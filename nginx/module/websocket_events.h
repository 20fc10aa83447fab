/*
 * websocket_events - the body format application/websocket-events (WebSocket-over-HTTP)
 *
 * An event is NAME [SP hex length] CRLF [bytes CRLF]: TEXT and BINARY carry a message,
 * CLOSE two bytes of code in network order and a reason, OPEN, PING, PONG and DISCONNECT may
 * stand without a length.  Plain C, no allocation, both the module and the program compile it.
 */
#ifndef SEANCE_WEBSOCKET_EVENTS_H
#define SEANCE_WEBSOCKET_EVENTS_H

#include <stddef.h>
#include <stdint.h>

#define EVENTS_HEAD_MAX  32u /* bytes of the longest "NAME SP length CRLF" */
#define EVENTS_ORDER_MAX 56u /* bytes of the longest AFTER-CURSOR/COUNT */

enum events_type {
	EVENTS_OPEN = 1,
	EVENTS_TEXT,
	EVENTS_BINARY,
	EVENTS_PING,
	EVENTS_PONG,
	EVENTS_CLOSE,
	EVENTS_DISCONNECT
};

struct events_event {
	enum events_type type;
	const uint8_t *data; /* borrowed from the buffer; NULL without a length */
	size_t len;
};

/*
 * events_decode - the first event of a buffer
 *
 * Returns   bytes used; 0 when the buffer ends within the event; -1 when it is malformed
 *           (unknown name, bad length, no CRLF where one must be).
 */
long events_decode(const uint8_t *buf, size_t len, struct events_event *event);

/*
 * events_head - writes the line before an event's bytes; the caller appends the bytes and CRLF
 *
 * out       Room for EVENTS_HEAD_MAX bytes.
 * Returns   bytes written.
 */
size_t events_head(uint8_t *out, enum events_type type, size_t len);

/*
 * events_bare - writes an event that has no content; neither TEXT nor BINARY
 *
 * out       Room for EVENTS_HEAD_MAX bytes.
 * Returns   bytes written.
 */
size_t events_bare(uint8_t *out, enum events_type type);

/* One entry of the answer's header Seance-Order: the next `count` events are the unit (after, cursor). */
struct events_order {
	uint64_t after;
	uint64_t cursor;
	uint32_t count;
};

/*
 * events_order_decode - the first entry of a Seance-Order value: AFTER-CURSOR/COUNT, ...
 *
 * Spaces and the comma before an entry are skipped.
 *
 * Returns   bytes used; 0 when no entry is left; -1 when it is malformed, a number does not
 *           fit, or cursor is not above after.
 */
long events_order_decode(const uint8_t *buf, size_t len, struct events_order *order);

/*
 * events_order_write - writes one entry, without a comma
 *
 * out       Room for EVENTS_ORDER_MAX bytes; no NUL is written.
 * Returns   bytes written.
 */
size_t events_order_write(char *out, const struct events_order *order);

#endif
