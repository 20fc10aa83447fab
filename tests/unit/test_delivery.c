/*
 * test_delivery - the traces of docs/delivery.md: the shortest ways in which a rule left out breaks a promise
 *
 *   trace                                     tested
 *    1 merged units                           here
 *    2 quiet commit counted                   here
 *    3 same message twice                     here
 *    4 stale copy                             here
 *    5 new program before hello               here
 *    6 held after the first commits           here
 *    7 fill not atomic                        here; with threads in test_engine_threads
 *    8 join's outcome from today's state      here
 *    9 refresh without a number               here
 *   10 today's joins in a fill                here
 *   11 own unanswered outcome in a fill       here
 *   12 several messages in a request          the module's: one a request; the engine refuses the order here
 *   13 absent from hello                      here
 *   14 dead revived                           here
 *   15 replacement reads marks too early      here
 *   16 foreign commit noticed late            here
 *   17 pruned commit replaced by a state      here
 *   18 overflow dropped silently              here (the gateway is a copy of nginx/module/order.c)
 *   19 next request while frames are held     here, likewise
 *   20 timer fired twice                      with timers
 *   21 a commit number used again             here
 *   all of them at random                     test_model
 *
 * In place of a timer's commit stands another client's event on a shared instance.
 */
#include "engine_bench.h"

#define JOIN    "[\"1\",\"1\",\"shared:a\",\"phx_join\",{}]"
#define JOIN2   "[\"3\",\"3\",\"shared:a\",\"phx_join\",{}]"
#define LEAVE   "[\"1\",\"9\",\"shared:a\",\"phx_leave\",{}]"
#define REFRESH "[\"1\",\"9\",\"shared:a\",\"seance:refresh\",{}]"
#define ADD(id) "[\"1\",\"5\",\"shared:a\",\"seance:event:add\",{\"id\":" #id ",\"push\":1}]"
#define ODD(id) "[\"1\",\"5\",\"shared:a\",\"seance:event:odd\",{\"id\":" #id "}]"

/* Two clients, T is joined. */
enum { S, T };

static void
begin(struct bench *b, bool file)
{
	bench_open(b, file);
	bench_connect(b);
	bench_connect(b);
	bench_say(b, T, JOIN);
}

static void
check(struct bench *b, const char *name)
{
	ok(bench_same(b, S, "shared:a") && bench_same(b, T, "shared:a"), "%s", name);
	if (!bench_same(b, S, "shared:a"))
		printf("# S at %d: %s\n", (int)b->g[S].position, bench_last(b, S));
}

static void
trace_1(void)
{
	struct bench b;
	begin(&b, false);
	bench_send(&b, S, JOIN);
	bench_arrive(&b, S);
	bench_commit(&b); /* its answer is on the way */
	bench_send(&b, T, ADD(1));
	bench_arrive(&b, T);
	bench_held(&b, S); /* hello at 0: a fill */
	bench_commit(&b);
	bench_answer(&b, T);
	bench_link(&b, S, -1);
	bench_answer(&b, S);
	bench_link(&b, T, -1);
	check(&b, "trace 1: fill and answer cross");
	ok(bench_frames(&b, S, "phx_reply") == 1 && bench_frames(&b, S, "seance:change") == 1 &&
	       bench_frames(&b, S, "seance:patch") == 1,
	   "trace 1: the join's reply came once");
	bench_close(&b);
}

static void
trace_2(void)
{
	struct bench b;
	begin(&b, false);
	bench_connect(&b);
	bench_say(&b, S, JOIN);
	bench_say(&b, 2, "[\"1\",\"1\",\"private:q\",\"phx_join\",{}]"); /* nothing for S */
	bench_say(&b, 2, "[\"1\",\"2\",\"private:q\",\"seance:event:add\",{\"id\":1}]");
	bench_say(&b, T, ADD(1));
	check(&b, "trace 2: a commit without bytes for it is not counted");
	bench_close(&b);
}

