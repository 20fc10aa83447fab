#include "phoenix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "json.h"
#include "memory.h"
#include "resume.h"
#include "since.h"
#include "websocket_events.h"

/* --- names --- */

struct vocabulary {
	const char *event_prefix; /* of an event from the client */
	const char *event;        /* the form with {type, payload}; NULL: there is none */
	const char *refresh;
	const char *change;
	const char *patch;
	const char *operations; /* member of a patch */
	const char *error;
};

static const struct vocabulary seance = {
	.event_prefix = "seance:event:",
	.event = "seance:event",
	.refresh = "seance:refresh",
	.change = "seance:change",
	.patch = "seance:patch",
	.operations = "operations",
	.error = "seance:error",
};

static const struct vocabulary live_state = {
	.event_prefix = "lvs_evt:",
	.refresh = "lvs_refresh",
	.change = "state:change",
	.patch = "state:patch",
	.operations = "patch",
	.error = "error",
};

static const struct vocabulary *
vocabulary_of(int format)
{
	return format & PHOENIX_LIVE_STATE ? &live_state : &seance;
}

/* --- frames out --- */

struct frame {
	struct buffer *out;
	size_t start; /* of its head */
	int format;
	const char *ref;
	const char *topic;
	bool topic_is_json; /* else plain text */
};

static void
add_string(struct buffer *out, const char *text)
{
	buffer_add_json_string(out, text, strlen(text));
}

static void
add_topic(const struct frame *frame)
{
	if (frame->topic_is_json)
		buffer_add_text(frame->out, frame->topic);
	else
		add_string(frame->out, frame->topic);
}

/* Everything before the payload.  event is plain text, the references are JSON. */
static void
frame_open(struct frame *frame, const char *join_ref, const char *event)
{
	struct buffer *out = frame->out;
	frame->start = out->len;
	buffer_add(out, "TEXT 00000000\r\n", PHOENIX_HEAD);
	if (frame->format & PHOENIX_V1) {
		buffer_add_text(out, "{\"event\":");
		add_string(out, event);
		buffer_add_text(out, ",\"payload\":");
		return;
	}
	buffer_add_char(out, '[');
	buffer_add_text(out, join_ref);
	buffer_add_char(out, ',');
	buffer_add_text(out, frame->ref);
	buffer_add_char(out, ',');
	add_topic(frame);
	buffer_add_char(out, ',');
	add_string(out, event);
	buffer_add_char(out, ',');
}

static struct frame
frame_begin(struct buffer *out, int format, const char *join_ref, const char *ref, const char *topic,
            const char *event)
{
	struct frame frame = {.out = out, .format = format, .ref = ref, .topic = topic};
	frame_open(&frame, join_ref, event);
	return frame;
}

static void
frame_end(const struct frame *frame)
{
	struct buffer *out = frame->out;
	char digits[9];
	if (frame->format & PHOENIX_V1) {
		buffer_add_text(out, ",\"ref\":");
		buffer_add_text(out, frame->ref);
		buffer_add_text(out, ",\"topic\":");
		add_topic(frame);
		buffer_add_char(out, '}');
	} else {
		buffer_add_char(out, ']');
	}
	unsigned len = (unsigned)(out->len - frame->start - PHOENIX_HEAD);
	snprintf(digits, sizeof(digits), "%08x", len);
	memcpy(out->at + frame->start + 5, digits, 8);
	buffer_add(out, "\r\n", PHOENIX_TAIL);
}

static void
add_value(struct buffer *out, json_object *value)
{
	size_t len;
	const char *text = json_text(value, &len);
	buffer_add(out, text, len);
}

static void
frame_reply(struct buffer *out, int format, const char *join_ref, const char *ref, const char *topic,
            const char *status, json_object *response)
{
	struct frame frame = frame_begin(out, format, join_ref, ref, topic, "phx_reply");
	buffer_add_text(out, "{\"status\":\"");
	buffer_add_text(out, status);
	buffer_add_text(out, "\",\"response\":");
	if (response)
		add_value(out, response);
	else
		buffer_add_text(out, "{}");
	buffer_add_char(out, '}');
	frame_end(&frame);
}

static void
frame_empty(struct buffer *out, int format, const char *join_ref, const char *ref, const char *topic,
            const char *event)
{
	struct frame frame = frame_begin(out, format, join_ref, ref, topic, event);
	buffer_add_text(out, "{}");
	frame_end(&frame);
}

