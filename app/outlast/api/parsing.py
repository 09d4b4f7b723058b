"""Parsing of requests: query string and body become what their schemas load, or one error sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import hdrs, web
from marshmallow import Schema, ValidationError
from marshmallow import fields as ma_fields
from marshmallow.exceptions import SCHEMA

from outlast.api.near_names import MAX_NAME_CHARS, find_near, hint
from outlast.model.errors import InvalidRequest

UNKNOWN_FIELD = "unknown field"
"""Error message of a field that the schema does not have."""

MAX_BODY_BYTES = 8 * 1024 * 1024
"""Maximum size of a JSON body. Standard input has no maximum."""

MAX_FIELDS = 1000
"""Maximum number of fields of a JSON body. A schema takes far longer for a field than JSON does to carry one."""

LARGE_BODY_BYTES = 64 * 1024
"""Size from which a body is parsed and checked on a thread, so that the event loop serves others meanwhile."""

MAX_PHRASES = 5
"""Maximum number of mistakes that one error names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInput:
    """Query string and body of a request, as the schemas of its route loaded them, and warnings for the client."""

    query: Any
    body: Any
    warnings: Sequence[str] = ()


def load_query(schema: Schema, request: web.Request) -> Any:
    """Load the query string.

    Raises:
        InvalidRequest: a parameter is unknown or wrong, or is repeated and must not be.
    """
    given: dict[str, Any] = {}
    for name in request.query:
        values = request.query.getall(name)
        if isinstance(schema.fields.get(name), ma_fields.List):
            given[name] = values
        elif len(values) > 1:
            raise InvalidRequest(f"{_shorten(name)} must be given once, not {len(values)} times")
        else:
            given[name] = values[0]
    return load(schema, given)


def refuse_encoded(request: web.Request) -> None:
    """Check that the body is sent as it is: a small compressed one could be any size.

    Raises:
        InvalidRequest: it has a Content-Encoding.
    """
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if encoding.lower() != "identity":
        raise InvalidRequest("the body is compressed: send it as it is, without the header Content-Encoding")


async def read_body(request: web.Request) -> bytes:
    """Read the body of a call that takes JSON.

    Raises:
        InvalidRequest: the Content-Type is wrong.
        web.HTTPRequestEntityTooLarge: the body is larger than the application's `client_max_size`.
    """
    if request.content_type != "application/json":
        raise InvalidRequest("the body must be JSON, with the header Content-Type: application/json")
    return await request.read()


def parse_object(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        InvalidRequest: `raw` is something else, or has too many fields.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    if len(body) > MAX_FIELDS:
        raise InvalidRequest(f"the body must not have more than {MAX_FIELDS} fields")
    return body


def load(schema: Schema, given: Mapping[str, Any], spoken: Mapping[str, str] | None = None) -> Any:
    """Load `given` by `schema`. `spoken`: the names that the client used for some of its fields.

    Raises:
        InvalidRequest: a field is wrong; the sentence names each wrong field and says what it must be.
    """
    try:
        return schema.load(given)
    except ValidationError as error:
        phrases: list[str] = []
        messages: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
        for name, said in messages.items():
            phrases += _phrases({(spoken or {}).get(name, name): said}, "")
            if said == [UNKNOWN_FIELD] and (near := find_near(name, schema.fields)) is not None:
                phrases[-1] += hint(near)
        raise InvalidRequest("; ".join(phrases[:MAX_PHRASES])) from None


def _phrases(messages: Any, path: str) -> list[str]:
    if isinstance(messages, dict):
        return [
            phrase
            for key, inner in messages.items()
            for phrase in _phrases(inner, f"{path}[{key}]" if isinstance(key, int) else _join(path, key))
        ]
    return [_phrase(path, message) for message in (messages if isinstance(messages, list) else [messages])]


def _phrase(path: str, message: str) -> str:
    return f"{message}: {path}" if message == UNKNOWN_FIELD else f"{path} {message}"


def _join(path: str, key: str) -> str:
    if path and key == SCHEMA:  # the message is about the whole object at `path`
        return path
    return f"{path}.{_shorten(key)}" if path else _shorten(key)


def _shorten(name: str) -> str:
    return name if len(name) <= MAX_NAME_CHARS else f"{name[:MAX_NAME_CHARS]}..."
