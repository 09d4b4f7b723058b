"""Calls without a connection. A call is a generator: it yields requests, is sent the answers, and returns a result."""

import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from outlast.client.items import Line
from outlast.client.records import Match, ProcessInfo, Run
from outlast.client.request import SILENT_S, Answer, Request, process_path
from outlast.model.errors import NameInUse, NotFound, NotRunning

T = TypeVar("T")

Call = Generator[Request, Answer, T]
Page = tuple[list[T], Any]
"""Items, and the cursor of the next page; None: this was the last one."""

_ACCEPTED = 202
_BAD_REQUEST = 400
_NOT_FOUND = 404
_LONGEST_WAIT_S = 30.0
_STOP_GRACE_S = 10.0
_INPUT = "application/octet-stream"


def ask(request: Request) -> Call[Any]:
    """Return the JSON of an answer."""
    answer = yield request
    answer.check()
    return answer.json


def look(ref: str | int) -> Call[ProcessInfo]:
    """Return a process."""
    return ProcessInfo.from_json((yield from ask(Request("GET", process_path(ref)))))


def start(body: bytes) -> Call[ProcessInfo]:
    """Start a process. `body` has an idempotency key."""
    return ProcessInfo.from_json((yield from ask(Request("POST", "/processes", body=body))))


def change(ref: str, body: bytes) -> Call[tuple[ProcessInfo, bool]]:
    """Give a managed process a specification. Return it, and whether a run was started with it."""
    answer = yield from ask(Request("PUT", process_path(ref), body=body, silent_s=None))
    return ProcessInfo.from_json(answer), answer["changed"]


def replace(name: str, body: bytes, start_body: bytes) -> Call[tuple[ProcessInfo, bool]]:
    """Change the process that has a name, or start one, if there is none."""
    try:
        return (yield from change(name, body))
    except NotFound:
        pass
    try:
        return (yield from start(start_body)), True
    except NameInUse:  # another program has just started one
        return (yield from change(name, body))


def restart(ref: str) -> Call[ProcessInfo]:
    """Restart a managed process."""
    request = Request("POST", process_path(ref, "/restart"), repeatable=False, silent_s=None)
    return ProcessInfo.from_json((yield from ask(request)))


def signal(ref: str, number: str | int, scope: str | None) -> Call[None]:
    """Send a signal."""
    body = {"signal": number, **({"scope": scope} if scope else {})}
    request = Request("POST", process_path(ref, "/signal"), body=json.dumps(body).encode(), repeatable=False)
    yield from ask(request)


def end(ref: str, *, purge: bool = False, grace_s: float | None = None) -> Call[list[str]]:
    """Kill a process tree, or stop a managed process, and wait until nothing is left. Return the daemon's warnings.

    `grace_s`: time that it has after its stop signal; None: a managed process has its own, and others have none.
    """
    query = {"purge": purge, "wait": _LONGEST_WAIT_S, "grace_ms": None if grace_s is None else round(grace_s * 1000)}
    silent_s = SILENT_S + (grace_s or 0)
    request = Request("DELETE", process_path(ref), query, silent_s=silent_s)
    while True:
        answer = yield request
        if answer.status == _NOT_FOUND and answer.repeated and purge:
            return []
        answer.check()
        if answer.status != _ACCEPTED:
            return []
        if answer.json["status"] != "running":
            return list(answer.json.get("warnings", []))


def stop(process: ProcessInfo, grace_s: float | None) -> Call[list[str]]:
    """Ask a process to end, and kill its tree if it has not ended in time. Return the daemon's warnings.

    `grace_s`: that time; None: the own one of a managed process, and ten seconds for others.
    """
    if grace_s is None and process.managed is None:
        grace_s = _STOP_GRACE_S
    return (yield from end(process.id, grace_s=grace_s))


def write(ref: str, data: bytes) -> Call[None]:
    """Write to standard input. There is no time limit: the process reads when it wants to."""
    path = process_path(ref, "/stdin")
    answer = yield Request("POST", path, body=data, content_type=_INPUT, repeatable=False, silent_s=None)
    answer.check()


def close_stdin(ref: str) -> Call[None]:
    """Close standard input."""
    answer = yield Request("POST", process_path(ref, "/stdin/close"))
    if not (answer.status == _BAD_REQUEST and answer.repeated):
        answer.check()


def wait(ref: str, condition: Mapping[str, Any], timeout_s: float | None) -> Call[Mapping[str, Any]]:
    """Wait until a condition is met, and return the answer.

    Raises:
        TimeoutError: it is not met in time.
        NotRunning: the process has ended, so it cannot be met any more.
    """
    ends_at = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left_s = _LONGEST_WAIT_S if ends_at is None else max(0.001, ends_at - time.monotonic())
        query = {**condition, "timeout": f"{min(left_s, _LONGEST_WAIT_S):.3f}"}
        answer: Mapping[str, Any] = yield from ask(Request("GET", process_path(ref, "/wait"), query))
        if answer["met"]:
            return answer
        if answer["reason"] == "ended":
            raise NotRunning(f"the process has ended: what was waited for ({condition['until']}) cannot come any more")
        if ends_at is not None and time.monotonic() >= ends_at:
            raise TimeoutError(f"what was waited for ({condition['until']}) has not come in {timeout_s:g} s")


