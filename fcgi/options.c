#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { TEXT, DURABILITY, INT, LONG, SIZE, MODE };

/* One setting: where it stands, what it may be, what it is when nothing is said. */
struct setting {
	const char *name;
	enum kind kind;
	size_t offset;
	int64_t least;
	int64_t most;
	const char *preset;
	const char *help;
};

#define AT(member) offsetof(struct options, member)

static const struct setting settings[] = {
	{"dir", TEXT, AT(dir), 0, 0, "run", "directory of seance.db, the sockets and pid files"},
	{"durability", DURABILITY, AT(durability), 0, 0, "full",
     "full: what a client has seen survives a power cut; normal: faster on slow disks"},
	{"origins", TEXT, AT(origins), 0, 0, "",
     "origins allowed besides the host's own: \"//example.com //*.example.org\""},
	{"max-sockets", INT, AT(max_sockets), 1, INT_MAX, "100000", "clients at once"},
	{"max-sockets-per-address", INT, AT(max_sockets_per_address), 1, INT_MAX, "20000", "of one address"},
	{"max-joins", INT, AT(max_joins), 1, INT_MAX, "100", "topics joined by one client"},
	{"message-bytes", SIZE, AT(message_bytes), 1, 64 << 20, "1048576", "size of a client's message"},
	{"state-bytes", SIZE, AT(state_bytes), 1, INT_MAX, "16777216", "size of one state as JSON text"},
	{"cache-bytes", SIZE, AT(cache_bytes), 0, INT64_MAX, "67108864", "states kept in memory"},
	{"log-rows", LONG, AT(log_rows), 1, LONG_MAX, "100000", "rows of the log that are kept"},
	{"grace", INT, AT(grace_s), 1, 86400, "60",
     "seconds after which a client that no nginx worker lists is gone"},
	{"callback-seconds", INT, AT(callback_s), 0, 86400, "10",
     "a callback that runs longer ends the process; 0: no limit"},
	{"spares", INT, AT(spares), 0, 1000, "8", "threads that may stand in while callbacks block"},
	{"socket-mode", MODE, AT(socket_mode), 0, 0777, "0660",
     "mode of the sockets (octal): nginx's workers must be able to connect"},
};

#define SETTINGS (sizeof settings / sizeof settings[0])

static bool
set_number(struct options *options, const struct setting *setting, const char *value)
{
	void *place = (char *)options + setting->offset;
	int base = setting->kind == MODE ? 8 : 10;
	int64_t number;
	char *end;

	/* strtoimax alone would take spaces and signs. */
	if (*value < '0' || *value > '9')
		return false;
	errno = 0;
	number = strtoimax(value, &end, base);
	if (errno != 0 || *end != '\0' || number < setting->least || number > setting->most)
		return false;
	if (setting->kind == LONG)
		*(long *)place = (long)number;
	else if (setting->kind == SIZE)
		*(size_t *)place = (size_t)number;
	else
		*(int *)place = (int)number;
	return true;
}

static bool
set_durability(struct options *options, const char *value)
{
	if (strcmp(value, "full") == 0)
		options->durability = STORE_FULLY;
	else if (strcmp(value, "normal") == 0)
		options->durability = STORE_NORMALLY;
	else
		return false;
	return true;
}

static bool
set(struct options *options, const struct setting *setting, const char *value)
{
	if (setting->kind == DURABILITY)
		return set_durability(options, value);
	if (setting->kind != TEXT)
		return set_number(options, setting, value);
	*(const char **)(void *)((char *)options + setting->offset) = value;
	return true;
}

void
options_default(struct options *options)
{
	memset(options, 0, sizeof *options);
	for (size_t i = 0; i < SETTINGS; i++)
		set(options, &settings[i], settings[i].preset);
}

static const struct setting *
setting_find(const char *name, size_t len)
{
	for (size_t i = 0; i < SETTINGS; i++)
		if (strlen(settings[i].name) == len && memcmp(settings[i].name, name, len) == 0)
			return &settings[i];
	return NULL;
}

static bool
say_bad_value(const struct setting *setting, const char *value)
{
	if (setting->kind == DURABILITY)
		fprintf(stderr, "seance: --%s must be full or normal, not \"%s\"\n", setting->name, value);
	else if (setting->kind == MODE)
		fprintf(stderr, "seance: --%s must be an octal number from 0 to 0777, not \"%s\"\n",
		        setting->name, value);
	else
		fprintf(stderr, "seance: --%s must be a number from %" PRId64 " to %" PRId64 ", not \"%s\"\n",
		        setting->name, setting->least, setting->most, value);
	return false;
}

static bool
read_one(struct options *options, const char *argument)
{
	const char *equals = strchr(argument, '=');
	const struct setting *setting;

	if (strncmp(argument, "--", 2) != 0) {
		fprintf(stderr, "seance: \"%s\" is not an option; options look like --name=value\n", argument);
		return false;
	}
	setting = setting_find(argument + 2,
	                       equals != NULL ? (size_t)(equals - argument) - 2 : strlen(argument + 2));
	if (setting == NULL) {
		fprintf(stderr, "seance: there is no option %s; `help` lists them\n", argument);
		return false;
	}
	if (equals == NULL) {
		fprintf(stderr, "seance: %s needs a value: %s=%s\n", argument, argument, setting->preset);
		return false;
	}
	return set(options, setting, equals + 1) || say_bad_value(setting, equals + 1);
}

bool
options_read(struct options *options, int argc, char **argv, int first)
{
	options_default(options);
	for (int i = first; i < argc; i++)
		if (!read_one(options, argv[i]))
			return false;
	if (options->dir[0] == '\0') {
		fprintf(stderr, "seance: --dir must not be empty\n");
		return false;
	}
	return true;
}

void
options_database(const struct options *options, char *path, size_t size)
{
	snprintf(path, size, "%s/seance.db", options->dir);
}

void
options_help(void)
{
	for (size_t i = 0; i < SETTINGS; i++)
		printf("  --%s=%s\n        %s\n", settings[i].name, settings[i].preset, settings[i].help);
}