static void
frame_reason(struct buffer *out, int format, const char *join_ref, const struct message *message,
             const char *reason)
{
	json_object *response = json_object_new_object();
	json_object_object_add(response, "reason", json_object_new_string(reason));
	frame_reply(out, format, join_ref, message->ref, message->topic, "error", response);
	json_object_put(response);
}

void
phoenix_close(struct buffer *out, int code, const char *reason)
{
	size_t len = strlen(reason);
	buffer_reserve(out, EVENTS_HEAD_MAX);
	out->len += events_head((uint8_t *)out->at + out->len, EVENTS_CLOSE, len + 2);
	buffer_add_char(out, (char)(code >> 8));
	buffer_add_char(out, (char)code);
	buffer_add(out, reason, len);
	buffer_add(out, "\r\n", 2);
}

/* --- a commit's frames --- */

/* A row that one client is told. */
struct telling {
	struct buffer *out;
	const struct phoenix_client *to;
	const struct record *record;
	const char *join_ref;
	int count; /* of frames */
};

static struct frame
open_frame(struct telling *telling, const char *event)
{
	telling->count++;
	return frame_begin(telling->out, telling->to->format, telling->join_ref, "null",
	                   telling->record->topic, event);
}

static void
reply(struct telling *telling, const char *status, json_object *response)
{
	telling->count++;
	frame_reply(telling->out, telling->to->format, telling->join_ref, telling->record->row.ref,
	            telling->record->topic, status, response);
}

static bool
is_presence(const struct record *record)
{
	return record->row.kind == STORE_PRESENCE || record->row.kind == STORE_PRESENCE_STATE;
}

static void
add_event(struct telling *telling, json_object *entry)
{
	const char *name = json_object_get_string(json_object_array_get_idx(entry, 1));
	json_object *detail = json_object_array_get_idx(entry, 2);
	struct buffer *out = telling->out;
	bool plain = is_presence(telling->record) || telling->to->format & PHOENIX_LIVE_STATE;
	struct frame frame = open_frame(telling, plain ? name : seance.event);
	if (plain) {
		add_value(out, detail);
	} else { /* what both JS clients read */
		buffer_add_text(out, "{\"name\":");
		add_string(out, name);
		buffer_add_text(out, ",\"detail\":");
		add_value(out, detail);
		buffer_add_text(out, ",\"type\":");
		add_string(out, name);
		buffer_add_text(out, ",\"payload\":");
		add_value(out, detail);
		buffer_add_char(out, '}');
	}
	frame_end(&frame);
}

/* events: borrowed; NULL: none. */
static void
add_events(struct telling *telling, json_object *events, bool own)
{
	size_t len = events ? json_object_array_length(events) : 0;
	for (size_t i = 0; i < len; i++) {
		json_object *entry = json_object_array_get_idx(events, i);
		if (call_tells(entry, own))
			add_event(telling, entry);
	}
}

static void
add_events_of_row(struct telling *telling, bool own)
{
	json_object *events = json_read(telling->record->row.events);
	add_events(telling, events, own);
	json_object_put(events);
}

/* "version", and where to come back to, if the client wants to know; behind another member. */
static void
add_place(struct telling *telling, int64_t version, int64_t revision)
{
	struct buffer *out = telling->out;
	buffer_add_text(out, ",\"version\":");
	buffer_add_number(out, version);
	char *resume = resume_text(telling->to, telling->record, revision);
	if (resume) {
		buffer_add_text(out, ",\"resume\":");
		add_string(out, resume);
	}
	free(resume);
	buffer_add_char(out, '}');
}

static void
add_patch(struct telling *telling, const char *operations, int64_t version, int64_t revision)
{
	const struct vocabulary *words = vocabulary_of(telling->to->format);
	struct frame frame = open_frame(telling, words->patch);
	buffer_add_text(telling->out, "{\"");
	buffer_add_text(telling->out, words->operations);
	buffer_add_text(telling->out, "\":");
	buffer_add_text(telling->out, operations);
	add_place(telling, version, revision);
	frame_end(&frame);
}

/* The author's own message in place of a state or a patch. */
static void
add_built(struct telling *telling, const char *text)
{
	json_object *built = json_read(text);
	struct frame frame =
		open_frame(telling, json_object_get_string(json_object_object_get(built, "event")));
	add_value(telling->out, json_object_object_get(built, "payload"));
	frame_end(&frame);
	json_object_put(built);
}

