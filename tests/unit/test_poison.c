/*
 * The page of messages that may kill the program.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "poison.h"
#include "tap.h"

static void
test_life(void)
{
	struct poison *poison = poison_new();
	int slots[POISON_SLOTS];
	int good = 0;

	ok(poison_deaths(poison, "a", 1) == 0, "nothing is suspected at first");
	for (int i = 0; i < POISON_SLOTS; i++) {
		slots[i] = poison_enter(poison, "a", i);
		good += slots[i] >= 0;
	}
	ok(good == POISON_SLOTS && poison_enter(poison, "a", 99) == -1,
	   "as many callbacks as slots, then -1");
	poison_leave(poison, -1);
	for (int i = 0; i < POISON_SLOTS; i++)
		poison_leave(poison, slots[i]);
	poison_bury(poison);
	ok(poison_deaths(poison, "a", 0) == 0, "what has ended is not suspected");

	poison_enter(poison, "a", 7);
	poison_leave(poison, poison_enter(poison, "a", 8));
	poison_enter(poison, "b", 7);
	poison_bury(poison);
	ok(poison_deaths(poison, "a", 7) == 1 && poison_deaths(poison, "b", 7) == 1, "what ran is");
	ok(poison_deaths(poison, "a", 8) == 0 && poison_deaths(poison, "c", 7) == 0, "others are not");
	poison_bury(poison);
	ok(poison_deaths(poison, "a", 7) == 1, "each death counts once");
	poison_enter(poison, "a", 7);
	poison_forget(poison);
	ok(poison_deaths(poison, "a", 7) == 1, "who was ended by the supervisor is not suspected");
	poison_enter(poison, "a", 7);
	poison_bury(poison);
	ok(poison_deaths(poison, "a", 7) == POISON_DEATHS, "the second death counts");
	ok(poison_enter(poison, "x", 1) == 0, "the slots are free again");
	poison_free(poison);
}

/* A broadcast is given to many: one instance's trouble is not the others', unless it is that of several. */
static void
test_like(void)
{
	struct poison *poison = poison_new();
	static const char *const names[] = {"broadcast@1", "broadcast@2", "broadcast@3"};

	for (int i = 0; i < 3; i++) {
		for (int death = 0; death < POISON_DEATHS; death++) {
			ok(!poison_kills(poison, names[i], 7), "run for the %d. time", death + 1);
			poison_enter(poison, names[i], 7);
			poison_bury(poison);
		}
		ok(poison_kills(poison, names[i], 7), "not again");
		ok(poison_kills(poison, "broadcast@4", 7) == (i == 2), "another of the same broadcast: %s",
		   i == 2 ? "not any more" : "it is");
	}
	ok(!poison_kills(poison, "broadcast@4", 8) && !poison_kills(poison, "timer@4", 7) &&
	       !poison_kills(poison, "broadcast", 7),
	   "what is not like it is run");
	poison_free(poison);
}

static void
test_names(void)
{
	struct poison *poison = poison_new();
	char long_name[300];

	memset(long_name, 'n', sizeof long_name);
	long_name[sizeof long_name - 1] = '\0';
	poison_enter(poison, long_name, 1);
	poison_enter(poison, "", 1);
	poison_bury(poison);
	ok(poison_deaths(poison, long_name, 1) == 1, "a name longer than the page keeps");
	ok(poison_deaths(poison, "", 1) == 1 && poison_deaths(poison, "n", 1) == 0, "an empty one");
	poison_free(poison);
}

static void
test_oldest(void)
{
	struct poison *poison = poison_new();
	int kept = 0;

	for (int i = 0; i < 3 * POISON_SUSPECTS; i++) {
		poison_enter(poison, "many", i);
		poison_bury(poison);
	}
	for (int i = 0; i < 3 * POISON_SUSPECTS; i++)
		kept += poison_deaths(poison, "many", i);
	ok(kept == POISON_SUSPECTS && poison_deaths(poison, "many", 0) == 0 &&
	       poison_deaths(poison, "many", 3 * POISON_SUSPECTS - 1) == 1,
	   "the oldest are forgotten");
	poison_free(poison);
}

static void
test_processes(void)
{
	struct poison *poison = poison_new();
	struct poison *same = poison_map(dup(poison_fd(poison)));
	pid_t child = fork();

	if (child == 0) {
		poison_enter(poison, "child", 5);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	poison_bury(poison);
	ok(poison_deaths(poison, "child", 5) == 1, "what another process left there is buried");
	ok(same != NULL && poison_deaths(same, "child", 5) == 1, "and seen through the descriptor");
	ok(poison_map(-1) == NULL, "what is no page is not mapped");
	poison_free(same);
	poison_free(poison);
	poison_free(NULL);
}

int
main(void)
{
	alarm(60);
	test_life();
	test_like();
	test_names();
	test_oldest();
	test_processes();
	return done();
}
