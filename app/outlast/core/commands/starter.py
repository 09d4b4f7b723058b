"""Starting a run, the first or a later one: spawn it, record it, and let it execute its program."""

import logging
import time
from collections.abc import Mapping, Sequence

from outlast.core.commands.spawn_errors import explain
from outlast.core.commands.start_request import make_command
from outlast.core.commands.users import Identity
from outlast.core.output.committer import Committer
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.failpoints import failpoint
from outlast.model.errors import NoAnswer, OutlastError, OutOfResources, ShimUnavailable, after_effects
from outlast.model.output import Position
from outlast.model.process import Process, ProcessSpec, run_key
from outlast.shimlink import SpawnRefused
from outlast.storage import AddProcess, BeginRun

log = logging.getLogger(__name__)

_WITHDRAW_WAIT_S = 2.0
_LOG_INTERVAL_S = 60.0
_NO_OUTPUT = Position()


class Starter:
    """The one way in which runs are started.

    Attributes:
        inherit_env: names of environment variables that processes inherit from the daemon.
        refused: number of starts that the system refused before they were recorded.
    """

    def __init__(self, committer: Committer, supervisor: Supervisor, inherit_env: Sequence[str]) -> None:
        self._committer = committer
        self._supervisor = supervisor
        self.inherit_env = inherit_env
        self.refused = 0
        self._shortage_logged_at = -_LOG_INTERVAL_S

    async def start_run(
        self,
        spec: ProcessSpec,
        env: Mapping[str, str],
        identity: Identity,
        *,
        earlier: Process | None = None,
        position: Position = _NO_OUTPUT,
    ) -> LiveProcess:
        """Start a run. When this returns, the run is recorded, and executes its program or has executed it.

        Args:
            spec: the process.
            env: environment variables that the request gave.
            identity: the user that the run executes as.
            earlier: the process with its last run, which is over; None if this is the first run.
            position: how far the output of the earlier runs is stored.

        Raises:
            SpawnFailed: the run could not be started. Its record is withdrawn, or will be.
            OutOfResources: likewise, and nothing is wrong with the request.
            Unavailable: the store or the shim is not available now; nothing was started.
            Interrupted: the daemon is stopping, and the next one may start the run.
        """
        try:
            return await self._start_run(spec, env, identity, earlier, position)
        except OutOfResources as exc:
            self._log_shortage(exc)
            raise

    def _log_shortage(self, error: OutOfResources) -> None:
        """Log that a start is refused: once a minute at most, because clients try again."""
        now = time.monotonic()
        if now >= self._shortage_logged_at + _LOG_INTERVAL_S:
            self._shortage_logged_at = now
            log.warning("starts are refused: %s", error)

    async def _start_run(
        self,
        spec: ProcessSpec,
        env: Mapping[str, str],
        identity: Identity,
        earlier: Process | None,
        position: Position,
    ) -> LiveProcess:
        is_first = earlier is None
        number = 1 if earlier is None else earlier.run.number + 1
        handle = 0 if earlier is None else earlier.handle
        command = make_command(spec, env, identity, run_key(spec.id, number), self.inherit_env)
        try:
            with self._committer.expecting():
                live = await self._supervisor.spawn(spec, command, number, position)
                live.is_spec_stored = earlier is None or earlier.spec == spec
        except SpawnRefused as exc:
            self.refused += 1
            raise explain(exc.stage, exc.errno, spec) from None
        except NoAnswer as exc:
            raise ShimUnavailable(f"the process was not started: {exc}") from exc  # it would wait at its gate
        failpoint("start-forked" if is_first else "restart-forked")
        try:
            if is_first:
                handle = await self._committer.commit(AddProcess(spec, live.run))
            else:
                await self._committer.commit(BeginRun(handle, live.run))
        except OutlastError:
            # The record may be stored all the same, now or by a commit under way. The withdrawal is committed after it.
            self._committer.submit(live.withdrawal(handle))
            with after_effects("the daemon is stopping, and the next one may start the process"):
                await self._supervisor.undo_spawn(live)
            raise
        failpoint("start-recorded" if is_first else "restart-recorded")
        if is_first:
            self._supervisor.count_added()
        self._supervisor.start_recording(live, handle, position)
        await wait_started(live)
        return live


async def wait_started(live: LiveProcess) -> None:
    """Wait until a run that is recorded executes its program.

    Raises:
        SpawnFailed: the program could not be executed. The record of the run is withdrawn, or will be.
        OutOfResources: likewise, and nothing is wrong with the request.
    """
    await live.wait(lambda: live.started or live.failed is not None)
    if live.failed is not None:
        await live.wait(lambda: live.finished, _WITHDRAW_WAIT_S)
        stage, number = live.failed
        raise explain(stage, number, live.spec)
