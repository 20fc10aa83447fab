/*
 * test_model - a random walk through everything that can happen between clients, workers, program and store
 *
 *   test_model [SEED [STEPS]]     MODEL_STEPS=N in the environment is for a long hunt
 *
 * Simulated clients speak through simulated nginx workers to a real engine on a SQLite file.  Requests
 * and links break, the program is killed and starts anew, writes fail, the log is pruned, another process
 * commits.  Every now and then all comes to rest, and each client must have what the server has,
 * each message its one answer, each event its one effect.
 */
#include "engine_world.h"

#include <fcntl.h>
#include <time.h>

enum { WORKERS = 2, SOCKETS = 6, TOPICS = 4, QUIET_EVERY = 150, IDS = 1000000 };

static const char *const topics[TOPICS] = {"private:a", "private:b", "shared:a", "shared:b"};

/* --- chance --- */

static uint64_t chance_state;

static unsigned
chance(unsigned below)
{
	chance_state ^= chance_state << 13;
	chance_state ^= chance_state >> 7;
	chance_state ^= chance_state << 17;
	return (unsigned)((chance_state >> 33) % below);
}

static bool
one_in(unsigned n)
{
	return chance(n) == 0;
}

/* --- the model --- */

enum up_kind { UP_HELLO, UP_HELD, UP_CLOSED, UP_BEHIND, UP_DRAINED, UP_GONE };

struct up {
	enum up_kind kind;
	char token[64];
	uint64_t handle;
	int64_t position;
	struct link_end *link;
	struct up *next;
};

struct down {
	uint64_t handle;
	struct unit *unit; /* NULL: close */
	struct down *next;
};

/* A link's connection: what the engine knows as void *link. */
struct link_end {
	int worker, serial;
	bool open; /* both ends are there */
	bool told_gone;
	struct up *up, *up_last;
	struct down *down, *down_last;
	struct link_end *next;
};

/* What a client has sent and how its answer is to be told. */
struct sent {
	enum { SENT_ADD, SENT_NEVER, SENT_CRASH, SENT_ONE_REPLY, SENT_AT_MOST } kind;
	int ref, id;
	struct sent *next;
};

struct peer {
	struct gateway g;
	bool used;
	int worker;
	uint64_t handle;
	int refs;
	struct sent *sent;
	bool dead_worker;
};

struct model {
	char folder[64], path[96];
	struct engine *engine;
	struct store *faulty;
	struct peer peers[SOCKETS];
	struct link_end *links; /* all that the engine may not know to be gone */
	struct link_end *link_of[WORKERS];
	struct request *requests; /* all that are with the program or on their way back */
	uint64_t handles;
	int ids, serials;
	int64_t pruned;
	int closings, kills, commits, checks, catch_ups;
	bool pushed[IDS]; /* by id: everybody joined is to be told */
	const char *trouble;
	char detail[1000];
	bool calm;
	int64_t step;
};

static struct model model;

__attribute__((format(printf, 2, 3))) static void
trouble(const char *what, const char *format, ...)
{
	va_list args;
	if (model.trouble)
		return;
	model.trouble = what;
	va_start(args, format);
	vsnprintf(model.detail, sizeof(model.detail), format, args);
	va_end(args);
}

/* --- requests --- */

static void
request_remove(struct request *request)
{
	struct request **at = &model.requests;
	while (*at != request)
		at = &(*at)->next;
	*at = request->next;
	request->next = NULL;
}

/* A copy's connection has ended: is it the one that counts, it is sent again. */
static void
request_lost(struct request *request)
{
	if (request->gateway && request->gateway->request == request)
		request->gateway->request = NULL;
}

/* The program drops the request, or its answer broke. */
static void
request_end(struct request *request)
{
	request_lost(request);
	request_remove(request);
	request_free(request);
}

/* --- in the program: a request is in its inbox, with the engine (position -1), or answered --- */

static void
took_answer(void *context, struct request *request)
{
	(void)context;
	request->answered = true;
}

static bool
link_unit(void *context, struct socket *socket, struct unit *unit)
{
	struct link_end *link = socket->link;
	struct down *down;
	(void)context;
	if (!link->open)
		return false;
	down = memory_zeroed(1, sizeof(*down));
	down->handle = socket->handle;
	down->unit = unit;
	if (link->down_last)
		link->down_last->next = down;
	else
		link->down = down;
	link->down_last = down;
	return true;
}

static const struct world_ways ways = {NULL, link_unit, took_answer};