static void
add_state(struct telling *telling)
{
	const struct store_record *row = &telling->record->row, *shown = record_shown(telling->record);
	if (shown->built) {
		add_built(telling, shown->built);
		return;
	}
	struct frame frame = open_frame(telling, vocabulary_of(telling->to->format)->change);
	buffer_add_text(telling->out, "{\"state\":");
	buffer_add_text(telling->out, shown->state ? shown->state : "null");
	add_place(telling, row->version, row->revision);
	frame_end(&frame);
}

static void
add_change(struct telling *telling)
{
	const struct store_record *row = &telling->record->row;
	if (row->built || row->state)
		add_state(telling);
	else
		add_patch(telling, since_told(row), row->version, row->revision);
}

/* A client may have asked to be answered when its event has succeeded. */
static void
add_success(struct telling *telling)
{
	if (telling->to->own && telling->to->wants & JOIN_REPLIES && telling->record->row.ref)
		reply(telling, "ok", NULL);
}

static void
add_error(struct telling *telling, json_object *error)
{
	int format = telling->to->format;
	struct frame frame = open_frame(telling, vocabulary_of(format)->error);
	if (format & PHOENIX_LIVE_STATE && !json_object_object_get(error, "type"))
		json_object_object_add(error, "type", json_object_new_string("error"));
	add_value(telling->out, error);
	frame_end(&frame);
}

static void
add_ending(struct telling *telling, const char *join_ref, const char *event)
{
	telling->count++;
	frame_empty(telling->out, telling->to->format, join_ref, join_ref, telling->record->topic, event);
}

/* What the join's row says besides: see join_detail in channel/stage.c. */
struct join_detail {
	json_object *all;  /* owned */
	const char *close; /* join_ref of the join that was replaced; NULL: none */
	json_object *refused, *error, *missed;
	bool is_refused, is_error, is_crash, is_missed;
};

static struct join_detail
detail_of(const struct record *record)
{
	struct join_detail detail = {.all = json_read(record->row.detail)};
	json_object *close = NULL;
	if (!detail.all)
		return detail;
	if (json_object_object_get_ex(detail.all, "close", &close))
		detail.close = json_text(close, NULL);
	detail.is_refused = json_object_object_get_ex(detail.all, "refused", &detail.refused);
	detail.is_error = json_object_object_get_ex(detail.all, "error", &detail.error);
	detail.is_crash = json_object_object_get_ex(detail.all, "crash", NULL);
	detail.is_missed = json_object_object_get_ex(detail.all, "missed", &detail.missed);
	return detail;
}

/* {"resume": ...}, where the client wants to know; owned by the caller. */
static json_object *
join_response(const struct telling *telling)
{
	char *text = resume_text(telling->to, telling->record, telling->record->row.revision);
	json_object *response = text ? json_object_new_object() : NULL;
	if (text)
		json_object_object_add(response, "resume", json_object_new_string(text));
	free(text);
	return response;
}

static void
add_join_reply(struct telling *telling, const struct join_detail *detail)
{
	if (detail->is_refused) {
		reply(telling, "error", detail->refused);
		return;
	}
	bool joined = !detail->is_error && !detail->is_crash;
	json_object *response = joined ? join_response(telling) : NULL;
	reply(telling, "ok", response);
	json_object_put(response);
}

/* What a client that came back has missed. */
static void
add_missed(struct telling *telling, json_object *missed)
{
	size_t len = json_object_array_length(missed);
	for (size_t i = 0; i < len; i++) {
		json_object *row = json_object_array_get_idx(missed, i);
		add_events(telling, json_object_object_get(row, "events"), false);
		add_patch(telling, json_text(json_object_object_get(row, "operations"), NULL),
		          json_object_get_int64(json_object_object_get(row, "version")),
		          json_object_get_int64(json_object_object_get(row, "revision")));
	}
}

static void
add_joined(struct telling *telling, const struct join_detail *detail)
{
	if (detail->is_error) {
		add_error(telling, detail->error);
	} else if (detail->is_crash) {
		add_ending(telling, telling->join_ref, "phx_error");
	} else if (!detail->is_refused) {
		add_events_of_row(telling, true);
		if (detail->is_missed)
			add_missed(telling, detail->missed);
		else
			add_state(telling);
	}
}

