"""A blocking client with a connection that stays open, for what is timed: a call costs as little as it can."""

import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any

from harness.http_client import API_ROOT

_TIMEOUT_S = 60.0
_READ_BYTES = 1 << 18


class Client:
    """A client of one daemon, over one connection."""

    def __init__(self, host: str, port: int, headers: Mapping[str, str], timeout_s: float = _TIMEOUT_S) -> None:
        self._address = host, port
        self._headers = dict(headers)
        self._timeout_s = timeout_s
        self._connection = self._connect()

    def get(self, path: str, accept: str = "application/json") -> bytes:
        """Make a GET and return the whole body.

        Raises:
            RuntimeError: the daemon refused the call.
        """
        return self.request("GET", path, headers={"Accept": accept})

    def post(self, path: str, body: Any) -> bytes:
        """Make a POST with a JSON body and return the whole body of the answer.

        Raises:
            RuntimeError: the daemon refused the call.
        """
        return self.request("POST", path, body)

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> bytes:
        """Make a call below the API's root and return the whole body of the answer.

        Raises:
            RuntimeError: the daemon refused the call.
        """
        data = None if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        self._connection.request(method, f"{API_ROOT}{path}", data, {**self._headers, **kind, **(headers or {})})
        response = self._connection.getresponse()
        raw = response.read()
        if response.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {response.status} {raw.decode()}")
        return raw

    def wait_for_output_event(self, path: str) -> None:
        """Follow over a connection of its own, until the first event of output has come.

        Raises:
            RuntimeError: the stream ends without one.
        """
        with contextlib.closing(self._connect()) as connection:
            connection.request("GET", f"{API_ROOT}{path}", headers=self._headers)
            response = connection.getresponse()
            if not any(line.startswith(b"event: output") for line in response):
                raise RuntimeError(f"GET {path}: {response.status}, and no line of output")

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield the body of a GET as it comes.

        Raises:
            RuntimeError: the daemon refused the call.
        """
        self._connection.request("GET", f"{API_ROOT}{path}", headers=self._headers)
        response = self._connection.getresponse()
        if response.status != http.client.OK:
            raise RuntimeError(f"GET {path}: {response.status} {response.read().decode()}")
        while data := response.read1(_READ_BYTES):
            yield data

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._address, timeout=self._timeout_s)
