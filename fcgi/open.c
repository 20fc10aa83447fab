#include "open.h"

#include <stdlib.h>

#include "log.h"

#define MARKS_MS 60000 /* a message can be sent again for nginx's deadline of 30 s, and then some */
#define CATCH_UP \
	4096 /* bytes of patches that a slow reader gets at least before it gets the state instead */

struct engine *
open_engine(const struct options *options, const struct engine_hooks *hooks,
            seance_connect_fn *on_connect, const struct seance_channel *const *channels,
            struct store **store)
{
	char path[4096];
	char *error = NULL;
	options_database(options, path, sizeof(path));
	*store = store_open_sqlite(path, options->durability, &error);
	if (!*store) {
		log_line("%s", error);
		free(error);
		return NULL;
	}
	struct engine_limits limits = {
		.sockets = options->max_sockets,
		.sockets_per_address = options->max_sockets_per_address,
		.joins_per_socket = options->max_joins,
		.state_bytes = options->state_bytes,
		.cache_bytes = options->cache_bytes,
		.catch_up_bytes = CATCH_UP,
		.log_rows = options->log_rows,
		.grace_ms = (int64_t)options->grace_s * 1000,
		.marks_ms = MARKS_MS,
	};
	return engine_open(*store, &limits, hooks, on_connect, channels);
}
