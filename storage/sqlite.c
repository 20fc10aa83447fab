/*
 * sqlite - the store in a SQLite database; nothing of SQLite is known outside this file
 *
 * One writer at a time (BEGIN IMMEDIATE), readers beside it (write-ahead log).  All statements are
 * prepared at opening and kept.  Why the schema is as it is: schema.sql.
 */
#define _GNU_SOURCE /* asprintf */

#include "store.h"

#include "schema_sql.h"
#include "store_backend.h"
#include "witness.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define APPLICATION_ID   1399153006 /* "Sean", as in schema.sql */
#define SCHEMA_VERSION   6          /* as in schema.sql */
#define BUSY_MS          2000
#define BUSY_TICK_MS     5
#define LONG_STATE_BYTES 16384 /* over that it is kept apart, see schema.sql */

#define RECORD                                                                                      \
	"number, previous, instance, revision, version, kind, socket, message, time_ms, ref, join_ref," \
	" event, operations, events, state, detail, told, built, key"
#define GENERATION "(SELECT value FROM marks WHERE name = 'generation')"
#define EPOCH_BITS "0x1fffffffffffff" /* exact in JavaScript */
#define INSTANCE                                                                        \
	"id, topic, shared, revision, version, last_commit, state_revision, state_version," \
	" (epoch + " GENERATION ") & " EPOCH_BITS ", schema"
#define SOCKET    "id, token, address, format, assigns, connected_ms"
#define BROADCAST "b.id, b.topic, b.payload, b.hops, b.time_ms"
#define TIMER     "number, id, instance, kind, due_ms, payload"
#define ANSWER    "key, digest, answer, until_ms"
#define PRESENCE  "number, instance, \"join\", key, meta"
#define JOIN \
	"number, ended, socket, instance, topic, join_ref, assigns, state_key, state_version_key, wants"

enum statement {
	BEGIN,
	COMMIT,
	ROLLBACK,
	DATA_VERSION,
	LOG_APPEND,
	LOG_ENDS,
	LOG_SCAN,
	LOG_SCAN_BACK,
	LOG_KEYS,
	LOG_GET,
	LOG_PRUNE,
	INSTANCE_ADD,
	INSTANCE_PUT,
	INSTANCE_PUT_STATE,
	INSTANCE_SCHEMA,
	INSTANCE_DELETE,
	INSTANCE_FIND,
	INSTANCE_GET,
	INSTANCE_SCAN,
	INSTANCE_STATE,
	LONG_STATE_PUT,
	LONG_STATE_DELETE,
	SOCKET_ADD,
	SOCKET_DELETE,
	SOCKET_SCAN,
	JOIN_ADD,
	JOIN_ASSIGNS,
	JOIN_END,
	JOIN_DELETE,
	JOIN_PRUNE,
	JOIN_SCAN,
	SUBSCRIBE,
	UNSUBSCRIBE,
	UNSUBSCRIBE_ALL,
	SUBSCRIPTION,
	SUBSCRIPTION_COUNT,
	BROADCAST_ADD,
	BROADCAST_PENDING,
	BROADCAST_SCAN,
	BROADCAST_DONE,
	BROADCAST_PRUNE,
	BROADCAST_PRUNE_ALL,
	BROADCAST_BACKLOG,
	TIMER_ADD,
	TIMER_DELETE,
	TIMER_DELETE_ALL,
	TIMER_DELETE_KIND,
	TIMER_GET,
	TIMER_SCAN,
	REFUSED_ADD,
	REFUSED_PRUNE,
	PRESENCE_ADD,
	PRESENCE_PUT,
	PRESENCE_DELETE,
	PRESENCE_DELETE_ALL,
	PRESENCE_SCAN,
	ANSWER_ADD,
	ANSWER_GET,
	ANSWER_PRUNE,
	MARK_PUT,
	MARK_GET,
	STATEMENTS
};

