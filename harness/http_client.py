"""A client for the HTTP API: calls with the token, JSON answers, and Server-Sent Events."""

import contextlib
import io
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

BROKEN = (aiohttp.ClientError, OSError, TimeoutError)
"""Errors of a call whose daemon died, or that came while no daemon listened."""

API_ROOT = "/api/v1"
EVENT_STREAM = "text/event-stream"
_ANSWER_S = 120.0
_SILENT_S = 60.0
_SHOWN_BYTES = 2000
_OK = 200
_ID = re.compile(r"[0-9]+(-eof)?|[0-9]+:[0-9]+(,[0-9]+:[0-9]+)*(,[0-9]+)?(-eof)?")
_LINE_END = re.compile(r"\r\n|\r|\n")


class UnexpectedStatusError(AssertionError):
    """An answer with another status than the caller accepts."""

    def __init__(self, method: str, path: str, status: int, body: bytes) -> None:
        super().__init__(f"{method} {path}: {status} {body[:_SHOWN_BYTES]!r}")
        self.status = status
        self.body = body


class SseError(AssertionError):
    """A stream that is not what the API promises."""


@dataclass(frozen=True)
class Event:
    """A Server-Sent Event.

    Attributes:
        id: its id, if that is a number.
        text: its data as they were sent.
        id_text: its id as it was sent; empty: it has none.
    """

    kind: str
    id: int | None
    text: str
    id_text: str = field(default="", compare=False)

    @cached_property
    def data(self) -> dict[str, Any]:
        """Return the JSON of the event."""
        parsed: dict[str, Any] = json.loads(self.text)
        return parsed


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def json(self) -> Any:
        """Return the JSON of the body; None where the body is empty or of another type."""
        is_json = self.headers.get("Content-Type", "").partition(";")[0] == "application/json"
        return json.loads(self.body) if self.body and is_json else None


class SseParser:
    """A strict, incremental parser of https://html.spec.whatwg.org/multipage/server-sent-events.html.

    Stricter than a browser: only the fields that the API sends are known, and only a line feed ends a line.
    """

    def __init__(self) -> None:
        self.comments: list[str] = []
        self._rest = b""

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that `data` completes.

        Raises:
            SseError: a field is unknown, or an event has an id and no data.
        """
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        return [event for block in blocks if (event := self._event(block)) is not None]

    def finish(self) -> None:
        """Check that the stream ended after an event.

        Raises:
            SseError: the stream ended inside an event.
        """
        if self._rest:
            raise SseError(f"the stream ends inside an event: {self._rest[:_SHOWN_BYTES]!r}")

    def _event(self, block: bytes) -> Event | None:
        kind, id_text, data = "", "", []
        for line in _LINE_END.split(block.decode("utf-8", "strict")):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name == "event":
                kind = value
            elif name == "id":
                if not _ID.fullmatch(value):
                    raise SseError(f"the id {value!r} is none of the API")
                id_text = value
            elif line.startswith(":"):
                self.comments.append(value)
            else:
                raise SseError(f"unknown field {name!r} in {block[:_SHOWN_BYTES]!r}")
        if data:
            number = int(id_text) if id_text.isdigit() else None
            return Event(kind or "message", number, "\n".join(data), id_text)
        if kind or id_text:
            raise SseError(f"an event without data: {block[:_SHOWN_BYTES]!r}")
        return None


def parse_events(stream: bytes) -> tuple[list[Event], list[str]]:
    """Return the events and the comments of a whole stream.

    Raises:
        SseError: the stream is malformed, or ends inside an event.
    """
    parser = SseParser()
    events = parser.feed(stream)
    parser.finish()
    return events, parser.comments


async def read_events(content: aiohttp.StreamReader) -> AsyncGenerator[Event, None]:
    """Yield the events of a response's body as they arrive, without comments."""
    parser = SseParser()
    async for data in content.iter_any():
        for event in parser.feed(data):
            yield event
    parser.finish()


