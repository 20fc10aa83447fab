#include "poison.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "memory.h"

enum { SLOT_FREE, SLOT_TAKEN, SLOT_RUNS };

struct slot {
	atomic_int state;
	char name[POISON_NAME];
	int64_t number;
};

struct suspect {
	char name[POISON_NAME];
	int64_t number;
	int deaths;
};

/* The suspects change only while no worker runs callbacks; `count` publishes them. */
struct page {
	struct slot slots[POISON_SLOTS];
	struct suspect suspects[POISON_SUSPECTS];
	atomic_uint count; /* suspects ever added */
};

struct poison {
	int fd;
	struct page *page;
};

static void
name_copy(char *to, const char *name)
{
	size_t len = strnlen(name, POISON_NAME - 1);

	memcpy(to, name, len);
	to[len] = '\0';
}

struct poison *
poison_map(int fd)
{
	struct poison *poison;
	struct stat info;
	void *page;

	if (fstat(fd, &info) != 0 || info.st_size < (off_t)sizeof(struct page))
		return NULL;
	page = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return NULL;
	poison = memory_zeroed(1, sizeof *poison);
	poison->fd = fd;
	poison->page = page;
	return poison;
}

struct poison *
poison_new(void)
{
	struct poison *poison = NULL;
	int fd = memfd_create("seance-poison", MFD_CLOEXEC);

	if (fd >= 0 && ftruncate(fd, (off_t)sizeof(struct page)) == 0)
		poison = poison_map(fd);
	if (poison == NULL)
		log_die("no shared memory: %s", strerror(errno));
	return poison;
}

int
poison_fd(const struct poison *poison)
{
	return poison->fd;
}

void
poison_free(struct poison *poison)
{
	if (poison == NULL)
		return;
	munmap(poison->page, sizeof *poison->page);
	close(poison->fd);
	free(poison);
}

int
poison_enter(struct poison *poison, const char *name, int64_t number)
{
	for (int i = 0; i < POISON_SLOTS; i++) {
		struct slot *slot = &poison->page->slots[i];
		int expected = SLOT_FREE;

		if (atomic_load_explicit(&slot->state, memory_order_relaxed) != SLOT_FREE ||
		    !atomic_compare_exchange_strong(&slot->state, &expected, SLOT_TAKEN))
			continue;
		name_copy(slot->name, name);
		slot->number = number;
		atomic_store(&slot->state, SLOT_RUNS);
		return i;
	}
	return -1;
}

void
poison_leave(struct poison *poison, int slot)
{
	if (slot >= 0)
		atomic_store(&poison->page->slots[slot].state, SLOT_FREE);
}

static unsigned
suspects_kept(const struct page *page)
{
	unsigned count = atomic_load_explicit(&page->count, memory_order_acquire);

	return count < POISON_SUSPECTS ? count : POISON_SUSPECTS;
}

static struct suspect *
suspect_find(struct page *page, const char *name, int64_t number)
{
	unsigned kept = suspects_kept(page);

	for (unsigned i = 0; i < kept; i++) {
		struct suspect *suspect = &page->suspects[i];

		if (suspect->number == number && strncmp(suspect->name, name, POISON_NAME - 1) == 0)
			return suspect;
	}
	return NULL;
}

static void
suspect_add(struct page *page, const struct slot *slot)
{
	struct suspect *suspect = suspect_find(page, slot->name, slot->number);
	unsigned count = atomic_load(&page->count);

	if (suspect != NULL) {
		suspect->deaths++;
		return;
	}
	suspect = &page->suspects[count % POISON_SUSPECTS];
	memcpy(suspect->name, slot->name, POISON_NAME);
	suspect->number = slot->number;
	suspect->deaths = 1;
	/* Past the ring's size the number must keep its place in the ring and not wrap to 0. */
	atomic_store(&page->count, count + 1 < 2 * POISON_SUSPECTS ? count + 1 : POISON_SUSPECTS);
}

static void
slots_clear(struct page *page, bool suspected)
{
	for (int i = 0; i < POISON_SLOTS; i++) {
		struct slot *slot = &page->slots[i];

		if (suspected && atomic_load(&slot->state) == SLOT_RUNS)
			suspect_add(page, slot);
		atomic_store(&slot->state, SLOT_FREE);
	}
}

void
poison_bury(struct poison *poison)
{
	slots_clear(poison->page, true);
}

void
poison_forget(struct poison *poison)
{
	slots_clear(poison->page, false);
}

int
poison_deaths(const struct poison *poison, const char *name, int64_t number)
{
	const struct suspect *suspect = suspect_find(poison->page, name, number);

	return suspect != NULL ? suspect->deaths : 0;
}

/* How many that are like it, up to the '@' at len, have killed too often. */
static int
killers_like(const struct page *page, const char *name, size_t len, int64_t number)
{
	unsigned kept = suspects_kept(page);
	int count = 0;

	for (unsigned i = 0; i < kept; i++) {
		const struct suspect *suspect = &page->suspects[i];

		count += suspect->number == number && suspect->deaths >= POISON_DEATHS &&
		         strncmp(suspect->name, name, len) == 0;
	}
	return count;
}

bool
poison_kills(const struct poison *poison, const char *name, int64_t number)
{
	const char *at = strchr(name, '@');

	if (poison_deaths(poison, name, number) >= POISON_DEATHS)
		return true;
	return at != NULL &&
	       killers_like(poison->page, name, (size_t)(at - name) + 1, number) >= POISON_LIKE;
}
