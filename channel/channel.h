/*
 * channel - what an author has declared, with defaults in place of what was left out
 */
#ifndef SEANCE_CHANNEL_H
#define SEANCE_CHANNEL_H

#include "seance.h"

const char *channel_state_key(const struct seance_channel *channel);
const char *channel_state_version_key(const struct seance_channel *channel);

/* channel_fault - why a channel cannot be served: a constant; NULL: it can */
const char *channel_fault(const struct seance_channel *channel);

/* channel_ignored - the names of the members that clients do not see; ends with NULL */
const char *const *channel_ignored(const struct seance_channel *channel);

/* channel_presence_key, _presence_meta - the names of the assigns that say how a join is shown as present */
const char *channel_presence_key(const struct seance_channel *channel);
const char *channel_presence_meta(const struct seance_channel *channel);

#endif
