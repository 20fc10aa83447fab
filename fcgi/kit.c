/*
 * kit - what include/seance_test.h promises: the engine on a store in memory, clients that speak version 2 of the
 * Phoenix frames to it by hand, and expectations
 */
#include "seance_test.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "clock.h"
#include "engine.h"
#include "json.h"
#include "memory.h"
#include "patch.h"
#include "phoenix.h"
#include "websocket_events.h"

#define TURNS_MAX 100000 /* until a program that never comes to rest is given up */

/* What a client has of a topic. */
struct view {
	char *topic;
	char join_ref[16];
	bool joined;
	bool has_state;
	json_object *state;
	int64_t version;
	json_object *told;  /* an array of [kind, detail, name], not taken yet */
	json_object *event; /* the entry that seance_test_event has handed out */
	struct view *next;
};

struct seance_test_client {
	struct seance_test *test;
	char *token;
	bool closed;
	int64_t number; /* of its last message */
	int64_t position;
	struct view *views;
	struct seance_test_client *next;
};

struct seance_test {
	struct store *store;
	struct engine *engine;
	seance_connect_fn *on_connect;
	const struct seance_channel **channels; /* owned */
	struct seance_test_client *clients;
	json_object *broadcasts; /* topic -> array of messages, not taken yet */
	json_object *headers;
	int refs;
};

/* --- results --- */

static int expected, failed;

static void
print_plan(void)
{
	printf("1..%d\n", expected);
	fflush(stdout);
}

static bool result(const char *file, int line, bool met, const char *format, ...) SEANCE_PRINTF(4, 5);

static bool
result(const char *file, int line, bool met, const char *format, ...)
{
	va_list args;
	if (expected++ == 0)
		atexit(print_plan);
	failed += !met;
	printf("%sok %d - ", met ? "" : "not ", expected);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(met ? "\n" : "\n# at %s:%d\n", file, line);
	return met;
}

static _Noreturn void
give_up(const char *what, const char *detail)
{
	printf("Bail out! %s: %s\n", what, detail);
	exit(1);
}

/* JSON text as a value, owned by the caller. */
static json_object *
parse(const char *text)
{
	json_object *value = NULL;
	struct json_error error;
	if (!json_parse(text, strlen(text), &value, &error))
		give_up(error.message, text);
	return value;
}

/* Says what differs; wanted and got are borrowed. */
static void
print_difference(json_object *wanted, json_object *got)
{
	struct patch_edit edit;
	printf("# expected   %s\n", json_text(wanted, NULL));
	printf("# got        %s\n", json_text(got, NULL));
	patch_edit_init(&edit, json_copy(wanted));
	if (patch_become(&edit, json_object_get(got)))
		printf("# difference [%.*s]\n", (int)edit.operations.len,
		       edit.operations.at ? edit.operations.at : "");
	patch_edit_release(&edit);
}

/* wanted is taken. */
static bool
compared(const char *file, int line, json_object *wanted, json_object *got, const char *what,
         const char *topic)
{
	bool met =
		result(file, line, json_equal(wanted, got), "%s: %s %s", topic, what, json_text(wanted, NULL));
	if (!met)
		print_difference(wanted, got);
	json_object_put(wanted);
	return met;
}

/* --- views --- */

static struct view *
view_find(const struct seance_test_client *client, const char *topic)
{
	struct view *view = client->views;
	while (view && strcmp(view->topic, topic) != 0)
		view = view->next;
	return view;
}

static struct view *
view_of(struct seance_test_client *client, const char *topic)
{
	struct view *view = view_find(client, topic);
	if (view)
		return view;
	view = memory_zeroed(1, sizeof(*view));
	view->topic = memory_strdup(topic);
	view->version = -1;
	view->told = json_object_new_array();
	view->next = client->views;
	client->views = view;
	return view;
}

