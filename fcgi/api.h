/*
 * api - the HTTP API: topics for clients without a connection
 *
 *     GET  /channels/TOPIC                the state; ?since=POSITION: the patches after it; &wait=SECONDS: when
 *                                         there are none, nginx lets the request wait for some, then 204;
 *                                         &until=POSITION: none beyond, so that the answer never changes
 *     POST /channels/TOPIC/events/NAME    an event; the body is its payload
 *     POST /channels/TOPIC                joins private state; the body is the join's payload.  The answer has a
 *                                         token, which the others then carry (header Seance-Token)
 *     DELETE /channels/TOPIC              ends it
 *
 * GET with Accept: text/event-stream is a stream of all that follows (event_stream.h).
 *
 * TOPIC and NAME are one percent-encoded segment each.  Errors are application/problem+json (RFC 9457).
 */
#ifndef SEANCE_API_H
#define SEANCE_API_H

#include "buffer.h"
#include "engine.h"
#include "token.h"

/* A request, wherever it comes from. */
struct api_request {
	const char *(*param)(void *context, const char *name); /* as of CGI (RFC 3875); NULL: absent */
	void *context;
	const char *body;
	size_t len;
	const char *origins;         /* allowed beside the host's own, see --origins */
	const struct token_key *key; /* of tokens; NULL: none is good */
};

/*
 * api_read - what a request asks for
 *
 * topic     Set to the topic, owned by the caller.
 * out       What is answered at once is appended when there is nothing to ask the engine.
 * Returns   Owned by the caller; its header function asks the request, which must outlive it; NULL: see out.
 */
struct visit *api_read(const struct api_request *request, char **topic, struct buffer *out);

/* api_problem - appends an answer that says why not; status as in "404 Not Found"; reason: borrowed, or NULL */
void api_problem(const struct api_request *request, struct buffer *out, const char *status,
                 json_object *reason);

/* api_not_allowed - appends 405 and the methods that are */
#define API_SHARED_METHODS "GET, HEAD, OPTIONS" /* of a topic with shared state */
void api_not_allowed(const struct api_request *request, const char *allow, struct buffer *out);

/* api_stream - appends the answer that has nginx hold the stream of a socket */
void api_stream(const struct api_request *request, const char *token, struct buffer *out);

/* api_joined - appends the answer to a request that has joined private state; false: it has not */
bool api_joined(const struct api_request *request, const struct visit *visit, struct buffer *out);

/* api_answer - appends headers and body of what came of it */
void api_answer(const struct api_request *request, const struct message *message, struct buffer *out);

#endif
