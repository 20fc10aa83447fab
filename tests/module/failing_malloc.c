/*
 * failing_malloc - a library to preload: the nth allocation that the nginx module makes fails
 *
 * FAIL_AT=N in the environment: in each process the Nth call of malloc, calloc or realloc from
 * ngx_http_seance_module.so returns NULL, once; FAIL_LOG names a file that is then made.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static int
is_module(const void *caller)
{
	static const char *known;
	Dl_info info;

	if (dladdr(caller, &info) == 0 || info.dli_fname == NULL)
		return 0;
	if (info.dli_fname == known)
		return 1;
	if (strstr(info.dli_fname, "ngx_http_seance_module") == NULL)
		return 0;
	known = info.dli_fname;
	return 1;
}

static int
fails(const void *caller)
{
	static long left = -1;
	const char *at = getenv("FAIL_AT"), *log = getenv("FAIL_LOG");

	if (at == NULL || !is_module(caller))
		return 0;
	if (left < 0)
		left = atol(at);
	if (left == 0 || --left > 0)
		return 0;
	if (log != NULL)
		close(open(log, O_CREAT | O_WRONLY, 0600));
	errno = ENOMEM;
	return 1;
}

void *
malloc(size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}
