"""Every answer that is not a success: one table from errors to statuses and codes, one form for all."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import hdrs, web

from outlast.model import errors

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """How an error looks over HTTP. `meaning` is for the API's document."""

    status: HTTPStatus
    code: str
    meaning: str


ERROR_SPECS: Mapping[type[errors.OutlastError], ErrorSpec] = {
    errors.InvalidRequest: ErrorSpec(
        HTTPStatus.BAD_REQUEST, "INVALID_REQUEST", "The request is wrong; the sentence names the field."
    ),
    errors.NotFound: ErrorSpec(HTTPStatus.NOT_FOUND, "NOT_FOUND", "There is no such process."),
    errors.NotRunning: ErrorSpec(HTTPStatus.BAD_REQUEST, "NOT_RUNNING", "The process has ended."),
    errors.NotManaged: ErrorSpec(
        HTTPStatus.BAD_REQUEST, "NOT_MANAGED", "It was started without name, restart and health_check."
    ),
    errors.EnvKeyLost: ErrorSpec(
        HTTPStatus.CONFLICT, "ENV_KEY_LOST", "The environment that it was started with can't be opened any more."
    ),
    errors.StdinNotWritable: ErrorSpec(
        HTTPStatus.BAD_REQUEST, "STDIN_NOT_WRITABLE", "Its standard input is not a pipe, or is closed."
    ),
    errors.Forbidden: ErrorSpec(
        HTTPStatus.FORBIDDEN,
        "FORBIDDEN",
        "A browser sent the password for a foreign page, or the system does not let the daemon do it.",
    ),
    errors.NameInUse: ErrorSpec(HTTPStatus.CONFLICT, "NAME_IN_USE", "A live process holds the name."),
    errors.TooLarge: ErrorSpec(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "TOO_LARGE", "The body is over the limit."),
    errors.SpawnFailed: ErrorSpec(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "SPAWN_FAILED",
        "The system could not start it; `errno` is the system's error number. Nothing was recorded.",
    ),
    errors.Unavailable: ErrorSpec(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "UNAVAILABLE",
        "The store or the keeper of the processes cannot take it now; try again after `Retry-After` seconds.",
    ),
}

# What aiohttp itself raises, in our words.
_SENTENCES: Mapping[int, str] = {
    HTTPStatus.NOT_FOUND: "there is nothing at this path; /docs shows the paths there are",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path does not take this method; see the header Allow",
}


def error_response(
    status: int, code: str, sentence: str, headers: Mapping[str, str] | None = None, **extra: Any
) -> web.Response:
    """Make the answer `{"error", "code", **extra}`."""
    return web.Response(
        status=status,
        body=orjson.dumps({"error": sentence, "code": code, **extra}),
        content_type="application/json",
        headers=headers,
    )


def to_response(error: errors.OutlastError) -> web.Response | None:
    """Make the answer for an error that a caller can do something about; None for the others."""
    shape = next((ERROR_SPECS[cls] for cls in type(error).__mro__ if cls in ERROR_SPECS), None)
    if shape is None:
        return None
    extra = {"errno": error.errno} if isinstance(error, errors.SpawnFailed) else {}
    headers = {str(hdrs.RETRY_AFTER): str(error.retry_after_s)} if isinstance(error, errors.Unavailable) else None
    return error_response(shape.status, shape.code, str(error), headers, **extra)


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into an answer.

    A handler that has begun its answer deals with its own errors (`streaming.send`).
    """
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _from_aiohttp(request, error)
    except errors.OutlastError as error:
        return to_response(error) or _internal(request)
    except Exception as error:  # noqa: BLE001 - the last resort; logged with its traceback
        if isinstance(error, ConnectionError) and request.transport is None:
            return web.Response(status=HTTPStatus.BAD_REQUEST)  # the caller hung up: nobody will read this
        return _internal(request)


def _from_aiohttp(request: web.Request, error: web.HTTPException) -> web.Response:
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        sentence = f"the body is over the limit of {request.client_max_size} bytes, send less"
        return to_response(errors.TooLarge(sentence)) or _internal(request)
    headers = {str(hdrs.ALLOW): error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else None
    sentence = _SENTENCES.get(error.status, error.reason)
    return error_response(error.status, HTTPStatus(error.status).name, sentence, headers)


def _internal(request: web.Request) -> web.Response:
    # The path, not the request: its headers hold the token.
    _log.exception("%s %s failed", request.method, request.path)
    return error_response(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "INTERNAL",
        "something went wrong inside the daemon; its log says what",
    )
