"""What a shim holds: descriptors, dead children, groups of control."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from tests.support.daemon import group_folders, shim_pid


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of one shim.

    Attributes:
        shim: its pid.
        fds: how many descriptors it has open.
        children: its children that are no zombies.
        zombies: those that are.
        groups: control groups that it keeps for processes.
    """

    shim: int | None = None
    fds: int = 0
    children: int = 0
    zombies: int = 0
    groups: int = 0

    @classmethod
    def of(cls, state_dir: Path) -> "Footprint":
        """Look at the shim of a state folder."""
        shim = shim_pid(state_dir)
        if shim is None:
            return cls()
        states = [_state(pid) for pid in Path(f"/proc/{shim}/task/{shim}/children").read_text().split()]
        return cls(
            shim=shim,
            fds=len(os.listdir(f"/proc/{shim}/fd")),
            children=sum(state not in {"Z", ""} for state in states),
            zombies=states.count("Z"),
            groups=sum(entry.is_dir() for folder in group_folders(state_dir) for entry in folder.iterdir()),
        )


def _state(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""
