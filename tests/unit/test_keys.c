/*
 * test_keys - events with keys: done once, by whatever socket, over restarts, failing commits and foreign ones, as long
 * as the log has their rows
 */
#include "engine_bench.h"
#include "memory.h"
#include "store_backend.h"
#include "tap.h"

#define TOPIC "shared:x"

static const char *
join_frame(void)
{
	return "[\"1\",\"1\",\"" TOPIC "\",\"phx_join\",{}]";
}

static const char *
keyed(const char *key, int id)
{
	static char frame[200];
	snprintf(frame, sizeof(frame),
	         "[\"1\",\"2\",\"" TOPIC
	         "\",\"seance:event\",{\"type\":\"add\",\"payload\":{\"id\":%d},\"key\":\"%s\"}]",
	         id, key);
	return frame;
}

static int
count(struct bench *b)
{
	return (int)bench_count(b, 0, TOPIC);
}

static enum message_outcome
said(struct bench *b, int i, const char *key, int id)
{
	bench_say(b, i, keyed(key, id));
	return b->outcome;
}

static void
test_once(bool killed)
{
	struct bench b;
	bench_open(&b, true);
	int a = bench_connect(&b), c = bench_connect(&b);
	bench_say(&b, a, join_frame());
	bench_say(&b, c, join_frame());
	ok(said(&b, a, "k", 1) == OUTCOME_COMMITTED && count(&b) == 1, "the first is done");
	ok(said(&b, a, "k", 1) == OUTCOME_REPEATED && count(&b) == 1, "the same again is not");
	ok(said(&b, c, "k", 1) == OUTCOME_REPEATED && count(&b) == 1, "nor by another socket");
	ok(said(&b, c, "k", 2) == OUTCOME_MISUSED && count(&b) == 1, "another with the key is refused");
	bench_restart(&b, killed);
	bench_held(&b, a);
	bench_held(&b, c);
	ok(said(&b, c, "k", 1) == OUTCOME_REPEATED && said(&b, a, "k", 2) == OUTCOME_MISUSED &&
	       count(&b) == 1,
	   "the same after a %s", killed ? "kill" : "restart");
	ok(said(&b, a, "other", 2) == OUTCOME_COMMITTED && count(&b) == 2, "another key is another's");
	bench_close(&b);
}

/* How many of the two sockets were answered by this outcome. */
static int
outcomes(struct commit_result *result, enum message_outcome outcome)
{
	int found = 0;
	for (const struct message *m = result->answered; m; m = m->next)
		found += m->outcome == outcome;
	return found;
}

static void
test_together(int failing)
{
	struct bench b;
	struct commit_result result;
	struct world_ways ways = {&b, bench_link_unit, bench_answered};
	bench_open(&b, true);
	int a = bench_connect(&b), c = bench_connect(&b), e = bench_connect(&b);
	for (int i = a; i <= e; i++)
		bench_say(&b, i, join_frame());
	bench_send(&b, a, keyed("k", 1));
	bench_send(&b, c, keyed("k", 1));
	bench_send(&b, e, keyed("k", 2));
	for (int i = a; i <= e; i++)
		bench_arrive(&b, i);
	store_fail_at(b.faulty, failing, STORE_FULL);
	engine_commit(b.engine, &result);
	ok(outcomes(&result, OUTCOME_COMMITTED) == 1 && outcomes(&result, OUTCOME_REPEATED) == 1 &&
	       outcomes(&result, OUTCOME_MISUSED) == 1,
	   "three at once, write %d fails: one is done, one is its repetition, one another's", failing);
	store_fail_at(b.faulty, 0, STORE_OK);
	world_deliver(b.engine, &result, &ways);
	commit_result_release(&result);
	for (int i = a; i <= e; i++)
		bench_answer(&b, i);
	bench_all(&b);
	ok(count(&b) == 1, "  and done once");
	ok(said(&b, e, "k", 1) == OUTCOME_REPEATED && count(&b) == 1, "  as is known afterwards");
	bench_close(&b);
}

static void
test_not_committed(void)
{
	struct bench b;
	bench_open(&b, true);
	int a = bench_connect(&b);
	bench_say(&b, a, join_frame());
	store_fail_at(b.faulty, 2, STORE_FULL);
	ok(said(&b, a, "k", 1) == OUTCOME_FAILED && count(&b) == 0, "an event that cannot be committed");
	store_fail_at(b.faulty, 0, STORE_OK);
	ok(said(&b, a, "k", 2) == OUTCOME_COMMITTED && count(&b) == 1, "keeps no key from another");
	bench_close(&b);
}

