"""What is read from one stream and not acknowledged yet: in files, so that it outlives the process that reads.

Bytes go from the pipe into a buffer file by splice(2): one call of the kernel, which SIGKILL does not divide. The size
of the file is what has left the pipe, and whoever else holds the file (the daemon does) finds every byte of it, also
when the shim is killed in the middle of its work.
"""

import contextlib
import fcntl
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from outlast.linux.memory import release_pages

READ_BYTES = 256 << 10
# Memory is given back in steps: in a flood large ones, and what a quiet process leaves behind in small ones.
_RELEASE_BYTES = 1 << 20
_RELEASE_QUIET_BYTES = 16 << 10
_PAGE_BYTES = 4096


class Segment:
    """A buffer file that holds a stream from offset `start` on.

    Attributes:
        path: where it lies on disk; None: it is in memory.
        released: so many of its first bytes are given back to the system.
    """

    __slots__ = ("fd", "path", "released", "start")

    def __init__(self, fd: int, start: int, path: str | None = None) -> None:
        self.fd = fd
        self.start = start
        self.path = path
        self.released = 0

    def close(self) -> None:
        """Let go of it; a file on disk is removed."""
        os.close(self.fd)
        if self.path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def memory_segment(start: int) -> Segment:
    """Make a segment in memory.

    Raises:
        OSError: the system gives none now.
    """
    return Segment(os.memfd_create("outlast-output", os.MFD_CLOEXEC), start)


def memory_segments(starts: Mapping[int, int]) -> dict[int, Segment]:
    """Make one for each stream, that begins where `starts` says: all, or none.

    Raises:
        OSError: the system gives none now.
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
    """Make a segment in a new file on disk, for this user only.

    Raises:
        OSError: it can't be made.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return Segment(fd, start, str(path))


class StreamBuffer:
    """One captured stream: its pipe, and the segments that hold what was read from it.

    Attributes:
        pipe: our end of it; None once it has ended.
        end: offset behind the last byte that was read.
        let_go: offset of the first byte that is still needed.
    """

    def __init__(self, pipe: int | None, segments: list[Segment], *, let_go: int | None = None) -> None:
        """Take over a pipe and segments, the last of which may have grown."""
        self.pipe = pipe
        self.segments = deque(segments)
        self.let_go = segments[0].start if let_go is None else let_go
        self.end = segments[-1].start + os.fstat(segments[-1].fd).st_size
        self._capacity_bytes = 0 if pipe is None else fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
        self._read_at_s = 0.0

    @property
    def spools(self) -> bool:
        """Whether what is read goes to disk."""
        return self.segments[-1].path is not None

    def read(self) -> int | None:
        """Move what is in the pipe into the buffer.

        Returns:
            How many bytes; 0 at the end of the stream; None if there was nothing.

        Raises:
            OSError: the buffer takes no more now; what was in the pipe is still there.
        """
        assert self.pipe is not None  # noqa: S101 - an ended stream is not watched
        try:
            count = os.splice(self.pipe, self.segments[-1].fd, READ_BYTES, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return None
        self.end += count
        return count

    def fills_fast(self, count: int, within_s: float) -> bool:
        """Tell whether reads come close behind one another, the last of which has just brought `count` bytes.

        Not if the pipe could not take twice what comes `within_s` at this pace.
        """
        now_s = time.monotonic()
        since_s, self._read_at_s = now_s - self._read_at_s, now_s
        return since_s < 2 * within_s and count < READ_BYTES and 2 * count * within_s <= self._capacity_bytes * since_s

    def unknown(self, known_end: int) -> Iterator[tuple[int, int, int, bool]]:
        """Yield what was read behind `known_end`: offset, size, last change of its file (ms), whether it is on disk."""
        for segment in self.segments:
            status = os.fstat(segment.fd)
            end = segment.start + status.st_size
            begin = max(known_end, segment.start)
            if begin < end:
                yield begin, end - begin, status.st_mtime_ns // 1_000_000, segment.path is not None

    def is_on_disk(self, offset: int) -> bool:
        """Tell where the byte at `offset` is."""
        holding = [segment for segment in self.segments if segment.start <= offset]
        return bool(holding) and holding[-1].path is not None

    def grow(self, segment: Segment) -> None:
        """Put what is read from now on into another segment, which begins where this stream stands."""
        assert segment.start == self.end  # noqa: S101 - or offsets would not be those of the stream
        last = self.segments[-1]
        if last.start == self.end:  # nothing was ever in it
            self.segments.pop().close()
        self.segments.append(segment)

    def release(self, upto: int) -> None:
        """Everything below this offset is stored: give it back to the system, in steps."""
        self.let_go = upto
        while len(self.segments) > 1 and self.segments[1].start <= upto:
            self.segments.popleft().close()
        head = self.segments[0]
        done = (upto - head.start) // _PAGE_BYTES * _PAGE_BYTES
        if done - head.released >= (_RELEASE_QUIET_BYTES if upto == self.end else _RELEASE_BYTES):
            release_pages(head.fd, head.released, done - head.released)
            head.released = done

    def close(self) -> None:
        """Let go of everything but the pipe."""
        for segment in self.segments:
            segment.close()
        self.segments.clear()
