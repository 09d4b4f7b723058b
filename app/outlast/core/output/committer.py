"""Group commit: whatever has come in while one commit was under way goes into the next.

A lone line is committed at once, a flood in large batches. What somebody waits for is never held back; of the rest
`pace.py` says when.
"""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from outlast.core.output.flush_policy import FlushPolicy
from outlast.failpoints import failpoint
from outlast.model.errors import OutlastError, StorageError, StorageUnavailable, Unavailable
from outlast.model.output import Chunk
from outlast.storage import AddProcess, Change, CompleteOutput, EndRun, RecordUsage, Storage, WithdrawProcess
from outlast.wire.contract import FRAME_OVERHEAD_BYTES, WINDOW_BYTES

log = logging.getLogger(__name__)

STALL_S = 5.0
"""A commit that takes longer counts as a failure, for `health` and for whoever waits; it itself is waited for."""

BATCH_BYTES = WINDOW_BYTES // 3
"""So much goes into one commit, and so much is never held back. While one is under way, the next is there already."""

_BATCH_CHANGES = 8192
_ENTRIES_A_TURN = 256  # that are told of their commit in one go: then others have their turn
_RETRY_S = 0.5
_CATCH_UP_S = 1.0


@dataclass(slots=True)
class _Entry:
    change: Change
    done: Callable[[int], None]
    failed: Callable[[OutlastError], None] | None

    @property
    def process(self) -> int | str:
        """What it is about. No process's changes need those of another."""
        match self.change:
            case AddProcess(spec=spec):
                return spec.id
            case WithdrawProcess(process_id=process_id):
                return process_id
            case change:
                return change.handle


