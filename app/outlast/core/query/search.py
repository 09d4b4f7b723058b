"""Searching the output of many processes, within bounds of time and size."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from outlast.core.query.matcher import Matcher
from outlast.core.query.worker_pool import Lease, WorkerPool
from outlast.model.output import Chunk, Stream
from outlast.model.process import Order, Process
from outlast.model.scan import ScanPage, ScanQuery
from outlast.storage import Storage

_PAGE_BYTES = 4 << 20  # of lines that match, about
_BEYOND_ALL = 2**53
# So much is looked at between two looks at the clock, and in each turn, however late it is: every page gets on.
_CLOCK_BYTES = 64 << 10
_LINE_BYTES = 64  # a line costs as much as so many more bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    """What to look for, and where.

    Attributes:
        process_id: only this process's output.
        name: only the output of processes that were given this name.
        tags: only the output of processes that have each of these.
        position: of the store's order, and `seq` in the chunk there: go on behind that line. 0: begin.
        timeout_s: answer with what has been found by then.
    """

    matcher: Matcher
    stream: Stream | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    process_id: str | None = None
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    order: Order = Order.NEWEST
    limit: int = 100
    position: int = 0
    seq: int = 0
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A line that was found, with its terminator if it has one. `pid`: of the run that printed it."""

    process: Process
    run: int
    pid: int
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


@dataclass(frozen=True, slots=True)
class _Place:
    """Behind the line `seq` of the chunk at `position`, in the direction of the search. Position 0: its beginning."""

    position: int = 0
    seq: int = 0


class Search:
    """Looks through what is stored, a short read after the other, and each in a turn of its own.

    A line counts as its stored parts do: a part that was printed before its rest is a line of its own here.
    """

    def __init__(self, storage: Storage, looking: WorkerPool, query: SearchQuery) -> None:
        self._storage = storage
        self._looking = looking
        self._query = query
        self._is_newest = query.order is Order.NEWEST
        self._found: list[Match] = []
        self._found_bytes = 0

    async def run(self) -> SearchPage:
        """Find a page.

        Raises:
            StorageUnavailable: the store can't be read now.
        """
        query = self._query
        deadline = time.monotonic() + query.timeout_s
        place: _Place | None = _Place(query.position, query.seq)
        scan = await self._scan()
        if scan is None:
            return self._page(None)
        while place is not None:
            try:
                turn = await self._looking.turn(deadline - time.monotonic())
            except TimeoutError:
                return self._page(place, complete=False)
            with turn:
                place = await self._go_on(scan, place, turn, deadline)
            if self._is_full():
                break
            if place is not None and time.monotonic() >= deadline:
                return self._page(place, complete=False)
        return self._page(place)

    async def _scan(self) -> ScanQuery | None:
        """Say what to read. None: nothing."""
        query = self._query
        scan = ScanQuery(order=query.order, stream=query.stream, since_ms=query.since_ms, until_ms=query.until_ms)
        if query.process_id is None:
            return scan
        process = await self._storage.process_by_id(query.process_id)
        return None if process is None else replace(scan, handle=process.handle)

    async def _go_on(self, scan: ScanQuery, place: _Place, turn: Lease, deadline: float) -> _Place | None:
        """Read and look through a piece behind `place`; return where to go on. None: there is no more."""
        if place.position:  # the chunk there has perhaps more
            scan = replace(scan, position=place.position + (1 if self._is_newest else -1))
        piece = await self._storage.scan(scan)
        writers = _Writers(self._storage)
        chunks = await turn.run(partial(_candidates, piece.chunks, self._query.matcher))
        if self._query.name is not None or self._query.tags:
            chunks = [entry for entry in chunks if self._is_wanted(await writers.get(entry[1].handle))]
        look = _Look(
            query=self._query,
            behind=place,
            room=self._query.limit - len(self._found),
            room_bytes=_PAGE_BYTES - self._found_bytes,
            deadline=deadline,
        )
        stopped = await turn.run(partial(look.through, chunks))
        for hit in look.hits:
            await self._take(hit, writers)
        return stopped or self._behind(piece)

    def _behind(self, piece: ScanPage) -> _Place | None:
        """Return the place before the whole chunk that comes next: that place does not depend on what was read here."""
        if piece.position is None or (self._is_newest and piece.position == 1):
            return None
        return _Place(piece.position - 1, _BEYOND_ALL) if self._is_newest else _Place(piece.position + 1)

    def _is_wanted(self, process: Process | None) -> bool:
        query = self._query
        return (
            process is not None
            and (query.name is None or query.name == process.spec.name)
            and query.tags.items() <= process.spec.tags.items()
        )

    async def _take(self, hit: "_Hit", writers: "_Writers") -> None:
        """Add a line, unless its process has been purged meanwhile."""
        chunk = hit.chunk
        process, pid = await writers.get(chunk.handle), await writers.pid(chunk.handle, chunk.run)
        if process is None or pid is None:
            return
        self._found.append(
            Match(
                process=process,
                run=chunk.run,
                pid=pid,
                seq=hit.seq,
                ts_ms=chunk.ts_ms,
                stream=chunk.stream,
                data=hit.line,
            )
        )
        self._found_bytes += len(hit.line)

    def _is_full(self) -> bool:
        return len(self._found) >= self._query.limit or self._found_bytes >= _PAGE_BYTES

    def _page(self, place: _Place | None, *, complete: bool = True) -> SearchPage:
        where = None if place is None else (place.position, place.seq)
        return SearchPage(matches=self._found, next=where, complete=complete)