/* On version 1, which has no join_ref, the close comes first: else it would close the new join. */
static void
add_join(struct telling *telling)
{
	struct join_detail detail = detail_of(telling->record);
	bool close_first = telling->to->format & PHOENIX_V1;
	if (detail.close && close_first)
		add_ending(telling, detail.close, "phx_close");
	add_join_reply(telling, &detail);
	if (detail.close && !close_first)
		add_ending(telling, detail.close, "phx_close");
	add_joined(telling, &detail);
	json_object_put(detail.all);
}

/* Frames as they were to be sent: an array of texts. */
static void
add_frames(struct telling *telling)
{
	json_object *frames = json_read(telling->record->row.detail);
	size_t count = frames ? json_object_array_length(frames) : 0;
	struct buffer *out = telling->out;
	for (size_t i = 0; i < count; i++) {
		json_object *frame = json_object_array_get_idx(frames, i);
		size_t len = (size_t)json_object_get_string_len(frame);
		buffer_reserve(out, EVENTS_HEAD_MAX);
		out->len += events_head((uint8_t *)out->at + out->len, EVENTS_TEXT, len);
		buffer_add(out, json_object_get_string(frame), len);
		buffer_add(out, "\r\n", PHOENIX_TAIL);
		telling->count++;
	}
	json_object_put(frames);
}

static struct telling
telling_begin(struct buffer *out, const struct phoenix_client *to, const struct record *record)
{
	const char *join_ref = to->own ? record->row.join_ref : NULL;
	return (struct telling){out, to, record, join_ref ? join_ref : "null", 0};
}

int
phoenix_commit(struct buffer *out, const struct phoenix_client *to, const struct record *record)
{
	struct telling telling = telling_begin(out, to, record);
	switch (record->row.kind) {
	case STORE_EVENT:
		add_events_of_row(&telling, to->own);
		add_change(&telling);
		add_success(&telling);
		break;
	case STORE_JOIN:
		add_join(&telling);
		break;
	case STORE_LEAVE:
		reply(&telling, "ok", NULL);
		add_ending(&telling, telling.join_ref, "phx_close");
		break;
	case STORE_REFRESH:
		add_state(&telling);
		break;
	case STORE_CRASH:
		add_ending(&telling, telling.join_ref, "phx_error");
		break;
	case STORE_PRESENCE:
	case STORE_PRESENCE_STATE:
		add_events_of_row(&telling, to->own);
		break;
	case STORE_ANSWER:
		add_frames(&telling);
		break;
	}
	return telling.count;
}

/* The events, then the states, then what says that its own events have succeeded. */
void
phoenix_catch_up(struct buffer *out, const struct token_key *key, const struct catch_up *catch_up)
{
	const struct store_socket *socket = &catch_up->socket->row;
	struct phoenix_client to = {.format = (int)socket->format, .key = key};
	for (size_t i = 0; i < catch_up->events.count; i++) {
		const struct record *record = catch_up->events.at[i].record;
		to.own = record->row.socket == socket->id;
		struct telling telling = telling_begin(out, &to, record);
		add_events_of_row(&telling, to.own);
	}
	to.own = false;
	for (size_t i = 0; i < catch_up->states.count; i++) {
		to.wants = catch_up->states.at[i].wants;
		phoenix_commit(out, &to, catch_up->states.at[i].record);
	}
	to.own = true;
	for (size_t i = 0; i < catch_up->events.count; i++) {
		const struct told *told = &catch_up->events.at[i];
		to.wants = told->record->row.socket == socket->id ? told->wants : 0;
		struct telling telling = telling_begin(out, &to, told->record);
		add_success(&telling);
	}
}

/* --- answers without a commit --- */

