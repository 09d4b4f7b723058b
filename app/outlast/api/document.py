"""The API's document in the form in which it is sent."""

from collections.abc import Callable
from typing import Any

import orjson


class Document:
    """`openapi.json`, made when it is first asked for: a start does not wait for what most daemons never send."""

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self._make = make
        self._encoded: bytes | None = None

    def encoded(self) -> bytes:
        """Return it as JSON."""
        if self._encoded is None:
            self._encoded = orjson.dumps(self._make())
        return self._encoded
