#include "loop_internal.h"

#include <time.h>

#include "log.h"

void
monitor_rouse(struct loop *loop)
{
	atomic_fetch_add(&loop->rounds, 1);
	if (!atomic_load(&loop->monitor_asleep))
		return;
	pthread_mutex_lock(&loop->monitor_lock);
	atomic_store(&loop->monitor_asleep, false);
	pthread_cond_signal(&loop->monitor_wake);
	pthread_mutex_unlock(&loop->monitor_lock);
}

/* Takes the loop from a member that is still in the part `state`, if there is somebody to take over. */
static void
relieve(struct loop *loop, struct member *member, uint64_t state)
{
	uint_fast64_t expected = state;

	pthread_mutex_lock(&loop->lock);
	if ((loop->idle > 0 || member_start(loop)) &&
	    atomic_compare_exchange_strong(&member->state, &expected, state & ~(uint64_t)LEADS)) {
		loop->vacant = true;
		member->seen = state & ~(uint64_t)LEADS;
		pthread_cond_signal(&loop->changed);
	}
	pthread_mutex_unlock(&loop->lock);
}

static void
part_check(struct loop *loop, struct member *member, uint64_t state, int64_t now)
{
	int64_t spent;

	if (member->seen != state) {
		member->seen = state;
		member->seen_ns = now;
		return;
	}
	spent = now - member->seen_ns;
	if ((state & LEADS) != 0 && spent >= RELIEVE_NS)
		relieve(loop, member, state);
	if ((state & PART_CALLBACK) != 0 && loop->limit_s > 0 &&
	    spent >= (int64_t)loop->limit_s * 1000000000)
		log_die("a callback has run for %d s: the process ends", loop->limit_s);
}

enum { SEES_NOTHING, SEES_SLOW, SEES_LOOP };

/* What is going on: nothing, parts of members that do not lead, or the leader in a part. */
static int
monitor_look(struct loop *loop)
{
	int64_t now = clock_ns();
	int sees = SEES_NOTHING;
	int count;

	pthread_mutex_lock(&loop->lock);
	count = loop->member_count;
	pthread_mutex_unlock(&loop->lock);
	for (int i = 0; i < count; i++) {
		struct member *member = &loop->members[i];
		uint64_t state = atomic_load(&member->state);

		if ((state & PART) == 0)
			continue;
		if ((state & LEADS) != 0)
			sees = SEES_LOOP;
		else if (sees == SEES_NOTHING)
			sees = SEES_SLOW;
		part_check(loop, member, state, now);
	}
	return sees;
}

static void
sleep_ns(long ns)
{
	struct timespec time = {.tv_nsec = ns};

	nanosleep(&time, NULL);
}

static void
deadline_in(struct timespec *deadline, int64_t ns)
{
	clock_gettime(CLOCK_MONOTONIC, deadline);
	ns += deadline->tv_nsec;
	deadline->tv_sec += ns / 1000000000;
	deadline->tv_nsec = ns % 1000000000;
}

/* Sleeps until the loop has waited; while a slow callback runs, for SLOW_TICK_NS at most. */
static void
monitor_sleep(struct loop *loop, uint64_t rounds, bool slow)
{
	struct timespec deadline;
	int error = 0;

	deadline_in(&deadline, SLOW_TICK_NS);
	pthread_mutex_lock(&loop->monitor_lock);
	atomic_store(&loop->monitor_asleep, true);
	while (atomic_load(&loop->monitor_asleep) && atomic_load(&loop->rounds) == rounds &&
	       !atomic_load(&loop->monitor_end) && error == 0) {
		if (slow)
			error = pthread_cond_timedwait(&loop->monitor_wake, &loop->monitor_lock, &deadline);
		else
			pthread_cond_wait(&loop->monitor_wake, &loop->monitor_lock);
	}
	atomic_store(&loop->monitor_asleep, false);
	pthread_mutex_unlock(&loop->monitor_lock);
}

void *
monitor_main(void *argument)
{
	struct loop *loop = argument;
	uint64_t rounds = 0;
	int quiet = 0;

	while (!atomic_load(&loop->monitor_end)) {
		uint64_t present = atomic_load(&loop->rounds);
		int sees = monitor_look(loop);

		quiet = sees == SEES_LOOP || present != rounds ? 0 : quiet + 1;
		rounds = present;
		if (quiet > QUIET_TICKS && (rounds & 1) != 0)
			monitor_sleep(loop, rounds, sees == SEES_SLOW);
		else
			sleep_ns(TICK_NS);
	}
	return NULL;
}

void
monitor_stop(struct loop *loop)
{
	pthread_mutex_lock(&loop->monitor_lock);
	atomic_store(&loop->monitor_end, true);
	pthread_cond_signal(&loop->monitor_wake);
	pthread_mutex_unlock(&loop->monitor_lock);
	pthread_join(loop->monitor, NULL);
}
