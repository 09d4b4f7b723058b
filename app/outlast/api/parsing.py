"""From a request to what its schemas make of it, or one sentence about what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from marshmallow import Schema, ValidationError
from marshmallow import fields as ma_fields
from marshmallow.exceptions import SCHEMA

from outlast.model.errors import InvalidRequest

MAX_BODY_BYTES = 8 * 1024 * 1024  # of a JSON body; standard input has no limit
MAX_NAME_CHARS = 64  # of a caller's own key, when an error quotes it

MAX_PHRASES = 5  # in one error


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInput:
    """What a caller gave, as its route's schemas loaded it."""

    query: Any
    body: Any


def load_query(schema: Schema, request: web.Request) -> Any:
    """Load the query string.

    Raises:
        InvalidRequest: a parameter is unknown, wrong, or given twice where one is meant.
    """
    given: dict[str, Any] = {}
    for name in request.query:
        values = request.query.getall(name)
        if isinstance(schema.fields.get(name), ma_fields.List):
            given[name] = values
        elif len(values) > 1:
            raise InvalidRequest(f"{_shorten(name)} is given {len(values)} times, give it once")
        else:
            given[name] = values[0]
    return load(schema, given)


async def load_body(schema: Schema, request: web.Request) -> Any:
    """Load a JSON body.

    Raises:
        InvalidRequest: the Content-Type is another, it is not JSON, or a field is wrong.
        web.HTTPRequestEntityTooLarge: it is longer than the application's `client_max_size`.
    """
    if request.content_type != "application/json":
        raise InvalidRequest("the body must be JSON, with the header Content-Type: application/json")
    raw = await request.read()
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    return load(schema, body)


def load(schema: Schema, given: Mapping[str, Any]) -> Any:
    """Load `given`.

    Raises:
        InvalidRequest: `str()` names each field and says what it should be.
    """
    try:
        return schema.load(given)
    except ValidationError as error:
        raise InvalidRequest("; ".join(_phrases(error.messages, "")[:MAX_PHRASES])) from None


def _phrases(messages: Any, path: str) -> list[str]:
    if isinstance(messages, dict):
        return [
            phrase
            for key, inner in messages.items()
            for phrase in _phrases(inner, f"{path}[{key}]" if isinstance(key, int) else _join(path, key))
        ]
    if isinstance(messages, list):
        return [f"{path} {message}" for message in messages]
    return [f"{path} {messages}"]


def _join(path: str, key: str) -> str:
    if path and key == SCHEMA:  # a part as a whole
        return path
    return f"{path}.{_shorten(key)}" if path else _shorten(key)


def _shorten(name: str) -> str:
    return name if len(name) <= MAX_NAME_CHARS else f"{name[:MAX_NAME_CHARS]}..."
