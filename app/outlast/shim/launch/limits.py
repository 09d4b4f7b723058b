"""What a process may use: setrlimit and nice, which the child sets for itself, and what its cgroup bounds.

Every part that can't be had is refused: `LimitRefused` says which. Names are those of the API.
"""

import errno
import os
import resource

from outlast.wire.contract import CONTROLLERS, RLIMITS, STAGES, Limits

_NUMBERS = {name: number for number, name in STAGES.items()}
_CPU_PERIOD_US = 100_000


class LimitRefused(OSError):
    """One of them can't be had. `limit` names it, `stage` is its number in `STAGES`."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(number, os.strerror(number))
        self.limit = name
        self.stage = _NUMBERS[name]


def in_group(wanted: Limits) -> list[str]:
    """Name those that a cgroup bounds."""
    return [name for name in wanted if name in CONTROLLERS]


def bound_group(group: str | None, wanted: Limits) -> None:
    """Bound a process's cgroup, before anything lives in it.

    Raises:
        LimitRefused: EOPNOTSUPP, no cgroup can be made here; ENODEV, the controller is not delegated to us.
    """
    for name in in_group(wanted):
        if group is None:
            raise LimitRefused(name, errno.EOPNOTSUPP)
        controller = CONTROLLERS[name]
        if not _enable(os.path.dirname(group), controller):
            raise LimitRefused(name, errno.ENODEV)
        try:
            for file, value in _settings(name, wanted[name]):
                _write(f"{group}/{file}", value)
        except OSError as exc:
            raise LimitRefused(name, exc.errno or errno.EINVAL) from None


def _settings(name: str, value: float) -> list[tuple[str, str]]:
    if name == "memory_bytes":
        # Where memory runs out, the whole tree is ended: half of it would be of no use, and its end would not be told.
        return [("memory.max", str(value)), ("memory.oom.group", "1"), ("memory.swap.max", "0")]
    if name == "cpus":
        return [("cpu.max", f"{round(value * _CPU_PERIOD_US)} {_CPU_PERIOD_US}")]
    return [("pids.max", str(value))]


def _read(file: str) -> str:
    with open(file) as opened:
        return opened.read()


def _write(file: str, value: str) -> None:
    """Write to a file of a group. Without swap there is none for that."""
    if not file.endswith("/memory.swap.max") or os.path.exists(file):
        with open(file, "r+") as opened:  # never make one: these are the kernel's
            opened.write(value)


def _enable(folder: str, controller: str) -> bool:
    """Make a controller bound the groups in `folder`, from the group that holds the folder downwards.

    A group that processes live in can't pass a controller on, unless it is the root of all: that is what a delegated
    subgroup is for. Nothing is moved.
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
    """Count what the system has ended in a group for want of memory. 0 where nobody counts."""
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
        LimitRefused: EACCES or EPERM, it would become more important than it may.
    """
    if nice is not None:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        except OSError as exc:
            raise LimitRefused("nice", exc.errno or errno.EPERM) from None


def raise_limits(wanted: Limits) -> None:
    """Set those that are above what the calling process may have. To be done before rights are given up.

    Raises:
        LimitRefused: EPERM, it has not the right to raise them.
    """
    for name, value in wanted.items():
        if name in RLIMITS:
            hard = resource.getrlimit(RLIMITS[name])[1]
            if hard != resource.RLIM_INFINITY and value > hard:
                _set(name, int(value), resource.RLIM_INFINITY)


def lower_limits(wanted: Limits) -> None:
    """Set all the others. To be done last: they bound what the calling process can do from then on.

    Raises:
        LimitRefused: the system refuses.
    """
    for name, value in wanted.items():
        if name in RLIMITS:
            _set(name, int(value), resource.getrlimit(RLIMITS[name])[1])


def _set(name: str, value: int, hard: int) -> None:
    """Set a limit, soft and hard.

    Of processor time the soft one ends the process by SIGXCPU, and where it ignores that, a second later the hard one.
    """
    highest = value + 1 if name == "cpu_seconds" else value
    if hard != resource.RLIM_INFINITY:
        highest = min(highest, hard)
    try:
        resource.setrlimit(RLIMITS[name], (value, highest))
    except (OSError, ValueError) as exc:
        raise LimitRefused(name, getattr(exc, "errno", None) or errno.EPERM) from None
