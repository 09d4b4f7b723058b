"""Questions that operators ask the store in SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_ROWS = 10_000
MAX_ANSWER_BYTES = 16 << 20
"""Of an answer as it is sent: as JSON, with blobs in base64."""

SqlValue = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlQuery:
    """One statement that reads, with its parameters (by place or by name), and the bounds of its answer."""

    query: str
    parameters: Sequence[SqlValue] | Mapping[str, SqlValue] = ()
    max_rows: int = 1000
    timeout_s: float = 10.0
