import json
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import Schema

from outlast.api.cursor import page_cursor
from outlast.api.parsing import load
from outlast.api.schemas import events, lists, output, processes, search
from outlast.core.commands.start_request import StartRequest
from outlast.core.commands.users import UserSpec, parse
from outlast.core.query.matcher import Text
from outlast.core.query.output_cursor import OutputQuery
from outlast.model.errors import InvalidRequest
from outlast.model.process import Order, OutputMode, ProcessQuery, Status, StdinMode

START = processes.StartBody()


def refuse(schema: Schema, given: dict[str, Any]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        load(schema, given)
    return str(caught.value)


def test_every_field_of_a_start_is_loaded() -> None:
    assert load(
        START,
        {
            "command": "python",
            "args": ["-c", "", "é\n😀"],
            "env": {"PORT": "8080", "EMPTY": "", "OUTLAST_X": "a=b"},
            "working_dir": "/workspace",
            "user": "www-data",
            "stdin_mode": "pipe",
            "stdout_mode": "discard",
            "stderr_mode": "capture",
            "tags": {"team": "a:b", "é": ""},
            "idempotency_key": "é " * 127 + "!",
        },
    ) == StartRequest(
        command="python",
        args=("-c", "", "é\n😀"),
        env={"PORT": "8080", "EMPTY": "", "OUTLAST_X": "a=b"},
        working_dir="/workspace",
        user=UserSpec(name="www-data", uid=None, gid=None),
        stdin_mode=StdinMode.PIPE,
        stdout_mode=OutputMode.DISCARD,
        stderr_mode=OutputMode.CAPTURE,
        tags={"team": "a:b", "é": ""},
        idempotency_key="é " * 127 + "!",
    )


LEAST = StartRequest(
    command="true",
    args=(),
    env={},
    working_dir=None,
    user=None,
    stdin_mode=StdinMode.CLOSED,
    stdout_mode=OutputMode.CAPTURE,
    stderr_mode=OutputMode.CAPTURE,
    tags={},
)


def test_a_start_needs_only_a_command() -> None:
    assert load(START, {"command": "true"}) == LEAST


def test_a_null_means_the_default() -> None:
    nulls = dict.fromkeys(set(START.fields) - {"command"})
    assert load(START, {"command": "true", **nulls}) == LEAST


@pytest.mark.parametrize(
    ("field", "value", "phrase"),
    [
        ("command", None, "command must not be null"),
        ("command", "", "command must not be empty"),
        ("command", 7, "command must be a string"),
        ("command", ["ls"], "command must be a string"),
        ("command", True, "command must be a string"),
        ("command", "a\0b", "command must not contain a NUL"),
        ("command", "\ud800", "command must not contain a lone surrogate"),
        ("args", "-l", "args must be an array"),
        ("args", {"0": "-l"}, "args must be an array"),
        ("args", ["ok", 3], "args[1] must be a string"),
        ("args", [None], "args[0] must be a string"),
        ("args", ["\0"], "args[0] must not contain a NUL"),
        ("args", ["\udfff"], "args[0] must not contain a lone surrogate"),
        ("env", ["A=b"], "env must be an object"),
        ("env", {"": "x"}, "env must not contain a key that is empty"),
        ("env", {"A=B": "x"}, "env must not contain a key"),
        ("env", {"A\0": "x"}, "env must not contain a NUL"),
        ("env", {"A": "x\0"}, "env.A must not contain a NUL"),
        ("env", {"A": 1}, "env.A must be a string"),
        ("env", {"A": None}, "env.A must be a string"),
        ("env", {"A": "\ud800"}, "env.A must not contain a lone surrogate"),
        ("working_dir", "relative", "working_dir must be an absolute path"),
        ("working_dir", "", "working_dir must be an absolute path"),
        ("working_dir", "/a\0", "working_dir must not contain a NUL"),
        ("stdin_mode", "capture", "stdin_mode must be one of closed, pipe"),
        ("stdin_mode", "PIPE", "stdin_mode must be one of closed, pipe"),
        ("stdin_mode", 1, "stdin_mode must be one of closed, pipe"),
        ("stdin_mode", ["pipe"], "stdin_mode must be one of closed, pipe"),
        ("stdout_mode", "pipe", "stdout_mode must be one of capture, discard"),
        ("stderr_mode", {}, "stderr_mode must be one of capture, discard"),
        ("user", "", "user must be"),
        ("user", 1000, "user must be"),
        ("user", True, "user must be"),
        ("user", ":", "user must be"),
        ("user", "1000:", "user must be"),
        ("user", ":1000", "user must be"),
        ("user", "app:", "user must be"),
        ("user", "app:staff:x", "user must be"),
        ("user", "-1:0", "user must be"),
        ("user", "app:-1", "user must be"),
        ("user", "app:\uff11", "user must be"),
        ("user", "app:4294967295", "user must have ids"),
        ("user", "\uff11\uff12", "user must be"),
        ("user", "4294967295", "user must have ids from 0 to 4294967294"),
        ("user", "9" * 5000, "user must be"),
        ("user", "a\0", "user must not contain a NUL"),
        ("user", {}, "user must have either"),
        ("user", {"gid": 1}, "user must have either"),
        ("user", {"name": "a", "uid": 1}, "user must have either"),
        ("user", {"uid": 1, "groups": []}, "user must have either"),
        ("user", {"name": ""}, "user.name must not be empty"),
        ("user", {"name": 3}, "user must be a string"),
        ("user", {"name": "1000"}, "user.name must be a name"),
        ("user", {"name": "a:b"}, "user.name must be a name"),
        ("user", {"name": "a", "gid": "staff"}, "user must have ids"),
        ("user", {"name": "a", "gid": -1}, "user must have ids"),
        ("user", {"uid": "1"}, "user must have ids"),
        ("user", {"uid": True}, "user must have ids"),
        ("user", {"uid": 1, "gid": -1}, "user must have ids"),
        ("user", {"uid": 1.0}, "user must have ids"),
        ("tags", ["a:b"], "tags must be an object"),
        ("tags", {"": "x"}, "tags must have keys of 1 to 128"),
        ("tags", {"a:b": "x"}, "tags must have keys"),
        ("tags", {"k" * 129: "x"}, "tags must have keys"),
        ("tags", {"k": "v" * 1025}, "tags.k must not be longer than 1024"),
        ("tags", {"k": 1}, "tags.k must be a string"),
        ("tags", {"k": None}, "tags.k must be a string"),
        ("tags", {str(i): "" for i in range(65)}, "tags must not have more than 64"),
        ("colour", "red", "unknown field: colour"),
        ("name", "", "name must be 1 to 255 printable characters"),
        ("name", "a/b", "name must be 1 to 255 printable characters"),
        ("name", "..", "name must be 1 to 255 printable characters"),
        ("name", "4711", "name must not look like a pid"),
        ("name", "01arz3ndektsv4rrffq69g5fav", "name must not look like a pid"),
        ("restart", "always", "restart must be a JSON object"),
        ("restart", {"policy": "sometimes"}, "restart.policy must be one of never, on_failure, always"),
        ("restart", {"max_restarts": -1}, "restart.max_restarts must be an integer from 0"),
        ("restart", {"initial_backoff_ms": 2, "max_backoff_ms": 1}, "restart.initial_backoff_ms must not be more"),
        ("restart", {"initial_backoff_ms": 30_001}, "restart.initial_backoff_ms must not be more"),
        ("restart", {"delay_ms": 1, "max_backoff_ms": 1}, "restart.delay_ms cannot be used with max_backoff_ms"),
        ("restart", {"delay_ms": -1}, "restart.delay_ms must be an integer from 0"),
        ("restart", {"x": 1}, "unknown field: restart.x"),
        ("ready_log", "(", "ready_log is not a valid RE2 regular expression"),
        ("ready_log", "", "ready_log must be 1 to 1000 characters long"),
        ("ready_log", "a\nb", "ready_log must be part of one line"),
        ("success_exit_codes", 2, "success_exit_codes must be an array of integers"),
        ("success_exit_codes", [2, 256], "success_exit_codes[1] must be an integer from 0 to 255"),
        ("success_exit_codes", [True], "success_exit_codes[0] must be an integer"),
        ("success_exit_codes", [1] * 257, "success_exit_codes must not have more than 256 items"),
        ("health_check", {}, "health_check.type is required"),
        ("health_check", {"type": "udp", "port": 1}, "health_check.type must be one of http, tcp, exec"),
        ("health_check", {"type": "tcp", "port": 65536}, "health_check.port must be an integer from 1 to 65535"),
        ("health_check", {"type": "tcp", "port": 1, "path": "/"}, "health_check.path can be used with type http only"),
        ("health_check", {"type": "tcp"}, "health_check.port is required with type tcp"),
        ("health_check", {"type": "exec"}, "health_check.command is required with type exec"),
        ("health_check", {"type": "exec", "command": ""}, "health_check.command must not be empty"),
        ("health_check", {"type": "exec", "command": "true", "args": "x"}, "health_check.args must be an array"),
        (
            "health_check",
            {"type": "exec", "command": "true", "port": 1},
            "health_check.port can be used with type http or tcp only",
        ),
        (
            "health_check",
            {"type": "http", "port": 1, "command": "true"},
            "health_check.command can be used with type exec only",
        ),
        ("health_check", {"type": "http", "port": 1, "path": "/a b"}, 'health_check.path must start with "/"'),
        ("health_check", {"type": "http", "port": 1, "interval_ms": 0}, "health_check.interval_ms must be an integer"),
        ("timeout", 0, "timeout must be a number of seconds from 0.001 to"),
        ("stop_grace_ms", -1, "stop_grace_ms must be an integer from 0"),
        ("idempotency_key", "", "idempotency_key must be 1 to 255 printable"),
        ("idempotency_key", "x" * 256, "idempotency_key must be 1 to 255 printable"),
        ("idempotency_key", "a\nb", "idempotency_key must be 1 to 255 printable"),
        ("idempotency_key", "a\u200bb", "idempotency_key must be 1 to 255 printable"),
        ("idempotency_key", "a\0", "idempotency_key must not contain a NUL"),
        ("idempotency_key", "\ud800", "idempotency_key must not contain a lone surrogate"),
        ("idempotency_key", 1, "idempotency_key must be a string"),
    ],
)
def test_a_wrong_field_of_a_start_is_named(field: str, value: Any, phrase: str) -> None:
    assert phrase in refuse(START, {"command": "true", field: value})


def test_a_start_says_in_one_way_when_it_is_healthy() -> None:
    check = {"type": "tcp", "port": 1}
    sentence = refuse(START, {"command": "true", "ready_log": "x", "health_check": check})
    assert sentence.startswith("ready_log cannot be used with health_check")


def test_a_start_needs_a_command() -> None:
    assert refuse(START, {}) == "command is required"


def test_several_mistakes_are_named_but_not_endlessly() -> None:
    sentence = refuse(START, {"args": 1, "env": 2})
    assert "command is required" in sentence
    assert "args must" in sentence
    assert "env must" in sentence
    assert len(refuse(START, {f"{'x' * 10_000}{i}": i for i in range(1000)})) < 1000


def test_values_of_the_environment_are_not_told() -> None:
    assert "hunter2" not in refuse(START, {"command": "x", "env": {"PASSWORD": "hunter2\0"}})


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("root", {"name": "root"}),
        ("1000", {"uid": 1000}),
        ("1000:50", {"uid": 1000, "gid": 50}),
        ("root:50", {"name": "root", "gid": 50}),
        ("root:adm", {"name": "root", "group": "adm"}),
        ("0:adm", {"uid": 0, "group": "adm"}),
        ({"name": "root"}, {"name": "root"}),
        ({"name": "root", "uid": None, "gid": None}, {"name": "root"}),
        ({"name": "root", "uid": None, "gid": 0}, {"name": "root", "gid": 0}),
        ({"uid": 0}, {"uid": 0}),
        ({"uid": 1, "gid": 0}, {"uid": 1, "gid": 0}),
    ],
)
def test_a_user_has_several_forms(user: Any, expected: dict[str, Any]) -> None:
    spec = load(START, {"command": "x", "user": user}).user
    assert spec == UserSpec(**expected)
    assert parse(str(spec)) == spec


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    body=st.dictionaries(st.sampled_from(sorted(START.fields)) | st.text(max_size=5), JSON, max_size=4),
    command=st.none() | st.text(max_size=3),
)
def test_any_object_is_a_start_or_an_error_in_words(body: dict[str, Any], command: str | None) -> None:
    if command is not None:
        body["command"] = command
    try:
        request = load(START, body)
    except InvalidRequest as error:
        assert str(error)  # noqa: PT017 - either outcome is right
    else:
        assert isinstance(request, StartRequest)
        assert request.command
        json.dumps([request.command, *request.args, *request.env, *request.tags]).encode()


