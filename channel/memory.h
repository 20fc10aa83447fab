/*
 * memory - allocation that never fails
 *
 * Out of memory the program says so and aborts: what clients have seen is safe in the database, and
 * no caller needs a way back that nobody tests.
 */
#ifndef SEANCE_MEMORY_H
#define SEANCE_MEMORY_H

#include <stddef.h>

/* memory_alloc, memory_realloc, memory_strdup - as malloc, realloc, strdup, but never NULL (free) */
void *memory_alloc(size_t size) __attribute__((malloc, warn_unused_result));
void *memory_realloc(void *block, size_t size) __attribute__((warn_unused_result));
char *memory_strdup(const char *text) __attribute__((malloc, warn_unused_result));

/* memory_array, memory_zeroed - count items of size bytes each, aborts on overflow; zeroed: all 0 */
void *memory_array(size_t count, size_t size) __attribute__((malloc, warn_unused_result));
void *memory_zeroed(size_t count, size_t size) __attribute__((malloc, warn_unused_result));

/*
 * memory_grow - an array with room for one more item behind its count
 *
 * items     Taken; NULL when there is no array yet.
 * room      items that it has room for; set anew when it grows.
 * Returns   the array (free), perhaps elsewhere.
 */
void *memory_grow(void *items, size_t count, size_t *room, size_t size)
	__attribute__((warn_unused_result));

/* memory_need - the pointer it is given; aborts when that is NULL */
void *memory_need(void *block);

#endif
