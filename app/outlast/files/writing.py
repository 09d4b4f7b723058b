"""Writing and deleting files. A path has its old contents until all of the new ones are there."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from outlast.files.failures import check_regular, failures_told
from outlast.linux.whole_file import sync_folder
from outlast.model.errors import InvalidRequest

_NAME_BYTES = 200
"""How much of a file's name the name of the unfinished one has: with the rest of it, a name may have 255."""


class NewFile:
    """New contents of a file, in an unfinished file beside it: `.NAME.RANDOM.part`.

    A symbolic link is followed. `discard` removes what was not committed; a daemon that is killed meanwhile leaves the
    unfinished file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._target = Path()
        self._unfinished = Path()
        self._fd = -1
        self._made: list[Path] = []

    def begin(self) -> None:
        """Open the unfinished file. Missing folders are made. Permissions and owner of an old file stay, if they may.

        Raises:
            InvalidRequest: the path names a folder, a device, a pipe or a socket, or leads through a file.
            OutlastError: see `failures_told`.
        """
        with failures_told("write", self._path):
            self._target = Path(os.path.realpath(self._path))
            old = self._old_status()
            _make_folders(self._target.parent, self._made)
            name = os.fsdecode(os.fsencode(self._target.name)[:_NAME_BYTES])
            self._unfinished = self._target.with_name(f".{name}.{secrets.token_hex(4)}.part")
            self._fd = os.open(self._unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            if old is not None:
                with contextlib.suppress(PermissionError):
                    os.fchown(self._fd, old.st_uid, old.st_gid)
                with contextlib.suppress(PermissionError):
                    os.fchmod(self._fd, stat.S_IMODE(old.st_mode))

    def _old_status(self) -> os.stat_result | None:
        try:
            old = self._target.stat()
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise InvalidRequest(f"cannot write {self._path}: a part of it is a file, not a folder") from None
        check_regular(old, self._path)
        return old

    def write(self, data: bytes) -> None:
        """Append a piece.

        Raises:
            OutlastError: see `failures_told`.
        """
        view = memoryview(data)
        with failures_told("write", self._path):
            while view:
                view = view[os.write(self._fd, view) :]

    def commit(self) -> None:
        """Let the path have the new contents from now on, also after a loss of power.

        Raises:
            OutlastError: see `failures_told`. The path has its old contents.
        """
        with failures_told("write", self._path):
            os.fsync(self._fd)
            self._unfinished.replace(self._target)
        self._made = []
        sync_folder(self._target.parent)

    def discard(self) -> None:
        """Close the file, and remove what was not committed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._unfinished.unlink(missing_ok=True)
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):  # somebody has put something there meanwhile
                folder.rmdir()


def delete_file(path: str) -> None:
    """Delete a file, or a symbolic link.

    Raises:
        OutlastError: see `failures_told` and `check_regular`.
    """
    with failures_told("delete", path):
        file = Path(path)
        status = file.lstat()
        if not stat.S_ISLNK(status.st_mode):
            check_regular(status, path)
        file.unlink()


def _make_folders(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it, as far as they are missing, and add them to `made`."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        with contextlib.suppress(FileExistsError):
            one.mkdir()
            made.append(one)