/* detail is borrowed; name may be NULL. */
static void
note(struct view *view, const char *kind, const char *name, json_object *detail)
{
	json_object *entry = json_object_new_array();
	json_object_array_add(entry, json_object_new_string(kind));
	json_object_array_add(entry, json_object_get(detail));
	json_object_array_add(entry, name ? json_object_new_string(name) : NULL);
	json_object_array_add(view->told, entry);
}

static json_object *
member(json_object *object, const char *name)
{
	return json_object_object_get(object, name);
}

static void
take_state(struct view *view, json_object *payload)
{
	json_object_put(view->state);
	view->state = json_copy(member(payload, "state"));
	view->version = json_object_get_int64(member(payload, "version"));
	view->has_state = true;
	note(view, "seance:change", NULL, member(payload, "state"));
}

static void
take_patch(struct view *view, json_object *payload)
{
	if (!patch_apply(&view->state, member(payload, "operations")))
		give_up("a patch does not fit to the client's state", json_text(payload, NULL));
	view->version = json_object_get_int64(member(payload, "version"));
	note(view, "seance:patch", NULL, member(payload, "operations"));
}

static void
take_reply(struct view *view, const char *ref, json_object *payload)
{
	bool ok = strcmp(json_object_get_string(member(payload, "status")), "ok") == 0;
	bool of_join = strcmp(ref, view->join_ref) == 0;
	if (of_join)
		view->joined = ok;
	if (!ok)
		note(view, "refused", NULL, member(payload, "response"));
}

/* init has refused: the join was answered, and then this. */
static void
take_error(struct view *view, json_object *payload)
{
	view->joined = false;
	note(view, "refused", NULL, payload);
}

static void
take_end(struct view *view, const char *event, const char *join_ref)
{
	if (strcmp(join_ref, view->join_ref) != 0)
		return; /* of the join that this one has replaced */
	view->joined = false;
	if (strcmp(event, "phx_error") == 0)
		note(view, event, NULL, NULL);
}

static const char *
text_at(json_object *frame, size_t at)
{
	const char *text = json_object_get_string(json_object_array_get_idx(frame, at));
	return text ? text : "";
}

static void
take_frame(struct seance_test_client *client, json_object *frame)
{
	struct view *view = view_of(client, text_at(frame, 2));
	const char *event = text_at(frame, 3);
	json_object *payload = json_object_array_get_idx(frame, 4);
	if (strcmp(event, "phx_reply") == 0)
		take_reply(view, text_at(frame, 1), payload);
	else if (strcmp(event, "seance:change") == 0)
		take_state(view, payload);
	else if (strcmp(event, "seance:patch") == 0)
		take_patch(view, payload);
	else if (strcmp(event, "seance:event") == 0)
		note(view, "event", json_object_get_string(member(payload, "name")), member(payload, "detail"));
	else if (strcmp(event, "seance:error") == 0)
		take_error(view, payload);
	else if (strncmp(event, "phx_", 4) == 0)
		take_end(view, event, text_at(frame, 0));
	else
		note(view, "event", event, payload);
}

/* Frames in the form in which the module gets them. */
static void
take_frames(struct seance_test_client *client, const struct buffer *body)
{
	size_t at = 0;
	struct events_event event;
	while (at < body->len) {
		long used = events_decode((const uint8_t *)body->at + at, body->len - at, &event);
		json_object *frame = NULL;
		if (used <= 0 || event.type != EVENTS_TEXT ||
		    !json_parse((const char *)event.data, event.len, &frame, NULL))
			break;
		take_frame(client, frame);
		json_object_put(frame);
		at += (size_t)used;
	}
}

/* --- the program --- */

static void
say(void *context, const char *line)
{
	(void)context;
	printf("# log: %s\n", line);
}

static void
on_broadcast(void *context, const char *topic, const char *message)
{
	struct seance_test *test = context;
	json_object *list = member(test->broadcasts, topic);
	if (!list) {
		list = json_object_new_array();
		json_object_object_add(test->broadcasts, topic, list);
	}
	json_object_array_add(list, parse(message));
}

