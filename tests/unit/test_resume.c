/*
 * test_resume - private state whose client has lost its connection: it is there for whoever comes with its token,
 * for one only, and ends once
 */
#include "clock.h"
#include "engine_bench.h"
#include "told.h"
#include "visit.h"

/* --- channels: mine:* may be resumed, brief:* may not --- */

static struct bench *bench; /* whose client goes while a callback runs */
static int goes = -1;

static void
let_go(void)
{
	if (goes < 0)
		return;
	engine_lock(bench->engine);
	engine_closed(bench->engine, engine_find(bench->engine, bench->g[goes].token));
	engine_unlock(bench->engine);
	goes = -1;
}

static enum seance_status
mine_init(struct seance_call *call, const char *topic, json_object *payload)
{
	if (world_get(payload, "goes"))
		let_go();
	if (strstr(topic, "listens"))
		seance_subscribe(call, "news");
	return world_init(call, topic, payload);
}

static enum seance_status
mine_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	if (world_get(payload, "goes"))
		let_go();
	if (strcmp(event, "later") == 0)
		return seance_send_after(call, 0, json_object_new_string("tick")) ? SEANCE_OK : SEANCE_CRASHED;
	return world_event(call, event, payload, state);
}

static enum seance_status
mine_message(struct seance_call *call, json_object *message, json_object *state)
{
	int64_t count = json_object_get_int64(world_get(state, "count"));
	note("(%s)", json_object_get_string(message));
	seance_push(call, "pushed", json_object_get(message));
	return seance_replace(call, json_object_new_int64(count + 1), "/count");
}

static enum seance_status
mine_terminate(struct seance_call *call, const char *reason, json_object *state)
{
	(void)call;
	note("-%s:%d", reason, json_object_get_int(world_get(state, "count")));
	return SEANCE_OK;
}

static const struct seance_channel mine = {
	.topic = "mine:*",
	.authorize = world_authorize,
	.init = mine_init,
	.handle_event = mine_event,
	.handle_message = mine_message,
	.terminate = mine_terminate,
	.resume_ttl = 60,
};
static const struct seance_channel bare = {
	/* without a hook: its row goes with its join */
	.topic = "bare:*", .init = mine_init, .handle_event = mine_event, .handle_message = mine_message,
	.resume_ttl = 60,
};
static const struct seance_channel brief = {
	.topic = "brief:*",
	.init = mine_init,
	.handle_event = mine_event,
	.terminate = mine_terminate,
};
static const struct seance_channel shared = {
	.topic = "shared:*",
	.scope = SEANCE_SHARED,
	.max_version = 10,
	.init = mine_init,
	.handle_event = mine_event,
	.terminate = mine_terminate,
};
static const struct seance_channel *const channels[] = {&mine, &bare, &brief, &shared, NULL};

/* --- clients --- */

static void
begin(struct bench *b, bool file)
{
	told[0] = '\0';
	goes = -1;
	bench = b;
	bench_open_with(b, file, channels);
}

static void
say(struct bench *b, int i, const char *topic, const char *event, const char *payload)
{
	bench_push(b, i, topic, event, payload);
	bench_all(b);
	bench_settle(b);
}

static void
add(struct bench *b, int i, const char *topic)
{
	static int id;
	char payload[32];
	snprintf(payload, sizeof(payload), "{\"id\":%d}", ++id);
	say(b, i, topic, "seance:event:add", payload);
}

/* What the client was told last to come back with. */
static const char *
token_of(struct bench *b, int i, const char *topic)
{
	json_object *frames = b->g[i].client.frames;
	for (size_t j = json_object_array_length(frames); j-- > 0;) {
		json_object *frame = json_object_array_get_idx(frames, j);
		json_object *payload = json_object_array_get_idx(frame, 4);
		const char *token = world_text(payload, "resume");
		if (!token)
			token = world_text(world_get(payload, "response"), "resume");
		if (token && strcmp(json_object_get_string(json_object_array_get_idx(frame, 2)), topic) == 0)
			return token;
	}
	return NULL;
}

static int
join(struct bench *b, const char *topic)
{
	int i = bench_connect(b);
	say(b, i, topic, "phx_join", "{\"resume\":{}}");
	return i;
}

/* A connection anew for what `from` had: with its last state and token. */
static int
connect_after(struct bench *b, int from, const char *topic)
{
	int i = bench_connect(b);
	struct client_join *had = client_find(&b->g[from].client, topic);
	struct client_join *has = client_find(&b->g[i].client, topic);
	has->state = json_copy(had->state);
	has->version = had->version;
	has->base = had->base;
	has->joined = true;
	return i;
}

