"""From frames of the shim to numbered chunks, for one run of one process."""

import asyncio
import time
from collections.abc import Callable

from outlast.core.output.line_framer import LineFramer
from outlast.model.errors import ProtocolError
from outlast.model.output import Chunk, GapReason, Position, Stream, count_lines

# A part of a line must reach followers within 200 ms of its reading; commit and delivery take their share.
PARTIAL_LINE_S = 0.15
# The rest may have arrived while the event loop was busy: it is looked for once more before a line is parted.
_LAST_LOOK_S = 0.005
_UNSTORED_LOOK_S = 0.02


class _StreamCapture:
    """One stream: its framer, and how far it has been read and cut."""

    def __init__(self, end: int) -> None:
        self.framer = LineFramer()
        self.fed_end = end
        self.cut_end = end
        self.pending_since = 0.0
        self.is_last_look = False
        self.ts_ms = 0
        self.open = True


class Capture:
    """Cuts frames into chunks and numbers their lines.

    `emit` is called with each chunk, in order; `hurry` when something waits for those to be stored.
    """

    def __init__(
        self,
        *,
        handle: int,
        run: int,
        position: Position,
        streams: set[Stream],
        emit: Callable[[Chunk], None],
        hurry: Callable[[], None],
    ) -> None:
        self._handle = handle
        self._run = run
        self._next_seq = position.last_seq + 1
        ends = {Stream.STDOUT: position.stdout_end, Stream.STDERR: position.stderr_end}
        self._streams = {stream: _StreamCapture(ends[stream]) for stream in Stream}
        for stream in set(Stream) - streams:
            self._streams[stream].open = False
        self._emit = emit
        self._hurry = hurry
        self._unstored = 0
        self._stored_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def drained(self) -> bool:
        """Every captured stream has ended."""
        return not any(stream.open for stream in self._streams.values())

    def on_output(self, stream: Stream, ts_ms: int, offset: int, data: bytes) -> None:
        """Take a frame. What was taken before is passed over; a hole cannot be.

        Raises:
            ProtocolError: `offset` is beyond what was read so far.
        """
        state = self._streams[stream]
        if offset > state.fed_end:
            raise ProtocolError(f"{stream.word} went from {state.fed_end} to {offset}")
        data = data[state.fed_end - offset :]
        state.fed_end += len(data)
        state.ts_ms = ts_ms
        state.is_last_look = False
        was_pending = state.framer.pending_bytes > 0
        blocks = state.framer.feed(data)
        for block in blocks:
            self._emit_block(stream, state, block)
        if state.framer.pending_bytes and (blocks or not was_pending):
            state.pending_since = time.monotonic()
            self._arm(PARTIAL_LINE_S)

    def on_end(self, stream: Stream) -> None:
        """The stream has ended: a last line without a newline is complete."""
        state = self._streams[stream]
        state.open = False
        for block in state.framer.finish():
            self._emit_block(stream, state, block)

    def skip(self, stream: Stream, missing_bytes: int, reason: GapReason) -> None:
        """Go on behind bytes that nothing can bring back, and say so by a gap. Nothing of the stream is pending."""
        state = self._streams[stream]
        before = Position(
            last_seq=self._next_seq - 1,
            stdout_end=self._streams[Stream.STDOUT].cut_end,
            stderr_end=self._streams[Stream.STDERR].cut_end,
        )
        gap = Chunk.gap_after(
            before,
            handle=self._handle,
            run=self._run,
            stream=stream,
            missing_bytes=missing_bytes,
            reason=reason,
            ts_ms=time.time_ns() // 1_000_000,
        )
        state.cut_end += missing_bytes
        state.fed_end += missing_bytes
        self._next_seq += 1
        self._unstored += 1
        self._emit(gap)

    def on_stored(self) -> None:
        """A chunk that was emitted is stored."""
        self._unstored -= 1
        self._stored_at = time.monotonic()

    def stop(self) -> None:
        """Take nothing more; what was not cut is not lost, for it was not acknowledged."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _emit_block(self, stream: Stream, state: _StreamCapture, block: bytes) -> None:
        state.cut_end += len(block)
        lines = count_lines(block)
        self._unstored += 1
        self._emit(
            Chunk(
                handle=self._handle,
                run=self._run,
                first_seq=self._next_seq,
                line_count=lines,
                stream=stream,
                ts_ms=state.ts_ms,
                stdout_end=self._streams[Stream.STDOUT].cut_end,
                stderr_end=self._streams[Stream.STDERR].cut_end,
                data=block,
            )
        )
        self._next_seq += lines

    def _arm(self, delay_s: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = time.monotonic()
        delays_s = [self._look(stream, state, now) for stream, state in self._streams.items()]
        waiting = [delay_s for delay_s in delays_s if delay_s is not None]
        if waiting:
            self._arm(min(waiting))

    def _look(self, stream: Stream, state: _StreamCapture, now: float) -> float | None:
        """Flush a pending part of a line if its time has come; return in how many seconds to look again, if at all."""
        if not state.framer.pending_bytes:
            return None
        if self._unstored:
            self._hurry()
            return _UNSTORED_LOOK_S  # the rest may wait at the shim for an acknowledgement, and a flush would wait, too
        left_s = max(state.pending_since, self._stored_at) + PARTIAL_LINE_S - now
        if left_s > 0:
            return left_s
        if not state.is_last_look:
            state.is_last_look = True
            return _LAST_LOOK_S
        state.is_last_look = False
        state.pending_since = now
        for block in state.framer.flush():
            self._emit_block(stream, state, block)
        return PARTIAL_LINE_S if state.framer.pending_bytes else None
