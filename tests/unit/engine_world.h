/*
 * engine_world - an engine with everything around it made up: nginx workers, links, clients
 *
 * A gateway here is what nginx's module is there: for each socket a position, units that are held back, one
 * request at a time that is sent again until its answer is complete.  Everything between gateway and
 * engine is a queue, so that a test decides what arrives when, and what breaks.
 *
 * A client applies what it is sent as real clients do, and notes whatever they could not bear.
 */
#ifndef ENGINE_WORLD_H
#define ENGINE_WORLD_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buffer.h"
#include "engine.h"
#include "engine_internal.h"
#include "json.h"
#include "memory.h"
#include "patch.h"
#include "phoenix.h"
#include "resume.h"
#include "tap.h"

/* --- the channels --- */

static json_object *
world_get(json_object *object, const char *member)
{
	json_object *value = NULL;
	json_object_object_get_ex(object, member, &value);
	return value;
}

static const char *
world_text(json_object *object, const char *member)
{
	json_object *value = world_get(object, member);
	return value ? json_object_get_string(value) : NULL;
}

static enum seance_status
world_authorize(struct seance_call *call, const char *topic, json_object *payload)
{
	const char *how = world_text(payload, "authorize");
	(void)topic;
	if (how && strcmp(how, "refuse") == 0)
		return seance_refuse(call, "no");
	if (how && strcmp(how, "crash") == 0)
		return seance_crash(call, "asked to");
	if (how && strcmp(how, "assign") == 0)
		seance_assign(call, "who", json_object_new_string("them"));
	return SEANCE_OK;
}

static enum seance_status
world_init(struct seance_call *call, const char *topic, json_object *payload)
{
	const char *how = world_text(payload, "init");
	json_object *pad = world_get(payload, "pad");
	(void)topic;
	if (how && strcmp(how, "refuse") == 0)
		return seance_refuse(call, "you stink");
	if (how && strcmp(how, "crash") == 0)
		return seance_crash(call, "asked to");
	json_object *state = seance_json("{\"count\":0,\"ids\":[]}");
	if (pad) {
		size_t len = (size_t)json_object_get_int(pad);
		char *text = memory_alloc(len);
		memset(text, 'x', len);
		json_object_object_add(state, "pad", json_object_new_string_len(text, (int)len));
		free(text);
	}
	if (world_get(seance_assigns(call), "who"))
		json_object_object_add(state, "who", json_object_get(world_get(seance_assigns(call), "who")));
	return seance_set_state(call, state);
}

/* "add": {"id"} joins the list; others are told by an event. */
static enum seance_status
world_add(struct seance_call *call, json_object *payload, json_object *state)
{
	json_object *count = world_get(state, "count");
	json_object *id = world_get(payload, "id");
	if (world_get(payload, "push"))
		seance_push(call, "pushed", json_object_get(id));
	if (world_get(payload, "reply"))
		seance_reply(call, "replied", json_object_get(id));
	seance_add(call, json_object_get(id), "/ids/-");
	return seance_replace(call, json_object_new_int64(json_object_get_int64(count) + 1), "/count");
}

static enum seance_status
world_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	if (strcmp(event, "add") == 0)
		return world_add(call, payload, state);
	if (strcmp(event, "set") == 0)
		return seance_set_state(call, json_object_get(payload));
	if (strcmp(event, "clear") == 0)
		return seance_set_state(call, seance_json("{\"count\":0,\"ids\":[]}"));
	if (strcmp(event, "quiet") == 0)
		return SEANCE_OK;
	if (strcmp(event, "assign") == 0)
		return seance_assign(call, "who", json_object_get(payload));
	if (strcmp(event, "who") == 0)
		return seance_reply(call, "who", json_object_get(seance_assigns(call)));
	if (strcmp(event, "odd") == 0) /* refused unless the count is odd: state decides */
		return json_object_get_int64(world_get(state, "count")) % 2 == 0
		           ? seance_refuse(call, "even")
		           : world_add(call, payload, state);
	world_add(call, payload, state); /* leaves no trace */
	if (strcmp(event, "refuse") == 0)
		return seance_refuse(call, "refused");
	return seance_crash(call, "event %s", event);
}

