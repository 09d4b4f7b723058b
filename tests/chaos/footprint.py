"""Footprint of daemon and shim: descriptors, children, zombies, cgroups, spool files."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.proc import forker_pid
from outlast.linux import lock
from outlast.shim.watch.output import SPOOL_NAME
from outlast.wire.contract import SHIM_LOCK_NAME
from tests.support.daemon import group_folders

_OF_PROCESSES = ("pipe:", "/memfd:", "anon_inode:[pidfd]")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Counts of what one daemon and its shim hold.

    Attributes:
        held: descriptors of the daemon that can belong to a process: pipes, memory files, pidfds, spool files.
        fds: open descriptors of the shim, without the two to the fork helper.
        children: living children of both, without the fork helper.
        zombies: zombies of both.
        groups: cgroups of processes.
        spooled: files in the spool folder.
    """

    held: int = 0
    fds: int = 0
    children: int = 0
    zombies: int = 0
    groups: int = 0
    spooled: int = 0

    @classmethod
    def of(cls, state_dir: Path, daemon: int) -> "Footprint":
        """Return the footprint in a state folder whose daemon has the pid `daemon`."""
        shim = lock.holder(state_dir / SHIM_LOCK_NAME)
        if shim is None:
            return cls()
        states = [*_children(shim), *_children(daemon)]
        forkers = int(forker_pid(shim) is not None)  # not there before the first start
        spool = state_dir / SPOOL_NAME
        return cls(
            held=sum(target.startswith((*_OF_PROCESSES, str(spool))) for target in _targets(daemon)),
            fds=len(os.listdir(f"/proc/{shim}/fd")) - 2 * forkers,
            children=sum(state not in {"Z", ""} for state in states) - forkers,
            zombies=states.count("Z"),
            groups=sum(entry.is_dir() for folder in group_folders(state_dir) for entry in folder.iterdir()),
            spooled=len(list(spool.iterdir())) if spool.exists() else 0,
        )


def ids_that_run() -> set[str]:
    """Return the ids of all processes of which anything runs, by the environment variable that it inherits."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            for entry in path.read_bytes().split(b"\0"):
                if entry.startswith(b"OUTLAST_PROCESS_ID="):
                    found.add(entry.partition(b"=")[2].decode().partition(".")[0])
    return found


def _targets(pid: int) -> Iterator[str]:
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            yield str(path.readlink())


def _children(pid: int) -> list[str]:
    """Return the states of a process's children, also those that its threads have started."""
    pids = [child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
    return [_state(child) for child in pids]


def _state(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""