static void
trace_3(void)
{
	struct bench b;
	begin(&b, false);
	bench_say(&b, S, JOIN);
	bench_send(&b, S, ADD(1));
	bench_arrive(&b, S);
	bench_send(&b, S, NULL); /* the connection broke, before the commit */
	bench_arrive(&b, S);
	ok(b.submitted == SUBMIT_REPEATED, "trace 3: the copy waits for the first");
	bench_all(&b);
	check(&b, "trace 3: applied once");
	ok(bench_count(&b, S, "shared:a") == 1 && bench_frames(&b, S, "seance:patch") == 1,
	   "trace 3: told once");
	bench_send(&b, S, ADD(2)); /* the answer is lost, after the commit */
	bench_arrive(&b, S);
	bench_commit(&b);
	bench_lose_answer(&b, S);
	bench_send(&b, S, NULL);
	bench_arrive(&b, S);
	bench_all(&b);
	check(&b, "trace 3: sent again after its commit");
	ok(bench_count(&b, S, "shared:a") == 2, "trace 3: applied once too");
	bench_close(&b);
}

/* Only a file lives longer than the program. */
static void
trace_3_file(void)
{
	struct bench b;
	begin(&b, true);
	bench_say(&b, S, JOIN);
	for (int i = 0; i < 3; i++) {
		bench_send(&b, S, ADD(3));
		bench_arrive(&b, S);
		bench_commit(&b);
		bench_lose_answer(&b, S);
		bench_restart(&b, i % 2 == 0);
		if (i == 1)
			bench_held(&b, S);
		bench_held(&b, T);
		bench_send(&b, S, NULL);
		bench_arrive(&b, S);
		bench_all(&b);
		if (i != 1)
			bench_held(&b, S);
		bench_all(&b);
		check(&b, "trace 3: sent again to a new program");
		ok(bench_count(&b, S, "shared:a") == i + 1, "trace 3: applied once there too");
	}
	bench_close(&b);
}

static void
trace_4(void)
{
	struct bench b;
	begin(&b, false);
	bench_say(&b, S, JOIN);
	bench_send(&b, S, ODD(1));
	struct request *old = b.way[S].inbox; /* unread */
	bench_send(&b, S, NULL);
	bench_arrive(&b, S);
	bench_all(&b);
	ok(b.outcome == OUTCOME_REFUSED && !b.g[S].frame, "trace 4: the copy is refused and answered");
	bench_say(&b, T, ADD(2)); /* now it would be accepted */
	bench_take(&b, old);
	ok(b.submitted == SUBMIT_STALE, "trace 4: the old copy is dropped");
	bench_all(&b);
	check(&b, "trace 4: and changes nothing");
	ok(bench_count(&b, S, "shared:a") == 1, "trace 4: one event was applied");
	bench_close(&b);
}

static void
trace_5(void)
{
	struct bench b;
	begin(&b, true);
	bench_say(&b, S, JOIN);
	bench_restart(&b, true);
	bench_send(&b, T, ADD(1)); /* c2, before any hello */
	bench_arrive(&b, T);
	bench_commit(&b);
	bench_answer(&b, T);
	bench_send(&b, S, ADD(2)); /* c3 */
	bench_arrive(&b, S);
	bench_commit(&b);
	bench_answer(&b, S);
	bench_held(&b, S);
	bench_held(&b, T);
	bench_all(&b);
	check(&b, "trace 5: a new program, no hello yet");
	ok(bench_count(&b, S, "shared:a") == 2, "trace 5: both came");
	bench_close(&b);
}

static void
trace_6(void)
{
	struct bench b;
	bench_open(&b, false);
	bench_connect_unheld(&b);
	bench_connect(&b);
	bench_say(&b, T, JOIN);
	bench_say(&b, S, JOIN);
	bench_say(&b, T, ADD(1)); /* cannot be delivered to S */
	bench_held(&b, S);
	bench_all(&b);
	check(&b, "trace 6: held after the first commits");
	bench_close(&b);
}

static void
trace_7(void)
{
	struct bench b;
	begin(&b, false);
	bench_say(&b, S, JOIN);
	bench_unlink(&b);
	bench_held(&b, T);
	bench_send(&b, T, ADD(1));
	bench_arrive(&b, T);
	bench_held(&b, S); /* a fill is wanted while a commit is staged */
	bench_all(&b);
	check(&b, "trace 7: fill and commit are one step");
	bench_say(&b, T, ADD(2));
	check(&b, "trace 7: and what comes next follows");
	bench_close(&b);
}

static void
trace_8(void)
{
	struct bench b;
	begin(&b, false);
	bench_send(&b, S, JOIN);
	bench_arrive(&b, S);
	bench_commit(&b);
	bench_lose_answer(&b, S);
	bench_say(&b, T, ADD(1));
	bench_drop_units(&b, S);
	bench_send(&b, S, NULL);
	bench_arrive(&b, S);
	bench_all(&b);
	check(&b, "trace 8: the join's outcome is its own state, then the patch");
	ok(bench_frames(&b, S, "seance:patch") == 1 && client_find(&b.g[S].client, "shared:a")->version == 1,
	   "trace 8: state 0, patch 1");
	bench_close(&b);
}

