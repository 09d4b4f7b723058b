"""The files of an open store: whether they are still those that the connections use.

SQLite does not notice when its files are deleted, moved, replaced or truncated under it, and goes on in files that
nobody will find again. So the writer looks before each transaction, and before its answer is believed.
"""

import contextlib
import fcntl
import logging
import os
import sqlite3
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Self, TypeVar

from outlast.model.errors import StorageUnavailable

_log = logging.getLogger(__name__)

T = TypeVar("T")
WriterWork = Callable[[sqlite3.Connection], T]

_HEADER_BYTES = 96
"""Size of the two copies of the header of the log's index."""

_PAGE_BYTES = slice(14, 16)
_PAGES = slice(20, 24)
_SALT = slice(32, 40)
_BACKFILL = slice(96, 100)
"""Places in the log's index: size of a page, size of the database in pages, which log it is, and how much of it is
written back (https://sqlite.org/walformat.html)."""

_SHARED_BYTES = (0x40000002, 510)
"""Begin and length of the bytes of a database that SQLite locks (https://sqlite.org/lockingv3.html)."""


class Finding(Enum):
    """The fate of the files.

    `SAME`: nothing has happened. `MOVED`: all that was committed is there, but the files have to be opened again,
    because they were moved to another disk and back, or only the log was deleted. `GONE`: the database is not at its
    place. `FOREIGN`: there is something else than what was committed.
    """

    SAME = auto()
    MOVED = auto()
    GONE = auto()
    FOREIGN = auto()


@dataclass(frozen=True, slots=True)
class _File:
    """A file: which one it is (`device`, `inode`), and what changes when it is written (`size`, `changed_ns`)."""

    device: int
    inode: int
    size: int
    changed_ns: int

    @classmethod
    def at(cls, path: Path) -> Self | None:
        """Look at a file; None: there is no regular file."""
        try:
            found = path.stat()
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def is_same(self, other: "_File | None") -> bool:
        """Tell whether `other` is this very file."""
        return other is not None and (self.device, self.inode) == (other.device, other.inode)

    def is_alike(self, other: "_File | None") -> bool:
        """Tell whether `other` holds the same."""
        return other is not None and (self.size, self.changed_ns) == (other.size, other.changed_ns)


