#include <inttypes.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "memory.h"
#include "server.h"

static void
lock(void *context)
{
	struct server *server = context;
	engine_lock(server->engine);
}

static void
unlock(void *context)
{
	struct server *server = context;
	engine_unlock(server->engine);
}

static bool
is_linked(const struct server *server, const struct link *link)
{
	for (size_t i = 0; i < server->linked.count; i++)
		if (server->linked.at[i].link == link)
			return true;
	return false;
}

static void
linked_remove(struct server *server, size_t i)
{
	struct links *links = &server->linked;
	struct link *link = links->at[i].link;
	links->at[i] = links->at[--links->count];
	engine_unlinked(server->engine, link, link_floor(link));
}

/* A worker's new stream: whatever is still unread on its old one is out of date. */
static void
hello(struct server *server, struct link *link, uint64_t tag)
{
	struct links *links = &server->linked;
	for (size_t i = links->count; i-- > 0;)
		if (links->at[i].tag == tag)
			linked_remove(server, i);
	links->at = memory_grow(links->at, links->count, &links->room, sizeof(*links->at));
	links->at[links->count++] = (struct linked){link, tag, clock_ms()};
}

int64_t
links_floor(const struct server *server)
{
	int64_t floor = INT64_MAX;
	for (size_t i = 0; i < server->linked.count; i++) {
		int64_t one = link_floor(server->linked.at[i].link);
		if (one < floor)
			floor = one;
	}
	return floor;
}

/* An id as a string; false when it can be none of ours. */
static bool
token_of(const struct link_message *message, char token[LINK_ID_MAX + 1])
{
	if (message->id_len > LINK_ID_MAX || memchr(message->id, 0, message->id_len))
		return false;
	memcpy(token, message->id, message->id_len);
	token[message->id_len] = '\0';
	return true;
}

static void
held(struct server *server, struct link *link, const struct link_message *message)
{
	char token[LINK_ID_MAX + 1];
	if (message->kind == LINK_WAIT && token_of(message, token))
		engine_wait(server->engine, token, (int64_t)message->position, link, message->handle);
	else if (!token_of(message, token) ||
	         !engine_held(server->engine, token, link, message->handle, (int64_t)message->position))
		link_close(link, message->handle, 1013, "unknown socket");
}

static void
closed(struct server *server, struct link *link, const struct link_message *message)
{
	char token[LINK_ID_MAX + 1];
	if (engine_unwait(server->engine, link, message->handle))
		return;
	struct socket *socket = token_of(message, token) ? engine_find(server->engine, token) : NULL;
	/* Another link may list it by now: then this is the late word of an old one. */
	if (socket && (!socket->link || socket->link == link))
		engine_closed(server->engine, socket);
}

static void
paused(struct server *server, struct link *link, const struct link_message *message)
{
	struct socket *socket = engine_find_handle(server->engine, link, message->handle);
	int64_t position = (int64_t)message->position;
	if (!socket)
		return;
	if (message->type == LINK_BEHIND)
		engine_behind(server->engine, socket, position);
	else
		engine_drained(server->engine, socket, position);
}

static void
take_message(void *context, struct link *link, const struct link_message *message)
{
	struct server *server = context;
	if (message->type != LINK_HELLO && !is_linked(server, link))
		return;
	switch (message->type) {
	case LINK_HELLO:
		hello(server, link, message->tag);
		break;
	case LINK_HELD:
		held(server, link, message);
		break;
	case LINK_CLOSED:
		closed(server, link, message);
		break;
	case LINK_BEHIND:
	case LINK_DRAINED:
		paused(server, link, message);
		break;
	case LINK_HELLO_END:
	case LINK_ACK:
	case LINK_COUNTS:
	case LINK_DELIVER:
	case LINK_CLOSE:
	case LINK_WAKE:
		break;
	}
}

/* How it stands with a worker, or stood when its link ended, in one line; what is 0 is left out. */
static void
log_counts(const struct linked *linked, const char *how)
{
	struct buffer line = {0};
	for (unsigned i = 0; i < LINK_COUNT_ENDS; i++) {
		uint64_t count = link_count(linked->link, (enum link_count)i);
		if (count == 0)
			continue;
		buffer_add_char(&line, ' ');
		buffer_add_text(&line, link_count_name((enum link_count)i));
		buffer_add_char(&line, '=');
		buffer_add_number(&line, (int64_t)count);
	}
	log_line("link of nginx worker %016" PRIx64 " %s %" PRId64 " s:%.*s", linked->tag, how,
	         (clock_ms() - linked->since_ms) / 1000, (int)line.len, line.at ? line.at : "");
	buffer_release(&line);
}

void
links_log(const struct server *server)
{
	for (size_t i = 0; i < server->linked.count; i++)
		log_counts(&server->linked.at[i], "is up for");
	if (server->linked.count == 0)
		log_line("no nginx worker has a link");
}

static void
gone(void *context, struct link *link)
{
	struct server *server = context;
	for (size_t i = server->linked.count; i-- > 0;)
		if (server->linked.at[i].link == link) {
			log_counts(&server->linked.at[i], "ended after");
			linked_remove(server, i);
		}
}

struct link_handler
links_handler(struct server *server)
{
	return (struct link_handler){
		.context = server,
		.lock = lock,
		.unlock = unlock,
		.message = take_message,
		.gone = gone,
	};
}