static void
trace_9(void)
{
	struct bench b;
	begin(&b, false);
	bench_say(&b, S, JOIN);
	bench_send(&b, S, REFRESH);
	bench_send(&b, T, ADD(1));
	bench_arrive(&b, S);
	bench_arrive(&b, T);
	bench_commit(&b);
	bench_link(&b, S, -1); /* the patch overtakes */
	bench_answer(&b, S);
	bench_all(&b);
	check(&b, "trace 9: a patch does not overtake a refresh");
	bench_close(&b);
}

static void
trace_10(void)
{
	struct bench b;
	begin(&b, false);
	bench_say(&b, S, JOIN);
	bench_unlink(&b);
	bench_held(&b, T);
	bench_say(&b, T, ADD(1)); /* c2, not deliverable */
	bench_send(&b, S, LEAVE); /* c3 */
	bench_arrive(&b, S);
	bench_all(&b);
	ok(bench_frames(&b, S, "seance:event") == 1 && bench_frames(&b, S, "seance:patch") == 1 &&
	       bench_frames(&b, S, "phx_close") == 1,
	   "trace 10: c2's event came, though it has left since");
	bench_close(&b);
}

static void
trace_11(void)
{
	struct bench b;
	begin(&b, false);
	bench_send(&b, S, JOIN);
	bench_arrive(&b, S);
	bench_commit(&b);
	bench_lose_answer(&b, S);
	bench_say(&b, T, ADD(1));
	bench_drop_units(&b, S);
	bench_held(&b, S); /* the fill comes before the message is sent again */
	bench_commit(&b);
	bench_link(&b, S, -1);
	ok(client_find(&b.g[S].client, "shared:a")->joined && !b.g[S].client.trouble,
	   "trace 11: the fill has its own outcome");
	bench_send(&b, S, NULL);
	bench_arrive(&b, S);
	bench_all(&b);
	check(&b, "trace 11: and its message is done");
	bench_close(&b);
}

static void
trace_12(void)
{
	struct bench b;
	begin(&b, false);
	bench_say(&b, S, JOIN);
	bench_send(&b, S, ODD(1));
	bench_arrive(&b, S);
	bench_all(&b);
	bench_say(&b, S, ADD(2));
	struct request *again = memory_zeroed(1, sizeof(*again));
	*again = (struct request){.gateway = &b.g[S], .number = b.g[S].number - 1};
	b.g[S].frame = memory_strdup(ODD(1));
	bench_take(&b, again);
	ok(b.submitted == SUBMIT_STALE, "trace 12: a message older than the newest is not run");
	free(b.g[S].frame);
	b.g[S].frame = NULL;
	bench_all(&b);
	check(&b, "trace 12: nothing came of it");
	bench_close(&b);
}

static void
trace_13(void)
{
	struct bench b;
	begin(&b, false);
	bench_unlink(&b); /* a new link, whose hello was composed before S was held */
	bench_held(&b, T);
	bench_commit(&b);
	ok(engine_find(b.engine, b.g[S].token) != NULL, "trace 13: absent from hello is not ended");
	bench_held(&b, S);
	bench_say(&b, S, JOIN);
	check(&b, "trace 13: it goes on");
	b.limits.grace_ms = b.engine->limits.grace_ms = -1;
	engine_unlinked(b.engine, &b.link, INT64_MAX);
	engine_house(b.engine, INT64_MAX, NULL, NULL);
	ok(!engine_find(b.engine, b.g[S].token), "trace 13: after the grace it is");
	bench_held(&b, S);
	ok(b.g[S].closed, "trace 13: and is closed when it comes after all");
	bench_close(&b);
}

static void
trace_14(void)
{
	struct bench b;
	begin(&b, true);
	bench_send(&b, S, JOIN);
	bench_arrive(&b, S); /* staged */
	engine_closed(b.engine, engine_find(b.engine, b.g[S].token));
	bench_commit(&b);
	ok(b.outcome == OUTCOME_GONE,
	   "trace 14: the join of a socket that has ended is answered by its end");
	bench_say(&b, T, ADD(1));
	bench_restart(&b, true);
	ok(!engine_find(b.engine, b.g[S].token) && b.engine->socket_count == 1,
	   "trace 14: nobody is revived");
	bench_answer(&b, S);
	bench_close(&b);
}

