/*
 * position - where in its history an instance is: what clients keep, to come back with
 */
#ifndef SEANCE_POSITION_H
#define SEANCE_POSITION_H

#include <stdbool.h>
#include <stdint.h>

#define POSITION_BYTES 48 /* of "EPOCH-REVISION", with its NUL */

/* position_write - "EPOCH-REVISION" */
void position_write(char text[POSITION_BYTES], int64_t epoch, int64_t revision);

/* position_read - false: it is none */
bool position_read(const char *text, int64_t *epoch, int64_t *revision);

#endif
