/* test_hook - what joins and their ends lead to: join, terminate, expiry, migration, presence */
#include "clock.h"
#include "engine_bench.h"
#include "told.h"

static bool crashing; /* terminate does */

static const char *
who(struct seance_call *call)
{
	const char *name = world_text(seance_assigns(call), "name");
	return name ? name : "-";
}

static enum seance_status
hook_init(struct seance_call *call, const char *topic, json_object *payload)
{
	(void)topic;
	if (world_get(payload, "name"))
		seance_assign(call, "name", json_object_get(world_get(payload, "name")));
	return seance_set_state(call, seance_json("{\"here\":[],\"gone\":[]}"));
}

static enum seance_status
hook_authorize(struct seance_call *call, const char *topic, json_object *payload)
{
	(void)topic;
	if (world_get(payload, "name"))
		seance_assign(call, "name", json_object_get(world_get(payload, "name")));
	return world_get(payload, "meta")
	           ? seance_assign(call, "meta", json_object_get(world_get(payload, "meta")))
	           : SEANCE_OK;
}

static enum seance_status
hook_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	(void)state;
	if (strcmp(event, "crash") == 0)
		return seance_crash(call, "asked to");
	if (strcmp(event, "name") == 0)
		return seance_assign(call, "name", json_object_get(payload));
	return strcmp(event, "meta") == 0 ? seance_assign(call, "meta", json_object_get(payload))
	                                  : SEANCE_OK;
}

static enum seance_status
hook_join(struct seance_call *call, json_object *payload, json_object *state)
{
	(void)state;
	note("+%s", who(call));
	if (world_get(payload, "quiet"))
		return SEANCE_OK;
	seance_reply(call, "welcome", NULL);
	return seance_add(call, json_object_new_string(who(call)), "/here/-");
}

static enum seance_status
hook_terminate(struct seance_call *call, const char *reason, json_object *state)
{
	(void)state;
	note("-%s:%s", who(call), reason);
	seance_broadcast(call, "ends", json_object_new_string(reason));
	if (crashing)
		return seance_crash(call, "asked to");
	return seance_add(call, json_object_new_string(who(call)), "/gone/-");
}

static enum seance_status
hook_message(struct seance_call *call, json_object *message, json_object *state)
{
	(void)state;
	(void)call;
	note("(%s)", json_object_get_string(message));
	return SEANCE_OK;
}

static enum seance_status
listen_init(struct seance_call *call, const char *topic, json_object *payload)
{
	(void)topic, (void)payload;
	seance_subscribe(call, "ends");
	return seance_set_state(call, seance_json("{}"));
}

static const struct seance_channel hook_shared = {
	.topic = "shared:*",
	.scope = SEANCE_SHARED,
	.max_version = 10,
	.authorize = hook_authorize,
	.init = hook_init,
	.handle_event = hook_event,
	.join = hook_join,
	.terminate = hook_terminate,
	.idle_ttl = 60,
};
static const struct seance_channel hook_private = {
	.topic = "private:*",
	.init = hook_init,
	.handle_event = hook_event,
	.join = hook_join,
	.terminate = hook_terminate,
};
static const struct seance_channel hook_listen = {
	.topic = "listen:*",
	.scope = SEANCE_SHARED,
	.init = listen_init,
	.handle_message = hook_message,
};
static const struct seance_channel hook_room = {
	.topic = "room:*",
	.scope = SEANCE_SHARED,
	.authorize = hook_authorize,
	.init = hook_init,
	.handle_event = hook_event,
	.presence = true,
	.presence_key = "name",
	.presence_meta = "meta",
};
static const struct seance_channel *const hook_channels[] = {&hook_shared, &hook_private, &hook_listen,
                                                             &hook_room, NULL};

static void
say(struct bench *b, int i, const char *topic, const char *event, const char *payload)
{
	bench_push(b, i, topic, event, payload);
	bench_all(b);
	bench_settle(b);
}

