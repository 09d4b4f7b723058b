"""Error responses: one table from errors to statuses and codes, and one form for all of them."""

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
    """One error code: its HTTP status, and what the documentation says of it.

    Attributes:
        status: HTTP status.
        code: what programs decide by.
        meaning: what has happened.
        advice: what the client can do.
    """

    status: HTTPStatus
    code: str
    meaning: str
    advice: str


INTERRUPTED = ErrorSpec(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.Interrupted.code,
    "The call was done in part, or nobody knows whether it was done. The sentence says how far. For standard input, at "
    "least `written_bytes` and at most `written_bytes_at_most` bytes were written.",
    "Look at the process before you repeat the call.",
)

ERROR_SPECS: Mapping[type[errors.OutlastError], ErrorSpec] = {
    errors.InvalidRequest: ErrorSpec(
        HTTPStatus.BAD_REQUEST,
        errors.InvalidRequest.code,
        "The request is wrong. The sentence names the field.",
        "Correct the request.",
    ),
    errors.NotFound: ErrorSpec(
        HTTPStatus.NOT_FOUND,
        errors.NotFound.code,
        "No process has this pid, id, name or handle, there is no such file, or nothing is served at this path.",
        "List the processes or the folder, or look the path up.",
    ),
    errors.SessionNotFound: ErrorSpec(
        HTTPStatus.NOT_FOUND,
        errors.SessionNotFound.code,
        "No session of a terminal has this id, or it ended more than a minute ago.",
        "List the sessions, or create one.",
    ),
    errors.TooManySessions: ErrorSpec(
        HTTPStatus.TOO_MANY_REQUESTS,
        errors.TooManySessions.code,
        "As many terminals are open as the daemon permits. Nothing was started.",
        "`DELETE` sessions that are no longer needed.",
    ),
    errors.InvalidToken: ErrorSpec(
        HTTPStatus.FORBIDDEN,
        errors.InvalidToken.code,
        "The token of the session is wrong.",
        "Send the `token` that the call which created the session answered with.",
    ),
    errors.NotRunning: ErrorSpec(
        HTTPStatus.BAD_REQUEST,
        errors.NotRunning.code,
        "The process has ended.",
        "`GET` the process to see how it ended.",
    ),
    errors.NotManaged: ErrorSpec(
        HTTPStatus.BAD_REQUEST,
        errors.NotManaged.code,
        "The process is not managed (it has no `name`, `restart`, `health_check` or `ready_log`), so it cannot be "
        "restarted.",
        "Start a new process.",
    ),
    errors.EnvKeyLost: ErrorSpec(
        HTTPStatus.CONFLICT,
        errors.EnvKeyLost.code,
        "The stored environment of the process cannot be decrypted, so it cannot be restarted.",
        "Put `env.key` back into the state folder, or start a new process.",
    ),
    errors.StdinNotWritable: ErrorSpec(
        HTTPStatus.BAD_REQUEST,
        errors.StdinNotWritable.code,
        "Standard input of the process is not a pipe, or is closed.",
        "Start the process with `stdin_mode` `pipe`.",
    ),
    errors.Forbidden: ErrorSpec(
        HTTPStatus.FORBIDDEN,
        errors.Forbidden.code,
        "A browser sent its login or password for a page of another site, or the kernel or a setting does not permit "
        "the daemon to do this.",
        "Call from the server's own pages, or send a bearer token. For a signal or a file: run the daemon as root, or "
        "as the user of the process or the file.",
    ),
    errors.NameInUse: ErrorSpec(
        HTTPStatus.CONFLICT,
        errors.NameInUse.code,
        "Another live process has the name.",
        "Choose another name, or `DELETE` that process first.",
    ),
    errors.TooLarge: ErrorSpec(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        errors.TooLarge.code,
        "The JSON body is larger than 8 MiB.",
        "Send less, for instance through a file or standard input.",
    ),
    errors.NoSpace: ErrorSpec(
        HTTPStatus.INSUFFICIENT_STORAGE,
        errors.NoSpace.code,
        "The disk or a quota has no room for the file, or the file would be larger than the system allows. The old "
        "file stays.",
        "Free some space, and send the file again.",
    ),
    errors.SpawnFailed: ErrorSpec(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        errors.SpawnFailed.code,
        "The kernel could not start the process; `errno` is its error number. No process is kept, at most an event.",
        "Correct what the sentence names: the command, `working_dir`, `user`, `nice` or a limit.",
    ),
    errors.Interrupted: INTERRUPTED,
    errors.NoAnswer: INTERRUPTED,
    errors.Unavailable: ErrorSpec(
        HTTPStatus.SERVICE_UNAVAILABLE,
        errors.Unavailable.code,
        "The store or the shim cannot serve the request now, or the system lacks processes, descriptors or memory for "
        "it. Nothing was done.",
        "Repeat the call after `Retry-After` seconds.",
    ),
}

