/*
 * test_phoenix - frames of the Phoenix socket protocol, in and out, in both versions and vocabularies
 *
 * Golden frames are the reference server's, as recorded (tests/recordings); where this one differs on
 * purpose, the test says so.  Members of objects are compared without order.
 */
#include "phoenix.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "memory.h"
#include "tap.h"

enum { V2 = 0, V1 = PHOENIX_V1, LIVE = PHOENIX_LIVE_STATE, LIVE_V1 = PHOENIX_V1 | PHOENIX_LIVE_STATE };

/* --- frames in --- */

static struct message *
parse(int format, bool binary, const char *bytes, size_t len, struct buffer *reply)
{
	struct message *message = memory_zeroed(1, sizeof(*message));
	const char *why = NULL;
	buffer_clear(reply);
	if (phoenix_parse(format, binary, bytes, len, message, reply, &why))
		return message;
	if (!why)
		printf("# no reason given\n");
	message_free(message);
	return NULL;
}

static bool
same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool
same_json(const char *text, json_object *value)
{
	json_object *wanted = json_read(text);
	bool equal = json_equal(wanted, value);
	json_object_put(wanted);
	return equal;
}

static void
reads(int format, const char *frame, enum message_kind kind, const char *topic, const char *join_ref,
      const char *ref, const char *event, const char *payload)
{
	struct buffer reply = {0};
	struct message *m = parse(format, false, frame, strlen(frame), &reply);
	ok(m && m->kind == kind && same(m->topic, topic) && same(m->join_ref, join_ref) &&
	       same(m->ref, ref) && same(m->event, event) && same_json(payload, m->payload) &&
	       reply.len == 0,
	   "read, format %d: %s", format, frame);
	message_free(m);
	buffer_release(&reply);
}

static void
refuses_bytes(int format, bool binary, const char *bytes, size_t len, const char *name)
{
	struct buffer reply = {0};
	struct message *m = parse(format, binary, bytes, len, &reply);
	ok(!m, "refused, format %d: %s", format, name);
	message_free(m);
	buffer_release(&reply);
}

static void
refuses(int format, const char *frame)
{
	refuses_bytes(format, false, frame, strlen(frame), frame);
}

/* The frames of an output in the form of websocket_events, as an array of JSON values; owned. */
static json_object *
frames_of(struct buffer *out)
{
	json_object *frames = json_object_new_array();
	size_t at = 0;
	while (at < out->len) {
		char *end;
		json_object *frame = NULL;
		if (strncmp(out->at + at, "TEXT ", 5) != 0)
			break;
		size_t len = strtoul(buffer_text(out) + at + 5, &end, 16);
		size_t body = (size_t)(end - out->at) + 2;
		if (!json_parse(out->at + body, len, &frame, NULL) ||
		    strncmp(out->at + body + len, "\r\n", 2) != 0)
			break;
		size_t compact;
		json_text(frame, &compact);
		if (compact != len)
			frame = json_object_new_string("a frame with spaces");
		json_object_array_add(frames, frame);
		at = body + len + 2;
	}
	if (at != out->len)
		json_object_array_add(frames, json_object_new_string("garbage"));
	return frames;
}

static void
wrote(struct buffer *out, int count, const char *wanted, const char *name)
{
	json_object *frames = frames_of(out);
	json_object *expected = json_read(wanted);
	bool equal = expected && json_equal(frames, expected) &&
	             (count < 0 || (size_t)count == json_object_array_length(expected));
	ok(equal, "%s", name);
	if (!equal)
		printf("# got %s\n# not %s, %d\n", json_text(frames, NULL), wanted, count);
	json_object_put(frames);
	json_object_put(expected);
	buffer_clear(out);
}

static void
replies(int format, const char *frame, const char *wanted)
{
	struct buffer reply = {0};
	struct message *m = parse(format, false, frame, strlen(frame), &reply);
	ok(m && m->kind == MESSAGE_PLAIN, "asks nothing of a channel: %s", frame);
	wrote(&reply, -1, wanted, "  and its reply");
	message_free(m);
	buffer_release(&reply);
}