static void
join(struct bench *b, int i, const char *topic, const char *payload)
{
	say(b, i, topic, "phx_join", payload);
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

static void
close_socket(struct bench *b, int i)
{
	engine_closed(b->engine, engine_find(b->engine, b->g[i].token));
	client_ended(client_find(&b->g[i].client, "shared:x"));
	bench_commit(b);
	bench_settle(b);
}

/* --- join and terminate --- */

static void
test_hooks(bool file)
{
	struct bench b;
	told[0] = '\0';
	bench_open_with(&b, file, hook_channels);
	int a = bench_connect(&b), c = bench_connect(&b), d = bench_connect(&b);
	join(&b, d, "listen:x", "{}");
	join(&b, a, "shared:x", "{\"name\":\"ann\"}");
	ok(was_told("+ann") && state_is(&b, a, "shared:x", "{\"here\":[\"ann\"],\"gone\":[]}") &&
	       bench_frames(&b, a, "seance:event") == 1,
	   "join: after the state, once, with its assigns; it changes the state and replies");
	join(&b, c, "shared:x", "{\"name\":\"bob\",\"quiet\":1}");
	ok(was_told("+bob") && client_find(&b.g[c].client, "shared:x")->version == 1,
	   "one that changes nothing makes no version");
	say(&b, c, "shared:x", "phx_leave", "{}");
	ok(was_told("-bob:left(left)") &&
	       state_is(&b, a, "shared:x", "{\"here\":[\"ann\"],\"gone\":[\"bob\"]}"),
	   "terminate: left; others are told what it changes, its broadcasts go out");
	join(&b, a, "private:x", "{\"name\":\"priv\"}");
	say(&b, a, "private:x", "phx_leave", "{}");
	ok(was_told("+priv-priv:left(left)") && bench_instance(&b, a, "private:x") == NULL,
	   "in private scope, too");
	join(&b, c, "shared:x", "{\"name\":\"bob\",\"quiet\":1}");
	say(&b, c, "shared:x", "seance:event:crash", "{}");
	ok(was_told("+bob-bob:crashed(crashed)"), "crashed");
	join(&b, c, "shared:x", "{\"name\":\"bob\",\"quiet\":1}");
	join(&b, c, "shared:x", "{\"name\":\"bea\",\"quiet\":1}");
	ok(was_told("+bob-bob:replaced+bea(replaced)"), "replaced");
	join(&b, c, "private:x", "{\"name\":\"priv\",\"quiet\":1}");
	told[0] = '\0';
	close_socket(&b, c);
	ok(was_told("-priv:closed-bea:closed(closed)(closed)"), "closed: all that it had joined");
	bool empty = true;
	if (file) {
		bench_stop(&b, false);
		char command[300];
		snprintf(command, sizeof(command),
		         "test $(sqlite3 '%s' 'select (select count(*) from timers where kind != 5) + "
		         "(select count(*) from instances where shared = 0)') = 0",
		         b.path);
		empty = system(command) == 0;
	}
	ok(empty, "nothing is left of them in the database");
	bench_close(&b);
}

/* Killed between the end and the hook: it comes after the start. */
static void
test_hooks_and_kills(void)
{
	struct bench b;
	told[0] = '\0';
	bench_open_with(&b, true, hook_channels);
	int a = bench_connect(&b), c = bench_connect(&b);
	bench_say(&b, c, "[\"1\",\"1\",\"shared:x\",\"phx_join\",{\"name\":\"bob\"}]"); /* its hook is due */
	ok(was_told(""), "  (not yet)");
	bench_restart(&b, true);
	bench_held(&b, a);
	bench_held(&b, c);
	bench_settle(&b);
	ok(was_told("+bob") && state_is(&b, c, "shared:x", "{\"here\":[\"bob\"],\"gone\":[]}"),
	   "join comes after a start");
	join(&b, a, "private:p", "{\"name\":\"priv\"}");
	told[0] = '\0';
	engine_closed(b.engine, engine_find(b.engine, b.g[a].token));
	bench_restart(&b, true); /* before that was written: the socket is there again, and is not held */
	bench_held(&b, c);
	ok(engine_find(b.engine, b.g[a].token) != NULL, "  (the socket is there)");
	engine_closed(b.engine, engine_find(b.engine, b.g[a].token));
	bench_commit(&b); /* the hook is due */
	bench_restart(&b, true);
	bench_held(&b, c);
	bench_settle(&b);
	ok(was_told("-priv:closed"), "terminate comes after a start, once");
	bench_restart(&b, true);
	bench_held(&b, c);
	bench_settle(&b);
	ok(was_told("") && bench_same(&b, c, "shared:x"), "and not again");
	bench_close(&b);
}

static void
test_crashing_hook(void)
{
	struct bench b;
	told[0] = '\0';
	crashing = true;
	bench_open_with(&b, true, hook_channels);
	int a = bench_connect(&b);
	join(&b, a, "private:x", "{\"name\":\"p\",\"quiet\":1}");
	say(&b, a, "private:x", "phx_leave", "{}");
	for (int i = 0; i < 5; i++) {
		clock_advance(1000);
		bench_settle(&b);
	}
	ok(was_told("+p-p:left-p:left-p:left"),
	   "a terminate that crashes: three times, then it is set aside");
	bench_stop(&b, false);
	char command[300];
	snprintf(
		command, sizeof(command),
		"test \"$(sqlite3 '%s' 'select (select count(*) from timers), (select count(*) from instances),"
		" (select count(*) from refused)')\" = '0|0|1'",
		b.path);
	ok(system(command) == 0, "and the private instance has gone all the same");
	crashing = false;
	bench_close(&b);
}

/* --- idle_ttl --- */

static void
test_idle(bool file)
{
	struct bench b;
	bench_open_with(&b, file, hook_channels);
	int a = bench_connect(&b), c = bench_connect(&b);
	join(&b, a, "shared:x", "{\"name\":\"ann\"}");
	join(&b, c, "shared:x", "{\"name\":\"bob\"}");
	say(&b, c, "shared:x", "phx_leave", "{}");
	clock_advance(61000);
	bench_settle(&b);
	told[0] = '\0';
	ok(bench_same(&b, a, "shared:x") && client_find(&b.g[a].client, "shared:x")->joined,
	   "joined: it does not expire");
	say(&b, a, "shared:x", "phx_leave", "{}");
	clock_advance(30000);
	bench_settle(&b);
	join(&b, a, "shared:x", "{\"name\":\"ann\",\"quiet\":1}");
	ok(state_is(&b, a, "shared:x", "{\"here\":[\"ann\",\"bob\"],\"gone\":[\"bob\",\"ann\"]}"),
	   "joined again in time: it is as it was");
	say(&b, a, "shared:x", "phx_leave", "{}");
	told[0] = '\0';
	if (file) {
		bench_restart(&b, true);
		bench_held(&b, a);
		bench_held(&b, c);
	}
	clock_advance(59000);
	bench_settle(&b);
	ok(was_told(""), "it lives until the time is over");
	clock_advance(1001);
	bench_settle(&b);
	ok(was_told("--:expired"), "then it expires");
	join(&b, a, "shared:x", "{\"name\":\"ann\"}");
	ok(state_is(&b, a, "shared:x", "{\"here\":[\"ann\"],\"gone\":[]}"), "who joins then gets a new one");
	bench_close(&b);
}

/* A join that comes while the end is staged waits for it. */
static void
test_idle_race(void)
{
	struct bench b;
	bench_open_with(&b, true, hook_channels);
	int a = bench_connect(&b);
	join(&b, a, "shared:x", "{\"name\":\"ann\"}");
	say(&b, a, "shared:x", "phx_leave", "{}");
	clock_advance(61000);
	engine_post(b.engine); /* staged */
	bench_send(&b, a, "[\"1\",\"1\",\"shared:x\",\"phx_join\",{\"name\":\"new\"}]");
	bench_arrive(&b, a);
	bench_all(&b);
	bench_settle(&b);
	bench_all(&b);
	ok(state_is(&b, a, "shared:x", "{\"here\":[\"new\"],\"gone\":[]}"),
	   "a join at the moment of the end gets a new one");
	bench_close(&b);
}

/* --- migrate --- */

static unsigned migrated_from[10];
static int migrations;
static bool migrate_fails;

static enum seance_status
old_init(struct seance_call *call, const char *topic, json_object *payload)
{
	(void)topic, (void)payload;
	return seance_set_state(call, seance_json("{\"n\":1}"));
}

static enum seance_status
old_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	(void)event, (void)payload;
	json_object *n = world_get(state, world_get(state, "n") ? "n" : "number");
	return seance_replace(call, json_object_new_int64(json_object_get_int64(n) + 1),
	                      world_get(state, "n") ? "/n" : "/number");
}

