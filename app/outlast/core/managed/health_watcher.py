"""The watch over the health of runs: by a check, or by a line that says that a run is ready."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from outlast.core.managed.exec_check import ExecCheck
from outlast.core.managed.health_check import probe_port, watch_health
from outlast.core.managed.readiness import FindLine, watch_readiness
from outlast.core.managed.registry import ManagedProcess
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.managed import ManagedState
from outlast.model.options import HealthCheck

log = logging.getLogger(__name__)


class HealthWatcher:
    """Watches runs."""

    def __init__(
        self,
        supervisor: Supervisor,
        exec_check: Callable[[LiveProcess, HealthCheck], ExecCheck],
        find_line: FindLine,
        submit_state: Callable[[ManagedProcess, ManagedState], None],
    ) -> None:
        """Make a watcher.

        Args:
            supervisor: has the runs.
            exec_check: makes the check of a run by a command.
            find_line: waits for a line of a run.
            submit_state: called with each new state of a process.
        """
        self._supervisor = supervisor
        self._exec_check = exec_check
        self._find_line = find_line
        self._submit_state = submit_state

    @contextlib.asynccontextmanager
    async def watching(self, managed: ManagedProcess, live: LiveProcess) -> AsyncIterator[None]:
        """Watch a run inside the `with` block."""
        work = self._watch(managed, live)
        task = None if work is None else asyncio.create_task(work)
        try:
            yield
        finally:
            if task is not None and not task.cancel() and not task.cancelled() and (error := task.exception()):
                log.error("the health of process %s was not watched", managed.spec.id, exc_info=error)

    def _watch(self, managed: ManagedProcess, live: LiveProcess) -> Coroutine[Any, Any, None] | None:
        check, ready_log = managed.spec.options.health_check, managed.spec.options.ready_log
        if check is not None:
            return watch_health(managed, live, check, self._probe(live, check), self._supervisor, self._submit_state)
        if ready_log is not None:
            return watch_readiness(managed, live, ready_log, self._find_line, self._submit_state)
        return None

    def _probe(self, live: LiveProcess, check: HealthCheck) -> Callable[[], Awaitable[str | None]]:
        if check.port is not None:
            return partial(probe_port, check, check.port)
        return self._exec_check(live, check).probe
