"""Starts with an `idempotency_key`: one key starts one process, however often clients send the request."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from outlast.core.commands.start_request import StartRequest
from outlast.core.commands.starter import wait_started
from outlast.core.output.committer import Committer
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.errors import InvalidRequest, Unavailable
from outlast.model.process import Process, ProcessSpec
from outlast.storage import AddProcess, Storage


@dataclass(frozen=True, slots=True)
class _PendingStart:
    """A start that is neither recorded nor failed yet."""

    request: StartRequest
    task: asyncio.Task[tuple[Process, bool]]


class IdempotentStarts:
    """The starts that have an `idempotency_key`."""

    def __init__(
        self,
        storage: Storage,
        committer: Committer,
        supervisor: Supervisor,
        *,
        start: Callable[[StartRequest], Awaitable[Process]],
    ) -> None:
        """Create the table of pending starts.

        Args:
            storage: finds the process that has a key.
            committer: records a process that an earlier daemon has started.
            supervisor: has the processes that are not recorded yet.
            start: starts a process.
        """
        self._storage = storage
        self._committer = committer
        self._supervisor = supervisor
        self._start = start
        self._pending: dict[str, _PendingStart] = {}

    async def find_or_start(self, request: StartRequest, key: str) -> tuple[Process, bool]:
        """Return the process that has the key, as it is now, and whether this call has started it.

        Calls with the same key wait for the first of them, and get its result or its error. After a failed start, the
        key is free again. If the caller is cancelled, the start continues.

        Raises:
            InvalidRequest: the key belongs to a start with another command or other arguments.
            Unavailable: whether the key is free cannot be decided now.
            OutlastError: as raised by `start`.
        """
        first = self._pending.get(key)
        if first is not None:
            _check_same(request, first.request)
            process, _ = await asyncio.shield(first.task)
            return process, False
        task = asyncio.create_task(self._find_or_start(request, key))
        self._pending[key] = _PendingStart(request, task)
        return await asyncio.shield(task)

    async def _find_or_start(self, request: StartRequest, key: str) -> tuple[Process, bool]:
        try:
            holder = await self._find(key)
            if holder is None:
                return await self._start(request), True
            _check_same(request, holder.spec)
            if (live := self._supervisor.get(holder.spec.id)) is not None:
                await wait_started(live)
            return holder, False
        finally:
            del self._pending[key]

    async def _find(self, key: str) -> Process | None:
        for live in self._supervisor:
            if live.spec.idempotency_key == key and not live.handle:
                # An earlier daemon died before it had recorded this process. This daemon has submitted the record: the
                # same change once more is committed after it, and fails at once if the store cannot commit.
                await self._committer.commit(AddProcess(live.spec, live.run))
        holder = await self._storage.process_by_key(key)
        if holder is not None and self._is_in_doubt(holder):
            holder = await self._storage.process_by_key(key)  # it may have ended just now
            if holder is not None and self._is_in_doubt(holder):
                raise Unavailable("the outcome of the start with this idempotency_key is not known yet: try again")
        return holder

    def _is_in_doubt(self, process: Process) -> bool:
        """Return whether the store has a process as running that is not live: its failure or loss is not stored yet."""
        return process.run.ending is None and self._supervisor.get(process.spec.id) is None


def _check_same(request: StartRequest, other: StartRequest | ProcessSpec) -> None:
    if (request.command, request.args) != (other.command, other.args):
        raise InvalidRequest(
            "idempotency_key belongs to a start of another command, or with other args: choose another key"
        )