static void
test_read(void)
{
	reads(V2, "[\"1\",\"2\",\"t:a\",\"phx_join\",{\"x\":1}]", MESSAGE_JOIN, "t:a", "\"1\"", "\"2\"",
	      NULL, "{\"x\":1}");
	reads(V2, "[7,8,\"t\",\"phx_join\",null]", MESSAGE_JOIN, "t", "7", "8", NULL, "null");
	reads(V2, "[null,null,\"t\",\"phx_leave\",{}]", MESSAGE_LEAVE, "t", "null", "null", NULL, "{}");
	reads(V2, "[{\"a\":1},[2],\"t\",\"phx_join\",{}]", MESSAGE_JOIN, "t", "{\"a\":1}", "[2]", NULL,
	      "{}");
	reads(V2, "[\"1\",\"2\",\"t\",\"seance:event:inc\",{}]", MESSAGE_EVENT, "t", "\"1\"", "\"2\"", "inc",
	      "{}");
	reads(V2, "[\"1\",\"2\",\"t\",\"seance:event:\",[1]]", MESSAGE_EVENT, "t", "\"1\"", "\"2\"", "",
	      "[1]");
	reads(V2, "[\"1\",\"2\",\"t\",\"seance:event\",{\"type\":\"inc\",\"payload\":{\"n\":2}}]",
	      MESSAGE_EVENT, "t", "\"1\"", "\"2\"", "inc", "{\"n\":2}");
	reads(V2, "[\"1\",\"2\",\"t\",\"seance:event\",{\"type\":\"inc\"}]", MESSAGE_EVENT, "t", "\"1\"",
	      "\"2\"", "inc", "null");
	reads(V2, "[\"1\",\"2\",\"t\",\"seance:event\",{\"type\":5}]", MESSAGE_UNKNOWN, "t", "\"1\"",
	      "\"2\"", NULL, "{\"type\":5}");
	reads(V2, "[\"1\",\"2\",\"t\",\"seance:event\",\"x\"]", MESSAGE_UNKNOWN, "t", "\"1\"", "\"2\"", NULL,
	      "\"x\"");
	reads(V2, "[\"1\",\"2\",\"t\",\"seance:refresh\",{}]", MESSAGE_REFRESH, "t", "\"1\"", "\"2\"", NULL,
	      "{}");
	reads(V2, "[\"1\",\"2\",\"t\",\"lvs_refresh\",{}]", MESSAGE_UNKNOWN, "t", "\"1\"", "\"2\"", NULL,
	      "{}");
	reads(V2, "[\"1\",\"2\",\"t\",\"whatever\",{}]", MESSAGE_UNKNOWN, "t", "\"1\"", "\"2\"", NULL, "{}");
	reads(V2, "[\"1\",\"1\",\"t\",5,{}]", MESSAGE_UNKNOWN, "t", "\"1\"", "\"1\"", NULL, "{}");
	reads(V2, "[\"1\",\"1\",\"t\",\"seance:event:a\\u0000b\",{}]", MESSAGE_UNKNOWN, "t", "\"1\"",
	      "\"1\"", NULL, "{}");
	reads(V2, "[\"1\",\"1\",\"t\",\"phx_join\",{},\"extra\"]", MESSAGE_JOIN, "t", "\"1\"", "\"1\"", NULL,
	      "{}");
	reads(V2, " [ \"1\" , \"1\" , \"t\" , \"phx_join\" , { } ] ", MESSAGE_JOIN, "t", "\"1\"", "\"1\"",
	      NULL, "{}");
	reads(LIVE, "[\"1\",\"2\",\"t\",\"lvs_evt:inc\",{}]", MESSAGE_EVENT, "t", "\"1\"", "\"2\"", "inc",
	      "{}");
	reads(LIVE, "[\"1\",\"2\",\"t\",\"lvs_refresh\",{}]", MESSAGE_REFRESH, "t", "\"1\"", "\"2\"", NULL,
	      "{}");
	reads(LIVE, "[\"1\",\"2\",\"t\",\"seance:event:inc\",{}]", MESSAGE_UNKNOWN, "t", "\"1\"", "\"2\"",
	      NULL, "{}");
	reads(LIVE, "[\"1\",\"2\",\"t\",\"seance:event\",{\"type\":\"a\"}]", MESSAGE_UNKNOWN, "t", "\"1\"",
	      "\"2\"", NULL, "{\"type\":\"a\"}");
	reads(V1, "{\"topic\":\"t\",\"event\":\"phx_join\",\"payload\":{\"a\":1},\"ref\":\"1\"}",
	      MESSAGE_JOIN, "t", "null", "\"1\"", NULL, "{\"a\":1}");
	reads(
		V1,
		"{\"topic\":\"t\",\"event\":\"seance:event:x\",\"payload\":{},\"ref\":\"2\",\"join_ref\":\"1\"}",
		MESSAGE_EVENT, "t", "\"1\"", "\"2\"", "x", "{}");
	reads(LIVE_V1, "{\"topic\":\"t\",\"event\":\"lvs_evt:x\",\"payload\":null,\"ref\":null}",
	      MESSAGE_EVENT, "t", "null", "null", "x", "null");
}

