/*
 * conformance - the channels that the recorded frames were made against, and some more
 *
 * tests/recordings/README.md has the table of topics, states and events.  Whole new states are
 * handed over (seance_set_state) where the reference did so; board and biglist use edits.
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "seance.h"

#define UNUSED(x) ((void)(x))

static json_object *
get(json_object *object, const char *key)
{
	return json_object_object_get(object, key);
}

static int64_t
get_int(json_object *object, const char *key)
{
	return json_object_get_int64(get(object, key));
}

/* get_text - the string at key, borrowed; "" when there is none */
static const char *
get_text(json_object *object, const char *key)
{
	json_object *value = get(object, key);

	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

/* object_with - a new object with one member; value is taken */
static json_object *
object_with(const char *key, json_object *value)
{
	json_object *object = json_object_new_object();

	json_object_object_add(object, key, value);
	return object;
}

/* prepended - a new array: first (borrowed), then the elements of array */
static json_object *
prepended(json_object *first, json_object *array)
{
	json_object *result = json_object_new_array();

	json_object_array_add(result, json_object_get(first));
	for (size_t i = 0; i < json_object_array_length(array); i++)
		json_object_array_add(result, json_object_get(json_object_array_get_idx(array, i)));
	return result;
}

static void
sleep_ms(int64_t ms)
{
	struct timespec rest = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&rest, &rest) != 0)
		;
}

/* Not caught by a sanitizer; some of the program's threads block all signals. */
static void
segv(void)
{
	sigset_t all;

	sigfillset(&all);
	signal(SIGSEGV, SIG_DFL);
	pthread_sigmask(SIG_UNBLOCK, &all, NULL);
	raise(SIGSEGV);
}

static enum seance_status
crash_event(struct seance_call *call, const char *event)
{
	return seance_crash(call, "no clause for event %s", event);
}

/* --- todos:* --- */

static enum seance_status
todos_init(struct seance_call *call, const char *topic, json_object *payload)
{
	json_object *token, *state;

	UNUSED(topic);
	if (!json_object_object_get_ex(payload, "token", &token))
		return seance_crash(call, "no token");
	state = object_with("todos", json_object_new_array());
	json_object_object_add(state, "token", json_object_get(token));
	seance_subscribe(call, "todos");
	return seance_set_state(call, state);
}

static enum seance_status
todos_add(struct seance_call *call, json_object *todo, json_object *state)
{
	return seance_set_state(call, object_with("todos", prepended(todo, get(state, "todos"))));
}

static enum seance_status
todos_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	if (strcmp(event, "same") == 0)
		return SEANCE_OK;
	if (strcmp(event, "broadcast") == 0)
		return seance_broadcast(call, "todos", json_object_get(payload));

	if (strcmp(event, "add_todo_with_one_reply") == 0) {
		seance_reply(call, "reply_event", seance_json("{\"foo\":\"bar\"}"));
	} else if (strcmp(event, "add_todo_with_two_replies") == 0) {
		seance_reply(call, "reply_event1", seance_json("{\"foo\":\"bar\"}"));
		seance_reply(call, "reply_event2", seance_json("{\"bing\":\"baz\"}"));
	} else if (strcmp(event, "add_todo") != 0) {
		return crash_event(call, event);
	}
	return todos_add(call, payload, state);
}

static enum seance_status
todos_message(struct seance_call *call, json_object *message, json_object *state)
{
	seance_reply(call, "reply_event", seance_json("{\"foo\":\"bar\"}"));
	return todos_add(call, message, state);
}

static const struct seance_channel todos = {
	.topic = "todos:*",
	.init = todos_init,
	.handle_event = todos_event,
	.handle_message = todos_message,
};

/* --- todosfull:*: the same, with the full state at every change --- */

static const struct seance_channel todosfull = {
	.topic = "todosfull:*",
	.message_builder = SEANCE_FULL_STATE,
	.init = todos_init,
	.handle_event = todos_event,
	.handle_message = todos_message,
};

/* --- foo:* --- */

static enum seance_status
foo_init(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	UNUSED(payload);
	return seance_set_state(call, seance_json("{\"foo\":\"bar\"}"));
}

static enum seance_status
foo_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	UNUSED(state);
	if (strcmp(event, "change_foo") != 0)
		return crash_event(call, event);
	return seance_set_state(call, object_with("foo", json_object_get(get(payload, "foo"))));
}

static const struct seance_channel foo = {
	.topic = "foo:*",
	.max_version = 10,
	.init = foo_init,
	.handle_event = foo_event,
};

/* --- authorized:*, authmap:* --- */