static void
commit(void)
{
	struct commit_result result;
	engine_commit(model.engine, &result);
	world_deliver(model.engine, &result, &ways);
	commit_result_release(&result);
	model.commits++;
}

/* A request from the inbox into the engine. */
static void
program_takes(void)
{
	struct request *request = NULL;
	int count = 0;
	for (struct request *r = model.requests; r; r = r->next)
		if (!r->answered && r->position >= 0 && one_in((unsigned)++count))
			request = r;
	if (!request)
		return;
	struct gateway *g = request->gateway;
	if (!g) { /* its socket's worker has died */
		request_remove(request);
		request_free(request);
		return;
	}
	if (request->broken && one_in(3)) { /* never read */
		request_end(request);
		return;
	}
	char *frame = g->request == request || g->number == request->number ? g->frame : NULL;
	if (!frame) { /* an old copy of what is answered: its text is not kept here */
		frame = "[null,\"0\",\"phoenix\",\"heartbeat\",{}]";
	}
	enum submit result = world_submit(model.engine, request, frame);
	request->position = -1; /* with the engine */
	if (result == SUBMIT_STALE)
		request_end(request);
	for (struct request *r = model.requests, *next; r; r = next) {
		next = r->next;
		if (r->dropped)
			request_end(r);
	}
}

/* --- gateway --- */

static struct up *
up_new(struct link_end *link, enum up_kind kind, struct peer *peer)
{
	struct up *up = memory_zeroed(1, sizeof(*up));
	up->kind = kind;
	up->link = link;
	if (peer) {
		snprintf(up->token, sizeof(up->token), "%s", peer->g.token);
		up->handle = peer->handle;
		up->position = peer->g.position;
	}
	if (link->up_last)
		link->up_last->next = up;
	else
		link->up = up;
	link->up_last = up;
	return up;
}

static void
tell(struct peer *peer, enum up_kind kind)
{
	struct link_end *link = model.link_of[peer->worker];
	if (!link)
		return;
	if (kind == UP_HELD)
		peer->g.announced = true;
	else if (!peer->g.announced)
		return;
	up_new(link, kind, peer);
}

static void
peer_free(struct peer *peer)
{
	for (struct request *r = model.requests; r; r = r->next)
		if (r->gateway == &peer->g)
			r->gateway = NULL;
	if (peer->g.request && peer->g.request->gateway)
		peer->g.request = NULL;
	gateway_release(&peer->g);
	while (peer->sent) {
		struct sent *sent = peer->sent;
		peer->sent = sent->next;
		free(sent);
	}
	*peer = (struct peer){0};
}

static void
transmit(struct peer *peer)
{
	struct gateway *g = &peer->g;
	if (!g->frame || g->request || g->answer || g->closed)
		return;
	struct request *request = memory_zeroed(1, sizeof(*request));
	request->gateway = g;
	request->number = g->number;
	request->position = g->position;
	request->next = model.requests;
	model.requests = request;
	g->request = request;
}

/* What was held back, or a catch-up that does not fit, was dropped. */
static void
ask(struct peer *peer)
{
	if (!peer->g.asks)
		return;
	peer->g.asks = false;
	tell(peer, UP_BEHIND);
	tell(peer, UP_DRAINED);
}

static void
answer_arrives(void)
{
	struct request *request = NULL;
	int count = 0;
	for (struct request *r = model.requests; r; r = r->next)
		if (r->answered && one_in((unsigned)++count))
			request = r;
	if (!request)
		return;
	struct gateway *g = request->gateway;
	if (!g || request->broken || g->request != request || (!model.calm && one_in(8))) {
		request_end(request); /* the connection broke before the answer's end */
		return;
	}
	request_remove(request);
	g->request = NULL;
	g->answer = request;
	gateway_settle(g);
	for (int i = 0; i < SOCKETS; i++)
		if (&model.peers[i].g == g)
			ask(&model.peers[i]);
}

static void
break_request(void)
{
	struct peer *peer = &model.peers[chance(SOCKETS)];
	if (!peer->used || !peer->g.request)
		return;
	peer->g.request->broken = true;
	peer->g.request = NULL;
}

/* --- links --- */

static struct peer *
peer_by_handle(uint64_t handle)
{
	for (int i = 0; i < SOCKETS; i++)
		if (model.peers[i].used && model.peers[i].handle == handle)
			return &model.peers[i];
	return NULL;
}

