/* test_engine - sockets, joins and instances: what each message leads to, in memory, in the store, after a start */
#include "engine_bench.h"

#include <signal.h>
#include <sys/wait.h>

static const char *
join_of(const char *topic, const char *ref, const char *payload)
{
	static char frame[400];
	snprintf(frame, sizeof(frame), "[\"%s\",\"%s\",\"%s\",\"phx_join\",%s]", ref, ref, topic, payload);
	return frame;
}

static const char *
event_of(const char *topic, const char *event, const char *payload)
{
	static char frame[400];
	snprintf(frame, sizeof(frame), "[\"1\",\"5\",\"%s\",\"seance:event:%s\",%s]", topic, event, payload);
	return frame;
}

static int
rows(struct bench *b)
{
	return (int)b->engine->last;
}

/* --- what the store says, without the engine's memory --- */

static bool
count_row(void *context, const struct store_instance *row)
{
	(void)row;
	++*(int *)context;
	return true;
}

static bool
count_socket(void *context, const struct store_socket *row)
{
	(void)row;
	++*(int *)context;
	return true;
}

static bool
count_join(void *context, const struct store_join *row)
{
	*(int *)context += row->ended == 0;
	return true;
}

struct counts {
	int instances, sockets, joins;
};

static struct counts
stored(struct bench *b)
{
	struct counts counts = {0};
	store_scan_instances(b->faulty, count_row, &counts.instances);
	store_scan_sockets(b->faulty, count_socket, &counts.sockets);
	store_scan_joins(b->faulty, count_join, &counts.joins);
	return counts;
}

static bool
state_is(struct bench *b, int i, const char *topic, const char *wanted)
{
	json_object *value = json_read(wanted);
	bool same = bench_same(b, i, topic) && json_equal(value, client_find(&b->g[i].client, topic)->state);
	if (!same)
		printf("# %s\n", json_text(client_find(&b->g[i].client, topic)->state, NULL));
	json_object_put(value);
	return same;
}

/* --- the kinds of messages --- */

static void
test_joins_and_events(bool file)
{
	struct bench b;
	bench_open(&b, file);
	int a = bench_connect(&b), c = bench_connect(&b);
	bench_say(&b, a, join_of("private:x", "1", "{}"));
	ok(state_is(&b, a, "private:x", "{\"count\":0,\"ids\":[]}"), "a private join: the state of init");
	bench_say(&b, a, event_of("private:x", "add", "{\"id\":1,\"reply\":1,\"push\":1}"));
	ok(state_is(&b, a, "private:x", "{\"count\":1,\"ids\":[1]}") &&
	       bench_frames(&b, a, "seance:event") == 2,
	   "an event by edits, with a reply and a push");
	bench_say(&b, c, join_of("private:x", "1", "{}"));
	ok(state_is(&b, c, "private:x", "{\"count\":0,\"ids\":[]}"), "another's private state is its own");
	bench_say(&b, a, join_of("shared:x", "1", "{}"));
	bench_say(&b, c, join_of("shared:x", "1", "{\"init\":\"crash\"}"));
	ok(bench_same(&b, c, "shared:x"), "init runs once for a shared one");
	bench_say(&b, c, event_of("shared:x", "add", "{\"id\":1,\"reply\":1,\"push\":1}"));
	ok(bench_frames(&b, a, "seance:event") == 3 && bench_frames(&b, c, "seance:event") == 2,
	   "replies go to the sender, pushes to all");
	ok(bench_same(&b, a, "shared:x") && bench_same(&b, c, "shared:x"), "both have the same");
	bench_say(&b, a, event_of("shared:x", "set", "{\"count\":5,\"ids\":[1,2],\"new\":null}"));
	ok(state_is(&b, c, "shared:x", "{\"count\":5,\"ids\":[1,2],\"new\":null}"), "a whole new state");
	bench_say(&b, a, event_of("shared:x", "quiet", "{}"));
	ok(bench_same(&b, c, "shared:x") && client_find(&b.g[c].client, "shared:x")->version == 3,
	   "an event that changes nothing is a version too");
	int before = rows(&b);
	bench_say(&b, a, event_of("shared:x", "refuse", "{\"id\":9}"));
	ok(b.outcome == OUTCOME_REFUSED && rows(&b) == before && bench_same(&b, a, "shared:x") &&
	       state_is(&b, c, "shared:x", "{\"count\":5,\"ids\":[1,2],\"new\":null}"),
	   "refused: no trace");
	bench_say(&b, a, event_of("shared:x", "crash", "{\"id\":9}"));
	ok(bench_frames(&b, a, "phx_error") == 1 && !client_find(&b.g[a].client, "shared:x")->joined &&
	       bench_same(&b, a, "shared:x") && bench_same(&b, c, "shared:x"),
	   "crashed: the join has ended, no other trace");
	bench_say(&b, a, event_of("shared:x", "quiet", "{}"));
	ok(b.outcome == OUTCOME_UNMATCHED, "then its topic is unmatched");
	bench_say(&b, a, "[\"1\",\"2\",\"private:x\",\"nonesuch\",{}]");
	ok(b.outcome == OUTCOME_UNKNOWN, "an event that means nothing");
	bench_say(&b, a, join_of("nobody:x", "1", "{}"));
	ok(b.outcome == OUTCOME_UNMATCHED, "a topic that nobody serves");
	bench_say(&b, c, "[\"1\",\"7\",\"shared:x\",\"seance:refresh\",{}]");
	ok(bench_frames(&b, c, "seance:change") == 3 && bench_same(&b, c, "shared:x"),
	   "a refresh gives the full state");
	if (file) {
		bench_restart(&b, false);
		bench_held(&b, a);
		bench_held(&b, c);
		bench_say(&b, c, event_of("shared:x", "add", "{\"id\":3}"));
		ok(bench_same(&b, a, "private:x") && bench_same(&b, c, "shared:x") &&
		       bench_same(&b, c, "private:x"),
		   "after a restart it goes on");
	}
	bench_close(&b);
}

