#include <stdlib.h>
#include <string.h>

#include "event_stream.h"
#include "memory.h"
#include "phoenix.h"
#include "server.h"
#include "websocket_events.h"

/* --- answers --- */

struct answer *
answer_new(struct answer **list, struct loop_request *request)
{
	struct answer *answer = memory_zeroed(1, sizeof(*answer));
	answer->request = request;
	answer->next = *list;
	*list = answer;
	return answer;
}

static void
answer_send(struct answer *answer)
{
	static const char type[] = "Content-Type: application/websocket-events\r\n";
	static const char order[] = "Seance-Order: ";
	struct buffer all = {0};
	if (answer->plain) {
		loop_finish(answer->request, answer->body.at, answer->body.len);
		return;
	}
	buffer_reserve(&all, sizeof(type) + sizeof(order) + answer->order.len + answer->body.len + 8);
	buffer_add(&all, type, sizeof(type) - 1);
	if (answer->order.len) {
		buffer_add(&all, order, sizeof(order) - 1);
		buffer_add(&all, answer->order.at, answer->order.len);
		buffer_add(&all, "\r\n", 2);
	}
	buffer_add(&all, "\r\n", 2);
	buffer_add(&all, answer->body.at, answer->body.len);
	loop_finish(answer->request, all.at, all.len);
	buffer_release(&all);
}

void
answers_send(struct answer *answers)
{
	while (answers) {
		struct answer *answer = answers;
		answers = answer->next;
		answer_send(answer);
		buffer_release(&answer->order);
		buffer_release(&answer->body);
		free(answer);
	}
}

static struct phoenix_client
client_of(const struct token_key *key, const struct delivery *delivery)
{
	const struct store_socket *socket = &delivery->socket->row;
	return (struct phoenix_client){
		.format = (int)socket->format,
		.own = delivery->record->row.socket == socket->id,
		.wants = delivery->wants,
		.key = key,
	};
}

static void
answer_add_unit(struct answer *answer, const struct token_key *key, const struct delivery *delivery)
{
	const struct store_record *row = &delivery->record->row;
	const struct phoenix_client to = client_of(key, delivery);
	int count = phoenix_commit(&answer->body, &to, delivery->record);
	if (answer->order.len)
		buffer_add(&answer->order, ", ", 2);
	struct events_order order = {
		.after = (uint64_t)delivery->after,
		.cursor = (uint64_t)row->number,
		.count = (uint32_t)count,
	};
	buffer_reserve(&answer->order, EVENTS_ORDER_MAX);
	answer->order.len += events_order_write(answer->order.at + answer->order.len, &order);
}

/* --- one record over the links: sockets that get the same bytes by the same link go together --- */

struct group {
	struct link *link;
	struct phoenix_client to;
	struct link_target *targets;
	uint32_t count;
	size_t room;
};

struct groups {
	struct group *at;
	size_t count, room;
};

static struct group *
group_for(struct groups *groups, struct link *link, const struct phoenix_client *to)
{
	for (size_t i = 0; i < groups->count; i++) {
		struct group *group = &groups->at[i];
		if (group->link == link && group->to.format == to->format && group->to.own == to->own &&
		    group->to.wants == to->wants)
			return group;
	}
	groups->at = memory_grow(groups->at, groups->count, &groups->room, sizeof(*groups->at));
	groups->at[groups->count] = (struct group){.link = link, .to = *to};
	return &groups->at[groups->count++];
}

static void
group_add(struct groups *groups, const struct token_key *key, const struct delivery *delivery)
{
	const struct socket *socket = delivery->socket;
	const struct store_record *row = &delivery->record->row;
	const struct phoenix_client to = client_of(key, delivery);
	struct group *group = group_for(groups, socket->link, &to);
	group->targets = memory_grow(group->targets, group->count, &group->room, sizeof(*group->targets));
	group->targets[group->count++] = (struct link_target){
		.handle = socket->handle,
		.after = (uint64_t)delivery->after,
		.cursor = (uint64_t)row->number,
	};
}

static enum link_opcode
group_encode(const struct group *group, const struct record *record, struct buffer *body)
{
	if (group->to.format == EVENT_STREAM_FORMAT) {
		event_stream_commit(body, record, group->to.own);
		return LINK_BYTES;
	}
	phoenix_commit(body, &group->to, record);
	return LINK_EVENTS;
}

