"""Output of one stream that is not acknowledged: in files, so that it outlives the process that reads it.

Bytes go from the pipe into a buffer file by splice(2): one system call, which SIGKILL does not divide. The size of the
file tells how much has left the pipe, and the daemon, which holds the file too, finds every byte of it, also when the
shim is killed in the middle of its work.

Where the system refuses splice(2), bytes are read and written: a shim that is killed between the two loses them.
"""

import contextlib
import errno
import os
import select
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from outlast.linux.memory import pipe_capacity, release_pages
from outlast.linux.refused import is_refused

READ_BYTES = 256 << 10
"""Maximum bytes of one read."""
_TRIM_BYTES = 1 << 20
"""Bytes of acknowledged output that are freed at once while more is waiting."""
_TRIM_QUIET_BYTES = 16 << 10
"""Bytes of acknowledged output that are freed at once when at most one read is not acknowledged."""
_PAGE_BYTES = 4096
_TERMINAL_BYTES = 2048
"""Size of a read of a terminal from which more may be there: the kernel gives 4 KiB at once."""
_NO_SPLICE = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
"""Errors of a splice into a file whose file system has none, besides those of a refused call."""


class Segment:
    """A buffer file that holds a stream from offset `start` on.

    Attributes:
        path: the file's place on disk. None: the file is in memory.
        released: number of bytes at its beginning that are freed.
    """

    __slots__ = ("fd", "path", "released", "start")

    def __init__(self, fd: int, start: int, path: str | None = None) -> None:
        self.fd = fd
        self.start = start
        self.path = path
        self.released = 0

    def close(self) -> None:
        """Close the file, and remove it if it is on disk."""
        os.close(self.fd)
        if self.path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def memory_segment(start: int) -> Segment:
    """Make a segment in memory.

    Raises:
        OSError: the system has no memory or descriptor for it now.
    """
    return Segment(os.memfd_create("outlast-output", os.MFD_CLOEXEC), start)


def memory_segments(starts: Mapping[int, int]) -> dict[int, Segment]:
    """Make a segment in memory for each stream, beginning at the offset that `starts` names: all, or none.

    Raises:
        OSError: the system has no memory or descriptors for them now.
    """
    segments: dict[int, Segment] = {}
    try:
        for stream, start in starts.items():
            segments[stream] = memory_segment(start)
    except OSError:
        for segment in segments.values():
            segment.close()
        raise
    return segments


