/*
 * Phoenix frames from clients: taken apart or refused with a reason; all that is answered is well-formed.
 *
 * Input: a byte for format and kind of frame, a byte for the outcome, then the frame.
 */
#include "../../channel/memory.h"
#include "../../fcgi/phoenix.h"
#include "../../nginx/module/websocket_events.h"
#include "fuzz.h"
#include "json.h"

static void
check_json(const char *text, size_t len)
{
	json_object *value = NULL;

	must(json_parse(text, len, &value, NULL));
	json_object_put(value);
}

/* Answers in the form of websocket_events: JSON texts, and at most one CLOSE. */
static void
check_frames(const struct buffer *out)
{
	const uint8_t *at = (const uint8_t *)out->at;
	struct events_event event;

	for (size_t left = out->len; left > 0;) {
		long used = events_decode(at, left, &event);

		must(used > 0 && (event.type == EVENTS_TEXT || event.type == EVENTS_CLOSE));
		if (event.type == EVENTS_TEXT)
			check_json((const char *)event.data, event.len);
		at += used;
		left -= (size_t)used;
	}
}

static void
check_message(const struct message *message)
{
	must(message->ref != NULL && message->join_ref != NULL);
	check_json(message->ref, strlen(message->ref));
	check_json(message->join_ref, strlen(message->join_ref));
	must((message->kind == MESSAGE_EVENT) == (message->event != NULL));
	must(message->topic != NULL || message->kind == MESSAGE_PLAIN);
}

FUZZ_TARGET(phoenix)
{
	struct fuzz_bytes in = {data, size};
	uint8_t how = fuzz_byte(&in), outcome = fuzz_byte(&in);
	struct message *message = memory_zeroed(1, sizeof(*message));
	struct buffer out = {0};
	const char *why = NULL;
	int format = how % PHOENIX_FORMATS;
	bool binary = how & PHOENIX_FORMATS;

	if (phoenix_parse(format, binary, (const char *)in.at, in.left, message, &out, &why)) {
		check_message(message);
		must((message->kind == MESSAGE_PLAIN) == (out.len > 0));
		message->outcome = (enum message_outcome)(outcome % (OUTCOME_REPEATED + 1));
		if (message->kind != MESSAGE_PLAIN)
			phoenix_outcome(&out, format, message);
		check_frames(&out);
	} else {
		must(why != NULL && out.len == 0);
	}
	buffer_release(&out);
	message_free(message);
}