static const char *const statement_sql[STATEMENTS] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[DATA_VERSION] = "PRAGMA data_version", /* moves when another connection commits */

	[LOG_APPEND] = "INSERT INTO log (" RECORD ")"
				   " VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	[LOG_ENDS] = "SELECT (SELECT min(number) FROM log), (SELECT max(number) FROM log)",
	[LOG_SCAN] = "SELECT " RECORD " FROM log WHERE number > ? AND number <= ? ORDER BY number",
	[LOG_SCAN_BACK] = "SELECT " RECORD " FROM log ORDER BY number DESC",
	[LOG_KEYS] = "SELECT number, key FROM log WHERE key IS NOT NULL ORDER BY number",
	[LOG_GET] = "SELECT " RECORD " FROM log WHERE number = ?",
	[LOG_PRUNE] = "DELETE FROM log WHERE number <= ?",

	[INSTANCE_ADD] =
		"INSERT INTO instances (topic, shared, revision, version, last_commit,"
		" state_revision, state_version, epoch, schema, state, updated_ms)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, (?8 - " GENERATION ") & " EPOCH_BITS ", ?9, ?10,"
		" (SELECT time_ms FROM log WHERE number = ?5))",
	[INSTANCE_PUT] = "UPDATE instances SET revision = ?2, version = ?3, last_commit = ?4,"
					 " updated_ms = ifnull((SELECT time_ms FROM log WHERE number = ?4), updated_ms)"
					 " WHERE id = ?1",
	[INSTANCE_PUT_STATE] =
		"UPDATE instances SET revision = ?2, version = ?3, last_commit = ?4, state_revision = ?5,"
		" state_version = ?6, state = ?7,"
		" updated_ms = ifnull((SELECT time_ms FROM log WHERE number = ?4), updated_ms)"
		" WHERE id = ?1",
	[INSTANCE_SCHEMA] = "UPDATE instances SET schema = ?2 WHERE id = ?1",
	[INSTANCE_DELETE] = "DELETE FROM instances WHERE id = ?",
	[INSTANCE_FIND] = "SELECT " INSTANCE " FROM instances WHERE topic = ? AND shared = 1",
	[INSTANCE_GET] = "SELECT " INSTANCE " FROM instances WHERE id = ?",
	[INSTANCE_SCAN] = "SELECT " INSTANCE " FROM instances ORDER BY id",

	[INSTANCE_STATE] = "SELECT ifnull(state, (SELECT state FROM long_states WHERE instance = ?1))"
					   " FROM instances WHERE id = ?1",

	[LONG_STATE_PUT] = "INSERT INTO long_states (instance, state) VALUES (?1, ?2)"
					   " ON CONFLICT (instance) DO UPDATE SET state = ?2",
	[LONG_STATE_DELETE] = "DELETE FROM long_states WHERE instance = ?",

	[SOCKET_ADD] = "INSERT INTO sockets (" SOCKET ") VALUES (NULL, ?, ?, ?, ?, ?)",
	[SOCKET_DELETE] = "DELETE FROM sockets WHERE id = ?",
	[SOCKET_SCAN] = "SELECT " SOCKET " FROM sockets ORDER BY id",

	[JOIN_ADD] = "INSERT INTO joins (" JOIN ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	[JOIN_ASSIGNS] = "UPDATE joins SET assigns = ?2 WHERE number = ?1",
	[JOIN_END] = "UPDATE joins SET ended = ?2 WHERE number = ?1 AND ended IS NULL",
	[JOIN_DELETE] = "DELETE FROM joins WHERE socket = ?",
	[JOIN_PRUNE] = "DELETE FROM joins WHERE ended <= ?",
	[JOIN_SCAN] = "SELECT " JOIN " FROM joins ORDER BY number",

	[SUBSCRIBE] =
		"INSERT INTO subscriptions (instance, topic, position)"
		" VALUES (?, ?, ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'broadcasts'), 0))"
		" ON CONFLICT DO NOTHING",
	[UNSUBSCRIBE] = "DELETE FROM subscriptions WHERE instance = ? AND topic = ?",
	[UNSUBSCRIBE_ALL] = "DELETE FROM subscriptions WHERE instance = ?",
	[SUBSCRIPTION] = "SELECT position FROM subscriptions WHERE instance = ? AND topic = ?",
	[SUBSCRIPTION_COUNT] = "SELECT (SELECT count(*) FROM subscriptions WHERE instance = ?1)"
						   " + (SELECT count(*) FROM timers WHERE instance = ?1 AND kind = 0)",

	[BROADCAST_ADD] = "INSERT INTO broadcasts (topic, payload, hops, time_ms) SELECT ?1, ?2, ?3, ?4"
					  " WHERE EXISTS (SELECT 1 FROM subscriptions WHERE topic = ?1)",
	/* only topics that have broadcasts, from one to the next by the index */
	[BROADCAST_PENDING] =
		"WITH RECURSIVE topics (topic) AS (SELECT min(topic) FROM broadcasts WHERE topic > ?1"
		" UNION ALL SELECT (SELECT min(topic) FROM broadcasts WHERE topic > topics.topic)"
		" FROM topics WHERE topics.topic IS NOT NULL)"
		" SELECT s.instance, " BROADCAST " FROM topics"
		" CROSS JOIN subscriptions AS s ON s.topic = topics.topic"
		" AND s.position < (SELECT max(id) FROM broadcasts WHERE topic = topics.topic)"
		" CROSS JOIN broadcasts AS b"
		" ON b.id = (SELECT min(id) FROM broadcasts WHERE topic = s.topic AND id > s.position)",
	[BROADCAST_SCAN] =
		"SELECT 0, " BROADCAST " FROM broadcasts AS b WHERE topic = ? AND id > ? ORDER BY id",
	[BROADCAST_DONE] =
		"UPDATE subscriptions SET position = ?3 WHERE instance = ?1 AND topic = ?2 AND position < ?3",
	[BROADCAST_PRUNE] = "DELETE FROM broadcasts WHERE topic = ?1 AND id <="
						" ifnull((SELECT min(position) FROM subscriptions WHERE topic = ?1), 1 << 62)",
	[BROADCAST_PRUNE_ALL] = "DELETE FROM broadcasts WHERE NOT EXISTS (SELECT 1 FROM subscriptions AS s"
							" WHERE s.topic = broadcasts.topic AND s.position < broadcasts.id)",
	[BROADCAST_BACKLOG] = "SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'broadcasts')"
						  " - (SELECT min(id) FROM broadcasts) + 1",

	[TIMER_ADD] = "INSERT INTO timers (" TIMER ") VALUES (NULL, ?, ?, ?, ?, ?)",
	[TIMER_DELETE] = "DELETE FROM timers WHERE instance = ? AND id = ?",
	[TIMER_DELETE_ALL] = "DELETE FROM timers WHERE instance = ?",
	[TIMER_DELETE_KIND] = "DELETE FROM timers WHERE instance = ? AND kind = ?",
	[TIMER_GET] = "SELECT " TIMER " FROM timers WHERE id = ?",
	[TIMER_SCAN] = "SELECT " TIMER " FROM timers ORDER BY due_ms, number",

	[REFUSED_ADD] = "INSERT INTO refused (instance, instance_topic, topic, payload, reason, time_ms)"
					" VALUES (?, ?, ?, ?, ?, ?)",
	[REFUSED_PRUNE] = "DELETE FROM refused WHERE number <= ?",

	[PRESENCE_ADD] = "INSERT INTO presences (" PRESENCE ") VALUES (NULL, ?, ?, ?, ?)",
	[PRESENCE_PUT] =
		"UPDATE presences SET instance = ?1, \"join\" = ?2, key = ?3, meta = ?4 WHERE number = ?5",
	[PRESENCE_DELETE] = "DELETE FROM presences WHERE number = ?",
	[PRESENCE_DELETE_ALL] = "DELETE FROM presences WHERE instance = ?",
	[PRESENCE_SCAN] = "SELECT " PRESENCE " FROM presences WHERE instance = ? ORDER BY number",

	[ANSWER_ADD] = "INSERT INTO answers (" ANSWER ") VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
	[ANSWER_GET] = "SELECT " ANSWER " FROM answers WHERE key = ?",
	[ANSWER_PRUNE] = "DELETE FROM answers WHERE until_ms < ?",

	[MARK_PUT] = "REPLACE INTO marks (name, value) VALUES (?, ?)",
	[MARK_GET] = "SELECT value FROM marks WHERE name = ?",
};

/* migrations[v] makes schema v + 1 (or a later one) of schema v; 0 is the empty database.  Views follow. */
static const char *const migrations[SCHEMA_VERSION] = {
	[0] = schema_sql,
	[1] = "ALTER TABLE joins ADD COLUMN assigns TEXT;"
		  "ALTER TABLE joins ADD COLUMN state_key TEXT;"
		  "ALTER TABLE joins ADD COLUMN state_version_key TEXT;"
		  /* a socket's assigns were those of all its joins */
		  "UPDATE joins SET assigns = (SELECT assigns FROM sockets WHERE id = socket);"
		  "PRAGMA user_version = 2;",
	[2] = "ALTER TABLE log ADD COLUMN told TEXT;"
		  "ALTER TABLE log ADD COLUMN built TEXT;"
		  "CREATE TABLE subscriptions ("
		  "instance INTEGER NOT NULL, "
		  "topic TEXT NOT NULL, "
		  "position INTEGER NOT NULL, "
		  "PRIMARY KEY (instance, topic) "
		  ") WITHOUT ROWID;"
		  "CREATE INDEX subscriptions_topic ON subscriptions (topic, position);"
		  "CREATE TABLE broadcasts ("
		  "id INTEGER PRIMARY KEY AUTOINCREMENT, "
		  "topic TEXT NOT NULL, "
		  "payload TEXT NOT NULL, "
		  "hops INTEGER NOT NULL, "
		  "time_ms INTEGER NOT NULL "
		  ");"
		  "CREATE INDEX broadcasts_topic ON broadcasts (topic);"
		  "CREATE TABLE timers ("
		  "number INTEGER PRIMARY KEY, "
		  "id INTEGER NOT NULL UNIQUE, "
		  "instance INTEGER NOT NULL, "
		  "kind INTEGER NOT NULL, "
		  "due_ms INTEGER NOT NULL, "
		  "payload TEXT NOT NULL "
		  ");"
		  "CREATE INDEX timers_due ON timers (due_ms);"
		  "CREATE INDEX timers_instance ON timers (instance);"
		  "CREATE TABLE refused ("
		  "number INTEGER PRIMARY KEY AUTOINCREMENT, "
		  "instance INTEGER NOT NULL, "
		  "instance_topic TEXT NOT NULL, "
		  "topic TEXT, "
		  "payload TEXT NOT NULL, "
		  "reason TEXT NOT NULL, "
		  "time_ms INTEGER NOT NULL "
		  ");"
		  "CREATE TABLE presences ("
		  "number INTEGER PRIMARY KEY, "
		  "instance INTEGER NOT NULL, "
		  "\"join\" INTEGER NOT NULL, "
		  "key TEXT NOT NULL, "
		  "meta TEXT NOT NULL "
		  ");"
		  "CREATE INDEX presences_instance ON presences (instance);"
		  "CREATE TABLE answers ("
		  "key TEXT PRIMARY KEY, "
		  "digest TEXT NOT NULL, "
		  "answer TEXT NOT NULL, "
		  "until_ms INTEGER NOT NULL "
		  ") WITHOUT ROWID;"
		  "CREATE INDEX answers_until ON answers (until_ms);"
		  "ALTER TABLE instances ADD COLUMN schema INTEGER NOT NULL DEFAULT 0;"
		  "PRAGMA user_version = 3;",
	[3] = "ALTER TABLE joins ADD COLUMN wants INTEGER NOT NULL DEFAULT 0;"
		  "PRAGMA user_version = 4;",
	[4] = "PRAGMA user_version = 5;", /* the views show epochs with the generation added */
	[5] = "ALTER TABLE log ADD COLUMN key TEXT;"
		  "CREATE INDEX log_keys ON log (number, key) WHERE key IS NOT NULL;"
		  "PRAGMA user_version = 6;",
};

