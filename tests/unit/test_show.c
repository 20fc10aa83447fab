/* test_show - what clients see: ignore_keys, encode, message builders; never more, on no way */
#include "clock.h"
#include "engine_bench.h"
#include "face.h"

static enum seance_status
show_init(struct seance_call *call, const char *topic, json_object *payload)
{
	(void)topic;
	return seance_set_state(call, json_object_get(payload));
}

/* "set": a whole new state; others are an edit: {"path", "value", "from"} */
static enum seance_status
show_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	const char *path = world_text(payload, "path");
	json_object *value = json_object_get(world_get(payload, "value"));
	(void)state;
	if (strcmp(event, "set") == 0)
		seance_set_state(call, json_object_get(payload));
	if (strcmp(event, "add") == 0)
		return seance_add(call, value, path);
	if (strcmp(event, "replace") == 0)
		return seance_replace(call, value, path);
	json_object_put(value);
	if (strcmp(event, "remove") == 0)
		return seance_remove(call, path);
	if (strcmp(event, "move") == 0)
		return seance_move(call, world_text(payload, "from"), path);
	if (strcmp(event, "copy") == 0)
		return seance_copy(call, world_text(payload, "from"), path);
	return SEANCE_OK;
}

/* {"public"} and how many there are of "secret" */
static json_object *
show_encode(struct seance_call *call, json_object *state)
{
	json_object *face = json_object_new_object(), *secret = world_get(state, "secret");
	(void)call;
	json_object_object_add(face, "public", json_object_get(world_get(state, "public")));
	json_object_object_add(face, "secrets",
	                       json_object_new_int64(secret && json_object_is_type(secret, json_type_array)
	                                                 ? (int64_t)json_object_array_length(secret)
	                                                 : 0));
	return face;
}

static json_object *
show_new(struct seance_call *call, const char **event, json_object *state, int64_t version)
{
	(void)call;
	*event = "hello";
	json_object *payload = json_object_new_object();
	json_object_object_add(payload, "s", json_object_get(state));
	json_object_object_add(payload, "v", json_object_new_int64(version));
	return payload;
}

static json_object *
show_update(struct seance_call *call, const char **event, json_object *state, json_object *operations,
            int64_t version)
{
	json_object *payload = show_new(call, event, state, version);
	*event = "news";
	json_object_object_add(payload, "o", json_object_get(operations));
	return payload;
}

static const char *const hidden[] = {"hid", "a/b", NULL};
static const char *const nothing[] = {NULL};

#define CHANNEL(name, ...)                                                        \
	{                                                                             \
		.topic = name, .init = show_init, .handle_event = show_event, __VA_ARGS__ \
	}
static const struct seance_channel plain = CHANNEL("plain:*", .scope = SEANCE_SHARED);
static const struct seance_channel ignoring =
	CHANNEL("shared:ignore", .scope = SEANCE_SHARED, .ignore_keys = hidden, .max_version = 10);
static const struct seance_channel showing =
	CHANNEL("shared:all", .scope = SEANCE_SHARED, .ignore_keys = nothing, .max_version = 10);
static const struct seance_channel encoding =
	CHANNEL("shared:face", .scope = SEANCE_SHARED, .encode = show_encode, .ignore_keys = hidden,
            .max_version = 10);
static const struct seance_channel full =
	CHANNEL("shared:full", .scope = SEANCE_SHARED, .message_builder = SEANCE_FULL_STATE,
            .ignore_keys = hidden, .max_version = 10);
static const struct seance_channel own =
	CHANNEL("own:*", .scope = SEANCE_SHARED, .message_builder = SEANCE_OWN_MESSAGES,
            .new_state_message = show_new, .update_state_message = show_update, .ignore_keys = hidden);
static const struct seance_channel private = CHANNEL("private:*", .encode = show_encode);
static const struct seance_channel *const show_channels[] = {&plain, &ignoring, &showing, &encoding,
                                                             &full,  &own,      &private, NULL};