static void
down_step(struct link_end *link)
{
	struct down *down = link->down;
	if (!down)
		return;
	link->down = down->next;
	if (!link->down)
		link->down_last = NULL;
	struct peer *peer = peer_by_handle(down->handle);
	if (!peer) {
		unit_free(down->unit);
	} else if (!down->unit) {
		peer->g.closed = true;
	} else {
		model.catch_ups += down->unit->catch_up;
		gateway_unit(&peer->g, down->unit);
		ask(peer);
	}
	free(down);
}

static void
link_connect(int worker)
{
	if (model.link_of[worker] || !model.engine)
		return;
	struct link_end *link = memory_zeroed(1, sizeof(*link));
	link->worker = worker;
	link->serial = ++model.serials;
	link->open = true;
	link->next = model.links;
	model.links = link;
	model.link_of[worker] = link;
	up_new(link, UP_HELLO, NULL);
	for (int i = 0; i < SOCKETS; i++) {
		struct peer *peer = &model.peers[i];
		if (!peer->used || peer->worker != worker || peer->g.closed)
			continue;
		tell(peer, UP_HELD);
		peer->g.refilling = false;
		if (peer->g.behind)
			tell(peer, UP_BEHIND);
	}
}

/* What was written is read to its end; what the program still had to write is lost. */
static void
link_break(int worker)
{
	struct link_end *link = model.link_of[worker];
	if (!link)
		return;
	unsigned keep = chance(4);
	while (link->down && keep--)
		down_step(link);
	while (link->down) {
		struct down *down = link->down;
		link->down = down->next;
		unit_free(down->unit);
		free(down);
	}
	link->down_last = NULL;
	link->open = false;
	model.link_of[worker] = NULL;
	for (int i = 0; i < SOCKETS; i++)
		if (model.peers[i].used && model.peers[i].worker == worker)
			model.peers[i].g.announced = false;
	if (one_in(2)) { /* what the worker wrote last never left it */
		while (link->up) {
			struct up *up = link->up;
			link->up = up->next;
			free(up);
		}
		link->up_last = NULL;
	}
	up_new(link, UP_GONE, NULL);
}

static int64_t
link_lowest(const struct link_end *link)
{
	int64_t floor = INT64_MAX;
	for (const struct down *d = link->down; d; d = d->next)
		if (d->unit && d->unit->cursor < floor)
			floor = d->unit->cursor;
	for (int i = 0; i < SOCKETS; i++) {
		const struct peer *peer = &model.peers[i];
		if (!peer->used || peer->worker != link->worker)
			continue;
		for (const struct unit *u = peer->g.held; u; u = u->next)
			if (peer->g.position + 1 < floor)
				floor = peer->g.position + 1;
		if (peer->g.refilling && peer->g.position + 1 < floor)
			floor = peer->g.position + 1;
	}
	return floor;
}

static void
link_free(struct link_end *link)
{
	struct link_end **at = &model.links;
	while (*at != link)
		at = &(*at)->next;
	*at = link->next;
	free(link);
}

static void
link_gone(struct link_end *link)
{
	engine_unlinked(model.engine, link, link_lowest(link));
	while (link->up) {
		struct up *up = link->up;
		link->up = up->next;
		free(up);
	}
	link_free(link);
}

/* A worker's hello says that its older links have gone, whatever of them is still to be read. */
static void
take_hello(const struct link_end *link)
{
	for (struct link_end *l = model.links, *next; l; l = next) {
		next = l->next;
		if (l->serial < link->serial && l->worker == link->worker)
			link_gone(l);
	}
}

static void
up_step(struct link_end *link)
{
	struct up *up = link->up;
	if (!up)
		return;
	link->up = up->next;
	if (!link->up)
		link->up_last = NULL;
	struct socket *socket;
	switch (up->kind) {
	case UP_HELLO:
		take_hello(link);
		break;
	case UP_HELD:
		if (!engine_held(model.engine, up->token, link, up->handle, up->position) && link->open) {
			struct down *down = memory_zeroed(1, sizeof(*down));
			down->handle = up->handle;
			if (link->down_last)
				link->down_last->next = down;
			else
				link->down = down;
			link->down_last = down;
		}
		break;
	case UP_CLOSED:
		socket = engine_find(model.engine, up->token);
		if (socket && (!socket->link || socket->link == link))
			engine_closed(model.engine, socket);
		break;
	case UP_BEHIND:
	case UP_DRAINED:
		socket = engine_find_handle(model.engine, link, up->handle);
		if (socket && up->kind == UP_BEHIND)
			engine_behind(model.engine, socket, up->position);
		else if (socket)
			engine_drained(model.engine, socket, up->position);
		break;
	case UP_GONE:
		link_gone(link);
		break;
	}
	if (world_verbose)
		printf("# up: %s %.6s at %d\n",
		       up->kind == UP_HELD      ? "held"
		       : up->kind == UP_CLOSED  ? "closed"
		       : up->kind == UP_BEHIND  ? "behind"
		       : up->kind == UP_DRAINED ? "drained"
		                                : "gone",
		       up->token, (int)up->position);
	free(up);
}

