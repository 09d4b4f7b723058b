"""Waits for what happens to a process: its end, a line, a port, silence, health."""

import contextlib
from collections.abc import AsyncGenerator, Callable

from outlast.core.followers import Followers
from outlast.core.managed.registry import ManagedRegistry
from outlast.core.output.committer import Committer
from outlast.core.query.follow import FollowInterrupted
from outlast.core.query.matcher import Matcher
from outlast.core.query.output_cursor import Cursor, OutputQuery
from outlast.core.query.queries import Queries
from outlast.core.query.wait_conditions import Line, WaitCondition, WaitQuery, wait_for_port, wait_for_silence
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.clock import now_ms
from outlast.model.errors import InvalidRequest
from outlast.model.output import Chunk
from outlast.model.process import Process

_IDLE_CHECK_S = (0.02, 0.5)
"""Shortest and longest time between two checks for silence."""

_RUN_HEARTBEAT_S = 60.0
"""Maximum time between two checks whether the daemon is stopping, while a line of a run is waited for."""


class Waits:
    """Waits for what happens to a process."""

    def __init__(
        self,
        followers: Followers,
        queries: Queries,
        committer: Committer,
        supervisor: Supervisor,
        registry: ManagedRegistry,
        open_cursor: Callable[[Process, OutputQuery], Cursor],
    ) -> None:
        self._followers = followers
        self._queries = queries
        self._committer = committer
        self._supervisor = supervisor
        self._registry = registry
        self._open_cursor = open_cursor

    async def until(self, process: Process, query: WaitQuery, *, heartbeat_s: float) -> Line | bool | None:
        """Wait until a condition is met.

        Args:
            process: the process.
            query: the condition.
            heartbeat_s: maximum time between two checks whether the daemon is stopping.

        Returns:
            The line for `OUTPUT`, which is stored, True for the others; False or None if the process has ended, so that
            the condition cannot be met any more.

        Raises:
            FollowInterrupted: the daemon is stopping.
            InvalidRequest: nothing says when the process is healthy.
        """
        if query.until is WaitCondition.HEALTHY:
            return await self._until_healthy(process, heartbeat_s)
        if query.until is WaitCondition.EXIT:
            await self._until_ended(process)
            return True
        if query.until is WaitCondition.OUTPUT and query.matcher is not None:
            where = OutputQuery(after=query.after, stream=query.stream)
            chunks = self._followers.follow_chunks(process, where, heartbeat_s=heartbeat_s)
            line = await self._queries.wait_for_line(chunks, query.matcher, seen_seq=query.after)
            if line is not None:
                await self._until_stored(process, line.seq)
            return line
        if query.until is WaitCondition.PORT:
            return await wait_for_port(query.port, lambda: self._is_over(process))
        return await self._until_silent(process, query)

    async def for_line_of_run(self, process: Process, matcher: Matcher) -> bool:
        """Wait until the process's run has printed a line that matches. False: its output has ended without one.

        Raises:
            FollowInterrupted: the daemon is stopping.
        """
        where = OutputQuery(since_ms=process.run.started_at_ms)
        # What it finds is told by a state that is committed behind it, so no commit has to hurry.
        chunks = self._followers.follow_chunks(process, where, heartbeat_s=_RUN_HEARTBEAT_S, is_watched=False)
        return await self._queries.wait_for_line(_of_run(chunks, process.run.number), matcher) is not None

    def has_ended(self, process: Process) -> bool:
        """Return whether a process has ended for good and its output is stored. Its children may still print."""
        if self._registry.get(process.spec.id) is not None:
            return False
        live = self._supervisor.get(process.spec.id)
        return live is None or (live.end_stored and self._is_settled(process))

    async def _until_ended(self, process: Process) -> None:
        """Wait until the current run has ended, and its end is stored."""
        live = self._supervisor.get(process.spec.id)
        if live is not None:
            await live.wait(lambda: live.end_stored or self._followers.is_interrupted)
            if not live.end_stored:
                raise FollowInterrupted

    async def _until_healthy(self, process: Process, heartbeat_s: float) -> bool:
        """Wait until a run is healthy, this one or a later one. False: the process has ended for good."""
        options = process.spec.options
        if options.health_check is None and options.ready_log is None:
            raise InvalidRequest(
                "until cannot be healthy: the process has neither health_check nor ready_log, so nothing tells"
            )
        while not self._followers.is_interrupted and (managed := self._registry.get(process.spec.id)) is not None:
            if managed.is_healthy or managed.finished:
                return managed.is_healthy
            await managed.wait_change(heartbeat_s)
        if self._followers.is_interrupted:
            raise FollowInterrupted
        return False

    async def _until_stored(self, process: Process, seq: int) -> None:
        """Store a line that a follower has seen, at once."""
        live = self._supervisor.get(process.spec.id)
        if live is None or live.recorder is None:  # what earlier runs printed is stored
            return
        self._committer.flush_now()

        def is_over() -> bool:
            closing = self._followers.is_interrupted
            return live.stored_seq >= seq or closing or self._supervisor.get(process.spec.id) is not live

        await live.stored.wait(is_over)
        if live.stored_seq < seq and self._followers.is_interrupted:
            raise FollowInterrupted

    async def _until_silent(self, process: Process, query: WaitQuery) -> bool:
        last_seq, last_ts_ms = 0, process.run.started_at_ms
        async for chunk in self._open_cursor(process, OutputQuery(tail=1, stream=query.stream)).stored():
            last_seq, last_ts_ms = chunk.last_seq, chunk.ts_ms
        where = OutputQuery(after=last_seq, stream=query.stream)
        check_s = min(max(query.idle_ms / 4000, _IDLE_CHECK_S[0]), _IDLE_CHECK_S[1])
        live = self._supervisor.get(process.spec.id)
        silent_s = (
            max(0, now_ms() - last_ts_ms) / 1000 if live is None else live.clock.silent_s(query.stream, last_ts_ms)
        )
        batches = self._followers.follow(process, where, heartbeat_s=check_s)
        return await wait_for_silence(batches, query.idle_ms, silent_s, lambda: self._is_settled(process))

    def _is_settled(self, process: Process) -> bool:
        """Return whether all output that the shim has reported is stored."""
        live = self._supervisor.get(process.spec.id)
        return live is None or (live.recorder is not None and live.recorder.is_settled)

    def _is_over(self, process: Process) -> bool:
        """Return `has_ended`, or raise FollowInterrupted if the daemon is stopping."""
        if self._followers.is_interrupted:
            raise FollowInterrupted
        return self.has_ended(process)


async def _of_run(chunks: AsyncGenerator[Chunk | None, None], number: int) -> AsyncGenerator[Chunk | None, None]:
    """Yield the chunks of one run. Its first line may be as old as the last one of the run before."""
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            if chunk is None or chunk.run == number:
                yield chunk
