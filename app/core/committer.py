"""Group commit: whatever has come in while one commit was under way goes into the next.

A lone line is committed at once, a flood in large batches; there is no delay to choose.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.crash import crash_point
from app.model.errors import OutlastError, StorageUnavailable
from app.model.output import Chunk
from app.storage import AddProcess, Change, Storage

log = logging.getLogger(__name__)

_BATCH_BYTES = 8 << 20
_BATCH_CHANGES = 4096
_RETRY_S = 0.5


@dataclass(slots=True)
class _Entry:
    change: Change
    done: Callable[[int], None]
    failed: Callable[[OutlastError], None] | None


class Committer:
    """The one task that calls `Storage.commit`.

    When the store cannot commit, what is patient waits and is tried again for as long as it takes; what has somebody
    waiting for an answer fails at once. `failure` says why, and is None again when a commit went through.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._queue: deque[_Entry] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.failure: str | None = None

    def start(self) -> None:
        """Begin to commit."""
        self._task = asyncio.create_task(self._run(), name="committer")

    async def stop(self, timeout_s: float) -> None:
        """Commit what is queued, if that can be done in time, and end. What is left was never acknowledged."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def settled(self) -> None:
        """Wait until nothing is queued or under way."""
        await self._idle.wait()

    def submit(self, change: Change, done: Callable[[int], None]) -> None:
        """Queue a change that waits for as long as it takes. `done` is called after the commit."""
        self._put(_Entry(change, done, None))

    async def commit(self, change: Change) -> int:
        """Commit a change that somebody waits for, and return the handle if it is an `AddProcess`, else 0.

        Raises:
            StorageUnavailable: the store cannot commit now, and nothing of the change was stored.
        """
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
        self._queue.append(entry)
        self._idle.clear()
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                batch = self._take()
                crash_point("before-commit")
                try:
                    handles = await self._storage.commit([entry.change for entry in batch])
                except OutlastError as exc:
                    await self._on_failure(batch, exc)
                except Exception as exc:  # a defect must not pass for a commit
                    log.exception("the store failed in an unforeseen way")
                    await self._on_failure(batch, StorageUnavailable(f"the store failed: {exc}"))
                else:
                    crash_point("after-commit")
                    self._on_success(batch, handles)
            self._idle.set()

    def _take(self) -> list[_Entry]:
        batch: list[_Entry] = []
        size = 0
        while self._queue and size < _BATCH_BYTES and len(batch) < _BATCH_CHANGES:
            entry = self._queue.popleft()
            batch.append(entry)
            if isinstance(entry.change, Chunk):
                size += len(entry.change.data)
        return batch

    def _on_success(self, batch: list[_Entry], handles: Mapping[str, int]) -> None:
        if self.failure is not None:
            log.warning("the store commits again")
            self.failure = None
        for entry in batch:
            change = entry.change
            entry.done(handles[change.spec.id] if isinstance(change, AddProcess) else 0)

    async def _on_failure(self, batch: list[_Entry], error: OutlastError) -> None:
        if self.failure is None:
            log.error("the store cannot commit; nothing is acknowledged until it can: %s", error)
        self.failure = str(error)
        patient = []
        for entry in batch:
            if entry.failed is None:
                patient.append(entry)
            else:
                entry.failed(error)
        self._queue.extendleft(reversed(patient))
        if self._queue:
            await asyncio.sleep(_RETRY_S)
