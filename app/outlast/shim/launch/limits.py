"""Limits of a process: setrlimit(2) and nice, which the child sets for itself, and those of its cgroup.

Names are those of the API. Every limit that cannot be set is refused, and `LimitRefused` names it.
"""

import errno
import os
import resource

from outlast.wire.contract import CONTROLLERS, RLIMITS, STAGES, Limits

_STAGE_BY_NAME = {name: number for number, name in STAGES.items()}
_CPU_PERIOD_US = 100_000


class LimitRefused(OSError):
    """A limit that cannot be set. `limit` is its name, `stage` its number in `STAGES`."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(number, os.strerror(number))
        self.limit = name
        self.stage = _STAGE_BY_NAME[name]


def names_in_group(limits: Limits) -> list[str]:
    """Return the names of the limits that a cgroup sets."""
    return [name for name in limits if name in CONTROLLERS]


def limit_group(group: str | None, limits: Limits) -> None:
    """Set the limits of a process's cgroup, before any process is in it.

    Raises:
        LimitRefused: EOPNOTSUPP, no cgroup can be made here; ENODEV, the controller is not delegated.
    """
    for name in names_in_group(limits):
        if group is None:
            raise LimitRefused(name, errno.EOPNOTSUPP)
        controller = CONTROLLERS[name]
        if not _enable(os.path.dirname(group), controller):
            raise LimitRefused(name, errno.ENODEV)
        try:
            for file, value in _settings(name, limits[name]):
                _write(f"{group}/{file}", value)
        except OSError as exc:
            raise LimitRefused(name, exc.errno or errno.EINVAL) from None


def _settings(name: str, value: float) -> list[tuple[str, str]]:
    if name == "memory_bytes":
        # The kernel kills the whole tree: half of a tree is of no use, and nobody would be told of the other half.
        return [("memory.max", str(value)), ("memory.oom.group", "1"), ("memory.swap.max", "0")]
    if name == "cpus":
        return [("cpu.max", f"{round(value * _CPU_PERIOD_US)} {_CPU_PERIOD_US}")]
    return [("pids.max", str(value))]


def _read(file: str) -> str:
    with open(file) as opened:
        return opened.read()


def _write(file: str, value: str) -> None:
    """Write to a file of a cgroup. The file for swap is missing on systems without swap."""
    if not file.endswith("/memory.swap.max") or os.path.exists(file):
        with open(file, "r+") as opened:  # "r+" never makes a file: these are the kernel's
            opened.write(value)


def _enable(folder: str, controller: str) -> bool:
    """Enable a controller for the cgroups in `folder`, in the parent of `folder` first.

    A cgroup with processes in it cannot pass a controller on, unless it is the root of all: the delegated subgroup
    exists for that. No process is moved.
    """
    for group in (os.path.dirname(folder), folder):
        switch = group + "/cgroup.subtree_control"
        try:
            if controller in _read(switch).split():
                continue
            if controller not in _read(group + "/cgroup.controllers").split():
                return False
            _write(switch, f"+{controller}")
        except OSError:
            return False
    return True


def oom_kills(group: str | None) -> int:
    """Return how many processes of a cgroup the kernel has killed because memory ran out. 0: nothing counts them."""
    if group is None:
        return 0
    try:
        lines = _read(group + "/memory.events").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def set_nice(nice: int | None) -> None:
    """Set the calling process's nice value.

    Raises:
        LimitRefused: EACCES or EPERM, the value is below the present one and the process lacks CAP_SYS_NICE.
    """
    if nice is not None:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        except OSError as exc:
            raise LimitRefused("nice", exc.errno or errno.EPERM) from None


def raise_limits(limits: Limits) -> None:
    """Set the limits that are above the calling process's hard ones. Call this before privileges are given up.

    Raises:
        LimitRefused: EPERM, the process lacks CAP_SYS_RESOURCE.
    """
    for name, value in limits.items():
        if name in RLIMITS:
            hard = resource.getrlimit(RLIMITS[name])[1]
            if hard != resource.RLIM_INFINITY and value > hard:
                _set(name, int(value), resource.RLIM_INFINITY)


def lower_limits(limits: Limits) -> None:
    """Set all other limits. Call this last: from then on they bind the calling process.

    Raises:
        LimitRefused: the system refuses.
    """
    for name, value in limits.items():
        if name in RLIMITS:
            _set(name, int(value), resource.getrlimit(RLIMITS[name])[1])


def _set(name: str, value: int, hard: int) -> None:
    """Set a limit, soft and hard.

    The soft limit on processor time ends the process by SIGXCPU; if it ignores that, the hard one, a second later.
    """
    highest = value + 1 if name == "cpu_seconds" else value
    if hard != resource.RLIM_INFINITY:
        highest = min(highest, hard)
    try:
        resource.setrlimit(RLIMITS[name], (value, highest))
    except (OSError, ValueError) as exc:
        raise LimitRefused(name, getattr(exc, "errno", None) or errno.EPERM) from None
