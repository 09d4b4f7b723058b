"""A storage that fails on command, around any other. For tests of the daemon, and of plug-ins that wrap others.

Registered in the entry-point group `outlast.storage` as `faulty`, it is chosen by a URL such as
`faulty:/path/control.json?sqlite:////path/outlast.db`. What goes wrong stands in the file, which `inject` writes and
which is read at each call: so a test changes its mind while a daemon runs.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from outlast.model.errors import StorageError, StorageUnavailable
from outlast.model.event import EventFilter, EventPage
from outlast.model.output import Position, Stream
from outlast.model.process import Process, ProcessQuery, Run
from outlast.model.scan import ScanPage, ScanQuery
from outlast.model.usage import RunUsage
from outlast.storage.base import Change, Chunk, CompleteOutput, EndRun, Storage, Unfinished
from outlast.storage.registry import storage_from_url

_SCHEME = "faulty:"
_LOOK_AGAIN_S = 0.02


class Mode(StrEnum):
    """What becomes of a commit.

    `OK`: what the inner storage makes of it. `ERR`: `StorageUnavailable`, and nothing is stored. `STALL`: it does not
    begin until the mode changes. `SLOW`: it begins after a delay. `TEAR`: it is stored, wholly or only its first
    changes, and the answer is `StorageUnavailable`: a connection that tears. `REFUSE`: `ValueError`, and nothing is
    stored. `BREAK`: an error that the contract does not know, and nothing is stored.
    """

    OK = "ok"
    ERR = "err"
    STALL = "stall"
    SLOW = "slow"
    TEAR = "tear"
    REFUSE = "refuse"
    BREAK = "break"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong.

    Attributes:
        mode: see `Mode`.
        delay_s: of `SLOW`.
        part: how many of its changes are stored by a commit that tears; None: all.
        handle: only commits with output or an end of this process go wrong; 0: all.
        reads: reads go wrong, too: they err, stall or are slow like commits. Other modes leave them alone.
    """

    mode: Mode = Mode.OK
    delay_s: float = 0.0
    part: int | None = None
    handle: int = 0
    reads: bool = False


def inject(control: Path, fault: Fault) -> None:
    """Let `fault` be in force from the next call on, and for those that stall now."""
    written = control.with_suffix(".new")
    written.write_text(json.dumps(asdict(fault)))
    written.replace(control)


