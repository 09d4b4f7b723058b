"""One cgroup (v2) for each process, where this user may make cgroups: the whole tree of the process is in it.

Kills need membership only, so no controller has to be enabled, and the `unified` tree of a hybrid machine serves as
well. `launch/limits.py` sets the limits of a cgroup.
"""

import contextlib
import os
from collections import deque
from pathlib import Path

from outlast.linux.clone import join_cgroup
from outlast.shortages import SHORTAGES

_SWEEP_GROUPS = 16
"""Maximum number of cgroups that one `remove_lingering` tries to remove."""


def _own_group() -> Path | None:
    """Return the folder of this process's own cgroup. None: no cgroup v2 tree is mounted."""
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
    """Return the cgroup in which to make cgroups: this process's own, or its parent if that is the delegated one.

    systemd marks the delegated cgroup and puts daemon and shim into a subgroup of it. Then no process is in the
    delegated cgroup itself, and only then can it pass controllers on.
    """
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(own.parent, name) == b"1":
                return own.parent
    return own


def folder_name(state_dir: Path) -> str:
    """Return the name of the cgroup folder of a state folder: the same for each of its shims, another for each other.

    The name holds the device and inode numbers of the state folder, which its shim holds open, so that no other folder
    gets them meanwhile.

    Raises:
        OSError: the state folder does not exist.
    """
    status = state_dir.stat()
    return f"outlast-{status.st_dev:x}-{status.st_ino:x}"


class CgroupRoot:
    """The cgroup in which each process gets its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lingering: deque[Path] = deque()

    @classmethod
    def create(cls, state_dir: Path) -> "CgroupRoot | None":
        """Make the cgroup for a state folder. None: cgroups cannot be used here.

        Empty cgroups that a killed shim left behind are removed.
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
            for group in root.path.iterdir():
                if group.is_dir():
                    root.discard_group(str(group))
            root._try_to_join()
        except OSError:
            return None
        return root

    def _try_to_join(self) -> None:
        """Move a child process into a cgroup once: making folders may be allowed, and moving processes forbidden.

        Raises:
            PermissionError: processes cannot be moved.
        """
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
            raise PermissionError("processes cannot be moved into cgroups here")

    def create_group(self, name: str) -> str | None:
        """Make the cgroup of one process and return its path. None: the system refuses."""
        path = self.path / name
        try:
            path.mkdir()
        except FileExistsError:  # from an earlier shim
            return str(path)
        except OSError:
            return None
        return str(path)

    def discard_group(self, group: str) -> None:
        """Remove a cgroup when no process is in it: now, or at a later `remove_lingering` or `discard_group`."""
        # Processes of a killed shim are not children of this one: no SIGCHLD tells when their cgroup is empty.
        self.remove_lingering()
        if not _remove(Path(group)):
            self._lingering.append(Path(group))

    def remove_lingering(self) -> None:
        """Try again to remove cgroups that processes were still in, the longest-waiting first."""
        for _ in range(min(len(self._lingering), _SWEEP_GROUPS)):
            group = self._lingering.popleft()
            if not _remove(group):
                self._lingering.append(group)

    def remove(self) -> bool:
        """Remove this cgroup and all cgroups in it. False: a process is in one, or is just dying."""
        return _remove(self.path)

    def retain_group(self, group: str) -> None:
        """Do not remove a cgroup from an earlier shim: one of its processes has been adopted."""
        with contextlib.suppress(ValueError):
            self._lingering.remove(Path(group))

    def kill(self, name: str, group: str | None) -> bool:
        """SIGKILL all processes in the cgroup of one process at once, also those that are forked meanwhile.

        Args:
            name: the process's id.
            group: path of its cgroup, if known: an earlier shim may have made it elsewhere.

        Returns:
            False if the process has no cgroup.
        """
        return _kill(Path(group) if group is not None else self.path / name)

    def is_populated(self, name: str, group: str | None) -> bool:
        """Tell whether any process is in the cgroup of one process, or below it. Arguments as in `kill`."""
        path = Path(group) if group is not None else self.path / name
        try:
            return "populated 1" in (path / "cgroup.events").read_text().splitlines()
        except OSError as exc:
            return exc.errno in SHORTAGES  # then it may be

    def kill_all(self) -> None:
        """SIGKILL all processes in all cgroups."""
        _kill(self.path)


def _kill(group: Path) -> bool:
    try:
        (group / "cgroup.kill").write_text("1")
    except OSError:
        return False
    return True


def _remove(group: Path) -> bool:
    """Remove a cgroup and those that processes made inside it. False: a process is in one."""
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