static void
test_refuse(void)
{
	static const char *const bad[] = {
		"hello",
		"",
		"{\"a\":1}",
		"[]",
		"[\"1\",\"1\",\"t\",\"phx_join\"]",
		"5",
		"null",
		"[1,2,3,4,5",
		"[\"1\",\"1\",\"t\",\"phx_join\",NaN]",
		"['1','1','t','phx_join',{}]",
		"[1,2,\"t\",\"e\",{}]x",
	};
	static const char *const bad_v1[] = {
		"[\"1\",\"1\",\"t\",\"phx_join\",{}]",
		"{}",
		"{\"topic\":\"t\",\"event\":\"e\",\"payload\":{}}",
		"x",
		"{\"topic\":\"t\",\"payload\":{},\"ref\":1}",
	};
	char deep[400];
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		refuses(V2, bad[i]);
		refuses(LIVE, bad[i]);
	}
	for (size_t i = 0; i < sizeof(bad_v1) / sizeof(bad_v1[0]); i++)
		refuses(V1, bad_v1[i]);
	refuses_bytes(V2, false, "[\"\xff\"]", 5, "not UTF-8");
	refuses_bytes(V2, false, "[1,2,\"t\",\"e\",{\"a\0b\":1}]", 23, "a byte 0 within");
	strcpy(deep, "[1,2,\"t\",\"phx_join\",");
	memset(deep + strlen(deep) + 70, 0, 1);
	memset(deep + 20, '[', 70);
	memset(deep + 90, ']', 71);
	deep[161] = 0;
	refuses(V2, deep);
}

static void
test_plain(void)
{
	replies(V2, "[null,\"5\",\"phoenix\",\"heartbeat\",{}]",
	        "[[null,\"5\",\"phoenix\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]]");
	replies(V2, "[\"1\",6,\"phoenix\",\"heartbeat\",{}]",
	        "[[null,6,\"phoenix\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]]");
	replies(
		V2, "[null,\"7\",\"phoenix\",\"other\",{}]",
		"[[null,\"7\",\"phoenix\",\"phx_reply\",{\"status\":\"error\",\"response\":{\"reason\":\"unmatched topic\"}}]]");
	replies(
		V2, "[null,\"7\",\"phoenix\",5,{}]",
		"[[null,\"7\",\"phoenix\",\"phx_reply\",{\"status\":\"error\",\"response\":{\"reason\":\"unmatched topic\"}}]]");
	replies(
		V2, "[\"1\",\"1\",5,\"phx_join\",{}]",
		"[[null,\"1\",5,\"phx_reply\",{\"status\":\"error\",\"response\":{\"reason\":\"unmatched topic\"}}]]");
	replies(
		V2, "[\"1\",\"1\",null,\"phx_join\",{}]",
		"[[null,\"1\",null,\"phx_reply\",{\"status\":\"error\",\"response\":{\"reason\":\"unmatched topic\"}}]]");
	replies(
		V2, "[\"1\",\"1\",\"a\\u0000b\",\"phx_join\",{}]",
		"[[null,\"1\",\"a\\u0000b\",\"phx_reply\",{\"status\":\"error\",\"response\":{\"reason\":\"unmatched topic\"}}]]");
	replies(
		V1, "{\"topic\":\"phoenix\",\"event\":\"heartbeat\",\"payload\":{},\"ref\":\"3\"}",
		"[{\"event\":\"phx_reply\",\"payload\":{\"response\":{},\"status\":\"ok\"},\"ref\":\"3\",\"topic\":\"phoenix\"}]");
	replies(
		V1, "{\"topic\":[1],\"event\":\"x\",\"payload\":{},\"ref\":\"3\"}",
		"[{\"event\":\"phx_reply\",\"payload\":{\"response\":{\"reason\":\"unmatched topic\"},\"status\":\"error\"},"
		"\"ref\":\"3\",\"topic\":[1]}]");
}

