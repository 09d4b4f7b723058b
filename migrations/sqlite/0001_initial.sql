-- The schema of Outlast 0.1.0. Times are milliseconds since the epoch.

PRAGMA application_id = 0x4f544c53; -- "OTLS": this file belongs to Outlast

-- ---- processes and runs

CREATE TABLE process (
    handle          INTEGER PRIMARY KEY AUTOINCREMENT, -- AUTOINCREMENT: never used again, not even after a purge
    id              TEXT NOT NULL UNIQUE,              -- ULID
    name            TEXT,
    command         TEXT NOT NULL,
    args            TEXT NOT NULL,                     -- JSON array of strings
    env_keys        TEXT NOT NULL,                     -- JSON array of strings: names without values
    encrypted_env   TEXT,                              -- of a managed process: values too, encrypted with a key that is not in here
    working_dir     TEXT NOT NULL,
    user            TEXT,
    stdin_mode      TEXT NOT NULL,
    stdout_mode     TEXT NOT NULL,
    stderr_mode     TEXT NOT NULL,
    idempotency_key TEXT,
    options         TEXT NOT NULL,                     -- JSON object: limits, timeout, restart policy ... that differ from the default
    latest_start    INTEGER NOT NULL                   -- latest first start up to this handle: never falls, even if the clock is set back
) STRICT;

