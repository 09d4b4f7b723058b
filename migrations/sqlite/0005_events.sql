-- What happens to processes, one row for each start, each end, and what lies between. A row says all by itself: its
-- process may be purged.

CREATE TABLE event (
    id         INTEGER PRIMARY KEY AUTOINCREMENT, -- AUTOINCREMENT: never given twice, also after a purge
    type       TEXT NOT NULL,
    ts         INTEGER NOT NULL,                  -- when it happened
    latest_ts  INTEGER NOT NULL,                  -- the highest ts up to here: ascends even if the clock does not
    process_id TEXT NOT NULL,
    name       TEXT,
    tags       TEXT NOT NULL,                     -- JSON object of strings
    run        INTEGER NOT NULL,
    pid        INTEGER NOT NULL,
    reason     TEXT,                              -- of an end, like the columns below
    exit_code  INTEGER,
    signal     INTEGER
) STRICT;

CREATE INDEX event_by_process ON event (process_id);

-- What is stored has started, and perhaps ended, before there were events.
INSERT INTO event (type, ts, latest_ts, process_id, name, tags, run, pid, reason, exit_code, signal)
SELECT
    e.type, e.ts, e.place, p.id, p.name,
    (SELECT json_group_object(t.key, t.value) FROM tag t WHERE t.handle = p.handle),
    e.number, e.pid, e.reason, e.exit_code, e.signal
FROM (
    SELECT
        iif(number = 1, 'started', 'restarted') AS type, started_at AS ts, started_at AS place, 0 AS is_end,
        handle, number, pid, NULL AS reason, NULL AS exit_code, NULL AS signal
    FROM run
    UNION ALL
    SELECT
        iif(reason = 'lost', 'lost', 'exited'), ended_at, max(started_at, ended_at), 1,
        handle, number, pid, reason, exit_code, signal
    FROM run WHERE ended_at IS NOT NULL
) e
JOIN process p ON p.handle = e.handle
ORDER BY e.place, e.handle, e.number, e.is_end;

-- For lists by name, and for those between two times: the latest first start up to each process ascends with the handle.
CREATE INDEX IF NOT EXISTS process_by_name ON process (name) WHERE name IS NOT NULL;

ALTER TABLE process ADD COLUMN latest_start INTEGER NOT NULL DEFAULT 0;

UPDATE process SET latest_start = w.latest_start
FROM (SELECT handle, max(started_at) OVER (ORDER BY handle) AS latest_start FROM run WHERE number = 1) w
WHERE w.handle = process.handle;
