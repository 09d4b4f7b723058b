"""The task that merges small chunks and seals old rows: it knows what is due, and takes small steps between commits."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

from outlast.model.errors import OutlastError
from outlast.storage.base import Change, Chunk, CompleteOutput, PurgeProcess
from outlast.storage.sqlite import queries
from outlast.storage.sqlite.maintenance import compaction, compression
from outlast.storage.sqlite.maintenance.read_leases import ReadLeases
from outlast.storage.sqlite.rows import LARGE_BYTES, TARGET_BYTES

T = TypeVar("T")

_PAGE = 100
_RETRY_S = 60.0
_SEAL_EVERY_S = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When chunks are merged: when all of a run's output is there, or so many have come. And what is sealed.

    Attributes:
        due_rows: so many small chunks of a process have come since the last time (many, for while more comes, a step is
            in the way of commits). Or:
        quiet_s: nothing has come for so long, and
        least_rows: so many have come. (Fewer than that are not merged while more may come.)
        sealing: what is sealed. None: nothing.
        patience_s: a step waits so long for a moment without a commit, and is then made between two.
    """

    due_rows: int = 32 * compaction.LOOK_ROWS
    quiet_s: float = 60.0
    least_rows: int = 16
    sealing: compression.Rules | None = None
    patience_s: float = 0.1


class Store(Protocol):
    """What it needs of the storage."""

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a read transaction."""

    async def calm(self, patience_s: float) -> None:
        """Wait until no commit is under way, or `patience_s` are over."""

    async def rewrite(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Run `work` in a write transaction that nobody's answer depends on."""


@dataclass(slots=True)
class _New:
    rows: int
    last_s: float


