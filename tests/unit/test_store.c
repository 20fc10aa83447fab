/* The store's contract: the same checks for every backend, and through the decorator. */
#include "store.h"
#include "tap.h"
#include "test_store_dump.h"

#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char folder[] = "/tmp/test_store.XXXXXX";
static const char *backend; /* name of the one that is tested */

/* --- small steps --- */

static bool
began(struct store *store)
{
	bool foreign = true;

	return store_begin(store, &foreign) == STORE_OK && !foreign;
}

static bool
committed(struct store *store)
{
	return store_commit(store) == STORE_OK;
}

static int64_t
add_instance(struct store *store, const char *topic, bool shared, const char *state)
{
	struct store_instance instance = {.topic = topic, .shared = shared, .epoch = 77};

	return store_instance_add(store, &instance, state) == STORE_OK ? instance.id : 0;
}

static int64_t
add_socket(struct store *store, const char *token)
{
	struct store_socket socket = {.token = token, .address = "127.0.0.1", .format = 2};

	return store_socket_add(store, &socket) == STORE_OK ? socket.id : 0;
}

static int64_t
append(struct store *store, int64_t instance, int64_t previous, int64_t revision)
{
	struct store_record record = {.previous = previous,
	                              .instance = instance,
	                              .revision = revision,
	                              .kind = STORE_EVENT,
	                              .event = "add",
	                              .operations = "[]"};

	return store_append(store, &record) == STORE_OK ? record.number : 0;
}

static enum store_status
add_join(struct store *store, int64_t number, int64_t socket)
{
	struct store_join join = {
		.number = number, .socket = socket, .instance = 1, .topic = "todos:1", .join_ref = "3"};

	return store_join_add(store, &join);
}

/* The numbers that a scan handed over, as " 1 2 3". */
struct numbers {
	char text[256];
	int left; /* how many more are wanted */
};

static bool
take_number(struct numbers *numbers, int64_t number)
{
	size_t length = strlen(numbers->text);

	snprintf(numbers->text + length, sizeof(numbers->text) - length, " %lld", (long long)number);
	return --numbers->left > 0;
}

static bool
take_record(void *context, const struct store_record *record)
{
	return take_number(context, record->number);
}

static bool
take_instance(void *context, const struct store_instance *instance)
{
	return take_number(context, instance->id);
}

static bool
take_join(void *context, const struct store_join *join)
{
	return take_number(context, join->number);
}

static bool
take_socket(void *context, const struct store_socket *socket)
{
	return take_number(context, socket->id);
}

static bool
scan_gives(struct store *store, int64_t after, int64_t until, int wanted, const char *text)
{
	struct numbers numbers = {"", wanted};

	return store_scan(store, after, until, take_record, &numbers) == STORE_OK &&
	       strcmp(numbers.text, text) == 0;
}

static bool
scan_back_gives(struct store *store, int wanted, const char *text)
{
	struct numbers numbers = {"", wanted};

	return store_scan_back(store, take_record, &numbers) == STORE_OK && strcmp(numbers.text, text) == 0;
}

static bool
history_gives(struct store *store, int64_t number, int wanted, const char *text)
{
	struct numbers numbers = {"", wanted};

	return store_history(store, number, take_record, &numbers) == STORE_OK &&
	       strcmp(numbers.text, text) == 0;
}

static bool
joins_are(struct store *store, const char *text)
{
	struct numbers numbers = {"", 99};

	return store_scan_joins(store, take_join, &numbers) == STORE_OK && strcmp(numbers.text, text) == 0;
}

static bool
holds(struct store *store, const char *expected)
{
	char *dump = dump_store(store);
	bool same = strcmp(dump, expected) == 0;

	free(dump);
	return same;
}

/* The same for what must hold; shows the difference when it does not. */
static bool
dump_is(struct store *store, const char *expected)
{
	bool same = holds(store, expected);
	char *dump = dump_store(store);

	if (!same)
		fprintf(stderr, "--- got\n%s--- expected\n%s", dump, expected);
	free(dump);
	return same;
}

static bool
dump_has(struct store *store, const char *line)
{
	char *dump = dump_store(store);
	bool has = strstr(dump, line) != NULL;

	if (!has)
		fprintf(stderr, "--- got\n%s--- expected in it\n%s", dump, line);
	free(dump);
	return has;
}

static bool
state_is(struct store *store, int64_t id, const char *expected)
{
	char *state = NULL;
	bool same = store_instance_state(store, id, &state) == STORE_OK && state != NULL &&
	            strcmp(state, expected) == 0;

	free(state);
	return same;
}