static enum seance_status
new_migrate(struct seance_call *call, unsigned from, json_object *state)
{
	(void)state;
	migrated_from[migrations++ % 10] = from;
	if (migrate_fails)
		return seance_crash(call, "asked to");
	return seance_move(call, "/n", "/number");
}

static const struct seance_channel old_shared = {.topic = "shared:*",
                                                 .scope = SEANCE_SHARED,
                                                 .max_version = 10,
                                                 .init = old_init,
                                                 .handle_event = old_event};
static const struct seance_channel old_private = {
	.topic = "private:*", .init = old_init, .handle_event = old_event};
static const struct seance_channel *const old_channels[] = {&old_shared, &old_private, NULL};
static const struct seance_channel new_shared = {.topic = "shared:*",
                                                 .scope = SEANCE_SHARED,
                                                 .max_version = 10,
                                                 .init = old_init,
                                                 .handle_event = old_event,
                                                 .state_schema = 2,
                                                 .migrate = new_migrate};
static const struct seance_channel new_private = {.topic = "private:*",
                                                  .init = old_init,
                                                  .handle_event = old_event,
                                                  .state_schema = 2,
                                                  .migrate = new_migrate};
static const struct seance_channel *const new_channels[] = {&new_shared, &new_private, NULL};

static void
become(struct bench *b, const struct seance_channel *const *channels, int a, int c)
{
	bench_stop(b, true);
	b->channels = channels;
	bench_start(b);
	bench_held(b, a);
	bench_held(b, c);
	bench_all(b);
}

