"""Commands that check the health of a run: the shim runs them beside it, and nothing of them is stored.

A command has a key of its own, so that it can be killed with all that it starts, and the run lives on. Its timeout is
kept by the shim. So one whose daemon has died ends as well, and the next daemon makes the shim forget it.
"""

import asyncio
import errno
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from outlast.linux import descriptors
from outlast.model.errors import NoAnswer, ShimUnavailable
from outlast.model.output import Position, Stream
from outlast.model.process import run_key
from outlast.model.shortage import shortage
from outlast.shimlink import HeldProcess, ShimEvents, ShimLink, ShimProcess
from outlast.wire.contract import Command

_MARK = "check"
_KEYS = 64
"""Number of keys that the checks of a run take in turn: a kill in rounds of one must not reach the next."""
_LATE_S = 10.0
"""Time after its timeout at which a check that the shim has not told the end of is given up."""
_DRAIN_S = 0.2
"""Time after the end of a check in which the rest of its output is waited for."""
_OUTPUT_BYTES = 1024
_DESCRIPTORS = 9
"""Maximum number of descriptors that come with a check."""


class CheckOutcome(NamedTuple):
    """The end of a check.

    Attributes:
        code: its exit code; None unless it exited by itself.
        signal: number of the signal that ended it; None if none did.
        timed_out: whether it took too long.
        failed: errno, if it could not be executed.
        output: the end of what it has printed.
    """

    code: int | None = None
    signal: int | None = None
    timed_out: bool = False
    failed: int | None = None
    output: bytes = b""


def check_keys(process_id: str, number: int) -> list[str]:
    """Return all keys that checks of a run may have."""
    return [f"{run_key(process_id, number)}.{_MARK}.{turn}" for turn in range(_KEYS)]


class _Check:
    """A check that runs."""

    def __init__(self, link: ShimLink, slot: int, held: HeldProcess) -> None:
        self.held = held
        self.over: asyncio.Future[CheckOutcome] = asyncio.get_running_loop().create_future()
        self._link = link
        self._slot = slot
        self._ends = {Stream.STDOUT: 0, Stream.STDERR: 0}
        self._open = len(self._ends)
        self._output = b""
        self._outcome: CheckOutcome | None = None

    def on_output(self, stream: Stream, ts_ms: int, offset: int, size: int) -> None:
        """Keep the end of the output, and let the shim forget all of it, so that a check may print for ever."""
        if size == 0:
            self.held.on_end(stream, ts_ms, offset)
            self._open -= 1
            self._finish_if_drained()
            return
        data = self.held.read(stream, ts_ms, offset, size)
        self._output = (self._output + data[-_OUTPUT_BYTES:])[-_OUTPUT_BYTES:]
        self._ends[stream] = offset + size
        position = Position(stdout_end=self._ends[Stream.STDOUT], stderr_end=self._ends[Stream.STDERR])
        self.held.acknowledge(position)
        self._link.acknowledge(self._slot, position)

    def on_exited(self, how: Mapping[str, int]) -> None:
        """Note the end, and wait a moment for the rest of the output: a child may keep it open for ever."""
        self._outcome = CheckOutcome(how.get("code"), how.get("signal"), bool(how["timed_out"]))
        self._finish_if_drained()
        asyncio.get_running_loop().call_later(_DRAIN_S, self._finish)

    def on_failed(self, number: int) -> None:
        """Note that the command could not be executed."""
        self._outcome = CheckOutcome(failed=number)
        self._finish()

    def on_lost(self) -> None:
        """Note that nobody can tell how it ended."""
        if not self.over.done():
            self.over.set_exception(NoAnswer("the connection to the shim was lost during a health check"))

    def _finish_if_drained(self) -> None:
        if self._outcome is not None and self._open == 0:
            self._finish()

    def _finish(self) -> None:
        if not self.over.done() and self._outcome is not None:
            self.over.set_result(self._outcome._replace(output=self._output))


class _Left(NamedTuple):
    """A check that is to be killed. `slot`: its slot at `link`, if that is still connected."""

    key: str
    link: ShimLink | None
    slot: int


