"""A stub of the process manager: tests set its answers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from outlast.core.commands.start_request import StartRequest
from outlast.core.metrics import DaemonFigures, NamedProcessFigures
from outlast.core.output.commit_stats import CommitStats
from outlast.core.query.follow import FollowInterrupted
from outlast.core.query.output_cursor import OutputQuery
from outlast.core.views import ProcessView, StartOutcome, UsageView
from outlast.model.output import Chunk
from outlast.model.process import (
    ExitStatus,
    OutputSummary,
    Process,
    ProcessQuery,
    ProcessSpec,
    Reason,
    Run,
    SignalScope,
)
from outlast.model.totals import StoreFigures

ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def view(handle: int = 1, pid: int = 42, stored_bytes: int = 2) -> ProcessView:
    return ProcessView(
        process=Process(
            handle=handle,
            spec=ProcessSpec(id=ULID, command="true", working_dir="/"),
            run=Run(pid=pid, started_at_ms=1710000000000),
            output=OutputSummary(lines=1, bytes=stored_bytes, first_seq=1, last_seq=1, latest_ms=1710000000001),
        ),
        stdin_writable=False,
    )


@dataclass
class StubMetrics:
    """A reader of figures that tests set."""

    figures: DaemonFigures = field(
        default_factory=lambda: DaemonFigures(
            store_works=True,
            store=StoreFigures(),
            spool_bytes=0,
            filesystem_free_bytes=1,
            shim_works=True,
            shim_restarts=0,
            shim=None,
            processes=7,
            running=3,
            backing_off=1,
            refused_starts=0,
            unstored_bytes=0,
            commits=CommitStats(),
            output_followers=0,
            event_followers=0,
        )
    )
    named: list[NamedProcessFigures] = field(default_factory=list)

    async def read(self) -> DaemonFigures:
        return self.figures

    def named_processes(self) -> list[NamedProcessFigures]:
        return self.named


@dataclass
class StubManager:
    """A process manager without processes. `calls` records every call; every call raises `fail`, if it is set."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    fail: BaseException | None = None
    chunks: list[Chunk] = field(default_factory=list)
    views: list[ProcessView] = field(default_factory=lambda: [view()])
    stdin: bytearray = field(default_factory=bytearray)
    unhealthy: str | None = None
    why_held: str | None = None
    key_is_known: bool = False
    lives_on: bool = False
    wait_in_start: asyncio.Event | None = None
    wait_in_get: asyncio.Event | None = None
    followers: int = 0
    caught_up: int = 0
    follow_forever: bool = False
    fail_after_chunks: BaseException | None = None
    _interrupted: asyncio.Event = field(default_factory=asyncio.Event)
    uptime_s: float = 12.9
    usage: UsageView | None = None
    stored_bytes: int = 2
    is_ended: bool = False
    unreadable: int = 0
    is_closing: bool = False
    on_caught_up: Callable[[], None] = lambda: None
    metrics: StubMetrics = field(default_factory=StubMetrics)

    async def catch_up(self) -> None:
        self.caught_up += 1
        self.on_caught_up()

    async def start(self, request: StartRequest) -> StartOutcome:
        self._called("start", request)
        if self.wait_in_start is not None:
            await self.wait_in_start.wait()
            self.calls.append(("started",))
        return StartOutcome(view=view(), created=not self.key_is_known)

    async def get(self, ref: str) -> ProcessView:
        self._called("get", ref)
        if self.wait_in_get is not None:
            await self.wait_in_get.wait()
        return view(stored_bytes=self.stored_bytes)

    async def id_of(self, ref: str) -> str:
        return ref

    async def get_when_readable(self, _ref: str) -> ProcessView:
        if not self.is_ended:
            return view()
        process = view().process
        ending = ExitStatus(reason=Reason.EXITED, exit_code=3, ended_at_ms=process.run.started_at_ms)
        return replace(view(), process=replace(process, run=replace(process.run, ending=ending)))

    def has_ended(self, _process: Process) -> bool:
        return self.is_ended

    async def list(self, query: ProcessQuery, *, with_usage: bool = False) -> list[ProcessView]:
        self._called("list", query, with_usage)
        return self.views[: query.limit]

    async def stats(self, ref: str, run: int | None) -> UsageView | None:
        self._called("stats", ref, run)
        return self.usage

    async def kill(self, ref: str, wait_s: float = 10.0, grace_ms: int | None = None) -> ProcessView | None:
        self._called("kill", ref, wait_s, *([] if grace_ms is None else [grace_ms]))
        return replace(view(), warning="look") if self.lives_on else None

    async def purge(self, ref: str, wait_s: float, grace_ms: int | None = None) -> ProcessView | None:
        self._called("purge", ref, wait_s, *([] if grace_ms is None else [grace_ms]))
        return replace(view(), warning="look") if self.lives_on else None

    async def signal(self, ref: str, number: int, scope: SignalScope) -> None:
        self._called("signal", ref, number, scope)

    async def write_stdin(self, ref: str, data: AsyncIterator[bytes]) -> None:
        self._called("write_stdin", ref)
        async for part in data:
            self.stdin += part

    async def close_stdin(self, ref: str) -> None:
        self._called("close_stdin", ref)

    async def warnings(self) -> Sequence[str]:
        return [] if self.why_held is None else [self.why_held]

    def health(self) -> str | None:
        return self.unhealthy

    def running(self) -> int:
        return 3

    def total(self) -> int:
        return 7

    shim_version = "1.2.2"

    @property
    def interrupted(self) -> bool:
        return self._interrupted.is_set()

    def interrupt_followers(self) -> None:
        self._interrupted.set()

    async def read_output(
        self, process: Process, query: OutputQuery, *, whole_lines: bool = False
    ) -> AsyncIterator[Chunk]:
        self._called("output", process.handle, query, whole_lines)
        for chunk in self.chunks:
            yield chunk
        if self.fail_after_chunks is not None:
            raise self.fail_after_chunks

    async def follow(self, process: Process, query: OutputQuery, *, heartbeat_s: float) -> AsyncIterator[Chunk | None]:
        async for chunks in self.follow_batches(process, query, heartbeat_s=heartbeat_s):
            for chunk in chunks or (None,):
                yield chunk

    async def follow_batches(
        self, process: Process, query: OutputQuery, *, heartbeat_s: float
    ) -> AsyncIterator[Sequence[Chunk] | None]:
        self._called("follow", process.handle, query, heartbeat_s)
        self.followers += 1
        try:
            for _ in range(self.unreadable):
                yield None
            async for chunk in self.read_output(process, query):
                if chunk.last_seq > query.after:
                    yield [chunk.after(query.after)]
            if self.follow_forever:
                yield ()
                await self._interrupted.wait()
                raise FollowInterrupted
        finally:
            self.followers -= 1

    async def is_over(self, process: Process, query: OutputQuery) -> bool:
        self._called("is_over", process.handle, query)
        return not self.follow_forever and all(chunk.last_seq <= query.after for chunk in self.chunks)

    def _called(self, *call: Any) -> None:
        self.calls.append(call)
        if self.fail is not None:
            raise self.fail
