"""The route table: the whole HTTP surface. The router and the OpenAPI document are both made from it."""

from http import HTTPStatus

from outlast.api.browser_routes import BROWSER_ROUTES
from outlast.api.file_routes import FILE_ROUTES
from outlast.api.handlers import (
    daemon,
    events,
    follow,
    group_follow,
    metrics,
    output,
    processes,
    run,
    search,
    sql,
    stats,
    stdin,
    wait,
)
from outlast.api.metrics.exposition import OPENMETRICS, TEXT
from outlast.api.project_routes import PROJECT_ROUTES
from outlast.api.route import Answer, Route, done
from outlast.api.sandbox_routes import SANDBOX_ROUTES
from outlast.api.schemas import events as event_schemas
from outlast.api.schemas import group as group_schemas
from outlast.api.schemas import lists, responses
from outlast.api.schemas import output as output_schemas
from outlast.api.schemas import processes as process_schemas
from outlast.api.schemas import runs as run_schemas
from outlast.api.schemas import search as search_schemas
from outlast.api.schemas import sql as sql_schemas
from outlast.api.schemas import wait as wait_schemas
from outlast.api.terminal_routes import TERMINAL_ROUTES
from outlast.core.query.group import MAX_MEMBERS
from outlast.model.errors import EnvKeyLost, NameInUse, NotFound, NotManaged, NotRunning, SpawnFailed, StdinNotWritable
from outlast.model.output import Stream

PROCESSES = "/api/v1/processes"
PROCESS = f"{PROCESSES}/{{ref}}"

_JSON = "application/json"
_NDJSON = "application/x-ndjson"
_SSE = "text/event-stream"
_GAP = (
    '`{"from", "to", "reason"}`: output is missing here. `lost`: nobody can know what was written. `store_replaced`: '
    "the store was replaced by an older copy. Of these, `from` and `to` are the id, which may be far beyond the one "
    "before. `retention`: output of both streams with these ids was deleted by a limit; then `lines` and `bytes` say "
    "how much of the process is deleted in all"
)
_PROCESS = Answer(meaning="The process.", content={_JSON: responses.ProcessInfo})


_FOLLOWED = Answer(
    meaning="The stored output, then new output as it comes, then the event `eof` when the process has ended and all "
    "of its output was sent.",
    content={
        _SSE: 'Event `output`: `id`, and data `{"line", "timestamp", "stream"}`, where `line` keeps its line break. '
        "A line comes as soon as it is read, usually before it is stored; its id means this line for ever. "
        "A line whose rest is late, a prompt for instance, comes in parts, each as an event, once the part is stored. "
        f"Event `gap`: `id`, and data {_GAP}. "
        'Event `eof`: the end; `id`, and data `{"status", "reason", "exit_code", "signal", "oom_killed"}`, as the '
        "process shows them (with `until`, it may still run). Comments keep the connection alive. "
        "A stream without `eof` was broken off, and so is its connection: no last chunk, or a reset. Reconnect with "
        "`Last-Event-ID`."
    },
)
_HAD_EOF = done(
    "`Last-Event-ID` is that of `eof`, and nothing has come since. A browser's `EventSource` stops at this."
)
_LINES = Answer(
    meaning="The stored output, with all that followers have seen before the call. The header `Accept` chooses the "
    "form.",
    content={
        _JSON: responses.OutputLines,
        _NDJSON: (
            'One event in each line: `{"id", "line", "timestamp", "stream"}`, and with `grep` also `spans`, the '
            f"matches in `line`, {responses.SPANS_FORM}. `line` keeps its line break, and "
            "a line that was written in parts has the id and the time of its last part, so that ids may have holes; or "
            f'`{{"id", "gap", "timestamp", "stream"}}`, where `gap` is {_GAP}.'
        ),
        "application/octet-stream": "The bytes exactly as they were written. Gaps are not shown.",
    },
    headers={
        output.TRIMMED: "`lines=N,bytes=N`: the answer would begin with output that was deleted because of a limit, so "
        "much of the process in all. Not in NDJSON, which has a gap instead."
    },
)
_RUN = Answer(
    meaning="The output of the command as it comes, then its exit status.",
    content={
        _SSE: 'Events without a name. The first has the data `{"pid", "started_at", "id"}`, and `warnings` '
        "if fields were passed over. Then each line has an `id` "
        'and `{"line", "timestamp", "stream"}`, without its line break, and a gap `{"gap", "timestamp", "stream"}`. '
        'The last has `"oom_killed"`, `"reason"`, and `"exit_code"` or `"signal"` (neither if the end is `lost`). A '
        "stream without this last event was broken off: follow the process, by the `id` of its first event, with the "
        "last id as `Last-Event-ID`. No line is missing then; lines come again only if a line of the other stream was "
        "unfinished."
    },
)
_GROUP_FOLLOWED = Answer(
    meaning="Stored output of all processes, then new output as it comes. Without `tag`, the stream ends with the "
    "event `eof` when all processes have ended and all of their output was sent; with `tag`, it has no end.",
    content={
        _SSE: "Each event has an `id` that tells how far each process was sent, `12:1204,13:88`: handles with the ids "
        "of their last lines, in order of handles, and perhaps a last handle alone. "
        'Event `joined`: `{"processes": [{"handle", "process_id", "name", "seq"}]}`, the processes that are followed '
        "from now on, after the line `seq`; always the first event, and again when more start. "
        'Event `output`: `{"seq", "process_id", "name", "timestamp", "stream", "line"}`, where `seq` is the id of the '
        "line in its process, and `line` keeps its line break. A line whose rest is late comes in parts, each as an "
        'event. Event `gap`: `{"process_id", "name", "seq", "from", "to", "reason"}`, and with the reason `retention` '
        "`lines` and `bytes`, as for one process. "
        "Event `end`: a process has ended for good and all of its output was sent; "
        '`{"process_id", "name", "status", "reason", "exit_code", "signal", "oom_killed"}`. '
        'Event `purged`: `{"handle"}`. Event `eof`: `{}`. Comments keep the connection alive. When the stream is '
        "broken off, reconnect with `Last-Event-ID`."
    },
)
_RESUMES_GROUP = {
    follow.LAST_EVENT_ID: "Id of the last event that the client has received. The stream continues after it."
}
_RESUMES = {
    follow.LAST_EVENT_ID: "Id of the last event that the client has received. The stream continues after it. If "
    "`after` is later, it continues after that one; `tail` is ignored. If events behind what is stored were lost, "
    "because daemon and shim were killed at once or the machine went down, it continues with the gap."
}


