"""One call of the API: what the route table is made of."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from marshmallow import Schema

from outlast.api import app_keys
from outlast.api.errors import Handler
from outlast.api.parsing import RequestInput, load_body, load_query
from outlast.api.schemas.base import NoQuery
from outlast.model import errors

MAX_PID_DIGITS = 10

Call = Callable[[web.Request, RequestInput], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A success: by content type, the schema of a JSON answer, or a sentence about another."""

    status: HTTPStatus = HTTPStatus.OK
    meaning: str
    content: dict[str, type[Schema] | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A method on a path.

    Attributes:
        summary: one line for the document.
        group: heading in the document.
        changes: it changes something, so it is carried through once it has begun (`streaming.Changes`).
        query: schema of the query string.
        body: schema of the JSON body, a sentence about a raw one, or None.
        other_answer: a second success, for the document.
        raises: errors of `outlast.model.errors` that are answers of this call, besides those of every call.
        description: more for the document, if a line does not do.
        headers: request headers it knows: name to description.
        documented: whether the document tells of it; what serves the document itself is left out.
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
    other_answer: Answer | None = None
    raises: tuple[type[errors.OutlastError], ...] = ()
    description: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    documented: bool = True


def make_handler(route: Route) -> Handler:
    """Make the aiohttp handler that loads what `route` accepts and calls it."""
    query = route.query()
    body = route.body() if isinstance(route.body, type) else None

    async def handle(request: web.Request) -> web.StreamResponse:
        given = RequestInput(
            query=load_query(query, request),
            body=None if body is None else await load_body(body, request),
        )
        await request.app[app_keys.MANAGER].catch_up()
        if route.changes:
            return await request.app[app_keys.BACKGROUND_TASKS].run_to_completion(_answer(route.call, request, given))
        return await route.call(request, given)

    return handle


async def _answer(call: Call, request: web.Request, given: RequestInput) -> web.StreamResponse:
    return await call(request, given)


def ref_of(request: web.Request) -> str:
    """Return the path's `{ref}`.

    Raises:
        NotFound: it is all digits, and more than a pid can have.
    """
    ref: str = request.match_info["ref"]
    if ref.isdigit() and not (ref.isascii() and len(ref) <= MAX_PID_DIGITS):
        raise errors.NotFound("no process can have that pid, list the processes for those there are")
    return ref


def json_response(data: Any, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    """Answer with `data` as JSON."""
    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json")