static void
test_migrate(void)
{
	struct bench b;
	migrations = 0;
	bench_open_with(&b, true, old_channels);
	int a = bench_connect(&b), c = bench_connect(&b);
	join(&b, a, "shared:x", "{}");
	join(&b, a, "private:x", "{}");
	say(&b, a, "shared:x", "seance:event:inc", "{}");
	become(&b, new_channels, a, c);
	migrate_fails = true;
	say(&b, a, "shared:x", "seance:event:inc", "{}");
	ok(b.outcome == OUTCOME_FAILED && migrations == 1 && state_is(&b, a, "shared:x", "{\"n\":2}"),
	   "a migration that fails: what needed it fails, nothing is changed");
	migrate_fails = false;
	say(&b, a, "shared:x", "seance:event:inc", "{}");
	ok(migrations == 2 && migrated_from[1] == 0 && state_is(&b, a, "shared:x", "{\"number\":3}"),
	   "a state of an older build is migrated first; who is joined gets the patches");
	join(&b, c, "shared:x", "{}");
	say(&b, a, "private:x", "seance:event:inc", "{}");
	ok(migrations == 3 && state_is(&b, a, "private:x", "{\"number\":2}") &&
	       bench_same(&b, c, "shared:x"),
	   "a private one, too; each once");
	become(&b, new_channels, a, c);
	say(&b, a, "shared:x", "seance:event:inc", "{}");
	ok(migrations == 3 && state_is(&b, c, "shared:x", "{\"number\":4}"), "not again after a start");
	become(&b, old_channels, a, c);
	say(&b, a, "shared:x", "seance:event:inc", "{}");
	ok(b.outcome == OUTCOME_FAILED && bench_same(&b, a, "shared:x"), "an older build does not touch it");
	become(&b, new_channels, a, c);
	say(&b, a, "shared:x", "seance:event:inc", "{}");
	ok(state_is(&b, c, "shared:x", "{\"number\":5}"), "the newer one goes on");
	bench_close(&b);
}