def spool_segment(path: Path, start: int) -> Segment:
    """Make a segment in a new file on disk that only this user may read.

    Raises:
        OSError: the file cannot be made.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return Segment(fd, start, str(path))


class StreamBuffer:
    """One captured stream: its pipe, and the segments that hold what was read from the pipe.

    Attributes:
        pipe: the reading end, or the master of a terminal; None once the stream has ended.
        relay: of a terminal, both ends of a pipe through which its output passes, because bytes cannot be moved from
            a terminal into a file at once; else empty.
        end: offset behind the last byte that was read.
        trimmed_to: offset of the first byte that is still needed.
        sent_to: offset behind the last byte of which any daemon was told.
        unwritten: bytes that have left the pipe and are in no segment yet; never any where splice(2) can be used.
    """

    def __init__(
        self,
        pipe: int | None,
        segments: list[Segment],
        *,
        trimmed_to: int | None = None,
        sent_to: int = 0,
        relay: Sequence[int] = (),
    ) -> None:
        """Take over a pipe and segments, the last of which may have grown meanwhile."""
        self.pipe = pipe
        self.relay = relay
        self.segments = deque(segments)
        self.trimmed_to = segments[0].start if trimmed_to is None else trimmed_to
        self.sent_to = sent_to
        self.end = segments[-1].start + os.fstat(segments[-1].fd).st_size
        self.unwritten = b""
        self._keeps_pages = False
        self._copies = False
        self._copies_from_master = False
        self._capacity_bytes = 0 if pipe is None else pipe_capacity(pipe)
        self._read_at_s = 0.0

    @property
    def spools(self) -> bool:
        """Whether bytes that are read now go to disk."""
        return self.segments[-1].path is not None

    def read_pipe(self) -> int | None:
        """Move bytes from the pipe into the last segment.

        Returns:
            The number of bytes; 0 at the end of the stream; None if the pipe was empty.

        Raises:
            OSError: the segment takes no more now, or the pipe cannot be read. The bytes are still in the pipe, or in
                `unwritten`.
        """
        assert self.pipe is not None  # noqa: S101 - an ended stream is not watched
        has_ended = self._fill_relay(self.pipe) if self.relay else False
        source = self.relay[0] if self.relay else self.pipe
        try:
            count = self._copy(source) if self._copies or self.unwritten else self._splice(source)
        except BlockingIOError:
            return 0 if has_ended else None
        self.end += count
        return count

    def _fill_relay(self, master: int) -> bool:
        """Move what a terminal has into the relay. True: no process has the terminal open, and nothing is left.

        While bytes are in the relay, all programs that hold it have them: none is lost if this one is killed.
        """
        moved = 0
        try:
            count = _TERMINAL_BYTES
            while count >= _TERMINAL_BYTES and moved < READ_BYTES:
                count = self._move_to_relay(master, READ_BYTES - moved)
                moved += count
        except BlockingIOError:  # nothing is left, or the relay is full
            return False
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            return True
        return False

    def _move_to_relay(self, master: int, size: int) -> int:
        if not self._copies_from_master:
            try:
                return os.splice(master, self.relay[1], size, flags=os.SPLICE_F_NONBLOCK)
            except (OSError, AttributeError) as exc:
                if not is_refused(exc) and getattr(exc, "errno", None) not in _NO_SPLICE:
                    raise
            self._copies_from_master = True
        poll = select.poll()
        poll.register(self.relay[1], select.POLLOUT)
        if not poll.poll(0):  # what is read must fit
            raise BlockingIOError
        return os.write(self.relay[1], os.read(master, min(size, select.PIPE_BUF)))

    @property
    def may_have_rest(self) -> bool:
        """Whether bytes that have left the pipe or terminal may be in no segment yet."""
        return bool(self.unwritten or self.relay)

    def _splice(self, pipe: int) -> int:
        try:
            return os.splice(pipe, self.segments[-1].fd, READ_BYTES, flags=os.SPLICE_F_NONBLOCK)
        except (OSError, AttributeError) as exc:
            if not is_refused(exc) and getattr(exc, "errno", None) not in _NO_SPLICE:
                raise
        self._copies = True
        return self._copy(pipe)

    def _copy(self, pipe: int) -> int:
        self.unwritten = self.unwritten or os.read(pipe, READ_BYTES)
        count = os.write(self.segments[-1].fd, self.unwritten) if self.unwritten else 0
        self.unwritten = self.unwritten[count:]
        return count

    def fills_fast(self, count: int, within_s: float) -> bool:
        """Tell whether reads follow each other fast. The last of them has just brought `count` bytes.

        False if the pipe could not hold twice what comes `within_s` at this pace.
        """
        now_s = time.monotonic()
        since_s, self._read_at_s = now_s - self._read_at_s, now_s
        return since_s < 2 * within_s and count < READ_BYTES and 2 * count * within_s <= self._capacity_bytes * since_s

    def read_after(self, known_end: int) -> Iterator[tuple[int, int, int, bool]]:
        """Yield what was read behind `known_end`: offset, size, last change of the file in ms, whether on disk."""
        for segment in self.segments:
            status = os.fstat(segment.fd)
            end = segment.start + status.st_size
            begin = max(known_end, segment.start)
            if begin < end:
                yield begin, end - begin, status.st_mtime_ns // 1_000_000, segment.path is not None

    def is_on_disk(self, offset: int) -> bool:
        """Tell whether the byte at `offset` is on disk."""
        holding = [segment for segment in self.segments if segment.start <= offset]
        return bool(holding) and holding[-1].path is not None

    @property
    def needs_segment(self) -> bool:
        """Whether bytes should go into another segment, because the system frees a file only as a whole."""
        return self._keeps_pages and self.end - self.segments[-1].start >= _TRIM_BYTES

    def append_segment(self, segment: Segment) -> None:
        """Put bytes that are read from now on into another segment, which begins at the end of the stream."""
        assert segment.start == self.end  # noqa: S101 - or offsets would not be those of the stream
        last = self.segments[-1]
        if last.start == self.end:  # still empty
            self.segments.pop().close()
        self.segments.append(segment)

    def trim(self, end: int) -> None:
        """Free memory and files, in steps: every byte below offset `end` is stored."""
        self.trimmed_to = end
        while len(self.segments) > 1 and self.segments[1].start <= end:
            self.segments.popleft().close()
        head = self.segments[0]
        done = (end - head.start) // _PAGE_BYTES * _PAGE_BYTES
        is_quiet = self.end - end <= READ_BYTES
        if done - head.released >= (_TRIM_QUIET_BYTES if is_quiet else _TRIM_BYTES):
            self._keeps_pages = not release_pages(head.fd, head.released, done - head.released)
            head.released = done

    def close(self) -> None:
        """Close all segments, and the relay. The pipe stays open."""
        self.close_relay()
        for segment in self.segments:
            segment.close()
        self.segments.clear()

    def close_relay(self) -> None:
        """Close the relay: the stream has ended."""
        for fd in self.relay:
            os.close(fd)
        self.relay = ()