@pytest.mark.parametrize(
    ("given_signal", "number"),
    [
        *((1, 1), (15, 15), (64, 64), ("15", 15)),
        *(("SIGTERM", 15), ("TERM", 15), ("sigterm", 15), ("Term", 15), ("SIGKILL", 9), ("CLD", 17), ("IOT", 6)),
        *(("RTMIN", signal.SIGRTMIN), ("SIGRTMIN+2", signal.SIGRTMIN + 2), ("rtmax-1", signal.SIGRTMAX - 1)),
    ],
)
def test_a_signal_has_several_forms(given_signal: Any, number: int) -> None:
    assert load(processes.SignalBody(), {"signal": given_signal}).number == number


@pytest.mark.parametrize(
    "wrong",
    [
        *(0, 65, -1, True, False, 15.0, "0", "65", "-1", "", "SIG", "SIGSIGTERM", "SIG_DFL", "FOO", None, [15], {}),
        *("TERM+1", "RTMIN-1", "RTMAX+1", "RTMIN+31", "RTMIN+", "RTMIN 1", "\u0661\u0665", "TERM\n"),
    ],
)
def test_unknown_signals_are_refused(wrong: Any) -> None:
    assert refuse(processes.SignalBody(), {"signal": wrong}).startswith("signal must ")


