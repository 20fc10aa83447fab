/*
 * link_message - the messages on the link between an nginx worker and the program
 *
 * The one codec that both sides compile.  Plain C: no nginx header, no allocation.
 *
 * A message is: u32 length of what follows, u8 type, fields.  Numbers are in network
 * order.  The stream is a unix socket that the nginx worker connects.
 *
 *   worker to program   HELLO, any number of HELD, HELLO_END; afterwards HELD, CLOSED,
 *                       BEHIND, DRAINED, ACK, COUNTS
 *   program to worker   DELIVER, CLOSE, WAKE
 */
#ifndef SEANCE_LINK_MESSAGE_H
#define SEANCE_LINK_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#define LINK_VERSION     3u
#define LINK_ID_MAX      64u                 /* bytes of a socket's id */
#define LINK_REASON_MAX  123u                /* bytes of a close reason (RFC 6455, 5.5) */
#define LINK_MESSAGE_MAX (64u * 1024 * 1024) /* bytes of one message, length included */
#define LINK_TARGET_SIZE 24u                 /* bytes of one target in DELIVER */
#define LINK_COUNT_SIZE  8u                  /* bytes of one number in COUNTS */

enum link_type {
	LINK_HELLO = 1, /* u32 version, u64 worker tag, u32 deadline_ms: a new stream begins */
	LINK_HELD,      /* u64 handle, u8 kind, u64 position, u64 answered, u8 n, n bytes id */
	LINK_HELLO_END, /* all that was held when the stream began has been told */
	LINK_CLOSED,    /* u64 handle, u16 code, u8 n, n bytes reason, u8 n, n bytes id */
	LINK_BEHIND,    /* u64 handle, u64 position: send it nothing until DRAINED */
	LINK_DRAINED,   /* u64 handle, u64 position: send all it lacks after position */
	LINK_ACK,       /* u64 batch: all of it, and all before it, is in the sockets' buffers */
	LINK_COUNTS,    /* u8 n, n u64: how it stands with what this link is for; see enum link_count */

	LINK_DELIVER = 64, /* u64 batch, u8 opcode, u32 n, n targets, body (the rest) */
	LINK_CLOSE,        /* u64 batch, u64 handle, u16 code, u8 n, n bytes reason */
	LINK_WAKE,         /* u64 batch, u64 handle: a parked request is to be asked again */
};

/*
 * The numbers of COUNTS, in their order; a newer side knows more of them than an older one.
 *
 * X(name, text): what is so now, what was counted since the worker began, and what was added later: the place
 * of a count is its number in the message, so a new one comes last.
 */
#define LINK_COUNTS_EACH(X)                                                                       \
	X(WEBSOCKETS, "websockets") /* held */                                                        \
	X(STREAMS, "streams")       /* held */                                                        \
	X(PARKED, "parked")         /* requests that wait */                                          \
	X(BEHIND, "behind")         /* sockets that read too slowly */                                \
	X(IN_FLIGHT, "in_flight")   /* messages that the program has, or is to get */                 \
	X(WAITING, "waiting")       /* messages behind these */                                       \
	X(WAITING_BYTES, "waiting_bytes")                                                             \
	X(HELD_BACK, "held_back")             /* units that wait for what precedes them */            \
	X(BUFFERED_BYTES, "buffered_bytes")   /* that wait to be read by clients */                   \
	X(CONNECTIONS, "connections")         /* to the program */                                    \
	X(OPENED, "opened")                   /* sockets and streams */                               \
	X(REFUSED, "refused")                 /* that could not be held */                            \
	X(CLOSED, "closed")                   /* sockets and streams that have ended; of these ... */ \
	X(CLOSED_ABNORMAL, "closed_abnormal") /* ... without a close handshake (1006) */              \
	X(CLOSED_PROTOCOL, "closed_protocol") /* ... for what they sent (1002 to 1010) */             \
	X(CLOSED_SERVER, "closed_server")     /* ... for want of the program (1011 and up) */         \
	X(MESSAGES_IN, "messages_in")         /* from clients */                                      \
	X(BYTES_IN, "bytes_in")                                                                       \
	X(MESSAGES_OUT, "messages_out") /* to clients */                                              \
	X(BYTES_OUT, "bytes_out")                                                                     \
	X(CONTROLS_IN, "controls_in") /* PING, PONG, CLOSE */                                         \
	X(ANSWERS, "answers")         /* of the program to messages */                                \
	X(RESENDS, "resends")         /* attempts beyond the first */                                 \
	X(BAD_ANSWERS, "bad_answers")                                                                 \
	X(UNITS, "units")                       /* that came by the link for a socket */              \
	X(UNITS_DROPPED, "units_dropped")       /* of these, past or for a socket that is behind */   \
	X(LINKS, "links")                       /* streams made */                                    \
	X(CONNECTIONS_BUSY, "connections_busy") /* of connections, those with a message */

