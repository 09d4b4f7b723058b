"""A campaign: daemons and shims are killed as planned, while children are started, fed and followed."""

import asyncio
import contextlib
import random
import signal
import socket
import time
from pathlib import Path

from outlast import failpoints
from tests.chaos.campaign_log import CampaignLog
from tests.chaos.cleanup import end_everything
from tests.chaos.daemon_client import TOKEN, DaemonClient
from tests.chaos.footprint import Footprint
from tests.chaos.journal import absence_path
from tests.chaos.plan import ARMED_S, HANDOVER_POINTS, LONG_AWAY_S, POINTS, SHIM_POINTS, Form, Life, Planner
from tests.chaos.shim_watch import ShimWatch
from tests.chaos.starter import Starter
from tests.support.daemon import OUTLAST, Daemon, outlast
from tests.support.waiting import eventually

_LONG_KILLS = 100
_TRIES_FOR_A_POINT = 6
_SETTLE_S = 60.0
_LOWEST_PORT = 10_000


class Campaign:
    """A campaign of kills in one state folder. At its end a last daemon listens, for the checker.

    Attributes:
        points: failpoints at each of which something must have died. A short campaign has no time for the shim's.
    """

    def __init__(self, folder: Path, seed: int, kills: int, minutes: float | None) -> None:
        self.log = CampaignLog(folder, seed, kills)
        self.daemon = Daemon(self.log.state_dir, OUTLAST_TOKEN=TOKEN)
        self.client = DaemonClient()
        if kills >= _LONG_KILLS:
            self.daemon.command = [*OUTLAST]  # in an interpreter of its own: kills while it starts hit imports, too
        self.points = POINTS if kills < _LONG_KILLS else (*POINTS, *SHIM_POINTS, *HANDOVER_POINTS)
        self._starter = Starter(self.client, self.log)
        self._watch = ShimWatch(self.client, self.log)
        self._planner = Planner(seed)
        self._until = time.monotonic() + minutes * 60 if minutes else None
        self.before = Footprint()
        self._listen = f"127.0.0.1:{_free_port()}"  # the official client does not look for another one
        for name in ("children", "followers"):
            (folder / name).mkdir()

    async def run(self) -> None:
        """Run the campaign, to the end of all children."""
        began = time.monotonic()
        await self._prologue()
        for life in self._planner.lives(self.log.planned):
            await self._live(life)
            if self._until is not None and time.monotonic() > self._until:
                break
        for point in self.points:
            for _ in range(_TRIES_FOR_A_POINT):
                if not self.log.hits[point]:
                    await self._live(self._planner.armed(point))
        await self._settle()
        self.log.seconds = time.monotonic() - began

    async def close(self) -> None:
        """End everything that was started."""
        await self._starter.stop()
        await self.client.close()
        self.log.complaints += await end_everything(self.daemon)

    async def _prologue(self) -> None:
        """Measure daemon and shim before the first process."""
        await self.daemon.start()
        self.before = Footprint.of(self.log.state_dir, self.daemon.pid)
        await self.daemon.stop()

    # ---- one life

    async def _live(self, life: Life) -> None:
        self.daemon.environment[failpoints.VARIABLE] = f"{life.point}:{life.count}" if life.point else ""
        await self.daemon.launch("--listen", self._listen, "--config", str(self._config_file(life.buffer_limit_bytes)))
        assert self.daemon.process is not None
        death = asyncio.create_task(self.daemon.process.wait())
        self._watch.begin_life()
        if life.form is Form.STARTING:
            await asyncio.wait({death}, timeout=life.between_s)
            await self._kill_shim("both")
        if not life.while_starting and await self.daemon.announcement():
            await self._watch.see(self.daemon.url, death)
            self.client.daemon_listens(self.daemon.url)
        if life.form is not Form.SHIM_POINT:
            self._begin(life)
        upgrade = asyncio.create_task(self._upgrade(life))
        kind = await self._strike_shim(life, death)
        await asyncio.wait({death}, timeout=life.after_s)
        if life.form is Form.HANDOVER and not death.done():  # nothing was handed over
            kind = "daemon" if await self._watch.see(self.daemon.url, death) else kind
        self.client.daemon_ends()
        self._watch.look()
        died_alone = death.done()
        code = await self.daemon.stop(signal.SIGTERM if life.form is Form.STOP else signal.SIGKILL)
        self._watch.look()
        if life.form in {Form.DAEMON_FIRST, Form.START, Form.SEEN}:
            await asyncio.sleep(life.between_s)
            kind = "both" if await self._watch.kill() else kind
        await death
        await upgrade
        if life.form is Form.STOP and not died_alone:
            self._note_stop(code)
        else:
            self.log.kills[kind] += 1
        if died_alone:
            self._note_death(life, code)
        self._tell_the_absent()
        await asyncio.sleep(life.away_s)

    def _begin(self, life: Life) -> None:
        for start in life.starts:
            self._starter.begin(start)

    async def _strike_shim(self, life: Life, death: asyncio.Task[int]) -> str:
        """Kill the shim as planned, while the daemon lives. Return what the daemon's death will be."""
        match life.form:
            case Form.SHIM:
                for after_s in life.shim_after_s:
                    await asyncio.wait({death}, timeout=after_s)
                    await self._kill_shim("shim")
                    await self._watch.see(self.daemon.url, death)
            case Form.HELPER:
                await asyncio.wait({death}, timeout=life.shim_after_s[0])
                self.log.kills["helper"] += self._watch.kill_helper()
            case Form.SHIM_POINT:
                await asyncio.wait({death}, timeout=life.shim_after_s[0])
                await self._strike_armed_shim(life, death)
            case Form.SHIM_FIRST | Form.HANDOVER:
                await asyncio.wait({death}, timeout=life.shim_after_s[0])
                if await self._watch.kill():
                    await asyncio.wait({death}, timeout=life.between_s)
                    return "both"
        return "daemon"

    async def _strike_armed_shim(self, life: Life, death: asyncio.Task[int]) -> None:
        """Kill the shim, and wait until the next one has killed itself, or kill that, too."""
        await self._kill_shim("shim")
        self._begin(life)
        shim = await self._watch.see(self.daemon.url, death)
        if shim is None:
            return  # the daemon died, which is a finding
        with contextlib.suppress(AssertionError):  # the shim did not reach that point
            await eventually(lambda: not shim.armed, deadline_s=ARMED_S)
        if shim.lives and shim.armed:
            await self._kill_shim("shim")
        else:
            assert life.point is not None
            self.log.hits[life.point] += 1
            self.log.kills["shim"] += 1
        await self._watch.see(self.daemon.url, death)

    async def _kill_shim(self, kind: str) -> None:
        self.log.kills[kind] += await self._watch.kill()

    async def _upgrade(self, life: Life) -> None:
        if life.form is not Form.UPGRADE:
            return
        await asyncio.sleep(life.shim_after_s[0])
        code, said = await outlast("shim", "upgrade", "--state-dir", str(self.log.state_dir))
        self.log.upgrades += code == 0
        if code:
            self.log.complaints.append(f"`outlast shim upgrade` ended with {code}: {said}")

    def _note_stop(self, code: int) -> None:
        self.log.stops += 1
        if code:
            self.log.complaints.append(f"a daemon that got SIGTERM ended with {code}: see {self.log.folder}/daemon.log")

    def _note_death(self, life: Life, code: int) -> None:
        if (
            life.point is not None
            and life.point in failpoints.POINTS
            and life.point not in SHIM_POINTS
            and code == -signal.SIGKILL
        ):
            self.log.hits[life.point] += 1
        else:
            self.log.complaints.append(f"a daemon ended by itself with {code}: see {self.log.folder}/daemon.log")

    def _tell_the_absent(self) -> None:
        for record in self.log.records:
            if record.start.kind == "absent" and record.process is not None:
                absence_path(self.log.children_dir, record.start.tag).touch()

    def _config_file(self, buffer_limit_bytes: int) -> Path:
        path = self.log.folder / f"limit-{buffer_limit_bytes}.toml"
        path.write_text(f"buffer_limit_bytes = {buffer_limit_bytes}\n")
        return path

    async def _settle(self) -> None:
        """Run a last daemon until all children have ended."""
        self.daemon.environment[failpoints.VARIABLE] = ""
        await asyncio.sleep(LONG_AWAY_S)
        await self.daemon.start("--listen", self._listen)
        assert self.daemon.process is not None
        self._watch.begin_life()
        death = asyncio.create_task(self.daemon.process.wait())
        await self._watch.see(self.daemon.url, death)
        self.client.daemon_listens(self.daemon.url)
        for record in self.log.records:
            if record.start.kind == "absent":
                absence_path(self.log.children_dir, record.start.tag).touch()
        await self._starter.finish(_SETTLE_S)
        death.cancel()


def _free_port() -> int:
    """Return a port that is free, and that the kernel gives no outgoing connection while no daemon listens on it."""
    lowest_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(_LOWEST_PORT, lowest_ephemeral)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