static enum seance_status
authorized_authorize(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	if (strcmp(get_text(payload, "password"), "secret") == 0)
		return SEANCE_OK;
	return seance_refuse_json(call, json_object_new_string("Go away!"));
}

static enum seance_status
authmap_authorize(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	UNUSED(payload);
	return seance_refuse_json(call, seance_json("{\"reason\":\"nope\"}"));
}

static enum seance_status
authorized_init(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	UNUSED(payload);
	return seance_set_state(call, seance_json("{\"authorized\":true}"));
}

static const struct seance_channel authorized = {
	.topic = "authorized:*",
	.authorize = authorized_authorize,
	.init = authorized_init,
};

static const struct seance_channel authmap = {
	.topic = "authmap:*",
	.authorize = authmap_authorize,
	.init = authorized_init,
};

/* --- bad_init:*, bad_init_map:* --- */

static enum seance_status
bad_init_init(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	UNUSED(payload);
	return seance_refuse(call, "you stink");
}

static enum seance_status
bad_init_map_init(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	UNUSED(payload);
	return seance_refuse_json(call, seance_json("{\"code\":7,\"why\":\"no\"}"));
}

static const struct seance_channel bad_init = {
	.topic = "bad_init:*",
	.init = bad_init_init,
};

static const struct seance_channel bad_init_map = {
	.topic = "bad_init_map:*",
	.init = bad_init_map_init,
};

/* --- crash:* --- */

static enum seance_status
crash_authorize(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(payload);
	if (strcmp(topic, "crash:join") == 0 || strcmp(topic, "crash:badauth") == 0)
		return seance_crash(call, "crash in authorize");
	return SEANCE_OK;
}

static enum seance_status
crash_init(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(payload);
	if (strcmp(topic, "crash:init") == 0 || strcmp(topic, "crash:initbad") == 0)
		return seance_crash(call, "crash in init");
	if (strcmp(topic, "crash:initlist") == 0)
		return seance_set_state(call, seance_json("[1,2,3]"));
	if (strcmp(topic, "crash:initunenc") == 0)
		return seance_set_state(call, object_with("n", json_object_new_double(NAN)));
	return seance_set_state(call, seance_json("{\"n\":0}"));
}

static enum seance_status
crash_handle(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	int64_t n = get_int(state, "n");

	if (strcmp(event, "slow") == 0)
		sleep_ms(get_int(payload, "ms"));
	if (strcmp(event, "slow") == 0 || strcmp(event, "ok") == 0)
		return seance_set_state(call, object_with("n", json_object_new_int64(n + 1)));
	if (strcmp(event, "nil_detail") == 0)
		return seance_reply(call, "e", NULL);
	if (strcmp(event, "no_events") == 0)
		return SEANCE_OK;
	if (strcmp(event, "unencodable") == 0)
		return seance_set_state(call, object_with("n", json_object_new_double(NAN)));
	return crash_event(call, event); /* raise, throw, exit, exit_normal, bad_return */
}

static const struct seance_channel crash = {
	.topic = "crash:*",
	.authorize = crash_authorize,
	.init = crash_init,
	.handle_event = crash_handle,
};

/* --- counter:* --- */

static enum seance_status
counter_init(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	UNUSED(payload);
	return seance_set_state(call, seance_json("{\"count\":0}"));
}

static enum seance_status
counter_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	UNUSED(payload);
	if (strcmp(event, "inc") != 0)
		return crash_event(call, event);
	return seance_set_state(call,
	                        object_with("count", json_object_new_int64(get_int(state, "count") + 1)));
}

static const struct seance_channel counter = {
	.topic = "counter:*",
	.init = counter_init,
	.handle_event = counter_event,
};

/* --- big:* and biglist:*: n items; the one with whole new states, the other with edits --- */

static json_object *
item_new(int64_t id, const char *title, int done)
{
	json_object *item = object_with("id", json_object_new_int64(id));

	json_object_object_add(item, "title", json_object_new_string(title));
	json_object_object_add(item, "done", json_object_new_boolean(done));
	return item;
}

static enum seance_status
big_init(struct seance_call *call, const char *topic, json_object *payload)
{
	json_object *items = json_object_new_array();
	char title[32];

	UNUSED(topic);
	for (int64_t i = 1; i <= get_int(payload, "n"); i++) {
		snprintf(title, sizeof(title), "item %lld", (long long)i);
		json_object_array_add(items, item_new(i, title, 0));
	}
	return seance_set_state(call, object_with("items", items));
}