static void
open_engine(struct seance_test *test)
{
	const struct engine_limits limits = {
		.sockets = 10000,
		.sockets_per_address = 10000,
		.joins_per_socket = 1000,
		.state_bytes = 16 << 20,
		.cache_bytes = 64 << 20,
		.catch_up_bytes = 4096,
		.log_rows = 100000,
		.grace_ms = INT64_MAX / 2,
		.marks_ms = 60000,
	};
	const struct engine_hooks hooks = {.context = test, .log = say, .broadcast = on_broadcast};
	test->engine = engine_open(test->store, &limits, &hooks, test->on_connect, test->channels);
	engine_lock(test->engine);
	if (!engine_restore(test->engine))
		give_up("the database cannot be read", "");
	engine_unlock(test->engine);
}

static struct seance_test_client *
client_of(struct seance_test *test, const char *token)
{
	struct seance_test_client *client = test->clients;
	while (client && strcmp(client->token, token) != 0)
		client = client->next;
	return client;
}

static void
deliver(struct seance_test *test, const struct delivery *delivery)
{
	struct seance_test_client *client = client_of(test, delivery->socket->row.token);
	const struct store_record *row = &delivery->record->row;
	struct buffer body = {0};
	if (!client || client->closed || row->number <= client->position)
		return;
	const struct phoenix_client to = {.own = row->socket == delivery->socket->row.id,
	                                  .wants = delivery->wants};
	phoenix_commit(&body, &to, delivery->record);
	client->position = row->number;
	take_frames(client, &body);
	buffer_release(&body);
}

static void
answer(struct seance_test *test, const struct message *message)
{
	struct seance_test_client *client =
		message->socket ? client_of(test, message->socket->row.token) : NULL;
	struct buffer body = {0};
	if (!client)
		return;
	phoenix_outcome(&body, 0, message);
	take_frames(client, &body);
	buffer_release(&body);
}

/* One turn, as the program's loop takes it. */
static void
turn(struct seance_test *test)
{
	struct commit_result done;
	engine_commit(test->engine, &done);
	for (size_t i = 0; i < done.delivery_count; i++)
		deliver(test, &done.deliveries[i]);
	for (const struct message *m = done.answered; m; m = m->next)
		answer(test, m);
	commit_result_release(&done);
	engine_post(test->engine);
}

static void
settle(struct seance_test *test)
{
	int turns = 0;
	do {
		turn(test);
	} while (engine_due(test->engine) == 0 && ++turns < TURNS_MAX);
	if (turns == TURNS_MAX)
		give_up("the channels do not come to rest", "");
}

struct seance_test *
seance_test_start(seance_connect_fn *on_connect, const struct seance_channel *const *channels)
{
	struct seance_test *test = memory_zeroed(1, sizeof(*test));
	size_t count = 0;
	for (; channels[count]; count++)
		if (channel_fault(channels[count]))
			give_up(channel_fault(channels[count]),
			        channels[count]->topic ? channels[count]->topic : "");
	setvbuf(stdout, NULL, _IOLBF, 0);
	clock_stop();
	test->channels = memory_zeroed(count + 1, sizeof(struct seance_channel *));
	memcpy(test->channels, channels, count * sizeof(struct seance_channel *));
	test->on_connect = on_connect;
	test->store = store_open_memory();
	test->broadcasts = json_object_new_object();
	test->headers = json_object_new_object();
	open_engine(test);
	return test;
}

static void
client_free(struct seance_test_client *client)
{
	while (client->views) {
		struct view *view = client->views;
		client->views = view->next;
		json_object_put(view->state);
		json_object_put(view->told);
		json_object_put(view->event);
		free(view->topic);
		free(view);
	}
	free(client->token);
	free(client);
}

