"""Errors that only a client meets, and the errors of the daemon's answers."""

import json
from collections.abc import Mapping
from typing import Any

from outlast.model import errors
from outlast.model.errors import NotFound, OutlastError, SpawnFailed

_SHOWN_BYTES = 200

_BY_CODE = {
    cls.code: cls
    for cls in (
        errors.InvalidRequest,
        errors.NotManaged,
        errors.NotRunning,
        errors.StdinNotWritable,
        errors.Forbidden,
        errors.EnvKeyLost,
        errors.NameInUse,
        errors.SessionNotFound,
        errors.TooLarge,
        errors.Interrupted,
        errors.Unavailable,
    )
}


class Unauthorized(OutlastError):
    """The token is missing or wrong."""

    code = "UNAUTHORIZED"


class Disconnected(OutlastError):
    """The daemon cannot be reached, or the connection broke before the answer was whole.

    Attributes:
        sent: whether the daemon may have got the request.
    """

    code = "DISCONNECTED"

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class ProcessGone(NotFound):
    """The process was purged while its output was read or its command was run."""


class ProcessFailed(OutlastError):
    """A command that `run(check=True)` has run did not exit with 0. `completed`: how it ended, and its output."""

    code = "PROCESS_FAILED"

    def __init__(self, message: str, completed: Any) -> None:
        super().__init__(message)
        self.completed = completed


class UnexpectedAnswer(OutlastError):
    """The answer is none of Outlast's: perhaps another program listens at the address."""

    code = "UNEXPECTED_ANSWER"


def error_of(status: int, body: bytes) -> OutlastError:
    """Return the error that an answer with a status from 300 on stands for, with the daemon's sentence."""
    try:
        answer: Mapping[str, Any] = json.loads(body)
        code, sentence = answer["code"], answer["error"]
    except (ValueError, LookupError, TypeError):
        return UnexpectedAnswer(f"no answer of Outlast's: status {status}, {body[:_SHOWN_BYTES]!r}")
    error: OutlastError
    if code == NotFound.code:
        error = NotFound(sentence)
    elif code == Unauthorized.code:
        error = Unauthorized(sentence)
    elif code == SpawnFailed.code:
        error = SpawnFailed(sentence, answer.get("errno", 0))
    else:
        error = _BY_CODE.get(code, OutlastError)(sentence)
        error.code = code
    error.details = {name: value for name, value in answer.items() if isinstance(value, int)}
    return error