/* --- presence --- */

/* What a client's Presence holds, by the algorithm of presence.js: {key: {metas}}; owned by the caller. */
static json_object *
presence_of(struct bench *b, int i, const char *topic)
{
	json_object *frames = b->g[i].client.frames, *state = NULL;
	for (size_t f = 0; f < json_object_array_length(frames); f++) {
		json_object *frame = json_object_array_get_idx(frames, f);
		const char *event = json_object_get_string(json_object_array_get_idx(frame, 3));
		json_object *payload = json_object_array_get_idx(frame, 4);
		if (strcmp(json_object_get_string(json_object_array_get_idx(frame, 2)), topic) != 0)
			continue;
		if (strcmp(event, "presence_state") == 0) {
			json_object_put(state);
			state = json_copy(payload);
		}
		if (strcmp(event, "presence_diff") != 0 || !state)
			continue;
		json_object_object_foreach(world_get(payload, "joins"), key, joined)
		{
			json_object *metas = world_get(world_get(state, key), "metas");
			if (!metas)
				json_object_object_add(state, key, json_copy(joined));
			else
				json_object_array_add(
					metas, json_copy(json_object_array_get_idx(world_get(joined, "metas"), 0)));
		}
		json_object_object_foreach(world_get(payload, "leaves"), gone, left)
		{
			json_object *metas = world_get(world_get(state, gone), "metas");
			const char *ref =
				world_text(json_object_array_get_idx(world_get(left, "metas"), 0), "phx_ref");
			for (size_t m = 0; metas && m < json_object_array_length(metas); m++)
				if (strcmp(world_text(json_object_array_get_idx(metas, m), "phx_ref"), ref) == 0)
					json_object_array_del_idx(metas, m, 1);
			if (metas && json_object_array_length(metas) == 0)
				json_object_object_del(state, gone);
		}
	}
	return state;
}

static int
by_text(const void *a, const void *b)
{
	json_object *const *one = a, *const *other = b;
	char text[200];
	snprintf(text, sizeof(text), "%s", json_text(*one, NULL));
	return strcmp(text, json_text(*other, NULL));
}

/* As "KEY[META,META] KEY[META]", sorted, without references. */
static bool
sees(struct bench *b, int i, const char *wanted)
{
	char text[1000] = "";
	json_object *state = presence_of(b, i, "room:x");
	if (state) {
		json_object_object_foreach(state, key, entry)
		{
			json_object *metas = world_get(entry, "metas");
			for (size_t m = 0; m < json_object_array_length(metas); m++) {
				json_object_object_del(json_object_array_get_idx(metas, m), "phx_ref");
				json_object_object_del(json_object_array_get_idx(metas, m), "phx_ref_prev");
			}
			json_object_array_sort(metas, by_text);
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s[", *text ? " " : "", key);
			for (size_t m = 0; m < json_object_array_length(metas); m++)
				snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", m ? "," : "",
				         json_text(json_object_array_get_idx(metas, m), NULL));
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "]");
		}
	}
	json_object_put(state);
	if (strcmp(text, wanted) != 0)
		printf("# client %d sees %s\n", i, text);
	return strcmp(text, wanted) == 0;
}