int
seance_test_end(struct seance_test *test)
{
	while (test->clients) {
		struct seance_test_client *client = test->clients;
		test->clients = client->next;
		client_free(client);
	}
	engine_close(test->engine);
	json_object_put(test->broadcasts);
	json_object_put(test->headers);
	free(test->channels);
	free(test);
	return failed > 0;
}

void
seance_test_advance(struct seance_test *test, int64_t ms)
{
	engine_lock(test->engine);
	settle(test);
	while (ms > 0) {
		int due = engine_due(test->engine);
		int64_t step = due > 0 && due < ms ? due : ms;
		clock_advance(step);
		ms -= step;
		settle(test);
	}
	engine_unlock(test->engine);
}

static void
hold(struct seance_test *test, struct seance_test_client *client)
{
	static uint64_t handles;
	if (!engine_held(test->engine, client->token, test, ++handles, client->position))
		client->closed = true;
}

void
seance_test_restart(struct seance_test *test)
{
	test->store = engine_detach(test->engine);
	open_engine(test);
	engine_lock(test->engine);
	for (struct seance_test_client *c = test->clients; c; c = c->next)
		if (!c->closed)
			hold(test, c);
	settle(test);
	engine_unlock(test->engine);
}

void
seance_test_broadcast(struct seance_test *test, const char *topic, const char *message)
{
	const char *why = effects_topic_fault(topic);
	engine_lock(test->engine);
	if (!why)
		why = engine_broadcast(test->engine, topic, parse(message), NULL, NULL);
	if (why)
		give_up(why, topic);
	settle(test);
	engine_unlock(test->engine);
}

/* --- clients --- */

static const char *
header_of(void *context, const char *name)
{
	struct seance_test *test = context;
	return json_object_get_string(member(test->headers, name));
}

void
seance_test_header(struct seance_test *test, const char *name, const char *value)
{
	json_object_object_del(test->headers, name);
	if (value)
		json_object_object_add(test->headers, name, json_object_new_string(value));
}

static struct seance_test_client *
client_new(struct seance_test *test, const char *token)
{
	struct seance_test_client *client = memory_zeroed(1, sizeof(*client));
	client->test = test;
	client->token = memory_strdup(token);
	client->next = test->clients;
	test->clients = client;
	hold(test, client);
	return client;
}

struct seance_test_client *
seance_test_connect(struct seance_test *test, const char *params)
{
	struct socket *socket = NULL;
	struct seance_test_client *client = NULL;
	json_object *object = parse(params ? params : "{}");
	const struct engine_client handshake = {
		.params = object, .address = "test", .header = header_of, .header_context = test};
	engine_lock(test->engine);
	if (engine_connect(test->engine, &handshake, &socket) == CONNECT_OK) {
		settle(test);
		if (engine_stored(socket))
			client = client_new(test, socket->row.token);
		engine_release(socket);
	}
	engine_unlock(test->engine);
	json_object_put(object);
	return client;
}

void
seance_test_close(struct seance_test_client *client)
{
	struct engine *engine = client->test->engine;
	if (client->closed)
		return;
	client->closed = true;
	engine_lock(engine);
	engine_closed(engine, engine_find(engine, client->token));
	settle(client->test);
	engine_unlock(engine);
}

static bool
is_alive(void *request)
{
	(void)request;
	return true;
}

/* A frame as phoenix.js would send it, as text; owned by the caller. */
static char *
frame_text(struct seance_test *test, const char *join_ref, const char *topic, const char *event,
           const char *payload)
{
	char ref[16];
	json_object *parts = json_object_new_array();
	snprintf(ref, sizeof(ref), "%d", ++test->refs);
	json_object_array_add(parts, json_object_new_string(join_ref));
	json_object_array_add(parts, json_object_new_string(ref));
	json_object_array_add(parts, json_object_new_string(topic));
	json_object_array_add(parts, json_object_new_string(event));
	json_object_array_add(parts, parse(payload));
	char *text = memory_strdup(json_text(parts, NULL));
	json_object_put(parts);
	return text;
}

