"""Streams without a connection: what to ask for next, and what comes of the bytes that arrive.

A subscription lives over as many connections as its stream takes. The client that drives it (`async_client`,
`sync_client`) sends `request()`, feeds what comes, and reports how the connection ended.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Generic, TypeVar

from outlast.client.blocks import Splitter, fields_of
from outlast.client.errors import Disconnected, ProcessGone, error_of
from outlast.client.items import Event, Gap, Line, gap_of
from outlast.client.json_text import loads
from outlast.client.request import Answer, Backoff, Request, retry_after_s
from outlast.model.errors import Interrupted, NotFound, Unavailable

T = TypeVar("T")

OnReconnect = Callable[[int], None]
"""A hook that is called when a broken stream is open again, with the id after which the stream goes on."""

EVENT_STREAM = {"Accept": "text/event-stream"}
OUTPUT = b"\nevent: output\ndata: "
ID = b"id: "
_OK = 200
_NO_CONTENT = 204


class Subscription(ABC, Generic[T]):
    """A stream of items.

    Attributes:
        is_over: whether everything has come.
        pause_s: seconds to wait before the next connection.
        last: id after which the stream goes on.
    """

    def __init__(self, give_up_after_s: float | None, on_reconnect: OnReconnect | None) -> None:
        """Prepare a stream.

        Args:
            give_up_after_s: time after a break, without an item, until which it is connected again; None: for ever.
            on_reconnect: hook.
        """
        self.is_over = False
        self.pause_s = 0.0
        self.last = 0
        self._give_up_after_s = give_up_after_s
        self._on_reconnect = on_reconnect
        self._backoff = Backoff()
        self._was_open = False
        self._failed_at: float | None = None

    @abstractmethod
    def request(self) -> Request:
        """Return the request of the next connection, and forget what is left of the one before."""

    @abstractmethod
    def feed(self, data: bytes) -> list[T]:
        """Return the items that `data` completes. A heartbeat gives none.

        Raises:
            Disconnected: the stream has to begin at another place: connect again.
            OutlastError: the stream cannot go on.
        """

    def look_before(self) -> Request | None:
        """Return a request whose answer `looked` has to see before the next connection; None: there is none."""
        return None

    def looked(self, answer: Answer) -> None:
        """Take the answer to `look_before`."""

    def opened(self, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """Tell whether the body that follows is to be fed.

        Args:
            status: status of the answer.
            headers: headers of the answer.
            body: whole body if the status is not 200.

        Raises:
            OutlastError: the stream was refused.
        """
        if status == _OK:
            if self._was_open and self._on_reconnect is not None:
                self._on_reconnect(self.last)
            self._was_open = True
            return True
        if status == _NO_CONTENT:
            self.is_over = True
            return False
        error = error_of(status, body)
        if isinstance(error, NotFound) and self._was_open:
            raise ProcessGone(str(error))
        if not isinstance(error, Unavailable | Interrupted) or self._is_time_up():
            raise error
        self.pause_s = retry_after_s(headers) if isinstance(error, Unavailable) else self._backoff.pause_s()
        return False

    def ended(self) -> None:
        """Take the end of the body. A stream ends in order by an item of its own: else this is a break.

        Raises:
            Disconnected: the stream is not over.
        """
        if not self.is_over:
            raise Disconnected("the daemon closed the stream before its end", sent=True)

    def broke(self, error: Disconnected) -> None:
        """Take a break of the connection, and set `pause_s`.

        Raises:
            Disconnected: nothing listens at the address and never did, or the time is up.
        """
        if (not error.sent and not self._was_open) or self._is_time_up():
            raise error
        self.pause_s = self._backoff.pause_s()

    def _progressed(self) -> None:
        self._failed_at = None
        self._backoff.reset()

    def _is_time_up(self) -> bool:
        now = time.monotonic()
        self._failed_at = now if self._failed_at is None else self._failed_at
        return self._give_up_after_s is not None and now - self._failed_at >= self._give_up_after_s


class ById(Subscription[T]):
    """A stream of Server-Sent Events with ascending ids, which goes on behind the last one by `Last-Event-ID`."""

    def __init__(
        self,
        path: str,
        query: Mapping[str, Any],
        *,
        newest: int = 0,
        give_up_after_s: float | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> None:
        """Prepare a stream.

        Args:
            path: path of the call.
            query: parameters, among them `after` and `tail`.
            newest: with `tail`: the last id shortly before the first connection.
            give_up_after_s: as in `Subscription`.
            on_reconnect: as in `Subscription`.
        """
        super().__init__(give_up_after_s, on_reconnect)
        self._path = path
        self._query = dict(query)
        self._newest = newest
        self._is_again = False
        self.last = query.get("after") or 0
        self._splitter = Splitter(b"\n\n")

    def request(self) -> Request:
        """Return the request of the next connection.

        The end, from which `tail` counts, moves while nothing is connected, so `tail` alone would leave lines out.
        """
        self._splitter = Splitter(b"\n\n")
        self._is_again = self._was_open
        if self._is_again and self._query.get("tail") == 0:
            self._go_on_behind(self._newest)
        headers = dict(EVENT_STREAM)
        if self.last and self._query.get("tail") is None:
            headers["Last-Event-ID"] = str(self.last)
        return Request("GET", self._path, self._query, headers=headers)

    def feed(self, data: bytes) -> list[T]:
        """Return the new items."""
        ids, found = self._parse(self._splitter.split(data))
        if not found:
            return []
        self._progressed()
        if self._query.get("tail") is not None:
            if self._is_again and ids[0] > self._newest + 1:
                self._go_on_behind(self._newest)
                self.is_over = False  # an end that has come already comes again
                raise Disconnected(
                    "lines have come since the first connection, and the stream begins behind them", sent=True
                )
            self._query["tail"] = None
        items = []
        last = self.last
        for id_, item in zip(ids, found, strict=True):
            if id_ > last:
                items.append(item)
                last = id_
        self.last = last
        return items

    @abstractmethod
    def _parse(self, blocks: list[bytes]) -> tuple[list[int], list[T]]:
        """Return ids and items of the events in `blocks`."""

    def _go_on_behind(self, id_: int) -> None:
        self.last = max(self.last, id_)
        self._query["tail"] = None


class Follow(ById[Line | Gap]):
    """The output of a process, to its `eof`."""

    def _parse(self, blocks: list[bytes]) -> tuple[list[int], list[Line | Gap]]:
        ids: list[int] = []
        texts: list[bytes] = []
        for block in blocks:
            # Nearly all events are lines: their JSON is read all at once.
            head, is_output, text = block.partition(OUTPUT)
            if is_output:
                ids.append(int(head[len(ID) :]))
                texts.append(text)
                continue
            id_, name, text = fields_of(block)
            if name == b"gap":
                ids.append(int(id_))
                texts.append(text)
            elif name == b"eof":
                self.is_over = True
        found = zip(ids, loads(b"[%b]" % b",".join(texts)), strict=True)
        return ids, [line_of(seq, data) if "line" in data else gap_of(data) for seq, data in found]


class Events(ById[Event | Gap]):
    """Events of processes, without an end."""

    def _parse(self, blocks: list[bytes]) -> tuple[list[int], list[Event | Gap]]:
        ids: list[int] = []
        events: list[Event | Gap] = []
        for block in blocks:
            id_, name, text = fields_of(block)
            if text:
                ids.append(int(id_))
                data = loads(text)
                events.append(gap_of(data) if name == b"gap" else event_of({"id": ids[-1], **data}))
        return ids, events


def line_of(seq: int, data: Mapping[str, Any]) -> Line:
    """Return the line that the JSON of the API describes, in which it has its line break."""
    text = data["line"]
    if text[-1:] == "\n":
        return Line(seq, text[:-1], data["stream"], data["timestamp"])
    return Line(seq, text, data["stream"], data["timestamp"], complete=False)


def event_of(data: Mapping[str, Any]) -> Event:
    """Return the event that the JSON of the API describes."""
    return Event(**{name: data[name] for name in _EVENT_FIELDS if name in data})


_EVENT_FIELDS = tuple(field.name for field in fields(Event))
