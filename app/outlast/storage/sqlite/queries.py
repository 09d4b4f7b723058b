"""All SQL except the schema (migrations/sqlite). Every statement finds its rows through an index."""

from outlast.model.event import EventType
from outlast.model.process import Order
from outlast.storage.sql.mapping import CHANGED_COLUMNS, EVENT_COLUMNS, RUN_COLUMNS, SPEC_COLUMNS

QUICK_CHECK = "PRAGMA quick_check(1)"

# ---- writing

ADD_PROCESS = f"""
INSERT INTO process ({", ".join(SPEC_COLUMNS)}, latest_start)
VALUES ({", ".join("?" for _ in SPEC_COLUMNS)},
    max(?, coalesce((SELECT l.latest_start FROM process l WHERE l.handle > 0 ORDER BY l.handle DESC LIMIT 1), 0)))
"""
CHANGE_SPEC = f"UPDATE process SET {', '.join(f'{column} = ?' for column in CHANGED_COLUMNS)} WHERE handle = ?"
ADD_RUN = """
INSERT OR IGNORE INTO run
    (handle, number, pid, started_at, ended_at, status, reason, exit_code, signal, output_complete)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
HAS_RUN = "SELECT 1 FROM run WHERE handle = ? AND number = ?"
SUPERSEDE_RUNS = "UPDATE run SET superseded = 1 WHERE handle = ? AND number < ? AND superseded = 0"
RESTORE_LAST_RUN = """
UPDATE run SET superseded = 0
WHERE handle = :handle AND number = (SELECT max(l.number) FROM run l WHERE l.handle = :handle)
"""
WITHDRAW_RUN = "DELETE FROM run WHERE handle = ? AND number = ?"
ADD_MANAGED = "INSERT INTO managed (handle, desired, state) VALUES (?, ?, ?)"
SET_MANAGED = "UPDATE managed SET desired = ?, state = ? WHERE handle = ?"
IS_TO_RUN = "SELECT 1 FROM managed WHERE handle = ? AND desired = 'running'"
DELETE_TAGS = "DELETE FROM tag WHERE handle = ?"
ADD_TAG = "INSERT INTO tag (handle, key, value) VALUES (?, ?, ?)"
ADD_CHUNK = """
INSERT INTO output_chunk
    (handle, run, first_seq, line_count, stream, ts, latest_ts, stdout_end, stderr_end, lines, continues,
     unfinished_bytes, data, gap, missing_bytes, parts, codec, raw_bytes, totals)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
OUTPUT_TOTALS = "SELECT totals FROM output_chunk WHERE id > 0 ORDER BY id DESC LIMIT 1"
TOTALS = "SELECT counted, label, value FROM total"
ADD_TO_TOTAL = """
INSERT INTO total (counted, label, value) VALUES (?, ?, ?)
ON CONFLICT (counted, label) DO UPDATE SET value = value + excluded.value
"""
MINUTE_MS = 60_000
NEXT_MINUTE = f"SELECT coalesce(max(ts) + {MINUTE_MS}, -9223372036854775808) FROM minute"
ADD_MINUTE = "INSERT INTO minute (ts, first_chunk) VALUES (?, ?)"
END_RUN = """
UPDATE run SET ended_at = ?, status = ?, reason = ?, exit_code = ?, signal = ?
WHERE handle = ? AND number = ? AND ended_at IS NULL
"""
COMPLETE_OUTPUT = "UPDATE run SET output_complete = 1 WHERE handle = ? AND number = ? AND output_complete = 0"

PEAKS = ("processes", "threads", "open_files", "cpu_user_ms", "cpu_system_ms", "rss_bytes", "pss_bytes")
"""Figures of `PeakUsage`, and the columns that hold them."""

