#include "loop_internal.h"

#include <stdlib.h>

#include "memory.h"

/* Under the lock. */
static struct watch *
watch_find(struct loop *loop, int fd)
{
	struct watch *watch = loop->watches;

	while (watch != NULL && watch->fd != fd)
		watch = watch->next;
	return watch;
}

void
loop_watch(struct loop *loop, int fd, unsigned events, loop_ready_fn *ready, void *context)
{
	struct watch *watch;

	pthread_mutex_lock(&loop->lock);
	watch = watch_find(loop, -1);
	if (watch == NULL) {
		watch = memory_zeroed(1, sizeof *watch);
		watch->source = SOURCE_WATCH;
		watch->next = loop->watches;
		loop->watches = watch;
	}
	watch->fd = fd;
	watch->ready = ready;
	watch->context = context;
	loop_epoll(loop, EPOLL_CTL_ADD, fd, events, watch);
	pthread_mutex_unlock(&loop->lock);
}

void
loop_rewatch(struct loop *loop, int fd, unsigned events)
{
	struct watch *watch;

	pthread_mutex_lock(&loop->lock);
	watch = watch_find(loop, fd);
	if (watch != NULL)
		loop_epoll(loop, EPOLL_CTL_MOD, fd, events, watch);
	pthread_mutex_unlock(&loop->lock);
}

void
loop_unwatch(struct loop *loop, int fd)
{
	struct watch *watch;

	pthread_mutex_lock(&loop->lock);
	watch = watch_find(loop, fd);
	if (watch != NULL) {
		loop_epoll(loop, EPOLL_CTL_DEL, fd, 0, NULL);
		watch->fd = -1;
	}
	pthread_mutex_unlock(&loop->lock);
}

void
watch_ready(struct loop *loop, struct watch *watch, unsigned events)
{
	loop_ready_fn *ready;
	void *context;
	int fd;

	pthread_mutex_lock(&loop->lock);
	fd = watch->fd;
	ready = watch->ready;
	context = watch->context;
	pthread_mutex_unlock(&loop->lock);
	if (fd >= 0)
		ready(context, fd, events);
}

void
watches_free(struct loop *loop)
{
	while (loop->watches != NULL) {
		struct watch *watch = loop->watches;

		loop->watches = watch->next;
		free(watch);
	}
}
