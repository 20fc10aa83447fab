/*
 * engine_bench - an engine and a few gateways, led step by step
 *
 * What goes between them lies in the bench until the test lets it arrive: a request (send, arrive),
 * an answer (commit, answer), units by the link (commit, link).  bench_say does all of it.
 */
#ifndef ENGINE_BENCH_H
#define ENGINE_BENCH_H

#include "engine_world.h"

#pragma GCC diagnostic ignored "-Wunused-function" /* each test uses some */

enum { BENCH_GATEWAYS = 8 };

struct bench_way {
	struct request *inbox;  /* sent, not with the program yet */
	struct request *outbox; /* answered, not with the gateway yet */
	struct unit *units, *units_last;
	int unit_count;
	int overflows;
	uint64_t handle;
};

struct bench {
	struct engine *engine;
	struct engine_limits limits;
	char folder[64], path[96]; /* "" : in memory */
	struct store *faulty;
	struct gateway g[BENCH_GATEWAYS];
	struct bench_way way[BENCH_GATEWAYS];
	int count;
	int link; /* its address stands for the link */
	enum submit submitted;
	enum message_outcome outcome; /* of the message answered last */
	int closed;                   /* by house-keeping */
	const struct seance_channel *const *channels;
	seance_connect_fn *on_connect;
};

static void
bench_start(struct bench *b)
{
	char *error = NULL;
	struct store *store =
		b->path[0] ? store_open_sqlite(b->path, STORE_NORMALLY, &error) : store_open_memory();
	assert(store);
	b->faulty = store_open_faulty(store);
	b->engine = engine_open(b->faulty, &b->limits, &world_hooks, b->on_connect,
	                        b->channels ? b->channels : world_channels);
	engine_lock(b->engine);
	ok(engine_restore(b->engine), "  (restored)");
}

/* channels: NULL: world_channels */
static void
bench_open_with(struct bench *b, bool file, const struct seance_channel *const *channels)
{
	*b = (struct bench){.limits = world_limits(), .channels = channels};
	if (file) {
		snprintf(b->folder, sizeof(b->folder), "/tmp/seance_bench_XXXXXX");
		if (!mkdtemp(b->folder))
			abort();
		snprintf(b->path, sizeof(b->path), "%s/seance.db", b->folder);
	}
	bench_start(b);
}

static void
bench_open(struct bench *b, bool file)
{
	bench_open_with(b, file, NULL);
}

static void
bench_drop_units(struct bench *b, int i)
{
	while (b->way[i].units) {
		struct unit *unit = b->way[i].units;
		b->way[i].units = unit->next;
		unit_free(unit);
	}
	b->way[i].units_last = NULL;
	b->way[i].unit_count = 0;
}

static void
bench_drop_request(struct request **request)
{
	if (!*request)
		return;
	if ((*request)->gateway->request == *request)
		(*request)->gateway->request = NULL;
	request_free(*request);
	*request = NULL;
}

/* killed: nothing is written any more. */
static void
bench_stop(struct bench *b, bool killed)
{
	store_fail_at(b->faulty, killed, STORE_ERROR);
	engine_unlock(b->engine);
	engine_close(b->engine);
	b->engine = NULL;
	for (int i = 0; i < b->count; i++) {
		bench_drop_request(&b->way[i].inbox);
		bench_drop_units(b, i);
	}
}

static void
bench_restart(struct bench *b, bool killed)
{
	bench_stop(b, killed);
	bench_start(b);
}

static void
bench_close(struct bench *b)
{
	char command[200];
	if (b->engine)
		bench_stop(b, false);
	for (int i = 0; i < b->count; i++) {
		if (b->g[i].client.trouble)
			printf("# %s: %s\n", b->g[i].client.trouble, b->g[i].client.trouble_frame);
		ok(!b->g[i].client.trouble, "  (client %d had no trouble)", i);
		bench_drop_request(&b->way[i].outbox);
		if (b->g[i].request) /* with the program when that was dropped */
			request_free(b->g[i].request);
		gateway_release(&b->g[i]);
	}
	snprintf(command, sizeof(command), "rm -r '%s'", b->folder);
	if (b->path[0] && system(command) != 0)
		printf("# %s is left\n", b->folder);
}

static int
bench_index(struct bench *b, const char *token)
{
	for (int i = 0; i < b->count; i++)
		if (strcmp(b->g[i].token, token) == 0)
			return i;
	return -1;
}

