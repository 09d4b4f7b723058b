"""JSON of answers: by orjson, if it is there, as soon as that is worth its import."""

import json
from typing import Any

_SMALL_BYTES = 1 << 17


class _Reader:
    """A reader of JSON. To import orjson takes as long as reading what a command gets that asks for one answer."""

    def __init__(self) -> None:
        self._left_bytes = _SMALL_BYTES
        self._read = json.loads

    def __call__(self, text: bytes) -> Any:
        """Return the value of a JSON text.

        Raises:
            ValueError: it is none.
        """
        if self._left_bytes > 0:
            self._left_bytes -= len(text)
            if self._left_bytes <= 0:
                self._read = _fastest()
        return self._read(text)


def _fastest() -> Any:
    try:
        import orjson  # noqa: PLC0415 - see above
    except ImportError:  # a machine for which there is no orjson
        return json.loads
    return orjson.loads


loads = _Reader()
