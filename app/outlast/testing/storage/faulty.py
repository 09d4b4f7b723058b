"""A storage that fails on command, around any other one. For tests of the daemon, and of plug-ins that wrap others.

A test registers `FaultyStorage` in the entry-point group `outlast.storage` as `faulty`, and chooses it by a URL such as
`faulty:/path/control.json?sqlite:////path/outlast.db`. The control file says what fails. `inject` writes the file, and
each call reads it, so a test can change what fails while a daemon runs.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from outlast.model.errors import StorageError, StorageUnavailable
from outlast.storage.base import Change, Chunk, CompleteOutput, EndRun, Storage
from outlast.storage.registry import storage_from_url
from outlast.storage.wrapper import StorageWrapper

_SCHEME = "faulty:"
_LOOK_AGAIN_S = 0.02


class Mode(StrEnum):
    """How a commit fails.

    `OK`: it does not fail. `ERR`: `StorageUnavailable`, and nothing is stored. `STALL`: the commit does not begin until
    the mode changes. `SLOW`: the commit begins after a delay. `TEAR`: the first changes or all of them are stored, and
    `StorageUnavailable` is raised, as when a connection breaks before the answer. `REFUSE`: `ValueError`, and nothing
    is stored. `BREAK`: an error that the contract does not name, and nothing is stored.
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
    """A fault to inject.

    Attributes:
        mode: how commits fail.
        delay_s: delay of `SLOW`, in seconds.
        part: number of changes that `TEAR` stores; None: all.
        handle: only commits with output or an end of this process fail; 0: all commits.
        reads: whether reads fail too. `ERR`, `STALL` and `SLOW` apply to reads; the other modes do not.
    """

    mode: Mode = Mode.OK
    delay_s: float = 0.0
    part: int | None = None
    handle: int = 0
    reads: bool = False


def inject(control: Path, fault: Fault) -> None:
    """Inject `fault`, from the next call on and for calls that stall now."""
    written = control.with_suffix(".new")
    written.write_text(json.dumps(asdict(fault)))
    written.replace(control)


class FaultyStorage(StorageWrapper):
    """A storage that fails as its control file says, and works while there is none."""

    def __init__(self, inner: Storage, control: Path) -> None:
        super().__init__(inner)
        self._control = control
        self._committing = False
        self._seen: tuple[int, int] | None = None
        self._fault = Fault()

    @classmethod
    def from_url(cls, url: str, *, durable: bool, compress_after_s: int | None = None) -> Self:
        """Make a storage for `faulty:/path/of/control-file?URL-of-the-inner-storage`."""
        control, question, inner = url.removeprefix(_SCHEME).partition("?")
        if not control or not question:
            raise StorageError(f"storage {url!r}: write faulty:/path/control.json?sqlite:////path/outlast.db")
        return cls(storage_from_url(inner, durable=durable, compress_after_s=compress_after_s), Path(control))

    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        """Commit, or fail as the control file says.

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
            return await self.inner.commit(changes)
        fault = await self._delay(fault)
        if fault.mode is Mode.ERR:
            raise StorageUnavailable("an injected error")
        if fault.mode is Mode.REFUSE:
            raise ValueError("an injected refusal")
        if fault.mode is Mode.BREAK:
            raise RuntimeError("an injected defect")
        if fault.mode is Mode.TEAR:
            await self.inner.commit(changes[: fault.part])
            raise StorageUnavailable("an injected tear")
        return await self.inner.commit(changes)

    async def before_read(self) -> None:
        """Fail, stall or wait, if reads are meant to."""
        if self._current().reads:
            fault = await self._delay(self._current())
            if fault.mode is Mode.ERR:
                raise StorageUnavailable("an injected error")

    async def _delay(self, fault: Fault) -> Fault:
        """Wait as `fault` says, and return the fault that is in force afterwards."""
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


def _is_about(change: Change, handle: int) -> bool:
    return isinstance(change, Chunk | EndRun | CompleteOutput) and change.handle == handle
