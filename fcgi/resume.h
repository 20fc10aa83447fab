/*
 * resume - what a client that has joined keeps, to come back with: "Coming back" in README.md
 *
 * For shared state it is the position, for private state a token that names the instance too.
 */
#ifndef SEANCE_RESUME_H
#define SEANCE_RESUME_H

#include "engine.h"
#include "phoenix.h"
#include "token.h"

/*
 * resume_text - where a client stands once it has been told a row
 *
 * revision  Of the row, or of an earlier one that is told along with it.
 * Returns   Owned by the caller; NULL: it does not want to know.
 */
char *resume_text(const struct phoenix_client *to, const struct record *record, int64_t revision);

/* resume_ask - what a join asks for beside the reference's, out of its payload: authorize and init do not see it */
void resume_ask(struct message *message);

/* resume_read - a join says where it left: into its since_ members; what is none of ours is no such thing */
void resume_read(const struct token_key *key, struct message *message);

#endif
