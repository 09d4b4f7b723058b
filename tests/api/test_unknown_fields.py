"""Unknown fields of a start: newer clients' are passed over and named, mistyped ones are refused."""

import json
from typing import Any

import pytest

from outlast.api.unknown_fields import MAX_UNKNOWN

from .server import Server
from .stub import StubManager

PROCESSES = "/api/v1/processes"
PATHS = pytest.mark.parametrize("path", [PROCESSES, f"{PROCESSES}/run"])
PASSED_OVER = {"colour": "red", "cwd": "/", "priority_class": 3, "x" * 200: 1}


def first_answer(body: bytes) -> Any:
    """Return the answer of a start, or the first event of a run."""
    return json.loads(body.partition(b"\n")[0].removeprefix(b"data: "))


@PATHS
async def test_fields_that_are_like_no_known_one_are_passed_over(
    server: Server, manager: StubManager, path: str
) -> None:
    manager.is_ended = True
    answer = await server.ask("POST", path, json={"command": "true", **PASSED_OVER})
    assert answer.status in (200, 201)
    warnings = first_answer(answer.body)["warnings"]
    assert warnings == [f"unknown field {name[:64]} was passed over" for name in PASSED_OVER]
    answer = await server.ask("POST", path, json={"command": "true"})
    assert "warnings" not in first_answer(answer.body)


@PATHS
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("arg", "args"),
        ("limit", "limits"),
        ("Args", "args"),
        ("workingDir", "working_dir"),
        ("working-dir", "working_dir"),
        ("envs", "env"),
        ("timeout_ms", "timeout"),
        ("timeout_seconds", "timeout"),
        ("idempotencykey", "idempotency_key"),
        ("agrs", "args"),
        ("evn", "env"),
        ("tgas", "tags"),
        ("nide", "nice"),
    ],
)
async def test_mistyped_names_are_refused(
    server: Server, manager: StubManager, path: str, name: str, hint: str
) -> None:
    answer = await server.ask("POST", path, json={"command": "true", name: 1})
    assert (answer.status, answer.json["error"]) == (400, f"unknown field: {name}; did you mean {hint}?")
    assert manager.calls == []


@pytest.mark.parametrize("name", ["nmae", "naem", "anme", "nane"])
async def test_a_mistyped_name_does_not_make_a_process_unmanaged(
    server: Server, manager: StubManager, name: str
) -> None:
    answer = await server.ask("POST", PROCESSES, json={"command": "true", name: "web"})
    assert (answer.status, answer.json["error"]) == (400, f"unknown field: {name}; did you mean name?")
    assert manager.calls == []


@PATHS
@pytest.mark.parametrize("body", [PASSED_OVER, {"restart": {"jitter": 1}}], ids=["top", "nested"])
async def test_strict_refuses_every_unknown_field(
    server: Server, manager: StubManager, path: str, body: dict[str, Any]
) -> None:
    answer = await server.ask("POST", f"{path}?strict=true", json={"command": "true", **body})
    assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")
    assert answer.json["error"].startswith("unknown field: ")
    assert manager.calls == []


async def test_nested_objects_of_the_clients_are_treated_likewise(server: Server) -> None:
    body = {"command": "true", "restart": {"jitter": 1}, "health_check": {"type": "tcp", "port": 1, "grace": 2}}
    answer = await server.ask("POST", PROCESSES, json=body)
    assert answer.json["warnings"] == [
        "unknown field restart.jitter was passed over",
        "unknown field health_check.grace was passed over",
    ]
    for wrong in ({"restart": {"polcy": "always"}}, {"limits": {"jitter": 1}}, {"user": {"id": 1}}):
        assert (await server.ask("POST", PROCESSES, json={"command": "true", **wrong})).status == 400
    for name in ("name", "restart", "health_check", "ready_log", "stop_grace_ms"):  # a run is not managed
        answer = await server.ask("POST", f"{PROCESSES}/run", json={"command": "true", name: 1})
        assert (answer.status, answer.json["error"]) == (400, f"unknown field: {name}")


@PATHS
async def test_the_other_name_of_the_timeout_is_known(server: Server, manager: StubManager, path: str) -> None:
    manager.is_ended = True
    answer = await server.ask("POST", f"{path}?strict=true", json={"command": "true", "timeout_secs": 2})
    assert answer.status in (200, 201)
    assert manager.calls[0][1].options.timeout_ms == 2000
    answer = await server.ask("POST", path, json={"command": "true", "timeout_secs": 2, "timeout": 2})
    assert answer.json["error"] == "timeout_secs is the same as timeout: give one of them"
    answer = await server.ask("POST", path, json={"command": "true", "timeout_secs": "2"})
    assert answer.json["error"].startswith("timeout_secs must be ")


async def test_mistyped_parameters_get_a_hint(server: Server) -> None:
    for query, hint in (("tial=5", "tial; did you mean tail?"), ("color=red", "color")):
        answer = await server.ask("GET", f"{PROCESSES}/42/output?{query}")
        assert (answer.status, answer.json["error"]) == (400, f"unknown field: {hint}")


async def test_unknown_fields_are_counted(server: Server) -> None:
    many = {f"q{number}": 1 for number in range(MAX_UNKNOWN + 1)}
    answer = await server.ask("POST", PROCESSES, json={"command": "true", **many})
    assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")
