#include "resume.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "position.h"

#define KIND "resume"
#define LIFE_S \
	(30 * 86400) /* longer than a connection lives without a change; the instance's life is the bound */

char *
resume_text(const struct phoenix_client *to, const struct record *record, int64_t revision)
{
	char position[POSITION_BYTES], text[POSITION_BYTES + 24];
	if (!(to->wants & JOIN_RESUMES))
		return NULL;
	position_write(position, record->epoch, revision);
	if (!(to->wants & JOIN_OWNS))
		return memory_strdup(position);
	snprintf(text, sizeof(text), "%" PRId64 "~%s", record->row.instance, position);
	return to->key ? token_sign(to->key, KIND, text, record->row.time_ms / 1000 + LIFE_S) : NULL;
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
