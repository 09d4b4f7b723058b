"""A campaign: daemons live and die as planned, while children are started, fed and followed."""

import asyncio
import signal
import time
from pathlib import Path

from app import crash
from tests.chaos.door import TOKEN, Door
from tests.chaos.ending import end_everything
from tests.chaos.ledger import Ledger
from tests.chaos.machine import Footprint
from tests.chaos.plan import LONG_AWAY_S, POINTS, Life, Planner
from tests.chaos.sidefile import absence_path
from tests.chaos.starter import Starter
from tests.support.daemon import Daemon

_TRIES_FOR_A_POINT = 4
_SETTLE_S = 60.0


class Campaign:
    """Kills the daemon of one state folder again and again. Afterwards a last one listens, for the checker."""

    def __init__(self, folder: Path, seed: int, kills: int, minutes: float | None) -> None:
        self.ledger = Ledger(folder, seed, kills)
        self.daemon = Daemon(self.ledger.state_dir, OUTLAST_TOKEN=TOKEN)
        self.door = Door()
        self._starter = Starter(self.door, self.ledger)
        self._planner = Planner(seed)
        self._kills = kills
        self._until = time.monotonic() + minutes * 60 if minutes else None
        self.before = Footprint()
        for name in ("children", "followers"):
            (folder / name).mkdir()

    async def run(self) -> None:
        """Do all of it, to the end of all children."""
        began = time.monotonic()
        await self._prologue()
        for life in self._planner.lives(self._kills):
            await self._live(life)
            if self._until is not None and time.monotonic() > self._until:
                break
        for point in POINTS:
            for _ in range(_TRIES_FOR_A_POINT):
                if not self.ledger.hits[point]:
                    await self._live(self._planner.armed(point))
        await self._settle()
        self.ledger.seconds = time.monotonic() - began

    async def close(self) -> None:
        """End everything that was started."""
        await self._starter.stop()
        await self.door.close()
        self.ledger.complaints += await end_everything(self.daemon)

    async def _prologue(self) -> None:
        """See what daemon and shim hold when they have done nothing yet."""
        await self.daemon.start()
        self.door.open(self.daemon.url)
        self.before = Footprint.of(self.ledger.state_dir)
        document = await self.door.get("/openapi.json", accept="text/plain")
        self._starter.has_idempotency_key = b'"idempotency_key"' in document
        self.door.shut()
        await self.daemon.stop()

    async def _live(self, life: Life) -> None:
        self.daemon.environment[crash.VARIABLE] = f"{life.point}:{life.count}" if life.point else ""
        await self.daemon.launch("--config", str(self._room(life.room_bytes)))
        assert self.daemon.process is not None
        death = asyncio.create_task(self.daemon.process.wait())
        if not life.while_starting and await self.daemon.announcement():
            self.door.open(self.daemon.url)
            self._starter.look_for_lost()
        for start in life.starts:
            self._starter.begin(start)
        await asyncio.wait({death}, timeout=life.after_s)
        self.door.shut()
        died_alone = death.done()
        code = await self.daemon.stop(signal.SIGKILL)
        self.ledger.kills += 1
        await death
        if died_alone:
            self._note_death(life, code)
        self._tell_the_absent()
        await asyncio.sleep(life.away_s)

    def _note_death(self, life: Life, code: int) -> None:
        if life.point is not None and code == -signal.SIGKILL:
            self.ledger.hits[life.point] += 1
        else:
            self.ledger.complaints.append(f"a daemon ended by itself with {code}: see {self.ledger.folder}/daemon.log")

    def _tell_the_absent(self) -> None:
        for record in self.ledger.records:
            if record.start.kind == "absent" and record.process is not None:
                absence_path(self.ledger.children_dir, record.start.tag).touch()

    def _room(self, room_bytes: int) -> Path:
        path = self.ledger.folder / f"room-{room_bytes}.toml"
        path.write_text(f"shim_room_bytes = {room_bytes}\n")
        return path

    async def _settle(self) -> None:
        """Let everything come to its end, with a daemon that nobody kills any more."""
        self.daemon.environment[crash.VARIABLE] = ""
        await asyncio.sleep(LONG_AWAY_S)
        await self.daemon.start()
        self.door.open(self.daemon.url)
        await self._starter.find_lost()
        for record in self.ledger.records:
            if record.start.kind == "absent":
                absence_path(self.ledger.children_dir, record.start.tag).touch()
        await self._starter.finish(_SETTLE_S)
