"""Schemas of the answers, for the OpenAPI document. The handlers build the answers; tests compare the two."""

from marshmallow import Schema, fields, validate

from outlast.api.schemas.answer_fields import flag, integer, string
from outlast.api.schemas.fields import Choice
from outlast.api.schemas.managed_responses import ManagedInfo
from outlast.api.schemas.terminal_responses import TerminalSize
from outlast.core.query.matcher import MAX_SPANS
from outlast.core.query.wait_conditions import NotMetReason, WaitCondition
from outlast.model.event import EventType, PurgeReason
from outlast.model.process import OutputMode, Reason, Status, StdinMode


class TrimmedOutput(Schema):
    """Output of a process that was deleted because of a limit: all up to `last_seq`."""

    last_seq = integer("Id of the last line or gap that is deleted.")
    lines = integer("Number of lines that are deleted.")
    bytes = integer("Number of bytes that are deleted.")
    until = integer("Latest time of what is deleted, in milliseconds since the epoch.")


SPANS_FORM = (
    f"at most the first {MAX_SPANS}: `[start, end]` of each, in characters (Unicode code points) from 0, `end` behind "
    "the last one: in Python `line[start:end]`, in JavaScript `[...line].slice(start, end)`"
)
"""Phrase that says in which form matches are told."""


class OutputSummary(Schema):
    """Size of the stored output of a process."""

    lines = integer("Number of lines. Gaps are not counted, and a line in parts counts once.")
    bytes = integer("Number of bytes.")
    first_seq = integer("Id of the first line or gap that is not deleted; 0 if nothing was ever stored.")
    last_seq = integer("Id of the last line or gap; 0 if nothing was ever stored.")
    last_at = integer(
        "Latest time of a line or gap, in milliseconds since the Unix epoch; null if nothing was ever stored.",
        allow_none=True,
    )
    trimmed = fields.Nested(
        TrimmedOutput,
        required=True,
        allow_none=True,
        metadata={"description": "What was deleted because of a limit (settings `keep_...`); null: nothing."},
    )


class ProcessInfo(Schema):
    """A process. Times are milliseconds since the Unix epoch."""

    pid = integer("Pid of the current or last run. The kernel reuses pids; `id` is never reused.")
    handle = integer("Permanent short id. `@` and this number, such as `@12`, names the process wherever an id does.")
    id = string("Permanent id (a ULID).")
    status = Choice(Status, required=True, metadata={"description": "Status of the current or last run."})
    reason = Choice(
        Reason,
        required=True,
        allow_none=True,
        metadata={
            "description": "Why the run ended; null while it runs. `lost`: nobody can know how it ended (the machine "
            "or all of Outlast went down)."
        },
    )
    exit_code = integer("Exit code; null unless the process exited by itself.", allow_none=True)
    signal = integer("Number of the signal that ended the process; null if none did.", allow_none=True)
    oom_killed = flag("True if the kernel killed the process because memory ran out.")
    stdin_writable = flag("True if the API can write to standard input.")
    command = string("Program, as requested.")
    args = fields.List(
        fields.String(), required=True, metadata={"description": "Arguments of the program, as requested."}
    )
    started_at = integer("Start of the current or last run.")
    ended_at = integer("End of the run; null while it runs.", allow_none=True)
    managed = fields.Nested(
        ManagedInfo,
        required=True,
        allow_none=True,
        metadata={"description": "State of a managed process; null: the process is not managed."},
    )
    name = string("Name of the process; null if it has none.", allow_none=True)
    tags = fields.Dict(
        keys=fields.String(), values=fields.String(), required=True, metadata={"description": "Tags of the process."}
    )
    working_dir = string("Folder in which the process was started.")
    user = string("User, as requested; null: the daemon's own user.", allow_none=True)
    success_exit_codes = fields.List(
        fields.Integer(strict=True),
        required=True,
        metadata={"description": "Exit codes that count as success, besides 0, as requested."},
    )
    nice = integer("Nice value, as requested; null: the daemon's own.", allow_none=True)
    limits = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        required=True,
        metadata={"description": "Resource limits, as requested."},
    )
    tty = fields.Nested(
        TerminalSize,
        required=True,
        allow_none=True,
        metadata={"description": "Size of the terminal at the start; null: the process has no terminal."},
    )
    stdin_mode = Choice(StdinMode, required=True, metadata={"description": "Mode of standard input, as requested."})
    stdout_mode = Choice(OutputMode, required=True, metadata={"description": "Mode of standard output, as requested."})
    stderr_mode = Choice(OutputMode, required=True, metadata={"description": "Mode of standard error, as requested."})
    run = integer("Number of the current or last run: 1, 2, 3 ...")
    output = fields.Nested(OutputSummary, required=True, metadata={"description": "Size of the stored output."})