static void
send_frame(struct seance_test_client *client, const char *join_ref, const char *topic, const char *event,
           const char *payload)
{
	struct engine *engine = client->test->engine;
	struct buffer reply = {0};
	const char *why = "";
	void *old;
	if (client->closed)
		give_up("the client's connection has ended", topic);
	char *frame = frame_text(client->test, join_ref, topic, event, payload);
	engine_lock(engine);
	struct message *message = message_new(engine_find(engine, client->token));
	if (!phoenix_parse(0, false, frame, strlen(frame), message, &reply, &why))
		give_up(why, topic);
	message->number = ++client->number;
	engine_submit(engine, message, client->position, is_alive, &old);
	settle(client->test);
	engine_unlock(engine);
	buffer_release(&reply);
	free(frame);
}

void
seance_test_join(struct seance_test_client *client, const char *topic, const char *payload)
{
	struct view *view = view_of(client, topic);
	snprintf(view->join_ref, sizeof(view->join_ref), "%d", client->test->refs + 1);
	view->joined = false;
	send_frame(client, view->join_ref, topic, "phx_join", payload);
}

void
seance_test_leave(struct seance_test_client *client, const char *topic)
{
	struct view *view = view_of(client, topic);
	send_frame(client, view->join_ref, topic, "phx_leave", "{}");
	view->joined = false;
}

void
seance_test_push(struct seance_test_client *client, const char *topic, const char *event,
                 const char *payload)
{
	struct buffer name = {0};
	buffer_add_text(&name, "seance:event:");
	buffer_add(&name, event, strlen(event) + 1);
	send_frame(client, view_of(client, topic)->join_ref, topic, name.at, payload);
	buffer_release(&name);
}

void
seance_test_refresh(struct seance_test_client *client, const char *topic)
{
	send_frame(client, view_of(client, topic)->join_ref, topic, "seance:refresh", "{}");
}

json_object *
seance_test_state(const struct seance_test_client *client, const char *topic)
{
	const struct view *view = view_find(client, topic);
	return view ? view->state : NULL;
}

int64_t
seance_test_version(const struct seance_test_client *client, const char *topic)
{
	const struct view *view = view_find(client, topic);
	return view ? view->version : -1;
}

/* --- expectations --- */

bool
seance_test_expect(const char *file, int line, bool condition, const char *what)
{
	return result(file, line, condition, "%s", what);
}

bool
seance_test_expect_joined(const char *file, int line, struct seance_test_client *client,
                          const char *topic)
{
	const struct view *view = view_of(client, topic);
	return result(file, line, view->joined && view->has_state, "%s: joined", topic);
}

bool
seance_test_expect_state(const char *file, int line, struct seance_test_client *client,
                         const char *topic, const char *state)
{
	return compared(file, line, parse(state), seance_test_state(client, topic), "state", topic);
}

bool
seance_test_expect_version(const char *file, int line, struct seance_test_client *client,
                           const char *topic, int64_t version)
{
	int64_t has = seance_test_version(client, topic);
	bool met = result(file, line, has == version, "%s: version %lld", topic, (long long)version);
	if (!met)
		printf("# got version %lld\n", (long long)has);
	return met;
}

/* The next entry of a kind, and of a name unless that is NULL, taken from the list; owned by the caller; or NULL. */
static json_object *
take_told(struct view *view, const char *kind, const char *name)
{
	for (size_t i = 0; i < json_object_array_length(view->told); i++) {
		json_object *entry = json_object_array_get_idx(view->told, i);
		if (strcmp(text_at(entry, 0), kind) != 0 || (name && strcmp(text_at(entry, 2), name) != 0))
			continue;
		json_object_get(entry);
		json_object_array_del_idx(view->told, i, 1);
		return entry;
	}
	return NULL;
}

