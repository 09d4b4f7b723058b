"""What the calls answer with, for the API's document; `presentation.py` and the handlers make it."""

from typing import Any

from marshmallow import Schema, fields, validate

from outlast.api.schemas.fields import Choice
from outlast.core.query.wait_conditions import NotMet, WaitFor
from outlast.model.event import EventType
from outlast.model.managed import HealthStatus, ManagedStatus
from outlast.model.options import HealthCheckType, RestartPolicy
from outlast.model.process import OutputMode, Reason, Status, StdinMode


def _integer(description: str, **kwargs: Any) -> fields.Integer:
    return fields.Integer(required=True, strict=True, metadata={"description": description}, **kwargs)


def _string(description: str, **kwargs: Any) -> fields.String:
    return fields.String(required=True, metadata={"description": description}, **kwargs)


def _flag(description: str) -> fields.Boolean:
    return fields.Boolean(required=True, metadata={"description": description})


class OutputSummary(Schema):
    """What the store holds of a process's output."""

    lines = _integer("Count of lines. Gaps are not counted.")
    bytes = _integer("Count of bytes.")
    first_seq = _integer("Id of the first line or gap, 0 if there is none.")
    last_seq = _integer("Id of the last line or gap, 0 if there is none.")


class RestartInfo(Schema):
    """When it is started again."""

    policy = Choice(RestartPolicy, required=True)
    max_restarts = _integer("So many in a row; null: any number.", allow_none=True)
    initial_backoff_ms = _integer("Bound of the first wait.")
    max_backoff_ms = _integer("Bound of every wait.")


class HealthCheckInfo(Schema):
    """How its health is looked at."""

    type = Choice(HealthCheckType, required=True)
    port = _integer("On 127.0.0.1.")
    path = _string("What is asked for; null with tcp.", allow_none=True)
    initial_delay_ms = _integer("From the start of a run to its first check.")
    interval_ms = _integer("Between two checks.")
    timeout_ms = _integer("After so long a check has failed.")
    failure_threshold = _integer("So many failed checks in a row: it is unhealthy.")


class ExitInfo(Schema):
    """How a run ended."""

    exit_code = _integer("Set if it exited by itself.", allow_none=True)
    signal = _integer("Number of the signal that ended it.", allow_none=True)
    oom_killed = _flag("The system ended it for want of memory.")
    ended_at = _integer("When.")


class ManagedInfo(Schema):
    """How a process is looked after."""

    id = _string("Its name, else its permanent id.")
    name = _string("Null: it was given no name.", allow_none=True)
    status = Choice(ManagedStatus, required=True)
    restart_count = _integer("How many times it was started again, by its policy or on request.")
    restart = fields.Nested(RestartInfo, required=True)
    health_check = fields.Nested(HealthCheckInfo, required=True, allow_none=True)
    health_status = Choice(HealthStatus, required=True)
    consecutive_health_failures = _integer("Of the current run's checks.")
    last_exit = fields.Nested(ExitInfo, required=True, allow_none=True)
    last_error = _string("Why it could not be started, or is not well.", allow_none=True)
    next_restart_at = _integer("Null: it is not waiting for one.", allow_none=True)


class ProcessInfo(Schema):
    """A process. Times are milliseconds since the epoch."""

    pid = _integer("Operating-system pid of the current or last run. Pids are reused; `id` is not.")
    handle = _integer("Permanent number, shown but not an address: digits in a path are a pid.")
    id = _string("Permanent id, a ULID.")
    status = Choice(Status, required=True)
    reason = Choice(
        Reason,
        required=True,
        allow_none=True,
        metadata={"description": "Why it ended; null while it runs. `lost`: nobody could see how."},
    )
    exit_code = _integer("Set if it exited by itself.", allow_none=True)
    signal = _integer("Number of the signal that ended it.", allow_none=True)
    oom_killed = _flag("The system ended it for want of memory.")
    stdin_writable = _flag("Its standard input is an open pipe.")
    command = _string("As started.")
    args = fields.List(fields.String(), required=True)
    started_at = _integer("When the current or last run started.")
    ended_at = _integer("When it ended; null while it runs.", allow_none=True)
    managed = fields.Nested(
        ManagedInfo,
        required=True,
        allow_none=True,
        metadata={"description": "Null: it was started without name, restart and health_check."},
    )
    name = _string("Null: it was given no name.", allow_none=True)
    tags = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    working_dir = _string("Where it was started.")
    user = _string("As requested; null for the daemon's own.", allow_none=True)
    nice = _integer("As requested; null: as the daemon's own.", allow_none=True)
    limits = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        required=True,
        metadata={"description": "Those that were requested."},
    )
    stdin_mode = Choice(StdinMode, required=True)
    stdout_mode = Choice(OutputMode, required=True)
    stderr_mode = Choice(OutputMode, required=True)
    run = _integer("1, 2, 3 ... one for each start.")
    output = fields.Nested(OutputSummary, required=True)


