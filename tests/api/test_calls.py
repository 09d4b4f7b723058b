import asyncio
from dataclasses import replace
from typing import Any

import pytest

from outlast.api.cursor import page_cursor
from outlast.api.handlers.serializers import process_info
from outlast.api.routes import ROUTES
from outlast.api.schemas.responses import ProcessInfo, ProcessPage
from outlast.model.errors import Forbidden
from outlast.model.process import ExitStatus, ProcessQuery, Reason, Run, Status
from outlast.model.usage import UsageSample

from .server import BEARER, Server, until
from .stub import ULID, StubManager, view

RUNNING = {
    "pid": 42,
    "handle": 1,
    "id": ULID,
    "status": "running",
    "reason": None,
    "exit_code": None,
    "signal": None,
    "oom_killed": False,
    "stdin_writable": False,
    "command": "true",
    "args": [],
    "started_at": 1710000000000,
    "ended_at": None,
    "managed": None,
    "name": None,
    "tags": {},
    "working_dir": "/",
    "user": None,
    "success_exit_codes": [],
    "nice": None,
    "tty": None,
    "limits": {},
    "stdin_mode": "closed",
    "stdout_mode": "capture",
    "stderr_mode": "capture",
    "run": 1,
    "output": {"lines": 1, "bytes": 2, "first_seq": 1, "last_seq": 1, "last_at": 1710000000001, "trimmed": None},
}

STARTED_MS = 1710000000000


async def test_a_start_answers_with_the_process(server: Server, manager: StubManager) -> None:
    answer = await server.ask("POST", "/api/v1/processes", json={"command": "true", "args": ["x"]})
    assert (answer.status, answer.json) == (201, RUNNING)
    name, request = manager.calls.pop()
    assert (name, request.command, request.args, request.idempotency_key) == ("start", "true", ("x",), None)
    answer = await server.ask("GET", "/api/v1/processes/42")
    assert (answer.status, answer.json) == (200, RUNNING)
    assert ProcessInfo().validate(answer.json) == {}


async def test_a_start_with_a_known_key_answers_200(server: Server, manager: StubManager) -> None:
    manager.key_is_known = True
    answer = await server.ask("POST", "/api/v1/processes", json={"command": "true", "idempotency_key": "k 1"})
    assert (answer.status, answer.json) == (200, RUNNING)
    assert manager.calls[0][1].idempotency_key == "k 1"


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (ExitStatus(reason=Reason.EXITED, exit_code=3, ended_at_ms=5), {"status": "exited", "exit_code": 3}),
        (ExitStatus(reason=Reason.SIGNALED, signal=9, ended_at_ms=5), {"status": "signaled", "signal": 9}),
        (
            ExitStatus(reason=Reason.OOM_KILLED, signal=9, ended_at_ms=5),
            {"status": "oom_killed", "signal": 9, "oom_killed": True},
        ),
        (ExitStatus(reason=Reason.TIMED_OUT, signal=9, ended_at_ms=5), {"status": "signaled", "signal": 9}),
        (ExitStatus(reason=Reason.LOST, ended_at_ms=5), {"status": "exited"}),
    ],
)
def test_each_ending_is_shown(ending: ExitStatus, expected: dict[str, Any]) -> None:
    it = view()
    ended = replace(it, process=replace(it.process, run=Run(pid=42, started_at_ms=1710000000000, ending=ending)))
    info = process_info(ended)
    assert {**info, "args": []} == {**RUNNING, "reason": ending.reason, "ended_at": 5, **expected}
    assert ProcessInfo().validate({**info, "args": []}) == {}


async def test_a_list_has_pages(server: Server, manager: StubManager) -> None:
    manager.views = [view(handle=handle, pid=handle + 100) for handle in (9, 8, 7)]
    query = ProcessQuery(status=Status.RUNNING, tags={"a": "b", "c": "d"})
    path = "/api/v1/processes?limit=2&tag=a:b&tag=c:d&status=running&cursor="
    answer = await server.ask("GET", path + page_cursor(query, 10))
    assert [process["handle"] for process in answer.json["processes"]] == [9, 8]
    assert answer.json["next"] == page_cursor(query, 8)
    assert ProcessPage().validate(answer.json) == {}
    (_, asked, _) = manager.calls.pop()
    assert asked == replace(query, before_handle=10, limit=3)
    answer = await server.ask("GET", "/api/v1/processes?limit=3")
    assert (len(answer.json["processes"]), answer.json["next"]) == (3, None)
    assert manager.calls.pop() == ("list", ProcessQuery(limit=4), False)


