/* test_post - broadcasts and timers: given once, in order, to all that are to have them, whatever fails */
#include "clock.h"
#include "engine_bench.h"

/*
 * The channels here: a payload {"do": [[CALL, ARGUMENT...], ...]} says what a callback calls.  What comes
 * to handle_message is appended to /got.
 */
static enum seance_status
act(struct seance_call *call, json_object *step)
{
	const char *what = json_object_get_string(json_object_array_get_idx(step, 0));
	json_object *first = json_object_array_get_idx(step, 1),
				*second = json_object_array_get_idx(step, 2);
	if (strcmp(what, "subscribe") == 0)
		return seance_subscribe(call, json_object_get_string(first));
	if (strcmp(what, "unsubscribe") == 0)
		return seance_unsubscribe(call, json_object_get_string(first));
	if (strcmp(what, "broadcast") == 0)
		return seance_broadcast(call, json_object_get_string(first), json_object_get(second));
	if (strcmp(what, "after") == 0) {
		int64_t id = seance_send_after(call, json_object_get_int64(first), json_object_get(second));
		return seance_replace(call, json_object_new_int64(id), "/timer");
	}
	if (strcmp(what, "cancel") == 0)
		return seance_cancel_timer(call, json_object_get_int64(first));
	if (strcmp(what, "refuse") == 0)
		return seance_refuse(call, "asked to");
	if (strcmp(what, "assign") == 0)
		return seance_assign(call, "seen", json_object_get(first));
	if (strcmp(what, "reply") == 0)
		return seance_reply(call, json_object_get_string(first), json_object_get(second));
	return seance_crash(call, "asked to");
}

static enum seance_status
act_all(struct seance_call *call, json_object *payload)
{
	json_object *steps = world_get(payload, "do");
	enum seance_status status = SEANCE_OK;
	for (size_t i = 0; steps && i < json_object_array_length(steps) && status == SEANCE_OK; i++)
		status = act(call, json_object_array_get_idx(steps, i));
	return status;
}

static int calls; /* of handle_message */

static enum seance_status
post_init(struct seance_call *call, const char *topic, json_object *payload)
{
	(void)topic;
	json_object *steps = world_get(payload, "do");
	seance_set_state(call, seance_json("{\"got\":[],\"from\":null,\"timer\":0}"));
	for (size_t i = 0; steps && i < json_object_array_length(steps); i++)
		if (strcmp(json_object_get_string(
					   json_object_array_get_idx(json_object_array_get_idx(steps, i), 0)),
		           "after") != 0)
			act(call, json_object_array_get_idx(steps, i));
	return SEANCE_OK;
}

static enum seance_status
post_authorize(struct seance_call *call, const char *topic, json_object *payload)
{
	(void)topic;
	json_object *early = world_get(payload, "early");
	return early ? act(call, early) : SEANCE_OK;
}

static enum seance_status
post_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	(void)event, (void)state;
	return act_all(call, payload);
}

static enum seance_status
post_message(struct seance_call *call, json_object *message, json_object *state)
{
	(void)state;
	const char *topic = seance_message_topic(call);
	calls++;
	seance_add(call, json_object_get(message), "/got/-");
	seance_replace(call, topic ? json_object_new_string(topic) : NULL, "/from");
	return act_all(call, message);
}

static const struct seance_channel post_private = {
	.topic = "private:*",
	.authorize = post_authorize,
	.init = post_init,
	.handle_event = post_event,
	.handle_message = post_message,
};
static const struct seance_channel post_shared = {
	.topic = "shared:*",
	.scope = SEANCE_SHARED,
	.init = post_init,
	.handle_event = post_event,
	.handle_message = post_message,
	.max_version = 10,
};
static const struct seance_channel post_deaf = {
	.topic = "deaf:*",
	.init = post_init,
	.handle_event = post_event,
};

