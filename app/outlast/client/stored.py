"""Stored output and events without a connection: lines, events, bytes."""

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from outlast.client.blocks import Splitter
from outlast.client.errors import Disconnected
from outlast.client.items import Event, Gap, Line, gap_of
from outlast.client.json_text import loads
from outlast.client.request import Request
from outlast.client.subscription import Subscription, event_of, line_of
from outlast.model.errors import OutputTrimmed

T = TypeVar("T")

OnTrimmed = Callable[[int, int], None]
"""A hook that is called with the numbers of lines and bytes of a process that were deleted because of a limit."""

_TRIMMED = re.compile(r"lines=(\d+),bytes=(\d+)")
_NOTHING = (0, 0)


class _Rows(Subscription[T]):
    """Rows of NDJSON. After a break, they go on behind the last one that has come."""

    def __init__(self, path: str, query: Mapping[str, Any], give_up_after_s: float | None) -> None:
        super().__init__(give_up_after_s, None)
        self._path = path
        self._query = dict(query)
        self._splitter = Splitter(b"\n")

    def request(self) -> Request:
        """Return the request of the next connection."""
        self._splitter = Splitter(b"\n")
        return Request("GET", self._path, self._query, headers={"Accept": "application/x-ndjson"})

    def feed(self, data: bytes) -> list[T]:
        """Return the items that `data` completes."""
        blocks = self._splitter.split(data)
        if not blocks:
            return []
        self._progressed()
        items = []
        for each in loads(b"[%b]" % b",".join(blocks)):
            items.append(self._item(each))
            self.last = self._query["after"] = each["id"]
            if self._query.get("limit") is not None and "gap" not in each:
                self._query["limit"] -= 1
        self._query["tail"] = None
        self.is_over = self._query.get("limit") == 0
        return items

    def ended(self) -> None:
        """Take the end of the body, which is that of the rows."""
        self.is_over = True

    @abstractmethod
    def _item(self, row: Mapping[str, Any]) -> T:
        """Return the item of a row."""


class StoredLines(_Rows[Line | Gap]):
    """Stored lines."""

    def _item(self, row: Mapping[str, Any]) -> Line | Gap:
        return gap_of(row["gap"], row["stream"]) if "gap" in row else line_of(row["id"], row)


class StoredEvents(_Rows[Event | Gap]):
    """Stored events."""

    def _item(self, row: Mapping[str, Any]) -> Event | Gap:
        return gap_of(row["gap"]) if "gap" in row else event_of(row)


class StoredBytes(Subscription[bytes]):
    """Stored bytes, exactly as they were written. After a break, those that have come are passed over."""

    def __init__(
        self, path: str, query: Mapping[str, Any], give_up_after_s: float | None, on_trimmed: OnTrimmed | None = None
    ) -> None:
        """`on_trimmed`: hook, called before the first byte if output before that was deleted."""
        super().__init__(give_up_after_s, None)
        self._path = path
        self._query = query
        self._on_trimmed = on_trimmed
        self._trimmed = _NOTHING
        self._had = self._to_skip = 0

    def request(self) -> Request:
        """Return the request of the next connection.

        Raises:
            Disconnected: the last lines are others now, so nothing tells which bytes have come.
        """
        if self._had and self._query.get("tail") is not None:
            raise Disconnected("the connection broke, and the last lines are others now: read again", sent=True)
        self._to_skip = self._had
        return Request("GET", self._path, self._query, headers={"Accept": "application/octet-stream"})

    def opened(self, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """Tell whether the body that follows is to be fed.

        Raises:
            OutputTrimmed: output was deleted since the connection before, so nothing tells which bytes have come.
        """
        is_open = super().opened(status, headers, body)
        if is_open and (trimmed := _trimmed_of(headers)) != self._trimmed:
            if self._had:
                raise OutputTrimmed("the connection broke, and output was deleted because of a limit: read again")
            self._trimmed = trimmed
            if self._on_trimmed is not None:
                self._on_trimmed(*trimmed)
        return is_open

    def feed(self, data: bytes) -> list[bytes]:
        """Return the bytes that are new."""
        new = data[self._to_skip :]
        self._to_skip = max(0, self._to_skip - len(data))
        self._had += len(new)
        if new:
            self._progressed()
        return [new] if new else []

    def ended(self) -> None:
        """Take the end of the body, which is that of the output."""
        self.is_over = True


def _trimmed_of(headers: Mapping[str, str]) -> tuple[int, int]:
    """Return how many lines and bytes were deleted, as the headers of an answer say."""
    found = _TRIMMED.fullmatch(headers.get("Outlast-Trimmed", ""))
    return (int(found[1]), int(found[2])) if found else _NOTHING
