"""The next run of a managed process, once nothing is left of the earlier one."""

import asyncio

from outlast.core.commands import users
from outlast.core.commands.starter import Starter
from outlast.core.managed.env_encryption import EnvEncryption
from outlast.core.managed.registry import ManagedProcess
from outlast.core.output.committer import Committer
from outlast.core.supervision import repeatable
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.errors import NotFound, Unavailable
from outlast.model.process import Process, ProcessSpec
from outlast.model.shortage import shortages_told
from outlast.storage import CompleteOutput, Storage

_DRAIN_S = 10.0


class NextRunStarter:
    """The start of later runs, one after the other: the earlier run's tree is gone, and its output stored, before."""

    def __init__(
        self,
        storage: Storage,
        committer: Committer,
        supervisor: Supervisor,
        starter: Starter,
        env_encryption: EnvEncryption,
    ) -> None:
        self._storage = storage
        self._committer = committer
        self._supervisor = supervisor
        self._starter = starter
        self._env_encryption = env_encryption

    async def start_next_run(self, managed: ManagedProcess, wanted: ProcessSpec | None) -> LiveProcess:
        """Start the next run of a process whose lock the caller holds. See `Starter.start_run`.

        `wanted`: the specification of that run; None: the same as that of the last one.

        Raises:
            EnvKeyLost: the process's environment cannot be decrypted.
            NotFound: the process is purged.
            SpawnFailed: the run could not be started. Its record is withdrawn, or will be.
            OutOfResources: likewise, and nothing is wrong with the process.
            Unavailable: the store or the shim is not available now; nothing was started.
        """
        process = await self._storage.process(managed.handle)
        if process is None:
            raise NotFound(f"process {managed.spec.id} is purged")
        spec = wanted or process.spec
        with shortages_told("prepare the next run"):
            env = await asyncio.to_thread(self._env_encryption.decrypt, spec.encrypted_env)
            identity = await asyncio.to_thread(users.resolve, users.parse(spec.user))
        await self._clear_earlier_run(process)
        position = await self._storage.position(managed.handle)
        return await self._starter.start_run(spec, env, identity, earlier=process, position=position)

    async def _clear_earlier_run(self, process: Process) -> None:
        """Kill what is left of the earlier run's tree, and wait until its output is stored."""
        await repeatable.kill(self._supervisor, process.key)
        live = self._supervisor.get(process.spec.id)
        if live is not None:
            if await live.wait(lambda: live.finished, _DRAIN_S):
                return
            if not live.end_stored:
                raise Unavailable(f"process {live.run.pid} was killed, but has not ended yet: try again")
            if not await live.wait_written_stored():
                raise Unavailable(f"what process {live.run.pid} has printed is not stored yet: try again")
            # A process that could not be killed holds the pipe. What it writes from now on is nobody's.
            self._supervisor.link.forget(live.slot)
            self._supervisor.release(live)
            live.mark_finished()
        elif process.run.output_complete:
            return
        # All output that is queued is stored before: the next run continues behind it.
        await self._committer.commit(CompleteOutput(process.handle, process.run.number))