/* Answers each broadcast by another. */
static enum seance_status
chain_message(struct seance_call *call, json_object *message, json_object *state)
{
	calls++;
	seance_replace(call, json_object_get(message), "/got");
	(void)state;
	return seance_broadcast(call, "chain", json_object_new_int64(json_object_get_int64(message) + 1));
}

static const struct seance_channel post_chain = {
	.topic = "chain:*",
	.scope = SEANCE_SHARED,
	.init = post_init,
	.handle_event = post_event,
	.handle_message = chain_message,
};
static const struct seance_channel *const post_channels[] = {&post_private, &post_shared, &post_deaf,
                                                             &post_chain, NULL};

static void
open_posts(struct bench *b, bool file)
{
	calls = 0;
	bench_open_with(b, file, post_channels);
}

static void
say(struct bench *b, int i, const char *topic, const char *event, const char *payload)
{
	static int ref;
	char frame[800];
	ref++;
	snprintf(frame, sizeof(frame), "[\"1\",\"%s\",\"%s\",\"%s\",%s]",
	         strcmp(event, "phx_join") == 0 ? "1" : "9", topic, event, payload);
	bench_say(b, i, frame);
}

static void
join(struct bench *b, int i, const char *topic, const char *payload)
{
	say(b, i, topic, "phx_join", payload);
}

static void
does(struct bench *b, int i, const char *topic, const char *steps)
{
	char payload[600];
	snprintf(payload, sizeof(payload), "{\"do\":%s}", steps);
	say(b, i, topic, "seance:event:act", payload);
}

static bool
got(struct bench *b, int i, const char *topic, const char *wanted)
{
	json_object *value = json_read(wanted);
	json_object *is = world_get(client_find(&b->g[i].client, topic)->state, "got");
	bool same = bench_same(b, i, topic) && json_equal(value, is);
	if (!same)
		printf("# got %s\n", json_text(is, NULL));
	json_object_put(value);
	return same;
}

static int64_t
backlog(struct bench *b)
{
	int64_t count;
	store_backlog(b->faulty, &count);
	return count;
}

/* --- PubSub --- */

static void
test_broadcast(bool file)
{
	struct bench b;
	open_posts(&b, file);
	int a = bench_connect(&b), c = bench_connect(&b), d = bench_connect(&b);
	join(&b, a, "private:x", "{\"do\":[[\"subscribe\",\"news\"],[\"subscribe\",\"news\"]]}");
	join(&b, c, "private:x", "{\"early\":[\"subscribe\",\"news\"]}");
	join(&b, c, "shared:x", "{\"do\":[[\"subscribe\",\"news\"]]}");
	join(&b, d, "shared:x", "{}");
	join(&b, d, "private:y", "{\"do\":[[\"broadcast\",\"news\",0],[\"subscribe\",\"news\"]]}");
	bench_settle(&b);
	ok(got(&b, a, "private:x", "[0]") && got(&b, c, "private:x", "[0]") && got(&b, d, "shared:x", "[0]"),
	   "a broadcast of init reaches all that have subscribed, once each");
	ok(got(&b, d, "private:y", "[]"), "but not one that subscribes after it, in the same callback");
	does(&b, a, "private:x",
	     "[[\"broadcast\",\"news\",1],[\"broadcast\",\"news\",2],[\"broadcast\",\"other\",3]]");
	ok(got(&b, a, "private:x", "[0]") && client_find(&b.g[a].client, "private:x")->version == 2,
	   "the sender has its own patch first");
	bench_settle(&b);
	ok(got(&b, a, "private:x", "[0,1,2]") && got(&b, c, "private:x", "[0,1,2]") &&
	       got(&b, c, "shared:x", "[0,1,2]") && got(&b, d, "shared:x", "[0,1,2]") &&
	       got(&b, d, "private:y", "[1,2]"),
	   "then all are given both, in order, the sender too");
	ok(strcmp(world_text(client_find(&b.g[a].client, "private:x")->state, "from"), "news") == 0,
	   "and are told the PubSub topic");
	ok(backlog(&b) == 0, "nothing is left of them");
	ok(strncmp(bench_last(&b, d), "[\"1\",null,\"private:y\"", 21) == 0,
	   "a private one's patch has its join_ref");
	does(&b, c, "private:x", "[[\"unsubscribe\",\"news\"],[\"broadcast\",\"news\",4]]");
	does(&b, c, "private:x", "[[\"subscribe\",\"news\"]]");
	bench_settle(&b);
	ok(got(&b, c, "private:x", "[0,1,2]") && got(&b, d, "private:y", "[1,2,4]"),
	   "unsubscribed: no more");
	calls = 0;
	does(&b, c, "private:x", "[[\"broadcast\",\"news\",5],[\"crash\"]]");
	bench_settle(&b);
	ok(calls == 0 && got(&b, d, "private:y", "[1,2,4]"),
	   "of a callback that crashed nothing is broadcast");
	say(&b, d, "private:y", "phx_leave", "{}");
	does(&b, a, "private:x", "[[\"broadcast\",\"news\",6]]");
	bench_settle(&b);
	ok(calls == 2 && got(&b, d, "shared:x", "[0,1,2,4,6]") && backlog(&b) == 0,
	   "those that have gone are not waited for");
	bench_close(&b);
}