static void
trace_15(void)
{
	struct bench b;
	begin(&b, true);
	bench_say(&b, S, JOIN);
	bench_send(&b, S, ADD(1));
	bench_arrive(&b, S);
	bench_commit(&b); /* the old program's last commit */
	bench_lose_answer(&b, S);
	bench_restart(&b, false); /* the new one reads the log after it */
	bench_held(&b, S);
	bench_held(&b, T);
	bench_send(&b, S, NULL);
	bench_arrive(&b, S);
	bench_all(&b);
	check(&b, "trace 15: the replacement knows what is done");
	ok(bench_count(&b, S, "shared:a") == 1, "trace 15: applied once");
	bench_close(&b);
}

/* Another process on the same file; kept: does it stay? */
static void
other_commits(struct bench *b, const char *event)
{
	struct bench other = {.limits = world_limits()};
	strcpy(other.path, b->path);
	bench_start(&other);
	bench_connect(&other);
	bench_say(&other, 0, "[\"1\",\"1\",\"shared:a\",\"phx_join\",{}]");
	bench_say(&other, 0, event);
	ok(other.outcome == OUTCOME_COMMITTED, "  (another process has committed)");
	engine_closed(other.engine, engine_find(other.engine, other.g[0].token));
	bench_commit(&other);
	other.path[0] = 0;
	bench_close(&other);
}

static void
trace_16(void)
{
	struct bench b;
	begin(&b, true);
	bench_say(&b, S, JOIN);
	other_commits(&b, ADD(7)); /* c2 */
	bench_say(&b, S, ADD(8));  /* c3 */
	check(&b, "trace 16: another's commit comes before the own one");
	ok(bench_count(&b, S, "shared:a") == 2, "trace 16: both are there");
	other_commits(&b, ADD(9));
	bench_all(&b); /* noticed without an own one */
	check(&b, "trace 16: it is delivered");
	bench_send(&b, S, ADD(10));
	bench_arrive(&b, S); /* run on a state that is not the newest */
	other_commits(&b, ADD(11));
	bench_all(&b);
	check(&b, "trace 16: a conflict runs it again");
	ok(bench_count(&b, S, "shared:a") == 5 && bench_count(&b, T, "shared:a") == 5,
	   "trace 16: all are there");
	bench_close(&b);
}

static void
close_one(void *context, struct socket *socket)
{
	struct bench *b = context;
	int i = bench_index(b, socket->row.token);
	b->closed++;
	if (i >= 0)
		b->g[i].closed = true;
}

static void
house(struct bench *b)
{
	b->engine->limits.marks_ms = -1; /* nobody sends again */
	for (int i = 0; i < 3; i++) {
		bench_time_passes(b);
		engine_house(b->engine, INT64_MAX, close_one, b);
		bench_all(b);
	}
}

static void
trace_17(void)
{
	struct bench b;
	begin(&b, true);
	b.engine->limits.log_rows = 20;
	bench_say(&b, S, JOIN);
	bench_unlink(&b); /* S lags from here on */
	bench_held(&b, T);
	for (int i = 0; i < 35; i++)
		bench_say(&b, T, ADD(1));
	house(&b);
	ok(b.engine->oldest <= 3 && b.closed == 0, "trace 17: nothing that S may need is pruned");
	bench_held(&b, S);
	bench_all(&b);
	check(&b, "trace 17: it gets every event");
	ok(bench_frames(&b, S, "seance:event") == 35, "trace 17: 35 of them");
	for (int i = 0; i < 5; i++)
		house(&b);
	ok(b.engine->oldest > 5, "trace 17: now the log is pruned (%d)", (int)b.engine->oldest);
	bench_held(&b, S); /* a hello that is not news */
	bench_all(&b);
	check(&b, "trace 17: a hello afterwards needs nothing");
	ok(bench_frames(&b, S, "seance:change") == 1, "trace 17: least of all a state");
	bench_unlink(&b);
	bench_held(&b, T);
	for (int i = 0; i < 45; i++)
		bench_say(&b, T, ADD(1));
	house(&b);
	house(&b);
	ok(b.closed == 1 && b.g[S].closed && !b.g[T].closed,
	   "trace 17: past the hard bound S is closed, T is not");
	bench_close(&b);
}