static void
random_link(void (*step)(struct link_end *link))
{
	struct link_end *picked = NULL;
	int count = 0;
	for (struct link_end *l = model.links; l; l = l->next)
		if (one_in((unsigned)++count))
			picked = l;
	if (picked)
		step(picked);
}

/* --- the program --- */

static void
start(void)
{
	struct engine_limits limits = world_limits();
	char *error = NULL;
	limits.log_rows = 30;
	limits.catch_up_bytes = one_in(2) ? 1 : 4096;
	limits.cache_bytes = one_in(2) ? 2000 : 1000000;
	struct store *store = store_open_sqlite(model.path, STORE_NORMALLY, &error);
	assert(store);
	model.faulty = store_open_faulty(store);
	model.engine = engine_open(model.faulty, &limits, &world_hooks, NULL, world_channels);
	engine_lock(model.engine);
	if (!engine_restore(model.engine))
		trouble("restore failed", "%s", store_message(model.faulty));
}

/* Nothing is written any more: as if it were killed. */
static void
stop(bool killed)
{
	if (killed)
		store_fail_at(model.faulty, 1, STORE_ERROR);
	else
		store_fail_at(model.faulty, 0, STORE_OK);
	for (int i = 0; i < WORKERS; i++)
		link_break(i);
	while (model.links) {
		struct link_end *link = model.links;
		while (link->up) {
			struct up *up = link->up;
			link->up = up->next;
			free(up);
		}
		link_free(link);
	}
	model.pruned = model.engine->oldest - 1;
	engine_unlock(model.engine);
	engine_close(model.engine);
	model.engine = NULL;
	for (struct request *r = model.requests, *next; r; r = next) {
		next = r->next;
		if (!r->answered || one_in(2))
			request_end(r);
	}
	model.kills++;
	if (world_verbose)
		printf("# --- step %d: %s\n", (int)model.step, killed ? "killed" : "stopped");
}

static void
connect_peer(void)
{
	struct peer *peer = &model.peers[chance(SOCKETS)];
	struct engine_client client = {.address = "127.0.0.1", .format = 0};
	struct socket *socket = NULL;
	if (peer->used)
		return;
	if (engine_connect(model.engine, &client, &socket) != CONNECT_OK) {
		trouble("no connect", "-");
		return;
	}
	commit();
	if (engine_stored(socket) && !socket->ended) {
		gateway_init(&peer->g, socket->row.token);
		peer->used = true;
		peer->worker = (int)chance(WORKERS);
		peer->handle = ++model.handles;
		peer->g.held_max = (int)chance(4);
		if (peer->g.held_max == 3)
			peer->g.held_max = 1000;
		if (!one_in(3))
			tell(peer, UP_HELD);
	}
	engine_release(socket);
}

/* The rows that a message under way may need are not pruned: the place of the clock's 60 s. */
static int64_t
in_flight_floor(void)
{
	int64_t floor = INT64_MAX;
	for (int i = 0; i < SOCKETS; i++)
		if (model.peers[i].used && model.peers[i].g.frame && model.peers[i].g.position + 1 < floor)
			floor = model.peers[i].g.position + 1;
	return floor;
}

static void
close_laggard(void *context, struct socket *socket)
{
	(void)context;
	model.closings++;
	for (int i = 0; i < SOCKETS; i++)
		if (model.peers[i].used && strcmp(model.peers[i].g.token, socket->row.token) == 0)
			model.peers[i].g.closed = true;
}

static void
house(void)
{
	int64_t floor = in_flight_floor();
	for (struct link_end *l = model.links; l; l = l->next)
		if (link_lowest(l) < floor)
			floor = link_lowest(l);
	for (struct socket *s = model.engine->sockets; s; s = s->next) {
		bool held = false;
		for (int i = 0; i < SOCKETS; i++)
			held = held || (model.peers[i].used && strcmp(model.peers[i].g.token, s->row.token) == 0);
		if (!held)
			s->unlinked_ms = clock_ms() - 7200000;
	}
	model.engine->limits.marks_ms = -1;
	engine_house(model.engine, floor, close_laggard, NULL);
	engine_house(model.engine, floor, close_laggard, NULL);
	model.engine->limits.marks_ms = 3600000;
	model.engine->marked_ms -= 10000;
	model.engine->retry_ms = 0;
	if (one_in(2))
		for (struct instance *i = model.engine->due_first; i; i = i->due_next)
			i->due_ms = 1;
}