/* --- checks --- */

static void
check_empty(struct store *store)
{
	struct numbers numbers = {"", 99};
	char *state = NULL;

	ok(dump_is(store, "written 0\nlast 0\n"), "%s: a new store is empty", backend);
	ok(strcmp(store_message(store), "") == 0, "%s: and has no complaint", backend);
	ok(store_instance_find(store, "a", take_instance, &numbers) == STORE_NONE &&
	       store_instance_get(store, 1, take_instance, &numbers) == STORE_NONE &&
	       store_instance_state(store, 1, &state) == STORE_NONE && state == NULL && numbers.left == 99,
	   "%s: there is no instance", backend);
	ok(scan_gives(store, 0, INT64_MAX, 9, "") && scan_back_gives(store, 9, "") &&
	       history_gives(store, 1, 9, "") && history_gives(store, 0, 9, ""),
	   "%s: there is no record", backend);
	ok(!store_changed(store), "%s: nobody has changed it", backend);
}

static void
check_missing_rows(struct store *store)
{
	struct store_instance instance = {.id = 4, .topic = "a", .epoch = 1};
	int deleted = -1;

	ok(began(store), "%s: begin", backend);
	ok(store_instance_put(store, &instance, NULL) == STORE_NONE &&
	       store_instance_put(store, &instance, "{}") == STORE_NONE &&
	       store_instance_delete(store, 4) == STORE_NONE,
	   "%s: no instance to write", backend);
	ok(store_join_assigns(store, 4, "{}") == STORE_NONE && store_socket_delete(store, 4) == STORE_NONE &&
	       store_join_end(store, 4, 5) == STORE_NONE,
	   "%s: no socket, no join to write", backend);
	ok(store_prune(store, 100, 100, &deleted) == STORE_OK && deleted == 0, "%s: nothing to prune",
	   backend);
	ok(committed(store), "%s: none of that is a failure", backend);
	ok(dump_is(store, "written 0\nlast 0\n"), "%s: still empty", backend);
}

static void
check_every_column(struct store *store)
{
	struct store_instance instance = {.topic = "todos:\xc3\xa4",
	                                  .shared = true,
	                                  .revision = INT64_MAX,
	                                  .version = 3,
	                                  .last_commit = 4,
	                                  .state_revision = 5,
	                                  .state_version = 6,
	                                  .epoch = 7};
	struct store_socket socket = {
		.token = "t'\"", .address = "::1", .format = 2, .assigns = "{}", .connected_ms = 1700000000001};
	struct store_record full = {.previous = -1,
	                            .instance = 2,
	                            .revision = INT64_MAX,
	                            .version = 4,
	                            .kind = STORE_CRASH,
	                            .socket = 5,
	                            .message = 6,
	                            .time_ms = 1700000000000,
	                            .ref = "r",
	                            .join_ref = "j",
	                            .event = "",
	                            .operations = "[1]",
	                            .events = "[2]",
	                            .state = "{\"s\":3}",
	                            .detail = "{\"d\":4}",
	                            .key = "k \xc3\xa4"};
	struct store_record bare = {.instance = 1, .kind = STORE_LEAVE};
	struct store_join join = {.number = 9, .ended = 10, .socket = 11, .instance = 12, .topic = "t"};
	struct store_join named = {.number = 10,
	                           .socket = 11,
	                           .instance = 12,
	                           .topic = "t",
	                           .join_ref = "j",
	                           .wants = 5,
	                           .assigns = "{}",
	                           .state_key = "s",
	                           .state_version_key = "v"};

	ok(began(store) && store_append(store, &full) == STORE_OK && full.number == 1 &&
	       store_append(store, &bare) == STORE_OK && bare.number == 2 &&
	       store_instance_add(store, &instance, "{\"a\":\"\xe2\x82\xac\"}") == STORE_OK &&
	       instance.id == 1 && store_socket_add(store, &socket) == STORE_OK && socket.id == 1 &&
	       store_join_add(store, &join) == STORE_OK && store_join_add(store, &named) == STORE_OK &&
	       store_mark_put(store, STORE_MARK_WRITTEN, 8) == STORE_OK && committed(store),
	   "%s: a row of each", backend);
	ok(dump_is(store,
	           "record 1 -1 2 9223372036854775807 4 5 5 6 1700000000000 'r' 'j' '' '[1]' '[2]'"
	           " '{\"s\":3}' '{\"d\":4}'\n"
	           "record 2 0 1 0 0 3 0 0 0 - - - - - - -\n"
	           "instance 1 1 9223372036854775807 3 4 5 6 7 'todos:\xc3\xa4' '{\"a\":\"\xe2\x82\xac\"}'\n"
	           "socket 1 2 1700000000001 't'\"' '::1' '{}'\n"
	           "join 9 10 11 12 't' - - - - 0\n"
	           "join 10 0 11 12 't' 'j' '{}' 's' 'v' 5\n"
	           "written 8\nlast 2\n"),
	   "%s: every column comes back as it was given", backend);
}

