"""The live processes, by id and by the shim's slot."""

from collections.abc import Iterator

from outlast.core.supervision.live_process import LiveProcess, RunRecorder


class LiveRegistry:
    """The live processes, and the recorders that get the shim's events. Iteration goes over a copy."""

    def __init__(self) -> None:
        self._by_id: dict[str, LiveProcess] = {}
        self._recorders: dict[int, RunRecorder] = {}

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

    def unregister(self, live: LiveProcess) -> None:
        """Remove a process, and unsubscribe it."""
        if self.has(live):
            del self._by_id[live.spec.id]
        self.unsubscribe(live)

    def subscribe(self, recorder: RunRecorder) -> None:
        """Pass events of the run's slot to its recorder from now on."""
        self._recorders[recorder.live.slot] = recorder

    def unsubscribe(self, live: LiveProcess) -> None:
        """Pass on no more events of a run."""
        recorder = self._recorders.get(live.slot)
        if recorder is not None and recorder.live is live:
            del self._recorders[live.slot]

    def unsubscribe_all(self) -> None:
        """Pass on no more events."""
        self._recorders.clear()

    def clear_slots(self) -> None:
        """Forget all slots: the shim that assigned them is gone, or is about to report them again."""
        self._recorders.clear()
        for live in self:
            live.slot = 0