static bool
bench_link_unit(void *context, struct socket *socket, struct unit *unit)
{
	struct bench *b = context;
	int i = bench_index(b, socket->row.token);
	if (i < 0)
		return false;
	if (b->way[i].units_last)
		b->way[i].units_last->next = unit;
	else
		b->way[i].units = unit;
	b->way[i].units_last = unit;
	b->way[i].unit_count++;
	return true;
}

static void
bench_answered(void *context, struct request *request)
{
	struct bench *b = context;
	int i = (int)(request->gateway - b->g);
	if (request->broken) {
		request_free(request);
		return;
	}
	bench_drop_request(&b->way[i].outbox);
	b->way[i].outbox = request;
}

static void
bench_commit(struct bench *b)
{
	struct commit_result result;
	struct world_ways ways = {b, bench_link_unit, bench_answered};
	engine_commit(b->engine, &result);
	for (struct message *m = result.answered; m; m = m->next)
		b->outcome = m->outcome;
	world_deliver(b->engine, &result, &ways);
	commit_result_release(&result);
}

/* A new client; its worker holds it unless told otherwise. */
static void
bench_held(struct bench *b, int i)
{
	b->way[i].handle++;
	if (!engine_held(b->engine, b->g[i].token, &b->link, b->way[i].handle * 100 + (uint64_t)i,
	                 b->g[i].position))
		b->g[i].closed = true;
	b->g[i].refilling = false;
}

static int
bench_connect_unheld(struct bench *b)
{
	struct engine_client client = {.address = "127.0.0.1", .format = 0};
	struct socket *socket = NULL;
	if (engine_connect(b->engine, &client, &socket) != CONNECT_OK)
		return -1;
	bench_commit(b);
	bool stored = engine_stored(socket) && !socket->ended;
	if (stored)
		gateway_init(&b->g[b->count], socket->row.token);
	engine_release(socket);
	return stored ? b->count++ : -1;
}

static int
bench_connect(struct bench *b)
{
	int i = bench_connect_unheld(b);
	if (i >= 0)
		bench_held(b, i);
	return i;
}

static void
bench_unlink(struct bench *b)
{
	for (int i = 0; i < b->count; i++)
		bench_drop_units(b, i);
	engine_unlinked(b->engine, &b->link, INT64_MAX);
}

/* The gateway sends its message, or sends it again: on a new connection, after closing the old one. */
static void
bench_send(struct bench *b, int i, const char *frame)
{
	struct gateway *g = &b->g[i];
	struct request *request = memory_zeroed(1, sizeof(*request));
	if (frame) {
		assert(!g->frame);
		g->frame = memory_strdup(frame);
		g->number++;
		char text[32], join_ref[16];
		json_object *json = json_read(frame);
		if (strcmp(json_object_get_string(json_object_array_get_idx(json, 3)), "phx_join") == 0) {
			snprintf(text, sizeof(text), "%s",
			         json_object_get_string(json_object_array_get_idx(json, 2)));
			snprintf(join_ref, sizeof(join_ref), "%s",
			         json_text(json_object_array_get_idx(json, 0), NULL));
			struct client_join *join = client_find(&g->client, text);
			strcpy(join->before, join->join_ref);
			strcpy(join->join_ref, join_ref);
			join->wanted = true;
		}
		json_object_put(json);
	} else if (g->request) {
		g->request->broken = true;
	}
	request->gateway = g;
	request->number = g->number;
	request->position = g->position;
	g->request = request;
	b->way[i].inbox = request;
}

static void
bench_take(struct bench *b, struct request *request)
{
	struct gateway *g = request->gateway;
	b->submitted = world_submit(b->engine, request,
	                            g->frame ? g->frame : "[null,\"0\",\"phoenix\",\"heartbeat\",{}]");
	if (b->submitted == SUBMIT_STALE)
		bench_drop_request(&request);
	if (b->submitted == SUBMIT_REPEATED)
		request_free(world_exchanged);
}

static void
bench_arrive(struct bench *b, int i)
{
	struct request *request = b->way[i].inbox;
	b->way[i].inbox = NULL;
	if (request)
		bench_take(b, request);
}

static void
bench_answer(struct bench *b, int i)
{
	struct request *request = b->way[i].outbox;
	b->way[i].outbox = NULL;
	if (!request)
		return;
	b->g[i].request = NULL;
	b->g[i].answer = request;
	gateway_settle(&b->g[i]);
}

