/*
 * poison - which message killed the program?
 *
 * A page shared between supervisor and worker process names the messages whose callbacks run.  What a
 * worker leaves there when it dies is suspected; a message that two workers died in is not run again.
 * The page is a file in memory, so that it survives exec.
 */
#ifndef SEANCE_POISON_H
#define SEANCE_POISON_H

#include <stdbool.h>
#include <stdint.h>

#define POISON_DEATHS   2   /* workers that a message may kill */
#define POISON_LIKE     3   /* of one kind that may do so */
#define POISON_SLOTS    64  /* callbacks that may run at once */
#define POISON_SUSPECTS 256 /* messages remembered; the oldest is forgotten first */
#define POISON_NAME     80  /* bytes of a name that count, with its NUL */

struct poison;

/* poison_new - an empty page, shared with the processes forked later; dies loudly when there is no memory */
struct poison *poison_new(void);

/* poison_fd - the page's descriptor, to be handed to a program that is executed; it has close-on-exec set */
int poison_fd(const struct poison *poison);

/* poison_map - the page that another process has made; fd is taken; NULL when it is none */
struct poison *poison_map(int fd);

/* poison_free - the page lives on in the other processes; NULL is ignored */
void poison_free(struct poison *poison);

/* poison_enter - a callback for (name, number) begins; returns its slot, -1 when all are taken */
int poison_enter(struct poison *poison, const char *name, int64_t number);

/* poison_leave - it has ended; slot -1 is ignored */
void poison_leave(struct poison *poison, int slot);

/* poison_bury - by the supervisor, when a worker has died of itself: what it ran is suspected once more */
void poison_bury(struct poison *poison);

/* poison_forget - by the supervisor, when a worker was ended by it: what it ran is not suspected */
void poison_forget(struct poison *poison);

/* poison_deaths - workers that died in (name, number) */
int poison_deaths(const struct poison *poison, const char *name, int64_t number);

/*
 * poison_kills - is it not to be run any more?
 *
 * POISON_DEATHS workers died in it; or in each of POISON_LIKE others of that number whose names have the same
 * beginning up to their '@': "broadcast@7" is that of the broadcast `number` to instance 7.
 */
bool poison_kills(const struct poison *poison, const char *name, int64_t number);

#endif
