"""Starts with an `idempotency_key`: one key, one process, however often and from wherever it is asked for."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from outlast.core.commands.start_request import StartRequest
from outlast.core.commands.starter import started
from outlast.core.output.committer import Committer
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.errors import InvalidRequest, Unavailable
from outlast.model.process import Process, ProcessSpec
from outlast.storage import AddProcess, Storage


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A start that has begun, and is neither recorded nor failed yet."""

    request: StartRequest
    task: asyncio.Task[tuple[Process, bool]]


class IdempotentStarts:
    """Finds the process that has a key, or starts it."""

    def __init__(
        self,
        storage: Storage,
        committer: Committer,
        supervisor: Supervisor,
        *,
        start: Callable[[StartRequest], Awaitable[Process]],
    ) -> None:
        """Make it.

        Args:
            storage: knows who has a key.
            committer: records.
            supervisor: knows who is not recorded yet.
            start: starts a process.
        """
        self._storage = storage
        self._committer = committer
        self._supervisor = supervisor
        self._start = start
        self._under_way: dict[str, _UnderWay] = {}

    async def start(self, request: StartRequest, key: str) -> tuple[Process, bool]:
        """Return the key's process, as it is now, and whether this call has started it.

        Calls with one key wait for the first of them, and have its answer or its error. A key whose start has failed
        is free again. Nothing happens twice if the caller is cancelled: what has begun comes to its end.

        Raises:
            InvalidRequest: the key belongs to another command, or other arguments.
            Unavailable: it can't be said now whether the key is free.
            OutlastError: what `start` raises.
        """
        first = self._under_way.get(key)
        if first is not None:
            _check_same(request, first.request)
            process, _ = await asyncio.shield(first.task)
            return process, False
        task = asyncio.create_task(self._find_or_start(request, key))
        self._under_way[key] = _UnderWay(request, task)
        return await asyncio.shield(task)

    async def _find_or_start(self, request: StartRequest, key: str) -> tuple[Process, bool]:
        try:
            holder = await self._find(key)
            if holder is None:
                return await self._start(request), True
            _check_same(request, holder.spec)
            if (live := self._supervisor.get(holder.spec.id)) is not None:
                await started(live)
            return holder, False
        finally:
            del self._under_way[key]

    async def _find(self, key: str) -> Process | None:
        for live in self._supervisor:
            if live.spec.idempotency_key == key and not live.handle:
                # An earlier daemon died before it had recorded this one. Its record is on the way to the store: the
                # same once more comes behind it, and fails at once if the store can't take either.
                await self._committer.commit(AddProcess(live.spec, live.run))
        holder = await self._storage.process_by_key(key)
        if holder is not None and self._is_in_doubt(holder):
            holder = await self._storage.process_by_key(key)  # perhaps it ended just now
            if holder is not None and self._is_in_doubt(holder):
                raise Unavailable("what became of the start with this idempotency_key is not clear yet; try again")
        return holder

    def _is_in_doubt(self, process: Process) -> bool:
        """By the store it runs, and nobody looks after it: its start has failed, or its loss is not stored yet."""
        return process.run.ending is None and self._supervisor.get(process.spec.id) is None


def _check_same(request: StartRequest, other: StartRequest | ProcessSpec) -> None:
    if (request.command, request.args) != (other.command, other.args):
        raise InvalidRequest(
            "idempotency_key belongs to a start of another command, or with other args: choose another key for this one"
        )