class FaultyStorage(Storage):
    """Fails as its control file says; without one it doesn't."""

    def __init__(self, inner: Storage, control: Path) -> None:
        self._inner = inner
        self._control = control
        self._committing = False
        self._seen: tuple[int, int] | None = None
        self._fault = Fault()

    @classmethod
    def from_url(cls, url: str, *, durable: bool, compress_after_s: int = 0) -> Self:
        """Understand `faulty:/path/of/control-file?URL-of-the-inner-storage`."""
        control, question, inner = url.removeprefix(_SCHEME).partition("?")
        if not control or not question:
            raise StorageError(f"storage {url!r}: write faulty:/path/control.json?sqlite:////path/outlast.db")
        return cls(storage_from_url(inner, durable=durable, compress_after_s=compress_after_s), Path(control))

    async def open(self) -> None:
        """Open the inner storage."""
        await self._inner.open()

    async def close(self) -> None:
        """Close the inner storage."""
        await self._inner.close()

    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        """Commit, or go wrong.

        Raises:
            AssertionError: another commit is under way, which the contract rules out.
        """
        assert not self._committing, "a commit was begun before another had returned"
        self._committing = True
        try:
            return await self._commit(changes)
        finally:
            self._committing = False

    async def _commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        fault = self._current()
        if fault.handle and not any(_is_about(change, fault.handle) for change in changes):
            return await self._inner.commit(changes)
        fault = await self._delay(fault)
        if fault.mode is Mode.ERR:
            raise StorageUnavailable("an injected error")
        if fault.mode is Mode.REFUSE:
            raise ValueError("an injected refusal")
        if fault.mode is Mode.BREAK:
            raise RuntimeError("an injected defect")
        if fault.mode is Mode.TEAR:
            await self._inner.commit(changes[: fault.part])
            raise StorageUnavailable("an injected tear")
        return await self._inner.commit(changes)

    async def _read(self) -> None:
        if self._current().reads:
            fault = await self._delay(self._current())
            if fault.mode is Mode.ERR:
                raise StorageUnavailable("an injected error")

    async def _delay(self, fault: Fault) -> Fault:
        """Let the time pass that a call takes by `fault`, and return what is in force then."""
        if fault.mode is Mode.SLOW:
            await asyncio.sleep(fault.delay_s)
        while fault.mode is Mode.STALL:
            await asyncio.sleep(_LOOK_AGAIN_S)
            fault = self._current()
        return fault

    def _current(self) -> Fault:
        try:
            found = self._control.stat()
        except FileNotFoundError:
            return Fault()
        if self._seen != (found.st_mtime_ns, found.st_ino):
            values = json.loads(self._control.read_text())
            self._fault = Fault(**{**values, "mode": Mode(values["mode"])})
            self._seen = (found.st_mtime_ns, found.st_ino)
        return self._fault

    # ---- reads: handed on

    async def process(self, handle: int) -> Process | None:
        """Return a process by handle."""
        await self._read()
        return await self._inner.process(handle)

    async def process_by_id(self, process_id: str) -> Process | None:
        """Return a process by ULID."""
        await self._read()
        return await self._inner.process_by_id(process_id)

    async def process_by_pid(self, pid: int) -> Process | None:
        """Return the newest process that had this operating-system pid."""
        await self._read()
        return await self._inner.process_by_pid(pid)

    async def process_by_key(self, key: str) -> Process | None:
        """Return the process that has this `idempotency_key`."""
        await self._read()
        return await self._inner.process_by_key(key)

    async def process_by_name(self, name: str) -> Process | None:
        """Return the newest process that was given this name."""
        await self._read()
        return await self._inner.process_by_name(name)

    async def runs(self, handle: int, *, before_number: int | None, limit: int) -> list[Run]:
        """List a process's runs, newest first."""
        await self._read()
        return await self._inner.runs(handle, before_number=before_number, limit=limit)

    async def position(self, handle: int) -> Position:
        """Return how far a process's output is stored."""
        await self._read()
        return await self._inner.position(handle)

    async def supervised(self) -> list[Process]:
        """List the managed processes that are to run, oldest first."""
        await self._read()
        return await self._inner.supervised()

    async def processes(self, query: ProcessQuery) -> list[Process]:
        """List processes, in the order that the query names."""
        await self._read()
        return await self._inner.processes(query)

    async def unfinished(self) -> list[Unfinished]:
        """List the processes that have not ended or whose output is not complete, oldest first."""
        await self._read()
        return await self._inner.unfinished()

    async def scan(self, scan: ScanQuery) -> ScanPage:
        """Read chunks of all processes."""
        await self._read()
        return await self._inner.scan(scan)

    async def usage(self, handle: int, run: int) -> RunUsage | None:
        """Return what is recorded of a run's resources."""
        await self._read()
        return await self._inner.usage(handle, run)

    async def total(self) -> int:
        """Count the stored processes."""
        await self._read()
        return await self._inner.total()

    async def chunks(
        self,
        handle: int,
        *,
        after_seq: int,
        max_bytes: int,
        stream: Stream | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> list[Chunk]:
        """Read output in order of `first_seq`."""
        await self._read()
        return await self._inner.chunks(
            handle, after_seq=after_seq, max_bytes=max_bytes, stream=stream, since_ms=since_ms, until_ms=until_ms
        )

    async def tail(self, handle: int, lines: int, *, stream: Stream | None = None) -> int:
        """Return the `after_seq` from which `chunks` gives the last `lines` lines."""
        await self._read()
        return await self._inner.tail(handle, lines, stream=stream)

    async def events(self, after: int, limit: int, wanted: EventFilter) -> EventPage:
        """Read events in the order of their ids."""
        await self._read()
        return await self._inner.events(after, limit, wanted)

    async def event_tail(self, count: int, wanted: EventFilter) -> int:
        """Return the `after` from which `events` gives the last `count` that are wanted."""
        await self._read()
        return await self._inner.event_tail(count, wanted)


def _is_about(change: Change, handle: int) -> bool:
    return isinstance(change, Chunk | EndRun | CompleteOutput) and change.handle == handle
