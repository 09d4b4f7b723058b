-- Retention: what is old or too much can be found, and what was deleted is told.

-- ---- ended processes, oldest end first, without reading all runs

ALTER TABLE run ADD COLUMN superseded INTEGER NOT NULL DEFAULT 0; -- 1: a later run of the process is recorded

UPDATE run SET superseded = 1
WHERE EXISTS (SELECT 1 FROM run l WHERE l.handle = run.handle AND l.number > run.number);

CREATE INDEX run_ended ON run (ended_at, handle)
WHERE superseded = 0 AND ended_at IS NOT NULL AND output_complete = 1;

-- What a start says about itself. NULL: as the settings say.
CREATE TABLE keep (
    handle    INTEGER PRIMARY KEY,
    output_ms INTEGER,
    bytes     INTEGER,
    ended_ms  INTEGER,
    always    INTEGER NOT NULL
) STRICT;

CREATE INDEX keep_always ON keep (handle) WHERE always = 1;

-- ---- output

-- What is deleted of the output of a process: all rows up to last_seq. They may still be there for a moment, and the last
-- of each stream stays, without its data, because it tells how far the stream is stored.
CREATE TABLE trimmed (
    handle     INTEGER PRIMARY KEY,
    last_seq   INTEGER NOT NULL,
    lines      INTEGER NOT NULL, -- lines that are deleted
    bytes      INTEGER NOT NULL, -- bytes that are deleted, as the process wrote them
    stdout_end INTEGER NOT NULL, -- those of the last row that is deleted
    stderr_end INTEGER NOT NULL,
    until      INTEGER NOT NULL, -- its latest_ts
    ts         INTEGER NOT NULL, -- when it was deleted
    is_deleted INTEGER NOT NULL  -- 0: rows are left to be deleted
) STRICT;

CREATE INDEX trimmed_left ON trimmed (handle) WHERE is_deleted = 0;
CREATE INDEX trimmed_until ON trimmed (until);

-- What each process with output holds on the disk: the rows that are not deleted.
CREATE TABLE holding (
    handle    INTEGER PRIMARY KEY,
    bytes     INTEGER NOT NULL,
    oldest_ts INTEGER           -- latest_ts of the first row; NULL: there is no row
) STRICT;

CREATE INDEX holding_oldest ON holding (oldest_ts) WHERE oldest_ts IS NOT NULL;

INSERT INTO holding (handle, bytes, oldest_ts)
SELECT handle, sum(length(data) + coalesce(length(parts), 0) + 66), min(latest_ts)
FROM output_chunk WHERE handle IN (SELECT p.handle FROM process p) GROUP BY handle;

-- ---- events

-- One row: events up to this id have been deleted because they were old.
CREATE TABLE events_trimmed (last_id INTEGER NOT NULL) STRICT;

INSERT INTO events_trimmed (last_id) VALUES (0);