CREATE INDEX process_by_name ON process (name) WHERE name IS NOT NULL;
CREATE UNIQUE INDEX process_by_idempotency_key ON process (idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE tag (
    handle INTEGER NOT NULL,
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (handle, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX tag_by_value ON tag (key, value, handle);

CREATE TABLE run (
    handle          INTEGER NOT NULL,
    number          INTEGER NOT NULL, -- 1, 2, 3 ... within its process
    pid             INTEGER NOT NULL,
    started_at      INTEGER NOT NULL,
    ended_at        INTEGER,          -- NULL until the run has ended
    status          TEXT NOT NULL,
    reason          TEXT,
    exit_code       INTEGER,
    signal          INTEGER,
    output_complete INTEGER NOT NULL, -- 1: all output of the run is stored
    PRIMARY KEY (handle, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX run_by_pid ON run (pid, handle);
CREATE INDEX run_by_status ON run (status, handle);
CREATE INDEX run_by_start ON run (started_at, handle);
CREATE INDEX run_unfinished ON run (handle) WHERE ended_at IS NULL OR output_complete = 0;

-- What each run used: peaks, and the last samples. NULL: never measured.
CREATE TABLE run_usage (
    handle             INTEGER NOT NULL,
    run                INTEGER NOT NULL,
    peak_processes     INTEGER,
    peak_threads       INTEGER,
    peak_open_files    INTEGER,
    peak_cpu_user_ms   INTEGER, -- of the whole run, once it has ended
    peak_cpu_system_ms INTEGER,
    peak_rss_bytes     INTEGER,
    peak_pss_bytes     INTEGER,
    history            TEXT,    -- JSON array of samples, oldest first; app/outlast/model/usage.py has the fields
    PRIMARY KEY (handle, run)
) STRICT;

-- Managed processes: whether each is meant to run, and what must outlive the daemon.
CREATE TABLE managed (
    handle  INTEGER PRIMARY KEY,
    desired TEXT NOT NULL,            -- 'running': restarted as its policy says; 'stopped'
    state   TEXT NOT NULL             -- JSON object
) STRICT;

CREATE INDEX managed_to_run ON managed (handle) WHERE desired = 'running';

-- One row. With the last handle, the number of purged processes tells how many there are, without counting them.
CREATE TABLE tally (purged INTEGER NOT NULL) STRICT;

INSERT INTO tally (purged) VALUES (0);

-- One row, or none: whose store this is, and where the file was when that was recorded. A copy is somewhere else.
CREATE TABLE owner (
    identity  TEXT NOT NULL, -- of the state folder
    state_dir TEXT NOT NULL, -- its path
    place     TEXT NOT NULL  -- device and inode numbers of this file
) STRICT;

-- Purged processes whose chunks are not all deleted yet. Nothing shows them any more.
CREATE TABLE purged (handle INTEGER PRIMARY KEY) STRICT;

-- ---- output

-- A row holds one chunk, or several that follow one another. The last rows tell how far output is stored, so no counter
-- has to agree with them. `data` stands last: reading the columns before it does not
-- read the data.
CREATE TABLE output_chunk (
    id            INTEGER PRIMARY KEY,
    handle        INTEGER NOT NULL,
    run           INTEGER NOT NULL,
    first_seq     INTEGER NOT NULL,
    line_count    INTEGER NOT NULL,
    stream        INTEGER NOT NULL, -- 1 stdout, 2 stderr, 0 both: see parts
    ts            INTEGER NOT NULL, -- when the first chunk was read
    latest_ts     INTEGER NOT NULL, -- latest ts of the process so far: never falls, even if the clock is set back
    stdout_end    INTEGER NOT NULL, -- bytes of standard output stored, this row included
    stderr_end    INTEGER NOT NULL,
    lines         INTEGER NOT NULL, -- lines of the process, of both streams, this row included
    continues     INTEGER NOT NULL, -- if data begins with the rest of the stream's unfinished line: the number of the
                                    -- first part of that line; 0: data begins with a line of its own
    unfinished_bytes INTEGER NOT NULL, -- if data ends within a line: bytes of that line so far, parts in earlier rows
                                    -- included; else 0
    gap           TEXT,             -- why output is missing here; NULL in a row of lines
    missing_bytes INTEGER,          -- of a gap: by how much the end of its stream grew without data
    parts         TEXT,             -- of several chunks: a JSON array with one entry each: milliseconds since the entry
                                    -- before it (the first: since ts); for a chunk of several lines [lines, milliseconds]. Of both
                                    -- streams: an object, described in docs/storage.md
    codec         TEXT,             -- how data is compressed: 'zlib'; NULL: not compressed
    raw_bytes     INTEGER,          -- of a compressed row: bytes that the process wrote
    data          BLOB NOT NULL     -- exactly as written, unless compressed
) STRICT;

CREATE UNIQUE INDEX output_chunk_by_seq ON output_chunk (handle, stream, first_seq);

-- For sums over a process's few gaps. A row of lines costs nothing here.
CREATE INDEX output_chunk_gaps ON output_chunk (handle, first_seq, missing_bytes) WHERE gap IS NOT NULL;

-- Where a search for output since a time begins. Each row names the first chunk that is at least a minute later than
-- the chunk in the row before, so all chunks before it are earlier, and a search need not read them.
CREATE TABLE minute (
    ts          INTEGER PRIMARY KEY, -- of the chunk
    first_chunk INTEGER NOT NULL     -- id of its row
) STRICT;

-- Processes whose rows behind after_seq may still be merged into larger ones.
CREATE TABLE unmerged (
    handle    INTEGER PRIMARY KEY,
    after_seq INTEGER NOT NULL
) STRICT;

-- One row: rows up to this id have been compressed, or were found not worth it.
CREATE TABLE compressed_upto (id INTEGER NOT NULL) STRICT;

INSERT INTO compressed_upto (id) VALUES (0);

-- ---- events

-- Starts, ends, and what happens between. A row stands alone: its process may be purged.
CREATE TABLE event (
    id         INTEGER PRIMARY KEY AUTOINCREMENT, -- AUTOINCREMENT: never used again, not even after a purge
    type       TEXT NOT NULL,
    ts         INTEGER NOT NULL,
    latest_ts  INTEGER NOT NULL,                  -- latest ts up to this id: never falls, even if the clock is set back
    process_id TEXT NOT NULL,
    name       TEXT,
    tags       TEXT NOT NULL,                     -- JSON object of strings
    run        INTEGER NOT NULL,
    pid        INTEGER NOT NULL,
    reason     TEXT,                              -- of an end, like the next two
    exit_code  INTEGER,
    signal     INTEGER
) STRICT;

CREATE INDEX event_by_process ON event (process_id);

-- Leads to the last events of rare types without reading all starts and ends behind them, which cost nothing here.
CREATE INDEX event_rare ON event (id) WHERE type NOT IN ('started', 'restarted', 'exited');
