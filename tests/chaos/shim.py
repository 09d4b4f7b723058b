"""The shim of a campaign: killed from outside, and watched, so that it is known which deaths were double."""

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from outlast import failpoints
from outlast.linux import lock
from outlast.wire.contract import SHIM_LOCK_NAME
from tests.chaos.door import BROKEN, Door
from tests.chaos.ledger import Ledger, ShimDeath
from tests.chaos.sidefile import now_ms
from tests.support.waiting import eventually

_LOOK_AGAIN_S = 0.01
_TAKEN_UP_S = 30.0


@dataclass(frozen=True, slots=True)
class Shim:
    """One shim, whatever becomes of its pid. An upgrade keeps both."""

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
        """Whether it is to kill itself at a point."""
        with contextlib.suppress(OSError):
            return f"\0{failpoints.VARIABLE}=shim-".encode() in b"\0" + Path(f"/proc/{self.pid}/environ").read_bytes()
        return False


class ShimWatch:
    """Sees which shim a daemon has taken up. Where it is another one than before, a shim has died meanwhile.

    That death was double unless the same daemon was there before and after it: such a daemon holds everything.
    """

    def __init__(self, door: Door, ledger: Ledger) -> None:
        self._door = door
        self._ledger = ledger
        self._life = 0
        self._seen: Shim | None = None
        self._seen_in = 0
        self._sound_ms = now_ms()

    def begin_life(self) -> None:
        """Another daemon comes."""
        self._life += 1

    def look(self) -> None:
        """If the shim that was seen lives, nothing can have been lost so far."""
        if self._seen is not None and self._seen.lives:
            self._sound_ms = now_ms()

    async def see(self, url: str, death: asyncio.Task[int]) -> Shim | None:
        """Wait until the daemon has taken up a shim, and return that; None: the daemon has died before."""
        deadline = time.monotonic() + _TAKEN_UP_S
        while not death.done():
            before = Shim.of(self._ledger.state_dir)
            if before is not None and await self._is_healthy(url) and before == Shim.of(self._ledger.state_dir):
                self._note(before)
                return before
            if time.monotonic() > deadline:
                self._ledger.complaints.append(f"a daemon had not taken up a shim after {_TAKEN_UP_S} s")
                return None
            await asyncio.sleep(_LOOK_AGAIN_S)
        return None

    async def _is_healthy(self, url: str) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=_TAKEN_UP_S)
            async with self._door.session.get(f"{url}/api/v1/health", timeout=timeout) as response:
                return response.status == 200
        except BROKEN:
            return False

    def _note(self, shim: Shim) -> None:
        if self._seen is not None and shim != self._seen:
            double = self._life != self._seen_in
            self._ledger.shim_deaths.append(ShimDeath(self._sound_ms, now_ms(), double))
        self._seen, self._seen_in, self._sound_ms = shim, self._life, now_ms()

    async def kill(self) -> bool:
        """Kill the shim that is there, and wait for its end. False: there is none."""
        self.look()
        shim = Shim.of(self._ledger.state_dir)
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


def _began(pid: int) -> str | None:
    """Return when a process began, in ticks since boot; None: it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else fields[19]
