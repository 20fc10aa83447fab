/*
 * random - numbers that nobody guesses
 */
#ifndef SEANCE_RANDOM_H
#define SEANCE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* random_bytes - from the system's generator; aborts when it has none */
void random_bytes(void *bytes, size_t len);

/* random_number - from 1 to 2^53, so that it is exact in JavaScript */
int64_t random_number(void);

#endif
