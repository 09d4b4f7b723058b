"""A process that the shim looks after: what the daemon keeps in memory of it."""

import asyncio
from collections.abc import Callable, Mapping

from outlast.core.condition import Condition
from outlast.core.output.capture import Capture
from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.output.committer import Committer
from outlast.core.usage.track import UsageTrack
from outlast.failpoints import failpoint
from outlast.model.output import Chunk, GapReason, Position, Stream
from outlast.model.process import ExitStatus, ProcessSpec, Reason, Run, run_key
from outlast.shimlink import HeldProcess, ShimLink
from outlast.storage import CompleteOutput, EndRun


class LiveProcess(Condition):
    """One run of a process, from its start until its end and all of its output are in the store.

    Attributes:
        handle: 0 until it is recorded.
        slot: the shim's number for it; 0 while no shim is known to look after it.
        held: what this daemon has of it, to go on with if the shim dies.
        started: it runs its program, or has run it.
        failed: `stage` and `errno` of a start that failed; it is being taken back.
        position: how far its output is stored.
        ended: its end has been seen (and is stored, or on the way).
        finished: nothing more will come, and all is stored.
        usage: what its run takes of the machine.
        watcher: who is to look again whenever something changes here.
    """

    def __init__(self, spec: ProcessSpec, run: Run, slot: int, held: HeldProcess) -> None:
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
        self.ended = run.ending is not None
        self.end_stored = self.ended
        self.finished = False
        self.usage = UsageTrack(held.group)
        self._ending = run.ending
        self._link: ShimLink | None = None
        self._capture: Capture | None = None
        self._committer: Committer | None = None
        self._recent: ChunkCache | None = None
        self._on_finished: Callable[[LiveProcess], None] | None = None
        self.watcher: Condition | None = None

    @property
    def key(self) -> str:
        """What the shim knows it by."""
        return run_key(self.spec.id, self.run.number)

    @property
    def last_seq(self) -> int:
        """Sequence number of the last line or gap that is stored."""
        return self.position.last_seq

    def begin(
        self,
        *,
        handle: int,
        position: Position,
        committer: Committer,
        recent: ChunkCache,
        on_finished: Callable[["LiveProcess"], None],
    ) -> None:
        """It is recorded: be ready to capture from where the store stands."""
        self._committer, self._recent, self._on_finished = committer, recent, on_finished
        self.handle = handle
        self.position = position
        self._capture = Capture(
            handle=handle,
            run=self.run.number,
            position=position,
            streams=set(self.spec.captured),
            emit=self._on_chunk,
            hurry=committer.hurry,
        )

    def attach(self, link: ShimLink) -> None:
        """Capture through this link from now on. What the shim sends again is passed over."""
        self._link = link
        link.attach(self.slot, self.position)

    def skip(self, stream: Stream, missing_bytes: int, reason: GapReason) -> None:
        """Go on behind a hole in the output, and say so."""
        assert self._capture is not None  # noqa: S101 - begun
        self._capture.skip(stream, missing_bytes, reason)

    def on_started(self, deadline_ms: int | None) -> None:
        """It runs its program, until `deadline_ms` of the monotonic clock at most."""
        self.started = True
        self.held.deadline_ms = deadline_ms
        self.held.on_started()
        self.wake()

    def on_failed(self, stage: int, errno: int) -> None:
        """It could not run its program."""
        self.failed = (stage, errno)
        self.held.failed = {"stage": stage, "errno": errno}
        self.ended = True
        self.held.on_started()
        self.wake()

    def on_output(self, stream: Stream, ts_ms: int, offset: int, size: int) -> None:
        """A frame came from the shim.

        Raises:
            ProtocolError: it does not join what came before, or its bytes are not there.
        """
        assert self._capture is not None  # noqa: S101 - attached, or nothing would come
        if size:
            data = self.held.read(stream, ts_ms, offset, size)
            self._capture.on_output(stream, ts_ms, offset, data)
        else:
            self.held.on_end(stream, ts_ms, offset)
            self._capture.on_end(stream)
            self._finish_if_done()

    def on_stdin_closed(self) -> None:
        """Nobody can write to its standard input any more."""
        self.stdin_open = False
        self.held.close_stdin()

    def hold(self, slot: int, held: HeldProcess) -> None:
        """The shim that looks after it has told of it anew."""
        if held is not self.held:
            self.held.close()
        self.slot, self.held = slot, held

    def ending_for_shim(self) -> Mapping[str, int] | None:
        """How it ended, as `HeldProcess.describe` takes it."""
        if self._ending is None:
            return None
        told = {"code": self._ending.exit_code, "signal": self._ending.signal, "ts_ms": self._ending.ended_at_ms}
        how = {key: value for key, value in told.items() if value is not None}
        how["timed_out"] = self._ending.reason is Reason.TIMED_OUT
        how["oom_killed"] = self._ending.reason is Reason.OOM_KILLED
        return how

    def on_exited(self, how: Mapping[str, int]) -> None:
        """Its end came from the shim, perhaps again."""
        code, number = how.get("code"), how.get("signal")
        reason = Reason.EXITED if code is not None else Reason.SIGNALED if number is not None else Reason.LOST
        if how["timed_out"]:
            reason = Reason.TIMED_OUT
        elif how["oom_killed"]:
            reason = Reason.OOM_KILLED
        self._end(ExitStatus(reason=reason, exit_code=code, signal=number, ended_at_ms=how["ts_ms"]))
        self._finish_if_done()

    def stop(self) -> None:
        """The daemon is going: take nothing more."""
        if self._capture is not None:
            self._capture.stop()

    def let_go(self) -> None:
        """There is nothing live about it any more."""
        self.stop()
        self.held.close()

    def wake(self) -> None:
        """Let everybody who waits look again, also those who wait for the process and not for this run."""
        super().wake()
        if self.watcher is not None:
            self.watcher.wake()

    def _on_chunk(self, chunk: Chunk) -> None:
        assert self._committer is not None  # noqa: S101 - attached
        self._committer.submit(chunk, lambda _handle: self._on_stored(chunk))

    def _on_stored(self, chunk: Chunk) -> None:
        assert self._recent is not None and self._capture is not None  # noqa: S101, PT018 - begun
        self.position = chunk.position
        self._recent.append(chunk)
        self._capture.on_stored()
        self.held.acknowledge(self.position)
        if self._link is not None:  # before the followers, so that what is seen does not come again
            self._link.acknowledge(self.slot, self.position)
        self.wake()

    def _end(self, ending: ExitStatus) -> None:
        assert self._committer is not None  # noqa: S101 - attached
        if not self.ended:
            self.usage.finish(self._committer, self.handle, self.run.number)
        self.ended = True
        self._ending = ending
        self.on_stdin_closed()
        self._committer.submit(EndRun(self.handle, self.run.number, ending), self._on_end_stored)

    def _on_end_stored(self, _handle: int) -> None:
        self.end_stored = True
        self.wake()

    def _finish_if_done(self) -> None:
        assert self._capture is not None and self._committer is not None  # noqa: S101, PT018 - attached
        if self.ended and self._capture.drained:
            self._committer.submit(CompleteOutput(self.handle, self.run.number), self._on_complete)

    def _on_complete(self, _handle: int) -> None:
        assert self._on_finished is not None  # noqa: S101 - attached
        if self.finished:
            return
        self.finished = True
        failpoint("before-last-ack")
        if self._link is not None:
            self._link.forget(self.slot)
        failpoint("after-last-ack")
        self._on_finished(self)
        self.wake()