static void
test_foreign(void)
{
	struct bench b, other;
	bench_open(&b, true);
	int a = bench_connect(&b);
	bench_say(&b, a, join_frame());
	other = (struct bench){.limits = world_limits()};
	snprintf(other.path, sizeof(other.path), "%s", b.path);
	engine_unlock(b.engine); /* of two locks at once no thread could keep an order */
	bench_start(&other);
	int d = bench_connect(&other);
	bench_say(&other, d, join_frame());
	ok(said(&other, d, "k", 1) == OUTCOME_COMMITTED, "another process does it");
	bench_stop(&other, true);
	engine_lock(b.engine);
	bench_send(&b, a, keyed("k", 1)); /* staged before that is noticed */
	bench_arrive(&b, a);
	bench_commit(&b);
	ok(b.outcome == OUTCOME_REPEATED, "then it is done here, too");
	bench_answer(&b, a);
	bench_all(&b);
	ok(count(&b) == 1, "once");
	other.path[0] = '\0'; /* it is the first one's */
	bench_close(&other);
	bench_close(&b);
}

static void
test_forgotten(void)
{
	struct bench b;
	bench_open(&b, true);
	int a = bench_connect(&b);
	b.engine->limits.log_rows = 20;
	b.engine->limits.marks_ms = -1;
	bench_say(&b, a, join_frame());
	said(&b, a, "k", 1);
	for (int i = 2; i < 60; i++) {
		char key[16];
		snprintf(key, sizeof(key), "%d", i);
		said(&b, a, key, i);
		b.engine->marked_ms -= 10000;
		for (struct instance *due = b.engine->due_first; due; due = due->due_next)
			due->due_ms = 1;
		engine_house(b.engine, INT64_MAX, NULL, NULL);
		bench_all(&b);
	}
	ok(lh_table_length(b.engine->keys) < 59, "keys go with their rows (%d are left)",
	   lh_table_length(b.engine->keys));
	ok(said(&b, a, "59", 59) == OUTCOME_REPEATED, "those of rows that are there stay");
	int before = count(&b);
	ok(said(&b, a, "k", 1) == OUTCOME_COMMITTED && count(&b) == before + 1,
	   "an event whose row has gone is done again");
	bench_close(&b);
}

static enum store_status
cannot_scan(struct store *store, store_key_fn *row, void *context)
{
	(void)store, (void)row, (void)context;
	return STORE_ERROR;
}

static enum store_status
cannot_get(struct store *store, const char *key, store_answer_fn *row, void *context)
{
	(void)store, (void)key, (void)row, (void)context;
	return STORE_ERROR;
}

/*
 * An event by HTTP with nginx's mark, or with a client's key, by a process of its own that can or cannot read those
 * that there are.
 */
static enum message_outcome
by_guest(struct bench *b, const char *mark, const char *key, bool readable)
{
	struct bench other = {.limits = world_limits()};
	struct commit_result result;
	struct store_backend backend;
	char *error = NULL;
	struct store *store = store_open_sqlite(b->path, STORE_NORMALLY, &error);
	backend = *store->backend;
	if (!readable) {
		backend.scan_keys = cannot_scan;
		backend.answer_get = cannot_get;
	}
	store->backend = &backend;
	engine_unlock(b->engine);
	other.engine = engine_open(store, &other.limits, &world_hooks, NULL, world_channels);
	engine_lock(other.engine);
	if (!engine_restore_guest(other.engine))
		abort();
	struct visit *visit = visit_marked(mark);
	visit->event = memory_strdup("add");
	visit->key = key ? memory_strdup(key) : NULL;
	visit->params = json_object_new_object();
	visit->body = json_read("{\"id\":1}");
	engine_visit(other.engine, visit, TOPIC, NULL);
	engine_commit(other.engine, &result);
	enum message_outcome outcome = result.answered->outcome;
	commit_result_release(&result);
	engine_unlock(other.engine);
	engine_close(other.engine);
	engine_lock(b->engine);
	return outcome;
}

static void
test_guest(void)
{
	struct bench b;
	bench_open(&b, true);
	int a = bench_connect(&b);
	bench_say(&b, a, join_frame());
	said(&b, a, "k", 1);
	ok(by_guest(&b, NULL, "k", true) == OUTCOME_COMMITTED,
	   "again, by a process that only takes one request");
	ok(by_guest(&b, NULL, "k", false) == OUTCOME_FAILED,
	   "which does nothing if it cannot see what was done");
	bench_all(&b);
	ok(count(&b) == 1, "it is done once");
	for (int i = 0; i < 2; i++)
		ok(by_guest(&b, "m", NULL, true) == OUTCOME_COMMITTED, "a request that nginx sends again");
	ok(by_guest(&b, "m", NULL, false) == OUTCOME_FAILED, "the same");
	bench_all(&b);
	ok(count(&b) == 2, "it is done once");
	bench_close(&b);
}

int
main(void)
{
	clock_stop();
	test_once(true);
	test_once(false);
	for (int failing = 0; failing < 12; failing++)
		test_together(failing);
	test_not_committed();
	test_foreign();
	test_forgotten();
	test_guest();
	return done();
}
