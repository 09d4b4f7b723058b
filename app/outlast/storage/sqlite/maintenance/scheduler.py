"""The task that merges small rows and compresses old ones, in small steps between commits."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

from outlast.model.clock import now_ms
from outlast.model.errors import OutlastError
from outlast.storage.base import Change, Chunk, CompleteOutput, PurgeProcess
from outlast.storage.sqlite import queries
from outlast.storage.sqlite.maintenance.compaction import (
    STEP_ROWS,
    CompactionPlan,
    MergedRow,
    apply_compaction,
    plan_compaction,
)
from outlast.storage.sqlite.maintenance.compression import (
    CompressionRules,
    apply_compression,
    compress_data,
    compress_rows,
    plan_compression,
)
from outlast.storage.sqlite.maintenance.read_leases import ReadLeases
from outlast.storage.sqlite.rows import LARGE_BYTES, TARGET_BYTES

T = TypeVar("T")

_BACKLOG_PAGE = 100
_RETRY_S = 60.0
_COMPRESSION_INTERVAL_S = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenancePolicy:
    """When a process's rows are merged, and which rows are compressed. Rows are merged when a run's output is complete.

    Attributes:
        due_rows: number of new small rows after which a process is due although more is coming. It is high, because a
            step is in the way of commits.
        quiet_s: time without output after which a process is due.
        due_s: age of the first new row at which a process is due although more is coming.
        min_rows: while more may come, fewer new rows than this are not merged.
        compression: the rows to be compressed. None: no row.
        commit_wait_s: maximum time that a step waits for a moment without a commit.
    """

    due_rows: int = 32 * STEP_ROWS
    quiet_s: float = 60.0
    due_s: float = 600.0
    min_rows: int = 16
    compression: CompressionRules | None = None
    commit_wait_s: float = 0.1


class Store(Protocol):
    """The part of the storage that the scheduler uses."""

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a read transaction."""

    async def wait_for_commits(self, timeout_s: float) -> None:
        """Wait until no commit is in progress, at most `timeout_s`."""

    async def rewrite(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Run `work` in a write transaction that no answer depends on."""


@dataclass(slots=True)
class _NewRows:
    count: int
    first_s: float
    last_s: float


class MaintenanceScheduler:
    """A task that knows which processes are due for compaction and whether rows are due for compression."""

    def __init__(self, store: Store, leases: ReadLeases, policy: MaintenancePolicy) -> None:
        self._store = store
        self._leases = leases
        self._policy = policy
        self._new_rows: dict[int, _NewRows] = {}  # of each process since it was last due
        self._due: dict[int, None] = {}  # a set that keeps its order
        self._leased: dict[int, None] = {}  # due, but a read lease forbids it
        self._backlog_after: int | None = None
        self._quiet_check_pending = False
        self._compression_due = False
        self._task: asyncio.Task[None] | None = None
        self._timers: set[asyncio.TimerHandle] = set()

    async def start(self) -> None:
        """Start the task. Rows that are stored already wait until the leases of an earlier daemon have expired."""
        (last_id,) = await self._store.read(lambda db: db.execute(queries.LAST_ROW).fetchone())
        self._leases.grant(0, last_id, None)
        self._call_later(self._leases.lease_s, self._start_backlog)
        self.start_compression()

    async def stop(self) -> None:
        """Stop the task and all timers."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._task = None

    def start_compression(self) -> None:
        """Compress rows that have become old, now and at intervals."""
        if self._policy.compression:
            self._compression_due = True
            self._resume()

    async def wait_idle(self) -> None:
        """Wait until nothing is due now."""
        while self._task and not self._task.done():
            await asyncio.wait([self._task])

    def record_commit(self, changes: Sequence[Change]) -> None:
        """Find the processes that are due after a commit."""
        now = asyncio.get_running_loop().time()
        for change in changes:
            if isinstance(change, Chunk):
                if len(change.data) <= LARGE_BYTES:
                    self._count_row(change.handle, now)
            elif isinstance(change, CompleteOutput):
                self._mark_due(change.handle)
            elif isinstance(change, PurgeProcess):
                self._new_rows.pop(change.handle, None)

    def _count_row(self, handle: int, now: float) -> None:
        new = self._new_rows.setdefault(handle, _NewRows(0, now, now))
        new.count += 1
        new.last_s = now
        if new.count >= self._policy.due_rows:
            self._mark_due(handle)
        elif new.count >= self._policy.min_rows and not self._quiet_check_pending:
            self._schedule_quiet_check()

    def _schedule_quiet_check(self) -> None:
        self._quiet_check_pending = True
        self._call_later(self._policy.quiet_s, self._check_quiet)

    def _check_quiet(self) -> None:
        self._quiet_check_pending = False
        now = asyncio.get_running_loop().time()
        candidates = [(handle, new) for handle, new in self._new_rows.items() if new.count >= self._policy.min_rows]
        for handle, new in candidates:
            if new.last_s <= now - self._policy.quiet_s or new.first_s <= now - self._policy.due_s:
                self._mark_due(handle)
            elif not self._quiet_check_pending:
                self._schedule_quiet_check()

    def _mark_due(self, handle: int) -> None:
        self._new_rows.pop(handle, None)
        self._due[handle] = None
        self._resume()

    def _start_backlog(self) -> None:
        self._backlog_after = 0
        self._resume()

    def _postpone_leased(self, handle: int) -> None:
        self._due.pop(handle, None)
        if not self._leased:
            self._call_later(self._leases.lease_s, self._retry_leased)
        self._leased[handle] = None

    def _retry_leased(self) -> None:
        self._due |= self._leased
        self._leased = {}
        self._resume()

    def _call_later(self, delay_s: float, work: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            work()

        timer = asyncio.get_running_loop().call_later(delay_s, run)
        self._timers.add(timer)

    def _resume(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._due or self._backlog_after is not None or self._compression_due:
                if self._due:
                    await self._run_compaction_step()
                elif self._backlog_after is not None:
                    await self._load_backlog()
                elif self._policy.compression:
                    await self._run_compression_step(self._policy.compression)
        except OutlastError as error:
            _log.warning("maintenance of stored output failed and is retried in %g s: %s", _RETRY_S, error)
            self._call_later(_RETRY_S, self._resume)

    async def _load_backlog(self) -> None:
        """Mark the next processes as due whose rows an earlier daemon has not merged."""
        page = (self._backlog_after, _BACKLOG_PAGE)
        handles = await self._store.read(lambda db: db.execute(queries.UNMERGED_FROM, page).fetchall())
        self._due |= {handle: None for (handle,) in handles}
        self._backlog_after = handles[-1][0] if handles else None

    async def _run_compaction_step(self) -> None:
        plans = await self._plan_compactions()
        if self._policy.compression:
            plans = await asyncio.to_thread(_compress_merged, plans, self._policy.compression)
        await self._store.wait_for_commits(self._policy.commit_wait_s)
        async with self._leases.lock_for_compaction():
            allowed = [plan for plan in plans if not (plan.merged and self._leases.forbids_merge(*plan.id_range))]
            for plan in plans:
                if plan not in allowed:
                    self._postpone_leased(plan.handle)
            if allowed:
                await self._store.rewrite(partial(apply_compaction, plans=allowed))

    async def _plan_compactions(self) -> list[CompactionPlan]:
        """Plan a step, for several processes if each has little to do."""
        plans: list[CompactionPlan] = []
        row_count = size = 0
        while self._due and row_count < STEP_ROWS and size < TARGET_BYTES:
            handle = next(iter(self._due))
            for_pages = self._policy.compression is None
            find = partial(plan_compaction, handle=handle, min_rows=self._policy.min_rows, for_pages=for_pages)
            plan = await self._store.read(find)
            if plan is None or plan.after_seq is None:
                del self._due[handle]
            if plan is None:
                continue
            plans.append(plan)
            row_count += plan.row_count
            size += plan.size
            if plan.after_seq is not None:
                break  # the rest can be planned when this step is done
        return plans

    async def _run_compression_step(self, rules: CompressionRules) -> None:
        now = now_ms()
        plan = await self._store.read(partial(plan_compression, rules=rules, now_ms=now))
        if plan is None:
            self._compression_due = False
            self._call_later(min(_COMPRESSION_INTERVAL_S, rules.after_ms / 1000 + 1), self.start_compression)
            return
        compressed = await asyncio.to_thread(compress_rows, plan.rows, rules)
        await self._store.wait_for_commits(self._policy.commit_wait_s)
        await self._store.rewrite(partial(apply_compression, compressed=compressed, upto_id=plan.upto_id))


def _compress_merged(plans: Sequence[CompactionPlan], rules: CompressionRules) -> list[CompactionPlan]:
    """Compress the merged rows that are old already: `plan_compression` has passed over their parts."""
    now = now_ms()

    def compress(row: MergedRow) -> MergedRow:
        return replace(row, compressed=compress_data(row.data, rules)) if rules.is_old(row.latest_ts, now) else row

    return [replace(plan, merged=[compress(row) for row in plan.merged]) for plan in plans]
