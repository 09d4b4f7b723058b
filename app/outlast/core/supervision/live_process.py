"""One run of a process in the daemon's memory, from its spawn until its end and all of its output are stored."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping

from outlast.core.condition import Condition
from outlast.core.output.capture import Capture
from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.output.committer import Committer
from outlast.core.supervision.run_clock import RunClock
from outlast.core.usage.track import UsageTrack
from outlast.failpoints import failpoint
from outlast.model.output import MAX_UNSTORED_LINES, Chunk, GapReason, Position, Stream
from outlast.model.process import ExitStatus, ProcessSpec, Reason, Run, run_key
from outlast.shimlink import HeldProcess, ShimLink
from outlast.storage import CompleteOutput, EndRun, WithdrawProcess, WithdrawRun

_STORE_S = 10.0
_FEW = 8
"""Number of followers that are woken for each line."""
_PAUSE_PER_FOLLOWER_S = 50e-6
"""A write to a follower takes about as long. More followers get more lines with each write instead of more writes."""


class LiveProcess(Condition):
    """One run of a process, from its spawn until its end and all of its output are stored.

    Attributes:
        handle: the process's handle; 0 until the run is recorded.
        slot: the shim's number of the run; 0 while no shim is known to have it.
        held: duplicates of what the shim has open for the run, to hand over if the shim dies.
        started: whether the run executes its program, or has executed it.
        failed: `stage` and `errno` of a start that failed; its record is being withdrawn.
        position: how far the output is stored.
        last_seq: sequence number of the last line or gap that followers may see.
        stored: waiters for output to be stored, which wakes no others.
        ended: whether the end has been reported; it is stored, or queued for the store.
        ending: how the run ended, if that has been reported.
        end_stored: whether the end is stored.
        finished: whether the end and all output are stored, and nothing more can come.
        usage: the resources that the run uses.
        clock: when the run started, printed and ended, by a clock that nobody sets.
        recorder: what stores the run's output and end; None until the run is recorded.
        is_spec_stored: whether the store has the specification of this run. If not, it gets it when the program runs.
        last_output_ms: when its last output that this daemon has seen was read; 0: it has seen none.
        read: of a terminal to which clients are attached, waiters for its bytes, which are woken as soon as the shim
            has told of some, and whenever this condition is.
        dependent: another condition that is woken whenever this one is (the managed process whose run this is).
    """

    def __init__(
        self, spec: ProcessSpec, run: Run, slot: int, held: HeldProcess, began_at: float | None = None
    ) -> None:
        """`began_at`: when the run started, by the monotonic clock; None if an earlier daemon started it."""
        super().__init__()
        self.spec = spec
        self.run = run
        self.handle = 0
        self.slot = slot
        self.held = held
        self.started = not held.starting and held.failed is None
        self.failed: tuple[int, int] | None = None
        self.stdin_open = held.stdin is not None
        self.stdin_lock = asyncio.Lock()
        self.position = Position()
        self.last_seq = 0
        self.stored = Condition()
        self.ended = run.ending is not None
        self.ending = run.ending
        self.end_stored = self.ended
        self.finished = False
        self.clock = RunClock(run, began_at, is_there=held.pidfd is not None)
        self.usage = UsageTrack(held.group)
        self.recorder: RunRecorder | None = None
        self.is_spec_stored = True
        self.last_output_ms = 0
        self.read: Condition | None = None
        self.dependent: Condition | None = None
        self._wake_at = 0.0
        self._is_wake_due = False

    @property
    def key(self) -> str:
        """The run key, by which the shim knows the run."""
        return run_key(self.spec.id, self.run.number)

    @property
    def stored_seq(self) -> int:
        """Sequence number of the last line or gap that is stored."""
        return self.position.last_seq

    @property
    def unstored_bytes(self) -> int:
        """Bytes of output that the shim has told of, and that are not stored."""
        return self.held.told_bytes(self.position)

    def withdrawal(self, handle: int) -> WithdrawProcess | WithdrawRun:
        """Return the change that removes the record of this run and, if it is the first one, of the process.

        `handle`: the process's handle; a first run does not need one.
        """
        if self.run.number == 1:
            return WithdrawProcess(self.spec.id)
        return WithdrawRun(handle, self.run.number)

    def on_recorded(self, handle: int, position: Position, recorder: "RunRecorder") -> None:
        """Note that the run is recorded, and its output stored up to `position`."""
        self.handle = handle
        self.position = position
        self.last_seq = position.last_seq
        self.recorder = recorder

    def on_started(self, deadline_ms: int | None) -> None:
        """Note that the run executes its program, until `deadline_ms` of the monotonic clock at most."""
        self.started = True
        self.held.deadline_ms = deadline_ms
        self.held.on_started()
        self.wake()

    def on_failed(self, stage: int, errno: int) -> None:
        """Note that the program could not be executed."""
        self.failed = (stage, errno)
        self.held.failed = {"stage": stage, "errno": errno}
        self.ended = True
        self.held.on_started()
        self.wake()

    def on_stdin_closed(self) -> None:
        """Note that the standard input is closed."""
        self.stdin_open = False
        self.held.close_stdin()

    def mark_finished(self) -> None:
        """Note that nothing more is stored of the run, and wake its waiters."""
        self.finished = True
        self.wake()

    def hold(self, slot: int, held: HeldProcess) -> None:
        """Replace slot and duplicates by those of a shim that has just reported the run."""
        if held is not self.held:
            self.held.close()
        self.slot, self.held = slot, held

    def ending_for_shim(self) -> Mapping[str, int] | None:
        """Return how the run ended, as `HeldProcess.describe` takes it."""
        if self.ending is None:
            return None
        fields = {"code": self.ending.exit_code, "signal": self.ending.signal, "ts_ms": self.ending.ended_at_ms}
        how = {key: value for key, value in fields.items() if value is not None}
        how["timed_out"] = self.ending.reason is Reason.TIMED_OUT
        how["oom_killed"] = self.ending.reason is Reason.OOM_KILLED
        return how

    async def wait_written_stored(self, timeout_s: float = _STORE_S) -> bool:
        """Wait until all is stored that the run has written by now. Return False after `timeout_s`.

        An incomplete character at the end of a stream is not waited for.
        """
        recorder = self.recorder
        if recorder is None:
            return False
        ends = {stream: self.held.written_to(stream) for stream in self.spec.captured}
        return await self.stored.wait(lambda: recorder.has_stored(ends), timeout_s)

    def stop_recording(self) -> None:
        """Store nothing more of the run's output: this daemon is stopping, or the store rejects it."""
        if self.recorder is not None:
            self.recorder.stop()

    def close(self) -> None:
        """Stop recording, and close the duplicates of what the shim has open."""
        self.stop_recording()
        self.held.close()

    def wake_followers(self) -> None:
        """Wake the waiters of this run and the managed process: at once, or in a moment if there are many."""
        if self._is_wake_due:
            return
        left_s = self._wake_at - time.monotonic()
        if left_s <= 0:
            self._wake_followers_now()
        else:
            self._is_wake_due = True
            asyncio.get_running_loop().call_later(left_s, self._wake_followers_now)

    def _wake_followers_now(self) -> None:
        self._is_wake_due = False
        count = self.waiting + (self.dependent.waiting if self.dependent is not None else 0)
        self._wake_at = time.monotonic() + _PAUSE_PER_FOLLOWER_S * count if count > _FEW else 0.0
        self.wake()

    def wake(self) -> None:
        """Wake the waiters of this run, and those of the managed process."""
        super().wake()
        self.stored.wake()
        if self.read is not None:
            self.read.wake()
        if self.dependent is not None:
            self.dependent.wake()


