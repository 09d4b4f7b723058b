"""The task that deletes what the settings say, in small steps between commits."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum

from outlast.core.commands.termination import Termination
from outlast.core.retention.policy import RetentionPolicy
from outlast.model.clock import now_ms
from outlast.model.errors import OutlastError
from outlast.storage import EndedProcess, Storage

log = logging.getLogger(__name__)

INTERVAL_S = 10.0
"""Time between two looks at what is stored."""

LOG_INTERVAL_S = 3600.0
"""Minimum time between two log lines that tell what was deleted."""

STEP_PROCESSES = 16
"""Maximum number of processes purged in one step. A commit waits for one step at most."""

_MIN_REST_S = 0.005
_STUCK_S = 60.0
"""Time after which a step that cannot be committed is left to the committer, which tries it again."""


class Rule(StrEnum):
    """Setting by which something was deleted."""

    ENDED_S = "keep_ended_s"
    ENDED = "keep_ended"


_TOLD = {
    Rule.ENDED_S: "{count} ended processes by keep_ended_s",
    Rule.ENDED: "{count} ended processes by keep_ended",
}


class RetentionSweeper:
    """The task of one daemon. Between two steps, the store is free for at least as long as the last step took."""

    def __init__(
        self,
        storage: Storage,
        termination: Termination,
        policy: RetentionPolicy,
        *,
        is_in_use: Callable[[str], bool],
        count_ended: Callable[[], int],
    ) -> None:
        """Make the sweeper.

        Args:
            storage: the store.
            termination: purges processes.
            policy: what is deleted.
            is_in_use: a function that tells whether the process with an id runs, or may be restarted by its policy.
            count_ended: a function that returns how many stored processes are not in use.
        """
        self._storage = storage
        self._termination = termination
        self._policy = policy
        self._is_in_use = is_in_use
        self._count_ended = count_ended
        self._deleted: Counter[Rule] = Counter()
        self._logged_at: float | None = None
        self._task: asyncio.Task[None] | None = None

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
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self._sweep()
            except OutlastError as exc:
                log.debug("retention continues later: %s", exc)  # the committer logs this, as an error
            except Exception:  # a failed step must not end the daemon
                log.exception("retention has failed, and continues later")
            self._tell()

    async def _sweep(self) -> None:
        """Delete all that is over a limit now."""
        policy = self._policy
        if policy.ended_ms:
            await self._purge_ended(Rule.ENDED_S, lambda: STEP_PROCESSES, now_ms() - policy.ended_ms)
        if policy.ended:
            await self._purge_ended(Rule.ENDED, lambda: min(STEP_PROCESSES, self._count_ended() - policy.ended))

    async def _purge_ended(self, rule: Rule, allowed: Callable[[], int], until_ms: int | None = None) -> None:
        """Purge ended processes, oldest end first, `allowed()` at a time while that is positive."""
        last: EndedProcess | None = None
        while (limit := allowed()) > 0:
            found = await self._storage.ended(limit=limit, after=last, until_ms=until_ms)
            if not found:
                return
            last = found[-1]
            await _rest_after(self._purge(rule, found))

    async def _purge(self, rule: Rule, found: list[EndedProcess]) -> None:
        # From the look at whether a process is in use to the submission, nothing else runs: a restart that comes later
        # finds that the process is purged.
        purges = [
            purge
            for process in found
            if not self._is_in_use(process.process_id) and (purge := self._termination.purge_ended(process)) is not None
        ]
        if purges:
            done, _ = await asyncio.wait(purges, timeout=_STUCK_S)
            self._deleted[rule] += len(done)

    def _tell(self) -> None:
        now = time.monotonic()
        if not self._deleted or (self._logged_at is not None and now - self._logged_at < LOG_INTERVAL_S):
            return
        told = ", ".join(_TOLD[rule].format(count=count) for rule, count in sorted(self._deleted.items()))
        log.info("deleted to keep within the limits: %s", told)
        self._deleted.clear()
        self._logged_at = now


async def _rest_after(step: Awaitable[None]) -> None:
    """Await a step, then leave the store to others for as long as the step took."""
    began = time.monotonic()
    await step
    await asyncio.sleep(max(_MIN_REST_S, time.monotonic() - began))