class StartedProcess(ProcessInfo):
    """A process that a start returns."""

    warnings = fields.List(
        fields.String(), metadata={"description": "Unknown fields of the request, which were passed over; if any."}
    )


class ChangedProcess(StartedProcess):
    """A process that was given a specification."""

    changed = flag("Whether a run was started with it. False: the process has it already, and nothing was done.")


class RunInfo(Schema):
    """One run of a process."""

    run = integer("Number of the run: 1, 2, 3 ...")
    pid = integer("Pid of the run.")
    status = Choice(Status, required=True, metadata={"description": "Status of the run."})
    reason = Choice(
        Reason, required=True, allow_none=True, metadata={"description": "Why the run ended; null while it runs."}
    )
    exit_code = integer("Exit code; null unless the process exited by itself.", allow_none=True)
    signal = integer("Number of the signal that ended the process; null if none did.", allow_none=True)
    oom_killed = flag("True if the kernel killed the process because memory ran out.")
    started_at = integer("Start of the run.")
    ended_at = integer("End of the run; null while it runs.", allow_none=True)


class RunPage(Schema):
    """A page of the runs of a process, newest first."""

    runs = fields.List(fields.Nested(RunInfo), required=True, metadata={"description": "Runs of this page."})
    next = string("`cursor` of the next page; null on the last page.", allow_none=True)


class Waited(Schema):
    """Result of a wait."""

    met = flag("True if the condition was met.")
    until = Choice(WaitCondition, required=True, metadata={"description": "The condition, as requested."})
    reason = Choice(
        NotMetReason,
        required=True,
        allow_none=True,
        metadata={
            "description": "Why the condition was not met: `timeout`, or `ended`: the process has ended, so the "
            "condition cannot be met any more. Null if it was met."
        },
    )
    seq = integer("For `output`: id of the matching line, or of its last part; else null.", allow_none=True)
    line = string(
        "For `output`: the matching line, as far as it was printed, without its line break; else null.",
        allow_none=True,
    )
    stream = string("For `output`: stream of the line; else null.", allow_none=True)
    timestamp = integer("For `output`: time at which the line was read; else null.", allow_none=True)
    process = fields.Nested(ProcessInfo, required=True, metadata={"description": "The process as it is now."})


class KilledProcess(ProcessInfo):
    """A process that was killed, of which something is left, or may be."""

    warnings = fields.List(
        fields.String(), required=True, metadata={"description": "One sentence: what is left, and what to do."}
    )


class CpuTimes(Schema):
    """CPU time since the start of the run, including that of processes that have ended. Null: not known."""

    user_ms = integer("CPU time in user mode, in milliseconds.", allow_none=True)
    system_ms = integer("CPU time in the kernel, in milliseconds.", allow_none=True)


class CpuUse(CpuTimes):
    """CPU time, and the share of it since the previous sample."""

    percent = fields.Float(
        required=True,
        allow_none=True,
        metadata={
            "description": "CPU use since the previous sample (for the first sample: since the start), in percent of "
            "one CPU: two busy threads make 200. Null: not known."
        },
    )


class MemoryUse(Schema):
    """Resident memory. Prefer `pss_bytes` where it is known."""

    rss_bytes = integer(
        "Resident memory; a page that several processes share counts for each of them. Null: not known.",
        allow_none=True,
    )
    pss_bytes = integer(
        "Resident memory; a page that several processes share is divided among them. Null: not measured (it is "
        "costly: one in twelve samples of the history has it), or the kernel does not permit it.",
        allow_none=True,
    )