static void
test_answers(void)
{
	struct bench b;
	open_posts(&b, false);
	int a = bench_connect(&b), c = bench_connect(&b);
	join(&b, a, "shared:x", "{\"do\":[[\"subscribe\",\"news\"]]}");
	join(&b, c, "shared:x", "{}");
	does(&b, a, "shared:x", "[[\"broadcast\",\"news\",{\"do\":[[\"reply\",\"said\",1]]}]]");
	bench_settle(&b);
	ok(bench_frames(&b, a, "seance:event") == 1 && bench_frames(&b, c, "seance:event") == 1,
	   "a reply in handle_message is to everybody joined");
	join(&b, a, "private:x", "{\"do\":[[\"subscribe\",\"mine\"]]}");
	does(&b, a, "private:x",
	     "[[\"broadcast\",\"mine\",{\"do\":[[\"assign\",7],[\"reply\",\"said\",2]]}]]");
	bench_settle(&b);
	struct join *its = socket_join(engine_find(b.engine, b.g[a].token), "private:x");
	ok(bench_frames(&b, a, "seance:event") == 2 &&
	       json_object_get_int(world_get(its->assigns, "seen")) == 7,
	   "in private scope it is the join's, whose assigns it may set");
	join(&b, a, "deaf:x", "{\"do\":[[\"subscribe\",\"mine\"]]}");
	does(&b, a, "deaf:x", "[[\"broadcast\",\"mine\",1]]");
	bench_settle(&b);
	ok(backlog(&b) == 0 && client_find(&b.g[a].client, "deaf:x")->version == 1,
	   "without handle_message what comes is done with");
	does(&b, a, "shared:x", "[[\"broadcast\",\"news\",{\"do\":[[\"refuse\"]]}]]");
	int64_t version = client_find(&b.g[a].client, "shared:x")->version;
	bench_settle(&b);
	ok(backlog(&b) == 0 && client_find(&b.g[a].client, "shared:x")->version == version,
	   "refused: without effect");
	bench_close(&b);
}

static void
wait_for_retry(struct bench *b)
{
	clock_advance(1000);
	bench_settle(b);
}

/* Does the table `refused` of a database have such a row? */
static bool
refused(struct bench *b, const char *wanted)
{
	char command[400];
	snprintf(command, sizeof(command),
	         "sqlite3 '%s' 'select instance_topic, topic, payload, reason from refused' | grep -qF '%s'",
	         b->path, wanted);
	return system(command) == 0;
}

