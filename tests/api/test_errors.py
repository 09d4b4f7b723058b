import asyncio
import errno
import io
import logging
import threading
from typing import Any

import orjson
import pytest

from outlast.api import parsing
from outlast.api.errors import ERROR_SPECS
from outlast.api.parsing import LARGE_BODY_BYTES, MAX_BODY_BYTES
from outlast.model import errors

from .server import BEARER, TOKEN, Server, until
from .stub import StubManager

JSON = {**BEARER, "Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InvalidRequest("x"), 400, "INVALID_REQUEST"),
        (errors.NotFound("x"), 404, "NOT_FOUND"),
        (errors.SessionNotFound("x"), 404, "SESSION_NOT_FOUND"),
        (errors.TooManySessions("x"), 429, "TOO_MANY_SESSIONS"),
        (errors.InvalidToken("x"), 403, "INVALID_TOKEN"),
        (errors.NotRunning("x"), 400, "NOT_RUNNING"),
        (errors.StdinNotWritable("x"), 400, "STDIN_NOT_WRITABLE"),
        (errors.NameInUse("x"), 409, "NAME_IN_USE"),
        (errors.TooLarge("x"), 413, "TOO_LARGE"),
        (errors.NoSpace("x"), 507, "NO_SPACE"),
        (errors.SpawnFailed("x", errno.ENOENT), 422, "SPAWN_FAILED"),
        (errors.Unavailable("x"), 503, "UNAVAILABLE"),
        (errors.StorageUnavailable("x"), 503, "UNAVAILABLE"),
        (errors.ShimUnavailable("x"), 503, "UNAVAILABLE"),
        (errors.NoAnswer("x"), 500, "INTERRUPTED"),
        (errors.Interrupted("x"), 500, "INTERRUPTED"),
    ],
)
async def test_errors_have_the_contracts_form(
    server: Server, manager: StubManager, error: errors.OutlastError, status: int, code: str
) -> None:
    manager.fail = error
    answer = await server.ask("GET", "/api/v1/processes/42")
    assert answer.status == status
    expected: dict[str, str | int] = {"error": "x", "code": code}
    if isinstance(error, errors.SpawnFailed):
        expected["errno"] = errno.ENOENT
    assert answer.json == expected
    assert answer.headers.get("Retry-After") == ("1" if status == 503 else None)


def test_every_error_a_caller_can_meet_is_in_the_table() -> None:
    internal = {
        errors.StorageError,
        errors.StorageDamaged,
        errors.ProtocolError,
        errors.AlreadyServed,
        errors.EndsNotStored,
        errors.ConfigError,
    }
    raised = {
        thing for thing in vars(errors).values() if isinstance(thing, type) and thing.__module__ == errors.__name__
    }
    raised -= {errors.OutlastError}
    covered = {error for error in raised if issubclass(error, tuple(ERROR_SPECS))}
    assert raised - covered == internal
    assert set(ERROR_SPECS) <= raised


unexpected = pytest.mark.parametrize(
    "error", [RuntimeError(f"secret {TOKEN}"), errors.StorageError("secret"), TimeoutError("secret")]
)


