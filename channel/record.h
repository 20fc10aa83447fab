/*
 * record - a commit as it lies in memory: a row of the log, counted by its users
 */
#ifndef SEANCE_RECORD_H
#define SEANCE_RECORD_H

#include "store.h"

struct record {
	struct store_record row; /* its texts are owned */
	char *topic;             /* owned */
	int64_t epoch;           /* of its instance */
	struct record *state_of; /* the record that carries what this one shows; owned; NULL: itself */
	int users;
};

/* record_is_public - is such a row told to all that are joined, and not to its cause alone? */
static inline bool
record_is_public(enum store_kind kind)
{
	return kind == STORE_EVENT || kind == STORE_PRESENCE;
}

/* record_shown - the row with the state, or the message built of it, that this one tells; borrowed */
const struct store_record *record_shown(const struct record *record);

/* record_new - empty, with one user */
struct record *record_new(enum store_kind kind);

/* record_copy - a copy of a row handed out by the store, with one user */
struct record *record_copy(const struct store_record *row);

/* record_set - replaces a text of a record; text is copied, NULL is absent */
void record_set(const char **field, const char *text);

/* record_take - the same; text is taken (malloc) */
void record_take(const char **field, const char *text);

struct record *record_use(struct record *record);

/* record_free - one user less; the last one frees it; NULL is accepted */
void record_free(struct record *record);

#endif