static void
test_crashes(void)
{
	struct bench b;
	open_posts(&b, true);
	int a = bench_connect(&b), c = bench_connect(&b);
	join(&b, a, "shared:bad", "{\"do\":[[\"subscribe\",\"news\"],[\"subscribe\",\"more\"]]}");
	join(&b, c, "shared:good", "{\"do\":[[\"subscribe\",\"more\"]]}");
	does(
		&b, a, "shared:bad",
		"[[\"broadcast\",\"news\",{\"do\":[[\"crash\"]]}],[\"broadcast\",\"news\",2],[\"broadcast\",\"more\",3]]");
	bench_settle(&b);
	ok(calls == 3 && got(&b, a, "shared:bad", "[3]") && got(&b, c, "shared:good", "[3]"),
	   "what crashes waits, with what follows it on its topic, and holds up nobody else");
	bench_settle(&b);
	ok(calls == 3 && engine_due(b.engine) > 0, "no turn is spent on it meanwhile");
	wait_for_retry(&b);
	ok(calls == 4, "it is given again");
	wait_for_retry(&b);
	ok(calls == 6 && got(&b, a, "shared:bad", "[3,2]") && backlog(&b) == 0,
	   "after the third time it is set aside, and the rest follows");
	bench_stop(&b, false);
	ok(refused(&b, "shared:bad|news|{\"do\":[[\"crash\"]]}|asked to"),
	   "the table refused has it, with the reason");
	bench_close(&b);
}

static void
test_chain(void)
{
	struct bench b;
	open_posts(&b, true);
	int a = bench_connect(&b);
	join(&b, a, "chain:x", "{\"do\":[[\"subscribe\",\"chain\"]]}");
	does(&b, a, "chain:x", "[[\"broadcast\",\"chain\",0]]");
	bench_settle(&b);
	ok(got(&b, a, "chain:x", "63") && calls == HOPS_MAX + 1 && backlog(&b) == 0,
	   "a broadcast answered by a broadcast and so on: the chain ends after %d", HOPS_MAX);
	bench_stop(&b, false);
	ok(refused(&b, "chain:x|chain|64|seance_broadcast: a chain of broadcasts"),
	   "and its end is set aside");
	bench_close(&b);
}

static void
test_bounds(void)
{
	struct bench b;
	char long_topic[1200];
	open_posts(&b, false);
	int a = bench_connect(&b);
	memset(long_topic, 't', 1100);
	long_topic[1100] = '\0';
	static const char *const bad[] = {
		"[[\"subscribe\",\"\"]]",
		"[[\"broadcast\",\"\",1]]",
		"[[\"after\",-1,1]]",
		"[[\"after\",9007199254740991,1]]",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		join(&b, a, "private:x", "{}");
		does(&b, a, "private:x", bad[i]);
		ok(!client_find(&b.g[a].client, "private:x")->joined, "crashes: %s", bad[i]);
	}
	join(&b, a, "private:x", "{}");
	char steps[1300];
	snprintf(steps, sizeof(steps),
	         "[\"1\",\"9\",\"private:x\",\"seance:event:act\",{\"do\":[[\"subscribe\",\"%s\"]]}]",
	         long_topic);
	bench_say(&b, a, steps);
	ok(!client_find(&b.g[a].client, "private:x")->joined, "crashes: a topic of 1,100 bytes");
	bench_close(&b);
}

/* --- timers --- */