static void
stage_resume(struct bench *b, int i, int from, const char *topic)
{
	char payload[600];
	snprintf(payload, sizeof(payload), "{\"resume\":{\"at\":\"%s\"}}", token_of(b, from, topic));
	bench_push(b, i, topic, "phx_join", payload);
}

static int
resume(struct bench *b, int from, const char *topic)
{
	int i = connect_after(b, from, topic);
	stage_resume(b, i, from, topic);
	bench_all(b);
	bench_settle(b);
	return i;
}

/* Its connection is gone, its client with it. */
static void
lose(struct bench *b, int i)
{
	engine_closed(b->engine, engine_find(b->engine, b->g[i].token));
	for (int j = 0; j < b->g[i].client.join_count; j++)
		client_ended(&b->g[i].client.joins[j]);
}

static int
lost_sockets(struct bench *b)
{
	int count = 0;
	for (struct socket *s = b->engine->sockets; s; s = s->next)
		count += s->until_ms != 0;
	return count;
}

/* House-keeping as the program does it, when time has passed. */
static void
house(struct bench *b, int64_t ms)
{
	for (struct socket *s = b->engine->sockets; s; s = s->next) {
		if (s->until_ms)
			s->until_ms -= ms;
		s->unlinked_ms -= ms;
	}
	bench_time_passes(b);
	engine_house(b->engine, NOTHING_NEEDED, NULL, NULL);
	bench_commit(b);
	bench_settle(b);
}

/* Private instances, living joins, and sockets as stored; and nothing else that names them. */
struct stored {
	int instances, joins, sockets;
};

static bool
stored_join(void *context, const struct store_join *row)
{
	((struct stored *)context)->joins += row->ended == 0;
	return true;
}

static bool
stored_socket(void *context, const struct store_socket *row)
{
	(void)row;
	((struct stored *)context)->sockets++;
	return true;
}

static bool
stored_instance(void *context, const struct store_instance *row)
{
	((struct stored *)context)->instances += !row->shared;
	return false;
}

static bool
is_stored(struct bench *b, int instances, int joins, int sockets)
{
	struct stored stored = {0};
	store_scan_joins(b->engine->store, stored_join, &stored);
	store_scan_sockets(b->engine->store, stored_socket, &stored);
	for (int64_t id = 1; id < 50; id++)
		(void)store_instance_get(b->engine->store, id, stored_instance, &stored);
	bool same = stored.instances == instances && stored.joins == joins && stored.sockets == sockets;
	if (!same)
		printf("# %d instances, %d joins, %d sockets\n", stored.instances, stored.joins, stored.sockets);
	return same;
}

/* Is it joined to a state with that count, and the only one there? */
static bool
has(struct bench *b, int i, const char *topic, int64_t count)
{
	const struct instance *instance = bench_instance(b, i, topic);
	int living = 0;
	for (const struct join *j = instance ? instance->joins : NULL; j; j = j->next_of_instance)
		living += !j->ended;
	bool same = bench_same(b, i, topic) && bench_count(b, i, topic) == count && living == 1;
	if (!same)
		printf("# count %d, %d living, %s\n", (int)bench_count(b, i, topic), living, bench_last(b, i));
	return same;
}

/* --- a life --- */