static bool
gather_key(void *context, int64_t number, const char *key)
{
	char *keys = context;
	snprintf(keys + strlen(keys), 100 - strlen(keys), " %lld '%s'", (long long)number, key);
	return strlen(keys) < 30;
}

static void
check_keys(struct store *store)
{
	struct store_record with = {.instance = 1, .kind = STORE_EVENT, .key = "a"}, without = with;
	char keys[100] = "";
	int deleted;

	without.key = NULL;
	ok(began(store) && store_append(store, &with) == STORE_OK &&
	       store_append(store, &without) == STORE_OK && store_append(store, &with) == STORE_OK &&
	       committed(store),
	   "%s: rows with keys, and one without", backend);
	ok(store_scan_keys(store, gather_key, keys) == STORE_OK && strcmp(keys, " 1 'a' 3 'a'") == 0,
	   "%s: those that have one, rising", backend);
	ok(began(store) && store_prune(store, 1, 10, &deleted) == STORE_OK && committed(store) &&
	       (*keys = '\0', store_scan_keys(store, gather_key, keys)) == STORE_OK &&
	       strcmp(keys, " 3 'a'") == 0,
	   "%s: they go with their rows", backend);
}

static void
check_log(struct store *store)
{
	ok(began(store) && append(store, 1, 0, 1) == 1 && append(store, 2, 0, 1) == 2 &&
	       append(store, 1, 1, 2) == 3 && append(store, 1, 3, 3) == 4,
	   "%s: numbers rise over all instances", backend);
	ok(scan_gives(store, 0, INT64_MAX, 9, " 1 2 3 4"), "%s: a transaction sees itself", backend);
	ok(committed(store), "%s: commit", backend);
	ok(scan_gives(store, 1, 3, 9, " 2 3"), "%s: scan: after < number <= until", backend);
	ok(scan_gives(store, 4, 9, 9, "") && scan_gives(store, 3, 2, 9, ""), "%s: scan: none", backend);
	ok(scan_gives(store, 0, INT64_MAX, 2, " 1 2"), "%s: scan: ends when told", backend);
	ok(scan_back_gives(store, 9, " 4 3 2 1") && scan_back_gives(store, 1, " 4"), "%s: scan back",
	   backend);
	ok(history_gives(store, 4, 9, " 4 3 1") && history_gives(store, 4, 2, " 4 3") &&
	       history_gives(store, 2, 9, " 2"),
	   "%s: history", backend);
}

static void
check_rollback(struct store *store)
{
	char *before;
	int64_t instance = 0;
	int64_t socket = 0;
	int deleted;

	ok(began(store) && (instance = add_instance(store, "a", true, "1")) > 0 &&
	       (socket = add_socket(store, "s")) > 0 && append(store, instance, 0, 1) == 1 &&
	       append(store, instance, 1, 2) == 2 && add_join(store, 1, socket) == STORE_OK &&
	       add_join(store, 2, socket) == STORE_OK && committed(store),
	   "%s: something that is to stay", backend);
	before = dump_store(store);
	ok(began(store) && store_prune(store, 1, 9, &deleted) == STORE_OK && deleted == 1 &&
	       append(store, instance, 2, 3) == 3 &&
	       store_instance_put(store, &(struct store_instance){.id = instance, .revision = 3}, "2") ==
	           STORE_OK &&
	       store_instance_delete(store, instance) == STORE_OK &&
	       add_instance(store, "a", true, "3") > 0 && store_join_assigns(store, 1, "{}") == STORE_OK &&
	       store_join_end(store, 1, 3) == STORE_OK && store_socket_delete(store, socket) == STORE_OK &&
	       add_socket(store, "t") > 0 && store_mark_put(store, STORE_MARK_WRITTEN, 3) == STORE_OK,
	   "%s: much that is not", backend);
	store_rollback(store);
	ok(dump_is(store, before), "%s: a rollback undoes all of it", backend);
	store_rollback(store);
	ok(began(store) && append(store, instance, 2, 3) == 3 && committed(store),
	   "%s: a second rollback does nothing; it goes on", backend);
	free(before);
}

