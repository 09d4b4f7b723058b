-- Processes, their runs, and their output in chunks of whole lines; views that show each line as a row.

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

CREATE VIEW processes AS
SELECT
    p.id,
    p.handle,
    r.pid,
    p.name,
    p.command,
    p.args,
    r.status,
    r.exit_code,
    r.signal,
    r.reason,
    r.started_at,
    r.ended_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.started_at / 1000.0, 'unixepoch') AS started,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.ended_at / 1000.0, 'unixepoch') AS ended,
    r.number AS run,
    p.working_dir,
    p.user,
    (SELECT json_group_object(t.key, t.value) FROM tag t WHERE t.handle = p.handle) AS tags,
    p.env_keys,
    p.stdin_mode,
    p.stdout_mode,
    p.stderr_mode,
    max(coalesce(o.first_seq + o.line_count - 1, 0), coalesce(e.first_seq + e.line_count - 1, 0)) AS lines,
    coalesce(o.stdout_end, 0) + coalesce(e.stderr_end, 0) AS bytes,
    r.output_complete
FROM process p
JOIN run r
    ON r.handle = p.handle AND r.number = (SELECT max(l.number) FROM run l WHERE l.handle = p.handle)
LEFT JOIN output_chunk o
    ON o.id = (SELECT c.id FROM output_chunk c WHERE c.handle = p.handle AND c.stream = 1 ORDER BY c.first_seq DESC LIMIT 1)
LEFT JOIN output_chunk e
    ON e.id = (SELECT c.id FROM output_chunk c WHERE c.handle = p.handle AND c.stream = 2 ORDER BY c.first_seq DESC LIMIT 1);

CREATE VIEW runs AS
SELECT
    p.id AS process_id,
    r.number AS run,
    r.pid,
    r.status,
    r.exit_code,
    r.signal,
    r.reason,
    r.started_at,
    r.ended_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.started_at / 1000.0, 'unixepoch') AS started,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.ended_at / 1000.0, 'unixepoch') AS ended,
    r.output_complete
FROM process p
JOIN run r ON r.handle = p.handle;

-- Each chunk is turned into a JSON array of its lines. A backslash in the output is parked on the noncharacter
-- U+FDD0, so that a backslash in what json_quote returns can only be one that it wrote itself: "\n" is then a line's
-- end and nothing else. json_each ends a string at NUL, so NUL is shown as U+2400.
CREATE VIEW output_lines AS
SELECT
    p.id AS process_id,
    c.run,
    c.first_seq + j.key AS seq,
    c.ts,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.ts / 1000.0, 'unixepoch') AS time,
    CASE c.stream WHEN 1 THEN 'stdout' ELSE 'stderr' END AS stream,
    replace(j.value, char(0xFDD0), '\') AS line
FROM process p
JOIN output_chunk c ON c.handle = p.handle
JOIN json_each('[' || replace(replace(json_quote(replace(CAST(
    iif(substr(c.data, -1) = x'0a', substr(c.data, 1, length(c.data) - 1), c.data)
    AS TEXT), '\', char(0xFDD0))), '\u0000', char(0x2400)), '\n', '","') || ']') j;

-- The same, of each process's last 100 chunks only: the last lines of a long output without reading all of it.
CREATE VIEW output_tail AS
SELECT
    p.id AS process_id,
    c.run,
    c.first_seq + j.key AS seq,
    c.ts,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.ts / 1000.0, 'unixepoch') AS time,
    CASE c.stream WHEN 1 THEN 'stdout' ELSE 'stderr' END AS stream,
    replace(j.value, char(0xFDD0), '\') AS line
FROM process p
JOIN output_chunk c ON c.id IN (
    SELECT k.id FROM (
        SELECT a.id, a.first_seq FROM output_chunk a WHERE a.handle = p.handle AND a.stream = 1
        UNION ALL
        SELECT b.id, b.first_seq FROM output_chunk b WHERE b.handle = p.handle AND b.stream = 2
        ORDER BY 2 DESC LIMIT 100
    ) k
)
JOIN json_each('[' || replace(replace(json_quote(replace(CAST(
    iif(substr(c.data, -1) = x'0a', substr(c.data, 1, length(c.data) - 1), c.data)
    AS TEXT), '\', char(0xFDD0))), '\u0000', char(0x2400)), '\n', '","') || ']') j;