struct sqlite {
	struct store store;
	sqlite3 *connection;
	sqlite3_stmt *statements[STATEMENTS];
	struct witness *witness;
	int64_t version_seen;  /* data_version as of the last commit */
	int64_t version_begun; /* as of the open transaction */
	int64_t appended;      /* number of the newest row of its own */
};

static struct sqlite *
sqlite_of(struct store *store)
{
	return (struct sqlite *)store;
}

/* --- failures --- */

static bool
no_room(int code, int system_error)
{
	return code == SQLITE_FULL ||
	       (code == SQLITE_IOERR &&
	        (system_error == ENOSPC || system_error == EDQUOT || system_error == EFBIG));
}

static enum store_status
status_of(int code, int system_error)
{
	if (code == SQLITE_NOMEM)
		store_no_memory();
	if (code == SQLITE_BUSY || code == SQLITE_LOCKED)
		return STORE_BUSY;
	return no_room(code, system_error) ? STORE_FULL : STORE_ERROR;
}

/* What the system said to SQLITE_IOERR or SQLITE_CANTOPEN; SQLite does not keep it for a COMMIT. */
static int
system_error_of(struct sqlite *db, int code)
{
	if (code != SQLITE_IOERR && code != SQLITE_CANTOPEN)
		return 0;
	return errno != 0 ? errno : sqlite3_system_errno(db->connection);
}

/* The message, and the status to return, for a result that is no success. */
static enum store_status
failed(struct sqlite *db, int result)
{
	int code = result & 0xff;
	int system_error = system_error_of(db, code);
	char *message = db->store.message;

	if (system_error != 0)
		snprintf(message, STORE_MESSAGE_BYTES, "%s (%s)", sqlite3_errmsg(db->connection),
		         strerror(system_error));
	else
		snprintf(message, STORE_MESSAGE_BYTES, "%s", sqlite3_errmsg(db->connection));
	return status_of(code, system_error);
}

/* --- values into a statement, one after the other --- */

struct call {
	struct sqlite *db;
	sqlite3_stmt *statement;
	int at;
	int result;
};

static struct call
call_of(struct sqlite *db, enum statement which)
{
	struct call call = {.db = db, .statement = db->statements[which], .result = SQLITE_OK};

	assert(!sqlite3_stmt_busy(call.statement)); /* a row function called what called it */
	return call;
}

static void
put_number(struct call *call, int64_t number)
{
	int result = sqlite3_bind_int64(call->statement, ++call->at, number);

	if (result != SQLITE_OK)
		call->result = result;
}

/* A text is borrowed until the statement has run. */
static void
put_text(struct call *call, const char *text)
{
	int result = sqlite3_bind_text(call->statement, ++call->at, text, -1, SQLITE_STATIC);

	if (result != SQLITE_OK)
		call->result = result;
}

/* 0, which stands for none, is stored as NULL. */
static void
put_reference(struct call *call, int64_t number)
{
	int result;

	if (number != 0) {
		put_number(call, number);
		return;
	}
	result = sqlite3_bind_null(call->statement, ++call->at);
	if (result != SQLITE_OK)
		call->result = result;
}

/* --- running a statement --- */

/* On to the next row, unless a value could not be put. */
static int
step(struct call *call)
{
	if (call->result == SQLITE_OK || call->result == SQLITE_ROW) {
		errno = 0;
		call->result = sqlite3_step(call->statement);
	}
	return call->result;
}

/* Ends a call; a row that was left to be read is none that failed. */
static enum store_status
finish(struct call *call)
{
	bool good = call->result == SQLITE_DONE || call->result == SQLITE_ROW;
	enum store_status status = good ? STORE_OK : failed(call->db, call->result);

	sqlite3_reset(call->statement);
	return status;
}

static enum store_status
run(struct call *call)
{
	step(call);
	return finish(call);
}

static enum store_status
run_plain(struct sqlite *db, enum statement which)
{
	struct call call = call_of(db, which);

	return run(&call);
}

/* Runs what must change a row. */
static enum store_status
run_on_row(struct call *call)
{
	enum store_status status = run(call);

	if (status == STORE_OK && sqlite3_changes(call->db->connection) == 0)
		return STORE_NONE;
	return status;
}

static enum store_status
run_on_id(struct sqlite *db, enum statement which, int64_t id)
{
	struct call call = call_of(db, which);

	put_number(&call, id);
	return run_on_row(&call);
}

static enum store_status
run_insert(struct call *call, int64_t *id)
{
	enum store_status status = run(call);

	if (status == STORE_OK)
		*id = sqlite3_last_insert_rowid(call->db->connection);
	return status;
}

/* --- values out of a row, one after the other --- */

struct columns {
	sqlite3_stmt *statement;
	int at;
};

static int64_t
take_number(struct columns *columns)
{
	return sqlite3_column_int64(columns->statement, columns->at++);
}

static const char *
take_text(struct columns *columns)
{
	int at = columns->at++;
	const char *text = (const char *)sqlite3_column_text(columns->statement, at);

	if (text == NULL && sqlite3_column_type(columns->statement, at) != SQLITE_NULL)
		store_no_memory();
	return text;
}

static struct store_record
take_record(struct columns *columns)
{
	struct store_record record;

	record.number = take_number(columns);
	record.previous = take_number(columns);
	record.instance = take_number(columns);
	record.revision = take_number(columns);
	record.version = take_number(columns);
	record.kind = (enum store_kind)take_number(columns);
	record.socket = take_number(columns);
	record.message = take_number(columns);
	record.time_ms = take_number(columns);
	record.ref = take_text(columns);
	record.join_ref = take_text(columns);
	record.event = take_text(columns);
	record.operations = take_text(columns);
	record.events = take_text(columns);
	record.state = take_text(columns);
	record.detail = take_text(columns);
	record.told = take_text(columns);
	record.built = take_text(columns);
	record.key = take_text(columns);
	return record;
}

static struct store_instance
take_instance(struct columns *columns)
{
	struct store_instance instance;

	instance.id = take_number(columns);
	instance.topic = take_text(columns);
	instance.shared = take_number(columns) != 0;
	instance.revision = take_number(columns);
	instance.version = take_number(columns);
	instance.last_commit = take_number(columns);
	instance.state_revision = take_number(columns);
	instance.state_version = take_number(columns);
	instance.epoch = take_number(columns);
	instance.schema = take_number(columns);
	return instance;
}

