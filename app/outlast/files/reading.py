"""Reading files and folders."""

import io
import os
import stat
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from outlast.files.failures import check_regular, failures_told
from outlast.model.errors import InvalidRequest

MAX_ENTRIES = 100_000
"""Maximum number of entries of a folder that is listed."""
_LARGE_BYTES = 1 << 16
"""Size from which that of a file is believed: files that the kernel makes up tell 0, or a page."""


class Entry(NamedTuple):
    """An entry of a folder. A symbolic link is told as what it leads to; if that is missing, as the link.

    Attributes:
        name: name in the folder. Bytes that are not UTF-8 are shown as U+FFFD.
        is_dir: whether the entry is a folder.
        size: bytes of a file; None for anything else.
        modified_at_ms: time of the last change of its contents, in milliseconds since 1970.
    """

    name: str
    is_dir: bool
    size: int | None
    modified_at_ms: int


def open_file(path: str) -> tuple[io.FileIO, int | None]:
    """Open a file for reading.

    Returns:
        The file, and the number of bytes to read. None: until the end, as a small file. Those that the kernel makes
        up as they are read (in /proc and /sys, for instance) tell no size, or a false one.

    Raises:
        OutlastError: see `failures_told` and `check_regular`.
    """
    with failures_told("read", path):
        check_regular(Path(path).stat(), path)  # before it is opened: to open a device may have effects
        file = io.FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        try:
            status = os.fstat(file.fileno())
            check_regular(status, path)
        except BaseException:
            file.close()
            raise
    return file, status.st_size if status.st_size >= _LARGE_BYTES else None


def read_piece(file: io.FileIO, most: int, path: str) -> bytes:
    """Return the next bytes of a file, at most `most`; none at its end, or where there are none now.

    Raises:
        OutlastError: see `failures_told`.
    """
    with failures_told("read", path):
        return file.read(most) or b""


def list_folder(path: str) -> list[Entry]:
    """Return the entries of a folder, by name.

    Raises:
        InvalidRequest: the path does not name a folder, or there are more than `MAX_ENTRIES`.
        OutlastError: see `failures_told`.
    """
    with failures_told("list", path):
        if not stat.S_ISDIR(Path(path).stat().st_mode):
            raise InvalidRequest(f"{path} is not a folder: /api/v1/files reads a file")
        with os.scandir(path) as found:
            listed = [_entry(one) for one in islice(found, MAX_ENTRIES + 1)]
    entries = [one for one in listed if one is not None]
    if len(listed) > MAX_ENTRIES:
        raise InvalidRequest(f"{path} has more than {MAX_ENTRIES} entries: list it with a process, `find` for instance")
    return sorted(entries)


def _entry(one: os.DirEntry[str]) -> Entry | None:
    """Return an entry as it is told. None: it has been deleted since its name was read."""
    try:
        status = one.stat()
    except OSError:  # what a link leads to is missing, or not to be seen
        try:
            status = one.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
    is_file = stat.S_ISREG(status.st_mode)
    return Entry(
        name=os.fsencode(one.name).decode(errors="replace"),
        is_dir=stat.S_ISDIR(status.st_mode),
        size=status.st_size if is_file else None,
        modified_at_ms=status.st_mtime_ns // 1_000_000,
    )
