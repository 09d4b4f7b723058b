"""Finding a process's tree in /proc, where cgroups cannot be used.

A process belongs to the tree if one of these is true: its chain of parents leads to the leader; it is in the leader's
session; it bears the mark of the run, as a limit or in its environment (children inherit both, whatever session, parent
or user they move to).
"""

import contextlib
import os
import signal
from collections.abc import Container, Iterator
from typing import NamedTuple

from outlast.linux.cgroup import members
from outlast.linux.marks import read_mark
from outlast.linux.proc import Stat, all_pids, read_environment, read_stat
from outlast.linux.process import pidfd_open, signal_process
from outlast.wire.contract import MARK_VARIABLE
from outlast.wire.identity import is_mark

_MARKED = f"{MARK_VARIABLE}=".encode()
_FREEZE_PASSES = 10
"""Maximum number of times that a tree is searched for processes to stop before it is killed."""


class Member(NamedTuple):
    """A process of a tree. No other process ever has the same pid and start time."""

    pid: int
    start_ticks: int


class Orphan(NamedTuple):
    """A process that has lost its parent. `mark` is None if it bears none, not even that of Outlast's own programs."""

    pid: int
    start_ticks: int
    session: int
    mark: int | None


def find_tree(leader: int | None, mark: int) -> set[Member]:
    """Find a process's tree in /proc.

    Args:
        leader: pid of the process while it is not reaped, so that its pid and session are certainly its own.
        mark: the mark of its run.
    """
    table = _read_table()
    # A process that is older than the leader is none of its descendants, and need not be read.
    since = table[leader].start_ticks if leader in table else 0
    roots = {
        pid
        for pid, stat in table.items()
        if stat.start_ticks >= since and ((leader is not None and leader in (pid, stat.session)) or _bears(pid, {mark}))
    }
    return _with_descendants(table, roots)


def find_in_group(group: str) -> set[Member]:
    """Find the processes in a cgroup and below it."""
    found = {pid: _read_live(pid) for pid in members(group)}
    still = members(group)  # a pid that was a member before and after is that of the process that was read
    return {Member(pid, stat.start_ticks) for pid, stat in found.items() if stat is not None and pid in still}


def kill_tree(leader: int | None, mark: int, *, freeze: bool = False) -> int:
    """SIGKILL, once, all that is found of a process's tree, and return the number of processes found.

    Call this again until it returns 0: processes that are forked meanwhile are found by the next call.

    Args:
        leader: as in `find_tree`.
        mark: likewise.
        freeze: stop the tree first, to catch one that forks faster than it is killed.
    """
    found = find_tree(leader, mark)
    frozen: set[Member] = set()
    for _ in range(_FREEZE_PASSES if freeze else 0):
        fresh = found - frozen
        if not fresh:
            break
        _signal_all(fresh, signal.SIGSTOP)
        frozen |= fresh
        found = find_tree(leader, mark)
    return _signal_all(found | frozen, signal.SIGKILL)


def kill_marked(marks: Container[int]) -> int:
    """SIGKILL, once, the trees of runs by their marks only, and return the number of processes found."""
    table = _read_table()
    roots = {pid for pid in table if _bears(pid, marks)}
    return _signal_all(_with_descendants(table, roots), signal.SIGKILL)


def kill_descendants() -> int:
    """SIGKILL, once, every descendant of this process, and return the number of processes found."""
    table = _read_table()
    own = os.getpid()
    return _signal_all(
        _with_descendants(table, {pid for pid, stat in table.items() if stat.ppid == own}), signal.SIGKILL
    )


def find_orphans(known: Container[int]) -> list[Orphan]:
    """Find the children of this process that are not `known`: descendants that have lost their parents."""
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", "rb", buffering=0) as file:
            pids = [int(pid) for pid in file.read().split()]
    except OSError:  # this kernel has no such file
        pids = all_pids()
    return [
        Orphan(pid, stat.start_ticks, stat.session, next(_marks_of(pid), None))
        for pid in pids
        if pid not in known and (stat := _read_live(pid)) is not None and stat.ppid == own
    ]


def _bears(pid: int, marks: Container[int]) -> bool:
    return any(mark in marks for mark in _marks_of(pid))


def _marks_of(pid: int) -> Iterator[int]:
    """Yield the mark that a process bears as a limit, and the one in its environment, if it has them."""
    limit = read_mark(pid)
    if limit is not None and is_mark(limit):
        yield limit
    for variable in read_environment(pid):
        if variable.startswith(_MARKED) and variable[len(_MARKED) :].isdigit():
            yield int(variable[len(_MARKED) :])


def signal_exactly(member: Member, number: int) -> bool:
    """Signal a process that was found. False: the process has gone, and another may have its pid.

    Raises:
        PermissionError: the system refuses.
        OSError: no descriptor is free.
    """
    try:
        fd = pidfd_open(member.pid)
    except ProcessLookupError:
        return False
    try:
        stat = _read_live(member.pid)
        if stat is None or stat.start_ticks != member.start_ticks:
            return False
        with contextlib.suppress(ProcessLookupError):
            signal_process(fd, member.pid, number)
        return True
    finally:
        os.close(fd)


def _read_live(pid: int) -> Stat | None:
    """Read the stat of a process. None: the process has ended, reaped or not."""
    stat = read_stat(pid)
    return stat if stat is not None and stat.is_running else None


def _read_table() -> dict[int, Stat]:
    """Read every process but this one."""
    own = os.getpid()
    return {pid: stat for pid in all_pids() if pid != own and (stat := _read_live(pid)) is not None}


def _with_descendants(table: dict[int, Stat], found: set[int]) -> set[Member]:
    grew = True
    while grew:
        children = {pid for pid, stat in table.items() if stat.ppid in found} - found
        found |= children
        grew = bool(children)
    return {Member(pid, table[pid].start_ticks) for pid in found}


def _signal_all(found: set[Member], number: int) -> int:
    """Signal processes, and return how many had not gone. One of another user counts, though no signal reaches it."""
    count = 0
    for member in found:
        try:
            count += signal_exactly(member, number)
        except PermissionError:
            count += 1
    return count
