-- The database of a Seance program, as it is made when there is none.
--
-- Look into it while the program runs:
--   sqlite3 -readonly run/seance.db 'select topic, version, state from channels'
-- but never copy the file alone: what was committed last is in the -wal file beside it
-- (sqlite3 run/seance.db '.backup copy.db' copies all of it).  The -witness file tells whether the database
-- knows all that was handed out of it; if not, because a backup was put back, a new generation begins.
--
-- A change here raises user_version and adds a step to `migrations` in sqlite.c; the views are in views.sql.
-- All *_ms are Unix time in milliseconds.  NULL in a number means: none.

PRAGMA application_id = 1399153006;  -- "Sean"
PRAGMA user_version = 6;

CREATE TABLE instances (
	id             INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again: the log names it
	topic          TEXT NOT NULL,
	shared         INTEGER NOT NULL,  -- 1: one for the topic, 0: one for a join
	epoch          INTEGER NOT NULL,  -- less the generation, a mark, which all are shown with: see views.sql
	revision       INTEGER NOT NULL,
	version        INTEGER NOT NULL,
	last_commit    INTEGER,           -- the newest row in log; log.previous leads on from there
	updated_ms     INTEGER,           -- time of last_commit
	state_revision INTEGER NOT NULL,  -- the state is as of this revision ...
	state_version  INTEGER NOT NULL,  -- ... and version; the log has the patches since
	state          TEXT,              -- NULL: a long one
	schema         INTEGER NOT NULL DEFAULT 0  -- state_schema of the channel when it was last changed
);

CREATE UNIQUE INDEX instances_topic ON instances (topic) WHERE shared = 1;

-- Long states (over 16 KB), apart: writing another column of a row copies all of the row.
CREATE TABLE long_states (
	instance INTEGER PRIMARY KEY,
	state    TEXT NOT NULL
);

-- No index of all: it would cost more than the rest of a commit.  The newest row is never deleted, so
-- that no number is used again.
CREATE TABLE log (
	number     INTEGER PRIMARY KEY,
	previous   INTEGER,  -- the instance's row before this one
	instance   INTEGER NOT NULL,
	revision   INTEGER NOT NULL,
	version    INTEGER NOT NULL,
	kind       INTEGER NOT NULL,  -- 1 event, 2 join, 3 leave, 4 refresh, 5 crash, 6, 7 presence, 8 answer
	socket     INTEGER,  -- the cause
	message    INTEGER,  -- the socket's message that is done by this row
	time_ms    INTEGER NOT NULL,
	ref        TEXT,
	join_ref   TEXT,
	event      TEXT,
	operations TEXT,     -- RFC 6902: what became of the state
	events     TEXT,     -- sent to clients
	state      TEXT,     -- the full state as it was told: in a join, a refresh, or in place of a patch
	detail     TEXT,
	told       TEXT,     -- RFC 6902: told instead of operations, which have what clients are not to see
	built      TEXT,     -- {"event", "payload"}: the channel's own message, told instead of patch or state
	key        TEXT      -- under which the event is not done again
);

CREATE INDEX log_keys ON log (number, key) WHERE key IS NOT NULL;  -- read at each start; grows at its end alone

CREATE TABLE sockets (
	id           INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again: the log names it
	token        TEXT NOT NULL,
	address      TEXT,
	format       INTEGER NOT NULL,
	connected_ms INTEGER NOT NULL,
	assigns      TEXT                -- as connect set them; each join begins with a copy
);

CREATE TABLE joins (
	number   INTEGER PRIMARY KEY,  -- of the commit that made it
	ended    INTEGER,              -- number of the commit that ended it
	socket   INTEGER NOT NULL,
	instance INTEGER NOT NULL,
	topic    TEXT NOT NULL,
	join_ref TEXT,
	assigns  TEXT,                 -- the join's own; NULL: empty
	state_key         TEXT,        -- the members of its assigns that show state ...
	state_version_key TEXT,        -- ... and version (see joined in views.sql); NULL: "state", "version"
	wants    INTEGER NOT NULL DEFAULT 0  -- bits: 1 it may resume, 2 replies, 4 private, 8 by requests
);

CREATE INDEX joins_socket ON joins (socket);
CREATE INDEX joins_ended ON joins (ended) WHERE ended IS NOT NULL;

-- PubSub: a subscribed instance was given all of a topic's broadcasts up to its position.  What all were
-- given goes; what was broadcast while nobody was subscribed was never stored.
CREATE TABLE subscriptions (
	instance INTEGER NOT NULL,
	topic    TEXT NOT NULL,
	position INTEGER NOT NULL,
	PRIMARY KEY (instance, topic)
) WITHOUT ROWID;

CREATE INDEX subscriptions_topic ON subscriptions (topic, position);

CREATE TABLE broadcasts (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again: positions name it
	topic   TEXT NOT NULL,
	payload TEXT NOT NULL,
	hops    INTEGER NOT NULL,  -- broadcasts that led to it
	time_ms INTEGER NOT NULL
);

CREATE INDEX broadcasts_topic ON broadcasts (topic);

CREATE TABLE timers (
	number   INTEGER PRIMARY KEY,  -- those due at the same time go in this order
	id       INTEGER NOT NULL UNIQUE,
	instance INTEGER NOT NULL,
	kind     INTEGER NOT NULL,  -- 0 a channel's own, 1 joined, 2 left, 3 present, 4 absent, 5 idle
	due_ms   INTEGER NOT NULL,
	payload  TEXT NOT NULL
);

CREATE INDEX timers_due ON timers (due_ms);
CREATE INDEX timers_instance ON timers (instance);

-- Broadcasts and timers that crashed the callback again and again; the newest 10,000.
CREATE TABLE refused (
	number         INTEGER PRIMARY KEY AUTOINCREMENT,
	instance       INTEGER NOT NULL,
	instance_topic TEXT NOT NULL,
	topic          TEXT,     -- of PubSub; NULL: a timer
	payload        TEXT NOT NULL,
	reason         TEXT NOT NULL,
	time_ms        INTEGER NOT NULL
);

-- Who is shown as present; one whose join has ended stays for a while, since it may come back.
CREATE TABLE presences (
	number   INTEGER PRIMARY KEY,
	instance INTEGER NOT NULL,
	"join"   INTEGER NOT NULL,
	key      TEXT NOT NULL,
	meta     TEXT NOT NULL
);

CREATE INDEX presences_instance ON presences (instance);

-- What HTTP requests were answered that may come again: by their Idempotency-Key, or sent again by nginx.
CREATE TABLE answers (
	key      TEXT PRIMARY KEY,
	digest   TEXT NOT NULL,  -- of what was asked
	answer   TEXT NOT NULL,
	until_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX answers_until ON answers (until_ms);

CREATE TABLE marks (
	name  TEXT PRIMARY KEY,
	value INTEGER NOT NULL
) WITHOUT ROWID;
