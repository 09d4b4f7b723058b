"""Questions about retention in SQL, which `outlast du` and `outlast prune --dry-run` ask, with or without a daemon."""

HELD = """
SELECT process_id, name, command, disk_bytes, oldest, deleted_lines, deleted_bytes, keep
FROM output_held ORDER BY disk_bytes DESC, process_id LIMIT :limit
"""

_ENDED = """
SELECT r.handle, r.ended_at, k.ended_ms, coalesce(h.bytes, 0) AS bytes
FROM run r LEFT JOIN keep k ON k.handle = r.handle LEFT JOIN holding h ON h.handle = r.handle
WHERE r.superseded = 0 AND r.ended_at IS NOT NULL AND r.output_complete = 1 AND coalesce(k.always, 0) = 0
  AND NOT EXISTS (SELECT 1 FROM managed m WHERE m.handle = r.handle AND m.desired = 'running')
"""
_OLD_OUTPUT = """
SELECT count(*) AS rows, coalesce(sum(length(c.data) + coalesce(length(c.parts), 0) + 66), 0) AS bytes
FROM holding h
LEFT JOIN keep k ON k.handle = h.handle
LEFT JOIN trimmed t ON t.handle = h.handle
JOIN output_chunk c ON c.handle = h.handle AND c.stream IN (0, 1, 2) AND c.first_seq > coalesce(t.last_seq, 0)
    AND c.latest_ts < :now - coalesce(k.output_ms, :output_ms)
WHERE coalesce(k.output_ms, :output_ms) > 0 AND h.oldest_ts < :now - coalesce(k.output_ms, :output_ms)
"""
_LARGE = """
SELECT coalesce(sum(h.bytes - coalesce(k.bytes, :process_bytes) * 9 / 10), 0) AS bytes
FROM holding h LEFT JOIN keep k ON k.handle = h.handle
WHERE coalesce(k.bytes, :process_bytes) > 0 AND h.bytes > coalesce(k.bytes, :process_bytes)
"""
_TOTAL = """
SELECT coalesce(sum(h.bytes), 0) AS bytes FROM holding h
WHERE h.handle NOT IN (SELECT k.handle FROM keep k WHERE k.always = 1)
"""

DUE = f"""
SELECT 'keep_output_s' AS setting, NULL AS processes, NULL AS events, bytes AS disk_bytes FROM ({_OLD_OUTPUT})
UNION ALL
SELECT 'keep_process_bytes', NULL, NULL, bytes FROM ({_LARGE})
UNION ALL
SELECT 'keep_total_bytes', NULL, NULL, iif(:total_bytes > 0 AND bytes > :total_bytes, bytes - :total_bytes * 9 / 10, 0)
FROM ({_TOTAL})
UNION ALL
SELECT 'keep_ended_s', count(*), NULL, coalesce(sum(bytes), 0) FROM ({_ENDED})
WHERE coalesce(ended_ms, :ended_ms) > 0 AND ended_at <= :now - coalesce(ended_ms, :ended_ms)
UNION ALL
SELECT 'keep_ended', count(*), NULL, coalesce(sum(bytes), 0) FROM (
    SELECT bytes FROM ({_ENDED}) WHERE :ended > 0 ORDER BY ended_at, handle
    LIMIT (SELECT max(0, count(*) - :ended) FROM ({_ENDED})))
UNION ALL
SELECT 'keep_events_s', NULL, count(*), NULL FROM event WHERE :events_ms > 0 AND latest_ts < :now - :events_ms
"""  # noqa: S608 - it is made of constants
"""A row for each setting: what goes by it alone."""