/* big_without - a new array without element i, in whose place comes instead (taken), unless NULL */
static json_object *
big_without(json_object *items, size_t i, json_object *instead)
{
	json_object *result = json_object_new_array();

	for (size_t at = 0; at < json_object_array_length(items); at++)
		if (at != i)
			json_object_array_add(result, json_object_get(json_object_array_get_idx(items, at)));
		else if (instead != NULL)
			json_object_array_add(result, instead);
	return result;
}

static enum seance_status
big_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	json_object *items = get(state, "items");
	int64_t i = get_int(payload, "i");
	json_object *item;

	if (strcmp(event, "prepend") == 0)
		return seance_set_state(call, object_with("items", prepended(payload, items)));
	if (i < 0 || (size_t)i >= json_object_array_length(items))
		return seance_crash(call, "%s: no item %lld", event, (long long)i);
	if (strcmp(event, "remove") == 0)
		return seance_set_state(call, object_with("items", big_without(items, (size_t)i, NULL)));
	if (strcmp(event, "toggle") != 0)
		return crash_event(call, event);

	item = json_object_array_get_idx(items, (size_t)i);
	item = item_new(get_int(item, "id"), get_text(item, "title"),
	                !json_object_get_boolean(get(item, "done")));
	return seance_set_state(call, object_with("items", big_without(items, (size_t)i, item)));
}

static const struct seance_channel big = {
	.topic = "big:*",
	.init = big_init,
	.handle_event = big_event,
};

static enum seance_status
biglist_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	int64_t i = get_int(payload, "i");
	json_object *item = NULL;

	if (strcmp(event, "prepend") == 0)
		return seance_add(call, json_object_get(payload), "/items/0");
	if (strcmp(event, "remove") == 0)
		return seance_remove(call, "/items/%lld", (long long)i);
	if (strcmp(event, "toggle") != 0)
		return crash_event(call, event);
	if (i >= 0)
		item = json_object_array_get_idx(get(state, "items"), (size_t)i);
	return seance_replace(call, json_object_new_boolean(!json_object_get_boolean(get(item, "done"))),
	                      "/items/%lld/done", (long long)i);
}

static const struct seance_channel biglist = {
	.topic = "biglist:*",
	.scope = SEANCE_SHARED,
	.init = big_init,
	.handle_event = biglist_event,
};

/* --- any:* --- */

static enum seance_status
any_init(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	return seance_set_state(call, json_object_get(payload));
}

static enum seance_status
any_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	UNUSED(state);
	if (strcmp(event, "set") != 0)
		return crash_event(call, event);
	return seance_set_state(call, json_object_get(payload));
}

static const struct seance_channel any = {
	.topic = "any:*",
	.init = any_init,
	.handle_event = any_event,
};

/* --- board:* --- */

static enum seance_status
board_init(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	UNUSED(payload);
	return seance_set_state(call, seance_json("{\"n\":0,\"items\":[]}"));
}

static enum seance_status
board_inc(struct seance_call *call, json_object *state)
{
	return seance_replace(call, json_object_new_int64(get_int(state, "n") + 1), "/n");
}

static enum seance_status
board_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	if (strcmp(event, "inc") == 0)
		return board_inc(call, state);
	if (strcmp(event, "add") == 0)
		return seance_add(call, json_object_get(payload), "/items/-");
	if (strcmp(event, "set") == 0)
		return seance_set_state(call, json_object_get(payload));
	if (strcmp(event, "same") == 0)
		return SEANCE_OK;
	if (strcmp(event, "say") == 0)
		return seance_push(call, "said", json_object_get(payload));
	if (strcmp(event, "refuse") == 0)
		return seance_refuse(call, "no");
	if (strcmp(event, "slow") == 0) {
		sleep_ms(get_int(payload, "ms"));
		return board_inc(call, state);
	}
	if (strcmp(event, "segv") == 0)
		segv();
	if (strcmp(event, "loop") == 0)
		for (;;)
			pause();
	return crash_event(call, event); /* raise */
}

static const struct seance_channel board = {
	.topic = "board:*",
	.scope = SEANCE_SHARED,
	.init = board_init,
	.handle_event = board_event,
};

/* --- shared:* --- */

static const char *
shared_name(struct seance_call *call)
{
	static _Thread_local char name[256];

	snprintf(name, sizeof(name), "app:%s", seance_topic(call));
	return name;
}

static enum seance_status
shared_init(struct seance_call *call, const char *topic, json_object *payload)
{
	json_object *state = object_with("topic", json_object_new_string(topic));

	UNUSED(payload);
	json_object_object_add(state, "messages", json_object_new_array());
	seance_subscribe(call, shared_name(call));
	return seance_set_state(call, state);
}

