#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
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

bool
command_wake(const struct options *options)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool runs;

	snprintf(address.sun_path, sizeof address.sun_path, "%s/link.sock", options->dir);
	runs = fd >= 0 && (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ||
	                   errno == EAGAIN || errno == EACCES);
	if (fd >= 0)
		close(fd);
	return runs;
}

int
command_failed(struct store *store)
{
	fprintf(stderr, "seance: %s\n", store_message(store));
	return 1;
}
