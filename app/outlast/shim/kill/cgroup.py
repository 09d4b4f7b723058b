"""One cgroup (v2) a process, where this user may make them: everything a process ever started is in it.

For kills only membership is used, so no controller needs to be enabled, and a hybrid machine's `unified` tree is as
good. What a group bounds is in `limits.py`.
"""

import contextlib
import os
from collections import deque
from pathlib import Path

from outlast.linux.clone import join_cgroup


def _own_group() -> Path | None:
    """Find this process's own folder in the mounted cgroup v2 tree."""
    mount = None
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split(" ")
        if fields[2] == "cgroup2":
            mount = Path(fields[1])
            break
    if mount is None:
        return None
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return mount / line[3:].lstrip("/")
    return None


def _delegated_base(own: Path) -> Path:
    """Return the group in which to make ours: this process's own, or the one above.

    The one above, where it is what was delegated (systemd marks it so) and our own is the subgroup in it that the
    daemon and the shim live in: only then can controllers be passed on, for no process lives there.
    """
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(own.parent, name) == b"1":
                return own.parent
    return own


_SWEEP_GROUPS = 16


def folder_name(state_dir: Path) -> str:
    """Name the folder of groups for a state folder: the same for each of its shims, and no other folder's.

    A shim holds its state folder open, so no other gets these numbers while it lives.

    Raises:
        OSError: there is no such folder.
    """
    status = state_dir.stat()
    return f"outlast-{status.st_dev:x}-{status.st_ino:x}"


class CgroupRoot:
    """The folder under which each process gets its own group."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lingering: deque[Path] = deque()

    @classmethod
    def create(cls, state_dir: Path) -> "CgroupRoot | None":
        """Make the folder for this state folder, or return None where cgroups can't be used.

        What a killed shim left behind is removed where it is empty.
        """
        try:
            own = _own_group()
            if own is None:
                return None
            root = cls(_delegated_base(own) / folder_name(state_dir))
            root.path.mkdir(exist_ok=True)
            if not (root.path / "cgroup.kill").exists():  # Linux < 5.14
                root.remove()
                return None
            for group in root.path.iterdir():  # what an earlier shim's processes lived in
                if group.is_dir():
                    root.discard(str(group))
            root._try_to_join()
        except OSError:
            return None
        return root

    def _try_to_join(self) -> None:
        """Move a child of ours into a group once: making folders may be allowed and moving forbidden."""
        group = self.path / "probe"
        group.mkdir(exist_ok=True)
        pid = os.fork()
        if pid == 0:
            try:
                join_cgroup(str(group))
            except OSError:
                os._exit(1)
            os._exit(0)
        _pid, status = os.waitpid(pid, 0)
        group.rmdir()
        if status != 0:
            raise PermissionError("a process can't be moved into a group here")

    def discard(self, group: str) -> None:
        """Remove a group when nothing lives in it any more: now, or at a later `sweep` or `discard`."""
        # What a killed shim's processes lived in: they are not ours to reap, so no end of theirs brings a sweep.
        self.sweep()
        if not _remove(Path(group)):
            self._lingering.append(Path(group))

    def sweep(self) -> None:
        """Try again to remove what something lived in, the longest-waiting first."""
        for _ in range(min(len(self._lingering), _SWEEP_GROUPS)):
            group = self._lingering.popleft()
            if not _remove(group):
                self._lingering.append(group)

    def remove(self) -> bool:
        """Remove the folder and all groups. False: something lives in one, or is just dying."""
        return _remove(self.path)

    def keep(self, group: str) -> None:
        """A group that an earlier shim made has a process that is looked after."""
        with contextlib.suppress(ValueError):
            self._lingering.remove(Path(group))

    def kill(self, name: str, group: str | None) -> bool:
        """SIGKILL everything in one process's group at once, also what forks meanwhile. False: it has none.

        `group` is its path if it is known: that of a process that an earlier shim started may be another than ours.
        """
        return _kill(Path(group) if group is not None else self.path / name)

    def is_populated(self, name: str, group: str | None) -> bool:
        """Tell whether anything lives in one process's group, or in those inside it. Arguments as in `kill`."""
        path = Path(group) if group is not None else self.path / name
        try:
            return "populated 1" in (path / "cgroup.events").read_text().splitlines()
        except OSError:
            return False

    def kill_all(self) -> None:
        """SIGKILL everything in every group."""
        _kill(self.path)

    def make(self, name: str) -> str | None:
        """Make one process's group and return its path, None where that is refused."""
        path = self.path / name
        try:
            path.mkdir()
        except FileExistsError:  # of an earlier run
            return str(path)
        except OSError:
            return None
        return str(path)


def _kill(group: Path) -> bool:
    try:
        (group / "cgroup.kill").write_text("1")
    except OSError:
        return False
    return True


def _remove(group: Path) -> bool:
    """Remove a group and those that were made inside it. False: something lives there."""
    try:
        for inner in group.iterdir():
            if inner.is_dir():
                _remove(inner)
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
