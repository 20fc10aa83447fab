/*
 * test_engine_threads - callbacks let go of the lock: what others do meanwhile
 *
 * A slow callback stands at a gate in a thread of its own; the main thread goes on with the engine.
 */
#include "engine_bench.h"

#include <unistd.h>

#define SLOW "shared:slow"

/* --- the gate --- */

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_moved = PTHREAD_COND_INITIALIZER;
static int gate_waiting, gate_open;
static bool gate_shut;

static void
gate_pass(void)
{
	pthread_mutex_lock(&gate_lock);
	if (gate_shut) {
		gate_waiting++;
		pthread_cond_broadcast(&gate_moved);
		while (!gate_open)
			pthread_cond_wait(&gate_moved, &gate_lock);
		gate_open--;
		gate_waiting--;
		pthread_cond_broadcast(&gate_moved);
	}
	pthread_mutex_unlock(&gate_lock);
}

static void
gate_set(bool shut)
{
	pthread_mutex_lock(&gate_lock);
	gate_shut = shut;
	if (!shut)
		gate_open = gate_waiting;
	pthread_cond_broadcast(&gate_moved);
	pthread_mutex_unlock(&gate_lock);
}

static void
gate_await(void)
{
	pthread_mutex_lock(&gate_lock);
	while (!gate_waiting)
		pthread_cond_wait(&gate_moved, &gate_lock);
	pthread_mutex_unlock(&gate_lock);
}

static enum seance_status
slow_init(struct seance_call *call, const char *topic, json_object *payload)
{
	if (world_get(payload, "slow"))
		gate_pass();
	return world_init(call, topic, payload);
}

static enum seance_status
slow_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	if (world_get(payload, "slow"))
		gate_pass();
	return world_event(call, event, payload, state);
}

static const struct seance_channel slow_shared = {
	.topic = "shared:*",
	.scope = SEANCE_SHARED,
	.init = slow_init,
	.handle_event = slow_event,
	.max_version = 10,
};
static const struct seance_channel slow_private = {
	.topic = "private:*",
	.init = slow_init,
	.handle_event = slow_event,
};
static const struct seance_channel *const slow_channels[] = {&slow_shared, &slow_private, NULL};

/* --- a message in a thread of its own --- */

struct job {
	struct bench *b;
	int i;
	pthread_t thread;
};

static void *
job_run(void *context)
{
	struct job *job = context;
	engine_lock(job->b->engine);
	bench_arrive(job->b, job->i);
	bench_commit(job->b);
	engine_unlock(job->b->engine);
	return NULL;
}

/* The caller holds the lock, which is let go until the callback stands at the gate. */
static void
job_start(struct job *job, struct bench *b, int i, const char *frame)
{
	*job = (struct job){.b = b, .i = i};
	bench_send(b, i, frame);
	gate_set(true);
	if (pthread_create(&job->thread, NULL, job_run, job) != 0)
		abort();
	engine_unlock(b->engine);
	gate_await();
	engine_lock(b->engine);
}

static void
job_end(struct job *job)
{
	struct bench *b = job->b;
	engine_unlock(b->engine);
	gate_set(false);
	pthread_join(job->thread, NULL);
	engine_lock(b->engine);
	bench_all(b);
}

#define ADD(id)      "[\"1\",\"5\",\"" SLOW "\",\"seance:event:add\",{\"id\":" #id "}]"
#define ADD_SLOW(id) "[\"1\",\"5\",\"" SLOW "\",\"seance:event:add\",{\"id\":" #id ",\"slow\":1}]"
#define JOIN(topic)  "[\"1\",\"1\",\"" topic "\",\"phx_join\",{}]"

static void
open_slow(struct bench *b, int clients)
{
	*b = (struct bench){.limits = world_limits(), .channels = slow_channels};
	snprintf(b->folder, sizeof(b->folder), "/tmp/seance_bench_XXXXXX");
	if (!mkdtemp(b->folder))
		abort();
	snprintf(b->path, sizeof(b->path), "%s/seance.db", b->folder);
	bench_start(b);
	for (int i = 0; i < clients; i++) {
		bench_connect(b);
		bench_say(b, i, JOIN(SLOW));
	}
}

static bool
ids_are(struct bench *b, int i, const char *wanted)
{
	json_object *ids = world_get(client_find(&b->g[i].client, SLOW)->state, "ids");
	bool same = strcmp(json_text(ids, NULL), wanted) == 0;
	if (!same)
		printf("# %s\n", json_text(ids, NULL));
	return same && bench_same(b, i, SLOW);
}