static void
test_timers(bool file)
{
	struct bench b;
	open_posts(&b, file);
	int a = bench_connect(&b);
	join(&b, a, "shared:x", "{}");
	does(&b, a, "shared:x",
	     "[[\"after\",60000,\"late\"],[\"after\",1000,1],[\"after\",1000,2],[\"after\",0,0]]");
	bench_settle(&b);
	ok(got(&b, a, "shared:x", "[0]"), "a timer without delay comes at once, others do not");
	ok(engine_due(b.engine) > 0 && engine_due(b.engine) <= 1000, "the next one is waited for");
	clock_advance(1000);
	bench_settle(&b);
	ok(got(&b, a, "shared:x", "[0,1,2]"), "in the order of their times, and of their setting");
	ok(!world_get(client_find(&b.g[a].client, "shared:x")->state, "from"), "without a PubSub topic");
	does(&b, a, "shared:x", "[[\"after\",1000,\"never\"]]");
	char cancel[100];
	snprintf(cancel, sizeof(cancel), "[[\"cancel\",%s]]",
	         json_text(world_get(client_find(&b.g[a].client, "shared:x")->state, "timer"), NULL));
	does(&b, a, "shared:x", cancel);
	clock_advance(2000);
	bench_settle(&b);
	ok(got(&b, a, "shared:x", "[0,1,2]"), "cancelled: it does not come");
	if (file) {
		bench_stop(&b, true);
		clock_advance(60000);
		bench_start(&b);
		bench_held(&b, a);
		bench_settle(&b);
		ok(got(&b, a, "shared:x", "[0,1,2,\"late\"]"),
		   "one that fell due meanwhile comes after a start");
	}
	join(&b, a, "private:x", "{}");
	does(&b, a, "private:x", "[[\"after\",1000,1]]");
	say(&b, a, "private:x", "phx_leave", "{}");
	clock_advance(1000);
	calls = 0;
	bench_settle(&b);
	ok(calls == 0, "a private one's timers go with it");
	bench_close(&b);
}

static void
test_taken_twice(void)
{
	struct bench b;
	open_posts(&b, true);
	int a = bench_connect(&b);
	join(&b, a, "shared:x", "{\"do\":[[\"subscribe\",\"news\"]]}");
	does(&b, a, "shared:x", "[[\"after\",1000,1],[\"broadcast\",\"news\",2]]");
	clock_advance(1000);
	for (int i = 0; i < 3; i++) {
		b.engine->posts_look = true;
		engine_post(b.engine);
	}
	ok(calls == 2, "trace 20: what is taken is not taken again before its commit");
	bench_all(&b);
	bench_settle(&b);
	ok(calls == 2 && got(&b, a, "shared:x", "[2,1]"), "trace 20: nor after it");
	bench_close(&b);
}

/* Fired and cancelled in one turn: one of both. */
static void
test_cancel_race(void)
{
	struct bench b;
	open_posts(&b, true);
	int a = bench_connect(&b);
	join(&b, a, "shared:x", "{}");
	does(&b, a, "shared:x", "[[\"after\",1000,1]]");
	char cancel[100];
	snprintf(cancel, sizeof(cancel),
	         "[\"1\",\"9\",\"shared:x\",\"seance:event:act\",{\"do\":[[\"cancel\",%s]]}]",
	         json_text(world_get(client_find(&b.g[a].client, "shared:x")->state, "timer"), NULL));
	clock_advance(1000);
	bench_send(&b, a, cancel);
	bench_arrive(&b, a);   /* staged */
	engine_post(b.engine); /* staged behind it */
	bench_all(&b);
	bench_settle(&b);
	ok(calls == 1 && got(&b, a, "shared:x", "[]"), "what it did after the cancellation leaves no trace");
	bench_close(&b);
}

/* --- faults --- */

static int
run_all(struct bench *b, int a, int c)
{
	int turns = 0;
	for (; turns < 60; turns++) {
		if (b->g[a].frame && !b->way[a].inbox && !b->way[a].outbox)
			break;
		bench_settle(b);
		clock_advance(2000);
		bench_time_passes(b);
		if (got(b, a, "private:x", "[1,2,3]") && got(b, c, "shared:x", "[1,2,3]") && backlog(b) == 0)
			break;
	}
	return turns;
}

