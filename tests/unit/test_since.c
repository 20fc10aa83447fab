/* What has changed after a position, up to another: the log's rows, and the bounds of looking for them. */
#include "engine_internal.h"
#include "since.h"
#include "tap.h"

#define EPOCH       7
#define MAX_VERSION 9

static const struct seance_channel patches = {.topic = "*", .message_builder = SEANCE_PATCHES};
static const struct seance_channel full = {.topic = "*", .message_builder = SEANCE_FULL_STATE};

static struct engine engine;
static struct instance instance;

/* --- a log --- */

static void
begin_log(void)
{
	bool foreign;

	store_close(engine.store);
	engine = (struct engine){.store = store_open_memory()};
	instance = (struct instance){.channel = &patches, .row = {.id = 1, .epoch = EPOCH}};
	ok(store_begin(engine.store, &foreign) == STORE_OK, "a log");
}

static void
append(enum store_kind kind, const char *operations)
{
	struct store_instance *row = &instance.row;

	row->revision += kind == STORE_EVENT;
	row->version = row->revision % (MAX_VERSION + 1);
	struct store_record record = {.instance = 1,
	                              .previous = row->last_commit,
	                              .revision = row->revision,
	                              .version = row->version,
	                              .kind = kind,
	                              .operations = operations};
	if (store_append(engine.store, &record) == STORE_OK)
		row->last_commit = record.number;
}

static void
append_many(int count, enum store_kind kind)
{
	while (count-- > 0)
		append(kind, kind == STORE_EVENT ? "[]" : NULL);
}

/* --- what is read of it --- */

/* The patches between two revisions; -1: the state is to be told instead. */
static int
told_at(int64_t epoch, int64_t revision, int64_t until)
{
	struct since since;
	bool good = since_read(&engine, &instance, epoch, revision, until, &since);
	int count = good ? (int)since.count : -1;

	for (int i = 0; i < count; i++)
		if (since.records[i]->row.revision != until - i)
			count = -2;
	if (good && since.version != until % (MAX_VERSION + 1))
		count = -3;
	since_release(&since);
	return count;
}

static int
told(int64_t revision, int64_t until)
{
	return told_at(EPOCH, revision, until);
}

static void
test_each(void)
{
	bool good = true;

	begin_log();
	for (int i = 0; i < 25; i++) {
		append_many(i % 3, STORE_JOIN);
		append(STORE_EVENT, "[]");
		append_many(i % 2, STORE_LEAVE);
	}
	for (int until = 0; until <= 25; until++)
		for (int revision = 0; revision <= until; revision++)
			good = good && told(revision, until) == until - revision;
	ok(good, "all from one revision to another, with the version there");
	ok(told(3, 2) == -1 && told(25, 26) == -1, "no way back, and none ahead");
	ok(told_at(EPOCH + 1, 3, 5) == -1, "another history's");
	instance.channel = &full;
	ok(told(3, 5) == -1 && told(25, 25) == 0, "who tells whole states has no patches");
	instance.channel = &patches;
	instance.row.id = 0;
	ok(told(0, 0) == -1, "nothing was stored yet");
}

static void
test_pruned(void)
{
	int deleted;

	begin_log();
	append_many(10, STORE_EVENT);
	ok(store_prune(engine.store, 4, 100, &deleted) == STORE_OK && deleted == 4, "four rows go");
	ok(told(4, 6) == 2 && told(5, 10) == 5, "what is after them is told");
	ok(told(3, 6) == -1 && told(0, 10) == -1, "what is not, is not");
	ok(told(5, 5) == 0, "nothing, and the version of that");
	ok(told(4, 4) == -1, "... which is not known any more");
}

static void
test_patches(void)
{
	begin_log();
	append_many(SINCE_PATCHES + 5, STORE_EVENT);
	ok(told(5, SINCE_PATCHES + 5) == SINCE_PATCHES && told(4, SINCE_PATCHES + 4) == SINCE_PATCHES,
	   "so many patches, wherever they begin");
	ok(told(4, SINCE_PATCHES + 5) == -1, "one more");
	ok(told(0, 3) == 3, "a few that are further back");
}

static void
test_rows(void)
{
	begin_log();
	append_many(2, STORE_EVENT);
	append_many(SINCE_ROWS - 1, STORE_JOIN);
	ok(told(1, 2) == 1, "so many rows are looked at");
	append_many(1, STORE_JOIN);
	ok(told(1, 2) == -1, "one more");
	ok(told(2, 2) == 0, "nothing needs no look");
	begin_log();
	append_many(SINCE_ROWS, STORE_EVENT);
	ok(told(SINCE_ROWS / 2, SINCE_ROWS / 2 + 9) == 9, "the middle is found");
	append_many(9, STORE_EVENT);
	ok(told(1, 3) == -1, "not the beginning of a log that is longer");
}

static void
test_bytes(void)
{
	static char operations[SINCE_BYTES / 4 + 1];

	snprintf(operations, sizeof(operations), "[%*s]", (int)sizeof(operations) - 3, "");
	begin_log();
	for (int i = 0; i < 6; i++)
		append(STORE_EVENT, operations);
	ok(told(0, 4) == 4 && told(2, 6) == 4, "so many bytes, wherever they begin");
	ok(told(1, 6) == -1, "more");
}

int
main(void)
{
	test_each();
	test_pruned();
	test_patches();
	test_rows();
	test_bytes();
	store_close(engine.store);
	return done();
}
