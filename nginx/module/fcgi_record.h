/*
 * fcgi_record - FastCGI records: a request is written, an answer is read
 *
 * Plain C, no nginx header.  One request at a time on a connection (request id 1), role
 * RESPONDER.
 * Source: FastCGI Specification 1.0, 3.3, 5, 8.
 */
#ifndef SEANCE_FCGI_RECORD_H
#define SEANCE_FCGI_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FCGI_HEAD_SIZE   8u
#define FCGI_BEGIN_SIZE  16u
#define FCGI_CONTENT_MAX 65528u /* bytes of content in one record: aligned to 8 */
#define FCGI_ERRORS_MAX  256u   /* bytes that are kept of STDERR */

enum fcgi_type {
	FCGI_BEGIN_REQUEST = 1,
	FCGI_ABORT_REQUEST,
	FCGI_END_REQUEST,
	FCGI_PARAMS,
	FCGI_STDIN,
	FCGI_STDOUT,
	FCGI_STDERR
};

enum fcgi_protocol_status {
	FCGI_REQUEST_COMPLETE,
	FCGI_CANT_MPX_CONN,
	FCGI_OVERLOADED,
	FCGI_UNKNOWN_ROLE
};

/* fcgi_head - writes a record's head; out: room for FCGI_HEAD_SIZE; returns out behind it */
uint8_t *fcgi_head(uint8_t *out, enum fcgi_type type, size_t content, size_t padding);

/*
 * fcgi_begin - writes BEGIN_REQUEST
 *
 * out       Room for FCGI_BEGIN_SIZE bytes.
 * keep      Whether the program is to leave the connection open behind its answer.
 * Returns   out behind it.
 */
uint8_t *fcgi_begin(uint8_t *out, bool keep);

/* fcgi_pair_size - bytes of a name-value pair */
size_t fcgi_pair_size(size_t name_len, size_t value_len);

/* fcgi_pair - writes a name-value pair (3.4), each below 2^31 bytes; returns out behind it */
uint8_t *fcgi_pair(uint8_t *out, const char *name, size_t name_len, const void *value, size_t value_len);

/* fcgi_stream_size - bytes of a stream of so much content: records' heads and the end mark included */
size_t fcgi_stream_size(size_t content);

/*
 * A stream (PARAMS or STDIN) being written in one go into memory that holds all of it:
 * fcgi_stream_begin, any number of fcgi_stream_put and fcgi_stream_pair, fcgi_stream_end.
 */
struct fcgi_stream {
	uint8_t *out;  /* borrowed; where the next byte goes */
	uint8_t *head; /* of the record that is being filled; NULL when none is */
	enum fcgi_type type;
};

/* fcgi_stream_begin - out: room for fcgi_stream_size of all that will be put */
void fcgi_stream_begin(struct fcgi_stream *stream, enum fcgi_type type, uint8_t *out);

/* fcgi_stream_put - content; starts new records as needed */
void fcgi_stream_put(struct fcgi_stream *stream, const void *bytes, size_t len);

/* fcgi_stream_pair - a name-value pair of PARAMS (3.4); each below 2^31 bytes */
void fcgi_stream_pair(struct fcgi_stream *stream, const char *name, size_t name_len, const void *value,
                      size_t value_len);

/* fcgi_stream_break - ends the present record, not the stream; returns out behind it */
uint8_t *fcgi_stream_break(struct fcgi_stream *stream);

/* fcgi_stream_end - ends the stream; returns out behind its end mark */
uint8_t *fcgi_stream_end(struct fcgi_stream *stream);

/*
 * A PARAMS record of fixed size for one pair whose value is a number up to 20 digits: what the
 * number does not need is the record's padding, so it can be written again in place.
 */
#define FCGI_NUMBER_SIZE(name_len) (FCGI_HEAD_SIZE + 2u + (name_len) + 20u)

/* fcgi_number - writes such a record; name_len below 128; returns out behind it */
uint8_t *fcgi_number(uint8_t *out, const char *name, size_t name_len, uint64_t value);

enum fcgi_progress {
	FCGI_MORE,    /* not all has come */
	FCGI_DONE,    /* END_REQUEST has come, protocol_status is set */
	FCGI_BROKEN,  /* not FastCGI, another request's record, or bytes behind the end */
	FCGI_TOO_BIG, /* STDOUT exceeds the limit */
	FCGI_NO_MEMORY
};

/* An answer being read.  `data`, `len`, `protocol_status`, `errors` are for the caller. */
struct fcgi_answer {
	const uint8_t *data; /* STDOUT so far: in the caller's buffer or in `memory` */
	size_t len;
	uint32_t protocol_status;
	char errors[FCGI_ERRORS_MAX]; /* STDERR's beginning; no NUL at its end */
	size_t errors_len;

	size_t limit;
	uint8_t *place;  /* in the caller's buffer: where data is, writable; NULL when in memory */
	uint8_t *memory; /* owned */
	size_t memory_size;
	uint8_t head[FCGI_HEAD_SIZE];
	uint8_t head_len;
	uint8_t end[8];
	uint8_t end_len;
	uint16_t content_left;
	uint8_t padding_left;
	bool ended;
};

/* fcgi_answer_init - before an answer's first byte; limit: bytes of STDOUT */
void fcgi_answer_init(struct fcgi_answer *answer, size_t limit);

/* fcgi_answer_release - frees what the answer owns */
void fcgi_answer_release(struct fcgi_answer *answer);

/*
 * fcgi_answer_read - takes the next bytes of an answer
 *
 * An answer that lies in one buffer stays there (records are joined in place); what has come
 * before the last buffer is kept in memory (malloc).
 *
 * buf       Borrowed; its content may be moved within.  After FCGI_DONE, answer->data is valid
 *           as long as buf is unchanged and the answer is not released.
 * Cost      O(len), amortized.
 */
enum fcgi_progress fcgi_answer_read(struct fcgi_answer *answer, uint8_t *buf, size_t len);

/*
 * fcgi_cgi_head - the length of a CGI answer's head, its empty line included
 *
 * Lines end with CRLF or LF.
 * Returns   bytes of the head, or 0 when there is no empty line.
 */
size_t fcgi_cgi_head(const uint8_t *data, size_t len);

/*
 * fcgi_cgi_find - a header's value in a CGI answer's head
 *
 * name      Any case; the first of several counts.
 * value     out: borrowed from head; without surrounding spaces.
 * Returns   true when it is there.
 */
bool fcgi_cgi_find(const uint8_t *head, size_t len, const char *name, const uint8_t **value,
                   size_t *value_len);

#endif
