"""Finding what a process started by following /proc, for where no cgroup can be had.

A descendant is known by any of: its chain of parents leads to the process; it is in the process's session; its
environment carries the process's id (children inherit it, whatever session or parent they moved to).
"""

import contextlib
import os
import signal
from collections.abc import Sequence
from typing import NamedTuple

from outlast.linux.cgroup import members
from outlast.linux.proc import Stat, all_pids, read_environment, read_stat
from outlast.linux.process import pidfd_open, signal_process
from outlast.wire.contract import MARKER

_FREEZE_PASSES = 10


class Member(NamedTuple):
    """A process that was seen. Pid and start time together are never another's."""

    pid: int
    start_ticks: int


def find(leader: int | None, process_id: str) -> set[Member]:
    """Find a process's tree in /proc.

    Args:
        leader: the process's pid while it is not reaped (its pid and session are then certainly its own), else None.
        process_id: the value of the environment's marker.
    """
    marker = f"{MARKER}={process_id}".encode()
    table = _table()
    roots = {
        pid
        for pid, seen in table.items()
        if (leader is not None and leader in (pid, seen.session)) or marker in read_environment(pid)
    }
    return _with_descendants(table, roots)


def find_in_group(group: str) -> set[Member]:
    """Find what lives in a cgroup and in those inside it."""
    seen = {pid: _read_live(pid) for pid in members(group)}
    still = members(group)  # who was there before and is after was what has been looked at
    return {Member(pid, stat.start_ticks) for pid, stat in seen.items() if stat is not None and pid in still}


def kill_tree(leader: int | None, process_id: str, *, freeze: bool = False) -> int:
    """SIGKILL, once, what can be found of a process's tree, and return how many were found.

    To be called again until it returns 0: what forked meanwhile is found by the next call.

    Args:
        leader: as in `find`.
        process_id: likewise.
        freeze: stop everything first, so that what forks faster than it is killed is caught.
    """
    found = find(leader, process_id)
    frozen: set[Member] = set()
    for _ in range(_FREEZE_PASSES if freeze else 0):
        fresh = found - frozen
        if not fresh:
            break
        _signal_all(fresh, signal.SIGSTOP)
        frozen |= fresh
        found = find(leader, process_id)
    return _signal_all(found | frozen, signal.SIGKILL)


def kill_marked(process_ids: Sequence[str]) -> int:
    """SIGKILL, once, what carries one of these values of the environment's marker, and return how many were found."""
    markers = {f"{MARKER}={process_id}".encode() for process_id in process_ids}
    table = _table()
    roots = {pid for pid in table if not markers.isdisjoint(read_environment(pid))}
    return _signal_all(_with_descendants(table, roots), signal.SIGKILL)


def kill_descendants() -> int:
    """SIGKILL, once, every descendant of this process, and return how many were found."""
    table = _table()
    own = os.getpid()
    return _signal_all(
        _with_descendants(table, {pid for pid, seen in table.items() if seen.ppid == own}), signal.SIGKILL
    )


def signal_exactly(member: Member, number: int) -> bool:
    """Signal a process if it still is the one that was seen. False: it is not.

    Raises:
        PermissionError: the system refuses.
    """
    try:
        fd = pidfd_open(member.pid)
    except OSError:
        return False
    try:
        seen = _read_live(member.pid)
        if seen is None or seen.start_ticks != member.start_ticks:
            return False
        with contextlib.suppress(ProcessLookupError):
            signal_process(fd, number)
        return True
    finally:
        os.close(fd)


def _read_live(pid: int) -> Stat | None:
    """Read a process's stat. None: it has ended, reaped or not."""
    stat = read_stat(pid)
    return stat if stat is not None and stat.is_running else None


def _table() -> dict[int, Stat]:
    """Read every process but this one."""
    own = os.getpid()
    return {pid: seen for pid in all_pids() if pid != own and (seen := _read_live(pid)) is not None}


def _with_descendants(table: dict[int, Stat], found: set[int]) -> set[Member]:
    grew = True
    while grew:
        children = {pid for pid, seen in table.items() if seen.ppid in found} - found
        found |= children
        grew = bool(children)
    return {Member(pid, table[pid].start_ticks) for pid in found}


def _signal_all(found: set[Member], number: int) -> int:
    """Signal each; one that is another user's is found, and not reached."""
    count = 0
    for member in found:
        try:
            count += signal_exactly(member, number)
        except PermissionError:
            count += 1
    return count
