/* The SQLite store beyond the contract: files, other connections, full disks, sudden deaths. */
#define _GNU_SOURCE

#include "store.h"
#include "tap.h"
#include "test_store_dump.h"
#include "witness.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/test_store_sqlite.XXXXXX";

/* --- small steps --- */

/* The path of a file in the test's folder; four of them live at a time. */
static const char *
path_of(const char *name)
{
	static char paths[4][128];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

static struct store *
open_store(const char *name)
{
	char *error = NULL;
	struct store *store = store_open_sqlite(path_of(name), STORE_NORMALLY, &error);

	if (store == NULL)
		fprintf(stderr, "%s\n", error);
	free(error);
	return store;
}

/* Does opening fail with one line that has `reason` in it? */
static bool
refused(const char *name, const char *reason)
{
	char *error = NULL;
	struct store *store = store_open_sqlite(path_of(name), STORE_FULLY, &error);
	bool good =
		store == NULL && error != NULL && strstr(error, reason) != NULL && strchr(error, '\n') == NULL;

	printf("# %s\n", error == NULL ? "opened" : error);
	store_close(store);
	free(error);
	return good;
}

/* The first column of a query's first row as text, through a connection of its own. */
static char *
ask(const char *name, const char *sql)
{
	sqlite3 *connection = NULL;
	sqlite3_stmt *statement = NULL;
	char *text = NULL;

	if (sqlite3_open(path_of(name), &connection) == SQLITE_OK &&
	    sqlite3_prepare_v2(connection, sql, -1, &statement, NULL) == SQLITE_OK &&
	    sqlite3_step(statement) == SQLITE_ROW && sqlite3_column_text(statement, 0) != NULL)
		text = strdup((const char *)sqlite3_column_text(statement, 0));
	sqlite3_finalize(statement);
	sqlite3_close(connection);
	return text;
}

static bool
answers(const char *name, const char *sql, const char *expected)
{
	char *text = ask(name, sql);
	bool good = text != NULL && strcmp(text, expected) == 0;

	if (!good)
		printf("# %s: %s\n", sql, text == NULL ? "nothing" : text);
	free(text);
	return good;
}

static void
run_sql(const char *name, const char *sql)
{
	sqlite3 *connection = NULL;

	if (sqlite3_open(path_of(name), &connection) != SQLITE_OK ||
	    sqlite3_exec(connection, sql, NULL, NULL, NULL) != SQLITE_OK)
		printf("# %s: %s\n", sql, sqlite3_errmsg(connection));
	sqlite3_close(connection);
}

static void
write_file(const char *name, const char *content)
{
	FILE *file = fopen(path_of(name), "w");

	if (file == NULL)
		return;
	fputs(content, file);
	fclose(file);
}

static unsigned
mode_of(const char *name)
{
	struct stat status;

	return stat(path_of(name), &status) == 0 ? (unsigned)status.st_mode & 0777 : 0;
}

static void
append(struct store *store, int64_t instance)
{
	struct store_record record = {.instance = instance,
	                              .kind = STORE_EVENT,
	                              .time_ms = 1000,
	                              .event = "add",
	                              .operations = "[{\"op\":\"add\",\"path\":\"/-\",\"value\":1}]"};

	(void)!store_append(store, &record);
}

/* Begins, appends, commits; was there a foreign commit? */
static bool
commit_one(struct store *store)
{
	bool foreign = false;

	if (!ok(store_begin(store, &foreign) == STORE_OK, "begin"))
		return false;
	append(store, 1);
	ok(store_commit(store) == STORE_OK, "commit");
	return foreign;
}

/* --- files --- */

static void
test_modes(void)
{
	struct store *store;

	umask(0);
	store = open_store("modes.db");
	commit_one(store);
	ok(mode_of("modes.db") == 0600 && mode_of("modes.db-wal") == 0600 && mode_of("modes.db-shm") == 0600,
	   "only the owner reads what it makes");
	store_close(store);
	ok(mode_of("modes.db-wal") == 0, "closing leaves one file");
	ok(answers("modes.db", "PRAGMA journal_mode", "wal") &&
	       answers("modes.db", "PRAGMA page_size", "4096"),
	   "write-ahead log, pages of 4096 bytes");
	ok(answers("modes.db", "PRAGMA integrity_check", "ok"), "it is sound");
	umask(022);
}

static void
test_refusals(void)
{
	char *before;

	ok(refused("none/x.db", "No such file"), "no folder");
	ok(refused("", "directory"), "a folder");
	write_file("text.db", "This is no database.\n");
	ok(refused("text.db", "not a database"), "a text");
	run_sql("other.db", "CREATE TABLE x (y)");
	before = ask("other.db", "PRAGMA journal_mode");
	ok(refused("other.db", "another program") && answers("other.db", "PRAGMA journal_mode", before),
	   "a database of another program, which is left as it is");
	free(before);
	run_sql("other2.db", "PRAGMA application_id = 5");
	ok(refused("other2.db", "another program"), "the same without tables");
	store_close(open_store("newer.db"));
	run_sql("newer.db", "PRAGMA user_version = 1000");
	ok(refused("newer.db", "schema 1000 is newer"), "a newer schema");
	write_file("empty.db", "");
	store_close(open_store("empty.db"));
	ok(answers("empty.db", "SELECT count(*) FROM channels", "0"), "an empty file is as good as none");
}

/* --- a database that an older program has made --- */

/* What makes up a database: tables, columns, indexes, views. */
static char *
shape_of(const char *name)
{
	return ask(name, "SELECT group_concat(line, x'0a') FROM (SELECT"
	                 " master.type || ' ' || master.name || ' ' || ifnull(info.name, '') || ' ' ||"
	                 " ifnull(info.type || info.\"notnull\" || info.pk, '') AS line"
	                 " FROM sqlite_master AS master LEFT JOIN pragma_table_info(master.name) AS info"
	                 " WHERE master.name NOT LIKE 'sqlite%' ORDER BY line)");
}

static char *
read_file(const char *path)
{
	FILE *file = fopen(path, "r");
	char *text = calloc(1, 65536);

	if (file == NULL || fread(text, 1, 65535, file) == 0)
		printf("# %s cannot be read\n", path);
	if (file != NULL)
		fclose(file);
	return text;
}

static void
test_schema_1(void)
{
	char *schema = read_file("tests/unit/schema_1.sql"), *old, *new, *version;

	run_sql("old.db", schema);
	run_sql(
		"old.db",
		"INSERT INTO instances VALUES (1, 't', 1, 9, 5, 5, 2, 1000, 5, 5, '{\"n\":5}');"
		"INSERT INTO sockets VALUES (1, 'a', '::1', 0, 1, '{\"who\":1}'), (2, 'b', '::1', 0, 1, NULL);"
		"INSERT INTO log VALUES (1, NULL, 1, 0, 0, 2, 1, 1, 5, '1', '1', NULL, NULL, NULL, '{}', NULL);"
		"INSERT INTO joins VALUES (1, NULL, 1, 1, 't', '1'), (2, NULL, 2, 1, 't', '1')");
	store_close(open_store("old.db"));
	store_close(open_store("new.db"));
	old = shape_of("old.db");
	new = shape_of("new.db");
	if (!ok(old != NULL && strcmp(old, new) == 0, "schema 1: brought up to date, it is as a new one"))
		printf("# %s\n# ---\n# %s\n", old, new);
	version = ask("new.db", "PRAGMA user_version");
	ok(answers("old.db", "PRAGMA user_version", version), "its number, too");
	ok(answers("old.db", "SELECT group_concat(socket || assigns) FROM joined",
	           "a{\"who\":1,\"state\":{\"n\":5},\"version\":5},b{\"state\":{\"n\":5},\"version\":5}"),
	   "a socket's assigns are its joins'");
	free(schema);
	free(old);
	free(new);
	free(version);
}

static void
test_damaged_schema(void)
{
	int file;

	store_close(open_store("damaged.db"));
	file = open(path_of("damaged.db"), O_RDWR);
	ok(file >= 0 && pwrite(file, "garbage garbage garbage", 23, 100) == 23, "a damaged first page");
	close(file);
	ok(refused("damaged.db", "malformed"), "is refused");
}

/* As somebody who is not root, who may do anything. */
static void
test_permissions(void)
{
	bool root = geteuid() == 0;

	store_close(open_store("other_owner.db"));
	store_close(open_store("readable.db"));
	store_close(open_store("writable.db"));
	chmod(path_of("other_owner.db"), 0);
	chmod(path_of("readable.db"), 0444);
	chmod(path_of("writable.db"), 0666);
	chmod(folder, 0555);
	if (root && seteuid(65534) != 0)
		return;
	ok(refused("new.db", "Permission denied"), "a folder that is not writable");
	ok(refused("other_owner.db", "Permission denied"), "a file of somebody else");
	ok(refused("readable.db", "may only be read"), "a file that may only be read");
	ok(refused("writable.db", "folder: Permission denied"), "a file in a folder that is not writable");
	if (root && seteuid(0) != 0)
		return;
	chmod(folder, 0755);
}

/* --- what was handed out before --- */

static bool
copy_epoch(void *context, const struct store_instance *instance)
{
	*(int64_t *)context = instance->epoch;
	return true;
}

/* The epoch of the one instance, for who opens the database now. */
static int64_t
epoch_now(const char *name, enum store_durability durability)
{
	char *error = NULL;
	struct store *store = store_open_sqlite(path_of(name), durability, &error);
	int64_t epoch = 0;

	if (store == NULL || store_scan_instances(store, copy_epoch, &epoch) != STORE_OK)
		printf("# %s: %s\n", name, error != NULL ? error : "it cannot be read");
	store_close(store);
	free(error);
	return epoch;
}

/* A closed database: an instance, a socket, two commits. */
static void
make_history(const char *name, int64_t epoch)
{
	char *error = NULL;
	struct store *store = store_open_sqlite(path_of(name), STORE_FULLY, &error);
	struct store_instance instance = {.topic = "t", .shared = true, .epoch = epoch};
	struct store_socket socket = {.token = "known", .address = "::1"};
	bool foreign;

	ok(store_begin(store, &foreign) == STORE_OK &&
	       store_instance_add(store, &instance, "1") == STORE_OK &&
	       store_socket_add(store, &socket) == STORE_OK && store_commit(store) == STORE_OK,
	   "an instance and a socket");
	commit_one(store);
	commit_one(store);
	store_close(store);
}

static void
go_on(const char *name)
{
	char *error = NULL;
	struct store *store = store_open_sqlite(path_of(name), STORE_FULLY, &error);

	commit_one(store);
	store_close(store);
}

/* All of a database in one new file, in place of another. */
static void
copy_to(const char *name, const char *to)
{
	char sql[256];

	unlink(path_of(to));
	snprintf(sql, sizeof(sql), "VACUUM INTO '%s'", path_of(to));
	run_sql(name, sql);
}

static void
test_put_back(void)
{
	int64_t epoch;

	make_history("put.db", 500);
	ok(epoch_now("put.db", STORE_FULLY) == 500, "opened again: the epoch stays");
	copy_to("put.db", "backup.db");
	copy_to("backup.db", "put.db");
	ok(epoch_now("put.db", STORE_FULLY) == 500 &&
	       answers("put.db", "SELECT token FROM sockets", "known"),
	   "put back before another commit: nothing is missing");
	go_on("put.db");
	copy_to("backup.db", "put.db");
	epoch = epoch_now("put.db", STORE_FULLY);
	ok(epoch > 0 && epoch != 500, "put back after it: another epoch");
	ok(answers("put.db", "SELECT count(*) FROM sockets WHERE token <> 'known'", "1"),
	   "its socket is nobody's");
	go_on("put.db");
	ok(epoch_now("put.db", STORE_FULLY) == epoch, "the new epoch stays");
	copy_to("backup.db", "put.db");
	ok(epoch_now("put.db", STORE_FULLY) != 500, "put back a second time: not the first one again");
	go_on("put.db");
	go_on("put.db");
	go_on("backup.db");
	go_on("backup.db");
	epoch = epoch_now("backup.db", STORE_FULLY);
	copy_to("backup.db", "put.db");
	ok(epoch_now("put.db", STORE_FULLY) != epoch, "as far as before, but by another way");
}

static void
test_epoch_after_put_back(void)
{
	char *error = NULL;
	struct store *store;
	struct store_instance instance = {.topic = "late", .epoch = 700};
	int64_t epoch = 0;
	bool foreign;

	store = store_open_sqlite(path_of("put.db"), STORE_FULLY, &error);
	ok(store_begin(store, &foreign) == STORE_OK &&
	       store_instance_add(store, &instance, "1") == STORE_OK && store_commit(store) == STORE_OK &&
	       store_instance_get(store, instance.id, copy_epoch, &epoch) == STORE_OK && epoch == 700 &&
	       answers("put.db", "SELECT epoch FROM channels WHERE topic = 'late'", "700"),
	   "an instance that is born later has the epoch that it was born with");
	store_close(store);
}

/* A commit is known of as soon as it is made: the process may be killed. */
static void
test_put_back_after_a_kill(void)
{
	pid_t child;
	int how = 0;

	make_history("kill.db", 500);
	copy_to("kill.db", "kill_backup.db");
	fflush(stdout);
	child = fork();
	if (child == 0) {
		struct store *store = open_store("kill.db");
		bool foreign;

		if (store_begin(store, &foreign) == STORE_OK)
			append(store, 1);
		if (store_commit(store) == STORE_OK)
			raise(SIGKILL);
		_exit(1);
	}
	ok(waitpid(child, &how, 0) == child && WIFSIGNALED(how), "a commit, and killed");
	unlink(path_of("kill.db-wal"));
	unlink(path_of("kill.db-shm"));
	copy_to("kill_backup.db", "kill.db");
	ok(epoch_now("kill.db", STORE_FULLY) != 500, "put back: it is missing");
}

/* What was written into the log but not committed is missed by nobody. */
static void
test_rollback_unwitnessed(void)
{
	struct store *store;
	bool foreign;

	make_history("undone.db", 500);
	store = open_store("undone.db");
	ok(store_begin(store, &foreign) == STORE_OK, "begin");
	append(store, 1);
	store_rollback(store);
	ok(store_begin(store, &foreign) == STORE_OK && store_commit(store) == STORE_OK, "another one");
	store_close(store);
	ok(epoch_now("undone.db", STORE_FULLY) == 500, "a row that was rolled back");
}

/* --- the file beside it --- */

static struct witness_page
read_page(const char *name)
{
	struct witness_page page = {0};
	int file = open(path_of(name), O_RDONLY);

	ok(file >= 0 && pread(file, &page, sizeof(page), 0) == sizeof(page), "the witness has a page");
	close(file);
	return page;
}

/* Made by root, who looks at what is another user's. */
static void
test_witness_owner(void)
{
	struct stat info = {.st_uid = 1};
	uid_t owner = geteuid() == 0 ? 65534 : geteuid();

	make_history("owner.db", 500);
	ok(chmod(path_of("owner.db"), 0640) == 0 && chown(path_of("owner.db"), owner, (gid_t)-1) == 0 &&
	       unlink(path_of("owner.db-witness")) == 0,
	   "a database without a witness");
	ok(epoch_now("owner.db", STORE_FULLY) != 500, "it can't tell what was handed out");
	ok(mode_of("owner.db-witness") == 0640 && stat(path_of("owner.db-witness"), &info) == 0 &&
	       info.st_uid == owner,
	   "whose the database is, his is the witness");
}

static void
test_witness_lost(void)
{
	char command[300];

	make_history("lost.db", 500);
	copy_to("lost.db", "copy.db");
	ok(epoch_now("copy.db", STORE_FULLY) != 500, "a copy of the database goes another way");
	copy_to("lost.db", "copied.db");
	snprintf(command, sizeof(command), "cp -a %s %s", path_of("lost.db-witness"),
	         path_of("copied.db-witness"));
	ok(system(command) == 0, "a copy of both");
	if (read_page("lost.db-witness").born != 0) /* the file system keeps it */
		ok(epoch_now("copied.db", STORE_FULLY) != 500, "goes another way, too");
	ok(epoch_now("lost.db", STORE_FULLY) == 500, "the first does not mind");
	write_file("lost.db-witness", "");
	ok(epoch_now("lost.db", STORE_FULLY) != 500, "an empty witness knows nothing");
	unlink(path_of("lost.db-witness"));
	mkdir(path_of("lost.db-witness"), 0700);
	ok(refused("lost.db", "-witness"), "where it can't be, nothing is opened");
}

/* The machine has lost its power: the boot that the witness knows of was another. */
static void
cut_power(const char *name)
{
	struct witness_page page = read_page(name);
	int file = open(path_of(name), O_RDWR);

	page.boot += page.boot != 0;
	ok(pwrite(file, &page, sizeof(page), 0) == sizeof(page), "a power cut");
	close(file);
}

static void
test_power_cut(void)
{
	int64_t epoch;

	make_history("power.db", 500);
	cut_power("power.db-witness");
	ok(epoch_now("power.db", STORE_FULLY) == 500, "what was durable is there: the epoch stays");
	ok(epoch_now("power.db", STORE_NORMALLY) == 500 && epoch_now("power.db", STORE_FULLY) == 500,
	   "what is not yet durable is there without a power cut");
	cut_power("power.db-witness");
	epoch = epoch_now("power.db", STORE_NORMALLY);
	ok(epoch != 500, "commits may be missing: another epoch");
	ok(epoch_now("power.db", STORE_NORMALLY) == epoch, "... once");
	cut_power("power.db-witness");
	ok(epoch_now("power.db", STORE_FULLY) != epoch, "again, be it opened otherwise");
	epoch = epoch_now("power.db", STORE_FULLY);
	cut_power("power.db-witness");
	ok(epoch_now("power.db", STORE_FULLY) == epoch, "all is durable since");
}

/* --- what the sqlite3 shell shows --- */

static void
test_view(void)
{
	struct store *store = open_store("view.db");
	struct store_instance instance = {.topic = "todos:1", .shared = true, .epoch = 9};
	bool foreign;

	ok(store_begin(store, &foreign) == STORE_OK &&
	       store_instance_add(store, &instance, "{\"n\":0}") == STORE_OK,
	   "an instance");
	append(store, instance.id);
	append(store, instance.id);
	instance.revision = instance.state_revision = 1001;
	instance.version = instance.state_version = 0;
	instance.last_commit = 1;
	ok(store_instance_put(store, &instance, "{\"n\":1}") == STORE_OK, "with its state at version 0");
	instance.revision = 1002;
	instance.version = 1;
	instance.last_commit = 2;
	ok(store_instance_put(store, &instance, NULL) == STORE_OK && store_commit(store) == STORE_OK,
	   "and one revision on");
	ok(answers("view.db",
	           "SELECT topic || ' ' || scope || ' ' || version || ' ' || revision || ' ' || state || ' '"
	           " || state_revision || ' ' || epoch || ' ' || updated FROM channels",
	           "todos:1 shared 0 1002 {\"n\":1} 1001 9 1970-01-01 00:00:01"),
	   "the view: the version is the state's, beside a running program");
	ok(answers("view.db", "SELECT previous IS NULL AND socket IS NULL AND message IS NULL FROM log",
	           "1"),
	   "no number is NULL");
	store_close(store);
}

/* Who is joined, with a long state, odd names and assigns; one join has ended. */
static void
test_joined_view(void)
{
	struct store *store = open_store("joined.db");
	struct store_instance instance = {.topic = "t", .shared = true, .state_version = 7, .epoch = 9};
	struct store_socket socket = {.token = "tok", .address = "::1"};
	struct store_join join = {
		.number = 1, .socket = 1, .instance = 1, .topic = "t", .join_ref = "\"1\""};
	char state[20000];
	bool foreign;

	snprintf(state, sizeof(state), "{\"n\":null,\"pad\":\"%0*d\"}", 19000, 0);
	ok(store_begin(store, &foreign) == STORE_OK &&
	       store_instance_add(store, &instance, state) == STORE_OK &&
	       store_socket_add(store, &socket) == STORE_OK && store_join_add(store, &join) == STORE_OK,
	   "a join");
	join.number = 2;
	join.ended = 3;
	ok(store_join_add(store, &join) == STORE_OK, "one that has ended");
	join.number = 3;
	join.ended = 0;
	join.assigns = "{\"who\":\"a'b\"}";
	join.state_key = "a b.c[0]'";
	join.state_version_key = "\xc3\xa4";
	ok(store_join_add(store, &join) == STORE_OK && store_commit(store) == STORE_OK, "and another");
	ok(answers("joined.db",
	           "SELECT group_concat(topic || join_ref || socket || instance || replace(assigns,"
	           " printf('%019000d', 0), '...'), x'0a') FROM joined",
	           "t\"1\"tok1{\"state\":{\"n\":null,\"pad\":\"...\"},\"version\":7}\n"
	           "t\"1\"tok1{\"who\":\"a'b\",\"a b.c[0]'\":{\"n\":null,\"pad\":\"...\"},\"\xc3\xa4\":7}"),
	   "the view of joins shows state and version among the assigns");
	store_close(store);
}

/* Puts a state of so many bytes; the view then shows a state of that length. */
static bool
view_shows_length(struct store *store, size_t bytes, const char *expected)
{
	struct store_instance instance = {.id = 1, .revision = 1};
	char *state = calloc(1, bytes + 1);
	bool foreign;
	bool good;

	memset(state, '1', bytes);
	good = store_begin(store, &foreign) == STORE_OK &&
	       store_instance_put(store, &instance, state) == STORE_OK && store_commit(store) == STORE_OK;
	free(state);
	return good &&
	       answers("view.db",
	               "SELECT length(state) || ' ' || (SELECT count(*) FROM long_states) FROM channels",
	               expected);
}

static void
test_long_states(void)
{
	struct store *store = open_store("view.db");
	bool foreign;

	ok(view_shows_length(store, 16384, "16384 0"), "a short state stands in its instance's row");
	ok(view_shows_length(store, 16385, "16385 1"), "a long one apart; the view shows it all the same");
	ok(view_shows_length(store, 5, "5 0"), "which is gone when a short one takes its place");
	ok(view_shows_length(store, 20000, "20000 1") && store_begin(store, &foreign) == STORE_OK &&
	       store_instance_delete(store, 1) == STORE_OK && store_commit(store) == STORE_OK &&
	       answers("view.db", "SELECT count(*) FROM long_states", "0"),
	   "or with its instance");
	store_close(store);
}

static void
test_indexes(void)
{
	ok(answers("view.db", "SELECT group_concat(name || partial) FROM pragma_index_list('log')",
	           "log_keys1"),
	   "the log has no index but that of rows with keys");
}

/* --- other connections --- */

static void
test_foreign(void)
{
	struct store *a = open_store("foreign.db");
	struct store *b = open_store("foreign.db");
	bool foreign = true;

	ok(!store_changed(a) && !commit_one(a), "nobody else yet");
	ok(!store_changed(a) && store_changed(b), "one's own commit is not foreign; the other sees it");
	ok(store_begin(b, &foreign) == STORE_OK && foreign, "begin tells of it");
	store_rollback(b);
	ok(store_begin(b, &foreign) == STORE_OK && foreign && store_commit(b) == STORE_OK,
	   "and again after a rollback");
	ok(!store_changed(b) && store_begin(b, &foreign) == STORE_OK && !foreign,
	   "a commit, be it of nothing, acknowledges it");
	append(b, 1);
	ok(!store_changed(a), "what is not committed is not seen");
	store_rollback(b);
	ok(!store_changed(a), "nor what never is");
	ok(!commit_one(b) && commit_one(a) && commit_one(b) && !commit_one(b), "in turns");
	store_close(a);
	store_close(b);
}

/* Waits for a byte, then commits; what the process exits with. */
static int
commit_when_told(int told)
{
	struct store *store;
	bool foreign = true;
	bool good;
	char byte;

	(void)!read(told, &byte, 1);
	store = open_store("process.db");
	good = store != NULL && store_begin(store, &foreign) == STORE_OK && !foreign;
	if (good) {
		append(store, 1);
		good = store_commit(store) == STORE_OK;
	}
	store_close(store);
	return good ? 0 : 1;
}

/* The child is there before the store: no store may be taken over a fork. */
static void
test_foreign_process(void)
{
	struct store *store;
	int tell[2];
	int status = 1;
	pid_t child;

	if (!ok(pipe(tell) == 0, "a pipe"))
		return;
	child = fork();
	if (child == 0)
		_exit(commit_when_told(tell[0]));
	store = open_store("process.db");
	commit_one(store);
	(void)!write(tell[1], "", 1);
	waitpid(child, &status, 0);
	ok(status == 0 && store_changed(store) && commit_one(store), "a commit of another process");
	store_close(store);
	close(tell[0]);
	close(tell[1]);
}

static void
test_busy(void)
{
	struct store *a = open_store("busy.db");
	struct store *b = open_store("busy.db");
	struct timespec from, to;
	bool foreign;
	int64_t last;

	ok(store_begin(a, &foreign) == STORE_OK, "a writer");
	append(a, 1);
	ok(store_last(b, &last) == STORE_OK && last == 0, "does not hinder a reader");
	clock_gettime(CLOCK_MONOTONIC, &from);
	ok(store_begin(b, &foreign) == STORE_BUSY, "a second writer gets STORE_BUSY: %s", store_message(b));
	clock_gettime(CLOCK_MONOTONIC, &to);
	ok(to.tv_sec - from.tv_sec >= 1 && to.tv_sec - from.tv_sec <= 10, "after a while");
	ok(store_commit(a) == STORE_OK && commit_one(b), "and succeeds later");
	store_close(a);
	store_close(b);
}

static bool
commit_beside(void *context, const struct store_record *record)
{
	(void)record;
	commit_one(context);
	return true;
}

static void
test_reader_and_writer(void)
{
	struct store *reader = open_store("beside.db");
	struct store *writer = open_store("beside.db");
	int64_t last;

	commit_one(writer);
	commit_one(writer);
	ok(store_scan(reader, 0, INT64_MAX, commit_beside, writer) == STORE_OK &&
	       store_last(reader, &last) == STORE_OK && last == 4,
	   "a scan sees one state of the log, while it grows");
	store_close(reader);
	store_close(writer);
}

#define STARTERS 8

static void
test_start_together(void)
{
	pid_t children[STARTERS];
	int good = 0;

	for (int i = 0; i < STARTERS; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			struct store *store = open_store("together.db");

			store_close(store);
			_exit(store == NULL ? 1 : 0);
		}
	}
	for (int i = 0; i < STARTERS; i++) {
		int status = 1;

		waitpid(children[i], &status, 0);
		good += status == 0;
	}
	ok(good == STARTERS, "%d of %d processes make one new database together", good, STARTERS);
}

