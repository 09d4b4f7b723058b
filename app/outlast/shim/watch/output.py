"""Reading what processes print, as long as there is room for it: first in memory, then on disk."""

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Protocol

from outlast.linux import descriptors
from outlast.shim.event_loop import IN, Loop
from outlast.shim.log import log
from outlast.shim.state.buffer import Segment, StreamBuffer, memory_segment, spool_segment
from outlast.shim.state.child import Child
from outlast.shim.state.quota import BufferUsage

READ_AHEAD_BYTES = 16 << 20
"""Maximum bytes held of one process while a daemon is connected: enough to keep it busy. The rest waits in the pipe."""
MEMORY_PER_PROCESS_BYTES = 4 << 20
"""Maximum bytes held in memory of one process while no daemon is connected. The rest goes to disk."""
SPOOL_NAME = "spool"
"""The folder of buffer files on disk, in the state folder."""
_MAX_SEGMENTS = 64
"""Number of a stream's buffer files from which no further one is made: all must go to the daemon with one message."""
_GATHER_S = 0.001
"""Time for which a pipe that fills fast is left alone: a read costs the same for one line as for a thousand."""
_GATHER_FROM_BYTES = 4 << 10
"""Minimum size of a read after which a pipe is left alone."""
_RETRY_S = 0.5
_LOG_EVERY_S = 60.0


class OutputObserver(Protocol):
    """An observer of what is read."""

    def on_readable(self, child: Child) -> None:
        """Hear that a process has frames to send."""

    def on_problem(self) -> None:
        """Hear that `OutputReader.problem` has changed."""

    def offer_segment(self, child: Child, stream: int, segment: Segment) -> bool:
        """Give the daemon another file for a stream, before anything goes into it. False: not now."""


