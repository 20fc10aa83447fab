/*
 * since - the changes of an instance after a position, as the log has them
 */
#ifndef SEANCE_SINCE_H
#define SEANCE_SINCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "record.h"

#define SINCE_PATCHES 1000         /* that are told at most; more: the state */
#define SINCE_BYTES   (256 * 1024) /* of their operations and events */
#define SINCE_ROWS    4000         /* of the log that are looked at for them, from the newest back */

struct engine;
struct instance;

/* All zero is empty. */
struct since {
	int64_t revision, until;
	int64_t version;         /* at until */
	struct record **records; /* newest first */
	size_t count, room, bytes;
	int rows;
};

/*
 * since_read - the rows after a position, up to a later revision of the same history
 *
 * until     That of the last commit, or an earlier one.
 * Returns   false: the log does not reach back, another history is meant, there are too many, or the channel
 *           does not tell of changes by patches, or not of one of them: the state is to be told.  since_release in any case.
 */
bool since_read(struct engine *engine, const struct instance *instance, int64_t epoch, int64_t revision,
                int64_t until, struct since *since);

void since_release(struct since *since);

/* since_is_patch - are clients told of a change by a patch?  Else its operations are not theirs to see. */
bool since_is_patch(const struct store_record *row);

/* since_told - the operations that clients are told of a row, JSON text */
const char *since_told(const struct store_record *row);

#endif