/* --- no room --- */

static void
limit_file_size(rlim_t bytes)
{
	struct rlimit limit;

	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = bytes;
	setrlimit(RLIMIT_FSIZE, &limit);
}

static enum store_status
write_much(struct store *store)
{
	struct store_instance instance = {.id = 1, .revision = 2};
	enum store_status status;
	char state[40000];
	bool foreign;

	memset(state, '1', sizeof(state));
	state[sizeof(state) - 1] = '\0';
	status = store_begin(store, &foreign);
	if (status != STORE_OK)
		return status;
	append(store, 1);
	status = store_instance_put(store, &instance, state);
	return status == STORE_OK ? store_commit(store) : status;
}

/* Whatever part of a transaction has room, nothing of it is left. */
static void
test_full(void)
{
	struct store *store = open_store("full.db");
	struct store_instance instance = {.topic = "a", .shared = true, .epoch = 1};
	enum store_status status = STORE_FULL;
	bool foreign;
	char *before;
	int failures = 0;
	int wrong = 0;

	ok(store_begin(store, &foreign) == STORE_OK &&
	       store_instance_add(store, &instance, "{}") == STORE_OK && store_commit(store) == STORE_OK,
	   "something to keep");
	before = dump_store(store);
	signal(SIGXFSZ, SIG_IGN);
	for (rlim_t bytes = 4096; status != STORE_OK && bytes < 1000000; bytes += 4096) {
		char *after;

		limit_file_size(bytes);
		status = write_much(store);
		limit_file_size(RLIM_INFINITY);
		if (status == STORE_OK)
			break;
		store_rollback(store);
		after = dump_store(store);
		failures++;
		wrong += status != STORE_FULL || strcmp(before, after) != 0;
		free(after);
	}
	ok(failures > 5 && wrong == 0, "without room %d times: STORE_FULL, and nothing has changed: %s",
	   failures, store_message(store));
	ok(status == STORE_OK, "with room it goes on");
	free(before);
	store_close(store);
	ok(answers("full.db", "PRAGMA integrity_check", "ok"), "it is sound");
}

