/*
 * `show` and `log`: what they print of a database.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "tap.h"

static char dir[64];
static char said[65536];

/* Runs a command; what it prints is in `said`. */
static int
run(int command(const struct options *options, const char *topic), const char *topic)
{
	struct options options;
	char file[100];
	int before = dup(STDOUT_FILENO);
	int status;
	ssize_t len;
	int fd;

	options_default(&options);
	options.dir = dir;
	snprintf(file, sizeof file, "%s/out", dir);
	fd = open(file, O_RDWR | O_CREAT | O_TRUNC, 0600);
	fflush(stdout);
	dup2(fd, STDOUT_FILENO);
	status = command(&options, topic);
	fflush(stdout);
	dup2(before, STDOUT_FILENO);
	len = pread(fd, said, sizeof said - 1, 0);
	said[len > 0 ? len : 0] = '\0';
	close(fd);
	close(before);
	return status;
}

static int64_t
append(struct store *store, int64_t instance, int64_t previous, int64_t revision, const char *operations)
{
	struct store_record row = {
		.previous = previous,
		.instance = instance,
		.revision = revision,
		.version = revision % 3,
		.kind = STORE_EVENT,
		.time_ms = 1700000000000,
		.event = "add",
		.ref = "7",
		.operations = operations,
	};

	if (store_append(store, &row) != STORE_OK)
		printf("# %s\n", store_message(store));
	return row.number;
}

/* A shared instance of which row, state and log stand at different revisions. */
static void
fill(struct store *store)
{
	struct store_instance instance = {.topic = "todos:a", .shared = true, .epoch = 5};
	struct store_instance other = {.topic = "todos:b", .shared = true, .epoch = 6};
	bool foreign;
	int64_t last;

	store_begin(store, &foreign);
	store_instance_add(store, &instance, "{\"n\":[0]}");
	store_instance_add(store, &other, "{\"other\":1}");
	last = append(store, instance.id, 0, 1, "[{\"op\":\"add\",\"path\":\"/n/-\",\"value\":1}]");
	append(store, other.id, 0, 1, "[{\"op\":\"add\",\"path\":\"/other\",\"value\":2}]");
	last = append(store, instance.id, last, 2, "[{\"op\":\"add\",\"path\":\"/n/-\",\"value\":2}]");
	instance.revision = 2;
	instance.version = 2;
	instance.last_commit = last;
	store_instance_put(store, &instance, NULL);
	last = append(store, instance.id, last, 3, "[{\"op\":\"add\",\"path\":\"/n/-\",\"value\":3}]");
	append(store, instance.id, last, 4, NULL);
	store_commit(store);
}

static int
lines(void)
{
	int count = 0;

	for (const char *at = said; *at != '\0'; at++)
		count += *at == '\n';
	return count;
}

int
main(void)
{
	char path[100];
	char command[100];
	char *error = NULL;
	struct store *store;

	alarm(60);
	snprintf(dir, sizeof dir, "/tmp/test_command.%d", (int)getpid());
	mkdir(dir, 0755);
	ok(run(command_show, "todos:a") == 1 && said[0] == '\0', "no database, and none is made");
	snprintf(path, sizeof path, "%s/seance.db", dir);
	ok(access(path, F_OK) != 0, "indeed");
	store = store_open_sqlite(path, STORE_NORMALLY, &error);
	fill(store);

	ok(run(command_show, "todos:a") == 0 &&
	       strcmp(said, "{\"topic\":\"todos:a\",\"version\":1,\"revision\":4,\"epoch\":5,"
	                    "\"state\":{\"n\":[0,1,2,3]}}\n") == 0,
	   "the state with all that the log has since");
	printf("# %s\n", said);
	ok(run(command_show, "todos:b") == 0 && strstr(said, "\"state\":{\"other\":2}") != NULL,
	   "another topic");
	ok(run(command_show, "todos:c") == 1 && said[0] == '\0', "one that is not there");
	ok(run(command_log, "todos:a") == 0 && lines() == 4, "the log has a line for each row");
	ok(strstr(said, "\"kind\":\"event\"") != NULL && strstr(said, "\"event\":\"add\"") != NULL &&
	       strstr(said, "\"operations\":[{\"op\":\"add\",\"path\":\"/n/-\",\"value\":1}]") != NULL,
	   "with what was done");
	ok(run(command_log, "todos:c") == 1 && said[0] == '\0', "none for a topic that is not there");
	store_close(store);
	snprintf(command, sizeof command, "rm -r %s", dir);
	if (system(command) != 0)
		printf("# %s is left\n", dir);
	return done();
}
