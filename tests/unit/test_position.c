/*
 * Positions, as they are written, and as anybody may send them.
 */
#include <string.h>

#include "position.h"
#include "tap.h"

int
main(void)
{
	static const char *const bad[] = {"",
	                                  "-",
	                                  "1",
	                                  "1-",
	                                  "-1",
	                                  "1--2",
	                                  "a-1",
	                                  "1-2 ",
	                                  " 1-2",
	                                  "1-2x",
	                                  "+1-2",
	                                  "1-+2",
	                                  "1.5-2",
	                                  "99999999999999999999-1",
	                                  "1-99999999999999999999"};
	char text[POSITION_BYTES];
	int64_t epoch = 0, revision = 0;

	position_write(text, INT64_MAX, INT64_MAX);
	ok(position_read(text, &epoch, &revision) && epoch == INT64_MAX && revision == INT64_MAX,
	   "the largest has room and is read as it was written: %s", text);
	ok(position_read("12-0", &epoch, &revision) && epoch == 12 && revision == 0, "the first revision");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ok(!position_read(bad[i], &epoch, &revision), "no position: '%s'", bad[i]);
	return done();
}
