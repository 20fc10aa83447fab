#include "record.h"

#include <stdlib.h>

#include "memory.h"

struct record *
record_new(enum store_kind kind)
{
	struct record *record = memory_alloc(sizeof(*record));
	*record = (struct record){.row = {.kind = kind}, .users = 1};
	return record;
}

void
record_take(const char **field, const char *text)
{
	free((char *)*field);
	*field = text;
}

void
record_set(const char **field, const char *text)
{
	record_take(field, text ? memory_strdup(text) : NULL);
}

/* Every text of a row, once. */
enum { TEXTS = 10 };

static void
texts_of(struct store_record *row, const char **texts[TEXTS])
{
	texts[0] = &row->ref;
	texts[1] = &row->join_ref;
	texts[2] = &row->event;
	texts[3] = &row->operations;
	texts[4] = &row->events;
	texts[5] = &row->state;
	texts[6] = &row->detail;
	texts[7] = &row->told;
	texts[8] = &row->built;
	texts[9] = &row->key;
}

struct record *
record_copy(const struct store_record *row)
{
	struct record *record = record_new(row->kind);
	const char **texts[TEXTS];
	record->row = *row;
	texts_of(&record->row, texts);
	for (int i = 0; i < TEXTS; i++)
		if (*texts[i])
			*texts[i] = memory_strdup(*texts[i]);
	return record;
}

struct record *
record_use(struct record *record)
{
	record->users++;
	return record;
}

void
record_free(struct record *record)
{
	const char **texts[TEXTS];
	if (!record || --record->users > 0)
		return;
	texts_of(&record->row, texts);
	for (int i = 0; i < TEXTS; i++)
		free((char *)*texts[i]);
	record_free(record->state_of);
	free(record->topic);
	free(record);
}

const struct store_record *
record_shown(const struct record *record)
{
	return record->state_of ? &record->state_of->row : &record->row;
}