class _Writers:
    """The processes that wrote a piece of output, each looked up once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._processes: dict[int, Process | None] = {}
        self._pids: dict[tuple[int, int], int | None] = {}

    async def get(self, handle: int) -> Process | None:
        """Return a process. None: it has been purged."""
        if handle not in self._processes:
            self._processes[handle] = await self._storage.process(handle)
        return self._processes[handle]

    async def pid(self, handle: int, run: int) -> int | None:
        """Return the pid of a run. None: its process has been purged."""
        process = await self.get(handle)
        if process is not None and process.run.number == run:
            return process.run.pid
        if (handle, run) not in self._pids:
            runs = await self._storage.runs(handle, before_number=run + 1, limit=1)
            self._pids[handle, run] = runs[0].pid if runs else None
        return self._pids[handle, run]


@dataclass(frozen=True, slots=True)
class _Hit:
    chunk: Chunk
    seq: int
    line: bytes


def _candidates(chunks: Sequence[tuple[int, Chunk]], matcher: Matcher) -> list[tuple[int, Chunk]]:
    return [(position, chunk) for position, chunk in chunks if matcher.may_match(chunk.data)]


@dataclass(slots=True, kw_only=True)
class _Look:
    """A look at one piece, line by line, that ends as soon as there is enough, or when the time is over."""

    query: SearchQuery
    behind: _Place
    room: int
    room_bytes: int
    deadline: float
    hits: list[_Hit] = field(default_factory=list)

    def through(self, chunks: Sequence[tuple[int, Chunk]]) -> _Place | None:
        """Collect `hits`; return the place of the last line looked at. None: all were."""
        matches = self.query.matcher.matches
        until_clock = _CLOCK_BYTES
        for position, chunk in chunks:
            for seq, line in self._lines(position, chunk):
                if matches(line):
                    is_whole = seq < chunk.last_seq or chunk.data.endswith(b"\n")
                    self.hits.append(_Hit(chunk, seq, line + b"\n" * is_whole))
                    self.room -= 1
                    self.room_bytes -= len(line) + is_whole
                    if self.room <= 0 or self.room_bytes <= 0:
                        return _Place(position, seq)
                until_clock -= len(line) + _LINE_BYTES
                if until_clock <= 0:
                    if time.monotonic() >= self.deadline:
                        return _Place(position, seq)
                    until_clock = _CLOCK_BYTES
        return None

    def _lines(self, position: int, chunk: Chunk) -> Iterator[tuple[int, bytes]]:
        """Go through a chunk's lines, without terminators, in the search's order, from where the page before ended."""
        is_begun = position == self.behind.position
        if self.query.order is Order.NEWEST:
            lines = _backward(chunk)
            return ((seq, line) for seq, line in lines if seq < self.behind.seq) if is_begun else lines
        lines = _forward(chunk)
        return ((seq, line) for seq, line in lines if seq > self.behind.seq) if is_begun else lines


def _forward(chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    data, start, seq = chunk.data, 0, chunk.first_seq
    while start < len(data):
        end = data.find(b"\n", start)
        if end < 0:
            end = len(data)
        yield seq, data[start:end]
        start, seq = end + 1, seq + 1


def _backward(chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    data, seq = chunk.data, chunk.last_seq
    end = len(data) - data.endswith(b"\n")
    while end >= 0:
        start = data.rfind(b"\n", 0, end) + 1
        yield seq, data[start:end]
        end, seq = start - 1, seq - 1