static struct store_socket
take_socket(struct columns *columns)
{
	struct store_socket socket;

	socket.id = take_number(columns);
	socket.token = take_text(columns);
	socket.address = take_text(columns);
	socket.format = take_number(columns);
	socket.assigns = take_text(columns);
	socket.connected_ms = take_number(columns);
	return socket;
}

static struct store_join
take_join(struct columns *columns)
{
	struct store_join join;

	join.number = take_number(columns);
	join.ended = take_number(columns);
	join.socket = take_number(columns);
	join.instance = take_number(columns);
	join.topic = take_text(columns);
	join.join_ref = take_text(columns);
	join.assigns = take_text(columns);
	join.state_key = take_text(columns);
	join.state_version_key = take_text(columns);
	join.wants = take_number(columns);
	return join;
}

static struct store_broadcast
take_broadcast(struct columns *columns)
{
	struct store_broadcast broadcast;

	broadcast.id = take_number(columns);
	broadcast.topic = take_text(columns);
	broadcast.payload = take_text(columns);
	broadcast.hops = take_number(columns);
	broadcast.time_ms = take_number(columns);
	return broadcast;
}

static struct store_timer
take_timer(struct columns *columns)
{
	struct store_timer timer;

	timer.number = take_number(columns);
	timer.id = take_number(columns);
	timer.instance = take_number(columns);
	timer.kind = take_number(columns);
	timer.due_ms = take_number(columns);
	timer.payload = take_text(columns);
	return timer;
}

static struct store_presence
take_presence(struct columns *columns)
{
	struct store_presence presence;

	presence.number = take_number(columns);
	presence.instance = take_number(columns);
	presence.join = take_number(columns);
	presence.key = take_text(columns);
	presence.meta = take_text(columns);
	return presence;
}

static struct store_answer
take_answer(struct columns *columns)
{
	struct store_answer answer;

	answer.key = take_text(columns);
	answer.digest = take_text(columns);
	answer.answer = take_text(columns);
	answer.until_ms = take_number(columns);
	return answer;
}

/* --- rows to the caller's function --- */

/* Whom rows go to: hand takes a row apart and calls the function of its kind. */
struct receiver {
	bool (*hand)(const struct receiver *receiver, struct columns columns);
	union {
		store_record_fn *record;
		store_instance_fn *instance;
		store_socket_fn *socket;
		store_join_fn *join;
		store_broadcast_fn *broadcast;
		store_timer_fn *timer;
		store_presence_fn *presence;
		store_answer_fn *answer;
		store_key_fn *key;
	} row;
	void *context;
};

static bool
hand_record(const struct receiver *receiver, struct columns columns)
{
	struct store_record record = take_record(&columns);

	return receiver->row.record(receiver->context, &record);
}

static bool
hand_instance(const struct receiver *receiver, struct columns columns)
{
	struct store_instance instance = take_instance(&columns);

	return receiver->row.instance(receiver->context, &instance);
}

static bool
hand_socket(const struct receiver *receiver, struct columns columns)
{
	struct store_socket socket = take_socket(&columns);

	return receiver->row.socket(receiver->context, &socket);
}

static bool
hand_join(const struct receiver *receiver, struct columns columns)
{
	struct store_join join = take_join(&columns);

	return receiver->row.join(receiver->context, &join);
}

static bool
hand_broadcast(const struct receiver *receiver, struct columns columns)
{
	int64_t instance = take_number(&columns);
	struct store_broadcast broadcast = take_broadcast(&columns);

	return receiver->row.broadcast(receiver->context, instance, &broadcast);
}

static bool
hand_timer(const struct receiver *receiver, struct columns columns)
{
	struct store_timer timer = take_timer(&columns);

	return receiver->row.timer(receiver->context, &timer);
}

static bool
hand_presence(const struct receiver *receiver, struct columns columns)
{
	struct store_presence presence = take_presence(&columns);

	return receiver->row.presence(receiver->context, &presence);
}

static bool
hand_answer(const struct receiver *receiver, struct columns columns)
{
	struct store_answer answer = take_answer(&columns);

	return receiver->row.answer(receiver->context, &answer);
}

static bool
hand_key(const struct receiver *receiver, struct columns columns)
{
	int64_t number = take_number(&columns);

	return receiver->row.key(receiver->context, number, take_text(&columns));
}

static bool
hand(const struct receiver *receiver, const struct call *call)
{
	return receiver->hand(receiver, (struct columns){.statement = call->statement});
}

static enum store_status
run_scan(struct call *call, const struct receiver *receiver)
{
	while (step(call) == SQLITE_ROW)
		if (!hand(receiver, call))
			break;
	return finish(call);
}

/* Hands over the one row there may be. */
static enum store_status
run_one(struct call *call, const struct receiver *receiver)
{
	enum store_status status;
	bool found = step(call) == SQLITE_ROW;

	if (found)
		hand(receiver, call);
	status = finish(call);
	return status == STORE_OK && !found ? STORE_NONE : status;
}

/* --- transactions --- */

static enum store_status
data_version(struct sqlite *db, int64_t *version)
{
	struct call call = call_of(db, DATA_VERSION);

	if (step(&call) == SQLITE_ROW)
		*version = sqlite3_column_int64(call.statement, 0);
	return finish(&call);
}

static void
sqlite_rollback(struct store *store)
{
	struct sqlite *db = sqlite_of(store);

	if (sqlite3_get_autocommit(db->connection) == 0)
		(void)run_plain(db, ROLLBACK);
}

static enum store_status
sqlite_begin(struct store *store, bool *foreign)
{
	struct sqlite *db = sqlite_of(store);
	enum store_status status = run_plain(db, BEGIN);

	db->appended = 0;
	if (status != STORE_OK)
		return status;
	status = data_version(db, &db->version_begun);
	if (status != STORE_OK)
		sqlite_rollback(store);
	else
		*foreign = db->version_begun != db->version_seen;
	return status;
}

static enum store_status
sqlite_commit(struct store *store)
{
	struct sqlite *db = sqlite_of(store);
	enum store_status status = run_plain(db, COMMIT);

	if (status != STORE_OK)
		return status;
	db->version_seen = db->version_begun;
	witness_raise(db->witness, db->appended);
	return STORE_OK;
}

static bool
sqlite_changed(struct store *store)
{
	struct sqlite *db = sqlite_of(store);
	int64_t version = 0;

	return data_version(db, &version) != STORE_OK || version != db->version_seen;
}

/* --- the log --- */

static enum store_status
sqlite_append(struct store *store, struct store_record *record)
{
	struct sqlite *db = sqlite_of(store);
	struct call call = call_of(db, LOG_APPEND);
	enum store_status status;

	put_reference(&call, record->previous);
	put_number(&call, record->instance);
	put_number(&call, record->revision);
	put_number(&call, record->version);
	put_number(&call, record->kind);
	put_reference(&call, record->socket);
	put_reference(&call, record->message);
	put_number(&call, record->time_ms);
	put_text(&call, record->ref);
	put_text(&call, record->join_ref);
	put_text(&call, record->event);
	put_text(&call, record->operations);
	put_text(&call, record->events);
	put_text(&call, record->state);
	put_text(&call, record->detail);
	put_text(&call, record->told);
	put_text(&call, record->built);
	put_text(&call, record->key);
	status = run_insert(&call, &record->number);
	if (status == STORE_OK)
		db->appended = record->number;
	return status;
}

/* Oldest and newest number; 0 when there is no row. */
static enum store_status
log_ends(struct sqlite *db, int64_t *first, int64_t *last)
{
	struct call call = call_of(db, LOG_ENDS);

	if (step(&call) == SQLITE_ROW) {
		*first = sqlite3_column_int64(call.statement, 0);
		*last = sqlite3_column_int64(call.statement, 1);
	}
	return finish(&call);
}

