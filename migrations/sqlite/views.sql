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
    max(coalesce(o.lines, 0), coalesce(e.lines, 0), coalesce(b.lines, 0)) - coalesce(d.lines, 0) AS lines,
    max(coalesce(o.stdout_end, 0), coalesce(b.stdout_end, 0)) + max(coalesce(e.stderr_end, 0), coalesce(b.stderr_end, 0))
        - (SELECT coalesce(sum(g.missing_bytes), 0) FROM output_chunk g
            WHERE g.handle = p.handle AND g.gap IS NOT NULL AND g.first_seq > coalesce(d.last_seq, 0))
        - coalesce(d.stdout_end + d.stderr_end, 0) AS bytes,
    r.output_complete
FROM process p
JOIN run r
    ON r.handle = p.handle AND r.number = (SELECT max(l.number) FROM run l WHERE l.handle = p.handle)
LEFT JOIN output_chunk o
    ON o.id = (SELECT c.id FROM output_chunk c WHERE c.handle = p.handle AND c.stream = 1 ORDER BY c.first_seq DESC LIMIT 1)
LEFT JOIN output_chunk e
    ON e.id = (SELECT c.id FROM output_chunk c WHERE c.handle = p.handle AND c.stream = 2 ORDER BY c.first_seq DESC LIMIT 1)
LEFT JOIN output_chunk b
    ON b.id = (SELECT c.id FROM output_chunk c WHERE c.handle = p.handle AND c.stream = 0 ORDER BY c.first_seq DESC LIMIT 1)
LEFT JOIN trimmed d ON d.handle = p.handle;

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

-- What retention has deleted of a process is one gap of both streams, from its first line on.
CREATE VIEW output_gaps AS
SELECT
    p.id AS process_id,
    NULL AS run,
    1 AS seq,
    d.last_seq,
    d.until AS ts,
    strftime('%Y-%m-%dT%H:%M:%fZ', d.until / 1000.0, 'unixepoch') AS time,
    'both' AS stream,
    'retention' AS reason,
    d.bytes AS missing_bytes,
    d.lines AS missing_lines
FROM process p
JOIN trimmed d ON d.handle = p.handle
UNION ALL
SELECT
    p.id AS process_id,
    c.run,
    c.first_seq AS seq,
    c.first_seq AS last_seq,
    c.ts,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.ts / 1000.0, 'unixepoch') AS time,
    CASE c.stream WHEN 1 THEN 'stdout' ELSE 'stderr' END AS stream,
    c.gap AS reason,
    c.missing_bytes,
    NULL AS missing_lines
FROM process p
JOIN output_chunk c INDEXED BY output_chunk_gaps ON c.handle = p.handle AND c.gap IS NOT NULL
    AND c.first_seq > coalesce((SELECT d.last_seq FROM trimmed d WHERE d.handle = p.handle), 0);

CREATE VIEW output_held AS
SELECT
    p.id AS process_id,
    p.name,
    p.command,
    h.bytes AS disk_bytes,
    strftime('%Y-%m-%dT%H:%M:%fZ', h.oldest_ts / 1000.0, 'unixepoch') AS oldest,
    coalesce(d.lines, 0) AS deleted_lines,
    coalesce(d.bytes, 0) AS deleted_bytes,
    p.options ->> '$.keep' AS keep
FROM holding h
JOIN process p ON p.handle = h.handle
LEFT JOIN trimmed d ON d.handle = h.handle;

-- `sqlar_uncompress` is built into the `sqlite3` command. In a SQLite without that function, this view and those over it
-- cannot be used, and the ones whose names end in `_portable` can: one line says of a compressed row how to read it.
-- `outlast sql` has a view of this name that also reads rows that were compressed with zstd before 0.1.0.
-- `part`: of a row that ends within a line, the part of that line in the row. Rows that retention has deleted are left out.
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
FROM output_chunk
WHERE first_seq > coalesce((SELECT d.last_seq FROM trimmed d WHERE d.handle = output_chunk.handle), 0);

CREATE VIEW output_readable_portable AS
SELECT
    id, handle, run, first_seq, line_count, stream, ts, gap, continues, unfinished_bytes, parts,
    iif(codec IS NULL, data, '[compressed: ' || line_count || ' lines; read them with: sqlite3, or outlast sql]') AS data,
    iif(codec IS NULL, substr(data, -unfinished_bytes), '[compressed: the beginning of a line] ') AS part
FROM output_chunk
WHERE first_seq > coalesce((SELECT d.last_seq FROM trimmed d WHERE d.handle = output_chunk.handle), 0);

CREATE VIEW output_compressed AS
SELECT
    p.id AS process_id,
    c.run,
    c.first_seq AS seq,
    c.first_seq + c.line_count - 1 AS last_seq,
    c.ts,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.ts / 1000.0, 'unixepoch') AS time,
    CASE c.stream WHEN 0 THEN 'both' WHEN 1 THEN 'stdout' ELSE 'stderr' END AS stream,
    c.line_count - iif(
        c.stream > 0,
        c.continues > 0,
        (SELECT count(*) FROM json_each(c.parts, '$.chunks') m WHERE m.type = 'array' AND (m.value ->> 3) IS NOT NULL)
    ) AS lines,
    c.raw_bytes AS bytes,
    length(c.data) AS compressed_bytes
