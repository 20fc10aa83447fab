/*
 * server - what the parts of the worker process share
 *
 *   serve.c     start and end; a request comes in, a turn ends
 *   connect.c   a handshake: query, Origin, connect callback, redirect to where nginx holds it
 *   arrivals.c  requests that wait for their sockets to be stored
 *   broadcast.c a message for PubSub, by HTTP from this machine
 *   visits.c    requests to the HTTP API
 *   joins.c     ... that join: for server-sent events, or private state
 *   long_poll.c Phoenix's long-poll transport
 *   deliver.c   what a commit led to: into answers, or over the links
 *   links.c     what the nginx workers say
 *
 * All of it is used under the engine's lock.
 */
#ifndef SEANCE_SERVER_H
#define SEANCE_SERVER_H

#include "api.h"
#include "buffer.h"
#include "engine.h"
#include "link_server.h"
#include "loop.h"
#include "options.h"
#include "poison.h"
#include "token.h"

struct answer;
struct server;

/* A request that opens a socket, while that is being stored: what waits for it has one as its first member. */
struct arrival {
	struct socket *socket;
	/* It is stored; or could not be: engine_stored.  Frees what waited, with the arrival in it. */
	void (*stored)(struct server *server, struct arrival *arrival, struct answer **answers);
	struct arrival *next;
};

/* The links that count: the newest of each nginx worker. */
struct links {
	struct linked {
		struct link *link;
		uint64_t tag; /* of the worker */
		int64_t since_ms;
	} * at;
	size_t count, room;
};

struct server {
	const struct options *options;
	struct engine *engine;
	struct loop *loop;
	struct link_server *links;
	struct poison *poison;
	struct arrival *arrivals;
	struct batch *batches; /* of long_poll.c: those that can go on */
	struct token_key key;
	struct links linked;
	int64_t housed_ms; /* when house-keeping was last done */
};

/* An answer that is ready to be sent without the lock. */
struct answer {
	struct loop_request *request;
	struct buffer order; /* value of Seance-Order */
	struct buffer body;
	bool plain; /* body is the whole answer, headers too */
	struct answer *next;
};

/* --- connect.c --- */
void connect_request(struct server *server, struct loop_request *request);

/* connect_origin_is_allowed - may the page that it comes from talk to the program?  false after a line in the log */
bool connect_origin_is_allowed(const struct server *server, const struct loop_request *request);

/* connect_read - who a request comes from, into client, whose params are set; false after a line in the log */
bool connect_read(struct loop_request *request, struct engine_client *client);

/* --- arrivals.c --- */

/* arrival_begin - connects a client; CONNECT_OK: arrival, which is taken, waits for its socket's row */
enum engine_connect arrival_begin(struct server *server, struct arrival *arrival,
                                  const struct engine_client *client);

/* arrivals_stored - tells those whose sockets are stored, or could not be; appends their answers */
void arrivals_stored(struct server *server, struct answer **answers);

/* --- broadcast.c --- */
void broadcast_request(struct server *server, struct loop_request *request);

/* broadcast_outcome - what is answered once it was committed, or could not be */
void broadcast_outcome(struct answer *answer, enum message_outcome outcome);

/* --- visits.c --- */
void visit_request(struct server *server, struct loop_request *request);

/* visit_outcome - what a request to the HTTP API is answered; sets answer's request, too */
void visit_outcome(struct answer *answer, const struct message *message);

/* A request to the HTTP API while it is under way; the engine asks for headers by it. */
struct visiting {
	struct api_request api;
	struct loop_request *request;
};

/* --- joins.c --- */

/* join_begin - opens a socket for a request for server-sent events or private state; all but topic are taken */
void join_begin(struct server *server, struct visiting *visiting, struct visit *visit,
                const char *topic);

/* join_outcome - what came of a join: nginx is to hold the stream, the state, or why not; sets answer's request, too */
void join_outcome(struct server *server, struct answer *answer, const struct message *message);

/* --- long_poll.c --- */
void long_poll_request(struct server *server, struct loop_request *request);

/* long_poll_asked - answers a question: answer's body is what the deliveries to its socket have made */
void long_poll_asked(struct server *server, struct answer *answer, const struct message *message);

/* long_poll_taken - a session's message was dealt with;  long_poll_go_on - what follows such, to be called after
 * the result of engine_commit was sent, since it lets go of the lock */
void long_poll_taken(struct server *server, const struct message *message);
void long_poll_go_on(struct server *server);

/* --- deliver.c --- */

/* answer_new - puts an empty answer into a list, of which it is the first then; request: NULL if it is to be set */
struct answer *answer_new(struct answer **list, struct loop_request *request);

/* deliver_result - everything a commit led to: link messages are queued, answers appended */
void deliver_result(struct server *server, struct commit_result *result, struct answer **answers);

/* answers_send - sends and frees; without the lock */
void answers_send(struct answer *answers);

/* --- links.c --- */
struct link_handler links_handler(struct server *server);

/* links_floor - the lowest commit that some link has not acknowledged */
int64_t links_floor(const struct server *server);

/* links_log - a line for each nginx worker: what it told last of itself (enum link_count) */
void links_log(const struct server *server);

#endif
