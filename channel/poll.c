#include <string.h>

#include "engine_internal.h"

static void
polled(struct socket *socket)
{
	socket->polled = true;
	socket->unlinked_ms = clock_ms();
}

void
engine_take(struct engine *engine, struct message *message)
{
	polled(message->socket);
	message->number = ++message->socket->seen;
	message_take(engine, message);
}

/* It has had all up to there, as whoever knows an answer to an earlier question shows. */
static void
come_to(struct socket *socket, int64_t position)
{
	if (position > socket->position)
		socket->position = position;
	if (socket->floor <= socket->position)
		socket->floor = socket->position + 1;
	if (socket->last <= socket->position)
		socket->first = 0;
	else if (socket->first && socket->first <= socket->position)
		socket->first = socket->position + 1;
}

void
engine_poll(struct engine *engine, struct socket *socket, int64_t position, void *request)
{
	struct message *message = message_new(socket);
	message->kind = MESSAGE_POLL;
	message->request = request;
	message->cursor = engine->last;
	if (socket->poll) {
		socket->poll->outcome = OUTCOME_NOTHING;
		socket->poll->cursor = socket->position;
	}
	polled(socket);
	come_to(socket, position);
	message_answer(engine, message, OUTCOME_COMMITTED);
	socket->poll = message;
	socket->from = !socket->known ? socket->position : socket->first ? socket->first - 1 : engine->last;
	if (!socket->known || socket->first)
		socket_want_fill(engine, socket, position);
}

int64_t
engine_newest(const struct engine *engine)
{
	return engine->last;
}

void
poll_news(struct engine *engine, struct socket *socket, int64_t number)
{
	socket->last = number;
	if (socket->known && !socket->first)
		socket->first = number;
	socket->floor = lower(socket->floor, number);
	if (socket->poll)
		socket_want_fill(engine, socket, socket->position);
	watch_fire_socket(engine, socket, number);
}

void
poll_begin_fill(struct engine *engine, struct socket *socket)
{
	socket->room = POLL_BYTES;
	socket->told = engine->last;
	socket->first = 0;
}

static size_t
length(const char *text)
{
	return text ? strlen(text) : 0;
}

bool
poll_takes(struct socket *socket, const struct record *record)
{
	const struct store_record *row = &record->row, *shown = record_shown(record);
	size_t bytes = length(shown->state) + length(shown->built) + length(row->operations) +
	               length(row->told) + length(row->events) + length(row->detail);
	if (!socket->first)
		socket->first = row->number;
	if (socket->room == 0) {
		socket->told = lower(socket->told, socket->last);
		socket->last = row->number;
		return false;
	}
	socket->room = bytes < socket->room ? socket->room - bytes : 0;
	return true;
}

void
poll_filled(struct socket *socket)
{
	socket->floor = socket->position + 1;
	if (socket->poll)
		socket->poll->cursor = socket->told;
}

void
polls_answered(struct engine *engine)
{
	for (struct message *m = engine->answered; m; m = m->next) {
		if (m->kind != MESSAGE_POLL || m->socket->poll != m)
			continue;
		m->socket->poll = NULL;
		if (m->socket->ended)
			m->outcome = OUTCOME_GONE;
		else if (m->socket->fill)
			m->outcome = OUTCOME_FAILED;
	}
}
