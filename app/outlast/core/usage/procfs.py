"""Reading /proc and control groups: what Linux tells of processes. Nothing here raises for a process that is gone.

A process that can't be looked into (it runs as another user) makes a figure of its tree unknown, not wrong.
"""

import os
import time
from collections.abc import Iterable, Mapping

from outlast.linux.proc import all_pids, read_environment, read_stat
from outlast.model.usage import UsageSample
from outlast.wire.contract import MARKER

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
_MARKED = f"{MARKER}=".encode()


def group_cpu_us(group: str) -> tuple[int, int] | None:
    """Return the processor time of all that ever lived in a group, in user mode and in the kernel, in microseconds."""
    try:
        with open(f"{group}/cpu.stat", "rb", buffering=0) as file:
            told = dict(line.split() for line in file.read().splitlines())
        return int(told[b"user_usec"]), int(told[b"system_usec"])
    except (OSError, KeyError):
        return None


class Trees:
    """Finds what belongs to processes that have no group, in one pass over all processes of the machine.

    A descendant is known by its session, by its parent, or by the marker in its environment, and once known, for life:
    so it is still found when its parent has ended. An environment is read once.
    """

    def __init__(self) -> None:
        self._owners: dict[tuple[int, int], str | None] = {}

    def look(self, leaders: Mapping[int, str]) -> dict[str, list[int]]:
        """Return the pids of each tree.

        Args:
            leaders: key (`model.process.run_key`) by pid of the runs whose trees are looked for. They must not have
                been reaped.
        """
        found: dict[str, list[int]] = {process_id: [] for process_id in leaders.values()}
        stats = [(stat.start_ticks, pid, stat) for pid in all_pids() if (stat := read_stat(pid)) is not None]
        stats.sort(key=lambda seen: seen[:2])  # parents before their children
        owners: dict[int, str | None] = {}
        known, self._owners = self._owners, {}
        for start_ticks, pid, stat in stats:
            key = (pid, start_ticks)
            owner = leaders.get(stat.session) or known.get(key) or owners.get(stat.ppid)
            if owner is None and key not in known:
                owner = _marked(pid)
            owners[pid] = self._owners[key] = owner
            if owner in found:
                found[owner].append(pid)
        return found


def measure(pids: Iterable[int], *, with_pss: bool, cpu_us: tuple[int, int] | None = None) -> UsageSample | None:
    """Add up what processes take. None: there are none.

    Args:
        pids: whose.
        with_pss: also look at the proportional set size, which costs the kernel a walk over all of their memory.
        cpu_us: their processor time if it is known from elsewhere. Else it is that of these processes and of what they
            have reaped: it falls when one of them ends that nobody of them reaps.
    """
    processes = threads = user_ticks = system_ticks = rss_pages = 0
    open_files: int | None = 0
    pss_bytes: int | None = 0 if with_pss else None
    for pid in pids:
        stat = read_stat(pid)
        if stat is None:
            continue
        user_ticks += stat.user_ticks
        system_ticks += stat.system_ticks
        if not stat.is_running:
            continue
        processes += 1
        threads += stat.threads
        rss_pages += stat.rss_pages
        try:
            open_files = None if open_files is None else open_files + _count_open_files(pid)
        except PermissionError:
            open_files = None
        try:
            pss_bytes = None if pss_bytes is None else pss_bytes + _pss_bytes(pid)
        except PermissionError:
            pss_bytes = None
    if not processes:
        return None
    user_us, system_us = cpu_us or (user_ticks * _TICK_US, system_ticks * _TICK_US)
    return UsageSample(
        sampled_at_ms=time.time_ns() // 1_000_000,
        processes=processes,
        threads=threads,
        open_files=open_files,
        cpu_user_ms=user_us // 1000,
        cpu_system_ms=system_us // 1000,
        rss_bytes=rss_pages * _PAGE_BYTES,
        pss_bytes=pss_bytes,
    )


def _count_open_files(pid: int) -> int:
    """Count descriptors. Linux 6.2 tells their number as the folder's size; before, the folder has to be read.

    Raises:
        PermissionError: they are not shown to us.
    """
    try:
        return os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has just ended


def _pss_bytes(pid: int) -> int:
    """Return the proportional set size.

    Raises:
        PermissionError: it is not shown to us, or not by this kernel.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb", buffering=0) as file:
            for line in file.read().splitlines():
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except ProcessLookupError:
        return 0  # it has just ended
    except FileNotFoundError:
        if not os.path.exists(f"/proc/{pid}"):
            return 0
    raise PermissionError(f"/proc/{pid}/smaps_rollup tells no PSS")


def _marked(pid: int) -> str | None:
    """Return the id of the process in whose tree a process was started, as its environment says."""
    marks = (variable for variable in read_environment(pid) if variable.startswith(_MARKED))
    return next((mark[len(_MARKED) :].decode() for mark in marks), None)
