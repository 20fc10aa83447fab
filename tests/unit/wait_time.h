/* wait_time - what tests of threads and processes wait by */
#ifndef SEANCE_TESTS_WAIT_TIME_H
#define SEANCE_TESTS_WAIT_TIME_H

#include <time.h>

#include "clock.h"

static long
now_ms(void)
{
	return (long)clock_ms();
}

static void
sleep_ms(long ms)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&time, NULL);
}

#endif