static const struct seance_channel world_private = {
	.topic = "private:*",
	.authorize = world_authorize,
	.init = world_init,
	.handle_event = world_event,
};
static const struct seance_channel world_shared = {
	.topic = "shared:*",
	.scope = SEANCE_SHARED,
	.authorize = world_authorize,
	.init = world_init,
	.handle_event = world_event,
	.max_version = 10,
};
static const struct seance_channel *const world_channels[] = {&world_private, &world_shared, NULL};

/* --- hooks --- */

static bool world_verbose;

static bool
world_run_begin(void *context, const char *token, int64_t number, int *slot)
{
	(void)context, (void)token, (void)number, (void)slot;
	return true;
}

static void
world_run_end(void *context, int slot)
{
	(void)context, (void)slot;
}

static void
world_log(void *context, const char *line)
{
	(void)context;
	if (world_verbose)
		printf("# log: %s\n", line);
}

static const struct engine_hooks world_hooks = {
	.run_begin = world_run_begin,
	.run_end = world_run_end,
	.log = world_log,
};

static struct engine_limits
world_limits(void)
{
	return (struct engine_limits){
		.sockets = 1000,
		.sockets_per_address = 1000,
		.joins_per_socket = 100,
		.state_bytes = 10000000,
		.cache_bytes = 100000000,
		.catch_up_bytes = 4096,
		.log_rows = 100000,
		.grace_ms = 3600000,
		.marks_ms = 3600000,
	};
}

/* --- a client --- */

enum { WORLD_TOPICS = 8 };

struct client_join {
	char topic[32];
	char join_ref[16]; /* JSON */
	char before[16];   /* the one that a join is to replace */
	bool wanted;       /* phx_join sent and not left */
	bool joined;       /* its state is there */
	json_object *state;
	int64_t version;
	int patches;
	json_object *pushed; /* events that came: id -> how often */
	size_t base;         /* ids in the state before its first event could come */
};

struct client {
	struct client_join joins[WORLD_TOPICS];
	int join_count;
	int format;
	unsigned max_version; /* of shared topics */
	json_object *frames;  /* all that came */
	const char *trouble;  /* what it could not bear; NULL: nothing */
	char trouble_frame[400];
	int replies; /* of pushed messages: phx_reply with a ref */
};

static struct client_join *
client_find(struct client *client, const char *topic)
{
	for (int i = 0; i < client->join_count; i++)
		if (strcmp(client->joins[i].topic, topic) == 0)
			return &client->joins[i];
	assert(client->join_count < WORLD_TOPICS);
	struct client_join *join = &client->joins[client->join_count++];
	memset(join, 0, sizeof(*join));
	snprintf(join->topic, sizeof(join->topic), "%s", topic);
	return join;
}

static void
client_trouble(struct client *client, const char *what, json_object *frame)
{
	if (client->trouble)
		return;
	client->trouble = what;
	snprintf(client->trouble_frame, sizeof(client->trouble_frame), "%s", json_text(frame, NULL));
}

static size_t
client_ids(const struct client_join *join)
{
	json_object *ids = world_get(join->state, "ids");
	return ids ? json_object_array_length(ids) : 0;
}

/* Events that came before the state, or have been cleared, are not looked for. */
static void
client_base(struct client_join *join)
{
	size_t ids = client_ids(join);
	if (!join->joined || ids < join->base)
		join->base = ids;
}

static void
client_pushed(struct client_join *join, json_object *payload)
{
	const char *name = world_text(payload, "name");
	const char *id = json_text(world_get(payload, "detail"), NULL);
	if (!name || strcmp(name, "pushed") != 0)
		return;
	if (!join->pushed)
		join->pushed = json_object_new_object();
	int64_t before = json_object_get_int64(world_get(join->pushed, id));
	json_object_object_add(join->pushed, id, json_object_new_int64(before + 1));
}

static void
client_state(struct client *client, struct client_join *join, json_object *frame, json_object *payload)
{
	if (!join->wanted)
		client_trouble(client, "a state of what is not joined", frame);
	json_object_put(join->state);
	join->state = json_copy(world_get(payload, "state"));
	join->version = json_object_get_int64(world_get(payload, "version"));
	client_base(join);
	join->joined = true;
}