class UsagePeak(Schema):
    """Highest value of each figure during the run. Null: never measured, because the run was too short."""

    processes = integer("Processes of the tree at one time.", allow_none=True)
    threads = integer("Threads of the tree.", allow_none=True)
    open_files = integer("Open file descriptors of the tree.", allow_none=True)
    cpu = fields.Nested(CpuTimes, required=True, metadata={"description": "Highest CPU time."})
    memory = fields.Nested(MemoryUse, required=True, metadata={"description": "Memory."})


class UsageSample(Schema):
    """Resource use of the process tree at one time."""

    sampled_at = integer("Time of the sample.")
    processes = integer("Processes of the tree.")
    threads = integer("Threads of the tree.")
    open_files = integer(
        "Open file descriptors of the tree. Null: the kernel does not permit the daemon to count them.",
        allow_none=True,
    )
    cpu = fields.Nested(CpuUse, required=True, metadata={"description": "CPU time and use."})
    memory = fields.Nested(MemoryUse, required=True, metadata={"description": "Memory."})


class ListedProcess(ProcessInfo):
    """A process in a list."""

    usage = fields.Nested(
        UsageSample,
        allow_none=True,
        metadata={
            "description": "With `usage=true`: resource use of the process and its descendants, at most 5 s ago, "
            "mostly without `pss_bytes`. Null: the run has ended, or is younger than a second."
        },
    )


class ProcessPage(Schema):
    """A page of processes, in the requested order."""

    processes = fields.List(
        fields.Nested(ListedProcess), required=True, metadata={"description": "Processes of this page."}
    )
    next = string("`cursor` of the next page; null on the last page.", allow_none=True)


class ProcessStats(Schema):
    """Resource use of one run of a process."""

    id = string("Permanent id of the process (a ULID).")
    pid = integer("Pid of the current or last run.")
    run = integer("Number of the run that the figures belong to.")
    current = fields.Nested(
        UsageSample,
        required=True,
        allow_none=True,
        metadata={"description": "Sample taken now. Null: the run has ended."},
    )
    peak = fields.Nested(UsagePeak, required=True, metadata={"description": "Highest values of the run."})
    history = fields.List(
        fields.Nested(UsageSample),
        required=True,
        metadata={"description": "The last samples, oldest first; at most 120."},
    )


class Success(Schema):
    """Confirmation of a call that has nothing else to return."""

    success = flag("Always true.")


class OutputLines(Schema):
    """Lines without their line breaks. Gaps are not shown."""

    pid = integer("Pid of the current or last run.")
    lines = fields.List(fields.String(), required=True, metadata={"description": "The lines, oldest first."})
    line_count = integer("Number of `lines`.")


class OutputHistogram(Schema):
    """Numbers of lines by the time at which they were read."""

    bucket_ms = integer("Duration of each bucket, in milliseconds.")
    buckets = fields.List(
        fields.List(fields.Integer()),
        required=True,
        metadata={
            "description": "`[from_ms, lines, stderr_lines]` of each bucket, in order: when it begins, how many lines "
            "it has of both streams, and how many of these of standard error. Empty: there is no output."
        },
    )