static void
bench_lose_answer(struct bench *b, int i)
{
	bench_drop_request(&b->way[i].outbox);
}

/* The next n units of the link arrive; -1: all. */
static void
bench_link(struct bench *b, int i, int n)
{
	struct bench_way *way = &b->way[i];
	while (way->units && n--) {
		struct unit *unit = way->units;
		way->units = unit->next;
		if (!way->units)
			way->units_last = NULL;
		way->unit_count--;
		unit->next = NULL;
		gateway_unit(&b->g[i], unit);
		if (b->g[i].asks) {
			struct socket *socket = engine_find(b->engine, b->g[i].token);
			b->g[i].asks = false;
			way->overflows++;
			engine_behind(b->engine, socket, b->g[i].position);
			engine_drained(b->engine, socket, b->g[i].position);
		}
	}
}

static void
bench_all(struct bench *b)
{
	bench_commit(b);
	for (int i = 0; i < b->count; i++)
		bench_answer(b, i);
	for (int i = 0; i < b->count; i++)
		bench_link(b, i, -1);
}

/* Until the program has nothing left to do now. */
static void
bench_settle(struct bench *b)
{
	for (int turns = 0; turns < 10000; turns++) {
		engine_post(b->engine);
		if (!b->engine->staged_count && !b->engine->posts_look)
			break;
		bench_all(b);
	}
}

static void
bench_say(struct bench *b, int i, const char *frame)
{
	bench_send(b, i, frame);
	bench_arrive(b, i);
	bench_all(b);
}

/* A client's next message, with a reference of its own, is staged; what follows a join has the join's as well. */
static void
bench_push(struct bench *b, int i, const char *topic, const char *event, const char *payload)
{
	static int ref = 10;
	const char *join_ref = client_find(&b->g[i].client, topic)->join_ref;
	char frame[1500], own[16];
	snprintf(own, sizeof(own), "\"%d\"", ref);
	snprintf(frame, sizeof(frame), "[%s,\"%d\",\"%s\",\"%s\",%s]",
	         strcmp(event, "phx_join") == 0 ? own : join_ref, ref, topic, event, payload);
	ref++;
	bench_send(b, i, frame);
	bench_arrive(b, i);
}

/* What house-keeping waits for is due now. */
static void
bench_time_passes(struct bench *b)
{
	b->engine->marked_ms -= 10000;
	b->engine->retry_ms = 0;
	for (struct instance *i = b->engine->due_first; i; i = i->due_next) {
		i->due_ms = 1;
		i->changed_ms -= 10000;
	}
}

/* --- what is there now --- */

static const struct instance *
bench_instance(struct bench *b, int i, const char *topic)
{
	struct socket *socket = engine_find(b->engine, b->g[i].token);
	struct join *join = socket ? socket_join(socket, topic) : NULL;
	return join && instance_load(b->engine, join->instance) ? join->instance : NULL;
}

/* Does the client have what the server has?  A client that is not joined has nothing. */
static bool
bench_same(struct bench *b, int i, const char *topic)
{
	const struct instance *instance = bench_instance(b, i, topic);
	const struct client_join *join = client_find(&b->g[i].client, topic);
	if (b->g[i].client.trouble || b->g[i].frame || b->g[i].held || !instance != !join->joined)
		return false;
	return !instance ||
	       (instance->version == join->version && json_equal(instance->edit.document, join->state));
}

static int64_t
bench_count(struct bench *b, int i, const char *topic)
{
	return json_object_get_int64(world_get(client_find(&b->g[i].client, topic)->state, "count"));
}

/* How many frames of an event did the client get? */
static int
bench_frames(struct bench *b, int i, const char *event)
{
	int count = 0;
	json_object *frames = b->g[i].client.frames;
	for (size_t j = 0; j < json_object_array_length(frames); j++)
		count += strcmp(json_object_get_string(
							json_object_array_get_idx(json_object_array_get_idx(frames, j), 3)),
		                event) == 0;
	return count;
}

static const char *
bench_last(struct bench *b, int i)
{
	json_object *frames = b->g[i].client.frames;
	size_t len = json_object_array_length(frames);
	return len ? json_text(json_object_array_get_idx(frames, len - 1), NULL) : "";
}

#endif