static enum seance_status
shared_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	UNUSED(state);
	if (strcmp(event, "say") != 0)
		return crash_event(call, event);
	return seance_broadcast(call, shared_name(call), json_object_get(payload));
}

/* Of the messages the last 20 are kept. */
static enum seance_status
shared_message(struct seance_call *call, json_object *message, json_object *state)
{
	if (get(message, "segv") != NULL)
		segv();
	seance_add(call, json_object_get(message), "/messages/-");
	if (json_object_array_length(get(state, "messages")) > 20)
		seance_remove(call, "/messages/0");
	return SEANCE_OK;
}

static const struct seance_channel shared = {
	.topic = "shared:*",
	.init = shared_init,
	.handle_event = shared_event,
	.handle_message = shared_message,
};

/* --- timer:* --- */

static enum seance_status
timer_init(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	UNUSED(payload);
	return seance_set_state(call, seance_json("{\"fired\":[],\"timers\":{}}"));
}

static enum seance_status
timer_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	const char *id = get_text(payload, "id");

	if (strcmp(event, "after") == 0)
		return seance_add(call,
		                  json_object_new_int64(seance_send_after(call, get_int(payload, "ms"),
		                                                          json_object_new_string(id))),
		                  "/timers/%s", id);
	if (strcmp(event, "cancel") != 0)
		return crash_event(call, event);
	seance_cancel_timer(call, get_int(get(state, "timers"), id));
	return seance_remove(call, "/timers/%s", id);
}

static enum seance_status
timer_message(struct seance_call *call, json_object *message, json_object *state)
{
	UNUSED(state);
	seance_remove(call, "/timers/%s", json_object_get_string(message));
	return seance_add(call, json_object_get(message), "/fired/-");
}

static const struct seance_channel timer = {
	.topic = "timer:*",
	.scope = SEANCE_SHARED,
	.init = timer_init,
	.handle_event = timer_event,
	.handle_message = timer_message,
};

/* --- room:* --- */

static enum seance_status
room_authorize(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	if (get(payload, "name") == NULL)
		return SEANCE_OK;
	return seance_assign(call, "name", json_object_get(get(payload, "name")));
}

static enum seance_status
room_init(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	UNUSED(payload);
	return seance_set_state(call, seance_json("{\"said\":[]}"));
}

static enum seance_status
room_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	UNUSED(state);
	if (strcmp(event, "away") == 0)
		return seance_assign(call, "presence",
		                     object_with("away", json_object_get(get(payload, "why"))));
	if (strcmp(event, "say") != 0)
		return crash_event(call, event);
	return seance_add(call, json_object_get(get(payload, "text")), "/said/-");
}

static const struct seance_channel room = {
	.topic = "room:*",
	.scope = SEANCE_SHARED,
	.presence = true,
	.presence_key = "name",
	.presence_grace_ms = 1500,
	.authorize = room_authorize,
	.init = room_init,
	.handle_event = room_event,
};

/* --- face:* --- */

static enum seance_status
face_init(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	UNUSED(payload);
	return seance_set_state(call, seance_json("{\"public\":0,\"private\":0}"));
}

static json_object *
face_encode(struct seance_call *call, json_object *state)
{
	UNUSED(call);
	return object_with("public", json_object_get(get(state, "public")));
}

static enum seance_status
face_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	UNUSED(payload);
	if (strcmp(event, "both") != 0 && strcmp(event, "hidden") != 0)
		return crash_event(call, event);
	if (strcmp(event, "both") == 0)
		seance_replace(call, json_object_new_int64(get_int(state, "public") + 1), "/public");
	return seance_replace(call, json_object_new_int64(get_int(state, "private") + 1), "/private");
}

static const struct seance_channel face = {
	.topic = "face:*",
	.scope = SEANCE_SHARED,
	.init = face_init,
	.handle_event = face_event,
	.encode = face_encode,
};

/* --- guarded:* --- */

/* By the payload, or by what connect has seen of the headers, which are its alone. */
static enum seance_status
guarded_authorize(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	if (seance_header(call, "Authorization") != NULL)
		return seance_crash(call, "authorize sees a header");
	if (strcmp(get_text(payload, "token"), "good") == 0 || get(seance_assigns(call), "good") != NULL)
		return SEANCE_OK;
	return seance_refuse(call, "a good token, please");
}

static const struct seance_channel guarded = {
	.topic = "guarded:*",
	.scope = SEANCE_SHARED,
	.authorize = guarded_authorize,
	.init = board_init,
	.handle_event = board_event,
};

/* --- wall:*: guarded, too, but what is answered is the same for all --- */

static const struct seance_channel wall = {
	.topic = "wall:*",
	.scope = SEANCE_SHARED,
	.is_public = true,
	.authorize = guarded_authorize,
	.init = board_init,
	.handle_event = board_event,
};