_PEAK_COLUMNS = ", ".join(f"peak_{name}" for name in PEAKS)
_HIGHER = ", ".join(
    f"{column} = max(coalesce({column}, excluded.{column}), coalesce(excluded.{column}, {column}))"
    for column in _PEAK_COLUMNS.split(", ")
)
RECORD_USAGE = f"""
INSERT INTO run_usage (handle, run, history, {_PEAK_COLUMNS})
SELECT handle, number, ?, {", ".join("?" for _ in PEAKS)} FROM run WHERE handle = ? AND number = ?
ON CONFLICT (handle, run) DO UPDATE SET history = coalesce(excluded.history, history), {_HIGHER}
"""
USAGE = f"""
SELECT u.history, {", ".join(f"u.peak_{name}" for name in PEAKS)}
FROM run r LEFT JOIN run_usage u ON u.handle = r.handle AND u.run = r.number
WHERE r.handle = ? AND r.number = ?
"""

_EVENT_VALUES = """
SELECT
    {type}, {ts},
    max({ts}, coalesce((SELECT l.latest_ts FROM event l WHERE l.id > 0 ORDER BY l.id DESC LIMIT 1), 0)), p.id, p.name,
    (SELECT json_group_object(t.key, t.value) FROM tag t WHERE t.handle = p.handle),
    r.number, r.pid, {ending}
FROM process p CROSS JOIN run r ON r.handle = p.handle
"""
_ADD_EVENT = """
INSERT INTO event (type, ts, latest_ts, process_id, name, tags, run, pid, reason, exit_code, signal)
"""
ADD_EVENT = (
    _ADD_EVENT
    + _EVENT_VALUES.format(type=":type", ts=":ts", ending=":reason, :exit_code, :signal")
    + """
WHERE p.handle = :handle AND r.number = :run
"""
)
ADD_LAST_EVENT = (
    _ADD_EVENT
    + _EVENT_VALUES.format(type=":type", ts=":ts", ending=":reason, NULL, NULL")
    + """
WHERE p.handle = :handle ORDER BY r.number DESC LIMIT 1
"""
)
HAS_EVENT = """
SELECT 1 FROM event WHERE run = :run AND type = :type AND ts = :ts AND id IN (
    SELECT e.id FROM event e WHERE e.process_id = (SELECT p.id FROM process p WHERE p.handle = :handle)
    ORDER BY e.id DESC LIMIT 100)
"""
DELETE_EVENTS = "DELETE FROM event WHERE process_id = (SELECT id FROM process WHERE handle = ?)"

HAS_KEY = "SELECT 1 FROM process WHERE idempotency_key = ?"
HANDLE_BY_ID = "SELECT handle FROM process WHERE id = ?"
IS_STORED = "SELECT 1 FROM process WHERE handle = ?"

ADD_SIZE = """
INSERT OR REPLACE INTO terminal_size (handle, ts, rows, cols)
SELECT handle, ?2, ?3, ?4 FROM process WHERE handle = ?1
"""
SIZES = "SELECT ts, rows, cols FROM terminal_size WHERE handle = ? ORDER BY ts"
PURGE = (
    "DELETE FROM process WHERE handle = ?",
    "DELETE FROM run WHERE handle = ?",
    "DELETE FROM run_usage WHERE handle = ?",
    "DELETE FROM terminal_size WHERE handle = ?",
    "DELETE FROM tag WHERE handle = ?",
    "DELETE FROM managed WHERE handle = ?",
    "DELETE FROM unmerged WHERE handle = ?",
    "DELETE FROM keep WHERE handle = ?",
    "DELETE FROM trimmed WHERE handle = ?",
    "DELETE FROM holding WHERE handle = ?",
    "INSERT INTO purged (handle) VALUES (?)",
)
OWNER = "SELECT identity, state_dir, place FROM owner"
FORGET_OWNER = "DELETE FROM owner"
SET_OWNER = "INSERT INTO owner (identity, state_dir, place) VALUES (?, ?, ?)"
WRITE_NOTHING = "UPDATE tally SET purged = purged"  # SQLite writes the page all the same
COUNT_PURGED = "UPDATE tally SET purged = purged + 1"
# SQLite gives a new row the highest id + 1. If the newest row were deleted, its id would be used again, and a scan that
# has passed this id would miss the new row.
_NEWEST = "(SELECT max(n.id) FROM output_chunk n)"
OLDEST_PURGED = f"""
SELECT handle FROM purged
WHERE NOT EXISTS (
    SELECT 1 FROM output_chunk c
    WHERE c.id = {_NEWEST} AND c.handle = purged.handle AND length(c.data) = 0 AND c.gap IS NULL)
ORDER BY handle LIMIT 1
"""
DELETE_CHUNKS = f"""
DELETE FROM output_chunk WHERE id IN (SELECT c.id FROM output_chunk c WHERE c.handle = ? AND +c.id < {_NEWEST} LIMIT ?)
"""
EMPTY_NEWEST = f"""
UPDATE output_chunk SET data = x'', parts = NULL, codec = NULL, gap = NULL, missing_bytes = NULL
WHERE id = {_NEWEST} AND handle = ?
"""
FORGET_PURGED = "DELETE FROM purged WHERE handle = ?"

