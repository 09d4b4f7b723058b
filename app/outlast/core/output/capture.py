"""Cutting the shim's frames into chunks with numbered lines, for one run of a process."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from outlast.core.output.line_framer import Block, LineFramer
from outlast.model.clock import now_ms
from outlast.model.errors import ProtocolError
from outlast.model.output import MAX_UNSTORED_LINES, Chunk, GapReason, Position, Stream, count_lines
from outlast.wire.contract import WINDOW_BYTES

PARTIAL_LINE_S = 0.15
"""How long an unfinished line waits for its rest. Followers get it within 200 ms, commit and delivery included."""

# The rest may have arrived while the event loop was busy, so the line waits once more before it is cut.
_LAST_WAIT_S = 0.005
_LOOK_AGAIN_S = 0.02

_BEHIND_S = 0.25
_BEHIND_BYTES = WINDOW_BYTES // 12
"""Age and size of what is not stored, from which the store is behind. The shim may then hold the rest of a line until
something is acknowledged; and what followers are to see soon does not wait behind a part."""


class _StreamCapture:
    """One stream: its framer, the offset up to which it has been read, and up to which an earlier daemon had read."""

    def __init__(self, end: int, begun_bytes: int, known_end: int) -> None:
        self.framer = LineFramer(begun_bytes=begun_bytes)
        self.fed_end = end
        self.known_end = known_end
        self.pending_since = 0.0
        self.is_last_wait = False
        self.ts_ms = 0
        self.open = True


class Capture:
    """The output of one run, cut into chunks.

    Every capture that begins where the store stands cuts and numbers the same lines, whatever the store has of them by
    then: this follows from the bytes, the order of the frames, and the position. Only the cut of a part of a line, or
    of a last line without a line break, depends on the moment. Such a chunk is not certain until it is stored, and
    neither is what comes behind it. No part is cut before all that an earlier daemon had read has come again.
    """

    def __init__(
        self,
        *,
        handle: int,
        run: int,
        position: Position,
        streams: set[Stream],
        known_ends: Mapping[Stream, int],
        emit: Callable[[Chunk, bool], None],
        flush_now: Callable[[], None],
    ) -> None:
        """Begin where the store stands.

        Args:
            handle: handle of the process.
            run: number of the run.
            position: how far the process's output is stored.
            streams: the streams that are captured.
            known_ends: offset of each stream up to which earlier daemons may have read.
            emit: called with each chunk, in order, and whether its numbers follow from the bytes alone.
            flush_now: called when an unfinished line waits for the commit of chunks.
        """
        self._handle = handle
        self._run = run
        self._position = position
        ends = {Stream.STDOUT: position.stdout_end, Stream.STDERR: position.stderr_end}
        self._streams = {
            stream: _StreamCapture(ends[stream], self._begun_bytes(stream), known_ends.get(stream, 0))
            for stream in Stream
        }
        for stream in set(Stream) - streams:
            self._streams[stream].open = False
        self._emit = emit
        self._flush_now = flush_now
        self._unstored: deque[tuple[float, int]] = deque()
        self._unstored_bytes = 0
        self._behind_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def position(self) -> Position:
        """The position once all chunks that were emitted are stored."""
        return self._position

    @property
    def drained(self) -> bool:
        """Whether every captured stream has ended."""
        return not any(stream.open for stream in self._streams.values())

    @property
    def has_caught_up(self) -> bool:
        """Whether all that earlier daemons may have read has been read again."""
        return all(state.fed_end >= state.known_end for state in self._streams.values())

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
            self._emit_block(stream, state, block, is_certain=True)
        if state.framer.can_flush and (blocks or not could_flush):
            state.pending_since = time.monotonic()
            self._arm(PARTIAL_LINE_S)

    def on_end(self, stream: Stream) -> None:
        """Emit the last line of a stream that has ended, if it has no newline."""
        state = self._streams[stream]
        state.open = False
        for block in state.framer.finish():
            self._emit_block(stream, state, block, is_certain=False)  # the next daemon may hear of the end later

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
            passed_over=missing_bytes + MAX_UNSTORED_LINES,
        )
        state.fed_end += missing_bytes
        state.framer.start_line()
        self._emit_chunk(gap, is_certain=False)

    def on_stored(self) -> None:
        """Note that the next emitted chunk is stored."""
        _, size = self._unstored.popleft()
        self._unstored_bytes -= size

    def stop(self) -> None:
        """Emit nothing more. The shim still has what is pending, because that was not acknowledged."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begun_bytes(self, stream: Stream) -> int:
        """Return the size of the stream's unfinished line, if this run wrote it."""
        line = self._position.unfinished_line(stream)
        return line.size if line is not None and line.run == self._run else 0

    def _emit_block(self, stream: Stream, state: _StreamCapture, block: Block, *, is_certain: bool) -> None:
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
            ),
            is_certain=is_certain,
        )

    def _emit_chunk(self, chunk: Chunk, *, is_certain: bool) -> None:
        self._position = self._position.after(chunk)
        self._unstored.append((time.monotonic(), len(chunk.data)))
        self._unstored_bytes += len(chunk.data)
        self._emit(chunk, is_certain)

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
        if not self.has_caught_up:
            return _LOOK_AGAIN_S
        if self._is_behind(now):
            self._flush_now()
            self._behind_at = now
            return _LOOK_AGAIN_S
        left_s = max(state.pending_since, self._behind_at) + PARTIAL_LINE_S - now
        if left_s > 0:
            return left_s
        if not state.is_last_wait:
            state.is_last_wait = True
            return _LAST_WAIT_S
        state.is_last_wait = False
        for block in state.framer.flush():
            self._emit_block(stream, state, block, is_certain=False)
        return None

    def _is_behind(self, now: float) -> bool:
        return self._unstored_bytes >= _BEHIND_BYTES or (
            bool(self._unstored) and now - self._unstored[0][0] >= _BEHIND_S
        )