static void
say(struct bench *b, int i, const char *topic, const char *event, const char *payload)
{
	static int ref = 10;
	char frame[2000];
	if (strcmp(event, "phx_join") == 0)
		snprintf(frame, sizeof(frame), "[\"%d\",\"%d\",\"%s\",\"%s\",%s]", ref, ref, topic, event,
		         payload);
	else
		snprintf(frame, sizeof(frame), "[%s,\"%d\",\"%s\",\"%s\",%s]",
		         client_find(&b->g[i].client, topic)->join_ref, ref, topic, event, payload);
	ref++;
	bench_say(b, i, frame);
}

static void
does(struct bench *b, int i, const char *topic, const char *event, const char *payload)
{
	char name[40];
	snprintf(name, sizeof(name), "seance:event:%s", event);
	say(b, i, topic, name, payload);
}

static bool
sees(struct bench *b, int i, const char *topic, const char *wanted)
{
	json_object *value = json_read(wanted);
	json_object *state = client_find(&b->g[i].client, topic)->state;
	bool same = !b->g[i].client.trouble && json_equal(value, state);
	if (!same)
		printf("# sees %s\n", json_text(state, NULL));
	json_object_put(value);
	return same;
}

/* The last frame's payload. */
static bool
last_is(struct bench *b, int i, const char *wanted)
{
	bool same = strstr(bench_last(b, i), wanted) != NULL;
	if (!same)
		printf("# %s\n", bench_last(b, i));
	return same;
}

/* Was this text ever sent to a client? */
static bool
was_sent(struct bench *b, int i, const char *text)
{
	return strstr(json_text(b->g[i].client.frames, NULL), text) != NULL;
}

static void
restart(struct bench *b)
{
	bench_restart(b, true);
	for (int i = 0; i < b->count; i++)
		bench_held(b, i);
	bench_all(b);
}

static void
test_default(void)
{
	struct bench b;
	bench_open_with(&b, false, show_channels);
	int a = bench_connect(&b);
	say(&b, a, "plain:x", "phx_join", "{\"a\":1,\"__meta__\":7,\"b\":[{\"__meta__\":8,\"c\":2}]}");
	ok(sees(&b, a, "plain:x", "{\"a\":1,\"b\":[{\"c\":2}]}"), "__meta__ is not shown, at any depth");
	does(&b, a, "plain:x", "replace", "{\"path\":\"/__meta__\",\"value\":9}");
	ok(last_is(&b, a, "{\"operations\":[],\"version\":1}"), "an edit of it is an empty patch");
	say(&b, a, "shared:all", "phx_join", "{\"__meta__\":7}");
	ok(sees(&b, a, "shared:all", "{\"__meta__\":7}"), "ignore_keys without a name: all is shown");
	bench_close(&b);
}

