"""A route: one row of the route table, and the aiohttp handler that is made from it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import hdrs, web
from marshmallow import Schema

from outlast.api import app_keys
from outlast.api.connection import has_given_up
from outlast.api.errors import Handler
from outlast.api.parsing import (
    LARGE_BODY_BYTES,
    RequestInput,
    load,
    load_query,
    parse_object,
    read_body,
    refuse_encoded,
)
from outlast.api.schemas.base import NoQuery
from outlast.api.unknown_fields import pass_over, translate
from outlast.model import errors

MAX_PID_DIGITS = 10
"""Maximum number of digits that are looked up as a pid."""

Call = Callable[[web.Request, RequestInput], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A successful answer.

    Attributes:
        status: HTTP status.
        meaning: description for the OpenAPI document.
        content: by content type, the schema of the answer, or a description if the answer has no schema.
        headers: headers that the answer may have: description by name.
    """

    status: HTTPStatus = HTTPStatus.OK
    meaning: str
    content: dict[str, type[Schema] | str]
    headers: Mapping[str, str] = field(default_factory=dict)


def done(meaning: str) -> Answer:
    """Return an answer without a body."""
    return Answer(status=HTTPStatus.NO_CONTENT, meaning=meaning, content={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A method on a path, with what the call accepts and answers.

    Attributes:
        summary: one line for the OpenAPI document.
        group: heading in the OpenAPI document.
        changes: whether the call changes something. Such a call runs to completion even if its client disconnects
            (`BackgroundTasks`).
        query: schema of the query string.
        body: schema of the JSON body; a description of a raw body; or None.
        body_type: content type of a raw body.
        other_answer: a second successful answer.
        raises: errors of `outlast.model.errors` that this call answers with, besides those of every call.
        description: details for the OpenAPI document, if the summary is not enough.
        headers: request headers: description by name.
        documented: whether the OpenAPI document lists the route. Files of the page /docs are not listed.
    """

    method: str
    path: str
    call: Call
    summary: str
    group: str
    answer: Answer
    changes: bool = False
    query: type[Schema] = NoQuery
    body: type[Schema] | str | None = None
    body_type: str = "application/octet-stream"
    other_answer: Answer | None = None
    raises: tuple[type[errors.OutlastError], ...] = ()
    description: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    documented: bool = True


def make_handler(route: Route) -> Handler:
    """Return the aiohttp handler that loads query string and body by the schemas of `route`, and calls it."""
    query = route.query()
    body = route.body() if isinstance(route.body, type) else None

    async def handle(request: web.Request) -> web.StreamResponse:
        refuse_encoded(request)
        given = RequestInput(query=load_query(query, request), body=None)
        if body is not None:
            raw = await read_body(request)
            load_it = partial(_load_body, body, raw, is_strict=request.query.get("strict") == "true")
            loaded, warnings = await asyncio.to_thread(load_it) if len(raw) >= LARGE_BODY_BYTES else load_it()
            given = replace(given, body=loaded, warnings=warnings)
        await request.app[app_keys.MANAGER].catch_up()
        if route.method != hdrs.METH_GET and has_given_up(request):
            raise errors.InvalidRequest(
                "the connection, or its sending side, was closed before the call was made: nothing was done. Keep it "
                "open until the answer has come"
            )
        if route.changes:
            return await request.app[app_keys.BACKGROUND_TASKS].run_to_completion(_answer(route.call, request, given))
        return await route.call(request, given)

    return handle


def _load_body(schema: Schema, raw: bytes, *, is_strict: bool) -> tuple[Any, list[str]]:
    """Return what `schema` makes of a JSON object, and a warning for each field that is passed over."""
    given, spoken = translate(schema, parse_object(raw))
    warnings: list[str] = []
    if not is_strict:
        given, warnings = pass_over(schema, given)
    return load(schema, given, spoken), warnings


async def _answer(call: Call, request: web.Request, given: RequestInput) -> web.StreamResponse:
    return await call(request, given)


def ref_of(request: web.Request) -> str:
    """Return the path's `{ref}`.

    Raises:
        NotFound: the reference is all digits (0 to 9), and longer than any pid.
    """
    ref: str = request.match_info["ref"]
    if ref.isascii() and ref.isdigit() and len(ref) > MAX_PID_DIGITS:
        raise errors.NotFound(f"there is no process with this pid: a pid has at most {MAX_PID_DIGITS} digits")
    return ref


def json_response(
    data: Any, status: HTTPStatus = HTTPStatus.OK, *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a response with `data` as JSON."""
    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json", headers=headers)