/* --- full:*: shared, the full state at every change; some have no first one --- */

static enum seance_status
full_init(struct seance_call *call, const char *topic, json_object *payload)
{
	if (strcmp(topic, "full:refused") == 0)
		return seance_refuse(call, "no state");
	if (strcmp(topic, "full:crash") == 0)
		return seance_crash(call, "crash in init");
	return board_init(call, topic, payload);
}

static const struct seance_channel full = {
	.topic = "full:*",
	.scope = SEANCE_SHARED,
	.message_builder = SEANCE_FULL_STATE,
	.init = full_init,
	.handle_event = board_event,
};

/* --- draft:*, brief:*: private, and outlive a lost connection --- */

static enum seance_status
draft_init(struct seance_call *call, const char *topic, json_object *payload)
{
	json_object *state = seance_json("{\"n\":0}");

	UNUSED(topic);
	sleep_ms(get_int(payload, "ms"));
	if (get(payload, "segv") != NULL)
		segv();
	json_object_object_add(state, "began", json_object_get(payload));
	seance_assign(call, "note", json_object_new_string("new"));
	return seance_set_state(call, state);
}

static enum seance_status
draft_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	if (strcmp(event, "inc") == 0)
		return board_inc(call, state);
	if (strcmp(event, "later") == 0) {
		seance_send_after(call, get_int(payload, "ms"), json_object_new_string("later"));
		return SEANCE_OK;
	}
	if (strcmp(event, "slow") == 0) {
		sleep_ms(get_int(payload, "ms"));
		return board_inc(call, state);
	}
	if (strcmp(event, "refuse") == 0 && get_int(state, "n") == 0)
		return seance_refuse(call, "not yet");
	if (strcmp(event, "note") == 0)
		return seance_assign(call, "note", json_object_get(get(payload, "note")));
	if (strcmp(event, "assigns") == 0)
		return seance_reply(call, "assigns",
		                    object_with("note", json_object_get(get(seance_assigns(call), "note"))));
	return crash_event(call, event);
}

static enum seance_status
draft_message(struct seance_call *call, json_object *message, json_object *state)
{
	UNUSED(message);
	return board_inc(call, state);
}

static enum seance_status
draft_end(struct seance_call *call, const char *reason, json_object *state)
{
	UNUSED(state);
	return seance_broadcast(call, "drafts", json_object_new_string(reason));
}

static const struct seance_channel draft = {
	.topic = "draft:*",
	.resume_ttl = 60,
	.init = draft_init,
	.handle_event = draft_event,
	.handle_message = draft_message,
};

static const struct seance_channel brief = {
	.topic = "brief:*",
	.resume_ttl = 1,
	.init = draft_init,
	.handle_event = draft_event,
	.handle_message = draft_message,
	.terminate = draft_end,
};

/* --- drafts: shared: how briefs have ended --- */

static enum seance_status
drafts_init(struct seance_call *call, const char *topic, json_object *payload)
{
	UNUSED(topic);
	UNUSED(payload);
	seance_subscribe(call, "drafts");
	return seance_set_state(call, seance_json("{\"ends\":[]}"));
}

static enum seance_status
drafts_message(struct seance_call *call, json_object *message, json_object *state)
{
	UNUSED(state);
	return seance_add(call, json_object_get(message), "/ends/-");
}

static const struct seance_channel drafts = {
	.topic = "drafts",
	.scope = SEANCE_SHARED,
	.init = drafts_init,
	.handle_message = drafts_message,
};

/* --- the socket --- */

static enum seance_status
on_connect(struct seance_call *call, json_object *params)
{
	const char *deny = get_text(params, "deny");
	const char *bearer = seance_header(call, "Authorization");

	if (strcmp(deny, "segv") == 0)
		segv();
	if (strcmp(deny, "crash") == 0)
		return seance_crash(call, "crash in connect");
	if (strcmp(deny, "reason") == 0)
		return seance_refuse(call, "why");
	if (strcmp(deny, "1") == 0)
		return SEANCE_REFUSED;
	if (bearer != NULL && strcmp(bearer, "Bearer good") == 0)
		return seance_assign(call, "good", json_object_new_boolean(1));
	return SEANCE_OK;
}

SEANCE_MAIN_CONNECT(on_connect, &todos, &todosfull, &foo, &authorized, &authmap, &bad_init,
                    &bad_init_map, &crash, &counter, &big, &biglist, &any, &board, &shared, &timer,
                    &room, &face, &guarded, &wall, &full, &draft, &brief, &drafts)
