"""The live processes, by id and by the shim's slot."""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from outlast.core.supervision.live_process import LiveProcess, RunRecorder


class _Attaching(NamedTuple):
    """A recorder that is attached, and the offsets that the shim has not answered yet."""

    recorder: RunRecorder
    stdout_end: int
    stderr_end: int


class LiveRegistry:
    """The live processes, and the recorders that get the shim's events. Iteration goes over a copy.

    Attributes:
        registered: set by each new run; who waits for runs clears it.
    """

    def __init__(self) -> None:
        self.registered = asyncio.Event()
        self._by_id: dict[str, LiveProcess] = {}
        self._recorders: dict[int, RunRecorder] = {}
        self._attaching: dict[int, _Attaching] = {}

    def __iter__(self) -> Iterator[LiveProcess]:
        return iter(tuple(self._by_id.values()))

    def get(self, process_id: str) -> LiveProcess | None:
        """Return a live process by id."""
        return self._by_id.get(process_id)

    def recorder(self, slot: int) -> RunRecorder | None:
        """Return the recorder that gets the events of a slot, if any."""
        return self._recorders.get(slot)

    def has(self, live: LiveProcess) -> bool:
        """Return whether this run is registered, and not another one of the process."""
        return self._by_id.get(live.spec.id) is live

    def register(self, live: LiveProcess) -> None:
        """Add a process, or replace its earlier run."""
        self._by_id[live.spec.id] = live
        self.registered.set()

    def unregister(self, live: LiveProcess) -> None:
        """Remove a process, and unsubscribe it."""
        if self.has(live):
            del self._by_id[live.spec.id]
        self.unsubscribe(live)

    def subscribe_when_attached(self, recorder: RunRecorder) -> None:
        """Pass events of the run's slot to its recorder, once the shim has read that it is attached at its position.

        What the shim sent before belongs to an earlier recorder, and does not join what is stored.
        """
        live = recorder.live
        self._recorders.pop(live.slot, None)
        self._attaching[live.slot] = _Attaching(recorder, live.position.stdout_end, live.position.stderr_end)

    def on_attached(self, slot: int, stdout_end: int, stderr_end: int) -> None:
        """Subscribe the recorder that was attached with these offsets. The shim may still answer for an earlier one."""
        attaching = self._attaching.get(slot)
        if attaching is not None and attaching[1:] == (stdout_end, stderr_end):
            del self._attaching[slot]
            self._recorders[slot] = attaching.recorder

    def unsubscribe(self, live: LiveProcess) -> None:
        """Pass on no more events of a run."""
        if live.slot in self._recorders and self._recorders[live.slot].live is live:
            del self._recorders[live.slot]
        if live.slot in self._attaching and self._attaching[live.slot].recorder.live is live:
            del self._attaching[live.slot]

    def unsubscribe_all(self) -> None:
        """Pass on no more events."""
        self._recorders.clear()
        self._attaching.clear()

    def clear_slots(self) -> None:
        """Forget all slots: the shim that assigned them is gone, or is about to report them again."""
        self.unsubscribe_all()
        for live in self:
            live.slot = 0