static void
test_life(bool file)
{
	struct bench b;
	begin(&b, file);
	int a = join(&b, "mine:x");
	add(&b, a, "mine:x");
	lose(&b, a);
	bench_commit(&b);
	bench_settle(&b);
	ok(was_told("") && lost_sockets(&b) == 1, "lost: nothing is told, it stays");
	int c = resume(&b, a, "mine:x");
	ok(has(&b, c, "mine:x", 1) && bench_frames(&b, c, "seance:change") == 0,
	   "resumed, without the state");
	house(&b, 0);
	ok(lost_sockets(&b) == 0 && is_stored(&b, 1, 1, 1), "the lost socket has gone with that");
	add(&b, c, "mine:x");
	int d = resume(&b, c, "mine:x"); /* c is still connected */
	ok(has(&b, d, "mine:x", 2), "taken from a client that is still there");
	add(&b, d, "mine:x");
	say(&b, c, "mine:x", "seance:event:add", "{\"id\":0}");
	ok(strstr(bench_last(&b, c), "unmatched topic") && has(&b, d, "mine:x", 3),
	   "which has nothing any more");
	int e = resume(&b, a, "mine:x"); /* the oldest token; d is still connected */
	ok(has(&b, e, "mine:x", 3) && bench_frames(&b, e, "seance:patch") == 2,
	   "an old token is as good, and tells what was missed");
	lose(&b, e);
	house(&b, 59000);
	ok(was_told("") && lost_sockets(&b) == 1, "not before resume_ttl");
	house(&b, 2000);
	ok(was_told("-closed:3") && lost_sockets(&b) == 0 && is_stored(&b, 0, 0, 2),
	   "then terminate: closed, once, and nothing is left");
	int f = bench_connect(&b);
	stage_resume(&b, f, a, "mine:x");
	bench_all(&b);
	bench_settle(&b);
	ok(has(&b, f, "mine:x", 0) && bench_frames(&b, f, "seance:change") == 1,
	   "who comes later begins anew");
	say(&b, f, "mine:x", "phx_leave", "{}");
	ok(was_told("-left:0"), "left: it cannot be resumed");
	bench_close(&b);
}

static void
test_rejoin_of_same_socket(void)
{
	struct bench b;
	begin(&b, true);
	int a = join(&b, "mine:x");
	add(&b, a, "mine:x");
	stage_resume(&b, a, a, "mine:x");
	bench_all(&b);
	bench_settle(&b);
	ok(was_told("") && has(&b, a, "mine:x", 1) && bench_frames(&b, a, "phx_close") == 1,
	   "the same socket joins again with its token: it keeps its state, its old join closes");
	int c = join(&b, "mine:x"); /* a state of its own, which it gives up for a's */
	struct client_join *had = client_find(&b.g[a].client, "mine:x"),
					   *gets = client_find(&b.g[c].client, "mine:x");
	json_object_put(gets->state);
	gets->state = json_copy(had->state);
	gets->version = had->version;
	stage_resume(&b, c, a, "mine:x");
	bench_all(&b);
	bench_settle(&b);
	ok(was_told("-replaced:0") && has(&b, c, "mine:x", 1) && is_stored(&b, 1, 1, 2),
	   "one that has another state gives that up: terminate: replaced");
	say(&b, c, "mine:x", "phx_join", "{\"resume\":{}}");
	ok(was_told("-replaced:1") && has(&b, c, "mine:x", 0), "without a token it begins anew: replaced");
	bench_close(&b);
}

/* --- the connection is lost while something is under way --- */

/* Everything that it may have joined besides; the private state must be there afterwards, all else must have gone. */
static void
check_lost(struct bench *b, int a, const char *other, int64_t count, const char *what)
{
	bench_all(b);
	bench_settle(b);
	house(b, 0);
	int c = resume(b, a, "mine:x");
	ok(has(b, c, "mine:x", count), "%s: the private state is there", what);
	house(b, 0);
	int living = 0;
	for (struct socket *s = b->engine->sockets; s; s = s->next)
		living += socket_join(s, other) != NULL;
	ok(living == 0 && is_stored(b, 1, 1, 1), "%s: nothing else is", what);
	b->engine->prune_until = b->engine->last; /* ended joins are forgotten */
	bench_time_passes(b);
	bench_commit(b);
	add(b, c, "mine:x");
	ok(has(b, c, "mine:x", count + 1), "%s: and it goes on", what);
	bench_restart(b, true);
	bench_held(b, c);
	add(b, c, "mine:x");
	ok(has(b, c, "mine:x", count + 2), "%s: after a kill, too", what);
}

static void
lost_during(const char *other, const char *event, const char *payload, bool running)
{
	struct bench b;
	char what[100];
	begin(&b, true);
	snprintf(what, sizeof(what), "lost while %s for %s is %s", event, other, running ? "run" : "staged");
	int a = join(&b, "mine:x");
	add(&b, a, "mine:x");
	if (strcmp(event, "phx_join") != 0)
		say(&b, a, other, "phx_join", "{}");
	goes = running ? a : -1;
	bench_push(&b, a, other, event, payload);
	if (running)
		ok(goes < 0, "  (it has gone)");
	else
		engine_closed(b.engine, engine_find(b.engine, b.g[a].token));
	for (int j = 0; j < b.g[a].client.join_count; j++)
		client_ended(&b.g[a].client.joins[j]);
	check_lost(&b, a, other, 1, what);
	told[0] = '\0';
	bench_close(&b);
}

