/*
 * clock - the time that intervals are measured by
 */
#ifndef SEANCE_CLOCK_H
#define SEANCE_CLOCK_H

#include <stdint.h>

/* clock_ns, clock_ms - monotonic time since some moment: nobody can set it */
int64_t clock_ns(void);
int64_t clock_ms(void);

/* clock_unix_ms - Unix time, as stored */
int64_t clock_unix_ms(void);

/* clock_stop - for tests: they stand still but for clock_advance */
void clock_stop(void);

/* clock_advance - for tests: all of these are so much more ahead of the system's clocks */
void clock_advance(int64_t ms);

#endif
