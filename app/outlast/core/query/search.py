"""Search in the output of many processes, limited in time and size."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from outlast.core.query.matcher import Matcher, Span, spans_in_text
from outlast.core.query.worker_pool import Lease, WorkerPool
from outlast.model.output import Chunk, Stream
from outlast.model.process import Order, Process
from outlast.model.scan import ScanPage, ScanQuery
from outlast.storage import Storage

_PAGE_BYTES = 4 << 20
"""Approximate maximum bytes of the matches of one page."""

_MAX_SEQ = 2**53
"""A sequence number greater than any that is stored."""

_CLOCK_BYTES = 64 << 10
"""Bytes searched before the deadline is checked, also when it has passed already: so every page makes progress."""

_LINE_COST_BYTES = 64
"""Cost of one more line, in bytes searched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    """A search: what for, and where. Conditions combine.

    Attributes:
        process_id: only this process's output.
        name: only the output of processes with this name.
        tags: only the output of processes that have each of these tags.
        position: where to continue: position of a chunk in the store's order. 0: from the beginning.
        seq: where to continue: sequence number of the last line that was searched in that chunk.
        timeout_s: maximum duration; the page then has the matches so far.
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
    """A line that matches, with its terminator if it has one.

    Attributes:
        pid: pid of the run that printed it.
        spans: the matches in it, see `spans_in_text`.
    """

    process: Process
    run: int
    pid: int
    seq: int
    ts_ms: int
    stream: Stream
    data: bytes
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPage:
    """The matches, and position and seq at which to continue (None: all is searched).

    Not `complete`: time ran out; or all is searched, but output that may have matched was deleted by a limit.
    """

    matches: Sequence[Match]
    next: tuple[int, int] | None
    complete: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """The place after line `seq` of the chunk at `position`, in the direction of the search. Position 0: the start."""

    position: int = 0
    seq: int = 0


class Search:
    """One search. It alternates short reads of the store with work on a leased thread."""

    def __init__(self, storage: Storage, workers: WorkerPool, query: SearchQuery) -> None:
        self._storage = storage
        self._workers = workers
        self._query = query
        self._is_newest = query.order is Order.NEWEST
        self._found: list[Match] = []
        self._found_bytes = 0

    async def find_page(self) -> SearchPage:
        """Return the next page of matches.

        Raises:
            StorageUnavailable: the store cannot be read now.
        """
        query = self._query
        deadline = time.monotonic() + query.timeout_s
        place: _Place | None = _Place(query.position, query.seq)
        scan = await self._scan_query()
        if scan is None:
            return self._page(None)
        while place is not None:
            try:
                lease = await self._workers.acquire(deadline - time.monotonic())
            except TimeoutError:
                return self._page(place, complete=False)
            with lease:
                place = await self._search_piece(scan, place, lease, deadline)
            if self._is_full():
                break
            if place is not None and time.monotonic() >= deadline:
                return self._page(place, complete=False)
        is_missing = place is None and await self._storage.has_trimmed(handle=scan.handle, since_ms=query.since_ms)
        return self._page(place, complete=not is_missing)

    async def _scan_query(self) -> ScanQuery | None:
        """Return what to read from the store, or None if there is nothing to read."""
        query = self._query
        scan = ScanQuery(order=query.order, stream=query.stream, since_ms=query.since_ms, until_ms=query.until_ms)
        if query.process_id is None:
            return scan
        process = await self._storage.process_by_id(query.process_id)
        return None if process is None else replace(scan, handle=process.handle)

    async def _search_piece(self, scan: ScanQuery, place: _Place, lease: Lease, deadline: float) -> _Place | None:
        """Read and search a piece of output after `place`. Return where to continue, or None at the end."""
        if place.position:  # the chunk there may have more lines
            scan = replace(scan, position=place.position + (1 if self._is_newest else -1))
        piece = await self._storage.scan(scan)
        writers = _Writers(self._storage)
        chunks = await lease.run_in_thread(partial(_candidates, piece.chunks, self._query.matcher))
        if self._query.name is not None or self._query.tags:
            chunks = [entry for entry in chunks if self._is_wanted(await writers.get(entry[1].handle))]
        lines = _LineScan(
            query=self._query,
            after=place,
            left=self._query.limit - len(self._found),
            left_bytes=_PAGE_BYTES - self._found_bytes,
            deadline=deadline,
        )
        stopped = await lease.run_in_thread(partial(lines.search, chunks))
        for hit in lines.hits:
            await self._add_match(hit, writers)
        return stopped or self._after(piece)

    def _after(self, piece: ScanPage) -> _Place | None:
        """Return the place before the next chunk, or None at the end. It depends on no chunk that was read here."""
        if piece.position is None or (self._is_newest and piece.position == 1):
            return None
        return _Place(piece.position - 1, _MAX_SEQ) if self._is_newest else _Place(piece.position + 1)

    def _is_wanted(self, process: Process | None) -> bool:
        query = self._query
        return (
            process is not None
            and (query.name is None or query.name == process.spec.name)
            and query.tags.items() <= process.spec.tags.items()
        )

    async def _add_match(self, hit: "_Hit", writers: "_Writers") -> None:
        """Add a match, unless its process has been purged meanwhile."""
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
                spans=hit.spans,
            )
        )
        self._found_bytes += len(hit.line)

    def _is_full(self) -> bool:
        return len(self._found) >= self._query.limit or self._found_bytes >= _PAGE_BYTES

    def _page(self, place: _Place | None, *, complete: bool = True) -> SearchPage:
        where = None if place is None else (place.position, place.seq)
        return SearchPage(matches=self._found, next=where, complete=complete)


class _Writers:
    """The processes that printed a piece of output, each read from the store once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._processes: dict[int, Process | None] = {}
        self._pids: dict[tuple[int, int], int | None] = {}

    async def get(self, handle: int) -> Process | None:
        """Return a process, or None if it has been purged."""
        if handle not in self._processes:
            self._processes[handle] = await self._storage.process(handle)
        return self._processes[handle]

    async def pid(self, handle: int, run: int) -> int | None:
        """Return the pid of a run, or None if its process has been purged."""
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
    spans: Sequence[Span]