static void
test_lost_under_way(void)
{
	static const char *const others[] = {"shared:x", "brief:x"};
	for (int i = 0; i < 2; i++) {
		for (int running = 0; running < 2; running++) {
			lost_during(others[i], "seance:event:add", "{\"id\":1,\"goes\":1}", running);
			lost_during(others[i], "seance:event:crash", "{\"id\":1,\"goes\":1}", running);
			lost_during(others[i], "seance:event:refuse", "{\"id\":1,\"goes\":1}", running);
			lost_during(others[i], "seance:event:assign", "{\"id\":1,\"goes\":1}", running);
			lost_during(others[i], "phx_join", "{\"goes\":1}", running);
			lost_during(others[i], "phx_join", "{\"goes\":1,\"init\":\"crash\"}", running);
		}
		lost_during(others[i], "phx_leave", "{}", false);
		lost_during(others[i], "seance:refresh", "{}", false);
	}
}

static void
test_lost_during_its_own(void)
{
	struct bench b;
	begin(&b, true);
	int a = join(&b, "mine:x");
	goes = a;
	bench_push(&b, a, "mine:x", "seance:event:add", "{\"id\":1,\"goes\":1}");
	client_ended(client_find(&b.g[a].client, "mine:x"));
	bench_all(&b);
	bench_settle(&b);
	int c = resume(&b, a, "mine:x");
	ok(has(&b, c, "mine:x", 1), "lost while its own event runs: the event is there");
	bench_push(&b, c, "mine:x", "phx_leave", "{}");
	lose(&b, c);
	bench_all(&b);
	bench_settle(&b);
	house(&b, 0);
	ok(was_told("-left:1") && is_stored(&b, 0, 0, 0), "lost after it has left: it has left");
	int d = join(&b, "mine:x");
	bench_push(&b, d, "mine:x", "seance:event:crash", "{\"id\":1}");
	lose(&b, d);
	bench_all(&b);
	bench_settle(&b);
	house(&b, 0);
	ok(was_told("-crashed:0") && is_stored(&b, 0, 0, 0), "or crashed");
	bench_close(&b);
}

/* --- the take --- */

static void
take(const char *topic, int nth, enum store_status status)
{
	struct bench b;
	begin(&b, true);
	int a = join(&b, topic), other = join(&b, topic);
	add(&b, a, topic);
	lose(&b, a);
	bench_commit(&b);
	bench_settle(&b);
	int c = connect_after(&b, a, topic);
	stage_resume(&b, c, a, topic);
	char payload[32] = "{\"id\":5}";
	bench_push(&b, other, topic, "seance:event:add", payload);
	store_fail_at(b.faulty, nth, status);
	bench_all(&b);
	store_fail_at(b.faulty, 0, STORE_OK);
	bench_all(&b);
	bench_settle(&b);
	bool failed = !bench_instance(&b, c, topic);
	if (failed) {
		client_find(&b.g[c].client, topic)->joined = true;
		stage_resume(&b, c, a, topic);
		bench_all(&b);
		bench_settle(&b);
	}
	b.engine->retry_ms = 0;
	house(&b, 0);
	ok(has(&b, c, topic, 1) && lost_sockets(&b) == 0 && is_stored(&b, 2, 2, 2),
	   "write %d of a transaction that takes %s fails: it is taken all the same", nth, topic);
	ok(bench_same(&b, other, topic), "and what was beside it is whole");
	bench_restart(&b, true);
	bench_held(&b, c);
	bench_held(&b, other);
	add(&b, c, topic);
	ok(has(&b, c, topic, 2) && was_told(""), "and after a kill");
	bench_close(&b);
}

static void
test_take_that_fails(void)
{
	static const char *const topics[] = {"mine:x", "bare:x"};
	for (int i = 0; i < 2; i++)
		for (int nth = 1; nth <= 9; nth++)
			take(topics[i], nth, nth % 2 ? STORE_FULL : STORE_ERROR);
	take("mine:x", 1, STORE_BUSY);
}

