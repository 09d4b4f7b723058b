"""Cutting the shim's frames into chunks with numbered lines, for one run of a process."""

import asyncio
import time
from collections.abc import Callable, Iterable

from outlast.core.output.line_framer import Block, LineFramer
from outlast.model.clock import now_ms
from outlast.model.errors import ProtocolError
from outlast.model.output import Chunk, GapReason, Position, Stream, count_lines

PARTIAL_LINE_S = 0.15
"""How long an unfinished line waits for its rest. Followers get it within 200 ms, commit and delivery included."""

# The rest may have arrived while the event loop was busy, so the line waits once more before it is cut.
_LAST_WAIT_S = 0.005
_UNSTORED_WAIT_S = 0.02


class _StreamCapture:
    """One stream: its framer, and the offset up to which it has been read."""

    def __init__(self, end: int, begun_bytes: int) -> None:
        self.framer = LineFramer(begun_bytes=begun_bytes)
        self.fed_end = end
        self.pending_since = 0.0
        self.is_last_wait = False
        self.ts_ms = 0
        self.open = True


class Capture:
    """The output of one run, cut into chunks.

    `emit` is called with each chunk, in order; `flush_now` when an unfinished line waits for the commit of chunks.
    """

    def __init__(
        self,
        *,
        handle: int,
        run: int,
        position: Position,
        streams: set[Stream],
        emit: Callable[[Chunk], None],
        flush_now: Callable[[], None],
    ) -> None:
        self._handle = handle
        self._run = run
        self._position = position
        ends = {Stream.STDOUT: position.stdout_end, Stream.STDERR: position.stderr_end}
        self._streams = {stream: _StreamCapture(ends[stream], self._begun_bytes(stream)) for stream in Stream}
        for stream in set(Stream) - streams:
            self._streams[stream].open = False
        self._emit = emit
        self._flush_now = flush_now
        self._unstored = 0
        self._stored_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def drained(self) -> bool:
        """Whether every captured stream has ended."""
        return not any(stream.open for stream in self._streams.values())

    def is_settled(self, ends: Iterable[tuple[Stream, int]]) -> bool:
        """Return whether both streams are stored up to `ends`, but for an incomplete character there."""
        return (
            not self._unstored
            and not any(state.framer.can_flush for state in self._streams.values())
            and all(end <= self._streams[stream].fed_end for stream, end in ends)
        )

    def on_output(self, stream: Stream, ts_ms: int, offset: int, data: bytes) -> None:
        """Cut a frame. Bytes that an earlier frame brought are skipped.

        Raises:
            ProtocolError: bytes are missing between the last frame and `offset`.
        """
        state = self._streams[stream]
        if offset > state.fed_end:
            raise ProtocolError(f"{stream.word} jumped from offset {state.fed_end} to {offset}")
        data = data[state.fed_end - offset :]
        state.fed_end += len(data)
        state.ts_ms = ts_ms
        state.is_last_wait = False
        could_flush = state.framer.can_flush
        blocks = state.framer.feed(data)
        for block in blocks:
            self._emit_block(stream, state, block)
        if state.framer.can_flush and (blocks or not could_flush):
            state.pending_since = time.monotonic()
            self._arm(PARTIAL_LINE_S)

    def on_end(self, stream: Stream) -> None:
        """Emit the last line of a stream that has ended, if it has no newline."""
        state = self._streams[stream]
        state.open = False
        for block in state.framer.finish():
            self._emit_block(stream, state, block)

    def append_gap(self, stream: Stream, missing_bytes: int, reason: GapReason) -> None:
        """Emit a gap in place of bytes that are gone, and continue after it. No bytes may be pending."""
        state = self._streams[stream]
        gap = Chunk.gap_after(
            self._position,
            handle=self._handle,
            run=self._run,
            stream=stream,
            missing_bytes=missing_bytes,
            reason=reason,
            ts_ms=now_ms(),
        )
        state.fed_end += missing_bytes
        state.framer.start_line()
        self._emit_chunk(gap)

    def on_stored(self) -> None:
        """Note that an emitted chunk is stored."""
        self._unstored -= 1
        self._stored_at = time.monotonic()

    def stop(self) -> None:
        """Emit nothing more. The shim still has what is pending, because that was not acknowledged."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begun_bytes(self, stream: Stream) -> int:
        """Return the size of the stream's unfinished line, if this run wrote it."""
        line = self._position.unfinished_line(stream)
        return line.size if line is not None and line.run == self._run else 0

    def _emit_block(self, stream: Stream, state: _StreamCapture, block: Block) -> None:
        before = self._position
        line = before.unfinished_line(stream) if block.continues else None
        grown = len(block.data)
        self._emit_chunk(
            Chunk(
                handle=self._handle,
                run=self._run,
                first_seq=before.last_seq + 1,
                line_count=count_lines(block.data),
                stream=stream,
                ts_ms=state.ts_ms,
                stdout_end=before.stdout_end + grown * (stream is Stream.STDOUT),
                stderr_end=before.stderr_end + grown * (stream is Stream.STDERR),
                data=block.data,
                continues=line.first_seq if line else 0,
            )
        )

    def _emit_chunk(self, chunk: Chunk) -> None:
        self._position = self._position.after(chunk)
        self._unstored += 1
        self._emit(chunk)

    def _arm(self, delay_s: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = time.monotonic()
        delays_s = [self._flush_if_due(stream, state, now) for stream, state in self._streams.items()]
        waiting = [delay_s for delay_s in delays_s if delay_s is not None]
        if waiting:
            self._arm(min(waiting))

    def _flush_if_due(self, stream: Stream, state: _StreamCapture, now: float) -> float | None:
        """Emit an unfinished line that has waited long enough. Return the seconds until the next check, or None."""
        if not state.framer.can_flush:
            return None
        if self._unstored:
            self._flush_now()
            # The shim may hold the rest until these are acknowledged, and an emitted part would wait for them, too.
            return _UNSTORED_WAIT_S
        left_s = max(state.pending_since, self._stored_at) + PARTIAL_LINE_S - now
        if left_s > 0:
            return left_s
        if not state.is_last_wait:
            state.is_last_wait = True
            return _LAST_WAIT_S
        state.is_last_wait = False
        for block in state.framer.flush():
            self._emit_block(stream, state, block)
        return None