/* The nth write fails, for each n: all is given once all the same. */
static void
test_failing_writes(void)
{
	bool all = true, struck = true;
	int n = 1;
	for (; struck && n < 200; n++) {
		struct bench b;
		open_posts(&b, false);
		int a = bench_connect(&b), c = bench_connect(&b);
		join(&b, a, "private:x", "{\"do\":[[\"subscribe\",\"news\"]]}");
		join(&b, c, "shared:x", "{\"do\":[[\"subscribe\",\"news\"]]}");
		does(&b, a, "private:x",
		     "[[\"broadcast\",\"news\",1],[\"broadcast\",\"news\",2],[\"broadcast\",\"news\",3]]");
		store_fail_at(b.faulty, n, STORE_ERROR);
		all = run_all(&b, a, c) < 50 && all;
		store_fail_at(b.faulty, 0, STORE_OK);
		struck = n < 60;
		bench_close(&b);
	}
	ok(all, "each of the first %d writes fails once: all is given, once, in order", n - 1);
}

/* Killed after each turn: nothing is lost or given twice. */
static void
test_kills(void)
{
	struct bench b;
	open_posts(&b, true);
	int a = bench_connect(&b), c = bench_connect(&b);
	join(&b, a, "private:x", "{\"do\":[[\"subscribe\",\"news\"]]}");
	join(&b, c, "shared:x", "{\"do\":[[\"subscribe\",\"news\"]]}");
	for (int i = 1; i <= 40; i++) {
		char steps[100];
		snprintf(steps, sizeof(steps), "[[\"broadcast\",\"news\",%d]]", i);
		does(&b, a, "private:x", steps);
		engine_post(b.engine);
		if (i % 2)
			bench_commit(&b);
		bench_restart(&b, true);
		bench_held(&b, a);
		bench_held(&b, c);
		bench_all(&b);
	}
	bench_settle(&b);
	json_object *is = world_get(client_find(&b.g[a].client, "private:x")->state, "got");
	bool right = json_object_array_length(is) == 40;
	for (int i = 0; right && i < 40; i++)
		right = json_object_get_int(json_object_array_get_idx(is, (size_t)i)) == i + 1;
	ok(right && bench_same(&b, a, "private:x") && got(&b, c, "shared:x", json_text(is, NULL)) &&
	       backlog(&b) == 0,
	   "killed again and again: 40 broadcasts, each given once, in order");
	bench_close(&b);
}

/* Another process on the same database gives them too: each is given by one. */
static void
test_two_programs(void)
{
	struct bench b;
	char *error = NULL;
	open_posts(&b, true);
	int a = bench_connect(&b);
	join(&b, a, "shared:x", "{\"do\":[[\"subscribe\",\"news\"]]}");
	struct engine *other = engine_open(store_open_sqlite(b.path, STORE_NORMALLY, &error), &b.limits,
	                                   &world_hooks, NULL, post_channels);
	engine_lock(other);
	ok(engine_restore(other), "  (another program)");
	engine_unlock(other);
	for (int i = 0; i < 20; i++) {
		char steps[100];
		struct commit_result result;
		snprintf(steps, sizeof(steps), "[[\"broadcast\",\"news\",%d]]", i);
		does(&b, a, "shared:x", steps);
		engine_post(b.engine);
		engine_lock(other);
		engine_commit(other, &result); /* sees that there is something */
		commit_result_release(&result);
		engine_post(other);
		for (int turn = 0; turn < 3; turn++) {
			engine_commit(other, &result);
			commit_result_release(&result);
		}
		engine_unlock(other);
		bench_all(&b);
		bench_settle(&b);
	}
	json_object *is = world_get(client_find(&b.g[a].client, "shared:x")->state, "got");
	ok(json_object_array_length(is) == 20 && bench_same(&b, a, "shared:x"),
	   "two programs: each is given by one");
	engine_close(other);
	bench_close(&b);
}

int
main(void)
{
	for (int file = 0; file < 2; file++) {
		test_broadcast(file);
		test_timers(file);
	}
	test_answers();
	test_crashes();
	test_chain();
	test_bounds();
	test_taken_twice();
	test_cancel_race();
	test_failing_writes();
	test_kills();
	test_two_programs();
	return done();
}
