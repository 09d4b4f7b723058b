"""The whole HTTP surface. The router and the API's document are both made from this table."""

from http import HTTPStatus

from outlast.api.handlers import daemon, docs, events, follow, output, processes, run, search, sql, stats, stdin, wait
from outlast.api.route import Answer, Route
from outlast.api.schemas import lists, managed, responses
from outlast.api.schemas import processes as process_schemas
from outlast.model.errors import EnvKeyLost, NameInUse, NotFound, NotManaged, NotRunning, SpawnFailed, StdinNotWritable
from outlast.model.output import Stream

PROCESSES = "/api/v1/processes"
PROCESS = f"{PROCESSES}/{{ref}}"

_JSON = "application/json"
_GAP = (
    '{"from","to","reason"}` where output is missing: `lost`, nobody could see what was written; `store_replaced`, an '
    "older copy took the place of the store that had it"
)
_PROCESS = Answer(meaning="The process.", content={_JSON: responses.ProcessInfo})
_DONE = Answer(status=HTTPStatus.NO_CONTENT, meaning="Done.", content={})
_FILE = Answer(meaning="A file.", content={})

_LINES = Answer(
    meaning="The stored output; the header Accept chooses its form.",
    content={
        _JSON: responses.OutputLines,
        "application/x-ndjson": 'One event a line: `{"id","line","timestamp","stream"}`, with terminators; or '
        '`{"id","gap","timestamp","stream"}`, with `gap` as following tells it.',
        "application/octet-stream": "The bytes exactly as they were written. Gaps are not shown.",
    },
)
_EVENTS = Answer(
    meaning="History, then what comes, then `event: eof` once it has ended and all of its output is sent.",
    content={
        "text/event-stream": 'Events `output` with `id` and `data: {"line","timestamp","stream"}`, with '
        f"terminators in `line`. Events `gap` with `id` and `data: {_GAP}. Comments keep the connection alive; `eof` "
        "at the end. A stream that ends without `eof` was interrupted: come back with Last-Event-ID."
    },
)
_RUN = Answer(
    meaning="What it prints, as it comes, then how it ended. A stream without the latter was interrupted.",
    content={
        "text/event-stream": 'Events of data only. First `{"pid","started_at","id"}`; then '
        '`{"line","timestamp","stream"}`, whole lines without terminators; `{"gap","timestamp","stream"}` where output '
        'is missing; last `{"exit_code"}` or `{"signal"}` (neither when it is lost) with `"oom_killed"` and `"reason"`.'
    },
)
_RESUMES = ((follow.LAST_EVENT_ID, "Go on after this id. With `after`, the later one holds; `tail` no longer does."),)