UNAUTHORIZED = ErrorSpec(
    HTTPStatus.UNAUTHORIZED,
    "UNAUTHORIZED",
    "The token is missing or wrong.",
    "Send the header `Authorization: Bearer TOKEN`. The token is in the file `token` in the state folder, or in "
    "`OUTLAST_TOKEN` of the daemon.",
)
METHOD_NOT_ALLOWED = ErrorSpec(
    HTTPStatus.METHOD_NOT_ALLOWED,
    "METHOD_NOT_ALLOWED",
    "The path does not accept this method.",
    "Use a method that the header `Allow` names.",
)
INTERNAL = ErrorSpec(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "INTERNAL",
    "The daemon has failed in an unexpected way. Its log has the details.",
    "Report the error with the traceback in the log.",
)

ALL_SPECS = (*dict.fromkeys(ERROR_SPECS.values()), UNAUTHORIZED, METHOD_NOT_ALLOWED, INTERNAL)
"""Every error code of the API."""

_AIOHTTP_SENTENCES: Mapping[int, str] = {
    HTTPStatus.NOT_FOUND: "nothing is served at this path; /docs lists all paths",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path does not accept this method; the header Allow names those it accepts",
}
"""Error sentences for what aiohttp itself raises, by status."""


def error_response(
    status: int, code: str, sentence: str, headers: Mapping[str, str] | None = None, **extra: Any
) -> web.Response:
    """Return the JSON response `{"error": sentence, "code": code, **extra}`."""
    return web.Response(
        status=status,
        body=orjson.dumps({"error": sentence, "code": code, **extra}),
        content_type="application/json",
        headers=headers,
    )


def to_response(error: errors.OutlastError) -> web.Response | None:
    """Return the response for an error that is in the table; None for any other."""
    spec = next((ERROR_SPECS[cls] for cls in type(error).__mro__ if cls in ERROR_SPECS), None)
    if spec is None:
        return None
    headers = None
    if isinstance(error, errors.Unavailable) and spec is not INTERRUPTED:
        headers = {str(hdrs.RETRY_AFTER): str(error.retry_after_s)}
    return error_response(spec.status, spec.code, str(error), headers, **error.details)


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a handler raises into an error response.

    A handler that has begun to send its response handles its own errors (`streaming.response.send_from`).
    """
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _from_aiohttp(request, error)
    except errors.OutlastError as error:
        return to_response(error) or _internal(request)
    except web.RequestPayloadError as error:
        response = to_response(errors.InvalidRequest(f"the body is malformed: {error}")) or _internal(request)
        response.force_close()
        return response
    except Exception as error:  # noqa: BLE001 - the last resort; logged with its traceback
        if isinstance(error, ConnectionError) and request.transport is None:
            return web.Response(status=HTTPStatus.BAD_REQUEST)  # the client has disconnected: nobody will read this
        return _internal(request)


def _from_aiohttp(request: web.Request, error: web.HTTPException) -> web.Response:
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        sentence = f"the body is larger than {request.client_max_size} bytes: send less"
        return to_response(errors.TooLarge(sentence)) or _internal(request)
    headers = {str(hdrs.ALLOW): error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else None
    sentence = _AIOHTTP_SENTENCES.get(error.status, error.reason)
    return error_response(error.status, HTTPStatus(error.status).name, sentence, headers)


def _internal(request: web.Request) -> web.Response:
    # The path only: the headers hold the token, and the query string may hold a secret.
    _log.exception("%s %s failed", request.method, request.path)
    return error_response(INTERNAL.status, INTERNAL.code, "the daemon has failed; its log has the details")
