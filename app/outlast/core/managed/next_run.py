"""Beginning a further run of a managed process."""

import asyncio
from collections.abc import Sequence

from outlast.core.commands import users
from outlast.core.commands.start_request import StartRequest, explain, make_command
from outlast.core.commands.starter import started
from outlast.core.managed.env_encryption import EnvEncryption
from outlast.core.managed.registry import ManagedProcess
from outlast.core.output.committer import Committer
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.failpoints import failpoint
from outlast.model.errors import NotFound, OutlastError, Unavailable
from outlast.model.process import Process, ProcessSpec, run_key
from outlast.shimlink import SpawnRefused
from outlast.storage import BeginRun, CompleteOutput, Storage, WithdrawRun
from outlast.wire.contract import MARKER, Command

_DRAIN_S = 10.0


class RunStarter:
    """Begins runs, one after the other: the tree of the earlier one is gone, and its output is stored."""

    def __init__(
        self,
        storage: Storage,
        committer: Committer,
        supervisor: Supervisor,
        seal: EnvEncryption,
        inherit_env: Sequence[str],
    ) -> None:
        self._storage = storage
        self._committer = committer
        self._supervisor = supervisor
        self._seal = seal
        self._inherit_env = inherit_env

    async def begin(self, managed: ManagedProcess) -> LiveProcess:
        """Begin the next run; it runs when this returns, or has run. Holds the process's lock.

        Raises:
            EnvKeyLost: its environment can't be opened.
            SpawnFailed: it could not be started; no trace of this run is kept.
            Unavailable: store or shim can't take it now; nothing was started.
        """
        process = await self._storage.process(managed.handle)
        if process is None:
            raise NotFound(f"process {managed.spec.id} is purged")
        spec, number = process.spec, process.run.number + 1
        command = await self._command(spec, number)
        await self._clear(process)
        position = await self._storage.position(managed.handle)
        try:
            live = await self._supervisor.start(spec, command, number=number, begins_at=position)
        except SpawnRefused as exc:
            raise explain(exc, spec) from None
        failpoint("restart-forked")
        try:
            await self._committer.commit(BeginRun(managed.handle, live.run))
        except OutlastError:
            # It may be stored, or will be when a commit under way returns: this comes behind it.
            self._committer.submit(WithdrawRun(managed.handle, number), lambda _handle: None)
            await self._supervisor.undo(live)
            raise
        failpoint("restart-recorded")
        self._supervisor.begin(live, managed.handle, position)
        await started(live)
        return live

    async def _command(self, spec: ProcessSpec, number: int) -> Command:
        env = await asyncio.to_thread(self._seal.open, spec.encrypted_env)
        identity = await asyncio.to_thread(users.resolve, users.parse(spec.user))
        request = StartRequest(
            command=spec.command,
            args=spec.args,
            env=env,
            stdin_mode=spec.stdin_mode,
            stdout_mode=spec.stdout_mode,
            stderr_mode=spec.stderr_mode,
            options=spec.options,
        )
        command = make_command(request, spec, identity, self._inherit_env)
        return command._replace(env={**command.env, MARKER: run_key(spec.id, number)})

    async def _clear(self, process: Process) -> None:
        """Let nothing of the earlier run be left: a new one begins with its tree gone and its output stored."""
        link = self._supervisor.link
        await link.kill(process.key)
        live = self._supervisor.get(process.spec.id)
        if live is None or await live.wait(lambda: live.finished, _DRAIN_S):
            return
        if not live.end_stored:
            raise Unavailable(f"process {live.run.pid} was killed, but has not ended yet")
        # Something that can't be killed holds its pipe. All that it wrote so far is stored.
        link.forget(live.slot)
        self._committer.submit(CompleteOutput(process.handle, process.run.number), lambda _handle: None)
        self._supervisor.release(live)
        live.finished = True
        live.wake()
