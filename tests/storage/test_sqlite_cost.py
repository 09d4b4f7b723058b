"""I9: the cost of a read does not grow with history, measured in steps of SQLite's virtual machine."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from outlast.model.event import EventFilter, EventType
from outlast.model.managed import Desired, ManagedState
from outlast.model.output import ChunkQuery, Stream
from outlast.model.process import Order, ProcessQuery, Status
from outlast.model.retention import HoldingQuery, Rule, TrimQuery
from outlast.model.scan import ScanQuery
from outlast.storage.base import AddEvent, CompleteOutput, EndedProcess, SetManaged, TrimOutput
from outlast.storage.sqlite import figures, listing, queries, read, read_events, trimming
from outlast.storage.sqlite.commit import commit
from outlast.storage.sqlite.connection import open_writer
from outlast.storage.sqlite.rows import MAX_MERGED_LINES
from outlast.storage.sqlite.scan import scan_output
from outlast.testing.storage.samples import EPOCH_MS, Output, end_of, new_process
from tests.storage.stores import commit_each

_SMALL, _LARGE = 300, 3000
_RUNNING = 5
"""Number of processes, the first ones, that still run."""

_END_MS = end_of(1).ending.ended_at_ms

_PARTED = 3
"""Handle of the process that printed lines in parts."""

_CHUNK_OF = "SELECT id FROM output_chunk WHERE handle = 1 AND stream = 1 AND first_seq = ?"

Work = Callable[[sqlite3.Connection], object]


def _chunks(
    *,
    after_seq: int = 0,
    stream: Stream | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> Work:
    return lambda db: read.chunks(
        db, ChunkQuery(handle=1, after_seq=after_seq, max_bytes=10, stream=stream, since_ms=since_ms, until_ms=until_ms)
    )


def _list(query: ProcessQuery) -> Work:
    return lambda db: read.processes(db, query)


def _events(wanted: EventFilter, *, from_end: int = 0) -> Work:
    """Read five events, `from_end` before the last, or the first five."""

    def work(db: sqlite3.Connection) -> object:
        last_id: int = db.execute(queries.LAST_EVENT).fetchone()[0]
        return read_events.events(db, from_end and last_id - from_end, 5, wanted)

    return work


def _scan(asked: ScanQuery) -> Work:
    return lambda db: scan_output(db, asked)


def _scan_on(order: Order, seq: int) -> Work:
    """Continue a scan of the long output after the chunk of a line."""

    def work(db: sqlite3.Connection) -> object:
        row_id: int = db.execute(_CHUNK_OF, (seq,)).fetchone()[0]
        position = row_id * MAX_MERGED_LINES + (0 if order is Order.NEWEST else MAX_MERGED_LINES - 1)
        return scan_output(db, ScanQuery(handle=1, order=order, position=position, max_bytes=10))

    return work


def _scan_since(order: Order) -> Work:
    """Scan the output of the last minutes."""

    def work(db: sqlite3.Connection) -> object:
        last_ms: int = db.execute("SELECT max(ts) FROM minute").fetchone()[0]
        return scan_output(db, ScanQuery(since_ms=last_ms - 3 * queries.MINUTE_MS, order=order))

    return work


def _fall_ill(db: sqlite3.Connection) -> None:
    commit(db, [AddEvent(1, 1, EventType.UNHEALTHY, db.total_changes)])


def _add(db: sqlite3.Connection) -> None:
    process = new_process(key=f"key of {id(db)} {db.total_changes}")
    output = Output(commit(db, [process])[process.spec.id])
    commit(db, [output.chunk(b"x\n"), end_of(output.handle), CompleteOutput(output.handle, 1)])


def _whole_lines(*, after_seq: int = 0, stream: Stream | None = None) -> Work:
    """Read lines of the output that came in parts."""
    query = ChunkQuery(handle=_PARTED, after_seq=after_seq, max_bytes=10, stream=stream, whole_lines=True)
    return lambda db: read.chunks(db, query)


def _tail_view(db: sqlite3.Connection) -> object:
    sql = "SELECT * FROM output_tail_portable WHERE process_id = (SELECT p.id FROM process p WHERE p.handle = ?)"
    return db.execute(sql, (_PARTED,)).fetchall()


def _continue(db: sqlite3.Connection) -> None:
    commit(db, [Output(1, read.unfinished(db)[0].position).chunk(b"x\n")])


# fmt: off
_WORK: dict[str, Work] = {
    "figures": lambda db: figures.figures(db, Path("/nowhere/outlast.db")),
    "newest page": _list(ProcessQuery(limit=5)),
    "later page": _list(ProcessQuery(limit=5, before_handle=100)),
    "running": _list(ProcessQuery(status=Status.RUNNING)),
    "running since": _list(ProcessQuery(status=Status.RUNNING, since_ms=EPOCH_MS)),
    "exited": _list(ProcessQuery(status=Status.EXITED, limit=5)),
    "signaled": _list(ProcessQuery(status=Status.SIGNALED, limit=5)),
    "tag": _list(ProcessQuery(tags={"rare": "yes"})),
    "common tag": _list(ProcessQuery(tags={"team": "a"}, limit=5)),
    "tags and status": _list(ProcessQuery(tags={"rare": "yes", "team": "a"}, status=Status.EXITED)),
    "oldest page": _list(ProcessQuery(limit=5, order=Order.OLDEST)),
    "later page of the oldest": _list(ProcessQuery(limit=5, after_handle=100, order=Order.OLDEST)),
    "name": _list(ProcessQuery(name="rare")),
    "common name": _list(ProcessQuery(name="job", limit=5)),
    "common name, rare tag": _list(ProcessQuery(name="job", tags={"rare": "yes"})),
    "rare name, common tag and status": _list(ProcessQuery(name="rare", tags={"team": "a"}, status=Status.EXITED)),
    "running of a common tag": _list(ProcessQuery(tags={"team": "a"}, status=Status.RUNNING)),
    "since long ago": _list(ProcessQuery(since_ms=EPOCH_MS, limit=5)),
    "until long ago": _list(ProcessQuery(until_ms=EPOCH_MS + 50, limit=5)),
    "exited since": _list(ProcessQuery(since_ms=EPOCH_MS + 9, status=Status.EXITED, limit=5)),
    "oldest exited until": _list(
        ProcessQuery(until_ms=EPOCH_MS + 90, status=Status.EXITED, limit=5, order=Order.OLDEST)
    ),
    "common tag until": _list(ProcessQuery(until_ms=EPOCH_MS + 90, tags={"team": "a"}, limit=5)),
    "started in a minute, since and until": _list(ProcessQuery(since_ms=EPOCH_MS + 10, until_ms=EPOCH_MS + 15)),
    "pid": lambda db: read.one_process(db, queries.PAGE_BY_PID, {"pid": 7}),
    "handle": lambda db: read.one_process(db, queries.PAGE_BY_HANDLE, {"handle": 7}),
    "id": lambda db: read.one_process(db, queries.PAGE_BY_ID, {"id": "nobody"}),
    "key": lambda db: read.one_process(db, queries.PAGE_BY_KEY, {"key": "key of 7"}),
    "total": read.total,
    "unfinished": read.unfinished,
    "ended": lambda db: read.ended(db, limit=5, after=None, until_ms=None),
    "ended long ago": lambda db: read.ended(db, limit=5, after=None, until_ms=EPOCH_MS),
    "ended after another": lambda db: read.ended(db, limit=5, after=EndedProcess(_END_MS, 100, ""), until_ms=None),
    "oldest holdings": lambda db: trimming.holdings(
        db, HoldingQuery(rule=Rule.OUTPUT_S, before_ms=EPOCH_MS + 9, limit=5)
    ),
    "where to trim": lambda db: trimming.trim_point(db, TrimQuery(handle=1, free_bytes=100)),
    "is anything trimmed": lambda db: trimming.has_trimmed(db, handle=None, since_ms=EPOCH_MS),
    "trim": lambda db: commit(db, [TrimOutput(4, 1, EPOCH_MS, Rule.TOTAL_BYTES)]),
    "oldest events": lambda db: trimming.trim_events(db, before_ms=EPOCH_MS, limit=10),
    "first output": _chunks(),
    "later output": _chunks(after_seq=200),
    "rare stream": _chunks(after_seq=20, stream=Stream.STDERR),
    "output since": _chunks(since_ms=EPOCH_MS + 200),
    "output until": _chunks(after_seq=100, until_ms=EPOCH_MS + 50),
    "tail": lambda db: read.tail(db, 1, 5, None),
    "tail of a stream": lambda db: read.tail(db, 1, 5, Stream.STDOUT),
    "tail of a rare stream": lambda db: read.tail(db, 1, 1, Stream.STDERR),
    "tail before a line": lambda db: read.tail(db, 1, 5, None, 100),
    "tail before a line of a stream": lambda db: read.tail(db, 1, 5, Stream.STDOUT, 100),
    "whole lines": _whole_lines(after_seq=201),
    "whole lines of a stream": _whole_lines(after_seq=201, stream=Stream.STDOUT),
    "tail of lines in parts": lambda db: read.tail(db, _PARTED, 5, None),
    "tail of a stream's lines in parts": lambda db: read.tail(db, _PARTED, 5, Stream.STDERR),
    "scan lines in parts": _scan(ScanQuery(handle=_PARTED, max_bytes=10)),
    "scan lines in parts from the oldest": _scan(ScanQuery(handle=_PARTED, max_bytes=10, order=Order.OLDEST)),
    "view of the last lines": _tail_view,
    "scan": _scan(ScanQuery(max_bytes=10)),
    "scan from the oldest": _scan(ScanQuery(max_bytes=10, order=Order.OLDEST)),
    "scan one process": _scan(ScanQuery(handle=100)),
    "scan one process from the oldest": _scan(ScanQuery(handle=100, order=Order.OLDEST)),
    "scan on in a long output": _scan_on(Order.NEWEST, seq=100),
    "scan on in a long output, from the oldest": _scan_on(Order.OLDEST, seq=250),
    "scan since": _scan_since(Order.NEWEST),
    "scan since, from the oldest": _scan_since(Order.OLDEST),
    "first events": _events(EventFilter()),
    "newest events": _events(EventFilter(), from_end=5),
    "newest events of a type": _events(EventFilter(types=frozenset({EventType.LOST})), from_end=5),
    "newest events of a tag": _events(EventFilter(tags={"team": "a"}), from_end=5),
    "events of a process": _events(EventFilter(process_id=new_process().spec.id)),
    "events since": _events(EventFilter(since_ms=EPOCH_MS + 200)),
    "tail of events": lambda db: read_events.event_tail(db, 5, EventFilter()),
    "tail of events of a rare type": lambda db: read_events.event_tail(
        db, 5, EventFilter(types=frozenset({EventType.LOST, EventType.PURGED}))
    ),
    "add an event": _fall_ill,
    "add a process": _add,
    "add a chunk": _continue,
}
# fmt: on


def _history(path: Path, size: int) -> sqlite3.Connection:
    """Make a store with `size` processes, the first of which has printed `size` chunks, two to standard error; the
    second as many, one a minute; and the third `size` lines in two parts each, on both streams by turns.

    Two of the chunks are gaps: one near the beginning, one near the end.
    """
    db = open_writer(path, durable=False)
    db.execute("BEGIN")
    for n in range(size):
        rare = {"rare": "yes"} if n in (3, 20) else {}
        name = "rare" if rare else "job"
        process = new_process(pid=n + 1, started_at_ms=EPOCH_MS + n, name=name, key=f"key of {n}", team="a", **rare)
        handle = commit(db, [process])[process.spec.id]
        if n >= _RUNNING:
            stopped = SetManaged(handle, ManagedState(desired=Desired.STOPPED))
            commit(db, [Output(handle).chunk(b"x\n"), end_of(handle), stopped, CompleteOutput(handle, 1)])
    db.execute("DELETE FROM event WHERE type = 'stopped'")  # in real stores, it is rare beside starts and ends
    output = Output(1)
    errors = (10, size - 10)
    streams = [Stream.STDERR if n in errors else Stream.STDOUT for n in range(size)]
    gaps = (5, size - 3)
    commit_each(
        db,
        [
            output.gap(9, stream, ts_ms=EPOCH_MS + n)
            if n in gaps
            else output.chunk(b"12345678\n", stream, ts_ms=EPOCH_MS + n)
            for n, stream in enumerate(streams)
        ],
    )
    parted = Output(_PARTED)
    commit_each(
        db,
        [parted.chunk((b"1st ", b"2nd\n")[n // 2 % 2], Stream(n % 2 + 1), continues=True) for n in range(2 * size)],
    )
    slow = Output(2)
    commit_each(db, [slow.chunk(b"x\n", ts_ms=EPOCH_MS + n * queries.MINUTE_MS) for n in range(size)])
    db.execute("COMMIT")
    return db


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[sqlite3.Connection, sqlite3.Connection]]:
    folder = tmp_path_factory.mktemp("cost")
    with (
        closing(_history(folder / "small.db", _SMALL)) as small,
        closing(_history(folder / "large.db", _LARGE)) as large,
    ):
        yield small, large


def _steps(db: sqlite3.Connection, work: Work) -> int:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    db.set_progress_handler(count, 1)
    work(db)
    db.set_progress_handler(None, 1)
    return steps


@pytest.mark.parametrize("name", _WORK)
def test_cost_does_not_grow_with_history(stores: tuple[sqlite3.Connection, sqlite3.Connection], name: str) -> None:
    small, large = (_steps(db, _WORK[name]) for db in stores)
    halvings = 4 * 60 * (name.count("since") + name.count("until"))  # a binary search takes log2(10) look-ups more
    assert 0 < large <= small * 1.05 + halvings, (small, large)


def test_choosing_between_common_conditions_is_bounded(
    stores: tuple[sqlite3.Connection, sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "COUNTED", (10, 100))
    work = _list(ProcessQuery(name="job", tags={"team": "a"}, status=Status.EXITED, limit=5))
    small, large = (_steps(db, work) for db in stores)
    assert 0 < large <= small * 1.05, (small, large)


def test_looking_for_rare_events_is_done_in_pieces(
    stores: tuple[sqlite3.Connection, sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_events, "SCAN_IDS", 100)
    work = _events(EventFilter(tags={"team": "nobody's"}))
    small, large = (_steps(db, work) for db in stores)
    assert 0 < large <= small * 1.05, (small, large)


def test_no_statement_scans_a_table(stores: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    db = stores[0]
    statements: set[str] = set()
    db.set_trace_callback(statements.add)
    for work in _WORK.values():
        work(db)
    db.set_trace_callback(None)
    assert len(statements) > len(_WORK)
    scans = {
        detail
        for statement in statements
        for _, _, _, detail in db.execute(f"EXPLAIN QUERY PLAN {statement}")
        if detail.startswith("SCAN")
    }
    # `page` holds the few handles just found; the partial index holds unfinished runs only; `t` and `s` have a row
    # or two, `total` one a total; a virtual table is one JSON value, and a subquery counts up to a limit; `b`, `d`,
    # `e` and `k` are subqueries of the view, over the rows that it shows
    tables = {scan for scan in scans if "VIRTUAL TABLE" not in scan and "(subquery-" not in scan}
    short = {f"SCAN {name}" for name in ("page", "CONSTANT ROW", "r USING INDEX run_unfinished", "total", *"tsbdek")}
    assert tables <= short