static void
test_others_go_on(void)
{
	struct bench b;
	struct job job;
	open_slow(&b, 4);
	bench_say(&b, 3, JOIN("private:x"));
	job_start(&job, &b, 0, ADD_SLOW(1));
	bench_say(&b, 3, "[\"1\",\"5\",\"private:x\",\"seance:event:add\",{\"id\":7}]");
	ok(bench_count(&b, 3, "private:x") == 1 && !b.g[3].frame,
	   "a slow callback: another instance goes on");
	for (int i = 1; i < 4; i++) {
		bench_send(&b, i, i == 1 ? ADD(2) : i == 2 ? ADD(3) : ADD(4));
		bench_arrive(&b, i);
	}
	bench_commit(&b);
	ok(!b.way[1].outbox && !b.way[2].outbox && !b.way[3].outbox, "events for the busy one wait");
	bench_send(&b, 1, NULL);
	bench_arrive(&b, 1);
	ok(b.submitted == SUBMIT_REPEATED, "one that comes again while it waits takes the other's place");
	bench_send(&b, 0, NULL);
	bench_arrive(&b, 0);
	ok(b.submitted == SUBMIT_REPEATED, "the same for the one that runs");
	job_end(&job);
	ok(ids_are(&b, 0, "[1,2,3,4]") && ids_are(&b, 3, "[1,2,3,4]"), "then all run, in order, once");
	bench_close(&b);
}

/* While one that has waited is slow itself, others come: they are behind those that wait. */
static void
test_order_of_waiting(void)
{
	struct bench b;
	struct job job;
	open_slow(&b, 4);
	job_start(&job, &b, 0, ADD_SLOW(1));
	bench_send(&b, 1, ADD_SLOW(2));
	bench_arrive(&b, 1);
	bench_send(&b, 2, ADD(3));
	bench_arrive(&b, 2);
	engine_unlock(b.engine);
	pthread_mutex_lock(&gate_lock); /* the first passes, the second comes to the gate */
	gate_open = 1;
	pthread_cond_broadcast(&gate_moved);
	while (gate_open)
		pthread_cond_wait(&gate_moved, &gate_lock);
	pthread_mutex_unlock(&gate_lock);
	gate_await();
	engine_lock(b.engine);
	bench_send(&b, 3, ADD(4));
	bench_arrive(&b, 3);
	bench_commit(&b);
	job_end(&job);
	ok(ids_are(&b, 0, "[1,2,3,4]") && ids_are(&b, 2, "[1,2,3,4]"), "who comes last is last");
	bench_close(&b);
}

static void
test_socket_ends(void)
{
	struct bench b;
	struct job job;
	open_slow(&b, 3);
	job_start(&job, &b, 0, ADD_SLOW(1));
	bench_send(&b, 1, ADD(2));
	bench_arrive(&b, 1);
	engine_closed(b.engine, engine_find(b.engine, b.g[0].token));
	bench_commit(&b);
	b.g[0].closed = true;
	job_end(&job);
	ok(ids_are(&b, 2, "[2]"),
	   "its socket ends meanwhile: the slow event has no effect, the one behind it has");
	client_find(&b.g[1].client, "private:s");
	bench_say(&b, 1, JOIN("private:s"));
	job_start(&job, &b, 1, "[\"1\",\"5\",\"private:s\",\"seance:event:add\",{\"id\":1,\"slow\":1}]");
	engine_closed(b.engine, engine_find(b.engine, b.g[1].token));
	b.g[1].closed = true;
	bench_commit(&b);
	job_end(&job);
	ok(b.engine->socket_count == 1, "the same on a private instance, which goes with it");
	bench_say(&b, 2, ADD(3));
	bench_restart(&b, true);
	bench_held(&b, 2);
	bench_say(&b, 2, ADD(4));
	ok(ids_are(&b, 2, "[2,3,4]") && b.engine->socket_count == 1, "after a kill as well");
	bench_close(&b);
}

static void
test_init_is_slow(void)
{
	struct bench b;
	struct job job;
	open_slow(&b, 3);
	job_start(&job, &b, 0, "[\"1\",\"1\",\"shared:new\",\"phx_join\",{\"slow\":1}]");
	bench_send(&b, 1, JOIN("shared:new"));
	bench_arrive(&b, 1);
	bench_commit(&b);
	ok(!b.way[1].outbox, "who joins while init runs waits");
	engine_closed(b.engine, engine_find(b.engine, b.g[0].token));
	b.g[0].closed = true;
	bench_commit(&b);
	job_end(&job);
	ok(bench_same(&b, 1, "shared:new") && bench_instance(&b, 1, "shared:new"),
	   "the first has gone: the next one's init runs");
	job_start(&job, &b, 1, "[\"1\",\"1\",\"private:p\",\"phx_join\",{\"slow\":1}]");
	engine_closed(b.engine, engine_find(b.engine, b.g[1].token));
	b.g[1].closed = true;
	bench_commit(&b);
	job_end(&job);
	ok(b.engine->socket_count == 1, "a private one is not born");
	bench_close(&b);
}

