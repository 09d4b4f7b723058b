"""What daemon and shim hold at a moment, seen from outside."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from harness.proc import forker_pid
from outlast.linux import lock
from outlast.shim.kill.cgroup import folder_name
from outlast.wire.contract import SHIM_LOCK_NAME

FD_KINDS = ("sockets", "pipes", "memfds", "pidfds", "files", "other fds")
_BLOCK_BYTES = 512


def look(state_dir: Path, daemon_pid: int, shim_pid: int) -> dict[str, float]:
    """Return every figure by its name; memory and files in bytes.

    Raises:
        OSError: daemon or shim has just ended.
    """
    database = state_dir / "outlast.db"
    shim = _process(shim_pid)
    if forker_pid(shim_pid) is not None:  # what the shim has of it is there from the first start on
        shim["sockets"] -= 1
        shim["pidfds"] -= 1
    return {
        **{f"daemon {name}": value for name, value in _process(daemon_pid).items()},
        **{f"shim {name}": value for name, value in shim.items()},
        "cgroups": len(groups(state_dir)),
        "spool": _size(*(state_dir / "spool").glob("*")),
        "WAL": _size(Path(f"{database}-wal")),
        "database": _size(database),
    }


def shim_pid(state_dir: Path) -> int:
    """Return the pid of the folder's shim; 0: there is none."""
    return lock.holder(state_dir / SHIM_LOCK_NAME) or 0


def groups(state_dir: Path) -> list[Path]:
    """Return the cgroups that were made for processes and are still there."""
    name = folder_name(state_dir)
    walk = os.walk("/sys/fs/cgroup")  # which passes over what is removed meanwhile
    return [Path(folder, group) for folder, groups, _ in walk if Path(folder).name == name for group in groups]


def _process(pid: int) -> dict[str, float]:
    rollup = dict(re.findall(r"^(\w+): +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    (threads,) = re.findall(r"^Threads:\t(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    kinds: Counter[str] = Counter()
    memfd_bytes = 0
    for kind, fd in _descriptors(pid):
        kinds[kind] += 1
        if kind == "memfds":
            with contextlib.suppress(OSError):
                memfd_bytes += fd.stat().st_blocks * _BLOCK_BYTES
    return {
        "RSS": int(rollup["Rss"]) << 10,
        "USS": (int(rollup["Private_Clean"]) + int(rollup["Private_Dirty"])) << 10,
        "threads": int(threads),
        **{kind: kinds[kind] for kind in FD_KINDS},
        "memfd bytes": memfd_bytes,
        "zombies": _zombies(pid),
    }


def _descriptors(pid: int) -> Iterator[tuple[str, Path]]:
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(fd.readlink())
        except OSError:  # closed meanwhile
            continue
        if target.startswith("socket:"):
            yield "sockets", fd
        elif target.startswith("pipe:"):
            yield "pipes", fd
        elif target.startswith("/memfd:"):
            yield "memfds", fd
        elif "pidfd" in target:
            yield "pidfds", fd
        elif target.startswith("/"):
            yield "files", fd
        else:
            yield "other fds", fd


def _zombies(pid: int) -> int:
    found = 0
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                with contextlib.suppress(OSError):
                    found += Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return found


def _size(*paths: Path) -> int:
    size = 0
    for path in paths:
        with contextlib.suppress(OSError):
            size += path.stat().st_size
    return size
