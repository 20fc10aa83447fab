/*
 * pairs - random pairs of JSON values and the patches between them, for other libraries to apply
 *
 *     pairs SEED COUNT
 *
 * Prints COUNT lines {"a":from,"b":to,"patch":[...]}.  The same seed gives the same lines.
 */
#include "../../channel/diff.h"
#include "../../channel/json.h"
#include "random_json.h"

#include <stdlib.h>

static json_object *
random_to(json_object *from, int depth)
{
	if (random_below(6) == 0)
		return random_value(depth);
	return random_like(from, depth, 1 + random_below(60));
}

static void
print_pair(void)
{
	int depth = (int)random_below(5);
	json_object *pair = json_object_new_object(), *from = random_value(depth),
				*to = random_to(from, depth);

	json_object_object_add(pair, "a", from);
	json_object_object_add(pair, "b", to);
	json_object_object_add(pair, "patch", diff_make(from, to));
	puts(json_text(pair, NULL));
	json_object_put(pair);
}

int
main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: %s SEED COUNT\n", argv[0]);
		return 2;
	}
	random_state = strtoull(argv[1], NULL, 10);
	for (unsigned long count = strtoul(argv[2], NULL, 10); count > 0; count--)
		print_pair();
	return fflush(stdout) == 0 ? 0 : 1;
}