static void
test_ignore(void)
{
	struct bench b;
	const char *topic = "shared:ignore";
	bench_open_with(&b, true, show_channels);
	int a = bench_connect(&b), c = bench_connect(&b);
	say(&b, a, topic, "phx_join", "{\"x\":{\"hid\":\"SECRET\",\"y\":1},\"l\":[1,2]}");
	does(&b, a, topic, "add", "{\"path\":\"/x/hid\",\"value\":{\"deep\":\"SECRET\"}}");
	ok(last_is(&b, a, "\"operations\":[]"), "below an ignored key: nothing");
	does(&b, a, topic, "add", "{\"path\":\"/n\",\"value\":{\"hid\":\"SECRET\",\"z\":1}}");
	ok(sees(&b, a, topic, "{\"x\":{\"y\":1},\"l\":[1,2],\"n\":{\"z\":1}}"),
	   "a value is told without them");
	does(&b, a, topic, "move", "{\"from\":\"/x/y\",\"path\":\"/x/hid\"}");
	ok(sees(&b, a, topic, "{\"x\":{},\"l\":[1,2],\"n\":{\"z\":1}}"),
	   "moved under an ignored key: removed");
	does(&b, a, topic, "copy", "{\"from\":\"/x/hid\",\"path\":\"/shown\"}");
	ok(sees(&b, a, topic, "{\"x\":{},\"l\":[1,2],\"n\":{\"z\":1},\"shown\":1}"),
	   "copied out of one: added");
	say(&b, c, topic, "phx_join", "{}");
	ok(sees(&b, c, topic, "{\"x\":{},\"l\":[1,2],\"n\":{\"z\":1},\"shown\":1}"),
	   "who joins sees the same");
	does(&b, c, topic, "set", "{\"hid\":\"SECRET\",\"a/b\":\"SECRET\",\"q\":[{\"hid\":\"SECRET\"}]}");
	ok(sees(&b, a, topic, "{\"q\":[{}]}") && sees(&b, c, topic, "{\"q\":[{}]}"),
	   "a whole new state, too");
	restart(&b);
	say(&b, c, topic, "seance:refresh", "{}");
	ok(sees(&b, c, topic, "{\"q\":[{}]}"), "and a refresh after a start");
	does(&b, a, topic, "copy", "{\"from\":\"/q/0/hid\",\"path\":\"/was\"}");
	ok(sees(&b, c, topic, "{\"q\":[{}],\"was\":\"SECRET\"}"), "the state itself has kept all");
	bench_close(&b);
}

static void
test_encode(void)
{
	struct bench b;
	const char *topic = "shared:face";
	bench_open_with(&b, true, show_channels);
	int a = bench_connect(&b), c = bench_connect(&b);
	say(&b, a, topic, "phx_join", "{\"public\":{\"n\":1,\"hid\":\"SECRET\"},\"secret\":[\"SECRET\"]}");
	ok(sees(&b, a, topic, "{\"public\":{\"n\":1},\"secrets\":1}"),
	   "encode gives the face, ignore_keys holds for it");
	does(&b, a, topic, "add", "{\"path\":\"/secret/-\",\"value\":\"SECRET\"}");
	ok(sees(&b, a, topic, "{\"public\":{\"n\":1},\"secrets\":2}") &&
	       last_is(&b, a, "\"path\":\"/secrets\""),
	   "faces are compared");
	does(&b, a, topic, "replace", "{\"path\":\"/secret/0\",\"value\":\"SECRET\"}");
	ok(last_is(&b, a, "{\"operations\":[],\"version\":2}"),
	   "a change that does not show is an empty patch");
	restart(&b);
	does(&b, a, topic, "replace", "{\"path\":\"/public/n\",\"value\":2}");
	ok(sees(&b, a, topic, "{\"public\":{\"n\":2},\"secrets\":2}") &&
	       last_is(&b, a, "\"path\":\"/public/n\""),
	   "after a start, too");
	say(&b, c, topic, "phx_join", "{}");
	ok(sees(&b, c, topic, "{\"public\":{\"n\":2},\"secrets\":2}"), "who joins sees the face");
	say(&b, c, "private:x", "phx_join", "{\"public\":1,\"secret\":[\"SECRET\"]}");
	does(&b, c, "private:x", "replace", "{\"path\":\"/secret\",\"value\":\"SECRET\"}");
	ok(sees(&b, c, "private:x", "{\"public\":1,\"secrets\":0}"), "in private scope, too");
	bench_unlink(&b);
	does(&b, a, topic, "replace", "{\"path\":\"/secret\",\"value\":[\"SECRET\",\"SECRET\",\"SECRET\"]}");
	bench_held(&b, a);
	bench_held(&b, c);
	bench_all(&b);
	ok(sees(&b, c, topic, "{\"public\":{\"n\":2},\"secrets\":3}"), "what the log gives is the face");
	ok(!was_sent(&b, a, "SECRET") && !was_sent(&b, c, "SECRET"), "nothing else was ever sent");
	bench_close(&b);
}

