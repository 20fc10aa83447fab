#define _GNU_SOURCE
#include "memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *
memory_need(void *block)
{
	static const char message[] = "out of memory\n";

	if (block != NULL)
		return block;
	/* stdio may want memory itself */
	if (write(STDERR_FILENO, message, sizeof(message) - 1) < 0)
		abort();
	abort();
}

void *
memory_alloc(size_t size)
{
	return memory_need(malloc(size > 0 ? size : 1));
}

void *
memory_realloc(void *block, size_t size)
{
	return memory_need(realloc(block, size > 0 ? size : 1));
}

char *
memory_strdup(const char *text)
{
	return memory_need(strdup(text));
}

void *
memory_array(size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		memory_need(NULL);
	return memory_alloc(bytes);
}

void *
memory_zeroed(size_t count, size_t size)
{
	return memory_need(calloc(count > 0 ? count : 1, size));
}

void *
memory_grow(void *items, size_t count, size_t *room, size_t size)
{
	size_t bytes;

	if (count < *room)
		return items;
	*room = *room > 0 ? *room * 2 : 8;
	if (__builtin_mul_overflow(*room, size, &bytes))
		memory_need(NULL);
	return memory_realloc(items, bytes);
}
