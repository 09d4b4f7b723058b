"""What happens to processes, as it is told to whoever listens: their starts, their ends, and what lies between."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from outlast.model.process import ExitStatus, Reason


class EventType(StrEnum):
    """What has happened.

    `STARTED`: a process is recorded, and is about to run its program. `FAILED`: that could not be done, and its record
    was taken back. `RESTARTED`: a further run of it has started. `EXITED`: a run has ended, in whatever way. `LOST`: a
    run has ended, and nobody could see how. `UNHEALTHY`: its health check has failed as often as it may. `PURGED`: its
    record and its output were deleted.
    """

    STARTED = "started"
    FAILED = "failed"
    RESTARTED = "restarted"
    EXITED = "exited"
    LOST = "lost"
    UNHEALTHY = "unhealthy"
    PURGED = "purged"

    @classmethod
    def of_end(cls, ending: ExitStatus) -> "EventType":
        """Return the type of event that an end is."""
        return cls.LOST if ending.reason is Reason.LOST else cls.EXITED


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One of them. It says all by itself: its process may be purged by now.

    Attributes:
        id: ascends in the order of commits, is never used again, and has holes.
        type: what has happened.
        ts_ms: when; milliseconds since the epoch. Not in the order of `id`: an end is seen later, a clock set back.
        process_id: of whom.
        name: the process's.
        tags: the process's.
        run: number of the run; of a process that is gone, of its last.
        pid: of that run.
        ending: of an end, how.
    """

    id: int
    type: EventType
    ts_ms: int
    process_id: str
    name: str | None
    tags: Mapping[str, str]
    run: int
    pid: int
    ending: ExitStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events. Conditions combine.

    Attributes:
        process_id: only this process's.
        types: only these; none: all.
        tags: only those of processes that have each of these tags, with this value.
        since_ms: only those with a `ts_ms` >= this.
    """

    process_id: str | None = None
    types: frozenset[EventType] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)
    since_ms: int | None = None

    def matches(self, event: Event) -> bool:
        """Tell whether an event is wanted."""
        return (
            self.process_id in (None, event.process_id)
            and (not self.types or event.type in self.types)
            and self.tags.items() <= event.tags.items()
            and (self.since_ms is None or event.ts_ms >= self.since_ms)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events in the order of their ids, and how far was looked: what is wanted up to `last_id` is among them."""

    events: list[Event]
    last_id: int