static void
skip_house_wait(void)
{
	if (one_in(10))
		house();
}

/* Another process joins, changes something, goes. */
static void
foreign(void)
{
	struct engine_limits limits = world_limits();
	struct engine_client client = {.address = "::1", .format = 0};
	struct commit_result result;
	struct gateway g;
	struct socket *socket;
	char *error = NULL, frame[200];
	if (world_verbose)
		printf("# --- step %d: another process\n", (int)model.step);
	struct store *store = store_open_faulty(store_open_sqlite(model.path, STORE_NORMALLY, &error));
	struct engine *other = engine_open(store, &limits, &world_hooks, NULL, world_channels);
	engine_lock(other);
	if (!engine_restore(other) || engine_connect(other, &client, &socket) != CONNECT_OK)
		abort();
	engine_commit(other, &result);
	commit_result_release(&result);
	gateway_init(&g, socket->row.token);
	const char *topic = topics[2 + chance(2)];
	int events = (int)chance(3);
	for (int i = 0; i <= events; i++) {
		struct request *request = memory_zeroed(1, sizeof(*request));
		request->gateway = &g;
		request->number = i + 1;
		if (i == 0)
			snprintf(frame, sizeof(frame), "[\"1\",\"1\",\"%s\",\"phx_join\",{}]", topic);
		else
			snprintf(frame, sizeof(frame), "[\"1\",\"2\",\"%s\",\"seance:event:add\",{\"id\":%d}]",
			         topic, ++model.ids);
		world_submit(other, request, frame);
		engine_commit(other, &result);
		for (struct message *m = result.answered; m; m = m->next)
			if (m->outcome != OUTCOME_COMMITTED)
				trouble("the other process could not commit", "outcome %d", m->outcome);
		commit_result_release(&result);
		request_free(request);
	}
	engine_closed(other, socket);
	engine_commit(other, &result);
	commit_result_release(&result);
	engine_release(socket);
	gateway_release(&g);
	engine_unlock(other);
	if (one_in(2))
		store_fail_at(store, 1, STORE_ERROR); /* killed: nothing more is written */
	engine_close(other);
}

/* --- clients --- */

static void
note(struct peer *peer, int kind, int ref, int id)
{
	struct sent *sent = memory_zeroed(1, sizeof(*sent));
	sent->kind = kind;
	sent->ref = ref;
	sent->id = id;
	sent->next = peer->sent;
	peer->sent = sent;
}

static void
say_event(struct peer *peer, struct client_join *join, char *frame, size_t size)
{
	static const struct {
		const char *event;
		int kind;
	} events[] = {
		{"add", SENT_ADD},       {"add", SENT_ADD},       {"add", SENT_ADD},      {"odd", SENT_ADD},
		{"quiet", SENT_AT_MOST}, {"clear", SENT_AT_MOST}, {"refuse", SENT_NEVER}, {"crash", SENT_CRASH},
	};
	size_t which = chance(one_in(4) ? 8 : 5);
	const char *extra = one_in(3) ? ",\"push\":1" : one_in(3) ? ",\"reply\":1" : "";
	snprintf(frame, size, "[%s,\"%d\",\"%s\",\"seance:event:%s\",{\"id\":%d%s}]",
	         join->join_ref[0] ? join->join_ref : "null", ++peer->refs, join->topic, events[which].event,
	         ++model.ids, extra);
	assert(model.ids < IDS);
	model.pushed[model.ids] = extra[0] == ',' && extra[2] == 'p';
	note(peer, events[which].kind, peer->refs, model.ids);
}

static void
say_join(struct peer *peer, struct client_join *join, char *frame, size_t size)
{
	static const char *const payloads[] = {
		"{}",
		"{}",
		"{}",
		"{}",
		"{\"pad\":17000}",
		"{\"authorize\":\"refuse\"}",
		"{\"authorize\":\"crash\"}",
		"{\"authorize\":\"assign\"}",
		"{\"init\":\"refuse\"}",
		"{\"init\":\"crash\"}",
	};
	strcpy(join->before, join->join_ref);
	snprintf(join->join_ref, sizeof(join->join_ref), "\"%d\"", ++peer->refs);
	snprintf(frame, size, "[%s,%s,\"%s\",\"phx_join\",%s]", join->join_ref, join->join_ref, join->topic,
	         payloads[chance(10)]);
	join->wanted = true;
	note(peer, SENT_ONE_REPLY, peer->refs, 0);
}