/* --- sudden deaths --- */

/* Commits for ever; each transaction adds three rows and says so in the instance and in a mark. */
static void
write_for_ever(int ready)
{
	struct store *store = open_store("killed.db");
	bool foreign;
	int64_t last = 0;

	(void)!write(ready, "", 1);
	for (;;) {
		if (store_begin(store, &foreign) != STORE_OK || store_last(store, &last) != STORE_OK)
			_exit(1);
		for (int i = 0; i < 3; i++)
			append(store, 1);
		if (store_instance_put(store, &(struct store_instance){.id = 1, .revision = last + 3}, NULL) !=
		        STORE_OK ||
		    store_mark_put(store, STORE_MARK_WRITTEN, last + 3) != STORE_OK ||
		    store_commit(store) != STORE_OK)
			_exit(1);
	}
}

static void
kill_a_writer(int after_us)
{
	int ready[2];
	char byte;
	pid_t child;

	if (pipe(ready) != 0)
		return;
	child = fork();
	if (child == 0)
		write_for_ever(ready[1]);
	(void)!read(ready[0], &byte, 1);
	usleep((useconds_t)after_us);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	close(ready[0]);
	close(ready[1]);
}

static bool
take_revision(void *context, const struct store_instance *instance)
{
	*(int64_t *)context = instance->revision;
	return true;
}