static void
test_full(void)
{
	struct bench b;
	const char *topic = "shared:full";
	bench_open_with(&b, true, show_channels);
	int a = bench_connect(&b), c = bench_connect(&b);
	say(&b, a, topic, "phx_join", "{\"n\":1,\"hid\":\"SECRET\"}");
	say(&b, c, topic, "phx_join", "{}");
	does(&b, a, topic, "replace", "{\"path\":\"/n\",\"value\":2}");
	ok(last_is(&b, a, "\"seance:change\",{\"state\":{\"n\":2},\"version\":1}") &&
	       sees(&b, c, topic, "{\"n\":2}") && bench_frames(&b, c, "seance:patch") == 0,
	   "the full state at every change");
	restart(&b);
	does(&b, c, topic, "replace", "{\"path\":\"/hid\",\"value\":\"SECRET\"}");
	ok(last_is(&b, a, "{\"state\":{\"n\":2},\"version\":2}") && !was_sent(&b, a, "SECRET"),
	   "without what is ignored");
	bench_close(&b);
}

static void
test_own(void)
{
	struct bench b;
	bench_open_with(&b, true, show_channels);
	int a = bench_connect(&b), c = bench_connect(&b);
	say(&b, a, "own:x", "phx_join", "{\"n\":1,\"hid\":\"SECRET\"}");
	ok(last_is(&b, a, ",\"own:x\",\"hello\",{\"s\":{\"n\":1},\"v\":0}]"), "new_state_message at a join");
	does(&b, a, "own:x", "replace", "{\"path\":\"/n\",\"value\":2}");
	ok(last_is(
		   &b, a,
		   "\"news\",{\"s\":{\"n\":2},\"v\":1,\"o\":[{\"op\":\"replace\",\"path\":\"/n\",\"value\":2}]}]"),
	   "update_state_message at a change");
	say(&b, c, "own:x", "phx_join", "{}");
	ok(last_is(&b, c, "\"hello\",{\"s\":{\"n\":2},\"v\":1}]"), "a join sees the new state");
	restart(&b);
	say(&b, c, "own:x", "seance:refresh", "{}");
	ok(last_is(&b, c, "\"hello\",{\"s\":{\"n\":2},\"v\":1}]"), "a refresh after a start");
	does(&b, c, "own:x", "remove", "{\"path\":\"/hid\"}");
	ok(last_is(&b, a, "\"news\",{\"s\":{\"n\":2},\"v\":2,\"o\":[]}]") && !was_sent(&b, a, "SECRET"),
	   "after that, too; nothing ignored is told");
	bench_close(&b);
}

/* --- a walk: whatever is done, clients have the face of the state --- */

static unsigned seed = 1;

static unsigned
draw(unsigned below)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % below;
}

static json_object *
random_value(int depth)
{
	static const char *const names[] = {"public", "secret", "hid", "a/b", "n", "m"};
	unsigned kind = depth > 0 ? draw(6) : draw(3);
	json_object *value = NULL;
	if (kind < 2)
		return json_object_new_int((int)draw(5));
	if (kind == 2)
		return draw(2) ? NULL : json_object_new_string("text");
	if (kind == 3) {
		value = json_object_new_array();
		for (unsigned i = draw(4); i > 0; i--)
			json_object_array_add(value, random_value(depth - 1));
		return value;
	}
	value = json_object_new_object();
	for (unsigned i = draw(4); i > 0; i--)
		json_object_object_add(value, names[draw(6)], random_value(depth - 1));
	return value;
}

/* A place that is there, or beside one; pointer has room for it. */
static void
random_pointer(json_object *value, char *pointer, int depth)
{
	*pointer = '\0';
	while (depth-- > 0 && draw(4)) {
		char *end = pointer + strlen(pointer);
		if (json_object_is_type(value, json_type_array)) {
			size_t len = json_object_array_length(value), at = draw((unsigned)len + 1);
			sprintf(end, "/%zu", at);
			value = at < len ? json_object_array_get_idx(value, at) : NULL;
		} else if (json_object_is_type(value, json_type_object)) {
			static const char *const names[] = {"public", "secret", "hid", "a~1b", "n", "m"};
			static const char *const keys[] = {"public", "secret", "hid", "a/b", "n", "m"};
			unsigned which = draw(6);
			sprintf(end, "/%s", names[which]);
			value = world_get(value, keys[which]);
		} else {
			break;
		}
	}
}

