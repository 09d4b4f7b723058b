"""Lists of processes: the index that leads, and the range of handles."""

import sqlite3
from dataclasses import dataclass

from outlast.model.process import Order, ProcessQuery
from outlast.storage.sqlite import queries

COUNTED = (100, 400, 1600, 6400)
"""Limits up to which the processes that meet each of several conditions are counted. The next limit is tried only if
every condition reaches the one before; the condition with the fewest processes leads."""

MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Condition:
    """A condition: the SQL that finds the processes that meet it, and the SQL that checks one found in another way."""

    lead: str
    handle: str
    check: str


def list_query(db: sqlite3.Connection, query: ProcessQuery) -> tuple[str, dict[str, object]]:
    """Return the SQL that finds the handles of a page, and its parameters."""
    conditions, parameters = _conditions(query)
    parameters |= _bounds(db, query)
    first = _choose_lead(db, conditions, parameters)
    lead = first or _Condition(queries.LIST_ALL, "p.handle", "")
    sql = lead.lead + "".join(other.check.format(handle=lead.handle) for other in conditions if other is not first)
    order = "DESC" if query.order is Order.NEWEST else "ASC"
    return sql + queries.LIST_ORDER.format(handle=lead.handle, order=order), {**parameters, "limit": query.limit}


def _conditions(query: ProcessQuery) -> tuple[list[_Condition], dict[str, object]]:
    conditions: list[_Condition] = []
    parameters: dict[str, object] = {}
    if query.name is not None:
        conditions.append(_Condition(queries.LIST_BY_NAME, "p.handle", queries.AND_NAME))
        parameters["name"] = query.name
    for n, (key, value) in enumerate(query.tags.items()):
        check = queries.AND_TAG.format(handle="{handle}", n=n)
        conditions.append(_Condition(queries.LIST_BY_TAG.format(n=n), "x.handle", check))
        parameters |= {f"key{n}": key, f"value{n}": value}
    if query.status is not None:
        conditions.append(_Condition(queries.LIST_BY_STATUS, "r.handle", queries.AND_STATUS))
        parameters["status"] = query.status
    return conditions, parameters


def _choose_lead(
    db: sqlite3.Connection, conditions: list[_Condition], parameters: dict[str, object]
) -> _Condition | None:
    if len(conditions) < 2:  # noqa: PLR2004 - nothing to choose between
        return conditions[0] if conditions else None

    for most in COUNTED:
        counts = [_count(db, condition, parameters, most) for condition in conditions]
        if min(counts) < most:
            break
    return conditions[counts.index(min(counts))]


def _count(db: sqlite3.Connection, condition: _Condition, parameters: dict[str, object], most: int) -> int:
    sql = queries.COUNT_UP_TO.format(page=condition.lead)
    found: int = db.execute(sql, {**parameters, "most": most}).fetchone()[0]
    return found


def _bounds(db: sqlite3.Connection, query: ProcessQuery) -> dict[str, object]:
    """Return the range of handles, both ends exclusive."""
    before = MAX_INTEGER if query.before_handle is None else query.before_handle
    after = 0 if query.after_handle is None else query.after_handle
    if query.since_ms is not None:
        after = max(after, _first_handle_since(db, query.since_ms) - 1)
    if query.until_ms is not None:
        before = min(before, _first_handle_since(db, query.until_ms + 1))
    return {"before": before, "after": after}


def _first_handle_since(db: sqlite3.Connection, ms: int) -> int:
    """Return the handle that separates processes with `latest_start` < `ms` from those with a later one.

    The search halves the range of handles, along which `latest_start` never falls.
    """
    low, high = 1, int(db.execute(queries.LAST_HANDLE).fetchone()[0]) + 1
    while low < high:
        middle = (low + high) // 2
        handle, latest_start = db.execute(queries.PROCESS_FROM, (middle,)).fetchone()
        if latest_start >= ms:
            high = middle
        else:
            low = handle + 1
    return low
