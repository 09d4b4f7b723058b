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


def encode(place: Sequence[int], query: Any) -> str:
    """Return a cursor.

    Args:
        place: numbers >= 0 that say where the next page begins.
        query: what distinguishes the query from others, JSON-ready.
    """
    raw = b"".join(number.to_bytes(_NUMBER_BYTES) for number in place) + _digest(query)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(cursor: str, count: int, query: Any, foreign: str) -> list[int]:
    """Return the `count` numbers that `encode` was given.

    Args:
        cursor: what a client sent.
        count: how many numbers the cursor must hold.
        query: as in `encode`.
        foreign: error message for a cursor of another query.

    Raises:
        ValidationError: `encode` did not make this cursor, or made it for another query.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    end = count * _NUMBER_BYTES
    if len(raw) != end + _DIGEST_BYTES:
        raise ValidationError({"cursor": ["must be `next` of the previous page"]})
    if raw[end:] != _digest(query):
        raise ValidationError({"cursor": [foreign]})
    return [int.from_bytes(raw[start : start + _NUMBER_BYTES]) for start in range(0, end, _NUMBER_BYTES)]


def _digest(query: Any) -> bytes:
    return hashlib.blake2b(orjson.dumps(query, option=orjson.OPT_SORT_KEYS), digest_size=_DIGEST_BYTES).digest()


def page_cursor(query: ProcessQuery, handle: int) -> str:
    """Return the cursor of the page after the process `handle` in the list of `query`."""
    return encode([handle], _identity(query))


def apply_cursor(query: ProcessQuery, cursor: str) -> ProcessQuery:
    """Return `query` for the page after `cursor`.

    Raises:
        ValidationError: `cursor` is not a cursor, or belongs to another list.
    """
    foreign = "belongs to another list: repeat the parameters of the previous page (only limit may change)"
    (handle,) = decode(cursor, 1, _identity(query), foreign)
    if query.order is Order.OLDEST:
        return replace(query, after_handle=handle)
    return replace(query, before_handle=handle)


def _identity(query: ProcessQuery) -> list[Any]:
    """Return the conditions that distinguish one list from another."""
    return [query.status, query.name, dict(query.tags), query.since_ms, query.until_ms, query.order]