FROM process p
JOIN output_chunk c ON c.handle = p.handle AND c.codec IS NOT NULL
    AND c.first_seq > coalesce((SELECT d.last_seq FROM trimmed d WHERE d.handle = p.handle), 0);

-- Each row becomes a JSON array of its lines. A backslash in the output is first replaced by the noncharacter U+FDD0, so
-- that every backslash in the result of json_quote is one that json_quote wrote: "\n" is then the end of a line and
-- nothing else, and the last one leaves an empty text behind it. json_each ends a string at NUL, so NUL is shown as
-- U+2400. For a row of several chunks, t.value is a JSON array with the time of each line. Gaps are left out, because a
-- row without data would be shown as an empty line. A line that was stored in parts is shown with its last part, where
-- the earlier ones are put in front: so s.value, the number of lines to show, is one less for a row whose last line goes
-- on in the next row of the stream.
--
-- The second part shows packed rows: w.value is a stream, and t.value a JSON array with two numbers for each of its
-- lines: the line's number less its place in the stream's data, and its time.
--
-- `migrate.py` makes `output_tail` of this text, the same for the last 100 rows of each process: the last lines of a long
-- output, without reading all of it. For both views, it also creates the portable one.
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
JOIN output_readable c ON c.handle = p.handle AND c.stream > 0 AND c.gap IS NULL
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
CROSS JOIN json_each('[' || replace(replace(json_quote(replace(iif(c.continues = 0, '', coalesce((
    SELECT group_concat(b.part, '') FROM (
        SELECT CAST(a.part AS TEXT) AS part FROM output_readable a
        WHERE a.handle = c.handle AND a.stream = c.stream AND a.first_seq < c.first_seq AND a.first_seq >= coalesce((
            SELECT f.first_seq FROM output_chunk f
            WHERE f.handle = c.handle AND f.stream = c.stream AND f.first_seq <= c.continues
            ORDER BY f.first_seq DESC LIMIT 1), 0)
        ORDER BY a.first_seq
    ) b
), '')) || CAST(c.data AS TEXT), '\', char(0xFDD0))), '\u0000', char(0x2400)), '\n', '","') || ']') j
WHERE s.value > 0 AND j.key < s.value
UNION ALL
SELECT
    p.id,
    c.run,
    (t.value ->> (2 * j.key)) + j.key,
    t.value ->> (2 * j.key + 1),
    strftime('%Y-%m-%dT%H:%M:%fZ', (t.value ->> (2 * j.key + 1)) / 1000.0, 'unixepoch'),
    CASE w.value WHEN 1 THEN 'stdout' ELSE 'stderr' END,
    replace(j.value, char(0xFDD0), '\')
FROM process p
JOIN output_readable c ON c.handle = p.handle AND c.stream = 0
CROSS JOIN json_each('[1,2]') w
CROSS JOIN json_each(json_array((
    SELECT '[' || rtrim(group_concat(replace(hex(zeroblob(e.shown)), '00', e.shift || ',' || e.ts || ','), ''), ',') || ']'
    FROM (
        SELECT
            d.stream,
            d.shown,
            c.first_seq + sum(d.lines) OVER (ORDER BY d.place) - d.lines
                - sum(d.shown) OVER (PARTITION BY d.stream ORDER BY d.place) + d.shown AS shift,
            c.ts + sum(d.later) OVER (ORDER BY d.place) AS ts
        FROM (
            SELECT
                m.key AS place,
                iif(m.type = 'array', m.value ->> 0, 1) AS lines,
                iif(m.type = 'array', (m.value ->> 0) - ((m.value ->> 3) IS NOT NULL), 1) AS shown,
                iif(m.type = 'array', m.value ->> 1, m.value) AS later,
                iif(m.type = 'array', coalesce(m.value ->> 2, 1), 1) AS stream
            FROM json_each(c.parts, '$.chunks') m
        ) d
        ORDER BY d.place
    ) e
    WHERE e.stream = w.value
))) t
CROSS JOIN json_each('[' || replace(replace(json_quote(replace(CAST(CASE
    WHEN typeof(c.data) = 'text' THEN iif(w.value = 2 - (c.parts ->> '$.stdout_bytes' > 0), c.data, '')
    WHEN w.value = 1 THEN substr(c.data, 1, c.parts ->> '$.stdout_bytes')
    ELSE substr(c.data, (c.parts ->> '$.stdout_bytes') + 1)
END AS TEXT), '\', char(0xFDD0))), '\u0000', char(0x2400)), '\n', '","') || ']') j
WHERE j.key < json_array_length(t.value) / 2 AND (typeof(c.data) <> 'text' OR length(j.value) > 0);

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