static void
test_presence(bool file)
{
	struct bench b;
	bench_open_with(&b, file, hook_channels);
	int a = bench_connect(&b), c = bench_connect(&b), d = bench_connect(&b);
	join(&b, a, "room:x", "{\"name\":\"ann\",\"meta\":{\"on\":1}}");
	ok(sees(&b, a, "ann[{\"on\":1}]") && bench_frames(&b, a, "presence_diff") == 0,
	   "who comes sees himself");
	join(&b, c, "room:x", "{\"name\":7}");
	ok(sees(&b, a, "ann[{\"on\":1}] 7[{}]") && sees(&b, c, "ann[{\"on\":1}] 7[{}]"),
	   "both see both; a number is a key, too");
	ok(client_find(&b.g[a].client, "room:x")->version == 0, "that is no version of the state");
	join(&b, d, "room:x", "{}");
	ok(sees(&b, d, "ann[{\"on\":1}] 7[{}]") && sees(&b, a, "ann[{\"on\":1}] 7[{}]"),
	   "without a key one sees and is not shown");
	say(&b, d, "room:x", "seance:event:name", "\"ann\"");
	ok(sees(&b, a, "ann[{\"on\":1},{}] 7[{}]") && sees(&b, d, "ann[{\"on\":1},{}] 7[{}]"),
	   "one with a key of another is a second meta");
	say(&b, a, "room:x", "seance:event:meta", "{\"on\":2}");
	ok(sees(&b, c, "ann[{\"on\":2},{}] 7[{}]") && sees(&b, a, "ann[{\"on\":2},{}] 7[{}]"),
	   "a meta that changes is told");
	say(&b, c, "room:x", "phx_leave", "{}");
	clock_advance(4000);
	bench_settle(&b);
	ok(sees(&b, a, "ann[{\"on\":2},{}] 7[{}]"), "who leaves is there for the grace time");
	int diffs = bench_frames(&b, a, "presence_diff");
	join(&b, c, "room:x", "{\"name\":7}");
	clock_advance(4000);
	bench_settle(&b);
	ok(sees(&b, a, "ann[{\"on\":2},{}] 7[{}]") && sees(&b, c, "ann[{\"on\":2},{}] 7[{}]") &&
	       bench_frames(&b, a, "presence_diff") == diffs,
	   "who is back within it has never been gone");
	say(&b, c, "room:x", "phx_leave", "{}");
	if (file) {
		bench_restart(&b, true);
		bench_held(&b, a);
		bench_held(&b, c);
		bench_held(&b, d);
	}
	clock_advance(5001);
	bench_settle(&b);
	ok(sees(&b, a, "ann[{\"on\":2},{}]") && sees(&b, d, "ann[{\"on\":2},{}]"),
	   "then all are told that he is gone");
	engine_closed(b.engine, engine_find(b.engine, b.g[d].token));
	client_ended(client_find(&b.g[d].client, "room:x"));
	bench_commit(&b);
	clock_advance(5001);
	bench_settle(&b);
	ok(sees(&b, a, "ann[{\"on\":2}]"), "a closed socket is gone, too, and only its own meta");
	bench_close(&b);
}

static void
test_odd_keys(void)
{
	static const char *const odd[] = {
		"\"__proto__\"", "\"constructor\"", "\"\"", "true", "{}", "\"a\\u0000b\"", "1.5"};
	struct bench b;
	bench_open_with(&b, false, hook_channels);
	int a = bench_connect(&b);
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		char payload[100];
		snprintf(payload, sizeof(payload), "{\"name\":%s}", odd[i]);
		join(&b, a, "room:x", payload);
		ok(client_find(&b.g[a].client, "room:x")->joined && sees(&b, a, ""),
		   "joined, but not shown: key %s", odd[i]);
	}
	join(&b, a, "room:x", "{\"name\":\"\xC3\xA9 \\\"/\\\\ <b> \xF0\x9F\x98\x80\"}");
	ok(sees(&b, a, "\xC3\xA9 \"/\\ <b> \xF0\x9F\x98\x80[{}]"), "any other characters are shown");
	bench_close(&b);
}

