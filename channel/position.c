#include "position.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

void
position_write(char text[POSITION_BYTES], int64_t epoch, int64_t revision)
{
	snprintf(text, POSITION_BYTES, "%" PRId64 "-%" PRId64, epoch, revision);
}

static const char *
read_number(const char *text, int64_t *number)
{
	char *end;
	if (*text < '0' || *text > '9')
		return NULL;
	errno = 0;
	*number = strtoimax(text, &end, 10);
	return errno ? NULL : end;
}

bool
position_read(const char *text, int64_t *epoch, int64_t *revision)
{
	text = read_number(text, epoch);
	if (!text || *text != '-')
		return false;
	text = read_number(text + 1, revision);
	return text && *text == '\0';
}
