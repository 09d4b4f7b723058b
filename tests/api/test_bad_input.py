"""A wrong value in any field of any call is answered with 400, and a sentence that names the field."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from marshmallow import Schema
from marshmallow import fields as ma_fields

from outlast.api.route import Route
from outlast.api.routes import ROUTES
from outlast.api.schemas import fields, process_fields
from outlast.api.schemas.base import AnyQuery
from outlast.api.schemas.moments import MomentField

from .paths import path_of
from .server import Server
from .stub import ULID

# No field takes these: what takes an array or an object takes none with such members.
IN_NO_BODY: tuple[Any, ...] = ({"\0": [[]]}, [{"\0": [[]]}], "\0")
IN_NO_QUERY = ("\0", "a\0b:c")
# By class of field, what it must refuse besides.
WRONG: dict[type[Any], tuple[Any, ...]] = {
    fields.Integer: (True, "1", "", 1.5, -1e30, -(10**18), 10**18, [], {}),
    fields.Seconds: (True, "1", 0, -1, 1e300, [], {}),
    fields.QuerySeconds: ("", "0", "-1", "x", "nan", "inf", "1e300", "1s"),
    fields.String: (1, True, [], {}, 1.5),
    fields.Choice: ("", "no such", 0, True, [], {}),
    fields.Strings: ("x", {}, 1, [1], [None], [["x"]]),
    process_fields.Environment: ("x", [], 1, {"A": 1}, {"": "x"}, {"A=B": "x"}),
    process_fields.Tags: ("x", [], 1, {"a": 1}, {"": "x"}, {"a:b": "x"}),
    process_fields.SignalNumber: ("", "SIGNONE", 0, -1, 65, 10**30, 1.5, True, [], {}),
    process_fields.User: ("", ":", "1:", 1, True, [], {}, {"uid": -1}, {"uid": 2**32}, {"name": "a", "uid": 1}),
    fields.QuerySeconds: ("", "0", "0.0", "-1", "x", "1e3", "+1", " 1", "9" * 400),
    fields.QueryInteger: ("", "-1", "1.5", "x", "1e3", "+1", " 1", "9" * 400),
    fields.QueryFlag: ("", "1", "TRUE", "yes"),
    fields.PermanentRef: ("", "@", "@x", "12", "a name", ULID[1:]),
    MomentField: ("", "-1", "1710000000", "1.5", "x", "2024-02-30T00:00:00Z", "1w", "9" * 400),
}


def _wrong(field: Any, always: tuple[Any, ...]) -> Iterator[Any]:
    yield from always
    for kind in type(field).__mro__:
        if kind in WRONG:
            yield from WRONG[kind]
            return


def _bodies() -> Iterator[tuple[Route, dict[str, Any], str]]:
    for route in ROUTES:
        if isinstance(route.body, type):
            yield from ((route, body, name) for body, name in _objects(route.body()))


def _objects(schema: Schema) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield objects that `schema` refuses, each with the name of what is wrong."""
    for name, field in schema.fields.items():
        yield from (({name: value}, name) for value in _wrong(field, IN_NO_BODY))
        if isinstance(field, ma_fields.Nested):
            yield from (({name: inner}, f"{name}.{inner_name}") for inner, inner_name in _objects(field.schema))
        if field.required:
            yield {}, name
    yield {"no_such_field": 1}, "no_such_field"


def _queries() -> Iterator[tuple[Route, list[tuple[str, str]], str]]:
    for route in ROUTES:
        if route.query is AnyQuery:  # that is for the page's own program
            continue
        for name, field in route.query().fields.items():
            wrong = field.inner if isinstance(field, ma_fields.List) else field
            texts = filter(_is_text, _wrong(wrong, IN_NO_QUERY))
            yield from ((route, [(name, text)], name) for text in texts)
            if not isinstance(field, ma_fields.List):
                yield route, [(name, "1"), (name, "1")], name
        if not issubclass(route.query, AnyQuery):
            yield route, [("no_such_field", "1")], "no_such_field"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _path(route: Route) -> str:
    return path_of(route, ULID)


async def test_wrong_fields_of_bodies_are_named(server: Server) -> None:
    missed = []
    for route, body, name in _bodies():
        query = "?strict=true" if "strict" in route.query().fields else ""
        answer = await server.ask(route.method, f"{_path(route)}{query}", json=body)
        if (answer.status, answer.json["code"]) != (400, "INVALID_REQUEST") or name not in answer.json["error"]:
            missed.append((route.method, route.path, body, answer.status, answer.body))
    assert missed == []


async def test_wrong_fields_of_queries_are_named(server: Server) -> None:
    missed = []
    for route, query, name in _queries():
        text = "&".join(f"{key}={quote(value)}" for key, value in query)
        answer = await server.ask(route.method, f"{_path(route)}?{text}")
        error = answer.json or {}
        if answer.status != 400 or error.get("code") != "INVALID_REQUEST" or name not in error["error"]:
            missed.append((route.method, route.path, text, answer.status, answer.body))
    assert missed == []