/* Its end: what comes with it in one transaction. */
static void
test_take_and_end(const char *topic, bool end_first, const char *how)
{
	struct bench b;
	begin(&b, true);
	int a = join(&b, topic);
	add(&b, a, topic);
	int c = connect_after(&b, a, topic);
	if (!end_first)
		stage_resume(&b, c, a, topic);
	if (strcmp(how, "closed") == 0) {
		lose(&b, a);
		for (struct socket *s = b.engine->sockets, *next; s; s = next) {
			next = s->next;
			if (s->until_ms)
				socket_end(b.engine, s);
		}
	} else {
		bench_push(&b, a, topic, how, "{\"id\":7}");
	}
	if (end_first)
		stage_resume(&b, c, a, topic);
	bench_all(&b);
	house(&b, 0);
	/* either it was taken first, then a's end is of no account; or it has ended first, then c begins anew */
	struct client_join *has_it = client_find(&b.g[c].client, topic);
	bool anew = json_object_get_int64(world_get(has_it->state, "count")) == 0;
	ok(has(&b, c, topic, anew ? 0 : 1), "%s %s the take, %s: one whole state", how,
	   end_first ? "before" : "after", topic);
	bool hook = strcmp(topic, "mine:x") == 0;
	bool once = strchr(told, '-') == strrchr(told, '-') && (strchr(told, '-') != NULL) == (anew && hook);
	ok(once, "terminate: %s", told);
	told[0] = '\0';
	bench_restart(&b, true);
	bench_held(&b, a);
	bench_held(&b, c);
	add(&b, c, topic);
	ok(has(&b, c, topic, anew ? 1 : 2) && was_told(""), "and after a kill");
	bench_close(&b);
}

static void
test_takes_and_ends(void)
{
	static const char *const topics[] = {"mine:x", "bare:x"};
	static const char *const ends[] = {"closed", "phx_leave", "seance:event:crash"};
	for (int i = 0; i < 2; i++)
		for (int j = 0; j < 3; j++)
			for (int first = 0; first < 2; first++)
				test_take_and_end(topics[i], first, ends[j]);
}

static void
test_two_tokens(void)
{
	struct bench b;
	begin(&b, true);
	int a = join(&b, "mine:x");
	add(&b, a, "mine:x");
	lose(&b, a);
	int c = connect_after(&b, a, "mine:x"), d = connect_after(&b, a, "mine:x");
	stage_resume(&b, c, a, "mine:x");
	stage_resume(&b, d, a, "mine:x");
	bench_all(&b);
	bench_settle(&b);
	bench_all(&b);
	bench_settle(&b);
	ok(has(&b, d, "mine:x", 1) && !bench_instance(&b, c, "mine:x") && was_told(""),
	   "two with one token in one turn: the later one has it, the other has nothing");
	bench_close(&b);
}

/* --- while nobody is there --- */

/* A broadcast, and the timer that is due: committed, with whatever is staged. */
static void
give_posts(struct bench *b, int turns)
{
	ok(!engine_broadcast(b->engine, "news", json_object_new_string("news"), NULL, NULL),
	   "  (a broadcast)");
	for (int turn = 0; turn < turns; turn++) {
		struct commit_result result;
		engine_commit(b->engine, &result);
		commit_result_release(&result);
		engine_post(b->engine);
	}
}

static void
test_posts_meanwhile(int turns)
{
	struct bench b;
	begin(&b, true);
	int a = join(&b, "mine:listens");
	bench_push(&b, a, "mine:listens", "seance:event:later", "{}");
	bench_all(&b);
	lose(&b, a);
	give_posts(&b, turns);
	bench_restart(&b, true);
	int c = resume(&b, a, "mine:listens");
	ok(has(&b, c, "mine:listens", 2) && strstr(told, "(tick)") && strstr(told, "(news)") &&
	       bench_frames(&b, c, "seance:change") == 0,
	   "a timer and a broadcast while nobody is there, killed after %d turns: each has its effect once",
	   turns);
	told[0] = '\0';
	bench_close(&b);
}

/* They wait while it is settled whose it is. */
static void
test_posts_and_take(bool fails)
{
	struct bench b;
	begin(&b, true);
	int a = join(&b, "mine:listens");
	lose(&b, a);
	ok(!engine_broadcast(b.engine, "news", json_object_new_string("news"), NULL, NULL),
	   "  (a broadcast)");
	struct commit_result result;
	engine_commit(b.engine, &result);
	commit_result_release(&result);
	int c = connect_after(&b, a, "mine:listens");
	stage_resume(&b, c, a, "mine:listens");
	engine_post(b.engine);
	ok(was_told(""), "  (it waits)");
	store_fail_at(b.faulty, fails ? 4 : 0, STORE_FULL);
	bench_all(&b);
	bench_settle(&b);
	if (fails) {
		client_find(&b.g[c].client, "mine:listens")->joined = true; /* as it was before */
		stage_resume(&b, c, a, "mine:listens");
		bench_all(&b);
		bench_settle(&b);
	}
	ok(has(&b, c, "mine:listens", 1) && was_told("(news)"),
	   "a broadcast while the take is staged%s: told once", fails ? ", which fails" : "");
	bench_close(&b);
}