class Committer:
    """The one task that calls `Storage.commit`, never a second time before the first has returned.

    When the store cannot commit, what is patient waits and is tried again for as long as it takes; what has somebody
    waiting for an answer fails at once. A change that the store refuses, and with it all of its process that waits, is
    dropped, so that it holds up no other process.

    Attributes:
        failure: why the store cannot commit now; None again when a commit went through.
        on_committed: called with the changes of each commit, before anybody who waits for one of them.
        on_refused: called with a patient change that was dropped, and why. Nothing of it was acknowledged.
    """

    def __init__(self, storage: Storage, hold_back_bytes: int = BATCH_BYTES) -> None:
        """`hold_back_bytes`: so much output is committed at once even if nobody waits for it."""
        self._storage = storage
        self._queue: deque[_Entry] = deque()
        self._pace = FlushPolicy(hold_back_bytes)
        self._watched: Counter[int] = Counter()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._attempted: asyncio.Future[None] | None = None
        self._stalled = False
        self._task: asyncio.Task[None] | None = None
        self.failure: str | None = None
        self.on_committed: Callable[[Sequence[Change]], None] = lambda _changes: None
        self.on_refused: Callable[[Change, str], None] = lambda _change, _reason: None

    def start(self) -> None:
        """Begin to commit."""
        self._task = asyncio.create_task(self._run(), name="committer")

    async def stop(self, timeout_s: float) -> None:
        """Commit what is queued, if that can be done in time, and end. What is left was never acknowledged."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.settled(), timeout_s)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def settled(self) -> None:
        """Wait until nothing is queued or under way."""
        while not self._idle.is_set():
            await self._next_attempt()

    def hurry(self) -> None:
        """Hold nothing back of what is queued now."""
        self._pace.hurry()

    async def catch_up(self) -> None:
        """Commit what is held back, for somebody who is about to read. A store in trouble is not waited for long."""
        if self._pace.is_holding:
            await self._next_attempt(_CATCH_UP_S)

    async def _next_attempt(self, timeout_s: float | None = None) -> None:
        """Let the next attempt come now, and wait until it is over, or there is none because nothing is queued."""
        if self._attempted is None:
            self._attempted = asyncio.get_running_loop().create_future()
        self._pace.hurry()
        await asyncio.wait([self._attempted], timeout=timeout_s)

    @contextlib.contextmanager
    def watching(self, handle: int) -> Iterator[None]:
        """Hold nothing back of a process: somebody watches what it prints."""
        self._watched[handle] += 1
        self._pace.hurry()
        try:
            yield
        finally:
            self._watched[handle] -= 1
            if not self._watched[handle]:
                del self._watched[handle]

    def submit(self, change: Change, done: Callable[[int], None]) -> None:
        """Queue a change that waits for as long as it takes. `done` is called after the commit."""
        self._put(_Entry(change, done, None))

    async def commit(self, change: Change) -> int:
        """Commit a change that somebody waits for, and return the handle if it is an `AddProcess`, else 0.

        Raises:
            StorageUnavailable: the store cannot commit now. It is not tried again; but whether it is stored is not
                known, and may be decided later. What undoes it can be submitted now: it comes behind it.
            StorageError: the store refuses this change.
        """
        if self._stalled:
            raise StorageUnavailable(f"the store cannot commit now: {self.failure}")
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def done(handle: int) -> None:
            if not future.done():
                future.set_result(handle)

        def failed(error: OutlastError) -> None:
            if not future.done():
                future.set_exception(error)

        self._put(_Entry(change, done, failed))
        return await future

    def _put(self, entry: _Entry) -> None:
        change = entry.change
        if isinstance(change, Chunk) and change.handle not in self._watched:
            self._pace.add(len(change.data) + FRAME_OVERHEAD_BYTES)
        elif not isinstance(change, RecordUsage):
            self._pace.hurry()
        self._queue.append(entry)
        self._idle.clear()
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue or self.failure is not None:  # nothing else would find out that it commits again
                if self.failure is None:
                    await self._pace.turn()
                attempted, self._attempted = self._attempted, None
                succeeded = await self._attempt(self._take())
                _resolve(attempted)
                if not succeeded:
                    await asyncio.sleep(_RETRY_S)
            self._idle.set()
            attempted, self._attempted = self._attempted, None
            _resolve(attempted)

    def _take(self) -> list[_Entry]:
        batch: list[_Entry] = []
        size = 0
        while self._queue and size < BATCH_BYTES and len(batch) < _BATCH_CHANGES:
            entry = self._queue.popleft()
            batch.append(entry)
            if isinstance(entry.change, Chunk):
                size += len(entry.change.data)
        if not self._queue:
            self._pace.taken()
        return batch

    async def _attempt(self, batch: list[_Entry]) -> bool:
        """Commit a batch, or put back what is patient. False: the store can't commit now."""
        failpoint("before-commit")
        try:
            handles = await self._store(batch)
        except Unavailable as exc:
            self._fail(batch, str(exc))
            return False
        except Exception as exc:  # noqa: BLE001 - whatever it is, it must not pass for a commit, nor end this task
            return await self._part(batch, exc)
        failpoint("after-commit")
        self._recover()
        self.on_committed([entry.change for entry in batch])
        for number, entry in enumerate(batch, start=1):
            change = entry.change
            entry.done(handles[change.spec.id] if isinstance(change, AddProcess) else 0)
            if number % _ENTRIES_A_TURN == 0:
                await asyncio.sleep(0)
        return True

    async def _store(self, batch: list[_Entry]) -> Mapping[str, int]:
        loop = asyncio.get_running_loop()
        watch = loop.call_later(STALL_S, self._on_stall, batch)
        began = loop.time()
        try:
            return await self._storage.commit([entry.change for entry in batch])
        finally:
            watch.cancel()
            self._stalled = False
            self._pace.rest(loop.time() - began)

    def _on_stall(self, batch: list[_Entry]) -> None:
        """Whoever waits is told; what comes of the commit is seen when it returns."""
        self._stalled = True
        waiting = [entry for entry in self._queue if entry.failed is not None]
        self._queue = deque(entry for entry in self._queue if entry.failed is None)
        self._tell([*batch, *waiting], f"a commit has been under way for more than {STALL_S:.0f} s")

    async def _part(self, batch: list[_Entry], error: Exception) -> bool:
        """Find out whose change the store chokes on, by committing one process's changes at a time."""
        groups: dict[int | str, list[_Entry]] = {}
        for entry in batch:
            groups.setdefault(entry.process, []).append(entry)
        if len(groups) > 1:
            while groups:
                if not await self._attempt(groups.pop(next(iter(groups)))):
                    self._fail([entry for group in groups.values() for entry in group], str(error))
                    return False
        # A ValueError is the contract's word for a change that can't be stored. Behind anything else there may be a
        # store that can't commit at all, and then nobody's changes are to blame.
        elif batch and (isinstance(error, ValueError) or await self._commits_at_all()):
            self._refuse(batch, error)
        else:
            log.error("the store failed in an unforeseen way", exc_info=error)
            self._fail(batch, f"{type(error).__name__}: {error}")
            return False
        return True

    async def _commits_at_all(self) -> bool:
        try:
            await self._store([])
        except Exception:  # noqa: BLE001 - an answer, too
            return False
        return True

    def _refuse(self, batch: list[_Entry], error: Exception) -> None:
        log.error("the store refuses what a process has written", exc_info=error)
        self._recover()
        process = batch[0].process
        for entry in batch:
            if entry.failed is not None:
                entry.failed(StorageError(f"the store refuses this: {error}"))
        # What comes behind a refused chunk does not join what is stored.
        self._queue = deque(
            entry
            for entry in self._queue
            if entry.process != process or not isinstance(entry.change, Chunk | EndRun | CompleteOutput)
        )
        patient = next((entry.change for entry in batch if entry.failed is None), None)
        if patient is not None:
            self.on_refused(patient, f"{type(error).__name__}: {error}")

    def _fail(self, batch: list[_Entry], reason: str) -> None:
        """Tell whoever waits, and put back what is patient."""
        self._queue.extendleft(entry for entry in reversed(batch) if entry.failed is None)
        self._tell(batch, reason)

    def _tell(self, entries: list[_Entry], reason: str) -> None:
        if self.failure is None:
            log.error("the store cannot commit; nothing is acknowledged until it can: %s", reason)
        self.failure = reason
        for entry in entries:
            if entry.failed is not None:
                entry.failed(StorageUnavailable(f"the store cannot commit now: {reason}"))

    def _recover(self) -> None:
        if self.failure is not None:
            log.warning("the store commits again")
            self.failure = None


def _resolve(future: asyncio.Future[None] | None) -> None:
    if future is not None:
        future.set_result(None)