class MaintenanceScheduler:
    """Knows what there is to merge and to seal, and does it in a task of its own."""

    def __init__(self, store: Store, places: ReadLeases, policy: Policy) -> None:
        self._store = store
        self._places = places
        self._policy = policy
        self._new: dict[int, _New] = {}  # what has come of each process since it was last due
        self._due: dict[int, None] = {}  # a set that keeps its order
        self._hindered: dict[int, None] = {}
        self._backlog_after: int | None = None
        self._awaits_quiet = False
        self._may_seal = False
        self._task: asyncio.Task[None] | None = None
        self._timers: set[asyncio.TimerHandle] = set()

    async def start(self) -> None:
        """Begin. What is stored already waits until nobody goes on from a page that an earlier process has given."""
        (last_id,) = await self._store.read(lambda db: db.execute(queries.LAST_ROW).fetchone())
        self._places.note(0, last_id, None)
        self._call_later(self._places.kept_s, self._begin_backlog)
        self.begin_sealing()

    async def stop(self) -> None:
        """End."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._task = None

    def begin_sealing(self) -> None:
        """Look for rows that have become old, now and again and again."""
        if self._policy.sealing:
            self._may_seal = True
            self._go_on()

    async def settled(self) -> None:
        """Wait until nothing is to be done now."""
        while self._task and not self._task.done():
            await asyncio.wait([self._task])

    def note(self, changes: Sequence[Change]) -> None:
        """These have been committed."""
        now = asyncio.get_running_loop().time()
        for change in changes:
            if isinstance(change, Chunk):
                if len(change.data) <= LARGE_BYTES:
                    self._note_chunk(change.handle, now)
            elif isinstance(change, CompleteOutput):
                self._be_due(change.handle)
            elif isinstance(change, PurgeProcess):
                self._new.pop(change.handle, None)

    def _note_chunk(self, handle: int, now: float) -> None:
        new = self._new.setdefault(handle, _New(0, now))
        new.rows += 1
        new.last_s = now
        if new.rows >= self._policy.due_rows:
            self._be_due(handle)
        elif new.rows >= self._policy.least_rows and not self._awaits_quiet:
            self._await_quiet()

    def _await_quiet(self) -> None:
        self._awaits_quiet = True
        self._call_later(self._policy.quiet_s, self._find_quiet)

    def _find_quiet(self) -> None:
        self._awaits_quiet = False
        until = asyncio.get_running_loop().time() - self._policy.quiet_s
        many = [(handle, new) for handle, new in self._new.items() if new.rows >= self._policy.least_rows]
        for handle, new in many:
            if new.last_s <= until:
                self._be_due(handle)
            elif not self._awaits_quiet:
                self._await_quiet()

    def _be_due(self, handle: int) -> None:
        self._new.pop(handle, None)
        self._due[handle] = None
        self._go_on()

    def _begin_backlog(self) -> None:
        self._backlog_after = 0
        self._go_on()

    def _be_hindered(self, handle: int) -> None:
        self._due.pop(handle, None)
        if not self._hindered:
            self._call_later(self._places.kept_s, self._try_hindered)
        self._hindered[handle] = None

    def _try_hindered(self) -> None:
        self._due |= self._hindered
        self._hindered = {}
        self._go_on()

    def _call_later(self, delay_s: float, work: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            work()

        timer = asyncio.get_running_loop().call_later(delay_s, run)
        self._timers.add(timer)

    def _go_on(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._due or self._backlog_after is not None or self._may_seal:
                if self._due:
                    await self._merge_some()
                elif self._backlog_after is not None:
                    await self._find_backlog()
                elif self._policy.sealing:
                    await self._seal_some(self._policy.sealing)
        except OutlastError as error:
            _log.warning("merging and sealing chunks was put off until later: %s", error)
            self._call_later(_RETRY_S, self._go_on)

    async def _find_backlog(self) -> None:
        """Let the next processes be due whose chunks an earlier process of ours has not merged."""
        page = (self._backlog_after, _PAGE)
        handles = await self._store.read(lambda db: db.execute(queries.UNMERGED_FROM, page).fetchall())
        self._due |= {handle: None for (handle,) in handles}
        self._backlog_after = handles[-1][0] if handles else None

    async def _merge_some(self) -> None:
        """Take one step, of several processes if they have little."""
        steps: list[compaction.Step] = []
        rows = size = 0
        while self._due and rows < compaction.LOOK_ROWS and size < TARGET_BYTES:
            handle = next(iter(self._due))
            look = partial(
                compaction.look, handle=handle, least_rows=self._policy.least_rows, pack=self._policy.sealing is None
            )
            step = await self._store.read(look)
            if step is None or step.after_seq is None:
                del self._due[handle]
            if step is None:
                continue
            steps.append(step)
            rows += step.rows
            size += step.size
            if step.after_seq is not None:
                break  # what is left is seen when this is done
        if self._policy.sealing:
            steps = await asyncio.to_thread(_seal_merged, steps, self._policy.sealing)
        await self._store.calm(self._policy.patience_s)
        async with self._places.merging():
            free = [step for step in steps if not (step.merged and self._places.blocks(*step.ids))]
            for step in steps:
                if step not in free:
                    self._be_hindered(step.handle)
            if free:
                await self._store.rewrite(partial(compaction.apply, steps=free))

    async def _seal_some(self, rules: compression.Rules) -> None:
        """Take one step through the rows that are old."""
        now_ms = time.time_ns() // 1_000_000
        step = await self._store.read(partial(compression.look, rules=rules, now_ms=now_ms))
        if step is None:
            self._may_seal = False
            self._call_later(min(_SEAL_EVERY_S, rules.after_ms / 1000 + 1), self.begin_sealing)
            return
        sealed = await asyncio.to_thread(compression.compress_all, step.rows, rules)
        await self._store.calm(self._policy.patience_s)
        await self._store.rewrite(partial(compression.apply, sealed=sealed, upto_id=step.upto_id))


def _seal_merged(steps: Sequence[compaction.Step], rules: compression.Rules) -> list[compaction.Step]:
    """Seal at once what has become old before it was merged: those who look for old rows have passed it."""
    now_ms = time.time_ns() // 1_000_000
    return [
        replace(
            step,
            merged=[
                replace(row, sealed=compression.compress(row.data, rules))
                if rules.is_old(row.latest_ts, now_ms)
                else row
                for row in step.merged
            ],
        )
        for step in steps
    ]
