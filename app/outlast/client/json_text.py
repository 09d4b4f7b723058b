"""JSON, by the fastest reader that is installed."""

from collections.abc import Callable
from typing import Any

loads: Callable[[bytes], Any]
try:
    from orjson import loads
except ImportError:  # a machine for which there is no orjson
    from json import loads

__all__ = ["loads"]
