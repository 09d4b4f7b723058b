"""Restarts of the daemon, by SIGTERM and SIGKILL, and of the shim, by SIGKILL and by upgrades in place."""

import asyncio
import os
import random
import signal
from pathlib import Path

from tests.soak.daemon_client import DaemonClient, UnexpectedResult
from tests.soak.footprint import shim_pid
from tests.soak.soak_log import SoakLog
from tests.support.daemon import Daemon, is_running, outlast
from tests.support.waiting import eventually

_LONGEST_AWAY_S = 1.0


class Restarts:
    """A source of restarts of daemon and shim.

    Attributes:
        daemon_life: number of this daemon, from 1 on.
        shim_life: number of this shim, from 1 on; an upgrade counts as another shim.
    """

    def __init__(self, daemon: Daemon, client: DaemonClient, log: SoakLog, rng: random.Random) -> None:
        self.daemon_life = 1
        self.shim_life = 1
        self._daemon = daemon
        self._client = client
        self._log = log
        self._rng = rng

    @property
    def state_dir(self) -> Path:
        """State folder of daemon and shim."""
        return self._daemon.state_dir

    async def restart_all(self, pause_s: float) -> None:
        """Do each kind of restart once, in random order."""
        kinds = [self._terminate, self._kill, self._kill_shim, self.upgrade_shim]
        self._rng.shuffle(kinds)
        for kind in kinds:
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) * pause_s)
            await kind()

    async def _terminate(self) -> None:
        await self._restart(signal.SIGTERM)

    async def _kill(self) -> None:
        await self._restart(signal.SIGKILL)

    async def _restart(self, number: signal.Signals) -> None:
        self._client.daemon_ends()
        await self._daemon.stop(number)
        await self._client.disconnect()
        await asyncio.sleep(self._rng.uniform(0.0, _LONGEST_AWAY_S))
        await self._daemon.start()
        self.daemon_life += 1
        self._log.doing[f"{number.name} of the daemon"] += 1
        self._client.daemon_listens()

    async def _kill_shim(self) -> None:
        old = shim_pid(self.state_dir)
        os.kill(old, signal.SIGKILL)
        await eventually(lambda: not is_running(old), "the shim dies", 60.0)
        await eventually(lambda: shim_pid(self.state_dir) not in {0, old}, "another shim runs", 60.0)
        await self._client.call("GET", "/health", 200)
        self.shim_life += 1
        self._log.doing["SIGKILL of the shim"] += 1

    async def upgrade_shim(self) -> None:
        """Upgrade the shim in place, here to the same version."""
        code, output = await outlast("shim", "upgrade", "--state-dir", str(self.state_dir))
        if code == 0:
            self.shim_life += 1
            self._log.doing["upgrades of the shim"] += 1
        elif "are being started or killed all the time" in output:
            self._log.doing["upgrades refused"] += 1
        else:
            raise UnexpectedResult(f"outlast shim upgrade: {output}")
        await self._client.call("GET", "/health", 200)