def test_every_field_of_a_list_query_is_loaded() -> None:
    query = lists.ListQuery()
    assert load(query, {}) == lists.ListRequest(query=ProcessQuery(limit=1000), adds_running=True, with_usage=False)
    given = {
        "status": "exited",
        "name": "web",
        "tag": ["a:b:c", "d:", "a:b:c"],
        "since": "1710000000001",
        "until": "1710000000002",
        "limit": "3",
        "usage": "true",
    }
    expected = ProcessQuery(
        status=Status.EXITED,
        name="web",
        tags={"a": "b:c", "d": ""},
        since_ms=1710000000001,
        until_ms=1710000000002,
        limit=3,
    )
    assert load(query, given) == lists.ListRequest(query=expected, adds_running=False, with_usage=True)
    for order, place in (("newest", "before_handle"), ("oldest", "after_handle")):
        asked = replace(expected, order=Order(order))
        cursor = page_cursor(asked, 4)
        assert load(query, {**given, "order": order, "cursor": cursor}).query == replace(
            asked, **cast("Any", {place: 4})
        )
        assert load(query, {**given, "order": order, "cursor": cursor, "limit": "7"}).query.limit == 7
        for other in ({"status": "running"}, {"name": "x"}, {"tag": ["a:b"]}, {"since": "0"}, {"until": "0"}):
            refusal = refuse(query, {**given, "order": order, "cursor": cursor, **other})
            assert refusal.startswith("cursor belongs to another list")
    assert refuse(query, {**given, "cursor": cursor}).startswith("cursor belongs to another list")
    for garbage in ("", "4", "next", "é", "=" * 20, cursor[:-1], cursor + "A", "A" * 10_000):
        assert refuse(query, {"cursor": garbage}) == "cursor must be `next` of the previous page"