static void
test_failing_joins(void)
{
	struct bench b;
	bench_open(&b, false);
	int a = bench_connect(&b);
	bench_say(&b, a, join_of("private:x", "1", "{\"authorize\":\"refuse\"}"));
	ok(b.outcome == OUTCOME_REFUSED && bench_frames(&b, a, "phx_reply") == 1 && rows(&b) == 0,
	   "authorize refuses");
	bench_say(&b, a, join_of("private:x", "1", "{\"authorize\":\"crash\"}"));
	ok(strstr(bench_last(&b, a), "join crashed") != NULL && rows(&b) == 0, "authorize crashes");
	bench_say(&b, a, join_of("private:x", "1", "{\"init\":\"refuse\"}"));
	ok(strstr(bench_last(&b, a), "\"seance:error\",{\"message\":\"you stink\"}") != NULL,
	   "init refuses");
	bench_say(&b, a, event_of("private:x", "quiet", "{}"));
	ok(b.outcome == OUTCOME_UNMATCHED, "no join is left behind");
	bench_say(&b, a, join_of("shared:x", "1", "{\"init\":\"crash\"}"));
	ok(strstr(bench_last(&b, a), "[\"1\",\"1\",\"shared:x\",\"phx_error\",{}]") != NULL &&
	       bench_same(&b, a, "shared:x"),
	   "init crashes");
	struct counts counts = stored(&b);
	ok(counts.instances == 0 && counts.joins == 0 && counts.sockets == 1, "nothing of it is stored");
	bench_say(&b, a, join_of("shared:x", "2", "{\"authorize\":\"assign\"}"));
	ok(state_is(&b, a, "shared:x", "{\"count\":0,\"ids\":[],\"who\":\"them\"}"),
	   "init sees what authorize assigned");
	bench_say(&b, a, join_of("shared:x", "3", "{\"authorize\":\"refuse\"}"));
	ok(bench_frames(&b, a, "phx_close") == 1 && bench_same(&b, a, "shared:x") &&
	       !bench_instance(&b, a, "shared:x"),
	   "a refused rejoin ends the old join");
	bench_close(&b);
}

static void
test_rejoin_and_leave(void)
{
	struct bench b;
	bench_open(&b, true);
	int a = bench_connect(&b), c = bench_connect(&b);
	bench_say(&b, a, join_of("private:x", "1", "{}"));
	bench_say(&b, a, event_of("private:x", "add", "{\"id\":1}"));
	bench_say(&b, a, join_of("private:x", "2", "{}"));
	ok(state_is(&b, a, "private:x", "{\"count\":0,\"ids\":[]}") && bench_frames(&b, a, "phx_close") == 1,
	   "a rejoin: a new private state, the old join closes");
	ok(stored(&b).instances == 1 && stored(&b).joins == 1, "the old private instance has gone");
	bench_say(&b, a, join_of("shared:x", "3", "{}"));
	bench_say(&b, c, join_of("shared:x", "3", "{}"));
	bench_say(&b, a, event_of("shared:x", "add", "{\"id\":1}"));
	bench_say(&b, a, join_of("shared:x", "4", "{}"));
	ok(state_is(&b, a, "shared:x", "{\"count\":1,\"ids\":[1]}") && bench_same(&b, c, "shared:x"),
	   "a rejoin of a shared one has its state");
	bench_say(&b, c, event_of("shared:x", "add", "{\"id\":2}"));
	ok(bench_same(&b, a, "shared:x") && client_find(&b.g[a].client, "shared:x")->patches == 2,
	   "and gets each patch once");
	int before = rows(&b);
	bench_say(&b, a, "[\"9\",\"9\",\"shared:x\",\"phx_leave\",{}]");
	ok(b.outcome == OUTCOME_NOTHING && rows(&b) == before && bench_same(&b, a, "shared:x"),
	   "leave with another join_ref: nothing");
	bench_say(&b, a, "[\"4\",\"9\",\"shared:x\",\"phx_leave\",{}]");
	ok(bench_frames(&b, a, "phx_close") == 3 && bench_same(&b, a, "shared:x"), "leave");
	bench_say(&b, a, "[\"4\",\"10\",\"shared:x\",\"phx_leave\",{}]");
	ok(b.outcome == OUTCOME_LEFT, "leave of what is not joined");
	bench_say(&b, a, "[\"2\",\"9\",\"private:x\",\"phx_leave\",{}]");
	ok(stored(&b).instances == 1, "a private instance goes with its join");
	bench_say(&b, c, event_of("shared:x", "add", "{\"id\":3}"));
	ok(bench_same(&b, c, "shared:x") && client_find(&b.g[a].client, "shared:x")->patches == 2,
	   "who has left is not told");
	bench_restart(&b, true);
	bench_held(&b, a);
	bench_held(&b, c);
	bench_say(&b, c, event_of("shared:x", "add", "{\"id\":4}"));
	ok(bench_same(&b, a, "shared:x") && bench_same(&b, c, "shared:x"), "the same after a kill");
	bench_close(&b);
}

