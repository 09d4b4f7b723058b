"""Membership of cgroups (v2)."""

import contextlib
import os
from pathlib import Path

_LINKS_OF_A_LEAF = 2
"""Hard links of a cgroup's folder that contains no other cgroup."""


def members(group: str) -> set[int]:
    """Return the pids of the processes in a cgroup and in the cgroups below it. Empty if the cgroup has gone."""
    found: set[int] = set()
    with contextlib.suppress(OSError), open(group + "/cgroup.procs", "rb") as file:  # a threaded cgroup refuses
        found.update(map(int, file.read().split()))
    with contextlib.suppress(OSError):
        if os.stat(group).st_nlink != _LINKS_OF_A_LEAF:
            for entry in os.scandir(group):
                if entry.is_dir(follow_symlinks=False):
                    found |= members(entry.path)
    return found


def contains(group: str, pid: int) -> bool:
    """Tell whether a process is in a cgroup or below it. A process that has gone counts as a member."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return True
    path = Path(group)
    own = f"/{path.parent.name}/{path.name}/"
    return any(line.startswith("0::") and own in f"{line[3:]}/" for line in lines)
