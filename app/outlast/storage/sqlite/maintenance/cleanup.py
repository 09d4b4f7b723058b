"""The cleanup task: checkpoints and reclamation, in small steps on the writer's thread between commits."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from outlast.model.errors import OutlastError
from outlast.storage.sqlite.connection import PAGE_SIZE_BYTES, translated
from outlast.storage.sqlite.maintenance.checkpoint import Checkpointer
from outlast.storage.sqlite.maintenance.reclamation import (
    Vacuum,
    count_excess_pages,
    count_free_pages,
    delete_purged_rows,
    has_purged,
)
from outlast.storage.sqlite.maintenance.reserve import Reserve
from outlast.storage.sqlite.trimming import delete_trimmed_rows, has_trimmed_rows

Runner = Callable[[Callable[[sqlite3.Connection], bool]], Awaitable[bool]]

_RETRY_S = 5.0
_MAX_REST_S = 0.02

_SHRINK_BYTES = 512 * 1024 * 1024
"""Bytes of returned pages after which the log is written back, with which the file shrinks. The file system takes its
time for each, and the next commit waits for it."""

_log = logging.getLogger(__name__)


class CleanupTask:
    """A task that runs until the log is short, no deleted output is left and no free page is to be returned."""

    def __init__(self, path: Path, reserve: Reserve) -> None:
        """`reserve`: given up if the disk is too full for freeing space."""
        self._path = path
        self._reserve = reserve
        self._checkpointer = Checkpointer(path, reserve)
        self._is_freeing = False
        self._gives_all_back = False
        self._vacuum = Vacuum()
        self._step_s = 0.0
        self._returned_pages = 0
        self._task: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None

    def is_due(self) -> bool:
        """Tell whether the log has grown enough for a checkpoint."""
        return self._checkpointer.is_due()

    def start(self, run: Runner, *, gives_all_back: bool = False) -> None:
        """Start the task, unless it runs: each of its steps looks for everything that is due.

        Args:
            run: a function that runs a step on the writer's thread.
            gives_all_back: whether all free pages are returned, and not only those that need not stay in the file.
        """
        self._gives_all_back |= gives_all_back
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(run))

    async def stop(self) -> None:
        """Stop the task between two steps. The next opening of the store continues where it was."""
        if self._retry:
            self._retry.cancel()
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._task = None

    async def wait_idle(self) -> None:
        """Wait until the task has nothing to do."""
        if self._task:
            await self._task

    def run_step(self, db: sqlite3.Connection) -> bool:
        """Do a small piece of work on the writer's thread. Return whether more is left."""
        began = time.perf_counter()
        try:
            self._is_freeing |= has_purged(db) or has_trimmed_rows(db)
            if not self._is_freeing:
                return self._do_step(db)
            return self._reserve.use(lambda: translated(db, self._do_step))
        finally:
            self._step_s = time.perf_counter() - began

    def _do_step(self, db: sqlite3.Connection) -> bool:
        if self._checkpointer.is_due() or (self._is_freeing and self._reserve.is_tight):
            self._checkpointer.checkpoint(db)
        if delete_purged_rows(db) or delete_trimmed_rows(db):
            return True
        gives_all_back = self._gives_all_back or (self._is_freeing and self._reserve.is_tight)
        free = count_free_pages(db)
        excess = free if gives_all_back else count_excess_pages(db)
        if excess:
            returned = self._vacuum.step(db, min(excess, self._reserve.log_bytes // PAGE_SIZE_BYTES))
            self._returned_pages += returned
            if self._returned_pages * PAGE_SIZE_BYTES >= _SHRINK_BYTES:
                self._returned_pages = 1
                self._checkpointer.checkpoint(db)
            if 0 < returned < free:
                return True
        if self._returned_pages or gives_all_back:
            self._checkpointer.checkpoint(db, truncate=self._is_freeing)
        self._is_freeing = self._gives_all_back = False
        self._returned_pages = 0
        return False  # also if pages are left: a file rebuilt by other tools may keep them for ever

    async def _rest(self) -> None:
        """Leave the store to commits, and the processor to other programs, for as long as the last step took."""
        await asyncio.sleep(min(self._step_s, _MAX_REST_S))

    async def _run(self, run: Runner) -> None:
        try:
            while await run(self.run_step):
                await self._rest()
        except OutlastError as error:
            _log.warning("cleanup of %s failed and is retried later: %s", self._path, error)
            if self._is_freeing:
                self._retry = asyncio.get_running_loop().call_later(_RETRY_S, self.start, run)
