-- The key under which a start may be asked for again.

ALTER TABLE process ADD COLUMN idempotency_key TEXT;

CREATE UNIQUE INDEX process_by_idempotency_key ON process (idempotency_key) WHERE idempotency_key IS NOT NULL;

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
    p.idempotency_key,
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