static void
test_binary(void)
{
	/* recorded: join_ref 1, ref 2, topic counter:a, event seance:event:inc, data {} */
	static const char push[] = "\0\1\1\x09\x10"
							   "12counter:aseance:event:inc{}";
	struct buffer reply = {0};
	struct message *m = parse(V2, true, push, sizeof(push) - 1, &reply);
	ok(m && m->kind == MESSAGE_EVENT && same(m->topic, "counter:a") && same(m->join_ref, "\"1\"") &&
	       same(m->ref, "\"2\"") && same(m->event, "inc") && same_json("{}", m->payload),
	   "a binary push");
	message_free(m);
	refuses_bytes(V2, true, "\xff\xfe\1\2", 4, "binary garbage");
	refuses_bytes(V2, true, "", 0, "an empty binary frame");
	for (size_t len = 0; len < sizeof(push) - 1; len++) {
		char *part = memory_alloc(len + 1); /* so that a sanitizer sees what is read behind it */
		char *exact = realloc(part, len ? len : 1);
		memcpy(exact, push, len);
		m = parse(V2, true, exact, len, &reply);
		if (m)
			ok(0, "a binary push cut at %zu", len);
		message_free(m);
		free(exact);
	}
	ok(1, "a binary push cut anywhere is refused");
	refuses_bytes(V1, true, push, sizeof(push) - 1, "a binary push on version 1");
	refuses_bytes(V2, true,
	              "\0\1\1\1\x0f"
	              "12\xffseance:event:in{}",
	              5 + 3 + 15 + 2, "a topic that is not UTF-8");
	refuses_bytes(V2, true,
	              "\0\1\1\1\x0f"
	              "12tseance:event:in\x01\x02",
	              5 + 3 + 15 + 2, "a payload that is not JSON");
	m = parse(V2, true,
	          "\0\1\1\3\x08"
	          "12a\0bphx_join{}",
	          5 + 5 + 8 + 2, &reply);
	ok(m && m->kind == MESSAGE_PLAIN && reply.len > 0, "U+0000 in a binary push's topic");
	message_free(m);
	buffer_release(&reply);
}

/* Any bytes: no crash, and either refused or understood. */
static void
test_garbage(void)
{
	struct buffer reply = {0};
	unsigned seed = 1;
	int understood = 0;
	for (int i = 0; i < 200000; i++) {
		char bytes[64];
		const char *start = i % 2 ? "[null,\"1\",\"t\",\"phx_join\",{}]"
		                          : "\0\1\1\1\1"
		                            "12te{}";
		size_t len = i % 2 ? 29 : 12;
		memcpy(bytes, start, len);
		for (int j = 0; j < 3; j++) {
			seed = seed * 1664525 + 1013904223;
			bytes[seed >> 8 & 31 % len] = (char)(seed >> 16);
		}
		struct message *m = parse((int)(seed >> 28 & 3), i % 2 == 0, bytes, len, &reply);
		understood += m != NULL;
		message_free(m);
	}
	ok(1, "200000 frames with wrong bytes, %d understood", understood);
	buffer_release(&reply);
}

/* --- frames out --- */

struct golden {
	const char *name;
	int format;
	bool own;
	struct store_record row;
	const char *frames;
};

#define OPS    "[{\"op\":\"replace\",\"path\":\"/n\",\"value\":1}]"
#define EVENTS "[[\"sender\",\"reply_event1\",{\"foo\":\"bar\"}],[\"all\",\"e\",null]]"

#define EVENT(...)                                                                                 \
	{                                                                                              \
		.kind = STORE_EVENT, .version = 3, .operations = OPS, .join_ref = "\"1\"", .ref = "\"9\"", \
		__VA_ARGS__                                                                                \
	}
#define EVENT_ROW EVENT(.socket = 0)
#define TOLD_ROW  EVENT(.events = EVENTS)

#define JOIN(...)                                                            \
	{                                                                        \
		.kind = STORE_JOIN, .join_ref = "\"3\"", .ref = "\"3\"", __VA_ARGS__ \
	}
