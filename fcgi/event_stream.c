#include "event_stream.h"

#include <string.h>

#include "call.h"
#include "json.h"
#include "since.h"

/* A name of an author's may hold what would end the line. */
static void
begin_event(struct buffer *out, const char *name)
{
	buffer_add_text(out, "event: ");
	for (; *name; name++)
		buffer_add_char(out, *name == '\n' || *name == '\r' ? ' ' : *name);
	buffer_add_text(out, "\n");
}

static void
add_id(struct buffer *out, int64_t epoch, int64_t revision)
{
	char position[POSITION_BYTES];
	position_write(position, epoch, revision);
	buffer_add_text(out, "id: ");
	buffer_add_text(out, position);
	buffer_add_text(out, "\n");
}

/* "version", "revision" and "position", behind another member. */
static void
add_place(struct buffer *out, int64_t version, int64_t epoch, int64_t revision)
{
	char position[POSITION_BYTES];
	position_write(position, epoch, revision);
	buffer_add_text(out, ",\"version\":");
	buffer_add_number(out, version);
	buffer_add_text(out, ",\"revision\":");
	buffer_add_number(out, revision);
	buffer_add_text(out, ",\"position\":\"");
	buffer_add_text(out, position);
	buffer_add_text(out, "\"}\n\n");
}

static void
add_event(struct buffer *out, json_object *entry, bool plain)
{
	const char *name = json_object_get_string(json_object_array_get_idx(entry, 1));
	const char *detail = json_text(json_object_array_get_idx(entry, 2), NULL);
	begin_event(out, plain ? name : "seance:event");
	buffer_add_text(out, "data: ");
	if (plain) {
		buffer_add_text(out, detail);
	} else {
		buffer_add_text(out, "{\"name\":");
		buffer_add_json_string(out, name, strlen(name));
		buffer_add_text(out, ",\"detail\":");
		buffer_add_text(out, detail);
		buffer_add_text(out, ",\"type\":");
		buffer_add_json_string(out, name, strlen(name));
		buffer_add_text(out, ",\"payload\":");
		buffer_add_text(out, detail);
		buffer_add_text(out, "}");
	}
	buffer_add_text(out, "\n\n");
}

/* events: borrowed; NULL: none. */
static void
add_events_of(struct buffer *out, json_object *events, bool plain, bool own)
{
	size_t len = events ? json_object_array_length(events) : 0;
	for (size_t i = 0; i < len; i++) {
		json_object *entry = json_object_array_get_idx(events, i);
		if (call_tells(entry, own))
			add_event(out, entry, plain);
	}
}

static void
add_events(struct buffer *out, const struct record *record, bool own)
{
	json_object *events = json_read(record->row.events);
	bool plain = record->row.kind == STORE_PRESENCE || record->row.kind == STORE_PRESENCE_STATE;
	add_events_of(out, events, plain, own);
	json_object_put(events);
}

/* The channel's own message in place of a state or a patch. */
static void
add_built(struct buffer *out, const struct record *record, const char *text)
{
	json_object *built = json_read(text);
	begin_event(out, json_object_get_string(json_object_object_get(built, "event")));
	add_id(out, record->epoch, record->row.revision);
	buffer_add_text(out, "data: ");
	buffer_add_text(out, json_text(json_object_object_get(built, "payload"), NULL));
	buffer_add_text(out, "\n\n");
	json_object_put(built);
}

static void
add_state(struct buffer *out, const struct record *record)
{
	const struct store_record *shown = record_shown(record);
	if (shown->built) {
		add_built(out, record, shown->built);
		return;
	}
	begin_event(out, "seance:change");
	add_id(out, record->epoch, record->row.revision);
	buffer_add_text(out, "data: {\"state\":");
	buffer_add_text(out, shown->state ? shown->state : "null");
	add_place(out, record->row.version, record->epoch, record->row.revision);
}

static void
add_patch(struct buffer *out, const char *operations, int64_t version, int64_t epoch, int64_t revision)
{
	begin_event(out, "seance:patch");
	add_id(out, epoch, revision);
	buffer_add_text(out, "data: {\"operations\":");
	buffer_add_text(out, operations);
	add_place(out, version, epoch, revision);
}

/* What a client that came back has missed, as the join's row says. */
static void
add_missed(struct buffer *out, json_object *missed, int64_t epoch)
{
	size_t len = json_object_array_length(missed);
	for (size_t i = 0; i < len; i++) {
		json_object *row = json_object_array_get_idx(missed, i);
		add_events_of(out, json_object_object_get(row, "events"), false, false);
		add_patch(out, json_text(json_object_object_get(row, "operations"), NULL),
		          json_object_get_int64(json_object_object_get(row, "version")), epoch,
		          json_object_get_int64(json_object_object_get(row, "revision")));
	}
}

static void
add_join(struct buffer *out, const struct record *record)
{
	json_object *detail = json_read(record->row.detail);
	json_object *missed = NULL;
	if (json_object_object_get_ex(detail, "missed", &missed))
		add_missed(out, missed, record->epoch);
	else
		add_state(out, record);
	json_object_put(detail);
}

void
event_stream_commit(struct buffer *out, const struct record *record, bool own)
{
	switch (record->row.kind) {
	case STORE_EVENT:
		add_events(out, record, own);
		if (record->row.built || record->row.state)
			add_state(out, record);
		else
			add_patch(out, since_told(&record->row), record->row.version, record->epoch,
			          record->row.revision);
		break;
	case STORE_JOIN:
		add_events(out, record, own);
		add_join(out, record);
		break;
	case STORE_REFRESH:
		add_state(out, record);
		break;
	case STORE_PRESENCE:
	case STORE_PRESENCE_STATE:
		add_events(out, record, own);
		break;
	case STORE_LEAVE:
	case STORE_CRASH:
	case STORE_ANSWER:
		break; /* of what a stream never sends */
	}
}

void
event_stream_catch_up(struct buffer *out, const struct catch_up *catch_up)
{
	for (size_t i = 0; i < catch_up->events.count; i++)
		add_events(out, catch_up->events.at[i].record, false);
	for (size_t i = 0; i < catch_up->states.count; i++)
		event_stream_commit(out, catch_up->states.at[i].record, false);
}