class RunRecorder:
    """The recorder of one run: what the shim reports of its output and its end goes to the store."""

    __slots__ = (
        "_capture",
        "_chunk_cache",
        "_committer",
        "_is_acknowledging",
        "_link",
        "_on_finished",
        "_unseen",
        "live",
    )

    def __init__(
        self,
        live: LiveProcess,
        handle: int,
        position: Position,
        *,
        committer: Committer,
        chunk_cache: ChunkCache,
        on_finished: Callable[[LiveProcess], None],
    ) -> None:
        """Prepare to store the output of a run that is recorded.

        Args:
            live: the run.
            handle: the process's handle.
            position: how far the process's output is stored.
            committer: commits output and end.
            chunk_cache: gets each chunk that followers may see.
            on_finished: called when the end and all output are stored.
        """
        self.live = live
        self._committer = committer
        self._chunk_cache = chunk_cache
        self._on_finished = on_finished
        self._link: ShimLink | None = None
        self._unseen: deque[tuple[Chunk, bool]] = deque()
        self._is_acknowledging = False
        self._capture = Capture(
            handle=handle,
            run=live.run.number,
            position=position,
            streams=set(live.spec.captured),
            known_ends={stream: live.held.sent_to(stream) for stream in live.spec.captured},
            emit=self._on_chunk,
            flush_now=committer.flush_now,
        )

    def attach(self, link: ShimLink) -> None:
        """Ask the shim for all output that is not stored. What it sends twice is skipped."""
        self._link = link
        link.attach(self.live.slot, self.live.position)

    def stop(self) -> None:
        """Emit nothing more. The shim keeps what is not stored."""
        self._capture.stop()

    def discard_unstored(self) -> None:
        """Forget what is not stored: the store rejects it, and it will be read and numbered again."""
        self._unseen.clear()
        self._chunk_cache.drop_unstored(self.live.handle)
        self.live.last_seq = self.live.stored_seq

    @property
    def has_caught_up(self) -> bool:
        """Whether all that earlier daemons may have read, and shown to followers, has been read again."""
        return self._capture.has_caught_up

    @property
    def is_settled(self) -> bool:
        """Whether all output that the shim has reported is stored, but for an incomplete character at its end."""
        return self._capture.is_settled((stream, offset + size) for stream, _, offset, size in self.live.held.frames)

    def has_stored(self, ends: Mapping[Stream, int]) -> bool:
        """Return whether each stream is stored up to its offset in `ends`, but for an incomplete character there."""
        position = self.live.position
        stored = {Stream.STDOUT: position.stdout_end, Stream.STDERR: position.stderr_end}
        return all(stored[stream] >= end for stream, end in ends.items()) or self._capture.is_settled(ends.items())

    def append_gap(self, stream: Stream, missing_bytes: int, reason: GapReason) -> None:
        """Store a gap in place of bytes that are gone, and continue after it."""
        self._capture.append_gap(stream, missing_bytes, reason)

    def on_output(self, stream: Stream, ts_ms: int, offset: int, size: int) -> None:
        """Store a frame; `size` 0 is the end of the stream.

        Raises:
            ProtocolError: bytes before the frame are missing, or its own cannot be read.
        """
        held = self.live.held
        if size:
            self.live.clock.note_output(stream)
            self.live.last_output_ms = ts_ms
            data = held.read(stream, ts_ms, offset, size)
            self._capture.on_output(stream, ts_ms, offset, data)
            if self.live.read is not None:
                self.live.read.wake()
        else:
            held.on_end(stream, ts_ms, offset)
            self._capture.on_end(stream)
            self._complete_if_drained()

    def on_exited(self, how: Mapping[str, int]) -> None:
        """Store the end of the run. The shim may report it again. `how`: see `ShimEvents.on_exited`."""
        code, number = how.get("code"), how.get("signal")
        reason = Reason.EXITED if code is not None else Reason.SIGNALED if number is not None else Reason.LOST
        if how["timed_out"]:
            reason = Reason.TIMED_OUT
        elif how["oom_killed"]:
            reason = Reason.OOM_KILLED
        self._end(ExitStatus(reason=reason, exit_code=code, signal=number, ended_at_ms=how["ts_ms"]))
        self._complete_if_drained()

    def _on_chunk(self, chunk: Chunk, is_certain: bool) -> None:  # noqa: FBT001 - a callback
        is_visible = is_certain and not self._unseen and self._is_near(chunk)
        position = self._capture.position
        self._committer.submit(chunk, lambda _handle: self._on_stored(chunk, position), is_awaited=not is_visible)
        if is_visible:
            self._show(chunk)
            self.live.wake_followers()
        else:
            self._unseen.append((chunk, is_certain))

    def _is_near(self, chunk: Chunk) -> bool:
        return chunk.last_seq <= self.live.stored_seq + MAX_UNSTORED_LINES

    def _show(self, chunk: Chunk) -> None:
        self._chunk_cache.append_chunk(chunk)
        self.live.last_seq = chunk.last_seq

    def _on_stored(self, chunk: Chunk, position: Position) -> None:
        live = self.live
        live.position = position
        if self._unseen:
            self._show_stored(chunk)
        self._chunk_cache.note_stored(live.handle)
        self._capture.on_stored()
        if not self._is_acknowledging:  # a commit has many chunks
            self._is_acknowledging = True
            asyncio.get_running_loop().call_soon(self._acknowledge)

    def _acknowledge(self) -> None:
        live = self.live
        self._is_acknowledging = False
        live.held.acknowledge(live.position)
        if self._link is not None:
            self._link.acknowledge(live.slot, live.position)
        live.stored.wake()

    def _show_stored(self, chunk: Chunk) -> None:
        """Show followers a chunk that is stored, if they have not seen it, and what had to wait for it."""
        if self._unseen[0][0] is chunk:
            self._show(self._unseen.popleft()[0])
        while self._unseen and self._unseen[0][1] and self._is_near(self._unseen[0][0]):
            self._show(self._unseen.popleft()[0])
        self.live.wake_followers()

    def _end(self, ending: ExitStatus) -> None:
        live = self.live
        if not live.ended:
            live.usage.finish(self._committer, live.handle, live.run.number)
            live.clock.note_end(ending, was_seen=live.held.exited is None)
        live.ended = True
        live.ending = ending
        live.on_stdin_closed()
        self._committer.submit(EndRun(live.handle, live.run.number, ending), self._on_end_stored)

    def _on_end_stored(self, _handle: int) -> None:
        self.live.end_stored = True
        self.live.wake()

    def _complete_if_drained(self) -> None:
        live = self.live
        if live.ended and self._capture.drained:
            self._committer.submit(CompleteOutput(live.handle, live.run.number), self._on_complete)

    def _on_complete(self, _handle: int) -> None:
        live = self.live
        if live.finished:
            return
        live.finished = True
        failpoint("before-last-ack")
        if self._link is not None:
            self._link.forget(live.slot)
        failpoint("after-last-ack")
        self._on_finished(live)
        live.wake()
