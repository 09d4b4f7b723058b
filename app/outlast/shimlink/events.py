"""Events that a link to the shim reports, and the types that they carry."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from outlast.model.errors import NoAnswer, OutlastError, ShimUnavailable
from outlast.model.output import Stream
from outlast.shimlink.held_process import HeldProcess


@dataclass(frozen=True, slots=True)
class ShimProcess:
    """A process of the shim, as its inventory describes it.

    Attributes:
        record: the record that `spawn` was given.
        held: duplicates of what the shim has open for it. The receiver of the event closes it.
        taken: whether the owner of the link has it already (see `ShimEvents.on_described`).
    """

    slot: int
    record: Mapping[str, Any]
    held: HeldProcess
    taken: bool = False


@dataclass(frozen=True, slots=True)
class Spawned:
    """A process that has just been forked. It runs its program once it is attached."""

    slot: int
    held: HeldProcess


class SpawnRefused(OutlastError):
    """A process that the system could not start. `stage` (`outlast.wire.contract.Stage`) and `errno` say why."""

    def __init__(self, stage: int, errno: int) -> None:
        super().__init__(os.strerror(errno))
        self.stage = stage
        self.errno = errno


class ShimLost(NoAnswer):
    """A shim that was connected has gone. Another one will take its place."""


class NotSent(ShimUnavailable):
    """A shim that was connected has gone, and this request never reached it whole: nothing was done."""


LINK_BROKE = (ShimLost, NotSent)
"""The errors of requests whose connection broke."""


class GreetingCut(ShimLost):
    """A shim that died during its inventory. `found`: the processes it described by then; they belong to the caller."""

    def __init__(self, message: str, found: list[ShimProcess]) -> None:
        super().__init__(message)
        self.found = found


class KillOutcome(NamedTuple):
    """Result of a kill so far.

    Attributes:
        is_gone: whether nothing of the tree is left, as far as can be told.
        strays: pids of processes that may belong to the tree, and that nothing tells whose they are.
        since_ticks: time from boot to a moment before the tree's start, in clock ticks; 0 if it is not known.
    """

    is_gone: bool
    strays: list[int]
    since_ticks: int


class ShimUsage(NamedTuple):
    """Output that the shim holds of all processes because it is not stored.

    Attributes:
        memory_bytes: bytes in memory.
        spool_bytes: bytes on disk.
        blocked: number of processes whose output is not read now.
    """

    memory_bytes: int
    spool_bytes: int
    blocked: int


class ShimEvents(Protocol):
    """An owner of a link, which the link tells of events, from the event loop, in the order in which they came."""

    def on_attached(self, slot: int, stdout_end: int, stderr_end: int) -> None:
        """Hear that the shim has read an `attach` with these offsets: what comes next follows it."""

    def on_started(self, slot: int, deadline_ms: int | None) -> None:
        """Hear that a process runs its program, and its deadline by the monotonic clock. Repeated after `attach`."""

    def on_failed(self, slot: int, stage: int, errno: int) -> None:
        """Hear that a process could not run its program; see `SpawnRefused`. Repeated after `attach`."""

    def on_output(self, slot: int, stream: Stream, ts_ms: int, offset: int, size: int) -> None:
        """Hear that `size` bytes of a stream, from `offset` on, were read at `ts_ms`. Size 0: the stream has ended."""

    def on_segment(self, slot: int, stream: Stream, start: int, fd: int) -> None:
        """Hear that the bytes of a stream are in another file from offset `start` on, which belongs to the receiver."""

    def on_exited(self, slot: int, how: Mapping[str, int]) -> None:
        """Hear that a process has exited. Repeated after `attach`.

        `how`: `ts_ms`, `code` or `signal` (neither: nobody knows), `timed_out` and `oom_killed`.
        """

    def on_stdin_closed(self, slot: int) -> None:
        """Hear that a standard input cannot be written to any more."""

    def on_described(self, record: Mapping[str, Any], held: HeldProcess) -> bool:
        """Hear of a process in the shim's inventory. Return whether `held` belongs to the listener from now on."""

    def on_link_lost(self) -> None:
        """Hear that the connection is lost. Not called after `close`."""
