"""Files that are replaced as a whole: a reader meets the old contents or the new ones, also after a crash."""

import contextlib
import os
from pathlib import Path


def replace_file(path: Path, data: bytes, *, is_synced: bool = True) -> None:
    """Give a file, which only its owner may read, other contents, or make it.

    Args:
        path: the file.
        data: its contents.
        is_synced: whether they are on the disk before the file has them.

    Raises:
        OSError: that failed. The file is as before.
    """
    fresh = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if is_synced:
                file.flush()
                os.fsync(file.fileno())
        fresh.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Return once the names in a folder are on the disk.

    Raises:
        OSError: they may not be.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
