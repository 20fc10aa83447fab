/* parse - a value that a test writes down as JSON; owned by the caller */
#ifndef SEANCE_TESTS_PARSE_H
#define SEANCE_TESTS_PARSE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

static json_object *
parse(const char *text)
{
	json_object *value = NULL;

	if (!json_parse(text, strlen(text), &value, NULL)) {
		printf("Bail out! not JSON: %s\n", text);
		exit(1);
	}
	return value;
}

#endif