static void
check_instances(struct store *store)
{
	struct store_instance instance = {.topic = "other",
	                                  .revision = 5,
	                                  .version = 5,
	                                  .last_commit = 6,
	                                  .state_revision = 5,
	                                  .state_version = 5,
	                                  .epoch = 1};
	struct numbers numbers = {"", 99};
	int64_t one = 0;
	int64_t two = 0;

	ok(began(store) && (one = add_instance(store, "a", true, "1")) == 1 &&
	       (two = add_instance(store, "a", false, "2")) == 2 &&
	       add_instance(store, "a", false, NULL) == 3 && committed(store),
	   "%s: many private instances of a topic, and a shared one", backend);
	ok(store_instance_find(store, "a", take_instance, &numbers) == STORE_OK &&
	       store_instance_get(store, two, take_instance, &numbers) == STORE_OK &&
	       strcmp(numbers.text, " 1 2") == 0,
	   "%s: found by topic, got by id", backend);
	instance.id = one;
	ok(began(store) && store_instance_put(store, &instance, NULL) == STORE_OK &&
	       state_is(store, one, "1"),
	   "%s: put without a state", backend);
	instance.id = two;
	ok(store_instance_put(store, &instance, "[2]") == STORE_OK && committed(store),
	   "%s: put with a state", backend);
	ok(dump_is(store, "instance 1 1 5 5 6 0 0 77 'a' '1'\n"
	                  "instance 2 0 5 5 6 5 5 77 'a' '[2]'\n"
	                  "instance 3 0 0 0 0 0 0 77 'a' -\n"
	                  "written 0\nlast 0\n"),
	   "%s: topic, scope and epoch stay, the state's revision goes with the state", backend);
	ok(began(store) && store_instance_delete(store, one) == STORE_OK &&
	       store_instance_delete(store, 3) == STORE_OK &&
	       store_instance_find(store, "a", take_instance, &numbers) == STORE_NONE &&
	       add_instance(store, "a", true, "4") == 4 && committed(store),
	   "%s: deleted; the topic is free, the id is not used again", backend);
}

static void
check_second_shared(struct store *store)
{
	char *before;

	ok(began(store) && add_instance(store, "a", true, "1") == 1 && committed(store), "%s: shared",
	   backend);
	before = dump_store(store);
	ok(began(store) && append(store, 1, 0, 1) == 1 && add_instance(store, "a", true, "2") == 0,
	   "%s: a topic has one shared instance", backend);
	ok(strlen(store_message(store)) > 0 && strchr(store_message(store), '\n') == NULL,
	   "%s: which is said in a line: %s", backend, store_message(store));
	ok(append(store, 1, 1, 2) == 0 && store_mark_put(store, "x", 1) == STORE_ERROR &&
	       store_commit(store) == STORE_ERROR,
	   "%s: after a failure nothing can be written nor committed", backend);
	store_rollback(store);
	ok(dump_is(store, before), "%s: only rolled back", backend);
	ok(began(store) && append(store, 1, 0, 1) == 1 && committed(store), "%s: then it is well again",
	   backend);
	free(before);
}

static void
check_sockets(struct store *store)
{
	struct numbers numbers = {"", 99};

	ok(began(store) && add_socket(store, "a") == 1 && add_socket(store, "b") == 2 &&
	       add_join(store, 1, 1) == STORE_OK && add_join(store, 2, 2) == STORE_OK &&
	       add_join(store, 4, 2) == STORE_OK && add_join(store, 3, 1) == STORE_OK && committed(store),
	   "%s: two sockets with two joins each", backend);
	ok(joins_are(store, " 1 2 3 4"), "%s: joins in order of number", backend);
	ok(began(store) && store_join_end(store, 2, 5) == STORE_OK &&
	       store_join_end(store, 2, 6) == STORE_NONE && committed(store) && joins_are(store, " 1 2 3 4"),
	   "%s: a join ends once and is kept", backend);
	ok(began(store) && store_join_assigns(store, 3, "{\"n\":1}") == STORE_OK && committed(store) &&
	       dump_has(store, "join 3 0 1 1 'todos:1' '3' '{\"n\":1}' - - 0\n"),
	   "%s: a join's assigns", backend);
	ok(began(store) && store_socket_delete(store, 2) == STORE_OK && committed(store) &&
	       joins_are(store, " 1 3"),
	   "%s: a socket goes with all its joins and no others", backend);
	ok(began(store) && add_socket(store, "c") == 3 && committed(store) &&
	       store_scan_sockets(store, take_socket, &numbers) == STORE_OK &&
	       strcmp(numbers.text, " 1 3") == 0,
	   "%s: its id is not used again", backend);
	ok(began(store) && add_join(store, 1, 3) == STORE_ERROR, "%s: a join's number is its identity",
	   backend);
	store_rollback(store);
}

