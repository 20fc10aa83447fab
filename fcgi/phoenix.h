/*
 * phoenix - the Phoenix socket protocol, versions 1 and 2, and the vocabularies on it
 *
 * Frames from clients are taken apart, commits become frames.  Frames out are written in the form of
 * websocket_events ("TEXT <hex length>CRLF<frame>CRLF"), so that they can go into an answer as they are.
 */
#ifndef SEANCE_PHOENIX_H
#define SEANCE_PHOENIX_H

#include <stdbool.h>

#include "buffer.h"
#include "engine.h"
#include "token.h"

/* What is spoken on a socket: bits. */
enum phoenix_format {
	PHOENIX_V1 = 1,         /* frames are objects; else version 2: arrays */
	PHOENIX_LIVE_STATE = 2, /* names of phx-live-state; else those of Seance */
	PHOENIX_FORMATS = 4,    /* how many there are */
};

/* Bytes around a frame in the form of websocket_events. */
#define PHOENIX_HEAD 15 /* "TEXT xxxxxxxx\r\n" */
#define PHOENIX_TAIL 2

/*
 * phoenix_parse - a frame from a client
 *
 * message   Its kind, topic, ref, join_ref, event, payload and key are set, owned by it (message_free); of a join
 *           also what it wants (resume_ask; the caller does resume_read).
 * reply     What is to be answered whatever the engine says is appended: to a heartbeat, to a topic
 *           that is no string, to a key that is none.  The kind is MESSAGE_PLAIN then.
 * Returns   true; false when it is no frame: the socket is to be closed with 1011.  why is then a constant.
 */
bool phoenix_parse(int format, bool binary, const char *bytes, size_t len, struct message *message,
                   struct buffer *reply, const char **why);

/* Whom a commit is told. */
struct phoenix_client {
	int format;
	bool own;  /* its socket is the cause: it gets replies and its join_ref, the others null */
	int wants; /* enum join_wants, of its join */
	const struct token_key *key; /* for what it may come back with to private state; NULL: it cannot */
};

/*
 * phoenix_commit - the frames that a commit means for a socket
 *
 * Returns   how many frames were appended.
 */
int phoenix_commit(struct buffer *out, const struct phoenix_client *to, const struct record *record);

/* phoenix_catch_up - the frames of a catch-up for its socket; key as in struct phoenix_client */
void phoenix_catch_up(struct buffer *out, const struct token_key *key, const struct catch_up *catch_up);

/* phoenix_outcome - the frames that answer a message which led to no commit; none for some outcomes */
void phoenix_outcome(struct buffer *out, int format, const struct message *message);

/* phoenix_close - the event that closes a socket; reason is plain text */
void phoenix_close(struct buffer *out, int code, const char *reason);

#endif
