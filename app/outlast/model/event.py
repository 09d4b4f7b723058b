"""Events of processes: starts, ends, and what happens in between."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from outlast.model.process import ExitStatus, Reason


class EventType(StrEnum):
    """Kind of an event.

    `STARTED`: a process is recorded, and is about to execute its program. `FAILED`: its program could not be executed,
    and the record of the start was withdrawn. `RESTARTED`: a later run has started. `EXITED`: a run has ended, by exit
    or by signal. `LOST`: a run has ended, and its exit status cannot be known. `UNHEALTHY`: the health check has
    reached its failure threshold. `HEALTHY`: the health check has succeeded for the first time in a run, or the run has
    printed a line that matches `ready_log`. `STOPPED`: a managed process is not restarted any more, by its policy or
    because a client has stopped it; its last run may not have ended yet. `TRIMMED`: its oldest output was deleted
    because of a limit. `PURGED`: record and output of the process were deleted.
    """

    STARTED = "started"
    FAILED = "failed"
    RESTARTED = "restarted"
    EXITED = "exited"
    LOST = "lost"
    UNHEALTHY = "unhealthy"
    HEALTHY = "healthy"
    STOPPED = "stopped"
    TRIMMED = "trimmed"
    PURGED = "purged"

    @classmethod
    def of_end(cls, ending: ExitStatus) -> "EventType":
        """Return the type of the event of an end: `LOST` or `EXITED`."""
        return cls.LOST if ending.reason is Reason.LOST else cls.EXITED


class PurgeReason(StrEnum):
    """Reason why a process was purged, unless a caller asked for it. `RETENTION`: a setting `keep_...` says so."""

    RETENTION = "retention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event. All fields are its own, because its process may be purged.

    Attributes:
        id: ascends in the order of commits, with holes; never used again.
        type: kind of the event.
        ts_ms: time, in milliseconds since the epoch. May fall while `id` rises: an end may be seen late, or the clock
            be set back.
        process_id: id of the process.
        name: name of the process.
        tags: tags of the process.
        run: number of the run; of a process that is deleted, of its last run.
        pid: pid of that run.
        ending: exit status, in an event of an end.
        purge_reason: in a `PURGED`, why; None: a caller asked for it.
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
    purge_reason: PurgeReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Conditions on events. All of them must hold.

    Attributes:
        process_id: only events of this process.
        types: only events of these types; empty: of all types.
        tags: only events of processes that have all of these tags, with these values.
        since_ms: only events with `ts_ms` >= this.
    """

    process_id: str | None = None
    types: frozenset[EventType] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)
    since_ms: int | None = None

    def matches(self, event: Event) -> bool:
        """Return whether an event meets the conditions."""
        return (
            self.process_id in (None, event.process_id)
            and (not self.types or event.type in self.types)
            and self.tags.items() <= event.tags.items()
            and (self.since_ms is None or event.ts_ms >= self.since_ms)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventGap:
    """Events that were deleted because they were old, in place of those with the ids from `first_id` to `id`."""

    first_id: int
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events in the order of their ids: all that meet the conditions up to `last_id`.

    Attributes:
        trimmed_to: id of the last event that was deleted because it was old; 0: none was.
    """

    events: list[Event]
    last_id: int
    trimmed_to: int = 0