static void
check_prune(struct store *store)
{
	int deleted = -1;

	ok(began(store), "%s: begin", backend);
	for (int i = 1; i <= 6; i++)
		append(store, 1, i - 1, i);
	for (int i = 1; i <= 4; i++)
		add_join(store, i, 1);
	ok(store_join_end(store, 1, 2) == STORE_OK && store_join_end(store, 2, 4) == STORE_OK &&
	       store_join_end(store, 3, 6) == STORE_OK && committed(store),
	   "%s: joins that ended by 2, 4, 6 and one that has not", backend);
	ok(began(store) && store_prune(store, 4, 3, &deleted) == STORE_OK && deleted == 3 &&
	       scan_gives(store, 0, INT64_MAX, 9, " 4 5 6"),
	   "%s: no more than the limit", backend);
	ok(joins_are(store, " 2 3 4"), "%s: a join whose end is still in the log stays", backend);
	ok(store_prune(store, 4, 3, &deleted) == STORE_OK && deleted == 1 && committed(store) &&
	       scan_gives(store, 0, INT64_MAX, 9, " 5 6") && joins_are(store, " 3 4"),
	   "%s: the rest", backend);
	ok(history_gives(store, 6, 9, " 6 5"), "%s: history ends where it was pruned", backend);
	ok(began(store) && store_prune(store, INT64_MAX, 100, &deleted) == STORE_OK && deleted == 1 &&
	       store_prune(store, INT64_MAX, 100, &deleted) == STORE_OK && deleted == 0 &&
	       committed(store) && scan_gives(store, 0, INT64_MAX, 9, " 6") && joins_are(store, " 3 4"),
	   "%s: never the newest row", backend);
	ok(began(store) && append(store, 1, 6, 7) == 7 && committed(store),
	   "%s: so that no number is used again", backend);
}

static void
check_marks(struct store *store)
{
	int64_t value = 9;

	ok(store_mark_get(store, "a", &value) == STORE_OK && value == 0, "%s: a mark never put", backend);
	ok(began(store) && store_mark_put(store, "a", 1) == STORE_OK &&
	       store_mark_put(store, "b", -2) == STORE_OK &&
	       store_mark_put(store, "a", INT64_MAX) == STORE_OK && committed(store),
	   "%s: marks put", backend);
	ok(store_mark_get(store, "a", &value) == STORE_OK && value == INT64_MAX &&
	       store_mark_get(store, "b", &value) == STORE_OK && value == -2,
	   "%s: the newest value counts", backend);
}

static bool
put_state(struct store *store, const char *state)
{
	struct store_instance instance = {.id = 1, .revision = 1};

	return began(store) && store_instance_put(store, &instance, state) == STORE_OK;
}

/* Long and short in turns: a backend may keep them apart. */
static void
check_long_states(struct store *store)
{
	size_t bytes = 3000000;
	char *text = malloc(bytes + 1);
	char *state = NULL;

	memset(text, 'x', bytes);
	text[bytes] = '\0';
	ok(began(store) && add_instance(store, "a", true, text) == 1 && committed(store) &&
	       state_is(store, 1, text),
	   "%s: a state of 3 MB", backend);
	text[bytes - 1] = 'y';
	ok(put_state(store, text) && state_is(store, 1, text), "%s: put anew", backend);
	store_rollback(store);
	text[bytes - 1] = 'x';
	ok(state_is(store, 1, text), "%s: and rolled back", backend);
	ok(put_state(store, NULL) && committed(store) && state_is(store, 1, text), "%s: put without",
	   backend);
	ok(put_state(store, "{}") && state_is(store, 1, "{}"), "%s: a short one in its place", backend);
	store_rollback(store);
	ok(state_is(store, 1, text), "%s: and rolled back", backend);
	ok(put_state(store, "{}") && committed(store) && state_is(store, 1, "{}"), "%s: committed", backend);
	ok(put_state(store, text) && committed(store) && state_is(store, 1, text), "%s: long again",
	   backend);
	ok(began(store) && store_instance_delete(store, 1) == STORE_OK && committed(store) &&
	       store_instance_state(store, 1, &state) == STORE_NONE,
	   "%s: deleted", backend);
	free(text);
}

