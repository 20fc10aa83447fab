/*
 * options - the command line's settings and their defaults
 */
#ifndef SEANCE_OPTIONS_H
#define SEANCE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "store.h"

struct options {
	const char *dir;                  /* --dir=run: seance.db, sockets, pid files */
	enum store_durability durability; /* --durability=full|normal */
	const char *origins;              /* --origins="//a.example //b.example": allowed besides the host */
	int max_sockets;                  /* --max-sockets=100000 */
	int max_sockets_per_address;      /* --max-sockets-per-address=20000 */
	int max_joins;                    /* --max-joins=100, per socket */
	size_t message_bytes;             /* --message-bytes=1048576 */
	size_t state_bytes;               /* --state-bytes=16777216, of one state as text */
	size_t cache_bytes;               /* --cache-bytes=67108864, of states kept in memory */
	long log_rows;                    /* --log-rows=100000 kept */
	int grace_s;                      /* --grace=60: a socket that no nginx worker lists is ended */
	int callback_s;  /* --callback-seconds=10: a callback that runs longer ends the process; 0: none */
	int spares;      /* --spares=8: threads that may stand in for the loop */
	int socket_mode; /* --socket-mode=0660, of program.sock and link.sock */
};

/* options_default - all settings as they are when nothing is said */
void options_default(struct options *options);

/*
 * options_read - the defaults, changed by "--name=value" from argv[first] on
 *
 * options   Its texts are borrowed from argv.
 * Returns   true; false after one clear line on standard error.
 */
bool options_read(struct options *options, int argc, char **argv, int first);

/* options_database - the path of the database, cut at size bytes */
void options_database(const struct options *options, char *path, size_t size);

/* options_help - prints all options with their defaults */
void options_help(void);

#endif
