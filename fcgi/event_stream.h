/*
 * event_stream - commits as server-sent events (HTML standard, 9.2)
 *
 *     seance:change   {"state", "version", "revision", "position"}
 *     seance:patch    {"operations", "version", "revision", "position"}
 *     seance:event    {"name", "detail", "type", "payload"}
 *
 * and what the channel's own message builder, or presence, calls its events.  The id of an event that shows a
 * state or a patch is its position.
 */
#ifndef SEANCE_EVENT_STREAM_H
#define SEANCE_EVENT_STREAM_H

#include "buffer.h"
#include "engine.h"

#define EVENT_STREAM_FORMAT 4 /* of a socket; beside enum phoenix_format */

/* event_stream_commit - appends what a commit means for a stream; own: is it the stream's own join or presence? */
void event_stream_commit(struct buffer *out, const struct record *record, bool own);

/* event_stream_catch_up - appends a catch-up for its stream */
void event_stream_catch_up(struct buffer *out, const struct catch_up *catch_up);

#endif