static void
client_patch(struct client *client, struct client_join *join, json_object *frame, json_object *payload)
{
	int64_t version = json_object_get_int64(world_get(payload, "version"));
	int64_t max = strncmp(join->topic, "shared", 6) == 0 ? 10 : (int64_t)SEANCE_MAX_VERSION;
	if (!join->joined) {
		client_trouble(client, "a patch before the state", frame);
		return;
	}
	if (version != (join->version >= max ? 0 : join->version + 1)) {
		client_trouble(client, "a version is not the next one", frame);
		return;
	}
	if (!patch_apply(&join->state, world_get(payload, "operations")))
		client_trouble(client, "a patch that cannot be applied", frame);
	client_base(join);
	join->version = version;
	join->patches++;
}

static void
client_ended(struct client_join *join)
{
	join->wanted = join->joined = false;
}

/* A join was refused: the one before it has ended too, unless the store could not take it. */
static void
client_refused(struct client_join *join, json_object *payload)
{
	const char *reason = world_text(world_get(payload, "response"), "reason");
	if (reason && strstr(reason, "store"))
		strcpy(join->join_ref, join->before);
	else
		client_ended(join);
}

/* A frame of version 2, seance vocabulary. */
static void
client_frame(struct client *client, const char *text, size_t len)
{
	json_object *frame = NULL;
	if (!json_parse(text, len, &frame, NULL)) {
		client->trouble = "not JSON";
		return;
	}
	json_object_array_add(client->frames, frame);
	const char *topic = json_object_get_string(json_object_array_get_idx(frame, 2));
	const char *event = json_object_get_string(json_object_array_get_idx(frame, 3));
	const char *join_ref = json_text(json_object_array_get_idx(frame, 0), NULL);
	json_object *payload = json_object_array_get_idx(frame, 4);
	if (strcmp(topic, "phoenix") == 0)
		return;
	struct client_join *join = client_find(client, topic);
	bool current = strcmp(join_ref, join->join_ref) == 0;
	if (strcmp(event, "phx_reply") == 0) {
		client->replies++;
		const char *ref = json_text(json_object_array_get_idx(frame, 1), NULL);
		if (strcmp(ref, join->join_ref) == 0 && strcmp(world_text(payload, "status"), "error") == 0)
			client_refused(join, payload);
	} else if (strcmp(event, "seance:change") == 0) {
		client_state(client, join, frame, payload);
	} else if (strcmp(event, "seance:patch") == 0) {
		client_patch(client, join, frame, payload);
	} else if (strcmp(event, "seance:event") == 0) {
		client_pushed(join, payload);
	} else if (strcmp(event, "phx_close") == 0 || strcmp(event, "phx_error") == 0 ||
	           strcmp(event, "seance:error") == 0) {
		if (current)
			client_ended(join);
	}
}

/* --- the gateway: one socket of a worker --- */

struct unit {
	int64_t after, cursor;
	struct buffer body; /* websocket_events */
	bool catch_up;
	struct unit *next;
};

struct answer_box { /* one that is on its way */
	struct unit *units;
	struct buffer rest;
	bool complete; /* false: the connection breaks before its end */
	bool lost;
};

struct request {
	struct gateway *gateway;
	int64_t number, position;
	bool broken;  /* its connection has ended on the gateway's side */
	bool dropped; /* by the program */
	bool answered;
	struct unit *units, *units_last;
	struct buffer rest;
	struct request *next;
};

struct gateway {
	char token[64];
	struct client client;
	int64_t position;
	struct unit *held; /* by after */
	int held_count, held_max;
	bool refilling;
	bool asks;   /* behind and drained are to be sent */
	bool behind; /* the client reads slowly */
	bool closed; /* by the program */

	int64_t number;          /* of the message in flight, or the last */
	char *frame;             /* in flight; NULL: none */
	struct request *request; /* the copy that counts; NULL: to be sent */
	struct request *answer;  /* being written; units are popped */
	int resent;
	bool linked;
	bool announced; /* its link has told the program of it */
};

static void
unit_free(struct unit *unit)
{
	if (!unit)
		return;
	buffer_release(&unit->body);
	free(unit);
}