/* --- a join by HTTP --- */

static struct socket *
http_socket(struct bench *b)
{
	struct engine_client client = {.address = "127.0.0.1"};
	struct socket *socket = NULL;
	if (engine_connect(b->engine, &client, &socket) != CONNECT_OK)
		abort();
	bench_commit(b);
	return socket;
}

/* As fcgi/joins.c makes it: with a socket of its own, and nginx's mark of the request; staged. */
static void
post_a_join(struct bench *b, struct socket *socket, const char *mark, const char *payload)
{
	void *old = NULL;
	struct message *message = message_new(socket);
	engine_release(socket);
	message->kind = MESSAGE_JOIN;
	message->by_api = true;
	message->number = 1;
	message->topic = memory_strdup("bare:x");
	message->ref = memory_strdup("null");
	message->join_ref = memory_strdup("null");
	message->payload = json_read(payload);
	message->wants = JOIN_REQUESTS;
	message->visit = visit_marked(mark);
	message->visit->name = memory_strdup(mark);
	ok(engine_submit(b->engine, message, 0, NULL, &old) == SUBMIT_TAKEN, "  (taken)");
}

static void
post_two_joins(struct bench *b, const char *mark, const char *payload)
{
	struct socket *first = http_socket(b), *second = http_socket(b);
	post_a_join(b, first, mark, payload);
	post_a_join(b, second, mark, payload);
}

/* What the joins of a turn are answered, one after the other; owned by the caller. */
static char *
join_answers(struct bench *b)
{
	struct commit_result result;
	struct buffer out = {0};
	engine_commit(b->engine, &result);
	for (struct message *m = result.answered; m; m = m->next) {
		buffer_add_text(&out, m->outcome == OUTCOME_COMMITTED ? m->visit->answer : "-");
		if (m->socket->join_count == 0)
			engine_closed(b->engine, m->socket);
	}
	commit_result_release(&result);
	return out.at ? (buffer_add(&out, "", 1), out.at) : memory_strdup("");
}

static void
test_join_sent_again(void)
{
	struct bench b;
	begin(&b, true);
	post_a_join(&b, http_socket(&b), "one", "{}");
	char *first = join_answers(&b);
	ok(strncmp(first, VISIT_JOINED, strlen(VISIT_JOINED)) == 0, "joined by HTTP");
	bench_restart(&b, true);
	post_a_join(&b, http_socket(&b), "one", "{}");
	char *again = join_answers(&b);
	ok(strcmp(first, again) == 0, "sent again after a kill: the same socket, the same state");
	house(&b, 0);
	ok(is_stored(&b, 1, 1, 1), "nothing is there twice");
	post_two_joins(&b, "two", "{}");
	char *both = join_answers(&b);
	size_t half = strlen(both) / 2;
	ok(half > 0 && strncmp(both, both + half, half) == 0, "twice in one turn: the same");
	house(&b, 0);
	b.engine->retry_ms = 0;
	house(&b, 0);
	ok(is_stored(&b, 2, 2, 2), "and one more state");
	post_two_joins(&b, "three", "{\"init\":\"crash\"}");
	char *failed = join_answers(&b);
	ok(strcmp(failed, "nullnull") == 0, "one that fails fails the second time, too");
	house(&b, 0);
	b.engine->retry_ms = 0;
	house(&b, 0);
	ok(is_stored(&b, 2, 2, 2), "and leaves nothing");
	free(first);
	free(again);
	free(both);
	free(failed);
	bench_close(&b);
}

