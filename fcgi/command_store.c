#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

struct store *
command_store(const struct options *options)
{
	char path[4096];
	char *error = NULL;
	struct store *store;

	options_database(options, path, sizeof path);
	/* Opening it would make it. */
	if (access(path, R_OK) != 0) {
		fprintf(stderr, "seance: %s: %s\n", path, strerror(errno));
		return NULL;
	}
	store = store_open_sqlite(path, options->durability, &error);
	if (store == NULL)
		fprintf(stderr, "seance: %s: %s\n", path, error != NULL ? error : "cannot be opened");
	free(error);
	return store;
}

int
command_failed(struct store *store)
{
	fprintf(stderr, "seance: %s\n", store_message(store));
	return 1;
}
