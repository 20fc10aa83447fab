#include "clock.h"

#include <stdbool.h>
#include <time.h>

#define STOPPED_AT 1700000000 /* Unix time */

static _Atomic int64_t ahead_ns;
static _Atomic bool stopped;

static int64_t
read_ns(clockid_t clock)
{
	struct timespec now = {.tv_sec = STOPPED_AT};
	if (!stopped)
		clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec + ahead_ns;
}

void
clock_stop(void)
{
	stopped = true;
}

void
clock_advance(int64_t ms)
{
	ahead_ns += ms * 1000000;
}

int64_t
clock_ns(void)
{
	return read_ns(CLOCK_MONOTONIC);
}

int64_t
clock_ms(void)
{
	return clock_ns() / 1000000;
}

int64_t
clock_unix_ms(void)
{
	return read_ns(CLOCK_REALTIME) / 1000000;
}