@unexpected
async def test_an_unexpected_error_is_logged(
    server: Server, manager: StubManager, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    manager.fail = error
    with caplog.at_level(logging.ERROR):
        await server.ask("GET", "/api/v1/processes/42?", headers=BEARER)
    (record,) = caplog.records
    assert record.getMessage() == "GET /api/v1/processes/42 failed"
    assert record.exc_info is not None


@unexpected
async def test_an_unexpected_error_is_not_shown_to_the_client(
    server: Server, manager: StubManager, error: Exception
) -> None:
    manager.fail = error
    answer = await server.ask("GET", "/api/v1/processes/42?", headers=BEARER)
    assert answer.status == 500
    assert answer.json["code"] == "INTERNAL"
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("GET", "/docs/docs.html", 404, "NOT_FOUND"),
        ("GET", "/docs/..%2Fdocs.py", 404, "NOT_FOUND"),
        ("GET", "/api/v1/processes/", 404, "NOT_FOUND"),
        ("PUT", "/api/v1/processes", 405, "METHOD_NOT_ALLOWED"),
        ("HEAD", "/api/v1/processes/42/signal", 405, None),
        ("POST", "/api/v1/processes/42/output", 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_errors_of_aiohttp_have_the_contracts_form(
    server: Server, method: str, path: str, status: int, code: str | None
) -> None:
    answer = await server.ask(method, path)
    assert answer.status == status
    if code:
        assert answer.json["code"] == code
        assert answer.json["error"]
    if status == 405:
        assert "Allow" in answer.headers


@pytest.mark.parametrize(
    ("headers", "body", "phrase"),
    [
        (BEARER, b'{"command":"true"}', "Content-Type: application/json"),
        ({**BEARER, "Content-Type": "text/plain"}, b'{"command":"true"}', "Content-Type: application/json"),
        ({**BEARER, "Content-Type": "application/x-www-form-urlencoded"}, b"command=true", "Content-Type"),
        (JSON, b"", "not valid JSON"),
        (JSON, b"{", "not valid JSON"),
        (JSON, b"\xff", "not valid JSON"),
        (JSON, b'{"command":"\\ud800"}', "not valid JSON"),
        (JSON, b'{"command": NaN}', "not valid JSON"),
        (JSON, b"[" * 100_000, "not valid JSON"),
        (JSON, b"[]", "must be a JSON object"),
        (JSON, b"null", "must be a JSON object"),
        (JSON, b'"command"', "must be a JSON object"),
        (JSON, b"{}", "command is required"),
    ],
)
async def test_bodies_that_are_not_json_objects_are_refused(
    server: Server, manager: StubManager, headers: dict[str, str], body: bytes, phrase: str
) -> None:
    answer = await server.ask("POST", "/api/v1/processes", headers=headers, data=body)
    assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")
    assert phrase in answer.json["error"]
    assert manager.calls == []


async def test_json_with_a_charset_is_json(server: Server) -> None:
    headers = {**BEARER, "Content-Type": "Application/JSON; charset=utf-8"}
    assert (await server.ask("POST", "/api/v1/processes", headers=headers, data=b'{"command":"x"}')).status == 201


async def test_others_are_served_while_a_large_body_is_checked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    served = threading.Event()

    def check(schema: Any, given: Any, spoken: Any) -> Any:
        assert "command" not in given or served.wait(10)
        return parsing.load(schema, given, spoken)

    monkeypatch.setattr("outlast.api.route.load", check)
    body = orjson.dumps({"command": "x", "args": ["y" * LARGE_BODY_BYTES]})
    checking = asyncio.create_task(server.ask("POST", "/api/v1/processes", headers=JSON, data=body))
    async with asyncio.timeout(10):
        assert (await server.ask("GET", "/api/v1/openapi.json")).status == 200
    served.set()
    assert (await checking).status == 201


@pytest.mark.parametrize(
    ("body", "phrase"),
    [
        ({f"x{number}": 1 for number in range(100_000)}, "the body must not have more than 1000 fields"),
        ({"command": "x", "args": ["y"] * 1_000_000}, "args must not have more than 250000 items"),
        (
            {"command": "x", "env": {f"X{n}": "y" for n in range(100_000)}},
            "env must not have more than 50000 variables",
        ),
    ],
    ids=["fields", "args", "env"],
)
async def test_what_a_body_holds_is_bounded(server: Server, body: dict[str, Any], phrase: str) -> None:
    answer = await server.ask("POST", "/api/v1/processes", headers=JSON, data=io.BytesIO(orjson.dumps(body)))
    assert (answer.status, answer.json["error"]) == (400, phrase)


async def in_pieces(size: int) -> Any:
    for _ in range(size // 65536 + 1):
        yield b" " * 65536


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(server: Server, manager: StubManager, chunked: bool) -> None:
    body = in_pieces(MAX_BODY_BYTES) if chunked else io.BytesIO(b" " * (MAX_BODY_BYTES + 1))
    answer = await server.ask("POST", "/api/v1/processes", headers=JSON, data=body)
    assert (answer.status, answer.json["code"]) == (413, "TOO_LARGE")
    assert str(MAX_BODY_BYTES) in answer.json["error"]
    assert manager.calls == []


async def test_unknown_query_parameters_are_refused_everywhere(server: Server, manager: StubManager) -> None:
    for method, path in (
        ("GET", "/api/v1/processes/42"),
        ("GET", "/api/v1/health"),
        ("POST", "/api/v1/processes/1/stdin"),
    ):
        answer = await server.ask(method, f"{path}?colour=red")
        assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")
        assert "unknown field: colour" in answer.json["error"]
    answer = await server.ask("GET", "/api/v1/processes?limit=1&limit=2")
    assert "limit must be given once, not 2 times" in answer.json["error"]
    assert manager.calls == []


@pytest.mark.parametrize("ref", ["1" * 11, "9" * 5000])
async def test_digits_that_are_no_pid_name_no_process(server: Server, manager: StubManager, ref: str) -> None:
    answer = await server.ask("GET", f"/api/v1/processes/{ref}")
    assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND")
    assert manager.calls == []


async def test_a_caller_that_hangs_up_is_no_error(
    server: Server, manager: StubManager, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await server.connect(
        b"POST /api/v1/processes/42/stdin HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
        + f"Authorization: Bearer {TOKEN}\r\n\r\nhello".encode()
    )
    await until(lambda: manager.stdin)

    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    assert (await server.ask("GET", "/api/v1/health")).status == 200
    assert manager.stdin == b"hello"
    assert caplog.records == []
