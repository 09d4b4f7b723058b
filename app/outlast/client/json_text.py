"""JSON of answers: by orjson, if it is there, where that is worth its import."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

_LARGE_BYTES = 1 << 14


def loads(text: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is none.
    """
    return _fast()(text) if len(text) > _LARGE_BYTES else json.loads(text)


@cache
def _fast() -> Callable[[bytes], Any]:
    # Its import takes as long as reading a hundred thousand bytes: too long for a command that reads one answer.
    try:
        import orjson  # noqa: PLC0415 - see above
    except ImportError:  # a machine for which there is no orjson
        return json.loads
    return orjson.loads