static void
test_killed(void)
{
	struct store *store = open_store("killed.db");
	struct store_instance instance = {.topic = "a", .shared = true, .epoch = 1};
	bool foreign;
	int64_t last = 0, before = 0, revision = -1, mark = -1;
	int wrong = 0;

	ok(store_begin(store, &foreign) == STORE_OK &&
	       store_instance_add(store, &instance, "{}") == STORE_OK && store_commit(store) == STORE_OK,
	   "an instance");
	store_close(store);
	for (int i = 0; i < 25; i++) {
		kill_a_writer(1000 + i * 713);
		store = open_store("killed.db");
		wrong += store_last(store, &last) != STORE_OK ||
		         store_instance_get(store, 1, take_revision, &revision) != STORE_OK ||
		         store_mark_get(store, STORE_MARK_WRITTEN, &mark) != STORE_OK || last % 3 != 0 ||
		         last < before || revision != last || mark != last;
		before = last;
		store_close(store);
	}
	ok(wrong == 0 && last > 0, "25 writers killed, %lld rows: every transaction whole or not at all",
	   (long long)last);
	ok(answers("killed.db", "PRAGMA integrity_check", "ok"), "it is sound");
}

/* --- all of it --- */

static void
remove_folder(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", folder);
	if (system(command) != 0)
		fprintf(stderr, "%s is left\n", folder);
}

int
main(void)
{
	if (mkdtemp(folder) == NULL)
		return 1;
	test_modes();
	test_refusals();
	test_damaged_schema();
	test_schema_1();
	test_permissions();
	test_put_back();
	test_epoch_after_put_back();
	test_put_back_after_a_kill();
	test_rollback_unwitnessed();
	test_witness_owner();
	test_witness_lost();
	test_power_cut();
	test_view();
	test_joined_view();
	test_long_states();
	test_indexes();
	test_foreign();
	test_foreign_process();
	test_busy();
	test_reader_and_writer();
	test_start_together();
	test_full();
	test_killed();
	remove_folder();
	return done();
}
