/*
 * answer - what the program answered to one message: units in their order, and what follows them
 */
#ifndef SEANCE_ANSWER_H
#define SEANCE_ANSWER_H

#include "out.h"

struct seance_answer_unit {
	uint64_t after, cursor;
	size_t end; /* where its bytes end in the frame */
	uint32_t messages;
};

/*
 * An answer that is being written to a socket.  The bytes of unit i lie between the ends of the
 * units i - 1 and i; what follows the last unit is in no order with other commits.
 */
struct seance_answer {
	struct seance_frame *frame; /* owned: a reference */
	uint64_t number;            /* of the message that it answers */
	size_t written;             /* bytes of frame that were written or dropped */
	uint32_t messages;          /* of frame that lie in units */
	uint32_t at, count;         /* the next unit to write; how many there are */
	struct seance_answer_unit units[];
};

/*
 * seance_answer_new - reads a CGI answer with a body of websocket-events
 *
 * data      Borrowed.
 * why       out: the reason when NULL is returned, a constant text.
 * Returns   A new answer, owned by the caller; NULL when its status is not 200, it is malformed
 *           or memory is short.
 */
struct seance_answer *seance_answer_new(const u_char *data, size_t len, const char **why);

/* seance_answer_free - NULL is accepted */
void seance_answer_free(struct seance_answer *answer);

/*
 * seance_events_frame - a body of websocket-events as the frames for a client
 *
 * Nothing is taken from behind a CLOSE or DISCONNECT (close code 1006: cut, without a frame).
 *
 * Returns   A new frame, owned by the caller; NULL with *why when malformed or without memory.
 */
struct seance_frame *seance_events_frame(const u_char *body, size_t len, const char **why);

#endif
