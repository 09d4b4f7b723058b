"""Queries in SQL, by which operators read the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_ROWS = 10_000
MAX_ANSWER_BYTES = 16 << 20
"""Maximum size of an answer as it is sent: JSON, with blobs in base64."""

SqlValue = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlQuery:
    """One statement that only reads, its parameters (by place or by name), and the bounds of its answer."""

    query: str
    parameters: Sequence[SqlValue] | Mapping[str, SqlValue] = ()
    max_rows: int = 1000
    timeout_s: float = 10.0