static void
test_versions(void)
{
	struct bench b;
	bench_open(&b, true);
	int a = bench_connect(&b);
	bench_say(&b, a, join_of("shared:x", "1", "{}"));
	for (int i = 0; i < 25; i++) {
		bench_say(&b, a, event_of("shared:x", "quiet", "{}"));
		if (i == 12) {
			bench_restart(&b, true);
			bench_held(&b, a);
		}
	}
	ok(bench_same(&b, a, "shared:x") && client_find(&b.g[a].client, "shared:x")->version == 25 % 11 &&
	       bench_instance(&b, a, "shared:x")->revision == 25,
	   "max_version 10: after 10 comes 0; revisions go on");
	bench_close(&b);
}

/* The last reply to "who": the assigns as a callback sees them. */
static bool
sees(struct bench *b, int i, const char *topic, const char *wanted)
{
	char text[1000];
	bench_say(b, i, event_of(topic, "who", "{}"));
	json_object *frames = b->g[i].client.frames, *event = NULL;
	for (size_t at = json_object_array_length(frames); at-- > 0 && !event;) {
		json_object *frame = json_object_array_get_idx(frames, at);
		if (strcmp(json_object_get_string(json_object_array_get_idx(frame, 3)), "seance:event") == 0)
			event = json_object_array_get_idx(frame, 4);
	}
	snprintf(text, sizeof(text), "%s", json_text(world_get(event, "detail"), NULL));
	if (strcmp(text, wanted) != 0)
		printf("# %s\n", text);
	return strcmp(text, wanted) == 0;
}

static void
test_assigns(void)
{
	struct bench b;
	bench_open(&b, true);
	int a = bench_connect(&b);
	bench_say(&b, a, join_of("private:x", "1", "{}"));
	bench_say(&b, a, event_of("private:x", "assign", "[1]"));
	bench_say(&b, a, event_of("private:x", "who", "{}"));
	ok(strstr(json_text(b.g[a].client.frames, NULL), "\"detail\":{\"who\":[1],") != NULL,
	   "assigns are seen by the next event");
	store_fail_at(b.faulty, 3, STORE_FULL);
	bench_send(&b, a, event_of("private:x", "assign", "[2]"));
	bench_arrive(&b, a);
	bench_commit(&b);
	bench_answer(&b, a);
	ok(b.outcome == OUTCOME_FAILED && sees(&b, a, "private:x",
	                                       "{\"who\":[1],\"state\":{\"count\":0,"
	                                       "\"ids\":[]},\"version\":2}"),
	   "a commit that fails leaves them as they were");
	bench_restart(&b, true);
	bench_held(&b, a);
	bench_say(&b, a, event_of("private:x", "assign", "[3]"));
	bench_restart(&b, true);
	bench_held(&b, a);
	json_object_put(b.g[a].client.frames);
	b.g[a].client.frames = json_object_new_array();
	bench_say(&b, a, event_of("private:x", "who", "{}"));
	ok(strstr(json_text(b.g[a].client.frames, NULL), "\"detail\":{\"who\":[3],") != NULL,
	   "assigns are stored");
	bench_close(&b);
}

static enum seance_status
connect_assigning(struct seance_call *call, json_object *params)
{
	(void)params;
	seance_assign(call, "from", json_object_new_string("connect"));
	return seance_assign(call, "version", json_object_new_string("hidden"));
}

static enum seance_status
named_init(struct seance_call *call, const char *topic, json_object *payload)
{
	(void)topic, (void)payload;
	seance_assign(call, "own", json_object_get(world_get(seance_assigns(call), "from")));
	return seance_set_state(call, seance_json("[1]"));
}

static enum seance_status
named_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	(void)payload, (void)state;
	if (strcmp(event, "who") == 0)
		return seance_reply(call, "who", json_object_get(seance_assigns(call)));
	if (strcmp(event, "bytes") == 0)
		return seance_assign(call, "\xff", NULL);
	if (strcmp(event, "part") == 0) /* a part of the state, which is edited afterwards */
		seance_assign(call, "part", json_object_get(state));
	else
		seance_assign(call, event, json_object_new_int(1));
	return seance_add(call, json_object_new_int(2), "/-");
}

