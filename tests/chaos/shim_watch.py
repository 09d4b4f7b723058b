"""The shim of a campaign: kills from outside, and a watch that tells which deaths were double."""

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from harness.http_client import API_ROOT, BROKEN
from harness.proc import forker_pid
from outlast import failpoints
from outlast.linux import lock
from outlast.wire.contract import SHIM_LOCK_NAME
from tests.chaos.campaign_log import CampaignLog, ShimDeath
from tests.chaos.daemon_client import DaemonClient
from tests.chaos.journal import now_ms
from tests.support.waiting import eventually

_LOOK_AGAIN_S = 0.01
_TAKEN_UP_S = 90.0


@dataclass(frozen=True, slots=True)
class Shim:
    """One shim, by its pid and start time. An upgrade keeps both."""

    pid: int
    began: str

    @classmethod
    def of(cls, state_dir: Path) -> "Shim | None":
        """Return the shim that holds the lock of a state folder."""
        pid = lock.holder(state_dir / SHIM_LOCK_NAME)
        began = _began(pid) if pid is not None else None
        return cls(pid, began) if pid is not None and began is not None else None

    @property
    def lives(self) -> bool:
        return _began(self.pid) == self.began

    @property
    def armed(self) -> bool:
        """Whether the shim is to kill itself at a failpoint."""
        with contextlib.suppress(OSError):
            return f"\0{failpoints.VARIABLE}=shim-".encode() in b"\0" + Path(f"/proc/{self.pid}/environ").read_bytes()
        return False


class ShimWatch:
    """A record of which shim a daemon has connected to. Another one than before tells that a shim has died.

    That death was double unless the same daemon was there before and after it: such a daemon holds everything.
    """

    def __init__(self, client: DaemonClient, log: CampaignLog) -> None:
        self._client = client
        self._log = log
        self._life = 0
        self._seen: Shim | None = None
        self._seen_in = 0
        self._problem = ""
        self._sound_ms = now_ms()

    def begin_life(self) -> None:
        """Note that another daemon starts."""
        self._life += 1

    def look(self) -> None:
        """Note that nothing can have been lost so far, if the shim that was seen still lives."""
        if self._seen is not None and self._seen.lives:
            self._sound_ms = now_ms()

    async def see(self, url: str, death: asyncio.Task[int]) -> Shim | None:
        """Wait until the daemon has taken up a shim, and return that; None: the daemon has died before."""
        deadline = time.monotonic() + _TAKEN_UP_S
        while not death.done():
            before = Shim.of(self._log.state_dir)
            if before is not None and await self._is_healthy(url, death) and before == Shim.of(self._log.state_dir):
                self._note(before)
                return before
            if time.monotonic() > deadline:
                self._log.complaints.append(f"a daemon had not taken up a shim after {_TAKEN_UP_S} s: {self._problem}")
                return None
            await asyncio.sleep(_LOOK_AGAIN_S)
        return None

    async def _is_healthy(self, url: str, death: asyncio.Task[int]) -> bool:
        """Tell whether the daemon says so. If it dies, the question would wait for the next one."""
        asking = asyncio.create_task(self._ask_health(url))
        await asyncio.wait({asking, death}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            asking.cancel()
            return False
        return asking.result()

    async def _ask_health(self, url: str) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=_TAKEN_UP_S)
            async with self._client.session.get(f"{url}{API_ROOT}/health", timeout=timeout) as response:
                self._problem = f"{response.status} {await response.text()}"
                return response.status == 200
        except BROKEN as exc:
            self._problem = repr(exc)
            return False

    def _note(self, shim: Shim) -> None:
        if self._seen is not None and shim != self._seen:
            double = self._life != self._seen_in
            self._log.shim_deaths.append(ShimDeath(self._sound_ms, now_ms(), double))
        self._seen, self._seen_in, self._sound_ms = shim, self._life, now_ms()

    async def kill(self) -> bool:
        """Kill the shim that is there, and wait for its end. False: there is none."""
        self.look()
        shim = Shim.of(self._log.state_dir)
        if shim is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(shim.pid)
            try:
                if shim.lives:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)
        await eventually(lambda: not shim.lives)
        return True

    def kill_helper(self) -> bool:
        """Kill the fork helper of the shim that is there. False: there is none."""
        shim = Shim.of(self._log.state_dir)
        with contextlib.suppress(OSError):  # the shim has just ended
            helper = forker_pid(shim.pid) if shim is not None else None
            if helper is not None:
                os.kill(helper, signal.SIGKILL)
                return True
        return False


def _began(pid: int) -> str | None:
    """Return when a process began, in ticks since boot; None: it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else fields[19]
