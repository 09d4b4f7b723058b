"""The API's document in the form in which it is sent."""

from collections.abc import Sequence

import orjson

from app.api.route import Route


class Document:
    """`openapi.json`, made when it is first asked for: a start does not wait for what most daemons never send."""

    def __init__(self, routes: Sequence[Route], version: str) -> None:
        self._routes = routes
        self._version = version
        self._encoded: bytes | None = None

    def encoded(self) -> bytes:
        """Return it as JSON."""
        if self._encoded is None:
            from app.api.openapi import make_document  # noqa: PLC0415 - its imports are what a start shall not wait for

            self._encoded = orjson.dumps(make_document(self._routes, self._version))
        return self._encoded