/* Many come and go at random, with kills: those joined see the same, and what is so. */
static void
test_presence_walk(void)
{
	struct bench b;
	unsigned seed = 7;
	bool here[4] = {false}, same = true;
	bench_open_with(&b, true, hook_channels);
	for (int i = 0; i < 4; i++)
		bench_connect(&b);
	for (int step = 0; step < 150 && same; step++) {
		int i = (int)(seed = seed * 1103515245 + 12345) >> 16 & 3;
		char payload[100];
		snprintf(payload, sizeof(payload), "{\"name\":\"%c\"}", 'a' + (step & 1));
		if (here[i])
			say(&b, i, "room:x", "phx_leave", "{}");
		else
			join(&b, i, "room:x", payload);
		here[i] = !here[i];
		if (step % 7 == 0) {
			bench_restart(&b, true);
			for (int k = 0; k < 4; k++)
				bench_held(&b, k);
			bench_all(&b);
		}
		bench_settle(&b);
		if (step % 5 == 0) {
			clock_advance(5001);
			bench_settle(&b);
		}
		json_object *first = NULL;
		for (int k = 0; k < 4; k++) {
			json_object *view = here[k] ? presence_of(&b, k, "room:x") : NULL;
			size_t keys = view ? json_object_object_length(view) : 0;
			same = same && (!view || !first || json_object_object_length(first) == (int)keys);
			if (!first)
				first = view;
			else
				json_object_put(view);
		}
		json_object_put(first);
	}
	clock_advance(5001);
	bench_settle(&b);
	int live = here[0] + here[1] + here[2] + here[3], metas = 0;
	for (int k = 0; k < 4; k++) {
		json_object *view = here[k] ? presence_of(&b, k, "room:x") : NULL;
		metas = 0;
		if (view) {
			json_object_object_foreach(view, key, entry)
			{
				(void)key;
				metas += (int)json_object_array_length(world_get(entry, "metas"));
			}
		}
		same = same && (!view || metas == live);
		json_object_put(view);
	}
	ok(same, "a walk of joins, leaves and kills: all see the same, and in the end just those joined");
	bench_close(&b);
}

static size_t
listed(struct bench *b, int i, const char *member)
{
	return json_object_array_length(world_get(client_find(&b->g[i].client, "shared:x")->state, member));
}

/* The nth write fails: what hooks do is done once all the same. */
static void
test_failing_writes(void)
{
	bool all = true;
	for (int n = 1; n < 60; n++) {
		struct bench b;
		bench_open_with(&b, false, hook_channels);
		int a = bench_connect(&b), c = bench_connect(&b);
		join(&b, a, "room:x", "{\"name\":\"ann\"}");
		join(&b, a, "shared:x", "{\"name\":\"ann\"}");
		store_fail_at(b.faulty, n, STORE_ERROR);
		bench_say(&b, c, "[\"1\",\"1\",\"shared:x\",\"phx_join\",{\"name\":\"bob\"}]");
		bench_settle(&b);
		close_socket(&b, c);
		for (int turn = 0; turn < 8; turn++) {
			clock_advance(1500);
			bench_time_passes(&b);
			bench_all(&b);
			bench_settle(&b);
		}
		size_t here = listed(&b, a, "here") - 1; /* 0: the join itself was what failed */
		all = all && here <= 1 && here == listed(&b, a, "gone") && bench_same(&b, a, "shared:x") &&
		      sees(&b, a, "ann[{}]");
		bench_close(&b);
	}
	ok(all, "each write fails once: what join and terminate do is done once");
}

int
main(void)
{
	for (int file = 0; file < 2; file++) {
		test_hooks(file);
		test_idle(file);
		test_presence(file);
	}
	test_hooks_and_kills();
	test_crashing_hook();
	test_idle_race();
	test_migrate();
	test_odd_keys();
	test_presence_walk();
	test_failing_writes();
	return done();
}
