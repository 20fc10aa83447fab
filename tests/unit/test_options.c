/*
 * The command line's options.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "tap.h"

static struct options options;
static char said[1000];

/* Reads one option; what was said on standard error is in `said`. */
static bool
reads(const char *option)
{
	char text[200];
	char *argv[] = {"program", "serve", text, NULL};
	char file[] = "/tmp/test_options.XXXXXX";
	int fd = mkstemp(file);
	int before = dup(STDERR_FILENO);
	ssize_t len;
	bool result;

	snprintf(text, sizeof text, "%s", option);
	fflush(stderr);
	dup2(fd, STDERR_FILENO);
	result = options_read(&options, 3, argv, 2);
	fflush(stderr);
	dup2(before, STDERR_FILENO);
	len = pread(fd, said, sizeof said - 1, 0);
	said[len > 0 ? len : 0] = '\0';
	close(fd);
	close(before);
	unlink(file);
	return result;
}

static bool
one_line(void)
{
	const char *end = strchr(said, '\n');

	return strncmp(said, "seance: ", 8) == 0 && end != NULL && end[1] == '\0';
}

static void
test_defaults(void)
{
	char *argv[] = {"program", "serve", NULL};

	ok(options_read(&options, 2, argv, 2), "no options");
	ok(strcmp(options.dir, "run") == 0 && strcmp(options.origins, "") == 0, "texts");
	ok(options.durability == STORE_FULLY, "durability");
	ok(options.max_sockets == 100000 && options.max_sockets_per_address == 20000 &&
	       options.max_joins == 100,
	   "counts");
	ok(options.message_bytes == 1048576 && options.state_bytes == 16777216 &&
	       options.cache_bytes == 67108864,
	   "sizes");
	ok(options.log_rows == 100000 && options.grace_s == 60 && options.callback_s == 10 &&
	       options.spares == 8,
	   "times and numbers");
	ok(options.socket_mode == 0660, "mode");
}

static void
test_good(void)
{
	ok(reads("--dir=/var/lib/x=y") && strcmp(options.dir, "/var/lib/x=y") == 0,
	   "the value may hold a =");
	ok(reads("--durability=normal") && options.durability == STORE_NORMALLY, "durability");
	ok(reads("--origins=") && strcmp(options.origins, "") == 0, "an empty text");
	ok(reads("--max-joins=1") && options.max_joins == 1, "the least");
	ok(reads("--callback-seconds=0") && options.callback_s == 0, "none");
	ok(reads("--socket-mode=0600") && options.socket_mode == 0600, "octal");
	ok(reads("--cache-bytes=10000000000") && options.cache_bytes == 10000000000u, "beyond 32 bits");
}

static void
test_bad(void)
{
	static const char *const bad[] = {
		"serve",
		"-h",
		"--",
		"--=5",
		"--no-such=1",
		"--max-join=1",
		"--max-joinss=1",
		"--max-joins",
		"--max-joins=",
		"--max-joins=0",
		"--max-joins=-1",
		"--max-joins=+1",
		"--max-joins= 1",
		"--max-joins=1x",
		"--max-joins=2147483648",
		"--max-joins=99999999999999999999",
		"--durability=Full",
		"--durability=",
		"--socket-mode=888",
		"--socket-mode=7777",
		"--dir=",
		"--message-bytes=1e6",
		"--callback-seconds=100000",
	};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		ok(!reads(bad[i]) && one_line(), "refused in one line: %s", bad[i]);
}

int
main(void)
{
	alarm(60);
	test_defaults();
	test_good();
	test_bad();
	return done();
}
