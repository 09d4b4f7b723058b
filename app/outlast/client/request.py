"""Requests and answers without a connection, and the rule by which a request is repeated."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from outlast.client.errors import Disconnected, UnexpectedAnswer, error_of
from outlast.client.json_text import loads
from outlast.model.errors import Interrupted

SILENT_S = 45.0
"""Time without a byte, three heartbeats of a stream, after which a connection counts as broken."""

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_SUCCESS = range(200, 300)
_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the daemon.

    Attributes:
        method: HTTP method.
        path: path below `/api/v1`, without the query.
        query: parameters; a list is a parameter that is repeated, and None one that is left out.
        body: bytes to send; None: no body.
        content_type: media type of `body`.
        headers: more headers.
        repeatable: whether it does no harm that the daemon gets the request twice.
        silent_s: time without a byte after which the connection counts as broken; None: never.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    silent_s: float | None = SILENT_S

    @property
    def target(self) -> str:
        """Path and query, percent-encoded."""
        query = urlencode({name: _word(value) for name, value in self.query.items() if value is not None}, doseq=True)
        return f"/api/v1{self.path}{'?' if query else ''}{query}"

    def all_headers(self, token: str) -> dict[str, str]:
        """Return the headers of the request."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if self.body is not None:
            headers["Content-Type"] = self.content_type
        return {**headers, **self.headers}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `repeated`: an earlier attempt was not answered, so the daemon may have done it before."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    repeated: bool = False

    @property
    def json(self) -> Any:
        """JSON of the body.

        Raises:
            UnexpectedAnswer: the body is none.
        """
        try:
            return loads(self.body)
        except ValueError:
            raise UnexpectedAnswer(f"no answer of Outlast's: {self.body[:200]!r} is not JSON") from None

    def check(self) -> None:
        """Raise the error that the answer stands for, if it stands for one."""
        if self.status not in _SUCCESS:
            raise error_of(self.status, self.body)


class Backoff:
    """Pauses between attempts: each about twice as long as the one before, of a random length."""

    def __init__(self) -> None:
        self._bound_s = _FIRST_PAUSE_S

    def reset(self) -> None:
        """Begin again with the shortest pause."""
        self._bound_s = _FIRST_PAUSE_S

    def pause_s(self) -> float:
        """Return the next pause in seconds."""
        bound, self._bound_s = self._bound_s, min(_LONGEST_PAUSE_S, 2 * self._bound_s)
        return random.uniform(bound / 2, bound)  # noqa: S311 - spreads clients, guards no secret


class Attempts:
    """Attempts to get one request answered. A daemon that was never reached is not waited for."""

    def __init__(self, request: Request, give_up_after_s: float | None) -> None:
        """`give_up_after_s`: time after the first failure until which the request is repeated; None: for ever."""
        self._request = request
        self._give_up_after_s = give_up_after_s
        self._backoff = Backoff()
        self._failed_at: float | None = None
        self._begun_at = time.monotonic()
        self.unanswered = False

    def broke(self, error: Disconnected) -> float:
        """Return the seconds until the next attempt, after the connection failed.

        Raises:
            Disconnected: nothing listens at the address, or the time is up.
            Interrupted: the daemon may have got the request, and would do it twice.
        """
        if error.sent and not self._request.repeatable:
            raise Interrupted(
                f"the connection broke before the answer to {self._request.method} {self._request.path}: perhaps it "
                "was done; look at the process before you repeat it"
            ) from error
        was_reached = error.sent or self._failed_at is not None
        if self._failed_at is None and isinstance(error.__cause__, TimeoutError):
            self._failed_at = self._begun_at  # it has been silent since
        if not was_reached or self._is_time_up():
            raise error
        self.unanswered = self.unanswered or error.sent
        return self._backoff.pause_s()

    def answered(self, answer: Answer) -> float | None:
        """Return the seconds until the next attempt; None: the answer is final."""
        if answer.status == _UNAVAILABLE:
            pause_s = retry_after_s(answer.headers)
        elif self._request.repeatable and _code(answer) == Interrupted.code:
            self.unanswered = True
            pause_s = self._backoff.pause_s()
        else:
            return None
        return None if self._is_time_up() else pause_s

    def _is_time_up(self) -> bool:
        now = time.monotonic()
        self._failed_at = now if self._failed_at is None else self._failed_at
        return self._give_up_after_s is not None and now - self._failed_at >= self._give_up_after_s


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Return the seconds after which a daemon that answered 503 wants to be asked again."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 1.0


def process_path(ref: str | int, rest: str = "") -> str:
    """Return the path of a process, which is named by its id, name, pid or handle (`@12`)."""
    return f"/processes/{quote(str(ref), safe='')}{rest}"


def _code(answer: Answer) -> str | None:
    return None if answer.status in _SUCCESS else error_of(answer.status, answer.body).code


def _word(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
