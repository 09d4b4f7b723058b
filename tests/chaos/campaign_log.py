"""The log of a campaign, for the checker: what was started, fed and killed, and what the API answered."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.follower import Follower
from tests.chaos.plan import Start
from tests.chaos.watchers import OfficialFollower, RunCaller, TerminalViewer


@dataclass(slots=True)
class Record:
    """One child.

    Attributes:
        asked_ms: when its start was asked for; 0: never.
        process: what the answer to its start said of it; None: none has come.
        refused: what its standard input was refused with, which only one that is lost may do.
        inputs: messages to its standard input, and whether each was answered.
        closing_ms: when its standard input was first asked to be closed.
        run_caller: who started it by `run`; None: it was started otherwise.
        awaited: the process as the answer to a wait for its exit showed it; None: none has come.
        official: the official client that follows it.
        viewer: the client of its terminal.
    """

    start: Start
    asked_ms: int = 0
    process: dict[str, Any] | None = None
    followers: list[Follower] = field(default_factory=list)
    inputs: list[tuple[bytes, bool]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    closing_ms: int | None = None
    run_caller: RunCaller | None = None
    awaited: dict[str, Any] | None = None
    official: OfficialFollower | None = None
    viewer: TerminalViewer | None = None


@dataclass(frozen=True, slots=True)
class ShimDeath:
    """A shim was alive at `begin_ms`, and at `end_ms` a daemon had taken up another one.

    Attributes:
        double: another daemon than before: for a while nobody may have held the processes.
    """

    begin_ms: int
    end_ms: int
    double: bool


@dataclass(slots=True)
class CampaignLog:
    """One campaign. `folder` holds the state folder and, in `children`, what the children say of themselves."""

    folder: Path
    seed: int
    planned: int
    records: list[Record] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    upgrades: int = 0
    stops: int = 0
    shim_deaths: list[ShimDeath] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    lost_answers: int = 0
    complaints: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    def may_be_lost(self, record: Record) -> bool:
        """Tell whether both died together when a child had been asked for and was not known to be complete."""
        complete_ms = min((f.finished_ms for f in record.followers if f.finished_ms is not None), default=None)
        return any(
            death.double
            and 0 < record.asked_ms <= death.end_ms
            and (complete_ms is None or complete_ms >= death.begin_ms)
            for death in self.shim_deaths
        )

    def seen_by_ms(self, ms: int) -> int:
        """Return until when a shim may not have been there to see what happened at `ms`."""
        return max((death.end_ms for death in self.shim_deaths if death.begin_ms <= ms <= death.end_ms), default=ms)

    @property
    def children_dir(self) -> Path:
        return self.folder / "children"