static void
test_commit_fails_meanwhile(void)
{
	struct bench b;
	struct job job;
	open_slow(&b, 3);
	bench_send(&b, 1, ADD(1));
	bench_arrive(&b, 1); /* staged */
	job_start(&job, &b, 0, ADD_SLOW(2));
	store_fail_at(b.faulty, 3, STORE_FULL);
	bench_commit(&b); /* what the slow one sees is not stored */
	job_end(&job);
	ok(bench_count(&b, 0, SLOW) == 1 && bench_same(&b, 0, SLOW) && bench_same(&b, 1, SLOW) &&
	       b.way[1].outbox == NULL,
	   "a commit fails meanwhile: the slow event runs again on what is stored");
	ok(ids_are(&b, 2, "[2]"), "the other failed");
	bench_say(&b, 1, ADD(3));
	bench_restart(&b, true);
	for (int i = 0; i < 3; i++)
		bench_held(&b, i);
	bench_all(&b);
	ok(ids_are(&b, 2, "[2,3]") && ids_are(&b, 0, "[2,3]"), "and so says the store");
	bench_close(&b);
}

static void
test_written_meanwhile(void)
{
	struct bench b;
	struct job job;
	open_slow(&b, 2);
	bench_say(&b, 1, ADD(1));
	job_start(&job, &b, 0, ADD_SLOW(2));
	for (int i = 0; i < 3; i++) {
		bench_time_passes(&b);
		b.engine->limits.cache_bytes = 1;
		bench_commit(&b);
	}
	job_end(&job);
	ok(ids_are(&b, 1, "[1,2]"), "house-keeping leaves a busy instance alone");
	bench_restart(&b, true);
	bench_held(&b, 0);
	bench_held(&b, 1);
	bench_all(&b);
	ok(ids_are(&b, 1, "[1,2]"), "and so says the store");
	bench_close(&b);
}

/* --- many threads --- */

enum { THREADS = 4, EACH = 150 };

struct crowd {
	struct bench *b;
	int i;
};

static void *
crowd_run(void *context)
{
	struct crowd *crowd = context;
	struct bench *b = crowd->b;
	for (int n = 0; n < EACH; n++) {
		char frame[120];
		bool answered = false;
		engine_lock(b->engine);
		snprintf(frame, sizeof(frame), "[\"1\",\"5\",\"%s\",\"seance:event:%s\",{\"id\":%d}]",
		         n % 4 ? SLOW : "private:x", n % 7 ? "add" : "odd", crowd->i * 1000 + n);
		bench_send(b, crowd->i, frame);
		bench_arrive(b, crowd->i);
		while (!answered) { /* others' commits may answer it */
			bench_commit(b);
			for (int i = 0; i < b->count; i++)
				bench_link(b, i, -1);
			bench_answer(b, crowd->i);
			answered = !b->g[crowd->i].frame;
			engine_unlock(b->engine);
			if (!answered)
				usleep(100);
			engine_lock(b->engine);
		}
		engine_unlock(b->engine);
	}
	return NULL;
}

static void
test_crowd(void)
{
	struct bench b;
	pthread_t threads[THREADS];
	struct crowd crowd[THREADS];
	bool same = true;
	open_slow(&b, THREADS);
	for (int i = 0; i < THREADS; i++)
		bench_say(&b, i, JOIN("private:x"));
	engine_unlock(b.engine);
	for (int i = 0; i < THREADS; i++) {
		crowd[i] = (struct crowd){&b, i};
		if (pthread_create(&threads[i], NULL, crowd_run, &crowd[i]) != 0)
			abort();
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	engine_lock(b.engine);
	bench_all(&b);
	for (int i = 0; i < THREADS; i++)
		same = same && bench_same(&b, i, SLOW) && bench_same(&b, i, "private:x");
	ok(same, "four threads, %d messages each: everybody has the same", EACH);
	ok(bench_instance(&b, 0, SLOW)->revision ==
	       json_object_get_int64(world_get(bench_instance(&b, 0, SLOW)->edit.document, "count")),
	   "and each event counts once");
	bench_close(&b);
}

int
main(void)
{
	test_others_go_on();
	test_order_of_waiting();
	test_socket_ends();
	test_init_is_slow();
	test_commit_fails_meanwhile();
	test_written_meanwhile();
	test_crowd();
	return done();
}
