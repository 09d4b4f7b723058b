"""Reads of events: each function is the work of one read transaction, on a reader's thread."""

import json
import sqlite3

from outlast.model.event import EventFilter, EventPage
from outlast.storage.sql.mapping import event_from_row
from outlast.storage.sqlite import queries

SCAN_IDS = 10_000
"""Maximum number of ids whose events one call reads."""


def events(db: sqlite3.Connection, after: int, limit: int, wanted: EventFilter) -> EventPage:
    """Implement `Storage.events`."""
    first = db.execute(queries.EVENT_AFTER, (after,)).fetchone()
    trimmed_to: int = db.execute(queries.EVENTS_TRIMMED).fetchone()[0]
    if first is None:
        return EventPage(events=[], last_id=after, trimmed_to=trimmed_to)
    first_id, latest_ts = first
    last_id: int = db.execute(queries.LAST_EVENT).fetchone()[0]
    if wanted.since_ms is not None and latest_ts < wanted.since_ms:
        first_id = _first_id_since(db, first_id, last_id, wanted.since_ms)
    upto = last_id if wanted.process_id is not None else min(last_id, first_id + SCAN_IDS - 1)
    sql, parameters = _conditions(wanted)
    parameters |= {"after": first_id - 1, "upto": upto, "limit": limit}
    found = [event_from_row(row) for row in db.execute(sql + queries.EVENTS_FORWARD, parameters)]
    last_id = found[-1].id if len(found) == limit else upto
    return EventPage(events=found, last_id=last_id, trimmed_to=trimmed_to)


def event_tail(db: sqlite3.Connection, count: int, wanted: EventFilter) -> int:
    """Implement `Storage.event_tail`."""
    last_id: int = db.execute(queries.LAST_EVENT).fetchone()[0]
    sql, parameters = _conditions(wanted)
    parameters |= {"after": 0, "upto": last_id, "count": count}
    row = db.execute(sql + queries.EVENTS_BACKWARD, parameters).fetchone()
    return 0 if row is None else int(row[0])


def _conditions(wanted: EventFilter) -> tuple[str, dict[str, object]]:
    parameters: dict[str, object] = {}
    sql = queries.EVENTS
    if wanted.process_id is not None:
        sql = queries.EVENTS_OF_PROCESS
        parameters["process_id"] = wanted.process_id
    elif wanted.types and wanted.types.isdisjoint(queries.COMMON_EVENTS):
        sql = queries.EVENTS_BUT_COMMON
    if wanted.types:
        sql += queries.AND_TYPES
        parameters["types"] = json.dumps(sorted(wanted.types))
    if wanted.since_ms is not None:
        sql += queries.AND_SINCE
        parameters["since"] = wanted.since_ms
    for n, (key, value) in enumerate(wanted.tags.items()):
        sql += queries.AND_EVENT_TAG.format(n=n)
        parameters |= {f"key{n}": key, f"value{n}": value}
    return sql, parameters


def _first_id_since(db: sqlite3.Connection, low: int, high: int, ms: int) -> int:
    """Return the lowest id in `low`..`high` before which all events have `latest_ts` < `ms`; `high` is the last id.

    A binary search, because `latest_ts` never falls; an index on time would cost every commit.
    """
    while low < high:
        middle = (low + high) // 2
        first_id, latest_ts = db.execute(queries.EVENT_AFTER, (middle - 1,)).fetchone()
        if latest_ts >= ms:
            high = min(first_id, middle)
        else:
            low = first_id + 1
    return low