# ---- processes

_CURRENT = "r.number = (SELECT max(l.number) FROM run l WHERE l.handle = r.handle)"
_CHECKED_IS_CURRENT = _CURRENT.replace("r.", "checked.")

# Of the last row of a stream, and of the last packed row; see `rows.position_from_rows`.
_END_OF_STREAM = (
    "{t}first_seq + {t}line_count - 1, {t}lines, {t}stdout_end, {t}stderr_end, {t}run, "
    "iif({t}line_count = 1 AND {t}continues > 0, {t}continues, {t}first_seq + {t}line_count - 1), {t}unfinished_bytes"
)

PROCESS_COLUMNS = f"""
SELECT
    p.handle, {", ".join(f"p.{column}" for column in SPEC_COLUMNS)},
    (SELECT m.state FROM managed m WHERE m.handle = p.handle),
    (SELECT json_group_object(t.key, t.value) FROM tag t WHERE t.handle = p.handle),
    {", ".join(f"r.{column}" for column in RUN_COLUMNS)},
    {_END_OF_STREAM.format(t="o.")},
    {_END_OF_STREAM.format(t="e.")},
    {_END_OF_STREAM.format(t="b.")},
    (SELECT coalesce(sum(g.missing_bytes), 0) FROM output_chunk g
        WHERE g.handle = p.handle AND g.gap IS NOT NULL AND g.first_seq > coalesce(t.last_seq, 0)),
    nullif(max(coalesce(o.latest_ts, 0), coalesce(e.latest_ts, 0), coalesce(b.latest_ts, 0), coalesce(t.until, 0)), 0),
    t.last_seq, t.lines, t.bytes, t.until, t.stdout_end + t.stderr_end
FROM page
CROSS JOIN process p ON p.handle = page.handle
CROSS JOIN run r ON r.handle = p.handle AND {_CURRENT}
LEFT JOIN output_chunk o ON o.id = (
    SELECT c.id FROM output_chunk c
    WHERE c.handle = p.handle AND c.stream = 1 ORDER BY c.first_seq DESC LIMIT 1)
LEFT JOIN output_chunk e ON e.id = (
    SELECT c.id FROM output_chunk c
    WHERE c.handle = p.handle AND c.stream = 2 ORDER BY c.first_seq DESC LIMIT 1)
LEFT JOIN output_chunk b ON b.id = (
    SELECT c.id FROM output_chunk c
    WHERE c.handle = p.handle AND c.stream = 0 ORDER BY c.first_seq DESC LIMIT 1)
LEFT JOIN trimmed t ON t.handle = p.handle
"""

