"""What a link to the shim tells its owner, and in which terms."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from outlast.model.errors import OutlastError, ShimUnavailable
from outlast.model.output import Stream
from outlast.shimlink.held_process import HeldProcess


@dataclass(frozen=True, slots=True)
class ShimProcess:
    """A process that the shim looks after, as it tells on connecting.

    Attributes:
        record: what `spawn` was given.
        held: duplicates of what the shim has open for it. Whoever is told of the process closes it.
    """

    slot: int
    record: Mapping[str, Any]
    held: HeldProcess


@dataclass(frozen=True, slots=True)
class Spawned:
    """A process that has just been forked. It runs its program once it is attached."""

    slot: int
    held: HeldProcess


class SpawnRefused(OutlastError):
    """The system could not start it: `stage` (outlast.shim.launch.exec_child.Stage) and `errno` say where and why."""

    def __init__(self, stage: int, errno: int) -> None:
        super().__init__(os.strerror(errno))
        self.stage = stage
        self.errno = errno


class ShimLost(ShimUnavailable):
    """The shim was there, and is gone: there will be another."""


class GreetingCut(ShimLost):
    """The shim died while it told what it looks after. `found`: what it had told by then; it belongs to the caller."""

    def __init__(self, message: str, found: list[ShimProcess]) -> None:
        super().__init__(message)
        self.found = found


class ShimEvents(Protocol):
    """What a link tells its owner, from the event loop, in the order in which it came."""

    def on_started(self, slot: int, deadline_ms: int | None) -> None:
        """It runs its program, until that time of the monotonic clock. Told again after every `attach`."""

    def on_failed(self, slot: int, stage: int, errno: int) -> None:
        """It could not run its program; see `SpawnRefused`. Told again after every `attach`."""

    def on_output(self, slot: int, stream: Stream, ts_ms: int, offset: int, size: int) -> None:
        """`size` bytes were read at `ts_ms`; `offset` counts within the stream. None: the stream has ended."""

    def on_exited(self, slot: int, how: Mapping[str, int]) -> None:
        """The process itself has ended. Told again after every `attach`.

        `how`: `ts_ms`, and `code` or `signal` (neither: nobody knows); whether `timed_out`; whether `oom_killed`.
        """

    def on_stdin_closed(self, slot: int) -> None:
        """Its standard input is no longer writable."""

    def on_link_lost(self) -> None:
        """The connection is gone, unless `close` was called."""
