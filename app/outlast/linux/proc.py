"""Reading /proc. A process that has gone is None or empty, unless a function says otherwise.

Some functions take either a pid, or a descriptor of the folder /proc/PID: that is never the folder of a later process.

Every function raises OSError if this process lacks a descriptor or memory to look: then nobody knows.
"""

import os
import time
from typing import NamedTuple

from outlast.shortages import SHORTAGES


class Stat(NamedTuple):
    """Fields of /proc/PID/stat (proc_pid_stat(5)).

    Attributes:
        state: one letter, such as `R`, `S` or `Z`.
        user_ticks: user-mode time of the process and of the children that it has reaped, in clock ticks.
        system_ticks: kernel-mode time, likewise.
        start_ticks: time from boot to the start. With the pid, it identifies a process.
    """

    state: str
    ppid: int
    session: int
    user_ticks: int
    system_ticks: int
    threads: int
    start_ticks: int
    rss_pages: int

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.state not in "ZX"


def all_pids() -> list[int]:
    """Return the pids of all processes that /proc shows to this process."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def boot_ticks() -> int:
    """Return the time from boot to now, as `Stat.start_ticks` of a process that starts now."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def identify(pid: int) -> list[int] | None:
    """Return what tells a process from all others, also later ones with its pid. None: it has gone."""
    seen = read_stat(pid)
    return None if seen is None else [pid, seen.start_ticks]


def read_stat(pid: int = 0, *, folder: int | None = None) -> Stat | None:
    """Read /proc/PID/stat. None: the process has gone."""
    fields = _stat_fields(pid, folder)
    if fields is None:
        return None
    return Stat(
        state=fields[0].decode(),
        ppid=int(fields[1]),
        session=int(fields[3]),
        user_ticks=int(fields[11]) + int(fields[13]),
        system_ticks=int(fields[12]) + int(fields[14]),
        threads=int(fields[17]),
        start_ticks=int(fields[19]),
        rss_pages=int(fields[21]),
    )


def read_zombie_status(pid: int = 0, *, folder: int | None = None) -> int | None:
    """Return the wait status of a zombie, 0 if the kernel hides it. None: the process has gone, or has not ended."""
    fields = _stat_fields(pid, folder)
    return int(fields[49]) if fields is not None and fields[0] == b"Z" else None


def _stat_fields(pid: int, folder: int | None) -> list[bytes] | None:
    """Return the fields of /proc/PID/stat from the state on. None: the process has gone."""
    path = f"/proc/{pid}/stat" if folder is None else f"/proc/self/fd/{folder}/stat"
    try:
        with open(path, "rb", buffering=0) as file:
            raw = file.read()
    except OSError as exc:
        _raise_shortage(exc)
        return None
    # The name before the state stands in parentheses and may contain any character.
    return raw[raw.rindex(b")") + 2 :].split()


def read_environment(pid: int) -> list[bytes]:
    """Return the environment that a process was started with, as `NAME=value`. Empty: it has gone, or is hidden."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError as exc:
        _raise_shortage(exc)
        return []


def _raise_shortage(exc: OSError) -> None:
    if exc.errno in SHORTAGES:
        raise exc


def is_fully_visible(pid: int) -> bool:
    """Tell whether the kernel shows this process all of another one, such as its exit code.

    The kernel hides parts of processes of other users, and of setuid programs.

    Raises:
        OSError: the process has gone.
    """
    if os.geteuid() == 0:
        return True
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        ids = {words[0]: set(words[1:4]) for words in map(str.split, file) if words and words[0] in {"Uid:", "Gid:"}}
    return ids == {"Uid:": {str(os.geteuid())}, "Gid:": {str(os.getegid())}}
