#include "resume.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "position.h"

#define KIND "resume"

/* From the row's time on: longer than a connection, and then a resume_ttl, last without a change. */
#define LIFE_S (30 * 86400)

char *
resume_text(const struct phoenix_client *to, const struct record *record, int64_t revision)
{
	char position[POSITION_BYTES], text[POSITION_BYTES + 24];
	if (!(to->wants & JOIN_RESUMES))
		return NULL;
	position_write(position, record->epoch, revision);
	if (!(to->wants & JOIN_PRIVATE))
		return memory_strdup(position);
	snprintf(text, sizeof(text), "%" PRId64 "~%s", record->row.instance, position);
	return to->key ? token_sign(to->key, KIND, text, record->row.time_ms / 1000 + LIFE_S) : NULL;
}

void
resume_ask(struct message *message)
{
	json_object *resume = NULL, *replies = NULL;
	if (!json_object_is_type(message->payload, json_type_object))
		return;
	if (json_object_object_get_ex(message->payload, "resume", &resume) &&
	    json_object_is_type(resume, json_type_object)) {
		json_object *at = json_object_object_get(resume, "at");
		bool is_text = json_object_is_type(at, json_type_string);
		message->wants |= JOIN_RESUMES;
		message->resume = is_text ? memory_strdup(json_object_get_string(at)) : NULL;
		json_object_object_del(message->payload, "resume");
	}
	if (json_object_object_get_ex(message->payload, "replies", &replies) &&
	    json_object_is_type(replies, json_type_boolean)) {
		message->wants |= json_object_get_boolean(replies) ? JOIN_REPLIES : 0;
		json_object_object_del(message->payload, "replies");
	}
}

void
resume_read(const struct token_key *key, struct message *message)
{
	bool expired;
	char *text = token_read(key, KIND, message->resume, &expired);
	char *mark = text ? strchr(text, '~') : NULL;
	const char *position = mark ? mark + 1 : message->resume;
	if (mark)
		message->since_instance = strtoll(text, NULL, 10);
	message->has_since =
		position && position_read(position, &message->since_epoch, &message->since_revision);
	free(text);
}
