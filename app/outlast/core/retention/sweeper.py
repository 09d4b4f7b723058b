"""The task that deletes what the settings say, in small steps between commits."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence

from outlast.core.commands.termination import Termination
from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.output.committer import Committer
from outlast.core.retention.account import Account
from outlast.core.retention.census import Census
from outlast.core.retention.policy import RetentionPolicy
from outlast.core.retention.purger import Purger
from outlast.core.retention.trimmer import OutputTrimmer
from outlast.model.errors import OutlastError
from outlast.storage import Change, Storage

log = logging.getLogger(__name__)

INTERVAL_S = 10.0
"""Time between two looks at what is stored, unless a hundredth of a limit is written sooner."""

_REST_S = 0.02
"""Minimum time between two looks: a small limit would be looked at after each commit."""


class RetentionSweeper:
    """The task of one daemon. Between two steps, the store is free for at least as long as the last step took."""

    def __init__(
        self,
        storage: Storage,
        committer: Committer,
        termination: Termination,
        chunk_cache: ChunkCache,
        policy: RetentionPolicy,
        census: Census,
    ) -> None:
        """Make the sweeper. See `OutputTrimmer` and `Purger`."""
        self._account = Account()
        self._trimmer = OutputTrimmer(storage, committer, chunk_cache, policy, self._account)
        self._purger = Purger(storage, termination, policy, self._account, census)
        self._is_due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def on_committed(self, changes: Sequence[Change]) -> None:
        """Count what is written, and look at what is stored when that is enough."""
        if self._trimmer.record_commit(changes):
            self._is_due.set()

    def start(self) -> None:
        """Start the task."""
        self._task = asyncio.create_task(self._run(), name="retention")

    async def stop(self) -> None:
        """Stop the task between two steps."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        purged_at = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await self._is_due.wait()
            self._is_due.clear()
            try:
                await self._trimmer.trim()
                if time.monotonic() - purged_at >= INTERVAL_S:
                    await self._purger.purge()
                    purged_at = time.monotonic()
            except OutlastError as exc:
                log.debug("retention continues later: %s", exc)  # the committer logs this, as an error
                await asyncio.sleep(INTERVAL_S)
            except Exception:  # a failed step must not end the daemon
                log.exception("retention has failed, and continues later")
                await asyncio.sleep(INTERVAL_S)
            self._account.tell()
            await asyncio.sleep(_REST_S)
