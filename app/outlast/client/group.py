"""The output of several processes in one stream, without a connection."""

from collections.abc import Callable, Mapping
from typing import Any

from outlast.client.blocks import Splitter, fields_of
from outlast.client.items import Ended, Gap, Line, Member, gap_of
from outlast.client.json_text import loads
from outlast.client.request import Request
from outlast.client.subscription import EVENT_STREAM, ID, OUTPUT, Subscription, line_of

GroupItem = tuple[Member, Line | Gap | Ended]


class FollowGroup(Subscription[GroupItem]):
    """The output of several processes, to the end of the last one, or without end if they are found by tags.

    The id of each event tells how far each process was sent. The client only hands it back.
    """

    def __init__(
        self,
        query: Mapping[str, Any],
        give_up_after_s: float | None,
        on_reconnect: Callable[[Mapping[str, int]], None] | None,
    ) -> None:
        """Prepare a stream.

        Args:
            query: parameters.
            give_up_after_s: as in `Subscription`.
            on_reconnect: hook, which gets the number of the last line of each process, by its permanent id.
        """
        hook = None if on_reconnect is None else lambda _: on_reconnect(dict(self._seqs))
        super().__init__(give_up_after_s, hook)
        self._query = query
        self._splitter = Splitter(b"\n\n")
        self._position = ""
        self._members: dict[str, Member] = {}
        self._seqs: dict[str, int] = {}

    def request(self) -> Request:
        """Return the request of the next connection."""
        self._splitter = Splitter(b"\n\n")
        headers = {**EVENT_STREAM, "Last-Event-ID": self._position} if self._position else EVENT_STREAM
        return Request("GET", "/output/follow", self._query, headers=headers)

    def feed(self, data: bytes) -> list[GroupItem]:
        """Return the new items."""
        items: list[GroupItem] = []
        texts: list[bytes] = []
        position = ""
        for block in self._splitter.split(data):
            # Nearly all events are lines: their JSON is read all at once.
            head, is_output, text = block.partition(OUTPUT)
            if is_output:
                texts.append(text)
                position = head[len(ID) :].decode()
                continue
            id_, name, text = fields_of(block)
            if not id_:
                continue  # a heartbeat
            position = id_.decode()
            self._take_lines(texts, items)
            texts = []
            self._take(name, text, items)
        self._take_lines(texts, items)
        if position:
            self._position = position
            self._progressed()
        return items

    def _take_lines(self, texts: list[bytes], items: list[GroupItem]) -> None:
        for line in loads(b"[%b]" % b",".join(texts)) if texts else ():
            process_id, seq = line["process_id"], line["seq"]
            if seq > self._seqs[process_id]:
                self._seqs[process_id] = seq
                items.append((self._members[process_id], line_of(seq, line)))

    def _take(self, name: bytes, text: bytes, items: list[GroupItem]) -> None:
        """Take an event that is not a line."""
        data = loads(text)
        if name == b"joined":
            for each in data["processes"]:
                id_ = each["process_id"]
                self._members.setdefault(id_, Member(id_, each["handle"], each["name"]))
                self._seqs.setdefault(id_, each["seq"])
        elif name == b"gap":
            id_, seq = data["process_id"], data["seq"]
            if seq > self._seqs[id_]:
                self._seqs[id_] = seq
                items.append((self._members[id_], gap_of(data)))
        elif name == b"end":
            member = self._leave(data["process_id"])
            items.append((member, Ended(data["reason"], data["exit_code"], data["signal"])))
        elif name == b"purged":
            found = next((member for member in self._members.values() if member.handle == data["handle"]), None)
            if found is not None:
                items.append((self._leave(found.id), Ended("purged", None, None)))
        elif name == b"eof":
            self.is_over = True

    def _leave(self, process_id: str) -> Member:
        del self._seqs[process_id]
        return self._members.pop(process_id)