PAGE_BY_HANDLE = "SELECT :handle AS handle"
PAGE_BY_ID = "SELECT handle FROM process WHERE id = :id"
PAGE_BY_KEY = "SELECT handle FROM process WHERE idempotency_key = :key"
PAGE_BY_NAME = "SELECT handle FROM process WHERE name = :name ORDER BY handle DESC LIMIT 1"
PAGE_SUPERVISED = "SELECT handle FROM managed INDEXED BY managed_to_run WHERE desired = 'running'"
PAGE_BY_PID = "SELECT handle FROM run WHERE pid = :pid ORDER BY handle DESC LIMIT 1"
PAGE_UNFINISHED = f"""
SELECT r.handle FROM run r INDEXED BY run_unfinished
WHERE (r.ended_at IS NULL OR r.output_complete = 0) AND {_CURRENT}
"""

# The conditions on `run` are those of the index, word for word.
ENDED = """
SELECT r.ended_at, r.handle, p.id
FROM run r INDEXED BY run_ended CROSS JOIN process p ON p.handle = r.handle
WHERE r.superseded = 0 AND r.ended_at IS NOT NULL AND r.output_complete = 1
  AND (r.ended_at, r.handle) > (:ended_at, :handle) AND r.ended_at <= :until
  AND NOT EXISTS (SELECT 1 FROM managed m WHERE m.handle = r.handle AND m.desired = 'running')
  AND NOT EXISTS (
    SELECT 1 FROM keep k WHERE k.handle = r.handle AND (k.always = 1 OR (:by_age AND k.ended_ms IS NOT NULL)))
ORDER BY r.ended_at, r.handle LIMIT :limit
"""

ENDED_BY_OWN_LIMIT = f"""
SELECT r.ended_at, r.handle, p.id
FROM keep k CROSS JOIN run r ON r.handle = k.handle AND {_CURRENT} CROSS JOIN process p ON p.handle = k.handle
WHERE k.ended_ms > 0 AND k.always = 0 AND r.output_complete = 1 AND r.ended_at <= :until - k.ended_ms
  AND NOT EXISTS (SELECT 1 FROM managed m WHERE m.handle = r.handle AND m.desired = 'running')
ORDER BY r.ended_at, r.handle LIMIT :limit
"""

RUNS = f"""
SELECT {", ".join(RUN_COLUMNS)} FROM run
WHERE handle = ? AND number < ? ORDER BY number DESC LIMIT ?
"""

# One condition leads a list to its processes; the others are checked for each process found.
_RANGE = "{h} < :before AND {h} > :after"
_P_RANGE, _X_RANGE, _R_RANGE = (_RANGE.format(h=f"{table}.handle") for table in "pxr")
LIST_ALL = f"SELECT p.handle FROM process p WHERE {_P_RANGE}"
LIST_BY_NAME = f"SELECT p.handle FROM process p INDEXED BY process_by_name WHERE p.name = :name AND {_P_RANGE}"
LIST_BY_TAG = f"""
SELECT x.handle FROM tag x INDEXED BY tag_by_value
WHERE x.key = :key{{n}} AND x.value = :value{{n}} AND {_X_RANGE}
"""
LIST_BY_STATUS = f"""
SELECT r.handle FROM run r INDEXED BY run_by_status
WHERE r.status = :status AND {_R_RANGE} AND {_CURRENT}
"""
AND_NAME = " AND EXISTS (SELECT 1 FROM process n WHERE n.handle = {handle} AND n.name = :name)"
AND_TAG = """
 AND EXISTS (SELECT 1 FROM tag t WHERE t.handle = {handle} AND t.key = :key{n} AND t.value = :value{n})
"""
AND_STATUS = f"""
 AND EXISTS (SELECT 1 FROM run checked WHERE checked.handle = {{handle}} AND {_CHECKED_IS_CURRENT}
    AND checked.status = :status)
"""
LIST_ORDER = " ORDER BY {handle} {order} LIMIT :limit"
COUNT_UP_TO = "SELECT count(*) FROM ({page} LIMIT :most)"

PROCESS_FROM = "SELECT handle, latest_start FROM process WHERE handle >= ? ORDER BY handle LIMIT 1"
LAST_HANDLE = "SELECT coalesce(max(handle), 0) FROM process"

