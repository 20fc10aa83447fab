PRAGMA application_id = 1399153006;
PRAGMA user_version = 1;

CREATE TABLE instances (
	id             INTEGER PRIMARY KEY AUTOINCREMENT,
	topic          TEXT NOT NULL,
	shared         INTEGER NOT NULL,
	epoch          INTEGER NOT NULL,
	revision       INTEGER NOT NULL,
	version        INTEGER NOT NULL,
	last_commit    INTEGER,
	updated_ms     INTEGER,
	state_revision INTEGER NOT NULL,
	state_version  INTEGER NOT NULL,
	state          TEXT
);

CREATE UNIQUE INDEX instances_topic ON instances (topic) WHERE shared = 1;

CREATE TABLE long_states (
	instance INTEGER PRIMARY KEY,
	state    TEXT NOT NULL
);

CREATE TABLE log (
	number     INTEGER PRIMARY KEY,
	previous   INTEGER,
	instance   INTEGER NOT NULL,
	revision   INTEGER NOT NULL,
	version    INTEGER NOT NULL,
	kind       INTEGER NOT NULL,
	socket     INTEGER,
	message    INTEGER,
	time_ms    INTEGER NOT NULL,
	ref        TEXT,
	join_ref   TEXT,
	event      TEXT,
	operations TEXT,
	events     TEXT,
	state      TEXT,
	detail     TEXT
);

CREATE TABLE sockets (
	id           INTEGER PRIMARY KEY AUTOINCREMENT,
	token        TEXT NOT NULL,
	address      TEXT,
	format       INTEGER NOT NULL,
	connected_ms INTEGER NOT NULL,
	assigns      TEXT
);

CREATE TABLE joins (
	number   INTEGER PRIMARY KEY,
	ended    INTEGER,
	socket   INTEGER NOT NULL,
	instance INTEGER NOT NULL,
	topic    TEXT NOT NULL,
	join_ref TEXT
);

CREATE INDEX joins_socket ON joins (socket);
CREATE INDEX joins_ended ON joins (ended) WHERE ended IS NOT NULL;

CREATE TABLE marks (
	name  TEXT PRIMARY KEY,
	value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE VIEW channels AS
SELECT id,
       topic,
       CASE shared WHEN 1 THEN 'shared' ELSE 'private' END AS scope,
       state_version AS version,
       revision,
       ifnull(state, (SELECT state FROM long_states WHERE instance = id)) AS state,
       state_revision,
       epoch,
       datetime(updated_ms / 1000, 'unixepoch') AS updated
FROM instances;