def _reads(word: str, stream: Stream | None) -> tuple[Route, Route]:
    what = "both streams, in the order they were read" if stream is None else f"standard {word[3:]}put"
    what = "standard error" if stream is Stream.STDERR else what
    return (
        Route(
            method="GET",
            path=f"{PROCESS}/{word}",
            call=output.of(stream),
            summary=f"Read what is stored of {what}",
            group="Output",
            query=process_schemas.OutputRange,
            answer=_LINES,
            raises=(NotFound,),
        ),
        Route(
            method="GET",
            path=f"{PROCESS}/{word}/follow",
            call=follow.of(stream),
            summary=f"Follow {what}",
            group="Output",
            query=process_schemas.FollowQuery,
            headers=_RESUMES,
            answer=_EVENTS,
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
        body=process_schemas.StartBody,
        answer=Answer(
            status=HTTPStatus.CREATED,
            meaning="It runs, and is recorded.",
            content={_JSON: responses.ProcessInfo},
        ),
        other_answer=Answer(
            meaning="A process has the `idempotency_key`: this one, as it is now. Nothing was started.",
            content={_JSON: responses.ProcessInfo},
        ),
        raises=(NameInUse, SpawnFailed),
    ),
    Route(
        method="POST",
        path=f"{PROCESSES}/run",
        call=run.run,
        summary="Run a command and stream it to its end",
        group="Processes",
        description="Its output is kept like any other's. When the caller hangs up, the command is killed with all "
        "that it started, unless `detach` is given; a restart of the daemon is no hanging up: it goes on. The stream "
        "ends when the command has ended and its output is complete, or, if others hold its output open, when nothing "
        "has come for a second.",
        query=process_schemas.RunQuery,
        body=process_schemas.RunBody,
        answer=_RUN,
        raises=(SpawnFailed,),
    ),
    Route(
        method="GET",
        path=PROCESSES,
        call=processes.list_all,
        summary="List processes",
        group="Processes",
        query=lists.ListQuery,
        answer=Answer(meaning="A page.", content={_JSON: responses.ProcessPage}),
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
        method="DELETE",
        path=PROCESS,
        call=processes.remove,
        changes=True,
        summary="Kill a process and everything it started",
        group="Processes",
        description="Answered when everything is gone and its end is recorded. A process that has ended already is no "
        "error. A managed one is stopped for good: first SIGTERM to the group, and SIGKILL after `stop_grace_ms`.",
        query=process_schemas.RemoveQuery,
        answer=_DONE,
        other_answer=Answer(
            status=HTTPStatus.ACCEPTED,
            meaning="SIGKILL is sent, but within `wait` not everything is gone and recorded: the process as it is now. "
            "With `purge`, nothing is deleted yet. Ask again.",
            content={_JSON: responses.ProcessInfo},
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
        description="Stops it first if it runs: SIGTERM to the group, SIGKILL after `stop_grace_ms`.",
        answer=Answer(meaning="Its new run.", content={_JSON: responses.ProcessInfo}),
        raises=(NotFound, NotManaged, NameInUse, EnvKeyLost, SpawnFailed),
    ),
    Route(
        method="GET",
        path=f"{PROCESS}/runs",
        call=processes.runs,
        summary="List the runs of a process, newest first",
        group="Processes",
        query=managed.RunsQuery,
        answer=Answer(meaning="A page.", content={_JSON: responses.RunPage}),
        raises=(NotFound,),
    ),
    Route(
        method="POST",
        path=f"{PROCESS}/signal",
        call=processes.send_signal,
        changes=True,
        summary="Send a signal: to the whole process group, or what `scope` says",
        group="Processes",
        body=process_schemas.SignalBody,
        answer=Answer(meaning="It is sent.", content={_JSON: responses.Success}),
        raises=(NotFound, NotRunning),
    ),
    Route(
        method="GET",
        path=f"{PROCESS}/stats",
        call=stats.stats,
        summary="Tell what a process and everything it started take of the machine",
        group="Processes",
        description="Looked at now, with the peaks of the run and its last samples, which are taken every 1 to 5 s "
        "and kept with the process.",
        query=process_schemas.StatsQuery,
        answer=Answer(meaning="Of one run.", content={_JSON: responses.ProcessStats}),
        raises=(NotFound,),
    ),
    Route(
        method="GET",
        path=f"{PROCESS}/wait",
        call=wait.wait,
        summary="Wait until it has ended, has printed something, listens on a port, or has fallen silent",
        group="Processes",
        description="Answers at once when it is so already; otherwise as soon as it is, can't be any more, or time is "
        "over.",
        query=wait.WaitQuery,
        answer=Answer(meaning="Whether it is so.", content={_JSON: responses.Waited}),
        raises=(NotFound,),
    ),
    Route(
        method="POST",
        path=f"{PROCESS}/stdin",
        call=stdin.write,
        summary="Write to standard input",
        group="Input",
        description="Answered once every byte is in the pipe. The body may have any size; it is read as the "
        "process reads it.",
        body="The bytes to write.",
        answer=_DONE,
        raises=(NotFound, NotRunning, StdinNotWritable),
    ),
    Route(
        method="POST",
        path=f"{PROCESS}/stdin/close",
        call=stdin.close,
        changes=True,
        summary="Close standard input",
        group="Input",
        answer=_DONE,
        raises=(NotFound, NotRunning, StdinNotWritable),
    ),
    *_reads("stdout", Stream.STDOUT),
    *_reads("stderr", Stream.STDERR),
    *_reads("output", None),
    Route(
        method="GET",
        path="/api/v1/events",
        call=events.follow,
        summary="Follow what happens to processes: starts, ends, and what lies between",
        group="Events",
        description="History first, then what comes, without end. Nothing is missed or told twice between connections "
        "joined by Last-Event-ID, over restarts of the daemon. Kept for as long as its process is; a purge deletes a "
        "process's events and leaves one, `purged`.",
        query=lists.EventsQuery,
        headers=_RESUMES,
        answer=Answer(
            meaning="Events; the header Accept chooses the form.",
            content={
                "text/event-stream": "Events with `id`, and their `type` as `event`. `data` has the fields of the "
                "other form, but `id`. Comments keep the connection alive. A stream that ends was interrupted: come "
                "back with Last-Event-ID.",
                "application/x-ndjson": responses.Event,
            },
        ),
    ),
    Route(
        method="GET",
        path="/api/v1/search",
        call=search.search,
        summary="Search the output of many processes",
        group="Search",
        description="In the order in which it was stored, or against it.",
        query=search.SearchParameters,
        answer=Answer(
            meaning="A page. In NDJSON, a line for each match, and a last one with `next` and `complete`.",
            content={
                _JSON: responses.FoundLines,
                "application/x-ndjson": "One match a line, then `next` and `complete`.",
            },
        ),
    ),
    Route(
        method="POST",
        path="/api/v1/sql",
        call=sql.ask,
        summary="Ask the store in SQL",
        group="Search",
        description="Reads only, on a connection and in a process of its own. The views to ask are described in "
        "docs/storage.md: `processes`, `runs`, `output_lines`, `output_tail`, `output_gaps` and others.",
        body=sql.SqlBody,
        answer=Answer(meaning="Rows.", content={_JSON: responses.SqlRows}),
    ),
    Route(
        method="GET",
        path="/api/v1/health",
        call=daemon.health,
        summary="Tell whether the daemon can take requests",
        group="Daemon",
        answer=Answer(meaning="It can.", content={_JSON: responses.Health}),
    ),
    Route(
        method="GET",
        path="/api/v1/info",
        call=daemon.info,
        summary="Tell about the daemon",
        group="Daemon",
        answer=Answer(meaning="Version and counts.", content={_JSON: responses.Info}),
    ),
    Route(
        method="GET",
        path="/api/v1/openapi.json",
        call=docs.document,
        summary="Describe this API (OpenAPI 3.1)",
        group="Daemon",
        answer=Answer(meaning="The document.", content={_JSON: "This document."}),
    ),
    Route(
        method="GET",
        path="/docs",
        call=docs.page,
        summary="Show this API in a browser",
        group="Daemon",
        answer=Answer(meaning="A page to read and try the API.", content={"text/html": "The page."}),
    ),
    Route(
        method="GET",
        path="/docs/{file}",
        call=docs.file,
        summary="Give what the page is made of",
        group="Daemon",
        answer=_FILE,
        documented=False,
    ),
)