def wait_for_exit(ref: str, timeout_s: float | None) -> Call[ProcessInfo]:
    """Wait until a process has ended."""
    return ProcessInfo.from_json((yield from wait(ref, {"until": "exit"}, timeout_s))["process"])


def wait_for_output(ref: str, condition: Mapping[str, Any], timeout_s: float | None) -> Call[Line]:
    """Wait for a line, and return it."""
    met = yield from wait(ref, {"until": "output", **condition}, timeout_s)
    return Line(met["seq"], met["line"], met["stream"], met["timestamp"])


def newest_event() -> Call[int]:
    """Return the id of the newest event; 0: there is none."""
    answer = yield Request("GET", "/events", {"tail": 1}, headers={"Accept": "application/x-ndjson"})
    answer.check()
    return int(json.loads(answer.body)["id"]) if answer.body else 0


def runs(ref: str, cursor: Any) -> Call[Page[Run]]:
    """Return a page of the runs of a process."""
    page = yield from ask(Request("GET", process_path(ref, "/runs"), {"cursor": cursor}))
    return [Run.from_json(run) for run in page["runs"]], page["next"]


def processes(query: Mapping[str, Any], cursor: Any) -> Call[Page[ProcessInfo]]:
    """Return a page of processes. On the first one are also all that run, which come again on a later page."""
    page = yield from ask(Request("GET", "/processes", {**query, "cursor": cursor}))
    return [ProcessInfo.from_json(process) for process in page["processes"]], page["next"]


def search(query: Mapping[str, Any], cursor: Any, on_incomplete: Callable[[], None] | None) -> Call[Page[Match]]:
    """Return a page of the lines that a search has found. `on_incomplete`: hook if output it asks for was deleted."""
    page = yield from ask(Request("GET", "/search", {"limit": _PAGE, **query, "cursor": cursor}))
    if page["next"] is None and not page["complete"] and on_incomplete is not None:
        on_incomplete()
    return [Match.from_json(match) for match in page["matches"]], page["next"]


_PAGE = 1000


def apply_project(
    name: str, processes: Mapping[str, Any], folder: str, query: Mapping[str, Any]
) -> Call[dict[str, Any]]:
    """Declare the processes of a project. Once more, that changes nothing, unless it is forced."""
    body = json.dumps({"folder": folder, "processes": processes}).encode()
    request = Request("PUT", _project_path(name), query, body=body, repeatable=not query["force"])
    answer: dict[str, Any] = yield from ask(request)
    return answer


def project(name: str, wait_s: float) -> Call[dict[str, Any]]:
    """Return a project, once nothing is left to wait for, or after `wait_s`."""
    ends_at = time.monotonic() + wait_s
    while True:
        left_s = min(_LONGEST_WAIT_S, max(0.0, ends_at - time.monotonic()))
        answer: dict[str, Any] = yield from ask(Request("GET", _project_path(name), {"wait": f"{left_s:.3f}"}))
        if answer["settled"] or time.monotonic() >= ends_at:
            return answer


def projects() -> Call[list[str]]:
    """Return the names of all projects."""
    names: list[str] = (yield from ask(Request("GET", "/projects")))["projects"]
    return names


def end_project(name: str, only: Sequence[str]) -> Call[None]:
    """End a project, or some of its processes, and wait until they have ended."""
    is_repeated = False
    while True:
        query = {"process": list(only), "wait": _LONGEST_WAIT_S}
        answer = yield Request("DELETE", _project_path(name), query)
        if answer.status == _NOT_FOUND and not only and (is_repeated or answer.repeated):
            return
        answer.check()
        if answer.status != _ACCEPTED:
            return
        is_repeated = True


def _project_path(name: str) -> str:
    return f"/projects/{quote(name, safe='')}"


def tag_words(tags: Mapping[str, str] | None) -> Sequence[str] | None:
    """Return tags as the API's parameters; None: there are none."""
    return [f"{name}:{value}" for name, value in tags.items()] if tags else None


def sql(query: str, parameters: Sequence[Any] | Mapping[str, Any], limit: int) -> Call[Any]:
    """Run a read-only query. It changes nothing, so it may be repeated."""
    values = parameters if isinstance(parameters, Mapping) else list(parameters)
    body = json.dumps({"query": query, "parameters": values, "limit": limit}).encode()
    return (yield from ask(Request("POST", "/sql", body=body, silent_s=_SQL_S)))


_SQL_S = 90.0
