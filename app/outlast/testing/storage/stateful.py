"""A state machine that compares a storage with a plain model over random histories. Needs hypothesis.

In the plug-in's own tests:

    from pathlib import Path

    from outlast.storage.base import Storage
    from outlast.storage.registry import storage_from_url
    from outlast.testing.storage.stateful import check_against_model


    def make_storage(folder: Path) -> Storage:
        return storage_from_url(f"mystore:{folder}/data")


    def test_my_storage_behaves_like_the_model() -> None:
        check_against_model(make_storage, persistent=True)

A machine object plays one history on one new store; hypothesis plays many.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import replace
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from outlast.model.event import EventFilter, EventType
from outlast.model.output import Chunk, ChunkQuery, Stream
from outlast.model.process import Order, ProcessQuery, Run, Status
from outlast.model.retention import HoldingQuery, Rule
from outlast.model.totals import Counted, StartResult, Tally
from outlast.storage.base import (
    BeginRun,
    Change,
    CompleteOutput,
    EndedProcess,
    PurgeProcess,
    Storage,
    TrimOutput,
    WithdrawProcess,
)
from outlast.testing.storage.model import Line, Model, WholeLine, numbered, unfinished, whole_lines
from outlast.testing.storage.samples import Output, end_of, new_process

T = TypeVar("T")

_MAX_TIME = 8
_EVERYTHING_BYTES = 1 << 30
_data = st.lists(st.sampled_from([b"\n", b"a", b"\xff", b"\0", b"line\n"]), min_size=1).map(b"".join)
_times = st.integers(min_value=1, max_value=_MAX_TIME)
_keys = st.sampled_from(["k", "K"])
_streams = st.sampled_from([Stream.STDOUT, Stream.STDERR])


def check_against_model(
    make_storage: Callable[[Path], Storage], *, persistent: bool, examples: int = 50, steps: int = 40
) -> None:
    """Play `examples` histories of up to `steps` steps.

    Args:
        make_storage: a function that returns a closed storage with its data in the folder given.
        persistent: whether a second storage made for the same folder finds what was committed.
        examples: the number of histories.
        steps: the maximum length of a history.

    Raises:
        AssertionError: storage and model differ; hypothesis has printed the shortest history that it found.
    """

    class Machine(_StorageMachine):
        def __init__(self) -> None:
            super().__init__(make_storage, persistent=persistent)

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    )


class _StorageMachine(RuleBasedStateMachine):
    """A machine that collects changes, commits them as a batch, and compares every read with the model."""

    def __init__(self, make_storage: Callable[[Path], Storage], *, persistent: bool) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp(prefix="storage-"))
        self._make_storage = make_storage
        self._persistent = persistent
        self._runner = asyncio.Runner()
        self._storage = make_storage(self._folder)
        self._do(self._storage.open())
        self._models: dict[int, Model] = {}
        self._highest = 0
        self._pending: list[Change] = []
        self._expected_events: list[tuple[str, EventType]] = []
        self._tally = Tally()

    def teardown(self) -> None:
        """Close and delete the store of this history."""
        self._do(self._storage.close())
        self._runner.close()
        shutil.rmtree(self._folder)

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def _pick(self, number: int) -> int | None:
        """Return the handle of one of the processes, or None if there is none."""
        return list(self._models)[number % len(self._models)] if self._models else None

    def _find_key(self, key: str) -> int | None:
        keys = {model.change.spec.idempotency_key: handle for handle, model in self._models.items()}
        return keys.get(key)

    # ---- changes

    @rule(
        pid=st.integers(min_value=1, max_value=3),
        started=_times,
        team=st.sampled_from(["a", "b"]),
        name=st.none() | _keys,
        key=st.none() | _keys,
    )
    def add(self, *, pid: int, started: int, team: str, name: str | None, key: str | None) -> None:
        """Add a process, in a commit of its own, whose answer is the handle. A key that is taken is not stored."""
        self.commit()
        change = new_process(pid=pid, started_at_ms=started, name=name, team=team, key=key)
        handle = self._do(self._storage.commit([change]))[change.spec.id]
        if key is not None and self._find_key(key):
            change = replace(change, spec=replace(change.spec, idempotency_key=None))
        assert handle > self._highest
        self._highest = handle
        latest = max((model.latest_start_ms for model in self._models.values()), default=0)
        self._models[handle] = Model(change, change.run, Output(handle), max(latest, started), pids=[pid])
        self._expected_events.append((change.spec.id, EventType.STARTED))
        self._tally.count_start(StartResult.RECORDED)

    @rule(number=st.integers(min_value=0), data=_data, stream=_streams, time=_times, continues=st.booleans())
    def write(self, *, number: int, data: bytes, stream: Stream, time: int, continues: bool) -> None:
        """Add output of a process."""
        if handle := self._pick(number):
            model = self._models[handle]
            self._print(model, model.output.chunk(data, stream, ts_ms=time, continues=continues))

    @rule(number=st.integers(min_value=0), upto=st.integers(min_value=0, max_value=20))
    def trim(self, number: int, upto: int) -> None:
        """Trim output. The store may delete less than it is asked to: whole chunks, and none beyond the number."""
        self.commit()
        if not (handle := self._pick(number)):
            return
        self._do(self._storage.commit([TrimOutput(handle, upto, 1, Rule.TOTAL_BYTES)]))
        process = self._do(self._storage.process(handle))
        assert process is not None
        model, trimmed = self._models[handle], process.output.trimmed
        mark = trimmed.last_seq if trimmed else 0
        assert mark in {model.mark, *(chunk.last_seq for chunk in model.chunks if chunk.last_seq <= upto)}
        assert mark >= model.mark
        model.trim(mark)

    @rule(
        number=st.integers(min_value=0),
        missing=st.integers(min_value=0, max_value=9),
        stream=_streams,
        time=_times,
        passed_over=st.sampled_from([0, 1, 1_000_000]),
    )
    def lose(self, number: int, missing: int, stream: Stream, time: int, passed_over: int) -> None:
        """Add a gap to the output of a process."""
        if handle := self._pick(number):
            model = self._models[handle]
            self._print(model, model.output.gap(missing, stream, ts_ms=time, passed_over=passed_over))

    def _print(self, model: Model, chunk: Chunk) -> None:
        self._pending.append(model.print(chunk))
        self._tally.count_chunk(chunk)

    @rule(number=st.integers(min_value=0), first=st.integers(min_value=0), count=st.integers(min_value=1, max_value=3))
    def repeat(self, number: int, first: int, count: int) -> None:
        """Repeat chunks that are stored or pending."""
        if (handle := self._pick(number)) and (chunks := self._models[handle].chunks):
            first %= len(chunks)
            self._pending += chunks[first : first + count]

    @rule(number=st.integers(min_value=0), exit_code=st.integers(min_value=0, max_value=3))
    def end(self, number: int, exit_code: int) -> None:
        """End a run, perhaps not for the first time."""
        if handle := self._pick(number):
            run = self._models[handle].run
            change = end_of(handle, exit_code=exit_code, run=run.number)
            self._models[handle].run = replace(run, ending=run.ending or change.ending)
            if run.ending is None:
                self._expected_events.append((self._models[handle].change.spec.id, EventType.EXITED))
                self._tally.count_end(change.ending)
            self._pending.append(change)

    @rule(number=st.integers(min_value=0))
    def complete(self, number: int) -> None:
        """Mark a process's output as complete."""
        if handle := self._pick(number):
            run = self._models[handle].run = replace(self._models[handle].run, output_complete=True)
            self._pending.append(CompleteOutput(handle, run.number))

    @rule(number=st.integers(min_value=0), pid=st.integers(min_value=1, max_value=3), time=_times)
    def begin(self, number: int, pid: int, time: int) -> None:
        """Start the next run of a process."""
        if handle := self._pick(number):
            model = self._models[handle]
            model.run = Run(number=model.run.number + 1, pid=pid, started_at_ms=time)
            model.pids.append(pid)
            self._expected_events.append((model.change.spec.id, EventType.RESTARTED))
            self._tally.count_restart()
            self._pending.append(BeginRun(handle, model.run))

    @rule(number=st.integers(min_value=0), late=st.booleans(), withdraw=st.booleans())
    def purge(self, *, number: int, late: bool, withdraw: bool) -> None:
        """Purge or withdraw a process, perhaps followed by a change to it that is too late."""
        if handle := self._pick(number):
            process_id = self._models[handle].change.spec.id
            self._pending.append(WithdrawProcess(process_id) if withdraw else PurgeProcess(handle))
            if late:
                self._pending.append(self._models[handle].output.chunk(b"late\n"))
            if withdraw:
                self._tally.count_start(StartResult.FAILED)
            del self._models[handle]
            self._expected_events = [told for told in self._expected_events if told[0] != process_id]
            self._expected_events.append((process_id, EventType.FAILED if withdraw else EventType.PURGED))

    @rule()
    def commit(self) -> None:
        """Commit the pending changes as a batch."""
        changes, self._pending = self._pending, []
        assert self._do(self._storage.commit(changes)) == {}

    @rule()
    def reopen(self) -> None:
        """Close and open the store."""
        if self._persistent:
            self.commit()
            self._do(self._storage.close())
            self._storage = self._make_storage(self._folder)
            self._do(self._storage.open())

    # ---- reads

    @rule(
        number=st.integers(min_value=0),
        after=st.integers(min_value=0, max_value=20),
        max_bytes=st.sampled_from([1, 5, _EVERYTHING_BYTES]),
        stream=st.none() | _streams,
        since=st.none() | _times,
        until=st.none() | _times,
    )
    def read(
        self,
        *,
        number: int,
        after: int,
        max_bytes: int,
        stream: Stream | None,
        since: int | None,
        until: int | None,
    ) -> None:
        """Compare a range of output, line by line."""
        self.commit()
        if not (handle := self._pick(number)):
            return
        query = ChunkQuery(
            handle=handle, after_seq=after, max_bytes=max_bytes, stream=stream, since_ms=since, until_ms=until
        )
        chunks = self._do(self._storage.chunks(query))
        model = self._models[handle]
        chunks = _without_gap(chunks, model, query)
        found = [(seq, chunk.stream, text) for chunk in chunks for seq, text in numbered(chunk)]
        lines = [line for line in model.lines if line.seq > model.mark and _selects(query, line)]
        expected = [(line.seq, line.stream, line.text) for line in lines]
        assert found == expected[: len(found)]
        assert len(found) == len(expected) or sum(len(chunk.data) for chunk in chunks) >= max_bytes
        assert sum(len(chunk.data) for chunk in chunks[:-1]) < max_bytes

    @rule(
        number=st.integers(min_value=0),
        after=st.integers(min_value=0, max_value=20),
        seen=st.integers(min_value=0, max_value=20),
        max_bytes=st.sampled_from([1, 5, _EVERYTHING_BYTES]),
        stream=st.none() | _streams,
        since=st.none() | _times,
        until=st.none() | _times,
    )
    def read_whole_lines(
        self,
        *,
        number: int,
        after: int,
        seen: int,
        max_bytes: int,
        stream: Stream | None,
        since: int | None,
        until: int | None,
    ) -> None:
        """Compare a range of whole lines."""
        self.commit()
        if not (handle := self._pick(number)):
            return
        query = ChunkQuery(
            handle=handle,
            after_seq=after,
            max_bytes=max_bytes,
            stream=stream,
            since_ms=since,
            until_ms=until,
            whole_lines=True,
            seen_seq=seen,
        )
        chunks = self._do(self._storage.chunks(query))
        model = self._models[handle]
        chunks = _without_gap(chunks, model, query)
        found = [(seq, chunk.stream, chunk.ts_ms, text) for chunk in chunks for seq, text in numbered(chunk)]
        expected = [
            (line.seq, line.stream, line.ts_ms, line.text(seen))
            for line in model.whole_lines()
            if _selects(query, line)
        ]
        assert found == expected[: len(found)]
        assert len(found) == len(expected) or sum(len(chunk.data) for chunk in chunks) >= max_bytes

    @rule(
        number=st.integers(min_value=0),
        count=st.integers(min_value=0, max_value=9),
        stream=st.none() | _streams,
        before=st.none() | st.integers(min_value=1, max_value=20),
    )
    def tail(self, number: int, count: int, stream: Stream | None, before: int | None) -> None:
        """Compare the last lines, of all or before one of them."""
        self.commit()
        if handle := self._pick(number):
            after = self._do(self._storage.tail(handle, count, stream=stream, before=before))
            lines = [line for line in self._models[handle].whole_lines() if stream in (None, line.stream)]
            seqs = [line.seq for line in lines if line.text() is not None and (before is None or line.seq < before)]
            assert [seq for seq in seqs if seq > after] == seqs[max(0, len(seqs) - count) :]

    @rule(
        query=st.builds(
            ProcessQuery,
            status=st.none() | st.sampled_from(Status),
            name=st.none() | _keys,
            tags=st.sampled_from([{}, {"team": "a"}, {"team": "a", "tier": "x"}]),
            since_ms=st.none() | _times,
            until_ms=st.none() | _times,
            order=st.sampled_from(Order),
            limit=st.integers(min_value=1, max_value=5),
        ),
        before=st.none() | st.integers(min_value=0),
        after=st.none() | st.integers(min_value=0),
    )
    def list_processes(self, query: ProcessQuery, before: int | None, after: int | None) -> None:
        """Compare one page of a list."""
        self.commit()
        below = None if before is None else self._pick(before)
        above = None if after is None else self._pick(after)
        expected = [
            handle
            for handle, model in self._models.items()
            if query.status in (None, model.run.status)
            and query.name in (None, model.change.spec.name)
            and query.tags.items() <= model.change.spec.tags.items()
            and (query.since_ms is None or model.latest_start_ms >= query.since_ms)
            and (query.until_ms is None or model.latest_start_ms <= query.until_ms)
            and (below is None or handle < below)
            and (above is None or handle > above)
        ]
        if query.order is Order.NEWEST:
            expected.reverse()
        found = self._do(self._storage.processes(replace(query, before_handle=below, after_handle=above)))
        assert [process.handle for process in found] == expected[: query.limit]

    @rule(limit=st.integers(min_value=1, max_value=3))
    def find_ended(self, limit: int) -> None:
        """Compare the processes that have ended for good, page by page."""
        self.commit()
        found: list[EndedProcess] = []
        while page := self._do(self._storage.ended(limit=limit, after=found[-1] if found else None)):
            found += page
        assert found == sorted(
            EndedProcess(model.run.ending.ended_at_ms, handle, model.change.spec.id)
            for handle, model in self._models.items()
            if model.run.ending is not None and model.run.output_complete and not model.change.spec.is_managed
        )

    @rule(pid=st.integers(min_value=1, max_value=3))
    def find_by_pid(self, pid: int) -> None:
        """Compare the process that a pid stands for."""
        self.commit()
        found = self._do(self._storage.process_by_pid(pid))
        handles = [handle for handle, model in self._models.items() if pid in model.pids]
        assert (found and found.handle) == (handles[-1] if handles else None)

    @rule(key=_keys)
    def find_by_key(self, key: str) -> None:
        """Compare the process that has a key."""
        self.commit()
        found = self._do(self._storage.process_by_key(key))
        assert (found and found.handle) == self._find_key(key)

    @invariant()
    def processes_match(self) -> None:
        """Compare all processes and their positions whenever nothing is pending."""
        if self._pending:
            return
        found = self._do(self._storage.processes(ProcessQuery()))
        models = list(reversed(self._models.items()))
        assert [process.handle for process in found] == [handle for handle, _ in models]
        assert self._do(self._storage.total()) == len(models)
        for process, (_, model) in zip(found, models, strict=True):
            assert (process.spec, process.run) == (model.change.spec, model.run)
            texts = [text for line in whole_lines(model.chunks) if (text := line.text()) is not None]
            gone = model.trimmed.lines if model.trimmed else 0
            assert process.output.trimmed == model.trimmed
            last_seq = model.output.position.last_seq
            assert (process.output.lines, process.output.last_seq) == (len(texts) - gone, last_seq)
            left = [chunk for chunk in model.chunks if chunk.first_seq > model.mark]
            assert process.output.bytes == sum(len(chunk.data) for chunk in left)
            holdings = self._do(self._storage.holdings(HoldingQuery(rule=Rule.PROCESS_BYTES, limit=1000)))
            held = {holding.handle: holding for holding in holdings}.get(process.handle)
            assert (held.oldest_ms if held else None) in _oldest_ms(left, model)
            assert (held.bytes if held else 0) >= 0
        found_unfinished = {entry.process.handle: entry.position for entry in self._do(self._storage.unfinished())}
        assert found_unfinished == unfinished(self._models)
        page = self._do(self._storage.events(0, 1000, EventFilter()))
        assert [(event.process_id, event.type) for event in page.events] == self._expected_events
        totals = Tally(self._do(self._storage.figures()).totals)
        del totals[Counted.REMOVED_BYTES, Rule.TOTAL_BYTES]  # what a trim deletes is up to the store
        assert +totals == +self._tally


def _oldest_ms(left: list[Chunk], model: Model) -> set[int | None]:
    """Return what a store may tell as the oldest time: its first row may be a merged one, of any number of chunks."""
    until_ms = model.trimmed.until_ms if model.trimmed else 0
    times = accumulate((chunk.ts_ms for chunk in left), max, initial=until_ms)
    return set(islice(times, 1, None)) or {None}


def _without_gap(chunks: list[Chunk], model: Model, query: ChunkQuery) -> list[Chunk]:
    """Check the gap that tells of trimmed output, and return the chunks behind it."""
    gap = model.trimmed.gap(query) if model.trimmed else None
    begin = [gap] if gap else []
    assert chunks[: len(begin)] == begin
    return chunks[len(begin) :]


def _selects(query: ChunkQuery, line: Line | WholeLine) -> bool:
    return (
        line.seq > query.after_seq
        and query.stream in (None, line.stream)
        and (query.since_ms is None or line.latest_ms >= query.since_ms)
        and (query.until_ms is None or line.latest_ms <= query.until_ms)
    )
