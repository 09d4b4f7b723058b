"""What a campaign has done and was told, for the checker."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.follower import Follower
from tests.chaos.plan import Start


@dataclass(slots=True)
class Record:
    """One child.

    Attributes:
        asked_ms: when its start was asked for; 0: never.
        process: what the answer, or else the list, said of it; None: neither did.
        answered: the answer to its start has come.
        inputs: messages to its standard input, and whether each was answered.
        closing_ms: when its standard input was first asked to be closed.
    """

    start: Start
    asked_ms: int = 0
    process: dict[str, Any] | None = None
    answered: bool = False
    followers: list[Follower] = field(default_factory=list)
    inputs: list[tuple[bytes, bool]] = field(default_factory=list)
    closing_ms: int | None = None


@dataclass(slots=True)
class Ledger:
    """One campaign. `folder` holds the state folder and, in `children`, what the children say of themselves."""

    folder: Path
    seed: int
    planned: int
    records: list[Record] = field(default_factory=list)
    kills: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    lost_answers: int = 0
    complaints: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def children_dir(self) -> Path:
        return self.folder / "children"
