"""A process that the shim looks after: what the daemon keeps in memory of it."""

import asyncio
from collections.abc import Callable

from app.core.capture import Capture
from app.core.committer import Committer
from app.core.recent import RecentChunks
from app.crash import crash_point
from app.model.output import Chunk, Position, Stream
from app.model.process import Ending, OutputMode, ProcessSpec, Reason, Run
from app.shimlink import ShimLink
from app.storage import CompleteOutput, EndRun


class LiveProcess:
    """From the start of a process until its end and all of its output are in the store.

    Attributes:
        handle: 0 until it is recorded.
        last_seq: last line that is stored.
        ended: its end has been seen (and is stored, or on the way).
        finished: nothing more will come, and all is stored.
    """

    def __init__(self, spec: ProcessSpec, run: Run, *, stdin_open: bool) -> None:
        self.spec = spec
        self.run = run
        self.handle = 0
        self.slot = 0
        self.stdin_open = stdin_open
        self.stdin_lock = asyncio.Lock()
        self.last_seq = 0
        self.ended = run.ending is not None
        self.end_stored = self.ended
        self.finished = False
        self._link: ShimLink | None = None
        self._capture: Capture | None = None
        self._committer: Committer | None = None
        self._recent: RecentChunks | None = None
        self._on_finished: Callable[[LiveProcess], None] | None = None
        self._waiters: set[asyncio.Future[None]] = set()

    def attach(
        self,
        *,
        link: ShimLink,
        slot: int,
        handle: int,
        position: Position,
        committer: Committer,
        recent: RecentChunks,
        on_finished: Callable[["LiveProcess"], None],
    ) -> None:
        """Begin (again) to capture from where the store stands."""
        if self._capture is not None:
            self._capture.stop()
        self._link, self._committer, self._recent, self._on_finished = link, committer, recent, on_finished
        self.slot = slot
        self.handle = handle
        self.last_seq = position.last_seq
        modes = {Stream.STDOUT: self.spec.stdout_mode, Stream.STDERR: self.spec.stderr_mode}
        self._capture = Capture(
            handle=handle,
            run=self.run.number,
            position=position,
            streams={stream for stream, mode in modes.items() if mode is OutputMode.CAPTURE},
            emit=self._on_chunk,
        )
        link.attach(slot, position)

    def on_output(self, stream: Stream, ts_ms: int, offset: int, data: bytes) -> None:
        """A frame came from the shim."""
        assert self._capture is not None  # noqa: S101 - attached, or nothing would come
        if data:
            self._capture.on_output(stream, ts_ms, offset, data)
        else:
            self._capture.on_end(stream)
            self._finish_if_done()

    def on_exited(self, code: int | None, signal_number: int | None, ts_ms: int) -> None:
        """Its end came from the shim, perhaps again."""
        reason = Reason.EXITED if code is not None else Reason.SIGNALED
        self._end(Ending(reason=reason, exit_code=code, signal=signal_number, ended_at_ms=ts_ms))
        self._finish_if_done()

    def stop(self) -> None:
        """The daemon is going: take nothing more."""
        if self._capture is not None:
            self._capture.stop()

    async def wait(self, until: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until `until()` holds, looked at after each commit and change of this process. False: timed out."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while not until():
            if deadline is not None and loop.time() >= deadline:
                return False
            future: asyncio.Future[None] = loop.create_future()
            self._waiters.add(future)
            timer = None if deadline is None else loop.call_at(deadline, _resolve, future)
            try:
                await future
            finally:
                self._waiters.discard(future)
                if timer is not None:
                    timer.cancel()
        return True

    def wake(self) -> None:
        """Let everybody who waits look again."""
        waiters, self._waiters = self._waiters, set()
        for future in waiters:
            _resolve(future)

    def _on_chunk(self, chunk: Chunk) -> None:
        assert self._committer is not None  # noqa: S101 - attached
        capture, link = self._capture, self._link
        self._committer.submit(chunk, lambda _handle: self._on_stored(chunk, capture, link))

    def _on_stored(self, chunk: Chunk, capture: Capture | None, link: ShimLink | None) -> None:
        assert self._recent is not None and capture is not None  # noqa: S101, PT018 - attached
        self.last_seq = chunk.last_seq
        self._recent.append(chunk)
        capture.on_stored()
        if link is self._link and link is not None:
            link.acknowledge(self.slot, chunk.position)
            crash_point("after-ack")
        self.wake()

    def _end(self, ending: Ending) -> None:
        assert self._committer is not None  # noqa: S101 - attached
        self.ended = True
        self.stdin_open = False
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
        crash_point("before-last-ack")
        if self._link is not None:
            self._link.forget(self.slot)
        crash_point("after-last-ack")
        self._on_finished(self)
        self.wake()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