static void
gateway_write(struct gateway *g, const char *bytes, size_t len)
{
	const char *at = bytes, *end = bytes + len;
	while (at < end) {
		char *line_end;
		const char *space = memchr(at, ' ', (size_t)(end - at));
		bool text = strncmp(at, "TEXT ", 5) == 0;
		size_t size = strtoul(space + 1, &line_end, 16);
		const char *body = line_end + 2;
		if (text && !g->closed)
			client_frame(&g->client, body, size);
		else
			g->closed = true;
		at = body + size + 2;
	}
}

static void
gateway_drop_held(struct gateway *g)
{
	while (g->held) {
		struct unit *unit = g->held;
		g->held = unit->next;
		unit_free(unit);
	}
	g->held_count = 0;
}

static void
gateway_overflow(struct gateway *g)
{
	gateway_drop_held(g);
	g->refilling = true;
	g->asks = true;
}

/* Taken: a unit whose time has come, or is past. */
static void
gateway_take(struct gateway *g, struct unit *unit)
{
	if (world_verbose)
		printf("# %.6s at %d: unit (%d, %d) %s: %.300s\n", g->token, (int)g->position, (int)unit->after,
		       (int)unit->cursor, unit->cursor > g->position ? "written" : "dropped",
		       buffer_text(&unit->body));
	if (unit->catch_up && unit->cursor > g->position && unit->after != g->position) {
		gateway_overflow(g);
	} else if (unit->cursor > g->position) {
		gateway_write(g, unit->body.at, unit->body.len);
		g->position = unit->cursor;
		g->refilling = false;
	}
	unit_free(unit);
}

static void
request_free(struct request *request)
{
	while (request->units) {
		struct unit *unit = request->units;
		request->units = unit->next;
		unit_free(unit);
	}
	buffer_release(&request->rest);
	free(request);
}

/* As seance_order_settle. */
static void
gateway_settle(struct gateway *g)
{
	bool more = true;
	while (more && !g->closed) {
		more = false;
		if (g->held && g->held->after <= g->position) {
			struct unit *unit = g->held;
			g->held = unit->next;
			g->held_count--;
			gateway_take(g, unit);
			more = true;
		}
		struct request *a = g->answer;
		if (a && a->units && a->units->after <= g->position) {
			struct unit *unit = a->units;
			a->units = unit->next;
			gateway_take(g, unit);
			more = true;
		} else if (a && a->units && a->units->cursor <= g->position) {
			struct unit *unit = a->units;
			a->units = unit->next;
			unit_free(unit);
			more = true;
		} else if (a && !a->units) {
			gateway_write(g, a->rest.at, a->rest.len);
			request_free(a);
			g->answer = NULL;
			free(g->frame);
			g->frame = NULL;
			more = true;
		}
	}
}

/* A unit from the link. */
static void
gateway_unit(struct gateway *g, struct unit *unit)
{
	struct unit **place = &g->held;
	if (g->closed || g->behind || unit->cursor <= g->position) {
		unit_free(unit);
		return;
	}
	if (unit->after <= g->position) {
		gateway_take(g, unit);
		gateway_settle(g);
		return;
	}
	if (g->refilling || g->held_count >= g->held_max) {
		unit_free(unit);
		if (!g->refilling)
			gateway_overflow(g);
		return;
	}
	while (*place && (*place)->after <= unit->after)
		place = &(*place)->next;
	unit->next = *place;
	*place = unit;
	g->held_count++;
}

static void
gateway_init(struct gateway *g, const char *token)
{
	*g = (struct gateway){.held_max = 1000, .linked = false};
	snprintf(g->token, sizeof(g->token), "%s", token);
	g->client.frames = json_object_new_array();
}

static void
gateway_release(struct gateway *g)
{
	gateway_drop_held(g);
	if (g->answer)
		request_free(g->answer);
	free(g->frame);
	for (int i = 0; i < g->client.join_count; i++) {
		json_object_put(g->client.joins[i].state);
		json_object_put(g->client.joins[i].pushed);
	}
	json_object_put(g->client.frames);
	*g = (struct gateway){0};
}

/* --- to the engine --- */

static bool
world_alive(void *request)
{
	return !((struct request *)request)->broken;
}

static const struct token_key world_key = {"signs what one comes back with"};

static struct request *world_exchanged; /* SUBMIT_REPEATED: the request that was dropped */

