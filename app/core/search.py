"""Searching the output of many processes, within bounds of time and size."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.core.matching import Matcher
from app.model.output import Chunk, Stream
from app.model.process import Order, Process
from app.model.scan import Scan
from app.storage import Storage

_PAGE_BYTES = 16 << 20  # of lines that match, about
_BEHIND_ALL = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    """What to look for, and where.

    Attributes:
        process_id: only this process's output.
        tags: only the output of processes that have each of these.
        position: of the store's order, and `seq` in the chunk there: go on behind that line. 0: begin.
        timeout_s: answer with what has been found by then.
    """

    matcher: Matcher
    stream: Stream | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    process_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    order: Order = Order.NEWEST
    limit: int = 100
    position: int = 0
    seq: int = 0
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A line that was found, with its terminator if it has one."""

    process: Process
    run: int
    seq: int
    ts_ms: int
    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPage:
    """What was found, and where to go on: position and seq. `complete`: the time did not run out."""

    matches: Sequence[Match]
    next: tuple[int, int] | None
    complete: bool


class Search:
    """Looks through what is stored, a short read after the other; lines are looked at on a thread.

    A line counts as its stored parts do: a part that was printed before its rest is a line of its own here.
    """

    def __init__(self, storage: Storage, query: SearchQuery) -> None:
        self._storage = storage
        self._query = query
        self._processes: dict[int, Process | None] = {}
        self._found: list[Match] = []
        self._found_bytes = 0

    async def run(self) -> SearchPage:
        """Find a page.

        Raises:
            StorageUnavailable: the store can't be read now.
        """
        deadline = time.monotonic() + self._query.timeout_s
        scan = await self._begin()
        while scan is not None:
            piece = await self._storage.scan(scan)
            for hit in await asyncio.to_thread(_hits, piece.chunks, self._query):
                if await self._take(hit):
                    return self._page((hit.position, hit.seq))
            if piece.position is None:
                break
            if time.monotonic() >= deadline:
                behind = 0 if self._query.order is Order.NEWEST else _BEHIND_ALL
                return self._page((piece.position, behind), complete=False)
            scan = replace(scan, position=piece.position)
        return self._page(None)

    async def _begin(self) -> Scan | None:
        """Say what to read first. None: nothing."""
        query = self._query
        scan = Scan(order=query.order, stream=query.stream, since_ms=query.since_ms, until_ms=query.until_ms)
        if query.position:  # the chunk in which the page before ended has perhaps more
            scan = replace(scan, position=query.position + (1 if query.order is Order.NEWEST else -1))
        if query.process_id is None:
            return scan
        process = await self._storage.process_by_id(query.process_id)
        return None if process is None else replace(scan, handle=process.handle)

    async def _take(self, hit: "_Hit") -> bool:
        """Add a line, if its process is wanted. True: the page is full."""
        chunk, query = hit.chunk, self._query
        if chunk.handle not in self._processes:
            self._processes[chunk.handle] = await self._storage.process(chunk.handle)
        process = self._processes[chunk.handle]
        if process is None or not query.tags.items() <= process.spec.tags.items():
            return False
        self._found.append(
            Match(process=process, run=chunk.run, seq=hit.seq, ts_ms=chunk.ts_ms, stream=chunk.stream, data=hit.line)
        )
        self._found_bytes += len(hit.line)
        return len(self._found) == query.limit or self._found_bytes >= _PAGE_BYTES

    def _page(self, place: tuple[int, int] | None, *, complete: bool = True) -> SearchPage:
        return SearchPage(matches=self._found, next=place, complete=complete)


@dataclass(frozen=True, slots=True)
class _Hit:
    position: int
    chunk: Chunk
    seq: int
    line: bytes


def _hits(chunks: Sequence[tuple[int, Chunk]], query: SearchQuery) -> list[_Hit]:
    newest = query.order is Order.NEWEST
    hits: list[_Hit] = []
    for position, chunk in chunks:
        if not query.matcher.may_match(chunk.data):
            continue
        lines = list(_lines(chunk))
        for seq, line in reversed(lines) if newest else lines:
            if position == query.position and (seq >= query.seq if newest else seq <= query.seq):
                continue
            if query.matcher.matches(line.removesuffix(b"\n")):
                hits.append(_Hit(position, chunk, seq, line))
    return hits


def _lines(chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    yield from enumerate(chunk.lines(), chunk.first_seq)
