"""Group commit: changes that arrive during one commit go into the next.

A single line is committed at once, a flood in large batches. Changes that somebody waits for are never held back; for
output, the flush policy decides when.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from outlast.core.output.commit_stats import CommitStats
from outlast.core.output.flush_policy import FlushPolicy
from outlast.failpoints import failpoint
from outlast.model.errors import OutlastError, StorageError, StorageFull, StorageUnavailable, Unavailable
from outlast.model.output import Chunk
from outlast.storage import (
    AddProcess,
    Change,
    CompleteOutput,
    EndRun,
    PurgeProcess,
    RecordUsage,
    SetManaged,
    Storage,
    TrimOutput,
    WithdrawProcess,
)
from outlast.wire.contract import FRAME_OVERHEAD_BYTES, WINDOW_BYTES

log = logging.getLogger(__name__)

STALL_S = 5.0
"""A commit that takes longer counts as failed for `health` and for waiting callers. The commit itself goes on."""

BATCH_BYTES = WINDOW_BYTES // 3
"""Maximum output of one commit, and of what is held back. During one commit, the next batch can fill up.

On a full disk, each attempt has half the output of the one before, until one succeeds.
"""

PROBE_S = 5.0
"""Time without a commit after which the store is checked, so that `failure` is also true of a store at rest."""

_STALLED = f"a commit has been under way for more than {STALL_S:.0f} s: check the disk or the database server"
_BATCH_CHANGES = 8192
_CALLBACKS_PER_STEP = 256  # then other tasks of the event loop run
_RETRY_S = 0.5
_CATCH_UP_S = 1.0
_PATIENCE = 3
"""Failed attempts in a row after which one change may be the cause, if the store can commit without it."""

_GATHER_S = 0.002
"""Maximum time that a commit waits for starts under way, so that a burst of starts is committed together."""

_POSTPONE_S = 60.0
_URGENT = (EndRun, PurgeProcess, SetManaged, TrimOutput, WithdrawProcess)
"""Changes that need little room or free some. They do not depend on changes of output that were submitted before."""


@dataclass(slots=True)
class _Entry:
    """A queued change, with its callbacks. Without `on_failed`, nobody waits for it, and it is tried again.

    `is_done`: it is stored, or dropped, or the caller that waited was told that it failed.
    """

    change: Change
    on_stored: Callable[[int], None] | None
    on_failed: Callable[[OutlastError], None] | None
    is_done: bool = False

    @property
    def process(self) -> int | str:
        """The handle, or else the id, of the process that the change is about. Processes do not depend on another."""
        match self.change:
            case AddProcess(spec=spec):
                return spec.id
            case WithdrawProcess(process_id=process_id):
                return process_id
            case change:
                return change.handle


class Committer:
    """The one task that calls `Storage.commit`, never a second time before the first call has returned.

    When the store cannot commit, submitted changes stay queued until it can; changes that a caller waits for (`commit`)
    fail at once. Ends and purges are then tried before output. A change that the store rejects, or cannot commit
    although it commits others, is dropped, together with all queued output of its process, so that other processes are
    not blocked.

    Attributes:
        failure: why the store cannot commit now; None after the next successful commit.
        stats: figures of the commits.
        on_committed: called with the changes of each commit, before the callbacks of single changes.
        on_rejected: called with a submitted change that was dropped, and why. None of it was acknowledged.
    """

    def __init__(self, storage: Storage, hold_back_bytes: int = BATCH_BYTES) -> None:
        """`hold_back_bytes`: how much output is held back at most while nobody waits for it."""
        self._storage = storage
        self._queue: deque[_Entry] = deque()
        self._flush_policy = FlushPolicy(hold_back_bytes)
        self._watched: Counter[int] = Counter()
        self._last_output: _Entry | None = None
        self._last_watched: _Entry | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._expected = 0
        self._all_came = asyncio.Event()
        self._attempted: asyncio.Future[None] | None = None
        self._stalled = False
        self._failures = 0
        self._batch_bytes = BATCH_BYTES
        self._task: asyncio.Task[None] | None = None
        self.failure: str | None = None
        self.stats = CommitStats()
        self.on_committed: Callable[[Sequence[Change]], None] = lambda _changes: None
        self.on_rejected: Callable[[Change, str], None] = lambda _change, _reason: None

    def start(self) -> None:
        """Start the task that commits."""
        self._task = asyncio.create_task(self._run(), name="committer")

    async def stop(self, timeout_s: float) -> None:
        """Commit what is queued, if that takes no longer than `timeout_s`, and stop. The rest was not acknowledged."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wait_until_idle(), timeout_s)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def wait_until_idle(self) -> None:
        """Wait until all queued changes are committed."""
        while not self._idle.is_set():
            await self._next_attempt()

    def flush_now(self) -> None:
        """Hold back nothing of what is queued now."""
        self._flush_policy.flush_now()

    async def catch_up(self) -> None:
        """Commit what is held back and what followers have seen, before a caller reads the store.

        Wait at most a second for a failing store.
        """
        if self._flush_policy.is_holding:
            await self._next_attempt(_CATCH_UP_S)
        seen, deadline = self._last_watched, time.monotonic() + _CATCH_UP_S
        while seen is not None and not seen.is_done and self.failure is None and time.monotonic() < deadline:
            await self._next_attempt(_CATCH_UP_S)

    async def _next_attempt(self, timeout_s: float | None = None) -> None:
        """Start the next commit now, and wait until it has ended (or until there is nothing to commit)."""
        if self._attempted is None:
            self._attempted = asyncio.get_running_loop().create_future()
        self._flush_policy.flush_now()
        await asyncio.wait([self._attempted], timeout=timeout_s)

    def note_seen(self) -> None:
        """Note that a follower may have seen all output that is queued now."""
        self._last_watched = self._last_output

    @contextlib.contextmanager
    def watching(self, handle: int) -> Iterator[None]:
        """Hold back a process's output for a short time only, while somebody follows it."""
        self._watched[handle] += 1
        self.note_seen()
        self._flush_policy.flush_now()
        try:
            yield
        finally:
            self._watched[handle] -= 1
            if not self._watched[handle]:
                del self._watched[handle]

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """Announce that a change comes in a moment, for which a caller will wait: a commit waits a little for it."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1
            if not self._expected:
                self._all_came.set()

    def submit(
        self, change: Change, on_stored: Callable[[int], None] | None = None, *, is_awaited: bool = False
    ) -> None:
        """Queue a change, which is tried again until it is committed.

        Args:
            change: the change.
            on_stored: called after that commit with the new handle if the change is an `AddProcess`, else with 0.
            is_awaited: whether the followers of its process, if there are any, do not see this output before.
        """
        self._enqueue(_Entry(change, on_stored, None), is_awaited=is_awaited)

    def stored(self, change: Change, on_stored: Callable[[int], None] | None = None) -> asyncio.Future[int]:
        """Submit a change, and return a future of what `on_stored` is called with. `on_stored` is called first."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def resolve(handle: int) -> None:
            if on_stored is not None:
                on_stored(handle)
            if not future.done():
                future.set_result(handle)

        self.submit(change, resolve)
        return future

    async def commit(self, change: Change) -> int:
        """Commit a change now, and return the new handle if it is an `AddProcess`, else 0.

        Raises:
            StorageUnavailable: the store cannot commit now, and the change is not tried again. It may be stored all the
                same, even later. A change that undoes it can be submitted now: it is committed after it.
            StorageError: the store rejects this change.
        """
        if self._stalled:
            raise StorageUnavailable(f"the store cannot commit now: {self.failure}")
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def resolve(handle: int) -> None:
            if not future.done():
                future.set_result(handle)

        def fail(error: OutlastError) -> None:
            if not future.done():
                future.set_exception(error)

        self._enqueue(_Entry(change, resolve, fail))
        return await future

    def _enqueue(self, entry: _Entry, *, is_awaited: bool = False) -> None:
        change = entry.change
        if isinstance(change, Chunk):
            is_watched = change.handle in self._watched
            self._flush_policy.hold_back(len(change.data) + FRAME_OVERHEAD_BYTES, is_followed=is_watched)
            self._last_output = entry
            if is_watched:
                self._last_watched = entry
                if is_awaited:
                    self._flush_policy.flush_now()
        elif not isinstance(change, RecordUsage):
            self._flush_policy.flush_now()
        if isinstance(change, TrimOutput):  # it is about stored output, and must not wait behind a flood
            self._queue.appendleft(entry)
        else:
            self._queue.append(entry)
        self._idle.clear()
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(PROBE_S):
                    await self._wake.wait()
            except TimeoutError:
                await self._probe()
            self._wake.clear()
            while self._queue or self.failure is not None:  # only a commit shows that the store works again
                if self.failure is None:
                    await self._flush_policy.wait()
                    await self._gather()
                attempted, self._attempted = self._attempted, None
                if self.failure is not None:
                    await self._attempt_urgent()
                succeeded = await self._attempt(self._next_batch())
                _resolve(attempted)
                if not succeeded:
                    await asyncio.sleep(_RETRY_S)
            self._idle.set()
            attempted, self._attempted = self._attempted, None
            _resolve(attempted)

    async def _gather(self) -> None:
        """Wait for what is expected, for a moment."""
        if self._expected:
            self._all_came.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_S):
                    await self._all_came.wait()

    async def _probe(self) -> None:
        try:
            await self._storage.check()
        except Exception as exc:  # noqa: BLE001 - whatever it is, a commit would meet it, too
            self._fail([], str(exc))

    def _next_batch(self) -> list[_Entry]:
        batch: list[_Entry] = []
        size = 0
        while self._queue and size < self._batch_bytes and len(batch) < _BATCH_CHANGES:
            entry = self._queue.popleft()
            batch.append(entry)
            if isinstance(entry.change, Chunk):
                size += len(entry.change.data)
        if not self._queue:
            self._flush_policy.drained()
        return batch

    async def _attempt_urgent(self) -> None:
        """While the store fails, commit what needs little room before what needs much."""
        purged = {entry.process for entry in self._queue if isinstance(entry.change, PurgeProcess)}
        urgent = self._take_from_queue(lambda entry: isinstance(entry.change, _URGENT) or entry.process in purged)
        if not urgent:
            return
        # What is queued of a process is ignored by the store, and needs no room, once the process is purged.
        urgent.sort(key=lambda entry: not isinstance(entry.change, PurgeProcess))
        try:
            handles = await self._store(urgent)
        except Exception as exc:  # noqa: BLE001 - the next attempt looks into it
            self._fail(urgent, str(exc), is_urgent=True)
        else:
            await self._on_stored(urgent, handles)

    async def _attempt(self, batch: list[_Entry]) -> bool:
        """Commit a batch. Return False if the store cannot commit now: submitted changes are queued again."""
        failpoint("before-commit")
        try:
            handles = await self._store(batch)
        except StorageFull as exc:  # no change is the cause, though smaller ones may still find room
            self._batch_bytes = max(self._batch_bytes // 2, 1)
            self._fail(batch, str(exc))
            return False
        except Unavailable as exc:
            self._failures += 1
            if self._failures < _PATIENCE or not batch or not await self._can_commit():
                self._fail(batch, str(exc))
                return False
            return await self._isolate(batch, exc)
        except Exception as exc:  # noqa: BLE001 - no error may pass for a commit, nor end this task
            return await self._isolate(batch, exc)
        failpoint("after-commit")
        self._batch_bytes = min(2 * self._batch_bytes, BATCH_BYTES)
        self._recover()
        await self._on_stored(batch, handles)
        return True

    async def _on_stored(self, batch: list[_Entry], handles: Mapping[str, int]) -> None:
        changes = [entry.change for entry in batch]
        self.stats.count_stored(changes)
        self.on_committed(changes)
        for number, entry in enumerate(batch, start=1):
            change = entry.change
            entry.is_done = True
            if entry.on_stored is not None:
                try:
                    entry.on_stored(handles[change.spec.id] if isinstance(change, AddProcess) else 0)
                except Exception:  # the change is stored, and others wait
                    log.exception("a change is stored, but what was to follow has failed")
            if number % _CALLBACKS_PER_STEP == 0:
                await asyncio.sleep(0)

    async def _store(self, batch: list[_Entry]) -> Mapping[str, int]:
        loop = asyncio.get_running_loop()
        watch = loop.call_later(STALL_S, self._on_stall, batch)
        began = loop.time()
        try:
            handles = await self._storage.commit([entry.change for entry in batch])
        except Exception:
            self.stats.errors += 1
            raise
        else:
            self.stats.commits += 1
            return handles
        finally:
            watch.cancel()
            self._stalled = False
            duration_s = loop.time() - began
            self.stats.duration_s.observe(duration_s)
            self._flush_policy.committed(duration_s)

    def _on_stall(self, batch: list[_Entry]) -> None:
        """Fail the callers that wait. The outcome of the commit is handled when it returns."""
        self._stalled = True
        waiting = self._take_from_queue(lambda entry: entry.on_failed is not None)
        self._fail_waiting([*batch, *waiting], _STALLED)

    async def _isolate(self, batch: list[_Entry], error: Exception) -> bool:
        """Commit the changes of one process at a time, to find the process whose change the store rejects."""
        groups: dict[int | str, list[_Entry]] = {}
        for entry in batch:
            groups.setdefault(entry.process, []).append(entry)
        if len(groups) > 1:
            while groups:
                if not await self._attempt(groups.pop(next(iter(groups)))):
                    self._fail([entry for group in groups.values() for entry in group], str(error))
                    return False
        # By the contract, a ValueError means that a change cannot be stored. Any other error may come from a store
        # that cannot commit at all, whatever the change.
        elif batch and (isinstance(error, ValueError) or await self._can_commit()):
            self._reject(batch, error)
        else:
            log.error("the store failed with an unexpected error", exc_info=error)
            self._fail(batch, f"{type(error).__name__}: {error}")
            return False
        return True

    async def _can_commit(self) -> bool:
        try:
            await self._store([])
        except Exception:  # noqa: BLE001 - any error means that it cannot
            return False
        return True

    def _reject(self, batch: list[_Entry], error: Exception) -> None:
        log.error("the store rejects a change of one process", exc_info=error)
        self._recover()
        process = batch[0].process
        refusal = error if isinstance(error, Unavailable) else StorageError(f"the store rejects this: {error}")
        for entry in batch:
            entry.is_done = True
            if entry.on_failed is not None:
                entry.on_failed(refusal)
            elif isinstance(entry.change, PurgeProcess | WithdrawProcess):  # nothing else would delete the process
                asyncio.get_running_loop().call_later(_POSTPONE_S, self._enqueue, entry)
        # Output after a rejected chunk does not join what is stored.
        dropped = self._take_from_queue(
            lambda entry: entry.process == process and isinstance(entry.change, Chunk | EndRun | CompleteOutput)
        )
        for entry in dropped:
            entry.is_done = True
        submitted = next((entry.change for entry in batch if entry.on_failed is None), None)
        if submitted is not None:
            self.on_rejected(submitted, f"{type(error).__name__}: {error}")

    def _fail(self, batch: list[_Entry], reason: str, *, is_urgent: bool = False) -> None:
        """Fail the callers that wait, and queue submitted changes again.

        That includes callers whose changes stand behind more output than one batch takes. Only what may still find
        room goes on waiting: urgent changes, until a batch of them (`is_urgent`) has failed, too.
        """

        def goes_on(entry: _Entry) -> bool:
            may_pass = not is_urgent and not entry.is_done and isinstance(entry.change, _URGENT)
            return entry.on_failed is None or may_pass

        self._queue.extendleft(entry for entry in reversed(batch) if goes_on(entry))
        late = self._take_from_queue(
            lambda entry: entry.on_failed is not None and not isinstance(entry.change, _URGENT)
        )
        self._fail_waiting([*(entry for entry in batch if not goes_on(entry)), *late], reason)

    def _take_from_queue(self, is_taken: Callable[[_Entry], bool]) -> list[_Entry]:
        taken: list[_Entry] = []
        left: deque[_Entry] = deque()
        for entry in self._queue:
            (taken if is_taken(entry) else left).append(entry)
        self._queue = left
        return taken

    def _fail_waiting(self, entries: list[_Entry], reason: str) -> None:
        if self.failure is None or (self.failure == _STALLED and reason != _STALLED):  # now the cause is known
            log.error("the store cannot commit; the shim keeps all output until it can: %s", reason)
        self.failure = reason
        for entry in entries:
            if entry.on_failed is not None:
                entry.is_done = True
                entry.on_failed(StorageUnavailable(f"the store cannot commit now: {reason}"))

    def _recover(self) -> None:
        self._failures = 0
        if self.failure is not None:
            log.warning("the store commits again")
            self.failure = None


def _resolve(future: asyncio.Future[None] | None) -> None:
    if future is not None:
        future.set_result(None)