/* Hands a message to the engine as fcgi/serve.c does.  frame: text.  request: taken. */
static enum submit
world_submit(struct engine *engine, struct request *request, const char *frame)
{
	struct gateway *g = request->gateway;
	struct buffer reply = {0};
	const char *why;
	void *old = NULL;
	struct socket *socket = engine_find(engine, g->token);
	if (!socket) {
		g->closed = true;
		request->dropped = true;
		return SUBMIT_STALE;
	}
	struct message *message = message_new(socket);
	bool parsed =
		phoenix_parse((int)socket->row.format, false, frame, strlen(frame), message, &reply, &why);
	assert(parsed);
	resume_read(&world_key, message);
	message->request = request;
	message->number = request->number;
	buffer_add(&request->rest, reply.at, reply.len);
	buffer_release(&reply);
	if (world_verbose)
		printf("# submit %.6s number %d at %d%s: %.200s\n", g->token, (int)request->number,
		       (int)request->position, request->broken ? " broken" : "", frame);
	enum submit result = engine_submit(engine, message, request->position, world_alive, &old);
	if (result == SUBMIT_STALE) {
		request->dropped = true;
		message_free(message);
	} else if (result == SUBMIT_REPEATED) {
		world_exchanged = old;
		world_exchanged->dropped = true;
	}
	return result;
}

static struct unit *
unit_of(const struct delivery *delivery, int *frames)
{
	const struct socket *socket = delivery->socket;
	const struct store_record *row = &delivery->record->row;
	struct unit *unit = memory_zeroed(1, sizeof(*unit));
	unit->after = delivery->after;
	unit->cursor = row->number;
	const struct phoenix_client to = {.format = (int)socket->row.format,
	                                  .own = row->socket == socket->row.id,
	                                  .wants = delivery->wants,
	                                  .key = &world_key};
	int count = phoenix_commit(&unit->body, &to, delivery->record);
	if (frames)
		*frames = count;
	return unit;
}

static void
request_add_unit(struct request *request, struct unit *unit)
{
	if (request->units_last)
		request->units_last->next = unit;
	else
		request->units = unit;
	request->units_last = unit;
}

/*
 * As fcgi/deliver.c: into answers, or to `link`, a function that takes the unit; false: no link.
 * answered is called for each answered request.
 */
struct world_ways {
	void *context;
	bool (*link)(void *context, struct socket *socket, struct unit *unit);
	void (*answered)(void *context, struct request *request);
};

static void
world_deliver(struct engine *engine, struct commit_result *result, const struct world_ways *ways)
{
	for (struct message *m = result->answered; m; m = m->next)
		m->socket->answer = m->request;
	for (size_t i = 0; i < result->delivery_count; i++) {
		const struct delivery *delivery = &result->deliveries[i];
		struct socket *socket = delivery->socket;
		struct unit *unit = unit_of(delivery, NULL);
		if (world_verbose)
			printf("# deliver %.6s (%d, %d) %s\n", socket->row.token, (int)unit->after,
			       (int)unit->cursor,
			       socket->answer ? "in its answer"
			       : socket->link ? "by link"
			                      : "not");
		bool answered = socket->answer != NULL;
		if (answered) {
			request_add_unit(socket->answer, unit);
			if (!delivery->by_link)
				continue;
			unit = unit_of(delivery, NULL);
		}
		if (socket->link && ways->link(ways->context, socket, unit))
			continue;
		unit_free(unit);
		if (!answered && !socket->ended)
			engine_undelivered(engine, delivery);
	}
	for (size_t i = 0; i < result->catch_up_count; i++) {
		const struct catch_up *catch_up = result->catch_ups[i];
		struct unit *unit = memory_zeroed(1, sizeof(*unit));
		unit->after = catch_up->after;
		unit->cursor = catch_up->cursor;
		unit->catch_up = true;
		phoenix_catch_up(&unit->body, NULL, catch_up);
		if (!ways->link(ways->context, catch_up->socket, unit))
			unit_free(unit);
	}
	for (struct message *m = result->answered; m; m = m->next) {
		struct request *request = m->request;
		phoenix_outcome(&request->rest, (int)m->socket->row.format, m);
		request->answered = true;
		m->socket->answer = NULL;
	}
	for (struct message *m = result->answered; m; m = m->next)
		ways->answered(ways->context, m->request);
}

#endif