async def test_a_list_tells_what_processes_use_if_it_is_asked(server: Server, manager: StubManager) -> None:
    samples = (UsageSample(STARTED_MS + 1000, 2, 3, 7, 100, 0, 4096, None),)
    later = UsageSample(STARTED_MS + 6000, 2, 3, 7, 2500, 100, 8192, None)
    manager.views = [
        replace(view(), samples=(*samples, later)),
        replace(view(), samples=samples),
        view(),
    ]
    listed = (await server.ask("GET", "/api/v1/processes?usage=true")).json
    assert manager.calls.pop()[2]
    assert ProcessPage().validate(listed) == {}
    both, one, none = [process["usage"] for process in listed["processes"]]
    assert both == {
        "sampled_at": STARTED_MS + 6000,
        "processes": 2,
        "threads": 3,
        "open_files": 7,
        "cpu": {"user_ms": 2500, "system_ms": 100, "percent": 50.0},
        "memory": {"rss_bytes": 8192, "pss_bytes": None},
    }
    assert (one["cpu"]["percent"], none) == (10.0, None)
    assert "usage" not in (await server.ask("GET", "/api/v1/processes")).json["processes"][0]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "answer", "call"),
    [
        ("DELETE", "/42", None, 204, None, ("kill", "42", 10.0)),
        ("DELETE", "/42?purge=false", None, 204, None, ("kill", "42", 10.0)),
        ("DELETE", "/42?purge=true", None, 204, None, ("purge", "42", 10.0)),
        ("POST", "/42/signal", {"signal": 15}, 200, {"success": True}, ("signal", "42", 15, "group")),
        (
            "POST",
            "/42/signal",
            {"signal": 15, "scope": "tree"},
            200,
            {"success": True},
            ("signal", "42", 15, "tree"),
        ),
        ("DELETE", "/42?wait=0.5", None, 204, None, ("kill", "42", 0.5)),
        ("DELETE", "/42?wait=0.5&grace_ms=9", None, 204, None, ("kill", "42", 0.5, 9)),
        ("DELETE", "/42?grace_ms=5000&purge=true", None, 204, None, ("purge", "42", 15.0, 5000)),
        (
            "POST",
            "/a%20%7Bb%7D%E2%82%AC/signal",
            {"signal": "KILL"},
            200,
            {"success": True},
            ("signal", "a {b}€", 9, "tree"),
        ),
        ("POST", "/42/stdin/close", None, 204, None, ("close_stdin", "42")),
    ],
)
async def test_each_small_call_reaches_the_manager(
    server: Server, manager: StubManager, method: str, path: str, body: Any, status: int, answer: Any, call: Any
) -> None:
    got = await server.ask(method, f"/api/v1/processes{path}", json=body)
    assert (got.status, got.json) == (status, answer)
    assert manager.calls == [call]


@pytest.mark.parametrize("query", ["?wait=0", "?wait=0&purge=true"])
async def test_a_process_that_a_delete_could_not_end_is_shown(server: Server, manager: StubManager, query: str) -> None:
    manager.lives_on = True
    answer = await server.ask("DELETE", f"/api/v1/processes/42{query}")
    assert (answer.status, answer.json) == (202, {**RUNNING, "warnings": ["look"]})


async def test_a_signal_that_the_system_refuses_is_an_error(server: Server, manager: StubManager) -> None:
    manager.fail = Forbidden("not permitted")
    answer = await server.ask("POST", "/api/v1/processes/42/signal", json={"signal": 15})
    assert (answer.status, answer.json["code"]) == (403, "FORBIDDEN")


async def in_pieces(count: int) -> Any:
    for index in range(count):
        yield bytes([index % 256]) * 100_000


async def test_stdin_may_be_large(server: Server, manager: StubManager) -> None:
    answer = await server.ask("POST", "/api/v1/processes/42/stdin", data=in_pieces(300))
    assert answer.status == 204
    assert manager.stdin == b"".join([bytes([index % 256]) * 100_000 for index in range(300)])


async def test_stdin_may_be_empty(server: Server, manager: StubManager) -> None:
    assert (await server.ask("POST", "/api/v1/processes/42/stdin")).status == 204
    assert manager.stdin == b""


async def test_stdin_is_passed_on_before_the_body_ends(server: Server, manager: StubManager) -> None:
    more = asyncio.Event()

    async def body() -> Any:
        yield b"first"
        await more.wait()
        yield b"second"

    call = asyncio.create_task(server.ask("POST", "/api/v1/processes/42/stdin", data=body()))
    await until(lambda: manager.stdin == b"first")
    more.set()
    assert (await call).status == 204
    assert manager.stdin == b"firstsecond"


async def test_info_shows_the_counts(server: Server) -> None:
    answer = await server.ask("GET", "/api/v1/info")
    assert answer.json == {
        "version": "1.2.3",
        "shim_version": "1.2.2",
        "uptime_secs": 12,
        "running_processes": 3,
        "total_processes": 7,
        "adopted": True,
    }


async def test_health_shows_the_failure(server: Server, manager: StubManager) -> None:
    manager.unhealthy = "the disk is full"
    answer = await server.ask("GET", "/api/v1/health")
    assert answer.status == 503
    assert answer.json == {"healthy": False, "error": "the disk is full", "code": "UNAVAILABLE"}
    assert answer.headers["Retry-After"] == "1"


async def test_every_answer_has_the_security_headers(server: Server) -> None:
    for path in ("/api/v1/health", "/no/such", "/docs", "/docs/docs.js"):
        for headers in (BEARER, {}):
            answer = await server.ask("GET", path, headers=headers)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Cache-Control"] in {"no-store", "no-cache"}
            assert answer.headers["Server"] == "Outlast"


def test_the_table_has_no_route_twice() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


async def test_output_is_stored_before_a_process_is_read(server: Server, manager: StubManager) -> None:
    await server.ask("GET", f"/api/v1/processes/{ULID}")
    assert manager.caught_up == 1