WRONG_NUMBERS = ["", "-1", "+1", "1.0", "1e3", "x", "1_000", " 1", "\uff11", "9" * 17, "9" * 5000, "9007199254740992"]


@pytest.mark.parametrize("wrong", WRONG_NUMBERS)
@pytest.mark.parametrize(
    ("schema", "fields"),
    [
        (lists.ListQuery(), ("limit",)),
        (events.EventsQuery(), ("after", "tail")),
        (output.FollowQuery(), ("after", "tail")),
        (output.OutputRange(), ("after", "tail", "limit")),
        (output.ResumeHeader(), ("Last-Event-ID",)),
    ],
)
def test_a_malformed_number_is_refused(schema: Schema, fields: tuple[str, ...], wrong: str) -> None:
    for field in fields:
        assert refuse(schema, {field: wrong}).startswith(f"{field} must be an integer from ")


MOMENTS: list[tuple[Schema, tuple[str, ...], Callable[[Any], Any]]] = [
    (lists.ListQuery(), ("since", "until"), lambda loaded: loaded.query),
    (events.EventsQuery(), ("since",), lambda loaded: loaded.wanted),
    (output.FollowQuery(), ("since", "until"), lambda loaded: loaded),
    (output.OutputRange(), ("since", "until"), lambda loaded: loaded.where),
    (search.SearchParameters(), ("since", "until"), lambda loaded: loaded[0]),
]