/* Each join has its own, which begin as the socket's and show the state. */
static void
test_assigns_of_joins(bool file)
{
	static const struct seance_channel named = {
		.topic = "named:*",
		.state_key = "it",
		.state_version_key = "at",
		.init = named_init,
		.handle_event = named_event,
	};
	static const struct seance_channel *const channels[] = {&named, &world_shared, NULL};
	struct bench b;
	bench_open(&b, file);
	bench_stop(&b, false);
	b.channels = channels;
	b.on_connect = connect_assigning;
	bench_start(&b);
	int a = bench_connect(&b);
	bench_say(&b, a, join_of("named:x", "1", "{}"));
	bench_say(&b, a, join_of("shared:x", "1", "{\"authorize\":\"assign\"}"));
	ok(sees(&b, a, "named:x",
	        "{\"from\":\"connect\",\"version\":\"hidden\",\"own\":\"connect\","
	        "\"it\":[1],\"at\":0}"),
	   "a join's assigns: connect's, init's, the state and its version by the channel's names");
	ok(sees(&b, a, "shared:x",
	        "{\"from\":\"connect\",\"who\":\"them\",\"state\":"
	        "{\"count\":0,\"ids\":[],\"who\":\"them\"},\"version\":0}"),
	   "another's: what authorize set; the state hides what connect set under its names");
	bench_say(&b, a, event_of("named:x", "part", "{}"));
	ok(sees(&b, a, "named:x",
	        "{\"from\":\"connect\",\"version\":\"hidden\",\"own\":\"connect\","
	        "\"part\":[1],\"it\":[1,2],\"at\":2}"),
	   "a part of the state was copied");
	bench_say(&b, a, event_of("shared:x", "assign", "{\"n\":1}"));
	if (file) {
		bench_restart(&b, true);
		bench_held(&b, a);
	}
	ok(sees(&b, a, "shared:x",
	        "{\"from\":\"connect\",\"who\":{\"n\":1},\"state\":"
	        "{\"count\":0,\"ids\":[],\"who\":\"them\"},\"version\":2}") &&
	       sees(&b, a, "named:x",
	            "{\"from\":\"connect\",\"version\":\"hidden\",\"own\":\"connect\","
	            "\"part\":[1],\"it\":[1,2],\"at\":3}"),
	   "one join's events do not see another's assigns%s", file ? "; after a kill neither" : "");
	bench_say(&b, a, event_of("named:x", "it", "{}"));
	ok(bench_frames(&b, a, "phx_error") == 1, "a name that is the state's cannot be assigned");
	bench_say(&b, a, join_of("named:x", "9", "{}"));
	bench_say(&b, a, event_of("named:x", "bytes", "{}"));
	ok(bench_frames(&b, a, "phx_error") == 2, "nor one that is not UTF-8");
	bench_close(&b);
}

/* --- bounds --- */

static void
test_limits(void)
{
	struct bench b;
	bench_open(&b, false);
	b.engine->limits.sockets = 3;
	b.engine->limits.sockets_per_address = 2;
	b.engine->limits.joins_per_socket = 2;
	b.engine->limits.state_bytes = 1000;
	int a = bench_connect(&b);
	bench_connect(&b);
	ok(bench_connect(&b) < 0, "sockets per address");
	b.engine->limits.sockets_per_address = 10;
	bench_connect(&b);
	ok(bench_connect(&b) < 0, "sockets");
	engine_closed(b.engine, engine_find(b.engine, b.g[2].token));
	ok(bench_connect(&b) == 3, "one has gone: another may come");
	bench_say(&b, a, join_of("private:a", "1", "{}"));
	bench_say(&b, a, join_of("private:b", "1", "{}"));
	bench_say(&b, a, join_of("private:c", "1", "{}"));
	ok(b.outcome == OUTCOME_REFUSED && strstr(bench_last(&b, a), "too many joins"), "joins per socket");
	bench_say(&b, a, join_of("private:b", "2", "{}"));
	ok(bench_same(&b, a, "private:b") && bench_instance(&b, a, "private:b"), "a rejoin is not one more");
	bench_say(&b, a, "[\"1\",\"9\",\"private:a\",\"phx_leave\",{}]");
	bench_say(&b, a, join_of("private:c", "3", "{}"));
	ok(bench_instance(&b, a, "private:c") != NULL, "one has left: another may come");
	int sent = 0;
	while (sent < 300 && bench_instance(&b, a, "private:b")) {
		bench_say(&b, a, event_of("private:b", "add", "{\"id\":\"0123456789\"}"));
		sent++;
	}
	ok(sent > 50 && sent < 90 && bench_frames(&b, a, "phx_error") == 1,
	   "a state that grows too large crashes (%d events)", sent);
	bench_say(&b, a, join_of("private:b", "4", "{\"pad\":2000}"));
	ok(bench_frames(&b, a, "phx_error") == 2 && bench_same(&b, a, "private:b"),
	   "a first state that is too large");
	bench_close(&b);
}

static void
test_cache(void)
{
	struct bench b;
	bench_open(&b, true);
	int a = bench_connect(&b), c = bench_connect(&b);
	b.engine->limits.cache_bytes = 1;
	bench_say(&b, a, join_of("shared:x", "1", "{\"pad\":20000}"));
	bench_say(&b, c, join_of("shared:x", "1", "{}"));
	bench_say(&b, a, join_of("private:x", "1", "{}"));
	for (int i = 0; i < 10; i++) {
		bench_say(&b, a, event_of("shared:x", "add", "{\"id\":1}"));
		bench_say(&b, a, event_of("private:x", "add", "{\"id\":1}"));
	}
	ok(b.engine->cache_bytes == 0 && b.engine->used_first == NULL, "nothing is kept in memory");
	ok(bench_same(&b, a, "shared:x") && bench_same(&b, a, "private:x") &&
	       bench_count(&b, c, "shared:x") == 10,
	   "states are read again from snapshot and log");
	bench_say(&b, c, event_of("shared:x", "refuse", "{\"id\":1}"));
	bench_say(&b, c, "[\"1\",\"7\",\"shared:x\",\"seance:refresh\",{}]");
	ok(bench_same(&b, c, "shared:x"), "the same for a refresh");
	b.engine->limits.cache_bytes = 100000;
	for (int i = 0; i < 20; i++) {
		char ref[8], topic[32];
		snprintf(topic, sizeof(topic), "private:%d", i % 3);
		snprintf(ref, sizeof(ref), "%d", i + 10);
		bench_say(&b, c, join_of(topic, ref, "{\"pad\":30000}"));
		bench_say(&b, c, event_of("shared:x", "add", "{\"id\":1}"));
	}
	ok(b.engine->cache_bytes > 0 && b.engine->cache_bytes <= 100000, "what fits is kept (%d bytes)",
	   (int)b.engine->cache_bytes);
	bench_close(&b);
}