class Event(Schema):
    """One event of a process. The event is complete in itself, because the process may have been purged since."""

    id = integer("Id of the event. Ids ascend. In Server-Sent Events, the id is the event's `id`.")
    type = Choice(
        EventType,
        required=True,
        metadata={
            "description": "`started`: the process is recorded and is about to run its program. `failed`: the program "
            "could not be run, and the record was removed. `restarted`: a later run has started. `exited`: a run has "
            "ended, in any way but `lost`. `lost`: a run has ended, and nobody can know how. `unhealthy`: the health "
            "check has failed. `healthy`: it has succeeded for the first time in a run, or a line of the run matches "
            "`ready_log`. `stopped`: a managed process is not restarted any more, by its policy or on request; its "
            "last run may still be ending. `trimmed`: its oldest output was deleted by a limit; at most one a minute. "
            "`purged`: the record and the output of the process were deleted, and so were its other events."
        },
    )
    process_id = string("Permanent id of the process.")
    name = string("Name of the process; null if it has none.", allow_none=True)
    tags = fields.Dict(
        keys=fields.String(), values=fields.String(), required=True, metadata={"description": "Tags of the process."}
    )
    pid = integer("Pid of the run.")
    run = integer("Number of the run; for `purged`, of the last run.")
    timestamp = integer("Time of the event. Ids ascend; times may not: an end may be noticed later.")
    exit_code = fields.Integer(
        allow_none=True, metadata={"description": "Only of `exited` and `lost`: exit code, or null."}
    )
    signal = fields.Integer(
        allow_none=True, metadata={"description": "Only of `exited` and `lost`: number of the signal, or null."}
    )
    reason = fields.String(
        validate=validate.OneOf([reason.value for reason in (*Reason, *PurgeReason)]),
        metadata={
            "description": "Of `exited` and `lost`: why the run ended. Of `purged`: `retention` if a setting "
            "(`keep_ended`, `keep_ended_s`) says so; left out if a client asked for it."
        },
    )


class Health(Schema):
    """State of the daemon."""

    healthy = flag("True: the daemon can serve requests.")
    warnings = fields.List(
        fields.String(),
        metadata={
            "description": "What an operator should decide, and how. Missing if there is nothing. Managed processes of "
            "a store that was copied or moved are not started, for instance, or the disk is 90 % full."
        },
    )


class Info(Schema):
    """Version and counts of the daemon."""

    version = string("Version of the daemon.")
    shim_version = string("Version of the shim; null while it is not connected.", allow_none=True)
    uptime_secs = integer("Whole seconds since the start of the daemon.")
    running_processes = integer("Number of processes that run now.")
    total_processes = integer("Number of processes in the store.")
    adopted = flag(
        "False: the store belongs to another state folder, and its managed processes are not started until "
        "`outlast serve --adopt`."
    )


class Error(Schema):
    """An error."""

    error = string("One sentence for people: what happened, and what to do.")
    code = string("Error code for programs; docs/errors.md lists all.", validate=validate.Regexp("^[A-Z_]+$"))
    errno = fields.Integer(metadata={"description": "Error number of the kernel (SPAWN_FAILED only)."})
    written_bytes = fields.Integer(
        metadata={"description": "Of input that was written in part: how many bytes were written at least."}
    )
    written_bytes_at_most = fields.Integer(
        metadata={"description": "Of input that was written in part: how many bytes were written at most."}
    )


class SqlRows(Schema):
    """Result of an SQL query."""

    columns = fields.List(fields.String(), required=True, metadata={"description": "Names of the columns."})
    rows = fields.List(
        fields.List(fields.Raw(allow_none=True)),
        required=True,
        metadata={
            "description": 'Rows: values in the order of `columns`. A blob is `{"base64": "..."}`. An integer beyond '
            "2**53 and an infinite number are strings."
        },
    )
    truncated = flag("True if the result has more rows than the answer.")


class FoundLine(Schema):
    """One line that a search has found."""

    process_id = string("Permanent id of the process that printed the line.")
    handle = integer("Handle of the process.")
    name = string("Name of the process; null if it has none.", allow_none=True)
    command = string("Program of the process.")
    run = integer("Number of the run that printed the line.")
    pid = integer("Pid of that run.")
    seq = integer("Id of the line in the output of the process.")
    timestamp = integer("Time at which the line was read.")
    stream = string("`stdout` or `stderr`.")
    line = string("The line, without its line break.")
    spans = fields.List(
        fields.List(fields.Integer()), required=True, metadata={"description": f"The matches in `line`, {SPANS_FORM}."}
    )


class FoundLines(Schema):
    """A page of the lines that a search has found."""

    matches = fields.List(fields.Nested(FoundLine), required=True, metadata={"description": "Lines of this page."})
    next = string("`cursor` of the next page; null: nothing more was found.", allow_none=True)
    complete = flag("False: the time ran out, maybe while the search waited for its turn; continue with `next`.")
