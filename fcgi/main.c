/*
 * main - the program's command line
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cgi.h"
#include "channel.h"
#include "command.h"
#include "options.h"
#include "seance.h"
#include "supervisor.h"
#include "worker.h"

#ifndef SEANCE_VERSION
#define SEANCE_VERSION "0.1.0"
#endif

static int
help(const char *program)
{
	printf(
		"usage: %s COMMAND [--NAME=VALUE ...]\n"
		"\n"
		"  serve         serves the channels behind nginx until SIGTERM; SIGHUP: replaces the worker\n"
		"                process by the program as it is on disk now, without a client noticing;\n"
		"                SIGUSR1: logs what each nginx worker counts\n"
		"  show TOPIC    the state of a shared topic, as JSON\n"
		"  log TOPIC     what happened to a topic, one JSON object a line\n"
		"  broadcast TOPIC JSON\n"
		"                a message to all that are subscribed to a PubSub topic\n"
		"  help, version\n"
		"\n"
		"options:\n",
		program);
	options_help();
	return 0;
}

static int
bad_usage(const char *program, const char *what)
{
	fprintf(stderr, "seance: %s; try `%s help`\n", what, program);
	return 2;
}

/* Whether all channels can be served; says so of the first that cannot. */
static bool
are_sound(const struct seance_channel *const *channels)
{
	for (; *channels != NULL; channels++) {
		const char *fault = channel_fault(*channels);

		if (fault != NULL) {
			fprintf(stderr, "seance: channel %s: %s\n", (*channels)->topic ? (*channels)->topic : "",
			        fault);
			return false;
		}
	}
	return true;
}

typedef int topic_command(const struct options *options, const char *topic);

static int
run_topic(topic_command *command, int argc, char **argv)
{
	struct options options;

	if (argc < 3 || strncmp(argv[2], "--", 2) == 0)
		return bad_usage(argv[0], "which topic?");
	if (!options_read(&options, argc, argv, 3))
		return 2;
	return command(&options, argv[2]);
}

static int
run_broadcast(int argc, char **argv)
{
	struct options options;

	if (argc < 4 || strncmp(argv[2], "--", 2) == 0)
		return bad_usage(argv[0], "which topic, and which message?");
	if (!options_read(&options, argc, argv, 4))
		return 2;
	return command_broadcast(&options, argv[2], argv[3]);
}

int
seance_main(int argc, char **argv, seance_connect_fn *on_connect,
            const struct seance_channel *const *channels)
{
	const char *command = argc > 1 ? argv[1] : "help";
	bool serve = strcmp(command, "serve") == 0;
	struct options options;

	if (cgi_asked())
		return are_sound(channels) ? cgi_run(on_connect, channels) : 2;
	if (serve || strcmp(command, WORKER_COMMAND) == 0) {
		if (!options_read(&options, argc, argv, 2) || !are_sound(channels))
			return 2;
		return serve ? supervisor_run(&options, argv) : worker_run(&options, on_connect, channels);
	}
	if (strcmp(command, "show") == 0)
		return run_topic(command_show, argc, argv);
	if (strcmp(command, "log") == 0)
		return run_topic(command_log, argc, argv);
	if (strcmp(command, "broadcast") == 0)
		return run_broadcast(argc, argv);
	if (strcmp(command, "help") == 0 || strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0)
		return help(argv[0]);
	if (strcmp(command, "version") == 0 || strcmp(command, "--version") == 0) {
		printf("seance %s\n", SEANCE_VERSION);
		return 0;
	}
	return bad_usage(argv[0], "there is no such command");
}