static void
groups_send(struct groups *groups, const struct record *record)
{
	for (size_t i = 0; i < groups->count; i++) {
		struct group *group = &groups->at[i];
		struct buffer body = {0};
		enum link_opcode opcode = group_encode(group, record, &body);
		link_deliver(group->link, opcode, group->targets, group->count, body.at, body.len,
		             record->row.number);
		buffer_release(&body);
		free(group->targets);
	}
	groups->count = 0;
}

/* --- a slow reader --- */

static void
catch_up_send(const struct token_key *key, const struct catch_up *catch_up)
{
	const struct socket *socket = catch_up->socket;
	struct buffer body = {0};
	struct link_target target = {socket->handle, (uint64_t)catch_up->after, (uint64_t)catch_up->cursor};
	bool stream = socket->row.format == EVENT_STREAM_FORMAT;
	if (stream)
		event_stream_catch_up(&body, catch_up);
	else
		phoenix_catch_up(&body, key, catch_up);
	link_deliver(socket->link, stream ? LINK_CATCH_UP_BYTES : LINK_CATCH_UP, &target, 1, body.at,
	             body.len, catch_up->after + 1);
	buffer_release(&body);
}

/* --- a commit's result --- */

/* Its answer is frames, and all that it has led to. */
static bool
is_by_websocket(const struct message *message)
{
	return message->socket && !message->by_api && !message->socket->polled;
}

/* A question that is answered by what its socket lacks: of a socket's the newest. */
static bool
is_told(const struct message *message)
{
	return message->kind == MESSAGE_POLL && message->outcome == OUTCOME_COMMITTED;
}

static void
begin_answers(struct commit_result *result, struct answer **answers)
{
	for (struct message *m = result->answered; m; m = m->next)
		if (is_told(m) || is_by_websocket(m))
			m->socket->answer = answer_new(answers, m->request);
}

static void
end_poll(struct server *server, const struct message *message, struct answer **answers)
{
	struct socket *socket = message->socket;
	if (is_told(message)) {
		long_poll_asked(server, socket->answer, message);
		socket->answer = NULL;
	} else if (message->kind == MESSAGE_POLL) {
		long_poll_asked(server, answer_new(answers, message->request), message);
	} else {
		long_poll_taken(server, message);
	}
}

/* Of what is answered by other than frames. */
static void
end_other(struct server *server, const struct message *message, struct answer **answers)
{
	if (message->kind == MESSAGE_VISIT)
		visit_outcome(answer_new(answers, NULL), message);
	else if (message->by_api)
		join_outcome(server, answer_new(answers, NULL), message);
	else if (message->socket)
		end_poll(server, message, answers);
	else
		broadcast_outcome(answer_new(answers, message->request), message->outcome);
}

/* What a message is answered besides its commits' frames. */
static void
end_answers(struct server *server, struct commit_result *result, struct answer **answers)
{
	for (struct message *m = result->answered; m; m = m->next) {
		if (!is_by_websocket(m)) {
			end_other(server, m, answers);
			continue;
		}
		struct answer *answer = m->socket->answer;
		buffer_add(&answer->body, m->reply.at, m->reply.len);
		phoenix_outcome(&answer->body, (int)m->socket->row.format, m);
		m->socket->answer = NULL;
	}
}

void
deliver_result(struct server *server, struct commit_result *result, struct answer **answers)
{
	struct groups groups = {0};
	begin_answers(result, answers);
	for (size_t i = 0; i < result->delivery_count; i++) {
		const struct delivery *delivery = &result->deliveries[i];
		struct socket *socket = delivery->socket;
		bool last =
			i + 1 == result->delivery_count || result->deliveries[i + 1].record != delivery->record;
		bool answered = socket->answer != NULL;
		if (answered)
			answer_add_unit(socket->answer, &server->key, delivery);
		if (socket->link && (!answered || delivery->by_link))
			group_add(&groups, &server->key, delivery);
		else if (!answered && !socket->ended)
			engine_undelivered(server->engine, delivery);
		if (last)
			groups_send(&groups, delivery->record);
	}
	for (size_t i = 0; i < result->catch_up_count; i++)
		catch_up_send(&server->key, result->catch_ups[i]);
	for (size_t i = 0; i < result->woken_count; i++)
		link_wake(result->woken[i].link, result->woken[i].handle);
	end_answers(server, result, answers);
	free(groups.at);
}
