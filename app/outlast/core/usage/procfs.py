"""Resource usage from /proc and cgroups. No function raises for a process that has ended.

If a process of a tree cannot be read (it runs as another user), that figure of the tree is None.
"""

import os
from collections.abc import Iterable, Mapping

from outlast.linux.proc import all_pids, read_environment, read_stat
from outlast.model.clock import now_ms
from outlast.model.usage import UsageSample
from outlast.wire.contract import PROCESS_ID_VARIABLE

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
_MARKED = f"{PROCESS_ID_VARIABLE}=".encode()


def group_cpu_us(group: str) -> tuple[int, int] | None:
    """Return the user and system time in microseconds of all processes that ever ran in a cgroup."""
    try:
        with open(f"{group}/cpu.stat", "rb", buffering=0) as file:
            fields = dict(line.split() for line in file.read().splitlines())
        return int(fields[b"user_usec"]), int(fields[b"system_usec"])
    except (OSError, KeyError):
        return None


class Trees:
    """The trees of runs that have no cgroup, found in one pass over all processes of the machine.

    A descendant is recognized by its session, its parent, or the marker in its environment. Once recognized, it stays
    so for its lifetime, even when its parent has ended. Each environment is read once.
    """

    def __init__(self) -> None:
        self._owners: dict[tuple[int, int], str | None] = {}

    def find_pids(self, leaders: Mapping[int, str]) -> dict[str, list[int]]:
        """Return the pids of each tree.

        Args:
            leaders: run keys (`model.process.run_key`) by the pid of each run's first process, which must not have been
                reaped.
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
    """Return the total usage of processes, or None if none of them runs.

    Args:
        pids: the processes.
        with_pss: whether to read the proportional set size, for which the kernel walks over all of their memory.
        cpu_us: their user and system time if the cgroup tells it. Else it is the sum over these processes and their
            reaped children, which falls when a process ends that is not reaped by another of them.
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
        sampled_at_ms=now_ms(),
        processes=processes,
        threads=threads,
        open_files=open_files,
        cpu_user_ms=user_us // 1000,
        cpu_system_ms=system_us // 1000,
        rss_bytes=rss_pages * _PAGE_BYTES,
        pss_bytes=pss_bytes,
    )


def _count_open_files(pid: int) -> int:
    """Count a process's descriptors. Since Linux 6.2 their number is the folder's size; else the folder is read.

    Raises:
        PermissionError: the daemon may not read them.
    """
    try:
        return os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError):
        return 0  # the process has just ended


def _pss_bytes(pid: int) -> int:
    """Return the proportional set size of a process.

    Raises:
        PermissionError: the daemon may not read it, or the kernel does not provide it.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb", buffering=0) as file:
            for line in file.read().splitlines():
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except ProcessLookupError:
        return 0  # the process has just ended
    except FileNotFoundError:
        if not os.path.exists(f"/proc/{pid}"):
            return 0
    raise PermissionError(f"/proc/{pid}/smaps_rollup has no PSS")


def _marked(pid: int) -> str | None:
    """Return the run key that the environment of a process names, or None."""
    marks = (variable for variable in read_environment(pid) if variable.startswith(_MARKED))
    return next((mark[len(_MARKED) :].decode() for mark in marks), None)
