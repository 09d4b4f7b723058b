"""Figures of the whole daemon at one moment, for metrics. Nothing is gathered before they are asked for."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from outlast.core.commands.starter import Starter
from outlast.core.managed.registry import ManagedProcess, ManagedRegistry
from outlast.core.output.commit_stats import CommitStats
from outlast.core.output.committer import Committer
from outlast.core.supervision.supervisor import Supervisor
from outlast.linux.disk_space import free_bytes
from outlast.model.errors import OutlastError
from outlast.model.managed import HealthStatus
from outlast.model.shortage import shortages_told
from outlast.model.totals import StoreFigures
from outlast.model.usage import UsageSample
from outlast.shimlink import ShimUsage
from outlast.storage import Storage

_ANSWER_S = 1.0
"""Time that the store and the shim have to answer: then what they know is left out."""


class NamedProcessFigures(NamedTuple):
    """Figures of a live process with a name. None: unknown, or there is nothing to tell.

    Attributes:
        is_up: whether a run has been started whose end is not stored.
        started_at_ms: start of the current run.
        runs: number of its runs.
        is_healthy: result of its health checks.
        usage: the latest sample of the current run.
        output_bytes: bytes of standard output and standard error, over all runs.
        last_output_ms: when the last output that this daemon has seen was read.
        last_exit: exit code of the last run that has ended; of one that was ended by a signal, 128 + its number.
    """

    name: str
    tags: Mapping[str, str]
    is_up: bool
    started_at_ms: int | None
    runs: int
    is_healthy: bool | None
    usage: UsageSample | None
    output_bytes: tuple[int, int] | None
    last_output_ms: int | None
    last_exit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFigures:
    """Figures of the daemon, its store and its shim.

    Attributes:
        store_works: whether the store commits.
        store: what the store tells; None: it cannot be read now.
        spool_bytes: size of the buffer files on disk.
        filesystem_free_bytes: space that is left on the file system of the store, or else of the state folder.
        shim_works: whether the shim answers.
        shim_restarts: how often another shim has taken the place of one that had ended.
        shim: what the shim tells; None: it does not.
        processes: number of processes in the store.
        running: number of processes that have not ended.
        backing_off: number of processes that wait for their next start.
        refused_starts: number of starts that the system refused to this daemon.
        unstored_bytes: output that the daemon knows of and that is not stored.
        commits: figures of the commits.
        output_followers: number of clients that follow output.
        event_followers: number of clients that follow events.
    """

    store_works: bool
    store: StoreFigures | None
    spool_bytes: int
    filesystem_free_bytes: int | None
    shim_works: bool
    shim_restarts: int
    shim: ShimUsage | None
    processes: int
    running: int
    backing_off: int
    refused_starts: int
    unstored_bytes: int
    commits: CommitStats
    output_followers: int
    event_followers: int


class MetricsReader:
    """A reader of all figures. Attributes of other objects are read, and nothing of them is changed."""

    def __init__(
        self,
        *,
        storage: Storage,
        committer: Committer,
        supervisor: Supervisor,
        registry: ManagedRegistry,
        starter: Starter,
        followers: Callable[[], tuple[int, int]],
        state_dir: Path,
    ) -> None:
        """`followers`: returns the numbers of clients that follow output and events."""
        self._storage = storage
        self._committer = committer
        self._supervisor = supervisor
        self._registry = registry
        self._starter = starter
        self._followers = followers
        self._state_dir = state_dir

    async def read(self) -> DaemonFigures:
        """Return the figures of the daemon. What store and shim do not tell within a second is left out.

        Raises:
            OutOfResources: the system has no thread to look at the disk.
        """
        with shortages_told("look at the disk"):
            spool_bytes, free_bytes = await asyncio.to_thread(_disk, self._state_dir)
        store, (shim_works, shim) = await asyncio.gather(self._ask_store(), self._ask_shim())
        running = sum(not live.ended for live in self._supervisor)
        followers = self._followers()
        stored_free = None if store is None else store.filesystem_free_bytes
        return DaemonFigures(
            store_works=self._committer.failure is None,
            store=store,
            spool_bytes=spool_bytes,
            filesystem_free_bytes=free_bytes if stored_free is None else stored_free,
            shim_works=shim_works,
            shim_restarts=self._supervisor.shim_restarts,
            shim=shim,
            processes=self._supervisor.total,
            running=running,
            backing_off=sum(managed.should_run and not managed.is_up for managed in self._registry),
            refused_starts=self._starter.refused,
            unstored_bytes=self._supervisor.unstored_bytes,
            commits=self._committer.stats,
            output_followers=followers[0],
            event_followers=followers[1],
        )

    def named_processes(self) -> Iterator[NamedProcessFigures]:
        """Yield the figures of each live process with a name, oldest first."""
        for managed in sorted(self._registry, key=lambda managed: managed.handle):
            if managed.spec.name is not None:
                yield _figures(managed, managed.spec.name)

    async def _ask_store(self) -> StoreFigures | None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._storage.figures()
        except (OutlastError, TimeoutError):
            return None

    async def _ask_shim(self) -> tuple[bool, ShimUsage | None]:
        try:
            return True, await self._supervisor.link.usage(_ANSWER_S)
        except OutlastError:
            return False, None


def _figures(managed: ManagedProcess, name: str) -> NamedProcessFigures:
    live, state = managed.live, managed.state
    is_up = managed.is_up
    last = state.last_exit
    return NamedProcessFigures(
        name=name,
        tags=managed.spec.tags,
        is_up=is_up,
        started_at_ms=live.run.started_at_ms if live is not None and is_up else None,
        runs=managed.run_number,
        is_healthy=None if state.health is None else state.health is HealthStatus.HEALTHY,
        usage=live.usage.latest() if live is not None and is_up else None,
        output_bytes=None if live is None else (live.position.stdout_end, live.position.stderr_end),
        last_output_ms=live.last_output_ms or None if live is not None else None,
        last_exit=None if last is None else 128 + last.signal if last.signal is not None else last.exit_code,
    )


def _disk(state_dir: Path) -> tuple[int, int | None]:
    """Return the size of the buffer files on disk, and the space that is left. Files may go while this looks."""
    spool_bytes = 0
    try:
        with os.scandir(state_dir / "spool") as files:
            for file in files:
                spool_bytes += file.stat().st_size
    except OSError:
        pass  # mostly, there is none
    return spool_bytes, free_bytes(state_dir)