void
phoenix_outcome(struct buffer *out, int format, const struct message *message)
{
	const char *join_ref = message->join_ref;
	switch (message->outcome) {
	case OUTCOME_REFUSED:
		frame_reply(out, format, join_ref, message->ref, message->topic, "error", message->reason);
		break;
	case OUTCOME_UNMATCHED:
		frame_reason(out, format, "null", message, "unmatched topic");
		break;
	case OUTCOME_UNKNOWN:
		frame_reason(out, format, join_ref, message, "unmatched event");
		break;
	case OUTCOME_LEFT:
		frame_reply(out, format, join_ref, message->ref, message->topic, "ok", NULL);
		break;
	case OUTCOME_REPEATED:
		if (message->wants & JOIN_REPLIES)
			frame_reply(out, format, join_ref, message->ref, message->topic, "ok", NULL);
		break;
	case OUTCOME_MISUSED:
		frame_reason(out, format, join_ref, message, "the key was another event's");
		break;
	case OUTCOME_FAILED:
		frame_reason(out, format, join_ref, message, "the server could not store it");
		break;
	case OUTCOME_GONE:
		phoenix_close(out, 1013, "the socket has ended");
		break;
	case OUTCOME_NONE:
	case OUTCOME_COMMITTED:
	case OUTCOME_NOTHING:
	case OUTCOME_CRASHED:
	case OUTCOME_DENIED:
	case OUTCOME_FORBIDDEN:
	case OUTCOME_CHANGED:
		break;
	}
}

/* --- frames in --- */

/* The parts of a frame; borrowed from whole but for the payload, which the caller takes. */
struct parts {
	json_object *whole; /* owned */
	json_object *join_ref, *ref, *topic, *event, *payload;
};

static bool
split_array(struct parts *parts)
{
	if (!json_object_is_type(parts->whole, json_type_array) ||
	    json_object_array_length(parts->whole) < 5)
		return false;
	parts->join_ref = json_object_array_get_idx(parts->whole, 0);
	parts->ref = json_object_array_get_idx(parts->whole, 1);
	parts->topic = json_object_array_get_idx(parts->whole, 2);
	parts->event = json_object_array_get_idx(parts->whole, 3);
	parts->payload = json_object_array_get_idx(parts->whole, 4);
	return true;
}

static bool
split_object(struct parts *parts)
{
	if (!json_object_is_type(parts->whole, json_type_object))
		return false;
	json_object_object_get_ex(parts->whole, "join_ref", &parts->join_ref);
	return json_object_object_get_ex(parts->whole, "ref", &parts->ref) &&
	       json_object_object_get_ex(parts->whole, "topic", &parts->topic) &&
	       json_object_object_get_ex(parts->whole, "event", &parts->event) &&
	       json_object_object_get_ex(parts->whole, "payload", &parts->payload);
}

static bool
parse_text(int format, const char *bytes, size_t len, struct parts *parts, const char **why)
{
	struct json_error error;
	if (!json_parse(bytes, len, &parts->whole, &error)) {
		*why = error.message;
		return false;
	}
	*why = "not a frame";
	return format & PHOENIX_V1 ? split_object(parts) : split_array(parts);
}

static json_object *
binary_string(const unsigned char **at, size_t len)
{
	json_object *string = json_object_new_string_len((const char *)*at, (int)len);
	*at += len;
	return string;
}

/* Four strings, one behind the other: is each of them UTF-8, not only all together? */
static bool
are_utf8(const char *at, const unsigned char *sizes)
{
	for (int i = 0; i < 4; i++) {
		if (!json_is_utf8(at, sizes[i]))
			return false;
		at += sizes[i];
	}
	return true;
}

/* 0, four lengths, join_ref, ref, topic, event, payload (phoenix.js, serializer.js). */
static bool
parse_binary(int format, const char *bytes, size_t len, struct parts *parts, const char **why)
{
	const unsigned char *at = (const unsigned char *)bytes;
	json_object *payload = NULL;
	*why = "not a binary push";
	if (format & PHOENIX_V1 || len < 5 || at[0] != 0)
		return false;
	const unsigned char *sizes = at + 1;
	size_t head = 5 + (size_t)sizes[0] + sizes[1] + sizes[2] + sizes[3];
	if (head > len || !are_utf8(bytes + 5, sizes) ||
	    !json_parse(bytes + head, len - head, &payload, NULL))
		return false;
	parts->whole = json_object_new_array_ext(5);
	at += 5;
	for (int i = 0; i < 4; i++)
		json_object_array_add(parts->whole, binary_string(&at, sizes[i]));
	json_object_array_add(parts->whole, payload);
	return split_array(parts);
}

/* A string as plain text, borrowed; NULL for other values, and for U+0000 in it, which no name has. */
static const char *
plain_text(json_object *value)
{
	if (!json_object_is_type(value, json_type_string))
		return NULL;
	const char *text = json_object_get_string(value);
	return strlen(text) == (size_t)json_object_get_string_len(value) ? text : NULL;
}

