#include "since.h"

#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"
#include "memory.h"

#define UNKNOWN (-1)

const char *
since_told(const struct store_record *row)
{
	return row->told ? row->told : row->operations ? row->operations : "[]";
}

bool
since_is_patch(const struct store_record *row)
{
	return row->kind == STORE_EVENT && !row->state && !row->built;
}

static bool
take_row(void *context, const struct store_record *row)
{
	struct since *since = context;
	if (++since->rows > SINCE_ROWS || since->count > SINCE_PATCHES || since->bytes > SINCE_BYTES)
		return false;
	if (row->revision > since->until)
		return true;
	if (since->version == UNKNOWN)
		since->version = row->version;
	if (row->revision <= since->revision)
		return false;
	if (row->kind != STORE_EVENT)
		return true;
	if (!since_is_patch(row))
		return false;
	since->records = memory_grow(since->records, since->count, &since->room, sizeof(struct record *));
	since->records[since->count++] = record_copy(row);
	since->bytes += strlen(since_told(row)) + (row->events ? strlen(row->events) : 0);
	return true;
}

/* Without a look into the log. */
static int64_t
version_at(const struct instance *instance, int64_t revision)
{
	return revision == instance->row.revision ? instance->row.version : revision == 0 ? 0 : UNKNOWN;
}

bool
since_read(struct engine *engine, const struct instance *instance, int64_t epoch, int64_t revision,
           int64_t until, struct since *since)
{
	int64_t lacking = until - revision;
	*since =
		(struct since){.revision = revision, .until = until, .version = version_at(instance, until)};
	if (!instance->row.id || epoch != instance->row.epoch || lacking < 0 || lacking > SINCE_PATCHES)
		return false;
	if (lacking == 0 && since->version != UNKNOWN)
		return true;
	return instance->channel->message_builder == SEANCE_PATCHES &&
	       store_history(engine->store, instance->row.last_commit, take_row, since) == STORE_OK &&
	       (int64_t)since->count == lacking && since->version != UNKNOWN && since->bytes <= SINCE_BYTES;
}

void
since_release(struct since *since)
{
	for (size_t i = 0; i < since->count; i++)
		record_free(since->records[i]);
	free(since->records);
	*since = (struct since){0};
}