static json_object *
face_wanted(const char *topic, json_object *state)
{
	static const char *const meta[] = {"__meta__", NULL};
	if (strcmp(topic, "shared:face") != 0)
		return face_of(state, strcmp(topic, "plain:x") == 0 ? meta : hidden);
	json_object *encoded = show_encode(NULL, state);
	json_object *face = face_of(encoded, hidden);
	json_object_put(encoded);
	return face;
}

static bool
has_face(struct bench *b, int i, const char *topic)
{
	const struct instance *instance = bench_instance(b, i, topic);
	if (!instance)
		return true;
	json_object *wanted = face_wanted(topic, instance->edit.document);
	bool same = json_equal(wanted, client_find(&b->g[i].client, topic)->state);
	if (!same)
		printf("# wanted %s\n# has %s\n", json_text(wanted, NULL),
		       json_text(client_find(&b->g[i].client, topic)->state, NULL));
	json_object_put(wanted);
	return same;
}

static void
test_walk(const char *topic, int steps)
{
	static const char *const verbs[] = {"add", "replace", "remove", "move", "copy", "set"};
	struct bench b;
	bool same = true;
	int patches = 0;
	bench_open_with(&b, true, show_channels);
	int a = bench_connect(&b), c = bench_connect(&b);
	for (int step = 0; step < steps && same; step++) {
		char from[200], path[200];
		if (!client_find(&b.g[a].client, topic)->joined)
			say(&b, a, topic, "phx_join", "{\"public\":{\"hid\":1},\"secret\":[1],\"hid\":{\"n\":1}}");
		if (!client_find(&b.g[c].client, topic)->joined)
			say(&b, c, topic, "phx_join", "{}");
		json_object *state = json_copy(bench_instance(&b, a, topic)->edit.document);
		const char *verb = verbs[draw(draw(3) ? 5 : 6)];
		random_pointer(state, from, 4);
		random_pointer(state, path, 4);
		json_object *payload = strcmp(verb, "set") == 0 ? random_value(4) : json_object_new_object();
		if (strcmp(verb, "set") != 0) {
			json_object_object_add(payload, "path", json_object_new_string(path));
			json_object_object_add(payload, "from", json_object_new_string(from));
			json_object_object_add(payload, "value", random_value(3));
		} else if (!json_object_is_type(payload, json_type_object)) {
			json_object_put(payload);
			payload = seance_json("{\"public\":[{\"hid\":1,\"n\":2}],\"a/b\":1}");
		}
		char text[1500];
		snprintf(text, sizeof(text), "%s", json_text(payload, NULL));
		if (strlen(text) < sizeof(text) - 1)
			does(&b, (int)draw(2), topic, verb, text);
		json_object_put(payload);
		json_object_put(state);
		if (draw(40) == 0)
			restart(&b);
		bench_all(&b);
		same = has_face(&b, a, topic) && has_face(&b, c, topic) && !b.g[a].client.trouble &&
		       !b.g[c].client.trouble;
	}
	patches = bench_frames(&b, a, "seance:patch") + bench_frames(&b, a, "seance:change");
	ok(same && patches > steps / 8,
	   "%s: a walk of %d changes (%d told): clients have the face, nothing else", topic, steps, patches);
	bench_close(&b);
}

int
main(void)
{
	test_default();
	test_ignore();
	test_encode();
	test_full();
	test_own();
	test_walk("shared:ignore", 1500);
	test_walk("shared:face", 1500);
	test_walk("shared:full", 600);
	return done();
}
