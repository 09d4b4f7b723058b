"""Figures that the kernel keeps about processes."""

import contextlib
import resource
from pathlib import Path

_KIB = 1024
_PF_FORKNOEXEC = 0x40
_BLOCK_BYTES = 512  # in which rusage counts what goes to disk


def cpu_s(pid: int) -> float:
    """Return the processor time of a process in seconds, without its children."""
    # Read from each thread, in nanoseconds: /proc/PID/stat counts in ticks of 10 ms.
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text(encoding="utf-8").split()[0]) for path in threads) / 1e9


def forker_pid(shim: int | None) -> int | None:
    """Return the pid of a shim's fork helper (`outlast.shim.launch.forker`); None before the shim's first start."""
    for pid in map(int, Path(f"/proc/{shim}/task/{shim}/children").read_text(encoding="utf-8").split()):
        with contextlib.suppress(OSError):
            if b"import forker" in Path(f"/proc/{pid}/cmdline").read_bytes() and _has_execed(pid):
                return pid
    return None


def _has_execed(pid: int) -> bool:
    """Return False for a copy of its parent: a process that the helper has forked, and that waits at its gate."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return not int(fields[6]) & _PF_FORKNOEXEC


def pss_bytes(pid: int, kind: str = "Pss") -> int:
    """Return the proportional share of memory of a process; with `Pss_Anon`, of anonymous memory alone."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * _KIB
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no {kind}")


def written_bytes(pid: int) -> int:
    """Return the bytes that a process has sent towards a disk: each page of a file that it made dirty."""
    counts = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text(encoding="utf-8").splitlines())
    return int(counts["write_bytes"])


def written_bytes_of_ended_children() -> int:
    """Return the bytes that our children sent towards a disk, of those that have ended and were waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock * _BLOCK_BYTES