/* Who waits is there, however long ago its request came. */
static void
test_waiting_join_keeps_its_place(void)
{
	struct bench b;
	char name[WATCH_NAME_BYTES];
	begin(&b, true);
	b.engine->limits.sockets = 1;
	struct socket *waits = http_socket(&b);
	post_a_join(&b, waits, "one", "{}");
	free(join_answers(&b));
	const struct instance *instance = waits->joins->instance;
	watch_name(name, instance);
	engine_wait(b.engine, name, 0, &b.link, 77);
	waits->until_ms -= 1000;
	post_a_join(&b, http_socket(&b), "two", "{}");
	free(join_answers(&b));
	ok(lost_sockets(&b) == 2, "  (two clients by HTTP)");
	engine_release(http_socket(&b));
	ok(lost_sockets(&b) == 1 && b.engine->sockets->next == waits,
	   "the one that waits stays, the other makes room");
	house(&b, 3600000);
	ok(lost_sockets(&b) == 1, "however long it waits");
	ok(engine_unwait(b.engine, &b.link, 77), "  (it waits no longer)");
	house(&b, 59000);
	ok(lost_sockets(&b) == 1, "then its time begins");
	house(&b, 2000);
	ok(lost_sockets(&b) == 0 && is_stored(&b, 0, 0, 0), "and it goes");
	bench_close(&b);
}

/* --- what is not to be seen --- */

static json_object *
face_encode(struct seance_call *call, json_object *state)
{
	json_object *face = json_object_new_object();
	(void)call;
	json_object_object_add(face, "count", json_object_get(world_get(state, "count")));
	return face;
}

static enum seance_status
face_migrate(struct seance_call *call, unsigned from, json_object *state)
{
	(void)from, (void)state;
	seance_replace(call, json_object_new_int64(7), "/count");
	return seance_add(call, json_object_new_string("hidden"), "/secret");
}

static void
test_migrated_face(bool together)
{
	static const struct seance_channel old = {
		.topic = "face:*",
		.scope = SEANCE_SHARED,
		.max_version = 1000,
		.init = world_init,
		.handle_event = world_event,
		.encode = face_encode,
	};
	static const struct seance_channel new = {
		.topic = "face:*",
		.scope = SEANCE_SHARED,
		.max_version = 1000,
		.init = world_init,
		.handle_event = world_event,
		.encode = face_encode,
		.state_schema = 1,
		.migrate = face_migrate,
	};
	static const struct seance_channel *const before[] = {&old, NULL}, *const after[] = {&new, NULL};
	struct bench b;
	bench_open_with(&b, true, before);
	int a = join(&b, "face:x");
	add(&b, a, "face:x");
	bench_stop(&b, false);
	b.channels = after;
	bench_start(&b);
	if (!together)
		join(&b, "face:x");
	int c = resume(&b, a, "face:x");
	ok(bench_count(&b, c, "face:x") == 7 && bench_frames(&b, c, "seance:patch") == 0 &&
	       !strstr(json_text(b.g[c].client.frames, NULL), "hidden"),
	   "a migration that changed what nobody is to see, %s: the state is told, not its patch",
	   together ? "in the same transaction" : "in the log");
	bench_close(&b);
}

/* --- bounds --- */

static void
close_socket(void *context, struct socket *socket)
{
	(void)context, (void)socket;
}

/* The log is cut as if all in it was old. */
static void
prune(struct bench *b)
{
	b->engine->limits.log_rows = 4;
	b->engine->limits.marks_ms = 0;
	for (int i = 0; i < 3; i++) {
		bench_time_passes(b);
		engine_house(b->engine, NOTHING_NEEDED, close_socket, NULL);
		bench_commit(b);
	}
	bench_settle(b);
}

static void
fill_log(struct bench *b, int i, const char *topic)
{
	for (int n = 0; n < 20; n++)
		add(b, i, topic);
}

static void
test_log(bool polled)
{
	struct bench b;
	begin(&b, true);
	int other = join(&b, "shared:x"), a = join(&b, "mine:listens");
	add(&b, a, "mine:listens");
	engine_find(b.engine, b.g[a].token)->polled = polled;
	lose(&b, a);
	bench_commit(&b);
	ok(!engine_broadcast(b.engine, "news", json_object_new_string("news"), NULL, NULL),
	   "  (a broadcast)");
	struct commit_result result;
	engine_commit(b.engine, &result);
	commit_result_release(&result);
	bench_settle(&b);
	int64_t began = b.engine->last;
	fill_log(&b, other, "shared:x");
	prune(&b);
	ok(b.engine->oldest > began && lost_sockets(&b) == 1, "a lost %s does not hold the log",
	   polled ? "session" : "socket");
	int c = resume(&b, a, "mine:listens");
	ok(has(&b, c, "mine:listens", 2) && bench_frames(&b, c, "seance:change") == 1,
	   "what it has missed is not in the log any more: it is told the state");
	bench_close(&b);
}