class OutputReader:
    """The reader of all pipes. A process at its buffer limit is paused, and blocks when its pipes are full."""

    def __init__(self, loop: Loop, usage: BufferUsage, state_dir: Path, observer: OutputObserver) -> None:
        self._loop = loop
        self._usage = usage
        self._spool = state_dir / SPOOL_NAME
        self._observer = observer
        self._problems: dict[tuple[int, int], str] = {}
        self._paused: dict[tuple[int, int], Child] = {}
        self._daemon_is_connected = False
        self._retry_is_due = False
        self._logged_at = -_LOG_EVERY_S

    @property
    def problem(self) -> str | None:
        """A sentence that says which output cannot be read now, and why. None: all can."""
        return next(iter(self._problems.values()), None)

    @property
    def blocked(self) -> int:
        """Number of processes whose output is not read now. They wait once their pipes are full."""
        return len({slot for slot, _stream in self._paused})

    def clear_spool(self) -> None:
        """Remove files that an earlier shim left on disk. A daemon that still needs one has it open."""
        with contextlib.suppress(OSError):
            for path in self._spool.iterdir():
                path.unlink()

    def start_reading(self, child: Child) -> None:
        """Read the output of a process from now on."""
        for stream in child.streams:
            if child.streams[stream].pipe is not None:
                self._start_reading_stream(child, stream)

    def on_daemon_connected(self) -> None:
        """Read into memory only, from now on: the daemon holds the memory files, too."""
        self._daemon_is_connected = True

    def switch_to_memory(self, child: Child) -> None:
        """Make a memory file for each stream of a process that is on disk, before the daemon is given all files.

        Raises:
            OSError: the system has no memory for it now. Reading continues on disk.
        """
        for buffer in child.streams.values():
            if buffer.pipe is not None and buffer.spools and len(buffer.segments) < _MAX_SEGMENTS:
                _check_room()
                buffer.append_segment(memory_segment(buffer.end))

    def on_daemon_gone(self) -> None:
        """Read up to the limits without a daemon, which are higher."""
        self._daemon_is_connected = False
        self.resume_reading()

    def resume_reading(self) -> None:
        """Read again from paused processes for which there is room."""
        for key, child in list(self._paused.items()):
            if child.streams[key[1]].pipe is None:
                del self._paused[key]
            elif self._has_room(child):
                del self._paused[key]
                self._start_reading_stream(child, key[1])

    def pause_if_full(self, child: Child) -> None:
        """Stop reading a process for which there is no room."""
        if self._has_room(child):
            return
        for stream in child.streams:
            self._pause(child, stream)

    def discard(self, child: Child) -> None:
        """Stop reading a process for good, and discard its output."""
        for stream, buffer in child.streams.items():
            self._paused.pop((child.slot, stream), None)
            self._note_problem(child, stream, None)
            self._close_pipe(buffer)
            buffer.close()
        child.drop_frames()
        self.resume_reading()

    def _start_reading_stream(self, child: Child, stream: int) -> None:
        pipe = child.streams[stream].pipe
        assert pipe is not None  # noqa: S101 - the callers have checked
        self._loop.add_handler(pipe, IN, lambda _events: self._read_stream(child, stream))
        if child.streams[stream].may_have_rest:
            self._write_rest_soon(child, stream)

    def _write_rest_soon(self, child: Child, stream: int) -> None:
        """Write what was read and not written: the pipe may be empty, and then the loop does not call."""

        def read_again() -> None:
            pipe = child.streams[stream].pipe
            if pipe is not None and self._loop.has_handler(pipe):
                self._read_stream(child, stream)

        self._loop.call_later(0, read_again)

    def _close_pipe(self, buffer: StreamBuffer) -> None:
        if buffer.pipe is not None:
            self._loop.close_fd(buffer.pipe)
            buffer.pipe = None
            buffer.close_relay()

    def _read_stream(self, child: Child, stream: int) -> None:
        buffer = child.streams[stream]
        try:
            if not self._daemon_is_connected:
                self._switch_to_disk_if_full(child, stream, buffer)
            elif buffer.needs_segment:
                self._begin_segment(child, stream, buffer)
            count = child.read_stream(stream)
        except OSError as exc:
            self._pause(child, stream)
            self._retry_later(child, stream, exc)
            return
        if count is None:
            return
        if self._problems:
            self._note_problem(child, stream, None)
        if buffer.unwritten:
            self._write_rest_soon(child, stream)
        if count == 0:
            self._close_pipe(buffer)
        else:
            self.pause_if_full(child)
            if buffer.fills_fast(count, _GATHER_S) and count >= _GATHER_FROM_BYTES:
                self._let_gather(buffer)
        self._observer.on_readable(child)

    def _let_gather(self, buffer: StreamBuffer) -> None:
        """Leave a pipe alone for a moment in which it cannot fill."""
        self._set_events(buffer, 0)
        self._loop.call_later(_GATHER_S, lambda: self._set_events(buffer, IN))

    def _set_events(self, buffer: StreamBuffer, events: int) -> None:
        if buffer.pipe is not None and self._loop.has_handler(buffer.pipe):
            self._loop.set_events(buffer.pipe, events)

    def _switch_to_disk_if_full(self, child: Child, stream: int, buffer: StreamBuffer) -> None:
        """Continue on disk when a process has used its memory. It stays on disk until a daemon connects."""
        if buffer.spools or self._fits_into_memory(child):
            return
        _check_room()
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._spool, mode=0o700)
        buffer.append_segment(spool_segment(self._spool / f"{child.id}.{stream}.{buffer.end}", buffer.end))

    def _begin_segment(self, child: Child, stream: int, buffer: StreamBuffer) -> None:
        """Continue in another memory file, if the daemon gets it now: no byte goes into one that it does not have."""
        if child.attached and len(buffer.segments) < _MAX_SEGMENTS:
            segment = memory_segment(buffer.end)
            if self._observer.offer_segment(child, stream, segment):
                buffer.append_segment(segment)
            else:
                segment.close()

    def _fits_into_memory(self, child: Child) -> bool:
        usage = self._usage
        return child.memory_bytes < MEMORY_PER_PROCESS_BYTES and usage.memory_bytes < usage.memory_limit_bytes

    def _has_room(self, child: Child) -> bool:
        usage = self._usage
        if self._daemon_is_connected:
            if child.held_bytes == 0:  # a process of which nothing is held is read, whatever others hold
                return True
            limit_bytes = min(usage.process_limit_bytes, READ_AHEAD_BYTES)
            return child.held_bytes < limit_bytes and usage.memory_bytes < usage.memory_limit_bytes
        if child.held_bytes >= usage.process_limit_bytes:
            return False
        return self._fits_into_memory(child) or usage.spool_bytes < usage.spool_limit_bytes

    def _pause(self, child: Child, stream: int) -> None:
        """Stop reading a stream: the process blocks when its pipe is full, and nothing is dropped."""
        pipe = child.streams[stream].pipe
        if pipe is not None and (child.slot, stream) not in self._paused:
            self._paused[child.slot, stream] = child
            self._loop.remove_handler(pipe)

    def _retry_later(self, child: Child, stream: int, error: OSError) -> None:
        """Say why a stream cannot be read, such as memory or disk that is full, and try again until it works."""
        why = f"cannot read the output of {child.id} now: {error.strerror}; it waits, and is read as soon as that works"
        self._note_problem(child, stream, why)
        if time.monotonic() >= self._logged_at + _LOG_EVERY_S:
            self._logged_at = time.monotonic()
            log(why)
        if not self._retry_is_due:
            self._retry_is_due = True
            self._loop.call_later(_RETRY_S, self._retry)

    def _note_problem(self, child: Child, stream: int, problem: str | None) -> None:
        before = self.problem
        if problem is None:
            self._problems.pop((child.slot, stream), None)
        else:
            self._problems[child.slot, stream] = problem
        if self.problem != before:
            self._observer.on_problem()

    def _retry(self) -> None:
        self._retry_is_due = False
        self.resume_reading()


def _check_room() -> None:
    """Raise an OSError if another buffer file would take one of the descriptors that are kept for what must go on."""
    if not descriptors.has_room(1):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