#define LINK_COUNT_ENUM(name, text) LINK_COUNT_##name,
enum link_count { LINK_COUNTS_EACH(LINK_COUNT_ENUM) LINK_COUNT_ENDS };

enum link_kind { LINK_WEBSOCKET = 1, LINK_STREAM, LINK_WAIT };

/*
 * What the body of DELIVER is: one text or binary message, or, for a unit of several frames,
 * any number of TEXT, BINARY (and at the end CLOSE) in the form of websocket_events.h.  CATCH_UP is
 * the same in place of all units between after and cursor: it fits a socket just at `after`.  BYTES and
 * CATCH_UP_BYTES are for streams: the body goes to them as it is.
 */
enum link_opcode {
	LINK_TEXT = 1,
	LINK_BINARY,
	LINK_EVENTS,
	LINK_CATCH_UP,
	LINK_BYTES,
	LINK_CATCH_UP_BYTES
};

/* One socket that a delivery is for: its handle and the unit's (after, cursor). */
struct link_target {
	uint64_t handle;
	uint64_t after;
	uint64_t cursor;
};

/*
 * A decoded message.  Only the fields named at its type are set.  id, reason, targets, body and
 * counts are borrowed from the decoded buffer; targets and counts are still encoded: read them
 * with link_target_at and link_count_at.
 */
struct link_message {
	enum link_type type;
	uint32_t version;
	uint32_t deadline_ms;
	uint64_t tag;
	uint64_t handle;
	uint64_t position;
	uint64_t answered;
	uint64_t batch;
	uint8_t kind;
	uint8_t opcode;
	uint16_t code;
	const uint8_t *id;
	size_t id_len;
	const uint8_t *reason;
	size_t reason_len;
	const uint8_t *targets;
	uint32_t target_count;
	const uint8_t *body;
	size_t body_len;
	const uint8_t *counts;
	size_t counts_len; /* bytes */
};

/*
 * link_decode - the first message of a buffer
 *
 * Returns   bytes used by the message; 0 when more bytes are needed; -1 when it is malformed or
 *           of unknown type (the stream cannot be used any further).
 * Cost      O(1).
 */
long link_decode(const uint8_t *buf, size_t len, struct link_message *message);

/* link_wanted - the whole length of the message that begins at buf; 0 when unknown (len < 4) */
size_t link_wanted(const uint8_t *buf, size_t len);

/* link_target_at - target number i of a decoded DELIVER; i < target_count */
struct link_target link_target_at(const struct link_message *message, uint32_t i);

/* link_count_at - a number of a decoded COUNTS; 0 when the sender does not know it */
uint64_t link_count_at(const struct link_message *message, enum link_count which);

/*
 * link_size - bytes that link_encode writes for a message
 *
 * For DELIVER this is the head alone: link_encode leaves room for nothing behind it; the caller
 * writes target_count targets with link_target_write and then body_len bytes of body.
 */
size_t link_size(const struct link_message *message);

/*
 * link_encode - writes a message (for DELIVER: its head, whose length field covers targets and body)
 *
 * out       Room for link_size(message) bytes.
 * Returns   bytes written.
 */
size_t link_encode(uint8_t *out, const struct link_message *message);

/* link_target_write - writes one target; room for LINK_TARGET_SIZE bytes */
void link_target_write(uint8_t *out, struct link_target target);

/* link_count_write - writes one number of COUNTS; room for LINK_COUNT_SIZE bytes */
void link_count_write(uint8_t *out, uint64_t count);

/* link_count_name - its text as above, a constant */
const char *link_count_name(enum link_count which);

#endif
