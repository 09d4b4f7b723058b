"""SQL of retention: `trimmed` has the mark up to which the output of a process is deleted, `holding` what it holds."""

from outlast.model.retention import Rule
from outlast.storage.sqlite.queries import of_streams

ADD_KEEP = "INSERT INTO keep (handle, output_ms, bytes, ended_ms, always) VALUES (?, ?, ?, ?, ?)"
DELETE_KEEP = "DELETE FROM keep WHERE handle = ?"
KEPT_ALWAYS = "SELECT count(*) FROM keep WHERE always = 1"
TRIMMED_COLUMNS = "last_seq, lines, bytes, until"
TRIMMED = f"SELECT {TRIMMED_COLUMNS} FROM trimmed WHERE handle = ?"
TRIMMED_ENDS = "SELECT stdout_end, stderr_end FROM trimmed WHERE handle = ?"
SET_TRIMMED = """
INSERT OR REPLACE INTO trimmed (handle, last_seq, lines, bytes, stdout_end, stderr_end, until, ts, is_deleted)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)
"""
TRIMMED_LEFT = "SELECT handle, last_seq FROM trimmed WHERE is_deleted = 0 LIMIT 1"
TRIM_IS_DONE = "UPDATE trimmed SET is_deleted = 1 WHERE handle = ?"
ANY_TRIMMED = "SELECT 1 FROM trimmed WHERE until >= ? LIMIT 1"
DELETE_TRIMMED = """
DELETE FROM output_chunk WHERE id IN (
    SELECT c.id FROM output_chunk c
    WHERE c.handle = :handle AND c.stream = :stream AND c.first_seq <= :mark AND c.first_seq < (
        SELECT max(m.first_seq) FROM output_chunk m WHERE m.handle = :handle AND m.stream = :stream)
    LIMIT :limit)
"""
EMPTY_TRIMMED = """
UPDATE output_chunk SET data = x'', parts = NULL, codec = NULL, raw_bytes = NULL, gap = NULL, missing_bytes = NULL
WHERE handle = :handle AND stream = :stream AND first_seq <= :mark
"""
ROW_AT = """
SELECT first_seq, line_count, lines, stdout_end, stderr_end, latest_ts FROM output_chunk
WHERE handle = ? AND stream = ? AND first_seq <= ? ORDER BY first_seq DESC LIMIT 1
"""
ROW_BEHIND = """
SELECT first_seq, latest_ts, ts FROM output_chunk
WHERE handle = ? AND stream = ? AND first_seq > ? ORDER BY first_seq LIMIT 1
"""
ROW_SIZE = "length(data) + coalesce(length(parts), 0) + 66"
"""Bytes of a row on the disk. See `rows.ROW_BYTES`."""

ROWS_SUM = f"""
SELECT coalesce(sum({ROW_SIZE}), 0), coalesce(sum(missing_bytes), 0) FROM output_chunk
WHERE handle = :handle AND stream IN (0, 1, 2) AND first_seq > :after AND first_seq <= :upto
"""
_ROW_SIZES = f"""
SELECT first_seq, line_count, latest_ts, {ROW_SIZE} FROM output_chunk
WHERE handle = :handle AND stream = {{stream}} AND first_seq > :after
"""
ROW_SIZES = of_streams(_ROW_SIZES, "first_seq LIMIT :limit")[None]
_ROWS_BACKWARDS = """
SELECT first_seq, line_count, run, coalesce(raw_bytes, length(data)) FROM output_chunk
WHERE handle = :handle AND stream = {stream} AND first_seq > :mark
"""
ROWS_BACKWARDS = of_streams(_ROWS_BACKWARDS, "first_seq DESC")[None]
HOLDS_OLDEST = """
SELECT handle FROM holding INDEXED BY holding_oldest WHERE oldest_ts IS NOT NULL ORDER BY oldest_ts LIMIT 1
"""
HELD_BYTES = """
SELECT coalesce(sum(bytes), 0) FROM holding WHERE handle NOT IN (SELECT k.handle FROM keep k WHERE k.always = 1)
"""
HELD_BY = "SELECT bytes FROM holding WHERE handle = ?"
RAISE_HOLDING = "UPDATE holding SET bytes = bytes + ? WHERE handle = ? AND oldest_ts IS NOT NULL"
ADD_HOLDING = """
INSERT INTO holding (handle, bytes, oldest_ts) VALUES (?, ?, ?)
ON CONFLICT (handle) DO UPDATE SET bytes = bytes + excluded.bytes, oldest_ts = excluded.oldest_ts
"""
CHANGE_HOLDING = "UPDATE holding SET bytes = bytes + ? WHERE handle = ?"
LOWER_HOLDING = "UPDATE holding SET bytes = bytes - ?, oldest_ts = ? WHERE handle = ?"
_HOLDING = "SELECT h.handle, h.bytes, h.oldest_ts, k.output_ms, k.bytes, k.ended_ms, k.always FROM "
_MOST_HELD = """
holding h LEFT JOIN keep k ON k.handle = h.handle
WHERE h.bytes > :above AND {counts} ORDER BY h.bytes DESC, h.handle LIMIT :limit
"""
HOLDINGS = {
    None: _HOLDING
    + """
keep k CROSS JOIN holding h ON h.handle = k.handle
WHERE k.handle > :handle AND h.bytes > :above ORDER BY k.handle LIMIT :limit
""",
    Rule.PROCESS_BYTES: _HOLDING + _MOST_HELD.format(counts="k.bytes IS NULL"),
    Rule.TOTAL_BYTES: _HOLDING + _MOST_HELD.format(counts="coalesce(k.always, 0) = 0"),
    Rule.OUTPUT_S: _HOLDING
    + """
holding h INDEXED BY holding_oldest LEFT JOIN keep k ON k.handle = h.handle
WHERE h.oldest_ts IS NOT NULL AND h.oldest_ts < :before AND k.output_ms IS NULL ORDER BY h.oldest_ts LIMIT :limit
""",
}
SIZE_OF_ROW = f"SELECT {ROW_SIZE} FROM output_chunk WHERE id = ?"
RAISE_UNMERGED = "UPDATE unmerged SET after_seq = :upto WHERE handle = :handle AND after_seq < :upto"
