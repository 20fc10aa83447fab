#define _GNU_SOURCE /* asprintf, statx */

#include "witness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_backend.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

struct page {
	atomic_int_least64_t born, generation, commit, boot;
};

_Static_assert(sizeof(struct page) == sizeof(struct witness_page), "the file is both");

struct witness {
	struct page *page;
	int64_t born, boot; /* as they are now */
};

/* --- what is now --- */

/* The running boot of the machine; 0: it does not say. */
static int64_t
boot_now(void)
{
	char text[17] = "";
	int file = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
	ssize_t len = file < 0 ? 0 : read(file, text, sizeof(text) - 1);
	uint64_t hash = 0;

	for (ssize_t i = 0; i < len; i++)
		hash = hash * 31 + (unsigned char)text[i];
	if (file >= 0)
		close(file);
	return (int64_t)(hash >> 1);
}

/* 0 where the file system does not keep it. */
static int64_t
born_now(int file)
{
	struct statx info = {.stx_mask = 0};

	if (statx(file, "", AT_EMPTY_PATH, STATX_BTIME, &info) != 0 || !(info.stx_mask & STATX_BTIME))
		return 0;
	return (int64_t)info.stx_btime.tv_sec * 1000000000 + info.stx_btime.tv_nsec;
}

/* --- the file --- */

/* As SQLite does with its own files beside the database: who may write that may write it. */
static void
share_as(const char *database, int file)
{
	struct stat info;

	if (stat(database, &info) != 0)
		return;
	if (geteuid() == 0 && fchown(file, info.st_uid, info.st_gid) != 0)
		return;
	(void)fchmod(file, info.st_mode & 0666);
}

/* All of it is on the disk's account at once: a full disk is no SIGBUS later. */
static bool
make_file(const char *database, const char *path)
{
	int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (file < 0)
		return errno == EEXIST;
	share_as(database, file);
	close(file);
	return true;
}

static bool
map(struct witness *witness, int file)
{
	int result = posix_fallocate(file, 0, sizeof(struct page));
	void *page = MAP_FAILED;

	if (result != 0)
		errno = result;
	else
		page = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (page == MAP_FAILED)
		return false;
	*witness = (struct witness){.page = page, .born = born_now(file), .boot = boot_now()};
	return true;
}

static bool
open_path(struct witness *witness, const char *database, const char *path)
{
	int file = make_file(database, path) ? open(path, O_RDWR | O_CLOEXEC) : -1;
	bool good = file >= 0 && map(witness, file);
	int error = errno;

	if (file >= 0)
		close(file);
	errno = error;
	return good;
}

struct witness *
witness_open(const char *database)
{
	struct witness *witness = store_check_memory(calloc(1, sizeof(*witness)));
	char *path;

	if (asprintf(&path, "%s-witness", database) < 0)
		store_no_memory();
	if (!open_path(witness, database, path)) {
		free(witness);
		witness = NULL;
	}
	free(path);
	return witness;
}

void
witness_close(struct witness *witness)
{
	if (witness == NULL)
		return;
	munmap(witness->page, sizeof(struct page));
	free(witness);
}

/* --- what it says --- */

struct witness_page
witness_look(const struct witness *witness)
{
	struct page *page = witness->page;

	return (struct witness_page){page->born, page->generation, page->commit, page->boot};
}

bool
witness_agrees(const struct witness *witness, const struct witness_page *seen, int64_t generation,
               int64_t commit)
{
	return seen->born == witness->born && seen->generation == generation && generation != 0 &&
	       seen->commit <= commit && (seen->boot == 0 || seen->boot == witness->boot);
}

void
witness_begin(struct witness *witness, int64_t generation, int64_t commit)
{
	struct page *page = witness->page;

	page->born = witness->born;
	page->boot = 0;
	page->commit = commit;
	page->generation = generation;
}

void
witness_raise(struct witness *witness, int64_t commit)
{
	int_least64_t known = witness->page->commit;

	while (known < commit && !atomic_compare_exchange_weak(&witness->page->commit, &known, commit))
		;
}

bool
witness_unsafe(struct witness *witness)
{
	if (witness->page->boot == witness->boot)
		return true;
	witness->page->boot = witness->boot;
	return msync(witness->page, sizeof(struct page), MS_SYNC) == 0;
}