static void
test_large(void)
{
	struct bench b;
	bench_open(&b, true);
	int a = bench_connect(&b), c = bench_connect(&b);
	bench_say(&b, a, join_of("shared:x", "1", "{\"pad\":20000}"));
	const struct instance *x = bench_instance(&b, a, "shared:x");
	for (int i = 0; i < 3; i++) {
		bench_say(&b, a, event_of("shared:x", "add", "{\"id\":1}"));
		for (struct instance *due = b.engine->due_first; due; due = due->due_next)
			due->due_ms = 1;
		bench_all(&b);
	}
	ok(x->row.revision == 3 && x->row.state_revision == 0, "a large state lags behind its log");
	bench_restart(&b, true);
	bench_held(&b, a);
	bench_held(&b, c);
	bench_say(&b, c, join_of("shared:x", "1", "{}"));
	ok(bench_same(&b, c, "shared:x") && bench_same(&b, a, "shared:x") &&
	       bench_count(&b, c, "shared:x") == 3,
	   "after a kill it is read from snapshot and log");
	x = bench_instance(&b, c, "shared:x");
	bench_time_passes(&b);
	bench_all(&b);
	ok(x->row.state_revision == 3, "when it is quiet it is written");
	int large = 0;
	for (int i = 0; i < 1000 && x->row.state_revision == 3; i++, large++) {
		bench_say(&b, c,
		          event_of("shared:x", "add",
		                   "{\"id\":\"012345678901234567890123456789012345678901234567890123456789\"}"));
		for (struct instance *due = b.engine->due_first; due; due = due->due_next)
			due->due_ms = 1;
	}
	ok(large > 50 && large < 400, "and when the log has grown as large (%d events)", large);
	/* joins of a large state: the state stands in one row only, also when they are filled */
	bench_unlink(&b);
	for (int i = 0; i < 3; i++) {
		char ref[8];
		snprintf(ref, sizeof(ref), "%d", i + 10);
		bench_send(&b, c, join_of("shared:x", ref, "{}"));
		bench_arrive(&b, c);
		bench_commit(&b);
		bench_lose_answer(&b, c);
		bench_restart(&b, true);
		bench_send(&b, c, NULL);
		bench_arrive(&b, c);
		bench_all(&b);
		ok(bench_same(&b, c, "shared:x"), "a join of a large state, told from the log");
	}
	bench_held(&b, a);
	bench_held(&b, c);
	bench_all(&b);
	ok(bench_same(&b, a, "shared:x"), "the other has followed");
	bench_close(&b);
}

static bool
has_state_of(void *context, const struct store_record *row)
{
	if (row->kind == STORE_JOIN && row->detail && strstr(row->detail, "state_of") && !row->state)
		++*(int *)context;
	return true;
}

static void
test_shared_states(void)
{
	struct bench b;
	int referring = 0;
	bench_open(&b, true);
	for (int i = 0; i < 3; i++)
		bench_connect(&b);
	for (int i = 0; i < 3; i++) {
		bench_send(&b, i, join_of("shared:x", "1", "{\"pad\":20000}"));
		bench_arrive(&b, i);
	}
	bench_commit(&b);
	for (int i = 0; i < 3; i++)
		bench_lose_answer(&b, i);
	store_scan(b.faulty, 0, INT64_MAX, has_state_of, &referring);
	ok(referring == 2, "three joins at once: the state is stored in one row");
	for (int i = 0; i < 3; i++) {
		bench_send(&b, i, NULL);
		bench_arrive(&b, i);
	}
	bench_all(&b);
	ok(bench_same(&b, 0, "shared:x") && bench_same(&b, 1, "shared:x") && bench_same(&b, 2, "shared:x"),
	   "and told to all three from the log");
	bench_close(&b);
}

static void
test_ends(void)
{
	struct bench b;
	bench_open(&b, true);
	int a = bench_connect(&b), c = bench_connect(&b);
	bench_say(&b, a, join_of("shared:x", "1", "{}"));
	bench_say(&b, c, join_of("shared:x", "1", "{}"));
	bench_say(&b, a, join_of("shared:y", "1", "{}"));
	bench_say(&b, a, join_of("private:x", "1", "{}"));
	bench_say(&b, a, event_of("shared:y", "add", "{\"id\":1}"));
	ok(stored(&b).instances == 3 && stored(&b).joins == 4, "stored while there is a join");
	engine_closed(b.engine, engine_find(b.engine, b.g[a].token));
	ok(engine_due(b.engine) >= 0 && engine_due(b.engine) <= HOUSE_AFTER_MS,
	   "the end of a socket is due soon");
	bench_time_passes(&b);
	bench_commit(&b);
	ok(stored(&b).sockets == 1 && stored(&b).joins == 1, "a socket's end deletes its rows");
	ok(stored(&b).instances == 2, "and its private instance");
	engine_closed(b.engine, engine_find(b.engine, b.g[c].token));
	bench_time_passes(&b);
	bench_commit(&b);
	ok(stored(&b).instances == 2,
	   "a shared instance that nobody changed outlives its last join for a while");
	int e = bench_connect(&b);
	bench_say(&b, e, join_of("shared:x", "1", "{}"));
	clock_advance(3600000);
	bench_time_passes(&b);
	bench_commit(&b);
	ok(stored(&b).instances == 2, "so that who comes back finds it");
	engine_closed(b.engine, engine_find(b.engine, b.g[e].token));
	bench_time_passes(&b);
	bench_commit(&b);
	clock_advance(3600000);
	bench_time_passes(&b);
	bench_commit(&b);
	ok(stored(&b).instances == 1, "then it goes, a changed one stays");
	b.g[a].client.joins[0].wanted = false;
	int d = bench_connect(&b);
	bench_say(&b, d, join_of("shared:y", "1", "{}"));
	bench_say(&b, d, join_of("shared:x", "1", "{}"));
	ok(bench_count(&b, d, "shared:y") == 1 && bench_same(&b, d, "shared:x"), "as the next one sees");
	bench_restart(&b, true);
	ok(b.engine->socket_count == 1 && b.engine->sockets->join_count == 2, "the same after a kill");
	bench_close(&b);
}