static void
say(void)
{
	struct peer *peer = &model.peers[chance(SOCKETS)];
	char frame[300];
	if (!peer->used || peer->g.frame || peer->g.closed)
		return;
	struct client_join *join = client_find(&peer->g.client, topics[chance(TOPICS)]);
	const char *ref = join->join_ref[0] ? join->join_ref : "null";
	unsigned what = chance(20);
	if (what == 0) {
		snprintf(frame, sizeof(frame), "[null,\"%d\",\"phoenix\",\"heartbeat\",{}]", ++peer->refs);
		note(peer, SENT_ONE_REPLY, peer->refs, 0);
	} else if (what == 1) {
		snprintf(frame, sizeof(frame), "[%s,\"%d\",\"%s\",\"phx_leave\",{}]", ref, ++peer->refs,
		         join->topic);
		note(peer, SENT_ONE_REPLY, peer->refs, 0);
	} else if (what == 2) {
		snprintf(frame, sizeof(frame), "[%s,\"%d\",\"%s\",\"seance:refresh\",{}]", ref, ++peer->refs,
		         join->topic);
		note(peer, SENT_AT_MOST, peer->refs, 0);
	} else if (what == 3 || (!join->joined && !one_in(5))) {
		say_join(peer, join, frame, sizeof(frame));
	} else {
		say_event(peer, join, frame, sizeof(frame));
	}
	peer->g.frame = memory_strdup(frame);
	peer->g.number++;
}

static void
close_peer(void)
{
	struct peer *peer = &model.peers[chance(SOCKETS)];
	if (!peer->used || peer->g.request || peer->g.answer)
		return;
	tell(peer, UP_CLOSED); /* unless its link is down: the grace ends it then */
	peer_free(peer);
}

static void
slow_reader(void)
{
	struct peer *peer = &model.peers[chance(SOCKETS)];
	if (!peer->used || peer->g.closed)
		return;
	peer->g.behind = !peer->g.behind;
	if (peer->g.behind)
		gateway_drop_held(&peer->g);
	tell(peer, peer->g.behind ? UP_BEHIND : UP_DRAINED);
}

static void
worker_dies(void)
{
	int worker = (int)chance(WORKERS);
	link_break(worker);
	for (int i = 0; i < SOCKETS; i++)
		if (model.peers[i].used && model.peers[i].worker == worker)
			peer_free(&model.peers[i]);
}

/* --- at rest --- */

static int
count_frames(struct client *client, const char *event, int ref, int id)
{
	int count = 0;
	size_t len = json_object_array_length(client->frames);
	char text[40];
	snprintf(text, sizeof(text), "\"%d\"", ref);
	for (size_t i = 0; i < len; i++) {
		json_object *frame = json_object_array_get_idx(client->frames, i);
		if (strcmp(json_object_get_string(json_object_array_get_idx(frame, 3)), event) != 0)
			continue;
		json_object *payload = json_object_array_get_idx(frame, 4);
		if (ref) {
			count += strcmp(json_text(json_object_array_get_idx(frame, 1), NULL), text) == 0;
		} else if (world_get(payload, "operations")) {
			json_object *first = json_object_array_get_idx(world_get(payload, "operations"), 0);
			json_object *value = first ? world_get(first, "value") : NULL;
			count += value && json_object_is_type(value, json_type_int) &&
			         json_object_get_int(value) == id &&
			         strcmp(world_text(first, "path"), "/ids/-") == 0;
		}
	}
	return count;
}

/* A slow reader may see the effect of its own event in a state, which is nobody's answer, in place of a patch. */
static bool
caught_up(struct client *client)
{
	size_t len = json_object_array_length(client->frames);
	for (size_t i = 0; i < len; i++) {
		json_object *frame = json_object_array_get_idx(client->frames, i);
		if (!json_object_array_get_idx(frame, 0) &&
		    world_get(json_object_array_get_idx(frame, 4), "state"))
			return true;
	}
	return false;
}