#define STATE .state = "{\"n\":0}"

static const struct golden goldens[] = {
	{"the sender's patch", V2, true, EVENT_ROW,
     "[[\"1\",null,\"t:a\",\"seance:patch\",{\"operations\":" OPS ",\"version\":3}]]"},
	{"another's patch", V2, false, EVENT_ROW,
     "[[null,null,\"t:a\",\"seance:patch\",{\"operations\":" OPS ",\"version\":3}]]"},
	{"patch, version 1", V1, true, EVENT_ROW,
     "[{\"event\":\"seance:patch\",\"payload\":{\"operations\":" OPS
     ",\"version\":3},\"ref\":null,\"topic\":\"t:a\"}]"},
	{"patch, live_state", LIVE, true, EVENT_ROW,
     "[[\"1\",null,\"t:a\",\"state:patch\",{\"patch\":" OPS ",\"version\":3}]]"},
	{"patch, live_state, version 1", LIVE_V1, false, EVENT_ROW,
     "[{\"event\":\"state:patch\",\"payload\":{\"patch\":" OPS
     ",\"version\":3},\"ref\":null,\"topic\":\"t:a\"}]"},
	{"a patch without operations",
     V2,
     false,
     {.kind = STORE_EVENT, .version = 0},
     "[[null,null,\"t:a\",\"seance:patch\",{\"operations\":[],\"version\":0}]]"},
	{"events before the patch, both forms (the union of the two JS clients)", V2, true, TOLD_ROW,
     "[[\"1\",null,\"t:a\",\"seance:event\",{\"name\":\"reply_event1\",\"detail\":{\"foo\":\"bar\"},\"type\":\"reply_event1\",\"payload\":{\"foo\":\"bar\"}}],"
     "[\"1\",null,\"t:a\",\"seance:event\",{\"name\":\"e\",\"detail\":null,\"type\":\"e\",\"payload\":null}],"
     "[\"1\",null,\"t:a\",\"seance:patch\",{\"operations\":" OPS ",\"version\":3}]]"},
	{"others get what is pushed, not what is replied", V2, false, TOLD_ROW,
     "[[null,null,\"t:a\",\"seance:event\",{\"name\":\"e\",\"detail\":null,\"type\":\"e\",\"payload\":null}],"
     "[null,null,\"t:a\",\"seance:patch\",{\"operations\":" OPS ",\"version\":3}]]"},
	{"events, live_state: the event's own name", LIVE, true, TOLD_ROW,
     "[[\"1\",null,\"t:a\",\"reply_event1\",{\"foo\":\"bar\"}],[\"1\",null,\"t:a\",\"e\",null],"
     "[\"1\",null,\"t:a\",\"state:patch\",{\"patch\":" OPS ",\"version\":3}]]"},
	{"join ok", V2, true, JOIN(STATE),
     "[[\"3\",\"3\",\"t:a\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}],[\"3\",null,\"t:a\",\"seance:change\",{\"state\":{\"n\":0},\"version\":0}]]"},
	{"join ok, version 1", V1, true, JOIN(STATE),
     "[{\"event\":\"phx_reply\",\"payload\":{\"response\":{},\"status\":\"ok\"},\"ref\":\"3\",\"topic\":\"t:a\"},"
     "{\"event\":\"seance:change\",\"payload\":{\"state\":{\"n\":0},\"version\":0},\"ref\":null,\"topic\":\"t:a\"}]"},
	{"join ok, live_state", LIVE, true, JOIN(STATE),
     "[[\"3\",\"3\",\"t:a\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}],[\"3\",null,\"t:a\",\"state:change\",{\"state\":{\"n\":0},\"version\":0}]]"},
	{"join that replies from init", V2, true, JOIN(STATE, .events = "[[\"sender\",\"hi\",1]]"),
     "[[\"3\",\"3\",\"t:a\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}],[\"3\",null,\"t:a\",\"seance:event\",{\"name\":\"hi\",\"detail\":1,\"type\":\"hi\",\"payload\":1}],"
     "[\"3\",null,\"t:a\",\"seance:change\",{\"state\":{\"n\":0},\"version\":0}]]"},
	{"rejoin: the new reply, the old close, the state", V2, true,
     JOIN(STATE, .detail = "{\"close\":\"1\"}"),
     "[[\"3\",\"3\",\"t:a\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}],[\"1\",\"1\",\"t:a\",\"phx_close\",{}],"
     "[\"3\",null,\"t:a\",\"seance:change\",{\"state\":{\"n\":0},\"version\":0}]]"},
	{"rejoin on version 1: the close first",
     V1,
     true,
     {.kind = STORE_JOIN, .join_ref = "null", .ref = "\"3\"", STATE, .detail = "{\"close\":null}"},
     "[{\"event\":\"phx_close\",\"payload\":{},\"ref\":null,\"topic\":\"t:a\"},"
     "{\"event\":\"phx_reply\",\"payload\":{\"response\":{},\"status\":\"ok\"},\"ref\":\"3\",\"topic\":\"t:a\"},"
     "{\"event\":\"seance:change\",\"payload\":{\"state\":{\"n\":0},\"version\":0},\"ref\":null,\"topic\":\"t:a\"}]"},
	{"rejoin of a join whose join_ref is null", V2, true, JOIN(STATE, .detail = "{\"close\":null}"),
     "[[\"3\",\"3\",\"t:a\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}],[null,null,\"t:a\",\"phx_close\",{}],"
     "[\"3\",null,\"t:a\",\"seance:change\",{\"state\":{\"n\":0},\"version\":0}]]"},
	{"rejoin refused: the old join has ended", V2, true,
     JOIN(.detail = "{\"close\":\"1\",\"refused\":{\"reason\":\"no\"}}"),
     "[[\"3\",\"3\",\"t:a\",\"phx_reply\",{\"response\":{\"reason\":\"no\"},\"status\":\"error\"}],[\"1\",\"1\",\"t:a\",\"phx_close\",{}]]"},
	{"bad init", V2, true, JOIN(.detail = "{\"error\":{\"message\":\"you stink\"}}"),
     "[[\"3\",\"3\",\"t:a\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}],[\"3\",null,\"t:a\",\"seance:error\",{\"message\":\"you stink\"}]]"},
	{"bad init, live_state: with a type", LIVE, true,
     JOIN(.detail = "{\"error\":{\"message\":\"you stink\"}}"),
     "[[\"3\",\"3\",\"t:a\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}],[\"3\",null,\"t:a\",\"error\",{\"message\":\"you stink\",\"type\":\"error\"}]]"},
	{"init crashes", V2, true, JOIN(.detail = "{\"crash\":true}"),
     "[[\"3\",\"3\",\"t:a\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}],[\"3\",\"3\",\"t:a\",\"phx_error\",{}]]"},
	{"leave",
     V2,
     true,
     {.kind = STORE_LEAVE, .join_ref = "\"1\"", .ref = "\"2\""},
     "[[\"1\",\"2\",\"t:a\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}],[\"1\",\"1\",\"t:a\",\"phx_close\",{}]]"},
	{"leave, version 1",
     V1,
     true,
     {.kind = STORE_LEAVE, .join_ref = "null", .ref = "\"4\""},
     "[{\"event\":\"phx_reply\",\"payload\":{\"response\":{},\"status\":\"ok\"},\"ref\":\"4\",\"topic\":\"t:a\"},"
     "{\"event\":\"phx_close\",\"payload\":{},\"ref\":null,\"topic\":\"t:a\"}]"},
	{"refresh",
     V2,
     true,
     {.kind = STORE_REFRESH, .version = 7, .join_ref = "\"1\"", .ref = "\"2\"", .state = "[1]"},
     "[[\"1\",null,\"t:a\",\"seance:change\",{\"state\":[1],\"version\":7}]]"},
	{"crash",
     V2,
     true,
     {.kind = STORE_CRASH, .join_ref = "\"1\"", .ref = "\"2\""},
     "[[\"1\",\"1\",\"t:a\",\"phx_error\",{}]]"},
	{"crash, live_state",
     LIVE,
     true,
     {.kind = STORE_CRASH, .join_ref = "\"1\""},
     "[[\"1\",\"1\",\"t:a\",\"phx_error\",{}]]"},
};

