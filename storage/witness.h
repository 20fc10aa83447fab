/*
 * witness - what was handed out of a database, in a small file beside it: DATABASE-witness
 *
 * Clients keep positions.  If the database is put back from a backup, or a power cut takes its last commits, it
 * goes on to the same numbers by another way; the witness knows better, as long as it is not put back, too.
 * It is a mapped page: a commit costs one store, and all processes that use the database share it.
 */
#ifndef SEANCE_WITNESS_H
#define SEANCE_WITNESS_H

#include <stdbool.h>
#include <stdint.h>

/* All that is in the file.  All zero, as in a new one, fits no database. */
struct witness_page {
	int64_t born;       /* of this very file: a copy of it has another; ns */
	int64_t generation; /* of the database */
	int64_t commit;     /* the newest that was made */
	int64_t boot;       /* of the machine, when commits may not be on the disk; 0: they are */
};

struct witness;

/* witness_open - maps the file, made when it is not there; returns one owned by the caller, or NULL: see errno */
struct witness *witness_open(const char *database);

void witness_close(struct witness *witness); /* NULL is accepted */

/* witness_look - to be called before the database is asked, since others go on meanwhile */
struct witness_page witness_look(const struct witness *witness);

/* witness_agrees - has a database with this generation and newest commit all that was handed out? */
bool witness_agrees(const struct witness *witness, const struct witness_page *seen, int64_t generation,
                    int64_t commit);

/* witness_begin - a new generation begins; under the database's lock */
void witness_begin(struct witness *witness, int64_t generation, int64_t commit);

/* witness_raise - there is a commit of this number */
void witness_raise(struct witness *witness, int64_t commit);

/* witness_unsafe - from now on a power cut may take commits; false: the disk did not take it, see errno */
bool witness_unsafe(struct witness *witness);

#endif