static void
check_messages(struct peer *peer)
{
	struct client *client = &peer->g.client;
	while (peer->sent) {
		struct sent *sent = peer->sent;
		int replies = count_frames(client, "phx_reply", sent->ref, 0);
		int patches = sent->id ? count_frames(client, "seance:patch", 0, sent->id) : 0;
		bool well = false;
		switch (sent->kind) {
		case SENT_ADD:
			well = replies + patches == 1 || (replies + patches == 0 && caught_up(client));
			break;
		case SENT_NEVER:
			well = replies == 1 && patches == 0;
			break;
		case SENT_CRASH:
			well = replies <= 1 && patches == 0;
			break;
		case SENT_ONE_REPLY:
			well = replies == 1;
			break;
		case SENT_AT_MOST:
			well = replies <= 1;
			break;
		}
		if (!well)
			trouble("a message has not its one answer",
			        "ref %d id %d kind %d: %d replies, %d patches; %s", sent->ref, sent->id, sent->kind,
			        replies, patches, peer->g.token);
		peer->sent = sent->next;
		free(sent);
	}
	json_object_put(client->frames);
	client->frames = json_object_new_array();
}

static void
check_once(json_object *state, const char *topic)
{
	json_object *ids = world_get(state, "ids");
	size_t len = ids ? json_object_array_length(ids) : 0;
	if (json_object_get_int64(world_get(state, "count")) != (int64_t)len)
		trouble("count and ids differ", "%s", topic);
	for (size_t i = len > 200 ? len - 200 : 0; i < len; i++)
		for (size_t j = i + 1; j < len; j++)
			if (json_object_get_int(json_object_array_get_idx(ids, i)) ==
			    json_object_get_int(json_object_array_get_idx(ids, j)))
				trouble("an event was applied twice", "%s %s", topic,
				        json_text(json_object_array_get_idx(ids, i), NULL));
}

/* Of each event since the join it was told, once. */
static void
check_pushed(const struct client_join *cj)
{
	json_object *ids = world_get(cj->state, "ids");
	for (size_t i = cj->base; i < client_ids(cj); i++) {
		json_object *id = json_object_array_get_idx(ids, i);
		if (model.pushed[json_object_get_int(id)] && !world_get(cj->pushed, json_text(id, NULL)))
			trouble("an event was not told", "%s %s", cj->topic, json_text(id, NULL));
	}
	if (!cj->pushed)
		return;
	json_object_object_foreach(cj->pushed, id, count) if (json_object_get_int(count) != 1)
		trouble("an event was told twice", "%s %s", cj->topic, id);
}

static void
check_join(struct peer *peer, struct client_join *cj)
{
	struct socket *socket = engine_find(model.engine, peer->g.token);
	struct join *join = socket ? socket_join(socket, cj->topic) : NULL;
	if (!join != !cj->joined) {
		trouble("joined on one side only", "%s %s: client %d, server %d", peer->g.token, cj->topic,
		        cj->joined, join != NULL);
		return;
	}
	if (!join)
		return;
	if (!instance_load(model.engine, join->instance)) {
		trouble("a state cannot be loaded", "%s", cj->topic);
		return;
	}
	if (!json_equal(join->instance->edit.document, cj->state) || join->instance->version != cj->version)
		trouble("client and server differ", "%s %s version %d, %d: %.400s, %.400s", peer->g.token,
		        cj->topic, (int)cj->version, (int)join->instance->version, json_text(cj->state, NULL),
		        json_text(join->instance->edit.document, NULL));
	check_once(cj->state, cj->topic);
	check_pushed(cj);
}

static void
check_peer(struct peer *peer)
{
	if (peer->g.client.trouble)
		trouble(peer->g.client.trouble, "%s %s", peer->g.token, peer->g.client.trouble_frame);
	if (peer->g.closed || !engine_find(model.engine, peer->g.token)) {
		if (!peer->g.closed)
			trouble("a socket is unknown", "%s", peer->g.token);
		peer_free(peer);
		return;
	}
	if (peer->g.frame || peer->g.held)
		trouble("something waits for ever",
		        "%s at %d: %s, held %d after %d, request %d, answer after %d", peer->g.token,
		        (int)peer->g.position, peer->g.frame ? peer->g.frame : "-", peer->g.held_count,
		        peer->g.held ? (int)peer->g.held->after : -1, peer->g.request != NULL,
		        peer->g.answer && peer->g.answer->units ? (int)peer->g.answer->units->after : -1);
	check_messages(peer);
	for (int i = 0; i < peer->g.client.join_count; i++)
		check_join(peer, &peer->g.client.joins[i]);
}

