"""Purges of processes that have ended, and of old events."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from outlast.core.retention.account import Account
from outlast.core.retention.pace import STUCK_S, rest_after
from outlast.core.retention.policy import RetentionPolicy
from outlast.model.clock import now_ms
from outlast.model.retention import Rule
from outlast.storage import EndedProcess, Storage

STEP_PROCESSES = 16
"""Maximum number of processes purged in one step. A commit waits for one step at most."""

STEP_EVENTS = 500
"""Maximum number of events deleted in one step."""


class Purges(Protocol):
    """A submitter of purges. See `Termination.purge_ended`."""

    def purge_ended(self, ended: EndedProcess, rule: Rule) -> asyncio.Future[int] | None:
        """Submit a purge, and return a future of its commit; None: another call purges the process."""


class Counts(Protocol):
    """The processes that are in use. See `Census`."""

    def is_in_use(self, process_id: str) -> bool:
        """Return whether a process runs, or may be restarted by its policy."""

    async def count_ended(self) -> int:
        """Return the number of stored processes that are neither in use nor kept always."""


class Purger:
    """The purges of one daemon that nobody asked for."""

    def __init__(
        self,
        storage: Storage,
        purges: Purges,
        policy: RetentionPolicy,
        account: Account,
        census: Counts,
    ) -> None:
        self._storage = storage
        self._purges = purges
        self._policy = policy
        self._account = account
        self._census = census

    async def purge(self) -> None:
        """Delete all that is over a limit now."""
        policy = self._policy
        await self._purge_by_own_limits()
        if policy.ended_ms:
            await self._purge_ended(Rule.ENDED_S, _always, now_ms() - policy.ended_ms)
        if policy.ended:
            await self._purge_ended(Rule.ENDED, self._count_excess)
        if policy.events_ms:
            before_ms = now_ms() - policy.events_ms
            while count := await rest_after(self._storage.trim_events(before_ms=before_ms, limit=STEP_EVENTS)):
                self._account.add(Rule.EVENTS_S, count)

    async def _count_excess(self) -> int:
        return min(STEP_PROCESSES, await self._census.count_ended() - self._policy.ended)

    async def _purge_by_own_limits(self) -> None:
        """Purge the processes whose start says how long they are kept."""
        while found := await self._storage.ended(limit=STEP_PROCESSES, own_until_ms=now_ms()):
            if not await rest_after(self._purge(Rule.ENDED_S, found)):
                return

    async def _purge_ended(
        self, rule: Rule, count_allowed: Callable[[], Awaitable[int]], until_ms: int | None = None
    ) -> None:
        """Purge ended processes, oldest end first, as many at a time as are allowed, until none is."""
        last: EndedProcess | None = None
        while (limit := await count_allowed()) > 0:
            found = await self._storage.ended(limit=limit, after=last, until_ms=until_ms)
            if not found:
                return
            last = found[-1]
            await rest_after(self._purge(rule, found))

    async def _purge(self, rule: Rule, found: list[EndedProcess]) -> int:
        """Purge processes that are not in use, and return how many."""
        # From the look at whether a process is in use to the submission, nothing else runs: a restart that comes later
        # finds that the process is purged.
        purges = [
            purge
            for process in found
            if not self._census.is_in_use(process.process_id)
            and (purge := self._purges.purge_ended(process, rule)) is not None
        ]
        if not purges:
            return 0
        done, _ = await asyncio.wait(purges, timeout=STUCK_S)
        self._account.add(rule, len(done))
        return len(done)


async def _always() -> int:
    return STEP_PROCESSES