def load_moments(text: str) -> list[int]:
    """Load `text` as each `since` and `until` that there is."""
    return [
        getattr(part(load(schema, {name: text, **NEEDED.get(type(schema), {})})), f"{name}_ms")
        for schema, names, part in MOMENTS
        for name in names
    ]


NEEDED: dict[type[Schema], dict[str, Any]] = {search.SearchParameters: {"q": "x"}}


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        ("1710000000000", 1710000000000),
        ("2024-03-09T16:00:00Z", 1710000000000),
        ("2024-03-09t16:00:00.1239z", 1710000000124),
        ("2024-03-09 16:00:00Z", 1710000000000),
        ("2024-03-09T17:30:00+01:30", 1710000000000),
        ("2024-03-09T17:30:00 01:30", 1710000000000),
        ("2024-03-09T10:00:00-06:00", 1710000000000),
        ("0001-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59Z", 253402300799000),
    ],
)
def test_a_moment_has_several_forms(text: str, ms: int) -> None:
    assert load_moments(text) == [ms] * 9


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("1d2h3m4s", 93_784), ("0s", 0)]
)
def test_a_duration_is_a_moment_before_now(text: str, seconds: int) -> None:
    before = time.time() * 1000
    found = load_moments(text)
    after = time.time() * 1000
    assert all(int(before) <= moment + seconds * 1000 <= after for moment in found)
    assert load_moments("999999d") == [0] * 9


@pytest.mark.parametrize("text", ["1710000000", "9999999999", "1710000000.5"])
def test_seconds_are_refused_with_a_sentence(text: str) -> None:
    for schema, names, _ in MOMENTS:
        for name in names:
            assert refuse(schema, {name: text, **NEEDED.get(type(schema), {})}).startswith(f"{name} is in seconds: ")


@pytest.mark.parametrize("text", ["1", "10", "0600", "999999999", "10000000000", "99999999999"])
def test_a_small_number_is_no_moment(text: str) -> None:
    for schema, names, _ in MOMENTS:
        for name in names:
            refusal = refuse(schema, {name: text, **NEEDED.get(type(schema), {})})
            assert refusal.startswith(f"{name} is too small a number for a time: it must be "), refusal