class RunInfo(Schema):
    """One start of a process."""

    run = _integer("1, 2, 3 ...")
    pid = _integer("Operating-system pid.")
    status = Choice(Status, required=True)
    reason = Choice(Reason, required=True, allow_none=True)
    exit_code = _integer("Set if it exited by itself.", allow_none=True)
    signal = _integer("Number of the signal that ended it.", allow_none=True)
    oom_killed = _flag("The system ended it for want of memory.")
    started_at = _integer("When it started.")
    ended_at = _integer("When it ended; null while it runs.", allow_none=True)


class RunPage(Schema):
    """A page of a process's runs, newest first."""

    runs = fields.List(fields.Nested(RunInfo), required=True)
    next = _string("`cursor` of the next page; null on the last.", allow_none=True)


class Waited(Schema):
    """What became of a wait."""

    met = _flag("It is so.")
    until = Choice(WaitFor, required=True)
    reason = Choice(
        NotMet,
        required=True,
        allow_none=True,
        metadata={
            "description": "If it is not so: the time was over, or the process has ended and it can't be any more."
        },
    )
    seq = _integer("For `output`: id of the line that matched, or of its last part.", allow_none=True)
    line = _string("For `output`: that line, as far as it was printed, without its terminator.", allow_none=True)
    stream = _string("For `output`: where it was printed.", allow_none=True)
    timestamp = _integer("For `output`: when it was read.", allow_none=True)
    process = fields.Nested(ProcessInfo, required=True)


class ProcessPage(Schema):
    """A page of processes, in the order that was asked for."""

    processes = fields.List(fields.Nested(ProcessInfo), required=True)
    next = _string("`cursor` of the next page; null on the last.", allow_none=True)


class CpuTimes(Schema):
    """Processor time since the run began, that of processes that have ended included. Null: not known."""

    user_ms = _integer("In user mode, milliseconds.", allow_none=True)
    system_ms = _integer("In the kernel, milliseconds.", allow_none=True)


class CpuUse(CpuTimes):
    """Processor time, and how much of it fell into the time since the sample before."""

    percent = fields.Float(
        required=True,
        allow_none=True,
        metadata={
            "description": "Of one processor, since the sample before (the first: since the start): two busy threads "
            "make 200. Null: not known."
        },
    )


class MemoryUse(Schema):
    """Resident memory. `pss_bytes` is the better figure where it is known."""

    rss_bytes = _integer("Pages that several processes share are counted for each. Null: not known.", allow_none=True)
    pss_bytes = _integer(
        "Shared pages are divided among those who share them. Null: not looked at (it is costly: of the history's "
        "samples one in twelve has it), or the system does not let the daemon look.",
        allow_none=True,
    )


class UsagePeak(Schema):
    """The highest of each figure that was seen in the run. Null: never seen, because the run was too short."""

    processes = _integer("How many there were at once.", allow_none=True)
    threads = _integer("Of all of them.", allow_none=True)
    open_files = _integer("Open file descriptors of all of them.", allow_none=True)
    cpu = fields.Nested(CpuTimes, required=True)
    memory = fields.Nested(MemoryUse, required=True)


