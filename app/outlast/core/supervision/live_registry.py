"""The live processes, by id and by the shim's number for them."""

from collections.abc import Iterator

from outlast.core.supervision.live_process import LiveProcess


class LiveRegistry:
    """Iterating goes over a copy: what changes meanwhile is not seen."""

    def __init__(self) -> None:
        self._by_id: dict[str, LiveProcess] = {}
        self._by_slot: dict[int, LiveProcess] = {}

    def __iter__(self) -> Iterator[LiveProcess]:
        return iter(tuple(self._by_id.values()))

    def get(self, process_id: str) -> LiveProcess | None:
        """Return a live process by id."""
        return self._by_id.get(process_id)

    def in_slot(self, slot: int) -> LiveProcess | None:
        """Return the process that the shim means by a slot, if its events are wanted."""
        return self._by_slot.get(slot)

    def has(self, live: LiveProcess) -> bool:
        """Tell whether it is (still) here."""
        return self._by_id.get(live.spec.id) is live

    def add(self, live: LiveProcess) -> None:
        """Know a process from now on."""
        self._by_id[live.spec.id] = live

    def remove(self, live: LiveProcess) -> None:
        """Know it no longer."""
        if self.has(live):
            del self._by_id[live.spec.id]
        self.deafen(live)

    def listen(self, live: LiveProcess) -> None:
        """Its slot is known, and the shim's events are for it."""
        self._by_slot[live.slot] = live

    def deafen(self, live: LiveProcess) -> None:
        """What the shim tells of it is not wanted now."""
        if self._by_slot.get(live.slot) is live:
            del self._by_slot[live.slot]

    def deafen_all(self) -> None:
        """The same of all."""
        self._by_slot.clear()

    def forget_slots(self) -> None:
        """The shim that gave them is gone, or is met anew."""
        self._by_slot.clear()
        for live in self:
            live.slot = 0
