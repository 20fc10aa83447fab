#include "random.h"

#include <stdlib.h>
#include <sys/random.h>

void
random_bytes(void *bytes, size_t len)
{
	if (getrandom(bytes, len, 0) != (ssize_t)len)
		abort();
}

int64_t
random_number(void)
{
	uint64_t number;
	random_bytes(&number, sizeof(number));
	return (int64_t)(number >> 11) + 1;
}
