/*
 * log - what the program says: lines on standard error
 */
#ifndef SEANCE_LOG_H
#define SEANCE_LOG_H

/*
 * log_line - one line with date and time and "seance: " in front
 *
 * One write, so that lines of several threads and processes do not mix.  Control characters, which
 * clients may have sent, are written as \xNN; what is longer than LOG_MAX bytes is cut.
 */
#define LOG_MAX 2000
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* log_die - the same, then abort() */
void log_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