class HttpClient:
    """Calls to a daemon, over TCP or a Unix socket. It is used inside an event loop, and closed there."""

    def __init__(
        self,
        url: str = "http://outlast",
        token: str = "",
        *,
        root: str = API_ROOT,
        unix_socket: Path | None = None,
        connector: aiohttp.BaseConnector | None = None,
        **session: Any,
    ) -> None:
        """Prepare a client; nothing connects yet.

        Args:
            url: scheme, host and port of the daemon.
            token: API token; empty sends none.
            root: path before that of each call.
            unix_socket: path of the socket to connect to, instead of to the host and port of the URL.
            connector: how to connect, instead of to the URL or socket with as many connections as there are calls.
            session: more options of `aiohttp.ClientSession`.
        """
        self.url = url
        self.root = root
        self._streams: set[aiohttp.StreamReader] = set()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if connector is None:
            unix = None if unix_socket is None else aiohttp.UnixConnector(str(unix_socket), limit=0)
            connector = unix or aiohttp.TCPConnector(limit=0)
        self.session = aiohttp.ClientSession(
            connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=_ANSWER_S), **session
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections, those kept alive for the next call among them. Streams that are read break."""
        for content in self._streams:  # aiohttp forgets them, and their readers would wait for ever
            content.set_exception(aiohttp.ClientConnectionError("the client was closed"))
        await self.session.close()

    def address(self, path: str) -> str:
        """Return the whole URL of a call."""
        return f"{self.url}{self.root}{path}"

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        """Make a call, and return the answer, whatever its status.

        Args:
            method: HTTP method.
            path: path below the root, with the query.
            headers: more headers.
            options: more options of `aiohttp.ClientSession.request`.
        """
        async with self.session.request(method, self.address(path), headers=headers, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def call(
        self,
        method: str,
        path: str,
        *statuses: int,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Any:
        """Make a call with a JSON `body`, and return the JSON of the answer (None where it has no body).

        Raises:
            UnexpectedStatusError: the status is not one of `statuses`.
        """
        if body is not None:  # aiohttp warns of large bodies that are plain bytes; a file is none
            options["data"] = io.BytesIO(json.dumps(body).encode())
            headers = {"Content-Type": "application/json", **(headers or {})}
        answer = await self.request(method, path, headers=headers, **options)
        if answer.status not in statuses:
            raise UnexpectedStatusError(method, path, answer.status, answer.body)
        return json.loads(answer.body) if answer.body else None

    async def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        return await self.call("GET", path, _OK)

    async def raw(self, path: str) -> bytes:
        """Return the exact bytes of an output."""
        answer = await self.request("GET", path, headers={"Accept": "application/octet-stream"})
        if answer.status != _OK:
            raise UnexpectedStatusError("GET", path, answer.status, answer.body)
        return answer.body

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, silent_s: float = _SILENT_S
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Open a stream of events, and give its body.

        Raises:
            UnexpectedStatusError: the stream was refused.
            SseError: the answer is not an event stream.
            TimeoutError: nothing, not even a comment, came for `silent_s`.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_read=silent_s)
        async with self.session.get(self.address(path), headers=headers, timeout=timeout) as response:
            if response.status != _OK:
                raise UnexpectedStatusError("GET", path, response.status, await response.read())
            if response.content_type != EVENT_STREAM:
                raise SseError(f"GET {path}: {response.content_type}")
            self._streams.add(response.content)
            try:
                yield response.content
            finally:
                self._streams.discard(response.content)

    async def follow(
        self, path: str, last_event_id: int | None = None, *, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of a stream over one connection, `eof` included, from behind `last_event_id`."""
        if last_event_id is not None:
            headers = {**(headers or {}), "Last-Event-ID": str(last_event_id)}
        async with self.stream(path, headers=headers) as content:
            async for event in read_events(content):
                yield event
