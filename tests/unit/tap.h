/*
 * tap - the smallest test harness: lines of the Test Anything Protocol
 *
 * A test program calls ok() for each thing that must be, and returns done() from main.
 */
#ifndef SEANCE_TAP_H
#define SEANCE_TAP_H

#include <stdarg.h>
#include <stdio.h>

static int tap_count, tap_failed;

/* ok - one test: `cond` must hold; the rest is its name, as for printf; returns cond */
__attribute__((format(printf, 4, 5), unused)) static int
tap_ok(int cond, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	tap_count++;
	if (!cond)
		tap_failed++;
	printf("%s %d - ", cond ? "ok" : "not ok", tap_count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	if (!cond)
		printf("# failed at %s:%d\n", file, line);
	fflush(stdout);
	return cond;
}

#define ok(cond, ...) tap_ok(!!(cond), __FILE__, __LINE__, __VA_ARGS__)

/* done - prints the plan; what main returns: 0 when all was well */
__attribute__((unused)) static int
done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed != 0;
}

#endif
