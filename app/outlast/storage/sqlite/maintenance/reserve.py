"""The reserve: room on the disk that is given up for ends and purges when the disk is full.

A purge has to be written before it frees anything. So output, which has filled the disk, is stored only while the
reserve is there, and what ends or deletes processes may use it up. Rows are merged and compressed as output is stored.
"""

import errno
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from outlast.linux import disk_space
from outlast.linux.refused import is_refused
from outlast.model.errors import StorageFull
from outlast.storage.base import (
    Change,
    Chunk,
    CompleteOutput,
    EndRun,
    PurgeProcess,
    SetManaged,
    TrimOutput,
    WithdrawProcess,
    WithdrawRun,
)

T = TypeVar("T")

RESERVE_BYTES = 16 * 1024 * 1024
"""Maximum size of the reserve: more than the log may need to be written back when the disk has become full."""

_SHARE = 4
"""A small disk is this many times as large as its reserve, and the reserve as the limit of the log on a full disk."""

_MARGIN_SHARE = 16
_FILL_BYTES = 1024 * 1024
_NO_FALLOCATE = {errno.EOPNOTSUPP, errno.EINVAL}
"""Errors of a file system that has no fallocate(2), besides those of a refused call."""
_FREEING = (CompleteOutput, EndRun, PurgeProcess, SetManaged, TrimOutput, WithdrawProcess, WithdrawRun)

_log = logging.getLogger(__name__)


def may_use_reserve(changes: Sequence[Change]) -> bool:
    """Tell whether changes only end or delete processes. Output of a process that they purge is not stored."""
    purged = {change.handle for change in changes if isinstance(change, PurgeProcess)}
    return bool(changes) and all(
        isinstance(change, _FREEING) or getattr(change, "handle", None) in purged for change in changes
    )


class Reserve:
    """The file `-reserve` beside a database. To be used on the writer's thread, but for `free_bytes`."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = Path(f"{database}-reserve")
        self._is_wanted = True
        self._is_there = False

    def free_bytes(self) -> int:
        """Return the free space of the disk, without the reserve."""
        return disk_space.free_bytes(self._database.parent) or 0

    @property
    def bytes(self) -> int:
        """Size that the reserve is to have; that of a large disk also where the disk's size is not known."""
        try:
            disk = os.statvfs(self._database.parent)
        except OSError:  # the folder has vanished
            return RESERVE_BYTES
        return min(disk.f_blocks * disk.f_frsize // _SHARE, RESERVE_BYTES) or RESERVE_BYTES

    @property
    def is_tight(self) -> bool:
        """Whether there is little free space, so that the log is kept small."""
        return self.free_bytes() < _SHARE * self.bytes

    @property
    def is_small(self) -> bool:
        """Whether one batch of output could take as much room in the log as the reserve has."""
        return self.bytes < RESERVE_BYTES

    @property
    def log_bytes(self) -> int:
        """Length of the log that the reserve has room to write back, whatever one batch adds to it."""
        return self.bytes // _SHARE

    def open(self) -> None:
        """Make the reserve, if the size of the disk is known."""
        self._is_wanted = os.statvfs(self._database.parent).f_blocks > 0
        self._is_there = False
        self.restore()

    def close(self) -> None:
        """Keep what is left of a reserve that was used: the next opening of the store needs some room, too."""
        if self._is_wanted and not self._is_there:
            self._allocate(min(self._size_bytes() + self.free_bytes() // 2, self.bytes))

    def restore(self) -> bool:
        """Make the reserve again if it is missing and there is room. Return whether output may be stored."""
        if self._is_wanted and not self._is_there:
            size, wanted = self._size_bytes(), self.bytes
            has_room = size >= wanted or size + self.free_bytes() >= self._bytes_with_margin
            self._is_there = has_room and self._allocate(wanted)
        return self._is_there or not self._is_wanted

    def give_up(self) -> bool:
        """Delete the reserve, so that its room can be used. Return False if there is none."""
        self._is_there = False
        try:
            self._path.unlink()
        except OSError:
            return False
        _log.warning("the disk of %s is full: the room that was reserved for ends and purges is used", self._database)
        return True

    def use(self, work: Callable[[], T]) -> T:
        """Call `work`, and once more without the reserve if the disk is too full."""
        try:
            return work()
        except StorageFull:
            if not self.give_up():
                raise
            return work()

    def commit(self, changes: Sequence[Change], work: Callable[[], T]) -> T:
        """Call `work`, which commits changes, with the reserve if they may use it.

        Raises:
            StorageFull: there is no room; or there is some, but it belongs to the reserve.
        """
        if may_use_reserve(changes):
            return self.use(work)
        return self.spare(work, sum(len(change.data) for change in changes if isinstance(change, Chunk)))

    def spare(self, work: Callable[[], T], output_bytes: int) -> T:
        """Call `work`, which stores so much output, if it leaves the reserve alone.

        Raises:
            StorageFull: as `commit`.
        """
        if not self.restore():
            raise self._full(self._bytes_with_margin)
        if self._is_wanted and self.is_small:
            needed = self._bytes_needed(output_bytes)
            if needed > self.free_bytes():
                raise self._full(needed)
        return work()

    @property
    def _bytes_with_margin(self) -> int:
        return self.bytes + self.bytes // _MARGIN_SHARE

    def _bytes_needed(self, output_bytes: int) -> int:
        """Estimate the room with which output can be stored and the log written back without the reserve."""
        return file_bytes(Path(f"{self._database}-wal")) + 2 * output_bytes + self.bytes // _MARGIN_SHARE

    def _full(self, needed: int) -> StorageFull:
        return StorageFull(
            f"the disk of {self._database} is full: make room, or purge processes. Output is stored again when "
            f"{-(-needed >> 20)} MiB are free"
        )

    def _size_bytes(self) -> int:
        return file_bytes(self._path)

    def _allocate(self, size: int) -> bool:
        if self._size_bytes() >= size:
            return True
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                _fill(descriptor, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                self._is_wanted = False
                _log.warning("no room can be reserved for purges on a full disk: %s", error)
            return False
        return True


def file_bytes(path: Path) -> int:
    """Return the size of a file, 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _fill(descriptor: int, size: int) -> None:
    """Make a file take `size` bytes of the disk."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if not is_refused(error) and error.errno not in _NO_FALLOCATE:
            raise
        for start in range(0, size, _FILL_BYTES):
            os.pwrite(descriptor, bytes(min(_FILL_BYTES, size - start)), start)