# AUTOINCREMENT gives every handle once, so all handles but those of purged processes are in use.
TOTAL = """
SELECT coalesce((SELECT s.seq FROM sqlite_sequence s WHERE s.name = 'process'), 0) - t.purged FROM tally t
"""

# ---- output: (handle, stream, first_seq) is the only index, so a query over both streams asks for each of them, and a
# query over one asks for packed rows, too, whose stream is 0


def of_streams(sql: str, order: str) -> dict[int | None, str]:
    """Return `sql`, which has a place for a stream, for each stream and for both (None)."""
    rows = {stream: sql.format(stream=stream) for stream in (0, 1, 2)}
    wanted: dict[int | None, tuple[int, ...]] = {1: (0, 1), 2: (0, 2), None: (0, 1, 2)}
    return {
        stream: f"{' UNION ALL '.join(rows[part] for part in parts)} ORDER BY {order}"
        for stream, parts in wanted.items()
    }


LAST_OF_STREAM = f"""
SELECT {_END_OF_STREAM.format(t="")}, latest_ts FROM output_chunk
WHERE handle = ? AND stream = ? ORDER BY first_seq DESC LIMIT 1
"""
CHUNK_AT = """
SELECT first_seq, line_count, latest_ts FROM output_chunk
WHERE handle = ? AND stream = ? AND first_seq <= ? ORDER BY first_seq DESC LIMIT 1
"""
_KEYS = """
SELECT id, first_seq FROM output_chunk
WHERE handle = :handle AND stream = {stream} AND first_seq <= :upto AND first_seq >= coalesce((
    SELECT c.first_seq FROM output_chunk c
    WHERE c.handle = :handle AND c.stream = {stream} AND c.first_seq <= :after
    ORDER BY c.first_seq DESC LIMIT 1), 0)
"""
CHUNK_KEYS = of_streams(_KEYS, "first_seq")
CHUNK = "run, first_seq, line_count, stream, ts, stdout_end, stderr_end, continues, data, gap, parts, codec"
CHUNK_AFTER = f"""
SELECT {CHUNK} FROM output_chunk
WHERE id = ? AND first_seq + line_count - 1 > ?
"""
TIMES_AT = """
SELECT ts, parts FROM output_chunk
WHERE handle = ? AND stream = ? AND first_seq = ? AND parts IS NOT NULL
"""
_SPANS = """
SELECT first_seq, line_count, stream, gap IS NOT NULL, continues, iif(stream = 0, parts, NULL) FROM output_chunk
WHERE handle = :handle AND stream = {stream} AND first_seq > :mark AND first_seq < :before
"""
SPANS_BACKWARDS = of_streams(_SPANS, "first_seq DESC")
# The parts of one line that come before a row. Of the first row, which holds the first part, the part is the end; the
# others are parts as a whole.
PARTS = """
SELECT first_seq + line_count - 1, data, codec, unfinished_bytes FROM output_chunk
WHERE handle = :handle AND stream = :stream AND first_seq < :before AND first_seq >= max(
    coalesce((SELECT t.last_seq + 1 FROM trimmed t WHERE t.handle = :handle), 0),
    coalesce((
        SELECT b.first_seq FROM output_chunk b WHERE b.handle = :handle AND b.stream = :stream AND b.first_seq <= :from
        ORDER BY b.first_seq DESC LIMIT 1), 0))
ORDER BY first_seq
"""
OUTPUT_TIMES = """
SELECT min(ts), max(latest_ts) FROM output_chunk WHERE handle = :handle AND first_seq > :mark AND EXISTS (
    SELECT 1 FROM process p WHERE p.handle = :handle)
"""
LINES_BY_TIME = """
SELECT first_seq, stream, ts, latest_ts, line_count, continues, parts FROM output_chunk
WHERE handle = :handle AND first_seq > :mark AND gap IS NULL ORDER BY stream, first_seq
"""
# The packed row that has lines on both sides of a number.
PACKED_OVER = """
SELECT first_seq, parts FROM (
    SELECT first_seq, line_count, parts FROM output_chunk
    WHERE handle = ?1 AND stream = 0 AND first_seq < ?2 ORDER BY first_seq DESC LIMIT 1)
WHERE first_seq + line_count > ?2
"""
CONTINUES_NEXT = """
SELECT continues FROM output_chunk WHERE handle = ? AND stream = ? AND first_seq > ? ORDER BY first_seq LIMIT 1
"""

