/*
 * open - the engine on the database of the options
 */
#ifndef SEANCE_OPEN_H
#define SEANCE_OPEN_H

#include "engine.h"
#include "options.h"

/*
 * open_engine - opens the database, and an engine on it with the bounds of the options
 *
 * store     Set to the engine's store; borrowed.
 * channels  Borrowed for the engine's life.
 * Returns   an engine that is to be restored; NULL after one line in the log.
 */
struct engine *open_engine(const struct options *options, const struct engine_hooks *hooks,
                           seance_connect_fn *on_connect, const struct seance_channel *const *channels,
                           struct store **store);

#endif