@pytest.mark.parametrize(
    "text",
    [
        *("", "-1", "1.0", "x", " 1", "9" * 17, "9007199254740992", "m", "1m1h", "-10m", "10 m", "1w", "\uff11m"),
        *("2024-03-09T16:00:00", "2024-03-09", "2024-02-30T00:00:00Z", "2024-03-09T24:00:01Z", "2024-03-09T16:00Z"),
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    for schema, names, _ in MOMENTS:
        for name in names:
            assert refuse(schema, {name: text, **NEEDED.get(type(schema), {})}).startswith(f"{name} must be a time ")


def test_a_cursor_keeps_the_moments_of_its_first_page() -> None:
    query = lists.ListQuery()
    first = load(query, {"since": "1h"}).query
    cursor = page_cursor(first, 4)
    assert load(query, {"since": "1h", "cursor": cursor}).query == replace(first, before_handle=4)
    for other in ({}, {"since": "1710000000007"}, {"since": "1h", "until": "1h"}):
        assert refuse(query, {**other, "cursor": cursor}).startswith("cursor belongs to another list")


@pytest.mark.parametrize(
    ("given", "phrase"),
    [
        ({"status": "lost"}, "status must be one of running, exited, signaled, oom_killed"),
        ({"limit": "0"}, "limit must be an integer from 1 to 10000"),
        ({"limit": "10001"}, "limit must be an integer from 1 to 10000"),
        ({"tag": ["a"]}, "tag must have the form key:value"),
        ({"tag": [":b"]}, "tag must have keys"),
        ({"tag": ["a:b", "a:c"]}, "tag has two values for the key 'a'"),
        ({"name": ""}, "name must not be empty"),
        ({"order": "random"}, "order must be one of newest, oldest"),
        ({"reason": "lost"}, "unknown field: reason"),
    ],
)
def test_a_wrong_field_of_a_list_query_is_named(given: dict[str, Any], phrase: str) -> None:
    assert phrase in refuse(lists.ListQuery(), given)


def test_every_field_of_an_output_range_is_loaded() -> None:
    schema = output.OutputRange()
    assert load(schema, {}) == output.ReadOptions(where=OutputQuery())
    given = {"after": "1", "tail": "2", "since": "1710000000003", "until": "1710000000004", "limit": "0", "grep": "é"}
    where = OutputQuery(after=1, tail=2, since_ms=1710000000003, until_ms=1710000000004)
    assert load(schema, given) == output.ReadOptions(where=where, limit=0, matcher=Text("é".encode()))
    assert load(schema, {"grep": ""}).matcher is None
    assert load(schema, {"before": "7", "after": "2", "limit": "3"}) == output.ReadOptions(
        where=OutputQuery(after=2), before=7, limit=3
    )
    assert load(schema, {"grep": "^a", "regex": "true"}).is_slow
    assert refuse(schema, {"before": "7", "tail": "3"}).startswith("tail cannot be used with before")
    assert refuse(schema, {"before": "7", "until": "1710000000004"}).startswith("until cannot be used with before")
    assert refuse(schema, {"regex": "true"}).startswith("regex needs grep")
    assert refuse(schema, {"ignore_case": "true", "grep": ""}).startswith("ignore_case needs grep")
    assert refuse(schema, {"grep": "(", "regex": "true"}).startswith("grep is not a valid RE2")
    assert refuse(schema, {"grep": "a\nb"}).startswith("grep must be part of one line")
    assert load(output.FollowQuery(), {"after": "1", "tail": "0"}) == OutputQuery(after=1, tail=0)
    assert "unknown field: grep" in refuse(output.FollowQuery(), {"grep": "x"})


@pytest.mark.parametrize(("text", "purge"), [("true", True), ("false", False)])
def test_purge_is_a_flag(text: str, purge: bool) -> None:
    assert load(processes.DeleteQuery(), {"purge": text}).purge is purge
    assert load(processes.DeleteQuery(), {}).purge is False


@pytest.mark.parametrize("wrong", ["", "1", "yes", "TRUE", "on"])
def test_a_malformed_purge_flag_is_refused(wrong: str) -> None:
    assert refuse(processes.DeleteQuery(), {"purge": wrong}) == "purge must be true or false"