class StoreFiles:
    """The database, its log (`-wal`) and the log's index (`-shm`), as the writer left them.

    Attributes:
        finding: what the last check has found.
    """

    def __init__(self, path: Path) -> None:
        self.finding = Finding.SAME
        self._paths = (path, Path(f"{path}-wal"), Path(f"{path}-shm"))
        self._known: tuple[_File, _File, _File] | None = None
        self._index: int | None = None
        self._progress = b""

    def open(self) -> None:
        """Take note of the files that the writer has just opened.

        Raises:
            StorageUnavailable: one of them is gone already.
        """
        try:
            # Held, because closing any descriptor of the file would release SQLite's own locks on it.
            self._index = os.open(self._paths[2], os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise StorageUnavailable(f"{self._paths[2]} was deleted while it was opened: try again") from error
        self._note(writes_back=True)
        self.finding = Finding.SAME

    def close(self) -> None:
        """Forget the files: no connection has them open."""
        if self._index is not None:
            os.close(self._index)
        self._index = self._known = None

    def guard(self, work: Callable[[sqlite3.Connection], T], *, writes_back: bool = False) -> WriterWork[T]:
        """Return `work`, on the writer's thread, between two checks that its files are those at their places.

        `writes_back`: whether it may write into the database itself, as only checkpoints do.

        Raises:
            StorageUnavailable: by the returned function. If the first check has failed, nothing was written; if the
                second, what was written may be lost.
        """

        def run(db: sqlite3.Connection) -> T:
            self.check()
            try:
                result = work(db)
            except BaseException:
                with contextlib.suppress(StorageUnavailable):
                    self._note(writes_back=writes_back)
                raise
            self._note(writes_back=writes_back)
            return result

        return run

    def check(self) -> None:
        """Check that the files are those that the writer has open, and hold what it has written.

        Raises:
            StorageUnavailable: they are not; the sentence says what to do.
        """
        self.mend_index()
        self.finding = self._find()
        problem = self.problem()
        if problem:
            raise StorageUnavailable(problem)

    def mend_index(self) -> None:
        """Give the log's index its size again if it was truncated. To be called before a connection uses it.

        SQLite has it mapped, and the kernel ends a process that reads behind the end of a mapped file. SQLite makes
        an index whose header is zero again from the log.
        """
        if self._index is not None and self._known is not None:
            size = self._known[2].size
            if os.fstat(self._index).st_size < size:
                os.pwrite(self._index, bytes(_HEADER_BYTES), 0)
                os.ftruncate(self._index, size)
                _log.warning("%s was truncated, and is made again from the log", self._paths[2])

    def problem(self) -> str | None:
        """Return a sentence that says what is wrong with the files and what to do, or None."""
        path, log, index = self._paths
        match self.finding:
            case Finding.MOVED:
                return f"the files of the database {path} were deleted or moved, and have to be opened again"
            case Finding.GONE:
                return f"the database {path} is gone: move it back, or end the daemon and restore it from a backup"
            case Finding.FOREIGN:
                return (
                    f"the database {path} was replaced, overwritten or truncated: end the daemon, restore the database "
                    f"from a backup unless that is what was done, delete {log.name} and {index.name}, which belong to "
                    "the one before, and start the daemon"
                )
        return None

    def has_log_only_here(self) -> bool:
        """Tell whether the log, and nothing else, is another file than the one that is open."""
        return self._known is not None and self._known[0].is_same(_File.at(self._paths[0]))

    @contextlib.contextmanager
    def left_as_they_are(self) -> Iterator[None]:
        """Keep the last connection that closes from writing the log back into content that it does not belong to.

        It does so only when it can lock the database, and here is another lock.
        """
        with contextlib.ExitStack() as stack:
            if self._find() is Finding.FOREIGN:
                descriptor = os.open(self._paths[0], os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, descriptor)
                lock = struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, *_SHARED_BYTES, 0)
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
            yield

    def _find(self) -> Finding:
        if self._known is None:
            return Finding.SAME
        database, log, index = (_File.at(path) for path in self._paths)
        known_database, known_log, known_index = self._known
        if database is None:
            return Finding.GONE
        has_log = known_log.is_same(log)
        if not known_database.is_same(database):
            is_copy = known_database.is_alike(database) and (has_log or known_log.is_alike(log))
            return Finding.MOVED if is_copy else Finding.FOREIGN
        if log is None or index is None or not has_log or not known_index.is_same(index):
            return Finding.MOVED if known_database.is_alike(database) else Finding.FOREIGN
        if not known_database.is_alike(database) or log.size < known_log.size:
            if self._progress == self._read_progress() or database.size < min(known_database.size, self._full_size()):
                return Finding.FOREIGN
            self._keep(database, log, index)  # another SQLite has written the log back
        return Finding.SAME

    def _note(self, *, writes_back: bool) -> None:
        """Take note of what the writer has left behind."""
        found = [_File.at(path) for path in self._paths]
        database, log, index = found
        if self._known is not None:
            are_same = all(known.is_same(file) for known, file in zip(self._known, found, strict=True))
            if not are_same or not (writes_back or self._known[0].is_alike(database)):
                raise StorageUnavailable("the files of the store were changed while it wrote: it is written again")
        if database is None or log is None or index is None:
            raise StorageUnavailable(f"the files of {self._paths[0]} were deleted while they were opened: try again")
        self._keep(database, log, index)

    def _keep(self, database: _File, log: _File, index: _File) -> None:
        self._known = database, log, index
        self._progress = self._read_progress()

    def _full_size(self) -> int:
        """Return the size of the database, in bytes, once all of the log is written back."""
        assert self._index is not None  # noqa: S101 - it is open from `open` to `close`
        header = os.pread(self._index, _PAGES.stop, 0)
        page_bytes = int.from_bytes(header[_PAGE_BYTES], sys.byteorder)
        return int.from_bytes(header[_PAGES], sys.byteorder) * (65536 if page_bytes == 1 else page_bytes)

    def _read_progress(self) -> bytes:
        assert self._index is not None  # noqa: S101 - it is open from `open` to `close`
        header = os.pread(self._index, _BACKFILL.stop, 0)
        return header[_SALT] + header[_BACKFILL]