class Checks:
    """The checks of all runs. It stands between the link and the supervisor, to which it passes on what is not theirs.

    `take` and `end_left` remove those of earlier daemons.
    """

    def __init__(self, supervisor: ShimEvents) -> None:
        self._supervisor = supervisor
        self._by_slot: dict[int, _Check] = {}
        self._turns = itertools.count(int(time.monotonic() * 10))  # not the last ones of an earlier daemon
        self._left: list[_Left] = []

    async def run(self, link: ShimLink, process_id: str, number: int, command: Command) -> CheckOutcome:
        """Run a command with a timeout beside a run of a process. Nothing that it has started is left behind.

        Raises:
            SpawnRefused: the system could not start it.
            OutOfResources: this daemon has too few descriptors left.
            ShimUnavailable: there is no shim now, or it has gone or been silent meanwhile; the command is killed.
        """
        if not descriptors.has_room(_DESCRIPTORS):
            raise shortage(errno.EMFILE, "run a health check")
        key = f"{run_key(process_id, number)}.{_MARK}.{next(self._turns) % _KEYS}"
        spawned = await link.spawn({"id": key}, command, Position())
        slot, held = spawned.slot, spawned.held
        check = self._by_slot[slot] = _Check(link, slot, held)
        try:
            link.attach(slot, Position())
            try:
                async with asyncio.timeout((command.timeout_ms or 0) / 1000 + _LATE_S):
                    return await check.over
            except TimeoutError:
                await link.kill(key)  # raises if the shim is silent, which tells nothing about the run
                return CheckOutcome(timed_out=True)
        finally:
            self._by_slot.pop(slot, None)
            held.close()
            self._left.append(_Left(key, link, slot))
            await self.end_left(link)

    def take(self, link: ShimLink | None, found: Sequence[ShimProcess]) -> list[ShimProcess]:
        """Take the checks of earlier daemons out of an inventory, and return the rest. `end_left` ends them."""
        for process in found:
            if not _is_check(process.record):
                continue
            process.held.close()
            self._left.append(_Left(process.record["id"], link, process.slot))
        return [process for process in found if not _is_check(process.record)]

    async def end_left(self, link: ShimLink) -> None:
        """Kill what checks have left behind, and let the shim forget them: this shim, or the next one."""
        while self._left:
            left = self._left.pop()
            try:
                await link.kill(left.key)
            except ShimUnavailable:
                self._left.append(left)
                return
            except BaseException:
                self._left.append(left)
                raise
            if left.link is link:
                link.forget(left.slot)

    # ---- events of the shim

    def on_attached(self, slot: int, stdout_end: int, stderr_end: int) -> None:
        """See `ShimEvents`."""
        if slot not in self._by_slot:
            self._supervisor.on_attached(slot, stdout_end, stderr_end)

    def on_started(self, slot: int, deadline_ms: int | None) -> None:
        """See `ShimEvents`."""
        if (check := self._by_slot.get(slot)) is not None:
            check.held.on_started()
        else:
            self._supervisor.on_started(slot, deadline_ms)

    def on_failed(self, slot: int, stage: int, errno: int) -> None:
        """See `ShimEvents`."""
        if (check := self._by_slot.get(slot)) is not None:
            check.held.on_started()
            check.on_failed(errno)
        else:
            self._supervisor.on_failed(slot, stage, errno)

    def on_output(self, slot: int, stream: Stream, ts_ms: int, offset: int, size: int) -> None:
        """See `ShimEvents`."""
        if (check := self._by_slot.get(slot)) is not None:
            check.on_output(stream, ts_ms, offset, size)
        else:
            self._supervisor.on_output(slot, stream, ts_ms, offset, size)

    def on_segment(self, slot: int, stream: Stream, start: int, fd: int) -> None:
        """See `ShimEvents`."""
        if (check := self._by_slot.get(slot)) is not None:
            check.held.append_segment(stream, start, fd)
        else:
            self._supervisor.on_segment(slot, stream, start, fd)

    def on_exited(self, slot: int, how: Mapping[str, int]) -> None:
        """See `ShimEvents`."""
        if (check := self._by_slot.get(slot)) is not None:
            check.on_exited(how)
        else:
            self._supervisor.on_exited(slot, how)

    def on_stdin_closed(self, slot: int) -> None:
        """See `ShimEvents`."""
        if slot not in self._by_slot:
            self._supervisor.on_stdin_closed(slot)

    def on_described(self, record: Mapping[str, Any], held: HeldProcess) -> bool:
        """See `ShimEvents`. A check that is described again has lost its link, and is not continued."""
        return not _is_check(record) and self._supervisor.on_described(record, held)

    def on_link_lost(self) -> None:
        """See `ShimEvents`."""
        for check in self._by_slot.values():
            check.on_lost()
        self._by_slot.clear()
        self._supervisor.on_link_lost()


def _is_check(record: Mapping[str, Any]) -> bool:
    return f".{_MARK}." in record["id"]
