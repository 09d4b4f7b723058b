-- Gaps: chunks that hold no lines and say that something is missing.

ALTER TABLE output_chunk ADD COLUMN gap TEXT;              -- why something is missing here; NULL in a chunk of lines
ALTER TABLE output_chunk ADD COLUMN missing_bytes INTEGER; -- of a gap: by how much its stream's end grew without data

-- For sums over a process's gaps, of which there are few. A chunk of lines costs nothing here.
CREATE INDEX output_chunk_gaps ON output_chunk (handle, first_seq, missing_bytes) WHERE gap IS NOT NULL;

DROP VIEW processes;
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
    max(coalesce(o.first_seq + o.line_count - 1, 0), coalesce(e.first_seq + e.line_count - 1, 0))
        - (SELECT count(*) FROM output_chunk g WHERE g.handle = p.handle AND g.gap IS NOT NULL) AS lines,
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

-- As before, without gaps: no data would be shown as an empty line.
DROP VIEW output_lines;
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
JOIN output_chunk c ON c.handle = p.handle AND c.gap IS NULL
JOIN json_each('[' || replace(replace(json_quote(replace(CAST(
    iif(substr(c.data, -1) = x'0a', substr(c.data, 1, length(c.data) - 1), c.data)
    AS TEXT), '\', char(0xFDD0))), '\u0000', char(0x2400)), '\n', '","') || ']') j;

DROP VIEW output_tail;
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
        SELECT a.id, a.first_seq FROM output_chunk a WHERE a.handle = p.handle AND a.stream = 1 AND a.gap IS NULL
        UNION ALL
        SELECT b.id, b.first_seq FROM output_chunk b WHERE b.handle = p.handle AND b.stream = 2 AND b.gap IS NULL
        ORDER BY 2 DESC LIMIT 100
    ) k
)
JOIN json_each('[' || replace(replace(json_quote(replace(CAST(
    iif(substr(c.data, -1) = x'0a', substr(c.data, 1, length(c.data) - 1), c.data)
    AS TEXT), '\', char(0xFDD0))), '\u0000', char(0x2400)), '\n', '","') || ']') j;
