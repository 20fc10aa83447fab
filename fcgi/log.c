#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A prefix of about 32 bytes, and each byte may take four. */
#define LINE_SIZE (4 * LOG_MAX + 64)

static size_t
put_prefix(char *out, size_t size)
{
	struct timespec now;
	struct tm local;
	size_t len;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &local);
	len = strftime(out, size, "%Y-%m-%d %H:%M:%S", &local);
	return len + (size_t)snprintf(out + len, size - len, ".%03ld seance: ", now.tv_nsec / 1000000);
}

static size_t
put_escaped(char *out, const char *text)
{
	static const char hex[] = "0123456789abcdef";
	char *at = out;

	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c >= 0x20 && c != 0x7f) {
			*at++ = *text;
			continue;
		}
		*at++ = '\\';
		*at++ = 'x';
		*at++ = hex[c >> 4];
		*at++ = hex[c & 15];
	}
	return (size_t)(at - out);
}

static void
put_line(const char *format, va_list arguments)
{
	char text[LOG_MAX + 1];
	char line[LINE_SIZE];
	int error = errno;
	size_t len;

	vsnprintf(text, sizeof text, format, arguments);
	len = put_prefix(line, 64);
	len += put_escaped(line + len, text);
	line[len++] = '\n';
	/* Nobody to tell when standard error is gone. */
	if (write(STDERR_FILENO, line, len) < 0)
		errno = error;
	errno = error;
}

void
log_line(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	put_line(format, arguments);
	va_end(arguments);
}

void
log_die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	put_line(format, arguments);
	va_end(arguments);
	abort();
}
