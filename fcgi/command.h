/*
 * command - what the command line can do besides serving: look into the database, and broadcast
 *
 * They may run beside the program.
 */
#ifndef SEANCE_COMMAND_H
#define SEANCE_COMMAND_H

#include <stdbool.h>

#include "options.h"
#include "store.h"

/*
 * command_show - prints a shared topic's state as it is now, with version and revision, as JSON
 * command_log - prints the log's rows of a topic, one JSON object a line, the oldest first
 *
 * Return the exit status: 0; 1 after one line on standard error.
 */
int command_show(const struct options *options, const char *topic);
int command_log(const struct options *options, const char *topic);

/*
 * command_broadcast - a message, JSON text, to all that are subscribed to a PubSub topic; returns the exit status:
 * 0, also when nobody is subscribed; 1 after one line on standard error
 */
int command_broadcast(const struct options *options, const char *topic, const char *text);

/* command_store - the database of --dir, which must be there; NULL after one line on standard error */
struct store *command_store(const struct options *options);

/*
 * command_wake - has the program look what another process has committed; it would do so once a second anyhow
 *
 * Returns   whether one runs on this directory.
 */
bool command_wake(const struct options *options);

/* command_failed - says what the store says; returns 1 */
int command_failed(struct store *store);

#endif