/* --- PubSub and timers --- */

/* What lags, as " INSTANCE:TOPIC:PAYLOAD ..." */
static bool
list_pending(void *context, int64_t instance, const struct store_broadcast *broadcast)
{
	struct numbers *numbers = context;
	size_t length = strlen(numbers->text);

	snprintf(numbers->text + length, sizeof(numbers->text) - length, " %lld:%s:%s", (long long)instance,
	         broadcast->topic, broadcast->payload);
	return --numbers->left > 0;
}

static bool
pending_is(struct store *store, const char *after, const char *wanted)
{
	struct numbers numbers = {.left = 100};

	if (store_scan_pending(store, after, list_pending, &numbers) != STORE_OK)
		return false;
	if (strcmp(numbers.text, wanted) != 0)
		printf("# pending%s\n", numbers.text);
	return strcmp(numbers.text, wanted) == 0;
}

static int64_t
broadcast(struct store *store, const char *topic, const char *payload)
{
	struct store_broadcast row = {.topic = topic, .payload = payload, .hops = 3, .time_ms = 5};

	return store_broadcast_add(store, &row) == STORE_OK ? row.id : 0;
}

static void
check_broadcasts(struct store *store)
{
	struct numbers numbers = {.left = 100};
	int64_t id = 0, count, position;

	ok(began(store) && add_instance(store, "x", true, "1") == 1 &&
	       add_instance(store, "y", true, "1") == 2,
	   "%s: two instances", backend);
	ok(broadcast(store, "b", "0") == 0, "%s: a broadcast that nobody is subscribed to is not stored",
	   backend);
	ok(store_subscribe(store, 1, "b") == STORE_OK && (id = broadcast(store, "b", "1")) > 0 &&
	       store_subscribe(store, 2, "b") == STORE_OK && store_subscribe(store, 1, "b") == STORE_OK,
	   "%s: subscriptions before and after one", backend);
	ok(pending_is(store, "", " 1:b:1"), "%s: it is for the one before", backend);
	ok(broadcast(store, "b", "2") > id && store_subscribe(store, 2, "a") == STORE_OK &&
	       broadcast(store, "a", "3") > 0 && pending_is(store, "", " 2:a:3 1:b:1 2:b:2"),
	   "%s: what each is to be given next, by topic, and first what lags most", backend);
	ok(pending_is(store, "a", " 1:b:1 2:b:2") && pending_is(store, "b", ""), "%s: after a topic",
	   backend);
	ok(store_scan_broadcasts(store, "b", 0, list_pending, &numbers) == STORE_OK &&
	       strcmp(numbers.text, " 0:b:1 0:b:2") == 0,
	   "%s: a topic's broadcasts", backend);
	ok(store_broadcast_done(store, 1, "b", id) == STORE_OK, "%s: given", backend);
	ok(store_broadcast_done(store, 1, "b", id) == STORE_NONE &&
	       store_broadcast_done(store, 1, "c", id) == STORE_NONE &&
	       store_broadcast_done(store, 3, "b", id) == STORE_NONE,
	   "%s: given once only, and only to those subscribed", backend);
	ok(store_subscription(store, 1, "b", &position) == STORE_OK && position == id &&
	       store_subscription(store, 1, "c", &position) == STORE_NONE,
	   "%s: its position", backend);
	ok(store_broadcasts_prune(store, "b") == STORE_OK && pending_is(store, "", " 2:a:3 1:b:2 2:b:2") &&
	       store_backlog(store, &count) == STORE_OK && count == 2,
	   "%s: what all were given goes", backend);
	ok(committed(store) && began(store) && store_unsubscribe(store, 2, "a") == STORE_OK &&
	       store_unsubscribe(store, 2, "a") == STORE_NONE &&
	       store_instance_delete(store, 1) == STORE_OK && pending_is(store, "", " 2:b:2"),
	   "%s: those unsubscribed and gone are given nothing", backend);
	ok(store_broadcasts_prune(store, NULL) == STORE_OK &&
	       store_broadcast_done(store, 2, "b", id + 1) == STORE_OK &&
	       store_broadcasts_prune(store, NULL) == STORE_OK && store_backlog(store, &count) == STORE_OK &&
	       count == 0,
	   "%s: nothing is left", backend);
	store_rollback(store);
	ok(pending_is(store, "", " 2:a:3 1:b:2 2:b:2"), "%s: rolled back, all of it is there again",
	   backend);
	ok(began(store) && store_instance_delete(store, 1) == STORE_OK &&
	       store_instance_delete(store, 2) == STORE_OK &&
	       store_broadcasts_prune(store, NULL) == STORE_OK && add_instance(store, "z", true, "1") == 3 &&
	       store_subscribe(store, 3, "b") == STORE_OK && broadcast(store, "b", "4") > id + 2 &&
	       pending_is(store, "", " 3:b:4"),
	   "%s: an id is never used again", backend);
	store_rollback(store);
}

