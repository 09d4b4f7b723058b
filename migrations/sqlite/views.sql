-- The views of the newest schema. All of them are dropped and created again whenever a migration is applied.

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
    p.idempotency_key,
    p.stdin_mode,
    p.stdout_mode,
    p.stderr_mode,
    p.options,
    max(coalesce(o.lines, 0), coalesce(e.lines, 0)) AS lines,
    coalesce(o.stdout_end, 0) + coalesce(e.stderr_end, 0)
        - (SELECT coalesce(sum(g.missing_bytes), 0) FROM output_chunk g WHERE g.handle = p.handle AND g.gap IS NOT NULL)
        AS bytes,
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
    r.output_complete,
    u.peak_cpu_user_ms AS cpu_user_ms,
    u.peak_cpu_system_ms AS cpu_system_ms,
    u.peak_rss_bytes,
    u.peak_pss_bytes,
    u.peak_processes,
    u.peak_threads,
    u.peak_open_files
FROM process p
JOIN run r ON r.handle = p.handle
LEFT JOIN run_usage u ON u.handle = r.handle AND u.run = r.number;

CREATE VIEW managed_processes AS
SELECT
    p.id AS process_id,
    p.name,
    m.desired,
    CASE
        WHEN r.ended_at IS NULL THEN 'running'
        WHEN m.desired = 'running' THEN 'backing_off'
        ELSE 'stopped'
    END AS status,
    r.number AS run,
    r.pid,
    r.number - 1 AS restart_count,
    json_extract(m.state, '$.failures') AS failures,
    strftime('%Y-%m-%dT%H:%M:%fZ', (json_extract(m.state, '$.next_restart_at_ms')) / 1000.0, 'unixepoch') AS next_restart,
    json_extract(m.state, '$.health') AS health,
    json_extract(m.state, '$.health_failures') AS health_failures,
    json_extract(m.state, '$.last_error') AS last_error
FROM managed m
JOIN process p ON p.handle = m.handle
JOIN run r
    ON r.handle = p.handle AND r.number = (SELECT max(l.number) FROM run l WHERE l.handle = p.handle);

CREATE VIEW output_gaps AS
SELECT
    p.id AS process_id,
    c.run,
    c.first_seq AS seq,
    c.ts,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.ts / 1000.0, 'unixepoch') AS time,
    CASE c.stream WHEN 1 THEN 'stdout' ELSE 'stderr' END AS stream,
    c.gap AS reason,
    c.missing_bytes
FROM process p
JOIN output_chunk c INDEXED BY output_chunk_gaps ON c.handle = p.handle AND c.gap IS NOT NULL;

-- `sqlar_uncompress` is built into the `sqlite3` command. In a SQLite without that function, this view and those over it
-- cannot be used, and the ones whose names end in `_portable` can: one line says of a compressed row how to read it.
-- `outlast sql` has a view of this name that also reads rows that were compressed with zstd before 0.1.0.
-- `part`: of a row that ends within a line, the part of that line in the row.
CREATE VIEW output_readable AS
SELECT
    id, handle, run, first_seq, line_count, stream, ts, gap, continues, unfinished_bytes, parts,
    CASE
        WHEN codec IS NULL THEN data
        WHEN codec = 'zlib' THEN sqlar_uncompress(data, raw_bytes)
        ELSE '[compressed: ' || line_count || ' lines; read them with: outlast sql]'
    END AS data,
    CASE
        WHEN codec IS NULL THEN substr(data, -unfinished_bytes)
        WHEN codec = 'zlib' THEN substr(sqlar_uncompress(data, raw_bytes), -unfinished_bytes)
        ELSE '[compressed: the beginning of a line] '
    END AS part
FROM output_chunk;

CREATE VIEW output_readable_portable AS
SELECT
    id, handle, run, first_seq, line_count, stream, ts, gap, continues, unfinished_bytes, parts,
    iif(codec IS NULL, data, '[compressed: ' || line_count || ' lines; read them with: sqlite3, or outlast sql]') AS data,
    iif(codec IS NULL, substr(data, -unfinished_bytes), '[compressed: the beginning of a line] ') AS part
FROM output_chunk;

CREATE VIEW output_compressed AS
SELECT
    p.id AS process_id,
    c.run,
    c.first_seq AS seq,
    c.first_seq + c.line_count - 1 AS last_seq,
    c.ts,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.ts / 1000.0, 'unixepoch') AS time,
    CASE c.stream WHEN 1 THEN 'stdout' ELSE 'stderr' END AS stream,
    c.line_count - (c.continues > 0) AS lines,
    c.raw_bytes AS bytes,
    length(c.data) AS compressed_bytes
FROM process p
JOIN output_chunk c ON c.handle = p.handle AND c.codec IS NOT NULL;