static void
test_commits(void)
{
	struct buffer out = {0};
	for (size_t i = 0; i < sizeof(goldens) / sizeof(goldens[0]); i++) {
		struct record record = {.row = goldens[i].row, .topic = (char *)(uintptr_t) "t:a", .users = 1};
		const struct phoenix_client to = {.format = goldens[i].format, .own = goldens[i].own};
		int count = phoenix_commit(&out, &to, &record);
		wrote(&out, count, goldens[i].frames, goldens[i].name);
	}
	struct record carrier = {.row = {.kind = STORE_JOIN, .state = "{\"big\":1}"}, .users = 1};
	struct record record = {.row = {.kind = STORE_REFRESH, .version = 2, .join_ref = "\"1\""},
	                        .topic = (char *)(uintptr_t) "t",
	                        .state_of = &carrier,
	                        .users = 1};
	const struct phoenix_client own = {.format = V2, .own = true}, other = {.format = V2};
	int count = phoenix_commit(&out, &own, &record);
	wrote(&out, count, "[[\"1\",null,\"t\",\"seance:change\",{\"state\":{\"big\":1},\"version\":2}]]",
	      "a state that stands in another row");
	struct record odd = {.row = EVENT_ROW, .topic = (char *)(uintptr_t) "\xc3\xa9\"\\/\x01", .users = 1};
	count = phoenix_commit(&out, &other, &odd);
	wrote(&out, count,
	      "[[null,null,\"\xc3\xa9\\\"\\\\/\\u0001\",\"seance:patch\",{\"operations\":" OPS
	      ",\"version\":3}]]",
	      "a topic that must be escaped");
	buffer_release(&out);
}

