#include "phoenix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "json.h"
#include "memory.h"
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

static int
add_event(struct buffer *out, int format, const struct record *record, const char *join_ref,
          json_object *entry)
{
	const char *name = json_object_get_string(json_object_array_get_idx(entry, 1));
	json_object *detail = json_object_array_get_idx(entry, 2);
	bool presence = record->row.kind == STORE_PRESENCE || record->row.kind == STORE_PRESENCE_STATE;
	bool plain = presence || format & PHOENIX_LIVE_STATE;
	struct frame frame =
		frame_begin(out, format, join_ref, "null", record->topic, plain ? name : seance.event);
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
	return 1;
}

static bool
is_for(const char *to, bool own)
{
	return strcmp(to, CALL_TO_ALL) == 0 || strcmp(to, own ? CALL_TO_SENDER : CALL_TO_OTHERS) == 0;
}

static int
add_events(struct buffer *out, int format, const struct record *record, const char *join_ref, bool own)
{
	json_object *events = json_read(record->row.events);
	int count = 0;
	size_t len = events ? json_object_array_length(events) : 0;
	for (size_t i = 0; i < len; i++) {
		json_object *entry = json_object_array_get_idx(events, i);
		const char *to = json_object_get_string(json_object_array_get_idx(entry, 0));
		if (is_for(to, own))
			count += add_event(out, format, record, join_ref, entry);
	}
	json_object_put(events);
	return count;
}

static int
add_patch(struct buffer *out, int format, const struct record *record, const char *join_ref)
{
	const struct vocabulary *words = vocabulary_of(format);
	struct frame frame = frame_begin(out, format, join_ref, "null", record->topic, words->patch);
	buffer_add_text(out, "{\"");
	buffer_add_text(out, words->operations);
	buffer_add_text(out, "\":");
	buffer_add_text(out, record->row.told         ? record->row.told
	                     : record->row.operations ? record->row.operations
	                                              : "[]");
	buffer_add_text(out, ",\"version\":");
	buffer_add_number(out, record->row.version);
	buffer_add_char(out, '}');
	frame_end(&frame);
	return 1;
}

/* The author's own message in place of a state or a patch. */
static int
add_built(struct buffer *out, int format, const struct record *record, const char *join_ref,
          const char *text)
{
	json_object *built = json_read(text);
	const char *event = json_object_get_string(json_object_object_get(built, "event"));
	struct frame frame = frame_begin(out, format, join_ref, "null", record->topic, event);
	add_value(out, json_object_object_get(built, "payload"));
	frame_end(&frame);
	json_object_put(built);
	return 1;
}

static int
add_state(struct buffer *out, int format, const struct record *record, const char *join_ref)
{
	const struct store_record *shown = record_shown(record);
	const char *state = shown->state;
	if (shown->built)
		return add_built(out, format, record, join_ref, shown->built);
	struct frame frame =
		frame_begin(out, format, join_ref, "null", record->topic, vocabulary_of(format)->change);
	buffer_add_text(out, "{\"state\":");
	buffer_add_text(out, state ? state : "null");
	buffer_add_text(out, ",\"version\":");
	buffer_add_number(out, record->row.version);
	buffer_add_char(out, '}');
	frame_end(&frame);
	return 1;
}

static int
add_change(struct buffer *out, int format, const struct record *record, const char *join_ref)
{
	if (record->row.built || record->row.state)
		return add_state(out, format, record, join_ref);
	return add_patch(out, format, record, join_ref);
}

static int
add_error(struct buffer *out, int format, const struct record *record, const char *join_ref,
          json_object *error)
{
	struct frame frame =
		frame_begin(out, format, join_ref, "null", record->topic, vocabulary_of(format)->error);
	if (format & PHOENIX_LIVE_STATE && !json_object_object_get(error, "type"))
		json_object_object_add(error, "type", json_object_new_string("error"));
	add_value(out, error);
	frame_end(&frame);
	return 1;
}

static int
add_ending(struct buffer *out, int format, const struct record *record, const char *join_ref,
           const char *event)
{
	frame_empty(out, format, join_ref, join_ref, record->topic, event);
	return 1;
}

/* What the join's row says besides: see join_detail in channel/message.c. */
struct join_detail {
	json_object *all;  /* owned */
	const char *close; /* join_ref of the join that was replaced; NULL: none */
	json_object *refused, *error;
	bool is_refused, is_error, is_crash;
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
	return detail;
}

static int
add_join_reply(struct buffer *out, int format, const struct record *record, const char *join_ref,
               const struct join_detail *detail)
{
	frame_reply(out, format, join_ref, record->row.ref, record->topic,
	            detail->is_refused ? "error" : "ok", detail->refused);
	return 1;
}