json_object *
seance_test_event(struct seance_test_client *client, const char *topic, const char *name)
{
	struct view *view = view_of(client, topic);
	json_object_put(view->event);
	view->event = take_told(view, "event", name);
	return view->event ? json_object_array_get_idx(view->event, 1) : NULL;
}

static bool
told(const char *file, int line, struct view *view, const char *kind, const char *name,
     const char *wanted)
{
	json_object *entry = take_told(view, kind, name);
	json_object *value = wanted ? parse(wanted) : NULL;
	const char *what = name ? name : kind;
	if (entry) {
		bool met = compared(file, line, value, json_object_array_get_idx(entry, 1), what, view->topic);
		json_object_put(entry);
		return met;
	}
	result(file, line, false, "%s: %s %s", view->topic, what, json_text(value, NULL));
	printf("# not told; what is there: %s\n", json_text(view->told, NULL));
	json_object_put(value);
	return false;
}

bool
seance_test_expect_told(const char *file, int line, struct seance_test_client *client, const char *topic,
                        const char *kind, const char *wanted)
{
	return told(file, line, view_of(client, topic), kind, NULL, wanted);
}

bool
seance_test_expect_event(const char *file, int line, struct seance_test_client *client,
                         const char *topic, const char *name, const char *detail)
{
	return told(file, line, view_of(client, topic), "event", name, detail);
}

bool
seance_test_expect_nothing(const char *file, int line, struct seance_test_client *client,
                           const char *topic)
{
	struct view *view = view_of(client, topic);
	bool met = result(file, line, json_object_array_length(view->told) == 0, "%s: nothing more", topic);
	if (!met)
		printf("# told: %s\n", json_text(view->told, NULL));
	return met;
}

bool
seance_test_expect_broadcast(const char *file, int line, struct seance_test *test, const char *topic,
                             const char *message)
{
	json_object *list = member(test->broadcasts, topic);
	if (!list || json_object_array_length(list) == 0)
		return result(file, line, false, "%s: broadcast %s, but nothing was", topic, message);
	bool met =
		compared(file, line, parse(message), json_object_array_get_idx(list, 0), "broadcast", topic);
	json_object_array_del_idx(list, 0, 1);
	return met;
}

/* --- timers --- */

struct wanted_timer {
	struct seance_test *test;
	const char *topic;
	int64_t due_ms;
	json_object *message;
	bool found, of_topic;
};

static bool
has_topic(void *context, const struct store_instance *row)
{
	struct wanted_timer *wanted = context;
	wanted->of_topic = strcmp(row->topic, wanted->topic) == 0;
	return false;
}

static bool
look_at_timer(void *context, const struct store_timer *row)
{
	struct wanted_timer *wanted = context;
	json_object *message = json_read(row->payload);
	store_instance_get(wanted->test->store, row->instance, has_topic, wanted);
	if (row->kind == 0 && wanted->of_topic) {
		wanted->found =
			wanted->found || (row->due_ms == wanted->due_ms && json_equal(message, wanted->message));
		if (!wanted->found)
			printf("# a timer in %lld ms: %s\n", (long long)(row->due_ms - clock_unix_ms()),
			       row->payload);
	}
	json_object_put(message);
	return !wanted->found;
}

bool
seance_test_expect_timer(const char *file, int line, struct seance_test *test, const char *topic,
                         int64_t delay_ms, const char *message)
{
	struct wanted_timer wanted = {
		.test = test,
		.topic = topic,
		.due_ms = clock_unix_ms() + delay_ms,
		.message = parse(message),
	};
	engine_lock(test->engine);
	store_scan_timers(test->store, look_at_timer, &wanted);
	engine_unlock(test->engine);
	json_object_put(wanted.message);
	return result(file, line, wanted.found, "%s: a timer in %lld ms: %s", topic, (long long)delay_ms,
	              message);
}