static bool
is_text(const char *text, const char *other)
{
	return other && strcmp(text, other) == 0;
}

static bool
has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* false: it has one, but such as nothing can be kept under. */
static bool
read_key(struct message *message)
{
	json_object *key = json_object_object_get(message->payload, "key");
	const char *text = plain_text(key);
	if (!key)
		return true;
	if (!text || !*text || strlen(text) > VISIT_KEY_MAX)
		return false;
	message->key = memory_strdup(text);
	return true;
}

/* seance:event with {"type", "payload"}: the newer JS client's way; "key": the same is done once */
static void
read_typed_event(int format, struct message *message, struct buffer *reply)
{
	json_object *type = NULL, *payload = NULL;
	message->kind = MESSAGE_UNKNOWN;
	if (!json_object_is_type(message->payload, json_type_object))
		return;
	json_object_object_get_ex(message->payload, "type", &type);
	json_object_object_get_ex(message->payload, "payload", &payload);
	if (!plain_text(type))
		return;
	if (!read_key(message)) {
		message->kind = MESSAGE_PLAIN;
		frame_reason(reply, format, message->join_ref, message,
		             "the key is empty, too long, or no text");
		return;
	}
	message->kind = MESSAGE_EVENT;
	message->event = memory_strdup(plain_text(type));
	json_object_get(payload);
	json_object_put(message->payload);
	message->payload = payload;
}

static void
read_event(int format, struct message *message, const char *event, struct buffer *reply)
{
	const struct vocabulary *words = vocabulary_of(format);
	message->kind = MESSAGE_UNKNOWN;
	if (is_text(event, "phx_join")) {
		message->kind = MESSAGE_JOIN;
		resume_ask(message);
	} else if (is_text(event, "phx_leave"))
		message->kind = MESSAGE_LEAVE;
	else if (is_text(event, words->refresh))
		message->kind = MESSAGE_REFRESH;
	else if (is_text(event, words->event))
		read_typed_event(format, message, reply);
	else if (has_prefix(event, words->event_prefix)) {
		message->kind = MESSAGE_EVENT;
		message->event = memory_strdup(event + strlen(words->event_prefix));
	}
}

/* A topic that is no string is nobody's: it is echoed as it came. */
static void
reply_to_odd_topic(struct buffer *reply, int format, const struct message *message, json_object *topic)
{
	struct frame frame = {
		.out = reply,
		.format = format,
		.ref = message->ref,
		.topic = json_text(topic, NULL),
		.topic_is_json = true,
	};
	frame_open(&frame, "null", "phx_reply");
	buffer_add_text(reply, "{\"status\":\"error\",\"response\":{\"reason\":\"unmatched topic\"}}");
	frame_end(&frame);
}

static void
read_phoenix(int format, struct message *message, const char *event, struct buffer *reply)
{
	message->kind = MESSAGE_PLAIN;
	if (is_text("heartbeat", event))
		frame_reply(reply, format, "null", message->ref, message->topic, "ok", NULL);
	else
		frame_reason(reply, format, "null", message, "unmatched topic");
}

static void
read_parts(int format, struct parts *parts, struct message *message, struct buffer *reply)
{
	const char *event = plain_text(parts->event);
	const char *topic = plain_text(parts->topic);
	message->ref = memory_strdup(json_text(parts->ref, NULL));
	message->join_ref = memory_strdup(json_text(parts->join_ref, NULL));
	message->payload = json_object_get(parts->payload);
	message->kind = MESSAGE_PLAIN;
	if (!topic) {
		reply_to_odd_topic(reply, format, message, parts->topic);
		return;
	}
	message->topic = memory_strdup(topic);
	if (is_text("phoenix", message->topic))
		read_phoenix(format, message, event, reply);
	else
		read_event(format, message, event ? event : "", reply);
}

bool
phoenix_parse(int format, bool binary, const char *bytes, size_t len, struct message *message,
              struct buffer *reply, const char **why)
{
	struct parts parts = {0};
	bool done = binary ? parse_binary(format, bytes, len, &parts, why)
	                   : parse_text(format, bytes, len, &parts, why);
	if (done)
		read_parts(format, &parts, message, reply);
	json_object_put(parts.whole);
	return done;
}