-- Each row becomes a JSON array of its lines. A backslash in the output is first replaced by the noncharacter U+FDD0, so
-- that every backslash in the result of json_quote is one that json_quote wrote: "\n" is then the end of a line and
-- nothing else, and the last one leaves an empty text behind it. json_each ends a string at NUL, so NUL is shown as
-- U+2400. For a row of several chunks, t.value is a JSON array with the time of each line. Gaps are left out, because a
-- row without data would be shown as an empty line. A line that was stored in parts is shown with its last part, where
-- the earlier ones are put in front: so s.value, the number of lines to show, is one less for a row whose last line goes
-- on in the next row of the stream. For this view and the next, `migrate.py` also creates the portable one.
CREATE VIEW output_lines AS
SELECT
    p.id AS process_id,
    c.run,
    c.first_seq + j.key AS seq,
    coalesce(t.value ->> j.key, c.ts) AS ts,
    strftime('%Y-%m-%dT%H:%M:%fZ', coalesce(t.value ->> j.key, c.ts) / 1000.0, 'unixepoch') AS time,
    CASE c.stream WHEN 1 THEN 'stdout' ELSE 'stderr' END AS stream,
    replace(j.value, char(0xFDD0), '\') AS line
FROM process p
JOIN output_readable c ON c.handle = p.handle AND c.gap IS NULL
CROSS JOIN json_each(json_array(c.line_count - iif(c.unfinished_bytes = 0, 0, coalesce((
    SELECT n.continues > 0 FROM output_chunk n
    WHERE n.handle = c.handle AND n.stream = c.stream AND n.first_seq > c.first_seq ORDER BY n.first_seq LIMIT 1
), 0)))) s
CROSS JOIN json_each(json_array(iif(c.parts IS NULL, NULL, (
    SELECT '[' || rtrim(group_concat(replace(hex(zeroblob(d.lines)), '00', d.ts || ','), ''), ',') || ']'
    FROM (
        SELECT
            iif(m.type = 'array', m.value ->> 0, 1) AS lines,
            c.ts + sum(iif(m.type = 'array', m.value ->> 1, m.value)) OVER (ORDER BY m.key) AS ts
        FROM json_each(c.parts) m
    ) d
)))) t
CROSS JOIN json_each('[' || replace(replace(json_quote(replace(iif(c.continues = 0, '', (
    SELECT group_concat(b.part, '') FROM (
        SELECT CAST(a.part AS TEXT) AS part FROM output_readable a
        WHERE a.handle = c.handle AND a.stream = c.stream AND a.first_seq < c.first_seq AND a.first_seq >= (
            SELECT f.first_seq FROM output_chunk f
            WHERE f.handle = c.handle AND f.stream = c.stream AND f.first_seq <= c.continues
            ORDER BY f.first_seq DESC LIMIT 1)
        ORDER BY a.first_seq
    ) b
)) || CAST(c.data AS TEXT), '\', char(0xFDD0))), '\u0000', char(0x2400)), '\n', '","') || ']') j
WHERE s.value > 0 AND j.key < s.value;

-- The same for the last 100 rows of each process: the last lines of a long output, without reading all of it.
CREATE VIEW output_tail AS
SELECT
    p.id AS process_id,
    c.run,
    c.first_seq + j.key AS seq,
    coalesce(t.value ->> j.key, c.ts) AS ts,
    strftime('%Y-%m-%dT%H:%M:%fZ', coalesce(t.value ->> j.key, c.ts) / 1000.0, 'unixepoch') AS time,
    CASE c.stream WHEN 1 THEN 'stdout' ELSE 'stderr' END AS stream,
    replace(j.value, char(0xFDD0), '\') AS line
FROM process p
JOIN output_readable c ON c.id IN (
    SELECT k.id FROM (
        SELECT a.id, a.first_seq FROM output_chunk a WHERE a.handle = p.handle AND a.stream = 1 AND a.gap IS NULL
        UNION ALL
        SELECT b.id, b.first_seq FROM output_chunk b WHERE b.handle = p.handle AND b.stream = 2 AND b.gap IS NULL
        ORDER BY 2 DESC LIMIT 100
    ) k
)
CROSS JOIN json_each(json_array(c.line_count - iif(c.unfinished_bytes = 0, 0, coalesce((
    SELECT n.continues > 0 FROM output_chunk n
    WHERE n.handle = c.handle AND n.stream = c.stream AND n.first_seq > c.first_seq ORDER BY n.first_seq LIMIT 1
), 0)))) s
CROSS JOIN json_each(json_array(iif(c.parts IS NULL, NULL, (
    SELECT '[' || rtrim(group_concat(replace(hex(zeroblob(d.lines)), '00', d.ts || ','), ''), ',') || ']'
    FROM (
        SELECT
            iif(m.type = 'array', m.value ->> 0, 1) AS lines,
            c.ts + sum(iif(m.type = 'array', m.value ->> 1, m.value)) OVER (ORDER BY m.key) AS ts
        FROM json_each(c.parts) m
    ) d
)))) t
CROSS JOIN json_each('[' || replace(replace(json_quote(replace(iif(c.continues = 0, '', (
    SELECT group_concat(b.part, '') FROM (
        SELECT CAST(a.part AS TEXT) AS part FROM output_readable a
        WHERE a.handle = c.handle AND a.stream = c.stream AND a.first_seq < c.first_seq AND a.first_seq >= (
            SELECT f.first_seq FROM output_chunk f
            WHERE f.handle = c.handle AND f.stream = c.stream AND f.first_seq <= c.continues
            ORDER BY f.first_seq DESC LIMIT 1)
        ORDER BY a.first_seq
    ) b
)) || CAST(c.data AS TEXT), '\', char(0xFDD0))), '\u0000', char(0x2400)), '\n', '","') || ']') j
WHERE s.value > 0 AND j.key < s.value;

CREATE VIEW events AS
SELECT
    e.id,
    e.ts,
    strftime('%Y-%m-%dT%H:%M:%fZ', e.ts / 1000.0, 'unixepoch') AS time,
    e.type,
    e.process_id,
    e.name,
    e.tags,
    e.run,
    e.pid,
    e.exit_code,
    e.signal,
    e.reason
FROM event e;
