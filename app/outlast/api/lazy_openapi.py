"""The OpenAPI document in the form in which it is sent: JSON, made at the first request."""

from collections.abc import Callable
from typing import Any

import orjson


class LazyOpenApi:
    """The OpenAPI document as JSON. It is made at its first use: most daemons never send it, so a start need not wait.

    Args:
        make: returns the document as a JSON-ready dictionary.
    """

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self._make = make
        self._encoded: bytes | None = None

    def encoded(self) -> bytes:
        """Return the document as JSON."""
        if self._encoded is None:
            self._encoded = orjson.dumps(self._make())
        return self._encoded