/* A socket that ends while its join is staged: no kill may leave the private instance behind. */
static void
test_orphan(void)
{
	struct bench b;
	bench_open(&b, true);
	int a = bench_connect(&b), c = bench_connect(&b);
	bench_say(&b, a, join_of("private:x", "1", "{}"));
	bench_send(&b, c, join_of("private:x", "1", "{}"));
	bench_arrive(&b, c);
	engine_closed(b.engine, engine_find(b.engine, b.g[c].token));
	bench_commit(&b);
	ok(stored(&b).instances == 1, "a private instance that nobody is joined to is gone at once");
	bench_restart(&b, true);
	bench_time_passes(&b);
	bench_commit(&b);
	ok(stored(&b).instances == 1, "and after the next start, the other stays");
	bench_held(&b, a);
	bench_say(&b, a, event_of("private:x", "add", "{\"id\":1}"));
	ok(bench_count(&b, a, "private:x") == 1, "and goes on");
	bench_close(&b);
}

/* Many large states that fall quiet at once must not hold up everybody else. */
static void
test_large_pause(void)
{
	struct bench b;
	bench_open(&b, true);
	int a = bench_connect(&b);
	bench_say(&b, a, join_of("shared:x", "1", "{\"pad\":20000}"));
	bench_say(&b, a, join_of("shared:y", "1", "{\"pad\":20000}"));
	const struct instance *x = bench_instance(&b, a, "shared:x");
	const struct instance *y = bench_instance(&b, a, "shared:y");
	bench_say(&b, a, event_of("shared:x", "add", "{\"id\":1}"));
	bench_say(&b, a, event_of("shared:y", "add", "{\"id\":1}"));
	bench_time_passes(&b);
	b.engine->large_ms = 0;
	bench_commit(&b);
	b.engine->large_ms += 60000; /* however slow this machine is, the pause is not over */
	bench_time_passes(&b);
	bench_commit(&b);
	ok(x->row.state_revision + y->row.state_revision == 1, "of two large states one is written");
	b.engine->large_ms = 0;
	bench_time_passes(&b);
	bench_commit(&b);
	ok(x->row.state_revision + y->row.state_revision == 2, "the other after a pause");
	bench_close(&b);
}

/* --- what waits --- */

static void
test_busy_store(void)
{
	struct bench b;
	bench_open(&b, false);
	int a = bench_connect(&b);
	bench_say(&b, a, join_of("private:x", "1", "{}"));
	bench_send(&b, a, event_of("private:x", "add", "{\"id\":1}"));
	bench_arrive(&b, a);
	for (int i = 0; i < 3; i++) {
		store_fail_at(b.faulty, 1, STORE_BUSY);
		bench_commit(&b);
		ok(!b.way[a].outbox && engine_due(b.engine) == 0,
		   "another process holds the lock: what is staged waits");
	}
	bench_all(&b);
	ok(bench_same(&b, a, "private:x") && bench_count(&b, a, "private:x") == 1, "and is committed then");
	bench_send(&b, a, event_of("private:x", "add", "{\"id\":2}"));
	bench_arrive(&b, a);
	store_fail_at(b.faulty, 1, STORE_BUSY);
	bench_commit(&b);
	b.engine->busy_ms -= 60000;
	store_fail_at(b.faulty, 1, STORE_BUSY);
	bench_commit(&b);
	ok(b.outcome == OUTCOME_FAILED, "but not for ever");
	bench_answer(&b, a);
	bench_say(&b, a, event_of("private:x", "add", "{\"id\":3}"));
	ok(state_is(&b, a, "private:x", "{\"count\":2,\"ids\":[1,3]}"), "the state has no trace of it");
	bench_close(&b);
}

/* A new socket that nobody looks at any more ends while its row waits for another process's lock. */
static void
test_ended_while_staged(void)
{
	for (int given_up = 0; given_up < 2; given_up++) {
		struct bench b;
		bench_open(&b, false);
		struct engine_client client = {.address = "127.0.0.1", .format = 0};
		struct socket *socket = NULL;
		int connected = engine_connect(b.engine, &client, &socket);
		store_fail_at(b.faulty, 1, STORE_BUSY);
		bench_commit(&b);
		ok(connected == CONNECT_OK && !engine_stored(socket), "a new socket waits for its row");
		socket->unlinked_ms -= 2 * b.engine->limits.grace_ms;
		engine_release(socket);
		engine_house(b.engine, INT64_MAX, NULL, NULL);
		if (given_up) {
			b.engine->busy_ms -= 60000;
			store_fail_at(b.faulty, 1, STORE_BUSY);
		}
		bench_commit(&b);
		ok(stored(&b).sockets == 0 && b.engine->socket_count == 0, "ended meanwhile, it gets none");
		bench_close(&b);
	}
}

