"""The HTTP client of schemathesis: it sends nothing harmful, and does not wait for endless streams."""

import json
import time
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

HARMLESS = ("true", "false", "echo")  # programs that end at once, whatever arguments and environment they are given
STARTS = frozenset({"/api/v1/processes", "/api/v1/processes/run", "/api/v1/pty"})
PROJECTS = "/api/v1/projects/"
EVENT_STREAM = "text/event-stream"
QUIET_S = 0.2  # a stream of events that is silent for this time counts as read
MAX_STREAM_BYTES = 64 * 1024
TIMEOUT_S = 60.0


class Session(requests.Session):
    """A client that starts harmless programs only, and disconnects from endless streams."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.mount("http://", HTTPAdapter(pool_maxsize=1))

    def send(self, request: requests.PreparedRequest, **fields: Any) -> requests.Response:
        """Send a request that is harmless."""
        refuse_harm(request)
        response = super().send(request, **{**fields, "stream": True, "timeout": TIMEOUT_S})
        if response.headers.get("Content-Type", "").startswith(EVENT_STREAM):
            response._content = _read_while_it_speaks(response)
            response._content_consumed = True
        else:
            _ = response.content
        return response


def refuse_harm(request: requests.PreparedRequest) -> None:
    """Raise if `request` could start a program that is not known to be harmless."""
    path = urlsplit(request.url or "").path
    is_start, is_project = request.method == "POST" and path in STARTS, request.method == "PUT" and PROJECTS in path
    if not (is_start or is_project):
        return
    try:
        body = json.loads(request.body if isinstance(request.body, str | bytes) else b"null")
    except (ValueError, TypeError):
        return  # a body that is not JSON starts nothing
    for start in starts_of(body) if is_project else [body]:
        command = start.get("command") if isinstance(start, dict) else None
        if isinstance(command, str) and command not in {*HARMLESS, ""}:
            raise RuntimeError(f"about to start {command!r} for real")


def starts_of(body: Any) -> list[Any]:
    """Return the starts in the body of a project, whatever else is in it."""
    processes = body.get("processes") if isinstance(body, dict) else None
    declared = processes.values() if isinstance(processes, dict) else ()
    return [each.get("start") for each in declared if isinstance(each, dict)]


def _read_while_it_speaks(response: requests.Response) -> bytes:
    connection = response.raw.connection
    if connection is not None and connection.sock is not None:
        connection.sock.settimeout(QUIET_S)
    content = b""
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while len(content) < MAX_STREAM_BYTES and time.monotonic() < deadline:
            piece = response.raw.read1(MAX_STREAM_BYTES)
            if not piece:
                break
            content += piece
    except (HTTPError, TimeoutError):
        pass  # it says no more for now
    finally:
        response.close()
    return content