static bool
list_timer(void *context, const struct store_timer *timer)
{
	return take_number(context, timer->id);
}

static void
check_timers(struct store *store)
{
	static const struct store_timer rows[] = {
		{.id = 11, .instance = 1, .due_ms = 500, .payload = "a"},
		{.id = 12, .instance = 1, .due_ms = 100, .payload = "b"},
		{.id = 13, .instance = 2, .due_ms = 500, .payload = "c"},
		{.id = 14, .instance = 2, .due_ms = 300, .payload = "d"},
	};
	struct numbers numbers = {.left = 100}, left = {.left = 100};
	int64_t count;

	ok(began(store) && add_instance(store, "x", true, "1") == 1 &&
	       add_instance(store, "y", true, "1") == 2,
	   "%s: two instances", backend);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct store_timer row = rows[i];

		ok(store_timer_add(store, &row) == STORE_OK && row.number > 0, "%s: a timer", backend);
	}
	ok(store_scan_timers(store, list_timer, &numbers) == STORE_OK &&
	       strcmp(numbers.text, " 12 14 11 13") == 0,
	   "%s: by time, then in the order in which they were set", backend);
	ok(store_timer_delete(store, 2, 11) == STORE_NONE && store_timer_delete(store, 1, 11) == STORE_OK,
	   "%s: deleted by its instance", backend);
	ok(store_timer_delete(store, 1, 11) == STORE_NONE, "%s: once", backend);
	numbers = (struct numbers){.left = 100};
	ok(store_timer_get(store, 11, list_timer, &numbers) == STORE_NONE &&
	       store_timer_get(store, 13, list_timer, &numbers) == STORE_OK &&
	       strcmp(numbers.text, " 13") == 0,
	   "%s: found by its id", backend);
	ok(store_subscribe(store, 2, "t") == STORE_OK && store_subscriptions(store, 2, &count) == STORE_OK &&
	       count == 3,
	   "%s: how many an instance waits for", backend);
	ok(store_instance_delete(store, 2) == STORE_OK &&
	       store_scan_timers(store, list_timer, &left) == STORE_OK && strcmp(left.text, " 12") == 0 &&
	       store_subscriptions(store, 2, &count) == STORE_OK && count == 0,
	   "%s: they go with it", backend);
	store_rollback(store);
}

/* --- faults --- */

/* One transaction with each kind of write; what failed, or STORE_OK. */
static enum store_status
write_everything(struct store *store)
{
	struct store_record record = {.instance = 1, .kind = STORE_EVENT, .operations = "[]"};
	struct store_instance instance = {.topic = "new", .shared = true, .epoch = 5};
	struct store_instance put = {.id = 1, .revision = 9};
	struct store_socket socket = {.token = "new"};
	struct store_join join = {.number = 50, .socket = 1, .instance = 1, .topic = "new"};
	struct store_broadcast broadcast = {.topic = "a", .payload = "1"};
	struct store_timer timer = {.id = 77, .instance = 1, .payload = "1"};
	struct store_refused refused = {
		.instance = 1, .instance_topic = "a", .topic = "a", .payload = "1", .reason = "why"};
	enum store_status status;
	bool foreign;
	int deleted;

	if ((status = store_begin(store, &foreign)) != STORE_OK ||
	    (status = store_append(store, &record)) != STORE_OK ||
	    (status = store_instance_add(store, &instance, "{}")) != STORE_OK ||
	    (status = store_instance_put(store, &put, NULL)) != STORE_OK ||
	    (status = store_instance_put(store, &put, "[9]")) != STORE_OK ||
	    (status = store_instance_delete(store, 2)) != STORE_OK ||
	    (status = store_socket_add(store, &socket)) != STORE_OK ||
	    (status = store_join_add(store, &join)) != STORE_OK ||
	    (status = store_join_assigns(store, 1, "[1]")) != STORE_OK ||
	    (status = store_join_end(store, 1, record.number)) != STORE_OK ||
	    (status = store_socket_delete(store, 2)) != STORE_OK ||
	    (status = store_prune(store, 1, 10, &deleted)) != STORE_OK ||
	    (status = store_subscribe(store, 1, "new")) != STORE_OK ||
	    (status = store_unsubscribe(store, 1, "b")) != STORE_OK ||
	    (status = store_broadcast_add(store, &broadcast)) != STORE_OK ||
	    (status = store_broadcast_done(store, 1, "a", 1)) != STORE_OK ||
	    (status = store_broadcasts_prune(store, "a")) != STORE_OK ||
	    (status = store_timer_add(store, &timer)) != STORE_OK ||
	    (status = store_timer_delete(store, 1, 1)) != STORE_OK ||
	    (status = store_set_aside(store, &refused)) != STORE_OK ||
	    (status = store_mark_put(store, STORE_MARK_WRITTEN, 1)) != STORE_OK)
		return status;
	return store_commit(store);
}

