"""Cursors: opaque text that says where a page ended. A cursor belongs to one query, and is rejected with any other."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from marshmallow import ValidationError

from outlast.model.process import Order, ProcessQuery

_NUMBER_BYTES = 7  # a decoded number always fits into 64 bits, which every store can hold
_DIGEST_BYTES = 8


Bounds = tuple[int | None, int | None]
"""`since` and `until` in milliseconds. A cursor holds them: a duration before now is another time for the next page."""


def encode(place: Sequence[int], query: Any, bounds: Bounds) -> str:
    """Return a cursor.

    Args:
        place: numbers >= 0 that say where the next page begins.
        query: what distinguishes the query from others, without its bounds, JSON-ready.
        bounds: its bounds.
    """
    numbers = [*place, *(0 if bound is None else bound + 1 for bound in bounds)]
    raw = b"".join(number.to_bytes(_NUMBER_BYTES) for number in numbers) + _digest(query)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(cursor: str, count: int, query: Any, bounds: Bounds, foreign: str) -> tuple[list[int], Bounds]:
    """Return the `count` numbers of the place that `encode` was given, and the bounds.

    Args:
        cursor: what a client sent.
        count: how many numbers the place has.
        query: as in `encode`.
        bounds: those that the client sent this time.
        foreign: error message for a cursor of another query.

    Raises:
        ValidationError: `encode` did not make this cursor, or made it for another query.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    end = (count + len(bounds)) * _NUMBER_BYTES
    if len(raw) != end + _DIGEST_BYTES:
        raise ValidationError({"cursor": ["must be `next` of the previous page"]})
    if raw[end:] != _digest(query):
        raise ValidationError({"cursor": [foreign]})
    numbers = [int.from_bytes(raw[start : start + _NUMBER_BYTES]) for start in range(0, end, _NUMBER_BYTES)]
    since_ms, until_ms = (None if number == 0 else number - 1 for number in numbers[count:])
    for given, known in zip(bounds, (since_ms, until_ms), strict=True):
        is_relative = known is not None and getattr(given, "is_relative", False)
        if given != known and not is_relative:
            raise ValidationError({"cursor": [foreign]})
    return numbers[:count], (since_ms, until_ms)


def _digest(query: Any) -> bytes:
    return hashlib.blake2b(orjson.dumps(query, option=orjson.OPT_SORT_KEYS), digest_size=_DIGEST_BYTES).digest()


def page_cursor(query: ProcessQuery, handle: int) -> str:
    """Return the cursor of the page after the process `handle` in the list of `query`."""
    return encode([handle], _identity(query), (query.since_ms, query.until_ms))


def apply_cursor(query: ProcessQuery, cursor: str) -> ProcessQuery:
    """Return `query` for the page after `cursor`.

    Raises:
        ValidationError: `cursor` is not a cursor, or belongs to another list.
    """
    foreign = "belongs to another list: repeat the parameters of the previous page (only limit may change)"
    bounds = (query.since_ms, query.until_ms)
    (handle,), (since_ms, until_ms) = decode(cursor, 1, _identity(query), bounds, foreign)
    query = replace(query, since_ms=since_ms, until_ms=until_ms)
    if query.order is Order.OLDEST:
        return replace(query, after_handle=handle)
    return replace(query, before_handle=handle)


def _identity(query: ProcessQuery) -> list[Any]:
    """Return the conditions that distinguish one list from another."""
    return [query.status, query.name, dict(query.tags), query.order]