static void
outcome(enum message_outcome outcome, int format, const char *reason, const char *wanted,
        const char *name)
{
	struct buffer out = {0};
	struct message m = {.outcome = outcome,
	                    .topic = (char *)(uintptr_t) "t",
	                    .ref = (char *)(uintptr_t) "\"2\"",
	                    .join_ref = (char *)(uintptr_t) "\"1\"",
	                    .reason = json_read(reason)};
	phoenix_outcome(&out, format, &m);
	wrote(&out, -1, wanted, name);
	json_object_put(m.reason);
	buffer_release(&out);
}

static void
test_outcomes(void)
{
	struct buffer out = {0};
	outcome(
		OUTCOME_REFUSED, V2, "{\"reason\":\"nope\"}",
		"[[\"1\",\"2\",\"t\",\"phx_reply\",{\"response\":{\"reason\":\"nope\"},\"status\":\"error\"}]]",
		"refused");
	outcome(OUTCOME_REFUSED, V2, "\"Go away!\"",
	        "[[\"1\",\"2\",\"t\",\"phx_reply\",{\"response\":\"Go away!\",\"status\":\"error\"}]]",
	        "refused with a plain string, as the reference");
	outcome(
		OUTCOME_UNMATCHED, V2, NULL,
		"[[null,\"2\",\"t\",\"phx_reply\",{\"response\":{\"reason\":\"unmatched topic\"},\"status\":\"error\"}]]",
		"unmatched topic");
	outcome(
		OUTCOME_UNKNOWN, V2, NULL,
		"[[\"1\",\"2\",\"t\",\"phx_reply\",{\"response\":{\"reason\":\"unmatched event\"},\"status\":\"error\"}]]",
		"unmatched event (the reference crashes)");
	outcome(OUTCOME_LEFT, V2, NULL,
	        "[[\"1\",\"2\",\"t\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}]]",
	        "leave of what was not joined");
	outcome(
		OUTCOME_LEFT, V1, NULL,
		"[{\"event\":\"phx_reply\",\"payload\":{\"response\":{},\"status\":\"ok\"},\"ref\":\"2\",\"topic\":\"t\"}]",
		"the same on version 1");
	outcome(OUTCOME_NOTHING, V2, NULL, "[]", "nothing");
	outcome(OUTCOME_COMMITTED, V2, NULL, "[]", "what is committed is told by its commit");
	phoenix_close(&out, 1011, "no");
	ok(out.len == 15 && memcmp(out.at, "CLOSE 4\r\n\x03\xf3no\r\n", 15) == 0, "a close event");
	buffer_release(&out);
}

int
main(void)
{
	test_read();
	test_refuse();
	test_plain();
	test_binary();
	test_garbage();
	test_commits();
	test_outcomes();
	return done();
}