static void
test_laggard(void)
{
	struct bench b;
	begin(&b, true);
	int other = join(&b, "shared:x"), a = join(&b, "mine:x");
	add(&b, a, "mine:x");
	engine_behind(b.engine, engine_find(b.engine, b.g[a].token), b.g[a].position);
	fill_log(&b, other, "shared:x");
	prune(&b);
	client_ended(client_find(&b.g[a].client, "mine:x"));
	ok(!engine_find(b.engine, b.g[a].token) && lost_sockets(&b) == 1 && was_told(""),
	   "one that lags too far behind the log is lost");
	int c = resume(&b, a, "mine:x");
	ok(has(&b, c, "mine:x", 1), "and comes back to what it had");
	bench_close(&b);
}

static void
test_cache(void)
{
	struct bench b;
	begin(&b, true);
	int other = join(&b, "shared:x"), a = join(&b, "mine:x");
	add(&b, a, "mine:x");
	struct instance *instance = (struct instance *)(uintptr_t)bench_instance(&b, a, "mine:x");
	lose(&b, a);
	bench_commit(&b);
	b.engine->limits.cache_bytes = 1;
	add(&b, other, "shared:x");
	ok(!instance->loaded, "a lost one's state does not stay in memory");
	int c = resume(&b, a, "mine:x");
	ok(has(&b, c, "mine:x", 1), "it is read when somebody comes");
	bench_close(&b);
}

static struct socket *
connect_from(struct bench *b, const char *address)
{
	struct engine_client client = {.address = address, .format = 0};
	struct socket *socket = NULL;
	if (engine_connect(b->engine, &client, &socket) != CONNECT_OK)
		return NULL;
	bench_commit(b);
	engine_release(socket);
	return socket;
}

static enum seance_status
refuse_all(struct seance_call *call, json_object *params)
{
	(void)params;
	return seance_refuse(call, "no");
}

static void
test_limits(void)
{
	struct bench b;
	begin(&b, true);
	b.engine->limits.sockets = 2;
	int a = join(&b, "mine:x"), c = join(&b, "mine:x");
	add(&b, a, "mine:x");
	add(&b, c, "mine:x");
	ok(!connect_from(&b, "10.0.0.1"), "  (it is full)");
	lose(&b, a);
	lose(&b, c);
	int a2 = resume(&b, a, "mine:x"), c2 = resume(&b, c, "mine:x");
	ok(has(&b, a2, "mine:x", 1) && has(&b, c2, "mine:x", 1) && lost_sockets(&b) == 2 && was_told(""),
	   "lost sockets keep nobody out: all come back, as after a restart of nginx");
	house(&b, 0);
	b.engine->on_connect = refuse_all;
	lose(&b, a2);
	lose(&b, c2);
	for (int i = 0; i < 2; i++)
		ok(!connect_from(&b, "10.0.0.1"), "  (refused)");
	ok(lost_sockets(&b) == 2, "who is refused pushes nobody out");
	b.engine->on_connect = NULL;
	int d = join(&b, "mine:x");
	for (struct socket *s = b.engine->sockets; s; s = s->next)
		if (strcmp(s->row.token, b.g[a2].token) == 0)
			s->until_ms -= 1000;
	lose(&b, d);
	ok(lost_sockets(&b) == 3 && connect_from(&b, "10.0.0.1") && lost_sockets(&b) == 2,
	   "but they have the same limit: the one that would end first goes");
	house(&b, 0);
	ok(was_told("-closed:1"), "it ends as usual");
	b.engine->limits.sockets = 100;
	b.engine->limits.sockets_per_address = 1;
	ok(connect_from(&b, "10.0.0.2") && lost_sockets(&b) == 2 && connect_from(&b, "127.0.0.1") &&
	       lost_sockets(&b) == 1,
	   "as they have that of their address");
	bench_close(&b);
}

int
main(void)
{
	test_life(false);
	test_life(true);
	test_rejoin_of_same_socket();
	test_lost_under_way();
	test_lost_during_its_own();
	test_take_that_fails();
	test_takes_and_ends();
	test_two_tokens();
	for (int turns = 1; turns < 5; turns++)
		test_posts_meanwhile(turns);
	test_posts_and_take(false);
	test_posts_and_take(true);
	test_join_sent_again();
	test_waiting_join_keeps_its_place();
	test_migrated_face(false);
	test_migrated_face(true);
	test_log(false);
	test_log(true);
	test_laggard();
	test_cache();
	test_limits();
	return done();
}
