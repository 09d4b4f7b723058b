"""Health checks by a command, which runs beside the process that it checks."""

import asyncio
import errno
import os
import signal
from collections.abc import Sequence

from outlast.core.commands import users
from outlast.core.commands.start_request import make_command
from outlast.core.managed.env_encryption import EnvEncryption
from outlast.core.supervision.checks import CheckOutcome
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.linux.messages import escape
from outlast.model.errors import SpawnFailed, Unavailable
from outlast.model.options import HealthCheck
from outlast.model.shortage import ADVICE, shortage, shortages_told
from outlast.shimlink import SpawnRefused
from outlast.wire.contract import Command

_SHOWN_CHARS = 200


class ExecCheck:
    """The check of one run: its command runs as the user, in the folder and in the environment of the run.

    Limits of the process are not its own: it is another process beside it.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        env_encryption: EnvEncryption,
        inherit_env: Sequence[str],
        live: LiveProcess,
        check: HealthCheck,
    ) -> None:
        """`inherit_env`: names of environment variables that processes inherit from the daemon."""
        self._live = live
        self._check = check
        self._supervisor = supervisor
        self._env_encryption = env_encryption
        self._inherit_env = inherit_env
        self._command: Command | None = None

    async def probe(self) -> str | None:
        """Run the command once. Return None if it exits with 0, else a phrase that says what is wrong.

        Raises:
            EnvKeyLost: the environment of the process cannot be decrypted.
            Unavailable: the system or the shim cannot run it now.
        """
        command = self._command = self._command or await self._make_command()
        spec, number = self._live.spec, self._live.run.number
        try:
            outcome = await self._supervisor.checks.run(self._supervisor.link, spec.id, number, command)
        except SpawnRefused as exc:
            outcome = CheckOutcome(failed=exc.errno)
        return self._problem(outcome)

    async def _make_command(self) -> Command:
        spec, check = self._live.spec, self._check
        with shortages_told("prepare a health check"):
            env = await asyncio.to_thread(self._env_encryption.decrypt, spec.encrypted_env)
            try:
                identity = await asyncio.to_thread(users.resolve, users.parse(spec.user))
            except SpawnFailed as exc:
                raise Unavailable(str(exc)) from None
        command = make_command(spec, env, identity, self._live.key, self._inherit_env)
        return command._replace(
            argv=[check.command or "", *check.args],
            stdin=False,
            stdout=True,
            stderr=True,
            limits={},
            timeout_ms=check.timeout_ms,
        )

    def _problem(self, outcome: CheckOutcome) -> str | None:
        if outcome.failed in ADVICE:
            raise shortage(outcome.failed or errno.EAGAIN, "run a health check")
        name = self._check.command
        if outcome.failed is not None:
            return f"{name!r} cannot be executed: {os.strerror(outcome.failed)}"
        if outcome.code == 0:
            return None
        if outcome.timed_out:
            what = f"{name!r} took more than {self._check.timeout_ms} ms"
        elif outcome.signal is not None:
            what = f"{name!r} was ended by signal {outcome.signal} ({signal.strsignal(outcome.signal)})"
        else:
            what = f"{name!r} exited with {outcome.code}"
        said = escape(" ".join(outcome.output.decode(errors="replace").split()))[-_SHOWN_CHARS:]
        return f"{what}: {said}" if said else what