static void
settle_round(void)
{
	for (int i = 0; i < SOCKETS; i++) {
		struct peer *peer = &model.peers[i];
		if (!peer->used)
			continue;
		if (!peer->g.announced)
			tell(peer, UP_HELD);
		if (peer->g.behind) {
			peer->g.behind = false;
			tell(peer, UP_DRAINED);
		}
		transmit(peer);
	}
	for (int i = 0; i < 100; i++)
		random_link(up_step);
	for (int i = 0; i < 20; i++)
		program_takes();
	commit();
	for (int i = 0; i < 20; i++)
		answer_arrives();
	for (struct link_end *l = model.links; l; l = l->next)
		while (l->down)
			down_step(l);
}

static void
come_to_rest(void)
{
	model.calm = true;
	store_fail_at(model.faulty, 0, STORE_OK);
	if (!model.engine)
		start();
	for (int i = 0; i < WORKERS; i++)
		link_connect(i);
	for (int i = 0; i < 40; i++)
		settle_round();
	for (int i = 0; i < SOCKETS; i++)
		if (model.peers[i].used)
			check_peer(&model.peers[i]);
	model.checks++;
	model.calm = false;
}

/* --- the walk --- */

static void
step(void)
{
	unsigned what = chance(1000);
	for (int i = 0; i < SOCKETS; i++)
		if (one_in(3) && model.peers[i].used)
			transmit(&model.peers[i]);
	if (what < 250)
		say();
	else if (what < 450)
		program_takes();
	else if (what < 550)
		answer_arrives();
	else if (what < 650)
		random_link(down_step);
	else if (what < 750)
		random_link(up_step);
	else if (what < 900)
		commit();
	else if (what < 930)
		connect_peer();
	else if (what < 945)
		break_request();
	else if (what < 960)
		link_connect((int)chance(WORKERS));
	else if (what < 965)
		link_break((int)chance(WORKERS));
	else if (what < 967)
		close_peer();
	else if (what < 977)
		slow_reader();
	else if (what < 985)
		skip_house_wait();
	else if (what < 991)
		store_fail_at(model.faulty, (int)chance(12), one_in(4) ? STORE_BUSY : STORE_FULL);
	else if (what < 994)
		foreign();
	else if (what < 995)
		worker_dies();
	else if (what < 999 && one_in(2)) {
		stop(!one_in(4));
		start();
	}
}

static void
walk(uint64_t seed, long steps)
{
	chance_state = seed * 0x9e3779b97f4a7c15u + 1;
	snprintf(model.folder, sizeof(model.folder), "/tmp/seance_model_XXXXXX");
	if (!mkdtemp(model.folder))
		abort();
	snprintf(model.path, sizeof(model.path), "%s/seance.db", model.folder);
	start();
	for (model.step = 0; model.step < steps && !model.trouble; model.step++) {
		step();
		if (model.step % QUIET_EVERY == QUIET_EVERY - 1)
			come_to_rest();
		for (int i = 0; i < SOCKETS; i++)
			if (model.peers[i].used && model.peers[i].g.client.trouble)
				trouble(model.peers[i].g.client.trouble, "%s %s", model.peers[i].g.token,
				        model.peers[i].g.client.trouble_frame);
	}
	if (!model.trouble)
		come_to_rest();
	stop(false);
	for (int i = 0; i < SOCKETS; i++)
		if (model.peers[i].used)
			peer_free(&model.peers[i]);
	while (model.requests) {
		struct request *request = model.requests;
		request_remove(request);
		request_free(request);
	}
	char command[200];
	snprintf(command, sizeof(command), "rm -r %s", model.folder);
	if (system(command) != 0)
		printf("# %s is left\n", model.folder);
}

int
main(int argc, char **argv)
{
	const char *env = getenv("MODEL_STEPS");
	uint64_t seed =
		argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL) * 1000 + (uint64_t)getpid() % 1000;
	long steps = argc > 2 ? atol(argv[2]) : env ? atol(env) : 20000;
	int walks = argc > 1 ? 1 : 4;
	world_verbose = getenv("MODEL_VERBOSE") != NULL;
	for (int i = 0; i < walks; i++) {
		model = (struct model){0};
		walk(seed + (uint64_t)i, steps);
		ok(!model.trouble,
		   "walk %llu of %ld steps: %d commits, %d kills, %d events, %d catch-ups, %d laggards closed, "
		   "%lld rows pruned",
		   (unsigned long long)seed + (unsigned long long)i, steps, model.commits, model.kills,
		   model.ids, model.catch_ups, model.closings, (long long)model.pruned);
		if (model.trouble)
			printf("# step %lld: %s: %s\n", (long long)model.step, model.trouble, model.detail);
	}
	return done();
}