# ---- compaction: `unmerged` holds the processes whose rows behind `after_seq` may still be merged

ADD_UNMERGED = "INSERT OR IGNORE INTO unmerged (handle, after_seq) VALUES (?, ?)"
MOVE_UNMERGED = "UPDATE unmerged SET after_seq = ? WHERE handle = ? AND after_seq = ?"
FORGET_UNMERGED = "DELETE FROM unmerged WHERE handle = ? AND after_seq = ?"
UNMERGED_FROM = "SELECT handle FROM unmerged WHERE handle > ? ORDER BY handle LIMIT ?"
UNMERGED = f"""
SELECT u.after_seq, r.output_complete
FROM unmerged u CROSS JOIN run r ON r.handle = u.handle AND {_CURRENT}
WHERE u.handle = :handle
"""
_BEHIND = """
SELECT id, first_seq, line_count FROM output_chunk
WHERE handle = :handle AND stream = {stream} AND first_seq > :after
"""
ROWS_BEHIND = _BEHIND.format(stream=1) + " UNION ALL " + _BEHIND.format(stream=2) + " ORDER BY first_seq LIMIT :limit"
# A large row is never merged, and its data are not read: the conditions need only the columns before `data` and its
# length.
SMALL_ROW = """
SELECT id, run, first_seq, line_count, stream, ts, continues, data, parts FROM output_chunk
WHERE id = :id AND line_count < :most AND length(data) BETWEEN 1 AND :large AND gap IS NULL AND codec IS NULL
"""
DELETE_ROW = "DELETE FROM output_chunk WHERE id = ?"
REPLACE_ROW = """
UPDATE output_chunk
SET first_seq = ?, line_count = ?, ts = ?, continues = ?, data = ?, parts = ?, codec = ?, raw_bytes = ?,
    stream = coalesce(?, stream),
    totals = iif(id < (SELECT max(n.id) FROM output_chunk n), NULL, totals)
WHERE id = ?
"""
LAST_ROW = "SELECT coalesce(max(id), 0) FROM output_chunk"

# ---- compression, in the order of row ids

COMPRESSED_UPTO = "SELECT id FROM compressed_upto WHERE rowid = 1"
MOVE_COMPRESSED_UPTO = "UPDATE compressed_upto SET id = ? WHERE rowid = 1"
ROWS_TO_COMPRESS = """
SELECT c.id, c.ts, iif(c.codec IS NULL, length(c.data), 0), length(c.data) <= :large AND EXISTS (
    SELECT 1 FROM unmerged u WHERE u.handle = c.handle AND u.after_seq < c.first_seq)
FROM output_chunk c WHERE c.id > :mark ORDER BY c.id LIMIT :limit
"""
ROW_TO_COMPRESS = "SELECT handle, first_seq, data, parts FROM output_chunk WHERE id = ?"
COMPRESS_ROW = """
UPDATE output_chunk SET data = ?, codec = ?, raw_bytes = ?
WHERE id = ? AND handle = ? AND first_seq = ? AND codec IS NULL
  AND NOT EXISTS (
    SELECT 1 FROM trimmed t WHERE t.handle = output_chunk.handle AND t.last_seq >= output_chunk.first_seq)
"""

# ---- events

