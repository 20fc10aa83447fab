#include "loop_internal.h"

#include <signal.h>
#include <string.h>

#include "log.h"

_Thread_local struct member *loop_self;

/* --- blocking parts --- */

void
loop_part_begin(unsigned kind)
{
	uint64_t state;

	if (loop_self == NULL || loop_self->depth++ > 0)
		return;
	state = atomic_load_explicit(&loop_self->state, memory_order_relaxed);
	atomic_store(&loop_self->state, (state + PART_NEXT) | kind);
}

void
loop_part_end(void)
{
	if (loop_self == NULL || --loop_self->depth > 0)
		return;
	atomic_fetch_and(&loop_self->state, ~(uint64_t)PART);
}

bool
member_leads(struct member *member)
{
	return (atomic_load(&member->state) & LEADS) != 0;
}

void
loop_block_begin(struct loop *loop)
{
	(void)loop;
	loop_part_begin(PART_CALLBACK);
}

void
loop_block_end(struct loop *loop)
{
	(void)loop;
	loop_part_end();
}

/* --- members --- */

/* A thread that was slow and is through: what it did is committed and answered. */
static void
catch_up(struct member *member)
{
	struct loop *loop = member->loop;

	loop_turn(loop);
	/* The loop may wait longer than this turn has asked for: let it ask again. */
	loop_wake(loop);
}

/* Waits until the loop needs a leader; false when it is finished. */
static bool
baton_take(struct member *member)
{
	struct loop *loop = member->loop;
	bool taken = false;

	pthread_mutex_lock(&loop->lock);
	loop->idle++;
	while (!loop->vacant && !loop->finished)
		pthread_cond_wait(&loop->changed, &loop->lock);
	loop->idle--;
	if (!loop->finished) {
		loop->vacant = false;
		atomic_fetch_or(&member->state, LEADS);
		taken = true;
	}
	pthread_mutex_unlock(&loop->lock);
	return taken;
}

void
member_run(struct member *member)
{
	loop_self = member;
	while (baton_take(member)) {
		loop_lead(member);
		if (!member_leads(member))
			catch_up(member);
		else
			atomic_fetch_and(&member->state, ~(uint64_t)LEADS);
	}
	loop_self = NULL;
}

static void *
member_main(void *member)
{
	member_run(member);
	return NULL;
}

static void
block_signals(sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, before);
}

bool
loop_thread(pthread_t *thread, void *(*run)(void *), void *argument)
{
	sigset_t before;
	int error;

	/* Signals are for the threads of who uses the loop. */
	block_signals(&before);
	error = pthread_create(thread, NULL, run, argument);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0)
		log_line("no new thread: %s", strerror(error));
	return error == 0;
}

/* Under the lock. */
bool
member_start(struct loop *loop)
{
	struct member *member;

	if (loop->member_count == loop->member_max)
		return false;
	member = &loop->members[loop->member_count];
	member->loop = loop;
	if (!loop_thread(&member->thread, member_main, member)) {
		loop->member_max = loop->member_count; /* say it once */
		return false;
	}
	loop->member_count++;
	return true;
}
