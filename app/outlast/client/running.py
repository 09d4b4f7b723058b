"""A command that is run, without a connection: its start, its lines, its end."""

from collections import Counter
from dataclasses import replace

from outlast.client.blocks import Splitter, fields_of
from outlast.client.errors import ProcessGone
from outlast.client.items import Ended, Gap, Line, Started, gap_of
from outlast.client.json_text import loads
from outlast.client.request import Answer, Request, process_path
from outlast.client.subscription import EVENT_STREAM, OnReconnect, Subscription

_NOT_FOUND = 404
_RETENTION = "retention"

Item = Started | Line | Gap | Ended


class Running(Subscription[Item]):
    """The stream of a run. A broken one is asked for again with the same key, and begins with the first line.

    Of each stream, the lines come in the same order each time. So those that have come are counted and passed over;
    their ids do not tell, because the rest of a line of the other stream may be waited for. Once lines that have come
    may be deleted (retention), only ids tell: then a line may come twice if a line of the other stream was unfinished.

    Attributes:
        unfinished: ids of processes that have been started for this run, and whose end has not been told.
    """

    def __init__(self, body: bytes, give_up_after_s: float | None, on_reconnect: OnReconnect | None) -> None:
        """`body`: the start, with an idempotency key."""
        super().__init__(give_up_after_s, on_reconnect)
        self._body = body
        self._splitter = Splitter(b"\n\n")
        self._had: Counter[str] = Counter()
        self._to_skip: Counter[str] = Counter()
        self._had_last = self._skip_to = 0
        self.unfinished: list[str] = []

    def look_before(self) -> Request | None:
        """Return a look at the process: after a purge, its key would start another one."""
        return Request("GET", process_path(self.unfinished[0])) if self.unfinished else None

    def looked(self, answer: Answer) -> None:
        """Check that the process is still there.

        Raises:
            ProcessGone: it was purged.
        """
        if answer.status == _NOT_FOUND:
            self.unfinished.clear()
            raise ProcessGone("the process was purged while its command was run")

    def request(self) -> Request:
        """Return the request of the next connection."""
        self._splitter = Splitter(b"\n\n")
        self._to_skip, self._skip_to = self._had.copy(), 0
        return Request("POST", "/processes/run", {"detach": True}, self._body, headers=EVENT_STREAM)

    def feed(self, data: bytes) -> list[Item]:
        """Return the new items.

        Raises:
            ProcessGone: the process was purged between two connections.
        """
        found = [item for block in self._splitter.split(data) if (item := self._item(block)) is not None]
        if found:
            self._progressed()
        return found

    def _item(self, block: bytes) -> Item | None:
        id_, _, text = fields_of(block)
        if not text:
            return None
        data = loads(text)
        if "line" in data:
            self.last = int(id_)
            return self._if_new(Line(self.last, data["line"], data["stream"], data["timestamp"]))
        if "gap" in data:
            self.last = int(id_)
            return self._if_new(gap_of(data["gap"], data["stream"]))
        if "pid" in data:
            return self._started(Started(data["id"], data["pid"], data["started_at"]))
        self.is_over = True
        self.unfinished.clear()
        return Ended(data["reason"], data.get("exit_code"), data.get("signal"))

    def _started(self, started: Started) -> Started | None:
        if started.id in self.unfinished:
            return None
        self.unfinished.append(started.id)
        if len(self.unfinished) > 1:
            raise ProcessGone("the process was purged while its command was run")
        return started

    def _if_new(self, item: Line | Gap) -> Line | Gap | None:
        stream = str(item.stream)
        if isinstance(item, Gap) and item.reason == _RETENTION:
            if self._to_skip.total():
                self._to_skip.clear()
                self._skip_to = self._had_last
            item = replace(item, first=max(item.first, self._skip_to + 1))
        if self.last <= self._skip_to:
            return None
        if self._to_skip[stream]:
            self._to_skip[stream] -= 1
            return None
        self._had[stream] += 1
        self._had_last = self.last
        return item