/* Every write of a turn fails once. */
static void
test_faults(void)
{
	bool through = false;
	int nth = 0;
	while (!through && ++nth < 60) {
		struct bench b;
		bench_open(&b, true);
		int a = bench_connect(&b), c = bench_connect(&b);
		bench_say(&b, a, join_of("shared:x", "1", "{}"));
		bench_say(&b, a, join_of("private:x", "1", "{}"));
		bench_say(&b, c, join_of("private:y", "1", "{}"));
		int events = 0;
		/* a turn with a bit of everything: two events, a join, a leave, a new socket, house-keeping */
		bench_send(&b, a, event_of("shared:x", "add", "{\"id\":1}"));
		bench_send(&b, c, join_of("shared:x", "2", "{}"));
		bench_arrive(&b, a);
		bench_arrive(&b, c);
		bench_time_passes(&b);
		store_fail_at(b.faulty, nth, nth % 2 ? STORE_FULL : STORE_ERROR);
		bench_commit(&b);
		for (int i = 0; i < 2; i++) {
			ok(b.way[i].outbox != NULL, "write %d fails: message of %d is answered", nth, i);
			events += b.way[i].outbox != NULL;
		}
		bench_answer(&b, a);
		bench_answer(&b, c);
		bench_link(&b, a, -1);
		bench_link(&b, c, -1);
		int d = bench_connect(&b);
		bench_send(&b, a, "[\"1\",\"8\",\"private:x\",\"phx_leave\",{}]");
		bench_send(&b, c, event_of("private:y", "assign", "1"));
		bench_arrive(&b, a);
		bench_arrive(&b, c);
		if (d >= 0)
			engine_closed(b.engine, engine_find(b.engine, b.g[d].token));
		bench_all(&b);
		through = nth > 30;
		store_fail_at(b.faulty, 0, STORE_OK);
		bench_say(&b, a, event_of("shared:x", "add", "{\"id\":2}"));
		bench_say(&b, c, event_of("private:y", "add", "{\"id\":2}"));
		if (!bench_instance(&b, a, "private:x"))
			client_ended(client_find(&b.g[a].client, "private:x"));
		bool same = bench_same(&b, a, "shared:x") && bench_same(&b, c, "private:y");
		struct client_join *other = client_find(&b.g[c].client, "shared:x");
		if (!other->joined)
			other->wanted = false;
		same = same && bench_same(&b, c, "shared:x");
		int64_t count = bench_count(&b, a, "shared:x");
		ok(same && (count == 1 || count == 2), "write %d fails: clients and server agree", nth);
		bench_restart(&b, true);
		bench_held(&b, a);
		bench_held(&b, c);
		bench_all(&b);
		ok(bench_same(&b, a, "shared:x") && bench_same(&b, c, "shared:x") &&
		       bench_same(&b, c, "private:y") && bench_count(&b, a, "shared:x") == count,
		   "write %d fails: the store agrees", nth);
		bench_close(&b);
	}
	ok(nth > 20, "faults up to write %d", nth);
}

/* A message alone: failed or committed, one of both, and versions go on. */
static void
test_fault_alone(void)
{
	struct bench b;
	int failed = 0, committed = 0;
	bench_open(&b, true);
	int a = bench_connect(&b);
	bench_say(&b, a, join_of("shared:x", "1", "{}"));
	for (int nth = 1; nth < 12; nth++) {
		int64_t before = bench_count(&b, a, "shared:x");
		bench_time_passes(&b);
		store_fail_at(b.faulty, nth, STORE_FULL);
		bench_say(&b, a, event_of("shared:x", "add", "{\"id\":1}"));
		store_fail_at(b.faulty, 0, STORE_OK);
		int64_t after = bench_count(&b, a, "shared:x");
		failed += b.outcome == OUTCOME_FAILED;
		committed += b.outcome == OUTCOME_COMMITTED;
		ok(bench_same(&b, a, "shared:x") && after - before == (b.outcome == OUTCOME_COMMITTED) &&
		       failed + committed == nth,
		   "write %d fails: %s, and so it is", nth,
		   b.outcome == OUTCOME_FAILED ? "the message failed" : "it is committed");
		bench_restart(&b, true);
		bench_held(&b, a);
		bench_all(&b);
		ok(bench_same(&b, a, "shared:x"), "write %d fails: and in the store", nth);
	}
	ok(failed >= 3 && committed >= 3, "%d failed, %d committed", failed, committed);
	bench_close(&b);
}

/* --- killed --- */

