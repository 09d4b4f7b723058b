"""Events of the storage in memory."""

from bisect import bisect_right

from outlast.model.clock import now_ms
from outlast.model.event import Event, EventFilter, EventPage, EventType, PurgeReason
from outlast.model.process import ExitStatus, Process

_SCAN_EVENTS = 10_000


class MemoryEvents:
    """Events in the order of their ids."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._last_id = 0
        self._trimmed_to = 0

    def add(
        self,
        process: Process,
        type_: EventType,
        ts_ms: int,
        ending: ExitStatus | None = None,
        purge_reason: PurgeReason | None = None,
    ) -> None:
        """Add an event of a process's current run."""
        self._last_id += 1
        event = Event(
            id=self._last_id,
            type=type_,
            ts_ms=ts_ms,
            process_id=process.spec.id,
            name=process.spec.name,
            tags=process.spec.tags,
            run=process.run.number,
            pid=process.run.pid,
            ending=ending,
            purge_reason=purge_reason,
        )
        self._events.append(event)

    def add_end(self, process: Process) -> None:
        """Add the event of the end of a process's current run, if it has ended."""
        ending = process.run.ending
        if ending is not None:
            self.add(process, EventType.of_end(ending), ending.ended_at_ms, ending)

    def add_once(self, process: Process, type_: EventType, ts_ms: int) -> None:
        """Add an event, unless an equal one is stored."""
        told = (process.spec.id, process.run.number, type_, ts_ms)
        if all((event.process_id, event.run, event.type, event.ts_ms) != told for event in self._events):
            self.add(process, type_, ts_ms)

    def bury(self, process: Process, type_: EventType, reason: PurgeReason | None) -> None:
        """Replace all events of a deleted process by one."""
        self._events = [event for event in self._events if event.process_id != process.spec.id]
        self.add(process, type_, now_ms(), purge_reason=reason)

    def page(self, after: int, limit: int, wanted: EventFilter) -> EventPage:
        """Implement `Storage.events`."""
        index = bisect_right(self._events, after, key=lambda event: event.id)
        found: list[Event] = []
        for event in self._events[index : index + _SCAN_EVENTS]:
            after = event.id
            if wanted.matches(event):
                found.append(event)
                if len(found) == limit:
                    break
        return EventPage(events=found, last_id=after, trimmed_to=self._trimmed_to)

    def trim(self, before_ms: int, limit: int) -> int:
        """Implement `Storage.trim_events`."""
        count = 0
        for event in self._events[: min(limit, len(self._events) - 1)]:
            if event.ts_ms >= before_ms:
                break
            count, self._trimmed_to = count + 1, event.id
        del self._events[:count]
        return count

    def tail(self, count: int, wanted: EventFilter) -> int:
        """Implement `Storage.event_tail`."""
        for event in reversed(self._events):
            if wanted.matches(event):
                if not count:
                    return event.id
                count -= 1
        return 0
