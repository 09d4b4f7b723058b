"""Reading what processes print: as long as there is room for it, first in memory, then on disk."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from outlast.shim.event_loop import IN, Loop
from outlast.shim.log import log
from outlast.shim.state.buffer import StreamBuffer, memory_segment, spool_segment
from outlast.shim.state.child import BufferUsage, Child

# While a daemon takes what is read, so much of one process is enough to keep it busy; the rest waits in the pipe.
READ_AHEAD_BYTES = 16 << 20
# While none does, so much of one process stays in memory; the rest goes to disk.
MEMORY_A_PROCESS_BYTES = 4 << 20
SPOOL_NAME = "spool"
# All of a stream's files must go with one message to the daemon: when there are so many, no further one is begun.
_MOST_SEGMENTS = 64
# A pipe that fills fast is looked at this often: a read costs the same, whether it brings a line or a thousand.
_GATHER_S = 0.001
_GATHER_FROM_BYTES = 4 << 10
_TRY_AGAIN_S = 0.5
_TELL_AGAIN_S = 60.0


class OutputReader:
    """Watches the pipes. A process whose room is full is not read, and blocks when its pipes are full."""

    def __init__(self, loop: Loop, room: BufferUsage, state_dir: Path, on_readable: Callable[[Child], None]) -> None:
        self._loop = loop
        self._room = room
        self._spool = state_dir / SPOOL_NAME
        self._on_readable = on_readable
        self._full: dict[tuple[int, int], Child] = {}
        self._daemon_is_here = False
        self._trying_again = False
        self._told_at = -_TELL_AGAIN_S

    def clear_spool(self) -> None:
        """Remove what an earlier shim left on disk. Who still needs it has it open."""
        with contextlib.suppress(OSError):
            for path in self._spool.iterdir():
                path.unlink()

    def watch(self, child: Child) -> None:
        """Begin to read a process's output."""
        for stream in child.streams:
            if child.streams[stream].pipe is not None:
                self._watch(child, stream)

    def on_daemon(self) -> None:
        """A daemon has come: what is read from now on is in memory, where it has a hold on it, too."""
        self._daemon_is_here = True

    def share(self, child: Child) -> None:
        """Let what is read of a process from now on go into files that the daemon is about to be given.

        Raises:
            OSError: no memory can be had; what is read goes on as it did.
        """
        for buffer in child.streams.values():
            if buffer.pipe is not None and buffer.spools and len(buffer.segments) < _MOST_SEGMENTS:
                buffer.grow(memory_segment(buffer.end))

    def on_daemon_gone(self) -> None:
        """Nobody takes what is read: there is more room for it."""
        self._daemon_is_here = False
        self.resume()

    def resume(self) -> None:
        """Read again from whom there is room for."""
        for key, child in list(self._full.items()):
            if child.streams[key[1]].pipe is None:
                del self._full[key]
            elif self._has_room(child):
                del self._full[key]
                self._watch(child, key[1])

    def pause_if_full(self, child: Child) -> None:
        """Stop reading a process for which there is no room."""
        if self._has_room(child):
            return
        for stream in child.streams:
            self._pause(child, stream)

    def forget(self, child: Child) -> None:
        """Stop reading a process, and let go of its output."""
        for stream, buffer in child.streams.items():
            self._full.pop((child.slot, stream), None)
            self._close_pipe(buffer)
            buffer.close()
        child.drop_all()
        self.resume()

    def _watch(self, child: Child, stream: int) -> None:
        pipe = child.streams[stream].pipe
        assert pipe is not None  # noqa: S101 - the callers have looked
        self._loop.watch(pipe, IN, lambda _events: self._read(child, stream))

    def _close_pipe(self, buffer: StreamBuffer) -> None:
        if buffer.pipe is not None:
            self._loop.close(buffer.pipe)
            buffer.pipe = None

    def _read(self, child: Child, stream: int) -> None:
        buffer = child.streams[stream]
        try:
            if not self._daemon_is_here:
                self._choose_segment(child, stream, buffer)
            count = child.read(stream)
        except OSError as exc:  # memory or disk is full: the process waits, nothing is lost
            self._pause(child, stream)
            self._try_again(f"output of {child.id} can't be taken now: {exc.strerror}; it is tried again")
            return
        if count is None:
            return
        if count == 0:
            self._close_pipe(buffer)
        else:
            self.pause_if_full(child)
            if buffer.fills_fast(count, _GATHER_S) and count >= _GATHER_FROM_BYTES:
                self._let_gather(buffer)
        self._on_readable(child)

    def _let_gather(self, buffer: StreamBuffer) -> None:
        """Leave a pipe alone for a moment in which it can't fill."""
        self._look_for(buffer, 0)
        self._loop.later(_GATHER_S, lambda: self._look_for(buffer, IN))

    def _look_for(self, buffer: StreamBuffer, events: int) -> None:
        if buffer.pipe is not None and self._loop.watches(buffer.pipe):
            self._loop.modify(buffer.pipe, events)

    def _choose_segment(self, child: Child, stream: int, buffer: StreamBuffer) -> None:
        """Go on on disk when a process has its part of memory; it stays there until a daemon comes."""
        if buffer.spools or self._fits_into_memory(child):
            return
        os.makedirs(self._spool, mode=0o700, exist_ok=True)
        buffer.grow(spool_segment(self._spool / f"{child.id}.{stream}.{buffer.end}", buffer.end))

    def _fits_into_memory(self, child: Child) -> bool:
        room = self._room
        return child.memory_bytes < MEMORY_A_PROCESS_BYTES and room.memory_bytes < room.memory_limit_bytes

    def _has_room(self, child: Child) -> bool:
        room = self._room
        if self._daemon_is_here:
            if child.held_bytes == 0:  # whatever the limits, and whatever others hold: it is taken at once
                return True
            limit_bytes = min(room.process_limit_bytes, READ_AHEAD_BYTES)
            return child.held_bytes < limit_bytes and room.memory_bytes < room.memory_limit_bytes
        if child.held_bytes >= room.process_limit_bytes:
            return False
        return self._fits_into_memory(child) or room.spool_bytes < room.spool_limit_bytes

    def _pause(self, child: Child, stream: int) -> None:
        """Stop reading: the process will block when its pipe is full, and nothing is dropped."""
        pipe = child.streams[stream].pipe
        if pipe is not None and (child.slot, stream) not in self._full:
            self._full[child.slot, stream] = child
            self._loop.unwatch(pipe)

    def _try_again(self, why: str) -> None:
        if time.monotonic() >= self._told_at + _TELL_AGAIN_S:
            self._told_at = time.monotonic()
            log(why)
        if not self._trying_again:
            self._trying_again = True
            self._loop.later(_TRY_AGAIN_S, self._on_try_again)

    def _on_try_again(self) -> None:
        self._trying_again = False
        self.resume()