/* A child works on the file and is killed at some moment; what it has told before is there after. */
static void
test_killed(void)
{
	for (int round = 0; round < 12; round++) {
		struct bench b;
		int told[2];
		bench_open(&b, true);
		bench_stop(&b, false);
		if (pipe(told) != 0)
			abort();
		fflush(stdout);
		pid_t child = fork();
		if (child == 0) {
			if (!freopen("/dev/null", "w", stdout))
				_exit(1);
			bench_start(&b);
			int a = bench_connect(&b);
			bench_say(&b, a, join_of("shared:x", "1", round % 3 ? "{}" : "{\"pad\":20000}"));
			for (int i = 1;; i++) {
				char payload[32];
				snprintf(payload, sizeof(payload), "{\"id\":%d}", i);
				bench_say(&b, a, event_of("shared:x", "add", payload));
				json_object_put(b.g[a].client.frames);
				b.g[a].client.frames = json_object_new_array();
				if (write(told[1], &i, sizeof(i)) != (ssize_t)sizeof(i))
					_exit(1);
			}
		}
		close(told[1]);
		int last = 0, count = 0;
		while (count < 20 + round * 17 && read(told[0], &last, sizeof(last)) == (ssize_t)sizeof(last))
			count++;
		kill(child, SIGKILL);
		while (read(told[0], &last, sizeof(last)) == (ssize_t)sizeof(last))
			continue;
		waitpid(child, NULL, 0);
		close(told[0]);
		bench_start(&b);
		int a = bench_connect(&b);
		bench_say(&b, a, join_of("shared:x", "1", "{}"));
		int64_t there = bench_count(&b, a, "shared:x");
		json_object *ids = world_get(client_find(&b.g[a].client, "shared:x")->state, "ids");
		bool in_order = (int64_t)json_object_array_length(ids) == there;
		for (int64_t i = 0; i < there; i++)
			in_order =
				in_order && json_object_get_int64(json_object_array_get_idx(ids, (size_t)i)) == i + 1;
		ok(in_order && (there == last || there == last + 1) &&
		       client_find(&b.g[a].client, "shared:x")->version == there % 11,
		   "killed after event %d was told: %d are there, in order", last, (int)there);
		bench_say(&b, a, event_of("shared:x", "quiet", "{}"));
		ok(bench_same(&b, a, "shared:x"), "and it goes on");
		bench_close(&b);
	}
}

static void
test_pruned_states(void)
{
	struct bench b;
	bench_open(&b, true);
	int a = bench_connect(&b);
	b.engine->limits.log_rows = 20;
	b.engine->limits.marks_ms = -1;
	bench_say(&b, a, join_of("shared:x", "1", "{\"pad\":20000}"));
	bench_say(&b, a, join_of("shared:y", "1", "{}"));
	for (int i = 0; i < 100; i++) { /* x is never quiet: its state stays behind */
		if (i % 10 == 0)
			bench_say(&b, a, event_of("shared:x", "add", "{\"id\":1}"));
		bench_say(&b, a, event_of("shared:y", "add", "{\"id\":1}"));
		b.engine->marked_ms -= 10000;
		for (struct instance *due = b.engine->due_first; due; due = due->due_next)
			due->due_ms = 1;
		engine_house(b.engine, INT64_MAX, NULL, NULL);
		bench_all(&b);
	}
	ok(bench_instance(&b, a, "shared:x")->row.state_revision == 0, "a large state has not been written");
	bench_restart(&b, true);
	bench_held(&b, a);
	bench_all(&b);
	ok(bench_same(&b, a, "shared:x") && bench_count(&b, a, "shared:x") == 10,
	   "the rows that it needs were not pruned");
	b.engine->limits.log_rows = 20;
	b.engine->limits.marks_ms = -1;
	for (int i = 0; i < 40; i++) {
		bench_say(&b, a, event_of("shared:y", "add", "{\"id\":1}"));
		bench_time_passes(&b);
		engine_house(b.engine, INT64_MAX, NULL, NULL);
		bench_all(&b);
	}
	ok(b.engine->oldest > 100, "afterwards they were (%d)", (int)b.engine->oldest);
	bench_restart(&b, true);
	bench_held(&b, a);
	bench_all(&b);
	ok(bench_same(&b, a, "shared:x") && bench_same(&b, a, "shared:y"), "and the states are there");
	bench_close(&b);
}

/* Sockets and topics that come and go leave the tables as quick as they were. */
static void
test_churn(void)
{
	struct bench b;
	bench_open(&b, false);
	for (int i = 0; i < 4000; i++) {
		struct engine_client client = {.address = "::1"};
		struct socket *socket;
		if (engine_connect(b.engine, &client, &socket) != CONNECT_OK)
			abort();
		bench_commit(&b);
		engine_closed(b.engine, socket);
		engine_release(socket);
		bench_commit(&b);
	}
	engine_find(b.engine, "nobody");
	table_find_number(b.engine->sockets_by_id, 1);
	int empty = 0;
	for (int i = 0; i < b.engine->sockets_by_token->size; i++)
		empty += b.engine->sockets_by_token->table[i].k == LH_EMPTY;
	ok(empty > 0 && b.engine->sockets_by_token->size <= 2048,
	   "after 4000 sockets there are %d empty slots", empty);
	bench_close(&b);
}

int
main(void)
{
	test_churn();
	test_joins_and_events(false);
	test_joins_and_events(true);
	test_failing_joins();
	test_rejoin_and_leave();
	test_versions();
	test_assigns();
	test_assigns_of_joins(false);
	test_assigns_of_joins(true);
	test_limits();
	test_cache();
	test_large();
	test_shared_states();
	test_ends();
	test_orphan();
	test_large_pause();
	test_busy_store();
	test_ended_while_staged();
	test_faults();
	test_fault_alone();
	test_killed();
	test_pruned_states();
	return done();
}
