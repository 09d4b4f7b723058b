"""The state folder: whose it is, its permissions and its lock."""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from outlast.config import DATABASE_NAME
from outlast.linux import lock
from outlast.model.errors import AlreadyServed, ConfigError
from outlast.wire.contract import DAEMON_LOCK_NAME, DAEMON_USE, SHIM_LOCK_NAME, SOCKET_NAME
from outlast.wire.identity import IDENTITY_NAME

TOKEN_NAME = "token"  # noqa: S105 - the name of a file
_OTHERS_MAY_WRITE = 0o022
_OF_A_STATE_FOLDER = (DAEMON_LOCK_NAME, SHIM_LOCK_NAME, SOCKET_NAME, TOKEN_NAME, IDENTITY_NAME, DATABASE_NAME)
_OF_A_DISK = "lost+found"
"""The folder that a new file system has."""
_PARENT_MODE = 0o755


def prepare(state_dir: Path) -> list[Path]:
    """Create the state folder, accessible to this user only, or check that an existing one can be used.

    A folder that others may write to is closed to them if only this user has written to it: a Kubernetes volume with
    `fsGroup` is opened to its group at each mount. The permissions of other existing folders are not changed.

    Returns:
        The folders that were made: the state folder last, and those above it.

    Raises:
        ConfigError: the folder cannot be created, or is not this user's, or others may have written to it.
    """
    try:
        made = _make(state_dir)
        is_new = state_dir in made
        fd = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if is_new else 0))
        try:
            _check_links(state_dir)
            _check_owner(state_dir, os.fstat(fd))
            if is_new:
                os.fchmod(fd, 0o700)
            elif os.fstat(fd).st_mode & _OTHERS_MAY_WRITE:
                _close_to_others(fd, state_dir)
        finally:
            os.close(fd)
    except OSError as exc:
        raise ConfigError(
            f"the state folder {state_dir} cannot be used: {exc.strerror}; choose another with --state-dir"
        ) from None
    return made


def remove(made: Sequence[Path]) -> None:
    """Remove the folders that `prepare` has made, before anything but the lock is in them. To be called under it."""
    if made:
        with contextlib.suppress(OSError):
            (made[-1] / DAEMON_LOCK_NAME).unlink()
            for folder in reversed(made):
                folder.rmdir()


def check(state_dir: Path) -> None:
    """Check that the state folder, if it exists, is this user's.

    Raises:
        ConfigError: it is not, or it cannot be read.
    """
    try:
        _check_owner(state_dir, state_dir.stat())
    except FileNotFoundError:
        return
    except OSError as exc:
        raise ConfigError(
            f"the state folder {state_dir} cannot be read: {exc.strerror}; run this as its user"
        ) from None


def check_used(state_dir: Path) -> None:
    """Check that a daemon has used the folder.

    Raises:
        ConfigError: there is no such folder, or nothing of Outlast is in it.
    """
    if not state_dir.is_dir():
        problem = f"there is no folder {state_dir}"
    elif not any((state_dir / name).exists() for name in _OF_A_STATE_FOLDER):
        problem = f"no daemon has used the folder {state_dir}"
    else:
        return
    raise ConfigError(f"{problem}. Name the state folder of the daemon with --state-dir")


def _make(state_dir: Path) -> list[Path]:
    """Make the folder and those above it. Return those that are new, this one last; none if this one is not."""
    made = []
    for folder in reversed(state_dir.parents):
        if not folder.is_dir():
            with contextlib.suppress(FileExistsError):
                folder.mkdir(_PARENT_MODE)
                made.append(folder)
    try:
        state_dir.mkdir(0o700)
    except FileExistsError:
        return []
    return [*made, state_dir]


def _check_links(state_dir: Path) -> None:
    """Refuse symbolic links of other users: these could lead to another folder of this user at any time."""
    for path in (state_dir, *state_dir.parents):
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in {0, os.geteuid()}:
            raise ConfigError(
                f"{path} is a symbolic link of another user (uid {found.st_uid}): name the folder that it leads to "
                "with --state-dir"
            )


def _check_owner(state_dir: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise ConfigError(
            f"the state folder {state_dir} belongs to another user (uid {found.st_uid}, this is uid {os.geteuid()}): "
            "choose a folder of your own with --state-dir, for example a new folder in it"
        )


def _close_to_others(fd: int, state_dir: Path) -> None:
    is_shared_on_purpose = os.fstat(fd).st_mode & stat.S_ISVTX
    if not is_shared_on_purpose and _is_used_by_this_user_only(fd):
        os.fchmod(fd, 0o700)
        if _is_used_by_this_user_only(fd):  # nothing was put into it meanwhile
            return
    raise ConfigError(
        f"the state folder {state_dir} belongs to this user, but others may write to it and could pose as the shim: "
        "choose a folder of your own with --state-dir, for example a new folder in it"
    )


def _is_used_by_this_user_only(fd: int) -> bool:
    """Tell whether a folder is empty or a state folder, and all that is in it is this user's."""
    names = set(os.listdir(fd)) - {_OF_A_DISK}
    if names and not names & {TOKEN_NAME, DAEMON_LOCK_NAME}:
        return False
    return all(os.stat(name, dir_fd=fd, follow_symlinks=False).st_uid == os.geteuid() for name in names)


@contextlib.contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Hold the state folder's lock: one daemon per folder. The kernel releases it when this process ends.

    Raises:
        AlreadyServed: another process holds the lock.
        ConfigError: the lock cannot be opened.
    """
    try:
        fds = lock.acquire_in_folder(state_dir, DAEMON_LOCK_NAME, DAEMON_USE)
    except OSError as exc:
        raise ConfigError(f"{state_dir / DAEMON_LOCK_NAME} cannot be opened: {exc.strerror}") from None
    if fds is None:
        pid = lock_holder(state_dir)
        who = f"pid {pid}" if pid else f"its pid is not known here: is its file `{DAEMON_LOCK_NAME}` removed?"
        raise AlreadyServed(f"another daemon ({who}) serves {state_dir}: end it, or choose another --state-dir")
    try:
        yield
    finally:
        for fd in fds:
            os.close(fd)


def lock_holder(state_dir: Path) -> int | None:
    """Return the pid of the daemon that serves `state_dir`, or None if none does."""
    return lock.holder(state_dir / DAEMON_LOCK_NAME)