class UsageSample(Schema):
    """One look at the process and everything it started that still runs."""

    sampled_at = _integer("When.")
    processes = _integer("How many there were.")
    threads = _integer("Of all of them.")
    open_files = _integer(
        "Open file descriptors of all of them. Null: the system does not let the daemon look.", allow_none=True
    )
    cpu = fields.Nested(CpuUse, required=True)
    memory = fields.Nested(MemoryUse, required=True)


class ProcessStats(Schema):
    """What a run takes of the machine, and took."""

    id = _string("The process's permanent id, a ULID.")
    pid = _integer("The process's.")
    run = _integer("The run that this is about.")
    current = fields.Nested(
        UsageSample,
        required=True,
        allow_none=True,
        metadata={"description": "Looked at just now. Null: the run has ended."},
    )
    peak = fields.Nested(UsagePeak, required=True)
    history = fields.List(
        fields.Nested(UsageSample),
        required=True,
        metadata={"description": "The last samples, oldest first; 120 at most."},
    )


class Success(Schema):
    """It is done."""

    success = fields.Boolean(required=True)


class OutputLines(Schema):
    """Lines without their terminators. A part printed before its rest is joined with it. Gaps are not shown."""

    pid = _integer("The process's.")
    lines = fields.List(fields.String(), required=True)
    line_count = _integer("How many `lines` there are.")


class Event(Schema):
    """What has happened to a process. It says all by itself: the process may be purged by now."""

    id = _integer("Ascends; the stream has it as the event's id.")
    type = Choice(
        EventType,
        required=True,
        metadata={
            "description": "`started`: it is recorded, and about to run its program. `failed`: that could not be done, "
            "and its record was taken back. `restarted`: a further run has started. `exited`: a run has ended, in "
            "whatever way. `lost`: it has ended, and nobody could see how. `unhealthy`: its health check has failed. "
            "`purged`: its record and output were deleted, and with them its other events."
        },
    )
    process_id = _string("Permanent id of the process.")
    name = _string("The process's; null: it has none.", allow_none=True)
    tags = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    pid = _integer("Of the run.")
    run = _integer("Number of the run; of a process that is gone, of its last.")
    timestamp = _integer("When it happened. An end may be seen later: ids ascend, times need not.")
    exit_code = fields.Integer(allow_none=True, metadata={"description": "Of an end, as `signal` and `reason`."})
    signal = fields.Integer(allow_none=True)
    reason = Choice(Reason)


class Health(Schema):
    """The daemon can take requests."""

    healthy = fields.Boolean(required=True)


class Info(Schema):
    """The daemon."""

    version = _string("Of the program.")
    uptime_secs = _integer("Whole seconds since the daemon's start.")
    running_processes = _integer("How many run now.")
    total_processes = _integer("How many the store knows.")


class Error(Schema):
    """What went wrong, and what to do about it."""

    error = _string("One sentence.")
    code = _string("For programs.", validate=validate.Regexp("^[A-Z_]+$"))
    errno = fields.Integer(metadata={"description": "The system's error number (SPAWN_FAILED only)."})


class SqlRows(Schema):
    """What a query gave."""

    columns = fields.List(fields.String(), required=True)
    rows = fields.List(
        fields.List(fields.Raw(allow_none=True)),
        required=True,
        metadata={
            "description": 'Values in the order of `columns`. A blob is `{"base64": ...}`; an integer beyond 2**53 and '
            "an infinite number are strings."
        },
    )
    truncated = _flag("There were more rows than are answered with.")


class FoundLine(Schema):
    """A line that a search has found."""

    process_id = _string("`id` of the process that printed it.")
    name = _string("Its name, if it was given one.", allow_none=True)
    command = _string("Its command.")
    run = _integer("Of the run that printed it.")
    pid = _integer("Of that run.")
    seq = _integer("Id of the line in the process's output.")
    timestamp = _integer("When it was read.")
    stream = _string("Where it was printed.")
    line = _string("Without its terminator.")


class FoundLines(Schema):
    """A page of what a search has found."""

    matches = fields.List(fields.Nested(FoundLine), required=True)
    next = _string("`cursor` of the next page; null: there is no more.", allow_none=True)
    complete = _flag("False: the time ran out, perhaps before there was a turn, and `next` goes on from there.")
