"""Stored output without a connection: its lines, and its bytes."""

from collections.abc import Mapping
from typing import Any

from outlast.client.blocks import Splitter
from outlast.client.errors import Disconnected
from outlast.client.items import Gap, Line, gap_of
from outlast.client.json_text import loads
from outlast.client.request import Request
from outlast.client.subscription import Subscription, line_of


class StoredLines(Subscription[Line | Gap]):
    """Stored lines. After a break, they go on behind the last line that has come."""

    def __init__(self, path: str, query: Mapping[str, Any], give_up_after_s: float | None) -> None:
        super().__init__(give_up_after_s, None)
        self._path = path
        self._query = dict(query)
        self._splitter = Splitter(b"\n")

    def request(self) -> Request:
        """Return the request of the next connection."""
        self._splitter = Splitter(b"\n")
        return Request("GET", self._path, self._query, headers={"Accept": "application/x-ndjson"})

    def feed(self, data: bytes) -> list[Line | Gap]:
        """Return the lines that `data` completes."""
        blocks = self._splitter.split(data)
        if not blocks:
            return []
        self._progressed()
        items: list[Line | Gap] = []
        for each in loads(b"[%b]" % b",".join(blocks)):
            is_gap = "gap" in each
            items.append(gap_of(each["gap"], each["stream"]) if is_gap else line_of(each["id"], each))
            self.last = self._query["after"] = each["id"]
            if self._query.get("limit") is not None and not is_gap:
                self._query["limit"] -= 1
        self._query["tail"] = None
        self.is_over = self._query.get("limit") == 0
        return items

    def ended(self) -> None:
        """Take the end of the body, which is that of the output."""
        self.is_over = True


class StoredBytes(Subscription[bytes]):
    """Stored bytes, exactly as they were written. After a break, those that have come are passed over."""

    def __init__(self, path: str, query: Mapping[str, Any], give_up_after_s: float | None) -> None:
        super().__init__(give_up_after_s, None)
        self._path = path
        self._query = query
        self._had = self._to_skip = 0

    def request(self) -> Request:
        """Return the request of the next connection.

        Raises:
            Disconnected: the beginning of the output has moved, so nothing tells which bytes have come.
        """
        if self._had and self._query.get("tail") is not None:
            raise Disconnected("the connection broke, and the last lines are others now: read again", sent=True)
        self._to_skip = self._had
        return Request("GET", self._path, self._query, headers={"Accept": "application/octet-stream"})

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