static bool
fill(struct store *store)
{
	struct store_broadcast broadcast = {.topic = "a", .payload = "0"};
	struct store_timer timer = {.id = 1, .instance = 1, .payload = "0"};

	return began(store) && add_instance(store, "a", true, "1") == 1 &&
	       add_instance(store, "a", false, "2") == 2 && add_socket(store, "a") == 1 &&
	       add_socket(store, "b") == 2 && append(store, 1, 0, 1) == 1 && append(store, 2, 0, 1) == 2 &&
	       add_join(store, 1, 1) == STORE_OK && add_join(store, 2, 2) == STORE_OK &&
	       store_subscribe(store, 1, "a") == STORE_OK && store_subscribe(store, 1, "b") == STORE_OK &&
	       store_broadcast_add(store, &broadcast) == STORE_OK &&
	       store_timer_add(store, &timer) == STORE_OK && committed(store);
}

static void
check_faults(struct store *inner)
{
	static const enum store_status statuses[] = {STORE_BUSY, STORE_FULL, STORE_ERROR};
	struct store *store = store_open_faulty(inner);
	enum store_status status;
	char *before;
	int nth = 0;

	ok(fill(store), "%s: filled", backend);
	before = dump_store(store);
	for (;;) {
		enum store_status wanted = statuses[nth % 3];

		store_fail_at(store, ++nth, wanted);
		status = write_everything(store);
		if (status == STORE_OK)
			break;
		ok(status == wanted && strlen(store_message(store)) > 0, "%s: write %d fails", backend, nth);
		store_rollback(store);
		ok(dump_is(store, before), "%s: and nothing is left of the transaction", backend);
	}
	ok(nth == 23, "%s: all 22 writes have failed once", backend);
	ok(!holds(store, before), "%s: then all of it is there", backend);
	free(before);
	store_close(store);
}

/* --- all of it --- */

static struct store *
open_sqlite(void)
{
	static int count;
	char path[64];
	char *error = NULL;
	struct store *store;

	snprintf(path, sizeof(path), "%s/%d.db", folder, count++);
	store = store_open_sqlite(path, STORE_NORMALLY, &error);
	if (store == NULL)
		fprintf(stderr, "%s\n", error);
	free(error);
	return store;
}

static struct store *
open_faulty_memory(void)
{
	return store_open_faulty(store_open_memory());
}

static const struct {
	const char *name;
	struct store *(*open)(void);
} backends[] = {
	{"memory", store_open_memory},
	{"faulty", open_faulty_memory},
	{"sqlite", open_sqlite},
};

static void (*const checks[])(struct store *) = {
	check_empty,    check_missing_rows, check_every_column,  check_log,     check_keys,
	check_rollback, check_instances,    check_second_shared, check_sockets, check_prune,
	check_marks,    check_long_states,  check_broadcasts,    check_timers,
};

static void
test_backend(struct store *(*open)(void))
{
	for (size_t i = 0; i < COUNT(checks); i++) {
		struct store *store = open();

		checks[i](store);
		store_close(store);
	}
	check_faults(open());
	store_close(NULL);
}

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
	for (size_t i = 0; i < COUNT(backends); i++) {
		backend = backends[i].name;
		test_backend(backends[i].open);
	}
	remove_folder();
	return done();
}
