-- For those who look into the database.  Views hold nothing: they are made anew with each change of the
-- schema.

DROP VIEW IF EXISTS channels;
DROP VIEW IF EXISTS joined;

-- The states.  version and state belong together; when revision is ahead of state_revision, the
-- clients are that many patches further than the state shown here.
CREATE VIEW channels AS
SELECT id,
       topic,
       CASE shared WHEN 1 THEN 'shared' ELSE 'private' END AS scope,
       state_version AS version,
       revision,
       ifnull(state, (SELECT state FROM long_states WHERE instance = id)) AS state,
       state_revision,
       (epoch + (SELECT value FROM marks WHERE name = 'generation')) & 0x1fffffffffffff AS epoch,
       datetime(updated_ms / 1000, 'unixepoch') AS updated  -- UTC
FROM instances;

-- Who is joined to what.  assigns are the join's, with the state and its version (as in channels) under
-- the names that the channel gives them.
CREATE VIEW joined AS
SELECT joins.topic,
       joins.join_ref,
       sockets.token AS socket,
       channels.id AS instance,
       json_set(ifnull(joins.assigns, '{}'),
                '$."' || ifnull(state_key, 'state') || '"', json(state),
                '$."' || ifnull(state_version_key, 'version') || '"', version) AS assigns
FROM joins
JOIN sockets ON sockets.id = joins.socket
JOIN channels ON channels.id = joins.instance
WHERE joins.ended IS NULL;