EVENT_AFTER = "SELECT id, latest_ts FROM event WHERE id > ? ORDER BY id LIMIT 1"
LAST_EVENT = "SELECT coalesce(max(id), 0) FROM event"
_EVENT_COLUMNS = ", ".join(EVENT_COLUMNS)
EVENTS = f"SELECT {_EVENT_COLUMNS} FROM event WHERE id > :after AND id <= :upto"
EVENTS_OF_PROCESS = f"""
SELECT {_EVENT_COLUMNS} FROM event INDEXED BY event_by_process
WHERE process_id = :process_id AND id > :after AND id <= :upto
"""
COMMON_EVENTS = (EventType.STARTED, EventType.RESTARTED, EventType.EXITED)
# SQLite uses the partial index only if the query repeats the condition of the index word for word.
EVENTS_BUT_COMMON = f"""
SELECT {_EVENT_COLUMNS} FROM event INDEXED BY event_rare
WHERE type NOT IN ({", ".join(f"'{type_}'" for type_ in COMMON_EVENTS)}) AND id > :after AND id <= :upto
"""
AND_TYPES = " AND type IN (SELECT value FROM json_each(:types))"
AND_SINCE = " AND ts >= :since"
AND_EVENT_TAG = " AND EXISTS (SELECT 1 FROM json_each(tags) t WHERE t.key = :key{n} AND t.value = :value{n})"
EVENTS_FORWARD = " ORDER BY id LIMIT :limit"
EVENTS_BACKWARD = " ORDER BY id DESC LIMIT 1 OFFSET :count"

OLDEST_EVENTS = "SELECT id, latest_ts FROM event WHERE id > 0 ORDER BY id LIMIT ?"
DELETE_EVENTS_UPTO = "DELETE FROM event WHERE id <= ?"
EVENTS_TRIMMED = "SELECT last_id FROM events_trimmed WHERE rowid = 1"
SET_EVENTS_TRIMMED = "UPDATE events_trimmed SET last_id = ? WHERE rowid = 1"

# ---- output of all processes: by row id

# All chunks before this one are earlier than :since.
FIRST_SINCE = f"""
SELECT coalesce(
    (SELECT first_chunk FROM minute WHERE ts > :since - {MINUTE_MS} ORDER BY ts LIMIT 1), 9223372036854775807)
"""
_IDS = "SELECT id FROM output_chunk WHERE id {than} :id AND id >= :first ORDER BY id {order} LIMIT :count"
# The ids of a process's rows ascend with their lines, so the index of the process leads to them; `begin` skips the rows
# before the first of them.
_IDS_OF_STREAM = """
SELECT id, first_seq FROM output_chunk
WHERE handle = :handle AND stream = {stream} AND id {than} :id AND id >= :first AND first_seq {than} coalesce(
    (SELECT b.first_seq FROM output_chunk b WHERE b.id = :id AND b.handle = :handle), :begin)
"""
_IDS_OF_PROCESS = f"""
{" UNION ALL ".join(_IDS_OF_STREAM.replace("{stream}", str(stream)) for stream in (0, 1, 2))}
ORDER BY first_seq {{order}} LIMIT :count
"""
_DIRECTIONS = {Order.NEWEST: {"than": "<=", "order": "DESC"}, Order.OLDEST: {"than": ">=", "order": "ASC"}}
SCAN_ALL = {order: _IDS.format(**direction) for order, direction in _DIRECTIONS.items()}
SCAN_PROCESS = {order: _IDS_OF_PROCESS.format(**direction) for order, direction in _DIRECTIONS.items()}
SCANNED = f"""
SELECT c.handle, {CHUNK} FROM output_chunk c
WHERE c.id = :id AND c.gap IS NULL
  AND (:stream IS NULL OR c.stream IN (0, :stream))
  AND (:since IS NULL OR c.latest_ts >= :since)
  AND (:until IS NULL OR c.ts <= :until)
  AND EXISTS (SELECT 1 FROM process p WHERE p.handle = c.handle)
  AND NOT EXISTS (SELECT 1 FROM trimmed t WHERE t.handle = c.handle AND t.last_seq >= c.first_seq)
"""