static enum store_status
sqlite_last(struct store *store, int64_t *number)
{
	int64_t first;

	return log_ends(sqlite_of(store), &first, number);
}

static enum store_status
sqlite_scan(struct store *store, int64_t after, int64_t until, store_record_fn *row, void *context)
{
	struct call call = call_of(sqlite_of(store), LOG_SCAN);
	struct receiver receiver = {hand_record, {.record = row}, context};

	put_number(&call, after);
	put_number(&call, until);
	return run_scan(&call, &receiver);
}

static enum store_status
sqlite_scan_back(struct store *store, store_record_fn *row, void *context)
{
	struct call call = call_of(sqlite_of(store), LOG_SCAN_BACK);
	struct receiver receiver = {hand_record, {.record = row}, context};

	return run_scan(&call, &receiver);
}

static enum store_status
sqlite_scan_keys(struct store *store, store_key_fn *row, void *context)
{
	struct call call = call_of(sqlite_of(store), LOG_KEYS);
	struct receiver receiver = {hand_key, {.key = row}, context};

	return run_scan(&call, &receiver);
}

/* One row of a history, and where it goes on: 0 when it ends here. */
static enum store_status
history_row(struct sqlite *db, const struct receiver *receiver, int64_t *number)
{
	struct call call = call_of(db, LOG_GET);
	int64_t previous = 0;

	put_number(&call, *number);
	if (step(&call) == SQLITE_ROW) {
		previous = sqlite3_column_int64(call.statement, 1);
		if (!hand(receiver, &call) || previous >= *number) /* the latter in a damaged log */
			previous = 0;
	}
	*number = previous;
	return finish(&call);
}

static enum store_status
sqlite_history(struct store *store, int64_t number, store_record_fn *row, void *context)
{
	struct receiver receiver = {hand_record, {.record = row}, context};
	enum store_status status = STORE_OK;

	while (number > 0 && status == STORE_OK)
		status = history_row(sqlite_of(store), &receiver, &number);
	return status;
}

/* Deletes the rows that a number selects, be there any or none. */
static enum store_status
delete_all(struct sqlite *db, enum statement which, int64_t number)
{
	enum store_status status = run_on_id(db, which, number);

	return status == STORE_NONE ? STORE_OK : status;
}

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static enum store_status
sqlite_prune(struct store *store, int64_t until, int limit, int *deleted)
{
	struct sqlite *db = sqlite_of(store);
	int64_t first = 0;
	int64_t last = 0;
	enum store_status status = log_ends(db, &first, &last);

	if (status != STORE_OK || last == 0)
		return status;
	until = least(until, least(last - 1, first + limit - 1));
	status = delete_all(db, LOG_PRUNE, until);
	if (status != STORE_OK)
		return status;
	*deleted = sqlite3_changes(db->connection);
	return delete_all(db, JOIN_PRUNE, until);
}

/* --- instances --- */

static bool
is_long(const char *state)
{
	return state != NULL && strlen(state) > LONG_STATE_BYTES;
}

/* Writes the long state of an instance, or sees to it that it has none. */
static enum store_status
put_long_state(struct sqlite *db, int64_t instance, const char *state)
{
	struct call call;

	if (!is_long(state))
		return delete_all(db, LONG_STATE_DELETE, instance);
	call = call_of(db, LONG_STATE_PUT);
	put_number(&call, instance);
	put_text(&call, state);
	return run(&call);
}

static enum store_status
sqlite_instance_add(struct store *store, struct store_instance *instance, const char *state)
{
	struct sqlite *db = sqlite_of(store);
	struct call call = call_of(db, INSTANCE_ADD);
	enum store_status status;

	put_text(&call, instance->topic);
	put_number(&call, instance->shared);
	put_number(&call, instance->revision);
	put_number(&call, instance->version);
	put_reference(&call, instance->last_commit);
	put_number(&call, instance->state_revision);
	put_number(&call, instance->state_version);
	put_number(&call, instance->epoch);
	put_number(&call, instance->schema);
	put_text(&call, is_long(state) ? NULL : state);
	status = run_insert(&call, &instance->id);
	return status == STORE_OK ? put_long_state(db, instance->id, state) : status;
}

/* The numbers that both ways of putting an instance begin with. */
static struct call
put_call(struct sqlite *db, enum statement which, const struct store_instance *instance)
{
	struct call call = call_of(db, which);

	put_number(&call, instance->id);
	put_number(&call, instance->revision);
	put_number(&call, instance->version);
	put_reference(&call, instance->last_commit);
	return call;
}

static enum store_status
put_with_state(struct sqlite *db, const struct store_instance *instance, const char *state)
{
	struct call call = put_call(db, INSTANCE_PUT_STATE, instance);
	enum store_status status;

	put_number(&call, instance->state_revision);
	put_number(&call, instance->state_version);
	put_text(&call, is_long(state) ? NULL : state);
	status = run_on_row(&call);
	return status == STORE_OK ? put_long_state(db, instance->id, state) : status;
}

static enum store_status
sqlite_instance_put(struct store *store, const struct store_instance *instance, const char *state)
{
	struct sqlite *db = sqlite_of(store);
	struct call call;

	if (state != NULL)
		return put_with_state(db, instance, state);
	call = put_call(db, INSTANCE_PUT, instance);
	return run_on_row(&call);
}

static enum store_status
sqlite_instance_schema(struct store *store, int64_t id, int64_t schema)
{
	struct call call = call_of(sqlite_of(store), INSTANCE_SCHEMA);

	put_number(&call, id);
	put_number(&call, schema);
	return run_on_row(&call);
}

static enum store_status
sqlite_instance_delete(struct store *store, int64_t id)
{
	struct sqlite *db = sqlite_of(store);
	static const enum statement its[] = {LONG_STATE_DELETE, UNSUBSCRIBE_ALL, TIMER_DELETE_ALL,
	                                     PRESENCE_DELETE_ALL};
	enum store_status status = run_on_id(db, INSTANCE_DELETE, id);

	for (size_t i = 0; i < sizeof(its) / sizeof(its[0]) && status == STORE_OK; i++)
		status = delete_all(db, its[i], id);
	return status;
}

static enum store_status
sqlite_instance_find(struct store *store, const char *topic, store_instance_fn *row, void *context)
{
	struct call call = call_of(sqlite_of(store), INSTANCE_FIND);
	struct receiver receiver = {hand_instance, {.instance = row}, context};

	put_text(&call, topic);
	return run_one(&call, &receiver);
}

static enum store_status
sqlite_instance_get(struct store *store, int64_t id, store_instance_fn *row, void *context)
{
	struct call call = call_of(sqlite_of(store), INSTANCE_GET);
	struct receiver receiver = {hand_instance, {.instance = row}, context};

	put_number(&call, id);
	return run_one(&call, &receiver);
}

/* A copy of the text in a row's first column; NULL stays NULL. */
static char *
copy_text(const struct call *call)
{
	struct columns columns = {.statement = call->statement};
	const char *text = take_text(&columns);

	return text == NULL ? NULL : store_check_memory(strdup(text));
}

static enum store_status
sqlite_instance_state(struct store *store, int64_t id, char **state)
{
	struct call call = call_of(sqlite_of(store), INSTANCE_STATE);
	enum store_status status;
	bool found;

	put_number(&call, id);
	found = step(&call) == SQLITE_ROW;
	if (found)
		*state = copy_text(&call);
	status = finish(&call);
	return status == STORE_OK && !found ? STORE_NONE : status;
}

