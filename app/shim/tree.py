"""Finding what a process started by following /proc, for where no cgroup can be had.

A descendant is known by any of: its chain of parents leads to the process; it is in the process's session; its
environment carries the process's id (children inherit it, whatever session or parent they moved to).
"""

import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from app.shim.linux import pidfd_open

MARKER = "OUTLAST_PROCESS_ID"


@dataclass(frozen=True, slots=True)
class _Seen:
    ppid: int
    session: int
    start_ticks: int


def _stat(pid: int) -> _Seen | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            raw = file.read()
    except OSError:
        return None
    fields = raw[raw.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return _Seen(ppid=int(fields[1]), session=int(fields[3]), start_ticks=int(fields[19]))


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def kill_tree(leader: int | None, process_id: str) -> int:
    """SIGKILL, once, what can be found of a process's tree, and return how many were found.

    To be called again until it returns 0: what forked meanwhile is found by the next call.

    Args:
        leader: the process's pid while it is not reaped (its pid and session are then certainly its own), else None.
        process_id: the value of the environment's marker.
    """
    marker = f"{MARKER}={process_id}".encode()
    table = _table()
    found = {
        pid
        for pid, seen in table.items()
        if (leader is not None and leader in (pid, seen.session)) or marker in _environment(pid)
    }
    return _kill_all(table, found)


def kill_marked(process_ids: Sequence[str]) -> int:
    """SIGKILL, once, what carries one of these values of the environment's marker, and return how many were found."""
    markers = {f"{MARKER}={process_id}".encode() for process_id in process_ids}
    table = _table()
    return _kill_all(table, {pid for pid in table if not markers.isdisjoint(_environment(pid))})


def kill_descendants() -> int:
    """SIGKILL, once, every descendant of this process, and return how many were found."""
    table = _table()
    own = os.getpid()
    return _kill_all(table, {pid for pid, seen in table.items() if seen.ppid == own})


def _table() -> dict[int, _Seen]:
    """Read every process but this one."""
    own = os.getpid()
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return {pid: seen for pid in pids if pid != own and (seen := _stat(pid)) is not None}


def _kill_all(table: dict[int, _Seen], found: set[int]) -> int:
    grew = True
    while grew:
        children = {pid for pid, seen in table.items() if seen.ppid in found} - found
        found |= children
        grew = bool(children)
    return sum(_kill_exactly(pid, table[pid].start_ticks) for pid in found)


def _kill_exactly(pid: int, start_ticks: int) -> bool:
    """SIGKILL `pid` if it still is the process that was seen."""
    try:
        fd = pidfd_open(pid)
    except OSError:
        return False
    try:
        seen = _stat(pid)
        if seen is None or seen.start_ticks != start_ticks:
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        return True
    finally:
        os.close(fd)