def _candidates(chunks: Sequence[tuple[int, Chunk]], matcher: Matcher) -> list[tuple[int, Chunk]]:
    return [(position, chunk) for position, chunk in chunks if matcher.may_match(chunk.data)]


@dataclass(slots=True, kw_only=True)
class _LineScan:
    """A search of one piece, line by line, that stops when the page is full or the deadline has passed.

    Attributes:
        after: where the search continues.
        left: maximum number of further matches.
        left_bytes: approximate maximum bytes of further matches.
        hits: the matches so far.
    """

    query: SearchQuery
    after: _Place
    left: int
    left_bytes: int
    deadline: float
    hits: list[_Hit] = field(default_factory=list)

    def search(self, chunks: Sequence[tuple[int, Chunk]]) -> _Place | None:
        """Collect `hits`. Return the place of the last line that was searched, or None if all were."""
        matches = self.query.matcher.matches
        until_clock = _CLOCK_BYTES
        for position, chunk in chunks:
            for seq, line in self._lines(position, chunk):
                if matches(line):
                    is_whole = seq < chunk.last_seq or chunk.data.endswith(b"\n")
                    spans = spans_in_text(self.query.matcher, line)
                    self.hits.append(_Hit(chunk, seq, line + b"\n" * is_whole, spans))
                    self.left -= 1
                    self.left_bytes -= len(line) + is_whole
                    if self.left <= 0 or self.left_bytes <= 0:
                        return _Place(position, seq)
                until_clock -= len(line) + _LINE_COST_BYTES
                if until_clock <= 0:
                    if time.monotonic() >= self.deadline:
                        return _Place(position, seq)
                    until_clock = _CLOCK_BYTES
        return None

    def _lines(self, position: int, chunk: Chunk) -> Iterator[tuple[int, bytes]]:
        """Iterate over a chunk's lines, without terminators, in the search's order, from where the last page ended."""
        is_continued = position == self.after.position
        if self.query.order is Order.NEWEST:
            lines = _backward(chunk)
            return ((seq, line) for seq, line in lines if seq < self.after.seq) if is_continued else lines
        lines = _forward(chunk)
        return ((seq, line) for seq, line in lines if seq > self.after.seq) if is_continued else lines


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
