-- Processes, their runs, and their output in chunks of whole lines.

PRAGMA application_id = 0x4f544c53; -- "OTLS": this file is Outlast's

CREATE TABLE process (
    handle      INTEGER PRIMARY KEY AUTOINCREMENT, -- AUTOINCREMENT: never given twice, also after a purge
    id          TEXT NOT NULL UNIQUE,              -- ULID
    name        TEXT,
    command     TEXT NOT NULL,
    args        TEXT NOT NULL,                     -- JSON array of strings
    env_keys    TEXT NOT NULL,                     -- JSON array of strings; values are never stored
    working_dir TEXT NOT NULL,
    user        TEXT,
    stdin_mode  TEXT NOT NULL,
    stdout_mode TEXT NOT NULL,
    stderr_mode TEXT NOT NULL
) STRICT;

CREATE TABLE run (
    handle          INTEGER NOT NULL,
    number          INTEGER NOT NULL,              -- 1, 2, 3 ... within its process
    pid             INTEGER NOT NULL,
    started_at      INTEGER NOT NULL,              -- milliseconds since the epoch, like every time here
    ended_at        INTEGER,                       -- NULL while it runs
    status          TEXT NOT NULL,
    reason          TEXT,
    exit_code       INTEGER,
    signal          INTEGER,
    output_complete INTEGER NOT NULL,              -- 1: nothing more will come
    PRIMARY KEY (handle, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX run_by_pid ON run (pid, handle);
CREATE INDEX run_by_status ON run (status, handle);
CREATE INDEX run_by_start ON run (started_at, handle);
CREATE INDEX run_unfinished ON run (handle) WHERE ended_at IS NULL OR output_complete = 0;

CREATE TABLE tag (
    handle INTEGER NOT NULL,
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (handle, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX tag_by_value ON tag (key, value, handle);

-- The last chunk of each stream tells how far that stream is stored: there is no counter to keep beside it.
CREATE TABLE output_chunk (
    id         INTEGER PRIMARY KEY,
    handle     INTEGER NOT NULL,
    run        INTEGER NOT NULL,
    first_seq  INTEGER NOT NULL,
    line_count INTEGER NOT NULL,
    stream     INTEGER NOT NULL,                   -- 1 stdout, 2 stderr
    ts         INTEGER NOT NULL,                   -- when it was read
    latest_ts  INTEGER NOT NULL,                   -- the highest ts of its process so far: ascends even if the clock does not
    stdout_end INTEGER NOT NULL,                   -- bytes of standard output stored, this chunk included
    stderr_end INTEGER NOT NULL,
    data       BLOB NOT NULL                       -- exactly as written
) STRICT;

CREATE UNIQUE INDEX output_chunk_by_seq ON output_chunk (handle, stream, first_seq);

-- Purged processes whose chunks still wait to be deleted, a few at a time. Nothing shows them any more.
CREATE TABLE purged (handle INTEGER PRIMARY KEY) STRICT;