static enum store_status
sqlite_scan_instances(struct store *store, store_instance_fn *row, void *context)
{
	struct call call = call_of(sqlite_of(store), INSTANCE_SCAN);
	struct receiver receiver = {hand_instance, {.instance = row}, context};

	return run_scan(&call, &receiver);
}

/* --- sockets and joins --- */

static enum store_status
sqlite_socket_add(struct store *store, struct store_socket *socket)
{
	struct call call = call_of(sqlite_of(store), SOCKET_ADD);

	put_text(&call, socket->token);
	put_text(&call, socket->address);
	put_number(&call, socket->format);
	put_text(&call, socket->assigns);
	put_number(&call, socket->connected_ms);
	return run_insert(&call, &socket->id);
}

static enum store_status
sqlite_socket_delete(struct store *store, int64_t id)
{
	struct sqlite *db = sqlite_of(store);
	enum store_status status = run_on_id(db, SOCKET_DELETE, id);

	if (status != STORE_OK)
		return status;
	return delete_all(db, JOIN_DELETE, id);
}

static enum store_status
sqlite_scan_sockets(struct store *store, store_socket_fn *row, void *context)
{
	struct call call = call_of(sqlite_of(store), SOCKET_SCAN);
	struct receiver receiver = {hand_socket, {.socket = row}, context};

	return run_scan(&call, &receiver);
}

static enum store_status
sqlite_join_add(struct store *store, const struct store_join *join)
{
	struct call call = call_of(sqlite_of(store), JOIN_ADD);

	put_number(&call, join->number);
	put_reference(&call, join->ended);
	put_number(&call, join->socket);
	put_number(&call, join->instance);
	put_text(&call, join->topic);
	put_text(&call, join->join_ref);
	put_text(&call, join->assigns);
	put_text(&call, join->state_key);
	put_text(&call, join->state_version_key);
	put_number(&call, join->wants);
	return run(&call);
}

static enum store_status
sqlite_join_assigns(struct store *store, int64_t number, const char *assigns)
{
	struct call call = call_of(sqlite_of(store), JOIN_ASSIGNS);

	put_number(&call, number);
	put_text(&call, assigns);
	return run_on_row(&call);
}

static enum store_status
sqlite_join_end(struct store *store, int64_t number, int64_t ended)
{
	struct call call = call_of(sqlite_of(store), JOIN_END);

	put_number(&call, number);
	put_number(&call, ended);
	return run_on_row(&call);
}

static enum store_status
sqlite_scan_joins(struct store *store, store_join_fn *row, void *context)
{
	struct call call = call_of(sqlite_of(store), JOIN_SCAN);
	struct receiver receiver = {hand_join, {.join = row}, context};

	return run_scan(&call, &receiver);
}

/* --- PubSub --- */

/* The statements that name a subscription begin so. */
static struct call
subscription_call(struct store *store, enum statement which, int64_t instance, const char *topic)
{
	struct call call = call_of(sqlite_of(store), which);

	put_number(&call, instance);
	put_text(&call, topic);
	return call;
}

static enum store_status
sqlite_subscribe(struct store *store, int64_t instance, const char *topic)
{
	struct call call = subscription_call(store, SUBSCRIBE, instance, topic);

	return run(&call);
}

static enum store_status
sqlite_unsubscribe(struct store *store, int64_t instance, const char *topic)
{
	struct call call = subscription_call(store, UNSUBSCRIBE, instance, topic);

	return run_on_row(&call);
}

/* The number that the one row has, if there is one. */
static enum store_status
run_number(struct call *call, int64_t *number)
{
	enum store_status status;
	bool found = step(call) == SQLITE_ROW;

	if (found)
		*number = sqlite3_column_int64(call->statement, 0);
	status = finish(call);
	return status == STORE_OK && !found ? STORE_NONE : status;
}

static enum store_status
sqlite_subscription(struct store *store, int64_t instance, const char *topic, int64_t *position)
{
	struct call call = subscription_call(store, SUBSCRIPTION, instance, topic);

	return run_number(&call, position);
}

static enum store_status
sqlite_subscriptions(struct store *store, int64_t instance, int64_t *count)
{
	struct call call = call_of(sqlite_of(store), SUBSCRIPTION_COUNT);

	put_number(&call, instance);
	return run_number(&call, count);
}

static enum store_status
sqlite_broadcast_add(struct store *store, struct store_broadcast *broadcast)
{
	struct sqlite *db = sqlite_of(store);
	struct call call = call_of(db, BROADCAST_ADD);
	enum store_status status;

	put_text(&call, broadcast->topic);
	put_text(&call, broadcast->payload);
	put_number(&call, broadcast->hops);
	put_number(&call, broadcast->time_ms);
	status = run_on_row(&call);
	if (status == STORE_OK)
		broadcast->id = sqlite3_last_insert_rowid(db->connection);
	return status;
}

static enum store_status
sqlite_scan_pending(struct store *store, const char *after, store_broadcast_fn *row, void *context)
{
	struct call call = call_of(sqlite_of(store), BROADCAST_PENDING);
	struct receiver receiver = {hand_broadcast, {.broadcast = row}, context};

	put_text(&call, after);
	return run_scan(&call, &receiver);
}

static enum store_status
sqlite_scan_broadcasts(struct store *store, const char *topic, int64_t after, store_broadcast_fn *row,
                       void *context)
{
	struct call call = call_of(sqlite_of(store), BROADCAST_SCAN);
	struct receiver receiver = {hand_broadcast, {.broadcast = row}, context};

	put_text(&call, topic);
	put_number(&call, after);
	return run_scan(&call, &receiver);
}

static enum store_status
sqlite_broadcast_done(struct store *store, int64_t instance, const char *topic, int64_t id)
{
	struct call call = subscription_call(store, BROADCAST_DONE, instance, topic);

	put_number(&call, id);
	return run_on_row(&call);
}

static enum store_status
sqlite_broadcasts_prune(struct store *store, const char *topic)
{
	struct call call;

	if (topic == NULL)
		return run_plain(sqlite_of(store), BROADCAST_PRUNE_ALL);
	call = call_of(sqlite_of(store), BROADCAST_PRUNE);
	put_text(&call, topic);
	return run(&call);
}

static enum store_status
sqlite_backlog(struct store *store, int64_t *count)
{
	struct call call = call_of(sqlite_of(store), BROADCAST_BACKLOG);

	return run_number(&call, count);
}

/* --- timers --- */

static enum store_status
sqlite_timer_add(struct store *store, struct store_timer *timer)
{
	struct call call = call_of(sqlite_of(store), TIMER_ADD);

	put_number(&call, timer->id);
	put_number(&call, timer->instance);
	put_number(&call, timer->kind);
	put_number(&call, timer->due_ms);
	put_text(&call, timer->payload);
	return run_insert(&call, &timer->number);
}

static enum store_status
sqlite_timer_delete(struct store *store, int64_t instance, int64_t id)
{
	struct call call = call_of(sqlite_of(store), TIMER_DELETE);

	put_number(&call, instance);
	put_number(&call, id);
	return run_on_row(&call);
}

static enum store_status
sqlite_timer_delete_kind(struct store *store, int64_t instance, int64_t kind)
{
	struct call call = call_of(sqlite_of(store), TIMER_DELETE_KIND);

	put_number(&call, instance);
	put_number(&call, kind);
	return run(&call);
}

