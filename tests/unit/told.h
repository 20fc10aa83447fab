/* told - what callbacks were told, noted by them one behind the other, and asked for by the test */
#ifndef SEANCE_TOLD_H
#define SEANCE_TOLD_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static char told[2000];

__attribute__((format(printf, 1, 2))) static void
note(const char *format, ...)
{
	size_t len = strlen(told);
	va_list args;
	va_start(args, format);
	vsnprintf(told + len, sizeof(told) - len, format, args);
	va_end(args);
}

/* was_told - just this, since it was asked for last? */
static bool
was_told(const char *wanted)
{
	bool same = strcmp(told, wanted) == 0;
	if (!same)
		printf("# told \"%s\"\n", told);
	told[0] = '\0';
	return same;
}

#endif
