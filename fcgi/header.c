#include "header.h"

#include <ctype.h>
#include <string.h>

void
header_param(char param[HEADER_PARAM_BYTES], const char *name)
{
	static const char prefix[] = "HTTP_";
	size_t len = strlen(name), at = sizeof(prefix) - 1;
	*param = '\0';
	if (at + len >= HEADER_PARAM_BYTES)
		return;
	memcpy(param, prefix, at);
	for (; *name; name++)
		param[at++] = *name == '-' ? '_' : (char)toupper((unsigned char)*name);
	param[at] = '\0';
}
