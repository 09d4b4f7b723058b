"""Items of the streams: lines and gaps of output, events, and the start and the end of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """A line of output, or a part of one.

    Attributes:
        seq: id in the output of the process, over both streams. Of a command that is run: where a follower continues
            behind the line.
        text: the line, without its line break. Bytes that are not UTF-8 are U+FFFD.
        stream: `stdout` or `stderr`.
        timestamp: time at which the line was read, in milliseconds since the Unix epoch.
        complete: False: no line break has come yet, so the next item of the stream goes on with the line.
    """

    seq: int
    text: str
    stream: str
    timestamp: int
    complete: bool = True

    @property
    def time(self) -> datetime:
        """Time at which the line was read, in UTC."""
        return moment(self.timestamp)


@dataclass(frozen=True, slots=True)
class Gap:
    """Output that is missing, or in a stream of events those that are.

    Attributes:
        first: id of the first missing line.
        last: id of the last missing line.
        reason: why: `lost`, `store_replaced`, or `retention`: it was deleted because of a limit.
        stream: `stdout`, `stderr` or `both`; None: not told.
        lines: number of lines of the process that are deleted in all; None: not told.
        bytes: number of bytes of the process that are deleted in all; None: not told.
    """

    first: int
    last: int
    reason: str
    stream: str | None = None
    lines: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A process that is followed with others: its permanent id, its short one, and its name, if it has one."""

    id: str
    handle: int
    name: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """A start, a restart or an end of a process.

    Attributes:
        id: id of the event. Ids ascend.
        type: `started`, `failed`, `restarted`, `exited`, `lost`, `unhealthy`, `healthy`, `stopped`, `trimmed` or
            `purged`.
        process_id: permanent id of the process.
        name: name of the process; None if it has none.
        tags: tags of the process.
        pid: pid of the run.
        run: number of the run.
        timestamp: time of the event, in milliseconds since the Unix epoch.
        exit_code: only of `exited`: the exit code; else None.
        signal: only of `exited`: number of the signal that ended the run; else None.
        reason: of `exited` and `lost`: why the run ended. Of `purged`: `retention` if a limit says so. Else None.
    """

    id: int
    type: str
    process_id: str
    name: str | None
    tags: Mapping[str, str]
    pid: int
    run: int
    timestamp: int
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None

    @property
    def time(self) -> datetime:
        """Time of the event, in UTC."""
        return moment(self.timestamp)


@dataclass(frozen=True, slots=True)
class Started:
    """The start of a command that is run."""

    id: str
    pid: int
    started_at: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a command that is run, or of a process that is followed.

    Attributes:
        reason: `exited`, `signaled`, `oom_killed`, `timed_out` or `lost`; of one that is followed with others also
            `purged`.
        exit_code: exit code; None unless it exited by itself.
        signal: number of the signal that ended it; None if none did.
    """

    reason: str
    exit_code: int | None
    signal: int | None


def moment(timestamp: int) -> datetime:
    """Return milliseconds since the Unix epoch as a time in UTC."""
    return datetime.fromtimestamp(timestamp / 1000, UTC)


def milliseconds(when: datetime | int | None) -> int | None:
    """Return a time as milliseconds since the Unix epoch. A datetime without a zone is local time."""
    return round(when.timestamp() * 1000) if isinstance(when, datetime) else when


def gap_of(data: Mapping[str, Any], stream: str | None = None) -> Gap:
    """Return the gap that the JSON of the API describes."""
    return Gap(data["from"], data["to"], data["reason"], stream, data.get("lines"), data.get("bytes"))