/* On version 1, which has no join_ref, the close comes first: else it would close the new join. */
static int
add_join(struct buffer *out, int format, const struct record *record, const char *join_ref)
{
	struct join_detail detail = detail_of(record);
	bool close_first = format & PHOENIX_V1;
	int count = 0;
	if (detail.close && close_first)
		count += add_ending(out, format, record, detail.close, "phx_close");
	count += add_join_reply(out, format, record, join_ref, &detail);
	if (detail.close && !close_first)
		count += add_ending(out, format, record, detail.close, "phx_close");
	if (detail.is_error)
		count += add_error(out, format, record, join_ref, detail.error);
	else if (detail.is_crash)
		count += add_ending(out, format, record, join_ref, "phx_error");
	else if (!detail.is_refused)
		count +=
			add_events(out, format, record, join_ref, true) + add_state(out, format, record, join_ref);
	json_object_put(detail.all);
	return count;
}

static int
add_leave(struct buffer *out, int format, const struct record *record, const char *join_ref)
{
	frame_reply(out, format, join_ref, record->row.ref, record->topic, "ok", NULL);
	return 1 + add_ending(out, format, record, join_ref, "phx_close");
}

/* Frames as they were to be sent: an array of texts. */
static int
add_frames(struct buffer *out, const struct record *record)
{
	json_object *frames = json_read(record->row.detail);
	size_t count = frames ? json_object_array_length(frames) : 0;
	for (size_t i = 0; i < count; i++) {
		json_object *frame = json_object_array_get_idx(frames, i);
		size_t len = (size_t)json_object_get_string_len(frame);
		buffer_reserve(out, EVENTS_HEAD_MAX);
		out->len += events_head((uint8_t *)out->at + out->len, EVENTS_TEXT, len);
		buffer_add(out, json_object_get_string(frame), len);
		buffer_add(out, "\r\n", PHOENIX_TAIL);
	}
	json_object_put(frames);
	return (int)count;
}

static const char *
join_ref_for(const struct record *record, bool own)
{
	return own && record->row.join_ref ? record->row.join_ref : "null";
}

int
phoenix_commit(struct buffer *out, int format, const struct record *record, bool own)
{
	const char *join_ref = join_ref_for(record, own);
	switch (record->row.kind) {
	case STORE_EVENT:
		return add_events(out, format, record, join_ref, own) +
		       add_change(out, format, record, join_ref);
	case STORE_JOIN:
		return add_join(out, format, record, join_ref);
	case STORE_LEAVE:
		return add_leave(out, format, record, join_ref);
	case STORE_REFRESH:
		return add_state(out, format, record, join_ref);
	case STORE_CRASH:
		return add_ending(out, format, record, join_ref, "phx_error");
	case STORE_PRESENCE:
	case STORE_PRESENCE_STATE:
		return add_events(out, format, record, join_ref, own);
	case STORE_ANSWER:
		return add_frames(out, record);
	}
	return 0;
}

void
phoenix_catch_up(struct buffer *out, const struct catch_up *catch_up)
{
	const struct store_socket *socket = &catch_up->socket->row;
	int format = (int)socket->format;
	for (size_t i = 0; i < catch_up->events.count; i++) {
		const struct record *record = catch_up->events.at[i];
		bool own = record->row.socket == socket->id;
		add_events(out, format, record, join_ref_for(record, own), own);
	}
	for (size_t i = 0; i < catch_up->states.count; i++)
		phoenix_commit(out, format, catch_up->states.at[i], false);
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
	case OUTCOME_MISUSED:
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

/* seance:event with {"type", "payload"}: the newer JS client's way */
static void
read_typed_event(struct message *message)
{
	json_object *type = NULL;
	json_object *payload = NULL;
	message->kind = MESSAGE_UNKNOWN;
	if (!json_object_is_type(message->payload, json_type_object))
		return;
	json_object_object_get_ex(message->payload, "type", &type);
	json_object_object_get_ex(message->payload, "payload", &payload);
	if (!plain_text(type))
		return;
	message->kind = MESSAGE_EVENT;
	message->event = memory_strdup(plain_text(type));
	json_object_get(payload);
	json_object_put(message->payload);
	message->payload = payload;
}

static void
read_event(int format, struct message *message, const char *event)
{
	const struct vocabulary *words = vocabulary_of(format);
	message->kind = MESSAGE_UNKNOWN;
	if (is_text(event, "phx_join"))
		message->kind = MESSAGE_JOIN;
	else if (is_text(event, "phx_leave"))
		message->kind = MESSAGE_LEAVE;
	else if (is_text(event, words->refresh))
		message->kind = MESSAGE_REFRESH;
	else if (is_text(event, words->event))
		read_typed_event(message);
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
		read_event(format, message, event ? event : "");
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