static void
trace_18(void)
{
	for (int bound = 0; bound < 3; bound++) {
		struct bench b;
		begin(&b, false);
		b.g[S].held_max = bound;
		bench_send(&b, S, JOIN);
		bench_arrive(&b, S);
		bench_commit(&b); /* the answer is late */
		for (int i = 0; i < 4; i++) {
			bench_send(&b, T, ADD(1));
			bench_arrive(&b, T);
			bench_commit(&b);
			bench_answer(&b, T);
			bench_link(&b, S, -1);
		}
		ok(b.way[S].overflows == 1, "trace 18: bound %d is passed", bound);
		bench_answer(&b, S);
		bench_all(&b);
		check(&b, "trace 18: what was dropped comes again");
		bench_say(&b, T, ADD(2));
		check(&b, "trace 18: and it goes on");
		bench_close(&b);
	}
}

static void
trace_19(void)
{
	struct bench b;
	begin(&b, false);
	bench_say(&b, S, JOIN);
	bench_say(&b, T, ADD(1));
	bench_send(&b, T, ADD(2));
	bench_arrive(&b, T);
	bench_commit(&b); /* (c, c+1) for S stays in the link */
	bench_answer(&b, T);
	bench_send(&b, S, ADD(3));
	bench_arrive(&b, S);
	bench_commit(&b);
	bench_answer(&b, S);
	ok(b.g[S].frame && b.g[S].answer,
	   "trace 19: the request has not ended while its frames are held back");
	bench_link(&b, S, -1);
	bench_all(&b);
	check(&b, "trace 19: then it has");
	bench_close(&b);
}

static void
trace_21(void)
{
	struct bench b;
	begin(&b, true);
	bench_say(&b, S, JOIN);
	bench_say(&b, S, ADD(1));
	int64_t last = b.engine->last;
	b.engine->limits.log_rows = 0;
	house(&b);
	house(&b);
	bench_restart(&b, true);
	ok(b.engine->last == last, "trace 21: numbers go on after pruning and a kill");
	bench_held(&b, S);
	bench_held(&b, T);
	bench_say(&b, T, ADD(2));
	check(&b, "trace 21: nothing is dropped as past");
	store_fail_at(b.faulty, 3, STORE_FULL);
	bench_say(&b, S, ADD(3));
	bench_say(&b, T, ADD(4));
	check(&b, "trace 21: nor after a commit that failed");
	bench_close(&b);
}

/* Found by test_model: the answer that is lost has other commits' units in it. */
static void
lost_answer_of_nothing(void)
{
	struct bench b;
	begin(&b, false);
	bench_say(&b, S, JOIN);
	bench_send(&b, T, ADD(1));
	bench_send(&b, S, "[\"1\",\"5\",\"nobody:a\",\"seance:event:x\",{}]");
	bench_arrive(&b, T);
	bench_arrive(&b, S);
	bench_commit(&b);
	bench_lose_answer(&b, S);
	bench_answer(&b, T);
	bench_send(&b, S, NULL);
	bench_arrive(&b, S);
	bench_all(&b);
	check(&b, "the lost answer of a message without a commit is filled too");
	bench_close(&b);
}

/* Found by test_model: the dead copy of a done message comes after the living one. */
static void
dead_copy_last(void)
{
	struct bench b;
	begin(&b, false);
	bench_say(&b, S, JOIN);
	bench_send(&b, S, ADD(1));
	bench_arrive(&b, S);
	bench_commit(&b);
	bench_lose_answer(&b, S);
	bench_send(&b, S, NULL);
	struct request *dead = b.way[S].inbox;
	bench_send(&b, S, NULL);
	bench_arrive(&b, S);
	bench_take(&b, dead);
	ok(b.submitted == SUBMIT_STALE, "a dead copy is dropped, done or not");
	bench_all(&b);
	check(&b, "the living one is answered");
	bench_close(&b);
}

int
main(void)
{
	trace_1();
	trace_2();
	trace_3();
	trace_3_file();
	trace_4();
	trace_5();
	trace_6();
	trace_7();
	trace_8();
	trace_9();
	trace_10();
	trace_11();
	trace_12();
	trace_13();
	trace_14();
	trace_15();
	trace_16();
	trace_17();
	trace_18();
	trace_19();
	trace_21();
	lost_answer_of_nothing();
	dead_copy_last();
	return done();
}