static enum store_status
sqlite_timer_get(struct store *store, int64_t id, store_timer_fn *row, void *context)
{
	struct call call = call_of(sqlite_of(store), TIMER_GET);
	struct receiver receiver = {hand_timer, {.timer = row}, context};

	put_number(&call, id);
	return run_one(&call, &receiver);
}

static enum store_status
sqlite_scan_timers(struct store *store, store_timer_fn *row, void *context)
{
	struct call call = call_of(sqlite_of(store), TIMER_SCAN);
	struct receiver receiver = {hand_timer, {.timer = row}, context};

	return run_scan(&call, &receiver);
}

static enum store_status
sqlite_set_aside(struct store *store, const struct store_refused *refused)
{
	struct sqlite *db = sqlite_of(store);
	struct call call = call_of(db, REFUSED_ADD);
	enum store_status status;
	int64_t number = 0;

	put_number(&call, refused->instance);
	put_text(&call, refused->instance_topic);
	put_text(&call, refused->topic);
	put_text(&call, refused->payload);
	put_text(&call, refused->reason);
	put_number(&call, refused->time_ms);
	status = run_insert(&call, &number);
	return status == STORE_OK ? delete_all(db, REFUSED_PRUNE, number - STORE_REFUSED_MAX) : status;
}

/* --- presence --- */

static enum store_status
sqlite_presence_put(struct store *store, struct store_presence *presence)
{
	bool is_new = presence->number == 0;
	struct call call = call_of(sqlite_of(store), is_new ? PRESENCE_ADD : PRESENCE_PUT);

	put_number(&call, presence->instance);
	put_number(&call, presence->join);
	put_text(&call, presence->key);
	put_text(&call, presence->meta);
	if (is_new)
		return run_insert(&call, &presence->number);
	put_number(&call, presence->number);
	return run_on_row(&call);
}

static enum store_status
sqlite_presence_delete(struct store *store, int64_t number)
{
	return run_on_id(sqlite_of(store), PRESENCE_DELETE, number);
}

static enum store_status
sqlite_scan_presences(struct store *store, int64_t instance, store_presence_fn *row, void *context)
{
	struct call call = call_of(sqlite_of(store), PRESENCE_SCAN);
	struct receiver receiver = {hand_presence, {.presence = row}, context};

	put_number(&call, instance);
	return run_scan(&call, &receiver);
}

/* --- answers --- */

static enum store_status
sqlite_answer_add(struct store *store, const struct store_answer *answer)
{
	struct call call = call_of(sqlite_of(store), ANSWER_ADD);

	put_text(&call, answer->key);
	put_text(&call, answer->digest);
	put_text(&call, answer->answer);
	put_number(&call, answer->until_ms);
	return run_on_row(&call);
}

static enum store_status
sqlite_answer_get(struct store *store, const char *key, store_answer_fn *row, void *context)
{
	struct call call = call_of(sqlite_of(store), ANSWER_GET);
	struct receiver receiver = {hand_answer, {.answer = row}, context};

	put_text(&call, key);
	return run_one(&call, &receiver);
}

static enum store_status
sqlite_answers_prune(struct store *store, int64_t now_ms)
{
	return delete_all(sqlite_of(store), ANSWER_PRUNE, now_ms);
}

/* --- marks --- */

static enum store_status
sqlite_mark_put(struct store *store, const char *name, int64_t value)
{
	struct call call = call_of(sqlite_of(store), MARK_PUT);

	put_text(&call, name);
	put_number(&call, value);
	return run(&call);
}

static enum store_status
sqlite_mark_get(struct store *store, const char *name, int64_t *value)
{
	struct call call = call_of(sqlite_of(store), MARK_GET);

	put_text(&call, name);
	if (step(&call) == SQLITE_ROW)
		*value = sqlite3_column_int64(call.statement, 0);
	return finish(&call);
}

/* --- opening and closing --- */

static void
sqlite_close(struct store *store)
{
	struct sqlite *db = sqlite_of(store);

	for (int i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(db->statements[i]);
	sqlite3_close(db->connection);
	witness_close(db->witness);
	free(db);
}

static const struct store_backend sqlite_backend = {
	.close = sqlite_close,
	.changed = sqlite_changed,
	.begin = sqlite_begin,
	.commit = sqlite_commit,
	.rollback = sqlite_rollback,
	.append = sqlite_append,
	.last = sqlite_last,
	.scan = sqlite_scan,
	.scan_back = sqlite_scan_back,
	.scan_keys = sqlite_scan_keys,
	.history = sqlite_history,
	.prune = sqlite_prune,
	.instance_add = sqlite_instance_add,
	.instance_put = sqlite_instance_put,
	.instance_delete = sqlite_instance_delete,
	.instance_find = sqlite_instance_find,
	.instance_get = sqlite_instance_get,
	.instance_state = sqlite_instance_state,
	.scan_instances = sqlite_scan_instances,
	.socket_add = sqlite_socket_add,
	.socket_delete = sqlite_socket_delete,
	.scan_sockets = sqlite_scan_sockets,
	.join_add = sqlite_join_add,
	.join_assigns = sqlite_join_assigns,
	.join_end = sqlite_join_end,
	.scan_joins = sqlite_scan_joins,
	.subscribe = sqlite_subscribe,
	.unsubscribe = sqlite_unsubscribe,
	.subscription = sqlite_subscription,
	.subscriptions = sqlite_subscriptions,
	.broadcast_add = sqlite_broadcast_add,
	.scan_pending = sqlite_scan_pending,
	.scan_broadcasts = sqlite_scan_broadcasts,
	.broadcast_done = sqlite_broadcast_done,
	.broadcasts_prune = sqlite_broadcasts_prune,
	.backlog = sqlite_backlog,
	.timer_add = sqlite_timer_add,
	.timer_delete = sqlite_timer_delete,
	.timer_get = sqlite_timer_get,
	.scan_timers = sqlite_scan_timers,
	.set_aside = sqlite_set_aside,
	.instance_schema = sqlite_instance_schema,
	.timer_delete_kind = sqlite_timer_delete_kind,
	.presence_put = sqlite_presence_put,
	.presence_delete = sqlite_presence_delete,
	.scan_presences = sqlite_scan_presences,
	.answer_add = sqlite_answer_add,
	.answer_get = sqlite_answer_get,
	.answers_prune = sqlite_answers_prune,
	.mark_put = sqlite_mark_put,
	.mark_get = sqlite_mark_get,
};

static bool refuse(struct sqlite *db, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* false, with a reason why the database cannot be opened */
static bool
refuse(struct sqlite *db, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(db->store.message, STORE_MESSAGE_BYTES, format, arguments);
	va_end(arguments);
	return false;
}

/* As `result` says; false with the reason when that is a failure. */
static bool
succeeded(struct sqlite *db, int result)
{
	return result == SQLITE_OK || failed(db, result) == STORE_OK;
}

static bool
execute(struct sqlite *db, const char *sql)
{
	return succeeded(db, sqlite3_exec(db->connection, sql, NULL, NULL, NULL));
}

/*
 * Makes the file if there is none, since SQLite would let others read it; -wal and -shm get its
 * mode.  A file that exists is left alone: closing it would drop this process's locks on it.
 */
static bool
make_file(struct sqlite *db, const char *path)
{
	int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (file < 0 && errno != EEXIST)
		return refuse(db, "%s", strerror(errno));
	if (file >= 0)
		close(file);
	return true;
}

/* -wal and -shm are made beside the file. */
static bool
folder_is_writable(struct sqlite *db, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder =
		store_check_memory(slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1));
	int result = faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS);

	free(folder);
	return result == 0 || refuse(db, "its folder: %s", strerror(errno));
}