def _output_routes(word: str, stream: Stream | None) -> tuple[Route, Route]:
    what = {
        Stream.STDOUT: "standard output",
        Stream.STDERR: "standard error",
        None: "both output streams, in the order in which they were read",
    }[stream]
    return (
        Route(
            method="GET",
            path=f"{PROCESS}/{word}",
            call=output.handler_for(stream),
            summary=f"Read stored output: {what}",
            group="Output",
            query=output_schemas.OutputRange,
            answer=_LINES,
            raises=(NotFound,),
        ),
        Route(
            method="GET",
            path=f"{PROCESS}/{word}/follow",
            call=follow.handler_for(stream),
            summary=f"Follow output: {what}",
            group="Output",
            description="Use `curl -N` to try this call: the page /docs shows a stream only after its end.",
            query=output_schemas.FollowQuery,
            headers=_RESUMES,
            answer=_FOLLOWED,
            other_answer=_HAD_EOF,
            raises=(NotFound,),
        ),
    )


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path=PROCESSES,
        call=processes.start,
        changes=True,
        summary="Start a process",
        group="Processes",
        query=process_schemas.StartQuery,
        body=process_schemas.StartBody,
        answer=Answer(
            status=HTTPStatus.CREATED,
            meaning="The process was started and is recorded.",
            content={_JSON: responses.StartedProcess},
        ),
        other_answer=Answer(
            meaning="A process with this `idempotency_key` exists: the process as it is now. Nothing was started.",
            content={_JSON: responses.StartedProcess},
        ),
        raises=(NameInUse, SpawnFailed),
    ),
    Route(
        method="POST",
        path=f"{PROCESSES}/run",
        call=run.run,
        summary="Run a command and stream its output until it ends",
        group="Processes",
        description="If the client disconnects, the command and its children are killed; `?detach=true` keeps them "
        "running. A restart of the daemon interrupts the stream, but the command keeps running. The stream ends when "
        "the command has ended and its output is complete. If children of an ended command keep its output open, the "
        "stream ends when no output has come for one second. The process and its output are stored like any other.",
        query=process_schemas.RunQuery,
        body=process_schemas.RunBody,
        answer=_RUN,
        raises=(SpawnFailed,),
    ),
    Route(
        method="GET",
        path=PROCESSES,
        call=processes.list_processes,
        summary="List processes",
        group="Processes",
        query=lists.ListQuery,
        answer=Answer(meaning="A page of processes.", content={_JSON: responses.ProcessPage}),
    ),
    Route(
        method="GET",
        path=PROCESS,
        call=processes.show,
        summary="Show a process",
        group="Processes",
        answer=_PROCESS,
        raises=(NotFound,),
    ),
    Route(
        method="PUT",
        path=PROCESS,
        call=processes.put,
        changes=True,
        summary="Change a managed process in place",
        group="Processes",
        description="Gives the process this specification, as a whole: what is left out has its default. Its run is "
        "stopped in order, as by `restart`, and the next run is started with it; id, name and line numbers go on. The "
        "same specification again changes nothing, so the call can be repeated; a process that has stopped is started. "
        "If the program cannot be started, the answer is `SPAWN_FAILED`, and the process has the specification before: "
        "where the user, the folder or the program is not there, its run goes on; else it is started again. A change "
        "that has begun is finished by the next daemon if this one dies. `name` is left out, or the one it has.",
        query=process_schemas.StartQuery,
        body=process_schemas.PutBody,
        answer=Answer(meaning="The process as it is now.", content={_JSON: responses.ChangedProcess}),
        raises=(NotFound, NotManaged, NameInUse, SpawnFailed),
    ),
    Route(
        method="DELETE",
        path=PROCESS,
        call=processes.delete,
        changes=True,
        summary="Kill a process and all its descendants",
        group="Processes",
        description="Returns when the whole process tree is gone and the end is recorded. A process that has ended "
        "already is not an error. A managed process is stopped for good: its process group gets its "
        "`stop_signal`, and the tree gets SIGKILL after `stop_grace_ms`. With `grace_ms`, every process is stopped in "
        "that way. With `purge`, the record and the output are deleted, too.",
        query=process_schemas.DeleteQuery,
        answer=done("The process tree is gone."),
        other_answer=Answer(
            status=HTTPStatus.ACCEPTED,
            meaning="SIGKILL was sent (or will be, at the end of `grace_ms`), but the tree is not gone (or the end is "
            "not recorded) after `wait` seconds: the process as it is now. With `purge`, nothing was deleted. Repeat "
            "the request. Or the tree is gone, but nothing tells whose some other processes are, which may have "
            "belonged to it: `warnings` has their pids.",
            content={_JSON: responses.KilledProcess},
        ),
        raises=(NotFound,),
    ),
    Route(
        method="POST",
        path=f"{PROCESS}/restart",
        call=processes.restart,
        changes=True,
        summary="Restart a managed process",
        group="Processes",
        description="A process that runs is stopped first: its process group gets its `stop_signal`, and the "
        "tree gets SIGKILL after `stop_grace_ms`.",
        answer=Answer(meaning="The process with its new run.", content={_JSON: responses.ProcessInfo}),
        raises=(NotFound, NotManaged, NameInUse, EnvKeyLost, SpawnFailed),
    ),
    Route(
        method="GET",
        path=f"{PROCESS}/runs",
        call=processes.list_runs,
        summary="List the runs of a process, newest first",
        group="Processes",
        query=run_schemas.RunsQuery,
        answer=Answer(meaning="A page of runs.", content={_JSON: responses.RunPage}),
        raises=(NotFound,),
    ),
    Route(
        method="POST",
        path=f"{PROCESS}/signal",
        call=processes.send_signal,
        changes=True,
        summary="Send a signal",
        group="Processes",
        body=process_schemas.SignalBody,
        answer=Answer(meaning="The signal was sent.", content={_JSON: responses.Success}),
        raises=(NotFound, NotRunning),
    ),
    Route(
        method="GET",
        path=f"{PROCESS}/stats",
        call=stats.stats,
        summary="Show the resource use of a process tree",
        group="Processes",
        description="CPU, memory, processes, threads and open files of the process and its descendants: now, the "
        "highest values of the run, and its last samples, which are taken every 1 to 5 seconds and stored.",
        query=run_schemas.StatsQuery,
        answer=Answer(meaning="Resource use of one run.", content={_JSON: responses.ProcessStats}),
        raises=(NotFound,),
    ),
    Route(
        method="GET",
        path=f"{PROCESS}/wait",
        call=wait.wait,
        summary="Wait until a process has ended, has printed a line, listens on a port, is idle, or is healthy",
        group="Processes",
        description="Returns as soon as the condition is met (at once if it is met already), or cannot be met any "
        "more, or after `timeout` seconds. A line that it answers with is stored.",
        query=wait_schemas.WaitParameters,
        answer=Answer(meaning="Whether the condition was met, and the process.", content={_JSON: responses.Waited}),
        raises=(NotFound,),
    ),
    Route(
        method="POST",
        path=f"{PROCESS}/stdin",
        call=stdin.write,
        summary="Write to standard input",
        group="Input",
        description="Returns when every byte is in the pipe. The body may have any size: it is read as fast as the "
        "process reads its standard input.",
        body="The bytes to write.",
        answer=done("Everything was written."),
        raises=(NotFound, NotRunning, StdinNotWritable),
    ),
    Route(
        method="POST",
        path=f"{PROCESS}/stdin/close",
        call=stdin.close,
        changes=True,
        summary="Close standard input",
        group="Input",
        answer=done("Standard input is closed."),
        raises=(NotFound, NotRunning, StdinNotWritable),
    ),
    *_output_routes("stdout", Stream.STDOUT),
    *_output_routes("stderr", Stream.STDERR),
    *_output_routes("output", None),
    *TERMINAL_ROUTES,
    Route(
        method="GET",
        path=f"{PROCESS}/output/histogram",
        call=output.histogram,
        summary="Count output by time",
        group="Output",
        description="The number of lines in each of some equal spans of time. A line in parts counts once, with its "
        "first part that is not deleted; gaps do not count. No line is read for it.",
        query=output_schemas.HistogramParameters,
        answer=Answer(
            meaning="The counts.",
            content={_JSON: responses.OutputHistogram},
            headers={
                output.TRIMMED: "`lines=N,bytes=N`: so much of the process in all was deleted because of a limit, and "
                "is not counted. Not if all of it is older than `since`."
            },
        ),
        raises=(NotFound,),
    ),
    Route(
        method="GET",
        path="/api/v1/output/follow",
        call=group_follow.follow,
        summary="Follow output of several processes in one stream",
        group="Output",
        description="Follows the processes that `process` names, and those with the `tag`s: all of these that run (or "
        "wait for their next run) now, and all that start later. Lines come in the order in which they were read. A "
        "client that reconnects with `Last-Event-ID` misses no line and gets none twice, also over restarts of the "
        f"daemon. At most {MAX_MEMBERS} processes are followed at a time: one with the tags that starts beyond that "
        "joins when another has ended.",
        query=group_schemas.FollowGroupQuery,
        headers=_RESUMES_GROUP,
        answer=_GROUP_FOLLOWED,
        other_answer=done(
            "`Last-Event-ID` is that of `eof`, and no `tag` is given. A browser's `EventSource` stops at this."
        ),
        raises=(NotFound,),
    ),
    Route(
        method="GET",
        path="/api/v1/events",
        call=events.follow,
        summary="Follow events: starts, restarts and ends of processes",
        group="Events",
        description="Stored events first, then new events as they come, without end. A client that reconnects with "
        "`Last-Event-ID` misses no event and gets none twice, also over restarts of the daemon. Events are stored as "
        "long as their process; a purge deletes them and leaves one event, `purged`.",
        query=event_schemas.EventsQuery,
        headers=_RESUMES,
        answer=Answer(
            meaning="Events. The header `Accept` chooses the form.",
            content={
                _SSE: "Stored and new events: `id`, `type` as the name of the event, and data with the other fields of "
                "the NDJSON form. Comments keep the connection alive. The stream has no end of its own: when it is "
                "broken off, reconnect with `Last-Event-ID`.",
                _NDJSON: responses.Event,
            },
        ),
        raises=(NotFound,),
    ),
    Route(
        method="GET",
        path="/api/v1/search",
        call=search.search,
        summary="Search the output of many processes",
        group="Search",
        description="Searches in the order in which output was stored, newest or oldest first. All that followers have "
        "seen before the call is stored.",
        query=search_schemas.SearchParameters,
        answer=Answer(
            meaning="A page of lines. The header `Accept` chooses the form.",
            content={
                _JSON: responses.FoundLines,
                _NDJSON: "One object in each line: the matches, then one with `next` and `complete`.",
            },
        ),
        raises=(NotFound,),
    ),
    Route(
        method="POST",
        path="/api/v1/sql",
        call=sql.query,
        summary="Run a read-only SQL query",
        group="Search",
        description="The query runs in a process of its own and can only read. docs/storage.md describes the views: "
        "`processes`, `runs`, `output_lines`, `output_tail`, `output_gaps` and others.",
        body=sql_schemas.SqlBody,
        answer=Answer(meaning="The rows of the result.", content={_JSON: responses.SqlRows}),
    ),
    *FILE_ROUTES,
    *SANDBOX_ROUTES,
    Route(
        method="GET",
        path="/api/v1/health",
        call=daemon.health,
        summary="Check the health of the daemon",
        group="Daemon",
        answer=Answer(
            meaning="The daemon can serve requests. Otherwise the answer is 503 with the reason.",
            content={_JSON: responses.Health},
        ),
    ),
    Route(
        method="GET",
        path="/api/v1/info",
        call=daemon.info,
        summary="Show version and counts of the daemon",
        group="Daemon",
        answer=Answer(meaning="Version and counts of the daemon.", content={_JSON: responses.Info}),
    ),
    Route(
        method="GET",
        path="/metrics",
        call=metrics.metrics,
        summary="Scrape metrics for Prometheus",
        group="Daemon",
        description="docs/metrics.md describes the metrics. Totals of processes and output go on over restarts.",
        answer=Answer(
            meaning="All metrics. The header `Accept` chooses the format.",
            content={TEXT: "Prometheus's text format 0.0.4.", OPENMETRICS: "OpenMetrics 1.0."},
        ),
    ),
    *PROJECT_ROUTES,
    *BROWSER_ROUTES,
)