static bool
connect_file(struct sqlite *db, const char *path)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;

	if (!succeeded(db, sqlite3_open_v2(path, &db->connection, flags, NULL)))
		return false;
	sqlite3_extended_result_codes(db->connection, 1);
	sqlite3_busy_timeout(db->connection, BUSY_MS);
	if (sqlite3_db_readonly(db->connection, "main") != 0)
		return refuse(db, "it may only be read");
	return folder_is_writable(db, path);
}

/* The number that a query gives. */
static bool
ask(struct sqlite *db, const char *sql, int64_t *number)
{
	sqlite3_stmt *statement = NULL;
	int result = sqlite3_prepare_v2(db->connection, sql, -1, &statement, NULL);

	if (result == SQLITE_OK)
		result = sqlite3_step(statement);
	if (result == SQLITE_ROW) {
		*number = sqlite3_column_int64(statement, 0);
		result = SQLITE_OK;
	}
	result = succeeded(db, result);
	sqlite3_finalize(statement);
	return result;
}

/* The schema of a database that is ours or empty (0); false for any other. */
static bool
schema_version(struct sqlite *db, int64_t *version)
{
	int64_t application = 0;
	int64_t tables = 0;

	if (!ask(db, "PRAGMA application_id", &application) || !ask(db, "PRAGMA user_version", version) ||
	    !ask(db, "SELECT count(*) FROM sqlite_master", &tables))
		return false;
	if (application == 0 && *version == 0 && tables == 0)
		return true;
	if (application != APPLICATION_ID || *version < 1)
		return refuse(db, "it is a database of another program");
	if (*version > SCHEMA_VERSION)
		return refuse(db, "its schema %lld is newer than %d, which this program knows",
		              (long long)*version, SCHEMA_VERSION);
	return true;
}

/* As of one moment: another process may be making the database just now. */
static bool
look(struct sqlite *db, int64_t *version)
{
	return execute(db, "BEGIN") && schema_version(db, version) && execute(db, "COMMIT");
}

/*
 * SQLite does not wait here for a lock, lest two processes wait for each other: it is asked again, without
 * a lock of our own meanwhile.
 */
static int
step_patiently(sqlite3_stmt *statement)
{
	int result = sqlite3_step(statement);

	for (int ms = 0; (result & 0xff) == SQLITE_BUSY && ms < BUSY_MS; ms += BUSY_TICK_MS) {
		sqlite3_reset(statement);
		sqlite3_sleep(BUSY_TICK_MS);
		result = sqlite3_step(statement);
	}
	return result;
}

static bool
write_ahead(struct sqlite *db)
{
	sqlite3_stmt *statement = NULL;
	int result = sqlite3_prepare_v2(db->connection, "PRAGMA journal_mode = WAL", -1, &statement, NULL);
	bool good;

	if (result == SQLITE_OK)
		result = step_patiently(statement);
	if (result != SQLITE_ROW)
		good = succeeded(db, result);
	else if (strcmp((const char *)sqlite3_column_text(statement, 0), "wal") != 0)
		good = refuse(db, "a write-ahead log is not possible there");
	else
		good = true;
	sqlite3_finalize(statement);
	return good;
}

static bool
configure(struct sqlite *db, enum store_durability durability)
{
	return execute(db, "PRAGMA page_size = 4096") && write_ahead(db) &&
	       execute(db, durability == STORE_FULLY ? "PRAGMA synchronous = FULL"
	                                             : "PRAGMA synchronous = NORMAL") &&
	       execute(db, "PRAGMA wal_autocheckpoint = 1000;"
	                   "PRAGMA journal_size_limit = 16777216");
}

/* Inside a transaction: another process may be doing the same. */
static bool
migrate(struct sqlite *db)
{
	int64_t version;

	for (;;) {
		if (!schema_version(db, &version))
			return false;
		if (version == SCHEMA_VERSION)
			return execute(db, views_sql);
		if (!execute(db, migrations[version]))
			return false;
	}
}

static bool
bring_up_to_date(struct sqlite *db, int64_t version)
{
	if (version == SCHEMA_VERSION)
		return true;
	return execute(db, "BEGIN IMMEDIATE") && migrate(db) && execute(db, "COMMIT");
}

static bool
prepare_statements(struct sqlite *db)
{
	for (int i = 0; i < STATEMENTS; i++)
		if (!succeeded(db, sqlite3_prepare_v3(db->connection, statement_sql[i], -1,
		                                      SQLITE_PREPARE_PERSISTENT, &db->statements[i], NULL)))
			return false;
	return true;
}

/* --- its history --- */

static bool
where_it_is(struct sqlite *db, int64_t *generation, int64_t *commit)
{
	return ask(db, "SELECT ifnull(" GENERATION ", 0)", generation) &&
	       ask(db, "SELECT ifnull(max(number), 0) FROM log", commit);
}

static bool
agrees(struct sqlite *db, bool *result)
{
	const struct witness_page seen = witness_look(db->witness);
	int64_t generation, commit;

	if (!where_it_is(db, &generation, &commit))
		return false;
	*result = witness_agrees(db->witness, &seen, generation, commit);
	return true;
}

/*
 * Every epoch becomes another, since the generation is part of it.  Sockets are none of the present clients': under
 * tokens that nobody knows they end as those whose clients have gone.  (Without a generation it was an older program's,
 * which goes on.)
 */
static bool
begin_generation(struct sqlite *db)
{
	int64_t generation, commit;

	if (!execute(db, "UPDATE sockets SET token = hex(randomblob(16)) WHERE " GENERATION " IS NOT NULL;"
	                 "REPLACE INTO marks (name, value)"
	                 " VALUES ('generation', random() & " EPOCH_BITS ")") ||
	    !where_it_is(db, &generation, &commit))
		return false;
	witness_begin(db->witness, generation, commit);
	return true;
}

/* Another process may be doing the same: the second finds it done. */
static bool
make_agree(struct sqlite *db)
{
	bool done = false;

	return execute(db, "BEGIN IMMEDIATE") && agrees(db, &done) && (done || begin_generation(db)) &&
	       execute(db, "COMMIT");
}

/* If it does not know all that was handed out of it, it begins a new generation. */
static bool
ask_witness(struct sqlite *db, const char *path, enum store_durability durability)
{
	bool done = false;

	db->witness = witness_open(path);
	if (db->witness == NULL)
		return refuse(db, "its -witness: %s", strerror(errno));
	if (!agrees(db, &done) || (!done && !make_agree(db)))
		return false;
	if (durability == STORE_NORMALLY && !witness_unsafe(db->witness))
		return refuse(db, "its -witness: %s", strerror(errno));
	return true;
}

/* Nothing is written before it is clear that the file is ours or empty. */
static bool
open_file(struct sqlite *db, const char *path, enum store_durability durability)
{
	int64_t version = 0;

	return make_file(db, path) && connect_file(db, path) && look(db, &version) &&
	       configure(db, durability) && bring_up_to_date(db, version) &&
	       ask_witness(db, path, durability) && prepare_statements(db) &&
	       data_version(db, &db->version_seen) == STORE_OK;
}

struct store *
store_open_sqlite(const char *path, enum store_durability durability, char **error)
{
	struct sqlite *db = store_check_memory(calloc(1, sizeof(*db)));

	db->store.backend = &sqlite_backend;
	if (open_file(db, path, durability))
		return &db->store;
	if (asprintf(error, "cannot open database %s: %s", path, db->store.message) < 0)
		store_no_memory();
	sqlite_close(&db->store);
	return NULL;
}
